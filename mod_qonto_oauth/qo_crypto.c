#include "qo_crypto.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/opensslv.h>
#include <openssl/rand.h>

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define HMAC_BLOCK 64 /* SHA-256's block, RFC 2104 section 2 */
#define INFO_MAX 0xffff
#define SECRET_MAX 64

/* Fetched once: left to each call, OpenSSL 3 looks an algorithm up for longer than it then
 * works. Never freed; the library keeps them until the process ends. */
static EVP_MD *sha256;
static EVP_CIPHER *aes_gcm;

struct qo_mac_t {
    EVP_MD_CTX *inner; /* after the block key ^ ipad */
    EVP_MD_CTX *outer; /* after the block key ^ opad */
};

typedef struct {
    const void *data;
    size_t len;
} part_t;

/* OpenSSL's error queue is the thread's: what is left in it would be read by mod_ssl as
 * an error of its own connection. */
static qo_status_t fail(qo_status_t status)
{
    ERR_clear_error();
    return status;
}

static qo_status_t done(bool ok)
{
    return ok ? QO_OK : fail(QO_E_INTERNAL);
}

qo_status_t qo_crypto_init(void)
{
    if (sha256 != NULL && aes_gcm != NULL) {
        return QO_OK;
    }
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    aes_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    return done(sha256 != NULL && aes_gcm != NULL);
}

void qo_crypto_end(void)
{
    EVP_MD_free(sha256);
    EVP_CIPHER_free(aes_gcm);
    sha256 = NULL;
    aes_gcm = NULL;
}

qo_status_t qo_crypto_random(void *out, size_t len)
{
    return done(len <= INT_MAX && RAND_bytes(out, (int)len) == 1);
}

size_t qo_crypto_text_len(size_t len)
{
    return (len * 4 + 2) / 3;
}

static const char ALPHABET[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Not EVP_EncodeBlock: it pads, and so writes past the room that callers have. */
void qo_crypto_text(char *out, const unsigned char *bytes, size_t len)
{
    unsigned int pending = 0;
    unsigned int bits = 0;

    for (size_t i = 0; i < len; i++) {
        pending = (pending << 8 | bytes[i]) & 0xffff;
        for (bits += 8; bits >= 6; bits -= 6) {
            *out++ = ALPHABET[pending >> (bits - 6) & 0x3f];
        }
    }
    if (bits > 0) {
        *out++ = ALPHABET[pending << (6 - bits) & 0x3f];
    }
    *out = '\0';
}

size_t qo_crypto_untext(unsigned char *out, const char *text)
{
    unsigned int pending = 0;
    unsigned int bits = 0;
    size_t len = 0;

    if (strlen(text) % 4 == 1) {
        return 0; /* six bits are no byte */
    }
    for (; *text != '\0'; text++) {
        const char *at = strchr(ALPHABET, *text);

        if (at == NULL) {
            return 0;
        }
        pending = (pending << 6 | (unsigned int)(at - ALPHABET)) & 0xffff;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[len++] = (unsigned char)(pending >> bits);
        }
    }
    return len;
}

qo_status_t qo_crypto_secret(char *out, size_t bytes)
{
    unsigned char raw[SECRET_MAX];

    if (bytes > sizeof(raw) || qo_crypto_random(raw, bytes) != QO_OK) {
        return QO_E_INTERNAL;
    }
    qo_crypto_text(out, raw, bytes);
    qo_crypto_wipe(raw, sizeof(raw));
    return QO_OK;
}

qo_status_t qo_crypto_hash(qo_hash_t *out, const void *data, size_t len)
{
    return done(EVP_Digest(data, len, out->bytes, NULL, sha256, NULL) == 1);
}

qo_status_t qo_crypto_challenge(char *out, const char *verifier)
{
    qo_hash_t hash;

    if (qo_crypto_hash(&hash, verifier, strlen(verifier)) != QO_OK) {
        return QO_E_INTERNAL;
    }
    qo_crypto_text(out, hash.bytes, sizeof(hash.bytes));
    return QO_OK;
}

