# What others see of the tables does not tell which store wrote them: the counters of statistics, logical decoding, a
# publication that lacks a replica identity, a constraint that an owner adds.

use strict;
use warnings;

use OTPair;
use OTServer;
use OTTest;
use Test::More;

plan skip_all => 'it chooses the stores by itself: once is enough' if ($ENV{OT_STORE} // 'auto') eq 'sql';

my $server = OTServer->started('observed', wal_level => 'logical', autovacuum => 'off');
my @sides  = map { side($_) } qw(fast sql);
my ($fast, $sql) = map { $_->dbh } @sides;

sub side {
	my ($store) = @_;
	$server->safe_psql('postgres', "CREATE DATABASE $store");
	my $dbh = $server->dbh($store);
	$dbh->do('CREATE EXTENSION order_timeout');
	$dbh->do("UPDATE order_timeout.policies SET refund_jitter = 0, refund_backoff = '10 days', refund_backoff_max = '40 days', refund_lease = '2 days'");
	$dbh->do("INSERT INTO order_timeout.policies (policy, on_late, refund_lease) VALUES ('hold', 'hold', '2 days')");
	# So that the same plan is made for tables of any size.
	$dbh->do("ALTER DATABASE $store SET enable_seqscan = off");
	$dbh->disconnect;
	return OTPair->new($server->dbh($store), $store);
}

sub both {
	my (@call) = @_;
	my ($one, $other) = map { $_->call([@call]) } @sides;
	is($one, $other, join ' ', $call[0], map { ref || !defined ? '...' : length > 30 ? 'a long text' : $_ } @call[ 1 .. $#call ]);
	return $one;
}

sub on_both { my @do = @_; $_->dbh->do(@do) for @sides; return }

my $long = '{"text": "' . join('', map { sprintf '%08x', $_ * 2654435761 % 2**32 } 1 .. 2000) . '"}';

sub refund { my ($number) = @_; return sub { $_[0]->ref_of($number) } }
sub token  { my ($number) = @_; return sub { $_[0]->token_of($number) } }

# Every table, every kind of write.
sub trade {
	my ($prefix) = @_;
	my $first = $sides[0]->refunds;

	both('create_order', "$prefix-$_", 100, 'EUR', '1 hour', undef, undef, $_ % 2 ? $long : undef) for 1 .. 5;
	both('create_order', "$prefix-held", 100, 'EUR', '1 hour', undef, 'hold');
	both('record_payment', "$prefix-1", 'bank', "$prefix-$_", 60, 'EUR', undef, $long) for 1 .. 3;
	both('record_payment', "$prefix-1", 'bank', "$prefix-1", 60, 'EUR');
	both('record_payment', "$prefix-2", 'bank', "$prefix-part", 60, 'EUR');
	both('record_payment', "$prefix-3", 'bank', "$prefix-usd", 60, 'USD');
	both('record_payment', "$prefix-new", 'bank', "$prefix-orphan", 100, 'EUR');
	both('create_order', "$prefix-new", 100, 'EUR', '1 hour');
	both('request_refund', "$prefix-new", 'key', 40);
	both('extend_order', "$prefix-3", '2099-01-01');
	on_both("UPDATE order_timeout.orders SET expires_at = '2020-01-01'::timestamptz + id * interval '1 s'
		FROM (SELECT order_id, row_number() OVER (ORDER BY order_id) AS id FROM order_timeout.orders) x
		WHERE x.order_id = orders.order_id AND settled_at IS NULL");
	both('sweep_once', 2);
	both('sweep_once');
	both('record_payment', "$prefix-held", 'bank', "$prefix-late", 100, 'EUR');
	both('resolve_held', 'bank', "$prefix-late", 'accept');
	both('record_payment', "$prefix-4", 'bank', "$prefix-taken", 100, 'EUR');
	both('accept_payment', 'bank', "$prefix-taken");
	both('claim_refunds', 'worker', 100);
	both('complete_refund', refund($first), 'failed', token($first), undef, 'no');
	both('complete_refund', refund($first + 1), 'succeeded', token($first + 1), "$prefix-number");
	both('complete_refund', refund($first + 2), 'rejected', token($first + 2));
	both('reverse_refund', refund($first + 2), 'dead');
	both('record_refund', 'bank', "$prefix-orphan", "$prefix-other", 10);
	return;
}

# ------------------------------------------------------------ decoding

for my $side (@sides) {
	$side->dbh->selectrow_array("SELECT pg_create_logical_replication_slot('$side->{store}', 'test_decoding')");
}

sub decoded {
	my ($side) = @_;
	my $changes = $side->dbh->selectcol_arrayref(
		"SELECT data FROM pg_logical_slot_get_changes('$side->{store}', NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '1')");
	# Numbers of transactions are others on each side, and so is what the sweeper notes about them.
	return [ map { $side->normal($_) =~ s/\bxid\[\w+\]:'?\d+'?/xid/r } grep { /^table order_timeout\.(?!consumer_positions:)/ } @$changes ];
}

trade('decoded');
my @changes = map { decoded($_) } @sides;
cmp_ok(scalar @{ $changes[0] }, '>', 50, 'changes are decoded');
is_deeply($changes[0], $changes[1], 'and they are the same');

on_both("ALTER TABLE order_timeout.$_ REPLICA IDENTITY FULL") for qw(orders payments refunds events);
trade('full');
@changes = map { decoded($_) } @sides;
is_deeply($changes[0], $changes[1], 'with the old rows too');
on_both("ALTER TABLE order_timeout.$_ REPLICA IDENTITY DEFAULT") for qw(orders payments refunds events);

# ------------------------------------------------------------ keys that are stored compressed

# A long order_id is compressed when the rest of the row is large and cannot be. The key stays as it is all the same: a row
# that points at it is in nobody's way, and decoding does not see a new key.
{
	my $order = 'o' x 255;
	srand 1;
	my $letters = join '', map { chr(97 + int rand 26) } 1 .. 1850;
	both('create_order', $order, 100, 'EUR', '1 hour', undef, undef, qq({"text": "$letters"}));
	for my $side (@sides) {
		cmp_ok($side->dbh->selectrow_array("SELECT pg_column_size(order_id) FROM order_timeout.orders WHERE order_id = '$order' AND metadata IS NOT NULL"), '<', 255,
			"$side->{store}: the key is compressed");
		$side->dbh->do('CREATE TABLE items (order_id text COLLATE "C" REFERENCES order_timeout.orders)');
		decoded($side);
		my $other = $server->dbh($side->{store});
		$other->begin_work;
		$other->do("INSERT INTO items VALUES ('$order')");
		$side->dbh->do("SET lock_timeout = '1 s'");
		is(eval { call($side->dbh, 'record_payment', $order, 'bank', 'compressed', 10, 'EUR')->{outcome} } // $@, 'partial',
			"$side->{store}: who points at it does not keep it from being paid");
		$other->commit;
		$side->dbh->do('RESET lock_timeout');
		is(call($side->dbh, 'cancel_order', $order)->{outcome}, 'cancelled', "$side->{store}: cancelled");
		is_deeply([ grep { /old-key/ } @{ decoded($side) } ], [], "$side->{store}: with the same key");
		$other->disconnect;
		$side->dbh->do('DROP TABLE items');
	}
}

# ------------------------------------------------------------ publications

on_both('CREATE PUBLICATION everything FOR TABLE order_timeout.orders, order_timeout.payments, order_timeout.refunds');
both('create_order', 'published', 100, 'EUR', '1 hour');
for my $table (qw(orders payments refunds)) {
	on_both("ALTER TABLE order_timeout.$table REPLICA IDENTITY NOTHING");
}
both('record_payment', 'published', 'bank', 'published', 100, 'EUR');
like(both('cancel_order', 'published'), qr/^55000: cannot update table "orders"/, 'an update that could not be published is refused');
on_both("ALTER TABLE order_timeout.orders REPLICA IDENTITY DEFAULT");
both('record_payment', 'published', 'bank', 'published', 100, 'EUR');
like(both('request_refund', 'published', 'key'), qr/^55000: cannot update table "payments"/, 'of payments too');
on_both("ALTER TABLE order_timeout.payments REPLICA IDENTITY DEFAULT");
both('request_refund', 'published', 'key');
my @success = ('complete_refund', refund($sides[0]->refunds - 1), 'succeeded');
like(both(@success), qr/^55000: cannot update table "refunds"/, 'and of refunds');
on_both("ALTER TABLE order_timeout.refunds REPLICA IDENTITY DEFAULT");
both(@success);
on_both('DROP PUBLICATION everything');

# ------------------------------------------------------------ counters

sub counters {
	my ($side) = @_;
	$side->dbh->do('SELECT pg_stat_force_next_flush()');
	$side->dbh->do('SELECT 1');
	return $server->dbh($side->{store})->selectall_hashref(
		"SELECT relname, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del, n_live_tup, n_dead_tup, seq_scan
		   FROM pg_stat_user_tables WHERE schemaname = 'order_timeout' AND relname NOT IN ('set_aside', 'set_aside_refunds', 'sweeps')", 'relname');
}

my @before = map { counters($_) } @sides;
trade('counted');
my @after = map { counters($_) } @sides;
for my $table (sort keys %{ $after[0] }) {
	is($after[0]{$table}{$_} - $before[0]{$table}{$_}, $after[1]{$table}{$_} - $before[1]{$table}{$_}, "$table: $_ grows alike")
		for qw(n_tup_ins n_tup_upd n_tup_hot_upd n_tup_del seq_scan);
}
my $used = $server->dbh('fast')->selectcol_arrayref(
	"SELECT indexrelname FROM pg_stat_user_indexes WHERE schemaname = 'order_timeout' AND idx_scan > 0 ORDER BY 1");
my %used = map { $_ => 1 } @$used;
ok($used{$_}, "$_: that it is used is counted") for qw(orders_pkey orders_due payments_pkey payments_order refunds_pkey refunds_open policies_pkey);

# ------------------------------------------------------------ constraints of an owner

sub refused {
	my ($state, @call) = @_;
	my @rows = map { rows_of($_) } @sides;
	like(both(@call), qr/^$state: /, "$call[0]: refused with $state");
	is_deeply([ map { rows_of($_) } @sides ], \@rows, "$call[0]: and nothing is written");
	return;
}

sub rows_of {
	my ($side) = @_;
	return [ map { @{ $side->dbh->selectcol_arrayref("SELECT x::text FROM order_timeout.$_ x ORDER BY 1") } }
		qw(orders payments refunds events) ];
}

my @constraints = (
	[ 'orders', "CHECK (currency <> 'XXX')", '23514', 'create_order', 'xxx', 1, 'XXX' ],
	[ 'orders', "CHECK (state <> 'paid' OR metadata->>'no' IS NULL)", '23514', 'record_payment', 'no', 'bank', 'no', 100, 'EUR' ],
	[ 'payments', "CHECK (details IS DISTINCT FROM '{}')", '23514', 'record_payment', 'no', 'bank', 'no', 10, 'EUR', undef, '{}' ],
	[ 'refunds', "CHECK (note IS DISTINCT FROM 'no')", '23514', 'request_refund', 'published', 'again', 10, 'no' ],
	[ 'events', "CHECK (type <> 'order.cancelled') NOT VALID", '23514', 'cancel_order', 'no' ],
	[ 'orders', 'UNIQUE (close_reason)', '23505', 'cancel_order', 'no', 'unique' ],
	[ 'payments', 'UNIQUE (order_id, paid_at)', '23505', 'record_payment', 'no', 'bank', 'no-2', 10, 'EUR', '2019-01-01' ],
	[ 'orders', 'EXCLUDE USING btree (close_reason WITH =)', '23P01', 'cancel_order', 'no', 'unique' ],
);
on_both('UPDATE order_timeout.orders SET close_reason = order_id WHERE close_reason IS NOT NULL');
both('create_order', 'no', 100, 'EUR', '1 hour', undef, undef, '{"no": 1}');
both('create_order', 'unique', 100, 'EUR', '1 hour');
both('cancel_order', 'unique', 'unique');
both('record_payment', 'published', 'bank', 'again', 50, 'EUR');
both('create_order', 'kept', 100, 'EUR', '1 hour');
both('record_payment', 'kept', 'bank', 'kept', 100, 'EUR');
both('record_payment', 'no', 'bank', 'no-1', 10, 'EUR', '2019-01-01');
for my $constraint (@constraints) {
	my ($table, $definition, $state, @call) = @$constraint;
	$call[1] = 'kept' if $call[0] eq 'request_refund';
	on_both("ALTER TABLE order_timeout.$table ADD CONSTRAINT mine $definition");
	refused($state, @call);
	on_both("ALTER TABLE order_timeout.$table DROP CONSTRAINT mine");
}
unlike(both(@{ $_->[0] }), qr/^2/, 'without it the same call works')
	for [ [ 'create_order', 'xxx', 1, 'XXX' ] ], [ [ 'record_payment', 'no', 'bank', 'no-2', 10, 'EUR', '2019-01-01' ] ], [ [ 'cancel_order', 'no', 'unique' ] ];

# ------------------------------------------------------------ what is read-only, who may what

for my $side (@sides) {
	$side->dbh->do('SET default_transaction_read_only = on');
	is(error_of($side->dbh, sub { call($side->dbh, 'create_order', 'read only', 1, 'EUR') }), '25006', "$side->{store}: not in a read-only transaction");
	$side->dbh->do('SET default_transaction_read_only = off');
}
$fast->do('CREATE ROLE clerk LOGIN');
my @told;
for my $side (@sides) {
	$side->dbh->do("SELECT order_timeout.grant_access('clerk', 'application')");
	$side->dbh->do("ALTER TABLE order_timeout.orders ADD CONSTRAINT mine CHECK (currency <> 'XXX') NOT VALID");
	my $clerk = $server->dbh($side->{store}, user => 'clerk');
	$clerk->do("SET order_timeout.store = '$side->{store}'");
	is(call($clerk, 'create_order', 'of a clerk', 100, 'EUR')->{outcome}, 'created', "$side->{store}: EXECUTE is all that is needed");
	is(call($clerk, 'record_payment', 'of a clerk', 'bank', 'of a clerk', 100, 'EUR')->{outcome}, 'paid', "$side->{store}: for each call");
	is(error_of($clerk, sub { call($clerk, 'create_order', 'secret', 1, 'XXX') }), '23514', "$side->{store}: a CHECK holds for a clerk");
	push @told, $clerk->errstr =~ s/\nDETAIL.*//sr;
}
is($told[0], $told[1], 'and both say the same about it');

# ------------------------------------------------------------ large values

is_deeply($fast->selectcol_arrayref("SELECT md5(metadata::text) FROM order_timeout.orders WHERE length(metadata::text) > 10000 ORDER BY order_id"),
	$sql->selectcol_arrayref("SELECT md5(metadata::text) FROM order_timeout.orders WHERE length(metadata::text) > 10000 ORDER BY order_id"),
	'large metadata survives');
is($fast->selectrow_array("SELECT count(*) FROM order_timeout.payments WHERE details = '$long'"), 9, 'and large details');
balanced($_->dbh, "$_->{store}: all money is accounted for") for @sides;

done_testing;
