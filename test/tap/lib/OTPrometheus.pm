package OTPrometheus;

# Prometheus and the SQL exporter of Debian's packages, with the files of connect/prometheus: on loopback, on free ports and
# in a folder of one test's own.
#
#   plan skip_all => OTPrometheus->missing if OTPrometheus->missing;
#   my $prometheus = OTPrometheus->started($dir, 'postgres://watcher@/shop?...');
#   $prometheus->query('up');               # [ { metric => { ... }, value => [ time, value ] }, ... ]
#
# It is ended when the object goes, also when the test dies.

use strict;
use warnings;

use FindBin;
use HTTP::Tiny;
use JSON::PP;
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep);

use OTPort qw(free_port);

my $FILES = "$FindBin::Bin/../../connect/prometheus";
my %PACKAGE = (prometheus => 'prometheus', promtool => 'prometheus', 'prometheus-sql-exporter' => 'prometheus-sql-exporter');

# Why it cannot run; '' if it can.
sub missing {
	for my $program (sort keys %PACKAGE) {
		return "$program is not installed (Debian package $PACKAGE{$program})" unless -x program($program);
	}
	return '';
}

sub program { return ($ENV{OT_PROMETHEUS_BIN} // '/usr/bin') . "/$_[0]" }

sub text_of {
	my ($file) = @_;
	open my $in, '<', "$FILES/$file" or die "$file: $!\n";
	local $/ = undef;
	return scalar <$in>;
}

# A shipped file in the test's folder, with what is of this test only. Each pattern has to be there.
sub put {
	my ($self, $file, $to, @changes) = @_;
	my $text = text_of($file);
	while (my ($from, $with) = splice @changes, 0, 2) {
		$text =~ s/$from/$with/g or die "$file has no $from\n";
	}
	open my $out, '>', "$self->{dir}/$to" or die "$to: $!\n";
	print {$out} $text;
	close $out or die "$to: $!\n";
	return "$self->{dir}/$to";
}

sub started {
	my ($class, $dir, $url) = @_;
	my $self = bless { dir => $dir, owner => $$, port => free_port(), exporter_port => free_port(), pids => [] }, $class;
	mkdir $dir or die "$dir: $!\n";
	my $exporter = $self->put('prometheus-sql-exporter.yml', 'exporter.yml', qr/'15s'/, "'1s'", qr/'postgres:[^']*'/, "'$url'");
	my $config = $self->put('prometheus.yml', 'prometheus.yml', qr/15s/, '1s', qr/localhost:9237/, "127.0.0.1:$self->{exporter_port}");
	$self->put('alerts.yml', 'order_timeout_alerts.yml');
	$self->run_in_background('exporter', { CONFIG => $exporter, LOGLEVEL => 'INFO' }, program('prometheus-sql-exporter'), '-config.file', $exporter,
		'-web.listen-address', "127.0.0.1:$self->{exporter_port}");
	$self->run_in_background('prometheus', {}, program('prometheus'), "--config.file=$config", "--storage.tsdb.path=$dir/data",
		"--web.listen-address=127.0.0.1:$self->{port}");
	return $self;
}

sub run_in_background {
	my ($self, $name, $environment, @command) = @_;
	my $pid = fork // die "fork: $!\n";
	if (!$pid) {
		@ENV{ keys %$environment } = values %$environment;
		open STDIN,  '<', '/dev/null';
		open STDOUT, '>', "$self->{dir}/$name.log";
		open STDERR, '>&', \*STDOUT;
		exec @command or POSIX::_exit(127);
	}
	push @{ $self->{pids} }, $pid;
	return;
}

sub log_of {
	my ($self, $name) = @_;
	open my $in, '<', "$self->{dir}/$name.log" or return '';
	my @lines = <$in>;
	return join '', @lines > 20 ? @lines[ -20 .. -1 ] : @lines;
}

# What Prometheus answers to a path of its API, or undef.
sub get {
	my ($self, $path, %parameter) = @_;
	my $http = HTTP::Tiny->new(timeout => 30);
	my $query = $http->www_form_urlencode(\%parameter);
	my $answer = $http->get("http://127.0.0.1:$self->{port}/api/v1/$path?$query");
	my $read = eval { decode_json($answer->{content}) };
	die "$path $query: $answer->{status} $answer->{content}\n" if $read && $read->{status} ne 'success';
	return $read && $read->{data};
}

sub query {
	my ($self, $expression) = @_;
	my $data = $self->get('query', query => $expression) // return [];
	return $data->{resultType} eq 'vector' ? $data->{result} : [ { metric => {}, value => $data->{result} } ];
}

sub DESTROY {
	my ($self) = @_;
	return if $self->{owner} != $$;
	local ($?, $!);
	kill TERM => @{ $self->{pids} };
	for my $pid (@{ $self->{pids} }) {
		for (1 .. 100) { last if waitpid($pid, WNOHANG); sleep 0.1 }
		kill KILL => $pid;
		waitpid $pid, 0;
	}
	return;
}

1;
