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

#define SAVE_TRIES 8
#define SAVE_PAUSE (APR_USEC_PER_SEC / 4)

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

/* With a good token the request goes on; else it ends with this. */
static void give_up(mod_qo_ctx_t *ctx, qo_status_t status, apr_time_t wait,
                    const char *detail)
{
    /* That the client's credentials are refused is the admin's to know and to mend;
     * everything else passes. */
    ctx->refresh_status =
        status == QO_E_CLIENT_REFUSED ? QO_E_CLIENT_REFUSED : QO_E_NOT_RENEWED;
    ctx->refresh_error.retry_after = seconds_up(wait);
    (void)qo_error(&ctx->refresh_error, ctx->refresh_status, "session %s: %s", ctx->id,
                   detail);
}

/* Where the request ends, its page's line in the log says why; where it goes on, this. */
static void log_kept(request_rec *r, const mod_qo_ctx_t *ctx)
{
    void (*log)(request_rec *, int, const char *, ...) =
        ctx->refresh_status == QO_E_CLIENT_REFUSED ? mod_qo_log_alarm : mod_qo_log_warning;

    if (ctx->state == QO_SESSION_DUE) {
        log(r, MOD_QO_LOG_NOT_RENEWED, "not renewed, goes on with its old token: %s",
            ctx->refresh_error.detail);
    }
}

/* As if it had been so when the session was looked up. */
static void lose_store(mod_qo_ctx_t *ctx, const qo_err_t *err)
{
    ctx->store_failed = true;
    if (err != NULL) {
        ctx->store_error = *err;
    }
}

/* ---- the lease ---- */

static qo_status_t acquire(const mod_qo_ctx_t *ctx, qo_lease_t *lease, qo_err_t *err)
{
    lease->generation = ctx->version;
    return ctx->server->provider->lease_acquire(ctx->server->store, &ctx->key, lease,
                                                lease_life(ctx), ctx->now, err);
}

/* A lease that cannot be given back lapses. */
static void release(request_rec *r, const mod_qo_ctx_t *ctx, const qo_lease_t *lease,
                    qo_status_t why, apr_time_t wait)
{
    qo_err_t err = {.detail = ""};

    if (ctx->server->provider->lease_release(ctx->server->store, &ctx->key, lease, why,
                                             wait, &err) == QO_E_STORE_UNAVAILABLE) {
        mod_qo_log_warning(r, MOD_QO_LOG_STORE,
                           "session %s: the lease is not given back: %s", ctx->id,
                           err.detail);
    }
}

/* ---- the call and what comes of it ---- */

static qo_status_t replace(const mod_qo_ctx_t *ctx, qo_bytes_t sealed, qo_err_t *err)
{
    const mod_qo_server_t *server = ctx->server;
    qo_status_t status = server->provider->session_replace(
        server->store, &ctx->key, ctx->version, sealed, ctx->now, err);

    /* The only copy of the new tokens is here, so a store that is away for a moment is
     * waited for. */
    for (int i = 1; i < SAVE_TRIES && status == QO_E_STORE_UNAVAILABLE; i++) {
        apr_sleep(SAVE_PAUSE);
        status = server->provider->session_replace(server->store, &ctx->key, ctx->version,
                                                   sealed, ctx->now, err);
    }
    return status;
}

static qo_status_t save(const mod_qo_ctx_t *ctx, const qo_token_t *token, qo_err_t *err)
{
    qo_session_t session = ctx->session;
    qo_bytes_t sealed;
    qo_status_t status;

    qo_session_renew(&session, token, ctx->now);
    status = qo_session_seal(&sealed, ctx->pool, &ctx->server->session_rings, ctx->cookie,
                             &ctx->key, &session);
    return status == QO_OK ? replace(ctx, sealed, err) : status;
}

/* Whoever signed out meanwhile wins; nobody is to hold what Qonto has just given. */
static void give_back(request_rec *r, mod_qo_ctx_t *ctx, const qo_token_t *token)
{
    qo_err_t err = {.detail = ""};

    ctx->state = QO_SESSION_NONE;
    if (qo_qonto_revoke(ctx->pool, &ctx->server->conf, token, &err) != QO_OK) {
        mod_qo_log_warning(r, MOD_QO_LOG_REVOKE_FAILED,
                           "session %s ended while its tokens were renewed, but Qonto "
                           "could not be told: %s",
                           ctx->id, err.detail);
    }
}

