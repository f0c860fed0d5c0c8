/* The store and the key the session tool works with, and the rights it works with them. */
#ifndef QONTOCTL_STORE_H
#define QONTOCTL_STORE_H

#include "qo_session.h"
#include "qo_store.h"

#include "qontoctl_options.h"
#include "qontoctl_print.h"

typedef struct {
    const qo_store_provider_t *provider;
    qo_store_t *store;
    qo_session_rings_t rings; /* the administrator's only */
} qontoctl_store_t;

/* Finds the store, reads the key, gives up root's rights for those of the directory's owner
 * and opens the store as it is. Tells on standard error what is wrong. */
qontoctl_exit_t qontoctl_store_open(qontoctl_store_t *out, apr_pool_t *p,
                                    const qontoctl_options_t *options);

#endif
