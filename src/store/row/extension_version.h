/*
 * extension_version.h
 *    Private to the stores: the library and the SQL objects must be of one version.
 */
#ifndef OT_EXTENSION_VERSION_H
#define OT_EXTENSION_VERSION_H

#include "postgres.h"

/* Raises 55000 if the extension's SQL objects are of another version than this library. */
extern void ot_require_same_version(void);

/* The same without the error; also true if there is no such extension. */
extern bool ot_has_same_version(void);

#endif
