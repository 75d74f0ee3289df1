/* prefix: pages of prompts that have been computed, found again by the tokens that they hold.
 *
 * A page that is full of prompt tokens depends on its tokens, on all tokens before them and on the scope: who may share
 * it, and how experts were chosen. So pages form a tree below each scope: one is found by the page before it and its
 * own tokens. A hash only leads to the place; scope and tokens are compared. The cache holds each known page by a count
 * of its own; what nobody else holds is idle: it is given up, least recently used first, when the pool has no free
 * page. So all of the pool stays usable, and room is what is free or idle.
 *
 * Whoever holds a page holds those before it as well, and lets go of them last page first: a page is then never older
 * than those behind it, and giving up the oldest one cuts leaves only.
 *
 * Owned by the engine thread, but for salts, which anybody may take and drop. Finding and keeping allocate nothing.
 * Source: prefix caching by hashed blocks, Kwon et al., PagedAttention, 2023; a tree of prefixes with least recently
 * used leaves cut first, Zheng et al., SGLang, 2024. */
#ifndef PG_PREFIX_H
#define PG_PREFIX_H

#include "pages.h"

/* A secret that keeps prompts apart: counted text. */
typedef struct pg_salt pg_salt;
enum { PG_SALT_BYTES = 1024 };          /* at most */
pg_salt *pg_salt_new(const char *text); /* terminated; NULL: no memory */
pg_salt *pg_salt_take(pg_salt *salt);   /* NULL is fine, here and below */
void pg_salt_drop(pg_salt *salt);

/* Pages are shared within a scope only. */
typedef struct pg_scope {
    uint64_t key;  /* how experts are chosen: policies that differ have different keys */
    pg_salt *salt; /* NULL: none, which is a salt like any other */
} pg_scope;
int pg_scope_same(const pg_scope *a, const pg_scope *b);

typedef struct pg_known {
    uint64_t hash;
    pg_scope scope;       /* of the first page of a prompt; those behind it have it through `before` */
    int32_t before;       /* page, or -1 */
    int32_t next;         /* in its bucket, or -1 */
    int32_t older, newer; /* while idle: neighbours in order of use, or -1 */
    int32_t is_known, is_idle;
    int32_t token[PG_PAGE_TOKENS];
} pg_known;

typedef struct pg_prefix {
    pg_pages *pages;
    pg_known *known; /* [n_page], NULL: switched off, nothing is ever found */
    int32_t *bucket; /* [mask + 1] first page, or -1 */
    uint64_t mask, seed;
    int32_t oldest, newest, n_idle;
} pg_prefix;

/* A cache over a pool, which it borrows; on = 0: one that finds and keeps nothing. 0, or -1: no memory. */
int pg_prefix_open(pg_prefix *x, pg_pages *pages, int on);
void pg_prefix_close(pg_prefix *x);

/* Pages that can be taken: free ones, and idle ones to be given up. */
int32_t pg_prefix_room(const pg_prefix *x);

/* The page that holds these PG_PAGE_TOKENS tokens behind the page `before` (-1: at the beginning), or -1; not held. */
int32_t pg_prefix_find(const pg_prefix *x, const pg_scope *scope, int32_t before, const int32_t *token);

/* Hold a page that was found; take a page to write to, or -1; give one of either kind back, the last one first. */
void pg_prefix_hold(pg_prefix *x, int32_t page);
int32_t pg_prefix_take(pg_prefix *x);
void pg_prefix_drop(pg_prefix *x, int32_t page);

/* A page that the caller holds is full and will not be written again: make it known. Where one with the same content is
 * known already the caller's is dropped and that one held instead. Returns the page that is held now. */
int32_t pg_prefix_keep(pg_prefix *x, const pg_scope *scope, int32_t before, const int32_t *token, int32_t page);

#endif
