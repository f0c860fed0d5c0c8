#include "mod_qo_ctx.h"

#include "mod_qo_log.h"
#include "mod_qo_memo.h"

#include <apr_strings.h>
#include <http_config.h>

#include <string.h>

extern module AP_MODULE_DECLARE_DATA qonto_oauth_module;

/* The code and the state must not reach an access log, the scoreboard or anybody's %{...}:
 * what others see of the callback's request is its path. */
static void hide_query(request_rec *r, mod_qo_ctx_t *ctx)
{
    ctx->query = r->args;
    if (r->args == NULL) {
        return;
    }
    r->args = NULL;
    r->parsed_uri.query = NULL;
    r->unparsed_uri = apr_pstrdup(r->pool, r->uri);
    r->the_request =
        apr_psprintf(r->pool, "%s %s?[hidden] %s", r->method, r->uri, r->protocol);
}

mod_qo_ctx_t *mod_qo_ctx_make(request_rec *r)
{
    const mod_qo_server_t *server = mod_qo_config_server(r->server);
    mod_qo_ctx_t *ctx;

    if (!server->conf.enabled) {
        return NULL;
    }
    ctx = apr_pcalloc(r->pool, sizeof(*ctx));
    ctx->server = server;
    ctx->pool = r->pool;
    ctx->now = r->request_time;
    ctx->callback = r->uri != NULL && strcmp(r->uri, server->conf.redirect.path) == 0;
    mod_qo_headers_receive(r, server, &ctx->cookies);
    if (ctx->callback) {
        hide_query(r, ctx);
    }
    ap_set_module_config(r->request_config, &qonto_oauth_module, ctx);
    return ctx;
}

mod_qo_ctx_t *mod_qo_ctx_get(const request_rec *r)
{
    while (r->main != NULL || r->prev != NULL) {
        r = r->main != NULL ? r->main : r->prev;
    }
    return ap_get_module_config(r->request_config, &qonto_oauth_module);
}

bool mod_qo_ctx_other_host(const request_rec *r, const mod_qo_ctx_t *ctx)
{
    const char *host = mod_qo_headers_host(r);

    return host != NULL && strcmp(host, ctx->server->conf.redirect.host) != 0;
}

/* ---- the session ---- */

typedef struct {
    qo_session_t session;
    qo_hash_t key;
    qo_store_meta_t meta;
} found_t;

static qo_status_t open_session(found_t *out, conn_rec *c, const mod_qo_ctx_t *ctx,
                                const char *cookie, qo_bytes_t sealed)
{
    qo_bytes_t record;
    qo_status_t status =
        qo_session_open(&record, ctx->pool, &ctx->server->session_rings, cookie, sealed);

    if (status == QO_OK) {
        status = qo_session_decode(&out->session, record);
    }
    if (status == QO_OK) {
        mod_qo_memo_keep(c, ctx->server, cookie, &out->key, sealed, record);
    }
    return status;
}

/* A cookie that opens nothing here (another host's, an old key's, a made-up one) is no
 * session: QO_E_NOT_FOUND. */
static qo_status_t look_up(found_t *out, conn_rec *c, const mod_qo_ctx_t *ctx,
                           const char *cookie, qo_err_t *err)
{
    const mod_qo_server_t *server = ctx->server;
    const mod_qo_memo_t *memo = mod_qo_memo_find(c, server, cookie);
    const qo_session_t *remembered;
    qo_bytes_t sealed;
    qo_status_t status = QO_OK;

    if (memo != NULL) {
        out->key = *mod_qo_memo_key(memo);
    } else {
        status = qo_crypto_hash(&out->key, cookie, strlen(cookie));
    }
    if (status == QO_OK) {
        status = server->provider->session_get(server->store, ctx->pool, &out->key, &sealed,
                                               &out->meta, ctx->now, err);
    }
    if (status != QO_OK) {
        return status;
    }
    remembered = memo != NULL ? mod_qo_memo_session(memo, sealed) : NULL;
    if (remembered != NULL) {
        out->session = *remembered;
        return QO_OK;
    }
    return open_session(out, c, ctx, cookie, sealed);
}

