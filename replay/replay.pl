#!/usr/bin/perl
# A shop's own orders, read from a file, as order_timeout would have treated them.
#
# Without --run it only reads the options and the file: says all that is wrong with them (exit status 2), or prints the
# file's name and the output folder. With --run CHART it reads the file from standard input, replays it on the server
# that PGHOST and so on lead to (bin/replay starts one), prints the tables and draws the chart. Exit status: 0 all money
# is accounted for, 1 it is not, or the replay could not run.

use v5.36;
use FindBin;
use lib map { "$FindBin::Bin/$_" } 'lib', '../demo/lib', '../bench';
use Getopt::Long;
use List::Util qw(max min sum);
use Time::HiRes qw(sleep time);

use Replay::Orders;

my $USAGE = <<'END';
usage: bin/replay FILE.csv [options]
  --timeout T        how long an order may be paid ('30 minutes')
  --late-rule RULE   until_closed or at_deadline, as in the policies (until_closed)
  --on-late WHAT     refund, reopen or hold, as in the policies (refund)
  --refund-takes T   what the simulated gateway takes to return money ('1 hour')
  --speed N          how many times faster than the file (so that it lasts about a minute)
  --output DIR       where the chart goes: DIR/replay.svg (.)
  --quick            no waiting for pg_cron's first minute: a connection of ours sweeps
  --help             this
FILE.csv starts with order_id,created_at,amount,currency,paid_at,paid_amount; T is a number and seconds, minutes,
hours, days or weeks. doc/replay.md says the rest.
END

my $LASTS     = 60;      # seconds, unless --speed says else
my $SHORTEST  = 0.2;     # seconds of a deadline in the replay: twice the time after which the sweeper looks for new ones
my $RATE      = 500;     # calls a second on the average, unless --speed says else
my $LIST      = 20;      # bad rows shown

my %option = ('timeout' => '30 minutes', 'late-rule' => 'until_closed', 'on-late' => 'refund', 'refund-takes' => '1 hour',
    output => '.');
my $well = GetOptions(\%option, 'timeout=s', 'late-rule=s', 'on-late=s', 'refund-takes=s', 'speed=f', 'output=s', 'quick',
    'help', 'run=s');
if ($option{help}) { print $USAGE; exit 0 }
refuse($USAGE) unless $well and @ARGV == 1;
my ($file) = @ARGV;
my ($timeout, $takes) = map { seconds($_) } qw(timeout refund-takes);
one_of('late-rule', qw(until_closed at_deadline));
one_of('on-late', qw(refund reopen hold));

my $orders = orders();
my $span = span();
my $calls = sum map { 1 + @{ $_->{payments} } } @$orders;
my $speed = $option{speed} // max(1, min($span / $LASTS, $timeout / $SHORTEST, $span * $RATE / $calls));
refuse("--speed must be more than 0\n") if $speed <= 0;
refuse(sprintf "--speed %g makes the deadline %.0f ms, the sweeper needs %.0f: --speed %d at most\n", $speed,
    $timeout / $speed * 1000, $SHORTEST * 1000, $timeout / $SHORTEST) if $timeout / $speed < $SHORTEST;

if (not $option{run}) { say for $file, $option{output}; exit 0 }
$| = 1;
my $accounted = eval { replay() };
print STDERR "replay: $@" if $@;
Replay::Player::end_children();
exit($accounted ? 0 : 1);

sub refuse (@text) { print STDERR @text; exit 2 }

sub seconds ($name) {
    state %unit = (second => 1, minute => 60, hour => 3600, day => 86_400, week => 7 * 86_400);
    my ($number, $unit) = $option{$name} =~ /^\s*([0-9]+(?:\.[0-9]+)?)\s*(second|minute|hour|day|week)s?\s*\z/
        or refuse("--$name is a number and seconds, minutes, hours, days or weeks, not '$option{$name}'\n");
    refuse("--$name must be more than 0\n") if $number == 0;
    return $number * $unit{$unit};
}

sub one_of ($name, @words) {
    refuse("--$name is one of @words, not '$option{$name}'\n") unless grep { $_ eq $option{$name} } @words;
}

sub orders {
    my $in = \*STDIN;
    if (not $option{run}) {
        refuse("$file: not a file\n") unless -f $file;
        open $in, '<:raw', $file or refuse("$file: $!\n");
    }
    binmode $in;
    my ($orders, $bad) = Replay::Orders::from_csv(do { local $/; <$in> } // '');
    return $orders unless @$bad;
    my @shown = @$bad > $LIST ? @$bad[ 0 .. $LIST - 1 ] : @$bad;
    print STDERR map { "$file:$_->[0]: $_->[1]\n" } @shown;
    print STDERR 'and ', @$bad - @shown, " more bad rows\n" if @$bad > @shown;
    exit 2;
}

# From the first order to the last deadline, payment or refund.
sub span {
    my $first = min map { $_->{created_at} } @$orders;
    my $last = max map { ($_->{created_at} + $timeout, map { $_->{paid_at} } @{ $_->{payments} }) } @$orders;
    return $last + $takes - $first;
}

# Only here are more than Perl's own modules needed.
sub replay {
    require "Replay/$_.pm" for qw(Clock Player Result Report Chart);
    my $player = Replay::Player->new(orders => $orders, timeout => $timeout, refund_takes => $takes,
        late_rule => $option{'late-rule'}, on_late => $option{'on-late'}, quick => $option{quick});
    say scalar @$orders, ' orders, ', $calls - @$orders, " payments; a deadline of $option{timeout}, $option{'late-rule'},",
        " on_late $option{'on-late'}; the gateway is simulated and takes $option{'refund-takes'} to return money";
    say "waiting for pg_cron's first minute (at most 60 s)" unless $option{quick};
    $player->start_sweeping;
    say sprintf 'replaying %s in %s, %.6g times faster', Replay::Clock::duration($span), Replay::Clock::duration($span / $speed), $speed;
    my $clock = Replay::Clock->new(first => min(map { $_->{created_at} } @$orders), starts => time + 0.5, speed => $speed);
    $player->start_gateway($clock);
    $player->play($clock);
    my $ended = $player->wait_for_the_last($clock);
    say "\nnot all orders and refunds came to their end" unless $ended;
    return report(Replay::Result->new($player->{dbh}, $clock)) && $ended;
}

sub report ($result) {
    my @currencies = $result->by_currency;
    my @happenings = $result->happenings;
    my @names = map { $_->{currency} } @currencies;
    my ($late_calls, $late_closings) = $result->lateness;
    # Under at_deadline a payment does not wait for the closing to be late.
    my $within = $speed * ($option{'late-rule'} eq 'at_deadline' ? $late_calls : max($late_calls, $late_closings));
    say '';
    Replay::Report::currencies(@currencies);
    Replay::Report::calendar(\@happenings, @names);
    Replay::Report::exactness($speed, $late_calls, $late_closings, $within, $result->near_the_deadline($within));
    Replay::Chart::draw($option{run}, "$file, a deadline of $option{timeout}, on_late $option{'on-late'}", \@happenings, @names);
    return Replay::Report::proof([ $result->violations ], @currencies);
}
