/* Models that are well-formed GGUF files and not what they claim to be: golden ones with a key or a tensor changed,
 * given to pg_describe and pg_open. Each must be refused with the right code by both, in words that name the file and
 * the culprit; what is harmless must be taken, with the same logits. Not here: Hugging Face folders (folder_refuse),
 * damage to the container (gguf_refuse), tokenizers (token_refuse), random damage (model_fuzz). */
#include "../../engine/model.h"
#include "model_edit.h"

enum how { NOTHING, DROP, INT, F32, F64, TEXT, LIST, ZEROS };

/* One change. Names may begin with "@" for the family and a dot. ZEROS replaces a tensor by one of zeros. */
typedef struct change {
    const char *name;
    enum how how;
    uint32_t kind; /* G_* of a key, ggml type of a tensor */
    uint64_t v;
    double f;
    const char *text;
    uint32_t n; /* elements of a list, dimensions of a tensor */
    const uint64_t *list;
} change;

typedef struct row {
    int used;
    change a, b;
    expected expect; /* says NULL: the name that a changes */
} row;

/* clang-format off */
#define drop(key) { .name = key, .how = DROP }
#define num(key, type, x) { .name = key, .how = INT, .kind = type, .v = (uint64_t)(x) }
#define u32(key, x) num(key, G_U32, x)
#define bit(key, x) num(key, G_BOOL, x)
#define f32(key, x) { .name = key, .how = F32, .f = x }
#define f64(key, x) { .name = key, .how = F64, .f = x }
#define txt(key, x) { .name = key, .how = TEXT, .text = x }
#define COUNT(...) (sizeof((const uint64_t[]){ __VA_ARGS__ }) / 8), .list = (const uint64_t[]){ __VA_ARGS__ }
#define list(key, type, ...) { .name = key, .how = LIST, .kind = type, .n = COUNT(__VA_ARGS__) }
#define zeros(tensor, type, ...) { .name = tensor, .how = ZEROS, .kind = type, .n = COUNT(__VA_ARGS__) }
#define none { .name = "" }

#define SAME(x, y) { .used = 1, .a = x, .b = y, .expect = { .code = PG_OK, .same = 1 } }
#define RUNS(x, y) { .used = 1, .a = x, .b = y, .expect = { .code = PG_OK } }
#define BAD(x, word) { .used = 1, .a = x, .b = none, .expect = { .code = PG_EFORMAT, .also = word } }
#define ALIEN(x, word) { .used = 1, .a = x, .b = none, .expect = { .code = PG_EUNSUPPORTED, .also = word } }
#define BAD_BY(x, name_, word) { .used = 1, .a = x, .b = none, .expect = { PG_EFORMAT, name_, word, 0 } }
#define BAD_PAIR(x, y, name_, word) { .used = 1, .a = x, .b = y, .expect = { PG_EFORMAT, name_, word, 0 } }
#define LONG "llama-llama-llama-llama-llama-llama-llama-llama-llama-llama-llama-llama-llama-llama-llama-llama"

