/* URLs as admins, visitors and attackers write them. */
#include "qo_url.h"

#include "tap.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

static apr_pool_t *pool;

/* ---- absolute URLs of the configuration ---- */

static void check_parts(void)
{
    static const struct {
        const char *url, *origin, *host, *path, *query;
        int port;
        bool https, loopback;
    } cases[] = {
        {"https://app.example.com/qonto/callback", "https://app.example.com",
         "app.example.com", "/qonto/callback", NULL, 443, true, false},
        {"https://App.Example.COM:8443/Path?Q=1&r", "https://app.example.com:8443",
         "app.example.com", "/Path", "Q=1&r", 8443, true, false},
        {"HTTPS://a.example/", "https://a.example", "a.example", "/", NULL, 443, true,
         false},
        {"Http://LOCALHOST:8080", "http://localhost:8080", "localhost", "/", NULL, 8080,
         false, true},
        {"http://localhost/", "http://localhost", "localhost", "/", NULL, 80, false, true},
        {"http://localhost?a=b", "http://localhost", "localhost", "/", "a=b", 80, false,
         true},
        {"http://app.localhost:1/x", "http://app.localhost:1", "app.localhost", "/x", NULL,
         1, false, true},
        {"http://127.0.0.1:18920/callback", "http://127.0.0.1:18920", "127.0.0.1",
         "/callback", NULL, 18920, false, true},
        {"http://127.255.1.2/", "http://127.255.1.2", "127.255.1.2", "/", NULL, 80, false,
         true},
        {"http://[::1]:9/x", "http://[::1]:9", "::1", "/x", NULL, 9, false, true},
        {"https://[2001:DB8::1]/", "https://[2001:db8::1]", "2001:db8::1", "/", NULL, 443,
         true, false},
        {"https://h.example:65535/a%20b;c=d/@e:f", "https://h.example:65535", "h.example",
         "/a%20b;c=d/@e:f", NULL, 65535, true, false},
        {"https://h.example/?", "https://h.example", "h.example", "/", "", 443, true,
         false},
        {"https://xn--caf-dma.example/", "https://xn--caf-dma.example",
         "xn--caf-dma.example", "/", NULL, 443, true, false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qo_url_t got;
        qo_status_t status = qo_url_parse(&got, pool, cases[i].url, NULL);

        if (!tap_ok(status == QO_OK, "%s is a URL", cases[i].url)) {
            continue;
        }
        tap_is(got.url, cases[i].url, "  as written");
        tap_is(got.origin, cases[i].origin, "  origin");
        tap_is(got.host, cases[i].host, "  host");
        tap_is(got.path, cases[i].path, "  path");
        tap_is(got.query, cases[i].query, "  query");
        tap_int(got.port, cases[i].port, "  port");
        tap_int(got.https, cases[i].https, "  https");
        tap_int(got.loopback, cases[i].loopback, "  loopback");
    }
}

static void check_not_loopback(void)
{
    static const char *const urls[] = {"http://localhost.evil.example/",
                                       "http://evillocalhost/",
                                       "http://127.evil.example/",
                                       "http://127.0.0.1.evil.example/",
                                       "http://128.0.0.1/",
                                       "http://1.127.0.0/",
                                       "http://[::2]/",
                                       "http://[::1:1]/",
                                       "http://[fe80::1]/",
                                       "http://0.0.0.0/",
                                       "http://10.0.0.1/",
                                       "http://127.example/",
                                       "http://-localhost/",
                                       "http://localhos/"};

    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        qo_url_t got;

        tap_ok(qo_url_parse(&got, pool, urls[i], NULL) != QO_OK || !got.loopback,
               "%s is not loopback", urls[i]);
    }
}

