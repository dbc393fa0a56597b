# shellcheck shell=bash disable=SC2154
#
# What works and scenes share. bin/lib/server.sh comes first.

query() { psql -XqAt -v ON_ERROR_STOP=1 "$@"; }

has() { declare -F "$1" >/dev/null; }

# text NAME: the variable of that name, if there is one.
text() { echo "${!1:-}"; }

# ---------------------------------------------------------------- what is noted, for bench/report

note() {
	local IFS=$'\t'
	printf '%s\n' "$*" >>"$results"
}

# figure METRIC PEER OWN [OTHER]: one pair, or one figure that stands for itself.
figure() { note figure "$work" "$sync" "$1" "$2" "$3" "${4:-}"; }

# point CHART SERIES X Y
point() { note point "$@"; }

# A server that has run for a while writes into segments of WAL that were used before, and into memory that the machine
# has used before: some hypervisors hand out the first use of it slowly, to whoever comes first.
warm_up() {
	ot_as_user dd if=/dev/zero of="$tmp/warm" bs=1M count=6000 status=none
	rm "$tmp/warm"
	query -d postgres -c "SELECT count(pg_logical_emit_message(false, 'bench', repeat('x', 1000000))) FROM generate_series(1, 3000)" \
		-c CHECKPOINT >/dev/null
}

# ---------------------------------------------------------------- the head of the report

load_average() { cut -d' ' -f1 /proc/loadavg; }

# Whatever the figures depend on that is not in the command.
machine() {
	awk -F': *' -v cores="$(nproc)" '
		/^model name/ {cpu = $2}
		/^MemTotal/ {mib = $2 / 1024}
		END {printf "%d cores of %s, %.0f GiB of memory", cores, cpu, mib / 1024}' /proc/cpuinfo /proc/meminfo
}

# versions EXTENSION...
versions() {
	local extension
	printf 'PostgreSQL %s' "$(query -d postgres -c 'SHOW server_version')"
	for extension; do
		printf ', %s %s' "$extension" \
			"$(query -d postgres -v name="$extension" <<<"SELECT default_version FROM pg_available_extensions WHERE name = :'name'")"
	done
	printf ', Linux %s' "$(uname -r)"
}

# settings NAME...
settings() {
	local name separator=
	for name; do
		printf '%s%s %s' "$separator" "$name" "$(query -d postgres -c "SHOW $name")"
		separator=', '
	done
}

# shellcheck disable=SC2016
head_of_report() {
	local name version
	printf '# Benchmark of order_timeout, %s form\n\n' "$form"
	printf -- '- command: `%s`, %d s on %s\n' "$command" "$SECONDS" "$(date -u +%F)"
	printf -- '- machine: %s; load average before %s\n' "$(machine)" "$started_load"
	printf -- '- versions: %s, pg_cron %s' "$(versions order_timeout)" "$(dpkg-query -W -f '${Version}' "postgresql-$PGMAJOR-cron")"
	for name in $peers; do
		version=$(text "${name}_version")
		[[ -z $version ]] || printf ', %s' "$version"
	done
	printf '\n- settings: %s; synchronous_commit as the rows say\n' \
		"$(settings fsync shared_buffers min_wal_size max_wal_size checkpoint_timeout autovacuum full_page_writes jit track_commit_timestamp order_timeout.store)"
	printf -- '- clients: 8 where there are clients, `pgbench -M prepared` over the local socket, on the same cores\n'
	printf -- '- %d pairs, interleaved; %d orders of the past in the tables of single calls\n' "$pairs" "$history"
}

# ---------------------------------------------------------------- for titles

# millions N: 500,000 or 10 M.
millions() {
	if (($1 % 1000000 == 0)); then echo "$(($1 / 1000000)) M"; else sed -E ':a; s/^([0-9]+)([0-9]{3})/\1,\2/; ta' <<<"$1"; fi
}

# ---------------------------------------------------------------- for scenes

has_peer() { [[ " $peers " == *" $1 "* ]]; }

# percentile P FILE: of sorted numbers.
percentile() {
	awk -v p="$1" '{v[NR] = $1} END {if (!NR) exit 1; i = int(NR * p / 100); if (i < NR * p / 100) i++; print v[i ? i : 1]}' "$2"
}

# distribution CHART SERIES FILE: its percentiles, by how many lie above.
distribution() {
	local p
	for p in 0 25 50 75 90 95 98 99 99.5 99.8 99.9; do
		point "$1" "$2" "$(awk -v p="$p" 'BEGIN {print 100 - p}')" "$(percentile "$p" "$3")"
	done
}

# lateness CONDITION: milliseconds from the deadline to when others could see the closing, sorted.
lateness() {
	query -c "SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - expires_at) * 1000 FROM order_timeout.orders
		WHERE state = 'expired' AND $1 ORDER BY 1"
}
