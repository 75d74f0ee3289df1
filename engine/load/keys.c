/* Typed values of keys.
 *
 * Lives here: the getters of source.h, with the one message they share. Not here: decoding a value (gguf.c, folder.c).
 * Why so: both formats decode into pg_item, so ranges, kinds of numbers and NaN are judged once. */
#include "reader.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const pg_key *key_of(const pg_source *s, const char *name)
{
    int i = pg_source_key_index(s, name);
    return i < 0 ? NULL : &s->key[i];
}

pg_key_type pg_source_key(const pg_source *s, const char *name)
{
    const pg_key *key = key_of(s, name);
    return key ? key->type : PG_KEY_NONE;
}

int64_t pg_source_count(const pg_source *s, const char *name)
{
    const pg_key *key = key_of(s, name);
    return key && key->type == PG_KEY_ARRAY ? key->count : 0;
}

static void describe(char *out, size_t n, const pg_item *item)
{
    if (item->type == PG_KEY_INT && item->huge)
        snprintf(out, n, "%.0f", item->f);
    else if (item->type == PG_KEY_INT)
        snprintf(out, n, "%lld", (long long)item->i);
    else if (item->type == PG_KEY_FLOAT)
        snprintf(out, n, "the number %g", item->f);
    else if (item->type == PG_KEY_BOOL)
        snprintf(out, n, "%s", item->i ? "true" : "false");
    else if (item->type == PG_KEY_STRING)
        snprintf(out, n, "the string '%.*s'", item->text.n < 60 ? (int)item->text.n : 60, item->text.data);
    else
        snprintf(out, n, "%s", item->type == PG_KEY_ARRAY ? "an array" : "neither a number nor a text");
}

/* PG_EFORMAT: the value at index `at` (< 0: the key itself) is not what was expected. */
static int wrong(const pg_source *s, const char *name, int64_t at, const char *expected, const pg_item *item,
                 pg_error *err)
{
    char is[160], where[32] = "";
    describe(is, sizeof is, item);
    if (at >= 0) snprintf(where, sizeof where, "[%lld]", (long long)at);
    return pg_fail(err, PG_EFORMAT, "%s: key '%.120s'%s must be %s, but is %s", s->label, name, where, expected, is);
}

/* Fetch one value; at < 0: the key itself. 1 there, 0 absent, PG_EFORMAT no such element. */
static int fetch(const pg_source *s, const char *name, int64_t at, pg_item *item, pg_error *err)
{
    const pg_key *key = key_of(s, name);
    if (!key) return 0;
    *item = (pg_item){ .type = PG_KEY_ARRAY };
    if (at < 0 && key->type == PG_KEY_ARRAY) return 1;
    if (at >= 0 && key->type != PG_KEY_ARRAY)
        return pg_fail(err, PG_EFORMAT, "%s: key '%.120s' must be an array", s->label, name);
    if (at >= key->count && key->type == PG_KEY_ARRAY)
        return pg_fail(err, PG_EFORMAT, "%s: key '%.120s' has %lld elements, expected at least %lld", s->label, name,
                       (long long)key->count, (long long)at + 1);
    if (key->json)
        pg_json_item(at < 0 ? key->json : json_array_get(key->json, (size_t)at), item);
    else
        pg_gguf_item(key, at, item);
    return 1;
}

static int get_int(const pg_source *s, const char *name, int64_t at, int64_t min, int64_t max, int64_t *out,
                   pg_error *err)
{
    pg_item item;
    int rc = fetch(s, name, at, &item, err);
    if (rc <= 0) return rc;
    int is_int = item.type == PG_KEY_INT || (item.type == PG_KEY_BOOL && at >= 0);
    if (!is_int || item.huge || item.i < min || item.i > max) {
        char expected[80];
        snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)min, (long long)max);
        return wrong(s, name, at, expected, &item, err);
    }
    *out = item.i;
    return 1;
}

static int get_float(const pg_source *s, const char *name, int64_t at, double *out, pg_error *err)
{
    pg_item item;
    int rc = fetch(s, name, at, &item, err);
    if (rc <= 0) return rc;
    if ((item.type != PG_KEY_FLOAT && item.type != PG_KEY_INT) || !isfinite(item.f))
        return wrong(s, name, at, "a finite number", &item, err);
    *out = item.f;
    return 1;
}

static int get_text(const pg_source *s, const char *name, int64_t at, pg_text *out, pg_error *err)
{
    pg_item item;
    int rc = fetch(s, name, at, &item, err);
    if (rc <= 0) return rc;
    if (item.type != PG_KEY_STRING) return wrong(s, name, at, "a string", &item, err);
    *out = item.text;
    return 1;
}

int pg_source_int(const pg_source *s, const char *name, int64_t min, int64_t max, int64_t *out, pg_error *err)
{
    return get_int(s, name, -1, min, max, out, err);
}

int pg_source_float(const pg_source *s, const char *name, double *out, pg_error *err)
{
    return get_float(s, name, -1, out, err);
}

int pg_source_text(const pg_source *s, const char *name, pg_text *out, pg_error *err)
{
    return get_text(s, name, -1, out, err);
}

int pg_source_bool(const pg_source *s, const char *name, int *out, pg_error *err)
{
    pg_item item;
    int rc = fetch(s, name, -1, &item, err);
    if (rc <= 0) return rc;
    if (item.type != PG_KEY_BOOL) return wrong(s, name, -1, "true or false", &item, err);
    *out = (int)item.i;
    return 1;
}

static int bad_index(const pg_source *s, const char *name, int64_t i, pg_error *err)
{
    return pg_fail(err, PG_EINVAL, "%s: key '%.120s' was asked for element %lld", s->label, name, (long long)i);
}

int pg_source_int_at(const pg_source *s, const char *name, int64_t i, int64_t min, int64_t max, int64_t *out,
                     pg_error *err)
{
    return i < 0 ? bad_index(s, name, i, err) : get_int(s, name, i, min, max, out, err);
}

int pg_source_float_at(const pg_source *s, const char *name, int64_t i, double *out, pg_error *err)
{
    return i < 0 ? bad_index(s, name, i, err) : get_float(s, name, i, out, err);
}

int pg_source_text_at(const pg_source *s, const char *name, int64_t i, pg_text *out, pg_error *err)
{
    return i < 0 ? bad_index(s, name, i, err) : get_text(s, name, i, out, err);
}

int pg_source_each_text(const pg_source *s, const char *name, int (*see)(void *ud, int64_t i, pg_text text), void *ud,
                        pg_error *err)
{
    const pg_key *key = key_of(s, name);
    if (!key) return pg_fail(err, PG_ENOTFOUND, "%s: key '%.120s' is missing", s->label, name);
    if (key->type != PG_KEY_ARRAY || (!key->json && !key->marks && key->count > 0))
        return pg_fail(err, PG_EFORMAT, "%s: key '%.120s' must be an array of strings", s->label, name);
    const uint8_t *p = key->data;
    for (int64_t i = 0; i < key->count; i++) {
        pg_text text;
        int rc = key->json ? get_text(s, name, i, &text, err) : PG_OK;
        if (!key->json) text = pg_gguf_string(&p);
        if (rc >= 0) rc = see(ud, i, text);
        if (rc < 0) return rc;
    }
    return PG_OK;
}
