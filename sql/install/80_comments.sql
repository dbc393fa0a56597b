-- What each column is, in the words of doc/tables.md.

COMMENT ON COLUMN policies.policy IS
'its name, the key; an identifier';
COMMENT ON COLUMN policies.pay_within IS
'the deadline of an order that is created without one; up to 1000 years';
COMMENT ON COLUMN policies.late_rule IS
'until_closed: a payment is in time until the order is really closed; the first to commit wins. at_deadline: a payment at or after closes_at is late, even if the order is not closed yet';
COMMENT ON COLUMN policies.on_late IS
'what becomes of a late payment: refund, reopen or hold. It counts for every late payment, also of a buyer who paid after the deadline; to treat those who paid in time differently, use on_notified_late';
COMMENT ON COLUMN policies.refund_max_attempts IS
'the number of ended attempts after which the operator must decide; 1 to 1000';
COMMENT ON COLUMN policies.refund_backoff IS
'the wait after the first attempt; doubles with each further attempt; up to 365 days';
COMMENT ON COLUMN policies.refund_backoff_max IS
'the longest wait; not less than refund_backoff, up to 365 days';
COMMENT ON COLUMN policies.refund_jitter IS
'the random spread of a wait, as a part of it, from 0 to 1: 0.1 is a tenth up or down, 1 is from nothing to double. It never raises a wait above refund_backoff_max';
COMMENT ON COLUMN policies.refund_lease IS
'how long a worker may take for a claimed refund; up to 365 days';
COMMENT ON COLUMN policies.refund_settle_within IS
'how long a submitted refund may take; up to 1000 years';
COMMENT ON COLUMN policies.orphan_after IS
'null: orphans are kept until the operator decides. Otherwise the sweeper refunds older orphans; up to 1000 years. Only the value of default counts';
COMMENT ON COLUMN policies.short_tolerance IS
'minor units: when a payment arrives in time and the order then lacks at most this much of its amount, it is paid. A late payment has to reach the amount';
COMMENT ON COLUMN policies.on_short IS
'what becomes of part payments when the order closes, by its deadline or by cancel_order: refund, or hold for a decision';
COMMENT ON COLUMN policies.on_notified_late IS
'what becomes of a late payment whose buyer paid in time (notified_late): refund, reopen or hold; null: as on_late says';
COMMENT ON COLUMN policies.attempt_hold IS
'the longest time that open attempts keep an order open beyond its expires_at; up to 1000 years. null: they keep it open no longer than that';
COMMENT ON COLUMN policies.before_close IS
'close: an order that falls due is closed. void: the gateways are asked first to end its attempts, while it is closing; needs late_rule = ''until_closed''';
COMMENT ON COLUMN policies.void_within IS
'how long an order is closing: after that the sweeper closes it anyway, and its voids go on; up to 365 days';
COMMENT ON COLUMN policies.remind_before IS
'how long before an order falls due the sweeper writes order.due_soon, once for each deadline; up to 1000 years. null: no reminder';

COMMENT ON COLUMN orders.order_id IS
'the application''s order number, the key; one list for the whole database, so give each shop a prefix';
COMMENT ON COLUMN orders.policy IS
'the policy that it follows';
COMMENT ON COLUMN orders.state IS
'pending, authorized, closing, paid, expired, cancelled';
COMMENT ON COLUMN orders.amount IS
'what is to be paid, 0 or more';
COMMENT ON COLUMN orders.currency IS
'three capital letters';
COMMENT ON COLUMN orders.paid IS
'the sum of its payments in its own currency';
COMMENT ON COLUMN orders.refunded IS
'what of paid is back with the buyer';
COMMENT ON COLUMN orders.refund_pending IS
'what of paid is owed and not yet back, whatever the result of the last attempt';
COMMENT ON COLUMN orders.held IS
'what of paid needs a decision';
COMMENT ON COLUMN orders.expires_at IS
'the deadline';
COMMENT ON COLUMN orders.created_at IS
'when it was created';
COMMENT ON COLUMN orders.settled_at IS
'when it was last paid (also by reopening) or closed; null while it is open. Cancelling an expired order does not change it';
COMMENT ON COLUMN orders.close_reason IS
'deadline, or the reason given to cancel_order; null unless closed';
COMMENT ON COLUMN orders.metadata IS
'the application''s own data';
COMMENT ON COLUMN orders.open_until IS
'until when open attempts, an authorisation or, while it is closing, its voids keep it open; null: nothing does';
COMMENT ON COLUMN orders.closes_at IS
'when it falls due: expires_at, or open_until if that is later';
COMMENT ON COLUMN orders.due_since IS
'while closing: when it fell due';
COMMENT ON COLUMN orders.reminded_of IS
'the deadline that order.due_soon was written for';
COMMENT ON COLUMN orders.has_attempts IS
'true once an attempt was begun';

