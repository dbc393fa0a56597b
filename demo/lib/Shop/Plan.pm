package Shop::Plan;

# What the buyers will do, drawn from a seed before the shop opens: a list of events, each with its time (seconds since
# the opening) and the client connection that brings it.

use v5.36;
use List::Util qw(max min);

# What a buyer does, and how many of a hundred buyers do it.
my @KINDS = (
    prompt => 39, deadline => 18, late => 8, never => 5, short => 5, parts => 4, twice => 4, too_much => 3,
    wrong_currency => 3, early => 3, cancelled => 3, returned => 2, extended => 1, misaddressed => 1, dashboard => 1,
);
my @POLICIES   = (shop => 40, shop_asks => 40, shop_at_deadline => 8, shop_reopen => 6, shop_hold => 6);
my @CURRENCIES = (EUR => 50, USD => 30, CNY => 20);

# Options: seed, seconds, orders, clients. An order lives for a tenth of the run at most, so that all end within it.
sub new ($class, %options) {
    srand $options{seed};
    my $self = bless { %options, events => [], kinds => {} }, $class;
    my $longest = min(6, $options{seconds} / 4);
    my $opening = 1.5;    # room for payments that come before their order
    my $selling = max(1, $options{seconds} - $opening - $longest - 2);
    for my $number (1 .. $options{orders}) {
        my $kind = pick(@KINDS);
        my $created = $opening + rand $selling;
        my $order = {
            id => sprintf('order-%05d', $number), kind => $kind, home => int rand $options{clients},
            amount => 100 + int rand 50_000, currency => pick(@CURRENCIES), policy => pick(@POLICIES),
            created => $created, deadline => $created + $longest * (0.4 + rand 0.6), payments => 0, sessions => 0,
        };
        $self->{kinds}{$kind}++;
        $self->create($order);
        $self->$kind($order);
    }
    @{ $self->{events} } = sort { $a->{at} <=> $b->{at} } @{ $self->{events} };
    return $self;
}

sub of_client ($self, $client) { return grep { $_->{client} == $client } @{ $self->{events} } }
sub kinds ($self) { return $self->{kinds} }

# ---- the buyers ----

sub prompt   ($self, $o) { $self->pay($o, in_time($o)) }
sub deadline ($self, $o) { $self->pay($o, edge($o), edge => 1) }
sub late     ($self, $o) { $self->pay($o, $o->{deadline} + 0.02 + rand 1.5) }
sub never    ($self, $o) { $self->begin($o, $o->{deadline}) }
sub short    ($self, $o) { $self->pay($o, in_time($o), amount => part($o)) }
sub too_much ($self, $o) { $self->pay($o, in_time($o), amount => $o->{amount} + 1 + int rand 5000) }

sub parts ($self, $o) {
    my $first = part($o);
    $self->pay($o, in_time($o), amount => $first);
    $self->pay($o, edge($o), amount => $o->{amount} - $first, edge => 1);
}

sub twice ($self, $o) {
    my $at = in_time($o);
    $self->pay($o, $at);
    $self->pay($o, rand() < 0.5 ? $at : $at + rand 2);    # two captures at the same moment, or the second one later
}

sub wrong_currency ($self, $o) {
    $self->pay($o, in_time($o), currency => $o->{currency} eq 'USD' ? 'EUR' : 'USD');
    $self->pay($o, in_time($o)) if rand() < 0.5;
}

# Told of the money before the order exists, or at the very moment that it is created.
sub early ($self, $o) { $self->pay($o, $o->{created} - (rand() < 0.5 ? 0 : 0.1 + rand 0.9), session => undef) }

sub cancelled ($self, $o) {
    my $at = in_time($o);
    $self->event($o, cancel => $at);
    $self->pay($o, $at + rand(0.004) - 0.002);
}

sub returned ($self, $o) {
    my $at = in_time($o);
    $self->pay($o, $at);
    my $amount = rand() < 0.5 ? undef : part($o);
    $self->event($o, refund => $at + 0.5, key => 'return-1', amount => $amount) for 1 .. 2;    # pressed twice
}

sub extended ($self, $o) {
    $self->event($o, extend => $o->{deadline} - 0.1, to => $o->{deadline} + 1);
    $self->pay($o, $o->{deadline} + 0.5);
}

# The order number was mistyped: an orphan, until a person sees what was meant or gives the money back.
sub misaddressed ($self, $o) {
    $self->pay($o, in_time($o), order_id => $o->{id} =~ s/order/0rder/r, session => undef);
}

# Money goes back without us: someone clicked in the gateway's dashboard, or the buyer's bank took it.
sub dashboard ($self, $o) {
    my $at = in_time($o);
    my $payment = $self->pay($o, $at);
    $self->event($o, dashboard => $at + 1, payment => $payment, amount => part($o),
        reason => rand() < 0.5 ? 'external' : 'chargeback');
}

# ---- what they are made of ----

sub create ($self, $o) {
    $self->event($o, create => $o->{created}, client => $o->{home});
    $self->event($o, create => $o->{created}) if rand() < 0.05;             # the button was pressed twice
    $self->event($o, expire => edge($o)) if rand() < 0.05;                  # a timer of the shop's own
}

# The gateway takes the money a little ahead, so that only the notification flies at the planned time; some
# notifications come again, at once through other connections or later.
sub pay ($self, $o, $at, %difference) {
    my $session = exists $difference{session} ? undef : $self->begin($o, $at);
    my $payment = { ref => sprintf('pay-%s-%d', $o->{id} =~ s/\D//gr, ++$o->{payments}), order_id => $o->{id},
        amount => $o->{amount}, currency => $o->{currency}, session => $session, %difference };
    my @deliveries = ($at);
    push @deliveries, map { $at + (rand() < 0.5 ? 0 : rand 2) } 1 .. 1 + rand 3 if rand() < 0.15;
    for my $delivery (@deliveries) {
        my $client = int rand $self->{clients};
        $self->event($o, charge => $at - 0.15, payment => $payment, client => $client);
        $self->event($o, notify => $delivery, payment => $payment, client => $client);
    }
    return $payment;
}

# The buyer opens a session at the gateway, always before the deadline. Only money that comes before its order, or for
# another one, comes without.
sub begin ($self, $o, $at) {
    my $session = sprintf 'session-%s-%d', $o->{id} =~ s/\D//gr, ++$o->{sessions};
    my $begins = max($o->{created} + 0.05, min($at, $o->{deadline}) - 0.2 - rand 0.3);
    $self->event($o, begin => $begins, session => $session, client => $o->{home});
    return $session;
}

sub event ($self, $o, $do, $at, %more) {
    push @{ $self->{events} }, { at => $at, do => $do, order => $o, client => int rand $self->{clients}, %more };
}

sub in_time ($o) { return $o->{created} + 0.3 + rand(0.7) * ($o->{deadline} - $o->{created} - 0.3) }
sub edge    ($o) { return $o->{deadline} + (rand() + rand() - 1) * 0.006 }    # the deadline, give or take some ms
sub part    ($o) { return 1 + int rand($o->{amount} - 1) }

sub pick (@weighted) {
    my $total = 0;
    $total += $weighted[ 2 * $_ + 1 ] for 0 .. $#weighted / 2;
    my $drawn = rand $total;
    while (my ($what, $weight) = splice @weighted, 0, 2) {
        return $what if ($drawn -= $weight) < 0;
    }
}

1;
