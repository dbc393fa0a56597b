package OTPool;

# PgBouncer in transaction mode in front of a server, for one test:
#
#   my $pool = OTPool->started($server, $address, $port, qw(shop postgres)) or skip...;
#   $pool->stop;
#
# After each transaction it gives the server's connection back as new (DISCARD ALL). So a client that counts on what it
# left in its session fails at once, and not only when it gets another connection.

use strict;
use warnings;

use DBI;
use OTTest;
use Test::More;

sub program { return (grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin')[0] }

sub started {
	my ($class, $server, $address, $port, @users) = @_;
	my $program = program() or return;
	my $folder = $server->basedir;

	PostgreSQL::Test::Utils::append_to_file("$folder/users.txt", join '', map { qq("$_" ""\n) } @users);
	PostgreSQL::Test::Utils::append_to_file("$folder/pgbouncer.ini", <<"END");
[databases]
* = host=${\$server->host} port=${\$server->port}

[pgbouncer]
listen_addr = $address
listen_port = $port
unix_socket_dir =
auth_type = trust
auth_file = $folder/users.txt
pool_mode = transaction
default_pool_size = 2
server_reset_query_always = 1
ignore_startup_parameters = extra_float_digits
logfile = $folder/pgbouncer.log
END
	my $pid = fork() // die "fork: $!\n";
	if ($pid == 0) {
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', '/dev/null';
		exec $program, "$folder/pgbouncer.ini" or POSIX::_exit(1);
	}
	my $self = bless { pid => $pid }, $class;
	eventually(sub { DBI->connect("dbi:Pg:host=$address;port=$port;dbname=postgres", $users[0], undef, { PrintError => 0 }) })
		or die 'PgBouncer does not answer: ' . PostgreSQL::Test::Utils::slurp_file("$folder/pgbouncer.log");
	return $self;
}

sub stop {
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	kill 'TERM', $pid;
	waitpid $pid, 0;
	return;
}

1;
