// A shop's three calls of order_timeout with node-postgres. client is a connected Client, or one of a Pool.

// create
async function create(client, orderId, cents) {
  await client.query('BEGIN');
  try {                         // insert the rows of your own tables here, too
    const { rows: [order] } = await client.query(`SELECT outcome, state, expires_at FROM order_timeout.create_order(
      order_id => $1, amount => $2, currency => 'EUR')`, [orderId, cents]);
    await client.query('COMMIT');
    return order.state === 'pending';           // may the buyer pay?
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  }
}

// webhook
async function webhook(client, payment) {
  for (let run = 0; run < 5; run++) {
    try {                       // a single call is a transaction by itself
      await client.query(`SELECT outcome FROM order_timeout.record_payment(order_id => $1, gateway => 'bank',
        payment_ref => $2, amount => $3, currency => $4)`,
        [payment.order, payment.id, payment.cents, payment.currency]);
      return 200;               // whatever the outcome is, the money is accounted for
    } catch (error) {
      if (['40001', '40P01'].includes(error.code)) continue;    // the same transaction again
      console.error('payment %s: %s %s', payment.id, error.code, error.message);
      break;
    }
  }
  return 500;                   // the gateway redelivers
}

// worker
async function sendRefunds(client, send) {
  const { rows: refunds } = await client.query(`SELECT refund_ref, payment_ref, amount, currency, action, lease_token
    FROM order_timeout.claim_refunds(worker => 'worker 1', gateway => 'bank')`);
  for (const refund of refunds) {               // the claim is committed, so no transaction is open during the call
    const answer = await send(refund).then((number) => ['succeeded', number, null],
      (error) => ['unknown', null, error.message]);
    await client.query(`SELECT outcome FROM order_timeout.complete_refund(refund_ref => $1, lease_token => $2,
      result => $3, gateway_refund_ref => $4, error => $5)`, [refund.refund_ref, refund.lease_token, ...answer]);
  }
  return refunds.length;
}

module.exports = { create, webhook, sendRefunds };
