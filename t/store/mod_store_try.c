/* A module for t/store/port.t: lets a request do one call of the session store's port over
 * a socache provider, in a real httpd with its processes, mutex and restarts.
 *
 *   StoreTry SPEC
 *   GET /?OP,KEY[,NUMBER[,NUMBER[,TEXT]]]
 *
 * answers the status by its number and what the call brought. */
#include "mod_qo_socache.h"
#include "mod_qo_store_socache.h"

#include <httpd.h>
#include <http_config.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>

#include <apr_escape.h>
#include <apr_strings.h>

#include <stdio.h>
#include <string.h>

module AP_MODULE_DECLARE_DATA store_try_module;
APLOG_USE_MODULE(store_try);

static const qo_store_provider_t *const S = &mod_qo_store_socache_provider;
static const char *spec;
static qo_store_t *store;
static mod_qo_socache_t *behind; /* the same store, past the port; with shmcb, another
                                  * segment under the same mutex */

typedef struct {
    request_rec *r;
    qo_hash_t key;
    unsigned long a;
    unsigned long b;
    const char *text;
    qo_err_t err;
} call_t;

/* ---- calls ---- */

static qo_status_t do_create(call_t *c)
{
    qo_bytes_t value = {(unsigned char *)(uintptr_t)c->text, strlen(c->text)};
    apr_time_t now = apr_time_now();

    return S->session_create(store, &c->key, value, now + apr_time_from_sec(c->a),
                             (uint32_t)c->b, now, &c->err);
}

static qo_status_t do_get(call_t *c)
{
    qo_store_meta_t meta;
    qo_bytes_t value;
    qo_status_t status =
        S->session_get(store, c->r->pool, &c->key, &value, &meta, apr_time_now(), &c->err);

    if (status == QO_OK) {
        ap_rprintf(c->r, "%lu %.*s ", (unsigned long)meta.version, (int)value.len,
                   (const char *)value.data);
    }
    return status;
}

static qo_status_t do_replace(call_t *c)
{
    qo_bytes_t value = {(unsigned char *)(uintptr_t)c->text, strlen(c->text)};

    return S->session_replace(store, &c->key, c->a, value, apr_time_now(), &c->err);
}

static qo_status_t do_delete(call_t *c)
{
    return S->session_delete(store, &c->key, c->a, apr_time_now(), &c->err);
}

static qo_status_t do_touch(call_t *c)
{
    return S->touch(store, &c->key, apr_time_now(), &c->err);
}

/* generation, milliseconds */
static qo_status_t do_acquire(call_t *c)
{
    qo_lease_t lease = {.generation = c->a};
    unsigned char record[QO_LEASE_LEN];
    qo_status_t status = qo_lease_holder(&lease.holder);

    if (status == QO_OK) {
        status = S->lease_acquire(store, &c->key, &lease, apr_time_from_msec(c->b),
                                  apr_time_now(), &c->err);
    }
    if (status == QO_OK || status == QO_E_CONFLICT) {
        qo_lease_encode(record, &lease);
        ap_rprintf(c->r, "%s ", apr_pescape_hex(c->r->pool, record, QO_LEASE_LEN, 0));
    }
    return status;
}

/* status, milliseconds, what acquire answered */
static qo_status_t do_release(call_t *c)
{
    qo_lease_t lease;
    apr_size_t len = 0;
    const unsigned char *record = apr_punescape_hex(c->r->pool, c->text, 0, &len);

    if (record == NULL || !qo_lease_decode(&lease, record, len)) {
        return QO_E_BAD_PARAMETER;
    }
    return S->lease_release(store, &c->key, &lease, (qo_status_t)c->a,
                            apr_time_from_msec(c->b), &c->err);
}

/* A lease as another boot might have left it. */
static qo_status_t do_plant(call_t *c)
{
    qo_lease_t lease = {.generation = c->a};
    qo_status_t status = qo_lease_holder(&lease.holder);

    lease.first = qo_lease_clock() + apr_time_from_sec(100);
    lease.until = lease.first + apr_time_from_sec(100);
    if (status == QO_OK) {
        mod_qo_socache_slot_t at;
        unsigned char record[QO_LEASE_LEN];

        qo_lease_encode(record, &lease);
        status = mod_qo_socache_enter(&at, behind, MOD_QO_SOCACHE_LEASE, &c->key, &c->err);
        if (status == QO_OK) {
            status = mod_qo_socache_leave(
                &at, mod_qo_socache_write_for(&at, (qo_bytes_t){record, QO_LEASE_LEN},
                                              apr_time_from_sec(60)));
        }
    }
    return status;
}

