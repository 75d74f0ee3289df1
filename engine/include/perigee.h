/* perigee: a mixture-of-experts language-model engine. The one public header of libperigee.
 *
 * Rules that hold for every function here
 *  - Functions that can fail return >= 0 when fine and a PG_E* code below 0 otherwise, and fill *err when err is not
 *    NULL. The library never prints, exits or aborts on input. Messages name the culprit and say what to do.
 *  - What the library returns by pointer it owns; each function says until when the pointer is good.
 *  - Rows, layers, experts, positions and token ids count from 0. Text is UTF-8 with an explicit length in bytes.
 *  - Structs that callers fill have an _init function; call it first, so that new fields get their defaults.
 *  - After fork() the child must not use an engine that the parent opened: every call answers PG_EINVAL.
 *  - LuaJIT reads the part between the two CDEF lines as it stands: plain C declarations, no macros in them. */
#ifndef PERIGEE_H
#define PERIGEE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef PG_API
#define PG_API __attribute__((visibility("default")))
#endif

#define PG_VERSION_MAJOR 0
#define PG_VERSION_MINOR 1
#define PG_VERSION_PATCH 0

/* CDEF begin */

/* Result codes. Lua's names for the negative ones: invalid, not_found, format, unsupported, memory, full, limit,
 * cancelled, device, io. */
enum {
    PG_OK = 0,
    PG_EINVAL = -1,       /* an argument is out of its range */
    PG_ENOTFOUND = -2,    /* no such file, tensor, name */
    PG_EFORMAT = -3,      /* a file is not what it claims to be */
    PG_EUNSUPPORTED = -4, /* well formed, but nothing here can run it */
    PG_EMEMORY = -5,      /* it does not fit into memory */
    PG_EFULL = -6,        /* a queue or pool is full: poll, then try again */
    PG_ELIMIT = -7,       /* longer or larger than the engine was opened for */
    PG_ECANCELLED = -8,   /* taken back by the caller */
    PG_EDEVICE = -9,      /* a device is missing or failed */
    PG_EIO = -10          /* the system could not read or write */
};

/* Why the last call failed. */
typedef struct pg_error {
    int32_t code;   /* PG_E*, PG_OK when nothing failed */
    char text[508]; /* one line, UTF-8, control characters escaped, always terminated */
} pg_error;

typedef struct pg_engine pg_engine;
typedef struct pg_opening pg_opening;
typedef struct pg_tokenizer pg_tokenizer;
typedef struct pg_detok pg_detok;
typedef struct pg_imatrix pg_imatrix;
typedef struct pg_trace pg_trace;
typedef struct pg_policy pg_policy;
typedef struct pg_grammar pg_grammar;

/* ---- library --------------------------------------------------------------------------------------------------- */

/** "major.minor.patch" of the library in use; static. Threads: any. */
PG_API const char *pg_version(void);

/** Lua's name of a result code ("invalid", "not_found" ...; "ok" for >= 0); static. Threads: any. */
PG_API const char *pg_code_name(int32_t code);

enum { PG_LOG_ERROR = 0, PG_LOG_WARN = 1, PG_LOG_INFO = 2, PG_LOG_DEBUG = 3 };

/** Receive the library's log lines, of every engine in this process; NULL (the default) is silence.
 *  @param fn     called with a level, one terminated line and ud; from any thread; must not call the library
 *  Threads: any; takes effect for lines logged after it returns. Not for Lua: a callback must not enter LuaJIT. */
typedef void (*pg_log_fn)(int32_t level, const char *line, void *ud);
PG_API void pg_log_set(pg_log_fn fn, void *ud, int32_t level);

/* ---- opening ---------------------------------------------------------------------------------------------------- */

/* How to open a model; pg_options_init gives every field its default. */
typedef struct pg_options {
    const char *device;    /* "auto" | "cpu" | "cuda" | "cuda:N" | "cuda:N,M" (and more) | "cuda:all"; default "auto":
                              the first CUDA device when there is one, perigee_cuda.so is there and everything fits its
                              memory, or all of them when everything fits theirs, else the CPU. Several devices have
                              consecutive layers each, by how much memory is free there, and work one after the
                              other. Those that are named keep experts that do not fit in host memory. PERIGEE_CUDA:
                              path of perigee_cuda.so, else it is beside this library or on the loader's path;
                              PERIGEE_CUDA_MEMORY: GB that it may use of each device */
    int32_t threads;       /* 0: PERIGEE_THREADS, else the cores this process may use (affinity, cgroup) */
    int32_t context;       /* longest sequence in tokens; 0: the model's own, at most 4096 */
    int32_t kv_tokens;     /* tokens in the KV page pool over all sequences; default 16384, at least one context */
    const char *kv_type;   /* "f32" | "f16" | "bf16" | "q8_0"; default "f16" ("f32" when precision is "f32") */
    const char *precision; /* "auto" | "f32"; default PERIGEE_PRECISION, else "auto" */
    int32_t batch;         /* rows a step at most; 0: 2048, less if the arena would not fit */
    int32_t queue;         /* requests that may wait or run at once; default 256 */
    int32_t use_mmap;      /* 1: map the file (default); 0: read it into memory of our own */
    int32_t use_mlock;     /* 1: lock the weights into memory; default 0 */
    int32_t force;         /* 1: skip the check that everything fits into memory; default 0 */
    int32_t prefix_cache;  /* 1: prompts that begin alike share what was computed of it (default); 0: they do not */
} pg_options;

PG_API void pg_options_init(pg_options *options);

/** Open a model and start its engine thread; waits until it is ready.
 *  @param path    a GGUF file (or the first of its shards) or a Hugging Face folder
 *  @param options NULL: all defaults
 *  @param[out] out the engine, to be closed with pg_close
 *  @return PG_OK | PG_ENOTFOUND | PG_EFORMAT | PG_EUNSUPPORTED | PG_EMEMORY | PG_EDEVICE | PG_EIO | PG_EINVAL
 *  Threads: any. */
