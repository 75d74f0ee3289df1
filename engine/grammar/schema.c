/* schema.c: JSON schema (draft 2020-12) to GBNF: which schemas hold where, and the rules that they become.
 *
 * A schema that was met before, here or as an equal one elsewhere, is one rule: so references may go in circles. Schemas
 * that hold together (allOf, keywords beside a $ref) are read as one; alternatives (anyOf, oneOf) beside other keywords
 * are each joined with those. What the keywords mean is in schema_facts.c and its neighbours. */
#include "schema.h"

#include <stdlib.h>
#include <string.h>

/* What every schema's grammar may use. White space is bounded, so that it cannot go on for ever. */
static const char common[] =
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n"
    "esc ::= [\"\\\\/bfnrt] | \"u\" ([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] ([0-7] [0-9a-fA-F]{2} | [89abAB] "
    "[0-9a-fA-F]{2} \"\\\\u\" [dD] [c-fC-F] [0-9a-fA-F]{2}))\n"
    "string ::= \"\\\"\" " PG_SCHEMA_CHAR "* \"\\\"\"\n";
static const char anything[] = "value ::= object | array | string | number | \"true\" | \"false\" | \"null\"\n"
                               "object ::= \"{\" ws (member (\",\" ws member)*)? \"}\"\n"
                               "member ::= string \":\" ws value ws\n"
                               "array ::= \"[\" ws (value ws (\",\" ws value ws)*)? \"]\"\n"
                               "number ::= \"-\"? (\"0\" | [1-9] [0-9]*) (\".\" [0-9]+)? ([eE] [-+]? [0-9]+)?\n";

static int no_memory(pg_schema *s)
{
    return pg_fail(s->err, PG_EMEMORY, "not enough memory for a grammar");
}

/* ---- references ------------------------------------------------------------------------------------------------------------- */

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One step of a pointer, %HH, ~0 and ~1 resolved, into name; how many characters it had. */
static size_t read_step(const char *s, char *name, size_t room)
{
    size_t i = 0, n = 0;
    while (s[i] && s[i] != '/' && n + 1 < room) {
        char c = s[i++];
        if (c == '%' && hex(s[i]) >= 0 && hex(s[i + 1]) >= 0) {
            c = (char)(hex(s[i]) * 16 + hex(s[i + 1]));
            i += 2;
        }
        if (c == '~' && (s[i] == '0' || s[i] == '1')) c = s[i++] == '0' ? '~' : '/';
        name[n++] = c;
    }
    name[n] = 0;
    return i;
}

static json_t *find_target(pg_schema *s, const char *ref, const pg_where *at)
{
    json_t *to = s->root;
    const char *p = ref;
    char name[1024];
    if (*p++ != '#' || (*p && *p != '/')) {
        pg_schema_refuse(s, PG_EUNSUPPORTED, at,
                         "$ref %.100s: only paths within the schema (#/$defs/name) are followed", ref);
        return NULL;
    }
    while (to && *p == '/') {
        p += 1 + read_step(p + 1, name, sizeof name);
        char *end = NULL;
        const unsigned long index = strtoul(name, &end, 10);
        to = json_is_array(to) ? (*name && !*end ? json_array_get(to, index) : NULL) : json_object_get(to, name);
    }
    if (!to || *p) {
        pg_schema_refuse(s, PG_EINVAL, at, "$ref %.100s leads to nothing", ref);
        return NULL;
    }
    return to;
}

/* The target of a schema that is nothing but a reference, through others of the kind; itself if it is none; NULL: *err. */
static json_t *follow(pg_schema *s, json_t *schema, const pg_where *at)
{
    for (int hops = 0; hops < 64; hops++) {
        const char *key;
        json_t *value, *ref = json_is_object(schema) ? json_object_get(schema, "$ref") : NULL;
        bool alone = ref != NULL;
        if (ref) json_object_foreach(schema, key, value) alone &= value == ref || pg_schema_is_remark(key);
        if (!alone) return schema;
        if (!json_is_string(ref)) {
            pg_schema_refuse(s, PG_EINVAL, at, "$ref must be a string");
            return NULL;
        }
        schema = find_target(s, json_string_value(ref), at);
        if (!schema) return NULL;
    }
    pg_schema_refuse(s, PG_EINVAL, at, "this reference leads only to itself");
    return NULL;
}

/* ---- schemas that hold together ----------------------------------------------------------------------------------------- */

