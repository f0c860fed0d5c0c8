/* The pending login's record, its life and its binding to a browser. */
#include "qo_pending.h"

#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

static apr_pool_t *pool;

#define COOKIE "cookie-value-of-22-ch."
#define NOW ((apr_time_t)1700000000 * APR_USEC_PER_SEC)
#define LIFE ((apr_time_t)QO_PENDING_LIFE * APR_USEC_PER_SEC)

/* printf cookie-value-of-22-ch. | sha256sum */
static const unsigned char cookie_hash[QO_HASH_LEN] = {
    0x57, 0xdb, 0x56, 0x12, 0xa1, 0x7f, 0xd7, 0xa7, 0xbc, 0x76, 0x0e,
    0x57, 0x31, 0x0d, 0xce, 0xcd, 0x09, 0x64, 0x91, 0x08, 0x3e, 0x2e,
    0xce, 0xe8, 0x41, 0x83, 0x11, 0x03, 0x55, 0x64, 0xea, 0x1a};

static qo_pending_t sample(void)
{
    qo_pending_t p;

    memset(&p, 0, sizeof p);
    p.created = 0x0102030405060708LL;
    p.restarts = 1;
    memcpy(p.binding.bytes, cookie_hash, QO_HASH_LEN);
    memset(p.session_seen.bytes, 0x5e, QO_HASH_LEN);
    p.return_path = "/books?month=5";
    p.scope = "offline_access organization.read";
    p.extra = "prompt=login";
    p.redirect_uri = "https://app.example.com/qonto/callback";
    p.verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    return p;
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same(const qo_pending_t *a, const qo_pending_t *b)
{
    return a->created == b->created && a->restarts == b->restarts &&
           memcmp(&a->binding, &b->binding, QO_HASH_LEN) == 0 &&
           memcmp(&a->session_seen, &b->session_seen, QO_HASH_LEN) == 0 &&
           same_text(a->return_path, b->return_path) && same_text(a->scope, b->scope) &&
           same_text(a->extra, b->extra) && same_text(a->redirect_uri, b->redirect_uri) &&
           same_text(a->verifier, b->verifier);
}

static qo_bytes_t encoded(const qo_pending_t *pending)
{
    qo_bytes_t out = {NULL, 0};

    tap_int(qo_pending_encode(&out, pool, pending), QO_OK, "a pending login is written");
    return out;
}

static void check_layout(void)
{
    static const unsigned char head[] = {1, 2, 3, 4, 5, 6, 7, 8, 1};
    qo_pending_t pending = sample();
    qo_bytes_t record = encoded(&pending);

    tap_ok(record.len > 74 && memcmp(record.data + 1, head, sizeof head) == 0,
           "format, created, restarts");
    tap_ok(memcmp(record.data + 10, &pending.binding, QO_HASH_LEN) == 0 &&
               memcmp(record.data + 42, &pending.session_seen, QO_HASH_LEN) == 0,
           "binding hash, session seen");
}

static void check_round_trip(void)
{
    for (unsigned i = 0; i < 4; i++) {
        qo_pending_t pending = sample();
        qo_pending_t back;

        pending.verifier = i & 1 ? NULL : pending.verifier;
        pending.extra = i & 2 ? "" : pending.extra;
        pending.restarts = (int)i;
        memset(&back, 'Z', sizeof back);
        qo_bytes_t record = encoded(&pending);
        tap_ok(qo_pending_decode(&back, record) == QO_OK && same(&pending, &back),
               "it is read again, case %u", i);
        const unsigned char *path = (const unsigned char *)back.return_path;
        tap_ok(path > record.data && path < record.data + record.len,
               "its strings lie in the record");
    }
}

static void check_damage(void)
{
    qo_pending_t pending = sample();
    qo_bytes_t record = encoded(&pending);
    qo_pending_t back;
    int accepted = 0;

    for (size_t len = 0; len < record.len; len++) {
        qo_bytes_t cut = {malloc(len + (len == 0)), len};

        if (cut.data == NULL) {
            abort();
        }
        memcpy(cut.data, record.data, len);
        accepted += qo_pending_decode(&back, cut) != QO_E_NOT_FOUND;
        free(cut.data);
    }
    tap_int(accepted, 0, "no truncation is a pending login");
    qo_bytes_t longer = {apr_pcalloc(pool, record.len + 1), record.len + 1};
    memcpy(longer.data, record.data, record.len);
    tap_int(qo_pending_decode(&back, longer), QO_E_NOT_FOUND, "nor one byte more");
    for (int format = 0; format < 256; format++) {
        unsigned char present = record.data[0];

        record.data[0] = (unsigned char)format;
        accepted += format != present && qo_pending_decode(&back, record) != QO_E_NOT_FOUND;
        record.data[0] = present;
    }
    tap_int(accepted, 0, "nor another format");
}

static void check_any_byte(void)
{
    qo_pending_t pending = sample();
    qo_bytes_t record = encoded(&pending);
    bool sound = true;

    for (size_t at = 0; at < record.len; at++) {
        for (int value = 0; value < 256; value++) {
            qo_bytes_t copy = {malloc(record.len), record.len};
            qo_pending_t back;

            if (copy.data == NULL) {
                abort();
            }
            memcpy(copy.data, record.data, record.len);
            copy.data[at] = (unsigned char)value;
            if (qo_pending_decode(&back, copy) == QO_OK) {
                sound = sound && back.return_path != NULL && back.scope != NULL &&
                        back.extra != NULL && back.redirect_uri != NULL &&
                        strlen(back.return_path) < record.len;
            }
            free(copy.data);
        }
    }
    tap_ok(sound, "whatever is read has all but the verifier");
}

/* A record as the header draws it, with one string missing. */
static void check_missing(void)
{
    for (int missing = 0; missing < 6; missing++) {
        unsigned char hashes[2 * QO_HASH_LEN] = "";
        qo_writer_t w;
        qo_bytes_t record;
        qo_pending_t back;

        qo_pack_start(&w, pool, 512);
        qo_pack_u8(&w, 1);
        qo_pack_u64(&w, 1);
        qo_pack_u8(&w, 0);
        qo_pack_bytes(&w, hashes, sizeof hashes);
        for (int i = 0; i < 5; i++) {
            qo_pack_string(&w, i == missing ? NULL : "text");
        }
        tap_ok(qo_pack_finish(&w, &record) &&
                   (qo_pending_decode(&back, record) == QO_OK) == (missing >= 4),
               "all but the verifier must be there, %d", missing);
    }
}

static char *filled(size_t len)
{
    char *text = apr_palloc(pool, len + 1);

    memset(text, 'x', len);
    text[len] = '\0';
    return text;
}

static void check_size(void)
{
    qo_pending_t pending = sample();
    qo_pending_t back;
    qo_bytes_t record = {NULL, 0};

    pending.return_path = filled(QO_LIMIT_RETURN);
    pending.scope = filled(QO_LIMIT_SCOPE);
    pending.extra = filled(QO_LIMIT_EXTRA);
    tap_ok(qo_pending_encode(&record, pool, &pending) == QO_OK &&
               record.len <= QO_LIMIT_RECORD - 33 &&
               qo_pending_decode(&back, record) == QO_OK && same(&pending, &back),
           "the longest of everything fits a sealed record");
    pending.return_path = filled(QO_LIMIT_RECORD);
    tap_ok(qo_pending_encode(&record, pool, &pending) != QO_OK,
           "what does not fit is told");
}

static void check_expiry(void)
{
    qo_pending_t pending = sample();

    pending.created = NOW;
    tap_ok(!qo_pending_expired(&pending, NOW), "a new one has not expired");
    tap_ok(!qo_pending_expired(&pending, NOW + LIFE - 1), "nor one of nearly 30 minutes");
    tap_ok(qo_pending_expired(&pending, NOW + LIFE + 1), "after 30 minutes it has");
    tap_ok(qo_pending_expired(&pending, NOW + 100 * LIFE), "and stays so");
    tap_int(LIFE / APR_USEC_PER_SEC, 1800, "30 minutes");
}

static void check_bound(void)
{
    static const char *const wrong[] = {"",
                                        "cookie-value-of-22-ch",
                                        "cookie-value-of-22-ch..",
                                        "Cookie-value-of-22-ch.",
                                        "cookie-value-of-22-ch,",
                                        " cookie-value-of-22-ch."};
    qo_pending_t pending = sample();

    tap_ok(qo_pending_bound(&pending, COOKIE), "the browser it was bound to");
    tap_ok(!qo_pending_bound(&pending, NULL), "a browser without a cookie is another");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        tap_ok(!qo_pending_bound(&pending, wrong[i]), "and one with another cookie, %zu",
               i);
    }
    memset(&pending.binding, 0, sizeof pending.binding);
    tap_ok(!qo_pending_bound(&pending, NULL) && !qo_pending_bound(&pending, "") &&
               !qo_pending_bound(&pending, COOKIE),
           "no cookie fits zeros");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    tap_int(qo_crypto_init(), QO_OK, "crypto");
    check_layout();
    check_round_trip();
    check_damage();
    check_any_byte();
    check_missing();
    check_size();
    check_expiry();
    check_bound();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
