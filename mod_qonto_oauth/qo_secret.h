/* Secrets that an admin keeps in files, for whoever reads them: the module's directives and
 * the session tool. */
#ifndef QO_SECRET_H
#define QO_SECRET_H

#include <apr_pools.h>

/* Longest secret, its closing NUL not counted. */
#define QO_SECRET_MAX 4096

/* Reads a file that other users can neither read nor change; its trailing line ends are not
 * part of the secret. NULL, or a sentence in `p` that tells what is wrong and never holds
 * the secret. */
const char *qo_secret_read_file(const char **out, apr_pool_t *p, const char *path);

/* NULL, or a sentence when the secret is empty or of more than one line. */
const char *qo_secret_check(const char *secret);

#endif
