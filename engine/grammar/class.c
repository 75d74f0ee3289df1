/* class.c: character classes as automata over bytes.
 *
 * A node says for each of the 64 continuation bytes what comes next. Wherever all characters of a span belong, shared
 * nodes take any bytes, so a class needs new nodes only where its ranges begin and end. Overlong forms, surrogates and
 * what lies beyond U+10FFFF are in no class. */
#include "grammar.h"
#include "../token/buf.h"

#include <stdlib.h>
#include <string.h>

typedef struct builder {
    pg_grammar *g;
    const pg_points *range; /* [n] sorted, apart from each other */
    int n;
    pg_error *err;
} builder;

static int compare(const void *a, const void *b)
{
    const pg_points *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

/* Sort and join ranges; returns how many are left. */
static int join(pg_points *range, int n)
{
    int m = 0;
    if (n) qsort(range, (size_t)n, sizeof *range, compare);
    for (int i = 0; i < n; i++) {
        if (m && range[i].first <= range[m - 1].last + 1) {
            if (range[i].last > range[m - 1].last) range[m - 1].last = range[i].last;
        } else {
            range[m++] = range[i];
        }
    }
    return m;
}

/* All but the n ranges (joined), into out[n + 1]. */
static int invert(const pg_points *range, int n, pg_points *out)
{
    uint32_t next = 0;
    int m = 0;
    for (int i = 0; i < n; i++) {
        if (range[i].first > next) out[m++] = (pg_points){ next, range[i].first - 1 };
        next = range[i].last + 1;
    }
    if (next <= 0x10ffff) out[m++] = (pg_points){ next, 0x10ffff };
    return m;
}

/* Cut what is no character or lies outside of first..last; into out[n + 1]. */
static int cut(const pg_points *range, int n, pg_points keep, pg_points *out)
{
    int m = 0;
    for (int i = 0; i < n; i++) {
        const uint32_t first = range[i].first > keep.first ? range[i].first : keep.first;
        const uint32_t last = range[i].last < keep.last ? range[i].last : keep.last;
        if (first > last) continue;
        if (first < 0xd800) out[m++] = (pg_points){ first, last < 0xd7ff ? last : 0xd7ff };
        if (last > 0xdfff) out[m++] = (pg_points){ first > 0xe000 ? first : 0xe000, last };
    }
    return m;
}

/* How many of the span's characters belong. */
static uint32_t count_in(const builder *b, uint32_t base, uint32_t span)
{
    int low = 0, high = b->n;
    while (low < high) { /* the first range that ends at base or later */
        const int middle = (low + high) / 2;
        if (b->range[middle].last < base)
            low = middle + 1;
        else
            high = middle;
    }
    uint32_t sum = 0;
    for (; low < b->n && b->range[low].first < base + span; low++) {
        const uint32_t first = b->range[low].first > base ? b->range[low].first : base;
        const uint32_t end = b->range[low].last < base + span - 1 ? b->range[low].last + 1 : base + span;
        sum += end - first;
    }
    return sum;
}

/* The index of a node like this one, made if there is none. */
static int intern(builder *b, const pg_class_node *node)
{
    pg_grammar *g = b->g;
    for (int32_t i = g->n_node;
         i-- > 1 && i + 512 > g->n_node;) /* near the end: classes of one grammar are much alike */
        if (!memcmp(&g->node[i], node, sizeof *node)) return i;
    if (g->n_node >= PG_GRAMMAR_MAX_NODES)
        return pg_fail(b->err, PG_ELIMIT, "the grammar's character classes are too large");
    void *data = g->node;
    const bool fine = pg_grow(&data, (size_t)g->n_node, &g->node_room, 2, sizeof *g->node);
    g->node = data;
    if (!fine) return pg_fail(b->err, PG_EMEMORY, "not enough memory for a grammar");
    if (g->n_node == 0) memset(&g->node[g->n_node++], 0xff, sizeof *g->node);
    g->node[g->n_node] = *node;
    return g->n_node++;
}

/* Where the bytes lead that `more` continuation bytes follow, for the characters from base on; < -1: PG_E*. */
static int lead_to(builder *b, uint32_t base, int more)
{
    const uint32_t span = 1u << 6 * more, in = count_in(b, base, span);
    if (in == 0) return PG_CLASS_NO;
    if (more == 0) return PG_CLASS_DONE;
    if (in == span && b->g->full[more]) return b->g->full[more];
    pg_class_node node;
    for (int i = 0; i < 64; i++) {
        const int child = lead_to(b, base + (uint32_t)i * (span >> 6), more - 1);
        if (child < PG_CLASS_NO) return child;
        node.child[i] = (int16_t)child;
    }
    const int at = intern(b, &node);
    if (at > 0 && in == span) b->g->full[more] = (int16_t)at;
    return at > 0 ? at
                  : at - 1; /* PG_E* are below 0; -1 is PG_EINVAL's and PG_CLASS_NO's, and no failure here is one */
}

/* First bytes of characters of one length: `low` bits of the lead belong to the character. */
static int fill(builder *b, pg_class *c, int lead, int low, int more)
{
    for (int i = 0; i < 1 << low; i++) {
        const int to = lead + i > 0xf4 ? PG_CLASS_NO : lead_to(b, (uint32_t)i << 6 * more, more);
        if (to < PG_CLASS_NO) return to + 1;
        c->start[lead + i] = (int16_t)to;
    }
    return PG_OK;
}

static int add_class(pg_grammar *g, const pg_class *c, pg_error *err)
{
    for (int32_t i = 0; i < g->n_class; i++)
        if (!memcmp(&g->class[i], c, sizeof *c)) return i;
    if (g->n_class >= PG_GRAMMAR_MAX_CLASSES)
        return pg_fail(err, PG_ELIMIT, "the grammar has more than %d character classes", PG_GRAMMAR_MAX_CLASSES);
    void *data = g->class;
    const bool fine = pg_grow(&data, (size_t)g->n_class, &g->class_room, 1, sizeof *g->class);
    g->class = data;
    if (!fine) return pg_fail(err, PG_EMEMORY, "not enough memory for a grammar");
    g->class[g->n_class] = *c;
    return g->n_class++;
}

int pg_class_add(pg_grammar *g, pg_points *range, int n, bool negated, pg_error *err)
{
    static const struct {
        int lead, low, more;
        pg_points keep;
    } length[] = { { 0x00, 7, 0, { 0, 0x7f } },
                   { 0xc0, 5, 1, { 0x80, 0x7ff } },
                   { 0xe0, 4, 2, { 0x800, 0xffff } },
                   { 0xf0, 3, 3, { 0x10000, 0x10ffff } } };
    pg_points *all = malloc(((size_t)n + 2) * 2 * sizeof *all);
    if (!all) return pg_fail(err, PG_EMEMORY, "not enough memory for a grammar");
    n = join(range, n);
    pg_points *mine = all + n + 2;
    if (negated)
        n = invert(range, n, all);
    else if (n)
        memcpy(all, range, (size_t)n * sizeof *range);
    pg_class c;
    memset(&c, 0xff, sizeof c);
    c.n_point = 0;
    int rc = PG_OK;
    for (int i = 0; rc >= 0 && i < 4; i++) {
        builder b = { .g = g, .range = mine, .n = cut(all, n, length[i].keep, mine), .err = err };
        for (int j = 0; j < b.n; j++) c.n_point += (int32_t)(mine[j].last - mine[j].first + 1);
        rc = fill(&b, &c, length[i].lead, length[i].low, length[i].more);
    }
    free(all);
    return rc < 0 ? rc : add_class(g, &c, err);
}

/* ---- kinds of bytes ---------------------------------------------------------------------------------------------------- */

static void mix(uint64_t *h, int value)
{
    *h = (*h ^ (uint64_t)(value + 2)) * 0x9e3779b97f4a7c15ull;
    *h ^= *h >> 29;
}

void pg_class_kinds(pg_grammar *g)
{
    uint64_t sign[256] = { 0 };
    bool literal[256] = { false };
    for (int32_t i = 0; i < g->n_step; i++)
        if (g->step[i].op == PG_INST_BYTE) literal[g->step[i].a] = true;
    for (int b = 0; b < 256; b++) {
        mix(&sign[b], literal[b] ? b + 1 : 0);
        for (int32_t i = 0; i < g->n_class; i++) mix(&sign[b], g->class[i].start[b]);
        for (int32_t i = 1; i < g->n_node; i++) mix(&sign[b], b >> 6 == 2 ? g->node[i].child[b & 63] : -2);
    }
    g->n_kind = 0;
    for (int b = 0; b < 256; b++) {
        int k = 0;
        while (k < g->n_kind && sign[g->kind_byte[k]] != sign[b]) k++;
        if (k == g->n_kind) g->kind_byte[g->n_kind++] = (uint8_t)b;
        g->byte_kind[b] = (uint8_t)k;
    }
}
