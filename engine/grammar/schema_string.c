/* schema_string.c: strings of any or some length, formats, and values as JSON text. */
#include "schema.h"
#include "../token/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- JSON text -------------------------------------------------------------------------------------------------------------- */

int pg_schema_json_string(pg_schema *s, pg_buf *json, const char *text, size_t n)
{
    static const char letter[] = "\b\f\n\r\t\"\\", written[] = "bfnrt\"\\";
    int rc = 1;
    for (size_t i = 0; rc > 0 && i < n; i++) {
        const char c = text[i];
        const char *known = c ? strchr(letter, c) : NULL;
        if (known)
            rc = pg_schema_put(s, json, "\\%c", written[known - letter]);
        else if ((unsigned char)c < 0x20)
            rc = pg_schema_put(s, json, "\\u%04x", (unsigned)c);
        else
            rc = pg_schema_put(s, json, "%c", c);
    }
    return rc;
}

static int put_string(pg_schema *s, pg_buf *b, const char *text, size_t n)
{
    int rc = pg_schema_put(s, b, "\"");
    if (rc > 0) rc = pg_schema_json_string(s, b, text, n);
    return rc > 0 ? pg_schema_put(s, b, "\"") : rc;
}

static int put_real(pg_schema *s, pg_buf *b, double x)
{
    char text[64];
    int digits = 15;
    do snprintf(text, sizeof text, "%.*g", digits, x);
    while (strtod(text, NULL) != x && digits++ < 17);
    return pg_schema_put(s, b, "%s", text);
}

/* Depth is bounded by that of JSON texts, which is jansson's affair. */
int pg_schema_json(pg_schema *s, pg_buf *b, const json_t *value, const pg_where *at)
{
    const char *key;
    json_t *member;
    size_t i;
    int rc = 1;
    switch (json_typeof(value)) {
    case JSON_NULL: return pg_schema_put(s, b, "null");
    case JSON_TRUE: return pg_schema_put(s, b, "true");
    case JSON_FALSE: return pg_schema_put(s, b, "false");
    case JSON_INTEGER: return pg_schema_put(s, b, "%lld", (long long)json_integer_value(value));
    case JSON_REAL: return put_real(s, b, json_real_value(value));
    case JSON_STRING: return put_string(s, b, json_string_value(value), json_string_length(value));
    case JSON_ARRAY:
        rc = pg_schema_put(s, b, "[");
        json_array_foreach(value, i, member)
        {
            if (rc > 0 && i) rc = pg_schema_put(s, b, ",");
            if (rc > 0) rc = pg_schema_json(s, b, member, at);
        }
        return rc > 0 ? pg_schema_put(s, b, "]") : rc;
    default: break;
    }
    rc = pg_schema_put(s, b, "{");
    bool first = true;
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        if (rc > 0 && !first) rc = pg_schema_put(s, b, ",");
        if (rc > 0) rc = put_string(s, b, key, strlen(key));
        if (rc > 0) rc = pg_schema_put(s, b, ":");
        if (rc > 0) rc = pg_schema_json(s, b, member, at);
        first = false;
    }
    return rc > 0 ? pg_schema_put(s, b, "}") : rc;
}

/* ---- formats ------------------------------------------------------------------------------------------------------------------ */

#define TWO "[0-9] [0-9]"
#define LEAP "(\"0\" [48] | [2468] [048] | [13579] [26])"
#define MONTHS_DAYS                                                               \
    "((\"0\" [13578] | \"1\" [02]) \"-\" (\"0\" [1-9] | [12] [0-9] | \"3\" [01])" \
    " | (\"0\" [469] | \"11\") \"-\" (\"0\" [1-9] | [12] [0-9] | \"30\")"         \
    " | \"02-\" (\"0\" [1-9] | \"1\" [0-9] | \"2\" [0-8]))"
#define DATE "(" TWO " " TWO " \"-\" " MONTHS_DAYS " | (" TWO " " LEAP " | (" LEAP " | \"00\") \"00\") \"-02-29\")"
#define HOUR_MINUTE "([01] [0-9] | \"2\" [0-3]) \":\" [0-5] [0-9]"
#define TIME HOUR_MINUTE " \":\" [0-5] [0-9] (\".\" [0-9]+)? (\"Z\" | [-+] " HOUR_MINUTE ")"
#define HEX(n) "[0-9a-fA-F]{" #n "}"
#define OCTET "(\"25\" [0-5] | \"2\" [0-4] [0-9] | \"1\" [0-9] [0-9] | [1-9]? [0-9])"
#define LABEL "[a-zA-Z0-9]+ (\"-\"+ [a-zA-Z0-9]+)*"
#define H6 "[0-9a-fA-F]{1,4}"

