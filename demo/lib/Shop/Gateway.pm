package Shop::Gateway;

# A payment gateway as they are: it takes money, gives it back under a key (the refund_ref; the same key never moves
# money twice), and on the way it refuses, keeps silent, answers twice, changes its mind and breaks down. A session that
# it has ended takes no money any more. It knows nothing of the database. Its ledger file is the truth that the proof
# compares with.

use v5.36;
use Digest::MD5 qw(md5);
use IO::Select;
use IO::Socket::UNIX;
use Time::HiRes qw(time);

# What becomes of a refund that is submitted, and of how many in a hundred.
my @REFUND = (
    done           => 56,    # gives the money back and says so
    done_twice     => 7,     # ... and says so again by webhook
    done_silently  => 8,     # ... and says nothing
    partly         => 2,     # gives back less than asked
    bounced        => 1,     # gives it back, and the buyer's bank returns it
    nothing        => 5,     # does nothing and says nothing
    refused        => 8,     # not now, try again
    later          => 7,     # takes it, a webhook tells the end
    later_not      => 2,     # takes it, a webhook says that it came to nothing
    lost           => 1,     # takes it and forgets it for a while
    dead           => 3,     # never: this key is dead
);

# What becomes of a session that it is to end.
my @END = (
    ended          => 78,    # ends it and says so
    ended_silently => 8,     # ... and says nothing
    still_open     => 4,     # does nothing and says nothing
    busy           => 8,     # the buyer is confirming: not now, try again
    never          => 2,     # cannot be ended, until someone looks
);

# Options: path (of the socket), ledger (file), seed, lie, tell, down ([from, to], by our clock: no refunds then).
sub run ($class, %options) {
    my $self = bless { %options, charges => {}, sessions => {}, refunds => {}, timers => [], hooks => {}, receivers => [] },
        $class;
    open $self->{book}, '>', $options{ledger} or die "cannot write $options{ledger}: $!\n";
    $self->{book}->autoflush(1);
    my $listener = IO::Socket::UNIX->new(Local => $options{path}, Listen => 64) or die "cannot listen: $!\n";
    my $lines = IO::Select->new($listener);
    $self->after($self->{down}[0] - time, sub { $self->{is_down} = 1; $self->{tell}->('note', 'the gateway is down') });
    $self->after($self->{down}[1] - time, sub { $self->{is_down} = 0; $self->{tell}->('note', 'the gateway is back') });
    my $parent = getppid;
    while (getppid == $parent) {
        my $next = @{ $self->{timers} } ? $self->{timers}[0][0] - time : 0.5;
        for my $line ($lines->can_read($next > 0.5 ? 0.5 : $next > 0 ? $next : 0)) {
            if ($line == $listener) { $lines->add(scalar $listener->accept) }
            elsif (not $self->hear($line)) { $lines->remove($line); $line->close }
        }
        while (@{ $self->{timers} } and $self->{timers}[0][0] <= time) { (shift @{ $self->{timers} })->[1]->() }
    }
}

