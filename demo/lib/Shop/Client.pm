package Shop::Client;

# One of the shop's connections: creates orders and passes on what the gateway tells, each event at its time.

use v5.36;
use Time::HiRes qw(sleep time);

# opened: the server's clock at the opening; offset: the server's clock minus ours; gateway, database, events, tell.
sub run (%self) {
    my $self = \%self;
    for my $event (@{ $self->{events} }) {
        my $wait = $self->{opened} + $event->{at} - $self->{offset} - time;
        sleep $wait if $wait > 0;
        my $do = __PACKAGE__->can("do_$event->{do}");
        $do->($self, $event);
    }
    $self->{tell}->('finished');
}

# A client that runs behind on a busy machine still creates the order with a deadline that lies in the future.
sub deadline ($self, $seconds) {
    return [ q{greatest(to_timestamp(?), clock_timestamp() + interval '1 second')}, $self->{opened} + $seconds ];
}

sub do_create ($self, $event) {
    my $order = $event->{order};
    $self->{database}->call('create_order', order_id => $order->{id}, amount => $order->{amount},
        currency => $order->{currency}, policy => $order->{policy}, expires_at => deadline($self, $order->{deadline}));
}

# The buyer is sent to the gateway once the database knows it. Only of shop_asks the sessions can be ended, so that the
# report shows what that changes.
sub do_begin ($self, $event) {
    my $order = $event->{order};
    my $answer = $self->{database}->call('begin_attempt', order_id => $order->{id}, gateway => 'acme',
        attempt_ref => $event->{session}, can_void => $order->{policy} eq 'shop_asks' ? 't' : 'f');
    $self->{gateway}->ask('begin', $event->{session}) if $answer->{outcome} =~ /^(?:begun|exists)$/;
}

# The buyer pays, unless the session has ended; asked twice for one payment_ref, the gateway takes the money once.
sub do_charge ($self, $event) {
    my $payment = $event->{payment};
    my ($said, $detail) = $self->{gateway}->ask('charge', @$payment{qw(ref amount currency)}, $payment->{session} // ());
    $self->{paid_at}{ $payment->{ref} } = $detail if $said eq 'charged';
    $self->{tell}->('count', 'turned away', $event->{order}{policy}) if $said eq 'voided' and $detail == 1;
}

sub do_notify ($self, $event) {
    my $payment = $event->{payment};
    return unless $self->{paid_at}{ $payment->{ref} };
    my $answer = $self->{database}->call('record_payment', order_id => $payment->{order_id}, gateway => 'acme',
        payment_ref => $payment->{ref}, amount => $payment->{amount}, currency => $payment->{currency},
        paid_at => [ 'to_timestamp(?)', $self->{paid_at}{ $payment->{ref} } ], attempt_ref => $payment->{session});
    $self->{tell}->('count', 'edge', $answer->{outcome}) if $payment->{edge} and $answer->{outcome} ne 'duplicate';
}

sub do_cancel ($self, $event) {
    $self->{database}->call('cancel_order', order_id => $event->{order}{id}, reason => 'the buyer changed their mind');
}

sub do_expire ($self, $event) { $self->{database}->call('expire_order', order_id => $event->{order}{id}) }

sub do_extend ($self, $event) {
    $self->{database}->call('extend_order', order_id => $event->{order}{id},
        expires_at => deadline($self, $event->{to}));
}

sub do_refund ($self, $event) {
    my @answers = $self->{database}->call('request_refund', order_id => $event->{order}{id},
        request_key => $event->{key}, amount => $event->{amount});
}

# Nobody here is told: the gateway's webhook brings it.
sub do_dashboard ($self, $event) {
    $self->{gateway}->ask('dashboard', $event->{payment}{ref}, $event->{amount}, $event->{reason});
}

1;
