# Consumers of events: nothing is passed over and nothing comes twice, however transactions end, a reader dies, or the
# database moves.

use strict;
use warnings;

use OTServer;
use OTTest;
use Test::More;
use Time::HiRes qw(sleep);

my %settings = (max_prepared_transactions => 10, wal_level => 'logical', max_wal_senders => 10);
my $server = OTServer->started('consumers', %settings);
$server->safe_psql('postgres', 'CREATE DATABASE shop; CREATE DATABASE elsewhere; CREATE ROLE reader LOGIN');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');

sub create { return call($_[0], 'create_order', $_[1], 100, 'EUR') }

# What a consumer is handed out; with acknowledge, up to which id or all.
sub batch { return rows($_[0], 'read_events', @_[ 1 .. $#_ ]) }
sub names { return join ' ', map { $_->{aggregateid} } @{ $_[0] } }
sub ack { return call($_[0], 'ack_events', $_[1], $_[2][0]{lease_token}, $_[3])->{outcome} }

# Reads all there is, and acknowledges it.
sub rest {
	my ($on, $consumer) = @_;
	my @all;
	while (my @batch = @{ batch($on, $consumer) }) {
		push @all, @batch;
		is(ack($on, $consumer, \@batch), 'acknowledged', "$consumer: acknowledged") or last;
	}
	return \@all;
}

# ------------------------------------------------------------ outcomes and errors

is(call($dbh, 'create_consumer', 'all')->{outcome}, 'created', 'created');
is(call($dbh, 'create_consumer', 'all')->{outcome}, 'exists', 'exists');
my @warnings;
{
	local $SIG{__WARN__} = sub { push @warnings, @_ };
	local $dbh->{PrintWarn} = 1;
	is($dbh->selectrow_array("SELECT order_timeout.create_consumer('all', '{order.paid}')"), 'exists', 'exists with other types');
}
like("@warnings", qr/consumer "all" exists with other types/, 'and says so');
@warnings = ();
{
	local $SIG{__WARN__} = sub { push @warnings, @_ };
	local $dbh->{PrintWarn} = 1;
	is($dbh->selectrow_array("SELECT order_timeout.create_consumer('typo', '{order.payed,order.paid,order.*}')"), 'created',
		'created with types that no function writes');
}
is_deeply([ "@warnings" =~ /WARNING: +(.*)/g ], [ map { qq("$_" is no type of event) } qw(order.payed order.*) ], 'and says so');
call($dbh, 'drop_consumer', 'typo');
is(call($dbh, 'create_consumer', 'paid', [qw(order.paid order.cancelled)])->{outcome}, 'created', 'one of some types');
is_deeply(batch($dbh, 'all'), [], 'nothing to read');
create($dbh, $_) for qw(a b c);
call($dbh, 'cancel_order', 'b');
my ($unread) = $dbh->selectrow_array("SELECT string_agg(consumer || ' ' || unread || ' ' || (oldest_unread > '0'), ', ' ORDER BY consumer) FROM order_timeout.consumers");
is($unread, 'all 4 true, paid 1 true', 'what is unread');
my $first = batch($dbh, 'all', 3);
is(names($first), 'a b c', 'a batch');
is_deeply([ sort keys %{ $first->[0] } ], [qw(aggregateid created_at id lease_token payload type)], 'its columns');
is_deeply(batch($dbh, 'all'), [], 'while the lease lasts there are no rows');
is(error_of($dbh, sub { ack($dbh, 'all', $first, 999) }), '22023', 'up_to is none of the batch');
is(ack($dbh, 'all', $first, $first->[1]{id}), 'acknowledged', 'up to the second');
is(ack($dbh, 'all', $first, $first->[1]{id}), 'acknowledged', 'again');
is(ack($dbh, 'all', $first, $first->[0]{id}), 'stale', 'less, later');
is(ack($dbh, 'all', $first), 'stale', 'more, later');
my $second = batch($dbh, 'all', 100, '1 microsecond');
is(names($second), 'c b', 'the rest');
my $again = batch($dbh, 'all');
is(names($again), 'c b', 'the lease is over: again');
is(ack($dbh, 'all', $second), 'stale', 'the first lease is over');
is(ack($dbh, 'all', $again), 'acknowledged', 'the second is not');
is(ack($dbh, 'all', $again, $again->[1]{id}), 'acknowledged', 'all of it and its last event are the same');
my $paid = batch($dbh, 'paid');
is(names($paid), 'b', 'other types are passed over');
is(ack($dbh, 'paid', $paid), 'acknowledged', 'acknowledged');
create($dbh, 'passed over');
is_deeply(batch($dbh, 'paid'), [], 'nothing but other types');
is(ack($dbh, 'paid', $paid), 'acknowledged', 'the last repeat is recognised after these were passed over');
rest($dbh, 'all');
my ($position) = $dbh->selectrow_array("SELECT ctid FROM order_timeout.consumer_positions WHERE consumer = 'all'");
batch($dbh, 'all') for 1 .. 3;
is($dbh->selectrow_array("SELECT ctid FROM order_timeout.consumer_positions WHERE consumer = 'all'"), $position, 'a look that finds nothing writes nothing');

for my $bad (
	[ '22004', 'create_consumer', undef ], [ '22023', 'create_consumer', '' ], [ '22023', 'create_consumer', 'x', [] ],
	[ '22004', 'create_consumer', 'x', [undef] ], [ '22023', 'create_consumer', 'x', [''] ],
	[ '22004', 'drop_consumer', undef ], [ '22004', 'read_events', undef ], [ '22023', 'read_events', 'nobody' ],
	[ '22023', 'read_events', 'all', 0 ], [ '22023', 'read_events', 'all', 10001 ], [ '22023', 'read_events', 'all', 1, '0' ],
	[ '22023', 'read_events', 'all', 1, '366 days' ], [ '22023', 'ack_events', 'nobody', 'x' ], [ '22004', 'ack_events', 'all', undef ],
	[ '22023', 'ack_events', 'all', 'x', 0 ], [ '22023', 'ack_events', 'all', 'x', -1 ])
{
	my ($state, $function, @arguments) = @$bad;
	is(error_of($dbh, sub { call($dbh, $function, @arguments) }), $state, "$function: $state");
}
is(call($dbh, 'ack_events', 'all', 'no such token')->{outcome}, 'stale', 'a token that never was');
is(call($dbh, 'drop_consumer', 'paid')->{outcome}, 'dropped', 'dropped');
is(call($dbh, 'drop_consumer', 'paid')->{outcome}, 'not_found', 'again');

call($dbh, 'grant_access', 'reader', 'consumer');
my $reader = $server->dbh('shop', user => 'reader');
create($dbh, 'd');
is(names(rest($reader, 'all')), 'd', 'access consumer reads and acknowledges');
is(error_of($reader, sub { $reader->do($_) }), '42501', $_)
	for "SELECT order_timeout.create_consumer('x')", "SELECT order_timeout.drop_consumer('all')", 'SELECT FROM order_timeout.events',
	'SELECT FROM order_timeout.consumers', 'SELECT FROM order_timeout.consumer_positions', "SELECT order_timeout.history('a')";

my ($looked_through) = $dbh->selectrow_array("SELECT window_to - order_timeout._mark_of(pg_snapshot_xmax(read_snapshot), mark_xids, mark_ids) FROM order_timeout.consumer_positions WHERE consumer = 'all'");
cmp_ok($looked_through, '<=', 1, 'a window does not begin with a look through what was read long ago');

# Numbers of transactions have 64 bits, that of a row's writer 32.
for my $row (
	[ 0, '5000000000:5000000000:', 7147483748, 7147483748 & 0xffffffff, 'a position that is 2^31 transactions behind' ],
	[ 1, '5000000000:5000000000:', 9000000000, 700, 'a row that was restored 2^32 transactions ago' ],
	[ 1, '2147484748:2147484748:', 3000000000, 700, 'a row that was restored 2^31 transactions ago' ],
	[ 1, '1000:1000:', 3000000000, 700, 'a restored row from far ahead' ],
	[ 0, '600:600:', 3000000000, 700, 'a row that was restored after the position' ])
{
	my ($expected, @arguments) = @$row;
	my $what = pop @arguments;
	is($dbh->selectrow_array('SELECT order_timeout._sees(?, ?, ?)', undef, @arguments), $expected, $what);
}

# ------------------------------------------------------------ prepared transactions, here and elsewhere

my $slow = $server->dbh('shop');
$slow->begin_work;
create($slow, 'slow');
$slow->do("PREPARE TRANSACTION 'forgotten'");
$slow->{AutoCommit} = 1;
my $elsewhere = $server->dbh('elsewhere');
$elsewhere->do($_) for 'CREATE TABLE t ()', 'BEGIN', 'INSERT INTO t DEFAULT VALUES', "PREPARE TRANSACTION 'elsewhere'";
for my $round (1 .. 3) {
	create($dbh, "quick$round");
	is(names(rest($dbh, 'all')), "quick$round", 'prepared transactions hold nobody up');
}
$elsewhere->do("ROLLBACK PREPARED 'elsewhere'");
$dbh->do("COMMIT PREPARED 'forgotten'");
create($dbh, 'last');
is(names(rest($dbh, 'all')), 'slow last', 'what was prepared comes once it is committed');

# ------------------------------------------------------------ notification

call($dbh, 'create_consumer', 'eager', undef, 1, 1);
my $listener = $server->dbh('shop');
$listener->do('LISTEN order_timeout_events');
create($dbh, 'loud');

# What it hears until a notification of our own comes.
my $marks = 0;
sub heard {
	my $mark = 'mark ' . $marks++;
	my @heard;
	$dbh->do('SELECT pg_notify(?, ?)', undef, 'order_timeout_events', $mark);
	eventually(sub {
		while (my $notify = $listener->pg_notifies) {
			return 1 if $notify->[2] eq $mark;
			push @heard, "$notify->[0] '$notify->[2]'";
		}
		$listener->do('SELECT');
		return 0;
	});
	return \@heard;
}
is_deeply(heard(), [q(order_timeout_events '')], 'a notification with no payload');
$dbh->begin_work;
create($dbh, "loud$_") for 1, 2;
$dbh->commit;
is_deeply(heard(), [q(order_timeout_events '')], 'one for each transaction');
$slow->do('BEGIN');
create($slow, 'cannot');
is(error_of($slow, sub { $slow->do("PREPARE TRANSACTION 'notifies'") }), '0A000', 'such a transaction cannot be prepared');
$slow->do('ROLLBACK');
call($dbh, 'drop_consumer', 'eager');
create($slow, 'quiet');
is_deeply(heard(), [], 'nobody wants it any more');
$slow->do('BEGIN');
create($slow, 'before');
call($dbh, 'create_consumer', 'late', undef, 1, 1);
create($slow, 'after');
$slow->do('COMMIT');
is_deeply(heard(), [q(order_timeout_events '')], 'a transaction that was open when the consumer came');
call($dbh, 'drop_consumer', 'late');
rest($dbh, 'all');

# ------------------------------------------------------------ a crash

{
	my $lazy = $server->dbh('shop');
	create($lazy, 'crash');
	$lazy->do('SET synchronous_commit = off');
	is(names(batch($lazy, 'all')), 'crash', 'handed out without a synchronous commit');
	$server->stop('immediate');
	$server->start;
	$dbh = $server->dbh('shop');
	is_deeply(batch($dbh, 'all'), [], 'the lease has survived the crash');
	$dbh->do("UPDATE order_timeout.consumer_positions SET leased_until = now() WHERE consumer = 'all'");
	is(names(rest($dbh, 'all')), 'crash', 'and ends');
}

# ------------------------------------------------------------ writers that commit whenever they do, a reader that dies

my $from = $dbh->selectrow_array('SELECT max(id) FROM order_timeout.events');
my $seed = $ENV{OT_SEED} // int rand 1e6;
note("OT_SEED=$seed");

my $writers = fork_all(8, sub {
	my ($writer) = @_;
	srand $seed + $writer;
	my $own = $server->dbh('shop');
	my @mine;
	for my $n (1 .. 40) {
		$own->begin_work;
		create($own, "w$writer-$n");
		call($own, 'cancel_order', $mine[ rand @mine ]) if @mine && rand() < 0.5;
		sleep rand 0.02;
		if (rand() < 0.2) { $own->rollback; next }
		$own->commit;
		push @mine, "w$writer-$n";
	}
	return 1;
});

srand $seed;
my (%acknowledged, %last_of);
my ($twice, $backwards) = (0, 0);

# A reader may be killed before it acknowledges, and its lease ends; or it acknowledges a part, or all.
sub read_some {
	my ($on) = @_;
	my $events = batch($on, 'all', 1 + int rand 30);
	return 0 unless @$events;
	if (rand() < 0.2) {
		$dbh->do("UPDATE order_timeout.consumer_positions SET leased_until = now() WHERE consumer = 'all'");
		return 1;
	}
	my $count = rand() < 0.5 ? 1 + int rand @$events : @$events;
	ack($on, 'all', $events, $count < @$events ? $events->[ $count - 1 ]{id} : undef) eq 'acknowledged' or die;
	for my $event (@$events[ 0 .. $count - 1 ]) {
		$twice++ if $acknowledged{ $event->{id} }++;
		$backwards++ if ($last_of{ $event->{aggregateid} } // 0) > $event->{id};
		$last_of{ $event->{aggregateid} } = $event->{id};
	}
	return 1;
}
my $reading = $server->dbh('shop');
read_some($reading) for 1 .. 200;
answers($writers);
1 while read_some($reading);
my $committed = $dbh->selectcol_arrayref('SELECT id FROM order_timeout.events WHERE id > ? ORDER BY id', undef, $from);
is_deeply([ sort { $a <=> $b } keys %acknowledged ], $committed, 'every committed event was read');
is($twice, 0, 'none was acknowledged twice');
is($backwards, 0, "each order's events came in their order");

# ------------------------------------------------------------ no batch reads much more than it answers

$server->safe_psql('postgres', 'CREATE DATABASE busy');
my $busy = $server->dbh('busy');
$busy->do($_) for 'CREATE EXTENSION order_timeout', 'ALTER TABLE order_timeout.events SET (autovacuum_enabled = off)';

sub many_events {
	$busy->do(q(INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
		SELECT i, 'order.paid', '{}', now() FROM generate_series(1, 20000) i));
	return;
}

# How many events the code makes this session fetch.
sub fetched {
	my ($code) = @_;
	my $count = sub {
		$busy->do('SELECT pg_stat_force_next_flush()');
		return $busy->selectrow_array(q(SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relid = 'order_timeout.events'::regclass));
	};
	my $before = $count->();
	$code->();
	return $count->() - $before;
}

sub some { my ($batch) = @_; my $events = batch($busy, 'busy', $batch); ack($busy, 'busy', $events) if @$events; return scalar @$events }
call($busy, 'create_consumer', 'busy');
many_events();
cmp_ok(fetched(sub { some(100) for 1 .. 5 }), '<', 5000, 'batches of a table that was never analysed');
my $open = $server->dbh('busy');
$open->begin_work;
create($open, 'late');
create($busy, 'next');
1 while some(10000);
many_events();
$open->commit;
cmp_ok(fetched(sub { 1 while some(500) }), '<', 100000, 'batches after a transaction that was open when the last one was read');
for my $read (1 .. 3) {
	create($busy, "read$read");
	cmp_ok(fetched(sub { is(some(10000), 1, 'a new event') }), '<', 1000, 'is found without a look at those that were read');
}
$open->begin_work;
create($open, 'later');
create($busy, 'next');
some(10000);
many_events();
call($busy, 'create_consumer', 'newcomer', undef, 1);
1 while some(10000);
$open->commit;
cmp_ok(fetched(sub { is(some(10000), 1, 'the event of such a transaction') }), '<', 30000, 'a single look for it');
cmp_ok(fetched(sub { is(some(10000), 0, 'and nothing after it') }), '<', 1000, 'which is not repeated');
cmp_ok(fetched(sub { is(names(batch($busy, 'newcomer')), 'later', 'one that was open when a consumer began from now on') }),
	'<', 30000, 'is not looked for from the first event on');
$_->disconnect for $open, $busy;

# ------------------------------------------------------------ the database moves

call($dbh, 'create_consumer', 'mover');
rest($dbh, 'mover');
create($dbh, "unread$_") for 1 .. 3;
batch($dbh, 'mover', 1, '1 microsecond');
$dbh->do('SELECT pg_current_xact_id()') for 1 .. 200;    # ahead of a new server's transactions
create($dbh, 'ahead');

sub unread_and_new {
	my ($on, $way, $may_repeat) = @_;
	create($on, 'new');
	my $got = rest($on, 'mover');
	# Where transactions have other numbers, what was acknowledged may come again, before it.
	$got = [ grep { $_->{aggregateid} =~ /^(unread|ahead|new)/ } @$got ] if $may_repeat;
	is(names($got), 'unread1 unread2 unread3 ahead new', "$way: what was unread comes, then what is new");
	call($on, 'create_consumer', 'fresh');
	is(scalar @{ rest($on, 'fresh') }, $on->selectrow_array('SELECT count(*) FROM order_timeout.events'),
		"$way: a new consumer reads everything");
	create($on, 'newer');
	is(names(rest($on, $_)), 'newer', "$way: $_ goes on") for 'mover', 'fresh';
	return;
}

# By dump and restore, to a server whose transactions have lower numbers.
my $other = OTServer->started('other', %settings);
$other->safe_psql('postgres', 'CREATE DATABASE shop; CREATE ROLE reader');
my $dump = $server->backup_dir . '/shop.sql';
$server->run_log([ 'pg_dump', '-f', $dump, '-d', $server->connstr('shop') ]) or die "pg_dump failed\n";
$other->run_log([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $other->connstr('shop'), '-f', $dump ]) or die "restore failed\n";
unread_and_new($other->dbh('shop'), 'restored', 1);
$other->stop;

# By pg_basebackup, promoted.
$server->backup('copy');
my $standby = OTServer->new('standby', port => 54329, own_host => 1);
$standby->init_from_backup($server, 'copy', has_streaming => 1);
$standby->append_conf('postgresql.conf', "cron.host = '" . $standby->host . "'");
$standby->start;
$server->wait_for_catchup($standby);
$standby->promote;
unread_and_new($standby->dbh('shop'), 'promoted');
$standby->stop;

# By logical replication.
my $replica = OTServer->started('replica', %settings);
$replica->safe_psql('postgres', 'CREATE DATABASE shop');
my $rdbh = $replica->dbh('shop');
$rdbh->do($_) for 'CREATE EXTENSION order_timeout', 'ALTER TABLE order_timeout.policies DISABLE TRIGGER keep_used',
	'DELETE FROM order_timeout.policies', 'ALTER TABLE order_timeout.policies ENABLE TRIGGER keep_used';
$dbh->do('CREATE PUBLICATION everything FOR ALL TABLES');
$rdbh->do('CREATE SUBSCRIPTION everything CONNECTION ' . $dbh->quote($server->connstr('shop') . ' user=postgres') . ' PUBLICATION everything');
$replica->wait_for_subscription_sync($server, 'everything', 'shop');
$server->wait_for_catchup('everything');
$rdbh->do('DROP SUBSCRIPTION everything');
call($rdbh, 'create_consumer', 'early');
is(scalar @{ rest($rdbh, 'early') }, $rdbh->selectrow_array('SELECT count(*) FROM order_timeout.events'),
	'what was copied is read before its sequence is set');
$rdbh->do("SELECT setval('order_timeout.events_id_seq', (SELECT max(id) + 1 FROM order_timeout.events), false)");
$dbh->do('DROP PUBLICATION everything');
call($rdbh, 'create_consumer', 'now', undef, 1);
create($rdbh, 'first');
is(names(rest($rdbh, 'now')), 'first', 'from now on, before the first id was given out');
unread_and_new($rdbh, 'logical replica', 1);
$rdbh->disconnect;
$replica->stop;

# By pg_upgrade, which may go to the same version.
$_->disconnect for $dbh, $slow, $listener, $elsewhere, $reader, $reading;
$server->stop;
my $upgraded = OTServer->new('upgraded', port => 54329, own_host => 1);
$upgraded->init(extra => [ '--username=postgres', '--encoding=UTF8', '--locale=C.UTF-8' ]);
$upgraded->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron'\ncron.database_name = 'postgres'\ncron.host = '" . $upgraded->host . "'\n");
chdir $upgraded->basedir or die "$!\n";
my $bin = `pg_config --bindir`;
chomp $bin;
ok($upgraded->run_log([ 'pg_upgrade', '--no-sync', '-U', 'postgres', '-b', $bin, '-B', $bin, '-d', $server->data_dir, '-D', $upgraded->data_dir,
	'-s', $upgraded->host, '-p', 54331, '-P', 54332 ]), 'pg_upgrade');
chdir '/' or die "$!\n";
$upgraded->start;
my $udbh = $upgraded->dbh('shop');
unread_and_new($udbh, 'upgraded');
$udbh->disconnect;

done_testing;
