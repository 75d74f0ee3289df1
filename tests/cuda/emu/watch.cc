/* watch.cc: which thread touched which byte, and what came between: finds races that no order of the threads would show.
 *
 * The compiler tells of every load and store of device code (-fsanitize=thread; its own library is not linked, this file
 * stands in for it). Two threads that touch the same byte, one of them writing, must have an order:
 * - of one block: a __syncthreads between them, or a __syncwarp of both. A shuffle or a vote is none: CUDA promises no
 *   order of memory for them;
 * - of two blocks: an atomic of each on the same word, before the first of which there was a __threadfence;
 * - atomics among themselves, and what is volatile, need none.
 * And a kernel that may begin early (PG_LAUNCH_EARLY) must, until it has waited, write to shared memory only and read
 * nothing that a kernel wrote which may still be at work: any since the last that did not begin early. What those have
 * written it must not read by __ldg even then: that way promises to see only what nobody writes while the kernel runs,
 * its beginning included.
 * PERIGEE_EMU_WATCH=0: it looks away, which is quicker.
 * Not here: memory that the host and copies share with kernels (lazy streams show those), and more readers of a word
 * than one for each kind of distance: of many that a writer did not wait for, one is enough.
 * Source: FastTrack (Flanagan and Freund, 2009) for the epochs. */
#include "emu.h"

#include <dlfcn.h>
#include <map>
#include <stdlib.h>
#include <string.h>
#include <unordered_map>
#include <vector>

