/* fibers.cc: the threads of a block, and where they meet.
 *
 * A thread runs until it has to wait, on a stack of its own; one that never waits leaves its stack to the next, so a
 * kernel without meeting points costs two switches a thread. A warp is run until all of it waits for the block. */
#include "emu.h"

#include <algorithm>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

pg_emu_place pg_emu_at;
pg_emu_running pg_emu_me;

namespace
{
enum { STACK = PG_EMU_STACK, MOST_THREADS = 1024, GUARD = 256, POISON = 0xff };
enum state { NEW, READY, IN_WARP, IN_BLOCK, DONE };
const char *const state_name[] = { "has not begun", "runs", "waits at", "waits at", "has returned" };

/* PERIGEE_EMU_ORDER: forward, backward or random, where not a program says. */
int order_asked(void)
{
    const char *how = getenv("PERIGEE_EMU_ORDER");
    return !how ? PG_EMU_TURNS : how[0] == 'f' ? PG_EMU_FORWARD : how[0] == 'b' ? PG_EMU_BACKWARD : PG_EMU_RANDOM;
}

struct stack {
    char *low;
    void *sp;
#ifndef __x86_64__
    ucontext_t context;
#endif
};

struct copy {
    void *to;
    const void *from;
    size_t bytes;
    bool want;
};

struct thread {
    uint3 idx;
    state at;
    const char *name; /* of the primitive that it waits at */
    unsigned mask;
    void *mine;
    pg_emu_meet *meet;
    stack *on;
    bool must_wait;
    std::vector<copy> copies;
    std::vector<size_t> groups; /* copies committed with each group: where each ends */
#ifdef __SANITIZE_ADDRESS__
    void *fake;
#endif
};

const char *kernel_name = "(none)";
const std::function<void()> *kernel_body;
bool kernel_early;
std::vector<thread> threads;
std::vector<stack *> &idle = *new std::vector<stack *>; /* never given back, not even at the end */
thread *self;
unsigned waiting[MOST_THREADS / 32]; /* lanes of each warp that wait for others of it */
int n_thread, n_live, n_waiting;     /* of the block: all, not returned, waiting for the block */
unsigned char *shared_memory;
size_t shared_bytes;
int order = order_asked();
unsigned launches;
unsigned long long dice = 1;
stack home;

thread_local char mark; /* in the memory of this program's thread_local variables, where __shared__ arrays stand */
struct range {
    char *from;
    size_t bytes;
} static_shared;

/* ---- switching ---------------------------------------------------------------------------------------------------- */

#ifdef __x86_64__
extern "C" void pg_emu_switch(void **save, void *to);
asm(".text\n.globl pg_emu_switch\n.type pg_emu_switch,@function\npg_emu_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size pg_emu_switch,.-pg_emu_switch\n");
#endif

void enter(void);

stack *stack_take(void)
{
    if (idle.empty()) {
        const long page = sysconf(_SC_PAGESIZE);
        stack *s = new stack();
        void *mem =
            mmap(NULL, STACK + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mem == MAP_FAILED || mprotect(mem, page, PROT_NONE)) pg_emu_die("no memory for a stack");
        s->low = static_cast<char *>(mem) + page;
        idle.push_back(s);
    }
    stack *s = idle.back();
    idle.pop_back();
#ifdef __x86_64__
    void **top = reinterpret_cast<void **>(s->low + STACK) - 2;
    top[0] = reinterpret_cast<void *>(enter); /* where the switch returns to, as if it had been called there */
    top[1] = NULL;
    s->sp = top - 6;
#else
    getcontext(&s->context);
    s->context.uc_stack.ss_sp = s->low;
    s->context.uc_stack.ss_size = STACK;
    s->context.uc_link = NULL;
    makecontext(&s->context, enter, 0);
#endif
    return s;
}

void jump(stack *from, stack *to)
{
#ifdef __x86_64__
    pg_emu_switch(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
}

#ifdef __SANITIZE_ADDRESS__
void *home_fake;
const void *home_low;
size_t home_size;
#endif

/* From the scheduler into a thread, until it waits or returns. */
void resume(thread *t)
{
    if (t->at == NEW) t->on = stack_take();
    t->at = READY;
    self = t;
    pg_emu_at.thread = t->idx;
    pg_emu_me = { pg_emu_me.block, (int)(t - threads.data()), t->on->low, t->must_wait };
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&home_fake, t->on->low, STACK);
#endif
    jump(&home, t->on);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(home_fake, NULL, NULL);
#endif
    self = NULL;
    t->must_wait = pg_emu_me.must_wait;
    pg_emu_me.stack = NULL;
    if (t->at == DONE) {
        idle.push_back(t->on);
        t->on = NULL;
    }
}

/* From the running thread back to the scheduler. */
void pause(thread *t)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(t->at == DONE ? NULL : &t->fake, home_low, home_size);
#endif
    jump(t->on, &home);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(t->fake, &home_low, &home_size);
#endif
}

