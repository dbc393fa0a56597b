package Replay::Result;

# What the tables of the engine say after a replay, in the time of the file.

use v5.36;

sub new ($class, $dbh, $clock) { return bless { dbh => $dbh, clock => $clock }, $class }

sub rows ($self, $sql, @values) { return @{ $self->{dbh}->selectall_arrayref($sql, { Slice => {} }, @values) } }

# By currency, the most orders first: orders by what became of them (each in one of these), payments, money.
sub by_currency ($self) {
    return $self->rows(<<'SQL', $self->{clock}->speed);
WITH late AS (
    SELECT order_id, bool_or(disposition = 'held') AS held, bool_or(disposition = 'applied') AS reopened
      FROM order_timeout.payments WHERE late_reason IS NOT NULL GROUP BY order_id
), orders AS (
    SELECT o.currency, count(*) AS orders,
           count(*) FILTER (WHERE state = 'paid' AND NOT coalesce(reopened, false)) AS in_time,
           count(*) FILTER (WHERE state = 'paid' AND reopened) AS reopened,
           count(*) FILTER (WHERE state = 'expired' AND late.order_id IS NOT NULL AND NOT late.held) AS late,
           count(*) FILTER (WHERE state = 'expired' AND late.held) AS late_held,
           count(*) FILTER (WHERE state = 'expired' AND late.order_id IS NULL AND paid > 0) AS short,
           count(*) FILTER (WHERE state = 'expired' AND paid = 0) AS unpaid,
           count(*) FILTER (WHERE state = 'pending') AS pending,
           sum(paid - refunded - refund_pending - o.held) AS kept, sum(o.held) AS held, sum(refund_pending) AS owed
      FROM order_timeout.orders o LEFT JOIN late USING (order_id) GROUP BY o.currency
), payments AS (
    SELECT currency, count(*) AS payments, sum(amount) AS paid FROM order_timeout.payments GROUP BY currency
), refunds AS (
    SELECT r.currency, count(*) AS refunds,
           count(DISTINCT r.order_id) FILTER (WHERE reason = 'surplus') AS overpaid,
           sum(r.amount) FILTER (WHERE state = 'succeeded') AS returned,
           sum(r.amount) FILTER (WHERE state = 'succeeded' AND reason = 'late') AS returned_late,
           sum(r.amount) FILTER (WHERE state = 'succeeded' AND reason = 'expired') AS returned_short,
           sum(r.amount) FILTER (WHERE state = 'succeeded' AND reason = 'surplus') AS returned_surplus,
           percentile_disc(ARRAY[0.5, 0.99, 1]) WITHIN GROUP
               (ORDER BY extract(epoch FROM r.returned_at - p.paid_at) * ?::float8) AS took
      FROM order_timeout.refunds r JOIN order_timeout.payments p USING (gateway, payment_ref) GROUP BY r.currency
)
SELECT * FROM orders LEFT JOIN payments USING (currency) LEFT JOIN refunds USING (currency) ORDER BY orders DESC, currency
SQL
}

# Closings, payments and refunds: { kind, at, currency, amount }.
sub happenings ($self) {
    return map { $_->{at} = $self->{clock}->original($_->{at}); $_ } $self->rows(<<'SQL');
SELECT CASE WHEN late_reason IS NULL THEN 'paid' ELSE 'late' END AS kind,
       extract(epoch FROM received_at) AS at, currency, amount FROM order_timeout.payments
UNION ALL
SELECT 'closed', extract(epoch FROM e.created_at), o.currency, o.amount
  FROM order_timeout.events e JOIN order_timeout.orders o ON o.order_id = e.aggregateid WHERE e.type = 'order.expired'
UNION ALL
SELECT 'returned', extract(epoch FROM returned_at), currency, amount FROM order_timeout.refunds WHERE returned_at IS NOT NULL
ORDER BY 2
SQL
}

# How far calls and closings came after their time, at most.
sub lateness ($self) {
    my ($row) = $self->rows(<<'SQL');
SELECT (SELECT coalesce(max(extract(epoch FROM received_at - paid_at)), 0) FROM order_timeout.payments) AS calls,
       (SELECT coalesce(max(extract(epoch FROM e.created_at - o.expires_at)), 0)
          FROM order_timeout.events e JOIN order_timeout.orders o ON o.order_id = e.aggregateid
         WHERE e.type = 'order.expired') AS closings
SQL
    return @$row{qw(calls closings)};
}

# Payments whose distance to the deadline, before it or after, is within that; other_side: the engine saw them on the
# other side than their times say. A payment of an order that was paid already is on neither side.
sub near_the_deadline ($self, $within) {
    my $speed = $self->{clock}->speed;
    return $self->rows(<<'SQL', $speed, $within / $speed);
SELECT payment_ref AS line, extract(epoch FROM p.paid_at - o.expires_at) * ?::float8 AS after,
       (p.paid_at < o.expires_at) = (p.late_reason IS NOT NULL) AS other_side
  FROM order_timeout.payments p JOIN order_timeout.orders o USING (order_id)
 WHERE p.disposition <> 'surplus'
   AND (abs(extract(epoch FROM p.paid_at - o.expires_at)) <= ?::float8
        OR (p.paid_at < o.expires_at) = (p.late_reason IS NOT NULL))
 ORDER BY payment_ref::integer
SQL
}

sub violations ($self) { return $self->rows('SELECT * FROM order_timeout.funds_violations()') }

1;
