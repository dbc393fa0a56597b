# shellcheck shell=bash disable=SC2034,SC2154
# Workers that claim ten refunds at a time and report each as done, a commit each.

refund_title='claim_refunds and complete_refund, 8 workers'
refund_unit='refunds/s'
refund_syncs='off on'

# A few more than are worked off, so that nobody finds less than ten.
refund_count() { echo $((8 * 10 * (refunds + 3))); }
refund_prepare() { fresh loaded; }
refund_before() {
	query -c "SELECT bench.load_refunds($first, $count)" -c 'ANALYZE order_timeout.refunds' >/dev/null
}

# workers SCHEMA: with the functions of that schema; prints refunds a second.
workers() {
	local i columns=''
	for i in {1..10}; do columns+="${columns:+, }refs[$i] AS ref$i, tokens[$i] AS token$i"; done
	{
		echo "SELECT $columns FROM (SELECT array_agg(refund_ref) AS refs, array_agg(lease_token) AS tokens" \
			"FROM $1.claim_refunds('worker', 10)) c \\gset"
		for i in {1..10}; do echo "SELECT * FROM $1.complete_refund(:ref$i, 'succeeded', :token$i);"; done
	} | clients "$refunds" | awk '{print 10 * $1}'
}
