/* A visitor stays longer than the access token lives. Qonto gives new tokens for the
 * refresh token once, so of all requests of this session, on all hosts, one calls:
 *
 *   acquire the lease -> look again -> call Qonto -> replace the session -> release
 *
 * and the others poll until the session has a new version. What keeps an old token from
 * ever coming back is the version; the lease only keeps the calls from multiplying. It
 * names the refresh token's generation and is recorded before the call, so that after a
 * crash the next request repeats the same token, which Qonto takes for 60 s. */
#include "mod_qo_flow.h"

#include "mod_qo_log.h"
#include "qo_qonto.h"

#include <apr_strings.h>

#include <string.h>

/* One request's wish for new tokens. */
typedef struct {
    request_rec *r;
    mod_qo_ctx_t *ctx;
    qo_lease_t lease;      /* ours, or the one in our way */
    apr_time_t asked;      /* when we asked for it */
    apr_time_t began;      /* when we asked first */
    apr_time_t pause;      /* until we ask again */
    qo_lease_holder_t who; /* we */
} wish_t;

static apr_time_t from_ms(int ms)
{
    return (apr_time_t)ms * 1000;
}

/* Longer than the call to Qonto may take and its answer may need to be stored. */
static apr_time_t lease_life(const mod_qo_ctx_t *ctx)
{
    return from_ms(ctx->server->conf.total_timeout_ms + QO_LEASE_MARGIN_MS);
}

static bool needs_refresh(const mod_qo_ctx_t *ctx)
{
    return ctx->state == QO_SESSION_STALE || ctx->state == QO_SESSION_DUE;
}

static int seconds_up(apr_time_t time)
{
    return time > 0 ? (int)((time + APR_USEC_PER_SEC - 1) / APR_USEC_PER_SEC) : 0;
}

/* ---- without new tokens ---- */

/* What only an admin can mend is told as it is; everything else passes. */
static bool is_alarm(qo_status_t status)
{
    return status == QO_E_CLIENT_REFUSED || status == QO_E_REQUEST_REFUSED;
}

/* With a token that is good now the request goes on; else it ends with this. */
static void give_up(mod_qo_ctx_t *ctx, qo_status_t status, apr_time_t wait,
                    const char *detail)
{
    bool told =
        is_alarm(status) || status == QO_E_STORE_UNAVAILABLE || status == QO_E_INTERNAL;

    mod_qo_ctx_judge(ctx);
    ctx->refresh_status = told ? status : QO_E_NOT_RENEWED;
    ctx->refresh_error.retry_after = seconds_up(wait);
    (void)qo_error(&ctx->refresh_error, ctx->refresh_status, "session %s: %s", ctx->id,
                   detail);
}

/* Where the request ends, its page's line in the log says why; where it goes on, this. */
static void log_kept(request_rec *r, const mod_qo_ctx_t *ctx)
{
    void (*log)(request_rec *, int, const char *, ...) =
        is_alarm(ctx->refresh_status) ? mod_qo_log_alarm : mod_qo_log_warning;

    if (ctx->state == QO_SESSION_DUE) {
        log(r, MOD_QO_LOG_NOT_RENEWED, "not renewed, goes on with its old token: %s",
            ctx->refresh_error.detail);
    }
}

/* Qonto has ended the old token, whatever its time, and the new one is not in the store. */
static void end_without(mod_qo_ctx_t *ctx, qo_status_t status, apr_time_t wait,
                        const char *detail)
{
    give_up(ctx, status, wait, detail);
    ctx->state = QO_SESSION_STALE;
}

/* ---- the lease ---- */

static qo_status_t acquire(wish_t *wish, qo_err_t *err)
{
    mod_qo_ctx_t *ctx = wish->ctx;

    wish->asked = qo_lease_clock();
    memset(&wish->lease, 0, sizeof(wish->lease));
    wish->lease.generation = ctx->version;
    wish->lease.holder = wish->who;
    return ctx->server->provider->lease_acquire(ctx->server->store, &ctx->key, &wish->lease,
                                                lease_life(ctx), ctx->now, err);
}

