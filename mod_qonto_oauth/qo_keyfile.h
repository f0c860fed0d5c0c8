/* The session key the module makes for itself when QontoSessionKey is not given: the file
 * "key" beside the store, private to the user who starts the server. */
#ifndef QO_KEYFILE_H
#define QO_KEYFILE_H

#include "qo_error.h"

#include <apr_pools.h>

/* Reads DIR/key into `p`; makes the directory (0700) and the file (0600) where they are
 * missing. QO_E_STORE_UNAVAILABLE when that fails or when others can read the file. */
qo_status_t qo_keyfile_load(const char **out, apr_pool_t *p, const char *dir,
                            qo_err_t *err) QO_MUST_CHECK;

/* Reads it if it is there, and makes nothing. QO_E_NOT_FOUND when there is none. */
qo_status_t qo_keyfile_read(const char **out, apr_pool_t *p, const char *dir,
                            qo_err_t *err) QO_MUST_CHECK;

#endif
