/* route_cpu.c: router logits to chosen experts, in f32, ties to the lower index. Per row, a few hundred numbers: plain
 * C. Scores that are not numbers rank last, so the ids are always in range and distinct.
 * A steered row differs in what is compared, how many it keeps, and that its steering is checked: where that leaves
 * nothing usable the row is routed as ever, by the scores as they came.
 * Sources: softmax top-k, Shazeer et al. 2017; group-limited choice, DeepSeek-V2 (arXiv 2405.04434: a group counts by
 * its best expert); sigmoid scores with a bias for choosing, DeepSeek-V3 (arXiv 2412.19437: by its two best). */
#include "../cpu/cpu.h"
#include "../exp.h"

#include <math.h>

enum { MAX_EXPERT = 1024 };

typedef struct job {
    const pg_router *r;
    const pg_steer *steer; /* or NULL */
    const float *x;        /* [T, E] */
    int32_t *pick;         /* [T, 2 * most] */
    int most;
    int32_t *count; /* [E] choices so far of rows with a capacity, one after the other; NULL: no row has one */
    int n_capped;
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
        for (int e = 0; e < E; e++) p[e] = 1.0f / (1.0f + pg_exp(-x[e])); /* the same bits on every device */
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
        score[g] = r->group_rule == PG_GROUP_TOP2 && second > -INFINITY ? first + second : first;
    }
    for (int i = 0; i < r->n_group_used; i++) kept[best_of(score, kept, G)] = 1;
    for (int e = 0; e < r->n_expert; e++) taken[e] = !kept[e / size];
}

/* The n best of c, best first, the lower index first on ties, without those taken: into best and id. Returns how many there
 * were. One walk, for most are worse than the last of those at hand. */
static int select_best(const float *c, const char *taken, int n_c, int n, float *best, int32_t *id)
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
    return held;
}

/* From the scores p of n chosen experts to their weights, into the row's picks. */
static void weigh(const job *j, const float *p, int32_t *pick, int n)
{
    const pg_router *r = j->r;
    float w[MAX_EXPERT], sum = 0;
    for (int i = 0; i < n; i++) w[i] = p[pick[i]];
    if (r->score == PG_SCORE_TOPK_SOFTMAX) {
        softmax(w, n);
    } else if (r->renorm) {
        for (int i = 0; i < n; i++) sum += w[i];
        for (int i = 0; i < n; i++) w[i] /= sum + 1e-20f;
    }
    for (int i = 0; i < n; i++) {
        w[i] *= r->scale;
        memcpy(&pick[j->most + i], &w[i], sizeof(float));
    }
    for (int i = n; i < j->most; i++) {
        pick[i] = -1;
        pick[j->most + i] = 0;
    }
}

static void route_plain(const job *j, const float *x, int32_t *pick)
{
    const pg_router *r = j->r;
    const int E = r->n_expert;
    float p[MAX_EXPERT], c[MAX_EXPERT], best[MAX_EXPERT];
    char taken[MAX_EXPERT];
    memset(taken, 0, (size_t)E);
    score_all(r, x, p);
    for (int e = 0; e < E; e++) c[e] = p[e] + (r->bias ? r->bias[e] : 0.0f);
    if (r->group_rule != PG_GROUP_NONE && r->n_group > 1) limit_groups(r, c, taken);
    select_best(c, taken, E, r->n_used, best, pick);
    weigh(j, p, pick, r->n_used);
}

/* ---- steered rows --------------------------------------------------------------------------------------------------- */

/* What is compared: c, and who is out of the choice. Groups are limited first; who is forced is in all the same. */
static void mark_usable(const job *j, const float *x, const float *p, const float *choose, float *c, char *taken)
{
    const pg_router *r = j->r;
    const int E = r->n_expert;
    c[0] = -INFINITY; /* for compilers that think of models without experts */
    for (int e = 0; e < E; e++) {
        taken[e] = 0;
        const int banned = x[e] == -INFINITY || choose[e] == -INFINITY;
        c[e] = banned ? -INFINITY : p[e] + (r->bias ? r->bias[e] : 0.0f) + choose[e];
    }
    if (r->group_rule != PG_GROUP_NONE && r->n_group > 1) limit_groups(r, c, taken);
    for (int e = 0; e < E; e++) taken[e] = c[e] == -INFINITY || (taken[e] && c[e] != INFINITY);
}

/* Who has had his share of the step's choices leaves them to the next best; a row for which nobody is left may choose all
 * the same. */
