/* engine/load on real files: every golden model and vocabulary opens (or is refused for its storage type), parts make up
 * the whole, and GGUF and safetensors of one model hold the same bytes. */
#include "check.h"

#include <dirent.h>
#include <unistd.h>

#include "../../engine/json.h"
#include "../../engine/load/source.h"

static const char *golden;

static pg_source *open_ok(const char *path, int use_mmap)
{
    pg_error err = { 0 };
    pg_source *s = NULL;
    CHECK(pg_source_open(path, use_mmap, &s, &err) == PG_OK && s, "%s: %s", path, err.text);
    return s;
}

static int64_t int_of(const pg_source *s, const char *name)
{
    int64_t v = -1;
    pg_error err = { 0 };
    CHECK(pg_source_int(s, name, 0, INT64_MAX, &v, &err) == 1, "%s: %s", name, err.text);
    return v;
}

static int same_text(pg_text text, const char *want)
{
    return text.n == strlen(want) && memcmp(text.data, want, text.n) == 0;
}

static size_t bytes_of(const pg_tensor *t)
{
    return (size_t)(t->stride[3] * t->shape[3]);
}

static int same_tensor(const pg_tensor *a, const pg_tensor *b)
{
    return a->dtype == b->dtype && memcmp(a->shape, b->shape, sizeof a->shape) == 0 &&
           memcmp(a->stride, b->stride, sizeof a->stride) == 0 && memcmp(a->data, b->data, bytes_of(a)) == 0;
}

/* The storage types in a golden file that this build does not read, or NULL. */
static const char *unread_type(const char *name)
{
    static const char *const type[] = { "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S" };
    for (size_t i = 0; i < sizeof type / sizeof *type; i++) {
        char file[32];
        snprintf(file, sizeof file, "model-%s.gguf", type[i]);
        if (strcmp(name, file) == 0) return type[i];
    }
    return NULL;
}

static void open_golden_gguf(const char *path, const char *name)
{
    pg_error err = { 0 };
    pg_source *s = NULL;
    const char *type = unread_type(name);
    int rc = pg_source_open(path, 1, &s, &err);
    if (type) {
        CHECK(rc == PG_EUNSUPPORTED && !s && strstr(err.text, type) && strstr(err.text, "tensor '") &&
                  strstr(err.text, name),
              "%s: %d %s", path, rc, err.text);
        return;
    }
    CHECK(rc == PG_OK && s && pg_source_n_tensor(s) > 5, "%s: %s", path, err.text);
    if (!s) return;
    pg_text arch;
    CHECK(pg_source_text(s, "general.architecture", &arch, &err) == 1, "%s: %s", path, err.text);
    CHECK(pg_source_count(s, "tokenizer.ggml.tokens") == (strstr(path, "/qwen2/") ? 576 : 512), "%s: %d tokens", path,
          (int)pg_source_count(s, "tokenizer.ggml.tokens"));
    pg_source_close(s);
}

static int test_golden_models(void)
{
    char path[1200];
    int n = 0;
    snprintf(path, sizeof path, "%s/models", golden);
    DIR *models = opendir(path);
    for (const struct dirent *model; models && (model = readdir(models));) {
        if (model->d_name[0] == '.') continue;
        char folder[600];
        snprintf(folder, sizeof folder, "%.300s/models/%.200s", golden, model->d_name);
        DIR *dir = opendir(folder);
        for (const struct dirent *e; dir && (e = readdir(dir));) {
            size_t len = strlen(e->d_name);
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            if (len > 5 && strcmp(e->d_name + len - 5, ".gguf") == 0 && ++n) open_golden_gguf(path, e->d_name);
            if (strcmp(e->d_name, "hf") != 0) continue;
            pg_source *s = open_ok(path, 1);
            CHECK(s && pg_source_dialect(s) == PG_DIALECT_HF && pg_source_n_tensor(s) > 5, "%s", path);
            CHECK(s && pg_source_key(s, "model_type") == PG_KEY_STRING && int_of(s, "vocab_size") >= 512, "%s", path);
            pg_source_close(s);
            n++;
        }
        if (dir) closedir(dir);
    }
    if (models) closedir(models);
    return n;
}

static int count_any(void *ud, int64_t i, pg_text text)
{
    (void)i;
    *(size_t *)ud += text.n;
    return PG_OK;
}

