/*
 * refund_lease.c
 *    Leases by their tokens.
 *
 * A worker that got no answer reports again, with its own token, and whatever became of the refund since, it must hear
 * that this is known. So the refund keeps the tokens of ended leases, each with what was reported: a line each, its
 * members separated by tabs, which no identifier contains. A token is random, so no line can be mistaken for another's.
 *
 * A failure that the gateway reported itself has a line without a token. Of those the last ones count, after the line of
 * the last lease: the gateway repeats itself as long as nobody sent the refund again.
 */
#include "postgres.h"

#include "refund_lease.h"
#include "words.h"

#define MAX_BYTES 20000			/* some hundred leases; a refund that had more repeats no report of the first ones */

static const char *
line_of(const char *token, const RefundReport *report)
{
	return psprintf("%s\t%s\t%s\t" INT64_FORMAT "\n", token, report ? ot_refund_results[report->result] : "",
					report && report->gateway_refund_ref ? report->gateway_refund_ref : "",
					report ? report->refunded_amount : (int64) 0);
}

/* Where the line begins that starts with that text, or NULL. */
static const char *
find_line(const Refund *refund, const char *text)
{
	const char *found = refund->ended_leases;

	if (found == NULL)
		return NULL;
	while ((found = strstr(found, text)) != NULL && found != refund->ended_leases && found[-1] != '\n')
		found++;
	return found;
}

bool
ot_lease_is_current(const Refund *refund, const char *token)
{
	return token != NULL && refund->lease_token != NULL && strcmp(refund->lease_token, token) == 0;
}

bool
ot_lease_is_running(const Refund *refund, TimestampTz now)
{
	return refund->lease_token != NULL && (refund->state == REFUND_PROCESSING || refund->leased_until > now);
}

/*
 * A worker may say more or less the second time. Only of a success it matters: another number or amount is a contradiction,
 * and a number that was missing is news.
 */
bool
ot_lease_ended_with(const Refund *refund, const RefundReport *report)
{
	const char *token = report->lease_token;

	if (token == NULL || refund->ended_leases == NULL)
		return false;
	if (report->result != RESULT_SUCCEEDED || (report->gateway_refund_ref == NULL && report->refunded_amount == 0))
		return find_line(refund, psprintf("%s\t%s\t", token, ot_refund_results[report->result])) != NULL;
	return find_line(refund, line_of(token, report)) != NULL;
}

bool
ot_lease_is_outdated(const Refund *refund, const char *token)
{
	const char *line = token != NULL ? find_line(refund, psprintf("%s\t", token)) : NULL;
	const char *end = line != NULL ? strchr(line, '\n') : NULL;

	return end != NULL && end[1] != '\0';
}

static void
add_line(Refund *refund, const char *line)
{
	const char *before = refund->ended_leases ? refund->ended_leases : "";

	if (strlen(before) > MAX_BYTES)
		before = strchr(before, '\n') + 1;
	refund->ended_leases = psprintf("%s%s", before, line);
}

void
ot_lease_remember(Refund *refund, const RefundReport *report)
{
	if (refund->lease_token != NULL && find_line(refund, psprintf("%s\t", refund->lease_token)) == NULL)
		add_line(refund, line_of(refund->lease_token, report));
}

/* Where the lines without a token begin that stand after the last one with a token. */
static const char *
reports_of_gateway(const Refund *refund)
{
	const char *begin = refund->ended_leases;

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
ot_lease_gateway_repeats(const Refund *refund, const RefundReport *report)
{
	const char *reports = reports_of_gateway(refund);

	return reports != NULL && refund->lease_token == NULL && strstr(reports, line_of("", report)) != NULL;
}

void
ot_lease_remember_gateway(Refund *refund, const RefundReport *report)
{
	add_line(refund, line_of("", report));
}
