/* experts.c: the routed experts of a layer, in the seven ways that files store them, as three views an expert.
 *
 *   GGUF   stacked ffn_{gate,up,down}_exps; gate and up fused in ffn_gate_up_exps; one tensor an expert (oldest Mixtral)
 *   HF     one tensor an expert; stacked with gate rows before up rows (granitemoe, newer exports); gpt-oss: gate and up
 *          rows alternating, stored transposed as floats, or as MXFP4 blocks whose nibbles pair neighbours
 * Only gpt-oss's checkpoints are converted into memory of our own; everything else stays where the file has it. */
#include "model.h"

#include <stdio.h>

typedef struct place {
    pg_model *m;
    int l;
    pg_tensor *gate, *up, *down; /* [n_expert] */
    int64_t D, F, E;
    pg_error *err;
} place;

/* Views of E matrices {n0, n1} from a stacked tensor, of which rows first, first + step, .. (n_row of them) are meant. */
static int spread(const place *p, const pg_tensor *all, int64_t first, int64_t n_row, int64_t step, pg_tensor *to)
{
    for (int64_t e = 0; e < p->E; e++) {
        const pg_tensor one = pg_tensor_slice(all, e);
        to[e] = pg_tensor_rows(&one, first, n_row, step);
    }
    return PG_OK;
}

static int stacked(const place *p, const pg_source_tensor *t, int64_t n0, int64_t n1, pg_tensor *to)
{
    pg_tensor all;
    const int rc = pg_model_view(p->m, t, n0, n1, p->E, &all, p->err);
    return rc < 0 ? rc : spread(p, &all, 0, n1, 1, to);
}

/* Gate rows, then up rows, in one stacked tensor; downs in another. */
static int fused(const place *p, const pg_source_tensor *in, const pg_source_tensor *down)
{
    pg_tensor all;
    int rc = pg_model_view(p->m, in, p->D, 2 * p->F, p->E, &all, p->err);
    if (rc >= 0) rc = pg_model_cut(p->m, in, p->F, p->err);
    if (rc < 0) return rc;
    spread(p, &all, 0, p->F, 1, p->gate);
    spread(p, &all, p->F, p->F, 1, p->up);
    return stacked(p, down, p->F, p->D, p->down);
}

/* One tensor an expert; names hold a %d, the families' tables and the three below are where they come from. */
static int separate(const place *p, const char *const names[3])
{
    pg_tensor *const to[3] = { p->gate, p->up, p->down };
    for (int64_t e = 0; e < p->E; e++)
        for (int i = 0; i < 3; i++) {
            const char *cut = strstr(names[i], "%d");
            char name[128];
            snprintf(name, sizeof name, "%.*s%d%s", (int)(cut - names[i]), names[i], (int)e, cut + 2);
            const pg_source_tensor *t = pg_model_find(p->m, p->l, name, "weight");
            if (!t) return pg_model_missing(p->m, p->l, name, "weight", p->err);
            const int rc = pg_model_view(p->m, t, i == 2 ? p->F : p->D, i == 2 ? p->D : p->F, 1, &to[i][e], p->err);
            if (rc < 0) return rc;
        }
    return PG_OK;
}

/* ---- gpt-oss checkpoints ------------------------------------------------------------------------------------------- */

/* [E][n1][n0] stored transposed as {n1, n0, E} -> {n0, n1, E} in our memory, same format. */
static int turn(const place *p, const pg_source_tensor *t, int64_t n0, int64_t n1, pg_tensor *out)
{
    pg_tensor in;
    const int rc = pg_model_view(p->m, t, n1, n0, p->E, &in, p->err);
    if (rc < 0) return rc;
    const int size = pg_dtype_get(in.dtype)->bytes;
    if (pg_dtype_get(in.dtype)->block != 1 || in.dtype == PG_FP8)
        return pg_fail(p->err, PG_EUNSUPPORTED, "%s: %.*s is transposed and stored as %s; expected a float format",
                       pg_source_path(p->m->source), (int)t->name.n, t->name.data, pg_dtype_get(in.dtype)->name);
    char *to = p->m->weights ? pg_model_alloc(p->m, (size_t)(n0 * n1 * p->E * size), p->err) : (char *)in.data;
    if (!to) return PG_EMEMORY;
    *out = pg_tensor_dense(in.dtype, to, n0, n1, p->E);
    if (!p->m->weights) return PG_OK;
    for (int64_t e = 0; e < p->E; e++)
        for (int64_t j = 0; j < n1; j++)
            for (int64_t i = 0; i < n0; i++)
                memcpy(to + ((e * n1 + j) * n0 + i) * size, (const char *)in.data + ((e * n0 + i) * n1 + j) * size,
                       (size_t)size);
    pg_model_converted(p->m, t);
    return PG_OK;
}