/* A lease that cannot be given back lapses. */
static void release(const wish_t *wish, qo_status_t why, apr_time_t wait)
{
    const mod_qo_ctx_t *ctx = wish->ctx;
    qo_err_t err = {.detail = ""};

    if (ctx->server->provider->lease_release(ctx->server->store, &ctx->key, &wish->lease,
                                             why, wait, &err) == QO_E_STORE_UNAVAILABLE) {
        mod_qo_log_warning(wish->r, MOD_QO_LOG_STORE,
                           "session %s: the lease is not given back: %s", ctx->id,
                           err.detail);
    }
}

/* Did Qonto give new tokens that could not be stored? Then the old ones are good only for
 * being repeated, and that soon. */
static bool is_unsaved(qo_status_t why)
{
    return why == QO_E_STORE_UNAVAILABLE || why == QO_E_INTERNAL;
}

/* Doubled each time, or as long as we were asked to wait. */
static apr_time_t back_off(const wish_t *wish, qo_status_t why, const qo_err_t *err)
{
    uint32_t failures = wish->lease.failures;
    apr_time_t wait = from_ms(QO_BACKOFF_MIN_MS) << (failures < 10 ? failures : 10);
    apr_time_t asked = apr_time_from_sec(err->retry_after);

    if (is_unsaved(why)) {
        return from_ms(QO_BACKOFF_STORE_MS);
    }
    wait = wait < from_ms(QO_BACKOFF_MAX_MS) ? wait : from_ms(QO_BACKOFF_MAX_MS);
    return asked > wait ? asked : wait;
}

static apr_time_t release_failed(const wish_t *wish, qo_status_t why, const qo_err_t *err)
{
    apr_time_t wait = back_off(wish, why, err);

    release(wish, why, wait);
    return wait;
}

/* ---- the call and what comes of it ---- */

static qo_status_t replace(const mod_qo_ctx_t *ctx, qo_bytes_t sealed, qo_err_t *err)
{
    return ctx->server->provider->session_replace(ctx->server->store, &ctx->key,
                                                  ctx->version, sealed, ctx->now, err);
}

/* The only copy of the new tokens is here, so a store that is away for a moment is waited
 * for; the lease outlasts that (QO_LEASE_MARGIN_MS). */
static qo_status_t save(const wish_t *wish, const qo_token_t *token, qo_err_t *err)
{
    const mod_qo_ctx_t *ctx = wish->ctx;
    apr_time_t until = qo_lease_clock() + from_ms(QO_SAVE_WAIT_MS);
    qo_session_t session = ctx->session;
    qo_bytes_t sealed;
    qo_status_t status;

    qo_session_renew(&session, token, ctx->now);
    status = qo_session_seal(&sealed, ctx->pool, &ctx->server->session_rings, ctx->cookie,
                             &ctx->key, &session);
    if (status == QO_OK) {
        status = replace(ctx, sealed, err);
    }
    while (status == QO_E_STORE_UNAVAILABLE && qo_lease_clock() < until) {
        apr_sleep(from_ms(QO_SAVE_PAUSE_MS));
        status = replace(ctx, sealed, err);
    }
    return status;
}

/* Whoever signed out meanwhile wins; nobody is to hold what Qonto has just given. */
static void give_back(const wish_t *wish, const qo_token_t *token)
{
    mod_qo_ctx_t *ctx = wish->ctx;
    qo_err_t err = {.detail = ""};

    ctx->state = QO_SESSION_NONE;
    if (qo_qonto_revoke(ctx->pool, &ctx->server->conf, token, &err) != QO_OK) {
        mod_qo_log_warning(wish->r, MOD_QO_LOG_REVOKE_FAILED,
                           "session %s ended while its tokens were renewed, but Qonto "
                           "could not be told: %s",
                           ctx->id, err.detail);
    }
}

/* The session as it is in the store is what the request goes on with: its own new tokens
 * or, had its lease lapsed, another's. */
