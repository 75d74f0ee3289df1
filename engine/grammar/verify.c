/* verify.c: what the rules of a grammar mean together.
 *
 * Refused are rules that are used but not defined and rules that begin with themselves, also where what stands before
 * may be empty: running them would never end. Whether steps can pass without a character, and whether they can come to
 * an end at all, follows from the same kind of rules ("this can if both of those can"), which are solved by walking
 * backwards from what is known, in time that grows with the number of steps only. No recursion here.
 * Source: Dowling and Gallier, Linear-time algorithms for testing the satisfiability of propositional Horn formulae,
 * 1984. */
#include "grammar.h"

#include <stdlib.h>
#include <string.h>

/* What a step needs: of `any` one is enough, of `all` every one; -1: none. */
typedef struct needs {
    int32_t any[2], all[2];
    bool given;
} needs;

static bool is_open(const pg_inst *s) /* the repetition may be left out */
{
    return s->a == 0;
}

/* empty: what a step needs to reach its return without a character. Else: to reach it at all. */
static needs needs_of(const pg_grammar *g, int32_t i, bool empty)
{
    const pg_inst *s = &g->step[i];
    needs n = { { -1, -1 }, { -1, -1 }, false };
    switch (s->op) {
    case PG_INST_RETURN: n.given = true; break;
    case PG_INST_BYTE:
    case PG_INST_CLASS:
    case PG_INST_TOKEN:
        if (!empty) n.any[0] = i + 1;
        break;
    case PG_INST_SPLIT:
        n.any[0] = i + s->a;
        n.any[1] = i + s->b;
        break;
    case PG_INST_JUMP: n.any[0] = i + s->a; break;
    case PG_INST_CALL:
        n.all[0] = g->rule[s->a].start;
        n.all[1] = i + 1;
        break;
    case PG_INST_REPEAT:
        if (is_open(s)) {
            n.any[0] = i + s->c;
        } else {
            n.all[0] = i + 1;
            n.all[1] = i + s->c;
        }
        break;
    default: break;
    }
    return n;
}

typedef struct solver {
    bool *holds;           /* [n_step] */
    int32_t *first, *user; /* steps that need a step: user[first[i] .. first[i + 1]) */
    int32_t *todo;
    int32_t n_todo;
} solver;

static bool is_met(const solver *s, needs n)
{
    if (n.given) return true;
    if (n.all[0] >= 0) return s->holds[n.all[0]] && s->holds[n.all[1]];
    return (n.any[0] >= 0 && s->holds[n.any[0]]) || (n.any[1] >= 0 && s->holds[n.any[1]]);
}

static void consider(solver *s, const pg_grammar *g, int32_t i, bool empty)
{
    if (s->holds[i] || !is_met(s, needs_of(g, i, empty))) return;
    s->holds[i] = true;
    s->todo[s->n_todo++] = i;
}

/* Into s->holds, for every step. */
static void solve(solver *s, const pg_grammar *g, bool empty)
{
    memset(s->first, 0, ((size_t)g->n_step + 2) * sizeof *s->first);
    for (int pass = 0; pass < 2; pass++) { /* count, then fill; first[] ends one place further on */
        for (int32_t i = 0; i < g->n_step; i++) {
            const needs n = needs_of(g, i, empty);
            const int32_t need[4] = { n.any[0], n.any[1], n.all[0], n.all[1] };
            for (int k = 0; k < 4; k++) {
                if (need[k] < 0) continue;
                if (pass)
                    s->user[s->first[need[k] + 1]++] = i;
                else
                    s->first[need[k] + 2]++;
            }
        }
        for (int32_t i = 2; !pass && i < g->n_step + 2; i++) s->first[i] += s->first[i - 1];
    }
    memset(s->holds, 0, (size_t)g->n_step * sizeof *s->holds);
    s->n_todo = 0;
    for (int32_t i = 0; i < g->n_step; i++) consider(s, g, i, empty);
    while (s->n_todo > 0) {
        const int32_t at = s->todo[--s->n_todo];
        for (int32_t u = s->first[at]; u < s->first[at + 1]; u++) consider(s, g, s->user[u], empty);
    }
}

/* ---- left recursion ------------------------------------------------------------------------------------------------------ */

/* Rules that may be the first thing a rule calls: edges in a row, edge[from[r] .. from[r + 1]). */
typedef struct calls {
    int32_t *from, *edge;
    int32_t n_edge;
} calls;

/* Steps of one rule that are reached without a character; each is looked at once. */
static void list_calls(const pg_grammar *g, const bool *empty, int32_t rule, bool *seen, int32_t *todo, calls *c)
{
    int32_t n = 0;
    todo[n++] = g->rule[rule].start;
    while (n > 0) {
        const int32_t i = todo[--n];
        const pg_inst *s = &g->step[i];
        if (seen[i]) continue;
        seen[i] = true;
        switch (s->op) {
        case PG_INST_SPLIT:
            todo[n++] = i + s->a;
            todo[n++] = i + s->b;
            break;
        case PG_INST_JUMP: todo[n++] = i + s->a; break;
        case PG_INST_CALL:
            c->edge[c->n_edge++] = s->a;
            if (empty[g->rule[s->a].start]) todo[n++] = i + 1;
            break;
        case PG_INST_REPEAT:
            todo[n++] = i + 1;
            if (is_open(s) || empty[i + 1]) todo[n++] = i + s->c;
            break;
        default: break;
        }
    }
}

