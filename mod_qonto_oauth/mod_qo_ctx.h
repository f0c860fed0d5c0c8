/* What is known of one request: made on arrival, shared by its internal redirects and
 * sub-requests, so that the clock is read, cookies are parsed and the session is looked up
 * once. */
#ifndef MOD_QO_CTX_H
#define MOD_QO_CTX_H

#include "mod_qo_config.h"
#include "mod_qo_headers.h"
#include "qo_session.h"

#include <httpd.h>

typedef struct {
    const mod_qo_server_t *server;
    apr_pool_t *pool; /* of the request that came over the wire: outlives sub-requests */
    apr_time_t now;
    qo_cookies_t cookies;
    bool callback;     /* the request is for the redirect URI's path */
    const char *query; /* its query, taken out of what others log; NULL if none */
    mod_qo_export_t exported;
    const void *exported_for;         /* per_dir_config of the last export or withdrawal, */
    const apr_table_t *exported_into; /* and the headers it changed */

    /* After mod_qo_ctx_load_session. */
    bool loaded;
    bool store_failed; /* the store could not say whether there is a session */
    qo_err_t store_error;
    qo_session_state_t state;
    qo_session_t session;           /* unless state is NONE */
    const char *cookie;             /* what it was opened with; a secret */
    uint64_t version;               /* its generation in the store */
    qo_hash_t key;                  /* its key in the store; zeros without one */
    char id[QO_SESSION_ID_LEN + 1]; /* names it in logs */

    /* After mod_qo_flow_refresh. */
    bool refresh_tried;
    qo_status_t refresh_status; /* why there are no new tokens */
    qo_err_t refresh_error;
} mod_qo_ctx_t;

/* On arrival. NULL on a virtual host without Qonto. */
mod_qo_ctx_t *mod_qo_ctx_make(request_rec *r);

/* The one of the request this one came from; NULL on a virtual host without Qonto. */
mod_qo_ctx_t *mod_qo_ctx_get(const request_rec *r);

/* Looks the session up, once. No lock, no network with the embedded store; one small write
 * a minute for the idle clock. */
void mod_qo_ctx_load_session(request_rec *r, mod_qo_ctx_t *ctx);

/* Looks it up again, at the present time: `ctx->state` may be NONE afterwards. Or else
 * QO_E_STORE_UNAVAILABLE, with the reason in `ctx->store_error`, and all but the time is as
 * it was. Keeps no memory unless the session has changed. */
qo_status_t mod_qo_ctx_reload(request_rec *r, mod_qo_ctx_t *ctx) QO_MUST_CHECK;

/* Judges the session by the present time. */
void mod_qo_ctx_judge(mod_qo_ctx_t *ctx);

/* Is somebody signed in, be their token good or to be renewed? */
bool mod_qo_ctx_signed_in(const mod_qo_ctx_t *ctx);

/* Was the page asked for under a host name other than the callback's? */
bool mod_qo_ctx_other_host(const request_rec *r, const mod_qo_ctx_t *ctx);

/* Who is signed in, for REMOTE_USER and X-Qonto-User. */
const char *mod_qo_ctx_user(const mod_qo_ctx_t *ctx);

#endif
