/* The LMDB provider: what the port promises, and what happens when processes are killed,
 * files are damaged and machines restarted. */
#include "qo_store_lmdb.h"
#include "qo_store_lmdb_env.h"

#include "process.h"
#include "store_port.h"
#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NOBODY 65534
#define KILLS 40
#define RACES 200

static const qo_store_provider_t *const L = &qo_store_lmdb_provider;
static apr_pool_t *root_pool;
static const char *base_dir;
static apr_time_t t0; /* a day after the birth of the files the tests make */
#define BIRTH (-86400)

static apr_time_t after(int seconds)
{
    return t0 + apr_time_from_sec(seconds);
}

static qo_hash_t key_of(uint32_t number)
{
    qo_hash_t key;

    /* Spread like a hash, and not in the order of the numbers. */
    for (size_t i = 0; i < sizeof(key.bytes); i++) {
        number = number * 1664525U + 1013904223U;
        key.bytes[i] = (unsigned char)(number >> 24);
    }
    return key;
}

static qo_bytes_t value_of(const char *text)
{
    return (qo_bytes_t){(unsigned char *)(uintptr_t)text, strlen(text)};
}

static bool same(qo_bytes_t value, const char *text)
{
    return value.len == strlen(text) && memcmp(value.data, text, value.len) == 0;
}

static const char *in_base(const char *name)
{
    return apr_pstrcat(root_pool, base_dir, "/", name, NULL);
}

static apr_pool_t *new_pool(void)
{
    apr_pool_t *p;

    if (apr_pool_create(&p, root_pool) != APR_SUCCESS) {
        abort();
    }
    return p;
}

static qo_status_t prepare_as(qo_store_t **out, apr_pool_t *p, const char *dir, long id,
                              qo_err_t *err)
{
    qo_store_setup_t setup = {.argument = dir, .dir = "/nowhere", .uid = id, .gid = id};

    return L->prepare(out, p, &setup, err);
}

static qo_status_t prepare(qo_store_t **out, apr_pool_t *p, const char *dir, qo_err_t *err)
{
    return prepare_as(out, p, dir, -1, err);
}

/* Prepared with these limits (0 = default), attached until `p` ends. */
static qo_store_t *open_limited(apr_pool_t *p, const char *name, uint64_t sessions,
                                uint64_t pending)
{
    qo_store_setup_t setup = {.dir = in_base(name),
                              .uid = -1,
                              .gid = -1,
                              .max_sessions = sessions,
                              .max_pending = pending};
    qo_store_t *store = NULL;
    qo_err_t err = {.detail = ""};

    if (L->prepare(&store, p, &setup, &err) != QO_OK || err.detail[0] != '\0' ||
        L->attach(store, p, &err) != QO_OK) {
        printf("Bail out! %s: %s\n", name, err.detail);
        exit(1);
    }
    return store;
}

static qo_store_t *open_store(apr_pool_t *p, const char *name)
{
    return open_limited(p, name, 0, 0);
}

static qo_status_t create(qo_store_t *s, uint32_t n, const char *text, int expires,
                          uint32_t idle, int now)
{
    qo_hash_t key = key_of(n);

    return L->session_create(s, &key, value_of(text), after(expires), idle, after(now),
                             NULL);
}

static qo_status_t get(qo_store_t *s, uint32_t n, int now)
{
    apr_pool_t *p = new_pool();
    qo_hash_t key = key_of(n);
    qo_store_meta_t meta;
    qo_bytes_t value;
    qo_status_t status = L->session_get(s, p, &key, &value, &meta, after(now), NULL);

    apr_pool_destroy(p);
    return status;
}

static qo_status_t touch(qo_store_t *s, uint32_t n, int now)
{
    qo_hash_t key = key_of(n);

    return L->touch(s, &key, after(now), NULL);
}

static qo_status_t delete_at(qo_store_t *s, uint32_t n, int now)
{
    qo_hash_t key = key_of(n);

    return L->session_delete(s, &key, QO_STORE_ANY, after(now), NULL);
}

static qo_status_t replace(qo_store_t *s, uint32_t n, uint64_t version, const char *text,
                           int now)
{
    qo_hash_t key = key_of(n);

    return L->session_replace(s, &key, version, value_of(text), after(now), NULL);
}

static qo_status_t put(qo_store_t *s, uint32_t n, int expires, int now)
{
    qo_hash_t key = key_of(n);

    return L->pending_put(s, &key, value_of("login"), after(expires), after(now), NULL);
}

static qo_status_t get_login(qo_store_t *s, uint32_t n, bool *taken, int now)
{
    apr_pool_t *p = new_pool();
    qo_hash_t key = key_of(n);
    qo_bytes_t value;
    qo_status_t status = L->pending_get(s, p, &key, &value, taken, after(now), NULL);

    if (status == QO_OK && !same(value, "login")) {
        status = QO_E_INTERNAL;
    }
    apr_pool_destroy(p);
    return status;
}

static qo_status_t take(qo_store_t *s, uint32_t n, int now)
{
    qo_hash_t key = key_of(n);

    return L->pending_take(s, &key, after(now), NULL);
}

static qo_store_status_t status_of(qo_store_t *s)
{
    qo_store_status_t out;

    if (L->status(s, &out, NULL) != QO_OK) {
        out.sessions = out.pending = UINT64_MAX;
    }
    return out;
}

/* -- the port -------------------------------------------------------------------------- */

static void test_port(void)
{
    apr_pool_t *p = new_pool();
    store_port_t port = {.provider = L, .pool = p, .now = t0, .walks = true};

    port.store = open_store(p, "port");
    store_port(&port);
    port.store = open_limited(p, "flood", 0, 10);
    store_port_flood(&port, 10);
    port.store = open_limited(p, "full", 5, 0);
    store_port_full(&port, 5);
    apr_pool_destroy(p);
}

static void test_pending_limit(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_limited(p, "pending-limit", 0, 10);
    bool taken;

    for (uint32_t n = 0; n < 25; n++) {
        (void)put(s, n, 1000, (int)n);
    }
    tap_int((long long)status_of(s).pending, 10, "exactly as many logins as the limit");
    tap_int(get_login(s, 15, &taken, 30), QO_OK, "the newest of them");
    apr_pool_destroy(p);

    p = new_pool();
    s = open_limited(p, "pending-limit", 0, 3);
    tap_int(put(s, 100, 1000, 50), QO_OK, "a login after the limit was lowered");
    tap_int((long long)status_of(s).pending, 3, "evicts down to it");
    tap_int(get_login(s, 100, &taken, 50), QO_OK, "and is kept itself");
    apr_pool_destroy(p);
}

/* The sweeper moves a living session through a buffer of its own. */
static void test_longest(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "longest");
    qo_hash_t key = key_of(1);
    qo_bytes_t value = {apr_palloc(p, QO_LIMIT_RECORD), QO_LIMIT_RECORD}, got;
    qo_store_meta_t meta;
    bool more;

    memset(value.data, 7, value.len);
    tap_int(L->session_create(s, &key, value, after(1000), 50, after(0), NULL), QO_OK,
            "the longest value");
    tap_int(touch(s, 1, 40), QO_OK, "touched");
    tap_int(L->sweep(s, after(60), 100, &more, NULL), QO_OK, "is moved on by the sweeper");
    tap_int(L->session_get(s, p, &key, &got, &meta, after(60), NULL), QO_OK, "and read");
    tap_ok(got.len == value.len && memcmp(got.data, value.data, got.len) == 0, "unchanged");
    apr_pool_destroy(p);
}

