/* gbnf.c: GBNF text to steps, in one walk over the text.
 *
 * Steps lead to others by relative distances, so an item that turns out to be repeated is moved as it stands to make
 * room for the step that repeats it. Groups are parsed by recursion, as deep as PG_GRAMMAR_MAX_NESTING. What the rules
 * mean together is verify.c's affair.
 * Source of the format: GBNF of the llama.cpp project. */
#include "grammar.h"
#include "../token/buf.h"
#include "../token/utf8.h"

#include <stdlib.h>
#include <string.h>

typedef struct parser {
    pg_grammar *g;
    const char *s;
    size_t n, at;
    int depth;
    int32_t *slot; /* hash of the rules' names: rule or -1 */
    uint32_t mask;
    pg_points *range; /* of the class that is being read */
    size_t n_range, range_room;
    pg_error *err;
} parser;

pg_place pg_gbnf_place(const pg_grammar *g, size_t at)
{
    pg_place p = { 1, 1 };
    for (size_t i = 0; i < at && i < g->n_text; i++) {
        if (g->text[i] == '\n') {
            p.line++;
            p.column = 1;
        } else {
            p.column += ((unsigned char)g->text[i] & 0xc0) != 0x80;
        }
    }
    return p;
}

static int refuse_at(parser *p, size_t at, const char *why)
{
    const pg_place where = pg_gbnf_place(p->g, at);
    return pg_fail(p->err, PG_EINVAL, "grammar: line %d, column %d: %s", where.line, where.column, why);
}

static int refuse(parser *p, const char *why)
{
    return refuse_at(p, p->at, why);
}

static int no_memory(parser *p)
{
    return pg_fail(p->err, PG_EMEMORY, "not enough memory for a grammar");
}

static char peek(const parser *p)
{
    return p->at < p->n ? p->s[p->at] : 0;
}

/* ---- steps ------------------------------------------------------------------------------------------------------------ */

/* Put a step before the one at `at`; those from there on move up. */
static int insert(parser *p, int32_t at, pg_inst step)
{
    pg_grammar *g = p->g;
    if (g->n_step >= PG_GRAMMAR_MAX_STEPS)
        return pg_fail(p->err, PG_ELIMIT, "the grammar is too large: more than %d steps", PG_GRAMMAR_MAX_STEPS);
    void *data = g->step;
    const bool fine = pg_grow(&data, (size_t)g->n_step, &g->step_room, 1, sizeof *g->step);
    g->step = data;
    if (!fine) return no_memory(p);
    memmove(g->step + at + 1, g->step + at, (size_t)(g->n_step - at) * sizeof *g->step);
    g->step[at] = step;
    g->n_step++;
    return PG_OK;
}

static int add(parser *p, pg_inst_op op, int32_t a)
{
    return insert(p, p->g->n_step, (pg_inst){ op, a, 0, 0 });
}

/* The steps from `first` on become at least `least` and at most `most` (< 0: no limit) of themselves. */
static int repeat(parser *p, int32_t first, int32_t least, int32_t most)
{
    pg_grammar *g = p->g;
    const int32_t n = g->n_step - first;
    int rc = PG_OK;
    if (most == 0) {
        g->n_step = first;
    } else if (least == 0 && most == 1) {
        rc = insert(p, first, (pg_inst){ PG_INST_SPLIT, 1, n + 1, 0 });
    } else if (least == 0 && most < 0) {
        rc = insert(p, first, (pg_inst){ PG_INST_SPLIT, 1, n + 2, 0 });
        if (rc >= 0) rc = add(p, PG_INST_JUMP, -(n + 1));
    } else if (least == 1 && most < 0) {
        rc = insert(p, g->n_step, (pg_inst){ PG_INST_SPLIT, -n, 1, 0 });
    } else if (least != 1 || most != 1) {
        rc = insert(p, first, (pg_inst){ PG_INST_REPEAT, least, most, n + 2 });
        if (rc >= 0) rc = add(p, PG_INST_RETURN, 0);
    }
    return rc;
}

/* ---- names -------------------------------------------------------------------------------------------------------------- */

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
}

static uint32_t hash(const char *s, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h ^ h >> 15;
}

