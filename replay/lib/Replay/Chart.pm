package Replay::Chart;

# The chart: how many payments, closings and refunds there were in each period, and the money that had gone back by then.

use v5.36;

use Gnuplot;
use Replay::Report;

my @KINDS = ([ paid => 'paid in time', '#2ca02c' ], [ closed => 'closed', '#555555' ], [ late => 'paid late', '#d62728' ],
    [ returned => 'refunded', '#1f77b4' ]);

sub draw ($file, $title, $happenings, @currencies) {
    my @panels = (counts($title, $happenings), map { money($_, $happenings) } @currencies);
    my ($top, $height, $script) = (1, 330 + 190 * @currencies, '');
    for my $panel (@panels) {
        my $share = ($panel == $panels[0] ? 330 : 190) / $height;
        $top -= $share;
        $script .= sprintf "set origin 0,%.4f\nset size 1,%.4f\n%s", $top, $share, $$panel;
    }
    my ($every, @ticks) = Replay::Report::periods(8, @$happenings);
    my ($first, $last) = @$happenings ? ($happenings->[0]{at}, $happenings->[-1]{at}) : (0, 1);
    Gnuplot::draw($file, $height, "set multiplot\nset lmargin at screen 0.11\nset rmargin at screen 0.97\nset xdata time\n"
        . "set timefmt '%s'\nset format x \"%Y-%m-%d\\n%H:%M\"\nset format y '%.0f'\nset xtics $ticks[0],$every font ',11'\n"
        . "set xrange ['$first':'$last']\nset yrange [0:*]\n${script}unset multiplot\n");
}

# A line of steps for each kind.
sub counts ($title, $happenings) {
    my ($step, @starts) = Replay::Report::periods(100, @$happenings);
    my %count;
    $count{ $_->{kind} }{ int($_->{at} / $step) * $step }++ for @$happenings;
    my ($blocks, @plots) = ('');
    for (@KINDS) {
        my ($kind, $name, $color) = @$_;
        $blocks .= Gnuplot::block($kind, map { $_ . ' ' . ($count{$kind}{$_} // 0) } @starts, $starts[-1] + $step);
        push @plots, "\$$kind using 1:2 with steps lw 2 lc rgb '$color' title " . Gnuplot::text($name);
    }
    my $every = Replay::Clock::duration($step);
    return \($blocks . 'set title ' . Gnuplot::text($title) . "\nset ylabel " . Gnuplot::text("in $every")
        . "\nset key above horizontal\nplot " . join(', ', @plots) . "\n");
}

# A step up for each refund.
sub money ($currency, $happenings) {
    my ($sum, @points) = (0);
    for (grep { $_->{kind} eq 'returned' and $_->{currency} eq $currency } @$happenings) {
        push @points, "$_->{at} $sum";
        $sum += $_->{amount};
        push @points, "$_->{at} $sum";
    }
    unshift @points, "$happenings->[0]{at} 0" if @$happenings;
    push @points, "$happenings->[-1]{at} $sum" if @$happenings;
    return \(Gnuplot::block("back$currency", @points) . 'set title '
        . Gnuplot::text("$currency that went back, in minor units, from the start") . "\nset ylabel ''\nunset key\n"
        . "plot \$back$currency using 1:2 with lines lw 2 lc rgb '#1f77b4'\n");
}

1;
