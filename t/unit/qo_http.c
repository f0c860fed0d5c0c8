/* Calls: what goes out byte by byte, and answers of servers good, bad and silent. */
#include "qo_http.h"
#include "qo_limits.h"

#include "server.h"
#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_time.h>

#include <fcntl.h>
#include <sys/stat.h>

static apr_pool_t *pool;
static server_t server;

static qo_http_request_t to(const char *path)
{
    qo_http_request_t request;

    memset(&request, 0, sizeof request);
    request.url = apr_psprintf(pool, "http://127.0.0.1:%d%s", server.port, path);
    request.connect_timeout_ms = 1000;
    request.total_timeout_ms = 5000;
    return request;
}

/* A header's value as it stands in the request, the name compared exactly; NULL without. */
static const char *header(const char *request, const char *name)
{
    const char *at = strstr(request, apr_pstrcat(pool, "\r\n", name, ": ", NULL));

    if (at == NULL) {
        return NULL;
    }
    at += strlen(name) + 4;
    return apr_pstrmemdup(pool, at, strcspn(at, "\r"));
}

static const char *body_of(const char *request)
{
    const char *at = strstr(request, "\r\n\r\n");

    return at == NULL ? "" : at + 4;
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool has_header(const char *request, const char *name)
{
    return strcasestr(request, apr_pstrcat(pool, "\r\n", name, ":", NULL)) != NULL;
}

/* ---- what goes out ---- */

static bool answer_ok(int fd, const char *request)
{
    (void)request;
    server_say(fd, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                   "Content-Length: 7\r\nConnection: keep-alive\r\n\r\n{\"a\":1}");
    return true;
}

static void check_post(void)
{
    qo_http_request_t request;
    qo_http_answer_t answer;
    char *form = apr_palloc(pool, 5001);

    memset(form, 'f', 5000);
    form[5000] = '\0';
    tap_ok(server_start(&server, answer_ok), "a server");
    request = to("/oauth2/token?x=y");
    request.form = form;
    request.staging_token = "staging-token";
    tap_int(qo_http_send(&answer, pool, &request, NULL), QO_OK, "a POST");
    const char *got = server_next(&server);
    if (!tap_ok(got != NULL, "arrives")) {
        server_stop(&server);
        return;
    }
    tap_ok(begins(got, "POST /oauth2/token?x=y HTTP/1.1\r\n"), "its first line");
    tap_is(header(got, "Host"), apr_psprintf(pool, "127.0.0.1:%d", server.port), "Host");
    tap_is(header(got, "Content-Type"), "application/x-www-form-urlencoded",
           "Content-Type");
    tap_is(header(got, "Content-Length"), "5000", "Content-Length");
    tap_is(header(got, "X-Qonto-Staging-Token"), "staging-token",
           "the staging token in its exact capitals");
    tap_is(body_of(got), form, "the body");
    tap_ok(!has_header(got, "Expect") && !has_header(got, "Authorization") &&
               !has_header(got, "Transfer-Encoding") && !has_header(got, "Upgrade") &&
               !has_header(got, "Cookie"),
           "nothing that was not asked for");
    server_stop(&server);
}

static void check_get(void)
{
    qo_http_request_t request;
    qo_http_answer_t answer;

    tap_ok(server_start(&server, answer_ok), "a server");
    request = to("/v2/organization");
    request.bearer = "ory_at_x";
    tap_int(qo_http_send(&answer, pool, &request, NULL), QO_OK, "a GET");
    tap_int(answer.status, 200, "its status");
    tap_is(answer.type, "application/json", "its type");
    tap_ok(answer.len == 7 && strcmp(answer.body, "{\"a\":1}") == 0, "its body");
    tap_int(answer.retry_after, 0, "no Retry-After");
    const char *got = server_next(&server);
    if (tap_ok(got != NULL, "arrives")) {
        tap_ok(begins(got, "GET /v2/organization HTTP/1.1\r\n"), "its first line");
        tap_is(header(got, "Authorization"), "Bearer ory_at_x", "the token");
        tap_ok(!has_header(got, "X-Qonto-Staging-Token") &&
                   !has_header(got, "Content-Type") && !has_header(got, "Content-Length") &&
                   *body_of(got) == '\0',
               "and no more");
    }
    request.bearer = NULL;
    tap_int(qo_http_send(&answer, pool, &request, NULL), QO_OK, "a second one");
    got = server_next(&server);
    tap_ok(got != NULL && !has_header(got, "Authorization"),
           "without a token none is sent");
    tap_int(server.connection, 2, "on a fresh connection, though the first was kept open");
    server_stop(&server);
}

/* ---- the environment ---- */

static void check_environment(void)
{
    static const char *const names[] = {"http_proxy",  "HTTP_PROXY", "https_proxy",
                                        "HTTPS_PROXY", "ALL_PROXY",  "all_proxy"};
    qo_http_request_t request;
    qo_http_answer_t answer;
    char home[] = "/tmp/qo_http.XXXXXX";

    tap_ok(server_start(&server, answer_ok), "a server");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        setenv(names[i], "http://127.0.0.1:1", 1);
    }
    if (mkdtemp(home) != NULL) {
        const char *netrc = apr_pstrcat(pool, home, "/.netrc", NULL);
        int fd = open(netrc, O_WRONLY | O_CREAT, 0600);
        static const char text[] = "machine 127.0.0.1 login l password p\n";

        if (fd < 0 || write(fd, text, sizeof text - 1) < 0 || close(fd) != 0) {
            tap_ok(false, "a .netrc");
        }
        setenv("HOME", home, 1);
    }
    request = to("/");
    tap_int(qo_http_send(&answer, pool, &request, NULL), QO_OK,
            "proxies of the environment are not used");
    const char *got = server_next(&server);
    tap_ok(got != NULL && !has_header(got, "Authorization"), "nor is ~/.netrc");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unsetenv(names[i]);
    }
    unlink(apr_pstrcat(pool, home, "/.netrc", NULL));
    rmdir(home);

    qo_http_request_t through = to("/a");
    through.proxy = apr_psprintf(pool, "http://127.0.0.1:%d", server.port);
    through.url = "http://qonto.invalid/a";
    tap_int(qo_http_send(&answer, pool, &through, NULL), QO_OK,
            "a proxy that was asked for");
    got = server_next(&server);
    tap_ok(got != NULL && begins(got, "GET http://qonto.invalid/a HTTP/1.1\r\n"), "is");
    server_stop(&server);
}

