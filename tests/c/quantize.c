/* Quantising files: which tensor gets which format, keys, packing, the imatrix, refusals that name what is wrong, and
 * that nothing is left behind. Small files made here; the shipped model against its source where the models are. */
#include "../../kernels/unpack/panel.h"
#include "quantize_make.h"

#include <math.h>

/* ---- which format ---- */

static void check_types(void)
{
    /* layers 0 and 7 are the first and last eighth; of those between, 3 and 6 get more */
    static const struct {
        const char *mix;
        int file_type;
        const char *embedding, *head, *q, *v0, *v1, *v3, *down1, *shared6, *experts, *k_b;
    } cases[] = {
        { "f16", 1, "f16", "f16", "f16", "f16", "f16", "f16", "f16", "f16", "f16", "f16" },
        { "BF16", 32, "bf16", "bf16", "bf16", "bf16", "bf16", "bf16", "bf16", "bf16", "bf16", "bf16" },
        { "q8_0", 7, "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0" },
        { "q4_0", 2, "q4_0", "q6_k", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0", "q4_0" },
        { "q5_0", 8, "q5_0", "q6_k", "q5_0", "q5_0", "q5_0", "q5_0", "q5_0", "q5_0", "q5_0", "q5_0" },
        { "q5_1", 9, "q5_1", "q6_k", "q5_1", "q5_1", "q5_1", "q5_1", "q5_1", "q5_1", "q5_1", "q5_1" },
        { "Q4_K_M", 15, "q4_k", "q6_k", "q4_k", "q6_k", "q4_k", "q6_k", "q5_0", "q6_k", "q4_k", "q5_0" },
        { "q5_k_m", 17, "q5_k", "q6_k", "q5_k", "q6_k", "q5_k", "q6_k", "q5_1", "q6_k", "q5_k", "q5_1" },
        { "q4_k", 14, "q4_k", "q6_k", "q4_k", "q4_k", "q4_k", "q4_k", "q5_0", "q4_k", "q4_k", "q5_0" },
        { "q5_k", 16, "q5_k", "q6_k", "q5_k", "q5_k", "q5_k", "q5_k", "q5_1", "q5_k", "q5_k", "q5_1" },
        { "q6_k", 18, "q6_k", "q6_k", "q6_k", "q6_k", "q6_k", "q6_k", "q8_0", "q6_k", "q6_k", "q8_0" },
        { "mxfp4", 38, "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "q8_0", "mxfp4", "q8_0", "mxfp4", "q8_0" },
    };
    gguf g = model();
    write_model("in.gguf", &g);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const result r = quantize("in.gguf", "out.gguf", type(cases[i].mix));
        CHECK(r.rc == PG_OK, "%s: %s", cases[i].mix, r.err.text);
        pg_source *s = opened("out.gguf");
        if (!s) continue;
#define SAME(name, expected) \
    CHECK(!strcmp(type_of(s, name), expected), "%s: %s is %s", cases[i].mix, name, type_of(s, name))
        SAME("token_embd.weight", cases[i].embedding);
        SAME("output.weight", cases[i].head);
        SAME("blk.1.attn_q.weight", cases[i].q);
        SAME("blk.0.attn_v.weight", cases[i].v0);
        SAME("blk.1.attn_v.weight", cases[i].v1);
        SAME("blk.3.attn_v.weight", cases[i].v3);
        SAME("blk.1.ffn_down_exps.weight", cases[i].down1);
        SAME("blk.6.ffn_down_shexp.weight", cases[i].shared6);
        SAME("blk.7.ffn_gate_exps.weight", cases[i].experts);
        SAME("blk.5.attn_k_b.weight", cases[i].k_b);
        SAME("blk.2.odd.weight", strstr("f16 BF16", cases[i].mix) ? cases[i].q : "f16");
        SAME("blk.2.attn_norm.weight", "f32");
        SAME("blk.2.attn_q.bias", "f32");
        SAME("blk.2.ffn_gate_exps.bias", "f32");
        SAME("blk.2.ffn_gate_inp.weight", "f32");
        SAME("table", "i32");
        CHECK(int_key(s, "general.file_type") == cases[i].file_type, "%s: file type", cases[i].mix);
        CHECK(int_key(s, "general.quantization_version") == 2, "%s: version", cases[i].mix);
        CHECK(pg_source_key(s, "tokenizer.chat_template") == PG_KEY_STRING, "%s: a key is lost", cases[i].mix);
        CHECK(pg_source_key(s, PG_PACK_KEY) == PG_KEY_NONE, "%s: packed", cases[i].mix);
        CHECK(r.report.n_tensor == pg_source_n_tensor(s) && r.report.n_packed == 0, "%s: report", cases[i].mix);
        CHECK(fabs(r.report.bytes_out - pg_source_bytes(s)) < 1, "%s: bytes", cases[i].mix);
        pg_source_close(s);
    }
    scratch_remove(folder, "out.gguf");
}

/* Order and names stay; without an output matrix the embedding is the head. */
static void check_order_and_tied(void)
{
    gguf g = gguf_new();
    key_text(&g, "general.architecture", "test");
    tensor(&g, "blk.0.attn_q.weight", 256, 4, 1, 30);
    tensor(&g, "token_embd.weight", 256, 8, 1, 30);
    write_model("tied.gguf", &g);
    const result r = quantize("tied.gguf", "out.gguf", type("q4_k"));
    CHECK(r.rc == PG_OK && !strcmp(r.report.types, "q4_k 1, q6_k 1"), "%s %s", r.err.text, r.report.types);
    pg_source *s = opened("out.gguf");
    CHECK(!strcmp(type_of(s, "token_embd.weight"), "q6_k"), "tied: %s", type_of(s, "token_embd.weight"));
    CHECK(s && pg_source_tensor_at(s, 0)->name.n == 19, "order");
    pg_source_close(s);
    scratch_remove(folder, "out.gguf");
    const result dense = quantize("tied.gguf", "out.gguf", type("mxfp4"));
    CHECK(dense.rc == PG_EINVAL && strstr(dense.err.text, "no routed experts"), "%s", dense.err.text);
    scratch_remove(folder, "tied.gguf");
    g = gguf_new(); /* experts one by one, and a dense layer beside them */
    key_text(&g, "general.architecture", "test");
    tensor(&g, "blk.0.ffn_down.weight", 256, 4, 1, 30);
    tensor(&g, "blk.1.ffn_down.13.weight", 256, 4, 1, 30);
    write_model("alone.gguf", &g);
    CHECK(!strcmp(quantize("alone.gguf", "out.gguf", type("mxfp4")).report.types, "q8_0 1, mxfp4 1"), "experts alone");
    scratch_remove(folder, "alone.gguf");
    scratch_remove(folder, "out.gguf");
}

/* ---- packing ---- */

static int same_matrix(const pg_tensor *packed, const pg_tensor *stored)
{
    const int size = pg_dtype_get(stored->dtype)->bytes;
    uint8_t block[256];
    if (packed->dtype != stored->dtype || packed->shape[0] != stored->shape[0] ||
        packed->shape[1] != stored->shape[1] || packed->shape[2] != stored->shape[2])
        return 0;
    for (int64_t m = 0; m < stored->shape[2]; m++) {
        const pg_tensor a = pg_tensor_slice(packed, m), b = pg_tensor_slice(stored, m);
        for (int64_t r = 0; r < stored->shape[1]; r++)
            for (int64_t k = 0; k < stored->stride[1] / size; k++) {
                pg_panel_block(block, &a, r, k);
                if (memcmp(block, (const char *)pg_tensor_row(&b, r) + k * size, (size_t)size) != 0) return 0;
            }
    }
    return 1;
}

static void check_packed(const char *file, const pg_source *stored)
{
    pg_source *s = opened(file);
    int n_packed = 0, same = 1;
    for (int i = 0; s && i < pg_source_n_tensor(s); i++) {
        const pg_source_tensor *a = pg_source_tensor_at(s, i), *b = pg_source_tensor_at(stored, i);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)a->name.n, a->name.data);
        n_packed += a->view.packed;
        same &= a->view.packed ? same_matrix(&a->view, &b->view)
                               : !memcmp(a->view.data, b->view.data, (size_t)b->view.stride[3]);
        if (strstr(name, "token_embd") || strstr(name, "norm") || strstr(name, "gate_inp") || strstr(name, "kv_b") ||
            strstr(name, "odd") || strstr(name, "gate_up") || strstr(name, "bias"))
            CHECK(!a->view.packed, "%s is packed", name);
        else
            CHECK(a->view.packed || !strcmp(name, "table"), "%s is not packed", name);
    }
    CHECK(same, "%s holds other weights than the file that is not packed", file);
    CHECK(n_packed == 1 + 8 * 6, "%d packed", n_packed);
    CHECK(s && int_key(s, PG_PACK_KEY) == 1 && int_key(s, "general.alignment") == 64, "keys of packing");
    pg_source_close(s);
}

