/*
 * api_follow.c
 *    SQL functions about what follows a change of an order's state: arguments and answers, no logic.
 */
#include "postgres.h"

#include "api_args.h"
#include "api_call.h"
#include "follow.h"

OT_DECISION_FUNCTION(ot_resolve_link)
{
	static const char *const kinds[] = {"hook", "link", NULL};
	char	   *order_id = ot_get_id(fcinfo, 0, "order_id");
	bool		is_link = ot_get_word(fcinfo, 1, "kind", kinds);
	char	   *note = ot_get_text(fcinfo, 2, "note");
	Answer		answer = {0};

	ot_put_text(&answer, ot_follow_give_up(order_id, is_link, note) ? "resolved" : "already_resolved");
	return ot_return(fcinfo, &answer);
}
