/* Tables of shared pages, without an engine, against a pool whose pages remember what was computed into them: what is
 * found is right, what is written is nobody else's, no page is lost, and hashes that meet mislead nobody. */
#include "check.h"

#include "../../engine/kv/seq.h"

enum { PAGES = 40, LIVE = 8, LONGEST = 12, SALTS = 3 };

typedef struct life {
    pg_seq seq;
    int32_t page[LONGEST], token[LONGEST * PG_PAGE_TOKENS], n_prompt, n_done, need, salt;
} life;

/* What a page holds: which scope, and all tokens up to its end. */
typedef struct content {
    int32_t salt, n, token[LONGEST * PG_PAGE_TOKENS];
    uint64_t key;
} content;

static content held[PAGES];

static content content_of(const life *s, int page)
{
    content c;
    memset(&c, 0, sizeof c);
    c.salt = s->salt;
    c.key = s->seq.scope.key;
    c.n = (page + 1) * PG_PAGE_TOKENS;
    memcpy(c.token, s->token, (size_t)c.n * sizeof *c.token);
    return c;
}

static int holders(const life *all, int32_t page)
{
    int n = 0;
    for (int i = 0; i < LIVE; i++)
        for (int k = 0; k < all[i].seq.n_page; k++) n += all[i].page[k] == page;
    return n;
}

/* A prompt out of few pieces, so that many begin alike; some differ in one token only. */
static void make_prompt(life *s, unsigned long long *rng)
{
    const int n = 1 + (int)(check_rand(rng) % (LONGEST * PG_PAGE_TOKENS - 1));
    for (int i = 0; i < n; i++) s->token[i] = i % PG_PAGE_TOKENS ? i : (int32_t)(check_rand(rng) % 2);
    if (check_rand(rng) % 4 == 0) s->token[check_rand(rng) % (unsigned)n] ^= 1;
    s->n_prompt = n;
    s->n_done = 0;
    s->need = n / PG_PAGE_TOKENS + 1;
}

static void begin(life *all, life *s, pg_prefix *x, pg_salt *const *salt, unsigned long long *rng)
{
    int unheld = 0, shared = 0;
    make_prompt(s, rng);
    s->salt = (int32_t)(check_rand(rng) % SALTS);
    s->seq = (pg_seq){ .page = s->page, .scope = { check_rand(rng) % 2, salt[s->salt] } };
    for (int p = 0; p < PAGES; p++) unheld += holders(all, p) == 0;
    if (!pg_seq_begin(&s->seq, x, s->token, s->n_prompt, s->need)) {
        CHECK(unheld < s->need, "refused, with %d pages for %d", unheld, s->need);
        return;
    }
    s->n_done = s->seq.n_cached;
    CHECK(s->n_done < s->n_prompt && s->seq.n_page == s->need, "%d of %d cached", s->n_done, s->n_prompt);
    for (int k = 0; k < s->need; k++) {
        const content want = content_of(s, k);
        if (k < s->seq.n_known)
            shared += memcmp(&held[s->page[k]], &want, sizeof want) == 0;
        else
            CHECK(holders(all, s->page[k]) == 1, "page %d belongs to somebody else", s->page[k]);
    }
    CHECK(shared == s->seq.n_known, "%d of %d found pages hold what they should", shared, s->seq.n_known);
}

static void go_on(const life *all, life *s, pg_prefix *x, unsigned long long *rng)
{
    const int n = 1 + (int)(check_rand(rng) % 70);
    int foreign = 0, wrong = 0;
    for (int i = 0; i < n && s->n_done < s->n_prompt; i++, s->n_done++) {
        const int k = s->n_done / PG_PAGE_TOKENS;
        foreign += holders(all, s->page[k]) != 1;
        if (s->n_done % PG_PAGE_TOKENS == PG_PAGE_TOKENS - 1) held[s->page[k]] = content_of(s, k);
    }
    const int32_t more = pg_seq_look(&s->seq, x, s->token, s->n_prompt, s->n_done);
    s->n_done += more;
    pg_seq_share(&s->seq, x, s->token, s->n_prompt, s->n_done);
    for (int k = 0; k < s->seq.n_known; k++) {
        const content want = content_of(s, k);
        wrong += memcmp(&held[s->page[k]], &want, sizeof want) != 0;
    }
    CHECK(!foreign && !wrong, "%d tokens are written to pages of others, %d pages of a prompt are not its own", foreign,
          wrong);
}