/* ---- what comes back: the path tells what ---- */

static bool answer_path(int fd, const char *request)
{
    static const struct {
        const char *path, *text;
    } answers[] = {
        {"/302 ", "HTTP/1.1 302 Found\r\nLocation: /200\r\nContent-Length: 0\r\n\r\n"},
        {"/307 ", "HTTP/1.1 307 T\r\nLocation: /200\r\nContent-Length: 0\r\n\r\n"},
        {"/200 ", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
        {"/204 ", "HTTP/1.1 204 No Content\r\n\r\n"},
        {"/400 ", "HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nbad"},
        {"/401 ",
         "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 2\r\n"
         "\r\nno"},
        {"/503 ", "HTTP/1.1 503 No\r\nRetry-After: 120\r\nContent-Length: 4\r\n\r\ndown"},
        {"/close ", "HTTP/1.1 200 OK\r\n\r\nuntil the end"},
        {"/chunks ", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"},
        {"/100 ",
         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
        {"/type ", "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\n"
                   "Content-Length: 1\r\n\r\nx"},
        {"/short ", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"},
        {"/halfchunk ", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"},
        {"/nothing ", ""},
        {"/halfhead ", "HTTP/1.1 200 OK\r\nContent-Ty"},
        {"/garbage ", "\x16\x03\x01\x02 this is no HTTP at all\r\n\r\n"},
        {"/old ", "just a body as HTTP/0.9 had it"},
        {"/huge ", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx"},
        {"/minus ", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nx"},
    };

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        if (strstr(request, answers[i].path) != NULL) {
            server_say(fd, answers[i].text);
        }
    }
    return false;
}

static void check_statuses(void)
{
    static const struct {
        const char *path;
        int status;
        const char *body;
        const char *type;
    } cases[] = {{"/302", 302, "", ""},
                 {"/307", 307, "", ""},
                 {"/200", 200, "ok", ""},
                 {"/204", 204, "", ""},
                 {"/400", 400, "bad", ""},
                 {"/401", 401, "no", ""},
                 {"/503", 503, "down", ""},
                 {"/close", 200, "until the end", ""},
                 {"/chunks", 200, "abcdefg", ""},
                 {"/100", 200, "ok", ""},
                 {"/type", 200, "x", "text/html; charset=utf-8"}};

    tap_ok(server_start(&server, answer_path), "a server");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qo_http_request_t request = to(cases[i].path);
        qo_http_answer_t answer;

        memset(&answer, 'Z', sizeof answer);
        request.form = i % 2 == 0 ? "a=b" : NULL;
        qo_status_t status = qo_http_send(&answer, pool, &request, NULL);
        if (!tap_int(status, QO_OK, cases[i].path)) {
            continue;
        }
        tap_int(answer.status, cases[i].status, "  status");
        tap_is(answer.body, cases[i].body, "  body");
        tap_int((long long)answer.len, (long long)strlen(cases[i].body), "  length");
        tap_is(answer.type, cases[i].type, "  type");
        tap_ok(server_next(&server) != NULL, "  one request");
    }
    tap_ok(server_next(&server) == NULL, "and no more: no redirect was followed");
    server_stop(&server);
}

static void check_broken(void)
{
    static const char *const paths[] = {"/short",   "/halfchunk", "/nothing", "/halfhead",
                                        "/garbage", "/old",       "/huge",    "/minus"};

    tap_ok(server_start(&server, answer_path), "a server");
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        qo_http_request_t request = to(paths[i]);
        qo_http_answer_t answer;
        qo_err_t err = {"", 0};

        request.form = "client_secret=topsecret";
        request.bearer = NULL;
        request.staging_token = "stagingsecret";
        qo_status_t status = qo_http_send(&answer, pool, &request, &err);
        if (!tap_ok(status == QO_E_UNREACHABLE && err.detail[0] != '\0' &&
                        strstr(err.detail, "secret") == NULL,
                    "%s is no answer, and the detail says why without secrets", paths[i])) {
            printf("#   %d: %s\n", status, err.detail);
        }
        tap_ok(server_next(&server) != NULL && server_next(&server) == NULL,
               "%s: and is not asked again", paths[i]);
    }
    server_stop(&server);
}

/* ---- size ---- */

static bool answer_sized(int fd, const char *request)
{
    static char block[1025];
    bool over = strstr(request, "/over") != NULL;
    bool chunked = strstr(request, "chunked") != NULL;
    bool endless = strstr(request, "/endless") != NULL;

    memset(block, 'b', 1024);
    server_say(fd, chunked   ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   : endless ? "HTTP/1.1 200 OK\r\n\r\n"
                   : over    ? "HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n"
                             : "HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n");
    for (int i = 0; i < (endless ? 100000 : 64); i++) {
        server_say(fd, chunked ? "400\r\n" : "");
        server_say(fd, block);
        server_say(fd, chunked ? "\r\n" : "");
    }
    if (over) {
        server_say(fd, chunked ? "1\r\nb\r\n" : "b");
    }
    server_say(fd, chunked ? "0\r\n\r\n" : "");
    return false;
}

static void check_size(void)
{
    static const struct {
        const char *path;
        bool fits;
    } cases[] = {{"/full", true},
                 {"/full-chunked", true},
                 {"/over", false},
                 {"/over-chunked", false},
                 {"/endless", false}};

    tap_ok(server_start(&server, answer_sized), "a server");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qo_http_request_t request = to(cases[i].path);
        qo_http_answer_t answer;
        qo_status_t status = qo_http_send(&answer, pool, &request, NULL);

        tap_ok(cases[i].fits ? status == QO_OK && answer.len == QO_LIMIT_ANSWER &&
                                   strlen(answer.body) == QO_LIMIT_ANSWER
                             : status == QO_E_BAD_ANSWER,
               "64 KiB are read, one byte more is not: %s", cases[i].path);
    }
    server_stop(&server);
}

/* ---- time ---- */

static bool answer_slowly(int fd, const char *request)
{
    if (strstr(request, "/drip") != NULL) {
        server_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        for (int i = 0; i < 60; i++) {
            server_say(fd, "d");
            usleep(50000);
        }
    } else if (strstr(request, "/headers") != NULL) {
        server_say(fd, "HTTP/1.1 200 OK\r\n");
        for (int i = 0; i < 60; i++) {
            server_say(fd, "X-More: yes\r\n");
            usleep(50000);
        }
    } else {
        usleep(3000000);
    }
    return false;
}

static void check_deadline(void)
{
    static const char *const paths[] = {"/hang", "/drip", "/headers"};

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        qo_http_answer_t answer;
        qo_err_t err = {"", 0};

        tap_ok(server_start(&server, answer_slowly), "a server");
        qo_http_request_t request = to(paths[i]);
        request.form = "a=b";
        request.total_timeout_ms = 700;
        apr_time_t begun = apr_time_now();
        qo_status_t status = qo_http_send(&answer, pool, &request, &err);
        long spent = (long)apr_time_as_msec(apr_time_now() - begun);
        tap_ok(status == QO_E_UNREACHABLE && err.detail[0] != '\0', "%s is given up",
               paths[i]);
        if (!tap_ok(spent >= 500 && spent < 2000, "%s: at the deadline", paths[i])) {
            printf("#   %ld ms\n", spent);
        }
        server_stop(&server);
    }
}

/* ---- resets and refusals ---- */

static bool answer_reset(int fd, const char *request)
{
    struct linger now = {1, 0};

    if (strstr(request, "/middle") != NULL) {
        server_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc");
        usleep(50000);
    }
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    return false;
}

static void check_unreachable(void)
{
    static const char *const urls[] = {"http://127.0.0.1:1/",
                                       "file:///etc/passwd",
                                       "ftp://127.0.0.1/",
                                       "gopher://127.0.0.1:1/",
                                       "http://no-such-host.invalid/",
                                       "",
                                       "nonsense"};
    qo_http_answer_t answer;

    tap_ok(server_start(&server, answer_reset), "a server");
    qo_http_request_t request = to("/reset");
    request.form = "a=b";
    tap_int(qo_http_send(&answer, pool, &request, NULL), QO_E_UNREACHABLE, "a reset");
    tap_ok(server_next(&server) != NULL && server_next(&server) == NULL,
           "and the POST is not sent again");
    request = to("/middle");
    tap_int(qo_http_send(&answer, pool, &request, NULL), QO_E_UNREACHABLE,
            "a reset in the middle");
    request.url = apr_psprintf(pool, "https://127.0.0.1:%d/", server.port);
    tap_int(qo_http_send(&answer, pool, &request, NULL), QO_E_UNREACHABLE,
            "TLS with who does not speak it");
    server_stop(&server);
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        qo_err_t err = {"", 0};

        request.url = urls[i];
        tap_ok(qo_http_send(&answer, pool, &request, &err) == QO_E_UNREACHABLE &&
                   err.detail[0] != '\0',
               "nobody at '%s'", urls[i]);
    }
}

/* ---- what must not be sent ---- */

static void check_refused(void)
{
    static const char *const bad[] = {"a\r\nX-Evil: 1", "a\nX-Evil: 1", ""};
    qo_http_answer_t answer;

    tap_ok(server_start(&server, answer_ok), "a server");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qo_http_request_t request = to("/");

        request.staging_token = bad[i];
        tap_int(qo_http_send(&answer, pool, &request, NULL), QO_E_UNREACHABLE,
                "a staging token that is no header's value");
        request.staging_token = NULL;
        request.bearer = bad[i];
        if (*bad[i] != '\0') {
            tap_int(qo_http_send(&answer, pool, &request, NULL), QO_E_UNREACHABLE,
                    "nor a bearer");
        }
    }
    qo_http_request_t request = to("/");
    request.total_timeout_ms = 0;
    tap_int(qo_http_send(&answer, pool, &request, NULL), QO_E_UNREACHABLE,
            "no time is not for ever");
    tap_ok(server_next(&server) == NULL, "nothing was sent");
    server_stop(&server);
}

