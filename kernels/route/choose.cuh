/* choose.cuh: one row of router logits to chosen experts, by a warp. What route_cpu.c does, number by number: scores, what
 * is compared, and weights have the same bits, so that the same experts are chosen in the same order.
 *
 * Expert e belongs to lane e % 32. A row's numbers are in shared memory, where every lane may read them between two
 * meetings of the warp. */
#ifndef PG_CHOOSE_CUH
#define PG_CHOOSE_CUH

#include "../cuda/exact.cuh"

extern "C" {
#include "../op.h"
}

enum { PG_FULL = 0xffffffff };

/* Where a warp has its row, and what of the router it needs. */
typedef struct pg_choice {
    pg_router r; /* bias: in device memory */
    int most;
    float *p;          /* [E] scores */
    uint32_t *place;   /* [E] what is compared: 0 is out; before that, as floats */
    uint32_t *group;   /* [G] likewise of groups */
    float *w;          /* [most] */
    int32_t *id;       /* [most] */
    float *x, *choose; /* [E] of steered rows: scores as edited, and what is added for choosing */
} pg_choice;

/* Words of shared memory that a row takes. */
static inline int pg_choice_words(const pg_router *r, int steered)
{
    const int most = pg_router_most(r->n_expert, r->n_used);
    return (steered ? 4 : 2) * r->n_expert + r->n_group + 2 * most;
}

__device__ __forceinline__ pg_choice pg_choice_at(const pg_router &r, float *words, bool steered)
{
    pg_choice c;
    const int E = r.n_expert;
    c.r = r;
    c.most = r.n_used > E / 2 ? E : 2 * r.n_used;
    c.p = words;
    c.place = reinterpret_cast<uint32_t *>(words + E);
    c.group = c.place + E;
    c.w = words + 2 * E + r.n_group;
    c.id = reinterpret_cast<int32_t *>(c.w + c.most);
    c.x = steered ? c.w + 2 * c.most : nullptr;
    c.choose = steered ? c.x + E : nullptr;
    return c;
}

/* ---- softmax ------------------------------------------------------------------------------------------------------ */

/* The steps of one number, as a test on the host checks them. */
PG_HD float pg_choice_sigmoid(float x)
{
    return 1.0f / pg_add(1.0f, pg_exp_exact(-x));
}

/* p[n] to its softmax. Terms are added as 16 running sums, then folded, as pg_softmax (attn/attn.h) has it. */
__device__ __forceinline__ void pg_choice_softmax(float *p, int n, int lane)
{
    float most = -INFINITY, sum = 0;
    for (int i = lane; i < n; i += 32) most = p[i] > most ? p[i] : most;
    most = pg_warp_max(most);
    if (most == -INFINITY) most = 0;
    for (int i = lane; i < n; i += 32) p[i] = pg_exp_exact(pg_add(p[i], -most));
    __syncwarp();
    for (int i = lane & 15; i < n; i += 16) sum = pg_add(sum, p[i]);
    for (int to = 8; to; to >>= 1) sum = pg_add(sum, __shfl_xor_sync(PG_FULL, sum, to));
    __syncwarp();
    for (int i = lane; i < n; i += 32) p[i] /= sum;
    __syncwarp();
}

/* Logits x to scores p. */
__device__ __forceinline__ void pg_choice_score(const pg_choice &c, const float *x, int lane)
{
    const bool sigmoid = c.r.score == PG_SCORE_SIGMOID;
    for (int e = lane; e < c.r.n_expert; e += 32) c.p[e] = sigmoid ? pg_choice_sigmoid(x[e]) : x[e];
    __syncwarp();
    if (c.r.score == PG_SCORE_SOFTMAX) pg_choice_softmax(c.p, c.r.n_expert, lane);
}

/* ---- the best ----------------------------------------------------------------------------------------------------- */

/* This lane's best of n, its place above its index, so that the lower index is larger; 0: none. */
__device__ __forceinline__ unsigned long long pg_choice_scan(const uint32_t *place, int n, int lane)
{
    unsigned long long best = 0;
    for (int i = lane; i < n; i += 32) {
        const unsigned long long at = (unsigned long long)place[i] << 32 | (0xffffffffu - (uint32_t)i);
        if (place[i] && at > best) best = at;
    }
    return best;
}

/* The k best of n, best first, into id; they are out afterwards. Returns how many there were. */
__device__ __forceinline__ int pg_choice_select(uint32_t *place, int n, int k, int32_t *id, int lane)
{
    unsigned long long mine = pg_choice_scan(place, n, lane);
    int held = 0;
    for (; held < k; held++) {
        unsigned long long best = mine;
        for (int to = 16; to; to >>= 1) {
            const unsigned long long other = __shfl_xor_sync(PG_FULL, best, to);
            best = other > best ? other : best;
        }
        if (!best) break;
        const int e = (int)(0xffffffffu - (uint32_t)best);
        if (lane == 0 && id) id[held] = e;
        if (e % 32 == lane) {
            place[e] = 0;
            mine = pg_choice_scan(place, n, lane);
        }
    }
    __syncwarp();
    return held;
}

