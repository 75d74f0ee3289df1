/* backend: what the files of the CUDA backend itself share. Ops see cuda.cuh only. */
#ifndef PG_CUDA_BACKEND_H
#define PG_CUDA_BACKEND_H

#include "cuda.cuh"
#include "planes.cuh"

#include <pthread.h>

enum { PG_CUDA_LEAST = 80 }; /* tensor cores for bf16, asynchronous copies */

/* ---- planes.cu ---------------------------------------------------------------------------------------------------- */

/* Blocks block0 .. block0 + blocks - 1 of a matrix, counted row by row, from where they are stored one after the other
 * (device memory) into the planes of the matrix. Launches only. */
void pg_planes_cut(cudaStream_t stream, const pg_planes *p, unsigned char *matrix, int64_t block0, int64_t blocks,
                   const void *stored);

/* An error when this library has no code for the device. */
cudaError_t pg_planes_runs_here(void);

/* ---- weights.cu --------------------------------------------------------------------------------------------------- */

/* A matrix or a stack that ops of the plan read. */
typedef struct pg_cuda_stored {
    pg_cuda_weight w;      /* what ops see of it */
    const pg_tensor *view; /* [n_view] its matrices, or (n_view 1) one tensor whose slices they are */
    int32_t n_view;
    int32_t expert;          /* only experts may stay in host memory */
    int32_t near;            /* the first so many matrices are in device memory */
    int32_t as_f32;          /* stored as something that has no planes of its own */
    int64_t near_at, far_at; /* bytes from the start of the two pieces of memory */
    int32_t base_at;         /* in `base` */
} pg_cuda_stored;

typedef struct pg_cuda_vector {
    const float *v;
    int64_t n, at; /* words; bytes from the start of `vectors` */
} pg_cuda_vector;

typedef struct pg_cuda_name {
    const pg_tensor *t;
    int32_t which;
} pg_cuda_name;

typedef struct pg_cuda_weights {
    pg_cuda_stored *stored;
    pg_cuda_name *name;     /* by address */
    pg_cuda_vector *vector; /* by address */
    int32_t n_stored, n_name, n_vector, n_matrix;
    int64_t dense_bytes, expert_bytes, vector_bytes; /* dense: vectors and tables included */
    int64_t near_bytes, far_bytes;                   /* what pg_store_place has decided */
    unsigned char *near, *far;                       /* device memory; pinned host memory that the device reads */
    char *vectors;                                   /* device, in `near` */
    const unsigned char **base;                      /* device, in `near` */
} pg_cuda_weights;

/* List what the plan reads: 0, or -1 with words in why[n]. Touches no device. */
int pg_store_list(pg_cuda_weights *s, const pg_code *code, char *why, size_t n);
/* Decide what is in device memory, of which there are `room` bytes. Returns how many bytes are missing for what must be
 * there; experts take what is left, in the order of the plan. */
int64_t pg_store_place(pg_cuda_weights *s, int64_t room);
/* Take the memory that was decided on. 0, or -1 with c->error. */
int pg_store_take(pg_cuda_weights *s, pg_cuda *c);
void pg_store_free(pg_cuda_weights *s);

/* ---- the backend -------------------------------------------------------------------------------------------------- */

/* A step of decode rows, for a bucket of rows and positions and for a way of being steered. */
typedef struct pg_cuda_graph {
    int32_t rows, longest, steer;
    cudaGraphExec_t exec; /* NULL: run once, not captured yet */
    size_t nodes;
} pg_cuda_graph;

enum { PG_CUDA_GRAPHS = 256 };

/* The kept copy of a value's rows in host memory. */
typedef struct pg_cuda_seen {
    char *host;
    int32_t fresh; /* of this step */
} pg_cuda_seen;

/* Ops that may run as one launch, in ascending order; the first stands for the run. */
enum { PG_FUSED = 16 };
typedef struct pg_fusion {
    int32_t kind, n; /* of fuse.cu's table; ops, 0: no run begins here */
    int32_t op[PG_FUSED];
} pg_fusion;

typedef struct pg_lanes pg_lanes;

