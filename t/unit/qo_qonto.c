/* What is said to Qonto, and what its answers come to. */
#include "qo_qonto.h"
#include "qo_crypto.h"
#include "qo_http.h"

#include "server.h"
#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_time.h>

static apr_pool_t *pool;
static server_t server;

#define NOW ((apr_time_t)1700000000 * APR_USEC_PER_SEC)
#define VERIFIER "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
#define STATE "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNO-_"
#define AWKWARD "&+%= \xc3\xa9"
#define AWKWARD_SENT "%26%2B%25%3D%20%C3%A9"
#define TOKENS                                                                             \
    "{\"access_token\":\"ory_at_A.B\",\"expires_in\":3599,\"token_type\":\"bearer\","      \
    "\"refresh_token\":\"ory_rt_C.D\"}"

static qo_conf_t configured(void)
{
    qo_conf_t conf;

    qo_conf_init(&conf);
    conf.client_id = "475670cc-e41a";
    conf.client_secret = AWKWARD;
    conf.redirect_uri = "https://app.example.com/qonto/callback";
    if (server.port != 0) {
        conf.endpoints[QO_ENDPOINT_TOKEN] =
            apr_psprintf(pool, "http://127.0.0.1:%d/oauth2/token", server.port);
        conf.endpoints[QO_ENDPOINT_REVOKE] =
            apr_psprintf(pool, "http://127.0.0.1:%d/oauth2/revoke", server.port);
    }
    const char *mistake =
        qo_conf_settle(&conf, pool, apr_array_make(pool, 2, sizeof(const char *)));
    if (mistake != NULL) {
        tap_ok(false, "%s", mistake);
    }
    return conf;
}

static qo_pending_t pending_login(void)
{
    qo_pending_t pending;

    memset(&pending, 0, sizeof pending);
    pending.created = NOW;
    pending.return_path = "/books";
    pending.scope = "offline_access organization.read";
    pending.extra = "";
    pending.redirect_uri = "https://app.example.com/qonto/callback?x=1&y=2";
    pending.verifier = VERIFIER;
    return pending;
}

/* ---- the authorization URL ---- */

#define AUTHORIZE                                                                          \
    "https://oauth.qonto.com/oauth2/auth?client_id=475670cc-e41a&redirect_uri=https%3A%2F" \
    "%2Fapp.example.com%2Fqonto%2Fcallback%3Fx%3D1%26y%3D2&response_type=code&scope="      \
    "offline_access%20organization.read&state=" STATE
#define CHALLENGE                                                                          \
    "&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method="   \
    "S256"

static void check_authorize(void)
{
    qo_conf_t conf = configured();
    qo_pending_t pending = pending_login();
    const char *url = NULL;

    tap_int(qo_qonto_authorize_url(&url, pool, &conf, &pending, STATE), QO_OK, "a URL");
    tap_is(url, AUTHORIZE CHALLENGE, "with PKCE (the pair of RFC 7636 appendix B)");
    pending.verifier = NULL;
    tap_int(qo_qonto_authorize_url(&url, pool, &conf, &pending, STATE), QO_OK, "a URL");
    tap_is(url, AUTHORIZE, "without");
    pending.extra = "organization_id=a%20b&prompt=login";
    tap_int(qo_qonto_authorize_url(&url, pool, &conf, &pending, STATE), QO_OK, "a URL");
    tap_is(url, AUTHORIZE "&organization_id=a%20b&prompt=login", "with extra parameters");
    pending.extra = "";
    conf.endpoints[QO_ENDPOINT_AUTHORIZE] = "https://oauth.example.com/auth?tenant=1";
    tap_int(qo_qonto_authorize_url(&url, pool, &conf, &pending, STATE), QO_OK, "a URL");
    tap_ok(strncmp(url, "https://oauth.example.com/auth?tenant=1&client_id=", 50) == 0 &&
               strchr(strchr(url, '?') + 1, '?') == NULL,
           "of an endpoint that has a query");
    tap_ok(strstr(url, "secret") == NULL && strstr(url, "%26%2B") == NULL,
           "the secret is not in it");
}

/* ---- what is posted ---- */

