#include "qo_store_lmdb.h"
#include "qo_store_lmdb_env.h"

#include <apr_strings.h>

#include <errno.h>
#include <unistd.h>

#define ROOM_TRIES 3

/* A pending login as stored:
 *
 *    0       8       16
 *   +-------+-------+-------------
 *   |created|expires| sealed value
 *   +-------+-------+-------------
 *
 * and its entry in `order`: expires, created, key; the one byte there tells whether it was
 * taken, so that taking one writes one byte. All live equally long, so the first to expire
 * is the oldest. */
#define HEAD_LEN 16
#define SPOT_LEN (HEAD_LEN + QO_HASH_LEN)

typedef struct {
    apr_time_t expires;
    unsigned char spot[SPOT_LEN];
    qo_bytes_t value;
} login_t;

static void place(login_t *login, const qo_hash_t *key, apr_time_t created)
{
    qo_store_lmdb_put64(login->spot, (uint64_t)login->expires);
    qo_store_lmdb_put64(login->spot + 8, (uint64_t)created);
    memcpy(login->spot + HEAD_LEN, key->bytes, QO_HASH_LEN);
}

static int find(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key, login_t *out)
{
    MDB_val k = qo_store_lmdb_key(key), stored;
    unsigned char *at;
    int rc = mdb_get(txn, s->fleeting.db[QO_STORE_LMDB_RECORD], &k, &stored);

    if (rc != 0) {
        return rc;
    }
    if (stored.mv_size < HEAD_LEN || stored.mv_size > HEAD_LEN + QO_LIMIT_RECORD) {
        return MDB_NOTFOUND; /* damaged: as good as none */
    }
    at = stored.mv_data;
    out->expires = (apr_time_t)qo_store_lmdb_get64(at + 8);
    out->value = (qo_bytes_t){at + HEAD_LEN, stored.mv_size - HEAD_LEN};
    place(out, key, (apr_time_t)qo_store_lmdb_get64(at));
    return 0;
}

static int find_alive(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                      apr_time_t now, login_t *out)
{
    int rc = find(s, txn, key, out);

    return rc == 0 && out->expires <= now ? MDB_NOTFOUND : rc;
}

static int read_taken(const qo_store_lmdb_t *s, MDB_txn *txn, const login_t *login,
                      bool *taken)
{
    MDB_val spot = qo_store_lmdb_val(login->spot, SPOT_LEN), flag;
    int rc = mdb_get(txn, s->fleeting.db[QO_STORE_LMDB_ORDER], &spot, &flag);

    if (rc == 0) {
        /* Anything but our zero counts as taken: damage must not allow a second use. */
        *taken = flag.mv_size != 1 || *(const unsigned char *)flag.mv_data != 0;
    }
    return rc;
}

static int write_taken(const qo_store_lmdb_t *s, MDB_txn *txn, const login_t *login,
                       bool taken)
{
    unsigned char flag = taken ? 1 : 0;

    return qo_store_lmdb_env_put(txn, s->fleeting.db[QO_STORE_LMDB_ORDER],
                                 qo_store_lmdb_val(login->spot, SPOT_LEN),
                                 qo_store_lmdb_val(&flag, 1));
}

static int write_login(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                       const login_t *login)
{
    MDB_val k = qo_store_lmdb_key(key), room = {HEAD_LEN + login->value.len, NULL};
    unsigned char *at;
    int rc = mdb_put(txn, s->fleeting.db[QO_STORE_LMDB_RECORD], &k, &room, MDB_RESERVE);

    if (rc != 0) {
        return rc;
    }
    at = room.mv_data;
    memcpy(at, login->spot + 8, 8);
    memcpy(at + 8, login->spot, 8);
    if (login->value.len > 0) {
        memcpy(at + HEAD_LEN, login->value.data, login->value.len);
    }
    return write_taken(s, txn, login, false);
}

/* -- room for pending logins ----------------------------------------------------------- */

