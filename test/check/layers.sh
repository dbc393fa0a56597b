#!/bin/bash
#
# Reads the #includes and keeps the layers: SQL entry points (api_*) call use
# cases (settle, refund, orphan, sweep, audit), these the store and the rules,
# and nothing calls up. SPI is the SQL store's alone, the server's version
# compat.h's alone, and every header compiles on its own.
#
# Run in the top folder of the sources; CC and PG_CONFIG choose the tools.
set -euo pipefail
cd "$(dirname "$0")/../.."

failures=0
fail() {
	printf 'layers: %s\n' "$*"
	failures=$((failures + 1))
}

# The floor a file stands on. It may include headers of lower floors, and of
# its own floor as long as there is no circle.
floor() {
	case $1 in
	api_args.*) echo 1 ;;
	api_*) echo 5 ;;
	sweep.* | send.* | backfill.*) echo 4 ;;
	settle.* | refund.* | request.* | conflict.* | lock.* | attempt.* | run.* | follow.* | link.* | track.* | orphan.* | audit.* | event.*) echo 3 ;;
	store*) echo 2 ;;
	check.* | currency.* | money.* | rules.* | rows.* | words.* | errors.* | compat.*) echo 1 ;;
	*) echo 0 ;;
	esac
}

for file in src/*.[ch]; do
	name=${file##*/}
	own=$(floor "$name")
	((own > 0)) || fail "$name stands on no floor: say in test/check/layers.sh where it belongs"
	while read -r included; do
		((own >= $(floor "$included"))) || fail "$name includes $included, which stands above it"
		case $included in
		store_?*.h)
			[[ $name == store_* ]] || fail "$name includes $included, which is private to the stores"
			;;
		api_args.h)
			[[ $name == api_* ]] || fail "$name includes $included, which belongs to the SQL entry points"
			;;
		esac
	done < <(sed -n 's/^#include "\([a-z_]*\.h\)"$/\1/p' "$file" | while read -r header; do
		[[ ! -f src/$header ]] || echo "$header"
	done)
done

only_in() {
	local pattern=$1 allowed=$2 why=$3 file
	while read -r file; do
		[[ ${file##*/} == $allowed ]] || fail "$file: $why"
	done < <(grep -lE "$pattern" src/*.[ch] || true)
}
only_in 'executor/spi\.h' 'store_statement.h' 'talks to SPI; only the SQL store does'
only_in 'SPI_(connect|execute|prepare|cursor|commit|finish)' 'store_statement.c' 'runs SPI; only store_statement.c does'
only_in 'SetUserIdAndSecContext' 'store_statement.c' 'changes the role; only store_statement.c does'
only_in 'PG_VERSION_NUM' 'compat.h' 'asks for the version; only compat.h does'
only_in '(pg_add_s64_overflow|pg_sub_s64_overflow)' 'money.c' 'adds money; only money.c does'
# A reader fills a state in (ot_column_word); anything else changes it.
only_in 'order->state = ([^o]|o[^t])' 'settle.c' 'changes the state of an order; only settle.c does'
only_in '(refund|anew|rest|external)->state = ([^o]|o[^t])' 'refund.c' 'changes the state of a refund; only refund.c does'

# No circles among our own headers.
if ! circle=$(for file in src/*.h; do
	echo "${file##*/} ${file##*/}"
	sed -n 's/^#include "\([a-z_]*\.h\)"$/\1/p' "$file" | while read -r header; do
		[[ ! -f src/$header ]] || echo "${file##*/} $header"
	done
done | tsort 2>&1 >/dev/null); then
	fail "headers include each other in a circle: $circle"
fi

cc=${CC:-cc}
flags=(-fsyntax-only -Wall -Werror -I"$("${PG_CONFIG:-pg_config}" --includedir-server)" -x c)
for header in src/*.h; do
	printf '#include "postgres.h"\n#include "%s"\n' "${header##*/}" |
		"$cc" "${flags[@]}" -Isrc - || fail "$header does not compile alone"
done

# A file that cannot be read in one go is a place to ask whether it is two things.
for file in src/*.c; do
	lines=$(wc -l <"$file")
	((lines <= 900)) || fail "$file has $lines lines"
done

((failures == 0)) && echo "layers: kept"
exit $((failures > 0))
