# replay_orders says what the engine does: 1,000 orders are played with the real functions, whose deadlines are moved
# instead of waited for, and each payment and closing is compared. And bin/replay's part that reads a file.

use strict;
use warnings;

use FindBin;
use OTServer;
use OTTest;
use Test::More;

my $root = "$FindBin::Bin/../..";
my $seed = $ENV{OT_SEED} // time;
my $orders = 1000;
srand $seed;
note("OT_SEED=$seed");

my $server = OTServer->started('replay');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');

# ------------------------------------------------------------ a shop's tables

$dbh->do($_) for split /^--\n/m, <<'SQL';
CREATE SCHEMA shop;
--
CREATE TABLE shop.sales (id integer PRIMARY KEY, placed_at timestamptz NOT NULL, total numeric(12,2) NOT NULL, currency char(3) NOT NULL);
--
CREATE TABLE shop.captures (id integer PRIMARY KEY, sale integer NOT NULL, at timestamptz NOT NULL, got numeric(12,2) NOT NULL);
--
CREATE TABLE shop.played (run text, order_id text, n integer, happened_at timestamptz, outcome text, state text, currency text,
                          paid bigint, owed bigint, held bigint);
--
CREATE INDEX ON shop.played (run, order_id);
--
-- The money that a closing gave up: of payments that were there before.
CREATE FUNCTION shop.note_closing(run text, id text, at timestamptz, last_payment text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO shop.played
    SELECT run, id, coalesce((SELECT max(p.n) FROM shop.played p WHERE p.run = $1 AND p.order_id = id), 0) + 1, at, 'expired', 'expired', o.currency, 0,
           coalesce((SELECT sum(r.amount) FROM order_timeout.refunds r WHERE r.order_id = $1 || id AND r.reason = 'expired'), 0),
           coalesce((SELECT sum(p.held) FROM order_timeout.payments p WHERE p.order_id = $1 || id AND p.payment_ref <> last_payment), 0)
      FROM order_timeout.orders o WHERE o.order_id = $1 || id
$$;
--
-- The real engine, order after order. What lies before the present moment is moved: expires_at goes so far into the past
-- as the deadline lies behind the moment that is played.
CREATE FUNCTION shop.play(run text, policy text, pay_within interval, sweep_lag interval, report_lag interval) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    sale record;
    capture record;
    answer record;
    was_open boolean;
    reported timestamptz;
    deadline timestamptz;
    clock timestamptz;
    n integer;
BEGIN
    FOR sale IN SELECT s.id, s.placed_at, (s.total * 100)::bigint AS amount, s.currency FROM shop.sales s ORDER BY s.id LOOP
        PERFORM order_timeout.create_order(run || sale.id, sale.amount, sale.currency, expires_in => '1 hour', policy => play.policy);
        IF sale.amount = 0 THEN
            INSERT INTO shop.played VALUES (run, sale.id, 1, sale.placed_at, 'paid', 'paid', sale.currency, 0, 0, 0);
        END IF;
        deadline := sale.placed_at + play.pay_within;
        FOR capture IN SELECT c.id, c.at, (c.got * 100)::bigint AS amount FROM shop.captures c WHERE c.sale = sale.id ORDER BY c.at, c.id LOOP
            reported := capture.at + report_lag;
            IF reported >= deadline + sweep_lag THEN
                PERFORM shop.close(run, sale.id::text, deadline + sweep_lag);
            END IF;
            was_open := EXISTS (SELECT FROM order_timeout.orders o WHERE o.order_id = run || sale.id AND o.state = 'pending');
            clock := clock_timestamp();
            IF reported >= deadline THEN
                UPDATE order_timeout.orders o SET expires_at = clock - (reported - deadline) WHERE o.order_id = run || sale.id;
            END IF;
            SELECT * INTO answer FROM order_timeout.record_payment(run || sale.id, 'bank', run || capture.id, capture.amount, sale.currency,
                                                                   paid_at => clock - report_lag);
            IF was_open AND EXISTS (SELECT FROM order_timeout.events e WHERE e.aggregateid = run || sale.id AND e.type = 'order.expired') THEN
                PERFORM shop.note_closing(run, sale.id::text, reported, run || capture.id);
            END IF;
            n := coalesce((SELECT max(p.n) FROM shop.played p WHERE p.run = play.run AND p.order_id = sale.id::text), 0) + 1;
            INSERT INTO shop.played
            SELECT run, sale.id, n, reported, answer.outcome, answer.state, sale.currency, p.amount, coalesce(answer.refund_amount, 0), p.held
              FROM order_timeout.payments p WHERE p.gateway = 'bank' AND p.payment_ref = run || capture.id;
        END LOOP;
        PERFORM shop.close(run, sale.id::text, deadline + sweep_lag);
    END LOOP;
END
$$;
--
CREATE FUNCTION shop.close(run text, id text, at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE order_timeout.orders o SET expires_at = clock_timestamp() WHERE o.order_id = run || id AND o.state = 'pending';
    IF FOUND AND (SELECT e.outcome FROM order_timeout.expire_order(run || id) e) = 'expired' THEN
        PERFORM shop.note_closing(run, id, at, '');
    END IF;
END
$$;
SQL

# Whole minutes, so that payments meet the deadline, and each other, exactly.
my $captures = 0;
for my $id (1 .. $orders) {
	my $total = rand() < 0.03 ? 0 : 20 + int rand 80;
	my $placed = int rand 10_000;
	$dbh->do(q{INSERT INTO shop.sales VALUES (?, '2026-01-01'::timestamptz + ? * interval '1 minute', ?::numeric / 100, ?)},
		undef, $id, $placed, $total, rand() < 0.7 ? 'EUR' : 'JPY');
	for (1 .. (0, 1, 1, 1, 2, 2, 3)[ rand 7 ]) {
		my $got = rand() < 0.5 ? $total || 5 : 1 + int rand($total + 30);
		$got = $total - int rand 12 if rand() < 0.1 and $total > 12;
		$dbh->do(q{INSERT INTO shop.captures VALUES (?, ?, '2026-01-01'::timestamptz + ? * interval '1 minute', ?::numeric / 100)},
			undef, ++$captures, $id, $placed + (rand() < 0.3 ? 25 + int rand 12 : int rand 60), $got);
	}
}

my $query = <<'END';
SELECT s.id AS order_id, s.placed_at AS created_at, s.total * 100 AS amount, s.currency, c.at AS paid_at, c.got * 100 AS paid_amount
  FROM shop.sales s LEFT JOIN shop.captures c ON c.sale = s.id ORDER BY c.id
END
my $compare = <<'END';
WITH played AS (SELECT order_id, n, happened_at, outcome, state, currency, paid, owed, held FROM shop.played WHERE run = $1),
     replayed AS (SELECT order_id, row_number() OVER (PARTITION BY order_id ORDER BY ordinality), happened_at, outcome, state, currency, paid, owed, held
                    FROM order_timeout.replay_orders($2, $3, $4, $5, $6) WITH ORDINALITY)
(SELECT 'the engine' AS says, * FROM (TABLE played EXCEPT ALL TABLE replayed) a)
UNION ALL
(SELECT 'the replay', * FROM (TABLE replayed EXCEPT ALL TABLE played) b) ORDER BY order_id, n, says LIMIT 20
END

# Each with the settings that differ from the defaults, pay_within, sweep_lag, report_lag, and outcomes that must occur.
my %seen;
for my $run (
	[ {}, '30 minutes', '0', '0' ],
	[ { on_late => 'reopen' }, '30 minutes', '0', '0' ],
	[ { on_late => 'hold', on_short => 'hold' }, '20 minutes', '0', '0' ],
	[ { on_late => 'refund', on_short => 'hold' }, '30 minutes', '5 minutes', '0' ],
	[ { late_rule => 'at_deadline' }, '30 minutes', '4 minutes', '0' ],
	[ { late_rule => 'at_deadline', on_late => 'reopen', on_short => 'hold' }, '30 minutes', '3 minutes', '1 minute' ],
	[ { short_tolerance => 10 }, '30 minutes', '0', '0' ],
	[ { on_notified_late => 'reopen' }, '30 minutes', '2 minutes', '7 minutes' ],
	[ { on_notified_late => 'hold', on_late => 'reopen', short_tolerance => 3 }, '30 minutes', '0', '7 minutes' ],
) {
	my ($settings, @times) = @$run;
	my @names = sort keys %$settings;
	my $policy = join ' ', (map { "$_ $settings->{$_}" } @names), @times;
	$dbh->do('INSERT INTO order_timeout.policies (' . join(', ', 'policy', @names) . ') VALUES (' . join(', ', ('?') x (@names + 1)) . ')',
		undef, $policy, @$settings{@names});
	$dbh->do('SELECT shop.play(?, ?, ?, ?, ?)', undef, "$policy ", $policy, @times);
	is_deeply($dbh->selectall_arrayref($compare, { Slice => {} }, "$policy ", $query, $policy, @times), [], "$policy: the engine says the same");
	my $outcomes = $dbh->selectcol_arrayref('SELECT DISTINCT outcome FROM shop.played WHERE run = ?', undef, "$policy ");
	$seen{$_}++ for @$outcomes;
}
is_deeply([ sort keys %seen ], [qw(expired held late paid partial reopened surplus)], 'all outcomes occurred');
is($dbh->selectrow_array('SELECT count(DISTINCT order_id) FROM shop.played'), $orders, "$orders orders");
balanced($dbh, 'all money of the real ones is accounted for');

# ------------------------------------------------------------ a file

$ENV{PGHOST} = $server->host;
$ENV{PGPORT} = $server->port;
$ENV{PGDATABASE} = 'shop';
my $file = $server->basedir . '/orders.csv';
my $chart = $server->basedir . '/replay.svg';

sub replay_file {
	my ($text, @options) = @_;
	open my $out, '>:raw', $file or die "$file: $!\n";
	print {$out} $text;
	close $out or die "$file: $!\n";
	$dbh->do(q{DELETE FROM order_timeout.policies WHERE policy = 'replay'});
	my ($said, $error);
	my $well = $server->run_log([ 'perl', "$root/replay/replay.pl", '--chart', $chart, @options, $file ],
		'<', $file, '>', \$said, '2>', \$error);
	return $well ? $said : $error =~ s/^\Q$file\E/FILE/gmr;
}

my $header = "order_id,created_at,amount,currency,paid_at,paid_amount\n";
my $good = "A-1,2026-03-01T10:00:00Z,1234,EUR,2026-03-01T10:05:00Z,1234\n";
for my $case (
	[ 'not a number', "A-2,2026-03-01T10:00:00Z,12.34,EUR,,", qr/^FILE:3: invalid input syntax for type bigint: "12.34"/ ],
	[ 'no time', "A-2,yesterday at ten,1234,EUR,,", qr/^FILE:3: invalid input syntax for type timestamp with time zone/ ],
	[ 'a column too few', "A-2,2026-03-01T10:00:00Z,1234,EUR,", qr/^FILE:3: missing data for column "paid_amount"/ ],
	[ 'a column too many', "A-2,2026-03-01T10:00:00Z,1234,EUR,,,", qr/^FILE:3: extra data after last expected column/ ],
	[ 'a negative amount', "A-2,2026-03-01T10:00:00Z,-1,EUR,,", qr/^FILE:3: invalid amount: -1 is negative/ ],
	[ 'a currency', "A-2,2026-03-01T10:00:00Z,1,eur,,", qr/^FILE:3: invalid currency: "eur" is not three capital letters\nHINT: / ],
	[ 'no order_id', ",2026-03-01T10:00:00Z,1,EUR,,", qr/^FILE:3: order_id must not be null/ ],
	[ 'paid_at alone', "A-2,2026-03-01T10:00:00Z,1,EUR,2026-03-01T10:00:00Z,", qr/^FILE:3: paid_amount of a row with paid_at must not be null/ ],
	[ 'paid before it was there', "A-2,2026-03-01T10:00:00Z,1,EUR,2026-03-01T09:59:59Z,1", qr/^FILE:3: invalid paid_at: it lies before created_at/ ],
	[ 'other terms', "A-1,2026-03-01T10:00:00Z,1,EUR,2026-03-01T10:06:00Z,1", qr/^FILE:3: order "A-1" has other terms in line 2/ ],
) {
	my ($name, $row, $answer) = @$case;
	like(replay_file("$header$good$row\n"), $answer, "$name: the line is named");
}
like(replay_file($good), qr/^FILE:1: column name mismatch in header line field 1/, 'no header');
like(replay_file($header), qr/has no orders/, 'a header alone');
like(replay_file($good, '--on-late', 'keep'), qr/^--on-late is one of refund reopen hold, not 'keep'/, 'a bad option');
like(replay_file("$header$good", '--pay-within', 'soon'), qr/^invalid input syntax for type interval: "soon"/, 'a bad time');

# What the documentation shows is what comes out.
sub text_of {
	my ($page) = @_;
	open my $in, '<', "$root/$page" or die "$page: $!\n";
	local $/ = undef;
	return scalar <$in>;
}
SKIP: {
	skip 'gnuplot is not installed', 3 if system('command -v gnuplot >/dev/null') != 0;
	my $said = replay_file("\xEF\xBB\xBF" . text_of('doc/replay/sample.csv') =~ s/\n/\r\n/gr);
	my ($shown) = text_of('doc/replay.md') =~ /^```\n(a deadline .*?)^```$/ms;
	$shown =~ s/^chart: .*\n//m;
	is($said =~ s/\s+\z//r, $shown =~ s/\s+\z//r, 'the sample, as its page shows it');
	ok(-s $chart, 'with a chart');
	is(text_of('doc/replay/sample.csv'), `perl $root/replay/sample.pl`, 'the sample is what sample.pl writes');
}

done_testing;
