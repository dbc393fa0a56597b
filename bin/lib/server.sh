# shellcheck shell=bash
#
# What every runner needs: packages, a private copy of PostgreSQL, the
# extension built into it, servers that live in one temporary folder. A runner
# looks at its arguments before it installs anything.
#
# Nothing outside that folder is written (apt packages apart): a server that
# already runs on this machine keeps its files, its clusters and its port.

set -euo pipefail

OT_ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
OT_TMP=
OT_CHILD=
OT_BEAT=
OT_AS=()

# The caller's environment must not lead us to another server, into another
# directory or to other messages than the tests expect.
for OT_VAR in "${!PG@}"; do
	[[ $OT_VAR == PGMAJOR ]] || unset "$OT_VAR"
done
unset OT_VAR MAKEFLAGS MAKELEVEL MFLAGS DESTDIR COPT PERL5LIB PERL5OPT LANGUAGE TEMP_CONFIG top_builddir
export LC_ALL=C.UTF-8

ot_say() { printf '%s\n' "--- $*"; }

ot_die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

# ot_die_with_log LOG CAUSE: the cause comes last, where the eye is.
ot_die_with_log() {
	cat -- "$1" >&2
	rm -f -- "$1"
	shift
	ot_die "$@"
}

# ---------------------------------------------------------------- signs of life

# ot_alive WHAT: a line every 20 seconds, until ot_end_beat, so that a long part
# is seen to live. A process without children, which would outlive it and hold
# the output open.
ot_alive() {
	ot_beat "$1" >&7 2>/dev/null </dev/null &
	OT_BEAT=$!
}

ot_beat() {
	local began=$SECONDS never
	trap - EXIT TERM
	# Ctrl-C is for the runner, which ends this. If both get it at once, bash can
	# miss that this one has ended, and then waits for it as long as for make.
	trap '' INT HUP
	exec {never}<> <(:)
	until read -r -t 20 -u "$never"; do
		kill -0 "$$" || exit 0
		printf '    ... %s: %d s\n' "$1" $((SECONDS - began))
	done
}

ot_end_beat() {
	[[ -n $OT_BEAT ]] || return 0
	kill -TERM "$OT_BEAT" 2>/dev/null || true
	wait "$OT_BEAT" 2>/dev/null || true
	OT_BEAT=
}

# Where the runner itself writes, also while a part's output goes to a log.
exec 7>&1

# ---------------------------------------------------------------- packages

