/*
 * errors.h
 *    The SQLSTATEs of the contract, section 6.
 */
#ifndef OT_ERRORS_H
#define OT_ERRORS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "compat.h"

#define OT_NO_SUCH_ORDER         MAKE_SQLSTATE('O', 'T', '0', '0', '1') /* OT001 */
#define OT_ORDER_DIFFERS         MAKE_SQLSTATE('O', 'T', '0', '0', '2') /* OT002 */
#define OT_PAYMENT_DIFFERS       MAKE_SQLSTATE('O', 'T', '0', '0', '3') /* OT003 */
#define OT_MORE_THAN_KEPT        MAKE_SQLSTATE('O', 'T', '0', '0', '4') /* OT004 */
#define OT_WRONG_STATE           MAKE_SQLSTATE('O', 'T', '0', '0', '5') /* OT005 */
#define OT_NO_SUCH_REFUND        MAKE_SQLSTATE('O', 'T', '0', '0', '6') /* OT006 */
#define OT_REQUEST_KEY_DIFFERS   MAKE_SQLSTATE('O', 'T', '0', '0', '7') /* OT007 */
#define OT_NO_SUCH_POLICY        MAKE_SQLSTATE('O', 'T', '0', '0', '8') /* OT008 */
#define OT_NO_SUCH_PAYMENT       MAKE_SQLSTATE('O', 'T', '0', '0', '9') /* OT009 */
#define OT_NO_SUCH_ATTEMPT       MAKE_SQLSTATE('O', 'T', '0', '1', '0') /* OT010 */

pg_noreturn extern void ot_no_such_order(const char *order_id);
pg_noreturn extern void ot_no_such_policy(const char *policy);
pg_noreturn extern void ot_no_such_payment(const char *gateway, const char *payment_ref);
pg_noreturn extern void ot_no_such_attempt(const char *gateway, const char *attempt_ref);

pg_noreturn extern void ot_deadline_not_in_future(const char *order_id, TimestampTz deadline, TimestampTz now);

/* A trigger that suppresses a write would leave the rows in disagreement. */
pg_noreturn extern void ot_row_not_written(void);

#endif
