# Whatever way a database is dumped and restored, every row and every number
# comes back: a dump of the copy equals the dump of the original.

use strict;
use warnings;
use utf8;

use OTServer;
use OTTest;
use Test::More;

my $server = OTServer->started('dump');
my $prepare = "CREATE EXTENSION order_timeout; SELECT order_timeout.grant_access('app', 'application')";
$server->safe_psql('postgres', 'CREATE DATABASE shop; CREATE ROLE app LOGIN; CREATE ROLE another SUPERUSER LOGIN');
$server->safe_psql('shop', $prepare);
my $shop = $server->dbh('shop');

# ------------------------------------------------------------ every kind of row

$shop->do("UPDATE order_timeout.policies SET pay_within = '45 minutes', refund_jitter = 0 WHERE policy = 'default'");
$shop->do('INSERT INTO order_timeout.policies (policy, on_late) VALUES (?, ?)', undef, @$_)
	for [ 'hold', 'hold' ], [ 'reopen', 'reopen' ], [ "nobody's \"own\" \\ Ordnung", 'refund' ];

sub order {
	my ($id, $policy, $in) = @_;
	return call($shop, 'create_order', $id, 100, 'EUR', $in, undef, $policy,
		qq({"note": "tab \\t, line \\n, Ä, \\\\"}));
}

sub pay {
	my ($id, $gateway, $amount, $currency) = @_;
	my $number = $shop->selectrow_array('SELECT count(*) FROM order_timeout.payments');
	return call($shop, 'record_payment', $id, $gateway, "p-$number", $amount // 100, $currency // 'EUR',
		'2024-02-29 23:59:59.999999+00', '{"scheme": "none"}');
}

# A refund that a worker has under way, through a gateway of its own.
sub refund_at {
	my ($gateway) = @_;
	order("order $gateway");
	call($shop, 'cancel_order', "order $gateway");
	pay("order $gateway", $gateway);
	return rows($shop, 'claim_refunds', "worker of $gateway", 1, '1 hour', $gateway)->[0];
}

sub complete {
	my ($refund, @arguments) = @_;
	return call($shop, 'complete_refund', $refund->{refund_ref}, $arguments[0], $refund->{lease_token},
		@arguments[1 .. $#arguments]);
}

order('pending');
order('part');
pay('part', 'gate', 30);
call($shop, 'create_order', 'free', 0, 'JPY');
order('paid');
pay('paid', 'gate', 60);
pay('paid', 'gate', 70);
pay('paid', 'gate');
pay('paid', 'gate', 5, 'USD');
rows($shop, 'request_refund', 'paid', 'key 1', 20, 'a wish');
order('cancelled');
pay('cancelled', 'gate', 10);
call($shop, 'cancel_order', 'cancelled', "line\nand \\N");
pay('nobody knows', 'gate');
order("$_ late", $_, '20 milliseconds') for qw(hold reopen);
order('refund late', 'default', '20 milliseconds');
pay('refund late', 'gate', 40);
$shop->do('SELECT pg_sleep(0.05)');
call($shop, 'sweep_once');
pay("$_ late", 'gate') for qw(hold reopen refund);

refund_at('processing');
complete(refund_at('submitted'), 'submitted');
complete(refund_at('unknown'), 'unknown', undef, 'timed out');
complete(refund_at('failed'), 'failed', undef, 'no, not now');
complete(refund_at('rejected'), 'rejected', undef, 'never');
complete(refund_at('in part'), 'succeeded', 'g-0', undef, 99);
my $conflict = refund_at('conflict');
complete($conflict, 'succeeded', $_) for qw(g-1 g-2);
my $reversed = refund_at('reversed');
complete($reversed, 'succeeded', 'g-3');
call($shop, 'reverse_refund', $reversed->{refund_ref}, 'account closed');
my $settled = refund_at('settled');
complete($settled, 'rejected');
call($shop, 'settle_refund', $settled->{refund_ref}, 'in cash');
call($shop, 'record_refund', 'gate', 'p-2', 'chargeback-1', 15, 'chargeback');

order('stuck', 'default', '20 milliseconds');
$shop->do($_) for
	"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'refused'; END \$\$",
	'CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.orders FOR EACH ROW EXECUTE FUNCTION refuse()',
	"CALL order_timeout.sweep('300 milliseconds')",
	'DROP TRIGGER refuse ON order_timeout.orders',
	'DROP FUNCTION refuse';

# What is not there cannot get lost.
my %wanted = (
	'orders.state'         => [qw(cancelled expired paid pending)],
	'payments.disposition' => [qw(applied held late orphan surplus wrong_currency)],
	'refunds.state' => [qw(failed needs_attention pending processing reversed submitted succeeded unknown)],
);
for my $column (sort keys %wanted) {
	my ($table, $name) = split /\./, $column;
	is_deeply($shop->selectcol_arrayref(
		"SELECT DISTINCT $name COLLATE \"C\" FROM order_timeout.$table ORDER BY 1"),
		$wanted{$column}, "there are rows of every $column");
}
for my $table (qw(policies conflicts set_aside sweeps events)) {
	isnt($shop->selectrow_array("SELECT count(*) FROM order_timeout.$table"), 0, "there are rows in $table");
}
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
sub contents_of {
	my ($dbh) = @_;
	my %contents;
	for my $relation (@{ $dbh->selectall_arrayref(
		"SELECT relname, relkind FROM pg_class WHERE relnamespace = 'order_timeout'::regnamespace AND relkind IN ('r', 'S')") }) {
		my ($name, $kind) = @$relation;
		my $row = $kind eq 'r' ? 't::text' : q{last_value || ',' || is_called};
		$contents{$name} = $dbh->selectcol_arrayref("SELECT $row FROM order_timeout.$name AS t ORDER BY 1");
	}
	return \%contents;
}
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

# ------------------------------------------------------------ the end

my $left = q{SELECT count(*) FROM pg_namespace WHERE nspname = 'order_timeout'};
is($shop->selectrow_array($left), 1, 'before DROP EXTENSION');
$shop->do('DROP EXTENSION order_timeout');
is($shop->selectrow_array($left), 0, 'DROP EXTENSION leaves nothing');
$shop->do('CREATE EXTENSION order_timeout');
is($shop->selectrow_array('SELECT count(*) FROM order_timeout.orders'), 0, 'it can be made again');
is($shop->selectrow_array('SELECT count(*) FROM order_timeout.policies'), 1, 'as new');

done_testing();
