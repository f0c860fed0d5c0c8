#include "mod_qo_config.h"

#include "mod_qo_secret.h"
#include "mod_qo_store_socache.h"
#include "qo_store_redis.h"

#include <apr_cstr.h>
#include <apr_file_io.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

#include <string.h>

extern module AP_MODULE_DECLARE_DATA qonto_oauth_module;

const mod_qo_pass_item_t mod_qo_config_pass_items[MOD_QO_PASS_ITEMS] = {
    [MOD_QO_PASS_USER] = {"user", "X-Qonto-User", "QONTO_USER"},
    [MOD_QO_PASS_EMAIL] = {"email", "X-Qonto-Email", "QONTO_EMAIL"},
    [MOD_QO_PASS_ORGANIZATION] = {"organization", "X-Qonto-Organization",
                                  "QONTO_ORGANIZATION"},
    [MOD_QO_PASS_ROLE] = {"role", "X-Qonto-Role", "QONTO_ROLE"},
    [MOD_QO_PASS_SCOPE] = {"scope", "X-Qonto-Scope", "QONTO_SCOPE"},
    [MOD_QO_PASS_EXPIRES] = {"expires", "X-Qonto-Expires", "QONTO_EXPIRES"},
    [MOD_QO_PASS_SESSION] = {"session", "X-Qonto-Session", "QONTO_SESSION"},
    [MOD_QO_PASS_LOGOUT] = {"logout", "X-Qonto-Logout", NULL},
    [MOD_QO_PASS_ENV] = {"env", "X-Qonto-Env", "QONTO_ENV"},
    [MOD_QO_PASS_STAGING_TOKEN] = {"staging-token", "X-Qonto-Staging-Token", NULL},
};

/* ---- create, merge, look up ---- */

void *mod_qo_config_create_server(apr_pool_t *p, server_rec *s)
{
    mod_qo_server_t *server = apr_pcalloc(p, sizeof(*server));

    (void)s;
    qo_conf_init(&server->conf);
    server->token_headers = apr_array_make(p, 2, sizeof(const char *));
    return server;
}

void *mod_qo_config_merge_server(apr_pool_t *p, void *base, void *add)
{
    const mod_qo_server_t *outer = base;
    const mod_qo_server_t *inner = add;
    mod_qo_server_t *server = apr_pcalloc(p, sizeof(*server));

    qo_conf_merge(&server->conf, &outer->conf, &inner->conf);
    server->own = inner->own;
    server->token_headers = apr_array_append(p, outer->token_headers, inner->token_headers);
    return server;
}

void *mod_qo_config_create_dir(apr_pool_t *p, char *path)
{
    mod_qo_dir_t *dir = apr_pcalloc(p, sizeof(*dir));

    (void)path;
    dir->policy = -1;
    dir->pass = MOD_QO_PASS_UNSET;
    return dir;
}

