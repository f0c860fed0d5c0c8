/* Cookie headers as browsers, proxies and attackers send them. */
#include "qo_cookie.h"

#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <strings.h>

#define A "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define B "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB-_"
#define V "vvvvvvvvvvvvvvvvvvvv-_"

static apr_pool_t *pool;
static qo_cookie_spec_t spec;

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static void check_spec(void)
{
    qo_cookie_spec_t s;

    qo_cookie_spec(&s, pool, "qonto", "/", "Lax", "/qonto/callback", true);
    tap_is(s.session, "__Host-qonto", "https and path /: __Host-");
    tap_ok(s.secure && strcmp(s.path, "/") == 0 && strcmp(s.samesite, "Lax") == 0 &&
               strcmp(s.callback_path, "/qonto/callback") == 0,
           "the rest is as given");
    tap_ok(begins(s.binding, "__Secure-"),
           "a cookie with the callback's path must not say __Host-, which needs path /");
    tap_ok(!begins(s.session, s.binding), "the two kinds cannot be confused");

    qo_cookie_spec(&s, pool, "qonto", "/books", "Lax", "/qonto/callback", true);
    tap_is(s.session, "__Secure-qonto", "https and another path: __Secure-");

    qo_cookie_spec(&s, pool, "my", "/", "None", "/cb", true);
    tap_is(s.session, "__Host-my", "the name is the admin's");
    tap_is(s.samesite, "None", "and SameSite");

    qo_cookie_spec(&s, pool, "qonto", "/", "Lax", "/cb", false);
    tap_is(s.session, "qonto", "the plain name on http");
    tap_ok(!s.secure && !begins(s.binding, "__"), "where no cookie is Secure");
}

/* ---- taking ---- */

typedef struct {
    const char *header; /* "$S" and "$B" stand for our names */
    int sessions;
    int bindings;
    int junk; /* -1: any */
    bool found;
    const char *rest;
} case_t;

static const char *expand(const char *text)
{
    char *out = apr_palloc(pool, strlen(text) * 32 + 1);
    size_t at = 0;

    for (; *text != '\0'; text++) {
        const char *name = text[0] == '$' && text[1] == 'S'   ? spec.session
                           : text[0] == '$' && text[1] == 'B' ? spec.binding
                                                              : NULL;
        if (name != NULL) {
            memcpy(out + at, name, strlen(name));
            at += strlen(name);
            text++;
        } else {
            out[at++] = *text;
        }
    }
    out[at] = '\0';
    return out;
}