COMMENT ON COLUMN payments.gateway IS
'the gateway''s name; with payment_ref the key. A gateway''s test mode needs a name of its own';
COMMENT ON COLUMN payments.payment_ref IS
'the gateway''s number of the capture';
COMMENT ON COLUMN payments.order_id IS
'the order that it is for';
COMMENT ON COLUMN payments.amount IS
'what the gateway received, more than 0';
COMMENT ON COLUMN payments.currency IS
'three capital letters';
COMMENT ON COLUMN payments.paid_at IS
'the gateway''s clock; may be null';
COMMENT ON COLUMN payments.received_at IS
'when it was first recorded here';
COMMENT ON COLUMN payments.disposition IS
'applied, late, surplus, wrong_currency, orphan, held, uncounted';
COMMENT ON COLUMN payments.late_reason IS
'for a payment that arrived after closing: notified_late if it was paid in time and reported late (paid_at is before both the deadline and the closing), otherwise paid_late; null for other payments';
COMMENT ON COLUMN payments.refunded IS
'what of amount is back with the buyer';
COMMENT ON COLUMN payments.refund_pending IS
'what of amount is owed';
COMMENT ON COLUMN payments.held IS
'what of amount needs a decision';
COMMENT ON COLUMN payments.held_at IS
'when it was put on hold; stays after the decision';
COMMENT ON COLUMN payments.told_order_id IS
'the order_id that the gateway reported, if assign_orphan assigned it to another order; otherwise null';
COMMENT ON COLUMN payments.details IS
'anything else that the gateway reported';
COMMENT ON COLUMN payments.accepted_at IS
'when the operator took this late or held money after all (accept_payment, resolve_held)';
COMMENT ON COLUMN payments.attempt_ref IS
'the attempt that brought it, if record_payment was given one, or one of its order has the payment''s number';

COMMENT ON COLUMN attempts.gateway IS
'the gateway''s name; with attempt_ref the key';
COMMENT ON COLUMN attempts.attempt_ref IS
'the gateway''s number of the attempt: a payment intent, a prepay order, a checkout session';
COMMENT ON COLUMN attempts.order_id IS
'the order that it is to pay';
COMMENT ON COLUMN attempts.state IS
'open, authorized, captured, failed, cancelled, expired, voided, needs_attention';
COMMENT ON COLUMN attempts.authorized IS
'what the gateway promised, in minor units; null: nothing yet';
COMMENT ON COLUMN attempts.currency IS
'the currency of authorized';
COMMENT ON COLUMN attempts.valid_until IS
'how long the promise is good';
COMMENT ON COLUMN attempts.holds_until IS
'while it is open: until when it keeps its order open, as far as attempt_hold allows';
COMMENT ON COLUMN attempts.can_void IS
'false: it cannot be ended at the gateway (a bank transfer), so it is expired when its order is closed or paid';
COMMENT ON COLUMN attempts.details IS
'the application''s own data';
COMMENT ON COLUMN attempts.covers IS
'true if it authorised its order';
COMMENT ON COLUMN attempts.captured IS
'the sum of the payments that it brought';
COMMENT ON COLUMN attempts.attempts IS
'how often its void was tried; 0 while the first one is under way';
COMMENT ON COLUMN attempts.next_attempt_at IS
'when its void is due; while a worker has it, when the lease lapses; null: none is due';
COMMENT ON COLUMN attempts.leased_until IS
'while a worker has its void: when the lease lapses';
COMMENT ON COLUMN attempts.lease_token IS
'while a worker has its void: the token that the worker must pass';
COMMENT ON COLUMN attempts.worker IS
'while a worker has its void: the name that the worker gave';
COMMENT ON COLUMN attempts.last_error IS
'the last error of its void';
COMMENT ON COLUMN attempts.handed_out_at IS
'when a worker first claimed its void; from then on the gateway may know it';
COMMENT ON COLUMN attempts.maybe_sent IS
'true if the gateway may have the void, leases apart';
COMMENT ON COLUMN attempts.ended_leases IS
'tokens of leases that ended, each with its result, so that a repeated report is recognised';
COMMENT ON COLUMN attempts.attention_at IS
'since when the operator must look: its void needs attention, or the gateway reported paid and no payment is recorded yet';
COMMENT ON COLUMN attempts.created_at IS
'when it was begun';
COMMENT ON COLUMN attempts.settled_at IS
'since when nothing more is to be done about it';

