/* schema_write.c: GBNF as it is written: rules, literals, repetitions; and the words of a refusal. */
#include "schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- words ---------------------------------------------------------------------------------------------------------------- */

static void name_place(const pg_where *at, char *text, size_t n)
{
    const pg_where *path[PG_SCHEMA_NESTING * 3];
    size_t depth = 0, used = 1;
    for (; at && at->parent && depth < sizeof path / sizeof *path; at = at->parent) path[depth++] = at;
    snprintf(text, n, "#");
    while (depth-- > 0 && used < n) {
        const int more = path[depth]->key ? snprintf(text + used, n - used, "/%.60s", path[depth]->key)
                                          : snprintf(text + used, n - used, "/%zu", path[depth]->index);
        used += more > 0 ? (size_t)more : 0;
    }
}

int pg_schema_refuse(pg_schema *s, int code, const pg_where *at, const char *format, ...)
{
    char place[200], words[300];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    name_place(at, place, sizeof place);
    return pg_fail(s->err, code, "JSON schema: %s: %s", place, words);
}

int pg_schema_nothing(pg_schema *s, const pg_where *at, const char *why)
{
    char place[200];
    name_place(at, place, sizeof place);
    snprintf(s->why, sizeof s->why, "%s: %s", place, why);
    return 0;
}

static int no_memory(pg_schema *s)
{
    return pg_fail(s->err, PG_EMEMORY, "not enough memory for a grammar");
}

int pg_schema_put(pg_schema *s, pg_buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    const bool fine = n >= 0 && pg_buf_room(b, (size_t)n + 1);
    if (fine) b->n += (size_t)vsnprintf(b->data + b->n, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    if (!fine) return no_memory(s);
    if (b->n > PG_GRAMMAR_MAX_TEXT) return pg_fail(s->err, PG_ELIMIT, "JSON schema: its grammar would be too large");
    return 1;
}

/* ---- rules ---------------------------------------------------------------------------------------------------------------- */

int pg_schema_number_rule(pg_schema *s, const pg_where *at)
{
    if (s->n_rule >= PG_SCHEMA_RULES) return pg_schema_refuse(s, PG_ELIMIT, at, "more than %d rules", PG_SCHEMA_RULES);
    return s->n_rule++;
}

int pg_schema_finish_rule(pg_schema *s, int rule, const pg_buf *body, const pg_where *at)
{
    const int rc =
        pg_schema_put(s, &s->out, "r%d ::= %.*s\n", rule, body->n ? (int)body->n : 2, body->n ? body->data : "\"\"");
    if (rc == PG_ELIMIT) return pg_schema_refuse(s, PG_ELIMIT, at, "the grammar would be too large");
    return rc;
}

int pg_schema_rule(pg_schema *s, const pg_buf *body, const pg_where *at)
{
    const int rule = pg_schema_number_rule(s, at);
    if (rule < 0) return rule;
    const int rc = pg_schema_finish_rule(s, rule, body, at);
    return rc < 0 ? rc : rule;
}

int pg_schema_literal(pg_schema *s, pg_buf *b, const char *text, size_t n)
{
    int rc = pg_schema_put(s, b, "\"");
    for (size_t i = 0; rc > 0 && i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            rc = pg_schema_put(s, b, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            rc = pg_schema_put(s, b, "\\x%02x", c);
        else
            rc = pg_schema_put(s, b, "%c", c);
    }
    return rc > 0 ? pg_schema_put(s, b, "\"") : rc;
}

enum { PIECE = PG_GRAMMAR_MAX_REPEAT };

/* Up to `most` times, where one repetition does not hold as many: each piece is full before the next begins. */
static int repeat_pieces(pg_schema *s, pg_buf *b, const char *item, int64_t most, const pg_where *at)
{
    int rest = -1;
    for (int64_t left = most % PIECE ? most % PIECE : PIECE; left <= most; left += PIECE) {
        pg_buf body = { 0 };
        int rc = rest < 0 ? pg_schema_put(s, &body, "%s{0,%d}", item, (int)left)
                          : pg_schema_put(s, &body, "%s{0,%d} | %s{%d} r%d", item, PIECE - 1, item, PIECE, rest);
        if (rc > 0) rc = rest = pg_schema_rule(s, &body, at);
        free(body.data);
        if (rc < 0) return rc;
    }
    return pg_schema_put(s, b, " r%d", rest);
}

int pg_schema_repeat(pg_schema *s, pg_buf *b, const char *item, int64_t least, int64_t most, const pg_where *at)
{
    if (least > PG_SCHEMA_COUNT || most > PG_SCHEMA_COUNT)
        return pg_schema_refuse(s, PG_EUNSUPPORTED, at, "lengths and counts may be %d at most", PG_SCHEMA_COUNT);
    int rc = pg_schema_put(s, b, " ");
    if (most == 0) return rc;
    if (most != PG_SCHEMA_NO_LIMIT && most <= PIECE)
        return pg_schema_put(s, b, "%s{%d,%d}", item, (int)least, (int)most);
    for (int64_t n = least; rc > 0 && n > 0; n -= PIECE)
        rc = pg_schema_put(s, b, "%s{%d} ", item, (int)(n < PIECE ? n : PIECE));
    if (rc <= 0 || most == least) return rc;
    if (most == PG_SCHEMA_NO_LIMIT) return pg_schema_put(s, b, "%s*", item);
    if (most - least <= PIECE) return pg_schema_put(s, b, "%s{0,%d}", item, (int)(most - least));
    return repeat_pieces(s, b, item, most - least, at);
}
