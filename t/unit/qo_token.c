/* Answers of the token endpoint. Most are folders of t/data/token: `in` is the body, each
 * line of `want` one thing to expect:
 *   status N       read it as an error answer with this HTTP status
 *   result NAME    OK or the name of an error
 *   access, refresh, id, scope TEXT    of the token set; what is not named must be NULL
 *   expires N      seconds after the request began
 *   has, lacks TEXT    of the detail */
#include "qo_token.h"

#include "tap.h"

#include <apr_file_info.h>
#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

#define ASKED ((apr_time_t)1700000000 * APR_USEC_PER_SEC)

static apr_pool_t *pool;

static const char *name_of(qo_status_t status)
{
    static const char *const names[] = {"OK",
#define NAME(name, number, http, visitor, admin) #name,
                                        QO_ERRORS(NAME)
#undef NAME
    };

    return status < QO_STATUS_COUNT ? names[status] : "?";
}

typedef struct {
    int status; /* 0: a 200 answer */
    const char *result;
    qo_token_t token;
    long expires;
    const char *has[4];
    const char *lacks[4];
} want_t;

static void remember(const char **list, const char *text)
{
    for (int i = 0; i < 4; i++) {
        if (list[i] == NULL) {
            list[i] = text;
            return;
        }
    }
    abort();
}

static void read_line(want_t *want, const char *word, const char *rest)
{
    if (strcmp(word, "status") == 0) {
        want->status = atoi(rest);
    } else if (strcmp(word, "result") == 0) {
        want->result = rest;
    } else if (strcmp(word, "access") == 0) {
        want->token.access = rest;
    } else if (strcmp(word, "refresh") == 0) {
        want->token.refresh = rest;
    } else if (strcmp(word, "id") == 0) {
        want->token.id = rest;
    } else if (strcmp(word, "scope") == 0) {
        want->token.scope = rest;
    } else if (strcmp(word, "expires") == 0) {
        want->expires = atol(rest);
    } else if (strcmp(word, "has") == 0) {
        remember(want->has, rest);
    } else if (strcmp(word, "lacks") == 0) {
        remember(want->lacks, rest);
    } else {
        tap_ok(false, "a word of the data: %s", word);
    }
}

static want_t read_want(char *text)
{
    want_t want;
    char *state = NULL;

    memset(&want, 0, sizeof want);
    for (char *line = apr_strtok(text, "\n", &state); line != NULL;
         line = apr_strtok(NULL, "\n", &state)) {
        char *rest = strchr(line, ' ');

        if (rest == NULL) {
            rest = line + strlen(line);
        } else {
            *rest++ = '\0';
        }
        read_line(&want, line, rest);
    }
    return want;
}

/* The file in a block of its own size, NUL-terminated only when asked for. */
static char *slurp(const char *path, size_t *len, bool terminated)
{
    FILE *file = fopen(path, "rb");
    char buffer[8192];

    if (file == NULL) {
        return NULL;
    }
    *len = fread(buffer, 1, sizeof buffer, file);
    fclose(file);
    char *copy = malloc(*len + 1 - (terminated || *len == 0 ? 0 : 1));
    if (copy == NULL) {
        abort();
    }
    memcpy(copy, buffer, *len);
    if (terminated) {
        copy[*len] = '\0';
    }
    return copy;
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool as_wanted(const qo_token_t *got, const want_t *want)
{
    return same_text(got->access, want->token.access) &&
           same_text(got->refresh, want->token.refresh) &&
           same_text(got->id, want->token.id) && same_text(got->scope, want->token.scope) &&
           got->expires == ASKED + apr_time_from_sec(want->expires);
}

static bool printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < 0x20 || *text > 0x7e) {
            return false;
        }
    }
    return true;
}

