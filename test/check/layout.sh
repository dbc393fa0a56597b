#!/bin/bash
#
# The layout of the C code is PostgreSQL's: what pg_bsd_indent makes of it, with
# the options of PostgreSQL's pgindent and lines of up to 120 characters.
#
#   test/check/layout.sh          fails, and shows the first differences
#   test/check/layout.sh --write  lays the files out
#
# Versions of pg_bsd_indent differ in details, so it has to be this one (Debian
# package pg-bsd-indent). Without it nothing is checked; exit status 77 says so.
VERSION=2.1.1
set -euo pipefail
cd "$(dirname "$0")/../.."

[[ $(pg_bsd_indent --version 2>/dev/null) == "pg_bsd_indent $VERSION "* ]] || {
	echo "layout: skipped, there is no pg_bsd_indent $VERSION"
	exit 77
}
mapfile -t FILES < <(find src connect -name '*.[ch]' | sort)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The names of types: what the server's headers and ours define with typedef,
# and what the relay uses of libraries, whose headers may not be there.
# Plain words such as text and color are left out: here they are variables.
headers=$("${PG_CONFIG:-pg_config}" --includedir-server)
{
	grep -rhoE --include='*.[ch]' '^[[:space:]]*typedef [^;{]*;' "$headers" src connect |
		sed -E 's/\[[^]]*\]//g; s/.*\(\*? ?([A-Za-z_0-9]+)\) *\(.*/\1;/' |
		grep -oE '[A-Za-z_0-9]+ *;' | tr -d '; '
	grep -rhoE --include='*.[ch]' '^\} ?[A-Za-z_0-9]+;' "$headers" src connect | tr -d '}; '
} | grep -vxE '[a-z]+' | sort -u >"$work/typedefs"
{
	echo bool
	grep -rhoE --include='*.[ch]' '\b(amqp_[a-z_]+_t|PG(conn|result|notify)|PQconninfoOption|ExecStatusType)\b' connect | sort -u
} >>"$work/typedefs"

OPTIONS=(-bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 -l120
	-lp -lpl -nip -npro -sac -tpg -ts4)

# pg_bsd_indent moves the star of a function's result away, as pgindent mends
# too, and takes the space before a designator.
lay_out() {
	cp "$1" "$work/in.c"
	(cd "$work" && pg_bsd_indent "${OPTIONS[@]}" -Utypedefs in.c out.c >/dev/null)
	sed -E 's/^([A-Za-z_][A-Za-z_0-9]*)[[:space:]]+\*$/\1 */; s/,(\.[a-z]|\[[A-Z])/, \1/g; s/\{ \./{./g' "$work/out.c"
}

failures=0
for file in "${FILES[@]}"; do
	lay_out "$file" >"$work/laid_out"
	cmp -s "$file" "$work/laid_out" && continue
	if [[ ${1:-} == --write ]]; then
		cat "$work/laid_out" >"$file"
		echo "$file"
	else
		diff -u --label "$file" --label "$file, laid out" "$file" "$work/laid_out" | head -n 20 || true
		failures=$((failures + 1))
	fi
done
((failures > 0)) || echo "layout: kept"
exit $((failures > 0))
