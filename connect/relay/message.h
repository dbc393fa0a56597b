/*
 * message.h
 *    An event, as the database hands it out and the broker gets it.
 */
#ifndef RELAY_MESSAGE_H
#define RELAY_MESSAGE_H

#include <stdint.h>

typedef struct Message
{
	const char *id;
	const char *type;
	uint64_t	created_at;		/* seconds since 1970 */
	const char *body;
	int			length;
} Message;

#endif
