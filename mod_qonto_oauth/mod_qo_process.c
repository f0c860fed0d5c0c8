#include "mod_qo_process.h"

#include "mod_qo_config.h"
#include "mod_qo_log.h"
#include "mod_qo_store_socache.h"
#include "qo_config.h"
#include "qo_http.h"
#include "qo_keyfile.h"
#include "qo_store_lmdb.h"
#include "qo_url.h"

#include <ap_provider.h>
#include <apr_cstr.h>
#include <apr_optional.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <mod_watchdog.h>
#include <unixd.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SWEEP_BATCHES 50 /* of QO_SWEEP_BATCH, in one visit of the watchdog */

/* A store that one or more virtual hosts share; no process may open the same one twice. */
typedef struct {
    const char *place; /* the directory of an lmdb store, else its specification, which may
                        * hold a password */
    const char *key_dir;
    const qo_store_provider_t *provider;
    qo_store_t *store;
} shared_store_t;

static apr_array_header_t *stores; /* shared_store_t, in pconf */
static bool has_watchdog;

/* httpd does not wait for the watchdog's thread before a child closes its stores. */
static pthread_mutex_t sweeping = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool closing;

int mod_qo_process_pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog;
    (void)ptemp;
    stores = apr_array_make(pconf, 2, sizeof(shared_store_t));
    return mod_qo_store_socache_register(pconf) == APR_SUCCESS ? OK
                                                               : HTTP_INTERNAL_SERVER_ERROR;
}

/* ---- checking ---- */

static void log_warnings(const server_rec *s, const apr_array_header_t *warnings)
{
    const char *const *sentences = (const void *)warnings->elts;

    for (int i = 0; i < warnings->nelts; i++) {
        mod_qo_log_server(APLOG_WARNING, s, MOD_QO_LOG_CONFIG, "%s", sentences[i]);
    }
}

static bool is_first_pass(void)
{
    return ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG;
}

static bool is_config_test(void)
{
    return ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_CONFIG_TEST;
}

static const char *where(apr_pool_t *p, const server_rec *s)
{
    if (s->defn_name == NULL) {
        return "in the main server";
    }
    return apr_psprintf(p, "in the virtual host at line %u of %s", s->defn_line_number,
                        s->defn_name);
}

static bool any_complete(const server_rec *s)
{
    while (s != NULL && !qo_conf_complete(&mod_qo_config_server(s)->conf)) {
        s = s->next;
    }
    return s != NULL;
}

/* A virtual host may inherit part of the settings and have nothing to do with Qonto, and
 * the main server may hold what virtual hosts share. */
static bool is_incomplete_on_purpose(const server_rec *s)
{
    const mod_qo_server_t *server = mod_qo_config_server(s);

    return !qo_conf_complete(&server->conf) &&
           (!server->own || (!s->is_virtual && any_complete(s->next)));
}

static bool check_host(const server_rec *s, apr_pool_t *pconf, apr_pool_t *ptemp)
{
    apr_array_header_t *warnings = apr_array_make(ptemp, 1, sizeof(const char *));
    const char *mistake;

    if (is_incomplete_on_purpose(s)) {
        return true;
    }
    mistake = qo_conf_settle(&mod_qo_config_server(s)->conf, pconf, warnings);
    if (mistake != NULL) {
        mod_qo_log_server(APLOG_EMERG, s, MOD_QO_LOG_CONFIG, "%s (%s)", mistake,
                          where(ptemp, s));
        return false;
    }
    /* httpd reads its configuration twice when it starts; once is enough to be told. */
    if (is_config_test() || !is_first_pass()) {
        log_warnings(s, warnings);
    }
    return true;
}

