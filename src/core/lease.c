/*
 * lease.c
 *    Leases by their tokens, of refunds and of voids.
 *
 * A worker that got no answer reports again, with its own token, and whatever became of the row since, it must hear that
 * this is known. So the row keeps the tokens of ended leases, each with what was reported: a line each, its members
 * separated by tabs, which no identifier contains. A token is random, so no line can be mistaken for another's.
 *
 * A failure that the gateway reported itself has a line without a token. Of those the last ones count, after the line of
 * the last lease: the gateway repeats itself as long as nobody sent the row's work again.
 */
#include "postgres.h"

#include "lease.h"
#include "random_key.h"

#define MAX_BYTES 20000			/* some hundred leases; a row that had more repeats no report of the first ones */
#define NO_REPORT "\t\t0\n"

void
ot_lease_begin(Lease *lease, const char *worker, TimestampTz until)
{
	lease->token = ot_random_key("");
	lease->worker = pstrdup(worker);
	lease->until = until;
}

void
ot_lease_end(Lease *lease)
{
	ot_lease_remember(lease, NO_REPORT);
	lease->token = lease->worker = NULL;
	lease->until = OT_NO_TIME;
}

/* Where the line begins that starts with that token and text, or NULL. */
static const char *
find_line(const Lease *lease, const char *token, const char *text)
{
	const char *line = psprintf("%s\t%s", token, text);
	const char *found = lease->ended;

	if (found == NULL)
		return NULL;
	while ((found = strstr(found, line)) != NULL && found != lease->ended && found[-1] != '\n')
		found++;
	return found;
}

bool
ot_lease_is_current(const Lease *lease, const char *token)
{
	return token != NULL && lease->token != NULL && strcmp(lease->token, token) == 0;
}

bool
ot_lease_ended_with(const Lease *lease, const char *token, const char *report)
{
	return token != NULL && find_line(lease, token, report) != NULL;
}

bool
ot_lease_is_outdated(const Lease *lease, const char *token)
{
	const char *line = token != NULL ? find_line(lease, token, "") : NULL;
	const char *end = line != NULL ? strchr(line, '\n') : NULL;

	return end != NULL && end[1] != '\0';
}

static void
add_line(Lease *lease, const char *token, const char *report)
{
	const char *before = lease->ended ? lease->ended : "";

	if (strlen(before) > MAX_BYTES)
		before = strchr(before, '\n') + 1;
	lease->ended = psprintf("%s%s\t%s", before, token, report);
}

void
ot_lease_remember(Lease *lease, const char *report)
{
	if (lease->token != NULL && find_line(lease, lease->token, "") == NULL)
		add_line(lease, lease->token, report);
}

/* Where the lines without a token begin that stand after the last one with a token. */
static const char *
reports_of_gateway(const Lease *lease)
{
	const char *begin = lease->ended;

	for (const char *line = begin; line != NULL && *line != '\0';)
	{
		const char *next = strchr(line, '\n') + 1;

		if (*line != '\t')
			begin = next;
		line = next;
	}
	return begin;
}

bool
ot_lease_gateway_repeats(const Lease *lease, const char *report)
{
	const char *reports = reports_of_gateway(lease);

	return reports != NULL && lease->token == NULL && strstr(reports, psprintf("\t%s", report)) != NULL;
}

void
ot_lease_remember_gateway(Lease *lease, const char *report)
{
	add_line(lease, "", report);
}