/* ---- Retry-After ---- */

static bool answer_later(int fd, const char *request)
{
    static const char *const heads[] = {
        "Retry-After: 120",
        "retry-after:7",
        "Retry-After: 0",
        "Retry-After: 3600",
        "Retry-After: 3601",
        "Retry-After: 99999999999999999999",
        "Retry-After: -5",
        "Retry-After: soon",
        "Retry-After: 1.5",
        "Retry-After: 12x",
        "Retry-After:",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:51:37 GMT",
        "Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:40:00 GMT",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 2094 08:49:37 GMT",
        "Retry-After: Sun, 06 Nov 2094 08:49:37 GMT",
        "Date: yesterday\r\nRetry-After: Sun, 06 Nov 2094 08:49:37 GMT",
    };
    size_t which = (size_t)strtoul(request + strlen("GET /"), NULL, 10);

    server_say(fd, "HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n");
    server_say(fd, which < sizeof heads / sizeof *heads ? heads[which] : "X: y");
    server_say(fd, "\r\n\r\n");
    return false;
}

static void check_retry_after(void)
{
    static const int want[] = {120, 7, 0,   3600, 3600, 3600, 0, 0, 0,
                               0,   0, 120, 60,   0,    3600, 0, 0};

    tap_ok(server_start(&server, answer_later), "a server");
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        qo_http_request_t request = to(apr_psprintf(pool, "/%d", (int)i));
        qo_http_answer_t answer;
        char name[60];

        memset(&answer, 'Z', sizeof answer);
        apr_snprintf(name, sizeof name, "Retry-After, case %d", (int)i);
        if (qo_http_send(&answer, pool, &request, NULL) != QO_OK) {
            tap_ok(false, "%s", name);
        } else {
            tap_int(answer.retry_after, want[i], name);
        }
    }
    server_stop(&server);
}

