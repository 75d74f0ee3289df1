/* Hugging Face folders.
 *
 * Lives here: config.json as keys, finding the weight files and the shards of an index, other files beside them.
 * Not here: the safetensors container; what a config means (arch/).
 * Why so: nested objects are joined with dots, so that the rest of the engine sees flat keys as GGUF has them. An index
 * may only name plain files of its own folder: a checkpoint must not read what lies elsewhere.
 * Source: layout of transformers checkpoints. */
#include "reader.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NESTING = 16, MAX_KEY = 4096, MAX_BESIDE = 512 << 20 };

/* ---- config.json ---- */

static pg_key_type type_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING: return PG_KEY_STRING;
    case JSON_INTEGER: return PG_KEY_INT;
    case JSON_REAL: return PG_KEY_FLOAT;
    case JSON_TRUE:
    case JSON_FALSE: return PG_KEY_BOOL;
    case JSON_ARRAY: return PG_KEY_ARRAY;
    default: return PG_KEY_NONE;
    }
}

void pg_json_item(const json_t *value, pg_item *out)
{
    *out = (pg_item){ .type = type_of(value) };
    if (out->type == PG_KEY_STRING) out->text = (pg_text){ json_string_value(value), json_string_length(value) };
    if (out->type == PG_KEY_INT) out->i = json_integer_value(value);
    if (out->type == PG_KEY_BOOL) out->i = json_is_true(value);
    out->f = json_number_value(value);
}

/* Add the members of an object, whose own name and a dot are the first n bytes of `name`. */
static int flatten(pg_source *s, const pg_file *file, json_t *object, char *name, size_t n, int depth, pg_error *err)
{
    const char *member;
    json_t *value;
    json_object_foreach(object, member, value)
    {
        size_t m = strlen(member);
        if (json_is_null(value)) continue;
        if (m >= MAX_KEY - n - 1 || depth == MAX_NESTING)
            return pg_fail(err, PG_EFORMAT, "%s: '%.100s' is nested too deep or its name is too long", file->label,
                           member);
        memcpy(name + n, member, m + 1);
        if (json_is_object(value)) {
            name[n + m] = '.';
            int rc = flatten(s, file, value, name, n + m + 1, depth + 1, err);
            if (rc < 0) return rc;
            continue;
        }
        char *kept = pg_source_keep(s, n + m + 1);
        if (!kept) return pg_fail(err, PG_EMEMORY, "%s: not enough memory for its keys", file->label);
        memcpy(kept, name, n + m + 1);
        pg_key key = { .name = { kept, n + m }, .type = type_of(value), .json = value };
        if (key.type == PG_KEY_ARRAY) key.count = (int64_t)json_array_size(value);
        int rc = pg_source_add_key(s, file, &key, err);
        if (rc < 0) return rc;
    }
    return PG_OK;
}

static int open_file(pg_source *s, const char *name, pg_file **out, pg_error *err)
{
    return pg_file_open(s, pg_path_join(s->path, name), out, err);
}

static int read_config(pg_source *s, pg_error *err)
{
    pg_file *file = NULL;
    char name[MAX_KEY];
    int rc = open_file(s, "config.json", &file, err);
    if (rc < 0) return rc;
    s->label = file->label;
    s->config = pg_json_parse((const char *)file->data, file->size, file->label, err);
    if (!s->config) return err ? err->code : PG_EFORMAT;
    if (!json_is_object(s->config)) return pg_fail(err, PG_EFORMAT, "%s: must hold a JSON object", file->label);
    return flatten(s, file, s->config, name, 0, 0, err);
}

/* ---- weights ---- */

