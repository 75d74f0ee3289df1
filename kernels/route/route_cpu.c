/* route_cpu.c: router logits to chosen experts, in f32, ties to the lower index. Per row, a few hundred numbers: plain
 * C. Scores that are not numbers rank last, so the ids are always in range and distinct.
 * Sources: softmax top-k, Shazeer et al. 2017; group-limited choice, DeepSeek-V2 (arXiv 2405.04434: a group counts by
 * its best expert); sigmoid scores with a bias for choosing, DeepSeek-V3 (arXiv 2412.19437: by its two best). */
#include "../cpu/cpu.h"

#include <math.h>

enum { MAX_EXPERT = 1024 };

typedef struct job {
    const pg_router *r;
    const float *x; /* [T, E] */
    int32_t *pick;  /* [T, 2X] */
} job;

static float rank_of(float c)
{
    return c != c ? -INFINITY : c;
}

/* Index of the largest of n numbers not yet taken, the lowest on ties. */
static int best_of(const float *c, const char *taken, int n)
{
    int best = -1;
    for (int i = 0; i < n; i++)
        if (!taken[i] && (best < 0 || rank_of(c[i]) > rank_of(c[best]))) best = i;
    return best;
}

static void softmax(float *p, int n)
{
    float top = -INFINITY, sum = 0, keep;
    pg_softmax(&top, &sum, &keep, p, n, 1, n, 1.0f);
    for (int i = 0; i < n; i++) p[i] /= sum;
}

static void score_all(const pg_router *r, const float *x, float *p)
{
    const int E = r->n_expert;
    if (r->score == PG_SCORE_SIGMOID) {
        for (int e = 0; e < E; e++) p[e] = 1.0f / (1.0f + expf(-x[e]));
    } else if (r->score == PG_SCORE_SOFTMAX) {
        memcpy(p, x, (size_t)E * sizeof *p);
        softmax(p, E);
    } else {
        memcpy(p, x, (size_t)E * sizeof *p);
    }
}

/* Marks the experts of groups that lose as taken. */
static void limit_groups(const pg_router *r, const float *c, char *taken)
{
    const int G = r->n_group, size = r->n_expert / G;
    float score[MAX_EXPERT];
    char kept[MAX_EXPERT] = { 0 };
    for (int g = 0; g < G; g++) {
        float first = -INFINITY, second = -INFINITY;
        for (int i = 0; i < size; i++) {
            const float x = rank_of(c[g * size + i]);
            if (x > first)
                second = first, first = x;
            else if (x > second)
                second = x;
        }
        score[g] = r->group_rule == PG_GROUP_TOP2 && size > 1 ? first + second : first;
    }
    for (int i = 0; i < r->n_group_used; i++) kept[best_of(score, kept, G)] = 1;
    for (int e = 0; e < r->n_expert; e++) taken[e] = !kept[e / size];
}

/* The n best of c, best first, the lower index first on ties, without those taken: into best and id. One walk, for most
 * are worse than the last of those at hand. */
static void select_best(const float *c, const char *taken, int n_c, int n, float *best, int32_t *id)
{
    int held = 0;
    for (int e = 0; e < n_c; e++) {
        const float x = rank_of(c[e]);
        if (taken[e] || (held == n && !(x > best[n - 1]))) continue;
        int at = held < n ? held++ : n - 1;
        for (; at > 0 && x > best[at - 1]; at--) {
            best[at] = best[at - 1];
            id[at] = id[at - 1];
        }
        best[at] = x;
        id[at] = e;
    }
}

static void route_row(void *arg, int row, int lane)
{
    (void)lane;
    const job *j = arg;
    const pg_router *r = j->r;
    const int E = r->n_expert, X = r->n_used;
    float p[MAX_EXPERT], c[MAX_EXPERT], w[MAX_EXPERT], sum = 0;
    char taken[MAX_EXPERT];
    int32_t *pick = j->pick + (int64_t)row * 2 * X;
    memset(taken, 0, (size_t)E);
    score_all(r, j->x + (int64_t)row * E, p);
    for (int e = 0; e < E; e++) c[e] = p[e] + (r->bias ? r->bias[e] : 0.0f);
    if (r->group_rule != PG_GROUP_NONE && r->n_group > 1) limit_groups(r, c, taken);
    select_best(c, taken, E, X, w, pick);
    for (int i = 0; i < X; i++) w[i] = p[pick[i]];
    if (r->score == PG_SCORE_TOPK_SOFTMAX) {
        softmax(w, X);
    } else if (r->renorm) {
        for (int i = 0; i < X; i++) sum += w[i];
        for (int i = 0; i < X; i++) w[i] /= sum + 1e-20f;
    }
    for (int i = 0; i < X; i++) {
        w[i] *= r->scale;
        memcpy(&pick[X + i], &w[i], sizeof(float));
    }
}

void pg_cpu_route(pg_cpu *c, const pg_op *op)
{
    job j = { .r = op->a.route.router, .x = pg_cpu_rows(c, op->src[0]), .pick = (int32_t *)pg_cpu_rows(c, op->dst) };
    pg_lanes_run(c->lanes, route_row, &j, pg_cpu_count(c, op->src[0]));
}
