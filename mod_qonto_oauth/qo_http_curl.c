#include "qo_http.h"
#include "qo_limits.h"
#include "qo_url.h"

#include <apr_date.h>
#include <apr_strings.h>
#include <apr_time.h>

#include <curl/curl.h>

#include <string.h>
#include <strings.h>

#define FIRST_BODY_SIZE 4096 /* most answers fit */

/* What an answer leaves behind while it comes in. */
typedef struct {
    apr_pool_t *pool;
    char *body;
    size_t len;
    size_t size; /* bytes allocated for body */
    size_t header_len;
    bool too_long;
    bool head_ended;         /* libcurl is content with half a head */
    const char *retry_after; /* values of the header lines, NULL if absent */
    const char *date;
} sink_t;

typedef struct {
    CURL *curl;
    struct curl_slist *headers;
    sink_t sink;
    char text[CURL_ERROR_SIZE];
} call_t;

/* The same for every call. */
static const struct {
    CURLoption option;
    long value;
} ALWAYS[] = {
    /* A reused connection that dies makes libcurl send the POST again: a code or a rotating
     * refresh token used twice can cost the whole grant. */
    {CURLOPT_FRESH_CONNECT, 1},
    {CURLOPT_FORBID_REUSE, 1},
    {CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1},
    {CURLOPT_FOLLOWLOCATION, 0},
    {CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2},
    {CURLOPT_SSL_VERIFYPEER, 1},
    {CURLOPT_SSL_VERIFYHOST, 2},
    {CURLOPT_NETRC, CURL_NETRC_IGNORED},
    {CURLOPT_SUPPRESS_CONNECT_HEADERS, 1},
    {CURLOPT_NOSIGNAL, 1}, /* we are one thread of many */
#if CURL_AT_LEAST_VERSION(7, 64, 0)
    {CURLOPT_HTTP09_ALLOWED, 0},
#endif
#if CURL_AT_LEAST_VERSION(7, 87, 0)
    /* Without it a call whose time is up still waits until getaddrinfo() returns; with it
     * the resolver's thread is left to end, and to clean up, by itself. */
    {CURLOPT_QUICK_EXIT, 1},
#endif
};

qo_status_t qo_http_start(void)
{
    /* Not every libcurl lets threads do this (CURL_VERSION_THREADSAFE); we are called while
     * the process has only one. */
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? QO_OK : QO_E_INTERNAL;
}

void qo_http_stop(void)
{
    curl_global_cleanup();
}

/* Room for `more` bytes and a NUL. */
static void make_room(sink_t *sink, size_t more)
{
    size_t size = sink->size == 0 ? FIRST_BODY_SIZE : sink->size;
    char *body;

    while (size < sink->len + more + 1) {
        size *= 2;
    }
    if (size == sink->size) {
        return;
    }
    body = apr_palloc(sink->pool, size);
    if (sink->len > 0) {
        memcpy(body, sink->body, sink->len);
    }
    sink->body = body;
    sink->size = size;
}

/* The cap is here because CURLOPT_MAXFILESIZE does not see a chunked body. */
static size_t keep_body(char *data, size_t size, size_t count, void *context)
{
    sink_t *sink = context;
    size_t len = size * count;

    if (len > QO_LIMIT_ANSWER - sink->len) {
        sink->too_long = true;
        return 0;
    }
    make_room(sink, len);
    memcpy(sink->body + sink->len, data, len);
    sink->len += len;
    return len;
}

/* The value of a header line of this name (its colon included), else `otherwise`. */
static const char *header_value(apr_pool_t *p, const char *line, size_t len,
                                const char *name, const char *otherwise)
{
    size_t skip = strlen(name);

    if (len < skip || strncasecmp(line, name, skip) != 0) {
        return otherwise;
    }
    while (skip < len && (line[skip] == ' ' || line[skip] == '\t')) {
        skip++;
    }
    while (len > skip && (unsigned char)line[len - 1] <= ' ') {
        len--;
    }
    return apr_pstrmemdup(p, line + skip, len - skip);
}

static size_t keep_header(char *line, size_t size, size_t count, void *context)
{
    sink_t *sink = context;
    size_t len = size * count;

    if (len > QO_LIMIT_ANSWER - sink->header_len) {
        sink->too_long = true;
        return 0;
    }
    sink->header_len += len;
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        /* After an interim answer (1xx) the real one begins. */
        sink->retry_after = NULL;
        sink->date = NULL;
        sink->head_ended = false;
    }
    sink->head_ended = sink->head_ended || *line == '\r' || *line == '\n';
    sink->retry_after =
        header_value(sink->pool, line, len, "Retry-After:", sink->retry_after);
    sink->date = header_value(sink->pool, line, len, "Date:", sink->date);
    return len;
}