static const row llama[] = {
    SAME(none, none),
    /* required keys */
    BAD(drop("general.architecture"), "missing"),
    BAD(drop("@block_count"), "missing"),
    BAD(drop("@embedding_length"), "missing"),
    BAD(drop("@attention.head_count"), "missing"),
    BAD(drop("@attention.layer_norm_rms_epsilon"), "missing"),
    BAD(drop("@feed_forward_length"), "blk.0.ffn_gate.weight"),
    /* optional ones */
    SAME(drop("@vocab_size"), drop("@context_length")),
    SAME(drop("@rope.dimension_count"), drop("@rope.freq_base")),
    SAME(drop("general.name"), txt("made.up.key", "x")),
    SAME(zeros("made.up.weight", 0, 3, 5), none),
    RUNS(drop("output.weight"), none),
    /* types */
    SAME(num("@block_count", G_U8, 3), num("@embedding_length", G_I64, 64)),
    SAME(num("@attention.head_count", G_U16, 6), f64("@attention.layer_norm_rms_epsilon", 9.999999747378752e-06)),
    BAD(u32("general.architecture", 1), "string"),
    BAD(txt("@block_count", "3"), "integer"),
    BAD(f32("@block_count", 3), "integer"),
    BAD(bit("@block_count", 1), "integer"),
    BAD(list("@block_count", G_U32, 3), "integer"),
    BAD(txt("@attention.head_count", "6"), "integer"),
    BAD(list("@attention.head_count", G_F32, 6, 6, 6), "integer"),
    BAD(txt("@attention.layer_norm_rms_epsilon", "1e-5"), "number"),
    BAD(bit("@attention.layer_norm_rms_epsilon", 1), "number"),
    BAD(txt("@rope.freq_base", "10000"), "number"),
    BAD(u32("@rope.scaling.type", 1), "string"),
    /* ranges of sizes */
    BAD(u32("@block_count", 0), "1 to 512"),
    BAD(u32("@block_count", 513), "513"),
    BAD(u32("@block_count", 1u << 31), "2147483648"),
    BAD(num("@block_count", G_U64, UINT64_MAX), ""),
    BAD(num("@block_count", G_I32, -1), "-1"),
    BAD_BY(u32("@block_count", 4), "blk.3.", "missing"),
    BAD_BY(u32("@nextn_predict_layers", 3), "@block_count", "nextn_predict_layers"),
    BAD(u32("@embedding_length", 0), ""),
    BAD(u32("@embedding_length", (1 << 20) + 1), ""),
    BAD_BY(u32("@embedding_length", 96), "token_embd.weight", "96"),
    BAD(u32("@context_length", 0), ""),
    BAD(u32("@context_length", 1u << 31), ""),
    SAME(u32("@context_length", INT32_MAX), none),
    BAD(u32("@vocab_size", 0), ""),
    BAD(u32("@feed_forward_length", 0), ""),
    BAD(u32("@feed_forward_length", (1 << 22) + 1), ""),
    BAD_BY(u32("@feed_forward_length", 128), "blk.0.ffn_gate.weight", "128"),
    /* heads */
    BAD(u32("@attention.head_count", 0), "1 to 1024"),
    BAD(u32("@attention.head_count", 1025), "1025"),
    BAD(u32("@attention.head_count", 5), "multiple of the 2"),
    BAD(u32("@attention.head_count_kv", 0), ""),
    BAD_BY(u32("@attention.head_count_kv", 4), "@attention.head_count", "multiple of the 4"),
    BAD_BY(u32("@attention.head_count_kv", 12), "@attention.head_count", "multiple of the 12"),
    BAD_BY(drop("@attention.head_count_kv"), "blk.0.attn_k.weight", "120"),
    BAD(u32("@attention.key_length", 0), ""),
    BAD(u32("@attention.key_length", 1025), "1 to 1024"),
    BAD(u32("@attention.key_length", 1u << 15), ""),
    BAD_BY(u32("@attention.key_length", 24), "blk.0.attn_q.weight", "144"),
    BAD_PAIR(u32("@attention.key_length", 21), drop("@rope.dimension_count"), "@rope.dimension_count", "even"),
    BAD_PAIR(drop("@attention.key_length"), u32("@embedding_length", 4), "@attention.key_length", "missing"),
    BAD(u32("@attention.value_length", 0), ""),
    BAD(u32("@attention.value_length", 1025), "1 to 1024"),
    BAD(u32("@rope.dimension_count", 0), ""),
    BAD(u32("@rope.dimension_count", 7), "even"),
    BAD(u32("@rope.dimension_count", 22), "2 to 20"),
    BAD(u32("@rope.dimension_count", UINT32_MAX), ""),
    /* a number for each layer */
    SAME(list("@attention.head_count", G_U32, 6, 6, 6), list("@attention.head_count_kv", G_I32, 2, 2, 2)),
    SAME(list("@feed_forward_length", G_U64, 96, 96, 96, 0), list("@attention.head_count_kv", G_U8, 2, 2, 2, 255)),
    BAD(list("@attention.head_count", G_U32, 6, 6), "3 layers"),
    BAD(list("@attention.head_count_kv", G_U32, 2, 2), "3 layers"),
    BAD(list("@feed_forward_length", G_U32, 96), "3 layers"),
    BAD(list("@attention.head_count_kv", G_U32, 2, 0, 2), "[1]"),
    BAD_BY(list("@attention.head_count_kv", G_U32, 2, 2, 4), "@attention.head_count", "layer 2"),
    BAD(list("@attention.head_count", G_I32, 6, 6, UINT32_MAX), "[2]"),
    BAD_BY(list("@attention.head_count_kv", G_U32, 2, 6, 2), "blk.1.attn_k.weight", "120"),
    /* floats */
    BAD(f32("@attention.layer_norm_rms_epsilon", NAN), "finite"),
    BAD(f32("@attention.layer_norm_rms_epsilon", INFINITY), "finite"),
    BAD(f32("@attention.layer_norm_rms_epsilon", 0), "above 0"),
    BAD(f32("@attention.layer_norm_rms_epsilon", -1e-5), "above 0"),
    BAD(f64("@attention.layer_norm_rms_epsilon", 1e-60), "above 0"),
    BAD(f64("@attention.layer_norm_rms_epsilon", 1e60), "1e+60"),
    BAD(f32("@rope.freq_base", NAN), "finite"),
    BAD(f32("@rope.freq_base", -INFINITY), "finite"),
    BAD(f32("@rope.freq_base", 0), "above 0"),
    BAD(f32("@rope.freq_base", -10000), "above 0"),
    BAD_BY(f32("@rope.freq_base", 1e-45), "rope.freq_base", "not finite"),
    BAD(f32("@rope.scaling.factor", NAN), "finite"),
    BAD(f32("@rope.scaling.factor", 0), "above 0"),
    BAD(f32("@rope.scaling.factor", -2), "above 0"),
    BAD_BY(f32("@rope.scale_linear", 1e-45), "rope.scaling", "not finite"),
    BAD(u32("@rope.scaling.original_context_length", 0), "above 0"),
    BAD(f32("@attention.scale", 0), "above 0"),
    BAD(f32("@logit_scale", 1e-45), "inf"),
    BAD(f32("@embedding_scale", INFINITY), "finite"),
    BAD(f32("@residual_scale", NAN), "finite"),
    /* what nothing here can run */
    ALIEN(txt("general.architecture", "mamba"), "mamba"),
    ALIEN(txt("general.architecture", ""), "qwen3moe"),
    ALIEN(txt("general.architecture", LONG), ""),
    BAD_BY(txt("general.architecture", "qwen3"), "qwen3.block_count", "missing"),
    ALIEN(txt("@rope.scaling.type", "longrope"), "longrope"),
    ALIEN(f32("@final_logit_softcapping", 30), ""),
    /* tensors */
    BAD(drop("token_embd.weight"), "missing"),
    BAD(drop("output_norm.weight"), "missing"),
    BAD(drop("blk.1.attn_norm.weight"), "missing"),
    BAD(drop("blk.0.attn_q.weight"), "missing"),
    BAD(drop("blk.2.attn_k.weight"), "missing"),
    BAD(drop("blk.2.attn_v.weight"), "missing"),
    BAD(drop("blk.2.attn_output.weight"), "missing"),
    BAD(drop("blk.2.ffn_norm.weight"), "missing"),
    BAD(drop("blk.1.ffn_gate.weight"), "missing"),
    BAD(drop("blk.1.ffn_up.weight"), "missing"),
    BAD(drop("blk.1.ffn_down.weight"), "missing"),
    BAD(zeros("output.weight", 0, 64, 296), "expected 64 x 297"),
    BAD(zeros("blk.0.attn_q.weight", 0, 64, 121), "expected 64 x 120"),
    BAD(zeros("blk.0.attn_output.weight", 0, 64, 120), "expected 120 x 64"),
    BAD(zeros("blk.0.attn_q.weight", 0, 64, 120, 1, 2), ""),
    BAD(zeros("blk.0.attn_norm.weight", 0, 63), "expected 64"),
    BAD(zeros("blk.0.attn_norm.weight", 0, 64, 2), "expected 64"),
    BAD(zeros("blk.0.attn_norm.weight", 0, 64, 1, 1, 2), "expected 64"),
    BAD(zeros("blk.0.attn_q.bias", 0, 121), "expected 120"),
    BAD(zeros("blk.0.attn_q_norm.weight", 0, 19), "20 or 120"),
    BAD_BY(zeros("blk.0.ffn_gate_inp.weight", 0, 64, 4), "@expert_count", "blk.0.ffn_gate_inp.weight"),
    ALIEN(zeros("blk.0.attn_k_b.weight", 0, 64, 4), "llama"),
    ALIEN(zeros("token_embd.weight", 26, 64, 297), "i32"),
    ALIEN(zeros("blk.0.attn_q.weight", 26, 64, 120), "i32"),
    ALIEN(zeros("blk.0.attn_norm.weight", 24, 64), "i8"),
    ALIEN(zeros("blk.0.attn_norm.weight", 8, 64), "q8_0"),
    BAD_BY(zeros("rope_freqs.weight", 0, 10), "rope_freqs", "not finite"),
    BAD(zeros("rope_freqs.weight", 0, 9), "expected 10"),
};

