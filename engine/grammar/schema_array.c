/* schema_array.c: arrays: fixed first items, any number of further ones, bounds on how many. */
#include "schema.h"

#include <stdlib.h>

/* The schemas that hold for item i, or for those behind all fixed ones (i = SIZE_MAX). */
static json_t *schemas_of(const pg_facts *f, size_t i)
{
    json_t *list = json_array(), *part;
    size_t p;
    json_array_foreach(f->parts, p, part)
    {
        json_t *fixed = json_object_get(part, "prefixItems");
        json_t *schema = i < json_array_size(fixed) ? json_array_get(fixed, i) : json_object_get(part, "items");
        if (!schema && json_array_size(f->parts) == 1) schema = json_object_get(part, "unevaluatedItems");
        if (schema && list) json_array_append(list, schema);
    }
    return list;
}

static size_t count_fixed(const pg_facts *f)
{
    size_t most = 0, p;
    json_t *part;
    json_array_foreach(f->parts, p, part)
    {
        const size_t n = json_array_size(json_object_get(part, "prefixItems"));
        if (n > most) most = n;
    }
    return most;
}

static int write_item(pg_schema *s, pg_buf *b, const pg_facts *f, size_t i, const pg_where *at)
{
    const pg_where fixed = { at, "prefixItems", 0 }, item = { &fixed, NULL, i }, rest = { at, "items", 0 };
    json_t *list = schemas_of(f, i);
    int rc = pg_schema_refer_all(s, b, list, i == SIZE_MAX ? &rest : &item);
    json_decref(list);
    return rc > 0 ? pg_schema_put(s, b, " ws") : rc;
}

/* Behind n items: as many further ones as the bounds want. */
static int write_rest(pg_schema *s, pg_buf *b, const char *item, int64_t n, int64_t least, int64_t most,
                      const pg_where *at)
{
    pg_buf more = { 0 };
    int rc = pg_schema_put(s, &more, "(\",\" ws %s)", item);
    const bool first = n == 0;
    const int64_t low = least > n + first ? least - n - first : 0;
    const int64_t high = most == PG_SCHEMA_NO_LIMIT ? most : most - n - first;
    if (most == n) {
        free(more.data);
        return rc;
    }
    if (rc > 0 && first) rc = pg_schema_put(s, b, "(%s", item);
    if (rc > 0) rc = pg_schema_repeat(s, b, more.data, low, high, at);
    if (rc > 0 && first) rc = pg_schema_put(s, b, least > 0 ? ")" : ")?");
    free(more.data);
    return rc;
}

int pg_schema_array(pg_schema *s, pg_buf *b, const pg_facts *f, const pg_where *at)
{
    const int64_t least = f->min_items;
    int64_t most = f->max_items;
    size_t n = count_fixed(f);
    pg_buf rest = { 0 }, body = { 0 };
    json_t *items = json_array(); /* of the fixed ones, as text */
    int rc = items ? 1 : pg_fail(s->err, PG_EMEMORY, "not enough memory for a grammar");
    if (f->unique && !(most >= 0 && most <= 1)) {
        const pg_where here = { at, "uniqueItems", 0 };
        rc = pg_schema_refuse(s, PG_EUNSUPPORTED, &here, "cannot be held: only arrays of one item at most");
    }
    for (size_t i = 0; rc > 0 && i < n && (most < 0 || (int64_t)i < most); i++) {
        body.n = 0;
        rc = write_item(s, &body, f, i, at);
        if (rc > 0) rc = json_array_append_new(items, json_stringn(body.data, body.n)) ? -1 : 1;
        if (rc == 0) {
            most = (int64_t)i;
            rc = 1;
        }
    }
    n = json_array_size(items);
    if (rc > 0 && (most < 0 || most > (int64_t)n)) rc = write_item(s, &rest, f, SIZE_MAX, at);
    if (rc == 0) most = (int64_t)n, rc = 1;
    if (rc > 0 && most >= 0 && least > most)
        rc = pg_schema_nothing(s, at, "minItems is above what maxItems and items leave");
    body.n = 0;
    if (rc > 0) rc = write_rest(s, &body, rest.n ? rest.data : "", (int64_t)n, least, most, at);
    for (size_t i = n; rc > 0 && i-- > 0;) { /* each fixed item leads to a rule for what follows */
        const int next = pg_schema_rule(s, &body, at);
        body.n = 0;
        rc = next < 0 ? next
                      : pg_schema_put(s, &body, "%s%s r%d%s", i ? "\",\" ws " : "",
                                      json_string_value(json_array_get(items, i)), next,
                                      (int64_t)i >= least ? " | \"\"" : "");
    }
    if (rc > 0) rc = pg_schema_put(s, b, "\"[\" ws (%.*s) \"]\"", (int)body.n, body.n ? body.data : "");
    json_decref(items);
    free(rest.data);
    free(body.data);
    return rc;
}
