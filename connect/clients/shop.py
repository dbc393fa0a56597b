"""A shop's three calls of order_timeout with psycopg 3. conn is a connection with autocommit=True."""
import logging

import psycopg


# create
def create(conn, order_id, cents):
    with conn.transaction():    # insert the rows of your own tables here, too
        row = conn.execute("""SELECT outcome, state, expires_at FROM order_timeout.create_order(
            order_id => %s, amount => %s, currency => 'EUR')""", [order_id, cents]).fetchone()
    return row[1] == "pending"  # may the buyer pay?


# webhook
def webhook(conn, payment):
    for _ in range(5):
        try:
            with conn.transaction():
                conn.execute("""SELECT outcome FROM order_timeout.record_payment(order_id => %s, gateway => 'bank',
                    payment_ref => %s, amount => %s, currency => %s)""",
                    [payment["order"], payment["id"], payment["cents"], payment["currency"]])
            return 200          # whatever the outcome is, the money is accounted for
        except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
            continue            # 40001 and 40P01: the same transaction again
        except psycopg.Error as error:
            logging.error("payment %s: %s %s", payment["id"], error.sqlstate, error)
            break
    return 500                  # the gateway redelivers


# worker
def send_refunds(conn, send):
    refunds = conn.execute("""SELECT refund_ref, payment_ref, amount, currency, action, lease_token
        FROM order_timeout.claim_refunds(worker => 'worker 1', gateway => 'bank')""").fetchall()
    for refund in refunds:      # the claim is committed, so no transaction is open during the call
        try:
            result, number, problem = "succeeded", send(refund), None
        except Exception as error:
            result, number, problem = "unknown", None, str(error)
        conn.execute("""SELECT outcome FROM order_timeout.complete_refund(refund_ref => %s, result => %s,
            lease_token => %s, gateway_refund_ref => %s, error => %s)""",
            [refund[0], result, refund[5], number, problem])
    return len(refunds)
