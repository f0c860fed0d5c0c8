#include "qo_token.h"
#include "qo_json.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>
#include <strings.h>

/* A run of token characters this long in Qonto's words may be a token, and is not shown. */
#define SUSPICIOUS_RUN 24
#define REMOVED "[removed]"

/* Shorter than a suspicious run, so that it can be quoted as it is. */
#define TYPE_SHOWN 20

/* RFC 6749 appendix A.12 has spaces as well; in a request header they would end the token.
 */
static bool is_token(const char *text)
{
    size_t len = 0;

    for (; text[len] != '\0'; len++) {
        if (text[len] < 0x21 || text[len] > 0x7e) {
            return false;
        }
    }
    return len > 0 && len <= QO_LIMIT_TOKEN;
}

/* RFC 6749 section 3.3. */
static bool is_scope(const char *text)
{
    size_t len = 0;

    for (; text[len] != '\0'; len++) {
        char c = text[len];

        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') {
            return false;
        }
    }
    return len <= QO_LIMIT_SCOPE;
}

/* A token that need not be there: NULL when it is not. */
static qo_status_t read_token(const char **out, const qo_json_t *answer, const char *name,
                              qo_err_t *err)
{
    const char *text = qo_json_string(answer, name);

    *out = NULL;
    if (!qo_json_has(answer, name)) {
        return QO_OK;
    }
    if (text == NULL || !is_token(text)) {
        return qo_error(err, QO_E_BAD_ANSWER, "%s is not a token of at most %d characters",
                        name, QO_LIMIT_TOKEN);
    }
    *out = text;
    return QO_OK;
}

static qo_status_t read_tokens(qo_token_t *out, const qo_json_t *answer, qo_err_t *err)
{
    if (read_token(&out->access, answer, "access_token", err) != QO_OK ||
        read_token(&out->refresh, answer, "refresh_token", err) != QO_OK ||
        read_token(&out->id, answer, "id_token", err) != QO_OK) {
        return QO_E_BAD_ANSWER;
    }
    if (out->access == NULL) {
        return qo_error(err, QO_E_BAD_ANSWER, "no access_token");
    }
    return QO_OK;
}

/* RFC 6749 section 7.1: a client must not use a token of a type it does not know. Some
 * servers leave the type out, though section 5.1 requires it. */
static qo_status_t check_type(const qo_json_t *answer, qo_err_t *err)
{
    const char *type = qo_json_string(answer, "token_type");

    if (!qo_json_has(answer, "token_type")) {
        return QO_OK;
    }
    if (type == NULL) {
        return qo_error(err, QO_E_BAD_ANSWER, "token_type is not a string");
    }
    if (strcasecmp(type, "bearer") != 0) {
        return qo_error(err, QO_E_BAD_ANSWER, "token_type \"%.*s\" instead of bearer",
                        TYPE_SHOWN, type);
    }
    return QO_OK;
}

static qo_status_t read_expires(apr_time_t *out, const qo_json_t *answer,
                                apr_time_t asked_at, qo_err_t *err)
{
    int64_t seconds = QO_TOKEN_LIFE;

    if (qo_json_integer(answer, "expires_in", &seconds) == QO_JSON_OTHER || seconds < 1) {
        return qo_error(err, QO_E_BAD_ANSWER, "expires_in is not a number of seconds");
    }
    if (seconds > QO_LIMIT_EXPIRES_IN) {
        seconds = QO_LIMIT_EXPIRES_IN;
    }
    *out = asked_at + apr_time_from_sec((apr_time_t)seconds);
    return QO_OK;
}

static qo_status_t read_scope(const char **out, const qo_json_t *answer,
                              const char *requested, qo_err_t *err)
{
    const char *scope = qo_json_string(answer, "scope");

    if (qo_json_has(answer, "scope") && (scope == NULL || !is_scope(scope))) {
        return qo_error(err, QO_E_BAD_ANSWER,
                        "scope is not a list of at most %d characters", QO_LIMIT_SCOPE);
    }
    if (scope == NULL || *scope == '\0') {
        scope = requested == NULL ? "" : requested;
    }
    *out = scope;
    return QO_OK;
}

/* The strings of `from` belong to a JSON document that goes when `p` is cleaned up, maybe
 * before others look at the tokens for the last time. */
static void copy_token(qo_token_t *out, apr_pool_t *p, const qo_token_t *from)
{
    out->access = apr_pstrdup(p, from->access);
    out->refresh = apr_pstrdup(p, from->refresh);
    out->id = apr_pstrdup(p, from->id);
    out->scope = apr_pstrdup(p, from->scope);
    out->expires = from->expires;
}

