/* dies: what must end the program, and say why on standard error. */
#ifndef PG_TEST_DIES_H
#define PG_TEST_DIES_H

#include "../c/check.h"

#include <sys/wait.h>
#include <unistd.h>

/* what() in a process of its own ends it, with words that hold `text`. */
template <class F> static void dies(const char *name, const char *text, F what)
{
    int fd[2], status = 0;
    char said[4096] = "";
    fflush(stdout);
    CHECK(pipe(fd) == 0, "pipe");
    const pid_t child = fork();
    if (child == 0) {
        dup2(fd[1], 2);
        what();
        _exit(0);
    }
    close(fd[1]);
    for (size_t at = 0; at < sizeof said - 1;) {
        const ssize_t n = read(fd[0], said + at, sizeof said - 1 - at);
        if (n <= 0) break;
        at += (size_t)n;
    }
    close(fd[0]);
    waitpid(child, &status, 0);
    CHECK(!(WIFEXITED(status) && WEXITSTATUS(status) == 0) && strstr(said, text), "%s said: %s", name, said);
}

#endif