static bool has_param(const apr_array_header_t *params, const char *name)
{
    for (int i = 0; params != NULL && i < params->nelts; i++) {
        const mod_qo_param_t *param = (const void *)params->elts;

        if (strcmp(param[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* A parameter named again further in replaces the outer one. */
static apr_array_header_t *merge_params(apr_pool_t *p, apr_array_header_t *outer,
                                        apr_array_header_t *inner)
{
    apr_array_header_t *merged;

    if (outer == NULL || inner == NULL) {
        return inner != NULL ? inner : outer;
    }
    merged = apr_array_copy(p, inner);
    for (int i = 0; i < outer->nelts; i++) {
        const mod_qo_param_t *param = (const void *)outer->elts;

        if (!has_param(inner, param[i].name)) {
            *(mod_qo_param_t *)apr_array_push(merged) = param[i];
        }
    }
    return merged;
}

void *mod_qo_config_merge_dir(apr_pool_t *p, void *base, void *add)
{
    const mod_qo_dir_t *outer = base;
    const mod_qo_dir_t *inner = add;
    mod_qo_dir_t *dir = apr_pcalloc(p, sizeof(*dir));
    const mod_qo_dir_t *token = inner->token_header != NULL ? inner : outer;

    dir->scopes = outer->scopes == NULL && inner->scopes == NULL
                      ? NULL
                      : qo_conf_scope_union(p, outer->scopes, inner->scopes);
    dir->params = merge_params(p, outer->params, inner->params);
    dir->policy = inner->policy >= 0 ? inner->policy : outer->policy;
    dir->token_header = token->token_header;
    dir->token_scheme = token->token_scheme;
    dir->pass = inner->pass != MOD_QO_PASS_UNSET ? inner->pass : outer->pass;
    return dir;
}

mod_qo_server_t *mod_qo_config_server(const server_rec *s)
{
    return ap_get_module_config(s->module_config, &qonto_oauth_module);
}

const mod_qo_dir_t *mod_qo_config_dir(const request_rec *r)
{
    return ap_get_module_config(r->per_dir_config, &qonto_oauth_module);
}

qo_policy_t mod_qo_config_policy(const mod_qo_dir_t *dir)
{
    return dir->policy >= 0 ? (qo_policy_t)dir->policy : QO_POLICY_LOGIN;
}

const char *mod_qo_config_token_header(const mod_qo_dir_t *dir)
{
    return dir->token_header != NULL ? dir->token_header : "Authorization";
}

const char *mod_qo_config_token_scheme(const mod_qo_dir_t *dir)
{
    return dir->token_header != NULL ? dir->token_scheme : "Bearer";
}

unsigned int mod_qo_config_pass(const mod_qo_dir_t *dir)
{
    return dir->pass != MOD_QO_PASS_UNSET
               ? dir->pass
               : MOD_QO_PASS_BIT(MOD_QO_PASS_USER) | MOD_QO_PASS_BIT(MOD_QO_PASS_SCOPE) |
                     MOD_QO_PASS_BIT(MOD_QO_PASS_EXPIRES);
}

bool mod_qo_config_shared_header(const char *name)
{
    return apr_cstr_casecmp(name, "Authorization") == 0;
}

/* ---- directives of a server or virtual host ---- */

static qo_conf_t *conf_of(cmd_parms *cmd)
{
    return &mod_qo_config_server(cmd->server)->conf;
}

/* The same, for directives without which a host that has one of them cannot work. */
static qo_conf_t *claim(cmd_parms *cmd)
{
    mod_qo_config_server(cmd->server)->own = true;
    return conf_of(cmd);
}

/* Every sentence begins with the directive's name. */
static const char *complain(cmd_parms *cmd, const char *mistake)
{
    return mistake == NULL ? NULL
                           : apr_pstrcat(cmd->pool, cmd->cmd->name, ": ", mistake, NULL);
}

static const char *set_client_id(cmd_parms *cmd, void *dir, const char *id)
{
    (void)dir;
    for (const char *c = id; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~') {
            return complain(cmd,
                            "the client id has a space or a character that no client id "
                            "has: copy it from Qonto's developer portal");
        }
    }
    if (*id == '\0') {
        return complain(cmd,
                        "the client id is empty: copy it from Qonto's developer portal");
    }
    claim(cmd)->client_id = id;
    return NULL;
}

static const char *set_client_secret(cmd_parms *cmd, void *dir, const char *source,
                                     const char *next)
{
    qo_conf_t *conf = claim(cmd);
    const char *mistake = mod_qo_secret_read(&conf->client_secret, cmd, source);

    (void)dir;
    if (mistake == NULL && next != NULL) {
        mistake = mod_qo_secret_read(&conf->next_secret, cmd, next);
    }
    return mistake;
}

static const char *set_redirect_uri(cmd_parms *cmd, void *dir, const char *url)
{
    (void)dir;
    claim(cmd)->redirect_uri = url;
    return NULL;
}

static const char *set_sandbox(cmd_parms *cmd, void *dir, int on)
{
    (void)dir;
    conf_of(cmd)->sandbox = on;
    return NULL;
}

static const char *set_staging_token(cmd_parms *cmd, void *dir, const char *source)
{
    (void)dir;
    return mod_qo_secret_read(&conf_of(cmd)->staging_token, cmd, source);
}

static const char *set_endpoint(cmd_parms *cmd, void *dir, const char *name,
                                const char *url)
{
    qo_endpoint_t endpoint = QO_ENDPOINT_AUTHORIZE;
    const char *mistake = qo_conf_endpoint(&endpoint, cmd->pool, name);

    (void)dir;
    if (mistake != NULL) {
        return complain(cmd, mistake);
    }
    conf_of(cmd)->endpoints[endpoint] = url;
    return NULL;
}

static const char *set_pkce(cmd_parms *cmd, void *dir, int on)
{
    (void)dir;
    conf_of(cmd)->pkce = on;
    return NULL;
}

static bool is_known(const char *store)
{
    return strcmp(store, "lmdb") == 0 || strncmp(store, "lmdb:", 5) == 0 ||
           qo_store_redis_is(store);
}

static const char *check_store(cmd_parms *cmd, const char *store)
{
    const char *mistake;

    if (strcmp(store, "lmdb:") == 0) {
        return "after lmdb: comes a directory, such as lmdb:/var/lib/qonto";
    }
    if (qo_store_redis_is(store)) {
        return qo_store_redis_check(cmd->pool, store);
    }
    if (is_known(store)) {
        return NULL;
    }
    mistake = mod_qo_store_socache_check(cmd->pool, cmd->temp_pool, store);
    return mistake == NULL ? NULL
                           : apr_pstrcat(cmd->pool, mistake,
                                         "; without one, write lmdb or lmdb:DIR", NULL);
}

/* May the value hold a password? */
static bool is_secret(const char *store)
{
    return strncmp(store, "file:", 5) == 0 || strncmp(store, "exec:", 5) == 0 ||
           (strstr(store, "://") != NULL && strchr(store, '@') != NULL);
}

static const char *set_store(cmd_parms *cmd, void *dir, const char *value)
{
    const char *store = value;

    (void)dir;
    if (is_secret(value)) {
        const char *mistake = mod_qo_secret_read(&store, cmd, value);

        if (mistake != NULL) {
            return mistake; /* names the directive itself */
        }
    }
    conf_of(cmd)->store = store;
    /* What came from a file or command may be a password alone, and no sentence about a
     * provider of that name may quote it. */
    if (store != value && !is_known(store)) {
        return complain(cmd, "what was read is neither lmdb:DIR nor an address such as "
                             "redis://user:password@host:6379/0");
    }
    return complain(cmd, check_store(cmd, store));
}

static const char *set_session_key(cmd_parms *cmd, void *dir, const char *source,
                                   const char *old)
{
    qo_conf_t *conf = conf_of(cmd);
    const char *mistake = mod_qo_secret_read(&conf->session_key, cmd, source);

    (void)dir;
    if (mistake == NULL && old != NULL) {
        mistake = mod_qo_secret_read(&conf->old_session_key, cmd, old);
    }
    return mistake;
}

static const char *set_session_timeout(cmd_parms *cmd, void *dir, const char *idle,
                                       const char *max)
{
    qo_conf_t *conf = conf_of(cmd);
    const char *mistake = qo_conf_seconds(&conf->idle_seconds, cmd->pool, idle);

    (void)dir;
    if (mistake == NULL && max != NULL) {
        mistake = qo_conf_seconds(&conf->max_seconds, cmd->pool, max);
    }
    return complain(cmd, mistake);
}

static const char *set_refresh_margin(cmd_parms *cmd, void *dir, const char *margin)
{
    (void)dir;
    return complain(cmd, qo_conf_seconds(&conf_of(cmd)->refresh_margin, cmd->pool, margin));
}

static const char *set_cookie(cmd_parms *cmd, void *dir, const char *assignment)
{
    (void)dir;
    return complain(cmd, qo_conf_cookie(conf_of(cmd), cmd->pool, assignment));
}

static const char *set_timeout(cmd_parms *cmd, void *dir, const char *connect,
                               const char *total)
{
    qo_conf_t *conf = conf_of(cmd);
    const char *mistake =
        qo_conf_milliseconds(&conf->connect_timeout_ms, cmd->pool, connect);

    (void)dir;
    if (mistake == NULL) {
        mistake = qo_conf_milliseconds(&conf->total_timeout_ms, cmd->pool, total);
    }
    return complain(cmd, mistake);
}

static const char *set_proxy(cmd_parms *cmd, void *dir, const char *url)
{
    (void)dir;
    conf_of(cmd)->proxy = url;
    return NULL;
}

static const char *set_ca_file(cmd_parms *cmd, void *dir, const char *path)
{
    const char *full = ap_server_root_relative(cmd->pool, path);
    apr_file_t *file;

    (void)dir;
    if (full == NULL || apr_file_open(&file, full, APR_READ, APR_OS_DEFAULT,
                                      cmd->temp_pool) != APR_SUCCESS) {
        return complain(cmd, apr_psprintf(cmd->pool,
                                          "the file %s cannot be read: write the "
                                          "path of a PEM file with the CA's "
                                          "certificates",
                                          path));
    }
    (void)apr_file_close(file); /* opened for reading: nothing can be lost */
    conf_of(cmd)->ca_file = full;
    return NULL;
}

/* ---- directives of a location, or of a server for all its locations ---- */

/* One scope or, in quotes, several. */
static const char *add_scope(cmd_parms *cmd, void *config, const char *words)
{
    mod_qo_dir_t *dir = config;
    const char **scopes = cmd->path != NULL ? &dir->scopes : &conf_of(cmd)->scopes;
    const char *mistake = *words == '\0' ? qo_conf_scope(cmd->pool, words) : NULL;
    char *last = NULL;
    char *word = apr_strtok(apr_pstrdup(cmd->pool, words), " ", &last);

    for (; mistake == NULL && word != NULL; word = apr_strtok(NULL, " ", &last)) {
        mistake = qo_conf_scope(cmd->pool, word);
        *scopes = qo_conf_scope_union(cmd->pool, *scopes, word);
    }
    return complain(cmd, mistake);
}

static const char *add_authorize_param(cmd_parms *cmd, void *config, const char *name,
                                       const char *expression)
{
    mod_qo_dir_t *dir = config;
    const char *mistake = qo_conf_authorize_param(cmd->pool, name);
    mod_qo_param_t param = {.name = name};

    if (mistake != NULL) {
        return complain(cmd, mistake);
    }
    if (has_param(dir->params, name)) {
        return complain(cmd, apr_psprintf(cmd->pool, "\"%s\" is given twice here", name));
    }
    param.value =
        ap_expr_parse_cmd(cmd, expression, AP_EXPR_FLAG_STRING_RESULT, &mistake, NULL);
    if (mistake != NULL) {
        return complain(cmd,
                        apr_psprintf(cmd->pool, "\"%s\" is not an expression of httpd: %s",
                                     expression, mistake));
    }
    if (dir->params == NULL) {
        dir->params = apr_array_make(cmd->pool, 2, sizeof(mod_qo_param_t));
    }
    *(mod_qo_param_t *)apr_array_push(dir->params) = param;
    return NULL;
}

static const char *set_unauthenticated(cmd_parms *cmd, void *config, const char *word)
{
    static const char *const WORDS[] = {[QO_POLICY_LOGIN] = "login",
                                        [QO_POLICY_PAGE] = "page",
                                        [QO_POLICY_401] = "401",
                                        [QO_POLICY_PASS] = "pass"};
    mod_qo_dir_t *dir = config;

    for (int i = 0; i < (int)(sizeof(WORDS) / sizeof(WORDS[0])); i++) {
        if (apr_cstr_casecmp(word, WORDS[i]) == 0) {
            dir->policy = i;
            return NULL;
        }
    }
    return complain(cmd, apr_psprintf(cmd->pool,
                                      "\"%s\" is unknown: write login, page, 401 or "
                                      "pass",
                                      word));
}

static const char *set_token_header(cmd_parms *cmd, void *config, const char *name,
                                    const char *scheme)
{
    mod_qo_dir_t *dir = config;
    const char *mistake = qo_conf_header_name(cmd->pool, name);

    if (apr_cstr_casecmp(name, "none") == 0) {
        dir->token_header = "";
        dir->token_scheme = "";
        return scheme == NULL ? NULL
                              : complain(cmd, "after none comes no scheme: leave it out");
    }
    if (mistake == NULL && scheme != NULL) {
        mistake = qo_conf_scope(cmd->pool, scheme) == NULL
                      ? NULL
                      : "the scheme must be one word, such as Bearer";
    }
    if (mistake != NULL) {
        return complain(cmd, mistake);
    }
    dir->token_header = name;
    dir->token_scheme = scheme != NULL                      ? scheme
                        : mod_qo_config_shared_header(name) ? "Bearer"
                                                            : "";
    if (!mod_qo_config_shared_header(name)) {
        APR_ARRAY_PUSH(mod_qo_config_server(cmd->server)->token_headers, const char *) =
            name;
    }
    return NULL;
}

static const char *add_pass(cmd_parms *cmd, void *config, const char *item)
{
    mod_qo_dir_t *dir = config;

    if (dir->pass == MOD_QO_PASS_UNSET) {
        dir->pass = 0;
    }
    if (apr_cstr_casecmp(item, "none") == 0) {
        return NULL;
    }
    for (int i = 0; i < MOD_QO_PASS_ITEMS; i++) {
        if (apr_cstr_casecmp(item, mod_qo_config_pass_items[i].item) == 0) {
            dir->pass |= MOD_QO_PASS_BIT(i);
            return NULL;
        }
    }
    return complain(cmd,
                    apr_psprintf(cmd->pool,
                                 "\"%s\" is unknown: write one or more of user, email, "
                                 "organization, role, scope, expires, session, logout, "
                                 "env, staging-token, or none",
                                 item));
}

#define SERVER RSRC_CONF
#define LOCATION (RSRC_CONF | ACCESS_CONF)

const command_rec mod_qo_config_commands[] = {
    AP_INIT_TAKE1("QontoClientId", set_client_id, NULL, SERVER,
                  "client id from Qonto's developer portal"),
    AP_INIT_TAKE12(
        "QontoClientSecret", set_client_secret, NULL, SERVER,
        "client secret: literal, file:PATH or exec:COMMAND; a second one is tried "
        "when Qonto refuses the first"),
    AP_INIT_TAKE1("QontoRedirectURI", set_redirect_uri, NULL, SERVER,
                  "absolute URL of the callback, exactly as registered at Qonto"),
    AP_INIT_ITERATE("QontoScopes", add_scope, NULL, LOCATION,
                    "scopes to ask for; in a location, in addition to the server's"),
    AP_INIT_FLAG("QontoSandbox", set_sandbox, NULL, SERVER,
                 "On to use Qonto's sandbox instead of production"),
    AP_INIT_TAKE1("QontoStagingToken", set_staging_token, NULL, SERVER,
                  "staging token of the sandbox: literal, file:PATH or exec:COMMAND"),
    AP_INIT_TAKE2("QontoEndpoint", set_endpoint, NULL, SERVER,
                  "authorize, token, revoke or api, and the URL to use instead of Qonto's"),
    AP_INIT_TAKE2(
        "QontoAuthorizeParam", add_authorize_param, NULL, LOCATION,
        "name and value (an httpd expression) of an extra authorization parameter"),
    AP_INIT_FLAG("QontoPKCE", set_pkce, NULL, SERVER, "Off to leave out PKCE (S256)"),
    AP_INIT_TAKE1("QontoUnauthenticated", set_unauthenticated, NULL, LOCATION,
                  "what a visitor without a session gets: login, page, 401 or pass"),
    AP_INIT_TAKE12("QontoTokenHeader", set_token_header, NULL, LOCATION,
                   "request header and scheme that carry the access token, or none"),
    AP_INIT_ITERATE("QontoPass", add_pass, NULL, LOCATION,
                    "what the backend is told in X-Qonto-* headers and QONTO_* variables"),
    AP_INIT_TAKE1("QontoSessionStore", set_store, NULL, SERVER,
                  "where sessions are kept: lmdb[:DIR], redis://[user:password@]host, or a "
                  "socache provider such as shmcb:FILE(BYTES)"),
    AP_INIT_TAKE12(
        "QontoSessionKey", set_session_key, NULL, SERVER,
        "key that seals sessions, and an old one that still opens them: literal, "
        "file:PATH or exec:COMMAND"),
    AP_INIT_TAKE12("QontoSessionTimeout", set_session_timeout, NULL, SERVER,
                   "idle time and longest life of a session, such as 8h 30d"),
    AP_INIT_TAKE1("QontoRefreshMargin", set_refresh_margin, NULL, SERVER,
                  "an access token with less time left is renewed, such as 60s"),
    AP_INIT_ITERATE("QontoCookie", set_cookie, NULL, SERVER,
                    "name=, path= and samesite= of the session cookie"),
    AP_INIT_TAKE2("QontoTimeout", set_timeout, NULL, SERVER,
                  "time to connect to Qonto and time for a whole call, such as 3s 10s"),
    AP_INIT_TAKE1("QontoProxyURL", set_proxy, NULL, SERVER, "proxy for the calls to Qonto"),
    AP_INIT_TAKE1("QontoCAFile", set_ca_file, NULL, SERVER,
                  "PEM file with the CA certificates that vouch for Qonto"),
    {.name = NULL}};