# The major to use: PGMAJOR, else what is installed with its headers, else
# the distribution's own. Prints nothing when it cannot tell.
ot_major() {
	local pgxs major found=

	if [[ -n ${PGMAJOR:-} ]]; then
		echo "$PGMAJOR"
		return
	fi
	for pgxs in /usr/lib/postgresql/*/lib/pgxs; do
		major=${pgxs#/usr/lib/postgresql/}
		major=${major%%/*}
		[[ $major =~ ^[0-9]+$ && -x /usr/lib/postgresql/$major/bin/postgres ]] || continue
		((major >= 15 && major > ${found:-0})) && found=$major
	done
	if [[ -z $found ]]; then
		found=$(apt-cache depends postgresql 2>/dev/null |
			sed -n 's/^ *Depends: postgresql-\([0-9]*\)$/\1/p')
	fi
	echo "$found"
}

ot_missing() {
	local package
	for package; do
		dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null |
			grep -qx installed || echo "$package"
	done
}

# ot_as_root CMD...: apt and its configuration are all that needs root.
ot_as_root() {
	if ((EUID == 0)); then
		"$@"
	else
		sudo "$@"
	fi
}

# ot_need_root WHY APT-ARGUMENTS...: sudo asks for the password here, once, and
# not from behind a log.
ot_need_root() {
	local why=$1
	shift
	((EUID != 0)) || return 0
	command -v sudo >/dev/null || ot_die "$why, and this is not root and there is no sudo; as root: apt-get $*"
	sudo true || ot_die "$why, and sudo refuses; as root: apt-get $*"
}

# ot_apt_cause LOG: why apt-get failed, in one line.
ot_apt_cause() {
	local line
	if line=$(grep -m 1 -oE "(Could not resolve|Temporary failure resolving|Could not connect to|Cannot initiate the connection to|Unable to connect to) '?[A-Za-z0-9.:-]+" "$1"); then
		echo "no network: $line" | tr -d "'"
	elif line=$(grep -m 1 -oE 'Unable to locate package [^ ]+|has no installation candidate.*|No space left on device|Could not get lock [^ ]+' "$1"); then
		echo "$line"
	else
		grep '^E: ' "$1" | tail -n 1 | cut -c4- | grep . || echo "see above"
	fi
}

# ot_apt LOG ARGUMENTS...: adds to the log.
ot_apt() {
	local log=$1
	shift
	ot_as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C.UTF-8 \
		apt-get -q -o Dpkg::Use-Pty=0 "$@" </dev/null >>"$log" 2>&1
}

# Lists that cannot be renewed may still be good enough for what is asked next.
ot_apt_update() {
	ot_say "apt-get update"
	ot_alive "apt-get update"
	ot_apt "$1" update || true
	ot_end_beat
}

# ot_packages [extra...]: sets PGMAJOR, installs what is missing.
ot_packages() {
	local missing log

	command -v apt-get >/dev/null ||
		ot_die "this needs Debian or a system like it (apt-get): PostgreSQL 15 or later with its" \
			"server headers, pg_cron, pgTAP and pg_prove, the Perl modules DBD::Pg and IPC::Run," \
			"make and gcc. Elsewhere, build with 'make && make install' as for any extension."

	PGMAJOR=$(ot_major)
	if [[ -z $PGMAJOR ]]; then
		ot_need_root "apt knows no PostgreSQL yet" update
		log=$(mktemp)
		ot_apt_update "$log"
		PGMAJOR=$(ot_major)
		[[ -n $PGMAJOR ]] || ot_die_with_log "$log" "apt knows no PostgreSQL: $(ot_apt_cause "$log")"
		rm -f "$log"
	fi
	[[ $PGMAJOR =~ ^(1[5-9]|[2-9][0-9])$ ]] ||
		ot_die "PostgreSQL 15 or later is needed, and this is '$PGMAJOR'; with another one in apt (https://apt.postgresql.org has all), set PGMAJOR"
	export PGMAJOR

	mapfile -t missing < <(ot_missing \
		"postgresql-$PGMAJOR" "postgresql-server-dev-$PGMAJOR" \
		"postgresql-$PGMAJOR-cron" "postgresql-$PGMAJOR-pgtap" \
		libtap-parser-sourcehandler-pgtap-perl libdbd-pg-perl libipc-run-perl \
		perl make gcc libc6-dev "$@")
	((${#missing[@]} == 0)) || ot_install "${missing[@]}"
}

# ot_wished PACKAGE...: installs those that are missing and that apt can install; a
# distribution that lacks one does without.
ot_wished() {
	local package found=()
	while read -r package; do
		! apt-get -s install --no-install-recommends "$package" >/dev/null 2>&1 || found+=("$package")
	done < <(ot_missing "$@")
	((${#found[@]} == 0)) || (ot_install "${found[@]}") || ot_say "goes on without ${found[*]}"
}

# ot_node_driver: where node is not the distribution's, its driver is not
# either. It comes from npm then, and goes with the temporary folder.
ot_node_driver() {
	export NODE_PATH=$OT_TMP/npm/node_modules:/usr/share/nodejs
	command -v node npm >/dev/null && ! node -e 'require("pg")' 2>/dev/null || return 0
	ot_say "npm install pg"
	ot_run npm install --prefix "$OT_TMP/npm" --no-audit --no-fund --fetch-retries=0 pg@8.8.0 >/dev/null 2>&1 ||
		ot_say "goes on without pg"
}

# Whether a server of the packages runs, whoever started it.
ot_server_runs() {
	grep -sqzxE '/usr/lib/postgresql/[0-9]+/bin/(postgres|postmaster)' /proc/[0-9]*/cmdline
}

