/* The session tool: what an administrator can know of the sessions, and end, without being
 * able to use them. On libqo and APR alone; httpd need not run. */
#include "qontoctl_audit.h"
#include "qontoctl_end.h"
#include "qontoctl_options.h"
#include "qontoctl_print.h"
#include "qontoctl_report.h"
#include "qontoctl_store.h"

#include <apr_general.h>

#include <stdio.h>

static qontoctl_exit_t run(apr_pool_t *p, const qontoctl_options_t *options)
{
    apr_time_t now = apr_time_now();
    qontoctl_store_t store;
    qontoctl_audit_t audit;
    qontoctl_exit_t code = QONTOCTL_DONE;

    /* While we are who we are: the store may cost us our rights. */
    if (options->command == QONTOCTL_END && !options->dry_run) {
        qontoctl_print_persist();
        code = qontoctl_audit_open(&audit, p, options->audit);
    }
    if (code == QONTOCTL_DONE) {
        code = qontoctl_store_open(&store, p, options);
    }
    if (code != QONTOCTL_DONE) {
        return code;
    }
    switch (options->command) {
    case QONTOCTL_LIST:
        return qontoctl_report_list(&store, p, options, now);
    case QONTOCTL_SHOW:
        return qontoctl_report_show(&store, p, options, now);
    case QONTOCTL_STATS:
        return qontoctl_report_stats(&store, p, options, now);
    default:
        return qontoctl_end(&store, p, options, &audit, now);
    }
}

static qontoctl_exit_t start(apr_pool_t *p, int argc, const char *const *argv)
{
    qontoctl_options_t options;
    const char *mistake = qontoctl_options_read(&options, p, argc, argv);

    if (mistake != NULL) {
        return qontoctl_print_error(QONTOCTL_USAGE, "%s", mistake);
    }
    if (options.command == QONTOCTL_HELP || options.command == QONTOCTL_VERSION) {
        qontoctl_print_line("%s", options.command == QONTOCTL_HELP
                                      ? qontoctl_options_help
                                      : "qontoctl " QO_VERSION);
        return QONTOCTL_DONE;
    }
    if (qo_crypto_init() != QO_OK) {
        return qontoctl_print_error(QONTOCTL_TROUBLE, "OpenSSL cannot be used");
    }
    return run(p, &options);
}

int main(int argc, const char *const *argv)
{
    apr_pool_t *p;
    qontoctl_exit_t code;

    qontoctl_print_start();
    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&p, NULL) != APR_SUCCESS) {
        return (int)qontoctl_print_error(QONTOCTL_TROUBLE, "out of memory");
    }
    code = qontoctl_print_end(start(p, argc, argv));
    apr_pool_destroy(p);
    apr_terminate();
    return (int)code;
}
