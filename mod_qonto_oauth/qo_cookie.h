/* Cookies, as RFC 6265 has them on the wire: find ours in a Cookie header, take them out of
 * it, and write Set-Cookie lines. Names are compared exactly; a case variant is not ours.
 */
#ifndef QO_COOKIE_H
#define QO_COOKIE_H

#include "qo_error.h"
#include "qo_limits.h"

#include <apr_pools.h>

/* How this virtual host's cookies look. Made once from the configuration. */
typedef struct {
    const char *session; /* full name of the session cookie, prefix included */
    const char *binding; /* beginning of the binding cookies' names; QO_BINDING_ID follow */
    const char *path;    /* of the session cookie */
    const char *callback_path; /* of the binding cookies */
    const char *samesite;      /* "Lax" or "None" */
    bool secure;
} qo_cookie_spec_t;

typedef struct {
    const char *id;    /* QO_BINDING_ID characters */
    const char *value; /* QO_BINDING_TEXT characters */
} qo_binding_cookie_t;

/* What a request brought. Values of the wrong length or alphabet are counted in `junk`,
 * removed like the others, and never looked at again. */
typedef struct {
    const char *sessions[QO_LIMIT_SESSION_COOKIES]; /* well-formed, all different */
    int session_count;
    qo_binding_cookie_t *bindings; /* at most QO_LIMIT_BINDING_COOKIES, NULL if none */
    int binding_count;
    int junk;
    bool found;       /* the header held a cookie of ours, junk included */
    const char *rest; /* the header without them; NULL when nothing is left */
} qo_cookies_t;

/* Fills the spec: "__Host-" on https with path "/", "__Secure-" on https with another path,
 * the plain name on http (loopback). */
void qo_cookie_spec(qo_cookie_spec_t *out, apr_pool_t *p, const char *name,
                    const char *path, const char *samesite, const char *callback_path,
                    bool https);

/* Reads a Cookie header (NULL if there is none). Allocates only when it holds ours. */
void qo_cookie_take(qo_cookies_t *out, apr_pool_t *p, const qo_cookie_spec_t *spec,
                    const char *header);

/* Set-Cookie values. A cleared cookie has the attributes of the one that was set. */
char *qo_cookie_session(apr_pool_t *p, const qo_cookie_spec_t *spec, const char *value);
char *qo_cookie_session_clear(apr_pool_t *p, const qo_cookie_spec_t *spec);
char *qo_cookie_binding(apr_pool_t *p, const qo_cookie_spec_t *spec, const char *id,
                        const char *value);
char *qo_cookie_binding_clear(apr_pool_t *p, const qo_cookie_spec_t *spec, const char *id);

#endif
