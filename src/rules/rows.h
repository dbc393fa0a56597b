/*
 * rows.h
 *    The rows of the tables as the rules see them. Strings live in the memory context of the caller that read them.
 */
#ifndef OT_ROWS_H
#define OT_ROWS_H

#include "postgres.h"

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"

#include "words.h"

/* None of our times is ever infinite, so SQL's NULL needs no flag next to it. */
#define OT_NO_TIME DT_NOBEGIN

/*
 * Where money is. What is neither owed back, nor given back, nor held is kept, so that
 * paid = refunded + refund_pending + held + kept holds by construction. Of a payment, paid is its amount.
 */
typedef struct Funds
{
	int64		paid;
	int64		refunded;
	int64		refund_pending;
	int64		held;
} Funds;

typedef struct Policy
{
	char	   *policy;
	Interval   *pay_within;
	LateRule	late_rule;
	OnLate		on_late;
	int			refund_max_attempts;
	double		refund_jitter;
	int64		refund_backoff; /* these in microseconds */
	int64		refund_backoff_max;
	int64		refund_lease;
	int64		refund_settle_within;
	int64		orphan_after;	/* 0: keep orphans */
	int64		short_tolerance;
	OnShort		on_short;
	OnLate		on_notified_late;	/* ON_LATE_UNSET: as on_late */
	int64		attempt_hold;	/* 0: attempts hold no order open */
	BeforeClose before_close;
	int64		void_within;
	int64		remind_before;	/* 0: no reminder */
} Policy;

/* Which version of a row was read; rules don't look at it. Zeros: not known. */
typedef struct RowVersion
{
	ItemPointerData tid;
	TransactionId xmin;
	bool		locked;			/* by us: it stays the latest until we write */
} RowVersion;

/* unwritten in a row: it was changed in memory, see unwritten.h. */

typedef struct Order
{
	RowVersion	version;
	bool		unwritten;
	char	   *order_id;
	char	   *policy;
	OrderState	state;
	int64		amount;
	char	   *currency;
	Funds		funds;
	TimestampTz expires_at;
	TimestampTz created_at;
	TimestampTz settled_at;
	char	   *close_reason;
	Jsonb	   *metadata;		/* only written */
	TimestampTz open_until;		/* attempts, an authorisation or voids keep it open until then */
	TimestampTz closes_at;		/* the later one of expires_at and open_until */
	TimestampTz due_since;		/* of a closing order: the closes_at that passed */
	TimestampTz reminded_of;	/* the deadline that order.due_soon was written for */
	bool		has_attempts;	/* one was begun, whatever became of it */

	bool		terms_changed;	/* in memory only: since it was read, its amount or its times */

	/* In memory only: what follows the changes of its state in this call, a bit for each FollowKind. */
	int			follows;
	OrderState	left_state;		/* before the first of these changes */
} Order;

typedef struct Payment
{
	RowVersion	version;
	bool		unwritten;
	char	   *gateway;
	char	   *payment_ref;
	char	   *order_id;
	char	   *currency;
	Funds		funds;
	TimestampTz paid_at;
	TimestampTz received_at;
	Disposition disposition;
	char	   *late_reason;
	TimestampTz held_at;
	char	   *told_order_id;
	Jsonb	   *details;		/* only written */
	TimestampTz accepted_at;
	char	   *attempt_ref;
	bool		cannot_reopen;	/* in memory only: the reopen_hook refused, so late money is late */
} Payment;

/* Who works on a row, until when, and how earlier leases ended. */
typedef struct Lease
{
	char	   *token;			/* NULL: no worker has it */
	TimestampTz until;
	char	   *worker;
	char	   *ended;			/* see lease.c */
} Lease;

/* A try to pay that was begun at a gateway, and the lease of its void. */
typedef struct Attempt
{
	RowVersion	version;
	bool		unwritten;
	char	   *gateway;
	char	   *attempt_ref;
	char	   *order_id;
	AttemptState state;
	int64		authorized;		/* 0: it never was */
	char	   *currency;		/* of what was authorised */
	TimestampTz valid_until;
	TimestampTz holds_until;
	bool		can_void;
	Jsonb	   *details;		/* only written */
	bool		covers;			/* it authorised its order */
	int64		captured;
	int			attempts;
	TimestampTz next_attempt_at;
	Lease		lease;
	char	   *last_error;
	TimestampTz handed_out_at;
	bool		maybe_sent;
	TimestampTz attention_at;
	TimestampTz created_at;
	TimestampTz settled_at;
} Attempt;

