/* URLs: percent coding, queries, absolute URLs of the configuration, and the one rule for
 * return addresses. Nothing here allocates beyond the pool given or trusts its input. */
#ifndef QO_URL_H
#define QO_URL_H

#include "qo_error.h"
#include "qo_limits.h"

#include <apr_pools.h>
#include <apr_tables.h>

#include <stddef.h>

typedef struct {
    const char *name;
    const char *value;
} qo_param_t;

/* An absolute http or https URL taken apart. */
typedef struct {
    const char *url;    /* as written */
    const char *origin; /* scheme://host[:port], lower-case host */
    const char *host;   /* lower case; an IPv6 address without brackets */
    const char *path;   /* raw, begins with "/" */
    const char *query;  /* raw, NULL if none */
    int port;           /* given, or the scheme's */
    bool https;
    bool loopback; /* localhost, *.localhost, 127.0.0.0/8 or ::1 */
} qo_url_t;

/* Takes an absolute URL of the configuration apart: http or https, a host (without a dot at
 * its end), no user, no fragment, no control characters, nothing outside RFC 3986. Else
 * QO_E_BAD_PARAMETER, whose detail is a half sentence that tells what is wrong ("has a
 * fragment"). */
qo_status_t qo_url_parse(qo_url_t *out, apr_pool_t *p, const char *url,
                         qo_err_t *err) QO_MUST_CHECK;

/* Percent-encodes all but RFC 3986 unreserved characters: a space is %20. */
char *qo_url_encode(apr_pool_t *p, const char *text);

/* The reverse ("+" stays a plus); NULL for bad percent coding or a NUL. */
const char *qo_url_decode(apr_pool_t *p, const char *text);

/* A URL as a sentence may quote it: without a password. */
const char *qo_url_shown(apr_pool_t *p, const char *url);

/* name=value&name=value of an array of qo_param_t, both sides encoded. */
char *qo_url_query(apr_pool_t *p, const apr_array_header_t *params);

/* Parses a query or form body (application/x-www-form-urlencoded) into an array of
 * qo_param_t in order. NULL or "" gives an empty array. QO_E_BAD_PARAMETER: too long, too
 * many, bad percent coding, or a NUL. Values may hold any other byte. */
qo_status_t qo_url_parse_query(apr_array_header_t **out, apr_pool_t *p, const char *query,
                               qo_err_t *err) QO_MUST_CHECK;

/* The value of a parameter, NULL when absent. QO_E_BAD_PARAMETER when it comes twice. */
qo_status_t qo_url_param(const char **value, const apr_array_header_t *params,
                         const char *name, qo_err_t *err) QO_MUST_CHECK;

/* A return address that visitors may name: a path on this origin ("/a?b"), at most
 * QO_LIMIT_RETURN characters, else QO_E_BAD_RETURN. Refused is all that some browser reads
 * as another site: no leading slash, "//", "/\", control characters, white space,
 * backslashes anywhere, also when they are percent-encoded once or twice at the start of
 * the path (control characters: anywhere in it); and a path that can become one of these
 * when dot segments are removed ("/..//x"). Queries and fragments may hold any coding. */
qo_status_t qo_url_check_return(const char *path, qo_err_t *err) QO_MUST_CHECK;

/* The host of a Host header value, lower case, without port and trailing dot; NULL if the
 * value has none. */
const char *qo_url_host(apr_pool_t *p, const char *host_header);

/* The address of a query value in a URL is joined with ? or &, whichever fits. */
char *qo_url_join(apr_pool_t *p, const char *url, const char *query);

#endif
