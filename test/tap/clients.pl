# Every public function from the usual clients, straight and through PgBouncer in transaction mode. clients/calls.json
# says what is called and what is answered. Each client sends the calls through its own driver, with parameters of the
# driver's types, as prepared statements and in a pipeline, and all have to answer as psql does, which sends literals.
# Then the functions of connect/clients/, which doc/clients.md prints, play a day in a shop.
#
# A call of calls.json: the function, its arguments, the answer (an outcome, an SQLSTATE, a number of rows, or columns
# of the first row), the answer of a repeat if it is another, and options: keep names the answer, of which later calls
# use columns as "{name.column}"; as is the role, shop if it is not said; alone: not in a pipeline.
#
# A client is a program that gets the names of two files. The first is the plan: runs, each in a database of its own, and
# steps. A step that can_pipeline has no error. The program writes the second, a line for each call: the run, the number
# of the step, and after "!" the SQLSTATE, or the rows, the names of the columns first, separated by 0x1e and 0x1f.
#
# A client that is not installed is skipped: Debian has python3-psycopg, node-pg, libpostgresql-jdbc-java with
# default-jdk-headless, golang-go with golang-github-jackc-pgx-v4-dev; npm has pg, found by NODE_PATH.

use strict;
use warnings;
use utf8;

use FindBin;
use IPC::Run qw(run);
use JSON::PP;
use OTPage;
use OTPool;
use OTServer;
use OTTest;
use Test::More;