static bool answer_tokens(int fd, const char *request)
{
    (void)request;
    server_say(fd,
               "HTTP/1.1 200 OK\r\nContent-Type: application/json;charset=UTF-8\r\n\r\n");
    server_say(fd, TOKENS);
    return false;
}

static const char *body_of(const char *request)
{
    const char *at = request == NULL ? NULL : strstr(request, "\r\n\r\n");

    return at == NULL ? "" : at + 4;
}

static int count_pairs(const char *form)
{
    int pairs = *form != '\0';

    for (; *form != '\0'; form++) {
        pairs += *form == '&';
    }
    return pairs;
}

/* Exactly once in the form, encoded like this? */
static void check_pair(const char *form, const char *pair)
{
    const char *around = apr_pstrcat(pool, "&", form, "&", NULL);
    const char *name =
        apr_pstrcat(pool, "&", apr_pstrmemdup(pool, pair, strcspn(pair, "=")), "=", NULL);
    const char *at = strstr(around, name);

    tap_ok(strstr(around, apr_pstrcat(pool, "&", pair, "&", NULL)) != NULL &&
               strstr(at + 1, name) == NULL,
           "once: %s", pair);
}

static void check_exchange(bool pkce)
{
    qo_pending_t pending = pending_login();
    qo_token_t token;
    qo_err_t err = {"", 0};

    tap_ok(server_start(&server, answer_tokens), "a server");
    qo_conf_t conf = configured();
    pending.verifier = pkce ? VERIFIER : NULL;
    tap_int(qo_qonto_exchange(&token, pool, &conf, &pending, "ory_ac_x.y+/&", NOW, &err),
            QO_OK, "a code is exchanged");
    tap_is(err.detail, "", "without a notice");
    tap_is(token.access, "ory_at_A.B", "for an access token");
    tap_is(token.refresh, "ory_rt_C.D", "a refresh token");
    tap_is(token.scope, "offline_access organization.read", "the scope that was asked for");
    tap_ok(token.expires == NOW + apr_time_from_sec(3599), "and its time");

    const char *got = server_next(&server);
    const char *form = body_of(got);
    tap_ok(got != NULL && strncmp(got, "POST /oauth2/token HTTP/1.1\r\n", 29) == 0,
           "a POST");
    check_pair(form, "grant_type=authorization_code");
    check_pair(form, "code=ory_ac_x.y%2B%2F%26");
    check_pair(form,
               "redirect_uri=https%3A%2F%2Fapp.example.com%2Fqonto%2Fcallback%3Fx%3D1%26y"
               "%3D2");
    check_pair(form, "client_id=475670cc-e41a");
    check_pair(form, "client_secret=" AWKWARD_SENT);
    if (pkce) {
        check_pair(form, "code_verifier=" VERIFIER);
    }
    tap_int(count_pairs(form), pkce ? 6 : 5, "and nothing else");
    tap_ok(got != NULL && strcasestr(got, "\r\nAuthorization:") == NULL,
           "no Authorization header");
    tap_ok(got != NULL && strcasestr(got, "staging") == NULL,
           "no staging token to production");
    tap_ok(server_next(&server) == NULL, "one request");
    server_stop(&server);
}

static void check_staging(void)
{
    qo_pending_t pending = pending_login();
    qo_token_t token;

    tap_ok(server_start(&server, answer_tokens), "a server");
    qo_conf_t conf = configured();
    conf.sandbox = 1;
    conf.staging_token = "the-staging-token";
    tap_int(qo_qonto_exchange(&token, pool, &conf, &pending, "c", NOW, &(qo_err_t){"", 0}),
            QO_OK, "in the sandbox");
    const char *got = server_next(&server);
    tap_ok(got != NULL &&
               strstr(got, "\r\nX-Qonto-Staging-Token: the-staging-token\r\n") != NULL,
           "the staging token goes along");
    tap_int(qo_qonto_revoke(pool, &conf, &token, &(qo_err_t){"", 0}), QO_OK, "revoked");
    got = server_next(&server);
    tap_ok(got != NULL &&
               strstr(got, "\r\nX-Qonto-Staging-Token: the-staging-token\r\n") != NULL,
           "there too");
    server_stop(&server);
}

/* ---- two secrets ---- */