static void check_no_url(void)
{
    static const char *const urls[] = {"",
                                       "/",
                                       "/path",
                                       "a",
                                       "https",
                                       "https:",
                                       "https:/",
                                       "https://",
                                       "https:///path",
                                       "https://?a",
                                       "https://:443/",
                                       "https:h.example",
                                       "https:/h.example",
                                       "//h.example/",
                                       "ftp://h.example/",
                                       "file:///etc/passwd",
                                       "javascript:alert(1)",
                                       "ws://h.example/",
                                       "httpss://h.example/",
                                       " https://h.example/",
                                       "https://h.example/ ",
                                       "https://user@h.example/",
                                       "https://user:secret@h.example/",
                                       "https://@h.example/",
                                       "https://good.example@evil.example/",
                                       "https://h.example/#",
                                       "https://h.example/a#b",
                                       "https://h.example#b",
                                       "https://h.example?a#b",
                                       "https://h.example./",
                                       "https://h.example.:443/",
                                       "https://./",
                                       "https://h.example:0/",
                                       "https://h.example:65536/",
                                       "https://h.example:99999999999999999999/",
                                       "https://h.example:-1/",
                                       "https://h.example:+1/",
                                       "https://h.example:12a/",
                                       "https://h.example: 1/",
                                       "https://h.example:1:2/",
                                       "https://[::1/",
                                       "https://::1/",
                                       "https://[]/",
                                       "https://[zz]/",
                                       "https://[::1]x/",
                                       "https://h.example/a b",
                                       "https://h exa.mple/",
                                       "https://h.example/\t",
                                       "https://h.example/\r\nX:y",
                                       "https://h.example/\x01",
                                       "https://h.example/\x7f",
                                       "https://h.exa\nmple/",
                                       "https://h.example/\xc3\xa9",
                                       "https://\xc3\xa9.example/",
                                       "https://h.example\\a",
                                       "https://h.example/a\\b",
                                       "https://h.example/<x>",
                                       "https://h.example/\"",
                                       "https://h.example/{x}",
                                       "https://h.example/|",
                                       "https://h.example/^",
                                       "https://h.example/`",
                                       "https://h.example/%",
                                       "https://h.example/%4",
                                       "https://h.example/%zz",
                                       "https://h.example/?%g0",
                                       "https://h%.example/"};

    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        qo_url_t got;
        qo_err_t err;

        memset(&err, 0, sizeof err);
        qo_status_t status = qo_url_parse(&got, pool, urls[i], &err);
        bool good = status == QO_E_BAD_PARAMETER && err.detail[0] != '\0' &&
                    err.detail[strlen(err.detail) - 1] != '.';
        if (!tap_ok(good, "no URL, and why: case %zu", i)) {
            printf("#   %s\n#   status %d: %s\n", apr_pescape_echo(pool, urls[i], 1),
                   status, err.detail);
        }
    }
}

/* ---- percent coding ---- */

static bool unreserved(int c)
{
    return c < 0x80 && c > 0x20 &&
           strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", c);
}

static void check_encode(void)
{
    bool right = true;

    for (int c = 1; c < 256; c++) {
        char text[2] = {(char)c, '\0'};
        const char *want = unreserved(c) ? text : apr_psprintf(pool, "%%%02X", (unsigned)c);

        right = right && strcmp(qo_url_encode(pool, text), want) == 0;
    }
    tap_ok(right, "all but unreserved characters are encoded, in upper case");
    tap_is(qo_url_encode(pool, ""), "", "nothing is encoded as nothing");
    tap_is(qo_url_encode(pool, "a b&+%=\xc3\xa9"), "a%20b%26%2B%25%3D%C3%A9",
           "a secret with everything in it");
    tap_is(qo_url_decode(pool, "a%20b%26%2B+%25%3d%C3%A9"), "a b&++%=\xc3\xa9",
           "and back, where a plus stays one");
    tap_is(qo_url_decode(pool, ""), "", "nothing");
    tap_is(qo_url_decode(pool, "a%2"), NULL, "half a code");
    tap_is(qo_url_decode(pool, "a%zz"), NULL, "none");
    tap_is(qo_url_decode(pool, "a%00b"), NULL, "a NUL");
    tap_is(qo_url_shown(pool, "redis://user:pa@ss@host/1"), "...@host/1",
           "shown without a password");
    tap_is(qo_url_shown(pool, "redis://host/1"), "redis://host/1", "whole without one");
}

static apr_array_header_t *params_of(const char *const *pairs, int count)
{
    apr_array_header_t *params = apr_array_make(pool, 4, sizeof(qo_param_t));

    for (int i = 0; i < count; i++) {
        qo_param_t *param = apr_array_push(params);

        param->name = pairs[2 * i];
        param->value = pairs[2 * i + 1];
    }
    return params;
}

static void check_query(void)
{
    static const char *const pairs[] = {"a", "1", "b c", "d&e=f", "", "", "g", ""};

    tap_is(qo_url_query(pool, params_of(pairs, 4)),
           "a=1&b%20c=d%26e%3Df&=&g=", "a query is encoded on both sides");
    tap_is(qo_url_query(pool, params_of(pairs, 0)), "", "no parameters, no query");
}

static const qo_param_t *param_at(const apr_array_header_t *params, int i)
{
    return (const qo_param_t *)(const void *)params->elts + i;
}

