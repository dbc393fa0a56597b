/*
 * send.h
 *    Refunds without a worker: hands due refunds to the functions that their policies name.
 */
#ifndef OT_SEND_H
#define OT_SEND_H

#include "postgres.h"

/* Until its time is up, committing before and after each call. Times in microseconds; gateway NULL: any. */
extern void ot_send_refunds(int64 run_for, int64 poll_interval, const char *gateway);

#endif