/* The rule of a name that begins at `at`, made if there was none. */
static int32_t rule_of(parser *p, size_t at, size_t n)
{
    pg_grammar *g = p->g;
    uint32_t i = hash(p->s + at, n) & p->mask;
    for (; p->slot[i] >= 0; i = (i + 1) & p->mask) {
        const pg_rule *r = &g->rule[p->slot[i]];
        if (r->n_name == n && !memcmp(p->s + r->name, p->s + at, n)) return p->slot[i];
    }
    if (g->n_rule >= PG_GRAMMAR_MAX_RULES)
        return pg_fail(p->err, PG_ELIMIT, "the grammar has more than %d rules", PG_GRAMMAR_MAX_RULES);
    void *data = g->rule;
    const bool fine = pg_grow(&data, (size_t)g->n_rule, &g->rule_room, 1, sizeof *g->rule);
    g->rule = data;
    if (!fine) return no_memory(p);
    g->rule[g->n_rule] = (pg_rule){ .name = at, .n_name = n, .start = -1, .used = at };
    return p->slot[i] = g->n_rule++;
}

static int32_t read_name(parser *p)
{
    const size_t at = p->at;
    while (is_name(peek(p))) p->at++;
    if (peek(p) == '_') return refuse(p, "names of rules use letters, digits and - only");
    if (p->at == at) return refuse(p, "expected the name of a rule");
    return rule_of(p, at, p->at - at);
}

static void skip_space(parser *p, bool lines)
{
    for (;; p->at++) {
        const char c = peek(p);
        if (c == '#')
            while (p->at < p->n && peek(p) != '\n' && peek(p) != '\r') p->at++;
        const char d = peek(p);
        if (p->at >= p->n || !(d == ' ' || d == '\t' || (lines && (d == '\n' || d == '\r')))) return;
    }
}

/* ---- characters ------------------------------------------------------------------------------------------------------------ */

static int hex(parser *p, int digits, uint32_t *point)
{
    *point = 0;
    for (int i = 0; i < digits; i++, p->at++) {
        const char c = peek(p);
        const int d = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
        if (d < 0) return refuse(p, "expected a hexadecimal digit: \\x takes two, \\u four, \\U eight");
        *point = *point << 4 | (uint32_t)d;
    }
    if (*point > 0x10ffff || (*point >= 0xd800 && *point <= 0xdfff)) return refuse(p, "no character has this number");
    return PG_OK;
}

/* One character of a literal or class, escapes resolved. */
static int read_point(parser *p, uint32_t *point)
{
    const size_t at = p->at;
    if (peek(p) != '\\') {
        p->at += pg_utf8_read(p->s + p->at, p->n - p->at, point);
        return PG_OK;
    }
    p->at++;
    const char c = peek(p);
    p->at += p->at < p->n;
    switch (c) {
    case 'x': return hex(p, 2, point);
    case 'u': return hex(p, 4, point);
    case 'U': return hex(p, 8, point);
    case 'n': *point = '\n'; return PG_OK;
    case 'r': *point = '\r'; return PG_OK;
    case 't': *point = '\t'; return PG_OK;
    case '\\':
    case '"':
    case '[':
    case ']':
    case '-':
    case '^': *point = (uint32_t)c; return PG_OK;
    default:
        return refuse_at(p, at, "unknown escape: expected \\n \\r \\t \\\\ \\\" \\[ \\] \\xHH \\uHHHH \\UHHHHHHHH");
    }
}

static int read_literal(parser *p)
{
    const size_t open = p->at++;
    int rc = PG_OK;
    while (rc >= 0 && peek(p) != '"') {
        uint32_t point;
        char byte[4];
        if (p->at >= p->n) return refuse_at(p, open, "the literal that begins here has no closing \"");
        rc = read_point(p, &point);
        const size_t n = rc < 0 ? 0 : pg_utf8_write(byte, point);
        for (size_t i = 0; rc >= 0 && i < n; i++) rc = add(p, PG_INST_BYTE, (unsigned char)byte[i]);
    }
    p->at++;
    return rc;
}

static int add_range(parser *p, uint32_t first, uint32_t last)
{
    void *data = p->range;
    const bool fine = pg_grow(&data, p->n_range, &p->range_room, 1, sizeof *p->range);
    p->range = data;
    if (!fine) return no_memory(p);
    p->range[p->n_range++] = (pg_points){ first, last };
    return PG_OK;
}

static int add_class(parser *p, bool negated)
{
    const int class = pg_class_add(p->g, p->range, (int)p->n_range, negated, p->err);
    return class < 0 ? class : add(p, PG_INST_CLASS, class);
}