static void check_packing(void)
{
    pg_quantize_options o = type("q4_k_m");
    result r = quantize("in.gguf", "stored.gguf", o);
    CHECK(r.rc == PG_OK, "%s", r.err.text);
    o.pack = 1;
    r = quantize("in.gguf", "packed.gguf", o);
    CHECK(r.rc == PG_OK && r.report.n_packed == 49, "%s", r.err.text);
    pg_source *stored = opened("stored.gguf");
    if (stored) check_packed("packed.gguf", stored);
    o.type = "copy";
    r = quantize("stored.gguf", "again.gguf", o);
    CHECK(r.rc == PG_OK && r.report.n_packed == 49, "%s", r.err.text);
    if (stored) check_packed("again.gguf", stored);
    pg_source *again = opened("again.gguf");
    CHECK(again && int_key(again, "general.file_type") == 15, "a copy keeps the file's type");
    pg_source_close(again);
    pg_source_close(stored);

    r = quantize("packed.gguf", "bad.gguf", o);
    CHECK(r.rc == PG_EUNSUPPORTED && strstr(r.err.text, "packed already"), "%s", r.err.text);
    o.type = "bf16";
    r = quantize("in.gguf", "bad.gguf", o);
    CHECK(r.rc == PG_EINVAL && strstr(r.err.text, "can be packed"), "%s", r.err.text);
    scratch_remove(folder, "packed.gguf");
    scratch_remove(folder, "again.gguf");
}

