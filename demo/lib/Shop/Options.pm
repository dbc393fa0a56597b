package Shop::Options;
# The options of the demo, read when this is loaded: --help and wrong ones end the program at once. It needs nothing but
# what comes with perl, so bin/demo asks here before it installs anything.

use v5.36;
use Getopt::Long;

my $USAGE = <<'END';
usage: demo [options]
  --seconds N   how long buyers come, at least 6 (60)
  --clients N   connections that create and pay orders (8)
  --workers N   processes that return money (2)
  --orders N    orders in all (3000)
  --seed N      the same plan again (drawn, and printed at the start)
  --quick       10 seconds, 400 orders, and no waiting for pg_cron: a connection of ours sweeps
  --lie         the gateway forgets one unit of one charge: the proof must find it, the exit status is 1
  --help        this
END

my %option = (clients => 8, workers => 2);

sub wrong () { print STDERR $USAGE; exit 2 }

GetOptions(\%option, 'seconds=f', 'clients=i', 'workers=i', 'orders=i', 'seed=i', 'quick', 'lie', 'help') && !@ARGV or wrong;
if ($option{help}) { print $USAGE; exit 0 }
$option{seconds} //= $option{quick} ? 10 : 60;
$option{orders} //= $option{quick} ? 400 : 3000;
$option{seed} //= int rand 1_000_000;
wrong if $option{seconds} < 6 || grep { $option{$_} < 1 } qw(clients workers orders);

sub chosen () { return %option }

1;