/* One more part, unless an equal one is there: what is joined with itself stays as it is, also in circles. */
static int add_part(pg_schema *s, json_t *parts, json_t *part, const pg_where *at)
{
    size_t i;
    const json_t *one;
    if (!json_object_size(part)) return 1;
    json_array_foreach(parts, i, one) if (json_equal(one, part)) return 1;
    if (json_array_size(parts) >= PG_SCHEMA_PARTS)
        return pg_schema_refuse(s, PG_ELIMIT, at, "more than %d schemas hold at once", PG_SCHEMA_PARTS);
    return json_array_append(parts, part) ? no_memory(s) : 1;
}

/* Take a schema apart: plain keywords to `parts`, lists of alternatives to `any`. 1, 0, PG_E*. */
static int collect(pg_schema *s, json_t *schema, json_t *parts, json_t *any, int depth, const pg_where *at)
{
    if (json_is_true(schema)) return 1;
    if (json_is_false(schema)) return pg_schema_nothing(s, at, "false lets nothing through");
    if (!json_is_object(schema)) return pg_schema_refuse(s, PG_EINVAL, at, "a schema must be an object, true or false");
    if (depth > PG_SCHEMA_NESTING) return pg_schema_refuse(s, PG_ELIMIT, at, "nested too deep, or without end");
    json_t *part = json_object(), *value;
    const char *key;
    int rc = part ? 1 : no_memory(s);
    json_object_foreach(schema, key, value)
    {
        const pg_where here = { at, key, 0 };
        const bool one = !strcmp(key, "anyOf") || !strcmp(key, "oneOf");
        if (rc <= 0) break;
        if (!strcmp(key, "$ref")) {
            json_t *to = json_is_string(value) ? find_target(s, json_string_value(value), &here) : NULL;
            rc = to                      ? collect(s, to, parts, any, depth + 1, at)
                 : json_is_string(value) ? s->err->code
                                         : pg_schema_refuse(s, PG_EINVAL, &here, "must be a string");
        } else if (one || !strcmp(key, "allOf")) {
            if (!json_is_array(value) || !json_array_size(value))
                rc = pg_schema_refuse(s, PG_EINVAL, &here, "must be a list of schemas");
            else if (one)
                rc = json_array_append(any, value) ? no_memory(s) : 1;
            for (size_t i = 0; rc > 0 && !one && i < json_array_size(value); i++) {
                const pg_where item = { &here, NULL, i };
                rc = collect(s, json_array_get(value, i), parts, any, depth + 1, &item);
            }
        } else if (!pg_schema_is_remark(key)) {
            rc = json_object_set(part, key, value) ? no_memory(s) : 1;
        }
    }
    if (rc > 0) rc = add_part(s, parts, part, at);
    json_decref(part);
    return rc;
}

/* A schema of our own, kept until the end. */
static json_t *own(pg_schema *s, json_t *schema)
{
    return schema && !json_array_append_new(s->owned, schema) ? schema : NULL;
}

/* One alternative with all that holds beside it; itself when there is nothing. */
static json_t *join(pg_schema *s, json_t *parts, json_t *branch, json_t *any)
{
    if (!json_array_size(parts) && json_array_size(any) == 1) return branch;
    json_t *all = json_copy(parts);
    bool fine = all && !json_array_append(all, branch);
    for (size_t i = 1; fine && i < json_array_size(any); i++)
        fine = !json_array_append_new(all, json_pack("{s:O}", "anyOf", json_array_get(any, i)));
    return own(s, fine ? json_pack("{s:o}", "allOf", all) : NULL);
}

static int write_any(pg_schema *s, pg_buf *b, json_t *parts, json_t *any, const pg_where *at)
{
    json_t *list = json_array_get(any, 0), *branch;
    size_t i;
    int written = 0;
    json_array_foreach(list, i, branch)
    {
        const pg_where item = { at, NULL, i };
        json_t *joined = join(s, parts, branch, any);
        const size_t before = b->n;
        if (!joined) return no_memory(s);
        int rc = written ? pg_schema_put(s, b, " | ") : 1;
        if (rc > 0) rc = pg_schema_refer(s, b, joined, &item);
        if (rc < 0) return rc;
        if (rc == 0)
            b->n = before;
        else
            written = 1;
    }
    return written;
}

/* ---- one place ------------------------------------------------------------------------------------------------------------ */

