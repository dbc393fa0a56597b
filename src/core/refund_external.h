/*
 * refund_external.h
 *    Money that went back without us, as refunds that are at their end from the start: what they take, and give back.
 */
#ifndef OT_REFUND_EXTERNAL_H
#define OT_REFUND_EXTERNAL_H

#include "lock.h"
#include "nodes/pg_list.h"

/* What is to be recorded. */
typedef struct External
{
	const char *number;			/* the gateway's, or NULL */
	int64		amount;
	RefundReason reason;
	bool		from_refunds;	/* whether it may take the place of clear refunds */
} External;

typedef struct Recorded
{
	Refund	   *refund;			/* NULL if there was nothing to take */
	int64		left;			/* what exceeds all that there is */
} Recorded;

/*
 * Takes the money out of clear refunds, then of what is kept, then of what is held, and writes the refund that stands for
 * it. The caller writes payment and order.
 */
extern Recorded ot_external_record(const Locked *money, const External *external, TimestampTz now);

/* What would fit, without clear refunds. */
extern int64 ot_external_room(const Payment *payment);

/*
 * Stops refunds of the payment that are out: those of that amount, or all of them. They may be the money that was
 * reported.
 */
extern void ot_external_stop_out(const Locked *money, int64 amount, bool all, TimestampTz now);

/*
 * Stops all open refunds of the payment: money that went back and is counted nowhere may be one of them, or what one of
 * them would send once more.
 */
extern void ot_external_stop_open(const Locked *money, TimestampTz now);

/*
 * It was no money of its own, or it came back: what it took is owed again, kept, or held. It becomes reversed. ours: the
 * refund that it turned out to be, or NULL. Answers the refund that owes money now, or NULL. The caller writes payment and
 * order.
 */
extern Refund *ot_external_give_back(const Locked *money, Refund *external, const Refund *ours, const char *note, TimestampTz now);

#endif
