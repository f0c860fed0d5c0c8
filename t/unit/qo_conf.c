/* Settings: what is merged, what is filled in, and a sentence for every mistake. */
#include "qo_conf.h"

#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stddef.h>
#include <stdlib.h>

static apr_pool_t *pool;

#define LONG_KEY "0123456789abcdef0123456789abcdef"

/* ---- unset and merged ---- */

/* Every setting by its place, so that a forgotten one is seen. */
static const size_t texts[] = {
    offsetof(qo_conf_t, client_id),       offsetof(qo_conf_t, client_secret),
    offsetof(qo_conf_t, next_secret),     offsetof(qo_conf_t, redirect_uri),
    offsetof(qo_conf_t, scopes),          offsetof(qo_conf_t, staging_token),
    offsetof(qo_conf_t, endpoints[0]),    offsetof(qo_conf_t, endpoints[1]),
    offsetof(qo_conf_t, endpoints[2]),    offsetof(qo_conf_t, endpoints[3]),
    offsetof(qo_conf_t, store),           offsetof(qo_conf_t, session_key),
    offsetof(qo_conf_t, old_session_key), offsetof(qo_conf_t, cookie_name),
    offsetof(qo_conf_t, cookie_path),     offsetof(qo_conf_t, cookie_samesite),
    offsetof(qo_conf_t, proxy),           offsetof(qo_conf_t, ca_file)};
static const size_t numbers[] = {offsetof(qo_conf_t, sandbox),
                                 offsetof(qo_conf_t, pkce),
                                 offsetof(qo_conf_t, idle_seconds),
                                 offsetof(qo_conf_t, max_seconds),
                                 offsetof(qo_conf_t, connect_timeout_ms),
                                 offsetof(qo_conf_t, total_timeout_ms)};

#define TEXTS (sizeof texts / sizeof *texts)
#define NUMBERS (sizeof numbers / sizeof *numbers)

static const char **text_at(qo_conf_t *conf, size_t i)
{
    return (const char **)(void *)((char *)conf + texts[i]);
}

static int *number_at(qo_conf_t *conf, size_t i)
{
    return (int *)(void *)((char *)conf + numbers[i]);
}

static void check_init(void)
{
    qo_conf_t conf;
    bool unset = true;

    memset(&conf, 'Z', sizeof conf);
    qo_conf_init(&conf);
    for (size_t i = 0; i < TEXTS; i++) {
        unset = unset && *text_at(&conf, i) == NULL;
    }
    for (size_t i = 0; i < NUMBERS; i++) {
        unset = unset && *number_at(&conf, i) == -1;
    }
    tap_ok(unset, "everything begins unset");
    tap_ok(!conf.enabled, "and not enabled");
}

/* The secrets of a client come together, as one directive gives both. */
static bool goes_alone(size_t i)
{
    return texts[i] != offsetof(qo_conf_t, next_secret) &&
           texts[i] != offsetof(qo_conf_t, old_session_key);
}

static void check_merge_texts(void)
{
    for (size_t i = 0; i < TEXTS; i++) {
        qo_conf_t base;
        qo_conf_t add;
        qo_conf_t out;

        qo_conf_init(&base);
        qo_conf_init(&add);
        *text_at(&base, i) = "base";
        qo_conf_merge(&out, &base, &add);
        if (goes_alone(i)) {
            tap_is(*text_at(&out, i), "base", "what add does not say is base's");
        }
        *text_at(&add, i) = "add";
        qo_conf_merge(&out, &base, &add);
        if (goes_alone(i)) {
            tap_is(*text_at(&out, i), "add", "what add says goes before");
        }
        qo_conf_init(&base);
        qo_conf_merge(&out, &base, &add);
        if (goes_alone(i)) {
            tap_is(*text_at(&out, i), "add", "also alone");
        }
        bool others = true;
        for (size_t j = 0; j < TEXTS; j++) {
            others = others && (j == i || *text_at(&out, j) == NULL);
        }
        tap_ok(others, "and no other is touched");
    }
}

static void check_merge_numbers(void)
{
    static const int values[] = {0, 1, 7};

    for (size_t i = 0; i < NUMBERS; i++) {
        for (size_t v = 0; v < 3; v++) {
            qo_conf_t base;
            qo_conf_t add;
            qo_conf_t out;

            qo_conf_init(&base);
            qo_conf_init(&add);
            *number_at(&base, i) = values[v];
            qo_conf_merge(&out, &base, &add);
            bool good = *number_at(&out, i) == values[v];
            *number_at(&add, i) = values[(v + 1) % 3];
            qo_conf_merge(&out, &base, &add);
            good = good && *number_at(&out, i) == values[(v + 1) % 3];
            tap_ok(good, "number %zu: add goes before, 0 counts as said", i);
        }
    }
}

