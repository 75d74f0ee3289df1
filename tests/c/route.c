/* The ROUTE op, steered and not, against a plain reading of the rules in double: random shapes, all kinds of scores,
 * groups, biases; bans, forces, shares, capacities; and rows whose steering is unusable. */
#include "check.h"

#include "../../kernels/backend.h"

#include <math.h>

enum { MOST_ROWS = 40, MOST_E = 130 };

static float uniform(unsigned long long *s)
{
    return check_uniform(s);
}

/* A plan of two ops over one value of scores. */
typedef struct bench {
    pg_router r;
    float bias[MOST_E];
    pg_op op[2];
    pg_value value[2];
    pg_code code;
    int T, E, most;
    float edit[MOST_ROWS * MOST_E], plain[MOST_ROWS * MOST_E], choose[MOST_ROWS * MOST_E];
    float cumulative[MOST_ROWS], capacity[MOST_ROWS];
    int32_t top[MOST_ROWS];
    unsigned char steered[MOST_ROWS], fault[MOST_ROWS];
    pg_steer steer;
    int use_capacity;
} bench;

static const pg_steer *on_route(void *ud, const pg_op *op, float *score, int32_t n)
{
    bench *b = ud;
    CHECK(op == &b->op[0] && n == b->T, "the hook is called with its op and all rows");
    memcpy(score, b->edit, (size_t)n * (size_t)b->E * sizeof *score);
    b->steer = (pg_steer){ .steered = b->steered,
                           .plain = b->plain,
                           .choose = b->choose,
                           .top = b->top,
                           .cumulative = b->cumulative,
                           .capacity = b->use_capacity ? b->capacity : NULL,
                           .fault = b->fault };
    return &b->steer;
}

static int pick_below(unsigned long long *s, int n)
{
    return (int)(check_rand(s) % (unsigned)n);
}

static void make_router(bench *b, unsigned long long *s)
{
    static const int groups[] = { 1, 2, 4, 8 };
    const int G = groups[pick_below(s, 4)], size = 1 + pick_below(s, 16);
    b->E = G * size;
    b->r = (pg_router){ .n_expert = b->E, .n_group = G, .scale = 0.5f + (float)pick_below(s, 4) };
    b->r.group_rule = G > 1 ? pick_below(s, 3) : PG_GROUP_NONE;
    b->r.n_group_used = 1 + pick_below(s, G);
    const int room = b->r.group_rule ? b->r.n_group_used * size : b->E;
    b->r.n_used = 1 + pick_below(s, room < 8 ? room : 8);
    b->r.score = 1 + pick_below(s, 3);
    b->r.renorm = pick_below(s, 2);
    for (int e = 0; e < b->E; e++) b->bias[e] = 0.3f * uniform(s);
    b->r.bias = pick_below(s, 2) ? b->bias : NULL;
    b->T = 1 + pick_below(s, MOST_ROWS);
    b->most = pg_router_most(b->E, b->r.n_used);
}

static void make_rows(bench *b, unsigned long long *s, int hostile)
{
    for (int t = 0; t < b->T; t++) {
        b->steered[t] = pick_below(s, 4) > 0;
        b->fault[t] = 0;
        b->top[t] = 1 + pick_below(s, b->E);
        b->cumulative[t] = pick_below(s, 2) ? 1 : 0.1f + 0.45f * (1 + uniform(s));
        b->capacity[t] = pick_below(s, 2) ? 0 : 1 + uniform(s) / 2;
        for (int e = 0; e < b->E; e++) {
            float *edit = &b->edit[t * b->E + e], *choose = &b->choose[t * b->E + e];
            b->plain[t * b->E + e] = 3 * uniform(s);
            *edit = b->steered[t] ? 3 * uniform(s) : b->plain[t * b->E + e];
            *choose = pick_below(s, 3) ? 0 : uniform(s);
            if (!pick_below(s, 9)) *choose = -INFINITY;
            if (!pick_below(s, 15)) *choose = INFINITY;
            if (!pick_below(s, 30) && b->steered[t]) *edit = -INFINITY;
        }
        if (!hostile || !b->steered[t] || pick_below(s, 3)) continue;
        const int e = pick_below(s, b->E), at = t * b->E + e;
        switch (pick_below(s, 7)) {
        case 0: b->edit[at] = NAN; break;
        case 1: b->edit[at] = INFINITY; break;
        case 2: b->choose[at] = NAN; break;
        case 3: b->top[t] = -pick_below(s, 3); break;
        case 4: b->top[t] = b->E + 1; break;
        case 5: b->cumulative[t] = pick_below(s, 2) ? NAN : -1; break;
        default:
            for (int i = 0; i < b->E; i++) b->choose[t * b->E + i] = -INFINITY;
        }
    }
}

