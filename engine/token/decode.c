/* Ids to text: pg_decode and the stream that pg_detok is.
 *
 * Lives here: what a token looks like as bytes, and holding back the beginning of a character.
 * Why so: every token is decoded once, when the tokenizer is made; afterwards decoding is copying. Nothing is cleaned
 * up: what a model says is handed on byte for byte. */
#include "tokenizer.h"

#include "utf8.h"

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* "<0x0A>": 10; -1 when it is no such text. */
static int byte_of(const char *s, size_t n)
{
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    int high = hex_digit(s[3]), low = hex_digit(s[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Byte characters back to bytes; others stay as they are. */
static void add_byte_level(pg_buf *out, const char *s, size_t n)
{
    for (size_t i = 0, size; i < n; i += size) {
        uint32_t point;
        size = pg_utf8_read(s + i, n - i, &point);
        int byte = size ? pg_point_to_byte(point) : -1;
        if (size == 0) size = 1;
        if (byte >= 0)
            out->data[out->n++] = (char)byte;
        else
            pg_buf_add(out, s + i, size);
    }
}

static void add_spaced(pg_buf *out, const char *mark, const char *s, size_t n)
{
    size_t n_mark = strlen(mark);
    const char *end = s + n, *hit;
    while (n_mark && (hit = memmem(s, (size_t)(end - s), mark, n_mark))) {
        pg_buf_add(out, s, (size_t)(hit - s));
        pg_buf_add(out, " ", 1);
        s = hit + n_mark;
    }
    pg_buf_add(out, s, (size_t)(end - s));
}

int pg_tokenizer_spell_out(pg_tokenizer *t, pg_error *err)
{
    const pg_vocab *v = &t->vocab;
    t->plain_at = malloc(((size_t)v->n + 1) * sizeof *t->plain_at);
    /* No token is longer decoded than stored, so that nothing below has to grow the buffer. */
    if (!t->plain_at || !pg_buf_room(&t->plain, v->at[v->n] + 1))
        return pg_fail(err, PG_EMEMORY, "not enough memory for the vocabulary");
    for (int32_t id = 0; id < v->n; id++) {
        const char *s = pg_vocab_text(v, id);
        size_t n = pg_vocab_size(v, id);
        int byte = v->type[id] == PG_TYPE_BYTE ? byte_of(s, n) : -1;
        t->plain_at[id] = t->plain.n;
        if (byte >= 0)
            t->plain.data[t->plain.n++] = (char)byte;
        else if (pg_token_is_hidden(t, id) || (t->byte_level && v->type[id] == PG_TYPE_USER))
            pg_buf_add(&t->plain, s, n);
        else if (t->byte_level)
            add_byte_level(&t->plain, s, n);
        else
            add_spaced(&t->plain, t->mark, s, n);
        if (t->plain.n - t->plain_at[id] > t->plain_longest) t->plain_longest = t->plain.n - t->plain_at[id];
    }
    t->plain_at[v->n] = t->plain.n;
    return PG_OK;
}

/* The bytes that token id adds to a text; *begun: there was some before. */
static const char *token_bytes(const pg_tokenizer *t, int32_t id, bool special, bool *begun, size_t *n)
{
    const char *s = t->plain.data + t->plain_at[id];
    *n = special || !pg_token_is_hidden(t, id) ? t->plain_at[id + 1] - t->plain_at[id] : 0;
    if (*n == 0) return s;
    bool drop = t->drop_space && !*begun && s[0] == ' ';
    *begun = true;
    *n -= drop;
    return s + drop;
}

static int check_id(const pg_tokenizer *t, int32_t id, pg_error *err)
{
    if (id >= 0 && id < t->vocab.n) return PG_OK;
    return pg_fail(err, PG_EINVAL, "token id %d is out of range, expected 0 to %d", id, t->vocab.n - 1);
}

int pg_decode(pg_tokenizer *t, const int32_t *ids, int32_t n, int32_t special, char *text, int32_t max, pg_error *err)
{
    if (!t || n < 0 || max < 0 || (!ids && n) || (!text && max))
        return pg_fail(err, PG_EINVAL, "pg_decode: a tokenizer, ids and room for text are needed");
    size_t total = 0;
    bool begun = false;
    for (int32_t i = 0; i < n; i++) {
        int rc = check_id(t, ids[i], err);
        if (rc < 0) return rc;
        size_t size, room = total < (size_t)max ? (size_t)max - total : 0;
        const char *s = token_bytes(t, ids[i], special != 0, &begun, &size);
        if (room) memcpy(text + total, s, size < room ? size : room);
        total += size;
    }
    return total <= INT32_MAX ? (int)total : pg_fail(err, PG_ELIMIT, "the text of %d tokens is too long", n);
}

/* ---- stream ---------------------------------------------------------------------------------------------------------- */

struct pg_detok {
    const pg_tokenizer *t;
    bool special, begun;
    size_t given; /* bytes of buf that the last call handed out */
    pg_buf buf;   /* those and the ones held back: room for the longest token and an unfinished character */
};

int pg_detok_open(pg_tokenizer *t, int32_t special, pg_detok **out, pg_error *err)
{
    if (!t || !out) return pg_fail(err, PG_EINVAL, "pg_detok_open: a tokenizer is needed");
    pg_detok *d = calloc(1, sizeof *d);
    if (!d || !pg_buf_room(&d->buf, t->plain_longest + 4)) {
        free(d);
        return pg_fail(err, PG_EMEMORY, "not enough memory to decode");
    }
    d->t = t;
    d->special = special != 0;
    *out = d;
    return PG_OK;
}

void pg_detok_close(pg_detok *d)
{
    if (!d) return;
    free(d->buf.data);
    free(d);
}

void pg_detok_resume(pg_detok *d)
{
    d->begun = true;
}

/* Bytes at the end of s that may yet become a character. */
static size_t unfinished(const char *s, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        size_t size = pg_utf8_size((unsigned char)s[n - back]);
        if (size > back && pg_utf8_reach(s + n - back, back) == back) return back;
        if (size > 0) break;
    }
    return 0;
}

int pg_detok_next(pg_detok *d, int32_t id, const char **text, int32_t *n_text, pg_error *err)
{
    if (!d || !text || !n_text) return pg_fail(err, PG_EINVAL, "pg_detok_next: a stream and room for text are needed");
    *text = "";
    *n_text = 0;
    int rc = check_id(d->t, id, err);
    if (rc < 0) return rc;
    size_t n;
    const char *s = token_bytes(d->t, id, d->special, &d->begun, &n);
    d->buf.n -= d->given;
    memmove(d->buf.data, d->buf.data + d->given, d->buf.n);
    pg_buf_add(&d->buf, s, n);
    d->given = d->buf.n - unfinished(d->buf.data, d->buf.n);
    *text = d->buf.data;
    *n_text = (int32_t)d->given;
    return PG_OK;
}

int pg_detok_rest(pg_detok *d, const char **text, int32_t *n_text)
{
    if (!d || !text || !n_text) return PG_EINVAL;
    *text = d->buf.data + d->given;
    *n_text = (int32_t)(d->buf.n - d->given);
    d->buf.n = d->given = 0;
    d->begun = false;
    return PG_OK;
}
