#include "mod_qo_reply.h"

#include "mod_qo_log.h"
#include "qo_crypto.h"
#include "qo_header.h"

#include <apr_cstr.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_core.h>

#include <string.h>

#define REFERENCE_LEN 8

static ap_filter_rec_t *private_filter;

/* err_headers_out survives the way through httpd's error documents; headers_out does not.
 */
static void set_common_headers(request_rec *r)
{
    apr_table_setn(r->err_headers_out, "Cache-Control", "no-store");
    apr_table_setn(r->err_headers_out, "Referrer-Policy", "no-referrer");
    apr_table_setn(r->err_headers_out, "X-Qonto-Backend", "not-reached");
}

static void set_page_headers(request_rec *r)
{
    apr_table_setn(r->err_headers_out, "Content-Security-Policy", QO_PAGE_CSP);
    apr_table_setn(r->err_headers_out, "X-Content-Type-Options", "nosniff");
    apr_table_setn(r->err_headers_out, "X-Frame-Options", "DENY");
}

void mod_qo_reply_cookie(request_rec *r, const char *set_cookie)
{
    apr_table_addn(r->err_headers_out, "Set-Cookie", set_cookie);
}

int mod_qo_reply_redirect(request_rec *r, const char *url)
{
    set_common_headers(r);
    apr_table_setn(r->headers_out, "Location", url);
    return HTTP_MOVED_TEMPORARILY;
}

/* Short enough to read out on the phone; it need not be secret, only unlikely to repeat. */
static const char *make_reference(apr_pool_t *p)
{
    static const char ALPHABET[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    unsigned char random[REFERENCE_LEN];
    char *reference = apr_pcalloc(p, REFERENCE_LEN + 1);

    if (qo_crypto_random(random, sizeof(random)) != QO_OK) {
        return "--------";
    }
    for (int i = 0; i < REFERENCE_LEN; i++) {
        reference[i] = ALPHABET[random[i] % (sizeof(ALPHABET) - 1)];
    }
    return reference;
}

/* The document of an error status, unless the admin has configured one. */
static void set_document(request_rec *r, int http, const qo_page_t *page)
{
    if (ap_response_code_string(r, ap_index_of_response(http)) != NULL) {
        return;
    }
    set_page_headers(r);
    ap_custom_response(r, http, qo_page_html(r->pool, page));
}

static const char *failure_title(int http)
{
    switch (http) {
    case HTTP_FORBIDDEN:
        return "Access refused";
    case HTTP_SERVICE_UNAVAILABLE:
        return "Please try again in a moment";
    default:
        return http >= 500 ? "Sign-in does not work right now" : "Sign-in did not work";
    }
}

int mod_qo_reply_failure(request_rec *r, qo_status_t status, const qo_err_t *err,
                         const char *again, const char *said)
{
    const qo_error_info_t *info = qo_error_info(status);
    const char *reference = make_reference(r->pool);
    const char *number = apr_psprintf(r->pool, "QO%04d", info->number);
    qo_page_t page = {
        .title = failure_title(info->http),
        .text = info->visitor,
        .detail = said,
        .reference = apr_pstrcat(r->pool, number, " / ", reference, NULL),
        .link = again,
        .label = "Start again",
    };

    mod_qo_log_failure(r, status, err, reference);
    set_common_headers(r);
    apr_table_setn(r->subprocess_env, "QONTO_ERROR", number);
    apr_table_setn(r->subprocess_env, "QONTO_REFERENCE", reference);
    if (info->http == HTTP_SERVICE_UNAVAILABLE) {
        int wait = err != NULL && err->retry_after > 0 ? err->retry_after : 5;

        apr_table_setn(r->err_headers_out, "Retry-After", apr_itoa(r->pool, wait));
    }
    set_document(r, info->http, &page);
    return info->http;
}

int mod_qo_reply_method(request_rec *r, bool post)
{
    if (post) {
        ap_allow_standard_methods(r, REPLACE_ALLOW, M_GET, M_POST, -1);
    } else {
        ap_allow_standard_methods(r, REPLACE_ALLOW, M_GET, -1);
    }
    return mod_qo_reply_failure(r, QO_E_METHOD, NULL, NULL, NULL);
}

int mod_qo_reply_unauthorized(request_rec *r, const qo_page_t *page)
{
    set_common_headers(r);
    apr_table_setn(r->err_headers_out, "WWW-Authenticate", "Bearer realm=\"Qonto\"");
    if (page != NULL) {
        set_document(r, HTTP_UNAUTHORIZED, page);
    }
    return HTTP_UNAUTHORIZED;
}

int mod_qo_reply_page(request_rec *r, const qo_page_t *page)
{
    set_common_headers(r);
    set_page_headers(r);
    ap_set_content_type(r, "text/html; charset=utf-8");
    if (!r->header_only) {
        ap_rputs(qo_page_html(r->pool, page), r);
    }
    return OK;
}

/* ---- answers of the backend ---- */

static void remove_cache_filters(ap_filter_t *f)
{
    ap_filter_t *next;

    for (; f != NULL; f = next) {
        next = f->next;
        if (apr_cstr_casecmpn(f->frec->name, "cache_save", strlen("cache_save")) == 0) {
            ap_remove_output_filter(f);
        }
    }
}

static const char *join(apr_pool_t *p, const char *a, const char *b)
{
    if (a == NULL || b == NULL) {
        return a != NULL ? a : b;
    }
    return apr_pstrcat(p, a, ", ", b, NULL);
}

/* CGI programs and our own answers write to the second table. */
static void merge_cache_control(request_rec *r)
{
    const char *said =
        join(r->pool, apr_table_getm(r->pool, r->headers_out, "Cache-Control"),
             apr_table_getm(r->pool, r->err_headers_out, "Cache-Control"));

    apr_table_unset(r->err_headers_out, "Cache-Control");
    apr_table_setn(r->headers_out, "Cache-Control", qo_header_private(r->pool, said));
}

static apr_status_t make_private(ap_filter_t *f, apr_bucket_brigade *brigade)
{
    ap_filter_t *next;

    merge_cache_control(f->r);
    next = f->next;
    ap_remove_output_filter(f);
    return ap_pass_brigade(next, brigade);
}

void mod_qo_reply_keep_private(request_rec *r)
{
    bool part = r->main != NULL;

    /* A page that includes this one is this visitor's own as well. */
    while (r->main != NULL) {
        r = r->main;
    }
    apr_table_setn(r->subprocess_env, "no-cache", "1"); /* mod_cache heeds it */
    ap_add_output_filter_handle(private_filter, NULL, r, r->connection);
    if (part) {
        remove_cache_filters(r->output_filters); /* which may have begun to keep it */
    }
}

void mod_qo_reply_register(void)
{
    /* Before mod_cache's filters, which are of AP_FTYPE_CONTENT_SET + 1. */
    private_filter = ap_register_output_filter("QONTO_PRIVATE", make_private, NULL,
                                               AP_FTYPE_CONTENT_SET);
}
