/* op: one instruction of a plan, and the plan as a backend sees it.
 *
 * Lives here: opcodes, operands, arguments, and what a step brings along (rows, KV cache). Not here: who builds plans
 * (engine/plan) and who runs them (backend.h).
 * A value is a matrix of f32 (or i32) words with a fixed width and one free dimension: the T rows of the step or the S
 * rows that sample. Weights are views that outlive the plan.
 *
 * Room that is kept for what comes: selected keys (an ATTN operand with key numbers a row), compressed KV rows (streams
 * have widths of their own; a stream that stores every r-th token is one more field), several residual streams (a value
 * n times as wide, read by columns). None needs a second forward pass. */
#ifndef PG_OP_H
#define PG_OP_H

#include "tensor.h"

typedef enum pg_opcode {
#define PG_OP(code, row) PG_OP_##code,
#include "op.def"
    PG_OP_COUNT
} pg_opcode;

typedef int32_t pg_ref; /* a value of a plan; PG_NO_REF: none */
#define PG_NO_REF ((pg_ref)-1)

enum { PG_ROWS_ALL = 0, PG_ROWS_SAMPLED = 1 };

typedef struct pg_value {
    int32_t width;  /* words of 4 bytes a row */
    int32_t rows;   /* PG_ROWS_* */
    int64_t offset; /* bytes from the start of the arena, a multiple of 64 */
} pg_value;

enum { PG_ROPE_PAIRS = 0, PG_ROPE_HALVES = 1 };                                 /* (2i, 2i + 1) or (i, i + n/2) */
enum { PG_SCORE_SOFTMAX = 1, PG_SCORE_SIGMOID = 2, PG_SCORE_TOPK_SOFTMAX = 3 }; /* numbers of expert_gating_func */
enum { PG_GROUP_NONE = 0, PG_GROUP_BEST = 1, PG_GROUP_TOP2 = 2 };               /* a group's score */

enum { PG_GLU_SILU = 0, PG_GLU_GELU = 1, PG_GLU_OSS = 2, PG_GLU_CLAMP = 3 }; /* glu/glu.h says what they do */

/* How router logits become a choice. Sources: DeepSeek-V2 (arXiv 2405.04434), DeepSeek-V3 (2412.19437). */
typedef struct pg_router {
    int32_t n_expert, n_used;
    int32_t n_group, n_group_used, group_rule; /* 1, 1, PG_GROUP_NONE: no groups */
    int32_t score;                             /* PG_SCORE_* */
    int32_t renorm;                            /* weights are divided by their sum */
    float scale;                               /* then multiplied by this */
    const float *bias;                         /* [n_expert] added for choosing only, or NULL */
} pg_router;

/* Experts that a row may visit at most, when somebody steers it. */
static inline int32_t pg_router_most(int32_t n_expert, int32_t n_used)
{
    return n_used > n_expert / 2 ? n_expert : 2 * n_used;
}

/* The routed experts of a layer: three matrices each, anywhere in memory. */
typedef struct pg_experts {
    int32_t n_expert, n_used, n_embd, n_ff;
    int32_t glu; /* PG_GLU_* */
    float limit;
    const pg_tensor *gate, *up, *down;            /* [n_expert] of {D, F}, {D, F}, {F, D} */
    const float *gate_bias, *up_bias, *down_bias; /* [n_expert, F], [n_expert, F], [n_expert, D], or NULL */
} pg_experts;