static void test_golden_vocab(const char *name)
{
    char path[600];
    pg_error err = { 0 };
    snprintf(path, sizeof path, "%.300s/tokenizers/%.100s/vocab.gguf", golden, name);
    pg_source *s = open_ok(path, 1);
    if (!s) return;
    int64_t n = pg_source_count(s, "tokenizer.ggml.tokens");
    size_t once = 0, again = 0;
    CHECK(pg_source_each_text(s, "tokenizer.ggml.tokens", count_any, &once, &err) == PG_OK, "%s", err.text);
    for (int64_t i = 0; i < n; i++) {
        pg_text text = { 0 };
        if (pg_source_text_at(s, "tokenizer.ggml.tokens", i, &text, &err) != 1) break;
        again += text.n;
    }
    CHECK(once == again && once > (size_t)n, "%s: %zu and %zu bytes", name, once, again);
    pg_source_close(s);

    snprintf(path, sizeof path, "%.300s/tokenizers/%.100s/meta.json", golden, name);
    FILE *f = fopen(path, "rb");
    static char text[8192];
    size_t got = f ? fread(text, 1, sizeof text, f) : 0;
    if (f) fclose(f);
    json_t *meta = pg_json_parse(text, got, path, &err);
    CHECK(meta && json_integer_value(json_object_get(meta, "n_vocab")) == n, "%s: %lld tokens", name, (long long)n);
    json_decref(meta);
}

/* A GGUF name and its counterpart in checkpoints; %d is the layer. Only tensors that no converter permutes or changes. */
static const char *const twin[][2] = {
    { "token_embd.weight", "model.embed_tokens.weight" },
    { "output.weight", "lm_head.weight" },
    { "output_norm.weight", "model.norm.weight" },
    { "blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight" },
    { "blk.%d.ffn_norm.weight", "model.layers.%d.post_attention_layernorm.weight" },
    { "blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight" },
    { "blk.%d.attn_v.bias", "model.layers.%d.self_attn.v_proj.bias" },
    { "blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight" },
    { "blk.%d.ffn_gate.weight", "model.layers.%d.mlp.gate_proj.weight" },
    { "blk.%d.ffn_up.weight", "model.layers.%d.mlp.up_proj.weight" },
    { "blk.%d.ffn_down.weight", "model.layers.%d.mlp.down_proj.weight" },
    { "blk.%d.ffn_gate_inp.weight", "model.layers.%d.mlp.gate.weight" },
    { "blk.%d.ffn_down_shexp.weight", "model.layers.%d.mlp.shared_expert.down_proj.weight" },
};

/* The pattern with its %d replaced. */
static void fill(char *out, size_t n, const char *pattern, int layer)
{
    const char *at = strstr(pattern, "%d");
    if (at)
        snprintf(out, n, "%.*s%d%s", (int)(at - pattern), pattern, layer, at + 2);
    else
        snprintf(out, n, "%s", pattern);
}

static int compare_twins(const pg_source *g, const pg_source *h, const char *model)
{
    int n = 0;
    for (size_t i = 0; i < sizeof twin / sizeof *twin; i++)
        for (int layer = 0; layer < 3; layer++) {
            char a[80], b[100];
            if (!strstr(twin[i][0], "%d") && layer > 0) continue;
            fill(a, sizeof a, twin[i][0], layer);
            fill(b, sizeof b, twin[i][1], layer);
            const pg_source_tensor *x = pg_source_find(g, a), *y = pg_source_find(h, b);
            if (!x || !y) continue;
            CHECK(same_tensor(&x->view, &y->view), "%s: %s and %s differ", model, a, b);
            n++;
        }
    return n;
}

static void test_twins(const char *model, int least)
{
    char path[600];
    snprintf(path, sizeof path, "%.300s/models/%.100s/model.gguf", golden, model);
    pg_source *g = open_ok(path, 1);
    snprintf(path, sizeof path, "%.300s/models/%.100s/hf", golden, model);
    pg_source *h = open_ok(path, 0);
    if (g && h) {
        int n = compare_twins(g, h, model);
        CHECK(n >= least, "%s: only %d tensors were compared", model, n);
    }
    pg_source_close(g);
    pg_source_close(h);
}

/* Experts: one stack in GGUF, single matrices in several shards in the checkpoint. */
static void test_stack(const pg_source *g)
{
    char path[600];
    snprintf(path, sizeof path, "%.300s/models/qwen2_moe/hf", golden);
    pg_source *h = open_ok(path, 1);
    int n = 0;
    for (int e = 0; h && e < 8; e++) {
        char name[100];
        snprintf(name, sizeof name, "model.layers.1.mlp.experts.%d.down_proj.weight", e);
        const pg_source_tensor *one = pg_source_find(h, name), *all = pg_source_find(g, "blk.1.ffn_down_exps.weight");
        if (!one || !all) continue;
        pg_tensor slice = pg_tensor_slice(&all->view, e);
        n += one->view.shape[0] == 32 && one->view.shape[1] == 64 && slice.stride[1] == one->view.stride[1] &&
             memcmp(slice.data, one->view.data, bytes_of(&one->view)) == 0;
    }
    CHECK(n == 8, "%d experts agree", n);
    pg_source_close(h);
}

