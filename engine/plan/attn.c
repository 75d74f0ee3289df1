/* attn.c: attention blocks: grouped queries (GQA), and multi-head latent attention (MLA), where the cache holds one latent
 * a position. Rows of the decode class use the absorbed form: queries are moved into the latent's space. Those of the
 * prefill class expand latents into keys and values of each head, which many rows then share: per query and key that
 * takes a third of the products (nope + rot + dv instead of 2 * latent + rot).
 * Sources: Ainslie et al., GQA (arXiv 2305.13245); DeepSeek-V2, section 2.1 (arXiv 2405.04434). */
#include "plan.h"

static void emit_rope(pg_plan *p, pg_ref x, pg_ref angles, const pg_hparams *h, int col, int heads, int step)
{
    pg_op *op = pg_plan_emit(p, PG_OP_ROPE, x, x, angles);
    if (!op) return;
    op->a.rope.col = col;
    op->a.rope.heads = heads;
    op->a.rope.step = step;
    op->a.rope.n = h->n_rot;
    op->a.rope.layout = h->rope;
}

static int32_t emit_store(pg_plan *p, pg_ref x)
{
    const int32_t stream = pg_plan_stream(p, pg_plan_width(p, x));
    pg_op *op = pg_plan_emit(p, PG_OP_STORE, PG_NO_REF, x, PG_NO_REF);
    if (op) {
        op->a.store.stream = stream;
        op->a.store.n = pg_plan_width(p, x);
    }
    return stream;
}

static pg_ref emit_attn(pg_plan *p, const pg_model *m, int l, pg_ref q, int32_t ks, int32_t vs, int kv_heads, int dk,
                        int dv)
{
    const pg_hparams *h = &m->h;
    pg_ref y = pg_plan_value(p, PG_ROWS_ALL, (int64_t)h->n_head[l] * dv);
    pg_op *op = pg_plan_emit(p, PG_OP_ATTN, y, q, PG_NO_REF);
    if (!op) return y;
    op->v = m->layer[l].v[PG_T_SINKS];
    op->a.attn.k_stream = ks;
    op->a.attn.v_stream = vs;
    op->a.attn.heads = h->n_head[l];
    op->a.attn.kv_heads = kv_heads;
    op->a.attn.dk = dk;
    op->a.attn.dv = dv;
    op->a.attn.window = h->windowed[l] ? h->window : 0;
    op->a.attn.scale = h->attn_scale;
    op->a.attn.softcap = h->attn_softcap;
    return y;
}

static void emit_clamp(pg_plan *p, pg_ref x, float limit)
{
    pg_op *op = limit > 0 ? pg_plan_emit(p, PG_OP_CLAMP, x, x, PG_NO_REF) : NULL;
    if (op) op->a.clamp.limit = limit;
}

static pg_ref gqa(pg_plan *p, const pg_model *m, int l, pg_ref x, pg_ref angles)
{
    const pg_hparams *h = &m->h;
    const pg_layer *y = &m->layer[l];
    const int H = h->n_head[l], G = h->n_head_kv[l];
    pg_ref q = pg_emit_matmul(p, x, &y->w[PG_T_Q], y->v[PG_T_Q]);
    pg_ref k = pg_emit_matmul(p, x, &y->w[PG_T_K], y->v[PG_T_K]);
    pg_ref v = pg_emit_matmul(p, x, &y->w[PG_T_V], y->v[PG_T_V]);
    if (y->v[PG_T_Q_NORM])
        pg_emit_norm_at(p, q, y->v[PG_T_Q_NORM], h->eps, y->n[PG_T_Q_NORM], pg_plan_width(p, q) / y->n[PG_T_Q_NORM]);
    if (y->v[PG_T_K_NORM])
        pg_emit_norm_at(p, k, y->v[PG_T_K_NORM], h->eps, y->n[PG_T_K_NORM], pg_plan_width(p, k) / y->n[PG_T_K_NORM]);
    emit_clamp(p, q, h->clamp_qkv);
    emit_clamp(p, k, h->clamp_qkv);
    emit_clamp(p, v, h->clamp_qkv);
    emit_rope(p, q, angles, h, 0, H, h->head_k);
    emit_rope(p, k, angles, h, 0, G, h->head_k);
    const int32_t ks = emit_store(p, k), vs = emit_store(p, v);
    pg_ref o = emit_attn(p, m, l, q, ks, vs, G, h->head_k, h->head_v);
    return pg_emit_matmul(p, o, &y->w[PG_T_O], y->v[PG_T_O]);
}

/* One matrix a head: matrix b takes columns from b * x_step of x into columns from b * y_step of y. */
static void emit_heads(pg_plan *p, pg_ref y, pg_ref x, const pg_tensor *w, int turned, int x_step, int y_step)
{
    pg_op *op = pg_plan_emit(p, PG_OP_MATMUL, y, x, PG_NO_REF);
    if (!op) return;
    op->w = w;
    op->a.matmul.batch = (int32_t)w->shape[2];
    op->a.matmul.x_step = x_step;
    op->a.matmul.y_step = y_step;
    op->a.matmul.transposed = turned;
    op->a.matmul.scale = 1;
}