static void look_again(const wish_t *wish)
{
    mod_qo_ctx_t *ctx = wish->ctx;

    if (mod_qo_ctx_reload(wish->r, ctx) != QO_OK) {
        end_without(ctx, QO_E_STORE_UNAVAILABLE, 0, ctx->store_error.detail);
    }
}

static void renewed(const wish_t *wish, const qo_token_t *token)
{
    mod_qo_ctx_t *ctx = wish->ctx;
    qo_err_t err = {.detail = ""};
    qo_status_t status = save(wish, token, &err);

    if (is_unsaved(status)) {
        /* Nothing is lost yet: the next attempt repeats the same refresh token. */
        end_without(ctx, status, release_failed(wish, status, &err), err.detail);
        return;
    }
    release(wish, QO_OK, 0);
    if (status == QO_E_NOT_FOUND) {
        give_back(wish, token);
        return;
    }
    if (status == QO_OK) {
        mod_qo_log_event(wish->r, MOD_QO_LOG_RENEWED, "session %s renewed: generation %lu",
                         ctx->id, (unsigned long)(ctx->version + 1));
    }
    look_again(wish);
}

/* Final (RFC 6749 section 5.2), unless another request has replaced the token meanwhile. */
static void rejected(const wish_t *wish, const qo_err_t *why)
{
    mod_qo_ctx_t *ctx = wish->ctx;
    qo_err_t err = {.detail = ""};
    qo_status_t status = ctx->server->provider->session_delete(
        ctx->server->store, &ctx->key, ctx->version, ctx->now, &err);

    if (status == QO_E_STORE_UNAVAILABLE) {
        end_without(ctx, status, release_failed(wish, status, &err), err.detail);
        return;
    }
    release(wish, QO_OK, 0);
    if (status == QO_OK) {
        mod_qo_log_event(wish->r, MOD_QO_LOG_SIGNED_OUT,
                         "session %s ended: Qonto refused its refresh token (attempt %lu): "
                         "%s",
                         ctx->id, (unsigned long)wish->lease.failures + 1, why->detail);
    }
    look_again(wish);
}

static void failed(const wish_t *wish, qo_status_t status, const qo_err_t *err)
{
    const qo_error_info_t *info = qo_error_info(status);
    apr_time_t wait = release_failed(wish, status, err);
    const char *detail =
        apr_psprintf(wish->ctx->pool, "QO%04d, attempt %lu, the next in %d s: %s",
                     info->number, (unsigned long)wish->lease.failures + 1,
                     seconds_up(wait), err->detail[0] != '\0' ? err->detail : info->admin);

    give_up(wish->ctx, status, wait, detail);
    log_kept(wish->r, wish->ctx);
}

static void call(const wish_t *wish)
{
    mod_qo_ctx_t *ctx = wish->ctx;
    qo_err_t err = {.detail = ""};
    qo_token_t token;
    qo_status_t status = qo_qonto_refresh(&token, ctx->pool, &ctx->server->conf,
                                          &ctx->session.token, ctx->now, &err);

    if (status == QO_OK) {
        if (err.detail[0] != '\0') {
            mod_qo_log_warning(wish->r, MOD_QO_LOG_NOTICE, "%s", err.detail);
        }
        renewed(wish, &token);
    } else if (status == QO_E_GRANT_REJECTED) {
        rejected(wish, &err);
    } else {
        failed(wish, status, &err);
    }
}

/* With the lease. Between the last look and the lease another may have finished, and a
 * process that was stopped for long must not call when others may think it dead. Returns
 * whether to ask for the lease again. */
static bool attempt(const wish_t *wish)
{
    mod_qo_ctx_t *ctx = wish->ctx;
    uint64_t version = ctx->version;
    qo_status_t status = mod_qo_ctx_reload(wish->r, ctx);
    apr_time_t left = wish->asked + lease_life(ctx) - qo_lease_clock();

    if (status == QO_OK && ctx->version == version && needs_refresh(ctx) &&
        left > from_ms(ctx->server->conf.total_timeout_ms)) {
        call(wish);
        return false;
    }
    release(wish, QO_OK, 0);
    if (status != QO_OK) {
        give_up(ctx, status, 0, ctx->store_error.detail);
        log_kept(wish->r, ctx);
        return false;
    }
    return needs_refresh(ctx);
}

