package OTBroker;

# A RabbitMQ of one test's own, from Debian's package: on loopback and on free ports, with its own port mapper, cookie
# and folder, so that a broker that runs on the machine is not met.
#
#   plan skip_all => OTBroker->missing if OTBroker->missing;
#   my $broker = OTBroker->started($server->basedir . '/broker');      # and lines of rabbitmq.conf
#   $broker->url;                           # amqp://...
#   $broker->publish('queue', 'body', ...); # each confirmed by the broker
#   $broker->publish_odd('queue', 'body');  # with a header that pika cannot read
#   $broker->depth('queue');                # messages that no consumer holds
#   $broker->bind_queue('queue', 'exchange', 'key.*', \%arguments); $broker->unbind_queue('queue', 'exchange', 'key.*');
#   $broker->take('queue');                 # { body, key, headers and the other properties } of each, and the queue is empty
#   $broker->crash; $broker->stop; $broker->start;
#   $broker->pause; $broker->resume;        # it is there, and does nothing
#   OTBroker->python;                       # that of the packages, whatever PATH has first
#
# It is ended when the object goes, also when the test dies. Its processes stay in the test's process group, which
# bin/test ends as a whole.

use strict;
use warnings;

use File::Basename qw(dirname);
use IPC::Open2 qw(open2);
use JSON::PP;
use MIME::Base64;
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

use OTPort qw(free_port);

my $SERVER = '/usr/lib/rabbitmq/bin/rabbitmq-server';
my $PYTHON = '/usr/bin/python3';

sub python { return $PYTHON }

# Why there can be no broker; '' if there can.
sub missing {
	return 'RabbitMQ is not installed (Debian package rabbitmq-server)' unless -e $SERVER;
	for my $module (qw(pika psycopg)) {
		return "Python's $module is not installed (Debian package python3-$module)"
			if system "$PYTHON -c 'import $module' 2>/dev/null";
	}
	return '';
}

sub started {
	my ($class, $dir, @settings) = @_;
	my $self = bless { dir => $dir, owner => $$ }, $class;
	$self->{$_} = free_port() for qw(port dist_port epmd_port);
	mkdir $dir or die "$dir: $!\n";
	open my $conf, '>', "$dir/rabbitmq.conf" or die "$dir: $!\n";
	print {$conf} map { "$_\n" } "listeners.tcp.1 = 127.0.0.1:$self->{port}", @settings;
	close $conf or die "$dir: $!\n";
	$self->{epmd} = $self->spawn('epmd', 'epmd');
	$self->{helper} = open2($self->{from}, $self->{to}, $PYTHON, dirname(__FILE__) . '/broker.py', $self->url);
	$self->start;
	return $self;
}

sub url { my ($self) = @_; return "amqp://guest:guest\@127.0.0.1:$self->{port}/%2F" }

sub environment {
	my ($self) = @_;
	my $dir = $self->{dir};
	return (
		HOME                          => $dir,
		ERL_EPMD_ADDRESS              => '127.0.0.1',
		ERL_EPMD_PORT                 => $self->{epmd_port},
		RABBITMQ_CONF_ENV_FILE        => "$dir/none",
		RABBITMQ_CONFIG_FILE          => "$dir/rabbitmq.conf",
		RABBITMQ_ADVANCED_CONFIG_FILE => "$dir/none",
		RABBITMQ_ENABLED_PLUGINS_FILE => "$dir/plugins",
		RABBITMQ_NODENAME             => "ot_$self->{port}\@localhost",
		RABBITMQ_NODE_IP_ADDRESS      => '127.0.0.1',
		RABBITMQ_NODE_PORT            => $self->{port},
		RABBITMQ_DIST_PORT            => $self->{dist_port},
		RABBITMQ_MNESIA_BASE          => $dir,
		RABBITMQ_LOG_BASE             => "$dir/log",
		RABBITMQ_PID_FILE             => "$dir/pid",
		RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS => '-kernel inet_dist_use_interface {127,0,0,1}');
}

# A child whose output goes to a file of the folder.
sub spawn {
	my ($self, $name, @command) = @_;
	my $pid = fork() // die "fork: $!\n";
	return $pid if $pid;
	local @SIG{qw(INT TERM)} = ('DEFAULT') x 2;
	open STDIN, '<', '/dev/null' and open STDOUT, '>>', "$self->{dir}/$name.log" and open STDERR, '>&', \*STDOUT
		and do { local %ENV = (%ENV, $self->environment); exec @command };
	POSIX::_exit(1);
}

sub start {
	my ($self) = @_;
	$self->{server} = $self->spawn('server', $SERVER);
	my $end = time + 120;
	until (eval { $self->ask('ping') }) {
		die "RabbitMQ did not start, see $self->{dir}/server.log\n" if time > $end || waitpid($self->{server}, WNOHANG);
		sleep 0.1;
	}
	return;
}

sub ask {
	my ($self, $do, %request) = @_;
	print { $self->{to} } encode_json({ do => $do, %request }), "\n";
	my $line = readline $self->{from} // die "broker.py has ended\n";
	my $answer = decode_json($line);
	die "$do: $answer->{error}\n" if $answer->{error};
	return $answer->{answer};
}

sub publish {
	my ($self, $queue, @bodies) = @_;
	return $self->ask('publish', queue => $queue, bodies => [ map { encode_base64($_, '') } @bodies ]);
}

# A header with a time that Python cannot read.
sub publish_odd {
	my ($self, $queue, $body) = @_;
	return $self->ask('publish', queue => $queue, bodies => [ encode_base64($body, '') ], time => 1_800_000_000_000);
}

sub depth { my ($self, $queue) = @_; return $self->ask('depth', queue => $queue) }

sub bind_queue {
	my ($self, $queue, $exchange, $key, $arguments) = @_;
	return $self->ask('bind', queue => $queue, exchange => $exchange, key => $key, arguments => $arguments // {});
}

sub unbind_queue {
	my ($self, $queue, $exchange, $key) = @_;
	return $self->ask('unbind', queue => $queue, exchange => $exchange, key => $key);
}

sub take {
	my ($self, $queue) = @_;
	return [ map { { %$_, body => decode_base64($_->{body}) } } @{ $self->ask('take', queue => $queue) } ];
}

# ------------------------------------------------------------ its end

# Erlang's process; the other one is a shell around it.
sub erlang {
	my ($self) = @_;
	open my $file, '<', "$self->{dir}/pid" or return ();
	return (readline($file) // '') =~ /^(\d+)$/;
}

sub ended {
	my ($pid, $seconds) = @_;
	my $end = time + $seconds;
	until (waitpid($pid, WNOHANG)) {
		return 0 if time > $end;
		sleep 0.02;
	}
	return 1;
}

sub stop {
	my ($self) = @_;
	my $pid = delete $self->{server} or return;
	kill 'TERM', $pid;
	return if ended($pid, 20);
	kill 'KILL', $self->erlang, $pid;
	ended($pid, 10);
	return;
}

sub crash {
	my ($self) = @_;
	my $pid = delete $self->{server};
	kill 'KILL', $self->erlang;
	ended($pid, 20) or die "RabbitMQ survives\n";
	return;
}

sub pause { my ($self) = @_; return kill 'STOP', $self->erlang }
sub resume { my ($self) = @_; return kill 'CONT', $self->erlang }

sub DESTROY {
	my ($self) = @_;
	local ($?, $@);
	return if $self->{owner} != $$;    # a forked session's copy
	$self->resume;
	$self->stop;
	for my $pid (grep { defined } @$self{qw(helper epmd)}) {
		kill 'TERM', $pid;
		ended($pid, 10);
	}
	return;
}

1;
