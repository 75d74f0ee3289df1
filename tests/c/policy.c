/* Policies in whole models: what knobs do against models that are made so, bits that do not depend on company, requests
 * with policies of their own side by side, and what is refused. */
#include "policy_models.h"

/* ---- knobs against models that are made so --------------------------------------------------------------------------- */

static const gguf_span *key_ending(const gguf_parts *p, const char *end)
{
    for (size_t i = 0; i < p->n_key; i++) {
        const size_t n = strlen(p->key[i].name), m = strlen(end);
        if (n >= m && !strcmp(p->key[i].name + n - m, end)) return &p->key[i];
    }
    return NULL;
}

static char *folder;

static const char *write_edited(const gguf_parts *p)
{
    bytes copy = { 0 };
    put(&copy, p->file.data, p->file.n);
    return scratch_write(folder, "model.gguf", &copy);
}

/* A router with this many experts a token, by the model's own key. */
static void test_top(int model)
{
    gguf_parts *p = gguf_open(path_of(model));
    const gguf_span *key = key_ending(p, ".expert_used_count");
    pg_engine *e = open_model(path_of(model), 2);
    const int used = (int)get_int(&p->file, key->value + 4, 4);
    const logits as_is = compute(e, 0);
    for (int top = 1; top <= 2 * used; top++) {
        const pg_knobs k = { .layer = -1, .top = top };
        p->file.data[key->value + 4] = (unsigned char)top;
        pg_engine *other = open_model(write_edited(p), 1);
        const logits want = compute(other, 0), got = compute_with(e, &k, 1);
        CHECK(same(got, want), "%s: top %d is not a model with %d", models[model], top, top);
        CHECK(same(want, as_is) == (top == used), "%s: %d experts make no difference", models[model], top);
        pg_close(other);
        free(want.x);
        free(got.x);
    }
    scratch_remove(folder, "model.gguf");
    free(as_is.x);
    pg_close(e);
    gguf_close(p);
}

/* A router that can never pick expert 1 of one layer, since its bias for choosing says so. */
static void test_ban(int model, const char *bias)
{
    gguf_parts *p = gguf_open(path_of(model));
    pg_engine *e = open_model(path_of(model), 2);
    const logits as_is = compute(e, 0);
    int tried = 0;
    for (size_t i = 0; i < p->n_tensor; i++) {
        int layer;
        const float never = -1e30f;
        if (sscanf(p->tensor[i].name, "blk.%d.", &layer) != 1 || !strstr(p->tensor[i].name, bias)) continue;
        unsigned char *at = p->file.data + p->tensor[i].data + sizeof never, before[sizeof never];
        memcpy(before, at, sizeof never);
        memcpy(at, &never, sizeof never);
        pg_engine *other = open_model(write_edited(p), 1);
        memcpy(at, before, sizeof never);
        const int32_t one = 1;
        const pg_knobs k = { .layer = layer, .ban = &one, .n_ban = 1 };
        const logits want = compute(other, 0), got = compute_with(e, &k, 1);
        CHECK(same(got, want), "%s, layer %d: a ban is not a model that never picks it", models[model], layer);
        tried += !same(want, as_is);
        pg_close(other);
        free(want.x);
        free(got.x);
    }
    CHECK(tried > 0, "%s: no ban made a difference", models[model]);
    scratch_remove(folder, "model.gguf");
    free(as_is.x);
    pg_close(e);
    gguf_close(p);
}

/* Knobs that say what the model does anyway leave its bits alone; others do not, and with none all is as before. */
static void test_neutral(int model)
{
    pg_engine *e = open_model(path_of(model), 2);
    const logits as_is = compute(e, 0);
    const pg_expert_bias none = { 0, 0 };
    const pg_knobs neutral = { .layer = -1, .cumulative = 1, .temperature = 1, .bias = &none, .n_bias = 1 };
    const pg_knobs others[] = { { .layer = -1, .cumulative = 0.3f }, { .layer = -1, .temperature = 0.2f } };
    logits got = compute_with(e, &neutral, 1);
    CHECK(same(got, as_is), "%s: neutral knobs give other bits", models[model]);
    free(got.x);
    for (int i = 0; i < 2; i++) {
        got = compute_with(e, &others[i], 1);
        CHECK(!same(got, as_is), "%s: knobs %d make no difference", models[model], i);
        free(got.x);
    }
    route(e, NULL);
    got = compute(e, 0);
    CHECK(same(got, as_is), "%s: without a policy it is not as before", models[model]);
    free(got.x);
    free(as_is.x);
    pg_close(e);
}

/* ---- bits do not depend on company ------------------------------------------------------------------------------------- */

