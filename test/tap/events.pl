# Everything that can happen, once each: the events that come of it are those
# that the reference lists, with the members that it lists.

use strict;
use warnings;

use FindBin;
use OTServer;
use OTTest;
use Test::More;

my $root = "$FindBin::Bin/../..";

my $server = OTServer->started('events');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');
$dbh->do("INSERT INTO order_timeout.policies (policy, on_late, refund_backoff, refund_backoff_max)
	VALUES (?, ?, '1 ms', '1 ms')", undef, @$_)
	for [ 'quick', 'refund' ], [ 'reopen', 'reopen' ], [ 'hold', 'hold' ];

sub order { return call($dbh, 'create_order', $_[0], 100, 'EUR', $_[2] // '1 hour', undef, $_[1] // 'quick') }

my $payments = 0;

sub pay {
	my ($order, $amount, $currency) = @_;
	$payments++;
	call($dbh, 'record_payment', $order, 'gate', "pay-$payments", $amount // 100, $currency // 'EUR');
	return "pay-$payments";
}

# Waits for a refund of this payment to be due, and has it.
sub claimed {
	my ($payment, $lease) = @_;
	my $refund;
	eventually(sub {
		($refund) = grep { $_->{payment_ref} eq $payment } @{ rows($dbh, 'claim_refunds', 'worker', 100, $lease // '1 hour') };
		return $refund;
	}) or die "the refund of $payment is not due\n";
	return $refund;
}

sub complete {
	my ($refund, $result, @more) = @_;
	return call($dbh, 'complete_refund', $refund->{refund_ref}, $result, $refund->{lease_token}, @more)->{outcome};
}

# ------------------------------------------------------------ orders and payments

call($dbh, 'create_order', 'free', 0, 'EUR');
$dbh->do("INSERT INTO order_timeout.policies (policy, remind_before) VALUES ('remind', '2 hours')");
order('soon', 'remind');
call($dbh, 'sweep_once');
order('parts');
call($dbh, 'extend_order', 'parts', '2100-01-01');
call($dbh, 'set_deadline', 'parts', '2099-01-01');
pay('parts', @$_) for [40], [60], [10], [ 5, 'USD' ];
order('cancelled');
call($dbh, 'cancel_order', 'cancelled', 'changed my mind');
pay('cancelled');
order('reopened', 'reopen', '20 ms');
ok(eventually(sub { call($dbh, 'expire_order', 'reopened')->{outcome} eq 'expired' }), 'an order expires');
pay('reopened');

# A hook that fails after a payment, is tried again, and given up.
$dbh->do($_) for 'CREATE TABLE broken ()',
	"CREATE FUNCTION on_paid(text[]) RETURNS void LANGUAGE plpgsql AS \$\$BEGIN IF to_regclass('broken') IS NOT NULL THEN RAISE 'broken'; END IF; END\$\$",
	"SELECT order_timeout.set_hook('hold', 'paid_hook', 'on_paid')";
for my $order (qw(followed given-up)) {
	order($order, 'hold');
	pay($order);
}
call($dbh, 'resolve_link', 'given-up', 'hook', 'delivered by hand');
$dbh->do($_) for 'DROP TABLE broken', "SELECT order_timeout.set_hook('hold', 'paid_hook', 'on_paid')", 'SELECT order_timeout.sweep_once()';
for my $decision ('accept', 'refund') {
	order($decision, 'hold');
	call($dbh, 'cancel_order', $decision);
	call($dbh, 'resolve_held', 'gate', pay($decision), $decision);
}
order('accepted late');
call($dbh, 'cancel_order', 'accepted late');
call($dbh, 'accept_payment', 'gate', pay('accepted late'), 'in stock again');
order('accepted short');
pay('accepted short', 60);
call($dbh, 'accept_short', 'accepted short', 'a regular');
pay('nobody knows');

order('set aside', 'quick', '20 ms');
$dbh->do(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$});
$dbh->do('CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.orders FOR EACH ROW EXECUTE FUNCTION refuse()');
ok(eventually(sub { call($dbh, 'sweep_once')->{failed} }), 'an order is set aside');
$dbh->do('DROP TRIGGER refuse ON order_timeout.orders');

# ------------------------------------------------------------ attempts

$dbh->do("INSERT INTO order_timeout.policies (policy, before_close, attempt_hold, refund_backoff, refund_backoff_max)
	VALUES ('ask', 'void', '1 hour', '1 ms', '1 ms')");

# Waits for the void of this attempt to be due, and has it.
sub claimed_void {
	my ($attempt, $lease) = @_;
	my $void;
	eventually(sub {
		($void) = grep { $_->{attempt_ref} eq $attempt } @{ rows($dbh, 'claim_voids', 'worker', 100, $lease // '1 hour') };
		return $void;
	}) or die "the void of $attempt is not due\n";
	return $void;
}

sub complete_void {
	my ($void, $result, $error) = @_;
	return call($dbh, 'complete_void', 'gate', $void->{attempt_ref}, $result, $void->{lease_token}, $error)->{outcome};
}

order('attempted', 'ask');
call($dbh, 'begin_attempt', 'attempted', 'gate', $_, '10 minutes') for 'part', 'whole';
is(call($dbh, 'authorize_attempt', 'gate', 'part', 50, 'EUR', '2100-01-01')->{outcome}, 'partial', 'a part is promised');
is(call($dbh, 'authorize_attempt', 'gate', 'whole', 100, 'EUR', '2100-01-01')->{outcome}, 'authorized', 'all of it is');
call($dbh, 'end_attempt', 'gate', 'whole', 'failed');
call($dbh, 'cancel_order', 'attempted');
claimed_void('part', '1 ms');
ok(eventually(sub { call($dbh, 'sweep_once')->{leases_returned} }), 'the lease of a void lapses');
is(complete_void(claimed_void('part'), $_, 'busy'), 'recorded', "the void is $_") for qw(failed unknown deferred rejected);
is(call($dbh, 'retry_void', 'gate', 'part')->{outcome}, 'retried', 'the void is tried again');
is(complete_void(claimed_void('part'), 'voided'), 'recorded', 'voided');

order('asked first', 'ask', '20 ms');
call($dbh, 'begin_attempt', 'asked first', 'gate', 'asked');
ok(eventually(sub { call($dbh, 'expire_order', 'asked first')->{outcome} eq 'closing' }), 'the gateway is asked first');
is(complete_void(claimed_void('asked'), 'paid'), 'recorded', 'and says that it is paid');
order('another');
is(call($dbh, 'record_payment', 'another', 'gate', 'named wrong', 100, 'EUR', undef, undef, 'asked')->{outcome}, 'paid',
	'a payment names an attempt of another order');

# ------------------------------------------------------------ refunds

order('refunded');
call($dbh, 'cancel_order', 'refunded');
my $payment = pay('refunded');
is(complete(claimed($payment), $_, undef, "this is $_"), 'recorded', $_) for qw(failed unknown submitted deferred rejected);
my ($ref) = $dbh->selectrow_array('SELECT refund_ref FROM order_timeout.refunds WHERE payment_ref = ?', undef, $payment);
call($dbh, 'retry_refund', $ref);
claimed($payment, '1 ms');
ok(eventually(sub { call($dbh, 'sweep_once')->{leases_returned} }), 'a lease lapses');
is(complete(claimed($payment), 'succeeded', 'gate-1'), 'recorded', 'succeeded');
is(complete({ refund_ref => $ref }, 'succeeded', 'gate-2'), 'conflict', 'contradicted');
call($dbh, 'resolve_conflict', 1, 'looked at');
my $new = call($dbh, 'reverse_refund', $ref, 'came back');
call($dbh, 'settle_refund', $new->{new_refund_ref}, 'by cheque');
call($dbh, 'record_refund', 'gate', 'pay-1', 'gate-3', 40);
order('asked');
pay('asked');
my ($asked) = map { $_->{refund_ref} } @{ rows($dbh, 'request_refund', 'asked', 'key', 10) };
is(call($dbh, 'stop_refund', $asked, 'wait')->{outcome}, 'stopped', 'stopped');
is(call($dbh, 'withdraw_refund', $asked, 'kept it')->{outcome}, 'withdrawn', 'withdrawn');

order('refund set aside');
call($dbh, 'cancel_order', 'refund set aside');
pay('refund set aside');
$dbh->do('CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.refunds FOR EACH ROW EXECUTE FUNCTION refuse()');
rows($dbh, 'claim_refunds', 'worker', 100);
$dbh->do('DROP TRIGGER refuse ON order_timeout.refunds');

call($dbh, 'create_order', 'forgotten', 0, 'EUR');
call($dbh, 'forget_order', 'forgotten');

# Last, for no function of ours brings it about.
order('broken');
call($dbh, 'cancel_order', 'broken');
$dbh->do('DELETE FROM order_timeout.payments WHERE payment_ref = ?', undef, pay('broken'));
rows($dbh, 'claim_refunds', 'worker', 100);

# ------------------------------------------------------------ as documented

my $text = do { local (@ARGV, $/) = "$root/doc/reference.md"; <> };
my ($chapter) = $text =~ /^## Events\n(.*?)^## /ms;
my %members = map { $_ => [] } qw(order attempt payment refund decision);
for my $kind (keys %members) {
	my ($list) = $chapter =~ /^Payload of an? $kind\b[^:]*: (.*)$/m or die "no members of $kind\n";
	$members{$kind} = [ $list =~ /`(\w+)`/g ];
}
my (%documented, %all);
while ($chapter =~ /^\| `(\w+\.\w+)` \|[^|]*\| (.*?) \|$/mg) {
	my ($type, $payload) = ($1, $2);
	my @names = $members{$payload} ? @{ $members{$payload} } : $payload =~ /`(\w+)`/g;
	$documented{$type}{$_} = $all{$_} = 1 for @names, @{ $members{decision} };
}

my (%seen, %all_seen);
for my $event (@{ $dbh->selectall_arrayref('SELECT DISTINCT type, jsonb_object_keys(payload) FROM order_timeout.events') }) {
	my ($type, $member) = @$event;
	$seen{$type}{$member} = $all_seen{$member} = 1;
}
is_deeply([ sort keys %seen ], [ sort keys %documented ], 'the types of events');
for my $type (grep { $documented{$_} } sort keys %seen) {
	is_deeply([ grep { !$documented{$type}{$_} } sort keys %{ $seen{$type} } ], [], "$type: no member that is not listed");
}
is_deeply([ sort keys %all_seen ], [ sort keys %all ], 'every member comes');

# A type that the source knows and this test does not.
my $source = join '', map { local (@ARGV, $/) = $_; <> } glob "$root/src/{*,*/*}/*.c";
my %known = map { $_ => 1 } $source =~ /"((?:order|attempt|void|payment|refund|conflict)\.[a-z_]{2,})"/g;
isnt(scalar keys %known, 0, 'the source names types');
is_deeply([ grep { !$documented{$_} } sort keys %known ], [], 'and all of them are listed');

my @warnings;
{
	local $SIG{__WARN__} = sub { push @warnings, @_ };
	local $dbh->{PrintWarn} = 1;
	call($dbh, 'create_consumer', 'of all types', [ sort keys %seen ]);
}
is_deeply(\@warnings, [], 'create_consumer knows them all');

done_testing;
