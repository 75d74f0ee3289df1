/* JSON in.
 *
 * Lives here: calling jansson with our limits and wording its errors.
 * Not here: what a file means (load/, token/), JSON out.
 * Why so: jansson is strict (RFC 8259), bounded in depth, seeds its hash and keeps the order of objects, which chat
 * templates and schemas depend on. Its one refusal that real files run into is an integer beyond 64 bits
 * (tokenizer_config.json: "model_max_length": 1000000000000000019884624838656); those are handed to it as reals. */
#include "json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FLAGS (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Length of the string literal that opens at s, quotes included. */
static size_t string_length(const char *s, size_t n)
{
    size_t i = 1;
    while (i < n && s[i] != '"') i += s[i] == '\\' && n - i > 1 ? 2 : 1;
    return i < n ? i + 1 : n;
}

/* Length of the number that begins at s; *huge when it is an integer beyond 64 bits. */
static size_t number_length(const char *s, size_t n, int *huge)
{
    size_t i = s[0] == '-', begin = i;
    while (i < n && is_digit(s[i])) i++;
    *huge = i - begin >= 19 && i - begin <= 300 && (i == n || (s[i] != '.' && s[i] != 'e' && s[i] != 'E'));
    if (*huge) {
        char digits[304];
        memcpy(digits, s, i);
        digits[i] = 0;
        errno = 0;
        (void)strtoll(digits, NULL, 10);
        *huge = errno == ERANGE;
    }
    return i;
}

/* The same text with ".0" after every integer beyond 64 bits; malloc'd, NULL when memory is short. */
static char *widen(const char *data, size_t n, size_t *out_n)
{
    char *out = malloc(n + n / 9 + 4); /* 19 digits grow by 2 bytes */
    size_t used = 0;
    for (size_t i = 0; out && i < n;) {
        int huge = 0;
        size_t len = data[i] == '"'                        ? string_length(data + i, n - i)
                     : data[i] == '-' || is_digit(data[i]) ? number_length(data + i, n - i, &huge)
                                                           : 1;
        memcpy(out + used, data + i, len);
        used += len;
        i += len;
        if (huge) {
            memcpy(out + used, ".0", 2);
            used += 2;
        }
    }
    *out_n = used;
    return out;
}

json_t *pg_json_parse(const char *data, size_t n, const char *what, pg_error *err)
{
    if (n > PG_JSON_MAX) {
        pg_fail(err, PG_ELIMIT, "%s: %zu bytes of JSON, more than the limit of %d", what, n, PG_JSON_MAX);
        return NULL;
    }
    json_error_t why;
    json_t *root = json_loadb(data, n, FLAGS, &why);
    if (!root && json_error_code(&why) == json_error_numeric_overflow) {
        size_t wide_n = 0;
        char *wide = widen(data, n, &wide_n);
        if (wide) root = json_loadb(wide, wide_n, FLAGS, &why);
        free(wide);
    }
    if (root) return root;
    if (json_error_code(&why) == json_error_out_of_memory)
        pg_fail(err, PG_EMEMORY, "%s: not enough memory for its JSON", what);
    else
        pg_fail(err, PG_EFORMAT, "%s: line %d, column %d: %s", what, why.line, why.column, why.text);
    return NULL;
}

static const char *type_name(json_type type)
{
    static const char *const name[] = { "an object", "an array", "a string", "an integer",
                                        "a number",  "a bool",   "a bool",   "null" };
    return name[type];
}

static int fits(const json_t *value, json_type type)
{
    return json_typeof(value) == type || (type == JSON_TRUE && json_is_boolean(value));
}

int pg_json_get(const json_t *object, const char *key, json_type type, const char *what, json_t **out, pg_error *err)
{
    if (!json_is_object(object))
        return pg_fail(err, PG_EFORMAT, "%s: expected an object with a member '%s'", what, key);
    json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return 0;
    if (!fits(value, type))
        return pg_fail(err, PG_EFORMAT, "%s: '%.100s' must be %s, but is %s", what, key, type_name(type),
                       type_name(json_typeof(value)));
    *out = value;
    return 1;
}