/* ---- imatrix ---- */

/* Importance for one matrix: every eighth column counts, or (n_sum) another shape, or (bad) a bad value. */
static void write_imatrix(const char *kind, const char *tensor_name, uint64_t n_sum, float bad)
{
    gguf g = gguf_new();
    char name[96];
    key_text(&g, "general.type", kind);
    key_array(&g, "imatrix.datasets", G_STRING, 1);
    put_text(&g.keys, "some text");
    key_int(&g, "imatrix.chunk_count", G_U32, 7);
    key_int(&g, "imatrix.chunk_size", G_U32, 512);
    snprintf(name, sizeof name, "%s.in_sum2", tensor_name);
    info(&g, name, 1, (uint64_t[]){ n_sum }, 0, g.data.n);
    for (uint64_t i = 0; i < n_sum; i++) {
        const float v = i == 5 ? bad : i % 8 == 0 ? 1000 : 1;
        put(&g.data, &v, 4);
    }
    pad(&g);
    snprintf(name, sizeof name, "%s.counts", tensor_name);
    info(&g, name, 1, (uint64_t[]){ 1 }, 0, g.data.n);
    put(&g.data, &(float){ 4 }, 4);
    pad(&g);
    write_model("imatrix.gguf", &g);
}

/* Squared error of every eighth of the first 32 columns of a Q4_K matrix, whose rows are one block. */
static double lost_in_eighth(const char *file)
{
    pg_source *s = opened(file), *in = opened("in.gguf");
    const pg_source_tensor *q = s ? pg_source_find(s, "blk.1.attn_q.weight") : NULL;
    const pg_source_tensor *x = in ? pg_source_find(in, "blk.1.attn_q.weight") : NULL;
    double sum = 0;
    for (int64_t r = 0; q && x && r < 20; r++) {
        const uint8_t *b = pg_tensor_row(&q->view, r), *from = pg_tensor_row(&x->view, r);
        const float d = pg_f16_to_f32((uint16_t)(b[0] | b[1] << 8)), m = pg_f16_to_f32((uint16_t)(b[2] | b[3] << 8));
        for (int i = 0; i < 32; i += 8) {
            const float v = pg_bf16_to_f32((uint16_t)(from[2 * i] | from[2 * i + 1] << 8));
            const float e = d * (float)(b[4] & 63) * (float)(b[16 + i] & 15) - m * (float)(b[8] & 63) - v;
            sum += (double)e * (double)e;
        }
    }
    pg_source_close(s);
    pg_source_close(in);
    return sum;
}

