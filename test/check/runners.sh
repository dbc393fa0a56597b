#!/usr/bin/env bash
#
# The commands in bin/ look at their arguments before they install or start
# anything, and report in one line why they cannot go on.
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." || exit

stubs=$(mktemp -d)
trap 'rm -rf -- "$stubs"' EXIT
# Nothing is installed, and nobody may install anything.
for program in apt-get apt-cache dpkg-query sudo unshare mmdebstrap; do
	printf '#!/bin/sh\necho "%s $*" >>"%s/called"\nexit 1\n' "$program" "$stubs" >"$stubs/$program"
	chmod +x "$stubs/$program"
done
export PATH=$stubs:$PATH
bad=0

complain() {
	printf 'runners: %s\n' "$*"
	bad=1
}

# answers STATUS PATTERN COMMAND...: and does nothing else.
answers() {
	local expected=$1 pattern=$2 said status=0
	shift 2
	rm -f "$stubs/called"
	said=$("$@" 2>&1 </dev/null) || status=$?
	((status == expected)) || complain "$* ends with $status and not with $expected: $said"
	grep -qE -- "$pattern" <<<"$said" || complain "$* does not say '$pattern': $said"
	[[ ! -e $stubs/called ]] || complain "$* calls $(head -n 1 "$stubs/called")"
}

for runner in compare demo psql replay test test-majors test-install; do
	answers 0 "bin/$runner|usage" "bin/$runner" --help
	[[ $runner == test-majors ]] || answers 2 "bin/$runner|usage" "bin/$runner" --nonsense
done
answers 2 'usage' bin/demo --quick --clients 0
answers 2 'usage' bin/demo --seconds soon
answers 2 'bin/compare \[options\]' bin/compare --orders many
answers 2 'bin/compare \[options\]' bin/compare --out
answers 2 '^error: this needs 3 seconds and 100 orders' bin/compare --seconds 2
answers 2 'nonsense.csv is no file that can be read' bin/replay nonsense.csv
answers 2 'nonsense is no folder' bin/replay doc/replay/sample.csv --output nonsense
answers 2 "on-late is one of refund reopen hold, not 'keep'" bin/replay doc/replay/sample.csv --on-late keep
answers 1 "^error: there is no test 'nonsense' in test/pgtap" bin/test pgtap nonsense
answers 1 "^error: OT_STORES has 'nonsense'" env OT_STORES=nonsense bin/test
answers 1 "^error: PostgreSQL 15 or later is needed, and this is '13'" env PGMAJOR=13 bin/demo

if ((EUID != 0)); then
	said=$(PGMAJOR=15 bin/psql 2>&1 </dev/null) && complain "bin/psql goes on without packages"
	grep -qE '^error: packages are missing, and sudo refuses; as root: apt-get install postgresql-15 ' <<<"$said" ||
		complain "bin/psql does not say what is missing: $said"
	grep -q apt-get "$stubs/called" && complain "bin/psql calls apt-get without rights"
fi
exit "$bad"
