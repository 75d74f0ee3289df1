/* Models under mutation: golden ones with random damage to their keys, tensor lists, weights and config.json, the same
 * ones every run. Whatever the damage: pg_describe refuses in words or accepts; what it accepts is opened, asked for
 * logits and made to generate. Nothing may crash, hang, take gigabytes or fail without a message.
 * Most useful when built with sanitizers. Not here: the container (source_fuzz), what exactly is refused (model_refuse). */
#include "pack_make.h"

#include <fcntl.h>
#include <float.h>
#include <sys/resource.h>
#include <time.h>

static unsigned long long state = 20240709;

static size_t below(size_t n)
{
    return n ? check_rand(&state) % n : 0;
}

/* ---- values ---- */

/* Numbers on both sides of limits that a loader may have, or near the one that was there. */
static uint64_t odd_int(uint64_t was)
{
    static const uint64_t number[] = { 0,        1,          2,          3,         4,          5,         8,
                                       15,       16,         17,         31,        32,         33,        64,
                                       255,      256,        512,        513,       1023,       1024,      1025,
                                       1 << 14,  1 << 16,    1 << 20,    1 << 22,   1 << 24,    1 << 30,   INT32_MAX,
                                       1u << 31, UINT32_MAX, 1ull << 32, INT64_MAX, 1ull << 63, UINT64_MAX };
    switch (below(5)) {
    case 0: return was + 1;
    case 1: return was - 1;
    case 2: return below(2) ? was * 2 : was / 2;
    default: return number[below(sizeof number / sizeof *number)];
    }
}

static float odd_float(void)
{
    static const float number[] = {
        NAN,    INFINITY, -INFINITY, 0.0f,  -0.0f, -1.0f, 1e-45f,  1e-38f, 1e-20f, 1e-3f,
        0.125f, 0.5f,     1.0f,      1.01f, 2.0f,  16.0f, 1000.0f, 1e10f,  1e30f,  FLT_MAX
    };
    return number[below(sizeof number / sizeof *number)];
}

static void poke(bytes *b, size_t at, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n && at + i < b->n; i++) b->data[at + i] = (unsigned char)(v >> 8 * i);
}

static void poke_float(bytes *b, size_t at)
{
    const float f = odd_float();
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    poke(b, at, bits, 4);
}

static void cut(bytes *b, size_t at, size_t n)
{
    if (at > b->n) return;
    if (n > b->n - at) n = b->n - at;
    memmove(b->data + at, b->data + at + n, b->n - at - n);
    b->n -= n;
}

/* ---- GGUF ---- */

/* A key outside of the tokenizer, mostly: those hold the numbers of the model. */
static const gguf_span *some_key(const gguf_parts *p)
{
    const gguf_span *k = &p->key[below(p->n_key)];
    for (int i = 0; i < 4 && !strncmp(k->name, "tokenizer.", 10); i++) k = &p->key[below(p->n_key)];
    return k;
}

static void damage_key(bytes *b, const gguf_parts *p)
{
    static const unsigned char same_width[3][3] = { { G_U32, G_I32, G_F32 },
                                                    { G_U64, G_I64, G_F64 },
                                                    { G_U8, G_I8, G_BOOL } };
    const gguf_span *k = some_key(p);
    const size_t n = k->to - k->value - 4;
    if (below(10) == 0)
        poke(b, k->value, same_width[below(3)][below(3)], 4);
    else if (k->type == G_F32)
        poke_float(b, k->value + 4);
    else if (k->type != G_STRING && k->type != G_ARRAY)
        poke(b, k->value + 4, odd_int(get_int(&p->file, k->value + 4, n)), n);
    else
        b->data[k->value + 4 + below(n)] = (unsigned char)check_rand(&state);
}

/* Fewer and wider heads, or more and narrower ones: every tensor still fits. */
static void damage_heads(bytes *b, const gguf_parts *p)
{
    const uint64_t factor = 2 + below(3), wider = below(2);
    for (size_t i = 0; i < p->n_key; i++) {
        const gguf_span *k = &p->key[i];
        const uint64_t was = get_int(&p->file, k->value + 4, 4);
        if (strstr(k->name, "attention.head_count"))
            poke(b, k->value + 4, wider ? (was + factor - 1) / factor : was * factor, 4);
        else if (strstr(k->name, "attention.key_length") || strstr(k->name, "attention.value_length"))
            poke(b, k->value + 4, wider ? was * factor : was / factor, 4);
        else if (strstr(k->name, "rope.dimension_count") && !wider)
            poke(b, k->value + 4, was / factor / 2 * 2, 4);
    }
}

