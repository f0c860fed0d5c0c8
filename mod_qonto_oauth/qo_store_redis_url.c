/* The URL of a Redis store, and every sentence about mistakes in it. Built also where the
 * store itself is not, so that its absence is told by a sentence, too. */
#include "qo_store_redis_parts.h"

#include "qo_conf.h"
#include "qo_config.h"
#include "qo_limits.h"
#include "qo_url.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define DEFAULT_PORT 6379
#define DEFAULT_PREFIX "qonto"
#define DEFAULT_CONNECTIONS 8
#define LAST_DATABASE 65535
#define TIMEOUT_MIN_MS 10
#define TIMEOUT_MAX_MS 10000

#define SAMPLE "write a URL such as redis://user:password@redis.example.com:6379/0"

enum { PLAIN, SECURE, LOCAL };

const char *const qo_store_redis_schemes[QO_STORE_REDIS_SCHEMES] = {
    [PLAIN] = "redis://", [SECURE] = "rediss://", [LOCAL] = "redis+unix://"};

/* "redis:host:port" is httpd's own socache provider. */
bool qo_store_redis_is(const char *url)
{
    return strncmp(url, "redis:/", 7) == 0 || strncmp(url, "rediss:", 7) == 0 ||
           strncmp(url, "redis+unix:", 11) == 0;
}

/* ---- parameters ---- */

static const char *set_timeout(qo_store_redis_settings_t *out, apr_pool_t *p,
                               const char *value)
{
    int ms = 0;
    const char *mistake = qo_conf_milliseconds(&ms, p, value);

    if (mistake != NULL || ms < TIMEOUT_MIN_MS || ms > TIMEOUT_MAX_MS) {
        return apr_psprintf(p,
                            "timeout=%s is no time between 10ms and 10s: write one such as "
                            "timeout=500ms",
                            value);
    }
    out->redis.timeout_ms = ms;
    return NULL;
}

/* A whole number without sign, -1 if it is none or larger than `max`. */
static int read_number(const char *text, int max)
{
    long number = strlen(text) > 6 ? -1 : 0;

    for (const char *c = text; *c != '\0' && number >= 0; c++) {
        number = apr_isdigit(*c) ? number * 10 + (*c - '0') : -1;
    }
    return *text == '\0' || number > max ? -1 : (int)number;
}

static const char *set_pool(qo_store_redis_settings_t *out, apr_pool_t *p,
                            const char *value)
{
    int connections = read_number(value, QO_LIMIT_CONNECTIONS);

    if (connections < 1) {
        return apr_psprintf(p,
                            "pool=%s is no number of connections between 1 and %d: write "
                            "one such as pool=%d",
                            value, QO_LIMIT_CONNECTIONS, DEFAULT_CONNECTIONS);
    }
    out->redis.connections = connections;
    return NULL;
}

/* It becomes part of patterns, where other characters have a meaning. */
static const char *set_prefix(qo_store_redis_settings_t *out, apr_pool_t *p,
                              const char *value)
{
    size_t len = strlen(value);
    bool good = len > 0 && len <= QO_STORE_REDIS_PREFIX;

    for (const char *c = value; *c != '\0'; c++) {
        good = good && (apr_isalnum(*c) || strchr("-_.:", *c) != NULL);
    }
    if (!good) {
        return apr_psprintf(p,
                            "prefix=%s cannot begin the keys: write up to %d letters, "
                            "digits, - _ . or :",
                            value, QO_STORE_REDIS_PREFIX);
    }
    out->prefix = value;
    return NULL;
}

static const char *set_ca(qo_store_redis_settings_t *out, apr_pool_t *p, const char *value)
{
    (void)p;
    if (!out->redis.place.tls) {
        return "ca= is for TLS: write rediss:// in place of redis://, or leave it out";
    }
    if (value[0] != '/') {
        return "ca= must be the absolute path of a PEM file with the certificates that "
               "vouch for Redis";
    }
    out->redis.place.ca = value;
    return NULL;
}

static const char *set_database(qo_store_redis_settings_t *out, apr_pool_t *p,
                                const char *value)
{
    int database = read_number(value, LAST_DATABASE);

    if (database < 0) {
        return apr_psprintf(
            p, "\"%s\" is no number of a Redis database: write one such as 0", value);
    }
    out->redis.database = database;
    return NULL;
}

