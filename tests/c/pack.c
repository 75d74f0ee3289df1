/* Packed weights: panels hold every byte of the rows; a model answers alike whether its file is packed or it was packed
 * at load; what loading takes of memory, what it tells, and which packed files are refused. */
#include "pack_make.h"

#include "../../engine/pack.h"

#define MODEL "examples/models/perigee-voices.q8_0.gguf"
#define MIXED "tests/golden/models/llama_mixed/model.gguf"

static unsigned long long state = 7;

/* ---- panels --------------------------------------------------------------------------------------------------------- */

/* n rows of n_block blocks, `step` rows apart, packed and looked up again. */
static void check_format(pg_dtype type, int64_t n, int64_t n_block, int64_t step, int shift)
{
    const pg_dtype_info *f = pg_dtype_get(type);
    const int64_t row = n_block * f->bytes, rows = (n + PG_PANEL - 1) / PG_PANEL * PG_PANEL;
    unsigned char *from = malloc((size_t)(n * step * row) + 8), *to = malloc((size_t)(rows * row) + 8), block[256];
    int wrong = 0, rest = 0;
    for (int64_t i = 0; i < n * step * row + 8; i++) from[i] = (unsigned char)check_rand(&state);
    memset(to, 0xa5, (size_t)(rows * row) + 8);
    pg_tensor w = pg_tensor_dense(type, from + shift, n_block * f->block, n, 1), all = w;
    w.stride[1] *= step;
    CHECK(pg_panel_bytes(&w, n) == rows * row, "%s: %lld bytes", f->name, (long long)pg_panel_bytes(&w, n));
    for (int64_t k = 0; k < rows / PG_PANEL; k++) pg_panel_pack(to + shift + k * PG_PANEL * row, &w, k);
    all.data = to + shift;
    all.packed = 1;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t b = 0; b < n_block; b++) {
            pg_panel_block(block, &all, r, b);
            const unsigned char *want = from + shift + r * step * row + b * f->bytes;
            for (int i = 0; i < f->bytes; i++) wrong += block[i] != (r < n ? want[i] : 0);
        }
    for (int i = 0; i < 8; i++) rest += to[i < shift ? i : rows * row + i] != 0xa5;
    CHECK(!wrong && !rest, "%s, %lld rows of %lld blocks, step %lld: %d bytes wrong, %d written beside", f->name,
          (long long)n, (long long)n_block, (long long)step, wrong, rest);
    free(from);
    free(to);
}

static void test_panels(void)
{
    static const int64_t rows[] = { 1, 15, 16, 17, 32, 45 };
    for (pg_dtype t = 0; t < PG_DTYPE_COUNT; t++)
        for (size_t i = 0; pg_dtype_is_quant(t) && i < sizeof rows / sizeof *rows; i++)
            for (int k = 0; k < 4; k++) check_format(t, rows[i], 1 + 2 * (k & 1), 1 + (k >> 1), k);
}

/* ---- models --------------------------------------------------------------------------------------------------------- */

enum { N_ID = 20 };

static pg_engine *open_model(const char *path, const char *precision, int threads, int use_mmap, pg_error *err)
{
    pg_options o;
    pg_engine *e = NULL;
    pg_options_init(&o);
    o.precision = precision;
    o.threads = threads;
    o.use_mmap = use_mmap;
    o.context = 32;
    o.kv_tokens = 64;
    o.batch = 16;
    o.kv_type = "f16";
    return pg_open(path, &o, &e, err) < 0 ? NULL : e;
}

/* Logits of N_ID tokens, half of them one by one; NULL: *err says why. */
static float *logits_of(const char *path, const char *precision, int threads, int use_mmap, size_t *n, pg_error *err)
{
    const float *l;
    float *copy = NULL;
    int32_t V, ids[N_ID];
    pg_engine *e = open_model(path, precision, threads, use_mmap, err);
    for (int i = 0; i < N_ID; i++) ids[i] = 3 + (i * 37 + 11) % 290;
    if (e && pg_logits(e, ids, N_ID, 0, N_ID / 2, &l, &V, err) >= 0) {
        *n = (size_t)N_ID * (size_t)V * sizeof *l;
        copy = malloc(*n);
        memcpy(copy, l, *n);
    }
    pg_close(e);
    return copy;
}

