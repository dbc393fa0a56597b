/*
 * send.h
 *    send_refunds: refunds and voids without a worker. The diagram is in send.c.
 */
#ifndef OT_SEND_H
#define OT_SEND_H

#include "postgres.h"

/* Until its time is up, in microseconds; commits before and after every one. */
extern void ot_send(int64 run_for);

#endif
