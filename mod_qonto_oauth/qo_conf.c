#include "qo_conf.h"

#include <apr_cstr.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define DEFAULT_SCOPES "offline_access organization.read"

/* Qonto docs: "Sandbox" and "OAuth 2.0"; the revocation address is Ory Hydra's. */
static const char *const PRODUCTION[QO_ENDPOINTS] = {
    [QO_ENDPOINT_AUTHORIZE] = "https://oauth.qonto.com/oauth2/auth",
    [QO_ENDPOINT_TOKEN] = "https://oauth.qonto.com/oauth2/token",
    [QO_ENDPOINT_REVOKE] = "https://oauth.qonto.com/oauth2/revoke",
    [QO_ENDPOINT_API] = "https://thirdparty.qonto.com",
};
static const char *const SANDBOX[QO_ENDPOINTS] = {
    [QO_ENDPOINT_AUTHORIZE] = "https://oauth-sandbox.staging.qonto.co/oauth2/auth",
    [QO_ENDPOINT_TOKEN] = "https://oauth-sandbox.staging.qonto.co/oauth2/token",
    [QO_ENDPOINT_REVOKE] = "https://oauth-sandbox.staging.qonto.co/oauth2/revoke",
    [QO_ENDPOINT_API] = "https://thirdparty-sandbox.staging.qonto.co",
};

void qo_conf_init(qo_conf_t *conf)
{
    memset(conf, 0, sizeof(*conf));
    conf->sandbox = -1;
    conf->pkce = -1;
    conf->idle_seconds = -1;
    conf->max_seconds = -1;
    conf->refresh_margin = -1;
    conf->connect_timeout_ms = -1;
    conf->total_timeout_ms = -1;
}

static const char *first_text(const char *add, const char *base)
{
    return add != NULL ? add : base;
}

static int first_number(int add, int base)
{
    return add >= 0 ? add : base;
}

void qo_conf_merge(qo_conf_t *out, const qo_conf_t *base, const qo_conf_t *add)
{
    qo_conf_init(out);
    out->client_id = first_text(add->client_id, base->client_id);
    /* One directive sets both, so the pair is inherited as a pair. */
    out->client_secret = first_text(add->client_secret, base->client_secret);
    out->next_secret = add->client_secret != NULL ? add->next_secret : base->next_secret;
    out->redirect_uri = first_text(add->redirect_uri, base->redirect_uri);
    out->scopes = first_text(add->scopes, base->scopes);
    out->sandbox = first_number(add->sandbox, base->sandbox);
    out->staging_token = first_text(add->staging_token, base->staging_token);
    for (int i = 0; i < QO_ENDPOINTS; i++) {
        out->endpoints[i] = first_text(add->endpoints[i], base->endpoints[i]);
    }
    out->pkce = first_number(add->pkce, base->pkce);
    out->store = first_text(add->store, base->store);
    out->session_key = first_text(add->session_key, base->session_key);
    out->old_session_key =
        add->session_key != NULL ? add->old_session_key : base->old_session_key;
    out->idle_seconds = first_number(add->idle_seconds, base->idle_seconds);
    out->max_seconds = first_number(add->max_seconds, base->max_seconds);
    out->refresh_margin = first_number(add->refresh_margin, base->refresh_margin);
    out->cookie_name = first_text(add->cookie_name, base->cookie_name);
    out->cookie_path = first_text(add->cookie_path, base->cookie_path);
    out->cookie_samesite = first_text(add->cookie_samesite, base->cookie_samesite);
    out->connect_timeout_ms =
        first_number(add->connect_timeout_ms, base->connect_timeout_ms);
    out->total_timeout_ms = first_number(add->total_timeout_ms, base->total_timeout_ms);
    out->proxy = first_text(add->proxy, base->proxy);
    out->ca_file = first_text(add->ca_file, base->ca_file);
}

/* ---- scope lists ---- */

bool qo_conf_scope_has(const char *scopes, const char *scope)
{
    size_t len = strlen(scope);

    while (scopes != NULL && *scopes != '\0') {
        size_t word = strcspn(scopes, " ");

        if (word == len && memcmp(scopes, scope, len) == 0) {
            return true;
        }
        scopes += word;
        scopes += strspn(scopes, " ");
    }
    return false;
}

