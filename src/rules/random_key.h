/*
 * random_key.h
 *    Keys that nobody can guess and no two databases ever make.
 */
#ifndef OT_RANDOM_KEY_H
#define OT_RANDOM_KEY_H

/* The prefix, then 128 random bits in hexadecimal digits. */
extern char *ot_random_key(const char *prefix);

#endif