/* A context that has digested key ^ pad, the first block of an HMAC. */
static EVP_MD_CTX *start_mac(const void *key, size_t len, unsigned char pad)
{
    unsigned char block[HMAC_BLOCK] = {0};
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok;

    memcpy(block, key, len);
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] ^= pad;
    }
    ok = ctx != NULL && EVP_DigestInit_ex(ctx, sha256, NULL) == 1 &&
         EVP_DigestUpdate(ctx, block, sizeof(block)) == 1;
    qo_crypto_wipe(block, sizeof(block));
    if (!ok) {
        EVP_MD_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

static void close_mac(qo_mac_t *mac)
{
    EVP_MD_CTX_free(mac->inner);
    EVP_MD_CTX_free(mac->outer);
}

static bool open_mac(qo_mac_t *mac, const void *key, size_t len)
{
    mac->inner = start_mac(key, len, 0x36);
    mac->outer = start_mac(key, len, 0x5c);
    if (mac->inner == NULL || mac->outer == NULL) {
        close_mac(mac);
        return false;
    }
    return true;
}

static bool update_all(EVP_MD_CTX *ctx, const part_t *parts, int count)
{
    for (int i = 0; i < count; i++) {
        if (parts[i].len > 0 && EVP_DigestUpdate(ctx, parts[i].data, parts[i].len) != 1) {
            return false;
        }
    }
    return true;
}

/* HMAC-SHA256 of the parts in a row. Only reads `mac`, so threads may share one. */
static bool run_mac(unsigned char out[QO_HASH_LEN], const qo_mac_t *mac,
                    const part_t *parts, int count)
{
    unsigned char inner[QO_HASH_LEN];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_MD_CTX_copy_ex(ctx, mac->inner) == 1 &&
              update_all(ctx, parts, count) && EVP_DigestFinal_ex(ctx, inner, NULL) == 1 &&
              EVP_MD_CTX_copy_ex(ctx, mac->outer) == 1 &&
              EVP_DigestUpdate(ctx, inner, sizeof(inner)) == 1 &&
              EVP_DigestFinal_ex(ctx, out, NULL) == 1;

    EVP_MD_CTX_free(ctx);
    qo_crypto_wipe(inner, sizeof(inner));
    return ok;
}

qo_status_t qo_crypto_extract(qo_key_t *out, const char *salt, const void *secret,
                              size_t len)
{
    const part_t part = {secret, len};
    size_t salt_len = strlen(salt);
    qo_mac_t mac;
    bool ok;

    /* A longer HMAC key would have to be hashed first; no caller needs that. */
    if (salt_len > HMAC_BLOCK || !open_mac(&mac, salt, salt_len)) {
        return fail(QO_E_INTERNAL);
    }
    ok = run_mac(out->bytes, &mac, &part, 1);
    close_mac(&mac);
    return done(ok);
}

static apr_status_t close_prepared(void *data)
{
    close_mac(data);
    return APR_SUCCESS;
}

qo_status_t qo_crypto_prepare(qo_mac_t **out, apr_pool_t *p, const qo_key_t *key)
{
    qo_mac_t *mac = apr_palloc(p, sizeof(*mac));

    if (!open_mac(mac, key->bytes, sizeof(key->bytes))) {
        return fail(QO_E_INTERNAL);
    }
    apr_pool_cleanup_register(p, mac, close_prepared, apr_pool_cleanup_null);
    *out = mac;
    return QO_OK;
}

/* RFC 5869 section 2.3 with L = 32: T(1) = HMAC(PRK, info | 0x01). */
qo_status_t qo_crypto_derive_prepared(qo_key_t *out, const qo_mac_t *mac,
                                      const char *purpose, const void *info, size_t len)
{
    const unsigned char size[2] = {(unsigned char)(len >> 8), (unsigned char)(len & 0xff)};
    const part_t parts[] = {
        {purpose, strlen(purpose) + 1}, {size, sizeof(size)}, {info, len}, {"\x01", 1}};

    if (len > INFO_MAX) {
        return QO_E_INTERNAL;
    }
    return done(run_mac(out->bytes, mac, parts, 4));
}

qo_status_t qo_crypto_derive(qo_key_t *out, const qo_key_t *key, const char *purpose,
                             const void *info, size_t len)
{
    qo_mac_t mac;
    qo_status_t status;

    if (!open_mac(&mac, key->bytes, sizeof(key->bytes))) {
        return fail(QO_E_INTERNAL);
    }
    status = qo_crypto_derive_prepared(out, &mac, purpose, info, len);
    close_mac(&mac);
    return status;
}

/* `out` is NULL for additional data. Nothing to do must not become a call: OpenSSL takes
 * an update without input for the end of the message. */
static bool update_cipher(EVP_CIPHER_CTX *ctx, unsigned char *out, const void *in,
                          size_t len)
{
    int written;

    return len == 0 || EVP_CipherUpdate(ctx, out, &written, in, (int)len) == 1;
}

static bool encrypt(EVP_CIPHER_CTX *ctx, unsigned char *out, const qo_key_t *key,
                    part_t aad, part_t plain)
{
    unsigned char *text = out + QO_SEAL_IV;
    unsigned char *tag = text + plain.len;
    int written;

    return EVP_EncryptInit_ex(ctx, aes_gcm, NULL, key->bytes, out) == 1 &&
           update_cipher(ctx, NULL, aad.data, aad.len) &&
           update_cipher(ctx, text, plain.data, plain.len) &&
           EVP_EncryptFinal_ex(ctx, tag, &written) == 1 &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, QO_SEAL_TAG, tag) == 1;
}