/* Each of the fixed values that the other keywords let through. */
static int write_choices(pg_schema *s, pg_buf *b, const pg_facts *f, const pg_where *at)
{
    size_t i;
    json_t *value;
    int written = 0;
    json_t *plain = f->more ? own(s, json_pack("{s:O}", "allOf", f->parts)) : NULL;
    json_array_foreach(f->choices, i, value)
    {
        pg_buf text = { 0 };
        int rc = pg_schema_json(s, &text, value, at), fits = 1;
        if (rc > 0 && plain) fits = rc = pg_schema_fits(s, plain, text.data, at);
        if (rc > 0 && written) rc = pg_schema_put(s, b, " | ");
        if (rc > 0 && fits > 0) rc = pg_schema_literal(s, b, text.data, text.n);
        if (rc > 0 && json_is_real(value) && !strpbrk(text.data, ".eE")) rc = pg_schema_put(s, b, " \".0\"?");
        free(text.data);
        if (rc < 0) return rc;
        written |= rc > 0;
    }
    return written ? 1 : pg_schema_nothing(s, at, "no value of enum is left");
}

static int write_types(pg_schema *s, pg_buf *b, const pg_facts *f, const pg_where *at)
{
    static int (*const writer[])(pg_schema *, pg_buf *, const pg_facts *,
                                 const pg_where *) = { pg_schema_object, pg_schema_array, pg_schema_string,
                                                       pg_schema_number };
    static const unsigned type[] = { PG_TYPE_OF_OBJECT, PG_TYPE_OF_ARRAY, PG_TYPE_OF_STRING,
                                     PG_TYPE_OF_NUMBER | PG_TYPE_OF_INTEGER };
    int rc = 1, written = 0;
    if (f->types & PG_TYPE_OF_BOOLEAN) rc = pg_schema_put(s, b, "\"true\" | \"false\""), written = 1;
    if (rc > 0 && f->types & PG_TYPE_OF_NULL)
        rc = pg_schema_put(s, b, written ? " | \"null\"" : "\"null\""), written = 1;
    for (int i = 0; rc >= 0 && i < 4; i++) {
        if (!(f->types & type[i])) continue;
        const size_t before = b->n;
        rc = written ? pg_schema_put(s, b, " | ") : 1;
        if (rc > 0) rc = writer[i](s, b, f, at);
        if (rc == 0) b->n = before;
        written |= rc > 0;
    }
    return rc < 0 ? rc : written;
}

static int write_parts(pg_schema *s, pg_buf *b, json_t *parts, const pg_where *at)
{
    if (!json_array_size(parts)) {
        s->uses_value = true;
        return pg_schema_put(s, b, "value");
    }
    pg_facts f;
    int rc = pg_facts_read(s, &f, parts, at);
    if (rc > 0) rc = f.choices ? write_choices(s, b, &f, at) : write_types(s, b, &f, at);
    pg_facts_free(&f);
    return rc;
}

static int write_schema(pg_schema *s, pg_buf *b, json_t *schema, const pg_where *at)
{
    json_t *parts = json_array(), *any = json_array();
    int rc = parts && any ? collect(s, schema, parts, any, 0, at) : no_memory(s);
    if (rc > 0) rc = json_array_size(any) ? write_any(s, b, parts, any, at) : write_parts(s, b, parts, at);
    json_decref(parts);
    json_decref(any);
    return rc;
}

/* The rule of a schema, by its text; -1 as a rule: nothing fits. */
static int find_rule(pg_schema *s, json_t *schema, int *rule, const pg_where *at)
{
    char *text = json_dumps(schema, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text) return no_memory(s);
    const json_t *known = json_object_get(s->known, text);
    int rc = 1;
    s->compared += strlen(text);
    if (s->compared > PG_SCHEMA_COMPARED) {
        rc = pg_schema_refuse(s, PG_ELIMIT, at, "the schema is too large, or its parts can be joined in too many ways");
    } else if (known) {
        *rule = (int)json_integer_value(known);
    } else {
        pg_buf body = { 0 };
        rc = *rule = pg_schema_number_rule(s, at);
        if (rc >= 0) rc = json_object_set_new(s->known, text, json_integer(*rule)) ? no_memory(s) : 1;
        if (rc > 0) rc = write_schema(s, &body, schema, at);
        if (rc > 0) rc = pg_schema_finish_rule(s, *rule, &body, at);
        if (rc == 0) { /* who refers to it already needs a rule that never ends; later ones are told */
            body.n = 0;
            rc = pg_schema_put(s, &body, "\"x\" r%d", *rule);
            if (rc > 0) rc = pg_schema_finish_rule(s, *rule, &body, at);
            *rule = -1;
            if (rc > 0) rc = json_object_set_new(s->known, text, json_integer(-1)) ? no_memory(s) : 1;
        }
        free(body.data);
    }
    free(text);
    return rc;
}

