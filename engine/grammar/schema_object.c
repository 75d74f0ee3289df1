/* schema_object.c: objects. Properties come in the schema's order, those that need not be there may be left out, further
 * ones follow. The name of a further one must not be one of the declared: a reader would take its value for theirs.
 *
 * Two chains of rules lead through the properties, one for "nothing was written yet" and one for "a comma comes first". */
#include "schema.h"
#include "../token/utf8.h"

#include <stdlib.h>
#include <string.h>

typedef struct members {
    json_t *name; /* array of names, declared or required */
    pg_buf extra; /* a further member; empty: none */
    pg_buf first, later;
    int64_t n_required;
} members;

static int no_memory(pg_schema *s)
{
    return pg_fail(s->err, PG_EMEMORY, "not enough memory for a grammar");
}

static bool is_in(const json_t *list, const json_t *name)
{
    size_t i;
    const json_t *one;
    json_array_foreach(list, i, one) if (json_equal(one, name)) return true;
    return false;
}

/* ---- names -------------------------------------------------------------------------------------------------------------- */

static int list_names(pg_schema *s, const pg_facts *f, members *m)
{
    json_t *part, *schema, *known = json_object(), *name;
    size_t i;
    const char *key;
    int rc = known && m->name ? 1 : no_memory(s);
    json_array_foreach(f->parts, i, part) json_object_foreach(json_object_get(part, "properties"), key, schema)
    {
        if (rc <= 0 || json_object_get(known, key)) continue;
        if (json_object_set_new(known, key, json_true()) || json_array_append_new(m->name, json_string(key)))
            rc = no_memory(s);
    }
    json_array_foreach(f->required, i, name)
    {
        if (rc <= 0 || json_object_get(known, json_string_value(name))) continue;
        if (json_array_append(m->name, name)) rc = no_memory(s);
    }
    json_decref(known);
    return rc;
}

static json_t *further_of(const pg_facts *f, const json_t *part)
{
    json_t *schema = json_object_get(part, "additionalProperties");
    if (!schema && json_array_size(f->parts) == 1) schema = json_object_get(part, "unevaluatedProperties");
    return schema;
}

/* The schemas that hold for a property; NULL as its name: for further ones. */
static json_t *schemas_of(const pg_facts *f, const char *name)
{
    json_t *list = json_array(), *part;
    size_t i;
    json_array_foreach(f->parts, i, part)
    {
        json_t *schema = name ? json_object_get(json_object_get(part, "properties"), name) : NULL;
        if (!schema) schema = further_of(f, part);
        if (schema && list) json_array_append(list, schema);
    }
    return list;
}

/* ---- names of further ones ------------------------------------------------------------------------------------------------- */

typedef struct text {
    const char *s;
    size_t n;
} text;

static int compare(const void *a, const void *b)
{
    const text *x = a, *y = b;
    const int c = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    return c ? c : (x->n > y->n) - (x->n < y->n);
}

static int put_class_point(pg_schema *s, pg_buf *b, uint32_t point)
{
    return pg_schema_put(s, b, point < 0x10000 ? "\\u%04x" : "\\U%08x", point);
}

/* A rule for the rest of a name that is none of the sorted list, all of which begin alike up to `from`. */
static int write_others(pg_schema *s, const text *list, size_t n, size_t from, int depth, const pg_where *at)
{
    pg_buf body = { 0 }, children = { 0 };
    bool escapes = true;
    if (depth > 200)
        return pg_schema_refuse(s, PG_EUNSUPPORTED, at, "names of more than 200 characters beside further ones");
    const size_t ends = n && list[0].n == from; /* one of them is complete here, so ours must not be */
    int rc = pg_schema_put(s, &body, "%s", ends ? "" : "| ");
    for (size_t i = ends, end; rc > 0 && i < n; i = end) {
        uint32_t point;
        const size_t size = pg_utf8_read(list[i].s + from, list[i].n - from, &point);
        for (end = i + 1; end < n && list[end].n >= from + size && !memcmp(list[end].s + from, list[i].s + from, size);)
            end++;
        const int rule = write_others(s, list + i, end - i, from + size, depth + 1, at);
        if (rule < 0) rc = rule;
        pg_buf json = { 0 };
        if (rc > 0) rc = pg_schema_json_string(s, &json, list[i].s + from, size);
        if (rc > 0) rc = pg_schema_literal(s, &body, json.data, json.n);
        if (rc > 0) rc = pg_schema_put(s, &body, " r%d | ", rule);
        if (rc > 0) rc = put_class_point(s, &children, point);
        escapes &= json.n == size;
        free(json.data);
    }
    if (rc > 0)
        rc = pg_schema_put(s, &body, "[^\"\\\\\\x00-\\x1f%.*s] " PG_SCHEMA_CHAR "*", (int)children.n,
                           children.n ? children.data : "");
    if (rc > 0 && escapes) rc = pg_schema_put(s, &body, " | \"\\\\\" [\"\\\\bfnrt] " PG_SCHEMA_CHAR "*");
    if (rc > 0) rc = pg_schema_rule(s, &body, at);
    free(body.data);
    free(children.data);
    return rc;
}

