/* Finding special tokens in a text.
 *
 * Lives here: the tree of their texts and the two ways to resolve overlaps.
 * Not here: which tokens are special (from_gguf.c, from_json.c).
 * Why so: GGUF files follow llama.cpp, which applies the tokens in order of length to whatever text is left; the files
 * of Hugging Face follow `tokenizers`, which reads from left to right and takes the longest token at each place. Both
 * begin with one walk over the tree. For the first only the tokens that the walk has met are searched for, so that a
 * vocabulary with thousands of them costs nothing. */
#include "special.h"

#include <utf8proc.h>

#include "utf8.h"

#define NONE (-1)

int pg_specials_add(pg_specials *set, const pg_special *special, pg_error *err)
{
    void *data = set->special;
    bool fine = pg_grow(&data, set->n, &set->room, 1, sizeof *set->special);
    set->special = data;
    if (!fine) return pg_fail(err, PG_EMEMORY, "not enough memory for the special tokens");
    set->special[set->n++] = *special;
    return PG_OK;
}

void pg_specials_free(pg_specials *set)
{
    for (size_t i = 0; i < set->n; i++) free(set->special[i].own);
    free(set->special);
    free(set->node);
}

void pg_segments_free(pg_segments *segments)
{
    free(segments->data);
    free(segments->next);
}

static int32_t add_node(pg_specials *set, unsigned char byte)
{
    void *data = set->node;
    bool fine = set->n_node < INT32_MAX && pg_grow(&data, set->n_node, &set->node_room, 1, sizeof *set->node);
    set->node = data;
    if (!fine) return NONE;
    set->node[set->n_node] = (pg_special_node){ NONE, NONE, NONE, byte };
    return (int32_t)set->n_node++;
}

static int32_t child(const pg_specials *set, int32_t node, unsigned char byte)
{
    int32_t i = set->node[node].child;
    while (i != NONE && set->node[i].byte != byte) i = set->node[i].sibling;
    return i;
}

static bool grow_tree(pg_specials *set, const pg_special *special, int32_t token)
{
    int32_t at = (unsigned char)special->text[0];
    for (size_t i = 1; i < special->n; i++) {
        unsigned char byte = (unsigned char)special->text[i];
        int32_t next = child(set, at, byte);
        if (next == NONE) {
            next = add_node(set, byte);
            if (next == NONE) return false;
            set->node[next].sibling = set->node[at].child;
            set->node[at].child = next;
        }
        at = next;
    }
    if (set->node[at].token == NONE) set->node[at].token = token;
    return true;
}

