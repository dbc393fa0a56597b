package Shop::Operator;

# The person who looks at the view attention and decides. What is paid out by hand goes into a book of its own, the
# bank's: money that left by another door than the gateway.

use v5.36;
use Digest::MD5 qw(md5);
use Time::HiRes qw(sleep);

# database, bank (file), seed, stop (a function).
sub run (%self) {
    my $self = \%self;
    open $self->{book}, '>', $self->{bank} or die "cannot write $self->{bank}: $!\n";
    $self->{book}->autoflush(1);
    until ($self->{stop}->()) {
        my $waiting = $self->{database}->dbh->selectall_arrayref(q{
            SELECT * FROM order_timeout.attention
             WHERE kind <> 'orphan' OR since < clock_timestamp() - interval '2 seconds'
             ORDER BY since}, { Slice => {} });
        for my $case (@$waiting) {
            my $resolve = __PACKAGE__->can("resolve_$case->{kind}") // next;    # set_aside mends itself
            $resolve->($self, $case);
        }
        sleep 0.2;
    }
}

# The same choice in every run with the same seed.
sub choose ($self, $case, @choices) {
    return $choices[ unpack('N', md5("$self->{seed}:$case->{kind}:$case->{payment_ref}")) % @choices ];
}

sub resolve_held ($self, $case) {
    my @payment = (gateway => $case->{gateway}, payment_ref => $case->{payment_ref});
    my $decision = choose($self, $case, qw(accept accept refund));
    my $answer = $self->{database}->call('resolve_held', @payment, decision => $decision);
    $self->{database}->call('resolve_held', @payment, decision => 'refund') if $answer->{outcome} eq 'short';
}

# One in three is left to the sweeper, which gives it back by the policy's orphan_after.
sub resolve_orphan ($self, $case) {
    my @payment = (gateway => $case->{gateway}, payment_ref => $case->{payment_ref});
    my $choice = choose($self, $case, qw(assign refund leave));
    my $meant = $case->{order_id} =~ s/^0rder/order/r;
    if ($choice eq 'assign') { $self->{database}->call('assign_orphan', @payment, order_id => $meant) }
    elsif ($choice eq 'refund') { $self->{database}->call('refund_orphan', @payment) }
}

# Paying by hand is right only where it is certain that the gateway never will: it declared the key dead. Otherwise the
# same key is tried again, which can't move the money twice.
sub resolve_needs_attention ($self, $case) {
    my $choice = $case->{why} =~ /dead/ ? choose($self, $case, qw(reverse settle)) : 'retry';
    $choice = 'settle by dashboard' if $case->{why} =~ /already returned/;
    my @refund = (refund_ref => $case->{refund_ref});
    if ($choice eq 'retry') { $self->{database}->call('retry_refund', @refund) }
    elsif ($choice eq 'reverse') { $self->{database}->call('reverse_refund', @refund, reason => $case->{why}) }
    else {
        my $answer = $self->{database}->call('settle_refund', @refund, note => $choice);
        say { $self->{book} } join "\t", 'bank', @$case{qw(refund_ref payment_ref currency amount)}
            if $choice eq 'settle' and $answer->{outcome} eq 'settled';
    }
}

# It cannot be ended at the gateway for now, or was tried too often. Of one that was paid, the payment comes by itself.
sub resolve_void ($self, $case) {
    $self->{database}->call('retry_void', gateway => $case->{gateway}, attempt_ref => $case->{attempt_ref})
        if $case->{resolved_by} =~ /retry_void/;
}

sub resolve_conflict ($self, $case) {
    $self->{database}->call('resolve_conflict', conflict_id => $case->{conflict_id},
        note => 'compared with the ledger');
}

1;
