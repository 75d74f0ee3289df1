/* Tokenizers against the golden vectors: text to ids, ids to bytes (at once and as a stream), bytes that are no text.
 * Every folder is run from vocab.gguf and, where there is one, from tokenizer.json. */
#include "check.h"

#include <dirent.h>
#include <jansson.h>

#include "../../engine/token/token.h"

enum { MAX_IDS = 1 << 16, MAX_BYTES = 1 << 18 };

static pg_tokenizer *t;
static const char *loader; /* as the cases call it */
static char where[600];
static int32_t ids[MAX_IDS];
static char bytes[MAX_BYTES];

static int same_ids(const json_t *want, int32_t n)
{
    if ((int32_t)json_array_size(want) != n) return 0;
    for (int32_t i = 0; i < n; i++)
        if (json_integer_value(json_array_get(want, (size_t)i)) != ids[i]) return 0;
    return 1;
}

static const char *show(int32_t n)
{
    static char line[400];
    size_t used = 0;
    for (int32_t i = 0; i < n && used < sizeof line - 12; i++)
        used += (size_t)snprintf(line + used, sizeof line - used, "%d ", ids[i]);
    return line;
}

static size_t from_hex(const json_t *hex, char *out)
{
    const char *s = json_string_value(hex);
    size_t n = s ? strlen(s) / 2 : 0;
    for (size_t i = 0; i < n; i++) {
        unsigned byte = 0;
        sscanf(s + 2 * i, "%2x", &byte);
        out[i] = (char)byte;
    }
    return n;
}

static void encode_case(const json_t *line)
{
    const char *only = json_string_value(json_object_get(line, "loader"));
    if (only && strcmp(only, loader) != 0) return;
    const json_t *text = json_object_get(line, "text");
    int32_t flags = json_is_true(json_object_get(line, "special")) ? PG_ENCODE_SPECIAL : 0;
    if (!json_is_true(json_object_get(line, "bos"))) flags |= PG_ENCODE_NO_BOS;
    pg_error err;
    int n = pg_encode(t, json_string_value(text), json_string_length(text), flags, ids, MAX_IDS, &err);
    CHECK(n >= 0 && same_ids(json_object_get(line, "ids"), n), "%s (%s): %s gave %s", where, loader,
          json_string_value(text), n < 0 ? err.text : show(n));
}

static void stream_case(const json_t *line, int32_t n)
{
    pg_detok *d;
    const char *text;
    char want[4096];
    int32_t size;
    if (pg_detok_open(t, json_is_true(json_object_get(line, "special")), &d, NULL) < 0) abort();
    int same = 1;
    for (int32_t i = 0; i < n; i++) {
        size_t n_want = from_hex(json_array_get(json_object_get(line, "pieces_hex"), (size_t)i), want);
        if (pg_detok_next(d, ids[i], &text, &size, NULL) < 0) size = -1;
        same &= size == (int32_t)n_want && memcmp(text, want, n_want) == 0;
    }
    size_t n_want = from_hex(json_object_get(line, "rest_hex"), want);
    pg_detok_rest(d, &text, &size);
    same &= size == (int32_t)n_want && memcmp(text, want, n_want) == 0;
    CHECK(same, "%s (%s): stream of %s", where, loader, show(n));
    pg_detok_close(d);
}