/* ---- TLS: a certificate for localhost that only its own file vouches for ---- */

static bool run(const char *command)
{
    return system(command) == 0;
}

static void say_to(const char *ca, const char *host, qo_status_t want, const char *what)
{
    qo_http_request_t request = to("/");
    qo_http_answer_t answer;

    request.url = apr_psprintf(pool, "https://%s:%d/", host, server.port);
    request.ca_file = ca;
    tap_int(qo_http_send(&answer, pool, &request, NULL), want, what);
}

static pid_t tls_server(const char *dir)
{
    pid_t child = fork();

    if (child == 0) {
        int null = open("/dev/null", O_RDWR);

        alarm(30);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        execlp("openssl", "openssl", "s_server", "-www", "-accept",
               apr_psprintf(pool, "127.0.0.1:%d", server.port), "-cert",
               apr_pstrcat(pool, dir, "/cert.pem", NULL), "-key",
               apr_pstrcat(pool, dir, "/key.pem", NULL), (char *)NULL);
        _exit(127);
    }
    return child;
}

static void wait_for(int port)
{
    struct sockaddr_in place;

    memset(&place, 0, sizeof place);
    place.sin_family = AF_INET;
    place.sin_port = htons((uint16_t)port);
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < 100; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        bool there = connect(fd, (struct sockaddr *)&place, sizeof place) == 0;

        close(fd);
        if (there) {
            return;
        }
        usleep(30000);
    }
}