qo_status_t qo_token_parse(qo_token_t *out, apr_pool_t *p, const char *body, size_t len,
                           const char *requested, apr_time_t asked_at, qo_err_t *err)
{
    const qo_json_t *answer;
    qo_token_t token;

    if (qo_json_parse(&answer, p, body, len, err) != QO_OK ||
        read_tokens(&token, answer, err) != QO_OK || check_type(answer, err) != QO_OK ||
        read_expires(&token.expires, answer, asked_at, err) != QO_OK ||
        read_scope(&token.scope, answer, requested, err) != QO_OK) {
        return QO_E_BAD_ANSWER;
    }
    copy_token(out, p, &token);
    return QO_OK;
}

static size_t run_length(const char *text)
{
    size_t len = 0;

    while (text[len] != '\0' &&
           (apr_isalnum(text[len]) || strchr("._~+/=-", text[len]) != NULL)) {
        len++;
    }
    return len;
}

/* Qonto's words without anything that could be a token it echoes. */
static char *redact(apr_pool_t *p, const char *text)
{
    /* A removed run was longer than what stands for it. */
    char *out = apr_palloc(p, strlen(text) + 1);
    char *at = out;

    while (*text != '\0') {
        size_t run = run_length(text);
        size_t len = run > 0 ? run : 1;

        if (run >= SUSPICIOUS_RUN) {
            memcpy(at, REMOVED, sizeof(REMOVED) - 1);
            at += sizeof(REMOVED) - 1;
        } else {
            memcpy(at, text, len);
            at += len;
        }
        text += len;
    }
    *at = '\0';
    return out;
}

/* Ory Hydra, which Qonto runs, answers so when two requests use one refresh token at once;
 * the token is still good. */
static bool asks_to_retry(int http_status, const char *name, const char *description)
{
    return http_status == 400 && strcmp(name, "invalid_request") == 0 &&
           (strcasestr(description, "concurrent") != NULL ||
            strcasestr(description, "retry") != NULL);
}

static qo_status_t status_of_name(const char *name)
{
    static const struct {
        const char *name;
        qo_status_t status;
    } known[] = {{"invalid_grant", QO_E_GRANT_REJECTED},
                 /* At a refresh, which names no scope: the client has lost one of the
                  * grant's. Ory Hydra looks before it uses the token up, so an admin can
                  * still put it right. */
                 {"invalid_scope", QO_E_REQUEST_REFUSED},
                 {"invalid_client", QO_E_CLIENT_REFUSED},
                 {"unauthorized_client", QO_E_CLIENT_REFUSED},
                 {"temporarily_unavailable", QO_E_BUSY},
                 {"server_error", QO_E_BUSY},
                 {"slow_down", QO_E_BUSY}};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(name, known[i].name) == 0) {
            return known[i].status;
        }
    }
    return QO_E_BAD_ANSWER;
}

/* `name` is NULL when the answer was not JSON or had no "error". */
static qo_status_t judge(int http_status, const char *name, const char *description)
{
    if (http_status == 429 || http_status >= 500) {
        return QO_E_BUSY;
    }
    if (name != NULL && asks_to_retry(http_status, name, description)) {
        return QO_E_BUSY;
    }
    if (name != NULL && status_of_name(name) != QO_E_BAD_ANSWER) {
        return status_of_name(name);
    }
    if (http_status == 401) {
        return QO_E_CLIENT_REFUSED;
    }
    return name == NULL ? QO_E_NOT_JSON : QO_E_BAD_ANSWER;
}

qo_status_t qo_token_parse_error(apr_pool_t *p, int http_status, const char *body,
                                 size_t len, qo_err_t *err)
{
    const qo_json_t *answer = NULL;
    const char *name = NULL;
    const char *description = NULL;
    qo_status_t status;

    if (qo_json_parse(&answer, p, body, len, NULL) == QO_OK) {
        name = qo_json_string(answer, "error");
        description = qo_json_string(answer, "error_description");
    }
    if (description == NULL) {
        description = "";
    }
    status = judge(http_status, name, description);
    if (name == NULL) {
        return qo_error(err, status, "HTTP %d without an OAuth error", http_status);
    }
    return qo_error(err, status, "HTTP %d %.*s%s%.*s", http_status, QO_LIMIT_ERROR_NAME,
                    redact(p, name), *description == '\0' ? "" : ": ", QO_LIMIT_DESCRIPTION,
                    redact(p, description));
}