/* ---- the rules, once more --------------------------------------------------------------------------------------------- */

typedef struct answer {
    int n, fault;
    int id[MOST_E];
    double w[MOST_E];
} answer;

static void score(const bench *b, const float *x, double *p)
{
    double top = -INFINITY, sum = 0;
    for (int e = 0; e < b->E; e++) top = fmax(top, (double)x[e]);
    for (int e = 0; e < b->E; e++) sum += exp((double)x[e] - top);
    for (int e = 0; e < b->E; e++)
        p[e] = b->r.score == PG_SCORE_SIGMOID   ? 1 / (1 + exp(-(double)x[e]))
               : b->r.score == PG_SCORE_SOFTMAX ? exp((double)x[e] - top) / sum
                                                : (double)x[e];
}

/* The best not yet used, or -1. */
static int best(const double *c, const char *out, int n)
{
    int at = -1;
    for (int i = 0; i < n; i++)
        if (!out[i] && (at < 0 || c[i] > c[at])) at = i;
    return at;
}

static void limit(const bench *b, const double *c, char *out)
{
    const int G = b->r.n_group, size = b->E / G;
    double s[8];
    char kept[8] = { 0 };
    for (int g = 0; g < G; g++) {
        double first = -INFINITY, second = -INFINITY;
        for (int i = g * size; i < (g + 1) * size; i++) {
            if (c[i] > first) {
                second = first;
                first = c[i];
            } else if (c[i] > second) {
                second = c[i];
            }
        }
        s[g] = b->r.group_rule == PG_GROUP_TOP2 && second > -INFINITY ? first + second : first;
    }
    for (int i = 0; i < b->r.n_group_used; i++) kept[best(s, kept, G)] = 1;
    for (int e = 0; e < b->E; e++) out[e] |= !kept[e / size];
}

static void weigh(const bench *b, const double *p, answer *a)
{
    double sum = 0, top = -INFINITY;
    for (int i = 0; i < a->n; i++) top = fmax(top, p[a->id[i]]);
    for (int i = 0; i < a->n; i++) {
        a->w[i] = b->r.score == PG_SCORE_TOPK_SOFTMAX ? exp(p[a->id[i]] - top) : p[a->id[i]];
        sum += a->w[i];
    }
    for (int i = 0; i < a->n; i++) {
        if (b->r.renorm || b->r.score == PG_SCORE_TOPK_SOFTMAX) a->w[i] /= sum;
        a->w[i] *= (double)b->r.scale;
    }
}

static void plain(const bench *b, int t, answer *a)
{
    double p[MOST_E], c[MOST_E];
    char out[MOST_E] = { 0 };
    score(b, b->plain + t * b->E, p);
    for (int e = 0; e < b->E; e++) c[e] = p[e] + (b->r.bias ? (double)b->r.bias[e] : 0);
    if (b->r.group_rule && b->r.n_group > 1) limit(b, c, out);
    for (a->n = 0; a->n < b->r.n_used; a->n++) out[a->id[a->n] = best(c, out, b->E)] = 1;
    weigh(b, p, a);
}

static int fault_of(const bench *b, int t)
{
    const float *x = b->edit + t * b->E, *choose = b->choose + t * b->E;
    if (b->top[t] < 1 || b->top[t] > b->E) return PG_STEER_TOP;
    if (!(b->cumulative[t] > 0)) return PG_STEER_CUMULATIVE;
    for (int e = 0; e < b->E; e++) {
        if (isnan(x[e]) || (isinf(x[e]) && x[e] > 0)) return PG_STEER_SCORES;
        if (isnan(choose[e])) return PG_STEER_CHOOSE;
    }
    return PG_STEER_FINE;
}

/* count: choices so far of capped rows; most: what one expert may have of them in this row's eyes. */
static void steered(const bench *b, int t, int *count, double most, answer *a)
{
    const float *x = b->edit + t * b->E, *choose = b->choose + t * b->E;
    double p[MOST_E], c[MOST_E], sum = 0, held = 0;
    char out[MOST_E] = { 0 }, full[MOST_E];
    if ((a->fault = fault_of(b, t)) != PG_STEER_FINE) return;
    const int k = b->top[t] < b->most ? b->top[t] : b->most;
    score(b, x, p);
    for (int e = 0; e < b->E; e++) {
        c[e] = p[e] + (b->r.bias ? (double)b->r.bias[e] : 0) + (double)choose[e];
        if (x[e] == -INFINITY || choose[e] == -INFINITY) c[e] = -INFINITY;
    }
    if (b->r.group_rule && b->r.n_group > 1) limit(b, c, out);
    for (int e = 0; e < b->E; e++) {
        if (c[e] == INFINITY) out[e] = 0;
        if (c[e] == -INFINITY) out[e] = 1;
        full[e] = out[e] || (count && count[e] >= most);
    }
    if (best(c, full, b->E) < 0) memcpy(full, out, sizeof full);
    for (a->n = 0; a->n < k && best(c, full, b->E) >= 0; a->n++) full[a->id[a->n] = best(c, full, b->E)] = 1;
    for (int i = 0; i < a->n && count; i++) count[a->id[i]]++;
    if (!a->n) {
        a->fault = PG_STEER_NOBODY;
        return;
    }
    weigh(b, p, a);
    for (int i = 0; i < a->n; i++) sum += a->w[i];
    int kept = 0;
    while (kept < a->n && (kept == 0 || held < (double)b->cumulative[t] * sum)) held += a->w[kept++];
    if (b->cumulative[t] < 1) a->n = kept;
    weigh(b, p, a);
}

