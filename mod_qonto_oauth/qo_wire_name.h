/* Host names for qo_wire: getaddrinfo() cannot be told when to give up, so a thread of its
 * own waits for it, one for a name at a time, and the callers wait for the thread. */
#ifndef QO_WIRE_NAME_H
#define QO_WIRE_NAME_H

#include "qo_error.h"
#include "qo_limits.h"

#include <apr_pools.h>
#include <apr_time.h>

#include <sys/socket.h>

typedef struct {
    int count;
    struct sockaddr_storage address[QO_LIMIT_ADDRESSES];
    socklen_t len[QO_LIMIT_ADDRESSES];
} qo_wire_addresses_t;

typedef struct qo_wire_name_t qo_wire_name_t;

qo_wire_name_t *qo_wire_name(apr_pool_t *p, const char *host, int port);

/* Is the host an address itself? */
bool qo_wire_name_is_address(const qo_wire_name_t *name);

/* Cached for QO_REDIS_NAME_LIFE seconds. QO_E_STORE_UNAVAILABLE: there is no such name, or
 * nobody told in time; a later call then finds the answer if it has come meanwhile.
 * QO_E_INTERNAL: no thread can be had. */
qo_status_t qo_wire_name_find(qo_wire_addresses_t *out, qo_wire_name_t *name,
                              apr_time_t until, qo_err_t *err) QO_MUST_CHECK;

#endif
