# send_refunds() does a worker's work: it hands due refunds and voids to the functions that their policy names, and records
# what these answer. Whatever the function does, the money stays owed until the gateway says that it is back, and each
# attempt has the same key.

use strict;
use warnings;

use DBD::Pg qw(:async);
use OTServer;
use OTTest;
use POSIX qw(ceil);
use Test::More;
use Time::HiRes qw(sleep time);

my $server = OTServer->started('send');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
$server->safe_psql('postgres', 'CREATE ROLE plain LOGIN; CREATE ROLE sender LOGIN');
my $dbh = $server->dbh('shop');
my $outside = $server->connstr('shop') =~ s/'/''/gr;

# The gateway does what its script says for the attempt, the last line again and again. What it knows and who called it is
# written by a connection of its own, so that it is there whatever becomes of the caller; the row of gate.done is the
# function's own write.
$dbh->do($_) for 'CREATE EXTENSION order_timeout', 'CREATE EXTENSION dblink', 'CREATE SCHEMA gate',
	'CREATE TABLE gate.script (payment_ref text PRIMARY KEY, lines text[] NOT NULL)',
	'CREATE TABLE gate.ledger (refund_ref text PRIMARY KEY, amount bigint NOT NULL)',
	'CREATE TABLE gate.done (refund_ref text, attempt integer)',
	'CREATE TABLE gate.calls (n bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT clock_timestamp(),
		refund_ref text, order_id text, gateway text, payment_ref text, amount bigint, currency text, action text,
		attempt integer, caller text, pid integer)',
	<<"END", <<'END', <<'END', <<'END', <<'END';
CREATE FUNCTION gate.outside(statement text) RETURNS void LANGUAGE sql SECURITY DEFINER AS
\$\$ SELECT public.dblink_exec('$outside user=postgres', statement) \$\$
END
CREATE FUNCTION gate.fail(sqlstate text, message text) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '%', message USING ERRCODE = sqlstate; END $$
END
CREATE FUNCTION gate.dawdle(seconds double precision, answer text) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(seconds); RETURN answer; END $$
END
-- The money goes back with the first attempt that gets here; a query only finds it.
CREATE FUNCTION gate.pay_back(refund_ref text, amount bigint, action text, gone boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN
	IF action = 'query' AND EXISTS (SELECT FROM gate.ledger l WHERE l.refund_ref = pay_back.refund_ref) THEN
		RETURN 'succeeded';
	END IF;
	PERFORM gate.outside(format('INSERT INTO gate.ledger VALUES (%L, %s)', refund_ref, amount));
	IF gone THEN
		PERFORM pg_sleep(60);
	END IF;
	RETURN 'succeeded';
END $$
END
CREATE FUNCTION gate.send(refund_ref text, order_id text, gateway text, payment_ref text, amount bigint, currency text,
	action text, attempt integer, OUT error text, OUT result text, OUT refunded_amount bigint, OUT gateway_refund_ref text, OUT more text)
LANGUAGE plpgsql AS $$
DECLARE
	line text := (SELECT s.lines[least(attempt, cardinality(s.lines))] FROM gate.script s WHERE s.payment_ref = send.payment_ref);
BEGIN
	PERFORM gate.outside(format('INSERT INTO gate.calls (refund_ref, order_id, gateway, payment_ref, amount, currency, action,
		attempt, caller, pid) VALUES (%L, %L, %L, %L, %s, %L, %L, %s, %L, %s)',
		refund_ref, order_id, gateway, payment_ref, amount, currency, action, attempt, current_user, pg_backend_pid()));
	INSERT INTO gate.done VALUES (refund_ref, attempt);
	EXECUTE 'SELECT ' || line INTO result, gateway_refund_ref, error, refunded_amount USING refund_ref, amount, action, order_id;
END $$
END
$dbh->do(<<'END');
INSERT INTO order_timeout.policies (policy, refund_backoff, refund_backoff_max, refund_jitter, refund_lease, refund_max_attempts)
VALUES ('sent',   '1 hour',            '1 day',     0, '1 hour',    10),
       ('quick',  '200 milliseconds',  '1 day',     0, '1 hour',    10),
       ('thrice', '10 milliseconds',   '1 day',     0, '1 hour',     3),
       ('leased', '1 hour',            '1 day',     0, '2 seconds', 10),
       ('worker', '1 hour',            '1 day',     0, '1 hour',    10)
END
call($dbh, 'set_hook', $_, 'refund_handler', 'gate.send') for qw(sent quick thrice leased);

my $made = 0;

# A late payment of 100 of an order of that policy, to be refunded; returns its payment_ref. The lines are what the gateway
# does.
sub owed {
	my ($policy, @lines) = @_;
	my $ref = 'p' . ++$made;
	script($ref, @lines);
	call($dbh, 'create_order', "o-$ref", 100, 'EUR', '1 hour', undef, $policy);
	call($dbh, 'cancel_order', "o-$ref");
	call($dbh, 'record_payment', "o-$ref", 'bank', $ref, 100, 'EUR')->{outcome} eq 'late' or die "no refund of $ref\n";
	return $ref;
}

sub script {
	my ($ref, @lines) = @_;
	$dbh->do('INSERT INTO gate.script VALUES (?, ?) ON CONFLICT (payment_ref) DO UPDATE SET lines = excluded.lines',
		undef, $ref, \@lines);
	return;
}

