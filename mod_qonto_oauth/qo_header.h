/* Header names and two header values, as pure text. Backends fold names before they compare
 * them (CGI and WSGI make X-A, x_a and X.A the same variable), so a forged copy is told by
 * the folded name: letters lower, everything but letters and digits the same. */
#ifndef QO_HEADER_H
#define QO_HEADER_H

#include <apr_pools.h>
#include <apr_tables.h>

#include <stdbool.h>

/* Equal once folded? */
bool qo_header_same(const char *a, const char *b);

/* May only the module set this request header? X-Qonto-* and Qonto-*, and those in `names`
 * (array of const char *, NULL for none). X-Qonto-Signature in exactly that spelling is
 * Qonto's own: it signs webhooks, and the backend checks it by itself. */
bool qo_header_ours(const char *name, const apr_array_header_t *names);

/* A Connection value without the names that are ours, and without what is no plain name
 * (RFC 9110 section 7.6.1) but may be read as one: a proxy removes the headers listed
 * there, which must not touch what we set (compare CVE-2022-31813). Returns `value` itself
 * when nothing had to go, NULL when nothing is left. */
const char *qo_header_connection(apr_pool_t *p, const char *value,
                                 const apr_array_header_t *names);

/* Cache-Control for an answer that belongs to one visitor: `value` (NULL if none) when it
 * already says no-store or private, else "private" with what else it says, less public and
 * s-maxage. */
const char *qo_header_private(apr_pool_t *p, const char *value);

#endif