static const row sigmoid[] = { /* MLA, groups, sigmoid scores, YaRN */
    SAME(none, none),
    BAD(drop("@attention.kv_lora_rank"), "missing"),
    BAD(drop("@attention.q_lora_rank"), "attn_q_a"),
    BAD(drop("@rope.dimension_count"), "missing"),
    BAD_PAIR(drop("@attention.key_length_mla"), drop("@attention.key_length"), "@attention.key_length", "missing"),
    BAD_PAIR(drop("@attention.value_length_mla"), drop("@attention.value_length"), "@attention.value_length", ""),
    BAD_BY(drop("@attention.key_length_mla"), "blk.0.attn_q_b.weight", "108"),
    BAD(drop("@expert_count"), "blk.1.ffn_gate_inp.weight"),
    BAD(drop("@expert_used_count"), "missing"),
    BAD(drop("@expert_shared_count"), "blk.1.ffn_gate_shexp.weight"),
    BAD_PAIR(drop("@expert_feed_forward_length"), drop("@feed_forward_length"), "@expert_feed_forward_length", ""),
    BAD_BY(drop("@expert_feed_forward_length"), "blk.1.ffn_gate", "72"),
    SAME(drop("@vocab_size"), drop("@leading_dense_block_count")),
    SAME(u32("@expert_shared_feed_forward_length", 12), drop("@expert_shared_count")),
    BAD(u32("@attention.kv_lora_rank", 0), ""),
    BAD(u32("@attention.kv_lora_rank", 1 << 15), ""),
    BAD_BY(u32("@attention.kv_lora_rank", 27), "blk.0.attn_kv_a_mqa.weight", "expected 40 x 35"),
    BAD(u32("@attention.q_lora_rank", 0), "attn_q_a"),
    BAD(u32("@attention.q_lora_rank", 1 << 17), ""),
    BAD_BY(u32("@attention.key_length_mla", 8), "@rope.dimension_count", "less than"),
    BAD(u32("@attention.key_length_mla", 1025), "1024"),
    BAD(u32("@attention.value_length_mla", 0), ""),
    BAD(u32("@rope.dimension_count", 7), "even"),
    BAD(u32("@rope.dimension_count", 1026), ""),
    BAD_BY(u32("@nextn_predict_layers", 3), "@block_count", ""),
    BAD(u32("@expert_count", 1025), "1024"),
    BAD_BY(u32("@expert_count", 10), "blk.1.ffn_gate_inp.weight", "expected 40 x 10"),
    BAD(u32("@expert_used_count", 0), ""),
    BAD(u32("@expert_used_count", 16), "15 experts"),
    BAD(u32("@expert_shared_count", 65), ""),
    BAD_BY(u32("@expert_shared_count", 2), "blk.1.ffn_gate_shexp.weight", "expected 40 x 24"),
    BAD(u32("@expert_feed_forward_length", 0), ""),
    BAD(u32("@expert_feed_forward_length", (1 << 22) + 1), ""),
    BAD_PAIR(u32("@expert_feed_forward_length", 1 << 22), u32("@expert_shared_count", 64), "ffn_gate_shexp", ""),
    BAD(u32("@expert_group_count", 0), ""),
    BAD(u32("@expert_group_count", 4), "15 experts"),
    BAD(u32("@expert_group_used_count", 6), "5 groups"),
    BAD(u32("@expert_group_used_count", 0), ""),
    BAD_BY(u32("@expert_group_count", 15), "@expert_used_count", "3 groups"),
    ALIEN(u32("@expert_gating_func", 0), ""),
    ALIEN(u32("@expert_gating_func", 4), "is 4"),
    ALIEN(u32("@expert_gating_func", 99), "is 99"),
    BAD(txt("@expert_gating_func", "sigmoid"), "integer"),
    BAD(u32("@expert_weights_norm", 1), "true or false"),
    BAD(f32("@expert_weights_scale", NAN), "finite"),
    BAD(f64("@expert_weights_scale", 1e39), "1e+39"),
    BAD(f32("@rope.scaling.factor", INFINITY), "finite"),
    BAD(f32("@rope.scaling.factor", -8), "above 0"),
    BAD_BY(f32("@rope.scaling.factor", 1e-45), "rope.scaling", "not finite"),
    BAD(f32("@rope.scaling.yarn_beta_fast", 0), "above 0"),
    BAD(f32("@rope.scaling.yarn_beta_slow", -1), "above 0"),
    BAD(f32("@rope.scaling.yarn_log_multiplier", 3e38), ""),
    RUNS(f32("@rope.freq_base", 1), none),
    BAD(drop("blk.0.attn_kv_a_mqa.weight"), "missing"),
    BAD(drop("blk.0.attn_kv_a_norm.weight"), "missing"),
    BAD(drop("blk.2.attn_q_b.weight"), "missing"),
    BAD_BY(drop("blk.2.attn_q_a.weight"), "blk.2.attn_q.weight", "missing"),
    BAD(drop("blk.2.attn_q_a_norm.weight"), "missing"),
    BAD_BY(drop("blk.2.attn_k_b.weight"), "blk.2.attn_kv_b.weight", "missing"),
    BAD_BY(drop("blk.2.attn_v_b.weight"), "blk.2.attn_kv_b.weight", "missing"),
    BAD_BY(drop("blk.1.ffn_gate_inp.weight"), "blk.1.ffn_gate.weight", "missing"),
    BAD(drop("blk.1.ffn_gate_exps.weight"), "missing"),
    BAD(drop("blk.1.ffn_up_exps.weight"), "missing"),
    BAD(drop("blk.2.ffn_down_exps.weight"), "missing"),
    BAD(drop("blk.2.ffn_up_shexp.weight"), "missing"),
    BAD(zeros("blk.1.ffn_gate_exps.weight", 0, 40, 12, 14), "expected 40 x 12 x 15"),
    BAD(zeros("blk.1.ffn_down_exps.weight", 0, 40, 12, 15), "expected 12 x 40 x 15"),
    ALIEN(zeros("blk.1.ffn_gate_exps.weight", 25, 40, 12, 15), "i16"),
    RUNS(zeros("blk.1.ffn_gate_exps.weight", 0, 40, 12 * 15), none),
    BAD(zeros("blk.1.exp_probs_b.bias", 0, 14), "expected 15"),
    BAD(zeros("blk.1.attn_k_b.weight", 0, 12, 28, 4), "expected 12 x 28 x 3"),
    BAD(zeros("blk.1.attn_kv_a_norm.weight", 0, 36), "expected 28"),
};

