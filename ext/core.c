/* core: what `require "perigee.core"` finds. It hands out the declarations of perigee.h as text, so that the Lua side
 * reads the very header this library was built from, and the library's version.
 *
 * No function of the library is wrapped here: perigee.ffi calls them through LuaJIT's FFI, in this same shared object.
 * What takes a lua_State, and so cannot be called that way, comes along as a function (policyvm.c).
 * Nothing of Lua is linked in either; lua_* resolve in whichever LuaJIT loads the module, OpenResty's included. */
#include "perigee.h"
#include "policyvm.h"

#include <lauxlib.h>
#include <lua.h>

static const char *const declarations[] = {
#include "cdef.inc"
};

PG_API int luaopen_perigee_core(lua_State *L);

/* -> { cdef = text of the declarations, version = "major.minor.patch", policyvm = function } */
int luaopen_perigee_core(lua_State *L)
{
    luaL_Buffer text;
    lua_createtable(L, 0, 3);
    luaL_buffinit(L, &text);
    for (size_t i = 0; i < sizeof declarations / sizeof declarations[0]; i++) luaL_addstring(&text, declarations[i]);
    luaL_pushresult(&text);
    lua_setfield(L, -2, "cdef");
    lua_pushstring(L, pg_version());
    lua_setfield(L, -2, "version");
    lua_pushcfunction(L, policyvm);
    lua_setfield(L, -2, "policyvm");
    return 1;
}