/* A virtual host with a secret of its own must not try the server's next one, nor open
 * sessions with the server's old key. */
static void check_merge_pairs(void)
{
    qo_conf_t base;
    qo_conf_t add;
    qo_conf_t out;

    qo_conf_init(&base);
    qo_conf_init(&add);
    base.client_secret = "server";
    base.next_secret = "server next";
    base.session_key = LONG_KEY "server";
    base.old_session_key = LONG_KEY "server old";
    qo_conf_merge(&out, &base, &add);
    tap_is(out.next_secret, "server next", "an inherited secret brings its next one");
    tap_is(out.old_session_key, LONG_KEY "server old", "and a key its old one");
    add.client_secret = "vhost";
    add.session_key = LONG_KEY "vhost";
    qo_conf_merge(&out, &base, &add);
    tap_is(out.client_secret, "vhost", "a secret of its own");
    tap_is(out.next_secret, NULL, "brings none of the server's");
    tap_is(out.old_session_key, NULL, "nor does a key");
}

/* ---- settled ---- */

static qo_conf_t sample(void)
{
    qo_conf_t conf;

    qo_conf_init(&conf);
    conf.client_id = "475670cc-e41a-4baa-8eb6-4329af7d1450";
    conf.client_secret = "secret";
    conf.redirect_uri = "https://app.example.com/qonto/callback";
    return conf;
}

static apr_array_header_t *warnings;

static const char *settle(qo_conf_t *conf)
{
    warnings = apr_array_make(pool, 2, sizeof(const char *));
    return qo_conf_settle(conf, pool, warnings);
}

static bool warned(const char *about)
{
    for (int i = 0; i < warnings->nelts; i++) {
        if (strstr(((const char *const *)(const void *)warnings->elts)[i], about) != NULL) {
            return true;
        }
    }
    return false;
}

static void check_defaults(void)
{
    qo_conf_t conf = sample();

    tap_is(settle(&conf), NULL, "three directives are enough");
    tap_int(warnings->nelts, 0, "without a doubt");
    tap_ok(conf.enabled, "and enable the virtual host");
    tap_is(conf.scopes, "offline_access organization.read", "QontoScopes");
    tap_int(conf.sandbox, 0, "QontoSandbox");
    tap_is(conf.endpoints[QO_ENDPOINT_AUTHORIZE], "https://oauth.qonto.com/oauth2/auth",
           "authorize");
    tap_is(conf.endpoints[QO_ENDPOINT_TOKEN], "https://oauth.qonto.com/oauth2/token",
           "token");
    tap_is(conf.endpoints[QO_ENDPOINT_REVOKE], "https://oauth.qonto.com/oauth2/revoke",
           "revoke");
    tap_is(conf.endpoints[QO_ENDPOINT_API], "https://thirdparty.qonto.com", "api");
    tap_int(conf.pkce, 1, "QontoPKCE");
    tap_is(conf.store, "lmdb", "QontoSessionStore");
    tap_is(conf.session_key, NULL, "QontoSessionKey: made at the first start");
    tap_int(conf.idle_seconds, 8 * 3600, "QontoSessionTimeout, idle");
    tap_int(conf.max_seconds, 30 * 86400, "and max");
    tap_is(conf.cookie_name, "qonto", "QontoCookie name");
    tap_is(conf.cookie_path, "/", "path");
    tap_is(conf.cookie_samesite, "Lax", "samesite");
    tap_int(conf.connect_timeout_ms, 3000, "QontoTimeout, connect");
    tap_int(conf.total_timeout_ms, 10000, "and total");
    tap_ok(conf.proxy == NULL && conf.ca_file == NULL && conf.next_secret == NULL &&
               conf.staging_token == NULL && conf.old_session_key == NULL,
           "the rest stays unset");
    tap_is(conf.redirect.host, "app.example.com", "the redirect URI is taken apart");
    tap_is(conf.redirect.path, "/qonto/callback", "its path is the callback");
    tap_is(conf.cookies.session, "__Host-qonto", "the session cookie's name");
    tap_is(conf.cookies.callback_path, "/qonto/callback", "the binding cookies' path");
    tap_ok(conf.cookies.secure, "Secure");
    tap_ok(conf.binding != NULL && strstr(conf.binding, conf.client_id) != NULL &&
               strstr(conf.binding, conf.redirect_uri) != NULL,
           "sessions are bound to client id and redirect URI");
}