static void test_ends(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "ends");

    tap_int(create(s, 1, "v", 100, 0, 0), QO_OK, "a session without an idle limit");
    tap_int(get(s, 1, 99), QO_OK, "lives");
    tap_int(get(s, 1, 100), QO_E_NOT_FOUND, "until it expires");
    tap_int(replace(s, 1, 1, "w", 100), QO_E_NOT_FOUND, "then it is not replaced");
    tap_int(create(s, 1, "v", 300, 0, 101), QO_OK, "but may be created anew");
    tap_int(get(s, 1, 299), QO_OK, "and lives again");

    tap_int(create(s, 2, "v", 1000, 30, 0), QO_OK, "a session with an idle limit");
    tap_int(get(s, 2, 29), QO_OK, "lives");
    tap_int(get(s, 2, 30), QO_E_NOT_FOUND, "while it is used");
    tap_int(touch(s, 2, 30), QO_E_NOT_FOUND, "and is not touched back to life");
    tap_int(get(s, 2, -500), QO_OK, "in a clock set back it is not idle");
    tap_int(create(s, 3, "v", 70, 30, 0), QO_OK, "another");
    tap_int(touch(s, 3, 25), QO_OK, "touched");
    tap_int(get(s, 3, 54), QO_OK, "lives on");
    tap_int(touch(s, 3, 50), QO_OK, "touched again");
    tap_int(get(s, 3, 69), QO_OK, "and on");
    tap_int(get(s, 3, 70), QO_E_NOT_FOUND, "not beyond its absolute end");
    tap_int(create(s, 4, "v", 1000, 30, 0), QO_OK, "another");
    tap_int(replace(s, 4, 1, "w", 20), QO_OK, "replaced");
    tap_int(get(s, 4, 49), QO_OK, "lives on as well");
    tap_int(get(s, 4, 50), QO_E_NOT_FOUND, "for its idle time");
    tap_int(delete_at(s, 4, 50), QO_E_NOT_FOUND, "log-out then comes too late");
    tap_int(get(s, 4, 30), QO_E_NOT_FOUND, "but a clock set back does not revive it");
    tap_int(create(s, 5, "v", 1000, 30, 0), QO_OK, "another");
    tap_int(get(s, 5, 50), QO_E_NOT_FOUND, "idle");
    tap_int(get(s, 5, 20), QO_OK, "is revived where nobody has ended it");
    apr_pool_destroy(p);
}

/* -- leases ---------------------------------------------------------------------------- */

static qo_lease_t wish(uint64_t generation)
{
    return store_port_wish(generation);
}

static qo_status_t acquire(qo_store_t *s, uint32_t n, qo_lease_t *lease, qo_err_t *err)
{
    qo_hash_t key = key_of(n);

    return L->lease_acquire(s, &key, lease, apr_time_from_sec(60), after(0), err);
}

/* A lease as somebody may have written it, with times relative to the clock's. */
static void plant_lease(qo_store_t *s, uint32_t n, int until, int again)
{
    qo_store_lmdb_t *own = (qo_store_lmdb_t *)s;
    qo_lease_t lease = wish(1);
    qo_hash_t key = key_of(n);
    unsigned char record[QO_LEASE_LEN];
    MDB_txn *txn;
    int rc = qo_store_lmdb_env_write(&own->fleeting, &txn);

    lease.until = qo_lease_clock() + apr_time_from_sec(until);
    lease.again = qo_lease_clock() + apr_time_from_sec(again);
    qo_lease_encode(record, &lease);
    if (rc != 0 ||
        qo_store_lmdb_env_end(
            txn, qo_store_lmdb_env_put(txn, own->fleeting.db[QO_STORE_LMDB_LEASE],
                                       qo_store_lmdb_key(&key),
                                       qo_store_lmdb_val(record, sizeof(record)))) != 0) {
        abort();
    }
}

static uint64_t entries(qo_store_t *s, bool in_sessions, int database);

static void test_lease_sweep(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "leases");
    bool more;

    for (uint32_t n = 0; n < 40; n++) {
        (void)create(s, n, "v", 1000, 0, 0);
        /* Held, lapsed not long ago, lapsed long ago, failed long ago. */
        plant_lease(s, n,
                    n % 4 == 0   ? 60
                    : n % 4 == 1 ? -60
                                 : -QO_LEASE_KEEP - 5,
                    n % 4 == 3 ? -QO_LEASE_KEEP - 5 : -9000);
        plant_lease(s, 1000 + n, 60, 0); /* of no session */
    }
    tap_int((long long)entries(s, false, QO_STORE_LMDB_LEASE), 80, "80 leases");
    (void)L->sweep(s, after(2), 15, &more, NULL);
    tap_ok(entries(s, false, QO_STORE_LMDB_LEASE) >= 65, "are swept, 15 at most,");
    for (int i = 0; i < 5; i++) {
        (void)L->sweep(s, after(2), 15, &more, NULL);
    }
    tap_int((long long)entries(s, false, QO_STORE_LMDB_LEASE), 20, "in six steps");
    for (int i = 0; i < 3; i++) {
        (void)L->sweep(s, after(2), 15, &more, NULL);
    }
    tap_int((long long)entries(s, false, QO_STORE_LMDB_LEASE), 20, "those of use stay");
    tap_int(delete_at(s, 0, 3), QO_OK, "log-out");
    tap_int((long long)entries(s, false, QO_STORE_LMDB_LEASE), 19, "drops the lease");
    apr_pool_destroy(p);
}

/* A record of another boot, or damaged, must not be in the way for ever. */
static void test_lease_beyond(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "beyond");
    qo_lease_t lease = wish(1);
    bool more;

    (void)create(s, 1, "v", 1000, 0, 0);
    plant_lease(s, 1, QO_TOMBSTONE_LIFE + 60, 0);
    tap_int(acquire(s, 1, &lease, NULL), QO_OK, "a lease for longer than any is none");
    plant_lease(s, 1, 0, QO_LIMIT_RETRY_AFTER + 60);
    lease = wish(1);
    tap_int(acquire(s, 1, &lease, NULL), QO_OK, "nor is such a back-off");
    plant_lease(s, 1, QO_TOMBSTONE_LIFE + 60, 0);
    tap_int(L->sweep(s, after(2), 15, &more, NULL), QO_OK, "a sweep");
    tap_int((long long)entries(s, false, QO_STORE_LMDB_LEASE), 0, "removes it");
    apr_pool_destroy(p);
}

/* Somebody holds the write lock all the while: a waiter must be answered all the same. */
static void test_lease_poll(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "poll");
    qo_store_lmdb_t *own = (qo_store_lmdb_t *)s;
    qo_lease_t mine = wish(1), other = wish(1), late = wish(1);
    MDB_txn *txn;

    (void)create(s, 1, "v", 1000, 0, 0);
    tap_int(acquire(s, 1, &mine, NULL), QO_OK, "a lease");
    if (qo_store_lmdb_env_write(&own->fleeting, &txn) != 0) {
        abort();
    }
    (void)alarm((unsigned int)(20 * process_slow())); /* a call that waits waits for ever */
    tap_int(acquire(s, 1, &other, NULL), QO_E_CONFLICT, "refused without the write lock");
    tap_int(acquire(s, 2, &late, NULL), QO_E_NOT_FOUND, "and so is one of no session");
    (void)alarm(0);
    mdb_txn_abort(txn);
    tap_ok(qo_lease_same(&mine, &other), "by who holds it");
    apr_pool_destroy(p);
}

/* -- the walk -------------------------------------------------------------------------- */

typedef struct {
    qo_store_lmdb_t *store;
    int visits;
    int reading; /* visits during which this process had a read transaction */
} walk_t;

static int has_reader(const char *line, void *data)
{
    int *found = data;

    /* "pid thread txn" or, without a transaction, "pid thread -" */
    *found += strtol(line, NULL, 10) == (long)getpid() && strchr(line, '-') == NULL;
    return 0;
}

static void count_visit(void *data, const qo_hash_t *key, qo_bytes_t value,
                        const qo_store_meta_t *meta)
{
    walk_t *walk = data;
    int found = 0;

    (void)key;
    (void)value;
    (void)meta;
    walk->visits++;
    (void)mdb_reader_list(walk->store->sessions.env, has_reader, &found);
    (void)mdb_reader_list(walk->store->fleeting.env, has_reader, &found);
    walk->reading += found > 0;
}

