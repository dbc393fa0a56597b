# Two workers of connect/worker send 120 refunds, and end attempts, at a gateway that is slow, fails, loses answers, takes
# its time and reports by webhooks. They are killed at random moments, and so are the gateway and the database. At the end
# each refund has moved its money once, and the books agree with the gateway's to the unit.
#
# OT_SEED repeats the choices of a run, though not their interleaving.

use strict;
use warnings;

use FindBin;
use HTTP::Tiny;
use JSON::PP;
use OTPort qw(free_port);
use OTServer;
use OTTest;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

# The worker calls functions only, and other tests compare what these do in either store.
plan skip_all => 'the stores are not what it is about: once is enough' if ($ENV{OT_STORE} // 'auto') eq 'sql';
my ($python) = grep { -x $_ && !system "$_ -c 'import psycopg, sqlite3' 2>/dev/null" } qw(/usr/bin/python3 /usr/local/bin/python3);
plan skip_all => 'Python has no psycopg 3 (Debian package python3-psycopg)' if !$python;

my $worker_file = "$FindBin::Bin/../../connect/worker/refund_worker.py";
my $seed = $ENV{OT_SEED} // int rand 1_000_000;
diag("OT_SEED=$seed");
srand $seed;

my ($TIMEOUT, $BATCH, $LEASE, $SLOW) = (0.4, 2, 2, 0.6);

my $server = OTServer->started('worker');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do($_) for 'CREATE EXTENSION order_timeout', 'CREATE ROLE refunder LOGIN',
	q{SELECT order_timeout.grant_access(role_name => 'refunder', access => 'worker')},
	q{UPDATE order_timeout.policies SET refund_backoff = '100 milliseconds', refund_backoff_max = '300 milliseconds',
	  refund_max_attempts = 200 WHERE policy = 'default'};
my $address = $server->connstr('shop') . ' user=refunder';

# ------------------------------------------------------------ processes

my $port = free_port();
my $url = "http://127.0.0.1:$port";
my $http = HTTP::Tiny->new(timeout => 10);
my %running;
my $started = 0;

END {
	my $status = $?;
	kill 'KILL', keys %running;
	waitpid $_, 0 for keys %running;
	$? = $status;
}

sub run_in_background {
	my ($name, @command) = @_;
	my $pid = fork() // die "fork: $!\n";
	if ($pid == 0) {
		$ENV{REFUND_GATEWAY_TOKEN} = 'secret';
		open STDERR, '>>', $server->basedir . "/$name.log" or POSIX::_exit(1);
		open STDOUT, '>&', \*STDERR or POSIX::_exit(1);
		exec { $command[0] } @command or POSIX::_exit(1);
	}
	$running{$pid} = $name;
	return $pid;
}

sub ended {
	my ($pid, $signal) = @_;
	kill $signal, $pid if $signal;
	waitpid $pid, 0;
	delete $running{$pid};
	return $?;
}

sub gateway_started {
	my $pid = run_in_background('gateway', $python, "$FindBin::Bin/lib/refund_gateway.py", $port,
		$server->basedir . '/gateway.sqlite', $seed, $SLOW, $address);
	eventually(sub { $http->get("$url/ledger")->{success} }, 20) or die "no gateway\n";
	return $pid;
}

sub worker_started {
	my (@options) = @_;
	$started++;
	return run_in_background("worker$started", $python, $worker_file, '--gateway', 'bank', '--url', $url, '--database', $address,
		'--worker', "worker$started", '--timeout', $TIMEOUT, '--batch', $BATCH, '--lease', $LEASE, '--longest-wait', 0.5, @options);
}

# Before that, a signal ends Python and not the worker.
sub has_begun {
	my ($pid) = @_;
	my $log = $server->basedir . "/$running{$pid}.log";
	return eventually(sub { -s $log }, 20) || die "$running{$pid} does not begin\n";
}

sub ledger { return decode_json($http->get("$url/ledger")->{content}) }

sub connected {
	return $dbh->selectrow_array("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'refund_worker'");
}

sub count_of { my ($what, @values) = @_; return $dbh->selectrow_array("SELECT count(*) FROM order_timeout.$what", undef, @values) }

# ------------------------------------------------------------ what the command refuses

is(system("$python $worker_file --help >/dev/null"), 0, '--help');
my $said = `$python $worker_file --gateway bank --url $url --timeout 10 --batch 15 --lease 300 2>&1`;
is($? >> 8, 2, 'a lease that is too short for the batch is refused');
like($said, qr/--lease 300 is too short: 15 refunds with two calls of 10 s each may take 300 s/, 'with the numbers');
is(system("$python $worker_file --gateway bank 2>/dev/null") >> 8, 2, 'so is a missing address');
$dbh->do('CREATE ROLE stranger LOGIN');
for ([ 'shop', 'stranger', qr/permission denied .*grant_access\(.*'worker'\);/ ], [ 'postgres', 'refunder', qr/is PGDATABASE the database/ ]) {
	my ($db, $role, $advice) = @$_;
	like(scalar `$python $worker_file --gateway bank --url $url --once --database "@{[ $server->connstr($db) ]} user=$role" 2>&1`, $advice,
		"$role in database $db learns what to do");
	is($? >> 8, 1, 'and the worker ends');
}
like(scalar `$python -I -S $worker_file 2>&1`, qr/\Arefund_worker: No module named 'psycopg'.*python3-psycopg/, 'so does a machine without psycopg');

# ------------------------------------------------------------ the work

sub late_payment {
	my ($name, $amount) = @_;
	call($dbh, 'create_order', $name, $amount, 'EUR', '1 hour');
	call($dbh, 'cancel_order', $name);
	return call($dbh, 'record_payment', $name, 'bank', $name, $amount, 'EUR')->{outcome} eq 'late' || die "not late\n";
}

my ($paid, $promised) = (0, 500);
for my $i (1 .. 120) {
	late_payment("p$i", 1000 + $i);
	$paid += 1000 + $i;
}
for my $attempt (map { ("open-$_", "open-1$_", "paid-$_", "missing-$_") } 1 .. 5) {
	call($dbh, 'create_order', $attempt, $promised, 'EUR', '1 hour');
	call($dbh, 'begin_attempt', $attempt, 'bank', $attempt);
	call($dbh, 'authorize_attempt', 'bank', $attempt, $promised, 'EUR', '2100-01-01');
	call($dbh, 'cancel_order', $attempt);
}

# A refund for another gateway is not this worker's.
call($dbh, 'create_order', 'other', 100, 'EUR', '1 hour');
call($dbh, 'cancel_order', 'other');
call($dbh, 'record_payment', 'other', 'other bank', 'other', 100, 'EUR');

# The operator pays out what the gateway never will.
my %by_hand;
sub pay_by_hand {
	for my $row (@{ $dbh->selectall_arrayref("SELECT refund_ref, amount FROM order_timeout.refunds
			WHERE state = 'needs_attention' AND reason <> 'reversed'") }) {
		$by_hand{ $row->[0] } = $row->[1] if call($dbh, 'settle_refund', $row->[0], 'by hand')->{outcome} eq 'settled';
	}
	return;
}

# Days after the success the bank sends the money back, and the gateway's webhook says so. It has to be so long ago that no
# worker may still report the success.
my %bounced;
sub let_one_bounce {
	my ($ref, $number) = $dbh->selectrow_array("SELECT refund_ref, gateway_refund_ref FROM order_timeout.refunds
		WHERE state = 'succeeded' AND NOT by_hand AND settled_at < now() - interval '8 seconds' ORDER BY refund_ref LIMIT 1");
	return if !defined $ref || keys %bounced >= 3 || !$http->post("$url/bounces/$ref")->{success};
	$bounced{$ref}{outcome} = call($dbh, 'complete_refund', $ref, 'failed', undef, $number)->{outcome};
	$bounced{$ref}{shown} = count_of("attention WHERE kind = 'conflict' AND refund_ref = ?", $ref);
	my $new = call($dbh, 'reverse_refund', $ref, 'it bounced')->{new_refund_ref};
	call($dbh, 'retry_refund', $new);
	return;
}

# The webhook for what was paid instead of being ended.
sub payments_arrive {
	for my $attempt (@{ $dbh->selectcol_arrayref("SELECT attempt_ref FROM order_timeout.attention WHERE kind = 'void'") }) {
		$paid += $promised if call($dbh, 'record_payment', $attempt, 'bank', "capture $attempt", $promised, 'EUR', undef, undef,
			$attempt)->{outcome} eq 'late';
	}
	return;
}

sub all_done {
	return keys %bounced == 3
		&& !count_of("refunds WHERE state NOT IN ('succeeded', 'reversed') AND gateway = 'bank'")
		&& !count_of("attempts WHERE state NOT IN ('voided', 'captured')")
		&& !count_of("attention WHERE kind = 'void'");
}

my $gateway = gateway_started();
my @workers = map { worker_started() } 1, 2;
my ($killed, $terminated, @wrong) = (0, 0);
my $end = time + 400;
until (all_done() || time > $end) {
	pay_by_hand();
	let_one_bounce();
	payments_arrive();
	my $moment = $killed + $terminated;
	has_begun($_) for $moment < 16 ? @workers : ();
	sleep 0.05 + rand 0.6;
	next if $moment >= 16;
	if ($moment == 6) {
		$dbh->disconnect;
		$server->restart;
		$dbh = $server->dbh('shop');
		push @wrong, 'no connection' if !eventually(sub { connected() == 2 });
	}
	if ($moment == 11) {
		ended($gateway, 'KILL');
		$gateway = gateway_started();
	}
	my $signal = rand() < 0.75 ? 'KILL' : 'TERM';
	my $status = ended(shift @workers, $signal);
	$signal eq 'KILL' ? $killed++ : $terminated++;
	push @wrong, "$status after $signal" if $status != ($signal eq 'KILL' ? POSIX::SIGKILL() : 0);
	push @workers, worker_started();
}
ok(all_done(), 'all refunds and voids end') or diag(explain($dbh->selectall_arrayref(
	"SELECT * FROM order_timeout.refunds WHERE state NOT IN ('succeeded', 'reversed')", { Slice => {} })));
cmp_ok($killed, '>', 5, "$killed workers were killed");
cmp_ok($terminated, '>', 0, "$terminated got a SIGTERM");
is_deeply(\@wrong, [], 'these ended with 0, and no worker ended by itself, not even when the database restarted');
has_begun($_) for @workers;
is(ended($_, 'TERM'), 0, 'an idle worker ends with 0 after SIGTERM') for splice @workers;

# ------------------------------------------------------------ the books

my $books = ledger();
my (%moved, $returned);
push @{ $moved{ $_->{refund} } }, $_ for @{ $books->{movements} };
is_deeply([ map { explain($_) } grep { @$_ > 1 } values %moved ], [], 'no refund moved money twice');
my $refunds = $dbh->selectall_hashref("SELECT * FROM order_timeout.refunds WHERE gateway = 'bank'", 'refund_ref');
is_deeply(
	{ map { $_->{refund} => "$_->{payment} $_->{amount} $_->{number}" . ($_->{bounced} ? ' reversed' : ' succeeded') }
			map { @$_ } values %moved },
	{ map { $_->{refund_ref} => "$_->{payment_ref} $_->{amount} " . ($_->{gateway_refund_ref} // 'none') . " $_->{state}" }
			grep { !$by_hand{ $_->{refund_ref} } } values %$refunds },
	'each refund moved its money once, under the number that is recorded, and nothing else moved');
$returned += $_->{amount} for grep { !$_->{bounced} } @{ $books->{movements} };
$returned += $_ for values %by_hand;
is($returned, $paid, "the gateway and the operator returned what was paid: $paid");
is($dbh->selectrow_array("SELECT sum(refunded) FROM order_timeout.orders WHERE order_id <> 'other'"), $paid, 'so say the orders');
is($dbh->selectrow_array("SELECT sum(refund_pending + held) FROM order_timeout.orders WHERE order_id <> 'other'"), 0, 'nothing is owed');
is_deeply([ map { @$_{qw(outcome shown)} } values %bounced ], [ ('conflict', 1) x 3 ], 'a failure after the success is shown to the operator');
is(count_of('conflicts'), 3, 'there are no other conflicts');
is(count_of('attention'), 0, 'the operator has nothing left to do');
is(count_of("refunds WHERE gateway = 'other bank' AND state = 'pending' AND attempts = 0"), 1, 'another gateway was left alone');
is_deeply(
	{ map { $_->{attempt} => $_->{status} =~ s/missing/voided/r =~ s/paid/captured/r } @{ $books->{attempts} } },
	{ map { @$_ } @{ $dbh->selectall_arrayref('SELECT attempt_ref, state FROM order_timeout.attempts') } },
	'the attempts are what they are at the gateway');
balanced($dbh, 'the funds');
sums_agree($dbh, 'the sums');

# That it was put to the test.
my %did;
$did{"$_->{method} $_->{did}"}++ for @{ $books->{requests} };
diag(join ', ', map { "$did{$_} $_" } sort keys %did);
is_deeply([ grep { !$did{$_} } (
		(map { "POST $_" } qw(paid slow slow_first 500 paid_500 dropped paid_dropped paid_forgotten garbled processing processing_told
			taken_back told_first declined part never busy odd)),
		(map { "GET $_" } qw(answered slow 500 dropped garbled))) ], [], 'the gateway did all of that');
cmp_ok(scalar(grep { /^VOID/ && $_ ne 'VOID done' } keys %did), '>', 1, 'and misbehaved about voids');

# ------------------------------------------------------------ SIGTERM in the middle of a batch

late_payment("slow$_", 100) for 1 .. 5;
my $stopped = worker_started('--timeout', 5, '--batch', 5, '--lease', 60);
ok(eventually(sub { grep { $_->{about} =~ /^slow/ } @{ ledger()->{requests} } }, 20), 'a worker is at work');
is(ended($stopped, 'TERM'), 0, 'SIGTERM ends it with 0');
cmp_ok(count_of("refunds WHERE payment_ref LIKE 'slow%' AND state = 'succeeded'"), '>', 0, 'the call in hand is finished');
cmp_ok(count_of("refunds WHERE payment_ref LIKE 'slow%' AND state = 'pending' AND attempts = 0
	AND last_error = 'not begun: the worker stops'"), '>', 0, 'what was not begun is given back, without an attempt used up');
is(count_of("refunds WHERE state = 'processing'"), 0, 'no lease is left behind');
ok(eventually(sub { !ended(worker_started('--once')) && !count_of("refunds WHERE payment_ref LIKE 'slow%' AND settled_at IS NULL") }),
	'with --once it does what is due, and ends');

# ------------------------------------------------------------ an answer byte by byte

late_payment('drip', 100);
is(ended(worker_started('--once')), 0, 'a worker meets an answer that comes byte by byte');
is(count_of("refunds WHERE payment_ref = 'drip' AND state = 'unknown' AND last_error = 'POST: no answer within $TIMEOUT s'"), 1,
	'and does not wait for its end');

# ------------------------------------------------------------ a gateway that is down

late_payment('down', 100);
ended($gateway, 'KILL');
is(ended(worker_started('--once')), 0, 'with a gateway that is down, --once ends');
is(count_of("refunds WHERE payment_ref = 'down' AND state = 'pending' AND attempts = 0 AND last_error LIKE 'no connection:%'"), 1,
	'and uses up no attempt');
ok(!$server->log_contains(qr/PANIC|was terminated by signal|TRAP:/), 'no backend has crashed');

done_testing();