static void check_parse_query(void)
{
    static const struct {
        const char *query;
        int count;
        const char *pairs[6];
    } cases[] = {
        {NULL, 0, {NULL}},
        {"", 0, {NULL}},
        {"a=1&b=2&a=3", 3, {"a", "1", "b", "2", "a", "3"}},
        {"a", 1, {"a", ""}},
        {"a=", 1, {"a", ""}},
        {"a=b=c", 1, {"a", "b=c"}},
        {"a=b+c", 1, {"a", "b c"}},
        {"a=b%20c%2Bd", 1, {"a", "b c+d"}},
        {"a%3Db=%26", 1, {"a=b", "&"}},
        {"%C3%a9=%e2%82%ac", 1, {"\xc3\xa9", "\xe2\x82\xac"}},
        {"a=b;c=d", 1, {"a", "b;c=d"}},
        {"a=%2500", 1, {"a", "%00"}},
        {"a=?/:@#", 1, {"a", "?/:@#"}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        apr_array_header_t *out = NULL;
        qo_status_t status = qo_url_parse_query(&out, pool, cases[i].query, NULL);
        bool good = status == QO_OK && out != NULL && out->nelts == cases[i].count;

        for (int j = 0; good && j < cases[i].count; j++) {
            good = strcmp(param_at(out, j)->name, cases[i].pairs[2 * j]) == 0 &&
                   strcmp(param_at(out, j)->value, cases[i].pairs[2 * j + 1]) == 0;
        }
        tap_ok(good, "query %zu is read in order", i);
    }
}

static void check_bad_query(void)
{
    static const char *const bad[] = {"a=%",    "a=%4",  "a=%zz",  "a=%0g",     "%",
                                      "a=b&%4", "a=%00", "%00=a",  "a=% 1",     "a=%+1",
                                      "a=%-1",  "a=b%",  "a=%%34", "a=1&b=%00", "a=x%00y"};
    static const char *const fine[][2] = {{"a=%0a", "\n"},    {"a=%0D%0A", "\r\n"},
                                          {"a=\x01", "\x01"}, {"a=%7f", "\x7f"},
                                          {"a=%ff", "\xff"},  {"a=\t", "\t"}};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        apr_array_header_t *out = NULL;

        tap_int(qo_url_parse_query(&out, pool, bad[i], NULL), QO_E_BAD_PARAMETER,
                "bad coding or a NUL is refused");
    }
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        apr_array_header_t *out = NULL;

        tap_ok(qo_url_parse_query(&out, pool, fine[i][0], NULL) == QO_OK &&
                   out->nelts == 1 && strcmp(param_at(out, 0)->value, fine[i][1]) == 0,
               "any other byte is a value's");
    }
}

/* Ampersands alone crashed a peer; here they only must not. */
static void check_ampersands(void)
{
    static const char *const odd[] = {"&",  "&&&&", "=",    "==",  "&=&",
                                      "a&", "&a",   "a&&b", "=&=&"};
    bool harmless = true;

    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        apr_array_header_t *out = NULL;
        const char *value = "";

        if (qo_url_parse_query(&out, pool, odd[i], NULL) == QO_OK) {
            harmless = harmless && qo_url_param(&value, out, "state", NULL) == QO_OK &&
                       value == NULL;
        }
    }
    tap_ok(harmless, "queries of separators name no state");
}

static char *repeated(const char *what, int times)
{
    char *text = apr_pcalloc(pool, strlen(what) * (size_t)times + 1);

    for (int i = 0; i < times; i++) {
        memcpy(text + strlen(what) * (size_t)i, what, strlen(what));
    }
    return text;
}

static void check_query_bounds(void)
{
    apr_array_header_t *out = NULL;
    char *longest = repeated("a", QO_LIMIT_QUERY);

    tap_ok(qo_url_parse_query(&out, pool, longest, NULL) == QO_OK && out->nelts == 1,
           "the longest query is read");
    tap_int(qo_url_parse_query(&out, pool, apr_pstrcat(pool, longest, "a", NULL), NULL),
            QO_E_BAD_PARAMETER, "one more byte is refused");
    tap_int(qo_url_parse_query(&out, pool, repeated("a=b&", 20000), NULL),
            QO_E_BAD_PARAMETER, "and 80 KB");
    char *most = apr_pstrcat(pool, repeated("a=b&", QO_LIMIT_PARAMS - 1), "a=b", NULL);
    tap_ok(qo_url_parse_query(&out, pool, most, NULL) == QO_OK &&
               out->nelts == QO_LIMIT_PARAMS,
           "32 parameters are read");
    tap_int(qo_url_parse_query(&out, pool, apr_pstrcat(pool, most, "&a=b", NULL), NULL),
            QO_E_BAD_PARAMETER, "33 are refused");
}