static void test_walk_pages(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "pages-of-a-walk");
    walk_t walk = {.store = (qo_store_lmdb_t *)s};
    qo_store_cursor_t cursor = {.done = false};
    MDB_txn *txn;
    int calls = 0, found = 0, before, longest = 0;

    for (uint32_t n = 0; n < 2 * QO_WALK_BATCH + 20; n++) {
        (void)create(s, n, "v", n < 20 ? 10 : 1000, 0, 0);
    }
    while (!cursor.done && calls++ < 20) {
        before = walk.visits;
        (void)L->session_walk(s, p, &cursor, count_visit, &walk, after(100), NULL);
        longest = walk.visits - before > longest ? walk.visits - before : longest;
    }
    tap_int(calls, 3, "pages of a walk");
    tap_int(walk.visits, 2 * QO_WALK_BATCH, "lead to all that live");
    tap_ok(longest <= QO_WALK_BATCH, "a bounded number at a time");
    tap_int(walk.reading, 0, "who visits holds up nobody");
    if (qo_store_lmdb_env_read(&walk.store->sessions, &txn) != 0) {
        abort();
    }
    (void)mdb_reader_list(walk.store->sessions.env, has_reader, &found);
    mdb_txn_abort(txn);
    tap_int(found, 1, "a reader would have been noticed");
    apr_pool_destroy(p);
}

/* -- the sweeper ----------------------------------------------------------------------- */

static uint64_t entries(qo_store_t *s, bool in_sessions, int database)
{
    const qo_store_lmdb_t *own = (qo_store_lmdb_t *)s;
    const qo_store_lmdb_env_t *env = in_sessions ? &own->sessions : &own->fleeting;
    uint64_t out = 0;
    MDB_txn *txn;

    if (qo_store_lmdb_env_read(env, &txn) != 0 ||
        qo_store_lmdb_env_count(txn, env->db[database], &out) != 0) {
        abort();
    }
    mdb_txn_abort(txn);
    return out;
}

static void test_sweep(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "sweep");
    bool more = false;

    for (uint32_t n = 0; n < 20; n++) {
        (void)create(s, n, "absolute", 100, 0, 0);
        (void)create(s, 100 + n, "idle", 5000, 50, 0);
        (void)touch(s, 100 + n, n < 10 ? 10 : 40);
        (void)put(s, n, 60, 0);
    }
    tap_int((long long)entries(s, false, QO_STORE_LMDB_SEEN), 20, "20 touches");
    tap_int(L->sweep(s, after(49), 100, &more, NULL), QO_OK, "sweep before any end");
    tap_ok(!more && status_of(s).sessions == 40, "removes nothing");
    tap_int(L->sweep(s, after(70), 15, &more, NULL), QO_OK, "sweep of 15");
    tap_ok(more, "leaves some");
    tap_int(L->sweep(s, after(70), 15, &more, NULL), QO_OK, "sweep of 15 more");
    tap_ok(!more, "is enough");
    tap_int((long long)status_of(s).sessions, 30, "10 idle sessions are gone");
    tap_int((long long)status_of(s).pending, 0, "and the expired logins");
    tap_int((long long)entries(s, false, QO_STORE_LMDB_SEEN), 10, "and their touches");
    tap_int((long long)entries(s, true, QO_STORE_LMDB_ORDER), 30, "one entry each is left");
    tap_int(get(s, 115, 89), QO_OK, "one that was touched later lives");
    tap_int(replace(s, 115, 1, "still idle", 80), QO_OK, "and goes on");
    tap_int(delete_at(s, 116, 70), QO_OK, "another is deleted");
    tap_int((long long)entries(s, true, QO_STORE_LMDB_ORDER), 30,
            "its tombstone has an entry in place of its own");
    tap_int((long long)entries(s, true, QO_STORE_LMDB_TOMB), 1, "there is one tombstone");
    tap_int((long long)entries(s, false, QO_STORE_LMDB_SEEN), 9, "and its touch");
    tap_int(L->sweep(s, after(120), 500, &more, NULL), QO_OK, "sweep after the ends");
    tap_ok(!more && status_of(s).sessions == 1, "leaves one session");
    tap_int(get(s, 115, 120), QO_OK, "the one that was replaced");
    tap_int(L->sweep(s, after(130), 500, &more, NULL), QO_OK, "sweep after its end");
    tap_int((long long)status_of(s).sessions, 0, "leaves none");
    tap_int((long long)entries(s, true, QO_STORE_LMDB_ORDER), 1, "only the tombstone");
    tap_int(L->sweep(s, after(69 + QO_TOMBSTONE_LIFE), 500, &more, NULL), QO_OK,
            "sweep before its end");
    tap_int((long long)entries(s, true, QO_STORE_LMDB_TOMB), 1, "leaves it");
    tap_int(L->sweep(s, after(70 + QO_TOMBSTONE_LIFE), 500, &more, NULL), QO_OK,
            "sweep after its end");
    tap_int((long long)entries(s, true, QO_STORE_LMDB_TOMB), 0, "removes it");
    tap_int((long long)entries(s, true, QO_STORE_LMDB_ORDER), 0, "and its entry");
    tap_int((long long)entries(s, false, QO_STORE_LMDB_SEEN), 0, "and no touch");
    tap_int((long long)entries(s, false, QO_STORE_LMDB_ORDER), 0, "and no login");

    (void)create(s, 1, "v", 100, 0, 0);
    (void)create(s, 1, "v", 900, 0, 100);
    tap_int((long long)entries(s, true, QO_STORE_LMDB_ORDER), 1,
            "a dead session created anew has one entry");
    apr_pool_destroy(p);
}

/* What a process leaves behind that is killed between the two commits of a delete. */
static void test_lost_touches(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "lost");
    qo_store_lmdb_t *own = (qo_store_lmdb_t *)s;
    MDB_txn *txn;
    bool more;
    int rc = qo_store_lmdb_env_write(&own->fleeting, &txn);

    for (uint32_t n = 0; n < 50 && rc == 0; n++) {
        qo_hash_t key = key_of(1000 + n);

        rc = qo_store_lmdb_touch_write(own, txn, &key, after(0));
    }
    tap_int(qo_store_lmdb_env_end(txn, rc), 0, "50 touches without a session");
    for (uint32_t n = 0; n < 30; n++) {
        (void)create(s, n, "v", 1000, 500, 0);
        (void)touch(s, n, 1);
    }
    for (int i = 0; i < 6; i++) {
        (void)L->sweep(s, after(2), 15, &more, NULL);
    }
    tap_int((long long)entries(s, false, QO_STORE_LMDB_SEEN), 30, "are swept in six steps");
    for (int i = 0; i < 3; i++) {
        (void)L->sweep(s, after(2), 15, &more, NULL);
    }
    tap_int((long long)entries(s, false, QO_STORE_LMDB_SEEN), 30, "the others stay");
    apr_pool_destroy(p);
}

/* -- processes ------------------------------------------------------------------------- */

static void race(qo_store_t *s, apr_pool_t *p, volatile int *wins, int *ready)
{
    if (L->attach(s, p, NULL) != QO_OK) {
        _exit(1);
    }
    (void)__atomic_add_fetch(ready, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(ready, __ATOMIC_SEQ_CST) < 2) {
    }
    for (uint32_t n = 0; n < RACES; n++) {
        qo_status_t status = take(s, n, 1);

        if (status == QO_OK) {
            wins[n]++;
        } else if (status != QO_E_CONFLICT) {
            _exit(2);
        }
    }
    apr_pool_destroy(p);
    _exit(0);
}

