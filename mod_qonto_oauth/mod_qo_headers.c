#include "mod_qo_headers.h"

#include "qo_header.h"

#include <apr_strings.h>
#include <apr_tables.h>
#include <http_protocol.h>

#include <string.h>

/* ---- arrival ---- */

typedef struct {
    const apr_array_header_t *names;
    apr_array_header_t *found; /* const char *, NULL until the first */
    apr_pool_t *p;
} search_t;

static int note_ours(void *data, const char *name, const char *value)
{
    search_t *search = data;

    (void)value;
    if (qo_header_ours(name, search->names)) {
        if (search->found == NULL) {
            search->found = apr_array_make(search->p, 4, sizeof(const char *));
        }
        APR_ARRAY_PUSH(search->found, const char *) = name;
    }
    return 1;
}

static void remove_ours(request_rec *r, const apr_array_header_t *names)
{
    search_t search = {.names = names, .found = NULL, .p = r->pool};

    apr_table_do(note_ours, &search, r->headers_in, NULL);
    for (int i = 0; search.found != NULL && i < search.found->nelts; i++) {
        const char *const *list = (const void *)search.found->elts;

        apr_table_unset(r->headers_in, list[i]);
    }
}

static void set_or_unset(apr_table_t *table, const char *name, const char *value)
{
    if (value != NULL) {
        apr_table_setn(table, name, value);
    } else {
        apr_table_unset(table, name);
    }
}

/* Neither ours nor, where a location exports it, Authorization may be listed there. */
static void guard_connection(request_rec *r, const apr_array_header_t *names)
{
    const char *value = apr_table_get(r->headers_in, "Connection");
    const char *kept;

    if (value == NULL) {
        return;
    }
    kept = qo_header_connection(r->pool, value, names);
    if (kept != value) {
        set_or_unset(r->headers_in, "Connection", kept);
    }
}

void mod_qo_headers_receive(request_rec *r, const mod_qo_server_t *server,
                            qo_cookies_t *cookies)
{
    remove_ours(r, server->token_headers);
    guard_connection(r, server->token_headers);
    qo_cookie_take(cookies, r->pool, &server->conf.cookies,
                   apr_table_get(r->headers_in, "Cookie"));
    if (cookies->found) {
        set_or_unset(r->headers_in, "Cookie", cookies->rest);
        /* An upgrade to h2c would read this request again, without its cookie. */
        apr_table_unset(r->headers_in, "HTTP2-Settings");
    }
}

/* ---- questions ---- */

static const char *purpose(const apr_table_t *headers)
{
    static const char *const NAMES[] = {"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"};

    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        const char *value = apr_table_get(headers, NAMES[i]);

        if (value != NULL) {
            return value;
        }
    }
    return NULL;
}

void mod_qo_headers_facts(qo_request_facts_t *out, const request_rec *r)
{
    out->get = r->method_number == M_GET && !r->header_only;
    out->fetch_mode = apr_table_get(r->headers_in, "Sec-Fetch-Mode");
    out->fetch_dest = apr_table_get(r->headers_in, "Sec-Fetch-Dest");
    out->accept = apr_table_get(r->headers_in, "Accept");
    out->requested_with = apr_table_get(r->headers_in, "X-Requested-With");
    out->purpose = purpose(r->headers_in);
}

bool mod_qo_headers_not_visit(const request_rec *r)
{
    qo_request_facts_t facts;

    mod_qo_headers_facts(&facts, r);
    return qo_gate_not_visit(&facts);
}

const char *mod_qo_headers_host(const request_rec *r)
{
    const char *forwarded = apr_table_get(r->headers_in, "X-Forwarded-Host");
    const char *last = forwarded != NULL ? strrchr(forwarded, ',') : NULL;

    if (forwarded != NULL) {
        last = last != NULL ? last + 1 : forwarded;
        return qo_url_host(r->pool, last + strspn(last, " \t"));
    }
    forwarded = apr_table_get(r->headers_in, "Host");
    return forwarded != NULL ? qo_url_host(r->pool, forwarded) : NULL;
}

bool mod_qo_headers_cross_site(const request_rec *r, const char *own_origin)
{
    const char *site = apr_table_get(r->headers_in, "Sec-Fetch-Site");
    const char *origin = apr_table_get(r->headers_in, "Origin");

    if (site != NULL) {
        return strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0;
    }
    return origin != NULL && strcmp(origin, own_origin) != 0;
}

/* ---- export ---- */

static void own_headers(request_rec *r)
{
    if (r->main != NULL && r->headers_in == r->main->headers_in) {
        r->headers_in = apr_table_copy(r->pool, r->headers_in);
    }
}

static void remember(const request_rec *r, mod_qo_export_t *done)
{
    if (!done->active) {
        done->displaced = apr_table_get(r->headers_in, "Authorization");
        done->active = true;
    }
}

/* `header` may be Authorization, which is nobody's alone on arrival. */
static void guard_token(request_rec *r, const char *header)
{
    apr_array_header_t *names;

    if (apr_table_get(r->headers_in, "Connection") != NULL) {
        names = apr_array_make(r->pool, 1, sizeof(const char *));
        APR_ARRAY_PUSH(names, const char *) = header;
        guard_connection(r, names);
    }
}

static void set_token(request_rec *r, const char *header, const char *scheme,
                      const char *token)
{
    apr_table_unset(r->headers_in, header);
    guard_token(r, header);
    if (token != NULL) {
        apr_table_addn(r->headers_in, header,
                       *scheme != '\0' ? apr_pstrcat(r->pool, scheme, " ", token, NULL)
                                       : token);
    }
}

void mod_qo_headers_export(request_rec *r, mod_qo_export_t *done, const mod_qo_dir_t *dir,
                           const char *const values[MOD_QO_PASS_ITEMS], const char *token)
{
    const char *header = mod_qo_config_token_header(dir);
    unsigned int pass = mod_qo_config_pass(dir);

    own_headers(r);
    remember(r, done);
    /* Added, not set: arrival or withdrawal has removed every other of these names. */
    for (int i = 0; i < MOD_QO_PASS_ITEMS; i++) {
        const mod_qo_pass_item_t *item = &mod_qo_config_pass_items[i];

        if (values[i] == NULL) {
            continue;
        }
        if (pass & MOD_QO_PASS_BIT(i)) {
            apr_table_addn(r->headers_in, item->header, values[i]);
        }
        if (item->variable != NULL &&
            ((pass & MOD_QO_PASS_BIT(i)) || i == MOD_QO_PASS_SESSION)) {
            apr_table_setn(r->subprocess_env, item->variable, values[i]);
        }
    }
    /* Whatever carries the token, the visitor's own word on who they are is not for here.
     */
    apr_table_unset(r->headers_in, "Authorization");
    if (*header != '\0') {
        set_token(r, header, mod_qo_config_token_scheme(dir), token);
    }
}

void mod_qo_headers_withdraw(request_rec *r, const mod_qo_server_t *server,
                             const mod_qo_export_t *done)
{
    /* Trailers of the main request may have been merged since arrival (MergeTrailers); an
     * internal redirect arrives anew. */
    if (!done->active && r->main == NULL) {
        return;
    }
    own_headers(r);
    remove_ours(r, server->token_headers);
    if (!done->active) {
        return;
    }
    set_or_unset(r->headers_in, "Authorization", done->displaced);
    for (int i = 0; i < MOD_QO_PASS_ITEMS; i++) {
        if (mod_qo_config_pass_items[i].variable != NULL) {
            apr_table_unset(r->subprocess_env, mod_qo_config_pass_items[i].variable);
        }
    }
}
