/*
 * store.h
 *    The only way to the tables. No rule stands below this line: a store reads, locks and writes rows, nothing else.
 *
 * Every function has the rights of the extension's owner for its own statement only (triggers run as the caller), and
 * takes a snapshot of its own, so that at READ COMMITTED what is read after a lock is what the lock's last holder
 * committed. At the levels above, a row that changed meanwhile raises 40001, which passes through.
 *
 * Lists and rows are allocated in the caller's memory context. A function that finds nothing returns NULL or NIL.
 */
#ifndef OT_STORE_H
#define OT_STORE_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "nodes/pg_list.h"
#include "rows.h"
#include "utils/tuplestore.h"

/* Once, when the library is loaded. */
extern void ot_store_init(void);
extern void ot_store_follow_init(void);

/* Whether the extension's tables are there (it may be dropped while sweep waits). */
extern bool ot_store_exists(void);

/* The same, and if they are, they cannot be dropped before the transaction ends. */
extern bool ot_store_hold(void);

/* Raises 55000 if the extension's SQL objects are of another version than this library. */
extern void ot_store_require_same_version(void);

/* A procedure that commits between its steps. After a commit no snapshot and no lock is held. */
extern void ot_store_begin_procedure(void);
extern void ot_store_commit(void);

/* Fires deferred triggers now, as the caller, so that an error of theirs is found before the commit. */
extern void ot_store_fire_deferred(void);
extern void ot_store_end_procedure(void);

/* Orders. */

/* create_order and record_payment of an order_id that has no row yet wait for each other here. */
extern void ot_store_lock_order_id(const char *order_id);
extern void ot_store_lock_new_order_id(const char *order_id);
extern Order *ot_store_find_order(const char *order_id);
extern Order *ot_store_lock_order(const char *order_id);

/* NULL also when another transaction has it locked. */
extern Order *ot_store_lock_order_if_free(const char *order_id);

/* False when the order is there already, or its policy is gone. */
extern bool ot_store_insert_order(Order *order);

/* 27000 if a trigger has changed the row since it was read; so for payments and refunds. */
extern void ot_store_update_order(Order *order);

/*
 * Orders due at now with a deadline of from or later, oldest first, without those that another transaction has locked and
 * the set aside ones. They need not be locked: ot_store_update_due writes those that are locked, and of the others those
 * that are still as they were found; it answers with what it wrote.
 */
extern List *ot_store_find_due(TimestampTz from, TimestampTz now, int limit);
extern List *ot_store_update_due(List *orders);

/* How many are due at now with a deadline of from or later, counted to limit; locked and set aside ones too. */
extern int64 ot_store_count_due(TimestampTz from, TimestampTz now, int limit);

/* The first deadline of a pending order at or after from that is not set aside, or OT_NO_TIME. */
extern TimestampTz ot_store_next_deadline(TimestampTz from, TimestampTz now);

/*
 * Pending orders of a policy with a deadline between from and until that were not reminded of it, oldest first, locked;
 * without those that another transaction has locked.
 */
extern List *ot_store_lock_due_soon(const char *policy, TimestampTz from, TimestampTz until, int limit);

/* Payments. */
extern Payment *ot_store_find_payment(const char *gateway, const char *payment_ref);

/* One that was found before, as it is now. */
extern Payment *ot_store_lock_payment(const Payment *found);

/* NULL also when another transaction has it locked. */
extern Payment *ot_store_lock_payment_if_free(const Payment *found);

/* All payments of an order, oldest first. */
extern List *ot_store_lock_payments(const char *order_id);

/* False when it is there already. */
extern bool ot_store_insert_payment(Payment *payment);

/* Whether it finds that out before anything else happens: no trigger fires for a repeat, and no CHECK of others is asked. */
extern bool ot_store_insert_payment_finds_duplicate(void);
extern void ot_store_update_payment(Payment *payment);

/* Orphans with money that could be applied or given back: next to their order, or received before a time. */
extern List *ot_store_stray_orphans(int limit);
extern List *ot_store_old_orphans(TimestampTz before, int limit);

/* Attempts to pay. */
extern Attempt *ot_store_find_attempt(const char *gateway, const char *attempt_ref);

/* One that was found before, as it is now. */
extern Attempt *ot_store_lock_attempt(const Attempt *found);

/* Those of an order that are not settled, oldest first. */
extern List *ot_store_find_attempts(const char *order_id);
extern List *ot_store_lock_attempts(const char *order_id);

