/* hook_cpu.c: the place where somebody may look at router logits, edit them, and steer the ROUTE op that follows. Unused
 * it is one branch. */
#include "../cpu/cpu.h"

void pg_cpu_hook(pg_cpu *c, const pg_op *op)
{
    const pg_hook *h = c->base.hook;
    c->steer = h ? h->route(h->ud, op, pg_cpu_rows(c, op->src[0]), pg_cpu_count(c, op->src[0])) : NULL;
}