static const char *set_local_database(qo_store_redis_settings_t *out, apr_pool_t *p,
                                      const char *value)
{
    return out->redis.place.host == NULL
               ? set_database(out, p, value)
               : "db= is for redis+unix:// only: write the number behind the host, as in "
                 "redis://host/1";
}

static const char *set_parameter(qo_store_redis_settings_t *out, apr_pool_t *p,
                                 const qo_param_t *param)
{
    static const struct {
        const char *name;
        const char *(*set)(qo_store_redis_settings_t *, apr_pool_t *, const char *);
    } KNOWN[] = {{"timeout", set_timeout},
                 {"pool", set_pool},
                 {"prefix", set_prefix},
                 {"ca", set_ca},
                 {"db", set_local_database}};

    for (size_t i = 0; i < sizeof(KNOWN) / sizeof(KNOWN[0]); i++) {
        if (strcmp(param->name, KNOWN[i].name) == 0) {
            return KNOWN[i].set(out, p, param->value);
        }
    }
    return apr_psprintf(p,
                        "the URL's parameter \"%s\" is unknown: timeout, pool, prefix, ca "
                        "(rediss) and db (redis+unix) are known",
                        param->name);
}

static const char *read_parameters(qo_store_redis_settings_t *out, apr_pool_t *p,
                                   const char *query)
{
    apr_array_header_t *params;
    qo_err_t err = {.detail = ""};
    const char *mistake = NULL;
    const char *value;

    if (qo_url_parse_query(&params, p, query, &err) != QO_OK) {
        return "what follows the ? of the URL cannot be read: write parameters such as "
               "?timeout=500ms&prefix=qonto";
    }
    for (int i = 0; mistake == NULL && i < params->nelts; i++) {
        const void *all = params->elts;
        const qo_param_t *param = (const qo_param_t *)all + i;

        mistake =
            qo_url_param(&value, params, param->name, &err) == QO_OK
                ? set_parameter(out, p, param)
                : apr_psprintf(p, "the URL's parameter \"%s\" is given twice", param->name);
    }
    return mistake;
}

/* ---- user and password ---- */

/* user:password, or :password. The sentences name neither. */
static const char *read_user(qo_store_redis_settings_t *out, apr_pool_t *p, char *text)
{
    char *colon = strchr(text, ':');

    if (colon == NULL || colon[1] == '\0') {
        return "there is no password before the @ of the URL: write user:password@, or "
               ":password@ for Redis's default user";
    }
    *colon = '\0';
    out->redis.user = *text != '\0' ? qo_url_decode(p, text) : NULL;
    out->redis.password = qo_url_decode(p, colon + 1);
    if (out->redis.password == NULL || (*text != '\0' && out->redis.user == NULL)) {
        return "user and password of the URL must be percent-encoded: write %25 for a "
               "percent sign";
    }
    return NULL;
}

/* Cuts user:password@ off `text`. */
static const char *cut_user(char **rest, qo_store_redis_settings_t *out, apr_pool_t *p,
                            char *text)
{
    char *at = strrchr(text, '@');

    *rest = at != NULL ? at + 1 : text;
    if (at == NULL) {
        return NULL;
    }
    *at = '\0';
    return read_user(out, p, text);
}

/* ---- places ---- */

static bool has_port(const char *authority)
{
    const char *bracket = strrchr(authority, ']');

    return strchr(bracket != NULL ? bracket : authority, ':') != NULL;
}

/* host[:port], by the same rules as in all other URLs. */
static const char *read_host(qo_store_redis_settings_t *out, apr_pool_t *p,
                             const char *authority)
{
    qo_err_t err = {.detail = ""};
    qo_url_t url;
    const char *as_https = has_port(authority)
                               ? apr_pstrcat(p, "https://", authority, "/", NULL)
                               : apr_psprintf(p, "https://%s:%d/", authority, DEFAULT_PORT);

    if (strpbrk(authority, "#\\") != NULL ||
        qo_url_parse(&url, p, as_https, &err) != QO_OK) {
        return "the URL's host and port cannot be used: " SAMPLE;
    }
    out->redis.place.host = url.host;
    out->redis.place.port = url.port;
    return NULL;
}

