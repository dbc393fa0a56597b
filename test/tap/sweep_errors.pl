# What a user's triggers raise, at once or at the commit, is one order's
# business: sweep() sets it aside and closes the others, whatever the SQLSTATE.
# And an extension that is dropped under a sweep is no error at all.

use strict;
use warnings;

use DBD::Pg qw(:async);
use OTServer;
use OTTest;
use Test::More;

my $server = OTServer->started('errors');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');
$dbh->do("CREATE FUNCTION raise() RETURNS trigger LANGUAGE plpgsql AS
	\$\$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = TG_ARGV[0]; END \$\$");

# The bad one is in the middle, so that there is something to lose before it
# and something to do after it.
sub due_orders {
	my ($prefix) = @_;
	create_orders($dbh, $prefix, 1, 5, "clock_timestamp() + i * interval '1 millisecond' + interval '20 milliseconds'");
	$dbh->do('SELECT pg_sleep(0.05)');
	return;
}

my $made = 0;
for my $when ('BEFORE UPDATE', 'AFTER UPDATE', 'at the commit') {
	for my $sqlstate (qw(53300 55P03 40001 25006 P0001)) {
		my $name = "$when, $sqlstate";
		my $prefix = 'o' . ++$made . '-';

		$dbh->do(sprintf "CREATE %sTRIGGER raise %s ON order_timeout.orders %s FOR EACH ROW
			WHEN (NEW.order_id = '%s') EXECUTE FUNCTION raise('%s')",
			$when eq 'at the commit'
			? ('CONSTRAINT ', 'AFTER UPDATE', 'DEFERRABLE INITIALLY DEFERRED')
			: ('', $when, ''),
			"${prefix}3", $sqlstate);
		due_orders($prefix);
		is(error_of($dbh, sub { $dbh->do("CALL order_timeout.sweep('300 milliseconds')") }), '', "$name: the sweep goes on");
		is_deeply($dbh->selectcol_arrayref(
				"SELECT order_id FROM order_timeout.orders WHERE starts_with(order_id, ?) AND state = 'pending'", undef, $prefix),
			["${prefix}3"], "$name: the others are closed");
		is_deeply($dbh->selectcol_arrayref(
				"SELECT why FROM order_timeout.attention WHERE kind = 'set_aside' AND order_id = ?", undef, "${prefix}3"),
			["$sqlstate: not this one"], "$name: it is set aside with the reason");
		$dbh->do('DROP TRIGGER raise ON order_timeout.orders');
	}
}
balanced($dbh, 'the funds');

# Its own row is suppressed: the call says so, and the server lives on.
$dbh->do('CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$');
$dbh->do('CREATE TRIGGER nothing BEFORE INSERT ON order_timeout.sweeps FOR EACH ROW EXECUTE FUNCTION nothing()');
is(error_of($dbh, sub { $dbh->do("CALL order_timeout.sweep('100 milliseconds')") }), '27000',
	'a run without its row is an error');
is($dbh->selectrow_array('SELECT 1'), 1, 'and no crash');
$dbh->do('DROP TRIGGER nothing ON order_timeout.sweeps');

{
	my $session = $server->dbh('shop', PrintWarn => 1);
	my $pid = $session->{pg_pid};
	my $said = '';
	local $SIG{__WARN__} = sub { $said .= "@_" };
	$session->do("CALL order_timeout.sweep('1 minute')", { pg_async => PG_ASYNC });
	eventually(sub { $dbh->selectrow_array('SELECT count(*) FROM order_timeout.sweeps WHERE pid = ?', undef, $pid) })
		or die "the sweep does not start\n";
	$dbh->do('DROP EXTENSION order_timeout');
	my $sqlstate = ended_with($session);
	like($said, qr/WARNING: .*dropped/, 'the extension is dropped under a waiting sweep: it says so');
	is($sqlstate, '', 'and ends as if its time were up');
	is($session->selectrow_array('SELECT pg_backend_pid()'), $pid, 'its session goes on');
}

ok(!$server->log_contains(qr/PANIC|was terminated by signal|TRAP:/), 'no backend has crashed');

done_testing();
