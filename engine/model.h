/* model: source + arch -> weights in slots, checked against the shapes that the numbers demand.
 *
 * Matrices are views into the file; vectors, biases and what a checkpoint stores in an order of its own (gpt-oss) are
 * converted into memory that the model owns. pack.c then brings the matrices into memory, those packed that are
 * multiplied by as 8-bit integers. Immutable after that. */
#ifndef PG_MODEL_H
#define PG_MODEL_H

#include "arch/arch.h"

typedef struct pg_layer {
    pg_tensor w[PG_T_COUNT];    /* matrices; dtype PG_DTYPE_NONE: absent */
    const float *v[PG_T_COUNT]; /* vectors, or biases of the matrices; NULL: absent */
    int32_t n[PG_T_COUNT];      /* length of v */
    pg_tensor k_part, v_part;   /* MLA: per head {nope, kvl, H} or, turned, {kvl, nope, H}; and {kvl, head_v, H} */
    int k_turned;
    pg_router router;   /* of layers with experts */
    pg_experts experts; /* n_expert 0: a dense layer */
    pg_tensor *expert;  /* [3 * n_expert] what experts.gate, .up and .down point into, one after the other */
} pg_layer;

/* A piece of memory that lives as long as the model. */
typedef struct pg_owned {
    struct pg_owned *next;
    size_t size; /* of data */
    _Alignas(64) char data[];
} pg_owned;

/* What has become of a tensor of the source. */
enum {
    PG_UNUSED = 0,   /* nobody asked for it: reported, not refused */
    PG_USED = 1,     /* views may point at it */
    PG_CONVERTED = 2 /* its numbers are elsewhere now */
};

typedef struct pg_model {
    pg_source *source;
    const pg_arch *arch;
    int weights; /* 0: opened for its numbers; large conversions are left out */
    pg_hparams h;
    pg_layer top;    /* slots outside layers */
    pg_layer *layer; /* [n_layer] */
    float *freqs[2]; /* inverse frequencies: [0] everywhere, [1] layers with a window where they differ, or NULL */
    int32_t n_moe_layer;
    unsigned char *used; /* [tensors of the source] PG_UNUSED .. */
    double owned_bytes;  /* converted weights */
    double room;         /* bytes that they may take, 0: any number */
    pg_owned *owned;
    struct pg_pack *pack; /* pack.h */
} pg_model;

/* Take over a source (closed with the model, also on failure). weights 0: only to look at (pg_describe). Conversion that
 * would take more than `room` bytes (0: no limit) fails with PG_EMEMORY before it takes them. */
int pg_model_open(pg_source *source, int weights, double room, pg_model **out, pg_error *err);
void pg_model_close(pg_model *m);

/* A tensor's numbers have been converted: its pages are given back. */
void pg_model_converted(pg_model *m, const pg_source_tensor *t);

/* Memory that lives as long as the model; NULL and *err filled when there is none. */
void *pg_model_alloc(pg_model *m, size_t bytes, pg_error *err);

/* experts.c: the routed experts of layer l in whatever way the source stores them; sets layer->experts.
 * PG_OK also when the layer has none. */
int pg_model_experts(pg_model *m, int l, pg_error *err);

/* Find a layer's tensor by name without prefix and suffix ("attn_q"), l < 0: a top tensor. suffix: "weight", "bias" or
 * "" for none. NULL: absent. */
const pg_source_tensor *pg_model_find(const pg_model *m, int l, const char *name, const char *suffix);

/* PG_EFORMAT: a tensor, named likewise, is not there. */
int pg_model_missing(const pg_model *m, int l, const char *name, const char *suffix, pg_error *err);

/* Check that a tensor is n0 x n1 x n2 (trailing ones may be folded) of a weight format, and view it so. FP8 gets its
 * factors. A packed one can be folded only where a panel begins. */
int pg_model_view(pg_model *m, const pg_source_tensor *t, int64_t n0, int64_t n1, int64_t n2, pg_tensor *out,
                  pg_error *err);

/* PG_EUNSUPPORTED when views of a tensor would have to begin inside a panel: it is packed, row no multiple of 16. */
int pg_model_cut(const pg_model *m, const pg_source_tensor *t, int64_t row, pg_error *err);

/* A tensor of n elements as f32 in owned memory (n 0: any length up to 2^20, told in *n_out). */
int pg_model_vector(pg_model *m, const pg_source_tensor *t, int64_t n, const float **out, int32_t *n_out,
                    pg_error *err);

/* describe.c: what the model is, in the words of perigee.h; and its tokenizer's part (NULL is fine). */
void pg_model_info(const pg_model *m, pg_info *info);
void pg_model_kv_info(const pg_model *m, pg_dtype dtype, pg_info *info); /* its fields of the KV cache alone */
void pg_info_tokenizer(pg_info *info, pg_tokenizer *t);

/* PG_EFORMAT when the tokenizer (NULL is fine) has tokens that the embedding has no row for. */
int pg_model_covers(const pg_model *m, pg_tokenizer *t, pg_error *err);

#endif