namespace
{
enum { PAGE = 256, WORDS = PAGE / 4, CACHE = 4096, MOST_PAGES = 1 << 17 };
enum what { READ, WRITE, ATOMIC };

/* Who and when. block: plus 1, 0: nobody; epoch: barriers of the block before it; tick: __syncwarps of the warp since. */
struct record {
    uint64_t block : 24, thread : 10, epoch : 15, tick : 15;
};
bool same(record a, record b)
{
    return a.block == b.block && a.thread == b.thread;
}

struct cell {
    record write, atomic;
    record read[4]; /* the newest; of another thread of its warp, of another warp, of another block */
};

struct page {
    uint32_t launch;        /* for which all but the last hold */
    bool apart[WORDS];      /* some bytes of the word have been touched alone: */
    std::vector<cell> byte; /* [PAGE] or none */
    cell word[WORDS];
    uint32_t written[WORDS]; /* the launch that wrote last */
};

struct warp {
    uint32_t tick, full;  /* full: the newest __syncwarp of all lanes */
    uint32_t met[32][32]; /* [a][b]: the newest that came, perhaps by way of others, after b's and before a's */
    bool parted;          /* met holds something */
};

struct watched {
    uint32_t epoch;
    std::vector<warp> warps;
    std::vector<bool> after; /* blocks that come before what this one does now */
    bool fenced;             /* a thread of the block has had a __threadfence */
} *block = new watched();

std::unordered_map<uintptr_t, page *> &pages = *new std::unordered_map<uintptr_t, page *>;
page *cache[CACHE];
uintptr_t cached[CACHE];
std::map<uintptr_t, std::vector<bool>> &sent = *new std::map<uintptr_t, std::vector<bool>>; /* by atomics on a word */
std::map<uint32_t, const char *> &names = *new std::map<uint32_t, const char *>;
bool watching;
uint32_t launch, window; /* this one; the first that may be at work beside an early one's beginning */

record now(void)
{
    record r = {};
    r.block = pg_emu_me.block + 1;
    r.thread = (unsigned)pg_emu_me.thread;
    r.epoch = block->epoch;
    r.tick = block->warps[pg_emu_me.thread / 32].tick;
    return r;
}

bool others_in_order(record before, record mine, bool shared)
{
    if (before.block != mine.block)
        return shared || (before.block <= block->after.size() && block->after[before.block - 1]);
    if (before.epoch < mine.epoch) return true;
    if (before.thread / 32 != mine.thread / 32) return false;
    const warp &w = block->warps[mine.thread / 32];
    return before.tick < w.full || before.tick < w.met[mine.thread % 32][before.thread % 32];
}

inline bool in_order(record before, record mine, bool shared)
{
    return !before.block || same(before, mine) || others_in_order(before, mine, shared);
}

page *page_of(uintptr_t at)
{
    const uintptr_t key = at / PAGE;
    page *&hit = cache[key % CACHE];
    if (!hit || cached[key % CACHE] != key) {
        page *&p = pages[key];
        if (!p) p = new page();
        hit = p;
        cached[key % CACHE] = key;
    }
    if (hit->launch != launch) {
        hit->launch = launch;
        memset(hit->apart, 0, sizeof hit->apart);
        memset(hit->word, 0, sizeof hit->word);
        hit->byte.clear();
    }
    return hit;
}

/* Where an instruction is: its file, and how far into it. */
struct place {
    const char *file;
    size_t at;
};
place place_of(const void *code)
{
    Dl_info d = {};
    dladdr(code, &d);
    return { d.dli_fname ? d.dli_fname : "",
             (size_t)(static_cast<const char *>(code) - static_cast<const char *>(d.dli_fbase)) };
}

[[noreturn]] void race(what kind, record before, what was, uintptr_t at, bool shared, const void *code)
{
    static const char *const verb[] = { "reads", "writes", "changes atomically" };
    const place by = place_of(code);
    const char *where = shared ? "shared" : "device";
    pg_emu_die(
        "a race: %s %s memory at %p (code at %s+0x%zx) that thread %u of block %u %s, and nothing puts them in order",
        verb[kind], where, reinterpret_cast<void *>(at), by.file, by.at, (unsigned)before.thread,
        (unsigned)before.block - 1, verb[was]);
}

void look(const cell &c, record mine, what kind, uintptr_t at, bool shared, const void *code)
{
    if (!in_order(c.write, mine, shared)) race(kind, c.write, WRITE, at, shared, code);
    if (kind != ATOMIC && !in_order(c.atomic, mine, shared)) race(kind, c.atomic, ATOMIC, at, shared, code);
    if (kind == READ) return;
    for (const record &r : c.read)
        if (!in_order(r, mine, shared)) race(kind, r, READ, at, shared, code);
}

void note(cell *c, record mine, what kind)
{
    if (kind == ATOMIC) {
        c->atomic = mine;
    } else if (kind == WRITE) {
        *c = {};
        c->write = mine;
    } else {
        const record old = c->read[0];
        if (old.block && !same(old, mine))
            c->read[old.block != mine.block ? 3 : old.thread / 32 != mine.thread / 32 ? 2 : 1] = old;
        c->read[0] = mine;
    }
}

void too_early(const page *p, uintptr_t at, what kind, const void *code)
{
    const uint32_t writer = p->written[at % PAGE / 4];
    if (kind == READ && writer < window) return;
    const place by = place_of(code);
    if (kind == READ)
        pg_emu_die("reads %p (code at %s+0x%zx) before it has waited for %s, which writes it",
                   reinterpret_cast<void *>(at), by.file, by.at, names[writer]);
    pg_emu_die("writes %p (code at %s+0x%zx) before it has waited for the kernels before it",
               reinterpret_cast<void *>(at), by.file, by.at);
}

void touch(const void *from, size_t n, what kind, const void *code)
{
    if (!watching || !pg_emu_me.stack || (uintptr_t)from - (uintptr_t)pg_emu_me.stack < PG_EMU_STACK) return;
    if ((uintptr_t)from - (uintptr_t)&pg_emu_at < sizeof pg_emu_at) return;
    const bool shared = pg_emu_in_shared(from, 1);
    const record mine = now();
    const bool hasty = !shared && pg_emu_me.must_wait;
    for (uintptr_t at = reinterpret_cast<uintptr_t>(from), end = at + n; at < end;) {
        page *p = page_of(at);
        const int w = (int)(at % PAGE / 4);
        cell *c = &p->word[w];
        if (hasty) too_early(p, at, kind, code);
        if (kind != READ && !shared) p->written[w] = launch;
        look(*c, mine, kind, at, shared, code);
        if (at % 4 == 0 && end - at >= 4) {
            if (p->apart[w])
                for (int i = 0; i < 4; i++) look(p->byte[4 * w + i], mine, kind, at + i, shared, code);
            note(c, mine, kind);
            at += 4;
            continue;
        }
        if (p->byte.empty()) p->byte.resize(PAGE);
        p->apart[w] = true;
        look(p->byte[at % PAGE], mine, kind, at, shared, code);
        note(&p->byte[at % PAGE], mine, kind);
        at++;
    }
}

/* A kernel that waits for all before it: nothing that is known of them matters any more. */
void begin_anew(void)
{
    window = launch;
    names.clear();
    if (pages.size() < MOST_PAGES) return;
    for (const auto &p : pages) delete p.second;
    pages.clear();
    memset(cache, 0, sizeof cache);
}
} // namespace

/* ---- what the emulator tells --------------------------------------------------------------------------------------- */

void pg_emu_watch_launch(const char *name, bool early)
{
    const char *off = getenv("PERIGEE_EMU_WATCH");
    watching = !off || off[0] != '0';
    launch++;
    if (!early) begin_anew();
    names[launch] = name;
    sent.clear();
}

void pg_emu_watch_apart(void)
{
    window = launch + 1;
    names.clear();
}

void pg_emu_watch_block(int threads)
{
    block->epoch = 0;
    block->fenced = false;
    block->after.clear();
    block->warps.assign((size_t)(threads + 31) / 32, warp());
}

void pg_emu_watch_barrier(void)
{
    block->epoch++;
    for (warp &w : block->warps) {
        w.tick = w.full = 0;
        if (w.parted) memset(w.met, 0, sizeof w.met);
        w.parted = false;
    }
}