typedef struct pg_op {
    pg_opcode code;
    pg_ref dst, src[2]; /* an op may work in place: dst == src[0] */
    const pg_tensor *w; /* weight matrix or table */
    const float *v;     /* weight vector: norm weight, bias, sinks, frequencies; f32, or NULL */
    /* 1: only rows of the decode class need it, for an MLA op has the results of the others. A backend without that op
     * does nothing there and runs these ops over all rows. */
    int32_t decode_only;
    union {
        struct {
            float scale;
        } embed;
        struct {
            int32_t n, count;
            float eps;
        } norm; /* the first count groups of n columns */
        struct {
            int32_t x_step, y_step, batch; /* matrix b reads columns from b * x_step, writes from b * y_step */
            int32_t transposed;            /* w is {N, K, batch}: y[n] = sum over k of x[k] * w[k][n] */
            int32_t exact;                 /* f32 activations in both classes (the router) */
            float scale;
        } matmul;
        struct {
            int32_t n;
            float magnitude;
        } angles; /* v: [n] inverse frequencies; dst [rows, 2n] */
        struct {
            int32_t col, heads, step, n, layout;
        } rope; /* n rotated columns a head; src[1]: angles */
        struct {
            int32_t stream, n;
        } store; /* the first n columns */
        struct {
            int32_t k_stream, v_stream, heads, kv_heads, dk, dv, window;
            float scale, softcap;
        } attn;
        struct {
            const pg_tensor *v; /* values from latents: {latent, dv, heads} */
            int32_t across;     /* w, keys from latents, is {nope, latent, heads}; else {latent, nope, heads} */
            int32_t stream, heads, nope, rot, latent, dv;
            float scale;
        } mla; /* src: queries, [nope | rot] a head; the stream: [latent | rot] */
        struct {
            const pg_router *router;
            int32_t layer;
        } hook; /* dst == src[0]; the ROUTE that follows does as the hook says */
        struct {
            const pg_router *router;
        } route; /* dst [rows, 2M], M of pg_router_most: ids (i32), those not used -1 and last; then weights */
        struct {
            const pg_experts *experts;
        } experts; /* src: x, pick */
        struct {
            int32_t kind;
            float limit;
        } glu;
        struct {
            float scale;
        } add;
        struct {
            float limit;
        } clamp;
        struct {
            int32_t heads, n, src_col, src_step, dst_col, dst_step;
        } copy;
    } a;
} pg_op;

/* A checked plan. Immutable once built. */
typedef struct pg_code {
    const pg_op *op;
    const pg_value *value;
    int32_t n_op, n_value;
    int32_t max_rows, max_sampled; /* of a step */
    int32_t max_decode;            /* of them in the decode class */
    int32_t exact;                 /* precision "f32": f32 activations everywhere */
    int64_t arena_bytes;
} pg_code;

/* The rows of one step. Rows of a sequence stand together, in order of position; the prefill class comes first. */
typedef struct pg_rows {
    int32_t n, n_prefill;                 /* rows; the first n_prefill belong to the prefill class */
    int32_t n_sampled, n_sampled_prefill; /* rows that sample, likewise */
    const int32_t *token, *pos, *seq;     /* [n] id, position, index into pages */
    const int32_t *sampled;               /* [n_sampled] row numbers, ascending */
    const int32_t *const *pages;          /* [sequences] page numbers in order of position */
} pg_rows;

/* One kind of row that the cache holds for a layer: K, V, or MLA's latent. */
typedef struct pg_kv_stream {
    int64_t offset;    /* bytes from the start of a page */
    int32_t width;     /* elements a row */
    int32_t row_bytes; /* in the cache's format */
} pg_kv_stream;

enum { PG_PAGE_MOST = 64 }; /* positions that a page may hold */

/* Bytes that a stream takes of a page of n positions: whole cache lines. */
static inline int64_t pg_kv_stream_bytes(const pg_kv_stream *s, int32_t n)
{
    return ((int64_t)s->row_bytes * n + 63) / 64 * 64;
}

/* The KV cache as the ops see it: pages of page_tokens positions, all layers' streams in each. */
typedef struct pg_kv {
    char *base;
    int64_t page_bytes;
    int32_t page_tokens;
    int32_t n_stream;
    pg_dtype dtype;
    const pg_kv_stream *stream; /* [n_stream] */
} pg_kv;

#endif
