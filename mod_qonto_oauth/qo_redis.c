#include "qo_redis.h"

#include "qo_limits.h"
#include "qo_redis_reply.h"

#include <apr_strings.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define PIECE 4096 /* read from a connection at once */

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
    bool probes; /* is the one who tries while Redis is down */
    bool sent;   /* something of what is asked has been sent */
};

struct qo_redis_t {
    const qo_redis_settings_t *settings;
    qo_wire_site_t *site;
    pid_t process; /* that may use it; 0: none (any more) */

    pthread_mutex_t lock; /* of all below, and of `busy` and `used` above */
    pthread_cond_t change;
    qo_redis_talk_t *talks;
    atomic_bool down;
    bool probing;
    apr_time_t probe_at;
    atomic_uint failures;
    qo_err_t why;
};

/* ---- making and ending ---- */

qo_redis_t *qo_redis_make(apr_pool_t *p, const qo_redis_settings_t *settings)
{
    qo_redis_t *redis = apr_pcalloc(p, sizeof(*redis));

    redis->settings = settings;
    redis->site = qo_wire_site(p, &settings->place);
    return redis;
}

static void hang_up(qo_redis_talk_t *talk)
{
    qo_wire_close(&talk->wire);
    qo_redis_reply_free(talk->reader);
    talk->reader = NULL;
}

/* A forked process closes its copies, which the others do not notice. One that is still
 * busy belongs to a thread that the end of the process takes by surprise. */
static apr_status_t detach(void *data)
{
    qo_redis_t *redis = data;

    redis->process = 0;
    for (int i = 0; i < redis->settings->connections; i++) {
        if (!redis->talks[i].busy) {
            hang_up(&redis->talks[i]);
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
    redis->down = false;
    redis->probing = false;
    redis->process = getpid();
    /* Before the pools of the talks are destroyed with `p`, as their wires go first. */
    apr_pool_pre_cleanup_register(p, redis, detach);
    return QO_OK;
}

/* ---- down and up ---- */

static void enter(qo_redis_t *redis)
{
    (void)pthread_mutex_lock(&redis->lock); /* fails for nobody but its holder */
}

static void leave(qo_redis_t *redis)
{
    (void)pthread_mutex_unlock(&redis->lock); /* held by this thread */
}

static void wake_all(qo_redis_t *redis)
{
    (void)pthread_cond_broadcast(&redis->change); /* cannot fail */
}

/* Idle connections made before a failure are not used again: they may have died with it,
 * and each would take a deadline of its own to show it. */
static void mark_down(qo_redis_t *redis, const qo_err_t *why)
{
    enter(redis);
    redis->down = true;
    redis->failures++;
    redis->probe_at = qo_wire_clock() + apr_time_from_msec(QO_REDIS_PROBE_MS);
    redis->why = *why;
    wake_all(redis);
    leave(redis);
}

static void mark_up(qo_redis_t *redis)
{
    if (redis->down) {
        enter(redis);
        redis->down = false;
        wake_all(redis);
        leave(redis);
    }
}

/* May this caller try? Under the lock. */
static bool admit(qo_redis_t *redis, bool *probes)
{
    *probes = redis->down && !redis->probing && qo_wire_clock() >= redis->probe_at;
    return !redis->down || *probes;
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

static bool wait_for_change(qo_redis_t *redis, apr_time_t until)
{
    struct timespec end = {.tv_sec = (time_t)apr_time_sec(until),
                           .tv_nsec = (long)apr_time_usec(until) * 1000};

    return pthread_cond_timedwait(&redis->change, &redis->lock, &end) != ETIMEDOUT;
}

static qo_status_t take_turn(qo_redis_talk_t **out, qo_redis_t *redis, apr_time_t until,
                             qo_err_t *err)
{
    qo_redis_talk_t *talk = NULL;
    bool probes = false;
    bool in_time = true;

    while (admit(redis, &probes) && (talk = find_free(redis)) == NULL && in_time) {
        in_time = wait_for_change(redis, until);
    }
    if (talk == NULL && redis->down) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s (not asked again yet)",
                        redis->why.detail);
    }
    if (talk == NULL) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "redis: all %d connections of this process are in use (pool=)",
                        redis->settings->connections);
    }
    talk->busy = true;
    talk->probes = probes;
    redis->probing = redis->probing || probes;
    *out = talk;
    return QO_OK;
}

