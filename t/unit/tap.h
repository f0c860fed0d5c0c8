/* The Test Anything Protocol in forty lines, for unit tests that prove runs.
 * A test program is a list of tap_ok()/tap_is() and ends with `return tap_done();`. */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int tap_count;
static int tap_failures;

__attribute__((format(printf, 2, 3))) static inline bool tap_ok(bool good, const char *name,
                                                                ...)
{
    va_list args;

    tap_count++;
    printf("%sok %d - ", good ? "" : "not ", tap_count);
    va_start(args, name);
    vprintf(name, args);
    va_end(args);
    putchar('\n');
    if (!good) {
        tap_failures++;
    }
    fflush(stdout);
    return good;
}

/* String equality; NULL equals only NULL. */
static inline bool tap_is(const char *got, const char *want, const char *name)
{
    bool good = (got == NULL || want == NULL) ? got == want : strcmp(got, want) == 0;

    if (!tap_ok(good, "%s", name)) {
        printf("#      got: %s\n#     want: %s\n", got ? got : "(null)",
               want ? want : "(null)");
    }
    return good;
}

static inline bool tap_int(long long got, long long want, const char *name)
{
    if (!tap_ok(got == want, "%s", name)) {
        printf("#      got: %lld\n#     want: %lld\n", got, want);
        return false;
    }
    return true;
}

static inline int tap_done(void)
{
    printf("1..%d\n", tap_count);
    return tap_failures == 0 && tap_count > 0 ? 0 : 1;
}

#endif
