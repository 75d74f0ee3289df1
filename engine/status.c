/* Error messages and the log.
 *
 * Lives here: making a pg_error's one clean line out of anything, the names of the codes, the process-wide log callback.
 * Not here: what to say; every caller words its own message.
 * Why so: names that come from files are hostile text. Escaping at the one place where all messages pass means that no
 * caller has to think of it. */
#include "status.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 2048 /* of one message before it is escaped and cut */

#define TEXT(x) #x
#define VERSION(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

const char *pg_version(void)
{
    return VERSION(PG_VERSION_MAJOR, PG_VERSION_MINOR, PG_VERSION_PATCH);
}

const char *pg_code_name(int32_t code)
{
    switch (code) {
    case PG_EINVAL: return "invalid";
    case PG_ENOTFOUND: return "not_found";
    case PG_EFORMAT: return "format";
    case PG_EUNSUPPORTED: return "unsupported";
    case PG_EMEMORY: return "memory";
    case PG_EFULL: return "full";
    case PG_ELIMIT: return "limit";
    case PG_ECANCELLED: return "cancelled";
    case PG_EDEVICE: return "device";
    case PG_EIO: return "io";
    default: return code >= 0 ? "ok" : "unknown";
    }
}

/* Bytes of the UTF-8 character at s (n bytes left) and its code point; 0 when there is none. */
static int character(const unsigned char *s, size_t n, uint32_t *point)
{
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    int len = s[0] < 0x80                   ? 1
              : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
              : (s[0] & 0xf0) == 0xe0       ? 3
              : (s[0] & 0xf8) == 0xf0       ? 4
                                            : 0;
    if (len == 0 || (size_t)len > n) return 0;
    uint32_t c = len == 1 ? s[0] : s[0] & (0xffu >> (len + 1));
    for (int i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0;
    *point = c;
    return len;
}

/* Characters that would break a line or steer a terminal. */
static int is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029;
}

/* Copy a terminated text into out[max]: control characters and stray bytes as \xNN, cut between characters. */
static void clean(char *out, size_t max, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t n = strlen(text), used = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        int len = character(s + i, n - i, &c);
        int escape = len == 0 || is_control(c), bytes = len ? len : 1;
        size_t need = escape ? 4 * (size_t)bytes : (size_t)bytes;
        if (need >= max - used) break;
        for (int k = 0; k < bytes && escape; k++) snprintf(out + used + 4 * k, 5, "\\x%02x", s[i + k]);
        if (!escape) memcpy(out + used, s + i, (size_t)bytes);
        used += need;
        i += (size_t)bytes;
    }
    out[used] = 0;
}

int pg_fail(pg_error *err, int code, const char *format, ...)
{
    if (!err) return code;
    char line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    if (vsnprintf(line, sizeof line, format, args) < 0) line[0] = 0;
    va_end(args);
    err->code = code;
    clean(err->text, sizeof err->text, line);
    return code;
}

int pg_fail_at(pg_error *err, int code, const char *format, ...)
{
    if (!err) return code;
    char line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    if (vsnprintf(line, sizeof line - sizeof err->text - 2, format, args) < 0) line[0] = 0;
    va_end(args);
    size_t n = strlen(line);
    snprintf(line + n, sizeof line - n, "%s%s", err->text[0] ? ": " : "", err->text);
    err->code = code;
    clean(err->text, sizeof err->text, line);
    return code;
}

/* The callback is called under the read lock: once pg_log_set has returned, nobody is in the old one any more. */
static pthread_rwlock_t log_lock = PTHREAD_RWLOCK_INITIALIZER;
static pg_log_fn log_fn;
static void *log_ud;
static atomic_int log_level = -1;

void pg_log_set(pg_log_fn fn, void *ud, int32_t level)
{
    pthread_rwlock_wrlock(&log_lock);
    log_fn = fn;
    log_ud = ud;
    atomic_store(&log_level, fn ? level : -1);
    pthread_rwlock_unlock(&log_lock);
}

void pg_log(int level, const char *format, ...)
{
    if (level > atomic_load_explicit(&log_level, memory_order_relaxed)) return;
    char line[LINE_MAX_BYTES], text[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    if (vsnprintf(line, sizeof line, format, args) < 0) line[0] = 0;
    va_end(args);
    clean(text, sizeof text, line);
    pthread_rwlock_rdlock(&log_lock);
    if (log_fn && level <= atomic_load(&log_level)) log_fn(level, text, log_ud);
    pthread_rwlock_unlock(&log_lock);
}
