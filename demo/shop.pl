#!/usr/bin/perl
# A shop for a minute, in real time, to see order_timeout at work and to see that no money gets lost.
#
# Buyers (--clients connections) create orders with deadlines of seconds. They pay most of them: in time, exactly at
# the deadline, late, twice, in parts, too much, in the wrong currency, before the order exists. A gateway, a process
# with a ledger of its own, returns what must go back: it refuses, times out, answers twice. Workers claim refunds and
# die with them in their hands; an operator decides what waits for a person; pg_cron sweeps. For one policy the gateway
# is asked to end the sessions of an order before it is closed, so that hardly any buyer pays too late; the report shows
# it next to another one. At the end the books are compared. Exit status: 0 every unit is accounted for, 1 it is not,
# 2 it could not run.
#
# bin/demo starts it beside a server made for it. On its own it wants PGHOST and so on of a superuser, and a database
# with the extension and no orders yet; it makes roles shop_application, shop_worker and shop_operator and drops them.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Shop::Options;    # before the modules that may have to be installed
use File::Temp qw(tempdir);
use IO::Select;
use List::Util qw(sum);
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

use Shop::Client;
use Shop::Database;
use Shop::Gateway;
use Shop::GatewayClient;
use Shop::Operator;
use Shop::Plan;
use Shop::Proof;
use Shop::Report;
use Shop::Voids;
use Shop::Webhooks;
use Shop::Worker;

my $LEASE = 2;          # seconds, of the policies made here
my $DRAIN = 30;         # seconds to wait at the end while nothing more comes to its end
my $DEATHS = 8;         # workers that may die
my @ACCESS = qw(application worker operator);

my %option = Shop::Options::chosen();

