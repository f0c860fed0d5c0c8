/* What every provider of the session store must do: the promises of qo_store.h as tests.
 * A provider's own test prepares and attaches a store, fills in a store_port_t and calls
 * store_port(); store_port_flood() and store_port_full() want a store with limits.
 *
 * Two clocks. What the calls are told as `now` only moves when a test moves it, by
 * store_port_pass(), and the hook makes a store with a clock of its own follow (a server
 * that lets records expire by itself). Leases are on a real clock: tests of their ends
 * wait. No test cares for less than 100 s of the first, nor is hurt by a slow machine. */
#ifndef STORE_PORT_H
#define STORE_PORT_H

#include "process.h"
#include "qo_limits.h"
#include "qo_store.h"
#include "tap.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    const qo_store_provider_t *provider;
    qo_store_t *store; /* prepared and attached; other sessions in it are left alone */
    apr_pool_t *pool;
    apr_time_t now; /* what the store is told */
    bool walks;     /* does it have session_walk? */
    /* Moves the store's own clock on; NULL if it has none. */
    void (*pass)(void *data, apr_time_t time);
    void *data;
} store_port_t;

#define STORE_PORT_THREADS 8
#define STORE_PORT_ROUNDS 25
#define STORE_PORT_CROWD 1200 /* sessions of a walk: more than a page of any provider */

/* -- words ----------------------------------------------------------------------------- */

/* Spread like a hash, and not in the order of the numbers. */
static inline qo_hash_t store_port_key(uint32_t number)
{
    uint32_t state = number ^ 0x51ed27f5U;
    qo_hash_t key;

    for (size_t i = 0; i < sizeof(key.bytes); i++) {
        state = state * 1664525U + 1013904223U;
        key.bytes[i] = (unsigned char)(state >> 24);
    }
    return key;
}

static inline qo_bytes_t store_port_value(const char *text)
{
    return (qo_bytes_t){(unsigned char *)(uintptr_t)text, strlen(text)};
}

static inline bool store_port_same(qo_bytes_t value, const char *text)
{
    return value.len == strlen(text) && memcmp(value.data, text, value.len) == 0;
}

static inline apr_time_t store_port_in(const store_port_t *port, int seconds)
{
    return port->now + apr_time_from_sec(seconds);
}

static inline void store_port_pass(store_port_t *port, int seconds)
{
    port->now += apr_time_from_sec(seconds);
    if (port->pass != NULL) {
        port->pass(port->data, apr_time_from_sec(seconds));
    }
}

/* A store with a clock of its own converts times, and is not exact to the microsecond. */
static inline bool store_port_about(apr_time_t a, apr_time_t b)
{
    return a - b < apr_time_from_sec(10) && b - a < apr_time_from_sec(10);
}

/* How long a test waits for what must come, before it fails. */
static inline apr_time_t store_port_patience(void)
{
    return apr_time_from_sec(10 * process_slow());
}

static inline apr_pool_t *store_port_pool(const store_port_t *port)
{
    apr_pool_t *p;

    if (apr_pool_create(&p, port->pool) != APR_SUCCESS) {
        abort();
    }
    return p;
}

static inline qo_status_t store_port_create(const store_port_t *port, uint32_t n,
                                            const char *text, int life, uint32_t idle)
{
    qo_hash_t key = store_port_key(n);

    return port->provider->session_create(port->store, &key, store_port_value(text),
                                          store_port_in(port, life), idle, port->now, NULL);
}

/* Is it there with this value and version? INTERNAL: it is there with others. */
static inline qo_status_t store_port_get(const store_port_t *port, uint32_t n,
                                         const char *text, uint64_t version)
{
    apr_pool_t *p = store_port_pool(port);
    qo_hash_t key = store_port_key(n);
    qo_store_meta_t meta = {.version = 0};
    qo_bytes_t value = {NULL, 0};
    qo_status_t status =
        port->provider->session_get(port->store, p, &key, &value, &meta, port->now, NULL);

    if (status == QO_OK && (!store_port_same(value, text) || meta.version != version)) {
        status = QO_E_INTERNAL;
    }
    apr_pool_destroy(p);
    return status;
}

static inline qo_status_t store_port_replace(const store_port_t *port, uint32_t n,
                                             uint64_t version, const char *text)
{
    qo_hash_t key = store_port_key(n);

    return port->provider->session_replace(port->store, &key, version,
                                           store_port_value(text), port->now, NULL);
}

static inline qo_status_t store_port_delete(const store_port_t *port, uint32_t n,
                                            uint64_t version)
{
    qo_hash_t key = store_port_key(n);

    return port->provider->session_delete(port->store, &key, version, port->now, NULL);
}

static inline qo_status_t store_port_touch(const store_port_t *port, uint32_t n)
{
    qo_hash_t key = store_port_key(n);

    return port->provider->touch(port->store, &key, port->now, NULL);
}

static inline qo_status_t store_port_put(const store_port_t *port, uint32_t n, int life)
{
    qo_hash_t key = store_port_key(n);

    return port->provider->pending_put(port->store, &key, store_port_value("login"),
                                       store_port_in(port, life), port->now, NULL);
}

static inline qo_status_t store_port_login(const store_port_t *port, uint32_t n,
                                           bool *taken)
{
    apr_pool_t *p = store_port_pool(port);
    qo_hash_t key = store_port_key(n);
    qo_bytes_t value = {NULL, 0};
    qo_status_t status =
        port->provider->pending_get(port->store, p, &key, &value, taken, port->now, NULL);

    if (status == QO_OK && !store_port_same(value, "login")) {
        status = QO_E_INTERNAL;
    }
    apr_pool_destroy(p);
    return status;
}

static inline qo_status_t store_port_take(const store_port_t *port, uint32_t n)
{
    qo_hash_t key = store_port_key(n);

    return port->provider->pending_take(port->store, &key, port->now, NULL);
}

/* As often as there is something left to sweep, but not for ever. */
static inline qo_status_t store_port_sweep(const store_port_t *port)
{
    qo_status_t status = QO_OK;
    bool more = true;

    for (int i = 0; i < 1000 && status == QO_OK && more; i++) {
        status = port->provider->sweep(port->store, port->now, 100, &more, NULL);
    }
    return status == QO_OK && more ? QO_E_INTERNAL : status;
}

static inline uint64_t store_port_sessions(const store_port_t *port)
{
    qo_store_status_t out = {.sessions = 0};

    return port->provider->status(port->store, &out, NULL) == QO_OK ? out.sessions
                                                                    : UINT64_MAX;
}

/* -- pending logins -------------------------------------------------------------------- */

