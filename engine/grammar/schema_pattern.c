/* schema_pattern.c: regular expressions of JSON schema (ECMA 262, the part that describes regular languages) to GBNF, for
 * the inside of a JSON string: what a string must escape is written escaped.
 *
 * Characters, escapes, classes, groups, alternatives, repetitions, and ^ and $ at the ends of the whole or of its
 * alternatives. An end that is not tied down lets any characters stand there. */
#include "schema.h"
#include "../token/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NESTING = 60, MOST_RANGES = 400, MANY = 1 << 30 };

typedef struct pattern {
    pg_schema *s;
    const pg_where *at;
    const char *text, *c; /* the place that is read */
    int depth;
    bool counted;        /* the whole is one item between ^ and $, repeated: */
    pg_buf item;         /* that item */
    int64_t least, most; /* how often, MANY: without limit */
} pattern;

/* Characters that a piece can have. */
typedef struct span {
    int64_t least, most;
} span;

static int refuse(const pattern *p, const char *why)
{
    return pg_schema_refuse(p->s, PG_EUNSUPPORTED, p->at, "%s, at character %d of %.100s", why,
                            (int)(p->c - p->text) + 1, p->text);
}

static int64_t limited(int64_t n)
{
    return n < MANY ? n : MANY;
}

/* ---- classes ---------------------------------------------------------------------------------------------------------------- */

typedef struct set {
    pg_points range[MOST_RANGES];
    int n;
} set;

static int add(const pattern *p, set *c, uint32_t first, uint32_t last)
{
    if (c->n == MOST_RANGES) return refuse(p, "a class of too many ranges");
    c->range[c->n++] = (pg_points){ first, last };
    return 1;
}

