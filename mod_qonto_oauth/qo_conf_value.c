/* What single directives may say. */
#include "qo_conf.h"

#include <apr_cstr.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

const char *const qo_conf_endpoint_names[QO_ENDPOINTS] = {
    [QO_ENDPOINT_AUTHORIZE] = "authorize",
    [QO_ENDPOINT_TOKEN] = "token",
    [QO_ENDPOINT_REVOKE] = "revoke",
    [QO_ENDPOINT_API] = "api",
};

static int unit_in_ms(const char *unit)
{
    static const struct {
        const char *name;
        int ms;
    } UNITS[] = {{"", 1000},       {"ms", 1},          {"s", 1000},
                 {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 86400 * 1000}};

    for (size_t i = 0; i < sizeof(UNITS) / sizeof(UNITS[0]); i++) {
        if (strcmp(unit, UNITS[i].name) == 0) {
            return UNITS[i].ms;
        }
    }
    return 0;
}

/* Days in milliseconds do not fit an int beyond 24, so callers that allow days use seconds.
 */
static bool parse_duration(const char *text, int64_t *ms)
{
    char *end = NULL;
    long number;
    int unit;

    if (!apr_isdigit(text[0])) {
        return false;
    }
    number = strtol(text, &end, 10);
    unit = unit_in_ms(end);
    if (unit == 0 || number > 100L * 366 * 86400) {
        return false;
    }
    *ms = (int64_t)number * unit;
    return true;
}

const char *qo_conf_seconds(int *seconds, apr_pool_t *p, const char *text)
{
    int64_t ms;

    if (!parse_duration(text, &ms) || ms < 1000 || ms / 1000 > INT32_MAX) {
        return apr_psprintf(p,
                            "\"%s\" is not a duration of a second or more: write a number "
                            "with a unit, such as 45s, 30m, 8h or 30d",
                            text);
    }
    *seconds = (int)(ms / 1000);
    return NULL;
}

const char *qo_conf_milliseconds(int *milliseconds, apr_pool_t *p, const char *text)
{
    int64_t ms;

    if (!parse_duration(text, &ms) || ms < 1 || ms > 600000) {
        return apr_psprintf(p,
                            "\"%s\" is not a time-out between 1ms and 10m: write a number "
                            "with a unit, such as 500ms or 3s",
                            text);
    }
    *milliseconds = (int)ms;
    return NULL;
}

/* RFC 6749 section 3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ) */
const char *qo_conf_scope(apr_pool_t *p, const char *scope)
{
    for (const char *c = scope; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~' || *c == '"' || *c == '\\') {
            return apr_psprintf(p,
                                "\"%s\" is not a scope name: write one as Qonto lists it, "
                                "such as organization.read, separated by spaces",
                                scope);
        }
    }
    return *scope != '\0' ? NULL : "a scope name is empty: leave it out";
}

const char *qo_conf_endpoint(qo_endpoint_t *out, apr_pool_t *p, const char *name)
{
    for (int i = 0; i < QO_ENDPOINTS; i++) {
        if (strcmp(name, qo_conf_endpoint_names[i]) == 0) {
            *out = (qo_endpoint_t)i;
            return NULL;
        }
    }
    return apr_psprintf(p, "\"%s\" is no endpoint: write authorize, token, revoke or api",
                        name);
}

static bool is_token(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (!apr_isalnum(*c) && strchr("!#$%&'*+-.^_`|~", *c) == NULL) {
            return false;
        }
    }
    return *text != '\0';
}

const char *qo_conf_header_name(apr_pool_t *p, const char *name)
{
    static const char *const TAKEN[] = {"Host",
                                        "Cookie",
                                        "Connection",
                                        "Content-Length",
                                        "Transfer-Encoding",
                                        "Set-Cookie",
                                        "Upgrade",
                                        "Proxy-Connection",
                                        "Keep-Alive",
                                        "TE",
                                        "Trailer",
                                        "Expect",
                                        "Proxy-Authorization",
                                        "X-Qonto-Signature"};

    if (!is_token(name)) {
        return apr_psprintf(p,
                            "\"%s\" cannot be the name of a request header: write a name "
                            "such as Authorization or X-Access-Token",
                            name);
    }
    for (size_t i = 0; i < sizeof(TAKEN) / sizeof(TAKEN[0]); i++) {
        if (apr_cstr_casecmp(name, TAKEN[i]) == 0) {
            return apr_psprintf(p,
                                "the header \"%s\" has a meaning of its own in HTTP: "
                                "choose another name, such as Authorization",
                                name);
        }
    }
    return NULL;
}

