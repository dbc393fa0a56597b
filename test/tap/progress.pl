# The view progress: what another session sees in the middle of long work, and that it goes with the work. The work stands
# still where it waits for a lock of the test's.

use strict;
use warnings;

use DBD::Pg qw(:async);
use OTServer;
use OTTest;
use Test::More;

my $server = OTServer->started('progress');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
$server->safe_psql('postgres', 'CREATE DATABASE elsewhere');
my $dbh = $server->dbh('shop');
$dbh->do($_) for 'CREATE EXTENSION order_timeout', map { "CREATE ROLE $_ LOGIN" } qw(reader operator nobody);
call($dbh, 'grant_access', $_, $_) for qw(reader operator);
$dbh->do('GRANT USAGE ON SCHEMA order_timeout TO nobody');
$dbh->do(<<'SQL');
CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1);
    RETURN NEW;
END
$$;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'not this one';
END
$$;
CREATE FUNCTION build() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMP TABLE built ON COMMIT DROP AS SELECT 1 AS a;
    CREATE INDEX ON built (a);
    RETURN NEW;
END
$$;
SQL
my ($reader, $operator) = map { $server->dbh('shop', user => $_) } qw(reader operator);
my $holder   = $server->dbh('shop');
my $advisory = 'SELECT pg_advisory_xact_lock(1)';

sub seen {
	my ($session) = @_;
	return $reader->selectrow_hashref(<<'SQL', undef, $session->{pg_pid});
SELECT command, phase, step, steps, done, total, percent, unit FROM order_timeout.progress WHERE pid = ?
SQL
}

# Sends a statement that will wait for the lock, and answers what is seen then.
sub seen_in {
	my ($session, $statement, $lock) = @_;
	$holder->begin_work;
	$holder->do($lock);
	$session->do($statement, { pg_async => PG_ASYNC });
	ok(eventually(sub {
		$dbh->selectrow_array(q{SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = ?}, undef, $session->{pg_pid});
	}), $statement);
	return seen($session);
}