static void check_sandbox(void)
{
    qo_conf_t conf = sample();

    conf.sandbox = 1;
    conf.staging_token = "staging";
    tap_is(settle(&conf), NULL, "the sandbox with its token");
    tap_is(conf.endpoints[QO_ENDPOINT_AUTHORIZE],
           "https://oauth-sandbox.staging.qonto.co/oauth2/auth", "authorize");
    tap_is(conf.endpoints[QO_ENDPOINT_TOKEN],
           "https://oauth-sandbox.staging.qonto.co/oauth2/token", "token");
    tap_is(conf.endpoints[QO_ENDPOINT_REVOKE],
           "https://oauth-sandbox.staging.qonto.co/oauth2/revoke", "revoke");
    tap_is(conf.endpoints[QO_ENDPOINT_API], "https://thirdparty-sandbox.staging.qonto.co",
           "api");
}

static void check_kept(void)
{
    qo_conf_t conf = sample();

    conf.scopes = "offline_access payment.write";
    conf.pkce = 0;
    conf.store = "redis://127.0.0.1";
    conf.idle_seconds = 60;
    conf.max_seconds = 3600;
    conf.cookie_name = "mine";
    conf.redirect_uri = "https://app.example.com/books/callback";
    conf.cookie_path = "/books";
    conf.cookie_samesite = "None";
    conf.connect_timeout_ms = 100;
    conf.total_timeout_ms = 200;
    conf.endpoints[QO_ENDPOINT_TOKEN] = "http://127.0.0.1:8080/token";
    conf.session_key = LONG_KEY;
    conf.old_session_key = LONG_KEY "old";
    conf.next_secret = "next";
    tap_is(settle(&conf), NULL, "everything said");
    tap_ok(strcmp(conf.scopes, "offline_access payment.write") == 0 && conf.pkce == 0 &&
               strcmp(conf.store, "redis://127.0.0.1") == 0 && conf.idle_seconds == 60 &&
               conf.max_seconds == 3600 && conf.connect_timeout_ms == 100 &&
               conf.total_timeout_ms == 200,
           "is kept");
    tap_is(conf.endpoints[QO_ENDPOINT_TOKEN], "http://127.0.0.1:8080/token",
           "one endpoint is replaced");
    tap_is(conf.endpoints[QO_ENDPOINT_REVOKE], "https://oauth.qonto.com/oauth2/revoke",
           "the others stay");
    tap_is(conf.cookies.session, "__Secure-mine", "the cookie is named for its path");
    tap_is(conf.cookies.samesite, "None", "and has its SameSite");
}

static void check_http(void)
{
    static const char *const good[] = {
        "http://localhost:18920/callback", "http://127.0.0.1:8080/callback",
        "http://[::1]:8080/callback", "http://app.localhost/callback"};

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        qo_conf_t conf = sample();

        conf.redirect_uri = good[i];
        tap_is(settle(&conf), NULL, "http on loopback");
        tap_is(conf.cookies.session, "qonto", "has the plain cookie name");
        tap_ok(!conf.cookies.secure, "and no Secure");
    }
}

static void check_not_enabled(void)
{
    qo_conf_t conf;

    qo_conf_init(&conf);
    tap_is(settle(&conf), NULL, "nothing said, nothing wrong");
    tap_ok(!conf.enabled && warnings->nelts == 0, "and not enabled");
    qo_conf_init(&conf);
    conf.store = "lmdb:/var/lib/x";
    conf.session_key = LONG_KEY;
    conf.idle_seconds = 60;
    tap_is(settle(&conf), NULL, "settings of the server alone are no client's");
    tap_ok(!conf.enabled, "and enable nothing");
}

/* A mistake, and what its sentence must name. */
typedef struct {
    void (*make)(qo_conf_t *conf);
    const char *names;
    const char *what;
} mistake_t;

#define MISTAKE(name, change)                                                              \
    static void name(qo_conf_t *conf)                                                      \
    {                                                                                      \
        change;                                                                            \
    }

