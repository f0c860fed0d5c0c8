/* The session store over any of httpd's socache providers (shmcb, dbm, memcache, redis,
 * ...), for one host. `setup->argument` is the whole specification in the provider's own
 * syntax, "NAME" or "NAME:ARGUMENT". What such a store cannot promise stands in its caveat.
 *
 * prepare belongs into post_config with p = pconf, attach into child_init after
 * qo_crypto_init; nothing else may be called in the parent process, which would open
 * connections that all children share. */
#ifndef MOD_QO_STORE_SOCACHE_H
#define MOD_QO_STORE_SOCACHE_H

#include "qo_store.h"

#include <apr_errno.h>

extern const qo_store_provider_t mod_qo_store_socache_provider;

/* Makes "Mutex ... qonto-oauth-store" known. Call it in pre_config. */
apr_status_t mod_qo_store_socache_register(apr_pool_t *pconf) QO_MUST_CHECK;

/* NULL, or a sentence that says what is wrong with `spec`, in the provider's own words
 * where they are its own rules. The sentence lives in `p`; nothing is opened or made. */
const char *mod_qo_store_socache_check(apr_pool_t *p, apr_pool_t *tmp, const char *spec);

#endif
