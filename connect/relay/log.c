/*
 * log.c
 *    2026-11-29 11:00:00.848 INFO relayed 500 events, up to id 1234
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "log.h"

static LogLevel lowest = LOG_INFO;

void
log_verbosely(void)
{
	lowest = LOG_DEBUG;
}

int64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec / 1000;
}

/* What others wrote may have several lines, and may be longer than we want to see. */
static void
make_one_line(char *text)
{
	text[strcspn(text, "\r\n")] = '\0';
}

void
copy_line(char *to, int size, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(to, size, format, arguments);
	va_end(arguments);
	make_one_line(to);
}

void
log_line(LogLevel level, const char *format,...)
{
	static const char *const names[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
	struct timeval t;
	struct tm	local;
	char		time[32];
	char		line[1024];
	va_list		arguments;

	if (level < lowest)
		return;
	gettimeofday(&t, NULL);
	strftime(time, sizeof(time), "%Y-%m-%d %H:%M:%S", localtime_r(&t.tv_sec, &local));
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	make_one_line(line);
	fprintf(stderr, "%s.%03d %s %s\n", time, (int) (t.tv_usec / 1000), names[level], line);
}
