# connect/report: the page is made of a month of a shop, in a role that may only read, and looked at in Chromium. Its
# numbers are the database's, it needs no network, fits a phone and paper, and shows hostile texts as what they are.

use strict;
use warnings;

use FindBin;
use JSON::PP;
use OTBrowser;
use OTServer;
use OTTest;
use Test::More;
use feature qw(state);

plan skip_all => 'the report reads tables, and their store does not matter: once is enough' if ($ENV{OT_STORE} // 'auto') eq 'sql';
my ($python) = grep { -x $_ && !system "$_ -c 'import psycopg' 2>/dev/null" } qw(/usr/bin/python3 /usr/local/bin/python3);
plan skip_all => 'Python has no psycopg 3 (Debian package python3-psycopg)' if !$python;
my $chart_js = '/usr/share/javascript/chart.js/chart.min.js';
plan skip_all => 'there is no Chart.js (Debian package libjs-chart.js)' if !-e $chart_js;
plan skip_all => OTBrowser->missing if OTBrowser->missing;

my $sources = "$FindBin::Bin/../..";
my $server = OTServer->started('report');
my $dir = $server->basedir;
$server->safe_psql('postgres', "CREATE DATABASE $_") for qw(shop none old empty);
my $dbh = $server->dbh('shop');
$dbh->do($_) for 'CREATE EXTENSION order_timeout', 'CREATE ROLE watcher LOGIN', 'CREATE ROLE nobody LOGIN';
call($dbh, 'grant_access', 'watcher', 'reader');
is(system('psql', '-Xq', '-d', $server->connstr('shop'), '-f', "$sources/doc/report/sample.sql"), 0, 'a month of a shop');
# Cancelled after it had expired: it was closed at its deadline all the same.
call($dbh, 'cancel_order', $dbh->selectrow_array(q{SELECT order_id FROM order_timeout.orders
	WHERE state = 'expired' AND paid = 0 ORDER BY settled_at DESC LIMIT 1}));
# A run that began before the clock was set back: by its number it is the last one, by its time it is not.
$dbh->do(q{INSERT INTO order_timeout.sweeps (pid, started_at, active_at, ended_at, expired)
	SELECT 0, started_at - interval '1 second', ended_at, ended_at, 1 FROM order_timeout.sweeps WHERE expired > 0 ORDER BY started_at DESC OFFSET 20 LIMIT 1});
my $browser = OTBrowser->started("$dir/browser");

# report(database, options): status, and what it said.
sub report {
	my ($db, @options) = @_;
	my $quoted = join ' ', map { "'" . s/'/'\\''/gr . "'" } '--database', $server->connstr($db) . ' user=watcher', @options;
	my $said = `$python $sources/connect/report/order_timeout_report.py $quoted 2>&1`;
	return ($? >> 8, $said);
}

sub made {
	my ($name, @options) = @_;
	my $file = "$dir/$name.html";
	my ($status, $said) = report('shop', '--output', $file, @options);
	is("$status$said", '0', "$name is written");
	return $file;
}

# A page, as it is in a browser, without a complaint of it.
sub shown {
	my ($file, $name, %wanted) = @_;
	my $page = $browser->page(%wanted);
	$page->open("file://$file");
	is_deeply($page->complaints, [], "$name: the console is empty");
	is_deeply([ grep { !/^data:/ } @{ $page->requests } ], ["file://$file"], "$name: nothing else is loaded");
	return $page;
}

# The values of a table's cells, of which the page says that they are those of the database.
sub cells { my ($page, $id) = @_; return $page->evaluate("[...document.querySelectorAll('#$id tbody tr')].map(r => [...r.cells].map(c => c.dataset.value))") }
sub value { my ($page, $id) = @_; return $page->evaluate("document.getElementById('$id').dataset.value") }
sub column { my ($rows, $place) = @_; return [ map { $_->[$place] } @$rows ] }
sub sum { my $sum = 0; $sum += $_ // 0 for @_; return $sum }

# The same from the database: strings, as in the page.
sub asked {
	my ($sql, @values) = @_;
	return [ map { [ map { $_ // '' } @$_ ] } @{ $dbh->selectall_arrayref($sql, undef, @values) } ];
}

# ------------------------------------------------------------ the numbers of the page are the database's

my $file = made('shop', '--days', 60, '--proof', 'full');
my $page = shown($file, 'the report');

my @kinds = ('order.paid', 'order.reopened', 'order.expired', 'order.cancelled', 'order.created');
my $days = 'to_char(created_at, \'YYYY-MM-DD\')';
my $counts = sub { join ', ', map { "count(*) FILTER (WHERE type = '$_')" } @_ };
my $orders = asked("SELECT $days, @{[ $counts->(@kinds) ]} FROM order_timeout.events GROUP BY 1 ORDER BY 1");
is_deeply(cells($page, 'orders_numbers'), $orders, 'what became of orders');
is_deeply(cells($page, 'refunds_numbers'), asked("SELECT $days, @{[ $counts->(qw(refund.succeeded refund.failed refund.needs_attention refund.created)) ]}
	FROM order_timeout.events GROUP BY 1 ORDER BY 1"), 'refunds over time');
is_deeply(cells($page, 'growth_numbers'), asked("SELECT $days, count(*) FROM order_timeout.events GROUP BY 1 ORDER BY 1"), 'events');

my $late = q{SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY late), percentile_cont(0.95) WITHIN GROUP (ORDER BY late),
	percentile_cont(0.99) WITHIN GROUP (ORDER BY late), max(late) FROM (SELECT closes_at, settled_at,
		extract(epoch FROM settled_at - closes_at)::double precision AS late FROM order_timeout.orders WHERE state IN ('expired', 'cancelled') AND settled_at >= closes_at) o};
sub rounded { my ($rows) = @_; return [ map { my $row = $_; [ $row->[0], map { $_ eq '' ? $_ : sprintf '%.9f', $_ } @$row[ 1 .. $#$row ] ] } @$rows ] }
my $lateness = cells($page, 'lateness_numbers');
my %by_day = map { $_->[0] => $_ } @{ rounded(asked(($late =~ s/SELECT/SELECT to_char(closes_at, 'YYYY-MM-DD'),/r) . ' GROUP BY 1')) };
is_deeply(rounded($lateness), rounded([ map { $by_day{ $_->[0] } // [ $_->[0], 0, ('') x 4 ] } @$orders ]), 'lateness by day');
is(sum(@{ column($lateness, 1) }), asked($late)->[0][0], 'of all orders that were closed');
cmp_ok(sum(@{ column($lateness, 1) }), '>', 100, 'which are many');

my $runs = cells($page, 'runs_numbers');
my $expected = asked(q{SELECT to_char(s.started_at, 'YYYY-MM-DD HH24:MI:SS TZ'), count(o.order_id), s.expired, extract(epoch FROM s.max_lag)
	FROM (SELECT *, lead(started_at, 1, 'infinity') OVER (ORDER BY started_at) AS next_run FROM (SELECT * FROM order_timeout.sweeps
	      WHERE expired > 0 ORDER BY sweep_id DESC LIMIT 40) l) s
	LEFT JOIN order_timeout.orders o ON o.state IN ('expired', 'cancelled') AND o.settled_at >= o.closes_at AND o.settled_at >= s.started_at AND o.settled_at < next_run
	GROUP BY s.sweep_id, s.started_at, s.expired, s.max_lag ORDER BY s.started_at});
is_deeply(rounded([ map { [ @$_[ 0, 1, 6, 7 ] ] } @$runs ]), rounded($expected), 'run by run');

my $open = 'order_timeout.refunds WHERE settled_at IS NULL';
my @states = qw(pending processing submitted failed unknown needs_attention);
my $ages = cells($page, 'ages_numbers');
is_deeply([ map { my $i = $_; sum(@{ column($ages, $i) }) } 1 .. 6 ],
	[ map { asked("SELECT count(*) FROM $open AND state = ?", $_)->[0][0] } @states ], 'open refunds by state');
is_deeply([ map { sum(@$_[ 1 .. 6 ]) } @$ages ], asked("SELECT
	count(*) FILTER (WHERE age < '1 hour'), count(*) FILTER (WHERE age >= '1 hour' AND age < '6 hours'),
	count(*) FILTER (WHERE age >= '6 hours' AND age < '1 day'), count(*) FILTER (WHERE age >= '1 day' AND age < '2 days'),
	count(*) FILTER (WHERE age >= '2 days' AND age < '7 days'), count(*) FILTER (WHERE age >= '7 days')
	FROM (SELECT now() - created_at AS age FROM $open) r")->[0], 'and by age');
is_deeply([ sort map { "@$_[0, 1, 2]" } @{ cells($page, 'causes_numbers') } ], [ sort map { "@$_" } @{ asked("SELECT coalesce(last_error, 'no error so far'),
	replace(state, '_', ' '), count(*) FROM $open GROUP BY 1, 2") } ], 'and by what stopped them');
is_deeply([ map { [ @$_[ 0 .. 3 ] ] } @{ cells($page, 'owed_numbers') } ], asked("SELECT currency, replace(state, '_', ' '), count(*), sum(amount)
	FROM $open GROUP BY currency, state ORDER BY currency, state"), 'money owed');
is_deeply(decode_json(value($page, 'owed_now')), { map { @$_ } @{ asked("SELECT currency, sum(amount) FROM $open GROUP BY 1") } }, 'in the first row, too');
my $eur = asked("SELECT to_char(sum(amount) / 100.0, 'FM999,990.00') || ' EUR' FROM $open AND currency = 'EUR'")->[0][0];
like($page->evaluate('document.getElementById("owed_now").textContent'), qr/\Q$eur\E/, 'in major units');
is_deeply([ grep { $_->[4] eq 'now' } @{ cells($page, 'money_numbers') } ], asked(q{SELECT currency, CASE disposition WHEN 'held' THEN 'held for a decision' ELSE
	'paid without an order' END, count(*), sum(amount - refunded - refund_pending), 'now' FROM order_timeout.payments
	WHERE disposition IN ('held', 'orphan') GROUP BY 1, 2 ORDER BY 1, 2}), 'money that waits for a decision');
is_deeply([ map { "@$_[0, 2, 3]" } grep { $_->[1] eq 'returned by the gateway' } @{ cells($page, 'money_numbers') } ], [ map { "@$_" } @{ asked(q{SELECT currency, events, amount
	FROM order_timeout.event_totals WHERE type = 'refund.succeeded' ORDER BY 1}) } ], 'and what went back');

# The night when the clock is set back: what happened before that is on the axis, and nothing is before its beginning.
my $night = <<'PYTHON';
import sys; import psycopg; from psycopg.rows import namedtuple_row; from datetime import datetime, timezone, timedelta
from zoneinfo import ZoneInfo; from page import queries; from page.steps import Steps
database = psycopg.connect(sys.argv[1], row_factory=namedtuple_row)
database.execute("SET TimeZone = 'Europe/Berlin'")
for minutes in [*range(2, 200, 7), 600]:
    for now in range(0, 180, 11):
        until = datetime(2026, 10, 25, 0, 0, 30, tzinfo=timezone.utc) + timedelta(minutes=now)
        since = until - timedelta(minutes=minutes)
        axis = database.execute(queries.AXIS, {"begins": since, "until": until}).fetchone()
        steps = Steps(axis.first, axis.last)
        times = [(since + (until - since) * i / 100).astimezone(ZoneInfo("Europe/Berlin")).replace(tzinfo=None) for i in range(101)]
        end = steps.begins[-1] + timedelta(seconds=steps.seconds) if steps.begins else None
        if not steps.begins or min(times) < steps.begins[0] or max(times) >= end or len(steps.begins) >= 50:
            sys.exit(f"{since} to {until}: {len(steps.begins)} steps of {steps.words}")
PYTHON
PostgreSQL::Test::Utils::append_to_file("$dir/night.py", $night);
is(`cd $sources/connect/report && PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 $python $dir/night.py '${\ $server->connstr('shop') }' 2>&1`, '', 'each time has its step when the clock is set back');

my $attention = asked(q{SELECT replace(kind, '_', ' '), coalesce(order_id, ''), amount, why, resolved_by FROM order_timeout.attention});
is_deeply([ sort map { join '|', @$_[ 0, 1, 2, 4, 5 ] } @{ cells($page, 'cases') } ], [ sort map { join '|', @$_ } @$attention ], 'what waits for a person, with what to do');
is(value($page, 'waiting'), scalar @$attention, 'and how many that are');
my $health = $dbh->selectrow_hashref('SELECT ok, problems, pending + authorized + closing AS open, overdue, due_soon, last_sweep FROM order_timeout.health');
is(value($page, 'ok'), $health->{ok} ? 'true' : 'false', 'whether all is right');
is_deeply($page->evaluate('[...document.querySelectorAll("#ok li")].map(e => e.textContent)'), $health->{problems}, 'and why not');
is(value($page, $_), $health->{$_}, $_) for qw(open overdue);
is_deeply(cells($page, 'sizes_numbers'), asked('SELECT table_name, rows, bytes, index_bytes, bytes_per_order FROM order_timeout.sizes ORDER BY bytes DESC, table_name'), 'tables');
is_deeply([ map { "@$_[0, 1]" } @{ cells($page, 'consumers_numbers') } ], [ map { "@$_" } @{ asked('SELECT consumer, unread FROM order_timeout.consumers') } ], 'consumers');
like($page->evaluate('document.getElementById("proof_says").textContent'), qr/^Proven at .* UTC: all orders, payments and refunds of the database agree/, 'the proof');

# ------------------------------------------------------------ the charts have the numbers of the tables

# Right after it was loaded: a picture of the page and paper have no second chance.
my $drawn = shown($file, 'just loaded')->evaluate(q{(() => {
	const painted = chart => {
		const { width, height } = chart.canvas, pixels = chart.canvas.getContext('2d').getImageData(0, 0, width, height).data;
		const hex = i => '#' + [0, 1, 2].map(k => pixels[i + k].toString(16).padStart(2, '0')).join('');
		const seen = new Set();
		for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] === 255) seen.add(hex(i));
		return chart.data.datasets.every(set => seen.has(set.backgroundColor) || !set.data.some(value => value));
	};
	return JSON.parse(document.getElementById('data').textContent).charts.map(spec => {
	const chart = Chart.getChart(document.querySelector(`#${spec.name} canvas`));
	return { name: spec.name, labels: chart.data.labels, sets: chart.data.datasets.map(d => ({ label: d.label, data: d.data, amounts: d.amounts })),
		described: chart.canvas.getAttribute('role') + ' ' + chart.canvas.getAttribute('aria-label').length,
		painted: painted(chart) };
}); })()});
is_deeply([ map { $_->{name} } @$drawn ], [qw(orders lateness runs refunds ages causes owed growth)], 'the charts');
is_deeply([ map { $_->{name} } grep { !$_->{painted} } @$drawn ], [], 'are drawn in their colors');
is_deeply([ map { $_->{name} } grep { $_->{described} !~ /^img \d\d/ } @$drawn ], [], 'and described');
my %column = (orders => [ 1 .. 5 ], refunds => [ 1 .. 4 ], lateness => [ 2, 3, 4, 1 ], runs => [ 2, 3, 4, 1 ], ages => [ 1 .. 6 ], growth => [1]);
for my $chart (grep { $column{ $_->{name} } } @$drawn) {
	my $rows = cells($page, "$chart->{name}_numbers");
	is_deeply($chart->{labels}, column($rows, 0), "$chart->{name}: what its axis says");
	is_deeply(rounded([ map { [ '', map { $_ // '' } @{ $_->{data} } ] } @{ $chart->{sets} } ]),
		rounded([ map { [ '', @{ column($rows, $_) } ] } @{ $column{ $chart->{name} } } ]), 'and its numbers');
}
my ($owed) = grep { $_->{name} eq 'owed' } @$drawn;
is_deeply([ map { my $i = $_; sprintf '%.6f', sum(map { $_->{data}[$i] } @{ $owed->{sets} }) } 0 .. $#{ $owed->{labels} } ], [ ('100.000000') x @{ $owed->{labels} } ],
	'shares of the money owed add up');
my ($causes) = grep { $_->{name} eq 'causes' } @$drawn;
is(sum(map { sum(@{ $_->{data} }) } @{ $causes->{sets} }), asked("SELECT count(*) FROM $open")->[0][0], 'so do the causes');

# ------------------------------------------------------------ the window

sub first_event { my ($shown) = @_; return $shown->evaluate(q{JSON.parse(document.getElementById('data').textContent).facts.first_event}) }
my $day = shown(made('day', '--days', 1, '--time-zone', 'Asia/Kolkata'), 'a day');
my ($oldest, $newest) = @{ asked('SELECT min(id), max(id) FROM order_timeout.events')->[0] };
cmp_ok(first_event($day), '>', $oldest + ($newest - $oldest) / 2, 'a day of thirty does not read all events');
is(sum(@{ column(cells($day, 'growth_numbers'), 1) }), asked('SELECT count(*) FROM order_timeout.events WHERE created_at >= now() - interval \'1 day\'')->[0][0], 'but all of its own');
my $hours = asked(q{SELECT to_char(date_bin('1 hour', created_at AT TIME ZONE 'Asia/Kolkata', '2001-01-01'), 'YYYY-MM-DD HH24:MI'), count(*)
	FROM order_timeout.events WHERE created_at >= now() - interval '1 day' GROUP BY 1 ORDER BY 1});
is_deeply([ grep { $_->[1] } @{ cells($day, 'growth_numbers') } ], $hours, 'by the clock of a time zone');
my $posix = shown(made('posix', '--days', 1, '--time-zone', '<+08>-8'), 'a time zone that Python does not know');
is(sum(@{ column(cells($posix, 'growth_numbers'), 1) }), sum(@{ column($hours, 1) }), 'has all events, too');
like($day->evaluate('document.body.textContent'), qr/all orders with an event since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d IST/, 'the proof says since when');
my $cut = shown(made('cut', '--max-events', 100, '--proof', 'none'), 'a hundred events');
is(sum(@{ column(cells($cut, 'growth_numbers'), 1) }), asked("SELECT count(*) FROM order_timeout.events WHERE id > $newest - 100 AND created_at >= now() - interval '30 days'")->[0][0], 'the latest hundred');
like($cut->evaluate('document.getElementById("about").textContent'), qr/Older events of these 30 days were left out/, 'and it says so');
is(value($cut, 'proof_now'), 'none', 'nothing is proven if nobody asks');

# ------------------------------------------------------------ phone, dark, paper, no script

my $phone = shown($file, 'a phone', width => 360, dark => 1);
cmp_ok($phone->evaluate('document.scrollingElement.scrollWidth'), '<=', 360, 'nothing is wider than a phone');
$phone->evaluate('document.querySelectorAll("details").forEach(d => d.open = true)');
cmp_ok($phone->evaluate('document.scrollingElement.scrollWidth'), '<=', 360, 'also with all tables open');
my $looks = q{[getComputedStyle(document.body).backgroundColor, Chart.getChart(document.querySelector('#orders canvas')).data.datasets[0].backgroundColor]};
my $dark = $phone->evaluate($looks);
$phone->dark(0);
my $light = $page->evaluate($looks);
isnt($dark->[$_], $light->[$_], ('dark is another ground', 'and other charts')[$_]) for 0, 1;
ok(eventually(sub { "@{ $phone->evaluate($looks) }" eq "@$light" }), 'both follow while the page is open');

$phone->dark(1);
$phone->dark(1, 'print');
is($phone->evaluate($looks)->[0], 'rgb(255, 255, 255)', 'paper is white');
$phone->dark(1);
my $paper = shown($file, 'paper', dark => 1);
$paper->evaluate(q{window.addEventListener('beforeprint', () => { window.printed = [document.querySelectorAll('details:not([open])').length,
	Chart.getChart(document.querySelector('#orders canvas')).data.datasets[0].backgroundColor]; })});
my $pdf = $paper->pdf;
like($pdf, qr/\A%PDF/, 'it can be printed');
cmp_ok(scalar(() = $pdf =~ m{/Type\s*/Page\b}g), '>', 3, 'on some pages');
is_deeply($paper->evaluate('window.printed'), [ 0, $light->[1] ], 'with all tables open, and light charts');
is($paper->evaluate('document.querySelectorAll("details[open]").length'), 0, 'which are closed again');
is($paper->evaluate($looks)->[1], $dark->[1], 'and dark');

my $plain = shown($file, 'without script', no_script => 1);
is_deeply($plain->evaluate('[document.querySelectorAll("details:not([open])").length, getComputedStyle(document.querySelector(".plot")).display]'), [ 0, 'none' ],
	'without script the tables are open, and no chart is promised');

# ------------------------------------------------------------ hostile texts

my $evil = q{</script><script>hacked=1</script><img src=x onerror=hacked=1>'"&<!--<script>};
my $long = 'W' x 255;
call($dbh, 'record_payment', $_, $evil, substr("$evil $_", 0, 255), 100, 'XQZ') for $evil, $long;
call($dbh, 'create_consumer', '<b>mail');
call($dbh, 'create_order', 'o-' . $evil, 100, 'XQZ');
call($dbh, 'cancel_order', 'o-' . $evil, $evil);
call($dbh, 'record_payment', 'o-' . $evil, 'bank', 'late', 100, 'XQZ');
my ($refund) = grep { $_->{order_id} eq 'o-' . $evil } @{ rows($dbh, 'claim_refunds', "\x{202e}$evil", 1000) };
call($dbh, 'complete_refund', $refund->{refund_ref}, 'rejected', $refund->{lease_token}, undef, "$evil\nand \x01 more");
my $intact = q{[typeof hacked, document.querySelectorAll('img, b, table script').length, document.scripts.length]};
my $hostile = shown(made('hostile', '--days', 2), 'hostile texts', width => 360);
is_deeply($hostile->evaluate($intact), [ 'undefined', 0, 3 ], 'are no elements');
cmp_ok($hostile->evaluate('document.scrollingElement.scrollWidth'), '<=', 360, 'and still fit');
ok((grep { $_->[1] eq $evil } @{ cells($hostile, 'cases') }), 'they are shown as they are');
ok((grep { $_->[0] eq substr $evil, 0, 100 } @{ cells($hostile, 'causes_numbers') }), 'errors as well');
like($hostile->evaluate('document.body.textContent'), qr/100 minor units of XQZ/, 'a currency that is not known stays in minor units');

# ------------------------------------------------------------ one order

sub story {
	my ($order, %wanted) = @_;
	state $n = 0;
	return shown(made('order' . ++$n, '--order', $order), "the page of $order", %wanted);
}
my ($given_up) = @{ asked("SELECT order_id FROM order_timeout.refunds WHERE state = 'needs_attention' AND currency = 'EUR' LIMIT 1")->[0] };
my $story = story($given_up, width => 360);
is_deeply([ map { splice @$_, 1, 1, sprintf '%.3f', $_->[1] || 0; $_ } @{ cells($story, 'timeline') } ],
	asked(q{SELECT to_char(at, 'YYYY-MM-DD HH24:MI:SS TZ'), round(coalesce(extract(epoch FROM after), 0), 3), step, who, amount, paid, refunded, refund_pending, held, kept FROM order_timeout.timeline(?)}, $given_up), 'what happened is the timeline');
my $order = $dbh->selectrow_hashref('SELECT *, paid - refunded - refund_pending - held AS kept FROM order_timeout.orders WHERE order_id = ?', undef, $given_up);
is(value($story, $_), $order->{$_}, $_) for qw(state amount paid refunded refund_pending held kept);
is(value($story, 'balanced'), 'true', 'its rows agree');
like($story->evaluate('document.getElementById("identity_says").textContent'), qr/^Paid in [\d.]+ EUR = returned/, 'it says where the money is');
is_deeply([ map { [ @$_[ 0, 3, 6, 9 ] ] } @{ cells($story, 'refunds') } ], asked('SELECT refund_ref, amount, attempts, last_error FROM order_timeout.refunds WHERE order_id = ?', $given_up), 'its refunds');
is_deeply([ map { [ @$_[ 1, 3 ] ] } @{ cells($story, 'payments') } ], asked('SELECT payment_ref, amount FROM order_timeout.payments WHERE order_id = ?', $given_up), 'its payments');
is(scalar @{ cells($story, 'cases') }, 1, 'what waits for a person');
cmp_ok($story->evaluate('document.scrollingElement.scrollWidth'), '<=', 360, 'on a phone');
my $story_chart = $story->evaluate(q{Chart.getChart(document.querySelector('#story canvas')).data.datasets.map(d => d.data.at(-1))});
is_deeply([ map { sprintf '%.2f', $_ } @$story_chart ], [ map { sprintf '%.2f', $order->{$_} / 100 } qw(refunded refund_pending held kept) ], 'the chart ends where the money is');

# Four decimals, the most that a currency has
call($dbh, 'create_order', 'fund', 12345, 'CLF');
call($dbh, 'record_payment', 'fund', 'bank', 'units', 12345, 'CLF');
my $fund = story('fund');
like($fund->evaluate('document.getElementById("amount").textContent'), qr/1\.2345 CLF/, 'a currency with four decimals');
is_deeply($fund->evaluate(q{(c => [c.data.datasets.at(-1).data.at(-1), c.scales.y.ticks.at(-1).label])(Chart.getChart(document.querySelector('#story canvas')))}),
	[ 1.2345, '1.5000 CLF' ], 'its chart');

my $other = story('o-' . $evil);
is_deeply($other->evaluate($intact), [ 'undefined', 0, 3 ], 'a hostile order');
is($other->evaluate('document.title'), "Order o-$evil", 'has its name');
my $orphan = story($evil);
like($orphan->evaluate('document.body.textContent'), qr/There is no order with this id/, 'an order that only payments know');
is(scalar @{ cells($orphan, 'payments') }, 1, 'shows them');

# ------------------------------------------------------------ sums that disagree, and a proof that takes too long

$dbh->do(q{SET session_replication_role = replica});
$dbh->do(q{UPDATE order_timeout.payments SET refunded = refunded + 1, amount = amount + 1 WHERE order_id = ?}, undef, $given_up);
my $broken = shown(made('broken', '--proof', 'full'), 'a broken row');
is_deeply(cells($broken, 'violations'), asked('SELECT kind, order_id, gateway, payment_ref, refund_ref, problem FROM order_timeout.funds_violations()'), 'violations are shown');
cmp_ok(value($broken, 'proof_now'), '>', 0, 'and counted');
is(value(story($given_up), 'balanced'), 'false', 'on its own page, too');
is((report('shop', '--output', "$dir/ever.html", '--proof', 36500))[0], 0, 'a proof of what happened in a hundred years');
$dbh->do(q{CREATE OR REPLACE FUNCTION order_timeout.funds_violations(since timestamptz DEFAULT NULL)
	RETURNS TABLE (kind text, order_id text, gateway text, payment_ref text, refund_ref text, problem text)
	LANGUAGE sql STABLE AS $$ SELECT '', '', '', '', '', '' FROM pg_sleep(100) $$});
my $slow = shown(made('slow', '--timeout', 2), 'a proof that takes too long');
like($slow->evaluate('document.getElementById("proof_says").textContent'), qr/^Not proven: .* took longer than 2 s/, 'is reported as no proof');

# ------------------------------------------------------------ what it refuses

sub refused {
	my ($db, $expected, $pattern, @options) = @_;
	my ($status, $said) = report($db, @options);
	is($status, $expected, "@options: status $expected") or diag($said);
	unlike($said, qr/Traceback/, 'no traceback');
	return like($said =~ s/\n\z//r =~ s/.*\n//sr, $pattern, 'and why');
}
my $kept = "$dir/kept.html";
PostgreSQL::Test::Utils::append_to_file($kept, 'as it was');
my @output = ('--output', $kept);
refused('none', 1, qr/database "none" has no extension order_timeout: name another one .*CREATE EXTENSION/, @output);
$server->safe_psql('old', q{CREATE EXTENSION order_timeout VERSION '0.1.0'; SELECT order_timeout.grant_access('watcher', 'reader')});
refused('old', 1, qr/order_timeout 0\.1\.0 is too old, .*ALTER EXTENSION order_timeout UPDATE;/, @output);
refused('nowhere', 1, qr/database "nowhere" does not exist/, @output);
refused('shop', 1, qr/there is no order "no such"/, @output, '--order', 'no such');
refused('shop', 1, qr/order_id/, @output, '--order', '');
refused('shop', 1, qr/TimeZone/, @output, '--time-zone', 'Mars/Base');
refused('shop', 1, qr/permission denied.*grant_access/, @output, '--database', $server->connstr('shop') . ' user=nobody');
# Copied without its folder, and without psycopg.
PostgreSQL::Test::Utils::append_to_file("$dir/alone.py",
	PostgreSQL::Test::Utils::slurp_file("$sources/connect/report/order_timeout_report.py"));
for ([ '', qr/\Aorder_timeout_report: No module named 'page'\. Copy the folder/ ], [ '-I -S', qr/\Aorder_timeout_report: No module named 'psycopg'/ ]) {
	my ($isolated, $why) = @$_;
	like(`$python $isolated $dir/alone.py --output $kept 2>&1`, $why, 'it says what is missing');
}
refused('shop', 2, qr/--days/, @output, '--days', $_) for qw(0 -1 nan x);
refused('shop', 2, qr/--proof/, @output, '--proof', 'all');
refused('shop', 2, qr/$_->[0].*UTF-8/, @output, @$_) for [ '--order', "\xff" ], [ '--time-zone', "\xff" ];
refused('shop', 2, qr/--output/);
refused('shop', 2, qr/cannot be written: it is a folder/, '--output', $dir);
refused('shop', 2, qr{cannot be written: may this user write in \Q$dir\E/no, and is it there}, '--output', "$dir/no/such");
refused('shop', 2, qr/no build of Chart.js/, @output, '--chart-js', $0);
refused('shop', 2, qr/No such file/, @output, '--chart-js', "$dir/none.js");
refused('shop', 2, qr/no build of Chart.js|is a module/, @output, '--chart-js', '/usr/share/javascript/chart.js/chart.mjs');
is(PostgreSQL::Test::Utils::slurp_file($kept), 'as it was', 'the file stays as it was');
is_deeply([ glob "$dir/*.new" ], [], 'and none is left half-written');
is((report('shop', '--help'))[0], 0, '--help');
{
	local $ENV{PYTHONIOENCODING} = 'latin-1';
	my ($status, $said) = report('shop', '--output', '-', '--order', 'o-' . $evil);
	is($status, 0, 'standard output, in a locale of another encoding');
	like($said, qr/\xe2\x80\xae/, 'is UTF-8, as the page says');
}

my $empty = $server->dbh('empty');
$empty->do('CREATE EXTENSION order_timeout');
call($empty, 'grant_access', 'watcher', 'reader');
is((report('empty', '--output', "$dir/empty.html"))[0], 0, 'an empty database');
like(shown("$dir/empty.html", 'its page')->evaluate('document.body.textContent'), qr/There is nothing yet/, 'has nothing yet');

$dbh->do(q{CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
$server->safe_psql('bytes', q{SET client_encoding = 'SQL_ASCII'; CREATE EXTENSION order_timeout;
	SELECT order_timeout.grant_access('watcher', 'reader'), order_timeout.create_consumer(E'c\xff'), order_timeout.create_order(E'o\xff', 100, 'EUR'),
		order_timeout.create_order(E'\xc3\xa9', 100, 'EUR'), order_timeout.record_payment(E'p\xff', 'bank', E'\xff', 100, 'EUR')});
is((report('bytes', '--output', "$dir/bytes.html"))[1], '', 'a database that may hold any bytes');
like(shown("$dir/bytes.html", 'its page')->evaluate('document.body.textContent'), qr/order p\x{fffd}.*payment \x{fffd}.*c\x{fffd}/s, 'shows what is no text');
is((report('bytes', '--output', "$dir/bytes.html", '--order', "\xc3\xa9"))[1], '', 'finds an order by its bytes');
is((report('bytes', '--output', "$dir/bytes.html", '--order', "no\xc3\xa9"))[0], 1, 'or does not');

# ------------------------------------------------------------ the file

my $source = PostgreSQL::Test::Utils::slurp_file($file);
like($source, qr/\(c\) \d{4} Chart\.js Contributors\s+\* Released under the MIT License/, 'the licence of Chart.js is kept');
unlike($source =~ s{<script>/\*!.*?</script>}{}sr, qr{(?:src|href)=(?!"data:)|https?:|url\(|\@import}, 'and nothing outside is named');
like($source, qr/default-src 'none'/, 'nothing else may be loaded');

undef $browser;
done_testing();
