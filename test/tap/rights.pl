# Nothing is PUBLIC's, each kind of access can do its own and no more, and
# what a caller puts in the way of names captures nothing.

use strict;
use warnings;

use OTServer;
use OTTest;
use Test::More;

my $server = OTServer->started('rights');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');

sub role {
	my ($name) = @_;
	$dbh->do('CREATE ROLE ' . $dbh->quote_identifier($name) . ' LOGIN');
	return $name;
}

# All that a role may do in our schema, a line each.
sub holds {
	my ($role) = @_;
	return $dbh->selectcol_arrayref(<<'END', undef, $role);
WITH me AS (SELECT oid AS role, 'order_timeout'::regnamespace AS schema FROM pg_roles WHERE rolname = ?)
SELECT privilege || ' ' || name COLLATE "C" FROM (
    SELECT 'EXECUTE' AS privilege, p.oid::regprocedure::text AS name
      FROM me JOIN pg_proc p ON p.pronamespace = me.schema
     WHERE has_function_privilege(me.role, p.oid, 'EXECUTE')
    UNION ALL
    SELECT privilege, c.oid::regclass::text
      FROM me JOIN pg_class c ON c.relnamespace = me.schema AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      CROSS JOIN unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS privilege
     WHERE has_table_privilege(me.role, c.oid, privilege)
        OR (privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
            AND has_any_column_privilege(me.role, c.oid, privilege))
    UNION ALL
    SELECT privilege, c.oid::regclass::text
      FROM me JOIN pg_class c ON c.relnamespace = me.schema AND c.relkind = 'S'
      CROSS JOIN unnest('{SELECT,USAGE,UPDATE}'::text[]) AS privilege
     WHERE has_sequence_privilege(me.role, c.oid, privilege)
    UNION ALL
    SELECT privilege, 'schema'
      FROM me CROSS JOIN unnest('{USAGE,CREATE}'::text[]) AS privilege
     WHERE has_schema_privilege(me.role, me.schema, privilege)) AS found
 ORDER BY 1
END
}

# ------------------------------------------------------------ nobody

cmp_ok(scalar @{ holds('postgres') }, '>', 100, 'there is something to hold');
is_deeply(holds(role('nobody')), [], 'a new role holds none of it');

# ------------------------------------------------------------ kinds of access

