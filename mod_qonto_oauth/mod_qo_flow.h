/* The stories: a visitor arrives, comes back from Qonto, stays, connects on purpose, signs
 * out. Each returns what its hook returns, and none calls another. */
#ifndef MOD_QO_FLOW_H
#define MOD_QO_FLOW_H

#include "mod_qo_ctx.h"

#include <httpd.h>

/* Somebody without a session opens a page. */
int mod_qo_flow_login(request_rec *r, const mod_qo_ctx_t *ctx); /* to Qonto */
int mod_qo_flow_move(request_rec *r,
                     const mod_qo_ctx_t *ctx); /* to the callback's host first */
int mod_qo_flow_page(request_rec *r, const mod_qo_ctx_t *ctx); /* a page with the button */

/* Somebody is signed in, and their access token has ended or will soon. Afterwards `ctx` is
 * what the store says now, and ctx->refresh_status why there are no new tokens. One request
 * calls Qonto, the others wait for it: at most QO_REFRESH_WAIT_MS while the old token is
 * good, else as long as that call may take. */
void mod_qo_flow_refresh(request_rec *r, mod_qo_ctx_t *ctx);

/* The redirect URI. */
int mod_qo_flow_callback(request_rec *r, mod_qo_ctx_t *ctx);

/* Content handlers qonto-connect and qonto-logout. */
int mod_qo_flow_connect(request_rec *r, mod_qo_ctx_t *ctx);
int mod_qo_flow_logout(request_rec *r, mod_qo_ctx_t *ctx);

/* The anti-forgery token of a session's log-out link, in r->pool; NULL without a session.
 */
const char *mod_qo_flow_logout_token(request_rec *r, const mod_qo_ctx_t *ctx);

#endif
