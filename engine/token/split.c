/* Running a text through the steps of a pre-tokenizer.
 *
 * Lives here: pieces and how each step cuts or rewrites them.
 * Not here: expressions (pre.c, regex.c), normalising (normal.c), special tokens (special.c).
 * Why so: a pre-tokenizer is a list of steps, each applied to every piece that the steps before it left, exactly as
 * Hugging Face's `tokenizers` does it; GGUF's named pre-tokenizers are the same list under a name. Pieces are bounds in
 * one buffer, so a step that only cuts copies nothing. */
#include "split.h"

#include "utf8.h"

pg_step *pg_steps_add(pg_steps *steps, pg_step_kind kind, pg_error *err)
{
    void *data = steps->step;
    bool fine = pg_grow(&data, steps->n, &steps->room, 1, sizeof *steps->step);
    steps->step = data;
    if (!fine) {
        pg_fail(err, PG_EMEMORY, "not enough memory for the pre-tokenizer");
        return NULL;
    }
    pg_step *step = &steps->step[steps->n++];
    *step = (pg_step){ .kind = kind };
    return step;
}

int pg_steps_split(pg_steps *steps, const char *pattern, pg_error *err)
{
    pg_step *step = pg_steps_add(steps, PG_STEP_SPLIT, err);
    return step ? pg_regex_open(pattern, strlen(pattern), false, "pre-tokenizer", &step->re, err) : PG_EMEMORY;
}

void pg_steps_free(pg_steps *steps)
{
    for (size_t i = 0; i < steps->n; i++) pg_regex_close(steps->step[i].re);
    free(steps->step);
}

void pg_pieces_free(pg_pieces *p)
{
    free(p->text.data);
    free(p->next_text.data);
    free(p->piece);
    free(p->next);
}

static bool add_piece(pg_pieces *p, size_t from, size_t to)
{
    if (from == to) return true;
    void *data = p->next;
    bool fine = pg_grow(&data, p->n_next, &p->next_room, 1, sizeof *p->next);
    p->next = data;
    if (fine) p->next[p->n_next++] = (pg_piece){ from, to };
    return fine;
}

/* The pieces that a step has added become the pieces. */
static void turn(pg_pieces *p)
{
    pg_piece *piece = p->piece;
    size_t room = p->room;
    p->piece = p->next;
    p->room = p->next_room;
    p->n = p->n_next;
    p->next = piece;
    p->next_room = room;
}

/* A SPLIT at work on one piece: its matches and the gaps between them come as stretches. */
typedef struct cut {
    const pg_step *step;
    size_t first;   /* the piece's first result in p->next */
    bool any;       /* there was a stretch before */
    bool was_match; /* and it was a match */
} cut;

static bool add_stretch(pg_pieces *p, cut *c, size_t from, size_t to, bool match)
{
    match ^= c->step->invert;
    bool join = false;
    switch (c->step->behavior) {
    case PG_ISOLATED: break;
    case PG_REMOVED:
        if (match) return true;
        break;
    case PG_WITH_PREVIOUS: join = match && !c->was_match; break;
    case PG_WITH_NEXT: join = !match && c->was_match; break;
    case PG_CONTIGUOUS: join = match == c->was_match; break;
    }
    join = join && c->any && p->n_next > c->first;
    c->any = true;
    c->was_match = match;
    if (!join) return add_piece(p, from, to);
    p->next[p->n_next - 1].to = to;
    return true;
}