COMMENT ON COLUMN refunds.refund_ref IS
'the key, and the idempotency key for the gateway: rf_ and 32 hexadecimal digits, random';
COMMENT ON COLUMN refunds.order_id IS
'the order of its payment';
COMMENT ON COLUMN refunds.gateway IS
'the gateway of the payment';
COMMENT ON COLUMN refunds.payment_ref IS
'the payment that it returns money of';
COMMENT ON COLUMN refunds.amount IS
'the money that is owed, or was returned';
COMMENT ON COLUMN refunds.currency IS
'the payment''s currency';
COMMENT ON COLUMN refunds.reason IS
'why it is owed';
COMMENT ON COLUMN refunds.note IS
'free text from a caller, or a remark of a function';
COMMENT ON COLUMN refunds.state IS
'where it stands';
COMMENT ON COLUMN refunds.attempts IS
'attempts that have ended without success; 0 while the first one is under way';
COMMENT ON COLUMN refunds.next_attempt_at IS
'when it is due; for a leased refund, when the lease lapses; null if it will not become due by itself';
COMMENT ON COLUMN refunds.leased_until IS
'while processing: when the lease lapses';
COMMENT ON COLUMN refunds.lease_token IS
'while processing: the token that the worker must pass';
COMMENT ON COLUMN refunds.worker IS
'while processing: the name that the worker gave';
COMMENT ON COLUMN refunds.gateway_refund_ref IS
'the gateway''s number of the refund, unique within the gateway; null if the gateway gave none';
COMMENT ON COLUMN refunds.last_error IS
'the last error; of a stopped refund stopped:, why, and what was reported before and since; null once it succeeded, or was retried after it had been stopped';
COMMENT ON COLUMN refunds.request_key IS
'the key given to request_refund';
COMMENT ON COLUMN refunds.asked IS
'the amount that it was created with; amount is less if the gateway returned less';
COMMENT ON COLUMN refunds.handed_out_at IS
'when a worker first claimed it; from then on the gateway may know it';
COMMENT ON COLUMN refunds.submitted_at IS
'when the gateway accepted it; null again if it failed after all';
COMMENT ON COLUMN refunds.returned_at IS
'when the money went back; stays if the refund is reversed later';
COMMENT ON COLUMN refunds.replaced_by IS
'for a reversed refund: the refund_ref that stands for the money now';
COMMENT ON COLUMN refunds.by_hand IS
'true if the operator paid it out another way (settle_refund)';
COMMENT ON COLUMN refunds.attention_at IS
'while needs_attention: since when';
COMMENT ON COLUMN refunds.created_at IS
'when it was created';
COMMENT ON COLUMN refunds.settled_at IS
'when it ended; null while the money is owed';
COMMENT ON COLUMN refunds.maybe_sent IS
'true if the gateway may have it, leases apart; a refund is clear if this is false and no worker has it';
COMMENT ON COLUMN refunds.ended_leases IS
'tokens of leases that ended, each with its result, and failures that were reported without one, so that a repeated report is recognised';
COMMENT ON COLUMN refunds.from_kept IS
'for a refund that record_refund recorded: the part that was taken from kept money';
COMMENT ON COLUMN refunds.from_held IS
'for a refund that record_refund recorded: the part that was taken from held money. The rest was taken from refunds, which name it in replaced_by';
COMMENT ON COLUMN refunds.withdrawn IS
'true if it was reversed because nobody wants it any more (withdraw_refund, accept_payment); then nothing replaces it';
COMMENT ON COLUMN refunds.was_requested IS
'of reason reversed: true if it owes again what was requested, wholly or in part; so withdraw_refund accepts it';

