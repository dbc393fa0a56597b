package OTTest;

# What several tests need besides a server: short calls, forked sessions, the
# proof that all money is accounted for.

use strict;
use warnings;

use Exporter qw(import);
use POSIX ();
use Storable ();
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(call rows error_of ended_with eventually wait_until_clock
	create_orders closing_event balanced sums_agree stories_agree indexes_sound heaps_sound fork_all answers);

# call($dbh, 'expire_order', 'o1'): the one row that the function answers.
# undef is NULL, which means the default.
sub call {
	my ($dbh, $function, @arguments) = @_;
	return rows($dbh, $function, @arguments)->[0];
}

sub rows {
	my ($dbh, $function, @arguments) = @_;
	my $marks = join ', ', ('?') x @arguments;
	return $dbh->selectall_arrayref(
		"SELECT * FROM order_timeout.$function($marks)",
		{ Slice => {} }, @arguments);
}

# The SQLSTATE that the code ends with, '' when it succeeds.
sub error_of {
	my ($dbh, $code) = @_;
	return eval { $code->(); 1 } ? '' : $dbh->state || die $@;
}

# The same for a statement that was sent with pg_async; waits for its end. DBD::Pg 3.21 raises no error when it was
# cancelled, but has the state.
sub ended_with {
	my ($dbh) = @_;
	eval { $dbh->pg_result; 1 } or $dbh->state or die $@;
	return $dbh->state;
}

