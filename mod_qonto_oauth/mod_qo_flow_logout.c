/* A visitor signs out: here first and in any case, then at Qonto as well as it goes. */
#include "mod_qo_flow.h"

#include "mod_qo_log.h"
#include "mod_qo_login.h"
#include "mod_qo_reply.h"
#include "qo_qonto.h"

#include <apr_strings.h>
#include <http_protocol.h>

#include <string.h>

#define PURPOSE "log-out"

const char *mod_qo_flow_logout_token(request_rec *r, const mod_qo_ctx_t *ctx)
{
    char *text = apr_palloc(r->pool, qo_crypto_text_len(QO_KEY_LEN) + 1);
    qo_key_t token;

    if (ctx->state == QO_SESSION_NONE ||
        qo_crypto_derive(&token, &ctx->server->ring.keys[0], PURPOSE, ctx->key.bytes,
                         sizeof(ctx->key.bytes)) != QO_OK) {
        return NULL;
    }
    qo_crypto_text(text, token.bytes, sizeof(token.bytes));
    return text;
}

typedef struct {
    const char *return_path; /* NULL: show a page */
    const char *token;
} wish_t;

static qo_status_t read_wish(wish_t *out, request_rec *r, qo_err_t *err)
{
    apr_array_header_t *params;
    qo_status_t status = qo_url_parse_query(&params, r->pool, r->args, err);

    if (status == QO_OK) {
        status = qo_url_param(&out->return_path, params, "return", err);
    }
    if (status == QO_OK) {
        status = qo_url_param(&out->token, params, "token", err);
    }
    if (status == QO_OK && out->return_path != NULL) {
        status = qo_url_check_return(out->return_path, err);
    }
    return status;
}

static bool token_fits(request_rec *r, const mod_qo_ctx_t *ctx, const char *token)
{
    const char *want = mod_qo_flow_logout_token(r, ctx);

    return want != NULL && token != NULL && strlen(want) == strlen(token) &&
           qo_crypto_equal(want, token, strlen(want));
}

static void tell_qonto(request_rec *r, const mod_qo_ctx_t *ctx)
{
    qo_err_t err = {.detail = ""};

    if (qo_qonto_revoke(r->pool, &ctx->server->conf, &ctx->session.token, &err) != QO_OK) {
        mod_qo_log_warning(r, MOD_QO_LOG_REVOKE_FAILED,
                           "session %s is ended here, but Qonto could not be told: %s",
                           ctx->id, err.detail);
    }
}

/* What is revoked must be what was deleted: tokens that were renewed meanwhile are read
 * first. Whoever renews them faster than that is overtaken all the same. */
static qo_status_t delete_session(request_rec *r, mod_qo_ctx_t *ctx, qo_err_t *err)
{
    const mod_qo_server_t *server = ctx->server;
    qo_status_t status = server->provider->session_delete(server->store, &ctx->key,
                                                          ctx->version, ctx->now, err);

    if (status != QO_E_CONFLICT) {
        return status;
    }
    if (mod_qo_ctx_reload(r, ctx) != QO_OK) {
        *err = ctx->store_error;
        return QO_E_STORE_UNAVAILABLE;
    }
    return server->provider->session_delete(server->store, &ctx->key, QO_STORE_ANY,
                                            ctx->now, err);
}

/* QO_E_NOT_FOUND: another request was faster, which is just as good. */
static qo_status_t end_session(request_rec *r, mod_qo_ctx_t *ctx, qo_err_t *err)
{
    qo_status_t status;

    if (ctx->state == QO_SESSION_NONE) {
        return QO_OK;
    }
    status = delete_session(r, ctx, err);
    if (status != QO_OK && status != QO_E_NOT_FOUND) {
        return status;
    }
    mod_qo_log_event(r, MOD_QO_LOG_SIGNED_OUT, "session %s ended: signed out", ctx->id);
    tell_qonto(r, ctx);
    return QO_OK;
}

/* A bare link cannot prove that the visitor meant it, so it asks. */
/* The page sends no Referer, so browsers that know no Sec-Fetch-Site call its form's origin
 * "null"; the token vouches for it. */
static int ask(request_rec *r, const mod_qo_ctx_t *ctx)
{
    const char *token = mod_qo_flow_logout_token(r, ctx);
    const char *query = apr_pstrcat(r->pool, "token=", token != NULL ? token : "", NULL);
    const qo_page_t page = {
        .title = "Sign out?",
        .text =
            "This ends your session here and takes back the access to Qonto that you gave.",
        .link = qo_url_join(r->pool, r->unparsed_uri, query),
        .label = "Sign out",
        .post = true,
    };

    return mod_qo_reply_page(r, &page);
}

static int say_goodbye(request_rec *r, const mod_qo_ctx_t *ctx, const wish_t *wish)
{
    const qo_page_t page = {
        .title = "You are signed out",
        .text = "Your session here has ended. You may still be signed in at Qonto itself.",
        .link = mod_qo_login_return_url(r, ctx, "/"),
        .label = "Continue",
    };

    if (wish->return_path != NULL) {
        return mod_qo_reply_redirect(r, mod_qo_login_return_url(r, ctx, wish->return_path));
    }
    return mod_qo_reply_page(r, &page);
}

static int sign_out(request_rec *r, mod_qo_ctx_t *ctx, const wish_t *wish)
{
    qo_err_t err = {.detail = ""};
    qo_status_t status = ctx->store_failed ? QO_E_STORE_UNAVAILABLE : QO_OK;

    if (status == QO_OK) {
        status = end_session(r, ctx, &err);
    }
    if (status != QO_OK) {
        return mod_qo_reply_failure(r, status, &err, NULL, NULL);
    }
    if (ctx->cookies.found) {
        mod_qo_reply_cookie(r,
                            qo_cookie_session_clear(r->pool, &ctx->server->conf.cookies));
    }
    return say_goodbye(r, ctx, wish);
}

int mod_qo_flow_logout(request_rec *r, mod_qo_ctx_t *ctx)
{
    qo_err_t err = {.detail = ""};
    wish_t wish = {.token = NULL};
    bool post = r->method_number == M_POST;
    qo_status_t status;

    if (!post && r->method_number != M_GET) {
        return mod_qo_reply_method(r, true);
    }
    status = read_wish(&wish, r, &err);
    if (status != QO_OK) {
        return mod_qo_reply_failure(r, status, &err, NULL, NULL);
    }
    mod_qo_ctx_load_session(r, ctx);
    if (!post && wish.token == NULL && ctx->state != QO_SESSION_NONE) {
        return ask(r, ctx);
    }
    if (ctx->state != QO_SESSION_NONE && !token_fits(r, ctx, wish.token) &&
        (!post || mod_qo_headers_cross_site(r, ctx->server->conf.redirect.origin))) {
        return mod_qo_reply_failure(r, QO_E_FORGED_LOGOUT, NULL, NULL, NULL);
    }
    return sign_out(r, ctx, &wish);
}
