#include "qontoctl_end.h"

#include "qontoctl_report.h"

#include <apr_strings.h>
#include <apr_tables.h>

static const char *quote(apr_pool_t *p, const char *text)
{
    return text != NULL ? qontoctl_audit_quote(p, text) : "-";
}

/* Which sessions, for the audit line. */
static const char *describe(apr_pool_t *p, const qontoctl_options_t *options,
                            const apr_array_header_t *found)
{
    const qontoctl_walk_session_t *first = (const void *)found->elts;

    if (options->hash != NULL) {
        return apr_psprintf(p, "session %s of user %s, organization %s", first->id,
                            quote(p, first->admin.user),
                            quote(p, first->admin.organization));
    }
    return apr_psprintf(
        p, "%d session%s%s%s%s%s", found->nelts, found->nelts == 1 ? "" : "s",
        options->user != NULL ? " of user " : "",
        options->user != NULL ? quote(p, options->user) : "",
        options->organization != NULL ? " of organization " : "",
        options->organization != NULL ? quote(p, options->organization) : "");
}

static void print(apr_pool_t *p, const qontoctl_options_t *options,
                  const qontoctl_walk_session_t *session, apr_time_t now)
{
    if (options->json) {
        qontoctl_report_json(p, session, now);
        return;
    }
    qontoctl_print_line("%s %s: user %s, organization %s", session->id,
                        options->dry_run ? "would end" : "ended",
                        qontoctl_print_clean(p, session->admin.user, NULL),
                        qontoctl_print_clean(p, session->admin.organization, NULL));
}

/* How many were ended; those that ended by themselves meanwhile are not counted. `*code`
 * tells whether the store failed before the last. */
static int end_all(const qontoctl_store_t *store, const qontoctl_options_t *options,
                   const apr_array_header_t *found, apr_time_t now, qontoctl_exit_t *code)
{
    const qontoctl_walk_session_t *list = (const void *)found->elts;
    int ended = 0;

    for (int i = 0; i < found->nelts; i++) {
        qo_err_t err = {.detail = ""};
        qo_status_t status = QO_OK;

        if (!options->dry_run) {
            status = store->provider->session_delete(store->store, &list[i].key,
                                                     QO_STORE_ANY, now, &err);
        }
        if (status == QO_OK) {
            print(found->pool, options, &list[i], now);
            ended++;
        } else if (status != QO_E_NOT_FOUND) {
            *code = qontoctl_print_error(QONTOCTL_TROUBLE,
                                         "%d of %d sessions were ended, then: %s", ended,
                                         found->nelts, err.detail);
            return ended;
        }
    }
    return ended;
}

/* Sessions of others may be among those that cannot be looked into: say so. */
static void warn(const qontoctl_walk_found_t *found, const qontoctl_options_t *options)
{
    if (options->hash == NULL && found->sealed > 0) {
        (void)qontoctl_print_error(QONTOCTL_DONE,
                                   "%" APR_UINT64_T_FMT " sessions are sealed with another "
                                   "key: whose they are cannot be told",
                                   found->sealed);
    }
}

static qontoctl_exit_t end_audited(const qontoctl_store_t *store, apr_pool_t *p,
                                   const qontoctl_options_t *options,
                                   const qontoctl_walk_found_t *found,
                                   const qontoctl_audit_t *audit, apr_time_t now)
{
    const char *which = describe(p, options, found->found);
    qontoctl_exit_t code =
        qontoctl_audit_write(audit, now, apr_pstrcat(p, "ending ", which, NULL));
    int ended;

    if (code != QONTOCTL_DONE) {
        return qontoctl_print_error(code, "nothing was ended");
    }
    ended = end_all(store, options, found->found, now, &code);
    if (ended < found->found->nelts) {
        const char *rest = apr_psprintf(p, "ended %d of %s", ended, which);
        qontoctl_exit_t written = qontoctl_audit_write(audit, now, rest);

        code = code != QONTOCTL_DONE ? code : written;
    }
    if (code == QONTOCTL_DONE && ended == 0) {
        return qontoctl_print_error(QONTOCTL_NOTHING, "it ended by itself meanwhile");
    }
    return code;
}

qontoctl_exit_t qontoctl_end(const qontoctl_store_t *store, apr_pool_t *p,
                             const qontoctl_options_t *options,
                             const qontoctl_audit_t *audit, apr_time_t now)
{
    qontoctl_walk_found_t found;
    qontoctl_exit_t code = qontoctl_walk_find(&found, store, p, options, now);

    if (code == QONTOCTL_DONE || code == QONTOCTL_NOTHING) {
        warn(&found, options);
    }
    if (code != QONTOCTL_DONE) {
        return code;
    }
    if (!options->dry_run) {
        return end_audited(store, p, options, &found, audit, now);
    }
    (void)end_all(store, options, found.found, now, &code);
    return code;
}
