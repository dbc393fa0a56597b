package Shop::Report;

# What the newcomer sees: a line that goes on while the shop is open, and the tables at the end.

use v5.36;
use List::Util qw(max min sum0);
use Time::HiRes qw(time);

sub new ($class) {
    my $self = bless { terminal => -t STDOUT, counts => {}, finished => 0, shown => 0 }, $class;
    ($self->{columns}) = qx(stty size 2>/dev/null) =~ / (\d+)/ if $self->{terminal};
    $self->{columns} ||= 80;
    return $self;
}

# ---- while it runs ----

# A line that stays.
sub line ($self, $text) { print $self->{terminal} ? "\r\e[K" : '', $text, "\n" }

# One that the next one overwrites; nothing where that is not possible.
sub passing ($self, $text) { print "\r\e[K", substr $text, 0, $self->{columns} - 1 if $self->{terminal} }

sub opening ($self, $option, $kinds) {
    $self->line("seed $option->{seed}: $option->{orders} orders in $option->{seconds} s, $option->{clients} clients,"
        . " $option->{workers} workers" . ($option->{lie} ? '; the gateway lies' : ''));
    $self->wrapped('buyers', listed($kinds));
}

sub opened ($self, $at) { $self->{opened} = $at }

# A word from a child.
sub hear ($self, $what, @fields) {
    if ($what eq 'count') { $self->{counts}{ $fields[0] }{ $fields[1] }++ }
    elsif ($what eq 'finished') { $self->{finished}++ }
    else { $self->line(join ' ', @fields) }
}

sub progress ($self, $dbh) {
    return if time < $self->{shown} + ($self->{terminal} ? 1 : 5);
    $self->{shown} = time;
    my $now = $dbh->selectrow_hashref(q{
        SELECT count(*) FILTER (WHERE state = 'pending') AS pending,
               count(*) FILTER (WHERE state = 'closing') AS closing,
               count(*) FILTER (WHERE state = 'pending' AND expires_at <= clock_timestamp()) AS overdue,
               count(*) FILTER (WHERE state = 'paid') AS paid, count(*) FILTER (WHERE state = 'expired') AS expired,
               count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
               (SELECT count(*) FROM order_timeout.payments) AS payments,
               (SELECT count(*) FROM order_timeout.refunds) AS refunds,
               (SELECT count(*) FROM order_timeout.refunds WHERE state NOT IN ('succeeded', 'reversed')) AS owed
          FROM order_timeout.orders});
    my $line = sprintf '%3d s  %3d pending, %d closing, %4d paid, %3d expired, %2d cancelled; %4d refunds, %2d open;'
        . ' %d overdue; %d payments',
        max(0, time - $self->{opened}), @$now{qw(pending closing paid expired cancelled refunds owed overdue payments)};
    $self->{terminal} ? $self->passing($line) : $self->line($line);
}

# ---- at the end ----

# Answers the exit status.
sub closing ($self, $dbh, $open, $proof, $sums) {
    $self->line('');
    $self->outcomes;
    $self->orders($dbh);
    $self->asking($dbh);
    $self->lateness($dbh);
    $self->refunds($dbh);
    my @rows = map { grouped($dbh->selectrow_array("SELECT count(*) FROM order_timeout.$_")) . " $_" }
        qw(orders payments refunds);
    $self->line("\nThe proof, over " . join ', ', @rows);
    return $self->proof($open, $proof, $sums);
}

sub outcomes ($self) {
    my %counts = %{ $self->{counts} };
    my ($gateway, $edge, $session) = delete @counts{qw(gateway edge session), 'turned away'};
    $self->line('What the calls answered');
    $self->wrapped($_, listed($counts{$_})) for sort keys %counts;
    $self->line("\nPayments notified at the deadline, give or take 6 ms");
    $self->wrapped('', listed($edge));
    $self->line("\nWhat the gateway did when it was sent a refund");
    $self->wrapped('', listed($gateway));
    $self->line("\n... and when it was to end a session that was not paid");
    $self->wrapped('', listed($session));
}

# "paid 12, late 3": most first.
sub listed ($counts) {
    my @keys = sort { $counts->{$b} <=> $counts->{$a} || $a cmp $b } keys %$counts;
    return join ', ', map { tr/_/ /r . ' ' . grouped($counts->{$_}) } @keys;
}

# A name and a list that may take several lines.
sub wrapped ($self, $name, $list) {
    my ($label, $line) = ($name, '');
    for my $item (split /(?<=,) /, $list) {
        if (length("$line $item") > 84) {
            $self->labelled($label, $line);
            ($label, $line) = ('', '');
        }
        $line .= $line eq '' ? $item : " $item";
    }
    $self->labelled($label, $line);
}

sub labelled ($self, $label, $line) { $self->line(sprintf '  %-18s %s', $label, $line) }

sub orders ($self, $dbh) {
    my $states = $dbh->selectall_arrayref('SELECT state, count(*) FROM order_timeout.orders GROUP BY 1');
    $self->line("\nOrders at the end");
    $self->wrapped('', listed({ map { @$_ } @$states }));
}

