package OTRows;

# Rows of every kind, made through the functions, and what is in the tables. For
# the tests of what must keep them: dump and restore, upgrade.
#
#   every_kind_of_row($dbh);               # into an empty database, about a second
#   has_every_kind_of_row($dbh, 'before'); # is it true?
#   my $contents = contents_of($dbh);      # all rows and sequences

use strict;
use warnings;
use utf8;

use Exporter qw(import);
use OTTest;
use Test::More;

our @EXPORT = qw(every_kind_of_row has_every_kind_of_row columns_of contents_of);

sub order {
	my ($shop, $id, $policy, $in) = @_;
	return call($shop, 'create_order', $id, 100, 'EUR', $in, undef, $policy,
		qq({"note": "tab \\t, line \\n, Ä, \\\\"}));
}

sub pay {
	my ($shop, $id, $gateway, $amount, $currency) = @_;
	my $number = $shop->selectrow_array('SELECT count(*) FROM order_timeout.payments');
	return call($shop, 'record_payment', $id, $gateway, "p-$number", $amount // 100, $currency // 'EUR',
		'2024-02-29 23:59:59.999999+00', '{"scheme": "none"}');
}

# A refund that a worker has under way, through a gateway of its own.
sub refund_at {
	my ($shop, $gateway) = @_;
	order($shop, "order $gateway");
	call($shop, 'cancel_order', "order $gateway");
	pay($shop, "order $gateway", $gateway);
	return rows($shop, 'claim_refunds', "worker of $gateway", 1, '1 hour', $gateway)->[0];
}

