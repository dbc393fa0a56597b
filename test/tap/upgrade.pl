# From every version that was released to this one: the upgraded database and a
# fresh one have the same objects, all rows and rights are kept, and calls work,
# also in sessions that were there before. With the files of this version and
# the objects of an older one, calls work or say what to run.

use strict;
use warnings;
use utf8;

use DBD::Pg qw(:async);
use FindBin;
use OTCatalog;
use OTRows;
use OTServer;
use OTTest;
use Test::More;

plan skip_all => 'it chooses the stores by itself: once is enough' if ($ENV{OT_STORE} // 'auto') eq 'sql';

my $root = "$FindBin::Bin/../..";
my @released = sort map { /--(.+)\.sql$/ } glob "$root/sql/released/*.sql";
my @stores = qw(auto sql);

# The four accesses, each as the role of its name.
my @accesses = qw(application worker operator reader);

my $server = OTServer->started('upgrade');
$server->safe_psql('postgres', 'CREATE DATABASE fresh; ' . join '; ', map { "CREATE ROLE $_ LOGIN" } @accesses);
my $fresh = $server->dbh('fresh');
$fresh->do('CREATE EXTENSION order_timeout');
my $version = version_of($fresh);
my $catalog = catalog_of($fresh);

sub version_of {
	return scalar $_[0]->selectrow_array("SELECT extversion FROM pg_extension WHERE extname = 'order_timeout'");
}

sub same_objects {
	my ($dbh, $name) = @_;
	my @differences = catalog_differences($catalog, catalog_of($dbh));

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(scalar @differences, 0, $name) || diag(@differences);
}

# ------------------------------------------------------------ a difference is seen

# A comparison that sees nothing finds everything equal.
cmp_ok(scalar @released, '>', 0, 'there are released versions');
my @damages = (
	[ 'ALTER TABLE order_timeout.orders ALTER paid DROP DEFAULT', 'pg_attribute: order_timeout.orders.paid' ],
	[ 'ALTER TABLE order_timeout.orders ALTER paid DROP NOT NULL', 'pg_attribute: order_timeout.orders.paid' ],
	[ 'ALTER TABLE order_timeout.sweeps ALTER last_error TYPE text COLLATE "C"', 'pg_attribute: order_timeout.sweeps.last_error' ],
	[ 'ALTER TABLE order_timeout.events ALTER id SET GENERATED ALWAYS', 'pg_attribute: order_timeout.events.id' ],
	[ 'ALTER SEQUENCE order_timeout.events_id_seq CACHE 2', 'pg_sequence: order_timeout.events_id_seq' ],
	[ 'ALTER TABLE order_timeout.orders SET (fillfactor = 90)', 'pg_class: order_timeout.orders' ],
	[ 'ALTER TABLE order_timeout.orders DROP CONSTRAINT orders_funds', 'pg_constraint: orders_funds on order_timeout.orders' ],
	[ 'ALTER TABLE order_timeout.orders ADD CHECK (true) NOT VALID', 'pg_constraint: orders_check on order_timeout.orders' ],
	[ 'CREATE INDEX another ON order_timeout.orders (paid)', 'pg_index: order_timeout.another' ],
	[ 'ALTER FUNCTION order_timeout.funds(text) VOLATILE', 'pg_proc: order_timeout.funds(text)' ],
	[ 'ALTER FUNCTION order_timeout.funds(text) SECURITY DEFINER', 'pg_proc: order_timeout.funds(text)' ],
	[ 'GRANT EXECUTE ON FUNCTION order_timeout.funds(text) TO PUBLIC', 'pg_proc: order_timeout.funds(text)' ],
	[ 'ALTER FUNCTION order_timeout.grant_access(text, text) RESET search_path', 'pg_proc: order_timeout.grant_access(text,text)' ],
	[ 'GRANT USAGE ON SCHEMA order_timeout TO PUBLIC', 'pg_namespace: order_timeout' ],
	[ 'GRANT SELECT ON order_timeout.health TO PUBLIC', 'pg_class: order_timeout.health' ],
	[ 'GRANT USAGE ON SEQUENCE order_timeout.events_id_seq TO PUBLIC', 'pg_class: order_timeout.events_id_seq' ],
	[ 'GRANT SELECT (paid) ON order_timeout.orders TO PUBLIC', 'pg_attribute: order_timeout.orders.paid' ],
	[ 'ALTER TABLE order_timeout.policies DISABLE TRIGGER keep_used', 'pg_trigger: keep_used on order_timeout.policies' ],
	[ 'CREATE OR REPLACE VIEW order_timeout.health AS ' . health_but('count(*) + 0 AS overdue'), 'pg_rewrite: "_RETURN" on order_timeout.health' ],
	[ 'COMMENT ON TABLE order_timeout.orders IS NULL', 'pg_description: table order_timeout.orders' ],
	[ 'COMMENT ON FUNCTION order_timeout.funds(text) IS NULL', 'pg_description: function order_timeout.funds(pg_catalog.text)' ],
	[ 'COMMENT ON SCHEMA order_timeout IS NULL', 'pg_description: schema order_timeout' ],
	[ 'ALTER EXTENSION order_timeout DROP VIEW order_timeout.health', 'pg_depend: view order_timeout.health' ],
	[ "UPDATE pg_extension SET extcondition[1] = 'WHERE false' WHERE extname = 'order_timeout'", 'pg_extension.extconfig: order_timeout.policies' ],
	[ "UPDATE pg_init_privs SET initprivs = initprivs || 'reader=r/postgres'::aclitem WHERE objoid = 'order_timeout.orders'::regclass",
		'pg_init_privs: table order_timeout.orders' ],
);

sub health_but {
	my ($overdue) = @_;
	my ($definition) = $fresh->selectrow_array("SELECT pg_get_viewdef('order_timeout.health'::regclass)");
	$definition =~ s/count\(\*\) FILTER [^\n]* AS overdue/$overdue/ or die "no column overdue in:\n$definition\n";
	return $definition;
}

for my $damage (@damages) {
	my ($statement, $object) = @$damage;
	$fresh->begin_work;
	$fresh->do($statement);
	my @differences = catalog_differences($catalog, catalog_of($fresh));
	$fresh->rollback;
	ok((grep { /^\Q$object\E\n  (?:fresh|upgraded): / } @differences) == 1, "seen: " . $statement =~ s/\n.*/.../sr)
		or diag("wanted $object, seen:\n", @differences);
}
same_objects($fresh, 'and nothing where nothing differs');

# ------------------------------------------------------------ what calls do

# A session of an application that knows the functions, in a store of its own.
sub session_in {
	my ($db, $store) = @_;
	my $dbh = $server->dbh($db);
	$dbh->do("SET order_timeout.store = '$store'");
	return $dbh;
}

my $number = 0;

# Most kinds of reading and writing the tables; each call is a transaction.
# Answers the calls that were refused: what was called, the SQLSTATE, the error,
# and, if a session is there to look, whether the call has left something.
sub refused_of {
	my ($dbh, $watch) = @_;
	my $id = 'trade-' . ++$number;
	my @refused;
	for my $call (
		[ 'create_order', $id, 100, 'EUR' ],
		[ 'record_payment', $id, 'bank', "$id-1", 60, 'EUR' ],
		[ 'record_payment', $id, 'bank', "$id-2", 60, 'EUR' ],
		[ 'record_payment', $id, 'bank', "$id-3", 10, 'USD' ],
		[ 'request_refund', $id, 'key', 30 ],
		[ 'claim_refunds', 'worker', 1, undef, 'bank' ],
		[ 'record_payment', "$id-orphan", 'bank', "$id-4", 10, 'EUR' ],
		[ 'refund_orphan', 'bank', "$id-4" ],
		[ 'record_refund', 'bank', "$id-1", "$id-chargeback", 5, 'chargeback' ],
		[ 'record_refund', 'bank', "$id-1", "$id-too-much", 500, 'chargeback' ],
		[ 'resolve_conflict', 1, 'looked' ],
		[ 'create_order', "$id-cancelled", 100, 'EUR' ],
		[ 'extend_order', "$id-cancelled", '2100-01-01' ],
		[ 'cancel_order', "$id-cancelled" ],
		[ 'expire_order', $id ],
		['sweep_once'],
		[ 'funds', $id ],
		[ 'history', $id ],
		['funds_violations'],
	) {
		my $before = $watch && rows_of($watch);
		next if eval { rows($dbh, @$call); 1 };
		my $refused = { name => $call->[0], state => $dbh->state, error => $dbh->errstr // $@ };
		$refused->{wrote} = 1 if $watch && !eq_hash(rows_of($watch), $before);
		push @refused, $refused;
	}
	return @refused;
}

# A number that was drawn from a sequence is gone, whatever becomes of the call.
sub rows_of {
	my ($dbh) = @_;
	my $columns = columns_of($dbh);
	return contents_of($dbh, { map { $_ => $columns->{$_} } grep { !/_seq$/ } keys %$columns });
}

sub trades {
	my ($dbh, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply([ map { "$_->{name}: $_->{error}" } refused_of($dbh) ], [], $name);
}

# The files are new, the objects old: a call does what it says, or refuses and
# says what to run.
sub says_what_to_run {
	my ($refused) = @_;
	return $refused->{state} eq '55000' && $refused->{error} =~ /^HINT: .*\bALTER EXTENSION order_timeout UPDATE;/m;
}

sub trades_or_says_what_to_run {
	my ($dbh, $watch, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my @refused = refused_of($dbh, $watch);
	is_deeply([ map { "$_->{name}: $_->{state} $_->{error}" } grep { !says_what_to_run($_) } @refused ], [],
		"$name: a call that is refused says what to run");
	is_deeply([ map { $_->{name} } grep { $_->{wrote} } @refused ], [], "$name: what is refused writes nothing");
	return sums_agree($watch, "$name: the sums");
}

# Tables of another shape than any that was released: one lacks a column. (Of
# set_aside and sweeps only a closing that fails and CALL sweep would notice.)
sub refuses_other_columns {
	my ($dbh, $watch, $name) = @_;
	my %column = (
		policies => 'orphan_after', orders => 'close_reason', payments => 'details', refunds => 'note',
		events => 'payload', conflicts => 'problem');
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	for my $table (sort keys %column) {
		my @names = ($column{$table}, 'of_another_version');
		$watch->do("ALTER TABLE order_timeout.$table RENAME $names[0] TO $names[1]");
		my @refused = refused_of($dbh, $watch);
		$watch->do("ALTER TABLE order_timeout.$table RENAME $names[1] TO $names[0]");

		cmp_ok(scalar @refused, '>', 0, "$name: without $table.$names[0] calls are refused");
		is_deeply([ map { $_->{name} } grep { $_->{wrote} } @refused ], [], "$name: and write nothing");
		is_deeply([ map { "$_->{name}: $_->{state} $_->{error}" } grep { !says_what_to_run($_) } @refused ], [],
			"$name: without $table.$names[0] they say what to run");
	}
	return sums_agree($watch, "$name: without a column, the sums");
}

# ------------------------------------------------------------ rights

# Everything that a role may do here, by names: a signature may change.
sub rights_of {
	my ($dbh) = @_;
	return { map { $_ => 1 } @{ $dbh->selectcol_arrayref(<<'END') } };
SELECT concat_ws(' ', r.rolname, x.privilege_type, 'on', o.name)
  FROM (SELECT oid, relname AS name, relacl AS acl FROM pg_class WHERE relnamespace = 'order_timeout'::regnamespace
        UNION ALL SELECT oid, ltrim(proname, '_') || '()', proacl FROM pg_proc WHERE pronamespace = 'order_timeout'::regnamespace
        UNION ALL SELECT oid, nspname, nspacl FROM pg_namespace WHERE nspname = 'order_timeout') o,
       aclexplode(o.acl) x JOIN pg_roles r ON r.oid = x.grantee
END
}

sub rights_kept {
	my ($dbh, $before, $name) = @_;
	my $now = rights_of($dbh);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply([ grep { !$now->{$_} } sort keys %$before ], [], $name);
}

# ------------------------------------------------------------ the upgrades

sub load {
	my ($db, $file) = @_;
	my ($out, $err);
	$server->run_log([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-f', $file ], '>', \$out, '2>', \$err)
		or die "$file:\n$err\n";
	return;
}

my $default = $server->dbh('postgres')->selectrow_array(
	"SELECT default_version FROM pg_available_extensions WHERE name = 'order_timeout'");
is($version, $default, "a fresh database has $default");

for my $old (@released) {
	my $db = 'from_' . $old =~ tr/./_/r;
	$server->safe_psql('postgres', "CREATE DATABASE $db");
	my $dbh = $server->dbh($db);
	$dbh->do("CREATE EXTENSION order_timeout VERSION '$old'");
	is(version_of($dbh), $old, "$old: made as it was released");

	# Rows that the library of that version wrote.
	load($db, "$root/test/tap/released/order_timeout--$old.sql");
	has_every_kind_of_row($dbh, $old);
	call($dbh, 'grant_access', $_, $_) for @accesses;

	# Sessions that know the old objects.
	my %open = map { $_ => session_in($db, $_) } @stores;
	for my $store (@stores) {
		trades_or_says_what_to_run($open{$store}, $dbh, "$old, not upgraded, store $store");
		refuses_other_columns($open{$store}, $dbh, "$old, not upgraded, store $store");
	}

	my $columns = columns_of($dbh);
	my $contents = contents_of($dbh, $columns);
	my $rights = rights_of($dbh);
	cmp_ok(scalar keys %$rights, '>', 50, "$old: roles have rights");

	$dbh->do('ALTER EXTENSION order_timeout UPDATE');
	is(version_of($dbh), $version, "$old: upgraded to $version");
	same_objects($dbh, "$old: upgraded, it equals a fresh $version");
	is_deeply(contents_of($dbh, $columns), $contents, "$old: the rows are the same");
	rights_kept($dbh, $rights, "$old: the rights are kept");
	balanced($dbh, "$old: the funds");
	stories_agree($dbh, "$old: the story of each order, from events of that version");

	# A dump carries it all, the rights too: none has become the extension's own.
	$server->safe_psql('postgres', "CREATE DATABASE ${db}_copy");
	my $file = $server->backup_dir . "/$db.dump";
	for my $command ([ 'pg_dump', '-Fc', '-f', $file, '-d', $db ], [ 'pg_restore', '--exit-on-error', '-d', "${db}_copy", $file ]) {
		my ($out, $err);
		ok($server->run_log($command, '>', \$out, '2>', \$err), "$old: $command->[0]") or diag($err);
	}
	my $copy = $server->dbh("${db}_copy");
	same_objects($copy, "$old: restored, it equals a fresh $version");
	is_deeply(contents_of($copy), contents_of($dbh), "$old: restored, the rows are the same");
	rights_kept($copy, $rights, "$old: restored, the rights are there");

	# Old rows are worked on, by the roles that were granted it.
	my $worker = $server->dbh($db, user => 'worker');
	my ($ref, $token) = $dbh->selectrow_array(
		"SELECT refund_ref, lease_token FROM order_timeout.refunds WHERE state = 'processing'");
	is(call($worker, 'complete_refund', $ref, 'succeeded', $token)->{outcome}, 'recorded', "$old: a refund under way is completed");
	my $operator = $server->dbh($db, user => 'operator');
	my ($gateway, $payment) = $dbh->selectrow_array(
		"SELECT gateway, payment_ref FROM order_timeout.payments WHERE disposition = 'held'");
	is(call($operator, 'resolve_held', $gateway, $payment, 'refund')->{outcome}, 'refunded', "$old: a held payment is resolved");
	is(call($server->dbh($db, user => 'application'), 'record_payment', 'cancelled', 'gate', 'after the upgrade', 10, 'EUR')->{outcome},
		'late', "$old: a payment comes for an old order");
	cmp_ok($server->dbh($db, user => 'reader')->selectrow_array('SELECT count(*) FROM order_timeout.attention'), '>', 0,
		"$old: the views are read");

	for my $store (@stores) {
		trades($open{$store}, "$old: calls work in a session from before, store $store");
		trades(session_in($db, $store), "$old: calls work in a new session, store $store");
	}
	balanced($dbh, "$old: the funds, later");
	sums_agree($dbh, "$old: the sums, later");
	upgraded_under_a_sweeper($old);
	goes_back_to_a_request($old);
}

# A sweeper that is at work goes on, unless it cannot work with the old objects.
sub upgraded_under_a_sweeper {
	my ($old) = @_;
	my $db = 'swept_from_' . $old =~ tr/./_/r;
	$server->safe_psql('postgres', "CREATE DATABASE $db");
	my $dbh = $server->dbh($db);
	$dbh->do("CREATE EXTENSION order_timeout VERSION '$old'");

	my $sweeper = $server->dbh($db);
	$sweeper->do("CALL order_timeout.sweep('4 seconds')", { pg_async => PG_ASYNC });
	eventually(sub { $sweeper->pg_ready || $dbh->selectrow_array('SELECT count(*) FROM order_timeout.sweeps') });
	$dbh->do('ALTER EXTENSION order_timeout UPDATE');
	call($dbh, 'create_order', 'due', 100, 'EUR', '20 milliseconds');
	my $ended = ended_with($sweeper);
	if ($ended eq '') {
		is(call($dbh, 'funds', 'due')->{state}, 'expired', "$old: a sweeper that was at work goes on");
	}
	else {
		ok(says_what_to_run({ state => $ended, error => $sweeper->errstr }), "$old: a sweeper says what to run")
			or diag("$ended: ", $sweeper->errstr);
	}
	return;
}

# An open refund is known as one of a request, by what it replaced and what it is
# a rest of; one of a late payment is not.
sub goes_back_to_a_request {
	my ($old) = @_;
	my $db = 'requested_from_' . $old =~ tr/./_/r;
	$server->safe_psql('postgres', "CREATE DATABASE $db");
	my $dbh = $server->dbh($db);
	$dbh->do("CREATE EXTENSION order_timeout VERSION '$old'");
	load($db, "$root/test/tap/released/order_timeout--$old.sql");
	$dbh->do(<<'END');
INSERT INTO order_timeout.refunds (refund_ref, order_id, gateway, payment_ref, amount, asked, currency, reason, note, state,
                                   attention_at, settled_at, replaced_by, created_at)
SELECT k.name || v.ref, 'o', 'gate', k.name, v.amount, v.amount, 'EUR', coalesce(v.reason, k.reason), 'rest of ' || k.name || v.rest_of, v.state,
       CASE v.state WHEN 'needs_attention' THEN now() END, CASE v.state WHEN 'needs_attention' THEN NULL ELSE now() END,
       k.name || v.replaced_by, now()
  FROM (VALUES ('late-', 'late'), ('asked-', 'requested')) AS k (name, reason),
       (VALUES ('first', 30, NULL, 'reversed', 'second', NULL), ('second', 20, 'reversed', 'succeeded', NULL, NULL),
               ('rest', 10, 'reversed', 'needs_attention', NULL, 'second')) AS v (ref, amount, reason, state, replaced_by, rest_of)
END
	$dbh->do('ALTER EXTENSION order_timeout UPDATE');
	is_deeply($dbh->selectcol_arrayref('SELECT refund_ref FROM order_timeout.refunds WHERE was_requested'), ['asked-rest'],
		"$old: what is owed of a request is known");
	return;
}

done_testing();
