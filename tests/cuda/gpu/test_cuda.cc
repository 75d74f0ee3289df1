/* test_cuda: the tests of the CUDA backend on a real device, in a short table: every op's test, then the golden models
 * through the engine. The programs stand beside this one, each a process of its own, for a kernel that fails takes its
 * process's device with it. Needs libc, CUDA and nothing else; from the root of the tree, for the golden models that are
 * in it; PERIGEE_GOLDEN names the folder of the others.
 *     test_cuda [program ...] */
#include <cuda_runtime.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PROGRAMS
#error "PROGRAMS: names of the programs, a blank between them"
#endif

typedef struct result {
    int passed, failed;
    double seconds;
    std::string said, wrong; /* all that it printed; what was wrong beside failed checks */
} result;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static std::string folder_of_this(void)
{
    char path[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    char *end = strrchr(path, '/');
    if (end) *end = 0;
    return path;
}

/* The last line of the form "name: N passed, M failed". */
static bool counts(const std::string &said, int *passed, int *failed)
{
    bool found = false;
    for (size_t at = 0; at < said.size();) {
        const size_t end = said.find('\n', at);
        const std::string one = said.substr(at, end - at);
        char name[64];
        int ok, bad, n = 0;
        if (sscanf(one.c_str(), "%63[A-Za-z0-9_.-]: %d passed, %d failed%n", name, &ok, &bad, &n) == 3 &&
            n == (int)one.size()) {
            *passed = ok;
            *failed = bad;
            found = true;
        }
        at = end == std::string::npos ? said.size() : end + 1;
    }
    return found;
}

static result run(const std::string &path)
{
    result r = {};
    int fd[2], status = 0;
    const double start = now();
    if (pipe(fd)) return r.wrong = "no pipe", r;
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        dup2(fd[1], 1);
        dup2(fd[1], 2);
        close(fd[0]);
        execl(path.c_str(), path.c_str(), (char *)NULL);
        _exit(127);
    }
    close(fd[1]);
    char buffer[4096];
    for (ssize_t n; (n = read(fd[0], buffer, sizeof buffer)) > 0;) r.said.append(buffer, (size_t)n);
    close(fd[0]);
    waitpid(child, &status, 0);
    r.seconds = now() - start;
    if (WIFSIGNALED(status))
        r.wrong = "ended by signal " + std::to_string(WTERMSIG(status));
    else if (!counts(r.said, &r.passed, &r.failed))
        r.wrong = WEXITSTATUS(status) == 127 ? "is not there" : "said no result";
    else if (r.passed + r.failed == 0)
        r.wrong = "ran nothing";
    if (!r.wrong.empty()) r.failed++;
    return r;
}

static void show_end(const std::string &said)
{
    size_t at = said.size();
    for (int lines = 0; at > 0 && lines < 20; at--) lines += said[at - 1] == '\n';
    printf("%s\n", said.c_str() + at);
}

static void show_device(void)
{
    cudaDeviceProp p;
    int driver = 0;
    const cudaError_t e = cudaGetDeviceProperties(&p, 0);
    if (e) {
        fprintf(stderr, "test_cuda: there is no device: %s\n", cudaGetErrorString(e));
        exit(1);
    }
    cudaDriverGetVersion(&driver);
    printf("%s, sm_%d%d, %.1f GB, driver for CUDA %d.%d\n", p.name, p.major, p.minor, (double)p.totalGlobalMem * 1e-9,
           driver / 1000, driver % 1000 / 10);
}

int main(int argc, char **argv)
{
    const std::string folder = folder_of_this();
    int passed = 0, failed = 0;
    setenv("PERIGEE_CUDA", (folder + "/perigee_cuda.so").c_str(), 0);
    setenv("GOLDEN_DEVICE", "cuda", 0);
    show_device();
    printf("%-16s %8s %8s %8s\n", "", "passed", "failed", "seconds");
    std::string names = PROGRAMS;
    if (argc > 1) names.clear();
    for (int i = 1; i < argc; i++) names += std::string(" ") + argv[i];
    for (char *name = strtok(&names[0], " "); name; name = strtok(NULL, " ")) {
        const result r = run(folder + "/" + name);
        printf("%-16s %8d %8d %8.1f  %s\n", name, r.passed, r.failed, r.seconds, r.wrong.c_str());
        if (r.failed) show_end(r.said);
        passed += r.passed;
        failed += r.failed;
    }
    printf("test_cuda: %d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
