/* What the session tool is asked to do: its command line and environment. */
#ifndef QONTOCTL_OPTIONS_H
#define QONTOCTL_OPTIONS_H

#include "qo_limits.h"

#include <apr_pools.h>

#include <stdbool.h>

typedef enum {
    QONTOCTL_LIST,
    QONTOCTL_SHOW,
    QONTOCTL_END,
    QONTOCTL_STATS,
    QONTOCTL_HELP,
    QONTOCTL_VERSION
} qontoctl_command_t;

/* Where something secret may stand: what came from the command line, which everybody can
 * read there, must not hold a secret itself. */
typedef struct {
    const char *text; /* NULL: not given */
    bool exposed;
} qontoctl_source_t;

typedef struct {
    qontoctl_command_t command;
    qontoctl_source_t store;
    qontoctl_source_t keys[QO_LIMIT_KEYS];
    int key_count;
    const char *hash;         /* show, end: digits, in lower case */
    const char *user;         /* end */
    const char *organization; /* end */
    const char *audit;        /* end: a file instead of syslog */
    bool dry_run;
    bool json;
} qontoctl_options_t;

/* NULL, or a sentence that tells what to write instead. */
const char *qontoctl_options_read(qontoctl_options_t *out, apr_pool_t *p, int argc,
                                  const char *const *argv);

extern const char qontoctl_options_help[];

#endif