COMMENT ON COLUMN events.id IS
'ascending, with gaps; not in the order of commits';
COMMENT ON COLUMN events.aggregatetype IS
'always order';
COMMENT ON COLUMN events.aggregateid IS
'the order_id';
COMMENT ON COLUMN events.type IS
'what happened';
COMMENT ON COLUMN events.payload IS
'the details';
COMMENT ON COLUMN events.created_at IS
'when it happened';
COMMENT ON COLUMN events.xid IS
'the transaction that wrote it; by this read_events knows what a consumer has not read';

COMMENT ON COLUMN consumer_positions.consumer IS
'its name';
COMMENT ON COLUMN consumer_positions.types IS
'the types of events that it reads; null for all';
COMMENT ON COLUMN consumer_positions.notify IS
'whether its events are announced by NOTIFY order_timeout_events';
COMMENT ON COLUMN consumer_positions.created_at IS
'when it was created';
COMMENT ON COLUMN consumer_positions.epoch IS
'the value of sequence event_epoch in the database where its snapshots were taken';
COMMENT ON COLUMN consumer_positions.read_snapshot IS
'what this snapshot sees was acknowledged; null: nothing';
COMMENT ON COLUMN consumer_positions.window_snapshot IS
'what this snapshot sees, and read_snapshot does not, is being read; null: nothing';
COMMENT ON COLUMN consumer_positions.window_from IS
'of the events that are being read, acknowledged up to this id';
COMMENT ON COLUMN consumer_positions.window_to IS
'no event that is being read has a higher id';
COMMENT ON COLUMN consumer_positions.mark_xids IS
'transactions: those that begin with or after one of them write events above the id in the same place of mark_ids';
COMMENT ON COLUMN consumer_positions.mark_ids IS
'the ids for mark_xids';
COMMENT ON COLUMN consumer_positions.batch IS
'the ids that were handed out last';
COMMENT ON COLUMN consumer_positions.lease_token IS
'the token that came with them';
COMMENT ON COLUMN consumer_positions.leased_until IS
'until when nobody else gets them; null: the lease was ended';
COMMENT ON COLUMN consumer_positions.acknowledged_to IS
'the id that ack_events ended the lease with; null: it was not ended';

COMMENT ON COLUMN conflicts.conflict_id IS
'the key, for resolve_conflict';
COMMENT ON COLUMN conflicts.order_id IS
'the order of the payment';
COMMENT ON COLUMN conflicts.gateway IS
'the gateway that reported it';
COMMENT ON COLUMN conflicts.payment_ref IS
'the payment that it is about';
COMMENT ON COLUMN conflicts.refund_ref IS
'the refund that it is about, if any';
COMMENT ON COLUMN conflicts.gateway_refund_ref IS
'the gateway''s number of the refund, if it reported one';
COMMENT ON COLUMN conflicts.amount IS
'in minor units of the payment''s currency. If the gateway returned more than expected, the part that is not recorded; otherwise the amount that it reported';
COMMENT ON COLUMN conflicts.problem IS
'the contradiction in words';
COMMENT ON COLUMN conflicts.created_at IS
'when it was reported';
COMMENT ON COLUMN conflicts.resolved_at IS
'when the operator resolved it, or it turned out to be a refund of ours that was reported later; null while it is open';
COMMENT ON COLUMN conflicts.note IS
'the operator''s note, or which refund it was';
COMMENT ON COLUMN conflicts.reason IS
'external or chargeback if record_refund reported it; null if complete_refund did';
COMMENT ON COLUMN conflicts.is_failure IS
'true if the contradiction says that the buyer may have nothing';
COMMENT ON COLUMN conflicts.counted_once IS
'what was taken for money that is recorded already; resolve_conflict with book counts it again';
COMMENT ON COLUMN conflicts.booked_by IS
'the refund_ref that resolve_conflict recorded with book';
COMMENT ON COLUMN conflicts.reported IS
'the whole amount that was reported; amount is the part that is counted nowhere';

