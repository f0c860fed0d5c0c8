/* A pending login: what must be remembered between the redirect to Qonto and the callback.
 * Kept in the store under the hash of its state, sealed under the state, taken once.
 *
 *   [format 1][created 8][restarts 1][binding hash 32][session seen 32]
 *   [return path][scope][extra query][redirect URI][verifier] */
#ifndef QO_PENDING_H
#define QO_PENDING_H

#include "qo_crypto.h"
#include "qo_error.h"
#include "qo_pack.h"

#include <apr_pools.h>
#include <apr_time.h>

typedef struct {
    apr_time_t created;
    int restarts;           /* how often request_forbidden made us begin again */
    qo_hash_t binding;      /* SHA-256 of the binding cookie's value */
    qo_hash_t session_seen; /* store key of the session present at the start, else zeros */
    const char
        *return_path;  /* where the visitor wanted to go: path and query, same origin */
    const char *scope; /* requested */
    const char *extra; /* extra authorization parameters, encoded; "" if none */
    const char *redirect_uri; /* byte for byte as sent (RFC 6749 section 4.1.3) */
    const char *verifier;     /* PKCE; NULL when off */
} qo_pending_t;

qo_status_t qo_pending_encode(qo_bytes_t *out, apr_pool_t *p,
                              const qo_pending_t *pending) QO_MUST_CHECK;

/* Strings of `out` point into `record`. QO_E_NOT_FOUND for a record of another format. */
qo_status_t qo_pending_decode(qo_pending_t *out, qo_bytes_t record) QO_MUST_CHECK;

bool qo_pending_expired(const qo_pending_t *pending, apr_time_t now);

/* Is `cookie` (NULL if the browser brought none) the one this login was bound to? */
bool qo_pending_bound(const qo_pending_t *pending, const char *cookie);

#endif