static inline void store_port_pending(store_port_t *port)
{
    bool taken = true;

    tap_int(store_port_login(port, 1, &taken), QO_E_NOT_FOUND, "an unknown login");
    tap_int(store_port_take(port, 1), QO_E_NOT_FOUND, "is not taken");
    tap_int(store_port_put(port, 1, 1000), QO_OK, "a login is put");
    tap_int(store_port_put(port, 1, 2000), QO_E_CONFLICT, "and not put over");
    tap_int(store_port_login(port, 1, &taken), QO_OK, "it is read");
    tap_ok(!taken, "and was not taken");
    tap_int(store_port_take(port, 1), QO_OK, "it is taken");
    tap_int(store_port_take(port, 1), QO_E_CONFLICT, "once");
    tap_int(store_port_put(port, 1, 2000), QO_E_CONFLICT, "and not put anew");
    store_port_pass(port, 800);
    tap_int(store_port_sweep(port), QO_OK, "swept");
    tap_int(store_port_login(port, 1, &taken), QO_OK, "it stays readable");
    tap_ok(taken, "as taken");
    tap_int(store_port_take(port, 1), QO_E_CONFLICT, "and is not taken again");
    store_port_pass(port, 200);
    tap_int(store_port_login(port, 1, &taken), QO_E_NOT_FOUND, "until it expires");
    tap_int(store_port_take(port, 1), QO_E_NOT_FOUND, "an expired one is not taken");
    tap_int(store_port_put(port, 1, 1000), QO_OK, "and can be put again");
    tap_int(store_port_login(port, 1, &taken), QO_OK, "is read");
    tap_ok(!taken, "and is a new one");
    tap_int(store_port_create(port, 1, "v", 1000, 0), QO_OK,
            "a session under the same key is another thing");
    tap_int(store_port_take(port, 1), QO_OK, "the login is taken beside it");
    tap_int(store_port_get(port, 1, "v", 1), QO_OK, "and the session is read");
}

/* -- sessions -------------------------------------------------------------------------- */

static inline void store_port_life(store_port_t *port)
{
    uint64_t before = store_port_sessions(port);

    tap_int(store_port_get(port, 100, "", 0), QO_E_NOT_FOUND, "an unknown session");
    tap_int(store_port_replace(port, 100, 1, "w"), QO_E_NOT_FOUND, "is not replaced");
    tap_int(store_port_delete(port, 100, QO_STORE_ANY), QO_E_NOT_FOUND, "nor deleted");
    tap_int(store_port_delete(port, 100, 1), QO_E_NOT_FOUND, "at no version");
    tap_int(store_port_touch(port, 100), QO_E_NOT_FOUND, "nor touched");
    tap_int(store_port_create(port, 100, "first", 9000, 0), QO_OK, "it is created");
    tap_int(store_port_create(port, 100, "other", 9000, 0), QO_E_CONFLICT, "once");
    tap_int(store_port_get(port, 100, "first", 1), QO_OK, "and read, version 1");
    tap_ok(store_port_sessions(port) == before + 1, "and counted");
    tap_int(store_port_replace(port, 100, 2, "w"), QO_E_CONFLICT,
            "a version to come replaces nothing");
    tap_int(store_port_replace(port, 100, 0, "w"), QO_E_CONFLICT, "nor does version 0");
    tap_int(store_port_replace(port, 100, 1, "a longer second value"), QO_OK,
            "the right one does");
    tap_int(store_port_replace(port, 100, 1, "w"), QO_E_CONFLICT, "once");
    tap_int(store_port_get(port, 100, "a longer second value", 2), QO_OK, "version 2");
    tap_int(store_port_replace(port, 100, 2, "3"), QO_OK, "a shorter value");
    tap_int(store_port_get(port, 100, "3", 3), QO_OK, "version 3");
    tap_int(store_port_create(port, 100, "other", 9000, 0), QO_E_CONFLICT,
            "it is not created over");
    tap_int(store_port_delete(port, 100, 2), QO_E_CONFLICT, "an old version ends nothing");
    tap_int(store_port_delete(port, 100, 4), QO_E_CONFLICT, "nor does one to come");
    tap_int(store_port_get(port, 100, "3", 3), QO_OK, "it is still there");
    tap_int(store_port_delete(port, 100, 3), QO_OK, "the right version ends it");
    tap_int(store_port_get(port, 100, "3", 3), QO_E_NOT_FOUND, "and it is gone");
    tap_int(store_port_create(port, 101, "v", 9000, 0), QO_OK, "another session");
    tap_int(store_port_replace(port, 101, 1, "w"), QO_OK, "replaced");
    tap_int(store_port_delete(port, 101, QO_STORE_ANY), QO_OK, "ends at any version");
    tap_int(store_port_get(port, 101, "w", 2), QO_E_NOT_FOUND, "and is gone as well");
    tap_ok(store_port_sessions(port) == before, "none is counted any more");
}

/* Sessions that are over: by themselves, or because they were idle. */
static inline void store_port_ends(store_port_t *port)
{
    tap_int(store_port_create(port, 200, "v", 1000, 0), QO_OK, "without an idle limit");
    tap_int(store_port_create(port, 201, "v", 9000, 500), QO_OK, "with one");
    tap_int(store_port_create(port, 202, "v", 9000, 500), QO_OK, "one to be touched");
    tap_int(store_port_create(port, 203, "v", 9000, 500), QO_OK, "one to be replaced");
    tap_int(store_port_create(port, 204, "v", 700, 500), QO_OK, "one with both ends near");
    tap_int(store_port_create(port, 205, "v", 9000, 500), QO_OK, "one left to itself");
    store_port_pass(port, 400);
    tap_int(store_port_get(port, 201, "v", 1), QO_OK, "the idle one still lives");
    tap_int(store_port_touch(port, 202), QO_OK, "touched");
    tap_int(store_port_touch(port, 204), QO_OK, "touched");
    tap_int(store_port_replace(port, 203, 1, "w"), QO_OK, "replaced");
    store_port_pass(port, 100);
    tap_int(store_port_get(port, 201, "v", 1), QO_E_NOT_FOUND, "idle: over");
    tap_int(store_port_touch(port, 201), QO_E_NOT_FOUND, "not touched back to life");
    tap_int(store_port_replace(port, 201, 1, "w"), QO_E_NOT_FOUND, "nor replaced");
    tap_int(store_port_delete(port, 201, 1), QO_E_NOT_FOUND, "nor deleted");
    tap_int(store_port_get(port, 202, "v", 1), QO_OK, "a touched one lives on");
    tap_int(store_port_get(port, 203, "w", 2), QO_OK, "and one that was replaced");
    tap_int(store_port_sweep(port), QO_OK, "swept");
    tap_int(store_port_get(port, 200, "v", 1), QO_OK, "the one that is never idle lives");
    store_port_pass(port, 200);
    tap_int(store_port_get(port, 204, "v", 1), QO_E_NOT_FOUND,
            "a touch does not help over the absolute end");
    tap_int(store_port_get(port, 202, "v", 1), QO_OK, "the others live");
    store_port_pass(port, 200);
    tap_int(store_port_get(port, 202, "v", 1), QO_E_NOT_FOUND, "for their idle time");
    tap_int(store_port_get(port, 203, "w", 2), QO_E_NOT_FOUND, "both of them");
    store_port_pass(port, 100);
    tap_int(store_port_get(port, 200, "v", 1), QO_E_NOT_FOUND, "absolute end: over");
    tap_int(store_port_replace(port, 200, 1, "w"), QO_E_NOT_FOUND, "not replaced");
    tap_int(store_port_sweep(port), QO_OK, "swept");
    tap_int(store_port_create(port, 200, "again", 1000, 0), QO_OK,
            "what was over, and not ended, may be created anew");
    tap_int(store_port_get(port, 200, "again", 1), QO_OK, "and lives again");
    tap_int(store_port_create(port, 205, "again", 1000, 0), QO_OK, "so may an idle one");
}

