# sweep() commits, and an error may come at any moment: whatever happens, the
# session goes on as the role that it was. The role here may call sweep() and
# nothing else.

use strict;
use warnings;

use DBD::Pg qw(:async);
use OTServer;
use OTTest;
use Test::More;

my $server = OTServer->started('user');
$server->safe_psql('postgres', <<'END');
CREATE DATABASE shop;
CREATE ROLE plain LOGIN;
END
my $dbh = $server->dbh('shop');
$dbh->do($_) for
	'CREATE EXTENSION order_timeout',
	'GRANT USAGE ON SCHEMA order_timeout TO plain',
	'GRANT EXECUTE ON PROCEDURE order_timeout.sweep TO plain';

# What triggers do to a sweep. Everybody may call them, for they run as
# whoever is current when they fire.
$dbh->do($_) for
	"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
	 \$\$ BEGIN RAISE EXCEPTION 'refused'; END \$\$",
	"CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
	 \$\$ BEGIN PERFORM pg_catalog.pg_sleep(30); RETURN NEW; END \$\$";

my $made = 0;

sub due_orders {
	my $prefix = 'o' . ++$made . '-';
	create_orders($dbh, $prefix, 1, 10, "clock_timestamp() + interval '30 milliseconds'");
	$dbh->do('SELECT pg_sleep(0.05)');
	return;
}

# One session, to the end of the test: what one error leaves behind would
# show after all the following ones too.
my $session = $server->dbh('shop', user => 'plain');
my $pid = answer('SELECT pg_backend_pid()');
my $default_path = answer('SHOW search_path');

sub answer { return scalar $session->selectrow_array($_[0]) }

# The SQLSTATE that a statement ends with, '' for success.
sub sqlstate {
	my ($sql) = @_;
	return error_of($session, sub { $session->do($sql) });
}

sub call_sweep {
	my ($arguments) = @_;
	return sqlstate("CALL order_timeout.sweep($arguments)");
}

# Cancels a sweep when it has committed something.
sub cancel_after_commit {
	$session->do("CALL order_timeout.sweep('1 minute', 3)", { pg_async => PG_ASYNC });
	eventually(sub {
		$dbh->selectrow_array('SELECT max(expired) > 0 FROM order_timeout.sweeps WHERE pid = ? AND ended_at IS NULL',
			undef, $pid);
	}) or die "the sweep closes nothing\n";
	$dbh->do('SELECT pg_cancel_backend(?)', undef, $pid);
	return ended_with($session);
}

sub is_plain {
	my ($name, $session_user) = @_;
	is(answer("SELECT current_user || ',' || session_user || ',' || current_setting('is_superuser')"),
		join(',', 'plain', $session_user // 'plain', 'off'), "$name: who it is");
	is(answer('SHOW search_path'), $default_path, "$name: its search_path");
	is(sqlstate('SELECT * FROM order_timeout.orders'), '42501', "$name: may not read the orders");
	is(sqlstate('DELETE FROM order_timeout.events'),   '42501', "$name: nor write");
	is(sqlstate("SELECT order_timeout.funds('o1-1')"), '42501', "$name: nor call another function");
	is(sqlstate('CREATE TABLE order_timeout.mine (a int)'), '42501', "$name: nor create anything");
	return;
}

sub with_trigger {
	my ($on, $does, $code) = @_;
	my ($table) = $on =~ /ON (\S+)/;
	my $kind = $on =~ /DEFERR/ ? 'CONSTRAINT TRIGGER' : 'TRIGGER';
	$dbh->do("CREATE $kind disturb $on EXECUTE FUNCTION $does()");
	my $answer = $code->();
	$dbh->do("DROP TRIGGER disturb ON $table");
	return $answer;
}

is_plain('before');

due_orders();
is(call_sweep("'300 milliseconds', 3"), '', 'a sweep that succeeds');
is_plain('after success');

due_orders();
is(cancel_after_commit(), '57014', 'cancelled after a commit');
is_plain('after a cancel');

due_orders();
$session->begin_work;
is(call_sweep("'1 second'"), '2D000', 'in a transaction block');
$session->rollback;
is_plain('after a refusal');

# A closing that fails is set aside and the sweep goes on.
is(with_trigger("BEFORE UPDATE ON order_timeout.orders FOR EACH ROW WHEN (NEW.order_id LIKE '%5')", 'refuse',
	sub { call_sweep("'500 milliseconds', 3") }), '', 'a trigger refuses a closing');
is_plain('after a refused closing');
is($dbh->selectrow_array('SELECT count(*) FROM order_timeout.set_aside'), 1, 'it was set aside');

# From here on it is for the sweep to say whether it goes on; who it is
# afterwards is not.
my %disturbance = (
	'setting aside fails'        => 'BEFORE INSERT OR UPDATE ON order_timeout.set_aside FOR EACH ROW',
	'its own row is refused'     => 'BEFORE INSERT OR UPDATE ON order_timeout.sweeps FOR EACH ROW',
	'its own row, later'         => 'BEFORE UPDATE ON order_timeout.sweeps FOR EACH ROW WHEN (NEW.expired > 3)',
	'an event is refused'        => 'BEFORE INSERT ON order_timeout.events FOR EACH ROW',
	'after the statement'        => 'AFTER UPDATE ON order_timeout.orders FOR EACH ROW',
	'a commit fails'             => 'AFTER INSERT ON order_timeout.events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW',
	'a commit fails, its own row' => 'AFTER UPDATE ON order_timeout.sweeps DEFERRABLE INITIALLY DEFERRED FOR EACH ROW',
);
for my $name (sort keys %disturbance) {
	due_orders();
	$dbh->do("CREATE TRIGGER also BEFORE UPDATE ON order_timeout.orders FOR EACH ROW
		WHEN (NEW.order_id LIKE '%7') EXECUTE FUNCTION refuse()");
	my $sqlstate = with_trigger($disturbance{$name}, 'refuse', sub { call_sweep("'500 milliseconds', 3") });
	$dbh->do('DROP TRIGGER also ON order_timeout.orders');
	diag("$name: " . ($sqlstate || 'the sweep went on'));
	is_plain($name);
}

# Errors that come while it is at its own tables, as their owner.
due_orders();
is(with_trigger('BEFORE UPDATE ON order_timeout.orders FOR EACH ROW', 'dawdle', sub {
	$session->do("SET statement_timeout = '3s'");
	my $sqlstate = call_sweep('');
	$session->do('RESET statement_timeout');
	return $sqlstate;
}), '57014', 'statement_timeout in the middle of a closing');
is_plain('after a timeout');

my $blocker = $server->dbh('shop', AutoCommit => 0);
$blocker->do('LOCK TABLE order_timeout.orders IN ACCESS EXCLUSIVE MODE');
$session->do("SET lock_timeout = '300ms'");
is(call_sweep("'5 seconds'"), '55P03', 'lock_timeout at its own table');
$blocker->rollback;
$session->do('RESET lock_timeout');
is_plain('after a lock that it did not get');

is(answer('SELECT pg_backend_pid()'), $pid, 'all this was one session');

# The same for somebody who became this role only for a while.
$session = $server->dbh('shop');
$session->do('SET ROLE plain');
$pid = answer('SELECT pg_backend_pid()');
due_orders();
is(cancel_after_commit(), '57014', 'after SET ROLE: cancelled after a commit');
is_plain('after SET ROLE', 'postgres');

$dbh->do("CALL order_timeout.sweep('500 milliseconds')");
balanced($dbh, 'the funds');

done_testing();
