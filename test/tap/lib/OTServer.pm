package OTServer;

# A server for one test, run through bin/test: PostgreSQL's own PostgreSQL::Test::Cluster, started with the settings that
# our tests share, and connections through DBI:
#
#   my $server = OTServer->started('one', 'cron.database_name' => 'shop');
#   my $dbh = $server->dbh('shop');                   # RaiseError, AutoCommit
#   my $app = $server->dbh('shop', user => 'app');
#
# All else (safe_psql, psql, run_log, append_conf, stop, restart) is described in Cluster.pm. The tests use only what the
# versions from 15 to 18 have in common.
#
# Not used: background_psql. It answers with text, and the tests ask for SQLSTATEs, so a session next to the test is
# another dbh, and a statement that is not waited for is DBD::Pg's pg_async.

use strict;
use warnings;

use DBI;
use PostgreSQL::Test::Cluster;
use parent -norequire, 'PostgreSQL::Test::Cluster';

# Part of the socket's name only, see bin/lib/server.sh. Without one, Cluster tries TCP ports of this machine; with a
# folder for each server (own_host), all can have the same.
my $PORT = 54329;

# Without these, a signal would end perl before END is reached, where Cluster stops the servers. Version 18 has its own.
$SIG{INT}  = sub { exit 130 };
$SIG{TERM} = sub { exit 143 };

# For psql and the others, whoever runs the tests. Loading Cluster has deleted it.
$ENV{PGUSER} = 'postgres';

sub started {
	my ($class, $name, %conf) = @_;
	my $self = $class->new($name, port => $PORT, own_host => 1);

	$self->init(extra => [ '--username=postgres', '--encoding=UTF8', '--locale=C.UTF-8' ]);
	my %setting = (
		# Cluster's are "minimal", which no shop runs, and "all", which takes its time.
		wal_level                => 'replica',
		log_statement            => 'none',
		timezone                 => 'UTC',
		log_timezone             => 'UTC',
		shared_preload_libraries => 'pg_cron',
		'cron.database_name'     => 'postgres',
		'cron.host'              => $self->host,
		'order_timeout.store'    => $ENV{OT_STORE} // 'auto',
		%conf);
	$self->append_conf('postgresql.conf', join "\n", map { "$_ = '$setting{$_}'" } sort keys %setting);
	$self->start;
	return $self;
}

sub dbh {
	my ($self, $db, %attribute) = @_;
	my $user = delete $attribute{user} // 'postgres';
	return DBI->connect('dbi:Pg:' . $self->connstr($db), $user, undef,
		{ RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1, %attribute });
}

1;
