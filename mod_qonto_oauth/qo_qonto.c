#include "qo_qonto.h"

#include "qo_crypto.h"
#include "qo_http.h"

#include <apr_cstr.h>
#include <apr_strings.h>

#include <string.h>

static qo_param_t *add(apr_array_header_t *params, const char *name, const char *value)
{
    qo_param_t *param = apr_array_push(params);

    param->name = name;
    param->value = value;
    return param;
}

qo_status_t qo_qonto_authorize_url(const char **out, apr_pool_t *p, const qo_conf_t *conf,
                                   const qo_pending_t *pending, const char *state)
{
    apr_array_header_t *params = apr_array_make(p, 8, sizeof(qo_param_t));
    char challenge[QO_SECRET_TEXT + 1];
    const char *query;

    add(params, "client_id", conf->client_id);
    add(params, "redirect_uri", pending->redirect_uri);
    add(params, "response_type", "code");
    add(params, "scope", pending->scope);
    add(params, "state", state);
    if (pending->verifier != NULL) {
        qo_status_t status = qo_crypto_challenge(challenge, pending->verifier);

        if (status != QO_OK) {
            return status;
        }
        add(params, "code_challenge", challenge);
        add(params, "code_challenge_method", "S256");
    }
    query = qo_url_query(p, params);
    if (*pending->extra != '\0') {
        query = apr_pstrcat(p, query, "&", pending->extra, NULL);
    }
    *out = qo_url_join(p, conf->endpoints[QO_ENDPOINT_AUTHORIZE], query);
    return QO_OK;
}

/* ---- calls ---- */

static bool is_json(const char *type)
{
    return apr_cstr_casecmpn(type, "application/json", strlen("application/json")) == 0;
}

/* The sandbox stands behind a log-in wall that answers strangers with its own page or a
 * redirect (Qonto docs: "Sandbox access"), so that is what a missing token looks like. */
static qo_status_t explain_wall(const qo_conf_t *conf, const qo_http_answer_t *answer,
                                qo_err_t *err)
{
    const char *hint =
        conf->sandbox ? "; in the sandbox this means that QontoStagingToken is missing, "
                        "wrong or no longer valid"
                      : "; is QontoEndpoint right, or is this a sandbox client that needs "
                        "QontoSandbox On and QontoStagingToken?";

    return qo_error(err, QO_E_NOT_JSON, "HTTP %d %.60s%s", answer->status, answer->type,
                    hint);
}

static bool is_wall(const qo_http_answer_t *answer)
{
    return (answer->status >= 300 && answer->status < 400) ||
           (answer->status < 500 && answer->status != 429 && answer->len > 0 &&
            !is_json(answer->type));
}

static qo_status_t classify(apr_pool_t *p, const qo_conf_t *conf,
                            const qo_http_answer_t *answer, qo_err_t *err)
{
    qo_status_t status;

    if (is_wall(answer)) {
        return explain_wall(conf, answer, err);
    }
    if (answer->status == 200) {
        return QO_OK;
    }
    status = qo_token_parse_error(p, answer->status, answer->body, answer->len, err);
    if (err != NULL) {
        err->retry_after = answer->retry_after;
    }
    return status;
}

static qo_status_t post(qo_http_answer_t *answer, apr_pool_t *p, const qo_conf_t *conf,
                        qo_endpoint_t endpoint, const apr_array_header_t *params,
                        int total_ms, qo_err_t *err)
{
    qo_http_request_t request = {
        .url = conf->endpoints[endpoint],
        .form = qo_url_query(p, params),
        .staging_token = conf->sandbox ? conf->staging_token : NULL,
        .proxy = conf->proxy,
        .ca_file = conf->ca_file,
        .connect_timeout_ms = conf->connect_timeout_ms,
        .total_timeout_ms = total_ms,
    };
    qo_status_t status = qo_http_send(answer, p, &request, err);

    return status == QO_OK ? classify(p, conf, answer, err) : status;
}

/* Is QontoClientSecret's second value the one to begin with? Qonto counts refused calls, so
 * what it has said once is remembered. */
