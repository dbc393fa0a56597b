# shellcheck shell=bash disable=SC2034,SC2154
# How the memory of the sweeper's backend grows while it clears many orders: its
# own pages (RssAnon), not the shared buffers that it touches.

memory_syncs=off

describe_memory() {
	note measure memory growth "sweep of $(millions "$overdue") overdue orders: growth of the sweeper's memory" 'MiB'
}

# memory_watch PID: seconds and MiB, until the process ends.
memory_watch() {
	perl -MTime::HiRes=time,sleep -e '
		my ($pid, $start) = ($ARGV[0], time);
		while (open my $status, "<", "/proc/$pid/status") {
			my ($kib) = map { /^RssAnon:\s+(\d+)/ } <$status>;
			last unless defined $kib;
			printf "%.2f\t%.3f\n", time - $start, $kib / 1024;
			sleep 0.05;
		}' "$1"
}

# memory_sweep FILE: one sweep of all; the samples up to the last closing go to FILE.
memory_sweep() {
	local fifo=$tmp/memory.fifo pid sweeper watcher begun seconds
	mkfifo "$fifo"
	# It ends by being cancelled; whether the orders are closed is looked at below.
	{ query <"$fifo" >"$tmp/memory.pid" 2>/dev/null || true; } &
	sweeper=$!
	exec 9>"$fifo"
	echo 'SELECT pg_backend_pid();' >&9
	until [[ -s $tmp/memory.pid ]]; do sleep 0.05; done
	pid=$(<"$tmp/memory.pid")
	begun=$(query -c 'SELECT clock_timestamp()')
	echo "CALL order_timeout.sweep('$((overdue / 20000 + 1)) seconds');" >&9
	exec 9>&-
	memory_watch "$pid" >"$tmp/memory.all" &
	watcher=$!
	until [[ $(query -c 'SELECT count(*) FROM (SELECT FROM order_timeout.orders WHERE settled_at IS NULL LIMIT 1) s') == 0 ]]; do
		kill -0 "$sweeper" 2>/dev/null || break
		sleep 0.2
	done
	query -c "SELECT pg_cancel_backend($pid)" >/dev/null
	wait "$sweeper" "$watcher"
	rm "$fifo"
	[[ $(query -c 'SELECT count(*) FROM order_timeout.orders WHERE settled_at IS NULL') == 0 ]] || ot_die 'the sweep ended before its orders'
	seconds=$(query -c "SELECT extract(epoch FROM timestamptz '$(last_closing)' - '$begun')")
	awk -v seconds="$seconds" '$1 <= seconds' "$tmp/memory.all" >"$1"
}

# What a session allocates once (caches, plans, the first full batch) is there
# after a tenth of the sweep; growth is what comes on top.
run_memory() {
	local first last round growth
	fresh empty
	for ((round = 1; round <= rounds; round++)); do
		ot_say "$SECONDS s: memory, round $round" >&2
		numbers "$overdue"
		query -c 'TRUNCATE order_timeout.orders, order_timeout.events' \
			-c "SELECT bench.load_pending($first, $overdue, true)" -c 'VACUUM ANALYZE order_timeout.orders' -c CHECKPOINT >/dev/null
		memory_sweep "$tmp/memory.samples"
		growth=$(awk '{t[NR] = $1; m[NR] = $2}
			END {for (i = 1; i <= NR; i++) if (t[i] >= t[NR] / 10) {if (!from) from = m[i]; if (m[i] > most) most = m[i]}; print most - from}' "$tmp/memory.samples")
		figure growth - "$growth"
	done
	while read -r seconds mib; do point memory "the sweeper's own memory" "$seconds" "$mib"; done <"$tmp/memory.samples"
}