static int is_embedding(const pg_source_tensor *t)
{
    return may_pack(t) && is_named(t, "token_embd");
}
static int none(const pg_source_tensor *t)
{
    (void)t;
    return 0;
}
static int no_output(const pg_source_tensor *t)
{
    return is_named(t, "output.weight") && !is_named(t, "attn_output") ? -1 : 0;
}
static int no_k_b(const pg_source_tensor *t)
{
    return is_named(t, "blk.1.attn_k_b") ? -1 : 0;
}
static int no_values(const pg_source_tensor *t)
{
    return is_named(t, "attn_v_b") || is_named(t, "attn_output") ? -1 : 0;
}
static int no_gate_up(const pg_source_tensor *t)
{
    return is_named(t, "blk.1.ffn_gate_exps") || is_named(t, "blk.1.ffn_up_exps") ? -1 : 0;
}

/* Both files answer alike, however they are opened. */
static void compare(const char *path, const char *other)
{
    for (int round = 0; round < 5; round++) {
        const char *precision = round < 4 ? "auto" : "f32";
        pg_error err = { 0 };
        size_t n = 0, m = 0;
        float *want = logits_of(path, precision, 1, 1, &n, &err);
        float *got = want ? logits_of(other, precision, 1 + (round & 1), round < 2, &m, &err) : NULL;
        CHECK(got && n == m && !memcmp(got, want, n), "%s and %s, precision %s, round %d: the logits differ: %s", path,
              other, precision, round, err.text);
        free(got);
        free(want);
    }
}

static void same_answers(const char *tmp, const char *path, int (*choose)(const pg_source_tensor *t))
{
    gguf g = packed_gguf(path, choose);
    bytes b = gguf_bytes(&g);
    compare(path, scratch_write(tmp, "packed.gguf", &b));
    scratch_remove(tmp, "packed.gguf");
}

/* A q8_0 tensor of any numbers, all of them small. */
static void add_q8(gguf *g, const char *name, uint64_t k, uint64_t n, uint64_t stack, int packed)
{
    pg_tensor w = pg_tensor_dense(PG_Q8_0, NULL, (int64_t)k, (int64_t)n, (int64_t)stack);
    unsigned char *data = malloc((size_t)w.stride[3]);
    for (int64_t i = 0; i < w.stride[3]; i++)
        data[i] = i % 34 == 0 ? 0 : i % 34 == 1 ? 0x10 : (unsigned char)check_rand(&state); /* d = 2^-11 */
    w.data = data;
    info(g, name, 3, (uint64_t[]){ k, n, stack }, packed ? PG_PACK_TYPE + 8 : 8, g->data.n);
    if (packed)
        put_packed(&g->data, &w);
    else
        put(&g->data, data, (size_t)w.stride[3]);
    put_zeros(&g->data, (g->align - g->data.n % g->align) % g->align);
    free(data);
}

/* Heads whose values have 20 columns: each matrix of the stack ends inside a panel. */
static void test_odd_heads(const char *tmp)
{
    static const char key[] = "deepseek2.attention.value_length_mla";
    for (int packed = 0; packed < 2; packed++) {
        gguf g = packed_gguf(MODEL, no_values);
        char *at = memmem(g.keys.data, g.keys.n, key, strlen(key));
        if (at) memcpy(at + strlen(key) + 4, &(uint32_t){ 20 }, 4);
        state = 99;
        for (int l = 0; l < 4; l++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.attn_v_b.weight", l);
            add_q8(&g, name, 128, 20, 8, packed);
            snprintf(name, sizeof name, "blk.%d.attn_output.weight", l);
            add_q8(&g, name, 160, 256, 1, packed);
        }
        bytes b = gguf_bytes(&g);
        scratch_write(tmp, packed ? "packed.gguf" : "stored.gguf", &b);
    }
    compare(scratch_path(tmp, "stored.gguf"), scratch_path(tmp, "packed.gguf"));
    scratch_remove(tmp, "packed.gguf");
    scratch_remove(tmp, "stored.gguf");
}

