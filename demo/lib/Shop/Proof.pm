package Shop::Proof;

# Is every unit accounted for? Asked three times, each time of someone else: of funds_violations(), of plain SQL that
# adds up the raw rows, and of the gateway's ledger (with the bank's book), which never saw the database. The ledger
# also says which sessions were ended: none of them may have been paid.

use v5.36;
use List::Util qw(uniq);

# One line for each thing that does not add up, found without any function of the extension.
my $RAW_ROWS = <<'SQL';
WITH returned AS (
    SELECT gateway, payment_ref,
           coalesce(sum(amount) FILTER (WHERE state = 'succeeded'), 0) AS refunded,
           coalesce(sum(amount) FILTER (WHERE state NOT IN ('succeeded', 'reversed')), 0) AS owed,
           bool_or(reason IN ('requested', 'external', 'chargeback')) AS asked
      FROM order_timeout.refunds GROUP BY gateway, payment_ref
), payment AS (
    SELECT p.*, coalesce(r.refunded, 0) AS raw_refunded, coalesce(r.owed, 0) AS raw_owed,
           coalesce(r.asked, false) AS asked, p.disposition NOT IN ('wrong_currency', 'orphan', 'uncounted') AS counts
      FROM order_timeout.payments p LEFT JOIN returned r USING (gateway, payment_ref)
), sums AS (
    SELECT o.*, o.paid - o.refunded - o.refund_pending - o.held AS kept,
           coalesce(sum(p.amount) FILTER (WHERE p.counts), 0) AS raw_paid,
           coalesce(sum(p.raw_refunded) FILTER (WHERE p.counts), 0) AS raw_refunded,
           coalesce(sum(p.raw_owed) FILTER (WHERE p.counts), 0) AS raw_owed,
           coalesce(sum(p.held) FILTER (WHERE p.counts), 0) AS raw_held,
           coalesce(bool_or(p.asked), false) AS asked
      FROM order_timeout.orders o LEFT JOIN payment p USING (order_id) GROUP BY o.order_id
)
SELECT format('payment %s: its row says refunded %s, owed %s; its refunds say %s, %s',
              payment_ref, refunded, refund_pending, raw_refunded, raw_owed)
  FROM payment WHERE (refunded, refund_pending) <> (raw_refunded, raw_owed)
UNION ALL
SELECT format('payment %s (%s): %s came, %s went back, is owed or held', payment_ref, disposition, amount,
              raw_refunded + raw_owed + held)
  FROM payment
 WHERE amount < raw_refunded + raw_owed + held OR (NOT counts AND amount <> raw_refunded + raw_owed + held)
UNION ALL
SELECT format('order %s: its row says paid %s, refunded %s, owed %s, held %s; its payments say %s, %s, %s, %s',
              order_id, paid, refunded, refund_pending, held, raw_paid, raw_refunded, raw_owed, raw_held)
  FROM sums WHERE (paid, refunded, refund_pending, held) <> (raw_paid, raw_refunded, raw_owed, raw_held)
UNION ALL
SELECT format('order %s is %s and keeps %s of %s', order_id, state, kept, amount)
  FROM sums
 WHERE CASE state WHEN 'paid' THEN kept > amount OR (kept < amount AND NOT asked) ELSE kept <> 0 END
UNION ALL
SELECT format('payment %s: names order %s, which does not exist', payment_ref, order_id)
  FROM payment p
 WHERE disposition <> 'orphan' AND NOT EXISTS (SELECT FROM order_timeout.orders o WHERE o.order_id = p.order_id)
UNION ALL
SELECT format('refund %s: names payment %s, which does not exist', r.refund_ref, r.payment_ref)
  FROM order_timeout.refunds r LEFT JOIN payment p USING (gateway, payment_ref)
 WHERE p.order_id IS NULL
SQL