static void test_tables(int on)
{
    static life all[LIVE];
    pg_kv_stream stream = { .width = 8 };
    pg_pages pages;
    pg_prefix x;
    pg_salt *salt[SALTS] = { NULL, pg_salt_new("a"), pg_salt_new("ab") };
    unsigned long long rng = 31;
    int found = 0, begun = 0, gone = 0;
    memset(all, 0, sizeof all);
    const pg_kv kv = pg_pages_lay_out(&stream, 1, PG_F32);
    CHECK(!pg_pages_open(&pages, NULL, NULL, &kv, PAGES) && !pg_prefix_open(&x, &pages, on), "open");
    for (int i = 0; i < 60000; i++) {
        life *s = &all[check_rand(&rng) % LIVE];
        if (!s->seq.n_page) {
            begin(all, s, &x, salt, &rng);
            begun += s->seq.n_page > 0;
            found += s->seq.n_known > 0;
        } else if (check_rand(&rng) % 4) {
            go_on(all, s, &x, &rng);
        } else {
            pg_seq_end(&s->seq, &x);
            gone++;
        }
    }
    for (int i = 0; i < LIVE; i++) pg_seq_end(&all[i].seq, &x);
    CHECK(pg_prefix_room(&x) == PAGES, "%d pages at the end", pg_prefix_room(&x));
    CHECK(begun > 1000 && gone > 1000 && (on ? found > begun / 8 : found == 0), "%d of %d found something", found,
          begun);
    int n = 0;
    while (n <= PAGES && pg_prefix_take(&x) >= 0) n++; /* cuts every chain */
    CHECK(n == PAGES && x.n_idle == 0, "%d pages can be taken, %d are idle", n, x.n_idle);
    for (int i = 1; i < SALTS; i++) pg_salt_drop(salt[i]);
    pg_prefix_close(&x);
    pg_pages_close(&pages);
}

/* Put page in front of the chain of another one, as if their hashes were the same. */
static void collide(pg_prefix *x, int32_t page, int32_t with)
{
    int32_t *link = &x->bucket[x->known[page].hash & x->mask], *other = &x->bucket[x->known[with].hash & x->mask];
    while (*link != page) link = &x->known[*link].next;
    *link = x->known[page].next;
    x->known[page].hash = x->known[with].hash;
    x->known[page].next = *other;
    *other = page;
}

/* Five pages that differ in tokens, salt, key or the page before; whichever stands in another's way is not taken for
 * it. */
static void test_collision(int one, int other)
{
    pg_kv_stream stream = { .width = 8 };
    pg_pages pages;
    pg_prefix x;
    int32_t a[PG_PAGE_TOKENS] = { 1 }, b[PG_PAGE_TOKENS] = { 2 }, page[5];
    pg_salt *salt = pg_salt_new("a"), *like = pg_salt_new("a");
    const pg_scope plain = { 0, NULL }, salted = { 0, salt }, same = { 0, like }, key = { 7, NULL };
    const pg_scope *const scope[] = { &plain, &plain, &salted, &key, &plain };
    const int32_t *const token[] = { a, b, a, a, a };
    const pg_kv kv = pg_pages_lay_out(&stream, 1, PG_F32);
    CHECK(!pg_pages_open(&pages, NULL, NULL, &kv, 8) && !pg_prefix_open(&x, &pages, 1), "open");
    for (int i = 0; i < 5; i++) {
        page[i] = pg_prefix_take(&x);
        pg_prefix_keep(&x, scope[i], i == 4 ? page[0] : -1, token[i], page[i]);
    }
    for (int i = 0; i < 5; i++)
        CHECK(pg_prefix_find(&x, i == 2 ? &same : scope[i], i == 4 ? page[0] : -1, token[i]) == page[i], "page %d", i);
    collide(&x, page[one], page[other]);
    CHECK(pg_prefix_find(&x, scope[other], other == 4 ? page[0] : -1, token[other]) == page[other],
          "page %d is taken for page %d", one, other);
    for (int i = 5; i-- > 0;) pg_prefix_drop(&x, page[i]);
    pg_prefix_close(&x);
    pg_pages_close(&pages);
    pg_salt_drop(salt);
    pg_salt_drop(like);
}

int main(void)
{
    test_tables(1);
    test_tables(0);
    for (int i = 0; i < 25; i++)
        if (i / 5 != i % 5 && !(i / 5 == 0 && i % 5 == 4))
            test_collision(i / 5, i % 5); /* 4 is found through 0's hash */
    return check_done("seq");
}