# Two policies that differ in this only; the same kinds of buyers come to both.
sub asking ($self, $dbh) {
    my %of = map { $_ => figures($dbh, $_, $self->{counts}{'turned away'}{$_} // 0) } qw(shop shop_asks);
    my $row = "%-62s %8s %8s";
    $self->line("\n" . sprintf $row, 'Is the gateway asked to end sessions before orders are closed?', 'no', 'yes');
    for my $n (0 .. $#{ $of{shop} }) {
        my ($what, @figures) = ($of{shop}[$n][0], map { $of{$_}[$n][1] } qw(shop shop_asks));
        $self->line(sprintf $row, "  $what", @figures);
    }
}

# [[what, figure], ...] of one policy. Of the money only the share, as there are several currencies.
sub figures ($dbh, $policy, $turned_away) {
    my ($orders, $paid, $expired, $cancelled) = $dbh->selectrow_array(q{
        SELECT count(*), count(*) FILTER (WHERE state = 'paid'), count(*) FILTER (WHERE state = 'expired'),
               count(*) FILTER (WHERE state = 'cancelled')
          FROM order_timeout.orders WHERE policy = ?}, undef, $policy);
    my ($late, $after_cancel, $refunds, $back) = $dbh->selectrow_array(q{
        SELECT count(*) FILTER (WHERE p.disposition = 'late' AND o.state = 'expired'),
               count(*) FILTER (WHERE p.disposition = 'late' AND o.state = 'cancelled'),
               (SELECT count(*) FROM order_timeout.refunds r JOIN order_timeout.orders USING (order_id)
                 WHERE policy = $1),
               100 * sum(p.refunded) / sum(p.amount)
          FROM order_timeout.payments p JOIN order_timeout.orders o USING (order_id)
         WHERE o.policy = $1}, undef, $policy);
    return [
        [ 'orders' => $orders ], [ '  paid' => $paid ], [ '  expired' => $expired ], [ '  cancelled' => $cancelled ],
        [ 'payments after the order had expired' => $late ],
        [ 'payments after the order was cancelled' => $after_cancel ],
        [ 'buyers turned away, because their session had ended' => $turned_away ],
        [ 'refunds' => $refunds ], [ 'share of the money that went back' => sprintf '%.1f %%', $back // 0 ],
    ];
}

sub lateness ($self, $dbh) {
    my $asked = "EXISTS (SELECT FROM order_timeout.events c"
        . " WHERE c.aggregateid = o.order_id AND c.type = 'order.closing')";
    my @clocks = ([ settled_at => 'o.settled_at', "NOT $asked" ]);
    # A row says when it was written. Others see it from the commit on, which the server knows if it was told to note it.
    push @clocks, [ committed => 'pg_xact_commit_timestamp(e.xmin)', "NOT $asked" ]
        if $dbh->selectrow_array(q{SELECT current_setting('track_commit_timestamp')}) eq 'on';
    push @clocks, [ 'asked before' => 'o.settled_at', $asked ];
    $self->line("\nClosing of expired orders, after expires_at");
    for my $clock (@clocks) {
        my ($n, $late) = $dbh->selectrow_array(qq{
            SELECT count(*), percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (ORDER BY late)
              FROM (SELECT extract(epoch FROM $clock->[1] - o.expires_at) * 1000 AS late
                      FROM order_timeout.orders o
                      JOIN order_timeout.events e ON e.aggregateid = o.order_id AND e.type = 'order.expired'
                     WHERE o.state = 'expired' AND $clock->[2]) AS closed});
        $self->labelled($clock->[0], sprintf '%s orders: median %.1f ms, p99 %.1f ms, max %.1f ms', grouped($n), @$late)
            if $n;
    }
}

sub refunds ($self, $dbh) {
    my $rows = $dbh->selectall_arrayref(q{
        SELECT reason, count(*), count(*) FILTER (WHERE state = 'succeeded'),
               count(*) FILTER (WHERE state = 'reversed'),
               count(*) FILTER (WHERE state NOT IN ('succeeded', 'reversed')), round(avg(attempts), 2), max(attempts)
          FROM order_timeout.refunds GROUP BY 1 ORDER BY 2 DESC, 1});
    $self->line('');
    $self->line(sprintf '%-18s %7s %10s %9s %6s   %s', 'Refunds by reason', qw(all succeeded reversed open),
        'attempts without an end');
    $self->line(sprintf '  %-16s %7d %10d %9d %6d   mean %s, max %d', @$_) for @$rows;
}

sub proof ($self, $open, $proof, $sums) {
    my $wrong = 0;
    for my $question (@$proof) {
        my ($name, @problems) = @$question;
        $wrong += @problems;
        $self->line(sprintf '  %-28s %s', $name, @problems ? 'differences: ' . @problems : 'nothing differs');
        $self->line("    $_") for @problems[ 0 .. min($#problems, 19) ];
    }
    $self->line('');
    my @open = map { "$open->{$_} $_" } grep { $open->{$_} } sort keys %$open;
    $self->line('not at its end, however long we waited, so the ledgers may differ: ' . join ', ', @open) if @open;
    $self->line($wrong ? 'NOT every unit is accounted for:' : 'every unit accounted for:');
    $self->line(in_figures($_, $sums->{$_})) for sort keys %$sums;
    return $wrong || @open ? 1 : 0;
}

sub in_figures ($currency, $of) {
    my @parts = @$of{qw(kept returned owed held)};
    my $equal = $of->{charged} == sum0(@parts) ? '=' : '<>';
    return sprintf '  %s %12s charged %s %s kept + %s returned + %s owed + %s held', $currency, grouped($of->{charged}),
        $equal, map { grouped($_) } @parts;
}

sub grouped ($number) { return scalar reverse(reverse($number) =~ s/(\d{3})(?=\d)/$1 /gr) }

1;
