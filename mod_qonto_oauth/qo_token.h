/* The token set: what the token endpoint gives (RFC 6749 section 5.1), and its error answer
 * (section 5.2). Tokens travel through the module only inside a qo_token_t. */
#ifndef QO_TOKEN_H
#define QO_TOKEN_H

#include "qo_error.h"
#include "qo_limits.h"

#include <apr_pools.h>
#include <apr_time.h>

typedef struct {
    const char *access;  /* never NULL; printable ASCII without spaces */
    const char *refresh; /* NULL without offline_access */
    const char *id;      /* ID token as received, NULL without openid */
    const char *scope;   /* granted; never NULL */
    apr_time_t expires;  /* when the access token dies */
} qo_token_t;

/* Reads a 200 answer. `requested` is the scope asked for, taken as granted when the answer
 * names none (RFC 6749 section 5.1); `asked_at` is when the request began. The strings live
 * in `p`. QO_E_BAD_ANSWER: not JSON, or a field is missing or malformed. */
qo_status_t qo_token_parse(qo_token_t *out, apr_pool_t *p, const char *body, size_t len,
                           const char *requested, apr_time_t asked_at,
                           qo_err_t *err) QO_MUST_CHECK;

/* Reads an error answer: GRANT_REJECTED for invalid_grant, REQUEST_REFUSED for
 * invalid_scope, CLIENT_REFUSED for invalid_client and unauthorized_client, BUSY for what
 * can be tried again, BAD_ANSWER for the rest, NOT_JSON for an answer without an "error".
 * 429 and 5xx are BUSY whatever the body says; 401 is CLIENT_REFUSED unless the error says
 * otherwise. The detail holds Qonto's words, cut and made printable, and "[removed]" for
 * what could be a token. */
qo_status_t qo_token_parse_error(apr_pool_t *p, int http_status, const char *body,
                                 size_t len, qo_err_t *err) QO_MUST_CHECK;

#endif
