/* Normalising: NFC, Replace, Prepend.
 *
 * Not here: white space and marks that a pre-tokenizer adds (split.c).
 * Why so: composing is utf8proc's work, but its own decomposition sorts runs of combining marks in quadratic time, which
 * a user's text could exploit; here runs are sorted by counting. Bad bytes stay where they are: what is between them is
 * normalised.
 * Source: UAX 15. */
#include "normal.h"

#include <utf8proc.h>

#include "utf8.h"

pg_normal *pg_normals_add(pg_normals *list, pg_error *err)
{
    void *data = list->step;
    bool fine = pg_grow(&data, list->n, &list->room, 1, sizeof *list->step);
    list->step = data;
    if (!fine) {
        pg_fail(err, PG_EMEMORY, "not enough memory for the normalizer");
        return NULL;
    }
    pg_normal *step = &list->step[list->n++];
    memset(step, 0, sizeof *step);
    return step;
}

void pg_normals_free(pg_normals *list)
{
    for (size_t i = 0; i < list->n; i++) {
        pg_regex_close(list->step[i].re);
        free(list->step[i].find.data);
        free(list->step[i].text.data);
    }
    free(list->step);
}

void pg_normal_work_free(pg_normal_work *work)
{
    free(work->a.data);
    free(work->b.data);
    free(work->point);
    free(work->sorted);
}

static int combining_class(int32_t c)
{
    return c < 0x300 ? 0 : utf8proc_get_property(c)->combining_class;
}

/* Sort a run of combining marks by class; marks of one class keep their order. */
static bool sort_run(pg_normal_work *w, int32_t *run, size_t n)
{
    size_t begin[257] = { 0 };
    void *data = w->sorted;
    bool fine = pg_grow(&data, 0, &w->sorted_room, n, sizeof *run);
    w->sorted = data;
    if (!fine) return false;
    for (size_t i = 0; i < n; i++) begin[combining_class(run[i]) + 1]++;
    for (int i = 0; i < 256; i++) begin[i + 1] += begin[i];
    for (size_t i = 0; i < n; i++) w->sorted[begin[combining_class(run[i])]++] = run[i];
    memcpy(run, w->sorted, n * sizeof *run);
    return true;
}

/* Canonical decomposition of s, which is UTF-8, into w->point. */
static bool decompose(pg_normal_work *w, const char *s, size_t n)
{
    w->n_point = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        int last = 0;
        i += pg_utf8_read(s + i, n - i, &c);
        void *data = w->point;
        bool fine = pg_grow(&data, w->n_point, &w->point_room, 4, sizeof *w->point);
        w->point = data;
        if (!fine) return false;
        int32_t *to = w->point + w->n_point;
        utf8proc_ssize_t size = utf8proc_decompose_char((int32_t)c, to, 4, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &last);
        if (size < 1 || size > 4) to[0] = (int32_t)c, size = 1;
        w->n_point += (size_t)size;
    }
    for (size_t i = 0; i < w->n_point; i++) {
        size_t from = i;
        while (i < w->n_point && combining_class(w->point[i]) > 0) i++;
        if (i > from + 1 && !sort_run(w, w->point + from, i - from)) return false;
    }
    return true;
}

static bool add_nfc(pg_normal_work *w, pg_buf *out, const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && (unsigned char)s[i] < 0xcc) i++; /* characters below U+0300 are composed and do not combine */
    if (i == n) return pg_buf_add(out, s, n);
    if (!decompose(w, s, n)) return false;
    utf8proc_ssize_t size =
        utf8proc_normalize_utf32(w->point, (utf8proc_ssize_t)w->n_point, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (size < 0 || !pg_buf_room(out, (size_t)size * 4)) return false;
    for (utf8proc_ssize_t k = 0; k < size; k++) out->n += pg_utf8_write(out->data + out->n, (uint32_t)w->point[k]);
    return true;
}

static bool run_nfc(pg_normal_work *w, pg_buf *out, const char *s, size_t n)
{
    bool fine = true;
    for (size_t i = 0; fine && i < n;) {
        size_t good = pg_utf8_bad(s + i, n - i);
        fine = add_nfc(w, out, s + i, good);
        i += good;
        if (i < n) fine = fine && pg_buf_add(out, s + i++, 1);
    }
    return fine;
}

static bool replace_text(const pg_normal *step, pg_buf *out, const char *s, size_t n)
{
    bool fine = true;
    const char *end = s + n, *hit;
    while (fine && (hit = memmem(s, (size_t)(end - s), step->find.data, step->find.n))) {
        fine = pg_buf_add(out, s, (size_t)(hit - s)) && pg_buf_add(out, step->text.data, step->text.n);
        s = hit + step->find.n;
    }
    return fine && pg_buf_add(out, s, (size_t)(end - s));
}

static int replace_matches(const pg_normal *step, pg_match *m, pg_buf *out, const char *s, size_t n, pg_error *err)
{
    const char *sane = pg_match_text(m, s, n);
    size_t done = 0, from = 0, to = 0;
    int rc = PG_OK;
    bool fine = sane != NULL;
    while (fine && from < n && (rc = pg_regex_next(step->re, m, sane, n, &from, &to, err)) > 0) {
        fine = pg_buf_add(out, s + done, from - done) && pg_buf_add(out, step->text.data, step->text.n);
        done = to;
        from = to > from || to == n ? to : to + pg_utf8_size((unsigned char)sane[to]);
    }
    if (rc < 0) return rc;
    fine = fine && pg_buf_add(out, s + done, n - done);
    return fine ? PG_OK : pg_fail(err, PG_EMEMORY, "not enough memory to normalize text");
}

int pg_normalize(const pg_normals *list, pg_match *m, pg_normal_work *work, const char **s, size_t *n, pg_error *err)
{
    for (size_t i = 0; i<list->n && * n> 0; i++) {
        const pg_normal *step = &list->step[i];
        pg_buf *out = *s == work->a.data ? &work->b : &work->a;
        bool fine = true;
        out->n = 0;
        if (step->kind == PG_NORMAL_NFC) {
            fine = run_nfc(work, out, *s, *n);
        } else if (step->kind == PG_NORMAL_PREPEND) {
            fine = pg_buf_add(out, step->text.data, step->text.n) && pg_buf_add(out, *s, *n);
        } else if (!step->re) {
            fine = replace_text(step, out, *s, *n);
        } else {
            int rc = replace_matches(step, m, out, *s, *n, err);
            if (rc < 0) return rc;
        }
        if (!fine) return pg_fail(err, PG_EMEMORY, "not enough memory to normalize text");
        *s = out->data;
        *n = out->n;
    }
    return PG_OK;
}
