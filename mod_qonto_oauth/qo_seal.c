#include "qo_seal.h"

#include <string.h>

#define VERSION 1
#define ID_LEN 4
#define HEADER_LEN (1 + ID_LEN)
#define OVERHEAD (HEADER_LEN + QO_SEAL_IV + QO_SEAL_TAG)
#define AAD_LEN (HEADER_LEN + 1)
#define SECRET_MIN 32

#define EXTRACT_SALT "mod_qonto_oauth session key 1"

/* HKDF purposes. At most eight characters: a record key then costs one hash block less. */
static const char *purpose_of(qo_seal_kind_t kind)
{
    switch (kind) {
    case QO_SEAL_SESSION:
        return "session";
    case QO_SEAL_PENDING:
        return "pending";
    case QO_SEAL_TICKET:
        return "ticket";
    case QO_SEAL_ADMIN:
        return "admin";
    }
    return NULL;
}

/* The id stands in clear before every record, so it is derived one-way. */
static qo_status_t make_id(unsigned char id[ID_LEN], const qo_key_t *key)
{
    qo_key_t derived;

    if (qo_crypto_derive(&derived, key, "key id", NULL, 0) != QO_OK) {
        return QO_E_INTERNAL;
    }
    memcpy(id, derived.bytes, ID_LEN);
    qo_crypto_wipe(&derived, sizeof(derived));
    return QO_OK;
}

qo_status_t qo_keyring_add(qo_keyring_t *ring, const void *secret, size_t len)
{
    int at = ring->count;

    if (len < SECRET_MIN || at < 0 || at >= QO_LIMIT_KEYS) {
        return QO_E_BAD_PARAMETER;
    }
    if (qo_crypto_extract(&ring->keys[at], EXTRACT_SALT, secret, len) != QO_OK ||
        make_id(ring->ids[at], &ring->keys[at]) != QO_OK) {
        return QO_E_INTERNAL;
    }
    ring->macs[at] = NULL;
    ring->count++;
    return QO_OK;
}

qo_status_t qo_keyring_bind(qo_keyring_t *out, const qo_keyring_t *server,
                            const char *binding)
{
    qo_keyring_t ring = {0};

    for (int i = 0; i < server->count; i++) {
        if (qo_crypto_derive(&ring.keys[i], &server->keys[i], "virtual host", binding,
                             strlen(binding)) != QO_OK ||
            make_id(ring.ids[i], &ring.keys[i]) != QO_OK) {
            qo_crypto_wipe(&ring, sizeof(ring));
            return QO_E_INTERNAL;
        }
    }
    ring.count = server->count;
    *out = ring;
    qo_crypto_wipe(&ring, sizeof(ring));
    return QO_OK;
}

qo_status_t qo_keyring_prepare(qo_keyring_t *ring, apr_pool_t *p)
{
    for (int i = 0; i < ring->count; i++) {
        qo_mac_t *mac;

        if (qo_crypto_prepare(&mac, p, &ring->keys[i]) != QO_OK) {
            return QO_E_INTERNAL;
        }
        ring->macs[i] = mac;
    }
    return QO_OK;
}

static qo_status_t record_key(qo_key_t *out, const qo_keyring_t *ring, int at,
                              qo_seal_kind_t kind, const char *secret)
{
    const char *purpose = purpose_of(kind);
    size_t len = strlen(secret);

    if (purpose == NULL) {
        return QO_E_INTERNAL;
    }
    if (ring->macs[at] != NULL) {
        return qo_crypto_derive_prepared(out, ring->macs[at], purpose, secret, len);
    }
    return qo_crypto_derive(out, &ring->keys[at], purpose, secret, len);
}

/* What is authenticated beside the content: the header as it stands, and the kind. */
static void make_aad(unsigned char aad[AAD_LEN], const unsigned char *header,
                     qo_seal_kind_t kind)
{
    memcpy(aad, header, HEADER_LEN);
    aad[HEADER_LEN] = (unsigned char)kind;
}

qo_status_t qo_seal(qo_bytes_t *out, apr_pool_t *p, const qo_keyring_t *ring,
                    qo_seal_kind_t kind, const char *secret, qo_bytes_t plain)
{
    unsigned char aad[AAD_LEN];
    unsigned char *record;
    qo_key_t key;
    qo_status_t status;

    if (ring->count < 1 || plain.len > QO_LIMIT_RECORD - OVERHEAD ||
        record_key(&key, ring, 0, kind, secret) != QO_OK) {
        return QO_E_INTERNAL;
    }
    record = apr_palloc(p, plain.len + OVERHEAD);
    record[0] = VERSION;
    memcpy(record + 1, ring->ids[0], ID_LEN);
    make_aad(aad, record, kind);
    status =
        qo_crypto_seal(record + HEADER_LEN, &key, aad, sizeof(aad), plain.data, plain.len);
    qo_crypto_wipe(&key, sizeof(key));
    if (status != QO_OK) {
        return status;
    }
    out->data = record;
    out->len = plain.len + OVERHEAD;
    return QO_OK;
}

static qo_status_t open_with(unsigned char *out, const qo_keyring_t *ring, int at,
                             qo_seal_kind_t kind, const char *secret, qo_bytes_t sealed)
{
    unsigned char aad[AAD_LEN];
    qo_key_t key;
    qo_status_t status;

    if (record_key(&key, ring, at, kind, secret) != QO_OK) {
        return QO_E_INTERNAL;
    }
    make_aad(aad, sealed.data, kind);
    status = qo_crypto_open(out, &key, aad, sizeof(aad), sealed.data + HEADER_LEN,
                            sealed.len - HEADER_LEN);
    qo_crypto_wipe(&key, sizeof(key));
    return status;
}

qo_status_t qo_seal_open(qo_bytes_t *out, apr_pool_t *p, const qo_keyring_t *ring,
                         qo_seal_kind_t kind, const char *secret, qo_bytes_t sealed)
{
    qo_status_t status = QO_E_NOT_FOUND;
    unsigned char *plain;

    if (sealed.len < OVERHEAD || sealed.len > QO_LIMIT_RECORD ||
        sealed.data[0] != VERSION) {
        return QO_E_NOT_FOUND;
    }
    plain = apr_palloc(p, sealed.len - OVERHEAD);
    /* Ids are short, so two keys of a ring may share one. */
    for (int i = 0; i < ring->count && status == QO_E_NOT_FOUND; i++) {
        if (memcmp(sealed.data + 1, ring->ids[i], ID_LEN) == 0) {
            status = open_with(plain, ring, i, kind, secret, sealed);
        }
    }
    if (status != QO_OK) {
        return status;
    }
    out->data = plain;
    out->len = sealed.len - OVERHEAD;
    return QO_OK;
}
