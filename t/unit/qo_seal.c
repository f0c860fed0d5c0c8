/* Sealed records: everything that is not exactly right does not open. */
#include "qo_seal.h"

#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

#define KEY_A "the first server key, 32 bytes and more"
#define KEY_B "another server key, just as long as it"
#define KEY_C "one that nobody ever used for anything"
#define COOKIE "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define OVERHEAD (1 + 4 + QO_SEAL_IV + QO_SEAL_TAG)

static apr_pool_t *pool;

static qo_keyring_t ring_of(const char *first, const char *second)
{
    qo_keyring_t ring;

    memset(&ring, 0, sizeof ring);
    tap_int(qo_keyring_add(&ring, first, strlen(first)), QO_OK, "a key is added");
    if (second != NULL) {
        tap_int(qo_keyring_add(&ring, second, strlen(second)), QO_OK, "and an old one");
    }
    return ring;
}

static qo_bytes_t bytes_of(const char *text)
{
    return (qo_bytes_t){(unsigned char *)apr_pstrdup(pool, text), strlen(text)};
}

static qo_bytes_t sealed_by(const qo_keyring_t *ring, qo_seal_kind_t kind, const char *text)
{
    qo_bytes_t out = {NULL, 0};

    tap_int(qo_seal(&out, pool, ring, kind, COOKIE, bytes_of(text)), QO_OK, "sealed");
    return out;
}

static bool opens(const qo_keyring_t *ring, qo_seal_kind_t kind, const char *secret,
                  qo_bytes_t sealed, const char *text)
{
    qo_bytes_t out = {NULL, 0};

    return qo_seal_open(&out, pool, ring, kind, secret, sealed) == QO_OK &&
           out.len == strlen(text) && memcmp(out.data, text, out.len) == 0;
}

static bool unknown(const qo_keyring_t *ring, qo_seal_kind_t kind, const char *secret,
                    qo_bytes_t sealed)
{
    qo_bytes_t out = {NULL, 0};

    return qo_seal_open(&out, pool, ring, kind, secret, sealed) == QO_E_NOT_FOUND;
}

static void check_layout(void)
{
    qo_keyring_t ring = ring_of(KEY_A, NULL);
    qo_bytes_t one = sealed_by(&ring, QO_SEAL_SESSION, "what is inside");
    qo_bytes_t two = sealed_by(&ring, QO_SEAL_SESSION, "what is inside");

    tap_int((long long)one.len, (long long)strlen("what is inside") + OVERHEAD,
            "version, key id, iv, ciphertext and tag, nothing else");
    tap_ok(memcmp(one.data + 1, ring.ids[0], 4) == 0, "the key's id follows the version");
    tap_ok(one.data[0] == two.data[0] &&
               memcmp(one.data + 5, two.data + 5, QO_SEAL_IV) != 0,
           "every record has an iv of its own");
    tap_ok(memmem(one.data, one.len, "inside", 6) == NULL, "the words cannot be read");
    tap_ok(opens(&ring, QO_SEAL_SESSION, COOKIE, one, "what is inside"), "it opens");
    tap_ok(memmem(&ring.keys[0], QO_KEY_LEN, ring.ids[0], 4) == NULL,
           "the id is no piece of the key");
}

static void check_kinds(void)
{
    static const qo_seal_kind_t kinds[] = {QO_SEAL_SESSION, QO_SEAL_PENDING,
                                           QO_SEAL_TICKET};
    qo_keyring_t ring = ring_of(KEY_A, NULL);

    for (size_t i = 0; i < 3; i++) {
        qo_bytes_t sealed = sealed_by(&ring, kinds[i], "kind");

        for (size_t j = 0; j < 3; j++) {
            tap_ok(i == j ? opens(&ring, kinds[j], COOKIE, sealed, "kind")
                          : unknown(&ring, kinds[j], COOKIE, sealed),
                   "kind %d read as kind %d", kinds[i], kinds[j]);
        }
    }
}

