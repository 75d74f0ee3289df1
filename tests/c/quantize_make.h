/* What the tests of quantising share: a small model with a tensor of every kind, and running the public functions in a
 * folder of the test's own. */
#ifndef PG_QUANTIZE_MAKE_H
#define PG_QUANTIZE_MAKE_H

#include "../../engine/load/source.h"
#include "check.h"
#include "gguf_write.h"

#include <dirent.h>

static char *folder;

static inline int count_files(void)
{
    DIR *d = opendir(folder);
    int n = 0;
    for (const struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

/* ---- making files ---- */

static inline void pad(gguf *g)
{
    while (g->data.n % g->align) put_int(&g->data, 0, 1);
}

/* A tensor of pseudo-random weights; bf16 when type is 30, else f32. */
static inline void tensor(gguf *g, const char *name, uint64_t a, uint64_t b, uint64_t c, uint32_t type)
{
    unsigned long long s = 1;
    for (const char *p = name; *p; p++) s = 31 * s + (unsigned char)*p;
    info(g, name, c > 1 ? 3 : b > 1 ? 2 : 1, (uint64_t[]){ a, b, c }, type, g->data.n);
    for (uint64_t i = 0; i < a * b * c; i++) {
        const float v = 0.1f * (check_uniform(&s) + check_uniform(&s));
        const uint16_t h = pg_f32_to_bf16(v);
        put(&g->data, type == 30 ? (const void *)&h : (const void *)&v, type == 30 ? 2 : 4);
    }
    pad(g);
}

/* A model of eight layers that has a tensor of every kind. */
static inline gguf model(void)
{
    gguf g = gguf_new();
    char name[64];
    key_text(&g, "general.architecture", "test");
    key_int(&g, "general.file_type", G_U32, 32);
    key_text(&g, "tokenizer.chat_template", "{{ x }}");
    tensor(&g, "token_embd.weight", 256, 40, 1, 30);
    tensor(&g, "output_norm.weight", 256, 1, 1, 0);
    tensor(&g, "output.weight", 256, 40, 1, 30);
    for (int l = 0; l < 8; l++) {
        static const struct {
            const char *name;
            uint64_t a, b, c;
        } parts[] = { { "attn_norm.weight", 256, 1, 1 },
                      { "attn_q.weight", 256, 20, 1 },
                      { "attn_q.bias", 20, 1, 1 },
                      { "attn_v.weight", 256, 17, 1 },
                      { "attn_kv_b.weight", 256, 32, 1 },
                      { "attn_k_b.weight", 32, 4, 2 },
                      { "ffn_gate_inp.weight", 256, 3, 1 },
                      { "ffn_gate_exps.weight", 256, 18, 3 },
                      { "ffn_down_exps.weight", 96, 24, 3 },
                      { "ffn_gate_up_exps.weight", 256, 20, 2 },
                      { "ffn_down_shexp.weight", 256, 20, 1 },
                      { "odd.weight", 40, 6, 1 },
                      { "ffn_gate_exps.bias", 18, 3, 1 } };
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            snprintf(name, sizeof name, "blk.%d.%s", l, parts[i].name);
            tensor(&g, name, parts[i].a, parts[i].b, parts[i].c, i % 2 ? 30 : 0);
        }
    }
    info(&g, "table", 1, (uint64_t[]){ 3 }, 26, g.data.n);
    for (int i = 0; i < 3; i++) put_u32(&g.data, (uint32_t)i);
    pad(&g);
    return g;
}

static inline void write_model(const char *name, gguf *g)
{
    bytes b = gguf_bytes(g);
    scratch_write(folder, name, &b);
}

/* ---- running ---- */

typedef struct result {
    int rc;
    pg_error err;
    pg_quantize_report report;
} result;

static inline result quantize(const char *in, const char *out, pg_quantize_options o)
{
    result r = { 0 };
    pg_quantizing *q = NULL;
    char from[1024], to[1024];
    snprintf(from, sizeof from, "%s", in[0] == '/' || in[0] == '.' ? in : scratch_path(folder, in));
    snprintf(to, sizeof to, "%s", scratch_path(folder, out));
    r.rc = pg_quantize_begin(from, to, &o, &q, &r.err);
    if (r.rc == PG_OK) r.rc = pg_quantize_finish(q, &r.report, &r.err);
    return r;
}

static inline pg_quantize_options type(const char *name)
{
    pg_quantize_options o;
    pg_quantize_options_init(&o);
    o.type = name;
    o.threads = 2;
    return o;
}

static inline pg_source *opened(const char *name)
{
    pg_error err = { 0 };
    pg_source *s = NULL;
    CHECK(pg_source_open(scratch_path(folder, name), 1, &s, &err) == PG_OK, "%s", err.text);
    return s;
}

static inline const char *type_of(const pg_source *s, const char *name)
{
    const pg_source_tensor *t = s ? pg_source_find(s, name) : NULL;
    return t ? pg_dtype_get(t->view.dtype)->name : "absent";
}

static inline int64_t int_key(const pg_source *s, const char *name)
{
    int64_t v = -1;
    (void)pg_source_int(s, name, 0, UINT32_MAX, &v, NULL);
    return v;
}

#endif