static void test_parts(void)
{
    char path[600];
    snprintf(path, sizeof path, "%.300s/models/qwen2_moe/model.gguf", golden);
    pg_source *whole = open_ok(path, 1);
    for (int part = 1; whole && part <= 3; part++) {
        snprintf(path, sizeof path, "%.300s/models/qwen2_moe/model-%05d-of-00003.gguf", golden, part);
        pg_source *s = open_ok(path, part != 2);
        if (!s) continue;
        CHECK(strstr(pg_source_path(s), "00001-of-00003") != NULL, "%s", pg_source_path(s));
        CHECK(pg_source_n_tensor(s) == pg_source_n_tensor(whole), "%d tensors", pg_source_n_tensor(s));
        CHECK(pg_source_bytes(s) == pg_source_bytes(whole), "%g bytes", pg_source_bytes(s));
        CHECK(int_of(s, "qwen2moe.expert_count") == 8, "keys of the first part");
        for (int i = 0; i < pg_source_n_tensor(whole); i++) {
            char name[80];
            const pg_source_tensor *x = pg_source_tensor_at(whole, i);
            snprintf(name, sizeof name, "%.*s", (int)x->name.n, x->name.data);
            const pg_source_tensor *y = pg_source_find(s, name);
            CHECK(y && same_tensor(&x->view, &y->view), "part %d: %s", part, name);
        }
        pg_source_close(s);
    }
    if (whole) test_stack(whole);
    pg_source_close(whole);
}

static void test_config(void)
{
    char path[600];
    double f = 0;
    pg_error err = { 0 };
    pg_text text;
    snprintf(path, sizeof path, "%.300s/models/llama/hf/model.safetensors", golden); /* stands for its folder */
    pg_source *s = open_ok(path, 1);
    if (!s) return;
    CHECK(int_of(s, "hidden_size") == 64 && int_of(s, "num_hidden_layers") == 3, "sizes");
    CHECK(pg_source_float(s, "rope_scaling.factor", &f, &err) == 1 && f == 8, "%s", err.text);
    CHECK(pg_source_text(s, "rope_scaling.rope_type", &text, &err) == 1 && same_text(text, "llama3"), "%s", err.text);
    CHECK(pg_source_text_at(s, "architectures", 0, &text, &err) == 1 && same_text(text, "LlamaForCausalLM"), "%s",
          err.text);
    CHECK(pg_source_key(s, "rope_scaling") == PG_KEY_NONE, "an object is no key");
    CHECK(pg_source_file(s, "tokenizer.json", &text, &err) == 1 && text.n == 21875 && text.data[0] == '{', "%s",
          err.text);
    pg_text again;
    CHECK(pg_source_file(s, "tokenizer.json", &again, &err) == 1 && again.data == text.data, "read once");
    CHECK(pg_source_file(s, "chat_template.jinja", &text, &err) == 0, "absent");
    CHECK(pg_source_file(s, "chat_template.jinja", &text, &err) == 0, "absent, asked again");
    CHECK(pg_source_file(s, "../meta.json", &text, &err) == PG_EINVAL, "%s", err.text);
    pg_source_close(s);
}

static void test_golden(void)
{
    static const char *const vocab[] = { "deepseek-coder", "deepseek-llm", "deepseek-v4",  "gpt-2",       "gpt-neox",
                                         "llama-spm",      "mixtral",      "phi-3",        "qwen2",       "starcoder",
                                         "gpt-4o-small",   "llama3-small", "qwen35-small", "tekken-small" };
    int n = test_golden_models();
    CHECK(n >= 79, "only %d golden models were found", n);
    for (size_t i = 0; i < sizeof vocab / sizeof *vocab; i++) test_golden_vocab(vocab[i]);
    test_twins("llama", 18);
    test_twins("qwen2", 18);
    test_twins("qwen3", 18);
    test_twins("qwen2_moe", 18);
    test_twins("olmoe", 9);
    test_parts();
    test_config();
}

int main(void)
{
    golden = getenv("PERIGEE_GOLDEN") ? getenv("PERIGEE_GOLDEN") : "../shared/golden";
    if (access(golden, R_OK) != 0) {
        printf("golden folder %s is absent: its cases did not run\n", golden);
        CHECK(pg_source_open(golden, 1, &(pg_source *){ NULL }, NULL) == PG_ENOTFOUND, "%s", golden);
    } else {
        test_golden();
    }
    return check_done("source_golden");
}
