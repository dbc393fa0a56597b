# shellcheck shell=bash disable=SC2034,SC2154
# Single payments that arrive at once, each of the whole amount of a pending order.

pay_title='record_payment, 8 clients'
pay_unit='payments/s'
pay_wal='WAL bytes a paid order'
pay_syncs='off on'

pay_each() { if [[ $sync == on ]]; then echo "$each_on"; else echo "$each"; fi; }
pay_count() { echo $((8 * $(pay_each))); }
pay_prepare() { fresh loaded; }
pay_before() { query -c "SELECT bench.load_pending($first, $count, false)" >/dev/null; }
