// A shop's three calls of order_timeout with pgx. db is a connection of pgx; one of a pgxpool.Pool does as well.
package main

import (
	"context"
	"errors"
	"log"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

type payment struct {
	order, id string
	cents     int64
	currency  string
}

type refund struct {
	ref, payment     string
	amount           int64
	currency, action string
	lease            string
}

// create
func create(ctx context.Context, db *pgx.Conn, orderID string, cents int64) (mayPay bool, err error) {
	err = db.BeginFunc(ctx, func(tx pgx.Tx) error { // insert the rows of your own tables here, too
		var state string
		err := tx.QueryRow(ctx, `SELECT state FROM order_timeout.create_order(
			order_id => $1, amount => $2, currency => 'EUR')`, orderID, cents).Scan(&state)
		mayPay = state == "pending"
		return err
	})
	return mayPay, err
}

// webhook
func webhook(ctx context.Context, db *pgx.Conn, p payment) int {
	for run := 0; run < 5; run++ { // a single call is a transaction by itself
		_, err := db.Exec(ctx, `SELECT outcome FROM order_timeout.record_payment(order_id => $1, gateway => 'bank',
			payment_ref => $2, amount => $3, currency => $4)`, p.order, p.id, p.cents, p.currency)
		if err == nil {
			return 200 // whatever the outcome is, the money is accounted for
		}
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && (pgErr.Code == "40001" || pgErr.Code == "40P01") {
			continue // the same transaction again
		}
		log.Printf("payment %s: %v", p.id, err)
		break
	}
	return 500 // the gateway redelivers
}

// worker
func sendRefunds(ctx context.Context, db *pgx.Conn, send func(refund) (string, error)) (int, error) {
	rows, err := db.Query(ctx, `SELECT refund_ref, payment_ref, amount, currency, action, lease_token
		FROM order_timeout.claim_refunds(worker => 'worker 1', gateway => 'bank')`)
	if err != nil {
		return 0, err
	}
	var refunds []refund
	for rows.Next() {
		var r refund
		if err := rows.Scan(&r.ref, &r.payment, &r.amount, &r.currency, &r.action, &r.lease); err != nil {
			return 0, err
		}
		refunds = append(refunds, r)
	}
	if rows.Err() != nil {
		return 0, rows.Err()
	}
	for _, r := range refunds { // the claim is committed, so no transaction is open during the call
		result, problem := "succeeded", (*string)(nil)
		number, err := send(r)
		if err != nil {
			text := err.Error()
			result, problem = "unknown", &text
		}
		_, err = db.Exec(ctx, `SELECT outcome FROM order_timeout.complete_refund(refund_ref => $1,
			lease_token => $2, result => $3, gateway_refund_ref => nullif($4, ''), error => $5)`,
			r.ref, r.lease, result, number, problem)
		if err != nil {
			return 0, err
		}
	}
	return len(refunds), nil
}