static const case_t cases[] = {
    {"a=1", 0, 0, 0, false, "a=1"},
    {"", 0, 0, 0, false, NULL},
    {"$S=" A, 1, 0, 0, true, NULL},
    {"$S=" A ";", 1, 0, 0, true, NULL},
    {"a=1; $S=" A "; b=2", 1, 0, 0, true, "a=1; b=2"},
    {"$S=" A "; b=2", 1, 0, 0, true, "b=2"},
    {"a=1; $S=" A, 1, 0, 0, true, "a=1"},
    {"a=1;$S=" A ";b=2", 1, 0, 0, true, NULL},
    {"$S=" A "; $S=" B, 2, 0, 0, true, NULL},
    {"$S=" A "; $S=" A, 1, 0, -1, true, NULL},
    {"a=1; $S=" A "; b=2; $S=" B "; c=3", 2, 0, 0, true, "a=1; b=2; c=3"},
    /* wrong values */
    {"$S=", 0, 0, 1, true, NULL},
    {"$S=x", 0, 0, 1, true, NULL},
    {"$S=" A "A", 0, 0, 1, true, NULL},
    {"$S=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 0, 0, 1, true, NULL},
    {"$S=\"" A "\"", 0, 0, 1, true, NULL},
    {"$S=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA+", 0, 0, 1, true, NULL},
    {"$S=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/", 0, 0, 1, true, NULL},
    {"$S=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 0, 0, 1, true, NULL},
    {"$S=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.", 0, 0, 1, true, NULL},
    {"$S=AAAAAAAAAAAAAAAAAAAAA AAAAAAAAAAAAAAAAAAAAA", 0, 0, 1, true, NULL},
    {"$S=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\xe9", 0, 0, 1, true, NULL},
    {"$S=" A ",b=2", 0, 0, 1, true, NULL},
    {"a=1; $S=junk; $S=" A "; b=2", 1, 0, 1, true, "a=1; b=2"},
    {"$S=1; $S=2; $S=3", 0, 0, 3, true, NULL},
    /* not ours */
    {"x$S=" A, 0, 0, 0, false, "x$S=" A},
    {"$Sx=" A, 0, 0, 0, false, "$Sx=" A},
    {"a=$S=" A, 0, 0, 0, false, "a=$S=" A},
    {"__host-qonto=" A, 0, 0, 0, false, "__host-qonto=" A},
    {"__HOST-QONTO=" A, 0, 0, 0, false, "__HOST-QONTO=" A},
    {"__Host-Qonto=" A, 0, 0, 0, false, "__Host-Qonto=" A},
    {"qonto=" A, 0, 0, 0, false, "qonto=" A},
    {"__Secure-qonto=" A, 0, 0, 0, false, "__Secure-qonto=" A},
    /* the binding cookies */
    {"$Babc-_9=" V, 0, 1, 0, true, NULL},
    {"a=1; $Babcdef=" V "; $Bghijkl=" V "; b=2", 0, 2, 0, true, "a=1; b=2"},
    {"$Babcdef=" V "; $S=" A, 1, 1, 0, true, NULL},
    {"$Babcdef=", 0, 0, 1, true, NULL},
    {"$Babcdef=x", 0, 0, 1, true, NULL},
    {"$Babcdef=" V "x", 0, 0, 1, true, NULL},
    {"$Babcdef=\"" V "\"", 0, 0, 1, true, NULL},
    {"$Babcdef=vvvvvvvvvvvvvvvvvvvvv=", 0, 0, 1, true, NULL},
    /* separators only */
    {";", 0, 0, 0, false, ";"},
    {" ; ; ", 0, 0, 0, false, " ; ; "},
    {"=" A, 0, 0, 0, false, "=" A},
    {"; $S=" A "; ", 1, 0, 0, true, NULL},
};

static void check_cases(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const case_t *want = &cases[i];
        qo_cookies_t got;

        memset(&got, 'Z', sizeof got);
        qo_cookie_take(&got, pool, &spec, expand(want->header));
        bool good = got.session_count == want->sessions &&
                    got.binding_count == want->bindings && got.found == want->found &&
                    (want->junk < 0 || got.junk == want->junk);
        if (!tap_ok(good, "header %zu", i)) {
            printf("#   %d sessions, %d bindings, %d junk, found %d, rest %s\n",
                   got.session_count, got.binding_count, got.junk, got.found,
                   got.rest != NULL ? got.rest : "(null)");
        }
        if (want->rest != NULL) {
            tap_is(got.rest, expand(want->rest), "and its rest");
        }
    }
}

/* Those where the exact spelling of the rest is the room's own choice. */
static void check_rest(void)
{
    qo_cookies_t got;

    qo_cookie_take(&got, pool, &spec, expand("a=1;$S=" A ";b=2"));
    tap_ok(got.rest != NULL && strstr(got.rest, "a=1") != NULL &&
               strstr(got.rest, "b=2") != NULL && strchr(got.rest, 'A') == NULL,
           "without spaces the neighbours stay as well");
    qo_cookie_take(&got, pool, &spec, expand("$S=" A ";  "));
    tap_is(got.rest, NULL, "nothing but ours leaves nothing");
    qo_cookie_take(&got, pool, &spec, expand("x=\"a b\"; $S=" A "; y=c d; z"));
    tap_is(got.rest, "x=\"a b\"; y=c d; z", "strange neighbours pass untouched");
    qo_cookie_take(&got, pool, &spec, expand("\t $S=" A "\t; a=1"));
    tap_ok(got.session_count == 1 && got.rest != NULL && strstr(got.rest, "a=1") != NULL &&
               strchr(got.rest, 'A') == NULL,
           "white space around a cookie does not count");
}

/* httpd joins two Cookie lines with a comma. What stands behind one may be a part of
 * another cookie's value: it is not believed, and does not reach the backend either. */
static void check_joined(void)
{
    static const char *const joined[] = {"a=1, $S=" A, "a=1,$S=" A "; b=2",
                                         "a=1 ,\t$S=" A ", c=3; b=2", "x=y,z, $S=" A,
                                         "a=1, $Babcdef=" V "; b=2"};

    for (size_t i = 0; i < sizeof joined / sizeof *joined; i++) {
        qo_cookies_t got;

        qo_cookie_take(&got, pool, &spec, expand(joined[i]));
        tap_ok(got.session_count == 0 && got.binding_count == 0 && got.found &&
                   got.rest != NULL && strstr(got.rest, "AAA") == NULL &&
                   strstr(got.rest, "vvv") == NULL &&
                   (strstr(joined[i], "b=2") == NULL || strstr(got.rest, "b=2") != NULL),
               "joined lines bring no session, %zu", i);
    }
}

static void check_values(void)
{
    qo_cookies_t got;

    qo_cookie_take(&got, pool, &spec,
                   expand("$S=" A "; $Babcdef=" V "; $S=junk; $S=" B "; $Babcdef=" V));
    tap_is(got.sessions[0], A, "the first session");
    tap_is(got.sessions[1], B, "the second");
    tap_is(got.bindings[0].id, "abcdef", "the id of a binding");
    tap_is(got.bindings[0].value, V, "and its value");
}

static void check_nothing(void)
{
    static const char header[] = "a=1; b=2; qontoo=3";
    qo_cookies_t got;

    memset(&got, 'Z', sizeof got);
    qo_cookie_take(&got, pool, &spec, NULL);
    tap_ok(!got.found && got.session_count == 0 && got.binding_count == 0 &&
               got.junk == 0 && got.bindings == NULL && got.rest == NULL,
           "no header, nothing");
    qo_cookie_take(&got, NULL, &spec, header);
    tap_ok(!got.found && got.rest == header && got.bindings == NULL,
           "a header without ours needs no pool");
}

static void check_many(void)
{
    char *header = apr_palloc(pool, 400000);
    size_t at = 0;
    qo_cookies_t got;
    bool different = true;

    for (int i = 0; i < 9; i++) {
        at += (size_t)apr_snprintf(header + at, 100, "%s=%.42s%d; ", spec.session, A, i);
    }
    qo_cookie_take(&got, pool, &spec, header);
    for (int i = 0; i < got.session_count; i++) {
        for (int j = 0; j < i; j++) {
            different = different && strcmp(got.sessions[i], got.sessions[j]) != 0;
        }
    }
    tap_ok(got.session_count == QO_LIMIT_SESSION_COOKIES && different && got.rest == NULL,
           "of nine sessions four are looked at and none is left");

    at = 0;
    for (int i = 0; i < 3000; i++) {
        at += (size_t)apr_snprintf(header + at, 100, "%s%06d=%s; ", spec.binding, i, V);
    }
    apr_cpystrn(header + at, "z=1", 4);
    qo_cookie_take(&got, pool, &spec, header);
    tap_ok(got.binding_count == QO_LIMIT_BINDING_COOKIES, "of 3000 bindings 180");
    tap_is(got.rest, "z=1", "and none is left");

    for (int i = 0; i < 3000; i++) {
        memcpy(header + i * 100, "a=bbbbbbbb; ", 12);
        memset(header + i * 100 + 12, 'c', 88);
    }
    header[300000] = '\0';
    qo_cookie_take(&got, pool, &spec,
                   apr_pstrcat(pool, header, "; ", spec.session, "=x", NULL));
    tap_ok(got.junk == 1 && got.rest != NULL && strcmp(got.rest, header) == 0,
           "300 KB of neighbours are kept");
}

/* ---- random headers against a second reader ---- */

static uint32_t seed = 20240501;

static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525U + 1013904223U;
    return (seed >> 8) % below;
}

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

