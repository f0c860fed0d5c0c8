/* What we say to Qonto: the authorization URL, the code exchange, the refresh, the
 * revocation. Client credentials go into the form body (Qonto docs: client_secret_post),
 * the sandbox gets its staging token, and every failure comes back as one of a few classes:
 *
 *   QO_E_GRANT_REJECTED   this code or token is dead for good
 *   QO_E_CLIENT_REFUSED   the credentials are wrong: an admin must act, no session is bad
 *   QO_E_REQUEST_REFUSED  the client has lost a scope: the same
 *   QO_E_BUSY, QO_E_UNREACHABLE    try again later
 *   QO_E_NOT_JSON, QO_E_BAD_ANSWER somebody else answered, or nonsense
 *
 * QO_OK with a non-empty detail is a notice for the admin. */
#ifndef QO_QONTO_H
#define QO_QONTO_H

#include "qo_conf.h"
#include "qo_pending.h"
#include "qo_token.h"

#include <apr_pools.h>
#include <apr_time.h>

/* Where the browser is sent (RFC 6749 section 4.1.1, RFC 7636 section 4.3). */
qo_status_t qo_qonto_authorize_url(const char **out, apr_pool_t *p, const qo_conf_t *conf,
                                   const qo_pending_t *pending,
                                   const char *state) QO_MUST_CHECK;

/* Exchanges a code (RFC 6749 section 4.1.3), once: the caller has taken the pending login.
 */
qo_status_t qo_qonto_exchange(qo_token_t *out, apr_pool_t *p, const qo_conf_t *conf,
                              const qo_pending_t *pending, const char *code, apr_time_t now,
                              qo_err_t *err) QO_MUST_CHECK;

/* Renews a token set (RFC 6749 section 6), once: the caller holds the session's lease.
 * Qonto ends the old access token and replaces the refresh token, which it takes again for
 * 60 s (Qonto docs: "Refresh token endpoint"): whoever did not hear the answer repeats the
 * same.
 */
qo_status_t qo_qonto_refresh(qo_token_t *out, apr_pool_t *p, const qo_conf_t *conf,
                             const qo_token_t *old, apr_time_t now,
                             qo_err_t *err) QO_MUST_CHECK;

/* Revokes the whole grant of a token set (RFC 7009), within QO_REVOKE_TIMEOUT_MS. */
qo_status_t qo_qonto_revoke(apr_pool_t *p, const qo_conf_t *conf, const qo_token_t *token,
                            qo_err_t *err) QO_MUST_CHECK;

#endif