sub eventually {
	my ($code, $seconds) = @_;
	my $end = time + ($seconds // 60);

	until ($code->()) {
		return 0 if time > $end;
		sleep 0.02;
	}
	return 1;
}

sub wait_until_clock {
	my ($epoch) = @_;
	while ((my $left = $epoch - time) > 0) {
		sleep($left);
	}
	return;
}

# create_orders($dbh, 'a', 1, 5000, $deadline): a1 to a5000, 100 EUR each.
# $deadline is an SQL expression in which i is the number. Every call holds a
# lock until the end of its transaction, so these come in pieces.
sub create_orders {
	my ($dbh, $prefix, $from, $to, $deadline) = @_;
	for (my $i = $from; $i <= $to; $i += 500) {
		$dbh->do(
			"SELECT order_timeout.create_order(? || i, 100, 'EUR', expires_at => $deadline)
			   FROM generate_series(?::int, ?::int) AS i",
			undef, $prefix, $i, $i + 499 < $to ? $i + 499 : $to);
	}
	return;
}

# The event type of a closing, learned from one.
sub closing_event {
	my ($dbh) = @_;
	call($dbh, 'create_order', 'closing-event', 100, 'EUR', '20 milliseconds');
	eventually(sub { call($dbh, 'expire_order', 'closing-event')->{outcome} eq 'expired' })
		or die "the order did not expire\n";
	my ($type) = $dbh->selectrow_array(
		"SELECT type FROM order_timeout.history('closing-event') ORDER BY id DESC LIMIT 1");
	return $type;
}

# The extension's own proof.
sub balanced {
	my ($dbh, $name) = @_;
	my $found = rows($dbh, 'funds_violations');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(scalar @$found, 0, $name) || diag(explain($found));
}

# The story of each order ends in its sums, nothing is ever below zero, and what an event of the order says about its money
# is what the story says there, unless the same call went on with the order or a payment.
sub stories_agree {
	my ($dbh, $name) = @_;
	my $found = $dbh->selectall_arrayref(<<'END', { Slice => {} });
SELECT o.order_id, o.paid, o.refunded, o.refund_pending, o.held, t.*
  FROM order_timeout.orders o
 CROSS JOIN LATERAL (SELECT t.*, row_number() OVER () AS step_no, count(*) OVER () AS steps FROM order_timeout.timeline(o.order_id) t) t
  LEFT JOIN order_timeout.events e ON e.id = t.event_id AND e.type LIKE 'order.%' AND e.payload -> 'paid' IS NOT NULL AND NOT EXISTS
       (SELECT FROM order_timeout.events l WHERE l.aggregateid = o.order_id AND (l.xid, l.created_at) = (e.xid, e.created_at) AND l.id > e.id
                                           AND (l.payload -> 'paid' IS NOT NULL OR l.type LIKE 'payment.%'))
 WHERE (t.step_no = t.steps AND (t.paid, t.refunded, t.refund_pending, t.held) IS DISTINCT FROM (o.paid, o.refunded, o.refund_pending, o.held))
    OR (least(t.refunded, t.refund_pending, t.held, t.kept) >= 0) IS NOT TRUE
    OR t.paid <> t.refunded + t.refund_pending + t.held + t.kept
    OR (t.paid, t.refund_pending) IS DISTINCT FROM
       (coalesce((e.payload ->> 'paid')::bigint, t.paid), coalesce((e.payload ->> 'refund_pending')::bigint, t.refund_pending))
    OR coalesce(t.step, '') = ''
END
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(scalar @$found, 0, $name) || diag(explain($found));
}

# The same proof again, in plain SQL and from the contract alone: what
# funds_violations() has in common with the code that it judges may be wrong.
sub sums_agree {
	my ($dbh, $name) = @_;
	my $found = $dbh->selectall_arrayref(<<'END', { Slice => {} });
WITH by_payment AS (
    SELECT p.*, coalesce(r.done, 0) AS done, coalesce(r.owed, 0) AS owed
      FROM order_timeout.payments p
      LEFT JOIN (SELECT gateway, payment_ref,
                        sum(amount) FILTER (WHERE state = 'succeeded') AS done,
                        sum(amount) FILTER (WHERE state NOT IN ('succeeded', 'reversed')) AS owed
                   FROM order_timeout.refunds GROUP BY gateway, payment_ref) r USING (gateway, payment_ref)
), by_order AS (
    SELECT o.*, coalesce(p.got, 0) AS got, coalesce(p.done, 0) AS done, coalesce(p.owed, 0) AS owed,
           coalesce(p.waiting, 0) AS waiting
      FROM order_timeout.orders o
      LEFT JOIN (SELECT order_id, currency, sum(amount) AS got, sum(refunded) AS done,
                        sum(refund_pending) AS owed, sum(held) AS waiting
                   FROM order_timeout.payments WHERE disposition NOT IN ('orphan', 'uncounted')
                  GROUP BY order_id, currency) p USING (order_id, currency)
)
SELECT 'payment' AS what, payment_ref AS id FROM by_payment
 WHERE (refunded, refund_pending) IS DISTINCT FROM (done, owed)
    OR refunded + refund_pending + held > amount
UNION ALL
SELECT 'order', order_id FROM by_order
 WHERE (paid, refunded, refund_pending, held) IS DISTINCT FROM (got, done, owed, waiting)
    OR CASE WHEN state IN ('pending', 'authorized', 'closing')
                 THEN paid - refunded - refund_pending - held NOT BETWEEN 0 AND amount - 1
            WHEN state = 'paid' THEN paid - refunded - refund_pending - held NOT BETWEEN 0 AND amount
            ELSE paid <> refunded + refund_pending + held END
UNION ALL
SELECT 'refund of nothing', refund_ref FROM order_timeout.refunds r
 WHERE NOT EXISTS (SELECT FROM order_timeout.payments p
                    WHERE (p.gateway, p.payment_ref) = (r.gateway, r.payment_ref))
END
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(scalar @$found, 0, $name) || diag(explain($found));
}

# Every row of our tables is in every index, and in its place there. Needs extension amcheck.
sub indexes_sound {
	my ($dbh, $name) = @_;
	my $error = eval { $dbh->do(<<'END'); '' } // $dbh->errstr;
SELECT bt_index_parent_check(c.oid, true, true)
  FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam
 WHERE c.relnamespace = 'order_timeout'::regnamespace AND a.amname = 'btree' AND i.indisvalid
END
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($error, '', $name);
}

sub heaps_sound {
	my ($dbh, $name) = @_;
	my $found = $dbh->selectcol_arrayref(<<'END');
SELECT format('%s: %s', c.relname, v.msg) FROM pg_class c, LATERAL verify_heapam(c.oid) v
 WHERE c.relnamespace = 'order_timeout'::regnamespace AND c.relkind = 'r'
END
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply($found, [], $name);
}

# Runs the code in so many processes at once, each with its number. The code
# opens its own connections; what it returns (a reference) comes back through
# answers().
sub fork_all {
	my ($count, $code) = @_;
	my @children;

	for my $number (1 .. $count) {
		pipe(my $reader, my $writer) or die "pipe: $!\n";
		my $pid = fork() // die "fork: $!\n";
		if ($pid == 0) {
			close $reader;
			# The servers are the parent's to stop.
			local @SIG{qw(INT TERM)} = ('DEFAULT') x 2;
			my $answer = eval { { answer => $code->($number) } } // { error => "$@" };
			print {$writer} Storable::freeze($answer);
			close $writer;
			# Nothing of the parent's is to be cleaned up here.
			POSIX::_exit(0);
		}
		close $writer;
		push @children, { pid => $pid, reader => $reader };
	}
	return \@children;
}

sub answers {
	my ($children) = @_;
	my @answers;

	for my $child (@$children) {
		my $frozen = do { local $/ = undef; readline $child->{reader} };
		waitpid $child->{pid}, 0;
		my $answer = length $frozen ? Storable::thaw($frozen) : { error => 'it ended without a word' };
		die "a forked session failed: $answer->{error}\n" if exists $answer->{error};
		push @answers, $answer->{answer};
	}
	return @answers;
}

1;