typedef struct Refund
{
	RowVersion	version;
	bool		unwritten;
	char	   *refund_ref;
	char	   *order_id;
	char	   *gateway;
	char	   *payment_ref;
	int64		amount;
	char	   *currency;
	RefundReason reason;
	char	   *note;
	RefundState state;
	int			attempts;
	TimestampTz next_attempt_at;
	Lease		lease;
	char	   *gateway_refund_ref;
	char	   *last_error;
	char	   *request_key;
	int64		asked;
	TimestampTz handed_out_at;
	TimestampTz submitted_at;
	TimestampTz returned_at;
	char	   *replaced_by;
	bool		by_hand;
	TimestampTz attention_at;
	TimestampTz created_at;
	TimestampTz settled_at;
	bool		maybe_sent;
	int64		from_kept;
	int64		from_held;
	bool		withdrawn;
	bool		was_requested;
} Refund;

typedef struct Event
{
	int64		id;
	const char *aggregatetype;
	const char *order_id;
	const char *type;
	Jsonb	   *payload;
	TimestampTz created_at;
} Event;

/* An id, and the first transaction that surely writes above it. */
typedef struct EventMark
{
	int64		id;
	FullTransactionId xid;
} EventMark;

/* A named reader of the events; what its snapshots see stays in SQL. */
typedef struct Consumer
{
	const char *name;
	List	   *types;			/* NIL: all */
	bool		notify;
	bool		has_window;
	int64	   *batch;			/* ids that were handed out with the token */
	int			batch_size;
	const char *lease_token;	/* NULL: nothing was handed out yet */
	TimestampTz leased_until;	/* OT_NO_TIME: nobody has the batch */
	int64		acknowledged_to;	/* 0: nothing of the batch */
} Consumer;

typedef struct EventBacklog
{
	int64		unread;
	TimestampTz oldest_unread;	/* OT_NO_TIME: there is none */
} EventBacklog;

typedef struct Conflict
{
	int64		conflict_id;
	const char *order_id;
	const char *gateway;
	const char *payment_ref;
	const char *refund_ref;
	const char *gateway_refund_ref;
	int64		amount;
	const char *problem;
	TimestampTz created_at;
	TimestampTz resolved_at;
	const char *reason;
	bool		is_failure;
	int64		counted_once;
	const char *booked_by;
	int64		reported;
} Conflict;

/* Words of a linked table; NULL ends them. NULL instead of them: the state is not mapped. */
typedef const char *const *StatusWords;

typedef struct Link
{
	char	   *table_name;		/* this and the types are qualified and quoted, as SQL text needs them */
	char	   *order_prefix;
	char	   *key_column;
	char	   *key_type;
	char	   *status_column;
	char	   *status_type;
	char	   *reason_column;	/* these are NULL where the link names none */
	char	   *amount_column;
	char	   *currency_column;
	char	   *currency;
	char	   *deadline_column;
	char	   *policy_column;
	char	   *policy;
	bool		amount_is_major;
	bool		notes_contradictions;	/* else they are refused */
	char	   *adopted_to;
	StatusWords words[OT_ORDER_STATES]; /* by state; the first is written, all are read */
	char	   *time_columns[OT_ORDER_STATES];	/* by state; one column may serve several */
} Link;

/* A row of a linked table; a column that the link does not name, or that is null, is NULL. */
typedef struct LinkedRow
{
	char	   *key;
	char	   *status;
	char	   *amount;
	char	   *currency;
	TimestampTz deadline;
	char	   *policy;
} LinkedRow;

/* What was to follow a payment and failed. */
typedef struct FollowUp
{
	int64		follow_up_id;
	const char *order_id;
	FollowKind	kind;
	OrderState	left_state;
	TimestampTz since;
	int			failures;		/* 0: it only waits for an older one of its order */
	TimestampTz retry_at;
	const char *sqlstate;
	const char *error;
} FollowUp;

typedef struct SetAside
{
	const char *order_id;
	TimestampTz since;
	int			failures;
	TimestampTz retry_at;
	const char *sqlstate;
	const char *error;
} SetAside;

/* A refund that could not be worked on. It is set aside for as long as it is due at due_at: any step forward ends that. */
typedef struct SetAsideRefund
{
	const char *refund_ref;
	TimestampTz due_at;
	SetAside	why;			/* its order_id is the refund's */
} SetAsideRefund;

typedef struct SweepRun
{
	int64		sweep_id;
	TimestampTz started_at;
	TimestampTz active_at;
	TimestampTz ended_at;
	int64		batches;
	int64		expired;
	int64		failed;
	int64		leases_returned;
	int64		orphans_settled;
	int64		max_lag;		/* microseconds */
	int64		behind;			/* microseconds */
	char		last_error[1024];	/* empty: none */
} SweepRun;

#endif