# One call of each function; for a role that may, it ends anyhow but with 42501.
my %try = (
	create_order       => q{SELECT order_timeout.create_order('try', 100, 'EUR')},
	record_payment     => q{SELECT order_timeout.record_payment('try', 'gate', 'try', 10, 'EUR')},
	cancel_order       => q{SELECT order_timeout.cancel_order('none')},
	expire_order       => q{SELECT order_timeout.expire_order('none')},
	extend_order       => q{SELECT order_timeout.extend_order('none', now() + interval '1 day')},
	set_deadline       => q{SELECT order_timeout.set_deadline('none', now() + interval '1 day')},
	reopen_order       => q{SELECT order_timeout.reopen_order('none')},
	change_order       => q{SELECT order_timeout.change_order('none', 1)},
	begin_attempt      => q{SELECT order_timeout.begin_attempt('none', 'gate', 'try')},
	end_attempt        => q{SELECT order_timeout.end_attempt('gate', 'try', 'failed')},
	authorize_attempt  => q{SELECT order_timeout.authorize_attempt('gate', 'try', 1, 'EUR', now())},
	claim_voids        => q{SELECT order_timeout.claim_voids('worker')},
	complete_void      => q{SELECT order_timeout.complete_void('gate', 'try', 'voided')},
	retry_void         => q{SELECT order_timeout.retry_void('gate', 'try')},
	resolve_link       => q{SELECT order_timeout.resolve_link('none', 'hook', 'note')},
	adopt_orders       => q{CALL order_timeout.adopt_orders('none')},
	request_refund     => q{SELECT order_timeout.request_refund('none', 'key')},
	claim_refunds      => q{SELECT order_timeout.claim_refunds('worker')},
	complete_refund    => q{SELECT order_timeout.complete_refund('none', 'succeeded')},
	record_refund      => q{SELECT order_timeout.record_refund('gate', 'none', 'ref', 1)},
	retry_refund       => q{SELECT order_timeout.retry_refund('none')},
	settle_refund      => q{SELECT order_timeout.settle_refund('none', 'note')},
	reverse_refund     => q{SELECT order_timeout.reverse_refund('none', 'reason')},
	stop_refund        => q{SELECT order_timeout.stop_refund('none', 'note')},
	withdraw_refund    => q{SELECT order_timeout.withdraw_refund('none', 'note')},
	reverse_chargeback => q{SELECT order_timeout.reverse_chargeback('gate', 'none')},
	resolve_held       => q{SELECT order_timeout.resolve_held('gate', 'none', 'refund')},
	accept_payment     => q{SELECT order_timeout.accept_payment('gate', 'none')},
	accept_short       => q{SELECT order_timeout.accept_short('none')},
	refund_orphan      => q{SELECT order_timeout.refund_orphan('gate', 'none')},
	assign_orphan      => q{SELECT order_timeout.assign_orphan('gate', 'none', 'try')},
	resolve_conflict   => q{SELECT order_timeout.resolve_conflict(1)},
	funds              => q{SELECT order_timeout.funds('none')},
	funds_violations   => q{SELECT order_timeout.funds_violations()},
	minor_units        => q{SELECT order_timeout.minor_units(1, 'EUR')},
	history            => q{SELECT order_timeout.history('none')},
	timeline           => q{SELECT order_timeout.timeline('none')},
	replay_orders      => q{SELECT order_timeout.replay_orders('SELECT 1 AS order_id, now() AS created_at, 1 AS amount, ''EUR'' AS currency, NULL AS paid_at, NULL AS paid_amount')},
	statement_layout   => q{SELECT order_timeout.statement_layout('stripe')},
	load_statement     => q{SELECT order_timeout.load_statement('gate', 'try', '{"header": ["id"], "kind": "kind", "kinds": {"p": "payment"}, "units": "major", "at": "at", "time_zone": "UTC", "reference": "id", "amount": "amount", "currency": "currency"}', E'id,kind,amount,currency,at\n"x",p,1,EUR,2026-05-10 00:00', '2026-05-10', '2026-05-11', '{"EUR": 100}')},
	check_statement    => q{SELECT order_timeout.check_statement('gate', 'try')},
	statement_totals   => q{SELECT order_timeout.statement_totals('gate', 'try')},
	apply_statement    => q{CALL order_timeout.apply_statement('gate', 'try')},
	unload_statement   => q{SELECT order_timeout.unload_statement('gate', 'none')},
	forget_order       => q{SELECT order_timeout.forget_order('none')},
	sweep              => q{CALL order_timeout.sweep('10 milliseconds')},
	sweep_once         => q{SELECT order_timeout.sweep_once()},
	send_refunds       => q{CALL order_timeout.send_refunds('10 milliseconds')},
	schedule_refunds   => q{SELECT order_timeout.schedule_refunds()},
	unschedule_refunds => q{SELECT order_timeout.unschedule_refunds()},
	schedule_sweeper   => q{SELECT order_timeout.schedule_sweeper()},
	unschedule_sweeper => q{SELECT order_timeout.unschedule_sweeper()},
	grant_access       => q{SELECT order_timeout.grant_access('nobody', 'reader')},
	revoke_access      => q{SELECT order_timeout.revoke_access('nobody', 'reader')},
);
my @application = qw(create_order record_payment cancel_order expire_order extend_order set_deadline reopen_order change_order
	begin_attempt end_attempt authorize_attempt request_refund funds history minor_units);
my @worker      = qw(claim_refunds complete_refund record_refund claim_voids complete_void send_refunds minor_units);
my @reader      = qw(funds funds_violations history timeline replay_orders minor_units check_statement statement_totals);
my %may = (
	application => \@application,
	worker      => \@worker,
	reader      => \@reader,
	operator    => [ grep { !/_access$/ } keys %try ],
);
my @tables = qw(policies orders attempts payments refunds events statements statement_lines event_totals);
my @views  = qw(health attention integrations consumers metrics);