PG_API int pg_open(const char *path, const pg_options *options, pg_engine **out, pg_error *err);

/** The same in the background: begin, then poll until it returns 1 (ready) or < 0 (failed).
 *  pg_open_poll waits up to timeout_ms (0: not at all, < 0: until something changes) and reports bytes done of total.
 *  pg_open_finish hands over the engine (or the error) and frees the opening; it waits if called early;
 *  pg_open_cancel gives the opening up and frees it. Threads: one at a time. */
PG_API int pg_open_begin(const char *path, const pg_options *options, pg_opening **out, pg_error *err);
PG_API int pg_open_poll(pg_opening *opening, int32_t timeout_ms, double *done, double *total, pg_error *err);
PG_API int pg_open_finish(pg_opening *opening, pg_engine **out, pg_error *err);
PG_API void pg_open_cancel(pg_opening *opening);

/** Stop the engine thread and free everything; requests in flight end without further events. NULL is fine.
 *  Threads: any, once; no other call on this engine may be running. */
PG_API void pg_close(pg_engine *e);

/* What a model is, from its metadata alone. Strings live as long as the struct. */
typedef struct pg_info {
    char architecture[32];  /* "deepseek2", "qwen3moe" ... */
    char name[128];         /* general.name, or "" */
    char format[16];        /* "gguf" or "safetensors" */
    char quantisation[32];  /* the format that holds most weights: "q8_0" ..., "q8_0 packed" in packed files */
    char tokenizer[32];     /* "bpe qwen2", "spm" ... */
    double n_params;        /* weights in all */
    double n_active;        /* weights a token meets: experts counted by how many it visits, embedding one row */
    double file_bytes;      /* size of all weights as stored */
    double weight_bytes;    /* of them, the matrices that tokens are multiplied by */
    double expert_bytes;    /* of these, the routed experts' */
    double active_bytes;    /* what one token meets: experts counted by how many it visits; and its embedding row */
    double kv_bytes;        /* of the KV cache, a token of context; f16 from pg_describe, else as opened */
    double kv_window_bytes; /* of them, in layers whose queries look back on kv_window tokens at most */
    int32_t n_layer, n_moe_layer, n_embd, n_vocab, n_head, n_head_kv;
    int32_t n_expert, n_expert_used, n_expert_shared; /* 0 for dense models */
    int32_t context_train;                            /* tokens the model was made for */
    int32_t kv_window;                                /* tokens; 0: no layer has a window */
    int32_t bos, eos;                                 /* token ids, -1: none */
    /* only from pg_engine_info; 0 from pg_describe */
    int32_t context, kv_tokens, batch, threads;
    char kv_type[8], precision[8];
    char device[64];     /* "cpu", "cuda:0", "cuda:0,1" */
    char isa[64];        /* instruction set of the kernels in use: "avx512"; "sm_90 NVIDIA H200", "2 x sm_90 ..." */
    double memory_bytes; /* of the engine itself: arena, KV pool, packed and converted weights; without the mapped file,
                            of which nothing that was packed stays in memory; on a GPU all weights */
    char note[256];      /* "" or remarks: tensors that are not used, a context beyond the model's own */
} pg_info;

/** Read the metadata of a model without loading its weights. Threads: any. @return as pg_open */
PG_API int pg_describe(const char *path, pg_info *out, pg_error *err);

/** The same for an open engine, with the settings in force. Threads: any. */
PG_API int pg_engine_info(pg_engine *e, pg_info *out, pg_error *err);

/** How fast this machine reads memory, the bound of decoding: each thread streams through its own part of a buffer, over
 *  and over, in several ways (plain, several walks side by side, software prefetch at several distances).
 *  @param threads 0: PERIGEE_THREADS, else the cores this process may use
 *  @param bytes   of the buffer, huge pages asked for; 0: more than any cache holds, 2 GiB or a quarter of free memory
 *  @param seconds to spend, about, without the buffer's first touch; 0: one
 *  @param[out] rate bytes a second, all threads together: of the better of the best two ways the median of 5 passes
 *  @return PG_OK | PG_EINVAL | PG_EMEMORY.  Threads: any; whatever else runs lowers the answer.
 *  PERIGEE_ISA caps the loads' width. Source: McCalpin, Memory Bandwidth and Machine Balance, 1995. */
PG_API int pg_measure_bandwidth(int32_t threads, double bytes, double seconds, double *rate, pg_error *err);

/* ---- generating -------------------------------------------------------------------------------------------------- */

typedef struct pg_bias {
    int32_t token;
    float bias; /* added to the logit; -inf bans the token */
} pg_bias;

/* One generation. pg_request_init fills in the defaults of this engine: those of the model's file where it names any
 * (general.sampling.*, generation_config.json), else temperature 0.8, top_k 40, top_p 0.95, min_p 0.05.
 * Sampling runs in this order: logit bias, penalties, top-k, typical, top-p, min-p, temperature. */
