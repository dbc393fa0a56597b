/*
 * options.c
 *    Passwords come from the environment or from files: everybody on the machine can read a command line.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <libpq-fe.h>

#include "log.h"
#include "options.h"

#define MOST_EVENTS    10000	/* of read_events */
#define LONGEST_LEASE  86400
#define LONGEST_POLL   3600000
#define LONGEST_WAIT   3600
#define LONGEST_NAME   255
#define ALL_AUTHORITIES "/etc/ssl/certs/ca-certificates.crt"

static const char *const help =
"Publishes the events of order_timeout to a RabbitMQ exchange.\n"
"\n"
"usage: order_timeout_relay --consumer NAME [OPTION]...\n"
"\n"
"  --consumer NAME         the consumer that it reads with (create_consumer)\n"
"  --create-consumer       create it if it is not there; needs access operator\n"
"  --dbname CONNINFO       the database; what it leaves out comes from PGHOST, PGSERVICE, PGPASSFILE and so on\n"
"  --amqp-url-file FILE    the broker's URL is in this file, and not in AMQP_URL:\n"
"                          amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS\n"
"  --cacert FILE           the authorities that a broker's certificate may be from\n"
"                          (" ALL_AUTHORITIES ")\n"
"  --cert FILE --key FILE  the relay's own certificate\n"
"  --exchange NAME         (order_timeout)\n"
"  --no-declare            the exchange must be there; else it is declared: topic, durable\n"
"  --mandatory             an event that no queue gets is an error, and is published again\n"
"  --batch COUNT           events that are read, published and confirmed together (500)\n"
"  --lease SECONDS         how long a batch is this relay's own; it gets half of that to be confirmed (60)\n"
"  --poll-interval MS      how often it asks for new events (100)\n"
"  --listen                it asks at once when an event is written; for a consumer with notify\n"
"  --longest-wait SECONDS  after a failure it waits 0.1 s, then twice as long each time, up to this (30)\n"
"  --verbose               log each batch\n"
"  --help, --version\n"
"\n"
"It runs until SIGTERM or SIGINT, and ends with status 0 then; with 2 if its options are wrong.\n"
"What fails at the database or at the broker is logged and tried again.\n"
"The manual page order_timeout_relay(1) has more.\n";

typedef enum Kind
{
	TEXT, NUMBER, SET, UNSET, URL_FILE, VERBOSE, HELP, VERSION
} Kind;

#define TO(field) offsetof(Options, field)

static const struct Known
{
	const char *name;
	Kind		kind;
	size_t		to;
	int			least;
	int			most;
}			known[] = {
	{.name = "amqp-url-file", .kind = URL_FILE},
	{.name = "batch", .kind = NUMBER, .to = TO(batch), .least = 1, .most = MOST_EVENTS},
	{.name = "cacert", .kind = TEXT, .to = TO(cacert)},
	{.name = "cert", .kind = TEXT, .to = TO(cert)},
	{.name = "consumer", .kind = TEXT, .to = TO(consumer)},
	{.name = "create-consumer", .kind = SET, .to = TO(create_consumer)},
	{.name = "dbname", .kind = TEXT, .to = TO(conninfo)},
	{.name = "exchange", .kind = TEXT, .to = TO(exchange)},
	{.name = "help", .kind = HELP},
	{.name = "key", .kind = TEXT, .to = TO(key)},
	{.name = "lease", .kind = NUMBER, .to = TO(lease), .least = 1, .most = LONGEST_LEASE},
	{.name = "listen", .kind = SET, .to = TO(listen)},
	{.name = "longest-wait", .kind = NUMBER, .to = TO(longest_wait), .least = 1, .most = LONGEST_WAIT},
	{.name = "mandatory", .kind = SET, .to = TO(mandatory)},
	{.name = "no-declare", .kind = UNSET, .to = TO(declare)},
	{.name = "poll-interval", .kind = NUMBER, .to = TO(poll_interval), .least = 1, .most = LONGEST_POLL},
	{.name = "verbose", .kind = VERBOSE},
	{.name = "version", .kind = VERSION}
};

#define KNOWN_COUNT ((int) (sizeof(known) / sizeof(known[0])))

__attribute__((noreturn, format(printf, 2, 3))) static void
refuse(const char *hint, const char *format,...)
{
	va_list		values;

	fputs("order_timeout_relay: ", stderr);
	va_start(values, format);
	vfprintf(stderr, format, values);
	va_end(values);
	fprintf(stderr, "\n%s\n", hint);
	exit(EXIT_WRONG_OPTIONS);
}

