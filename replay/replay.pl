#!/usr/bin/perl
# A shop's own orders, read from a file, as order_timeout would have treated them.
#
# With --check it only looks at the options: exit status 64, and it prints the file's name and the output folder, if they
# are good; 2 if not. With --chart CHART it reads the file from standard input, asks replay_orders on the server that
# PGHOST and so on lead to (bin/replay starts one), prints the tables and draws the chart.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/../bench";
use Getopt::Long;
use List::Util qw(max);
use POSIX qw(strftime);

my $USAGE = <<'END';
usage: bin/replay FILE.csv [options]
  --pay-within T         how long an order may be paid ('30 minutes')
  --late-rule RULE       until_closed or at_deadline, as in the policies (until_closed)
  --on-late WHAT         refund, reopen or hold, as in the policies (refund)
  --on-notified-late W   the same for what was paid in time and reported too late (as --on-late)
  --on-short WHAT        refund or hold: part payments of an order that closes (refund)
  --short-tolerance N    minor units that an order may lack (0)
  --sweep-lag T          how long after its deadline an order closes ('0 seconds')
  --report-lag T         how long after paid_at a payment is reported ('0 seconds')
  --output DIR           where the chart goes: DIR/replay.svg (.)
  --help                 this
FILE.csv starts with order_id,created_at,amount,currency,paid_at,paid_amount; T is an interval of PostgreSQL, in one
argument. doc/replay.md says the rest.
END

my %words = ('late-rule' => 'until_closed at_deadline', 'on-late' => 'refund reopen hold', 'on-notified-late' => 'refund reopen hold',
	'on-short' => 'refund hold');
my @STEPS = (60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, map { 86_400 * $_ } 1, 2, 7, 14, 28, 91, 365);

my %option = ('pay-within' => '30 minutes', 'late-rule' => 'until_closed', 'on-late' => 'refund', 'on-short' => 'refund',
	'short-tolerance' => 0, 'sweep-lag' => '0 seconds', 'report-lag' => '0 seconds', 'output' => '.');
my $well = GetOptions(\%option, (map { "$_=s" } grep { $_ ne 'short-tolerance' } keys %option), 'on-notified-late=s',
	'short-tolerance=i', 'chart=s', 'check', 'help');
if ($option{help}) { print $USAGE; exit 0 }
refuse($USAGE) unless $well and @ARGV == 1;
my ($file) = @ARGV;
for my $name (grep { defined $option{$_} } sort keys %words) {
	refuse("--$name is one of $words{$name}, not '$option{$name}'\n") unless grep { $_ eq $option{$name} } split / /, $words{$name};
}
refuse("--short-tolerance must not be negative\n") if $option{'short-tolerance'} < 0;
if ($option{check}) {
	refuse("$file is no file that can be read\n") unless -f $file and -r $file;
	refuse("$option{output} is no folder\n") unless -d $option{output};
	say for $file, $option{output};
	exit 64;
}

require DBI;
require Gnuplot;
my $dbh = DBI->connect('dbi:Pg:', undef, undef, { PrintError => 0, PrintWarn => 0, AutoCommit => 1, RaiseError => 1 });
eval { replay(); 1 } or refuse(explained($@));
report();
exit 0;

sub refuse (@text) { print STDERR @text; exit 2 }

# The server counts the rows of the query; the file's first line is the header.
sub explained ($error) {
	$error = $dbh->errstr // $error;
	my ($message) = $error =~ /^(?:ERROR:\s*)?(.*)/;
	my ($hint) = $error =~ /^(HINT:.*)/m;
	my $line = $error =~ /^CONTEXT:\s+COPY \w+, line (\d+)/m ? $1 : $error =~ /row (\d+) of orders_query/ ? $1 + 1 : undef;
	$message =~ s/ in row (\d+)$/' in line ' . ($1 + 1)/e;
	return (defined $line ? "$file:$line: " : '') . "$message\n" . (defined $hint ? "$hint\n" : '');
}

# ---- the server's part ----

