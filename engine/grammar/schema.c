#include "grammar.h"
char *pg_schema_to_gbnf(const char *json, size_t n, pg_error *err)
{
    (void)json; (void)n;
    pg_fail(err, PG_EUNSUPPORTED, "later");
    return 0;
}
