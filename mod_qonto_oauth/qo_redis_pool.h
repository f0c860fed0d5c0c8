/* The connections of a process to one Redis: who may have which, and whether it is tried at
 * all. For qo_redis alone. */
#ifndef QO_REDIS_POOL_H
#define QO_REDIS_POOL_H

#include "qo_redis.h"
#include "qo_redis_reply.h"

#include <pthread.h>
#include <stdatomic.h>

/* One connection and what is said on it. Of one thread while it is busy. */
struct qo_redis_talk_t {
    qo_redis_t *redis;
    qo_wire_t wire;
    qo_redis_reader_t *reader; /* NULL while the wire is closed */
    apr_pool_t *p;             /* of its replies; with an allocator of its own */
    apr_time_t until;
    apr_time_t used;  /* when it was given back */
    unsigned int age; /* how many failures there had been when it was opened */
    bool busy;
    bool sent; /* something of what is asked has been sent */
};

/* What all processes of a server know together, in memory that they share. Each field is
 * right by itself; nobody waits for anybody here, so that no process that dies is missed.
 */
typedef struct {
    atomic_bool down;
    atomic_llong probe_at; /* who is first to move it on, once it has come, may try */
    atomic_uint failures;
} qo_redis_health_t;

struct qo_redis_t {
    const qo_redis_settings_t *settings;
    qo_wire_site_t *site;
    qo_redis_health_t *health;
    atomic_int process; /* that may use it; 0: none (any more) */

    pthread_mutex_t lock; /* of all below, and of `busy` and `used` above */
    pthread_cond_t change;
    qo_redis_talk_t *talks;
    qo_err_t why; /* what this process met last */
};

/* Closes the talk's connection, if there is one. */
void qo_redis_pool_hang_up(qo_redis_talk_t *talk);

/* Redis cannot be used, or could be used just now. */
void qo_redis_pool_down(qo_redis_t *redis, const qo_err_t *why);
void qo_redis_pool_up(qo_redis_t *redis);

/* When an operation that begins now must be over. */
apr_time_t qo_redis_pool_deadline(const qo_redis_t *redis);

#endif