/* ---- the others ---- */

/* When the call that is waited for began, as far as can be told. */
static apr_time_t call_began(const wish_t *wish)
{
    apr_time_t began = wish->lease.until - lease_life(wish->ctx);
    bool known = wish->lease.until != 0 && wish->lease.generation == wish->ctx->version;

    return known && began < wish->began ? began : wish->began;
}

/* With a good token of many requests during a call that hangs only the first wait a whole
 * second. */
static apr_time_t waiting_ends(const wish_t *wish)
{
    return wish->ctx->state == QO_SESSION_DUE
               ? call_began(wish) + from_ms(QO_REFRESH_WAIT_MS)
               : wish->began + lease_life(wish->ctx);
}

/* Longer each time, and not the same for all who wait. */
static void take_pause(wish_t *wish)
{
    apr_time_t longer = wish->pause + wish->pause / 2 + wish->who.nonce[0] * 4;

    apr_sleep(wish->pause);
    wish->pause = longer < from_ms(QO_POLL_MAX_MS) ? longer : from_ms(QO_POLL_MAX_MS);
}

/* The last attempt failed, and the next is not due yet. */
static void fail_like(mod_qo_ctx_t *ctx, const qo_lease_t *last, apr_time_t wait)
{
    qo_status_t why = qo_error_by_number((int)last->why);
    const char *detail = apr_psprintf(ctx->pool, "the last attempt failed (QO%04lu)",
                                      (unsigned long)last->why);

    if (is_unsaved(why)) {
        end_without(ctx, why, wait, detail);
    } else {
        give_up(ctx, why, wait, detail);
    }
}

/* Without the lease. Returns whether to ask for it again. */
static bool wait_for(wish_t *wish)
{
    mod_qo_ctx_t *ctx = wish->ctx;
    const qo_lease_t *theirs = &wish->lease;
    apr_time_t clock = qo_lease_clock();

    if (theirs->generation == ctx->version && theirs->until <= clock &&
        theirs->again > clock) {
        fail_like(ctx, theirs, theirs->again - clock);
        return false;
    }
    if (clock >= waiting_ends(wish)) {
        give_up(ctx, QO_E_NOT_RENEWED, 0, "another request is still at it");
        return false;
    }
    take_pause(wish);
    if (mod_qo_ctx_reload(wish->r, ctx) != QO_OK) {
        give_up(ctx, QO_E_STORE_UNAVAILABLE, 0, ctx->store_error.detail);
        log_kept(wish->r, ctx);
        return false;
    }
    return needs_refresh(ctx);
}

/* Returns whether to ask again. */
static bool ask(wish_t *wish)
{
    qo_err_t err = {.detail = ""};

    switch (acquire(wish, &err)) {
    case QO_OK:
        return attempt(wish);
    case QO_E_CONFLICT:
        return wait_for(wish);
    case QO_E_NOT_FOUND:
        wish->ctx->state = QO_SESSION_NONE;
        return false;
    default:
        give_up(wish->ctx, QO_E_STORE_UNAVAILABLE, 0, err.detail);
        log_kept(wish->r, wish->ctx);
        return false;
    }
}

void mod_qo_flow_refresh(request_rec *r, mod_qo_ctx_t *ctx)
{
    wish_t wish = {
        .r = r, .ctx = ctx, .began = qo_lease_clock(), .pause = from_ms(QO_POLL_MIN_MS)};

    ctx->refresh_tried = true;
    ctx->refresh_status = QO_E_NOT_RENEWED;
    if (qo_lease_holder(&wish.who) != QO_OK) {
        give_up(ctx, QO_E_INTERNAL, 0, "no random numbers can be had");
        return;
    }
    while (ask(&wish)) {
        /* one step after the other */
    }
}