COMMENT ON COLUMN set_aside.order_id IS
'the key: the order';
COMMENT ON COLUMN set_aside.since IS
'when it failed first';
COMMENT ON COLUMN set_aside.failures IS
'the number of failures';
COMMENT ON COLUMN set_aside.retry_at IS
'when the sweeper tries again: 10 seconds after the first failure, then after waits that double up to an hour';
COMMENT ON COLUMN set_aside.sqlstate IS
'the SQLSTATE of the last failure';
COMMENT ON COLUMN set_aside.error IS
'the message of the last failure';

COMMENT ON COLUMN set_aside_refunds.refund_ref IS
'the key: the refund';
COMMENT ON COLUMN set_aside_refunds.due_at IS
'the refund''s next_attempt_at when it failed';
COMMENT ON COLUMN set_aside_refunds.since IS
'when it failed first';
COMMENT ON COLUMN set_aside_refunds.failures IS
'the number of failures';
COMMENT ON COLUMN set_aside_refunds.retry_at IS
'when it is tried again; the waits are those of set_aside';
COMMENT ON COLUMN set_aside_refunds.sqlstate IS
'the SQLSTATE of the last failure';
COMMENT ON COLUMN set_aside_refunds.error IS
'the message of the last failure';

COMMENT ON COLUMN hooks.policy IS
'with hook, the key';
COMMENT ON COLUMN hooks.hook IS
'close_hook, paid_hook, reopen_hook, refund_handler or void_handler';
COMMENT ON COLUMN hooks.function_name IS
'the function, with its schema';

COMMENT ON COLUMN links.table_name IS
'the key: the table, with its schema';
COMMENT ON COLUMN links.order_prefix IS
'an order_id is this and the key';
COMMENT ON COLUMN links.key_column IS
'the column that holds the key of a row';
COMMENT ON COLUMN links.key_type IS
'the key column''s type when the table was linked';
COMMENT ON COLUMN links.status_column IS
'the column that holds the status of a row';
COMMENT ON COLUMN links.status_type IS
'the status column''s type when the table was linked';
COMMENT ON COLUMN links.statuses IS
'for each state its words as an array; the first one is written';
COMMENT ON COLUMN links.amount_column IS
'the column that holds the amount, if any';
COMMENT ON COLUMN links.amount_is_major IS
'whether it is numeric and holds major units (12.34), or whole minor units (1234)';
COMMENT ON COLUMN links.currency_column IS
'the column that holds the currency, if any';
COMMENT ON COLUMN links.currency IS
'the currency of all rows, if there is no column';
COMMENT ON COLUMN links.deadline_column IS
'the column that holds the deadline, if any';
COMMENT ON COLUMN links.policy_column IS
'the column that holds the policy, if any';
COMMENT ON COLUMN links.policy IS
'the policy of the rows'' orders, if there is no column';
COMMENT ON COLUMN links.time_columns IS
'for each settled state the column that says since when; written with the status';
COMMENT ON COLUMN links.reason_column IS
'written with the status: why the order was closed';
COMMENT ON COLUMN links.track IS
'whether the rows create and cancel orders, and move their deadlines';
COMMENT ON COLUMN links.on_contradiction IS
'refuse or note';
COMMENT ON COLUMN links.linked_at IS
'when the table was linked';
COMMENT ON COLUMN links.adopted_to IS
'the last key that an unfinished adopt_orders has seen';
COMMENT ON COLUMN links.adopted IS
'orders that adopt_orders has created';
COMMENT ON COLUMN links.adopted_at IS
'when it ended last';

COMMENT ON COLUMN follow_ups.follow_up_id IS
'the key; the hooks of an order are called in this sequence';
COMMENT ON COLUMN follow_ups.order_id IS
'the order';
COMMENT ON COLUMN follow_ups.kind IS
'link, close_hook, reopen_hook or paid_hook';
COMMENT ON COLUMN follow_ups.left_state IS
'the state of the order before the change that is followed';
COMMENT ON COLUMN follow_ups.since IS
'when it failed first';
COMMENT ON COLUMN follow_ups.failures IS
'the number of failures; 0: it waits for an older hook of the same order';
COMMENT ON COLUMN follow_ups.retry_at IS
'when it is tried again; the waits are those of set_aside';
COMMENT ON COLUMN follow_ups.sqlstate IS
'the SQLSTATE of the last failure; 00000 if there was none';
COMMENT ON COLUMN follow_ups.error IS
'the message of the last failure';