static void test_take_race(void)
{
    apr_pool_t *p = new_pool();
    volatile int *wins = process_shared(2 * RACES * sizeof(int));
    int *ready = process_shared(sizeof(int));
    pid_t child[2];
    int once = 0, ended = 0;
    qo_store_t *s = open_store(p, "race");

    for (uint32_t n = 0; n < RACES; n++) {
        (void)put(s, n, 60, 0);
    }
    apr_pool_destroy(p);
    p = new_pool();
    if (prepare(&s, p, in_base("race"), NULL) != QO_OK) {
        abort();
    }
    for (int i = 0; i < 2; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            race(s, p, wins + i * RACES, ready);
        }
    }
    for (int i = 0; i < 2; i++) {
        ended += process_wait(child[i]) == 0;
    }
    for (int n = 0; n < RACES; n++) {
        once += wins[n] + wins[RACES + n] == 1;
    }
    tap_int(ended, 2, "two processes take the same 200 logins");
    tap_int(once, RACES, "each is taken exactly once");
    apr_pool_destroy(p);
}

static void test_fork_guard(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "fork");
    qo_err_t err = {.detail = ""};
    pid_t child;

    tap_int(create(s, 1, "v", 1000, 0, 0), QO_OK, "a session made before a fork");
    tap_int(L->attach(s, p, &err), QO_OK, "attaching twice is harmless");
    fflush(stdout);
    child = fork();
    if (child == 0) {
        bool taken, more, good;
        qo_store_status_t out;

        good = get(s, 1, 0) == QO_E_STORE_UNAVAILABLE &&
               create(s, 2, "v", 10, 0, 0) == QO_E_STORE_UNAVAILABLE &&
               replace(s, 1, 1, "w", 0) == QO_E_STORE_UNAVAILABLE &&
               delete_at(s, 1, 0) == QO_E_STORE_UNAVAILABLE &&
               touch(s, 1, 0) == QO_E_STORE_UNAVAILABLE &&
               put(s, 1, 10, 0) == QO_E_STORE_UNAVAILABLE &&
               get_login(s, 1, &taken, 0) == QO_E_STORE_UNAVAILABLE &&
               take(s, 1, 0) == QO_E_STORE_UNAVAILABLE &&
               L->sweep(s, t0, 10, &more, NULL) == QO_E_STORE_UNAVAILABLE &&
               L->status(s, &out, NULL) == QO_E_STORE_UNAVAILABLE &&
               L->attach(s, p, &err) == QO_E_STORE_UNAVAILABLE;
        apr_pool_destroy(p);
        _exit(good ? 0 : 1);
    }
    tap_int(process_wait(child), 0, "a forked process is refused everything");
    tap_int(get(s, 1, 1), QO_OK, "and the one that opened it is not hurt");
    apr_pool_destroy(p);
    p = new_pool();
    tap_int(prepare(&s, p, in_base("fork"), &err), QO_OK, "prepared");
    tap_int(get(s, 1, 1), QO_E_STORE_UNAVAILABLE, "but not attached: unavailable");
    apr_pool_destroy(p);
}

/* Makes sessions and replaces them; tells how many are safe. */
static void write_until_killed(qo_store_t *s, apr_pool_t *p, volatile uint32_t *made,
                               pid_t parent)
{
    if (L->attach(s, p, NULL) != QO_OK) {
        _exit(1);
    }
    while (getppid() == parent) {
        uint32_t n = *made;
        qo_status_t status = create(s, n, "first", 100000, 600, 0);

        /* After a kill between the commit and the count it is there already. */
        if (status != QO_OK && status != QO_E_CONFLICT) {
            _exit(2);
        }
        (void)touch(s, n, 1);
        (void)replace(s, n, 1, "second, and longer than the first was", 1);
        if (n % 3 == 0) {
            (void)put(s, n, 5000, 0);
        }
        *made = n + 1;
    }
    _exit(3);
}

static void test_kill(void)
{
    apr_pool_t *p = new_pool(), *child_pool = new_pool();
    qo_store_t *s, *theirs;
    pid_t parent = getpid();
    volatile uint32_t *made = process_shared(sizeof(uint32_t));
    uint32_t lost = 0, stale = 0, broken = 0;
    qo_store_meta_t meta;
    qo_bytes_t value;
    qo_err_t err = {.detail = ""};

    if (prepare(&theirs, child_pool, in_base("kill"), NULL) != QO_OK) {
        abort();
    }
    s = open_store(p, "kill");
    for (int i = 0; i < KILLS; i++) {
        uint32_t before = *made;
        pid_t child = fork();

        if (child == 0) {
            write_until_killed(theirs, child_pool, made, parent);
        }
        for (int wait = 0; *made < before + 2 && wait < 2000; wait++) {
            (void)usleep(500);
        }
        (void)usleep((useconds_t)(i * 211 % 3000));
        (void)kill(child, SIGKILL);
        broken += process_wait(child) != -1;
        broken += create(s, 1000000 + (uint32_t)i, "ours", 100000, 0, 1) != QO_OK;
        for (uint32_t n = before; n < *made; n++) {
            lost += get(s, n, 2) != QO_OK;
        }
    }
    for (uint32_t n = 0; n < *made; n++) {
        qo_hash_t key = key_of(n);
        apr_pool_t *q = new_pool();

        lost += L->session_get(s, q, &key, &value, &meta, after(2), NULL) != QO_OK;
        stale += meta.version != 2;
        apr_pool_destroy(q);
    }
    tap_int(broken, 0, "a writer is killed %d times, and the others write on");
    tap_int(lost, 0, "no committed session is lost");
    tap_int(stale, 0, "nor a committed replace");
    tap_ok(*made >= 2 * KILLS, "of %u", (unsigned int)*made);
    apr_pool_destroy(p);
    tap_int(prepare(&s, child_pool, in_base("kill"), &err), QO_OK, "the walk afterwards");
    tap_is(err.detail, "", "finds no damage");
    apr_pool_destroy(child_pool);
}

/* A process that is killed with every reader slot in its hands. */
static void test_dead_readers(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s, *theirs;
    pid_t child;

    if (prepare(&theirs, p, in_base("readers"), NULL) != QO_OK) {
        abort();
    }
    s = open_store(p, "readers");
    tap_int(create(s, 1, "v", 1000, 0, 0), QO_OK, "a session");
    child = fork();
    if (child == 0) {
        const qo_store_lmdb_t *own = (qo_store_lmdb_t *)theirs;
        MDB_txn *txn;

        if (L->attach(theirs, new_pool(), NULL) != QO_OK) {
            _exit(1);
        }
        while (mdb_txn_begin(own->sessions.env, NULL, MDB_RDONLY, &txn) == 0) {
        }
        (void)kill(getpid(), SIGKILL);
    }
    tap_int(process_wait(child), -1, "a process dies with all reader slots");
    tap_int(get(s, 1, 1), QO_OK, "and others read on");
    apr_pool_destroy(p);
}

static void test_live_prepare(void)
{
    apr_pool_t *p = new_pool(), *q = new_pool();
    qo_store_t *s = open_store(p, "live"), *next;
    qo_err_t err = {.detail = "old words"};

    tap_int(create(s, 1, "v", 1000, 0, 0), QO_OK, "a session of the old generation");
    tap_int(prepare(&next, q, in_base("live"), &err), QO_OK, "prepared while it is open");
    tap_is(err.detail, "", "with nothing to say");
    tap_int(prepare(&next, q, in_base("live"), &err), QO_OK, "and again");
    tap_int(create(s, 2, "v", 1000, 0, 0), QO_OK, "the old generation goes on");
    apr_pool_destroy(p);
    tap_int(L->attach(next, q, &err), QO_OK, "the new one opens it");
    tap_int(get(next, 1, 1), QO_OK, "with the first");
    tap_int(get(next, 2, 1), QO_OK, "and the second session");
    apr_pool_destroy(q);
}

/* -- files ----------------------------------------------------------------------------- */

static void test_reopen(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "reopen");
    bool taken = false;

    (void)create(s, 1, "v", 1000, 100, 0);
    (void)touch(s, 1, 90);
    (void)put(s, 1, 1000, 0);
    (void)take(s, 1, 1);
    apr_pool_destroy(p);
    p = new_pool();
    s = open_store(p, "reopen");
    tap_int(get(s, 1, 150), QO_OK, "after a restart the session is there, and its touch");
    tap_int(get_login(s, 1, &taken, 2), QO_OK, "and the pending login");
    tap_ok(taken, "taken as it was");
    apr_pool_destroy(p);
}