/* As many experts as the row's position and entropy say, scores bent by a knob. */
static pg_policy *program_of(pg_engine *e, const char *name)
{
    static const char *const knob[] = { "bend" };
    static const float value[] = { 0.25f };
    const int S = 32; /* first scalar register */
    struct {
        const char *op;
        int dst, a, b, c;
        float value;
    } list[] = { { "scores", 0, 0, 0, 0, 0 },
                 { "entropy", S, 0, 0, 0, 0 },
                 { "position", S + 1, 0, 0, 0, 0 },
                 { "const", S + 2, 0, 0, 0, 7 },
                 { "div", S + 1, S + 1, S + 2, 0, 0 },
                 { "floor", S + 3, S + 1, 0, 0, 0 },
                 { "sub", S + 1, S + 1, S + 3, 0, 0 },
                 { "add", S, S, S + 1, 0, 0 },
                 { "const", S + 2, 0, 0, 0, 1 },
                 { "max", S, S, S + 2, 0, 0 },
                 { "set_top", 0, S, 0, 0, 0 },
                 { "knob", S, 0, 0, 0, 0 },
                 { "index", 1, 0, 0, 0, 0 },
                 { "mul", 1, 1, S, 0, 0 },
                 { "sub", 0, 0, 1, 0, 0 },
                 { "set_scores", 0, 0, 0, 0, 0 } };
    enum { LENGTH = sizeof list / sizeof *list };
    int32_t code[6 * LENGTH];
    for (int i = 0; i < LENGTH; i++) {
        int32_t op = 0;
        const size_t n = strlen(list[i].op);
        while (strncmp(pg_program_op(op), list[i].op, n) || pg_program_op(op)[n] != ' ') op++;
        const int32_t word[] = { op, list[i].dst, list[i].a, list[i].b, list[i].c };
        memcpy(code + 6 * i, word, sizeof word);
        memcpy(code + 6 * i + 5, &list[i].value, sizeof(float));
    }
    const pg_program program = { .code = code, .n = LENGTH, .knob = knob, .knob_value = value, .n_knob = 1 };
    pg_policy *p = NULL;
    pg_error err = { 0 };
    CHECK(pg_policy_new(e, name, 1, 0, &p, &err) == PG_OK && pg_policy_program(p, &program, &err) >= 0, "%s", err.text);
    return p;
}

static void test_company(int model)
{
    pg_engine *one = open_model(path_of(model), 1), *three = open_model(path_of(model), 3);
    static const int chunks[] = { 0, 1, 7 };
    const pg_knobs k = { .layer = -1, .top = 1 };
    route(one, program_of(one, "program"));
    route(three, program_of(three, "program"));
    const logits want = compute(one, 0);
    for (int i = 0; i < 3; i++) {
        stream s = { 0 };
        pg_policy *other = knobs_of(three, "other", 0, &k, 1);
        submit(three, i ? other : NULL, NEW, NULL, &s.id); /* company, under another policy and under the same */
        pg_policy_drop(other);
        const logits got = compute(three, chunks[i]);
        CHECK(same(got, want), "%s: chunks of %d, in company: other bits", models[model], chunks[i]);
        free(got.x);
        read_all(three, &s, 1);
    }
    CHECK(pg_knob_set(three, "bend", 0, NULL) == PG_OK, "knob");
    const logits unbent = compute(three, 0);
    CHECK(!same(unbent, want), "%s: a knob makes no difference", models[model]);
    free(unbent.x);
    free(want.x);
    pg_close(one);
    pg_close(three);
}

/* Requests with policies of their own, in one batch, give what each gives alone. */
static void test_side_by_side(int model)
{
    pg_engine *e = open_model(path_of(model), 2);
    const pg_knobs k[] = { { .layer = -1, .top = 1 }, { .layer = -1, .temperature = 0.1f } };
    pg_policy *p[4] = { NULL, knobs_of(e, "a", 0, &k[0], 1), knobs_of(e, "b", 0, &k[1], 1), program_of(e, "c") };
    stream alone[4] = { { 0 } }, crowd[4] = { { 0 } };
    int differ = 0;
    for (int i = 0; i < 4; i++) {
        submit(e, p[i], NEW, NULL, &alone[i].id);
        read_all(e, &alone[i], 1);
    }
    for (int i = 0; i < 4; i++) submit(e, p[i], NEW, NULL, &crowd[i].id);
    for (int i = 0; i < 4; i++) pg_policy_drop(p[i]);
    read_all(e, crowd, 4);
    for (int i = 0; i < 4; i++) {
        CHECK(alone[i].n == NEW && crowd[i].n == NEW && !memcmp(alone[i].token, crowd[i].token, sizeof alone[i].token),
              "%s: policy %d gives other tokens side by side", models[model], i);
        differ += memcmp(alone[i].token, alone[0].token, sizeof alone[0].token) != 0;
    }
    CHECK(differ > 0, "%s: no policy makes a difference", models[model]);
    pg_close(e);
}

