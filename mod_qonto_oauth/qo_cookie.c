#include "qo_cookie.h"

#include <apr_strings.h>

#include <string.h>

/* One pair of a Cookie header, blanks around it left out. */
typedef struct {
    const char *text;
    size_t len;
} pair_t;

/* The header without ours, as it grows. */
typedef struct {
    apr_pool_t *pool;
    const char *header;
    char *text; /* NULL until something is kept */
    size_t len;
} rest_t;

void qo_cookie_spec(qo_cookie_spec_t *out, apr_pool_t *p, const char *name,
                    const char *path, const char *samesite, const char *callback_path,
                    bool https)
{
    const char *prefix = "";

    if (https) {
        prefix = strcmp(path, "/") == 0 ? "__Host-" : "__Secure-";
    }
    out->session = apr_pstrcat(p, prefix, name, NULL);
    /* Never "__Host-": that one demands Path=/, and this one lives at the callback. */
    out->binding = apr_pstrcat(p, https ? "__Secure-" : "", name, "-", NULL);
    out->path = apr_pstrdup(p, path);
    out->callback_path = apr_pstrdup(p, callback_path);
    out->samesite = apr_pstrdup(p, samesite);
    out->secure = https;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_base64url(const char *text, size_t len)
{
    size_t i;

    for (i = 0; i < len; i++) {
        char c = text[i];

        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_')) {
            return false;
        }
    }
    return true;
}

/* Takes the next pair that is not empty. A semicolon always ends it: RFC 6265 has no quoted
 * strings, and believing in them would let a cookie of another make swallow ours. */
static bool next_pair(pair_t *out, const char **at)
{
    const char *start = *at;
    const char *end;

    while (*start == ';' || is_blank(*start)) {
        start++;
    }
    end = start + strcspn(start, ";");
    *at = end;
    while (end > start && is_blank(end[-1])) {
        end--;
    }
    out->text = start;
    out->len = (size_t)(end - start);
    return out->len > 0;
}

/* Blanks before "=" do not count: some backends ignore them too. */
static size_t name_length(const pair_t *pair)
{
    const char *equals = memchr(pair->text, '=', pair->len);
    size_t len = equals == NULL ? pair->len : (size_t)(equals - pair->text);

    while (len > 0 && is_blank(pair->text[len - 1])) {
        len--;
    }
    return len;
}

static bool is_session(const qo_cookie_spec_t *spec, const pair_t *pair, size_t name_len)
{
    return name_len == strlen(spec->session) &&
           memcmp(pair->text, spec->session, name_len) == 0;
}

static bool is_binding(const qo_cookie_spec_t *spec, const pair_t *pair, size_t name_len)
{
    size_t len = strlen(spec->binding);

    return name_len >= len && memcmp(pair->text, spec->binding, len) == 0;
}

/* What follows "="; empty when there is none. */
static pair_t value_of(const pair_t *pair)
{
    const char *end = pair->text + pair->len;
    const char *equals = memchr(pair->text, '=', pair->len);
    const char *start = equals == NULL ? end : equals + 1;

    return (pair_t){.text = start, .len = (size_t)(end - start)};
}

static void take_session(qo_cookies_t *out, apr_pool_t *p, const pair_t *pair)
{
    pair_t value = value_of(pair);
    int i;

    if (value.len != QO_SECRET_TEXT || !is_base64url(value.text, value.len)) {
        out->junk++;
        return;
    }
    for (i = 0; i < out->session_count; i++) {
        if (memcmp(out->sessions[i], value.text, value.len) == 0) {
            return;
        }
    }
    if (out->session_count == QO_LIMIT_SESSION_COOKIES) {
        out->junk++;
        return;
    }
    out->sessions[out->session_count++] = apr_pstrmemdup(p, value.text, value.len);
}

/* `id` is what follows the prefix in the name. */
static void take_binding(qo_cookies_t *out, apr_pool_t *p, const pair_t *id,
                         const pair_t *value)
{
    if (id->len != QO_BINDING_ID || !is_base64url(id->text, id->len) ||
        value->len != QO_BINDING_TEXT || !is_base64url(value->text, value->len) ||
        out->binding_count == QO_LIMIT_BINDING_COOKIES) {
        out->junk++;
        return;
    }
    if (out->bindings == NULL) {
        out->bindings = apr_palloc(p, QO_LIMIT_BINDING_COOKIES * sizeof(*out->bindings));
    }
    out->bindings[out->binding_count++] =
        (qo_binding_cookie_t){.id = apr_pstrmemdup(p, id->text, id->len),
                              .value = apr_pstrmemdup(p, value->text, value->len)};
}

/* A pair of one byte and its ";" may become one byte and "; ": half as much again is the
 * most a header can grow. */
static void keep(rest_t *rest, const pair_t *pair)
{
    if (rest->text == NULL) {
        size_t len = strlen(rest->header);

        rest->text = apr_palloc(rest->pool, len + len / 2 + 1);
    } else {
        rest->text[rest->len++] = ';';
        rest->text[rest->len++] = ' ';
    }
    memcpy(rest->text + rest->len, pair->text, pair->len);
    rest->len += pair->len;
}

