#include "qo_store_redis_parts.h"

#include "qo_limits.h"

#include <apr_strings.h>

#include <string.h>

/* ---- keys and answers ---- */

void qo_store_redis_key(qo_store_redis_key_t *out, const qo_store_redis_t *s, char kind,
                        const qo_hash_t *key)
{
    size_t len = strlen(s->settings->prefix); /* bounded by qo_store_redis_parse */
    char *at = out->text;

    memcpy(at, s->settings->prefix, len);
    at += len;
    *at++ = ':';
    *at++ = kind;
    *at++ = ':';
    qo_crypto_text(at, key->bytes, QO_HASH_LEN);
    out->name = at;
}

void qo_store_redis_list(qo_store_redis_list_t *out, const qo_store_redis_t *s, char kind)
{
    (void)apr_snprintf(out->text, sizeof(out->text), "%s:%c", s->settings->prefix, kind);
}

qo_status_t qo_store_redis_nonce(qo_store_redis_nonce_t *out, qo_err_t *err)
{
    return qo_crypto_random(out->bytes, sizeof(out->bytes)) == QO_OK
               ? QO_OK
               : qo_error(err, QO_E_STORE_UNAVAILABLE, "redis: no random bytes");
}

qo_status_t qo_store_redis_verdict(const qo_redis_reply_t *reply, qo_err_t *err)
{
    if (reply->kind != QO_REDIS_NUMBER) {
        return qo_redis_refusal(reply, err);
    }
    switch (reply->number) {
    case QO_STORE_REDIS_DONE:
        return QO_OK;
    case QO_STORE_REDIS_NONE:
        return QO_E_NOT_FOUND;
    case QO_STORE_REDIS_CONFLICT:
        return QO_E_CONFLICT;
    case QO_STORE_REDIS_FULL:
        return qo_error(err, QO_E_STORE_FULL, "redis: as many sessions as are allowed");
    default:
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "redis: an answer that makes no sense");
    }
}

qo_status_t qo_store_redis_run(qo_store_redis_t *s, const qo_redis_script_t *script,
                               const qo_redis_command_t *call, bool vital, bool may_fill,
                               qo_err_t *err)
{
    qo_redis_talk_t *talk;
    qo_redis_reply_t reply;
    qo_status_t status = qo_redis_begin(&talk, s->redis, err);

    if (status != QO_OK) {
        return status;
    }
    status = qo_redis_run(talk, &reply, script, call, vital, err);
    if (status == QO_OK) {
        status = qo_store_redis_verdict(&reply, err);
    }
    qo_redis_end(talk);
    return status == QO_E_STORE_FULL && !may_fill ? QO_E_STORE_UNAVAILABLE : status;
}

/* A list of seconds and microseconds. */
bool qo_store_redis_time(apr_time_t *out, const qo_redis_reply_t *reply)
{
    if (reply->kind != QO_REDIS_LIST || reply->count != 2 ||
        reply->items[0].kind != QO_REDIS_TEXT || reply->items[1].kind != QO_REDIS_TEXT) {
        return false;
    }
    *out = apr_time_from_sec(apr_atoi64((const char *)reply->items[0].text.data)) +
           apr_atoi64((const char *)reply->items[1].text.data);
    return *out > 0;
}

/* ---- opening ---- */

static void prepare_scripts(void)
{
    qo_store_redis_prepare_sessions();
    qo_store_redis_prepare_walk();
    qo_store_redis_prepare_leases();
    qo_store_redis_prepare_pending();
}

/* Redis may be away: then visitors get 503 until it is there, and the log says so now. */
static qo_status_t prepare(qo_store_t **out, apr_pool_t *p, const qo_store_setup_t *setup,
                           qo_err_t *err)
{
    qo_store_redis_t *s = apr_pcalloc(p, sizeof(*s));
    qo_store_redis_settings_t *settings = apr_pcalloc(p, sizeof(*settings));
    qo_err_t found = {.detail = ""};
    const char *mistake =
        qo_store_redis_parse(settings, p, setup->argument != NULL ? setup->argument : "");

    s->base.provider = &qo_store_redis_provider;
    *out = &s->base;
    if (mistake != NULL) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "redis: %s", mistake);
    }
    prepare_scripts();
    s->settings = settings;
    s->redis = qo_redis_make(p, &settings->redis);
    s->max_sessions = setup->max_sessions;
    s->max_pending = setup->max_pending != 0 ? setup->max_pending : QO_LIMIT_PENDING;
    if (!setup->as_it_is) {
        qo_store_redis_ask_around(s, setup, &found);
    }
    return qo_error(err, QO_OK, "%s", found.detail);
}

static qo_status_t attach(qo_store_t *store, apr_pool_t *p, qo_err_t *err)
{
    qo_store_redis_t *s = (qo_store_redis_t *)store;

    if (s->redis == NULL) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "redis: refused when the server started");
    }
    return qo_redis_attach(s->redis, p, err);
}

const qo_store_provider_t qo_store_redis_provider = {
    .name = "redis",
    .caveat = NULL,
    .prepare = prepare,
    .attach = attach,
    .pending_put = qo_store_redis_pending_put,
    .pending_get = qo_store_redis_pending_get,
    .pending_take = qo_store_redis_pending_take,
    .session_create = qo_store_redis_session_create,
    .session_get = qo_store_redis_session_get,
    .session_replace = qo_store_redis_session_replace,
    .session_delete = qo_store_redis_session_delete,
    .lease_acquire = qo_store_redis_lease_acquire,
    .lease_release = qo_store_redis_lease_release,
    .touch = qo_store_redis_touch,
    .sweep = qo_store_redis_sweep,
    .status = qo_store_redis_status,
    .session_walk = qo_store_redis_session_walk,
};