sub replay {
	$dbh->do(<<'END');
CREATE TEMP TABLE orders (order_id text, created_at timestamptz, amount bigint, currency text, paid_at timestamptz, paid_amount bigint)
END
	$dbh->do('COPY orders FROM STDIN (FORMAT csv, HEADER match)');
	binmode STDIN;
	my $first = 1;
	while (read STDIN, my $part, 1 << 20) {
		$part =~ s/^\xEF\xBB\xBF// if $first;
		$first = 0;
		$dbh->pg_putcopydata($part);
	}
	$dbh->pg_putcopyend;
	$dbh->do('INSERT INTO order_timeout.policies (policy, late_rule, on_late, on_notified_late, on_short, short_tolerance) VALUES (?, ?, ?, ?, ?, ?)',
		undef, 'replay', @option{qw(late-rule on-late on-notified-late on-short short-tolerance)});
	$dbh->do('CREATE TEMP TABLE steps AS SELECT * FROM order_timeout.replay_orders($$SELECT * FROM orders$$, $$replay$$, ?, ?, ?)',
		undef, @option{qw(pay-within sweep-lag report-lag)});
	return;
}

sub rows ($sql, @values) { return @{ $dbh->selectall_arrayref($sql, { Slice => {} }, @values) } }

# What became of each order, the most orders first.
sub by_currency { return rows(<<'END') }
WITH orders AS (
    SELECT currency, sum(paid) AS paid, sum(owed) AS owed, sum(held) AS held,
           sum(owed) FILTER (WHERE outcome = 'late') AS owed_late,
           sum(owed) FILTER (WHERE outcome = 'expired') AS owed_short,
           sum(owed) FILTER (WHERE outcome IN ('paid', 'reopened', 'surplus')) AS owed_surplus,
           CASE WHEN bool_or(outcome = 'paid') THEN 'in_time' WHEN bool_or(outcome = 'reopened') THEN 'reopened'
                WHEN bool_or(outcome = 'pending') THEN 'open' WHEN bool_or(outcome = 'held') THEN 'late_held'
                WHEN bool_or(outcome = 'late') THEN 'late' WHEN sum(paid) > 0 THEN 'short' ELSE 'unpaid' END AS became
      FROM steps GROUP BY order_id, currency
)
SELECT currency, count(*) AS orders, count(*) FILTER (WHERE became = 'in_time') AS in_time,
       count(*) FILTER (WHERE became = 'reopened') AS reopened, count(*) FILTER (WHERE became = 'late') AS late,
       count(*) FILTER (WHERE became = 'late_held') AS late_held, count(*) FILTER (WHERE became = 'short') AS short,
       count(*) FILTER (WHERE became = 'unpaid') AS unpaid, count(*) FILTER (WHERE became = 'open') AS open,
       sum(paid) AS paid, sum(paid - owed - held) AS kept, sum(owed) AS owed, sum(owed_late) AS owed_late,
       sum(owed_short) AS owed_short, sum(owed_surplus) AS owed_surplus, sum(held) AS held
  FROM orders GROUP BY currency ORDER BY orders DESC, currency
END

# What happened in each period that so many periods divide the whole into: { at, paid, closed, late, owed => { EUR => 1 } }.
sub calendar ($most) {
	my ($first, $last) = $dbh->selectrow_array('SELECT extract(epoch FROM min(happened_at)), extract(epoch FROM max(happened_at)) FROM steps');
	return unless defined $first;
	my ($step) = grep { int($last / $_) - int($first / $_) < $most } @STEPS, 86_400 * 36_500;
	my %period = map { $_ * $step => { at => $_ * $step } } int($first / $step) .. int($last / $step);
	for my $row (rows(<<'END', $step, $step)) {
SELECT floor(extract(epoch FROM happened_at) / ?::bigint) * ?::bigint AS at, currency, sum(owed) AS owed,
       count(*) FILTER (WHERE outcome = 'paid') AS paid, count(*) FILTER (WHERE outcome = 'expired') AS closed,
       count(*) FILTER (WHERE outcome IN ('late', 'reopened', 'held')) AS late
  FROM steps GROUP BY 1, currency
END
		my $period = $period{ $row->{at} };
		$period->{$_} += $row->{$_} for qw(paid closed late);
		$period->{owed}{ $row->{currency} } += $row->{owed};
	}
	return ($step, map { $period{$_} } sort { $a <=> $b } keys %period);
}

# ---- what is printed ----