COMMENT ON COLUMN event_totals.type IS
'the type of the events; with currency the key';
COMMENT ON COLUMN event_totals.currency IS
'the currency in their payload; empty if they have none';
COMMENT ON COLUMN event_totals.events IS
'how many there were';
COMMENT ON COLUMN event_totals.amount IS
'the sum of the amount in their payload, in minor units; 0 if they have none';

COMMENT ON COLUMN sweeps.sweep_id IS
'the key';
COMMENT ON COLUMN sweeps.pid IS
'the server process that ran it';
COMMENT ON COLUMN sweeps.started_at IS
'when the run started';
COMMENT ON COLUMN sweeps.active_at IS
'when the run last wrote its row';
COMMENT ON COLUMN sweeps.ended_at IS
'null: the run still works, or it was interrupted';
COMMENT ON COLUMN sweeps.batches IS
'the number of batches that closed something';
COMMENT ON COLUMN sweeps.expired IS
'the number of orders that it closed';
COMMENT ON COLUMN sweeps.failed IS
'the number of failures to close an order';
COMMENT ON COLUMN sweeps.leases_returned IS
'the number of lapsed leases that it took back';
COMMENT ON COLUMN sweeps.orphans_settled IS
'the number of orphans that it refunded or applied';
COMMENT ON COLUMN sweeps.max_lag IS
'how late the latest closing of this run was: its time minus the deadline';
COMMENT ON COLUMN sweeps.behind IS
'at active_at: how far the run was behind the clock; 0 if it had closed all due orders';
COMMENT ON COLUMN sweeps.last_error IS
'the last error that the run survived';
COMMENT ON COLUMN sweeps.last_event IS
'the last id of events that was given out before started_at: all later events have higher ids. 0: not known. funds_violations begins there';

COMMENT ON COLUMN health.pending IS
'orders that wait for money';
COMMENT ON COLUMN health.overdue IS
'pending orders that are past their deadline';
COMMENT ON COLUMN health.oldest_overdue IS
'how long the oldest overdue order is past its deadline; null if none is';
COMMENT ON COLUMN health.refunds_by_state IS
'the number of open refunds, by state';
COMMENT ON COLUMN health.owed_by_currency IS
'money owed and not yet back, in minor units, by currency: the sum of the open refunds';
COMMENT ON COLUMN health.oldest_refund_owed IS
'the age of the oldest open refund';
COMMENT ON COLUMN health.refunds_needing_attention IS
'rows of attention with kind needs_attention';
COMMENT ON COLUMN health.payments_held IS
'rows of attention with kind held';
COMMENT ON COLUMN health.payments_orphaned IS
'rows of attention with kind orphan';
COMMENT ON COLUMN health.orders_set_aside IS
'rows of attention with kind set_aside, of orders';
COMMENT ON COLUMN health.conflicts_open IS
'rows of attention with kind conflict';
COMMENT ON COLUMN health.last_sweep IS
'when the newest sweep last wrote its row';
COMMENT ON COLUMN health.last_sweep_lag IS
'how far the newest sweep was behind the clock then';
COMMENT ON COLUMN health.refunds_set_aside IS
'rows of attention with kind set_aside, of refunds';
COMMENT ON COLUMN health.authorized IS
'orders in state authorized';
COMMENT ON COLUMN health.closing IS
'orders in state closing';
COMMENT ON COLUMN health.voids_due IS
'voids that are due, wait for their next attempt, or are with a worker';
COMMENT ON COLUMN health.voids_needing_attention IS
'rows of attention with kind void';
COMMENT ON COLUMN health.due_soon IS
'pending orders that fall due within five minutes';
COMMENT ON COLUMN health.oldest_overdue_seconds IS
'oldest_overdue in seconds; 0 if none is';
COMMENT ON COLUMN health.refunds_pending IS
'open refunds in state pending';
COMMENT ON COLUMN health.refunds_processing IS
'open refunds in state processing: workers have them';
COMMENT ON COLUMN health.refunds_submitted IS
'open refunds in state submitted';
COMMENT ON COLUMN health.refunds_failed IS
'open refunds in state failed';
COMMENT ON COLUMN health.refunds_unknown IS
'open refunds in state unknown';
COMMENT ON COLUMN health.oldest_refund_owed_seconds IS
'oldest_refund_owed in seconds; 0 if none is open';
COMMENT ON COLUMN health.voids_processing IS
'voids that workers have';
COMMENT ON COLUMN health.links_waiting IS
'rows of attention with kind link';
COMMENT ON COLUMN health.hooks_waiting IS
'rows of attention with kind hook';
COMMENT ON COLUMN health.last_sweep_age_seconds IS
'the age of last_sweep; null if there was none';
COMMENT ON COLUMN health.last_sweep_lag_seconds IS
'last_sweep_lag in seconds';
COMMENT ON COLUMN health.ok IS
'true if there are no problems';
COMMENT ON COLUMN health.problems IS
'what is not all right, most urgent first; empty if all is';

