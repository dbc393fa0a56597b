package Replay::Report;

# The tables that are printed after a replay. Amounts are in minor units, times those of the file.

use v5.36;
use List::Util qw(max);
use POSIX qw(strftime);

use Replay::Clock;
use Shop::Report;

my @STEPS = (60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, map { 86_400 * $_ } 1, 2, 7, 14, 28, 91, 365);

# Width and start of periods that divide what happened into at most so many.
sub periods ($most, @happenings) {
    my ($first, $last) = @happenings ? ($happenings[0]{at}, $happenings[-1]{at}) : (0, 0);
    my ($step) = grep { int($last / $_) - int($first / $_) < $most } @STEPS, 86_400 * 36_500;
    return ($step, map { $_ * $step } int($first / $step) .. int($last / $step));
}

sub grouped ($number) { return Shop::Report::grouped($number // 0) }

# Rows of cells as columns, all but the first to the right.
sub table (@rows) {
    my @widths = map { my $i = $_; max map { length $_->[$i] } @rows } 0 .. $#{ $rows[0] };
    for my $row (@rows) {
        my @cells = map { sprintf '%*s', $_ ? $widths[$_] : -$widths[0], $row->[$_] } 0 .. $#$row;
        say join('   ', @cells) =~ s/ +$//r;
    }
    say '';
}

sub currencies (@currencies) {
    my $count = sub ($label, $column) { [ $label, map { grouped($_->{$column}) } @currencies ] };
    my $took  = sub ($label, $i) { [ $label, map { $_->{took} ? Replay::Clock::duration($_->{took}[$i]) : '-' } @currencies ] };
    my $title = sub ($label) { [ $label, ('') x @currencies ] };
    table(
        [ '', map { $_->{currency} } @currencies ],
        $count->('orders', 'orders'),
        $count->('  paid in time', 'in_time'),
        $count->('  closed, paid late: reopened', 'reopened'),
        $count->('  closed, paid late: refunded', 'late'),
        $count->('  closed, paid late: held', 'late_held'),
        $count->('  closed, paid too little: refunded', 'short'),
        $count->('  closed, never paid', 'unpaid'),
        $count->('paid too much: the surplus refunded', 'overpaid'),
        $count->('payments', 'payments'),
        $count->('refunds', 'refunds'),
        $title->(''),
        $count->('money paid', 'paid'),
        $count->('  kept', 'kept'),
        $count->('  went back', 'returned'),
        $count->('    paid late', 'returned_late'),
        $count->('    paid too little', 'returned_short'),
        $count->('    surplus', 'returned_surplus'),
        $count->('  held for a decision', 'held'),
        $count->('  owed and not back yet', 'owed'),
        $title->(''),
        $title->('from a payment to its return'),
        $took->('  median', 0),
        $took->('  99 %', 1),
        $took->('  longest', 2),
    );
}

# What happened when.
sub calendar ($happenings, @currencies) {
    my ($step, @starts) = periods(14, @$happenings);
    my %sums;
    for my $event (@$happenings) {
        my $period = $sums{ int($event->{at} / $step) * $step } //= {};
        $period->{ $event->{kind} }++;
        $period->{back}{ $event->{currency} } += $event->{amount} if $event->{kind} eq 'returned';
    }
    table(
        [ 'from (UTC)', 'paid in time', 'closed', 'paid late', 'refunded', map { "went back, $_" } @currencies ],
        map {
            my $period = $sums{$_};
            [ stamp($_), (map { grouped($period->{$_}) } qw(paid closed late returned)),
                map { grouped($period->{back}{$_}) } @currencies ]
        } @starts
    );
}

sub stamp ($at) { return strftime('%Y-%m-%d %H:%M', gmtime $at) }

# How exact the replay was, and which payments that concerns.
sub exactness ($speed, $calls, $closings, $within, @near) {
    my ($other, $line) = ((grep { $_->{other_side} } @near) + 0, 0);
    say 'How exact: 1 ms of the replay is ', Replay::Clock::duration($speed / 1000), '. Payments were told at most ',
        Replay::Clock::duration($calls * $speed), ' late, orders closed at most ', Replay::Clock::duration($closings * $speed), ' late.';
    say scalar @near, ' payments lay within ', Replay::Clock::duration($within), ' of the deadline: this speed cannot tell their side. ',
        $other, ' came out on the other side than their times say.';
    for (@near) {
        say sprintf '  line %d: paid %s %s the deadline%s', $_->{line}, Replay::Clock::duration(abs $_->{after}),
            $_->{after} < 0 ? 'before' : 'after', $_->{other_side} ? ', came out on the other side' : '';
        last if ++$line == 10;
    }
    say '  ...' if @near > 10;
    say '';
}

# Answers whether every unit is accounted for.
sub proof ($violations, @currencies) {
    my $pending = 0;
    my $wrong = @$violations;
    for (@currencies) {
        my ($paid, @parts) = map { $_ // 0 } @$_{qw(paid kept returned owed held)};
        my $equal = $paid == $parts[0] + $parts[1] + $parts[2] + $parts[3];
        say sprintf '%s %s paid %s %s kept + %s went back + %s owed + %s held', $_->{currency}, grouped($paid),
            $equal ? '=' : '<>', map { grouped($_) } @parts;
        $wrong++ unless $equal;
        $pending += $_->{pending};
    }
    say 'funds_violations(): ', @$violations ? scalar @$violations . ' rows' : 'no rows';
    say "$pending orders are still pending" if $pending;
    say $wrong ? 'NOT all money is accounted for' : 'all money is accounted for';
    return !$wrong && !$pending;
}

1;
