/* The session record: what one sign-in left behind, as a flat binary record.
 *
 *   [format 1][created 8][expires 8][idle 4][access dies 8]
 *   [access token][refresh token][scope][user][organization]
 *
 * Times are microseconds since 1970. Sealed by qo_seal before it is stored. */
#ifndef QO_SESSION_H
#define QO_SESSION_H

#include "qo_error.h"
#include "qo_pack.h"
#include "qo_token.h"

#include <apr_pools.h>
#include <apr_time.h>

#include <stdint.h>

typedef struct {
    apr_time_t created;
    apr_time_t expires;       /* absolute end */
    uint32_t idle;            /* seconds without a request after which it ends */
    qo_token_t token;         /* its id is not kept */
    const char *user;         /* who, as the backend is told; NULL when unknown */
    const char *organization; /* id at Qonto; NULL when unknown */
} qo_session_t;

/* A new session of a token set. It ends after `max` seconds, and with the access token when
 * there is no refresh token. */
void qo_session_new(qo_session_t *out, const qo_token_t *token, uint32_t idle, uint32_t max,
                    apr_time_t now);

qo_status_t qo_session_encode(qo_bytes_t *out, apr_pool_t *p,
                              const qo_session_t *session) QO_MUST_CHECK;

/* Strings of `out` point into `record`. QO_E_NOT_FOUND for a record of another format. */
qo_status_t qo_session_decode(qo_session_t *out, qo_bytes_t record) QO_MUST_CHECK;

/* LIVE: its access token can be used. ENDED: it cannot, or the session is over. */
typedef enum { QO_SESSION_NONE, QO_SESSION_ENDED, QO_SESSION_LIVE } qo_session_state_t;

qo_session_state_t qo_session_classify(const qo_session_t *session, apr_time_t now);

#endif
