/* What the files of the Redis provider share.
 *
 * Keys, all behind the prefix; NAME is the hash in base64url:
 *
 *   :s:NAME   a session or its tombstone
 *   :p:NAME   a pending login
 *   :o        a sorted set of the pending logins, in the order of their ends
 *   :t        one of the tombstones, so that they are not counted as sessions
 *
 * Every call is one script, so that nothing comes between, and every script may be run
 * twice: when an answer was lost, it finds what it wrote itself (by a nonce of the call, or
 * the lease's bytes) and says once more that it was done.
 *
 * Ends are kept by Redis, by its own clock; a host's clock only measures how long something
 * is to live, so that hosts whose clocks differ do not end each other's sessions. Memory
 * full is for new sessions: scripts that change a living one write a new end first, which
 * Redis always allows, and after that all else. */
#ifndef QO_STORE_REDIS_PARTS_H
#define QO_STORE_REDIS_PARTS_H

#include "qo_redis.h"
#include "qo_store_redis.h"

typedef struct {
    qo_redis_settings_t redis;
    const char *prefix;
} qo_store_redis_settings_t;

/* As qo_store_redis_check says. */
const char *qo_store_redis_parse(qo_store_redis_settings_t *out, apr_pool_t *p,
                                 const char *url);

typedef struct {
    qo_store_t base;
    const qo_store_redis_settings_t *settings;
    qo_redis_t *redis;
    uint64_t max_sessions; /* 0: as many as Redis has memory for */
    uint64_t max_pending;
} qo_store_redis_t;

/* prefix, ":s:" or ":p:", and the name */
#define QO_STORE_REDIS_PREFIX 64
#define QO_STORE_REDIS_NAME 43
#define QO_STORE_REDIS_KEY (QO_STORE_REDIS_PREFIX + 3 + QO_STORE_REDIS_NAME)

typedef struct {
    char text[QO_STORE_REDIS_KEY + 1];
    const char *name; /* the last part of it */
} qo_store_redis_key_t;

void qo_store_redis_key(qo_store_redis_key_t *out, const qo_store_redis_t *s, char kind,
                        const qo_hash_t *key);

/* The name of a sorted set, `kind` 'o' or 't'. */
typedef struct {
    char text[QO_STORE_REDIS_PREFIX + 3];
} qo_store_redis_list_t;

void qo_store_redis_list(qo_store_redis_list_t *out, const qo_store_redis_t *s, char kind);

#define QO_STORE_REDIS_NONCE 8

typedef struct {
    unsigned char bytes[QO_STORE_REDIS_NONCE];
} qo_store_redis_nonce_t;

qo_status_t qo_store_redis_nonce(qo_store_redis_nonce_t *out, qo_err_t *err);

/* What scripts answer. */
typedef enum {
    QO_STORE_REDIS_DONE,
    QO_STORE_REDIS_NONE,
    QO_STORE_REDIS_CONFLICT,
    QO_STORE_REDIS_FULL
} qo_store_redis_verdict_t;

/* The reply of a script as the port's answer. */
qo_status_t qo_store_redis_verdict(const qo_redis_reply_t *reply, qo_err_t *err);

/* A whole call of the port: begins, runs, ends. `call` is the script with its keys and
 * arguments; FULL becomes UNAVAILABLE unless `may_fill`. */
qo_status_t qo_store_redis_run(qo_store_redis_t *s, const qo_redis_script_t *script,
                               const qo_redis_command_t *call, bool vital, bool may_fill,
                               qo_err_t *err);

/* Microseconds of Redis's clock from its reply to TIME; false if it is none. */
bool qo_store_redis_time(apr_time_t *out, const qo_redis_reply_t *reply);

/* ---- sessions ---- */

/*    0      1       9       17    25     29       37     45      130
 *   +------+-------+-------+-----+------+--------+------+-------+--------------
 *   |format|version|expires|end  |idle  |seen    |writer|lease  | sealed value
 *   +------+-------+-------+-----+------+--------+------+-------+--------------
 *
 * `expires` is the host's time that the port was given; `end` and `seen` are Redis's. The
 * key lives until `end` or `idle` seconds after `seen`. `writer` is the nonce of the call
 * that wrote the value. A tombstone is a zero and the nonce of who made it. */
#define QO_STORE_REDIS_FORMAT 1
#define QO_STORE_REDIS_HEAD 130
#define QO_STORE_REDIS_SLOT 45 /* of the lease: QO_LEASE_LEN bytes, zeros when free */

typedef struct {
    uint64_t version;
    apr_time_t expires;
    apr_time_t end;
    uint32_t idle;
    apr_time_t seen;
    const unsigned char *slot;
    qo_bytes_t value;
} qo_store_redis_session_t;

/* False for what is no living session: nothing, a tombstone, damage, or over for `now`. */
bool qo_store_redis_read(qo_store_redis_session_t *out, const qo_redis_reply_t *reply,
                         apr_time_t now);