static void damage_tensor(bytes *b, const gguf_parts *p)
{
    const gguf_span *t = &p->tensor[below(p->n_tensor)], *o = &p->tensor[below(p->n_tensor)];
    const size_t dims = (size_t)get_int(&p->file, t->value, 4), at = t->value + 4 + 8 * below(dims);
    switch (below(6)) {
    case 0: poke(b, at, odd_int(get_int(&p->file, at, 8)), 8); break;
    case 1: /* the same number of elements, folded in another way */
        poke(b, t->value + 4, get_int(&p->file, at, 8), 8);
        poke(b, at, get_int(&p->file, t->value + 4, 8), 8);
        break;
    case 2: poke(b, t->to - 12, below(2) ? o->type : below(42) + (below(4) ? 0 : PG_PACK_TYPE), 4); break;
    case 3: poke(b, t->to - 12, t->type == 0 ? 26 : t->type == 1 ? 30 : t->type == 30 ? 25 : 24, 4); break;
    case 4: poke(b, t->to - 12, (t->type >= PG_PACK_TYPE ? t->type - PG_PACK_TYPE : t->type + PG_PACK_TYPE), 4); break;
    default: /* a name for a name: only as long as both are */
        if (o->value - o->from == t->value - t->from) {
            memcpy(b->data + t->from, p->file.data + o->from, o->value - o->from);
            memcpy(b->data + o->from, p->file.data + t->from, o->value - o->from);
        }
    }
}

/* Numbers that a model should not hold. */
static void damage_weights(bytes *b, const gguf_parts *p)
{
    const gguf_span *t = &p->tensor[below(p->n_tensor)];
    for (size_t i = 0, n = 1 + below(3); i < n; i++) poke_float(b, t->data + below(t->n_data / 4) * 4);
}

static void damage_bytes(bytes *b, size_t span)
{
    const size_t at = below(span);
    switch (below(5)) {
    case 0: b->data[at] ^= (unsigned char)(1u << below(8)); break;
    case 1: b->data[at] = (unsigned char)check_rand(&state); break;
    case 2: poke(b, at, odd_int(0), below(2) ? 4 : 8); break;
    case 3: cut(b, at, 1 + below(64)); break;
    default: b->n = at; break;
    }
}

/* The model without one key or tensor, still in order. */
static bytes thinned(const gguf_parts *p)
{
    gguf g = gguf_new();
    gguf_take(&g, p, below(3) ? some_key(p)->name : p->tensor[below(p->n_tensor)].name, "");
    return gguf_bytes(&g);
}

static bytes damaged(const gguf_parts *p, int round)
{
    bytes b = { 0 };
    if (round > 0 && below(8) == 0) return thinned(p);
    put(&b, p->file.data, p->file.n);
    if (round && below(8) == 0) damage_heads(&b, p);
    for (size_t n = round ? below(3) : 0; n > 0; n--) {
        const size_t how = below(16);
        if (b.n < p->file.n) break; /* cut: places are elsewhere now */
        if (how < 8)
            damage_key(&b, p);
        else if (how < 11)
            damage_tensor(&b, p);
        else if (how < 14)
            damage_weights(&b, p);
        else
            damage_bytes(&b, p->meta);
    }
    return b;
}

/* ---- running what was accepted ---- */

typedef struct tally {
    int described, opened, answered, failed, silent;
    double slowest;
} tally;

/* A refusal must come with a code of refusal and with words. */
static void judge(tally *t, int rc, const pg_error *err, const char *what, int round)
{
    const int refused = rc == PG_EFORMAT || rc == PG_EUNSUPPORTED || rc == PG_EMEMORY || rc == PG_ELIMIT ||
                        rc == PG_ENOTFOUND || rc == PG_EINVAL;
    if (rc >= 0 || (refused && err->code == rc && err->text[0])) return;
    if (!t->silent++) fprintf(stderr, "round %d: %s: %d, message '%s'\n", round, what, rc, err->text);
}