void release_block(void)
{
    if (n_waiting == 0 || n_waiting < n_live) return;
    for (int i = 0; i < n_thread; i++) {
        thread *t = &threads[i];
        if (t->at != IN_BLOCK) continue;
        if (strcmp(t->name, "__syncthreads")) pg_emu_die("a barrier of the block that is not known: %s", t->name);
        t->at = READY;
    }
    n_waiting = 0;
    pg_emu_watch_barrier();
}

void enter(void)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &home_low, &home_size);
#endif
    (*kernel_body)();
    if (pg_emu_me.must_wait) pg_emu_die("began early and has not waited for the kernels before it");
    thread *t = self;
    t->at = DONE;
    n_live--;
    release_block();
    pause(t);
}

/* ---- who comes first ---------------------------------------------------------------------------------------------- */

unsigned roll(unsigned n)
{
    dice = dice * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(dice >> 33) % n;
}

/* Who comes first in the n-th turn. */
int turn_of(unsigned n)
{
    return order != PG_EMU_TURNS ? order : n % 4 == 0 ? PG_EMU_FORWARD : n % 4 == 3 ? PG_EMU_RANDOM : PG_EMU_BACKWARD;
}

void line_up(std::vector<int> *who, int n, int how)
{
    who->resize(n);
    for (int i = 0; i < n; i++) (*who)[i] = how == PG_EMU_BACKWARD ? n - 1 - i : i;
    if (how == PG_EMU_RANDOM)
        for (int i = n - 1; i > 0; i--) std::swap((*who)[i], (*who)[roll(i + 1)]);
}

/* ---- a block ------------------------------------------------------------------------------------------------------ */

/* Run a warp until none of its lanes can go on. Returns whether any of them did. */
bool run_warp(int first, const std::vector<int> &lanes)
{
    bool any = false;
    for (bool more = true; more;) {
        more = false;
        for (int lane : lanes) {
            if (first + lane >= n_thread) continue;
            thread *t = &threads[first + lane];
            if (t->at != NEW && t->at != READY) continue;
            resume(t);
            more = any = true;
        }
    }
    return any;
}

[[noreturn]] void report_hang(void)
{
    std::string text = "no thread can go on:";
    for (int i = 0, shown = 0; i < n_thread && shown < 40; i++) {
        const thread *t = &threads[i];
        if (i && t->at == threads[i - 1].at && t->name == threads[i - 1].name && t->mask == threads[i - 1].mask)
            continue;
        char line[160];
        snprintf(line, sizeof line, "\n    from thread %d on: %s %s", i, state_name[t->at],
                 t->at == IN_WARP || t->at == IN_BLOCK ? t->name : "");
        text += line;
        if (t->at == IN_WARP) snprintf(line, sizeof line, ", mask %08x", t->mask), text += line;
        shown++;
    }
    pg_emu_die("%s", text.c_str());
}

int find_static_shared(struct dl_phdr_info *info, size_t size, void *ud)
{
    (void)size;
    (void)ud;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_TLS || !info->dlpi_tls_data) continue;
        char *from = static_cast<char *>(info->dlpi_tls_data);
        const size_t bytes = info->dlpi_phdr[i].p_memsz, set = info->dlpi_phdr[i].p_filesz;
        if (&mark < from || &mark >= from + bytes) continue;
        static_shared = { from + set, bytes - set };
        return 1;
    }
    return 0;
}

void run_block(const std::vector<int> &warps, const std::vector<int> &lanes)
{
#ifndef __SANITIZE_ADDRESS__ /* whose own variables may stand there too */
    memset(static_shared.from, POISON, static_shared.bytes);
#endif
    memset(shared_memory, POISON, shared_bytes + GUARD);
    n_live = n_thread;
    n_waiting = 0;
    memset(waiting, 0, sizeof waiting);
    for (int i = 0; i < n_thread; i++) {
        thread *t = &threads[i];
        const dim3 d = pg_emu_at.block_dim;
        t->idx = { i % d.x, i / d.x % d.y, i / d.x / d.y };
        t->at = NEW;
        t->must_wait = kernel_early;
        t->copies.clear();
        t->groups.clear();
    }
    while (n_live > 0) {
        bool any = false;
        for (int w : warps) any |= run_warp(32 * w, lanes);
        if (!any) report_hang();
    }
    for (int i = 0; i < GUARD; i++)
        if (shared_memory[shared_bytes + i] != POISON)
            pg_emu_die("writes byte %zu of its %zu bytes of shared memory", shared_bytes + i, shared_bytes);
}
} // namespace

void pg_emu_order(int how)
{
    order = how;
}

