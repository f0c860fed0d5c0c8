#include "qo_redis_pool.h"

#include "qo_limits.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* ---- the lock ---- */

static void enter(qo_redis_t *redis)
{
    (void)pthread_mutex_lock(&redis->lock); /* fails for nobody but its holder */
}

static void leave(qo_redis_t *redis)
{
    (void)pthread_mutex_unlock(&redis->lock); /* held by this thread */
}

static bool wait_for_change(qo_redis_t *redis, apr_time_t until)
{
    struct timespec end = {.tv_sec = (time_t)apr_time_sec(until),
                           .tv_nsec = (long)apr_time_usec(until) * 1000};

    return pthread_cond_timedwait(&redis->change, &redis->lock, &end) != ETIMEDOUT;
}

/* ---- making and ending ---- */

static apr_status_t forget_health(void *health)
{
    (void)munmap(health, sizeof(qo_redis_health_t)); /* it was mapped in this very size */
    return APR_SUCCESS;
}

/* Forked processes have it in common. Without such memory each knows only its own. */
static qo_redis_health_t *new_health(apr_pool_t *p)
{
    qo_redis_health_t *health = mmap(NULL, sizeof(*health), PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (health == MAP_FAILED) {
        return apr_pcalloc(p, sizeof(*health));
    }
    apr_pool_cleanup_register(p, health, forget_health, apr_pool_cleanup_null);
    return health;
}

qo_redis_t *qo_redis_make(apr_pool_t *p, const qo_redis_settings_t *settings)
{
    qo_redis_t *redis = apr_pcalloc(p, sizeof(*redis));

    redis->settings = settings;
    redis->health = new_health(p);
    redis->site = qo_wire_site(p, &settings->place);
    return redis;
}

void qo_redis_pool_hang_up(qo_redis_talk_t *talk)
{
    qo_wire_close(&talk->wire);
    qo_redis_reply_free(talk->reader);
    talk->reader = NULL;
}

static bool any_busy(const qo_redis_t *redis)
{
    for (int i = 0; i < redis->settings->connections; i++) {
        if (redis->talks[i].busy) {
            return true;
        }
    }
    return false;
}

/* A thread may still be talking, such as the one that sweeps; its deadline is not far. */
static void wait_for_last(qo_redis_t *redis)
{
    apr_time_t until =
        qo_wire_clock() + 3 * apr_time_from_msec(redis->settings->timeout_ms);

    enter(redis);
    redis->process = 0; /* nobody else begins */
    while (any_busy(redis) && qo_wire_clock() < until) {
        (void)wait_for_change(redis, qo_wire_clock() + apr_time_from_msec(10));
    }
    leave(redis);
}

/* A forked process closes its copies, which the others do not notice. */
static apr_status_t detach(void *data)
{
    qo_redis_t *redis = data;

    if (redis->process == getpid()) {
        wait_for_last(redis);
    }
    redis->process = 0;
    for (int i = 0; i < redis->settings->connections; i++) {
        if (!redis->talks[i].busy) {
            qo_redis_pool_hang_up(&redis->talks[i]);
        }
    }
    return APR_SUCCESS;
}

/* Pools of one parent share its allocator, which need not stand two threads at once. */
static bool give_pool(qo_redis_talk_t *talk, apr_pool_t *p)
{
    apr_allocator_t *allocator;

    if (apr_allocator_create(&allocator) != APR_SUCCESS) {
        return false;
    }
    apr_allocator_max_free_set(allocator, (apr_size_t)4 * QO_LIMIT_RECORD);
    if (apr_pool_create_ex(&talk->p, p, NULL, allocator) != APR_SUCCESS) {
        apr_allocator_destroy(allocator);
        return false;
    }
    apr_allocator_owner_set(allocator, talk->p);
    return true;
}

static bool prepare_lock(qo_redis_t *redis)
{
    pthread_condattr_t steady;
    bool good;

    if (pthread_condattr_init(&steady) != 0) {
        return false;
    }
    good = pthread_condattr_setclock(&steady, CLOCK_MONOTONIC) == 0 &&
           pthread_cond_init(&redis->change, &steady) == 0 &&
           pthread_mutex_init(&redis->lock, NULL) == 0;
    (void)pthread_condattr_destroy(&steady);
    return good;
}

qo_status_t qo_redis_attach(qo_redis_t *redis, apr_pool_t *p, qo_err_t *err)
{
    int count = redis->settings->connections;

    if (redis->process == getpid()) {
        return QO_OK;
    }
    redis->talks = apr_pcalloc(p, (apr_size_t)count * sizeof(*redis->talks));
    for (int i = 0; i < count; i++) {
        redis->talks[i].redis = redis;
        redis->talks[i].wire = (qo_wire_t)QO_WIRE_CLOSED;
        if (!give_pool(&redis->talks[i], p)) {
            return qo_error(err, QO_E_STORE_UNAVAILABLE, "redis: no memory");
        }
    }
    if (!prepare_lock(redis)) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "redis: no mutex can be had");
    }
    redis->process = getpid();
    /* Before the pools of the talks are destroyed with `p`, as their wires go first. */
    apr_pool_pre_cleanup_register(p, redis, detach);
    return QO_OK;
}

