/* Grammars and schemas against shared expected outputs, and against a few known by hand: what must be let through, what
 * must not, what must be refused at once; and that a grammar printed and read again is the same one. */
#include "check.h"
#include "perigee.h"

#include <jansson.h>

/* In the form of the shared ones. */
static const char own_gbnf[] =
    "{\"cases\":[{\"name\":\"counted\",\"grammar\":\"root ::= \\\"a\\\"{2,3} ([0-9]+ | \\\"-\\\")\","
    "\"accept\":[\"aa7\",\"aaa-\",\"aa007\"],\"reject\":[\"a7\",\"aaaa7\",\"aa\",\"aa-7\",\"aa7-\"],"
    "\"prefixes_alive\":[\"\",\"a\",\"aaa\"],\"prefixes_dead\":[\"b\",\"a-\",\"aaaa\"]},"
    "{\"name\":\"nested\",\"grammar\":\"root ::= \\\"(\\\" root \\\")\\\" | [\\u00e9]\","
    "\"accept\":[\"\u00e9\",\"((\u00e9))\"],\"reject\":[\"()\",\"(\u00e9\",\"e\"],"
    "\"byte_prefixes_alive_hex\":[\"c3\",\"28c3\"]}],"
    "\"bad\":[{\"name\":\"no such rule\",\"grammar\":\"root ::= other\"},"
    "{\"name\":\"an open string\",\"grammar\":\"root ::= \\\"a\"}]}";
static const char own_schema[] =
    "{\"cases\":[{\"name\":\"object\",\"schema\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\","
    "\"minimum\":-5,\"maximum\":12}},\"required\":[\"n\"],\"additionalProperties\":false},"
    "\"valid\":[\"{\\\"n\\\":12}\",\"{\\\"n\\\":-5}\",\"{\\\"n\\\":0}\"],"
    "\"invalid\":[\"{}\",\"{\\\"n\\\":13}\",\"{\\\"n\\\":-6}\",\"{\\\"n\\\":1.5}\",\"{\\\"m\\\":1}\"]}],"
    "\"bad\":[{\"name\":\"no such definition\",\"schema\":{\"$ref\":\"#/$defs/a\"}}]}";

static json_t *parse(const char *text)
{
    json_error_t why;
    json_t *root = json_loads(text, 0, &why);
    CHECK(root, "%s", why.text);
    return root;
}

static const char *folder(void)
{
    const char *path = getenv("PERIGEE_GOLDEN");
    return path ? path : "../shared/golden";
}

static json_t *load(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/schema/%s", folder(), name);
    json_error_t why;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &why);
    if (!root) printf("grammar: %s did not run: %s\n", name, why.text);
    return root;
}

static int check_text(pg_grammar *g, const char *s, size_t n)
{
    pg_error err = { 0 };
    const int rc = pg_grammar_check(g, s, n, &err);
    CHECK(rc >= 0, "%s", err.text);
    return rc;
}

/* Each text of a list must come to one of the results in `fine` (a set of bits). */
static void check_list(pg_grammar *g, const char *name, const json_t *list, unsigned fine)
{
    size_t i;
    json_t *text;
    json_array_foreach(list, i, text)
    {
        const int rc = check_text(g, json_string_value(text), json_string_length(text));
        CHECK(rc >= 0 && fine >> rc & 1, "%s: '%s' comes to %d", name, json_string_value(text), rc);
    }
}

enum { DEAD = 1 << PG_GRAMMAR_DEAD, ALIVE = 1 << PG_GRAMMAR_ALIVE, COMPLETE = 1 << PG_GRAMMAR_COMPLETE };

static void check_hex(pg_grammar *g, const char *name, const json_t *list)
{
    size_t i;
    json_t *hex;
    json_array_foreach(list, i, hex)
    {
        char bytes[256];
        size_t n = 0;
        unsigned byte;
        for (const char *s = json_string_value(hex); n < sizeof bytes && sscanf(s, "%2x", &byte) == 1; s += 2)
            bytes[n++] = (char)byte;
        CHECK(check_text(g, bytes, n) != PG_GRAMMAR_DEAD, "%s: bytes %s are dead", name, json_string_value(hex));
    }
}

