/*
 * module.c
 *    The library: what PostgreSQL checks and calls when it loads it.
 */
#include "postgres.h"

#include "fmgr.h"

#include "store.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	ot_store_init();
	ot_store_follow_init();
}