static bool answer_new_secret(int fd, const char *request)
{
    if (strstr(body_of(request), "client_secret=new&") != NULL ||
        strcmp(request + strlen(request) - 3, "new") == 0) {
        return answer_tokens(fd, request);
    }
    server_say(fd, "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\n\r\n"
                   "{\"error\":\"invalid_client\",\"error_description\":\"Client "
                   "authentication failed\"}");
    return false;
}

static void check_second_secret(void)
{
    qo_pending_t pending = pending_login();
    qo_token_t token;
    qo_err_t err = {"", 0};

    tap_ok(server_start(&server, answer_new_secret), "a server");
    qo_conf_t conf = configured();
    conf.next_secret = "new";
    tap_int(qo_qonto_exchange(&token, pool, &conf, &pending, "c", NOW, &err), QO_OK,
            "the second secret works");
    tap_ok(strstr(err.detail, "QontoClientSecret") != NULL, "which the admin is told");
    check_pair(body_of(server_next(&server)), "client_secret=" AWKWARD_SENT);
    const char *form = body_of(server_next(&server));
    check_pair(form, "client_secret=new");
    check_pair(form, "code=c");
    tap_ok(server_next(&server) == NULL, "two requests");
    err.detail[0] = '\0';
    tap_int(qo_qonto_exchange(&token, pool, &conf, &pending, "c", NOW, &err), QO_OK,
            "and works again");
    check_pair(body_of(server_next(&server)), "client_secret=new");
    tap_ok(server_next(&server) == NULL && err.detail[0] == '\0',
           "without the first, which Qonto would count as a refusal");

    conf.next_secret = "wrong";
    tap_int(qo_qonto_exchange(&token, pool, &conf, &pending, "c", NOW, &err),
            QO_E_CLIENT_REFUSED, "two wrong secrets");
    tap_ok(strstr(err.detail, "authentication failed") != NULL, "and Qonto's words");
    tap_ok(server_next(&server) && server_next(&server) && !server_next(&server),
           "each tried once");

    conf.next_secret = NULL;
    tap_int(qo_qonto_exchange(&token, pool, &conf, &pending, "c", NOW, &err),
            QO_E_CLIENT_REFUSED, "one wrong secret");
    tap_ok(server_next(&server) && !server_next(&server), "tried once");

    conf = configured();
    conf.client_secret = "new";
    conf.next_secret = "other";
    err.detail[0] = '\0';
    tap_int(qo_qonto_exchange(&token, pool, &conf, &pending, "c", NOW, &err), QO_OK,
            "a right first one");
    tap_ok(err.detail[0] == '\0' && server_next(&server) && !server_next(&server),
           "leaves the second alone");
    server_stop(&server);
}

/* ---- answers: the code tells which ---- */