/* RFC 3339 with upper-case T and Z and real calendar days; RFC 4122; dotted quads without leading zeros; letters, digits
 * and ._%+- before the @ and a domain with a dot behind it; the others in their usual spelling. */
static const struct {
    const char *name, *inside;
    int least, most; /* characters */
} formats[] = {
    { "date", DATE, 10, 10 },
    { "time", TIME, 9, PG_SCHEMA_NO_LIMIT },
    { "date-time", DATE " \"T\" " TIME, 20, PG_SCHEMA_NO_LIMIT },
    { "uuid", HEX(8) " \"-\" " HEX(4) " \"-\" " HEX(4) " \"-\" " HEX(4) " \"-\" " HEX(12), 36, 36 },
    { "ipv4", OCTET " \".\" " OCTET " \".\" " OCTET " \".\" " OCTET, 7, 15 },
    { "ipv6",
      "(\"::\" (" H6 " (\":\" " H6 "){0,6})? | " H6 " (\"::\" (" H6 " (\":\" " H6 "){0,5})? | \":\" " H6 " (\"::\" (" H6
      " (\":\" " H6 "){0,4})? | \":\" " H6 " (\"::\" (" H6 " (\":\" " H6 "){0,3})? | \":\" " H6 " (\"::\" (" H6
      " (\":\" " H6 "){0,2})? | \":\" " H6 " (\"::\" (" H6 " (\":\" " H6 ")?)? | \":\" " H6 " (\"::\" " H6
      "? | \":\" " H6 " (\"::\" | \":\" " H6 "))))))))",
      2, 39 },
    { "email", "[a-zA-Z0-9._%+-]+ \"@\" " LABEL " (\".\" " LABEL ")+", 5, PG_SCHEMA_NO_LIMIT },
    { "hostname", LABEL " (\".\" " LABEL ")*", 1, PG_SCHEMA_NO_LIMIT },
    { "uri", "[a-zA-Z] [a-zA-Z0-9+.-]* \":\" ([a-zA-Z0-9._~:/?#@!$&'()*+,;=-] | \"%\" " HEX(2) ")+", 3,
      PG_SCHEMA_NO_LIMIT },
};

static int put_format(pg_schema *s, pg_buf *b, const pg_facts *f, const pg_where *at)
{
    const pg_where here = { at, "format", 0 };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, f->format) != 0) continue;
        const int most = formats[i].most;
        if (f->pattern) return pg_schema_refuse(s, PG_EUNSUPPORTED, &here, "cannot be joined with a pattern");
        if (f->min_length > formats[i].least || (f->max_length >= 0 && (most < 0 || f->max_length < most)))
            return pg_schema_refuse(s, PG_EUNSUPPORTED, &here, "cannot be joined with these lengths");
        return pg_schema_put(s, b, "\"\\\"\" %s \"\\\"\"", formats[i].inside);
    }
    return pg_schema_refuse(
        s, PG_EUNSUPPORTED, &here,
        "%.60s is not known: expected date, time, date-time, uuid, ipv4, ipv6, email, hostname or uri", f->format);
}

static bool is_of_numbers(const char *format)
{
    static const char *const name[] = { "int32", "int64", "float", "double" };
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        if (!strcmp(format, name[i])) return true;
    return false;
}

int pg_schema_string(pg_schema *s, pg_buf *b, const pg_facts *f, const pg_where *at)
{
    if (f->max_length >= 0 && f->min_length > f->max_length)
        return pg_schema_nothing(s, at, "minLength is above maxLength");
    if (f->format && !is_of_numbers(f->format)) return put_format(s, b, f, at);
    if (!f->pattern && !f->min_length && f->max_length < 0) return pg_schema_put(s, b, "string");
    int rc = pg_schema_put(s, b, "\"\\\"\"");
    if (rc > 0) {
        const pg_where here = { at, "pattern", 0 };
        rc = f->pattern ? pg_schema_pattern(s, b, f->pattern, f->min_length, f->max_length, &here)
                        : pg_schema_repeat(s, b, PG_SCHEMA_CHAR, f->min_length, f->max_length, at);
    }
    return rc > 0 ? pg_schema_put(s, b, " \"\\\"\"") : rc;
}