/* The session as it is in the store is what the request goes on with: its own new tokens
 * or, had its lease lapsed, another's. */
static void look_again(request_rec *r, mod_qo_ctx_t *ctx)
{
    if (mod_qo_ctx_reload(r, ctx) != QO_OK) {
        lose_store(ctx, NULL);
    }
}

static void renewed(request_rec *r, mod_qo_ctx_t *ctx, const qo_lease_t *lease,
                    const qo_token_t *token)
{
    qo_err_t err = {.detail = ""};
    qo_status_t status = save(ctx, token, &err);

    if (status == QO_E_STORE_UNAVAILABLE || status == QO_E_INTERNAL) {
        /* Nothing is lost yet: the next attempt repeats the same refresh token. */
        release(r, ctx, lease, status, 0);
        lose_store(ctx, &err);
        return;
    }
    release(r, ctx, lease, QO_OK, 0);
    if (status == QO_E_NOT_FOUND) {
        give_back(r, ctx, token);
        return;
    }
    if (status == QO_OK) {
        mod_qo_log_event(r, MOD_QO_LOG_RENEWED, "session %s renewed: generation %lu",
                         ctx->id, (unsigned long)(ctx->version + 1));
    }
    look_again(r, ctx);
}

/* Final (RFC 6749 section 5.2), unless another request has replaced the token meanwhile. */
static void rejected(request_rec *r, mod_qo_ctx_t *ctx, const qo_lease_t *lease,
                     const qo_err_t *why)
{
    const mod_qo_server_t *server = ctx->server;
    qo_err_t err = {.detail = ""};
    qo_status_t status = server->provider->session_delete(server->store, &ctx->key,
                                                          ctx->version, ctx->now, &err);

    release(r, ctx, lease, QO_OK, 0);
    if (status == QO_E_STORE_UNAVAILABLE) {
        lose_store(ctx, &err);
        return;
    }
    if (status == QO_OK) {
        mod_qo_log_event(r, MOD_QO_LOG_SIGNED_OUT,
                         "session %s ended: Qonto refused its refresh token (attempt %lu): "
                         "%s",
                         ctx->id, (unsigned long)lease->failures + 1, why->detail);
    }
    look_again(r, ctx);
}

/* Doubled each time. */
static apr_time_t back_off(const qo_lease_t *lease, const qo_err_t *err)
{
    unsigned int doublings = lease->failures < 10 ? lease->failures : 10;
    apr_time_t wait = from_ms(QO_BACKOFF_MIN_MS) << doublings;
    apr_time_t asked = apr_time_from_sec(err->retry_after);

    wait = wait < from_ms(QO_BACKOFF_MAX_MS) ? wait : from_ms(QO_BACKOFF_MAX_MS);
    return asked > wait ? asked : wait;
}

static void failed(request_rec *r, mod_qo_ctx_t *ctx, const qo_lease_t *lease,
                   qo_status_t status, const qo_err_t *err)
{
    const qo_error_info_t *info = qo_error_info(status);
    apr_time_t wait = back_off(lease, err);
    const char *detail =
        apr_psprintf(ctx->pool, "QO%04d, attempt %lu, the next in %d s: %s", info->number,
                     (unsigned long)lease->failures + 1, seconds_up(wait),
                     err->detail[0] != '\0' ? err->detail : info->admin);

    release(r, ctx, lease, status, wait);
    give_up(ctx, status, wait, detail);
    log_kept(r, ctx);
}

static void call(request_rec *r, mod_qo_ctx_t *ctx, const qo_lease_t *lease)
{
    qo_err_t err = {.detail = ""};
    qo_token_t token;
    qo_status_t status = qo_qonto_refresh(&token, ctx->pool, &ctx->server->conf,
                                          &ctx->session.token, ctx->now, &err);

    if (status == QO_OK) {
        if (err.detail[0] != '\0') {
            mod_qo_log_warning(r, MOD_QO_LOG_NOTICE, "%s", err.detail);
        }
        renewed(r, ctx, lease, &token);
    } else if (status == QO_E_GRANT_REJECTED) {
        rejected(r, ctx, lease, &err);
    } else {
        failed(r, ctx, lease, status, &err);
    }
}