static const struct {
    const char *code;
    qo_status_t want;
    const char *says; /* in the detail */
    int retry_after;
    const char *answer;
} answers[] = {
    {"grant", QO_E_GRANT_REJECTED, "invalid_grant", 0,
     "HTTP/1.1 400 B\r\nContent-Type: "
     "application/json\r\n\r\n{\"error\":\"invalid_grant\"}"},
    {"unauthorized", QO_E_CLIENT_REFUSED, "unauthorized_client", 0,
     "HTTP/1.1 400 B\r\nContent-Type: application/json\r\n\r\n"
     "{\"error\":\"unauthorized_client\"}"},
    {"page", QO_E_NOT_JSON, "QontoStagingToken", 0,
     "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>OneLogin</html>"},
    {"redirect", QO_E_NOT_JSON, "QontoStagingToken", 0,
     "HTTP/1.1 302 F\r\nLocation: https://qonto.onelogin.com/login\r\nContent-Length: "
     "0\r\n\r\n"},
    {"redirect307", QO_E_NOT_JSON, "QontoStagingToken", 0,
     "HTTP/1.1 307 F\r\nLocation: /oauth2/token\r\nContent-Length: 0\r\n\r\n"},
    {"jsonredirect", QO_E_NOT_JSON, "QontoStagingToken", 0,
     "HTTP/1.1 302 F\r\nLocation: /x\r\nContent-Type: application/json\r\n\r\n{}"},
    {"page403", QO_E_NOT_JSON, "", 0,
     "HTTP/1.1 403 F\r\nContent-Type: text/html\r\n\r\n<html>firewall</html>"},
    {"page404", QO_E_NOT_JSON, "", 0,
     "HTTP/1.1 404 F\r\nContent-Type: text/html\r\n\r\n<html>not here</html>"},
    {"busy", QO_E_BUSY, "", 120,
     "HTTP/1.1 429 T\r\nRetry-After: 120\r\nContent-Type: application/json\r\n\r\n{}"},
    {"busypage", QO_E_BUSY, "", 7,
     "HTTP/1.1 429 T\r\nRetry-After: 7\r\nContent-Type: text/html\r\n\r\n<html>slow"},
    {"error", QO_E_BUSY, "", 0,
     "HTTP/1.1 500 E\r\nContent-Type: "
     "application/json\r\n\r\n{\"error\":\"server_error\"}"},
    {"errorpage", QO_E_BUSY, "", 30,
     "HTTP/1.1 503 E\r\nRetry-After: 30\r\nContent-Type: text/html\r\n\r\n<html>down"},
    {"gateway", QO_E_BUSY, "", 0, "HTTP/1.1 502 E\r\nContent-Length: 0\r\n\r\n"},
    {"nojson", QO_E_BAD_ANSWER, "", 0,
     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"access_token\":"},
    {"notoken", QO_E_BAD_ANSWER, "", 0,
     "HTTP/1.1 200 OK\r\nContent-Type: "
     "application/json\r\n\r\n{\"token_type\":\"bearer\"}"},
    {"scope", QO_E_REQUEST_REFUSED, "invalid_scope", 0,
     "HTTP/1.1 400 B\r\nContent-Type: "
     "application/json\r\n\r\n{\"error\":\"invalid_scope\"}"},
    {"cut", QO_E_UNREACHABLE, "", 0,
     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"},
    {"silence", QO_E_UNREACHABLE, "", 0, ""},
};

#define ANSWERS (sizeof answers / sizeof *answers)

static bool answer_by_code(int fd, const char *request)
{
    for (size_t i = 0; i < ANSWERS; i++) {
        const char *at = strstr(request, "code=");
        size_t len = strlen(answers[i].code);

        if (at != NULL && strncmp(at + 5, answers[i].code, len) == 0 &&
            at[5 + len] == '&') {
            server_say(fd, answers[i].answer);
        }
    }
    return false;
}

static void check_answers(void)
{
    tap_ok(server_start(&server, answer_by_code), "a server");
    qo_conf_t conf = configured();
    conf.next_secret = "never tried here unless the client is refused";
    for (size_t i = 0; i < ANSWERS; i++) {
        qo_pending_t pending = pending_login();
        qo_token_t token;
        qo_err_t err = {"", 0};
        qo_status_t got =
            qo_qonto_exchange(&token, pool, &conf, &pending, answers[i].code, NOW, &err);
        int requests = 0;

        if (!tap_ok(got == answers[i].want && strstr(err.detail, answers[i].says) != NULL &&
                        err.retry_after == answers[i].retry_after,
                    "answered with %s", answers[i].code)) {
            printf("#   %d: %s, retry after %d\n", got, err.detail, err.retry_after);
        }
        while (server_next(&server) != NULL) {
            requests++;
        }
        tap_int(requests, answers[i].want == QO_E_CLIENT_REFUSED ? 2 : 1,
                "  asked again only when the client was refused");
    }
    server_stop(&server);
}

/* qo_error.h: err may be NULL. In a child, so that a crash is a failure and no end. */
static void check_no_err(void)
{
    static const char *const codes[] = {"grant",  "page",         "busy",
                                        "nojson", "unauthorized", "silence"};
    int status = 1;

    tap_ok(server_start(&server, answer_by_code), "a server");
    qo_conf_t conf = configured();
    conf.next_secret = "next";
    pid_t child = fork();
    if (child == 0) {
        qo_pending_t pending = pending_login();
        qo_token_t token;
        bool refused = true;

        fclose(stderr);
        for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
            refused = qo_qonto_exchange(&token, pool, &conf, &pending, codes[i], NOW,
                                        NULL) != QO_OK &&
                      refused;
        }
        _exit(refused ? 0 : 1);
    }
    waitpid(child, &status, 0);
    tap_int(status, 0, "nobody needs to want the detail");
    server_stop(&server);
}

