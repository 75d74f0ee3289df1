/* Tokenizer expressions on PCRE2.
 *
 * Lives here: rewriting an expression from the dialect that tokenizers are written in (Oniguruma's Ruby syntax) to
 * PCRE2's, compiling it, running it.
 * Not here: which expressions a tokenizer has (pre.c, from_json.c), what matches and gaps become (split.c).
 * Why so: the published expressions are the definition of a tokenizer, so they are run as they are written. Where the
 * two dialects agree in spelling but not in meaning (white space, case folding, ^ and $, an interval followed by +) the
 * expression is rewritten; what has no counterpart is refused.
 * Sources: Oniguruma's doc/RE; pcre2pattern(3); UAX 44 for White_Space. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "regex.h"

#include <pcre2.h>
#include <stdio.h>

#include "utf8.h"

#define SPACE \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACE                                                                                                      \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}" \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{d7ff}\\x{e000}-\\x{10ffff}"

enum {
    DEPTH = 64,              /* groups in groups */
    PATTERN_MAX = 1 << 16,   /* bytes of an expression */
    STEPS = 10 * 1000 * 1000 /* PCRE2's own match limit */
};

struct pg_regex {
    pcre2_code *code;
    bool literal;
};

/* An expression on its way from one dialect to the other. */
typedef struct rewrite {
    const char *s;
    size_t n, i;
    pg_buf out;
    bool fold;   /* inside (?i */
    size_t atom; /* in out: where the item before a quantifier begins */
    struct {
        bool fold;
        size_t at;
    } group[DEPTH];
    int depth;
    const char *why; /* what cannot be rewritten, or NULL */
    bool full;       /* memory is short */
} rewrite;

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void emit(rewrite *w, const char *s, size_t n)
{
    if (!pg_buf_add(&w->out, s, n)) w->full = true;
}

static void put(rewrite *w, const char *s)
{
    emit(w, s, strlen(s));
}

static void copy(rewrite *w, size_t n)
{
    if (n > w->n - w->i) n = w->n - w->i;
    emit(w, w->s + w->i, n);
    w->i += n;
}

static void refuse(rewrite *w, const char *why)
{
    w->why = why;
    w->i = w->n;
}

static char peek(const rewrite *w, size_t ahead)
{
    return ahead < w->n - w->i ? w->s[w->i + ahead] : 0;
}

/* A backslash and what belongs to it, inside a class or not. */
static void rewrite_escape(rewrite *w, bool in_class)
{
    char c = peek(w, 1);
    switch (c) {
    case 's':
    case 'S': {
        const char *set = c == 's' ? SPACE : NOT_SPACE;
        if (!in_class) put(w, "[");
        put(w, set);
        if (!in_class) put(w, "]");
        w->i += 2;
        break;
    }
    case 'p':
    case 'P':
    case 'x': {
        const char *end = peek(w, 2) == '{' ? memchr(w->s + w->i, '}', w->n - w->i) : NULL;
        if (!end) refuse(w, "an escape without braces");
        copy(w, end ? (size_t)(end - (w->s + w->i)) + 1 : 0);
        break;
    }
    case 'u':
        put(w, "\\x{");
        w->i += 2;
        copy(w, 4);
        put(w, "}");
        break;
    case 'Q':
    case 'E':
    case 'h':
    case 'H':
    case 'R':
    case 'X':
    case 'K':
    case 'G':
    case 'g':
    case 'k':
    case 'c':
    case 'C': refuse(w, "an escape that is not supported"); break;
    default: copy(w, 2);
    }
}

/* In a class: one character, or a range of letters; under (?i both cases of ASCII letters. */
static void rewrite_member(rewrite *w)
{
    char a = peek(w, 0), b = peek(w, 1) == '-' ? peek(w, 2) : 0;
    if (!w->fold || !is_letter(a)) {
        copy(w, 1);
    } else if (is_letter(b) && (a & 0x20) == (b & 0x20)) {
        char other[3] = { (char)(a ^ 0x20), '-', (char)(b ^ 0x20) };
        copy(w, 3);
        emit(w, other, 3);
    } else if (b && b != ']') {
        refuse(w, "a range between unlike characters under (?i");
    } else {
        char other = (char)(a ^ 0x20);
        copy(w, 1);
        emit(w, &other, 1);
    }
}

