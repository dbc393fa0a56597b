# connect/relay: events go to RabbitMQ. The relay is killed at any moment, the broker and the database crash, messages are
# refused, and every event arrives; a repeat has the id of its first copy.
#
# OT_SEED repeats the choices of a run, though not their interleaving.

use strict;
use warnings;

use File::Path qw(make_path);
use FindBin;
use JSON::PP;
use OTBroker;
use OTPort qw(free_port);
use OTServer;
use OTTest;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'the relay only calls functions, and their store does not matter: once is enough'
	if ($ENV{OT_STORE} // 'auto') eq 'sql';
plan skip_all => OTBroker->missing if OTBroker->missing;
plan skip_all => 'librabbitmq is not installed (Debian packages librabbitmq-dev libpq-dev pkg-config)'
	if system 'pkg-config --exists librabbitmq libpq 2>/dev/null';

my $seed = $ENV{OT_SEED} // int rand 1_000_000;
diag("OT_SEED=$seed");
srand $seed;

my $sources = "$FindBin::Bin/../..";
my $server = OTServer->started('relay');
my $dir = $server->basedir;

# ------------------------------------------------------------ built, installed, and wrong options

my $built = `make -s -C $sources relay-install CFLAGS='-O1 -g -Werror' PREFIX=/usr DESTDIR=$dir/root 2>&1`;
is($?, 0, 'it builds without warnings') or BAIL_OUT($built);
my $program = "$dir/root/usr/bin/order_timeout_relay";
like(`$program --version`, qr/^order_timeout_relay \d/, '--version');
my $help = `$program --help`;
my $page = PostgreSQL::Test::Utils::slurp_file("$dir/root/usr/share/man/man1/order_timeout_relay.1");
ok($page =~ /\\-\\-\Q@{[ $_ =~ s{-}{\\-}gr ]}\E/, "the manual page has --$_") for $help =~ /--([a-z-]+)/g;
is(`groff -ww -man -Tutf8 $dir/root/usr/share/man/man1/order_timeout_relay.1 2>&1 >/dev/null`, '', 'which groff reads')
	if !system 'groff --version >/dev/null 2>&1';

sub refused {
	my ($pattern, @arguments) = @_;
	my $quoted = join ' ', map { "'$_'" } @arguments;
	like(`$program $quoted 2>&1`, $pattern, "refused: @arguments");
	return is($? >> 8, 2, 'with status 2');
}

{
	local $ENV{AMQP_URL} = 'nonsense';
	refused(qr/--consumer is missing/);
	refused(qr/could not parse AMQP URL/, qw(--consumer c));
	refused(qr/--batch is a number from 1 to 10000/, qw(--consumer c --batch 0));
	refused(qr/--dbname has a password/, qw(--consumer c --dbname), 'host=db password=secret');
	refused(qr/--dbname: missing "="/, qw(--consumer c --dbname), 'nonsense');
	refused(qr/belong together/, qw(--consumer c --cert), 'file');
	refused(qr/No such file/, qw(--consumer c --amqp-url-file), "$dir/none");
	refused(qr/"more" is no option/, qw(--consumer c more));
	delete $ENV{AMQP_URL};
	refused(qr/no URL of a broker/, qw(--consumer c));
}

# ------------------------------------------------------------ a database, a broker with TLS

my $tls_port = free_port();
my $tls = "$dir/tls";
mkdir $tls or die "$tls: $!\n";

sub openssl { my ($command) = @_; system("cd $tls && openssl $command >>openssl.log 2>&1") == 0 or die "openssl $command\n"; return }

openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$_ -keyout $_.key -out $_.pem") for qw(authority stranger);
for my $name (qw(localhost relay)) {
	openssl("req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name.key -out $name.csr");
	openssl("x509 -req -days 2 -in $name.csr -CA authority.pem -CAkey authority.key -CAcreateserial -out $name.pem");
}

$server->safe_psql('postgres', 'CREATE DATABASE shop; CREATE ROLE relay LOGIN; CREATE ROLE locked LOGIN');
my $hba = $server->data_dir . '/pg_hba.conf';
my $rules = PostgreSQL::Test::Utils::slurp_file($hba);
PostgreSQL::Test::Utils::append_to_file("$hba.new", "local all locked scram-sha-256\n$rules");
rename "$hba.new", $hba or die "$hba: $!\n";
$server->reload;
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');
$dbh->do("SELECT order_timeout.grant_access(role_name => 'relay', access => 'consumer')");
call($dbh, 'create_consumer', 'rabbitmq', undef, undef, 'true');
my $broker = OTBroker->started("$dir/broker", "listeners.ssl.1 = 127.0.0.1:$tls_port", 'max_message_size = 100000',
	"ssl_options.cacertfile = $tls/authority.pem", "ssl_options.certfile = $tls/localhost.pem",
	"ssl_options.keyfile = $tls/localhost.key", 'ssl_options.verify = verify_peer', 'ssl_options.fail_if_no_peer_cert = true');
$broker->bind_queue('all', 'order_timeout', '#');

# ------------------------------------------------------------ the relay

my %relays;
END {
	kill 'KILL', $_->{pid} for values %relays;
}

# Each has a name, and a log of that name.
sub start_relay {
	my ($name, @options) = @_;
	my %environment = (AMQP_URL => $broker->url, ref $options[0] ? %{ shift @options } : ());
	my $pid = fork() // die "fork: $!\n";
	$relays{$name} = { pid => $pid };
	return if $pid;
	local @SIG{qw(INT TERM)} = ('DEFAULT') x 2;
	local %ENV = (%ENV, %environment);
	open STDERR, '>>', "$dir/$name.log"
		and exec $program, qw(--consumer rabbitmq --verbose --dbname), $server->connstr('shop') . ' user=relay', @options;
	POSIX::_exit(1);
}

# Its exit status, or the signal that ended it.
sub end_relay {
	my ($name, $signal) = @_;
	my $pid = delete($relays{$name})->{pid};
	kill $signal, $pid;
	waitpid $pid, 0;
	return $? & 127 || $? >> 8;
}

sub logged { my ($name) = @_; return -e "$dir/$name.log" ? PostgreSQL::Test::Utils::slurp_file("$dir/$name.log") : '' }

sub has_logged {
	my ($name, $pattern, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(eventually(sub { logged($name) =~ $pattern }, 20), $what) || diag(logged($name));
}

# All there are, in the order of their ids.
sub written { return $dbh->selectcol_arrayref('SELECT id FROM order_timeout.events WHERE id > ? ORDER BY id', undef, @_) }

sub last_id { return $dbh->selectrow_array('SELECT coalesce(max(id), 0) FROM order_timeout.events') }

# As if it were over.
sub end_lease { return $dbh->do('UPDATE order_timeout.consumer_positions SET leased_until = clock_timestamp()') }

# The view does not say 0 while a batch is out.
sub all_read { return $dbh->selectrow_array("SELECT unread = 0 FROM order_timeout.consumers WHERE consumer = 'rabbitmq'") }

sub is_leased {
	return $dbh->selectrow_array("SELECT leased_until > clock_timestamp() FROM order_timeout.consumers WHERE consumer = 'rabbitmq'");
}

sub all_relayed {
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(eventually(\&all_read, 40), $what) || diag(logged($name));
}

# The messages of all events since then, once each.
sub arrived_once {
	my ($since, $what) = @_;
	my @messages = @{ $broker->take('all') };
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is_deeply([ map { $_->{message_id} } @messages ], written($since), $what);
	return @messages;
}

# ------------------------------------------------------------ nothing fails

call($dbh, 'create_order', "a$_", 100, 'EUR') for 1 .. 30;
start_relay('plain', qw(--listen --poll-interval 3600000 --batch 7));
has_logged('plain', qr/relayed 2 events/, 'it relays what is there');
call($dbh, 'cancel_order', "a$_") for 1 .. 20;
call($dbh, 'create_order', "\x{8ba2}\x{5355} \"1\"", 100, 'EUR');
all_relayed('plain', 'and what comes, at once');
my @messages = arrived_once(0, 'each arrives once, in order');
is_deeply(
	[ map { [ @$_{qw(content_type delivery_mode app_id type)} ] } grep { $_->{message_id} == 1 } @messages ],
	[ [ 'application/json', 2, 'order_timeout_relay', 'order.created' ] ], 'the properties');
is(scalar(grep { $_->{key} ne $_->{type} } @messages), 0, 'the routing key is the type');
my $rows = $dbh->selectall_hashref(<<'END', 'id');
SELECT id, aggregateid, type, payload, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_at,
       floor(extract(epoch FROM created_at)) AS seconds
  FROM order_timeout.events
END
for my $message (@messages) {
	my $row = $rows->{ $message->{message_id} };
	my $body = decode_json($message->{body});
	is_deeply(
		[ @$body{qw(id aggregateid type created_at)}, $message->{timestamp} - $row->{seconds} ],
		[ @$row{qw(id aggregateid type created_at)}, 0 ], "the event $row->{id}") or last;
	my $payload = $dbh->selectrow_array('SELECT payload = ?::jsonb FROM order_timeout.events WHERE id = ?', undef,
		JSON::PP->new->allow_nonref->encode($body->{payload}), $row->{id});
	ok($payload, 'its payload') or last;
}
is(end_relay('plain', 'TERM'), 0, 'SIGTERM ends it with status 0');
like(logged('plain'), qr/stopped: 51 events were relayed\n\z/, 'and it says what it did');
unlike(logged('plain'), qr/WARNING|ERROR/, 'nothing was wrong');

# ------------------------------------------------------------ what cannot work yet

my $secret = 'amqp://guest:secret@127.0.0.1:' . $broker->{port};
my %waits = (
	password   => [ qr/ERROR broker: log in: 403 ACCESS_REFUSED/, { AMQP_URL => $secret } ],
	consumer   => [ qr/ERROR database: 22023 .*consumer "nobody" does not exist/, qw(--consumer nobody) ],
	exchange   => [ qr/ERROR broker: exchange: 404 NOT_FOUND - no exchange 'none'/, qw(--no-declare --exchange none) ],
	other_type => [ qr/ERROR broker: exchange: 406 PRECONDITION_FAILED/, qw(--exchange amq.direct) ],
	rights     => [ qr/ERROR database: 42501 .*let the operator create it/, qw(--consumer new --create-consumer) ],
	no_schema  => [ qr/ERROR database: 3F000 .*is PGDATABASE the database/, '--dbname', $server->connstr('postgres') . ' user=relay' ],
	locked     => [ qr/ERROR database: .*(?:password|fe_sendauth)/, '--dbname', $server->connstr('shop') . ' user=locked' ],
	no_server  => [ qr/ERROR database: .*No such file/, '--dbname', "host=$dir/none user=relay" ],
	no_broker  => [ qr/ERROR broker: connect to 127.0.0.1, port 1: /, { AMQP_URL => 'amqp://127.0.0.1:1' } ]);
start_relay($_, @{ $waits{$_} }[ 1 .. $#{ $waits{$_} } ]) for sort keys %waits;
for my $name (sort keys %waits) {
	has_logged($name, $waits{$name}[0], "$name: it says what is wrong");
	has_logged($name, qr/(?:.* ERROR .*again in .*\n(?:.*\n)*?){2}/, 'and tries again');
}
unlike(join('', map { logged($_) } keys %waits), qr/guest:secret/, 'no log has a password');
is(end_relay($_, 'INT'), 0, "$_: SIGINT ends it") for sort keys %waits;
start_relay('created', '--consumer', 'new', '--create-consumer', '--dbname', $server->connstr('shop') . ' user=postgres',
	'--exchange', 'elsewhere');
ok(eventually(sub { $dbh->selectrow_array("SELECT unread = 0 FROM order_timeout.consumers WHERE consumer = 'new'") }, 20),
	'--create-consumer, for a role that may');
end_relay('created', 'TERM');
call($dbh, 'drop_consumer', 'new');

# ------------------------------------------------------------ TLS

my $amqps = { AMQP_URL => "amqps://guest:guest\@localhost:$tls_port/%2F" };
my @certificate = ('--cert', "$tls/relay.pem", '--key', "$tls/relay.key");
my $since = last_id();
call($dbh, 'create_order', 'tls', 100, 'EUR');
my %refuses = (
	stranger    => [ $amqps, @certificate, '--cacert', "$tls/stranger.pem" ],
	system      => [ $amqps, @certificate ],
	other_host  => [ { AMQP_URL => "amqps://guest:guest\@127.0.0.1:$tls_port/%2F" }, @certificate, '--cacert', "$tls/authority.pem" ],
	no_own      => [ $amqps, '--cacert', "$tls/authority.pem" ]);
start_relay($_, @{ $refuses{$_} }) for sort keys %refuses;
has_logged($_, qr/ERROR broker: .*(?:SSL|hostname|certificate|closed|socket)/, "$_: no connection") for sort keys %refuses;
unlike(logged($_), qr/broker: connected/, "$_: none") for sort keys %refuses;
is(end_relay($_, 'TERM'), 0, "$_: ended") for sort keys %refuses;
ok(!all_read(), 'nothing was relayed');
PostgreSQL::Test::Utils::append_to_file("$dir/url", "$amqps->{AMQP_URL}\n");
chmod 0600, "$dir/url";
start_relay('tls', { AMQP_URL => 'nonsense' }, '--amqp-url-file', "$dir/url", @certificate, '--cacert', "$tls/authority.pem");
all_relayed('tls', 'the right authority, the right name');
arrived_once($since, 'over TLS');
is(end_relay('tls', 'TERM'), 0, 'ended');

# ------------------------------------------------------------ no confirm comes

$since = last_id();
start_relay('paused', qw(--lease 2 --poll-interval 20));
has_logged('paused', qr/broker: connected/, 'connected');
$broker->pause;
call($dbh, 'create_order', "paused$_", 100, 'EUR') for 1 .. 3;
has_logged('paused', qr/no confirm came in time/, 'a confirm that does not come is not waited for');
has_logged('paused', qr/events from \d+ on were not confirmed within half of the lease/, 'the batch is given up');
ok(!all_read(), 'and not acknowledged');
$broker->resume;
all_relayed('paused', 'it comes again');
is(end_relay('paused', 'TERM'), 0, 'ended');
start_relay('stopped', qw(--poll-interval 20));
has_logged('stopped', qr/database: connected/, 'connected');
$broker->pause;
call($dbh, 'create_order', 'paused4', 100, 'EUR');
ok(eventually(\&is_leased, 10), 'a batch in hand');
is(end_relay('stopped', 'TERM'), 0, 'SIGTERM: it ends without the confirm');
like(logged('stopped'), qr/those in hand come again\n\z/, 'and says so');
$broker->resume;
end_lease();

sub distinct { my %seen; return [ grep { !$seen{$_}++ } map { $_->{message_id} } @_ ] }

start_relay('after', qw(--poll-interval 20));
all_relayed('after', 'another one relays it');
is(end_relay('after', 'TERM'), 0, 'ended');
is_deeply([ sort { $a <=> $b } @{ distinct(@{ $broker->take('all') }) } ], written($since), 'all of it arrived');

# ------------------------------------------------------------ the broker does not take it

$since = last_id();
$broker->unbind_queue('all', 'order_timeout', '#');
call($dbh, 'create_order', 'unroutable', 100, 'EUR');
start_relay('mandatory', qw(--mandatory --lease 2 --poll-interval 20));
has_logged('mandatory', qr/no queue is bound for event \d+ \(order.created\)/, 'an event that no queue gets');
has_logged('mandatory', qr/1 events are published again in/, 'is published again');
ok(!all_read(), 'and not acknowledged');
$broker->bind_queue('all', 'order_timeout', '#');
all_relayed('mandatory', 'until a queue gets it');
arrived_once($since, 'once');

$broker->bind_queue('short', 'order_timeout', '#', { 'x-max-length' => 1, 'x-overflow' => 'reject-publish' });
call($dbh, 'create_order', "nacked$_", 100, 'EUR') for 1 .. 3;
has_logged('mandatory', qr/the broker refuses event \d+ \(order.created\)/, 'a queue that is full');
ok(!all_read(), 'nothing that it refuses is acknowledged');
my @short;
ok(eventually(sub { push @short, @{ $broker->take('short') }; all_read() }, 20), 'it gets all of them') or diag(logged('mandatory'));
push @short, @{ $broker->take('short') };
is_deeply([ sort { $a <=> $b } @{ distinct(@short) } ], written($since + 1), 'one after the other');
is(end_relay('mandatory', 'TERM'), 0, 'ended');
$broker->unbind_queue('short', 'order_timeout', '#');
$broker->take('all');

$since = last_id();
call($dbh, 'create_order', $_, 100, 'EUR') for qw(before1 before2);
my ($large) = $dbh->selectrow_array(<<'END');
INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
VALUES ('large', 'order.created', to_jsonb(repeat('x', 200000)), now()) RETURNING id
END
call($dbh, 'create_order', 'behind', 100, 'EUR');
start_relay('large', qw(--lease 2 --poll-interval 20));
has_logged('large', qr/406 PRECONDITION_FAILED/, 'an event that is too large');
has_logged('large', qr/the broker closes because of event $large \(order.created\); it is published again, and what follows waits/,
	'is named');
ok(eventually(sub { $dbh->selectrow_array("SELECT unread = 2 FROM order_timeout.consumers WHERE consumer = 'rabbitmq'") }, 20),
	'what came before it is relayed');
has_logged('large', qr/(?:.*because of event $large .*\n(?:.*\n)*?){3}/, 'it is tried again and again');
is(end_relay('large', 'TERM'), 0, 'ended');
ok(eventually(sub {
	$dbh->selectrow_array("SELECT order_timeout.ack_events('rabbitmq', lease_token) FROM order_timeout.read_events('rabbitmq', 1)")
}, 20), 'the operator passes over it');
start_relay('large', qw(--poll-interval 20));
all_relayed('large', 'what is behind it goes on');
is(end_relay('large', 'TERM'), 0, 'ended');
is_deeply([ sort { $a <=> $b } @{ distinct(@{ $broker->take('all') }) } ], [ grep { $_ != $large } @{ written($since) } ],
	'all others arrived');

# ------------------------------------------------------------ everything dies

$since = last_id();
my @storm = qw(--batch 20 --lease 1 --poll-interval 5 --longest-wait 1);
my ($writers, $orders) = (8, 60);
my $enough = "$dir/enough";

# They go on after a crash; what they repeat is the same call. They write until there is enough of the storm.
my $running = fork_all($writers, sub {
	my ($number) = @_;
	my ($own, $count) = (undef, 0);
	until (++$count > $orders && -e $enough) {
		my $order = "storm $number-$count";
		my $done = eventually(sub {
			eval {
				$own //= $server->dbh('shop');
				call($own, 'create_order', $order, 100, 'EUR');
				call($own, 'cancel_order', $order);
			} or undef $own;
		}, 60);
		$done or die "$order was not written\n";
		sleep 0.15;
	}
	return { done => 1 };
});

my $kills = 0;

sub kill_and_start {
	sleep rand 0.3;
	$kills++;
	end_relay('storm', 'KILL');
	return start_relay('storm', @storm);
}

sub times_relayed { return scalar(() = logged('storm') =~ /relayed \d+ events/g) }

sub goes_on {
	my ($what) = @_;
	my $before = times_relayed();
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(eventually(sub { times_relayed() > $before }, 40), $what) || diag(logged('storm'));
}

start_relay('storm', @storm);
goes_on('the storm begins');
kill_and_start() for 1 .. 3;
goes_on('killed three times');

$server->stop('immediate');
$server->start;
$dbh = $server->dbh('shop');
goes_on('the database was restarted');
like(logged('storm'), qr/ERROR database: .*; again in /, 'which it saw');
kill_and_start();

# What is on its way to the broker is lost with it, and so is the relay that waits for the confirms.
goes_on('it publishes');
$broker->pause;
my $at_pause = last_id();
ok(eventually(sub { last_id() > $at_pause + 50 }, 20), 'events are written while the broker stands still');
end_relay('storm', 'KILL');
$broker->crash;
start_relay('storm', @storm);
has_logged('storm', qr/ERROR broker: connect to /, 'no broker');
$broker->start;
goes_on('the broker was restarted');
kill_and_start() for 1 .. 3;
PostgreSQL::Test::Utils::append_to_file($enough, '');
answers($running);
all_relayed('storm', 'all of it is read and acknowledged');
is(end_relay('storm', 'TERM'), 0, 'ended');

@messages = @{ $broker->take('all') };
my $written = written($since);
my $first = distinct(@messages);
diag("$kills kills, " . @$written . ' events, ' . (@messages - @$first) . ' repeats');
cmp_ok(scalar @$written, '>=', 2 * $writers * $orders, 'so many events were written');
is_deeply([ sort { $a <=> $b } @$first ], $written, 'every event arrived, and none that is not there');

my (%latest, @back, %body);
for my $message (@messages) {
	my $event = decode_json($message->{body});
	my $id = $message->{message_id};
	ok(0, "a repeat of $id differs") if ($body{$id} // $message->{body}) ne $message->{body};
	next if $body{$id};
	$body{$id} = $message->{body};
	push @back, $id if $id < ($latest{ $event->{aggregateid} } // 0);
	$latest{ $event->{aggregateid} } = $id;
}
is_deeply(\@back, [], "the events of each order came in their order");
ok(!$server->log_contains(qr/PANIC|was terminated by signal|TRAP:/), 'no backend has crashed');

done_testing();
