/* moe: what the routed experts of a layer take along on the CPU. */
#ifndef PG_MOE_H
#define PG_MOE_H

#include "../cpu/cpu.h"

/* The ops of a shared network, counted from EXPERTS. */
enum { PG_SHARED_GATE = 1, PG_SHARED_UP, PG_SHARED_GLU, PG_SHARED_DOWN, PG_SHARED_ADD, PG_SHARED_OPS = PG_SHARED_ADD };

/* Ops after EXPERTS op i that it takes along: 0, or PG_SHARED_OPS. */
int pg_experts_shared(const pg_code *code, int i);

#endif