/* How many cookies of our session's name there are, by splitting at semicolons. */
static int count_named(const char *header, const char *name)
{
    int count = 0;

    while (header != NULL && *header != '\0') {
        size_t len = strcspn(header, ";");
        const char *at = header;

        while (at < header + len && blank(*at)) {
            at++;
        }
        if (strncmp(at, name, strlen(name)) == 0 && at[strlen(name)] == '=') {
            count++;
        }
        header += len;
        header += *header == ';';
    }
    return count;
}

static char *random_header(void)
{
    static const char *const words[] = {
        "$S=",   "$S", "$B", "$Babcdef=", "=",     ";",       "; ",
        ";;",    " ",  "\t", A,           B,       V,         "a=1",
        "\"",    ",",  "%",  "\xff",      "qonto", "__Host-", "__host-qonto=",
        "abcdef"};
    char *text = apr_palloc(pool, 5200);
    size_t want = draw(4096);
    size_t at = 0;

    while (at < want) {
        if (draw(10) == 0) {
            text[at++] = (char)(1 + draw(255));
        } else {
            const char *word = expand(words[draw(sizeof words / sizeof *words)]);
            apr_cpystrn(text + at, word, 100);
            at += strlen(word);
        }
    }
    text[at] = '\0';
    return text;
}

