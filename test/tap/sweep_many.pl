# Several sweeps share what is due, payments go on meanwhile; one sweep alone
# goes through a backlog oldest first, in bounded transactions.

use strict;
use warnings;

use OTServer;
use OTTest;
use Test::More;
use Time::HiRes qw(time);

my ($shared, $backlog, $batch) = (20_000, 30_000, 500);

# When a row was committed is in pg_xact_commit_timestamp.
my $server = OTServer->started('many', track_commit_timestamp => 'on');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');
my $closing = closing_event($dbh);

# Makes so many orders in two sessions at once.
sub make {
	my ($prefix, $count, $deadline) = @_;
	answers(fork_all(2, sub {
		my ($number) = @_;
		create_orders($server->dbh('shop'), $prefix, 1 + $count / 2 * ($number - 1), $count / 2 * $number, $deadline);
		return [];
	}));
	return;
}

# Deadlines lie in the future when an order is made: measure how long making
# them takes, and let these ones stay to see that nobody closes them.
my $start = time;
make('later', 2000, "now() + interval '1 day'");
my $due = time + 3 + 1.7 * (time - $start) * ($shared + $backlog) / 2000;
# Of two orders the one made later is due earlier, so that oldest first is not
# the order of the table.
make('shared',  $shared,  "to_timestamp($due - i * 0.00001)");
make('backlog', $backlog, "to_timestamp($due + 10 - i * 0.00001)");
wait_until_clock($due);

# ------------------------------------------------ several sweeps at once

$start = time;
# A database's default may be any of these; a sweep has no use for more than
# the first, and nobody to call it again.
my @levels = ('read committed', 'repeatable read', 'serializable', 'serializable');
my $sweepers = fork_all(4, sub {
	my ($number) = @_;
	my $mine = $server->dbh('shop');
	$mine->do("SET default_transaction_isolation = '$levels[$number - 1]'");
	my $sqlstate = error_of($mine, sub { $mine->do("CALL order_timeout.sweep('6 seconds', $batch)") });
	return { level => $levels[ $number - 1 ], sqlstate => $sqlstate };
});
my $payers = fork_all(2, sub {
	my ($number) = @_;
	my $mine = $server->dbh('shop');
	$mine->do("SET default_transaction_isolation = 'serializable'");
	my %answer;
	srand 1;    # both pay for the same orders
	my $end = $start + 5;
	while (time < $end) {
		my $i = 1 + int rand $shared;
		my $outcome = eval { call($mine, 'record_payment', "shared$i", "gate$number", "p$i", 100, 'EUR')->{outcome} };
		die $@ unless defined $outcome || $mine->state eq '40001';
		$answer{$outcome}++ if defined $outcome;
	}
	return \%answer;
});
my @paid = answers($payers);
is_deeply([ map { "$_->{level}: $_->{sqlstate}" } answers($sweepers) ], [ map { "$_: " } @levels ],
	'four sweeps work until their time is up');

my $sweeps = $dbh->selectall_arrayref(
	'SELECT expired, failed, batches, ended_at FROM order_timeout.sweeps ORDER BY sweep_id', { Slice => {} });
diag(sprintf '%d orders shared by four sweeps: %s', $shared, join ', ', map { $_->{expired} } @$sweeps);
is(scalar(grep { $_->{failed} } @$sweeps), 0, 'none failed at an order');
is(scalar(grep { !defined $_->{ended_at} } @$sweeps), 0, 'all have ended');
is(scalar(grep { $_->{expired} > $_->{batches} * $batch } @$sweeps), 0, 'in batches');

my %state = map { @$_ } @{ $dbh->selectall_arrayref(
	"SELECT state, count(*) FROM order_timeout.orders WHERE order_id LIKE 'shared%' GROUP BY state") };
my %outcome;
for my $answer (@paid) {
	$outcome{$_} += $answer->{$_} for keys %$answer;
}
diag('payments meanwhile: ' . join ', ', map { "$outcome{$_} $_" } sort keys %outcome);
is_deeply([ sort keys %state ], [qw(expired paid)], 'nothing due is left, some were paid in time');
is($state{paid}, $outcome{paid}, 'those that were told so');
my $expired = 0;
$expired += $_->{expired} for @$sweeps;
is($expired, $state{expired}, 'each of the others was expired by one sweep');
is_deeply($dbh->selectall_arrayref(<<'END', undef, $closing), [], 'with one event, and paid ones with none');
SELECT o.order_id, o.state, count(e.id)
  FROM order_timeout.orders o LEFT JOIN order_timeout.events e ON e.aggregateid = o.order_id AND e.type = ?
 WHERE o.order_id LIKE 'shared%'
 GROUP BY o.order_id HAVING count(e.id) <> CASE o.state WHEN 'expired' THEN 1 ELSE 0 END
END
cmp_ok($outcome{late}, '>', 0, 'some payments came too late');
is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE reason = 'late'"), $outcome{late},
	'each of these is refunded');
balanced($dbh, 'the funds');
sums_agree($dbh, 'the sums');

# ------------------------------------------------ one sweep, a backlog

wait_until_clock($due + 10);
$start = time;
my ($sweeper) = @{ fork_all(1, sub {
	$server->dbh('shop')->do("CALL order_timeout.sweep('20 seconds', $batch)");
	return [];
}) };
ok(eventually(sub {
	!$dbh->selectrow_array("SELECT count(*) FROM order_timeout.orders WHERE order_id LIKE 'backlog%' AND state = 'pending'");
}, 40), 'the whole backlog is closed');
diag(sprintf '%d orders in %.1f s', $backlog, time - $start);

my $batches = $dbh->selectall_arrayref(<<'END', { Slice => {} });
SELECT pg_xact_commit_timestamp(xmin) AS committed, count(*) AS orders,
       min(expires_at) AS oldest, max(expires_at) AS newest,
       coalesce(min(expires_at) >= lag(max(expires_at)) OVER (ORDER BY pg_xact_commit_timestamp(xmin)), true) AS in_turn
  FROM order_timeout.orders WHERE order_id LIKE 'backlog%'
 GROUP BY 1 ORDER BY 1
END
cmp_ok(scalar @$batches, '>=', $backlog / $batch, 'in as many transactions as that takes');
is(scalar(grep { $_->{orders} > $batch } @$batches), 0, 'none larger than the batch size');
is(scalar(grep { !$_->{in_turn} } @$batches), 0, 'oldest deadline first');
is($dbh->selectrow_array('SELECT count(*) FROM order_timeout.events e WHERE e.type = ?', undef, $closing),
	1 + $state{expired} + $backlog, 'an event each');
is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.orders WHERE order_id LIKE 'later%' AND state = 'pending'"),
	2000, 'what is not due is left alone');
balanced($dbh, 'the funds');

# The sweep is idle now and need not be waited for.
$dbh->do("SELECT pg_terminate_backend(pid) FROM order_timeout.sweeps ORDER BY sweep_id DESC LIMIT 1");
eval { answers([$sweeper]) };

done_testing();
