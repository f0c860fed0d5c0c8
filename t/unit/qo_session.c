/* The session record and its ends. */
#include "qo_session.h"

#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <limits.h>
#include <stdlib.h>

static apr_pool_t *pool;

#define NOW ((apr_time_t)1700000000 * APR_USEC_PER_SEC)
#define SECONDS(n) ((apr_time_t)(n)*APR_USEC_PER_SEC)

static qo_session_t sample(void)
{
    qo_session_t s;

    memset(&s, 0, sizeof s);
    s.created = 0x0102030405060708LL;
    s.expires = 0x1112131415161718LL;
    s.renewed = 0x4142434445464748LL;
    s.idle = 0x21222324U;
    s.token.expires = 0x3132333435363738LL;
    s.token.access = "ory_at_access";
    s.token.refresh = "ory_rt_refresh";
    s.token.id = "not.kept.at.all";
    s.token.scope = "offline_access organization.read";
    s.user = "someone@example.com";
    s.organization = "475670cc";
    return s;
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same(const qo_session_t *a, const qo_session_t *b)
{
    return a->created == b->created && a->expires == b->expires &&
           a->renewed == b->renewed && a->idle == b->idle &&
           a->token.expires == b->token.expires &&
           same_text(a->token.access, b->token.access) &&
           same_text(a->token.refresh, b->token.refresh) &&
           same_text(a->token.scope, b->token.scope) && same_text(a->user, b->user) &&
           same_text(a->organization, b->organization);
}

static qo_bytes_t encoded(const qo_session_t *session)
{
    qo_bytes_t out = {NULL, 0};

    tap_int(qo_session_encode(&out, pool, session), QO_OK, "a session is written");
    return out;
}

static void check_layout(void)
{
    static const unsigned char want[] = {
        2,    1,    2,    3,    4,    5,    6,    7,    8,    0x11, 0x12, 0x13, 0x14,
        0x15, 0x16, 0x17, 0x18, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x21,
        0x22, 0x23, 0x24, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38};
    qo_session_t session = sample();
    qo_bytes_t record = encoded(&session);

    tap_ok(record.len > sizeof want && memcmp(record.data, want, sizeof want) == 0,
           "format, created, expires, renewed, idle, access dies");
    tap_ok(memmem(record.data, record.len, "not.kept", 8) == NULL,
           "the ID token is not kept");
}

static void check_round_trip(void)
{
    for (unsigned absent = 0; absent < 8; absent++) {
        qo_session_t session = sample();
        qo_session_t back;

        session.token.refresh = absent & 1 ? NULL : session.token.refresh;
        session.user = absent & 2 ? NULL : session.user;
        session.organization = absent & 4 ? NULL : session.organization;
        memset(&back, 'Z', sizeof back);
        tap_ok(qo_session_decode(&back, encoded(&session)) == QO_OK &&
                   same(&session, &back) && back.token.id == NULL,
               "it is read again, case %u", absent);
    }
}

static void check_in_place(void)
{
    qo_session_t session = sample();
    qo_bytes_t record = encoded(&session);
    qo_session_t back;

    if (qo_session_decode(&back, record) != QO_OK) {
        tap_ok(false, "a record is read");
        return;
    }
    const unsigned char *access = (const unsigned char *)back.token.access;
    tap_ok(access > record.data && access < record.data + record.len,
           "its strings lie in the record");
}

static void check_damage(void)
{
    qo_session_t session = sample();
    qo_bytes_t record = encoded(&session);
    qo_session_t back;
    int accepted = 0;

    for (size_t len = 0; len < record.len; len++) {
        qo_bytes_t cut = {malloc(len + (len == 0)), len};

        if (cut.data == NULL) {
            abort();
        }
        memcpy(cut.data, record.data, len);
        accepted += qo_session_decode(&back, cut) != QO_E_NOT_FOUND;
        free(cut.data);
    }
    tap_int(accepted, 0, "no truncation is a session");
    qo_bytes_t longer = {apr_pcalloc(pool, record.len + 1), record.len + 1};
    memcpy(longer.data, record.data, record.len);
    tap_int(qo_session_decode(&back, longer), QO_E_NOT_FOUND, "nor one byte more");
    for (int format = 0; format < 256; format++) {
        unsigned char present = record.data[0];

        record.data[0] = (unsigned char)format;
        accepted += format != present && qo_session_decode(&back, record) != QO_E_NOT_FOUND;
        record.data[0] = present;
    }
    tap_int(accepted, 0, "nor another format");
}

/* Sealing keeps strangers out; a bug of ours must not crash the server either. */
static void check_any_byte(void)
{
    qo_session_t session = sample();
    qo_bytes_t record = encoded(&session);
    bool sound = true;

    for (size_t at = 0; at < record.len; at++) {
        for (int value = 0; value < 256; value++) {
            qo_bytes_t copy = {malloc(record.len), record.len};
            qo_session_t back;

            if (copy.data == NULL) {
                abort();
            }
            memcpy(copy.data, record.data, record.len);
            copy.data[at] = (unsigned char)value;
            if (qo_session_decode(&back, copy) == QO_OK) {
                sound = sound && back.token.access != NULL && back.token.scope != NULL &&
                        strlen(back.token.access) + strlen(back.token.scope) < record.len;
            }
            free(copy.data);
        }
    }
    tap_ok(sound, "whatever is read has an access token and a scope");
}

/* A record as the header draws it, with one string missing; of format 1 it was shorter. */
static void check_missing(void)
{
    for (int missing = 0; missing < 6; missing++) {
        bool needed = missing == 0 || missing == 2; /* access token and scope */
        qo_writer_t w;
        qo_bytes_t record;
        qo_session_t back;

        qo_pack_start(&w, pool, 512);
        qo_pack_u8(&w, 2);
        qo_pack_u64(&w, 1);
        qo_pack_u64(&w, 2);
        qo_pack_u64(&w, 3);
        qo_pack_u32(&w, 4);
        qo_pack_u64(&w, 5);
        for (int i = 0; i < 5; i++) {
            qo_pack_string(&w, i == missing ? NULL : "text");
        }
        tap_ok(qo_pack_finish(&w, &record) &&
                   (qo_session_decode(&back, record) == QO_OK) == !needed,
               "an access token and a scope must be there, %d", missing);
    }
}

/* What the module wrote before it could refresh: its visitors sign in again. */
static void check_old_format(void)
{
    qo_writer_t w;
    qo_bytes_t record;
    qo_session_t back;

    qo_pack_start(&w, pool, 512);
    qo_pack_u8(&w, 1);
    qo_pack_u64(&w, 1);
    qo_pack_u64(&w, 2);
    qo_pack_u32(&w, 3);
    qo_pack_u64(&w, 4);
    for (int i = 0; i < 5; i++) {
        qo_pack_string(&w, "text");
    }
    tap_ok(qo_pack_finish(&w, &record) &&
               qo_session_decode(&back, record) == QO_E_NOT_FOUND,
           "a record of format 1 is none");
}

static void check_size(void)
{
    qo_session_t session = sample();
    qo_session_t back;
    qo_bytes_t record = {NULL, 0};
    char *token = apr_palloc(pool, QO_LIMIT_TOKEN + 1);
    char *scope = apr_palloc(pool, QO_LIMIT_SCOPE + 1);
    char *huge = apr_palloc(pool, QO_LIMIT_RECORD + 1);

    memset(token, 't', QO_LIMIT_TOKEN);
    token[QO_LIMIT_TOKEN] = '\0';
    memset(scope, 's', QO_LIMIT_SCOPE);
    scope[QO_LIMIT_SCOPE] = '\0';
    memset(huge, 'u', QO_LIMIT_RECORD);
    huge[QO_LIMIT_RECORD] = '\0';
    session.token.access = token;
    session.token.refresh = token;
    session.token.scope = scope;
    tap_ok(qo_session_encode(&record, pool, &session) == QO_OK &&
               record.len <= QO_LIMIT_RECORD - 33 &&
               qo_session_decode(&back, record) == QO_OK && same(&session, &back),
           "the longest tokens and scope fit a sealed record");
    session.user = huge;
    tap_ok(qo_session_encode(&record, pool, &session) != QO_OK,
           "what does not fit is told");
}

static void check_new(void)
{
    qo_token_t token = {"a", "r", "i", "s", NOW + SECONDS(3600)};
    qo_session_t session;

    memset(&session, 'Z', sizeof session);
    qo_session_new(&session, &token, 28800, 2592000, NOW);
    tap_ok(session.created == NOW && session.expires == NOW + SECONDS(2592000) &&
               session.idle == 28800,
           "a new session ends after its time");
    tap_ok(session.renewed == NOW, "its tokens are as old as itself");
    tap_ok(same_text(session.token.access, "a") && same_text(session.token.refresh, "r") &&
               same_text(session.token.scope, "s") &&
               session.token.expires == token.expires,
           "and has the tokens");
    tap_ok(session.user == NULL && session.organization == NULL, "and nobody's name yet");

    token.refresh = NULL;
    qo_session_new(&session, &token, 28800, 2592000, NOW);
    tap_ok(session.expires == token.expires,
           "without a refresh token it ends with the access token");
    qo_session_new(&session, &token, 60, 600, NOW);
    tap_ok(session.expires == NOW + SECONDS(600), "unless its own end comes first");
    token.refresh = "r";
    qo_session_new(&session, &token, UINT32_MAX, UINT32_MAX, NOW);
    tap_ok(session.expires == NOW + SECONDS(UINT32_MAX), "the longest time does not wrap");
}

static qo_session_t aged(void)
{
    qo_token_t first = {"a1", "r1", "i1", "s1", NOW + SECONDS(3600)};
    qo_session_t session;

    qo_session_new(&session, &first, 28800, 2592000, NOW);
    session.user = "someone@example.com";
    session.organization = "475670cc";
    return session;
}

static void check_renew(void)
{
    qo_token_t next = {"a2", "r2", "i2", "s2", NOW + SECONDS(7000)};
    qo_session_t session = aged();
    qo_session_t back;

    qo_session_renew(&session, &next, NOW + SECONDS(3400));
    tap_ok(same_text(session.token.access, "a2") && same_text(session.token.scope, "s2") &&
               session.token.expires == NOW + SECONDS(7000),
           "renewed: the new access token");
    tap_is(session.token.refresh, "r2", "and the new refresh token");
    tap_ok(session.token.id == NULL, "no ID token");
    tap_ok(session.renewed == NOW + SECONDS(3400), "as of now");
    tap_ok(session.created == NOW && session.expires == NOW + SECONDS(2592000) &&
               session.idle == 28800,
           "its own ends do not move");
    tap_ok(same_text(session.user, "someone@example.com") &&
               same_text(session.organization, "475670cc"),
           "it is still the same person's");
    tap_ok(qo_session_decode(&back, encoded(&session)) == QO_OK && same(&session, &back),
           "and is kept so");
    next.refresh = NULL;
    next.access = "a3";
    qo_session_renew(&session, &next, NOW + SECONDS(3500));
    tap_is(session.token.access, "a3", "an answer without a refresh token");
    tap_is(session.token.refresh, "r2", "leaves the one before in use");
    tap_ok(session.renewed == NOW + SECONDS(3500), "and renews all the same");
}

static qo_session_t lived(apr_time_t token_ends, apr_time_t session_ends, bool renewable)
{
    qo_session_t session = aged();

    session.token.expires = token_ends;
    session.expires = session_ends;
    session.token.refresh = renewable ? "r" : NULL;
    return session;
}

/* The state of a session whose access token has `left` microseconds, and had a long life.
 */
static qo_session_state_t state(apr_time_t left, int margin, bool renewable)
{
    qo_session_t session = lived(NOW + left, NOW + SECONDS(100000), renewable);

    session.renewed = NOW - SECONDS(100000);
    return qo_session_classify(&session, margin, NOW);
}

static void check_classify(void)
{
    tap_int(qo_session_classify(NULL, 60, NOW), QO_SESSION_NONE, "no session");
    tap_int(state(SECONDS(3600), 60, true), QO_SESSION_LIVE, "a new one lives");
    tap_int(state(SECONDS(60), 60, true), QO_SESSION_LIVE, "with the margin left it lives");
    tap_int(state(SECONDS(60) - 1, 60, true), QO_SESSION_DUE, "with less it is due");
    tap_int(state(1, 60, true), QO_SESSION_DUE, "to the last microsecond");
    tap_int(state(0, 60, true), QO_SESSION_STALE, "then its token is dead");
    tap_int(state(-1, 60, true), QO_SESSION_STALE, "after that");
    tap_int(state(-SECONDS(90000), 60, true), QO_SESSION_STALE, "and long after");
    tap_int(state(1, 0, true), QO_SESSION_LIVE, "without a margin it is never due");
    tap_int(state(0, 0, true), QO_SESSION_STALE, "but stale");
    tap_int(state(SECONDS(3600), INT_MAX, true), QO_SESSION_DUE, "the widest margin");
}

/* The margin is never more than half of a token's life, or a short one would be renewed
 * with each request. */
static void check_short_life(void)
{
    qo_session_t session = lived(NOW + SECONDS(50), NOW + SECONDS(1000), true);

    session.renewed = NOW - SECONDS(50);
    tap_int(qo_session_classify(&session, 60, NOW), QO_SESSION_LIVE,
            "with half of its life left it is not due, whatever the margin");
    tap_int(qo_session_classify(&session, 60, NOW + 1), QO_SESSION_DUE, "with less it is");
    tap_int(qo_session_classify(&session, 49, NOW + 1), QO_SESSION_LIVE,
            "unless the margin is less");
    session.token.expires = session.renewed + 1;
    tap_int(qo_session_classify(&session, 60, session.renewed), QO_SESSION_LIVE,
            "a life of a microsecond begins alive");
    tap_int(qo_session_classify(&session, 60, session.renewed + 1), QO_SESSION_STALE,
            "and ends");
}

static void check_not_renewable(void)
{
    tap_int(state(SECONDS(60) - 1, 60, false), QO_SESSION_LIVE,
            "without a refresh token it is not due");
    tap_int(state(1, 60, false), QO_SESSION_LIVE, "it lives to the last microsecond");
    tap_int(state(0, 60, false), QO_SESSION_ENDED, "and ends with its access token");
}

/* The end of the session itself comes first, whatever its tokens are like. */
static void check_ended(void)
{
    static const apr_time_t left[] = {SECONDS(5000), SECONDS(59), 1, 0, -SECONDS(5000)};
    static const qo_session_state_t want[] = {QO_SESSION_LIVE, QO_SESSION_DUE,
                                              QO_SESSION_DUE, QO_SESSION_STALE,
                                              QO_SESSION_STALE};

    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        qo_session_t session = lived(NOW + left[i], NOW + 1, true);

        session.renewed = NOW - SECONDS(100000);
        tap_int(qo_session_classify(&session, 60, NOW), want[i], "a microsecond before");
        session.expires = NOW;
        tap_int(qo_session_classify(&session, 60, NOW), QO_SESSION_ENDED, "its end");
        session.expires = NOW - SECONDS(1000);
        tap_int(qo_session_classify(&session, 60, NOW), QO_SESSION_ENDED, "and after it");
    }
    tap_ok(QO_SESSION_NONE < QO_SESSION_ENDED && QO_SESSION_ENDED < QO_SESSION_STALE &&
               QO_SESSION_STALE < QO_SESSION_DUE && QO_SESSION_DUE < QO_SESSION_LIVE,
           "from STALE on, somebody is signed in");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    check_layout();
    check_round_trip();
    check_in_place();
    check_damage();
    check_any_byte();
    check_missing();
    check_old_format();
    check_size();
    check_new();
    check_renew();
    check_classify();
    check_short_life();
    check_not_renewable();
    check_ended();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
