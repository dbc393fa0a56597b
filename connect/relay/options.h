/*
 * options.h
 *    What the command line, the environment and files say.
 */
#ifndef RELAY_OPTIONS_H
#define RELAY_OPTIONS_H

#include <stdbool.h>

#define EXIT_WRONG_OPTIONS 2
#define LONGEST_URL        4096

typedef struct Options
{
	const char *consumer;
	const char *conninfo;
	const char *amqp_url;
	const char *cacert;
	const char *cert;
	const char *key;
	const char *exchange;
	bool		declare;
	bool		mandatory;
	bool		create_consumer;
	bool		listen;
	int			batch;
	int			lease;			/* seconds */
	int			longest_wait;	/* seconds */
	int			poll_interval;	/* milliseconds */
} Options;

/* Ends the process after --help, --version, and what cannot be right. */
extern Options read_options(int count, char **words);

#endif
