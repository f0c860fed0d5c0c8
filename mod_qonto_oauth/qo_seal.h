/* Sealed records: what the store may hold. A record opens only with the key ring that
 * sealed it *and* the secret its visitor brings (session cookie, state), so neither the
 * store's files nor a cookie on another virtual host open anything.
 *
 *   [version 1][key id 4][iv 12][ciphertext][tag 16]
 *
 * record key = HKDF-Expand(ring key, purpose, secret); version, key id and kind are
 * authenticated. The key id is derived one-way from the key. A ring has the present key
 * first; older ones still open. */
#ifndef QO_SEAL_H
#define QO_SEAL_H

#include "qo_crypto.h"
#include "qo_pack.h"

#include <apr_pools.h>

typedef enum {
    QO_SEAL_SESSION = 1,
    QO_SEAL_PENDING = 2,
    QO_SEAL_TICKET = 3,
    QO_SEAL_ADMIN = 4 /* of a session: what the session tool may read */
} qo_seal_kind_t;

typedef struct {
    int count;
    qo_key_t keys[QO_LIMIT_KEYS];
    unsigned char ids[QO_LIMIT_KEYS][4];
    const qo_mac_t *macs[QO_LIMIT_KEYS]; /* NULL until qo_keyring_prepare */
} qo_keyring_t;

/* Adds a key made from secret text or bytes (at least 32 bytes of real randomness) to a
 * ring that began as all zeros: HKDF-Extract with a fixed salt. QO_E_BAD_PARAMETER: fewer
 * than 32 bytes, or the ring is full. */
qo_status_t qo_keyring_add(qo_keyring_t *ring, const void *secret,
                           size_t len) QO_MUST_CHECK;

/* The ring of one virtual host: every key bound to `binding` (client id and redirect URI),
 * in the same order. It is not prepared, even if `server` was. */
qo_status_t qo_keyring_bind(qo_keyring_t *out, const qo_keyring_t *server,
                            const char *binding) QO_MUST_CHECK;

/* Optional, once per ring before it is shared: what can be computed ahead of qo_seal and
 * qo_seal_open, a third of its instructions. The ring and its copies must not be used
 * after `p` ended. */
qo_status_t qo_keyring_prepare(qo_keyring_t *ring, apr_pool_t *p) QO_MUST_CHECK;

/* Seals `plain` under the ring's first key and `secret`; the result lives in `p`.
 * QO_E_INTERNAL also for an empty ring, or one record of more than QO_LIMIT_RECORD bytes.
 */
qo_status_t qo_seal(qo_bytes_t *out, apr_pool_t *p, const qo_keyring_t *ring,
                    qo_seal_kind_t kind, const char *secret,
                    qo_bytes_t plain) QO_MUST_CHECK;

/* Opens it again into `p`. QO_E_NOT_FOUND: other key, other secret, other kind or damaged.
 */
qo_status_t qo_seal_open(qo_bytes_t *out, apr_pool_t *p, const qo_keyring_t *ring,
                         qo_seal_kind_t kind, const char *secret,
                         qo_bytes_t sealed) QO_MUST_CHECK;

#endif