static void decode_case(const json_t *line)
{
    static char want[MAX_BYTES];
    const json_t *list = json_object_get(line, "ids");
    int32_t n = (int32_t)json_array_size(list);
    for (int32_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    size_t n_want = from_hex(json_object_get(line, "hex"), want);
    int special = json_is_true(json_object_get(line, "special"));
    int got = pg_decode(t, ids, n, special, bytes, MAX_BYTES, NULL);
    CHECK(got == (int)n_want && memcmp(bytes, want, n_want) == 0, "%s (%s): decode of %s", where, loader, show(n));
    stream_case(line, n);
}

static void invalid_case(const json_t *line)
{
    size_t n_bytes = from_hex(json_object_get(line, "hex"), bytes), i;
    int32_t flags = PG_ENCODE_NO_BOS | (json_is_true(json_object_get(line, "special")) ? PG_ENCODE_SPECIAL : 0);
    int n = pg_encode(t, bytes, n_bytes, flags, ids, MAX_IDS, NULL), right = 0;
    json_t *accept;
    json_array_foreach(json_object_get(line, "accept"), i, accept) right |= same_ids(accept, n);
    CHECK(right, "%s (%s): bytes %s gave %s", where, loader, json_string_value(json_object_get(line, "hex")), show(n));
}

static void run_lines(const char *folder, const char *file, void (*run)(const json_t *line))
{
    static char line[1 << 20];
    snprintf(where, sizeof where, "%s/%s", folder, file);
    FILE *in = fopen(where, "rb");
    CHECK(in != NULL, "%s: cannot be read", where);
    for (int number = 1; in && fgets(line, sizeof line, in); number++) {
        json_t *root = json_loads(line, JSON_ALLOW_NUL, NULL);
        snprintf(where, sizeof where, "%s/%s:%d", folder, file, number);
        CHECK(root != NULL, "%s: not JSON", where);
        if (root) run(root);
        json_decref(root);
    }
    if (in) fclose(in);
}

static void check_meta(const char *folder)
{
    char path[600];
    snprintf(path, sizeof path, "%s/meta.json", folder);
    json_t *meta = json_load_file(path, 0, NULL);
    pg_tokenizer_info info;
    pg_tokenizer_describe(t, &info);
    const char *pre = json_string_value(json_object_get(meta, "pre"));
    int spm = !strcmp(json_string_value(json_object_get(meta, "model")), "llama");
    char kind[64];
    snprintf(kind, sizeof kind, "%s%s%s", spm ? "spm" : "bpe ", spm ? "" : pre, "");
    if (strcmp(loader, "gguf") != 0) strcpy(kind, "bpe json");
    CHECK(strcmp(info.kind, kind) == 0, "%s: kind '%s', expected '%s'", folder, info.kind, kind);
    CHECK(info.n_vocab == json_integer_value(json_object_get(meta, "n_vocab")), "%s: n_vocab %d", folder, info.n_vocab);
    CHECK(info.add_bos == json_is_true(json_object_get(meta, "add_bos_effective")), "%s (%s): add_bos %d", folder,
          loader, info.add_bos);
    if (strcmp(loader, "gguf") == 0 || info.add_bos)
        CHECK(info.bos == json_integer_value(json_object_get(meta, "bos")), "%s: bos %d", folder, info.bos);
    if (strcmp(loader, "gguf") == 0)
        CHECK(info.eos == json_integer_value(json_object_get(meta, "eos")), "%s: eos %d", folder, info.eos);
    CHECK(pg_token_is_eog(t, info.eos), "%s (%s): eos does not end a generation", folder, loader);
    json_decref(meta);
}

static void run_folder(const char *folder, const char *file)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *there = fopen(path, "rb");
    if (!there) return;
    fclose(there);
    pg_error err;
    int rc = pg_tokenizer_open(path, &t, &err);
    CHECK(rc == PG_OK, "%s: %s", path, err.text);
    if (rc < 0) return;
    check_meta(folder);
    run_lines(folder, "cases.jsonl", encode_case);
    run_lines(folder, "decode.jsonl", decode_case);
    run_lines(folder, "invalid.jsonl", invalid_case);
    pg_tokenizer_close(t);
}

/* By path, and from a source that is closed before the tokenizer is used. */
static int open_either(const char *path, int from_source, pg_error *err)
{
    pg_source *s;
    if (!from_source) return pg_tokenizer_open(path, &t, err);
    int rc = pg_source_open(path, 1, &s, err);
    if (rc < 0) return rc;
    rc = pg_tokenizer_from_source(s, &t, err);
    pg_source_close(s);
    return rc;
}

/* The tokenizers of the golden models: both files give the same ids, by path and from a source. */
static void run_model(const char *folder)
{
    static const char text[] = "The quick brown fox.\n  It's 1234 \xe4\xbd\xa0\xe5\xa5\xbd <|eos|>";
    static const char *const file[] = { "hf", "model.gguf" };
    char path[600];
    int32_t n[4] = { 0 }, got[4][200];
    for (int i = 0; i < 4; i++) {
        pg_error err = { 0 };
        snprintf(path, sizeof path, "%s/%s", folder, file[i / 2]);
        DIR *there = opendir(path);
        FILE *in = fopen(path, "rb");
        if (in) fclose(in);
        if (there) closedir(there);
        if (!in && !there) return;
        int rc = open_either(path, i % 2, &err);
        CHECK(rc == PG_OK, "%s: %s", path, err.text);
        if (rc < 0) return;
        n[i] = pg_encode(t, text, sizeof text - 1, PG_ENCODE_SPECIAL, got[i], 200, &err);
        CHECK(n[i] > 0 && got[i][0] == 0 && got[i][n[i] - 1] == 1, "%s: bos and <|eos|>: %d ids", path, n[i]);
        CHECK(n[i] == n[0] && memcmp(got[i], got[0], sizeof(int32_t) * (size_t)n[0]) == 0, "%s: ids differ", path);
        pg_tokenizer_close(t);
    }
}

static int each_folder(const char *parent, void (*run)(const char *folder))
{
    DIR *dir = opendir(parent);
    if (!dir) {
        printf("golden folder %s is absent: its cases did not run\n", parent);
        return 0;
    }
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[512];
        if (entry->d_name[0] == '.' || strchr(entry->d_name, '.')) continue;
        snprintf(path, sizeof path, "%.200s/%.200s", parent, entry->d_name);
        run(path);
        n++;
    }
    closedir(dir);
    return n;
}

static void run_both(const char *folder)
{
    loader = "gguf";
    run_folder(folder, "vocab.gguf");
    loader = "tokenizer.json";
    run_folder(folder, "tokenizer.json");
}

int main(void)
{
    const char *golden = getenv("PERIGEE_GOLDEN");
    char path[400];
    snprintf(path, sizeof path, "%.300s/tokenizers", golden ? golden : "../shared/golden");
    int n = each_folder(path, run_both);
    snprintf(path, sizeof path, "%.300s/models", golden ? golden : "../shared/golden");
    n += each_folder(path, run_model);
    if (n == 0) check_passed++; /* nothing to run is no failure here */
    return check_done("token_golden");
}
