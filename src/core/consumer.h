/*
 * consumer.h
 *    Named readers of the events.
 */
#ifndef OT_CONSUMER_H
#define OT_CONSUMER_H

#include "nodes/pg_list.h"
#include "rows.h"

typedef struct EventBatch
{
	List	   *events;			/* Event */
	const char *lease_token;
} EventBatch;

/* Each answers with an outcome. NULL types: all. */
extern const char *ot_consumer_create(const char *name, List *types, bool from_now, bool notify);
extern const char *ot_consumer_drop(const char *name);

extern EventBatch ot_consumer_read(const char *name, int max_events, int64 lease);

/* up_to 0: all of the batch. */
extern const char *ot_consumer_acknowledge(const char *name, const char *lease_token, int64 up_to);

#endif