static void emit_copy(pg_plan *p, pg_ref dst, pg_ref src, int heads, int n, int src_col, int src_step, int dst_col,
                      int dst_step)
{
    pg_op *op = pg_plan_emit(p, PG_OP_COPY, dst, src, PG_NO_REF);
    if (!op) return;
    op->a.copy.heads = heads;
    op->a.copy.n = n;
    op->a.copy.src_col = src_col;
    op->a.copy.src_step = src_step;
    op->a.copy.dst_col = dst_col;
    op->a.copy.dst_step = dst_step;
}

static void emit_mla(pg_plan *p, const pg_model *m, int l, pg_ref y, pg_ref q, int32_t stream)
{
    const pg_hparams *h = &m->h;
    const pg_layer *layer = &m->layer[l];
    pg_op *op = pg_plan_emit(p, PG_OP_MLA, y, q, PG_NO_REF);
    if (!op) return;
    op->w = &layer->k_part;
    op->a.mla.v = &layer->v_part;
    op->a.mla.across = !layer->k_turned;
    op->a.mla.stream = stream;
    op->a.mla.heads = h->n_head[l];
    op->a.mla.nope = h->nope;
    op->a.mla.rot = h->n_rot;
    op->a.mla.latent = h->kv_lora;
    op->a.mla.dv = h->head_v;
    op->a.mla.scale = h->attn_scale;
}

/* Whether rows of the prefill class expand latents: the plain kind of attention, and fewer products. */
static int is_expanded(const pg_model *m, int l)
{
    const pg_hparams *h = &m->h;
    return !h->windowed[l] && h->attn_softcap <= 0 && !m->layer[l].v[PG_T_SINKS] &&
           h->nope + h->head_v < 2 * h->kv_lora;
}

static pg_ref mla(pg_plan *p, const pg_model *m, int l, pg_ref x, pg_ref angles)
{
    const pg_hparams *h = &m->h;
    const pg_layer *y = &m->layer[l];
    const int H = h->n_head[l], latent = h->kv_lora, wide = latent + h->n_rot;
    const int low_rank = y->w[PG_T_Q_A].dtype != PG_DTYPE_NONE;
    pg_ref kv = pg_emit_matmul(p, x, &y->w[PG_T_KV_A], y->v[PG_T_KV_A]); /* [T, latent | rope] */
    /* the queries' first matrix stands next to the one above: a backend may run both at once */
    pg_ref q = pg_emit_matmul(p, x, &y->w[low_rank ? PG_T_Q_A : PG_T_Q], y->v[low_rank ? PG_T_Q_A : PG_T_Q]);
    if (low_rank) q = pg_emit_norm(p, q, y->v[PG_T_Q_A_NORM], h->eps);
    pg_emit_norm_at(p, kv, y->v[PG_T_KV_A_NORM], h->eps, latent, 1);
    emit_rope(p, kv, angles, h, latent, 1, 0);
    const int32_t stream = emit_store(p, kv), first = p->code.n_op;
    /* from here on heads have nothing to do with each other */
    if (low_rank) q = pg_emit_matmul(p, q, &y->w[PG_T_Q_B], y->v[PG_T_Q_B]);
    emit_rope(p, q, angles, h, h->nope, H, h->head_k);
    pg_ref v = pg_plan_value(p, PG_ROWS_ALL, (int64_t)H * h->head_v);
    const int expanded = is_expanded(m, l);
    if (expanded) emit_mla(p, m, l, v, q, stream);
    const int32_t absorbed = p->code.n_op;
    pg_ref qa = pg_plan_value(p, PG_ROWS_ALL, (int64_t)H * wide); /* per head [latent | rope] */
    emit_heads(p, qa, q, &y->k_part, y->k_turned, h->head_k, wide);
    emit_copy(p, qa, q, H, h->n_rot, h->nope, h->head_k, latent, wide);
    pg_ref o = emit_attn(p, m, l, qa, stream, stream, 1, wide, latent);
    emit_heads(p, v, o, &y->v_part, 0, latent, h->head_v);
    pg_plan_apart(p, first);
    for (int32_t i = absorbed; i < p->code.n_op; i++) p->op[i].decode_only = expanded;
    return pg_emit_matmul(p, v, &y->w[PG_T_O], y->v[PG_T_O]);
}

pg_ref pg_block_attn(pg_plan *p, const pg_model *m, int l, pg_ref x, pg_ref angles)
{
    const pg_layer *y = &m->layer[l];
    pg_ref a = pg_emit_norm(p, x, y->v[PG_T_ATTN_NORM], m->h.eps);
    a = m->arch->attn == PG_ATTN_MLA ? mla(p, m, l, a, angles) : gqa(p, m, l, a, angles);
    if (y->v[PG_T_ATTN_POST_NORM]) a = pg_emit_norm(p, a, y->v[PG_T_ATTN_POST_NORM], m->h.eps);
    return pg_emit_add(p, x, a, m->h.residual_scale);
}
