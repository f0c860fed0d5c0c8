/* The few pages the module shows, as complete HTML documents: no script, nothing loaded
 * from anywhere, every word from outside escaped. ASCII only, as httpd labels its error
 * documents with a charset of its own. */
#ifndef QO_PAGE_H
#define QO_PAGE_H

#include <apr_pools.h>

#include <stdbool.h>

/* The value of Content-Security-Policy that fits these pages. */
#define QO_PAGE_CSP                                                                        \
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; " \
    "frame-ancestors 'none'"

typedef struct {
    const char *title;
    const char *text;      /* one or two sentences */
    const char *detail;    /* what Qonto said, in small print; NULL for none */
    const char *reference; /* what to quote to the admin; NULL for none */
    const char *link;      /* the way on; NULL for none */
    const char *label;     /* of that link */
    bool post;             /* the way on is a form that posts, not a link */
    bool provider;         /* the way on leads to Qonto: shown as its button */
} qo_page_t;

const char *qo_page_html(apr_pool_t *p, const qo_page_t *page);

/* `text` with &, <, >, " and ' escaped and all beyond printable ASCII as "?". */
const char *qo_page_escape(apr_pool_t *p, const char *text);

#endif
