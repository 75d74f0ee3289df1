/* mix: the table of quantisations, and what a tensor's name says about its place.
 *
 * Why the values, down projections and head get more bits: their errors reach the residual stream, or the logits, with
 * nothing in between; the first and last eighth of the layers and every third between were found to matter most.
 * Source: the mixes of llama.cpp's llama-quantize, as facts. */
#include "mix.h"

#include "../../kernels/unpack/panel.h"

#include <stdlib.h>
#include <strings.h>

#define NONE PG_DTYPE_NONE
static const pg_mix table[] = {
    { "f16", 1, 0, PG_F16, NONE, PG_F16, NONE },
    { "bf16", 32, 0, PG_BF16, NONE, PG_BF16, NONE },
    { "q8_0", 7, 0, PG_Q8_0, NONE, PG_Q8_0, NONE },
    { "q6_k", 18, 0, PG_Q6_K, NONE, PG_Q6_K, NONE },
    { "q5_k_m", 17, 0, PG_Q5_K, PG_Q6_K, PG_Q6_K, NONE },
    { "q5_k", 16, 0, PG_Q5_K, NONE, PG_Q6_K, NONE },
    { "q5_1", 9, 0, PG_Q5_1, NONE, PG_Q6_K, NONE },
    { "q5_0", 8, 0, PG_Q5_0, NONE, PG_Q6_K, NONE },
    { "q4_k_m", 15, 0, PG_Q4_K, PG_Q6_K, PG_Q6_K, NONE },
    { "q4_k", 14, 0, PG_Q4_K, NONE, PG_Q6_K, NONE },
    { "q4_0", 2, 0, PG_Q4_0, NONE, PG_Q6_K, NONE },
    { "mxfp4", 38, 0, PG_Q8_0, NONE, PG_Q8_0, PG_MXFP4 },
    { "copy", 0, 1, NONE, NONE, NONE, NONE },
};
enum { N_MIX = sizeof table / sizeof *table };

const pg_mix *pg_mix_find(const char *name)
{
    for (int i = 0; i < N_MIX; i++)
        if (strcasecmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}

const char *pg_mix_names(void)
{
    return "f16, bf16, q8_0, q6_k, q5_k_m, q5_k, q5_1, q5_0, q4_k_m, q4_k, q4_0, mxfp4 or copy";
}

static int holds(pg_text name, const char *part)
{
    return memmem(name.data, name.n, part, strlen(part)) != NULL;
}

static int ends(pg_text name, const char *end)
{
    const size_t n = strlen(end);
    return name.n >= n && memcmp(name.data + name.n - n, end, n) == 0;
}

static int is(pg_text name, const char *whole)
{
    return name.n == strlen(whole) && ends(name, whole);
}

/* N of "blk.N.", -1 when the tensor belongs to no layer. */
static int layer_of(pg_text name)
{
    int layer = 0;
    size_t i = 4;
    if (name.n < 6 || memcmp(name.data, "blk.", 4) != 0) return -1;
    for (; i < name.n && i < 9 && name.data[i] >= '0' && name.data[i] <= '9'; i++)
        layer = 10 * layer + (name.data[i] - '0');
    return i > 4 && i < name.n && name.data[i] == '.' ? layer : -1;
}

pg_mix_model pg_mix_look(const pg_source *s)
{
    pg_mix_model model = { .tied = !pg_source_find(s, "output.weight") };
    for (int i = 0; i < pg_source_n_tensor(s); i++) {
        const int layer = layer_of(pg_source_tensor_at(s, i)->name);
        if (layer >= model.n_layer) model.n_layer = layer + 1;
    }
    return model;
}

int pg_mix_is_matrix(const pg_source_tensor *t)
{
    const int64_t *shape = t->view.shape;
    return ends(t->name, ".weight") && !ends(t->name, "norm.weight") && !holds(t->name, "ffn_gate_inp") &&
           shape[0] > 1 && (shape[1] > 1 || shape[2] > 1) && pg_dtype_is_weight(t->view.dtype);
}

int pg_mix_may_pack(const pg_source_tensor *t)
{
    const int64_t *shape = t->view.shape;
    if (!pg_mix_is_matrix(t) || is(t->name, "token_embd.weight") || holds(t->name, "attn_kv_b.")) return 0;
    if (holds(t->name, "ffn_gate_up")) return shape[1] % (2 * (int64_t)PG_PANEL) == 0;
    return shape[2] > 1 || !(holds(t->name, "attn_k_b.") || holds(t->name, "attn_v_b."));
}

int pg_mix_is_expert(const pg_source_tensor *t)
{
    static const char *const alone[] = { ".ffn_gate.", ".ffn_up.", ".ffn_down." }; /* an expert's number follows */
    const pg_text name = t->name;
    if (holds(name, "_exps.")) return pg_mix_is_matrix(t);
    for (int i = 0; i < 3; i++) {
        const char *at = memmem(name.data, name.n, alone[i], strlen(alone[i]));
        const char *next = at ? at + strlen(alone[i]) : NULL;
        if (next && next < name.data + name.n && *next >= '0' && *next <= '9') return pg_mix_is_matrix(t);
    }
    return 0;
}

static int deserves_more(const pg_mix_model *model, pg_text name)
{
    const int layer = layer_of(name), n = model->n_layer;
    if (!holds(name, "attn_v.") && !holds(name, "attn_v_b") && !holds(name, "ffn_down")) return 0;
    return layer >= 0 && (layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2);
}

/* What a format gives way to when rows are not whole blocks of 256, then of 32. */
static pg_dtype fitting(pg_dtype type, int64_t n_col)
{
    if (n_col % pg_dtype_get(type)->block == 0) return type;
    type = type == PG_Q4_K ? PG_Q5_0 : type == PG_Q5_K ? PG_Q5_1 : PG_Q8_0;
    return n_col % pg_dtype_get(type)->block == 0 ? type : PG_F16;
}

pg_dtype pg_mix_type(const pg_mix *mix, const pg_mix_model *model, const pg_source_tensor *t)
{
    const pg_dtype now = t->view.dtype;
    const int is_head = is(t->name, model->tied ? "token_embd.weight" : "output.weight");
    if (mix->copy) return now;
    if (!pg_mix_is_matrix(t)) return now == PG_F16 || now == PG_BF16 ? PG_F32 : now;
    pg_dtype type = is_head ? mix->head : mix->base;
    if (mix->experts != NONE && pg_mix_is_expert(t)) type = mix->experts;
    if (mix->more != NONE && deserves_more(model, t->name)) type = mix->more;
    return fitting(type, t->view.shape[0]);
}