/* What lies in the folder, as far as it matters. */
typedef struct listing {
    int config, single, index, n_gguf, pickle, other;
    int64_t n_part, parts; /* model-*-of-*.safetensors seen, and how many the names speak of; -1: they disagree */
    char gguf[256];        /* the first by name */
} listing;

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* "model-00002-of-00007.safetensors" -> 7; 0 when the name is another. */
static int part_count(const char *name)
{
    int no = 0, count = 0, end = 0;
    if (strlen(name) != 32 || sscanf(name, "model-%5d-of-%5d.safetensors%n", &no, &count, &end) != 2 || end != 32)
        return 0;
    return no >= 1 && no <= count ? count : 0;
}

static void note(listing *l, const char *name)
{
    int count = part_count(name);
    l->config |= strcmp(name, "config.json") == 0;
    l->single |= strcmp(name, "model.safetensors") == 0;
    l->index |= strcmp(name, "model.safetensors.index.json") == 0;
    l->other |= ends_with(name, ".safetensors");
    l->pickle |= ends_with(name, ".bin") || ends_with(name, ".pt") || ends_with(name, ".pth");
    if (count > 0) {
        l->parts = l->n_part == 0 || l->parts == count ? count : -1;
        l->n_part++;
    }
    if (ends_with(name, ".gguf")) {
        if (l->n_gguf++ == 0 || strcmp(name, l->gguf) < 0) snprintf(l->gguf, sizeof l->gguf, "%s", name);
    }
}

static int list_folder(const char *folder, listing *l, pg_error *err)
{
    DIR *dir = opendir(folder);
    if (!dir) return pg_file_errno(folder, errno, err);
    *l = (listing){ 0 };
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) note(l, entry->d_name);
    closedir(dir);
    return PG_OK;
}

static int read_weights(pg_source *s, const char *name, pg_error *err)
{
    pg_file *file = NULL;
    int rc = open_file(s, name, &file, err);
    return rc == PG_OK ? pg_safetensors_read(s, file, err) : rc;
}

static int read_parts(pg_source *s, const listing *l, pg_error *err)
{
    if (l->parts < 0)
        return pg_fail(err, PG_EFORMAT, "%s: its model-*-of-*.safetensors disagree on how many they are",
                       pg_label(s->path));
    for (int64_t i = 1; i <= l->parts; i++) {
        char name[64];
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", (int)i, (int)l->parts);
        int rc = read_weights(s, name, err);
        if (rc < 0) return rc;
    }
    return PG_OK;
}