/* The port's answer for a session of which Redis has told its record and its time. */
qo_status_t qo_store_redis_give(apr_pool_t *p, const qo_redis_reply_t *record,
                                const qo_redis_reply_t *time, qo_bytes_t *value,
                                qo_store_meta_t *meta, apr_time_t now, qo_err_t *err);

/* Before any other call, in one thread: finds the names of the scripts. */
void qo_store_redis_prepare_sessions(void);
void qo_store_redis_prepare_walk(void);
void qo_store_redis_prepare_leases(void);
void qo_store_redis_prepare_pending(void);

/* A script about a session: `h` is its head, `kind` its format, and it is `live` in the
 * eyes of the host whose time ARGV[1] is. left(seen): milliseconds that it has. */
#define QO_STORE_REDIS_SCRIPT(lines)                                                       \
    "local k=KEYS[1] "                                                                     \
    "local t=redis.call('TIME') local now=t[1]*1000000+t[2] "                              \
    "local h=redis.call('GETRANGE',k,0,129) local kind=string.byte(h,1) "                  \
    "local live=kind==1 and #h==130 and struct.unpack('>I8',h,10)>tonumber(ARGV[1]) "      \
    "local function left(seen) "                                                           \
    "local e,i=struct.unpack('>I8I4',h,18) "                                               \
    "if i>0 then e=math.min(e,seen+i*1000000) end "                                        \
    "return math.floor((e-now)/1000) end " lines

/* How many keys are sessions: all of the database but those of the two lists and the lists
 * themselves. Cheap, and right when the database is ours alone. */
#define QO_STORE_REDIS_COUNT                                                               \
    "local function count(o,t) "                                                           \
    "local logins=redis.call('ZCOUNT',o,now,'+inf') "                                      \
    "return math.max(0,redis.call('DBSIZE')-logins-redis.call('ZCOUNT',t,now,'+inf')"      \
    "-redis.call('EXISTS',o)-redis.call('EXISTS',t)),logins end "

/* ---- the port's calls, in files of their own ---- */

qo_status_t qo_store_redis_session_create(qo_store_t *store, const qo_hash_t *key,
                                          qo_bytes_t value, apr_time_t expires,
                                          uint32_t idle, apr_time_t now, qo_err_t *err);
qo_status_t qo_store_redis_session_get(qo_store_t *store, apr_pool_t *p,
                                       const qo_hash_t *key, qo_bytes_t *value,
                                       qo_store_meta_t *meta, apr_time_t now,
                                       qo_err_t *err);
qo_status_t qo_store_redis_session_replace(qo_store_t *store, const qo_hash_t *key,
                                           uint64_t version, qo_bytes_t value,
                                           apr_time_t now, qo_err_t *err);
qo_status_t qo_store_redis_session_delete(qo_store_t *store, const qo_hash_t *key,
                                          uint64_t version, apr_time_t now, qo_err_t *err);
qo_status_t qo_store_redis_touch(qo_store_t *store, const qo_hash_t *key, apr_time_t now,
                                 qo_err_t *err);
qo_status_t qo_store_redis_status(qo_store_t *store, qo_store_status_t *out, qo_err_t *err);
qo_status_t qo_store_redis_session_walk(qo_store_t *store, apr_pool_t *p,
                                        qo_store_cursor_t *cursor, qo_store_visit_t visit,
                                        void *data, apr_time_t now, qo_err_t *err);

qo_status_t qo_store_redis_lease_acquire(qo_store_t *store, const qo_hash_t *key,
                                         qo_lease_t *lease, apr_time_t life, apr_time_t now,
                                         qo_err_t *err);
qo_status_t qo_store_redis_lease_release(qo_store_t *store, const qo_hash_t *key,
                                         const qo_lease_t *lease, qo_status_t why,
                                         apr_time_t wait, qo_err_t *err);

qo_status_t qo_store_redis_pending_put(qo_store_t *store, const qo_hash_t *key,
                                       qo_bytes_t value, apr_time_t expires, apr_time_t now,
                                       qo_err_t *err);
qo_status_t qo_store_redis_pending_get(qo_store_t *store, apr_pool_t *p,
                                       const qo_hash_t *key, qo_bytes_t *value, bool *taken,
                                       apr_time_t now, qo_err_t *err);
qo_status_t qo_store_redis_pending_take(qo_store_t *store, const qo_hash_t *key,
                                        apr_time_t now, qo_err_t *err);
qo_status_t qo_store_redis_sweep(qo_store_t *store, apr_time_t now, uint32_t max,
                                 bool *more, qo_err_t *err);

/* Asks Redis from a process of its own with the rights of `setup`'s user, at the start: a
 * sentence for the log when it cannot be used as it is, else "". */
void qo_store_redis_ask_around(const qo_store_redis_t *s, const qo_store_setup_t *setup,
                               qo_err_t *out);

#endif
