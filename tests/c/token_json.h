/* Small tokenizer.json files, written with ' for ", for the tests of engine/token. */
#ifndef PG_TOKEN_JSON_H
#define PG_TOKEN_JSON_H

#include "token_make.h"

/* Every ' becomes ", in place. */
static inline char *requote(char *s)
{
    for (char *c = s; *c; c++)
        if (*c == '\'') *c = '"';
    return s;
}

/* A file: stages (each ends with a comma), added tokens, members of the model. To be freed. */
static inline char *file_of(const char *stages, const char *added, const char *model)
{
    size_t n = strlen(stages) + strlen(added) + strlen(model) + 100;
    char *s = malloc(n);
    if (!s) abort();
    snprintf(s, n, "{%s'added_tokens':[%s],'model':{%s}}", stages, added, model);
    return requote(s);
}

/* A byte-level file whose vocabulary is the bytes and every pair of eight characters. */
static inline char *file_of_pairs(const char *normalizer, const char *pre_tokenizer, const char *added)
{
    static const char letters[] = "ab12A! \n";
    bytes model = { 0 };
    char item[64], stages[2000];
    for (unsigned b = 0; b < 256; b++) {
        snprintf(item, sizeof item, "%s\"%s%s\":%u", b ? "," : "'type':'BPE','vocab':{",
                 b == '"' || b == '\\' ? "\\" : "", b == '\'' ? "\\u0027" : byte_text(b), b);
        put(&model, item, strlen(item));
    }
    for (unsigned i = 0; i < 64; i++) {
        snprintf(item, sizeof item, ",'%s%s':%u", byte_text((unsigned char)letters[i / 8]),
                 byte_text((unsigned char)letters[i % 8]), 256 + i);
        put(&model, item, strlen(item));
    }
    for (unsigned i = 0; i < 64; i++) {
        snprintf(item, sizeof item, "%s['%s','%s']", i ? "," : "},'merges':[", byte_text((unsigned char)letters[i / 8]),
                 byte_text((unsigned char)letters[i % 8]));
        put(&model, item, strlen(item));
    }
    put(&model, "]", 2);
    snprintf(stages, sizeof stages, "'normalizer':%s,'pre_tokenizer':%s,", normalizer ? normalizer : "null",
             pre_tokenizer);
    char *json = file_of(stages, added, (const char *)model.data);
    free(model.data);
    return json;
}

/* The tokenizer of a file that stands alone and is removed again; NULL and *err. */
static inline pg_tokenizer *open_text(const char *folder, const char *json, pg_error *err)
{
    pg_tokenizer *t = NULL;
    if (pg_tokenizer_open(scratch_text(folder, "bad.json", json), &t, err) < 0) t = NULL;
    scratch_remove(folder, "bad.json");
    return t;
}

#endif
