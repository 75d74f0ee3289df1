/* reader: what the format readers (gguf.c, safetensors.c, folder.c) fill in and source.c, keys.c hand out.
 *
 * Only load/ includes this. A reader maps files with pg_file_open, adds keys and tensors, and fails with a message;
 * whatever it had added by then is freed with the source. */
#ifndef PG_READER_H
#define PG_READER_H

#include "../json.h"
#include "source.h"

/* One file. It stays mapped until the source is closed; keys and tensors point into it. */
typedef struct pg_file {
    char *path;
    const char *label; /* the path, or its end when it is long: for messages */
    const uint8_t *data;
    size_t size;
    int fd; /* of a mapped file, else -1 */
} pg_file;

/* Hash of names over an array whose items begin with a pg_text; slots hold item + 1. */
typedef struct pg_index {
    uint32_t *slot;
    size_t n_slot; /* a power of two, or 0 */
    uint64_t seed; /* drawn at open, so that a file cannot be made of colliding names */
} pg_index;

/* A key and where its value is. Exactly one of data (GGUF) and json (config.json) is set. */
typedef struct pg_key {
    pg_text name;
    pg_key_type type;
    int kind;              /* GGUF value type, of the elements when it is an array */
    const uint8_t *data;   /* the scalar, the string's bytes, the first element */
    int64_t count;         /* elements of an array, bytes of a string */
    const uint64_t *marks; /* array of strings: offset from data of every PG_MARK-th */
    const json_t *json;
} pg_key;

enum { PG_MARK = 64 };

/* One value, decoded. type PG_KEY_NONE: something that no getter returns, such as an object in an array. */
typedef struct pg_item {
    pg_key_type type;
    int64_t i;    /* INT, BOOL */
    double f;     /* INT, FLOAT */
    int huge;     /* INT above INT64_MAX: only f holds it */
    pg_text text; /* STRING */
} pg_item;

struct pg_source {
    int dialect, use_mmap;
    char *path;
    const char *label;
    pg_file **file;
    int n_file, file_room;
    pg_key *key;
    int n_key, key_room;
    pg_source_tensor *tensor;
    int n_tensor, tensor_room;
    pg_index key_index, tensor_index;
    json_t *config; /* what pg_key.json points into */
    struct pg_kept *kept;
    double bytes;
};

/* A name in a message: printf("%.*s", PG_CLIP(t)). */
#define PG_CLIP(t) (int)((t).n < 100 ? (t).n : 100), (t).data

const char *pg_label(const char *path);
char *pg_path_join(const char *folder, const char *name); /* malloc'd; NULL: no memory */

/* file.c. The file at path (taken over, freed in any case; NULL: no memory) into memory; *out lives with s. */
int pg_file_open(pg_source *s, char *path, pg_file **out, pg_error *err);
void pg_file_free(pg_file *file);
/* PG_E* and words for a failed system call on path. */
int pg_file_errno(const char *path, int errnum, pg_error *err);

/* source.c. Memory that lives with s; NULL: no memory. */
void *pg_source_keep(pg_source *s, size_t n);
/* Forget everything but the settings. */
void pg_source_reset(pg_source *s);
int pg_source_set_path(pg_source *s, const char *path, pg_error *err);
/* Add one; PG_EFORMAT when its name is taken. Names must live with s. */
int pg_source_add_key(pg_source *s, const pg_file *file, const pg_key *key, pg_error *err);
int pg_source_add_tensor(pg_source *s, pg_file *file, pg_text name, const pg_tensor *view, pg_error *err);
/* Shape and strides into *view, everything checked; n: dimensions in storage order; packed: each matrix has its rows
 * filled up to whole panels. `what` names file and tensor. */
int pg_shape_check(pg_tensor *view, pg_dtype dtype, int packed, const uint64_t *dim, int n, size_t *bytes,
                   const char *what, pg_error *err);

/* keys.c. Position in s->key or -1. */
int pg_source_key_index(const pg_source *s, const char *name);

/* parts.c: a GGUF file with its further parts. */
int pg_gguf_open(pg_source *s, const char *path, pg_error *err);

/* gguf.c. Read one file: its keys into `keys`, its tensors into s (the same source, or not). */
int pg_gguf_read(pg_source *s, pg_source *keys, pg_file *file, pg_error *err);
/* Element i of a key, i < 0: the scalar. */
void pg_gguf_item(const pg_key *key, int64_t i, pg_item *out);
/* The string at *p; *p moves behind it. */
pg_text pg_gguf_string(const uint8_t **p);
/* The bytes of a key in the file: name, type, value. */
pg_text pg_gguf_stored(const pg_key *key);

/* folder.c: config.json and weights; one value of config.json. */
int pg_folder_open(pg_source *s, const char *folder, pg_error *err);
void pg_json_item(const json_t *value, pg_item *out);

/* safetensors.c: add the tensors of one file. */
int pg_safetensors_read(pg_source *s, pg_file *file, pg_error *err);

/* What a file that is not of the expected format seems to be: a sentence for the message, "" when there is no guess;
 * *code becomes PG_EUNSUPPORTED for what is well formed in its own way. */
const char *pg_file_guess(const pg_file *file, int *code);

#endif