/* [user:password@]host[:port][/database] */
static const char *read_remote(qo_store_redis_settings_t *out, apr_pool_t *p, char *text)
{
    char *slash = strchr(text, '/');
    char *authority;
    const char *mistake;

    if (slash != NULL) {
        *slash = '\0';
    }
    mistake = cut_user(&authority, out, p, text);
    if (mistake == NULL) {
        mistake = read_host(out, p, authority);
    }
    if (mistake == NULL && slash != NULL && slash[1] != '\0') {
        mistake = set_database(out, p, slash + 1);
    }
    return mistake;
}

/* [user:password@]/path */
static const char *read_local(qo_store_redis_settings_t *out, apr_pool_t *p, char *text)
{
    const struct sockaddr_un *size = NULL;
    char *slash = strchr(text, '/');
    char *rest = text;
    const char *mistake = NULL;

    if (slash != NULL && slash > text) {
        if (slash[-1] != '@') {
            return "after redis+unix:// comes the absolute path of a socket, as in "
                   "redis+unix:///run/redis/redis.sock";
        }
        slash[-1] = '\0';
        mistake = read_user(out, p, text);
        rest = slash;
    }
    if (mistake != NULL) {
        return mistake;
    }
    out->redis.place.path = qo_url_decode(p, rest);
    if (slash == NULL || out->redis.place.path == NULL || rest[1] == '\0' ||
        strlen(out->redis.place.path) >= sizeof(size->sun_path)) {
        return apr_psprintf(
            p,
            "after redis+unix:// comes the absolute path of a socket, of at "
            "most %d bytes, as in redis+unix:///run/redis/redis.sock",
            (int)sizeof(size->sun_path) - 1);
    }
    return NULL;
}

/* ---- the whole ---- */

/* Such as that of a password which is not encoded; no sentence may quote the rest then. */
static bool has_stray_at(const char *text)
{
    const char *at = strrchr(text, '@');

    return at != NULL && at > text + strcspn(text, "/?");
}

static int read_scheme(const char *url)
{
    for (int i = 0; i < QO_STORE_REDIS_SCHEMES; i++) {
        if (strncmp(url, qo_store_redis_schemes[i], strlen(qo_store_redis_schemes[i])) ==
            0) {
            return i;
        }
    }
    return -1;
}

const char *qo_store_redis_parse(qo_store_redis_settings_t *out, apr_pool_t *p,
                                 const char *url)
{
    int scheme = read_scheme(url);
    char *text;
    char *query;
    const char *mistake;

    memset(out, 0, sizeof(*out));
    out->prefix = DEFAULT_PREFIX;
    out->redis.timeout_ms = QO_REDIS_TIMEOUT_MS;
    out->redis.connections = DEFAULT_CONNECTIONS;
    if (scheme < 0) {
        return "a Redis store begins with redis://, rediss:// (TLS) or "
               "redis+unix://: " SAMPLE;
    }
    out->redis.place.tls = scheme == SECURE;
    text = apr_pstrdup(p, url + strlen(qo_store_redis_schemes[scheme]));
    if (has_stray_at(text)) {
        return "the URL has an @ behind its host: write %2F, %3F and %40 for / ? and @ in "
               "user and password, and %40 in paths";
    }
    query = strchr(text, '?');
    if (query != NULL) {
        *query++ = '\0';
    }
    mistake = scheme == LOCAL ? read_local(out, p, text) : read_remote(out, p, text);
    return mistake == NULL ? read_parameters(out, p, query) : mistake;
}

#ifdef QO_HAVE_REDIS

const char *qo_store_redis_check(apr_pool_t *p, const char *url)
{
    qo_store_redis_settings_t settings;
    qo_err_t err = {.detail = ""};
    const char *mistake = qo_store_redis_parse(&settings, p, url);

    if (mistake == NULL && settings.redis.place.ca != NULL &&
        qo_wire_check_ca(settings.redis.place.ca, &err) != QO_OK) {
        return apr_psprintf(p,
                            "no certificates can be read from ca=%s: write the path of a "
                            "PEM file with the certificates that vouch for Redis",
                            settings.redis.place.ca);
    }
    return mistake;
}

#else

const char *qo_store_redis_check(apr_pool_t *p, const char *url)
{
    (void)p;
    (void)url;
    return "this build of the module has no Redis store, as configure did not find "
           "hiredis: install it (Debian: libhiredis-dev) and build again, or write lmdb";
}

#endif
