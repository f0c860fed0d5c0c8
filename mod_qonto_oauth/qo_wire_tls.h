/* TLS for qo_wire: 1.2 or newer, and never without checking who is there. */
#ifndef QO_WIRE_TLS_H
#define QO_WIRE_TLS_H

#include "qo_error.h"

#include <apr_pools.h>

#include <stddef.h>

typedef struct qo_wire_tls_t qo_wire_tls_t;

/* What all connections to a host have in common. `ca` NULL: the system's authorities. */
qo_status_t qo_wire_tls(qo_wire_tls_t **out, apr_pool_t *p, const char *ca,
                        qo_err_t *err) QO_MUST_CHECK;

/* What a step waits for: the same step is then done again. */
typedef enum {
    QO_WIRE_TLS_DONE,
    QO_WIRE_TLS_READ,  /* until the socket can be read */
    QO_WIRE_TLS_WRITE, /* or written */
    QO_WIRE_TLS_ENDED, /* the other side is gone */
    QO_WIRE_TLS_FAILED /* the reason is in `err` */
} qo_wire_tls_step_t;

/* `host` is whom the certificate must name, `is_address` whether it is a name or an
 * address. NULL when there is no memory. */
void *qo_wire_tls_new(const qo_wire_tls_t *tls, int fd, const char *host, bool is_address);
void qo_wire_tls_free(void *session);

qo_wire_tls_step_t qo_wire_tls_greet(void *session, qo_err_t *err);
qo_wire_tls_step_t qo_wire_tls_write(void *session, const void *data, size_t len,
                                     size_t *sent, qo_err_t *err);
qo_wire_tls_step_t qo_wire_tls_read(void *session, void *out, size_t size, size_t *got,
                                    qo_err_t *err);

/* Nothing to read, and still open. */
bool qo_wire_tls_quiet(void *session);

#endif
