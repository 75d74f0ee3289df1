/* schema_number.c: numbers within bounds, as digits.
 *
 * A range of decimal texts is split where its bounds differ first: the digits between them are free, those equal to one
 * bound go on against the rest of it. A negative number is a minus sign and a range with its ends exchanged. Ranges have
 * no exponents: a number is let through in its plain spelling. */
#include "schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 64 };

/* |x| as digits before and behind the point, neither with zeros that say nothing. */
typedef struct decimal {
    bool negative, endless; /* endless: above all numbers */
    bool strict;            /* the bound itself is not in */
    char whole[DIGITS], part[DIGITS];
} decimal;

/* Fill *d from what printf says about a number; false: it has too many digits. */
static bool read_decimal(const char *s, decimal *d)
{
    char digit[DIGITS];
    int n = 0, point = -1, exponent = 0;
    *d = (decimal){ .negative = *s == '-' };
    for (s += *s == '-'; *s && *s != 'e'; s++) {
        if (*s == '.')
            point = n;
        else if (n < DIGITS - 1)
            digit[n++] = *s;
    }
    if (*s == 'e') exponent = atoi(s + 1);
    const int whole = (point < 0 ? n : point) + exponent; /* digits before the point */
    if (whole > DIGITS - 2 || whole < -(DIGITS / 2) || n - whole > DIGITS - 2) return false;
    int w = 0, p = 0;
    for (int i = 0; i < whole; i++) {
        const char c = i < n ? digit[i] : '0';
        if (w || c != '0') d->whole[w++] = c;
    }
    for (int i = whole; i < n; i++) d->part[p++] = i < 0 ? '0' : digit[i];
    while (p > 0 && d->part[p - 1] == '0') p--;
    d->part[p] = 0;
    if (!w) d->whole[w++] = '0';
    d->whole[w] = 0;
    return true;
}

static int shortest(double x, char *text, size_t n)
{
    int digits = 15;
    do snprintf(text, n, "%.*g", digits, x);
    while (strtod(text, NULL) != x && digits++ < 17);
    return digits;
}

static int bound_of(pg_schema *s, const pg_bound *bound, decimal *d, const pg_where *at)
{
    char text[64];
    if (!bound->value) {
        *d = (decimal){ .endless = true };
        return 1;
    }
    if (json_is_integer(bound->value))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(bound->value));
    else
        shortest(json_real_value(bound->value), text, sizeof text);
    if (!read_decimal(text, d))
        return pg_schema_refuse(s, PG_EUNSUPPORTED, at, "the bound %s has too many digits", text);
    d->strict = bound->strict;
    return 1;
}

static bool is_zero(const decimal *d)
{
    return !d->endless && !strcmp(d->whole, "0") && !d->part[0];
}

/* ---- digits ---------------------------------------------------------------------------------------------------------------- */

static int put_range(pg_schema *s, pg_buf *b, char low, char high)
{
    return low == high ? pg_schema_put(s, b, "\"%c\"", low) : pg_schema_put(s, b, "[%c-%c]", low, high);
}

static int put_free(pg_schema *s, pg_buf *b, size_t n)
{
    return n ? pg_schema_put(s, b, " [0-9]{%zu}", n) : 1;
}

/* n digits that are at least (up), or at most, those of d. */
static int put_against(pg_schema *s, pg_buf *b, const char *d, size_t n, bool up)
{
    if (!n) return pg_schema_put(s, b, "\"\"");
    const char low = up ? (char)(d[0] + 1) : '0', high = up ? '9' : (char)(d[0] - 1);
    int rc = pg_schema_put(s, b, "(");
    if (rc > 0 && low <= high) {
        rc = put_range(s, b, low, high);
        if (rc > 0) rc = put_free(s, b, n - 1);
        if (rc > 0) rc = pg_schema_put(s, b, " | ");
    }
    if (rc > 0) rc = pg_schema_put(s, b, "\"%c\" ", d[0]);
    if (rc > 0) rc = put_against(s, b, d + 1, n - 1, up);
    return rc > 0 ? pg_schema_put(s, b, ")") : rc;
}