/* ---- what is refused ------------------------------------------------------------------------------------------------------ */

static void refuse(pg_engine *e, const pg_knobs *k, int code, const char *why)
{
    pg_policy *p = NULL;
    pg_error err = { 0 };
    pg_policy_new(e, "p", 1, 0, &p, NULL);
    CHECK(pg_policy_knobs(p, k, 1, &err) == code && strstr(err.text, why), "%s: %s", why, err.text);
    pg_policy_drop(p);
}

static void on_drop(void *ud)
{
    ++*(int *)ud;
}

static void test_refusals(void)
{
    pg_engine *e = open_model(path_of(1), 1), *other = open_model(path_of(0), 1);
    const int32_t none = 400, all[64] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    const pg_expert_bias inf = { 0, INFINITY };
    pg_info info;
    pg_error err = { 0 };
    pg_engine_info(e, &info, NULL);
    refuse(e, &(pg_knobs){ .layer = -2 }, PG_ENOTFOUND, "there is no layer -2");
    refuse(e, &(pg_knobs){ .layer = info.n_layer }, PG_ENOTFOUND, "count from 0");
    refuse(e, &(pg_knobs){ .layer = 0, .top = 1 }, PG_ENOTFOUND, "layer 0 has no experts: layer");
    refuse(e, &(pg_knobs){ .layer = -1, .top = 2 * info.n_expert_used + 1 }, PG_EINVAL, "top is");
    refuse(e, &(pg_knobs){ .layer = -1, .cumulative = 1.5f }, PG_EINVAL, "cumulative is 1.5");
    refuse(e, &(pg_knobs){ .layer = -1, .temperature = NAN }, PG_EINVAL, "temperature is");
    refuse(e, &(pg_knobs){ .layer = -1, .capacity = -1 }, PG_EINVAL, "capacity is -1");
    refuse(e, &(pg_knobs){ .layer = -1, .ban = &none, .n_ban = 1 }, PG_EINVAL, "ban: there is no expert 400");
    refuse(e, &(pg_knobs){ .layer = -1, .bias = &inf, .n_bias = 1 }, PG_EINVAL, "bias of expert 0");
    if (info.n_expert <= 16)
        refuse(e, &(pg_knobs){ .layer = -1, .ban = all, .n_ban = info.n_expert }, PG_EINVAL, "are banned");
    pg_policy *p = NULL, *q = NULL;
    const pg_knobs k = { .layer = -1, .top = 1 };
    int drops = 0;
    const pg_hooks h = { .drop = on_drop, .ud = &drops };
    pg_policy_new(other, "q", 1, 0, &q, NULL);
    CHECK(pg_engine_route(e, q, &err) == PG_EINVAL && strstr(err.text, "another engine"), "%s", err.text);
    pg_policy_new(e, "p", 1, 0, &p, NULL);
    CHECK(pg_policy_include(p, q, &err) == PG_EINVAL && pg_policy_include(p, p, &err) == PG_EINVAL, "%s", err.text);
    for (int i = 0; i < 16; i++) CHECK(pg_policy_knobs(p, &k, 1, NULL) == PG_OK, "stage %d", i);
    CHECK(pg_policy_hooks(p, &h, &err) == PG_ELIMIT && drops == 1, "%s", err.text);
    route(e, p);
    CHECK(pg_policy_knobs(p, &k, 1, &err) == PG_EINVAL && strstr(err.text, "in use"), "%s", err.text);
    CHECK(pg_policy_new(e, "", 1, 0, &p, &err) == PG_EINVAL, "a policy without a name");
    CHECK(pg_knob_set(e, "nobody", 1, &err) == PG_ENOTFOUND && strstr(err.text, "nobody"), "%s", err.text);
    pg_close(other);
    pg_policy_drop(q); /* it outlives its engine */
    pg_close(e);
}

int main(void)
{
    folder = scratch_new();
    for (int i = 0; i < MODELS; i++) {
        test_top(i);
        test_neutral(i);
        test_company(i);
        test_side_by_side(i);
    }
    test_ban(0, "exp_probs_b");
    test_ban(2, "ffn_gate_inp.bias");
    test_refusals();
    scratch_free(folder);
    return check_done("policy");
}
