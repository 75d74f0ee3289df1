/* A test program's few words. Each program prints "name: N passed, M failed" last and exits with 1 if any failed or
 * none ran; tests/run.sh adds them up. */
#ifndef PG_CHECK_H
#define PG_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_passed, check_failed;

/* What a test waits for an event before it gives up, ms: nothing but a hang takes that long, even on a busy machine. */
enum { CHECK_WAIT_MS = 120000 };

#define CHECK(cond, ...)                                               \
    do {                                                               \
        if (cond) {                                                    \
            check_passed++;                                            \
        } else {                                                       \
            check_failed++;                                            \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond); \
            fprintf(stderr, __VA_ARGS__);                              \
            fputc('\n', stderr);                                       \
        }                                                              \
    } while (0)

static inline int check_done(const char *name)
{
    printf("%s: %d passed, %d failed\n", name, check_passed, check_failed);
    return check_failed > 0 || check_passed == 0;
}

/* A small generator for test inputs; the seed is printed by the test when it fails. */
static inline unsigned check_rand(unsigned long long *s)
{
    *s = *s * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(*s >> 33);
}
static inline float check_uniform(unsigned long long *s)
{
    return (float)check_rand(s) / 1073741824.0f - 1.0f;
}

#endif
