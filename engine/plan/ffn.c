/* ffn.c: feed-forward blocks: dense, routed experts, shared experts. Which one a layer has, its tensors say. */
#include "plan.h"

static pg_ref dense(pg_plan *p, const pg_model *m, const pg_layer *y, pg_ref x, int gate, int up, int down)
{
    pg_ref g = pg_emit_matmul(p, x, &y->w[gate], y->v[gate]);
    pg_ref u = pg_emit_matmul(p, x, &y->w[up], y->v[up]);
    return pg_emit_matmul(p, pg_emit_glu(p, g, u, m->arch->glu, m->h.glu_limit), &y->w[down], y->v[down]);
}

static pg_ref shared(pg_plan *p, const pg_model *m, const pg_layer *y, pg_ref x)
{
    pg_ref s = dense(p, m, y, x, PG_T_GATE_SHARED, PG_T_UP_SHARED, PG_T_DOWN_SHARED);
    if (y->w[PG_T_SHARED_GATE].dtype == PG_DTYPE_NONE) return s;
    pg_ref g = pg_emit_matmul(p, x, &y->w[PG_T_SHARED_GATE], y->v[PG_T_SHARED_GATE]);
    pg_ref gated = pg_plan_value(p, PG_ROWS_ALL, pg_plan_width(p, s));
    pg_plan_emit(p, PG_OP_GATE, gated, s, g);
    return gated;
}

static pg_ref moe(pg_plan *p, const pg_model *m, const pg_layer *y, pg_ref x)
{
    pg_ref score = pg_emit_matmul(p, x, &y->w[PG_T_ROUTER], y->v[PG_T_ROUTER]);
    if (p->rc >= 0) p->op[p->code.n_op - 1].a.matmul.exact = 1; /* a rounded router would choose other experts */
    pg_op *op = pg_plan_emit(p, PG_OP_HOOK, score, score, PG_NO_REF);
    if (op) {
        op->a.hook.router = &y->router;
        op->a.hook.layer = (int32_t)(y - m->layer);
    }
    pg_ref pick = pg_plan_value(p, PG_ROWS_ALL, 2 * (int64_t)pg_router_most(y->router.n_expert, y->router.n_used));
    if ((op = pg_plan_emit(p, PG_OP_ROUTE, pick, score, PG_NO_REF))) op->a.route.router = &y->router;
    pg_plan_keep(p, pick);
    if (p->rc >= 0) p->pick[p->n_pick++] = pick;
    pg_ref out = pg_plan_value(p, PG_ROWS_ALL, m->h.n_embd);
    if ((op = pg_plan_emit(p, PG_OP_EXPERTS, out, x, pick))) op->a.experts.experts = &y->experts;
    return y->w[PG_T_GATE_SHARED].dtype == PG_DTYPE_NONE ? out : pg_emit_add(p, out, shared(p, m, y, x), 1);
}

pg_ref pg_block_ffn(pg_plan *p, const pg_model *m, int l, pg_ref x)
{
    const pg_layer *y = &m->layer[l];
    pg_ref f = pg_emit_norm(p, x, y->v[PG_T_FFN_NORM], m->h.eps);
    f = y->experts.n_expert ? moe(p, m, y, f) : dense(p, m, y, f, PG_T_GATE, PG_T_UP, PG_T_DOWN);
    if (y->v[PG_T_FFN_POST_NORM]) f = pg_emit_norm(p, f, y->v[PG_T_FFN_POST_NORM], m->h.eps);
    return pg_emit_add(p, x, f, m->h.residual_scale);
}