static int by_length(const void *a, const void *b)
{
    const pg_special *x = a, *y = b;
    if (x->n != y->n) return x->n < y->n ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

int pg_specials_index(pg_specials *set, pg_error *err)
{
    if (set->n == 0) return PG_OK;
    qsort(set->special, set->n, sizeof *set->special, by_length);
    bool fine = true;
    for (int b = 0; b < 256; b++) fine = fine && add_node(set, (unsigned char)b) == b;
    while (set->n > 0 && set->special[set->n - 1].n == 0) free(set->special[--set->n].own);
    for (size_t i = 0; fine && i < set->n; i++) fine = grow_tree(set, &set->special[i], (int32_t)i);
    return fine ? PG_OK : pg_fail(err, PG_EMEMORY, "not enough memory for the special tokens");
}

static bool add_segment(pg_segments *out, size_t from, size_t to, int32_t id)
{
    if (from == to) return true;
    void *data = out->data;
    bool fine = pg_grow(&data, out->n, &out->room, 1, sizeof *out->data);
    out->data = data;
    if (fine) out->data[out->n++] = (pg_segment){ from, to, id };
    return fine;
}

/* The longest token at s, NULL when there is none; every token met on the way is marked when met is not NULL. */
static const pg_special *walk(const pg_specials *set, const char *s, size_t n, bool control, bool *met)
{
    const pg_special *longest = NULL;
    int32_t at = (unsigned char)s[0];
    for (size_t i = 1; at != NONE; i++) {
        int32_t token = set->node[at].token;
        if (token != NONE && (control || set->special[token].always)) {
            longest = &set->special[token];
            if (met) met[token] = true;
        }
        at = i < n ? child(set, at, (unsigned char)s[i]) : NONE;
    }
    return longest;
}

/* Letters, marks, digits and connectors, as in an expression's \w. */
static bool is_word(const char *s, size_t n)
{
    uint32_t c;
    if (!pg_utf8_read(s, n, &c)) return false;
    switch (utf8proc_category((int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return c == 0x200c || c == 0x200d;
    }
}

/* Where the character before `at` begins. */
static size_t before(const char *s, size_t at)
{
    size_t i = at - 1;
    while (i > 0 && at - i < 4 && ((unsigned char)s[i] & 0xc0) == 0x80) i--;
    return i;
}

static size_t skip_spaces(const char *s, size_t n, size_t at)
{
    uint32_t c;
    size_t size;
    while (at < n && (size = pg_utf8_read(s + at, n - at, &c)) && pg_is_space(c)) at += size;
    return at;
}

static size_t back_over_spaces(const char *s, size_t at, size_t least)
{
    while (at > least) {
        uint32_t c;
        size_t i = before(s, at);
        if (i < least || pg_utf8_read(s + i, at - i, &c) != at - i || !pg_is_space(c)) break;
        at = i;
    }
    return at;
}

static bool cut_left_to_right(const pg_specials *set, const char *s, size_t n, bool control, pg_segments *out)
{
    size_t done = 0;
    for (size_t i = 0; i < n;) {
        const pg_special *hit = walk(set, s + i, n - i, control, NULL);
        if (!hit) {
            i++;
            continue;
        }
        size_t from = i, to = i + hit->n;
        i = to;
        if (hit->single_word &&
            ((from > 0 && is_word(s + before(s, from), from - before(s, from))) || (to < n && is_word(s + to, n - to))))
            continue;
        if (hit->lstrip) from = back_over_spaces(s, from, done);
        if (hit->rstrip) to = skip_spaces(s, n, to);
        if (!add_segment(out, done, from, NONE) || !add_segment(out, from, to, hit->id)) return false;
        done = i = to;
    }
    return add_segment(out, done, n, NONE);
}

/* Cut every plain segment at one token. */
static bool cut_at(const pg_special *special, const char *s, pg_segments *out)
{
    pg_segment *old = out->data;
    size_t n_old = out->n, room = out->room;
    out->data = out->next;
    out->room = out->next_room;
    out->n = 0;
    bool fine = true;
    for (size_t i = 0; fine && i < n_old; i++) {
        size_t done = old[i].from, to = old[i].to;
        const char *hit;
        while (fine && old[i].id == NONE && (hit = memmem(s + done, to - done, special->text, special->n))) {
            size_t from = (size_t)(hit - s);
            fine = add_segment(out, done, from, NONE) && add_segment(out, from, from + special->n, special->id);
            done = from + special->n;
        }
        fine = fine && add_segment(out, done, to, old[i].id);
    }
    out->next = old;
    out->next_room = room;
    return fine;
}

static bool cut_longest_first(const pg_specials *set, const char *s, size_t n, bool control, pg_segments *out)
{
    bool *met = calloc(set->n, sizeof *met), fine = met && add_segment(out, 0, n, NONE);
    bool any = false;
    for (size_t i = 0; fine && i < n; i++) any |= walk(set, s + i, n - i, control, met) != NULL;
    for (size_t i = 0; fine && any && i < set->n; i++)
        if (met[i]) fine = cut_at(&set->special[i], s, out);
    free(met);
    return fine;
}

int pg_partition(const pg_specials *set, const char *s, size_t n, bool control, pg_segments *out, pg_error *err)
{
    out->n = 0;
    bool fine = set->n == 0      ? add_segment(out, 0, n, NONE)
                : set->by_length ? cut_longest_first(set, s, n, control, out)
                                 : cut_left_to_right(set, s, n, control, out);
    return fine ? PG_OK : pg_fail(err, PG_EMEMORY, "not enough memory to look for special tokens");
}
