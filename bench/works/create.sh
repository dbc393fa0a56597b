# shellcheck shell=bash disable=SC2034,SC2154
# Single new orders, with the policy's time to pay.

create_title='create_order, 8 clients'
create_unit='orders/s'
create_syncs='off on'

create_each() { if [[ $sync == on ]]; then echo "$each_on"; else echo "$each"; fi; }
create_count() { echo $((8 * $(create_each))); }
create_prepare() { fresh loaded; }