/* ---- revocation ---- */

static bool answer_empty(int fd, const char *request)
{
    (void)request;
    server_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    return false;
}

static void check_revoke(void)
{
    qo_token_t token = {"ory_at_A.B", "ory_rt_C.D", NULL, "s", NOW};
    qo_err_t err = {"", 0};

    tap_ok(server_start(&server, answer_empty), "a server");
    qo_conf_t conf = configured();
    tap_int(qo_qonto_revoke(pool, &conf, &token, &err), QO_OK, "a grant is revoked");
    const char *got = server_next(&server);
    const char *form = body_of(got);
    tap_ok(got != NULL && strncmp(got, "POST /oauth2/revoke HTTP/1.1\r\n", 30) == 0,
           "a POST");
    check_pair(form, "client_id=475670cc-e41a");
    check_pair(form, "client_secret=" AWKWARD_SENT);
    check_pair(form, "token=ory_rt_C.D");
    tap_ok(strstr(form, "token_type_hint=") == NULL ||
               strstr(form, "token_type_hint=refresh_token") != NULL,
           "a hint, if any, fits");
    tap_ok(got != NULL && strcasestr(got, "\r\nAuthorization:") == NULL,
           "no Authorization header");
    tap_ok(server_next(&server) == NULL, "one request ends the grant");

    token.refresh = NULL;
    tap_int(qo_qonto_revoke(pool, &conf, &token, &err), QO_OK, "without a refresh token");
    form = body_of(server_next(&server));
    check_pair(form, "token=ory_at_A.B");
    tap_ok(strstr(form, "token_type_hint=refresh") == NULL, "by the access token");
    server_stop(&server);
}

static bool answer_refused_late(int fd, const char *request)
{
    usleep(1500000);
    if (strstr(request, "client_secret=next") == NULL) {
        server_say(fd, "HTTP/1.1 401 U\r\nContent-Type: application/json\r\n\r\n"
                       "{\"error\":\"invalid_client\"}");
        return false;
    }
    usleep(6000000);
    return false;
}

static void check_revoke_time(const char *next, const char *what)
{
    qo_token_t token = {"a", "r", NULL, "s", NOW};
    qo_err_t err = {"", 0};

    tap_ok(server_start(&server, answer_refused_late), "a server");
    qo_conf_t conf = configured();
    conf.client_secret = next == NULL ? "next" : "first";
    conf.next_secret = next;
    apr_time_t begun = apr_time_now();
    tap_int(qo_qonto_revoke(pool, &conf, &token, &err), QO_E_UNREACHABLE, what);
    long spent = (long)apr_time_as_msec(apr_time_now() - begun);
    if (!tap_ok(spent < QO_REVOKE_TIMEOUT_MS + 700, "a log-out waits no longer")) {
        printf("#   %ld ms\n", spent);
    }
    server_stop(&server);
}

static void check_revoke_failures(void)
{
    qo_token_t token = {"a", "r", NULL, "s", NOW};

    tap_ok(server_start(&server, answer_new_secret), "a server");
    qo_conf_t conf = configured();
    tap_int(qo_qonto_revoke(pool, &conf, &token, &(qo_err_t){"", 0}), QO_E_CLIENT_REFUSED,
            "wrong credentials");
    server_stop(&server);
    tap_int(qo_qonto_revoke(pool, &conf, &token, &(qo_err_t){"", 0}), QO_E_UNREACHABLE,
            "nobody there");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    alarm(120);
    tap_ok(qo_crypto_init() == QO_OK && qo_http_start() == QO_OK, "start");
    check_authorize();
    check_exchange(true);
    check_exchange(false);
    check_staging();
    check_second_secret();
    check_answers();
    check_no_err();
    check_revoke();
    check_revoke_time(NULL, "Qonto hangs");
    check_revoke_time("next", "Qonto refuses, then hangs");
    check_revoke_failures();
    qo_http_stop();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