ot_install() {
	local policy=/usr/sbin/policy-rc.d confdir=/etc/postgresql-common/createcluster.d
	local conf=$confdir/order-timeout-no-cluster.conf made=() services=() path status=0 log

	ot_need_root "packages are missing" install "$@"
	log=$(mktemp)
	ot_apt_update "$log"
	ot_say "installing $*"

	# An upgrade would restart the server, and somebody may be using it.
	if ot_server_runs && apt-get -s install --no-install-recommends "$@" | grep -q '^Inst postgresql-[0-9]* \['; then
		ot_die "installing these would upgrade and restart a PostgreSQL server that runs here;" \
			"do it yourself when it suits: apt-get install $*"
	fi

	# These packages' services would start with the machine from the next time on.
	[[ " $* " != *" rabbitmq-server "* ]] || services+=(rabbitmq-server.service)
	[[ -z ${services[*]} || -z $(ot_missing erlang-base) ]] || services+=(epmd.service epmd.socket)
	[[ " $* " != *" prometheus "* ]] || services+=(prometheus.service)
	[[ " $* " != *" prometheus-sql-exporter "* ]] || services+=(prometheus-sql-exporter.service)

	# A server package creates a cluster unless this says no, and starts those
	# that are there but stopped, unless the policy for services says no.
	[[ -d $confdir ]] || made+=("$confdir")
	ot_as_root mkdir -p "$confdir"
	echo 'create_main_cluster = false' | ot_as_root tee "$conf" >/dev/null
	if [[ ! -e $policy ]]; then
		made+=("$policy")
		printf '#!/bin/sh\nexit 101\n' | ot_as_root install -m 755 /dev/stdin "$policy"
	fi
	ot_alive "apt-get install"
	ot_apt "$log" install -y --no-install-recommends "$@" || status=$?
	((${#services[@]} == 0)) || ot_as_root systemctl disable "${services[@]}" >>"$log" 2>&1 || true
	ot_end_beat
	ot_as_root rm -f "$conf"
	# Otherwise it would run from the next boot on.
	[[ " $* " != *" pgbouncer "* ]] || ot_as_root update-rc.d pgbouncer disable >/dev/null 2>&1 || true
	for path in "${made[@]}"; do
		if [[ -d $path ]]; then ot_as_root rmdir --ignore-fail-on-non-empty "$path"; else ot_as_root rm -f "$path"; fi
	done
	((status == 0)) || ot_die_with_log "$log" "apt-get could not install $*: $(ot_apt_cause "$log")"
	rm -f "$log"
}

# ---------------------------------------------------------------- processes

# ot_as_user CMD...: PostgreSQL refuses to run as root. setpriv and not
# runuser, which would stay in between and keep signals to itself.
ot_as_user() { "${OT_AS[@]}" "$@"; }

# ot_run CMD...: the same for what takes long. Bash runs a trap only after a
# command in the foreground has ended, so this one waits for it in the
# background, in a process group that ot_cleanup can end as a whole.
ot_run() {
	local status=0
	setsid "${OT_AS[@]}" "$@" <&0 7>&- &
	OT_CHILD=$!
	wait "$OT_CHILD" || status=$?
	OT_CHILD=
	return "$status"
}

ot_end_child() {
	[[ -n $OT_CHILD ]] || return 0
	kill -TERM -- "-$OT_CHILD" 2>/dev/null || return 0
	for _ in {1..100}; do
		kill -0 -- "-$OT_CHILD" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -KILL -- "-$OT_CHILD" 2>/dev/null || true
}

# A runner that has something to say at the very end defines ot_last_words; one
# that started more than PostgreSQL servers ends it in ot_stop_others.
ot_on_exit() {
	local status=$?
	trap '' INT TERM HUP
	set +e
	if declare -F ot_stop_others >/dev/null; then
		ot_stop_others
	fi
	ot_cleanup
	if declare -F ot_last_words >/dev/null; then
		ot_last_words "$status"
	fi
	exit "$status"
}

ot_cleanup() {
	local pidfile

	ot_end_beat
	ot_end_child
	[[ -n $OT_TMP && -d $OT_TMP ]] || return 0
	cd /
	# Tests start servers of their own, at depths of their own; all of them live here.
	find "$OT_TMP/servers" -name postmaster.pid 2>/dev/null | while read -r pidfile; do
		ot_pg_ctl "${pidfile%/*}" -m fast -t 20 stop >/dev/null 2>&1 ||
			ot_pg_ctl "${pidfile%/*}" -m immediate stop >/dev/null 2>&1
	done
	if [[ ${OT_KEEP:-0} == 1 ]]; then
		ot_say "kept: $OT_TMP"
	else
		# A process that is just ending may still write a file.
		rm -rf -- "$OT_TMP" 2>/dev/null || { sleep 1 && rm -rf -- "$OT_TMP"; }
	fi
	OT_TMP=
}

# ---------------------------------------------------------------- sandbox

# The folder's path ends up in make rules, in postgresql.conf and in socket
# names, which hold at most 107 bytes. Where TMPDIR is too long, has odd
# characters or is closed to the unprivileged user, /tmp serves.
ot_tmpdir() {
	local base=${TMPDIR:-/tmp}

	if [[ ! $base =~ ^/[A-Za-z0-9_./-]{0,40}$ ]] ||
		! ot_as_user test -d "$base" -a -w "$base" -a -x "$base"; then
		base=/tmp
	fi
	ot_as_user mktemp -d "${base%/}/ot.XXXXXX"
}

# ot_sandbox: sets and enters $OT_TMP/src. Server, pg_config and make find
# libraries and shared files relative to their own place, so a copy of the
# installation is an installation: 'make install' goes there. A test that runs a
# runner sets OT_FROM to a folder that has been built already: its own.
ot_sandbox() {
	local system=/usr/lib/postgresql/$PGMAJOR

	umask 022
	if ((EUID == 0)); then
		OT_AS=(setpriv --reuid=postgres --regid=postgres --init-groups --)
	else
		OT_AS=(env)
	fi
	trap ot_on_exit EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	cd /
	OT_TMP=$(ot_tmpdir)
	ot_as_user chmod 755 "$OT_TMP"
	ot_as_user mkdir -p "$OT_TMP"/{usr/include,src,home,tmp,servers}

	# The server's own bitcode is half of the size and serves only inlining.
	tar -C "${OT_FROM:-}/usr" -c --exclude='lib/bitcode' \
		"lib/postgresql/$PGMAJOR" "share/postgresql/$PGMAJOR" |
		ot_as_user tar -C "$OT_TMP/usr" -x
	ot_as_user ln -s /usr/include/postgresql "$OT_TMP/usr/include/postgresql"

	OT_BINDIR=$OT_TMP$system/bin
	PG_CONFIG=$OT_BINDIR/pg_config
	[[ $("$PG_CONFIG" --pkglibdir) == "$OT_TMP$system/lib" &&
		$("$PG_CONFIG" --sharedir) == "$OT_TMP/usr/share/postgresql/$PGMAJOR" ]] ||
		ot_die "this PostgreSQL does not run from a copy of its installation ($PG_CONFIG)"

	# HOME keeps the caller's .psqlrc, .pgpass and .proverc out.
	export OT_TMP OT_BINDIR PG_CONFIG PGMAJOR
	export PATH=$OT_BINDIR:$PATH HOME=$OT_TMP/home TMPDIR=$OT_TMP/tmp
	cd "$OT_TMP/src"
}

# The project's files, NUL-separated: in a checkout what git knows or would
# add, elsewhere (an unpacked archive) all but build products.
ot_sources() {
	local file list=(find . -name .git -prune -o ! -type d ! -name '*.o' ! -name '*.so' ! -name '*.bc' -print0)
	# CI often runs as another user than the one who checked out.
	local git=(git -c safe.directory='*')

	cd -- "$OT_ROOT"
	if [[ -e .git ]] && "${git[@]}" rev-parse --git-dir >/dev/null 2>&1; then
		list=("${git[@]}" ls-files -coz --exclude-standard)
	fi
	"${list[@]}" | while IFS= read -r -d '' file; do
		# git lists deleted files too until the deletion is committed
		[[ ! -e $file && ! -L $file ]] || printf '%s\0' "$file"
	done
}

# ot_build: the unprivileged user builds from a copy, so the checkout stays
# clean and may lie where only its owner can read.
ot_build() {
	local log=$OT_TMP/tmp/build.log
	# Bitcode for JIT takes as long as all else, and our functions are never inlined.
	local make=(make -C "$OT_TMP/src" PG_CONFIG="$PG_CONFIG" with_llvm=no)

	ot_sources | tar -C "$OT_ROOT" --null -T - -c | ot_as_user tar -C "$OT_TMP/src" -x
	[[ -z ${OT_FROM:-} ]] || return 0
	[[ ${OT_WERROR:-0} != 1 ]] || make+=(COPT=-Werror)
	ot_say "building against PostgreSQL $PGMAJOR"
	ot_alive "make"
	if ! ot_run "${make[@]}" -j2 >"$log" 2>&1 || ! ot_run "${make[@]}" install >>"$log" 2>&1; then
		ot_end_beat
		ot_die_with_log "$log" "the build failed: $(grep -m 1 -E 'error:|\*\*\*' "$log" || echo 'see above')"
	fi
	ot_end_beat
	grep -E 'warning:' -- "$log" || true
}

# ---------------------------------------------------------------- servers

ot_pg_ctl() { ot_as_user "$OT_BINDIR/pg_ctl" -s -D "$@" 7>&-; }

ot_server_log() {
	printf -- '--- the end of the log of server %s\n' "$1" >&2
	tail -n "${2:-40}" -- "$OT_TMP/servers/$1/log" >&2 || true
}

# ot_start NAME [configuration lines...]: a new server; exports how to reach
# it. It listens on a socket in its own folder and nowhere else; the port is
# only part of the socket's name, and not 5432, so that a client that lost
# PGHOST fails instead of reaching somebody's server.
ot_start() {
	local name=$1 dir=$OT_TMP/servers/$1
	shift

	ot_as_user mkdir "$dir"
	ot_run "$OT_BINDIR/initdb" -D "$dir/data" -U postgres --auth=trust \
		--encoding=UTF8 --locale=C.UTF-8 --no-sync >"$OT_TMP/initdb_$name.log" 2>&1 || {
		cat -- "$OT_TMP/initdb_$name.log" >&2
		ot_die "initdb failed"
	}
	{
		ot_settings "$dir"
		(($# == 0)) || printf '%s\n' "$@"
	} | ot_as_user tee -a "$dir/data/postgresql.conf" >/dev/null
	ot_pg_ctl "$dir/data" -w -l "$dir/log" start || {
		ot_server_log "$name"
		ot_die "server $name did not start"
	}
	export PGHOST=$dir PGPORT=54329 PGUSER=postgres PGDATABASE=postgres
}

# Later lines win, so the caller's come after these.
ot_settings() {
	cat <<-END
		listen_addresses = ''
		unix_socket_directories = '$1'
		port = 54329
		fsync = off
		timezone = 'UTC'
		log_timezone = 'UTC'
		log_line_prefix = '%m [%p] %a %d '
		shared_preload_libraries = 'pg_cron'
		cron.database_name = 'postgres'
		cron.host = '$1'
		order_timeout.store = '${OT_STORE:-auto}'
	END
}

ot_stop() { ot_pg_ctl "$OT_TMP/servers/$1/data" -w -m fast stop; }

ot_restart() {
	local dir=$OT_TMP/servers/$1
	ot_pg_ctl "$dir/data" -w -m fast -l "$dir/log" restart || {
		ot_server_log "$1"
		ot_die "server $1 did not restart"
	}
}