static inline void store_port_meta(store_port_t *port)
{
    apr_pool_t *p = store_port_pool(port);
    qo_hash_t key = store_port_key(300);
    apr_time_t began = port->now, expires = store_port_in(port, 9000);
    qo_store_meta_t meta = {.version = 0};
    qo_bytes_t value;
    const qo_store_provider_t *s = port->provider;

    tap_int(store_port_create(port, 300, "v", 9000, 500), QO_OK, "a session");
    tap_int(s->session_get(port->store, p, &key, &value, &meta, port->now, NULL), QO_OK,
            "read");
    tap_ok(meta.version == 1 && meta.expires == expires && meta.idle == 500, "its limits");
    tap_ok(meta.last_seen <= began && store_port_about(meta.last_seen, began),
           "seen when it was created");
    store_port_pass(port, 100);
    tap_int(store_port_replace(port, 300, 1, "w"), QO_OK, "replaced");
    store_port_pass(port, 100);
    tap_int(s->session_get(port->store, p, &key, &value, &meta, port->now, NULL), QO_OK,
            "read");
    tap_ok(meta.version == 2 && meta.expires == expires && meta.idle == 500, "same limits");
    tap_ok(meta.last_seen >= began && meta.last_seen <= port->now, "seen in between");
    tap_int(store_port_touch(port, 300), QO_OK, "touched");
    tap_int(s->session_get(port->store, p, &key, &value, &meta, port->now, NULL), QO_OK,
            "read");
    tap_ok(meta.last_seen <= port->now && store_port_about(meta.last_seen, port->now),
           "seen when it was touched");
    tap_int(s->session_get(port->store, p, &key, &value, &meta,
                           port->now - apr_time_from_sec(50), NULL),
            QO_OK, "read with a clock set back");
    tap_ok(meta.last_seen <= port->now - apr_time_from_sec(50), "not seen in the future");
    apr_pool_destroy(p);
}

static inline bool store_port_dead(const store_port_t *port, uint32_t n, const char *when)
{
    return tap_int(store_port_get(port, n, "v", 1), QO_E_NOT_FOUND, when) &&
           tap_int(store_port_create(port, n, "v", 9000, 0), QO_E_CONFLICT, when) &&
           tap_int(store_port_replace(port, n, 1, "w"), QO_E_NOT_FOUND, when) &&
           tap_int(store_port_touch(port, n), QO_E_NOT_FOUND, when) &&
           tap_int(store_port_delete(port, n, QO_STORE_ANY), QO_E_NOT_FOUND, when);
}

static inline void store_port_tombstones(store_port_t *port)
{
    uint64_t before = store_port_sessions(port);

    tap_int(store_port_create(port, 400, "v", 9000, 0), QO_OK, "a long session");
    tap_int(store_port_create(port, 401, "v", 300, 200), QO_OK, "and a short one");
    tap_int(store_port_delete(port, 400, QO_STORE_ANY), QO_OK, "deleted");
    tap_int(store_port_delete(port, 401, 1), QO_OK, "deleted");
    (void)store_port_dead(port, 400, "at once");
    (void)store_port_dead(port, 401, "at once");
    tap_ok(store_port_sessions(port) == before, "a tombstone is no session");
    tap_int(store_port_sweep(port), QO_OK, "swept");
    (void)store_port_dead(port, 400, "after a sweep");
    store_port_pass(port, 1000);
    tap_int(store_port_sweep(port), QO_OK, "swept");
    (void)store_port_dead(port, 400, "later");
    (void)store_port_dead(port, 401, "longer than it would have lived");
    store_port_pass(port, QO_TOMBSTONE_LIFE - 1000 - 100);
    tap_int(store_port_sweep(port), QO_OK, "swept");
    (void)store_port_dead(port, 400, "until its tombstone's end");
    (void)store_port_dead(port, 401, "until its tombstone's end");
    store_port_pass(port, 100);
    tap_int(store_port_create(port, 400, "v", 9000, 0), QO_OK, "then it is forgotten");
    tap_int(store_port_get(port, 400, "v", 1), QO_OK, "and as good as new");
    tap_int(store_port_sweep(port), QO_OK, "swept");
    tap_int(store_port_get(port, 400, "v", 1), QO_OK, "it stays");
    tap_int(store_port_create(port, 401, "v", 9000, 0), QO_OK, "the other after the sweep");
    tap_int(store_port_get(port, 401, "v", 1), QO_OK, "is new as well");
}

/* -- sizes and keys -------------------------------------------------------------------- */

