package OTCatalog;

# What the extension's objects are, in words that two databases can be compared
# by: no OIDs, and nothing of the rights that users gave to roles.
#
#   my @lines = catalog_differences(catalog_of($fresh), catalog_of($upgraded));
#
# Each line names the catalog, the object and what it is on either side.

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT = qw(catalog_of catalog_differences);

# The rights of the owner and of PUBLIC. Null stands for the built-in ones.
my $RIGHTS = <<'END';
CREATE OR REPLACE FUNCTION pg_temp.rights(acl aclitem[], kind "char", owner oid) RETURNS text STABLE LANGUAGE sql AS $$
SELECT 'rights: ' || string_agg(concat_ws(' ', CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE 'owner' END, x.privilege_type,
                                          CASE WHEN x.is_grantable THEN 'WITH GRANT OPTION' END), ', '
                                ORDER BY x.grantee, x.privilege_type)
  FROM aclexplode(coalesce(acl, acldefault(kind, owner))) x WHERE x.grantee IN (0, owner)
$$
END

# A query answers (object, what it is).
my %QUERIES = (
	'pg_extension' => <<'END',
SELECT e.extname, concat_ws(', ', 'version ' || e.extversion, 'schema ' || e.extnamespace::regnamespace,
                            CASE WHEN e.extrelocatable THEN 'relocatable' END)
  FROM pg_extension e WHERE e.extname = 'order_timeout'
END
	# What pg_dump is told to dump.
	'pg_extension.extconfig' => <<'END',
SELECT c.relid::regclass::text, format('condition %L', e.extcondition[c.n])
  FROM pg_extension e, unnest(e.extconfig) WITH ORDINALITY AS c (relid, n) WHERE e.extname = 'order_timeout'
END
	# Everything that the extension owns.
	'pg_depend' => <<'END',
SELECT pg_describe_object(d.classid, d.objid, d.objsubid), 'member'
  FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
 WHERE d.deptype = 'e' AND e.extname = 'order_timeout'
END
	# Rights that pg_dump takes for the extension's own and leaves out, those of roles too.
	'pg_init_privs' => <<'END',
SELECT pg_describe_object(i.classoid, i.objoid, i.objsubid),
       (SELECT string_agg(concat_ws(' ', CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END,
                                    x.privilege_type, CASE WHEN x.is_grantable THEN 'WITH GRANT OPTION' END), ', '
                          ORDER BY x.grantee, x.privilege_type) FROM aclexplode(i.initprivs) x)
  FROM pg_init_privs i JOIN pg_depend d ON (d.classid, d.objid, d.deptype) = (i.classoid, i.objoid, 'e')
  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
 WHERE e.extname = 'order_timeout'
END
	'pg_namespace' => <<'END',
SELECT n.nspname, pg_temp.rights(n.nspacl, 'n', n.nspowner) FROM pg_namespace n WHERE n.nspname = 'order_timeout'
END
	'pg_class' => <<'END',
SELECT c.oid::regclass::text,
       concat_ws(', ', 'kind ' || c.relkind::text, 'persistence ' || c.relpersistence::text, 'access ' || a.amname,
                 'tablespace ' || nullif(c.reltablespace, 0), 'replica identity ' || c.relreplident::text,
                 CASE WHEN c.relrowsecurity THEN 'row security' END, CASE WHEN c.relforcerowsecurity THEN 'forced' END,
                 CASE WHEN c.relispartition THEN 'partition' END, 'of type ' || nullif(c.reloftype, 0)::regtype,
                 'options ' || c.reloptions::text, 'toast options ' || t.reloptions::text,
                 CASE WHEN c.relkind <> 'i' THEN
                     pg_temp.rights(c.relacl, CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner) END)
  FROM pg_class c LEFT JOIN pg_am a ON a.oid = c.relam LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
 WHERE c.relnamespace = 'order_timeout'::regnamespace
END
	# The number is where the row has it: a column that was dropped leaves a gap, in which the fast store would fall back.
	# pg_attver is a number that the server counts up (from 15.20 on).
	'pg_attribute' => <<'END',
SELECT format('%s.%I', a.attrelid::regclass, a.attname),
       concat_ws(', ', 'number ' || a.attnum, format_type(a.atttypid, a.atttypmod),
                 CASE WHEN a.attnotnull THEN 'NOT NULL' END,
                 'COLLATE ' || nullif(a.attcollation, 0)::regcollation,
                 'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), 'identity ' || nullif(a.attidentity::text, ''),
                 'generated ' || nullif(a.attgenerated::text, ''), 'storage ' || a.attstorage::text,
                 'compression ' || nullif(a.attcompression::text, ''), 'statistics ' || nullif(coalesce(a.attstattarget, -1), -1),
                 'options ' || (SELECT string_agg(o, ' ' ORDER BY o) FROM unnest(a.attoptions) o WHERE o !~ '^pg_attver='),
                 pg_temp.rights(a.attacl, 'c', c.relowner))
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
 WHERE c.relnamespace = 'order_timeout'::regnamespace AND c.relkind <> 'i' AND a.attnum > 0 AND NOT a.attisdropped
END
	'pg_sequence' => <<'END',
SELECT s.seqrelid::regclass::text, to_jsonb(s) - 'seqrelid' - 'seqtypid' || jsonb_build_object('type', s.seqtypid::regtype,
       'owner', (SELECT format('%s %s', d.deptype, pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid))
                   FROM pg_depend d WHERE (d.classid, d.objid) = ('pg_class'::regclass, c.oid) AND d.deptype IN ('a', 'i')))
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid WHERE c.relnamespace = 'order_timeout'::regnamespace
END
	'pg_constraint' => <<'END',