static void touch(request_rec *r, const mod_qo_ctx_t *ctx, const qo_store_meta_t *meta)
{
    apr_time_t interval = apr_time_from_sec(QO_TOUCH_INTERVAL);
    apr_time_t share = apr_time_from_sec((apr_time_t)meta->idle) / QO_TOUCH_SHARE;
    qo_err_t err = {.detail = ""};

    if (ctx->now - meta->last_seen < (share < interval ? share : interval)) {
        return;
    }
    if (ctx->server->provider->touch(ctx->server->store, &ctx->key, ctx->now, &err) ==
        QO_E_STORE_UNAVAILABLE) {
        mod_qo_log_warning(r, MOD_QO_LOG_STORE,
                           "session %s: the idle clock is not written: %s", ctx->id,
                           err.detail);
    }
}

static void judge(mod_qo_ctx_t *ctx)
{
    ctx->state =
        qo_session_classify(&ctx->session, ctx->server->conf.refresh_margin, ctx->now);
}

void mod_qo_ctx_judge(mod_qo_ctx_t *ctx)
{
    ctx->now = apr_time_now();
    if (ctx->state != QO_SESSION_NONE) {
        judge(ctx);
    }
}

static void adopt(mod_qo_ctx_t *ctx, const char *cookie, const found_t *found)
{
    ctx->session = found->session;
    ctx->key = found->key;
    ctx->cookie = cookie;
    ctx->version = found->meta.version;
    judge(ctx);
    qo_session_id(ctx->id, &ctx->key);
}

static bool is_failure(qo_status_t status)
{
    return status != QO_OK && status != QO_E_NOT_FOUND;
}

void mod_qo_ctx_load_session(request_rec *r, mod_qo_ctx_t *ctx)
{
    const char *cookie = NULL;
    found_t found;
    int count = 0;

    if (ctx->loaded) {
        return;
    }
    ctx->loaded = true;
    for (int i = 0; i < ctx->cookies.session_count; i++) {
        found_t candidate;
        qo_status_t status = look_up(&candidate, r->connection, ctx,
                                     ctx->cookies.sessions[i], &ctx->store_error);

        ctx->store_failed = ctx->store_failed || is_failure(status);
        if (status == QO_OK) {
            found = candidate;
            cookie = ctx->cookies.sessions[i];
            count++;
        }
    }
    if (count == 1) {
        ctx->store_failed = false;
        adopt(ctx, cookie, &found);
        if (mod_qo_ctx_signed_in(ctx)) {
            touch(r, ctx, &found.meta);
        }
    } else if (count > 1) {
        /* One of them may have been planted; which one cannot be known. */
        mod_qo_log_warning(
            r, MOD_QO_LOG_AMBIGUOUS,
            "the browser sent %d different live session cookies; none is used", count);
    }
}

/* QO_E_CONFLICT: it is another version than the one that is known. */
static qo_status_t compare(found_t *out, qo_bytes_t *sealed, apr_pool_t *p,
                           mod_qo_ctx_t *ctx)
{
    qo_status_t status = ctx->server->provider->session_get(
        ctx->server->store, p, &ctx->key, sealed, &out->meta, ctx->now, &ctx->store_error);

    return status == QO_OK && out->meta.version != ctx->version ? QO_E_CONFLICT : status;
}

qo_status_t mod_qo_ctx_reload(request_rec *r, mod_qo_ctx_t *ctx)
{
    found_t found = {.key = ctx->key};
    qo_bytes_t sealed;
    apr_pool_t *p;
    qo_status_t status;

    mod_qo_ctx_judge(ctx);
    apr_pool_create(&p, ctx->pool);
    status = compare(&found, &sealed, p, ctx);
    if (status == QO_E_CONFLICT) {
        status = open_session(&found, r->connection, ctx, ctx->cookie, sealed);
        if (status == QO_OK) {
            adopt(ctx, ctx->cookie, &found);
        }
    }
    apr_pool_destroy(p);
    if (status == QO_E_NOT_FOUND) {
        ctx->state = QO_SESSION_NONE;
        return QO_OK;
    }
    return status == QO_OK ? QO_OK : QO_E_STORE_UNAVAILABLE;
}

bool mod_qo_ctx_signed_in(const mod_qo_ctx_t *ctx)
{
    return ctx->state >= QO_SESSION_STALE;
}

const char *mod_qo_ctx_user(const mod_qo_ctx_t *ctx)
{
    if (ctx->session.user != NULL) {
        return ctx->session.user;
    }
    return ctx->session.organization != NULL ? ctx->session.organization : ctx->id;
}
