/* Header names in every spelling, and the two values that are rewritten. */
#include "qo_header.h"

#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <ctype.h>
#include <strings.h>

static apr_pool_t *pool;

static apr_array_header_t *names_of(const char *a, const char *b)
{
    apr_array_header_t *names = apr_array_make(pool, 2, sizeof(const char *));

    *(const char **)apr_array_push(names) = a;
    *(const char **)apr_array_push(names) = b;
    return names;
}

static void check_same(void)
{
    static const char *const same[][2] = {{"X-A", "x_a"},
                                          {"X-A", "X.A"},
                                          {"x.a", "X_A"},
                                          {"", ""},
                                          {"X A", "x-a"},
                                          {"X\xe9"
                                           "A",
                                           "X-A"},
                                          {"-", "_"},
                                          {"Authorization", "AUTHORIZATION"},
                                          {"A1", "a1"}};
    static const char *const other[][2] = {
        {"X-A", "XA"},  {"X-A", "X--A"}, {"X-A", "X-A-"}, {"X-A", "-X-A"},
        {"X-A", "X-B"}, {"X-A", ""},     {"X-1", "X-2"},  {"X-A", "X-AA"},
        {"a", "1"},     {"X-A", "X1A"},  {"_", "a"},      {"@", "`a"}};

    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        tap_ok(qo_header_same(same[i][0], same[i][1]) &&
                   qo_header_same(same[i][1], same[i][0]),
               "the same once folded, %zu", i);
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        tap_ok(!qo_header_same(other[i][0], other[i][1]) &&
                   !qo_header_same(other[i][1], other[i][0]),
               "not the same, %zu", i);
    }
}

/* All pairs of bytes, against the rule said once more. */
static void check_folding(void)
{
    int wrong = 0;

    for (int a = 1; a < 256; a++) {
        for (int b = 1; b < 256; b++) {
            char left[] = {'x', (char)a, '\0'};
            char right[] = {'X', (char)b, '\0'};
            bool plain_a = a < 128 && isalnum(a);
            bool plain_b = b < 128 && isalnum(b);
            bool want = plain_a && plain_b ? tolower(a) == tolower(b) : plain_a == plain_b;

            wrong += qo_header_same(left, right) != want;
        }
    }
    tap_int(wrong, 0, "letters lower, everything but letters and digits the same");
}

static char *spelling(const char *name, unsigned which)
{
    static const char separators[] = "-_. ~!\xb7";
    char *text = apr_pstrdup(pool, name);

    for (size_t i = 0; text[i] != '\0'; i++) {
        which = which * 1103515245U + 12345U;
        if (text[i] == '-') {
            text[i] = separators[(which >> 16) % (sizeof separators - 1)];
        } else if ((which >> 16 & 1) != 0) {
            text[i] = (char)toupper((unsigned char)text[i]);
        }
    }
    return text;
}

/* Names of HTTP have no case (HTTP/2 lowers them all), so "exactly" is about the dashes. */
static void check_ours(void)
{
    static const char *const ours[] = {"X-Qonto-User",          "x-qonto-user",
                                       "X_QONTO_USER",          "X.Qonto.User",
                                       "X-Qonto_Scope",         "Qonto-Session",
                                       "QONTO_SESSION",         "qonto.error",
                                       "X-Qonto-Staging-Token", "X-Qonto-Organization-Id",
                                       "X-Qonto-a-b-c",         "x_qonto_signature",
                                       "X_Qonto_Signature",     "X-Qonto_Signature",
                                       "X-Qonto.Signature",     "X-Qonto-Signature-",
                                       "X-Qonto-Signature2"};
    static const char *const not_ours[] = {"X-Qonto-Signature",
                                           "x-qonto-signature",
                                           "X-QONTO-SIGNATURE",
                                           "Authorization",
                                           "Cookie",
                                           "XQonto-User",
                                           "X-Qontox",
                                           "Qontox-User",
                                           "My-Qonto-User",
                                           "X-X-Qonto-User",
                                           "",
                                           "X",
                                           "X-",
                                           "Q",
                                           "Host",
                                           "HTTP-Qonto-User",
                                           "X--Qonto-User"};

    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        tap_ok(qo_header_ours(ours[i], NULL), "ours: %s", ours[i]);
    }
    for (size_t i = 0; i < sizeof not_ours / sizeof *not_ours; i++) {
        tap_ok(!qo_header_ours(not_ours[i], NULL), "not ours: %s", not_ours[i]);
    }
}