# In one snapshot. Returns [[question, problems...], ...] and the sums by currency.
sub ask ($dbh, @books) {
    my $ledger = read_books(@books);
    $dbh->begin_work;
    $dbh->do('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
    my $violations = $dbh->selectcol_arrayref(q{
        SELECT concat_ws(' ', kind, order_id, payment_ref, refund_ref, problem) FROM order_timeout.funds_violations()});
    my $raw = $dbh->selectcol_arrayref($RAW_ROWS);
    my @gateway = compare_ledger($dbh, $ledger);
    my @sessions = compare_sessions($dbh, @books);
    my ($sums, @totals) = add_up($dbh, $ledger);
    $dbh->commit;
    return ([ [ 'funds_violations()', @$violations ], [ 'plain SQL over the raw rows', @$raw ],
        [ "the gateway's own ledger", @gateway ], [ "the gateway's sessions", @sessions ],
        [ 'the sums', @totals ] ], $sums);
}

# Payment by payment: what was charged, and what went back less what the bank returned.
sub read_books (@books) {
    my %payment;
    for my $book (@books) {
        open my $lines, '<', $book or die "cannot read $book: $!\n";
        while (<$lines>) {
            chomp;
            my ($what, undef, $ref, $currency, $amount) = split /\t/;
            next if $what eq 'void';
            my $of = $payment{$ref} //= { currency => $currency, charged => 0, returned => 0 };
            if ($what eq 'charge') { $of->{charged} += $amount }
            else { $of->{returned} += $what eq 'bounce' ? -$amount : $amount }
        }
    }
    return \%payment;
}

sub compare_ledger ($dbh, $ledger) {
    my $rows = $dbh->selectall_hashref(q{
        SELECT p.payment_ref, p.amount AS charged, p.currency,
               (SELECT coalesce(sum(r.amount), 0) FROM order_timeout.refunds r
                 WHERE (r.gateway, r.payment_ref) = (p.gateway, p.payment_ref) AND r.state = 'succeeded') AS returned
          FROM order_timeout.payments p}, 'payment_ref');
    my @problems;
    for my $ref (uniq sort keys %$rows, keys %$ledger) {
        my ($ours, $theirs) = map { in_words($_->{$ref}) } $rows, $ledger;
        push @problems, "payment $ref: the gateway says $theirs; the database says $ours" if $ours ne $theirs;
    }
    return @problems;
}

sub in_words ($payment) {
    return $payment ? "$payment->{charged} charged, $payment->{returned} returned, $payment->{currency}" : 'nothing';
}

# What became of each attempt to pay: paid, ended or nothing. A session that was ended and took money all the same is
# both at the gateway, so it is a difference.
sub compare_sessions ($dbh, $book, @) {
    my %theirs;
    open my $lines, '<', $book or die "cannot read $book: $!\n";
    while (<$lines>) {
        chomp;
        my ($what, $session) = split /\t/;
        push @{ $theirs{$session} }, $what eq 'void' ? 'ended' : 'paid' if $what =~ /^(?:charge|void)$/ and $session;
    }
    my %ours = map { @$_ } @{ $dbh->selectall_arrayref(q{
        SELECT attempt_ref, CASE WHEN captured > 0 THEN 'paid' WHEN state = 'voided' THEN 'ended' ELSE 'nothing' END
          FROM order_timeout.attempts}) };
    my @problems;
    for my $session (uniq sort keys %ours, keys %theirs) {
        my ($theirs, $ours) = (join(', ', @{ $theirs{$session} // ['nothing'] }), $ours{$session} // 'nothing');
        push @problems, "$session: the gateway says $theirs; the database says $ours" if $ours ne $theirs;
    }
    return @problems;
}

# Each figure from another source: charged and returned from the ledger, kept from the orders, owed from the refunds,
# held from the payments. That they add up is no matter of definition.
sub add_up ($dbh, $ledger) {
    my %sum;
    for my $payment (values %$ledger) {
        $sum{ $payment->{currency} }{$_} += $payment->{$_} for qw(charged returned);
    }
    my $rows = $dbh->selectall_arrayref(q{
        SELECT currency, 'kept', sum(paid - refunded - refund_pending - held) FROM order_timeout.orders GROUP BY 1
        UNION ALL
        SELECT currency, 'owed', sum(amount) FROM order_timeout.refunds
         WHERE state NOT IN ('succeeded', 'reversed') GROUP BY 1
        UNION ALL
        SELECT currency, 'held', sum(held) FROM order_timeout.payments GROUP BY 1});
    $sum{ $_->[0] }{ $_->[1] } = $_->[2] for @$rows;
    my @problems;
    for my $currency (sort keys %sum) {
        my $of = $sum{$currency};
        $of->{$_} //= 0 for qw(charged returned kept owed held);
        my $missing = $of->{charged} - $of->{kept} - $of->{returned} - $of->{owed} - $of->{held};
        push @problems, "$currency: $missing of $of->{charged} not accounted for" if $missing;
    }
    return (\%sum, @problems);
}

1;