static void check_gbnf(json_t *root)
{
    json_t *c;
    size_t i;
    json_array_foreach(json_object_get(root, "cases"), i, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        const json_t *text = json_object_get(c, "grammar");
        pg_error err = { 0 };
        pg_grammar *g = NULL;
        const int rc = pg_grammar_open_gbnf(json_string_value(text), json_string_length(text), &g, &err);
        CHECK(rc == PG_OK, "%s: %s", name, err.text);
        if (rc < 0) continue;
        check_list(g, name, json_object_get(c, "accept"), COMPLETE);
        check_list(g, name, json_object_get(c, "reject"), DEAD | ALIVE);
        check_list(g, name, json_object_get(c, "prefixes_alive"), ALIVE | COMPLETE);
        check_list(g, name, json_object_get(c, "prefixes_dead"), DEAD);
        check_hex(g, name, json_object_get(c, "byte_prefixes_alive_hex"));
        CHECK(!strcmp(pg_grammar_text(g), json_string_value(text)), "%s: prints another text", name);
        pg_grammar_drop(g);
    }
    json_array_foreach(json_object_get(root, "bad"), i, c)
    {
        const json_t *text = json_object_get(c, "grammar");
        pg_error err = { 0 };
        pg_grammar *g = NULL;
        const int rc = pg_grammar_open_gbnf(json_string_value(text), json_string_length(text), &g, &err);
        CHECK(rc < 0 && err.text[0], "%s was taken", json_string_value(json_object_get(c, "name")));
        if (rc >= 0) pg_grammar_drop(g);
    }
    json_decref(root);
}

static pg_grammar *open_schema(const json_t *schema, pg_error *err)
{
    char *text = json_dumps(schema, JSON_ENCODE_ANY);
    pg_grammar *g = NULL;
    const int rc = pg_grammar_open_schema(text, strlen(text), &g, err);
    CHECK(rc >= 0 || err->text[0], "refused without a word: %s", text);
    free(text);
    return rc < 0 ? NULL : g;
}

static void schema_case(const json_t *c)
{
    const char *name = json_string_value(json_object_get(c, "name"));
    pg_error err = { 0 };
    pg_grammar *g = open_schema(json_object_get(c, "schema"), &err), *again = NULL;
    CHECK(g, "%s: %s", name, err.text);
    if (!g) return;
    const char *text = pg_grammar_text(g);
    CHECK(pg_grammar_open_gbnf(text, strlen(text), &again, &err) == PG_OK, "%s, printed: %s\n%s", name, err.text, text);
    for (int i = 0; i < 2 && again; i++) { /* the schema's own grammar, and the one that its printed text makes */
        check_list(i ? again : g, name, json_object_get(c, "valid"), COMPLETE);
        check_list(i ? again : g, name, json_object_get(c, "invalid"), DEAD | ALIVE);
    }
    pg_grammar_drop(again);
    pg_grammar_drop(g);
}

static void check_schemas(json_t *root)
{
    json_t *c;
    size_t i;
    json_array_foreach(json_object_get(root, "cases"), i, c) schema_case(c);
    json_array_foreach(json_object_get(root, "bad"), i, c)
    {
        pg_error err = { 0 };
        pg_grammar *g = open_schema(json_object_get(c, "schema"), &err);
        CHECK(!g, "%s was taken", json_string_value(json_object_get(c, "name")));
        pg_grammar_drop(g);
    }
    json_decref(root);
}

int main(void)
{
    check_gbnf(parse(own_gbnf));
    check_schemas(parse(own_schema));
    check_gbnf(load("gbnf.json"));
    check_schemas(load("json-schema.json"));
    return check_done("grammar");
}