/* Experts' gate and up in one stack, gate rows before up rows. */
static void test_fused(const char *tmp)
{
    pg_source *s = NULL;
    pg_error err = { 0 };
    CHECK(pg_source_open(MODEL, 1, &s, &err) == PG_OK, "%s", err.text);
    if (!s) return;
    const pg_tensor gate = pg_source_find(s, "blk.1.ffn_gate_exps.weight")->view;
    const pg_tensor up = pg_source_find(s, "blk.1.ffn_up_exps.weight")->view;
    for (int packed = 0; packed < 2; packed++) {
        gguf g = packed_gguf(MODEL, no_gate_up);
        info(&g, "blk.1.ffn_gate_up_exps.weight", 3, (uint64_t[]){ 256, 512, 16 }, packed ? PG_PACK_TYPE + 8 : 8,
             g.data.n);
        for (int64_t e = 0; e < 16; e++)
            for (int i = 0; i < 2; i++) {
                const pg_tensor w = pg_tensor_slice(i ? &up : &gate, e);
                if (packed)
                    put_packed(&g.data, &w);
                else
                    put(&g.data, w.data, (size_t)gate.stride[2]);
            }
        bytes b = gguf_bytes(&g);
        compare(MODEL, scratch_write(tmp, "fused.gguf", &b));
    }
    pg_source_close(s);
    scratch_remove(tmp, "fused.gguf");
}

static void test_models(const char *tmp)
{
    static const char *const type[] = { "Q8_0", "Q4_0", "Q4_1",  "Q5_0",   "Q5_1",   "Q2_K", "Q3_K",   "Q4_K",
                                        "Q5_K", "Q6_K", "MXFP4", "IQ4_NL", "IQ4_XS", "MIX",  "IQ2_XXS" };
    char path[1200];
    int found = 0;
    same_answers(tmp, MODEL, may_pack);
    same_answers(tmp, MODEL, none);
    same_answers(tmp, MIXED, may_pack);
    same_answers(tmp, MIXED, is_embedding);
    gguf g = packed_gguf(MIXED, no_output); /* the head multiplies by the embedding */
    bytes b = gguf_bytes(&g);
    const char *tied = strdup(scratch_write(tmp, "tied.gguf", &b));
    same_answers(tmp, tied, may_pack);
    same_answers(tmp, tied, none);
    scratch_remove(tmp, "tied.gguf");
    free((char *)tied);
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < sizeof type / sizeof *type; k++) {
            snprintf(path, sizeof path, "%s/models/%s/model-%s.gguf", golden_root(),
                     i ? "quant_deepseek_v2" : "quant_qwen3_moe", type[k]);
            if (!golden_exists(path)) continue;
            same_answers(tmp, path, may_pack);
            found++;
        }
    if (!found) printf("golden folder %s/models is absent: its cases did not run\n", golden_root());
}

/* ---- loading -------------------------------------------------------------------------------------------------------- */

/* Bytes of this process that are in memory: all of them, or those that no file holds. */
static double resident(int anonymous)
{
    double pages = 0, shared = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%*f %lf %lf", &pages, &shared) != 2) pages = 0;
    if (f) fclose(f);
    return (pages - (anonymous ? shared : 0)) * (double)sysconf(_SC_PAGESIZE);
}

/* What an open engine adds to the process beside its weights: pages of the program, tokenizer, tables. */
#define BESIDE 4e6

