/* policyvm: a Lua policy at work: a lua_State of its own, the calls into it from the engine's thread, and its limits.
 *
 * Every version of a policy has its own state. The thread that loads it builds it aside and tries it; from then on only
 * the engine's thread enters it, so that nothing is locked; who drops the last count closes it. One state for all would
 * save some hundred KiB and lose the rest: whatever a policy did to its memory limit, its globals, its string methods or
 * its compiled code would be done to its neighbours and its successor.
 *
 * What a policy sees is Lua's business (lua/perigee/policies/): the prelude runs first, declares `policyvm_shared`, loads
 * the policy's text and returns one function for each hook. This file knows no policy source and no accessor.
 *
 * Limits. The text is woven (perigee.weave) to count shared.n down; below zero it calls `more`, which grants another
 * slice or says why not. That holds in compiled code, where debug hooks do not. Memory goes through a meter on top of
 * the state's own allocator, which every LuaJIT for every address model has. A new version is on probation for some
 * calls: not compiled, and its instructions counted by a debug hook as well. */
#include "policyvm.h"
#include "perigee.h"

#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PROBATION = 64,                /* calls */
    SLICE = 500,                   /* turns of a loop between two looks at the clock and the memory */
    TURNS_CALL = 20000,            /* turns a call may take, */
    TURNS_ROW = 64,                /* and more of them for each row, */
    TURNS_SCORE = 8,               /* and for each score of a row */
    TURNS_LOAD = 200000,           /* while it is loaded */
    PAUSE = 10000,                 /* instructions between two calls of the debug hook */
    MEMORY_SOFT = 4 * 1024 * 1024, /* bytes: the policy is stopped at the next turn */
    MEMORY_HARD = 64 * 1024 * 1024 /* bytes: nothing is handed out any more */
};
/* Seconds of a call, compiled and interpreted; looked at only by those that need more than a slice. */
static const double TIME_LIMIT = 0.25, TIME_PROBATION = 1;

/* The same text twice: for the compiler, and for the ffi of the policy's state. */
#define TWICE(...) \
    __VA_ARGS__    \
    static const char shared_text[] = #__VA_ARGS__;
TWICE(typedef struct policyvm_shared {
    int32_t n;   /* turns left of this slice */
    int32_t why; /* 0, or what was used up: 1 turns, 2 time, 3 memory */
    pg_engine *engine;
    pg_route_view route; /* of the call that runs */
    pg_logits_view logits;
    pg_token_view *token;
    pg_admit_view *admit;
    int32_t (*more)(struct policyvm_shared * s);
    const char *(*tenant_name)(pg_engine * e, int32_t tenant);
    double (*lse)(const pg_route_view *view, int32_t row);
    double (*entropy)(const pg_route_view *view, int32_t row);
    double (*margin)(const pg_route_view *view, int32_t row);
    double (*mass)(const pg_route_view *view, int32_t row, int32_t k);
} policyvm_shared;)

/* What the prelude returns, by place: hooks, the two halves of handing P.keep over, and what raises a limit's message once
 * more after the policy has caught it. */
enum { ROUTE, LOGITS, TOKEN, ADMIT, PACK_KEEP, TAKE_KEEP, CAUGHT, N_CALLS };
static const char *const call_names[N_CALLS] = {
    "route", "logits", "token", "admit", "pack_keep", "take_keep", "caught"
};

struct policyvm {
    policyvm_shared shared;
    lua_State *L;
    lua_Alloc alloc; /* the state's own */
    void *alloc_ud;
    size_t memory;           /* bytes handed out */
    int calls[N_CALLS];      /* references in the registry; LUA_REFNIL: there is none */
    int n_called;            /* calls so far, up to PROBATION */
    double rest;             /* turns left after this slice */
    double deadline;         /* 0: the clock was not looked at yet */
    double n_pause, pauses;  /* calls of the debug hook in this call of a hook; at most */
    struct policyvm *before; /* whose P.keep it takes over at its first call, counted; NULL: nobody's */
    atomic_int started;
    atomic_int uses;
    pg_hooks hooks;
    pg_token_view no_token; /* what there is to see between calls: nothing */
    pg_admit_view no_admit;
};