static void check_imatrix(void)
{
    static const struct {
        const char *kind, *tensor;
        uint64_t n;
        float bad;
        int rc;
        const char *words;
    } cases[] = {
        { "model", "blk.1.attn_q.weight", 256, 1, PG_EFORMAT, "general.type" },
        { "imatrix", "blk.1.attn_q.weight", 256, NAN, PG_EFORMAT, "blk.1.attn_q.weight.in_sum2" },
        { "imatrix", "blk.1.attn_q.weight", 256, -1, PG_EFORMAT, "blk.1.attn_q.weight.in_sum2" },
        { "imatrix", "blk.1.attn_q.weight", 255, 1, PG_EFORMAT, "another model" },
        { "imatrix", "blk.1.attn_q.weight", 512, 1, PG_EFORMAT, "another model" },
        { "imatrix", "blk.9.attn_q.weight", 256, 1, PG_EINVAL, "knows none" },
    };
    char path[1024];
    pg_quantize_options o = type("q4_k_m");
    snprintf(path, sizeof path, "%s", scratch_path(folder, "imatrix.gguf"));
    o.imatrix = path;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_imatrix(cases[i].kind, cases[i].tensor, cases[i].n, cases[i].bad);
        const result r = quantize("in.gguf", "bad.gguf", o);
        CHECK(r.rc == cases[i].rc && strstr(r.err.text, cases[i].words), "case %zu: %d %s", i, r.rc, r.err.text);
    }
    write_imatrix("imatrix", "blk.1.attn_q.weight", 256, 1);
    const result r = quantize("in.gguf", "weighted.gguf", o);
    CHECK(r.rc == PG_OK && r.report.n_weighted == 1, "%s", r.err.text);
    const double without = lost_in_eighth("stored.gguf"), with = lost_in_eighth("weighted.gguf");
    CHECK(without > 0 && with < 0.9 * without, "these columns lose %.3e with an imatrix, %.3e without", with, without);
    pg_source *s = opened("weighted.gguf");
    CHECK(s && pg_source_key(s, "quantize.imatrix.file") == PG_KEY_STRING, "no trace of the imatrix");
    CHECK(s && int_key(s, "quantize.imatrix.chunks_count") == 7, "chunks");
    pg_source_close(s);
    /* a stack of heads has its sums in one row */
    write_imatrix("imatrix", "blk.1.attn_k_b.weight", 64, 1);
    CHECK(quantize("in.gguf", "weighted.gguf", o).report.n_weighted == 1, "heads");
    scratch_remove(folder, "imatrix.gguf");
    scratch_remove(folder, "weighted.gguf");
}

/* ---- refusals ---- */