static int split_piece(const pg_step *step, pg_match *m, pg_pieces *p, const char *sane, pg_piece piece, pg_error *err)
{
    const char *s = sane + piece.from;
    size_t n = piece.to - piece.from, done = 0, from = 0, to = 0;
    cut c = { .step = step, .first = p->n_next };
    bool fine = true;
    int rc = 1;
    while (fine && from < n && (rc = pg_regex_next(step->re, m, s, n, &from, &to, err)) > 0) {
        /* An empty match cuts as well, but the search has to go on behind the next character. */
        if (from > done) fine = add_stretch(p, &c, piece.from + done, piece.from + from, false);
        if (to > from) fine = fine && add_stretch(p, &c, piece.from + from, piece.from + to, true);
        done = to;
        from = to > from || to == n ? to : to + pg_utf8_size((unsigned char)s[to]);
    }
    if (rc < 0) return rc;
    if (fine && done < n) fine = add_stretch(p, &c, piece.from + done, piece.from + n, false);
    return fine ? PG_OK : pg_fail(err, PG_EMEMORY, "not enough memory to split text");
}

static bool add_bytes(pg_buf *out, const char *s, size_t n)
{
    if (!pg_buf_room(out, 2 * n)) return false;
    for (size_t i = 0; i < n; i++) out->n += pg_utf8_write(out->data + out->n, pg_byte_to_point((unsigned char)s[i]));
    return true;
}

static bool add_marked(pg_buf *out, const pg_step *step, const char *s, size_t n, bool first)
{
    size_t n_mark = strlen(step->mark);
    bool begins = n && (s[0] == ' ' || (n >= n_mark && memcmp(s, step->mark, n_mark) == 0)), fine = true;
    if (!begins && (step->scheme == PG_SCHEME_ALWAYS || (step->scheme == PG_SCHEME_FIRST && first)))
        fine = pg_buf_add(out, step->mark, n_mark);
    for (size_t i = 0; fine && i < n;) {
        const char *space = memchr(s + i, ' ', n - i);
        size_t plain = space ? (size_t)(space - s) - i : n - i;
        fine = pg_buf_add(out, s + i, plain) && (!space || pg_buf_add(out, step->mark, n_mark));
        i += plain + (space != NULL);
    }
    return fine;
}

/* A step that writes the text anew: the pieces stay the same but for their bytes. */
static bool rewrite_pieces(const pg_step *step, pg_pieces *p, bool at_start)
{
    pg_buf *out = &p->next_text;
    out->n = 0;
    for (size_t i = 0; i < p->n; i++) {
        const char *s = p->text.data + p->piece[i].from;
        size_t n = p->piece[i].to - p->piece[i].from, from = out->n;
        bool fine = step->kind == PG_STEP_BYTES  ? add_bytes(out, s, n)
                    : step->kind == PG_STEP_META ? add_marked(out, step, s, n, at_start && i == 0)
                                                 : (s[0] == ' ' || pg_buf_add(out, " ", 1)) && pg_buf_add(out, s, n);
        if (!fine || !add_piece(p, from, out->n)) return false;
    }
    pg_buf old = p->text;
    p->text = *out;
    *out = old;
    return true;
}

static int run_step(const pg_step *step, pg_match *m, pg_pieces *p, bool at_start, pg_error *err)
{
    p->n_next = 0;
    if (step->kind == PG_STEP_SPLIT) {
        const char *sane = pg_match_text(m, p->text.data, p->text.n);
        if (!sane) return pg_fail(err, PG_EMEMORY, "not enough memory to split text");
        for (size_t i = 0; i < p->n; i++) {
            int rc = split_piece(step, m, p, sane, p->piece[i], err);
            if (rc < 0) return rc;
        }
    } else if (!rewrite_pieces(step, p, at_start)) {
        return pg_fail(err, PG_EMEMORY, "not enough memory to split text");
    }
    turn(p);
    return PG_OK;
}

int pg_split(const pg_steps *steps, pg_match *m, pg_pieces *p, const char *s, size_t n, bool at_start, pg_error *err)
{
    p->text.n = p->n = p->n_next = 0;
    if (!pg_buf_add(&p->text, s, n) || !add_piece(p, 0, n))
        return pg_fail(err, PG_EMEMORY, "not enough memory to split text");
    turn(p);
    for (size_t i = 0; i < steps->n; i++) {
        int rc = run_step(&steps->step[i], m, p, at_start, err);
        if (rc < 0) return rc;
    }
    return PG_OK;
}