/* ---- limits ------------------------------------------------------------------------------------------------------- */

/* Of processor: a thread that has to wait for its core is no reason to give a policy up. */
static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Called by woven code when its slice is used up: grant another one and answer 0, or say what is used up. Once that is
 * said it stays said, so that a policy cannot catch its way out. */
static int32_t more(policyvm_shared *s)
{
    struct policyvm *vm = (struct policyvm *)s;
    if (!s->why) {
        const double now = seconds();
        vm->rest += s->n;
        if (vm->deadline == 0) vm->deadline = now + (vm->n_called < PROBATION ? TIME_PROBATION : TIME_LIMIT);
        if (vm->rest < 0)
            s->why = 1;
        else if (now > vm->deadline)
            s->why = 2;
    }
    s->n = s->why ? -1 : vm->rest < SLICE ? (int32_t)vm->rest : SLICE;
    vm->rest -= s->n;
    return s->why;
}

/* A lua_Alloc that counts. ud is the policyvm. */
static void *meter(void *ud, void *block, size_t old, size_t size)
{
    struct policyvm *vm = ud;
    const size_t after = vm->memory - old + size;
    if (size > old && after > MEMORY_HARD) return NULL;
    void *result = vm->alloc(vm->alloc_ud, block, old, size);
    if (!result && size) return NULL;
    vm->memory = after;
    if (size > old && after > MEMORY_SOFT && !vm->shared.why) {
        vm->shared.why = 3;
        vm->shared.n = -1;
    }
    return result;
}

/* Every PAUSE instructions while a version is on probation: a second limit, that does not rest on the weaving. */
static void on_count(lua_State *L, lua_Debug *ar)
{
    void *ud;
    (void)ar;
    (void)lua_getallocf(L, &ud);
    struct policyvm *vm = ud;
    if (++vm->n_pause <= vm->pauses && !vm->shared.why) return;
    if (!vm->shared.why) vm->shared.why = 1;
    vm->shared.n = -1;
    luaL_where(L, 0);
    lua_pushliteral(L, "ran over its limit of instructions");
    lua_concat(L, 2);
    lua_error(L);
}

static void grant(struct policyvm *vm, double turns)
{
    vm->shared.why = 0;
    vm->shared.n = SLICE;
    vm->rest = turns - SLICE;
    vm->deadline = 0;
    vm->n_pause = 0;
    vm->pauses = 1000 + turns * 100 / PAUSE;
}

/* ---- calls, on the engine's thread --------------------------------------------------------------------------------- */

/* The error on top of the stack as one line of an error. */
static int failed(struct policyvm *vm, pg_error *err)
{
    const char *why = lua_type(vm->L, -1) == LUA_TSTRING ? lua_tostring(vm->L, -1) : "an error without a message";
    if (err) {
        err->code = PG_EINVAL;
        snprintf(err->text, sizeof err->text, "%s", why);
        for (char *c = err->text; *c; c++)
            if ((unsigned char)*c < ' ' || *c == 127) *c = ' ';
    }
    lua_settop(vm->L, 0);
    return PG_EINVAL;
}

/* Call what the prelude gave for this place, with nothing; results stay on the stack. */
static int call(struct policyvm *vm, int place, int n_results, double turns, pg_error *err)
{
    grant(vm, turns);
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->calls[place]);
    if (lua_pcall(vm->L, 0, n_results, 0)) return failed(vm, err);
    if (!vm->shared.why) return PG_OK;
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->calls[CAUGHT]);
    (void)lua_pcall(vm->L, 0, 0, 0);
    return failed(vm, err);
}

struct keep {
    struct policyvm *vm;
    const char *text;
    size_t n;
};

static int push_keep(lua_State *L)
{
    const struct keep *keep = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, keep->vm->calls[TAKE_KEEP]);
    lua_pushlstring(L, keep->text, keep->n);
    lua_call(L, 1, 0);
    return 0;
}