typedef struct pg_request {
    const int32_t *prompt; /* [n_prompt] token ids, copied */
    int32_t n_prompt;      /* >= 1 */
    int32_t max_new;       /* tokens to generate at most; 0: until the context is full; default 0 */
    float temperature;     /* <= 0: always the most likely token */
    int32_t top_k;         /* <= 0: off */
    float top_p;           /* >= 1: off */
    float min_p;           /* <= 0: off */
    float typical_p;       /* >= 1: off; default 1 */
    float repeat_penalty;  /* 1: off; default 1 */
    int32_t repeat_last_n; /* tokens that penalties look back on, prompt included; < 0: all; default 64 */
    float presence_penalty, frequency_penalty; /* 0: off */
    uint32_t seed_low, seed_high;              /* the 64-bit seed, when has_seed */
    int32_t has_seed;                          /* 0: one is drawn and reported in the done event */
    const pg_bias *bias;
    int32_t n_bias;
    const char *const *stop; /* [n_stop] terminated strings; the text ends before the first that appears */
    int32_t n_stop;          /* at most 16, each of 1 to 256 bytes */
    int32_t logprobs;        /* 0: none; n: of each chosen token and of the n - 1 others most likely; at most 33 */
    int32_t ignore_eos;      /* 1: end-of-generation tokens do not end it */
    int32_t special;         /* 1: control tokens appear in the text */
    int32_t priority;        /* larger goes first */
    int32_t chunk;           /* prompt tokens a step at most; 0: the engine's choice (the bits do not depend on it) */
    double deadline_ms;      /* from now; 0: none */
    pg_policy *policy;       /* how its rows are routed, counted by the request; NULL: the engine's own policy */
    pg_grammar *grammar;     /* what its text may be, counted by the request; NULL: anything */
    const char *tenant;     /* on whose behalf, a terminated name of at most 63 bytes that policies see; NULL: nobody */
    const char *cache_salt; /* prompts share cached pages only with those of the same salt, a terminated text of at most
                               1024 bytes; NULL: with those without */
    int32_t lead;           /* tokens it may run beyond the last that pg_acknowledge named; 0: it does not wait */
} pg_request;

PG_API int pg_request_init(pg_engine *e, pg_request *req);

/** Queue one generation and return at once; the engine thread does the work.
 *  @param req     everything in it is copied
 *  @param[out] id > 0, never used twice by this engine
 *  @return PG_OK | PG_EINVAL (empty prompt, id outside the vocabulary, field out of range) | PG_ELIMIT (prompt does
 *          not fit the context) | PG_EFULL (queue is full: poll, then retry)
 *  Threads: any. Never waits for a step.
 *  Source: iteration-level scheduling, Yu et al., Orca, OSDI 2022. */
PG_API int pg_submit(pg_engine *e, const pg_request *req, int32_t *id, pg_error *err);

/** Ask a request to end; its done event follows with PG_FINISH_CANCELLED. An id that has ended is fine.
 *  Threads: any. */
PG_API int pg_cancel(pg_engine *e, int32_t id, pg_error *err);

enum { PG_EVENT_TEXT = 1, PG_EVENT_DONE = 2, PG_EVENT_FAIL = 3 };
enum {
    PG_FINISH_STOP = 1,   /* an end token or a stop string */
    PG_FINISH_LENGTH = 2, /* max_new, or the context is full */
    PG_FINISH_CANCELLED = 3,
    PG_FINISH_DEADLINE = 4
};

typedef struct pg_logprob {
    int32_t token;
    float logprob; /* ln p under the unmodified softmax */
} pg_logprob;

/* One thing that happened to a request. Pointers are good until the next pg_poll of this engine. */
typedef struct pg_event {
    int32_t id;                 /* of the request */
    int32_t kind;               /* PG_EVENT_* */
    int32_t attempt;            /* how often the request had been rewound when this happened */
    int32_t token;              /* TEXT: the token chosen, or -1 for text that had been held back */
    int32_t n_text;             /* TEXT: bytes, whole UTF-8 characters, may be 0; FAIL: the message */
    const char *text;           /* not terminated */
    const pg_logprob *logprobs; /* TEXT: [n_logprobs] the chosen token, then the most likely ones */
    int32_t n_logprobs;
    int32_t
        finish; /* DONE: PG_FINISH_*;  FAIL: PG_E*;  TEXT: PG_FINISH_* of the token after which DONE follows, or 0 */
    int32_t n_prompt, n_cached, n_completion; /* DONE: tokens; n_cached of the prompt were not computed anew */
    int32_t n_dropped;                        /* DONE: tokens that were generated and taken back by pg_rewind */
    float queue_ms, prefill_ms, decode_ms;    /* DONE */
    uint32_t seed_low, seed_high;             /* DONE: the seed that was used */
    int32_t experts_used; /* DONE: distinct (layer, expert) pairs that served the generated tokens */
    int32_t experts_all;  /* DONE: such pairs in the model */
} pg_event;

/** Collect events of all requests, oldest first within a request. A request whose reader is slow waits; nothing is
 *  lost. After DONE or FAIL an id is gone. A reader that waits, here or on pg_fd, is woken at most every 2 ms while more
 *  events are about to come: it then finds several.
 *  @param timeout_ms 0: do not wait; < 0: wait until there is an event
 *  @return number of events written, 0 .. max (0: the time is over, nothing is in flight, or a signal arrived) | PG_E*
 *  Threads: any, one at a time. */
PG_API int pg_poll(pg_engine *e, int32_t timeout_ms, pg_event *events, int32_t max, pg_error *err);

/** An eventfd that is readable while events wait; for event loops. It belongs to the engine: do not read or close it.
 *  Threads: any. */
PG_API int pg_fd(pg_engine *e);

/* Counters since the engine was opened. */
typedef struct pg_stats {
    double prompt_tokens, generated_tokens, steps, requests; /* processed so far */
    double prefill_seconds, decode_seconds;                  /* in steps with prompt tokens / without */
    double busy_seconds, last_seconds;                       /* in all steps / in the last one */
    double steered_rows, faulty_rows;                        /* that had a policy / that it left unusable in a layer */
    int32_t waiting, running;                                /* requests now */
    int32_t kv_pages_used, kv_pages; /* pages of kv_page_tokens tokens: held by requests, in all */
    int32_t kv_page_tokens;
    int32_t kv_pages_cached; /* of earlier prompts, kept to be found again until somebody needs the room */
    double cached_tokens;    /* of prompts, found and not computed */
} pg_stats;

PG_API int pg_engine_stats(pg_engine *e, pg_stats *out, pg_error *err);

/* ---- readers that look before they go on ----------------------------------------------------------------------- */

