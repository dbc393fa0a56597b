# A hook that takes too long under statement_timeout: the payment is recorded and the hook is kept, in the simple and in the
# extended protocol (in which the time runs from the parsing on). A cancel by a person ends the call.

use strict;
use warnings;

use OTServer;
use Test::More;

my $server = OTServer->started('hook_timeout');
my $dbh    = $server->dbh('postgres');
$dbh->do($_)
	for 'CREATE EXTENSION order_timeout',
	'CREATE FUNCTION hang(order_ids text[]) RETURNS void LANGUAGE sql AS $$SELECT pg_sleep(60)$$',
	q{SELECT order_timeout.set_hook('default', 'paid_hook', 'hang')};

sub kept { return $dbh->selectrow_array('SELECT kind, sqlstate FROM order_timeout.follow_ups WHERE order_id = ?', undef, $_[0]) }

# prepare: a statement of its own; direct: one round trip; simple: as text.
for my $protocol (qw(prepare direct simple)) {
	my $order = "order-$protocol";
	$dbh->do(q{SELECT order_timeout.create_order(?, 10, 'EUR')}, undef, $order);
	$dbh->do(q{SET statement_timeout = '200ms'});
	my $sql = q{SELECT outcome FROM order_timeout.record_payment(?, 'bank', ?, 10, 'EUR')};
	my @arguments = ($order, "pay-$protocol");
	if ($protocol eq 'simple') {
		$sql =~ s/\?/$dbh->quote(shift @arguments)/ge;
	}
	my $statement = $dbh->prepare($sql, { pg_prepare_now => $protocol eq 'prepare', pg_server_prepare => $protocol eq 'prepare' });
	my ($outcome) = eval { $dbh->selectrow_array($statement, undef, @arguments) };
	is($outcome, 'paid', "$protocol: the payment is recorded") or diag $@;
	$dbh->do('RESET statement_timeout');
	is(join(' ', kept($order)), 'paid_hook 57014', "$protocol: its hook is kept");
}

# A person's cancel, while a statement_timeout runs that is not over.
$dbh->do(q{SELECT order_timeout.create_order('cancelled', 10, 'EUR')});
$dbh->do(q{SET statement_timeout = '1h'});
my $other = $server->dbh('postgres');
$dbh->do(q{SELECT outcome FROM order_timeout.record_payment('cancelled', 'bank', 'cancelled', 10, 'EUR')}, { pg_async => 1 });
$server->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}) or die;
$other->do(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
ok(!eval { $dbh->pg_result; 1 }, 'a person cancels the call');
is($dbh->state, '57014', 'and gets the error');
$dbh->do('RESET statement_timeout');
is($dbh->selectrow_array(q{SELECT state FROM order_timeout.orders WHERE order_id = 'cancelled'}), 'pending', 'nothing is recorded');

done_testing();