void pg_emu_die(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fflush(stdout);
    fprintf(stderr, "emulator: kernel %s, block (%u, %u, %u)", kernel_name, pg_emu_at.block.x, pg_emu_at.block.y,
            pg_emu_at.block.z);
    if (self) fprintf(stderr, ", thread (%u, %u, %u)", self->idx.x, self->idx.y, self->idx.z);
    fprintf(stderr, ": ");
    vfprintf(stderr, format, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    abort();
}

void pg_emu_run(const char *name, dim3 grid, dim3 block, size_t shared, const std::function<void()> &body, bool early)
{
    static const bool trace = getenv("PERIGEE_EMU_TRACE") != NULL;
    if (self) pg_emu_die("starts %s", name);
    if (trace) fprintf(stderr, "%s: %u x %u x %u of %u\n", name, grid.x, grid.y, grid.z, block.x * block.y * block.z);
    mark = 0; /* so that it is linked, and this thread has its copy */
    dl_iterate_phdr(find_static_shared, NULL);
    if (threads.empty()) threads.resize(MOST_THREADS);
    kernel_name = name;
    kernel_body = &body;
    kernel_early = early;
    pg_emu_watch_launch(name, early);
    n_thread = (int)(block.x * block.y * block.z);
    pg_emu_at.block_dim = block;
    pg_emu_at.grid_dim = grid;
    shared_bytes = shared;
    if (posix_memalign(reinterpret_cast<void **>(&shared_memory), 128, shared + GUARD)) pg_emu_die("no memory");
    const unsigned n_block = grid.x * grid.y * grid.z, launch = launches++;
    std::vector<int> warps, lanes, blocks;
    line_up(&blocks, (int)n_block, turn_of(launch));
    for (unsigned b : blocks) {
        const int how = turn_of(launch + b);
        line_up(&warps, (n_thread + 31) / 32, how);
        line_up(&lanes, 32, how);
        pg_emu_at.block = { b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y };
        pg_emu_me.block = b;
        pg_emu_watch_block(n_thread);
        run_block(warps, lanes);
    }
    free(shared_memory);
    shared_memory = NULL;
    kernel_name = "(none)";
}

void pg_emu_waited(void)
{
    pg_emu_me.must_wait = false;
}

unsigned char *pg_emu_shared(void)
{
    return shared_memory;
}

bool pg_emu_in_shared(const void *p, size_t bytes)
{
    const unsigned char *at = static_cast<const unsigned char *>(p);
    const char *in = static_cast<const char *>(p);
    return (at >= shared_memory && at + bytes <= shared_memory + shared_bytes) ||
           (in >= static_shared.from && in + bytes <= static_shared.from + static_shared.bytes);
}

/* ---- meeting points ----------------------------------------------------------------------------------------------- */

void pg_emu_barrier(const char *name)
{
    thread *t = self;
    t->at = IN_BLOCK;
    t->name = name;
    n_waiting++;
    release_block();
    if (t->at != READY) pause(t);
}

void pg_emu_warp(const char *name, unsigned mask, void *mine, pg_emu_meet *meet)
{
    thread *t = self;
    const int me = (int)(t - threads.data()), first = me & ~31;
    if (!(mask >> (me - first) & 1)) pg_emu_die("%s: the lane is not in its own mask %08x", name, mask);
    t->at = IN_WARP;
    t->name = name;
    t->mask = mask;
    t->mine = mine;
    t->meet = meet;
    waiting[first / 32] |= 1u << (me - first);
    if ((waiting[first / 32] & mask) != mask) {
        pause(t);
        return;
    }
    void *lane[32] = {};
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        const thread *o = &threads[first + i];
        if ((o->name != name && strcmp(o->name, name)) || o->mask != mask || o->meet != meet)
            pg_emu_die("meets a lane at another primitive: %s with mask %08x, and lane %d at %s with mask %08x", name,
                       mask, i, o->name, o->mask);
        lane[i] = o->mine;
    }
    waiting[first / 32] &= ~mask;
    meet(lane, mask);
    if (!strcmp(name, "__syncwarp")) pg_emu_watch_syncwarp(first, mask);
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) threads[first + i].at = READY;
}

/* ---- asynchronous copies ------------------------------------------------------------------------------------------ */

void pg_emu_copy(void *to, const void *from, size_t bytes, bool want)
{
    if ((uintptr_t)to % bytes || (want && (uintptr_t)from % bytes)) pg_emu_die("a copy that is not aligned");
#ifndef __SANITIZE_ADDRESS__
    if (!pg_emu_in_shared(to, bytes)) pg_emu_die("a copy that does not end in shared memory");
#endif
    if (want) pg_emu_watch_read(from, bytes);
    pg_emu_watch_write(to, bytes); /* now, or any time until it is waited for */
    memset(to, POISON, bytes);
    self->copies.push_back({ to, from, bytes, want });
}

void pg_emu_copy_commit(void)
{
    self->groups.push_back(self->copies.size());
}

void pg_emu_copy_wait(int most)
{
    thread *t = self;
    const int n = (int)t->groups.size() - most;
    if (n <= 0) return;
    const size_t end = t->groups[n - 1];
    for (size_t i = 0; i < end; i++) {
        const copy &c = t->copies[i];
        pg_emu_watch_write(c.to, c.bytes);
        if (c.want)
            memcpy(c.to, c.from, c.bytes);
        else
            memset(c.to, 0, c.bytes);
    }
    t->copies.erase(t->copies.begin(), t->copies.begin() + end);
    t->groups.erase(t->groups.begin(), t->groups.begin() + n);
    for (size_t &g : t->groups) g -= end;
}