/* Whoever tries while Redis is down must know before the next second is over. */
static apr_time_t deadline(const qo_redis_t *redis, bool probes)
{
    int ms = redis->settings->timeout_ms;

    if (probes && ms > QO_REDIS_TIMEOUT_MS) {
        ms = QO_REDIS_TIMEOUT_MS;
    }
    return qo_wire_clock() + apr_time_from_msec(ms);
}

static bool is_stale(const qo_redis_talk_t *talk)
{
    return talk->age != talk->redis->failures ||
           qo_wire_clock() - talk->used > apr_time_from_sec(QO_REDIS_IDLE) ||
           !qo_wire_quiet(&talk->wire);
}

qo_status_t qo_redis_begin(qo_redis_talk_t **out, qo_redis_t *redis, qo_err_t *err)
{
    apr_time_t until = deadline(redis, false);
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
    (*out)->until = (*out)->probes ? deadline(redis, true) : until;
    if ((*out)->reader != NULL && is_stale(*out)) {
        hang_up(*out);
    }
    return QO_OK;
}

void qo_redis_end(qo_redis_talk_t *talk)
{
    qo_redis_t *redis = talk->redis;

    apr_pool_clear(talk->p);
    enter(redis);
    if (talk->probes) {
        redis->probing = false;
    }
    talk->probes = false;
    talk->busy = false;
    talk->used = qo_wire_clock();
    (void)pthread_cond_signal(&redis->change); /* cannot fail */
    leave(redis);
}

/* ---- talking ---- */

static qo_status_t receive(qo_redis_talk_t *talk, qo_redis_reply_t *reply, qo_err_t *err)
{
    char piece[PIECE];
    qo_redis_reply_state_t state;

    while ((state = qo_redis_reply_next(talk->reader, reply, talk->p)) ==
           QO_REDIS_REPLY_PART) {
        size_t got;
        qo_status_t status =
            qo_wire_receive(&talk->wire, piece, sizeof(piece), &got, talk->until, err);

        if (status != QO_OK) {
            return status;
        }
        if (!qo_redis_reply_feed(talk->reader, piece, got)) {
            return qo_error(err, QO_E_STORE_UNAVAILABLE, "the answer is too long");
        }
    }
    return state == QO_REDIS_REPLY_WHOLE ? QO_OK
                                         : qo_error(err, QO_E_STORE_UNAVAILABLE,
                                                    "the answer is not Redis's protocol");
}

/* On a connection that is open. */
static qo_status_t exchange(qo_redis_talk_t *talk, qo_redis_reply_t *replies,
                            const qo_redis_command_t *commands, int count, qo_err_t *err)
{
    qo_bytes_t said;
    qo_status_t status;

    if (!qo_redis_reply_format(&said, talk->p, commands, count)) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "no memory");
    }
    talk->sent = true;
    status = qo_wire_send(&talk->wire, said.data, said.len, talk->until, err);
    for (int i = 0; status == QO_OK && i < count; i++) {
        status = receive(talk, &replies[i], err);
    }
    if (status == QO_OK && !qo_redis_reply_finish(talk->reader)) {
        status = qo_error(err, QO_E_STORE_UNAVAILABLE, "it answers what was not asked");
    }
    return status;
}

static qo_status_t expect_ok(qo_redis_talk_t *talk, const qo_redis_command_t *command,
                             qo_err_t *err)
{
    qo_redis_reply_t reply;
    qo_status_t status = exchange(talk, &reply, command, 1, err);

    if (status == QO_OK && !(reply.kind == QO_REDIS_TEXT && reply.text.len == 2 &&
                             memcmp(reply.text.data, "OK", 2) == 0)) {
        (void)qo_redis_refusal(&reply, err);
        status = QO_E_STORE_UNAVAILABLE;
    }
    return status;
}

static qo_status_t authenticate(qo_redis_talk_t *talk, qo_err_t *err)
{
    const qo_redis_settings_t *settings = talk->redis->settings;
    qo_redis_command_t command;
    qo_err_t why = {.detail = ""};

    if (settings->password == NULL) {
        return QO_OK;
    }
    qo_redis_begin_command(&command, "AUTH");
    if (settings->user != NULL) {
        qo_redis_add_text(&command, settings->user);
    }
    qo_redis_add_text(&command, settings->password);
    if (expect_ok(talk, &command, &why) == QO_OK) {
        return QO_OK;
    }
    return qo_error(err, QO_E_STORE_UNAVAILABLE, "logging in: %s", why.detail);
}