void pg_emu_watch_syncwarp(int first, unsigned mask)
{
    warp *w = &block->warps[first / 32];
    w->tick++;
    if (mask == 0xffffffffu) {
        w->full = w->tick;
        return;
    }
    uint32_t all[32] = {};
    for (int a = 0; a < 32; a++)
        for (int b = 0; b < 32 && mask >> a & 1; b++) all[b] = w->met[a][b] > all[b] ? w->met[a][b] : all[b];
    for (int a = 0; a < 32; a++)
        for (int b = 0; b < 32 && mask >> a & 1; b++) w->met[a][b] = mask >> b & 1 ? w->tick : all[b];
    w->parted = true;
}

void pg_emu_watch_fence(void)
{
    block->fenced = true;
}

void pg_emu_watch_read(const void *p, size_t bytes)
{
    touch(p, bytes, READ, __builtin_return_address(0));
}
void pg_emu_watch_constant(const void *p, size_t bytes)
{
    if (!watching || !pg_emu_me.stack) return;
    touch(p, bytes, READ, __builtin_return_address(0));
    for (uintptr_t at = reinterpret_cast<uintptr_t>(p), end = at + bytes; at < end; at++) {
        const uint32_t by = page_of(at)->written[at % PAGE / 4];
        if (by >= window)
            pg_emu_die("reads %p as what nobody writes while it runs, and %s does", reinterpret_cast<void *>(at),
                       names[by]);
    }
}
void pg_emu_watch_write(const void *p, size_t bytes)
{
    touch(p, bytes, WRITE, __builtin_return_address(0));
}

void pg_emu_watch_atomic(const void *p, size_t bytes)
{
    if (!watching || !pg_emu_me.stack) return;
    touch(p, bytes, ATOMIC, __builtin_return_address(0));
    const size_t me = pg_emu_me.block;
    std::vector<bool> &there = sent[reinterpret_cast<uintptr_t>(p)];
    if (block->after.size() < there.size()) block->after.resize(there.size());
    for (size_t i = 0; i < there.size(); i++)
        if (there[i]) block->after[i] = true;
    if (!block->fenced) return;
    if (there.size() <= me || there.size() < block->after.size()) there.resize(std::max(me + 1, block->after.size()));
    for (size_t i = 0; i < block->after.size(); i++)
        if (block->after[i]) there[i] = true;
    there[me] = true;
}

/* ---- what the compiler tells ---------------------------------------------------------------------------------------- */

#define PG_EMU_TOLD(name, n, kind)                      \
    extern "C" void __tsan_##name##n(const void *p)     \
    {                                                   \
        touch(p, n, kind, __builtin_return_address(0)); \
    }
#define PG_EMU_SIZE(n)                              \
    PG_EMU_TOLD(read, n, READ)                      \
    PG_EMU_TOLD(write, n, WRITE)                    \
    PG_EMU_TOLD(unaligned_read, n, READ)            \
    PG_EMU_TOLD(unaligned_write, n, WRITE)          \
    PG_EMU_TOLD(volatile_read, n, ATOMIC)           \
    PG_EMU_TOLD(volatile_write, n, ATOMIC)          \
    PG_EMU_TOLD(unaligned_volatile_read, n, ATOMIC) \
    PG_EMU_TOLD(unaligned_volatile_write, n, ATOMIC)
PG_EMU_SIZE(1)
PG_EMU_SIZE(2)
PG_EMU_SIZE(4)
PG_EMU_SIZE(8)
PG_EMU_SIZE(16)
extern "C" void __tsan_read_range(const void *p, size_t bytes)
{
    touch(p, bytes, READ, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(const void *p, size_t bytes)
{
    touch(p, bytes, WRITE, __builtin_return_address(0));
}
extern "C" void __tsan_vptr_update(void **, void *) {}
extern "C" void __tsan_vptr_read(void **) {}
extern "C" void __tsan_init(void) {}
/* Of the host's code in the same files: guards of static variables, counts of references. */
#define PG_EMU_HOST(bits, type)                                                          \
    extern "C" type __tsan_atomic##bits##_load(const volatile type *p, int order)        \
    {                                                                                    \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST) + (type)(order & 0);                 \
    }                                                                                    \
    extern "C" type __tsan_atomic##bits##_fetch_add(volatile type *p, type x, int order) \
    {                                                                                    \
        return __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST) + (type)(order & 0);           \
    }
PG_EMU_HOST(8, char)
PG_EMU_HOST(32, int)
PG_EMU_HOST(64, long)
#ifndef __SANITIZE_ADDRESS__ /* which brings its own */
extern "C" [[noreturn]] void __ubsan_handle_type_mismatch_v1_abort(void *, void *p)
{
    pg_emu_die("uses an address that is not aligned: %p (code at %p)", p, __builtin_return_address(0));
}
#endif
