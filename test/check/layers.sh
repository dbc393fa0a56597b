#!/bin/bash
#
# Reads the #includes and keeps the layers, which are the folders of src/: SQL
# entry points call use cases, these the store and the rules, and nothing calls
# up. What only one layer may do (SPI, the server's version, adding money) is
# looked for in the others.
#
# Run in the top folder of the sources; CC and PG_CONFIG choose the tools.
set -euo pipefail
cd "$(dirname "$0")/../.."

failures=0
fail() {
	printf 'layers: %s\n' "$*"
	failures=$((failures + 1))
}

# From the top down. The two stores do not know each other.
LAYERS=(api core store store/sql store/fast store/row rules)

floor() {
	local i
	for i in "${!LAYERS[@]}"; do
		[[ ${LAYERS[i]} != "$1" ]] || echo $((${#LAYERS[@]} - i))
	done
}

mapfile -t FILES < <(find src -name '*.[ch]' | sort)
declare -A LAYER
for file in "${FILES[@]}"; do
	name=${file##*/}
	layer=${file#src/}
	layer=${layer%/*}
	[[ -n $(floor "$layer") ]] || fail "$file stands in no layer: the folders are ${LAYERS[*]}"
	# PostgreSQL's LOCATION lines and gdb show the last part of a path only.
	[[ -z ${LAYER[$name]:-} ]] || fail "$file has the name of a file in ${LAYER[$name]}"
	LAYER[$name]=$layer
done

# A file may include headers of lower layers and of its own.
own_includes() { sed -n 's/^#include "\([a-z_]*\.h\)"$/\1/p' "$1"; }

for file in "${FILES[@]}"; do
	layer=${LAYER[${file##*/}]}
	while read -r header; do
		below=${LAYER[$header]:-}
		[[ -n $below ]] || continue
		(($(floor "$layer") >= $(floor "$below"))) || fail "$file includes $header, which stands above it"
		[[ $layer != store/sql || $below != store/fast ]] || fail "$file includes $header of the other store"
		[[ $layer != core && $layer != api || $below != store/* ]] || fail "$file includes $header, which is private to the stores"
	done < <(own_includes "$file")
done

# What a header declares, the .c of that name defines; store.h is the face of a
# whole layer.
for header in "${FILES[@]}"; do
	[[ $header == *.h && $header != src/store/store.h ]] || continue
	while read -r symbol; do
		[[ -f ${header%.h}.c ]] && grep -qE "(^|[ *	])$symbol(\(|\[| =|;)" "${header%.h}.c" ||
			fail "$header declares $symbol, which ${header%.h}.c does not define"
	done < <(sed -n 's/^\(pg_noreturn \)\?extern [^(;=]*[ *]\(ot_[a-z0-9_]*\)\(\[\]\)\?[(;].*/\2/p; s/^\(pg_noreturn \)\?extern [^(]*[ *]\(ot_[a-z0-9_]*\)(.*/\2/p' "$header" | sort -u)
done

only_in() {
	local pattern=$1 allowed=$2 why=$3 file
	while read -r file; do
		# shellcheck disable=SC2053 # a pattern
		[[ ${file##*/} == $allowed ]] || fail "$file: $why"
	done < <(grep -lE "$pattern" "${FILES[@]}" || true)
}
only_in 'executor/spi\.h' 'store_statement.h' 'talks to SPI; only the SQL store does'
only_in 'SPI_(connect|execute|prepare|cursor|commit|finish)' 'store_statement.c' 'runs SPI; only store_statement.c does'
only_in 'SetUserIdAndSecContext' 'store_statement.c' 'changes the role; only store_statement.c does'
only_in 'PG_VERSION_NUM' 'compat.h' 'asks for the version; only compat.h does'
only_in '(pg_add_s64_overflow|pg_sub_s64_overflow)' 'money.c' 'adds money; only money.c does'
# A reader fills a state in (ot_column_word); anything else changes it.
only_in 'order->state = ([^o]|o[^t])' 'order_state.c' 'changes the state of an order; only order_state.c does'
only_in 'payment->disposition = ([^o]|o[^t])' 'money.c' 'says what a payment is to its order; only money.c does'
only_in '(refund|rest|external|successor|known)->state = ([^o]|o[^t])' 'refund_state.c' 'changes the state of a refund; only refund_state.c does'
only_in 'ot_store_(insert|update)_(order|due|payment|refund)\(' '@(write.c|store*)' 'writes a row past write.c'

# The picture of the layers names every file; the drawing follows its source.
for file in "${FILES[@]}"; do
	[[ $file == *.c ]] || continue
	for picture in doc/architecture.dot doc/architecture.svg; do
		grep -qw -- "${file##*/}" "$picture" || fail "$picture lacks ${file##*/}: write it into the .dot, run make doc/architecture.svg"
	done
done
while read -r name; do
	[[ -n ${LAYER[$name]:-} ]] || fail "doc/architecture.dot names $name, which is not there"
done < <(grep -oE '[a-z_]+\.[ch]\b' doc/architecture.dot | sort -u)

# No circles among our own headers.
if ! circle=$(for file in "${FILES[@]}"; do
	[[ $file == *.h ]] || continue
	echo "${file##*/} ${file##*/}"
	own_includes "$file" | while read -r header; do
		[[ -z ${LAYER[$header]:-} ]] || echo "${file##*/} $header"
	done
done | tsort 2>&1 >/dev/null); then
	fail "headers include each other in a circle: $circle"
fi

cc=${CC:-cc}
flags=(-fsyntax-only -Wall -Werror -I"$("${PG_CONFIG:-pg_config}" --includedir-server)" -x c)
for header in "${FILES[@]}"; do
	[[ $header == *.h ]] || continue
	printf '#include "postgres.h"\n#include "%s"\n' "${header##*/}" |
		"$cc" "${flags[@]}" "${LAYERS[@]/#/-Isrc/}" - || fail "$header does not compile alone"
done

# A file that cannot be read in one go is a place to ask whether it is two things.
for file in "${FILES[@]}"; do
	lines=$(wc -l <"$file")
	((lines <= 900)) || fail "$file has $lines lines"
done

((failures == 0)) && echo "layers: kept"
exit $((failures > 0))