static int write_other_name(pg_schema *s, pg_buf *b, const members *m, const pg_where *at)
{
    const size_t n = json_array_size(m->name);
    if (!n) return pg_schema_put(s, b, "string");
    text *list = malloc(n * sizeof *list);
    if (!list) return no_memory(s);
    for (size_t i = 0; i < n; i++) {
        const json_t *name = json_array_get(m->name, i);
        list[i] = (text){ json_string_value(name), json_string_length(name) };
    }
    qsort(list, n, sizeof *list, compare);
    const int rule = write_others(s, list, n, 0, 0, at);
    free(list);
    return rule < 0 ? rule : pg_schema_put(s, b, "\"\\\"\" r%d \"\\\"\"", rule);
}

/* ---- further members ---------------------------------------------------------------------------------------------------------- */

/* name : value, from texts of both; one more alternative. */
static int add_member(pg_schema *s, members *m, const pg_buf *name, const pg_buf *value)
{
    return pg_schema_put(s, &m->extra, "%s%.*s \":\" ws %.*s ws", m->extra.n ? " | " : "", (int)name->n, name->data,
                         (int)value->n, value->data);
}

/* Members whose names match a pattern. What matches one must be told apart from what is declared, so declared names may
 * not match; several patterns are taken if they ask for the same. */
static int add_patterns(pg_schema *s, const pg_facts *f, members *m, json_t *patterns, const pg_where *at)
{
    json_t *schema, *first = NULL, *name;
    const char *pattern;
    size_t i;
    if (json_array_size(f->parts) > 1)
        return pg_schema_refuse(s, PG_EUNSUPPORTED, at, "cannot be joined with other schemas");
    json_object_foreach(patterns, pattern, schema)
    {
        const pg_where here = { at, pattern, 0 };
        pg_buf key = { 0 }, value = { 0 };
        if (first && !json_equal(first, schema))
            return pg_schema_refuse(s, PG_EUNSUPPORTED, &here, "several patterns must ask for the same");
        first = schema;
        json_t *fits = json_pack("{s:s,s:s}", "type", "string", "pattern", pattern);
        int rc = fits ? 1 : no_memory(s);
        json_array_foreach(m->name, i, name)
        {
            pg_buf json = { 0 };
            if (rc > 0) rc = pg_schema_json(s, &json, name, &here);
            if (rc > 0) rc = pg_schema_fits(s, fits, json.data, &here);
            free(json.data);
            if (rc > 0)
                rc = pg_schema_refuse(s, PG_EUNSUPPORTED, &here, "the declared name %.60s matches",
                                      json_string_value(name));
            if (rc == 0) rc = 1;
        }
        if (rc > 0) rc = pg_schema_put(s, &key, "\"\\\"\" ");
        if (rc > 0) rc = pg_schema_pattern(s, &key, pattern, 0, PG_SCHEMA_NO_LIMIT, &here);
        if (rc > 0) rc = pg_schema_put(s, &key, " \"\\\"\"");
        if (rc > 0) rc = pg_schema_refer(s, &value, schema, &here);
        if (rc > 0) rc = add_member(s, m, &key, &value);
        json_decref(fits);
        free(key.data);
        free(value.data);
        if (rc < 0) return rc;
    }
    return 1;
}

static int write_extra(pg_schema *s, const pg_facts *f, members *m, const pg_where *at)
{
    json_t *part, *list = schemas_of(f, NULL), *names = json_array();
    pg_buf name = { 0 }, value = { 0 };
    size_t i;
    int rc = list && names ? 1 : no_memory(s), patterns = 0;
    json_array_foreach(f->parts, i, part)
    {
        const pg_where here = { at, "patternProperties", 0 };
        json_t *p = json_object_get(part, "patternProperties"), *n = json_object_get(part, "propertyNames");
        if (rc > 0 && json_object_size(p)) rc = add_patterns(s, f, m, p, &here), patterns = 1;
        if (n) json_array_append(names, n);
    }
    const pg_where further = { at, "additionalProperties", 0 }, naming = { at, "propertyNames", 0 };
    /* further names beside patterns would have to match none of them: left out, which lets through less */
    if (rc > 0 && !patterns) rc = pg_schema_refer_all(s, &value, list, &further);
    if (rc > 0 && !patterns && json_array_size(names)) {
        json_array_append_new(names, json_pack("{s:s}", "type", "string"));
        if (json_array_size(m->name))
            rc = pg_schema_refuse(s, PG_EUNSUPPORTED, &naming, "cannot be held beside declared names");
        if (rc > 0) rc = pg_schema_refer_all(s, &name, names, &naming);
    } else if (rc > 0 && !patterns) {
        rc = write_other_name(s, &name, m, &further);
    } else if (patterns && json_array_size(names)) {
        rc = pg_schema_refuse(s, PG_EUNSUPPORTED, &naming, "cannot be held beside patternProperties");
    }
    if (rc > 0 && !patterns) rc = add_member(s, m, &name, &value);
    json_decref(list);
    json_decref(names);
    free(name.data);
    free(value.data);
    return rc < 0 ? rc : 1;
}

