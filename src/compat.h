/*
 * compat.h
 *    What differs between PostgreSQL 15, 17 and 18. The only file that asks for PG_VERSION_NUM.
 */
#ifndef OT_COMPAT_H
#define OT_COMPAT_H

#include "postgres.h"

#include "utils/timestamp.h"

#if PG_VERSION_NUM < 150000
#error "order_timeout needs PostgreSQL 15 or later"
#endif

/* 17 knows infinite intervals. */
#if PG_VERSION_NUM >= 170000
#define OT_INTERVAL_NOT_FINITE(i) INTERVAL_NOT_FINITE(i)
#else
#define OT_INTERVAL_NOT_FINITE(i) (false)
#endif

/* 18 has a keyword of its own for what was an attribute. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* Up to 17 ExecutorRun is told whether it is called once only. */
#if PG_VERSION_NUM < 180000
#define OT_EXECUTE_ONCE_PARAMETER , bool execute_once
#define OT_EXECUTE_ONCE , execute_once
#else
#define OT_EXECUTE_ONCE_PARAMETER
#define OT_EXECUTE_ONCE
#endif

#endif