/* MXFP4 blocks {16, n0/32, n1, E} with neighbours in a byte, and their scales -> GGUF's blocks, {n0, n1, E}. */
static int repack(const place *p, const char *name, int64_t n0, int64_t n1, pg_tensor *out)
{
    char full[128];
    snprintf(full, sizeof full, "%s_blocks", name);
    const pg_source_tensor *b = pg_model_find(p->m, p->l, full, "");
    if (!b) return pg_model_missing(p->m, p->l, full, "", p->err);
    snprintf(full, sizeof full, "%s_scales", name);
    const pg_source_tensor *s = pg_model_find(p->m, p->l, full, "");
    if (!s) return pg_model_missing(p->m, p->l, full, "", p->err);
    const int64_t *bs = b->view.shape, *ss = s->view.shape, n_block = n0 / 32 * n1 * p->E;
    if (n0 % 32 || bs[0] != 16 || bs[1] != n0 / 32 || bs[2] != n1 || bs[3] != p->E || ss[0] != n0 / 32 || ss[1] != n1 ||
        ss[2] != p->E || b->view.dtype != PG_U8 || s->view.dtype != PG_U8)
        return pg_fail(p->err, PG_EFORMAT,
                       "%s: layer %d: %s_blocks and _scales do not have the shapes of %lld x %lld x %lld MXFP4",
                       pg_source_path(p->m->source), p->l, name, (long long)n0, (long long)n1, (long long)p->E);
    uint8_t *to = p->m->weights ? pg_model_alloc(p->m, (size_t)n_block * 17, p->err) : (uint8_t *)b->view.data;
    if (!to) return PG_EMEMORY;
    *out = pg_tensor_dense(PG_MXFP4, to, n0, n1, p->E);
    if (!p->m->weights) return PG_OK;
    const uint8_t *from = b->view.data, *scale = s->view.data;
    for (int64_t i = 0; i < n_block; i++, from += 16, to += 17) {
        to[0] = scale[i];
        for (int j = 0; j < 16; j++) { /* value v sits in byte v / 2; the block wants v and v + 16 together */
            const int low = from[j / 2] >> 4 * (j % 2) & 15, high = from[8 + j / 2] >> 4 * (j % 2) & 15;
            to[1 + j] = (uint8_t)(low | high << 4);
        }
    }
    pg_model_converted(p->m, b);
    pg_model_converted(p->m, s);
    return PG_OK;
}

static int alternating(const place *p, const char *in_name, const char *down_name)
{
    const pg_source_tensor *in = pg_model_find(p->m, p->l, in_name, ""), *dn = pg_model_find(p->m, p->l, down_name, "");
    pg_tensor both, down;
    int rc = in ? turn(p, in, p->D, 2 * p->F, &both) : repack(p, in_name, p->D, 2 * p->F, &both);
    if (rc >= 0) rc = dn ? turn(p, dn, p->F, p->D, &down) : repack(p, down_name, p->F, p->D, &down);
    if (rc < 0) return rc;
    spread(p, &both, 0, p->F, 2, p->gate);
    spread(p, &both, 1, p->F, 2, p->up);
    return spread(p, &down, 0, p->D, 1, p->down);
}

/* ---- biases ---------------------------------------------------------------------------------------------------------- */

/* [E][2F] with gate and up alternating (step 2) or one after the other (step 1) -> two arrays [E][F]. */
static int split_bias(const place *p, const pg_source_tensor *t, int step, const float **gate, const float **up)
{
    const float *both;
    const int rc = pg_model_vector(p->m, t, 2 * p->F * p->E, &both, NULL, p->err);
    if (rc < 0) return rc;
    float *g = pg_model_alloc(p->m, (size_t)(p->F * p->E) * sizeof(float), p->err);
    float *u = g ? pg_model_alloc(p->m, (size_t)(p->F * p->E) * sizeof(float), p->err) : NULL;
    if (!u) return PG_EMEMORY;
    for (int64_t e = 0; e < p->E; e++)
        for (int64_t i = 0; i < p->F; i++) {
            g[e * p->F + i] = both[e * 2 * p->F + step * i];
            u[e * p->F + i] = both[e * 2 * p->F + (step == 2 ? 2 * i + 1 : p->F + i)];
        }
    *gate = g;
    *up = u;
    return PG_OK;
}

static int read_biases(const place *p, int hf, pg_experts *x)
{
    const pg_source_tensor *g, *u, *d, *both;
    int rc = PG_OK;
    char name[128];
    if (hf) {
        if (!p->m->arch->hf_experts[0]) return PG_OK;
        snprintf(name, sizeof name, "%s_bias", p->m->arch->hf_experts[0]);
        both = pg_model_find(p->m, p->l, name, "");
        snprintf(name, sizeof name, "%s_bias", p->m->arch->hf_experts[1]);
        d = pg_model_find(p->m, p->l, name, "");
        g = u = NULL;
    } else {
        both = pg_model_find(p->m, p->l, "ffn_gate_up_exps", "bias");
        g = pg_model_find(p->m, p->l, "ffn_gate_exps", "bias");
        u = pg_model_find(p->m, p->l, "ffn_up_exps", "bias");
        d = pg_model_find(p->m, p->l, "ffn_down_exps", "bias");
    }
    if (both) rc = split_bias(p, both, hf ? 2 : 1, &x->gate_bias, &x->up_bias);
    if (rc >= 0 && g) rc = pg_model_vector(p->m, g, p->F * p->E, &x->gate_bias, NULL, p->err);
    if (rc >= 0 && u) rc = pg_model_vector(p->m, u, p->F * p->E, &x->up_bias, NULL, p->err);
    if (rc >= 0 && d) rc = pg_model_vector(p->m, d, p->D * p->E, &x->down_bias, NULL, p->err);
    return rc;
}

