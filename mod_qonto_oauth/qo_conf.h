/* The settings of one virtual host: what the directives said, merged, then settled once
 * (presets filled in, everything checked) and constant ever after. Every mistake is a
 * sentence that tells the admin what to write instead. */
#ifndef QO_CONF_H
#define QO_CONF_H

#include "qo_cookie.h"
#include "qo_error.h"
#include "qo_url.h"

#include <apr_pools.h>
#include <apr_tables.h>

#include <stdint.h>

typedef enum {
    QO_ENDPOINT_AUTHORIZE,
    QO_ENDPOINT_TOKEN,
    QO_ENDPOINT_REVOKE,
    QO_ENDPOINT_API,
    QO_ENDPOINTS
} qo_endpoint_t;

/* As QontoEndpoint names them. */
extern const char *const qo_conf_endpoint_names[QO_ENDPOINTS];

typedef struct {
    /* As the directives said; NULL or -1 where they said nothing. */
    const char *client_id;
    const char *client_secret; /* the secret itself, wherever it was read from */
    const char *next_secret;
    const char *redirect_uri;
    const char *scopes; /* separated by single spaces */
    int sandbox;
    const char *staging_token;
    const char *endpoints[QO_ENDPOINTS];
    int pkce;
    const char *store;
    const char *session_key;
    const char *old_session_key;
    int idle_seconds;
    int max_seconds;
    int refresh_margin; /* seconds */
    const char *cookie_name;
    const char *cookie_path;
    const char *cookie_samesite;
    int connect_timeout_ms;
    int total_timeout_ms;
    const char *proxy;
    const char *ca_file;

    /* Filled in by qo_conf_settle. */
    bool enabled; /* this virtual host has a client id */
    qo_url_t redirect;
    qo_cookie_spec_t cookies;
    _Atomic bool *next_first; /* the next secret is the one that works: found out, in each
                               * process for itself; NULL: not remembered */
    const char *binding;      /* what sessions are bound to: client id and redirect URI */
} qo_conf_t;

/* All unset. */
void qo_conf_init(qo_conf_t *conf);

/* What `add` says goes before what `base` says. */
void qo_conf_merge(qo_conf_t *out, const qo_conf_t *base, const qo_conf_t *add);

/* Are client id, client secret and redirect URI there? */
bool qo_conf_complete(const qo_conf_t *conf);

/* Checks everything that can be checked without the network and fills in what was left out.
 * Returns NULL or the sentence of the first mistake; adds sentences of mere doubts to
 * `warnings` (array of const char *). A configuration without any client settings is not
 * enabled and has no mistakes. */
const char *qo_conf_settle(qo_conf_t *conf, apr_pool_t *p, apr_array_header_t *warnings);

/* Values of directives; each returns NULL or the sentence of the mistake. */
const char *qo_conf_seconds(int *seconds, apr_pool_t *p, const char *text);
const char *qo_conf_milliseconds(int *milliseconds, apr_pool_t *p, const char *text);
const char *qo_conf_scope(apr_pool_t *p, const char *scope);
const char *qo_conf_endpoint(qo_endpoint_t *out, apr_pool_t *p, const char *name);
const char *qo_conf_cookie(qo_conf_t *conf, apr_pool_t *p, const char *assignment);
const char *qo_conf_authorize_param(apr_pool_t *p, const char *name);
/* A request header's name (RFC 9110 section 5.1 token). */
const char *qo_conf_header_name(apr_pool_t *p, const char *name);

/* The union of two scope lists in order of first mention; NULL counts as empty. */
const char *qo_conf_scope_union(apr_pool_t *p, const char *a, const char *b);
bool qo_conf_scope_has(const char *scopes, const char *scope);

#endif
