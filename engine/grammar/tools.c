/* tools.c: a list of tools, as chat interfaces describe them, as one JSON schema: a call of one of them. */
#include "../json.h"
#include "grammar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* References within a tool's parameters begin at these; here they are a part of something larger. As deep as the text
 * was nested, which jansson bounds. */
static bool move_references(json_t *value, const char *place)
{
    size_t i;
    const char *key;
    json_t *member;
    bool fine = true;
    json_array_foreach(value, i, member) fine = fine && move_references(member, place);
    json_object_foreach(value, key, member)
    {
        const char *ref = !strcmp(key, "$ref") ? json_string_value(member) : NULL;
        if (ref && ref[0] == '#')
            fine = fine && !json_object_set_new(value, key, json_sprintf("%s%s", place, ref + 1));
        else
            fine = fine && move_references(member, place);
    }
    return fine;
}

/* The schema of calls of tool i; NULL and *err. */
static json_t *call_of(const json_t *tool, size_t i, pg_error *err)
{
    const json_t *function = json_object_get(tool, "function");
    if (!function) function = tool;
    const json_t *name = json_object_get(function, "name"), *given = json_object_get(function, "parameters");
    char place[80];
    if (!json_is_string(name) || (given && !json_is_object(given))) {
        pg_fail(err, PG_EINVAL, "tool %zu: expected an object with a name and, if any, parameters (a schema)", i);
        return NULL;
    }
    snprintf(place, sizeof place, "#/anyOf/%zu/properties/arguments", i);
    json_t *parameters = given ? json_deep_copy(given) : json_pack("{s:s}", "type", "object");
    json_t *call = NULL;
    if (parameters && move_references(parameters, place))
        call = json_pack("{s:s, s:{s:{s:O}, s:O}, s:[s,s], s:b}", "type", "object", "properties", "name", "const", name,
                         "arguments", parameters, "required", "name", "arguments", "additionalProperties", 0);
    json_decref(parameters);
    if (!call) pg_fail(err, PG_EMEMORY, "not enough memory for the schema of %zu tools", i + 1);
    return call;
}

int pg_grammar_open_tools(const char *json, size_t n, pg_grammar **out, pg_error *err)
{
    pg_error why = { 0 };
    if (!json || !out) return pg_fail(err, PG_EINVAL, "pg_grammar_open_tools needs a text and a place for the grammar");
    if (n > PG_GRAMMAR_MAX_TEXT)
        return pg_fail(err, PG_ELIMIT, "the list of tools has %zu bytes: at most %d", n, PG_GRAMMAR_MAX_TEXT);
    json_t *tools = pg_json_parse(json, n, "tools", &why), *tool, *calls = json_array();
    size_t i;
    int rc = why.code;
    if (rc >= 0 && (!json_is_array(tools) || !json_array_size(tools)))
        rc = pg_fail(&why, PG_EINVAL, "tools: expected a list of at least one tool");
    json_array_foreach(tools, i, tool)
    {
        json_t *call = rc >= 0 ? call_of(tool, i, &why) : NULL;
        if (call && json_array_append_new(calls, call)) pg_fail(&why, PG_EMEMORY, "not enough memory for a schema");
        rc = why.code;
    }
    json_t *schema = rc >= 0 ? json_pack("{s:O}", "anyOf", calls) : NULL;
    char *text = schema ? json_dumps(schema, JSON_COMPACT) : NULL;
    if (rc >= 0 && !text) rc = pg_fail(&why, PG_EMEMORY, "not enough memory for a schema");
    if (rc >= 0) rc = pg_grammar_open_schema(text, strlen(text), out, &why);
    free(text);
    json_decref(schema);
    json_decref(calls);
    json_decref(tools);
    if (rc < 0 && err) *err = why;
    return rc;
}