/* Records outlive the program that wrote them, so their format is kept here once more:
 * which key, and what is authenticated beside the content. */
static void check_format(void)
{
    static const char *const purposes[] = {"", "session", "pending", "ticket"};
    qo_keyring_t ring = ring_of(KEY_A, NULL);

    for (int kind = QO_SEAL_SESSION; kind <= QO_SEAL_TICKET; kind++) {
        qo_bytes_t sealed = sealed_by(&ring, (qo_seal_kind_t)kind, "kept");
        unsigned char aad[6];
        unsigned char plain[4] = "";
        qo_key_t key;

        memcpy(aad, sealed.data, 5);
        aad[5] = (unsigned char)kind;
        tap_ok(sealed.data[0] == 1 &&
                   qo_crypto_derive(&key, &ring.keys[0], purposes[kind], COOKIE,
                                    strlen(COOKIE)) == QO_OK &&
                   qo_crypto_open(plain, &key, aad, sizeof aad, sealed.data + 5,
                                  sealed.len - 5) == QO_OK &&
                   memcmp(plain, "kept", 4) == 0,
               "version 1 of a record: key by purpose, header and kind authenticated");
    }
}

static void check_secrets(void)
{
    static const char *const wrong[] = {"",
                                        "A",
                                        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                                        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB",
                                        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                                        "aAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    qo_keyring_t ring = ring_of(KEY_A, NULL);
    qo_keyring_t other = ring_of(KEY_B, NULL);
    qo_keyring_t empty;
    qo_bytes_t sealed = sealed_by(&ring, QO_SEAL_SESSION, "mine");

    memset(&empty, 0, sizeof empty);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        tap_ok(unknown(&ring, QO_SEAL_SESSION, wrong[i], sealed), "another secret, %zu", i);
    }
    tap_ok(unknown(&other, QO_SEAL_SESSION, COOKIE, sealed), "another server key");
    tap_ok(unknown(&empty, QO_SEAL_SESSION, COOKIE, sealed), "no key at all");
}

static void check_damage(void)
{
    qo_keyring_t ring = ring_of(KEY_A, KEY_B);
    qo_bytes_t sealed = sealed_by(&ring, QO_SEAL_SESSION, "something of some length");
    int opened = 0;

    for (size_t at = 0; at < sealed.len; at++) {
        for (int bit = 0; bit < 8; bit++) {
            sealed.data[at] ^= (unsigned char)(1 << bit);
            opened += !unknown(&ring, QO_SEAL_SESSION, COOKIE, sealed);
            sealed.data[at] ^= (unsigned char)(1 << bit);
        }
    }
    tap_int(opened, 0, "no flipped bit opens, the version's and the key id's included");
    for (size_t len = 0; len < sealed.len; len++) {
        qo_bytes_t cut = {malloc(len + (len == 0)), len};

        if (cut.data == NULL) {
            abort();
        }
        memcpy(cut.data, sealed.data, len);
        opened += !unknown(&ring, QO_SEAL_SESSION, COOKIE, cut);
        free(cut.data);
    }
    tap_int(opened, 0, "no truncation opens");
    qo_bytes_t longer = {apr_pcalloc(pool, sealed.len + 1), sealed.len + 1};
    memcpy(longer.data, sealed.data, sealed.len);
    tap_ok(unknown(&ring, QO_SEAL_SESSION, COOKIE, longer), "nor one byte more");
    tap_ok(opens(&ring, QO_SEAL_SESSION, COOKIE, sealed, "something of some length"),
           "the record itself still does");
}

/* Naming the other key of the ring in a record does not make it open. */
static void check_swapped_id(void)
{
    qo_keyring_t ring = ring_of(KEY_A, KEY_B);
    qo_bytes_t sealed = sealed_by(&ring, QO_SEAL_SESSION, "text");

    memcpy(sealed.data + 1, ring.ids[1], 4);
    tap_ok(unknown(&ring, QO_SEAL_SESSION, COOKIE, sealed), "a key id cannot be exchanged");
}

