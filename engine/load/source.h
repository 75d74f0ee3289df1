/* source: what a model file is once it has been checked: keys and named tensors over mapped bytes.
 *
 * GGUF files and Hugging Face folders both end here. Nothing behind this header knows which it was, except through
 * pg_source.dialect: the names of keys and tensors are still those of the format (arch/ translates).
 * Everything a caller can reach has been bounds-checked against the file. A source is immutable after open. */
#ifndef PG_SOURCE_H
#define PG_SOURCE_H

#include "../../kernels/tensor.h"
#include "../status.h"

typedef struct pg_source pg_source;

enum { PG_DIALECT_GGUF = 0, PG_DIALECT_HF = 1 };

typedef enum pg_key_type {
    PG_KEY_NONE,
    PG_KEY_INT,
    PG_KEY_FLOAT,
    PG_KEY_BOOL,
    PG_KEY_STRING,
    PG_KEY_ARRAY
} pg_key_type;

/* Packed weights in a GGUF file (kernels/unpack/panel.h): the key, a u32, says which layout; such tensors have
 * PG_PACK_TYPE + their ggml type id, stand at multiples of PG_PACK_ALIGN at least, and each of their matrices is
 * pg_panel_bytes long. Files of another version are refused: they are made from ordinary ones in no time. */
#define PG_PACK_KEY "perigee.pack.version"
enum { PG_PACK_VERSION = 1, PG_PACK_TYPE = 0x50470000, PG_PACK_ALIGN = 64 };

/* A text in the source; not terminated, may hold any bytes. */
typedef struct pg_text {
    const char *data;
    size_t n;
} pg_text;

typedef struct pg_source_tensor {
    pg_text name;
    pg_tensor view; /* shape in storage order: a PyTorch [out, in] is {in, out} */
} pg_source_tensor;

/* Open a GGUF file (with its further shards) or a Hugging Face folder.
 * use_mmap 1: tensors are listed and checked against the size of the file, their bytes are not touched.
 * use_mmap 0: all bytes are read into memory of our own before this returns.
 * A folder needs config.json and *.safetensors; its other files are reached by pg_source_file.
 * Errors: PG_ENOTFOUND, PG_EFORMAT, PG_EUNSUPPORTED, PG_EMEMORY, PG_EIO; each message names the file and the key or
 * tensor at fault and says what was expected. */
int pg_source_open(const char *path, int use_mmap, pg_source **out, pg_error *err);
void pg_source_close(pg_source *s);

int pg_source_dialect(const pg_source *s);
const char *pg_source_path(const pg_source *s);
double pg_source_bytes(const pg_source *s); /* of all tensors */

/* Keys. GGUF: the file's own names. Hugging Face: config.json with nested objects joined by dots
 * ("rope_scaling.factor"); JSON null counts as absent. */
pg_key_type pg_source_key(const pg_source *s, const char *name);
/* Each getter returns 1 and fills *out; 0 when the key is absent (out untouched); PG_EFORMAT when it has another type
 * or does not fit (any integer width is taken for an integer, an integer for a float, 0/1 not for a bool). */
int pg_source_int(const pg_source *s, const char *name, int64_t min, int64_t max, int64_t *out, pg_error *err);
int pg_source_float(const pg_source *s, const char *name, double *out, pg_error *err);
int pg_source_bool(const pg_source *s, const char *name, int *out, pg_error *err);
int pg_source_text(const pg_source *s, const char *name, pg_text *out, pg_error *err);
/* Arrays: length (0 absent is told apart by pg_source_key), and one element; the same returns. */
int64_t pg_source_count(const pg_source *s, const char *name);
int pg_source_int_at(const pg_source *s, const char *name, int64_t i, int64_t min, int64_t max, int64_t *out,
                     pg_error *err); /* bools count as 0 and 1 here */
int pg_source_float_at(const pg_source *s, const char *name, int64_t i, double *out, pg_error *err);
int pg_source_text_at(const pg_source *s, const char *name, int64_t i, pg_text *out, pg_error *err);
/* A cursor over a long string array: calls see(ud, i, text) for each element in one pass; a negative return stops it
 * and is returned. PG_ENOTFOUND when absent, PG_EFORMAT when it is not an array of strings. */
int pg_source_each_text(const pg_source *s, const char *name, int (*see)(void *ud, int64_t i, pg_text text), void *ud,
                        pg_error *err);
/* Keys by position, for writing a file anew: how many there are, the name of one, and its bytes as a GGUF file stores
 * it (name, type, value). 0 keys when the source is no GGUF file. Good until the source is closed. */
int pg_source_n_key(const pg_source *s);
pg_text pg_source_key_name(const pg_source *s, int i);
pg_text pg_source_key_stored(const pg_source *s, int i);

/* Tensors. */
int pg_source_n_tensor(const pg_source *s);
const pg_source_tensor *pg_source_tensor_at(const pg_source *s, int i);
const pg_source_tensor *pg_source_find(const pg_source *s, const char *name); /* NULL: absent; O(1) */

/* Memory. Threads: any, also at once. What follows is about any memory, or (those that take a source) leaves alone what
 * is not in a mapped file.
 * touch: bring n bytes from p into memory; PG_EIO when the file became shorter, PG_EMEMORY.
 * ahead: have the system begin to read them.
 * drop: give back the whole pages between p and p + n. Bytes of a mapped file come back when they are asked for, of
 * other memory they are lost.
 * forget: have the system's cache give up those pages of a file too, but for what somebody else has mapped.
 * lock: keep pages from being swapped out, those that are there and those that come; any memory; PG_EMEMORY with advice
 * when the system refuses. */
int pg_source_touch(const pg_source *s, const void *p, size_t n, pg_error *err);
void pg_source_ahead(const pg_source *s, const void *p, size_t n);
void pg_source_drop(const void *p, size_t n);
void pg_source_forget(const pg_source *s, const void *p, size_t n);
int pg_source_lock(const pg_source *s, const void *p, size_t n, pg_error *err);
int pg_source_is_mapped(const pg_source *s, const void *p); /* whether p is in a mapped file */
int pg_source_is_cached(const pg_source *s, const void *p); /* 0: reading the byte at p means waiting for the disk */

/* Reading past the system's cache of files, for bytes that are needed once. direct: 1 when the files of s are mapped and
 * can be read so; call it before the first read. read: n bytes from p, in a buffer that begins at a multiple of
 * PG_READ_ALIGN and has room for n + 2 * PG_READ_ALIGN; where in it they begin, or NULL: take them from the mapping.
 * Huge pages under the buffer save more time than anything else. Threads: any, also at once. */
enum { PG_READ_ALIGN = 4096 };
int pg_source_direct(const pg_source *s);
const void *pg_source_read(const pg_source *s, const void *p, size_t n, void *buffer);

/* Hugging Face folders: the bytes of a file beside config.json ("tokenizer.json", "chat_template.jinja"), owned by the
 * source, good until it is closed. 1 found, 0 absent, PG_E*. GGUF: always 0. */
int pg_source_file(pg_source *s, const char *name, pg_text *out, pg_error *err);

#endif
