/* A GGUF file made again with its matrices packed, for tests: by the reader of files and pg_panel_pack, without the
 * engine's own writer. */
#ifndef PG_PACK_MAKE_H
#define PG_PACK_MAKE_H

#include "model_edit.h"

#include "../../engine/load/source.h"
#include "../../kernels/unpack/panel.h"

/* All matrices of a tensor as panels, one matrix after the other. */
static inline void put_packed(bytes *to, const pg_tensor *t)
{
    const size_t size = (size_t)pg_panel_bytes(t, PG_PANEL);
    char *panel = malloc(size);
    if (!panel) abort();
    for (int64_t i = 0; i < t->shape[2]; i++) {
        const pg_tensor w = pg_tensor_slice(t, i);
        for (int64_t k = 0; k * PG_PANEL < w.shape[1]; k++) {
            pg_panel_pack(panel, &w, k);
            put(to, panel, size);
        }
    }
    free(panel);
}

static inline void put_tensor(gguf *g, const pg_source_tensor *t, int packed)
{
    const pg_tensor *w = &t->view;
    const uint32_t id = (uint32_t)pg_dtype_get(w->dtype)->gguf;
    uint64_t dim[4];
    uint32_t n = 4;
    char name[80];
    for (int i = 0; i < 4; i++) dim[i] = (uint64_t)w->shape[i];
    while (n > 1 && dim[n - 1] == 1) n--;
    snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.data);
    info(g, name, n, dim, packed ? PG_PACK_TYPE + id : id, g->data.n);
    if (packed)
        put_packed(&g->data, w);
    else
        put(&g->data, w->data, (size_t)(w->stride[3] * w->shape[3]));
    put_zeros(&g->data, (g->align - g->data.n % g->align) % g->align);
}

static inline int is_named(const pg_source_tensor *t, const char *part)
{
    char name[80];
    snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.data);
    return strstr(name, part) != NULL;
}

/* Quantised matrices, but for the one that is also multiplied by across its rows. */
static inline int may_pack(const pg_source_tensor *t)
{
    return pg_dtype_is_quant(t->view.dtype) && !is_named(t, "attn_kv_b");
}

/* The file at path; choose says of each tensor: 1 packed, 0 as it is, -1 left out. */
static inline gguf packed_gguf(const char *path, int (*choose)(const pg_source_tensor *t))
{
    gguf g = gguf_new();
    gguf_parts *p = gguf_open(path);
    pg_source *s = NULL;
    pg_error err = { 0 };
    if (pg_source_open(path, 0, &s, &err) < 0) fprintf(stderr, "%s\n", err.text), exit(1);
    g.align = PG_PACK_ALIGN;
    for (size_t i = 0; i < p->n_key; i++) {
        const gguf_span *k = &p->key[i];
        if (!strcmp(k->name, "general.alignment") || !strcmp(k->name, PG_PACK_KEY)) continue;
        put(&g.keys, p->file.data + k->from, k->to - k->from);
        g.n_key++;
    }
    key_int(&g, "general.alignment", G_U32, PG_PACK_ALIGN);
    key_int(&g, PG_PACK_KEY, G_U32, PG_PACK_VERSION);
    for (int i = 0; i < pg_source_n_tensor(s); i++) {
        const pg_source_tensor *t = pg_source_tensor_at(s, i);
        const int packed = choose(t);
        if (packed >= 0) put_tensor(&g, t, packed);
    }
    pg_source_close(s);
    gguf_close(p);
    return g;
}

#endif
