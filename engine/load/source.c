/* source: opening by what the path is, and the store of names behind it.
 *
 * Lives here: choosing the reader, the hash of names, keys and tensors as they are added, lookups of tensors.
 * Not here: formats (gguf.c, folder.c, safetensors.c), bytes (file.c), typed values (keys.c). */
#include "../../kernels/unpack/panel.h"
#include "reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

struct pg_kept {
    struct pg_kept *next;
    uint64_t data[];
};

void *pg_source_keep(pg_source *s, size_t n)
{
    if (n > PTRDIFF_MAX - sizeof(struct pg_kept)) return NULL;
    struct pg_kept *kept = malloc(sizeof *kept + n);
    if (!kept) return NULL;
    kept->next = s->kept;
    s->kept = kept;
    return kept->data;
}

/* ---- index ---- */

static uint64_t hash(uint64_t seed, const char *name, size_t n)
{
    uint64_t h = seed ^ n * 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = 0;
        memcpy(&word, name + i, n - i < 8 ? n - i : 8);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 29 ^ seed;
    }
    return h ^ h >> 32;
}

static const pg_text *name_of(const void *items, size_t stride, uint32_t slot)
{
    return (const pg_text *)(const void *)((const char *)items + stride * (slot - 1));
}

/* The slot of a name, or the empty one where it belongs; n_slot > 0. */
static uint32_t *find(const pg_index *x, const void *items, size_t stride, const char *name, size_t n)
{
    for (size_t i = hash(x->seed, name, n);; i++) {
        uint32_t *slot = &x->slot[i & (x->n_slot - 1)];
        if (*slot == 0) return slot;
        const pg_text *other = name_of(items, stride, *slot);
        if (other->n == n && memcmp(other->data, name, n) == 0) return slot;
    }
}

/* Make room for item n: at most half of the slots are taken. */
static int reserve(pg_index *x, const void *items, size_t stride, size_t n)
{
    if (x->n_slot >= 2 * (n + 1)) return PG_OK;
    pg_index wide = { .n_slot = x->n_slot ? 2 * x->n_slot : 64, .seed = x->seed };
    wide.slot = calloc(wide.n_slot, sizeof *wide.slot);
    if (!wide.slot) return PG_EMEMORY;
    for (size_t i = 0; i < n; i++) {
        const pg_text *name = name_of(items, stride, (uint32_t)i + 1);
        *find(&wide, items, stride, name->data, name->n) = (uint32_t)i + 1;
    }
    free(x->slot);
    *x = wide;
    return PG_OK;
}

/* Append one item, whose name comes first in it. PG_EINVAL: the name is taken. */
static int append(void **items, int *n, int *room, size_t stride, pg_index *x, const void *item)
{
    if (*n == *room) {
        if (*room > INT32_MAX / 2 - 64) return PG_EMEMORY;
        int wide = 2 * *room + 64;
        void *more = realloc(*items, stride * (size_t)wide);
        if (!more) return PG_EMEMORY;
        *items = more;
        *room = wide;
    }
    if (reserve(x, *items, stride, (size_t)*n) < 0) return PG_EMEMORY;
    const pg_text *name = item;
    uint32_t *slot = find(x, *items, stride, name->data, name->n);
    if (*slot) return PG_EINVAL;
    memcpy((char *)*items + stride * (size_t)*n, item, stride);
    *slot = (uint32_t)++ * n;
    return PG_OK;
}

int pg_source_add_key(pg_source *s, const pg_file *file, const pg_key *key, pg_error *err)
{
    void *items = s->key;
    int rc = append(&items, &s->n_key, &s->key_room, sizeof *key, &s->key_index, key);
    s->key = items;
    if (rc == PG_EMEMORY) return pg_fail(err, rc, "%s: not enough memory for its keys", file->label);
    if (rc < 0) return pg_fail(err, PG_EFORMAT, "%s: key '%.*s' appears twice", file->label, PG_CLIP(key->name));
    return PG_OK;
}

int pg_source_add_tensor(pg_source *s, pg_file *file, pg_text name, const pg_tensor *view, pg_error *err)
{
    pg_source_tensor tensor = { .name = name, .view = *view };
    void *items = s->tensor;
    int rc = append(&items, &s->n_tensor, &s->tensor_room, sizeof tensor, &s->tensor_index, &tensor);
    s->tensor = items;
    if (rc == PG_EMEMORY) return pg_fail(err, rc, "%s: not enough memory for its tensors", file->label);
    if (rc < 0) return pg_fail(err, PG_EFORMAT, "%s: tensor '%.*s' appears twice", file->label, PG_CLIP(name));
    s->bytes += (double)(view->stride[3] * view->shape[3]);
    return PG_OK;
}