int mod_qo_process_check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                                server_rec *s)
{
    (void)plog;
    for (; s != NULL; s = s->next) {
        if (!check_host(s, pconf, ptemp)) {
            return HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    return OK;
}

/* ---- the parent ---- */

/* The directory behind "lmdb" or "lmdb:DIR": one name for one place, however it is written.
 */
static const char *lmdb_place(apr_pool_t *p, const char *spec)
{
    const char *dir = ap_server_root_relative(p, spec[4] == ':' ? spec + 5 : QO_STORE_DIR);
    char *real = dir != NULL ? realpath(dir, NULL) : NULL;
    char *place = apr_pstrdup(p, real != NULL ? real : dir);
    size_t len = place != NULL ? strlen(place) : 0;

    free(real);
    while (len > 1 && place[len - 1] == '/') {
        place[--len] = '\0';
    }
    return place;
}

static bool is_lmdb(const char *spec)
{
    return strcmp(spec, "lmdb") == 0 || strncmp(spec, "lmdb:", 5) == 0;
}

/* "name", "name:argument" or "scheme://rest": httpd's own socache providers have arguments
 * such as "redis:host:port", so a scheme is a name of its own, slashes and all. */
static size_t name_length(const char *spec)
{
    const char *colon = strchr(spec, ':');

    if (colon == NULL) {
        return strlen(spec);
    }
    return (size_t)(colon - spec) + (strncmp(colon, "://", 3) == 0 ? 3 : 0);
}

static const qo_store_provider_t *find_provider(const char *spec)
{
    size_t len = name_length(spec);
    char name[32];
    const qo_store_provider_t *provider = NULL;

    if (len < sizeof(name)) {
        memcpy(name, spec, len);
        name[len] = '\0';
        provider = ap_lookup_provider(QO_STORE_GROUP, name, QO_STORE_VERSION);
    }
    return provider != NULL ? provider : &mod_qo_store_socache_provider;
}

/* For the log: URLs may hold a password. */
static const char *shown(apr_pool_t *p, const char *spec)
{
    return strstr(spec, "://") != NULL ? qo_url_shown(p, spec) : spec;
}

static qo_status_t prepare_store(shared_store_t *shared, apr_pool_t *p, server_rec *s,
                                 const char *spec, qo_err_t *err)
{
    qo_store_setup_t setup = {
        .argument = shared->place,
        .dir = ap_server_root_relative(p, QO_STORE_DIR),
        .uid = getuid() == 0 ? (long)ap_unixd_config.user_id : -1,
        .gid = getuid() == 0 ? (long)ap_unixd_config.group_id : -1,
    };
    qo_status_t status;

    if (setup.argument == NULL || setup.dir == NULL) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s is not a path", shown(p, spec));
    }
    shared->provider = find_provider(spec);
    shared->key_dir = is_lmdb(spec) ? setup.argument : setup.dir;
    status = shared->provider->prepare(&shared->store, p, &setup, err);
    if (status == QO_OK && err->detail[0] != '\0') {
        mod_qo_log_server(APLOG_CRIT, s, MOD_QO_LOG_STORE, "session store %s: %s",
                          shared->provider->name, err->detail);
    }
    if (status == QO_OK && shared->provider->caveat != NULL && !is_first_pass()) {
        mod_qo_log_server(APLOG_WARNING, s, MOD_QO_LOG_STORE, "QontoSessionStore %s: %s",
                          shown(p, spec), shared->provider->caveat);
    }
    return status;
}

static qo_status_t get_store(shared_store_t **out, apr_pool_t *p, server_rec *s,
                             const char *spec, qo_err_t *err)
{
    shared_store_t *list = (void *)stores->elts;
    const char *place = is_lmdb(spec) ? lmdb_place(p, spec) : spec;

    for (int i = 0; place != NULL && i < stores->nelts; i++) {
        if (strcmp(list[i].place, place) == 0) {
            *out = &list[i];
            return QO_OK;
        }
    }
    *out = apr_array_push(stores);
    (*out)->place = place;
    return prepare_store(*out, p, s, spec, err);
}

/* A session belongs to its client and redirect URI, wherever these are written. A host of
 * another name that merely inherits them is another host all the same. */
static const char *session_binding(const mod_qo_server_t *server, apr_pool_t *p,
                                   const server_rec *s)
{
    const qo_conf_t *conf = &server->conf;
    const char *name = s->server_hostname != NULL ? s->server_hostname : "";

    if (server->own || apr_cstr_casecmp(name, conf->redirect.host) == 0) {
        return conf->binding;
    }
    return apr_pstrcat(p, conf->binding, "\n", name, NULL);
}

static qo_status_t bind_ring(qo_keyring_t *out, apr_pool_t *p, const qo_keyring_t *ring,
                             const char *binding)
{
    qo_status_t status = qo_keyring_bind(out, ring, binding);

    return status == QO_OK ? qo_keyring_prepare(out, p) : status;
}

/* Before the ring of the server key itself is bound to any host, it reads what the session
 * tool may read. */
static qo_status_t bind_session_rings(mod_qo_server_t *server, apr_pool_t *p,
                                      const server_rec *s, const qo_keyring_t *ring)
{
    server->session_rings.admin = *ring;
    return bind_ring(&server->session_rings.visitor, p, ring,
                     session_binding(server, p, s));
}

static qo_status_t load_ring(mod_qo_server_t *server, apr_pool_t *p, const server_rec *s,
                             const char *key_dir, qo_err_t *err)
{
    qo_keyring_t ring = {.count = 0};
    const char *key = server->conf.session_key;
    const char *old = server->conf.old_session_key;
    qo_status_t status = QO_OK;

    if (key == NULL) {
        status = qo_keyfile_load(&key, p, key_dir, err);
    }
    if (status == QO_OK) {
        status = qo_keyring_add(&ring, key, strlen(key));
    }
    if (status == QO_OK && old != NULL) {
        status = qo_keyring_add(&ring, old, strlen(old));
    }
    if (status == QO_OK) {
        status = bind_ring(&server->ring, p, &ring, server->conf.binding);
    }
    if (status == QO_OK) {
        status = bind_session_rings(server, p, s, &ring);
    }
    qo_crypto_wipe(&ring, sizeof(ring));
    return status;
}

static qo_status_t start_host(apr_pool_t *p, server_rec *s, qo_err_t *err)
{
    mod_qo_server_t *server = mod_qo_config_server(s);
    shared_store_t *shared;
    qo_status_t status;

    if (!server->conf.enabled || server->store != NULL) {
        return QO_OK; /* without Qonto, or the same settings as another host's */
    }
    status = get_store(&shared, p, s, server->conf.store, err);
    if (status == QO_OK) {
        status = load_ring(server, p, s, shared->key_dir, err);
    }
    if (status == QO_OK) {
        server->provider = shared->provider;
        server->store = shared->store;
    }
    return status;
}

static apr_status_t sweep_by_watchdog(int state, void *data, apr_pool_t *p);

/* One process of the server sweeps; which one, mod_watchdog decides. */
static void register_watchdog(apr_pool_t *p, server_rec *s)
{
    APR_OPTIONAL_FN_TYPE(ap_watchdog_get_instance) *get_instance =
        APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_get_instance);
    APR_OPTIONAL_FN_TYPE(ap_watchdog_register_callback) *register_callback =
        APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_register_callback);
    ap_watchdog_t *watchdog;

    has_watchdog = get_instance != NULL && register_callback != NULL &&
                   get_instance(&watchdog, "_qonto_oauth_", 0, 1, p) == APR_SUCCESS &&
                   register_callback(watchdog, apr_time_from_sec(QO_SWEEP_INTERVAL), s,
                                     sweep_by_watchdog) == APR_SUCCESS;
}