static const row others[][9] = {
    { /* deepseek2_softmax: attn_kv_b in one piece, group scores */
        SAME(none, none),
        BAD(drop("@attention.value_length"), "missing"),
        BAD(drop("blk.1.attn_kv_b.weight"), "missing"),
        BAD(zeros("blk.1.attn_kv_b.weight", 0, 20, 121), "expected 20 x 120"),
        BAD_PAIR(u32("@expert_group_used_count", 1), u32("@expert_used_count", 4), "@expert_used_count", "1 groups"),
        RUNS(u32("@expert_group_count", 9), u32("@expert_group_used_count", 3)),
    },
    { /* gpt_oss_small: sinks, windows, biases */
        SAME(none, none),
        BAD(f32("@attention.sliding_window", 9), "integer"),
        BAD(u32("@attention.sliding_window", 1u << 31), ""),
        BAD(list("@attention.sliding_window_pattern", G_BOOL, 1, 0), ""),
        SAME(list("@attention.sliding_window_pattern", G_BOOL, 1, 0, 1), none),
        BAD(zeros("blk.1.attn_sinks.weight", 0, 5), "expected 6"),
        BAD(zeros("blk.1.ffn_gate_exps.bias", 0, 20, 5), "expected 120"),
        BAD_PAIR(f32("@rope.scaling.attn_factor", 3e38), f32("@rope.scaling.factor", 1e38), "attn_factor", "inf"),
    },
    { /* gemma3_small: tied, so that the embedding alone can be too short */
        SAME(none, none),
        BAD(zeros("token_embd.weight", 0, 40, 200), "297 tokens"),
        RUNS(zeros("token_embd.weight", 0, 40, 298), none),
        BAD(u32("@attention.sliding_window_pattern", 0), ""),
        BAD(f32("@rope.freq_base_swa", 0), "above 0"),
        ALIEN(txt("@rope.scaling.type", "dynamic"), "dynamic"),
        BAD(zeros("blk.3.post_ffw_norm.weight", 0, 41), "expected 40"),
    },
};
/* clang-format on */