qo_status_t qo_crypto_seal(unsigned char *out, const qo_key_t *key, const void *aad,
                           size_t aad_len, const void *plain, size_t len)
{
    EVP_CIPHER_CTX *ctx;
    bool ok;

    if (aad_len > INT_MAX || len > INT_MAX || qo_crypto_random(out, QO_SEAL_IV) != QO_OK) {
        return QO_E_INTERNAL;
    }
    ctx = EVP_CIPHER_CTX_new();
    ok =
        ctx != NULL && encrypt(ctx, out, key, (part_t){aad, aad_len}, (part_t){plain, len});
    EVP_CIPHER_CTX_free(ctx);
    return done(ok);
}

/* All but the verdict on the tag, which is the caller's EVP_DecryptFinal_ex. */
static bool decrypt(EVP_CIPHER_CTX *ctx, unsigned char *out, const qo_key_t *key,
                    part_t aad, part_t sealed)
{
    const unsigned char *iv = sealed.data;
    const unsigned char *text = iv + QO_SEAL_IV;
    size_t len = sealed.len - QO_SEAL_IV - QO_SEAL_TAG;
    unsigned char tag[QO_SEAL_TAG]; /* the call below takes no const */

    memcpy(tag, text + len, sizeof(tag));
    return EVP_DecryptInit_ex(ctx, aes_gcm, NULL, key->bytes, iv) == 1 &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) == 1 &&
           update_cipher(ctx, NULL, aad.data, aad.len) &&
           update_cipher(ctx, out, text, len);
}

qo_status_t qo_crypto_open(unsigned char *out, const qo_key_t *key, const void *aad,
                           size_t aad_len, const void *sealed, size_t len)
{
    unsigned char none[1]; /* GCM writes nothing at the end */
    EVP_CIPHER_CTX *ctx;
    int written;
    bool ran;
    bool genuine;

    if (len < QO_SEAL_IV + QO_SEAL_TAG) {
        return QO_E_NOT_FOUND;
    }
    if (aad_len > INT_MAX || len > INT_MAX) {
        return QO_E_INTERNAL;
    }
    ctx = EVP_CIPHER_CTX_new();
    ran = ctx != NULL &&
          decrypt(ctx, out, key, (part_t){aad, aad_len}, (part_t){sealed, len});
    genuine = ran && EVP_DecryptFinal_ex(ctx, none, &written) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (!genuine) {
        /* What was decrypted before the tag was known to be wrong is nobody's to read. */
        qo_crypto_wipe(out, len - QO_SEAL_IV - QO_SEAL_TAG);
        return fail(ran ? QO_E_NOT_FOUND : QO_E_INTERNAL);
    }
    return QO_OK;
}

bool qo_crypto_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void qo_crypto_wipe(void *secret, size_t len)
{
    OPENSSL_cleanse(secret, len);
}
