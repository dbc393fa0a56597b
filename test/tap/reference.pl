# The reference says what is there: every function, table, column, default,
# SQLSTATE and word, and nothing that is not. Both sides are brought into the
# same form and compared.

use strict;
use warnings;
use utf8;

use FindBin;
use OTPage;
use OTServer;
use Test::More;

my $root = "$FindBin::Bin/../..";
my %page = map { $_ => text_of("doc/$_.md") } qw(reference functions tables);

my $server = OTServer->started('reference');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');

sub text_of {
	my ($file) = @_;
	open my $in, '<:encoding(UTF-8)', "$root/$file" or die "$file: $!\n";
	local $/ = undef;
	return scalar <$in>;
}

# ------------------------------------------------------------ reading a page

# ('name' => text) of the headings of a level, in order.
sub sections {
	my ($text, $level) = @_;
	my @parts = split /^#{$level} (.*)\n/m, $text;
	shift @parts;
	for my $i (grep { $_ % 2 } 0 .. $#parts) {
		$parts[$i] =~ s/^#{1,$level} .*//ms;    # what follows a heading of a higher level is not ours
	}
	return @parts;
}

# The rows of the first table whose header line begins with this, cells trimmed.
sub table {
	my ($text, $header) = @_;
	$text =~ /^\|\ \Q$header\E.*\n\|[-\ |]+\|\n((?:\|.*\n)+)/mx or return;
	return map { [ map { s/^\s+|\s+$//gr } split /(?<!\\)\|/, s/^\|//r, -1 ] } split /\n/, $1;
}

sub name_in { return $_[0] =~ /^`([^`]+)`$/ ? $1 : "not a name: $_[0]" }

# A cell as a comment: without marks, and without what refers to another place of the page.
sub comment_in {
	my ($cell) = @_;
	$cell =~ s/[,:]? see \[[^\]]*\]\([^)]*\)//g;
	$cell =~ s/\[([^\]]*)\]\([^)]*\)/$1/g;
	return $cell =~ tr/`//dr || 'no meaning';
}

sub first_column {
	my %seen;
	return [ grep { !$seen{$_}++ } map { name_in($_->[0]) } table(@_) ];
}

# ------------------------------------------------------------ in the server's words

sub type { return scalar $dbh->selectrow_array('SELECT to_regtype(?)::text', undef, $_[0]) // "no type: $_[0]" }

# An expression as the value that it is: '1 minute' and '00:01:00' are the same interval.
sub value {
	my ($expression, $type) = @_;
	return scalar $dbh->selectrow_array("SELECT quote_nullable(CAST($expression AS $type)::text)");
}

sub argument {
	my ($name, $type, $default) = @_;
	$type = type($type);
	return "$name $type" . (defined $default ? ' = ' . value($default, $type) : '');
}

# ------------------------------------------------------------ functions

# create_order(order_id text, ...) → outcome text, ...
sub documented_signature {
	my ($text) = @_;
	my ($block) = $text =~ /\A\s*^```\n(.*?)^```$/ms or return 'no signature';
	$block =~ s/\s+/ /g;
	my ($call, $name, $arguments, $rows, $answer) =
		$block =~ /^(CALL )?(\w+)\((.*?)\) ?(?:→ (rows of )?(.*?) ?)?$/ or return "cannot read: $block";
	my @in = map { /^(\w+) (.+?)(?: = (.*))?$/ ? argument($1, $2, $3) : "cannot read: $_" } split /, /, $arguments;
	my @out = map { /^(\w+) (.+)$/ ? argument($1, $2) : $_ } split /, /, $answer // '';
	return ($call // '') . "$name(" . join(', ', @in) . ') -> ' . ($rows // '') . join(', ', @out);
}

sub catalog_signature {
	my ($function) = @_;
	my $arguments = $dbh->selectall_arrayref(<<'END', { Slice => {} }, $function->{oid});
SELECT coalesce(p.proargmodes[n], 'i') AS mode, p.proargnames[n] AS name,
       format_type(t, NULL) AS type, pg_get_function_arg_default(p.oid, n::int) AS initial
  FROM pg_proc p, unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY AS a (t, n)
 WHERE p.oid = ? ORDER BY n
END
	my @in  = map { argument(@$_{qw(name type initial)}) } grep { $_->{mode} =~ /[ibv]/ } @$arguments;
	my @out = map { argument(@$_{qw(name type)}) } grep { $_->{mode} =~ /[obt]/ } @$arguments;
	@out = $function->{result} =~ s/^order_timeout\.//r if !@out && $function->{kind} eq 'f';
	return ($function->{kind} eq 'p' ? 'CALL ' : '') . "$function->{name}(" . join(', ', @in) . ') -> '
		. ($function->{is_set} ? 'rows of ' : '') . join(', ', @out);
}

sub codes { my %seen; return grep { !$seen{$_}++ } sort $_[0] =~ /\b(OT\d{3}|\d[0-9A-Z]{4})\b/g }

my %function = %{ $dbh->selectall_hashref(<<'END', 'name') };
SELECT p.oid, p.proname AS name, p.prokind AS kind, p.proretset AS is_set, format_type(p.prorettype, NULL) AS result,
       obj_description(p.oid, 'pg_proc') AS comment, count(*) OVER (PARTITION BY p.proname) AS overloads
  FROM pg_proc p
 WHERE p.pronamespace = 'order_timeout'::regnamespace AND p.proname NOT LIKE '\_%'
END
my %documented = sections($page{functions}, 3);
is_deeply([ sort keys %documented ], [ sort keys %function ], 'the functions');
for my $name (grep { $documented{$_} } sort keys %function) {
	my $comment = $function{$name}{comment} // '';
	my ($errors) = $documented{$name} =~ /^\*\*Errors\*\* (.*)$/m;
	my @errors = codes($errors // '');
	is($function{$name}{overloads}, 1, "$name: one of that name");
	is(documented_signature($documented{$name}), catalog_signature($function{$name}), "$name: signature");
	isnt($comment, '', "$name: has a comment");
	is_deeply([ grep { /^OT/ } @errors ], [ grep { /^OT/ } codes($comment) ], "$name: SQLSTATEs of our own");
	is_deeply([ grep { my $code = $_; !grep { $_ eq $code } @errors } codes($comment) ], [],
		"$name: the comment's other SQLSTATEs");

	# The comment's "Outcomes: one, another (for a reason)."
	my ($outcomes) = $comment =~ s/\([^()]*\)//gr =~ /Outcomes?: ([^.]*)/;
	my @missing = grep { /^\w+$/ && $documented{$name} !~ /`$_`/ } map { s/^\s+|\s+$//gr } split /[,;]/, $outcomes // '';
	is_deeply(\@missing, [], "$name: outcomes");
}

# ------------------------------------------------------------ internal functions

# What calls an internal function, or has it as a trigger; through other internal functions, too. A body that PostgreSQL
# keeps parsed, and a view, depend on what they call.
my %internal = %{ $dbh->selectall_hashref(<<'END', 'name') };
WITH RECURSIVE func AS (
    SELECT oid, proname AS name, prosrc FROM pg_proc WHERE pronamespace = 'order_timeout'::regnamespace
), direct AS (
    SELECT f.name, c.name AS used_by FROM func f JOIN func c ON c.prosrc ~ format('\morder_timeout\.%s\(', f.name)
    UNION ALL
    SELECT f.name, t.tgname FROM func f JOIN pg_trigger t ON t.tgfoid = f.oid
    UNION ALL
    SELECT f.name, coalesce(c.name, (SELECT v.relname FROM pg_class v WHERE v.oid = w.ev_class))
      FROM func f JOIN pg_depend d ON (d.refclassid, d.refobjid, d.deptype) = ('pg_proc'::regclass, f.oid, 'n')
      LEFT JOIN func c ON (d.classid, d.objid) = ('pg_proc'::regclass, c.oid)
      LEFT JOIN pg_rewrite w ON (d.classid, d.objid) = ('pg_rewrite'::regclass, w.oid)
     WHERE c.oid IS NOT NULL OR w.oid IS NOT NULL
), used AS (
    SELECT name, used_by FROM direct
    UNION
    SELECT u.name, d.used_by FROM used u JOIN direct d ON d.name = u.used_by WHERE u.used_by LIKE '\_%'
)
SELECT f.name, obj_description(f.oid, 'pg_proc') AS comment, has_function_privilege('public', f.oid, 'EXECUTE') AS is_public,
       ARRAY(SELECT DISTINCT u.used_by::text FROM used u WHERE u.name = f.name AND u.used_by NOT LIKE '\_%' ORDER BY 1) AS used_by,
       ARRAY(SELECT DISTINCT u.used_by::text FROM used u WHERE u.name = f.name AND u.used_by LIKE '\_%') AS through
  FROM func f WHERE f.name LIKE '\_%'
END

# Statements of the store call some too. Which function runs a statement, only its comment says.
my %in_c = map { $_ => 1 } map { text_of($_ =~ s/^\Q$root\E\///r) =~ /\border_timeout\.(_\w+)\(/g } glob "$root/src/store/*.c";
my %uses = map { $_ => 1 } keys %function, map { @{ $_->{used_by} } } values %internal;
for my $name (sort keys %internal) {
	my ($said) = ($internal{$name}{comment} // '') =~ /Used by ([^.]+)\.$/;
	my @says = sort grep { $uses{$_} } split /\W+/, $said // '';
	my @users = @{ $internal{$name}{used_by} };
	push @users, @says if grep { $in_c{$_} } $name, @{ $internal{$name}{through} };
	@users = sort keys %{ { map { $_ => 1 } @users } };
	cmp_ok(scalar @users, '>', 0, "$name: is used");
	is_deeply(\@says, \@users, "$name: the comment ends in what uses it");
	ok(!$internal{$name}{is_public}, "$name: is not PUBLIC's");
}

# ------------------------------------------------------------ tables and views

my %columns;
push @{ $columns{ $_->{relation} } }, $_ for @{ $dbh->selectall_arrayref(<<'END', { Slice => {} }) };
SELECT c.relname AS relation, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
       pg_get_expr(d.adbin, d.adrelid) AS initial, col_description(c.oid, a.attnum) AS comment
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
 WHERE c.relnamespace = 'order_timeout'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
 ORDER BY c.relname, a.attnum
END
my %described = sections($page{tables}, 3);
is_deeply([ sort keys %described ], [ sort keys %columns ], 'the tables and views');
for my $relation (grep { $described{$_} } sort keys %columns) {
	is_deeply(
		[ map { name_in($_->[0]) . ' ' . type($_->[1]) } table($described{$relation}, 'column |') ],
		[ map { "$_->{name} $_->{type}" } @{ $columns{$relation} } ],
		"$relation: columns");
	is_deeply(
		[ map { name_in($_->[0]) . ': ' . comment_in($_->[-2]) } table($described{$relation}, 'column |') ],
		[ map { "$_->{name}: " . ($_->{comment} // 'no comment') } @{ $columns{$relation} } ],
		"$relation: each column has a comment, with the meaning that the page gives");
}
for my $row (table($described{policies}, 'column | type | default |')) {
	my ($name, $type, $default) = (name_in($row->[0]), type($row->[1]), $row->[2] eq '' ? 'null' : $row->[2]);
	my ($column) = grep { $_->{name} eq $name } @{ $columns{policies} } or next;
	is(value($default, $type), value($column->{initial} // 'null', $type), "policies.$name: default");
}

# ------------------------------------------------------------ SQLSTATEs

my $header = text_of('src/rules/errors.h');
my @raised = map { s/\W//gr } $header =~ /MAKE_SQLSTATE\(([^)]*)\)/g;
my @listed = map { $_->[0] =~ /`(\w{5})`/g } table($page{reference}, 'SQLSTATE |');
is_deeply([ grep { /^OT/ } @listed ], [ sort @raised ], 'the SQLSTATEs of src/rules/errors.h');
for my $file (qw(README.md doc/reference.md doc/functions.md doc/tables.md doc/operations.md), map { $_->[0] } translations()) {
	my %known = map { $_ => 1 } @listed;
	is_deeply([ grep { !$known{$_} } text_of($file) =~ /\b(OT\d{3})\b/g ], [], "$file: no SQLSTATE that does not exist");
}
my %standard = map { $_ => 1 } map { codes($_->{comment} // '') } values %function;
is_deeply([ grep { my $code = $_; !grep { $_ eq $code } @listed } sort keys %standard ], [],
	'the SQLSTATEs that the comments name');

# ------------------------------------------------------------ words

my %words;
my $words = text_of('src/rules/words.c');
while ($words =~ /const char \*const ot_(\w+)\[\] = \{(.*?)\}/gs) {
	my ($list, $members) = ($1, $2);
	$words{$list} = [ $members =~ /"(\w+)"/g ];
}
my %chapter = sections($page{reference}, 2);
is_deeply(first_column($chapter{Orders}, 'state |'), $words{order_states}, 'the states of orders');
is_deeply(first_column($chapter{Payments}, 'disposition |'), $words{dispositions}, 'the dispositions');
is_deeply(first_column($chapter{Refunds}, 'state |'), $words{refund_states}, 'the states of refunds');
is_deeply(first_column($chapter{Refunds}, 'reason |'), $words{refund_reasons}, 'the reasons of refunds');
is_deeply([ sort @{ first_column($documented{complete_refund}, '`result` |') } ], [ sort @{ $words{refund_results} } ],
	'the results of complete_refund');

my $audit = text_of('src/core/audit.c');
my %kinds = map { $_ => 1 } grep { defined } $audit =~ /(?:report|compare)\(audit, "(\w+)"|Violation\s+violation = \{"(\w+)"/g;
is_deeply([ sort @{ first_column($chapter{Violations}, 'kind |') } ], [ sort keys %kinds ],
	'the kinds of funds_violations');

my ($attention) = $dbh->selectrow_array("SELECT pg_get_viewdef('order_timeout.attention')");
is_deeply([ sort @{ first_column($described{attention}, '`kind` |') } ],
	[ sort keys %{ { map { $_ => 1 } $attention =~ /SELECT '(\w+)'::text/g } } ], 'the kinds of attention');

my @problems = map { $_->[0] } table($described{conflicts}, '`problem` |');
my $source = join '', map { text_of($_ =~ s/^\Q$root\E\///r) } glob "$root/src/{*,*/*}/*.c";
isnt(scalar @problems, 0, 'the problems of conflicts are listed');
is_deeply([ grep { index($source, "\"$_\"") < 0 } @problems ], [], 'and are told in these words');

# ------------------------------------------------------------ rights

my (@above, %granted);
for my $row (table($chapter{Rights}, 'access |')) {
	my ($access, $functions) = (name_in($row->[0]), $row->[1]);
	my @may = $functions =~ /\b([a-z_]+)\b/g;
	@may = grep { $function{$_} } @may, $functions =~ /^all of these/ ? @above : ();
	push @above, @may;
	my $granted = $dbh->selectcol_arrayref(
		q{SELECT substring(g FROM 'ROUTINE (?:order_timeout\.)?(\w+)') FROM order_timeout._access_grants(?) AS g
		   WHERE g LIKE 'EXECUTE%'}, undef, $access);
	my %unique = map { $_ => 1 } @may;
	is_deeply([ sort keys %unique ], [ sort grep { !/^_/ } @$granted ], "access $access: functions");
	my $views = $dbh->selectcol_arrayref(
		q{SELECT substring(g FROM '\.(\w+)$') FROM order_timeout._access_grants(?) AS g WHERE g LIKE 'SELECT%'}, undef, $access);
	my %uses_it = (%unique, map { $_ => 1 } @$views);
	my @called = grep { grep { $uses_it{$_} } @{ $internal{$_}{used_by} } } keys %internal;
	is_deeply([ sort grep { /^_/ } @$granted ], [ sort @called ], "access $access: internal functions that these call");
	$granted{$_} = 1 for @$granted;
}
my ($owners) = $chapter{Rights} =~ /^No access has ([^:]+):/m;
is_deeply([ sort grep { $function{$_} } $owners =~ /\w+/g ], [ sort grep { !$granted{$_} } keys %function ],
	'what no access has is for the owner');
is(scalar(table($chapter{Rights}, 'access |')), 5, 'five accesses');

done_testing;
