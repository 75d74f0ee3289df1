/* schema: what the parts of the translation from JSON schema to GBNF share. Only engine/grammar/schema*.c include this.
 *
 * The translation writes GBNF text, one rule for each schema, and the grammar is then read like any other: so what a
 * schema's grammar prints is what it is. Everything that it lets through is valid; what it cannot hold it refuses. */
#ifndef PG_GRAMMAR_SCHEMA_H
#define PG_GRAMMAR_SCHEMA_H

#include "../json.h"
#include "../token/buf.h"
#include "grammar.h"

enum {
    PG_SCHEMA_NESTING = 100, /* schemas in schemas */
    PG_SCHEMA_RULES = 20000,
    PG_SCHEMA_PARTS = 256,         /* that hold at one place */
    PG_SCHEMA_COUNT = 1 << 20,     /* bounds of lengths and items at most */
    PG_SCHEMA_COMPARED = 64 << 20, /* bytes of schemas that are compared to find equal ones */
    PG_SCHEMA_NO_LIMIT = -1
};

typedef struct pg_schema {
    json_t *root;
    json_t *known; /* text of a schema -> number of its rule, -1: nothing fits */
    json_t *owned; /* schemas made here, kept as long as this */
    pg_buf out;    /* finished rules */
    int n_rule, depth;
    size_t compared;
    bool uses_value;
    char why[256]; /* what left nothing that fits, last */
    pg_error *err;
} pg_schema;

/* Where in the schema: "#/properties/a". Each names its parent, so that nothing is copied until it must be said. */
typedef struct pg_where {
    const struct pg_where *parent;
    const char *key; /* NULL: `index` */
    size_t index;
} pg_where;

enum {
    PG_TYPE_OF_NULL = 1,
    PG_TYPE_OF_BOOLEAN = 2,
    PG_TYPE_OF_OBJECT = 4,
    PG_TYPE_OF_ARRAY = 8,
    PG_TYPE_OF_NUMBER = 16,
    PG_TYPE_OF_STRING = 32,
    PG_TYPE_OF_INTEGER = 64,
    PG_TYPE_OF_ANY = 63
};

/* A bound of numbers. */
typedef struct pg_bound {
    const json_t *value; /* NULL: none */
    bool strict;
} pg_bound;

/* What all the schemas that hold at one place say together. */
typedef struct pg_facts {
    unsigned types;  /* PG_TYPE_OF_*; INTEGER only without NUMBER */
    json_t *choices; /* enum and const; NULL: none */
    bool more;       /* there are keywords beside type, enum and const */
    pg_bound low, high;
    json_t *multiple;
    int64_t min_length, max_length, min_items, max_items, min_members, max_members; /* maxima: PG_SCHEMA_NO_LIMIT */
    const char *pattern, *format;
    bool unique;
    json_t *required; /* array of names */
    json_t *parts;    /* the schemas themselves */
} pg_facts;

/* 1: written; 0: nothing fits (s->why); PG_E*. All that follow answer so. Each writes one item or a sequence. */

/* schema.c: a reference to the rule of a schema; of several that hold together (an array, which may be empty). */
int pg_schema_refer(pg_schema *s, pg_buf *b, json_t *schema, const pg_where *at);
int pg_schema_refer_all(pg_schema *s, pg_buf *b, json_t *list, const pg_where *at);
/* Whether a text fits a schema, told by its own grammar: 1, 0, PG_E*. */
int pg_schema_fits(pg_schema *s, json_t *schema, const char *text, const pg_where *at);

/* schema_write.c. Begin a rule: its number; end it: its text becomes part of the grammar. */
int pg_schema_rule(pg_schema *s, const pg_buf *body, const pg_where *at);
int pg_schema_number_rule(pg_schema *s, const pg_where *at);
int pg_schema_finish_rule(pg_schema *s, int rule, const pg_buf *body, const pg_where *at);
int pg_schema_refuse(pg_schema *s, int code, const pg_where *at, const char *format, ...) PG_PRINTF(4, 5);
int pg_schema_nothing(pg_schema *s, const pg_where *at, const char *why);
int pg_schema_put(pg_schema *s, pg_buf *b, const char *format, ...) PG_PRINTF(3, 4);
int pg_schema_literal(pg_schema *s, pg_buf *b, const char *text, size_t n);
/* item (one GBNF item) at least `least` times and at most `most`. */
int pg_schema_repeat(pg_schema *s, pg_buf *b, const char *item, int64_t least, int64_t most, const pg_where *at);

/* schema_facts.c */
int pg_facts_read(pg_schema *s, pg_facts *f, json_t *parts, const pg_where *at);
void pg_facts_free(pg_facts *f);
bool pg_schema_is_remark(const char *key);

/* schema_string.c: the JSON text of a value, and of the inside of a string, as programs write it. */
int pg_schema_json(pg_schema *s, pg_buf *b, const json_t *value, const pg_where *at);
int pg_schema_json_string(pg_schema *s, pg_buf *json, const char *text, size_t n);

/* schema_object.c, schema_array.c, schema_string.c, schema_number.c */
int pg_schema_object(pg_schema *s, pg_buf *b, const pg_facts *f, const pg_where *at);
int pg_schema_array(pg_schema *s, pg_buf *b, const pg_facts *f, const pg_where *at);
int pg_schema_string(pg_schema *s, pg_buf *b, const pg_facts *f, const pg_where *at);
int pg_schema_number(pg_schema *s, pg_buf *b, const pg_facts *f, const pg_where *at);

/* schema_pattern.c: the inside of a string that matches a regular expression, with room for least .. most characters. */
int pg_schema_pattern(pg_schema *s, pg_buf *b, const char *pattern, int64_t least, int64_t most, const pg_where *at);

/* A character inside a JSON string. */
#define PG_SCHEMA_CHAR "([^\"\\\\\\x00-\\x1f] | \"\\\\\" esc)"

#endif