/* Locks those that no other transaction has locked; false if one has. */
extern bool ot_store_lock_attempts_if_free(const char *order_id);

/*
 * Attempts whose void is due at now, oldest first, also those whose lease has lapsed; those whose lease has lapsed; the first one
 * of these policies that has been due since from or later, or NULL. Without the locked and the skipped ones.
 */
extern List *ot_store_lock_due_voids(TimestampTz now, const char *gateway, int limit, List *skipped);
extern List *ot_store_lock_lapsed_voids(TimestampTz now, int limit, List *skipped);
extern Attempt *ot_store_lock_next_void(TimestampTz from, TimestampTz now, List *policies, List *skipped);

/* Whether such an event about the attempt was ever written. */
extern bool ot_store_has_attempt_event(const Attempt *attempt, const char *type);

/* False when it is there already. */
extern bool ot_store_insert_attempt(Attempt *attempt);
extern void ot_store_update_attempt(Attempt *attempt);

/* Refunds. */
extern Refund *ot_store_find_refund(const char *refund_ref);

/* One that was found before, as it is now. */
extern Refund *ot_store_lock_refund(const Refund *found);

/* Reports of one number, for whatever refunds, wait for each other here: the second one finds what the first wrote. */
extern Refund *ot_store_lock_gateway_refund_ref(const char *gateway, const char *gateway_refund_ref);

/* The same look without the lock. */
extern Refund *ot_store_find_gateway_refund(const char *gateway, const char *gateway_refund_ref);

/* Whether such an event about the refund was ever written. */
extern bool ot_store_has_refund_event(const Refund *refund, const char *type);

/* All refunds of a payment, oldest first. */
extern List *ot_store_find_refunds(const Payment *payment);
extern List *ot_store_lock_refunds(const Payment *payment);

/* In the order in which they were made: newest payment first. */
extern List *ot_store_find_requested(const char *order_id, const char *request_key);

/* Refunds due at now, oldest first, also those whose lease has lapsed; without the locked and the set aside ones. */
extern List *ot_store_lock_due_refunds(TimestampTz now, const char *gateway, int limit);
extern List *ot_store_lock_lapsed_refunds(TimestampTz now, int limit);

/* The same for the first one of these policies that has been due since from or later; NULL if there is none. */
extern Refund *ot_store_lock_next_refund(TimestampTz from, TimestampTz now, List *policies);

/*
 * Submitted at or before the time that goes with their policy in limits, a list of SubmittedLimit; without the locked ones
 * and those that are set aside at now.
 */
typedef struct SubmittedLimit
{
	const char *policy;
	TimestampTz submitted_before;
} SubmittedLimit;
extern List *ot_store_lock_submitted_refunds(List *limits, TimestampTz now, int limit);
extern void ot_store_insert_refund(Refund *refund);
extern void ot_store_update_refund(Refund *refund);
extern void ot_store_move_refunds(const Payment *payment);

/* Policies. */
extern Policy *ot_store_find_policy(const char *policy);

/* The policy of an order, or "default" if there is no such order. */
extern Policy *ot_store_find_policy_of(const char *order_id);

/* The same, in a batch: known is the policy that the batch read last, or NULL. It is not read again if it is the one. */
extern Policy *ot_store_find_next_policy(const char *order_id, Policy *known);
extern List *ot_store_find_policies(void);

/* Looks at everything committed by now, even if the transaction's snapshot is older. */
extern bool ot_store_policy_in_use(const char *policy);

/* What follows a change of an order's state. */

/* Whether there is any hook or linked table. */
extern bool ot_store_follows(void);

/* The function that a policy, or with NULL any policy, names for a hook; NULL if none. */
extern const char *ot_store_find_hook(const char *policy, const char *hook);

/* Which policies name a function for a hook. */
extern List *ot_store_find_policies_with(const char *hook);

/* Calls the user's function, as the caller. */
extern void ot_store_call_hook(const char *function_name, List *order_ids);

/*
 * The same for a refund_handler and a void_handler. They answer one row, unless the function was replaced since set_hook
 * looked at it. Of a void only result and error; amount 0: it never was authorised.
 */
typedef struct HandlerAnswer
{
	const char *result;
	const char *gateway_refund_ref;
	bool		has_amount;
	int64		refunded_amount;
	const char *error;
} HandlerAnswer;
extern List *ot_store_call_refund_handler(const char *function_name, const Refund *refund, const char *action);
extern List *ot_store_call_void_handler(const char *function_name, const Attempt *attempt, int64 amount, const char *action);