typedef struct pg_cuda_backend {
    pg_cuda c; /* first: ops have a pointer to it */
    pg_lanes *lanes;
    int lends;         /* they are another one's */
    cudaStream_t copy; /* weights */
    pg_cuda_weights store;
    void *kv;
    /* the step's rows: pinned, and where they go on the device */
    char *stage, *stage_device;
    int64_t stage_bytes, page_words; /* words for pages in it */
    /* chosen experts come home with every step */
    pg_ref *pick;            /* [n_pick] values */
    int32_t n_pick;          /* of ROUTE ops */
    int64_t pick_width;      /* words a row, all of them together */
    int32_t *pick_table;     /* device: [n_pick][4], see graph.cu */
    char *picks, *pick_home; /* device, pinned */
    pg_cuda_seen *seen;      /* [n_value] */
    pthread_mutex_t lock;    /* of seen: rows are drawn on all lanes */
    pg_cuda_graph graph[PG_CUDA_GRAPHS];
    int n_graph, no_graphs;
    pg_fusion *fusion;    /* [n_op] */
    unsigned char *fused; /* [n_op] launched already, together with one before */
    const pg_ref *asked;  /* [n_asked] values that another device needs */
    int32_t n_asked;
    int launched_rows; /* rows that the step before was launched for */
    int steer;         /* what pg_cuda_steer_begin said of this step, until it is ended */
} pg_cuda_backend;

static inline pg_cuda_backend *pg_cuda_whole(const pg_cuda *c)
{
    return reinterpret_cast<pg_cuda_backend *>(const_cast<pg_cuda *>(c));
}

/* weights.cu: bring them over. 0; 1: the loader wanted no more; -1 with c->error. */
int pg_store_load(pg_cuda_backend *b, const pg_loader *l);

/* graph.cu: the step on the device. open: in prepare; 0, or -1 with c->error. bytes: what open takes on the device.
 * A step is begun (its rows go to the device; they are checked by the caller), launched, and ended (waited for, and whoever
 * steers is told; ending it twice is fine): 0, or -1 with c->error. */
int pg_step_open(pg_cuda_backend *b);
void pg_step_close(pg_cuda_backend *b);
int64_t pg_step_bytes(const pg_code *code);
int pg_step_begin(pg_cuda_backend *b, const pg_rows *rows);
int pg_step_launch(pg_cuda_backend *b);
int pg_step_end(pg_cuda_backend *b);
/* Rows of a bucket that holds n decode rows, at most `most`. */
int pg_step_bucket(int n, int most);

/* ---- fuse.cu: ops that run as one launch --------------------------------------------------------------------------- */

/* open: in prepare; 0, or -1: no memory. begin: before the ops of a step; run: op i needs no launch of its own, for it has
 * been launched with others now or before. */
int pg_fuse_open(pg_cuda_backend *b);
void pg_fuse_close(pg_cuda_backend *b);
void pg_fuse_begin(pg_cuda_backend *b);
int pg_fuse_run(pg_cuda_backend *b, int32_t i);

/* ---- backend.cu --------------------------------------------------------------------------------------------------- */

/* Words for c->error in base.fault. Returns -1. */
int pg_cuda_fault(pg_cuda_backend *b);
/* Open one device. first: NULL, or one that is open: its lanes are borrowed, and what was found out about it is believed of
 * others of its kind. */
pg_cuda_backend *pg_cuda_open(int which, int n_lane, const pg_cuda_backend *first, char *why, size_t n_why);
/* Make the backend's device the one of this host thread. */
pg_cuda_backend *pg_cuda_enter(const pg_backend *base);
/* Begin a step there: 0, or -1 with base.fault. */
int pg_cuda_begin(pg_cuda_backend *b, const pg_rows *rows, const pg_kv *kv);

/* ---- split.cu: several devices as one backend --------------------------------------------------------------------- */

pg_backend *pg_split_open(const int *which, int n, int n_lane, char *why, size_t n_why);

/* ---- cut.cu: a plan in consecutive stretches ---------------------------------------------------------------------- */

/* One stretch: ops of the plan as they stand there, over the same values at the same places. Needs no device. */
typedef struct pg_cuda_cut {
    pg_code code;
    pg_kv kv;             /* its own streams in pages of their own; base is not set */
    pg_kv_stream *stream; /* kv.stream */
    int32_t n_hook;       /* HOOK ops before it */
    pg_ref *cross;        /* [n_cross] values that the stretches after it need */
    int32_t n_cross;
} pg_cuda_cut;

/* Cut a plan into n stretches whose bytes, of weights and of n_page pages of KV cache (kv: or NULL), are as much as can be
 * in proportion to room[n]. 0, or -1 with words. Either way to be freed. */
int pg_cut_make(pg_cuda_cut *cut, int n, const int64_t *room, const pg_code *code, const pg_kv *kv, int32_t n_page,
                char *why, size_t n_why);
void pg_cut_free(pg_cuda_cut *cut, int n);

#endif