COMMENT ON COLUMN attention.kind IS
'what it is';
COMMENT ON COLUMN attention.order_id IS
'the order; null for sweeper';
COMMENT ON COLUMN attention.gateway IS
'the gateway; null for an order that is set_aside, and for sweeper';
COMMENT ON COLUMN attention.payment_ref IS
'the payment; null for an order that is set_aside, for void, and for sweeper';
COMMENT ON COLUMN attention.refund_ref IS
'the refund: for needs_attention, for a refund that is set_aside, and for a conflict about a refund';
COMMENT ON COLUMN attention.conflict_id IS
'for conflict: its number, for resolve_conflict';
COMMENT ON COLUMN attention.amount IS
'the money that it is about, in minor units; for an order that is set_aside, its amount; for a void, what is authorised and not captured, null if nothing is; null for sweeper';
COMMENT ON COLUMN attention.currency IS
'its currency; null for sweeper';
COMMENT ON COLUMN attention.since IS
'since when it needs the operator. For sweeper: the last sign of life; if there was never one, the earliest deadline that is overdue, and null if none is';
COMMENT ON COLUMN attention.why IS
'the cause in words; of a refund and a void also how many attempts are used, and the last error';
COMMENT ON COLUMN attention.resolved_by IS
'the lines that resolve it, one of which is to be run; what only a person knows is a variable of psql';
COMMENT ON COLUMN attention.attempt_ref IS
'for void: the attempt';
COMMENT ON COLUMN integrations.kind IS
'link or hook';
COMMENT ON COLUMN integrations.name IS
'the table with its schema, or which hook';
COMMENT ON COLUMN integrations.policy IS
'the policy that has the hook, or that the orders of the table follow if their row names none';
COMMENT ON COLUMN integrations.uses IS
'the columns of the table, or the function';
COMMENT ON COLUMN integrations.is_there IS
'whether all of it is there: the table with these columns and, with track, its enabled trigger; the function with the arguments of the hook';
COMMENT ON COLUMN integrations.waiting IS
'rows that were not written, or calls of the hook that failed; for a refund_handler, refunds whose last attempt did not succeed; for a void_handler, voids that are due';
COMMENT ON COLUMN integrations.orders_set_aside IS
'orders of the table or the policy that the sweeper could not close, for whatever cause';

COMMENT ON COLUMN consumers.consumer IS
'its name';
COMMENT ON COLUMN consumers.types IS
'the types of events that it reads; null for all';
COMMENT ON COLUMN consumers.notify IS
'whether its events are announced by NOTIFY order_timeout_events';
COMMENT ON COLUMN consumers.created_at IS
'when it was created';
COMMENT ON COLUMN consumers.unread IS
'events that it has not acknowledged, counted to 10000';
COMMENT ON COLUMN consumers.oldest_unread IS
'the age of the first of them; null if there is none';
COMMENT ON COLUMN consumers.leased_until IS
'until when a reader has its last batch; null if none has it';
COMMENT ON COLUMN sizes.table_name IS
'the table';
COMMENT ON COLUMN sizes.rows IS
'its rows as of the last VACUUM or ANALYZE; null: there was none yet';
COMMENT ON COLUMN sizes.bytes IS
'what it takes on disk, with its indexes and TOAST';
COMMENT ON COLUMN sizes.index_bytes IS
'what its indexes take of that';
COMMENT ON COLUMN sizes.bytes_per_row IS
'bytes for each row; null if there is none';
COMMENT ON COLUMN sizes.bytes_per_order IS
'bytes for each row of orders: their sum over all tables is what an order takes';

