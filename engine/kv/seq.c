/* seq.c: see seq.h. */
#include "seq.h"

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
