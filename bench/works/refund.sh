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

# workers CLAIM COMPLETE: the SQL of both; prints refunds a second.
workers() {
	local i
	{
		echo "$1 \\gset"
		for i in 1 2 3 4 5 6 7 8 9 10; do
			echo "${2//@/$i};"
		done
	} | clients "$refunds" | awk '{print 10 * $1}'
}