plan skip_all => 'clients see the functions and no store: once is enough' if ($ENV{OT_STORE} // 'auto') eq 'sql';

my $ROOT  = "$FindBin::Bin/../..";
my $SHOP  = "$ROOT/connect/clients";
my $TIMES = 7;    # more than the thresholds after which drivers prepare by name: 5

sub is_there {
	my ($name, $there) = @_;
	SKIP: { skip "$name is not installed", 1 if !$there; pass("$name is installed") }
	return $there;
}

# ------------------------------------------------------------ a server, a pool

# Java has no Unix sockets. An address of its own has all ports free.
my $pid = $$;
my $address = join '.', 127, 1 + int($pid / 62500), 1 + int($pid / 250) % 250, 1 + $pid % 250;
my $server = OTServer->started('clients', listen_addresses => $address);
$server->append_conf('pg_hba.conf', "host all all $address/32 trust");
$server->reload;
my %port = (straight => $server->port, pooled => 6432);
$server->safe_psql('postgres', 'CREATE ROLE shop LOGIN; CREATE ROLE reporter; CREATE DATABASE calls; CREATE DATABASE shop;');

my $pool = OTPool->started($server, $address, $port{pooled}, qw(shop postgres));
is_there('PgBouncer', $pool);
END {
	my $status = $?;
	$pool->stop if $pool;
	$? = $status;
}
my @ways = ('straight', $pool ? 'pooled' : ());

$server->safe_psql($_, <<'END') for qw(calls shop);
CREATE EXTENSION order_timeout;
SELECT order_timeout.grant_access('shop', access) FROM unnest('{application,worker,operator}'::text[]) access;
UPDATE order_timeout.policies SET refund_backoff = '1 hour';
INSERT INTO order_timeout.policies (policy, on_late) VALUES ('hold', 'hold');
INSERT INTO order_timeout.policies (policy, before_close) VALUES ('ask', 'void');
INSERT INTO order_timeout.policies (policy) VALUES ('hook');
CREATE FUNCTION fail(order_ids text[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
CREATE TABLE shop_orders (id bigint PRIMARY KEY, status text NOT NULL, cents bigint NOT NULL, paid_at timestamptz);
INSERT INTO shop_orders VALUES (1, 'new', 1234);
GRANT ALL ON shop_orders TO shop;
END

# The first payment meets a serialization failure; a sequence does not roll back.
$server->safe_psql('shop', <<'SQL');
CREATE SEQUENCE tries;
CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF nextval('public.tries') = 1 THEN
        RAISE EXCEPTION 'again' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER fail_once BEFORE INSERT ON order_timeout.payments FOR EACH ROW EXECUTE FUNCTION fail_once();
SQL

# ------------------------------------------------------------ the plan

# { name, kind, needs: the number of arguments without a default, arguments: [ name, type ]... }
my $functions = do {
	my $dbh = $server->dbh('calls');
	my $found = $dbh->selectall_arrayref(<<'END', { Slice => {} });
SELECT p.proname AS name, p.prokind AS kind, p.pronargs - p.pronargdefaults AS needs,
       (SELECT json_agg(json_build_array(p.proargnames[n], format_type(t, NULL)) ORDER BY n)
          FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY AS a (t, n)
         WHERE coalesce(p.proargmodes[n], 'i') IN ('i', 'b')) AS arguments
  FROM pg_proc p WHERE p.pronamespace = 'order_timeout'::regnamespace AND p.proname NOT LIKE '\_%' ORDER BY 1
END
	+{ map { $_->{name} => { %$_, arguments => decode_json($_->{arguments}) } } @$found };
};

my $calls = decode_json(PostgreSQL::Test::Utils::slurp_file("$FindBin::Bin/clients/calls.json"));

# Each with a NULL of its type for every argument. (Where no argument needs a value, that is a call like any other.)
my %with_nulls = (minor_units => { minor_units => '\N' });
push @$calls, map {
	[ $_->{name}, { map { $_->[0] => undef } @{ $_->{arguments} } }, $with_nulls{ $_->{name} } // '22004', undef, { as => 'postgres' } ]
} grep { $_->{needs} > 0 } map { $functions->{$_} } sort keys %$functions;

sub is_sqlstate { return !ref $_[0] && $_[0] =~ /^[0-9A-Z]{5}$/ }

sub step {
	my ($name, $given, $first, $repeat, $option) = @_;
	$repeat //= $first;
	$option //= {};
	my $function = $functions->{$name} or die "calls.json calls $name, which is not there\n";
	my @arguments = grep { exists $given->{ $_->[0] } } @{ $function->{arguments} };
	@arguments == keys %$given or die "calls.json gives $name an argument that it does not have\n";
	my $n = 0;
	return {
		call   => $name,
		sql    => ($function->{kind} eq 'p' ? 'CALL' : 'SELECT * FROM') . " order_timeout.$name("
			. join(', ', map { $n++; "$_->[0] => \$$n" } @arguments) . ')',
		types  => [ map { $_->[1] } @arguments ],
		values => [ map { my $value = $given->{ $_->[0] };
			!defined $value ? undef : ref $value eq 'JSON::PP::Boolean' ? ($value ? 'true' : 'false') : "$value" } @arguments ],
		as     => $option->{as} // 'shop',
		keep   => $option->{keep},
		times  => $TIMES,
		expected => [ $first, ($repeat) x ($TIMES - 1) ],
		can_pipeline => $option->{alone} || is_sqlstate($first) || is_sqlstate($repeat) ? JSON::PP::false : JSON::PP::true,
	};
}
my @steps = map { step(@$_) } @$calls;

my %called = map { $_->[0] => 1 } @$calls;
is_deeply([ grep { !$called{$_} } sort keys %$functions ], [], 'calls.json calls every public function');
my $errors = PostgreSQL::Test::Utils::slurp_file("$ROOT/src/rules/errors.h");
my %expected = map { map { ref $_ ? () : ($_ => 1) } @{ $_->{expected} } } @steps;
is_deeply([ grep { !$expected{$_} } $errors =~ m{/\* (OT\d{3}) \*/}g ], [], 'it meets every SQLSTATE of ours');

my $databases = 0;

sub clone {
	my ($template) = @_;
	my $name = "clone_" . $databases++;
	$server->safe_psql('postgres', "CREATE DATABASE $name TEMPLATE $template STRATEGY file_copy");
	return $name;
}

# One run straight and one through the pool; for a program the same again in a pipeline, and a shop.
sub runs {
	my ($is_program) = @_;
	my @runs;
	for my $pipeline (0 .. $is_program) {
		push @runs, map { {
			name     => $_ . ($pipeline ? ', in a pipeline' : ''),
			host     => $address,
			port     => "$port{$_}",
			database => clone('calls'),
			shop     => $is_program && !$pipeline ? clone('shop') : undef,
			pooled   => $_ eq 'pooled' ? JSON::PP::true : JSON::PP::false,
			pipeline => $pipeline ? JSON::PP::true : JSON::PP::false,
		} } @ways;
	}
	return @runs;
}

# ------------------------------------------------------------ answers

# In the words of calls.json: what was asked for, of a call.
sub in_words {
	my ($said, $expected) = @_;
	return $1 if $said =~ /^!(.*)/s;
	my ($names, @rows) = map { [ split /\x1f/, $_, -1 ] } split /\x1e/, $said;
	return scalar @rows if !ref $expected && $expected =~ /^\d+$/;
	my %row;
	@row{@$names} = @{ $rows[0] } if @rows;
	return ref $expected ? { map { $_ => $row{$_} } keys %$expected } : $row{outcome};
}

# Without what differs from run to run (keys, tokens, times of today) and from type to type of the clients.
sub comparable {
	my ($text) = @_;
	if ($text =~ /^\{/) {
		my $json = JSON::PP->new->canonical->allow_nonref;
		my $value = eval { $json->decode($text) };
		$text = $json->encode($value) if defined $value;
	}
	$text =~ s/\brf_[0-9a-f]{32}\b/KEY/g;
	$text =~ s{(\d{4})(-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(\.\d+)?(Z|\+00(:?00)?)}{$1 > 2900 ? "$1$2 $3" : 'TIME'}ge;
	return $text;
}

sub all_comparable {
	my ($said) = @_;
	my ($names, @rows) = map { [ split /\x1f/, $_, -1 ] } split /\x1e/, $said, -1;
	for my $row (@rows) {
		$row->[$_] = $names->[$_] =~ /^(id|xid|lease_token|after|step)$/ ? $1 : comparable($row->[$_]) for 0 .. $#$row;
	}
	return join "\n", map { join '|', @$_ } $names // [], @rows;
}

my $by_psql;

# check(client, run, [ answers of step 0 ], [ answers of step 1 ], ...)
sub check {
	my ($client, $run, @said) = @_;
	my (%got, %wanted, @same);
	for my $n (0 .. $#steps) {
		my $step = $steps[$n];
		my @answers = @{ $said[$n] // [] };
		push @{ $wanted{ $step->{call} } }, [ $step->{values}, @{ $step->{expected} } ];
		push @{ $got{ $step->{call} } },
			[ $step->{values}, map { in_words($answers[$_], $step->{expected}[$_] // '') } 0 .. $#answers ];
		push @same, [ $step->{sql}, map { all_comparable($_) } @answers ];
	}
	is_deeply($got{$_}, $wanted{$_}, "$client, $run: $_") for sort keys %wanted;
	$by_psql //= \@same;
	is_deeply(\@same, $by_psql, "$client, $run: all as psql answers");
	return;
}

# ------------------------------------------------------------ psql: literals

sub literal {
	my ($type, $text) = @_;
	return 'NULL' if !defined $text;
	return $text if $type =~ /^(bigint|integer|numeric|boolean)$/;
	return "'" . $text =~ s/'/''/gr . "'";
}

# Sends a script and adds to the answers of each step.
sub psql_says {
	my ($run, $script, $said) = @_;
	my ($out, $err);
	run [ 'psql', '-XqA', '-F', "\x1f", '-R', "\x1e", '-P', 'null=\N', '-P', 'footer=off',
		"host=$run->{host} port=$run->{port} dbname=$run->{database} user=shop" ], '<', \$script, '>', \$out, '2>', \$err;
	utf8::decode($out);
	my @parts = split /^@@(\d+) (\w+)\n/m, $out;
	while (my ($rows, $n, $state) = splice @parts, 0, 3) {
		push @{ $said->[$n] }, $state eq '00000' ? $rows =~ s/\n\z//r : "!$state";
	}
	return;
}

sub by_psql {
	my ($run) = @_;
	my ($script, $user, @said, %row) = ('', '');
	for my $n (0 .. $#steps) {
		my $step = $steps[$n];
		my @values = @{ $step->{values} };
		if (grep { defined && /^\{(\w+)\./ && !$row{$1} } @values) {
			psql_says($run, $script, \@said);
			($script, $user) = ('', '');
			for my $known (grep { $steps[$_]{keep} } 0 .. $n - 1) {
				my ($names, $first) = map { [ split /\x1f/, $_, -1 ] } split /\x1e/, $said[$known][0];
				@{ $row{ $steps[$known]{keep} } }{@$names} = @{ $first // [] };
			}
		}
		@values = map { defined && /^\{(\w+)\.(\w+)\}$/ ? $row{$1}{$2} : $_ } @values;
		my @literals = map { literal($step->{types}[$_], $values[$_]) } 0 .. $#values;
		$script .= "\\c - $step->{as}\n" if $user ne $step->{as};
		$user = $step->{as};
		$script .= ($step->{sql} =~ s/\$(\d+)/$literals[$1 - 1]/gr . ";\n\\echo \@\@$n :SQLSTATE\n") x $TIMES;
	}
	psql_says($run, $script, \@said);
	return @said;
}

# ------------------------------------------------------------ libpq: DBD::Pg, without types

sub by_libpq {
	my ($run) = @_;
	my $where = "dbi:Pg:host=$run->{host};port=$run->{port};dbname=$run->{database}";
	my %how = (RaiseError => 1, PrintError => 0, PrintWarn => 0, pg_bool_tf => 1, pg_server_prepare => $run->{pooled} ? 0 : 1);
	my %dbh = map { $_ => DBI->connect($where, $_, undef, \%how) } qw(shop postgres);
	my (@said, %kept);
	for my $n (0 .. $#steps) {
		my $step = $steps[$n];
		my $dbh = $dbh{ $step->{as} };
		my $sth = $dbh->prepare($step->{sql}, { pg_placeholder_dollaronly => 1 });
		my @values = map { defined && exists $kept{$_} ? $kept{$_} : $_ } @{ $step->{values} };
		for (1 .. $TIMES) {
			my $state = error_of($dbh, sub { $sth->execute(@values) });
			my @rows = $state || !$sth->{NUM_OF_FIELDS} ? () : ($sth->{NAME}, @{ $sth->fetchall_arrayref });
			@rows = map { [ map { $_ // '\N' } @$_ ] } @rows;
			if ($step->{keep} && @rows > 1) {
				$kept{"{$step->{keep}.$rows[0][$_]}"} //= $rows[1][$_] for 0 .. $#{ $rows[0] };
			}
			push @{ $said[$n] }, $state ? "!$state" : join "\x1e", map { join "\x1f", @$_ } @rows;
		}
	}
	$_->disconnect for values %dbh;
	return @said;
}

# ------------------------------------------------------------ the others: programs

my $folder = $server->basedir;
$ENV{TZ} = 'UTC';
$ENV{PYTHONPATH} = $SHOP;
$ENV{PYTHONDONTWRITEBYTECODE} = 1;
$ENV{NODE_PATH} = join ':', grep { defined && length } $ENV{NODE_PATH}, '/usr/share/nodejs';
@ENV{qw(GOPATH GO111MODULE GOCACHE GOFLAGS)} = ('/usr/share/gocode', 'off', "$folder/go", '');
my $jar = '/usr/share/java/postgresql.jar';

sub succeeds {
	my (@command) = @_;
	my $said = '';
	return scalar eval { run \@command, '<', \undef, '>&', \$said };
}

my @programs = (
	{ name => 'psycopg', language => 'python', file => 'shop.py', there => [ '/usr/bin/python3', '-c', 'import psycopg' ],
	  run => [ '/usr/bin/python3', "$FindBin::Bin/clients/run.py" ] },
	{ name => 'node-postgres', language => 'js', file => 'shop.js', there => [ 'node', '-e', 'require("pg")' ],
	  run => [ 'node', "$FindBin::Bin/clients/run.js" ], more => ["$SHOP/shop.js"] },
	{ name => 'JDBC', language => 'java', file => 'Shop.java', there => [ 'sh', '-c', "javac -version && test -e $jar" ],
	  build => [ 'javac', '-cp', $jar, '-d', "$folder/java", "$SHOP/Shop.java", "$FindBin::Bin/clients/Run.java" ],
	  run => [ 'java', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-cp', "$jar:$folder/java", 'Run' ],
	  more => ["jdbc:postgresql://$address:$port{straight}/postgres?user=postgres"] },
	{ name => 'pgx', language => 'go', file => 'shop.go', there => [ 'go', 'list', 'github.com/jackc/pgx/v4' ],
	  build => [ 'sh', '-c', 'mkdir "$0" && cp "$1" "$2" "$0" && go build -o "$0/run" "$0"/*.go', "$folder/shop", "$SHOP/shop.go",
		"$FindBin::Bin/clients/run.go" ],
	  run => ["$folder/shop/run"] });

# { run => [ [ answers of step 0 ], ... ] }, { run => what the shop answered }
sub by_program {
	my ($program, @runs) = @_;
	my ($plan, $answers) = map { "$folder/$program->{name}.$_" } qw(plan answers);
	PostgreSQL::Test::Utils::append_to_file($plan, encode_json({ runs => \@runs,
		steps => [ map { my %step = %$_; delete @step{qw(expected call)}; \%step } @steps ] }));
	my $said = '';
	ok((!$program->{build} || run $program->{build}, '>&', \$said)
		&& run([ @{ $program->{run} }, $plan, $answers, @{ $program->{more} // [] } ], '>&', \$said),
		"$program->{name}: ends well") or diag($said);
	my (%said, %shop);
	open my $in, '<:encoding(UTF-8)', $answers or return (\%said, \%shop);
	while (my $line = <$in>) {
		my ($run, $step, $answer) = split /\t/, $line =~ s/\n\z//r, 3;
		if ($step eq 'shop') { $shop{$run} = $answer }
		else                 { push @{ $said{$run}[$step] }, $answer }
	}
	return (\%said, \%shop);
}

# What the shop's functions left behind.
sub in_the_shop {
	my ($client, $run, $said) = @_;
	my $name = "$client, $run->{name}";
	is($said, 'pending 200 200 500 200 200 1 0 200 1 closed', "$name: the shop's functions answer");
	my $dbh = $server->dbh($run->{shop});
	my $rows = $dbh->selectcol_arrayref(<<'END');
SELECT concat_ws(' ', order_id, state, amount, paid) FROM order_timeout.orders
UNION ALL
(SELECT concat_ws(' ', order_id, payment_ref, amount, disposition) FROM order_timeout.payments ORDER BY payment_ref)
UNION ALL
(SELECT concat_ws(' ', payment_ref, amount, state, gateway_refund_ref, last_error) FROM order_timeout.refunds ORDER BY payment_ref)
END
	is_deeply($rows, [ 'C-1 paid 4200 5700', 'C-1 w-1 4200 applied', 'C-2 w-2 100 orphan', 'C-1 w-3 700 surplus',
		'C-1 w-4 800 surplus', 'w-3 700 succeeded g-processing', 'w-4 800 unknown no answer' ], "$name: and leave this");
	# The first failed, once for each of the four payments succeeded.
	is($dbh->selectrow_array('SELECT last_value FROM tries'), 5, "$name: a serialization failure was repeated");
	balanced($dbh, "$name: the funds");
	$dbh->disconnect;
	return;
}

# ------------------------------------------------------------ all of them

check('psql', $_->{name}, by_psql($_)) for runs(0);
check('libpq', $_->{name}, by_libpq($_)) for runs(0);
for my $program (@programs) {
	is_there($program->{name}, succeeds(@{ $program->{there} })) or next;
	my @runs = runs(1);
	my ($said, $shop) = by_program($program, @runs);
	for my $run (@runs) {
		check($program->{name}, $run->{name}, @{ $said->{ $run->{name} } // [] });
		in_the_shop($program->{name}, $run, $shop->{ $run->{name} }) if $run->{shop};
	}
}

# ------------------------------------------------------------ the page

# doc/clients.md prints the functions as they stand behind these comments.
my @blocks = blocks('doc/clients.md');
for my $program (@programs) {
	my $text = PostgreSQL::Test::Utils::slurp_file("$SHOP/$program->{file}");
	$text =~ s/^\t//gm if $program->{language} eq 'java';    # they stand in a class
	my @functions = $text =~ m{^(?:\#|//)\ (?:create|webhook|worker)\n(.*?^(?:\}|\ {4}return[^\n]*)\n)(?=\n|\}|\z)}gmsx;
	my @printed = map { $_->{text} } grep { $_->{language} eq $program->{language} } @blocks;
	is(scalar @functions, 3, "$program->{file}: three functions");
	is_deeply(\@printed, \@functions, "doc/clients.md prints $program->{file}");
}

done_testing;
