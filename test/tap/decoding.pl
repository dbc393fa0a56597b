# doc/debezium.md: logical decoding answers every committed event once, in the order of the commits, with pgoutput and with
# test_decoding, and through a reader that is killed. In both stores, because they insert rows in different ways.

use strict;
use warnings;

use FindBin;
use JSON::PP;
use OTServer;
use OTTest;
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(sleep);

my $root = "$FindBin::Bin/../..";
my $seed = $ENV{OT_SEED} // int rand 1e6;
note("OT_SEED=$seed");

my $server = OTServer->started('decoding', wal_level => 'logical', max_wal_senders => 10, max_prepared_transactions => 10);
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');
my ($setup) = PostgreSQL::Test::Utils::slurp_file("$root/doc/debezium.md") =~ /```sql\n(.*?)```/s;
$dbh->do($_) for split /;\n/, $setup;
$dbh->do("SELECT pg_create_logical_replication_slot(?, 'test_decoding')", undef, $_) for 'text', 'killed';

# ------------------------------------------------------------ the connector's configuration

my $config = decode_json(PostgreSQL::Test::Utils::slurp_file("$root/connect/debezium/order-timeout-outbox.json"))->{config};
my @fields = map { $config->{"transforms.outbox.$_"} } qw(table.field.event.id table.field.event.key table.field.event.payload route.by.field);
push @fields, map { (split /:/)[0] } split /,/, $config->{'transforms.outbox.table.fields.additional.placement'};
my $columns = $dbh->selectcol_arrayref("SELECT column_name FROM information_schema.columns WHERE (table_schema, table_name) = ('order_timeout', 'events')");
for my $field (@fields) { ok((grep { $_ eq $field } @$columns), "events has the column $field") }
is($config->{'table.include.list'}, 'order_timeout.events', 'the table');
like('order_timeout.order_timeout.events', qr/^$config->{'predicates.isEvent.pattern'}$/, 'the topic that the router takes up');
is($config->{'publication.name'}, $dbh->selectrow_array("SELECT pubname FROM pg_publication_tables WHERE schemaname || '.' || tablename = 'order_timeout.events'"), 'the publication');
is($config->{'plugin.name'}, $dbh->selectrow_array('SELECT plugin FROM pg_replication_slots WHERE slot_name = ?', undef, $config->{'slot.name'}), 'the slot');
my $role = $server->dbh('shop', user => $config->{'database.user'});
is($role->selectrow_array('SELECT count(*) FROM order_timeout.events'), 0, 'the role reads events');
is(error_of($role, sub { $role->do('SELECT FROM order_timeout.orders') }), '42501', 'and nothing else');
ok($role->do($config->{'heartbeat.action.query'}), 'and sends heartbeats');
$role->disconnect;

# ------------------------------------------------------------ writers

my $connection = $server->connstr('shop') . " user=$config->{'database.user'}";
my @files;
my $recvlogical;

sub receive {
	push @files, $server->basedir . '/received' . @files;
	my @command = ('pg_recvlogical', '-d', $connection, '-S', 'killed', '--start', '-s', 1, '-F', 0, '-f', $files[-1], '-o', 'include-xids=0', @_);
	$recvlogical = fork() // die "fork: $!\n";
	return $recvlogical if $recvlogical;
	open STDERR, '>', '/dev/null';
	exec @command or POSIX::_exit(1);
}

create_orders($dbh, 'due', 1, 2000, "now() + interval '1 day'");
$dbh->do("UPDATE order_timeout.orders SET expires_at = now(), created_at = now() - interval '1 hour'");
my $prepared = $server->dbh('shop');
$prepared->begin_work;
call($prepared, 'create_order', 'prepared', 100, 'EUR');
$prepared->do("PREPARE TRANSACTION 'prepared'");
$prepared->{AutoCommit} = 1;

my $writers = fork_all(9, sub {
	my ($writer) = @_;
	srand $seed + $writer;
	my $own = $server->dbh('shop');
	for my $n (1 .. 25) {
		$own->begin_work;
		if ($writer == 9) {
			$own->do('SELECT * FROM order_timeout.sweep_once(100)');
		} else {
			my $order = "w$writer-$n";
			call($own, 'create_order', $order, 100, 'EUR');
			$own->do('SAVEPOINT s');
			call($own, 'cancel_order', $order);
			$own->do(rand() < 0.5 ? 'ROLLBACK TO s' : 'RELEASE s');
			call($own, 'record_payment', $order, 'gate', "p$writer-$n", 100, 'EUR');
		}
		sleep rand 0.02;
		if (rand() < 0.2) { $own->rollback } else { $own->commit }
	}
	return 1;
});
for (1 .. 3) {
	my $pid = receive();
	my $file = $files[-1];
	eventually(sub { -s $file }) or die "pg_recvlogical receives nothing\n";
	kill 'KILL', $pid;
	waitpid $pid, 0;
}
$prepared->do("COMMIT PREPARED 'prepared'");
answers($writers);
call($dbh, 'sweep_once', 10000);
call($dbh, 'create_order', 'gone', 100, 'EUR');
call($dbh, 'cancel_order', 'gone', 'what the buyer said');
call($dbh, 'forget_order', 'gone');

