# A session keeps what it knows of the tables. Another one changes them between two of its calls, in every way that is
# there: the next call works, and every index leads to every row.

use strict;
use warnings;

use DBD::Pg qw(:async);
use OTServer;
use OTTest;
use Test::More;

plan skip_all => 'it chooses the stores by itself: once is enough' if ($ENV{OT_STORE} // 'auto') eq 'sql';

my $server = OTServer->started('shape', autovacuum => 'off');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my ($shop, $admin) = map { $server->dbh('shop') } 1, 2;
$admin->do($_) for 'CREATE EXTENSION order_timeout', 'CREATE EXTENSION amcheck', 'CREATE ROLE another SUPERUSER';
$shop->do("SET order_timeout.store = 'fast'");

my $orders = 0;

# Every table, and most kinds of reading and writing them.
sub trade {
	my ($dbh) = @_;
	my $order = 'order-' . ++$orders;

	call($dbh, 'create_order', $order, 100, 'EUR', undef, undef, undef, '{"a": 1}');
	call($dbh, 'begin_attempt', $order, 'bank', "$order-1", '1 minute');
	call($dbh, 'record_payment', $order, 'bank', "$order-1", 60, 'EUR');
	call($dbh, 'record_payment', $order, 'bank', "$order-2", 60, 'EUR');
	call($dbh, 'record_payment', $order, 'bank', "$order-3", 10, 'USD');
	call($dbh, 'request_refund', $order, 'key', 30);
	my $refunds = [ grep { $_->{order_id} eq $order } @{ rows($dbh, 'claim_refunds', 'worker', 100) } ];
	call($dbh, 'complete_refund', $_->{refund_ref}, 'succeeded', undef, "number-$_->{payment_ref}-$_->{amount}") for @$refunds;
	call($dbh, 'create_order', "$order-due", 100, 'EUR', '1 microsecond');
	call($dbh, 'record_payment', "$order-due", 'bank', "$order-due", 10, 'EUR');
	call($dbh, 'sweep_once');
	return join ' ', scalar @$refunds, call($dbh, 'expire_order', "$order-due")->{outcome},
		call($dbh, 'record_payment', $order, 'bank', "$order-1", 60, 'EUR')->{outcome};
}

my $traded = '3 already_closed duplicate';

sub after {
	my ($name, @statements) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	$admin->do($_) for @statements;
	is(eval { trade($shop) } // $@, $traded, $name);
	return indexes_sound($admin, "$name: the indexes are sound");
}

my @tables = map { "order_timeout.$_" } qw(policies orders attempts payments refunds events);

after('nothing');
after('CREATE INDEX', 'CREATE INDEX mine ON order_timeout.orders (close_reason, state)', 'CREATE INDEX mine_too ON order_timeout.events (type)');
after('CREATE INDEX CONCURRENTLY', 'CREATE INDEX CONCURRENTLY mine_as_well ON order_timeout.refunds (state)');
after('REINDEX', map { "REINDEX TABLE $_" } @tables);
after('REINDEX CONCURRENTLY', map { "REINDEX TABLE CONCURRENTLY $_" } @tables);
after('DROP INDEX CONCURRENTLY', 'DROP INDEX CONCURRENTLY order_timeout.mine_as_well');
after('DROP INDEX', 'DROP INDEX order_timeout.mine, order_timeout.mine_too');
after('an index made anew under another name', 'DROP INDEX order_timeout.orders_due',
	'CREATE INDEX due ON order_timeout.orders (closes_at) INCLUDE (state) WHERE settled_at IS NULL');
after('two indexes on the same columns', 'CREATE INDEX again ON order_timeout.orders (order_id)',
	'CREATE INDEX again_for_payments ON order_timeout.payments (gateway, payment_ref)');
# Which of the two is the key matters when a payment is told for two orders at once.
{
	my $other = $server->dbh('shop');
	$other->do("SET order_timeout.store = 'fast'");
	call($shop, 'create_order', "told for $_", 100, 'EUR') for 'one', 'other';
	$shop->begin_work;
	call($shop, 'record_payment', 'told for one', 'bank', 'told twice', 10, 'EUR');
	my $pid = $other->{pg_pid};
	$other->do("SELECT order_timeout.record_payment('told for other', 'bank', 'told twice', 10, 'EUR')", { pg_async => PG_ASYNC });
	ok(eventually(sub { $admin->selectrow_array("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid") }), 'a payment told for two orders');
	$shop->commit;
	is(ended_with($other), 'OT003', 'the second one is told so');
}
after('VACUUM FULL', map { "VACUUM FULL $_" } @tables);
after('CLUSTER', 'CLUSTER order_timeout.orders USING orders_pkey', 'CLUSTER order_timeout.refunds USING refunds_payment');
after('VACUUM and ANALYZE', 'VACUUM ANALYZE');
after('SET UNLOGGED', map { "ALTER TABLE $_ SET UNLOGGED" } @tables);
after('SET LOGGED', map { "ALTER TABLE $_ SET LOGGED" } @tables);
after('another owner', map { "ALTER TABLE $_ OWNER TO another" } @tables);
after('other settings', map { ("ALTER TABLE $_ SET (fillfactor = 70)", "ALTER TABLE $_ REPLICA IDENTITY FULL") } @tables);
after('other settings of indexes', map { "ALTER INDEX $_ SET (fillfactor = 60, deduplicate_items = off)" }
	qw(order_timeout.orders_pkey order_timeout.refunds_open));
after('a CHECK more', q{ALTER TABLE order_timeout.orders ADD CONSTRAINT mine CHECK (close_reason IS DISTINCT FROM 'no')});
is(error_of($shop, sub { call($shop, 'create_order', 'refused', 1, 'EUR'); call($shop, 'cancel_order', 'refused', 'no') }), '23514', 'and it holds');
after('and none', 'ALTER TABLE order_timeout.orders DROP CONSTRAINT mine');
is(call($shop, 'cancel_order', 'refused', 'no')->{outcome}, 'cancelled', 'and is gone');
after('a default changed', q{ALTER TABLE order_timeout.orders ALTER metadata SET DEFAULT '{}'});
after('TRUNCATE', 'TRUNCATE ' . join ', ', @tables[ 1 .. 4 ]);
after('TRUNCATE RESTART IDENTITY', 'TRUNCATE ' . join(', ', @tables[ 1 .. 4 ]) . ' RESTART IDENTITY');
after('a sequence set', q{SELECT setval('order_timeout.events_id_seq', 1000000)});
after('a new extension', 'DROP EXTENSION order_timeout', 'CREATE EXTENSION order_timeout');
after('a new extension in one transaction', 'BEGIN', 'DROP EXTENSION order_timeout', 'CREATE EXTENSION order_timeout', 'COMMIT');
after('a drop that was rolled back', 'BEGIN', 'DROP EXTENSION order_timeout', 'ROLLBACK');
# The schema's name is how the functions find the tables: both stores miss them alike.
$admin->do('ALTER SCHEMA order_timeout RENAME TO elsewhere');
is(error_of($shop, sub { $shop->do("SELECT elsewhere.create_order('elsewhere', 1, 'EUR')") }), '42P01', 'under another name of the schema');
$admin->do('ALTER SCHEMA elsewhere RENAME TO order_timeout');
after('its own name again');

$admin->do('DROP EXTENSION order_timeout');
is(error_of($shop, sub { trade($shop) }), '3F000', 'without the extension there are no functions');
after('and with it again', 'CREATE EXTENSION order_timeout');

# The session's own doing, taken back.
$shop->begin_work;
$shop->do($_) for 'DROP EXTENSION order_timeout', 'CREATE EXTENSION order_timeout';
is(trade($shop), $traded, 'an extension of its own transaction');
$shop->rollback;
after('the one before is back');

# ------------------------------------------------------------ an index in the making

sub waits_for {
	my ($phase) = @_;
	return eventually(sub { $admin->selectrow_array("SELECT count(*) FROM pg_stat_progress_create_index WHERE phase = '$phase'") })
		|| diag(explain($admin->selectall_arrayref('SELECT * FROM pg_stat_progress_create_index', { Slice => {} })));
}

# Built beside the session's calls: an index that is there and not yet to be filled, then to be filled, then to be read.
# Somebody holds each of these steps up, so that a call falls into each.
for my $build ('CREATE INDEX CONCURRENTLY mine ON order_timeout.orders (close_reason, state)', 'REINDEX INDEX CONCURRENTLY order_timeout.orders_pkey') {
	my ($what) = $build =~ /^(\w+)/;
	my ($writer, $reader, $builder) = map { $server->dbh('shop') } 1 .. 3;

	$writer->begin_work;
	$writer->do('LOCK TABLE order_timeout.orders IN ROW EXCLUSIVE MODE');
	$builder->do($build, { pg_async => PG_ASYNC });
	ok(waits_for('waiting for writers before build'), "$what: the index is there, and not filled");
	is(trade($shop), $traded, "$what: calls go on");
	$reader->do('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$reader->selectrow_array('SELECT count(*) FROM pg_class');
	$writer->commit;
	ok(waits_for('waiting for old snapshots'), "$what: it is filled, and not to be read");
	is(trade($shop), $traded, "$what: calls go on");
	$reader->do('COMMIT');
	is(ended_with($builder), '', "$what: built");
	is(trade($shop), $traded, "$what: calls go on");
	indexes_sound($admin, "$what: every row is in every index, those written meanwhile too");
	$_->disconnect for $writer, $reader;
}
balanced($admin, 'all money is accounted for');

done_testing;