/* ---- comparing ---------------------------------------------------------------------------------------------------------- */

static int same(const bench *b, const int32_t *pick, const answer *a)
{
    for (int i = 0; i < b->most; i++) {
        float w;
        memcpy(&w, &pick[b->most + i], sizeof w);
        if (i >= a->n ? pick[i] != -1 || w != 0 : pick[i] != a->id[i]) return 0;
        if (i < a->n && !(fabs((double)w - a->w[i]) <= 1e-5 * (1 + fabs(a->w[i])))) return 0;
    }
    return 1;
}

static void check_rows(const bench *b, const int32_t *pick, int hooked, unsigned long long seed, int *bad)
{
    int count[MOST_E] = { 0 }, capped = 0;
    for (int t = 0; t < b->T; t++) capped += b->steered[t] && b->capacity[t] > 0;
    for (int t = 0; t < b->T; t++) {
        answer a = { 0 };
        const int k = b->top[t] < b->most ? b->top[t] : b->most;
        const int cap = b->use_capacity && b->capacity[t] > 0;
        const double most = (double)ceilf(b->capacity[t] * (float)capped * (float)k / (float)b->E);
        if (hooked && b->steered[t]) steered(b, t, cap ? count : NULL, most, &a);
        const int fault = a.fault;
        if (!hooked || !b->steered[t] || fault) plain(b, t, &a);
        if (same(b, pick + t * 2 * b->most, &a) && (!hooked || !b->steered[t] || b->fault[t] == fault)) continue;
        if ((*bad)++ < 5)
            CHECK(0, "seed %llu, row %d of %d, %d experts, %d used, kind %d: fault %d for %d, first id %d for %d", seed,
                  t, b->T, b->E, b->r.n_used, b->r.score, b->fault[t], fault, pick[t * 2 * b->most], a.id[0]);
    }
}

static void one_case(unsigned long long seed, int threads, int *bad)
{
    unsigned long long s = seed;
    const char *why;
    bench *b = calloc(1, sizeof *b);
    make_router(b, &s);
    b->use_capacity = pick_below(&s, 3) == 0;
    make_rows(b, &s, seed % 2);
    b->op[0] = (pg_op){ .code = PG_OP_HOOK, .dst = 0, .src = { 0, PG_NO_REF }, .a.hook = { &b->r, 3 } };
    b->op[1] = (pg_op){ .code = PG_OP_ROUTE, .dst = 1, .src = { 0, PG_NO_REF }, .a.route.router = &b->r };
    b->value[0] = (pg_value){ .width = b->E };
    b->value[1] = (pg_value){ .width = 2 * b->most, .offset = ((int64_t)b->T * b->E * 4 + 63) / 64 * 64 };
    b->code =
        (pg_code){ .op = b->op, .value = b->value, .n_op = 2, .n_value = 2, .max_rows = b->T, .max_decode = b->T };
    b->code.arena_bytes = b->value[1].offset + ((int64_t)b->T * 2 * b->most * 4 + 63) / 64 * 64;
    pg_backend *back = pg_cpu_open(threads, NULL, &why);
    if (!back || back->ops->prepare(back, &b->code)) exit(1);
    const pg_rows rows = { .n = b->T };
    const pg_hook hook = { .route = on_route, .ud = b };
    for (int hooked = 0; hooked < 2; hooked++) {
        memcpy((void *)(uintptr_t)back->ops->read(back, 0), b->plain, (size_t)b->T * (size_t)b->E * sizeof(float));
        back->hook = hooked ? &hook : NULL;
        back->ops->run(back, &rows, NULL);
        check_rows(b, back->ops->read(back, 1), hooked, seed, bad);
    }
    back->ops->close(back);
    free(b);
}

int main(void)
{
    int bad = 0;
    for (unsigned long long seed = 1; seed <= 3000; seed++) one_case(seed, 1 + seed % 40 / 39, &bad);
    CHECK(bad == 0, "%d rows differ", bad);
    return check_done("route");
}
