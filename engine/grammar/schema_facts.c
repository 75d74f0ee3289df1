/* schema_facts.c: what the keywords of all schemas that hold at one place say together. A keyword that is not known is
 * refused by its path: to pass over it would let through what it forbids. */
#include "schema.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int no_memory(pg_schema *s)
{
    return pg_fail(s->err, PG_EMEMORY, "not enough memory for a grammar");
}

bool pg_schema_is_remark(const char *key)
{
    static const char *const remark[] = { "title",           "description",   "default",     "examples",
                                          "example",         "$schema",       "$id",         "$comment",
                                          "deprecated",      "readOnly",      "writeOnly",   "$defs",
                                          "definitions",     "$anchor",       "$vocabulary", "contentMediaType",
                                          "contentEncoding", "contentSchema", "strict" };
    for (size_t i = 0; i < sizeof remark / sizeof *remark; i++)
        if (!strcmp(key, remark[i])) return true;
    return key[0] == 'x' && key[1] == '-';
}

/* ---- types ---------------------------------------------------------------------------------------------------------------- */

static unsigned type_of_name(const char *name)
{
    static const struct {
        const char *name;
        unsigned type;
    } all[] = { { "null", PG_TYPE_OF_NULL },      { "boolean", PG_TYPE_OF_BOOLEAN }, { "object", PG_TYPE_OF_OBJECT },
                { "array", PG_TYPE_OF_ARRAY },    { "number", PG_TYPE_OF_NUMBER },   { "string", PG_TYPE_OF_STRING },
                { "integer", PG_TYPE_OF_INTEGER } };
    for (size_t i = 0; name && i < sizeof all / sizeof *all; i++)
        if (!strcmp(name, all[i].name)) return all[i].type;
    return 0;
}

static unsigned type_of_value(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return PG_TYPE_OF_OBJECT;
    case JSON_ARRAY: return PG_TYPE_OF_ARRAY;
    case JSON_STRING: return PG_TYPE_OF_STRING;
    case JSON_INTEGER: return PG_TYPE_OF_INTEGER;
    case JSON_REAL:
        return floor(json_real_value(value)) == json_real_value(value) ? PG_TYPE_OF_INTEGER : PG_TYPE_OF_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE: return PG_TYPE_OF_BOOLEAN;
    default: return PG_TYPE_OF_NULL;
    }
}

static bool has_type(unsigned types, unsigned type)
{
    return types & type || (type == PG_TYPE_OF_INTEGER && types & PG_TYPE_OF_NUMBER);
}

/* An integer is a number: both sides may name either. */
static unsigned meet(unsigned a, unsigned b)
{
    const unsigned number = PG_TYPE_OF_NUMBER | PG_TYPE_OF_INTEGER;
    unsigned both = a & b & ~number;
    if (a & PG_TYPE_OF_NUMBER && b & PG_TYPE_OF_NUMBER) return both | PG_TYPE_OF_NUMBER;
    return a & number && b & number ? both | PG_TYPE_OF_INTEGER : both;
}

static int read_type(pg_schema *s, pg_facts *f, json_t *value, const pg_where *at)
{
    unsigned types = 0;
    const size_t n = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *name = json_is_array(value) ? json_array_get(value, i) : value;
        const unsigned type = type_of_name(json_string_value(name));
        if (!type)
            return pg_schema_refuse(s, PG_EINVAL, at,
                                    "%.60s is no type: expected null, boolean, object, array, number, "
                                    "string, integer or a list of them",
                                    json_is_string(name) ? json_string_value(name) : "this");
        types |= type;
    }
    f->types = meet(f->types, types);
    return f->types ? 1 : pg_schema_nothing(s, at, "no type is left");
}

/* ---- values ---------------------------------------------------------------------------------------------------------------- */