static const char *file_in(const char *dir, const char *name)
{
    return apr_pstrcat(root_pool, base_dir, "/", dir, "/", name, NULL);
}

static off_t size_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? st.st_size : -1;
}

/* Overwrites everything from `from` on with noise. */
static void spoil(const char *path, off_t from)
{
    off_t size = size_of(path);
    uint32_t noise = 12345;
    int fd = open(path, O_WRONLY);

    for (off_t at = from; fd >= 0 && at < size; at += (off_t)sizeof(noise)) {
        noise = noise * 1664525U + 1013904223U;
        if (pwrite(fd, &noise, sizeof(noise), at) != (ssize_t)sizeof(noise)) {
            abort();
        }
    }
    if (fd < 0 || close(fd) != 0) {
        abort();
    }
}

static int count_aside(const char *dir, const char *file)
{
    const char *prefix = apr_pstrcat(root_pool, file, ".2", NULL);
    DIR *list = opendir(in_base(dir));
    const struct dirent *entry;
    int found = 0;

    while (list != NULL && (entry = readdir(list)) != NULL) {
        found += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    }
    if (list != NULL) {
        (void)closedir(list);
    }
    return found;
}

static void fill_store(const char *dir)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, dir);

    for (uint32_t n = 0; n < 60; n++) {
        (void)create(s, n, "a value that takes some room, so that there are some pages",
                     1000, 100, 0);
        (void)touch(s, n, 1);
        (void)put(s, n, 1000, 0);
    }
    apr_pool_destroy(p);
}

/* After `file` was damaged in a way called `how`. */
static void check_replaced(const char *dir, const char *file, const char *how)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s;
    qo_err_t err = {.detail = ""};
    bool sessions = strcmp(file, "sessions.mdb") == 0;
    qo_status_t status = prepare(&s, p, in_base(dir), &err);

    tap_ok(status == QO_OK && strstr(err.detail, file) != NULL &&
               strstr(err.detail, "moved to") != NULL,
           "%s %s: %s", how, file, err.detail);
    tap_int(count_aside(dir, file), 1, "is moved aside");
    tap_int(L->attach(s, p, &err), QO_OK, "the store opens");
    tap_int(get(s, 1, 2), sessions ? QO_E_NOT_FOUND : QO_OK,
            sessions ? "without the sessions" : "with the sessions");
    tap_int(create(s, 5000, "v", 1000, 0, 2), QO_OK, "and takes new ones");
    tap_int(put(s, 5000, 1000, 2), QO_OK, "and new logins");
    apr_pool_destroy(p);
    p = new_pool();
    tap_int(prepare(&s, p, in_base(dir), &err), QO_OK, "the next start");
    tap_is(err.detail, "", "is quiet");
    apr_pool_destroy(p);
}

static void test_damage(void)
{
    const char *path;

    fill_store("noise");
    spoil(file_in("noise", "sessions.mdb"), 0);
    check_replaced("noise", "sessions.mdb", "all noise in");

    fill_store("pages");
    spoil(file_in("pages", "sessions.mdb"), 2 * 4096);
    check_replaced("pages", "sessions.mdb", "noise behind the head of");

    fill_store("cut");
    path = file_in("cut", "sessions.mdb");
    tap_ok(truncate(path, 3 * 4096) == 0, "truncated");
    check_replaced("cut", "sessions.mdb", "a cut");

    fill_store("fleeting");
    spoil(file_in("fleeting", "volatile.mdb"), 2 * 4096);
    check_replaced("fleeting", "volatile.mdb", "noise in");
}

static void test_empty(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s;

    fill_store("empty");
    tap_ok(truncate(file_in("empty", "sessions.mdb"), 0) == 0, "an empty file");
    s = open_store(p, "empty");
    tap_int(create(s, 1, "v", 1000, 0, 2), QO_OK, "is filled again");
    apr_pool_destroy(p);
}

/* Writes into the meta database of a closed file. */
static void set_meta(const char *path, const char *name, const char *text)
{
    MDB_val key = qo_store_lmdb_val(name, strlen(name));
    MDB_val value = qo_store_lmdb_val(text, strlen(text));
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;

    if (mdb_env_create(&env) != 0 || mdb_env_set_maxdbs(env, 8) != 0 ||
        mdb_env_open(env, path, MDB_NOSUBDIR, 0600) != 0 ||
        mdb_txn_begin(env, NULL, 0, &txn) != 0 || mdb_dbi_open(txn, "meta", 0, &dbi) != 0 ||
        mdb_put(txn, dbi, &key, &value, 0) != 0 || mdb_txn_commit(txn) != 0) {
        abort();
    }
    mdb_env_close(env);
}

static void test_boot(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s;
    bool taken;

    fill_store("boot");
    set_meta(file_in("boot", "volatile.mdb"), "boot", "another boot of the same machine");
    s = open_store(p, "boot");
    tap_int((long long)status_of(s).sessions, 60,
            "sessions survive a crash of the machine");
    tap_int(get(s, 1, 2), QO_OK, "and are read");
    tap_int(get_login(s, 1, &taken, 2), QO_E_NOT_FOUND, "pending logins do not");
    tap_int(put(s, 1, 1000, 2), QO_OK, "and start anew");
    apr_pool_destroy(p);
}

/* Losing the touches must not end sessions that were in use. */
static void test_birth(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "birth");
    qo_hash_t key = key_of(1);
    qo_store_meta_t meta;
    qo_bytes_t value;

    tap_int(create(s, 1, "v", 86400, 600, BIRTH - 7200), QO_OK, "a session two hours old");
    tap_int(L->session_get(s, p, &key, &value, &meta, after(BIRTH + 300), NULL), QO_OK,
            "lives although the touches are newer than it");
    tap_ok(meta.last_seen >= after(BIRTH) && meta.last_seen <= after(BIRTH + 300),
           "seen when they began");
    tap_int(get(s, 1, BIRTH + 7200), QO_E_NOT_FOUND, "and not for ever");
    apr_pool_destroy(p);
}

static void test_version(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s;
    qo_err_t err = {.detail = ""};

    fill_store("version");
    set_meta(file_in("version", "sessions.mdb"), "format", "qonto sessions 0");
    tap_int(prepare(&s, p, in_base("version"), &err), QO_OK, "a file of another version");
    tap_ok(strstr(err.detail, "another version and moved to") != NULL, "is moved aside: %s",
           err.detail);
    tap_int(L->attach(s, p, &err), QO_OK, "and a new one opened");
    tap_int((long long)status_of(s).sessions, 0, "without sessions");
    apr_pool_destroy(p);
}

