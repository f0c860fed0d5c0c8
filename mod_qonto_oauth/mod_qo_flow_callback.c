/* A visitor comes back from Qonto. */
#include "mod_qo_flow.h"

#include "mod_qo_log.h"
#include "mod_qo_login.h"
#include "mod_qo_process.h"
#include "mod_qo_reply.h"
#include "qo_qonto.h"

#include <apr_strings.h>

#include <string.h>

/* What the query said. */
typedef struct {
    const char *ticket; /* "login": not Qonto's, but a link of ours */
    const char *state;
    const char *code;
    const char *error;
    const char *description;
} answer_t;

/* The login it belongs to. */
typedef struct {
    qo_hash_t key;
    char id[QO_BINDING_ID + 1];
    qo_pending_t pending;
    bool taken;
    bool bound;
} login_t;

/* ---- reading ---- */

static bool is_printable(const char *text, size_t max)
{
    size_t len = strspn(text, "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                              "[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~");

    return len > 0 && len <= max && text[len] == '\0';
}

static qo_status_t check_answer(const answer_t *answer, qo_err_t *err)
{
    if (answer->state == NULL) {
        return QO_E_STATE_MISSING;
    }
    if ((answer->code != NULL) == (answer->error != NULL)) {
        return qo_error(err, QO_E_CALLBACK_MALFORMED, "%s",
                        answer->code != NULL ? "both code and error"
                                             : "neither code nor error");
    }
    if (answer->code != NULL && !is_printable(answer->code, QO_LIMIT_CODE)) {
        return qo_error(err, QO_E_CALLBACK_MALFORMED, "the code is not a code");
    }
    if (answer->error != NULL && !is_printable(answer->error, QO_LIMIT_ERROR_NAME)) {
        return qo_error(err, QO_E_CALLBACK_MALFORMED, "the error is not a name");
    }
    if (strlen(answer->state) != QO_SECRET_TEXT) {
        return QO_E_STATE_UNKNOWN;
    }
    return QO_OK;
}

/* Unknown parameters (Qonto adds the granted scope) are ignored; ours may come only once.
 */
static qo_status_t read_answer(answer_t *out, apr_pool_t *p, const char *query,
                               qo_err_t *err)
{
    const struct {
        const char *name;
        const char **value;
    } WANTED[] = {{"login", &out->ticket},
                  {"state", &out->state},
                  {"code", &out->code},
                  {"error", &out->error},
                  {"error_description", &out->description}};
    apr_array_header_t *params;

    memset(out, 0, sizeof(*out));
    if (qo_url_parse_query(&params, p, query, err) != QO_OK) {
        return QO_E_CALLBACK_MALFORMED;
    }
    for (size_t i = 0; i < sizeof(WANTED) / sizeof(WANTED[0]); i++) {
        if (qo_url_param(WANTED[i].value, params, WANTED[i].name, err) != QO_OK) {
            return QO_E_CALLBACK_MALFORMED;
        }
    }
    return out->ticket != NULL ? QO_OK : check_answer(out, err);
}

static const char *binding_cookie(const mod_qo_ctx_t *ctx, const char *id)
{
    for (int i = 0; i < ctx->cookies.binding_count; i++) {
        if (strcmp(ctx->cookies.bindings[i].id, id) == 0) {
            return ctx->cookies.bindings[i].value;
        }
    }
    return NULL;
}

/* Reads only, so that a made-up or copied callback URL costs and changes nothing. */
static qo_status_t find_login(login_t *out, request_rec *r, const mod_qo_ctx_t *ctx,
                              const char *state, qo_err_t *err)
{
    const mod_qo_server_t *server = ctx->server;
    qo_bytes_t sealed;
    qo_bytes_t record;
    qo_status_t status = qo_crypto_hash(&out->key, state, strlen(state));

    if (status == QO_OK) {
        status = server->provider->pending_get(server->store, r->pool, &out->key, &sealed,
                                               &out->taken, ctx->now, err);
    }
    if (status == QO_OK) {
        status =
            qo_seal_open(&record, r->pool, &server->ring, QO_SEAL_PENDING, state, sealed);
    }
    if (status == QO_OK) {
        status = qo_pending_decode(&out->pending, record);
    }
    if (status == QO_E_NOT_FOUND ||
        (status == QO_OK && qo_pending_expired(&out->pending, ctx->now))) {
        return QO_E_STATE_UNKNOWN;
    }
    if (status == QO_OK) {
        mod_qo_login_binding_id(out->id, &out->key);
        out->bound = qo_pending_bound(&out->pending, binding_cookie(ctx, out->id));
    }
    return status;
}

/* ---- answering ---- */

/* Once somebody is signed in, no other tab of this browser needs its binding cookie. */
static void clear_bindings(request_rec *r, const mod_qo_ctx_t *ctx)
{
    for (int i = 0; i < ctx->cookies.binding_count && i < QO_LIMIT_CLEARED_COOKIES; i++) {
        mod_qo_reply_cookie(r, qo_cookie_binding_clear(r->pool, &ctx->server->conf.cookies,
                                                       ctx->cookies.bindings[i].id));
    }
}

static void clear_binding(request_rec *r, const mod_qo_ctx_t *ctx, const login_t *login)
{
    if (binding_cookie(ctx, login->id) != NULL) {
        mod_qo_reply_cookie(
            r, qo_cookie_binding_clear(r->pool, &ctx->server->conf.cookies, login->id));
    }
}

static int go_back(request_rec *r, const mod_qo_ctx_t *ctx, const login_t *login)
{
    return mod_qo_reply_redirect(
        r, mod_qo_login_return_url(r, ctx, login->pending.return_path));
}

/* `said` is shown only to the browser that began this login: anybody can make a link to the
 * callback with words of their own. */
static int refuse(request_rec *r, const mod_qo_ctx_t *ctx, const login_t *login,
                  qo_status_t status, const qo_err_t *err, const char *said)
{
    clear_binding(r, ctx, login);
    return mod_qo_reply_failure(
        r, status, err, mod_qo_login_return_url(r, ctx, login->pending.return_path), said);
}

/* Of two hits on one callback URL at the same moment, one gets QO_OK. */
static qo_status_t take(const mod_qo_ctx_t *ctx, const login_t *login, qo_err_t *err)
{
    qo_status_t status =
        ctx->server->provider->pending_take(ctx->server->store, &login->key, ctx->now, err);

    if (status == QO_E_CONFLICT) {
        return QO_E_STATE_REPLAYED;
    }
    return status == QO_E_NOT_FOUND ? QO_E_STATE_UNKNOWN : status;
}

/* ---- signing in ---- */

static qo_status_t create_session(char *cookie, qo_hash_t *key, request_rec *r,
                                  const mod_qo_ctx_t *ctx, const qo_token_t *token,
                                  qo_err_t *err)
{
    const mod_qo_server_t *server = ctx->server;
    uint32_t idle = (uint32_t)server->conf.idle_seconds;
    qo_session_t session;
    qo_bytes_t sealed;
    qo_status_t status = qo_crypto_secret(cookie, QO_SECRET_BYTES);

    qo_session_new(&session, token, idle, (uint32_t)server->conf.max_seconds, ctx->now);
    if (status == QO_OK) {
        status = qo_crypto_hash(key, cookie, QO_SECRET_TEXT);
    }
    if (status == QO_OK) {
        status = qo_session_seal(&sealed, r->pool, &server->session_rings, cookie, key,
                                 &session);
    }
    if (status != QO_OK) {
        return status;
    }
    return server->provider->session_create(server->store, key, sealed, session.expires,
                                            idle, ctx->now, err);
}

/* The session this browser had before ends with the new one's beginning. */
static void end_old_session(request_rec *r, const mod_qo_ctx_t *ctx)
{
    qo_err_t err = {.detail = ""};
    qo_status_t status;

    if (ctx->state == QO_SESSION_NONE) {
        return;
    }
    status = ctx->server->provider->session_delete(ctx->server->store, &ctx->key,
                                                   QO_STORE_ANY, ctx->now, &err);
    if (status == QO_OK) {
        mod_qo_log_event(r, MOD_QO_LOG_SIGNED_OUT,
                         "session %s ended: replaced by a new one", ctx->id);
    } else if (status != QO_E_NOT_FOUND) {
        mod_qo_log_warning(r, MOD_QO_LOG_STORE, "session %s could not be ended: %s",
                           ctx->id, err.detail);
    }
}

static void give_grant_back(request_rec *r, const mod_qo_ctx_t *ctx,
                            const qo_token_t *token)
{
    qo_err_t err = {.detail = ""};

    if (qo_qonto_revoke(r->pool, &ctx->server->conf, token, &err) != QO_OK) {
        mod_qo_log_warning(r, MOD_QO_LOG_REVOKE_FAILED,
                           "a grant without a session could not be revoked: %s",
                           err.detail);
    }
}

static int sign_in(request_rec *r, const mod_qo_ctx_t *ctx, const login_t *login,
                   const qo_token_t *token)
{
    qo_err_t err = {.detail = ""};
    char cookie[QO_SECRET_TEXT + 1];
    char id[QO_SESSION_ID_LEN + 1];
    qo_hash_t key;
    qo_status_t status = create_session(cookie, &key, r, ctx, token, &err);

    if (status != QO_OK) {
        give_grant_back(r, ctx, token);
        return refuse(r, ctx, login, status, &err, NULL);
    }
    end_old_session(r, ctx);
    qo_session_id(id, &key);
    mod_qo_log_event(r, MOD_QO_LOG_SIGNED_IN,
                     "login %s signed in: session %s, scope \"%s\"", login->id, id,
                     token->scope);
    clear_bindings(r, ctx);
    mod_qo_reply_cookie(r, qo_cookie_session(r->pool, &ctx->server->conf.cookies, cookie));
    mod_qo_process_sweep_if_needed(r->server, ctx->now);
    return go_back(r, ctx, login);
}

static int exchange(request_rec *r, const mod_qo_ctx_t *ctx, const login_t *login,
                    const answer_t *answer)
{
    qo_err_t err = {.detail = ""};
    qo_token_t token;
    qo_status_t status = take(ctx, login, &err);

    if (status == QO_OK) {
        status = qo_qonto_exchange(&token, r->pool, &ctx->server->conf, &login->pending,
                                   answer->code, ctx->now, &err);
    }
    if (status != QO_OK) {
        return refuse(r, ctx, login, status, &err, NULL);
    }
    if (err.detail[0] != '\0') {
        mod_qo_log_warning(r, MOD_QO_LOG_NOTICE, "%s", err.detail);
    }
    return sign_in(r, ctx, login, &token);
}

static int restart(request_rec *r, const mod_qo_ctx_t *ctx, login_t *login)
{
    qo_err_t err = {.detail = ""};
    qo_status_t status = take(ctx, login, &err);

    if (status != QO_OK) {
        return refuse(r, ctx, login, status, &err, NULL);
    }
    clear_binding(r, ctx, login);
    login->pending.restarts++;
    return mod_qo_login_begin(r, ctx, &login->pending);
}

static int refuse_answer(request_rec *r, const mod_qo_ctx_t *ctx, const login_t *login,
                         const answer_t *answer, qo_status_t status)
{
    qo_err_t err = {.detail = ""};
    bool trusted = login->bound && !login->taken;
    const char *said =
        trusted && answer->description != NULL
            ? apr_pstrndup(r->pool, answer->description, QO_LIMIT_DESCRIPTION)
            : NULL;

    if (trusted && take(ctx, login, &err) == QO_E_STORE_UNAVAILABLE) {
        return refuse(r, ctx, login, QO_E_STORE_UNAVAILABLE, &err, NULL);
    }
    (void)qo_error(&err, status, "%s%s%s", answer->error != NULL ? answer->error : "",
                   said != NULL ? ": " : "", said != NULL ? said : "");
    return refuse(r, ctx, login, status, &err, said);
}

static bool signed_in_since(const mod_qo_ctx_t *ctx, const login_t *login)
{
    return mod_qo_ctx_signed_in(ctx) &&
           memcmp(&ctx->key, &login->pending.session_seen, sizeof(ctx->key)) != 0;
}

static int decide(request_rec *r, const mod_qo_ctx_t *ctx, login_t *login,
                  const answer_t *answer)
{
    const qo_callback_facts_t facts = {
        .signed_in_since = signed_in_since(ctx, login),
        .taken = login->taken,
        .bound = login->bound,
        .restarts = login->pending.restarts,
        .error = answer->error,
    };
    qo_status_t status = QO_E_INTERNAL;

    switch (qo_gate_callback(&facts, &status)) {
    case QO_CALLBACK_EXCHANGE:
        return exchange(r, ctx, login, answer);
    case QO_CALLBACK_RETURN:
        clear_binding(r, ctx, login);
        return go_back(r, ctx, login);
    case QO_CALLBACK_RESTART:
        return restart(r, ctx, login);
    case QO_CALLBACK_REFUSE:
        break;
    }
    return refuse_answer(r, ctx, login, answer, status);
}

static int answer_qonto(request_rec *r, mod_qo_ctx_t *ctx, const answer_t *answer)
{
    qo_err_t err = {.detail = ""};
    login_t login = {.taken = false};
    qo_status_t status = find_login(&login, r, ctx, answer->state, &err);

    if (status == QO_OK) {
        mod_qo_ctx_load_session(r, ctx);
        if (ctx->store_failed) {
            status = QO_E_STORE_UNAVAILABLE;
            err = ctx->store_error;
        }
    }
    if (status != QO_OK) {
        return mod_qo_reply_failure(r, status, &err, mod_qo_login_return_url(r, ctx, "/"),
                                    NULL);
    }
    return decide(r, ctx, &login, answer);
}

int mod_qo_flow_callback(request_rec *r, mod_qo_ctx_t *ctx)
{
    qo_err_t err = {.detail = ""};
    answer_t answer;
    qo_status_t status;

    if (r->method_number != M_GET || r->header_only) {
        return mod_qo_reply_method(r, false);
    }
    status = read_answer(&answer, r->pool, ctx->query, &err);
    if (status != QO_OK) {
        return mod_qo_reply_failure(r, status, &err, mod_qo_login_return_url(r, ctx, "/"),
                                    NULL);
    }
    return answer.ticket != NULL ? mod_qo_login_redeem(r, ctx, answer.ticket)
                                 : answer_qonto(r, ctx, &answer);
}
