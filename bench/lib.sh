# shellcheck shell=bash
#
# What bench/run and bench/lateness share. bin/lib/server.sh comes first.

query() { psql -XqAt -v ON_ERROR_STOP=1 "$@"; }

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
	printf 'PostgreSQL %s' "$(query -c 'SHOW server_version')"
	for extension; do
		printf ', %s %s' "$extension" \
			"$(query -v name="$extension" <<<"SELECT default_version FROM pg_available_extensions WHERE name = :'name'")"
	done
	printf ', Linux %s' "$(uname -r)"
}

# settings NAME...
settings() {
	local name separator=
	for name; do
		printf '%s%s %s' "$separator" "$name" "$(query -c "SHOW $name")"
		separator=', '
	done
}