/* A rule that lies on a circle of edges, or -1. */
static int32_t find_circle(const pg_grammar *g, const calls *c, uint8_t *colour, int32_t *path, int32_t *next)
{
    for (int32_t r = 0; r < g->n_rule; r++) {
        int32_t depth = 0;
        if (colour[r]) continue;
        path[depth] = r;
        next[r] = c->from[r];
        colour[r] = 1;
        while (depth >= 0) {
            const int32_t at = path[depth];
            if (next[at] == c->from[at + 1]) {
                colour[at] = 2;
                depth--;
                continue;
            }
            const int32_t to = c->edge[next[at]++];
            if (colour[to] == 1) return to;
            if (colour[to]) continue;
            colour[to] = 1;
            next[to] = c->from[to];
            path[++depth] = to;
        }
    }
    return -1;
}

/* Returns the rule that begins with itself, -1 for none, or PG_EMEMORY - 1. */
static int32_t find_left_recursion(const pg_grammar *g, const bool *empty)
{
    const size_t steps = (size_t)g->n_step, rules = (size_t)g->n_rule;
    bool *seen = calloc(steps, sizeof *seen);
    int32_t *todo = malloc((2 * steps + 2) * sizeof *todo), *edge = malloc(steps * sizeof *edge);
    int32_t *rule = malloc((3 * rules + 1) * sizeof *rule);
    uint8_t *colour = calloc(rules, sizeof *colour);
    int32_t found = PG_EMEMORY - 1;
    if (seen && todo && edge && rule && colour) {
        calls c = { .from = rule, .edge = edge };
        for (int32_t r = 0; r < g->n_rule; r++) {
            c.from[r] = c.n_edge;
            list_calls(g, empty, r, seen, todo, &c);
        }
        c.from[g->n_rule] = c.n_edge;
        found = find_circle(g, &c, colour, rule + rules + 1, rule + 2 * rules + 1);
    }
    free(seen);
    free(todo);
    free(edge);
    free(rule);
    free(colour);
    return found;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------- */

static int refuse_rule(const pg_grammar *g, const pg_rule *r, const char *why, pg_error *err)
{
    const pg_place at = pg_gbnf_place(g, r->used);
    const int n = r->n_name < 100 ? (int)r->n_name : 100;
    return pg_fail(err, PG_EINVAL, "grammar: line %d, column %d: rule %.*s %s", at.line, at.column, n,
                   g->text + r->name, why);
}

/* A repetition of what may be empty needs no least count; a call in last place leaves no frame behind. */
static void simplify(pg_grammar *g, const bool *empty)
{
    for (int32_t i = 0; i < g->n_step; i++) {
        pg_inst *s = &g->step[i];
        if (s->op == PG_INST_REPEAT && empty[i + 1]) s->a = 0;
        if (s->op != PG_INST_CALL) continue;
        int32_t next = i + 1, hops = 0;
        while (g->step[next].op == PG_INST_JUMP && hops++ < 64) next += g->step[next].a;
        if (g->step[next].op == PG_INST_RETURN) s->op = PG_INST_TAIL;
    }
}

static int verify_with(pg_grammar *g, solver *s, bool prune, pg_error *err)
{
    solve(s, g, true);
    const int32_t circle = find_left_recursion(g, s->holds);
    if (circle == PG_EMEMORY - 1) return pg_fail(err, PG_EMEMORY, "not enough memory for a grammar");
    if (circle >= 0) return refuse_rule(g, &g->rule[circle], "begins with itself (left recursion)", err);
    if (prune) {
        bool *empty = malloc((size_t)g->n_step * sizeof *empty);
        if (!empty) return pg_fail(err, PG_EMEMORY, "not enough memory for a grammar");
        memcpy(empty, s->holds, (size_t)g->n_step * sizeof *empty);
        solve(s, g, false);
        const bool ends = s->holds[g->rule[g->root].start];
        for (int32_t i = 0; i < g->n_step; i++)
            if (!s->holds[i]) g->step[i].op = PG_INST_FAIL;
        simplify(g, empty);
        free(empty);
        return ends ? PG_OK : pg_fail(err, PG_EINVAL, "no text that ends fits");
    }
    simplify(g, s->holds);
    return PG_OK;
}

int pg_grammar_verify(pg_grammar *g, bool prune, pg_error *err)
{
    for (int32_t r = 0; r < g->n_rule; r++)
        if (g->rule[r].start < 0) return refuse_rule(g, &g->rule[r], "is not defined", err);
    const size_t n = (size_t)g->n_step;
    solver s = { .holds = malloc(n * sizeof *s.holds),
                 .first = malloc((n + 2) * sizeof *s.first),
                 .user = malloc(4 * n * sizeof *s.user),
                 .todo = malloc(n * sizeof *s.todo) };
    int rc = s.holds && s.first && s.user && s.todo ? verify_with(g, &s, prune, err)
                                                    : pg_fail(err, PG_EMEMORY, "not enough memory for a grammar");
    free(s.holds);
    free(s.first);
    free(s.user);
    free(s.todo);
    return rc;
}