static void rewrite_class(rewrite *w)
{
    copy(w, peek(w, 1) == '^' ? 2 : 1);
    if (peek(w, 0) == ']') copy(w, 1);
    while (w->i < w->n && peek(w, 0) != ']') {
        char c = peek(w, 0);
        if (c == '\\') {
            rewrite_escape(w, true);
        } else if (c == '[' && peek(w, 1) == ':') {
            const char *end = memchr(w->s + w->i, ']', w->n - w->i);
            copy(w, end ? (size_t)(end - (w->s + w->i)) + 1 : 2);
        } else if (c == '[') {
            refuse(w, "a class inside a class");
        } else if (c == '&' && peek(w, 1) == '&') {
            refuse(w, "an intersection of classes (&&)");
        } else {
            rewrite_member(w);
        }
    }
    copy(w, 1);
}

/* "(?" and its flags: only i is known, and it is written out, for PCRE2 would fold beyond ASCII (s and U+017F). */
static void rewrite_flags(rewrite *w)
{
    size_t i = 2;
    bool on = peek(w, i) != '-';
    if (!on) i++;
    char end = peek(w, i + 1);
    if (peek(w, i) != 'i' || (end != ':' && end != ')')) {
        refuse(w, "a group with flags other than i");
        return;
    }
    if (end == ':')
        put(w, "(?:");
    else
        w->depth--; /* it is no group: the flag holds to the end of the one around it */
    w->fold = on;
    w->i += i + 2;
}

static void rewrite_open(rewrite *w)
{
    if (w->depth == DEPTH) {
        refuse(w, "groups nested too deep");
        return;
    }
    w->group[w->depth].fold = w->fold;
    w->group[w->depth++].at = w->out.n;
    char c = peek(w, 2);
    if (peek(w, 1) == '*') {
        refuse(w, "a verb");
    } else if (peek(w, 1) != '?') {
        copy(w, 1);
    } else if (c == ':' || c == '=' || c == '!' || c == '>') {
        copy(w, 3);
    } else if (c == '<' && (peek(w, 3) == '=' || peek(w, 3) == '!')) {
        copy(w, 4);
    } else {
        rewrite_flags(w);
    }
}

/* "{n,m}": Oniguruma takes a + behind it for a second quantifier, PCRE2 for possession; "{,m}" begins at 0. */
static void rewrite_brace(rewrite *w)
{
    size_t i = 1, comma = 0;
    while ((peek(w, i) >= '0' && peek(w, i) <= '9') || (peek(w, i) == ',' && !comma)) {
        if (peek(w, i) == ',') comma = i;
        i++;
    }
    if (peek(w, i) != '}' || i == 1 || (comma && i == 2)) {
        w->atom = w->out.n;
        copy(w, 1);
        return;
    }
    bool twice = peek(w, i + 1) == '+';
    if (twice && !pg_buf_room(&w->out, 3)) {
        w->full = true;
    } else if (twice) {
        memmove(w->out.data + w->atom + 3, w->out.data + w->atom, w->out.n - w->atom);
        memcpy(w->out.data + w->atom, "(?:", 3);
        w->out.n += 3;
    }
    if (comma == 1) {
        put(w, "{0");
        w->i++;
        i--;
    }
    copy(w, i + 1);
    if (twice) put(w, ")");
}

static void rewrite_one(rewrite *w)
{
    char c = peek(w, 0);
    if (c == '*' || c == '+' || c == '?' || c == '|' || c == '^' || c == '$') {
        copy(w, 1);
        return;
    }
    if (c == '{') {
        rewrite_brace(w);
        return;
    }
    if (c == ')') {
        if (w->depth > 0) {
            w->fold = w->group[--w->depth].fold;
            w->atom = w->group[w->depth].at;
        }
        copy(w, 1);
        return;
    }
    w->atom = w->out.n;
    if (c == '\\') {
        rewrite_escape(w, false);
    } else if (c == '[') {
        rewrite_class(w);
    } else if (c == '(') {
        rewrite_open(w);
    } else if (w->fold && is_letter(c)) {
        char both[4] = { '[', c, (char)(c ^ 0x20), ']' };
        emit(w, both, 4);
        w->i++;
    } else {
        uint32_t point;
        size_t size = pg_utf8_read(w->s + w->i, w->n - w->i, &point);
        copy(w, size ? size : 1);
    }
}