__attribute__((noreturn)) static void
print_and_exit(const char *text)
{
	fputs(text, stdout);
	exit(0);
}

static int
number_of(const struct Known *option, const char *text)
{
	char	   *end;
	long		number = strtol(text, &end, 10);

	if (end == text || *end != '\0' || number < option->least || number > option->most)
		refuse("See --help.", "--%s is a number from %d to %d, not \"%s\"", option->name, option->least, option->most, text);
	return number;
}

static char *
read_url(const char *name)
{
	static char url[LONGEST_URL];
	FILE	   *file = fopen(name, "r");
	struct stat status;

	if (file == NULL)
		refuse("See --amqp-url-file.", "%s: %s", name, strerror(errno));
	if (fgets(url, sizeof(url), file) == NULL)
		refuse("See --amqp-url-file.", "%s has no line to read", name);
	if (fstat(fileno(file), &status) == 0 && (status.st_mode & S_IROTH) != 0)
		log_line(LOG_WARNING, "everybody can read %s: chmod o-r", name);
	fclose(file);
	url[strcspn(url, "\r\n")] = '\0';
	return url;
}

static void
set_option(Options *options, const struct Known *option)
{
	void	   *to = (char *) options + option->to;

	switch (option->kind)
	{
		case TEXT:
			*(const char **) to = optarg;
			break;
		case NUMBER:
			*(int *) to = number_of(option, optarg);
			break;
		case SET:
		case UNSET:
			*(bool *) to = option->kind == SET;
			break;
		case URL_FILE:
			options->amqp_url = read_url(optarg);
			break;
		case VERBOSE:
			log_verbosely();
			break;
		case HELP:
			print_and_exit(help);
		case VERSION:
			print_and_exit("order_timeout_relay " RELAY_VERSION "\n");
	}
}

static void
read_words(Options *options, int count, char **words)
{
	struct option names[KNOWN_COUNT + 1] = {0};
	int			found;

	for (int i = 0; i < KNOWN_COUNT; i++)
	{
		Kind		kind = known[i].kind;

		names[i].name = known[i].name;
		names[i].has_arg = kind == TEXT || kind == NUMBER || kind == URL_FILE ? required_argument : no_argument;
		names[i].val = i;
	}
	while ((found = getopt_long(count, words, "", names, NULL)) != -1)
	{
		if (found == '?')
			exit(EXIT_WRONG_OPTIONS);	/* getopt has said why */
		set_option(options, &known[found]);
	}
	if (optind < count)
		refuse("See --help.", "\"%s\" is no option", words[optind]);
}

static void
check_conninfo(const char *conninfo)
{
	char	   *error = NULL;
	PQconninfoOption *parts = PQconninfoParse(conninfo, &error);

	if (parts == NULL)
		refuse("It has the form \"host=db dbname=shop user=relay\", or postgresql://relay@db/shop.", "--dbname: %s",
			   error == NULL ? "out of memory" : error);
	for (PQconninfoOption *part = parts; part->keyword != NULL; part++)
	{
		if (part->val != NULL && (strcmp(part->keyword, "password") == 0 || strcmp(part->keyword, "sslpassword") == 0))
			refuse("Put it into the file that PGPASSFILE names, or into PGPASSWORD.",
				   "--dbname has a %s, which everybody on this machine could read", part->keyword);
	}
	PQconninfoFree(parts);
}

static void
check_options(const Options *options)
{
	if (options->consumer == NULL)
		refuse("See --help.", "--consumer is missing");
	if (options->amqp_url == NULL || *options->amqp_url == '\0')
		refuse("Set AMQP_URL or use --amqp-url-file.", "there is no URL of a broker");
	if (strlen(options->amqp_url) >= LONGEST_URL)
		refuse("See --help.", "the URL of the broker is too long");
	if ((options->cert == NULL) != (options->key == NULL))
		refuse("See --help.", "--cert and --key belong together");
	if (*options->exchange == '\0' || strlen(options->exchange) > LONGEST_NAME)
		refuse("It has 1 to 255 bytes.", "\"%s\" is no name of an exchange", options->exchange);
	check_conninfo(options->conninfo);
}

Options
read_options(int count, char **words)
{
	Options		options = {
		.conninfo = "",
		.amqp_url = getenv("AMQP_URL"),
		.cacert = ALL_AUTHORITIES,
		.exchange = "order_timeout",
		.declare = true,
		.batch = 500,
		.lease = 60,
		.longest_wait = 30,
		.poll_interval = 100
	};

	read_words(&options, count, words);
	check_options(&options);
	return options;
}
