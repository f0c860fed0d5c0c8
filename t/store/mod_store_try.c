/* A module for t/store/port.t and kill.t: lets a request do one call of the session store's
 * port over a socache provider, in a real httpd with its processes, mutex and restarts.
 *
 *   StoreTry SPEC
 *   GET /?OP,KEY[,NUMBER[,NUMBER[,TEXT]]]
 *
 * answers the status by its number and what the call brought. The calls at the end are for
 * processes that are killed: `work` writes for a while, `judge` looks what became of it. */
#include "mod_qo_socache.h"
#include "mod_qo_store_socache.h"

#include <httpd.h>
#include <http_config.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>

#include <apr_escape.h>
#include <apr_shm.h>
#include <apr_strings.h>

#include "../unit/store_diary.h"

#include <stdio.h>
#include <string.h>

module AP_MODULE_DECLARE_DATA store_try_module;
APLOG_USE_MODULE(store_try);

static const qo_store_provider_t *const S = &mod_qo_store_socache_provider;
static const char *spec;
static qo_store_t *store;
static mod_qo_socache_t *behind; /* the same store, past the port; with shmcb, another
                                  * segment under the same mutex */

/* What the children have in common. */
typedef struct {
    diary_board_t board;
    _Atomic int worker[DIARY_MOST]; /* the process that writes; a dead one's stays */
} ground_t;

static ground_t *ground;

typedef struct {
    request_rec *r;
    qo_hash_t key;
    unsigned int number; /* that the key is the hash of */
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

/* ---- to be killed at ---- */

/* Real time: providers go by it. */
static void move_clock(void)
{
    apr_time_t since = apr_time_now() - ground->board.t0;

    atomic_store(&ground->board.tick, (uint32_t)apr_time_sec(since));
}

/* The writer's number, milliseconds */
static qo_status_t do_work(call_t *c)
{
    apr_time_t end = apr_time_now() + apr_time_from_msec(c->a);
    uint32_t seed = (uint32_t)apr_time_now() * 31 + c->number;
    int who = (int)c->number;

    if (who >= ground->board.writers) {
        return QO_E_BAD_PARAMETER;
    }
    atomic_store(&ground->worker[who], (int)getpid());
    while (apr_time_now() < end) {
        move_clock();
        diary_write_on(who, store, &seed);
        (void)atomic_fetch_add(&ground->board.diary[who].progress, 1);
    }
    atomic_store(&ground->worker[who], 0);
    return QO_OK;
}

/* Who is at work, without a touch of the store. */
static qo_status_t do_workers(call_t *c)
{
    for (int who = 0; who < ground->board.writers; who++) {
        ap_rprintf(c->r, "%d ", atomic_load(&ground->worker[who]));
    }
    return QO_OK;
}

/* Whether everything that was ever ended is looked at too; whether a write cut short may
 * cost what it wrote over. Nobody writes now. */
static qo_status_t do_judge(call_t *c)
{
    diary_judge_t j = {.store = store, .frail = c->b != 0};
    uint32_t calls = 0;

    move_clock();
    for (int who = 0; who < ground->board.writers; who++) {
        diary_judge(&j, who, atomic_exchange(&ground->worker[who], 0));
        calls += atomic_load(&ground->board.diary[who].progress);
        if (ground->board.why[who][0] != '\0') {
            ap_rprintf(c->r, "[writer %d: %s]", who, ground->board.why[who]);
        }
    }
    diary_judge_missed(&j);
    if (c->a == 1) {
        diary_judge_ended(&j);
    }
    ap_rprintf(c->r,
               "calls %u wrong %u lost %u torn %u back %u unburied %u old %u kept_out %u "
               "taken %u logins %u",
               calls, diary_wrongs(), j.lost, j.torn, j.back, j.unburied, j.old, j.kept_out,
               j.taken, j.logins);
    for (int step = 1; step < DIARY_STEP_COUNT; step++) {
        ap_rprintf(c->r, " %s %u", DIARY_STEPS[step], j.during[step]);
    }
    ap_rprintf(c->r, " ");
    return QO_OK;
}

static const struct {
    const char *name;
    qo_status_t (*call)(call_t *c);
} CALLS[] = {{"create", do_create},   {"get", do_get},         {"replace", do_replace},
             {"delete", do_delete},   {"touch", do_touch},     {"acquire", do_acquire},
             {"release", do_release}, {"plant", do_plant},     {"hold", do_hold},
             {"work", do_work},       {"workers", do_workers}, {"judge", do_judge}};

static int answer(request_rec *r)
{
    char op[16], text[400] = "";
    call_t c = {.r = r, .text = text};

    if (r->handler == NULL || strcmp(r->handler, "store-try") != 0 || r->args == NULL ||
        sscanf(r->args, "%15[a-z],%u,%lu,%lu,%399s", op, &c.number, &c.a, &c.b, text) < 2 ||
        qo_crypto_hash(&c.key, &c.number, sizeof(c.number)) != QO_OK) {
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

static bool make_ground(apr_pool_t *pconf)
{
    apr_shm_t *memory;

    if (apr_shm_create(&memory, sizeof(*ground), NULL, pconf) != APR_SUCCESS) {
        return false;
    }
    ground = apr_shm_baseaddr_get(memory);
    memset(ground, 0, sizeof(*ground));
    ground->board.t0 = apr_time_now();
    ground->board.writers = 12;
    ground->board.heavy = 12;
    diary_board = &ground->board;
    diary_provider = S;
    return true;
}

/* httpd unloads this module, and its copy of the library, at the end of each configuration.
 */
static apr_status_t end_crypto(void *unused)
{
    (void)unused;
    qo_crypto_end();
    return APR_SUCCESS;
}

static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *s)
{
    qo_store_setup_t setup = {.argument = spec, .uid = -1, .gid = -1};
    const char *same = strncmp(spec, "shmcb:", 6) == 0 ? "shmcb:logs/behind(65536)" : spec;
    qo_err_t err = {.detail = ""};

    (void)plog;
    (void)ptemp;
    apr_pool_cleanup_register(pconf, NULL, end_crypto, apr_pool_cleanup_null);
    if (!make_ground(pconf) || qo_crypto_init() != QO_OK ||
        S->prepare(&store, pconf, &setup, &err) != QO_OK ||
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
