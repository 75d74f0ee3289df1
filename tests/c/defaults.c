/* What a model's files say about generating: sampling defaults from GGUF keys and generation_config.json; and the space
 * that a SentencePiece continuation begins with. */
#include "model_edit.h"

#define MODEL "tests/golden/models/qwen3moe_small/model.gguf"
#define SPACE "\xe2\x96\x81" /* U+2581, SentencePiece's */

static void put_f32(gguf *g, const char *name, float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    key_int(g, name, G_F32, u);
}

/* All keys but those that begin with `without`, and all tensors. */
static gguf take_without(const gguf_parts *p, const char *without)
{
    gguf g = gguf_new();
    gguf_parts keys = *p;
    keys.n_key = 0;
    for (size_t i = 0; i < p->n_key; i++)
        if (strncmp(p->key[i].name, without, strlen(without))) keys.key[keys.n_key++] = p->key[i];
    gguf_take(&g, &keys, "", "");
    return g;
}

static pg_request defaults_of(const char *path)
{
    pg_error err = { 0 };
    pg_engine *e = golden_open(path, "f32", 1, &err);
    pg_request r = { 0 };
    CHECK(e, "%s: %s", path, err.text);
    if (e) pg_request_init(e, &r);
    pg_close(e);
    return r;
}

static void test_gguf(const gguf_parts *p, const char *folder)
{
    pg_request r = defaults_of(MODEL);
    CHECK(r.temperature == 0.8f && r.top_k == 40 && r.top_p == 0.95f && r.min_p == 0.05f && r.repeat_penalty == 1,
          "without keys: %g %d %g %g", (double)r.temperature, r.top_k, (double)r.top_p, (double)r.min_p);
    gguf g = take_without(p, "general.sampling.");
    put_f32(&g, "general.sampling.temp", 0.25f);
    key_int(&g, "general.sampling.top_k", G_I32, 7);
    put_f32(&g, "general.sampling.top_p", 0.5f);
    put_f32(&g, "general.sampling.min_p", 0.125f);
    put_f32(&g, "general.sampling.penalty_repeat", 1.5f);
    key_int(&g, "general.sampling.penalty_last_n", G_I32, 9);
    bytes b = gguf_bytes(&g);
    r = defaults_of(scratch_write(folder, "keys.gguf", &b));
    CHECK(r.temperature == 0.25f && r.top_k == 7 && r.top_p == 0.5f && r.min_p == 0.125f && r.repeat_penalty == 1.5f &&
              r.repeat_last_n == 9,
          "from keys: %g %d %g %g", (double)r.temperature, r.top_k, (double)r.top_p, (double)r.min_p);
    scratch_remove(folder, "keys.gguf");
}

static void test_folder(const char *folder)
{
    char from[600];
    snprintf(from, sizeof from, "%s/models/llama/hf", golden_root());
    if (!folder_copy(from, folder)) {
        printf("golden folder %s is absent: its cases did not run\n", from);
        return;
    }
    scratch_text(folder, "generation_config.json",
                 "{\"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.9, \"repetition_penalty\": 1.25, "
                 "\"eos_token_id\": [1, 5]}");
    const pg_request r = defaults_of(folder);
    CHECK(r.temperature == 0.6f && r.top_k == 20 && r.top_p == 0.9f && r.min_p == 0.05f && r.repeat_penalty == 1.25f,
          "from generation_config.json: %g %d %g %g", (double)r.temperature, r.top_k, (double)r.top_p, (double)r.min_p);
    folder_remove(folder);
}

/* A SentencePiece vocabulary of 297 tokens: three control tokens, the bytes, a word with its space, fillers. */
static void put_spm(gguf *g)
{
    enum { N = 297 };
    char text[32];
    key_text(g, "tokenizer.ggml.model", "llama");
    key_array(g, "tokenizer.ggml.tokens", G_STRING, N);
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof text, i >= 3 && i < 259 ? "<0x%02X>" : "filler%d", i >= 3 && i < 259 ? i - 3 : i);
        put_text(&g->keys, i == 0 ? "<unk>" : i == 1 ? "<s>" : i == 2 ? "</s>" : i == 259 ? SPACE "the" : text);
    }
    key_array(g, "tokenizer.ggml.scores", G_F32, N);
    for (int i = 0; i < N; i++) put_u32(&g->keys, 0);
    key_array(g, "tokenizer.ggml.token_type", G_I32, N);
    for (int i = 0; i < N; i++) put_u32(&g->keys, i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
}

static void test_continuation(const gguf_parts *p, const char *folder)
{
    gguf g = take_without(p, "tokenizer.");
    put_spm(&g);
    bytes b = gguf_bytes(&g);
    pg_error err = { 0 };
    pg_engine *e = golden_open(scratch_write(folder, "spm.gguf", &b), "f32", 1, &err);
    CHECK(e, "%s", err.text);
    if (e) {
        const pg_bias only = { 259, 1000 };
        const int32_t prompt = 259;
        char text[64] = "";
        size_t n = 0;
        int32_t id, k;
        pg_event ev[8];
        pg_request r;
        pg_request_init(e, &r);
        r.prompt = &prompt;
        r.n_prompt = 1;
        r.max_new = 3;
        r.bias = &only;
        r.n_bias = 1;
        CHECK(pg_submit(e, &r, &id, &err) == PG_OK, "%s", err.text);
        while ((k = pg_poll(e, -1, ev, 8, NULL)) > 0)
            for (int i = 0; i < k; i++)
                for (int j = 0; j < ev[i].n_text && n < sizeof text - 1; j++) text[n++] = ev[i].text[j];
        text[n] = 0;
        CHECK(!strcmp(text, " the the the"), "the continuation is \"%s\"", text);
    }
    pg_close(e);
    scratch_remove(folder, "spm.gguf");
}

int main(void)
{
    char *folder = scratch_new();
    gguf_parts *p = gguf_open(MODEL);
    test_gguf(p, folder);
    test_folder(folder);
    test_continuation(p, folder);
    gguf_close(p);
    scratch_free(folder);
    return check_done("defaults");
}