/* Linked tables, a list of Link. */
extern List *ot_store_links(void);

/* An error if one was made, changed or ended since the transaction's snapshot. The caller has locked their table. */
extern void ot_store_require_links_seen(void);

/* By the table's name: as the link has it, or any that the caller's search_path finds. NULL if it is not linked. */
extern const Link *ot_store_find_link(const char *table_name);

/* Their rows by key, as the caller. The keys of those that are locked now; without wait only what nobody else has locked. */
extern List *ot_store_lock_linked(const Link *link, List *keys, bool wait);
extern List *ot_store_lock_linked_within(const Link *link, List *keys, int milliseconds);

/* LinkedRows. */
extern List *ot_store_find_linked(const Link *link, List *keys);

/* One that a trigger is given. */
extern LinkedRow *ot_store_read_linked(const Link *link, HeapTuple tuple, TupleDesc desc);

/* Locked rows with a word of pending, in the order of their keys, after a key or from the first on. */
extern List *ot_store_lock_payable(const Link *link, const char *after, int limit);

/* How many there are, as the caller. */
extern int64 ot_store_count_payable(const Link *link, const char *after);

/* Notes how far adopt_orders has come: after the last row NULL and the time. */
extern void ot_store_update_adoption(const Link *link, const char *adopted_to, int64 created, TimestampTz ended);

/* Gives the word of a state to those whose status is one of from; answers with the keys of those that have it now. */
extern List *ot_store_write_linked(const Link *link, List *keys, List *from, OrderState to, TimestampTz time, const char *reason);

extern void ot_store_add_follow_up(const FollowUp *follow_up);

/* False if there surely is none. */
extern bool ot_store_has_follow_ups(void);

/* Of an order, oldest first. */
extern List *ot_store_find_follow_ups(const char *order_id);

/* Of these orders: those with a hook that waits; the linked rows that are kept, whose follow-ups are deleted. */
extern List *ot_store_find_hooks_waiting(List *order_ids);
extern List *ot_store_take_kept_links(List *order_ids);

/* Of the hooks of one order only the first: they are called in the order of what they follow. */
extern List *ot_store_find_due_follow_ups(TimestampTz now, int limit);
extern bool ot_store_lock_follow_up_if_free(int64 follow_up_id);

/* Writes failures, retry_at, sqlstate and error. */
extern void ot_store_update_follow_up(const FollowUp *follow_up);
extern void ot_store_delete_follow_up(int64 follow_up_id);

/* Events and conflicts. */
extern void ot_store_add_event(Event *event);
extern void ot_store_add_events(List *events);

/* Whether an event says that extend_order or set_deadline gave the order that deadline; that it was created for that amount. */
extern bool ot_store_had_deadline(const char *order_id, TimestampTz expires_at);
extern bool ot_store_was_created_for(const char *order_id, int64 amount);

/* Writes the rows of an order's events into a tuplestore. */
extern void ot_store_history(const char *order_id, Tuplestorestate *rows);

/* Whether a consumer wants to be notified of events. */
extern bool ot_store_notifies(void);

/* Consumers of events. A mark is taken before the transaction has a number. */
extern EventMark ot_store_mark_events(void);

/* False if there is one of that name. */
extern bool ot_store_add_consumer(const char *name, List *types, bool from_now, bool notify, EventMark mark);
extern bool ot_store_drop_consumer(const char *name);
extern Consumer *ot_store_find_consumer(const char *name);
extern Consumer *ot_store_lock_consumer(const char *name);

/* Whether reading finds something, or at least moves the position over what is none of the consumer's. */
extern bool ot_store_has_unread(const char *name);

/* All of the last window is read: the next one reaches to now. The first events of a window that are not acknowledged. */
extern void ot_store_open_window(const char *name, EventMark mark);
extern List *ot_store_window_events(const char *name, int max_events);
extern void ot_store_hand_out_events(const char *name, List *events, bool are_last, const char *lease_token,
									 TimestampTz leased_until);
extern void ot_store_acknowledge_events(const char *name, int64 up_to);

/* In looks_at events of any type, or 0: in all, counted to 10000. */
extern EventBacklog ot_store_consumer_backlog(const char *name, int looks_at);