/* Three tokens, greedy or drawn; waits for the end, whichever it is. */
static void generate(pg_engine *e, tally *t, const int32_t *ids, int round)
{
    pg_request req;
    pg_error err = { 0 };
    int32_t id;
    pg_request_init(e, &req);
    req.prompt = ids;
    req.n_prompt = 3;
    req.max_new = 3;
    if (round % 2) req.temperature = 0;
    req.has_seed = 1;
    int rc = pg_submit(e, &req, &id, &err);
    judge(t, rc, &err, "submit", round);
    while (rc >= 0) {
        pg_event ev[8];
        const int n = pg_poll(e, -1, ev, 8, &err);
        judge(t, n, &err, "poll", round);
        for (int i = 0; i < n; i++) {
            if (ev[i].kind == PG_EVENT_FAIL && !ev[i].n_text) t->silent++;
            t->failed += ev[i].kind == PG_EVENT_FAIL;
            t->answered += ev[i].kind == PG_EVENT_DONE;
        }
        if (n <= 0 || ev[n - 1].kind != PG_EVENT_TEXT) return;
    }
}

static int makes_sense(const pg_info *i)
{
    return i->n_layer >= 1 && i->n_layer <= 512 && i->n_moe_layer <= i->n_layer && i->n_embd >= 1 && i->n_vocab >= 1 &&
           i->n_head >= 1 && i->n_head_kv >= 1 && i->n_expert_used <= i->n_expert && i->context_train >= 1 &&
           i->n_active >= 1 && i->n_active <= i->n_params && i->file_bytes >= 1 && i->bos < i->n_vocab;
}

static void try_model(const char *path, tally *t, int round)
{
    static const int32_t ids[3] = { 5, 0, 77 };
    static const char *const kv[] = { "f16", "f32", "bf16", "q8_0" };
    pg_error err = { 0 };
    pg_info info;
    pg_options o;
    pg_engine *e = NULL;
    const float *logits;
    int32_t V;
    int rc = pg_describe(path, &info, &err);
    judge(t, rc, &err, "describe", round);
    if (rc < 0) return;
    t->described++;
    CHECK(makes_sense(&info), "%s: round %d: pg_describe says what cannot be", path, round);
    pg_options_init(&o);
    o.threads = 1;
    o.context = 16;
    o.kv_tokens = 32;
    o.batch = 4;
    o.queue = 2;
    o.precision = round % 3 ? "auto" : "f32";
    o.kv_type = kv[round % 4];
    o.use_mmap = round & 1; /* a sanitizer sees reads beyond a copy, not beyond a mapping */
    rc = pg_open(path, &o, &e, &err);
    judge(t, rc, &err, "open", round);
    if (rc < 0) return;
    t->opened++;
    rc = pg_logits(e, ids, 3, 0, 2, &logits, &V, &err);
    judge(t, rc, &err, "logits", round);
    generate(e, t, ids, round);
    pg_close(e);
}

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void write_over(const char *path, const bytes *b)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || pwrite(fd, b->data, b->n, 0) != (ssize_t)b->n || ftruncate(fd, (off_t)b->n) != 0) abort();
    close(fd);
}

/* One mutation: the damaged bytes go to `file`, the model is opened at `path`. */
static void try_bytes(const char *file, const char *path, bytes *b, tally *t, int round)
{
    const double begin = cpu_seconds();
    write_over(file, b);
    free(b->data);
    try_model(path, t, round);
    const double took = cpu_seconds() - begin;
    if (took > t->slowest) t->slowest = took;
    if (round == 0) CHECK(t->answered == 1, "%s: the seed itself does not run", path);
}

static void report(const char *name, const tally *t, int rounds)
{
    CHECK(!t->silent, "%s: %d failures without a proper message", name, t->silent);
    CHECK(t->opened > rounds / 20 && t->described < rounds, "%s: %d of %d accepted", name, t->opened, rounds);
    CHECK(t->slowest < 5, "%s: one model took %.1f s", name, t->slowest);
    printf("%s: of %d mutations %d described, %d opened, %d ran, %d failed in words, slowest %.3f s\n", name, rounds,
           t->described, t->opened, t->answered, t->failed, t->slowest);
}

/* The model at path; packed: made again with packed weights before it is damaged. */
static void fuzz_gguf(const char *tmp, const char *path, int packed, int rounds)
{
    char file[1024];
    tally t = { 0 };
    snprintf(file, sizeof file, "%s/m.gguf", tmp);
    if (packed) {
        gguf g = packed_gguf(path, may_pack);
        bytes b = gguf_bytes(&g);
        scratch_write(tmp, "m.gguf", &b);
    }
    gguf_parts *p = gguf_open(packed ? file : path);
    for (int round = 0; round < rounds; round++) {
        bytes b = damaged(p, round);
        try_bytes(file, file, &b, &t, round);
    }
    report(path, &t, rounds);
    gguf_close(p);
    scratch_remove(tmp, "m.gguf");
}