static int bound_retry(apr_int64_t seconds)
{
    if (seconds <= 0) {
        return 0;
    }
    return seconds > QO_LIMIT_RETRY_AFTER ? QO_LIMIT_RETRY_AFTER : (int)seconds;
}

/* RFC 9110 section 10.2.3: seconds or a date. The date is held against the answer's own
 * Date, so that a difference between the two clocks does not count. */
static int read_retry_after(const sink_t *sink)
{
    const char *text = sink->retry_after;
    apr_time_t until;
    apr_time_t date;

    if (text == NULL || *text == '\0') {
        return 0;
    }
    if (strspn(text, "0123456789") == strlen(text)) {
        /* More digits than an apr_int64_t holds give its largest value. */
        return bound_retry(apr_strtoi64(text, NULL, 10));
    }
    until = apr_date_parse_http(text);
    date = sink->date == NULL ? 0 : apr_date_parse_http(sink->date);
    return until == 0 || date == 0 ? 0 : bound_retry(apr_time_sec(until - date));
}

static bool set_long(CURL *curl, CURLoption option, long value)
{
    return curl_easy_setopt(curl, option, value) == CURLE_OK;
}

static bool set_text(CURL *curl, CURLoption option, const char *value)
{
    return curl_easy_setopt(curl, option, value) == CURLE_OK;
}

static bool set_always(CURL *curl)
{
    size_t i;

    for (i = 0; i < sizeof(ALWAYS) / sizeof(ALWAYS[0]); i++) {
        if (!set_long(curl, ALWAYS[i].option, ALWAYS[i].value)) {
            return false;
        }
    }
    return set_text(curl, CURLOPT_USERAGENT, "mod_qonto_oauth");
}

static bool set_target(CURL *curl, const qo_http_request_t *request, bool https)
{
#if CURL_AT_LEAST_VERSION(7, 85, 0)
    if (!set_text(curl, CURLOPT_PROTOCOLS_STR, https ? "https" : "http")) {
        return false;
    }
#else
    if (!set_long(curl, CURLOPT_PROTOCOLS, https ? CURLPROTO_HTTPS : CURLPROTO_HTTP)) {
        return false;
    }
#endif
    return set_text(curl, CURLOPT_URL, request->url) &&
           set_long(curl, CURLOPT_CONNECTTIMEOUT_MS, request->connect_timeout_ms) &&
           set_long(curl, CURLOPT_TIMEOUT_MS, request->total_timeout_ms);
}

/* Empty strings keep http_proxy, no_proxy and their like out. */
static bool set_proxy(CURL *curl, const qo_http_request_t *request)
{
    if (!set_text(curl, CURLOPT_NOPROXY, "")) {
        return false;
    }
    if (request->proxy == NULL) {
        return set_text(curl, CURLOPT_PROXY, "");
    }
    return set_text(curl, CURLOPT_PROXY, request->proxy) &&
           set_long(curl, CURLOPT_PROXY_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
}

/* The given authorities instead of the system's, of which libcurl may have a file and a
 * directory built in. */
static bool set_authorities(CURL *curl, const qo_http_request_t *request)
{
    if (request->ca_file == NULL) {
        return true;
    }
    return set_text(curl, CURLOPT_CAINFO, request->ca_file) &&
           set_text(curl, CURLOPT_CAPATH, NULL) &&
           (request->proxy == NULL ||
            (set_text(curl, CURLOPT_PROXY_CAINFO, request->ca_file) &&
             set_text(curl, CURLOPT_PROXY_CAPATH, NULL)));
}

/* POSTFIELDS is not copied. */
static bool set_form(CURL *curl, const char *form)
{
    if (form == NULL) {
        return set_long(curl, CURLOPT_HTTPGET, 1);
    }
    return curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(form)) ==
               CURLE_OK &&
           set_text(curl, CURLOPT_POSTFIELDS, form);
}

static bool set_sink(call_t *call)
{
    return curl_easy_setopt(call->curl, CURLOPT_ERRORBUFFER, call->text) == CURLE_OK &&
           curl_easy_setopt(call->curl, CURLOPT_WRITEFUNCTION, keep_body) == CURLE_OK &&
           curl_easy_setopt(call->curl, CURLOPT_WRITEDATA, &call->sink) == CURLE_OK &&
           curl_easy_setopt(call->curl, CURLOPT_HEADERFUNCTION, keep_header) == CURLE_OK &&
           curl_easy_setopt(call->curl, CURLOPT_HEADERDATA, &call->sink) == CURLE_OK;
}