/*
 * Between these, statements go through the events by id and stop when they have enough, instead of reading and sorting all
 * that the planner cannot count. An error ends it with the subtransaction.
 */
extern int	ot_store_begin_walk(void);
extern void ot_store_end_walk(int settings);

/* Totals of the events. The first is false if another transaction counts; the lock is held until this one ends. */
extern bool ot_store_may_count_events(void);

/* Whether there is such a consumer, and its position is of this database. */
extern bool ot_store_has_position(const char *name);

/* Adds the next events of the window to the totals, and moves the position over them. False if there are none. */
extern bool ot_store_count_events(const char *name, int max_events);

extern void ot_store_add_conflict(const Conflict *conflict);

/* About a payment, oldest first. */
extern List *ot_store_find_conflicts(const Payment *payment);
extern Conflict *ot_store_find_conflict(int64 conflict_id);
extern Conflict *ot_store_lock_conflict(int64 conflict_id);

/* After a payment was given another order, as for refunds. */
extern void ot_store_move_conflicts(const Payment *payment);

/* Writes resolved_at and booked_by. */
extern void ot_store_resolve_conflict(const Conflict *conflict, const char *note);

/* The sweeper's own rows. */

/* How often closing that order has failed so far. */
extern int	ot_store_failures(const char *order_id);

/* Since is kept if it is set aside already. */
extern void ot_store_set_aside(const SetAside *order);

/* The same for a refund, as it is due at due_at. */
extern int	ot_store_refund_failures(const char *refund_ref, TimestampTz due_at);
extern void ot_store_set_refund_aside(const SetAsideRefund *refund);

/*
 * Removes the rows of set aside orders that are settled or got a later deadline, and of set aside refunds that are due at
 * another time.
 */
extern void ot_store_clear_set_aside(void);
extern int64 ot_store_begin_sweep(TimestampTz now, int64 last_event, TimestampTz prune_before);
extern void ot_store_update_sweep(const SweepRun *run);

/* Empties what people wrote about an order, its payments, refunds, conflicts and events. False if it was done before. */
extern bool ot_store_forget_order(const char *order_id);

/* A row of the user's query that replay_orders was given; NULL and OT_NO_TIME for null. */
typedef struct ReplayRow
{
	int64		number;			/* in the order of the query, from 1 on */
	char	   *order_id;
	TimestampTz created_at;
	char	   *amount;
	char	   *currency;
	TimestampTz paid_at;
	char	   *paid_amount;
} ReplayRow;

typedef void (*ReplayRowVisitor) (ReplayRow *row, void *state);

/* Runs the query as the caller, read only; visits its rows in order of order_id and paid_at. */
extern void ot_store_visit_replay(const char *query, ReplayRowVisitor visit, void *state);

/* The proof. */

/*
 * One row of order, payment, refund; gateway is NULL where an order has no payment, refund_ref where a payment has no
 * refund.
 */
typedef struct AuditRow
{
	char	   *order_id;
	bool		has_order;
	OrderState	state;
	int64		amount;
	char	   *currency;
	Funds		funds;
	char	   *gateway;
	char	   *payment_ref;
	bool		has_payment;	/* gateway and payment_ref of a refund are here even if not */
	char	   *payment_currency;
	Disposition disposition;
	Funds		payment_funds;
	char	   *refund_ref;
	char	   *refund_order_id;
	int64		refund_amount;
	char	   *refund_currency;
	RefundState refund_state;
	RefundReason refund_reason;
	TimestampTz returned_at;
	bool		by_hand;
	bool		withdrawn;
	char	   *replaced_by;
	bool		has_successor;	/* replaced_by names a refund of the same payment; looked up of a reversed one only */
} AuditRow;

typedef void (*AuditVisitor) (const AuditRow *row, void *state);

/*
 * Visits them in order of order_id, payment, refund, in one snapshot: those with an event since then, or with since
 * OT_NO_TIME all. A refund without its payment comes as a row without order and payment, under its own order_id.
 */
extern void ot_store_audit(TimestampTz since, AuditVisitor visit, void *state);

/* How many orders that is without since, as of the last ANALYZE or VACUUM; -1 before the first one. */
extern int64 ot_store_estimate_orders(void);

/* The same of one order, without refunds that have no payment. */
extern void ot_store_audit_order(const char *order_id, AuditVisitor visit, void *state);

/* Whether the order's events are there and none of them says what made it paid, in the same snapshot. */
extern bool ot_store_was_never_paid(const char *order_id);

#endif
