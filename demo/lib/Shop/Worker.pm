package Shop::Worker;

# Claims refunds, asks the gateway, reports what it said. Some are slow, so that their lease lapses, and some die with
# refunds in their hands: the leases lapse and others go on.

use v5.36;
use Time::HiRes qw(sleep);

# name, database, gateway, tell, lease (seconds), dies_after (refunds; 0: never), stop (a function).
sub run (%self) {
    my $self = \%self;
    my $done = 0;
    until ($self->{stop}->()) {
        my @claimed = $self->{database}->call('claim_refunds', worker => $self->{name}, max_refunds => 5);
        sleep 0.05 unless @claimed;
        for my $refund (@claimed) {
            $done++;
            my $dying = $self->{dies_after} && $done >= $self->{dies_after};
            kill KILL => $$ if $dying and $done % 2;    # before it asked the gateway ...
            my %result = ask_gateway($self, $refund);
            kill KILL => $$ if $dying;                  # ... or after: the money may be gone, and nobody was told
            sleep $self->{lease} + 0.3 if $done % 150 == 0;
            $self->{database}->call('complete_refund', refund_ref => $refund->{refund_ref},
                lease_token => $refund->{lease_token}, %result);
        }
    }
}

# A refund that was handed out before may have gone through: ask, and send it again only if the gateway knows nothing.
sub ask_gateway ($self, $refund) {
    my @answer;
    @answer = $self->{gateway}->ask('query', $refund->{refund_ref}) if $refund->{action} eq 'query';
    @answer = $self->{gateway}->ask('refund', @$refund{qw(refund_ref payment_ref amount)})
        if $refund->{action} eq 'submit' or @answer && $answer[0] eq 'unheard';
    my ($said, $text, $amount) = @answer;
    return (result => 'unknown', error => 'no answer') unless defined $said;
    return (result => 'succeeded', gateway_refund_ref => $text, refunded_amount => $amount) if $said eq 'succeeded';
    return (result => 'submitted') if $said eq 'submitted';
    return (result => 'deferred', error => 'the gateway is down') if $said eq 'down';
    return (result => 'failed', error => $text) if $said eq 'refused';
    return (result => 'rejected', error => $text) if $said eq 'rejected';
    die "the gateway said '$said'\n";
}

1;