static void check_rotation(void)
{
    qo_keyring_t before = ring_of(KEY_A, NULL);
    qo_keyring_t during = ring_of(KEY_B, KEY_A);
    qo_keyring_t after = ring_of(KEY_B, NULL);
    qo_bytes_t old = sealed_by(&before, QO_SEAL_SESSION, "old");
    qo_bytes_t new = sealed_by(&during, QO_SEAL_SESSION, "new");

    tap_ok(opens(&during, QO_SEAL_SESSION, COOKIE, old, "old"), "the old key still opens");
    tap_ok(opens(&during, QO_SEAL_SESSION, COOKIE, new, "new"), "the new one opens");
    tap_ok(opens(&after, QO_SEAL_SESSION, COOKIE, new, "new"), "and seals");
    tap_ok(unknown(&before, QO_SEAL_SESSION, COOKIE, new), "the old one seals no more");
    tap_ok(unknown(&after, QO_SEAL_SESSION, COOKIE, old),
           "once the old one is gone, so are its records");
    tap_ok(memcmp(during.ids[1], before.ids[0], 4) == 0 &&
               memcmp(during.ids[0], during.ids[1], 4) != 0,
           "a key has one id wherever it stands");
}

static void check_add(void)
{
    static const char bytes[40] = {1, 2, 0, 4, 5, 6, 7, 8, 9};
    qo_keyring_t ring;
    qo_keyring_t full = ring_of(KEY_A, KEY_B);

    memset(&ring, 0, sizeof ring);
    tap_int(qo_keyring_add(&ring, bytes, 31), QO_E_BAD_PARAMETER, "31 bytes are too few");
    tap_int(qo_keyring_add(&ring, "", 0), QO_E_BAD_PARAMETER, "none as well");
    tap_int(ring.count, 0, "and are not added");
    tap_int(qo_keyring_add(&ring, bytes, 32), QO_OK, "32 are enough, NULs included");
    tap_int(ring.count, 1, "and count");
    tap_int(qo_keyring_add(&full, KEY_C, strlen(KEY_C)), QO_E_BAD_PARAMETER,
            "the ring has two places");
    tap_int(full.count, 2, "and keeps them");
    tap_ok(memmem(&ring, sizeof ring, bytes, 9) == NULL, "the secret itself is not kept");
}

static void check_bind(void)
{
    static const char *const other[] = {"", "id https://app.example/c", "i",
                                        "id https://app.example/cbx",
                                        "di https://app.example/cb"};
    qo_keyring_t server = ring_of(KEY_A, KEY_B);
    qo_keyring_t only_b = ring_of(KEY_B, NULL);
    qo_keyring_t mine;
    qo_keyring_t old;
    qo_keyring_t again;

    tap_int(qo_keyring_bind(&mine, &server, "id https://app.example/cb"), QO_OK, "bound");
    tap_int(qo_keyring_bind(&again, &server, "id https://app.example/cb"), QO_OK,
            "and again");
    tap_int(qo_keyring_bind(&old, &only_b, "id https://app.example/cb"), QO_OK,
            "the old one");
    qo_bytes_t sealed = sealed_by(&mine, QO_SEAL_SESSION, "vhost");
    tap_int(mine.count, 2, "every key is bound");
    tap_ok(opens(&again, QO_SEAL_SESSION, COOKIE, sealed, "vhost"),
           "one binding, one ring");
    tap_ok(unknown(&server, QO_SEAL_SESSION, COOKIE, sealed),
           "the server's ring is another");
    qo_bytes_t before = sealed_by(&old, QO_SEAL_SESSION, "before");
    tap_ok(opens(&mine, QO_SEAL_SESSION, COOKIE, before, "before"), "in the same order");
    tap_ok(unknown(&old, QO_SEAL_SESSION, COOKIE, sealed), "the first one seals");
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        qo_keyring_t foreign;

        tap_ok(qo_keyring_bind(&foreign, &server, other[i]) == QO_OK &&
                   unknown(&foreign, QO_SEAL_SESSION, COOKIE, sealed),
               "another virtual host, %zu", i);
    }
}