sub complete {
	my ($shop, $refund, @arguments) = @_;
	return call($shop, 'complete_refund', $refund->{refund_ref}, $arguments[0], $refund->{lease_token},
		@arguments[1 .. $#arguments]);
}

sub every_kind_of_row {
	my ($shop) = @_;

	$shop->do("UPDATE order_timeout.policies SET pay_within = '45 minutes', refund_jitter = 0 WHERE policy = 'default'");
	$shop->do('INSERT INTO order_timeout.policies (policy, on_late) VALUES (?, ?)', undef, @$_)
		for [ 'hold', 'hold' ], [ 'reopen', 'reopen' ], [ 'hooked', 'refund' ], [ "nobody's \"own\" \\ Ordnung", 'refund' ];

	order($shop, 'pending');
	order($shop, 'part');
	pay($shop, 'part', 'gate', 30);
	call($shop, 'create_order', 'free', 0, 'JPY');
	order($shop, 'paid');
	pay($shop, 'paid', 'gate', 60);
	pay($shop, 'paid', 'gate', 70);
	pay($shop, 'paid', 'gate');
	pay($shop, 'paid', 'gate', 5, 'USD');
	rows($shop, 'request_refund', 'paid', 'key 1', 20, 'a wish');
	order($shop, 'cancelled');
	pay($shop, 'cancelled', 'gate', 10);
	call($shop, 'cancel_order', 'cancelled', "line\nand \\N");
	pay($shop, 'nobody knows', 'gate');
	order($shop, "$_ late", $_, '20 milliseconds') for qw(hold reopen);
	order($shop, 'refund late', 'default', '20 milliseconds');
	pay($shop, 'refund late', 'gate', 40);
	$shop->do('SELECT pg_sleep(0.05)');
	call($shop, 'sweep_once');
	pay($shop, "$_ late", 'gate') for qw(hold reopen refund);

	refund_at($shop, 'processing');
	complete($shop, refund_at($shop, 'submitted'), 'submitted');
	complete($shop, refund_at($shop, 'unknown'), 'unknown', undef, 'timed out');
	complete($shop, refund_at($shop, 'failed'), 'failed', undef, 'no, not now');
	complete($shop, refund_at($shop, 'rejected'), 'rejected', undef, 'never');
	complete($shop, refund_at($shop, 'in part'), 'succeeded', 'g-0', undef, 99);
	my $conflict = refund_at($shop, 'conflict');
	complete($shop, $conflict, 'succeeded', $_) for qw(g-1 g-2);
	my $reversed = refund_at($shop, 'reversed');
	complete($shop, $reversed, 'succeeded', 'g-3');
	call($shop, 'reverse_refund', $reversed->{refund_ref}, 'account closed');
	my $settled = refund_at($shop, 'settled');
	complete($shop, $settled, 'rejected');
	call($shop, 'settle_refund', $settled->{refund_ref}, 'in cash');
	call($shop, 'record_refund', 'gate', 'p-2', 'chargeback-1', 15, 'chargeback');
	call($shop, 'create_order', 'huge', 9223372036854775807, 'EUR');
	pay($shop, 'huge', 'gate', 9223372036854775807) for 1, 2;

	order($shop, 'stuck', 'default', '20 milliseconds');
	$shop->do($_) for
		"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'refused'; END \$\$",
		'CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.orders FOR EACH ROW EXECUTE FUNCTION refuse()',
		"CALL order_timeout.sweep('300 milliseconds')",
		'DROP TRIGGER refuse ON order_timeout.orders',
		'DROP FUNCTION refuse';
	what_follows($shop);
	return;
}

# A refund that is set aside, a hook and a linked table, and what waits for them.
# Function and table are gone in the end: their names are kept as text, and a
# copy of the data alone has neither.
sub what_follows {
	my ($shop) = @_;

	order($shop, 'aside');
	call($shop, 'cancel_order', 'aside');
	pay($shop, 'aside', 'aside');
	order($shop, 'not followed', 'hooked');
	$shop->do($_) for
		"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'refused'; END \$\$",
		"CREATE FUNCTION refuse_paid(text[]) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'refused'; END \$\$",
		'CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.refunds FOR EACH ROW EXECUTE FUNCTION refuse()',
		"SELECT order_timeout.claim_refunds('worker', 1, gateway => 'aside')",
		'DROP TRIGGER refuse ON order_timeout.refunds',
		'CREATE TABLE shop_orders (id bigint PRIMARY KEY, status text)',
		"SELECT order_timeout.link_table('shop_orders', 'id', 'status', '{\"pending\": \"new\", \"paid\": \"paid\"}', 'shop-')",
		"SELECT order_timeout.set_hook('hooked', 'paid_hook', 'refuse_paid')";
	order($shop, 'shop-1');
	pay($shop, $_, 'gate') for 'not followed', 'shop-1';
	call($shop, 'create_consumer', 'reader', ['order.paid']);
	call($shop, 'ack_events', 'reader', rows($shop, 'read_events', 'reader', 1)->[0]{lease_token});
	rows($shop, 'read_events', 'reader', 1);
	call($shop, 'load_statement', 'gate', '2024-02-29', '{"header": ["id", "kind"], "kind": "kind", "kinds": {"pay": "payment"},
		"units": "minor", "at": "at", "time_zone": "UTC", "reference": "id", "amount": "amount", "currency": "currency"}',
		"id,kind,amount,currency,at\np-1,pay,100,EUR,2024-02-29 12:00\n", '2024-02-29', '2024-03-01', '{"EUR": 100}');
	call($shop, 'sweep_once');    # counts events from here on
	order($shop, 'counted');
	call($shop, 'sweep_once');
	$shop->do($_) for 'DROP TABLE shop_orders', 'DROP FUNCTION refuse_paid', 'DROP FUNCTION refuse';
	return;
}

# What is not there cannot get lost. An older version has no more than it knows.
sub has_every_kind_of_row {
	my ($shop, $name) = @_;
	my $has = sub { $shop->selectrow_array("SELECT to_regclass('order_timeout.' || ?) IS NOT NULL", undef, @_) };
	my @newer = grep { $has->($_) } qw(set_aside_refunds hooks links follow_ups consumer_positions statements statement_lines event_totals);
	my %wanted = (
		'orders.state'         => [qw(cancelled expired paid pending)],
		'payments.disposition' => [qw(applied held late orphan surplus), @newer ? 'uncounted' : (), 'wrong_currency'],
		'refunds.state' => [qw(failed needs_attention pending processing reversed submitted succeeded unknown)],
	);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $column (sort keys %wanted) {
		my ($table, $word) = split /\./, $column;
		is_deeply($shop->selectcol_arrayref(
			"SELECT DISTINCT $word COLLATE \"C\" FROM order_timeout.$table ORDER BY 1"),
			$wanted{$column}, "$name: there are rows of every $column");
	}
	for my $table (qw(policies conflicts set_aside sweeps events), @newer) {
		isnt($shop->selectrow_array("SELECT count(*) FROM order_timeout.$table"), 0, "$name: there are rows in $table");
	}
	return;
}

# 'orders' => 'order_id, policy, ...'; of a sequence, what it goes on with. event_epoch is another one in each database.
sub columns_of {
	my ($dbh) = @_;
	return { map { @$_ } @{ $dbh->selectall_arrayref(<<'END') } };
SELECT c.relname, CASE c.relkind WHEN 'S' THEN 'last_value, is_called'
                                 ELSE string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) END
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.relnamespace = 'order_timeout'::regnamespace AND c.relkind IN ('r', 'S') AND c.relname <> 'event_epoch'
 GROUP BY c.oid
END
}

# With the columns of an earlier time: what has become of those.
sub contents_of {
	my ($dbh, $columns) = @_;
	$columns //= columns_of($dbh);
	return { map { $_ => $dbh->selectcol_arrayref(
		"SELECT ROW($columns->{$_})::text FROM order_timeout.$_ ORDER BY 1") } keys %$columns };
}

1;
