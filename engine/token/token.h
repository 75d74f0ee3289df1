/* token: text to token ids and back. Built from a source (GGUF keys) or from tokenizer.json; afterwards immutable and
 * safe from any thread. The public functions of perigee.h (pg_encode, pg_decode, pg_detok_*) live here as well. */
#ifndef PG_TOKEN_H
#define PG_TOKEN_H

#include "../load/source.h"

/* From an open source: GGUF keys tokenizer.ggml.*, or a folder's tokenizer.json with tokenizer_config.json,
 * special_tokens_map.json, generation_config.json and chat_template.jinja. PG_ENOTFOUND when it has no tokenizer.
 * The tokenizer copies what it needs: the source may be closed. */
int pg_tokenizer_from_source(pg_source *s, pg_tokenizer **out, pg_error *err);

/* Bytes of the longest token as decoded text (bound for buffers of streams). */
int32_t pg_tokenizer_longest(const pg_tokenizer *t);

/* What a token is to somebody who chooses among tokens for the text they make. */
typedef enum pg_token_kind {
    PG_TOKEN_TEXT,  /* adds its bytes to the text */
    PG_TOKEN_END,   /* ends a generation */
    PG_TOKEN_SILENT /* control and unused tokens */
} pg_token_kind;

/* The kind of a token and its bytes as decoded text; both good as long as the tokenizer. id is in [0, pg_token_count). */
pg_token_kind pg_token_spell(const pg_tokenizer *t, int32_t id, const char **s, size_t *n);
int32_t pg_token_count(const pg_tokenizer *t);
/* The token that is stored under a text, control tokens included; -1: none. */
int32_t pg_token_find(const pg_tokenizer *t, const char *s, size_t n);

/* The stream goes on where a text has already begun (a generation after its prompt): SentencePiece vocabularies drop a
 * space at the very beginning of a text, which must not happen to what comes next. To be called before the first
 * pg_detok_next, and again after pg_detok_rest. */
void pg_detok_resume(pg_detok *d);

#endif
