# The server crashes in the middle of everything: what was acknowledged is
# there, the rest is not there or whole, and work goes on.

use strict;
use warnings;

use DBD::Pg qw(:async);
use OTServer;
use OTTest;
use Test::More;

my $server = OTServer->started('restart');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');
my $closing = closing_event($dbh);

for my $round (1, 2) {
	my $orders = 2000;
	create_orders($dbh, "r$round-",  1, $orders, "now() + interval '1 day'");
	create_orders($dbh, "due$round-", 1, 400, "clock_timestamp() + i * interval '10 milliseconds'");

	# Half of these refunds are at a worker's when the server ends.
	create_orders($dbh, "back$round-", 1, 20, "now() + interval '1 day'");
	for my $i (1 .. 20) {
		call($dbh, 'record_payment', "back$round-$i", 'slow gate', "back$round-$i", 50, 'EUR');
		call($dbh, 'cancel_order', "back$round-$i");
	}
	my $leased = rows($dbh, 'claim_refunds', "worker $round", 10, '2 seconds', 'slow gate');
	is(scalar @$leased, 10, "round $round: a worker has refunds under way");

	my $sweeper = $server->dbh('shop');
	$sweeper->do('CALL order_timeout.sweep()', { pg_async => PG_ASYNC });
	my $payers = fork_all(4, sub {
		my ($number) = @_;
		my (%answer, $ref);
		srand $number;
		eval {
			my $mine = $server->dbh('shop');
			for my $i (1 .. 1_000_000) {
				$ref = sprintf 'r%d-n%d-%d', $round, $number, $i;
				$answer{$ref} = 'none yet';
				$answer{$ref} = call($mine, 'record_payment', "r$round-" . (1 + int rand $orders),
					'gate', $ref, 60, 'EUR')->{outcome};
			}
		};
		return \%answer;
	});
	ok(eventually(sub {
		$dbh->selectrow_array("SELECT count(*) > 200 FROM order_timeout.payments WHERE payment_ref LIKE 'r$round-%'")
			&& $dbh->selectrow_array(
				"SELECT count(*) > 0 FROM order_timeout.orders WHERE order_id LIKE 'due$round-%' AND state = 'expired'");
	}), "round $round: payments and the sweeper are at work");
	$server->stop('immediate');
	my %answer = map { %$_ } answers($payers);
	$server->start;
	$dbh = $server->dbh('shop');

	my $there = $dbh->selectall_hashref(
		"SELECT payment_ref, order_id FROM order_timeout.payments WHERE payment_ref LIKE 'r$round-%'", 'payment_ref');
	my @acknowledged = grep { $answer{$_} ne 'none yet' } keys %answer;
	diag(sprintf 'round %d: %d payments acknowledged, %d there', $round, scalar @acknowledged, scalar keys %$there);
	is(scalar(grep { !$there->{$_} } @acknowledged), 0, "round $round: every acknowledged payment is there");
	is(scalar(grep { !exists $answer{$_} } keys %$there), 0, "round $round: and none that nobody sent");
	balanced($dbh, "round $round: the funds");
	sums_agree($dbh, "round $round: the sums");

	is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE state = 'processing'"), 10,
		"round $round: the leases are there");
	$dbh->do("SELECT pg_sleep(greatest(0, extract(epoch FROM max(leased_until) - clock_timestamp())))
		FROM order_timeout.refunds");
	$dbh->do("CALL order_timeout.sweep('1 second')");
	is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE state = 'processing'"), 0,
		"round $round: lapsed leases are taken back");
	my $again = rows($dbh, 'claim_refunds', 'another worker', 100, undef, 'slow gate');
	my %action = map { $_->{refund_ref} => $_->{action} } @$again;
	is_deeply([ map { $action{ $_->{refund_ref} } } @$leased ], [ ('query') x 10 ],
		"round $round: another worker gets them, to ask first");
	call($dbh, 'complete_refund', $_->{refund_ref}, 'succeeded', $_->{lease_token}) for @$again;

	ok(eventually(sub {
		$dbh->do("CALL order_timeout.sweep('200 milliseconds')");
		!$dbh->selectrow_array("SELECT count(*) FROM order_timeout.orders WHERE order_id LIKE 'due%' AND state = 'pending'");
	}, 10), "round $round: the sweeper goes on");
	is($dbh->selectrow_array(<<'END', undef, $closing), 0, "round $round: each was closed once");
SELECT count(*) FROM (
    SELECT FROM order_timeout.orders o LEFT JOIN order_timeout.events e ON e.aggregateid = o.order_id AND e.type = ?
     WHERE o.order_id LIKE 'due%' GROUP BY o.order_id HAVING count(e.id) <> 1) AS found
END
	balanced($dbh, "round $round: the funds, later");
}

is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE order_id LIKE 'back%' AND state = 'succeeded'"),
	40, 'no refund was lost');

done_testing();
