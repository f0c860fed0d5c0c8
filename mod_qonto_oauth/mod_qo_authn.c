#include "mod_qo_authn.h"

#include "mod_qo_ctx.h"
#include "mod_qo_flow.h"
#include "mod_qo_login.h"
#include "mod_qo_reply.h"

#include <apr_cstr.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>

#include <string.h>

int mod_qo_authn_arrive(request_rec *r)
{
    (void)mod_qo_ctx_make(r); /* kept with the request */
    return DECLINED;
}

/* The redirect URI is answered before anything else has a say: it needs no <Location>, may
 * lie inside a protected one, and no cache may answer for it. */
int mod_qo_authn_callback(request_rec *r, int lookup)
{
    mod_qo_ctx_t *ctx;

    if (lookup != 0 || r->main != NULL || r->prev != NULL) {
        return DECLINED;
    }
    ctx = mod_qo_ctx_get(r);
    return ctx != NULL && ctx->callback ? mod_qo_flow_callback(r, ctx) : DECLINED;
}

static bool is_ours(request_rec *r)
{
    const char *type = ap_auth_type(r);

    return type != NULL && apr_cstr_casecmp(type, "Qonto") == 0;
}

/* What a missing picture is answered with is no page somebody opens. */
static bool is_error_document(const request_rec *r)
{
    return r->prev != NULL && ap_is_HTTP_ERROR(r->prev->status);
}

static qo_facts_t gather_facts(request_rec *r, const mod_qo_ctx_t *ctx)
{
    qo_request_facts_t request;
    qo_facts_t facts = {
        .store_failed = ctx->store_failed,
        .session = ctx->state,
        .refresh_tried = ctx->refresh_tried,
        .policy = mod_qo_config_policy(mod_qo_config_dir(r)),
    };

    if (!mod_qo_ctx_signed_in(ctx)) {
        mod_qo_headers_facts(&request, r);
        facts.visit = r->main == NULL && !is_error_document(r) && qo_gate_visit(&request);
        facts.other_host = mod_qo_ctx_other_host(r, ctx);
    }
    return facts;
}

/* Tokens are renewed by whoever meets the session first, and once: sub-requests and
 * internal redirects find what came of it in the context. */
static qo_action_t decide(request_rec *r, mod_qo_ctx_t *ctx)
{
    qo_facts_t facts;
    qo_action_t action;

    mod_qo_ctx_load_session(r, ctx);
    facts = gather_facts(r, ctx);
    action = qo_gate_decide(&facts);
    if (action == QO_ACTION_REFRESH) {
        mod_qo_flow_refresh(r, ctx);
        facts = gather_facts(r, ctx);
        action = qo_gate_decide(&facts);
    }
    return action;
}

/* Who would rather not wait for the old session may begin a new one. */
static const char *link_to_login(request_rec *r, const mod_qo_ctx_t *ctx)
{
    const char *url = NULL;
    qo_pending_t draft;

    return mod_qo_login_draft(&draft, r, ctx, NULL, NULL) == QO_OK &&
                   mod_qo_login_ticket(&url, r, ctx, &draft) == QO_OK
               ? url
               : NULL;
}

static int unavailable(request_rec *r, const mod_qo_ctx_t *ctx)
{
    if (ctx->store_failed) {
        return mod_qo_reply_failure(r, QO_E_STORE_UNAVAILABLE, &ctx->store_error, NULL,
                                    NULL);
    }
    return mod_qo_reply_failure(r, ctx->refresh_status, &ctx->refresh_error,
                                link_to_login(r, ctx), NULL);
}

static int pass(request_rec *r, const char *user)
{
    r->user = apr_pstrdup(r->pool, user);
    r->ap_auth_type = apr_pstrdup(r->pool, "Qonto");
    return OK;
}

int mod_qo_authn_check(request_rec *r)
{
    mod_qo_ctx_t *ctx;

    if (!is_ours(r)) {
        return DECLINED;
    }
    ctx = mod_qo_ctx_get(r);
    if (ctx == NULL) {
        return mod_qo_reply_failure(r, QO_E_NOT_CONFIGURED, NULL, NULL, NULL);
    }
    if (r->main != NULL) {
        mod_qo_reply_keep_private(r); /* without a session, too, the page would differ */
    }
    switch (decide(r, ctx)) {
    case QO_ACTION_PASS:
        return pass(r, mod_qo_ctx_user(ctx));
    case QO_ACTION_ANONYMOUS:
        return pass(r, ""); /* satisfies valid-user; taken back in fixups */
    case QO_ACTION_LOGIN:
        return mod_qo_flow_login(r, ctx);
    case QO_ACTION_MOVE:
        return mod_qo_flow_move(r, ctx);
    case QO_ACTION_PAGE:
        return mod_qo_flow_page(r, ctx);
    case QO_ACTION_UNAVAILABLE:
        return unavailable(r, ctx);
    case QO_ACTION_REFRESH: /* was done */
    case QO_ACTION_DENY:
        break;
    }
    return mod_qo_reply_unauthorized(r, NULL);
}

