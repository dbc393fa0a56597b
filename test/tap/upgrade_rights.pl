# An upgrade from every released version keeps what roles were granted, gives
# each role that had an access what is new in it, and a dump carries it all.

use strict;
use warnings;

use FindBin;
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

# What was granted to a role itself, or to PUBLIC. By names: a signature may change.
sub granted_to {
	my ($dbh, $role) = @_;
	return $dbh->selectcol_arrayref(<<'END', undef, $role);
SELECT concat_ws(' ', x.privilege_type, 'on', o.name, CASE WHEN x.is_grantable THEN 'WITH GRANT OPTION' END) COLLATE "C"
  FROM (SELECT relname AS name, relacl AS acl FROM pg_class WHERE relnamespace = 'order_timeout'::regnamespace
        UNION ALL SELECT proname || '()', proacl FROM pg_proc WHERE pronamespace = 'order_timeout'::regnamespace
        UNION ALL SELECT nspname, nspacl FROM pg_namespace WHERE nspname = 'order_timeout') o, aclexplode(o.acl) x
 WHERE CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END = ?
 ORDER BY 1
END
}

# { access => { name => a statement that ends anyhow but with 42501, for a role that may } }
sub tries {
	my ($dbh) = @_;
	my %tries;
	for my $access (@accesses) {
		$tries{$access} = { map { @$_ } @{ $dbh->selectall_arrayref(<<'END', undef, ($access) x 2) } };
SELECT p.proname, format('%s order_timeout.%I(%s)', CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END, p.proname,
                         (SELECT string_agg('NULL::' || t::regtype, ', ') FROM unnest(p.proargtypes) t))
  FROM pg_proc p WHERE 'EXECUTE ON ROUTINE ' || p.oid::regprocedure IN (SELECT order_timeout.access_grants(?))
UNION ALL
SELECT c.relname, format('SELECT FROM order_timeout.%I', c.relname)
  FROM pg_class c WHERE format('SELECT ON order_timeout.%I', c.relname) IN (SELECT order_timeout.access_grants(?))
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

	call($dbh, 'grant_access', $_, $_) for @accesses;
	call($dbh, 'grant_access', $_, 'operator') for qw(almost leaver);
	$dbh->do($_) for
		# Neither an operator nor a reader any more.
		'REVOKE SELECT ON order_timeout.sweeps FROM almost',
		'GRANT USAGE ON SCHEMA order_timeout TO partial',
		'GRANT EXECUTE ON FUNCTION order_timeout.record_payment TO partial WITH GRANT OPTION',
		'GRANT EXECUTE ON FUNCTION order_timeout.resolve_conflict TO partial',
		'GRANT SELECT ON order_timeout.health TO partial',
		'GRANT EXECUTE ON FUNCTION order_timeout.funds_violations TO PUBLIC',
		map { "GRANT $_ TO piecemeal" } @{ $dbh->selectcol_arrayref("SELECT order_timeout.access_grants('operator')") };
	my %before = map { $_ => granted_to($dbh, $_) } @accesses, @others, 'PUBLIC';
	cmp_ok(scalar @{ $before{$_} }, '>', 0, "$old: $_ was granted something") for sort keys %before;

	$dbh->do('ALTER EXTENSION order_timeout UPDATE');
	is(version_of($dbh), $version, "$old: upgraded to $version");

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

done_testing();
