package OTGateway;

# A gateway for refunds that speaks HTTP on loopback, moves money once for each idempotency key, and misbehaves:
#
#   my $gateway = OTGateway->started("$dir/gateway");
#   $gateway->url;        # http://127.0.0.1:PORT/refunds; POST sends a refund, GET /KEY asks for it
#   $gateway->ledger;     # [ key, payment, amount ] for each time that money has moved
#   $gateway->requests;   # [ method, payment or key, what it did ]
#
# What it does with the POSTs about a payment says the payment's name before the first "-", see %behaviour; the last word
# stands for all that follow.

use strict;
use warnings;

use Fcntl qw(:flock SEEK_END);
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use Time::HiRes qw(sleep);

use OTPort qw(free_port);

my %behaviour = (
	good        => [qw(pay)],
	refuses     => [qw(fail fail pay)],
	broken      => [qw(500 pay)],
	paid500     => [qw(pay500 pay)],
	slow        => [qw(payslow pay)],
	slowlypaid  => [qw(slowpay pay)],
	twice       => [qw(paytwice)],
	garbled     => [qw(paygarbled pay)],
	cut         => [qw(paycut pay)],
	takes       => [qw(paysubmitted pay)],
	dies        => [qw(paydie pay)],
	diesfirst   => [qw(die pay)],
);

sub payments { my ($class) = @_; return sort keys %behaviour }

sub started {
	my ($class, $path) = @_;
	my $self = bless { path => $path, port => free_port() }, $class;
	open my $touch, '>>', "$path.$_" or die "$path.$_: $!\n" for qw(ledger requests);
	$self->{pid} = fork() // die "fork: $!\n";
	if ($self->{pid} == 0) {
		# A group of its own, so that all of it can be ended; and the servers are the parent's to stop.
		setpgrp 0, 0;
		local @SIG{qw(INT TERM)} = ('DEFAULT') x 2;
		$self->begin_again_when_it_dies;
		POSIX::_exit(0);
	}
	return $self;
}

sub url { my ($self) = @_; return "http://127.0.0.1:$self->{port}/refunds" }

sub stop {
	my ($self) = @_;
	kill 'KILL', -$self->{pid};
	waitpid $self->{pid}, 0;
	return;
}

sub begin_again_when_it_dies {
	my ($self) = @_;
	while (1) {
		my $pid = fork() // POSIX::_exit(1);
		if ($pid == 0) {
			eval { $self->serve };
			POSIX::_exit(1);
		}
		waitpid $pid, 0;
		sleep 0.3;
	}
}

sub serve {
	my ($self) = @_;
	local $SIG{CHLD} = 'IGNORE';
	my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$self->{port}", Listen => 20, ReuseAddr => 1) or die "$@\n";
	while (my $client = $listener->accept) {
		my $pid = fork() // next;
		if ($pid == 0) {
			local $SIG{PIPE} = 'IGNORE';
			$listener->close;
			eval { $self->answer($client) };
			POSIX::_exit(0);
		}
		$client->close;
	}
	return;
}

sub answer {
	my ($self, $client) = @_;
	my ($method, $path) = split / /, readline($client) // return;
	my %header;
	while ((my $line = readline $client) =~ /\S/) {
		$header{ lc $1 } = $2 if $line =~ /^([^:]+): *(.*?)\r?\n/;
	}
	read $client, my $body, $header{'content-length'} // 0;
	return $method eq 'POST' ? $self->refund($client, $header{'idempotency-key'}, decode_json($body))
		: $self->asked($client, $path =~ m{([^/]+)$});
}

sub reply {
	my ($client, $code, $body) = @_;
	print {$client} "HTTP/1.1 $code OK\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body";
	$client->flush;
	return;
}

sub asked {
	my ($self, $client, $key) = @_;
	my ($found) = grep { $_->[0] eq $key } @{ $self->ledger };
	$self->add('requests', 'GET', $key, $found ? 'known' : 'unknown');
	return $found ? reply($client, 200, paid($found)) : reply($client, 404, '{}');
}

sub paid {
	my ($row, $status) = @_;
	return encode_json({ status => $status // 'succeeded', id => "gw-$row->[0]", amount => $row->[2] + 0 });
}

# Moves the money, unless it has gone under this key.
sub pay {
	my ($self, @row) = @_;
	open my $ledger, '+<', "$self->{path}.ledger" or die;
	flock $ledger, LOCK_EX or die;
	my $known = grep { (split / /)[0] eq $row[0] } readline $ledger;
	seek $ledger, 0, SEEK_END;
	syswrite $ledger, "@row\n" unless $known;
	close $ledger;
	return \@row;
}

sub refund {
	my ($self, $client, $key, $asked) = @_;
	my @row = ($key, $asked->{payment}, $asked->{amount});
	my ($kind) = $asked->{payment} =~ /^([^-]+)/;
	my @words = @{ $behaviour{$kind} };
	my $before = grep { $_->[0] eq 'POST' && $_->[1] eq $asked->{payment} } @{ $self->requests };
	my $word = $words[ $before < @words ? $before : -1 ];
	$self->add('requests', 'POST', $asked->{payment}, $word);
	if ($word eq 'fail') {
		return reply($client, 200, encode_json({ status => 'failed', id => undef, amount => undef, message => 'no balance' }));
	}
	return reply($client, 500, 'oh') if $word eq '500';
	sleep 2 if $word eq 'slowpay';
	kill 'KILL', getppid if $word eq 'die';
	return if $word eq 'die';
	my $paid = $self->pay(@row);
	if ($word eq 'paydie') { kill 'KILL', getppid; return }
	sleep 2 if $word eq 'payslow';
	return reply($client, 500, 'oh')             if $word eq 'pay500';
	return reply($client, 200, '<html>')         if $word eq 'paygarbled';
	return reply($client, 200, paid($paid, 'submitted')) if $word eq 'paysubmitted';
	if ($word eq 'paycut') {
		print {$client} "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"status\": ";
		return;
	}
	reply($client, 200, paid($paid)) for 1 .. ($word eq 'paytwice' ? 2 : 1);
	return;
}

sub add {
	my ($self, $file, @row) = @_;
	open my $out, '>>', "$self->{path}.$file" or die;
	flock $out, LOCK_EX or die;
	syswrite $out, "@row\n";
	close $out;
	return;
}

sub rows_of {
	my ($self, $file) = @_;
	open my $in, '<', "$self->{path}.$file" or die "$self->{path}.$file: $!\n";
	return [ map { chomp; [ split / / ] } readline $in ];
}

sub ledger   { my ($self) = @_; return $self->rows_of('ledger') }
sub requests { my ($self) = @_; return $self->rows_of('requests') }

1;
