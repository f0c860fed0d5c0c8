#include "qontoctl_report.h"

#include "qo_json.h"

#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_tables.h>

#include <stdlib.h>
#include <string.h>

#define SEALED "sealed with another key"

/* ---- one session ---- */

static const char *admin_members(apr_pool_t *p, const qontoctl_walk_session_t *session,
                                 apr_time_t now)
{
    const qo_session_admin_t *admin = &session->admin;

    if (!session->opens) {
        return "\"opens\":false";
    }
    return apr_psprintf(p,
                        "\"opens\":true,\"user\":%s,\"organization\":%s,"
                        "\"created\":%s,\"renewed\":%s,\"access_left\":%s",
                        qo_json_quote(p, admin->user),
                        qo_json_quote(p, admin->organization),
                        qontoctl_print_seconds(p, admin->created),
                        qontoctl_print_seconds(p, admin->renewed),
                        qontoctl_print_seconds(p, admin->access_expires - now));
}

void qontoctl_report_json(apr_pool_t *p, const qontoctl_walk_session_t *session,
                          apr_time_t now)
{
    qontoctl_print_line("{\"session\":\"%s\",%s,\"last_seen\":%s,\"left\":%s,"
                        "\"generation\":%" APR_UINT64_T_FMT "}",
                        session->id, admin_members(p, session, now),
                        qontoctl_print_seconds(p, session->meta.last_seen),
                        qontoctl_print_seconds(p, qontoctl_walk_end_of(session) - now),
                        session->meta.version);
}

/* ---- list ---- */

typedef struct {
    apr_pool_t *p;                 /* of one session */
    qontoctl_print_table_t *table; /* NULL: JSON */
    apr_time_t now;
} list_t;

static void list_row(const list_t *list, const qontoctl_walk_session_t *session)
{
    const qo_session_admin_t *admin = &session->admin;
    apr_pool_t *p = list->p;
    apr_time_t now = list->now;
    const char *sealed[] = {session->id, SEALED, NULL};
    const char *cells[] = {
        session->id,
        qontoctl_print_span(p, now - admin->created),
        qontoctl_print_span(p, now - session->meta.last_seen),
        admin->user != NULL ? admin->user : "-",
        admin->organization != NULL ? admin->organization : "-",
        qontoctl_print_seconds(p, admin->access_expires - now),
        qontoctl_print_seconds(p, qontoctl_walk_end_of(session) - now),
        apr_psprintf(p, "%" APR_UINT64_T_FMT, session->meta.version),
        NULL,
    };

    qontoctl_print_row(list->table, session->opens ? cells : sealed);
}

static bool list_one(void *data, const qontoctl_walk_session_t *session)
{
    const list_t *list = data;

    if (list->table == NULL) {
        qontoctl_report_json(list->p, session, list->now);
    } else {
        list_row(list, session);
    }
    apr_pool_clear(list->p);
    return qontoctl_print_good();
}

qontoctl_exit_t qontoctl_report_list(const qontoctl_store_t *store, apr_pool_t *p,
                                     const qontoctl_options_t *options, apr_time_t now)
{
    static const char *const TITLES[] = {"SESSION", ">AGE",         ">SEEN",
                                         "USER",    "ORGANIZATION", ">ACCESS",
                                         ">LEFT",   ">GENERATION",  NULL};
    list_t list = {.now = now};
    qontoctl_exit_t code;

    if (apr_pool_create(&list.p, p) != APR_SUCCESS) {
        return qontoctl_print_error(QONTOCTL_TROUBLE, "out of memory");
    }
    list.table = options->json ? NULL : qontoctl_print_table(p, TITLES);
    code = qontoctl_walk(store, p, now, list_one, &list);
    if (list.table != NULL) {
        qontoctl_print_table_end(list.table);
    }
    return code;
}

/* ---- show ---- */

static void show_time(apr_pool_t *p, const char *what, apr_time_t at, apr_time_t now)
{
    bool past = at <= now;

    qontoctl_print_line(
        "%-14s%s  (%s%s%s)", what, qontoctl_print_time(p, at), past ? "" : "in ",
        qontoctl_print_span(p, past ? now - at : at - now), past ? " ago" : "");
}

static void show_admin(apr_pool_t *p, const qo_session_admin_t *admin, apr_time_t now)
{
    qontoctl_print_line("%-14s%s", "user", qontoctl_print_clean(p, admin->user, NULL));
    qontoctl_print_line("%-14s%s", "organization",
                        qontoctl_print_clean(p, admin->organization, NULL));
    show_time(p, "created", admin->created, now);
    show_time(p, "renewed", admin->renewed, now);
    show_time(p, "access token", admin->access_expires, now);
}

static void show(apr_pool_t *p, const qontoctl_walk_session_t *session, apr_time_t now)
{
    qontoctl_print_line("%-14s%s", "session", session->id);
    if (session->opens) {
        show_admin(p, &session->admin, now);
    } else {
        qontoctl_print_line("%-14s%s", "contents", SEALED);
    }
    show_time(p, "last seen", session->meta.last_seen, now);
    show_time(p, "ends", qontoctl_walk_end_of(session), now);
    show_time(p, "ends at last", session->meta.expires, now);
    qontoctl_print_line("%-14s%lu s", "idle limit", (unsigned long)session->meta.idle);
    qontoctl_print_line("%-14s%" APR_UINT64_T_FMT, "generation", session->meta.version);
}

qontoctl_exit_t qontoctl_report_show(const qontoctl_store_t *store, apr_pool_t *p,
                                     const qontoctl_options_t *options, apr_time_t now)
{
    qontoctl_walk_found_t found;
    const qontoctl_walk_session_t *session;
    qontoctl_exit_t code = qontoctl_walk_find(&found, store, p, options, now);

    if (code != QONTOCTL_DONE) {
        return code;
    }
    session = (const void *)found.found->elts;
    if (options->json) {
        qontoctl_report_json(p, session, now);
    } else {
        show(p, session, now);
    }
    return QONTOCTL_DONE;
}