/* A group's score: of size numbers its best, or the sum of its best two. Their order does not matter, so lanes begin at
 * different ones and meet no two in the same bank. */
PG_HD float pg_choice_group(const float *c, int size, int rule, int begin)
{
    float first = -INFINITY, second = -INFINITY;
    for (int i = 0, at = begin % size; i < size; i++, at = at + 1 < size ? at + 1 : 0) {
        const float x = c[at];
        if (x > first) {
            second = first;
            first = x;
        } else if (x > second) {
            second = x;
        }
    }
    return rule == PG_GROUP_TOP2 && second > -INFINITY ? first + second : first;
}

/* From c (floats, in place's memory) who is out because his group lost: group[g] is 0 for those that stay. Returns whether
 * groups count at all. */
__device__ __forceinline__ bool pg_choice_groups(const pg_choice &c, int lane)
{
    const int G = c.r.n_group;
    if (c.r.group_rule == PG_GROUP_NONE || G <= 1) return false;
    const int size = c.r.n_expert / G;
    for (int g = lane; g < G; g += 32)
        c.group[g] = pg_place_of(
            pg_choice_group(reinterpret_cast<const float *>(c.place) + g * size, size, c.r.group_rule, lane));
    __syncwarp();
    pg_choice_select(c.group, G, c.r.n_group_used, nullptr, lane);
    return true;
}

/* ---- weights ------------------------------------------------------------------------------------------------------ */

/* The scores of n chosen experts, as weights before they are scaled, into w. renorm: divide by their sum. */
__device__ __forceinline__ void pg_choice_gather(const pg_choice &c, int n, bool renorm, int lane)
{
    for (int i = lane; i < n; i += 32) c.w[i] = c.p[c.id[i]];
    __syncwarp();
    if (c.r.score == PG_SCORE_TOPK_SOFTMAX) {
        pg_choice_softmax(c.w, n, lane);
    } else if (renorm) {
        float sum = 0;
        for (int i = 0; i < n; i++) sum = pg_add(sum, c.w[i]);
        __syncwarp();
        for (int i = lane; i < n; i += 32) c.w[i] /= pg_add(sum, 1e-20f);
        __syncwarp();
    }
}

/* How many of n, in order, make up this share of their weights. */
__device__ __forceinline__ int pg_choice_share(const pg_choice &c, int n, float share, int lane)
{
    float sum = 0, held = 0;
    int m = n;
    pg_choice_gather(c, n, false, lane);
    for (int i = 0; i < n; i++) sum = pg_add(sum, c.w[i]);
    for (int i = 0; i < n; i++) {
        held = pg_add(held, c.w[i]);
        if (held >= pg_mul(share, sum)) {
            m = i + 1;
            break;
        }
    }
    __syncwarp();
    return m;
}

/* Write the row's picks; true: all weights are finite. */
__device__ __forceinline__ bool pg_choice_write(const pg_choice &c, int32_t *pick, int n, int lane)
{
    bool bad = false;
    pg_choice_gather(c, n, c.r.renorm != 0, lane);
    for (int i = lane; i < c.most; i += 32) {
        const float w = i < n ? pg_mul(c.w[i], c.r.scale) : 0.0f;
        pick[i] = i < n ? c.id[i] : -1;
        pick[c.most + i] = (int32_t)pg_bits_of(w);
        bad |= !(fabsf(w) <= 3.402823466e38f);
    }
    __syncwarp();
    return !__any_sync(PG_FULL, bad);
}

/* A row that nobody steers. */
__device__ __forceinline__ void pg_choice_plain(const pg_choice &c, const float *x, int32_t *pick, int lane)
{
    const int E = c.r.n_expert;
    float *const compared = reinterpret_cast<float *>(c.place);
    pg_choice_score(c, x, lane);
    for (int e = lane; e < E; e += 32) compared[e] = c.r.bias ? pg_add(c.p[e], c.r.bias[e]) : c.p[e];
    __syncwarp();
    const bool groups = pg_choice_groups(c, lane);
    const int size = groups ? E / c.r.n_group : 1;
    for (int e = lane; e < E; e += 32) c.place[e] = groups && c.group[e / size] ? 0 : pg_place_of(compared[e]);
    __syncwarp();
    pg_choice_select(c.place, E, c.r.n_used, c.id, lane);
    pg_choice_write(c, pick, c.r.n_used, lane);
}

#endif