/* n digits from those of low to those of high, low <= high. */
static int put_between(pg_schema *s, pg_buf *b, const char *low, const char *high, size_t n)
{
    size_t same = 0;
    while (same < n && low[same] == high[same]) same++;
    int rc = same ? pg_schema_put(s, b, "\"%.*s\" ", (int)same, low) : 1;
    if (same == n || rc <= 0) return rc;
    const size_t left = n - same - 1;
    low += same;
    high += same;
    rc = pg_schema_put(s, b, "(\"%c\" ", low[0]);
    if (rc > 0) rc = put_against(s, b, low + 1, left, true);
    if (rc > 0 && low[0] + 1 < high[0]) {
        rc = pg_schema_put(s, b, " | ");
        if (rc > 0) rc = put_range(s, b, (char)(low[0] + 1), (char)(high[0] - 1));
        if (rc > 0) rc = put_free(s, b, left);
    }
    if (rc > 0) rc = pg_schema_put(s, b, " | \"%c\" ", high[0]);
    if (rc > 0) rc = put_against(s, b, high + 1, left, false);
    return rc > 0 ? pg_schema_put(s, b, ")") : rc;
}

/* Whole numbers from low to high (NULL: without end), as alternatives; 0: there are none. */
static int put_whole(pg_schema *s, pg_buf *b, const char *low, const char *high)
{
    const size_t n_low = strlen(low), n_high = high ? strlen(high) : n_low;
    char first[DIGITS], last[DIGITS];
    int rc = 1;
    if (n_low > n_high || (high && n_low == n_high && strcmp(low, high) > 0)) return 0;
    for (size_t n = n_low; rc > 0 && n <= n_high; n++) {
        memset(first, '0', n);
        memset(last, '9', n);
        first[0] = n == 1 ? '0' : '1';
        first[n] = last[n] = 0;
        if (n > n_low) rc = pg_schema_put(s, b, " | ");
        if (rc > 0) rc = put_between(s, b, n == n_low ? low : first, high && n == n_high ? high : last, n);
    }
    if (rc > 0 && !high) rc = pg_schema_put(s, b, " | [1-9] [0-9]{%zu,}", n_low);
    return rc;
}

/* Add 1 to a whole number, or take 1 from one above 0. */
static void count_up(char *whole)
{
    size_t i = strlen(whole);
    while (i > 0 && whole[i - 1] == '9') whole[--i] = '0';
    if (i > 0) {
        whole[i - 1]++;
        return;
    }
    memmove(whole + 1, whole, strlen(whole) + 1);
    whole[0] = '1';
}

static void count_down(char *whole)
{
    size_t i = strlen(whole);
    while (i > 0 && whole[i - 1] == '0') whole[--i] = '9';
    if (i > 0) whole[i - 1]--;
    if (whole[0] == '0' && whole[1]) memmove(whole, whole + 1, strlen(whole));
}

/* ---- behind the point --------------------------------------------------------------------------------------------------- */

/* Digits, at least one, whose value is at least (up) or at most that of d; strict: not equal. Whether there are any. */
static int put_part(pg_schema *s, pg_buf *b, const char *d, bool up, bool strict, bool begun)
{
    if (!*d) {
        if (up) return pg_schema_put(s, b, strict ? "[0-9]* [1-9] [0-9]*" : begun ? "[0-9]*" : "[0-9]+");
        return strict ? 0 : pg_schema_put(s, b, begun ? "\"0\"*" : "\"0\"+");
    }
    const char low = up ? (char)(*d + 1) : '0', high = up ? '9' : (char)(*d - 1);
    int rc = pg_schema_put(s, b, "(");
    const size_t before = b->n;
    if (rc > 0 && low <= high) rc = put_range(s, b, low, high);
    if (rc > 0 && low <= high) rc = pg_schema_put(s, b, " [0-9]* | ");
    const size_t between = b->n;
    if (rc > 0) rc = pg_schema_put(s, b, "\"%c\" ", *d);
    if (rc > 0) rc = put_part(s, b, d + 1, up, strict, true);
    if (rc == 0) {
        if (between == before) return 0;
        b->n = between - 3;
        rc = 1;
    }
    if (rc > 0 && !up && begun) rc = pg_schema_put(s, b, " |"); /* ends early, so it is less */
    return rc > 0 ? pg_schema_put(s, b, ")") : rc;
}