static void test_damaged_record(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "record");
    qo_store_lmdb_t *own = (qo_store_lmdb_t *)s;
    MDB_txn *txn;
    bool more, taken;
    int rc = qo_store_lmdb_env_write(&own->sessions, &txn);

    for (uint32_t n = 1; n <= 3 && rc == 0; n++) {
        qo_hash_t key = key_of(n);

        rc = qo_store_lmdb_env_put(txn, own->sessions.db[QO_STORE_LMDB_RECORD],
                                   qo_store_lmdb_key(&key), qo_store_lmdb_val("short", 5));
    }
    tap_int(qo_store_lmdb_env_end(txn, rc), 0, "records that do not parse");
    tap_int(get(s, 1, 0), QO_E_NOT_FOUND, "are not found");
    tap_int(touch(s, 1, 0), QO_E_NOT_FOUND, "nor touched");
    tap_int(replace(s, 1, 1, "w", 0), QO_E_NOT_FOUND, "nor replaced");
    tap_int(create(s, 1, "v", 1000, 0, 0), QO_OK, "may be created");
    tap_int(get(s, 1, 1), QO_OK, "and are whole then");
    tap_int(delete_at(s, 2, 0), QO_OK, "or are deleted");
    tap_int((long long)status_of(s).sessions, 2, "so that they are gone");
    tap_int(create(s, 4, "v", 10, 0, 0), QO_OK, "a session with its entry");
    rc = qo_store_lmdb_env_write(&own->sessions, &txn);
    if (rc == 0) {
        qo_hash_t key = key_of(4);

        rc = qo_store_lmdb_env_put(txn, own->sessions.db[QO_STORE_LMDB_RECORD],
                                   qo_store_lmdb_key(&key), qo_store_lmdb_val("short", 5));
    }
    tap_int(qo_store_lmdb_env_end(txn, rc), 0, "is damaged");
    tap_int(delete_at(s, 4, 0), QO_OK, "and deleted");
    tap_int(L->sweep(s, after(20), 10, &more, NULL), QO_OK, "when its entry is swept");
    tap_int(create(s, 4, "v", 1000, 0, 20), QO_E_CONFLICT, "its tombstone stays");

    rc = qo_store_lmdb_env_write(&own->fleeting, &txn);
    if (rc == 0) {
        qo_hash_t key = key_of(1);

        rc = qo_store_lmdb_env_put(txn, own->fleeting.db[QO_STORE_LMDB_RECORD],
                                   qo_store_lmdb_key(&key), qo_store_lmdb_val("short", 5));
        rc = rc != 0 ? rc
                     : qo_store_lmdb_env_put(txn, own->fleeting.db[QO_STORE_LMDB_ORDER],
                                             qo_store_lmdb_val("odd", 3),
                                             qo_store_lmdb_val("", 0));
    }
    tap_int(qo_store_lmdb_env_end(txn, rc), 0, "a login that does not parse");
    tap_int(get_login(s, 1, &taken, 0), QO_E_NOT_FOUND, "is not found");
    tap_int(take(s, 1, 0), QO_E_NOT_FOUND, "nor taken");
    tap_int(L->sweep(s, APR_INT64_MAX, 10, &more, NULL), QO_OK, "the sweeper passes it");
    tap_int(put(s, 1, 1000, 0), QO_OK, "and it is put anew");
    apr_pool_destroy(p);
}

/* -- the directory --------------------------------------------------------------------- */

static mode_t mode_of(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

static void refused(const char *dir, const char *words, const char *name)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s;
    qo_err_t err = {.detail = ""};
    qo_status_t status = prepare(&s, p, dir, &err);

    tap_ok(status == QO_E_STORE_UNAVAILABLE && strstr(err.detail, words) != NULL, "%s: %s",
           name, err.detail);
    tap_int(L->attach(s, p, &err), QO_E_STORE_UNAVAILABLE, "and is not opened");
    apr_pool_destroy(p);
}

static void write_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);

    if (fd < 0 || close(fd) != 0) {
        abort();
    }
}

static void test_directory(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s;
    qo_err_t err = {.detail = ""};

    fill_store("dir");
    tap_int(mode_of(in_base("dir")), 0700, "the directory is private");
    tap_int(mode_of(file_in("dir", "sessions.mdb")), 0600, "and so are its files");
    tap_int(mode_of(file_in("dir", "volatile.mdb")), 0600, "volatile.mdb");
    tap_int(mode_of(file_in("dir", "sessions.mdb-lock")), 0600, "and the locks");
    (void)chmod(in_base("dir"), 0755);
    (void)chmod(file_in("dir", "sessions.mdb"), 0644);
    tap_int(prepare(&s, p, in_base("dir"), &err), QO_OK, "an open directory of ours");
    tap_int(mode_of(in_base("dir")), 0700, "is made private");
    tap_int(mode_of(file_in("dir", "sessions.mdb")), 0600, "with its files");

    (void)mkdir(in_base("homes"), 0755);
    (void)chmod(in_base("homes"), 0755);
    write_file(file_in("homes", "letter"));
    refused(in_base("homes"), "a directory of its own", "a directory with other files");
    tap_int(mode_of(in_base("homes")), 0755, "is left as it is");

    (void)symlink(in_base("dir"), in_base("link"));
    tap_int(prepare(&s, p, in_base("link"), &err), QO_OK, "a link to a good directory");
    refused(in_base("no/where"), "the directory above it does not exist",
            "a missing directory above");
    refused(file_in("homes", "letter"), "Not a directory", "a file in its place");
    refused(file_in("homes", "letter/x"), "Not a directory", "a file above it");
    refused("relative/path", "absolute", "a relative path");

    (void)mkdir(in_base("trap"), 0700);
    (void)symlink(file_in("homes", "letter"), file_in("trap", "sessions.mdb"));
    refused(in_base("trap"), "symbolic link", "a link in place of the file");
    (void)unlink(file_in("trap", "sessions.mdb"));
    (void)link(file_in("homes", "letter"), file_in("trap", "sessions.mdb"));
    refused(in_base("trap"), "one name", "a file with a second name");
    tap_int(size_of(file_in("homes", "letter")), 0, "none of which is written to");
    apr_pool_destroy(p);
}

static void test_missing_file(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s;
    qo_err_t err = {.detail = ""};

    tap_int(prepare(&s, p, in_base("missing"), &err), QO_OK, "prepared");
    (void)unlink(file_in("missing", "volatile.mdb"));
    tap_int(L->attach(s, p, &err), QO_E_STORE_UNAVAILABLE, "a file removed since then");
    tap_ok(strstr(err.detail, "No such file") != NULL, "is told: %s", err.detail);
    tap_int(size_of(file_in("missing", "volatile.mdb")), -1, "and not made in a child");
    apr_pool_destroy(p);
}

static uid_t owner_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? st.st_uid : 0;
}

/* As a child of the server that has given up root. */
static int use_as_nobody(const char *dir)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s;
    qo_err_t err = {.detail = ""};

    if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0) {
        return 1;
    }
    if (prepare(&s, p, dir, &err) != QO_OK || L->attach(s, p, &err) != QO_OK ||
        create(s, 77, "v", 1000, 0, 0) != QO_OK) {
        return 2;
    }
    return prepare(&s, p, in_base("not-ours"), &err) == QO_E_STORE_UNAVAILABLE &&
                   strstr(err.detail, "Permission denied") != NULL
               ? 0
               : 3;
}

static void test_users(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s;
    qo_err_t err = {.detail = ""};
    pid_t child;

    (void)chmod(base_dir, 0700);
    tap_int(prepare_as(&s, p, in_base("nobody"), NOBODY, &err), QO_E_STORE_UNAVAILABLE,
            "a directory the server's user cannot reach");
    tap_ok(strstr(err.detail, "user 65534: Permission denied") != NULL, "is told: %s",
           err.detail);
    (void)chmod(base_dir, 0755);
    tap_int(prepare_as(&s, p, in_base("nobody"), NOBODY, &err), QO_OK, "one it can reach");
    tap_ok(owner_of(in_base("nobody")) == NOBODY &&
               owner_of(file_in("nobody", "sessions.mdb")) == NOBODY &&
               owner_of(file_in("nobody", "volatile.mdb-lock")) == NOBODY,
           "is given to it with all files");
    child = fork();
    if (child == 0) {
        _exit(use_as_nobody(in_base("nobody")));
    }
    tap_int(process_wait(child), 0, "which uses it, and makes none where it may not");
    (void)chown(in_base("nobody"), NOBODY - 1, NOBODY - 1);
    tap_int(prepare_as(&s, p, in_base("nobody"), NOBODY, &err), QO_E_STORE_UNAVAILABLE,
            "a directory of somebody else");
    tap_ok(strstr(err.detail, "belongs to user 65533") != NULL, "is refused: %s",
           err.detail);
    fill_store("given");
    tap_int(prepare_as(&s, p, in_base("given"), NOBODY, &err), QO_OK, "root's directory");
    tap_ok(owner_of(in_base("given")) == NOBODY &&
               owner_of(file_in("given", "sessions.mdb")) == NOBODY,
           "is handed over with its files");
    apr_pool_destroy(p);
}

/* -- a tool beside the server ---------------------------------------------------------- */

