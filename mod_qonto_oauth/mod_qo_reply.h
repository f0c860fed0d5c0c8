/* Answers the module makes itself: the only room that writes headers_out and statuses.
 * Every one of them is no-store and says that the backend was not reached. Pages are never
 * sent from an authentication hook (CVE-2025-31492 of a peer): they are handed to httpd as
 * the document of an error status, so an ErrorDocument of the admin's own wins. */
#ifndef MOD_QO_REPLY_H
#define MOD_QO_REPLY_H

#include "qo_error.h"
#include "qo_page.h"

#include <httpd.h>
#include <util_filter.h>

/* Adds a Set-Cookie line. */
void mod_qo_reply_cookie(request_rec *r, const char *set_cookie);

/* 302 to an absolute URL; returns the status for the hook to return. */
int mod_qo_reply_redirect(request_rec *r, const char *url);

/* Ends the request with a failure: logs it once, sets QONTO_ERROR and QONTO_REFERENCE for
 * an ErrorDocument, makes the page. `again` is where "Start again" leads, NULL for no such
 * link; `said` are Qonto's own words for the visitor, NULL for none. Returns the HTTP
 * status. */
int mod_qo_reply_failure(request_rec *r, qo_status_t status, const qo_err_t *err,
                         const char *again, const char *said);

/* 405 with an Allow header: GET, and POST when `post`. Returns the status. */
int mod_qo_reply_method(request_rec *r, bool post);

/* 401 with a page of ours (`page` NULL: httpd's own). Returns the status. */
int mod_qo_reply_unauthorized(request_rec *r, const qo_page_t *page);

/* A 200 page, from a content handler. Returns OK. */
int mod_qo_reply_page(request_rec *r, const qo_page_t *page);

/* Marks the answer of this request, and of a page that includes it, as one visitor's own:
 * it becomes private, and httpd's caches keep away from it. */
void mod_qo_reply_keep_private(request_rec *r);

/* For the door: registers the filter. */
void mod_qo_reply_register(void);

#endif