sub gone {
	my ($session, $sqlstate) = @_;
	$holder->rollback;
	is(ended_with($session), $sqlstate // '', '... ends');
	is(seen($session), undef, '... and its row has gone');
}

sub row {
	my %row;
	@row{qw(command phase step steps done total percent unit)} = @_;
	return \%row;
}

# ------------------------------------------------------------ sweep

is_deeply($reader->selectall_arrayref('SELECT * FROM order_timeout.progress'), [], 'nothing is at work');
create_orders($dbh, "o", 1, 300, q{now() + interval '1 hour'});
$dbh->do(<<'SQL');
UPDATE order_timeout.orders SET expires_at = now() - interval '1 day' + substr(order_id, 2)::int * interval '1 second';
CREATE TRIGGER fail BEFORE UPDATE ON order_timeout.orders FOR EACH ROW WHEN (NEW.order_id = 'o90') EXECUTE FUNCTION fail();
CREATE TRIGGER stand_still BEFORE UPDATE ON order_timeout.orders FOR EACH ROW WHEN (NEW.order_id = 'o290') EXECUTE FUNCTION stand_still();
SQL
my $row = seen_in($operator, "CALL order_timeout.sweep('1 hour', 50)", $advisory);
is("$row->{command} $row->{phase} $row->{step}/$row->{steps} $row->{total} $row->{unit}", 'sweep closing due orders 1/1 284 orders',
	'what was due after the first batch of 16');
cmp_ok($row->{done}, '>=', 284 - 10 - 50, 'and how much of it is done, after one that failed too');
cmp_ok($row->{done}, '<', 284, 'but not all of it');
is($row->{percent}, sprintf('%.1f', 100 * $row->{done} / 284), 'in percent');
is_deeply($reader->selectrow_arrayref(<<'SQL'), [ 1, 1 ], 'since when, and how long');
SELECT started_at BETWEEN (SELECT max(started_at) FROM order_timeout.sweeps) AND clock_timestamp(), running = clock_timestamp() - started_at OR running > '0'
  FROM order_timeout.progress
SQL
my $elsewhere = $server->dbh('elsewhere');
$elsewhere->do('CREATE EXTENSION order_timeout');
is_deeply($elsewhere->selectall_arrayref('SELECT * FROM order_timeout.progress'), [], 'each database has its own');
my $nobody = $server->dbh('shop', user => 'nobody');
is(error_of($nobody, sub { $nobody->do('SELECT * FROM order_timeout.progress') }), '42501', 'it is not for all');
is(error_of($nobody, sub { $nobody->do("SELECT order_timeout.$_") }), '42501', "nor is $_")
	for '_progress_rows()', '_progress_row(1)', q{_progress('sweep', 1)};
is(error_of($reader, sub { $reader->do(q{SELECT order_timeout._progress('none', 1)}) }), '22023', 'no such work');
$holder->rollback;
ok(eventually(sub { !seen($operator) }), 'a sweep that waits for the next deadline shows nothing');
is($dbh->selectrow_array(q{SELECT count(*) FROM order_timeout.orders WHERE state = 'expired'}), 299, 'though it runs on');
$dbh->do('SELECT pg_cancel_backend(?)', undef, $operator->{pg_pid});
is(ended_with($operator), '57014', 'until it is ended');
$dbh->do("DROP TRIGGER $_ ON order_timeout.orders") for qw(fail stand_still);

# Ended in the middle of its work
create_orders($dbh, "p", 1, 100, q{now() + interval '1 hour'});
$dbh->do(q{UPDATE order_timeout.orders SET expires_at = now() - interval '1 minute' WHERE settled_at IS NULL});
$dbh->do(q{CREATE TRIGGER stand_still BEFORE UPDATE ON order_timeout.orders FOR EACH ROW WHEN (NEW.order_id = 'p100') EXECUTE FUNCTION stand_still()});
is(seen_in($operator, "CALL order_timeout.sweep('1 hour', 50)", $advisory)->{command}, 'sweep', 'a sweep');
$dbh->do('SELECT pg_cancel_backend(?)', undef, $operator->{pg_pid});
is(ended_with($operator), '57014', '... is cancelled');
is(seen($operator), undef, '... and its row has gone');
$holder->rollback;
$dbh->do('DROP TRIGGER stand_still ON order_timeout.orders');
call($dbh, 'sweep_once', 1000);

# ------------------------------------------------------------ adopt_orders

$dbh->do(<<'SQL');
CREATE TABLE sales (id int PRIMARY KEY, status int, total bigint);
GRANT SELECT, UPDATE ON sales TO operator;
INSERT INTO sales SELECT i, CASE WHEN i <= 250 THEN 1 ELSE 2 END, 100 FROM generate_series(1, 260) i;
UPDATE sales SET total = NULL WHERE id = 140;
SELECT order_timeout.link_table('sales', 'id', 'status', '{"pending": 1, "paid": 2, "expired": 3}', amount_column => 'total', currency => 'EUR');
CREATE TRIGGER stand_still BEFORE INSERT ON order_timeout.orders FOR EACH ROW WHEN (NEW.order_id = '150') EXECUTE FUNCTION stand_still();
SQL
is_deeply(seen_in($operator, "CALL order_timeout.adopt_orders('sales', 100)", $advisory),
	row('adopt_orders', 'creating orders', 1, 1, 100, 250, '40.0', 'rows'), 'rows that were taken over, of those that can be');
gone($operator);
$dbh->do('DROP TRIGGER stand_still ON order_timeout.orders');

# ------------------------------------------------------------ statements

create_orders($dbh, "s", 1, 20, q{now() + interval '1 hour'});
sub file {
	my (@amounts) = @_;
	my $line = 0;
	return join "\n", 'id,order,amount,at', map { $line++; "pay$line,s$line,$_,2026-05-10 00:00" } @amounts;
}
my $layout = '{"header": ["id"], "kind": "id", "kinds": {"*": "payment"}, "units": "minor", "currency_is": "EUR", "at": "at",
	"time_zone": "UTC", "reference": "id", "our_reference": "order", "amount": "amount"}';