static void export_session(request_rec *r, mod_qo_ctx_t *ctx, const mod_qo_dir_t *dir)
{
    const qo_conf_t *conf = &ctx->server->conf;
    const qo_session_t *session = &ctx->session;
    bool logout = mod_qo_config_pass(dir) & MOD_QO_PASS_BIT(MOD_QO_PASS_LOGOUT);
    const char *const values[MOD_QO_PASS_ITEMS] = {
        [MOD_QO_PASS_USER] = mod_qo_ctx_user(ctx),
        [MOD_QO_PASS_ORGANIZATION] = session->organization,
        [MOD_QO_PASS_SCOPE] = session->token.scope,
        [MOD_QO_PASS_EXPIRES] =
            apr_off_t_toa(r->pool, (apr_off_t)apr_time_sec(session->token.expires)),
        [MOD_QO_PASS_SESSION] = ctx->id,
        [MOD_QO_PASS_LOGOUT] = logout ? mod_qo_flow_logout_token(r, ctx) : NULL,
        [MOD_QO_PASS_ENV] = conf->sandbox ? "sandbox" : "production",
        [MOD_QO_PASS_STAGING_TOKEN] = conf->sandbox ? conf->staging_token : NULL,
    };

    mod_qo_headers_export(r, &ctx->exported, dir, values, session->token.access);
}

static int export_location(request_rec *r, mod_qo_ctx_t *ctx)
{
    static const char *const NOTHING[MOD_QO_PASS_ITEMS] = {NULL};

    mod_qo_reply_keep_private(r);
    if (decide(r, ctx) == QO_ACTION_UNAVAILABLE) {
        return unavailable(r, ctx);
    }
    if (r->user != NULL && *r->user == '\0') {
        r->user = NULL;
        r->ap_auth_type = NULL;
    }
    /* TRACE sends the request's headers back to the browser. */
    if (mod_qo_ctx_signed_in(ctx) && r->method_number != M_TRACE) {
        export_session(r, ctx, mod_qo_config_dir(r));
    } else {
        mod_qo_headers_export(r, &ctx->exported, mod_qo_config_dir(r), NOTHING, NULL);
    }
    return DECLINED;
}

/* Somebody is signed in, and a Require refuses them. */
int mod_qo_authn_note_failure(request_rec *r, const char *type)
{
    if (apr_cstr_casecmp(type, "Qonto") != 0) {
        return DECLINED;
    }
    (void)mod_qo_reply_unauthorized(r, NULL); /* httpd has the status already */
    return OK;
}

/* What an earlier location was given is taken back, and this one gets its own. httpd does
 * not ask check_authn where everybody may pass ("Require all granted"); such a location is
 * treated like QontoUnauthenticated pass. */
static int settle_export(request_rec *r, mod_qo_ctx_t *ctx)
{
    int answer = DECLINED;

    mod_qo_headers_withdraw(r, ctx->server, &ctx->exported);
    if (is_ours(r)) {
        answer = export_location(r, ctx);
    }
    ctx->exported_for = r->per_dir_config;
    ctx->exported_into = r->headers_in;
    return answer;
}

int mod_qo_authn_fixup(request_rec *r)
{
    mod_qo_ctx_t *ctx = mod_qo_ctx_get(r);

    return ctx != NULL ? settle_export(r, ctx) : DECLINED;
}

/* mod_dir moves a request to another location after fixups, and sub-requests had theirs
 * meanwhile: the last word before the handler runs. */
void mod_qo_authn_before_handler(request_rec *r)
{
    mod_qo_ctx_t *ctx = mod_qo_ctx_get(r);

    if (ctx != NULL &&
        (ctx->exported_for != r->per_dir_config || ctx->exported_into != r->headers_in)) {
        (void)settle_export(r, ctx); /* too late to refuse; what failed exports nothing */
    }
}

/* Error documents drop all filters, and are a visitor's own as well. */
void mod_qo_authn_before_error(request_rec *r)
{
    if (mod_qo_ctx_get(r) != NULL && is_ours(r)) {
        mod_qo_reply_keep_private(r);
    }
}

int mod_qo_authn_handle(request_rec *r)
{
    bool connect = r->handler != NULL && strcmp(r->handler, "qonto-connect") == 0;
    bool logout = r->handler != NULL && strcmp(r->handler, "qonto-logout") == 0;
    mod_qo_ctx_t *ctx;

    if (!connect && !logout) {
        return DECLINED;
    }
    ctx = mod_qo_ctx_get(r);
    if (ctx == NULL) {
        return mod_qo_reply_failure(r, QO_E_NOT_CONFIGURED, NULL, NULL, NULL);
    }
    return connect ? mod_qo_flow_connect(r, ctx) : mod_qo_flow_logout(r, ctx);
}