/* Removes the `max` oldest of those that expire until then, and tells how many it found. */
static int remove_oldest(const qo_store_lmdb_t *s, MDB_txn *txn, apr_time_t until,
                         uint64_t max, uint32_t *removed)
{
    unsigned char spot[SPOT_LEN];
    MDB_cursor *order;
    int rc = mdb_cursor_open(txn, s->fleeting.db[QO_STORE_LMDB_ORDER], &order);

    if (rc != 0) {
        return rc;
    }
    for (*removed = 0; rc == 0 && *removed < max;) {
        rc = qo_store_lmdb_env_pop(order, until, spot, SPOT_LEN);
        if (rc == 0) {
            rc = qo_store_lmdb_env_drop(txn, s->fleeting.db[QO_STORE_LMDB_RECORD],
                                        qo_store_lmdb_val(spot + HEAD_LEN, QO_HASH_LEN));
            ++*removed;
        }
    }
    mdb_cursor_close(order);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int remove_some(const qo_store_lmdb_t *s, apr_time_t until, uint32_t max,
                       uint32_t *removed)
{
    MDB_txn *txn;
    int rc = qo_store_lmdb_env_write(&s->fleeting, &txn);

    if (rc == 0) {
        rc = qo_store_lmdb_env_end(txn, remove_oldest(s, txn, until, max, removed));
    }
    return rc;
}

/* How many there may be: when room gets scarce only a few, and no more at all when it would
 * not do for a session. */
static int find_limit(const qo_store_lmdb_t *s, uint64_t *limit)
{
    int rc = qo_store_lmdb_room_left(&s->fleeting, QO_ROOM_LOGINS);

    *limit = s->max_pending;
    if (!qo_store_lmdb_room_lacks(rc)) {
        return rc;
    }
    *limit = *limit < QO_PENDING_FEW ? *limit : QO_PENDING_FEW;
    return qo_store_lmdb_room_left(&s->fleeting, QO_ROOM_SESSION);
}

/* Keeps the limit; after it was lowered, in steps that hold nobody up. */
static int make_room(const qo_store_lmdb_t *s, MDB_txn *txn)
{
    uint64_t logins, excess, limit;
    uint32_t removed;
    int rc = qo_store_lmdb_env_count(txn, s->fleeting.db[QO_STORE_LMDB_RECORD], &logins);

    if (rc != 0 || (rc = find_limit(s, &limit)) != 0 || logins < limit) {
        return rc;
    }
    excess = logins - limit + 1;
    return remove_oldest(s, txn, APR_INT64_MAX,
                         excess < QO_SWEEP_BATCH ? excess : QO_SWEEP_BATCH, &removed);
}

/* The file is only full when a reader that was killed or stopped keeps pages from being
 * used again, or values are far longer than ours are. */
static int free_pages(const qo_store_lmdb_t *s)
{
    uint32_t removed;
    int dead;
    int rc = mdb_reader_check(s->fleeting.env, &dead);

    return rc != 0 ? rc : remove_some(s, APR_INT64_MAX, QO_SWEEP_BATCH, &removed);
}

/* -- the port's calls: pending logins -------------------------------------------------- */

static int insert(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                  const login_t *login, apr_time_t now)
{
    login_t old;
    int rc = find(s, txn, key, &old);

    if (rc == 0) {
        if (old.expires > now) {
            return MDB_KEYEXIST;
        }
        rc = qo_store_lmdb_env_drop(txn, s->fleeting.db[QO_STORE_LMDB_ORDER],
                                    qo_store_lmdb_val(old.spot, SPOT_LEN));
    } else if (rc == MDB_NOTFOUND) {
        rc = make_room(s, txn);
    }
    return rc != 0 ? rc : write_login(s, txn, key, login);
}

static qo_status_t pending_put(qo_store_t *store, const qo_hash_t *key, qo_bytes_t value,
                               apr_time_t expires, apr_time_t now, qo_err_t *err)
{
    const qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    login_t login = {.expires = expires, .value = value};
    MDB_txn *txn;
    int rc = MDB_MAP_FULL;

    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    if (value.len > QO_LIMIT_RECORD) {
        return qo_store_lmdb_env_answer(err, "pending_put", MDB_BAD_VALSIZE);
    }
    place(&login, key, now);
    for (int i = 0; i < ROOM_TRIES && rc == MDB_MAP_FULL; i++) {
        if ((i > 0 && (rc = free_pages(s)) != 0) ||
            (rc = qo_store_lmdb_env_write(&s->fleeting, &txn)) != 0) {
            break;
        }
        rc = qo_store_lmdb_env_end(txn, insert(s, txn, key, &login, now));
    }
    if (qo_store_lmdb_room_lacks(rc)) {
        return qo_store_lmdb_room_refuse(s, err, QO_E_STORE_UNAVAILABLE, "new login",
                                         QO_ROOM_SESSION, rc);
    }
    return qo_store_lmdb_env_answer(err, "pending_put", rc);
}

static qo_status_t pending_get(qo_store_t *store, apr_pool_t *p, const qo_hash_t *key,
                               qo_bytes_t *value, bool *taken, apr_time_t now,
                               qo_err_t *err)
{
    const qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    login_t login;
    MDB_txn *txn;
    int rc;

    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    rc = qo_store_lmdb_env_read(&s->fleeting, &txn);
    if (rc != 0) {
        return qo_store_lmdb_env_answer(err, "pending_get", rc);
    }
    if ((rc = find_alive(s, txn, key, now, &login)) == 0 &&
        (rc = read_taken(s, txn, &login, taken)) == 0) {
        value->data = apr_pmemdup(p, login.value.data, login.value.len);
        value->len = login.value.len;
    }
    mdb_txn_abort(txn);
    return qo_store_lmdb_env_answer(err, "pending_get", rc);
}

static int take(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                apr_time_t now)
{
    login_t login;
    bool taken;
    int rc = find_alive(s, txn, key, now, &login);

    if (rc != 0 || (rc = read_taken(s, txn, &login, &taken)) != 0) {
        return rc;
    }
    return taken ? MDB_KEYEXIST : write_taken(s, txn, &login, true);
}

static qo_status_t pending_take(qo_store_t *store, const qo_hash_t *key, apr_time_t now,
                                qo_err_t *err)
{
    const qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    MDB_txn *txn;
    int rc;

    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    rc = qo_store_lmdb_env_write(&s->fleeting, &txn);
    if (rc == 0) {
        rc = qo_store_lmdb_env_end(txn, take(s, txn, key, now));
    }
    return qo_store_lmdb_env_answer(err, "pending_take", rc);
}

/* -- sweep and status ------------------------------------------------------------------ */

static qo_status_t sweep(qo_store_t *store, apr_time_t now, uint32_t max, bool *more,
                         qo_err_t *err)
{
    qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    uint32_t removed = 0;
    int rc;

    *more = false;
    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    if ((rc = qo_store_lmdb_env_check_readers(s)) == 0 &&
        (rc = qo_store_lmdb_sweep_sessions(s, now, max, more)) == 0 &&
        (rc = remove_some(s, now, max, &removed)) == 0) {
        *more = *more || removed == max;
    }
    return qo_store_lmdb_env_answer(err, "sweep", rc);
}

static int measure(const qo_store_lmdb_env_t *env, uint64_t *records, uint64_t *bytes)
{
    MDB_envinfo info;
    MDB_stat stat;
    MDB_txn *txn;
    int rc = qo_store_lmdb_env_read(env, &txn);

    if (rc != 0) {
        return rc;
    }
    if ((rc = qo_store_lmdb_env_count(txn, env->db[QO_STORE_LMDB_RECORD], records)) == 0 &&
        (rc = mdb_env_info(env->env, &info)) == 0 &&
        (rc = mdb_env_stat(env->env, &stat)) == 0) {
        *bytes += (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
    }
    mdb_txn_abort(txn);
    return rc;
}

static qo_status_t status(qo_store_t *store, qo_store_status_t *out, qo_err_t *err)
{
    const qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    int rc;

    memset(out, 0, sizeof(*out));
    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    rc = measure(&s->sessions, &out->sessions, &out->bytes);
    if (rc == 0) {
        rc = measure(&s->fleeting, &out->pending, &out->bytes);
    }
    return qo_store_lmdb_env_answer(err, "status", rc);
}

/* -- opening --------------------------------------------------------------------------- */

/* `*out` is set in any case: a store that was refused here stays shut, and its calls say
 * so. */
static qo_status_t prepare(qo_store_t **out, apr_pool_t *p, const qo_store_setup_t *setup,
                           qo_err_t *err)
{
    const char *dir = setup->argument != NULL ? setup->argument : setup->dir;
    qo_store_lmdb_t *s = apr_pcalloc(p, sizeof(*s));
    qo_status_t status;

    s->base.provider = &qo_store_lmdb_provider;
    s->max_sessions = setup->max_sessions != 0 ? setup->max_sessions : QO_LIMIT_SESSIONS;
    s->max_pending = setup->max_pending != 0 ? setup->max_pending : QO_LIMIT_PENDING;
    *out = &s->base;
    if (err != NULL) {
        err->detail[0] = '\0';
    }
    if (dir == NULL || dir[0] != '/') {
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "the session store's directory must be an absolute path");
    }
    dir = apr_pstrdup(p, dir);
    s->as_it_is = setup->as_it_is;
    status = s->as_it_is ? QO_OK
                         : qo_store_lmdb_dir_prepare(p, dir, setup->uid, setup->gid, err);
    s->dir = status == QO_OK ? dir : NULL;
    return status;
}

static apr_status_t detach(void *store)
{
    qo_store_lmdb_t *s = store;

    /* A forked child that ends this pool leaves the files to the process that opened them.
     */
    if (s->process != getpid()) {
        return APR_SUCCESS;
    }
    s->process = 0; /* first, so that no thread opens again what is closed here */
    (void)pthread_mutex_lock(&s->opening); /* fails for nobody but its holder */
    s->owner = 0;
    qo_store_lmdb_env_close(&s->sessions);
    qo_store_lmdb_env_close(&s->fleeting);
    (void)pthread_mutex_unlock(&s->opening); /* held by this thread */
    return APR_SUCCESS;
}

static qo_status_t cannot_open(const qo_store_lmdb_t *s, int rc, qo_err_t *err)
{
    if (rc == ESTALE) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "lmdb: the store in %s was last used before the machine was "
                        "started: start httpd first",
                        s->dir);
    }
    return qo_error(err, QO_E_STORE_UNAVAILABLE, "lmdb: cannot open the store in %s: %s",
                    s->dir, mdb_strerror(rc));
}