COMMENT ON COLUMN progress.pid IS
'process ID of the session, as in pg_stat_activity';
COMMENT ON COLUMN progress.command IS
'sweep, adopt_orders, load_statement, check_statement, statement_totals, apply_statement, funds_violations';
COMMENT ON COLUMN progress.phase IS
'what it does now';
COMMENT ON COLUMN progress.step IS
'the number of that phase, from 1 on';
COMMENT ON COLUMN progress.steps IS
'how many phases the command has';
COMMENT ON COLUMN progress.done IS
'what of the phase is done, in units; null: not counted in this phase';
COMMENT ON COLUMN progress.total IS
'how much the phase has; of funds_violations about, by the last ANALYZE; null: not known, or, of a sweep, more than 1000000';
COMMENT ON COLUMN progress.percent IS
'done as a part of total; null if that is not known';
COMMENT ON COLUMN progress.unit IS
'what is counted: orders, rows, records, lines';
COMMENT ON COLUMN progress.started_at IS
'when the command began; of a sweep when it found more than one batch of due orders';
COMMENT ON COLUMN progress.running IS
'how long ago that was';

COMMENT ON COLUMN statements.gateway IS
'the gateway''s name; with statement the key';
COMMENT ON COLUMN statements.statement IS
'its name: the date or number of the file';
COMMENT ON COLUMN statements.covers_from IS
'the time that it covers begins here';
COMMENT ON COLUMN statements.covers_to IS
'the time that it covers ends before this';
COMMENT ON COLUMN statements.totals IS
'what the gateway says that it comes to: minor units by currency; null: nothing was stated';
COMMENT ON COLUMN statements.fingerprint IS
'of the file, by which a repeat of load_statement is recognised; null if it was not loaded by that';
COMMENT ON COLUMN statements.loaded_at IS
'when it was loaded';
COMMENT ON COLUMN statement_lines.gateway IS
'the gateway''s name';
COMMENT ON COLUMN statement_lines.statement IS
'the statement that it belongs to';
COMMENT ON COLUMN statement_lines.line IS
'the number of the line in the file; what the gateway kept for it is a row of kind fee with the same number';
COMMENT ON COLUMN statement_lines.kind IS
'payment, refund, chargeback, chargeback_reversed, fee, or other: anything else, which a person has to look at';
COMMENT ON COLUMN statement_lines.reference IS
'the gateway''s number: the payment_ref of a payment, the gateway_refund_ref of a refund or chargeback';
COMMENT ON COLUMN statement_lines.payment_ref IS
'of a refund or chargeback: the payment that it belongs to';
COMMENT ON COLUMN statement_lines.our_reference IS
'our number in the line: of a payment the order_id or the attempt_ref, of a refund the refund_ref; null: none';
COMMENT ON COLUMN statement_lines.amount IS
'minor units, as the merchant sees it: what comes is positive, what goes is negative';
COMMENT ON COLUMN statement_lines.currency IS
'three capital letters';
COMMENT ON COLUMN statement_lines.at IS
'when it happened, by the gateway''s clock';
COMMENT ON COLUMN statement_lines.raw IS
'the line as it stands in the file; null for the fee of another line';
COMMENT ON COLUMN statement_lines.outcome IS
'what apply_statement called and what that answered, or the error; null: nothing was called';
COMMENT ON COLUMN statement_lines.applied_at IS
'when apply_statement applied it; null: it did not';

COMMENT ON COLUMN metrics.name IS
'the name of the metric';
COMMENT ON COLUMN metrics.labels IS
'its labels and their values; an empty object if it has none';
COMMENT ON COLUMN metrics.value IS
'the value now';
COMMENT ON COLUMN metrics.help IS
'what it is';
COMMENT ON COLUMN metrics.type IS
'counter: it only grows; gauge: it goes up and down';
