/*
 * random_key.c
 *    Keys that nobody can guess and no two databases ever make.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "random_key.h"

#define KEY_BYTES 16

char *
ot_random_key(const char *prefix)
{
	unsigned char bytes[KEY_BYTES];
	int			length = strlen(prefix);
	char	   *key = palloc(length + 2 * KEY_BYTES + 1);

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random bytes for a key"),
				 errhint("Check the server's source of random numbers, then call again.")));
	memcpy(key, prefix, length);
	hex_encode((const char *) bytes, KEY_BYTES, key + length);
	key[length + 2 * KEY_BYTES] = '\0';
	return key;
}