/* A request with a lead waits for its reader, who may take tokens back before anybody else has seen them: stream
 * filters are made of this. It generates at most `lead` tokens beyond those acknowledged, and ends (also by a stop
 * string, an end token or its length) only when all are.
 *
 * Tokens count from 1 as they come: the i-th TEXT event of an attempt whose token is not -1 brings token i, or, after a
 * rewind that kept k, token k + i. All the text that token i releases is in its own event, and what is released depends
 * on tokens 1 to i alone. So a reader keeps the texts apart, token by token; when it rewinds to k it throws those
 * behind k away, and events of an older attempt as they come; the events of the new attempt continue exactly there.
 * Text that was held back (the beginning of a stop string or of a character) after token k is held back again. The event
 * of a token after which the request would end says so in `finish`. An event with token -1 belongs behind the last token:
 * it comes right before DONE, when a request is cancelled or late, or says in `finish` that a policy has stopped the
 * request at that token, and comes again after a rewind that keeps it. */

/** The reader has seen `n` generated tokens: the request may run `lead` further, and end when they are all. Fewer than
 *  before is fine and changes nothing.
 *  @return PG_OK | PG_EINVAL (more than pg_poll has handed out of this attempt; a request without a lead) |
 *          PG_ENOTFOUND (it has ended, or never was).  Threads: any. Never waits for a step. */
PG_API int pg_acknowledge(pg_engine *e, int32_t id, int32_t n);

/** Take tokens back: the first `keep` generated ones stay, the later ones leave the result and the KV cache, and the
 *  request goes on from there, with another draw from the same seed. Those kept count as acknowledged. Works while the
 *  request runs, waits for its reader, or would end but for that; an end that a kept token made stays.
 *  @param keep 0: all go; at most as many as pg_poll has handed out of this attempt. They may be fewer than were
 *              acknowledged.
 *  @param ban  token that must not come as number keep + 1; -1: none. Bans at a place add up, and hold for as long as
 *              the tokens before it stay. The request fails when more than 64 rewinds meet at one place or nothing is
 *              left to draw; beyond 256 in all, those at the earliest places are forgotten.
 *  @return PG_OK: what happens from here on has a higher `attempt` (unless the request fails first) | PG_EINVAL |
 *          PG_ENOTFOUND (it has ended) | PG_EFULL (16 rewinds wait for a step to end: try again)
 *  Threads: any. Never waits for a step. Cost: the text of the kept tokens is gone through again.
 *  Source: the same noise for the same history, by a counter-based generator: Salmon et al., SC 2011. */
PG_API int pg_rewind(pg_engine *e, int32_t id, int32_t keep, int32_t ban, pg_error *err);

/* ---- looking inside ---------------------------------------------------------------------------------------------- */

/** Logits of every position of one sequence, computed beside whatever else runs; waits.
 *  @param ids    [n] token ids
 *  @param chunk  rows a step at most for this sequence; 0: the engine's choice (the bits do not depend on it)
 *  @param decode from this index on tokens go one by one through the decode class; n or more: none do
 *  @param[out] logits [n, V] f32, row t after ids[0..t]; good until the next pg_logits or pg_close
 *  @return PG_OK | PG_EINVAL | PG_ELIMIT | PG_EMEMORY | PG_EFULL
 *  Threads: any, one at a time. */
PG_API int pg_logits(pg_engine *e, const int32_t *ids, int32_t n, int32_t chunk, int32_t decode, const float **logits,
                     int32_t *n_vocab, pg_error *err);

/** ln p(ids[i + 1] | ids[0..i]) for i = 0 .. n - 2, prefill class; waits. Perplexity = exp(-mean).
 *  @param[out] logprobs [n - 1], the caller's
 *  @return as pg_logits. Threads: any. */
PG_API int pg_score(pg_engine *e, const int32_t *ids, int32_t n, float *logprobs, pg_error *err);

/* ---- importance of weights --------------------------------------------------------------------------------------- */

/** Begin to sum up the squares of the activations that each column of each weight matrix meets: by them a quantizer weighs
 *  its errors. From here to pg_imatrix_close every row counts that the engine computes, whoever asked for it; pg_score of
 *  one piece of text after the other is the usual way. Sums are doubles in the order of the rows: the same pieces give
 *  the same file, whatever the threads and the steps. MLA's attn_kv_b is weighed by what its value part meets.
 *  @param e opened with precision "f32", else what an expert's down matrix meets is not there to be seen; one at a time
 *  @return PG_OK | PG_EINVAL | PG_EMEMORY | PG_EUNSUPPORTED (no matrix is used as the file stores it)
 *  Threads: any. Source: diagonal of the layer-wise quadratic error, Frantar et al., GPTQ, ICLR 2023. */
PG_API int pg_imatrix_open(pg_engine *e, pg_imatrix **out, pg_error *err);

/** Write the sums so far: a GGUF file with general.type "imatrix", imatrix.datasets, imatrix.chunk_count and
 *  imatrix.chunk_size, and for each matrix NAME two F32 tensors: NAME.in_sum2 [n, columns], sums of squares, and
 *  NAME.counts [n, 1], rows that were summed; n matrices of a stack (experts), else 1. Waits for the step that runs.
 *  @param datasets [n_dataset] terminated names of the texts  @param chunk_count of pieces, of chunk_size tokens each
 *  @return how many matrices no row met, such as experts that no token chose | PG_EINVAL (no row at all) | PG_ENOTFOUND | PG_EFORMAT (a sum is not finite) | PG_EMEMORY | PG_EIO */
PG_API int pg_imatrix_save(pg_imatrix *m, const char *path, const char *const *datasets, int32_t n_dataset,
                           int32_t chunk_count, int32_t chunk_size, pg_error *err);

/** Count no more and free the sums; before pg_close of its engine. NULL is fine. Threads: any, once. */
PG_API void pg_imatrix_close(pg_imatrix *m);

/* ---- what experts do ----------------------------------------------------------------------------------------------- */

enum {
    PG_EXPERTS_PROMPT = 0,   /* rows of the prefill class: prompts, pg_logits, pg_score */
    PG_EXPERTS_GENERATED = 1 /* rows of the decode class: tokens that were generated and then read by the model */
};

