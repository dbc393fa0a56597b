# The same calls to both stores: random ones over a few orders at a time, so that repeats, collisions, every outcome and
# every error come up; alone, several in a transaction with savepoints, and in plpgsql blocks. Each answer is compared,
# and every row now and then.
#
# OT_SEED=n repeats a run, OT_CALLS=n makes it longer.

use strict;
use warnings;

use FindBin;
use OTPair;
use OTServer;
use OTTest;
use Test::More;

plan skip_all => 'it chooses the stores by itself: once is enough' if ($ENV{OT_STORE} // 'auto') eq 'sql';

my $seed  = $ENV{OT_SEED} // time % 1_000_000;
my $least = $ENV{OT_CALLS} // 2500;
my $most  = 5 * $least;
srand $seed;
diag("OT_SEED=$seed");

my $server = OTServer->started('agree', autovacuum => 'off');
my @sides  = map { side($_) } qw(fast sql);
my ($calls, $spent, %reached) = (0, 0);

sub side {
	my ($store) = @_;
	$server->safe_psql('postgres', "CREATE DATABASE $store");
	my $dbh = $server->dbh($store);
	$dbh->do($_) for (
		'CREATE EXTENSION order_timeout',
		'CREATE EXTENSION amcheck',
		# Closing of these fails, without a trigger, which the fast store would leave to the other one.
		"ALTER TABLE order_timeout.refunds ADD CONSTRAINT cursed CHECK (state <> 'processing' OR gateway <> 'cursed')",
		"ALTER TABLE order_timeout.orders ADD CONSTRAINT cursed CHECK (state <> 'expired' OR order_id NOT LIKE 'cursed%')",
		"UPDATE order_timeout.policies SET refund_jitter = 0, refund_backoff = '10 days', refund_backoff_max = '40 days',
			refund_max_attempts = 3, refund_lease = '2 days', orphan_after = '100 days'",
		"INSERT INTO order_timeout.policies (policy, remind_before, refund_jitter, refund_backoff, refund_backoff_max, refund_lease)
			VALUES ('remind', '1000 years', 0, '10 days', '40 days', '2 days')",
		"INSERT INTO order_timeout.policies (policy, late_rule, on_late, refund_jitter, refund_backoff, refund_backoff_max,
				refund_max_attempts, refund_lease, short_tolerance, on_short, on_notified_late, attempt_hold, before_close, void_within)
			SELECT on_late || ' ' || rule, CASE rule WHEN 'ask' THEN 'until_closed' ELSE rule END, on_late, 0, '10 days', '40 days', 3, '2 days',
				CASE on_late WHEN 'reopen' THEN 10 ELSE 0 END, CASE on_late WHEN 'hold' THEN 'hold' ELSE 'refund' END,
				CASE rule WHEN 'at_deadline' THEN 'hold' END, CASE on_late WHEN 'reopen' THEN NULL ELSE interval '20 days' END,
				CASE rule WHEN 'ask' THEN 'void' ELSE 'close' END, '3 days'
			  FROM unnest('{refund,reopen,hold}'::text[]) AS on_late, unnest('{until_closed,at_deadline,ask}'::text[]) AS rule");
	return OTPair->new($dbh, $store);
}

# ------------------------------------------------------------ chance

sub chance { return rand() < $_[0] }
sub any    { return $_[ int rand @_ ] }

# A few orders at a time: the present ones come up again and again, and then others.
my $recent = 0;

sub an_order {
	my $number = $recent + int rand 6;
	$number = int rand $recent + 1 if chance(0.1);
	return $number % 11 == 3 ? "cursed-$number" : "order-$number";
}

sub a_pending_order {
	my ($order) = one_of('SELECT order_id FROM order_timeout.orders WHERE settled_at IS NULL ORDER BY 1');
	return defined $order && chance(0.8) ? $order : an_order();
}

sub policy_of {
	my ($order) = @_;
	my ($number) = $order =~ /(\d+)/;
	my @policies = ('default', map { ("$_ until_closed", "$_ at_deadline", "$_ ask") } qw(refund reopen hold));
	return $policies[ $number % @policies ];
}

sub amount_of {
	my ($order) = @_;
	return $order =~ /0$/ ? 0 : 100;
}

# What a payment is told with is mostly the same each time.
my (%told, @told);

sub told {
	my ($gateway, $payment, @terms) = @_;
	push @told, [ $gateway, $payment ];
	shift @told if @told > 30;
	my $known = $told{"$gateway $payment"} //= \@terms;
	return @{ chance(0.05) ? \@terms : $known };
}

sub a_told_payment { return @told && chance(0.95) ? @{ any(@told) } : ('bank', 'never told') }

# One of those that an SQL query finds, so that what is rare is met more often. Both sides have the same, up to here.
sub one_of {
	my ($sql) = @_;
	my $found = $sides[0]->dbh->selectall_arrayref($sql);
	return @$found ? @{ any(@$found) } : ();
}

sub a_payment_that_is {
	my ($disposition) = @_;
	my @found = one_of("SELECT gateway, payment_ref FROM order_timeout.payments
		WHERE disposition = '$disposition' AND amount < 1000 AND (amount > refunded + refund_pending OR payment_ref LIKE '%1') ORDER BY gateway, payment_ref");
	return @found && chance(0.7) ? @found : a_told_payment();
}

sub a_payment_that_is_owed {
	my @found = one_of("SELECT gateway, payment_ref FROM order_timeout.payments JOIN order_timeout.orders o USING (order_id)
		WHERE o.state IN ('expired', 'cancelled') AND payments.refund_pending > 0 AND payments.amount < 1000 ORDER BY gateway, payment_ref");
	return @found && chance(0.7) ? @found : a_payment_that_is('held');
}

sub an_attempt { my ($order) = @_; return chance(0.2) ? a_payment($order) : "$order-try-" . int rand 3 }

sub an_attempt_that_is {
	my ($states) = @_;
	my @found = one_of("SELECT gateway, attempt_ref FROM order_timeout.attempts WHERE state IN ($states) ORDER BY created_at DESC LIMIT 8");
	return @found && chance(0.8) ? @found : (a_gateway(), an_attempt(an_order()));
}

sub a_gateway { return chance(0.8) ? 'bank' : 'card' }
sub a_payment { my ($order) = @_; return "$order-" . int rand 5 }
sub an_amount { return any(100, 100, 100, 100, 60, 40, 40, 150, 30, 1) }
sub document  { return chance(0.1) ? '{"text": "' . join('', map { sprintf '%08x', rand 2**32 } 1 .. 500) . '"}' : any(undef, '{"a": 1}') }

# The last refunds, by number.
sub a_refund {
	my $count = $sides[0]->refunds;
	return chance(0.01) || !$count ? $count + 1000 : chance(0.1) ? int rand $count : $count - 1 - int rand($count < 12 ? $count : 12);
}

sub a_stuck_refund {
	my ($n) = one_of("SELECT n - 1 FROM order_timeout.refunds JOIN t.names USING (refund_ref) WHERE state = 'needs_attention' ORDER BY n");
	return defined $n && chance(0.5) ? $n : a_refund();
}

sub a_conflict {
	my ($id) = one_of('SELECT conflict_id FROM order_timeout.conflicts ORDER BY conflict_id DESC LIMIT 10');
	return defined $id && chance(0.9) ? $id : 1_000_000;
}

sub ref_to   { my ($n) = @_; return sub { $_[0]->ref_of($n) } }
sub token_to { my ($n) = @_; return chance(0.1) ? any(undef, 'not the token') : sub { $_[0]->token_of($n) } }

# The lease that an attempt's void has or had last, an older one, or none.
sub void_token_to {
	my ($name) = @_;
	my $which = chance(0.7) ? -1 : any(undef, 0, -2, 'no');
	return !defined $which ? undef : $which eq 'no' ? 'not the token' : sub { $_[0]->void_token_of($name, $which) };
}

sub an_attempt_with_a_void {
	my @found = one_of('SELECT gateway, attempt_ref FROM order_timeout.attempts WHERE next_attempt_at IS NOT NULL OR attention_at IS NOT NULL
		OR (captured < authorized AND settled_at IS NULL) ORDER BY created_at DESC LIMIT 12');
	return @found && chance(0.75) ? @found : an_attempt_that_is("'open', 'authorized', 'captured', 'voided', 'expired'");
}

# ------------------------------------------------------------ calls

my %bad = (
	create_order   => [ [ '', 1, 'EUR' ], [ 'o', -1, 'EUR' ], [ 'o', 1, 'eur' ], [ undef, 1, 'EUR' ], [ 'o', 1, 'EUR', '-1 s' ],
		[ 'o', 1, 'EUR', '1 hour', '2100-01-01' ], [ "a\nb", 1, 'EUR' ], [ 'x' x 256, 1, 'EUR' ],
		[ 'o', 1, 'EUR', undef, undef, 'nonsense' ] ],
	record_payment => [ [ 'o', 'g', 'p', 0, 'EUR' ], [ 'o', 'g', 'p', 1, 'E' ], [ 'o', '', 'p', 1, 'EUR' ], [ 'o', 'g', 'p', undef, 'EUR' ] ],
	extend_order   => [ [ 'o', undef ], [ 'o', 'infinity' ] ],
	set_deadline   => [ [ 'o', undef ] ],
	reopen_order   => [ [ 'o', '1 hour', '2100-01-01' ] ],
	change_order   => [ [ 'o', -1 ] ],
	begin_attempt  => [ [ 'o', 'bank', '' ], [ 'o', 'bank', 'a', '-1 s' ], [ 'o', undef, 'a' ], [ 'o', 'bank', 'a' ] ],
	end_attempt    => [ [ 'bank', 'a', 'voided' ], [ 'bank', 'a', 'failed' ], [ 'bank', 'a', undef ] ],
	authorize_attempt => [ [ 'bank', 'a', 0, 'EUR', '2098-01-01' ], [ 'bank', 'a', 1, 'EUR', 'infinity' ], [ 'bank', 'a', 1, 'EUR', '2098-01-01' ] ],
	claim_voids    => [ [''], [ 'w', 0 ], [ 'w', 1, '-1 s' ], [undef] ],
	complete_void  => [ [ 'bank', 'a', 'succeeded' ], [ 'bank', 'a', undef ], [ 'bank', 'a', 'voided' ], [ 'bank', '', 'voided' ] ],
	retry_void     => [ [ 'bank', 'a' ], [ '', 'a' ], [ 'bank', undef ] ],
	claim_refunds  => [ [''], [ 'w', 0 ], [ 'w', 1, '-1 s' ] ],
	request_refund => [ [ 'o', '' ], [ 'o', 'k', 0 ] ],
	complete_refund => [ [ 'rf_none', 'done' ], [ 'rf_none', 'succeeded', undef, undef, undef, -1 ] ],
	record_refund  => [ [ 'bank', 'p', 'n', 0 ], [ 'bank', 'p', 'n', 1, 'requested' ] ],
	resolve_held   => [ [ 'bank', 'p', 'perhaps' ], [ 'bank', 'p', 'accept' ] ],
	accept_payment => [ [ 'bank', 'p' ], [ '', 'p' ], [ 'bank', undef ] ],
	accept_short   => [ ['o'], [''] ],
	refund_orphan  => [ [ 'bank', 'p' ] ],
	assign_orphan  => [ [ 'bank', 'p', 'o' ] ],
	retry_refund   => [ ['rf_none'] ],
	settle_refund  => [ [ 'rf_none', 'by cheque' ] ],
	reverse_refund => [ [ 'rf_none', 'it came back' ] ],
	stop_refund    => [ [ 'rf_none', 'wait' ] ],
	withdraw_refund => [ [ 'rf_none', 'not wanted' ] ],
	reverse_chargeback => [ [ 'bank', 'no number' ] ],
	resolve_conflict => [ [1_000_000] ],
	sweep_once     => [ [0] ],
);

sub create {
	my ($order) = (an_order());
	my $amount = chance(0.05) ? 77 : amount_of($order);
	my @deadline = (chance(0.8) ? '1 hour' : undef, undef);
	@deadline = (undef, '2099-01-01') if chance(0.1);
	return [ 'create_order', $order, $amount, chance(0.03) ? 'USD' : 'EUR', @deadline,
		chance(0.05) ? 'nonsense' : policy_of($order), document() ];
}

sub pay {
	my $order = an_order();
	my ($gateway, $payment) = (a_gateway(), chance(0.02) ? 'shared' : a_payment($order));
	my ($amount, $currency) = told($gateway, $payment,
		chance(0.02) ? '9223372036854775807' : an_amount(), chance(0.06) ? 'USD' : 'EUR');
	return [ 'record_payment', $order, $gateway, $payment, $amount, $currency, any(undef, undef, '2019-06-01', '2098-01-01'), document(),
		chance(0.5) ? undef : an_attempt(chance(0.95) ? $order : an_order()) ];
}

sub begin_attempt {
	my $order = chance(0.5) ? a_pending_order() : an_order();
	my @attempt = chance(0.06) ? an_attempt_that_is("'open', 'failed', 'captured'") : (a_gateway(), an_attempt($order));
	return [ 'begin_attempt', $order, @attempt, any(undef, '10 days', '40 days'),
		document(), chance(0.2) ? 'false' : undef ];
}

# What a promise is told with is mostly the same each time, too.
sub authorize {
	my @attempt = an_attempt_that_is("'open', 'open', 'authorized', 'failed', 'captured'");
	my ($amount, $currency) = told("a promise by $attempt[0]", $attempt[1], any(100, 100, 100, 60, 40, 150, '9223372036854775807'),
		chance(0.06) ? 'USD' : 'EUR');
	pop @told if @told && $told[-1][0] =~ /^a promise/;
	return [ 'authorize_attempt', @attempt, $amount, $currency, '2098-0' . (1 + int rand 9) . '-01' ];
}

sub complete {
	my $refund = a_refund();
	my $result = any(qw(succeeded succeeded succeeded failed failed unknown submitted submitted deferred rejected));
	my $number = chance(0.4) ? 'number-' . int($refund + rand 2) : undef;
	my $amount = $result eq 'succeeded' && chance(0.3) ? any(100, 60, 40, 10, 150) : undef;
	return [ 'complete_refund', ref_to($refund), $result, token_to($refund), $number, any(undef, 'a word'), $amount ];
}

sub complete_void {
	my @attempt = chance(0.8) ? an_attempt_with_a_void() : (a_gateway(), an_attempt(an_order()));
	return [ 'complete_void', @attempt, any(qw(voided voided paid paid failed failed failed unknown unknown deferred rejected)),
		void_token_to("@attempt"), any(undef, 'a word') ];
}

sub record {
	return [ 'record_refund', a_told_payment(), 'number-' . any(a_refund(), 'a' . int rand 300), an_amount(),
		any(undef, 'external', 'chargeback') ];
}

sub ask {
	my $order = an_order();
	return [ 'request_refund', $order, 'key-' . int rand 4, any(undef, 10, 30, 40, 100), any(undef, 'too small'),
		chance(0.1) ? a_payment($order) : undef, chance(0.1) ? a_gateway() : undef ];
}

my @calls = (
	[ 14, \&create ],
	[ 26, \&pay ],
	[ 4,  sub { [ 'cancel_order', chance(0.2) ? a_pending_order() : an_order(), any(undef, 'a change of mind') ] } ],
	[ 5,  sub { [ 'expire_order', chance(0.5) ? a_pending_order() : an_order() ] } ],
	[ 5,  sub { [ 'extend_order', chance(0.7) ? a_pending_order() : an_order(), any('2099-06-01', '2099-01-01', '2000-01-01', '2099-0' . (1 + int rand 9) . '-01') ] } ],
	[ 3,  sub { [ 'set_deadline', chance(0.7) ? a_pending_order() : an_order(), any('2099-06-01', '2000-01-01', '2098-0' . (1 + int rand 9) . '-01') ] } ],
	[ 2,  sub {
		my ($cancelled) = chance(0.2) ? one_of("SELECT order_id FROM order_timeout.orders WHERE state = 'cancelled' ORDER BY created_at DESC LIMIT 8") : ();
		[ 'reopen_order', $cancelled // an_order(), any(undef, '1 hour'), any(undef, undef, '2099-06-01') ] } ],
	[ 2,  sub { [ 'change_order', chance(0.7) ? a_pending_order() : an_order(), any(0, 50, 100, 120) ] } ],
	[ 14, \&begin_attempt ],
	[ 8,  \&authorize ],
	[ 7,  sub { [ 'end_attempt', an_attempt_that_is("'open', 'authorized', 'captured'"), any(qw(failed cancelled expired)) ] } ],
	[ 9,  sub { [ 'claim_voids', any(qw(ann bob)), any(1, 2, 5, 100), any(undef, '3 days', '1 microsecond'), any(undef, undef, 'bank', 'card') ] } ],
	[ 18, \&complete_void ],
	[ 3,  sub { [ 'retry_void', chance(0.7) ? an_attempt_that_is("'needs_attention'") : an_attempt_with_a_void() ] } ],
	[ 8,  \&ask ],
	[ 8,  sub { [ 'claim_refunds', any(qw(ann bob)), any(1, 2, 5, 100), any(undef, '3 days', '1 microsecond'), any(undef, undef, 'bank', 'card') ] } ],
	[ 16, \&complete ],
	[ 3,  sub { [ 'retry_refund', ref_to(a_stuck_refund()) ] } ],
	[ 4,  sub { [ 'settle_refund', ref_to(a_stuck_refund()), 'by cheque' ] } ],
	[ 4,  sub { [ 'reverse_refund', ref_to(a_stuck_refund()), 'it came back' ] } ],
	[ 3,  sub { [ 'stop_refund', ref_to(a_refund()), 'wait' ] } ],
	[ 3,  sub { [ 'withdraw_refund', ref_to(a_refund()), 'not wanted' ] } ],
	[ 3,  sub { [ 'reverse_chargeback', any(qw(bank card)), 'number-' . any(a_refund(), 'a' . int rand 300), any(undef, 'won') ] } ],
	[ 6,  \&record ],
	[ 5,  sub { [ 'resolve_held', a_payment_that_is('held'), any(qw(accept refund)) ] } ],
	[ 5,  sub { [ 'accept_payment', a_payment_that_is_owed(), any(undef, 'in stock') ] } ],
	[ 2,  sub { [ 'accept_short', chance(0.7) ? a_pending_order() : an_order(), any(undef, 'a regular') ] } ],
	[ 3,  sub { [ 'refund_orphan', a_payment_that_is('orphan') ] } ],
	[ 6,  sub { [ 'assign_orphan', a_payment_that_is('orphan'), chance(0.7) ? a_pending_order() : an_order() ] } ],
	[ 2,  sub { [ 'resolve_conflict', a_conflict(), any(undef, 'looked at') ] } ],
	[ 3,  sub { [ 'sweep_once', any(undef, 1, 2) ] } ],
	[ 1,  sub { [ 'funds', an_order() ] } ],
	[ 1,  sub { [ 'history', an_order() ] } ],
	[ 4,  sub { my $function = any(sort keys %bad); [ $function, @{ any(@{ $bad{$function} }) } ] } ],
);
my $weight = 0;
$weight += $_->[0] for @calls;

# Now and then one that was made a moment ago, once more.
my @last;

sub a_call {
	return any(@last) if @last && chance(0.08);
	push @last, another_call();
	shift @last if @last > 15;
	return $last[-1];
}

sub another_call {
	my $at = rand $weight;
	for my $kind (@calls) {
		return $kind->[1]->() if ($at -= $kind->[0]) < 0;
	}
	die;
}

# ------------------------------------------------------------ time

# Times that pass are written into the rows, so that no answer depends on how long a call takes. Each is another one.
my $moments = 0;

sub a_past_time { return sprintf '2020-01-%02d %02d:%02d:%02d+00', 1 + $moments / 86400, $moments / 3600 % 24, $moments / 60 % 60, $moments++ % 60 }

my @passes = (
	[ 'UPDATE order_timeout.orders SET expires_at = ? WHERE order_id = ? AND settled_at IS NULL', sub { (a_past_time(), a_pending_order()) } ],
	[ 'UPDATE order_timeout.refunds SET next_attempt_at = $1, leased_until = CASE WHEN leased_until IS NOT NULL THEN $1::timestamptz END
		WHERE refund_ref = $2 AND next_attempt_at IS NOT NULL', sub { (a_past_time(), ref_to(a_refund())) } ],
	[ 'UPDATE order_timeout.attempts SET next_attempt_at = $1, leased_until = CASE WHEN leased_until IS NOT NULL THEN $1::timestamptz END
		WHERE gateway = $2 AND attempt_ref = $3 AND next_attempt_at IS NOT NULL', sub { (a_past_time(), an_attempt_with_a_void()) } ],
	[ 'UPDATE order_timeout.refunds SET submitted_at = ? WHERE refund_ref = ? AND submitted_at IS NOT NULL',
		sub { (a_past_time(), ref_to(a_refund())) } ],
	[ "UPDATE order_timeout.payments SET received_at = ? WHERE (gateway, payment_ref) = ('bank', ?) AND disposition = 'orphan'",
		sub { (a_past_time(), a_payment(an_order())) } ],
	[ "UPDATE order_timeout.set_aside SET retry_at = '2020-01-01'", sub { () } ],
	[ "UPDATE order_timeout.set_aside_refunds SET retry_at = '2020-01-01'", sub { () } ],
	# What keeps it open is over, too.
	[ "UPDATE order_timeout.orders SET expires_at = \$1, open_until = CASE WHEN open_until IS NOT NULL THEN \$1::timestamptz + interval '0.5 s' END
		WHERE order_id = \$2 AND settled_at IS NULL", sub { (a_past_time(), a_pending_order()) } ],
);

sub on_both {
	my ($sql, @arguments) = @_;
	$_->do($sql, @arguments) for @sides;
	return;
}

sub let_time_pass {
	my ($sql, $arguments) = @{ any(@passes[ 0, 0, 7, 7, 1, 1, 1, 2, 2, 3, 4, 5, 6 ]) };
	return on_both($sql, $arguments->());
}

# An orphan beside its order, as two transactions above READ COMMITTED can leave it, and who heals it.
sub an_order_that_heals {
	my ($order) = one_of("SELECT order_id FROM order_timeout.orders WHERE paid < 1000 AND order_id LIKE 'order%' ORDER BY created_at DESC LIMIT 10");
	return $order // 'nobody';
}

sub leave_a_stray {
	on_both("UPDATE order_timeout.payments SET order_id = ? WHERE (gateway, payment_ref) = ('bank', ?)
		AND disposition = 'orphan' AND refunded + refund_pending = 0 AND amount < 1000", an_order_that_heals(), a_payment(an_order()));
	return call_both([ 'sweep_once' ]);
}

# ------------------------------------------------------------ comparing

my $differs;

sub same {
	my ($what, $fast, $sql) = @_;
	s/"xid": "\d+"/"xid": "any"/g for $fast, $sql;
	return 1 if $fast eq $sql;
	$differs = 1;
	return fail("after $calls calls, $what") || diag("fast: $fast\nsql:  $sql");
}

# The first word that the contract has for an answer.
sub reach {
	my ($call, $answer) = @_;
	my $name = $call->[0];
	if ($answer =~ /^([0-9A-Z]{5}): /) {
		$reached{"$name $1"}++;
		$reached{$1}++;
	}
	$reached{"$name $_"}++ for $answer =~ /(?:"outcome"|"action"): "(\w+)"/g, $answer =~ /^\["(\w+)"\]$/;
	$reached{"$name $1"}++ while $answer =~ /"(expired|failed|leases_returned)": [1-9]/g;
	return;
}

sub called {
	my ($call, @answers) = @_;
	$calls++;
	reach($call, $answers[0]);
	# The sweeper waits for seconds here, which a slow machine would see pass.
	on_both("UPDATE order_timeout.set_aside SET retry_at = '2100-01-01' WHERE retry_at > '2021-01-01'") if $call->[0] eq 'sweep_once';
	on_both("UPDATE order_timeout.set_aside_refunds SET retry_at = '2100-01-01' WHERE retry_at > '2021-01-01'")
		if $call->[0] =~ /^(?:claim_refunds|sweep_once)$/;
	return same($sides[0]->sql($call), @answers);
}

sub call_both {
	my ($call, $undo) = @_;
	return called($call, map { $_->call($call, $undo) } @sides);
}

sub call_in_transaction {
	$_->dbh->begin_work for @sides;
	for (1 .. 2 + int rand 6) {
		call_both(a_call(), chance(0.2));
		let_time_pass() if chance(0.2);
	}
	my $end = chance(0.8) ? 'commit' : 'rollback';
	$_->dbh->$end for @sides;
	return;
}

sub call_in_blocks {
	my @some = map { a_call() } 1 .. 1 + int rand 8;
	my @undo = map { chance(0.2) ? 1 : 0 } @some;
	my @answers = map { [ $_->attempt(\@some, \@undo) ] } @sides;
	called($some[$_], $answers[0][$_], $answers[1][$_]) for 0 .. $#some;
	return;
}

# What takes several steps that chance seldom takes in this order. Each is played with an order of its own.
my $number_of_scene = 0;

sub held_and_paid_meanwhile {
	my ($order) = @_;
	my $on_late = sub { on_both("UPDATE order_timeout.policies SET on_late = ? WHERE policy = 'hold until_closed'", @_) };

	call_both([ 'create_order', $order, 100, 'EUR', '1 hour', undef, 'hold until_closed' ]);
	on_both('UPDATE order_timeout.orders SET expires_at = ? WHERE order_id = ?', a_past_time(), $order);
	call_both([ 'expire_order', $order ]);
	call_both([ 'record_payment', $order, 'bank', "$order-1", 60, 'EUR' ]);
	call_both([ 'resolve_held', 'bank', "$order-1", 'accept' ]);
	$on_late->('reopen');
	call_both([ 'record_payment', $order, 'bank', "$order-2", 100, 'EUR' ]);
	call_both([ 'accept_payment', 'bank', "$order-1" ]);
	call_both([ 'resolve_held', 'bank', "$order-1", 'accept' ]) for 1, 2;
	$on_late->('hold');
	return;
}

sub orphans_find_a_place {
	my ($order) = @_;
	call_both([ 'record_payment', $order, 'bank', "$order-$_", 30, 'EUR' ]) for 1, 2;
	call_both([ 'create_order', "$order-other", 100, 'EUR', '1 hour', undef, any('default', 'reopen at_deadline') ]);
	call_both([ 'assign_orphan', 'bank', "$order-1", "$order-other" ]) for 1, 2;
	call_both([ 'refund_orphan', 'bank', "$order-2" ]) for 1, 2;
	call_both([ 'extend_order', "$order-other", $_ ]) for '2099-05-01', '2099-04-01';
	return;
}

sub closing_fails {
	my ($order) = @_;
	call_both([ 'create_order', "cursed-$order", 100, 'EUR', '1 hour' ]);
	call_both([ 'create_order', $order, 100, 'EUR', '1 hour' ]);
	on_both('UPDATE order_timeout.orders SET expires_at = ? WHERE order_id = ?', a_past_time(), $_) for "cursed-$order", $order;
	call_both([ 'expire_order', "cursed-$order" ]);
	call_both([ 'sweep_once' ]);
	return;
}

sub claiming_fails {
	my ($order) = @_;
	my $cursed = "cursed-claim-$order";
	call_both([ 'create_order', $cursed, 100, 'EUR' ]);
	call_both([ 'record_payment', $cursed, 'cursed', "$cursed-1", 150, 'EUR' ]);
	on_both('UPDATE order_timeout.refunds SET next_attempt_at = ? WHERE order_id = ?', a_past_time(), $cursed);
	call_both([ 'claim_refunds', 'worker', 3, '1 hour', undef ]);
	call_both([ 'complete_refund', sub { $_[0]->{dbh}->selectrow_array(
		'SELECT refund_ref FROM order_timeout.refunds WHERE order_id = ?', undef, $cursed) }, 'succeeded' ]);
	return;
}

sub too_much {
	my ($order) = @_;
	call_both([ 'record_payment', $order, 'bank', "$order-$_", '9223372036854775807', 'EUR' ]) for 1, 2;
	call_both([ 'create_order', $order, 100, 'EUR' ]);
	call_both([ 'refund_orphan', 'bank', "$order-1" ]);
	call_both([ 'create_order', $order, 100, 'EUR' ]);
	call_both([ 'record_payment', $order, 'bank', "$order-3", '9223372036854775807', 'EUR' ]);
	return;
}

sub refunds_are_told_again {
	my ($order) = @_;
	call_both([ 'create_order', $order, 100, 'EUR', '1 hour', undef, 'default' ]);
	call_both([ 'record_payment', $order, 'bank', "$order-1", 100, 'EUR' ]);
	call_both([ 'request_refund', $order, 'key', $_ ]) for 40, 40, 30;
	call_both([ 'request_refund', $order, 'other key', 10, undef, 'of another order' ]);
	my $refund = $sides[0]->refunds - 1;
	call_both([ 'complete_refund', ref_to($refund), 'succeeded', undef, "number of $order" ]);
	call_both([ 'reverse_refund', ref_to($refund), 'it came back' ]) for 1, 2;
	call_both([ 'record_refund', 'bank', "$order-1", "other number of $order", 10 ]) for 1, 2;
	return;
}

sub the_gateway_never_ends {
	my ($order) = @_;
	call_both([ 'create_order', $order, 100, 'EUR', '1 hour', undef, 'default' ]);
	call_both([ 'cancel_order', $order ]);
	call_both([ 'record_payment', $order, 'bank', "$order-1", 100, 'EUR' ]);
	my $refund = $sides[0]->refunds - 1;
	for my $result ('deferred', 'unknown', 'submitted') {
		on_both('UPDATE order_timeout.refunds SET next_attempt_at = ? WHERE refund_ref = ?', a_past_time(), ref_to($refund));
		call_both([ 'claim_refunds', 'ann', 100 ]);
		call_both([ 'complete_refund', ref_to($refund), $result, sub { $_[0]->token_of($refund) } ]);
	}
	on_both('UPDATE order_timeout.refunds SET submitted_at = ? WHERE refund_ref = ?', a_past_time(), ref_to($refund));
	call_both([ 'sweep_once' ]);
	call_both([ 'settle_refund', ref_to($refund), 'by cheque' ]) for 1, 2;
	return;
}

sub some_are_due_soon {
	my ($order) = @_;
	call_both([ 'create_order', "$order-$_", 100, 'EUR', undef, "2098-01-0$_", 'remind' ]) for 1 .. 4;
	call_both([ 'record_payment', "$order-$_", 'bank', "$order-$_", 50 * $_, 'EUR' ]) for 1, 2;
	call_both([ 'sweep_once', 2 ]) for 1, 2;
	call_both([ 'extend_order', "$order-3", '2098-02-01' ]);
	call_both([ 'sweep_once' ]) for 1, 2;
	return;
}

sub misuse {
	for my $function (sort keys %bad) {
		call_both([ $function, @$_ ]) for @{ $bad{$function} };
	}
	return;
}

sub forgotten {
	my ($order) = @_;
	call_both([ 'create_order', $order, 100, 'EUR', '1 hour', undef, 'default', '{"name": "somebody"}' ]);
	call_both([ 'forget_order', $_ ]) for $order, 'no such order';
	call_both([ 'cancel_order', $order, 'the buyer, Jane Doe, called' ]);
	call_both([ 'forget_order', $order ]) for 1, 2;
	return;
}

sub late_money_is_taken {
	my ($order) = @_;
	call_both([ 'create_order', $order, 100, 'EUR', '1 hour', undef, any('default', 'hold until_closed') ]);
	call_both([ 'record_payment', $order, 'bank', "$order-1", 60, 'EUR' ]);
	call_both([ 'cancel_order', $order ]);
	call_both([ 'accept_payment', 'bank', "$order-1" ]);
	call_both([ 'record_payment', $order, 'bank', "$order-2", 70, 'EUR' ]);
	call_both([ 'claim_refunds', 'ann', 1 ]) if chance(0.3);
	call_both([ 'accept_payment', 'bank', "$order-2", 'in stock' ]) for 1, 2;
	call_both([ 'record_payment', $order, 'bank', "$order-3", 5, 'EUR' ]);
	call_both([ 'accept_payment', 'bank', "$order-3" ]);
	return;
}

sub late_money_comes_too_late {
	my ($order) = @_;
	call_both([ 'create_order', $order, 100, 'EUR', '1 hour', undef, 'default' ]);
	call_both([ 'cancel_order', $order ]);
	call_both([ 'record_payment', $order, 'bank', "$order-1", 100, 'EUR' ]);
	call_both([ 'complete_refund', ref_to($sides[0]->refunds - 1), 'succeeded' ]);
	call_both([ 'accept_payment', 'bank', "$order-1" ]);
	return;
}

sub a_refund_is_not_wanted_any_more {
	my ($order) = @_;
	call_both([ 'create_order', $order, 100, 'EUR', '1 hour', undef, 'default' ]);
	call_both([ 'record_payment', $order, 'bank', "$order-1", 100, 'EUR' ]);
	call_both([ 'request_refund', $order, 'key', 30 ]);
	call_both([ 'withdraw_refund', ref_to($sides[0]->refunds - 1), 'it fits after all' ]) for 1, 2;
	return;
}

sub less_is_enough {
	my ($order) = @_;
	call_both([ 'create_order', $order, 100, 'EUR', '1 hour', undef, 'reopen until_closed' ]);
	call_both([ 'accept_short', $order ]);
	call_both([ 'record_payment', $order, 'bank', "$order-1", any(60, 90), 'EUR' ]);
	call_both([ 'accept_short', $order ]) for 1, 2;
	return;
}

# Its gateways are asked first: what they say, and that an order is left waiting for what comes later.
sub asked_before_closing {
	my ($order) = @_;
	my @tries = ("$order-try-1", "$order-try-2")[ 0 .. int rand 2 ];
	call_both([ 'create_order', $order, 100, 'EUR', '1 hour', undef, any('refund ask', 'hold ask', 'reopen ask') ]);
	call_both([ 'begin_attempt', $order, 'bank', $_, '10 days' ]) for @tries;
	call_both([ 'authorize_attempt', 'bank', $tries[0], any(100, 60), 'EUR', '2098-01-01' ]) if chance(0.5);
	call_both([ 'change_order', $order, 120 ]);
	call_both([ 'create_order', "$order-other", 100, 'EUR', '1 hour', undef, 'default' ]);
	call_both([ 'record_payment', "$order-other", 'bank', "$order-other-1", 40, 'EUR', undef, undef, $tries[0] ]);
	on_both('UPDATE order_timeout.orders SET expires_at = $1, open_until = NULL WHERE order_id = $2', a_past_time(), $order);
	call_both([ 'expire_order', $order ]);
	call_both([ 'claim_voids', 'ann', 100 ]) if chance(0.7);
	for my $try (@tries) {
		my $result = any(qw(voided voided paid rejected failed));
		call_both([ 'complete_void', 'bank', $try, $result, sub { $_[0]->void_token_of("bank $try", -1) } ]);
		call_both([ 'record_payment', $order, 'bank', "$order-$try", any(100, 40), 'EUR', undef, undef, $try ]) if chance(0.3);
		call_both([ 'complete_void', 'bank', $try, 'voided' ]) if chance(0.3);
	}
	return;
}

my @scenes = (\&asked_before_closing, \&forgotten, \&late_money_is_taken, \&late_money_comes_too_late, \&less_is_enough, \&a_refund_is_not_wanted_any_more, \&asked_before_closing, \&held_and_paid_meanwhile, \&orphans_find_a_place, \&closing_fails, \&claiming_fails, \&too_much, \&refunds_are_told_again,
	\&asked_before_closing, \&the_gateway_never_ends, \&some_are_due_soon, \&misuse);

sub play_a_scene { return $scenes[ $number_of_scene % @scenes ]->('scene-' . $number_of_scene++) }

# What may never be.
my %never = (
	'an attempt of a settled order that nobody ends' => "SELECT o.state AS order_state, a.* FROM order_timeout.attempts a JOIN order_timeout.orders o USING (order_id)
		WHERE o.settled_at IS NOT NULL AND a.settled_at IS NULL AND a.next_attempt_at IS NULL AND a.attention_at IS NULL",
	'an authorized order that nothing authorises' => "SELECT * FROM order_timeout.orders o WHERE o.state = 'authorized' AND NOT EXISTS
		(SELECT FROM order_timeout.attempts a WHERE a.order_id = o.order_id AND a.covers AND a.settled_at IS NULL AND a.next_attempt_at IS NULL)",
	'an authorized order whose promise ends, or ended' => "SELECT * FROM order_timeout.orders o WHERE o.state = 'authorized' AND NOT EXISTS
		(SELECT FROM order_timeout.attempts a WHERE a.order_id = o.order_id AND a.covers AND a.settled_at IS NULL AND a.next_attempt_at IS NULL
			AND (a.state = 'authorized' OR (a.state = 'captured' AND a.captured < a.authorized)))",
	# What was captured last may have been too little; then it waits for void_within.
	'a closing order that waits for nothing' => "SELECT * FROM order_timeout.orders o WHERE o.state = 'closing' AND NOT EXISTS
		(SELECT FROM order_timeout.attempts a WHERE a.order_id = o.order_id
			AND (a.settled_at IS NULL AND (a.can_void OR a.attention_at IS NOT NULL) OR (a.state = 'captured' AND a.settled_at >=
				(SELECT max(e.created_at) FROM order_timeout.events e WHERE e.aggregateid = o.order_id AND e.type = 'order.closing'))))
		AND NOT EXISTS (SELECT FROM order_timeout.set_aside s WHERE s.order_id = o.order_id)",
	'an attempt that attention does not show' => "SELECT * FROM order_timeout.attempts a
		WHERE (a.state = 'needs_attention' OR (a.state = 'captured' AND a.captured = 0 AND a.settled_at IS NULL AND a.next_attempt_at IS NULL))
		AND NOT EXISTS (SELECT FROM order_timeout.attention v WHERE v.kind = 'void' AND (v.gateway, v.attempt_ref) = (a.gateway, a.attempt_ref))",
	'a payment whose attempt is open' => "SELECT p.*, a.state FROM order_timeout.attempts a JOIN order_timeout.payments p USING (gateway, attempt_ref, order_id)
		WHERE a.state IN ('open', 'authorized') AND p.disposition <> 'orphan' AND p.received_at > a.created_at",
	'a lease without a due time' => "SELECT * FROM order_timeout.attempts a WHERE (a.lease_token IS NULL) <> (a.leased_until IS NULL)
		OR a.leased_until <> a.next_attempt_at OR (a.lease_token IS NOT NULL AND a.next_attempt_at IS NULL)",
	'a void of what brings nothing more' => "SELECT * FROM order_timeout.attempts a WHERE a.next_attempt_at IS NOT NULL
		AND a.state <> 'open' AND a.state <> 'authorized' AND NOT (a.state = 'captured' AND a.covers AND a.captured < a.authorized)",
	'a pending order that nothing keeps open' => "SELECT * FROM order_timeout.orders o WHERE o.state = 'pending' AND o.open_until IS NOT NULL AND NOT EXISTS
		(SELECT FROM order_timeout.attempts a WHERE a.order_id = o.order_id AND (a.state IN ('open', 'authorized') OR (a.state = 'captured' AND a.attention_at IS NOT NULL))
			AND a.holds_until IS NOT NULL AND NOT a.covers AND a.next_attempt_at IS NULL)",
	'a settled attempt whose void is due' => "SELECT * FROM order_timeout.attempts a WHERE a.settled_at IS NOT NULL AND a.next_attempt_at IS NOT NULL",
	'a due_since that is over' => "SELECT * FROM order_timeout.orders o WHERE (o.state = 'closing') <> (o.due_since IS NOT NULL)",
);

sub compare_rows {
	for my $table (qw(orders attempts payments refunds events conflicts set_aside set_aside_refunds)) {
		my ($fast, $sql) = map { $_->rows($table) } @sides;
		same("rows of $table", scalar @$fast, scalar @$sql);
		$reached{"event $_"}++ for map { /"type": "([^"]+)"/ } $table eq 'events' ? @$fast : ();
		same($table, $fast->[$_] // 'no row', $sql->[$_] // 'no row') || return for 0 .. ($#$fast > $#$sql ? $#$fast : $#$sql);
	}
	for my $side (@sides) {
		my $found = rows($side->dbh, 'funds_violations');
		next if !@$found;
		$differs = 1;
		fail("after $calls calls, money that is not accounted for") || diag(explain($found));
	}
	for my $what (sort keys %never) {
		my $found = $sides[0]->dbh->selectall_arrayref($never{$what}, { Slice => {} });
		next if !@$found;
		$differs = 1;
		fail("after $calls calls, $what") || diag(explain($found));
	}
	return;
}

# ------------------------------------------------------------ all that can happen

my %outcomes = (
	create_order    => [qw(created exists OT002 OT008 22023 22004)],
	record_payment  => [qw(duplicate orphan wrong_currency paid partial surplus late reopened held OT003 22023 22004)],
	cancel_order    => [qw(cancelled already_closed already_paid OT001)],
	begin_attempt   => [qw(begun exists already_paid already_closed OT001 OT003 22023 22004)],
	end_attempt     => [qw(ended already_ended OT010 22023 22004)],
	authorize_attempt => [qw(duplicate wrong_currency surplus late authorized partial OT003 OT010 22023)],
	expire_order    => [qw(expired closing not_due already_paid already_closed not_found 23514)],
	extend_order    => [qw(extended unchanged already_paid already_closed OT001 22023 22004)],
	set_deadline    => [qw(set already_paid already_closed OT001 22023 22004)],
	reopen_order    => [qw(reopened not_closed already_paid OT001 OT005 22023)],
	change_order    => [qw(changed unchanged paid already_paid already_closed OT001 OT005 22023)],
	claim_voids     => [qw(submit query 22023 22004)],
	complete_void   => [qw(recorded duplicate stale ignored OT010 22023 22004)],
	retry_void      => [qw(retried already_due OT005 OT010 22023 22004)],
	request_refund  => [qw(accepted duplicate OT001 OT004 OT005 OT007 OT009 22023)],
	claim_refunds   => [qw(submit query 22023)],
	complete_refund => [qw(recorded duplicate conflict stale ignored OT006 22023)],
	retry_refund    => [qw(retried already_due OT005 OT006)],
	settle_refund   => [qw(settled already_settled OT005 OT006)],
	reverse_refund  => [qw(reversed already_reversed OT005 OT006)],
	stop_refund     => [qw(stopped already_stopped OT005 OT006)],
	withdraw_refund => [qw(withdrawn already_withdrawn OT005 OT006)],
	reverse_chargeback => [qw(reversed OT006)],
	record_refund   => [qw(recorded duplicate conflict OT009 22023)],
	resolve_held    => [qw(refunded accepted short surplus already_resolved OT005 OT009 22023)],
	accept_payment  => [qw(accepted short surplus too_late already_accepted OT005 OT009 22023 22004)],
	accept_short    => [qw(accepted already_paid already_closed OT001 OT005 22023)],
	refund_orphan   => [qw(refunded already_refunded OT005 OT009)],
	assign_orphan   => [qw(duplicate paid partial surplus late OT001 OT005 OT009)],
	resolve_conflict => [qw(resolved already_resolved OT006)],
	forget_order    => [qw(forgotten OT001 OT005)],
	sweep_once      => [qw(expired failed leases_returned 22023)],
);
my @all = map { my $name = $_; map { "$name $_" } @{ $outcomes{$name} } } sort keys %outcomes;

my $reference = do { local (@ARGV, $/) = "$FindBin::Bin/../../doc/reference.md"; <> };
# What follows a change of state is written by SQL statements alone, whatever the store: follow_ups are not compared here.
push @all, grep { !/ order\.follow/ } map { "event $_" } $reference =~ /^\| `((?:order|payment|refund|conflict|attempt|void)\.\w+)` \|/mg;

sub missing { return grep { !$reached{$_} } @all }

# ------------------------------------------------------------ the run

my $compared = 0;
while (!$differs && ($calls < $least || ($calls < $most && missing()))) {
	my $way = rand;
	if    ($way < 0.08) { call_in_transaction() }
	elsif ($way < 0.16) { call_in_blocks() }
	elsif ($way < 0.17) { leave_a_stray() }
	elsif ($way < 0.19) { play_a_scene() }
	else                { call_both(a_call()) }
	let_time_pass() if chance(0.4);
	$recent = int($calls / 40);
	next if $calls < $compared + 150;
	compare_rows();
	$compared = $calls;
}
compare_rows() if !$differs;
diag("$calls calls");
ok(!$differs, 'both stores gave the same answers and left the same rows');
$differs or is_deeply([ missing() ], [], 'every outcome and every type of event came up');
diag("$_: $reached{$_}") for $ENV{OT_COUNTS} ? sort keys %reached : ();

for my $side (@sides) {
	balanced($side->dbh, "$side->{store}: all money is accounted for");
	sums_agree($side->dbh, "$side->{store}: in plain SQL too");
	stories_agree($side->dbh, "$side->{store}: each order's story ends in its sums");
	heaps_sound($side->dbh, "$side->{store}: the heaps are sound");
	indexes_sound($side->dbh, "$side->{store}: every row is in every index");
}

done_testing;