sub loading {
	my ($name, @amounts) = @_;
	return sprintf q{SELECT order_timeout.load_statement('bank', %s, %s, %s, '2026-05-10', '2026-05-11')},
		map { $dbh->quote($_) } $name, $layout, file(@amounts);
}

# An index that is built meanwhile has a report of its own.
$dbh->do(<<'SQL');
CREATE TRIGGER build BEFORE INSERT ON order_timeout.statement_lines FOR EACH ROW WHEN (NEW.reference = 'pay3') EXECUTE FUNCTION build();
CREATE TRIGGER stand_still BEFORE INSERT ON order_timeout.statement_lines FOR EACH ROW WHEN (NEW.reference = 'pay12') EXECUTE FUNCTION stand_still();
SQL
is_deeply(seen_in($operator, loading('day', (100) x 20), $advisory),
	row('load_statement', 'storing lines', 2, 2, 12, 20, '60.0', 'records'), 'lines that were stored, of those of the file');
gone($operator);
seen_in($operator, loading('bad', (100) x 15, 'x'), $advisory);
gone($operator, '22023');
$dbh->do("DROP TRIGGER $_ ON order_timeout.statement_lines") for qw(build stand_still);

my $lock = 'LOCK TABLE order_timeout.payments';
my $check = "SELECT * FROM order_timeout.check_statement('bank', 'day')";
is_deeply(seen_in($operator, $check, $lock),
	row('check_statement', 'matching lines', 1, 2, 0, 20, '0.0', 'lines'), 'lines that were matched');
gone($operator);
is_deeply(seen_in($operator, "SELECT * FROM order_timeout.statement_totals('bank', 'day')", $lock),
	row('statement_totals', 'matching lines', 1, 1, 0, 20, '0.0', 'lines'), 'the same for the totals');
gone($operator);

# Each line that is matched counts, also where only those with a difference are asked for.
$dbh->do(<<'SQL');
CREATE FUNCTION matched() RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM order_timeout._begin_matching('check_statement', 'bank', 'day');
    RETURN QUERY SELECT count(*) FROM order_timeout._statement_matches('bank', 'day') m WHERE m.problem IS NOT NULL;
    RETURN QUERY SELECT p.done FROM order_timeout.progress p;
    PERFORM order_timeout._progress('check_statement', 0);
END
$$;
SQL
$operator->begin_work;
call($operator, 'record_payment', "s$_", 'bank', "pay$_", 100, 'EUR') for 1 .. 5;
is_deeply($operator->selectcol_arrayref('SELECT matched()'), [ 15, 20 ], 'all lines were matched, of which some differ');
is(seen($operator), undef, '... and its row has gone');
$operator->rollback;
$dbh->do('DROP FUNCTION matched()');

# COPY has its own report.
my $root = $server->dbh('shop');
is(seen_in($root, "COPY ($check) TO '/dev/null'", $lock), undef, 'no row');
is($dbh->selectrow_array('SELECT type FROM pg_stat_progress_copy WHERE pid = ?', undef, $root->{pg_pid}), 'FILE', 'but that of COPY');
gone($root);

# Lines that fail, and what a trigger calls, are not the end of it. Orders come by their ids: s1, s10, ... s19 is the eleventh.
$dbh->do(<<'SQL');
CREATE FUNCTION check_too() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM order_timeout.check_statement('bank', 'other');
    RETURN NEW;