static qo_status_t attach(qo_store_t *store, apr_pool_t *p, qo_err_t *err)
{
    qo_store_lmdb_t *s = (qo_store_lmdb_t *)store;
    int rc;

    if (s->owner != 0) {
        return qo_store_lmdb_env_usable(store, err) ? QO_OK : QO_E_STORE_UNAVAILABLE;
    }
    if (s->dir == NULL) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "lmdb: refused when the server started");
    }
    s->paths[0] = apr_pstrcat(p, s->dir, "/", qo_store_lmdb_sessions.file, NULL);
    s->paths[1] = apr_pstrcat(p, s->dir, "/", qo_store_lmdb_volatile.file, NULL);
    s->locks[0] = apr_pstrcat(p, s->paths[0], "-lock", NULL);
    s->locks[1] = apr_pstrcat(p, s->paths[1], "-lock", NULL);
    s->scratch = apr_palloc(p, QO_LIMIT_RECORD);
    if (pthread_mutex_init(&s->opening, NULL) != 0) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "lmdb: no mutex can be had");
    }
    s->process = getpid();
    apr_pool_cleanup_register(p, s, detach, apr_pool_cleanup_null);
    rc = qo_store_lmdb_env_open_all(s);
    return rc == 0 ? QO_OK : cannot_open(s, rc, err);
}

const qo_store_provider_t qo_store_lmdb_provider = {
    .name = "lmdb",
    .caveat = NULL,
    .prepare = prepare,
    .attach = attach,
    .pending_put = pending_put,
    .pending_get = pending_get,
    .pending_take = pending_take,
    .session_create = qo_store_lmdb_session_create,
    .session_get = qo_store_lmdb_session_get,
    .session_replace = qo_store_lmdb_session_replace,
    .session_delete = qo_store_lmdb_session_delete,
    .lease_acquire = qo_store_lmdb_lease_acquire,
    .lease_release = qo_store_lmdb_lease_release,
    .touch = qo_store_lmdb_touch,
    .sweep = sweep,
    .status = status,
    .session_walk = qo_store_lmdb_session_walk,
};