/* Between the look before the lease and the lease, another may have finished; and a process
 * that was stopped for long must not call when others may think it dead. */
static void attempt(request_rec *r, mod_qo_ctx_t *ctx, const qo_lease_t *lease,
                    apr_time_t asked)
{
    uint64_t version = ctx->version;
    apr_time_t left;

    if (mod_qo_ctx_reload(r, ctx) != QO_OK) {
        release(r, ctx, lease, QO_OK, 0);
        lose_store(ctx, NULL);
        return;
    }
    left = asked + lease_life(ctx) - qo_lease_clock();
    if (ctx->version != version || !needs_refresh(ctx) ||
        left < from_ms(ctx->server->conf.total_timeout_ms)) {
        release(r, ctx, lease, QO_OK, 0);
        give_up(ctx, QO_E_NOT_RENEWED, 0, "the lease came too late to be used");
        return;
    }
    call(r, ctx, lease);
}

/* ---- the others ---- */

static apr_time_t patience(const mod_qo_ctx_t *ctx)
{
    return ctx->state == QO_SESSION_DUE ? from_ms(QO_REFRESH_WAIT_MS) : lease_life(ctx);
}

/* Should the caller ask for the lease once more? */
static bool wait_for(request_rec *r, mod_qo_ctx_t *ctx, const qo_lease_t *theirs,
                     apr_time_t began, apr_time_t pause)
{
    uint64_t version = ctx->version;
    apr_time_t clock = qo_lease_clock();

    if (mod_qo_ctx_reload(r, ctx) != QO_OK) {
        lose_store(ctx, NULL);
        return false;
    }
    if (!needs_refresh(ctx)) {
        return false;
    }
    if (ctx->version == version && theirs->until <= clock && theirs->again > clock) {
        give_up(ctx, (qo_status_t)theirs->why, theirs->again - clock,
                "the last attempt failed, and the next is not due yet");
        return false;
    }
    if (clock - began >= patience(ctx)) {
        give_up(ctx, QO_E_NOT_RENEWED, 0, "another request is still at it");
        return false;
    }
    if (ctx->version == version) {
        apr_sleep(pause);
    }
    return true;
}

/* Longer each time, and not the same for all who wait. */
static apr_time_t next_pause(apr_time_t pause, const qo_lease_t *mine)
{
    apr_time_t longer = pause + pause / 2 + mine->holder.nonce[0] * 4;

    return longer < from_ms(QO_POLL_MAX_MS) ? longer : from_ms(QO_POLL_MAX_MS);
}

void mod_qo_flow_refresh(request_rec *r, mod_qo_ctx_t *ctx)
{
    apr_time_t began = qo_lease_clock();
    apr_time_t pause = from_ms(QO_POLL_MIN_MS);
    qo_err_t err = {.detail = ""};
    qo_lease_t mine = {.generation = 0};
    bool again = true;

    ctx->refresh_tried = true;
    ctx->refresh_status = QO_E_NOT_RENEWED;
    if (qo_lease_holder(&mine.holder) != QO_OK) {
        give_up(ctx, QO_E_INTERNAL, 0, "no random numbers can be had");
        return;
    }
    while (again) {
        qo_lease_t lease = mine;
        apr_time_t asked = qo_lease_clock();
        qo_status_t status = acquire(ctx, &lease, &err);

        again = false;
        if (status == QO_OK) {
            attempt(r, ctx, &lease, asked);
        } else if (status == QO_E_CONFLICT) {
            again = wait_for(r, ctx, &lease, began, pause);
            pause = next_pause(pause, &mine);
        } else if (status == QO_E_NOT_FOUND) {
            ctx->state = QO_SESSION_NONE;
        } else {
            give_up(ctx, QO_E_STORE_UNAVAILABLE, 0, err.detail);
            log_kept(r, ctx);
        }
    }
}