/** How often each expert was chosen since the engine was opened, by whoever was served; of whole steps. Always on.
 *  @param kind PG_EXPERTS_*
 *  @param[out] counts [n_moe_layer, n_expert] of pg_info, whole numbers
 *  @param[out] layers [n_moe_layer] the layers' numbers in the model; NULL: not wanted
 *  @param[out] tokens rows that were counted; NULL: not wanted
 *  @return n_moe_layer (0: the model is dense) | PG_EINVAL
 *  Threads: any. Never waits for a step, and no step waits for it. */
PG_API int pg_expert_counts(pg_engine *e, int32_t kind, double *counts, int32_t *layers, double *tokens, pg_error *err);

/* How a trace is going: tokens in the file, tokens that found no room on their way there, bytes of the file. */
typedef struct pg_trace_state {
    double tokens, lost, bytes;
} pg_trace_state;

/** Record which experts each token takes, with what weights, from the next step on. The engine's thread leaves records in
 *  a ring and never waits; a thread of the trace brings them to the file. When the ring is full, tokens are left out and
 *  counted as lost, in the file too.
 *
 *  The file is little-endian throughout. It begins with a header:
 *    0  8 bytes "PGEXPERT"      8  u32 version, 1           12  u32 bytes of the header: the first record's place
 *   16  u32 L, MoE layers      20  u32 E, experts a layer   24  u32 experts a token takes by default
 *   28  u32 most it can take   32  u32 every                36  u32 1: closed, what follows counts; 0: not yet
 *   40  u64 records            48  u64 tokens lost          56  u32 layers of the model   60  u32 bytes of its name
 *   64  u32 [L] numbers of the MoE layers in the model, then the name, UTF-8
 *  A record a token follows the other:
 *    0  u32 step, counted from the engine's opening, modulo 2^32    4  i32 id of the request, 0: pg_logits or pg_score
 *    8  i32 position   12  u32 token id, bit 31: the row was of the decode class (PG_EXPERTS_GENERATED)
 *   16  for each of the L layers: u16 n, then n times u16 expert, f16 its weight; most wanted first
 *
 *  @param path  the file; one that is there is replaced
 *  @param every record tokens whose position is a multiple of this; 1: all of them
 *  @return PG_OK | PG_EINVAL (no MoE model; every below 1; a trace of this engine is open) | PG_ENOTFOUND | PG_EIO | PG_EMEMORY
 *  Threads: any; waits for the step that runs. */
PG_API int pg_trace_open(pg_engine *e, const char *path, int32_t every, pg_trace **out, pg_error *err);

/** How it is going. Threads: any, while it is open. @return PG_OK | PG_EIO (it could not be written: the disk is full ...) */
PG_API int pg_trace_look(pg_trace *t, pg_trace_state *state, pg_error *err);

/** Record no more, write what is left, close the file and free the handle, also when that fails. Its engine may be
 *  closed before. @param state NULL: not wanted  @return PG_OK | PG_EIO.  Threads: any, once. */
PG_API int pg_trace_close(pg_trace *t, pg_trace_state *state, pg_error *err);

/* ---- routing policies ---------------------------------------------------------------------------------------------- */

/* Whose row it is that a hook sees. */
typedef struct pg_hook_row {
    int32_t id;       /* of the request; 0: pg_logits or pg_score */
    int32_t tenant;   /* number of its tenant, for pg_tenant_name; 0: none */
    int32_t position; /* of the token, from 0 */
    int32_t token;    /* id */
    int32_t prompt;   /* 1: prefill class, 0: a generated token */
} pg_hook_row;

/* The router logits of one layer, before it chooses experts. Valid until the hook returns. A row that a hook leaves
 * unusable (NaN or +inf in scores, NaN in choose, top below 1 or above n_expert, cumulative not above 0, no expert left,
 * weights that are not finite) is routed as if there were no policy; that is counted and reported. */
typedef struct pg_route_view {
    int32_t layer, rows, n_expert; /* layer: the model's own number */
    int32_t n_used, max_used;      /* experts a row visits by default, and at most: min(n_expert, 2 * n_used) */
    float *scores;                 /* [rows, n_expert] router logits, in nats; -inf bans; weights come from them */
    float *choose;          /* [rows, n_expert] starts at 0; added, for choosing only, to what the router compares:
                                      probabilities, or logits where the softmax follows the choice; -inf bans, +inf forces */
    int32_t *top;           /* [rows] experts of a row, starts at n_used; more than max_used counts as max_used */
    float *cumulative;      /* [rows] keep of them only the first that make up this share of their weights; 1: all */
    const pg_hook_row *row; /* [rows] */
    const float *load;      /* [n_expert] running share of this layer's choices, sums to 1 */
} pg_route_view;

/** Numbers of row `row` of a view, for hooks; the softmax is that of its scores over all experts. In nats: logarithm of the
 *  sum of exponentials, entropy, and how far the best score is above the second; and the share of the k best (ties count
 *  once each). Exponentials to 2e-7. A row with NaN gives NaN or anything. Threads: any. */
PG_API double pg_route_lse(const pg_route_view *view, int32_t row);
PG_API double pg_route_entropy(const pg_route_view *view, int32_t row);
PG_API double pg_route_margin(const pg_route_view *view, int32_t row);
PG_API double pg_route_mass(const pg_route_view *view, int32_t row, int32_t k);

/* The vocabulary's scores of the rows that sample, before anything is drawn. Log-probabilities that were asked for are
 * still those of the unmodified scores. A row left with a NaN, +inf or nothing above -inf gets its own back. */
typedef struct pg_logits_view {
    int32_t rows, n_vocab;
    float *const *scores;   /* [rows] of [n_vocab] */
    const pg_hook_row *row; /* [rows] */
} pg_logits_view;

/* A token was chosen. */
typedef struct pg_token_view {
    pg_hook_row row;  /* token and position are those of the new token */
    int32_t n_new;    /* tokens generated so far, this one included */
    int32_t stop;     /* out: 1 ends the request after this token, with PG_FINISH_STOP */
    const char *text; /* what the token alone decodes to, not terminated */
    int32_t n_text;
} pg_token_view;

