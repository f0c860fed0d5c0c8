#include "qo_wire.h"

#include "qo_wire_name.h"
#include "qo_wire_tls.h"

#include <apr_strings.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct qo_wire_site_t {
    const char *shown;
    const char *host;     /* NULL for a unix socket */
    qo_wire_name_t *name; /* of a TCP place */
    struct sockaddr_un local;
    bool secure;
    qo_wire_tls_t *tls; /* NULL if its certificates could not be read: */
    qo_err_t fault;
};

/* ---- places ---- */

static void set_local(qo_wire_site_t *site, const char *path)
{
    site->local.sun_family = AF_UNIX;
    (void)apr_cpystrn(site->local.sun_path, path, sizeof(site->local.sun_path));
}

qo_wire_site_t *qo_wire_site(apr_pool_t *p, const qo_wire_place_t *place)
{
    qo_wire_site_t *site = apr_pcalloc(p, sizeof(*site));

    if (place->host == NULL) {
        site->shown = apr_pstrdup(p, place->path);
        set_local(site, place->path);
        return site;
    }
    site->shown = apr_psprintf(p, strchr(place->host, ':') != NULL ? "[%s]:%d" : "%s:%d",
                               place->host, place->port);
    site->host = apr_pstrdup(p, place->host);
    site->name = qo_wire_name(p, place->host, place->port);
    site->secure = place->tls;
    if (place->tls && qo_wire_tls(&site->tls, p, place->ca, &site->fault) != QO_OK) {
        site->tls = NULL;
    }
    return site;
}

const char *qo_wire_shown(const qo_wire_site_t *site)
{
    return site->shown;
}

qo_status_t qo_wire_check_ca(const char *ca, qo_err_t *err)
{
    apr_pool_t *p;
    qo_wire_tls_t *tls;
    qo_status_t status;

    if (apr_pool_create(&p, NULL) != APR_SUCCESS) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "no memory");
    }
    status = qo_wire_tls(&tls, p, ca, err);
    apr_pool_destroy(p);
    return status;
}

apr_time_t qo_wire_clock(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with these arguments */
    return apr_time_from_sec((apr_time_t)now.tv_sec) + now.tv_nsec / 1000;
}

/* ---- waiting ---- */

static qo_status_t await(int fd, short events, apr_time_t until, qo_err_t *err)
{
    struct pollfd ready = {.fd = fd, .events = events};

    for (;;) {
        apr_time_t left = until - qo_wire_clock();
        int rc;

        if (left <= 0) {
            return qo_error(err, QO_E_STORE_UNAVAILABLE, "no answer in time");
        }
        rc = poll(&ready, 1, (int)((left + 999) / 1000));
        if (rc > 0) {
            return QO_OK; /* an error shows at the next step */
        }
        if (rc < 0 && errno != EINTR) {
            return qo_error(err, QO_E_STORE_UNAVAILABLE, "poll: %s", strerror(errno));
        }
    }
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* ---- opening ---- */

static qo_status_t connected(int fd, apr_time_t until, qo_err_t *err)
{
    socklen_t size = sizeof(int);
    int error = 0;
    qo_status_t status = await(fd, POLLOUT, until, err);

    if (status != QO_OK) {
        return status;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
    }
    return error == 0 ? QO_OK
                      : qo_error(err, QO_E_STORE_UNAVAILABLE, "%s", strerror(error));
}

static qo_status_t connect_socket(int *out, const struct sockaddr *address, socklen_t len,
                                  apr_time_t until, qo_err_t *err)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    qo_status_t status = QO_OK;

    if (fd < 0) {
        return qo_error(err, QO_E_INTERNAL, "no socket: %s", strerror(errno));
    }
    if (connect(fd, address, len) != 0) {
        /* EAGAIN: the queue of a unix socket is full, and nothing would tell when it is
         * not. */
        status = errno == EINPROGRESS || errno == EINTR
                     ? connected(fd, until, err)
                     : qo_error(err, QO_E_STORE_UNAVAILABLE, "%s", strerror(errno));
    }
    if (status != QO_OK) {
        (void)close(fd); /* nothing was sent */
        return status;
    }
    *out = fd;
    return QO_OK;
}

/* Each address of a name gets its share of the time that is left. */
static qo_status_t connect_name(int *out, const qo_wire_site_t *site, apr_time_t until,
                                qo_err_t *err)
{
    qo_wire_addresses_t found;
    qo_status_t status = qo_wire_name_find(&found, site->name, until, err);
    const int now = 1;

    if (status != QO_OK) {
        return status;
    }
    for (int i = 0; i < found.count; i++) {
        apr_time_t clock = qo_wire_clock();
        apr_time_t share = clock + (until - clock) / (found.count - i);

        status = connect_socket(out, (const struct sockaddr *)&found.address[i],
                                found.len[i], share, err);
        if (status == QO_OK) {
            /* Without it small requests may wait for the answer to the one before. */
            (void)setsockopt(*out, IPPROTO_TCP, TCP_NODELAY, &now, sizeof(now));
            return QO_OK;
        }
    }
    return status;
}

