/*
 * random_key.c
 *    Keys that nobody can guess and no two databases ever make.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "random_key.h"

#define KEY_BYTES 16
#define KEYS_AT_ONCE 16			/* the source takes about as long for one key as for so many */

/* The random bytes of a key; each are used once and then forgotten. */
static void
take_bytes(unsigned char *bytes)
{
	static unsigned char prepared[KEYS_AT_ONCE][KEY_BYTES];
	static int	left = 0;

	if (left == 0)
	{
		if (!pg_strong_random(prepared, sizeof(prepared)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random bytes for a key"),
					 errhint("Check the server's source of random numbers, then call again.")));
		left = KEYS_AT_ONCE;
	}
	left--;
	memcpy(bytes, prepared[left], KEY_BYTES);
	memset(prepared[left], 0, KEY_BYTES);
}

char *
ot_random_key(const char *prefix)
{
	unsigned char bytes[KEY_BYTES];
	int			length = strlen(prefix);
	char	   *key = palloc(length + 2 * KEY_BYTES + 1);

	take_bytes(bytes);
	memcpy(key, prefix, length);
	hex_encode((const char *) bytes, KEY_BYTES, key + length);
	key[length + 2 * KEY_BYTES] = '\0';
	return key;
}