static qo_store_t *tool_store(apr_pool_t *p, const char *name)
{
    qo_store_setup_t setup = {.argument = in_base(name), .as_it_is = true};
    qo_store_t *s = NULL;

    if (L->prepare(&s, p, &setup, NULL) != QO_OK) {
        abort();
    }
    return s;
}

static void tool_refused(const char *name, const char *words, const char *what)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = tool_store(p, name);
    qo_err_t err = {.detail = ""};

    tap_int(L->attach(s, p, &err), QO_E_STORE_UNAVAILABLE, what);
    tap_ok(strstr(err.detail, words) != NULL, "says: %s", err.detail);
    apr_pool_destroy(p);
}

static void test_tool_refused(void)
{
    apr_pool_t *p = new_pool();

    tool_refused("no-store", "No such file", "a tool for a store that is not there");
    tap_ok(access(in_base("no-store"), F_OK) != 0, "and makes none");
    (void)mkdir(in_base("bare"), 0755);
    tool_refused("bare", "No such file", "for an empty directory");
    tap_int(rmdir(in_base("bare")), 0, "which stays empty");
    fill_store("unlocked");
    (void)unlink(file_in("unlocked", "volatile.mdb-lock"));
    tool_refused("unlocked", "No such file", "for a store without its lock");
    tap_ok(access(file_in("unlocked", "volatile.mdb-lock"), F_OK) != 0, "and makes none");
    fill_store("rebooted");
    set_meta(file_in("rebooted", "volatile.mdb"), "boot", "another boot");
    tool_refused("rebooted", "start httpd first", "for a store of another boot");
    fill_store("older");
    set_meta(file_in("older", "sessions.mdb"), "format", "qonto sessions 1");
    tool_refused("older", "VERSION", "for a store of another version");
    tap_int(count_aside("older", "sessions.mdb"), 0, "which it leaves alone");
    apr_pool_destroy(p);
}

/* The tool's whole run: sees a session, ends it, has its own rights again. */
static int use_as_tool(const char *name, uint32_t n)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = tool_store(p, name);
    uid_t uid = geteuid();
    gid_t gid = getegid();
    walk_t walk = {.store = (qo_store_lmdb_t *)s};
    qo_store_cursor_t cursor = {.done = false};

    if (L->attach(s, p, NULL) != QO_OK) {
        return 1;
    }
    if (L->session_walk(s, p, &cursor, count_visit, &walk, after(2), NULL) != QO_OK ||
        walk.visits < 1 || get(s, n, 2) != QO_OK || delete_at(s, n, 2) != QO_OK) {
        return 2;
    }
    apr_pool_destroy(p);
    return geteuid() == uid && getegid() == gid ? 0 : 3;
}

static int run_tool(const char *name, uint32_t n)
{
    pid_t child = fork();

    if (child == 0) {
        _exit(use_as_tool(name, n));
    }
    return process_wait(child);
}

static void test_tool(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s;

    fill_store("tool");
    (void)chmod(in_base("tool"), 0755);
    s = open_store(p, "tool");
    (void)chmod(in_base("tool"), 0755);
    tap_int(run_tool("tool", 3), 0, "a tool works while the server runs");
    tap_int(get(s, 3, 3), QO_E_NOT_FOUND, "what it ends is ended");
    tap_int(get(s, 4, 3), QO_OK, "and nothing else");
    tap_int(mode_of(in_base("tool")), 0755, "it changes no directory");
    apr_pool_destroy(p);
}

/* The lock file LMDB makes when it is missing: with whose rights? */
static int make_lock(const char *name)
{
    qo_store_lmdb_rights_t before;
    qo_store_lmdb_env_t env;

    if (qo_store_lmdb_dir_enter(&before, in_base(name)) != 0 ||
        qo_store_lmdb_env_open(&env, &qo_store_lmdb_volatile,
                               file_in(name, "volatile.mdb")) != 0 ||
        qo_store_lmdb_dir_leave(&before) != 0) {
        return 1;
    }
    qo_store_lmdb_env_close(&env);
    return geteuid() == 0 ? 0 : 2;
}

static void test_tool_of_root(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s;
    qo_err_t err = {.detail = ""};
    pid_t child;

    (void)chmod(base_dir, 0755);
    tap_int(prepare_as(&s, p, in_base("theirs"), NOBODY, &err), QO_OK, "nobody's store");
    child = fork();
    if (child == 0) {
        _exit(use_as_nobody(in_base("theirs")));
    }
    tap_int(process_wait(child), 0, "is used by nobody");
    tap_int(run_tool("theirs", 77), 0, "and by a tool of root");
    (void)unlink(file_in("theirs", "volatile.mdb-lock"));
    child = fork();
    if (child == 0) {
        _exit(make_lock("theirs"));
    }
    tap_int(process_wait(child), 0, "even if it makes the lock");
    tap_ok(owner_of(file_in("theirs", "volatile.mdb-lock")) == NOBODY &&
               mode_of(file_in("theirs", "volatile.mdb-lock")) == 0600,
           "that is nobody's");
    (void)unlink(file_in("theirs", "sessions.mdb"));
    (void)symlink("/etc/shadow", file_in("theirs", "sessions.mdb"));
    tool_refused("theirs", "Permission denied", "a link to what nobody may not read");
    tap_int((long long)geteuid(), 0, "is refused by one that is still root");
    apr_pool_destroy(p);
}

/* -- room ------------------------------------------------------------------------------ */

#define PAGE 4096

/* Sessions of about a page each, until one is refused. */
static uint32_t create_many(qo_store_t *s, uint32_t max, qo_status_t *last, qo_err_t *err)
{
    static unsigned char filler[1900];
    qo_bytes_t value = {filler, sizeof(filler)};
    uint32_t n = 0;

    for (*last = QO_OK; *last == QO_OK && n < max; n++) {
        qo_hash_t key = key_of(n);

        *last = L->session_create(s, &key, value, after(90000), 0, after(0), err);
    }
    return *last == QO_OK ? n : n - 1;
}

/* Those who are signed in, at this version, get new tokens twice. */
static uint32_t replace_all(qo_store_t *s, uint32_t count, uint64_t version, size_t len)
{
    static unsigned char filler[4000];
    qo_bytes_t value = {filler, len};
    uint32_t done = 0;

    for (uint32_t i = 0; i < count * 2; i++) {
        qo_hash_t key = key_of(i % count);
        qo_lease_t lease = wish(version + i / count);

        done +=
            L->lease_acquire(s, &key, &lease, apr_time_from_sec(60), after(1), NULL) ==
                QO_OK &&
            L->session_replace(s, &key, lease.generation, value, after(1), NULL) == QO_OK &&
            L->lease_release(s, &key, &lease, QO_OK, 0, NULL) == QO_OK;
    }
    return done;
}

static void flood(qo_store_t *s, uint32_t count, uint32_t *put_ones, qo_status_t *last)
{
    static unsigned char filler[4000];
    qo_bytes_t value = {filler, sizeof(filler)};

    *put_ones = 0;
    *last = QO_OK;
    for (uint32_t n = 0; n < count; n++) {
        qo_hash_t key = key_of(500000 + n);
        qo_status_t status =
            L->pending_put(s, &key, value, after(1000 + (int)n), after(0), NULL);

        *put_ones += status == QO_OK;
        *last = status != QO_OK ? status : *last;
    }
}

static uint64_t used_pages(const qo_store_lmdb_env_t *env)
{
    MDB_envinfo info;

    if (mdb_env_info(env->env, &info) != 0) {
        abort();
    }
    return info.me_last_pgno + 1;
}

static void set_map(const qo_store_lmdb_env_t *env, uint64_t bytes)
{
    if (mdb_env_set_mapsize(env->env, bytes) != 0) {
        abort();
    }
}