static bool well_formed(const char *value, size_t len)
{
    return strlen(value) == len &&
           strspn(value,
                  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") ==
               len;
}

static bool sound(const qo_cookies_t *got, const char *header)
{
    bool good = got->session_count <= QO_LIMIT_SESSION_COOKIES && got->session_count >= 0 &&
                got->binding_count <= QO_LIMIT_BINDING_COOKIES && got->binding_count >= 0;

    for (int i = 0; good && i < got->session_count; i++) {
        good = well_formed(got->sessions[i], QO_SECRET_TEXT) &&
               strstr(header, got->sessions[i]) != NULL;
    }
    for (int i = 0; good && i < got->binding_count; i++) {
        good = well_formed(got->bindings[i].id, QO_BINDING_ID) &&
               well_formed(got->bindings[i].value, QO_BINDING_TEXT);
    }
    if (count_named(header, spec.session) > 0) {
        good = good && got->found;
    }
    if (!got->found) {
        return good && (got->rest == header || *header == '\0');
    }
    return good && count_named(got->rest, spec.session) == 0;
}

static void check_random_headers(void)
{
    apr_pool_t *outer = pool;
    int bad = 0;

    for (int i = 0; i < 3000; i++) {
        qo_cookies_t got;

        apr_pool_create(&pool, outer);
        char *header = random_header();
        char *alone = strdup(header); /* so that a sanitizer sees its end */
        if (alone == NULL) {
            abort();
        }
        qo_cookie_take(&got, pool, &spec, alone);
        if (!sound(&got, alone) && bad++ < 3) {
            printf("#   %s\n#   rest %s\n", alone, got.rest ? got.rest : "(null)");
        }
        apr_pool_destroy(pool);
        free(alone);
    }
    pool = outer;
    tap_int(bad, 0, "3000 random headers up to 4 KB are read soundly");
}

/* ---- setting ---- */

/* The attribute's value, "" for one without, NULL when absent. */
static const char *attribute(const char *line, const char *name)
{
    for (const char *at = strchr(line, ';'); at != NULL; at = strchr(at, ';')) {
        at += 1 + strspn(at + 1, " ");
        size_t len = strcspn(at, ";");
        size_t key = strcspn(at, "=;");

        if (key == strlen(name) && strncasecmp(at, name, key) == 0) {
            return key == len ? "" : apr_pstrmemdup(pool, at + key + 1, len - key - 1);
        }
    }
    return NULL;
}

static void check_attributes(const char *line, const char *pair, const char *path,
                             const char *samesite)
{
    tap_ok(strncmp(line, pair, strlen(pair)) == 0 && line[strlen(pair)] == ';',
           "begins with %s", pair);
    tap_is(attribute(line, "Path"), path, "Path");
    tap_is(attribute(line, "HttpOnly"), "", "HttpOnly");
    tap_is(attribute(line, "SameSite"), samesite, "SameSite");
    tap_is(attribute(line, "Secure"), spec.secure ? "" : NULL, "Secure on https only");
    tap_is(attribute(line, "Domain"), NULL, "no Domain");
    tap_ok(strpbrk(line, "\r\n") == NULL, "one line");
}

static bool over(const char *line)
{
    const char *age = attribute(line, "Max-Age");

    return age != NULL && strcmp(age, "0") == 0;
}

/* The binding cookie is Lax whatever the session cookie is: the callback is a top-level
 * navigation that comes from Qonto. */
static void check_setting(bool https)
{
    qo_cookie_spec(&spec, pool, "qonto", https ? "/" : "/books", https ? "Lax" : "None",
                   "/qonto/callback", https);
    const char *session = apr_pstrcat(pool, spec.session, "=", NULL);
    const char *binding = apr_pstrcat(pool, spec.binding, "abcdef=", NULL);
    const char *line = qo_cookie_session(pool, &spec, A);

    check_attributes(line, apr_pstrcat(pool, session, A, NULL), spec.path, spec.samesite);
    tap_ok(!over(line), "the session lives");
    line = qo_cookie_session_clear(pool, &spec);
    check_attributes(line, session, spec.path, spec.samesite);
    tap_ok(over(line), "the session is cleared");
    line = qo_cookie_binding(pool, &spec, "abcdef", V);
    check_attributes(line, apr_pstrcat(pool, binding, V, NULL), "/qonto/callback", "Lax");
    tap_ok(!over(line), "the binding lives");
    line = qo_cookie_binding_clear(pool, &spec, "abcdef");
    check_attributes(line, binding, "/qonto/callback", "Lax");
    tap_ok(over(line), "the binding is cleared");
}

/* What one function sets the other finds. */
static void check_there_and_back(void)
{
    qo_cookies_t got;
    const char *line;
    const char *other;

    qo_cookie_spec(&spec, pool, "qonto", "/", "Lax", "/cb", true);
    line = qo_cookie_session(pool, &spec, A);
    other = qo_cookie_binding(pool, &spec, "abcdef", V);
    qo_cookie_take(&got, pool, &spec,
                   apr_psprintf(pool, "%.*s; %.*s", (int)strcspn(line, ";"), line,
                                (int)strcspn(other, ";"), other));
    tap_ok(got.session_count == 1 && got.binding_count == 1 && got.junk == 0 &&
               got.rest == NULL,
           "what was set is found");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    check_spec();
    qo_cookie_spec(&spec, pool, "qonto", "/", "Lax", "/qonto/callback", true);
    check_cases();
    check_rest();
    check_joined();
    check_values();
    check_nothing();
    check_many();
    check_random_headers();
    check_setting(true);
    check_setting(false);
    check_there_and_back();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
