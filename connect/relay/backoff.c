/*
 * backoff.c
 *    0.1 s, doubled up to the longest, and a quarter more or less, so that many relays do not come back in one instant.
 */
#include <stdlib.h>

#include "backoff.h"
#include "log.h"

#define SHORTEST (100 * MILLISECOND)
#define LASTS    (60 * SECOND)	/* a connection that stood so long was a good one */

bool
backoff_is_over(const Backoff *backoff)
{
	return now() >= backoff->retry_at;
}

double
backoff_failed(Backoff *backoff)
{
	int64_t		wait;

	/* A connection that only came about proves little: the broker may close it at the next message. */
	if (backoff->connected_at != 0 && now() - backoff->connected_at > LASTS)
		backoff->wait = 0;
	backoff->connected_at = 0;
	backoff->wait = backoff->wait == 0 ? SHORTEST : 2 * backoff->wait;
	if (backoff->wait > backoff->longest)
		backoff->wait = backoff->longest;
	wait = backoff->wait * 3 / 4 + random() % (backoff->wait / 2);
	backoff->retry_at = now() + wait;
	return (double) wait / SECOND;
}

void
backoff_connected(Backoff *backoff)
{
	backoff->connected_at = now();
}

void
backoff_succeeded(Backoff *backoff)
{
	backoff->wait = 0;
}