/* A request could start now. */
typedef struct pg_admit_view {
    int32_t id, tenant;
    int32_t n_prompt, max_new, priority;
    int32_t waiting, running; /* requests */
    int32_t kv_pages_free;    /* those in which only earlier prompts are kept count as free */
    int32_t kv_pages;
    int32_t verdict; /* out: 1, as it begins: start; 0: wait, asked again before the next step; -1: refuse, for why */
    char why[128];   /* out: terminated, the text of its fail event */
} pg_admit_view;

/* A stage that is code of somebody else. All are called on the engine's thread. NULL: that point is not used; < 0: this
 * stage is not called any more, and that is reported. On a device that has memory of its own, route makes every layer wait
 * for its scores to go to the host and back, and logits brings whole rows there; what the first takes is reported once. */
typedef struct pg_hooks {
    int (*route)(void *ud, const pg_route_view *view, pg_error *err);   /* once a layer and step and run of its rows */
    int (*logits)(void *ud, const pg_logits_view *view, pg_error *err); /* once a step */
    int (*token)(void *ud, pg_token_view *view, pg_error *err);
    int (*admit)(void *ud, pg_admit_view *view, pg_error *err);
    void (*drop)(void *ud); /* once, when nobody uses it any more; from any thread, and not into perigee */
    void *ud;
} pg_hooks;

typedef struct pg_expert_bias {
    int32_t expert;
    float bias; /* as in pg_route_view.choose */
} pg_expert_bias;

/* Knobs of one layer, or of all with experts. 0 leaves a number as it is. */
typedef struct pg_knobs {
    int32_t layer;     /* the model's own number; -1: all layers with experts */
    int32_t top;       /* experts a row, 1 to max_used */
    float cumulative;  /* above 0, at most 1 */
    float temperature; /* router logits are divided by it, above 0 */
    float
        capacity; /* an expert gets at most this times its even share of a step's choices; what is too much goes to the
                           next best */
    const int32_t *ban; /* [n_ban] experts */
    int32_t n_ban;
    const int32_t *force; /* [n_force] */
    int32_t n_force;
    const pg_expert_bias *bias; /* [n_bias] */
    int32_t n_bias;
} pg_knobs;

enum { PG_PROGRAM_ROUTE = 0, PG_PROGRAM_LOGITS = 1 }; /* over the experts of a row; over its vocabulary */

/* A policy program: vector instructions without jumps, at most 256. An instruction is six words: its number (the place of
 * its name in pg_program_op), destination, three operands, and the bits of an f32 constant. */
typedef struct pg_program {
    int32_t point;       /* PG_PROGRAM_* */
    const int32_t *code; /* [n, 6] */
    int32_t n;           /* instructions */
    const char *const
        *knob; /* [n_knob] names that its instructions count from 0; shared by all programs of an engine */
    const float *knob_value; /* [n_knob] until pg_knob_set says otherwise */
    int32_t n_knob;          /* at most 64 */
} pg_program;

/** The instruction `op` as "name result operands", such as "max s v": v vector register, s scalar register, k knob,
 *  c constant; static. NULL when there is none. Threads: any. */
PG_API const char *pg_program_op(int32_t op);

/** A policy of an engine, without stages yet; stages are added in the order in which they run. It is counted: the caller
 *  holds one count, which pg_policy_drop gives back. Once pg_submit, pg_engine_route or pg_policy_include has seen it,
 *  nothing can be added.
 *  @param name    of at most 63 bytes, for reports and pg_policy_replace
 *  @param version of the caller's own counting
 *  @param live    1: requests in flight follow pg_policy_replace
 *  @return PG_OK | PG_EINVAL | PG_EMEMORY.  Threads: any. */
PG_API int pg_policy_new(pg_engine *e, const char *name, int32_t version, int32_t live, pg_policy **out, pg_error *err);

/** Add a stage, while the engine is open: knobs, later ones on top of earlier ones; a program; hooks (copied); all stages of another policy.
 *  pg_policy_hooks calls drop also when it fails.
 *  @return PG_OK | PG_EINVAL (what is out of range, by name) | PG_ENOTFOUND (a layer without experts) |
 *          PG_EUNSUPPORTED (knobs or a route program for a model without experts) | PG_ELIMIT (more than 16 stages,
 *          policies in policies deeper than 4) | PG_EMEMORY.  Threads: one at a time for each policy. */
PG_API int pg_policy_knobs(pg_policy *p, const pg_knobs *knobs, int32_t n, pg_error *err);
PG_API int pg_policy_program(pg_policy *p, const pg_program *program, pg_error *err);
PG_API int pg_policy_hooks(pg_policy *p, const pg_hooks *hooks, pg_error *err);
PG_API int pg_policy_include(pg_policy *p, pg_policy *other, pg_error *err);

/** One count more, one less; with the last the policy goes. They may outlive the engine. Threads: any. */
PG_API pg_policy *pg_policy_take(pg_policy *p);
PG_API void pg_policy_drop(pg_policy *p);

/** From the next step on, this is the policy of all rows whose request brought none, of pg_logits and of pg_score; NULL:
 *  none. Counted by the engine. Threads: any; does not wait. */
PG_API int pg_engine_route(pg_engine *e, pg_policy *policy, pg_error *err);

/** A new version of a policy: from the next step on it stands where the old one stood. If the old one is live, that is
 *  everywhere; else requests in flight keep the old one, and so do policies that include it.
 *  Threads: any; does not wait. @return PG_OK | PG_EINVAL (of another engine, replaced already, the same) */
PG_API int pg_policy_replace(pg_engine *e, pg_policy *old, pg_policy *successor, pg_error *err);

/** Knobs that programs of this engine name. A value is read once a step. pg_knob_name gives the name of the i-th, NULL
 *  after the last; it lives as long as the engine.
 *  @return PG_OK | PG_ENOTFOUND (no program has named it) | PG_EINVAL (not a finite number). Threads: any; waits for no step. */
