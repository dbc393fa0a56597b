package Replay::Player;

# Has the engine live through the orders: each create_order and record_payment is called when its time comes, the
# sweeper closes what falls due meanwhile, and a worker with a simulated gateway gives back what is owed.

use v5.36;
use POSIX ();
use Time::HiRes qw(sleep time);

use Shop::Database;

my $PATIENCE = 30;    # seconds to wait at the end while nothing more comes to its end

my @children;

# orders, timeout, late_rule, on_late, refund_takes; of a quick one a connection of ours sweeps.
sub new ($class, %options) {
    my $self = bless \%options, $class;
    $self->{database} = connection('replay');
    $self->{dbh} = $self->{database}->dbh;
    $self->{dbh}->do('INSERT INTO order_timeout.policies (policy, late_rule, on_late, refund_lease) VALUES (?, ?, ?, ?)',
        undef, 'replay', $self->{late_rule}, $self->{on_late}, '365 days');    # its worker does not die
    return $self;
}

sub connection ($name) { return Shop::Database->open(name => $name, tell => sub { }) }

# ---- the sweeper ----

# One sweep that lasts: the change from one run to the next would be longer by the factor, too.
sub start_sweeping ($self) {
    my $sweep = "CALL order_timeout.sweep('30 days')";
    if ($self->{quick}) { start_child(sub { connection('replay sweeper')->dbh->do($sweep) }) }
    else { $self->{dbh}->do('SELECT cron.schedule(?, ?, ?)', undef, 'replay', '* * * * *', $sweep) }
    my $until = time + 75;
    until ($self->{dbh}->selectrow_array('SELECT 1 FROM order_timeout.sweeps LIMIT 1')) {
        die "nobody swept within 75 seconds\n" if time > $until;
        sleep 0.1;
    }
}

# ---- the gateway ----

# It takes a refund, is asked for it by nobody else, and returns the money after the time that it always takes.
sub start_gateway ($self, $clock) {
    my $takes = $self->{refund_takes} / $clock->speed;
    start_child(sub {
        my $database = connection('replay gateway');
        my @taken;
        while (1) {
            my $now = time;
            push @taken, map { [ $now + $takes, $_ ] } $database->call('claim_refunds', worker => 'replay', max_refunds => 1000);
            while (@taken and $taken[0][0] <= time) {
                my $refund = (shift @taken)->[1];
                $database->call('complete_refund', refund_ref => $refund->{refund_ref}, result => 'succeeded',
                    lease_token => $refund->{lease_token}, gateway_refund_ref => "returned-$refund->{refund_ref}");
            }
            sleep 0.005;
        }
    });
}

sub start_child ($code) {
    my $pid = fork // die "cannot fork: $!\n";
    if ($pid) { push @children, $pid; return }
    $SIG{TERM} = 'DEFAULT';
    eval { $code->() };
    print STDERR "replay: $@";
    POSIX::_exit(1);
}

sub end_children { kill TERM => @children; waitpid $_, 0 for splice @children }

# ---- the shop ----

sub play ($self, $clock) {
    my @calls = sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] } map {
        my $order = $_;
        [ $order->{created_at}, 0, $order ], map { [ $_->{paid_at}, 1, $order, $_ ] } @{ $order->{payments} }
    } @{ $self->{orders} };
    my $done = 0;
    for my $call (@calls) {
        my ($original, $is_payment, $order, $payment) = @$call;
        my $at = $clock->replayed($original);
        while ((my $left = $at - time) > 0) { sleep $left }
        $is_payment ? $self->pay($order, $payment, $at) : $self->create($order, $clock->replayed($order->{created_at} + $self->{timeout}));
        $self->progress(++$done / @calls);
    }
}

sub create ($self, $order, $deadline) {
    die "this machine cannot keep up with the orders at this speed: try a lower --speed\n" if time >= $deadline;
    $self->{database}->call('create_order', order_id => $order->{order_id}, amount => $order->{amount},
        currency => $order->{currency}, expires_at => [ 'to_timestamp(?)', $deadline ], policy => 'replay');
}

# A payment is known by its line.
sub pay ($self, $order, $payment, $at) {
    $self->{database}->call('record_payment', order_id => $order->{order_id}, gateway => 'file',
        payment_ref => $payment->{line}, amount => $payment->{amount}, currency => $order->{currency},
        paid_at => [ 'to_timestamp(?)', $at ]);
}

sub progress ($self, $share) {
    state $shown = 0;
    return if !-t STDERR or time < $shown + 1;
    $shown = time;
    printf STDERR "\r%3d %%", 100 * $share;
}

# The last orders fall due, the last refunds end. False when some do not.
sub wait_for_the_last ($self, $clock) {
    my ($least, $until) = (9**9**9, 9**9**9);
    while (1) {
        my ($open, $next) = $self->{dbh}->selectrow_array(q{
            SELECT (SELECT count(*) FROM order_timeout.orders WHERE state = 'pending')
                   + (SELECT count(*) FROM order_timeout.refunds WHERE state <> 'succeeded'),
                   (SELECT extract(epoch FROM max(expires_at)) FROM order_timeout.orders)});
        return 1 if $open == 0;
        my $quiet = $PATIENCE + $self->{refund_takes} / $clock->speed;
        ($least, $until) = ($open, ($next > time ? $next : time) + $quiet) if $open < $least;
        return 0 if time > $until;
        sleep 0.1;
    }
}

1;
