/* Small models on two and three CUDA devices against one: the same bits, of prompts and of generated tokens, in both
 * precisions. The devices are those that PERIGEE_CUDA brings, else emulated ones (tests/cuda/emu). FAST=1 takes one model. */
#include "golden.h"

static pg_engine *open_on(const char *path, const char *device, const char *precision, pg_error *err)
{
    pg_options o;
    pg_engine *e = NULL;
    pg_options_init(&o);
    o.device = device;
    o.precision = precision;
    o.threads = 2;
    o.kv_tokens = 256;
    o.context = 128;
    o.batch = 32;
    return pg_open(path, &o, &e, err) < 0 ? NULL : e;
}

/* Logits of all positions in one class, and what is generated after them. */
typedef struct answer {
    float *logits;
    int32_t out[8], V;
    int n;
} answer;

static answer ask(pg_engine *e, const golden_case *c, int chunk, const char *what)
{
    pg_error err = { 0 };
    const float *got;
    answer a = { 0 };
    const int rc = pg_logits(e, c->ids, c->n, 0, chunk, &got, &a.V, &err);
    CHECK(rc >= 0, "%s: %s", what, err.text);
    if (rc < 0) return a;
    const size_t bytes = (size_t)c->n * (size_t)a.V * sizeof *got;
    a.logits = malloc(bytes);
    memcpy(a.logits, got, bytes);
    a.n = golden_generate(e, c->ids, c->n, 8, a.out, &err);
    CHECK(a.n == 8, "%s: %d tokens: %s", what, a.n, err.text);
    return a;
}

static void compare(const char *path, const golden_case *c, const char *precision, const char *devices)
{
    pg_error err = { 0 };
    pg_info info = { 0 };
    pg_engine *one = open_on(path, "cuda:0", precision, &err), *many = open_on(path, devices, precision, &err);
    CHECK(one && many, "%s on %s: %s", path, devices, err.text);
    if (many) pg_engine_info(many, &info, NULL);
    CHECK(!strcmp(info.device, devices), "%s instead of %s", info.device, devices);
    for (int decode = 0; one && many && decode < 2; decode++) {
        const answer a = ask(one, c, decode ? 1 : c->n, path), b = ask(many, c, decode ? 1 : c->n, path);
        CHECK(a.logits && b.logits && a.V == b.V &&
                  !memcmp(a.logits, b.logits, (size_t)c->n * (size_t)a.V * sizeof *a.logits),
              "%s, precision %s, %s class: %s give other bits", path, precision, decode ? "decode" : "prefill",
              devices);
        CHECK(a.n == b.n && !memcmp(a.out, b.out, sizeof a.out), "%s: other tokens", path);
        free(a.logits);
        free(b.logits);
    }
    pg_close(one);
    pg_close(many);
}

static void check_model(const char *name, int three)
{
    char folder[300], path[400];
    golden_case c;
    snprintf(folder, sizeof folder, "tests/golden/models/%s", name);
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    json_t *list = golden_list(folder, "cases.json");
    size_t i = 0; /* a case of a middling length */
    while (i + 1 < json_array_size(list) && json_array_size(json_object_get(json_array_get(list, i), "ids")) < 6) i++;
    golden_read(folder, json_array_get(list, i), &c);
    compare(path, &c, "auto", "cuda:0,1");
    compare(path, &c, "f32", three ? "cuda:2,0,1" : "cuda:1,0");
    free(c.logits);
    json_decref(list);
}

int main(int argc, char **argv)
{
    const char *named = getenv("PERIGEE_CUDA"), *fast = getenv("FAST");
    const int real = named && *named;
    pg_error err = { 0 };
    (void)argc;
    if (!real) setenv("PERIGEE_EMU_DEVICES", "3", 1);
    golden_find_device(argv[0]);
    pg_engine *e = open_on("examples/models/perigee-voices.q8_0.gguf", "cuda:0,1", "auto", &err);
    if (!e) {
        CHECK(err.code == PG_EDEVICE, "%s", err.text);
        printf("%s: models on several devices did not run\n", err.text);
        return check_done("device_split");
    }
    pg_close(e);
    check_model("deepseek2_softmax", !real); /* latents; the first layer has no experts */
    if (!fast || !*fast) {
        check_model("qwen3moe_small", !real); /* grouped heads */
        check_model("gpt_oss_small", !real);  /* windows and sinks */
        check_model("gemma3_small", !real);   /* two kinds of angles cross, no experts */
    }
    return check_done("device_split");
}