MISTAKE(no_id, conf->client_id = NULL)
MISTAKE(no_secret, conf->client_secret = NULL)
MISTAKE(no_redirect, conf->redirect_uri = NULL)
MISTAKE(relative_redirect, conf->redirect_uri = "/qonto/callback")
MISTAKE(http_redirect, conf->redirect_uri = "http://app.example.com/cb")
MISTAKE(fragment_redirect, conf->redirect_uri = "https://app.example.com/cb#x")
MISTAKE(user_redirect, conf->redirect_uri = "https://u@app.example.com/cb")
MISTAKE(ftp_redirect, conf->redirect_uri = "ftp://app.example.com/cb")
MISTAKE(sandbox_alone, conf->sandbox = 1)
MISTAKE(staging_alone, conf->staging_token = "t")
MISTAKE(staging_off, conf->staging_token = "t"; conf->sandbox = 0)
MISTAKE(http_token, conf->endpoints[QO_ENDPOINT_TOKEN] = "http://oauth.example.com/t")
MISTAKE(http_authorize, conf->endpoints[QO_ENDPOINT_AUTHORIZE] = "http://o.example.com/a")
MISTAKE(http_revoke, conf->endpoints[QO_ENDPOINT_REVOKE] = "http://o.example.com/r")
MISTAKE(http_api, conf->endpoints[QO_ENDPOINT_API] = "http://o.example.com")
MISTAKE(no_url, conf->endpoints[QO_ENDPOINT_TOKEN] = "oauth.example.com")
MISTAKE(file_url, conf->endpoints[QO_ENDPOINT_TOKEN] = "file:///etc/passwd")
MISTAKE(short_key, conf->session_key = "short")
MISTAKE(short_old, conf->session_key = LONG_KEY; conf->old_session_key = "short")
MISTAKE(long_max, conf->max_seconds = QO_SESSION_MAX + 1)
MISTAKE(idle_over_max, conf->idle_seconds = 7200; conf->max_seconds = 3600)
MISTAKE(connect_over_total, conf->connect_timeout_ms = 5000; conf->total_timeout_ms = 4000)
MISTAKE(bad_proxy, conf->proxy = "not a url")
MISTAKE(path_beside, conf->cookie_path = "/books")
MISTAKE(path_prefix, conf->cookie_path = "/qon")
MISTAKE(none_on_http, conf->redirect_uri = "http://localhost/cb";
        conf->cookie_samesite = "None")

static const mistake_t mistakes[] = {
    {no_id, "QontoClientId", "no client id"},
    {no_secret, "QontoClientSecret", "no secret"},
    {no_redirect, "QontoRedirectURI", "no redirect URI"},
    {relative_redirect, "QontoRedirectURI", "a relative redirect URI"},
    {http_redirect, "QontoRedirectURI", "http beyond loopback"},
    {fragment_redirect, "QontoRedirectURI", "a fragment"},
    {user_redirect, "QontoRedirectURI", "a user in the redirect URI"},
    {ftp_redirect, "QontoRedirectURI", "ftp"},
    {sandbox_alone, "QontoStagingToken", "the sandbox without its token"},
    {staging_alone, "QontoStagingToken", "the token without the sandbox"},
    {staging_off, "QontoStagingToken", "the token with production"},
    {http_token, "QontoEndpoint", "the token endpoint over http"},
    {http_authorize, "QontoEndpoint", "the authorization endpoint over http"},
    {http_revoke, "QontoEndpoint", "revocation over http"},
    {http_api, "QontoEndpoint", "the API over http"},
    {no_url, "QontoEndpoint", "an endpoint that is no URL"},
    {file_url, "QontoEndpoint", "an endpoint that is a file"},
    {short_key, "QontoSessionKey", "a short session key"},
    {short_old, "QontoSessionKey", "a short old key"},
    {long_max, "QontoSessionTimeout", "a session of more than 90 days"},
    {idle_over_max, "QontoSessionTimeout", "idle beyond max"},
    {connect_over_total, "QontoTimeout", "connect beyond total"},
    {bad_proxy, "QontoProxyURL", "a proxy that is no URL"},
    {path_beside, "QontoCookie", "a cookie path that does not hold the callback"},
    {path_prefix, "QontoCookie", "half a name of the callback's path"},
    {none_on_http, "QontoCookie", "SameSite=None without Secure"},
};

static bool sentence(const char *text)
{
    return text != NULL && strlen(text) > 20;
}