static const char *add_scopes(apr_pool_t *p, const char *all, const char *more)
{
    char *rest = apr_pstrdup(p, more != NULL ? more : "");
    char *last = NULL;

    for (char *word = apr_strtok(rest, " ", &last); word != NULL;
         word = apr_strtok(NULL, " ", &last)) {
        if (!qo_conf_scope_has(all, word)) {
            all = *all == '\0' ? word : apr_pstrcat(p, all, " ", word, NULL);
        }
    }
    return all;
}

const char *qo_conf_scope_union(apr_pool_t *p, const char *a, const char *b)
{
    return add_scopes(p, add_scopes(p, "", a), b);
}

/* ---- settling ---- */

static const char *check_client(const qo_conf_t *conf)
{
    if (conf->client_id == NULL) {
        return "QontoClientId is missing: write the client id that Qonto's developer "
               "portal "
               "shows for your application";
    }
    if (conf->client_secret == NULL) {
        return "QontoClientSecret is missing: write QontoClientSecret file:PATH with the "
               "path "
               "of a file that holds the secret from Qonto's developer portal";
    }
    if (conf->redirect_uri == NULL) {
        return "QontoRedirectURI is missing: write the absolute URL that is registered for "
               "your application at Qonto, such as https://app.example.com/qonto/callback";
    }
    return NULL;
}

static const char *settle_redirect(qo_conf_t *conf, apr_pool_t *p)
{
    qo_err_t err = {.detail = ""};

    if (qo_url_parse(&conf->redirect, p, conf->redirect_uri, &err) != QO_OK) {
        return apr_psprintf(
            p,
            "QontoRedirectURI %s cannot be used: it %s; write the absolute URL "
            "registered at Qonto, such as "
            "https://app.example.com/qonto/callback",
            qo_url_shown(p, conf->redirect_uri), err.detail);
    }
    if (!conf->redirect.https && !conf->redirect.loopback) {
        return apr_psprintf(
            p,
            "QontoRedirectURI %s uses http: write https (Qonto accepts http "
            "only for localhost and 127.0.0.1)",
            conf->redirect_uri);
    }
    if (conf->redirect.query != NULL) {
        return apr_psprintf(
            p,
            "QontoRedirectURI %s has a query: register and write it without "
            "the part from ? on",
            conf->redirect_uri);
    }
    if (strcmp(conf->redirect.path, "/") == 0) {
        return apr_psprintf(
            p,
            "QontoRedirectURI %s has no path of its own: register and write "
            "one that no page uses, such as %s/qonto/callback",
            conf->redirect_uri, conf->redirect.origin);
    }
    return NULL;
}

static const char *settle_endpoint(qo_conf_t *conf, apr_pool_t *p, int i)
{
    const char *given = conf->endpoints[i];
    qo_err_t err = {.detail = ""};
    qo_url_t url;

    if (given == NULL) {
        conf->endpoints[i] = conf->sandbox ? SANDBOX[i] : PRODUCTION[i];
        return NULL;
    }
    if (qo_url_parse(&url, p, given, &err) != QO_OK) {
        return apr_psprintf(p,
                            "QontoEndpoint %s %s cannot be used: it %s; write an absolute "
                            "https URL",
                            qo_conf_endpoint_names[i], qo_url_shown(p, given), err.detail);
    }
    if (!url.https && !url.loopback) {
        return apr_psprintf(
            p,
            "QontoEndpoint %s %s uses http: write https (http is allowed on "
            "loopback addresses only)",
            qo_conf_endpoint_names[i], given);
    }
    return NULL;
}

static const char *settle_sandbox(qo_conf_t *conf)
{
    conf->sandbox = conf->sandbox > 0;
    if (conf->sandbox && conf->staging_token == NULL) {
        return "QontoSandbox On needs QontoStagingToken: write QontoStagingToken file:PATH "
               "with the staging token that Qonto's developer portal shows";
    }
    if (!conf->sandbox && conf->staging_token != NULL) {
        return "QontoStagingToken is for the sandbox and production refuses it: write "
               "QontoSandbox On, or leave QontoStagingToken out";
    }
    return NULL;
}