static void test_memory(const char *tmp)
{
    gguf g = packed_gguf(MODEL, may_pack);
    bytes b = gguf_bytes(&g);
    const char *packed = scratch_write(tmp, "packed.gguf", &b);
    double plain = 0;
    for (int round = 0; round < 3; round++) { /* mapped, read, a packed file */
        pg_info info;
        pg_error err = { 0 };
        const double before = resident(0), own = resident(1);
        pg_engine *e = open_model(round == 2 ? packed : MODEL, "auto", 2, round != 1, &err);
        CHECK(e && pg_engine_info(e, &info, &err) == PG_OK, "%s", err.text);
        if (!e) return;
        const double more = resident(0) - before, more_own = resident(1) - own;
        CHECK(strcmp(info.quantisation, round == 2 ? "q8_0 packed" : "q8_0") == 0, "%s", info.quantisation);
        if (round == 0) plain = info.memory_bytes;
        if (round == 2) /* the rest is the same engine */
            CHECK(plain - info.memory_bytes > 0.8 * info.file_bytes, "%g bytes packed, %g mapped", plain,
                  info.memory_bytes);
#if defined(__linux__) && !defined(PG_SAN)
        CHECK(more <= 1.15 * info.file_bytes + BESIDE, "round %d: %g bytes for a file of %g", round, more,
              info.file_bytes);
        CHECK(round != 2 || more_own <= BESIDE, "%g bytes of its own beside a packed file", more_own);
#else
        (void)more, (void)more_own;
#endif
        pg_close(e);
    }
    scratch_remove(tmp, "packed.gguf");
}

typedef struct progress {
    double done, total;
    int calls, stop_at;
} progress;

static int see(void *ud, double done, double total)
{
    progress *p = ud;
    CHECK(done > p->done && done <= total, "%g after %g of %g", done, p->done, total);
    *p = (progress){ done, total, p->calls + 1, p->stop_at };
    return p->calls == p->stop_at ? PG_ECANCELLED : PG_OK;
}

/* A model with its plan of loading. */
static pg_model *planned(const char *path, int use_mmap, int exact)
{
    pg_source *s;
    pg_model *m = NULL;
    pg_error err = { 0 };
    int rc = pg_source_open(path, use_mmap, &s, &err);
    if (rc >= 0) rc = pg_model_open(s, 1, 0, &m, &err);
    if (rc >= 0) rc = pg_pack_plan(m, exact, &err);
    CHECK(rc >= 0, "%s", err.text);
    return rc < 0 ? NULL : m;
}

static void test_progress(void)
{
    for (int round = 0; round < 12; round++) {
        const int use_mmap = round & 1, exact = round >> 1 & 1, stop = round / 4;
        pg_model *m = planned(MODEL, use_mmap, exact);
        progress p = { .stop_at = stop };
        pg_error err = { 0 };
        if (!m) return;
        const double all = pg_source_bytes(m->source);
        const int rc = pg_pack_run(m, 2, 0, see, &p, &err);
        CHECK(rc == (stop ? PG_ECANCELLED : PG_OK) && (stop ? p.calls == stop : p.done == p.total),
              "round %d: %d, %g of %g after %d calls: %s", round, rc, p.done, p.total, p.calls, err.text);
        CHECK(p.total > 0.9 * all && p.total < 1.1 * all, "%g bytes of %g", p.total, all);
        CHECK(exact ? pg_pack_own(m) < 0.1 * all : pg_pack_own(m) > 0.8 * all, "%g own bytes", pg_pack_own(m));
        CHECK(exact ? pg_pack_stored(m) > 0.9 * all : pg_pack_stored(m) < 0.2 * all, "%g stored", pg_pack_stored(m));
        CHECK(stop || m->layer[1].experts.up[3].packed == !exact, "packed");
        CHECK(!m->top.w[PG_T_EMBD].packed, "an embedding whose rows are read is left alone");
        pg_model_close(m);
    }
}

static int same_bytes(const pg_tensor *a, const pg_tensor *b)
{
    return a->packed && b->packed && a->stride[3] == b->stride[3] && !memcmp(a->data, b->data, (size_t)a->stride[3]);
}

/* Read past the system's cache, or through the mapping: the same panels. */
static void test_direct(void)
{
    pg_model *m = planned(MODEL, 1, 0), *d = planned(MODEL, 1, 0);
    pg_error err = { 0 };
    if (!m || !d) return;
    CHECK(pg_pack_run(m, 2, 0, NULL, NULL, &err) == PG_OK, "%s", err.text);
    CHECK(pg_pack_run(d, 2, PG_PACK_DIRECT, NULL, NULL, &err) == PG_OK, "%s", err.text);
    CHECK(same_bytes(&m->top.w[PG_T_OUT], &d->top.w[PG_T_OUT]), "head");
    for (int l = 0; l < m->h.n_layer; l++) {
        const pg_layer *a = &m->layer[l], *b = &d->layer[l];
        CHECK(same_bytes(&a->v_part, &b->v_part) && same_bytes(&a->w[PG_T_O], &b->w[PG_T_O]), "layer %d", l);
        for (int i = 0; i < 3 * a->experts.n_expert; i++)
            CHECK(same_bytes(&a->expert[i], &b->expert[i]), "layer %d, expert matrix %d", l, i);
    }
    pg_model_close(m);
    pg_model_close(d);
}