static void check_spellings(void)
{
    static const char *const names[] = {"x-qonto-user", "x-qonto-expires", "qonto-session"};
    apr_array_header_t *chosen = names_of("X-Access-Token", "App-Bearer");
    int missed = 0;

    for (unsigned i = 0; i < 300; i++) {
        missed += !qo_header_ours(spelling(names[i % 3], i * 7919), NULL);
        missed += !qo_header_ours(spelling("x-access-token", i * 7919), chosen);
        missed += !qo_header_ours(spelling("app-bearer", i * 104729), chosen);
    }
    tap_int(missed, 0, "900 spellings of ours are told");
    tap_ok(!qo_header_ours("X-Access-Token", NULL),
           "a chosen name is ours only where chosen");
    tap_ok(!qo_header_ours("X-Access-Tokens", chosen) &&
               !qo_header_ours("Access-Token", chosen),
           "and only in full");
    tap_ok(qo_header_ours("X-Qonto-User", chosen), "beside those that always are");
    tap_ok(!qo_header_ours("X-Qonto-Signature", chosen), "and the webhooks' own stays");
}

/* ---- Connection ---- */

/* Its elements joined with "|", for comparing lists whatever their white space. */
static const char *elements(const char *value)
{
    char *out = apr_palloc(pool, value == NULL ? 1 : strlen(value) + 2);
    size_t at = 0;

    while (value != NULL && *value != '\0') {
        size_t len = strcspn(value, ",");
        const char *from = value + strspn(value, " \t,");
        const char *to = value + len;

        while (to > from && (to[-1] == ' ' || to[-1] == '\t')) {
            to--;
        }
        if (from < to) {
            memcpy(out + at, from, (size_t)(to - from));
            at += (size_t)(to - from);
            out[at++] = '|';
        }
        value += len;
        value += *value == ',';
    }
    out[at] = '\0';
    return out;
}

static void check_connection(void)
{
    static const char *const cases[][2] = {
        {"close, X-Qonto-User", "close|"},
        {"X-Qonto-User, close", "close|"},
        {"a, x_qonto_user ,b", "a|b|"},
        {"a,QONTO.SESSION,b,X-Qonto-Scope", "a|b|"},
        {"keep-alive,\tX-Access-Token\t, upgrade", "keep-alive|upgrade|"},
        {"x-access_token, Upgrade", "Upgrade|"},
        {",,X-Qonto-User,,close,,", "close|"},
        {"x_qonto_signature, x-qonto-signature", "x-qonto-signature|"},
        /* RFC 9110 section 7.6.1: names are tokens; a proxy may still read one in these */
        {"close, \"X-Qonto-User\"", "close|"},
        {"X-Qonto-User;a, close", "close|"},
        {"a b, close", "close|"},
        {"x\x01y, close", "close|"},
        {"close, X-Qonto-User\xa0", "close|"},
    };
    static const char *const nothing[] = {"X-Qonto-User",   " x.qonto.user ",
                                          "X-Qonto-User,",  "X-Qonto-A, X-Qonto-B",
                                          "X-Access-Token", ",X-Qonto-A,"};
    static const char *const kept[] = {
        "close",           "keep-alive, Upgrade", "", ",", "a,,b", "X-Qonto-Signature",
        "My-X-Qonto-User", "Authorization"};
    apr_array_header_t *chosen = names_of("X-Access-Token", "X-Other");

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tap_is(elements(qo_header_connection(pool, cases[i][0], chosen)), cases[i][1],
               "ours are taken out of Connection");
    }
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
        tap_ok(qo_header_connection(pool, nothing[i], chosen) == NULL,
               "nothing is left of %s", nothing[i]);
    }
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        tap_ok(qo_header_connection(pool, kept[i], chosen) == kept[i],
               "'%s' itself is returned", kept[i]);
    }
}