static const char *settle_times(qo_conf_t *conf)
{
    conf->idle_seconds = first_number(conf->idle_seconds, 8 * 3600);
    conf->max_seconds = first_number(conf->max_seconds, 30 * 86400);
    conf->refresh_margin = first_number(conf->refresh_margin, QO_REFRESH_MARGIN);
    conf->connect_timeout_ms = first_number(conf->connect_timeout_ms, 3000);
    conf->total_timeout_ms = first_number(conf->total_timeout_ms, 10000);
    if (conf->max_seconds > QO_SESSION_MAX) {
        return "QontoSessionTimeout: the second value, the longest life of a session, can "
               "be "
               "90d at most, as Qonto's refresh tokens last no longer";
    }
    if (conf->idle_seconds > conf->max_seconds) {
        return "QontoSessionTimeout: the first value (idle) is longer than the second "
               "(longest "
               "life): write the shorter one first, such as 8h 30d";
    }
    if (conf->refresh_margin > QO_REFRESH_MARGIN_MAX) {
        return "QontoRefreshMargin: a refresh ends the old access token, so with more than "
               "30m of its hour left it would come too often: write a shorter time, such "
               "as "
               "60s";
    }
    if (conf->connect_timeout_ms > conf->total_timeout_ms) {
        return "QontoTimeout: the first value (connect) is longer than the second (total): "
               "write the shorter one first, such as 3s 10s";
    }
    return NULL;
}

/* RFC 6265 section 5.1.4 */
static bool is_below(const char *path, const char *cookie_path)
{
    size_t len = strlen(cookie_path);

    return strncmp(path, cookie_path, len) == 0 &&
           (cookie_path[len - 1] == '/' || path[len] == '/' || path[len] == '\0');
}

static const char *settle_cookies(qo_conf_t *conf, apr_pool_t *p)
{
    conf->cookie_name = first_text(conf->cookie_name, "qonto");
    conf->cookie_path = first_text(conf->cookie_path, "/");
    conf->cookie_samesite = first_text(conf->cookie_samesite, "Lax");
    if (strcmp(conf->cookie_samesite, "None") == 0 && !conf->redirect.https) {
        return "QontoCookie samesite=None works on https only: write samesite=Lax, or an "
               "https "
               "QontoRedirectURI";
    }
    if (!is_below(conf->redirect.path, conf->cookie_path)) {
        return apr_psprintf(
            p,
            "QontoCookie path=%s does not hold the callback %s, which could not "
            "see who is signed in: write path=/",
            conf->cookie_path, conf->redirect.path);
    }
    qo_cookie_spec(&conf->cookies, p, conf->cookie_name, conf->cookie_path,
                   conf->cookie_samesite, conf->redirect.path, conf->redirect.https);
    return NULL;
}

/* Of all URLs only the proxy's may hold a user and password, which no sentence repeats. */
static const char *check_proxy(const qo_conf_t *conf, apr_pool_t *p)
{
    qo_err_t err = {.detail = ""};
    const char *host = conf->proxy != NULL ? strstr(conf->proxy, "://") : NULL;
    const char *at = host != NULL ? strchr(host, '@') : NULL;
    const char *bare = conf->proxy;
    qo_url_t url;

    if (at != NULL) {
        bare = apr_pstrcat(p, apr_pstrmemdup(p, bare, (apr_size_t)(host - bare)), "://",
                           at + 1, NULL);
    }
    if (bare == NULL || qo_url_parse(&url, p, bare, &err) == QO_OK) {
        return NULL;
    }
    return apr_psprintf(p,
                        "QontoProxyURL cannot be used: it %s; write a URL such as "
                        "http://proxy.example.com:3128 or http://user:password@proxy:3128",
                        err.detail);
}

/* A store that is named by a URL is another host's as well, and a key that each host makes
 * for itself would open nothing of the others'. */
