/* mix: which format each tensor of a model gets under the name of one quantisation. */
#ifndef PG_MIX_H
#define PG_MIX_H

#include "../load/source.h"

typedef struct pg_mix {
    const char *name;   /* as users write it */
    uint32_t file_type; /* key general.file_type */
    int copy;           /* every tensor stays as it is */
    pg_dtype base;      /* matrices in general */
    pg_dtype more;      /* those that deserve more bits, in some layers */
    pg_dtype head;      /* the output matrix */
    pg_dtype experts;   /* stacks of routed experts */
} pg_mix;

/* By name, upper or lower case; NULL: there is no such mix. pg_mix_names: all of them, in one static line. */
const pg_mix *pg_mix_find(const char *name);
const char *pg_mix_names(void);

/* What the names of the tensors tell about the whole model. */
typedef struct pg_mix_model {
    int n_layer; /* one more than the highest number in "blk.N." */
    int tied;    /* no output matrix of its own: the embedding serves */
} pg_mix_model;

pg_mix_model pg_mix_look(const pg_source *s);

/* Whether a tensor is a matrix that quantisation is about: a weight of two or more dimensions, not a norm and not the
 * router (whose small errors send tokens to other experts). */
int pg_mix_is_matrix(const pg_source_tensor *t);

/* Whether it is a matrix of routed experts, stacked or (oldest Mixtral files) of one. */
int pg_mix_is_expert(const pg_source_tensor *t);

/* The format a tensor gets. */
pg_dtype pg_mix_type(const pg_mix *mix, const pg_mix_model *model, const pg_source_tensor *t);

/* Whether a quantised matrix is packed on request: those that are multiplied by rows of activations as they stand. The
 * embedding is read by rows; kv_b is taken apart when the model is opened, and so are gate and up in one stack and the
 * heads of k_b and v_b in one matrix, which panels must not be cut for. */
int pg_mix_may_pack(const pg_source_tensor *t);

#endif
