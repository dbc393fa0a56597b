# Both stores on the same rows at the same time, while the tables are rebuilt under them: sessions of each kind create,
# pay, refund and close the same few orders, two sweepers run, and an owner builds indexes, vacuums and adds constraints.
# Whatever they do to each other, the money is accounted for and every index leads to every row.
#
# OT_SEED=n repeats the choices (not their order in time), OT_SECONDS=n makes it longer.

use strict;
use warnings;

use OTServer;
use OTTest;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'it chooses the stores by itself: once is enough' if ($ENV{OT_STORE} // 'auto') eq 'sql';

my $seed    = $ENV{OT_SEED} // int time % 1_000_000;
my $seconds = $ENV{OT_SECONDS} // 6;
diag("OT_SEED=$seed");

my $server = OTServer->started('mixed', autovacuum_naptime => '1s', deadlock_timeout => '50ms');
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $admin = $server->dbh('shop');
$admin->do($_) for 'CREATE EXTENSION order_timeout', 'CREATE EXTENSION amcheck',
	"UPDATE order_timeout.policies SET refund_backoff = '1 ms', refund_backoff_max = '10 ms', orphan_after = '50 ms', refund_max_attempts = 5",
	"INSERT INTO order_timeout.policies (policy, on_late, late_rule) VALUES ('reopen', 'reopen', 'until_closed'), ('hold', 'hold', 'at_deadline')";
my $end = time + $seconds;

sub any { return $_[ int rand @_ ] }

# A few orders at a time for everybody, others every tenth of a second.
sub an_order { return 'order-' . int((time - $end + $seconds) * 10 + rand 4) }

my %calls = (
	create  => sub { [ 'create_order', an_order(), 100, 'EUR', any('1 ms', '20 ms', '1 hour') , undef, 'reopen' ] },
	hold    => sub { [ 'create_order', 'h' . an_order(), 100, 'EUR', any('1 ms', '20 ms'), undef, 'hold' ] },
	pay     => sub { my $order = any('', 'h') . an_order(); [ 'record_payment', $order, 'bank', "$order-" . int rand 4, any(100, 60, 40), any(qw(EUR EUR EUR USD)) ] },
	strange => sub { [ 'record_payment', an_order(), 'bank', 'strange-' . int rand 50, 10, 'EUR' ] },
	cancel  => sub { [ 'cancel_order', an_order() ] },
	expire  => sub { [ 'expire_order', an_order() ] },
	extend  => sub { [ 'extend_order', an_order(), '2099-01-01' ] },
	ask     => sub { [ 'request_refund', an_order(), 'key-' . int rand 3, any(undef, 10) ] },
	orphan  => sub { [ 'refund_orphan', 'bank', an_order() . '-' . int rand 4 ] },
	assign  => sub { [ 'assign_orphan', 'bank', an_order() . '-' . int rand 4, an_order() ] },
	resolve => sub { [ 'resolve_held', 'bank', 'h' . an_order() . '-' . int rand 4, any(qw(accept refund)) ] },
	accept  => sub { [ 'accept_payment', 'bank', any('', 'h') . an_order() . '-' . int rand 4 ] },
	short   => sub { [ 'accept_short', an_order() ] },
	record  => sub { [ 'record_refund', 'bank', an_order() . '-' . int rand 4, 'number-' . int rand 500, 10 ] },
	sweep   => sub { [ 'sweep_once', 5 ] },
);
my @names = (sort(keys %calls), ('create', 'pay') x 6, 'ask');

# What may come back besides answers: misuse that chance brings about, and deadlocks with who rebuilds a table.
my $expected = qr/^(OT\d\d\d|40P01|40001)$/;

sub one_call {
	my ($dbh, $count) = @_;
	my $state = error_of($dbh, sub {
		if (rand() < 0.2) {
			for my $refund (@{ rows($dbh, 'claim_refunds', 'worker', 5, any(undef, '1 ms')) }) {
				call($dbh, 'complete_refund', $refund->{refund_ref}, any(qw(succeeded succeeded failed unknown submitted)), $refund->{lease_token});
			}
		}
		else {
			my ($function, @arguments) = @{ $calls{ any(@names) }->() };
			call($dbh, $function, @arguments);
		}
	});
	$count->{$state}++;
	# While an index is rebuilt concurrently, PostgreSQL's own ON CONFLICT does not know the new one yet.
	return if $state eq '23505' && $dbh->errstr =~ /payments_pkey_ccnew/;
	return $state eq '' || $state =~ $expected ? () : "$state: " . $dbh->errstr;
}

sub work {
	my ($number) = @_;
	my $dbh = $server->dbh('shop');
	my (%count, @wrong);
	srand $seed + $number;
	$dbh->do("SET order_timeout.store = '" . (qw(fast sql fast))[ $number % 3 ] . "'");
	while (time < $end && @wrong < 5) {
		$dbh->begin_work if my $several = rand() < 0.1;
		my @bad = one_call($dbh, \%count);
		if ($several) { rand() < 0.7 ? $dbh->commit : $dbh->rollback }
		push @wrong, @bad;
	}
	return { count => \%count, wrong => \@wrong };
}

sub sweep {
	my ($number) = @_;
	my $dbh = $server->dbh('shop');
	$dbh->do("SET order_timeout.store = '" . ($number % 2 ? 'fast' : 'auto') . "'");
	my $state = error_of($dbh, sub { $dbh->do("CALL order_timeout.sweep('$seconds seconds', 20, '5 ms')") });
	return { count => {}, wrong => $state eq '' ? [] : [ "sweep: $state: " . $dbh->errstr ] };
}

# Each of these is a change that the sessions have to notice.
sub rebuild {
	my $dbh = $server->dbh('shop');
	my (%count, @wrong);
	$dbh->do("SET lock_timeout = '1 s'");
	srand $seed;
	while (time < $end) {
		my $table = any(qw(orders payments refunds events));
		my ($column) = { orders => 'close_reason', payments => 'currency', refunds => 'worker', events => 'type' }->{$table};
		for my $statement (@{ any(
			[ "REINDEX TABLE CONCURRENTLY order_timeout.$table" ],
			[ "CREATE INDEX CONCURRENTLY mine ON order_timeout.$table ($column)", 'DROP INDEX CONCURRENTLY order_timeout.mine' ],
			[ "CREATE INDEX mine ON order_timeout.$table ($column)", 'DROP INDEX order_timeout.mine' ],
			[ "REINDEX TABLE order_timeout.$table" ],
			[ "VACUUM FULL order_timeout.$table" ],
			[ "VACUUM (FREEZE, ANALYZE) order_timeout.$table" ],
			[ "ALTER TABLE order_timeout.$table ADD CONSTRAINT mine CHECK ($column IS DISTINCT FROM 'no') NOT VALID",
				"ALTER TABLE order_timeout.$table VALIDATE CONSTRAINT mine", "ALTER TABLE order_timeout.$table DROP CONSTRAINT mine" ],
		) }) {
			my $state = error_of($dbh, sub { $dbh->do($statement) });
			$count{ $statement =~ s/ (ON )?order_timeout.*//r }++ if $state eq '';
			push @wrong, "$statement: " . $dbh->errstr if $state !~ /^(|40P01|55P03|42704|42P07|42710)$/;
		}
		# What one of them left behind when it met a deadlock.
		error_of($dbh, sub { $dbh->do($_) }) for 'DROP INDEX IF EXISTS order_timeout.mine', "ALTER TABLE order_timeout.$table DROP CONSTRAINT IF EXISTS mine";
	}
	return { count => \%count, wrong => \@wrong };
}

my @children = (
	@{ fork_all(4, \&work) },
	@{ fork_all(2, \&sweep) },
	@{ fork_all(1, \&rebuild) },
);
my @answers = answers(\@children);
for my $answer (@answers) {
	my $count = $answer->{count};
	diag(join ', ', map { ($_ || 'done') . ": $count->{$_}" } sort keys %$count);
	is_deeply($answer->{wrong}, [], 'nothing but what may come back');
}
cmp_ok($answers[-1]{count}{'REINDEX TABLE CONCURRENTLY'} // 0, '>', 0, 'indexes were rebuilt meanwhile') if $seconds >= 6;

call($admin, 'sweep_once', 100000);
balanced($admin, 'all money is accounted for');
sums_agree($admin, 'in plain SQL too');
indexes_sound($admin, 'every row is in every index');
heaps_sound($admin, 'the heaps are sound');
ok(!$server->log_contains(qr/terminated by signal|PANIC|TRAP/), 'nothing crashed');

done_testing;
