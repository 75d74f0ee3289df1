/* json: JSON texts from files, held by jansson (objects keep their order). A thin layer: size bound, duplicate keys
 * refused, messages that name the file, line and column. Walk the result with jansson's own functions. */
#ifndef PG_JSON_H
#define PG_JSON_H

#include <jansson.h>

#include "status.h"

enum { PG_JSON_MAX = 128 << 20 }; /* bytes of one text at most: a safetensors header may have 100 MiB */

/* Parse n bytes whose top value is an object or array; `what` (a file name) opens the message.
 * Strings may hold NUL (json_string_length); integers beyond 64 bits become reals.
 * The caller drops the result with json_decref. NULL: PG_EFORMAT, PG_ELIMIT or PG_EMEMORY in *err. */
json_t *pg_json_parse(const char *data, size_t n, const char *what, pg_error *err);

/* The member `key` of an object, borrowed. type JSON_TRUE stands for either bool.
 * 1 found, 0 absent or null (out untouched), PG_EFORMAT when it has another type or `object` is none. */
int pg_json_get(const json_t *object, const char *key, json_type type, const char *what, json_t **out, pg_error *err);

#endif
