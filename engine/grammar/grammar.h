/* grammar: what a text may be, as a small program for a machine with a stack.
 *
 * Each rule of a GBNF text becomes a run of steps: a byte, a character of a class, one whole token, a choice, a jump, a
 * call of another rule, its return, a counted repetition. Who runs it: match.c. Characters are seen as their bytes, so
 * that a token that ends inside a character needs no special care: a class is a small automaton over bytes.
 * A grammar never changes once it is open; any number of threads and requests share it.
 * Source of the idea: recursive transition networks, Woods, CACM 1970; programs for regular expressions, Thompson,
 * CACM 1968. */
#ifndef PG_GRAMMAR_H
#define PG_GRAMMAR_H

#include "../status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Sizes that no sensible grammar reaches. */
enum {
    PG_GRAMMAR_MAX_TEXT = 1 << 20,  /* bytes of GBNF */
    PG_GRAMMAR_MAX_STEPS = 1 << 18, /* of all rules */
    PG_GRAMMAR_MAX_RULES = 1 << 16,
    PG_GRAMMAR_MAX_CLASSES = 1024, /* different ones */
    PG_GRAMMAR_MAX_NODES = 16384,  /* of their automata */
    PG_GRAMMAR_MAX_REPEAT = 2000,  /* of one item in GBNF */
    PG_GRAMMAR_MAX_NESTING = 200   /* groups in groups */
};

typedef enum pg_inst_op {
    PG_INST_BYTE,   /* a: the byte */
    PG_INST_CLASS,  /* a: the class */
    PG_INST_TOKEN,  /* a: the token item */
    PG_INST_SPLIT,  /* on at a or b, both relative */
    PG_INST_JUMP,   /* on at a, relative */
    PG_INST_CALL,   /* a: the rule */
    PG_INST_TAIL,   /* the same, and nothing follows: no frame is left behind */
    PG_INST_RETURN, /* to the frame on top, or the text is complete */
    PG_INST_REPEAT, /* what follows, up to its return, at least a times and at most b (< 0: no limit); on at c, relative */
    PG_INST_FAIL
} pg_inst_op;

typedef struct pg_inst {
    int32_t op, a, b, c;
} pg_inst;

typedef struct pg_rule {
    size_t name, n_name; /* in the text */
    int32_t start;       /* -1: used, but not defined */
    size_t used;         /* where it is used first */
} pg_rule;

/* Where a byte leads to: PG_CLASS_NO, PG_CLASS_DONE (the character is complete and belongs), else a node. */
enum { PG_CLASS_NO = -1, PG_CLASS_DONE = 0 };
typedef struct pg_class {
    int16_t start[256];
    int32_t n_point; /* characters that belong */
} pg_class;
typedef struct pg_class_node {
    int16_t child[64]; /* by the low bits of a continuation byte */
} pg_class_node;

/* <[id]>, <text>: one whole token; negated: any but this one. */
typedef struct pg_token_item {
    int32_t id;          /* -1: by its text */
    size_t text, n_text; /* in the grammar's text */
    bool negated;
} pg_token_item;

struct pg_grammar {
    _Atomic int32_t refs;
    _Atomic(struct pg_matcher *) spare; /* for the next text that is checked; whoever uses it takes it out */
    char *text;                         /* GBNF, terminated */
    size_t n_text;
    pg_inst *step;
    pg_rule *rule;
    pg_class *class;
    pg_class_node *node; /* node 0 is never used */
    pg_token_item *item;
    int32_t n_step, n_rule, n_class, n_node, n_item, root;
    size_t step_room, rule_room, class_room, node_room, item_room;
    int16_t full[4];        /* nodes that take any 1, 2, 3 continuation bytes, 0: not made yet */
    uint8_t byte_kind[256]; /* bytes that no step tells apart have the same kind */
    uint8_t kind_byte[256]; /* one byte of each kind */
    int32_t n_kind;
};

/* A range of code points, both ends included. */
typedef struct pg_points {
    uint32_t first, last;
} pg_points;

/* gbnf.c: the steps of the GBNF text that g->text holds. */
int pg_gbnf_parse(pg_grammar *g, pg_error *err);
/* "line 3, column 7" of a place in the grammar's text. */
typedef struct pg_place {
    int line, column;
} pg_place;
pg_place pg_gbnf_place(const pg_grammar *g, size_t at);

/* class.c: the class of n ranges in any order, all others if negated; its index, or PG_E*. Surrogates never belong. */
int pg_class_add(pg_grammar *g, pg_points *range, int n, bool negated, pg_error *err);
/* After the last class and step: which bytes are alike. */
void pg_class_kinds(pg_grammar *g);

/* verify.c: refuse what cannot run (rules that are missing or begin with themselves), then make it quick: calls in last
 * place become jumps. prune: leave out what can never end; PG_EINVAL if that is everything. */
int pg_grammar_verify(pg_grammar *g, bool prune, pg_error *err);

/* schema.c: JSON schema text to GBNF text, malloc'd and terminated; NULL and *err. */
char *pg_schema_to_gbnf(const char *json, size_t n, pg_error *err);

#endif