static void check_mistakes(void)
{
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        qo_conf_t conf = sample();

        mistakes[i].make(&conf);
        const char *said = settle(&conf);
        if (!tap_ok(sentence(said) && strstr(said, mistakes[i].names) != NULL, "%s",
                    mistakes[i].what)) {
            printf("#   %s\n", said != NULL ? said : "(no mistake)");
        }
    }
}

/* The sentence says what to write, and no secret. */
static void check_words(void)
{
    qo_conf_t conf = sample();

    conf.redirect_uri = "http://app.example.com/cb";
    const char *said = settle(&conf);
    tap_ok(said != NULL && strstr(said, "https") != NULL, "http is answered with https");
    conf = sample();
    conf.max_seconds = QO_SESSION_MAX + 1;
    said = settle(&conf);
    tap_ok(said != NULL && strstr(said, "90") != NULL, "a long session with 90 days");
    conf = sample();
    conf.session_key = "notlongenough";
    said = settle(&conf);
    tap_ok(said != NULL && strstr(said, "32") != NULL && strstr(said, "notlong") == NULL,
           "a short key with 32, and without the key");
    conf = sample();
    conf.store = "redis://user:hushhush@redis.example.com";
    said = settle(&conf);
    tap_ok(sentence(said) && strstr(said, "QontoSessionKey") != NULL &&
               strstr(said, "hushhush") == NULL,
           "a store of several hosts with QontoSessionKey, and without its password");
    conf = sample();
    conf.store = "redis://user:hushhush@redis.example.com";
    conf.session_key = LONG_KEY "shared";
    tap_is(settle(&conf), NULL, "with a key it is right");
    conf = sample();
    conf.staging_token = "stagingsecret";
    said = settle(&conf);
    tap_ok(said != NULL && strstr(said, "stagingsecret") == NULL &&
               strstr(said, "QontoSandbox") != NULL,
           "a staging token with QontoSandbox, and without the token");
}

static void check_proxy(void)
{
    static const char *const good[] = {"http://proxy.example.com:3128",
                                       "http://127.0.0.1:1",
                                       "http://user:password@proxy.example.com:3128"};
    static const char *const bad[] = {"http://user:hushhush@", "user:hushhush@proxy",
                                      "http://user:hushhush@proxy:99999",
                                      "http://user:hushhush@a@b:1:2"};

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        qo_conf_t conf = sample();

        conf.proxy = good[i];
        tap_is(settle(&conf), NULL, "a proxy");
        tap_is(conf.proxy, good[i], "is kept as written");
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qo_conf_t conf = sample();

        conf.proxy = bad[i];
        const char *said = settle(&conf);
        tap_ok(sentence(said) && strstr(said, "hushhush") == NULL,
               "no proxy, and no password in the sentence, %zu", i);
    }
}

static void check_complete(void)
{
    for (unsigned absent = 0; absent < 8; absent++) {
        qo_conf_t conf = sample();

        conf.client_id = absent & 1 ? NULL : conf.client_id;
        conf.client_secret = absent & 2 ? NULL : conf.client_secret;
        conf.redirect_uri = absent & 4 ? NULL : conf.redirect_uri;
        tap_int(qo_conf_complete(&conf), absent == 0, "all three make it complete");
    }
}

static void check_warnings(void)
{
    qo_conf_t conf = sample();

    conf.scopes = "organization.read";
    tap_is(settle(&conf), NULL, "without offline_access it works");
    tap_ok(warned("offline_access"), "for an hour, which is worth a warning");
    conf = sample();
    conf.scopes = "offline_access something.unheard.of";
    tap_is(settle(&conf), NULL, "the list of scopes is open");
    tap_int(warnings->nelts, 0, "and unknown ones are no doubt");
    conf = sample();
    conf.scopes = "openid";
    conf.sandbox = 1;
    (void)settle(&conf);
    tap_ok(sentence(settle(&conf)), "a doubt does not hide a mistake");
}

static void check_binding_differs(void)
{
    qo_conf_t one = sample();
    qo_conf_t two = sample();
    qo_conf_t three = sample();

    two.client_id = "another";
    three.redirect_uri = "https://other.example.com/qonto/callback";
    tap_ok(settle(&one) == NULL && settle(&two) == NULL && settle(&three) == NULL &&
               strcmp(one.binding, two.binding) != 0 &&
               strcmp(one.binding, three.binding) != 0,
           "another client or another host is another binding");
}

