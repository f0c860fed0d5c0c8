/* Measures the LMDB store, for t/bench/store, which explains the figures. Each run does one
 * thing and prints "name value" lines; times are microseconds.
 *
 *   lmdb fill  DIR COUNT     sessions of realistic size, each touched once
 *   lmdb look  DIR COUNT N   N look-ups at random
 *   lmdb write DIR COUNT N   N of each writing call, and of what waiters call
 *   lmdb walk  DIR           through all sessions
 *   lmdb sweep DIR COUNT     all sessions being dead, while others read and write */
#include "qo_session.h"
#include "qo_store_lmdb.h"
#include "qo_store_lmdb_env.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCH 2000 /* sessions in one transaction of fill */
#define SAMPLES 4000000
#define LIFE 30 /* days */

static const qo_store_provider_t *const L = &qo_store_lmdb_provider;
static apr_pool_t *pool;
static const char *dir;
static apr_time_t born; /* of all sessions */

static void need(bool good, const char *what)
{
    if (!good) {
        (void)fprintf(stderr, "lmdb: %s failed\n", what);
        exit(1);
    }
}

/* ---- samples ---- */

typedef struct {
    uint32_t *us10; /* tenths of a microsecond */
    size_t count;
} samples_t;

static double clock_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with these arguments */
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* Shared, so that a process can measure for another. */
static samples_t *new_samples(void)
{
    samples_t *out = mmap(NULL, sizeof(*out) + SAMPLES * sizeof(uint32_t),
                          PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    need(out != MAP_FAILED, "mmap");
    out->us10 = (uint32_t *)(void *)(out + 1);
    return out;
}

static void note(samples_t *samples, double began)
{
    if (samples->count < SAMPLES) {
        samples->us10[samples->count++] = (uint32_t)((clock_us() - began) * 10);
    }
}

static int compare(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void print_samples(const char *name, samples_t *samples)
{
    size_t n = samples->count;

    need(n > 0, name);
    qsort(samples->us10, n, sizeof(uint32_t), compare);
    printf("%s.n %lu\n", name, (unsigned long)n);
    printf("%s.p50 %.1f\n", name, samples->us10[n / 2] / 10.0);
    printf("%s.p99 %.1f\n", name, samples->us10[n * 99 / 100] / 10.0);
    printf("%s.max %.1f\n", name, samples->us10[n - 1] / 10.0);
    samples->count = 0;
}

/* ---- sessions ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
    return x ^ x >> 31;
}

static qo_hash_t key_of(uint64_t n)
{
    qo_hash_t key;

    for (size_t i = 0; i < QO_HASH_LEN / 8; i++) {
        uint64_t word = mix(n * 4 + i + 1);

        memcpy(key.bytes + i * 8, &word, sizeof(word));
    }
    return key;
}

/* What one sign-in at Qonto leaves, sealed. */
static qo_bytes_t sample_value(void)
{
    const char *token = "ory_at_0123456789012345678901234567890123456789012."
                        "0123456789012345678901234567890123456789012";
    qo_token_t tokens = {.access = token,
                         .refresh = token,
                         .scope = "offline_access organization.read openid email",
                         .expires = born + apr_time_from_sec(3600)};
    qo_session_rings_t rings = {.visitor.count = 0};
    qo_hash_t key = key_of(0);
    qo_session_t session;
    qo_bytes_t out = {NULL, 0};

    qo_session_new(&session, &tokens, 8 * 3600, LIFE * 86400, born);
    session.user = "somebody.of.that.name@example.com";
    session.organization = "01234567-89ab-cdef-0123-456789abcdef";
    need(qo_crypto_init() == QO_OK, "OpenSSL");
    need(qo_keyring_add(&rings.visitor, "a key of thirty-two bytes or more", 33) == QO_OK &&
             qo_keyring_add(&rings.admin, "a key of thirty-two bytes or more", 33) == QO_OK,
         "a ring of keys");
    need(qo_session_seal(&out, pool, &rings, "a cookie", &key, &session) == QO_OK,
         "a session");
    return out;
}

static qo_store_lmdb_t *open_store(apr_pool_t *p)
{
    qo_store_setup_t setup = {.argument = dir, .uid = -1, .gid = -1};
    qo_err_t err = {.detail = ""};
    qo_store_t *s;

    if (L->prepare(&s, p, &setup, &err) != QO_OK || err.detail[0] != '\0' ||
        L->attach(s, p, &err) != QO_OK) {
        (void)fprintf(stderr, "lmdb: %s\n", err.detail);
        exit(1);
    }
    return (qo_store_lmdb_t *)s;
}

static apr_time_t end_of_life(void)
{
    return born + apr_time_from_sec((apr_time_t)LIFE * 86400);
}

/* As the store writes them, but many in a transaction. */
static void fill_some(const qo_store_lmdb_t *s, qo_bytes_t value, uint64_t from,
                      uint64_t to)
{
    qo_store_lmdb_record_t record = {1, end_of_life(), 0, born, end_of_life() - 1, value};
    MDB_txn *sessions, *fleeting;
    int rc = qo_store_lmdb_env_write(&s->sessions, &sessions);

    need(rc == 0 && qo_store_lmdb_env_write(&s->fleeting, &fleeting) == 0, "writing");
    for (uint64_t n = from; rc == 0 && n < to; n++) {
        qo_hash_t key = key_of(n);

        /* They end one after the other, within an hour. */
        record.due = end_of_life() - apr_time_from_sec(3600) + (apr_time_t)(mix(n) >> 33);
        record.expires = record.due;
        rc = qo_store_lmdb_record_enlist(s, sessions, &key, record.due);
        if (rc == 0) {
            rc = qo_store_lmdb_record_write(s, sessions, &key, &record);
        }
        if (rc == 0) {
            rc = qo_store_lmdb_touch_write(s, fleeting, &key, born);
        }
    }
    need(qo_store_lmdb_env_end(sessions, rc) == 0, "filling sessions.mdb");
    need(qo_store_lmdb_env_end(fleeting, rc) == 0, "filling volatile.mdb");
}

static double used_bytes(const qo_store_lmdb_env_t *env)
{
    MDB_envinfo info;
    MDB_stat stat;

    need(mdb_env_info(env->env, &info) == 0 && mdb_env_stat(env->env, &stat) == 0, "info");
    return (double)(info.me_last_pgno + 1) * stat.ms_psize;
}

static void fill(uint64_t count)
{
    const qo_store_lmdb_t *s = open_store(pool);
    qo_bytes_t value = sample_value();
    double began = clock_us();

    for (uint64_t n = 0; n < count; n += BATCH) {
        fill_some(s, value, n, n + BATCH < count ? n + BATCH : count);
    }
    printf("value %lu\n", (unsigned long)value.len);
    printf("seconds %.1f\n", (clock_us() - began) / 1e6);
    printf("sessions.bytes %.0f\n", used_bytes(&s->sessions));
    printf("volatile.bytes %.0f\n", used_bytes(&s->fleeting));
}

/* ---- looking ---- */

static void look(qo_store_t *s, apr_pool_t *p, uint64_t n)
{
    qo_hash_t key = key_of(n);
    qo_store_meta_t meta;
    qo_bytes_t value;

    need(L->session_get(s, p, &key, &value, &meta, born + 1, NULL) == QO_OK, "session_get");
}

static void look_up(uint64_t count, uint64_t times)
{
    qo_store_t *s = &open_store(pool)->base;
    samples_t *samples = new_samples();
    apr_pool_t *p;

    need(apr_pool_create(&p, pool) == APR_SUCCESS, "a pool");
    for (uint64_t i = 0; i < times; i++) {
        double began = clock_us();

        look(s, p, mix(i + 99) % count);
        note(samples, began);
        apr_pool_clear(p);
    }
    print_samples("get", samples);
}

/* ---- writing ---- */

static qo_lease_t wish(uint64_t generation)
{
    qo_lease_t lease = {.generation = generation};

    need(qo_lease_holder(&lease.holder) == QO_OK, "a holder");
    return lease;
}

static void measure_leases(qo_store_t *s, uint64_t count, uint64_t times)
{
    samples_t *got = new_samples(), *refused = new_samples(), *given = new_samples();

    for (uint64_t i = 0; i < times; i++) {
        qo_hash_t key = key_of(mix(i + 7) % count);
        qo_lease_t mine = wish(1), other = wish(1);
        double began = clock_us();

        need(L->lease_acquire(s, &key, &mine, apr_time_from_sec(15), born + 1, NULL) ==
                 QO_OK,
             "lease_acquire");
        note(got, began);
        began = clock_us();
        need(L->lease_acquire(s, &key, &other, apr_time_from_sec(15), born + 1, NULL) ==
                 QO_E_CONFLICT,
             "a second lease_acquire");
        note(refused, began);
        began = clock_us();
        need(L->lease_release(s, &key, &mine, QO_OK, 0, NULL) == QO_OK, "lease_release");
        note(given, began);
    }
    print_samples("lease_acquire", got);
    print_samples("lease_refused", refused);
    print_samples("lease_release", given);
}

static void measure_writes(uint64_t count, uint64_t times)
{
    qo_store_t *s = &open_store(pool)->base;
    qo_bytes_t value = sample_value();
    samples_t *created = new_samples(), *replaced = new_samples();
    samples_t *touched = new_samples(), *deleted = new_samples(), *put = new_samples();

    for (uint64_t i = 0; i < times; i++) {
        qo_hash_t fresh = key_of(count + i), key = key_of(mix(i + 3) % count);
        double began = clock_us();

        need(L->session_create(s, &fresh, value, end_of_life(), 0, born + 1, NULL) == QO_OK,
             "session_create");
        note(created, began);
        began = clock_us();
        need(L->session_replace(s, &fresh, 1, value, born + 1, NULL) == QO_OK,
             "session_replace");
        note(replaced, began);
        began = clock_us();
        need(L->touch(s, &key, born + 1, NULL) == QO_OK, "touch");
        note(touched, began);
        began = clock_us();
        need(L->session_delete(s, &fresh, QO_STORE_ANY, born + 1, NULL) == QO_OK,
             "session_delete");
        note(deleted, began);
        began = clock_us();
        need(L->pending_put(s, &fresh, value, born + 1800000000, born + 1, NULL) == QO_OK,
             "pending_put");
        note(put, began);
    }
    print_samples("create", created);
    print_samples("replace", replaced);
    print_samples("touch", touched);
    print_samples("delete", deleted);
    print_samples("pending_put", put);
    measure_leases(s, count, times);
}

/* ---- walking ---- */

static void count_one(void *data, const qo_hash_t *key, qo_bytes_t value,
                      const qo_store_meta_t *meta)
{
    uint64_t *visits = data;

    (void)key;
    (void)value;
    (void)meta;
    ++*visits;
}

static void walk(void)
{
    qo_store_t *s = &open_store(pool)->base;
    qo_store_cursor_t cursor = {.done = false};
    samples_t *pages = new_samples();
    double began = clock_us();
    uint64_t visits = 0;

    while (!cursor.done) {
        double page = clock_us();

        need(L->session_walk(s, pool, &cursor, count_one, &visits, born + 1, NULL) == QO_OK,
             "session_walk");
        note(pages, page);
    }
    printf("walk.visits %lu\n", (unsigned long)visits);
    printf("walk.seconds %.2f\n", (clock_us() - began) / 1e6);
    print_samples("page", pages);
}

/* ---- sweeping ---- */

/* A page of somebody signed in, in a process of its own: reads a session every 200 us. */
static void read_on(samples_t *samples, pid_t parent)
{
    apr_pool_t *own, *p;
    qo_store_t *s;

    need(apr_pool_create(&own, NULL) == APR_SUCCESS &&
             apr_pool_create(&p, own) == APR_SUCCESS,
         "a pool");
    s = &open_store(own)->base;
    for (uint64_t i = 0; getppid() == parent; i++) {
        double began = clock_us();

        look(s, p, UINT64_MAX / 8 + i % 100);
        note(samples, began);
        apr_pool_clear(p);
        (void)usleep(200);
    }
    _exit(0);
}

/* Somebody who signs in, is refreshed and seen: writes every 20 ms. */
static void write_on(samples_t *samples, pid_t parent)
{
    qo_bytes_t value = sample_value();
    apr_pool_t *own;
    qo_store_t *s;

    need(apr_pool_create(&own, NULL) == APR_SUCCESS, "a pool");
    s = &open_store(own)->base;
    for (uint64_t i = 0; getppid() == parent; i++) {
        qo_hash_t key = key_of(UINT64_MAX / 8 + i % 100);
        double began = clock_us();
        qo_store_meta_t meta;
        qo_bytes_t got;

        need(L->touch(s, &key, born + 1, NULL) == QO_OK, "touch");
        need(L->session_get(s, own, &key, &got, &meta, born + 1, NULL) == QO_OK, "get");
        need(L->session_replace(s, &key, meta.version, value, born + 1, NULL) == QO_OK,
             "session_replace");
        note(samples, began);
        (void)usleep(20000);
    }
    _exit(0);
}

static pid_t start(void (*work)(samples_t *, pid_t), samples_t *samples)
{
    pid_t parent = getpid(), child = fork();

    need(child >= 0, "fork");
    if (child == 0) {
        work(samples, parent);
    }
    return child;
}

static void stop(pid_t child)
{
    (void)kill(child, SIGTERM);
    need(waitpid(child, NULL, 0) == child, "waiting");
}

/* What the two see in `seconds`, or while this process sweeps. */
static void observe(const char *when, unsigned int seconds, uint64_t count)
{
    samples_t *reads = new_samples(), *writes = new_samples(), *batches = new_samples();
    pid_t reader = start(read_on, reads), writer = start(write_on, writes);
    apr_time_t late = end_of_life() - apr_time_from_sec(1);
    apr_pool_t *own;
    bool more = seconds == 0;
    double began;
    qo_store_lmdb_t *s;

    need(apr_pool_create(&own, NULL) == APR_SUCCESS, "a pool");
    s = open_store(own);
    (void)sleep(seconds > 0 ? seconds : 1);
    reads->count = writes->count = 0;
    began = clock_us();
    while (more) {
        double batch = clock_us();

        need(L->sweep(&s->base, late, QO_SWEEP_BATCH, &more, NULL) == QO_OK, "sweep");
        note(batches, batch);
    }
    if (seconds > 0) {
        (void)sleep(seconds);
    } else {
        printf("sweep.seconds %.1f\n", (clock_us() - began) / 1e6);
        printf("sweep.each %.1f\n", (clock_us() - began) / (double)count);
    }
    stop(reader);
    stop(writer);
    if (seconds == 0) {
        print_samples("batch", batches);
    }
    print_samples(apr_pstrcat(pool, "read.", when, NULL), reads);
    print_samples(apr_pstrcat(pool, "write.", when, NULL), writes);
    apr_pool_destroy(own);
}

/* A hundred who live on, for those who look on. */
static void add_survivors(void)
{
    apr_pool_t *own;
    qo_store_lmdb_t *s;
    qo_bytes_t value = sample_value();

    need(apr_pool_create(&own, NULL) == APR_SUCCESS, "a pool");
    s = open_store(own);
    for (uint64_t i = 0; i < 100; i++) {
        qo_hash_t key = key_of(UINT64_MAX / 8 + i);

        need(L->session_create(&s->base, &key, value, end_of_life() * 2, 0, born, NULL) ==
                 QO_OK,
             "session_create");
    }
    apr_pool_destroy(own);
}

static void sweep(uint64_t count)
{
    add_survivors();
    observe("quiet", 5, count);
    observe("sweeping", 0, count);
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    uint64_t count = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    uint64_t times = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;

    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        return 1;
    }
    dir = argc > 2 ? argv[2] : NULL;
    born = apr_time_from_sec(1900000000);
    if (strcmp(what, "fill") == 0 && count > 0) {
        fill(count);
    } else if (strcmp(what, "look") == 0 && count > 0 && times > 0) {
        look_up(count, times);
    } else if (strcmp(what, "write") == 0 && count > 0 && times > 0) {
        measure_writes(count, times);
    } else if (strcmp(what, "walk") == 0) {
        walk();
    } else if (strcmp(what, "sweep") == 0 && count > 0) {
        sweep(count);
    } else {
        (void)fprintf(stderr, "see t/bench/store\n");
        return 2;
    }
    apr_pool_destroy(pool);
    return 0;
}
