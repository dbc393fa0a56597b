# shellcheck shell=bash disable=SC2034,SC2154
# The same job in plpgsql, in as few statements as it takes. What the works never
# reach is left out: policies that hold or reopen, results other than succeeded.

plpgsql_title='plpgsql functions'
plpgsql_leaves='policies that hold or reopen, results of refunds other than succeeded, checks of arguments, acting as the owner'

plpgsql_setup() {
	query -f - <<-'SQL'
		CREATE SCHEMA plain;

		CREATE FUNCTION plain.owe(p_gateway text, p_payment_ref text, p_order_id text, p_amount bigint, p_currency text,
			p_reason text, p_now timestamptz) RETURNS text
		LANGUAGE plpgsql AS $$
		DECLARE
			key text := 'rf_' || replace(gen_random_uuid()::text, '-', '');
		BEGIN
			INSERT INTO order_timeout.refunds (refund_ref, order_id, gateway, payment_ref, amount, asked, currency, reason, state,
				next_attempt_at, created_at)
			VALUES (key, p_order_id, p_gateway, p_payment_ref, p_amount, p_amount, p_currency, p_reason, 'pending', p_now, p_now);
			INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
			VALUES (p_order_id, 'refund.created', jsonb_build_object('refund_ref', key, 'gateway', p_gateway,
				'payment_ref', p_payment_ref, 'amount', p_amount, 'currency', p_currency, 'reason', p_reason,
				'state', 'pending', 'attempts', 0, 'next_attempt_at', p_now), p_now);
			RETURN key;
		END $$;

		CREATE FUNCTION plain.record_payment(p_order_id text, p_gateway text, p_payment_ref text, p_amount bigint,
			p_currency text, p_paid_at timestamptz DEFAULT NULL, p_details jsonb DEFAULT NULL,
			OUT outcome text, OUT state text, OUT disposition text, OUT refund_ref text, OUT refund_amount bigint)
		LANGUAGE plpgsql AS $$
		DECLARE
			o record;
			known order_timeout.payments;
			p_now timestamptz;
			owed bigint := 0;
			reason text;
			late_reason text;
			paid bigint;
			refund_pending bigint;
		BEGIN
			SELECT x.state, x.amount, x.currency, x.paid - x.refunded - x.refund_pending - x.held AS kept, x.expires_at, x.settled_at
			INTO o FROM order_timeout.orders x WHERE x.order_id = p_order_id FOR NO KEY UPDATE;
			IF NOT FOUND THEN
				PERFORM pg_advisory_xact_lock(hashtextextended(p_order_id, 0));
				SELECT x.state, x.amount, x.currency, x.paid - x.refunded - x.refund_pending - x.held AS kept, x.expires_at, x.settled_at
				INTO o FROM order_timeout.orders x WHERE x.order_id = p_order_id FOR NO KEY UPDATE;
			END IF;
			p_now := clock_timestamp();
			state := o.state;
			IF state IS NULL THEN
				outcome := 'orphan';
				disposition := 'orphan';
			ELSIF o.currency <> p_currency THEN
				outcome := 'wrong_currency';
				disposition := 'wrong_currency';
				owed := p_amount;
			ELSIF state = 'pending' THEN
				disposition := 'applied';
				owed := greatest(o.kept + p_amount - o.amount, 0);
				reason := 'surplus';
				IF o.kept + p_amount >= o.amount THEN
					outcome := 'paid';
					state := 'paid';
				ELSE
					outcome := 'partial';
				END IF;
			ELSIF state = 'paid' THEN
				outcome := 'surplus';
				disposition := 'surplus';
				owed := p_amount;
			ELSE
				outcome := 'late';
				disposition := 'late';
				owed := p_amount;
				late_reason := CASE WHEN p_paid_at < least(o.expires_at, o.settled_at) THEN 'notified_late' ELSE 'paid_late' END;
			END IF;

			INSERT INTO order_timeout.payments (gateway, payment_ref, order_id, amount, currency, paid_at, received_at,
				disposition, late_reason, refund_pending, details)
			VALUES (p_gateway, p_payment_ref, p_order_id, p_amount, p_currency, p_paid_at, p_now,
				disposition, late_reason, owed, p_details)
			ON CONFLICT ON CONSTRAINT payments_pkey DO NOTHING;
			IF NOT FOUND THEN
				SELECT * INTO known FROM order_timeout.payments x WHERE x.gateway = p_gateway AND x.payment_ref = p_payment_ref;
				IF (known.order_id, known.amount, known.currency) IS DISTINCT FROM (p_order_id, p_amount, p_currency) THEN
					RAISE EXCEPTION 'this payment is recorded with other terms' USING ERRCODE = 'OT003';
				END IF;
				outcome := 'duplicate';
				state := o.state;
				disposition := known.disposition;
				SELECT r.refund_ref, r.asked INTO refund_ref, refund_amount FROM order_timeout.refunds r
				WHERE r.gateway = p_gateway AND r.payment_ref = p_payment_ref ORDER BY r.created_at LIMIT 1;
				RETURN;
			END IF;

			IF disposition NOT IN ('orphan', 'wrong_currency') THEN
				UPDATE order_timeout.orders x
				SET state = record_payment.state, paid = x.paid + p_amount, refund_pending = x.refund_pending + owed,
					settled_at = CASE WHEN outcome = 'paid' THEN p_now ELSE x.settled_at END
				WHERE x.order_id = p_order_id
				RETURNING x.paid, x.refund_pending INTO paid, refund_pending;
			END IF;
			IF owed > 0 THEN
				refund_ref := plain.owe(p_gateway, p_payment_ref, p_order_id, owed, p_currency, coalesce(reason, outcome), p_now);
				refund_amount := owed;
			END IF;
			INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
			VALUES (p_order_id, CASE WHEN outcome = 'paid' THEN 'order.paid' ELSE 'payment.' || outcome END,
				CASE WHEN outcome = 'paid'
				THEN jsonb_build_object('state', state, 'amount', o.amount, 'currency', o.currency, 'paid', paid,
					'refund_pending', refund_pending, 'expires_at', o.expires_at, 'gateway', p_gateway,
					'payment_ref', p_payment_ref, 'payment_amount', p_amount)
				ELSE jsonb_strip_nulls(jsonb_build_object('gateway', p_gateway, 'payment_ref', p_payment_ref,
					'amount', p_amount, 'currency', p_currency, 'disposition', disposition, 'late_reason', late_reason))
				END, p_now);
		END $$;

		CREATE FUNCTION plain.create_order(p_order_id text, p_amount bigint, p_currency text, p_expires_in interval DEFAULT NULL,
			p_expires_at timestamptz DEFAULT NULL, p_policy text DEFAULT 'default', p_metadata jsonb DEFAULT NULL,
			OUT outcome text, OUT state text, OUT expires_at timestamptz)
		LANGUAGE plpgsql AS $$
		DECLARE
			o record;
			orphan record;
			p_now timestamptz;
		BEGIN
			PERFORM pg_advisory_xact_lock(hashtextextended(p_order_id, 0));
			p_now := clock_timestamp();
			state := CASE WHEN p_amount = 0 THEN 'paid' ELSE 'pending' END;
			INSERT INTO order_timeout.orders AS x (order_id, policy, state, amount, currency, expires_at, created_at, settled_at, metadata)
			SELECT p_order_id, p.policy, create_order.state, p_amount, p_currency,
				coalesce(p_expires_at, p_now + coalesce(p_expires_in, p.pay_within)), p_now,
				CASE WHEN p_amount = 0 THEN p_now END, p_metadata
			FROM order_timeout.policies p WHERE p.policy = p_policy
			ON CONFLICT ON CONSTRAINT orders_pkey DO NOTHING
			RETURNING x.expires_at INTO create_order.expires_at;
			IF NOT FOUND THEN
				SELECT x.* INTO o FROM order_timeout.orders x WHERE x.order_id = p_order_id;
				IF NOT FOUND THEN
					RAISE EXCEPTION 'no such policy' USING ERRCODE = 'OT008';
				ELSIF (o.amount, o.currency, o.policy) IS DISTINCT FROM (p_amount, p_currency, p_policy) THEN
					RAISE EXCEPTION 'an order with this id and other terms exists' USING ERRCODE = 'OT002';
				END IF;
				outcome := 'exists';
				state := o.state;
				expires_at := o.expires_at;
				RETURN;
			END IF;
			outcome := 'created';
			INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
			VALUES (p_order_id, 'order.created', jsonb_build_object('state', state, 'amount', p_amount, 'currency', p_currency,
				'paid', 0, 'refund_pending', 0, 'expires_at', expires_at), p_now);
			IF p_amount = 0 THEN
				INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
				VALUES (p_order_id, 'order.paid', jsonb_build_object('state', state, 'amount', p_amount, 'currency', p_currency,
					'paid', 0, 'refund_pending', 0, 'expires_at', expires_at), p_now);
			END IF;
			FOR orphan IN
				WITH gone AS (DELETE FROM order_timeout.payments x
					WHERE x.order_id = p_order_id AND x.disposition = 'orphan' AND x.refund_pending + x.refunded = 0 RETURNING *)
				SELECT * FROM gone ORDER BY received_at
			LOOP
				SELECT r.state INTO state FROM plain.record_payment(p_order_id, orphan.gateway, orphan.payment_ref, orphan.amount,
					orphan.currency, orphan.paid_at, orphan.details) r;
			END LOOP;
		END $$;

		-- Ten refunds in one statement.
		CREATE FUNCTION plain.claim_refunds(p_worker text, p_max integer DEFAULT 10, p_gateway text DEFAULT NULL)
		RETURNS TABLE (refund_ref text, order_id text, gateway text, payment_ref text, amount bigint, currency text,
			payment_amount bigint, action text, attempt integer, lease_token text, leased_until timestamptz)
		LANGUAGE plpgsql AS $$
		DECLARE
			p_now timestamptz := clock_timestamp();
		BEGIN
			RETURN QUERY
			-- An array and not a join, which may read all refunds each time; locked rows stay where they are.
			WITH claimed AS (
				UPDATE order_timeout.refunds r
				SET state = 'processing', worker = p_worker, lease_token = replace(gen_random_uuid()::text, '-', ''),
					leased_until = p_now + p.refund_lease, next_attempt_at = p_now + p.refund_lease,
					handed_out_at = coalesce(r.handed_out_at, p_now),
					attempts = r.attempts + (r.state = 'processing')::integer
				FROM order_timeout.orders o, order_timeout.policies p
				WHERE r.ctid = ANY (ARRAY(
						SELECT d.ctid FROM order_timeout.refunds d
						WHERE d.settled_at IS NULL AND d.next_attempt_at <= p_now AND (p_gateway IS NULL OR d.gateway = p_gateway)
						ORDER BY d.next_attempt_at LIMIT p_max FOR NO KEY UPDATE SKIP LOCKED))
					AND o.order_id = r.order_id AND p.policy = o.policy
				RETURNING r.*
			), told AS (
				INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
				SELECT c.order_id, 'refund.claimed', jsonb_build_object('refund_ref', c.refund_ref, 'gateway', c.gateway,
					'payment_ref', c.payment_ref, 'amount', c.amount, 'currency', c.currency, 'reason', c.reason,
					'state', c.state, 'attempts', c.attempts, 'next_attempt_at', c.next_attempt_at, 'worker', c.worker), p_now
				FROM claimed c
			)
			SELECT c.refund_ref, c.order_id, c.gateway, c.payment_ref, c.amount, c.currency, x.amount,
				CASE WHEN c.handed_out_at = p_now THEN 'submit' ELSE 'query' END, c.attempts + 1, c.lease_token, c.leased_until
			FROM claimed c JOIN order_timeout.payments x ON x.gateway = c.gateway AND x.payment_ref = c.payment_ref;
		END $$;

		CREATE FUNCTION plain.complete_refund(p_refund_ref text, p_result text, p_lease_token text DEFAULT NULL,
			p_gateway_refund_ref text DEFAULT NULL, OUT outcome text, OUT state text)
		LANGUAGE plpgsql AS $$
		DECLARE
			r order_timeout.refunds;
			p_now timestamptz;
		BEGIN
			IF p_result <> 'succeeded' THEN
				RAISE EXCEPTION 'not in this benchmark';
			END IF;
			SELECT x.order_id, x.gateway, x.payment_ref INTO r.order_id, r.gateway, r.payment_ref
			FROM order_timeout.refunds x WHERE x.refund_ref = p_refund_ref;
			IF NOT FOUND THEN
				RAISE EXCEPTION 'no such refund' USING ERRCODE = 'OT006';
			END IF;
			PERFORM FROM order_timeout.orders o WHERE o.order_id = r.order_id FOR NO KEY UPDATE;
			p_now := clock_timestamp();
			UPDATE order_timeout.refunds x
			SET state = 'succeeded', settled_at = p_now, returned_at = p_now, gateway_refund_ref = coalesce(p_gateway_refund_ref, x.gateway_refund_ref),
				last_error = NULL, attention_at = NULL, next_attempt_at = NULL, leased_until = NULL, lease_token = NULL, worker = NULL
			WHERE x.refund_ref = p_refund_ref AND x.settled_at IS NULL
			RETURNING x.* INTO r;
			IF NOT FOUND THEN
				outcome := 'duplicate';
				state := 'succeeded';
				RETURN;
			END IF;
			UPDATE order_timeout.payments x SET refund_pending = x.refund_pending - r.amount, refunded = x.refunded + r.amount
			WHERE x.gateway = r.gateway AND x.payment_ref = r.payment_ref AND x.disposition NOT IN ('orphan', 'wrong_currency');
			IF FOUND THEN
				UPDATE order_timeout.orders o SET refund_pending = o.refund_pending - r.amount, refunded = o.refunded + r.amount
				WHERE o.order_id = r.order_id;
			ELSE
				UPDATE order_timeout.payments x SET refund_pending = x.refund_pending - r.amount, refunded = x.refunded + r.amount
				WHERE x.gateway = r.gateway AND x.payment_ref = r.payment_ref;
			END IF;
			INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
			VALUES (r.order_id, 'refund.succeeded', jsonb_strip_nulls(jsonb_build_object('refund_ref', r.refund_ref,
				'gateway', r.gateway, 'payment_ref', r.payment_ref, 'amount', r.amount, 'currency', r.currency,
				'reason', r.reason, 'state', r.state, 'attempts', r.attempts, 'gateway_refund_ref', r.gateway_refund_ref)), p_now);
			outcome := 'recorded';
			state := 'succeeded';
		END $$;
	SQL
}

plpgsql_pay() {
	clients "$(pay_each)" <<-'SQL'
		SELECT * FROM plain.record_payment(:id, 'stripe', :id, 1999, 'EUR');
	SQL
}

plpgsql_create() {
	clients "$(create_each)" <<-'SQL'
		SELECT * FROM plain.create_order(:id, 1999, 'EUR');
	SQL
}

plpgsql_inside() {
	statement "$count" <<-'SQL'
		SELECT count(r.outcome) FROM order_timeout.orders x,
			LATERAL plain.record_payment(x.order_id, 'stripe', x.order_id, x.amount, x.currency) r
		WHERE x.order_id BETWEEN :'first' AND :'last';
	SQL
}

plpgsql_refund() {
	workers plain
}