SELECT format('%s on %s', quote_ident(n.conname), n.conrelid::regclass),
       concat_ws(', ', pg_get_constraintdef(n.oid), CASE WHEN NOT n.convalidated THEN 'not validated' END,
                 CASE WHEN n.connoinherit THEN 'no inherit' END, 'index ' || nullif(n.conindid, 0)::regclass)
  FROM pg_constraint n WHERE n.connamespace = 'order_timeout'::regnamespace
END
	'pg_index' => <<'END',
SELECT i.indexrelid::regclass::text,
       concat_ws(', ', pg_get_indexdef(i.indexrelid), CASE WHEN i.indisprimary THEN 'primary' END,
                 CASE WHEN NOT i.indisvalid THEN 'invalid' END, CASE WHEN NOT i.indisready THEN 'not ready' END,
                 CASE WHEN NOT i.indimmediate THEN 'deferrable' END, CASE WHEN i.indisclustered THEN 'clustered' END,
                 CASE WHEN i.indisreplident THEN 'replica identity' END)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'order_timeout'::regnamespace
END
	# The definition has language, volatility, strictness, security, cost, settings and body.
	'pg_proc' => <<'END',
SELECT p.oid::regprocedure::text,
       concat_ws(', ', CASE WHEN p.prokind = 'a' THEN 'an aggregate' ELSE pg_get_functiondef(p.oid) END,
                 pg_temp.rights(p.proacl, 'f', p.proowner))
  FROM pg_proc p WHERE p.pronamespace = 'order_timeout'::regnamespace
END
	# Of views, and of tables that have rules.
	'pg_rewrite' => <<'END',
SELECT format('%s on %s', quote_ident(r.rulename), r.ev_class::regclass),
       concat_ws(', ', 'enabled ' || r.ev_enabled::text, pg_get_ruledef(r.oid))
  FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace = 'order_timeout'::regnamespace
END
	'pg_trigger' => <<'END',
SELECT format('%s on %s', quote_ident(t.tgname), t.tgrelid::regclass),
       concat_ws(', ', 'enabled ' || t.tgenabled::text, pg_get_triggerdef(t.oid))
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
 WHERE c.relnamespace = 'order_timeout'::regnamespace AND NOT t.tgisinternal
END
	'pg_policy' => <<'END',
SELECT format('%s on %s', quote_ident(p.polname), p.polrelid::regclass),
       concat_ws(', ', p.polcmd, p.polpermissive, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = 'order_timeout'::regnamespace
END
	'pg_statistic_ext' => <<'END',
SELECT s.stxname, pg_get_statisticsobjdef(s.oid) FROM pg_statistic_ext s WHERE s.stxnamespace = 'order_timeout'::regnamespace
END
	# The types of the tables' rows too: from 17 on these are members.
	'pg_type' => <<'END',
SELECT t.oid::regtype::text, concat_ws(', ', 'kind ' || t.typtype::text, 'base ' || nullif(t.typbasetype, 0)::regtype,
       'labels ' || (SELECT string_agg(e.enumlabel, ' ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
       pg_temp.rights(t.typacl, 'T', t.typowner))
  FROM pg_type t WHERE t.typnamespace = 'order_timeout'::regnamespace
END
	'pg_description' => <<'END',
SELECT format('%s %s', i.type, i.identity), d.description
  FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
 WHERE d.objoid >= 16384 AND i.identity ~ '\morder_timeout\M'
END
	'pg_seclabel' => <<'END',
SELECT format('%s %s', l.objtype, l.objname), l.label FROM pg_seclabels l WHERE l.objname ~ '\morder_timeout\M'
END
);

# Members of other kinds would be told apart by their names only.
my $UNKNOWN_KINDS = <<'END';
SELECT pg_describe_object(d.classid, d.objid, d.objsubid)
  FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
 WHERE d.deptype = 'e' AND e.extname = 'order_timeout'
   AND d.classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_namespace'::regclass, 'pg_type'::regclass)
END

# { catalog => { object => what it is } }
sub catalog_of {
	my ($dbh) = @_;
	$dbh->do($RIGHTS);
	my $unknown = $dbh->selectcol_arrayref($UNKNOWN_KINDS);
	die "OTCatalog does not know how to compare: @$unknown\n" if @$unknown;

	my %catalog;
	for my $name (keys %QUERIES) {
		for my $row (@{ $dbh->selectall_arrayref($QUERIES{$name}) }) {
			my ($object, $what) = @$row;
			die "$name has two of $object\n" if exists $catalog{$name}{$object};
			$catalog{$name}{$object} = $what // '';
		}
	}
	return \%catalog;
}

sub catalog_differences {
	my ($fresh, $upgraded) = @_;
	my @differences;

	for my $name (sort keys %QUERIES) {
		my ($left, $right) = map { $_->{$name} // {} } $fresh, $upgraded;
		for my $object (sort keys %{ { %$left, %$right } }) {
			next if defined $left->{$object} && defined $right->{$object} && $left->{$object} eq $right->{$object};
			push @differences, "$name: $object\n" . _where_they_differ($left->{$object}, $right->{$object});
		}
	}
	return @differences;
}

# Of a long definition only the lines that differ.
sub _where_they_differ {
	my ($fresh, $upgraded) = @_;
	my ($left, $right) = map { [ split /\n/, $_ // 'is not there', -1 ] } $fresh, $upgraded;

	while (@$left && @$right && $left->[0] eq $right->[0]) { shift @$_ for $left, $right }
	while (@$left && @$right && $left->[-1] eq $right->[-1]) { pop @$_ for $left, $right }
	return join '', (map { "  fresh:    $_\n" } @$left), (map { "  upgraded: $_\n" } @$right);
}

1;