static inline bool store_port_keeps(const store_port_t *port, uint32_t n, size_t len)
{
    apr_pool_t *p = store_port_pool(port);
    qo_hash_t key = store_port_key(n);
    qo_bytes_t value = {apr_palloc(p, len + 1), len}, got = {NULL, 0};
    const qo_store_provider_t *s = port->provider;
    qo_store_meta_t meta;
    bool taken, good;

    for (size_t i = 0; i < len; i++) {
        value.data[i] = (unsigned char)(i * 7 + i / 256 + n);
    }
    good = s->session_create(port->store, &key, value, store_port_in(port, 9000), 0,
                             port->now, NULL) == QO_OK &&
           s->session_get(port->store, p, &key, &got, &meta, port->now, NULL) == QO_OK &&
           got.len == len && memcmp(got.data, value.data, len) == 0;
    value.data[0] ^= 0x55;
    good =
        good && s->session_replace(port->store, &key, 1, value, port->now, NULL) == QO_OK;
    good = good &&
           s->session_get(port->store, p, &key, &got, &meta, port->now, NULL) == QO_OK &&
           got.len == len && memcmp(got.data, value.data, len) == 0;
    good = good && s->pending_put(port->store, &key, value, store_port_in(port, 9000),
                                  port->now, NULL) == QO_OK;
    good = good &&
           s->pending_get(port->store, p, &key, &got, &taken, port->now, NULL) == QO_OK &&
           got.len == len && memcmp(got.data, value.data, len) == 0 && !taken;
    apr_pool_destroy(p);
    return good;
}

static inline void store_port_sizes(store_port_t *port)
{
    static const size_t sizes[] = {0,
                                   1,
                                   2,
                                   31,
                                   32,
                                   33,
                                   255,
                                   256,
                                   1000,
                                   2047,
                                   4000,
                                   4096,
                                   8191,
                                   9000,
                                   16384,
                                   32000,
                                   QO_LIMIT_RECORD};
    qo_bytes_t big = {apr_pcalloc(port->pool, QO_LIMIT_RECORD + 1), QO_LIMIT_RECORD + 1};
    qo_hash_t key = store_port_key(599);
    const qo_store_provider_t *s = port->provider;
    qo_err_t err = {.detail = ""};

    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        tap_ok(store_port_keeps(port, 500 + i, sizes[i]), "%lu bytes are kept as they are",
               (unsigned long)sizes[i]);
    }
    tap_int(s->session_create(port->store, &key, big, store_port_in(port, 1000), 0,
                              port->now, &err),
            QO_E_STORE_UNAVAILABLE, "more than the limit is refused by create");
    tap_ok(err.detail[0] != '\0', "which says so: %s", err.detail);
    tap_int(
        s->pending_put(port->store, &key, big, store_port_in(port, 1000), port->now, &err),
        QO_E_STORE_UNAVAILABLE, "and by put");
    tap_int(store_port_create(port, 599, "v", 1000, 0), QO_OK, "a short one is not");
    tap_int(s->session_replace(port->store, &key, 1, big, port->now, &err),
            QO_E_STORE_UNAVAILABLE, "replace refuses it");
    tap_int(store_port_get(port, 599, "v", 1), QO_OK, "and changes nothing");
}

/* Bytes that a text protocol, a C string or an order would trip over. */
static inline qo_hash_t store_port_odd_key(size_t i)
{
    static const unsigned char odd[] = {0x00, 0xff, '\r', '\n', ' ', '*',
                                        '$',  '{',  '}',  '"',  '%', 0x7f};
    qo_hash_t key;

    if (i < sizeof(odd)) {
        memset(key.bytes, odd[i], sizeof(key.bytes));
        return key;
    }
    /* The same but for one byte: the last, the first, one in the middle. */
    memset(key.bytes, 0, sizeof(key.bytes));
    key.bytes[i % 3 == 0 ? QO_HASH_LEN - 1 : i % 3 == 1 ? 0 : 15] = (unsigned char)i;
    return key;
}

#define STORE_PORT_ODD 24

static inline void store_port_keys(store_port_t *port)
{
    const qo_store_provider_t *s = port->provider;
    int made = 0, read = 0, leased = 0, ended = 0, left = 0;

    for (size_t i = 0; i < STORE_PORT_ODD; i++) {
        qo_hash_t key = store_port_odd_key(i);
        unsigned char byte = (unsigned char)i;

        made += s->session_create(port->store, &key, (qo_bytes_t){&byte, 1},
                                  store_port_in(port, 9000), 0, port->now, NULL) == QO_OK;
    }
    for (size_t i = 0; i < STORE_PORT_ODD; i++) {
        apr_pool_t *p = store_port_pool(port);
        qo_hash_t key = store_port_odd_key(i);
        qo_lease_t lease = {.generation = 1};
        qo_store_meta_t meta;
        qo_bytes_t value;

        read +=
            s->session_get(port->store, p, &key, &value, &meta, port->now, NULL) == QO_OK &&
            value.len == 1 && value.data[0] == i;
        leased += qo_lease_holder(&lease.holder) == QO_OK &&
                  s->lease_acquire(port->store, &key, &lease, apr_time_from_sec(60),
                                   port->now, NULL) == QO_OK;
        apr_pool_destroy(p);
    }
    for (size_t i = 0; i < STORE_PORT_ODD; i += 2) {
        qo_hash_t key = store_port_odd_key(i);

        ended += s->session_delete(port->store, &key, 1, port->now, NULL) == QO_OK;
    }
    for (size_t i = 0; i < STORE_PORT_ODD; i++) {
        apr_pool_t *p = store_port_pool(port);
        qo_hash_t key = store_port_odd_key(i);
        qo_store_meta_t meta;
        qo_bytes_t value;

        left += s->session_get(port->store, p, &key, &value, &meta, port->now, NULL) ==
                (i % 2 == 0 ? QO_E_NOT_FOUND : QO_OK);
        apr_pool_destroy(p);
    }
    tap_int(made, STORE_PORT_ODD, "keys of any bytes are different keys");
    tap_int(read, STORE_PORT_ODD, "each with its own value");
    tap_int(leased, STORE_PORT_ODD, "and its own lease");
    tap_int(ended, STORE_PORT_ODD / 2, "half of them are deleted");
    tap_int(left, STORE_PORT_ODD, "and no other");
}

/* -- leases ---------------------------------------------------------------------------- */

#define STORE_PORT_LEASE apr_time_from_sec(600) /* held all through a test */

static inline qo_lease_t store_port_wish(uint64_t generation)
{
    qo_lease_t lease = {.generation = generation};

    if (qo_lease_holder(&lease.holder) != QO_OK) {
        abort();
    }
    return lease;
}

static inline qo_status_t store_port_acquire(const store_port_t *port, uint32_t n,
                                             qo_lease_t *lease, apr_time_t life)
{
    qo_hash_t key = store_port_key(n);

    return port->provider->lease_acquire(port->store, &key, lease, life, port->now, NULL);
}

static inline qo_status_t store_port_release(const store_port_t *port, uint32_t n,
                                             const qo_lease_t *lease, qo_status_t why,
                                             apr_time_t wait)
{
    qo_hash_t key = store_port_key(n);

    return port->provider->lease_release(port->store, &key, lease, why, wait, NULL);
}

