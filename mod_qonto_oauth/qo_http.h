/* One HTTP call to Qonto. The port; qo_http_curl.c stands behind it and is the only room
 * that knows libcurl and the only one that touches the network for OAuth. A call uses a
 * fresh connection (a reused one may silently repeat a POST), HTTP/1.1, verifies peer and
 * host, follows no redirect, and ends at one deadline. */
#ifndef QO_HTTP_H
#define QO_HTTP_H

#include "qo_error.h"

#include <apr_pools.h>

#include <stddef.h>

typedef struct {
    const char *url;
    const char *form;          /* body of a POST; NULL makes it a GET */
    const char *bearer;        /* access token for a GET; NULL to send none */
    const char *staging_token; /* X-Qonto-Staging-Token; NULL to send none */
    const char *proxy;         /* NULL: no proxy, whatever the environment says */
    const char *ca_file;       /* NULL: the system's */
    int connect_timeout_ms;
    int total_timeout_ms; /* more than 0 */
} qo_http_request_t;

typedef struct {
    int status;
    const char *type; /* Content-Type, "" if none */
    const char *body; /* NUL-terminated, at most QO_LIMIT_ANSWER bytes */
    size_t len;
    int retry_after; /* seconds, 0 if not given or malformed; at most QO_LIMIT_RETRY_AFTER.
                      * A date counts from the answer's own Date, without one it is 0. */
    int took_ms;     /* how long the call took */
} qo_http_answer_t;

/* Once in every process, and its end. */
qo_status_t qo_http_start(void) QO_MUST_CHECK;
void qo_http_stop(void);

/* QO_OK with any HTTP status; QO_E_UNREACHABLE with the reason (DNS, TLS, time-out…) in
 * `err`; QO_E_BAD_ANSWER when the answer is too long. The answer lives in `p`. */
qo_status_t qo_http_send(qo_http_answer_t *out, apr_pool_t *p,
                         const qo_http_request_t *request, qo_err_t *err) QO_MUST_CHECK;

#endif