sub send_refunds {
	my ($arguments) = @_;
	$dbh->do('CALL order_timeout.send_refunds(' . ($arguments // "'500 milliseconds'") . ')');
	return;
}

sub refund {
	my ($ref) = @_;
	return $dbh->selectrow_hashref(<<'END', undef, $ref);
SELECT r.*, next_attempt_at > clock_timestamp() AS waits FROM order_timeout.refunds r WHERE payment_ref = ? ORDER BY created_at LIMIT 1
END
}

sub calls {
	my ($ref) = @_;
	return $dbh->selectall_arrayref('SELECT *, extract(epoch FROM at) AS epoch FROM gate.calls WHERE payment_ref = ? ORDER BY n',
		{ Slice => {} }, $ref);
}

# is_refund($ref, $name, state => 'failed', last_error => qr/.../, ...)
sub is_refund {
	my ($ref, $name, %expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_row(refund($ref), $name, %expected);
}

sub is_row {
	my ($row, $name, %expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $column (sort keys %expected) {
		if (ref $expected{$column}) {
			like($row->{$column}, $expected{$column}, "$name: $column");
		} else {
			is($row->{$column}, $expected{$column}, "$name: $column");
		}
	}
	return;
}

sub written {
	my ($ref) = @_;
	return $dbh->selectrow_array('SELECT count(*) FROM gate.done d JOIN order_timeout.refunds r USING (refund_ref) WHERE payment_ref = ?',
		undef, $ref);
}

sub called {
	my ($ref) = @_;
	return eventually(sub { @{ calls($ref) } }) || die "the gateway is not called for $ref\n";
}

# ------------------------------------------------------------ what it answers

my @unknown = (state => 'unknown', attempts => 1, waits => 1, lease_token => undef);
my @case = (
	[ q{'succeeded', 'g-1'}, 'succeeded', state => 'succeeded', gateway_refund_ref => 'g-1', next_attempt_at => undef ],
	[ q{'succeeded', NULL, 'by the way', 100}, 'succeeded, all of it', state => 'succeeded' ],
	[ q{'failed', 'g-2', 'no balance'}, 'failed', state => 'failed', attempts => 1, waits => 1, last_error => 'no balance (gateway_refund_ref g-2)' ],
	[ q{'unknown', NULL, 'timed out'}, 'unknown', @unknown, last_error => 'timed out' ],
	[ q{'rejected', NULL, 'card closed'}, 'rejected', state => 'needs_attention', last_error => 'card closed' ],
	[ q{'deferred', NULL, 'maintenance'}, 'deferred', state => 'pending', attempts => 0, waits => 1, last_error => 'maintenance' ],
	[ q{'submitted', 'g-3'}, 'submitted', state => 'submitted', attempts => 0, waits => 1, gateway_refund_ref => 'g-3' ],
	[ q{NULL, 'g-4'}, 'null', @unknown, last_error => 'gate.send: it answered no result', gateway_refund_ref => undef ],
	[ q{'done', 'g-5'}, 'a word of its own', @unknown,
		last_error => 'gate.send: it answered "done", which is no result of complete_refund', gateway_refund_ref => undef ],
	[ q{'Succeeded'}, 'another case of letters', @unknown, last_error => qr/"Succeeded"/ ],
	[ q{repeat('x', 9000)}, 'a long word', @unknown, last_error => qr/x{1000}/ ],
	[ q{'succeeded', ''}, 'an empty gateway_refund_ref', @unknown,
		last_error => 'gate.send: it answered "succeeded" with an invalid gateway_refund_ref: it is empty' ],
	[ q{'succeeded', repeat('g', 256)}, 'a long gateway_refund_ref', @unknown, last_error => qr/it is 256 bytes long/ ],
	[ q{'failed', E'g\n'}, 'a control character', @unknown, last_error => qr/control character/ ],
	[ q{'succeeded', NULL, NULL, 0}, 'amount 0', @unknown,
		last_error => 'gate.send: it answered "succeeded" with an invalid refunded_amount: 0 is not greater than zero' ],
	[ q{'succeeded', NULL, NULL, -100}, 'a negative amount', @unknown, last_error => qr/-100 is not greater than zero/ ],
	[ q{'succeeded', NULL, NULL, 1e30}, 'an amount that is too large', @unknown, last_error => qr/^22003: bigint out of range/, written => 0 ],
	[ q{'succeeded', NULL, NULL, CASE $2 WHEN 100 THEN 60 END}, 'a part of it', state => 'succeeded', amount => 60, calls => 2 ],
	[ q{gate.fail('P0001', 'refused')}, 'an exception', @unknown, last_error => 'P0001: refused', written => 0 ],
	[ q{1 / 0}, 'division by zero', @unknown, last_error => '22012: division by zero', written => 0 ],
	[ q{gate.fail('40001', 'again')}, 'a serialization failure', @unknown, last_error => '40001: again', written => 0 ],
	[ q{gate.fail('53200', 'too much')}, 'out of memory', @unknown, last_error => '53200: too much', written => 0 ],
);
for my $case (@case) {
	my ($line, $name, @expected) = @$case;
	unshift @$case, owed('sent', $line);
}
my $for_worker = owed('worker', q{'succeeded'});

send_refunds("'4 seconds'");
for my $case (@case) {
	my ($ref, $line, $name, %expected) = @$case;
	my $calls = delete $expected{calls} // 1;
	my $written = delete $expected{written} // $calls;
	is_refund($ref, $name, %expected);
	is(scalar @{ calls($ref) }, $calls, "$name: called $calls times");
	is(written($ref), $written, "$name: what it wrote is " . ($written ? 'there' : 'gone'));
}
is_deeply($dbh->selectcol_arrayref('SELECT amount FROM gate.calls WHERE payment_ref IN (SELECT payment_ref FROM gate.calls
	GROUP BY payment_ref HAVING count(DISTINCT refund_ref) > 1) ORDER BY n'), [ 100, 40 ], 'the rest is another refund with another key');

is_refund($for_worker, 'a policy without a handler', state => 'pending', attempts => 0, handed_out_at => undef, last_error => undef);
is(scalar @{ calls($for_worker) }, 0, 'its refunds are left to workers');
is_deeply([ map { $_->{payment_ref} } @{ rows($dbh, 'claim_refunds', 'worker', 100) } ], [$for_worker],
	'the worker gets them, and nothing else is due');

{
	my ($call) = @{ calls($case[0][0]) };
	my $refund = refund($case[0][0]);
	my $order = "o-$case[0][0]";
	is_deeply([ @$call{qw(refund_ref order_id gateway payment_ref amount currency action attempt)} ],
		[ $refund->{refund_ref}, $order, 'bank', $case[0][0], 100, 'EUR', 'submit', 1 ], 'what the handler gets');
	my $story = $dbh->selectcol_arrayref(
		q{SELECT type FROM order_timeout.history(?) WHERE type LIKE 'refund.%' ORDER BY id}, undef, $order);
	is_deeply($story, [qw(refund.created refund.claimed refund.succeeded)], 'its history is that of any refund');
}

# ------------------------------------------------------------ again

{
	my $ref = owed('quick', q{'failed', NULL, 'no'}, q{gate.fail('P0001', 'no')}, q{'unknown'}, q{gate.pay_back($1, $2, $3)});
	my $lost = owed('thrice', q{gate.fail('P0001', 'never')});
	my $end = time + 20;
	send_refunds("'1 second'") until time > $end || (refund($ref)->{state} eq 'succeeded' && refund($lost)->{state} eq 'needs_attention');
	my $calls = calls($ref);
	is_refund($ref, 'the fourth attempt', state => 'succeeded', attempts => 3);
	is_deeply([ map { $_->{attempt} } @$calls ], [ 1 .. 4 ], 'attempts are counted');
	is_deeply([ map { $_->{action} } @$calls ], [qw(submit query query query)], 'it asks before it sends again');
	is(scalar(grep { $_->{refund_ref} ne refund($ref)->{refund_ref} } @$calls), 0, 'with the same key');
	my @waits = map { $calls->[$_]{epoch} - $calls->[ $_ - 1 ]{epoch} } 1 .. $#$calls;
	cmp_ok($waits[$_], '>=', 0.2 * 2**$_, sprintf 'wait %d: %.2f s', $_ + 1, $waits[$_]) for 0 .. 2;

	is_refund($lost, 'too many attempts', state => 'needs_attention', attempts => 3, last_error => 'P0001: never');
	is(scalar @{ calls($lost) }, 3, 'then it is not tried any more');
	is($dbh->selectrow_array('SELECT kind FROM order_timeout.attention WHERE payment_ref = ?', undef, $lost),
		'needs_attention', 'and the operator sees it');
}

# ------------------------------------------------------------ whose policy

{
	call($dbh, 'record_payment', 'nowhere', 'bank', "orphan-$_", 30, 'EUR') for 1, 2;
	script("orphan-$_", q{'succeeded'}) for 1, 2;
	call($dbh, 'refund_orphan', 'bank', 'orphan-1');
	send_refunds();
	is_refund('orphan-1', 'an orphan, default without a handler', state => 'pending', handed_out_at => undef);
	call($dbh, 'set_hook', 'default', 'refund_handler', 'gate.send');
	call($dbh, 'refund_orphan', 'bank', 'orphan-2');
	send_refunds("'1500 milliseconds'");
	is_refund("orphan-$_", 'an orphan follows default', state => 'succeeded') for 1, 2;
	call($dbh, 'set_hook', 'default', 'refund_handler', undef);
}
{
	# Between the claim and the call: a webhook ends it.
	my $ref = owed('quick', q{'failed'});
	$dbh->do(<<'END');
CREATE FUNCTION gate.end_it() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM order_timeout.complete_refund(NEW.refund_ref, 'succeeded'); RETURN NULL; END $$
END
	$dbh->do("CREATE CONSTRAINT TRIGGER end_it AFTER UPDATE ON order_timeout.refunds DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
		WHEN (NEW.state = 'processing') EXECUTE FUNCTION gate.end_it()");
	send_refunds();
	is_refund($ref, 'ended between the claim and the call', state => 'succeeded');
	is(scalar @{ calls($ref) }, 0, 'the gateway is not called for it');
	$dbh->do('DROP TRIGGER end_it ON order_timeout.refunds');
}
{
	# Or the handler is taken away.
	my $ref = owed('quick', q{'succeeded'});
	$dbh->do(<<'END');
CREATE FUNCTION gate.take_away() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM order_timeout.set_hook('quick', 'refund_handler', NULL); RETURN NULL; END $$
END
	$dbh->do("CREATE TRIGGER take_away AFTER UPDATE ON order_timeout.refunds FOR EACH ROW
		WHEN (NEW.state = 'processing') EXECUTE FUNCTION gate.take_away()");
	send_refunds();
	is(scalar @{ calls($ref) }, 0, 'the handler is taken away after the claim: it is not called');
	is_refund($ref, 'taken away', state => 'pending', attempts => 0, lease_token => undef, last_error => qr/no refund_handler any more/);
	is(scalar @{ $dbh->selectcol_arrayref(q{SELECT type FROM order_timeout.history(?) WHERE type = 'refund.deferred'}, undef, "o-$ref") },
		1, 'taken away: deferred');
	$dbh->do('DROP TRIGGER take_away ON order_timeout.refunds');
	call($dbh, 'set_hook', 'quick', 'refund_handler', 'gate.send');
	send_refunds("'1500 milliseconds'");
	is_refund($ref, 'and back', state => 'succeeded', attempts => 0);
}
{
	my $ref = owed('sent', q{'succeeded'});
	$dbh->do('ALTER FUNCTION gate.send RENAME TO gone');
	send_refunds();
	is_refund($ref, 'the function is gone', @unknown, last_error => qr/^42883: function gate\.send\(.*\) does not exist/);
	$dbh->do('ALTER FUNCTION gate.gone RENAME TO send');
}
for my $replacement (
	[ 'rows', "SETOF text AS \$\$ SELECT 1 \$\$", qr/^42703: column h\.result does not exist/ ],
	[ 'many rows', "TABLE (result text, gateway_refund_ref text, refunded_amount bigint, error text) AS
		\$\$ VALUES ('succeeded', NULL, NULL::bigint, NULL), ('failed', NULL, NULL, NULL) \$\$", qr/^gate\.replaced: it answered 2 rows/ ],
	[ 'no row', "TABLE (result text, gateway_refund_ref text, refunded_amount bigint, error text) AS
		\$\$ SELECT '', '', 0::bigint, '' WHERE false \$\$", qr/^gate\.replaced: it answered 0 rows/ ],
	[ 'other types', "TABLE (result xid, gateway_refund_ref integer, refunded_amount text, error text) AS
		\$\$ VALUES ('1'::xid, 1, '1', 'x') \$\$", qr/^gate\.replaced: it answered "1"/ ],
) {
	my ($name, $returns, $error) = @$replacement;
	my $arguments = 'gate.replaced(text, text, text, text, bigint, text, text, integer)';
	$dbh->do("CREATE FUNCTION gate.replaced(text, text, text, text, bigint, text, text, integer,
		OUT result text, OUT gateway_refund_ref text, OUT refunded_amount bigint, OUT error text) LANGUAGE sql AS
		\$\$ SELECT 'succeeded', NULL, NULL::bigint, NULL \$\$");
	call($dbh, 'set_hook', 'sent', 'refund_handler', 'gate.replaced');
	$dbh->do("DROP FUNCTION $arguments");
	$returns =~ s/SELECT 1/SELECT 'succeeded'/;
	$dbh->do("CREATE FUNCTION $arguments RETURNS $returns LANGUAGE sql");
	my $ref = owed('sent', q{'succeeded'});
	send_refunds();
	is_refund($ref, "replaced by one with $name", @unknown, last_error => $error);
	$dbh->do("DROP FUNCTION $arguments");
	call($dbh, 'set_hook', 'sent', 'refund_handler', 'gate.send');
}

# ------------------------------------------------------------ more than an answer

{
	my $ref = owed('sent', q{(order_timeout.complete_refund($1, 'succeeded', gateway_refund_ref => 'own-1')).state, 'own-1'});
	my $again = owed('sent', q{(order_timeout.complete_refund($1, 'failed', (SELECT lease_token FROM order_timeout.refunds r
		WHERE r.refund_ref = $1), error => 'own')).state});
	send_refunds();
	is_refund($ref, 'the handler completes it itself', state => 'succeeded', gateway_refund_ref => 'own-1');
	is_refund($again, 'and as failed', state => 'failed', attempts => 1, last_error => 'own');
	is($dbh->selectrow_array('SELECT count(*) FROM order_timeout.conflicts'), 0, 'that is no conflict');
}
{
	$dbh->do('CREATE TABLE gate.checked (refund_ref text)');
	$dbh->do(<<'END');
CREATE FUNCTION gate.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused by a trigger'; END $$
END
	$dbh->do(q{CREATE FUNCTION gate.check_later(text) RETURNS text LANGUAGE sql AS
		$$ INSERT INTO gate.checked VALUES ($1); SELECT 'succeeded' $$});
	$dbh->do('CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON gate.checked DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION gate.refuse()');
	my $ref = owed('sent', q{gate.check_later($1)});
	my $next = owed('sent', q{'succeeded'});
	send_refunds();
	is_refund($ref, 'a deferred trigger refuses what it wrote', @unknown, last_error => 'P0001: refused by a trigger');
	is(written($ref) + $dbh->selectrow_array('SELECT count(*) FROM gate.checked'), 0, 'nothing of it is there');
	is_refund($next, 'the next one is sent', state => 'succeeded');
}
{
	my $ref = owed('sent', q{'succeeded'});
	$dbh->do("CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.refunds FOR EACH ROW
		WHEN (NEW.state = 'succeeded') EXECUTE FUNCTION gate.refuse()");
	send_refunds();
	is_refund($ref, 'success cannot be recorded', @unknown, last_error => 'P0001: refused by a trigger');
	is(written($ref), 0, 'then what the handler wrote is not kept either');
	$dbh->do('DROP TRIGGER refuse ON order_timeout.refunds');
}
{
	my $ref = owed('sent', q{'succeeded'});
	my $next = owed('sent', q{'succeeded'});
	$dbh->do("CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.refunds FOR EACH ROW
		WHEN (OLD.state = 'processing' AND OLD.payment_ref = '$ref') EXECUTE FUNCTION gate.refuse()");
	my ($rc, undef, $err) = $server->psql('shop', "CALL order_timeout.send_refunds('500 milliseconds')");
	is($rc, 0, 'nothing can be recorded: it goes on');
	like($err, qr/WARNING: .*could not be recorded\n.*DETAIL: +P0001: refused by a trigger/s, 'and says so');
	is_refund($ref, 'not recorded', state => 'processing', waits => 1);
	is(scalar @{ calls($ref) }, 1, 'it is left to its lease');
	is_refund($next, 'the next one is sent', state => 'succeeded');
	$dbh->do('DROP TRIGGER refuse ON order_timeout.refunds');
	is(call($dbh, 'complete_refund', refund($ref)->{refund_ref}, 'succeeded')->{outcome}, 'recorded', 'a webhook ends it');
}
{
	my $ref = owed('sent', q{'succeeded'});
	my $next = owed('sent', q{'succeeded'});
	$dbh->do("CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON order_timeout.refunds DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
		WHEN (NEW.state = 'processing' AND NEW.payment_ref = '$ref') EXECUTE FUNCTION gate.refuse()");
	send_refunds();
	is(scalar @{ calls($ref) }, 0, 'it cannot be claimed: the gateway is not called');
	is($dbh->selectrow_array('SELECT kind FROM order_timeout.attention WHERE payment_ref = ?', undef, $ref), 'set_aside',
		'it is set aside');
	is_refund($next, 'the others are sent', state => 'succeeded');
	$dbh->do('DROP TRIGGER refuse ON order_timeout.refunds');
	$dbh->do('DELETE FROM order_timeout.set_aside_refunds');
	send_refunds();
	is_refund($ref, 'and it too, later', state => 'succeeded');
}

# ------------------------------------------------------------ several at once

{
	my @refs = map { owed('sent', q{gate.dawdle(0.05, gate.pay_back($1, $2, $3))}) } 1 .. 40;
	my $end = time + 30;
	until (time > $end || !$dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE payment_ref = ANY (?) AND state <> 'succeeded'", undef, \@refs)) {
		answers(fork_all(3, sub {
			$server->dbh('shop')->do("CALL order_timeout.send_refunds('2 seconds')");
			return [];
		}));
	}
	my ($times, $refunds, $sessions) = $dbh->selectrow_array(
		'SELECT count(*), count(DISTINCT refund_ref), count(DISTINCT pid) FROM gate.calls WHERE payment_ref = ANY (?)', undef, \@refs);
	is("$times $refunds", '40 40', 'three sessions: each refund is sent once');
	cmp_ok($sessions, '>', 1, "$sessions of them share the work");
	is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE payment_ref = ANY (?) AND state = 'succeeded'",
		undef, \@refs), 40, 'all are back');
}

# ------------------------------------------------------------ ended in the middle

# A session that has called the gateway and waits for it.
sub sending {
	my ($ref, %attribute) = @_;
	my $session = $server->dbh('shop', %attribute);
	my ($pid) = $session->selectrow_array('SELECT pg_backend_pid()');
	$session->do("CALL order_timeout.send_refunds('1 minute')", { pg_async => PG_ASYNC });
	called($ref);
	return ($session, $pid);
}

sub lease_lapses {
	my ($ref) = @_;
	eventually(sub { !refund($ref)->{waits} }) or die "the lease of $ref does not lapse\n";
	return;
}

for my $way (qw(terminate cancel)) {
	my $ref = owed('leased', q{gate.pay_back($1, $2, $3, $3 = 'submit')});
	my ($session, $pid) = sending($ref);
	eventually(sub { $dbh->selectrow_array('SELECT count(*) FROM gate.ledger l JOIN order_timeout.refunds r USING (refund_ref)
		WHERE payment_ref = ?', undef, $ref) }) or die "the gateway does not pay\n";
	$dbh->do("SELECT pg_${way}_backend(?)", undef, $pid);
	is(ended_with($session), $way eq 'cancel' ? '57014' : '08000', "$way: the call ends");
	is_refund($ref, "$way in the middle", state => 'processing', attempts => 0);
	is(written($ref), 0, "$way: nothing half done");
	lease_lapses($ref);
	send_refunds();
	my $calls = calls($ref);
	is_refund($ref, "$way, later", state => 'succeeded', attempts => 1);
	is_deeply([ map { "$_->{action} $_->{attempt}" } @$calls ], [ 'submit 1', 'query 2' ], "$way: it is asked about");
	is($calls->[0]{refund_ref}, $calls->[1]{refund_ref}, "$way: by the same key");
	is($dbh->selectrow_array('SELECT count(*) FROM gate.ledger WHERE refund_ref = ?', undef, $calls->[0]{refund_ref}), 1,
		"$way: the money went back once");
}
{
	my $ref = owed('leased', q{gate.dawdle(CASE $3 WHEN 'submit' THEN 30 ELSE 0 END, 'succeeded')});
	my (undef, undef, $err) = $server->psql('shop', "SET statement_timeout = '1s';\nCALL order_timeout.send_refunds('1 minute')");
	like($err, qr/canceling statement due to statement timeout/, 'statement_timeout in the middle of a call');
	is_refund($ref, 'timed out', state => 'processing', attempts => 0);
	lease_lapses($ref);
	send_refunds();
	is_refund($ref, 'timed out, later', state => 'succeeded', attempts => 1);

	my @refs = map { owed('sent', q{gate.dawdle(1, 'succeeded')}) } 1 .. 4;
	(undef, undef, $err) = $server->psql('shop', "SET statement_timeout = '3s';\nCALL order_timeout.send_refunds('1 minute')");
	is($err, '', 'with more to do than fits, it ends before statement_timeout would cancel it');
	is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE state = 'processing' AND payment_ref = ANY (?)", undef, \@refs),
		0, 'between two refunds');
	send_refunds("'5 seconds'");
	is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE state = 'succeeded' AND payment_ref = ANY (?)", undef, \@refs),
		4, 'the next call sends the others');
	my $start = time;
	(undef, undef, $err) = $server->psql('shop', "SET statement_timeout = '1s';\nCALL order_timeout.send_refunds('1 minute')");
	is($err, '', 'and so it ends with nothing to do');
	cmp_ok(time - $start, '>', 0.5, 'not at once');
}
{
	# The gateway takes longer than the lease, and another gets it.
	$dbh->do("UPDATE order_timeout.policies SET refund_lease = '300 milliseconds' WHERE policy = 'leased'");
	my $ref = owed('leased', q{gate.dawdle(1.5, 'failed')});
	my $late = fork_all(1, sub {
		my (undef, undef, $err) = $server->psql('shop', "CALL order_timeout.send_refunds('1 second')");
		return { err => $err };
	});
	called($ref);
	lease_lapses($ref);
	my $claim = rows($dbh, 'claim_refunds', 'worker', 10, '1 hour')->[0];
	is($claim->{payment_ref}, $ref, 'a worker gets what lapsed');
	eventually(sub { written($ref) }) or die "it does not answer\n";
	is(call($dbh, 'complete_refund', $claim->{refund_ref}, 'failed', $claim->{lease_token})->{outcome}, 'recorded',
		'its lease is still the current one');
	like((answers($late))[0]{err}, qr/WARNING: .*gate\.send answered about refund .* after the lease had lapsed/,
		'a handler that answers too late is reported');
	is_refund($ref, 'the late answer changes nothing', state => 'failed', attempts => 2);
	is(call($dbh, 'complete_refund', $claim->{refund_ref}, 'succeeded')->{outcome}, 'recorded', 'a webhook ends it');
}

# ------------------------------------------------------------ while the gateway is slow

{
	my $ref = owed('sent', q{gate.dawdle(60, 'succeeded')});
	my ($session, $pid) = sending($ref);
	create_orders($dbh, 'due', 1, 5, "clock_timestamp() + interval '20 milliseconds'");
	$dbh->do("SET statement_timeout = '20s'");
	$dbh->do("CALL order_timeout.sweep('300 milliseconds')");
	is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.orders WHERE order_id LIKE 'due%' AND state = 'expired'"), 5,
		'orders are closed while a gateway is slow');
	is(call($dbh, 'record_payment', "o-$ref", 'bank', "$ref-again", 100, 'EUR')->{outcome}, 'late', 'its own order can be paid');
	is(error_of($dbh, sub { $dbh->do("SELECT FROM order_timeout.$_ FOR UPDATE NOWAIT") }), '', "no row of $_ is locked")
		for qw(orders payments refunds policies);
	is(call($dbh, 'complete_refund', refund($ref)->{refund_ref}, 'succeeded')->{outcome}, 'recorded', 'a webhook can end the refund');
	$dbh->do('RESET statement_timeout');
	ok(!$session->pg_ready, 'all the while the gateway is called');
	$dbh->do('SELECT pg_cancel_backend(?)', undef, $pid);
	is(ended_with($session), '57014', 'and cancelled at last');
	is_refund($ref, 'it stays', state => 'succeeded');
	script("$ref-again", q{'succeeded'});
	send_refunds();
}

# ------------------------------------------------------------ much that waits for workers

{
	# 20,000 older refunds of a policy without a handler.
	create_orders($dbh, 'many', 1, 1, "now() + interval '1 hour'");
	$dbh->do("UPDATE order_timeout.orders SET policy = 'worker' WHERE order_id = 'many1'");
	call($dbh, 'cancel_order', 'many1');
	call($dbh, 'record_payment', 'many1', 'bank', 'many', 20_000, 'EUR');
	$dbh->do(<<'END');
INSERT INTO order_timeout.refunds SELECT (jsonb_populate_record(r, jsonb_build_object(
	'refund_ref', 'many-' || i, 'amount', 1, 'asked', 1, 'next_attempt_at', now() - interval '1 hour' + i * interval '1 millisecond'))).*
  FROM order_timeout.refunds r, generate_series(1, 20000) i WHERE payment_ref = 'many'
END
	$dbh->do('ANALYZE order_timeout.refunds');
	my @refs = map { owed('sent', q{'succeeded'}) } 1 .. 50;
	my $start = time;
	send_refunds("'1 second'") until time > $start + 20 || refund($refs[-1])->{state} eq 'succeeded';
	my $took = time - $start;
	is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE payment_ref = ANY (?) AND state = 'succeeded'", undef, \@refs),
		50, 'refunds that wait for workers are not in the way');
	cmp_ok($took, '<', 10, sprintf '50 refunds behind 20,000: %.1f s', $took);
	is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE refund_ref LIKE 'many-%' AND handed_out_at IS NOT NULL"), 0,
		'none of those was touched');
	$dbh->do("DELETE FROM order_timeout.refunds WHERE refund_ref LIKE 'many-%'");
	$dbh->do('VACUUM order_timeout.refunds');
}

# ------------------------------------------------------------ while it waits

{
	my $session = $server->dbh('shop');
	my ($pid) = $session->selectrow_array('SELECT pg_backend_pid()');
	$session->do("CALL order_timeout.send_refunds('1 minute')", { pg_async => PG_ASYNC });
	eventually(sub { $dbh->selectrow_array('SELECT wait_event_type FROM pg_stat_activity WHERE pid = ?', undef, $pid) // '' eq 'Extension' })
		or die "it does not begin\n";
	my ($looks, $busy) = (0, 0);
	my $from = time;
	while (time < $from + 3) {
		my ($xmin, $xid) = $dbh->selectrow_array('SELECT backend_xmin, backend_xid FROM pg_stat_activity WHERE pid = ?', undef, $pid);
		my ($locks) = $dbh->selectrow_array(<<'END', undef, $pid);
SELECT count(*) FROM pg_locks WHERE pid = ? AND NOT (locktype = 'virtualxid' AND virtualxid = virtualtransaction)
END
		$looks++;
		$busy++ if defined $xmin || defined $xid || $locks;
		sleep 0.07;
	}
	cmp_ok($busy, '<', $looks / 4, "while it waits it holds no snapshot and no lock ($busy of $looks looks)");
	my $ref = owed('sent', q{'succeeded'});
	ok(eventually(sub { refund($ref)->{state} eq 'succeeded' }, 20), 'what comes meanwhile is sent');
	my $later = owed('quick', q{'failed'}, q{'succeeded'});
	ok(eventually(sub { refund($later)->{state} eq 'succeeded' }, 20), 'and what falls due');
	call($dbh, 'set_hook', 'worker', 'refund_handler', 'gate.send');
	my $new = owed('worker', q{'succeeded'});
	ok(eventually(sub { refund($new)->{state} eq 'succeeded' }, 20), 'a handler that is set meanwhile is called');
	call($dbh, 'set_hook', 'worker', 'refund_handler', undef);
	$dbh->do('SELECT pg_cancel_backend(?)', undef, $pid);
	is(ended_with($session), '57014', 'cancelled while it waits');
}

# ------------------------------------------------------------ whose rights

{
	call($dbh, 'grant_access', 'plain', 'worker');
	my $session = $server->dbh('shop', user => 'plain');
	my ($path) = $session->selectrow_array('SHOW search_path');
	my $is_plain = sub {
		my ($name) = @_;
		is($session->selectrow_array("SELECT current_user || ',' || session_user || ',' || current_setting('is_superuser')"),
			'plain,plain,off', "$name: it is still the caller");
		is($session->selectrow_array('SHOW search_path'), $path, "$name: its search_path");
		for my $statement ('SELECT * FROM order_timeout.refunds', 'DELETE FROM order_timeout.events', "SELECT order_timeout.funds('o')") {
			is(error_of($session, sub { $session->do($statement) }), '42501', "$name: may not $statement");
		}
	};
	my $send = sub { error_of($session, sub { $session->do("CALL order_timeout.send_refunds('300 milliseconds')") }) };

	my $ref = owed('sent', q{'succeeded'});
	is($send->(), '', 'a role with access worker');
	is_refund($ref, 'but not to the handler', @unknown, last_error => qr/^42501: permission denied for schema gate/);
	$is_plain->('denied');
	$dbh->do('GRANT USAGE ON SCHEMA gate TO plain');
	$dbh->do('REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA gate FROM PUBLIC');
	$ref = owed('sent', q{'succeeded'});
	$send->();
	is_refund($ref, 'the schema alone is not enough', @unknown, last_error => qr/^42501: permission denied for function send/);
	$dbh->do($_) for 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA gate TO plain', 'GRANT SELECT ON gate.script, gate.ledger TO plain';
	$ref = owed('sent', q{'succeeded'});
	$send->();
	is_refund($ref, 'without the right to what it writes', @unknown, last_error => '42501: permission denied for table done');
	$dbh->do('GRANT INSERT ON gate.done TO plain');
	$ref = owed('sent', q{'succeeded'});
	$send->();
	is_refund($ref, 'with all rights', state => 'succeeded');
	is(calls($ref)->[0]{caller}, 'plain', 'the handler is called as the caller');
	$is_plain->('after success');

	$ref = owed('sent', q{gate.fail('P0001', 'refused')});
	$send->();
	$is_plain->('after an exception');

	$ref = owed('leased', q{gate.dawdle(60, 'succeeded')});
	my ($pid) = $session->selectrow_array('SELECT pg_backend_pid()');
	$session->do("CALL order_timeout.send_refunds('1 minute')", { pg_async => PG_ASYNC });
	called($ref);
	$dbh->do('SELECT pg_cancel_backend(?)', undef, $pid);
	is(ended_with($session), '57014', 'cancelled after a commit');
	$is_plain->('after a cancel');
	script($ref, q{'succeeded'});
	lease_lapses($ref);

	my %disturbance = (
		'a claim is refused'    => "BEFORE UPDATE ON order_timeout.refunds FOR EACH ROW WHEN (NEW.state = 'processing')",
		'an end is refused'     => "BEFORE UPDATE ON order_timeout.refunds FOR EACH ROW WHEN (OLD.state = 'processing')",
		'an event is refused'   => 'BEFORE INSERT ON order_timeout.events FOR EACH ROW',
		'the commit of a claim' => "AFTER UPDATE ON order_timeout.refunds DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.state = 'processing')",
		'the end, deferred'     => "AFTER UPDATE ON order_timeout.refunds DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.state = 'processing')",
	);
	for my $name (sort keys %disturbance) {
		$ref = owed('leased', q{'succeeded'});
		my ($table) = $disturbance{$name} =~ /ON (\S+)/;
		my $kind = $disturbance{$name} =~ /DEFERR/ ? 'CONSTRAINT TRIGGER' : 'TRIGGER';
		$dbh->do("CREATE $kind disturb $disturbance{$name} EXECUTE FUNCTION gate.refuse()");
		is($send->(), '', "$name: the call goes on");
		$dbh->do("DROP TRIGGER disturb ON $table");
		$is_plain->($name);
		isnt(refund($ref)->{state}, 'succeeded', "$name: it is still owed");
	}
	is(error_of($session, sub { $session->begin_work; $session->do("CALL order_timeout.send_refunds('1 second')") }), '2D000',
		'in a transaction block');
	$session->rollback;
	$is_plain->('after a refusal');
}

# ------------------------------------------------------------ how it is called

is(error_of($dbh, sub { $dbh->do("DO 'BEGIN CALL order_timeout.send_refunds(''10 milliseconds''); END'") }), '', 'from a DO block');
$dbh->do("CREATE FUNCTION gate.inside() RETURNS void LANGUAGE plpgsql AS 'BEGIN CALL order_timeout.send_refunds(''1 second''); END'");
is(error_of($dbh, sub { $dbh->do('SELECT gate.inside()') }), '2D000', 'from a function');
is(error_of($dbh, sub { send_refunds($_) }), '22023', "send_refunds($_)") for q{'-1 second'}, q{'0'}, q{'366 days'};
{
	my $ref = owed('sent', q{'succeeded'});
	$server->safe_psql('shop', "SET default_transaction_isolation = 'serializable';\nCALL order_timeout.send_refunds('300 milliseconds')");
	is_refund($ref, 'serializable by default', state => 'succeeded');
}

# ------------------------------------------------------------ voids

# As gate.send; the script is found by attempt_ref, which stands in gate.calls as payment_ref.
$dbh->do(<<'END');
CREATE FUNCTION gate.void(order_id text, gateway text, attempt_ref text, amount bigint, currency text, action text, attempt integer,
	OUT more text, OUT error text, OUT result text)
LANGUAGE plpgsql AS $$
DECLARE
	line text := (SELECT s.lines[least(attempt, cardinality(s.lines))] FROM gate.script s WHERE s.payment_ref = attempt_ref);
BEGIN
	PERFORM gate.outside(format('INSERT INTO gate.calls (refund_ref, order_id, gateway, payment_ref, amount, currency, action,
		attempt, caller, pid) VALUES (%L, %L, %L, %L, %L, %L, %L, %s, %L, %s)',
		'void ' || attempt_ref, order_id, gateway, attempt_ref, amount, currency, action, attempt, current_user, pg_backend_pid()));
	INSERT INTO gate.done VALUES ('void ' || attempt_ref, attempt);
	EXECUTE 'SELECT ' || line INTO result, error USING attempt_ref, amount, action, order_id;
END $$
END

# An attempt of a cancelled order of that policy, to be ended; returns its attempt_ref.
sub to_void {
	my ($policy, @lines) = @_;
	my $ref = begun($policy, @lines);
	call($dbh, 'cancel_order', "o-$ref");
	return $ref;
}

sub begun {
	my ($policy, @lines) = @_;
	my $ref = 'v' . ++$made;
	script($ref, @lines);
	call($dbh, 'create_order', "o-$ref", 100, 'EUR', '1 hour', undef, $policy);
	call($dbh, 'begin_attempt', "o-$ref", 'bank', $ref)->{outcome} eq 'begun' or die "no attempt $ref\n";
	return $ref;
}

sub attempt {
	my ($ref) = @_;
	return $dbh->selectrow_hashref(<<'END', undef, $ref);
SELECT a.*, next_attempt_at > clock_timestamp() AS waits FROM order_timeout.attempts a WHERE attempt_ref = ?
END
}

sub is_attempt {
	my ($ref, $name, %expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_row(attempt($ref), $name, %expected);
}

sub void_written {
	my ($ref) = @_;
	return $dbh->selectrow_array("SELECT count(*) FROM gate.done WHERE refund_ref = 'void ' || ?::text", undef, $ref);
}

{
	my $ref = to_void('sent', q{'voided'});
	send_refunds();
	is_attempt($ref, 'a policy without a void_handler', state => 'open', handed_out_at => undef);
	is(scalar @{ calls($ref) }, 0, 'its voids are left to workers');
	call($dbh, 'complete_void', 'bank', $ref, 'voided');
}
call($dbh, 'set_hook', $_, 'void_handler', 'gate.void') for qw(sent quick leased);
{
	my @unknown = (state => 'open', attempts => 1, waits => 1, lease_token => undef);
	my @case = (
		[ q{'voided'}, 'voided', state => 'voided', next_attempt_at => undef ],
		[ q{'paid', 'too late'}, 'paid', state => 'captured', next_attempt_at => undef, attention_at => qr/./, last_error => 'too late' ],
		[ q{'failed', 'confirming'}, 'failed', state => 'open', attempts => 1, waits => 1, last_error => 'confirming' ],
		[ q{'unknown', 'timed out'}, 'unknown', @unknown, last_error => 'timed out' ],
		[ q{'deferred', 'maintenance'}, 'deferred', state => 'open', attempts => 0, waits => 1, lease_token => undef, last_error => 'maintenance' ],
		[ q{'rejected', 'no'}, 'rejected', state => 'needs_attention', last_error => 'no' ],
		[ q{NULL}, 'null', @unknown, last_error => 'gate.void: it answered no result' ],
		[ q{'succeeded'}, 'a word of refunds', @unknown,
			last_error => 'gate.void: it answered "succeeded", which is no result of complete_void' ],
		[ q{repeat('x', 9000)}, 'a long word', @unknown, last_error => qr/x{1000}/ ],
		[ q{gate.fail('P0001', 'refused')}, 'an exception', @unknown, last_error => 'P0001: refused', written => 0 ],
		[ q{gate.fail('53200', 'too much')}, 'out of memory', @unknown, last_error => '53200: too much', written => 0 ],
	);
	unshift @$_, to_void('sent', $_->[0]) for @case;
	my $authorized = begun('sent', q{'voided'});
	call($dbh, 'authorize_attempt', 'bank', $authorized, 70, 'EUR', '2099-01-01');
	call($dbh, 'cancel_order', "o-$authorized");
	send_refunds("'2 seconds'");
	for my $case (@case) {
		my ($ref, $line, $name, %expected) = @$case;
		my $written = delete $expected{written} // 1;
		is_attempt($ref, "a void, $name", %expected);
		is(scalar @{ calls($ref) }, 1, "a void, $name: called once");
		is(void_written($ref), $written, "a void, $name: what it wrote is " . ($written ? 'there' : 'gone'));
	}
	my @columns = qw(order_id gateway payment_ref amount currency action attempt);
	is_deeply([ @{ calls($case[0][0])->[0] }{@columns} ], [ "o-$case[0][0]", 'bank', $case[0][0], undef, undef, 'submit', 1 ],
		'what a void_handler gets');
	is_deeply([ @{ calls($authorized)->[0] }{@columns} ], [ "o-$authorized", 'bank', $authorized, 70, 'EUR', 'submit', 1 ],
		'of what is authorised, the amount');
	is_deeply($dbh->selectcol_arrayref(q{SELECT type FROM order_timeout.history(?) WHERE type LIKE 'void.%' ORDER BY id}, undef, "o-$case[0][0]"),
		[qw(void.due void.claimed void.voided)], 'its history is that of any void');
}
{
	my $ref = to_void('quick', q{'failed'}, q{gate.fail('P0001', 'no')}, q{'voided'});
	my $end = time + 20;
	send_refunds("'1 second'") until time > $end || attempt($ref)->{state} eq 'voided';
	is_attempt($ref, 'the third attempt at a void', state => 'voided', attempts => 2);
	is_deeply([ map { "$_->{action} $_->{attempt}" } @{ calls($ref) } ], [ 'submit 1', 'query 2', 'query 3' ],
		'it asks before it sends again');
}
{
	# The last attempt of a closing order.
	$dbh->do("INSERT INTO order_timeout.policies (policy, before_close) VALUES ('asks', 'void')");
	call($dbh, 'set_hook', 'asks', 'void_handler', 'gate.void');
	my $ref = begun('asks', q{'voided'});
	$dbh->do("UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '1 second' WHERE order_id = ?", undef, "o-$ref");
	is(call($dbh, 'expire_order', "o-$ref")->{outcome}, 'closing', 'an order that asks before it closes');
	send_refunds();
	is($dbh->selectrow_array('SELECT state FROM order_timeout.orders WHERE order_id = ?', undef, "o-$ref"), 'expired',
		'the answer of the handler closes it');
}
{
	# Between the claim and the call: a webhook ends it.
	my $ref = to_void('quick', q{'failed'});
	$dbh->do(<<'END');
CREATE FUNCTION gate.end_void() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM order_timeout.complete_void(NEW.gateway, NEW.attempt_ref, 'voided'); RETURN NULL; END $$
END
	$dbh->do("CREATE CONSTRAINT TRIGGER end_void AFTER UPDATE ON order_timeout.attempts DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
		WHEN (NEW.lease_token IS NOT NULL) EXECUTE FUNCTION gate.end_void()");
	send_refunds();
	is_attempt($ref, 'a void that ended between the claim and the call', state => 'voided');
	is(scalar @{ calls($ref) }, 0, 'the gateway is not called for it');
	$dbh->do('DROP TRIGGER end_void ON order_timeout.attempts');
}
{
	# Or the handler is taken away.
	my $ref = to_void('quick', q{'voided'});
	$dbh->do(<<'END');
CREATE FUNCTION gate.take_void() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM order_timeout.set_hook('quick', 'void_handler', NULL); RETURN NULL; END $$
END
	$dbh->do("CREATE TRIGGER take_void AFTER UPDATE ON order_timeout.attempts FOR EACH ROW
		WHEN (NEW.lease_token IS NOT NULL) EXECUTE FUNCTION gate.take_void()");
	send_refunds();
	is(scalar @{ calls($ref) }, 0, 'the void_handler is taken away after the claim: it is not called');
	is_attempt($ref, 'a void_handler taken away', state => 'open', attempts => 0, lease_token => undef,
		last_error => 'its policy has no void_handler any more');
	is(scalar @{ $dbh->selectcol_arrayref(q{SELECT type FROM order_timeout.history(?) WHERE type = 'void.deferred'}, undef, "o-$ref") },
		1, 'a void_handler taken away: deferred');
	$dbh->do('DROP TRIGGER take_void ON order_timeout.attempts');
	call($dbh, 'set_hook', 'quick', 'void_handler', 'gate.void');
	send_refunds("'1500 milliseconds'");
	is_attempt($ref, 'a void_handler that is back', state => 'voided', attempts => 0);
}
for my $replacement (
	[ 'no row', "TABLE (result text, error text) AS \$\$ SELECT '', '' WHERE false \$\$", qr/^gate\.replaced: it answered 0 rows/ ],
	[ 'many rows', "TABLE (result text, error text) AS \$\$ VALUES ('voided', NULL), ('failed', NULL) \$\$", qr/^gate\.replaced: it answered 2 rows/ ],
	[ 'other columns', "SETOF text AS \$\$ SELECT 'voided' \$\$", qr/^42703: column h\.result does not exist/ ],
	[ 'no function', undef, qr/^42883: function gate\.replaced\(.*\) does not exist/ ],
) {
	my ($name, $returns, $error) = @$replacement;
	my $arguments = 'gate.replaced(text, text, text, bigint, text, text, integer)';
	$dbh->do("CREATE FUNCTION gate.replaced(text, text, text, bigint, text, text, integer, OUT result text, OUT error text)
		LANGUAGE sql AS \$\$ SELECT 'voided', NULL \$\$");
	call($dbh, 'set_hook', 'sent', 'void_handler', 'gate.replaced');
	$dbh->do("DROP FUNCTION $arguments");
	$dbh->do("CREATE FUNCTION $arguments RETURNS $returns LANGUAGE sql") if $returns;
	my $ref = to_void('sent');
	send_refunds();
	is_attempt($ref, "a void_handler replaced: $name", state => 'open', attempts => 1, waits => 1, last_error => $error);
	$dbh->do("DROP FUNCTION IF EXISTS $arguments");
}
call($dbh, 'set_hook', 'sent', 'void_handler', 'gate.void');
{
	my $ref = to_void('sent', q{'voided'});
	my $next = to_void('sent', q{'voided'});
	$dbh->do("CREATE TRIGGER refuse BEFORE UPDATE ON order_timeout.attempts FOR EACH ROW
		WHEN (OLD.lease_token IS NOT NULL AND OLD.attempt_ref = '$ref') EXECUTE FUNCTION gate.refuse()");
	my ($rc, undef, $err) = $server->psql('shop', "CALL order_timeout.send_refunds('500 milliseconds')");
	is($rc, 0, 'nothing of a void can be recorded: it goes on');
	like($err, qr/WARNING: .*the void of attempt "$ref" of gateway "bank" could not be recorded\n.*DETAIL: +P0001: refused by a trigger/s, 'and says so');
	is_attempt($ref, 'a void that is not recorded', state => 'open', attempts => 0, waits => 1, lease_token => qr/./);
	is_attempt($next, 'the next void', state => 'voided');
	$dbh->do('DROP TRIGGER refuse ON order_timeout.attempts');
	call($dbh, 'complete_void', 'bank', $ref, 'voided');
}
{
	# Cancelled in the middle.
	$dbh->do("UPDATE order_timeout.policies SET refund_lease = '2 seconds' WHERE policy = 'leased'");
	my $ref = to_void('leased', q{gate.dawdle(CASE $3 WHEN 'submit' THEN 60 ELSE 0 END, 'voided')});
	my ($session, $pid) = sending($ref);
	is(error_of($dbh, sub { $dbh->do("SELECT FROM order_timeout.$_ FOR UPDATE NOWAIT") }), '', "meanwhile no row of $_ is locked")
		for qw(orders attempts policies);
	$dbh->do('SELECT pg_cancel_backend(?)', undef, $pid);
	is(ended_with($session), '57014', 'cancelled while a void is sent');
	is_attempt($ref, 'a void that was cancelled in the middle', state => 'open', attempts => 0, lease_token => qr/./);
	is(void_written($ref), 0, 'nothing half done');
	eventually(sub { !attempt($ref)->{waits} }) or die "the lease of $ref does not lapse\n";
	send_refunds();
	is_attempt($ref, 'a void that was cancelled, later', state => 'voided', attempts => 1);
	is_deeply([ map { "$_->{action} $_->{attempt}" } @{ calls($ref) } ], [ 'submit 1', 'query 2' ], 'it is asked about');
}
{
	# The gateway takes longer than the lease, and another gets it.
	$dbh->do("UPDATE order_timeout.policies SET refund_lease = '300 milliseconds' WHERE policy = 'leased'");
	my $ref = to_void('leased', q{gate.dawdle(1.5, 'failed')});
	my $late = fork_all(1, sub {
		my (undef, undef, $err) = $server->psql('shop', "CALL order_timeout.send_refunds('1 second')");
		return { err => $err };
	});
	called($ref);
	eventually(sub { !attempt($ref)->{waits} }) or die "the lease of $ref does not lapse\n";
	my $claim = rows($dbh, 'claim_voids', 'worker', 10, '1 hour')->[0];
	is($claim->{attempt_ref}, $ref, 'a worker gets the void that lapsed');
	like((answers($late))[0]{err}, qr/WARNING: .*void_handler gate\.void answered about the void of attempt "$ref".* after the lease had lapsed/,
		'a void_handler that answers too late is reported');
	is_attempt($ref, 'the late answer changes nothing', attempts => 1, lease_token => $claim->{lease_token});
	is(call($dbh, 'complete_void', 'bank', $ref, 'voided', $claim->{lease_token})->{outcome}, 'recorded', 'the worker ends it');
}
{
	my $ref = to_void('sent', q{'voided'});
	my $session = $server->dbh('shop', user => 'plain');
	$session->do("CALL order_timeout.send_refunds('300 milliseconds')");
	is_attempt($ref, 'a void, sent by a role with access worker', state => 'voided');
	is(calls($ref)->[0]{caller}, 'plain', 'a void_handler is called as the caller');
	is($session->selectrow_array('SELECT current_user'), 'plain', 'and it is still the caller');
}

# Both kinds in turn, however much there is of one
{
	send_refunds();
	my @refunds = map { owed('sent', q{'succeeded'}) } 1 .. 6;
	my @voids = map { to_void('sent', q{'voided'}) } 1 .. 3;
	send_refunds("'1 second'");
	my $sent = join '', map { substr $_, 0, 1 } @{ $dbh->selectcol_arrayref(
		'SELECT payment_ref FROM gate.calls WHERE payment_ref = ANY (?) ORDER BY n', undef, [ @refunds, @voids ]) };
	like($sent, qr/^(?:pvpvpvppp|vpvpvpppp)$/, "refunds and voids take turns: $sent");
}
{
	my @refs = map { (owed('sent', q{gate.dawdle(0.05, 'succeeded')}), to_void('sent', q{gate.dawdle(0.05, 'voided')})) } 1 .. 15;
	my $open = sub {
		return $dbh->selectrow_array("SELECT (SELECT count(*) FROM order_timeout.attempts WHERE attempt_ref = ANY (?) AND state <> 'voided')
			+ (SELECT count(*) FROM order_timeout.refunds WHERE payment_ref = ANY (?) AND state <> 'succeeded')", undef, \@refs, \@refs);
	};
	my $end = time + 30;
	until (time > $end || !$open->()) {
		answers(fork_all(3, sub {
			$server->dbh('shop')->do("CALL order_timeout.send_refunds('2 seconds')");
			return [];
		}));
	}
	is($open->(), 0, 'three sessions: all refunds and voids are done');
	my ($times, $different, $sessions) = $dbh->selectrow_array(
		'SELECT count(*), count(DISTINCT refund_ref), count(DISTINCT pid) FROM gate.calls WHERE payment_ref = ANY (?)', undef, \@refs);
	is("$times $different", '30 30', 'each is sent once');
	cmp_ok($sessions, '>', 1, "$sessions of them share the work");
}

balanced($dbh, 'the funds');
sums_agree($dbh, 'the sums');
is($dbh->selectrow_array(<<'END'), 0, 'no key was sent for two obligations, and no obligation under two keys');
SELECT count(*) FROM (SELECT FROM gate.calls GROUP BY payment_ref, amount HAVING count(DISTINCT refund_ref) > 1
                      UNION ALL
                      SELECT FROM gate.calls GROUP BY refund_ref HAVING count(DISTINCT (payment_ref, amount)) > 1) AS wrong
END
is($dbh->selectrow_array('SELECT count(*) FROM order_timeout.conflicts'), 0, 'no conflict');

# ------------------------------------------------------------ its job

{
	is(error_of($dbh, sub { call($dbh, 'schedule_refunds') }), '55000', 'pg_cron is in another database');
	my (undef, undef, $err) = $server->psql('shop', 'SELECT order_timeout.schedule_refunds()');
	my ($line) = $err =~ /^HINT: .*?(SELECT\b.*;)/m;
	like($line, qr/order_timeout refunds in shop.*CALL order_timeout\.send_refunds\(\)/, 'the hint is the line to run there');
	my $cron = $server->dbh('postgres');
	$cron->do($_) for 'CREATE EXTENSION pg_cron', 'CREATE EXTENSION order_timeout', $line;
	my $jobs = sub {
		return join "\n", map { join '|', @$_ } @{ $cron->selectall_arrayref(
			'SELECT jobname, schedule, command, database, username FROM cron.job ORDER BY jobid') };
	};
	is($jobs->(), 'order_timeout refunds in shop|* * * * *|CALL order_timeout.send_refunds()|shop|postgres', 'it runs');
	my ($unschedule) = ($server->psql('shop', 'SELECT order_timeout.unschedule_refunds()'))[2] =~ /^HINT: .*?(SELECT\b.*;)/m;
	$cron->do($unschedule);
	is($jobs->(), '', 'and the line that takes it out again');

	# A role without superuser's rights has the job; the sweeper has its own.
	call($cron, 'grant_access', 'sender', 'operator');
	$cron->do($_) for 'GRANT USAGE ON SCHEMA cron TO sender', 'CREATE SCHEMA gate', 'GRANT USAGE ON SCHEMA gate TO sender',
		'CREATE FUNCTION gate.send(text, text, text, text, bigint, text, text, integer,
			OUT result text, OUT gateway_refund_ref text, OUT refunded_amount bigint, OUT error text) LANGUAGE sql AS
			$$ SELECT \'succeeded\', \'by \' || current_user, NULL::bigint, NULL $$';
	call($cron, 'set_hook', 'default', 'refund_handler', 'gate.send');
	my $sender = $server->dbh('postgres', user => 'sender');
	my $sweeper = call($sender, 'schedule_sweeper', '0 0 1 1 *');
	my $job = call($sender, 'schedule_refunds');
	is_deeply([ @$job{qw(schedule command)} ], [ '* * * * *', 'CALL order_timeout.send_refunds()' ], 'what is scheduled');
	isnt($job->{jobid}, $sweeper->{jobid}, 'next to the sweeper');
	is(call($sender, 'schedule_refunds')->{jobid}, $job->{jobid}, 'a repeat answers the same job');
	is(call($sender, 'schedule_refunds', '*/2 * * * *')->{schedule}, '*/2 * * * *', 'another schedule');
	isnt(error_of($sender, sub { call($sender, 'schedule_refunds', 'now and then') }), '', 'one that pg_cron does not know');
	isnt(call($sender, 'schedule_refunds', undef, 'second')->{jobid}, $job->{jobid}, 'another name, another job');
	is(call($sender, 'unschedule_refunds', 'second')->{outcome}, 'unscheduled', 'that one goes');
	call($sender, 'schedule_refunds');
	like($jobs->(), qr/^order_timeout refunds\|\* \* \* \* \*\|.*\|postgres\|sender$/m, 'the first one stays');

	call($cron, 'create_order', 'cron', 100, 'EUR', '1 hour');
	call($cron, 'cancel_order', 'cron');
	call($cron, 'record_payment', 'cron', 'bank', 'cron', 100, 'EUR');
	ok(eventually(sub { $cron->selectrow_array("SELECT state = 'succeeded' FROM order_timeout.refunds") }, ceil(time / 60) * 60 + 20 - time),
		'the job sends what is due');
	is($cron->selectrow_array('SELECT gateway_refund_ref FROM order_timeout.refunds'), 'by sender', 'as the role of the job');
	is($cron->selectrow_array("SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'"), 0, 'no run failed');
	is(call($sender, 'unschedule_refunds')->{outcome}, $_, $_) for qw(unscheduled not_scheduled);
	is($jobs->() =~ tr/\n//, 0, 'the sweeper stays scheduled');
	call($sender, 'unschedule_sweeper');
}

# ------------------------------------------------------------ the extension goes

{
	my $waiting = fork_all(1, sub {
		my (undef, undef, $err) = $server->psql('shop', "CALL order_timeout.send_refunds('1 minute')");
		return { err => $err };
	});
	eventually(sub { $dbh->selectrow_array(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND query LIKE 'CALL%send_refunds%' AND wait_event_type = 'Extension'}) })
		or die "it does not wait\n";
	$dbh->do("DELETE FROM order_timeout.hooks");
	$dbh->do('DROP EXTENSION order_timeout');
	like((answers($waiting))[0]{err}, qr/WARNING: .*was dropped/, 'the extension is dropped while it waits: it ends');
	$dbh->do('CREATE EXTENSION order_timeout');
	is(error_of($dbh, sub { send_refunds() }), '', 'and works again when it is back');
}
ok(!$server->log_contains(qr/PANIC|was terminated by signal|TRAP:/), 'no backend has crashed');

done_testing();