/* ---- config.json ---- */

static json_t *odd_json(const json_t *was)
{
    static const char *const text[] = { "",      "yarn",      "linear",  "llama3",  "none",   "sigmoid",    "softmax",
                                        "llama", "qwen3_moe", "gpt_oss", "mixtral", "greedy", "deepseek_v2" };
    switch (below(8)) {
    case 0: return json_null();
    case 1: return json_boolean(below(2));
    case 2: return json_string(text[below(sizeof text / sizeof *text)]);
    case 3: return json_pack("[i,f,s]", 1, 2.5, "full_attention");
    case 4: return json_object();
    case 5: {
        const float f = odd_float();
        return isfinite(f) ? json_real((double)f) : json_real(below(2) ? 1e300 : -1e-300);
    }
    default: return json_integer((json_int_t)odd_int((uint64_t)json_integer_value(was)));
    }
}

static void damage_object(json_t *o)
{
    const char *key;
    json_t *value;
    size_t at = below(json_object_size(o) + 1);
    json_object_foreach(o, key, value)
    {
        if (at-- > 0) continue;
        if (json_is_object(value) && below(8))
            damage_object(value);
        else if (below(6) == 0)
            json_object_del(o, key);
        else
            json_object_set_new(o, key, odd_json(value));
        return;
    }
}

static bytes damaged_config(const bytes *text, int round)
{
    bytes b = { 0 };
    if (round && below(5)) {
        json_t *o = json_loadb((const char *)text->data, text->n, 0, NULL);
        for (size_t n = 1 + below(2); n > 0; n--) damage_object(o);
        char *changed = json_dumps(o, JSON_INDENT(1));
        put(&b, changed, strlen(changed));
        free(changed);
        json_decref(o);
        return b;
    }
    put(&b, text->data, text->n);
    if (round) damage_bytes(&b, b.n);
    return b;
}

static void fuzz_folder(const char *tmp, const char *model, int rounds)
{
    char from[1100], file[1024];
    tally t = { 0 };
    snprintf(from, sizeof from, "%s/models/%s/hf", golden_root(), model);
    snprintf(file, sizeof file, "%s/config.json", tmp);
    if (!folder_copy(from, tmp)) {
        printf("golden folder %s is absent: its cases did not run\n", from);
        return;
    }
    bytes text = read_whole(file);
    for (int round = 0; round < rounds; round++) {
        bytes b = damaged_config(&text, round);
        try_bytes(file, tmp, &b, &t, round);
    }
    report(model, &t, rounds);
    free(text.data);
    folder_remove(tmp);
}

int main(int argc, char **argv)
{
    static const char *const gguf_model[] = { "llama_mixed",    "deepseek2_sigmoid", "deepseek2_softmax",
                                              "qwen3moe_small", "gpt_oss_small",     "gemma3_small" };
    static const char *const folder_model[] = { "llama", "deepseek_v3_fp8", "gpt_oss_mxfp4" };
    const int rounds = argc > 1 ? atoi(argv[1]) : 600;
    if (argc > 2) state = strtoull(argv[2], NULL, 10);
    char *tmp = scratch_new();
    struct rusage use;
    if (argc == 1) alarm(600); /* a hang ends here */
    char path[1200];
    for (size_t i = 0; i < sizeof gguf_model / sizeof *gguf_model; i++) {
        snprintf(path, sizeof path, "tests/golden/models/%s/model.gguf", gguf_model[i]);
        fuzz_gguf(tmp, path, 0, rounds);
        if (!i) fuzz_gguf(tmp, path, 1, rounds);
    }
    snprintf(path, sizeof path, "%s/models/quant_qwen3_moe/model-MIX.gguf", golden_root());
    if (golden_exists(path))
        fuzz_gguf(tmp, path, 1, rounds);
    else
        printf("golden model %s is absent: its cases did not run\n", path);
    for (size_t i = 0; i < sizeof folder_model / sizeof *folder_model; i++) fuzz_folder(tmp, folder_model[i], rounds);
    getrusage(RUSAGE_SELF, &use);
    CHECK(use.ru_maxrss < 2 << 20, "%ld KiB of memory in use at one time", use.ru_maxrss);
    scratch_free(tmp);
    return check_done("model_fuzz");
}
