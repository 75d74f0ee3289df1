/* grammar.c: the public face of grammars: open, count references, print, check a text. */
#include "match.h"

#include <stdlib.h>
#include <string.h>

static void free_grammar(pg_grammar *g)
{
    if (!g) return;
    pg_matcher_close(atomic_load(&g->spare));
    free(g->text);
    free(g->step);
    free(g->rule);
    free(g->class);
    free(g->node);
    free(g->item);
    free(g);
}

pg_grammar *pg_grammar_take(pg_grammar *g)
{
    if (g) atomic_fetch_add(&g->refs, 1);
    return g;
}

void pg_grammar_drop(pg_grammar *g)
{
    if (g && atomic_fetch_sub(&g->refs, 1) == 1) free_grammar(g);
}

/* Takes the text, also when it fails. */
static int open_text(char *text, size_t n, bool prune, pg_grammar **out, pg_error *err)
{
    pg_grammar *g = calloc(1, sizeof *g);
    if (!g) {
        free(text);
        return pg_fail(err, PG_EMEMORY, "not enough memory for a grammar");
    }
    atomic_init(&g->refs, 1);
    g->text = text;
    g->n_text = n;
    int rc = pg_gbnf_parse(g, err);
    if (rc >= 0) rc = pg_grammar_verify(g, prune, err);
    if (rc < 0) {
        free_grammar(g);
        return rc;
    }
    pg_class_kinds(g);
    *out = g;
    return PG_OK;
}

int pg_grammar_open_gbnf(const char *text, size_t n, pg_grammar **out, pg_error *err)
{
    if (!text || !out) return pg_fail(err, PG_EINVAL, "pg_grammar_open_gbnf needs a text and a place for the grammar");
    char *copy = malloc(n + 1);
    if (!copy) return pg_fail(err, PG_EMEMORY, "not enough memory for a grammar");
    memcpy(copy, text, n);
    copy[n] = 0;
    return open_text(copy, n, false, out, err);
}

int pg_grammar_open_schema(const char *json, size_t n, pg_grammar **out, pg_error *err)
{
    if (!json || !out)
        return pg_fail(err, PG_EINVAL, "pg_grammar_open_schema needs a text and a place for the grammar");
    pg_error why = { 0 };
    char *text = pg_schema_to_gbnf(json, n, &why);
    int rc = why.code;
    if (text && (rc = open_text(text, strlen(text), true, out, &why)) < 0) pg_fail_at(&why, rc, "JSON schema");
    if (rc < 0 && err) *err = why;
    return rc;
}

const char *pg_grammar_text(pg_grammar *g)
{
    return g ? g->text : NULL;
}

int pg_grammar_check(pg_grammar *g, const char *text, size_t n, pg_error *err)
{
    if (!g || (!text && n)) return pg_fail(err, PG_EINVAL, "pg_grammar_check needs a grammar and a text");
    if (g->n_item)
        return pg_fail(err, PG_EUNSUPPORTED, "the grammar names tokens, and a text alone does not tell its tokens");
    pg_matcher *m = atomic_exchange(&g->spare, NULL);
    if (!m) m = pg_matcher_open(g, 0, err);
    if (!m) return err ? err->code : PG_EMEMORY;
    int32_t config = m->start;
    for (size_t i = 0; i < n && config > 0; i++) {
        const int kind = g->byte_kind[(unsigned char)text[i]];
        int32_t next = pg_matcher_step(m, config, kind);
        if (next == PG_MATCH_FULL) next = pg_matcher_step(m, pg_matcher_compact(m, config), kind);
        config = next;
    }
    int rc = config == PG_MATCH_DEAD ? PG_GRAMMAR_DEAD : PG_GRAMMAR_ALIVE;
    if (config > 0 && pg_matcher_is_end(m, config)) rc = PG_GRAMMAR_COMPLETE;
    if (config < 0)
        rc = pg_fail(err, PG_ELIMIT, "the text fits in more ways than can be followed, or is nested too deep");
    if (m->start > 0) m = atomic_exchange(&g->spare, m);
    pg_matcher_close(m);
    return rc;
}