/* ---- values ---- */

static void check_seconds(void)
{
    static const struct {
        const char *text;
        int seconds;
        int milliseconds; /* -1: not asked */
    } good[] = {{"1", 1, 1000},       {"90", 90, 90000}, {"90s", 90, 90000},
                {"5m", 300, 300000},  {"8h", 28800, -1}, {"30d", 2592000, -1},
                {"90d", 7776000, -1}, {"3s", 3, 3000},   {"10s", 10, 10000}};
    static const char *const bad[] = {"",
                                      " ",
                                      "abc",
                                      "-1",
                                      "-1s",
                                      "+1",
                                      "0x10",
                                      "1x",
                                      "1.5",
                                      "1.5h",
                                      "1 h",
                                      " 1",
                                      "1 ",
                                      "h",
                                      "s",
                                      "1hh",
                                      "1h30",
                                      "99999999999",
                                      "99999999999d",
                                      "2147483648",
                                      "2147483647d",
                                      "999999999h",
                                      "1e3",
                                      "9223372036854775808",
                                      "18446744073709551617"};

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int value = -7;

        tap_is(qo_conf_seconds(&value, pool, good[i].text), NULL, good[i].text);
        tap_int(value, good[i].seconds, "seconds");
        if (good[i].milliseconds >= 0) {
            tap_is(qo_conf_milliseconds(&value, pool, good[i].text), NULL, good[i].text);
            tap_int(value, good[i].milliseconds, "milliseconds");
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int value = 0;

        tap_ok(sentence(qo_conf_seconds(&value, pool, bad[i])), "no seconds: '%s'", bad[i]);
        tap_ok(sentence(qo_conf_milliseconds(&value, pool, bad[i])),
               "no milliseconds: '%s'", bad[i]);
    }
    int value = 0;
    tap_is(qo_conf_milliseconds(&value, pool, "250ms"), NULL, "milliseconds themselves");
    tap_int(value, 250, "250");
}

static void check_scope(void)
{
    static const char *const good[] = {"offline_access", "organization.read", "a",
                                       "!#$%&'()*+",     "urn:x:y/z?a=b",     "~[]^_`{|}"};
    static const char *const bad[] = {"",     "a b",  " ",     "a\"b",     "a\\b",
                                      "a\tb", "a\nb", "a\x7f", "\xc3\xa9", "a\x01"};

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        tap_is(qo_conf_scope(pool, good[i]), NULL, "a scope of RFC 6749 section 3.3");
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tap_ok(sentence(qo_conf_scope(pool, bad[i])), "no scope, %zu", i);
    }
}

static void check_scope_lists(void)
{
    tap_is(qo_conf_scope_union(pool, "a b", "b c"), "a b c", "a union");
    tap_is(qo_conf_scope_union(pool, "b a", "c a b"), "b a c", "in order of first mention");
    tap_is(qo_conf_scope_union(pool, NULL, "a"), "a", "NULL is empty");
    tap_is(qo_conf_scope_union(pool, "a", NULL), "a", "on both sides");
    tap_is(qo_conf_scope_union(pool, "a.read", "a.rea a.reader"), "a.read a.rea a.reader",
           "whole names count");
    tap_is(qo_conf_scope_union(pool, "a a", "a"), "a", "each once");
    const char *none = qo_conf_scope_union(pool, NULL, NULL);
    tap_ok(none == NULL || *none == '\0', "nothing and nothing is nothing");
    tap_ok(qo_conf_scope_has("a b c", "a") && qo_conf_scope_has("a b c", "b") &&
               qo_conf_scope_has("a b c", "c"),
           "what is in the list is found");
    tap_ok(!qo_conf_scope_has("abc a.b b-c", "a") && !qo_conf_scope_has("ab", "b") &&
               !qo_conf_scope_has("", "a") && !qo_conf_scope_has("a", "a b") &&
               !qo_conf_scope_has("A", "a"),
           "a piece of a name is not, nor another case");
    tap_ok(qo_conf_scope_has("ab a", "a"), "a name behind a longer one is");
}