static void check_detail(const want_t *want, const qo_err_t *err, const char *name)
{
    bool good = printable(err->detail);

    for (int i = 0; i < 4; i++) {
        good = good && (want->has[i] == NULL || strstr(err->detail, want->has[i]) != NULL);
        good =
            good && (want->lacks[i] == NULL || strstr(err->detail, want->lacks[i]) == NULL);
    }
    if (!tap_ok(good, "%s: the detail", name)) {
        printf("#   %s\n", err->detail);
    }
}

static void check_case(const char *dir, const char *name)
{
    size_t len = 0;
    size_t ignored = 0;
    char *text = slurp(apr_pstrcat(pool, dir, "/", name, "/want", NULL), &ignored, true);
    char *body = slurp(apr_pstrcat(pool, dir, "/", name, "/in", NULL), &len, false);
    qo_token_t token;
    qo_err_t err = {"", 0};
    qo_status_t status;

    if (!tap_ok(text != NULL && body != NULL, "%s can be read", name)) {
        return;
    }
    want_t want = read_want(text);
    memset(&token, 0, sizeof token);
    if (want.status != 0) {
        status = qo_token_parse_error(pool, want.status, body, len, &err);
    } else {
        status = qo_token_parse(&token, pool, body, len, "requested.scope", ASKED, &err);
    }
    memset(body, 'Z', len); /* what was read lives in the pool, not in the body */
    free(body);
    tap_is(name_of(status), want.result, name);
    if (status == QO_OK) {
        tap_ok(as_wanted(&token, &want), "%s: the token set", name);
    } else {
        check_detail(&want, &err, name);
    }
    free(text);
}

static int by_name(const void *a, const void *b)
{
    const char *const *left = a;
    const char *const *right = b;

    return strcmp(*left, *right);
}

static void check_folders(void)
{
    const char *top = getenv("QO_TOP_SRCDIR");
    const char *dir = apr_pstrcat(pool, top != NULL ? top : ".", "/t/data/token", NULL);
    apr_array_header_t *names = apr_array_make(pool, 100, sizeof(const char *));
    apr_finfo_t info;
    apr_dir_t *open = NULL;

    if (apr_dir_open(&open, dir, pool) != APR_SUCCESS) {
        tap_ok(false, "t/data/token can be read");
        return;
    }
    while (apr_dir_read(&info, APR_FINFO_NAME, open) == APR_SUCCESS) {
        if (info.name[0] != '.') {
            *(const char **)apr_array_push(names) = apr_pstrdup(pool, info.name);
        }
    }
    apr_dir_close(open);
    qsort(names->elts, (size_t)names->nelts, sizeof(const char *), by_name);
    for (int i = 0; i < names->nelts; i++) {
        check_case(dir, ((const char *const *)(const void *)names->elts)[i]);
    }
    tap_ok(names->nelts > 60, "there are many answers in t/data/token");
}

/* ---- what is too large or too odd for a file ---- */

static qo_status_t parse(const char *body, size_t len)
{
    qo_token_t token;
    char *copy = malloc(len + (len == 0));

    if (copy == NULL) {
        abort();
    }
    memcpy(copy, body, len);
    qo_status_t status =
        qo_token_parse(&token, pool, copy, len, "requested.scope", ASKED, NULL);
    free(copy);
    return status;
}

static char *filled(char with, size_t len)
{
    char *text = apr_palloc(pool, len + 1);

    memset(text, with, len);
    text[len] = '\0';
    return text;
}

static qo_status_t with_token(const char *name, const char *value)
{
    const char *body = apr_pstrcat(pool, "{\"token_type\":\"bearer\",\"",
                                   strcmp(name, "access_token") == 0 ? "x" : "access_token",
                                   "\":\"a\",\"", name, "\":\"", value, "\"}", NULL);

    return parse(body, strlen(body));
}

static void check_long(void)
{
    static const char *const names[] = {"access_token", "refresh_token"};

    for (size_t i = 0; i < 2; i++) {
        tap_int(with_token(names[i], filled('t', QO_LIMIT_TOKEN)), QO_OK,
                "the longest token");
        tap_int(with_token(names[i], filled('t', QO_LIMIT_TOKEN + 1)), QO_E_BAD_ANSWER,
                "one character more");
    }
    tap_int(with_token("scope", filled('s', QO_LIMIT_SCOPE)), QO_OK, "the longest scope");
    tap_int(with_token("scope", filled('s', QO_LIMIT_SCOPE + 1)), QO_E_BAD_ANSWER,
            "one character more");
}

