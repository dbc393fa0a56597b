/*
 * stop.c
 *    librabbitmq waits without end where a broker that is short of memory reads nothing. A timer shuts the socket down
 *    then, which each of its calls takes for a lost connection.
 *
 *    The same timer ends a stop: GRACE seconds after the signal the socket is shut down, and if that does not help (a
 *    name server that does not answer), the process ends LAST_GRACE seconds later. Nothing is lost by it: what was not
 *    acknowledged comes again.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "stop.h"

#define GRACE      5
#define LAST_GRACE 2

static volatile sig_atomic_t asked;
static volatile sig_atomic_t watched = -1;
static int	pipe_ends[2];
static volatile int64_t asked_at;

static void
asked_to_stop(int signal)
{
	unsigned	left;

	(void) signal;
	if (!asked)
	{
		asked_at = now();
		asked = 1;
		if (write(pipe_ends[1], "", 1) < 0)
			abort();
	}
	left = alarm(GRACE);
	if (left > 0 && left < GRACE)
		alarm(left);			/* a second signal, or the end of a call */
}

static void
time_is_over(int signal)
{
	static volatile sig_atomic_t overdue;

	(void) signal;
	if (overdue)
		_exit(0);
	if (watched >= 0)
		shutdown(watched, SHUT_RDWR);
	watched = -1;
	if (asked)
	{
		overdue = true;
		alarm(LAST_GRACE);
	}
}

void
stop_on_signals(void)
{
	struct sigaction action = {.sa_handler = asked_to_stop, .sa_flags = SA_RESTART};

	if (pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) < 0)
		abort();
	sigaddset(&action.sa_mask, SIGALRM);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	action.sa_handler = time_is_over;
	sigaction(SIGALRM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
}

bool
stop_is_asked(void)
{
	return asked;
}

bool
stop_is_due(void)
{
	return asked && now() - asked_at >= GRACE * SECOND;
}

int
stop_descriptor(void)
{
	return pipe_ends[0];
}

/* Once we are asked to stop, that alarm stays. */
static void
set_alarm(unsigned seconds)
{
	if (!asked)
		alarm(seconds);
	if (asked)					/* just now */
		asked_to_stop(SIGTERM);
}

void
watch_socket(int descriptor, int64_t microseconds)
{
	watched = descriptor;
	set_alarm(microseconds < SECOND ? 1 : microseconds / SECOND);
}

void
unwatch_socket(void)
{
	watched = -1;
	set_alarm(0);
}