static qo_status_t select_database(qo_redis_talk_t *talk, qo_err_t *err)
{
    qo_redis_command_t command;
    qo_err_t why = {.detail = ""};

    if (talk->redis->settings->database == 0) {
        return QO_OK;
    }
    qo_redis_begin_command(&command, "SELECT");
    qo_redis_add_number(&command, talk->redis->settings->database);
    if (expect_ok(talk, &command, &why) == QO_OK) {
        return QO_OK;
    }
    return qo_error(err, QO_E_STORE_UNAVAILABLE, "choosing database %d: %s",
                    talk->redis->settings->database, why.detail);
}

static qo_status_t connect_anew(qo_redis_talk_t *talk, qo_err_t *err)
{
    bool before = talk->sent;
    qo_status_t status;

    hang_up(talk);
    talk->age = talk->redis->failures;
    status = qo_wire_open(&talk->wire, talk->redis->site, talk->until, err);
    if (status != QO_OK) {
        return status;
    }
    talk->reader = qo_redis_reply_reader();
    if (talk->reader == NULL) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "no memory");
    }
    status = authenticate(talk, err);
    if (status == QO_OK) {
        status = select_database(talk, err);
    }
    talk->sent = talk->sent && before;
    return status;
}

static qo_status_t fail(qo_redis_talk_t *talk, const qo_err_t *why, qo_err_t *err)
{
    qo_err_t all = {.detail = ""};

    hang_up(talk);
    (void)qo_error(&all, QO_E_STORE_UNAVAILABLE, "redis at %s: %s",
                   qo_wire_shown(talk->redis->site), why->detail);
    mark_down(talk->redis, &all);
    return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s", all.detail);
}

/* A connection that is to be used no more although it works: behind it is a replica now, or
 * a server that has forgotten who we are. */
static bool is_lost(const qo_redis_reply_t *reply)
{
    static const char *const CODES[] = {"READONLY", "MASTERDOWN", "NOAUTH"};

    for (size_t i = 0; i < sizeof(CODES) / sizeof(CODES[0]); i++) {
        if (reply->kind == QO_REDIS_REFUSAL &&
            strstr((const char *)reply->text.data, CODES[i]) != NULL) {
            return true;
        }
    }
    return false;
}

qo_status_t qo_redis_ask(qo_redis_talk_t *talk, qo_redis_reply_t *replies,
                         const qo_redis_command_t *commands, int count, qo_err_t *err)
{
    bool kept = talk->reader != NULL;
    qo_err_t why = {.detail = ""};
    qo_status_t status = kept ? QO_OK : connect_anew(talk, &why);

    if (status == QO_OK) {
        status = exchange(talk, replies, commands, count, &why);
    }
    /* A kept connection may have been closed for reasons of its own. */
    if (status != QO_OK && kept && qo_wire_clock() < talk->until) {
        status = connect_anew(talk, &why);
        if (status == QO_OK) {
            status = exchange(talk, replies, commands, count, &why);
        }
    }
    if (status != QO_OK) {
        return fail(talk, &why, err);
    }
    mark_up(talk->redis);
    if (is_lost(&replies[0])) {
        hang_up(talk);
    }
    return QO_OK;
}

/* ---- scripts ---- */

static bool is_unknown(const qo_redis_reply_t *reply)
{
    return reply->kind == QO_REDIS_REFUSAL &&
           strncmp((const char *)reply->text.data, "NOSCRIPT", 8) == 0;
}

static qo_status_t run_once(qo_redis_talk_t *talk, qo_redis_reply_t *reply,
                            const qo_redis_script_t *script, const qo_redis_command_t *call,
                            qo_err_t *err)
{
    qo_redis_command_t whole;
    qo_status_t status = qo_redis_ask(talk, reply, call, 1, err);

    if (status != QO_OK || !is_unknown(reply)) {
        return status;
    }
    whole = *call;
    whole.word[0] = "EVAL";
    whole.len[0] = 4;
    whole.word[1] = script->text;
    whole.len[1] = strlen(script->text);
    return qo_redis_ask(talk, reply, &whole, 1, err);
}

qo_status_t qo_redis_run(qo_redis_talk_t *talk, qo_redis_reply_t *reply,
                         const qo_redis_script_t *script, const qo_redis_command_t *call,
                         bool vital, qo_err_t *err)
{
    qo_status_t status;

    talk->sent = false;
    status = run_once(talk, reply, script, call, err);
    if (status != QO_OK && vital && talk->sent) {
        talk->until = deadline(talk->redis, talk->probes);
        status = run_once(talk, reply, script, call, err);
    }
    if (status != QO_OK) {
        return status;
    }
    return reply->kind == QO_REDIS_REFUSAL ? qo_redis_refusal(reply, err) : QO_OK;
}
