/* The session: what one sign-in left behind, as a flat binary record.
 *
 *   [format 2][created 8][expires 8][renewed 8][idle 4][access dies 8]
 *   [access token][refresh token][scope][user][organization]
 *
 * Times are microseconds since 1970. It is stored sealed, in two parts:
 *
 *   [format 1][length of the first part 2][administrative part][the record above]
 *
 * The record opens only with the visitor's cookie. The administrative part holds no token
 * and is sealed under the server key and the session's key in the store, so that an admin's
 * tool can tell whose session it is without being able to use it:
 *
 *   [format 1][created 8][expires 8][renewed 8][access dies 8][user][organization] */
#ifndef QO_SESSION_H
#define QO_SESSION_H

#include "qo_error.h"
#include "qo_pack.h"
#include "qo_seal.h"
#include "qo_token.h"

#include <apr_pools.h>
#include <apr_time.h>

#include <stdint.h>

#define QO_SESSION_ID_LEN 16

typedef struct {
    apr_time_t created;
    apr_time_t expires;       /* absolute end */
    apr_time_t renewed;       /* when it got its present tokens */
    uint32_t idle;            /* seconds without a request after which it ends */
    qo_token_t token;         /* its id is not kept */
    const char *user;         /* who, as the backend is told; NULL when unknown */
    const char *organization; /* id at Qonto; NULL when unknown */
} qo_session_t;

/* A new session of a token set. It ends after `max` seconds, and with the access token when
 * there is no refresh token. */
void qo_session_new(qo_session_t *out, const qo_token_t *token, uint32_t idle, uint32_t max,
                    apr_time_t now);

/* The same session with the token set of a refresh. An answer without a refresh token
 * leaves the old one in use (RFC 6749 section 6). */
void qo_session_renew(qo_session_t *session, const qo_token_t *token, apr_time_t now);

qo_status_t qo_session_encode(qo_bytes_t *out, apr_pool_t *p,
                              const qo_session_t *session) QO_MUST_CHECK;

/* Strings of `out` point into `record`. QO_E_NOT_FOUND for a record of another format. */
qo_status_t qo_session_decode(qo_session_t *out, qo_bytes_t record) QO_MUST_CHECK;

/* In this order: from STALE on, somebody is signed in. */
typedef enum {
    QO_SESSION_NONE,
    QO_SESSION_ENDED, /* it is over, or its access token has died and nothing can renew it
                       */
    QO_SESSION_STALE, /* the access token has died; the refresh token may bring another */
    QO_SESSION_DUE,   /* the access token is good, but for less than the margin */
    QO_SESSION_LIVE   /* nothing to do */
} qo_session_state_t;

/* `margin` in seconds; at most half of the token's life counts, or a short-lived one would
 * be renewed at every request. A session without a refresh token is never DUE or STALE. */
qo_session_state_t qo_session_classify(const qo_session_t *session, int margin,
                                       apr_time_t now);

/* What a session is called in logs, X-Qonto-Session and the session tool: the first digits
 * of its key in the store, which cannot be turned back into the cookie. */
void qo_session_id(char out[QO_SESSION_ID_LEN + 1], const qo_hash_t *key);

/* -- sealed (qo_session_seal.c) -------------------------------------------------------- */

typedef struct {
    qo_keyring_t visitor; /* of the virtual host */
    qo_keyring_t admin;   /* of the server key itself */
} qo_session_rings_t;

/* What is stored under `key`, the hash of `cookie`. */
qo_status_t qo_session_seal(qo_bytes_t *out, apr_pool_t *p, const qo_session_rings_t *rings,
                            const char *cookie, const qo_hash_t *key,
                            const qo_session_t *session) QO_MUST_CHECK;

/* Opens what is stored into `record`, which qo_session_decode reads. QO_E_NOT_FOUND: it is
 * not this cookie's, or damaged. */
qo_status_t qo_session_open(qo_bytes_t *record, apr_pool_t *p,
                            const qo_session_rings_t *rings, const char *cookie,
                            qo_bytes_t stored) QO_MUST_CHECK;

typedef struct {
    apr_time_t created;
    apr_time_t expires;
    apr_time_t renewed;
    apr_time_t access_expires;
    const char *user;         /* NULL when unknown */
    const char *organization; /* NULL when unknown */
} qo_session_admin_t;

/* Opens the administrative part, without the cookie. */
qo_status_t qo_session_open_admin(qo_session_admin_t *out, apr_pool_t *p,
                                  const qo_session_rings_t *rings, const qo_hash_t *key,
                                  qo_bytes_t stored) QO_MUST_CHECK;

#endif