static void check_prepare(void)
{
    qo_keyring_t plain = ring_of(KEY_A, KEY_B);
    qo_keyring_t fast = plain;
    qo_keyring_t bound;
    qo_keyring_t bound_too;

    tap_ok(plain.macs[0] == NULL && plain.macs[1] == NULL, "a ring begins unprepared");
    tap_int(qo_keyring_prepare(&fast, pool), QO_OK, "and can be prepared");
    tap_ok(fast.macs[0] != NULL && fast.macs[1] != NULL, "all its keys are");
    tap_ok(
        opens(&fast, QO_SEAL_SESSION, COOKIE, sealed_by(&plain, QO_SEAL_SESSION, "p"), "p"),
        "a prepared ring opens what a plain one sealed");
    tap_ok(
        opens(&plain, QO_SEAL_PENDING, COOKIE, sealed_by(&fast, QO_SEAL_PENDING, "f"), "f"),
        "and the other way round");
    tap_ok(unknown(&fast, QO_SEAL_SESSION, "x", sealed_by(&plain, QO_SEAL_SESSION, "p")),
           "and nothing else");
    qo_keyring_t copy = fast;
    tap_ok(
        opens(&copy, QO_SEAL_SESSION, COOKIE, sealed_by(&plain, QO_SEAL_SESSION, "c"), "c"),
        "copies of it do too");
    memset(&bound, 'Z', sizeof bound);
    tap_ok(qo_keyring_bind(&bound, &fast, "b") == QO_OK && bound.macs[0] == NULL &&
               bound.macs[1] == NULL,
           "a bound ring is not prepared");
    tap_ok(qo_keyring_bind(&bound_too, &plain, "b") == QO_OK &&
               opens(&bound, QO_SEAL_SESSION, COOKIE,
                     sealed_by(&bound_too, QO_SEAL_SESSION, "b"), "b"),
           "and the same whatever it was made from");
}

static void check_sizes(void)
{
    qo_keyring_t ring = ring_of(KEY_A, NULL);
    qo_keyring_t empty;
    qo_bytes_t plain = {apr_pcalloc(pool, QO_LIMIT_RECORD + 1), QO_LIMIT_RECORD - OVERHEAD};
    qo_bytes_t none = {NULL, 0};
    qo_bytes_t out = {NULL, 0};

    memset(&empty, 0, sizeof empty);
    tap_ok(qo_seal(&out, pool, &ring, QO_SEAL_SESSION, COOKIE, plain) == QO_OK &&
               out.len == QO_LIMIT_RECORD &&
               qo_seal_open(&out, pool, &ring, QO_SEAL_SESSION, COOKIE, out) == QO_OK &&
               out.len == plain.len,
           "the longest record");
    plain.len = QO_LIMIT_RECORD + 1;
    tap_int(qo_seal(&out, pool, &ring, QO_SEAL_SESSION, COOKIE, plain), QO_E_INTERNAL,
            "a longer one is refused");
    tap_int(qo_seal(&out, pool, &empty, QO_SEAL_SESSION, COOKIE, bytes_of("x")),
            QO_E_INTERNAL, "an empty ring seals nothing");
    tap_ok(qo_seal(&out, pool, &ring, QO_SEAL_SESSION, COOKIE, none) == QO_OK &&
               qo_seal_open(&out, pool, &ring, QO_SEAL_SESSION, COOKIE, out) == QO_OK &&
               out.len == 0,
           "nothing can be sealed");
    tap_ok(unknown(&ring, QO_SEAL_SESSION, COOKIE, none), "but nothing does not open");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    tap_int(qo_crypto_init(), QO_OK, "crypto");
    check_layout();
    check_kinds();
    check_format();
    check_secrets();
    check_damage();
    check_swapped_id();
    check_rotation();
    check_add();
    check_bind();
    check_prepare();
    check_sizes();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