static int is_plain(const char *name)
{
    return name[0] && strlen(name) < 256 && !strchr(name, '/') && !strchr(name, '\\') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

/* Open the file that holds a tensor unless it is open; *out is its place in s->file. `open` maps name to place. */
static int open_shard(pg_source *s, json_t *open, const char *name, const char *what, int *out, pg_error *err)
{
    const json_t *known = json_object_get(open, name);
    if (known) {
        *out = (int)json_integer_value(known);
        return PG_OK;
    }
    if (!is_plain(name) || !ends_with(name, ".safetensors"))
        return pg_fail(err, PG_EFORMAT, "%s: names the file '%.100s', expected a *.safetensors in the same folder",
                       what, name);
    *out = s->n_file;
    if (json_object_set_new(open, name, json_integer(s->n_file)) != 0)
        return pg_fail(err, PG_EMEMORY, "%s: not enough memory", what);
    int rc = read_weights(s, name, err);
    return rc < 0 ? pg_fail_at(err, rc, "%s", what) : PG_OK;
}

static int read_map(pg_source *s, const char *label, json_t *map, json_t *open, pg_error *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach(map, tensor, value)
    {
        char what[360];
        int at = 0;
        snprintf(what, sizeof what, "%s: tensor '%.100s'", label, tensor);
        if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
            return pg_fail(err, PG_EFORMAT, "%s: 'weight_map' must give a file name", what);
        int rc = open_shard(s, open, json_string_value(value), what, &at, err);
        if (rc < 0) return rc;
        const pg_source_tensor *found = pg_source_find(s, tensor);
        const pg_file *file = s->file[at];
        const uint8_t *data = found ? found->view.data : NULL;
        if (!data || data < file->data || data >= file->data + file->size)
            return pg_fail(err, PG_EFORMAT, "%s: 'weight_map' says it is in %.100s, but it is not", what,
                           json_string_value(value));
    }
    return PG_OK;
}

static int read_index(pg_source *s, pg_error *err)
{
    pg_file *file = NULL;
    int rc = open_file(s, "model.safetensors.index.json", &file, err);
    if (rc < 0) return rc;
    json_t *root = pg_json_parse((const char *)file->data, file->size, file->label, err);
    if (!root) return err ? err->code : PG_EFORMAT;
    json_t *map = NULL, *open = json_object();
    rc = pg_json_get(root, "weight_map", JSON_OBJECT, file->label, &map, err);
    if (rc == 0) rc = pg_fail(err, PG_EFORMAT, "%s: 'weight_map' is missing", file->label);
    if (rc > 0) rc = open ? read_map(s, file->label, map, open, err) : pg_fail(err, PG_EMEMORY, "not enough memory");
    json_decref(open);
    json_decref(root);
    return rc;
}

static int no_weights(const pg_source *s, const listing *l, pg_error *err)
{
    const char *path = pg_label(s->path);
    if (l->other)
        return pg_fail(err, PG_ENOTFOUND,
                       "%s: has neither model.safetensors, model.safetensors.index.json nor model-*-of-*.safetensors",
                       path);
    if (l->pickle)
        return pg_fail(
            err, PG_EUNSUPPORTED,
            "%s: its weights are pickle files (.bin, .pt), which can run code and are never read; convert them "
            "to safetensors",
            path);
    return pg_fail(err, PG_ENOTFOUND, "%s: has a config.json but no *.safetensors", path);
}

static int no_config(const char *folder, const listing *l, pg_error *err)
{
    if (l->n_gguf > 0)
        return pg_fail(err, PG_ENOTFOUND, "%s: has no config.json; to use the GGUF model in it, open the file %s",
                       pg_label(folder), l->gguf);
    return pg_fail(err, PG_ENOTFOUND, "%s: has no config.json; expected a Hugging Face folder or a GGUF file",
                   pg_label(folder));
}

int pg_folder_open(pg_source *s, const char *folder, pg_error *err)
{
    listing l;
    int rc = list_folder(folder, &l, err);
    if (rc < 0) return rc;
    if (!l.config) return no_config(folder, &l, err);
    s->dialect = PG_DIALECT_HF;
    rc = pg_source_set_path(s, folder, err);
    if (rc == PG_OK) rc = read_config(s, err);
    if (rc < 0) return rc;
    if (l.single) return read_weights(s, "model.safetensors", err);
    if (l.index) return read_index(s, err);
    if (l.n_part > 0) return read_parts(s, &l, err);
    return no_weights(s, &l, err);
}

/* ---- other files ---- */

int pg_source_file(pg_source *s, const char *name, pg_text *out, pg_error *err)
{
    if (s->dialect != PG_DIALECT_HF) return 0;
    if (!is_plain(name)) return pg_fail(err, PG_EINVAL, "'%.100s' is not a plain file name", name);
    pg_file *file = NULL;
    size_t n = strlen(name);
    for (int i = 0; i < s->n_file; i++) {
        const char *path = s->file[i]->path;
        size_t m = strlen(path);
        if (m > n && path[m - n - 1] == '/' && strcmp(path + m - n, name) == 0) file = s->file[i];
    }
    int rc = file ? PG_OK : open_file(s, name, &file, err);
    if (rc == PG_ENOTFOUND) return 0;
    if (rc < 0) return rc;
    if (file->size > MAX_BESIDE)
        return pg_fail(err, PG_ELIMIT, "%s: %zu bytes, more than the limit of %d", file->label, file->size, MAX_BESIDE);
    *out = (pg_text){ (const char *)file->data, file->size };
    return 1;
}