static char names[4][96]; /* with "@" spelled out */

static const char *spell(const char *arch, const char *name, int place)
{
    if (!name || *name != '@') return name;
    snprintf(names[place], sizeof names[0], "%s.%s", arch, name + 1);
    return names[place];
}

static void apply(gguf *g, const change *c)
{
    static const size_t width[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    const float f = (float)c->f;
    uint64_t bits = 0;
    switch (c->how) {
    case NOTHING:
    case DROP: break;
    case INT: key_int(g, c->name, c->kind, c->v); break;
    case F32:
        memcpy(&bits, &f, sizeof f);
        key_int(g, c->name, G_F32, bits);
        break;
    case F64:
        memcpy(&bits, &c->f, sizeof c->f);
        key_int(g, c->name, G_F64, bits);
        break;
    case TEXT: key_text(g, c->name, c->text); break;
    case LIST:
        key_array(g, c->name, c->kind, c->n);
        for (uint32_t i = 0; i < c->n; i++) put_int(&g->keys, c->list[i], width[c->kind]);
        break;
    case ZEROS: tensor_zeros(g, c->name, c->kind, c->n, c->list); break;
    }
}

static const char *write_changed(const char *tmp, const gguf_parts *p, const change *a, const change *b)
{
    gguf g = gguf_new();
    gguf_take(&g, p, a->name, b->name);
    apply(&g, a);
    apply(&g, b);
    bytes file = gguf_bytes(&g);
    return scratch_write(tmp, "m.gguf", &file);
}

static void check_model(const char *tmp, const char *model, const char *arch, const row *rows, size_t n)
{
    char path[256], label[400];
    snprintf(path, sizeof path, "tests/golden/models/%s/model.gguf", model);
    gguf_parts *p = gguf_open(path);
    answer base = answer_of(path, 3, 0);
    CHECK(base.logits, "%s: %s", path, base.err.text);
    for (size_t i = 0; i < n && rows[i].used; i++) {
        row r = rows[i];
        r.a.name = spell(arch, r.a.name, 0);
        r.b.name = spell(arch, r.b.name, 1);
        r.expect.says = r.expect.says ? spell(arch, r.expect.says, 2) : r.a.name;
        snprintf(label, sizeof label, "%s, row %zu (%s %s)", model, i, r.a.name, r.b.name);
        expect(write_changed(tmp, p, &r.a, &r.b), label, &r.expect, &base);
    }
    free(base.logits);
    gguf_close(p);
}

/* A window beyond any context is no window; 2^31 - 1 is the largest that the key may say, and differences of positions
 * and windows must still fit, also for rows that stand together across the border of a page (so 20 rows a step). */
static void check_huge_window(const char *tmp)
{
    static const uint32_t window[] = { 1 << 20, INT32_MAX };
    gguf_parts *p = gguf_open("tests/golden/models/gpt_oss_small/model.gguf");
    answer a[2];
    for (int i = 0; i < 2; i++) {
        const change wide = u32("gpt-oss.attention.sliding_window", window[i]), same = none;
        a[i] = answer_of(write_changed(tmp, p, &wide, &same), PROBE, 20);
        CHECK(a[i].logits, "window %u: %s", window[i], a[i].err.text);
    }
    CHECK(answers_agree(&a[0], &a[1]), "a huge window changes the logits");
    free(a[0].logits);
    free(a[1].logits);
    gguf_close(p);
}

/* What must be converted is counted before memory is taken. */
static void check_room(void)
{
    static const double room[] = { 0, 1e6, 5000 };
    for (int i = 0; i < 3; i++) {
        pg_source *s;
        pg_model *m = NULL;
        pg_error err = { 0 };
        int rc = pg_source_open("tests/golden/models/gpt_oss_small/model.gguf", 1, &s, &err);
        if (rc >= 0) rc = pg_model_open(s, 1, room[i], &m, &err);
        CHECK(rc == (i < 2 ? PG_OK : PG_EMEMORY), "room for %.0f bytes: %d %s", room[i], rc, err.text);
        CHECK(rc >= 0 || strstr(err.text, "model.gguf"), "%s", err.text);
        if (rc >= 0) pg_model_close(m);
    }
}

#define ALL(rows) rows, sizeof(rows) / sizeof *(rows)

int main(void)
{
    char *tmp = scratch_new();
    check_model(tmp, "llama_mixed", "llama", ALL(llama));
    check_model(tmp, "deepseek2_sigmoid", "deepseek2", ALL(sigmoid));
    check_model(tmp, "deepseek2_softmax", "deepseek2", ALL(others[0]));
    check_model(tmp, "gpt_oss_small", "gpt-oss", ALL(others[1]));
    check_model(tmp, "gemma3_small", "gemma3", ALL(others[2]));
    check_huge_window(tmp);
    check_room();
    scratch_remove(tmp, "m.gguf");
    scratch_free(tmp);
    return check_done("model_refuse");
}