static void check_long_connection(void)
{
    char *value = apr_palloc(pool, 90000);
    size_t at = 0;

    for (int i = 0; i < 2000; i++) {
        at += (size_t)apr_snprintf(value + at, 40, "x-qonto-%d, keep%d,", i, i);
    }
    const char *left = elements(qo_header_connection(pool, value, NULL));
    tap_ok(strstr(left, "qonto") == NULL && strstr(left, "keep0|") != NULL &&
               strstr(left, "keep1999|") != NULL,
           "4000 names are sorted out");
}

/* ---- Cache-Control ---- */

static bool has(const char *value, const char *element)
{
    char *list = apr_pstrdup(pool, elements(value));
    char *state = NULL;

    for (char *at = apr_strtok(list, "|", &state); at != NULL;
         at = apr_strtok(NULL, "|", &state)) {
        if (strcasecmp(at, element) == 0) {
            return true;
        }
    }
    return false;
}

static void check_private(void)
{
    static const char *const kept[] = {
        "no-store",           "private",           "private, max-age=60",
        "No-Store, no-cache", "max-age=0,PRIVATE", "max-age=0 , no-store",
        "no-store, public"};
    static const char *const made[][3] = {
        /* before, what must still be said, what must be gone */
        {"public", NULL, "public"},
        {"public, max-age=60", "max-age=60", "public"},
        {"max-age=60, PUBLIC", "max-age=60", "public"},
        {"s-maxage=600", NULL, "s-maxage=600"},
        {"S-MaxAge=600, must-revalidate", "must-revalidate", "s-maxage=600"},
        {"s-maxage = 600, no-cache", "no-cache", "s-maxage = 600"},
        {"no-cache", "no-cache", NULL},
        {"x-no-store", "x-no-store", NULL},
        {"no-store-x", "no-store-x", NULL},
        {"immutable, privately", "privately", NULL},
        {"", NULL, NULL},
        {",", NULL, NULL},
    };

    tap_is(qo_header_private(pool, NULL), "private", "without a value: private");
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        tap_is(qo_header_private(pool, kept[i]), kept[i], "what is strict enough stays");
    }
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        const char *got = qo_header_private(pool, made[i][0]);

        if (!tap_ok(has(got, "private") && (made[i][1] == NULL || has(got, made[i][1])) &&
                        (made[i][2] == NULL || !has(got, made[i][2])) &&
                        !has(got, "public") && strcasestr(got, "s-maxage") == NULL,
                    "'%s' becomes private", made[i][0])) {
            printf("#   %s\n", got);
        }
    }
}

/* RFC 9111 section 5.2.2.7: private with a list of fields lets caches keep the rest. */
static void check_quoted(void)
{
    tap_ok(has(qo_header_private(pool, "private=\"Set-Cookie\""), "private"),
           "private for one field is not private");
    tap_ok(has(qo_header_private(pool, "ext=\"a, no-store, b\""), "private"),
           "a word inside a quoted string is no directive");
    tap_ok(has(qo_header_private(pool, "ext=\"a, private\", public"), "private"),
           "nor is private there");
    const char *got = qo_header_private(pool, "ext=\"a, public, b\", max-age=1");
    tap_ok(strstr(got, "ext=\"a, public, b\"") != NULL && has(got, "max-age=1") &&
               has(got, "private"),
           "and quoted strings are kept whole");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    check_same();
    check_folding();
    check_ours();
    check_spellings();
    check_connection();
    check_long_connection();
    check_private();
    check_quoted();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
