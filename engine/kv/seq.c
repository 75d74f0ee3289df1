/* seq.c: see seq.h. */
#include "seq.h"

#include <string.h>

/* Pages of a prompt that may be shared: full ones, without the last token's. */
static int32_t shareable(const pg_seq *s, int32_t n_prompt)
{
    return s->scope.key == PG_KEY_ALONE ? 0 : (n_prompt - 1) / PG_PAGE_TOKENS;
}

static int32_t last_known(const pg_seq *s)
{
    return s->n_known ? s->page[s->n_known - 1] : -1;
}

int pg_seq_begin(pg_seq *s, pg_prefix *x, const int32_t *prompt, int32_t n_prompt, int32_t need)
{
    const int32_t most = shareable(s, n_prompt);
    int32_t n = 0, idle = 0, page = -1;
    while (n < most && (page = pg_prefix_find(x, &s->scope, page, prompt + n * PG_PAGE_TOKENS)) >= 0) {
        idle += x->known[page].is_idle;
        s->page[n++] = page;
    }
    if (need - n > pg_prefix_room(x) - idle) return 0;
    for (int32_t i = 0; i < n; i++) pg_prefix_hold(x, s->page[i]);
    s->n_page = s->n_known = n;
    s->n_cached = n * PG_PAGE_TOKENS;
    while (s->n_page < need) s->page[s->n_page++] = pg_prefix_take(x);
    return 1;
}

int32_t pg_seq_look(pg_seq *s, pg_prefix *x, const int32_t *prompt, int32_t n_prompt, int32_t n_done)
{
    const int32_t most = shareable(s, n_prompt), known = s->n_known;
    if (n_done != known * PG_PAGE_TOKENS) return 0;
    while (s->n_known < most) {
        const int32_t page = pg_prefix_find(x, &s->scope, last_known(s), prompt + s->n_known * PG_PAGE_TOKENS);
        if (page < 0) break;
        pg_prefix_hold(x, page);
        pg_prefix_drop(x, s->page[s->n_known]);
        s->page[s->n_known++] = page;
    }
    const int32_t found = (s->n_known - known) * PG_PAGE_TOKENS;
    s->n_cached += found;
    return found;
}

int pg_seq_meet(const pg_seq *a, const int32_t *prompt_a, int32_t n_a, const pg_seq *b, const int32_t *prompt_b,
                int32_t n_b)
{
    const int32_t n = a->n_known;
    return n == b->n_known && n < shareable(a, n_a) && n < shareable(b, n_b) && last_known(a) == last_known(b) &&
           (n || pg_scope_same(&a->scope, &b->scope)) &&
           !memcmp(prompt_a + n * PG_PAGE_TOKENS, prompt_b + n * PG_PAGE_TOKENS, PG_PAGE_TOKENS * sizeof *prompt_a);
}

void pg_seq_share(pg_seq *s, pg_prefix *x, const int32_t *prompt, int32_t n_prompt, int32_t n_done)
{
    int32_t most = shareable(s, n_prompt);
    if (most > n_done / PG_PAGE_TOKENS) most = n_done / PG_PAGE_TOKENS;
    if (!x->known) return;
    for (; s->n_known < most; s->n_known++)
        s->page[s->n_known] =
            pg_prefix_keep(x, &s->scope, last_known(s), prompt + s->n_known * PG_PAGE_TOKENS, s->page[s->n_known]);
}

void pg_seq_end(pg_seq *s, pg_prefix *x)
{
    while (s->n_page) pg_prefix_drop(x, s->page[--s->n_page]); /* the last first: see prefix.h */
    s->n_known = 0;
}