static int select_within(const job *j, float capacity, const float *c, const char *taken, int n, int32_t *pick)
{
    const int E = j->r->n_expert;
    const float most = ceilf(capacity * (float)j->n_capped * (float)n / (float)E);
    float best[MAX_EXPERT];
    char full[MAX_EXPERT];
    for (int e = 0; e < E; e++) full[e] = taken[e] || (float)j->count[e] >= most;
    int held = select_best(c, full, E, n, best, pick);
    if (!held) held = select_best(c, taken, E, n, best, pick);
    for (int i = 0; i < held; i++) j->count[pick[i]]++;
    return held;
}

/* How many of n chosen experts, in order, make up this share of their weights. */
static int first_of_share(const job *j, const float *p, const int32_t *pick, int n, float share)
{
    float w[MAX_EXPERT], sum = 0, held = 0;
    for (int i = 0; i < n; i++) w[i] = p[pick[i]];
    if (j->r->score == PG_SCORE_TOPK_SOFTMAX) softmax(w, n);
    for (int i = 0; i < n; i++) sum += w[i];
    for (int i = 0; i < n; i++)
        if ((held += w[i]) >= share * sum) return i + 1;
    return n;
}

/* PG_STEER_FINE, or why the row cannot be routed so. */
static int route_steered(const job *j, int row, const float *x, int32_t *pick)
{
    const pg_steer *s = j->steer;
    const int E = j->r->n_expert;
    const float *choose = s->choose + (int64_t)row * E, share = s->cumulative[row];
    float p[MAX_EXPERT], c[MAX_EXPERT], best[MAX_EXPERT];
    char taken[MAX_EXPERT];
    int n = s->top[row];
    if (n < 1 || n > E) return PG_STEER_TOP;
    if (!(share > 0)) return PG_STEER_CUMULATIVE;
    for (int e = 0; e < E; e++) {
        if (!(x[e] < INFINITY)) return PG_STEER_SCORES;
        if (choose[e] != choose[e]) return PG_STEER_CHOOSE;
    }
    if (n > j->most) n = j->most;
    score_all(j->r, x, p);
    mark_usable(j, x, p, choose, c, taken);
    n = j->count && s->capacity[row] > 0 ? select_within(j, s->capacity[row], c, taken, n, pick)
                                         : select_best(c, taken, E, n, best, pick);
    if (!n) return PG_STEER_NOBODY;
    weigh(j, p, pick, share < 1 ? first_of_share(j, p, pick, n, share) : n);
    for (int i = j->most; i < 2 * j->most; i++) {
        float w;
        memcpy(&w, &pick[i], sizeof w);
        if (!isfinite(w)) return PG_STEER_WEIGHTS;
    }
    return PG_STEER_FINE;
}

/* ---- the op ---------------------------------------------------------------------------------------------------------- */

static void route_row(void *arg, int row, int lane)
{
    (void)lane;
    const job *j = arg;
    const pg_steer *s = j->steer;
    const int64_t at = (int64_t)row * j->r->n_expert;
    int32_t *pick = j->pick + (int64_t)row * 2 * j->most;
    if (!s || !s->steered[row])
        route_plain(j, j->x + at, pick);
    else if ((s->fault[row] = (unsigned char)route_steered(j, row, j->x + at, pick)) != PG_STEER_FINE)
        route_plain(j, s->plain + at, pick);
}

/* Capacities count choices in the order of the rows. */
static void route_in_order(job *j, int n)
{
    int32_t count[MAX_EXPERT] = { 0 };
    const pg_steer *s = j->steer;
    for (int r = 0; r < n; r++) j->n_capped += s->steered[r] && s->capacity[r] > 0;
    j->count = count;
    for (int r = 0; r < n; r++) route_row(j, r, 0);
    j->count = NULL;
}

void pg_cpu_route(pg_cpu *c, const pg_op *op)
{
    const pg_router *r = op->a.route.router;
    job j = { .r = r, .steer = c->steer, .most = pg_router_most(r->n_expert, r->n_used) };
    j.x = pg_cpu_rows(c, op->src[0]);
    j.pick = (int32_t *)pg_cpu_rows(c, op->dst);
    if (j.steer && j.steer->capacity)
        route_in_order(&j, pg_cpu_count(c, op->src[0]));
    else
        pg_cpu_each(c, route_row, &j, pg_cpu_count(c, op->src[0]), (int64_t)r->n_expert * 1024);
}
