/* Filling a pg_error, and the log. Every message of the library passes here, so every message is one clean line. */
#ifndef PG_STATUS_H
#define PG_STATUS_H

#include "include/perigee.h"

#if defined(__GNUC__)
#define PG_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define PG_PRINTF(fmt, first)
#endif

/* Fill *err (NULL is fine) and return code. Control characters in the result are escaped, so names from files may be
 * printed as they are; too long a line is cut at a character. */
int pg_fail(pg_error *err, int code, const char *format, ...) PG_PRINTF(3, 4);

/* Put "prefix: " before the message that err holds (NULL is fine), set its code and return it. */
int pg_fail_at(pg_error *err, int code, const char *format, ...) PG_PRINTF(3, 4);

/* Log one line to the callback of pg_log_set, if there is one for this level. */
void pg_log(int level, const char *format, ...) PG_PRINTF(2, 3);

#endif