static bool begins_with_next(const qo_conf_t *conf)
{
    return conf->next_secret != NULL && conf->next_first != NULL && *conf->next_first;
}

static qo_status_t tell_secret(const qo_conf_t *conf, bool next, qo_err_t *err)
{
    if (conf->next_first != NULL) {
        *conf->next_first = next;
    }
    return qo_error(err, QO_OK,
                    "Qonto refused the %s value of QontoClientSecret and accepted the %s: "
                    "write the %s one alone",
                    next ? "first" : "second", next ? "second" : "first",
                    next ? "second" : "first");
}

/* Posts `params` with the client's credentials. A refused client is tried once more with
 * the other secret, so that a secret can be replaced at Qonto and here at different times.
 * Safe for codes and tokens: the client is authenticated before the grant is looked at. */
static qo_status_t call(qo_http_answer_t *answer, apr_pool_t *p, const qo_conf_t *conf,
                        qo_endpoint_t endpoint, apr_array_header_t *params, int total_ms,
                        qo_err_t *err)
{
    bool next = begins_with_next(conf);
    qo_param_t *secret;
    qo_status_t status;

    add(params, "client_id", conf->client_id);
    secret = add(params, "client_secret", next ? conf->next_secret : conf->client_secret);
    status = post(answer, p, conf, endpoint, params, total_ms, err);
    if (status != QO_E_CLIENT_REFUSED || conf->next_secret == NULL) {
        return status;
    }
    secret->value = next ? conf->client_secret : conf->next_secret;
    if (err != NULL) {
        err->detail[0] = '\0';
    }
    status = post(answer, p, conf, endpoint, params, total_ms - answer->took_ms, err);
    return status == QO_OK ? tell_secret(conf, !next, err) : status;
}

qo_status_t qo_qonto_exchange(qo_token_t *out, apr_pool_t *p, const qo_conf_t *conf,
                              const qo_pending_t *pending, const char *code, apr_time_t now,
                              qo_err_t *err)
{
    apr_array_header_t *params = apr_array_make(p, 6, sizeof(qo_param_t));
    qo_http_answer_t answer;
    qo_status_t status;

    add(params, "grant_type", "authorization_code");
    add(params, "code", code);
    add(params, "redirect_uri", pending->redirect_uri);
    if (pending->verifier != NULL) {
        add(params, "code_verifier", pending->verifier);
    }
    status = call(&answer, p, conf, QO_ENDPOINT_TOKEN, params, conf->total_timeout_ms, err);
    if (status != QO_OK) {
        return status;
    }
    return qo_token_parse(out, p, answer.body, answer.len, pending->scope, now, err);
}

qo_status_t qo_qonto_refresh(qo_token_t *out, apr_pool_t *p, const qo_conf_t *conf,
                             const qo_token_t *old, apr_time_t now, qo_err_t *err)
{
    apr_array_header_t *params = apr_array_make(p, 4, sizeof(qo_param_t));
    qo_http_answer_t answer;
    qo_status_t status;

    add(params, "grant_type", "refresh_token");
    add(params, "refresh_token", old->refresh);
    status = call(&answer, p, conf, QO_ENDPOINT_TOKEN, params, conf->total_timeout_ms, err);
    if (status != QO_OK) {
        return status;
    }
    return qo_token_parse(out, p, answer.body, answer.len, old->scope, now, err);
}

qo_status_t qo_qonto_revoke(apr_pool_t *p, const qo_conf_t *conf, const qo_token_t *token,
                            qo_err_t *err)
{
    apr_array_header_t *params = apr_array_make(p, 4, sizeof(qo_param_t));
    int total_ms = conf->total_timeout_ms < QO_REVOKE_TIMEOUT_MS ? conf->total_timeout_ms
                                                                 : QO_REVOKE_TIMEOUT_MS;
    qo_http_answer_t answer;

    /* Either token ends the whole grant at Qonto; the refresh token lives longer. */
    add(params, "token", token->refresh != NULL ? token->refresh : token->access);
    add(params, "token_type_hint",
        token->refresh != NULL ? "refresh_token" : "access_token");
    return call(&answer, p, conf, QO_ENDPOINT_REVOKE, params, total_ms, err);
}