static bool add_line(call_t *call, const char *line)
{
    struct curl_slist *longer = curl_slist_append(call->headers, line);

    if (longer == NULL) {
        return false;
    }
    call->headers = longer;
    return true;
}

/* A value with a line break would become a header of its own, an empty one none at all. */
static bool add_secret(call_t *call, const char *name, const char *value)
{
    const char *c;

    if (value == NULL) {
        return true;
    }
    for (c = value; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~') {
            return false;
        }
    }
    return c > value &&
           add_line(call, apr_pstrcat(call->sink.pool, name, ": ", value, NULL));
}

static bool set_headers(call_t *call, const qo_http_request_t *request)
{
    const char *bearer = request->bearer;

    if (bearer != NULL) {
        bearer = apr_pstrcat(call->sink.pool, "Bearer ", bearer, NULL);
    }
    return add_line(call, "Accept: application/json") &&
           add_line(call, "Expect:") && /* no waiting for a 100 */
           add_secret(call, "Authorization", bearer) &&
           add_secret(call, "X-Qonto-Staging-Token", request->staging_token) &&
           curl_easy_setopt(call->curl, CURLOPT_HTTPHEADER, call->headers) == CURLE_OK;
}

/* libcurl's words, unless they quote the proxy's URL, which may hold a password. */
static const char *reason(const call_t *call, CURLcode code, const char *proxy)
{
    if (call->text[0] == '\0' || (proxy != NULL && strstr(call->text, proxy) != NULL)) {
        return curl_easy_strerror(code);
    }
    return call->text;
}

static bool read_answer(qo_http_answer_t *out, call_t *call)
{
    long status = 0;
    double seconds = 0;
    const char *type = NULL;

    if (curl_easy_getinfo(call->curl, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK ||
        curl_easy_getinfo(call->curl, CURLINFO_CONTENT_TYPE, &type) != CURLE_OK ||
        curl_easy_getinfo(call->curl, CURLINFO_TOTAL_TIME, &seconds) != CURLE_OK) {
        return false;
    }
    make_room(&call->sink, 0);
    call->sink.body[call->sink.len] = '\0';
    out->status = (int)status;
    out->type = apr_pstrdup(call->sink.pool, type == NULL ? "" : type);
    out->body = call->sink.body;
    out->len = call->sink.len;
    out->retry_after = read_retry_after(&call->sink);
    out->took_ms = (int)(seconds * 1000);
    return true;
}

static qo_status_t perform(qo_http_answer_t *out, call_t *call,
                           const qo_http_request_t *request, const qo_url_t *url,
                           qo_err_t *err)
{
    CURLcode code;

    if (!set_always(call->curl) || !set_target(call->curl, request, url->https) ||
        !set_proxy(call->curl, request) || !set_authorities(call->curl, request) ||
        !set_form(call->curl, request->form) || !set_sink(call) ||
        !set_headers(call, request)) {
        return qo_error(err, QO_E_UNREACHABLE, "%s: libcurl refuses the call", url->host);
    }
    code = curl_easy_perform(call->curl);
    if (call->sink.too_long) {
        return qo_error(err, QO_E_BAD_ANSWER, "%s: the answer is too long", url->host);
    }
    if (code != CURLE_OK) {
        return qo_error(err, QO_E_UNREACHABLE, "%s: %s", url->host,
                        reason(call, code, request->proxy));
    }
    if (!call->sink.head_ended || !read_answer(out, call)) {
        return qo_error(err, QO_E_UNREACHABLE, "%s: the answer broke off", url->host);
    }
    return QO_OK;
}

qo_status_t qo_http_send(qo_http_answer_t *out, apr_pool_t *p,
                         const qo_http_request_t *request, qo_err_t *err)
{
    call_t call = {.sink = {.pool = p}};
    qo_err_t fault = {.detail = ""};
    qo_url_t url;
    qo_status_t status;

    if (qo_url_parse(&url, p, request->url, &fault) != QO_OK) {
        return qo_error(err, QO_E_UNREACHABLE, "the URL %s", fault.detail);
    }
    if (request->total_timeout_ms <= 0) {
        /* To libcurl that would mean for ever. */
        return qo_error(err, QO_E_UNREACHABLE, "%s: no time is left", url.host);
    }
    call.curl = curl_easy_init();
    if (call.curl == NULL) {
        return qo_error(err, QO_E_UNREACHABLE, "%s: libcurl cannot start", url.host);
    }
    status = perform(out, &call, request, &url, err);
    curl_easy_cleanup(call.curl);
    curl_slist_free_all(call.headers);
    return status;
}
