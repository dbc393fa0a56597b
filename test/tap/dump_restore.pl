# Whatever way a database is dumped and restored, every row and every number
# comes back: a dump of the copy equals the dump of the original.

use strict;
use warnings;
use utf8;

use OTRows;
use OTServer;
use OTTest;
use Test::More;

my $server = OTServer->started('dump');
my $prepare = "CREATE EXTENSION order_timeout; SELECT order_timeout.grant_access('app', 'application')";
$server->safe_psql('postgres', 'CREATE DATABASE shop; CREATE ROLE app LOGIN; CREATE ROLE another SUPERUSER LOGIN');
$server->safe_psql('shop', $prepare);
my $shop = $server->dbh('shop');

every_kind_of_row($shop);
has_every_kind_of_row($shop, 'before');
balanced($shop, 'the funds before');

# ------------------------------------------------------------ there and back

# pg_dump writes a random key unless it is told one, if it knows of keys.
my @key = run_or_die('pg_dump', '--help') =~ /--restrict-key/ ? ('--restrict-key=x') : ();

sub run_or_die {
	my (@command) = @_;
	my ($out, $err);
	$server->run_log(\@command, '>', \$out, '2>', \$err) or die "@command:\n$err\n";
	return $out;
}

# Who owns it is for those who restore it to decide.
sub dump_of { return run_or_die('pg_dump', @key, '--no-owner', '-d', $_[0]) }
my $original = dump_of('shop');

# What a dump leaves out would be missing in both; so the tables are asked too.
my $contents = contents_of($shop);

my $by_psql = sub {
	my ($db, $file) = @_;
	run_or_die('psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-f', $file);
};
my $by_restore = sub {
	my ($db, $file, @options) = @_;
	run_or_die('pg_restore', '--exit-on-error', @options, '-d', $db, $file);
};

# name, options of pg_dump, how to restore, is the extension there before?
my @ways = (
	[ 'plain',          [],                                $by_psql,                                   0 ],
	[ 'inserts',        ['--inserts'],                     $by_psql,                                   0 ],
	[ 'custom',         ['-Fc'],                           $by_restore,                                0 ],
	[ 'another user',   ['-Fc'],                           sub { $by_restore->(@_, '-U', 'another') }, 0 ],
	[ 'directory',      [qw(-Fd -j2)],                     sub { $by_restore->(@_, '-j2') },           0 ],
	[ 'data',           ['--data-only'],                   $by_psql,                                   1 ],
	[ 'data of custom', ['-Fc'],                           sub { $by_restore->(@_, '--data-only') },   1 ],
	[ 'clean',          [qw(--clean --if-exists)],         $by_psql,                                   1 ],
);
for my $way (@ways) {
	my ($name, $options, $restore, $prepared) = @$way;
	my $db = 'copy_by_' . $name =~ tr/ /_/r;
	my $file = $server->backup_dir . "/$db";

	run_or_die('createdb', $db);
	$server->safe_psql($db, $prepare) if $prepared;
	run_or_die('pg_dump', @$options, '-f', $file, '-d', 'shop');
	ok(eval { $restore->($db, $file); 1 }, "$name: restored without an error") or diag($@);
	my $copy = dump_of($db);
	ok($copy eq $original, "$name: a dump of the copy equals that of the original")
		or diag(difference($original, $copy));

	my $dbh = $server->dbh($db);
	is_deeply(contents_of($dbh), $contents, "$name: every row is there, and the numbers go on");
	balanced($dbh, "$name: the funds");
	my ($last) = $dbh->selectrow_array('SELECT max(id) FROM order_timeout.events');
	is(call($server->dbh($db, user => 'app'), 'create_order', 'new', 100, 'EUR')->{outcome}, 'created',
		"$name: the application goes on");
	my ($next) = $dbh->selectrow_array("SELECT min(id) FROM order_timeout.history('new')");
	cmp_ok($next, '>', $last, "$name: event numbers go on");
	my ($ref, $token) = $dbh->selectrow_array(
		"SELECT refund_ref, lease_token FROM order_timeout.refunds WHERE state = 'processing'");
	is(call($dbh, 'complete_refund', $ref, 'succeeded', $token)->{outcome}, 'recorded',
		"$name: the worker's answer arrives");
	balanced($dbh, "$name: the funds, later");
	$dbh->disconnect;
}

# The first lines that differ.
sub difference {
	my ($old, $new) = map { [ split /\n/ ] } @_;
	my ($from) = grep { ($old->[$_] // '') ne ($new->[$_] // '') } 0 .. $#$old;
	return join "\n", "from line $from:", map { $_ // '(the end)' }
		'original:', @$old[ $from .. $from + 2 ], 'copy:', @$new[ $from .. $from + 2 ];
}

# ------------------------------------------------------------ linked tables

# Their triggers name functions of the extension. They are there after the rows: a restore creates no order.
run_or_die('createdb', $_) for qw(linked linked_copy);
my $linked = $server->dbh('linked');
$linked->do($_) for
	'CREATE EXTENSION order_timeout',
	'CREATE TABLE purchase (id bigint PRIMARY KEY, status text, total bigint)',
	q{SELECT order_timeout.link_table(table_name => 'purchase', key_column => 'id', status_column => 'status',
		statuses => '{"pending": "new", "cancelled": "gone"}', amount_column => 'total', currency => 'EUR', track => true)},
	q{INSERT INTO purchase VALUES (1, 'new', 100)};
my $file = $server->backup_dir . '/linked';
run_or_die('pg_dump', '-Fc', '-f', $file, '-d', 'linked');
$by_restore->('linked_copy', $file);
my $restored = $server->dbh('linked_copy');
is_deeply(contents_of($restored), contents_of($linked), 'a linked table: every row is there');
$restored->do(q{INSERT INTO purchase VALUES (2, 'new', 100)});
call($restored, 'cancel_order', '1');
is($restored->selectrow_array(q{SELECT string_agg(p.id || ' ' || p.status || ' ' || o.state, ', ' ORDER BY p.id)
	FROM purchase p JOIN order_timeout.orders o ON o.order_id = p.id::text}), '1 gone cancelled, 2 new pending', 'both sides follow');
is(call($restored, 'unlink_table', 'purchase')->{outcome}, 'unlinked', 'it is unlinked');
is($restored->selectrow_array(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'purchase'::regclass}), 0, 'and has no trigger any more');

# ------------------------------------------------------------ the end

my $left = q{SELECT count(*) FROM pg_namespace WHERE nspname = 'order_timeout'};
is($shop->selectrow_array($left), 1, 'before DROP EXTENSION');
$shop->do('DROP EXTENSION order_timeout');
is($shop->selectrow_array($left), 0, 'DROP EXTENSION leaves nothing');
$shop->do('CREATE EXTENSION order_timeout');
is($shop->selectrow_array('SELECT count(*) FROM order_timeout.orders'), 0, 'it can be made again');
is($shop->selectrow_array('SELECT count(*) FROM order_timeout.policies'), 1, 'as new');

done_testing();
