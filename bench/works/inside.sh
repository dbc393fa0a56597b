# shellcheck shell=bash disable=SC2034,SC2154
# The call itself, without a client's round trips and with a single commit.

inside_title='record_payment inside one statement'
inside_unit='payments/s'
inside_syncs='off'

inside_count() { echo "$inside"; }
inside_prepare() { fresh loaded; }
inside_before() { query -c "SELECT bench.load_pending($first, $count, false)" >/dev/null; }