static void check_endpoint_names(void)
{
    static const char *const names[] = {"authorize", "token", "revoke", "api"};
    static const char *const bad[] = {"",    "tokens",     "auth",
                                      "tok", "authorize ", "userinfo"};
    qo_endpoint_t out = QO_ENDPOINTS;

    for (int i = 0; i < 4; i++) {
        tap_is(qo_conf_endpoint(&out, pool, names[i]), NULL, names[i]);
        tap_int(out, i, "is that endpoint");
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *said = qo_conf_endpoint(&out, pool, bad[i]);

        tap_ok(sentence(said) && strstr(said, "authorize") != NULL &&
                   strstr(said, "revoke") != NULL,
               "'%s' is none, and the sentence lists them", bad[i]);
    }
}

static void check_cookie(void)
{
    static const char *const bad[] = {"",
                                      "name",
                                      "=x",
                                      "name=",
                                      "path=",
                                      "samesite=",
                                      "domain=example.com",
                                      "secure=1",
                                      "name=a b",
                                      "name=a;b",
                                      "name=a=b",
                                      "name=a,b",
                                      "name=\"a\"",
                                      "name=a\r\nX",
                                      "name=\xe9",
                                      "name=a\tb",
                                      "path=books",
                                      "path=/a;b",
                                      "path=/a\nb",
                                      "path=/\x7f",
                                      "samesite=Strict",
                                      "samesite=lax;Secure",
                                      "samesite=x",
                                      "name",
                                      "name=a\\"};
    qo_conf_t conf;

    qo_conf_init(&conf);
    tap_is(qo_conf_cookie(&conf, pool, "name=mine"), NULL, "name");
    tap_is(conf.cookie_name, "mine", "is kept");
    tap_is(qo_conf_cookie(&conf, pool, "path=/books"), NULL, "path");
    tap_is(conf.cookie_path, "/books", "is kept");
    tap_is(qo_conf_cookie(&conf, pool, "samesite=None"), NULL, "samesite");
    tap_is(conf.cookie_samesite, "None", "is kept");
    tap_is(qo_conf_cookie(&conf, pool, "samesite=lax"), NULL, "in any case");
    tap_is(conf.cookie_samesite, "Lax", "as cookies write it");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tap_ok(sentence(qo_conf_cookie(&conf, pool, bad[i])), "no cookie setting, %zu", i);
    }
    tap_ok(strcmp(conf.cookie_name, "mine") == 0 &&
               strcmp(conf.cookie_path, "/books") == 0 &&
               strcmp(conf.cookie_samesite, "Lax") == 0,
           "and nothing of them is kept");
    const char *said = qo_conf_cookie(&conf, pool, "samesite=Strict");
    tap_ok(said != NULL && strstr(said, "Lax") != NULL, "Strict is answered with Lax");
}

static void check_authorize_param(void)
{
    static const char *const good[] = {"organization_id", "registration_id",
                                       "identity_type",   "prompt",
                                       "login_hint",      "ui_locales"};
    static const char *const bad[] = {
        "client_id", "redirect_uri",   "response_type",         "scope",
        "state",     "code_challenge", "code_challenge_method", ""};

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        tap_is(qo_conf_authorize_param(pool, good[i]), NULL, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tap_ok(sentence(qo_conf_authorize_param(pool, bad[i])), "never '%s'", bad[i]);
    }
    tap_ok(sentence(qo_conf_authorize_param(pool, "client_secret")),
           "the secret is not for the browser");
}

static void check_header_name(void)
{
    static const char *const bad[] = {
        "",      " ",   "X Y", "X:",  "X-\xe9", "X\r\nY", "X\tY", "(x)", "a/b",  "a@b",
        "\"x\"", "x,y", "x;y", "[x]", "{x}",    "x=y",    "x?",   "x<",  "x\\y", "\x7f"};

    tap_is(qo_conf_header_name(pool, "Authorization"), NULL, "Authorization");
    tap_is(qo_conf_header_name(pool, "X-Access_Token.1"), NULL, "a name");
    tap_is(qo_conf_header_name(pool, "!#$%&'*+-.^_`|~09azAZ"), NULL, "all of a token");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tap_ok(sentence(qo_conf_header_name(pool, bad[i])), "no header name, %zu", i);
    }
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    check_init();
    check_merge_texts();
    check_merge_numbers();
    check_merge_pairs();
    check_defaults();
    check_sandbox();
    check_kept();
    check_http();
    check_not_enabled();
    check_mistakes();
    check_words();
    check_proxy();
    check_complete();
    check_warnings();
    check_binding_differs();
    check_seconds();
    check_scope();
    check_scope_lists();
    check_endpoint_names();
    check_cookie();
    check_authorize_param();
    check_header_name();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
