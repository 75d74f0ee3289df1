/* normal: rewriting a text before it is split. Only engine/token includes this. */
#ifndef PG_NORMAL_H
#define PG_NORMAL_H

#include "regex.h"

typedef enum pg_normal_kind {
    PG_NORMAL_NFC,
    PG_NORMAL_PREPEND, /* put `text` before what is not empty */
    PG_NORMAL_REPLACE  /* put `text` in the place of every match */
} pg_normal_kind;

typedef struct pg_normal {
    pg_normal_kind kind;
    pg_regex *re; /* REPLACE of an expression's matches */
    pg_buf find;  /* REPLACE of a text as it stands, when there is no expression */
    pg_buf text;
} pg_normal;

typedef struct pg_normals {
    pg_normal *step;
    size_t n, room;
} pg_normals;

/* A new last step, zeroed, for the caller to fill at once; NULL when memory is short. */
pg_normal *pg_normals_add(pg_normals *list, pg_error *err);
void pg_normals_free(pg_normals *list);

/* What one encoder needs for it; zeroed at first. */
typedef struct pg_normal_work {
    pg_buf a, b;    /* take turns */
    int32_t *point; /* code points and room to sort them */
    size_t n_point, point_room, sorted_room;
    int32_t *sorted;
} pg_normal_work;

/* Rewrite *s; afterwards it points to the result, which is good until the next call or the input itself. */
int pg_normalize(const pg_normals *list, pg_match *m, pg_normal_work *work, const char **s, size_t *n, pg_error *err);
void pg_normal_work_free(pg_normal_work *work);

#endif
