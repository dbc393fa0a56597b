# The demonstration, short: it comes to its end, and every order, unit and attempt to pay is accounted for.

use strict;
use warnings;

use FindBin;
use OTServer;
use OTTest;
use Test::More;

my $root = "$FindBin::Bin/../..";
my $orders = 250;
my $server = OTServer->started('demo');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');

sub count { return $dbh->selectrow_array("SELECT count(*) FROM order_timeout.$_[0]") }

my $said = do {
	local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($server->host, $server->port, 'shop');
	qx($^X $root/demo/shop.pl --quick --seconds 6 --orders $orders --seed 7 2>&1);
};
is($?, 0, 'the demonstration comes to its end') or diag($said);
like($said, qr/^every unit accounted for:/m, 'it says that every unit is accounted for');
like($said, qr/^  the gateway's sessions +nothing differs$/m, 'no session that was ended took a payment');

is(count('orders'), $orders, 'all orders were created');
is(count("orders WHERE state NOT IN ('paid', 'expired', 'cancelled')"), 0, '... and came to their end');
is(count('attempts WHERE settled_at IS NULL'), 0, 'so did all attempts');
cmp_ok(count("attempts WHERE state = 'voided'"), '>', 0, 'some of them were voided');
is(count("attempts WHERE state = 'voided' AND captured > 0"), 0, '... and brought no payment');
is(count("attempts a JOIN order_timeout.orders o USING (order_id) WHERE a.state = 'voided' AND policy <> 'shop_asks'"),
	0, '... all of them of the policy that asks');

my @policies = qw(shop shop_asks);
for my $column (0, 1) {
	my %figure = map { $_ => ($said =~ /^ +$_ +(\d+) +(\d+)$/m)[$column] } qw(orders paid expired cancelled);
	my $all = count("orders WHERE policy = '$policies[$column]'");
	is($figure{orders}, $all, "the report has all orders of the policy $policies[$column]");
	is($figure{paid} + $figure{expired} + $figure{cancelled}, $figure{orders}, '... each with its end');
}
balanced($dbh, 'the funds');

done_testing();
