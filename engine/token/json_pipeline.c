/* The stages of tokenizer.json: normalizer, pre_tokenizer, decoder.
 *
 * Lives here: each stage's "type" and members, mapped to normals, steps and the few facts that decoding needs.
 * Not here: running them (normal.c, split.c, decode.c). */
#include "tokenizer.h"

#include <stdio.h>

#include "utf8.h"

enum { DEPTH = 8 }; /* Sequences in Sequences */

/* Which stage is being read; its name opens every message. */
typedef struct stage {
    const char *what; /* "FILE: normalizer" */
    pg_tokenizer *t;
    int depth;
    pg_error *err;
    /* decoder */
    bool bytes, fused, stripped, marked;
} stage;

typedef int read_fn(stage *g, const json_t *node, const char *type);

static int refuse(stage *g, const char *type, const char *member)
{
    return pg_fail(g->err, PG_EUNSUPPORTED, "%s: '%.60s'%s%s is not supported", g->what, type,
                   member ? " with this " : "", member ? member : "");
}

static bool flag(const json_t *node, const char *key, bool otherwise)
{
    const json_t *value = json_object_get(node, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static int get_text(stage *g, const json_t *node, const char *key, pg_text *out)
{
    json_t *value;
    int rc = pg_json_get(node, key, JSON_STRING, g->what, &value, g->err);
    if (rc == 0) rc = pg_fail(g->err, PG_EFORMAT, "%s: '%s' is missing", g->what, key);
    if (rc > 0) *out = (pg_text){ json_string_value(value), json_string_length(value) };
    return rc;
}

/* A member "pattern": {"Regex": text} or {"String": text}. */
static int get_pattern(stage *g, const json_t *node, pg_text *out, bool *literal)
{
    json_t *pattern;
    int rc = pg_json_get(node, "pattern", JSON_OBJECT, g->what, &pattern, g->err);
    if (rc == 0) rc = pg_fail(g->err, PG_EFORMAT, "%s: 'pattern' is missing", g->what);
    if (rc < 0) return rc;
    *literal = json_object_get(pattern, "String") != NULL;
    rc = get_text(g, pattern, *literal ? "String" : "Regex", out);
    if (rc >= 0 && out->n == 0) rc = pg_fail(g->err, PG_EFORMAT, "%s: the pattern is empty", g->what);
    return rc;
}

/* One character, terminated. */
static int get_mark(stage *g, const json_t *node, char mark[8])
{
    pg_text text = { 0 };
    uint32_t point;
    int rc = get_text(g, node, "replacement", &text);
    if (rc < 0) return rc;
    if (text.n == 0 || pg_utf8_read(text.data, text.n, &point) != text.n || point == 0)
        return pg_fail(g->err, PG_EFORMAT, "%s: 'replacement' must be one character", g->what);
    memcpy(mark, text.data, text.n);
    mark[text.n] = 0;
    return PG_OK;
}

/* Metaspace's prepend_scheme, or the add_prefix_space that came before it. */
static int get_scheme(stage *g, const json_t *node, pg_scheme *out)
{
    const char *scheme = json_string_value(json_object_get(node, "prepend_scheme"));
    if (!scheme) scheme = flag(node, "add_prefix_space", true) ? "always" : "never";
    if (strcmp(scheme, "always") != 0 && strcmp(scheme, "first") != 0 && strcmp(scheme, "never") != 0)
        return refuse(g, "Metaspace", "prepend_scheme");
    *out = scheme[0] == 'a' ? PG_SCHEME_ALWAYS : scheme[0] == 'f' ? PG_SCHEME_FIRST : PG_SCHEME_NEVER;
    return PG_OK;
}

/* Read a node, or the nodes of a Sequence, whose list has the name `list`. */
static int walk(stage *g, const json_t *node, const char *list, read_fn *read)
{
    if (!node || json_is_null(node)) return PG_OK;
    const char *type = json_string_value(json_object_get(node, "type"));
    if (!type) return pg_fail(g->err, PG_EFORMAT, "%s: expected null or an object with a 'type'", g->what);
    if (strcmp(type, "Sequence") != 0) return read(g, node, type);
    json_t *members, *member;
    size_t i;
    int rc = pg_json_get(node, list, JSON_ARRAY, g->what, &members, g->err);
    if (rc == 0 || (rc > 0 && g->depth == DEPTH)) return refuse(g, type, "nesting");
    if (rc < 0) return rc;
    g->depth++;
    json_array_foreach(members, i, member)
    {
        rc = walk(g, member, list, read);
        if (rc < 0) return rc;
    }
    g->depth--;
    return PG_OK;
}

/* ---- normalizer ------------------------------------------------------------------------------------------------------ */

static int read_normal(stage *g, const json_t *node, const char *type)
{
    pg_text find = { 0 }, text = { 0 };
    bool literal = true;
    pg_normal_kind kind;
    int rc = PG_OK;
    if (strcmp(type, "NFC") == 0) {
        kind = PG_NORMAL_NFC;
    } else if (strcmp(type, "Prepend") == 0) {
        kind = PG_NORMAL_PREPEND;
        rc = get_text(g, node, "prepend", &text);
    } else if (strcmp(type, "Replace") == 0) {
        kind = PG_NORMAL_REPLACE;
        rc = get_pattern(g, node, &find, &literal);
        if (rc >= 0) rc = get_text(g, node, "content", &text);
    } else {
        return refuse(g, type, NULL);
    }
    pg_normal *step = rc < 0 ? NULL : pg_normals_add(&g->t->normals, g->err);
    if (!step) return rc < 0 ? rc : PG_EMEMORY;
    step->kind = kind;
    if (!pg_buf_add(&step->text, text.data, text.n) || (literal && !pg_buf_add(&step->find, find.data, find.n)))
        return pg_fail(g->err, PG_EMEMORY, "%s: not enough memory", g->what);
    return literal ? PG_OK : pg_regex_open(find.data, find.n, false, g->what, &step->re, g->err);
}

/* ---- pre_tokenizer ----------------------------------------------------------------------------------------------------- */

static int add_split(stage *g, const char *pattern, size_t n, bool literal, pg_behavior behavior, bool invert)
{
    pg_step *step = pg_steps_add(&g->t->steps, PG_STEP_SPLIT, g->err);
    if (!step) return PG_EMEMORY;
    step->behavior = behavior;
    step->invert = invert;
    return pg_regex_open(pattern, n, literal, g->what, &step->re, g->err);
}

static int read_split(stage *g, const json_t *node)
{
    static const char *const name[] = { "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous" };
    pg_text pattern;
    bool literal;
    const char *behavior = json_string_value(json_object_get(node, "behavior"));
    int rc = get_pattern(g, node, &pattern, &literal);
    if (rc < 0) return rc;
    for (int i = 0; behavior && i < 5; i++)
        if (strcmp(behavior, name[i]) == 0)
            return add_split(g, pattern.data, pattern.n, literal, (pg_behavior)i, flag(node, "invert", false));
    return refuse(g, "Split", "behavior");
}

static int read_byte_level(stage *g, const json_t *node)
{
    int rc = PG_OK;
    if (flag(node, "add_prefix_space", true) && !pg_steps_add(&g->t->steps, PG_STEP_SPACE, g->err)) return PG_EMEMORY;
    if (flag(node, "use_regex", true)) rc = pg_steps_split(&g->t->steps, pg_pre_gpt2, g->err);
    if (rc >= 0 && !pg_steps_add(&g->t->steps, PG_STEP_BYTES, g->err)) rc = PG_EMEMORY;
    g->t->byte_level = true;
    return rc;
}

static int read_metaspace(stage *g, const json_t *node)
{
    pg_step step = { .kind = PG_STEP_META };
    int rc = get_mark(g, node, step.mark);
    if (rc >= 0) rc = get_scheme(g, node, &step.scheme);
    pg_step *added = rc < 0 ? NULL : pg_steps_add(&g->t->steps, PG_STEP_META, g->err);
    if (!added) return rc < 0 ? rc : PG_EMEMORY;
    *added = step;
    return flag(node, "split", true) ? add_split(g, step.mark, strlen(step.mark), true, PG_WITH_NEXT, false) : PG_OK;
}

static int read_step(stage *g, const json_t *node, const char *type)
{
    if (strcmp(type, "Split") == 0) return read_split(g, node);
    if (strcmp(type, "ByteLevel") == 0) return read_byte_level(g, node);
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(g, node);
    if (strcmp(type, "Digits") == 0)
        return add_split(g, "\\p{N}", 5, false, flag(node, "individual_digits", false) ? PG_ISOLATED : PG_CONTIGUOUS,
                         false);
    return refuse(g, type, NULL);
}

/* ---- decoder ----------------------------------------------------------------------------------------------------------- */

static int read_strip(stage *g, const json_t *node)
{
    const char *content = json_string_value(json_object_get(node, "content"));
    json_int_t start = json_integer_value(json_object_get(node, "start"));
    if (!content || strcmp(content, " ") != 0 || !g->fused || start < 0 || start > 1 ||
        json_integer_value(json_object_get(node, "stop")) != 0)
        return refuse(g, "Strip", "combination of members");
    g->stripped = start == 1;
    return PG_OK;
}

/* What the decoder puts in the place of a mark can only be a space: that is what every vocabulary with marks has. */
static int read_replace(stage *g, const json_t *node)
{
    pg_text find = { 0 }, text = { 0 };
    bool literal;
    int rc = get_pattern(g, node, &find, &literal);
    if (rc >= 0) rc = get_text(g, node, "content", &text);
    if (rc < 0) return rc;
    if (!literal || text.n != 1 || text.data[0] != ' ' || find.n >= sizeof g->t->mark || strlen(find.data) != find.n ||
        g->marked)
        return refuse(g, "Replace", "pattern and content");
    strcpy(g->t->mark, find.data);
    g->marked = true;
    return PG_OK;
}

static int read_decoder(stage *g, const json_t *node, const char *type)
{
    if (strcmp(type, "Strip") == 0) return read_strip(g, node);
    if (strcmp(type, "Replace") == 0) return read_replace(g, node);
    if (strcmp(type, "ByteLevel") == 0) {
        g->bytes = true;
    } else if (strcmp(type, "Fuse") == 0) {
        g->fused = true;
    } else if (strcmp(type, "Metaspace") == 0) {
        pg_scheme scheme;
        int rc = g->marked ? refuse(g, type, "neighbours") : get_mark(g, node, g->t->mark);
        if (rc >= 0) rc = get_scheme(g, node, &scheme);
        if (rc < 0) return rc;
        g->marked = true;
        g->stripped = scheme != PG_SCHEME_NEVER;
    } else if (strcmp(type, "ByteFallback") != 0) { /* byte tokens are always decoded as bytes */
        return refuse(g, type, NULL);
    }
    return PG_OK;
}

int pg_tokenizer_read_pipeline(const json_t *root, const char *what, pg_tokenizer *t, pg_error *err)
{
    char name[300];
    stage g = { .what = name, .t = t, .err = err };
    snprintf(name, sizeof name, "%.250s: normalizer", what);
    int rc = walk(&g, json_object_get(root, "normalizer"), "normalizers", read_normal);
    snprintf(name, sizeof name, "%.250s: pre_tokenizer", what);
    if (rc >= 0) rc = walk(&g, json_object_get(root, "pre_tokenizer"), "pretokenizers", read_step);
    const json_t *decoder = json_object_get(root, "decoder");
    snprintf(name, sizeof name, "%.250s: decoder", what);
    if (rc >= 0) rc = walk(&g, decoder, "decoders", read_decoder);
    if (rc < 0) return rc;
    if (decoder && !json_is_null(decoder)) t->byte_level = g.bytes;
    t->drop_space = g.stripped;
    return PG_OK;
}