static void check_weights(float value, const char *mix, int rc, const char *words)
{
    gguf g = gguf_new();
    key_text(&g, "general.architecture", "test");
    tensor(&g, "blk.0.attn_q.weight", 256, 4, 1, 0);
    tensor(&g, "blk.0.attn_k.weight", 256, 4, 1, 0);
    memcpy(g.data.data + 4096 + 4 * 777, &value, 4);
    write_model("weights.gguf", &g);
    scratch_text(folder, "bad.gguf", "before");
    const result r = quantize("weights.gguf", "bad.gguf", type(mix));
    CHECK(r.rc == rc && strstr(r.err.text, words) && strstr(r.err.text, "blk.0.attn_k.weight"), "%s of %g: %d %s", mix,
          (double)value, r.rc, r.err.text);
    char back[16] = "";
    FILE *f = fopen(scratch_path(folder, "bad.gguf"), "rb");
    CHECK(f && fread(back, 1, sizeof back, f) == 6 && !memcmp(back, "before", 6), "the old file is gone");
    if (f) fclose(f);
    scratch_remove(folder, "weights.gguf");
    scratch_remove(folder, "bad.gguf");
}

static void check_refusals(void)
{
    pg_error err = { 0 };
    pg_quantizing *q = NULL;
    const int before = count_files();
    check_weights(NAN, "q4_k_m", PG_EFORMAT, "NaN");
    check_weights(-INFINITY, "q8_0", PG_EFORMAT, "infinite");
    check_weights(1e6f, "f16", PG_EUNSUPPORTED, "too large");
    check_weights(1e12f, "q4_0", PG_EUNSUPPORTED, "too large");

    result r = quantize("stored.gguf", "bad.gguf", type("q8_0"));
    CHECK(r.rc == PG_EINVAL && strstr(r.err.text, "requantize") && strstr(r.err.text, "token_embd"), "%s", r.err.text);
    pg_quantize_options o = type("q8_0");
    o.requantize = 1;
    r = quantize("stored.gguf", "again.gguf", o);
    CHECK(r.rc == PG_OK, "%s", r.err.text);
    scratch_remove(folder, "again.gguf");
    r = quantize("stored.gguf", "again.gguf", type("q4_k_m")); /* every matrix has its format already */
    CHECK(r.rc == PG_OK, "%s", r.err.text);
    scratch_remove(folder, "again.gguf");

    CHECK(quantize("in.gguf", "in.gguf", type("q8_0")).rc == PG_EINVAL, "onto itself");
    CHECK(quantize("none.gguf", "bad.gguf", type("q8_0")).rc == PG_ENOTFOUND, "no input");
    CHECK(quantize("in.gguf", "no/folder.gguf", type("q8_0")).rc == PG_ENOTFOUND, "no folder");
    r = quantize("in.gguf", "bad.gguf", type("q9"));
    CHECK(r.rc == PG_EINVAL && strstr(r.err.text, "q4_k_m"), "%s", r.err.text);
    r = quantize("in.gguf", "bad.gguf", type("copy"));
    CHECK(r.rc == PG_EINVAL && strstr(r.err.text, "pack"), "%s", r.err.text);
    o = type("q8_0");
    o.threads = -1;
    CHECK(quantize("in.gguf", "bad.gguf", o).rc == PG_EINVAL, "threads");
    CHECK(pg_quantize_begin(NULL, "x", NULL, &q, &err) == PG_EINVAL && !q, "%s", err.text);
    CHECK(pg_quantize_poll(NULL, 0, NULL, NULL, &err) == PG_EINVAL, "%s", err.text);
    CHECK(pg_quantize_finish(NULL, NULL, &err) == PG_EINVAL, "%s", err.text);
    pg_quantize_cancel(NULL);

    gguf g = gguf_new();
    key_text(&g, "general.architecture", "test");
    g.bare = 1;
    write_model("vocabulary.gguf", &g);
    r = quantize("vocabulary.gguf", "bad.gguf", type("q8_0"));
    CHECK(r.rc == PG_EFORMAT && strstr(r.err.text, "vocabulary"), "%s", r.err.text);
    scratch_remove(folder, "vocabulary.gguf");
    g = gguf_model();
    key_text(&g, "general.type", "adapter");
    write_model("adapter.gguf", &g);
    r = quantize("adapter.gguf", "bad.gguf", type("q8_0"));
    CHECK(r.rc == PG_EUNSUPPORTED && strstr(r.err.text, "adapter"), "%s", r.err.text);
    scratch_remove(folder, "adapter.gguf");
    CHECK(count_files() == before, "%d files, %d before", count_files(), before);
}

