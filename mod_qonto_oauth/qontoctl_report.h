/* What the session tool tells of sessions, and the commands that only tell. */
#ifndef QONTOCTL_REPORT_H
#define QONTOCTL_REPORT_H

#include "qontoctl_walk.h"

qontoctl_exit_t qontoctl_report_list(const qontoctl_store_t *store, apr_pool_t *p,
                                     const qontoctl_options_t *options, apr_time_t now);
qontoctl_exit_t qontoctl_report_show(const qontoctl_store_t *store, apr_pool_t *p,
                                     const qontoctl_options_t *options, apr_time_t now);
qontoctl_exit_t qontoctl_report_stats(const qontoctl_store_t *store, apr_pool_t *p,
                                      const qontoctl_options_t *options, apr_time_t now);

/* One session as a JSON object on a line. */
void qontoctl_report_json(apr_pool_t *p, const qontoctl_walk_session_t *session,
                          apr_time_t now);

#endif