sub hear ($self, $line) {
    my $heard = \($self->{heard}{$line} //= '');
    unless ($line->sysread($$heard, 4096, length $$heard)) {
        delete $self->{heard}{$line};
        return 0;
    }
    while ($$heard =~ s/^(.*)\n//) {
        my ($what, @fields) = split /\t/, $1;
        my $hear = $self->can("hear_$what") // die "the gateway does not understand '$what'\n";
        $self->$hear($line, @fields);
    }
    return 1;
}

# Whoever asked may have hung up: that is their business.
sub answer ($self, $line, @fields) {
    local $SIG{PIPE} = 'IGNORE';
    $line->syswrite(join("\t", @fields) . "\n") if $line->opened;
}

sub after ($self, $seconds, $code) {
    @{ $self->{timers} } = sort { $a->[0] <=> $b->[0] } @{ $self->{timers} }, [ time + $seconds, $code ];
}

# The lie, for those who want to see the proof fail: the ledger loses one unit of the first charge.
sub book ($self, $what, $key, $payment_ref, $currency, $amount) {
    $amount-- if $what eq 'charge' and delete $self->{lie};
    say { $self->{book} } join "\t", $what, $key, $payment_ref, $currency, $amount;
}

# ---- money comes ----

# The shop gives its number, so a session may have to end before it is begun.
sub session ($self, $number) { return $self->{sessions}{$number} //= { number => $number, state => 'unheard' } }

sub hear_begin ($self, $line, $number) {
    my $session = $self->session($number);
    $session->{state} = 'open' if $session->{state} eq 'unheard';
    $self->answer($line, $session->{state});
}

sub hear_charge ($self, $line, $ref, $amount, $currency, $number = undef) {
    my $session = defined $number ? $self->session($number) : { state => 'open' };
    return $self->answer($line, $session->{state}, ++$session->{turned_away}) if $session->{state} =~ /unheard|voided/;
    my $charge = $self->{charges}{$ref} //= do {
        $self->book(charge => $number // '', $ref, $currency, $amount);
        { ref => $ref, amount => $amount, currency => $currency, returned => 0, keys => 0, paid_at => time };
    };
    $session->{state} = 'paid';
    $self->answer($line, 'charged', $charge->{paid_at});
}

# ---- sessions are ended ----

sub hear_void ($self, $line, $number) {
    return $self->answer($line, 'down') if $self->{is_down};
    my $session = $self->session($number);
    return $self->answer($line, $session->{state}) if $session->{state} =~ /paid|voided/;
    my $does = draw(\@END, $self->{seed}, $number, ++$session->{tries});
    $self->{tell}->('count', 'session', $does);
    $self->$does($line, $session);
}

sub hear_session ($self, $line, $number) {
    $self->answer($line, $self->{is_down} ? 'down' : $self->session($number)->{state});
}

sub ended ($self, $line, $session) {
    $self->ended_silently($line, $session);
    $self->answer($line, 'voided');
}

sub ended_silently ($self, $line, $session) {
    $session->{state} = 'voided';
    $self->book(void => $session->{number}, '', '', 0);
}

sub still_open ($self, $line, $session) { }
sub busy ($self, $line, $session) { $self->answer($line, 'busy') }
sub never ($self, $line, $session) { $self->answer($line, 'never') }

# ---- money goes back ----

sub hear_refund ($self, $line, $key, $ref, $amount) {
    return $self->answer($line, 'down') if $self->{is_down};
    my $charge = $self->{charges}{$ref} // die "the gateway is asked to return a payment that it never took: $ref\n";
    my $refund = $self->{refunds}{$key} //=
        { key => $key, charge => $charge, amount => $amount, number => ++$charge->{keys}, state => 'unheard' };
    if ($refund->{state} ne 'unheard') {
        $self->{tell}->('count', 'gateway', 'the same key again: no money moved');
        return $self->say_state($line, $refund);
    }
    return $self->refuse_for_good($line, $refund, 'already returned')
        if $charge->{returned} + $amount > $charge->{amount};
    my $does = draw(\@REFUND, $self->{seed}, $charge->{ref}, $refund->{number}, ++$refund->{tries});
    $self->{tell}->('count', 'gateway', $does);
    $self->$does($line, $refund);
}

sub hear_query ($self, $line, $key) {
    return $self->answer($line, 'down') if $self->{is_down};
    my $refund = $self->{refunds}{$key};
    return $refund ? $self->say_state($line, $refund) : $self->answer($line, 'unheard');
}

# Drawn from the seed, what it is about and how often it was tried, so that it is the same in every run with that seed.
sub draw ($weights, @of) {
    my $drawn = unpack('N', md5("@of")) % 100;
    my @weighted = @$weights;
    while (my ($what, $weight) = splice @weighted, 0, 2) {
        return $what if ($drawn -= $weight) < 0;
    }
}

sub done ($self, $line, $refund) { $self->give_back($refund); $self->say_state($line, $refund) }

sub done_twice ($self, $line, $refund) {
    $self->give_back($refund);
    $self->hook_done($refund, 2);
    $self->say_state($line, $refund);
}

sub done_silently ($self, $line, $refund) { $self->give_back($refund) }

sub partly ($self, $line, $refund) {
    $refund->{amount} = int($refund->{amount} * 0.6) || $refund->{amount};
    $self->done($line, $refund);
}

sub bounced ($self, $line, $refund) {
    $self->done($line, $refund);
    $self->after(0.6, sub {
        $refund->{charge}{returned} -= $refund->{amount};
        $self->book(bounce => $refund->{key}, @{ $refund->{charge} }{qw(ref currency)}, $refund->{amount});
        $self->hook(1, 'bounced', $refund->{key});
    });
}

sub nothing ($self, $line, $refund) { }
sub refused ($self, $line, $refund) { $self->answer($line, 'refused', 'insufficient balance') }

sub later ($self, $line, $refund) {
    $self->take($line, $refund, 0.3 + $refund->{amount} % 10 / 10, sub {
        $self->give_back($refund);
        $self->hook_done($refund, 1 + $refund->{amount} % 2);
    });
}

sub later_not ($self, $line, $refund) {
    $self->take($line, $refund, 0.4, sub {
        $refund->{state} = 'unheard';
        $self->hook(1, 'failed', $refund->{key});
    });
}

sub lost ($self, $line, $refund) { $self->take($line, $refund, 4, sub { $refund->{state} = 'unheard' }) }

sub take ($self, $line, $refund, $seconds, $end) {
    $refund->{state} = 'submitted';
    $self->say_state($line, $refund);
    $self->after($seconds, $end);
}

sub dead ($self, $line, $refund) { $self->refuse_for_good($line, $refund, 'this key is dead') }

sub refuse_for_good ($self, $line, $refund, $why) {
    $refund->{state} = 'rejected';
    $refund->{why} = $why;
    $self->say_state($line, $refund);
}

sub give_back ($self, $refund) {
    my $charge = $refund->{charge};
    $charge->{returned} += $refund->{amount};
    $self->book(refund => $refund->{key}, @$charge{qw(ref currency)}, $refund->{amount});
    $refund->{state} = 'succeeded';
    $refund->{number_given} = sprintf 'gr-%06d', ++$self->{given};
}

sub say_state ($self, $line, $refund) {
    $self->answer($line, $refund->{state}, $refund->{why} // $refund->{number_given} // '', $refund->{amount});
}

sub hear_dashboard ($self, $line, $ref, $amount, $reason) {
    my $charge = $self->{charges}{$ref};
    return $self->answer($line, 'refused') if not $charge or $charge->{keys} or $charge->{returned};
    my $number = sprintf 'gr-%06d', ++$self->{given};
    $charge->{returned} += $amount;
    $self->book(dashboard => $number, $ref, $charge->{currency}, $amount);
    $self->hook(2, 'external', $ref, $number, $amount, $reason);
    $self->answer($line, 'done');
}

# ---- webhooks: told until they are taken ----

sub hear_subscribe ($self, $line) { push @{ $self->{receivers} }, $line }

sub hook_done ($self, $refund, $times) {
    $self->hook($times, 'succeeded', $refund->{key}, $refund->{number_given}, $refund->{amount});
}

sub hook ($self, $times, @fields) {
    my $id = ++$self->{hook_id};
    $self->{hooks}{$id} = \@fields;
    $self->send_hook($id) for 1 .. $times;
}

# Round robin, so that a hook that is told twice goes to two receivers at the same time.
sub send_hook ($self, $id) {
    my $receiver = shift @{ $self->{receivers} } // return $self->after(0.1, sub { $self->send_hook($id) });
    push @{ $self->{receivers} }, $receiver;
    $self->answer($receiver, $id, @{ $self->{hooks}{$id} }) if $self->{hooks}{$id};
}

sub hear_taken ($self, $line, $id) { delete $self->{hooks}{$id} }
sub hear_not_taken ($self, $line, $id) { $self->after(0.3, sub { $self->send_hook($id) }) }

# How much it has yet to do or to say.
sub hear_open ($self, $line) {
    my $submitted = grep { $_->{state} eq 'submitted' } values %{ $self->{refunds} };
    $self->answer($line, 'open', $submitted + keys %{ $self->{hooks} });
}

1;