/* Asks again until it is no longer refused; `*took` is how long that was. */
static inline qo_status_t store_port_await(const store_port_t *port, uint32_t n,
                                           qo_lease_t *lease, apr_time_t since,
                                           apr_time_t *took)
{
    qo_lease_t wish = *lease;
    qo_status_t status;

    do {
        *lease = wish;
        status = store_port_acquire(port, n, lease, STORE_PORT_LEASE);
        *took = qo_lease_clock() - since;
        (void)usleep(1000);
    } while (status == QO_E_CONFLICT && *took < store_port_patience());
    return status;
}

/* Is it refused because of `mine`? */
static inline bool store_port_held(const store_port_t *port, uint32_t n,
                                   uint64_t generation, const qo_lease_t *mine,
                                   const char *name)
{
    qo_lease_t other = store_port_wish(generation);
    qo_status_t status = store_port_acquire(port, n, &other, STORE_PORT_LEASE);

    return tap_int(status, QO_E_CONFLICT, name) &&
           tap_ok(qo_lease_same(&other, mine), "%s: by that attempt", name) &&
           tap_ok(other.until > qo_lease_clock() &&
                      other.until <= qo_lease_clock() + STORE_PORT_LEASE,
                  "%s: until a time of this process's clock", name);
}

static inline void store_port_lease(store_port_t *port)
{
    qo_lease_t mine = store_port_wish(1), other, same, wish;

    tap_int(store_port_acquire(port, 600, &mine, STORE_PORT_LEASE), QO_E_NOT_FOUND,
            "no session, no lease");
    tap_int(store_port_create(port, 600, "v", 9000, 0), QO_OK, "a session");
    tap_int(store_port_create(port, 601, "v", 9000, 0), QO_OK, "and another");
    wish = mine = store_port_wish(1);
    tap_int(store_port_release(port, 600, &mine, QO_OK, 0), QO_E_CONFLICT,
            "what nobody has cannot be given back");
    tap_int(store_port_acquire(port, 600, &mine, STORE_PORT_LEASE), QO_OK, "a lease");
    tap_ok(qo_lease_same(&mine, &wish) && mine.holder.pid == wish.holder.pid &&
               mine.holder.started == wish.holder.started,
           "is the attempt's that asked");
    tap_ok(mine.until > 0 && mine.first > 0 && mine.again == 0 && mine.failures == 0 &&
               mine.why == 0,
           "the first of its generation");
    (void)store_port_held(port, 600, 1, &mine, "it is held");
    other = store_port_wish(1);
    tap_int(store_port_acquire(port, 601, &other, STORE_PORT_LEASE), QO_OK,
            "another session's lease is another");
    tap_int(store_port_get(port, 600, "v", 1), QO_OK, "the session is read meanwhile");
    tap_int(store_port_touch(port, 600), QO_OK, "and touched");

    other = store_port_wish(1);
    tap_int(store_port_release(port, 600, &other, QO_OK, 0), QO_E_CONFLICT,
            "nobody else gives it back");
    same = mine;
    same.generation = 2;
    tap_int(store_port_release(port, 600, &same, QO_E_BUSY, 0), QO_E_CONFLICT,
            "nor its holder for another generation");
    tap_int(store_port_release(port, 600, &other, QO_E_BUSY, 0), QO_E_CONFLICT,
            "and nobody else fails for it");
    (void)store_port_held(port, 600, 1, &mine, "it is still held");
    tap_int(store_port_replace(port, 600, 1, "w"), QO_OK, "the session is replaced");
    tap_int(store_port_release(port, 600, &mine, QO_OK, 0), QO_OK,
            "and the lease returned");
    tap_int(store_port_release(port, 600, &mine, QO_OK, 0), QO_E_CONFLICT, "once");
    other = store_port_wish(2);
    tap_int(store_port_acquire(port, 600, &other, STORE_PORT_LEASE), QO_OK, "free again");
    tap_ok(other.failures == 0 && other.why == 0, "without a past");
}

static inline void store_port_generations(store_port_t *port)
{
    qo_lease_t first = store_port_wish(5), second = store_port_wish(6), old;

    tap_int(store_port_create(port, 610, "v", 9000, 0), QO_OK, "a session");
    tap_int(store_port_acquire(port, 610, &first, STORE_PORT_LEASE), QO_OK,
            "generation 5 is leased");
    (void)store_port_held(port, 610, 4, &first, "an older one is refused");
    tap_int(store_port_acquire(port, 610, &second, STORE_PORT_LEASE), QO_OK,
            "a newer one is not, though the old is held");
    tap_int(store_port_release(port, 610, &first, QO_OK, 0), QO_E_CONFLICT,
            "the old one has nothing to give back");
    tap_int(store_port_release(port, 610, &first, QO_E_BUSY, 0), QO_E_CONFLICT,
            "nor to fail");
    (void)store_port_held(port, 610, 6, &second, "the new one is held");
    tap_int(store_port_release(port, 610, &second, QO_E_BUSY, STORE_PORT_LEASE), QO_OK,
            "it fails");
    old = store_port_wish(7);
    tap_int(store_port_acquire(port, 610, &old, STORE_PORT_LEASE), QO_OK,
            "the next generation need not wait");
    tap_ok(old.failures == 0 && old.why == 0, "nor inherit its failure");
}

static inline void store_port_lapse(store_port_t *port)
{
    apr_time_t life = apr_time_from_msec(60), since, took;
    qo_lease_t mine = store_port_wish(1), other = store_port_wish(1);

    tap_int(store_port_create(port, 620, "v", 9000, 0), QO_OK, "a session");
    since = qo_lease_clock();
    tap_int(store_port_acquire(port, 620, &mine, life), QO_OK, "a short lease");
    tap_int(store_port_await(port, 620, &other, since, &took), QO_OK, "lapses");
    tap_ok(took >= life - apr_time_from_msec(2), "not before its end (%ld us)", (long)took);
    tap_ok(store_port_about(other.first, mine.first) && other.failures == 0,
           "the next attempt knows when the first began");
    tap_int(store_port_release(port, 620, &mine, QO_OK, 0), QO_E_CONFLICT,
            "who came late gives back nothing");
    (void)store_port_held(port, 620, 1, &other, "it is held by the next");
}