PG_API int pg_knob_set(pg_engine *e, const char *name, float value, pg_error *err);
PG_API int pg_knob_get(pg_engine *e, const char *name, float *value, pg_error *err);
PG_API const char *pg_knob_name(pg_engine *e, int32_t i);

/* Something that a policy did wrong, or that it makes a device wait for. */
typedef struct pg_report {
    double number;    /* from 1, never used twice */
    double count;     /* how often it happened: rows, or calls */
    int32_t version;  /* of the policy */
    int32_t layer;    /* where it was seen first; -1: not in a layer */
    int32_t unhooked; /* 1: the stage is not called any more */
    char policy[64];  /* its name */
    char text[440];   /* one line */
} pg_report;

/** Reports after number `since`, oldest first; the last 64 are kept. Counts of those still going on grow.
 *  @return how many were written, 0 .. max | PG_E*.  Threads: any. */
PG_API int pg_policy_reports(pg_engine *e, double since, pg_report *out, int32_t max, pg_error *err);

/** The name behind a tenant number of this engine; terminated, lives as long as the engine; NULL: no such number.
 *  Threads: any. */
PG_API const char *pg_tenant_name(pg_engine *e, int32_t tenant);

/* ---- constrained output ------------------------------------------------------------------------------------------- */

/** What a generated text may be, from a grammar in GBNF: rules `name ::= alternatives`, beginning with `root`; literals
 *  "..." and classes [a-z] [^a-z] with the escapes \n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH, any character `.`,
 *  groups, `|`, `*` `+` `?` `{m}` `{m,}` `{m,n}` (up to 2000), comments `#`, whole tokens `<[id]>` and `<text>`, any other
 *  token `!<...>`. It is over characters: a token may end inside one.
 *  @param text n bytes, copied
 *  @param[out] out the grammar, to be dropped; it never changes, and any number of requests and engines may use it
 *  @return PG_OK | PG_EINVAL (with line and column: it does not parse, a rule is missing or begins with itself) |
 *          PG_ELIMIT (too large) | PG_EMEMORY.  Threads: any.
 *  Source of the format: the llama.cpp project. */
PG_API int pg_grammar_open_gbnf(const char *text, size_t n, pg_grammar **out, pg_error *err);

/** The same from a JSON schema (draft 2020-12): types, enum, const, objects (properties in the schema's order, required,
 *  additionalProperties, patternProperties, propertyNames), arrays (items, prefixItems, bounds), strings (lengths, pattern,
 *  format), numbers (bounds, multipleOf), anyOf, oneOf (taken as anyOf), allOf, $ref within the schema. Every text that it
 *  lets through is valid; not every valid text is let through (properties in another order, most escapes in fixed
 *  strings, numbers in other spellings). Remarks (title, description ...) are passed over.
 *  @return as above | PG_EFORMAT (no JSON) | PG_EUNSUPPORTED (a keyword that cannot be held, with its path: a JSON pointer).
 *  Nothing fits: PG_EINVAL.  Threads: any. */
PG_API int pg_grammar_open_schema(const char *json, size_t n, pg_grammar **out, pg_error *err);

/** The same from a list of tools in OpenAI's form, [{"type": "function", "function": {"name", "parameters"}}] (or of what
 *  stands under "function"): a call {"name": ..., "arguments": ...} of one of them, its arguments by its parameters.
 *  Their references (#/$defs/...) are looked up in their own parameters.  @return as above. Threads: any. */
PG_API int pg_grammar_open_tools(const char *json, size_t n, pg_grammar **out, pg_error *err);

/** One more, one less owner; the last drop frees it. A request holds its grammar itself. NULL is fine. Threads: any. */
PG_API pg_grammar *pg_grammar_take(pg_grammar *g);
PG_API void pg_grammar_drop(pg_grammar *g);

/** The grammar as GBNF (that of a schema, too); terminated, lives as long as g. Threads: any. */
PG_API const char *pg_grammar_text(pg_grammar *g);

enum {
    PG_GRAMMAR_DEAD = 0,    /* no text of the grammar begins so */
    PG_GRAMMAR_ALIVE = 1,   /* more must follow */
    PG_GRAMMAR_COMPLETE = 2 /* a text of the grammar; more may follow */
};

/** How far a text of n bytes fits; it may end inside a character.
 *  @return PG_GRAMMAR_* | PG_EINVAL | PG_EUNSUPPORTED (a grammar with tokens) | PG_ELIMIT (it fits in too many ways at
 *          once) | PG_EMEMORY.  Threads: any. */
PG_API int pg_grammar_check(pg_grammar *g, const char *text, size_t n, pg_error *err);

/* ---- tokenizers --------------------------------------------------------------------------------------------------- */

/** Open a tokenizer alone: a GGUF file (also one without tensors), a tokenizer.json, or a folder that holds one.
 *  @return PG_OK | PG_ENOTFOUND | PG_EFORMAT | PG_EUNSUPPORTED | PG_EMEMORY.  Threads: any. */
PG_API int pg_tokenizer_open(const char *path, pg_tokenizer **out, pg_error *err);
PG_API void pg_tokenizer_close(pg_tokenizer *t);

/** The tokenizer of an engine; borrowed, lives as long as the engine. */
PG_API pg_tokenizer *pg_engine_tokenizer(pg_engine *e);

enum {
    PG_ENCODE_SPECIAL = 1, /* control tokens written in the text are recognised; never for user text */
    PG_ENCODE_BOS = 2,     /* put the begin token first, even if the model's default is not to */
    PG_ENCODE_NO_BOS = 4   /* ids of the text alone: no begin and no end token; without either: the model's default */
};

/** Text to token ids.
 *  @param text n bytes, any bytes: what is not UTF-8 is encoded all the same
 *  @param[out] ids [max], filled up to max
 *  @return how many ids the text has (call again with more room when > max) | PG_EINVAL | PG_ELIMIT | PG_EMEMORY
 *  Threads: any, also at once. */