static int read_class(parser *p)
{
    const size_t open = p->at++;
    const bool negated = peek(p) == '^';
    p->at += negated;
    p->n_range = 0;
    int rc = PG_OK;
    while (rc >= 0 && peek(p) != ']') {
        uint32_t first, last;
        if (p->at >= p->n) return refuse_at(p, open, "the character class that begins here has no closing ]");
        rc = read_point(p, &first);
        last = first;
        if (rc >= 0 && peek(p) == '-' && p->at + 1 < p->n && p->s[p->at + 1] != ']') {
            p->at++;
            rc = read_point(p, &last);
            if (rc >= 0 && last < first) return refuse(p, "this range of characters ends before it begins");
        }
        if (rc >= 0) rc = add_range(p, first, last);
    }
    if (rc < 0) return rc;
    p->at++;
    if (!p->n_range && !negated) return refuse_at(p, open, "an empty character class matches nothing");
    return add_class(p, negated);
}

/* <[id]> or <text>, with or without a ! before it. */
static int read_token(parser *p)
{
    pg_grammar *g = p->g;
    pg_token_item item = { .id = -1, .negated = peek(p) == '!' };
    p->at += item.negated;
    const size_t open = p->at;
    if (peek(p) != '<') return refuse(p, "expected <[id]> or <text> after !");
    if (p->at + 1 < p->n && p->s[p->at + 1] == '[') {
        int64_t id = 0;
        for (p->at += 2; peek(p) >= '0' && peek(p) <= '9' && id <= INT32_MAX; p->at++) id = id * 10 + (peek(p) - '0');
        if (p->at == open + 2 || id > INT32_MAX || p->n - p->at < 2 || memcmp(p->s + p->at, "]>", 2) != 0)
            return refuse_at(p, open, "a token is written <[id]> with a decimal id, or <text>");
        item.id = (int32_t)id;
        p->at += 2;
    } else {
        while (p->at < p->n && peek(p) != '>' && peek(p) != '\n') p->at++;
        if (peek(p) != '>') return refuse_at(p, open, "the token that begins here has no closing >");
        p->at++;
        item.text = open;
        item.n_text = p->at - open;
    }
    void *data = g->item;
    const bool fine = pg_grow(&data, (size_t)g->n_item, &g->item_room, 1, sizeof *g->item);
    g->item = data;
    if (!fine) return no_memory(p);
    g->item[g->n_item] = item;
    return add(p, PG_INST_TOKEN, g->n_item++);
}

/* ---- rules -------------------------------------------------------------------------------------------------------------- */

static int read_number(parser *p, int32_t *number)
{
    const size_t at = p->at;
    int32_t n = 0;
    for (; peek(p) >= '0' && peek(p) <= '9'; p->at++)
        if (n <= PG_GRAMMAR_MAX_REPEAT) n = n * 10 + (peek(p) - '0');
    if (p->at == at) return refuse(p, "expected a number: {m}, {m,} or {m,n}");
    if (n > PG_GRAMMAR_MAX_REPEAT) return refuse_at(p, at, "a repetition count may be 2000 at most");
    *number = n;
    return PG_OK;
}

/* {m}, {m,}, {m,n} */
static int read_bounds(parser *p, int32_t first)
{
    const size_t open = p->at++;
    int32_t least = 0, most;
    skip_space(p, false);
    int rc = read_number(p, &least);
    if (rc < 0) return rc;
    most = least;
    skip_space(p, false);
    if (peek(p) == ',') {
        p->at++;
        skip_space(p, false);
        most = -1;
        if (peek(p) != '}' && p->at < p->n && (rc = read_number(p, &most)) < 0) return rc;
        skip_space(p, false);
    }
    if (peek(p) != '}') return refuse_at(p, open, "the repetition that begins here has no closing }");
    p->at++;
    if (most >= 0 && most < least)
        return refuse_at(p, open, "the upper bound of this repetition is below the lower one");
    return repeat(p, first, least, most);
}

static int read_repeats(parser *p, int32_t first)
{
    for (int rc;;) {
        skip_space(p, p->depth > 0);
        const char c = peek(p);
        if (c == '*' || c == '+' || c == '?') {
            p->at++;
            rc = repeat(p, first, c == '+', c == '?' ? 1 : -1);
        } else if (c == '{') {
            rc = read_bounds(p, first);
        } else {
            return PG_OK;
        }
        if (rc < 0) return rc;
    }
}

static int read_choice(parser *p);

static int read_group(parser *p)
{
    const size_t open = p->at++;
    if (++p->depth > PG_GRAMMAR_MAX_NESTING)
        return pg_fail(p->err, PG_ELIMIT, "grammar: groups are nested deeper than %d", PG_GRAMMAR_MAX_NESTING);
    skip_space(p, true);
    const int rc = read_choice(p);
    if (rc < 0) return rc;
    if (peek(p) != ')') return refuse_at(p, open, "the group that begins here has no closing )");
    p->at++;
    p->depth--;
    return PG_OK;
}