static void test_room_in_map(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "map");
    qo_store_lmdb_t *own = (qo_store_lmdb_t *)s;
    qo_err_t err = {.detail = ""};
    qo_lease_t lease = wish(3);
    qo_status_t last;
    uint32_t count, ended = 0;

    set_map(&own->sessions, QO_ROOM_SESSION + (2 << 20));
    count = create_many(s, 100000, &last, &err);
    tap_int(last, QO_E_STORE_FULL, "a map that is nearly full takes no new session");
    tap_ok(strstr(err.detail, "no new session: less than 16 MiB") != NULL, "and says: %s",
           err.detail);
    tap_ok(count > 100 && used_pages(&own->sessions) * PAGE < (4 << 20), "after %u", count);
    tap_int(replace_all(s, count, 1, 1900), 2 * count,
            "those who are in it get new tokens, twice");
    set_map(&own->sessions, used_pages(&own->sessions) * PAGE + (QO_ROOM_REFRESH / 8));
    tap_int(acquire(s, 1, &lease, &err), QO_E_STORE_UNAVAILABLE,
            "in one that is full no refresh begins");
    tap_ok(strstr(err.detail, "no refresh: less than 1 MiB") != NULL, "which says: %s",
           err.detail);
    tap_int(get(s, 1, 1), QO_OK, "reading goes on");
    for (uint32_t n = 2; n < count; n++) {
        ended += delete_at(s, n, 1) == QO_OK;
    }
    tap_int(ended, count - 2, "and log-out");
    tap_int(acquire(s, 1, &lease, &err), QO_OK, "whose pages make room for a refresh");
    apr_pool_destroy(p);
}

static void test_room_for_logins(void)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_store(p, "logins");
    qo_store_lmdb_t *own = (qo_store_lmdb_t *)s;
    qo_err_t err = {.detail = ""};
    qo_lease_t lease = wish(1);
    qo_status_t last;
    uint32_t done;
    bool taken;

    tap_int(create(s, 1, "v", 9000, 0, 0), QO_OK, "a session");
    set_map(&own->fleeting, QO_ROOM_LOGINS + (16 << 20));
    flood(s, 8000, &done, &last);
    tap_int(done, 8000, "a flood of long logins, more than a file can hold, goes on");
    tap_ok(status_of(s).pending >= QO_PENDING_FEW, "many are kept");
    tap_ok(used_pages(&own->fleeting) * PAGE < (18 << 20), "in bounded room");
    for (uint32_t n = 7000, kept = 0; n < 8000; n++) {
        qo_hash_t key = key_of(500000 + n);
        qo_bytes_t value;

        kept += L->pending_get(s, p, &key, &value, &taken, after(0), NULL) == QO_OK;
        if (n == 7999) {
            tap_int(kept, 1000, "the newest");
        }
    }
    tap_int(acquire(s, 1, &lease, &err), QO_OK, "leases have room beside them");
    tap_int(touch(s, 1, 1), QO_OK, "and touches");
    apr_pool_destroy(p);

    p = new_pool();
    s = open_store(p, "logins-none");
    own = (qo_store_lmdb_t *)s;
    set_map(&own->fleeting, QO_ROOM_SESSION);
    tap_int(put(s, 1, 1000, 0), QO_E_STORE_UNAVAILABLE,
            "no login begins where no session could follow");
    apr_pool_destroy(p);
}

/* A small file system, in a mount namespace of this process: it ends with it, however. */
static const char *small_disk(size_t mib)
{
    const char *place = in_base("disk");
    const char *size = apr_psprintf(root_pool, "size=%lum,mode=0755", (unsigned long)mib);

    if (mkdir(place, 0755) != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", place, "tmpfs", 0, size) != 0) {
        return NULL;
    }
    return "disk/store";
}

/* Takes what is left but for `rest` bytes. */
static void fill_disk(const char *path, size_t rest)
{
    static const char block[64 * 1024];
    struct statvfs fs;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

    while (fd >= 0 && fstatvfs(fd, &fs) == 0 && fs.f_bavail * fs.f_bsize > rest) {
        size_t left = fs.f_bavail * fs.f_bsize - rest;

        if (write(fd, block, left < sizeof(block) ? left : sizeof(block)) < 0) {
            abort();
        }
    }
    if (fd < 0 || close(fd) != 0) {
        abort();
    }
}

static void test_room_on_disk(void)
{
    apr_pool_t *p = new_pool();
    const char *place = small_disk((QO_ROOM_SESSION >> 20) + 12);
    qo_store_t *s;
    const qo_store_lmdb_t *own;
    qo_err_t err = {.detail = ""};
    qo_lease_t lease = wish(100);
    qo_status_t last;
    uint32_t count, done, ended = 0;
    MDB_txn *reader;

    if (!tap_ok(place != NULL, "a small file system can be mounted")) {
        apr_pool_destroy(p);
        return;
    }
    s = open_store(p, place);
    own = (qo_store_lmdb_t *)s;
    count = create_many(s, 100000, &last, &err);
    tap_int(last, QO_E_STORE_FULL, "a disk that is nearly full takes no new session");
    tap_ok(strstr(err.detail, "16 MiB are left on the file system of /") != NULL,
           "and says: %s", err.detail);
    tap_ok(count > 100, "after %u", count);
    flood(s, 3000, &done, &last);
    tap_int(last, QO_E_STORE_UNAVAILABLE, "nor a new login");
    fill_disk(in_base("disk/ballast"), 0);
    tap_int(get(s, 1, 1), QO_OK, "on a full disk sessions are read");
    tap_int(replace_all(s, count, 1, 1900), 2 * count,
            "those who are in it get new tokens, twice");
    /* Nothing that is freed can be used again while somebody reads. */
    if (qo_store_lmdb_env_read(&own->sessions, &reader) != 0) {
        abort();
    }
    done = replace_all(s, count, 3, 1900);
    tap_ok(done < 2 * count, "what the file has in hand ends at last, after %u", done);
    tap_int(acquire(s, 2, &lease, &err), QO_E_STORE_UNAVAILABLE, "then no refresh begins");
    tap_ok(strstr(err.detail, "no refresh: less than 1 MiB") != NULL, "which says: %s",
           err.detail);
    tap_int(delete_at(s, 2, 1), QO_OK, "a log-out goes on even so");
    mdb_txn_abort(reader);
    tap_int(acquire(s, 3, &lease, &err), QO_OK, "until the reader ends");
    for (uint32_t n = 3; n < count; n++) {
        ended += delete_at(s, n, 1) == QO_OK;
    }
    tap_int(ended, count - 3, "everybody may sign out");
    tap_int(create(s, 900000, "v", 1000, 0, 1), QO_E_STORE_FULL, "nobody may sign in");
    (void)unlink(in_base("disk/ballast"));
    tap_int(create(s, 900000, "v", 1000, 0, 1), QO_OK, "with room again, for a session");
    apr_pool_destroy(p);
    tap_int(umount2(in_base("disk"), MNT_DETACH), 0, "unmounted");
}

int main(void)
{
    if (apr_initialize() != APR_SUCCESS ||
        apr_pool_create(&root_pool, NULL) != APR_SUCCESS) {
        return 1;
    }
    base_dir = process_place(root_pool, "qo_store_lmdb");
    t0 = apr_time_now() - apr_time_from_sec(BIRTH);
    test_port();
    test_pending_limit();
    test_longest();
    test_ends();
    test_lease_sweep();
    test_lease_beyond();
    test_lease_poll();
    test_walk_pages();
    test_sweep();
    test_lost_touches();
    test_take_race();
    test_fork_guard();
    test_kill();
    test_dead_readers();
    test_live_prepare();
    test_reopen();
    test_damage();
    test_empty();
    test_boot();
    test_birth();
    test_version();
    test_damaged_record();
    test_directory();
    test_missing_file();
    test_tool_refused();
    test_tool();
    test_room_in_map();
    test_room_for_logins();
    if (geteuid() == 0) {
        test_users();
        test_tool_of_root();
        test_room_on_disk(); /* in a mount namespace from here on */
    }
    process_remove(base_dir);
    apr_pool_destroy(root_pool);
    apr_terminate();
    return tap_done();
}