/* ---- progress and cancelling ---- */

static void check_progress(void)
{
    const int before = count_files();
    pg_error err = { 0 };
    pg_quantizing *q = NULL;
    double done = 0, total = 0, last = 0;
    char from[1024], to[1024];
    int rc, forward = 1;
    gguf g = gguf_new();
    key_text(&g, "general.architecture", "test");
    tensor(&g, "blk.0.attn_q.weight", 4096, 1024, 1, 0);
    write_model("large.gguf", &g);
    snprintf(from, sizeof from, "%s", scratch_path(folder, "large.gguf"));
    snprintf(to, sizeof to, "%s", scratch_path(folder, "out.gguf"));
    pg_quantize_options o = type("q8_0");
    CHECK(pg_quantize_begin(from, to, &o, &q, &err) == PG_OK, "%s", err.text);
    while ((rc = pg_quantize_poll(q, -1, &done, &total, &err)) == 0) {
        forward &= done >= last;
        last = done;
    }
    CHECK(rc == 1 && forward && fabs(done - total) < 1 && total > 16e6, "%d %s", rc, err.text);
    CHECK(pg_quantize_finish(q, NULL, &err) == PG_OK, "%s", err.text);
    scratch_remove(folder, "out.gguf");

    o.type = "q4_k"; /* takes a good part of a second, unless this thread is kept from running for as long */
    int in_time = 0;
    for (int turn = 0; turn < 5 && !in_time; turn++) {
        CHECK(pg_quantize_begin(from, to, &o, &q, &err) == PG_OK, "%s", err.text);
        while (pg_quantize_poll(q, 1000, &done, &total, &err) == 0 && done <= 0) {}
        pg_quantize_cancel(q);
        in_time = access(to, F_OK) != 0;
        scratch_remove(folder, "out.gguf");
        CHECK(count_files() == before + 1, "%d files, %d before", count_files(), before + 1);
    }
    CHECK(in_time, "never cancelled before its end");
    scratch_remove(folder, "large.gguf");
    CHECK(count_files() == before, "%d files, %d before", count_files(), before);
}

/* ---- the shipped model ---- */

static void check_shipped(void)
{
    const char *golden = getenv("PERIGEE_GOLDEN");
    char source[1024];
    static const char shipped[] = "examples/models/perigee-voices.q8_0.gguf";
    pg_error err = { 0 };
    pg_source *a = NULL;
    snprintf(source, sizeof source, "%s/../models/perigee-voices.bf16.gguf",
             golden && *golden ? golden : "../shared/golden");
    if (access(source, R_OK) != 0 || access(shipped, R_OK) != 0) {
        printf("%s is absent: quantising it did not run\n", source);
        return;
    }
    CHECK(pg_source_open(shipped, 1, &a, &err) == PG_OK, "%s", err.text);
    const result r = quantize(source, "out.gguf", type("q8_0"));
    CHECK(r.rc == PG_OK, "%s", r.err.text);
    pg_source *b = opened("out.gguf");
    int same = a && b && pg_source_n_tensor(a) == pg_source_n_tensor(b);
    for (int i = 0; same && i < pg_source_n_tensor(a); i++) {
        const pg_source_tensor *x = pg_source_tensor_at(a, i), *y = pg_source_tensor_at(b, i);
        same = x->name.n == y->name.n && !memcmp(x->name.data, y->name.data, x->name.n) &&
               x->view.dtype == y->view.dtype && !memcmp(x->view.data, y->view.data, (size_t)x->view.stride[3]);
    }
    CHECK(same, "other tensors than in %s, which gguf-py made", shipped);
    pg_source_close(a);
    pg_source_close(b);
    scratch_remove(folder, "out.gguf");
}

int main(void)
{
    folder = scratch_new();
    check_types();
    check_order_and_tied();
    check_packing();
    check_imatrix();
    check_refusals();
    check_progress();
    check_shipped();
    scratch_remove(folder, "in.gguf");
    scratch_remove(folder, "stored.gguf");
    scratch_free(folder);
    return check_done("quantize");
}
