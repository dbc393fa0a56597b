# Metrics: events are counted once each, however transactions end.

use strict;
use warnings;

use FindBin;
use OTServer;
use OTTest;
use Test::More;

my $server = OTServer->started('metrics');
$server->safe_psql('postgres', 'CREATE DATABASE shop; CREATE DATABASE elsewhere; CREATE ROLE watcher LOGIN');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');
call($dbh, 'grant_access', 'watcher', 'reader');
my $watcher = $server->dbh('shop', user => 'watcher');

sub create { return call($_[0], 'create_order', $_[1], 100, 'EUR') }

# What the view shows, and what it has to: 'order.created 2, ...'.
sub counted {
	return $watcher->selectrow_array(<<'END') // '';
SELECT string_agg((labels ->> 'type') || ' ' || value, ', ' ORDER BY labels ->> 'type')
  FROM order_timeout.metrics WHERE name = 'order_timeout_events_total'
END
}

sub events {
	my ($after) = @_;
	return $dbh->selectrow_array(<<'END', undef, $after) // '';
SELECT string_agg(type || ' ' || n, ', ' ORDER BY type)
  FROM (SELECT type, count(*) AS n FROM order_timeout.events WHERE id > ? GROUP BY type) t
END
}

sub position { return $dbh->selectrow_array("SELECT ctid FROM order_timeout.consumer_positions WHERE consumer = ''") }

# ------------------------------------------------------------ the page