static const char *check_session_key(const qo_conf_t *conf)
{
    const char *keys[] = {conf->session_key, conf->old_session_key};

    if (conf->session_key == NULL && conf->store != NULL &&
        strstr(conf->store, "://") != NULL) {
        return "QontoSessionStore names a store that hosts share, so QontoSessionKey must "
               "be "
               "given: write QontoSessionKey file:PATH with the path of a file that is the "
               "same on all of them and holds the output of: openssl rand -hex 32";
    }

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (keys[i] != NULL && strlen(keys[i]) < QO_KEY_MIN) {
            return "QontoSessionKey is too short: write at least 32 random characters, for "
                   "example the output of: openssl rand -hex 32";
        }
    }
    return NULL;
}

static void warn(apr_array_header_t *warnings, const char *sentence)
{
    APR_ARRAY_PUSH(warnings, const char *) = sentence;
}

/* Names that documents mention and Qonto's server rejects; one makes every login fail. */
static void warn_scopes(const qo_conf_t *conf, apr_pool_t *p, apr_array_header_t *warnings)
{
    static const char *const REJECTED[] = {"request_review.read", "client_invoice.read",
                                           "client_invoices.write", "quote.read",
                                           "quote.write"};

    if (!qo_conf_scope_has(conf->scopes, "offline_access")) {
        warn(warnings,
             "QontoScopes has no offline_access: every session ends with its access "
             "token, after about an hour");
    }
    for (size_t i = 0; i < sizeof(REJECTED) / sizeof(REJECTED[0]); i++) {
        if (qo_conf_scope_has(conf->scopes, REJECTED[i])) {
            warn(warnings,
                 apr_psprintf(p,
                              "QontoScopes has %s, which Qonto is known to reject "
                              "(invalid_scope)",
                              REJECTED[i]));
        }
    }
}

/* Qonto takes a refresh token again for 60 s after its first use. */
static void warn_times(const qo_conf_t *conf, apr_array_header_t *warnings)
{
    if (conf->total_timeout_ms > QO_TIMEOUT_SAFE_MS) {
        warn(warnings,
             "QontoTimeout: with a total of more than 40s a refresh whose answer is lost "
             "may "
             "be repeated too late for Qonto, which then ends the session: write a shorter "
             "second value, such as 3s 10s");
    }
}

static const char *settle_enabled(qo_conf_t *conf, apr_pool_t *p)
{
    const char *mistake = check_client(conf);

    mistake = mistake != NULL ? mistake : settle_redirect(conf, p);
    mistake = mistake != NULL ? mistake : settle_sandbox(conf);
    for (int i = 0; mistake == NULL && i < QO_ENDPOINTS; i++) {
        mistake = settle_endpoint(conf, p, i);
    }
    mistake = mistake != NULL ? mistake : settle_times(conf);
    mistake = mistake != NULL ? mistake : settle_cookies(conf, p);
    mistake = mistake != NULL ? mistake : check_proxy(conf, p);
    return mistake != NULL ? mistake : check_session_key(conf);
}

bool qo_conf_complete(const qo_conf_t *conf)
{
    return conf->client_id != NULL && conf->client_secret != NULL &&
           conf->redirect_uri != NULL;
}

const char *qo_conf_settle(qo_conf_t *conf, apr_pool_t *p, apr_array_header_t *warnings)
{
    const char *mistake;

    if (conf->client_id == NULL && conf->client_secret == NULL &&
        conf->redirect_uri == NULL) {
        return NULL;
    }
    mistake = settle_enabled(conf, p);
    if (mistake != NULL) {
        return mistake;
    }
    conf->pkce = first_number(conf->pkce, 1);
    conf->scopes = first_text(conf->scopes, DEFAULT_SCOPES);
    conf->store = first_text(conf->store, "lmdb");
    conf->binding = apr_pstrcat(p, conf->client_id, "\n", conf->redirect_uri, NULL);
    conf->next_first = apr_pcalloc(p, sizeof(*conf->next_first));
    conf->enabled = true;
    warn_scopes(conf, p, warnings);
    warn_times(conf, warnings);
    return NULL;
}