static void check_round_trip(void)
{
    bool same = true;

    for (int c = 1; c < 256; c++) {
        char text[4] = {'x', (char)c, 'y', '\0'};
        const char *const pairs[] = {text, text};
        apr_array_header_t *out = NULL;

        same = qo_url_parse_query(&out, pool, qo_url_query(pool, params_of(pairs, 1)),
                                  NULL) == QO_OK &&
               out->nelts == 1 && strcmp(param_at(out, 0)->name, text) == 0 &&
               strcmp(param_at(out, 0)->value, text) == 0 && same;
    }
    tap_ok(same, "what was encoded is read again");
}

static void check_param(void)
{
    static const char *const pairs[] = {"code", "c", "state", "s",
                                        "code", "c", "empty", ""};
    apr_array_header_t *params = params_of(pairs, 4);
    const char *value = "before";

    tap_ok(qo_url_param(&value, params, "state", NULL) == QO_OK, "a parameter is found");
    tap_is(value, "s", "with its value");
    tap_ok(qo_url_param(&value, params, "empty", NULL) == QO_OK, "an empty one too");
    tap_is(value, "", "with its empty value");
    tap_ok(qo_url_param(&value, params, "error", NULL) == QO_OK,
           "an absent one is no error");
    tap_is(value, NULL, "it is just not there");
    tap_ok(qo_url_param(&value, params, "State", NULL) == QO_OK && value == NULL,
           "names are told by case");
    tap_int(qo_url_param(&value, params, "code", NULL), QO_E_BAD_PARAMETER,
            "one that comes twice is refused, even with one value");
}

/* ---- return addresses ---- */

static int unhex(char c)
{
    const char *at = c == '\0' ? NULL : strchr("0123456789abcdef0123456789ABCDEF", c);

    return at == NULL ? -1 : (int)(at - "0123456789abcdef0123456789ABCDEF") % 16;
}

/* A line of the corpus without its newline and its escapes. */
static void unescape(char *line)
{
    char *out = line;

    for (const char *in = line; *in != '\0' && *in != '\n'; in++) {
        if (*in != '\\') {
            *out++ = *in;
            continue;
        }
        in++;
        if (*in == 'x' && unhex(in[1]) >= 0 && unhex(in[2]) >= 0) {
            *out++ = (char)(unhex(in[1]) * 16 + unhex(in[2]));
            in += 2;
        } else {
            *out++ = *in == 't' ? '\t' : *in == 'r' ? '\r' : *in == 'n' ? '\n' : *in;
        }
    }
    *out = '\0';
}

static void check_corpus(const char *name, bool accepted)
{
    const char *top = getenv("QO_TOP_SRCDIR");
    const char *path =
        apr_pstrcat(pool, top != NULL ? top : ".", "/t/data/return/", name, NULL);
    FILE *file = fopen(path, "r");
    char line[512];
    int number = 0;
    int seen = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        qo_err_t err = {"", 0};

        number++;
        if (line[0] == '#' && !(line[1] == 'a' && line[2] == '\n')) {
            continue;
        }
        unescape(line);
        seen++;
        qo_status_t status = qo_url_check_return(line, &err);
        if (!tap_ok(status == (accepted ? QO_OK : QO_E_BAD_RETURN), "%s line %d", name,
                    number)) {
            printf("#   %s: %s\n", apr_pescape_echo(pool, line, 1), err.detail);
        }
    }
    tap_ok(seen > 40, "%s can be read", name);
    if (file != NULL) {
        fclose(file);
    }
}

static void check_return_length(void)
{
    char *longest = apr_pstrcat(pool, "/", repeated("a", QO_LIMIT_RETURN - 1), NULL);

    tap_int(qo_url_check_return(longest, NULL), QO_OK, "the longest return address");
    tap_int(qo_url_check_return(apr_pstrcat(pool, longest, "a", NULL), NULL),
            QO_E_BAD_RETURN, "one character more");
    tap_int(qo_url_check_return(apr_pstrcat(pool, longest, "?a", NULL), NULL),
            QO_E_BAD_RETURN, "the query counts");
    tap_int(qo_url_check_return(repeated("/", 100000), NULL), QO_E_BAD_RETURN,
            "a huge one");
}

/* The other way round, by brute force and a browser of twenty lines: whatever is accepted
 * stays on this site, read as it is, decoded once and decoded twice. */

