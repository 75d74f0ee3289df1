/* Hugging Face folders that are well-formed and not what they claim to be: golden ones with a key of config.json or a
 * tensor changed, given to pg_describe and pg_open. Each must be refused with the right code by both, in words that
 * name the folder and the culprit. Not here: GGUF files (model_refuse), the container and its index
 * (safetensors_refuse). */
#include "model_edit.h"

typedef struct config_row {
    const char *key, *value; /* a JSON text; NULL: removed */
    expected expect;         /* says NULL: the key */
} config_row;

typedef struct tensor_row {
    const char *name, *shape, *dtype; /* shape NULL: removed */
    expected expect;                  /* says NULL: the name */
} tensor_row;

/* clang-format off */
#define SAME(key, value) { key, value, { .code = PG_OK, .same = 1 } }
#define BAD(key, value, word) { key, value, { .code = PG_EFORMAT, .also = word } }
#define BAD_BY(key, value, name, word) { key, value, { .code = PG_EFORMAT, .says = name, .also = word } }
#define ALIEN(key, value, word) { key, value, { .code = PG_EUNSUPPORTED, .also = word } }
#define GONE(name) { name, NULL, NULL, { .code = PG_EFORMAT, .also = "missing" } }
#define WRONG(name, shape, dtype, word) { name, shape, dtype, { .code = PG_EFORMAT, .also = word } }
#define STRANGE(name, shape, dtype, word) { name, shape, dtype, { .code = PG_EUNSUPPORTED, .also = word } }

static const config_row llama_config[] = {
    SAME("made_up", "1"),
    BAD("hidden_size", NULL, "missing"),
    BAD("num_hidden_layers", NULL, "missing"),
    BAD("num_attention_heads", "null", "missing"),
    BAD("rms_norm_eps", NULL, "missing"),
    BAD("intermediate_size", NULL, "gate_proj"),
    BAD("model_type", NULL, "missing"),
    ALIEN("model_type", "\"mamba\"", "mamba"),
    BAD("model_type", "[1]", "string"),
    BAD("hidden_size", "\"64\"", "integer"),
    BAD("hidden_size", "64.0", "integer"),
    BAD_BY("hidden_size", "65", "model.embed_tokens.weight", "65"),
    BAD("num_hidden_layers", "513", "512"),
    BAD_BY("num_hidden_layers", "4", "model.layers.3.", "missing"),
    BAD("num_attention_heads", "0", "1 to 1024"),
    BAD_BY("num_key_value_heads", "3", "num_attention_heads", "multiple of the 3"),
    BAD("head_dim", "0", ""),
    BAD("head_dim", "15", "even"),
    BAD("head_dim", "1025", "1 to 1024"),
    BAD("partial_rotary_factor", "1.5", "at most 1"),
    BAD("partial_rotary_factor", "3e38", "at most 1"),
    BAD("partial_rotary_factor", "0.01", "even"),
    BAD("rms_norm_eps", "0", "above 0"),
    BAD("rms_norm_eps", "1e300", "1e+300"),
    BAD("rope_theta", "-1", "above 0"),
    BAD("rope_scaling.factor", "0", "above 0"),
    BAD("rope_scaling.low_freq_factor", "-1.0", "above 0"),
    ALIEN("rope_scaling.rope_type", "\"longrope\"", "longrope"),
    BAD("rope_scaling.rope_type", "7", "string"),
    BAD_BY("tie_word_embeddings", "false", "lm_head.weight", "missing"),
    BAD("tie_word_embeddings", "0", "true or false"),
    ALIEN("hidden_act", "\"relu\"", "relu"),
    BAD("vocab_size", "\"many\"", "integer"),
};

static const tensor_row llama_tensor[] = {
    GONE("model.layers.1.self_attn.q_proj.weight"),
    GONE("model.norm.weight"),
    WRONG("model.layers.2.mlp.down_proj.weight", "[64,161]", "F32", "expected 160 x 64"),
    STRANGE("model.layers.2.mlp.down_proj.weight", "[64,160]", "I32", "i32"),
    WRONG("model.layers.2.mlp.down_proj.weight", "[64,160]", "F8_E4M3", "weight_scale_inv"),
    WRONG("model.embed_tokens.weight", "[300,64]", "F32", "512 tokens"),
};

static const config_row fp8_config[] = {
    SAME("made_up", "1"),
    BAD("kv_lora_rank", NULL, "missing"),
    BAD("qk_nope_head_dim", NULL, "missing"),
    BAD("v_head_dim", "0", ""),
    BAD("qk_rope_head_dim", "15", "even"),
    BAD("qk_nope_head_dim", "1020", "1036"),
    ALIEN("scoring_func", "\"softplus\"", "softplus"),
    BAD("scoring_func", "2", "string"),
    BAD("n_routed_experts", "1025", "1024"),
    BAD_BY("n_routed_experts", "0", "mlp.gate.weight", "num_experts"),
    BAD("num_experts_per_tok", "9", "8 experts"),
    BAD("num_experts_per_tok", NULL, "missing"),
    BAD("n_group", "3", "8 experts"),
    BAD("topk_group", "3", "2 groups"),
    BAD("num_experts_per_tok", "5", "1 groups"),
    BAD("norm_topk_prob", "\"yes\"", "true or false"),
    BAD("rope_scaling.mscale_all_dim", "1e300", "1e+300"),
    BAD("rope_scaling.mscale_all_dim", "1e38", "out of range"),
    BAD("rope_scaling.mscale", "-1e38", "out of range"),
};

