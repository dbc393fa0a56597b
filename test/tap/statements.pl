# The layouts that ship, on small files of the same shape, and apply_statement: what it calls, that it can be repeated
# and interrupted, and what it leaves to a person.

use strict;
use warnings;
use utf8;

use FindBin;
use OTServer;
use OTTest;
use Test::More;

my $server = OTServer->started('statements');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
$server->safe_psql('shop', "CREATE EXTENSION order_timeout; CREATE ROLE operator LOGIN; SELECT order_timeout.grant_access('operator', 'operator')");
my $dbh = $server->dbh('shop');
my $operator = $server->dbh('shop', user => 'operator');
$_->do("SET timezone = 'UTC'") for $dbh, $operator;

sub file {
	my ($name) = @_;
	open my $in, '<:encoding(UTF-8)', "$FindBin::Bin/statements/$name.csv" or die "$name: $!\n";
	local $/ = undef;
	return scalar <$in>;
}

sub layout { return scalar $dbh->selectrow_array('SELECT order_timeout.statement_layout(?)', undef, @_) }

sub differences {
	my ($gateway) = @_;
	return $dbh->selectcol_arrayref(<<'END', undef, $gateway);
SELECT concat_ws(' ', problem, kind, line, reference, there, here, resolved_by) FROM order_timeout.check_statement(?, 'day', '0')
END
}

sub outcomes {
	my ($gateway) = @_;
	return $dbh->selectcol_arrayref(<<'END', undef, $gateway);
SELECT concat_ws(' ', line, kind, outcome, CASE WHEN applied_at IS NOT NULL THEN 'applied' END)
  FROM order_timeout.statement_lines WHERE gateway = ? AND (outcome IS NOT NULL OR applied_at IS NOT NULL) ORDER BY line
END
}

sub totals {
	my ($gateway) = @_;
	return $dbh->selectcol_arrayref(<<'END', undef, $gateway);
SELECT concat_ws(' ', currency, total, stated, missing, agreed, differing) FROM order_timeout.statement_totals(?, 'day')
END
}

# ------------------------------------------------------------ Stripe

is_deeply(call($operator, 'load_statement', 'stripe', 'day', layout('stripe'), file('stripe'), '2026-05-09 22:00', '2026-05-10 22:00',
		'{"EUR": 2760, "JPY": 482}'), { outcome => 'loaded', lines => 12 }, 'stripe: loaded');
is_deeply($dbh->selectcol_arrayref(<<'END'), [
SELECT concat_ws(' ', line, kind, reference, payment_ref, our_reference, amount, currency, at AT TIME ZONE 'UTC')
  FROM order_timeout.statement_lines WHERE kind <> 'fee' ORDER BY line
END
	'2 payment ch_1 S-1 2500 EUR 2026-05-09 23:30:00', '4 payment ch_2 S-2 1000 EUR 2026-05-10 08:00:00',
	'5 payment ch_3 S-3 500 JPY 2026-05-10 08:05:00', '6 refund re_1 ch_1 -400 EUR 2026-05-10 09:00:00',
	'7 chargeback dp_1 ch_2 -1000 EUR 2026-05-10 10:00:00', '8 chargeback_reversed dp_1 ch_2 1000 EUR 2026-05-10 20:00:00'
], 'stripe: a quoted field over two lines, amounts of EUR and JPY');
is_deeply(totals('stripe'), [ 'EUR 2760 2760 0 -340 3100', 'JPY 482 482 0 -18 500' ], 'stripe: it adds up to what the report says');

call($dbh, 'create_order', $_->[0], $_->[1], $_->[2]) for [ 'S-1', 2500, 'EUR' ], [ 'S-2', 1000, 'EUR' ];
my ($status, $out, $progress) = $server->psql('shop', "CALL order_timeout.apply_statement('stripe', 'day', 4)", extra_params => [ '-U', 'operator' ]);
is_deeply([ $progress =~ /(\d+ lines seen.*)/g ], [ '5 lines seen, 5 applied', '6 lines seen, 6 applied, all done' ], 'stripe: applied, with progress');
is_deeply(outcomes('stripe'), [
	'2 payment record_payment: paid applied', '4 payment record_payment: paid applied', '5 payment record_payment: orphan applied',
	'6 refund record_refund: recorded applied', '7 chargeback record_refund: recorded applied',
	'8 chargeback_reversed reverse_chargeback: reversed applied'
], 'stripe: payments, then what went back, then what was won');
is_deeply(differences('stripe'), [], 'stripe: no difference is left');
is_deeply(totals('stripe'), [ 'EUR 2760 2760 0 2760 0', 'JPY 482 482 0 482 0' ], 'stripe: all of it agrees');
is($dbh->selectrow_array("SELECT concat(details ->> 'statement', ' ', details ->> 'line') FROM order_timeout.payments WHERE payment_ref = 'ch_1'"),
	'day 2', 'stripe: a payment says where it came from');