static const char *set_cookie_name(qo_conf_t *conf, apr_pool_t *p, const char *value)
{
    if (!is_token(value) || strncmp(value, "__", 2) == 0 || strlen(value) > 40) {
        return apr_psprintf(p,
                            "name=%s cannot be a cookie's name: write up to 40 letters, "
                            "digits, - or _, without a prefix such as __Host- (it is "
                            "added on https)",
                            value);
    }
    conf->cookie_name = value;
    return NULL;
}

static const char *set_cookie_path(qo_conf_t *conf, apr_pool_t *p, const char *value)
{
    bool good = value[0] == '/';

    for (const char *c = value; *c != '\0'; c++) {
        good = good && *c > ' ' && *c <= '~' && *c != ';' && *c != ',';
    }
    if (!good) {
        return apr_psprintf(p,
                            "path=%s cannot be a cookie's path: write one that begins with "
                            "a slash, such as path=/",
                            value);
    }
    conf->cookie_path = value;
    return NULL;
}

static const char *set_cookie_samesite(qo_conf_t *conf, apr_pool_t *p, const char *value)
{
    if (apr_cstr_casecmp(value, "lax") == 0) {
        conf->cookie_samesite = "Lax";
        return NULL;
    }
    if (apr_cstr_casecmp(value, "none") == 0) {
        conf->cookie_samesite = "None";
        return NULL;
    }
    if (apr_cstr_casecmp(value, "strict") == 0) {
        return "samesite=Strict cannot work: visitors come back from Qonto by a cross-site "
               "redirect, on which browsers withhold such a cookie; write samesite=Lax";
    }
    return apr_psprintf(p, "samesite=%s is unknown: write samesite=Lax or samesite=None",
                        value);
}

const char *qo_conf_cookie(qo_conf_t *conf, apr_pool_t *p, const char *assignment)
{
    static const struct {
        const char *key;
        const char *(*set)(qo_conf_t *, apr_pool_t *, const char *);
    } KEYS[] = {{"name=", set_cookie_name},
                {"path=", set_cookie_path},
                {"samesite=", set_cookie_samesite}};

    for (size_t i = 0; i < sizeof(KEYS) / sizeof(KEYS[0]); i++) {
        size_t len = strlen(KEYS[i].key);

        if (strncmp(assignment, KEYS[i].key, len) == 0) {
            return KEYS[i].set(conf, p, assignment + len);
        }
    }
    return apr_psprintf(
        p, "\"%s\" is no cookie setting: write name=…, path=… or samesite=…", assignment);
}

/* RFC 6749 section 4.1.1 and RFC 7636 make these ours; request and request_uri (RFC 9101)
 * would replace them all, and response_mode would move the answer out of our sight. */
const char *qo_conf_authorize_param(apr_pool_t *p, const char *name)
{
    static const char *const OURS[] = {
        "client_id",  "client_secret", "redirect_uri",   "response_type",         "scope",
        "state",      "response_mode", "code_challenge", "code_challenge_method", "request",
        "request_uri"};

    for (size_t i = 0; i < sizeof(OURS) / sizeof(OURS[0]); i++) {
        if (strcmp(name, OURS[i]) == 0) {
            return apr_psprintf(p,
                                "\"%s\" is set by the module itself and cannot be given "
                                "here (scopes: QontoScopes, client: QontoClientId, "
                                "callback: QontoRedirectURI)",
                                name);
        }
    }
    if (!is_token(name)) {
        return apr_psprintf(p,
                            "\"%s\" cannot be the name of a query parameter: write one "
                            "such as organization_id or prompt",
                            name);
    }
    return NULL;
}
