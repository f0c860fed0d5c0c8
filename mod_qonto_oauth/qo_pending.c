#include "qo_pending.h"

#include <string.h>

#define FORMAT 1

static bool complete(const qo_pending_t *pending)
{
    return pending->return_path != NULL && pending->scope != NULL &&
           pending->extra != NULL && pending->redirect_uri != NULL;
}

qo_status_t qo_pending_encode(qo_bytes_t *out, apr_pool_t *p, const qo_pending_t *pending)
{
    qo_writer_t w;

    if (!complete(pending) || pending->restarts < 0 || pending->restarts > UINT8_MAX) {
        return QO_E_INTERNAL;
    }
    qo_pack_start(&w, p, QO_LIMIT_RECORD);
    qo_pack_u8(&w, FORMAT);
    qo_pack_u64(&w, (uint64_t)pending->created);
    qo_pack_u8(&w, (uint8_t)pending->restarts);
    qo_pack_bytes(&w, pending->binding.bytes, sizeof(pending->binding.bytes));
    qo_pack_bytes(&w, pending->session_seen.bytes, sizeof(pending->session_seen.bytes));
    qo_pack_string(&w, pending->return_path);
    qo_pack_string(&w, pending->scope);
    qo_pack_string(&w, pending->extra);
    qo_pack_string(&w, pending->redirect_uri);
    qo_pack_string(&w, pending->verifier);
    return qo_pack_finish(&w, out) ? QO_OK : QO_E_INTERNAL;
}

qo_status_t qo_pending_decode(qo_pending_t *out, qo_bytes_t record)
{
    qo_reader_t r;

    qo_unpack_start(&r, record.data, record.len);
    if (qo_unpack_u8(&r) != FORMAT) {
        return QO_E_NOT_FOUND;
    }
    out->created = (apr_time_t)qo_unpack_u64(&r);
    out->restarts = qo_unpack_u8(&r);
    qo_unpack_bytes(&r, out->binding.bytes, sizeof(out->binding.bytes));
    qo_unpack_bytes(&r, out->session_seen.bytes, sizeof(out->session_seen.bytes));
    out->return_path = qo_unpack_string(&r);
    out->scope = qo_unpack_string(&r);
    out->extra = qo_unpack_string(&r);
    out->redirect_uri = qo_unpack_string(&r);
    out->verifier = qo_unpack_string(&r);
    return qo_unpack_finish(&r) && complete(out) ? QO_OK : QO_E_NOT_FOUND;
}

/* Written so that no value of `created` can overflow. */
bool qo_pending_expired(const qo_pending_t *pending, apr_time_t now)
{
    return pending->created <= now - apr_time_from_sec((apr_time_t)QO_PENDING_LIFE);
}

bool qo_pending_bound(const qo_pending_t *pending, const char *cookie)
{
    qo_hash_t hash;

    if (cookie == NULL || qo_crypto_hash(&hash, cookie, strlen(cookie)) != QO_OK) {
        return false;
    }
    return qo_crypto_equal(hash.bytes, pending->binding.bytes, sizeof(hash.bytes));
}