static void decode(char *text)
{
    char *out = text;

    for (const char *in = text; *in != '\0'; in++) {
        if (*in == '%' && unhex(in[1]) >= 0 && unhex(in[2]) >= 0) {
            *out++ = (char)(unhex(in[1]) * 16 + unhex(in[2]));
            in += 2;
        } else {
            *out++ = *in;
        }
    }
    *out = '\0';
}

/* WHATWG URL: tab and newline go, a backslash is a slash. */
static void browse(char *text)
{
    char *out = text;

    for (const char *in = text; *in != '\0'; in++) {
        if (*in != '\t' && *in != '\r' && *in != '\n') {
            *out++ = *in;
        }
    }
    *out = '\0';
    for (out = text; *out != '\0'; out++) {
        *out = *out == '\\' ? '/' : *out;
    }
}

/* Is it another site, as it stands or with its dot segments removed (RFC 3986, 5.2.4)? */
static bool leaves(const char *path)
{
    char out[128] = "";

    if (path[0] != '/' || path[1] == '/') {
        return true;
    }
    for (const char *in = path; *in == '/';) {
        size_t len = 1 + strcspn(in + 1, "/");
        bool up = len == 3 && memcmp(in, "/..", 3) == 0;
        bool stay = len == 2 && in[1] == '.';

        if (up) {
            char *cut = strrchr(out, '/');
            if (cut != NULL) {
                *cut = '\0';
            }
        } else if (!stay) {
            strncat(out, in, len);
        }
        in += len;
        if (*in == '\0' && (up || stay)) {
            strncat(out, "/", 2);
        }
    }
    return out[1] == '/';
}

static bool stays(const char *accepted)
{
    char text[128];
    char copy[128];

    apr_cpystrn(text, accepted, sizeof text);
    text[strcspn(text, "?#")] = '\0';
    for (int round = 0; round < 3; round++) {
        apr_cpystrn(copy, text, sizeof copy);
        browse(copy);
        if (leaves(copy)) {
            return false;
        }
        decode(text);
        text[strcspn(text, "?#")] = '\0';
    }
    return true;
}

static void check_brute_force(void)
{
    static const char *const parts[] = {"/",   "\\", ".",     "%2f",   "%5C",
                                        "%2e", "a",  "%252F", "%255c", "?",
                                        "%09", "\t", "%25",   "2f",    "#"};
    enum { PARTS = sizeof parts / sizeof *parts, DEEP = 5 };
    long total = 1;
    long accepted = 0;
    long wrong = 0;

    for (int i = 0; i < DEEP; i++) {
        total *= PARTS;
    }
    for (long n = 0; n < total; n++) {
        char text[64] = "/";
        long rest = n;

        for (int i = 0; i < DEEP; i++) {
            strncat(text, parts[rest % PARTS], 8);
            rest /= PARTS;
        }
        if (qo_url_check_return(text, NULL) != QO_OK) {
            continue;
        }
        accepted++;
        if (!stays(text) && wrong++ < 5) {
            printf("#   %s\n", apr_pescape_echo(pool, text, 1));
        }
    }
    tap_int(wrong, 0, "none of 759375 accepted addresses leaves the site");
    tap_ok(accepted > 1000, "and there were some");
}

/* ---- hosts and joins ---- */

static void check_host(void)
{
    static const char *const pairs[][2] = {
        {"app.example.com", "app.example.com"},
        {"App.Example.COM:8443", "app.example.com"},
        {"app.example.com.", "app.example.com"},
        {"app.example.com.:443", "app.example.com"},
        {"localhost", "localhost"},
        {"127.0.0.1:80", "127.0.0.1"},
        {"[::1]", "::1"},
        {"[::1]:8080", "::1"},
        {"[2001:DB8::1]:1", "2001:db8::1"},
        {"", NULL},
        {":80", NULL},
        {".", NULL},
        {".:80", NULL},
        {NULL, NULL},
    };

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        tap_is(qo_url_host(pool, pairs[i][0]), pairs[i][1], "the host of a Host header");
    }
}

static void check_join(void)
{
    tap_is(qo_url_join(pool, "https://h.example/a", "b=c"), "https://h.example/a?b=c",
           "a query follows ?");
    tap_is(qo_url_join(pool, "https://h.example/a?x=y", "b=c"),
           "https://h.example/a?x=y&b=c", "or & where there is one");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    check_parts();
    check_not_loopback();
    check_no_url();
    check_encode();
    check_query();
    check_parse_query();
    check_bad_query();
    check_ampersands();
    check_query_bounds();
    check_round_trip();
    check_param();
    check_corpus("refused.txt", false);
    check_corpus("accepted.txt", true);
    check_return_length();
    check_brute_force();
    check_host();
    check_join();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
