/* One connection to a server that we keep talking to: TCP over IPv4 or IPv6, or a unix
 * socket, with TLS or without. Whatever a call needs, from looking up the name to the last
 * byte, ends at the caller's deadline; nothing blocks beyond it, and a connection that the
 * other side closed raises no signal. The only room that opens sockets and the only one
 * that knows libssl.
 *
 * Every call answers QO_OK or, with the reason, QO_E_STORE_UNAVAILABLE; after the latter
 * the connection is of no further use. qo_wire_open alone answers QO_E_INTERNAL as well: it
 * is this process that lacks a socket, a thread or memory. */
#ifndef QO_WIRE_H
#define QO_WIRE_H

#include "qo_error.h"

#include <apr_pools.h>
#include <apr_time.h>

#include <stddef.h>

typedef struct {
    const char *host; /* name or address; NULL: `path` */
    int port;
    const char *path; /* of a unix socket */
    bool tls;         /* 1.2 or newer; certificate and host name are always checked */
    const char *ca;   /* PEM file of those who vouch for it; NULL: the system's */
} qo_wire_place_t;

/* A place as connections need it. Threads may share it, and so may forked processes. */
typedef struct qo_wire_site_t qo_wire_site_t;

/* No part of it waits for anything: nothing is looked up yet. The certificates of `ca` are
 * read here, with the rights of the caller; that they could not be is told by qo_wire_open.
 */
qo_wire_site_t *qo_wire_site(apr_pool_t *p, const qo_wire_place_t *place);

/* "host:port" or the path, for sentences. */
const char *qo_wire_shown(const qo_wire_site_t *site);

/* Are there certificates in the file? */
qo_status_t qo_wire_check_ca(const char *ca, qo_err_t *err) QO_MUST_CHECK;

/* The clock of all deadlines: microseconds, moved by nobody. */
apr_time_t qo_wire_clock(void);

/* Stays where it is while it is open. */
typedef struct {
    int fd; /* -1: not open */
    void *tls;
} qo_wire_t;

#define QO_WIRE_CLOSED                                                                     \
    {                                                                                      \
        -1, NULL                                                                           \
    }

qo_status_t qo_wire_open(qo_wire_t *wire, qo_wire_site_t *site, apr_time_t until,
                         qo_err_t *err) QO_MUST_CHECK;

/* All of it. */
qo_status_t qo_wire_send(qo_wire_t *wire, const void *data, size_t len, apr_time_t until,
                         qo_err_t *err) QO_MUST_CHECK;

/* What is there, at least one byte. */
qo_status_t qo_wire_receive(qo_wire_t *wire, void *out, size_t size, size_t *got,
                            apr_time_t until, qo_err_t *err) QO_MUST_CHECK;

/* Is it open, with nothing to read and no end in sight? Waits for nothing. */
bool qo_wire_quiet(const qo_wire_t *wire);

/* Without a farewell, so that a forked process may do it too. Harmless when closed. */
void qo_wire_close(qo_wire_t *wire);

#endif
