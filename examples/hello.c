/* A plain C user of libperigee: open a model, encode a prompt, submit it, print what comes.
 *     cc -o hello hello.c $(pkg-config --cflags --libs perigee) && ./hello MODEL [PROMPT] */
#include <perigee.h>

#include <stdio.h>
#include <string.h>

enum { ROOM = 512, N_EVENTS = 16 };

/* Print one request's text until it ends; PG_OK or what ended it. */
static int print_events(pg_engine *e, pg_error *err)
{
    pg_event events[N_EVENTS];
    for (;;) {
        int n = pg_poll(e, -1, events, N_EVENTS, err);
        if (n <= 0) return n;
        for (int i = 0; i < n; i++) {
            const pg_event *ev = &events[i];
            if (ev->kind == PG_EVENT_TEXT) fwrite(ev->text, 1, (size_t)ev->n_text, stdout);
            if (ev->kind == PG_EVENT_DONE) {
                printf("\n[%d tokens]\n", ev->n_completion);
                return PG_OK;
            }
            if (ev->kind == PG_EVENT_FAIL) {
                snprintf(err->text, sizeof err->text, "%.*s", ev->n_text, ev->text);
                return err->code = ev->finish;
            }
        }
        fflush(stdout);
    }
}

static int generate(pg_engine *e, const char *prompt, pg_error *err)
{
    int32_t ids[ROOM], id;
    pg_request req;
    int n = pg_encode(pg_engine_tokenizer(e), prompt, strlen(prompt), 0, ids, ROOM, err);
    if (n < 0) return n;
    pg_request_init(e, &req);
    req.prompt = ids;
    req.n_prompt = n < ROOM ? n : ROOM; /* a longer prompt is cut: this is an example */
    req.max_new = 64;
    int rc = pg_submit(e, &req, &id, err);
    return rc < 0 ? rc : print_events(e, err);
}

int main(int argc, char **argv)
{
    pg_engine *e = NULL;
    pg_error err = { 0 };
    if (argc < 2) return fprintf(stderr, "usage: hello MODEL [PROMPT]\n"), 2;
    int rc = pg_open(argv[1], NULL, &e, &err);
    if (rc == PG_OK) rc = generate(e, argc > 2 ? argv[2] : "Once upon a time", &err);
    if (rc < 0) fprintf(stderr, "hello: %s\n", err.text);
    pg_close(e);
    return rc < 0;
}