static void check_huge(void)
{
    static const char small[] = "{\"access_token\":\"a\",\"token_type\":\"bearer\"}";
    char *body = filled(' ', QO_LIMIT_ANSWER + 1);

    memcpy(body, small, sizeof small - 1);
    tap_int(parse(body, QO_LIMIT_ANSWER), QO_OK, "an answer of 64 KiB");
    tap_int(parse(body, QO_LIMIT_ANSWER + 1), QO_E_BAD_ANSWER, "one byte more");
    tap_int(parse(small, 0), QO_E_BAD_ANSWER, "an empty answer");
    tap_int(parse("{\"access_token\":\"a\",\"token_type\":\"bearer\"}\0", sizeof small),
            QO_E_BAD_ANSWER, "a NUL behind it");
    const char *deep = apr_pstrcat(
        pool, "{\"access_token\":\"a\",\"token_type\":\"bearer\",\"x\":", filled('[', 1000),
        filled(']', 1000), "}", NULL);
    tap_int(parse(deep, strlen(deep)), QO_E_BAD_ANSWER, "1000 levels deep");
}

static void check_truncated(void)
{
    static const char whole[] =
        "{\"access_token\":\"ory_at_a\",\"token_type\":\"bearer\",\"expires_in\":3600}";
    int accepted = 0;

    for (size_t len = 0; len < sizeof whole - 1; len++) {
        accepted += parse(whole, len) == QO_OK;
    }
    tap_int(accepted, 0, "no truncation is a token set");
    tap_int(parse(whole, sizeof whole - 1), QO_OK, "the whole is");
}

static void check_long_errors(void)
{
    const char *body =
        apr_pstrcat(pool, "{\"error\":\"invalid_grant\",\"error_description\":\"",
                    filled('d', 20000), "\"}", NULL);
    qo_err_t err = {"", 0};

    tap_int(qo_token_parse_error(pool, 400, body, strlen(body), &err), QO_E_GRANT_REJECTED,
            "a long description");
    tap_ok(strlen(err.detail) < sizeof err.detail, "is cut");
    body = apr_pstrcat(pool, "{\"error\":\"", filled('e', 20000), "\"}", NULL);
    qo_status_t status = qo_token_parse_error(pool, 400, body, strlen(body), &err);
    tap_ok(status == QO_E_BAD_ANSWER || status == QO_E_NOT_JSON,
           "a name of 20 KB is no name");
    status = qo_token_parse_error(pool, 400, "", 0, NULL);
    tap_int(status, QO_E_NOT_JSON, "nothing at all is not JSON");
}

/* Every status there is comes out as one of the classes, and never as success. */
static void check_every_status(void)
{
    static const char *const bodies[] = {"{\"error\":\"invalid_grant\"}", "{}", "<html>",
                                         ""};
    int wrong = 0;

    for (int http = 0; http < 1000; http++) {
        for (size_t i = 0; i < 4; i++) {
            qo_status_t got =
                qo_token_parse_error(pool, http, bodies[i], strlen(bodies[i]), NULL);
            bool busy = http == 429 || (http >= 500 && http <= 599);
            qo_status_t want = busy          ? QO_E_BUSY
                               : i == 0      ? QO_E_GRANT_REJECTED
                               : http == 401 ? QO_E_CLIENT_REFUSED
                                             : QO_E_NOT_JSON;

            /* above 599 no status is defined; it only must not be a success */
            wrong += http > 599 ? got == QO_OK : got != want;
        }
    }
    tap_int(wrong, 0, "every status has its class");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    check_folders();
    check_long();
    check_huge();
    check_truncated();
    check_long_errors();
    check_every_status();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