/* The same with both bounds, from the digits l to the digits h. */
static int put_inside(pg_schema *s, pg_buf *b, const char *l, const char *h, bool l_strict, bool h_strict, bool begun)
{
    const char a = *l ? *l : '0', *next = *l ? l + 1 : "";
    if (!*h) return *l || l_strict || h_strict ? 0 : pg_schema_put(s, b, begun ? "\"0\"*" : "\"0\"+");
    if (a > *h) return 0;
    int rc = pg_schema_put(s, b, "(\"%c\" ", a);
    if (rc > 0 && a == *h) {
        rc = put_inside(s, b, next, h + 1, l_strict, h_strict, true);
    } else if (rc > 0) {
        rc = put_part(s, b, next, true, l_strict, true);
        if (rc > 0 && a + 1 < *h) rc = pg_schema_put(s, b, " | ");
        if (rc > 0 && a + 1 < *h) rc = put_range(s, b, (char)(a + 1), (char)(*h - 1));
        if (rc > 0 && a + 1 < *h) rc = pg_schema_put(s, b, " [0-9]*");
        const size_t end = b->n;
        if (rc > 0) rc = pg_schema_put(s, b, " | \"%c\" ", *h);
        if (rc > 0) rc = put_part(s, b, h + 1, false, h_strict, true);
        if (rc == 0) b->n = end, rc = 1;
    }
    if (rc > 0 && begun && !*l && !l_strict) rc = pg_schema_put(s, b, " |");
    return rc > 0 ? pg_schema_put(s, b, ")") : rc;
}

/* A point and digits, or nothing, with a value within both bounds (NULL: none). 0: there is no such. */
static int put_tail(pg_schema *s, pg_buf *b, const decimal *low, const decimal *high)
{
    const bool bare = (!low || (!low->part[0] && !low->strict)) && (!high || high->part[0] || !high->strict);
    const size_t before = b->n;
    int rc = pg_schema_put(s, b, "(%s\".\" ", bare ? "| " : "");
    if (rc > 0 && low && high)
        rc = put_inside(s, b, low->part, high->part, low->strict, high->strict, false);
    else if (rc > 0)
        rc = put_part(s, b, (low ? low : high)->part, low != NULL, (low ? low : high)->strict, false);
    if (rc > 0) return pg_schema_put(s, b, ")");
    b->n = before;
    return rc == 0 && bare ? pg_schema_put(s, b, "\"\"") : rc;
}

/* ---- ranges ---------------------------------------------------------------------------------------------------------------- */

static int alternative(pg_schema *s, pg_buf *b, size_t begin)
{
    return b->n > begin ? pg_schema_put(s, b, " | ") : 1;
}

/* "whole" and what may follow it; nothing is written when nothing may. */
static int put_at(pg_schema *s, pg_buf *b, size_t begin, const char *whole, const decimal *low, const decimal *high)
{
    const size_t before = b->n;
    int rc = alternative(s, b, begin);
    if (rc > 0) rc = pg_schema_put(s, b, "\"%s\" ", whole);
    if (rc > 0) rc = put_tail(s, b, low, high);
    if (rc == 0) b->n = before;
    return rc < 0 ? rc : 1;
}

/* Decimals of 0 and above from low to high, as alternatives behind what b has from `begin` on. */
static int put_decimals(pg_schema *s, pg_buf *b, size_t begin, const decimal *low, const decimal *high)
{
    char first[DIGITS], last[DIGITS];
    if (!high->endless && !strcmp(low->whole, high->whole)) return put_at(s, b, begin, low->whole, low, high);
    int rc = put_at(s, b, begin, low->whole, low, NULL);
    strcpy(first, low->whole);
    count_up(first);
    if (!high->endless) {
        strcpy(last, high->whole);
        if (strcmp(last, "0") != 0) count_down(last);
    }
    const size_t before = b->n;
    if (rc > 0) rc = alternative(s, b, begin);
    if (rc > 0) rc = pg_schema_put(s, b, "(");
    if (rc > 0) rc = put_whole(s, b, first, high->endless ? NULL : last);
    if (rc > 0) rc = pg_schema_put(s, b, ") (\".\" [0-9]+)?");
    if (rc == 0) b->n = before, rc = 1;
    if (rc > 0 && !high->endless) rc = put_at(s, b, begin, high->whole, NULL, high);
    return rc;
}

