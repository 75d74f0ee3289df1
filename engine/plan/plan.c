/* plan.c: the op array and the arena. Values live from the op that defines them to the last op that reads them; the arena
 * gives each the lowest place that is free for that long (first fit over an interval list), so a forward pass needs a few
 * rows' worth of memory, not a layer's worth for each layer. */
#include "plan.h"

#include <stdlib.h>

enum { ALIGN = 64 };

void pg_plan_fail(pg_plan *p, int code, const char *what)
{
    if (p->rc >= 0) p->rc = pg_fail(&p->error, code, "%s", what);
}

/* Grow an array to hold one more of `size` bytes. */
static int grow(pg_plan *p, void *array, int32_t n, int32_t *cap, size_t size)
{
    void **a = array;
    if (n < *cap) return 1;
    const int32_t more = *cap ? 2 * *cap : 256;
    void *bigger = realloc(*a, (size_t)more * size);
    if (!bigger) {
        pg_plan_fail(p, PG_EMEMORY, "no memory for the plan");
        return 0;
    }
    *a = bigger;
    *cap = more;
    return 1;
}

pg_ref pg_plan_value(pg_plan *p, int rows, int64_t width)
{
    if (width < 1 || width > INT32_MAX / 4) pg_plan_fail(p, PG_EUNSUPPORTED, "a value of the forward pass is too wide");
    if (p->rc < 0 || !grow(p, &p->value, p->code.n_value, &p->cap_value, sizeof *p->value)) return PG_NO_REF;
    p->value[p->code.n_value] = (pg_value){ .width = (int32_t)width, .rows = rows };
    return p->code.n_value++;
}

void pg_plan_keep(pg_plan *p, pg_ref r)
{
    if (r != PG_NO_REF) p->value[r].offset = -1; /* until the layout: outlives the step */
}

int pg_plan_width(const pg_plan *p, pg_ref r)
{
    return r == PG_NO_REF ? 1 : p->value[r].width;
}
int pg_plan_rows(const pg_plan *p, pg_ref r)
{
    return r == PG_NO_REF ? PG_ROWS_ALL : p->value[r].rows;
}

pg_op *pg_plan_emit(pg_plan *p, pg_opcode code, pg_ref dst, pg_ref a, pg_ref b)
{
    if (p->rc < 0 || !grow(p, &p->op, p->code.n_op, &p->cap_op, sizeof *p->op)) return NULL;
    pg_op *op = &p->op[p->code.n_op++];
    *op = (pg_op){ .code = code, .dst = dst, .src = { a, b } };
    return op;
}

int32_t pg_plan_stream(pg_plan *p, int64_t width)
{
    if (width < 1 || width > 1 << 20) pg_plan_fail(p, PG_EUNSUPPORTED, "a row of the KV cache is too wide");
    if (p->rc < 0 || !grow(p, &p->stream, p->n_stream, &p->cap_stream, sizeof *p->stream)) return 0;
    p->stream[p->n_stream] = (pg_kv_stream){ .width = (int32_t)width };
    return p->n_stream++;
}

void pg_plan_apart(pg_plan *p, int32_t first)
{
    if (p->rc < 0 || !grow(p, &p->span, p->n_span, &p->cap_span, sizeof *p->span)) return;
    p->span[p->n_span++] = (struct pg_span){ first, p->code.n_op - 1 };
}

/* ---- layout ---------------------------------------------------------------------------------------------------------- */

typedef struct life {
    pg_ref value;
    int32_t first, last; /* ops; last INT32_MAX: kept */
    int64_t bytes;
} life;

/* Memory is given away one op after the last one that reads it, so that a backend may run that op together with the
 * next. */
static void touch(life *lives, pg_ref r, int32_t first, int32_t last)
{
    if (r == PG_NO_REF) return;
    if (lives[r].first < 0) lives[r].first = first;
    if (lives[r].last <= last) lives[r].last = last + 1;
}

static life *find_lives(const pg_plan *p)
{
    life *lives = calloc((size_t)p->code.n_value + 1, sizeof *lives);
    if (!lives) return NULL;
    for (pg_ref r = 0; r < p->code.n_value; r++) {
        const int64_t rows = p->value[r].rows == PG_ROWS_ALL ? p->code.max_rows : p->code.max_sampled;
        lives[r] = (life){ .value = r, .first = -1, .last = p->value[r].offset < 0 ? INT32_MAX : -1 };
        lives[r].bytes = (rows * p->value[r].width * 4 + ALIGN - 1) / ALIGN * ALIGN;
    }
    for (int32_t i = 0, n = 0; i < p->code.n_op; i++) {
        while (n < p->n_span && p->span[n].last < i) n++;
        const int apart = n < p->n_span && p->span[n].first <= i;
        const int32_t first = apart ? p->span[n].first : i, last = apart ? p->span[n].last : i;
        touch(lives, p->op[i].dst, first, last);
        for (int s = 0; s < 2; s++) touch(lives, p->op[i].src[s], first, last);
    }
    return lives;
}

/* The lowest offset at which v overlaps no placed value that lives at the same time. Placed values are tried in order of
 * offset: placed[] is kept sorted. */
static int64_t first_fit(const pg_plan *p, const life *lives, const pg_ref *placed, int n, const life *v)
{
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        const life *o = &lives[placed[i]];
        if (o->last < v->first || o->first > v->last) continue;
        const int64_t begin = p->value[o->value].offset;
        if (begin >= at + v->bytes) break;
        if (begin + o->bytes > at) at = begin + o->bytes;
    }
    return at;
}

static void lay_out(pg_plan *p, const life *lives, pg_ref *placed)
{
    for (pg_ref r = 0; r < p->code.n_value; r++) { /* values are numbered in order of definition */
        const int64_t at = first_fit(p, lives, placed, r, &lives[r]);
        int i = r;
        for (; i > 0 && p->value[placed[i - 1]].offset > at; i--) placed[i] = placed[i - 1];
        placed[i] = r;
        p->value[r].offset = at;
        if (at + lives[r].bytes > p->code.arena_bytes) p->code.arena_bytes = at + lives[r].bytes;
    }
}

int pg_plan_finish(pg_plan *p, pg_error *err)
{
    life *lives = p->rc < 0 ? NULL : find_lives(p);
    pg_ref *placed = lives ? calloc((size_t)p->code.n_value + 1, sizeof *placed) : NULL;
    if (p->rc >= 0 && !placed) pg_plan_fail(p, PG_EMEMORY, "no memory for the plan");
    if (p->rc >= 0) lay_out(p, lives, placed);
    free(placed);
    free(lives);
    p->code.op = p->op;
    p->code.value = p->value;
    if (p->rc < 0 && err) *err = p->error;
    return p->rc;
}

void pg_plan_free(pg_plan *p)
{
    free(p->op);
    free(p->value);
    free(p->stream);
    free(p->span);
    free(p->pick);
    *p = (pg_plan){ 0 };
}