$| = 1;
my $main = $$;
my $directory = tempdir('order-timeout-demo-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my %book = (ledger => "$directory/gateway", bank => "$directory/bank");
my $report = Shop::Report->new;
my %children;           # pid => [role, name]
my ($database, $gateway, $scheduled, $drained);
my ($workers, $deaths) = (0, 0);
pipe my $hears, my $tells or die "no pipe: $!\n";

# What a child has to say: a line, short enough to be written whole.
sub tell_main (@fields) { syswrite $tells, join("\t", map { tr/\t\n/  /r } @fields) . "\n" }

$SIG{INT} = $SIG{TERM} = sub { die "stopped\n" };
my $status = eval { shop() } // 2;
if (my $error = $@) {
    $report->line("demo: $error" =~ s/\n$//r);
    $status = $error eq "stopped\n" ? 130 : 2;
}
@SIG{qw(INT TERM)} = ('IGNORE') x 2;
end_children(keys %children);
eval { clean_up(); 1 } or print STDERR "demo: could not clean up: $@";
exit $status;

sub shop {
    $database = Shop::Database->open(name => 'demo', tell => sub { });
    my ($before) = $database->dbh->selectrow_array('SELECT count(*) FROM order_timeout.orders');
    die "the database holds $before orders already; start with a fresh one\n" if $before;
    my $plan = Shop::Plan->new(%option{qw(seed seconds orders clients)});
    $report->opening(\%option, $plan->kinds);
    set_up();
    start_sweeping();
    open_shop($plan);
    follow(sub { $report->{finished} == $option{clients} }, 4 * $option{seconds} + 60)
        or die "the clients did not come to their end\n";
    $drained = 1;
    $report->line('the buyers are gone; the last refunds end');
    $gateway = Shop::GatewayClient->new("$directory/socket");
    wait_for_the_last();
    my $open = still_open();
    end_children(keys %children);
    stop_sweeping();
    hear(0);
    return $report->closing($database->dbh, $open, Shop::Proof::ask($database->dbh, @book{qw(ledger bank)}));
}

# ---- before the opening ----

sub set_up {
    my $dbh = $database->dbh;
    my %refunds = (refund_max_attempts => 6, refund_backoff => '200 ms', refund_backoff_max => '2 s',
        refund_lease => "$LEASE s", refund_settle_within => '3 s');
    my %policies = (
        default          => { orphan_after => '4 s' },    # what orphans follow
        shop             => {},
        shop_asks        => { before_close => 'void', void_within => '3 s' },
        shop_at_deadline => { late_rule => 'at_deadline' },
        shop_reopen      => { on_late => 'reopen' },
        shop_hold        => { on_late => 'hold' },
    );
    for my $policy (sort keys %policies) {
        my %columns = (%refunds, %{ $policies{$policy} });
        $dbh->do('INSERT INTO order_timeout.policies (policy) VALUES (?) ON CONFLICT DO NOTHING', undef, $policy);
        my @names = sort keys %columns;
        my $list = join ', ', map { "$_ = ?" } @names;
        $dbh->do("UPDATE order_timeout.policies SET $list WHERE policy = ?", undef, @columns{@names}, $policy);
    }
    for my $access (@ACCESS) {
        $dbh->do("CREATE ROLE shop_$access")
            unless $dbh->selectrow_array('SELECT 1 FROM pg_roles WHERE rolname = ?', undef, "shop_$access");
        $database->call('grant_access', role_name => "shop_$access", access => $access);
    }
}

# pg_cron 1.4 knows minutes only, so its first sweep may be a minute away; from then on one follows the other.
sub start_sweeping {
    if ($option{quick}) {
        $report->line('a connection of ours sweeps: --quick does not wait for pg_cron');
        return start_child('sweeper', 'sweeper', \&sweep);
    }
    if (not eval { $scheduled = $database->call('schedule_sweeper') }) {
        $report->line('a connection of ours sweeps, for pg_cron is not at hand: ' . $@ =~ s/\n.*//sr);
        return start_child('sweeper', 'sweeper', \&sweep);
    }
    $report->line("pg_cron: job $scheduled->{jobid}, '$scheduled->{schedule}', $scheduled->{command}");
    $report->line("waiting for pg_cron's first tick (at most 60 s), so that it does all the sweeping");
    my $until = time + 75;
    until ($database->dbh->selectrow_array('SELECT 1 FROM order_timeout.sweeps LIMIT 1')) {
        die "pg_cron did not sweep within 75 seconds; see cron.job_run_details\n" if time > $until;
        $report->passing(sprintf 'in %d s', 60 - time % 60);
        sleep 0.2;
    }
    $report->line('pg_cron sweeps');
}

sub stop_sweeping { $database->call('unschedule_sweeper') if delete $scheduled->{jobid} }

sub sweep {
    my $dbh = Shop::Database->open(name => 'demo sweeper', tell => \&tell_main)->dbh;
    $dbh->do("CALL order_timeout.sweep('2 seconds')") while getppid == $main;
}

# ---- the processes ----

sub open_shop ($plan) {
    my $offset = $database->clock_offset;
    my $opened = time + 1.5;    # by our clock; time for all to connect
    my $socket = "$directory/socket";
    my $down = $opened + $option{seconds} * 0.6;
    start_child('gateway', 'gateway', sub {
        Shop::Gateway->run(path => $socket, ledger => $book{ledger}, tell => \&tell_main, seed => $option{seed},
            lie => $option{lie}, down => [ $down, $down + $option{seconds} / 30 ]);
    });
    sleep 0.02 until -S $socket;
    start_worker() for 1 .. $option{workers};
    for my $name ('voids-1', 'voids-2') {
        start_child('voids', $name, sub { Shop::Voids::run(of_child('worker'), name => $name) });
    }
    start_child('webhooks', "webhooks-$_", sub { Shop::Webhooks::run(of_child('operator')) }) for 1, 2;
    start_child('operator', 'operator', sub {
        Shop::Operator::run(of_child('operator'), bank => $book{bank}, seed => $option{seed});
    });
    for my $number (0 .. $option{clients} - 1) {
        start_child('client', "client-$number", sub {
            Shop::Client::run(of_child('application', $number % 4 == 3 ? 'serializable' : undef), offset => $offset,
                opened => $opened + $offset, events => [ $plan->of_client($number) ]);
        });
    }
    $report->opened($opened);
}

sub start_worker {
    my $name = 'worker-' . ++$workers;
    my $life = $deaths < $DEATHS && !$drained ? 8 + int $option{orders} / 50 * (0.5 + rand) : 0;
    start_child('worker', $name, sub {
        Shop::Worker::run(of_child('worker'), name => $name, lease => $LEASE, dies_after => $life);
    });
}

sub of_child ($access, $isolation = undef) {
    return (
        database => Shop::Database->open(name => "demo $access", role => "shop_$access", isolation => $isolation,
            tell => \&tell_main),
        gateway => Shop::GatewayClient->new("$directory/socket"),
        tell => \&tell_main,
        stop => sub { getppid != $main },
    );
}

sub start_child ($role, $name, $code) {
    my $pid = fork // die "cannot fork: $!\n";
    if ($pid) {
        $children{$pid} = [ $role, $name ];
        return;
    }
    @SIG{qw(INT TERM)} = ('DEFAULT') x 2;
    close $hears;    # so that a child's next word ends it when the main process is gone
    srand;
    my $well = eval { $code->(); 1 };
    tell_main('problem', "$name: $@") unless $well;
    POSIX::_exit($well ? 0 : 1);
}

sub end_children (@pids) {
    kill TERM => @pids if @pids;
    waitpid $_, 0 for @pids;
    delete @children{@pids};
}

# Only workers may die, and only by their own hand.
sub look_after_children {
    while ((my $pid = waitpid -1, WNOHANG) > 0) {
        my $killed = $? & 127;
        my ($role, $name) = @{ delete $children{$pid} // next };
        next if $role eq 'client' and not $?;
        hear(0);
        die "$name ended before its time\n" unless $role eq 'worker' and $killed == 9;
        $deaths++;
        start_worker();
        $report->line("$name died with refunds in its hands; worker-$workers goes on, the leases lapse");
    }
}

# ---- while it runs ----

# Listens and shows what happens until the question is answered yes (1), or the time is up (0).
sub follow ($question, $seconds) {
    my $until = time + $seconds;
    while (1) {
        hear(0.2);
        look_after_children();
        $report->progress($database->dbh);
        return 1 if $question->();
        return 0 if time > $until;
    }
}

sub hear ($seconds) {
    state $heard = '';
    while (IO::Select->new($hears)->can_read($seconds)) {
        sysread $hears, $heard, 65536, length $heard;
        $report->hear(split /\t/, $1) while $heard =~ s/^(.*)\n//;
        $seconds = 0;
    }
}

# A machine that is slow gets the time it needs, one on which nothing moves does not.
sub wait_for_the_last {
    my ($least, $until) = (9**9**9);
    follow(sub {
        my $open = sum(values %{ still_open() });
        ($least, $until) = ($open, time + $DRAIN) if $open < $least;
        return $open == 0 || time > $until;
    }, 9**9**9);
}

# What has not come to its end, by kind.
sub still_open {
    my $open = $database->dbh->selectrow_hashref(q{
        SELECT (SELECT count(*) FROM order_timeout.orders WHERE state IN ('pending', 'closing')) AS "orders open",
               (SELECT count(*) FROM order_timeout.attempts WHERE settled_at IS NULL) AS "attempts open",
               (SELECT count(*) FROM order_timeout.refunds WHERE state NOT IN ('succeeded', 'reversed'))
                   AS "refunds open",
               (SELECT count(*) FROM order_timeout.attention) AS "cases waiting for a person"});
    (undef, $open->{'words of the gateway'}) = $gateway->ask('open');
    return $open;
}

sub clean_up {
    return unless $database;
    stop_sweeping();
    for my $role (map { "shop_$_" } @ACCESS) {
        next unless $database->dbh->selectrow_array('SELECT 1 FROM pg_roles WHERE rolname = ?', undef, $role);
        $database->dbh->do("DROP OWNED BY $role");
        $database->dbh->do("DROP ROLE $role");
    }
}