/* The nearest whole numbers within a bound. */
static void round_in(decimal *d, bool low)
{
    const bool up = low != d->negative; /* away from zero */
    if (d->endless) return;
    if (up && (d->part[0] || d->strict)) count_up(d->whole);
    if (!up && !d->part[0] && d->strict) {
        if (!strcmp(d->whole, "0")) { /* below 0, or above -0 */
            d->negative = !d->negative;
            count_up(d->whole);
        } else {
            count_down(d->whole);
        }
    }
    d->part[0] = 0;
    d->strict = false;
}

static int put_wholes(pg_schema *s, pg_buf *b, size_t begin, const decimal *low, const decimal *high)
{
    const size_t before = b->n;
    int rc = alternative(s, b, begin);
    if (rc > 0) rc = put_whole(s, b, low->whole, high->endless ? NULL : high->whole);
    if (rc == 0) b->n = before;
    return rc < 0 ? rc : 1;
}

/* Both signs of a range. */
static int put_signs(pg_schema *s, pg_buf *b, decimal low, decimal high, bool whole)
{
    int (*const put)(pg_schema *, pg_buf *, size_t, const decimal *, const decimal *) =
        whole ? put_wholes : put_decimals;
    const size_t begin = b->n;
    int rc = 1;
    if (is_zero(&low)) low.negative = false;
    if (is_zero(&high)) high.negative = false;
    if (low.endless || low.negative) { /* |x| from that of high, or just above 0, to that of low */
        decimal from = { .whole = "0", .strict = true };
        pg_buf digits = { 0 };
        if (high.negative) from = high;
        if (whole && !high.negative) strcpy(from.whole, "1");
        rc = put(s, &digits, 0, &from, &low);
        if (rc > 0 && digits.n) rc = pg_schema_put(s, b, "\"-\" (%.*s)", (int)digits.n, digits.data);
        free(digits.data);
    }
    if (rc > 0 && !high.negative) {
        const decimal zero = { .whole = "0" };
        rc = put(s, b, begin, low.endless || low.negative ? &zero : &low, &high);
    }
    return rc < 0 ? rc : b->n > begin;
}

/* ---- multiples -------------------------------------------------------------------------------------------------------------- */

enum { MOST_LISTED = 2000, MOST_REMAINDERS = 100 };

/* All multiples within bounds, one by one. */
static int list_multiples(pg_schema *s, pg_buf *b, const pg_facts *f, int64_t of, const pg_where *at)
{
    const double low = ceil(json_number_value(f->low.value) / (double)of),
                 high = floor(json_number_value(f->high.value) / (double)of);
    if (fabs(low) > 1e9 || fabs(high) > 1e9 || high - low > MOST_LISTED)
        return pg_schema_refuse(s, PG_EUNSUPPORTED, at, "more than %d multiples lie within the bounds", MOST_LISTED);
    const size_t begin = b->n;
    int rc = 1;
    for (int64_t i = (int64_t)low; rc > 0 && i <= (int64_t)high; i++) {
        const double x = (double)(i * of);
        if (f->low.strict && x <= json_number_value(f->low.value)) continue;
        if (f->high.strict && x >= json_number_value(f->high.value)) continue;
        rc = alternative(s, b, begin);
        if (rc > 0) rc = pg_schema_put(s, b, "\"%lld\"", (long long)(i * of));
    }
    if (rc > 0 && b->n == begin) return pg_schema_nothing(s, at, "no multiple lies within the bounds");
    return rc;
}

