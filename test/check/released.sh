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

# c_functions FILE...: a line for each function in C: its name in C, then its arguments and result without their defaults.
c_functions() {
	cat -- "$@" | perl -0ne '
		while (/CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE) \w+(\((?:(?!CREATE ).)*?)\s+AS \x27MODULE_PATHNAME\x27, \x27(\w+)\x27/gs) {
			my ($signature, $name) = ($1, $2);
			$signature =~ s/\s*--[^\n]*//g;
			$signature =~ s/ DEFAULT (?:\x27[^\x27]*\x27|[^,)]+)//g;
			$signature =~ s/\s+/ /g;
			$signature =~ s/\( /(/g;
			print "$name $signature\n";
		}' | LC_ALL=C sort
}

# A library meets the objects of every version: one name in C has one signature,
# and stays for as long as a released script has it.
now=$(c_functions sql/install/*.sql)
(($(wc -l <<<"$now") == $(cat sql/install/*.sql | grep -c "AS 'MODULE_PATHNAME'"))) ||
	fail "not every function in C of sql/install/ was understood"
for file in sql/released/*.sql; do
	while read -r name signature; do
		grep -q "^OT_[A-Z_]*FUNCTION($name)" src/api/*.c src/core/*.c ||
			fail "$file has function $name, and src/ does not define it any more"
		same=$(grep "^$name " <<<"$now") || continue
		[[ $same == "$name $signature" ]] ||
			fail "$name has another signature than in $file: give the new one a new name in C (sql/upgrade/README.md)
  released: $signature
  now:      ${same#"$name "}"
	done < <(c_functions "$file")
done

exit $((failures > 0))
