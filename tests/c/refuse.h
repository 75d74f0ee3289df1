/* What tests of refused files share: opening one in both ways and looking at what is said. */
#ifndef PG_REFUSE_H
#define PG_REFUSE_H

#include "check.h"

#include "../../engine/load/source.h"
#include "gguf_write.h"

static char *tmp;

static void expect_refused(int line, const char *path, int code, const char *const *need)
{
    for (int use_mmap = 0; use_mmap < 2; use_mmap++) {
        pg_error err = { 0 };
        pg_source *s = NULL;
        int rc = pg_source_open(path, use_mmap, &s, &err);
        CHECK(rc == code && err.code == code && !s, "line %d: code %d (%s), expected %d", line, rc, err.text, code);
        for (const char *const *part = need; *part; part++)
            CHECK(strstr(err.text, *part), "line %d: '%s' does not mention '%s'", line, err.text, *part);
        pg_source_close(s);
    }
}

static void refuse_bytes(int line, bytes b, int code, const char *const *need)
{
    expect_refused(line, scratch_write(tmp, "bad.gguf", &b), code, need);
    scratch_remove(tmp, "bad.gguf");
}

#define NEED(...)         \
    (const char *const[]) \
    {                     \
        __VA_ARGS__, NULL \
    }
#define REFUSE_BYTES(b, code, ...) refuse_bytes(__LINE__, b, code, NEED("bad.gguf: ", __VA_ARGS__))
#define REFUSE(g, code, ...) refuse_bytes(__LINE__, gguf_bytes(&g), code, NEED("bad.gguf: ", __VA_ARGS__))
#define DIM(...) ((const uint64_t[8]){ __VA_ARGS__ })

#endif