/* Give a count back; also the drop of pg_hooks. */
static void release(void *ud)
{
    struct policyvm *vm = ud;
    while (vm && atomic_fetch_sub(&vm->uses, 1) == 1) {
        struct policyvm *before = vm->before;
        lua_setallocf(vm->L, vm->alloc, vm->alloc_ud); /* by it lua_close knows whose arena to free */
        lua_close(vm->L);
        free(vm);
        vm = before;
    }
}

/* Before the first call: take over P.keep. Both states belong to this thread now, and it is here that the old version has
 * seen its last call from those who moved on. */
static int start(struct policyvm *vm, pg_error *err)
{
    struct policyvm *before = vm->before;
    int rc = PG_OK;
    atomic_store(&vm->started, 1);
    vm->before = NULL;
    if (before && before->calls[PACK_KEEP] != LUA_REFNIL && vm->calls[TAKE_KEEP] != LUA_REFNIL) {
        rc = call(before, PACK_KEEP, 1, TURNS_LOAD, err);
        struct keep keep = { .vm = vm };
        if (rc >= 0 && (keep.text = lua_tolstring(before->L, -1, &keep.n))) {
            grant(vm, TURNS_LOAD);
            if (lua_cpcall(vm->L, push_keep, &keep)) rc = failed(vm, err);
        }
        lua_settop(before->L, 0);
    }
    release(before);
    return rc;
}

/* A policy may keep r, l, t and q and use one from within another's call: there it must find nothing. */
static void clear_views(struct policyvm *vm)
{
    vm->shared.route = (pg_route_view){ 0 };
    vm->shared.logits = (pg_logits_view){ 0 };
    vm->no_token = (pg_token_view){ .text = "" };
    vm->shared.token = &vm->no_token;
    vm->shared.admit = &vm->no_admit;
}

static int enter(struct policyvm *vm, int place, double turns, pg_error *err)
{
    if (!atomic_load_explicit(&vm->started, memory_order_relaxed)) {
        int rc = start(vm, err);
        if (rc < 0) return rc; /* never called again */
    }
    if (vm->n_called < PROBATION && ++vm->n_called == PROBATION) {
        lua_sethook(vm->L, NULL, 0, 0);
        luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_ON);
    }
    int rc = call(vm, place, 0, turns, err);
    lua_settop(vm->L, 0);
    clear_views(vm);
    return rc;
}

static int on_route(void *ud, const pg_route_view *view, pg_error *err)
{
    struct policyvm *vm = ud;
    vm->shared.route = *view;
    return enter(vm, ROUTE, TURNS_CALL + view->rows * (TURNS_ROW + (double)TURNS_SCORE * view->n_expert), err);
}

static int on_logits(void *ud, const pg_logits_view *view, pg_error *err)
{
    struct policyvm *vm = ud;
    vm->shared.logits = *view;
    return enter(vm, LOGITS, TURNS_CALL + view->rows * (TURNS_ROW + (double)TURNS_SCORE * view->n_vocab), err);
}

static int on_token(void *ud, pg_token_view *view, pg_error *err)
{
    struct policyvm *vm = ud;
    vm->shared.token = view;
    return enter(vm, TOKEN, TURNS_CALL, err);
}

static int on_admit(void *ud, pg_admit_view *view, pg_error *err)
{
    struct policyvm *vm = ud;
    vm->shared.admit = view;
    return enter(vm, ADMIT, TURNS_CALL, err);
}

/* ---- building, on the caller's thread ------------------------------------------------------------------------------ */

static const char metatable[] = "perigee.policyvm";

struct build {
    struct policyvm *vm;
    lua_State *from; /* the caller's: prelude at 2, its arguments after it */
    const char *text;
    size_t n_text;
};

static void open_library(lua_State *L, lua_CFunction open, const char *name)
{
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
}