# ------------------------------------------------------------ what comes

# Of pgoutput's messages, protocol 1: the commit of each transaction, and the rows that it inserted into events.
sub decoded {
	my ($data) = @_;
	my (@rows, @names, $lsn, @lsns);
	for my $message (@$data) {
		my $kind = substr $message, 0, 1;
		if ($kind eq 'B') {
			$lsn = unpack 'Q>', substr $message, 1;
			push @lsns, $lsn;
		} elsif ($kind eq 'R') {
			my (undef, $schema, $table, undef, @columns) = unpack 'N Z* Z* C n/(C Z* N N)', substr $message, 1;
			is("$schema.$table", 'order_timeout.events', 'a relation');
			@names = @columns[ map { 4 * $_ + 1 } 0 .. $#columns / 4 ];
		} elsif ($kind eq 'I') {
			my (undef, undef, @values) = unpack 'N a n/(a N/a)', substr $message, 1;
			my %row;
			@row{@names} = @values[ map { 2 * $_ + 1 } 0 .. $#names ];
			push @rows, \%row;
		} else {
			$kind eq 'C' or die "pgoutput: a message of kind $kind\n";
		}
	}
	return (\@rows, \@lsns);
}

my $data = $dbh->selectcol_arrayref(q(SELECT data FROM pg_logical_slot_get_binary_changes(?, NULL, NULL, 'proto_version', '1', 'publication_names', ?)),
	undef, $config->{'slot.name'}, $config->{'publication.name'});
my ($rows, $lsns) = decoded($data);
is_deeply($lsns, [ sort { $a <=> $b } @$lsns ], 'pgoutput: in the order of the commits');
my $table = $dbh->selectall_arrayref('SELECT id, aggregateid, aggregatetype, type, payload, created_at FROM order_timeout.events ORDER BY id', { Slice => {} });
cmp_ok(scalar @$table, '>', 4000, 'many events');
delete $_->{xid} for @$rows;
my @forgotten = grep { $_->{aggregateid} eq 'gone' } @$rows;
is(join(' ', map { $_->{type} } @forgotten), 'order.created order.cancelled order.forgotten', 'an order that was forgotten: no update comes');
is_deeply([ map { $_->{aggregateid} eq 'gone' ? () : $_ } sort { $a->{id} <=> $b->{id} } @$rows ], [ grep { $_->{aggregateid} ne 'gone' } @$table ],
	'pgoutput: every committed event once, as it is in the table');

my @order = map { $_->{id} } @$rows;
my (%last, $backwards);
for my $row (@$rows) {
	$backwards = $row if ($last{ $row->{aggregateid} } // 0) > $row->{id};
	$last{ $row->{aggregateid} } = $row->{id};
}
is($backwards, undef, "each order's events come in their order");
isnt("@order", join(' ', sort { $a <=> $b } @order), 'commits were not in the order of ids');

sub inserted { return [ map { /^table order_timeout\.events: INSERT: id\[bigint\]:(\d+) .*\n?\z/s } @_ ] }
my $text = $dbh->selectcol_arrayref(q(SELECT data FROM pg_logical_slot_get_changes('text', NULL, NULL)));
is_deeply(inserted(@$text), \@order, 'test_decoding: the same');
ok((grep { /^table order_timeout\.events: UPDATE/ } @$text), 'there were updates, which are not published');

# A reader that was killed gets again what it had not confirmed, from some transaction on.
receive('--endpos', $dbh->selectrow_array('SELECT pg_current_wal_lsn()'));
waitpid $recvlogical, 0;
is($?, 0, 'pg_recvlogical ends');
my %seen;
my @received = map { @{ inserted(grep { /\n\z/ } split /^/, PostgreSQL::Test::Utils::slurp_file($_)) } } @files;
is_deeply([ grep { !$seen{$_}++ } @received ], \@order, 'a reader that was killed: nothing is missing, all in order');

$_->disconnect for $prepared, $dbh;
done_testing;
