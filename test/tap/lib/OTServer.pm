package OTServer;

# A PostgreSQL server for one test, run through bin/test:
#
#   my $server = OTServer->new('one', conf => { 'cron.database_name' => 'shop' });
#   $server->start;
#   $server->safe_psql('postgres', 'CREATE DATABASE shop');
#   my ($out, $err, $rc) = $server->psql('shop', 'SELECT 1');
#   my $dbh = $server->dbh('shop');              # DBI, RaiseError, AutoCommit
#
# Servers end with the test, however it ends.

use strict;
use warnings;

use DBI;
use IPC::Run ();
use Time::HiRes qw(sleep time);

my $PORT  = 54329;    # part of the socket's name only, see bin/lib/server.sh
my $owner = $$;       # a forked child must not stop its parent's servers
my (@servers, $count);

# Without these, a signal would end perl before END is reached.
$SIG{INT}  = sub { exit 130 };
$SIG{TERM} = sub { exit 143 };
$SIG{HUP}  = sub { exit 129 };

# A value of undef in conf leaves a setting at PostgreSQL's own default.
sub new {
	my ($class, $name, %option) = @_;
	my ($bindir, $tmp) = map { $ENV{$_} // die "$_ is not set: run this test with bin/test\n" }
		qw(OT_BINDIR OT_TMP);
	my $self = bless {
		name   => $name,
		bindir => $bindir,
		dir    => sprintf('%s/servers/%.20s-%d-%d', $tmp, $name, $$, ++$count),
	}, $class;

	mkdir $self->{dir} or die "mkdir $self->{dir}: $!\n";
	$self->_run(
		'initdb', '-D', $self->data_dir, '-U', 'postgres', '--auth=trust',
		'--encoding=UTF8', '--locale=C.UTF-8', '--no-sync');
	$self->configure(
		listen_addresses         => '',
		unix_socket_directories  => $self->{dir},
		port                     => $PORT,
		fsync                    => 'off',
		timezone                 => 'UTC',
		log_timezone             => 'UTC',
		log_line_prefix          => '%m [%p] %a %d ',
		shared_preload_libraries => 'pg_cron',
		'cron.database_name'     => 'postgres',
		'order_timeout.store'    => $ENV{OT_STORE} // 'auto',
		'cron.host'              => $self->{dir},
		%{ $option{conf} // {} });
	push @servers, $self;
	return $self;
}

sub name     { return $_[0]{name} }
sub host     { return $_[0]{dir} }
sub port     { return $PORT }
sub bindir   { return $_[0]{bindir} }
sub data_dir { return "$_[0]{dir}/data" }
sub log_file { return "$_[0]{dir}/log" }

# Adds settings, later ones win. Taken up at the next start or reload.
sub configure {
	my ($self, %conf) = @_;
	my $file = $self->data_dir . '/postgresql.conf';

	open my $out, '>>', $file or die "$file: $!\n";
	for my $setting (sort grep { defined $conf{$_} } keys %conf) {
		(my $value = $conf{$setting}) =~ s/'/''/g;
		print {$out} "$setting = '$value'\n";
	}
	close $out or die "$file: $!\n";
	return $self;
}

sub start {
	my ($self) = @_;
	$self->{started} = 1;
	eval { $self->_pg_ctl('-w', '-l', $self->log_file, 'start'); 1 }
		or die $@ . $self->log_text;
	return $self;
}

# Modes: fast, immediate (a crash), smart.
sub stop {
	my ($self, $mode) = @_;
	$self->_pg_ctl('-w', '-m', $mode // 'fast', 'stop');
	$self->{started} = 0;
	return $self;
}

sub restart {
	my ($self, $mode) = @_;
	return $self->stop($mode)->start;
}

sub reload {
	my ($self) = @_;
	$self->_pg_ctl('reload');
	return $self;
}

sub log_text {
	my ($self) = @_;
	open my $in, '<', $self->log_file or return '';
	local $/ = undef;
	return scalar <$in>;
}

# For libpq and its programs: pg_dump --dbname=...
sub connstr {
	my ($self, $db, $user) = @_;
	return sprintf "host=%s port=%d user='%s' dbname='%s'", $self->host, $PORT,
		$user // 'postgres', $db;
}

sub dsn {
	my ($self, $db) = @_;
	return sprintf 'dbi:Pg:host=%s;port=%d;dbname=%s', $self->host, $PORT, $db;
}

sub dbh {
	my ($self, $db, %attribute) = @_;
	my $user = delete $attribute{user} // 'postgres';
	return DBI->connect($self->dsn($db), $user, undef,
		{ RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1, %attribute });
}

# Options: user; stop => 0 to go on after an error.
# Returns stdout, stderr, the exit status (3: an SQL error).
sub psql {
	my ($self, $db, $sql, %option) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ $self->_psql($db, %option) ], '<', \$sql, '>', \$out, '2>', \$err);
	chomp($out, $err);
	return ($out, $err, $? >> 8);
}

sub safe_psql {
	my ($self, $db, $sql, %option) = @_;
	my ($out, $err, $rc) = $self->psql($db, $sql, %option);
	die "psql on $self->{name} failed ($rc):\n$sql\n$err\n" if $rc;
	return $out;
}

# Waits until the query answers $expected ('t'); false when it never does.
sub poll_until {
	my ($self, $db, $sql, $expected, $seconds) = @_;
	my $end = time + ($seconds // 60);

	while (1) {
		my ($out) = $self->psql($db, $sql);
		return 1 if $out eq ($expected // 't');
		return 0 if time > $end;
		sleep 0.1;
	}
}

# Runs a program of this PostgreSQL (pg_dump, createdb, ...) against this
# server; returns stdout, stderr, the exit status.
sub command {
	my ($self, $program, @arguments) = @_;
	my ($out, $err) = ('', '');
	local @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE)} = ($self->host, $PORT, 'postgres', 'postgres');
	IPC::Run::run([ "$self->{bindir}/$program", @arguments ], '<', \undef, '>', \$out, '2>', \$err);
	return ($out, $err, $? >> 8);
}

sub _psql {
	my ($self, $db, %option) = @_;
	return ("$self->{bindir}/psql", '-XqAt', '-v', 'ON_ERROR_STOP=' . ($option{stop} // 1),
		'-d', $self->connstr($db, $option{user}), '-f', '-');
}

sub _pg_ctl {
	my ($self, @arguments) = @_;
	return $self->_run('pg_ctl', '-s', '-D', $self->data_dir, @arguments);
}

# The output goes to a file: a server keeps what it inherits open, and a pipe
# would be waited for as long as the server runs.
sub _run {
	my ($self, $program, @arguments) = @_;
	my $file = "$self->{dir}/output";
	IPC::Run::run([ "$self->{bindir}/$program", @arguments ], '<', '/dev/null', '>', $file, '2>&1')
		and return;
	open my $in, '<', $file or die "$file: $!\n";
	local $/ = undef;
	die "$program for $self->{name} failed: " . <$in>;
}

END {
	my $status = $?;
	if ($$ == $owner) {
		for my $server (grep { $_->{started} } @servers) {
			eval { $server->stop('fast'); 1 } or eval { $server->stop('immediate') };
		}
	}
	$? = $status;
}

1;
