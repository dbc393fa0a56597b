# A call of the fast store that ends in its middle: cancelled while it waits for a row, a lock timeout, a constraint, a
# deadlock, a rolled back block. The session goes on, in the same transaction where that is possible, and what it keeps of
# the tables is still right. And how much that is, after thousands of calls.

use strict;
use warnings;

use DBD::Pg qw(:async);
use OTServer;
use OTTest;
use Test::More;

plan skip_all => 'it chooses the stores by itself: once is enough' if ($ENV{OT_STORE} // 'auto') eq 'sql';

my $server = OTServer->started('interrupted', autovacuum => 'off', deadlock_timeout => '100ms');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $admin = connection();
$admin->do($_) for 'CREATE EXTENSION order_timeout', 'CREATE EXTENSION amcheck';

sub connection {
	my $dbh = $server->dbh('shop');
	$dbh->do("SET order_timeout.store = 'fast'");
	return $dbh;
}

sub waits {
	my ($dbh) = @_;
	my $pid = $dbh->{pg_pid};
	return eventually(sub { $admin->selectrow_array(
		"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid") });
}

# Without waiting for its end.
sub start_payment {
	my ($dbh, $order, $ref, $amount) = @_;
	return $dbh->do("SELECT order_timeout.record_payment('$order', 'bank', '$ref', $amount, 'EUR')", { pg_async => PG_ASYNC });
}

my $orders = 0;

sub order {
	my $order = 'order-' . ++$orders;
	call($admin, 'create_order', $order, 100, 'EUR', '1 hour');
	return $order;
}

# ------------------------------------------------------------ waiting for a row

my ($holder, $waiter, $session) = map { connection() } 1 .. 3;

# What waits is cancelled, by a person or by lock_timeout, outside of a transaction and in one.
my %sqlstate = (pg_cancel_backend => '57014', lock_timeout => '55P03');
for my $end (sort keys %sqlstate) {
	for my $transaction (0, 1) {
		my ($order, $before) = (order(), order());
		my $name = $end . ($transaction ? ' in a transaction' : '');

		$holder->begin_work;
		call($holder, 'record_payment', $order, 'bank', $order, 10, 'EUR');
		$session->do("SET lock_timeout = '" . ($end eq 'lock_timeout' ? '100ms' : '0') . "'");
		if ($transaction) {
			$session->begin_work;
			call($session, 'record_payment', $before, 'bank', $before, 10, 'EUR');
			$session->pg_savepoint('s');
		}
		start_payment($session, $order, "other-$order", 20);
		if ($end eq 'pg_cancel_backend') {
			ok(waits($session), "$name: it waits");
			$admin->do('SELECT pg_cancel_backend(?)', undef, $session->{pg_pid});
		}
		is(ended_with($session), $sqlstate{$end}, "$name: it ends");
		$session->pg_rollback_to('s') if $transaction;
		is(call($session, 'record_payment', $before, 'bank', "more-$before", 10, 'EUR')->{outcome}, 'partial', "$name: the session goes on");
		is(call($session, 'cancel_order', $before)->{outcome}, 'cancelled', "$name: with other calls");
		$session->commit if $transaction;
		$holder->rollback;
		is(call($session, 'record_payment', $order, 'bank', "other-$order", 20, 'EUR')->{outcome}, 'partial',
			"$name: the one that waited can be repeated");
		is($admin->selectrow_array("SELECT string_agg(paid::text, ' ' ORDER BY order_id COLLATE \"C\" = ?) FROM order_timeout.orders WHERE order_id IN (?, ?)",
			undef, $order, $order, $before), ($transaction ? 20 : 10) . ' 20', "$name: everything once");
	}
}
$session->do('RESET lock_timeout');

# Two that wait for each other: one of them is told so, and goes on after its rollback.
{
	my ($one, $other) = (order(), order());
	$waiter->begin_work;
	call($waiter, 'record_payment', $one, 'bank', "$one-1", 10, 'EUR');
	$session->begin_work;
	call($session, 'record_payment', $other, 'bank', "$other-1", 10, 'EUR');
	start_payment($session, $one, "$one-2", 10);
	waits($session);
	my $state = error_of($waiter, sub { call($waiter, 'record_payment', $other, 'bank', "$other-2", 10, 'EUR') });
	$state ? $waiter->rollback : $waiter->commit;
	my $other_state = ended_with($session);
	$other_state ? $session->rollback : $session->commit;
	is("$state$other_state", '40P01', 'a deadlock');
	is(call($session, 'record_payment', $other, 'bank', "$other-3", 10, 'EUR')->{outcome}, 'partial', 'both go on');
	is(call($waiter, 'record_payment', $one, 'bank', "$one-3", 10, 'EUR')->{outcome}, 'partial', 'after it');
}

# ------------------------------------------------------------ looking at a table

# While a session looks at a table that has changed, it waits for a lock on a catalog and is cancelled. From PostgreSQL 18
# on it finds that catalog's row in a cache, and there is nothing to wait for.
if ($admin->{pg_server_version} < 180000) {
	my $order = order();
	call($waiter, 'extend_order', $order, '2099-01-01');
	$admin->do('ALTER TABLE order_timeout.orders SET (fillfactor = 90)');
	$holder->begin_work;
	$holder->do('LOCK TABLE pg_catalog.pg_extension IN ACCESS EXCLUSIVE MODE');
	$waiter->do("SET statement_timeout = '200ms'");
	is(error_of($waiter, sub { call($waiter, 'extend_order', $order, '2099-01-02') }), '57014', 'cancelled while it looks at a table');
	$holder->rollback;
	$waiter->do('RESET statement_timeout');
	is(eval { call($waiter, 'extend_order', $order, '2099-01-03')->{outcome} } // $@, 'extended', 'and the next call');
}

# ------------------------------------------------------------ errors in blocks

$admin->do($_) for (
	q{ALTER TABLE order_timeout.orders ADD CONSTRAINT o CHECK (close_reason IS DISTINCT FROM 'orders')},
	q{ALTER TABLE order_timeout.payments ADD CONSTRAINT p CHECK (details IS DISTINCT FROM '"payments"')},
	q{ALTER TABLE order_timeout.refunds ADD CONSTRAINT r CHECK (note IS DISTINCT FROM 'refunds')},
	q{ALTER TABLE order_timeout.events ADD CONSTRAINT e CHECK (payload->>'reason' IS DISTINCT FROM 'events')},
	q{CREATE FUNCTION attempt(call text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		outcome text;
	BEGIN
		EXECUTE 'SELECT outcome FROM order_timeout.' || call INTO outcome;
		RETURN outcome;
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END
	$$});

sub attempt { my ($dbh, $call) = @_; return $dbh->selectrow_array('SELECT attempt(?)', undef, $call) }

for my $round ('the first time', 'once more') {
	my ($order, $paid) = (order(), order());
	$waiter->begin_work;
	call($waiter, 'record_payment', $paid, 'bank', $paid, 100, 'EUR');
	is(attempt($waiter, "cancel_order('$order', 'orders')"), '23514', "$round: a CHECK of orders");
	is(attempt($waiter, "record_payment('$order', 'bank', '$order', 10, 'EUR', NULL, '\"payments\"')"), '23514', 'of payments');
	is(attempt($waiter, "request_refund('$paid', 'key', 10, 'refunds')"), '23514', 'of refunds');
	is(attempt($waiter, "cancel_order('$order', 'events')"), '23514', 'of events, when the order is written already');
	is(attempt($waiter, "record_payment('$order', 'bank', '$order', 10, 'EUR')"), 'partial', 'and the next call');
	is(attempt($waiter, "request_refund('$paid', 'key', 10, 'a reason')"), 'accepted', 'and the next');
	is(attempt($waiter, "cancel_order('$order', 'enough')"), 'cancelled', 'and the next');
	$waiter->commit;
	is($admin->selectrow_array('SELECT state || paid || refund_pending FROM order_timeout.orders WHERE order_id = ?', undef, $order),
		'cancelled1010', 'all of it is there');
}

# A batch of the sweeper that fails is closed one by one.
$admin->do(q{ALTER TABLE order_timeout.events ADD CONSTRAINT cursed CHECK (type <> 'order.expired' OR aggregateid NOT LIKE '%7')});
$admin->do(q{SELECT order_timeout.create_order('due-' || i, 100, 'EUR', '1 microsecond') FROM generate_series(1, 250) i});
my $swept = call($admin, 'sweep_once');
is("$swept->{expired} $swept->{failed}", '225 25', 'a batch of which some fail');
$admin->do('ALTER TABLE order_timeout.events DROP CONSTRAINT cursed');
$admin->do('UPDATE order_timeout.set_aside SET retry_at = since');
is(call($admin, 'sweep_once')->{expired}, 25, 'the others later');

# ------------------------------------------------------------ many calls

sub kept_memory {
	my ($dbh) = @_;
	return $dbh->selectrow_array('SELECT sum(total_bytes) FROM pg_backend_memory_contexts');
}

my $many = connection();
my $trade = q{
DO $$
BEGIN
	FOR i IN 1 .. 2000 LOOP
		PERFORM order_timeout.create_order('many-' || %1$d || '-' || i, 100, 'EUR', metadata => '{"a": 1}');
		PERFORM order_timeout.record_payment('many-' || %1$d || '-' || i, 'bank', %1$d || '-' || i, 120, 'EUR');
		IF i %% 7 = 0 THEN
			BEGIN
				PERFORM order_timeout.cancel_order('nobody');
			EXCEPTION WHEN OTHERS THEN
			END;
		END IF;
		IF i %% 11 = 0 THEN
			BEGIN
				PERFORM order_timeout.create_order('not-' || %1$d || '-' || i, 100, 'EUR');
				PERFORM order_timeout.cancel_order('not-' || %1$d || '-' || i, 'events');
			EXCEPTION WHEN check_violation THEN
			END;
		END IF;
	END LOOP;
END
$$};
$server->append_conf('postgresql.conf', 'max_locks_per_transaction = 1000');
$server->restart;
$_ = connection() for $admin, $many;
$many->do(sprintf $trade, 1);
my $memory = kept_memory($many);
$many->do(sprintf $trade, $_) for 2, 3, 4;
cmp_ok(kept_memory($many), '<', $memory + 1024 * 1024, 'thousands of calls keep no memory');
is($many->selectrow_array(q{SELECT count(*) FROM order_timeout.orders WHERE order_id LIKE 'many-%' AND state = 'paid'}), 8000, 'and all of them did their work');
is($many->selectrow_array(q{SELECT count(*) FROM (SELECT order_timeout.complete_refund(refund_ref, 'succeeded') FROM order_timeout.refunds
	WHERE settled_at IS NULL AND order_id LIKE 'many-%') x}), 8000, 'so do thousands in one statement');
is($many->selectrow_array(q{SELECT sum(refunded) FROM order_timeout.orders WHERE order_id LIKE 'many-%'}), 8000 * 20, 'over the rows that it reads');

# After an error the session looks at the table anew: what it knew before is gone.
call($many, 'create_order', 'stays', 100, 'EUR');
my $fail = q{DO $$
BEGIN
	FOR i IN 1 .. 500 LOOP
		BEGIN
			PERFORM order_timeout.cancel_order('stays', 'orders');
		EXCEPTION WHEN check_violation THEN
		END;
	END LOOP;
END
$$};
$many->do($fail);
$memory = kept_memory($many);
$many->do($fail) for 1 .. 3;
cmp_ok(kept_memory($many), '<', $memory + 1024 * 1024, 'nor do errors');

# In a procedure that commits, with a cursor that stays open over it.
$many->do(q{DO $$
DECLARE
	o text;
BEGIN
	FOR o IN SELECT order_id FROM order_timeout.orders WHERE order_id LIKE 'many-1-%' ORDER BY 1 LIMIT 100 LOOP
		PERFORM order_timeout.request_refund(o, 'key', 50);
		COMMIT;
		PERFORM order_timeout.create_order('after ' || o, 1, 'EUR');
		IF o LIKE '%5' THEN ROLLBACK; END IF;
	END LOOP;
END
$$});
is($many->selectrow_array(q{SELECT count(*) FROM order_timeout.orders WHERE order_id LIKE 'after %'}),
	$many->selectrow_array(q{SELECT count(*) FILTER (WHERE order_id NOT LIKE '%5') FROM (SELECT order_id FROM order_timeout.orders WHERE order_id LIKE 'many-1-%' ORDER BY 1 LIMIT 100) x}),
	'a block that commits and rolls back between its calls');
$many->do(q{BEGIN});
$many->do(q{DECLARE c CURSOR FOR SELECT outcome FROM generate_series(1, 5) i, order_timeout.create_order('fetched ' || i, 1, 'EUR')});
is($many->selectrow_array('FETCH c'), 'created', 'from a cursor');
call($many, 'cancel_order', 'fetched 1');
is($many->selectrow_array('FETCH c'), 'created', 'with calls in between');
$many->do('COMMIT');

indexes_sound($admin, 'every row is in every index');
balanced($admin, 'all money is accounted for');
ok(!$server->log_contains(qr/terminated by signal|PANIC|TRAP/), 'nothing crashed');

done_testing;
