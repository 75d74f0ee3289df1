/* regex: the expressions of tokenizers, run by PCRE2 over text that may hold bad bytes. Only engine/token includes this. */
#ifndef PG_REGEX_H
#define PG_REGEX_H

#include "buf.h"
#include "../status.h"

typedef struct pg_regex pg_regex;

/* What one encoder needs to run expressions; zeroed at first, pg_match_free at the end. */
typedef struct pg_match {
    void *data;  /* pcre2_match_data */
    pg_buf sane; /* the copy of a text in which bad bytes are replaced */
} pg_match;

/* Compile a tokenizer's expression (or, when literal, a text to find as it stands). `what` begins a message. */
int pg_regex_open(const char *pattern, size_t n, bool literal, const char *what, pg_regex **out, pg_error *err);
void pg_regex_close(pg_regex *re);

/* The text that pg_regex_next may search in place of s: s itself when it is UTF-8, else a copy of the same length,
 * good until the next call, in which each bad byte is U+001A: a character that belongs to none of the classes that
 * tokenizers ask for. NULL: no memory. */
const char *pg_match_text(pg_match *m, const char *s, size_t n);
void pg_match_free(pg_match *m);

/* The first match in s (n bytes of UTF-8) at or after *from: 1 and its bounds, 0 when there is none, PG_E*. */
int pg_regex_next(const pg_regex *re, pg_match *m, const char *s, size_t n, size_t *from, size_t *to, pg_error *err);

#endif