static void check_tls(void)
{
    char dir[] = "/tmp/qo_http.XXXXXX";

    if (!run("command -v openssl >/dev/null 2>&1") || mkdtemp(dir) == NULL) {
        tap_ok(true, "TLS # SKIP no openssl command");
        return;
    }
    bool made =
        run(apr_psprintf(pool,
                         "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
                         "-nodes -days 2 -subj /CN=test -addext "
                         "subjectAltName=DNS:localhost -keyout %s/key.pem -out "
                         "%s/cert.pem >/dev/null 2>&1",
                         dir, dir));
    if (tap_ok(made && server_start(&server, answer_ok), "a certificate and a free port")) {
        server_stop(&server);
        const char *cert = apr_pstrcat(pool, dir, "/cert.pem", NULL);
        pid_t child = tls_server(dir);

        wait_for(server.port);
        say_to(cert, "localhost", QO_OK, "the right host by the right authority");
        say_to(NULL, "localhost", QO_E_UNREACHABLE, "an authority nobody knows");
        say_to(cert, "127.0.0.1", QO_E_UNREACHABLE, "another host's certificate");
        say_to("/nonexistent.pem", "localhost", QO_E_UNREACHABLE,
               "a CA file that is missing");
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    (void)run(apr_pstrcat(pool, "rm -rf ", dir, NULL));
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    alarm(120);
    tap_int(qo_http_start(), QO_OK, "start");
    check_post();
    check_get();
    check_environment();
    check_statuses();
    check_broken();
    check_size();
    check_deadline();
    check_unreachable();
    check_refused();
    check_retry_after();
    check_tls();
    qo_http_stop();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