sub everything { return join "\n", map { @{ $dbh->selectcol_arrayref("SELECT x::text FROM order_timeout.$_ x ORDER BY 1") } }
	qw(orders payments refunds conflicts events statement_lines) }
my $before = everything();
$operator->do("CALL order_timeout.apply_statement('stripe', 'day')");
is(everything(), $before, 'stripe: applied again, nothing changes');
$dbh->do("UPDATE order_timeout.statement_lines SET applied_at = NULL WHERE gateway = 'stripe'");
$operator->do("CALL order_timeout.apply_statement('stripe', 'day')");
is_deeply(differences('stripe'), [], 'stripe: without its memory too');
balanced($dbh, 'stripe: the funds');

# ------------------------------------------------------------ WeChat Pay

my ($order, $other) = ('W-1', 'W-2');
call($dbh, 'create_order', $order, 10000, 'CNY');
call($dbh, 'create_order', $other, 1, 'CNY');
call($dbh, 'begin_attempt', $other, 'wechat', 'trade-2');
call($dbh, 'record_payment', $order, 'wechat', '4200001001202605100000000001', 10000, 'CNY', '2026-05-09 16:00:03');
my ($refund) = map { $_->{refund_ref} } @{ rows($dbh, 'request_refund', $order, 'key', 4000) };
my $bill = file('wechat_pay') =~ s/shop-refund-1/$refund/r =~ s/`W-2`?,/`trade-2,/gr;

is_deeply(call($operator, 'load_statement', 'wechat', 'day', layout('wechat_pay'), $bill, '2026-05-10 00:00+08', '2026-05-11 00:00+08'),
	{ outcome => 'loaded', lines => 6 }, 'wechat_pay: loaded, with byte order mark, backticks, Chinese header and summary');
is_deeply(differences('wechat'), [
	'only_there payment 3 4200001001202605100000000002 1 record_payment',
	'status refund 4 50300001001202605100000000001 -4000 -4000 complete_refund',
	'only_there other 5 50300001001202605100000000002 -1 the gateway'
], 'wechat_pay: a payment, our refund, and a refund that is under way');
$operator->do("CALL order_timeout.apply_statement('wechat', 'day')");
is_deeply(outcomes('wechat'), [ '3 payment record_payment: paid applied', '4 refund complete_refund: recorded applied' ], 'wechat_pay: applied');
is_deeply($dbh->selectrow_arrayref('SELECT state, gateway_refund_ref FROM order_timeout.refunds WHERE refund_ref = ?', undef, $refund),
	[ 'succeeded', '50300001001202605100000000001' ], 'wechat_pay: our refund has the number of the gateway');
is($dbh->selectrow_array("SELECT state FROM order_timeout.attempts WHERE attempt_ref = 'trade-2'"), 'captured', 'wechat_pay: the attempt is captured');
is_deeply(differences('wechat'), ['only_there other 5 50300001001202605100000000002 -1 the gateway'], 'wechat_pay: what a person has to look at');
is_deeply(totals('wechat'), ['CNY 5964 5964 0 5965 -1'], 'wechat_pay: it adds up to its own summary');
balanced($dbh, 'wechat_pay: the funds');

# ------------------------------------------------------------ what fails

# A refund of a payment that nobody knows is tried again; another one goes through.
my $map = '{"header": ["id"], "kind": "kind", "kinds": {"p": "payment", "r": "refund", "c": "chargeback"}, "units": "minor", "at": "at",
	"time_zone": "UTC", "reference": "id", "payment_ref": "of", "our_reference": "ours", "amount": "amount", "currency": "currency"}';
call($dbh, 'create_order', 'B-1', 100, 'EUR');
call($dbh, 'record_payment', 'B-1', 'bank', 'pay-1', 100, 'EUR', '2026-05-10 10:00');
call($operator, 'load_statement', 'bank', 'day', $map, <<'END', '2026-05-10', '2026-05-11');
id,kind,amount,currency,at,of,ours
pay-1,p,100,EUR,2026-05-10 10:00:00,,B-1
back-1,r,-10,EUR,2026-05-10 10:00:00,pay-9,
back-2,r,-10,USD,2026-05-10 10:00:00,pay-1,
back-3,c,-500,EUR,2026-05-10 10:00:00,pay-1,
END
$operator->do("CALL order_timeout.apply_statement('bank', 'day')");
is_deeply([ map { s/: (OT\d+): .*/: $1/r } @{ outcomes('bank') } ],
	[ '3 refund record_refund: OT009', '4 refund record_refund: OT003', '5 chargeback record_refund: conflict applied' ],
	'what a call refuses is noted, the others go on');
is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.attention WHERE kind = 'conflict' AND gateway = 'bank'"), 1,
	'what is more than there was is shown');
call($dbh, 'record_payment', 'B-2', 'bank', 'pay-9', 10, 'EUR', '2026-05-10 10:00');
$operator->do("CALL order_timeout.apply_statement('bank', 'day')");
is((outcomes('bank'))->[0], '3 refund record_refund: recorded applied', 'once the cause is mended the next call applies it');
is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.attention WHERE kind = 'conflict' AND gateway = 'bank'"), 1, 'and the others stay as they are');
balanced($dbh, 'the funds');

for my $bad ([ '22023', "'bank', 'none'" ], [ '22004', "NULL, 'day'" ], [ '22023', "'bank', 'day', 0" ], [ '22023', "'bank', 'day', 10001" ]) {
	my ($sqlstate, $arguments) = @$bad;
	is(error_of($operator, sub { $operator->do("CALL order_timeout.apply_statement($arguments)") }), $sqlstate, "apply_statement($arguments)");
}

# What a wrong day, or a file that is loaded twice, looks like.
my $odd = <<'END';
SELECT outcome FROM order_timeout.load_statement('odd', :'name', '{"header": ["id"], "kind": "kind", "kinds": {"p": "payment"}, "units": "minor", "at": "at", "time_zone": "UTC", "reference": "id", "amount": "amount", "currency_is": "EUR"}',
	E'id,kind,amount,at\nx,p,1,2026-05-10 00:00\ny,p,1,2026-05-10 23:59:59.9', :'from', :'to');
END
sub warnings_of {
	my ($name, $from, $to) = @_;
	my ($out, $err);
	$server->run_log([ 'psql', '-XqAt', '-d', 'shop', '-U', 'operator', '-v', "name=$name", '-v', "from=$from", '-v', "to=$to" ], '<', \$odd, '>', \$out, '2>', \$err);
	return $err;
}
is(warnings_of('10', '2026-05-10 23:59:59+00', '2026-05-11+00'), '', 'one line of the time that is covered is enough');
is(warnings_of('10', '2026-05-10 23:59:59+00', '2026-05-11+00'), '', 'a repeat is no other file');
my $warned = warnings_of('11', '2026-05-11+00', '2026-05-12+00');
like($warned, qr/^WARNING:  statement "11" of gateway "odd" is the same file as statement "10"$/m, 'a file that is loaded already');
like($warned, qr/^WARNING:  no line of statement "11" of gateway "odd" is of the time that it covers\nDETAIL:  Its lines are from 2026-05-10 00:00:00/m, 'of another day');

# A chargeback that was won in part, in the same file: the rest of it is not ours again.
call($dbh, 'create_order', 'C-1', 100, 'EUR');
call($operator, 'load_statement', 'part', 'day', $map =~ s/"c": "chargeback"/"c": "chargeback", "w": "chargeback_reversed"/r, <<'END', '2026-05-10', '2026-05-11');
id,kind,amount,currency,at,of,ours
won-1,p,100,EUR,2026-05-10 10:00:00,,C-1
dispute-1,c,-50,EUR,2026-05-10 11:00:00,won-1,
dispute-1,w,30,EUR,2026-05-10 12:00:00,won-1,
END
$operator->do("CALL order_timeout.apply_statement('part', 'day')");
is_deeply(outcomes('part'), [ '2 payment record_payment: paid applied', '3 chargeback record_refund: recorded applied',
	'4 chargeback_reversed reverse_chargeback: OT003: the chargeback is of another amount' ], 'a chargeback that was won in part is not reversed');
is_deeply(differences('part'), ['amount chargeback_reversed 4 dispute-1 30 50 reverse_chargeback'], 'and is shown');

# What belongs to a payment is committed at once: a worker finds no refund that the same file says is back.
call($dbh, 'create_order', $_, 100, 'EUR') for qw(L-1 L-2);
call($dbh, 'cancel_order', 'L-1');
call($operator, 'load_statement', 'late', 'day', $map, <<'END', '2026-05-10', '2026-05-11');
id,kind,amount,currency,at,of,ours
late-1,p,100,EUR,2026-05-10 10:00:00,,L-1
late-2,p,100,EUR,2026-05-10 10:00:00,,L-2
late-back,r,-100,EUR,2026-05-10 11:00:00,late-1,
END
$operator->do("CALL order_timeout.apply_statement('late', 'day', 1)");
is_deeply($dbh->selectcol_arrayref(<<'END'), ['payment.late refund.created refund.recorded refund.reversed'], 'what belongs to a payment is one transaction');
SELECT string_agg(e.type, ' ' ORDER BY e.type)
  FROM order_timeout.events e WHERE e.aggregateid = 'L-1' AND e.type ~ '^(payment|refund)' GROUP BY e.xid
END
is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE settled_at IS NULL AND gateway = 'late'"), 0, 'and no refund is left to send');
balanced($dbh, 'the funds');

# ------------------------------------------------------------ a webhook at the same time

# The webhook has recorded the payment and has not committed: apply_statement waits, and its call is a repeat.
call($dbh, 'create_order', 'R-1', 100, 'EUR');
call($operator, 'load_statement', 'race', 'day', $map, "id,kind,amount,currency,at,ours\nr-1,p,100,EUR,2026-05-10 10:00:00,R-1\n", '2026-05-10', '2026-05-11');
my $webhook = $server->dbh('shop');
$webhook->begin_work;
is(call($webhook, 'record_payment', 'R-1', 'race', 'r-1', 100, 'EUR')->{outcome}, 'paid', 'a webhook records the payment');
my $applying = $server->dbh('shop', user => 'operator');
$applying->do("CALL order_timeout.apply_statement('race', 'day')", { pg_async => 1 });
eventually(sub { $dbh->selectrow_array("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'apply_statement' AND pid <> pg_backend_pid()") });
$webhook->commit;
is(ended_with($applying), '', 'apply_statement goes on');
is_deeply(outcomes('race'), ['2 payment record_payment: duplicate applied'], 'with a repeat');
is($dbh->selectrow_array("SELECT paid FROM order_timeout.orders WHERE order_id = 'R-1'"), 100, 'nothing is paid twice');
balanced($dbh, 'the funds after the race');

# ------------------------------------------------------------ interrupted

# It is cancelled in its second batch, behind a transaction that has an order of that. The first batch stays, the lines of the second
# are as before, and the next call does the rest.
call($dbh, 'create_order', "I-$_", 100, 'EUR') for 1 .. 4;
call($operator, 'load_statement', 'broken off', 'day', $map, join("\n", 'id,kind,amount,currency,at,ours', map {"i-$_,p,100,EUR,2026-05-10 10:00:00,I-$_"} 1 .. 4),
	'2026-05-10', '2026-05-11');
my $holder = $server->dbh('shop');
$holder->begin_work;
call($holder, 'extend_order', 'I-4', '2100-01-01');
$applying->do("CALL order_timeout.apply_statement('broken off', 'day', 2)", { pg_async => 1 });
eventually(sub { $dbh->selectrow_array("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'broken off' AND pid <> pg_backend_pid()") });
$dbh->selectrow_array('SELECT pg_cancel_backend(?)', undef, $applying->{pg_pid});
is(ended_with($applying), '57014', 'apply_statement is cancelled');
$holder->rollback;
is_deeply(outcomes('broken off'), [ '2 payment record_payment: paid applied', '3 payment record_payment: paid applied' ], 'the first batch is committed, nothing of the second');
is(scalar @{ differences('broken off') }, 2, 'which still differs');
$operator->do("CALL order_timeout.apply_statement('broken off', 'day', 2)");
is_deeply(differences('broken off'), [], 'and is done by the next call');
balanced($dbh, 'the funds after it');

# ------------------------------------------------------------ a day that is missing

sub load_day {
	my ($day) = @_;
	return call($operator, 'load_statement', 'gap', "day $day", $map, "id,kind,amount,currency,at,ours\ng-$day,p,100,EUR,2026-05-1$day 10:00:00,\n",
		"2026-05-1$day", '2026-05-1' . ($day + 1))->{outcome};
}

sub warning_about {
	my ($day) = @_;
	my $said = '';
	local $SIG{__WARN__} = sub { $said .= "@_" };
	local $operator->{PrintWarn} = 1;
	$operator->do("SELECT * FROM order_timeout.check_statement('gap', 'day $day')");
	return $said;
}
is(load_day($_), 'loaded', "day $_") for 1, 3;
is(warning_about(1), '', 'before the first statement there is none to miss');
like(warning_about(3), qr/no statement of gateway "gap" covers 2026-05-12 00:00:00\+00 to 2026-05-13 00:00:00\+00\n.*Load it/, 'a day is missing');
is(load_day(2), 'loaded', 'it comes later');
is(warning_about($_), '', "day $_: none is missing") for 2, 3;

# ------------------------------------------------------------ the page

# What doc/statements.md prints, with these files.
open my $page, '<:encoding(UTF-8)', "$FindBin::Bin/../../doc/statements.md" or die $!;
my $text = do { local $/ = undef; <$page> };
my @blocks = $text =~ /^```\n(.*?)^```$/msg;
is(scalar @blocks, 3, 'the page has a day, a map and a large file');
s{([\w-]+)\.csv}{ my $from = $1; "$FindBin::Bin/statements/" . ($from =~ /bill/ ? 'wechat_pay' : 'stripe') . '.csv' }ge for @blocks;
$server->safe_psql('postgres', "CREATE DATABASE page ENCODING 'UTF8' TEMPLATE template0");
$server->safe_psql('page', 'CREATE EXTENSION order_timeout');
for my $block (@blocks[ 0, 2 ]) {
	my ($out, $err);
	ok($server->run_log([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', 'page' ], '<', \"SET client_encoding = 'UTF8';\n$block", '>', \$out, '2>', \$err),
		'a block of the page runs') or diag($err);
	like($out, qr/^loaded\|(?:12|6)$/m, 'and loads the file');
}
my $printed = $server->dbh('page');
my ($changed) = $text =~ /^  ```\n(.*?)^  ```$/ms;
$changed = $printed->selectrow_array("SELECT $changed");
is(call($printed, 'load_statement', 'changed', 'day', $changed, file('stripe'), '2026-05-10', '2026-05-11')->{outcome}, 'loaded', 'so does a change of a layout');
is_deeply($printed->selectrow_arrayref(<<'END'), [ 0, 0 ], 'which changes the number of a payment and nothing else');
SELECT count(*) FILTER (WHERE c.our_reference IS DISTINCT FROM s.our_reference AND s.our_reference NOT LIKE 'pi\_%'),
       count(*) FILTER (WHERE c.kind = 'payment' AND c.reference NOT LIKE 'pi\_%' OR c.kind <> s.kind)
  FROM order_timeout.statement_lines c JOIN order_timeout.statement_lines s USING (line, kind)
 WHERE c.gateway = 'changed' AND s.gateway = 'card'
END
is_deeply(call($printed, 'load_statement', 'own', 'day', $blocks[1],
		"id,type,currency,time,gross,commission,sale_id,order\n1,sale,EUR,2026-05-10 10:00,100,3,,o-1\n2,refund,EUR,2026-05-10 11:00,-10,,1,\n",
		'2026-05-10', '2026-05-11'), { outcome => 'loaded', lines => 3 }, 'the map of the page fits a file');

done_testing();
