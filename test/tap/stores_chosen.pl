# When the fast store serves, and when SQL statements do: with order_timeout.store = fast what stands in the way is an
# error that names it, with auto the same call works, and once it is out of the way the same session is served again.

use strict;
use warnings;

use OTServer;
use OTTest;
use Test::More;

plan skip_all => 'it chooses the stores by itself: once is enough' if ($ENV{OT_STORE} // 'auto') eq 'sql';

my $server = OTServer->started('chosen');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do($_) for (
	'CREATE EXTENSION order_timeout',
	'CREATE TABLE log (what text)',
	q{CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (tg_op); RETURN NEW; END $$},
	q{CREATE FUNCTION yes(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN true; END $$},
	q{CREATE FUNCTION yes(text, text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN true; END $$},
	'CREATE OPERATOR ==> (leftarg = text, rightarg = text, function = yes)',
	'CREATE DOMAIN word AS text CHECK (yes(VALUE))',
	'CREATE TYPE pair AS (one word, other word)');

sub choose { return $dbh->do("SET order_timeout.store = '$_[0]'") }

# Each of these tables is read and written by it: an order, a payment, a refund, its end, and their events.
my $orders = 0;

sub buy_and_refund {
	my $order = 'order-' . ++$orders;
	call($dbh, 'create_order', $order, 100, 'EUR');
	call($dbh, 'record_payment', $order, 'bank', $order, 100, 'EUR');
	my $refund = call($dbh, 'request_refund', $order, 'key');
	call($dbh, 'claim_refunds', 'worker');
	return call($dbh, 'complete_refund', $refund->{refund_ref}, 'succeeded')->{outcome};
}

# What the fast store says to it: '' or the table and the reason.
sub refusal {
	choose('fast');
	my $state = error_of($dbh, \&buy_and_refund);
	return '' if $state eq '';
	my ($table)  = $dbh->errstr =~ /^ERROR:  the fast store cannot serve table "(\w+)"$/m;
	my ($reason) = $dbh->errstr =~ /^DETAIL:  The reason: (.*)\.$/m;
	return join ': ', $state, $table // '', $reason // $dbh->errstr;
}

# hindered WHAT, TABLE, REASON, SQL to bring it about, SQL to end it
sub hindered {
	my ($what, $table, $reason, $begin, $end) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(refusal(), '', "before $what") or return;
	$dbh->do($_) for ref $begin ? @$begin : $begin;
	is(refusal(), "55000: $table: $reason", "$what: refused");
	choose('auto');
	is(buy_and_refund(), 'recorded', "$what: SQL statements serve");
	$dbh->do($_) for ref $end ? @$end : $end;
	return is(refusal(), '', "$what: served again when it is gone");
}

# ------------------------------------------------------------ triggers

is(refusal(), '', 'served as the extension made it');

my $has_triggers = 'it has triggers';

for my $table (qw(orders payments refunds events)) {
	$dbh->do('TRUNCATE log');
	hindered("a trigger on $table", $table, $has_triggers,
		"CREATE TRIGGER note AFTER INSERT OR UPDATE ON order_timeout.$table FOR EACH ROW EXECUTE FUNCTION note()",
		"DROP TRIGGER note ON order_timeout.$table");
	cmp_ok($dbh->selectrow_array('SELECT count(*) FROM log'), '>', 0, "a trigger on $table: it fired");
}
hindered('a disabled trigger', 'orders', $has_triggers,
	[ 'CREATE TRIGGER note BEFORE UPDATE ON order_timeout.orders FOR EACH ROW EXECUTE FUNCTION note()',
		'ALTER TABLE order_timeout.orders DISABLE TRIGGER note' ],
	'DROP TRIGGER note ON order_timeout.orders');
hindered('a trigger for each statement', 'payments', $has_triggers,
	'CREATE TRIGGER note AFTER INSERT ON order_timeout.payments FOR EACH STATEMENT EXECUTE FUNCTION note()',
	'DROP TRIGGER note ON order_timeout.payments');
hindered('a unique constraint that is deferred', 'orders', $has_triggers,
	'ALTER TABLE order_timeout.orders ADD CONSTRAINT later UNIQUE (order_id, amount) DEFERRABLE',
	'ALTER TABLE order_timeout.orders DROP CONSTRAINT later');
hindered('a foreign key of ours', 'orders', $has_triggers,
	'ALTER TABLE order_timeout.orders ADD CONSTRAINT policy FOREIGN KEY (policy) REFERENCES order_timeout.policies',
	'ALTER TABLE order_timeout.orders DROP CONSTRAINT policy');

# ------------------------------------------------------------ what else a table can have

hindered('row security', 'orders', 'it has row security',
	'ALTER TABLE order_timeout.orders ENABLE ROW LEVEL SECURITY', 'ALTER TABLE order_timeout.orders DISABLE ROW LEVEL SECURITY');
hindered('row security on policies', 'policies', 'it has row security',
	'ALTER TABLE order_timeout.policies ENABLE ROW LEVEL SECURITY', 'ALTER TABLE order_timeout.policies DISABLE ROW LEVEL SECURITY');
hindered('a rule', 'events', 'it has rules',
	'CREATE RULE nothing AS ON DELETE TO order_timeout.events DO ALSO NOTHING', 'DROP RULE nothing ON order_timeout.events');

# That a table has children is noted when the first one comes, and forgotten by ANALYZE.
hindered('a child', 'events', 'it has partitions or children, or is one',
	'CREATE TABLE archive () INHERITS (order_timeout.events)', [ 'DROP TABLE archive', 'ANALYZE order_timeout.events' ]);

my $calls_users = 'a CHECK may run code that is not PostgreSQL\'s own';

for my $check ('yes(order_id)', "order_id ==> 'a'", "coalesce(order_id::word, 'a') IS NOT NULL",
	"('{' || order_id || '}')::word[] IS NOT NULL", "jsonb_populate_record(NULL::pair, '{}') IS NULL") {
	hindered("CHECK ($check)", 'orders', $calls_users,
		"ALTER TABLE order_timeout.orders ADD CONSTRAINT mine CHECK ($check)", 'ALTER TABLE order_timeout.orders DROP CONSTRAINT mine');
}
# Policies are only read, and reading checks nothing.
$dbh->do('ALTER TABLE order_timeout.policies ADD CONSTRAINT mine CHECK (yes(policy))');
is(refusal(), '', 'CHECK on policies');
$dbh->do('ALTER TABLE order_timeout.policies DROP CONSTRAINT mine');

# A function of PostgreSQL's own can still come round to a user's, and that one to us.
choose('auto');
$dbh->do($_) for (
	q{CREATE FUNCTION also(wanted text) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		IF wanted NOT LIKE 'also%' THEN
			PERFORM order_timeout.create_order('also ' || wanted, 1, 'EUR');
		END IF;
		RETURN true;
	END
	$$},
	q{ALTER TABLE order_timeout.orders ADD CONSTRAINT mine CHECK
		(query_to_xml(format('SELECT also(%L)', order_id), true, true, '') IS NOT NULL)});
is(eval { buy_and_refund() } // $@, 'recorded', 'a CHECK that calls our functions again');
$dbh->do('ALTER TABLE order_timeout.orders DROP CONSTRAINT mine');
is(refusal(), '', 'and without it');

my $index_calls_users = 'one of its indexes may run code that is not PostgreSQL\'s own';

hindered("an index on a user's function", 'payments', $index_calls_users,
	'CREATE INDEX mine ON order_timeout.payments (yes(order_id))', 'DROP INDEX order_timeout.mine');
hindered("an index where a user's function says so", 'refunds', $index_calls_users,
	'CREATE INDEX mine ON order_timeout.refunds (amount) WHERE yes(order_id)', 'DROP INDEX order_timeout.mine');
for my $method ([ 'hash', 'order_id' ], [ 'gin', 'metadata' ], [ 'brin', 'created_at' ]) {
	my ($name, $column) = @$method;
	hindered("a $name index", 'orders', 'one of its indexes is not a btree',
		"CREATE INDEX mine ON order_timeout.orders USING $name ($column)", 'DROP INDEX order_timeout.mine');
}

my $no_index = 'an index that the extension made is not there';

hindered('an index gone', 'orders', $no_index, 'DROP INDEX order_timeout.orders_due',
	'CREATE INDEX orders_due ON order_timeout.orders (closes_at) WHERE settled_at IS NULL');
hindered('an index for other rows', 'orders', $no_index,
	[ 'DROP INDEX order_timeout.orders_due', "CREATE INDEX orders_due ON order_timeout.orders (closes_at) WHERE state = 'pending'" ],
	[ 'DROP INDEX order_timeout.orders_due', 'CREATE INDEX orders_due ON order_timeout.orders (closes_at) WHERE settled_at IS NULL' ]);
hindered('an index the other way round', 'refunds', $no_index,
	[ 'DROP INDEX order_timeout.refunds_open',
		'CREATE INDEX refunds_open ON order_timeout.refunds (next_attempt_at DESC, gateway) WHERE settled_at IS NULL' ],
	[ 'DROP INDEX order_timeout.refunds_open',
		'CREATE INDEX refunds_open ON order_timeout.refunds (next_attempt_at, gateway) WHERE settled_at IS NULL' ]);

# ------------------------------------------------------------ isolation levels

for my $level ('REPEATABLE READ', 'SERIALIZABLE') {
	$dbh->do("SET default_transaction_isolation = '\L$level'");
	my $reason = "the transaction's isolation level is not READ COMMITTED";
	is(refusal(), "55000: orders: $reason", "$level: refused");
	choose('auto');
	is(buy_and_refund(), 'recorded', "$level: SQL statements serve");
	$dbh->do('RESET default_transaction_isolation');
	is(refusal(), '', "$level: served again after it");
}

# ------------------------------------------------------------ in one transaction

for my $undo ('transaction', 'savepoint') {
	choose('auto');
	$dbh->begin_work;
	buy_and_refund();
	$dbh->pg_savepoint('before') if $undo eq 'savepoint';
	$dbh->do('TRUNCATE log');
	$dbh->do('CREATE TRIGGER note AFTER INSERT ON order_timeout.orders FOR EACH ROW EXECUTE FUNCTION note()');
	is(buy_and_refund(), 'recorded', "$undo: with a trigger made in it");
	is($dbh->selectrow_array('SELECT count(*) FROM log'), 1, "$undo: the trigger fired");
	if ($undo eq 'savepoint') {
		$dbh->pg_rollback_to('before');
		is(refusal(), '', "$undo: served in the same transaction, after it was rolled back");
		$dbh->commit;
	}
	else {
		$dbh->rollback;
	}
	is(refusal(), '', "$undo: served after it");
}

# ------------------------------------------------------------ what is no hindrance

$dbh->do($_) for (
	"CREATE TABLE items (order_id text COLLATE \"C\" REFERENCES order_timeout.orders ON UPDATE CASCADE ON DELETE CASCADE,
		gateway text COLLATE \"C\", payment_ref text COLLATE \"C\",
		FOREIGN KEY (gateway, payment_ref) REFERENCES order_timeout.payments ON UPDATE SET NULL ON DELETE SET NULL,
		refund_ref text COLLATE \"C\" REFERENCES order_timeout.refunds ON UPDATE RESTRICT ON DELETE RESTRICT DEFERRABLE)",
	'CREATE TABLE handled (id bigint REFERENCES order_timeout.events ON DELETE SET DEFAULT)');
is(refusal(), '', "served beside users' foreign keys to our primary keys");
my $order = "order-$orders";
$dbh->do("INSERT INTO items SELECT order_id, gateway, payment_ref, refund_ref FROM order_timeout.refunds WHERE order_id = ?", undef, $order);
$dbh->do('INSERT INTO handled SELECT id FROM order_timeout.events');
is(call($dbh, 'reverse_refund', $dbh->selectrow_array('SELECT refund_ref FROM items'), 'came back')->{outcome}, 'reversed', 'rows that are pointed at are written');
is_deeply($dbh->selectrow_arrayref('SELECT order_id, gateway, payment_ref FROM items'), [ $order, 'bank', $order ], 'who points at them still does');
is(error_of($dbh, sub { $dbh->do("INSERT INTO items VALUES ('nobody')") }), '23503', 'the foreign key holds');
like(error_of($dbh, sub { $dbh->do('DELETE FROM order_timeout.refunds WHERE order_id = ?', undef, $order) }), qr/^(23503|23001)$/, 'in both directions');    # 23001 from PostgreSQL 18 on
$dbh->do('DROP TABLE items, handled');

$dbh->do('CREATE UNIQUE INDEX other_key ON order_timeout.orders (order_id, amount)');
is(refusal(), '', 'served with another unique index');
hindered('a foreign key that points at another key', 'orders', $has_triggers,
	'CREATE TABLE items (order_id text COLLATE "C", amount bigint, FOREIGN KEY (order_id, amount) REFERENCES order_timeout.orders (order_id, amount))',
	'DROP TABLE items');
for my $index ("orders (created_at)", "orders ((metadata->>'shop')) WHERE state = 'paid'", 'orders (lower(close_reason) text_pattern_ops DESC)',
	'events (type) INCLUDE (created_at)', 'refunds (least(amount, asked), upper(note))') {
	$dbh->do("CREATE INDEX mine ON order_timeout.$index");
	is(refusal(), '', "served with an index on $index");
	$dbh->do('DROP INDEX order_timeout.mine');
}
$dbh->do($_) for 'CREATE TABLE parent (LIKE order_timeout.payments)', 'ALTER TABLE order_timeout.payments INHERIT parent';
is(refusal(), '', 'served as a child of another table');
is($dbh->selectrow_array('SELECT count(*) FROM parent'), $dbh->selectrow_array('SELECT count(*) FROM order_timeout.payments'),
	'whose rows are seen there');
$dbh->do('ALTER TABLE order_timeout.payments NO INHERIT parent');
$dbh->do($_) for 'ALTER TABLE order_timeout.orders SET (fillfactor = 50)', 'ALTER TABLE order_timeout.orders ALTER metadata SET STORAGE EXTERNAL',
	'CREATE STATISTICS mine (dependencies) ON state, currency FROM order_timeout.orders',
	"ALTER TABLE order_timeout.orders ADD CONSTRAINT mine CHECK (length(order_id) < 200 AND currency IN ('EUR', 'USD') AND metadata IS DISTINCT FROM 'null')";
is(refusal(), '', 'served with settings, statistics, and a CHECK that calls only what PostgreSQL has');
$dbh->do('ALTER TABLE order_timeout.orders DROP CONSTRAINT mine');

# A trigger that pays another order of the batch and chooses the other store: what was found without a lock is not written over.
choose('auto');
$dbh->do($_) for (
	q{CREATE FUNCTION choose_sql() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM order_timeout.record_payment('due 3', 'bank', 'in between', 100, 'EUR');
		PERFORM set_config('order_timeout.store', 'sql', false);
		RETURN NEW;
	END
	$$},
	'CREATE TRIGGER mine BEFORE UPDATE ON order_timeout.payments FOR EACH ROW EXECUTE FUNCTION choose_sql()',
	q{SELECT order_timeout.create_order('due ' || i, 100, 'EUR', expires_in => '10 ms') FROM generate_series(1, 3) i},
	q{SELECT order_timeout.record_payment('due 2', 'bank', 'part', 40, 'EUR')},
	q{SELECT pg_sleep(0.02)});
is_deeply($dbh->selectrow_arrayref('SELECT expired, failed FROM order_timeout.sweep_once()'), [ 2, 0 ], 'a trigger that pays and chooses the other store');
is_deeply($dbh->selectall_arrayref(q{SELECT state, paid, refund_pending FROM order_timeout.orders WHERE order_id LIKE 'due _' ORDER BY order_id}),
	[ [ 'expired', 0, 0 ], [ 'expired', 40, 40 ], [ 'paid', 100, 0 ] ], 'the paid order stays paid');
$dbh->do($_) for 'DROP TRIGGER mine ON order_timeout.payments', 'DROP FUNCTION choose_sql';
is(refusal(), '', 'and without it');

# Both write every column that has a default, so an owner's own default makes no difference between them.
$dbh->do(q{ALTER TABLE order_timeout.events ALTER aggregatetype SET DEFAULT 'shop_order'});
for my $store (qw(sql auto)) {
	choose($store);
	buy_and_refund();
	is($dbh->selectrow_array('SELECT aggregatetype FROM order_timeout.events ORDER BY id DESC LIMIT 1'), 'order', "$store: a default of events");
}
$dbh->do(q{ALTER TABLE order_timeout.events ALTER aggregatetype SET DEFAULT 'order'});
is(refusal(), '', 'as it was');

# ------------------------------------------------------------ columns, last, for one that was dropped leaves a trace

my $columns = 'its columns are not those that the extension made';

hindered('a column of another type', 'orders', $columns,
	'ALTER TABLE order_timeout.orders ALTER close_reason TYPE varchar(500)', 'ALTER TABLE order_timeout.orders ALTER close_reason TYPE text');
hindered('a column of less precision', 'payments', $columns,
	'ALTER TABLE order_timeout.payments ALTER paid_at TYPE timestamptz(0)', 'ALTER TABLE order_timeout.payments ALTER paid_at TYPE timestamptz');
# A numeric read as a bigint would be a pointer read as money.
for my $column ('orders paid', 'refunds asked') {
	my ($table, $name) = split / /, $column;
	$dbh->do("ALTER TABLE order_timeout.$table ALTER $name TYPE numeric");
	choose('auto');
	is(error_of($dbh, \&buy_and_refund), '55000', "$table.$name of type numeric: refused");
	like($dbh->errstr, qr/^ERROR:  column "$name" of order_timeout has type numeric, not bigint$/m, 'and why');
	$dbh->do("ALTER TABLE order_timeout.$table ALTER $name TYPE bigint");
	is(refusal(), '', 'served again with its own type');
}
for my $table (qw(policies orders payments refunds events)) {
	$dbh->do("ALTER TABLE order_timeout.$table ADD COLUMN more text DEFAULT 'something'");
	is(refusal(), "55000: $table: $columns", "a column more in $table: refused");
	choose('auto');
	is(buy_and_refund(), 'recorded', "a column more in $table: SQL statements serve");
	is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.$table WHERE more IS NULL"), 0, 'and it gets its default');
	$dbh->do("ALTER TABLE order_timeout.$table DROP COLUMN more");
	is(refusal(), "55000: $table: $columns", "and for ever after it was dropped");
	choose('auto');
	is(buy_and_refund(), 'recorded', 'SQL statements serve');
	$dbh->do($_) for 'DROP EXTENSION order_timeout', 'CREATE EXTENSION order_timeout';
	is(refusal(), '', 'a new extension is served');
}
balanced($dbh, 'all money is accounted for');

done_testing;
