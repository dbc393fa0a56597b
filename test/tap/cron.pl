# pg_cron drives the sweeper: in client mode and with background workers, in
# its own database and in another one. The four wait for the same minutes.

use strict;
use warnings;

use OTServer;
use OTTest;
use POSIX qw(ceil);
use Test::More;
use Time::HiRes qw(time);

my %background = ('client mode' => 'off', 'background workers' => 'on');
my @modes = sort keys %background;

my $hint_line = qr/(SELECT\b.*;)/;    # what comes before it is for people

# ($sqlstate, $hint) of a statement that is to fail.
sub refusal {
	my ($server, $db, $sql) = @_;
	my ($rc, $out, $err) = $server->psql($db, "\\set VERBOSITY verbose\n$sql");
	my ($sqlstate) = $err =~ /ERROR: +(\w{5}):/;
	my ($hint)     = $err =~ /^HINT: +(.*)$/m;
	return ($sqlstate // 'none', $hint // '');
}

# A place is a database in one of the modes.
my (%server, @places);
for my $mode (@modes) {
	my $server = $server{$mode} = OTServer->started($mode =~ tr{ }{-}r,
		'cron.use_background_workers' => $background{$mode},
		max_worker_processes          => 20);
	$server->safe_psql('postgres', 'CREATE EXTENSION pg_cron');
	$server->safe_psql('postgres', 'CREATE DATABASE elsewhere');
	for my $db (qw(postgres elsewhere)) {
		$server->safe_psql($db, 'CREATE EXTENSION order_timeout');
		push @places, { server => $server, db => $db, name => "$mode, " . ($db eq 'postgres' ? 'here' : 'elsewhere') };
	}
	$server->safe_psql('elsewhere',
		"SELECT order_timeout.create_order('early', 100, 'EUR', '10 milliseconds')");
}

# What schedule_sweeper says when it has scheduled the job: [level, message, hint], each as psql shows it.
sub said {
	my ($server, $role) = @_;
	my (undef, undef, $err) = $server->psql('postgres',
		"SET ROLE $role; SELECT order_timeout.schedule_sweeper();");
	$err =~ s/^psql:\S+ //mg;
	my @said;
	for (split /\n/, $err) {
		push @said, [ $1, $2, '' ] if /^(\w+): +(.*)/ && $1 ne 'HINT' && $1 ne 'DETAIL';
		$said[-1][2] = $1 if @said && /^HINT: +(.*)/;
	}
	return @said;
}

# One mode, one server: what is seen depends on the role.
for my $mode (@modes) {
	my $server  = $server{$mode};
	my $workers = qr/ALTER SYSTEM SET cron\.use_background_workers = on; then restart/;

	$server->safe_psql('postgres', <<'END');
CREATE ROLE sweeper;
GRANT USAGE ON SCHEMA cron TO sweeper;
SELECT order_timeout.grant_access('sweeper', 'operator');
END
	is_deeply([ said($server, 'postgres') ], [], "$mode: nothing keeps the job from running, and nothing is said");
	my @said = said($server, 'sweeper');
	is("@{ $said[0] }[0, 2]", 'WARNING ALTER ROLE sweeper LOGIN;', "$mode: a role that may not log in");
	$server->safe_psql('postgres', 'ALTER ROLE sweeper LOGIN; REVOKE EXECUTE ON PROCEDURE order_timeout.sweep FROM sweeper');
	@said = said($server, 'sweeper');
	is("@{ $said[0] }[0, 2]", "WARNING SELECT order_timeout.grant_access('sweeper', 'operator');", "$mode: a role that may not sweep");
	$server->safe_psql('postgres', q{SELECT order_timeout.grant_access('sweeper', 'operator')});

	@said = said($server, 'sweeper');
	is(scalar @said, 1, "$mode: a role that may do all that");
	is($said[0][0], 'NOTICE', "$mode: is told what it cannot see");
	like($said[0][2], $workers, "$mode: and what to do") or diag(explain(\@said));
	like($said[0][2], qr/SELECT last_sweep FROM order_timeout\.health;/, "$mode: and where to look");

	my $attention = "SELECT why FROM order_timeout.attention WHERE kind = 'sweeper'";
	for my $role (qw(postgres sweeper)) {
		is($server->safe_psql('postgres', "SET ROLE $role; $attention"),
			'no sweep has run, although pg_cron has a job for it', "$mode: $role sees in attention that nobody sweeps yet");
	}
	$server->safe_psql('postgres', 'SET ROLE sweeper; SELECT order_timeout.unschedule_sweeper()');
	$server->safe_psql('postgres', 'SELECT order_timeout.unschedule_sweeper()');
	is($server->safe_psql('postgres', $attention), '', "$mode: without a job, and nothing overdue, nobody needs to sweep");
}

# A stock server: pg_cron comes by TCP, and pg_hba.conf asks for a password there; it was not created yet.
{
	my $stock = OTServer->started('stock', 'cron.host' => 'localhost');
	my $hba   = $stock->data_dir . '/pg_hba.conf';
	my $lines = sub {
		open my $out, '>', $hba or die "$hba: $!\n";
		print {$out} "local all all trust\n", @_;
		close $out or die "$hba: $!\n";
	};
	$stock->safe_psql('postgres', 'CREATE EXTENSION order_timeout; CREATE ROLE operator LOGIN');
	$stock->safe_psql('postgres', q{SELECT order_timeout.grant_access('operator', 'operator')});
	for my $role (qw(postgres operator)) {
		is_deeply([ refusal($stock, 'postgres', "SET ROLE $role; SELECT order_timeout.schedule_sweeper();") ],
			[ '55000', 'CREATE EXTENSION pg_cron;' ], "stock: loaded for this database and not created, as $role");
	}
	$stock->safe_psql('postgres', 'CREATE EXTENSION pg_cron');

	for my $case ([ 'a password', qr/asks for scram-sha-256/, "host all all 127.0.0.1/32 scram-sha-256\n" ],
		[ 'no line', qr/has no line/, "host other all 127.0.0.1/32 trust\n" ]) {
		my ($name, $message, $line) = @$case;
		$lines->($line);
		my @said = said($stock, 'postgres');
		is(scalar @said, 1, "stock: $name: one warning") or diag(explain(\@said));
		is($said[0][0], 'WARNING', "stock: $name: is a warning");
		like($said[0][1], $message, "stock: $name: with the cause");
		like($said[0][2], qr/ALTER SYSTEM SET cron\.use_background_workers = on/, "stock: $name: and what to do");
	}
	$lines->("host all all 127.0.0.1/32 trust\n");
	is_deeply([ said($stock, 'postgres') ], [], 'stock: trust lets it in');

	my ($launcher) = $stock->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_cron launcher'");
	$stock->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
	$stock->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $launcher");
	SKIP: {
		skip 'this pg_cron starts again by itself', 1
			if $stock->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_cron launcher'");
		my @said = said($stock, 'postgres');
		is("$said[0][0] $said[0][2]" =~ /^WARNING Restart the server/, 1, 'stock: no launcher') or diag(explain(\@said));
	}
	$stock->stop;
}

for my $mode (@modes) {
	my $server = $server{$mode};
	my $cron   = $server->dbh('postgres');
	my $jobs   = sub {
		join "\n", map { join '|', @$_ } @{ $cron->selectall_arrayref(
			'SELECT jobid, jobname, schedule, command, database FROM cron.job ORDER BY jobid') };
	};

	my $first = call($cron, 'schedule_sweeper');
	like($first->{command}, qr/^CALL order_timeout\.sweep\(.*\)$/, "$mode: a lone CALL");
	my $once = $jobs->();
	is(call($cron, 'schedule_sweeper')->{jobid}, $first->{jobid}, "$mode: a repeat answers the same job");
	is($jobs->(), $once, "$mode: a repeat changes nothing");
	is($jobs->() =~ tr/\n//, 0, "$mode: one job");

	is(call($cron, 'schedule_sweeper', '*/2 * * * *')->{schedule}, '*/2 * * * *', "$mode: another schedule");
	like($jobs->(), qr{^$first->{jobid}\|order_timeout\|\*/2 \* \* \* \*\|.*\|postgres$}, "$mode: of the same job");
	my $changed = $jobs->();
	isnt(error_of($cron, sub { call($cron, 'schedule_sweeper', 'every now and then') }), '',
		"$mode: a schedule that pg_cron does not know");
	is($jobs->(), $changed, "$mode: it changes nothing");
	call($cron, 'schedule_sweeper');
	is($jobs->(), $once, "$mode: back to the default");

	call($cron, 'schedule_sweeper', '0 0 1 1 *', 'another');
	is($jobs->() =~ tr/\n//, 1, "$mode: another name, another job");
	is(call($cron, 'unschedule_sweeper', 'another')->{outcome}, 'unscheduled', "$mode: that one goes");
	is($jobs->(), $once, "$mode: the first stays");

	my ($sqlstate, $hint) = refusal($server, 'elsewhere', 'SELECT order_timeout.schedule_sweeper();');
	is($sqlstate, '55000', "$mode: no pg_cron in this database");
	my ($line) = $hint =~ $hint_line;
	ok($line, "$mode: the hint has a line to run") or diag($hint);
	my ($rc, undef, $err) = $server->psql('postgres', $line // 'SELECT no_line');
	is($rc, 0, "$mode: and it runs in pg_cron's database") or diag($err);
	like($jobs->(), qr/^\Q$once\E$/m, "$mode: beside that database's own job")
		or diag("before:\n$once\nafter:\n" . $jobs->());
	like($jobs->(), qr/\|elsewhere$/m, "$mode: for the database that asked");
}

# The first minute brings the first run everywhere.
my $first_runs = ceil(time / 60) * 60 + 15;
for my $place (@places) {
	my $dbh = $place->{dbh} = $place->{server}->dbh($place->{db});
	ok(eventually(sub { $dbh->selectrow_array('SELECT count(*) FROM order_timeout.sweeps') }, $first_runs - time),
		"$place->{name}: the sweeper runs");
	next if $place->{db} eq 'postgres';
	ok(eventually(sub { $dbh->selectrow_array("SELECT state = 'expired' FROM order_timeout.orders") }, $first_runs - time),
		"$place->{name}: it closes what was due before");
}

# Deadlines on both sides of the next minute, where one run ends and the next
# begins.
my $minute = ceil((time + 8) / 60) * 60;
for my $place (@places) {
	create_orders($place->{dbh}, 'o', 1, 120, "to_timestamp($minute - 6 + i * 0.1)");
}
wait_until_clock($minute + 6);
for my $place (@places) {
	my $dbh = $place->{dbh};
	ok(eventually(sub {
		!$dbh->selectrow_array("SELECT count(*) FROM order_timeout.orders WHERE state <> 'expired'");
	}, $minute + 85 - time), "$place->{name}: all are closed, at the latest when pg_cron comes the next time");
	my ($middle, $most, $early) = $dbh->selectrow_array(<<'END');
SELECT round(1000 * percentile_disc(0.5) WITHIN GROUP (ORDER BY late)), round(1000 * max(late)),
       count(*) FILTER (WHERE late < 0)
  FROM (SELECT extract(epoch FROM settled_at - expires_at) AS late
          FROM order_timeout.orders WHERE order_id LIKE 'o%') AS closed
END
	diag(sprintf '%-30s late by %d ms (median), %d ms (most)', $place->{name}, $middle, $most);
	is($early, 0, "$place->{name}: none before it");
	balanced($dbh, "$place->{name}: the funds");
}

for my $mode (@modes) {
	my $server = $server{$mode};
	my $cron   = $server->dbh('postgres');

	is($cron->selectrow_array("SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'"), 0,
		"$mode: no run failed")
		or diag(explain($cron->selectall_arrayref('SELECT * FROM cron.job_run_details')));
	is($cron->selectrow_array(
		'SELECT min(n) > 1 FROM (SELECT count(*) AS n FROM cron.job_run_details GROUP BY jobid) AS runs'),
		1, "$mode: each job has run more than once");

	is(call($cron, 'unschedule_sweeper')->{outcome}, 'unscheduled',   "$mode: unscheduled");
	is(call($cron, 'unschedule_sweeper')->{outcome}, 'not_scheduled', "$mode: not twice");
	my ($sqlstate, $hint) = refusal($server, 'elsewhere', 'SELECT order_timeout.unschedule_sweeper();');
	is($sqlstate, '55000', "$mode: taking it out needs pg_cron's database too");
	my ($line) = $hint =~ $hint_line;
	$server->psql('postgres', $line // '');
	is($cron->selectrow_array('SELECT count(*) FROM cron.job'), 0, "$mode: the hint's line takes it out")
		or diag($hint);
}

# Installed, but the server was started without it.
my ($mode)  = @modes;
my $server = $server{$mode};
$_->{dbh}->disconnect for @places;
$server->safe_psql('postgres', 'SELECT order_timeout.schedule_sweeper()');
$server->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$server->restart;
my ($sqlstate, $hint) = refusal($server, 'postgres', 'SELECT order_timeout.schedule_sweeper();');
is($sqlstate, '55000', 'pg_cron is not preloaded');
is((refusal($server, 'postgres', 'SELECT order_timeout.unschedule_sweeper();'))[0], '55000', 'nor is it to take the job out');
$server->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron'");
$server->restart;
my ($line) = $hint =~ $hint_line;
is($server->psql('postgres', $line // 'SELECT no_line'), 0, 'the hint works once it is') or diag($hint);

# Nothing but the schedule needs pg_cron.
$server->safe_psql('postgres', 'DROP EXTENSION pg_cron');
is((refusal($server, 'postgres', 'SELECT order_timeout.schedule_sweeper();'))[0], '55000', 'pg_cron is absent');
is((refusal($server, 'postgres', 'SELECT order_timeout.unschedule_sweeper();'))[0], '55000', 'also to take it out');
$server->safe_psql('postgres', "SELECT order_timeout.create_order('last', 100, 'EUR', '10 milliseconds')");
$server->safe_psql('postgres', "CALL order_timeout.sweep('500 milliseconds')");
is($server->safe_psql('postgres', "SELECT state FROM order_timeout.orders WHERE order_id = 'last'"), 'expired',
	'the sweeper works without it');

done_testing();