int pg_shape_check(pg_tensor *view, pg_dtype dtype, int packed, const uint64_t *dim, int n, size_t *bytes,
                   const char *what, pg_error *err)
{
    const pg_dtype_info *info = pg_dtype_get(dtype);
    *view = (pg_tensor){ .dtype = dtype, .shape = { 1, 1, 1, 1 }, .packed = packed };
    int64_t count = 1, size = 0;
    for (int i = 0; i < n; i++) {
        if (dim[i] == 0) return pg_fail(err, PG_EFORMAT, "%s: dimension %d is 0, expected at least 1", what, i);
        if (dim[i] > INT64_MAX || __builtin_mul_overflow(count, (int64_t)dim[i], &count))
            return pg_fail(err, PG_EFORMAT, "%s: its dimensions multiply to more than 2^63 elements", what);
        view->shape[i] = (int64_t)dim[i];
    }
    if (view->shape[0] % info->block != 0)
        return pg_fail(err, PG_EFORMAT, "%s: rows of %lld elements, expected a multiple of %d for type %s", what,
                       (long long)view->shape[0], info->block, info->name);
    const int64_t whole = packed ? PG_PANEL : 1;
    int64_t rows = view->shape[1];
    int wrong = __builtin_add_overflow(rows, whole - 1, &rows);
    rows -= rows % whole;
    wrong |= __builtin_mul_overflow(view->shape[0] / info->block, (int64_t)info->bytes, &view->stride[1]);
    wrong |= __builtin_mul_overflow(view->stride[1], rows, &view->stride[2]);
    wrong |= __builtin_mul_overflow(view->stride[2], view->shape[2], &view->stride[3]);
    wrong |= __builtin_mul_overflow(view->stride[3], view->shape[3], &size);
    if (wrong || (uint64_t)size > PTRDIFF_MAX)
        return pg_fail(err, PG_EFORMAT, "%s: more bytes than can be addressed", what);
    view->stride[0] = info->bytes;
    *bytes = (size_t)size;
    return PG_OK;
}

/* ---- open and close ---- */

void pg_source_reset(pg_source *s)
{
    for (int i = 0; i < s->n_file; i++) pg_file_free(s->file[i]);
    while (s->kept) {
        struct pg_kept *next = s->kept->next;
        free(s->kept);
        s->kept = next;
    }
    json_decref(s->config);
    free(s->path);
    free(s->file);
    free(s->key);
    free(s->tensor);
    free(s->key_index.slot);
    free(s->tensor_index.slot);
    *s = (pg_source){ .use_mmap = s->use_mmap, .key_index.seed = s->key_index.seed, .label = "" };
    s->tensor_index.seed = s->key_index.seed;
}

int pg_source_set_path(pg_source *s, const char *path, pg_error *err)
{
    s->path = strdup(path);
    if (!s->path) return pg_fail(err, PG_EMEMORY, "%s: not enough memory to open it", pg_label(path));
    s->label = pg_label(s->path);
    return PG_OK;
}

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* A file that belongs to a Hugging Face folder stands for the folder. */
static int is_folder_file(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return strcmp(name, "config.json") == 0 || ends_with(name, ".safetensors") ||
           ends_with(name, ".safetensors.index.json");
}

static int open_parent(pg_source *s, const char *path, pg_error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!folder) return pg_fail(err, PG_EMEMORY, "%s: not enough memory to open it", pg_label(path));
    int rc = pg_folder_open(s, folder, err);
    free(folder);
    return rc;
}

static int open_path(pg_source *s, const char *path, pg_error *err)
{
    struct stat st;
    if (!path || !path[0]) return pg_fail(err, PG_EINVAL, "the path of the model is empty");
    if (stat(path, &st) != 0) return pg_file_errno(path, errno, err);
    if (S_ISDIR(st.st_mode)) return pg_folder_open(s, path, err);
    if (is_folder_file(path)) return open_parent(s, path, err);
    return pg_gguf_open(s, path, err);
}

int pg_source_open(const char *path, int use_mmap, pg_source **out, pg_error *err)
{
    *out = NULL;
    pg_source *s = calloc(1, sizeof *s);
    if (!s) return pg_fail(err, PG_EMEMORY, "not enough memory to open a model");
    s->use_mmap = use_mmap;
    s->key_index.seed = (uint64_t)(uintptr_t)s; /* stays when the system has no better one */
    (void)!getrandom(&s->key_index.seed, sizeof s->key_index.seed, GRND_NONBLOCK);
    pg_source_reset(s);
    int rc = open_path(s, path, err);
    if (rc < 0) {
        pg_source_close(s);
        return rc;
    }
    *out = s;
    return PG_OK;
}

void pg_source_close(pg_source *s)
{
    if (!s) return;
    pg_source_reset(s);
    free(s);
}

/* ---- looking up ---- */

int pg_source_dialect(const pg_source *s)
{
    return s->dialect;
}
const char *pg_source_path(const pg_source *s)
{
    return s->path;
}
double pg_source_bytes(const pg_source *s)
{
    return s->bytes;
}
int pg_source_n_tensor(const pg_source *s)
{
    return s->n_tensor;
}

const pg_source_tensor *pg_source_tensor_at(const pg_source *s, int i)
{
    return i >= 0 && i < s->n_tensor ? &s->tensor[i] : NULL;
}

const pg_source_tensor *pg_source_find(const pg_source *s, const char *name)
{
    if (s->n_tensor == 0) return NULL;
    uint32_t slot = *find(&s->tensor_index, s->tensor, sizeof *s->tensor, name, strlen(name));
    return slot ? &s->tensor[slot - 1] : NULL;
}

int pg_source_key_index(const pg_source *s, const char *name)
{
    if (s->n_key == 0) return -1;
    return (int)*find(&s->key_index, s->key, sizeof *s->key, name, strlen(name)) - 1;
}

int pg_source_n_key(const pg_source *s)
{
    return s->dialect == PG_DIALECT_GGUF ? s->n_key : 0;
}

pg_text pg_source_key_name(const pg_source *s, int i)
{
    return s->key[i].name;
}

pg_text pg_source_key_stored(const pg_source *s, int i)
{
    return pg_gguf_stored(&s->key[i]);
}
