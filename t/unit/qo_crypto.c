/* Known answers of the RFCs and NIST, and of the openssl command where those have none. */
#include "qo_crypto.h"

#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static apr_pool_t *pool;

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static size_t from_hex(unsigned char *out, const char *hex)
{
    size_t len = strlen(hex) / 2;

    for (size_t i = 0; i < len; i++) {
        out[i] = (unsigned char)(digit(hex[2 * i]) * 16 + digit(hex[2 * i + 1]));
    }
    return len;
}

static bool is_hex(const unsigned char *bytes, size_t len, const char *hex)
{
    unsigned char want[128];

    return strlen(hex) == 2 * len && from_hex(want, hex) == len &&
           memcmp(bytes, want, len) == 0;
}

/* RFC 4648 section 10, without the padding, and its section 5 alphabet. */
static void check_text(void)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg"},
                                           {"fo", "Zm8"},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg"},
                                           {"fooba", "Zm9vYmE"},
                                           {"foobar", "Zm9vYmFy"},
                                           {"\xfb\xff\xbf", "-_-_"},
                                           {"\xff\xef", "_-8"}};

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        size_t len = strlen(pairs[i][0]);
        char *text = malloc(qo_crypto_text_len(len) + 1);
        unsigned char *bytes = malloc(len + 1);

        if (text == NULL || bytes == NULL) {
            abort();
        }
        qo_crypto_text(text, (const unsigned char *)pairs[i][0], len);
        tap_is(text, pairs[i][1], "RFC 4648 vector, written");
        tap_int((long long)qo_crypto_text_len(len), (long long)strlen(pairs[i][1]),
                "of the length promised");
        tap_ok(qo_crypto_untext(bytes, pairs[i][1]) == len &&
                   memcmp(bytes, pairs[i][0], len) == 0,
               "and read");
        free(text);
        free(bytes);
    }
    tap_int((long long)qo_crypto_text_len(32), QO_SECRET_TEXT,
            "32 bytes are 43 characters");
    tap_int((long long)qo_crypto_text_len(16), QO_BINDING_TEXT, "16 bytes are 22");
}

static void check_text_round(void)
{
    unsigned char bytes[80];
    unsigned char back[80];
    char text[120];
    bool same = true;

    for (size_t len = 1; len <= sizeof bytes; len++) {
        for (size_t i = 0; i < len; i++) {
            bytes[i] = (unsigned char)(i * 37 + len * 11);
        }
        qo_crypto_text(text, bytes, len);
        same = same && qo_crypto_untext(back, text) == len && memcmp(back, bytes, len) == 0;
    }
    tap_ok(same, "what was written is read again, at every length");
}

static void check_no_text(void)
{
    static const char *const bad[] = {
        "A",    "AAAAA", "Zg==",  "Zm9v=", "Zm9+",       "Zm9/",
        "Zm9 ", " Zm9v", "Zm\n9", "Zm9.",  "Zm\xc3\xa9", "Z*"};
    unsigned char out[16];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tap_ok(qo_crypto_untext(out, bad[i]) == 0, "no base64url, case %zu", i);
    }
}