/* Keeps what came before our first cookie, which begins at `end`. */
static void keep_before(rest_t *rest, const char *end)
{
    const char *at = rest->header;
    pair_t pair;

    while (next_pair(&pair, &at) && pair.text < end) {
        keep(rest, &pair);
    }
}

/* Takes a pair if it is ours. */
static bool take(qo_cookies_t *out, apr_pool_t *p, const qo_cookie_spec_t *spec,
                 const pair_t *pair)
{
    size_t name_len = name_length(pair);

    if (is_session(spec, pair, name_len)) {
        take_session(out, p, pair);
        return true;
    }
    if (is_binding(spec, pair, name_len)) {
        size_t len = strlen(spec->binding);
        pair_t id = {.text = pair->text + len, .len = name_len - len};
        pair_t value = value_of(pair);

        take_binding(out, p, &id, &value);
        return true;
    }
    return false;
}

static bool names_ours(const qo_cookie_spec_t *spec, const char *text, size_t len)
{
    const pair_t pair = {.text = text, .len = len};
    size_t session = strlen(spec->session);
    size_t binding = strlen(spec->binding);

    /* The beginning first: where a whole name ends is dear to find out for every comma. */
    return (len >= session && memcmp(text, spec->session, session) == 0 &&
            is_session(spec, &pair, name_length(&pair))) ||
           (len >= binding && memcmp(text, spec->binding, binding) == 0);
}

/* httpd joins two Cookie lines with a comma, which RFC 6265 allows inside a value. What
 * then looks like ours is cut off, so that it reaches no backend, but never believed:
 * another cookie's value must not be able to bring a session. */
static bool cut_joined(pair_t *pair, const qo_cookie_spec_t *spec)
{
    const char *end = pair->text + pair->len;
    const char *comma = memchr(pair->text, ',', pair->len);

    while (comma != NULL) {
        const char *next = comma + 1;

        while (next < end && is_blank(*next)) {
            next++;
        }
        if (names_ours(spec, next, (size_t)(end - next))) {
            pair->len = (size_t)(comma - pair->text);
            return true;
        }
        comma = memchr(next, ',', (size_t)(end - next));
    }
    return false;
}

/* From our first cookie on the rest is a text of its own. */
static void mark_found(qo_cookies_t *out, rest_t *rest, const pair_t *pair)
{
    if (!out->found) {
        out->found = true;
        keep_before(rest, pair->text);
    }
}

void qo_cookie_take(qo_cookies_t *out, apr_pool_t *p, const qo_cookie_spec_t *spec,
                    const char *header)
{
    rest_t rest = {.pool = p, .header = header};
    const char *at = header;
    pair_t pair;

    *out = (qo_cookies_t){.rest = header};
    if (header == NULL) {
        return;
    }
    while (next_pair(&pair, &at)) {
        if (take(out, p, spec, &pair)) {
            mark_found(out, &rest, &pair);
            continue;
        }
        if (cut_joined(&pair, spec)) {
            out->junk++;
            mark_found(out, &rest, &pair);
        }
        if (out->found) {
            keep(&rest, &pair);
        }
    }
    if (out->found) {
        if (rest.text != NULL) {
            rest.text[rest.len] = '\0';
        }
        out->rest = rest.text;
    }
}

/* Cleared cookies must repeat the attributes, else browsers keep the one they have. */
static const char CLEARED[] = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";

static char *write_session(apr_pool_t *p, const qo_cookie_spec_t *spec, const char *value,
                           const char *life)
{
    return apr_pstrcat(p, spec->session, "=", value, "; Path=", spec->path,
                       "; HttpOnly; SameSite=", spec->samesite,
                       spec->secure ? "; Secure" : "", life, NULL);
}

/* Always Lax: the callback is a top-level navigation that comes from Qonto. */
static char *write_binding(apr_pool_t *p, const qo_cookie_spec_t *spec, const char *id,
                           const char *value, const char *life)
{
    return apr_pstrcat(p, spec->binding, id, "=", value, "; Path=", spec->callback_path,
                       "; HttpOnly; SameSite=Lax", spec->secure ? "; Secure" : "", life,
                       NULL);
}

char *qo_cookie_session(apr_pool_t *p, const qo_cookie_spec_t *spec, const char *value)
{
    return write_session(p, spec, value, "");
}

char *qo_cookie_session_clear(apr_pool_t *p, const qo_cookie_spec_t *spec)
{
    return write_session(p, spec, "", CLEARED);
}

char *qo_cookie_binding(apr_pool_t *p, const qo_cookie_spec_t *spec, const char *id,
                        const char *value)
{
    return write_binding(p, spec, id, value,
                         apr_psprintf(p, "; Max-Age=%d", QO_PENDING_LIFE));
}

char *qo_cookie_binding_clear(apr_pool_t *p, const qo_cookie_spec_t *spec, const char *id)
{
    return write_binding(p, spec, id, "", CLEARED);
}