/* In the new state, protected: libraries, prelude, policy. Leaves in the registry what the prelude returned. */
static int build(lua_State *L)
{
    struct build *b = lua_touserdata(L, 1);
    struct policyvm *vm = b->vm;
    size_t n;
    open_library(L, luaopen_base, "");
    open_library(L, luaopen_string, LUA_STRLIBNAME);
    open_library(L, luaopen_table, LUA_TABLIBNAME);
    open_library(L, luaopen_math, LUA_MATHLIBNAME);
    open_library(L, luaopen_bit, LUA_BITLIBNAME);
    open_library(L, luaopen_jit, LUA_JITLIBNAME);
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_sethook(L, on_count, LUA_MASKCOUNT, PAUSE);
    lua_settop(L, 0);
    lua_pushcfunction(L, luaopen_ffi); /* returns its table and sets no global */
    lua_call(L, 0, 1);
    const char *prelude = lua_tolstring(b->from, 2, &n);
    if (luaL_loadbuffer(L, prelude, n, "=prelude")) lua_error(L);
    lua_insert(L, 1); /* prelude, ffi */
    lua_pushlightuserdata(L, &vm->shared);
    lua_pushlstring(L, shared_text, sizeof shared_text - 1);
    const int last = lua_gettop(b->from);
    for (int i = 3; i <= last; i++) {
        const char *text = lua_tolstring(b->from, i, &n);
        lua_pushlstring(L, text, n);
    }
    lua_call(L, last - 3 + 1 + 3, 2); /* -> functions by name, text for the caller */
    for (int i = 0; i < N_CALLS; i++) {
        lua_getfield(L, 1, call_names[i]);
        vm->calls[i] = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    b->text = luaL_checklstring(L, 2, &b->n_text);
    lua_setfield(L, LUA_REGISTRYINDEX, metatable); /* keeps the text until the caller has copied it */
    return 0;
}

static struct policyvm *to_vm(lua_State *L)
{
    return *(struct policyvm **)luaL_checkudata(L, 1, metatable);
}

static int vm_gc(lua_State *L)
{
    struct policyvm **box = luaL_checkudata(L, 1, metatable);
    release(*box);
    *box = NULL;
    return 0;
}

/* vm:hooks() -> `const pg_hooks *` as a light userdata, for pg_policy_hooks; it holds a count that its drop gives back. */
static int vm_hooks(lua_State *L)
{
    struct policyvm *vm = to_vm(L);
    atomic_fetch_add(&vm->uses, 1);
    lua_pushlightuserdata(L, &vm->hooks);
    return 1;
}

/* vm:started() -> whether the engine has called it. */
static int vm_started(lua_State *L)
{
    lua_pushboolean(L, atomic_load(&to_vm(L)->started));
    return 1;
}

/* vm:follow(older): at its first call it takes over what is in the other's P.keep then. */
static int vm_follow(lua_State *L)
{
    struct policyvm *vm = to_vm(L), *before = *(struct policyvm **)luaL_checkudata(L, 2, metatable);
    if (vm == before || vm->before || atomic_load(&vm->started)) return luaL_error(L, "it cannot follow any more");
    atomic_fetch_add(&before->uses, 1);
    vm->before = before;
    return 0;
}

/* vm:memory() -> bytes its state has been handed. */
static int vm_memory(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)to_vm(L)->memory);
    return 1;
}

/* nil and the error on top of the state's stack, for the caller. */
static int refuse(lua_State *L, struct policyvm *vm)
{
    pg_error err;
    failed(vm, &err);
    lua_pushnil(L);
    lua_pushstring(L, err.text);
    return 2;
}

static int inspect(lua_State *L)
{
    const struct build *b = lua_touserdata(L, 1);
    lua_settop(L, 0);
    open_library(L, luaopen_debug, LUA_DBLIBNAME);
    if (luaL_loadbuffer(L, b->text, b->n_text, "=inspect")) lua_error(L);
    lua_call(L, 0, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, metatable);
    return 0;
}

/* vm:inspect(chunk) -> text | nil, message: run Lua inside, outside of the sandbox and its limits; for tests, and only
 * while no engine has it. */
