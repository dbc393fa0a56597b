# adopt_orders: the rows of a shop that was there before the engine. It commits, so it cannot be a pgTAP test.

use strict;
use warnings;

use OTServer;
use Test::More;

my $server = OTServer->started('adopt');
$server->safe_psql('postgres', 'CREATE DATABASE shop');

sub run { return $server->psql('shop', $_[0]) }
sub value { return $server->safe_psql('shop', $_[0]) }

value(<<'END');
CREATE EXTENSION order_timeout;
CREATE TABLE orders (id bigint PRIMARY KEY, status int NOT NULL, total numeric(10,2), pay_until timestamptz);
INSERT INTO orders SELECT i, CASE WHEN i % 5 = 0 THEN 2 ELSE 1 END, i + 0.5, now() + CASE WHEN i % 7 = 0 THEN -1 ELSE 1 END * interval '1 hour'
  FROM generate_series(1, 1000) i;
UPDATE orders SET total = NULL WHERE id = 501;
INSERT INTO orders VALUES (1002, 5, 10, now() + interval '1 hour'), (1003, 6, 10, now() - interval '1 hour');
END

my ($status, $out, $error) = run("CALL order_timeout.adopt_orders('orders')");
like($error, qr/table orders is not linked/, 'it has to be linked first');
value(<<'END');
SELECT order_timeout.link_table('orders', 'id', 'status', '{"pending": 1, "paid": 2, "expired": 9, "cancelled": 8}');
END
($status, $out, $error) = run("CALL order_timeout.adopt_orders('orders')");
like($error, qr/without an amount or a currency/, 'with an amount');
value(<<'END');
SELECT order_timeout.unlink_table('orders');
SELECT order_timeout.link_table('orders', 'id', 'status',
    '{"pending": 1, "authorized": 5, "closing": 6, "paid": 2, "expired": 9, "cancelled": 8}',
    amount_column => 'total', currency => 'EUR', deadline_column => 'pay_until', track => true);
END
($status, $out, $error) = run("BEGIN; CALL order_timeout.adopt_orders('orders'); COMMIT;");
like($error, qr/cannot run inside a transaction block/, 'not inside a transaction');
($status, $out, $error) = run("CALL order_timeout.adopt_orders('orders', 0)");
like($error, qr/batch_size/, 'a bad batch_size');

# Interrupted in the middle: a trigger of the test's own raises at the 600th row, as a kill would end it.
value(<<'END');
CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END$$;
CREATE TRIGGER stop BEFORE INSERT ON order_timeout.orders FOR EACH ROW WHEN (NEW.order_id = '603') EXECUTE FUNCTION stop();
END
($status, $out, $error) = run("CALL order_timeout.adopt_orders('orders', 100)");
isnt($status, 0, 'the session is killed in the middle');
is(value("SELECT count(*), (SELECT adopted FROM order_timeout.links), (SELECT adopted_to FROM order_timeout.links) FROM order_timeout.orders"),
	'400|400|499', 'whole batches are committed, and how far it came');
value('DROP TRIGGER stop ON order_timeout.orders');
($status, $out, $error) = run("CALL order_timeout.adopt_orders('public.orders', 100)");
is($status, 0, 'the next call');
like($error, qr/NOTICE:  400 rows seen, 399 orders created, 1 rows not taken over/, 'goes on where it was, and reports progress');
is(value("SELECT count(*) FROM order_timeout.orders"), '799', 'each payable row is an order');
is(value("SELECT adopted, adopted_to IS NULL, adopted_at IS NOT NULL FROM order_timeout.links"), '799|t|t', 'the link says that it ended');
is(value("SELECT amount, currency FROM order_timeout.orders WHERE order_id = '7'"), '750|EUR', 'with its amount');
is(value("SELECT count(*) FROM order_timeout.orders WHERE order_id::int % 5 = 0"), '0', 'paid ones are not touched');
is(value("SELECT count(*) FROM order_timeout.orders WHERE order_id::int > 1000"), '0', 'nor are authorised and closing ones');

value("UPDATE orders SET total = 1 WHERE id = 501");
is(value("SELECT amount FROM order_timeout.orders WHERE order_id = '501'"), '100', 'the row that was left out is tracked once it is corrected');
($status, $out, $error) = run("CALL order_timeout.adopt_orders('orders')");
like($error, qr/800 rows seen, 0 orders created/, 'again: nothing is created twice');

value("SELECT order_timeout.sweep_once()");
is(value("SELECT count(*) FROM orders WHERE status = 9"), '114', 'overdue ones are closed by the sweeper, in the table too');
is(value("SELECT count(*) FROM orders o JOIN order_timeout.orders e ON e.order_id = o.id::text WHERE (o.status = 9) <> (e.state = 'expired')"),
	'0', 'and none else');
is(value("SELECT string_agg(status::text, ',' ORDER BY id) FROM orders WHERE id > 1000"), '5,6', 'which are as they were');
is(value("SELECT count(*) FROM order_timeout.funds_violations()"), '0', 'the proof');

# A dump keeps the link, and what it does.
$server->safe_psql('postgres', 'CREATE DATABASE restored');
my $dump = $server->basedir . '/shop.sql';
$server->command_ok([ 'pg_dump', '--dbname', $server->connstr('shop'), '--file', $dump ], 'dump');
$server->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '--dbname', $server->connstr('restored'), '--file', $dump ], 'restore');
is($server->safe_psql('restored', <<'END'), 'pending|300', 'a restored link creates orders');
INSERT INTO orders VALUES (2001, 1, 3, now() + interval '1 hour');
SELECT state, amount FROM order_timeout.orders WHERE order_id = '2001';
END
is($server->safe_psql('restored', <<'END'), '8', 'and writes rows');
DO 'BEGIN PERFORM order_timeout.cancel_order(''2001''); END';
SELECT status FROM orders WHERE id = 2001;
END

done_testing();
