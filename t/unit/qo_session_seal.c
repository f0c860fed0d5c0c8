/* A sealed session: the tokens open with the visitor's cookie alone, the part for the
 * admin's tool without it, and neither gives away the other. */
#include "qo_session.h"

#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

#define KEY_A "the first server key, 32 bytes and more"
#define KEY_B "another server key, just as long as it"
#define COOKIE "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define BINDING "qonto-client https://app.example/callback"
#define HEADER 3 /* format, length of the first part */

static apr_pool_t *pool;

static qo_session_t sample(void)
{
    qo_token_t token = {"ory_at_access.token", "ory_rt_refresh.token", NULL,
                        "offline_access organization.read", 2000000};
    qo_session_t session;

    qo_session_new(&session, &token, 60, 5000, 1000000);
    session.renewed = 1500000;
    session.user = "someone@example.com";
    session.organization = "475670cc";
    return session;
}

/* As the server makes them from its keys: the present one first. */
static qo_session_rings_t rings_of(const char *first, const char *second,
                                   const char *binding)
{
    qo_session_rings_t rings;
    bool made;

    memset(&rings, 0, sizeof rings);
    made = qo_keyring_add(&rings.admin, first, strlen(first)) == QO_OK;
    if (second != NULL) {
        made = qo_keyring_add(&rings.admin, second, strlen(second)) == QO_OK && made;
    }
    made = qo_keyring_bind(&rings.visitor, &rings.admin, binding) == QO_OK && made;
    if (!made) {
        tap_ok(false, "rings are made");
    }
    return rings;
}

static qo_hash_t key_of(const char *cookie)
{
    qo_hash_t key;

    if (qo_crypto_hash(&key, cookie, strlen(cookie)) != QO_OK) {
        tap_ok(false, "a cookie has a hash");
    }
    return key;
}

static qo_bytes_t sealed_by(const qo_session_rings_t *rings, const qo_session_t *session)
{
    qo_hash_t key = key_of(COOKIE);
    qo_bytes_t stored = {NULL, 0};

    if (qo_session_seal(&stored, pool, rings, COOKIE, &key, session) != QO_OK) {
        tap_ok(false, "a session is sealed");
    }
    return stored;
}

static qo_bytes_t admin_part(qo_bytes_t stored)
{
    size_t len = ((size_t)stored.data[1] << 8) + stored.data[2];

    return (qo_bytes_t){stored.data + HEADER, len};
}

