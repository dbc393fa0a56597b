/*
 * log.h
 *    Lines for people on the standard error, and the clock that waits are counted by.
 */
#ifndef RELAY_LOG_H
#define RELAY_LOG_H

#include <stdbool.h>
#include <stdint.h>

#define MILLISECOND INT64_C(1000)
#define SECOND      (1000 * MILLISECOND)

typedef enum LogLevel
{
	LOG_DEBUG,
	LOG_INFO,
	LOG_WARNING,
	LOG_ERROR
} LogLevel;

extern void log_verbosely(void);
extern void log_line(LogLevel level, const char *format,...) __attribute__((format(printf, 2, 3)));
extern void copy_line(char *to, int size, const char *format,...) __attribute__((format(printf, 3, 4)));

/* Microseconds of a clock that nobody sets. */
extern int64_t now(void);

#endif