static int read_choices(pg_schema *s, pg_facts *f, json_t *list, const pg_where *at)
{
    json_t *both = json_array(), *value;
    size_t i;
    int rc = both ? 1 : no_memory(s);
    json_array_foreach(list, i, value)
    {
        bool fits = !f->choices;
        for (size_t k = 0; !fits && k < json_array_size(f->choices); k++)
            fits = json_equal(json_array_get(f->choices, k), value);
        if (rc > 0 && fits && json_array_append(both, value)) rc = no_memory(s);
    }
    json_decref(f->choices);
    f->choices = both;
    if (rc > 0 && !json_array_size(both)) return pg_schema_nothing(s, at, "no value is left");
    return rc;
}

static int read_count(pg_schema *s, const json_t *value, int64_t *count, const pg_where *at)
{
    double x = json_number_value(value);
    if (!json_is_number(value) || x < 0 || x != floor(x))
        return pg_schema_refuse(s, PG_EINVAL, at, "must be a whole number, 0 or more");
    *count = x < 1e15 ? (int64_t)x : (int64_t)1e15;
    return 1;
}

static int read_least(pg_schema *s, const json_t *value, int64_t *least, const pg_where *at)
{
    int64_t n = 0;
    const int rc = read_count(s, value, &n, at);
    if (n > *least) *least = n;
    return rc;
}

static int read_most(pg_schema *s, const json_t *value, int64_t *most, const pg_where *at)
{
    int64_t n = 0;
    const int rc = read_count(s, value, &n, at);
    if (rc > 0 && (*most == PG_SCHEMA_NO_LIMIT || n < *most)) *most = n;
    return rc;
}

/* sign 1: a lower bound, -1: an upper one. */
static int read_bound(pg_schema *s, pg_bound *bound, const json_t *value, bool strict, int sign, const pg_where *at)
{
    if (!json_is_number(value)) return pg_schema_refuse(s, PG_EINVAL, at, "must be a number");
    const double x = json_number_value(value) * sign,
                 y = bound->value ? json_number_value(bound->value) * sign : -INFINITY;
    if (x > y || (x == y && strict)) *bound = (pg_bound){ value, strict };
    return 1;
}

static int read_text(pg_schema *s, const char **text, const json_t *value, const pg_where *at)
{
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
        return pg_schema_refuse(s, PG_EINVAL, at, "must be a string without zero characters");
    if (*text && strcmp(*text, json_string_value(value)) != 0)
        return pg_schema_refuse(s, PG_EUNSUPPORTED, at, "two of them hold at once, which cannot be joined");
    *text = json_string_value(value);
    return 1;
}

static int read_required(pg_schema *s, pg_facts *f, json_t *value, const pg_where *at)
{
    size_t i;
    json_t *name;
    if (!json_is_array(value)) return pg_schema_refuse(s, PG_EINVAL, at, "must be a list of names");
    json_array_foreach(value, i, name)
    {
        bool known = false;
        if (!json_is_string(name)) return pg_schema_refuse(s, PG_EINVAL, at, "must be a list of names");
        for (size_t k = 0; !known && k < json_array_size(f->required); k++)
            known = json_equal(json_array_get(f->required, k), name);
        if (!known && json_array_append(f->required, name)) return no_memory(s);
    }
    return 1;
}

static int read_multiple(pg_schema *s, pg_facts *f, json_t *value, const pg_where *at)
{
    if (!json_is_number(value) || json_number_value(value) <= 0)
        return pg_schema_refuse(s, PG_EINVAL, at, "must be a number above 0");
    if (f->multiple && !json_equal(f->multiple, value))
        return pg_schema_refuse(s, PG_EUNSUPPORTED, at, "two of them hold at once, which cannot be joined");
    f->multiple = value;
    return 1;
}

/* ---- keywords ------------------------------------------------------------------------------------------------------------- */

typedef enum kind { OBJECT, LIST, SCHEMA } kind;

static int expect(pg_schema *s, const json_t *value, kind k, const pg_where *at)
{
    const bool fine = k == OBJECT ? json_is_object(value)
                      : k == LIST ? json_is_array(value)
                                  : json_is_object(value) || json_is_boolean(value);
    return fine ? 1
                : pg_schema_refuse(s, PG_EINVAL, at, "must be %s",
                                   k == OBJECT ? "an object"
                                   : k == LIST ? "a list"
                                               : "a schema");
}

