/* batch.c: who gets rows this step. Rows of the prefill class come first, a sequence's rows stand together in order; the
 * decode class follows, one row a sequence. Decoding requests are served before prompts, and take turns when there are
 * more of them than rows. */
#include "sched.h"

typedef struct room {
    int rows, sampled; /* left in this step */
} room;

/* Rows of t that belong to the prefill class: its prompt, or what pg_logits wants so. */
static int prefill_end(const pg_task *t)
{
    return t->looking ? t->first_decode : t->n_prompt;
}

static int is_decoding(const pg_task *t)
{
    return t->n_done >= prefill_end(t) && t->n_done < t->n_token;
}

/* A reader that does not read, or not as far as the lead wants, stops its own request, nobody else's. */
static int has_room(const pg_task *t)
{
    return t->looking || (pg_ring_room(&t->ring, 3) && pg_rewind_has_lead(t));
}

static void add_row(pg_engine *e, pg_task *t, int task, int pos, int sample)
{
    const int r = e->rows.n++;
    e->row_token[r] = t->token[pos];
    e->row_pos[r] = pos;
    e->row_seq[r] = e->row_task[r] = task;
    if (!sample) return;
    e->sampled[e->rows.n_sampled] = r;
    e->sampled_task[e->rows.n_sampled++] = task;
}

/* Whether somebody before it in this step, and not slower, computes what comes next in its prompt: it waits and finds
 * it. */
static int follows_another(const pg_engine *e, int task)
{
    const pg_task *t = e->running[task];
    if (!e->prefix.known || t->n_done != t->seq.n_known * PG_PAGE_TOKENS) return 0;
    for (int i = 0; i < task; i++) {
        const pg_task *o = e->running[i];
        const int as_fast = !o->chunk || (t->chunk && o->chunk >= t->chunk);
        if (as_fast && pg_seq_meet(&o->seq, o->token, o->n_prompt, &t->seq, t->token, t->n_prompt)) return 1;
    }
    return 0;
}

static void add_prefill(pg_engine *e, int task, room *left)
{
    pg_task *t = e->running[task];
    if (t->n_done >= prefill_end(t) || !has_room(t)) return;
    const int found = pg_seq_look(&t->seq, &e->prefix, t->token, t->n_prompt, t->n_done);
    t->n_done += found;
    e->cached_tokens += found;
    if (follows_another(e, task)) return;
    int n = prefill_end(t) - t->n_done;
    if (n > left->rows) n = left->rows;
    if (t->chunk > 0 && n > t->chunk) n = t->chunk;
    if (t->looking && n > left->sampled) n = left->sampled;
    const int ends = t->n_done + n == t->n_prompt;
    if (!t->looking && ends && left->sampled < 1) n--; /* the last row waits for a place to sample */
    for (int i = 0; i < n; i++) {
        const int sample = t->looking || t->n_done + i == t->n_prompt - 1;
        add_row(e, t, task, t->n_done + i, sample);
        left->sampled -= sample;
    }
    left->rows -= n;
}

int pg_batch_fill(pg_engine *e)
{
    const pg_code *c = &e->plan.code;
    room left = { c->max_rows, c->max_sampled };
    int n_decode = 0, first = e->n_running ? e->turn % e->n_running : 0, last = first;
    e->rows.n = e->rows.n_prefill = e->rows.n_sampled = e->rows.n_sampled_prefill = 0;
    for (int i = 0; i < e->n_running; i++) /* how many rows decoding will take */
        n_decode += is_decoding(e->running[i]) && has_room(e->running[i]);
    if (n_decode > c->max_decode) n_decode = c->max_decode;
    if (n_decode > left.sampled) n_decode = left.sampled;
    if (n_decode > left.rows) n_decode = left.rows;
    left.rows -= n_decode;
    left.sampled -= n_decode;
    for (int i = 0; i < e->n_running && left.rows > 0; i++) add_prefill(e, i, &left);
    e->rows.n_prefill = e->rows.n;
    e->rows.n_sampled_prefill = e->rows.n_sampled;
    for (int i = 0; i < e->n_running && n_decode > 0; i++) {
        const int task = (first + i) % e->n_running;
        pg_task *t = e->running[task];
        if (!is_decoding(t) || !has_room(t)) continue;
        add_row(e, t, task, t->n_done, 1);
        n_decode--;
        last = task + 1;
    }
    e->turn = last;
    for (int i = 0; i < e->n_running; i++) e->row_pages[i] = e->running[i]->seq.page;
    return e->rows.n;
}