static apr_status_t end_crypto(void *unused)
{
    (void)unused;
    qo_crypto_end();
    return APR_SUCCESS;
}

int mod_qo_process_post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                               server_rec *s)
{
    (void)plog;
    (void)ptemp;
    if (qo_crypto_init() != QO_OK) {
        mod_qo_log_server(APLOG_EMERG, s, MOD_QO_LOG_CONFIG, "OpenSSL cannot be used");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    /* httpd unloads its modules at the end of each configuration. */
    apr_pool_cleanup_register(pconf, NULL, end_crypto, apr_pool_cleanup_null);
    for (server_rec *host = s; host != NULL; host = host->next) {
        qo_err_t err = {.detail = ""};
        qo_status_t status = start_host(pconf, host, &err);

        if (status != QO_OK) {
            mod_qo_log_server(
                APLOG_EMERG, host, MOD_QO_LOG_STORE,
                "the session store cannot be used: %s (name another place with "
                "QontoSessionStore lmdb:DIR)",
                err.detail);
            return HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    if (stores->nelts > 0) {
        register_watchdog(pconf, s);
    }
    return OK;
}

/* ---- the children ---- */

static apr_status_t stop_http(void *unused)
{
    (void)unused;
    qo_http_stop();
    return APR_SUCCESS;
}

/* A sweep that is under way ends after its batch; no other begins. */
static apr_status_t stop_sweeping(void *unused)
{
    (void)unused;
    closing = true;
    (void)pthread_mutex_lock(&sweeping); /* cannot fail: not held by this thread */
    (void)pthread_mutex_unlock(&sweeping);
    return APR_SUCCESS;
}

void mod_qo_process_child_init(apr_pool_t *pchild, server_rec *s)
{
    const shared_store_t *list = (const void *)stores->elts;

    if (stores->nelts == 0) {
        return;
    }
    if (qo_crypto_init() != QO_OK || qo_http_start() != QO_OK) {
        mod_qo_log_server(APLOG_EMERG, s, MOD_QO_LOG_CONFIG,
                          "OpenSSL or libcurl cannot be used in this process");
    }
    closing = false;
    apr_pool_cleanup_register(pchild, NULL, stop_http, apr_pool_cleanup_null);
    for (int i = 0; i < stores->nelts; i++) {
        qo_err_t err = {.detail = ""};

        /* Such a process answers 503 where somebody must sign in, and nothing else suffers.
         */
        if (list[i].provider->attach(list[i].store, pchild, &err) != QO_OK) {
            mod_qo_log_server(APLOG_CRIT, s, MOD_QO_LOG_STORE,
                              "session store %s cannot be opened: %s",
                              list[i].provider->name, err.detail);
        }
    }
    /* The last to be registered is the first to be called. */
    apr_pool_cleanup_register(pchild, NULL, stop_sweeping, apr_pool_cleanup_null);
}

static void sweep_all(const server_rec *s, apr_time_t now, int batches)
{
    const shared_store_t *list = (const void *)stores->elts;

    for (int i = 0; i < stores->nelts; i++) {
        bool more = true;

        for (int batch = 0; more && !closing && batch < batches; batch++) {
            qo_err_t err = {.detail = ""};

            if (list[i].provider->sweep(list[i].store, now, QO_SWEEP_BATCH, &more, &err) !=
                QO_OK) {
                mod_qo_log_server(APLOG_WARNING, s, MOD_QO_LOG_SWEEP,
                                  "session store %s cannot be swept: %s",
                                  list[i].provider->name, err.detail);
                more = false;
            }
        }
    }
}

static apr_status_t sweep_by_watchdog(int state, void *data, apr_pool_t *p)
{
    (void)p;
    if (state == AP_WATCHDOG_STATE_RUNNING && pthread_mutex_lock(&sweeping) == 0) {
        sweep_all(data, apr_time_now(), SWEEP_BATCHES);
        (void)pthread_mutex_unlock(&sweeping); /* held by this thread */
    }
    return APR_SUCCESS;
}

void mod_qo_process_sweep_if_needed(const server_rec *s, apr_time_t now)
{
    if (!has_watchdog) {
        sweep_all(s, now, 1);
    }
}
