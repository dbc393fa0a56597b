# The handler of operations.md, in PL/Python, and a gateway that fails, times out, answers twice and dies: every refund
# moves money exactly once, and the books agree with the gateway's to the unit.

use strict;
use warnings;

use DBD::Pg qw(:async);
use FindBin;
use OTGateway;
use OTServer;
use OTTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $server = OTServer->started('http');
my $package = 'postgresql-plpython3-' . ($ENV{PGMAJOR} // 'N');
plan skip_all => "PL/Python is not installed (Debian package $package)"
	unless $server->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'plpython3u'");
$server->safe_psql('postgres', 'CREATE DATABASE shop; ');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');

my $gateway = OTGateway->started($server->basedir . '/gateway');
END {
	my $status = $?;
	$gateway->stop if $gateway;
	$? = $status;
}

# ------------------------------------------------------------ the handler, as it is documented

my $page = PostgreSQL::Test::Utils::slurp_file("$FindBin::Bin/../../doc/operations.md");
my ($handler) = $page =~ /^```sql\n(CREATE EXTENSION plpython3u;\n.*?)^```$/ms or BAIL_OUT('operations.md has no handler');
is($handler =~ s{https://gateway\.example/refunds}{$gateway->url}eg, 1, 'the handler of the page calls a gateway');
is($handler =~ s/timeout=10/timeout=1/g, 1, 'with a timeout');
# Each reads the socket once, and the page shows it all.
is(error_of($dbh, sub { $dbh->do($_) }), '', 'it is set: ' . substr $_, 0, 20) for split /^(?=CREATE|SELECT)/m, $handler;

# A refund is open to another after the longest that the handler takes: a query and a submit.
$dbh->do("UPDATE order_timeout.policies SET refund_backoff = '100 milliseconds', refund_backoff_max = '500 milliseconds',
	refund_max_attempts = 50, refund_lease = '4 seconds' WHERE policy = 'default'");

# ------------------------------------------------------------ refunds

my ($owed, $number) = (0, 0);
for my $kind (OTGateway->payments) {
	for my $i (1 .. 4) {
		my $amount = 100 + ++$number;
		call($dbh, 'create_order', "$kind-$i", $amount, 'EUR', '1 hour');
		call($dbh, 'cancel_order', "$kind-$i");
		call($dbh, 'record_payment', "$kind-$i", 'bank', "$kind-$i", $amount, 'EUR')->{outcome} eq 'late' or die "not late\n";
		$owed += $amount;
	}
}

sub all_back {
	my ($mine) = @_;
	return !$mine->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE state <> 'succeeded'");
}
my $end = time + 120;
my $senders = fork_all(2, sub {
	my $mine = $server->dbh('shop');
	$mine->do("CALL order_timeout.send_refunds('3 seconds')") until time > $end || all_back($mine);
	return [];
});

# Someone cancels a third one again and again; webhooks come meanwhile, each of them twice.
my ($cancelled, %told) = (0);
my $third = $server->dbh('shop');
my ($pid) = $third->selectrow_array('SELECT pg_backend_pid()');
until (time > $end || all_back($dbh)) {
	$third->do("CALL order_timeout.send_refunds('3 seconds')", { pg_async => PG_ASYNC });
	sleep 0.5 + rand;
	$dbh->do('SELECT pg_cancel_backend(?)', undef, $pid);
	$cancelled++ if ended_with($third) eq '57014';
	for my $row (grep { $_->[1] =~ /^(?:twice|dies|slow)-/ } @{ $gateway->ledger }) {
		$told{ call($dbh, 'complete_refund', $row->[0], 'succeeded', undef, "gw-$row->[0]")->{outcome} }++ for 1, 2;
	}
}
answers($senders);

# ------------------------------------------------------------ the books

ok(all_back($dbh), 'all refunds succeed')
	or diag(explain($dbh->selectall_arrayref("SELECT * FROM order_timeout.refunds WHERE state <> 'succeeded'", { Slice => {} })));
my %moved;
push @{ $moved{ $_->[0] } }, $_ for @{ $gateway->ledger };
is(scalar(grep { @$_ > 1 } values %moved), 0, 'no key moved money twice');
is_deeply(
	[ sort map { "@{$_->[0]}" } values %moved ],
	[ sort map { "@$_" } @{ $dbh->selectall_arrayref('SELECT refund_ref, payment_ref, amount FROM order_timeout.refunds') } ],
	'each refund moved its money, and nothing else moved');
my $sum = 0;
$sum += $_->[2] for @{ $gateway->ledger };
is($sum, $owed, "the gateway returned what was owed: $owed");
is($dbh->selectrow_array('SELECT sum(refunded) FROM order_timeout.orders'), $owed, 'so say the orders');
is($dbh->selectrow_array('SELECT sum(refund_pending + held) FROM order_timeout.orders'), 0, 'nothing is owed any more');
is($dbh->selectrow_array('SELECT count(*) FROM order_timeout.refunds WHERE gateway_refund_ref IS DISTINCT FROM \'gw-\' || refund_ref'),
	0, 'with the gateway\'s numbers');
is($dbh->selectrow_array('SELECT count(*) FROM order_timeout.conflicts'), 0, 'no conflict');
is($dbh->selectrow_array('SELECT count(*) FROM order_timeout.attention'), 0, 'the operator has nothing to do');
balanced($dbh, 'the funds');
sums_agree($dbh, 'the sums');

# That it was put to the test.
my %did;
$did{ $_->[2] }++ for @{ $gateway->requests };
diag(join ', ', map { "$did{$_} $_" } sort keys %did);
diag("$cancelled cancelled, webhooks: " . join ', ', map { "$told{$_} $_" } sort keys %told);
is_deeply([ grep { !$did{$_} } qw(500 die fail known paycut paydie paygarbled payslow paysubmitted paytwice pay500 slowpay unknown) ], [],
	'the gateway did all of that');
cmp_ok($cancelled, '>', 0, 'calls were cancelled');
my @attempts = @{ $dbh->selectcol_arrayref("SELECT attempts FROM order_timeout.refunds WHERE payment_ref LIKE 'refuses-%'") };
is(scalar(grep { $_ < 2 } @attempts), 0, 'what was refused twice took three attempts');
is(scalar(grep { !/^(?:recorded|duplicate)$/ } keys %told), 0, 'webhooks are recorded or recognised');
ok(!$server->log_contains(qr/PANIC|was terminated by signal|TRAP:/), 'no backend has crashed');

done_testing();
