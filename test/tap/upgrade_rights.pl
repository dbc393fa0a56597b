# An upgrade from every released version keeps what roles were granted, gives
# each role that had an access what is new in it, and a dump carries it all.
# What users made on top of a function that changes stops it before anything.

use strict;
use warnings;

use FindBin;
use OTCatalog;
use OTServer;
use OTTest;
use Test::More;

plan skip_all => 'no store takes part: once is enough' if ($ENV{OT_STORE} // 'auto') eq 'sql';

my @released = sort map { /--(.+)\.sql$/ } glob "$FindBin::Bin/../../sql/released/*.sql";
my @accesses = qw(application worker operator reader);

# Roles with less than an access, or with one that was granted piece by piece.
my @others = qw(partial almost piecemeal leaver);

my $server = OTServer->started('upgrade_rights');
$server->safe_psql('postgres', 'CREATE DATABASE fresh; ' . join '; ', map { "CREATE ROLE $_ LOGIN" } @accesses, @others);
my $fresh = $server->dbh('fresh');
$fresh->do('CREATE EXTENSION order_timeout');
my $version = version_of($fresh);
call($fresh, 'grant_access', $_, $_) for @accesses;

sub version_of {
	return scalar $_[0]->selectrow_array("SELECT extversion FROM pg_extension WHERE extname = 'order_timeout'");
}

sub database {
	my ($name, $old) = @_;
	$server->safe_psql('postgres', "CREATE DATABASE $name");
	my $dbh = $server->dbh($name);
	$dbh->do("CREATE EXTENSION order_timeout VERSION '$old'") if defined $old;
	return $dbh;
}

# What was granted to a role itself, or to PUBLIC. By names: a signature may change. Internal functions of 0.1.0 have no
# underscore yet.
sub granted_to {
	my ($dbh, $role) = @_;
	return $dbh->selectcol_arrayref(<<'END', undef, $role);
SELECT concat_ws(' ', x.privilege_type, 'on', o.name, CASE WHEN x.is_grantable THEN 'WITH GRANT OPTION' END) COLLATE "C"
  FROM (SELECT relname AS name, relacl AS acl FROM pg_class WHERE relnamespace = 'order_timeout'::regnamespace
        UNION ALL SELECT ltrim(proname, '_') || '()', proacl FROM pg_proc WHERE pronamespace = 'order_timeout'::regnamespace
        UNION ALL SELECT nspname, nspacl FROM pg_namespace WHERE nspname = 'order_timeout') o, aclexplode(o.acl) x
 WHERE CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END = ?
 ORDER BY 1
END
}

# An internal function's name in this version, and its rights.
sub internal {
	my ($dbh, $name) = @_;
	return $dbh->selectrow_array(<<'END', undef, $name);
SELECT oid::regproc, proacl::text FROM pg_proc WHERE pronamespace = 'order_timeout'::regnamespace AND ltrim(proname, '_') = ?
END
}

# { access => { name => a statement that ends anyhow but with 42501, for a role that may } }
sub tries {
	my ($dbh) = @_;
	my ($grants) = internal($dbh, 'access_grants');
	my %tries;
	for my $access (@accesses) {
		$tries{$access} = { map { @$_ } @{ $dbh->selectall_arrayref(<<"END", undef, ($access) x 2) } };
SELECT ltrim(p.proname, '_'), format('%s order_timeout.%I(%s)', CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END, p.proname,
                         (SELECT string_agg(format(CASE WHEN p.prokind = 'p' AND t = 'interval'::regtype THEN '''1 s''::%s'
                                                        WHEN p.proisstrict THEN '(SELECT NULL::%s)'    -- of a NULL it is not called
                                                        ELSE 'NULL::%s' END, t::regtype), ', ')
                            FROM unnest(p.proargtypes) t))
  FROM pg_proc p WHERE 'EXECUTE ON ROUTINE ' || p.oid::regprocedure IN (SELECT $grants(?))
UNION ALL
SELECT c.relname, format('SELECT FROM order_timeout.%I', c.relname)
  FROM pg_class c WHERE format('SELECT ON order_timeout.%I', c.relname) IN (SELECT $grants(?))
END
	}
	return \%tries;
}

# ------------------------------------------------------------ rights

for my $old (@released) {
	my $name = 'from_' . $old =~ tr/./_/r;
	my $dbh = database($name, $old);
	my ($before, $now) = (tries($dbh), tries($fresh));
	my %new = map {
		my $access = $_;
		$access => { map { $_ => $now->{$access}{$_} } grep { !exists $before->{$access}{$_} } keys %{ $now->{$access} } };
	} @accesses;
	cmp_ok(scalar keys %{ $new{operator} }, '>', 0, "$old: there is something new for an operator");

	my ($grants) = internal($dbh, 'access_grants');
	my ($call) = internal($dbh, 'call_pg_cron');
	call($dbh, 'grant_access', $_, $_) for @accesses;
	call($dbh, 'grant_access', $_, 'operator') for qw(almost leaver);
	$dbh->do($_) for
		# None of the four any more.
		'REVOKE SELECT ON order_timeout.sweeps FROM almost',
		(map { "REVOKE EXECUTE ON FUNCTION order_timeout.$_ FROM almost" } qw(cancel_order claim_refunds)),
		'GRANT USAGE ON SCHEMA order_timeout TO partial',
		'GRANT EXECUTE ON FUNCTION order_timeout.record_payment TO partial WITH GRANT OPTION',
		'GRANT EXECUTE ON FUNCTION order_timeout.resolve_conflict TO partial',
		'GRANT SELECT ON order_timeout.health TO partial',
		'GRANT EXECUTE ON FUNCTION order_timeout.funds_violations TO PUBLIC',
		map { "GRANT $_ TO piecemeal" } @{ $dbh->selectcol_arrayref("SELECT $grants('operator')") };
	# By another role than the owner.
	$dbh->do($_) for "REVOKE EXECUTE ON FUNCTION $call FROM piecemeal", "GRANT EXECUTE ON FUNCTION $call TO partial WITH GRANT OPTION",
		'SET ROLE partial', "GRANT EXECUTE ON FUNCTION $call TO piecemeal", 'RESET ROLE';
	my (undef, $rights) = internal($dbh, 'call_pg_cron');
	my %before = map { $_ => granted_to($dbh, $_) } @accesses, @others, 'PUBLIC';
	cmp_ok(scalar @{ $before{$_} }, '>', 0, "$old: $_ was granted something") for sort keys %before;

	$dbh->do('ALTER EXTENSION order_timeout UPDATE');
	is(version_of($dbh), $version, "$old: upgraded to $version");
	is((internal($dbh, 'call_pg_cron'))[1], $rights, "$old: a function that was renamed has the rights that it had");

	my $file = $server->backup_dir . "/$name.dump";
	my $copy = database("${name}_copy");
	for my $command ([ 'pg_dump', '-Fc', '-f', $file, '-d', $name ],
		[ 'pg_restore', '--exit-on-error', '-d', "${name}_copy", $file ]) {
		my ($out, $err);
		ok($server->run_log($command, '>', \$out, '2>', \$err), "$old: $command->[0]") or diag($err);
	}

	for ([ $dbh, "$old, upgraded" ], [ $copy, "$old, upgraded, dumped and restored" ]) {
		my ($db, $when) = @$_;
		is_deeply(granted_to($db, $_), granted_to($fresh, $_), "$when: $_ has what a fresh one has") for @accesses;
		is_deeply(granted_to($db, 'piecemeal'), granted_to($fresh, 'operator'), "$when: however it was granted");
		is_deeply(granted_to($db, $_), $before{$_}, "$when: $_ has what it had, and nothing new") for qw(partial almost PUBLIC);

		for my $access (@accesses) {
			my $mine = $server->dbh($db->{pg_db}, user => $access);
			isnt(error_of($mine, sub { $mine->do($new{$access}{$_}) }), '42501', "$when: $access may use $_")
				for sort keys %{ $new{$access} };
		}
		for my $role (qw(partial almost)) {
			my $mine = $server->dbh($db->{pg_db}, user => $role);
			is(error_of($mine, sub { $mine->do($new{operator}{$_}) }), '42501', "$when: $role may not use $_")
				for sort keys %{ $new{operator} };
		}
	}

	# Nothing remembers a role that gave back its rights.
	$_->do('DROP OWNED BY leaver') for $dbh, $copy;
	is(error_of($dbh, sub { $dbh->do('DROP ROLE leaver') }), '', "$old: a role without rights can be dropped");
	$dbh->do('CREATE ROLE leaver LOGIN');
}

# ------------------------------------------------------------ what users made on top

# The error of an update that is refused: SQLSTATE and lines.
sub refused_update {
	my ($dbh) = @_;
	my $state = error_of($dbh, sub { $dbh->do('ALTER EXTENSION order_timeout UPDATE') });
	my ($message, @more) = split /\n/, $state eq '' ? '' : $dbh->errstr;
	my ($hint) = grep { /^HINT:/ } @more;
	return { state => $state, message => $message // '', detail => join("\n", grep { / uses / && !/'|^\s/ } @more), hint => $hint // '' };
}

sub nothing_changed {
	my ($dbh, $old, $catalog, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(version_of($dbh), $old, "$name: the version is the same");
	my @differences = catalog_differences($catalog, catalog_of($dbh));
	return is(scalar @differences, 0, "$name: nothing has changed") || diag(@differences);
}

# One view, and what the HINT says.
for my $old (@released) {
	my $dbh = database('a_view_on_' . $old =~ tr/./_/r, $old);
	$dbh->do(<<'END');
CREATE VIEW takings AS
SELECT o.order_id, r.outcome
  FROM order_timeout.orders o, order_timeout.record_payment(o.order_id, 'bank', 'p1', 100, 'EUR') r
END
	my $catalog = catalog_of($dbh);
	my $refused = refused_update($dbh);
	is($refused->{state}, '2BP01', "$old: a view on record_payment stops the update");
	like($refused->{message}, qr/: view public\.takings$/, "$old: its name is in the message");
	like($refused->{detail}, qr/\bview public\.takings uses function order_timeout\.record_payment\(/, "$old: and what it uses");
	like($refused->{hint}, qr/\bpg_get_viewdef\b.*\bdrop it, run ALTER EXTENSION order_timeout UPDATE, and create it again\.$/,
		"$old: and what to do");
	nothing_changed($dbh, $old, $catalog, $old);

	my ($definition) = $dbh->selectrow_array("SELECT pg_get_viewdef('takings'::regclass)");
	$dbh->do($_) for 'BEGIN', 'DROP VIEW takings', 'ALTER EXTENSION order_timeout UPDATE',
		"CREATE VIEW takings AS $definition", 'COMMIT';
	is(version_of($dbh), $version, "$old: the view dropped, it is upgraded");
	call($dbh, 'create_order', 'o1', 100, 'EUR');
	is($dbh->selectrow_array('SELECT outcome FROM takings'), 'paid', "$old: the view works again");
}

# All that can depend on a function, also by way of another object.
my $shop = <<'END';
CREATE SCHEMA shop;
CREATE TABLE shop.bank_line (order_id text, ref text, amount bigint);
CREATE VIEW shop.takings AS
SELECT r.* FROM shop.bank_line b, order_timeout.record_payment(b.order_id, 'bank', b.ref, b.amount, 'EUR') r;
CREATE VIEW shop.paid AS SELECT * FROM shop.takings WHERE outcome = 'paid';
CREATE MATERIALIZED VIEW shop.proof AS SELECT * FROM order_timeout.funds_violations() WITH NO DATA;
CREATE INDEX proof_by_order ON shop.proof (order_id);
CREATE FUNCTION shop.give_back(order_id text) RETURNS text
BEGIN ATOMIC SELECT outcome FROM order_timeout.request_refund(order_id, 'shop'); END;
CREATE FUNCTION shop.is_sound(id bigint) RETURNS boolean IMMUTABLE
BEGIN ATOMIC SELECT id > 0 AND NOT EXISTS (SELECT FROM order_timeout.funds_violations()); END;
CREATE TABLE shop.task (
    id bigint CONSTRAINT is_a_conflict CHECK (order_timeout.resolve_conflict(id) IS NOT NULL),
    outcome text DEFAULT order_timeout.resolve_conflict(1),
    sound boolean GENERATED ALWAYS AS (shop.is_sound(id)) STORED);
CREATE INDEX sound_tasks ON shop.task (id) WHERE shop.is_sound(id);
CREATE VIEW shop.sound AS SELECT sound FROM shop.task;
CREATE POLICY own_tasks ON shop.task USING (order_timeout.resolve_conflict(id) IS NOT NULL);
CREATE RULE look_first AS ON INSERT TO shop.bank_line DO ALSO SELECT * FROM order_timeout.funds_violations();
CREATE TRIGGER resolved BEFORE UPDATE ON shop.task FOR EACH ROW
WHEN (order_timeout.resolve_conflict(NEW.id) = 'resolved') EXECUTE FUNCTION suppress_redundant_updates_trigger();
-- These need nothing that changes.
CREATE VIEW shop.orders AS SELECT * FROM order_timeout.orders;
CREATE VIEW shop.tasks AS SELECT id, outcome FROM shop.task;
CREATE FUNCTION shop.pay(order_id text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN RETURN (SELECT outcome FROM order_timeout.record_payment(order_id, 'bank', 'p1', 100, 'EUR')); END $$;
END
my %uses = (
	'view shop.takings'                                => 'function order_timeout.record_payment',
	'view shop.paid'                                   => 'view shop.takings',
	'materialized view shop.proof'                     => 'function order_timeout.funds_violations',
	'index shop.proof_by_order'                        => 'materialized view shop.proof',
	'function shop.give_back(text)'                    => 'function order_timeout.request_refund',
	'function shop.is_sound(bigint)'                         => 'function order_timeout.funds_violations',
	'constraint is_a_conflict on table shop.task'      => 'function order_timeout.resolve_conflict',
	'default value for column outcome of table shop.task' => 'function order_timeout.resolve_conflict',
	'column sound of table shop.task'                  => 'function shop.is_sound(bigint)',
	'index shop.sound_tasks'                           => 'function shop.is_sound(bigint)',
	'view shop.sound'                                  => 'column sound of table shop.task',
	'policy own_tasks on table shop.task'              => 'function order_timeout.resolve_conflict',
	'rule look_first on table shop.bank_line'          => 'function order_timeout.funds_violations',
	'trigger resolved on table shop.task'              => 'function order_timeout.resolve_conflict',
);

for my $old (@released) {
	my $name = 'a_shop_on_' . $old =~ tr/./_/r;
	my $dbh = database($name, $old);
	$dbh->do($shop);
	my $catalog = catalog_of($dbh);
	my $refused = refused_update($dbh);
	is($refused->{state}, '2BP01', "$old: a shop stops the update");
	my @found = map { s/^DETAIL:\s+//r =~ s/ uses function order_timeout\.\w+\K\(.*//r } split /\n/, $refused->{detail};
	is_deeply([ sort @found ], [ sort map { "$_ uses $uses{$_}" } keys %uses ], "$old: all that depends is listed, and nothing else");
	is_deeply([ grep { index($refused->{message}, $_) < 0 } sort keys %uses ], [], "$old: all names are in the message");
	nothing_changed($dbh, $old, $catalog, "$old, a shop");

	# The other way that the HINT names.
	my $file = $server->backup_dir . "/$name.sql";
	my ($out, $err);
	ok($server->run_log([ 'pg_dump', '--schema-only', '-n', 'shop', '-f', $file, '-d', $name ], '>', \$out, '2>', \$err),
		"$old: the shop is saved") or diag($err);
	{
		local $dbh->{PrintWarn} = 0;
		$dbh->do($_) for 'SET client_min_messages = warning', 'DROP SCHEMA shop CASCADE', 'ALTER EXTENSION order_timeout UPDATE';
	}
	ok($server->run_log([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $name, '-f', $file ], '>', \$out, '2>', \$err),
		"$old: and created again after the update") or diag($err);
	is(version_of($dbh), $version, "$old: upgraded to $version");
}

done_testing();