/* ---- stats ---- */

typedef struct {
    const char *name; /* NULL: unknown */
    uint64_t sessions;
} organization_t;

typedef struct {
    apr_pool_t *p;
    uint64_t sessions;
    uint64_t sealed;
    apr_time_t oldest; /* created; 0: none */
    char oldest_id[QO_SESSION_ID_LEN + 1];
    apr_hash_t *organizations;
} stats_t;

static bool count(void *data, const qontoctl_walk_session_t *session)
{
    stats_t *stats = data;
    const char *name = session->admin.organization;
    const char *key = name != NULL ? name : "";
    organization_t *organization;

    stats->sessions++;
    if (!session->opens) {
        stats->sealed++;
        return true;
    }
    if (stats->oldest == 0 || session->admin.created < stats->oldest) {
        stats->oldest = session->admin.created;
        memcpy(stats->oldest_id, session->id, sizeof(stats->oldest_id));
    }
    organization = apr_hash_get(stats->organizations, key, APR_HASH_KEY_STRING);
    if (organization == NULL) {
        organization = apr_pcalloc(stats->p, sizeof(*organization));
        organization->name = apr_pstrdup(stats->p, name);
        apr_hash_set(stats->organizations, apr_pstrdup(stats->p, key), APR_HASH_KEY_STRING,
                     organization);
    }
    organization->sessions++;
    return true;
}

/* Most sessions first. */
static int by_count(const void *a, const void *b)
{
    const organization_t *left = *(const organization_t *const *)a;
    const organization_t *right = *(const organization_t *const *)b;

    if (left->sessions != right->sessions) {
        return left->sessions < right->sessions ? 1 : -1;
    }
    return strcmp(left->name != NULL ? left->name : "",
                  right->name != NULL ? right->name : "");
}

static apr_array_header_t *sorted(const stats_t *stats)
{
    apr_array_header_t *list = apr_array_make(stats->p, 8, sizeof(organization_t *));

    for (apr_hash_index_t *at = apr_hash_first(stats->p, stats->organizations); at != NULL;
         at = apr_hash_next(at)) {
        APR_ARRAY_PUSH(list, organization_t *) = apr_hash_this_val(at);
    }
    qsort(list->elts, (size_t)list->nelts, sizeof(organization_t *), by_count);
    return list;
}

static void stats_text(const stats_t *stats, const qo_store_status_t *status,
                       apr_time_t now)
{
    const apr_array_header_t *organizations = sorted(stats);
    const organization_t *const *list = (const void *)organizations->elts;

    qontoctl_print_line("%-24s%" APR_UINT64_T_FMT, "sessions", stats->sessions);
    qontoctl_print_line("%-24s%" APR_UINT64_T_FMT, SEALED, stats->sealed);
    qontoctl_print_line("%-24s%" APR_UINT64_T_FMT, "unfinished logins", status->pending);
    qontoctl_print_line("%-24s%" APR_UINT64_T_FMT, "bytes", status->bytes);
    if (stats->oldest != 0) {
        qontoctl_print_line("%-24s%s  %s", "oldest",
                            qontoctl_print_span(stats->p, now - stats->oldest),
                            stats->oldest_id);
    }
    for (int i = 0; i < organizations->nelts; i++) {
        qontoctl_print_line("of organization %s  %" APR_UINT64_T_FMT,
                            qontoctl_print_clean(stats->p, list[i]->name, NULL),
                            list[i]->sessions);
    }
}

static void stats_json(const stats_t *stats, const qo_store_status_t *status)
{
    const apr_array_header_t *organizations = sorted(stats);
    const organization_t *const *list = (const void *)organizations->elts;
    apr_array_header_t *parts =
        apr_array_make(stats->p, organizations->nelts, sizeof(const char *));

    for (int i = 0; i < organizations->nelts; i++) {
        APR_ARRAY_PUSH(parts, const char *) = apr_psprintf(
            stats->p, "{\"organization\":%s,\"sessions\":%" APR_UINT64_T_FMT "}",
            qo_json_quote(stats->p, list[i]->name), list[i]->sessions);
    }
    qontoctl_print_line(
        "{\"sessions\":%" APR_UINT64_T_FMT ",\"sealed_with_another_key\":%" APR_UINT64_T_FMT
        ",\"pending\":%" APR_UINT64_T_FMT ",\"bytes\":%" APR_UINT64_T_FMT
        ",\"oldest\":%s,\"organizations\":[%s]}",
        stats->sessions, stats->sealed, status->pending, status->bytes,
        stats->oldest != 0 ? qontoctl_print_seconds(stats->p, stats->oldest) : "null",
        apr_array_pstrcat(stats->p, parts, ','));
}

qontoctl_exit_t qontoctl_report_stats(const qontoctl_store_t *store, apr_pool_t *p,
                                      const qontoctl_options_t *options, apr_time_t now)
{
    stats_t stats = {.p = p, .organizations = apr_hash_make(p)};
    qo_store_status_t status;
    qo_err_t err = {.detail = ""};
    qontoctl_exit_t code = qontoctl_walk(store, p, now, count, &stats);

    if (code != QONTOCTL_DONE) {
        return code;
    }
    if (store->provider->status(store->store, &status, &err) != QO_OK) {
        return qontoctl_print_error(QONTOCTL_TROUBLE, "the store cannot be measured: %s",
                                    err.detail);
    }
    if (options->json) {
        stats_json(&stats, &status);
    } else {
        stats_text(&stats, &status, now);
    }
    return QONTOCTL_DONE;
}
