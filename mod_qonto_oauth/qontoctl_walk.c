#include "qontoctl_walk.h"

#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_tables.h>

#include <string.h>

/* ---- all of them ---- */

typedef struct {
    const qontoctl_store_t *store;
    apr_pool_t *p; /* of this step of the walk */
    apr_array_header_t *sessions;
    apr_hash_t *seen; /* because a store may bring a session twice */
} step_t;

static bool is_new(const step_t *step, const qo_hash_t *key)
{
    apr_pool_t *p = apr_hash_pool_get(step->seen);

    if (apr_hash_get(step->seen, key->bytes, sizeof(key->bytes)) != NULL) {
        return false;
    }
    apr_hash_set(step->seen, apr_pmemdup(p, key->bytes, sizeof(key->bytes)),
                 sizeof(key->bytes), step->store);
    return true;
}

static void visit(void *data, const qo_hash_t *key, qo_bytes_t value,
                  const qo_store_meta_t *meta)
{
    step_t *step = data;
    qontoctl_walk_session_t *session;

    if (!is_new(step, key)) {
        return;
    }
    session = apr_array_push(step->sessions);
    memset(session, 0, sizeof(*session));
    session->key = *key;
    session->meta = *meta;
    qo_session_id(session->id, key);
    session->opens = qo_session_open_admin(&session->admin, step->p, &step->store->rings,
                                           key, value) == QO_OK;
    if (!session->opens) {
        memset(&session->admin, 0, sizeof(session->admin));
    }
}

static bool hand_on(const step_t *step, qontoctl_walk_each_t each, void *data)
{
    const qontoctl_walk_session_t *list = (const void *)step->sessions->elts;

    for (int i = 0; i < step->sessions->nelts; i++) {
        if (!each(data, &list[i])) {
            return false;
        }
    }
    return true;
}

qontoctl_exit_t qontoctl_walk(const qontoctl_store_t *store, apr_pool_t *p, apr_time_t now,
                              qontoctl_walk_each_t each, void *data)
{
    qo_store_cursor_t cursor = {.done = false};
    step_t step = {.store = store, .seen = apr_hash_make(p)};
    qo_err_t err = {.detail = ""};
    qo_status_t status = QO_OK;
    bool more = true;

    if (apr_pool_create(&step.p, p) != APR_SUCCESS) {
        return qontoctl_print_error(QONTOCTL_TROUBLE, "out of memory");
    }
    while (status == QO_OK && more && !cursor.done) {
        apr_pool_clear(step.p);
        step.sessions =
            apr_array_make(step.p, QO_SWEEP_BATCH, sizeof(qontoctl_walk_session_t));
        status = store->provider->session_walk(store->store, step.p, &cursor, visit, &step,
                                               now, &err);
        more = status == QO_OK && hand_on(&step, each, data);
    }
    apr_pool_destroy(step.p);
    return status == QO_OK
               ? QONTOCTL_DONE
               : qontoctl_print_error(QONTOCTL_TROUBLE, "the sessions cannot be read: %s",
                                      err.detail);
}

apr_time_t qontoctl_walk_end_of(const qontoctl_walk_session_t *session)
{
    const qo_store_meta_t *meta = &session->meta;
    apr_time_t idle = meta->last_seen + apr_time_from_sec(meta->idle);

    return meta->idle != 0 && idle < meta->expires ? idle : meta->expires;
}

/* ---- some of them ---- */

static bool is_same(const char *wanted, const char *text)
{
    return wanted == NULL || (text != NULL && strcmp(wanted, text) == 0);
}

bool qontoctl_walk_matches(const qontoctl_walk_session_t *session,
                           const qontoctl_options_t *options)
{
    if (options->hash != NULL) {
        return strncmp(session->id, options->hash, strlen(options->hash)) == 0;
    }
    return is_same(options->user, session->admin.user) &&
           is_same(options->organization, session->admin.organization);
}

typedef struct {
    const qontoctl_options_t *options;
    qontoctl_walk_found_t *out;
} search_t;

static bool look(void *data, const qontoctl_walk_session_t *session)
{
    const search_t *search = data;
    apr_array_header_t *found = search->out->found;
    qontoctl_walk_session_t *copy;

    search->out->opened += session->opens ? 1 : 0;
    search->out->sealed += session->opens ? 0 : 1;
    if (qontoctl_walk_matches(session, search->options)) {
        copy = apr_array_push(found);
        *copy = *session;
        copy->admin.user = apr_pstrdup(found->pool, session->admin.user);
        copy->admin.organization = apr_pstrdup(found->pool, session->admin.organization);
    }
    return true;
}

static qontoctl_exit_t tell_candidates(const qontoctl_walk_found_t *found, const char *hash)
{
    const qontoctl_walk_session_t *list = (const void *)found->found->elts;
    int count = found->found->nelts;
    int shown = count < QO_LIMIT_SHOWN ? count : QO_LIMIT_SHOWN;
    const char *names = "";

    for (int i = 0; i < shown; i++) {
        names = apr_pstrcat(found->found->pool, names, i > 0 ? ", " : "", list[i].id, NULL);
    }
    return qontoctl_print_error(QONTOCTL_USAGE, "%s fits %d sessions: %s%s", hash, count,
                                names, shown < count ? ", ..." : "");
}

qontoctl_exit_t qontoctl_walk_find(qontoctl_walk_found_t *out,
                                   const qontoctl_store_t *store, apr_pool_t *p,
                                   const qontoctl_options_t *options, apr_time_t now)
{
    search_t search = {options, out};
    qontoctl_exit_t code;

    *out = (qontoctl_walk_found_t){
        .found = apr_array_make(p, 4, sizeof(qontoctl_walk_session_t))};
    code = qontoctl_walk(store, p, now, look, &search);
    if (code != QONTOCTL_DONE) {
        return code;
    }
    if (options->hash != NULL && out->found->nelts > 1) {
        return tell_candidates(out, options->hash);
    }
    if (options->hash == NULL && out->opened == 0 && out->sealed > 0) {
        return qontoctl_print_error(QONTOCTL_TROUBLE,
                                    "no session opens with this key: whose they are cannot "
                                    "be told (--key)");
    }
    return out->found->nelts > 0
               ? QONTOCTL_DONE
               : qontoctl_print_error(QONTOCTL_NOTHING, "no session matched");
}