static inline void store_port_backoff(store_port_t *port)
{
    apr_time_t wait = apr_time_from_msec(60), since, took;
    qo_lease_t mine = store_port_wish(1), other = store_port_wish(1), third;

    tap_int(store_port_create(port, 630, "v", 9000, 0), QO_OK, "a session");
    tap_int(store_port_acquire(port, 630, &mine, STORE_PORT_LEASE), QO_OK, "a lease");
    tap_int(store_port_release(port, 630, &mine, QO_E_UNREACHABLE, STORE_PORT_LEASE), QO_OK,
            "fails for a long time");
    tap_int(store_port_acquire(port, 630, &other, STORE_PORT_LEASE), QO_E_CONFLICT,
            "nobody tries again");
    tap_ok(qo_lease_same(&other, &mine) && other.until <= qo_lease_clock(),
           "though nobody holds it");
    tap_ok(other.failures == 1 &&
               other.why == (uint32_t)qo_error_info(QO_E_UNREACHABLE)->number,
           "and is told why not");
    tap_ok(other.again > qo_lease_clock() &&
               other.again <= qo_lease_clock() + STORE_PORT_LEASE,
           "and until when");
    tap_int(store_port_release(port, 630, &mine, QO_OK, 0), QO_OK,
            "the same attempt may still take that back");

    mine = store_port_wish(1);
    tap_int(store_port_acquire(port, 630, &mine, STORE_PORT_LEASE), QO_OK, "a lease");
    since = qo_lease_clock();
    tap_int(store_port_release(port, 630, &mine, QO_E_BUSY, wait), QO_OK,
            "fails for a moment");
    other = store_port_wish(1);
    tap_int(store_port_await(port, 630, &other, since, &took), QO_OK, "then it is tried");
    tap_ok(took >= wait - apr_time_from_msec(2), "not before (%ld us)", (long)took);
    tap_ok(other.failures == 1 && other.why == (uint32_t)qo_error_info(QO_E_BUSY)->number &&
               store_port_about(other.first, mine.first),
           "by one that knows of the failure");
    since = qo_lease_clock();
    tap_int(store_port_release(port, 630, &other, QO_E_NOT_JSON, wait), QO_OK, "again");
    third = store_port_wish(1);
    tap_int(store_port_await(port, 630, &third, since, &took), QO_OK, "and again");
    tap_ok(third.failures == 2 &&
               third.why == (uint32_t)qo_error_info(QO_E_NOT_JSON)->number &&
               store_port_about(third.first, mine.first),
           "failures are counted");
}

/* A holder in another process: it says who it is, and waits to be killed. */
static inline pid_t store_port_holder(qo_lease_holder_t *out)
{
    qo_lease_holder_t *told = process_shared(sizeof(*told));
    pid_t parent = getpid(), child;
    int ready[2];
    char byte = 0;

    if (pipe(ready) != 0 || (child = fork()) < 0) {
        abort();
    }
    if (child == 0) {
        if (qo_lease_holder(told) != QO_OK || write(ready[1], &byte, 1) != 1) {
            _exit(1);
        }
        while (getppid() == parent) {
            (void)usleep(10000);
        }
        _exit(0);
    }
    if (read(ready[0], &byte, 1) != 1) {
        abort();
    }
    *out = *told;
    (void)close(ready[0]);
    (void)close(ready[1]);
    (void)munmap(told, sizeof(*told));
    return child;
}

static inline void store_port_death(store_port_t *port)
{
    siginfo_t state;
    qo_lease_t theirs = {.generation = 1}, newer = {.generation = 9}, mine;
    pid_t child = store_port_holder(&theirs.holder);

    newer.holder = theirs.holder;
    tap_int(store_port_create(port, 640, "v", 9000, 0), QO_OK, "a session");
    tap_int(store_port_create(port, 641, "v", 9000, 0), QO_OK, "another");
    tap_int(store_port_create(port, 642, "v", 9000, 0), QO_OK, "and one more");
    tap_int(store_port_acquire(port, 640, &theirs, STORE_PORT_LEASE), QO_OK,
            "leased by another process");
    tap_int(store_port_acquire(port, 641, &newer, STORE_PORT_LEASE), QO_OK,
            "for a newer generation");
    (void)store_port_held(port, 640, 1, &theirs, "held while that lives");
    (void)kill(child, SIGKILL);
    (void)waitid(P_PID, (id_t)child, &state, WEXITED | WNOWAIT);
    mine = store_port_wish(1);
    tap_int(store_port_acquire(port, 640, &mine, STORE_PORT_LEASE), QO_OK,
            "taken over at once when it has died");
    tap_ok(store_port_about(mine.first, theirs.first),
           "as the next attempt of its generation");
    (void)store_port_held(port, 640, 1, &mine, "and held again");
    (void)process_wait(child);
    tap_int(store_port_acquire(port, 642, &theirs, STORE_PORT_LEASE), QO_OK,
            "a lease of one that is gone altogether");
    mine = store_port_wish(1);
    tap_int(store_port_acquire(port, 642, &mine, STORE_PORT_LEASE), QO_OK, "is nobody's");
    mine = store_port_wish(8);
    tap_int(store_port_acquire(port, 641, &mine, STORE_PORT_LEASE), QO_E_CONFLICT,
            "but it does not let an older generation in");
    tap_ok(mine.generation == 9, "which is told so");
}

/* A holder of another machine: nobody can know whether it lives. */
static inline void store_port_stranger(store_port_t *port)
{
    qo_lease_t theirs = store_port_wish(1);

    memset(theirs.holder.host, 0xab, sizeof(theirs.holder.host));
    theirs.holder.pid = 0x7ffffff0;
    tap_int(store_port_create(port, 650, "v", 9000, 0), QO_OK, "a session");
    tap_int(store_port_acquire(port, 650, &theirs, STORE_PORT_LEASE), QO_OK,
            "leased from another host");
    (void)store_port_held(port, 650, 1, &theirs, "held until it lapses");
}

static inline void store_port_lease_ends(store_port_t *port)
{
    qo_lease_t mine = store_port_wish(1), other = store_port_wish(1);

    tap_int(store_port_create(port, 660, "v", 9000, 0), QO_OK, "a session");
    tap_int(store_port_acquire(port, 660, &mine, STORE_PORT_LEASE), QO_OK, "a lease");
    tap_int(store_port_delete(port, 660, QO_STORE_ANY), QO_OK, "log-out in the middle");
    tap_int(store_port_acquire(port, 660, &other, STORE_PORT_LEASE), QO_E_NOT_FOUND,
            "nobody leases it any more");
    tap_int(store_port_replace(port, 660, 1, "new tokens"), QO_E_NOT_FOUND,
            "what the holder brings comes too late");
    tap_int(store_port_release(port, 660, &mine, QO_E_BUSY, 0), QO_E_CONFLICT,
            "and there is no lease to give back");
    tap_int(store_port_get(port, 660, "new tokens", 2), QO_E_NOT_FOUND, "it stays ended");
    store_port_pass(port, QO_TOMBSTONE_LIFE);
    tap_int(store_port_create(port, 660, "v", 9000, 500), QO_OK, "long after that");
    mine = store_port_wish(1);
    tap_int(store_port_acquire(port, 660, &mine, STORE_PORT_LEASE), QO_OK,
            "its lease is a new one");
    tap_ok(mine.failures == 0, "without a past");
    tap_int(store_port_create(port, 661, "v", 600, 0), QO_OK, "a short session");
    store_port_pass(port, 600);
    other = store_port_wish(1);
    tap_int(store_port_acquire(port, 660, &other, STORE_PORT_LEASE), QO_E_NOT_FOUND,
            "an idle session has no lease");
    tap_int(store_port_acquire(port, 661, &other, STORE_PORT_LEASE), QO_E_NOT_FOUND,
            "nor has one that is over");
}