# 'name: labels, type, meaning' of each metric that has a sample, and of its line in doc/metrics.md.
sub documented {
	open my $page, '<', "$FindBin::Bin/../../doc/metrics.md" or die "doc/metrics.md: $!\n";
	return { map { /^\| `(order_timeout_\w+)` \| (.*) \| (\w+) \| (.*) \|$/ ? ($1 => [ $2 =~ tr/`//dr, $3, $4 ]) : () } <$page> };
}

sub shown {
	my $rows = $watcher->selectall_arrayref(<<'END');
SELECT m.name, coalesce(string_agg(DISTINCT l.key, ', ' ORDER BY l.key), ''), m.type, m.help
  FROM order_timeout.metrics m LEFT JOIN LATERAL jsonb_object_keys(m.labels) l (key) ON true GROUP BY 1, 3, 4
END
	return { map { $_->[0] => [ @$_[ 1 .. 3 ] ] } @$rows };
}

# ------------------------------------------------------------ counting

create($dbh, 'before');
is(counted(), '', 'nothing is counted before the first sweep');
call($dbh, 'sweep_once');
create($dbh, $_) for qw(a b c);
call($dbh, 'cancel_order', 'b');
call($dbh, 'record_payment', 'c', 'bank', 'c', 100, 'EUR');
call($dbh, 'sweep_once');
is(counted(), 'order.cancelled 1, order.created 3, order.paid 1', 'from then on, all');
is(counted(), events(1), 'as they are in the table');
is($watcher->selectrow_array(<<'END'), 'order.cancelled EUR 100, order.created EUR 300, order.paid EUR 100', 'and their money');
SELECT string_agg(concat_ws(' ', labels ->> 'type', labels ->> 'currency', value), ', ' ORDER BY labels ->> 'type')
  FROM order_timeout.metrics WHERE name = 'order_timeout_event_amount_total'
END
my $position = position();
call($dbh, 'sweep_once');
is(position(), $position, 'a sweep that finds nothing writes nothing');
is($watcher->selectrow_array('SELECT count(*) FROM order_timeout.consumers'), 0, 'the counter is no consumer to look at');
is(error_of($dbh, sub { call($dbh, $_->[0], '', @$_[ 1 .. $#$_ ]) }), '22023', "and no caller can name it: $_->[0]")
	for [ 'create_consumer' ], [ 'drop_consumer' ], [ 'read_events' ], [ 'ack_events', 'x' ];

# A transaction that writes before others and commits after them.
my $late = $server->dbh('shop');
$late->begin_work;
create($late, 'late');
create($dbh, 'early');
call($dbh, 'sweep_once');
is(counted(), 'order.cancelled 1, order.created 4, order.paid 1', 'an open transaction keeps no other from being counted');
$late->commit;
call($dbh, 'sweep_once') for 1, 2;
is(counted(), events(1), 'and is counted once it commits');

# Two sweeps.
$late->begin_work;
create($dbh, 'for the first');
call($late, 'sweep_once');
$dbh->do($_) for "SET lock_timeout = '1s'", "CALL order_timeout.sweep('100 milliseconds')", 'RESET lock_timeout';
is($dbh->selectrow_array('SELECT last_error FROM order_timeout.sweeps'), undef, 'two sweeps: the second waits for no lock');
is(counted(), 'order.cancelled 1, order.created 5, order.paid 1', 'while another one counts, it does not');
$late->rollback;
call($dbh, 'sweep_once');
is(counted(), events(1), 'what was rolled back is counted by the next one');
$late->do('BEGIN ISOLATION LEVEL REPEATABLE READ');
$late->selectrow_array('SELECT 1 FROM order_timeout.orders LIMIT 1');
create($dbh, 'unseen');
call($dbh, 'sweep_once');
is(error_of($late, sub { call($late, 'sweep_once') }), '', 'one with an older snapshot does not fail');
$late->commit;
is(counted(), events(1), 'and counts nothing again');

# A trigger that fails keeps only the counting back.
$dbh->do($_) for
	"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'refused'; END \$\$",
	'CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.event_totals FOR EACH ROW EXECUTE FUNCTION refuse()';
call($dbh, 'create_order', 'due', 100, 'EUR', '1 millisecond');
ok(eventually(sub { call($dbh, 'sweep_once')->{expired} }), 'where counting fails, orders are closed');
is($dbh->selectrow_array('SHOW enable_sort'), 'on', 'and no setting of the session is left changed');
$dbh->do("CALL order_timeout.sweep('100 milliseconds')");
is($dbh->selectrow_array('SELECT last_error FROM order_timeout.sweeps ORDER BY sweep_id DESC'), 'P0001: refused', 'and the sweep says why');
$dbh->do('DROP TRIGGER refuse ON order_timeout.event_totals');
$dbh->do("CALL order_timeout.sweep('100 milliseconds')");
is(counted(), events(1), 'mended: nothing is lost');

# More than one pass counts.
$dbh->do(<<'END');
INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
SELECT 'many', 'test.many', '{"amount": 9223372036854775807, "currency": "JPY"}', now() FROM generate_series(1, 2500)
END
my @passes = map { call($dbh, 'sweep_once'); counted() =~ /test\.many (\d+)/ ? $1 : 0 } 1 .. 4;
is("@passes", '1000 2000 2500 2500', 'sweep_once counts 1000 events');
is($dbh->selectrow_array("SELECT amount = 2500 * 9223372036854775807::numeric FROM order_timeout.event_totals WHERE currency = 'JPY'"),
	1, 'no sum overflows');

# Rows that no function wrote.
$dbh->do(<<'END');
INSERT INTO order_timeout.events (aggregateid, type, payload, created_at) VALUES
	('odd', 'test.odd', '{"amount": "ten", "currency": {"code": "EUR"}}', now()), ('odd', 'test.odd', '[1]', now()),
	('odd', 'test.odd', jsonb_build_object('amount', 5, 'currency', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) i)), now())
END
call($dbh, 'sweep_once');
is_deeply($dbh->selectall_arrayref("SELECT currency, events, amount FROM order_timeout.event_totals WHERE type = 'test.odd'"), [ [ '', 3, 5 ] ],
	'an event that holds anything is counted, and those after it');
my $all = counted();
$dbh->do("DELETE FROM order_timeout.events WHERE type = 'test.many'");
call($dbh, 'sweep_once');
is(counted(), $all, 'a deleted event stays counted');

call($dbh, 'record_payment', 'a', 'bank', $_, 100, 'EUR') for 1, 2;
call($dbh, 'create_consumer', 'reader');
is_deeply(shown(), documented(), 'the page has all that there is, and nothing else');
call($dbh, 'drop_consumer', 'reader');
call($dbh, 'sweep_once');

# ------------------------------------------------------------ consumers

# What a scrape may look at is bounded, also for a consumer that waits for what is rare.
sub backlogs {
	return $watcher->selectrow_array(<<'END');
SELECT string_agg(concat_ws(' ', consumer, unread, round(seconds / 100) * 100), ', ' ORDER BY consumer)
  FROM (SELECT labels ->> 'consumer' AS consumer, max(value) FILTER (WHERE name = 'order_timeout_consumer_unread') AS unread,
               max(value) FILTER (WHERE name = 'order_timeout_consumer_oldest_unread_seconds') AS seconds
          FROM order_timeout.metrics WHERE name LIKE 'order_timeout_consumer%' GROUP BY 1) x
END
}
call($dbh, 'create_consumer', 'all', undef, 1);
call($dbh, 'create_consumer', 'few', ['test.few'], 1);
call($dbh, 'create_consumer', 'rare', ['test.rare'], 1);
is(backlogs(), 'all 0 0, few 0 0, rare 0 0', 'nothing is unread');
$dbh->do(<<'END');
INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
SELECT 'behind', CASE n WHEN 100 THEN 'test.few' WHEN 1400 THEN 'test.rare' ELSE 'test.many' END, '{}', now() - (200000 - 100 * n) * interval '1 second'
  FROM generate_series(1, 1500) n
END
is(backlogs(), 'all 1000 199900, few 1 190000, rare 0 100000',
	'among the first 1000; if none is for the consumer, the last one shows since when nothing was read');
my $batch = $dbh->selectall_arrayref("SELECT * FROM order_timeout.read_events('rare', 10)", { Slice => {} });
is(backlogs(), 'all 1000 199900, few 1 190000, rare 0 100000', 'handed out is not read');
call($dbh, 'ack_events', 'rare', $batch->[0]{lease_token});
is(backlogs(), 'all 1000 199900, few 1 190000, rare 0 0', 'read');
is($watcher->selectrow_array("SELECT string_agg(consumer || ' ' || unread, ', ' ORDER BY consumer) FROM order_timeout.consumers"),
	'all 1500, few 1, rare 0', 'view consumers looks at all');
call($dbh, 'drop_consumer', $_) for qw(all few rare);
$dbh->do("DELETE FROM order_timeout.events WHERE aggregateid = 'behind'");
call($dbh, 'sweep_once') for 1, 2;
$all = counted();

# ------------------------------------------------------------ in another database

$server->run_log([ 'bash', '-c', 'set -o pipefail; pg_dump shop | psql -Xq -v ON_ERROR_STOP=1 elsewhere >/dev/null' ]) or die;
$watcher->disconnect;
$dbh = $server->dbh('elsewhere');
$watcher = $server->dbh('elsewhere', user => 'watcher');
is(counted(), $all, 'a copy has the totals');
call($dbh, 'sweep_once');
create($dbh, 'in the copy');
call($dbh, 'sweep_once') for 1, 2;
is(counted(), $all =~ s/(order\.created )(\d+)/$1 . ($2 + 1)/er, 'and goes on with them: nothing of the restore is counted again');

done_testing();
