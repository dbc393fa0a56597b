#!/bin/bash
#
# What was released never changes: a database that is out there was made by it,
# and only from the same one can a test tell whether it is upgraded rightly.
# sql/released.sha256 names the install script and the rows of every released
# version, and each upgrade script that leads to a released version.
set -euo pipefail
cd "$(dirname "$0")/../.."

failures=0
fail() {
	printf 'released: %s\n' "$*"
	failures=$((failures + 1))
}

current=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" order_timeout.control)

sha256sum --quiet --strict --check sql/released.sha256 ||
	fail "a released file was edited: undo that; a change goes into sql/upgrade/ and sql/install/"

[[ ! -e sql/released/order_timeout--$current.sql ]] ||
	fail "$current is released: raise default_version in order_timeout.control"

# Several versions may lead to the current one; those scripts are still open.
for file in sql/released/* sql/upgrade/*.sql test/tap/released/*; do
	[[ -e $file && $file != *--*--"$current".sql ]] || continue
	grep -q "^[0-9a-f]\{64\}  $file\$" sql/released.sha256 ||
		fail "$file is not in sql/released.sha256 (bin/freeze writes it)"
done

exit $((failures > 0))
