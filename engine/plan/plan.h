/* plan: an array of ops and the layout of their values, made once and run every step. Two free dimensions: T rows and S
 * sampled rows, nothing else.
 *
 * plan.c keeps the array, checks that widths fit and lays values into the arena by their lifetimes; build.c, attn.c and
 * ffn.c emit the ops of a model. Emitters never fail: the first error is kept and reported by pg_plan_finish. */
#ifndef PG_PLAN_H
#define PG_PLAN_H

#include "../model.h"

typedef struct pg_plan {
    pg_code code; /* what backends run; points into op and value */
    pg_op *op;
    pg_value *value;
    int32_t cap_op, cap_value;
    pg_kv_stream *stream; /* what the KV cache holds, offsets not yet set */
    int32_t n_stream, cap_stream;
    struct pg_span { /* ops first .. last */
        int32_t first, last;
    } * span; /* whose values have places of their own, in ascending order */
    int32_t n_span, cap_span;
    pg_ref logits; /* [S, V] */
    pg_ref *pick;  /* [n_moe_layer] chosen experts, kept for counting: [T, 2M], M of pg_router_most; ids < 0: none */
    int32_t n_pick;
    int rc;
    pg_error error;
} pg_plan;

/* Build the forward pass of a model for steps of at most max_rows rows, of which max_sampled sample and max_decode are
 * decode class. exact: precision "f32". The plan borrows the model. */
int pg_plan_build(const pg_model *m, int32_t max_rows, int32_t max_sampled, int32_t max_decode, int exact, pg_plan *out,
                  pg_error *err);
void pg_plan_free(pg_plan *p);

/* ---- plan.c: for the builders -------------------------------------------------------------------------------------- */

/* Values: rows PG_ROWS_*, width in words. */
pg_ref pg_plan_value(pg_plan *p, int rows, int64_t width);
void pg_plan_keep(pg_plan *p, pg_ref r);
int pg_plan_width(const pg_plan *p, pg_ref r);
int pg_plan_rows(const pg_plan *p, pg_ref r);
/* Append an op; NULL after an error. The caller fills in the arguments. */
pg_op *pg_plan_emit(pg_plan *p, pg_opcode code, pg_ref dst, pg_ref a, pg_ref b);
/* A stream of the KV cache, width elements a position. */
int32_t pg_plan_stream(pg_plan *p, int64_t width);
/* The ops from number first to the newest need not run one after the other where they do not depend on each other: what
 * they read and write has places of its own until all are done. */
void pg_plan_apart(pg_plan *p, int32_t first);
void pg_plan_fail(pg_plan *p, int code, const char *what);
/* Lay out the arena; the first error of all emitters. */
int pg_plan_finish(pg_plan *p, pg_error *err);

/* ---- emitters shared by the block builders --------------------------------------------------------------------------- */

pg_ref pg_emit_norm(pg_plan *p, pg_ref x, const float *w, float eps);                    /* a new value */
void pg_emit_norm_at(pg_plan *p, pg_ref x, const float *w, float eps, int n, int count); /* in place */
pg_ref pg_emit_matmul(pg_plan *p, pg_ref x, const pg_tensor *w, const float *bias);      /* [T, K] -> [T, N] */
pg_ref pg_emit_add(pg_plan *p, pg_ref a, pg_ref b, float scale);                         /* a + scale * b */
pg_ref pg_emit_glu(pg_plan *p, pg_ref gate, pg_ref up, int kind, float limit);

/* Blocks, [T, D] -> [T, D]. angles: the rotary angles that this layer uses. */
pg_ref pg_block_attn(pg_plan *p, const pg_model *m, int l, pg_ref x, pg_ref angles);
pg_ref pg_block_ffn(pg_plan *p, const pg_model *m, int l, pg_ref x);

#endif
