/* Randomness, hashing, key derivation and authenticated encryption. The only room that
 * knows OpenSSL. It holds no state of its own but the fetched algorithms; keys belong to
 * the caller, who wipes them. */
#ifndef QO_CRYPTO_H
#define QO_CRYPTO_H

#include "qo_error.h"
#include "qo_limits.h"

#include <apr_pools.h>

#include <stddef.h>

#define QO_HASH_LEN 32
#define QO_KEY_LEN 32
#define QO_SEAL_IV 12
#define QO_SEAL_TAG 16

typedef struct {
    unsigned char bytes[QO_HASH_LEN];
} qo_hash_t;

typedef struct {
    unsigned char bytes[QO_KEY_LEN];
} qo_key_t;

/* Fetches the algorithms once. Call it in every process before any other function of this
 * room, while the process has one thread. Repeated calls are harmless. */
qo_status_t qo_crypto_init(void) QO_MUST_CHECK;

/* Gives them back, before the code that fetched them is unloaded; init may follow. */
void qo_crypto_end(void);

/* Fills `out` from libcrypto's generator, which the system seeds, after a fork too. */
qo_status_t qo_crypto_random(void *out, size_t len) QO_MUST_CHECK;

/* base64url without padding (RFC 4648 section 5) and a NUL: out needs qo_crypto_text_len
 * + 1. */
void qo_crypto_text(char *out, const unsigned char *bytes, size_t len);
size_t qo_crypto_text_len(size_t len);

/* The reverse; returns the number of bytes written (at most 3/4 of the text's length), 0
 * when the text is no base64url. */
size_t qo_crypto_untext(unsigned char *out, const char *text);

/* A fresh url-safe secret of `bytes` random bytes as text and a NUL (43 characters for 32);
 * at most 64. */
qo_status_t qo_crypto_secret(char *out, size_t bytes) QO_MUST_CHECK;

/* SHA-256. */
qo_status_t qo_crypto_hash(qo_hash_t *out, const void *data, size_t len) QO_MUST_CHECK;

/* PKCE S256 (RFC 7636 section 4.2): challenge of a verifier, QO_SECRET_TEXT characters +
 * NUL. */
qo_status_t qo_crypto_challenge(char *out, const char *verifier) QO_MUST_CHECK;

/* One block of HKDF-Expand with SHA-256 (RFC 5869 section 2.3): `key` must be uniformly
 * random, `purpose` separates uses, `info` is at most 65535 bytes (their length is bound as
 * well):
 *
 *   HMAC-SHA256(key, purpose | 00 | length of info, 2 bytes big-endian | info | 01) */
qo_status_t qo_crypto_derive(qo_key_t *out, const qo_key_t *key, const char *purpose,
                             const void *info, size_t len) QO_MUST_CHECK;

/* A key of qo_crypto_derive whose two HMAC pads are already digested: saves half the
 * hashing of each derivation. Lives until `p` ends and is wiped then; threads may share it.
 */
typedef struct qo_mac_t qo_mac_t;

qo_status_t qo_crypto_prepare(qo_mac_t **out, apr_pool_t *p,
                              const qo_key_t *key) QO_MUST_CHECK;

/* qo_crypto_derive with a prepared key: the same result. */
qo_status_t qo_crypto_derive_prepared(qo_key_t *out, const qo_mac_t *mac,
                                      const char *purpose, const void *info,
                                      size_t len) QO_MUST_CHECK;

/* HKDF-Extract with SHA-256 (RFC 5869 section 2.2): a uniform key from a secret that is
 * random but of any form. The salt has at most 64 characters. */
qo_status_t qo_crypto_extract(qo_key_t *out, const char *salt, const void *secret,
                              size_t len) QO_MUST_CHECK;

/* AES-256-GCM. `out` receives iv, ciphertext and tag: len + QO_SEAL_IV + QO_SEAL_TAG bytes.
 */
qo_status_t qo_crypto_seal(unsigned char *out, const qo_key_t *key, const void *aad,
                           size_t aad_len, const void *plain, size_t len) QO_MUST_CHECK;

/* The reverse; `len` is the sealed length and `out` receives len - QO_SEAL_IV - QO_SEAL_TAG
 * bytes. QO_E_NOT_FOUND when it does not open under this key and aad. */
qo_status_t qo_crypto_open(unsigned char *out, const qo_key_t *key, const void *aad,
                           size_t aad_len, const void *sealed, size_t len) QO_MUST_CHECK;

/* Constant-time equality of `len` bytes. */
bool qo_crypto_equal(const void *a, const void *b, size_t len);

/* Overwrites secret memory in a way the compiler keeps. */
void qo_crypto_wipe(void *secret, size_t len);

#endif
