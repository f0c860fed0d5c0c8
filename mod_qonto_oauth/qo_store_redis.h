/* The store provider over a Redis server, for several hosts or for one:
 *
 *   redis://[user:password@]host[:port][/database][?parameters]
 *   rediss://...                                      the same over TLS
 *   redis+unix://[user:password@]/path[?parameters]   a unix socket
 *
 * Parameters: timeout (of an operation), pool (connections of a process), prefix (of the
 * keys), ca (PEM file; rediss only), db (redis+unix only). User, password, path and values
 * are percent-decoded. */
#ifndef QO_STORE_REDIS_H
#define QO_STORE_REDIS_H

#include "qo_store.h"

/* The names it is registered under. */
extern const char *const qo_store_redis_schemes[];
#define QO_STORE_REDIS_SCHEMES 3

/* Is this one of ours, be it right or wrong? */
bool qo_store_redis_is(const char *url);

/* NULL, or the sentence of the first mistake, which never holds the password. Where the
 * provider was not built, that is the mistake. */
const char *qo_store_redis_check(apr_pool_t *p, const char *url);

/* Only where it was built (QO_HAVE_REDIS in qo_config.h). */
extern const qo_store_provider_t qo_store_redis_provider;

#endif