static qo_status_t secure(qo_wire_t *wire, const qo_wire_site_t *site, apr_time_t until,
                          qo_err_t *err)
{
    qo_wire_tls_step_t step;

    if (site->tls == NULL) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s", site->fault.detail);
    }
    wire->tls = qo_wire_tls_new(site->tls, wire->fd, site->host,
                                qo_wire_name_is_address(site->name));
    if (wire->tls == NULL) {
        return qo_error(err, QO_E_INTERNAL, "TLS: no memory, or no such name");
    }
    while ((step = qo_wire_tls_greet(wire->tls, err)) != QO_WIRE_TLS_DONE) {
        if (step == QO_WIRE_TLS_FAILED) {
            return QO_E_STORE_UNAVAILABLE;
        }
        if (step == QO_WIRE_TLS_ENDED) {
            return qo_error(err, QO_E_STORE_UNAVAILABLE, "TLS: it hung up");
        }
        if (await(wire->fd, step == QO_WIRE_TLS_READ ? POLLIN : POLLOUT, until, err) !=
            QO_OK) {
            return QO_E_STORE_UNAVAILABLE;
        }
    }
    return QO_OK;
}

qo_status_t qo_wire_open(qo_wire_t *wire, qo_wire_site_t *site, apr_time_t until,
                         qo_err_t *err)
{
    qo_status_t status;

    wire->tls = NULL;
    wire->fd = -1;
    status = site->host != NULL
                 ? connect_name(&wire->fd, site, until, err)
                 : connect_socket(&wire->fd, (const struct sockaddr *)&site->local,
                                  sizeof(site->local), until, err);
    if (status == QO_OK && site->secure) {
        status = secure(wire, site, until, err);
    }
    if (status != QO_OK) {
        qo_wire_close(wire);
    }
    return status;
}

/* ---- talking ---- */

/* One step of sending or receiving; what it waits for if it moved nothing. */
static qo_status_t step_write(qo_wire_t *wire, const char *data, size_t len, size_t *sent,
                              short *wait, qo_err_t *err)
{
    ssize_t rc;

    *sent = 0;
    *wait = POLLOUT;
    if (wire->tls != NULL) {
        qo_wire_tls_step_t step = qo_wire_tls_write(wire->tls, data, len, sent, err);

        *wait = step == QO_WIRE_TLS_READ ? POLLIN : POLLOUT;
        return step == QO_WIRE_TLS_FAILED ? QO_E_STORE_UNAVAILABLE
               : step == QO_WIRE_TLS_ENDED
                   ? qo_error(err, QO_E_STORE_UNAVAILABLE, "it hung up")
                   : QO_OK;
    }
    rc = send(wire->fd, data, len, MSG_NOSIGNAL);
    if (rc < 0 && !would_block()) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s", strerror(errno));
    }
    *sent = rc > 0 ? (size_t)rc : 0;
    return QO_OK;
}

static qo_status_t step_read(qo_wire_t *wire, void *out, size_t size, size_t *got,
                             short *wait, qo_err_t *err)
{
    ssize_t rc;

    *got = 0;
    *wait = POLLIN;
    if (wire->tls != NULL) {
        qo_wire_tls_step_t step = qo_wire_tls_read(wire->tls, out, size, got, err);

        *wait = step == QO_WIRE_TLS_WRITE ? POLLOUT : POLLIN;
        return step == QO_WIRE_TLS_FAILED ? QO_E_STORE_UNAVAILABLE
               : step == QO_WIRE_TLS_ENDED
                   ? qo_error(err, QO_E_STORE_UNAVAILABLE, "it hung up")
                   : QO_OK;
    }
    rc = recv(wire->fd, out, size, 0);
    if (rc == 0) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "it hung up");
    }
    if (rc < 0 && !would_block()) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s", strerror(errno));
    }
    *got = rc > 0 ? (size_t)rc : 0;
    return QO_OK;
}

qo_status_t qo_wire_send(qo_wire_t *wire, const void *data, size_t len, apr_time_t until,
                         qo_err_t *err)
{
    const char *at = data;

    while (len > 0) {
        size_t sent;
        short wait;
        qo_status_t status = step_write(wire, at, len, &sent, &wait, err);

        at += sent;
        len -= sent;
        if (status == QO_OK && sent == 0) {
            status = await(wire->fd, wait, until, err);
        }
        if (status != QO_OK) {
            return status;
        }
    }
    return QO_OK;
}

qo_status_t qo_wire_receive(qo_wire_t *wire, void *out, size_t size, size_t *got,
                            apr_time_t until, qo_err_t *err)
{
    for (;;) {
        short wait;
        qo_status_t status = step_read(wire, out, size, got, &wait, err);

        if (status == QO_OK && *got == 0) {
            status = await(wire->fd, wait, until, err);
        }
        if (status != QO_OK || *got > 0) {
            return status;
        }
    }
}

bool qo_wire_quiet(const qo_wire_t *wire)
{
    char byte;

    if (wire->fd < 0) {
        return false;
    }
    if (wire->tls != NULL) {
        return qo_wire_tls_quiet(wire->tls);
    }
    return recv(wire->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && would_block();
}

void qo_wire_close(qo_wire_t *wire)
{
    qo_wire_tls_free(wire->tls);
    wire->tls = NULL;
    if (wire->fd >= 0) {
        (void)close(wire->fd); /* what was not sent is lost anyway */
        wire->fd = -1;
    }
}