static int compare(const void *a, const void *b)
{
    const pg_points *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

/* All that is not in it. */
static int invert(const pattern *p, set *c)
{
    set all = { .n = 0 };
    uint32_t next = 0;
    int rc = 1;
    if (c->n) qsort(c->range, (size_t)c->n, sizeof *c->range, compare);
    for (int i = 0; rc > 0 && i < c->n; i++) {
        if (c->range[i].first > next) rc = add(p, &all, next, c->range[i].first - 1);
        if (c->range[i].last + 1 > next) next = c->range[i].last + 1;
    }
    if (rc > 0 && next <= 0x10ffff) rc = add(p, &all, next, 0x10ffff);
    *c = all;
    return rc;
}

static bool has(const set *c, uint32_t point)
{
    for (int i = 0; i < c->n; i++)
        if (point >= c->range[i].first && point <= c->range[i].last) return true;
    return false;
}

/* \d \w \s and their opposites; 0: another letter. */
static int add_shorthand(const pattern *p, set *c, char letter)
{
    static const pg_points digit[] = { { '0', '9' } };
    static const pg_points word[] = { { '0', '9' }, { 'A', 'Z' }, { '_', '_' }, { 'a', 'z' } };
    static const pg_points space[] = { { 9, 13 },          { ' ', ' ' },       { 0xa0, 0xa0 },     { 0x1680, 0x1680 },
                                       { 0x2000, 0x200a }, { 0x2028, 0x2029 }, { 0x202f, 0x202f }, { 0x205f, 0x205f },
                                       { 0x3000, 0x3000 }, { 0xfeff, 0xfeff } };
    const char low = (char)(letter | 0x20);
    const pg_points *from = low == 'd' ? digit : low == 'w' ? word : low == 's' ? space : NULL;
    const int n = low == 'd' ? 1 : low == 'w' ? 4 : 10;
    set own = { .n = 0 };
    int rc = from ? 1 : 0;
    for (int i = 0; rc > 0 && i < n; i++) rc = add(p, &own, from[i].first, from[i].last);
    if (rc > 0 && letter != low) rc = invert(p, &own);
    for (int i = 0; rc > 0 && i < own.n; i++) rc = add(p, c, own.range[i].first, own.range[i].last);
    return rc;
}

static int put_point(const pattern *p, pg_buf *b, uint32_t c)
{
    return pg_schema_put(p->s, b, c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
}

/* Characters that a JSON string holds as they are. */
static int put_raw(const pattern *p, pg_buf *b, const set *c, bool *any)
{
    static const pg_points raw[] = { { 0x20, 0x21 }, { 0x23, 0x5b }, { 0x5d, 0xd7ff }, { 0xe000, 0x10ffff } };
    const size_t before = b->n;
    int rc = pg_schema_put(p->s, b, "[");
    const size_t begin = b->n;
    for (int i = 0; i < c->n; i++)
        for (int k = 0; rc > 0 && k < 4; k++) {
            const uint32_t first = c->range[i].first > raw[k].first ? c->range[i].first : raw[k].first;
            const uint32_t last = c->range[i].last < raw[k].last ? c->range[i].last : raw[k].last;
            if (first > last) continue;
            rc = put_point(p, b, first);
            if (rc > 0 && last > first) rc = pg_schema_put(p->s, b, "-");
            if (rc > 0 && last > first) rc = put_point(p, b, last);
        }
    *any = b->n > begin;
    if (!*any) b->n = before;
    return rc > 0 && *any ? pg_schema_put(p->s, b, "]") : rc;
}

/* One character of a set, as one item. */
static int put_set(const pattern *p, pg_buf *b, const set *c)
{
    static const char escaped[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    bool any = false, all = true;
    int rc = pg_schema_put(p->s, b, "("), controls = 0;
    if (rc > 0) rc = put_raw(p, b, c, &any);
    for (size_t i = 0; rc > 0 && escaped[i]; i++) {
        if (!has(c, (unsigned char)escaped[i])) continue;
        rc = pg_schema_put(p->s, b, "%s\"\\\\%s%c\"", any ? " | " : "", i < 2 ? "\\" : "", letter[i]);
        any = true;
    }
    for (uint32_t i = 0; i < 32; i++) {
        all &= has(c, i);
        controls += has(c, i);
    }
    if (rc > 0 && all) {
        rc = pg_schema_put(p->s, b, "%s\"\\\\u00\" [01] [0-9a-fA-F]", any ? " | " : "");
        any = true;
    }
    for (uint32_t i = 1; rc > 0 && !all && controls && i < 32; i++) {
        if (!has(c, i) || strchr("\b\f\n\r\t", (int)i)) continue;
        rc = pg_schema_put(p->s, b, "%s\"\\\\u%04x\"", any ? " | " : "", i);
        any = true;
    }
    if (rc > 0 && !any) return refuse(p, "a class that no character fits");
    return rc > 0 ? pg_schema_put(p->s, b, ")") : rc;
}

/* ---- reading --------------------------------------------------------------------------------------------------------------- */

static int read_hex(pattern *p, int digits, uint32_t *point)
{
    *point = 0;
    for (int i = 0; i < digits; i++) {
        const char c = *p->c;
        const int d = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
        if (d < 0) return refuse(p, "expected a hexadecimal digit");
        *point = *point << 4 | (uint32_t)d;
        p->c++;
    }
    return 1;
}

/* Behind a backslash: one character. */
static int read_escape(pattern *p, uint32_t *point)
{
    static const char from[] = "tnrfv0", to[] = "\t\n\r\f\v";
    const char c = *p->c;
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        p->c++;
        *point = (unsigned char)to[known - from];
        return 1;
    }
    if (c == 'x') return p->c++, read_hex(p, 2, point);
    if (c == 'u') {
        uint32_t low;
        p->c++;
        int rc = read_hex(p, 4, point);
        if (rc > 0 && *point >= 0xd800 && *point < 0xdc00 && p->c[0] == '\\' && p->c[1] == 'u') {
            p->c += 2;
            rc = read_hex(p, 4, &low);
            *point = 0x10000 + ((*point - 0xd800) << 10) + ((low - 0xdc00) & 0x3ff);
        }
        return rc > 0 && *point >= 0xd800 && *point < 0xe000 ? refuse(p, "half a character") : rc;
    }
    if (c >= '1' && c <= '9') return refuse(p, "references to groups are not supported");
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || !c) return refuse(p, "this escape is not supported");
    p->c += pg_utf8_read(p->c, strlen(p->c), point);
    return 1;
}

/* One character of a class, or a shorthand, which is added at once (*point = UINT32_MAX). */
static int read_member(pattern *p, set *c, uint32_t *point)
{
    if (!*p->c) return refuse(p, "a class without ]");
    if (*p->c != '\\') {
        p->c += pg_utf8_read(p->c, strlen(p->c), point);
        return 1;
    }
    p->c++;
    if (*p->c == 'b') return p->c++, *point = 8, 1;
    const int rc = *p->c ? add_shorthand(p, c, *p->c) : 0;
    if (rc == 0) return read_escape(p, point);
    p->c++;
    *point = UINT32_MAX;
    return rc;
}

static int read_class(pattern *p, pg_buf *b)
{
    set c = { .n = 0 };
    const bool negated = *++p->c == '^';
    p->c += negated;
    int rc = 1;
    while (rc > 0 && *p->c != ']') {
        uint32_t first, last;
        rc = read_member(p, &c, &first);
        if (rc <= 0 || first == UINT32_MAX) continue;
        last = first;
        if (p->c[0] == '-' && p->c[1] && p->c[1] != ']') {
            p->c++;
            rc = read_member(p, &c, &last);
            if (rc > 0 && (last == UINT32_MAX || last < first)) return refuse(p, "a range that ends before it begins");
        }
        if (rc > 0) rc = add(p, &c, first, last);
    }
    p->c += rc > 0;
    if (rc > 0 && negated) rc = invert(p, &c);
    return rc > 0 ? put_set(p, b, &c) : rc;
}

static int read_choice(pattern *p, pg_buf *b, span *length);

static int read_group(pattern *p, pg_buf *b, span *length)
{
    p->c++;
    if (*p->c == '?') {
        if (p->c[1] == ':')
            p->c += 2;
        else if (p->c[1] == '<' && p->c[2] != '=' && p->c[2] != '!' && strchr(p->c, '>'))
            p->c = strchr(p->c, '>') + 1;
        else
            return refuse(p, "looking ahead or behind is not supported");
    }
    if (++p->depth > NESTING) return refuse(p, "groups are nested too deep");
    int rc = pg_schema_put(p->s, b, "(");
    if (rc > 0) rc = read_choice(p, b, length);
    if (rc > 0 && *p->c != ')') return refuse(p, "a group without )");
    p->c += rc > 0;
    p->depth--;
    return rc > 0 ? pg_schema_put(p->s, b, ")") : rc;
}

static int read_atom(pattern *p, pg_buf *b, span *length)
{
    set c = { .n = 0 };
    uint32_t point = 0;
    int rc;
    *length = (span){ 1, 1 };
    switch (*p->c) {
    case '(': return read_group(p, b, length);
    case '[': return read_class(p, b);
    case '.':
        p->c++;
        rc = add(p, &c, '\n', '\n');
        if (rc > 0) rc = add(p, &c, '\r', '\r');
        if (rc > 0) rc = add(p, &c, 0x2028, 0x2029);
        if (rc > 0) rc = invert(p, &c);
        return rc > 0 ? put_set(p, b, &c) : rc;
    case '^':
    case '$': return refuse(p, "^ and $ are supported at the ends of the pattern only");
    case '*':
    case '+':
    case '?':
    case '{': return refuse(p, "there is nothing to repeat");
    case ']':
    case '}': return refuse(p, "it closes nothing");
    case '\\':
        p->c++;
        rc = *p->c ? add_shorthand(p, &c, *p->c) : 0;
        if (rc > 0) return p->c++, put_set(p, b, &c);
        if (rc == 0) rc = read_escape(p, &point);
        break;
    default: p->c += pg_utf8_read(p->c, strlen(p->c), &point); rc = 1;
    }
    if (rc > 0) rc = add(p, &c, point, point);
    return rc > 0 ? put_set(p, b, &c) : rc;
}

static int64_t read_number(pattern *p)
{
    int64_t n = 0;
    for (; *p->c >= '0' && *p->c <= '9'; p->c++)
        if (n < MANY) n = n * 10 + (*p->c - '0');
    return limited(n);
}

/* * + ? {m} {m,} {m,n}, each perhaps with a ? that changes nothing here. Once each when there is none. */
static int read_count(pattern *p, int64_t *least, int64_t *most)
{
    *least = *most = 1;
    const char c = *p->c;
    if (c == '*' || c == '+' || c == '?') {
        p->c++;
        *least = c == '+';
        *most = c == '?' ? 1 : MANY;
    } else if (c == '{') {
        p->c++;
        if (*p->c < '0' || *p->c > '9') return refuse(p, "expected a number");
        *least = *most = read_number(p);
        if (*p->c == ',') {
            p->c++;
            *most = *p->c >= '0' && *p->c <= '9' ? read_number(p) : MANY;
        }
        if (*p->c != '}' || *most < *least) return refuse(p, "{m}, {m,} or {m,n} with m <= n is expected");
        p->c++;
    } else {
        return 1;
    }
    if (*p->c == '?') p->c++;
    return strchr("*+?{", *p->c) && *p->c ? refuse(p, "there is nothing to repeat") : 1;
}

static int put_repeated(pattern *p, pg_buf *b, const pg_buf *item, int64_t least, int64_t most)
{
    if (least == 1 && most == 1) return pg_schema_put(p->s, b, " %.*s", (int)item->n, item->data);
    return pg_schema_repeat(p->s, b, item->data, least, most == MANY ? PG_SCHEMA_NO_LIMIT : most, p->at);
}

/* Items one after the other, up to | or ) or the end; $ before these at the outermost level. */
static int read_sequence(pattern *p, pg_buf *b, span *length, int *items)
{
    *length = (span){ 0, 0 };
    int rc = 1;
    for (*items = 0; rc > 0 && *p->c && *p->c != '|' && *p->c != ')'; ++*items) {
        if (*p->c == '$' && !p->depth && (!p->c[1] || p->c[1] == '|')) break;
        pg_buf item = { 0 };
        span one = { 0, 0 };
        int64_t least, most;
        rc = read_atom(p, &item, &one);
        if (rc > 0) rc = read_count(p, &least, &most);
        if (rc > 0) rc = put_repeated(p, b, &item, least, most);
        if (rc > 0) {
            length->least = limited(length->least + one.least * least);
            length->most = one.most && most ? limited(length->most + (one.most > MANY / most ? MANY : one.most * most))
                                            : length->most;
            if (!p->depth) {
                free(p->item.data);
                p->item = item;
                item = (pg_buf){ 0 };
                p->counted = one.least == 1 && one.most == 1;
                p->least = least;
                p->most = most;
            }
        }
        free(item.data);
    }
    return rc;
}

static int put_any(pattern *p, pg_buf *b)
{
    return pg_schema_put(p->s, b, " " PG_SCHEMA_CHAR "*");
}

static int read_choice(pattern *p, pg_buf *b, span *length)
{
    const bool outer = !p->depth;
    *length = (span){ MANY, 0 };
    bool counted = outer;
    for (int rc;;) {
        span one;
        int items;
        const bool tied = !outer || *p->c == '^';
        p->c += outer && *p->c == '^';
        rc = tied ? 1 : put_any(p, b);
        if (rc > 0) rc = read_sequence(p, b, &one, &items);
        if (rc <= 0) return rc;
        const bool closed = !outer || *p->c == '$';
        p->c += outer && *p->c == '$';
        if (!closed && (rc = put_any(p, b)) <= 0) return rc;
        if (!tied || !closed) one.most = MANY;
        if (one.least < length->least) length->least = one.least;
        if (one.most > length->most) length->most = one.most;
        counted = counted && tied && closed && items == 1;
        if (*p->c != '|') break;
        counted = false;
        p->c++;
        rc = pg_schema_put(p->s, b, " |");
        if (rc <= 0) return rc;
    }
    if (outer) p->counted = p->counted && counted;
    return 1;
}

int pg_schema_pattern(pg_schema *s, pg_buf *b, const char *text, int64_t least, int64_t most, const pg_where *at)
{
    pattern p = { .s = s, .at = at, .text = text, .c = text };
    pg_buf whole = { 0 };
    span length = { 0, 0 };
    int rc = read_choice(&p, &whole, &length);
    if (rc > 0 && *p.c) rc = refuse(&p, "it closes nothing");
    if (most < 0) most = MANY;
    if (rc > 0 && length.least >= least && length.most <= most) {
        rc = pg_schema_put(s, b, " (%.*s)", (int)whole.n, whole.n ? whole.data : "");
    } else if (rc > 0 && p.counted) {
        const int64_t low = p.least > least ? p.least : least, high = p.most < most ? p.most : most;
        rc = low > high ? pg_schema_nothing(s, at, "the pattern and the lengths exclude each other")
                        : put_repeated(&p, b, &p.item, low, high);
    } else if (rc > 0) {
        rc = length.least > most || length.most < least
                 ? pg_schema_nothing(s, at, "the pattern and the lengths exclude each other")
                 : pg_schema_refuse(s, PG_EUNSUPPORTED, at, "cannot be joined with minLength and maxLength");
    }
    free(whole.data);
    free(p.item.data);
    return rc;
}
