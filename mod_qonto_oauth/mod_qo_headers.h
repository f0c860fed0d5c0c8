/* Request headers: the only room that reads and changes headers_in. On arrival everything a
 * visitor must not be able to say is taken out, on every path of the virtual host; what the
 * backend is told is put in just before the handler runs, and taken out again when an
 * internal redirect or sub-request leaves the protected location. */
#ifndef MOD_QO_HEADERS_H
#define MOD_QO_HEADERS_H

#include "mod_qo_config.h"
#include "qo_cookie.h"
#include "qo_gate.h"

#include <httpd.h>

/* What the visitor had sent under names that others use too, so that it can be put back.
 * One for a request and all its internal redirects and sub-requests. */
typedef struct {
    bool active;           /* something was exported */
    const char *displaced; /* NULL if there was none */
} mod_qo_export_t;

/* On arrival: removes headers that are ours alone in every spelling, drops their names from
 * Connection, takes our cookies out of Cookie into `cookies`. */
void mod_qo_headers_receive(request_rec *r, const mod_qo_server_t *server,
                            qo_cookies_t *cookies);

/* What the gate wants to know of a request. */
void mod_qo_headers_facts(qo_request_facts_t *out, const request_rec *r);

/* Does anything say that nobody is opening a page? For addresses that are only opened. */
bool mod_qo_headers_not_visit(const request_rec *r);

/* The host name the visitor used: X-Forwarded-Host (last proxy's word) or Host; lower case,
 * NULL if there is none. It decides only whether a redirect is worth while. */
const char *mod_qo_headers_host(const request_rec *r);

/* Did a page of another site make this request? By Sec-Fetch-Site, else Origin. */
bool mod_qo_headers_cross_site(const request_rec *r, const char *own_origin);

/* Sets header (and variable) of every item in dir's QontoPass that has a value, and the
 * token header to `token`; removes the visitor's Authorization in any case. */
void mod_qo_headers_export(request_rec *r, mod_qo_export_t *done, const mod_qo_dir_t *dir,
                           const char *const values[MOD_QO_PASS_ITEMS], const char *token);

/* Takes out of this request whatever an earlier one in its chain was given. A sub-request
 * gets headers of its own, as the main request still needs what was exported. */
void mod_qo_headers_withdraw(request_rec *r, const mod_qo_server_t *server,
                             const mod_qo_export_t *done);

#endif
