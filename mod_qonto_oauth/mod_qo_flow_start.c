/* A visitor arrives without a session, or asks for a connection on purpose. */
#include "mod_qo_flow.h"

#include "mod_qo_login.h"
#include "mod_qo_reply.h"

#include <string.h>

int mod_qo_flow_login(request_rec *r, const mod_qo_ctx_t *ctx)
{
    qo_err_t err = {.detail = ""};
    qo_pending_t draft;
    qo_status_t status = mod_qo_login_draft(&draft, r, ctx, NULL, &err);

    return status == QO_OK ? mod_qo_login_begin(r, ctx, &draft)
                           : mod_qo_reply_failure(r, status, &err, NULL, NULL);
}

static qo_status_t make_ticket(const char **url, request_rec *r, const mod_qo_ctx_t *ctx,
                               qo_err_t *err)
{
    qo_pending_t draft;
    qo_status_t status = mod_qo_login_draft(&draft, r, ctx, NULL, err);

    return status == QO_OK ? mod_qo_login_ticket(url, r, ctx, &draft) : status;
}

/* The cookie that binds a login to this browser would be lost on another host name. */
int mod_qo_flow_move(request_rec *r, const mod_qo_ctx_t *ctx)
{
    qo_err_t err = {.detail = ""};
    const char *url;
    qo_status_t status = make_ticket(&url, r, ctx, &err);

    return status == QO_OK ? mod_qo_reply_redirect(r, url)
                           : mod_qo_reply_failure(r, status, &err, NULL, NULL);
}

int mod_qo_flow_page(request_rec *r, const mod_qo_ctx_t *ctx)
{
    qo_err_t err = {.detail = ""};
    qo_page_t page = {
        .title = "Connect with Qonto",
        .text = "This page is for people who have connected their Qonto account. You will "
                "choose at Qonto what to share.",
        .label = "Connect with Qonto",
        .provider = true,
    };
    qo_status_t status = make_ticket(&page.link, r, ctx, &err);

    return status == QO_OK ? mod_qo_reply_unauthorized(r, &page)
                           : mod_qo_reply_failure(r, status, &err, NULL, NULL);
}

/* ---- qonto-connect ---- */

#define MAX_ID 128

/* Ids at Qonto are UUIDs or slugs. */
static qo_status_t check_id(const char *value, const char *name, qo_err_t *err)
{
    size_t good = strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789-_.");

    if (good == 0 || good > MAX_ID || value[good] != '\0') {
        return qo_error(err, QO_E_BAD_PARAMETER, "%s is not an id", name);
    }
    return QO_OK;
}

/* Qonto docs, "OAuth flow": these two preselect the organization. */
static qo_status_t pick_ids(apr_array_header_t *out, const apr_array_header_t *params,
                            qo_err_t *err)
{
    static const char *const NAMES[] = {"organization_id", "registration_id"};

    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
        const char *value;
        qo_status_t status = qo_url_param(&value, params, NAMES[i], err);

        if (status == QO_OK && value != NULL) {
            qo_param_t *param = apr_array_push(out);

            param->name = NAMES[i];
            param->value = value;
            status = check_id(value, NAMES[i], err);
        }
        if (status != QO_OK) {
            return status;
        }
    }
    return QO_OK;
}

static qo_status_t read_request(qo_pending_t *draft, request_rec *r,
                                const mod_qo_ctx_t *ctx, qo_err_t *err)
{
    apr_array_header_t *ids = apr_array_make(r->pool, 2, sizeof(qo_param_t));
    apr_array_header_t *params;
    const char *path = NULL;
    qo_status_t status = qo_url_parse_query(&params, r->pool, r->args, err);

    if (status == QO_OK) {
        status = pick_ids(ids, params, err);
    }
    if (status == QO_OK) {
        status = qo_url_param(&path, params, "return", err);
    }
    if (status == QO_OK && path != NULL) {
        status = qo_url_check_return(path, err);
    }
    if (status == QO_OK) {
        status = mod_qo_login_draft(draft, r, ctx, ids, err);
    }
    draft->return_path = path != NULL ? path : "/";
    return status;
}

int mod_qo_flow_connect(request_rec *r, mod_qo_ctx_t *ctx)
{
    qo_err_t err = {.detail = ""};
    qo_pending_t draft;
    const char *url;
    qo_status_t status;

    if (mod_qo_headers_not_visit(r)) {
        return mod_qo_reply_method(r, false);
    }
    mod_qo_ctx_load_session(r, ctx);
    status = read_request(&draft, r, ctx, &err);
    if (status == QO_OK && !mod_qo_ctx_other_host(r, ctx)) {
        return mod_qo_login_begin(r, ctx, &draft);
    }
    if (status == QO_OK) {
        status = mod_qo_login_ticket(&url, r, ctx, &draft);
    }
    return status == QO_OK ? mod_qo_reply_redirect(r, url)
                           : mod_qo_reply_failure(r, status, &err, NULL, NULL);
}
