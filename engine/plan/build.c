/* build.c: arch -> plan: the only forward pass. Blocks are in attn.c and ffn.c; families differ by their tables alone. */
#include "plan.h"

#include <stdlib.h>

/* ---- shared emitters --------------------------------------------------------------------------------------------------- */

pg_ref pg_emit_norm(pg_plan *p, pg_ref x, const float *w, float eps)
{
    const int n = pg_plan_width(p, x);
    pg_ref y = pg_plan_value(p, pg_plan_rows(p, x), n);
    pg_op *op = pg_plan_emit(p, PG_OP_NORM, y, x, PG_NO_REF);
    if (op) {
        op->v = w;
        op->a.norm.n = n;
        op->a.norm.count = 1;
        op->a.norm.eps = eps;
    }
    return y;
}

void pg_emit_norm_at(pg_plan *p, pg_ref x, const float *w, float eps, int n, int count)
{
    pg_op *op = pg_plan_emit(p, PG_OP_NORM, x, x, PG_NO_REF);
    if (!op) return;
    op->v = w;
    op->a.norm.n = n;
    op->a.norm.count = count;
    op->a.norm.eps = eps;
}

pg_ref pg_emit_matmul(pg_plan *p, pg_ref x, const pg_tensor *w, const float *bias)
{
    pg_ref y = pg_plan_value(p, pg_plan_rows(p, x), w->shape[1]);
    pg_op *op = pg_plan_emit(p, PG_OP_MATMUL, y, x, PG_NO_REF);
    if (!op) return y;
    if (w->shape[0] != pg_plan_width(p, x)) pg_plan_fail(p, PG_EFORMAT, "a weight matrix does not fit its input");
    op->w = w;
    op->v = bias;
    op->a.matmul.batch = 1;
    op->a.matmul.scale = 1;
    return y;
}

pg_ref pg_emit_add(pg_plan *p, pg_ref a, pg_ref b, float scale)
{
    if (pg_plan_width(p, a) != pg_plan_width(p, b))
        pg_plan_fail(p, PG_EFORMAT, "a block's output does not fit its input");
    pg_ref y = pg_plan_value(p, pg_plan_rows(p, a), pg_plan_width(p, a));
    pg_op *op = pg_plan_emit(p, PG_OP_ADD, y, a, b);
    if (op) op->a.add.scale = scale;
    return y;
}

pg_ref pg_emit_glu(pg_plan *p, pg_ref gate, pg_ref up, int kind, float limit)
{
    pg_ref y = pg_plan_value(p, pg_plan_rows(p, gate), pg_plan_width(p, gate));
    pg_op *op = pg_plan_emit(p, PG_OP_GLU, y, gate, up);
    if (op) {
        op->a.glu.kind = kind;
        op->a.glu.limit = limit;
    }
    return y;
}

/* ---- the pass ------------------------------------------------------------------------------------------------------------ */

static pg_ref emit_embed(pg_plan *p, const pg_model *m)
{
    pg_ref x = pg_plan_value(p, PG_ROWS_ALL, m->h.n_embd);
    pg_op *op = pg_plan_emit(p, PG_OP_EMBED, x, PG_NO_REF, PG_NO_REF);
    if (op) {
        op->w = &m->top.w[PG_T_EMBD];
        op->a.embed.scale = m->h.embed_scale;
    }
    return x;
}

static pg_ref emit_angles(pg_plan *p, const pg_model *m, const float *freqs)
{
    if (!freqs) return PG_NO_REF;
    pg_ref y = pg_plan_value(p, PG_ROWS_ALL, m->h.n_rot);
    pg_op *op = pg_plan_emit(p, PG_OP_ANGLES, y, PG_NO_REF, PG_NO_REF);
    if (op) {
        op->v = freqs;
        op->a.angles.n = m->h.n_rot / 2;
        op->a.angles.magnitude = m->h.magnitude;
    }
    return y;
}

/* Only the rows that sample meet the last norm and the vocabulary. */
static pg_ref emit_logits(pg_plan *p, const pg_model *m, pg_ref x)
{
    pg_ref s = pg_plan_value(p, PG_ROWS_SAMPLED, m->h.n_embd);
    pg_plan_emit(p, PG_OP_GATHER, s, x, PG_NO_REF);
    s = pg_emit_norm(p, s, m->top.v[PG_T_OUT_NORM], m->h.eps);
    s = pg_emit_matmul(p, s, &m->top.w[PG_T_OUT], m->top.v[PG_T_OUT]);
    if (p->rc >= 0) p->op[p->code.n_op - 1].a.matmul.scale = m->h.logit_scale;
    pg_plan_keep(p, s);
    return s;
}

int pg_plan_build(const pg_model *m, int32_t max_rows, int32_t max_sampled, int32_t max_decode, int exact, pg_plan *out,
                  pg_error *err)
{
    pg_plan *p = out;
    *p = (pg_plan){ .code = {
                        .max_rows = max_rows, .max_sampled = max_sampled, .max_decode = max_decode, .exact = exact } };
    p->pick = calloc((size_t)m->h.n_layer, sizeof *p->pick);
    if (!p->pick) pg_plan_fail(p, PG_EMEMORY, "no memory for the plan");
    pg_ref x = emit_embed(p, m);
    const pg_ref angles = emit_angles(p, m, m->freqs[0]), local = emit_angles(p, m, m->freqs[1]);
    for (int l = 0; l < m->h.n_layer && p->rc >= 0; l++) {
        x = pg_block_attn(p, m, l, x, m->h.windowed[l] && local != PG_NO_REF ? local : angles);
        x = pg_block_ffn(p, m, l, x);
    }
    p->logits = emit_logits(p, m, x);
    const int rc = pg_plan_finish(p, err);
    if (rc < 0) pg_plan_free(p);
    return rc;
}