/* A locked model is there or refused in words. */
static void test_lock(void)
{
    pg_model *m = planned(MODEL, 1, 0);
    pg_error err = { 0 };
    if (!m) return;
    const int rc = pg_pack_run(m, 1, PG_PACK_LOCK, NULL, NULL, &err);
    CHECK(rc == PG_OK || (rc == PG_EMEMORY && strstr(err.text, "ulimit -l")), "%d %s", rc, err.text);
    pg_model_close(m);
}

/* ---- refused -------------------------------------------------------------------------------------------------------- */

/* MLA's up-projection in one matrix cannot be packed: its first half is multiplied by across the rows. It stays where it
 * is, and its second half is packed besides. */
static void test_kv_b(const char *tmp)
{
    for (int packed = 0; packed < 2; packed++) {
        gguf g = packed_gguf(MODEL, no_k_b);
        pg_error err = { 0 };
        pg_info i;
        add_q8(&g, "blk.1.attn_kv_b.weight", 128, 512, 1, packed);
        bytes b = gguf_bytes(&g);
        const char *path = scratch_write(tmp, "a.gguf", &b);
        const int rc = pg_describe(path, &i, &err);
        CHECK(packed ? rc == PG_EUNSUPPORTED && strstr(err.text, "blk.1.attn_kv_b.weight is packed") : rc == PG_OK,
              "%d %s", rc, err.text);
        pg_engine *e = packed ? open_model(path, "auto", 1, 1, &err) : NULL;
        CHECK(!e, "opened");
        pg_close(e);
        if (!packed) compare(path, path);
    }
    scratch_remove(tmp, "a.gguf");
}

/* Packed tensors are cut and folded where a panel begins, or not at all. */
static void test_cut(const char *tmp)
{
    gguf g = packed_gguf(MODEL, may_pack);
    bytes b = gguf_bytes(&g);
    scratch_write(tmp, "packed.gguf", &b);
    pg_model *m = planned(scratch_path(tmp, "packed.gguf"), 1, 0);
    if (m) {
        const pg_source_tensor *t = pg_source_find(m->source, "blk.1.ffn_gate_exps.weight");
        pg_tensor half, all;
        pg_error err = { 0 };
        CHECK(t && t->view.packed && (uintptr_t)t->view.data % PG_PACK_ALIGN == 0, "packed");
        CHECK(pg_model_cut(m, t, 128, &err) == PG_OK, "%s", err.text);
        CHECK(pg_model_cut(m, t, 120, &err) == PG_EUNSUPPORTED && strstr(err.text, "row 120"), "%s", err.text);
        CHECK(pg_model_view(m, t, 256, 256, 16, &all, &err) == PG_OK && all.packed, "%s", err.text);
        pg_source_tensor tall = *t; /* the same as one tall matrix */
        tall.view.shape[1] *= 16, tall.view.shape[2] = 1;
        CHECK(pg_model_view(m, &tall, 256, 128, 32, &half, &err) == PG_OK && half.packed, "%s", err.text);
        CHECK(half.stride[2] == 128 * half.stride[1] && half.shape[2] == 32, "folded where panels begin");
        CHECK(pg_model_view(m, &tall, 256, 8, 512, &half, &err) == PG_EUNSUPPORTED, "%s", err.text);
        pg_model_close(m);
    }
    scratch_remove(tmp, "packed.gguf");
}

int main(void)
{
    char *tmp = scratch_new();
    test_panels();
    test_memory(tmp);
    test_models(tmp);
    test_odd_heads(tmp);
    test_fused(tmp);
    test_progress();
    test_direct();
    test_lock();
    test_kv_b(tmp);
    test_cut(tmp);
    scratch_free(tmp);
    return check_done("pack");
}
