/* backend: runs a checked plan over the rows of a step. The engine never asks which device it is.
 *
 * "cpu" is built in; a further one is in a library of its own, which exports a pg_plugin and is loaded when it is asked
 * for. */
#ifndef PG_BACKEND_H
#define PG_BACKEND_H

#include "lanes.h"
#include "op.h"

typedef struct pg_backend pg_backend;

enum { PG_BEST = 256 }; /* candidates of a row at most */

/* The best numbers of a row: most draws need no others, and reading a whole row from a device takes long. */
typedef struct pg_best {
    int32_t n;   /* how many, the largest first, ties by the lower id, all above -inf; -1: there is no such list */
    int32_t all; /* 1: no other number of the row is above -inf */
    const float *value; /* [n] good until the next run */
    const int32_t *id;  /* [n] */
    double sum;         /* over the whole row, of exp(x - value[0]) in f32, the sum in f64 */
} pg_best;

/* Whoever watches load: told before each piece of the host's memory is read, so that it can be brought in. want returns
 * < 0 to stop. */
typedef struct pg_loader {
    int (*want)(void *ud, const void *at, int64_t bytes, double done, double total);
    void *ud;
} pg_loader;

typedef struct pg_backend_ops {
    const char *name;
    /* Make room for running `code`: arena, scratch, weights if they are copied. Called once, before run. 0, or -1: no
     * memory, and b->fault says more unless it is empty. */
    int (*prepare)(pg_backend *b, const pg_code *code);
    /* Bytes that prepare would take for this code, beside weights. */
    int64_t (*memory)(const pg_backend *b, const pg_code *code);
    /* Run every op over the rows; allocates nothing. 0, or -1: the device has failed, b->fault says how, and so will every
     * further step. The CPU cannot fail. */
    int (*run)(pg_backend *b, const pg_rows *rows, const pg_kv *kv);
    /* The rows of a value after run: f32 or i32 words in host memory, good until the next run. */
    const void *(*read)(pg_backend *b, pg_ref value);
    /* Run fn for n_item items on the threads of the machine, between two runs: lanes count from 0 to fewer than the
     * threads that the backend was opened with. Returns when all are done; allocates nothing. */
    void (*spread)(pg_backend *b, pg_lane_fn *fn, void *arg, int n_item);
    void (*close)(pg_backend *b);
    /* May be NULL, as where rows are in the host's memory anyway. After run, any thread: the best of a row of the value
     * b->drawn. */
    void (*best)(pg_backend *b, int32_t row, pg_best *out);
    /* May be NULL: then read. After run, run's own thread: n rows of a value, into host memory that is good until the
     * next run. */
    void (*fetch)(pg_backend *b, pg_ref value, const int32_t *row, int32_t n, const void **out);
    /* Of a device that has memory of its own; all NULL: it computes in the host's. */
    int64_t (*room)(const pg_backend *b); /* bytes of it that are free */
    /* Bytes that are missing for this code with all of its weights and n_page pages of KV cache (kv: how they are laid out)
     * in that memory; 0: none. */
    int64_t (*lacks)(const pg_backend *b, const pg_code *code, const pg_kv *kv, int32_t n_page);
    /* Memory for the KV cache, what kv->base is to be, before prepare; given back by close. NULL: none, b->fault says
     * more. */
    void *(*take)(pg_backend *b, const pg_code *code, const pg_kv *kv, int32_t n_page);
    /* Copy the weights, after prepare. 0, 1: the loader wanted no more; -1: b->fault. */
    int (*load)(pg_backend *b, const pg_loader *l);
} pg_backend_ops;

/* Somebody who wants to see the activations that weights meet. row is called for every row x[k] of a MATMUL or EXPERTS
 * op, on run's own thread, for each op in the order of the rows: matrix is the one of a stack (a head's, an expert's), part
 * says which of an expert's. Not shown: rows of a transposed matrix, which meet its columns, and what only exists
 * rounded to 8 bits (an expert's hidden values unless the plan is exact). */
enum { PG_WATCH_IN = 0, PG_WATCH_HIDDEN = 1 }; /* what a matrix, or gate and up, meet; what down meets */
typedef struct pg_watch {
    void (*row)(void *ud, const pg_op *op, int part, int32_t matrix, const float *x, int64_t k);
    void *ud;
} pg_watch;

/* What was wrong with how a row was steered. */
enum {
    PG_STEER_FINE,
    PG_STEER_SCORES,
    PG_STEER_CHOOSE,
    PG_STEER_TOP,
    PG_STEER_CUMULATIVE,
    PG_STEER_NOBODY,
    PG_STEER_WEIGHTS
};

/* How the rows of a layer are steered, beside edits of the scores themselves. */
typedef struct pg_steer {
    const unsigned char *steered; /* [T] 0: route this row as ever */
    const float *plain;           /* [T, E] scores as they came, for rows whose steering is unusable; of steered rows */
    const float *choose;     /* [T, E] added to what the router compares, for choosing only; -inf bans, +inf forces */
    const int32_t *top;      /* [T] experts of a row; more than pg_router_most counts as that */
    const float *cumulative; /* [T] keep of them the first that make up this share of their weights */
    const float *capacity;   /* [T] an expert's most share of the step's choices, times an even one; 0: any.
                                     NULL: any for all rows */
    unsigned char *fault;    /* [T] out: PG_STEER_*, of steered rows */
} pg_steer;