/* -- threads --------------------------------------------------------------------------- */

typedef struct {
    store_port_t *port;
    pthread_barrier_t *together;
    int taken[STORE_PORT_ROUNDS];  /* QO_OK of pending_take, */
    int leased[STORE_PORT_ROUNDS]; /* lease_acquire, */
    int won[STORE_PORT_ROUNDS];    /* session_replace */
    int wrong;                     /* answers that are neither that nor CONFLICT */
} store_port_racer_t;

static inline int store_port_won(store_port_racer_t *me, qo_status_t status)
{
    me->wrong += status != QO_OK && status != QO_E_CONFLICT;
    return status == QO_OK;
}

static inline void *store_port_race(void *data)
{
    store_port_racer_t *me = data;

    for (uint32_t i = 0; i < STORE_PORT_ROUNDS; i++) {
        uint32_t n = 700 + i;
        qo_lease_t lease = store_port_wish(1);

        (void)pthread_barrier_wait(me->together);
        me->taken[i] = store_port_won(me, store_port_take(me->port, n));
        me->leased[i] =
            store_port_won(me, store_port_acquire(me->port, n, &lease, STORE_PORT_LEASE));
        me->won[i] = store_port_won(me, store_port_replace(me->port, n, 1, "w"));
    }
    return NULL;
}

static inline void store_port_races(store_port_t *port)
{
    static store_port_racer_t racers[STORE_PORT_THREADS];
    pthread_t thread[STORE_PORT_THREADS];
    pthread_barrier_t together;
    int taken = 0, leased = 0, won = 0, wrong = 0;

    if (pthread_barrier_init(&together, NULL, STORE_PORT_THREADS) != 0) {
        abort();
    }
    memset(racers, 0, sizeof(racers));
    for (uint32_t i = 0; i < STORE_PORT_ROUNDS; i++) {
        wrong += store_port_create(port, 700 + i, "v", 9000, 0) != QO_OK ||
                 store_port_put(port, 700 + i, 9000) != QO_OK;
    }
    for (int t = 0; t < STORE_PORT_THREADS; t++) {
        racers[t].port = port;
        racers[t].together = &together;
        if (pthread_create(&thread[t], NULL, store_port_race, &racers[t]) != 0) {
            abort();
        }
    }
    for (int t = 0; t < STORE_PORT_THREADS; t++) {
        (void)pthread_join(thread[t], NULL);
        wrong += racers[t].wrong;
    }
    for (int i = 0; i < STORE_PORT_ROUNDS; i++) {
        int takes = 0, leases = 0, wins = 0;

        for (int t = 0; t < STORE_PORT_THREADS; t++) {
            takes += racers[t].taken[i];
            leases += racers[t].leased[i];
            wins += racers[t].won[i];
        }
        taken += takes == 1;
        leased += leases == 1;
        won += wins == 1;
    }
    (void)pthread_barrier_destroy(&together);
    tap_int(wrong, 0, "many threads at once are answered, or told of a conflict");
    tap_int(taken, STORE_PORT_ROUNDS, "one of them takes a login");
    tap_int(leased, STORE_PORT_ROUNDS, "one gets a lease");
    tap_int(won, STORE_PORT_ROUNDS, "and one replaces a session");
}

/* -- the walk -------------------------------------------------------------------------- */

typedef struct {
    const store_port_t *port;
    int seen[STORE_PORT_CROWD];
    int wrong; /* visits with a wrong value or version */
    int visits;
} store_port_crowd_t;

#define STORE_PORT_CROWD_BASE 10000

/* The value of a session of the crowd is its number. */
static inline qo_status_t store_port_join(const store_port_t *port, uint32_t i, int life,
                                          uint32_t idle)
{
    char text[16];

    (void)snprintf(text, sizeof(text), "%u", (unsigned int)i);
    return store_port_create(port, STORE_PORT_CROWD_BASE + i, text, life, idle);
}

static inline void store_port_visit(void *data, const qo_hash_t *key, qo_bytes_t value,
                                    const qo_store_meta_t *meta)
{
    store_port_crowd_t *crowd = data;
    qo_hash_t expected;
    char text[16] = "";
    long i;

    crowd->visits++;
    if (value.len == 0 || value.len >= sizeof(text)) {
        return; /* of another test */
    }
    memcpy(text, value.data, value.len);
    i = strtol(text, NULL, 10);
    if (i < 0 || i >= STORE_PORT_CROWD) {
        return;
    }
    expected = store_port_key(STORE_PORT_CROWD_BASE + (uint32_t)i);
    if (memcmp(key->bytes, expected.bytes, sizeof(expected.bytes)) != 0) {
        return;
    }
    crowd->seen[i]++;
    crowd->wrong += meta->version < 1 || meta->version > 2 ||
                    meta->expires <= crowd->port->now || meta->last_seen > crowd->port->now;
}

/* All pages; between two of them the crowd changes if `stir`. */
static inline qo_status_t store_port_stroll(store_port_t *port, store_port_crowd_t *crowd,
                                            bool stir)
{
    qo_store_cursor_t cursor = {.done = false};
    qo_status_t status = QO_OK;
    uint32_t page = 0;

    memset(crowd, 0, sizeof(*crowd));
    crowd->port = port;
    while (status == QO_OK && !cursor.done && page < 100000) {
        apr_pool_t *p = store_port_pool(port);

        status = port->provider->session_walk(port->store, p, &cursor, store_port_visit,
                                              crowd, port->now, NULL);
        apr_pool_destroy(p);
        if (stir && page < 40) {
            /* Number 5 * i + 1 goes, 5 * i + 2 is replaced, others come. */
            (void)store_port_delete(port, STORE_PORT_CROWD_BASE + 5 * page + 1, 1);
            (void)store_port_replace(port, STORE_PORT_CROWD_BASE + 5 * page + 2, 1, "new");
            (void)store_port_create(port, 20000 + page, "other", 9000, 0);
        }
        page++;
    }
    return cursor.done ? status : QO_E_INTERNAL;
}