/* ---- which of them ---------------------------------------------------------------------------------------------------- */

static int from_gguf(const place *p)
{
    static const char *const oldest[3] = { "ffn_gate.%d", "ffn_up.%d", "ffn_down.%d" };
    const pg_source_tensor *g = pg_model_find(p->m, p->l, "ffn_gate_exps", "weight");
    const pg_source_tensor *u = pg_model_find(p->m, p->l, "ffn_up_exps", "weight");
    const pg_source_tensor *d = pg_model_find(p->m, p->l, "ffn_down_exps", "weight");
    const pg_source_tensor *gu = pg_model_find(p->m, p->l, "ffn_gate_up_exps", "weight");
    int rc;
    if (!d && pg_model_find(p->m, p->l, "ffn_gate.0", "weight")) return separate(p, oldest);
    if (d && gu) return fused(p, gu, d);
    if (!d || !g || !u)
        return pg_model_missing(p->m, p->l,
                                !d  ? "ffn_down_exps"
                                : g ? "ffn_up_exps"
                                    : "ffn_gate_exps",
                                "weight", p->err);
    if ((rc = stacked(p, g, p->D, p->F, p->gate)) < 0 || (rc = stacked(p, u, p->D, p->F, p->up)) < 0) return rc;
    return stacked(p, d, p->F, p->D, p->down);
}

static int from_hf(const place *p)
{
    const pg_arch *a = p->m->arch;
    const char *in = a->hf_experts[0] ? a->hf_experts[0] : "mlp.experts.gate_up_proj";
    const char *down = a->hf_experts[1] ? a->hf_experts[1] : "mlp.experts.down_proj";
    if (a->glu == PG_GLU_OSS) return alternating(p, in, down);
    const pg_source_tensor *t = pg_model_find(p->m, p->l, in, "weight"), *d = pg_model_find(p->m, p->l, down, "weight");
    if (!t) t = pg_model_find(p->m, p->l, in, "");
    if (!d) d = pg_model_find(p->m, p->l, down, "");
    if (t && d) return fused(p, t, d);
    return a->hf_expert[0] ? separate(p, a->hf_expert) : pg_model_missing(p->m, p->l, t ? down : in, "", p->err);
}

static int is_like(const pg_tensor *a, const pg_tensor *b)
{
    return a->dtype == b->dtype && a->packed == b->packed;
}

/* The kernels choose their arithmetic once for all experts of a layer. */
static int same_format(const place *p)
{
    for (int64_t e = 1; e < p->E; e++)
        if (!is_like(&p->gate[e], p->gate) || !is_like(&p->up[e], p->up) || !is_like(&p->down[e], p->down))
            return pg_fail(p->err, PG_EUNSUPPORTED, "%s: layer %d: expert %d is stored in another format than expert 0",
                           pg_source_path(p->m->source), p->l, (int)e);
    return PG_OK;
}

int pg_model_experts(pg_model *m, int l, pg_error *err)
{
    pg_layer *y = &m->layer[l];
    const int hf = pg_source_dialect(m->source) == PG_DIALECT_HF;
    if (y->w[PG_T_ROUTER].dtype == PG_DTYPE_NONE) return PG_OK;
    place p = { .m = m, .l = l, .D = m->h.n_embd, .F = m->h.n_ff_exp, .E = m->h.n_expert, .err = err };
    pg_tensor *all = pg_model_alloc(m, (size_t)p.E * 3 * sizeof *all, err);
    if (!all) return PG_EMEMORY;
    p.gate = all, p.up = all + p.E, p.down = all + 2 * p.E;
    y->expert = all;
    int rc = hf ? from_hf(&p) : from_gguf(&p);
    if (rc >= 0) rc = same_format(&p);
    if (rc < 0) return rc;
    y->experts = (pg_experts){ .n_expert = m->h.n_expert,
                               .n_used = m->h.n_used,
                               .n_embd = m->h.n_embd,
                               .n_ff = m->h.n_ff_exp,
                               .glu = m->arch->glu,
                               .limit = m->h.glu_limit,
                               .gate = p.gate,
                               .up = p.up,
                               .down = p.down };
    return read_biases(&p, hf, &y->experts);
}
