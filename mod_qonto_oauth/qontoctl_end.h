/* Ends sessions; the only command of the session tool that changes something. */
#ifndef QONTOCTL_END_H
#define QONTOCTL_END_H

#include "qontoctl_audit.h"
#include "qontoctl_walk.h"

/* Ends those that were asked for and prints each. Nothing is ended unless `audit` has taken
 * a line that says so. With options->dry_run, `audit` is not looked at. */
qontoctl_exit_t qontoctl_end(const qontoctl_store_t *store, apr_pool_t *p,
                             const qontoctl_options_t *options,
                             const qontoctl_audit_t *audit, apr_time_t now);

#endif
