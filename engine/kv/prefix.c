/* prefix.c: a table of chains over the pages themselves, a node for each page of the pool, and a list of the idle ones
 * in order of use. The hash is keyed by a number that only this process knows: nobody can write prompts that meet in
 * one chain. */
#include "prefix.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* ---- salts ------------------------------------------------------------------------------------------------------ */

struct pg_salt {
    atomic_int count;
    size_t n;
    char text[];
};

pg_salt *pg_salt_new(const char *text)
{
    const size_t n = strlen(text);
    pg_salt *s = malloc(sizeof *s + n);
    if (!s) return NULL;
    atomic_init(&s->count, 1);
    s->n = n;
    memcpy(s->text, text, n);
    return s;
}

pg_salt *pg_salt_take(pg_salt *salt)
{
    if (salt) atomic_fetch_add(&salt->count, 1);
    return salt;
}

void pg_salt_drop(pg_salt *salt)
{
    if (salt && atomic_fetch_sub(&salt->count, 1) == 1) free(salt);
}

int pg_scope_same(const pg_scope *a, const pg_scope *b)
{
    const pg_salt *s = a->salt, *t = b->salt;
    return a->key == b->key && (!s || !t ? s == t : s->n == t->n && !memcmp(s->text, t->text, s->n));
}

/* ---- hashing ---------------------------------------------------------------------------------------------------- */

/* One word more: a product of 128 bits, folded, as in wyhash (Wang Yi), beside the old value turned round. */
static uint64_t mix(uint64_t hash, uint64_t word)
{
    __extension__ typedef unsigned __int128 wide;
    const wide product = (wide)(hash ^ 0x9E3779B97F4A7C15u) * (word ^ 0xD6E8FEB86659FD93u);
    return (uint64_t)product ^ (uint64_t)(product >> 64) ^ (hash << 23 | hash >> 41);
}

static uint64_t hash_of(const pg_prefix *x, const pg_scope *scope, int32_t before, const int32_t *token)
{
    uint64_t hash = x->seed;
    if (before >= 0) {
        hash = x->known[before].hash;
    } else {
        hash = mix(hash, scope->key);
        for (size_t i = 0; scope->salt && i < scope->salt->n; i++)
            hash = mix(hash, (unsigned char)scope->salt->text[i]);
    }
    for (int i = 0; i < PG_PAGE_TOKENS; i += 2) hash = mix(hash, (uint64_t)token[i] << 32 | (uint32_t)token[i + 1]);
    return mix(hash, x->seed);
}

/* ---- the cache -------------------------------------------------------------------------------------------------- */

int pg_prefix_open(pg_prefix *x, pg_pages *pages, int on)
{
    *x = (pg_prefix){ .pages = pages, .oldest = -1, .newest = -1 };
    if (!on) return 0;
    size_t n = 16;
    while (n < (size_t)pages->n_page) n *= 2;
    x->mask = n - 1;
    x->known = calloc((size_t)pages->n_page, sizeof *x->known);
    x->bucket = malloc(n * sizeof *x->bucket);
    if (!x->known || !x->bucket) {
        pg_prefix_close(x);
        return -1;
    }
    memset(x->bucket, 0xFF, n * sizeof *x->bucket);
    if (getrandom(&x->seed, sizeof x->seed, 0) != sizeof x->seed) x->seed = (uint64_t)time(NULL);
    return 0;
}

void pg_prefix_close(pg_prefix *x)
{
    for (int32_t i = 0; x->known && i < x->pages->n_page; i++) pg_salt_drop(x->known[i].scope.salt);
    free(x->known);
    free(x->bucket);
    *x = (pg_prefix){ .oldest = -1, .newest = -1 };
}

int32_t pg_prefix_room(const pg_prefix *x)
{
    return x->pages->n_free + x->n_idle;
}

static int32_t look_up(const pg_prefix *x, uint64_t hash, const pg_scope *scope, int32_t before, const int32_t *token)
{
    int32_t page = x->bucket[hash & x->mask];
    for (; page >= 0; page = x->known[page].next) {
        const pg_known *k = &x->known[page];
        if (k->hash != hash || k->before != before) continue;
        if (before < 0 && !pg_scope_same(&k->scope, scope)) continue;
        if (!memcmp(k->token, token, sizeof k->token)) break;
    }
    return page;
}

int32_t pg_prefix_find(const pg_prefix *x, const pg_scope *scope, int32_t before, const int32_t *token)
{
    return x->known ? look_up(x, hash_of(x, scope, before, token), scope, before, token) : -1;
}

/* ---- holding ---------------------------------------------------------------------------------------------------- */

static void end_idling(pg_prefix *x, int32_t page)
{
    pg_known *k = &x->known[page];
    *(k->older >= 0 ? &x->known[k->older].newer : &x->oldest) = k->newer;
    *(k->newer >= 0 ? &x->known[k->newer].older : &x->newest) = k->older;
    k->is_idle = 0;
    x->n_idle--;
}

static void begin_idling(pg_prefix *x, int32_t page)
{
    pg_known *k = &x->known[page];
    k->is_idle = 1;
    k->older = x->newest;
    k->newer = -1;
    *(k->older >= 0 ? &x->known[k->older].newer : &x->oldest) = page;
    x->newest = page;
    x->n_idle++;
}

static void give_up(pg_prefix *x, int32_t page)
{
    pg_known *k = &x->known[page];
    int32_t *link = &x->bucket[k->hash & x->mask];
    while (*link != page) link = &x->known[*link].next;
    *link = k->next;
    end_idling(x, page);
    pg_salt_drop(k->scope.salt);
    k->scope.salt = NULL;
    k->is_known = 0;
    pg_pages_drop(x->pages, page);
}

void pg_prefix_hold(pg_prefix *x, int32_t page)
{
    if (x->known[page].is_idle) end_idling(x, page);
    pg_pages_hold(x->pages, page);
}

int32_t pg_prefix_take(pg_prefix *x)
{
    if (!x->pages->n_free && x->oldest >= 0) give_up(x, x->oldest);
    return pg_pages_take(x->pages);
}

void pg_prefix_drop(pg_prefix *x, int32_t page)
{
    pg_pages_drop(x->pages, page);
    if (x->known && x->known[page].is_known && x->pages->count[page] == 1) begin_idling(x, page);
}

int32_t pg_prefix_keep(pg_prefix *x, const pg_scope *scope, int32_t before, const int32_t *token, int32_t page)
{
    if (!x->known) return page;
    const uint64_t hash = hash_of(x, scope, before, token);
    const int32_t same = look_up(x, hash, scope, before, token);
    if (same >= 0) {
        pg_prefix_hold(x, same);
        pg_prefix_drop(x, page);
        return same;
    }
    pg_known *k = &x->known[page];
    *k = (pg_known){ .hash = hash, .before = before, .next = x->bucket[hash & x->mask], .is_known = 1 };
    if (before < 0) k->scope = (pg_scope){ scope->key, pg_salt_take(scope->salt) };
    memcpy(k->token, token, sizeof k->token);
    x->bucket[hash & x->mask] = page;
    pg_pages_hold(x->pages, page);
    return page;
}