static int vm_inspect(lua_State *L)
{
    struct policyvm *vm = to_vm(L);
    struct build b = { .vm = vm };
    b.text = luaL_checklstring(L, 2, &b.n_text);
    if (lua_cpcall(vm->L, inspect, &b)) return refuse(L, vm);
    lua_getfield(vm->L, LUA_REGISTRYINDEX, metatable);
    size_t n = 0;
    const char *text = lua_tolstring(vm->L, -1, &n);
    lua_pushlstring(L, text ? text : "", n);
    lua_settop(vm->L, 0);
    return 1;
}

static void push_box(lua_State *L, struct policyvm *vm)
{
    static const luaL_Reg methods[] = { { "hooks", vm_hooks },   { "started", vm_started }, { "follow", vm_follow },
                                        { "memory", vm_memory }, { "inspect", vm_inspect }, { "__gc", vm_gc },
                                        { NULL, NULL } };
    struct policyvm **box = lua_newuserdata(L, sizeof *box);
    *box = vm;
    if (luaL_newmetatable(L, metatable)) {
        for (const luaL_Reg *m = methods; m->name; m++) {
            lua_pushcfunction(L, m->func);
            lua_setfield(L, -2, m->name);
        }
        lua_pushvalue(L, -1);
        lua_setfield(L, -2, "__index");
    }
    lua_setmetatable(L, -2);
}

static struct policyvm *new_vm(pg_engine *engine)
{
    struct policyvm *vm = calloc(1, sizeof *vm);
    if (!vm) return NULL;
    vm->shared = (policyvm_shared){ .engine = engine,
                                    .more = more,
                                    .tenant_name = pg_tenant_name,
                                    .lse = pg_route_lse,
                                    .entropy = pg_route_entropy,
                                    .margin = pg_route_margin,
                                    .mass = pg_route_mass };
    clear_views(vm);
    vm->hooks.drop = release;
    vm->hooks.ud = vm;
    for (int i = 0; i < N_CALLS; i++) vm->calls[i] = LUA_REFNIL;
    atomic_init(&vm->uses, 1);
    vm->L = luaL_newstate();
    if (!vm->L) {
        free(vm);
        return NULL;
    }
    vm->alloc = lua_getallocf(vm->L, &vm->alloc_ud);
    vm->memory = (size_t)lua_gc(vm->L, LUA_GCCOUNT, 0) * 1024 + (size_t)lua_gc(vm->L, LUA_GCCOUNTB, 0);
    lua_setallocf(vm->L, meter, vm);
    return vm;
}

/* policyvm(engine, prelude, ...) -> vm, text | nil, message
 * engine is the address of the pg_engine as a number, 0: none; prelude a chunk, called in a new state as
 * prelude(ffi, shared, text of its declaration, ...), with strings. It returns a table of functions (call_names, all but
 * those of hooks that are not used) and a text that is handed on to the caller. */
int policyvm(lua_State *L)
{
    pg_engine *engine = (pg_engine *)(uintptr_t)luaL_checknumber(L, 1); /* addresses have less than 53 bits */
    for (int i = 2; i <= lua_gettop(L); i++) luaL_checkstring(L, i);
    struct policyvm *vm = new_vm(engine);
    if (!vm) {
        lua_pushnil(L);
        lua_pushliteral(L, "no memory for another Lua state");
        return 2;
    }
    struct build b = { .vm = vm, .from = L };
    grant(vm, TURNS_LOAD);
    if (lua_cpcall(vm->L, build, &b)) {
        const int n = refuse(L, vm);
        release(vm);
        return n;
    }
    if (vm->calls[ROUTE] != LUA_REFNIL) vm->hooks.route = on_route;
    if (vm->calls[LOGITS] != LUA_REFNIL) vm->hooks.logits = on_logits;
    if (vm->calls[TOKEN] != LUA_REFNIL) vm->hooks.token = on_token;
    if (vm->calls[ADMIT] != LUA_REFNIL) vm->hooks.admit = on_admit;
    push_box(L, vm);
    lua_pushlstring(L, b.text, b.n_text);
    return 2;
}