sub grouped ($number) { return scalar reverse(reverse($number // 0) =~ s/(\d{3})(?=\d)/$1,/gr) }
sub stamp ($at) { return strftime('%Y-%m-%d %H:%M', gmtime $at) }

# Rows of cells as columns, all but the first to the right.
sub table (@rows) {
	my @widths = map { my $i = $_; max map { length $_->[$i] } @rows } 0 .. $#{ $rows[0] };
	for my $row (@rows) {
		say join('   ', map { sprintf '%*s', $_ ? $widths[$_] : -$widths[0], $row->[$_] } 0 .. $#$row) =~ s/ +$//r;
	}
	say '';
	return;
}

sub report {
	my @currencies = by_currency() or refuse("$file has no orders\n");
	my @names = map { $_->{currency} } @currencies;
	my $line = sub ($label, $column) { [ $label, map { grouped($_->{$column}) } @currencies ] };
	say "a deadline of $option{'pay-within'}, $option{'late-rule'}, on_late $option{'on-late'}; money in minor units, times in UTC\n";
	table(
		[ '', @names ],
		$line->('orders', 'orders'),
		$line->('  paid in time', 'in_time'),
		$line->('  closed, paid late: reopened', 'reopened'),
		$line->('  closed, paid late: goes back', 'late'),
		$line->('  closed, paid late: held', 'late_held'),
		$line->('  closed, paid in part', 'short'),
		$line->('  closed, never paid', 'unpaid'),
		$line->('  still open', 'open'),
		$line->('money paid', 'paid'),
		$line->('  kept', 'kept'),
		$line->('  goes back', 'owed'),
		$line->('    paid late', 'owed_late'),
		$line->('    paid in part', 'owed_short'),
		$line->('    paid too much', 'owed_surplus'),
		$line->('  held for a decision', 'held'));
	my (undef, @periods) = calendar(14);
	table([ 'from', 'paid in time', 'closed', 'paid late', map { "$_ to go back" } @names ],
		map { my $period = $_; [ stamp($period->{at}), (map { grouped($period->{$_}) } qw(paid closed late)), map { grouped($period->{owed}{$_}) } @names ] } @periods);
	chart(@names);
	return;
}

# ---- the chart ----

sub chart (@names) {
	my ($step, @periods) = calendar(100);
	my ($first, $last) = ($periods[0]{at}, $periods[-1]{at} + $step);
	my ($ticks) = grep { ($last - $first) / $_ <= 8 } @STEPS, 86_400 * 36_500;
	my $height = 330 + 230 * @names;
	my ($top, $script) = (1, '');
	for my $panel (counts($step, $last, @periods), map { money($_, $first, $step, @periods) } @names) {
		my $share = ($top == 1 ? 330 : 230) / $height;
		$top -= $share;
		$script .= sprintf "set origin 0,%.4f\nset size 1,%.4f\n%s", $top, $share, $panel;
	}
	Gnuplot::draw($option{chart}, $height, "set multiplot\nset lmargin at screen 0.11\nset rmargin at screen 0.95\nset xdata time\n"
		. "set timefmt '%s'\nset format x \"%Y-%m-%d\\n%H:%M\"\nset format y '%.0f'\nset xtics $ticks font ',11'\n"
		. "set xrange ['$first':'$last']\nset yrange [0:*]\n${script}unset multiplot\n");
	return;
}

sub counts ($step, $last, @periods) {
	my @kinds = ([ paid => 'orders paid in time', '#2ca02c' ], [ closed => 'orders closed', '#555555' ], [ late => 'payments that came late', '#d62728' ]);
	my ($blocks, @plots) = ('');
	for (@kinds) {
		my ($kind, $name, $color) = @$_;
		$blocks .= Gnuplot::block($kind, (map { $_->{at} . ' ' . ($_->{$kind} // 0) } @periods), "$last 0");
		push @plots, "\$$kind using 1:2 with steps lw 2 lc rgb '$color' title " . Gnuplot::text($name);
	}
	my $title = ($file =~ s{.*/}{}sr) . ": a deadline of $option{'pay-within'}, on_late $option{'on-late'}";
	my $every = $step < 3600 ? $step / 60 . ' min' : $step < 86_400 ? $step / 3600 . ' h' : $step / 86_400 . ' d';
	return $blocks . 'set title ' . Gnuplot::text($title) . "\nset ylabel " . Gnuplot::text("in $every")
		. "\nset key above horizontal\nplot " . join(', ', @plots) . "\n";
}

# Added up from the start.
sub money ($currency, $first, $step, @periods) {
	my ($sum, @points) = (0, "$first 0");
	push @points, $_->{at} + $step . ' ' . ($sum += $_->{owed}{$currency} // 0) for @periods;
	my $name = $currency =~ s/[^A-Z]//gr;
	return Gnuplot::block("owed$name", @points) . 'set title ' . Gnuplot::text("$currency that had to go back, in minor units, from the start")
		. "\nset ylabel ''\nunset key\nplot \$owed$name using 1:2 with lines lw 2 lc rgb '#1f77b4'\n";
}
