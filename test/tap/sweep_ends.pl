# A sweep that is told to end does so at once and leaves nothing half done;
# while it waits it holds nothing and costs next to nothing.

use strict;
use warnings;

use DBD::Pg qw(:async);
use OTServer;
use OTTest;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $patience = 5;    # seconds; the contract's second, on a busy machine

my $server = OTServer->started('ends');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = prepared();
my $closing = closing_event($dbh);
create_orders($dbh, 'later', 1, 500, "now() + interval '1 day'");
my $made = 0;

sub prepared {
	my $new = $server->dbh('shop');
	$new->do('CREATE EXTENSION IF NOT EXISTS order_timeout');
	return $new;
}

# A trigger makes closing slow, so that an end comes in the middle of it.
sub slow_closing {
	my ($seconds) = @_;
	$dbh->do("CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_catalog.pg_sleep($seconds); RETURN NEW; END'");
	$dbh->do("CREATE OR REPLACE TRIGGER slow BEFORE UPDATE ON order_timeout.orders FOR EACH ROW
		WHEN (NEW.state = 'expired') EXECUTE FUNCTION slow()");
	return;
}

# Closes what an ended sweep has left, however long it takes.
sub clear_up {
	$dbh->do('ALTER TABLE order_timeout.orders DISABLE TRIGGER slow');
	$dbh->do('SELECT order_timeout.sweep_once(10000)');
	$dbh->do('ALTER TABLE order_timeout.orders ENABLE TRIGGER slow');
	return;
}

# Due orders, each with a part payment, so that closing one writes all tables.
sub due_orders {
	my ($count) = @_;
	my $prefix = 'due' . ++$made . '-';
	my ($deadline) = $dbh->selectrow_array("SELECT clock_timestamp() + interval '2 seconds'");
	create_orders($dbh, $prefix, 1, $count, "'$deadline'");
	$dbh->do("SELECT order_timeout.record_payment(? || i, 'gate', ? || i, 40, 'EUR')
		FROM generate_series(1, ?::int) AS i", undef, $prefix, $prefix, $count);
	$dbh->do("SELECT pg_sleep(greatest(0, extract(epoch FROM ?::timestamptz - clock_timestamp())))",
		undef, $deadline);
	return $prefix;
}

sub count_of {
	my ($prefix, $state) = @_;
	return $dbh->selectrow_array(
		'SELECT count(*) FROM order_timeout.orders WHERE starts_with(order_id, ?) AND state = ?',
		undef, $prefix, $state);
}

# Each order is pending as it was, or expired with one event and its refund.
sub nothing_half_done {
	my ($name) = @_;
	my $wrong = $dbh->selectall_arrayref(<<'END', { Slice => {} }, $closing);
SELECT * FROM (
    SELECT o.order_id, o.state,
           (SELECT count(*) FROM order_timeout.events e WHERE e.aggregateid = o.order_id AND e.type = ?) AS closings,
           (SELECT count(*) FROM order_timeout.refunds r WHERE r.order_id = o.order_id) AS refunds
      FROM order_timeout.orders o WHERE o.order_id LIKE 'due%') AS found
 WHERE (state, closings, refunds) NOT IN (('pending', 0, 0), ('expired', 1, 1))
END
	is(scalar @$wrong, 0, "$name: every order is pending or wholly expired") or diag(explain($wrong));
	is($dbh->selectrow_array('SELECT count(*) FROM order_timeout.set_aside'), 0, "$name: none set aside");
	balanced($dbh, "$name: the funds");
	return;
}

# A session in which a sweep is under way: at work, or waiting for the next
# deadline.
sub sweeping {
	my ($what) = @_;
	my $session = $server->dbh('shop');
	my $pid = $session->{pg_pid};
	my $prefix = $what eq 'at work' ? due_orders(300) : '';

	$session->do("CALL order_timeout.sweep('1 minute', 20)", { pg_async => PG_ASYNC });
	my $under_way = $prefix
		? sub { count_of($prefix, 'expired') > 0 }
		: sub { $dbh->selectrow_array('SELECT count(*) FROM order_timeout.sweeps WHERE pid = ?', undef, $pid) };
	eventually($under_way) or die "the sweep does not start\n";
	return ($session, $pid, $prefix);
}

# Waits for a session's statement; returns the seconds and the complaint.
sub ended {
	my ($session, $start) = @_;
	my $complaint = ended_with($session) . ' ' . ($session->errstr // '');
	return (time - $start, $complaint);
}

# ------------------------------------------------------------ while it waits

{
	my ($session, $pid) = sweeping('waiting');
	my $statistics = "/proc/$pid/stat";
	my $cpu = sub {
		open my $in, '<', $statistics or return;
		my (undef, $rest) = split /\) /, readline($in), 2;
		my @field = split ' ', $rest;
		return ($field[11] + $field[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
	};
	my ($looks, $busy, %seen) = (0, 0);
	my ($from, $used) = (time, $cpu->());

	while (time < $from + 10) {
		my ($xmin, $xid, $active) = $dbh->selectrow_array(
			'SELECT backend_xmin, backend_xid, state FROM pg_stat_activity WHERE pid = ?', undef, $pid);
		die "the sweep is over: $active\n" unless $active eq 'active';
		my $locks = $dbh->selectcol_arrayref(<<'END', undef, $pid);
SELECT DISTINCT virtualtransaction FROM pg_locks
 WHERE pid = ? AND NOT (locktype = 'virtualxid' AND virtualxid = virtualtransaction)
END
		$looks++;
		$busy++ if defined $xmin || defined $xid || @$locks;
		# One transaction in two looks at its locks held them in between.
		$seen{$_}++ for @$locks;
		sleep 0.17;
	}
	diag("of $looks looks at a waiting sweep, $busy found a snapshot or a lock");
	cmp_ok($busy, '<', $looks / 2, 'while it waits it holds no snapshot, no transaction id and no lock');
	is(scalar(grep { $_ > 1 } values %seen), 0, 'a lock is held for no longer than a look');
SKIP: {
		skip 'no /proc here', 1 unless defined $used;
		my $share = 100 * ($cpu->() - $used) / (time - $from);
		diag(sprintf 'it used %.1f %% of a processor', $share);
		cmp_ok($share, '<', 10, 'and costs next to nothing');
	}
	$dbh->do('SELECT pg_terminate_backend(?)', undef, $pid);
}

# ------------------------------------------------------------ told to end

{
	my $start = time;
	my ($rc, undef, $err) = $server->psql('shop', "CALL order_timeout.sweep('1 second')");
	is("$rc$err", '0', 'its time is up: it ends by itself');
	my $took = time - $start;
	cmp_ok($took, '>', 0.9, 'not before');
	cmp_ok($took, '<', 1 + $patience, sprintf 'but then (%.2f s)', $took);
}

slow_closing(0.01);
for my $what ('waiting', 'at work') {
	for my $way (qw(cancel terminate)) {
		my ($session, $pid, $prefix) = sweeping($what);
		my $start = time;
		$dbh->do("SELECT pg_${way}_backend(?)", undef, $pid);
		my ($took, $complaint) = ended($session, $start);

		cmp_ok($took, '<', $patience, sprintf '%s, %s: it ends (%.2f s)', $what, $way, $took);
		like($complaint, $way eq 'cancel' ? qr/^57014/ : qr/terminating connection/,
			"$what, $way: and says why");
		cmp_ok(count_of($prefix, 'pending'), '>', 0, "$what, $way: in the middle") if $prefix;
		nothing_half_done("$what, $way");
	}
}
clear_up();
is(count_of('due', 'pending'), 0, 'the next sweep closes what was left');

slow_closing(0.02);
for my $batch (20, 1000) {
	for my $what ('waiting', 'at work') {
		my $name = "$what, batches of $batch";
		my $prefix = $what eq 'at work' ? due_orders(300) : '';
		my $start = time;
		my ($rc, undef, $err) = $server->psql('shop',
			"SET statement_timeout = '2s';\nCALL order_timeout.sweep('1 minute', $batch)");
		is("$rc$err", '0', sprintf '%s: it ends before statement_timeout would (%.2f s)', $name, time - $start);
		cmp_ok(count_of($prefix, 'expired'), '>', 0, "$name: what it did is there") if $prefix;
		nothing_half_done("$name, statement_timeout");
	}
	clear_up();
}

for my $what ('waiting', 'at work') {
	my ($session) = sweeping($what);
	my $start = time;
	$server->stop('fast');
	my $took = time - $start;
	cmp_ok($took, '<', $patience, sprintf '%s: a fast shutdown does not wait for it (%.2f s)', $what, $took);
	$server->start;
	$dbh = prepared();
	nothing_half_done("$what, shutdown");
}
clear_up();

{
	my ($session) = sweeping('waiting');
	my $start = time;
	my ($took, $sqlstate);
	# It locks one table after the other: if it meets a look on its way, one of
	# the two is told to try again.
	for (1 .. 3) {
		$sqlstate = error_of($dbh, sub { $dbh->do('DROP EXTENSION order_timeout') });
		last if $sqlstate ne '40P01';
	}
	$took = time - $start;
	is($sqlstate, '', 'DROP EXTENSION while it runs');
	cmp_ok($took, '<', $patience, sprintf 'does not wait for it (%.2f s)', $took);
	($took) = ended($session, time);
	cmp_ok($took, '<', $patience, sprintf 'and it ends without its tables (%.2f s)', $took);

	my $other = prepared();
	call($other, 'create_order', 'again', 100, 'EUR', '10 milliseconds');
	is(error_of($session, sub { $session->do("CALL order_timeout.sweep('500 milliseconds')") }), '', 'the same session sweeps when the extension is back');
	is($other->selectrow_array("SELECT state FROM order_timeout.orders WHERE order_id = 'again'"), 'expired',
		'with the new tables');
}

ok(!$server->log_contains(qr/PANIC|was terminated by signal|TRAP:/), 'no backend has crashed');

done_testing();
