# The same webhook fifty times at once, then everything at once at random:
# outcomes are told once, money is counted once.
#
# OT_SEED repeats the choices of a run, though not their interleaving;
# OT_SECONDS lets each of the two loads at the end run for longer.

use strict;
use warnings;

use OTServer;
use OTTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $server = OTServer->started('webhooks', max_connections => 120);
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');

# ------------------------------------------------------------ the same webhook

my $count = 50;

# All children wait for a lock, so that they start together.
sub at_once {
	my (@arguments) = @_;
	my $gate = $server->dbh('shop');
	$gate->do('SELECT pg_advisory_lock(7)');
	my $children = fork_all($count, sub {
		my $mine = $server->dbh('shop');
		my $pay = 'SELECT * FROM order_timeout.record_payment(?, ?, ?, ?, ?)';
		$mine->do('SELECT pg_advisory_lock_shared(7)');
		return $mine->selectrow_hashref($pay, undef, @arguments);
	});
	eventually(sub {
		$gate->selectrow_array("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == $count;
	}) or die "not all are waiting\n";
	$gate->do('SELECT pg_advisory_unlock(7)');
	return answers($children);
}

call($dbh, 'create_order', $_, 100, 'EUR', '1 hour') for qw(open closed);
call($dbh, 'cancel_order', 'closed');
my %first = (open => 'paid', closed => 'late', unknown => 'orphan');
for my $order (sort keys %first) {
	my @answers = at_once($order, 'gate', "for $order", 130, 'EUR');
	my %outcome;
	$outcome{ $_->{outcome} }++ for @answers;
	is_deeply(\%outcome, { $first{$order} => 1, duplicate => $count - 1 },
		"$count times at once: one $first{$order}, the others duplicate");
	my %same = map { join('|', map { $_ // '' } @$_{qw(state disposition refund_ref refund_amount)}) => 1 } @answers;
	is(scalar keys %same, 1, 'but for that they answer the same') or diag(explain(\%same));
}
is($dbh->selectrow_array("SELECT count(*) || ',' || sum(amount) FROM order_timeout.payments"), '3,390', 'three payments');
is($dbh->selectrow_array("SELECT count(*) || ',' || sum(amount) FROM order_timeout.refunds"), '2,160', 'two refunds');
balanced($dbh, 'the funds');

# ------------------------------------------------------------ all at once

my $seed = $ENV{OT_SEED} // int time;
my $seconds = $ENV{OT_SECONDS} // 7;
diag("seed $seed");
$dbh->do('INSERT INTO order_timeout.policies (policy, on_late, late_rule) VALUES (?, ?, ?)', undef, @$_)
	for [qw(reopen reopen until_closed)], [qw(hold hold until_closed)], [qw(strict refund at_deadline)];
$dbh->do("UPDATE order_timeout.policies SET refund_backoff = '20 milliseconds', refund_backoff_max = '100 milliseconds',
	refund_max_attempts = 3, refund_lease = '200 milliseconds', refund_settle_within = '1 second'");
$dbh->do("UPDATE order_timeout.policies SET orphan_after = '3 seconds' WHERE policy = 'default'");

sub pick { return $_[ int rand @_ ] }

# Few ids, so that everybody meets; new ones all the time, so that orders are
# in every state.
my $started = time;
sub generation { return int((time - $started) * 2) }
sub some_order { return sprintf 'o%d-%d', generation(), rand 10 }

sub some_known {
	my $back = generation() - pick(0, 0, 1, 2, 4);
	return sprintf 'o%d-%d', $back > 0 ? $back : 0, rand 10;
}

# The terms follow from the reference, as they do for one capture.
sub payment_of { return "$_[0] p" . int rand 10 }
my @terms = ([ 100, 'EUR' ], [ 40, 'EUR' ], [ 60, 'EUR' ], [ 250, 'EUR' ], [ 70, 'USD' ],
	[ 100, 'EUR' ], [ 130, 'EUR' ], [ 1, 'EUR' ], [ 99, 'EUR' ], [ 100, 'EUR' ]);

# What a call is told, kept for the parent when the transaction commits.
my %operation = (
	create => sub {
		my ($mine, $order) = @_;
		call($mine, 'create_order', $order, 100, 'EUR', pick('50 milliseconds', '300 milliseconds', '2 seconds'),
			undef, policy_of($order));
		return;
	},
	pay => sub {
		my ($mine, $order) = @_;
		my $ref = payment_of($order);
		my ($amount, $currency) = @{ $terms[ substr $ref, -1 ] };
		my $answer = call($mine, 'record_payment', $order, 'gate', $ref, $amount, $currency,
			pick(undef, '2024-01-01 00:00:00+00'));
		return [ paid => $ref, $amount, $answer->{outcome} ];
	},
	cancel => sub { call($_[0], 'cancel_order', $_[1]); return },
	expire => sub { call($_[0], 'expire_order', $_[1]); return },
	extend => sub {
		my ($mine, $order) = @_;
		$mine->do("SELECT order_timeout.extend_order(?, clock_timestamp() + interval '400 milliseconds')", undef, $order);
		return;
	},
	request => sub { rows($_[0], 'request_refund', $_[1], 'key' . int rand 4, pick(undef, 10, 30, 1000)); return },
	claim => sub {
		my ($mine) = @_;
		my $claimed = rows($mine, 'claim_refunds', "worker $$", 1 + int rand 5, pick(undef, '30 milliseconds'));
		return map { [ claimed => @$_{qw(refund_ref action lease_token attempt)} ] } @$claimed;
	},
	complete => sub {
		my ($mine, $order, $mind) = @_;
		my $claimed = pick(@{ $mind->{claimed} // [] }) // return;
		my $result = pick(qw(succeeded succeeded failed unknown submitted deferred rejected));
		my $answer = call($mine, 'complete_refund', $claimed->[1], $result, pick($claimed->[3], $claimed->[3], 'not it'),
			$result eq 'succeeded' ? pick("g $claimed->[1]", "g $claimed->[1]", "other $claimed->[1]") : undef,
			undef, $result eq 'succeeded' ? pick(undef, undef, 5) : undef);
		return [ completed => $claimed->[1], $result, $answer->{outcome} ];
	},
	mend => sub {
		my ($mine, $order, $mind) = @_;
		my $claimed = pick(@{ $mind->{claimed} // [] }) // return;
		my ($function, @arguments) = @{ pick([ 'retry_refund' ], [ 'settle_refund', 'in cash' ], [ 'reverse_refund', 'why' ]) };
		call($mine, $function, $claimed->[1], @arguments);
		return;
	},
	outside => sub {
		my ($mine, $order) = @_;
		my $ref = payment_of($order);
		call($mine, 'record_refund', 'gate', $ref, "outside $ref", 15, pick('external', 'chargeback'));
		return;
	},
	held => sub { call($_[0], 'resolve_held', 'gate', payment_of($_[1]), pick('refund', 'accept')); return },
	orphan => sub { call($_[0], 'refund_orphan', 'gate', payment_of($_[1])); return },
	assign => sub { call($_[0], 'assign_orphan', 'gate', payment_of($_[1]), some_known()); return },
	sweep => sub { call($_[0], 'sweep_once', 5); return },
	look => sub { rows($_[0], 'funds', $_[1]); return },
);
my @often = (keys %operation, qw(create create create pay pay pay pay pay pay pay claim complete complete complete cancel));

sub policy_of { return (qw(default reopen hold strict))[ (substr $_[0], -1) % 4 ] }

# What races may bring, or this test's own ignorance: no such order, refund or
# payment yet, not in a state for it, more than there is, another key's amount,
# a deadline that has passed.
my %expected = map { $_ => 1 } qw(OT001 OT004 OT005 OT006 OT007 OT009 22023);

# Runs transactions of at most so many calls until the time is up.
sub work {
	my ($number, $most_calls, $end) = @_;
	my $mine = $server->dbh('shop');
	my %mind = (surprise => [], retried => {}, calls => 0);

	while (time < $end) {
		my $level = pick('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');
		# Calls that take locks by order come in order of the order_id.
		my @calls = sort { $a->[1] cmp $b->[1] }
			map { my $name = pick(@often); [ $name, $name eq 'create' ? some_order() : some_known() ] }
			1 .. 1 + int rand $most_calls;
		for my $attempt (1 .. 20) {
			my @told;
			my $name = 'commit';
			my $done = eval {
				$mine->do("BEGIN ISOLATION LEVEL $level");
				for my $call (@calls) {
					$name = $call->[0];
					push @told, $operation{$name}->($mine, $call->[1], \%mind);
				}
				$name = 'commit';
				$mine->do('COMMIT');
				1;
			};
			if ($done) {
				push @{ $mind{ $_->[0] } }, $_ for @told;
				$mind{calls} += @calls;
				last;
			}
			my ($sqlstate, $message) = ($mine->state, $@);
			$mine->do('ROLLBACK');
			if ($sqlstate eq '40P01' || $sqlstate eq '40001' && $level ne 'READ COMMITTED') {
				$mind{retried}{$sqlstate}++;
				next;
			}
			push @{ $mind{surprise} }, "$name, $level: $sqlstate $message" unless $expected{$sqlstate};
			last;
		}
	}
	return \%mind;
}

# Single calls first, which never meet in a deadlock; then several in one
# transaction. A sweeper is there all the time, and somebody who asks for the
# proof: it holds at every commit. Only an orphan beside its order may be seen,
# until the sweeper comes by.
my @minds;
for my $most_calls (1, 3) {
	my $end = time + $seconds;
	my $workers = fork_all(6, sub {
		srand($seed + 10 * $most_calls + $_[0]);
		return work($_[0], $most_calls, $end);
	});
	my $sweeper = fork_all(1, sub {
		$server->dbh('shop')->do("CALL order_timeout.sweep('$seconds seconds', 3, '50 milliseconds')");
		return [];
	});
	my ($looks, @wrong) = (0);
	while (time < $end) {
		push @wrong, grep { $_->{kind} !~ /^orphan/ } @{ rows($dbh, 'funds_violations') };
		$looks++;
		sleep 0.1;
	}
	is(scalar @wrong, 0, "at most $most_calls: the funds in each of $looks looks") or diag(explain($wrong[0]));
	my @answers = answers($workers);
	answers($sweeper);
	push @minds, @answers;

	my ($calls, %retried) = (0);
	for my $mind (@answers) {
		$calls += $mind->{calls};
		$retried{$_} += $mind->{retried}{$_} for keys %{ $mind->{retried} };
	}
	diag("at most $most_calls: $calls calls, tried again: " . join ', ', map { "$retried{$_} $_" } sort keys %retried);
	cmp_ok($calls, '>', 500, "at most $most_calls: there was some work");
	is_deeply([ map { @{ $_->{surprise} } } @answers ], [], "at most $most_calls: no other error than those that races may bring");
	is($retried{'40P01'} // 0, 0, 'single calls never deadlock') if $most_calls == 1;
	sums_agree($dbh, "at most $most_calls: the sums");
}

sub all { my ($what) = @_; return map { @{ $_->{$what} // [] } } @minds }

# The sweeper has seen everything when it finds nothing.
$dbh->do('SELECT pg_sleep(3)');
for (1 .. 20) {
	my $swept = call($dbh, 'sweep_once', 10_000);
	last unless $swept->{expired} || $swept->{leases_returned};
}
call($dbh, 'sweep_once', 10_000);
balanced($dbh, 'the funds');
sums_agree($dbh, 'the sums');
is($dbh->selectrow_array(<<'END'), 0, 'no orphan beside its order');
SELECT count(*) FROM order_timeout.payments p JOIN order_timeout.orders o USING (order_id)
 WHERE p.disposition = 'orphan' AND p.refunded + p.refund_pending = 0
END
is($dbh->selectrow_array('SELECT count(*) FROM order_timeout.set_aside'), 0, 'no closing has failed');

# Against what the sessions were told.
my (%amount, %counted);
for my $paid (all('paid')) {
	my (undef, $ref, $amount, $outcome) = @$paid;
	$amount{$ref} = $amount;
	$counted{$ref}++ if $outcome ne 'duplicate';
}
my $sum = 0;
$sum += $_ for values %amount;
is($dbh->selectrow_array("SELECT sum(amount) FROM order_timeout.payments WHERE payment_ref NOT LIKE 'for %'"), $sum,
	'all money that somebody was told about is there, and no other');
is(scalar(grep { ($counted{$_} // 0) != 1 } keys %amount), 0, 'each payment was new once');
is($dbh->selectrow_array(<<'END'), 0, 'and what is not kept is refunded, owed or held');
SELECT (SELECT sum(amount) FROM order_timeout.payments WHERE disposition <> 'orphan')
     - (SELECT sum(p.refunded + p.refund_pending + p.held) FROM order_timeout.payments p WHERE disposition <> 'orphan')
     - (SELECT sum(paid - refunded - refund_pending - held) FROM order_timeout.orders)
END
my (%submits, %tokens);
for my $claimed (all('claimed')) {
	my (undef, $ref, $action, $token) = @$claimed;
	$submits{$ref}++ if $action eq 'submit';
	$tokens{$token}++;
}
is(scalar(grep { $_ > 1 } values %submits), 0, 'a refund is to be submitted once, then queried');
is(scalar(grep { $_ > 1 } values %tokens), 0, 'no lease is given to two workers');
my %settled;
$settled{ $_->[1] }++ for grep { $_->[2] eq 'succeeded' && $_->[3] eq 'recorded' } all('completed');
is(scalar(grep { $_ > 1 } values %settled), 0, 'no refund is done twice');
cmp_ok(scalar keys %settled, '>', 10, 'some were done');
my %seen;
$seen{ $_->[3] }++ for all('paid');
diag('payments: ' . join ', ', map { "$seen{$_} $_" } sort keys %seen);
diag('refunds: ' . $dbh->selectrow_array(
	"SELECT string_agg(n || ' ' || state, ', ') FROM (SELECT state, count(*) AS n FROM order_timeout.refunds GROUP BY 1 ORDER BY 1) AS r"));

done_testing();