static int read_more(pg_schema *s, pg_facts *f, const char *key, json_t *value, const pg_where *at)
{
    const char *const schemas[] = { "items", "additionalProperties", "propertyNames", "unevaluatedProperties",
                                    "unevaluatedItems" };
    if (!strcmp(key, "minimum")) return read_bound(s, &f->low, value, false, 1, at);
    if (!strcmp(key, "maximum")) return read_bound(s, &f->high, value, false, -1, at);
    if (!strcmp(key, "exclusiveMinimum")) return read_bound(s, &f->low, value, true, 1, at);
    if (!strcmp(key, "exclusiveMaximum")) return read_bound(s, &f->high, value, true, -1, at);
    if (!strcmp(key, "multipleOf")) return read_multiple(s, f, value, at);
    if (!strcmp(key, "minLength")) return read_least(s, value, &f->min_length, at);
    if (!strcmp(key, "maxLength")) return read_most(s, value, &f->max_length, at);
    if (!strcmp(key, "minItems")) return read_least(s, value, &f->min_items, at);
    if (!strcmp(key, "maxItems")) return read_most(s, value, &f->max_items, at);
    if (!strcmp(key, "minProperties")) return read_least(s, value, &f->min_members, at);
    if (!strcmp(key, "maxProperties")) return read_most(s, value, &f->max_members, at);
    if (!strcmp(key, "pattern")) return read_text(s, &f->pattern, value, at);
    if (!strcmp(key, "format")) return read_text(s, &f->format, value, at);
    if (!strcmp(key, "required")) return read_required(s, f, value, at);
    if (!strcmp(key, "properties") || !strcmp(key, "patternProperties")) return expect(s, value, OBJECT, at);
    if (!strcmp(key, "prefixItems")) return expect(s, value, LIST, at);
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++)
        if (!strcmp(key, schemas[i])) return expect(s, value, SCHEMA, at);
    if (!strcmp(key, "uniqueItems")) {
        f->unique |= json_is_true(value);
        return json_is_boolean(value) ? 1 : pg_schema_refuse(s, PG_EINVAL, at, "must be true or false");
    }
    return pg_schema_refuse(s, PG_EUNSUPPORTED, at, "this keyword is not supported");
}

static int read_key(pg_schema *s, pg_facts *f, const char *key, json_t *value, const pg_where *at)
{
    if (!strcmp(key, "type")) return read_type(s, f, value, at);
    if (!strcmp(key, "enum")) {
        if (!json_is_array(value)) return pg_schema_refuse(s, PG_EINVAL, at, "must be a list of values");
        return read_choices(s, f, value, at);
    }
    if (!strcmp(key, "const")) {
        json_t *one = json_pack("[O]", value);
        const int rc = one ? read_choices(s, f, one, at) : no_memory(s);
        json_decref(one);
        return rc;
    }
    f->more = true;
    return read_more(s, f, key, value, at);
}

/* Of the fixed values only those of the right type. */
static int filter_choices(pg_schema *s, pg_facts *f, const pg_where *at)
{
    for (size_t i = json_array_size(f->choices); i-- > 0;)
        if (!has_type(f->types, type_of_value(json_array_get(f->choices, i)))) json_array_remove(f->choices, i);
    return json_array_size(f->choices) ? 1 : pg_schema_nothing(s, at, "no value of enum has the type");
}

int pg_facts_read(pg_schema *s, pg_facts *f, json_t *parts, const pg_where *at)
{
    *f = (pg_facts){ .types = PG_TYPE_OF_ANY, .max_length = -1, .max_items = -1, .max_members = -1, .parts = parts };
    f->required = json_array();
    int rc = f->required ? 1 : no_memory(s);
    size_t i;
    json_t *part, *value;
    const char *key;
    json_array_foreach(parts, i, part) json_object_foreach(part, key, value)
    {
        const pg_where here = { at, key, 0 };
        if (rc > 0) rc = read_key(s, f, key, value, &here);
    }
    return rc > 0 && f->choices ? filter_choices(s, f, at) : rc;
}

void pg_facts_free(pg_facts *f)
{
    json_decref(f->choices);
    json_decref(f->required);
}
