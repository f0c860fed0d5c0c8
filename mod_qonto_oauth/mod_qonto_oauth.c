/* The door: the module record and the order of its hooks, nothing else. */
#include "mod_qo_authn.h"
#include "mod_qo_config.h"
#include "mod_qo_process.h"
#include "mod_qo_reply.h"
#include "qo_config.h"
#include "qo_store_lmdb.h"
#include "qo_store_redis.h"

#include <ap_provider.h>
#include <http_config.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_auth.h>

static void register_stores(apr_pool_t *p)
{
    ap_register_provider(p, QO_STORE_GROUP, "lmdb", QO_STORE_VERSION,
                         &qo_store_lmdb_provider);
#ifdef QO_HAVE_REDIS
    for (int i = 0; i < QO_STORE_REDIS_SCHEMES; i++) {
        ap_register_provider(p, QO_STORE_GROUP, qo_store_redis_schemes[i], QO_STORE_VERSION,
                             &qo_store_redis_provider);
    }
#endif
}

static void register_hooks(apr_pool_t *p)
{
    register_stores(p);
    mod_qo_reply_register();

    ap_hook_pre_config(mod_qo_process_pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(mod_qo_process_check_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(mod_qo_process_post_config, NULL, NULL, APR_HOOK_MIDDLE);
    /* Before mod_watchdog, whose thread sweeps the stores that are opened here. */
    ap_hook_child_init(mod_qo_process_child_init, NULL, NULL, APR_HOOK_REALLY_FIRST);

    /* Before anybody else reads the headers that are removed here. */
    ap_hook_post_read_request(mod_qo_authn_arrive, NULL, NULL, APR_HOOK_REALLY_FIRST);
    /* Before mod_cache's quick handler. */
    ap_hook_quick_handler(mod_qo_authn_callback, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_check_authn(mod_qo_authn_check, NULL, NULL, APR_HOOK_MIDDLE,
                        AP_AUTH_INTERNAL_PER_CONF);
    ap_hook_note_auth_failure(mod_qo_authn_note_failure, NULL, NULL, APR_HOOK_MIDDLE);
    /* Before mod_headers and mod_rewrite, which may want to see what the backend gets. */
    ap_hook_fixups(mod_qo_authn_fixup, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_insert_filter(mod_qo_authn_before_handler, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_insert_error_filter(mod_qo_authn_before_error, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(mod_qo_authn_handle, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(qonto_oauth) = {
    STANDARD20_MODULE_STUFF,
    mod_qo_config_create_dir,
    mod_qo_config_merge_dir,
    mod_qo_config_create_server,
    mod_qo_config_merge_server,
    mod_qo_config_commands,
    register_hooks,
    AP_MODULE_FLAG_NONE,
};
