/*
 * words.h
 *    The contract's words, as enums inside and as text in rows, arguments and answers.
 */
#ifndef OT_WORDS_H
#define OT_WORDS_H

typedef enum OrderState
{
	ORDER_PENDING,
	ORDER_AUTHORIZED,
	ORDER_CLOSING,
	ORDER_PAID,
	ORDER_EXPIRED,
	ORDER_CANCELLED,
	OT_ORDER_STATES
} OrderState;

/* What follows a change of an order's state, in this order. */
typedef enum FollowKind
{
	FOLLOW_LINK,				/* the row of a linked table */
	FOLLOW_CLOSE_HOOK,
	FOLLOW_REOPEN_HOOK,
	FOLLOW_PAID_HOOK,
	OT_FOLLOW_KINDS
} FollowKind;

typedef enum Disposition
{
	PAYMENT_APPLIED,
	PAYMENT_LATE,
	PAYMENT_SURPLUS,
	PAYMENT_WRONG_CURRENCY,
	PAYMENT_ORPHAN,
	PAYMENT_HELD,
	PAYMENT_UNCOUNTED
} Disposition;

/* What record_payment answers about a payment of an order that is there. */
typedef enum PaymentOutcome
{
	OUTCOME_PAID,
	OUTCOME_PARTIAL,
	OUTCOME_SURPLUS,
	OUTCOME_LATE,
	OUTCOME_REOPENED,
	OUTCOME_HELD,
	OUTCOME_WRONG_CURRENCY,
	OUTCOME_UNCOUNTED			/* "surplus" too: the order's sums cannot hold it */
} PaymentOutcome;

typedef enum RefundState
{
	REFUND_PENDING,
	REFUND_PROCESSING,
	REFUND_SUBMITTED,
	REFUND_UNKNOWN,
	REFUND_FAILED,
	REFUND_NEEDS_ATTENTION,
	REFUND_SUCCEEDED,
	REFUND_REVERSED
} RefundState;

typedef enum RefundReason
{
	REASON_LATE,
	REASON_SURPLUS,
	REASON_WRONG_CURRENCY,
	REASON_EXPIRED,
	REASON_CANCELLED,
	REASON_REQUESTED,
	REASON_ORPHAN,
	REASON_REVERSED,
	REASON_EXTERNAL,
	REASON_CHARGEBACK
} RefundReason;

typedef enum RefundResult
{
	RESULT_SUCCEEDED,
	RESULT_FAILED,
	RESULT_UNKNOWN,
	RESULT_SUBMITTED,
	RESULT_DEFERRED,
	RESULT_REJECTED
} RefundResult;

typedef enum LateRule
{
	LATE_UNTIL_CLOSED,
	LATE_AT_DEADLINE
} LateRule;

typedef enum OnLate
{
	ON_LATE_UNSET = -1,			/* NULL in the row */
	ON_LATE_REFUND,
	ON_LATE_REOPEN,
	ON_LATE_HOLD
} OnLate;

typedef enum OnShort
{
	ON_SHORT_REFUND,
	ON_SHORT_HOLD
} OnShort;

typedef enum BeforeClose
{
	BEFORE_CLOSE_CLOSE,			/* nothing comes before it */
	BEFORE_CLOSE_VOID
} BeforeClose;

typedef enum AttemptState
{
	ATTEMPT_OPEN,
	ATTEMPT_AUTHORIZED,
	ATTEMPT_CAPTURED,
	ATTEMPT_FAILED,
	ATTEMPT_CANCELLED,
	ATTEMPT_EXPIRED,
	ATTEMPT_VOIDED,
	ATTEMPT_NEEDS_ATTENTION
} AttemptState;

typedef enum VoidResult
{
	VOID_VOIDED,
	VOID_PAID,
	VOID_FAILED,
	VOID_UNKNOWN,
	VOID_DEFERRED,
	VOID_REJECTED
} VoidResult;

typedef enum Decision
{
	DECISION_REFUND,
	DECISION_ACCEPT
} Decision;

/* Indexed by the enum, ended by a NULL. */
extern const char *const ot_order_states[];
extern const char *const ot_follow_kinds[];
extern const char *const ot_dispositions[];
extern const char *const ot_payment_outcomes[];
extern const char *const ot_refund_states[];
extern const char *const ot_refund_reasons[];
extern const char *const ot_refund_results[];
extern const char *const ot_late_rules[];
extern const char *const ot_on_lates[];
extern const char *const ot_on_shorts[];
extern const char *const ot_before_closes[];
extern const char *const ot_attempt_states[];
extern const char *const ot_void_results[];
extern const char *const ot_decisions[];
extern const char *const ot_event_types[];

/* The index of a word in such a list, or -1. */
extern int	ot_word_find(const char *const *words, const char *word);

#endif
