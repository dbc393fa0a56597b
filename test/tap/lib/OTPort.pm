package OTPort;

# A free port of loopback, for a server of a test.

use strict;
use warnings;

use Exporter qw(import);
use IO::Socket::INET;

our @EXPORT_OK = qw(free_port);

# Below those that Linux gives to clients, which would take it before the server listens, or while it is down.
sub free_port {
	for (1 .. 100) {
		my $port = 20_000 + int rand 12_000;
		return $port if IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1);
	}
	die "no free port: $@\n";
}

1;
