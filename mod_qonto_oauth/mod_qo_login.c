#include "mod_qo_login.h"

#include "mod_qo_log.h"
#include "mod_qo_reply.h"
#include "qo_qonto.h"

#include <ap_expr.h>
#include <apr_strings.h>

#include <string.h>

/* ---- the draft ---- */

/* What the browser's address bar says: the path and query of the request that came over the
 * wire, byte for byte, whatever it was redirected to internally. */
static const char *return_path(const request_rec *r)
{
    const char *target;
    const char *host;
    const char *path;

    while (r->main != NULL || r->prev != NULL) {
        r = r->main != NULL ? r->main : r->prev;
    }
    /* Not parsed_uri.path, which httpd decodes in place. The target may be absolute. */
    target = r->unparsed_uri;
    host = *target == '/' ? NULL : strstr(target, "://");
    target = host != NULL ? strchr(host + strlen("://"), '/') : target;
    if (target == NULL || qo_url_check_return(target, NULL) == QO_OK) {
        return target != NULL ? target : "/";
    }
    path = apr_pstrmemdup(r->pool, target, strcspn(target, "?"));
    return qo_url_check_return(path, NULL) == QO_OK ? path : "/";
}

static void push(apr_array_header_t *params, const char *name, const char *value)
{
    qo_param_t *param = apr_array_push(params);

    param->name = name;
    param->value = value;
}

