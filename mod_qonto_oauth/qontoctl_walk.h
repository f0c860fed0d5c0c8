/* Every session of the store, once, as far as an administrator may see it. */
#ifndef QONTOCTL_WALK_H
#define QONTOCTL_WALK_H

#include "qo_session.h"
#include "qo_store.h"

#include "qontoctl_options.h"
#include "qontoctl_store.h"

#include <apr_tables.h>

typedef struct {
    qo_hash_t key;
    char id[QO_SESSION_ID_LEN + 1];
    qo_store_meta_t meta;
    bool opens; /* its administrative part, with our key; else `admin` is all zeros */
    qo_session_admin_t admin;
} qontoctl_walk_session_t;

/* Called for each session, which lives during the call; false: no more. No transaction of
 * the store is open meanwhile, so it may take its time. */
typedef bool (*qontoctl_walk_each_t)(void *data, const qontoctl_walk_session_t *session);

qontoctl_exit_t qontoctl_walk(const qontoctl_store_t *store, apr_pool_t *p, apr_time_t now,
                              qontoctl_walk_each_t each, void *data);

/* Is it one of those that were asked for? */
bool qontoctl_walk_matches(const qontoctl_walk_session_t *session,
                           const qontoctl_options_t *options);

typedef struct {
    apr_array_header_t *found; /* qontoctl_walk_session_t, in the pool of the call */
    uint64_t opened;           /* sessions looked at: with our key */
    uint64_t sealed;           /* with another */
} qontoctl_walk_found_t;

/* Those that were asked for. More than one for a hash is told as a mistake, with some of
 * them; so is a key that opens no session at all when whose they are was asked. */
qontoctl_exit_t qontoctl_walk_find(qontoctl_walk_found_t *out,
                                   const qontoctl_store_t *store, apr_pool_t *p,
                                   const qontoctl_options_t *options, apr_time_t now);

/* When it ends if nobody comes back: the absolute or the idle limit. */
apr_time_t qontoctl_walk_end_of(const qontoctl_walk_session_t *session);

#endif
