/* The directives. The only room that knows cmd_parms beside mod_qo_secret; everything else
 * sees the settled settings. */
#ifndef MOD_QO_CONFIG_H
#define MOD_QO_CONFIG_H

#include "qo_conf.h"
#include "qo_gate.h"
#include "qo_session.h"
#include "qo_store.h"

#include <ap_expr.h>
#include <httpd.h>
#include <http_config.h>

/* What QontoPass can name, in the order of mod_qo_config_pass_items. */
typedef enum {
    MOD_QO_PASS_USER,
    MOD_QO_PASS_EMAIL,
    MOD_QO_PASS_ORGANIZATION,
    MOD_QO_PASS_ROLE,
    MOD_QO_PASS_SCOPE,
    MOD_QO_PASS_EXPIRES,
    MOD_QO_PASS_SESSION,
    MOD_QO_PASS_LOGOUT,
    MOD_QO_PASS_ENV,
    MOD_QO_PASS_STAGING_TOKEN,
    MOD_QO_PASS_ITEMS
} mod_qo_pass_t;

#define MOD_QO_PASS_BIT(item) (1U << (item))
#define MOD_QO_PASS_UNSET MOD_QO_PASS_BIT(MOD_QO_PASS_ITEMS)

typedef struct {
    const char *item;     /* as QontoPass names it */
    const char *header;   /* request header for the backend */
    const char *variable; /* environment variable; NULL: too secret for the environment */
} mod_qo_pass_item_t;

extern const mod_qo_pass_item_t mod_qo_config_pass_items[MOD_QO_PASS_ITEMS];

/* One virtual host. Constant once the children run. */
typedef struct {
    qo_conf_t conf;
    bool own; /* this host itself names a client, and does not only inherit one */
    apr_array_header_t *token_headers; /* const char *: QontoTokenHeader names of this host
                                          that nobody else uses, so never Authorization */
    /* Set by mod_qo_process. */
    const qo_store_provider_t *provider;
    qo_store_t *store;
    qo_keyring_t ring;                /* of pending logins and tickets */
    qo_session_rings_t session_rings; /* not the same on a host that only inherits */
} mod_qo_server_t;

typedef struct {
    const char *name;
    const ap_expr_info_t *value;
} mod_qo_param_t;

/* One location. */
typedef struct {
    const char *scopes;         /* in addition to the server's; NULL for none */
    apr_array_header_t *params; /* mod_qo_param_t; NULL for none */
    int policy;                 /* qo_policy_t, -1 = unset */
    const char *token_header;   /* NULL = unset, "" = send no token */
    const char *token_scheme;   /* "" for the bare token */
    unsigned int pass;          /* MOD_QO_PASS_BITs */
} mod_qo_dir_t;

extern const command_rec mod_qo_config_commands[];

void *mod_qo_config_create_server(apr_pool_t *p, server_rec *s);
void *mod_qo_config_merge_server(apr_pool_t *p, void *base, void *add);
void *mod_qo_config_create_dir(apr_pool_t *p, char *path);
void *mod_qo_config_merge_dir(apr_pool_t *p, void *base, void *add);

mod_qo_server_t *mod_qo_config_server(const server_rec *s);
const mod_qo_dir_t *mod_qo_config_dir(const request_rec *r);

/* With the defaults filled in. */
qo_policy_t mod_qo_config_policy(const mod_qo_dir_t *dir);
const char *mod_qo_config_token_header(const mod_qo_dir_t *dir);
const char *mod_qo_config_token_scheme(const mod_qo_dir_t *dir);
unsigned int mod_qo_config_pass(const mod_qo_dir_t *dir);

/* Is this a header name that other modules and applications use too? */
bool mod_qo_config_shared_header(const char *name);

#endif