END
$$;
SELECT order_timeout.load_statement('bank', 'other', '{"header": ["id"], "kind": "id", "kinds": {"*": "fee"}, "units": "minor", "currency_is": "EUR",
    "at": "at", "time_zone": "UTC", "amount": "amount"}', E'id,amount,at\n1,2,2026-05-10 00:00', '2026-05-09', '2026-05-10');
CREATE TRIGGER fail BEFORE INSERT ON order_timeout.payments FOR EACH ROW WHEN (NEW.payment_ref = 'pay12') EXECUTE FUNCTION fail();
CREATE TRIGGER check_too BEFORE INSERT ON order_timeout.payments FOR EACH ROW WHEN (NEW.payment_ref = 'pay14') EXECUTE FUNCTION check_too();
CREATE TRIGGER stand_still BEFORE INSERT ON order_timeout.payments FOR EACH ROW WHEN (NEW.payment_ref = 'pay19') EXECUTE FUNCTION stand_still();
SQL
$row = seen_in($operator, "CALL order_timeout.apply_statement('bank', 'day', 5)", $advisory);
is_deeply($row, row('apply_statement', 'applying lines', 2, 2, 10, 20, '50.0', 'lines'), 'lines that were tried');
gone($operator);
is($dbh->selectrow_array(q{SELECT count(*) FILTER (WHERE applied_at IS NOT NULL) || ' ' || count(*) FROM order_timeout.statement_lines WHERE statement = 'day'}),
	'19 20', 'all but the one');

# The second phase of check_statement
$dbh->do(<<'SQL');
CREATE OR REPLACE FUNCTION order_timeout._missing_in_statements(gateway text, since timestamptz, before timestamptz)
RETURNS TABLE (kind text, reference text, order_id text, payment_ref text, refund_ref text, amount bigint, currency text, at timestamptz, is_ours boolean)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1);
END
$$;
SQL
is_deeply(seen_in($operator, $check, $advisory),
	row('check_statement', 'looking for rows that no statement has', 2, 2, undef, undef, undef, 'lines'), 'then the other way round');
gone($operator);

# ------------------------------------------------------------ funds_violations

# An order that is paid with less than its amount is looked up in the events.
$dbh->do(q{INSERT INTO order_timeout.policies (policy, short_tolerance) VALUES ('tolerant', 5)});
call($dbh, 'create_order', 'q1', 100, 'EUR', '1 hour', undef, 'tolerant');
call($dbh, 'record_payment', 'q1', 'bank', 'short', 97, 'EUR');
$dbh->do('ANALYZE order_timeout.orders');
my $orders = $dbh->selectrow_array('SELECT count(*) FROM order_timeout.orders');
my $before = $dbh->selectrow_array(q{SELECT count(*) FROM order_timeout.orders WHERE order_id < 'q1'});
my $proof  = 'SELECT * FROM order_timeout.funds_violations()';
is_deeply(seen_in($operator, $proof, 'LOCK TABLE order_timeout.refunds'),
	row('funds_violations', 'reading and sorting rows', 1, 2, undef, undef, undef, 'orders'), 'a proof that reads');
gone($operator);
# The order is judged when the next one has come.
is_deeply(seen_in($operator, $proof, 'LOCK TABLE order_timeout.events'),
	row('funds_violations', 'adding up orders', 2, 2, $before + 1, $orders, sprintf('%.1f', 100 * ($before + 1) / $orders), 'orders'),
	'a proof in the middle of the orders');
gone($operator);

# ------------------------------------------------------------ switched off

my $silent = $server->dbh('shop');
$silent->do('SET track_activities = off');
$holder->begin_work;
$holder->do($advisory);
$silent->do($check, { pg_async => PG_ASYNC });
ok(eventually(sub { $dbh->selectrow_array('SELECT count(*) FROM pg_locks WHERE pid = ? AND NOT granted', undef, $silent->{pg_pid}) }),
	'with track_activities = off');
is(seen($silent), undef, '... nothing is shown');
gone($silent);

done_testing();
