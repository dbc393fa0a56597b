package Shop::Webhooks;

# Receives what the gateway tells unasked, often for the second time and at the same moment as another receiver.
# Taken means: committed. What cannot be taken now is told again later.

use v5.36;

# database, gateway, stop (a function).
sub run (%self) {
    my ($database, $gateway) = @self{qw(database gateway)};
    $gateway->tell('subscribe');
    until ($self{stop}->()) {
        my ($id, $what, @fields) = $gateway->hear(0.2) or next;
        my $take = __PACKAGE__->can("take_$what");
        my $outcome = $take->($database, @fields)->{outcome};
        $gateway->tell($outcome =~ /^OT/ ? 'not_taken' : 'taken', $id);
    }
}

sub take_succeeded ($database, $key, $number, $amount) {
    return $database->call('complete_refund', refund_ref => $key, result => 'succeeded', gateway_refund_ref => $number,
        refunded_amount => $amount);
}

sub take_failed ($database, $key) {
    return $database->call('complete_refund', refund_ref => $key, result => 'failed', error => 'a webhook said so');
}

# May come before the worker has reported the success: then it is refused (OT005), and told again.
sub take_bounced ($database, $key) {
    return $database->call('reverse_refund', refund_ref => $key, reason => 'the bank sent it back');
}

sub take_external ($database, $payment_ref, $number, $amount, $reason) {
    return $database->call('record_refund', gateway => 'acme', payment_ref => $payment_ref,
        gateway_refund_ref => $number, amount => $amount, reason => $reason);
}

1;