#define FACTORS "model.layers.0.self_attn.q_a_proj.weight_scale_inv"
#define EXPERT "model.layers.1.mlp.experts.7.up_proj.weight"

static const tensor_row fp8_tensor[] = {
    GONE(FACTORS),
    WRONG(FACTORS, "[2,2]", "F32", "2 x 1"),
    WRONG(FACTORS, "[2,1,2]", "F32", "2 x 1"),
    STRANGE(FACTORS, "[1,2]", "I32", "i32"),
    GONE(EXPERT),
    { EXPERT, "[160,192]", "BF16", { .code = PG_EUNSUPPORTED, .says = "layer 1: expert 7", .also = "format" } },
    GONE("lm_head.weight"),
};

static const config_row oss_config[] = {
    SAME("made_up", "1"),
    BAD("layer_types", "[\"sliding_attention\"]", "1 elements"),
    BAD("layer_types", "[1, 2, 3, 4]", "string"),
    ALIEN("layer_types", "[\"linear_attention\", \"\", \"\", \"\"]", "[0] is \"linear_attention\""),
    BAD("swiglu_limit", "-7", "above 0"),
};

static const tensor_row oss_tensor[] = {
    GONE("model.layers.0.mlp.experts.gate_up_proj_scales"),
    GONE("model.layers.0.mlp.experts.down_proj_blocks"),
    { "model.layers.0.mlp.experts.down_proj_scales", "[1]", "U8",
      { .code = PG_EFORMAT, .says = "mlp.experts.down_proj", .also = "MXFP4" } },
    WRONG("model.layers.0.mlp.experts.gate_up_proj_bias", "[2,3]", "F32", ""),
};
/* clang-format on */

static void check_config(const char *tmp, const char *model, const config_row *rows, size_t n, const answer *base)
{
    char label[400];
    bytes text = read_whole(scratch_path(tmp, "config.json"));
    for (size_t i = 0; i < n; i++) {
        expected x = rows[i].expect;
        json_t *config = json_loadb((const char *)text.data, text.n, 0, NULL);
        config_set(config, rows[i].key, rows[i].value);
        json_dump_file(config, scratch_path(tmp, "config.json"), JSON_INDENT(1));
        json_decref(config);
        if (!x.says) x.says = rows[i].key;
        snprintf(label, sizeof label, "%s: %s = %s", model, rows[i].key, rows[i].value ? rows[i].value : "gone");
        expect(tmp, label, &x, base);
    }
    scratch_write(tmp, "config.json", &text);
}

static void check_tensors(const char *tmp, const char *model, const tensor_row *rows, size_t n, const answer *base)
{
    char label[400];
    bytes weights = read_whole(scratch_path(tmp, "model.safetensors"));
    for (size_t i = 0; i < n; i++) {
        expected x = rows[i].expect;
        bytes b = safetensors_edit(&weights, rows[i].name, rows[i].shape, rows[i].dtype);
        scratch_write(tmp, "model.safetensors", &b);
        if (!x.says) x.says = rows[i].name;
        snprintf(label, sizeof label, "%s: %s %s", model, rows[i].name, rows[i].shape ? rows[i].shape : "gone");
        expect(tmp, label, &x, base);
    }
    free(weights.data);
}

static void check_folder(const char *tmp, const char *model, const config_row *config, size_t n_config,
                         const tensor_row *tensor, size_t n_tensor)
{
    char from[1100];
    snprintf(from, sizeof from, "%s/models/%s/hf", golden_root(), model);
    if (!folder_copy(from, tmp)) {
        printf("golden folder %s is absent: its cases did not run\n", from);
        return;
    }
    answer base = answer_of(tmp, 3, 0);
    CHECK(base.logits, "%s: %s", model, base.err.text);
    check_config(tmp, model, config, n_config, &base);
    check_tensors(tmp, model, tensor, n_tensor, &base);
    free(base.logits);
    folder_remove(tmp);
}

#define ALL(rows) rows, sizeof(rows) / sizeof *(rows)

int main(void)
{
    char *tmp = scratch_new();
    pg_error err = { 0 };
    pg_info info;
    CHECK(pg_describe(tmp, &info, &err) == PG_ENOTFOUND && strstr(err.text, "config.json"), "an empty folder: %s",
          err.text);
    check_folder(tmp, "llama", ALL(llama_config), ALL(llama_tensor));
    check_folder(tmp, "deepseek_v3_fp8", ALL(fp8_config), ALL(fp8_tensor));
    check_folder(tmp, "gpt_oss_mxfp4", ALL(oss_config), ALL(oss_tensor));
    scratch_free(tmp);
    return check_done("folder_refuse");
}