/* ---- down and up ---- */

static void wake_all(qo_redis_t *redis)
{
    (void)pthread_cond_broadcast(&redis->change); /* cannot fail */
}

/* Idle connections made before a failure are not used again: they may have died with it,
 * and each would take a deadline of its own to show it. */
void qo_redis_pool_down(qo_redis_t *redis, const qo_err_t *why)
{
    qo_redis_health_t *health = redis->health;

    atomic_store(&health->probe_at,
                 qo_wire_clock() + apr_time_from_msec(QO_REDIS_PROBE_MS));
    atomic_fetch_add(&health->failures, 1);
    atomic_store(&health->down, true);
    enter(redis);
    redis->why = *why;
    wake_all(redis);
    leave(redis);
}

void qo_redis_pool_up(qo_redis_t *redis)
{
    if (atomic_exchange(&redis->health->down, false)) {
        enter(redis);
        wake_all(redis);
        leave(redis);
    }
}

/* May this caller try? While Redis is down one may, and if that one dies of it, another
 * when its time is up. */
static bool admit(const qo_redis_t *redis)
{
    apr_time_t clock = qo_wire_clock();
    long long due = atomic_load(&redis->health->probe_at);

    return !atomic_load(&redis->health->down) ||
           (clock >= due && atomic_compare_exchange_strong(
                                &redis->health->probe_at, &due,
                                clock + apr_time_from_msec(redis->settings->timeout_ms +
                                                           QO_REDIS_PROBE_MS)));
}

static qo_status_t not_now(const qo_redis_t *redis, qo_err_t *err)
{
    if (redis->why.detail[0] == '\0') {
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "redis at %s: another process found it away (not asked again yet)",
                        qo_wire_shown(redis->site));
    }
    return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s (not asked again yet)",
                    redis->why.detail);
}

/* ---- the pool ---- */

/* The one used last, so that what is not needed grows old and is closed. */
static qo_redis_talk_t *find_free(const qo_redis_t *redis)
{
    qo_redis_talk_t *best = NULL;

    for (int i = 0; i < redis->settings->connections; i++) {
        qo_redis_talk_t *talk = &redis->talks[i];

        if (!talk->busy && (best == NULL || talk->used > best->used)) {
            best = talk;
        }
    }
    return best;
}

static qo_status_t take_turn(qo_redis_talk_t **out, qo_redis_t *redis, apr_time_t until,
                             qo_err_t *err)
{
    qo_redis_talk_t *talk;
    bool in_time = true;

    while (redis->process != 0 && !atomic_load(&redis->health->down) &&
           find_free(redis) == NULL && in_time) {
        in_time = wait_for_change(redis, until);
    }
    talk = find_free(redis);
    if (redis->process == 0) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "redis: the process is ending");
    }
    if (talk == NULL && !atomic_load(&redis->health->down)) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "redis: all %d connections of this process are in use (pool=)",
                        redis->settings->connections);
    }
    if (talk == NULL || !admit(redis)) {
        return not_now(redis, err);
    }
    talk->busy = true;
    *out = talk;
    return QO_OK;
}

apr_time_t qo_redis_pool_deadline(const qo_redis_t *redis)
{
    return qo_wire_clock() + apr_time_from_msec(redis->settings->timeout_ms);
}

static bool is_stale(const qo_redis_talk_t *talk)
{
    return talk->age != atomic_load(&talk->redis->health->failures) ||
           qo_wire_clock() - talk->used > apr_time_from_sec(QO_REDIS_IDLE) ||
           !qo_wire_quiet(&talk->wire);
}

qo_status_t qo_redis_begin(qo_redis_talk_t **out, qo_redis_t *redis, qo_err_t *err)
{
    apr_time_t until = qo_redis_pool_deadline(redis);
    qo_status_t status;

    if (redis->process != getpid()) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "redis: not opened by this process");
    }
    enter(redis);
    status = take_turn(out, redis, until, err);
    leave(redis);
    if (status != QO_OK) {
        return status;
    }
    (*out)->until = until;
    if ((*out)->reader != NULL && is_stale(*out)) {
        qo_redis_pool_hang_up(*out);
    }
    return QO_OK;
}

void qo_redis_end(qo_redis_talk_t *talk)
{
    qo_redis_t *redis = talk->redis;

    apr_pool_clear(talk->p);
    enter(redis);
    talk->busy = false;
    talk->used = qo_wire_clock();
    (void)pthread_cond_signal(&redis->change); /* cannot fail */
    leave(redis);
}
