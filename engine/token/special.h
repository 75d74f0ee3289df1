/* special: tokens that stand in a text as they are written, and the cutting of a text around them. Only engine/token
 * includes this. */
#ifndef PG_SPECIAL_H
#define PG_SPECIAL_H

#include "buf.h"
#include "../status.h"

typedef struct pg_special {
    int32_t id;
    const char *text; /* lives as long as the set */
    size_t n;
    char *own;   /* text, when it is the set's to free */
    bool always; /* a user-defined token: also matched in text in which control tokens are not */
    bool lstrip, rstrip, single_word;
} pg_special;

typedef struct pg_special_node {
    int32_t child, sibling, token; /* -1: none; token is a place in pg_specials.special */
    unsigned char byte;
} pg_special_node;

typedef struct pg_specials {
    pg_special *special; /* sorted by length, longest first */
    size_t n, room;
    pg_special_node *node; /* a tree of bytes; node[b] is the child of the root for byte b */
    size_t n_node, node_room;
    bool by_length; /* overlaps: the longest token of the whole text wins; else the first, and there the longest */
} pg_specials;

/* A stretch of a text: a token (id >= 0) or what lies between tokens. */
typedef struct pg_segment {
    size_t from, to;
    int32_t id;
} pg_segment;

typedef struct pg_segments {
    pg_segment *data;
    size_t n, room;
    pg_segment *next;
    size_t next_room;
} pg_segments;

int pg_specials_add(pg_specials *set, const pg_special *special, pg_error *err);
/* After the last add. Tokens without text are dropped: they match nothing. */
int pg_specials_index(pg_specials *set, pg_error *err);
void pg_specials_free(pg_specials *set);

/* Cut s into segments, in order, none empty. control: control tokens are matched as well. */
int pg_partition(const pg_specials *set, const char *s, size_t n, bool control, pg_segments *out, pg_error *err);
void pg_segments_free(pg_segments *segments);

#endif