/* Whole numbers by their remainder so far: a rule for each. */
static int put_remainders(pg_schema *s, pg_buf *b, int of, const pg_where *at)
{
    int rule[MOST_REMAINDERS], rc = 1;
    for (int r = 0; r < of; r++)
        if ((rule[r] = pg_schema_number_rule(s, at)) < 0) return rule[r];
    pg_buf body = { 0 };
    for (int r = 0; rc > 0 && r < of; r++) {
        body.n = 0;
        rc = r ? 1 : pg_schema_put(s, &body, "\"\"");
        for (int d = 0; rc > 0 && d < 10; d++)
            rc = pg_schema_put(s, &body, "%s\"%d\" r%d", body.n ? " | " : "", d, rule[(10 * r + d) % of]);
        if (rc > 0) rc = pg_schema_finish_rule(s, rule[r], &body, at);
    }
    free(body.data);
    if (rc > 0) rc = pg_schema_put(s, b, "\"0\" | \"-\"? (");
    for (int d = 1; rc > 0 && d < 10; d++)
        rc = pg_schema_put(s, b, "%s\"%d\" r%d", d > 1 ? " | " : "", d, rule[d % of]);
    return rc > 0 ? pg_schema_put(s, b, ")") : rc;
}

static int put_multiples(pg_schema *s, pg_buf *b, const pg_facts *f, const pg_where *at)
{
    const pg_where here = { at, "multipleOf", 0 };
    const double of = json_number_value(f->multiple);
    for (int places = 1; places <= 9 && of < 1; places++)
        if (of == pow(10, -places) && f->types & PG_TYPE_OF_NUMBER && !f->low.value && !f->high.value)
            return pg_schema_put(s, b, "\"-\"? (\"0\" | [1-9] [0-9]*) (\".\" [0-9]{1,%d})?", places);
    if (of != floor(of) || of > 1e6)
        return pg_schema_refuse(s, PG_EUNSUPPORTED, &here,
                                "only whole numbers, and 0.1, 0.01 ... without bounds, can be held");
    if (f->low.value && f->high.value) return list_multiples(s, b, f, (int64_t)of, &here);
    if (f->low.value || f->high.value || of > MOST_REMAINDERS)
        return pg_schema_refuse(s, PG_EUNSUPPORTED, &here, "needs both bounds, or none and %d at most",
                                MOST_REMAINDERS);
    return put_remainders(s, b, (int)of, &here);
}

int pg_schema_number(pg_schema *s, pg_buf *b, const pg_facts *f, const pg_where *at)
{
    const bool whole = !(f->types & PG_TYPE_OF_NUMBER);
    const char *exponent = "(\".\" [0-9]+)? ([eE] [-+]? [0-9]+)?";
    decimal low, high;
    static const char *const formats[] = { "int32", "int64", "float", "double", "date",     "time", "date-time",
                                           "uuid",  "ipv4",  "ipv6",  "email",  "hostname", "uri" };
    bool known = !f->format;
    for (size_t i = 0; !known && i < sizeof formats / sizeof *formats; i++) known = !strcmp(f->format, formats[i]);
    if (!known) return pg_schema_refuse(s, PG_EUNSUPPORTED, at, "the format %.60s is not known", f->format);
    if (f->multiple && !(whole && json_number_value(f->multiple) == 1)) return put_multiples(s, b, f, at);
    if (!f->low.value && !f->high.value)
        return pg_schema_put(s, b, "\"-\"? (\"0\" | [1-9] [0-9]*) %s", whole ? "" : exponent);
    int rc = bound_of(s, &f->low, &low, at);
    if (rc > 0) rc = bound_of(s, &f->high, &high, at);
    if (rc <= 0) return rc;
    if (!whole && !f->high.value && is_zero(&low) && !low.strict)
        return pg_schema_put(s, b, "(\"0\" | [1-9] [0-9]*) %s", exponent);
    if (whole) {
        round_in(&low, true);
        round_in(&high, false);
    }
    if (f->low.value && f->high.value) {
        const double x = json_number_value(f->low.value), y = json_number_value(f->high.value);
        if (x > y || (x == y && (f->low.strict || f->high.strict)))
            return pg_schema_nothing(s, at, "the bounds leave no number");
    }
    rc = put_signs(s, b, low, high, whole);
    return rc == 0 ? pg_schema_nothing(s, at, "the bounds leave no number") : rc;
}