static bool has(const apr_array_header_t *params, const char *name)
{
    const qo_param_t *list = (const void *)params->elts;

    for (int i = 0; i < params->nelts; i++) {
        if (strcmp(list[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static qo_status_t evaluate(apr_array_header_t *out, request_rec *r,
                            const apr_array_header_t *configured, qo_err_t *err)
{
    for (int i = 0; configured != NULL && i < configured->nelts; i++) {
        const mod_qo_param_t *param = (const void *)configured->elts;
        const char *mistake = NULL;
        const char *value = ap_expr_str_exec(r, param[i].value, &mistake);

        if (mistake != NULL) {
            return qo_error(err, QO_E_INTERNAL, "QontoAuthorizeParam %s: %s", param[i].name,
                            mistake);
        }
        if (value != NULL && *value != '\0') {
            push(out, param[i].name, value);
        }
    }
    return QO_OK;
}

static qo_status_t extra_query(const char **out, request_rec *r,
                               const apr_array_header_t *asked, qo_err_t *err)
{
    apr_array_header_t *params = apr_array_make(r->pool, 4, sizeof(qo_param_t));
    qo_status_t status = evaluate(params, r, mod_qo_config_dir(r)->params, err);

    for (int i = 0; status == QO_OK && asked != NULL && i < asked->nelts; i++) {
        const qo_param_t *param = (const void *)asked->elts;

        if (!has(params, param[i].name)) {
            push(params, param[i].name, param[i].value);
        }
    }
    *out = params->nelts > 0 ? qo_url_query(r->pool, params) : "";
    if (status == QO_OK && strlen(*out) > QO_LIMIT_EXTRA) {
        return qo_error(err, QO_E_BAD_PARAMETER,
                        "the extra authorization parameters are too long");
    }
    return status;
}

static void see_session(qo_pending_t *draft, const mod_qo_ctx_t *ctx)
{
    memset(&draft->session_seen, 0, sizeof(draft->session_seen));
    if (mod_qo_ctx_signed_in(ctx)) {
        draft->session_seen = ctx->key;
    }
}

qo_status_t mod_qo_login_draft(qo_pending_t *out, request_rec *r, const mod_qo_ctx_t *ctx,
                               const apr_array_header_t *asked, qo_err_t *err)
{
    memset(out, 0, sizeof(*out));
    out->return_path = return_path(r);
    out->scope = qo_conf_scope_union(r->pool, ctx->server->conf.scopes,
                                     mod_qo_config_dir(r)->scopes);
    out->redirect_uri = ctx->server->conf.redirect_uri;
    see_session(out, ctx);
    return extra_query(&out->extra, r, asked, err);
}

/* ---- the login ---- */

void mod_qo_login_binding_id(char out[QO_BINDING_ID + 1], const qo_hash_t *state_hash)
{
    char text[QO_SECRET_TEXT + 1];

    qo_crypto_text(text, state_hash->bytes, sizeof(state_hash->bytes));
    memcpy(out, text, QO_BINDING_ID);
    out[QO_BINDING_ID] = '\0';
}

typedef struct {
    char state[QO_SECRET_TEXT + 1];
    char verifier[QO_SECRET_TEXT + 1];
    char binding[QO_BINDING_TEXT + 1];
    qo_hash_t key; /* of the state */
} login_secrets_t;

static qo_status_t make_secrets(login_secrets_t *out, qo_hash_t *binding_hash)
{
    qo_status_t status = qo_crypto_secret(out->state, QO_SECRET_BYTES);

    if (status == QO_OK) {
        status = qo_crypto_secret(out->verifier, QO_SECRET_BYTES);
    }
    if (status == QO_OK) {
        status = qo_crypto_secret(out->binding, QO_BINDING_BYTES);
    }
    if (status == QO_OK) {
        status = qo_crypto_hash(&out->key, out->state, QO_SECRET_TEXT);
    }
    return status == QO_OK ? qo_crypto_hash(binding_hash, out->binding, QO_BINDING_TEXT)
                           : status;
}

static qo_status_t store(request_rec *r, const mod_qo_ctx_t *ctx,
                         const qo_pending_t *pending, const login_secrets_t *secrets,
                         qo_err_t *err)
{
    const mod_qo_server_t *server = ctx->server;
    apr_time_t expires = ctx->now + apr_time_from_sec(QO_PENDING_LIFE);
    qo_bytes_t record;
    qo_bytes_t sealed;
    qo_status_t status = qo_pending_encode(&record, r->pool, pending);

    if (status == QO_OK) {
        status = qo_seal(&sealed, r->pool, &server->ring, QO_SEAL_PENDING, secrets->state,
                         record);
    }
    if (status != QO_OK) {
        return status;
    }
    return server->provider->pending_put(server->store, &secrets->key, sealed, expires,
                                         ctx->now, err);
}

int mod_qo_login_begin(request_rec *r, const mod_qo_ctx_t *ctx, qo_pending_t *draft)
{
    const qo_conf_t *conf = &ctx->server->conf;
    qo_err_t err = {.detail = ""};
    login_secrets_t secrets;
    char id[QO_BINDING_ID + 1];
    const char *url = NULL;
    qo_status_t status = make_secrets(&secrets, &draft->binding);

    draft->created = ctx->now;
    draft->verifier = conf->pkce ? secrets.verifier : NULL;
    if (status == QO_OK) {
        status = qo_qonto_authorize_url(&url, r->pool, conf, draft, secrets.state);
    }
    if (status == QO_OK) {
        status = store(r, ctx, draft, &secrets, &err);
    }
    if (status != QO_OK) {
        return mod_qo_reply_failure(
            r, status, &err, mod_qo_login_return_url(r, ctx, draft->return_path), NULL);
    }
    mod_qo_login_binding_id(id, &secrets.key);
    mod_qo_log_event(r, MOD_QO_LOG_LOGIN_STARTED, "login %s started", id);
    mod_qo_reply_cookie(r, qo_cookie_binding(r->pool, &conf->cookies, id, secrets.binding));
    return mod_qo_reply_redirect(r, url);
}

const char *mod_qo_login_return_url(request_rec *r, const mod_qo_ctx_t *ctx,
                                    const char *return_path)
{
    return apr_pstrcat(r->pool, ctx->server->conf.redirect.origin, return_path, NULL);
}

/* ---- tickets ---- */

static const char *shorten(apr_pool_t *p, const char *path)
{
    const char *query = strchr(path, '?');

    if (strlen(path) <= QO_LIMIT_TICKET_RETURN) {
        return path;
    }
    if (query != NULL && query - path <= QO_LIMIT_TICKET_RETURN) {
        return apr_pstrmemdup(p, path, (apr_size_t)(query - path));
    }
    return "/";
}

qo_status_t mod_qo_login_ticket(const char **url, request_rec *r, const mod_qo_ctx_t *ctx,
                                const qo_pending_t *draft)
{
    qo_pending_t ticket = *draft;
    qo_bytes_t record;
    qo_bytes_t sealed;
    char *text;
    qo_status_t status;

    ticket.return_path = shorten(r->pool, draft->return_path);
    ticket.created = ctx->now;
    status = qo_pending_encode(&record, r->pool, &ticket);
    if (status == QO_OK) {
        status = qo_seal(&sealed, r->pool, &ctx->server->ring, QO_SEAL_TICKET, "", record);
    }
    if (status != QO_OK) {
        return status;
    }
    text = apr_palloc(r->pool, qo_crypto_text_len(sealed.len) + 1);
    qo_crypto_text(text, sealed.data, sealed.len);
    *url = apr_pstrcat(r->pool, ctx->server->conf.redirect.origin,
                       ctx->server->conf.redirect.path, "?login=", text, NULL);
    return QO_OK;
}

static qo_status_t open_ticket(qo_pending_t *out, request_rec *r, const mod_qo_ctx_t *ctx,
                               const char *ticket)
{
    qo_bytes_t sealed = {.data = apr_palloc(r->pool, strlen(ticket) + 1)};
    qo_bytes_t record;
    qo_status_t status;

    sealed.len = qo_crypto_untext(sealed.data, ticket);
    status = qo_seal_open(&record, r->pool, &ctx->server->ring, QO_SEAL_TICKET, "", sealed);
    return status == QO_OK ? qo_pending_decode(out, record) : status;
}

int mod_qo_login_redeem(request_rec *r, mod_qo_ctx_t *ctx, const char *ticket)
{
    qo_pending_t draft;

    if (mod_qo_headers_not_visit(r)) {
        return mod_qo_reply_unauthorized(r, NULL);
    }
    /* Never too old: it holds nothing secret and starts what any visit of the page would.
     */
    if (open_ticket(&draft, r, ctx, ticket) != QO_OK) {
        return mod_qo_reply_failure(r, QO_E_BAD_PARAMETER, NULL,
                                    mod_qo_login_return_url(r, ctx, "/"), NULL);
    }
    /* The ticket may come from another host name, which sees no session of this one. */
    mod_qo_ctx_load_session(r, ctx);
    see_session(&draft, ctx);
    draft.redirect_uri = ctx->server->conf.redirect_uri;
    return mod_qo_login_begin(r, ctx, &draft);
}
