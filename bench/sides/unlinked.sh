# shellcheck shell=bash disable=SC2034,SC2154
# The shop's own table and nothing else: what a COPY costs before the rows are orders.

unlinked_title='table without a link'
unlinked_writes=shop
unlinked_leaves='the orders and their events'

unlinked_load() { load_rows; }