/* The expression in PCRE2's dialect into w->out. */
static void rewrite_all(rewrite *w)
{
    static const char trailing[] = "\\s+$";
    if (w->n == sizeof trailing - 1 && memcmp(w->s, trailing, w->n) == 0) {
        /* Searched as it stands this takes quadratic time on a long run of spaces in mid text: it fails again from each
         * of them. A match can only begin where the run does. */
        put(w, "(?<![" SPACE "])[" SPACE "]+$");
        return;
    }
    while (w->i < w->n) rewrite_one(w);
}

static int compile(pg_regex *re, const char *s, size_t n, const char *what, pg_error *err)
{
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    if (re->literal) options = PCRE2_UTF | PCRE2_LITERAL;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return pg_fail(err, PG_EMEMORY, "%s: not enough memory for an expression", what);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code;
    PCRE2_SIZE at;
    re->code = pcre2_compile((PCRE2_SPTR)s, n, options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!re->code) {
        char why[120];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        return pg_fail(err, PG_EUNSUPPORTED, "%s: expression not understood: %s", what, why);
    }
    (void)pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE); /* where there is no JIT the interpreter runs it */
    return PG_OK;
}

int pg_regex_open(const char *pattern, size_t n, bool literal, const char *what, pg_regex **out, pg_error *err)
{
    if (n == 0 || n > PATTERN_MAX)
        return pg_fail(err, PG_EUNSUPPORTED, "%s: expression of %zu bytes, expected 1 to %d", what, n, PATTERN_MAX);
    pg_regex *re = calloc(1, sizeof *re);
    if (!re) return pg_fail(err, PG_EMEMORY, "%s: not enough memory for an expression", what);
    rewrite w = { .s = pattern, .n = n };
    re->literal = literal;
    if (!literal) rewrite_all(&w);
    int rc = w.full    ? pg_fail(err, PG_EMEMORY, "%s: not enough memory for an expression", what)
             : w.why   ? pg_fail(err, PG_EUNSUPPORTED, "%s: expression with %s: %.*s", what, w.why,
                                 (int)(n < 100 ? n : 100), pattern)
             : literal ? compile(re, pattern, n, what, err)
                       : compile(re, w.out.data, w.out.n, what, err);
    free(w.out.data);
    if (rc < 0) {
        pg_regex_close(re);
        return rc;
    }
    *out = re;
    return PG_OK;
}

void pg_regex_close(pg_regex *re)
{
    if (!re) return;
    pcre2_code_free(re->code);
    free(re);
}

const char *pg_match_text(pg_match *m, const char *s, size_t n)
{
    size_t bad = pg_utf8_bad(s, n);
    if (bad == n) return s;
    m->sane.n = 0;
    if (!pg_buf_add(&m->sane, s, n)) return NULL;
    for (; bad < n; bad += 1 + pg_utf8_bad(s + bad + 1, n - bad - 1)) m->sane.data[bad] = 0x1a;
    return m->sane.data;
}

void pg_match_free(pg_match *m)
{
    pcre2_match_data_free(m->data);
    free(m->sane.data);
}

int pg_regex_next(const pg_regex *re, pg_match *m, const char *s, size_t n, size_t *from, size_t *to, pg_error *err)
{
    if (!m->data) m->data = pcre2_match_data_create(1, NULL);
    if (!m->data) return pg_fail(err, PG_EMEMORY, "not enough memory to split text");
    PCRE2_SPTR subject = (PCRE2_SPTR)s;
    int rc = pcre2_match(re->code, subject, n, *from, PCRE2_NO_UTF_CHECK, m->data, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT || rc == PCRE2_ERROR_MATCHLIMIT) {
        /* The interpreter keeps its stack on the heap, and the limit grows with the text. */
        pcre2_match_context *context = pcre2_match_context_create(NULL);
        if (!context) return pg_fail(err, PG_EMEMORY, "not enough memory to split text");
        uint32_t steps = n < UINT32_MAX / 32 ? (uint32_t)n * 16 + STEPS : UINT32_MAX;
        pcre2_set_match_limit(context, steps);
        pcre2_set_depth_limit(context, steps);
        rc = pcre2_match(re->code, subject, n, *from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data, context);
        pcre2_match_context_free(context);
    }
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc == PCRE2_ERROR_NOMEMORY || rc == PCRE2_ERROR_HEAPLIMIT)
        return pg_fail(err, PG_EMEMORY, "not enough memory to split text of %zu bytes", n);
    if (rc < 0) {
        char why[120];
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        return pg_fail(err, PG_ELIMIT, "splitting text of %zu bytes: %s", n, why);
    }
    const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(m->data);
    *from = ovector[0];
    *to = ovector[1];
    return 1;
}