int pg_schema_refer(pg_schema *s, pg_buf *b, json_t *schema, const pg_where *at)
{
    int rule = -1;
    if (s->depth >= PG_SCHEMA_NESTING)
        return pg_schema_refuse(s, PG_ELIMIT, at, "nested deeper than %d", PG_SCHEMA_NESTING);
    schema = follow(s, schema, at);
    if (!schema) return s->err->code;
    s->depth++;
    const int rc = find_rule(s, schema, &rule, at);
    s->depth--;
    if (rc <= 0) return rc;
    return rule < 0 ? 0 : pg_schema_put(s, b, "r%d", rule);
}

int pg_schema_refer_all(pg_schema *s, pg_buf *b, json_t *list, const pg_where *at)
{
    json_t *schema = json_array_size(list) == 1 ? json_array_get(list, 0) : own(s, json_pack("{s:O}", "allOf", list));
    if (!json_array_size(list)) schema = json_true();
    return schema ? pg_schema_refer(s, b, schema, at) : no_memory(s);
}

/* ---- all of it -------------------------------------------------------------------------------------------------------------- */

/* GBNF of one schema, whose references begin at root; NULL and *err. */
static char *translate(json_t *root, json_t *schema, int depth, const pg_where *at, pg_error *err)
{
    pg_schema s = { .root = root, .known = json_object(), .owned = json_array(), .depth = depth, .err = err };
    pg_buf top = { 0 }, all = { 0 };
    int rc = s.known && s.owned ? pg_schema_refer(&s, &top, schema, at) : no_memory(&s);
    if (rc == 0) rc = pg_fail(err, PG_EINVAL, "JSON schema: nothing fits: %s", s.why);
    if (rc > 0)
        rc = pg_schema_put(&s, &all, "root ::= %.*s\n%.*s%s%s", (int)top.n, top.data, (int)s.out.n,
                           s.out.n ? s.out.data : "", common, s.uses_value ? anything : "");
    json_decref(s.known);
    json_decref(s.owned);
    free(s.out.data);
    free(top.data);
    if (rc > 0) return all.data;
    free(all.data);
    return NULL;
}

int pg_schema_fits(pg_schema *s, json_t *schema, const char *text, const pg_where *at)
{
    json_t *bare = json_deep_copy(schema), *part;
    size_t i;
    int rc = bare ? 1 : no_memory(s);
    json_array_foreach(json_object_get(bare, "allOf"), i, part)
    {
        json_object_del(part, "enum");
        json_object_del(part, "const");
    }
    pg_grammar *g = NULL;
    char *gbnf = rc > 0 ? translate(s->root, bare, s->depth + 1, at, s->err) : NULL;
    if (!gbnf)
        rc = s->err->code == PG_EINVAL ? 0 : s->err->code;
    else if ((rc = pg_grammar_open_gbnf(gbnf, strlen(gbnf), &g, s->err)) >= 0)
        rc = pg_grammar_check(g, text, strlen(text), s->err);
    if (rc >= 0) rc = rc == PG_GRAMMAR_COMPLETE;
    pg_grammar_drop(g);
    free(gbnf);
    json_decref(bare);
    return rc;
}

/* The schema in a list of one, so that a bare true or false is read like any other. */
static json_t *parse(const char *json, size_t n, pg_error *err)
{
    if (n > PG_GRAMMAR_MAX_TEXT) {
        pg_fail(err, PG_ELIMIT, "the JSON schema has %zu bytes: at most %d", n, PG_GRAMMAR_MAX_TEXT);
        return NULL;
    }
    char *text = malloc(n + 2);
    if (!text) {
        pg_fail(err, PG_EMEMORY, "not enough memory for a JSON schema");
        return NULL;
    }
    text[0] = '[';
    memcpy(text + 1, json, n);
    text[n + 1] = ']';
    json_t *list = pg_json_parse(text, n + 2, "JSON schema", err);
    free(text);
    if (!list || json_array_size(list) == 1) return list;
    json_decref(list);
    pg_fail(err, PG_EFORMAT, "JSON schema: expected one schema");
    return NULL;
}

char *pg_schema_to_gbnf(const char *json, size_t n, pg_error *err)
{
    json_t *list = parse(json, n, err);
    if (!list) return NULL;
    const pg_where top = { NULL, NULL, 0 };
    json_t *root = json_array_get(list, 0);
    char *text = translate(root, root, 0, &top, err);
    json_decref(list);
    return text;
}