static bool url_safe(const char *text)
{
    return strspn(text,
                  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") ==
           strlen(text);
}

static void check_secret(void)
{
    char text[100];
    char other[100];

    memset(text, '!', sizeof text);
    tap_ok(qo_crypto_secret(text, QO_SECRET_BYTES) == QO_OK &&
               strlen(text) == QO_SECRET_TEXT && url_safe(text),
           "a secret of 32 bytes is 43 url-safe characters");
    tap_ok(qo_crypto_secret(other, QO_SECRET_BYTES) == QO_OK && strcmp(text, other) != 0,
           "and another one is another one");
    tap_ok(qo_crypto_secret(text, 64) == QO_OK && strlen(text) == 86 && url_safe(text),
           "64 bytes are allowed");
    tap_ok(qo_crypto_secret(text, 65) != QO_OK, "65 are not");
}

static void check_random(void)
{
    unsigned char a[32];
    unsigned char b[32];
    unsigned char c[32] = "";
    int ends[2];
    int status = 0;

    tap_ok(qo_crypto_random(a, 32) == QO_OK && qo_crypto_random(b, 32) == QO_OK &&
               memcmp(a, b, 32) != 0,
           "two draws differ");
    if (pipe(ends) != 0) {
        tap_ok(false, "a pipe");
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        bool good = qo_crypto_random(b, 32) == QO_OK && write(ends[1], b, 32) == 32;
        _exit(good ? 0 : 1);
    }
    bool drawn = qo_crypto_random(a, 32) == QO_OK;
    drawn = read(ends[0], c, 32) == 32 && drawn;
    drawn = waitpid(child, &status, 0) == child && status == 0 && drawn;
    tap_ok(drawn && memcmp(a, c, 32) != 0,
           "parent and child draw differently after a fork");
    close(ends[0]);
    close(ends[1]);
}

static void check_hash(void)
{
    qo_hash_t hash;
    char challenge[QO_SECRET_TEXT + 1] = "";
    unsigned char *million = calloc(1, 1000000);

    tap_ok(qo_crypto_hash(&hash, "abc", 3) == QO_OK &&
               is_hex(hash.bytes, 32,
                      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
           "SHA-256 of abc");
    tap_ok(qo_crypto_hash(&hash, "", 0) == QO_OK &&
               is_hex(hash.bytes, 32,
                      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
           "SHA-256 of nothing");
    tap_ok(million != NULL && qo_crypto_hash(&hash, million, 1000000) == QO_OK &&
               is_hex(hash.bytes, 32,
                      "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025"),
           "SHA-256 of a million zeros");
    free(million);

    tap_ok(qo_crypto_challenge(challenge, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") ==
               QO_OK,
           "a challenge is made");
    tap_is(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
           "the one of RFC 7636 appendix B");
}

static void counting_key(qo_key_t *key)
{
    for (unsigned char i = 0; i < QO_KEY_LEN; i++) {
        key->bytes[i] = i;
    }
}

/* openssl dgst -sha256 -mac HMAC -macopt hexkey:000102..1f over
 * purpose | 00 | length | info | 01 */
static void check_derive(void)
{
    qo_key_t key;
    qo_key_t out;
    char *info = malloc(65536);

    if (info == NULL) {
        abort();
    }
    memset(info, 'x', 65536);
    counting_key(&key);
    tap_ok(qo_crypto_derive(&out, &key, "session", "abc", 3) == QO_OK &&
               is_hex(out.bytes, 32,
                      "ed2898e801db736571ff92dbf5388cc9ee8816837ff9105a84e96f4166c18d8c"),
           "derivation, a known answer");
    tap_ok(qo_crypto_derive(&out, &key, "p", info, 65535) == QO_OK &&
               is_hex(out.bytes, 32,
                      "1cc7616beb49318c9beb796a5a6630d98d0fe3622e1056aa7f7b85549ab6e0a9"),
           "with the longest info");
    tap_ok(qo_crypto_derive(&out, &key, "", "", 0) == QO_OK &&
               is_hex(out.bytes, 32,
                      "99411f24bfa9ee8e144e132c46b3b7d1f6d6bfbe2b82ab47b4963e43bfe8bdb6"),
           "with none");
    tap_ok(qo_crypto_derive(&out, &key, "p", info, 65536) != QO_OK,
           "a longer info is refused: its length could not be bound");
    free(info);
}

static void check_prepared(void)
{
    qo_key_t key;
    qo_key_t plain;
    qo_key_t fast;
    qo_mac_t *mac = NULL;
    apr_pool_t *short_life;
    char info[300];
    bool same = true;

    counting_key(&key);
    apr_pool_create(&short_life, pool);
    tap_ok(qo_crypto_prepare(&mac, short_life, &key) == QO_OK, "a key can be prepared");
    memset(info, 'i', sizeof info);
    for (size_t len = 0; len <= sizeof info; len++) {
        same = same && qo_crypto_derive(&plain, &key, "purpose", info, len) == QO_OK &&
               qo_crypto_derive_prepared(&fast, mac, "purpose", info, len) == QO_OK &&
               memcmp(&plain, &fast, sizeof plain) == 0;
    }
    tap_ok(same, "and derives the same at every length of info");
    tap_ok(qo_crypto_derive_prepared(&fast, mac, "p", info, 65536) != QO_OK,
           "and refuses the same");
    apr_pool_destroy(short_life);
}

typedef struct {
    const qo_mac_t *mac;
    const qo_key_t *want;
    bool same;
} sharer_t;

static void *APR_THREAD_FUNC derive_often(apr_thread_t *thread, void *data)
{
    sharer_t *sharer = data;
    qo_key_t out;

    (void)thread;
    sharer->same = true;
    for (int i = 0; i < 2000; i++) {
        if (qo_crypto_derive_prepared(&out, sharer->mac, "session", "abc", 3) != QO_OK ||
            memcmp(&out, sharer->want, sizeof out) != 0) {
            sharer->same = false;
        }
    }
    return NULL;
}

static void check_threads(void)
{
    enum { THREADS = 4 };
    apr_thread_t *threads[THREADS];
    sharer_t sharers[THREADS];
    qo_key_t key;
    qo_key_t want;
    qo_mac_t *mac = NULL;
    bool same = true;

    counting_key(&key);
    if (qo_crypto_prepare(&mac, pool, &key) != QO_OK ||
        qo_crypto_derive(&want, &key, "session", "abc", 3) != QO_OK) {
        tap_ok(false, "a key for the threads");
        return;
    }
    for (int i = 0; i < THREADS; i++) {
        sharers[i] = (sharer_t){mac, &want, false};
        if (apr_thread_create(&threads[i], NULL, derive_often, &sharers[i], pool) !=
            APR_SUCCESS) {
            tap_ok(false, "a thread");
            return;
        }
    }
    for (int i = 0; i < THREADS; i++) {
        apr_status_t ended;

        apr_thread_join(&ended, threads[i]);
        same = same && sharers[i].same;
    }
    tap_ok(same, "threads share a prepared key");
}

/* RFC 5869 appendix A.3 has an empty salt; the others are the openssl command's. */
static void check_extract(void)
{
    static const char secret[] = "the secret text of at least 32 bytes.";
    unsigned char ikm[22];
    char salt[66];
    qo_key_t out;

    memset(ikm, 0x0b, sizeof ikm);
    memset(salt, 'a', sizeof salt);
    tap_ok(qo_crypto_extract(&out, "", ikm, sizeof ikm) == QO_OK &&
               is_hex(out.bytes, 32,
                      "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04"),
           "RFC 5869 A.3");
    tap_ok(qo_crypto_extract(&out, "salt", secret, sizeof secret - 1) == QO_OK &&
               is_hex(out.bytes, 32,
                      "bffb9ee8d867ec0c3a22787b4386982816544d96ef5b5e9f771578b410b98d55"),
           "extraction, a known answer");
    salt[64] = '\0';
    tap_ok(qo_crypto_extract(&out, salt, "x", 1) == QO_OK &&
               is_hex(out.bytes, 32,
                      "b65ca3a3235f948bc0e6bd747532c54a983b54ddad1a4d1bd8b958e065b1cab4"),
           "with the longest salt");
    salt[64] = 'a';
    salt[65] = '\0';
    tap_ok(qo_crypto_extract(&out, salt, "x", 1) != QO_OK, "a longer salt is refused");
}

/* McGrew and Viega, test cases 13, 14 and 16 of "The Galois/Counter Mode of Operation". */
static void check_gcm(void)
{
    static const struct {
        const char *key, *iv, *aad, *cipher, *tag, *plain;
    } cases[] = {{"0000000000000000000000000000000000000000000000000000000000000000",
                  "000000000000000000000000", "", "", "530f8afbc74536b9a963b4f1c4cb738b",
                  ""},
                 {"0000000000000000000000000000000000000000000000000000000000000000",
                  "000000000000000000000000", "", "cea7403d4d606b6e074ec5d3baf39d18",
                  "d0d1c8a799996bf0265b98b5d48ab919", "00000000000000000000000000000000"},
                 {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
                  "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
                  "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
                  "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
                  "76fc6ece0f4e1768cddf8853bb2d551b",
                  "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                  "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qo_key_t key;
        unsigned char aad[32];
        unsigned char sealed[128];
        unsigned char plain[128];
        size_t aad_len = from_hex(aad, cases[i].aad);

        from_hex(key.bytes, cases[i].key);
        size_t len = from_hex(sealed, cases[i].iv);
        len += from_hex(sealed + len, cases[i].cipher);
        len += from_hex(sealed + len, cases[i].tag);
        tap_ok(qo_crypto_open(plain, &key, aad, aad_len, sealed, len) == QO_OK &&
                   is_hex(plain, len - QO_SEAL_IV - QO_SEAL_TAG, cases[i].plain),
               "AES-256-GCM, test case %zu", i == 2 ? (size_t)16 : 13 + i);
    }
}

static void check_seal_lengths(void)
{
    static const size_t lens[] = {0, 1, 15, 16, 17, 100, 4096, 32768};
    qo_key_t key;

    counting_key(&key);
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        size_t len = lens[i];
        size_t whole = len + QO_SEAL_IV + QO_SEAL_TAG;
        unsigned char *plain = malloc(len + 1);
        unsigned char *sealed = malloc(whole);
        unsigned char *back = malloc(len + 1);

        if (plain == NULL || sealed == NULL || back == NULL) {
            abort();
        }
        memset(plain, 'p', len + 1);
        bool good = qo_crypto_seal(sealed, &key, "aad", 3, plain, len) == QO_OK &&
                    qo_crypto_open(back, &key, "aad", 3, sealed, whole) == QO_OK &&
                    memcmp(plain, back, len) == 0;
        tap_ok(good, "%zu bytes are sealed and opened", len);
        free(plain);
        free(sealed);
        free(back);
    }
}

static void check_seal_damage(void)
{
    enum { LEN = 40, WHOLE = LEN + QO_SEAL_IV + QO_SEAL_TAG };
    unsigned char plain[LEN] = "forty bytes of something worth sealing";
    unsigned char sealed[WHOLE];
    unsigned char again[WHOLE];
    unsigned char back[LEN + 1];
    qo_key_t key;
    int opened = 0;

    counting_key(&key);
    if (qo_crypto_seal(sealed, &key, "aad", 3, plain, LEN) != QO_OK ||
        qo_crypto_seal(again, &key, "aad", 3, plain, LEN) != QO_OK) {
        tap_ok(false, "sealing");
        return;
    }
    tap_ok(memcmp(sealed, again, QO_SEAL_IV) != 0, "every seal has an iv of its own");
    for (size_t at = 0; at < WHOLE; at++) {
        for (int bit = 0; bit < 8; bit++) {
            memcpy(again, sealed, WHOLE);
            again[at] ^= (unsigned char)(1 << bit);
            opened += qo_crypto_open(back, &key, "aad", 3, again, WHOLE) != QO_E_NOT_FOUND;
        }
    }
    tap_int(opened, 0, "no flipped bit opens");
    for (size_t len = 0; len < WHOLE; len++) {
        unsigned char *cut = malloc(len + 1);

        if (cut == NULL) {
            abort();
        }
        memcpy(cut, sealed, len);
        opened += qo_crypto_open(back, &key, "aad", 3, cut, len) != QO_E_NOT_FOUND;
        free(cut);
    }
    tap_int(opened, 0, "nor any truncation");
    tap_int(qo_crypto_open(back, &key, "aae", 3, sealed, WHOLE), QO_E_NOT_FOUND,
            "nor another aad");
    tap_int(qo_crypto_open(back, &key, "aa", 2, sealed, WHOLE), QO_E_NOT_FOUND,
            "nor a shorter one");
    key.bytes[31] ^= 1;
    tap_int(qo_crypto_open(back, &key, "aad", 3, sealed, WHOLE), QO_E_NOT_FOUND,
            "nor another key");
}

static void check_small_things(void)
{
    unsigned char secret[40];
    bool differs = true;

    memset(secret, 's', sizeof secret);
    qo_crypto_wipe(secret + 4, 32);
    tap_ok(memcmp(secret, "ssss", 4) == 0 && memcmp(secret + 36, "ssss", 4) == 0 &&
               memchr(secret + 4, 's', 32) == NULL,
           "wipe overwrites what it was given, and only that");
    tap_ok(qo_crypto_equal("same", "same", 4), "equal bytes are equal");
    tap_ok(qo_crypto_equal("a", "b", 0), "no bytes are equal");
    for (size_t at = 0; at < 32; at++) {
        unsigned char a[32] = "";
        unsigned char b[32] = "";

        b[at] = 1;
        differs = differs && !qo_crypto_equal(a, b, 32);
    }
    tap_ok(differs, "a difference anywhere counts");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    alarm(60);
    tap_ok(qo_crypto_init() == QO_OK && qo_crypto_init() == QO_OK, "init, and once more");
    check_text();
    check_text_round();
    check_no_text();
    check_secret();
    check_random();
    check_hash();
    check_derive();
    check_prepared();
    check_threads();
    check_extract();
    check_gcm();
    check_seal_lengths();
    check_seal_damage();
    check_small_things();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