static qo_bytes_t record_part(qo_bytes_t stored)
{
    qo_bytes_t admin = admin_part(stored);

    return (qo_bytes_t){admin.data + admin.len, stored.len - HEADER - admin.len};
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* The visitor's session comes out as it went in. */
static bool opens(const qo_session_rings_t *rings, const char *cookie, qo_bytes_t stored,
                  const qo_session_t *want)
{
    qo_bytes_t record;
    qo_session_t back;

    return qo_session_open(&record, pool, rings, cookie, stored) == QO_OK &&
           qo_session_decode(&back, record) == QO_OK && back.created == want->created &&
           back.expires == want->expires && back.renewed == want->renewed &&
           back.token.expires == want->token.expires &&
           same_text(back.token.access, want->token.access) &&
           same_text(back.token.refresh, want->token.refresh) &&
           same_text(back.token.scope, want->token.scope) &&
           same_text(back.user, want->user) &&
           same_text(back.organization, want->organization);
}

static bool closed(const qo_session_rings_t *rings, const char *cookie, qo_bytes_t stored)
{
    qo_bytes_t record;

    return qo_session_open(&record, pool, rings, cookie, stored) == QO_E_NOT_FOUND;
}

static bool admin_opens(const qo_session_rings_t *rings, const char *cookie,
                        qo_bytes_t stored, const qo_session_t *want)
{
    qo_hash_t key = key_of(cookie);
    qo_session_admin_t got;

    memset(&got, 'Z', sizeof got);
    return qo_session_open_admin(&got, pool, rings, &key, stored) == QO_OK &&
           got.created == want->created && got.expires == want->expires &&
           got.renewed == want->renewed && got.access_expires == want->token.expires &&
           same_text(got.user, want->user) &&
           same_text(got.organization, want->organization);
}

static bool admin_closed(const qo_session_rings_t *rings, const char *cookie,
                         qo_bytes_t stored)
{
    qo_hash_t key = key_of(cookie);
    qo_session_admin_t got;

    return qo_session_open_admin(&got, pool, rings, &key, stored) == QO_E_NOT_FOUND;
}

static void check_round_trip(void)
{
    qo_session_rings_t rings = rings_of(KEY_A, NULL, BINDING);

    for (unsigned absent = 0; absent < 8; absent++) {
        qo_session_t session = sample();

        session.token.refresh = absent & 1 ? NULL : session.token.refresh;
        session.user = absent & 2 ? NULL : session.user;
        session.organization = absent & 4 ? NULL : session.organization;
        qo_bytes_t stored = sealed_by(&rings, &session);
        tap_ok(opens(&rings, COOKIE, stored, &session), "it opens with its cookie, %u",
               absent);
        tap_ok(admin_opens(&rings, COOKIE, stored, &session),
               "and its part for the admin without, %u", absent);
    }
}

static void check_layout(void)
{
    qo_session_rings_t rings = rings_of(KEY_A, NULL, BINDING);
    qo_session_t session = sample();
    qo_bytes_t stored = sealed_by(&rings, &session);
    qo_bytes_t again = sealed_by(&rings, &session);

    tap_int(stored.data[0], 1, "format 1");
    tap_ok(stored.len > HEADER + admin_part(stored).len, "both parts are there");
    tap_ok(memcmp(record_part(stored).data, record_part(again).data, 40) != 0 &&
               memcmp(admin_part(stored).data, admin_part(again).data, 40) != 0,
           "sealed anew each time");
    for (const char *const *word =
             (const char *const[]){"ory_", "token", "offline", "someone", "4756", NULL};
         *word != NULL; word++) {
        tap_ok(memmem(stored.data, stored.len, *word, strlen(*word)) == NULL,
               "no \"%s\" in clear", *word);
    }
}

/* What the server's key and the store give to who has no cookie. */
static void check_admin_has_no_token(void)
{
    qo_session_rings_t rings = rings_of(KEY_A, NULL, BINDING);
    const qo_keyring_t *const all[] = {&rings.admin, &rings.visitor};
    qo_session_t session = sample();
    qo_bytes_t stored = sealed_by(&rings, &session);
    qo_hash_t key = key_of(COOKIE);
    char secret[QO_SECRET_TEXT + 1];
    qo_bytes_t plain = {NULL, 0};
    int opened = 0;

    qo_crypto_text(secret, key.bytes, sizeof key.bytes);
    for (int ring = 0; ring < 2; ring++) {
        for (int kind = QO_SEAL_SESSION; kind <= QO_SEAL_ADMIN; kind++) {
            opened += qo_seal_open(&plain, pool, all[ring], (qo_seal_kind_t)kind, secret,
                                   record_part(stored)) == QO_OK;
        }
    }
    tap_int(opened, 0, "the record opens with no key of the server's alone");
    tap_ok(closed(&rings, secret, stored) && closed(&rings, "", stored),
           "whatever is said to be the cookie");
    if (tap_ok(qo_seal_open(&plain, pool, &rings.admin, QO_SEAL_ADMIN, secret,
                            admin_part(stored)) == QO_OK,
               "the first part does")) {
        tap_ok(memmem(plain.data, plain.len, "ory_", 4) == NULL &&
                   memmem(plain.data, plain.len, "token", 5) == NULL &&
                   memmem(plain.data, plain.len, COOKIE, 8) == NULL,
               "and holds no token and no cookie");
    }
    size_t before = admin_part(stored).len;
    session.token.access = "ory_at_a token that is longer by some characters";
    tap_int((long long)admin_part(sealed_by(&rings, &session)).len, (long long)before,
            "nor does its length tell of them");
}

static void check_strangers(void)
{
    qo_session_rings_t rings = rings_of(KEY_A, NULL, BINDING);
    qo_session_rings_t host = rings_of(KEY_A, NULL, "other https://app.example/callback");
    qo_session_rings_t server = rings_of(KEY_B, NULL, BINDING);
    qo_session_t session = sample();
    qo_bytes_t stored = sealed_by(&rings, &session);
    char cookie[] = COOKIE;

    for (size_t at = 0; at < sizeof cookie - 1; at += 6) {
        cookie[at] = 'B';
        tap_ok(closed(&rings, cookie, stored) && admin_closed(&rings, cookie, stored),
               "another cookie opens nothing, %zu", at);
        cookie[at] = 'A';
    }
    tap_ok(closed(&host, COOKIE, stored), "nor does another virtual host");
    tap_ok(admin_opens(&host, COOKIE, stored, &session), "whose admin is the same");
    tap_ok(closed(&server, COOKIE, stored) && admin_closed(&server, COOKIE, stored),
           "another server's key opens nothing");
    memset(&server, 0, sizeof server);
    tap_ok(closed(&server, COOKIE, stored) && admin_closed(&server, COOKIE, stored),
           "nor does none");
}

/* The first parts of two sessions exchanged: an admin shall not be told stories. */
static void check_exchanged(void)
{
    qo_session_rings_t rings = rings_of(KEY_A, NULL, BINDING);
    qo_session_t session = sample();
    qo_bytes_t mine = sealed_by(&rings, &session);
    qo_hash_t key = key_of("another cookie");
    qo_bytes_t theirs = {NULL, 0};
    qo_bytes_t mixed = {apr_palloc(pool, mine.len), mine.len};

    tap_ok(qo_session_seal(&theirs, pool, &rings, "another cookie", &key, &session) ==
                   QO_OK &&
               theirs.len == mine.len,
           "two sessions");
    memcpy(mixed.data, mine.data, mine.len);
    memcpy(admin_part(mixed).data, admin_part(theirs).data, admin_part(theirs).len);
    tap_ok(admin_closed(&rings, COOKIE, mixed),
           "a part is bound to its place in the store");
    tap_ok(admin_closed(&rings, COOKIE, theirs), "and so is the whole");
}

static void check_rotation(void)
{
    qo_session_rings_t before = rings_of(KEY_A, NULL, BINDING);
    qo_session_rings_t both = rings_of(KEY_B, KEY_A, BINDING);
    qo_session_t session = sample();
    qo_bytes_t old = sealed_by(&before, &session);
    qo_bytes_t now = sealed_by(&both, &session);

    tap_ok(opens(&both, COOKIE, old, &session), "an old key still opens");
    tap_ok(admin_opens(&both, COOKIE, old, &session), "for the admin, too");
    tap_ok(opens(&both, COOKIE, now, &session) && closed(&before, COOKIE, now),
           "the present one seals");
    tap_ok(admin_opens(&both, COOKIE, now, &session) && admin_closed(&before, COOKIE, now),
           "both parts");
}

/* A copy of its own size, so that a sanitizer sees the byte after it. */
static qo_bytes_t exact(qo_bytes_t from, size_t len)
{
    qo_bytes_t copy = {malloc(len == 0 ? 1 : len), len};

    if (copy.data == NULL) {
        abort();
    }
    memcpy(copy.data, from.data, len < from.len ? len : from.len);
    return copy;
}

static void check_cut(void)
{
    qo_session_rings_t rings = rings_of(KEY_A, NULL, BINDING);
    qo_session_t session = sample();
    qo_bytes_t stored = sealed_by(&rings, &session);
    size_t first = HEADER + admin_part(stored).len;
    bool shut = true;
    bool admin_shut = true;

    for (size_t len = 0; len < stored.len; len++) {
        qo_bytes_t copy = exact(stored, len);

        shut = shut && closed(&rings, COOKIE, copy);
        admin_shut = admin_shut && (admin_closed(&rings, COOKIE, copy) || len >= first);
        free(copy.data);
    }
    tap_ok(shut, "cut short at any length it does not open");
    tap_ok(admin_shut, "nor does a first part that is cut");
    qo_bytes_t longer = exact(stored, stored.len + 1);
    longer.data[stored.len] = 0;
    tap_ok(closed(&rings, COOKIE, longer), "nor a byte too long");
    free(longer.data);
}

static void check_damage(void)
{
    static const unsigned char change[] = {0x01, 0x80, 0xff};
    qo_session_rings_t rings = rings_of(KEY_A, NULL, BINDING);
    qo_session_t session = sample();
    qo_bytes_t stored = sealed_by(&rings, &session);
    size_t first = HEADER + admin_part(stored).len;
    bool shut = true;
    bool admin_shut = true;

    for (size_t at = 0; at < stored.len; at++) {
        for (size_t i = 0; i < sizeof change; i++) {
            qo_bytes_t copy = exact(stored, stored.len);

            copy.data[at] ^= change[i];
            if (at < HEADER || at >= first) {
                shut = shut && closed(&rings, COOKIE, copy);
            }
            if (at < first) {
                admin_shut = admin_shut && admin_closed(&rings, COOKIE, copy);
            }
            free(copy.data);
        }
    }
    tap_ok(shut, "with any byte damaged it does not open");
    tap_ok(admin_shut, "nor does its part for the admin");
}

static char *text_of(size_t len)
{
    char *text = apr_palloc(pool, len + 1);

    memset(text, 't', len);
    text[len] = '\0';
    return text;
}

static void check_sizes(void)
{
    qo_session_rings_t rings = rings_of(KEY_A, NULL, BINDING);
    qo_hash_t key = key_of(COOKIE);
    qo_session_t session = sample();
    qo_bytes_t stored = {NULL, 0};

    session.token.access = text_of(QO_LIMIT_TOKEN);
    session.token.refresh = text_of(QO_LIMIT_TOKEN);
    session.token.scope = text_of(QO_LIMIT_SCOPE);
    session.user = text_of(320); /* the longest e-mail address, RFC 3696 */
    session.organization = text_of(64);
    tap_int(qo_session_seal(&stored, pool, &rings, COOKIE, &key, &session), QO_OK,
            "the longest tokens, scope and names are sealed");
    tap_ok(stored.len <= QO_LIMIT_RECORD && opens(&rings, COOKIE, stored, &session) &&
               admin_opens(&rings, COOKIE, stored, &session),
           "fit a record and open again");
    session.user = text_of(QO_LIMIT_ADMIN);
    tap_ok(qo_session_seal(&stored, pool, &rings, COOKIE, &key, &session) != QO_OK,
           "a name that does not fit is told");
    session.user = NULL;
    session.token.access = text_of(QO_LIMIT_RECORD - QO_LIMIT_TOKEN - QO_LIMIT_SCOPE - 100);
    tap_ok(qo_session_seal(&stored, pool, &rings, COOKIE, &key, &session) != QO_OK,
           "so is a record that is too long when it is sealed");
    session.token.access = text_of(3 * QO_LIMIT_RECORD);
    tap_ok(qo_session_seal(&stored, pool, &rings, COOKIE, &key, &session) != QO_OK,
           "or before");
    session.token.access = NULL;
    tap_ok(qo_session_seal(&stored, pool, &rings, COOKIE, &key, &session) != QO_OK,
           "no access token is no session");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    tap_int(qo_crypto_init(), QO_OK, "crypto");
    check_round_trip();
    check_layout();
    check_admin_has_no_token();
    check_strangers();
    check_exchanged();
    check_rotation();
    check_cut();
    check_damage();
    check_sizes();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
