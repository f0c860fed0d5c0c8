/* Who ended whose session: one line to syslog (authpriv), or to a file. */
#ifndef QONTOCTL_AUDIT_H
#define QONTOCTL_AUDIT_H

#include "qontoctl_print.h"

#include <apr_pools.h>
#include <apr_time.h>

typedef struct {
    int fd;
    const char *file; /* NULL: syslog */
    const char *who;
} qontoctl_audit_t;

/* Before privileges are given up: finds out who asks, and opens `file` or, when that is
 * NULL, the way to syslog. */
qontoctl_exit_t qontoctl_audit_open(qontoctl_audit_t *out, apr_pool_t *p, const char *file);

/* QONTOCTL_TROUBLE, told on standard error, unless the line was taken as a whole. */
qontoctl_exit_t qontoctl_audit_write(const qontoctl_audit_t *audit, apr_time_t now,
                                     const char *what);

/* `text` in quotes, so that whatever it holds stays one word of one line. */
const char *qontoctl_audit_quote(apr_pool_t *p, const char *text);

#endif