/* One item with what repeats it: 1; 0 when there is none here. */
static int read_item(parser *p)
{
    const int32_t first = p->g->n_step;
    const char c = peek(p);
    int rc;
    if (c == '"') {
        rc = read_literal(p);
    } else if (c == '[') {
        rc = read_class(p);
    } else if (c == '.') {
        p->at++;
        p->n_range = 0;
        rc = add_class(p, true);
    } else if (c == '(') {
        rc = read_group(p);
    } else if (c == '<' || c == '!') {
        rc = read_token(p);
    } else if (is_name(c)) {
        rc = read_name(p);
        if (rc >= 0) rc = add(p, PG_INST_CALL, rc);
    } else if (c == '*' || c == '+' || c == '?' || c == '{') {
        return refuse(p, "there is nothing to repeat here");
    } else {
        return 0;
    }
    if (rc >= 0) rc = read_repeats(p, first);
    return rc < 0 ? rc : 1;
}

/* a b | c | : each branch but the last begins with a split and ends with a jump behind the last. The jumps' places are
 * chained through their distances until the end is known. */
static int read_choice(parser *p)
{
    pg_grammar *g = p->g;
    int32_t jump = -1;
    for (;;) {
        const int32_t first = g->n_step;
        int rc;
        do rc = read_item(p);
        while (rc > 0);
        if (rc < 0) return rc;
        if (peek(p) != '|' || p->at >= p->n) break;
        p->at++;
        skip_space(p, true);
        rc = insert(p, first, (pg_inst){ PG_INST_SPLIT, 1, g->n_step - first + 2, 0 });
        if (rc >= 0) rc = add(p, PG_INST_JUMP, jump);
        if (rc < 0) return rc;
        jump = g->n_step - 1;
    }
    while (jump >= 0) {
        const int32_t before = g->step[jump].a;
        g->step[jump].a = g->n_step - jump;
        jump = before;
    }
    return PG_OK;
}

static int read_rule(parser *p)
{
    pg_grammar *g = p->g;
    const size_t at = p->at;
    const int32_t rule = read_name(p);
    if (rule < 0) return rule;
    skip_space(p, false);
    if (p->n - p->at < 3 || memcmp(p->s + p->at, "::=", 3) != 0)
        return refuse(p, "expected ::= after the name of a rule");
    if (g->rule[rule].start >= 0) return refuse_at(p, at, "this rule is defined already");
    p->at += 3;
    skip_space(p, true);
    g->rule[rule].start = g->n_step;
    int rc = read_choice(p);
    if (rc >= 0) rc = add(p, PG_INST_RETURN, 0);
    if (rc < 0) return rc;
    skip_space(p, false);
    const char c = peek(p);
    if (p->at >= p->n || c == '\n' || c == '\r') return PG_OK;
    return refuse(p, c == ')' ? "this ) closes nothing" : "expected an item of the rule, or a new line");
}

int pg_gbnf_parse(pg_grammar *g, pg_error *err)
{
    parser p = { .g = g, .s = g->text, .n = g->n_text, .err = err, .mask = 2 * PG_GRAMMAR_MAX_RULES - 1 };
    if (p.n > PG_GRAMMAR_MAX_TEXT)
        return pg_fail(err, PG_ELIMIT, "the grammar has %zu bytes: at most %d", p.n, PG_GRAMMAR_MAX_TEXT);
    const size_t bad = pg_utf8_bad(p.s, p.n);
    if (bad < p.n) return refuse_at(&p, bad, "this is not UTF-8");
    p.slot = malloc((p.mask + (size_t)1) * sizeof *p.slot);
    if (!p.slot) return no_memory(&p);
    memset(p.slot, 0xff, (p.mask + (size_t)1) * sizeof *p.slot);
    int rc = PG_OK;
    for (skip_space(&p, true); rc >= 0 && p.at < p.n; skip_space(&p, true)) rc = read_rule(&p);
    const int32_t n_rule = g->n_rule;
    if (rc >= 0) {
        size_t at = 0;
        while (at + 4 <= p.n && memcmp(p.s + at, "root", 4) != 0) at++;
        g->root = at + 4 <= p.n ? rule_of(&p, at, 4) : -1;
        if (g->root < 0 || g->root >= n_rule || g->rule[g->root].start < 0)
            rc = pg_fail(err, PG_EINVAL, "the grammar has no rule root, which is where it begins");
    }
    free(p.slot);
    free(p.range);
    return rc;
}
