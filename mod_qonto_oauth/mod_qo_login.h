/* Beginning a login: the pending login is stored, bound to the browser, and the browser
 * sent to Qonto. Also the ticket: a link on the callback's address that begins a login
 * later, or under the callback's own host name, with the settings of the location it came
 * from. */
#ifndef MOD_QO_LOGIN_H
#define MOD_QO_LOGIN_H

#include "mod_qo_ctx.h"
#include "qo_pending.h"

#include <httpd.h>

/* Fills in what the location and the visitor's address say: return path, scope, extra
 * parameters, the session there is. `asked` are parameters the visitor named (qo_param_t,
 * NULL for none); those of the configuration go before them. Returns QO_OK or a status for
 * mod_qo_reply_failure. */
qo_status_t mod_qo_login_draft(qo_pending_t *out, request_rec *r, const mod_qo_ctx_t *ctx,
                               const apr_array_header_t *asked,
                               qo_err_t *err) QO_MUST_CHECK;

/* Begins it: state, verifier, binding cookie, store, redirect. Returns an HTTP status. */
int mod_qo_login_begin(request_rec *r, const mod_qo_ctx_t *ctx, qo_pending_t *draft);

/* The absolute URL that begins this login when it is opened. */
qo_status_t mod_qo_login_ticket(const char **url, request_rec *r, const mod_qo_ctx_t *ctx,
                                const qo_pending_t *draft) QO_MUST_CHECK;

/* Begins the login of a ticket. Returns an HTTP status. */
int mod_qo_login_redeem(request_rec *r, mod_qo_ctx_t *ctx, const char *ticket);

/* The URL of a return path, and the link of a page that begins again. */
const char *mod_qo_login_return_url(request_rec *r, const mod_qo_ctx_t *ctx,
                                    const char *return_path);

/* Name part of the cookie that binds the login of this state. */
void mod_qo_login_binding_id(char out[QO_BINDING_ID + 1], const qo_hash_t *state_hash);

#endif
