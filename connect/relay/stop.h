/*
 * stop.h
 *    SIGTERM and SIGINT, and the end of calls that take too long.
 */
#ifndef RELAY_STOP_H
#define RELAY_STOP_H

#include <stdbool.h>
#include <stdint.h>

extern void stop_on_signals(void);
extern bool stop_is_asked(void);

/* The batch in hand gets no more time. */
extern bool stop_is_due(void);

/* Readable once we are asked to stop. */
extern int	stop_descriptor(void);

/* From here on the socket is shut down when the seconds are over, so that whatever waits for it ends with an error. */
extern void watch_socket(int descriptor, int64_t microseconds);
extern void unwatch_socket(void);

#endif
