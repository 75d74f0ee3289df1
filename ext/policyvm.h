/* policyvm: Lua policies, each in a lua_State of its own. The header is for core.c, which hands its one function to Lua. */
#ifndef POLICYVM_H
#define POLICYVM_H

#include <lua.h>

/* policyvm(engine, prelude, ...) -> vm, text | nil, message.  See policyvm.c. */
int policyvm(lua_State *L);

#endif