PG_API int pg_encode(pg_tokenizer *t, const char *text, size_t n, int32_t flags, int32_t *ids, int32_t max,
                     pg_error *err);

/** Token ids to bytes. @param special 1: control tokens are written out
 *  @param[out] text [max] bytes, filled up to max, not terminated
 *  @return how many bytes there are (call again with more room when > max) | PG_EINVAL (id out of range).
 *  Threads: any, also at once. */
PG_API int pg_decode(pg_tokenizer *t, const int32_t *ids, int32_t n, int32_t special, char *text, int32_t max,
                     pg_error *err);

/** Token ids to text as they come: only whole UTF-8 characters are handed out.
 *  pg_detok_next returns in *text the bytes that token `id` completed, good until the next call; pg_detok_rest those
 *  still held (an unfinished character) and begins anew. Threads: one at a time for each pg_detok. */
PG_API int pg_detok_open(pg_tokenizer *t, int32_t special, pg_detok **out, pg_error *err);
PG_API void pg_detok_close(pg_detok *d);
PG_API int pg_detok_next(pg_detok *d, int32_t id, const char **text, int32_t *n_text, pg_error *err);
PG_API int pg_detok_rest(pg_detok *d, const char **text, int32_t *n_text);

/* What a tokenizer is. */
typedef struct pg_tokenizer_info {
    int32_t n_vocab, bos, eos, eot, unk, pad; /* ids; -1: none */
    int32_t add_bos, add_eos;                 /* what a default encode adds */
    char kind[32];                            /* "bpe qwen2", "spm" ... */
} pg_tokenizer_info;

PG_API int pg_tokenizer_describe(pg_tokenizer *t, pg_tokenizer_info *out);

/** 1 when `id` ends a generation, 0 when not. Threads: any. */
PG_API int pg_token_is_eog(pg_tokenizer *t, int32_t id);

/** The stored text of a token (byte-level vocabularies: in mapped characters); terminated, lives as long as t; NULL when
 *  out of range. */
PG_API const char *pg_token_text(pg_tokenizer *t, int32_t id);

/** The model's chat template (Jinja) or NULL; lives as long as t. */
PG_API const char *pg_chat_template(pg_tokenizer *t);

/** One of the model's further chat templates by its name ("tool_use" ...), NULL when there is none; and the name of the
 *  i-th of these, from 0, NULL behind the last. Both live as long as t. */
PG_API const char *pg_chat_template_named(pg_tokenizer *t, const char *name);
PG_API const char *pg_chat_template_name(pg_tokenizer *t, int32_t i);

/* ---- quantising --------------------------------------------------------------------------------------------------- */

/* How to quantise; pg_quantize_options_init gives every field its default.
 * Types: f16, bf16, q8_0, q6_k, q5_1, q5_0, q5_k, q4_k, q4_0: (almost) all matrices in that format; q5_k_m, q4_k_m: with
 * more bits where they matter most; mxfp4: routed experts in MXFP4, all else in Q8_0; copy: nothing is quantised (to
 * pack a file). In all of them norms, biases and the router stay F32; rows that are not whole blocks of 256 get a format
 * of 32, those that are not whole blocks of 32 get F16. */
typedef struct pg_quantize_options {
    const char *type;    /* default "q4_k_m" */
    const char *imatrix; /* file that says how much each input of a matrix matters; NULL: all alike */
    int32_t threads;     /* 0: PERIGEE_THREADS, else the cores this process may use */
    int32_t pack;        /* 1: store matrices as the engine wants them in memory: it maps them as they are, and all
                          * processes share them; only perigee reads such a file */
    int32_t requantize;  /* 1: take a model that is quantised already, at a loss */
} pg_quantize_options;

PG_API void pg_quantize_options_init(pg_quantize_options *options);

/* What was written. */
typedef struct pg_quantize_report {
    double bytes_in, bytes_out;    /* of all tensors */
    int32_t n_tensor, n_quantised; /* in all; those in a quantised format now */
    int32_t n_packed, n_weighted;  /* packed; quantised with an entry of the imatrix */
    char types[256];               /* formats and how many tensors have them: "q4_k 120, q6_k 25, f32 61" */
} pg_quantize_report;

typedef struct pg_quantizing pg_quantizing;

/** Quantise a model file in the background: begin, then poll until it returns 1 (written) or < 0 (failed), then finish.
 *  The output appears under its name when it is whole, in the place of a file that had it; until then it grows beside it
 *  under a name that ends in ".part", and goes away if anything fails.
 *  @param in      a GGUF file (or the first of its shards) in F32, F16 or BF16; all its keys are kept
 *  @param out     the file to write
 *  @param options NULL: all defaults
 *  pg_quantize_poll waits up to timeout_ms (0: not at all, < 0: until something changes) and reports bytes done of
 *  total, of the input. pg_quantize_finish hands over the report (NULL: not wanted) and frees the handle; it waits if
 *  called early. pg_quantize_cancel gives it up and frees it.
 *  @return PG_OK | PG_EINVAL (options; input is quantised already; nothing to pack) | PG_ENOTFOUND | PG_EFORMAT (also: a
 *          weight is NaN or infinite, the tensor is named) | PG_EUNSUPPORTED | PG_EMEMORY | PG_EIO (disk full ...) |
 *          PG_ELIMIT
 *  Threads: one at a time for each handle.
 *  Source: block formats and mixes of GGML; factors by least squares, weighted by the imatrix. */
PG_API int pg_quantize_begin(const char *in, const char *out, const pg_quantize_options *options,
                             pg_quantizing **handle, pg_error *err);
PG_API int pg_quantize_poll(pg_quantizing *quantizing, int32_t timeout_ms, double *done, double *total, pg_error *err);
PG_API int pg_quantize_finish(pg_quantizing *quantizing, pg_quantize_report *report, pg_error *err);
PG_API void pg_quantize_cancel(pg_quantizing *quantizing);

/* CDEF end */

#ifdef __cplusplus
}
#endif

#endif
