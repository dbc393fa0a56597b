/*
 * backoff.h
 *    How long to wait before the next try. The database and the broker have one each.
 */
#ifndef RELAY_BACKOFF_H
#define RELAY_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Backoff
{
	int64_t		longest;
	int64_t		wait;			/* the last one; 0 after a success */
	int64_t		retry_at;
	int64_t		connected_at;
} Backoff;

extern bool backoff_is_over(const Backoff *backoff);

/* Returns the wait in seconds. */
extern double backoff_failed(Backoff *backoff);
extern void backoff_connected(Backoff *backoff);

/* The other side did what it is there for. */
extern void backoff_succeeded(Backoff *backoff);

#endif