/* ---- steering as data: what a backend can do itself, beside its rows ---- */

/* Knobs of one layer, worked out. */
typedef struct pg_layer_knobs {
    int32_t top;                             /* 0: not set */
    float cumulative, temperature, capacity; /* 0: not set */
    float *choose;                           /* [n_expert], or NULL */
} pg_layer_knobs;

/* One stage: knobs, or a verified program (policy/program.h). */
typedef struct pg_steer_stage {
    uint64_t id;                 /* stages that differ, were it in another step, have others; values of knobs aside */
    const pg_layer_knobs *knobs; /* [layers], or NULL: a program */
    const struct pg_instr *code; /* [n] */
    int32_t n, n_knob;
    const float *knob; /* [n_knob] values in this step */
} pg_steer_stage;

/* What pg_hook.route does in a step. Rows have policies; the stages of one follow each other. */
typedef struct pg_steering {
    const pg_steer_stage *stage; /* [first[n_policy]] */
    const int32_t *first;        /* [n_policy + 1] of policy p: stages first[p] to first[p + 1] - 1 */
    int32_t n_policy;
    const int32_t *policy; /* [T] of each row, -1: none */
    const float *load;     /* [HOOK ops in the plan's order, E], or NULL: no program looks at it */
    int32_t capacity;      /* 1: some stage sets one */
} pg_steering;

/* Somebody who steers: called by each HOOK op with its rows of scores (which it may edit), on run's own thread. NULL: no
 * row of this layer is steered. What it points at is good until the next call. */
typedef struct pg_hook {
    const pg_steer *(*route)(void *ud, const pg_op *op, float *score, int32_t n_row);
    void *ud;
    /* A backend may follow data instead of calling route, and says afterwards, on run's own thread, what was wrong with
     * which rows, if anything was. Rows whose scores came as NaN or infinite are not counted. */
    const pg_steering *data; /* NULL: no data says all that route does in this step */
    void (*faults)(void *ud, const pg_op *op, const unsigned char *fault); /* [T] PG_STEER_* */
    /* A backend whose rows are not in the host's memory had to call route in this step: for how long the device waited,
     * and for how many bytes that went there and back. NULL: nobody wants to know. */
    void (*waited)(void *ud, double seconds, double bytes);
} pg_hook;

struct pg_backend {
    const pg_backend_ops *ops;
    const pg_watch *watch; /* NULL: nobody; to be changed between two runs */
    const pg_hook *hook;   /* likewise */
    pg_ref drawn;          /* the value whose rows are drawn from; set before prepare */
    /* Of a device with memory of its own. */
    char device[64], isa[64]; /* "cuda:0", "cuda:0,1"; "sm_90 NVIDIA H200" */
    double weight_bytes;      /* of weights that it copies, known after prepare; */
    double far_bytes;         /* of them those that stay in the host's memory, from where the device reads them */
    char fault[512];          /* what went wrong, and what to do; whole sentences without the last full stop */
};

/* What a library with a backend exports, under the name PG_PLUGIN_NAME. `layout` guards against a library of another
 * build: it goes first and is looked at before anything else is believed. */
#define PG_PLUGIN_NAME "pg_plugin_cuda"
enum { PG_DEVICES = 16 }; /* that open takes at most */
#define PG_PLUGIN_LAYOUT                                                                         \
    (2 + 100 * (uint64_t)sizeof(pg_op) + 100000 * (uint64_t)sizeof(struct pg_backend) +          \
     1000000000 * (uint64_t)sizeof(pg_backend_ops) + 1000000000000 * (uint64_t)sizeof(pg_code) + \
     1000000000000000 * (uint64_t)PG_OP_COUNT)
typedef struct pg_plugin {
    uint64_t layout; /* PG_PLUGIN_LAYOUT as it was when this was compiled */
    /* Devices which[n] as one, all different (n 0: all that there are), with n_lane host threads; or NULL: why[n_why] says
     * what is missing. */
    pg_backend *(*open)(const int *which, int n, int n_lane, char *why, size_t n_why);
} pg_plugin;

/* Open the CPU backend with n_lane threads (the caller's own included). isa: what PERIGEE_ISA may say, NULL or "" for
 * the best that the machine has. NULL on failure; *why then says what is wrong, a static text. */
pg_backend *pg_cpu_open(int n_lane, const char *isa, const char **why);

/* The instruction set in force: "ref", "avx2", "avx512", "amx". */
const char *pg_cpu_isa(const pg_backend *b);

/* Bytes a second that n_thread threads read together, each its own part of `bytes` of memory, over and over for about
 * `seconds`: the best of several ways of reading, of each the median pass. isa as for pg_cpu_open. 0: no memory, or no
 * threads. Needs no backend. */
double pg_cpu_bandwidth(int n_thread, int64_t bytes, double seconds, const char *isa);

#endif
