/* tokenizer: what a pg_tokenizer is made of. Only engine/token includes this; the outside sees token.h.
 *
 * A text passes through: special tokens (first) - normals - special tokens of normalised text (later) - steps - model.
 * Both kinds of files fill in the same parts; after pg_tokenizer_finish nothing changes any more. */
#ifndef PG_TOKENIZER_H
#define PG_TOKENIZER_H

#include "../json.h"
#include "normal.h"
#include "special.h"
#include "split.h"
#include "token.h"
#include "vocab.h"

typedef enum pg_model_kind {
    PG_MODEL_BPE,    /* join the pair whose merge was learnt first */
    PG_MODEL_SPM,    /* join the pair whose token scores highest */
    PG_MODEL_UNIGRAM /* the most likely way to write a piece as tokens */
} pg_model_kind;

enum { PG_SYMBOLS = 0x180 }; /* characters below are looked up in a table; it holds all of a byte-level vocabulary */

#define PG_CHAT_MAX 16

typedef struct pg_chat {
    char *name, *text;
} pg_chat;

struct pg_tokenizer {
    pg_model_kind model;
    pg_vocab vocab;
    pg_merges merges;
    bool ignore_merges; /* a piece that is a token is not taken apart */
    bool byte_fallback; /* an unknown character becomes the tokens of its bytes */
    bool fuse_unk;      /* unknown characters in a row become one unknown token */
    int32_t unknown;    /* what an unknown character becomes; -1: nothing */
    int32_t byte_id[256];
    int32_t symbol[PG_SYMBOLS];

    pg_specials first, later;
    pg_normals normals;
    pg_steps steps;

    pg_tokenizer_info info;
    pg_ids before, after; /* what begins and ends a text; info.add_bos, add_eos: by default */
    pg_ids ends;          /* ids that the files say end a generation */
    bool *eog;            /* [n] those and the ones known by their text */
    double worst;         /* Unigram: the lowest score */
    char *chat_template;
    pg_chat named[PG_CHAT_MAX]; /* [n_named] further templates ("tool_use" ...) */
    int n_named;

    /* decoding */
    bool byte_level;  /* token texts are written in byte characters */
    bool drop_space;  /* one space at the very beginning is not part of the text */
    char mark[8];     /* the character that stands for a space in token texts, or "" */
    pg_buf plain;     /* the text of every token, decoded */
    size_t *plain_at; /* [n + 1] */
    size_t plain_longest;
};

/* Control tokens appear in decoded text only when they are asked for. */
static inline bool pg_token_is_hidden(const pg_tokenizer *t, int32_t id)
{
    return t->vocab.type[id] == PG_TYPE_CONTROL || t->vocab.type[id] == PG_TYPE_UNKNOWN;
}

/* What the files beside a tokenizer.json can tell; where they come from is the caller's affair. */
typedef struct pg_companions {
    /* The bytes of a file: 1 found, 0 absent, PG_E*. They live as long as the tokenizer is being made. */
    int (*get)(void *ud, const char *name, pg_text *out, pg_error *err);
    void *ud;
} pg_companions;

/* An empty tokenizer; NULL: no memory. pg_tokenizer_close frees it in any state. */
pg_tokenizer *pg_tokenizer_new(pg_error *err);
/* After the parts are there: everything that follows from them. `what` names the file. */
int pg_tokenizer_finish(pg_tokenizer *t, const char *what, pg_error *err);
/* decode.c, part of finish: the decoded text of every token. */
int pg_tokenizer_spell_out(pg_tokenizer *t, pg_error *err);
/* chat.c: the model's chat template, or with a name one of its further ones; those beyond PG_CHAT_MAX are left out. */
int pg_tokenizer_set_template(pg_tokenizer *t, const char *s, size_t n, pg_error *err);
int pg_tokenizer_add_template(pg_tokenizer *t, pg_text name, pg_text text, pg_error *err);
void pg_tokenizer_free_templates(pg_tokenizer *t);

/* Fill in an empty tokenizer. */
int pg_tokenizer_from_gguf(pg_source *s, pg_tokenizer *t, pg_error *err);
int pg_tokenizer_from_json(const pg_companions *files, pg_text json, const char *what, pg_tokenizer *t, pg_error *err);
/* json_pipeline.c, part of from_json: normalizer, pre_tokenizer, decoder. */
int pg_tokenizer_read_pipeline(const json_t *root, const char *what, pg_tokenizer *t, pg_error *err);
/* json_config.c, part of from_json: post_processor and the files beside tokenizer.json. */
int pg_tokenizer_configure(const json_t *root, const pg_companions *files, const char *what, pg_tokenizer *t,
                           pg_error *err);

/* ---- encoding a piece ------------------------------------------------------------------------------------------------ */

typedef struct pg_link pg_link;
typedef struct pg_pair pg_pair;
typedef struct pg_hop pg_hop;

/* What one encoder needs; zeroed at first, freed by pg_work_free. */
typedef struct pg_work {
    pg_match match;
    pg_normal_work normal;
    pg_segments first, later;
    pg_pieces pieces;
    pg_link *link;
    size_t n_link, link_room;
    pg_pair *heap;
    size_t n_heap, heap_room;
    pg_hop *hop;
    size_t hop_room;
    pg_ids ids;
} pg_work;

/* Append the ids of one piece to w->ids. */
int pg_bpe_encode(const pg_tokenizer *t, pg_work *w, const char *s, size_t n, pg_error *err);
int pg_unigram_encode(const pg_tokenizer *t, pg_work *w, const char *s, size_t n, pg_error *err);

#endif
