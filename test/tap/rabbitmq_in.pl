# connect/rabbitmq: a queue of dead letters closes orders. The consumer is killed at any moment, the broker and the
# database crash, messages come twice, too early, for nothing or as garbage, and every order ends right.

use strict;
use warnings;

use Encode qw(encode_utf8);
use FindBin;
use OTBroker;
use OTServer;
use OTTest;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'the consumer only calls a function, and its store does not matter: once is enough'
	if ($ENV{OT_STORE} // 'auto') eq 'sql';
plan skip_all => OTBroker->missing if OTBroker->missing;

my $programs = "$FindBin::Bin/../../connect/rabbitmq";
my $server = OTServer->started('rabbitmq');
$server->safe_psql('postgres', 'CREATE DATABASE shop; CREATE ROLE shop LOGIN');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');
$dbh->do("SELECT order_timeout.grant_access(role_name => 'shop', access => 'application')");
my $broker = OTBroker->started($server->basedir . '/broker');

$ENV{AMQP_URL} = $broker->url;
$ENV{DATABASE_URL} = $server->connstr('shop') . ' user=shop';

# ------------------------------------------------------------ the consumer

my $log = $server->basedir . '/consumer.log';
my $consumer;
END {
	kill 'KILL', $consumer if $consumer;
}

my $reads;

sub logged { return -e $log ? PostgreSQL::Test::Utils::slurp_file($log) : '' }
sub times_read { return scalar(() = logged() =~ /reading dlx\.orders/g) }

sub start_consumer {
	$reads = times_read();
	$consumer = fork() // die "fork: $!\n";
	return if $consumer;
	local @SIG{qw(INT TERM)} = ('DEFAULT') x 2;
	open STDERR, '>>', $log
		and exec OTBroker->python, "$programs/expire_consumer.py", qw(--retry-after 1 --prefetch 20), @_;
	POSIX::_exit(1);
}

# Its exit status, or the signal that ended it.
sub end_consumer {
	my ($signal) = @_;
	kill $signal, $consumer;
	waitpid $consumer, 0;
	undef $consumer;
	return $? & 127 || $? >> 8;
}

sub has_logged {
	my ($pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(eventually(sub { logged() =~ $pattern }, 20), $name) || diag(logged());
}

sub reads {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(eventually(sub { times_read() > $reads }, 20), 'it reads') || diag(logged());
}

sub publish_orders {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(system(OTBroker->python, "$programs/publish_order.py", @_), 0, 'published');
}

# ------------------------------------------------------------ orders

# due(ids): orders whose deadline has just passed.
sub due {
	my @ids = @_;
	my $all_due = 'SELECT every(expires_at < clock_timestamp()) FROM order_timeout.orders WHERE order_id = ANY (?)';
	call($dbh, 'create_order', $_, 100, 'EUR', '50 milliseconds') for @ids;
	eventually(sub { $dbh->selectrow_array($all_due, undef, \@ids) }, 10) or die "@ids: not due\n";
	return;
}

sub state_of {
	my ($order) = @_;
	return scalar $dbh->selectrow_array('SELECT state FROM order_timeout.orders WHERE order_id = ?', undef, $order);
}

sub becomes {
	my ($order, $state, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(eventually(sub { state_of($order) eq $state }, 20), $name) || diag(state_of($order) . "\n" . logged());
}

sub empty { return !grep { $broker->depth($_) } qw(orders dlx.orders dlx.orders.retry) }

# Whether the consumer's call waits for a lock.
sub waits { return $dbh->selectrow_array(
	"SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop' AND wait_event_type = 'Lock'") }

# ------------------------------------------------------------ the pipeline, as people have it

start_consumer(qw(--declare all --pay-within 1));
reads();
$dbh->do("INSERT INTO order_timeout.policies (policy, before_close, void_within) VALUES ('asks', 'void', '1 second')");

call($dbh, 'create_order', $_, 100, 'EUR', '1 second') for qw(due twice extended paid), "\x{8ba2}\x{5355}-1";
call($dbh, 'create_order', 'asks', 100, 'EUR', '1 second', undef, 'asks');
call($dbh, 'begin_attempt', 'asks', 'bank', 'session-1');
call($dbh, 'record_payment', 'paid', 'bank', 'p1', 100, 'EUR');
publish_orders(qw(due twice twice extended paid never asks), encode_utf8("\x{8ba2}\x{5355}-1"));
$dbh->do("SELECT order_timeout.extend_order('extended', clock_timestamp() + interval '2500 milliseconds')");
# The broker's part is classic: all of it waits in orders, and the queue's TTL sends it on.
becomes('due', 'expired', 'an order is closed when its message comes');
has_logged(qr/'due' expired/, 'and logged');
becomes('twice', 'expired', 'a message twice closes once');
has_logged(qr/'twice' already_closed/, 'and is acknowledged');
becomes("\x{8ba2}\x{5355}-1", 'expired', 'an id that is not ASCII');
has_logged(qr/'paid' already_paid/, 'an order that was paid in time stays paid');
is(state_of('paid'), 'paid', 'it is');
has_logged(qr/WARNING 'never' not_found/, 'an order that never was is a warning');
has_logged(qr/'asks' closing/, 'an order whose gateway is asked first is not closed yet');
becomes('asks', 'expired', 'it is closed when the time to ask is over');
has_logged(qr/'extended' not_due/, 'a message that comes early is seen');
becomes('extended', 'expired', 'and comes again until the order is closed');
my ($early) = $dbh->selectrow_array(
	"SELECT settled_at < expires_at FROM order_timeout.orders WHERE order_id = 'extended'");
is($early, 0, 'not before its new deadline');

# ------------------------------------------------------------ what is no order id

my %reason = (
	''                                 => qr/order_id/,
	"\xff\xfe order"                   => qr/utf-8/,
	"a\nb"                             => qr/order_id/,
	"a\0b"                             => qr/NUL/,
	'x' x 300                          => qr/order_id/,
	'y' x 200_000                      => qr/order_id/,
	'{"order_id": '                    => qr/Expecting/,
	'{"id": "due"}'                    => qr/without an order_id/,
	'{"order_id": true}'               => qr/without an order_id/,
	'{"order_id": "\\ud800"}'          => qr/surrogate/,
	'{"order_id": ' . '[' x 100_000    => qr/too deep/,
	'{"order_id": ' . '1' x 10_000     => qr/digits|bytes/,
);
due(qw(json 4711 newline odd last));
$broker->publish('dlx.orders', sort keys %reason);
$broker->publish_odd('dlx.orders', 'odd');
$broker->publish('dlx.orders', '{"order_id": "json", "amount": 100}', '{"order_id": 4711}', "newline\n", 'last');
becomes('last', 'expired', 'what is no order id stops nothing');
becomes($_, 'expired', "the form $_") for qw(json 4711 newline);
becomes('odd', 'expired', 'a header that cannot be read');
ok(eventually(sub { $broker->depth('dlx.orders.rejected') == keys %reason }, 20), 'all of it is put aside');
my %rejected = map { $_->{body} => $_->{headers}{reason} } @{ $broker->take('dlx.orders.rejected') };
is_deeply([ map { length } sort keys %rejected ], [ map { length } sort keys %reason ], 'unchanged');
like($rejected{$_} // '', $reason{$_}, 'with the reason: ' . substr(s/[^ -~]/./gr, 0, 20)) for sort keys %reason;

# ------------------------------------------------------------ an order that cannot be closed

$dbh->do(<<'END');
CREATE FUNCTION fails(order_ids text[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 / 0; END $$;
END
$dbh->do("INSERT INTO order_timeout.policies (policy) VALUES ('fails')");
$dbh->do("SELECT order_timeout.set_hook('fails', 'close_hook', 'fails')");
call($dbh, 'create_order', 'hook', 100, 'EUR', '50 milliseconds', undef, 'fails');
due('after');
$broker->publish('dlx.orders', 'hook', 'after');
becomes('after', 'expired', 'an order whose hook fails stops nothing');
has_logged(qr/ERROR 'hook' failed: division by zero/, 'and is logged as an error');
$dbh->do("SELECT order_timeout.set_hook('fails', 'close_hook', NULL)");
becomes('hook', 'expired', 'it comes again until it can be closed');
ok(eventually(\&empty, 20), 'nothing is left');
is($broker->depth('dlx.orders.rejected'), 0, 'nothing was rejected, although its error is of class 22 too');

# ------------------------------------------------------------ it stops

is(end_consumer('TERM'), 0, 'it stops when it is asked to');
like(logged(), qr/stopped: .*\b1 already_paid, .*\b1 not_found, .*\b12 rejected\n/, 'and says what it did');
start_consumer();
reads();
is(end_consumer('INT'), 0, 'so it does for Ctrl-C');
start_consumer(qw(--declare all --pay-within 2));
waitpid $consumer, 0;
undef $consumer;
is($? >> 8, 1, 'a queue with other arguments is no reason to try again');
like(logged(), qr/PRECONDITION_FAILED.*\n.*See --declare/, 'it says why');

# ------------------------------------------------------------ mistakes of a first start

start_consumer('--queue', 'none');
has_logged(qr/no queue 'none' .*: is it another --queue.*--declare all/, 'a queue that is not there');
end_consumer('INT');
start_consumer('--database', 'dbnam=shop');
waitpid $consumer, 0;
undef $consumer;
is($? >> 8, 2, 'a connection string that is none');
like(logged(), qr/--database: invalid connection option "dbnam"\n\z/, 'it says which word');
isnt(system(OTBroker->python . " $programs/publish_order.py --queue none X 2>@{[ $server->basedir ]}/said"), 0, 'to publish where no queue is fails');
is(PostgreSQL::Test::Utils::slurp_file($server->basedir . "/said") =~ s/vhost '.*?'/vhost/r,
	"publish_order: there is no queue 'none' in vhost: expire_consumer.py --declare all makes it\n", 'and says so in one line');

# ------------------------------------------------------------ killed before and after the commit

my $locker = $server->dbh('shop', AutoCommit => 0);

# The consumer's call waits for the order, which this session holds.
sub hold {
	my ($order) = @_;
	due($order);
	$locker->do('SELECT FROM order_timeout.orders WHERE order_id = ? FOR UPDATE', undef, $order);
	$broker->publish('dlx.orders', $order);
	start_consumer();
	ok(eventually(\&waits, 20), "$order: the database is at work");
	return;
}

sub again {
	my ($order, $outcome) = @_;
	start_consumer();
	has_logged(qr/'$order' $outcome/, "$order: its message comes again");
	is(state_of($order), 'expired', "$order: closed");
	is(end_consumer('TERM'), 0, "$order: stopped");
	is($broker->depth('dlx.orders'), 0, "$order: acknowledged");
	return;
}

hold('uncommitted');
is(end_consumer('KILL'), 9, 'uncommitted: killed before the commit');
$dbh->do("SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE usename = 'shop'");
$locker->rollback;
is(state_of('uncommitted'), 'pending', 'uncommitted: not closed');
again('uncommitted', 'expired');

hold('committed');
kill 'STOP', $consumer;
$locker->rollback;
becomes('committed', 'expired', 'committed: closed while the consumer stands still');
is(end_consumer('KILL'), 9, 'committed: killed before it acknowledged');
again('committed', 'already_closed');

# ------------------------------------------------------------ everything crashes

my @orders = map { "s$_" } 1 .. 500;
my @paid = grep { /[05]$/ } @orders;
create_orders($dbh, 's', 1, 500, "now() + interval '2 seconds'");
my $over = time + 2;
$dbh->do("SELECT order_timeout.record_payment(o, 'bank', o, 100, 'EUR') FROM unnest(?::text[]) o", undef, \@paid);
wait_until_clock($over);

my @stream = map { ($_) x (1 + /7$/) } @orders;
$broker->publish('dlx.orders', @stream, 'never-was', "\xff");

sub closed {
	return scalar $dbh->selectrow_array(
		"SELECT count(*) FROM order_timeout.orders WHERE order_id ~ '^s[0-9]' AND state = 'expired'");
}

# The two crash on the way.
my %crash = (
	130 => sub { $broker->crash; $broker->start },
	270 => sub { $server->stop('immediate'); $server->start; $dbh = $server->dbh('shop') });
my $kills = 0;
my $end = time + 120;
# A fast consumer may have closed all before the second one is due.
until ((closed() == 400 && !%crash) || time > $end) {
	start_consumer() unless $consumer;
	my $target = closed() + 5 + int rand 40;
	eventually(sub { my $n = closed(); $n >= $target || $n == 400 }, 20);
	for my $when (grep { $_ <= closed() } sort keys %crash) {
		delete($crash{$when})->();
		# It connects again by itself.
		my $before = closed();
		ok(eventually(sub { my $n = closed(); $n > $before || $n == 400 }, 60), "$when: it goes on after the crash") or diag(logged());
	}
	$kills++, end_consumer('KILL') if $consumer;
}
# Messages that come again have kept their place, so nothing is left before this one when it is closed.
due('sentinel');
$broker->publish('dlx.orders', 'sentinel');
start_consumer();
becomes('sentinel', 'expired', 'no message is left');
is(end_consumer('TERM'), 0, 'it stops');
ok(empty(), 'the queues are empty');
diag("$kills kills");
cmp_ok($kills, '>', 2, 'it was killed again and again');
is_deeply([ keys %crash ], [], 'the broker and the database crashed');
is_deeply(
	$dbh->selectall_arrayref(
		"SELECT state, count(*) FROM order_timeout.orders WHERE order_id ~ '^s[0-9]' GROUP BY state ORDER BY state"),
	[ [ 'expired', 400 ], [ 'paid', 100 ] ], 'every due order is expired, every paid one paid');
is($dbh->selectrow_array(
	"SELECT count(*) FROM order_timeout.events WHERE type = 'order.expired' AND aggregateid ~ '^s[0-9]'"),
	400, 'each was closed once');
# More than once if the consumer was killed before it acknowledged.
is($broker->take('dlx.orders.rejected')->[0]{body}, "\xff", 'garbage is put aside');
balanced($dbh, 'the funds');
sums_agree($dbh, 'the sums');
ok(!$server->log_contains(qr/PANIC|was terminated by signal|TRAP:/), 'no backend has crashed');

done_testing();