/* ---- declared members ------------------------------------------------------------------------------------------------------ */

/* "name": value into b. */
static int write_member(pg_schema *s, pg_buf *b, const pg_facts *f, const char *name, const pg_where *at)
{
    const pg_where properties = { at, "properties", 0 }, here = { &properties, name, 0 };
    json_t *list = schemas_of(f, name);
    pg_buf json = { 0 };
    int rc = list ? pg_schema_put(s, &json, "\"") : no_memory(s);
    if (rc > 0) rc = pg_schema_json_string(s, &json, name, strlen(name));
    if (rc > 0) rc = pg_schema_put(s, &json, "\":");
    if (rc > 0) rc = pg_schema_literal(s, b, json.data, json.n);
    if (rc > 0) rc = pg_schema_put(s, b, " ws ");
    if (rc > 0) rc = pg_schema_refer_all(s, b, list, &here);
    if (rc > 0) rc = pg_schema_put(s, b, " ws");
    json_decref(list);
    free(json.data);
    return rc;
}

/* What may stand behind the last declared member: m->later after one was written, m->first before. */
static int begin_chains(pg_schema *s, members *m, const pg_facts *f, const pg_where *at)
{
    if (!m->extra.n) return 1;
    pg_buf more = { 0 };
    const int x = pg_schema_rule(s, &m->extra, at);
    const bool counted = !json_array_size(m->name);
    const int64_t least = counted && f->min_members > 1 ? f->min_members - 1 : 0;
    const int64_t most = counted && f->max_members > 0 ? f->max_members - 1 : PG_SCHEMA_NO_LIMIT;
    int rc = x < 0 ? x : pg_schema_put(s, &more, "(\",\" ws r%d)", x);
    if (rc > 0) rc = pg_schema_put(s, &m->later, "%s*", more.data);
    if (rc > 0 && !(counted && f->max_members == 0)) {
        rc = pg_schema_put(s, &m->first, "(r%d", x);
        if (rc > 0) rc = pg_schema_repeat(s, &m->first, more.data, least, most, at);
        if (rc > 0) rc = pg_schema_put(s, &m->first, counted && f->min_members > 0 ? ")" : ")?");
    }
    free(more.data);
    return rc;
}

/* One declared member before what both chains have so far. */
static int lengthen(pg_schema *s, members *m, const pg_buf *member, bool required, const pg_where *at)
{
    const int later = pg_schema_rule(s, &m->later, at),
              first = later < 0 || required ? later : pg_schema_rule(s, &m->first, at);
    if (first < 0) return first;
    m->later.n = m->first.n = 0;
    const int n = (int)member->n;
    int rc = pg_schema_put(s, &m->later, "\",\" ws %.*s r%d", n, member->data, later);
    if (rc > 0) rc = pg_schema_put(s, &m->first, "%.*s r%d", n, member->data, later);
    if (rc > 0 && !required) rc = pg_schema_put(s, &m->later, " | r%d", later);
    if (rc > 0 && !required) rc = pg_schema_put(s, &m->first, " | r%d", first);
    return rc;
}

static int check_count(pg_schema *s, const pg_facts *f, const members *m, const pg_where *at)
{
    const int64_t n = (int64_t)json_array_size(m->name), required = m->n_required;
    if (f->max_members >= 0 && f->max_members < (required > f->min_members ? required : f->min_members))
        return pg_schema_nothing(s, at, "maxProperties is below minProperties or what is required");
    if (!n && !m->extra.n && f->min_members > 0)
        return pg_schema_nothing(s, at, "no property is allowed, and one is needed");
    if (!n || (f->min_members <= required && (f->max_members < 0 || (!m->extra.n && n <= f->max_members)))) return 1;
    return pg_schema_refuse(s, PG_EUNSUPPORTED, at,
                            "minProperties and maxProperties cannot be held beside declared names");
}

int pg_schema_object(pg_schema *s, pg_buf *b, const pg_facts *f, const pg_where *at)
{
    members m = { .name = json_array() };
    int rc = list_names(s, f, &m);
    if (rc > 0) rc = write_extra(s, f, &m, at);
    m.n_required = (int64_t)json_array_size(f->required);
    if (rc > 0) rc = check_count(s, f, &m, at);
    if (rc > 0) rc = begin_chains(s, &m, f, at);
    for (size_t i = json_array_size(m.name); rc > 0 && i-- > 0;) {
        const json_t *name = json_array_get(m.name, i);
        const bool required = is_in(f->required, name);
        pg_buf member = { 0 };
        rc = write_member(s, &member, f, json_string_value(name), at);
        if (rc > 0)
            rc = lengthen(s, &m, &member, required, at);
        else if (rc == 0 && !required)
            rc = 1; /* it may not be there, and need not */
        free(member.data);
    }
    if (rc > 0) rc = pg_schema_put(s, b, "\"{\" ws (%.*s) \"}\"", (int)m.first.n, m.first.n ? m.first.data : "");
    json_decref(m.name);
    free(m.extra.data);
    free(m.first.data);
    free(m.later.data);
    return rc;
}
