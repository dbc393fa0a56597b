# shellcheck shell=bash disable=SC2034,SC2154
#
# Works: the extension and a peer do the same, in turns, on the same tables.

# ------------------------------------------------- for the files of a work or a side

lsn() { query -c "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"; }

# fresh TEMPLATE: what a work begins with, a copy of database `loaded` or `empty`.
fresh() {
	query -d postgres -c 'SET client_min_messages = warning' -c 'DROP DATABASE IF EXISTS bench' \
		-c "CREATE DATABASE bench TEMPLATE $1 STRATEGY file_copy"
	query -c "SELECT pg_prewarm(oid) FROM pg_class WHERE relkind IN ('r', 'i')
		AND relnamespace = 'order_timeout'::regnamespace" >/dev/null
}

# clients TRANSACTIONS [pgbench options...] <script: 8 clients, a fixed number of
# transactions, so that every side writes the same rows; prints transactions a
# second. :n counts a client's transactions, :id is its next order, in no order.
clients() {
	local transactions=$1
	shift
	{
		echo '\set n :n + 1'
		echo '\set id :first + :client_id * :each + permute(:n - 1, :each, 42)'
		cat
	} >"$tmp/script"
	run_pgbench -t "$transactions" -D n=0 -D each="$transactions" -D first="$first" "$@" -f "$tmp/script"
}

# run_pgbench OPTIONS...: 8 clients; prints transactions a second.
run_pgbench() {
	if ! pgbench -n -M prepared -c 8 -j 2 "$@" >"$tmp/pgbench.out" 2>"$tmp/pgbench.err" ||
		! awk '/^number of failed/ && $5 != 0 {exit 1} /^tps/ {print $3; found = 1} END {exit !found}' "$tmp/pgbench.out"
	then
		cat "$tmp/pgbench.out" "$tmp/pgbench.err" >&2
		ot_die 'pgbench failed'
	fi
}

# statement COUNT <SQL: one session; prints COUNT by the seconds it took.
statement() {
	{
		echo 'SELECT clock_timestamp() AS begun \gset'
		echo '\o /dev/null'
		cat
		echo '\o'
		echo "SELECT $1 / extract(epoch FROM clock_timestamp() - :'begun');"
	} | query -v first="$first" -v last="$last"
}

# last_closing: when others could see the last closing of this run's orders.
last_closing() {
	query -v first="$first" -v last="$last" <<-'SQL'
		SELECT max(pg_xact_commit_timestamp(xmin))
		FROM (SELECT xmin FROM order_timeout.orders WHERE order_id BETWEEN :'first' AND :'last' AND state = 'expired' GROUP BY xmin) s
	SQL
}

# until_closed SQL: runs it until no order is due; prints orders a second, from
# the start to the commit of the last closing, whatever SQL does after it.
until_closed() {
	local begun
	begun=$(query -c 'SELECT clock_timestamp()')
	while [[ $(query -c 'SELECT count(*) FROM order_timeout.orders WHERE settled_at IS NULL AND closes_at <= now()') != 0 ]]; do
		query -c "$1"
	done
	query -c "SELECT $count / extract(epoch FROM timestamptz '$(last_closing)' - '$begun')"
}

# numbers COUNT: the ids of this run's orders, numbers of 12 digits, above those
# of all runs before and of the past.
numbers() {
	first=$next_number
	last=$((first + $1 - 1))
	next_number=$((last + 1))
}

# ---------------------------------------------------------------- the driver

# only_written SIDE FILE: a side that is a single statement writes one table only.
only_written() {
	local writes
	writes=$(text "${1}_writes")
	[[ -z $writes ]] || sed -i "/^$writes/!d" "$2"
}

# The rows that a side wrote, without what differs from order to order; a side
# that should do the same job has to write the same.
written() {
	query -v first="$first" -v last="$last" -f "$here/written.sql" >"$1"
}

measure() {
	local before
	side=$1
	numbers "$count"
	if has "${work}_before"; then "${work}_before"; fi
	if has "${side}_${work}_before"; then "${side}_${work}_before"; fi
	before=$(lsn)
	speed=$("${side}_$work")
	wal=$(($(lsn) - before))
	if has "${work}_after"; then "${work}_after"; fi
	if ((pair == 1)); then written "$tmp/written-$2"; fi
}

# same_rows: after the first pair.
same_rows() {
	only_written "$peer" "$tmp/written-own"
	[[ -s $tmp/written-own ]] || ot_die "$work: nothing was written"
	diff "$tmp/written-own" "$tmp/written-peer" >"$tmp/written-diff" ||
		{ head -n 20 "$tmp/written-diff" >&2; ot_die "$work: $peer wrote other rows"; }
}

# in_turn: the two sides of a pair; every other pair begins with the peer.
in_turn() { if ((pair % 2)); then echo own peer; else echo peer own; fi; }

one_pair() {
	local role
	local -A speeds wals
	for role in $(in_turn); do
		if [[ $role == own ]]; then measure order_timeout own; else measure "$peer" peer; fi
		speeds[$role]=$speed
		wals[$role]=$wal
	done
	if ((pair == 1)); then same_rows; fi
	figure speed "$peer" "${speeds[own]}" "${speeds[peer]}"
	# When a commit waits makes no difference to what is written.
	[[ $sync == on && $syncs == *off* || -z $(text "${work}_wal") ]] ||
		figure wal "$peer" "$((wals[own] / count))" "$((wals[peer] / count))"
}

# The quick form has no time for every peer with synchronous_commit on.
takes_part() { has "${peer}_$work" && [[ $sync == off || " $off_only " != *" $peer "* ]]; }

measure_work() {
	local peer pair count first last side speed wal pairs=$pairs
	if [[ $sync == on ]]; then pairs=$pairs_on; fi
	count=$("${work}_count")
	"${work}_prepare"
	for ((pair = 1; pair <= pairs; pair++)); do
		ot_say "$SECONDS s: $work, synchronous_commit $sync, pair $pair" >&2
		# A checkpoint now, so that none comes by itself, and no page that is
		# loaded from here on is written to the WAL in full.
		query -c CHECKPOINT
		for peer in $peers; do
			if takes_part; then one_pair; fi
		done
	done
}

describe_work() {
	note measure "$1" speed "$(text "${1}_title")" "$(text "${1}_unit")"
	[[ -z $(text "${1}_wal") ]] || note measure "$1" wal "$(text "${1}_wal")" bytes
}
