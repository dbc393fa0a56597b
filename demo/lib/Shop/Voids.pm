package Shop::Voids;

# Has the gateway end the sessions whose orders are closing, closed, or paid in another way, and reports what it said.

use v5.36;
use Time::HiRes qw(sleep);

# name, database, gateway, stop (a function).
sub run (%self) {
    my $self = \%self;
    until ($self->{stop}->()) {
        my @claimed = $self->{database}->call('claim_voids', worker => $self->{name}, max_voids => 5);
        sleep 0.02 unless @claimed;
        for my $void (@claimed) {
            my %result = ask_gateway($self, $void);
            $self->{database}->call('complete_void', gateway => $void->{gateway}, attempt_ref => $void->{attempt_ref},
                lease_token => $void->{lease_token}, %result);
        }
    }
}

# Ending twice does no harm, but a real gateway would rather be asked first.
sub ask_gateway ($self, $void) {
    my $said;
    ($said) = $self->{gateway}->ask('session', $void->{attempt_ref}) if $void->{action} eq 'query';
    ($said) = $self->{gateway}->ask('void', $void->{attempt_ref})
        if $void->{action} eq 'submit' or defined $said && $said =~ /open|unheard/;
    return (result => 'unknown', error => 'no answer') unless defined $said;
    return (result => $said) if $said eq 'voided' or $said eq 'paid';
    return (result => 'deferred', error => 'the gateway is down') if $said eq 'down';
    return (result => 'failed', error => 'a buyer is confirming') if $said eq 'busy';
    return (result => 'rejected', error => 'this session cannot be ended') if $said eq 'never';
    die "the gateway said '$said'\n";
}

1;
