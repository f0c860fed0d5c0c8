#include "qo_session.h"

#include <string.h>

#define FORMAT 1
#define HEADER_LEN 3
#define ADMIN_FORMAT 1

/* Binds the part to its place in the store: moved to another, it does not open. */
static void admin_secret(char out[QO_SECRET_TEXT + 1], const qo_hash_t *key)
{
    qo_crypto_text(out, key->bytes, sizeof(key->bytes));
}

static qo_status_t seal_admin(qo_bytes_t *out, apr_pool_t *p, const qo_keyring_t *ring,
                              const qo_hash_t *key, const qo_session_t *session)
{
    char secret[QO_SECRET_TEXT + 1];
    qo_bytes_t plain;
    qo_writer_t w;

    qo_pack_start(&w, p, QO_LIMIT_ADMIN);
    qo_pack_u8(&w, ADMIN_FORMAT);
    qo_pack_u64(&w, (uint64_t)session->created);
    qo_pack_u64(&w, (uint64_t)session->expires);
    qo_pack_u64(&w, (uint64_t)session->renewed);
    qo_pack_u64(&w, (uint64_t)session->token.expires);
    qo_pack_string(&w, session->user);
    qo_pack_string(&w, session->organization);
    if (!qo_pack_finish(&w, &plain)) {
        return QO_E_INTERNAL;
    }
    admin_secret(secret, key);
    return qo_seal(out, p, ring, QO_SEAL_ADMIN, secret, plain);
}

qo_status_t qo_session_seal(qo_bytes_t *out, apr_pool_t *p, const qo_session_rings_t *rings,
                            const char *cookie, const qo_hash_t *key,
                            const qo_session_t *session)
{
    qo_bytes_t record;
    qo_bytes_t admin;
    qo_bytes_t sealed;
    qo_writer_t w;
    qo_status_t status = qo_session_encode(&record, p, session);

    if (status == QO_OK) {
        status = seal_admin(&admin, p, &rings->admin, key, session);
    }
    if (status == QO_OK) {
        status = qo_seal(&sealed, p, &rings->visitor, QO_SEAL_SESSION, cookie, record);
    }
    if (status != QO_OK) {
        return status;
    }
    qo_pack_start(&w, p, HEADER_LEN + admin.len + sealed.len);
    qo_pack_u8(&w, FORMAT);
    qo_pack_u8(&w, (uint8_t)(admin.len >> 8));
    qo_pack_u8(&w, (uint8_t)(admin.len & 0xff));
    qo_pack_bytes(&w, admin.data, admin.len);
    qo_pack_bytes(&w, sealed.data, sealed.len);
    return qo_pack_finish(&w, out) && out->len <= QO_LIMIT_RECORD ? QO_OK : QO_E_INTERNAL;
}

/* Both parts of what is stored; they point into it. */
static bool split(qo_bytes_t stored, qo_bytes_t *admin, qo_bytes_t *sealed)
{
    if (stored.len < HEADER_LEN || stored.data[0] != FORMAT) {
        return false;
    }
    admin->data = stored.data + HEADER_LEN;
    admin->len = ((size_t)stored.data[1] << 8) + stored.data[2];
    if (admin->len > stored.len - HEADER_LEN) {
        return false;
    }
    sealed->data = admin->data + admin->len;
    sealed->len = stored.len - HEADER_LEN - admin->len;
    return true;
}

qo_status_t qo_session_open(qo_bytes_t *record, apr_pool_t *p,
                            const qo_session_rings_t *rings, const char *cookie,
                            qo_bytes_t stored)
{
    qo_bytes_t admin;
    qo_bytes_t sealed;

    if (!split(stored, &admin, &sealed)) {
        return QO_E_NOT_FOUND;
    }
    return qo_seal_open(record, p, &rings->visitor, QO_SEAL_SESSION, cookie, sealed);
}

static qo_status_t decode_admin(qo_session_admin_t *out, qo_bytes_t record)
{
    qo_reader_t r;

    qo_unpack_start(&r, record.data, record.len);
    if (qo_unpack_u8(&r) != ADMIN_FORMAT) {
        return QO_E_NOT_FOUND;
    }
    out->created = (apr_time_t)qo_unpack_u64(&r);
    out->expires = (apr_time_t)qo_unpack_u64(&r);
    out->renewed = (apr_time_t)qo_unpack_u64(&r);
    out->access_expires = (apr_time_t)qo_unpack_u64(&r);
    out->user = qo_unpack_string(&r);
    out->organization = qo_unpack_string(&r);
    return qo_unpack_finish(&r) ? QO_OK : QO_E_NOT_FOUND;
}

qo_status_t qo_session_open_admin(qo_session_admin_t *out, apr_pool_t *p,
                                  const qo_session_rings_t *rings, const qo_hash_t *key,
                                  qo_bytes_t stored)
{
    char secret[QO_SECRET_TEXT + 1];
    qo_bytes_t admin;
    qo_bytes_t sealed;
    qo_bytes_t record;
    qo_status_t status;

    if (!split(stored, &admin, &sealed)) {
        return QO_E_NOT_FOUND;
    }
    admin_secret(secret, key);
    status = qo_seal_open(&record, p, &rings->admin, QO_SEAL_ADMIN, secret, admin);
    return status == QO_OK ? decode_admin(out, record) : status;
}