for my $access (sort keys %may) {
	my $role = role(qq(${access}'s "role"));
	is(call($dbh, 'grant_access', $role, $access)->{outcome}, 'granted', "$access: granted");
	my $held = holds($role);
	call($dbh, 'grant_access', $role, $access);
	is_deeply(holds($role), $held, "$access: a repeat changes nothing");

	my $mine = $server->dbh('shop', user => $role);
	my %allowed = map { $_ => 1 } @{ $may{$access} };
	my (@refused, @open);
	for my $function (sort keys %try) {
		my $sqlstate = error_of($mine, sub { $mine->do($try{$function}) });
		push @refused, $function if $allowed{$function}  && $sqlstate eq '42501';
		push @open,    $function if !$allowed{$function} && $sqlstate ne '42501';
	}
	is_deeply(\@refused, [], "$access: may call its own functions");
	is_deeply(\@open,    [], "$access: and no others");

	my $reads = $access eq 'reader' || $access eq 'operator';
	for my $relation (@tables, @views) {
		is(error_of($mine, sub { $mine->do("SELECT * FROM order_timeout.$relation") }), $reads ? '' : '42501',
			$reads ? "$access: reads $relation" : "$access: does not read $relation");
	}
	my @written = grep { /^(?:INSERT|UPDATE|DELETE|TRUNCATE|REFERENCES|TRIGGER|CREATE)\b/ } @$held;
	if ($access eq 'operator') {
		is_deeply(\@written, [ map { my $verb = $_; map { "$verb order_timeout.$_" } qw(policies statement_lines statements) } qw(DELETE INSERT UPDATE) ],
			"$access: writes policies and statements, and nothing else");
		is(error_of($mine, sub { $mine->do($_) }), '', "$access: $_") for
			"INSERT INTO order_timeout.policies (policy) VALUES ('strict')",
			"UPDATE order_timeout.policies SET late_rule = 'at_deadline' WHERE policy = 'strict'",
			"DELETE FROM order_timeout.policies WHERE policy = 'strict'";
	} else {
		is_deeply(\@written, [], "$access: writes nothing");
	}
	$mine->disconnect;

	is(call($dbh, 'revoke_access', $role, $access)->{outcome}, 'revoked', "$access: revoked");
	is_deeply(holds($role), [], "$access: nothing is left");
	is(call($dbh, 'revoke_access', $role, $access)->{outcome}, 'revoked', "$access: a repeat is harmless");
	$dbh->do('DROP ROLE ' . $dbh->quote_identifier($role));
}

for my $function (qw(grant_access revoke_access)) {
	for my $bad ([ '22023', 'nobody', 'everything' ], [ '22004', 'nobody', undef ], [ '22004', undef, 'reader' ],
		[ '42704', 'no such role', 'reader' ]) {
		my ($sqlstate, @arguments) = @$bad;
		is(error_of($dbh, sub { call($dbh, $function, @arguments) }), $sqlstate,
			"$function(" . join(', ', map { $_ // 'null' } @arguments) . ')');
	}
}
is_deeply(holds('nobody'), [], 'nothing was given by the way');

# ------------------------------------------------------------ single functions

{
	my $role = role('narrow');
	$dbh->do("GRANT USAGE ON SCHEMA order_timeout TO $role");
	$dbh->do("GRANT EXECUTE ON FUNCTION order_timeout.record_payment TO $role");
	call($dbh, 'create_order', 'narrow', 100, 'EUR', '1 hour');
	my $mine = $server->dbh('shop', user => $role);

	is(call($mine, 'record_payment', 'narrow', 'gate', 'narrow-1', 150, 'EUR')->{outcome}, 'paid',
		'EXECUTE on one function is all that a call needs');
	is(call($mine, 'record_payment', 'unknown', 'gate', 'narrow-2', 10, 'EUR')->{outcome}, 'orphan', 'in each of its cases');
	is(scalar(grep { error_of($mine, sub { $mine->do($try{$_}) }) ne '42501' } grep { $_ ne 'record_payment' } keys %try),
		0, 'it opens no other function');
	is(error_of($mine, sub { $mine->do("SELECT * FROM order_timeout.$_") }), '42501', "nor $_") for @tables, @views;
	is($mine->selectrow_array('SELECT current_user'), $role, 'the role stays what it is');
}
{
	# Handing out access is for those who may: GRANT itself decides.
	my $role = role('climber');
	$dbh->do("GRANT USAGE ON SCHEMA order_timeout TO $role");
	$dbh->do("GRANT EXECUTE ON FUNCTION order_timeout.$_ TO $role") for qw(grant_access _access_grants);
	my $held = holds($role);
	my $mine = $server->dbh('shop', user => $role);
	error_of($mine, sub { call($mine, 'grant_access', $role, 'operator') });
	is_deeply(holds($role), $held, 'grant_access gives nothing that its caller could not give');
}

# ------------------------------------------------------------ captured names

# Everything that an unqualified name in our SQL could mean exists once more,
# first in the path: operators, functions and aggregates that raise an error,
# types that accept no value, tables that must stay empty.
my @captives = map { $_->[0] } @{ $dbh->selectall_arrayref(<<'END') };
SELECT relname FROM pg_class WHERE relnamespace = 'order_timeout'::regnamespace AND relkind IN ('r', 'v')
END
$dbh->do('CREATE SCHEMA trap');
$dbh->do(<<'SQL');
DO $do$
DECLARE
    some_types oid[] := ARRAY['text', 'bigint', 'integer', 'timestamptz', 'interval', 'jsonb', 'boolean', 'float8',
                              'numeric', 'bytea', 'uuid', 'name', 'oid', 'regclass', 'date', 'text[]',
                              'anyelement', 'anyarray', 'record']::regtype[]::oid[];
    body text := 'LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION ''captured'' USING ERRCODE = ''XX999''; END $$';
    o record;
BEGIN
    FOR o IN
        SELECT oid, oprname, oprresult, oprright, nullif(oprleft, 0) AS oprleft
          FROM pg_operator
         WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprright = ANY (some_types)
           AND (oprleft = 0 OR oprleft = ANY (some_types)) AND oprresult = ANY (some_types)
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION trap.operator_%s(%s) RETURNS %s %s', o.oid,
                concat_ws(', ', o.oprleft::regtype, o.oprright::regtype), o.oprresult::regtype, body);
            EXECUTE format('CREATE OPERATOR trap.%s (FUNCTION = trap.operator_%s, %s RIGHTARG = %s)', o.oprname, o.oid,
                'LEFTARG = ' || o.oprleft::regtype || ',', o.oprright::regtype);
        EXCEPTION WHEN invalid_function_definition THEN
            NULL;    -- a polymorphic result of other arguments
        END;
    END LOOP;
    FOR o IN
        SELECT proname, proargtypes, prorettype
          FROM pg_proc
         WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('f', 'a', 'w')
           AND proargtypes::oid[] <@ some_types AND prorettype = ANY (some_types)
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION trap.%I(%s) RETURNS %s %s', o.proname,
                (SELECT string_agg(t::regtype::text, ', ' ORDER BY n)
                   FROM unnest(o.proargtypes::oid[]) WITH ORDINALITY AS a (t, n)),
                o.prorettype::regtype, body);
        EXCEPTION WHEN invalid_function_definition OR duplicate_function THEN
            NULL;
        END;
    END LOOP;
END
$do$
SQL
my ($functions, $operators) = $dbh->selectrow_array(<<'END');
SELECT (SELECT count(*) FROM pg_proc WHERE pronamespace = 'trap'::regnamespace),
       (SELECT count(*) FROM pg_operator WHERE oprnamespace = 'trap'::regnamespace)
END
cmp_ok($functions, '>', 1000, 'functions are traps');
cmp_ok($operators, '>', 200,  'operators are traps');
$dbh->do("CREATE DOMAIN trap.$_ AS pg_catalog.$_ CHECK (false)")
	for qw(text int8 int4 timestamptz jsonb bool name oid numeric float8);
$dbh->do("CREATE TABLE trap.$_ AS SELECT * FROM order_timeout.$_ LIMIT 0") for @captives;
my $hostile = role('hostile');
call($dbh, 'grant_access', $hostile, 'operator');
$dbh->do("GRANT USAGE ON SCHEMA trap TO $hostile");
$dbh->do("GRANT ALL ON ALL TABLES IN SCHEMA trap TO $hostile");

my $trapped = $server->dbh('shop', user => $hostile);
$trapped->do("CREATE TEMPORARY TABLE $_ AS SELECT * FROM trap.$_ LIMIT 0") for @captives;    # no access reads all of ours
$trapped->do("CREATE TEMPORARY TABLE $_ AS SELECT * FROM pg_catalog.$_ LIMIT 0")
	for qw(pg_class pg_proc pg_namespace pg_extension pg_roles);
my $path = 'trap, pg_temp, pg_catalog, order_timeout';
$trapped->do("SET search_path = $path");
is(error_of($trapped, sub { $trapped->do('SELECT 1 OPERATOR(trap.+) 1') }), 'XX999', 'a trap closes');

# Outcomes, so that a call that quietly did nothing shows.
sub goes_on {
	my ($outcome, $function, @arguments) = @_;
	my $rows = eval { rows($trapped, $function, @arguments) };
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($rows ? $rows->[0]{outcome} : $trapped->errstr, $outcome, "$function captures nothing: $outcome");
	return $rows ? $rows->[0] : {};
}

sub claimed {
	my ($gateway) = @_;
	my $rows = eval { rows($trapped, 'claim_refunds', 'worker', 1, '1 minute', $gateway) };
	is($rows ? scalar @$rows : $trapped->errstr, 1, 'claim_refunds captures nothing');
	return $rows && $rows->[0] || {};
}

goes_on('created', 'create_order', 'h1', 100, 'EUR', '1 hour', undef, undef, '{"a": 1}');
goes_on('exists', 'create_order', 'h1', 100, 'EUR');
goes_on('partial', 'record_payment', 'h1', 'h', 'p1', 40, 'EUR');
goes_on('paid', 'record_payment', 'h1', 'h', 'p2', 80, 'EUR');
goes_on('duplicate', 'record_payment', 'h1', 'h', 'p2', 80, 'EUR');
goes_on('surplus', 'record_payment', 'h1', 'h2', 'p3', 10, 'EUR');
goes_on('wrong_currency', 'record_payment', 'h1', 'h3', 'p4', 10, 'USD');
goes_on('accepted', 'request_refund', 'h1', 'key', 15);
goes_on('duplicate', 'request_refund', 'h1', 'key', 15);
goes_on('recorded', 'record_refund', 'h', 'p1', 'outside', 5);

my $refund = claimed('h2');
goes_on('recorded', 'complete_refund', $refund->{refund_ref}, 'rejected', $refund->{lease_token});
goes_on('retried', 'retry_refund', $refund->{refund_ref});
$refund = claimed('h2');
goes_on('recorded', 'complete_refund', $refund->{refund_ref}, 'succeeded', $refund->{lease_token}, 'gr-1');
goes_on('conflict', 'complete_refund', $refund->{refund_ref}, 'succeeded', undef, 'gr-2');
goes_on('reversed', 'reverse_refund', $refund->{refund_ref}, 'account closed');
$refund = claimed('h3');
goes_on('recorded', 'complete_refund', $refund->{refund_ref}, 'rejected', $refund->{lease_token});
goes_on('settled', 'settle_refund', $refund->{refund_ref}, 'in cash');
my ($conflict) = $dbh->selectrow_array('SELECT max(conflict_id) FROM order_timeout.conflicts');
goes_on('resolved', 'resolve_conflict', $conflict, 'looked at');

goes_on('created', 'create_order', 'h2', 100, 'EUR', '1 hour');
goes_on('cancelled', 'cancel_order', 'h2', 'why not');
goes_on('late', 'record_payment', 'h2', 'h4', 'p5', 100, 'EUR');
goes_on('created', 'create_order', 'h3', 100, 'EUR', '1 hour');
goes_on('extended', 'extend_order', 'h3', '2099-01-01 00:00:00+00');
goes_on('not_due', 'expire_order', 'h3');
goes_on('orphan', 'record_payment', 'h4', 'h', 'p6', 30, 'EUR');
goes_on('refunded', 'refund_orphan', 'h', 'p6');
goes_on('orphan', 'record_payment', 'h5', 'h', 'p7', 30, 'EUR');
goes_on('partial', 'assign_orphan', 'h', 'p7', 'h3');

is(error_of($trapped, sub { $trapped->do($_) }), '', "captures nothing: $_") for
	"INSERT INTO order_timeout.policies (policy, on_late) VALUES ('careful', 'hold'), ('unused', 'refund')",
	"UPDATE order_timeout.policies SET policy = 'spare' WHERE policy OPERATOR(pg_catalog.=) 'unused'";
goes_on('created', 'create_order', "h$_", 100, 'EUR', '10 milliseconds', undef, 'careful') for 6, 7, 8;
goes_on('created', 'create_order', 'h9', 0, 'EUR', undef, undef, 'careful');
$dbh->do('SELECT pg_sleep(0.05)');
goes_on('expired', 'expire_order', 'h6');
is(eval { rows($trapped, 'sweep_once', 1)->[0]{expired} } // $trapped->errstr, 1, 'sweep_once captures nothing');
is(error_of($trapped, sub { $trapped->do("CALL order_timeout.sweep('100 milliseconds')") }), '', 'sweep captures nothing')
	or diag($trapped->errstr);
cmp_ok($dbh->selectrow_array('SELECT count(*) FROM order_timeout.event_totals'), '>', 0, 'nor does counting events');

$dbh->do(q{CREATE FUNCTION public.handle(text, text, text, text, bigint, text, text, integer, OUT result text,
	OUT gateway_refund_ref text, OUT refunded_amount bigint, OUT error text) LANGUAGE sql AS $$ SELECT 'failed'::pg_catalog.text, NULL::pg_catalog.text,
	NULL::pg_catalog.int8, current_user::pg_catalog.text $$});
call($dbh, 'set_hook', 'default', 'refund_handler', 'public.handle');
$dbh->do(q{CREATE FUNCTION public.handle_void(text, text, text, bigint, text, text, integer, OUT result text, OUT error text) LANGUAGE sql AS
	$$ SELECT 'failed'::pg_catalog.text, current_user::pg_catalog.text $$});
call($dbh, 'set_hook', 'default', 'void_handler', 'public.handle_void');
goes_on('created', 'create_order', 'h10', 100, 'EUR', '1 hour');
goes_on('begun', 'begin_attempt', 'h10', 'h', 'a1');
goes_on('cancelled', 'cancel_order', 'h10');
is(error_of($trapped, sub { $trapped->do("CALL order_timeout.send_refunds('200 milliseconds')") }), '', 'send_refunds captures nothing')
	or diag($trapped->errstr);
cmp_ok($dbh->selectrow_array('SELECT count(*) FROM order_timeout.refunds WHERE state = ? AND last_error = ?', undef, 'failed', $hostile),
	'>', 0, 'it calls the handler, as the caller');
is($dbh->selectrow_array("SELECT last_error FROM order_timeout.attempts WHERE attempt_ref = 'a1'"), $hostile, 'and that of voids');
call($dbh, 'set_hook', 'default', $_, undef) for qw(refund_handler void_handler);
is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.orders WHERE order_id IN ('h7', 'h8') AND state = 'expired'"),
	2, 'they close orders');
goes_on('held', 'record_payment', 'h6', 'h', 'p8', 100, 'EUR');
goes_on('accepted', 'resolve_held', 'h', 'p8', 'accept');

goes_on('created', 'create_order', 'h11', 100, 'EUR', '1 hour');
goes_on('loaded', 'load_statement', 's', 'day', '{"header": ["id"], "kind": "kind", "kinds": {"p": "payment"}, "units": "major", "at": "at",
	"time_zone": "UTC", "reference": "id", "our_reference": "ours", "amount": "amount", "currency": "currency"}',
	qq(id,kind,amount,currency,at,ours\n"x",p,1,EUR,2026-05-10 00:00,h11), '2026-05-10', '2026-05-11', '{"EUR": 100}');
is(error_of($trapped, sub { $trapped->do("CALL order_timeout.apply_statement('s', 'day')") }), '', 'apply_statement captures nothing')
	or diag($trapped->errstr);
is($dbh->selectrow_array("SELECT outcome FROM order_timeout.statement_lines WHERE gateway = 's'"), 'record_payment: paid', 'it records the payment');
is(eval { scalar @{ rows($trapped, 'check_statement', 's', 'day') } } // $trapped->errstr, 0, 'check_statement captures nothing');
is(eval { rows($trapped, 'statement_totals', 's', 'day')->[0]{missing} } // $trapped->errstr, 0, 'statement_totals captures nothing');
goes_on('unloaded', 'unload_statement', 's', 'day');

is(eval { rows($trapped, 'funds', 'h1')->[0]{paid} } // $trapped->errstr, 130, 'funds captures nothing');
is(eval { scalar @{ rows($trapped, 'funds_violations') } } // $trapped->errstr, 0, 'funds_violations captures nothing');
cmp_ok(eval { scalar @{ rows($trapped, 'history', 'h1') } } // 0, '>', 5, 'history captures nothing');
cmp_ok(eval { scalar @{ rows($trapped, 'timeline', 'h1') } } // 0, '>', 5, 'timeline captures nothing');
is(error_of($trapped, sub { $trapped->do($_) }), '', "captures nothing: $_") for
	'SELECT * FROM order_timeout.health',
	'SELECT * FROM order_timeout.metrics',
	'SELECT * FROM order_timeout.attention';
is(error_of($trapped, sub { call($trapped, $_) }), '55000', "$_ captures nothing") for qw(schedule_sweeper unschedule_sweeper schedule_refunds unschedule_refunds);
is($trapped->selectrow_array('SHOW search_path'), $path, 'the path is still the one that the caller set');

my $filled = 0;
for my $captive (@captives) {
	my ($in_schema) = $dbh->selectrow_array("SELECT pg_catalog.count(*) FROM trap.$captive");
	my ($temporary) = $trapped->selectrow_array("SELECT pg_catalog.count(*) FROM pg_temp.$captive");
	$filled += $in_schema + $temporary;
}
is($filled, 0, 'the tables of the same name are empty');
balanced($dbh, 'the funds');

# What the superuser calls under such a path goes the same way.
$dbh->do("SET search_path = $path");
is(error_of($dbh, sub { call($dbh, $_, 'nobody', 'application') }), '', "$_ captures nothing") for qw(grant_access revoke_access);
$dbh->do('RESET search_path');

# ------------------------------------------------------------ a squatted schema

$server->safe_psql('postgres', 'CREATE DATABASE squatted; CREATE ROLE squatter LOGIN; GRANT CREATE ON DATABASE squatted TO squatter');
$server->dbh('squatted', user => 'squatter')->do('CREATE SCHEMA order_timeout');
my $squatted = $server->dbh('squatted');
isnt(error_of($squatted, sub { $squatted->do('CREATE EXTENSION order_timeout') }), '',
	'a schema that somebody else owns is refused');
is($squatted->selectrow_array("SELECT count(*) FROM pg_proc WHERE pronamespace = 'order_timeout'::regnamespace"), 0,
	'nothing is made in it');
$squatted->do('DROP SCHEMA order_timeout');
is(error_of($squatted, sub { $squatted->do('CREATE EXTENSION order_timeout') }), '', 'without it all is well');

done_testing();