static inline void store_port_walk(store_port_t *port)
{
    static store_port_crowd_t crowd;
    int made = 0, met = 0, dead = 0;

    tap_ok((port->provider->session_walk != NULL) == port->walks, "walks, or cannot");
    if (port->provider->session_walk == NULL) {
        return;
    }
    for (uint32_t i = 0; i < STORE_PORT_CROWD; i++) {
        made += store_port_join(port, i, i % 5 == 0 ? 300 : 9000, i % 5 == 4 ? 300 : 0) ==
                QO_OK;
    }
    tap_int(made, STORE_PORT_CROWD, "a crowd of sessions");
    tap_int(store_port_stroll(port, &crowd, false), QO_OK, "a walk comes to its end");
    for (int i = 0; i < STORE_PORT_CROWD; i++) {
        met += crowd.seen[i] >= 1;
    }
    tap_int(met, STORE_PORT_CROWD, "and visits everybody");
    tap_int(crowd.wrong, 0, "with what belongs to it");
    /* Those of 5 * i expire, those of 5 * i + 4 are idle unless touched, 50 are deleted. */
    store_port_pass(port, 200);
    for (uint32_t i = 4; i < STORE_PORT_CROWD / 2; i += 5) {
        (void)store_port_touch(port, STORE_PORT_CROWD_BASE + i);
    }
    store_port_pass(port, 100);
    for (uint32_t i = STORE_PORT_CROWD - 250 + 3; i < STORE_PORT_CROWD; i += 5) {
        (void)store_port_delete(port, STORE_PORT_CROWD_BASE + i, QO_STORE_ANY);
    }
    tap_int(store_port_stroll(port, &crowd, false), QO_OK, "a walk among dead and living");
    met = 0;
    for (int i = 0; i < STORE_PORT_CROWD; i++) {
        bool over = i % 5 == 0 || (i % 5 == 4 && i >= STORE_PORT_CROWD / 2) ||
                    (i % 5 == 3 && i >= STORE_PORT_CROWD - 250);

        dead += over && crowd.seen[i] > 0;
        met += !over && crowd.seen[i] < 1;
    }
    tap_int(dead, 0, "meets no dead, no idle and no tombstone");
    tap_int(met, 0, "and misses nobody who lives");
    tap_int(store_port_stroll(port, &crowd, true), QO_OK, "a walk while the crowd changes");
    met = 0;
    for (int i = 3; i < STORE_PORT_CROWD - 250; i += 5) {
        met += crowd.seen[i] < 1;
    }
    tap_int(met, 0, "misses nobody who lives all the while");
    tap_int(crowd.wrong, 0, "and takes nobody for another");
}

/* -- limits ---------------------------------------------------------------------------- */

/* For a store that may hold `max` pending logins and has none. */
static inline void store_port_flood(store_port_t *port, uint32_t max)
{
    uint32_t refused = 0, kept = 0;
    bool taken;

    tap_int(store_port_create(port, 800, "v", 90000, 0), QO_OK, "a session beside logins");
    for (uint32_t i = 0; i < 3 * max; i++) {
        refused += store_port_put(port, 900 + i, 9000 + (int)i) != QO_OK;
        if (i % max == 0) {
            store_port_pass(port, 1);
        }
    }
    tap_int(refused, 0, "no login of a flood is refused");
    for (uint32_t i = 0; i < 3 * max; i++) {
        kept += store_port_login(port, 900 + i, &taken) == QO_OK;
    }
    tap_ok(kept <= max && kept >= max / 2, "their number is bounded: %u", kept);
    tap_int(store_port_login(port, 900 + 3 * max - 1, &taken), QO_OK, "the newest is kept");
    tap_int(store_port_login(port, 900, &taken), QO_E_NOT_FOUND, "the oldest evicted");
    tap_int(store_port_get(port, 800, "v", 1), QO_OK, "and never a session");
}

/* For a store that may hold `max` sessions, at most 20, and has none. After store_port. */
static inline void store_port_full(store_port_t *port, uint32_t max)
{
    qo_hash_t key = store_port_key(850);
    qo_err_t err = {.detail = ""};
    qo_lease_t lease = store_port_wish(1);
    uint32_t created = 0;

    for (uint32_t i = 0; i < max; i++) {
        created += store_port_create(port, 851 + i, "v", i == 0 ? 200 : 9000, 0) == QO_OK;
    }
    tap_int(created, max, "as many sessions as there is room for");
    tap_int(port->provider->session_create(port->store, &key, store_port_value("v"),
                                           store_port_in(port, 9000), 0, port->now, &err),
            QO_E_STORE_FULL, "one more is refused");
    tap_ok(err.detail[0] != '\0', "and told why: %s", err.detail);
    tap_int(store_port_get(port, 852, "v", 1), QO_OK, "the others are read");
    tap_int(store_port_touch(port, 852), QO_OK, "touched");
    tap_int(store_port_acquire(port, 852, &lease, STORE_PORT_LEASE), QO_OK, "leased");
    tap_int(store_port_replace(port, 852, 1, "w"), QO_OK, "replaced");
    tap_int(store_port_put(port, 852, 9000), QO_OK, "and log-ins begun");
    tap_int(store_port_delete(port, 853, QO_STORE_ANY), QO_OK, "log-out");
    tap_int(store_port_create(port, 880, "v", 9000, 0), QO_OK, "makes room");
    tap_int(store_port_create(port, 881, "v", 9000, 0), QO_E_STORE_FULL, "for one");
    store_port_pass(port, 200);
    tap_int(store_port_sweep(port), QO_OK, "sweeping the dead");
    tap_int(store_port_create(port, 881, "v", 9000, 0), QO_OK, "makes room as well");
}

/* Everything but the limits. */
static inline void store_port(store_port_t *port)
{
    if (qo_crypto_init() != QO_OK) {
        abort();
    }
    store_port_pending(port);
    store_port_life(port);
    store_port_ends(port);
    store_port_meta(port);
    store_port_tombstones(port);
    store_port_sizes(port);
    store_port_keys(port);
    store_port_lease(port);
    store_port_generations(port);
    store_port_lapse(port);
    store_port_backoff(port);
    store_port_death(port);
    store_port_stranger(port);
    store_port_lease_ends(port);
    store_port_races(port);
    store_port_walk(port);
}

#endif