/* For milliseconds with the mutex held; says since and until when. */
static qo_status_t do_hold(call_t *c)
{
    mod_qo_socache_slot_t at;
    qo_status_t status =
        mod_qo_socache_enter(&at, behind, MOD_QO_SOCACHE_SESSION, &c->key, &c->err);

    if (status == QO_OK) {
        apr_time_t since = apr_time_now();

        ap_rprintf(c->r, "%" APR_TIME_T_FMT, since);
        while (apr_time_now() < since + apr_time_from_msec(c->a)) {
            apr_sleep(apr_time_from_msec(10)); /* a signal ends it early */
        }
        ap_rprintf(c->r, "-%" APR_TIME_T_FMT " ", apr_time_now());
        status = mod_qo_socache_leave(&at, QO_OK);
    }
    return status;
}

static const struct {
    const char *name;
    qo_status_t (*call)(call_t *c);
} CALLS[] = {{"create", do_create},   {"get", do_get},     {"replace", do_replace},
             {"delete", do_delete},   {"touch", do_touch}, {"acquire", do_acquire},
             {"release", do_release}, {"plant", do_plant}, {"hold", do_hold}};

static int answer(request_rec *r)
{
    char op[16], text[400] = "";
    call_t c = {.r = r, .text = text};
    unsigned int number = 0;

    if (r->handler == NULL || strcmp(r->handler, "store-try") != 0 || r->args == NULL ||
        sscanf(r->args, "%15[a-z],%u,%lu,%lu,%399s", op, &number, &c.a, &c.b, text) < 2 ||
        qo_crypto_hash(&c.key, &number, sizeof(number)) != QO_OK) {
        return DECLINED;
    }
    ap_set_content_type(r, "text/plain");
    for (size_t i = 0; i < sizeof(CALLS) / sizeof(CALLS[0]); i++) {
        if (strcmp(CALLS[i].name, op) == 0) {
            qo_status_t status = CALLS[i].call(&c);

            ap_rprintf(r, "=%d %s", (int)status, c.err.detail);
            return OK;
        }
    }
    return HTTP_NOT_FOUND;
}

/* ---- the module ---- */

static const char *take_spec(cmd_parms *cmd, void *unused, const char *text)
{
    (void)unused;
    spec = text;
    return mod_qo_store_socache_check(cmd->pool, cmd->temp_pool, text);
}

static int pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog;
    (void)ptemp;
    return mod_qo_store_socache_register(pconf) == APR_SUCCESS ? OK
                                                               : HTTP_INTERNAL_SERVER_ERROR;
}

static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *s)
{
    qo_store_setup_t setup = {.argument = spec, .uid = -1, .gid = -1};
    const char *same = strncmp(spec, "shmcb:", 6) == 0 ? "shmcb:logs/behind(65536)" : spec;
    qo_err_t err = {.detail = ""};

    (void)plog;
    (void)ptemp;
    if (qo_crypto_init() != QO_OK || S->prepare(&store, pconf, &setup, &err) != QO_OK ||
        mod_qo_socache_make(&behind, pconf, same, &err) != QO_OK) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s, "store_try: %s", err.detail);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    return OK;
}

static void child_init(apr_pool_t *pchild, server_rec *s)
{
    qo_err_t err = {.detail = ""};

    if (qo_crypto_init() != QO_OK || S->attach(store, pchild, &err) != QO_OK ||
        mod_qo_socache_open(behind, pchild, &err) != QO_OK) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s, "store_try: %s", err.detail);
    }
}

static void register_hooks(apr_pool_t *p)
{
    (void)p;
    ap_hook_pre_config(pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(answer, NULL, NULL, APR_HOOK_MIDDLE);
}

static const command_rec DIRECTIVES[] = {
    AP_INIT_TAKE1("StoreTry", take_spec, NULL, RSRC_CONF, "the store"), {.name = NULL}};

module AP_MODULE_DECLARE_DATA store_try_module = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, DIRECTIVES, register_hooks, 0};
