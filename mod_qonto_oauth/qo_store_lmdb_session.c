#include "qo_store_lmdb_env.h"

#include <apr_strings.h>

/* A session as stored:
 *
 *    0       8        16     20       28    36
 *   +-------+--------+------+--------+-----+-------------
 *   |version|expires | idle |changed | due | sealed value
 *   +-------+--------+------+--------+-----+-------------
 *
 * `changed` is when it was created or last replaced, a sign of life as well as a touch;
 * `due` is where it stands in `order`. That is never later than its true end, as an end
 * only moves on: the sweeper looks then, and puts a living session further back. So a touch
 * or a replace leaves `order` alone. */
#define HEAD_LEN 36
#define DUE_LEN (8 + QO_HASH_LEN)

typedef struct {
    uint64_t version;
    apr_time_t expires;
    uint32_t idle;
    apr_time_t changed;
    apr_time_t due;
    qo_bytes_t value;
} record_t;

/* A record that does not parse is damaged and counts as none: UNAVAILABLE would lock its
 * visitor out for ever. */
static int parse(const MDB_val *stored, record_t *out)
{
    unsigned char *at = stored->mv_data;
    uint32_t idle;

    if (stored->mv_size < HEAD_LEN || stored->mv_size > HEAD_LEN + QO_LIMIT_RECORD) {
        return MDB_NOTFOUND;
    }
    memcpy(&idle, at + 16, sizeof(idle));
    out->version = qo_store_lmdb_get64(at);
    out->expires = (apr_time_t)qo_store_lmdb_get64(at + 8);
    out->idle = be32toh(idle);
    out->changed = (apr_time_t)qo_store_lmdb_get64(at + 20);
    out->due = (apr_time_t)qo_store_lmdb_get64(at + 28);
    out->value = (qo_bytes_t){at + HEAD_LEN, stored->mv_size - HEAD_LEN};
    return 0;
}

/* The value points into the file: good until the transaction writes or ends. */
static int find(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key, record_t *out)
{
    MDB_val k = qo_store_lmdb_key(key), stored;
    int rc = mdb_get(txn, s->sessions.db[QO_STORE_LMDB_RECORD], &k, &stored);

    return rc != 0 ? rc : parse(&stored, out);
}

static int write_record(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                        const record_t *record)
{
    MDB_val k = qo_store_lmdb_key(key), room = {HEAD_LEN + record->value.len, NULL};
    uint32_t idle = htobe32(record->idle);
    unsigned char *at;
    int rc = mdb_put(txn, s->sessions.db[QO_STORE_LMDB_RECORD], &k, &room, MDB_RESERVE);

    if (rc != 0) {
        return rc;
    }
    at = room.mv_data;
    qo_store_lmdb_put64(at, record->version);
    qo_store_lmdb_put64(at + 8, (uint64_t)record->expires);
    memcpy(at + 16, &idle, sizeof(idle));
    qo_store_lmdb_put64(at + 20, (uint64_t)record->changed);
    qo_store_lmdb_put64(at + 28, (uint64_t)record->due);
    if (record->value.len > 0) {
        memcpy(at + HEAD_LEN, record->value.data, record->value.len);
    }
    return 0;
}

static MDB_val due_key(unsigned char out[DUE_LEN], const qo_hash_t *key, apr_time_t due)
{
    qo_store_lmdb_put64(out, (uint64_t)due);
    memcpy(out + 8, key->bytes, QO_HASH_LEN);
    return qo_store_lmdb_val(out, DUE_LEN);
}

static int enlist(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                  apr_time_t due)
{
    unsigned char spot[DUE_LEN];

    return qo_store_lmdb_env_put(txn, s->sessions.db[QO_STORE_LMDB_ORDER],
                                 due_key(spot, key, due), qo_store_lmdb_val("", 0));
}

static int strike(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                  apr_time_t due)
{
    unsigned char spot[DUE_LEN];

    return qo_store_lmdb_env_drop(txn, s->sessions.db[QO_STORE_LMDB_ORDER],
                                  due_key(spot, key, due));
}

/* -- life and death -------------------------------------------------------------------- */

/* After the clock was set back, times from its future mean now. */
static apr_time_t last_seen(const record_t *record, apr_time_t touch, apr_time_t now)
{
    apr_time_t seen = touch > record->changed ? touch : record->changed;

    return seen < now ? seen : now;
}

static apr_time_t end_of(const record_t *record, apr_time_t seen)
{
    apr_time_t end = seen + apr_time_from_sec((apr_time_t)record->idle);

    return record->idle != 0 && end < record->expires ? end : record->expires;
}

static bool alive(const record_t *record, apr_time_t touch, apr_time_t now)
{
    return end_of(record, last_seen(record, touch, now)) > now;
}

/* The session if it is alive, else MDB_NOTFOUND. */
static int find_alive(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                      apr_time_t touch, apr_time_t now, record_t *out)
{
    int rc = find(s, txn, key, out);

    return rc == 0 && !alive(out, touch, now) ? MDB_NOTFOUND : rc;
}

/* -- the port's calls ------------------------------------------------------------------ */

/* MDB_MAP_FULL also stands for the software limit. */
static int create(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                  apr_time_t touch, const record_t *record)
{
    record_t old;
    uint64_t sessions;
    int rc = find(s, txn, key, &old);

    if (rc == 0) {
        if (alive(&old, touch, record->changed)) {
            return MDB_KEYEXIST;
        }
        rc = strike(s, txn, key, old.due);
    } else if (rc == MDB_NOTFOUND) {
        rc = qo_store_lmdb_env_count(txn, s->sessions.db[QO_STORE_LMDB_RECORD], &sessions);
        if (rc == 0 && sessions >= s->max_sessions) {
            return MDB_MAP_FULL;
        }
    }
    if (rc == 0) {
        rc = enlist(s, txn, key, record->due);
    }
    return rc != 0 ? rc : write_record(s, txn, key, record);
}

qo_status_t qo_store_lmdb_session_create(qo_store_t *store, const qo_hash_t *key,
                                         qo_bytes_t value, apr_time_t expires,
                                         uint32_t idle, apr_time_t now, qo_err_t *err)
{
    const qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    record_t record = {1, expires, idle, now, 0, value};
    apr_time_t touch;
    MDB_txn *txn;
    int rc;

    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    if (value.len > QO_LIMIT_RECORD) {
        return qo_store_lmdb_env_answer(err, "session_create", MDB_BAD_VALSIZE);
    }
    record.due = end_of(&record, now);
    if ((rc = qo_store_lmdb_touch_read(s, key, &touch)) == 0 &&
        (rc = qo_store_lmdb_env_write(&s->sessions, &txn)) == 0) {
        rc = qo_store_lmdb_env_end(txn, create(s, txn, key, touch, &record));
    }
    if (rc == MDB_MAP_FULL) {
        return qo_error(err, QO_E_STORE_FULL, "lmdb: the limit is %llu sessions",
                        (unsigned long long)s->max_sessions);
    }
    return qo_store_lmdb_env_answer(err, "session_create", rc);
}

qo_status_t qo_store_lmdb_session_get(qo_store_t *store, apr_pool_t *p,
                                      const qo_hash_t *key, qo_bytes_t *value,
                                      qo_store_meta_t *meta, apr_time_t now, qo_err_t *err)
{
    const qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    record_t record;
    apr_time_t touch;
    MDB_txn *txn;
    int rc;

    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    if ((rc = qo_store_lmdb_touch_read(s, key, &touch)) != 0 ||
        (rc = qo_store_lmdb_env_read(&s->sessions, &txn)) != 0) {
        return qo_store_lmdb_env_answer(err, "session_get", rc);
    }
    rc = find_alive(s, txn, key, touch, now, &record);
    if (rc == 0) {
        value->data = apr_pmemdup(p, record.value.data, record.value.len);
        value->len = record.value.len;
        *meta = (qo_store_meta_t){record.version, record.expires, record.idle,
                                  last_seen(&record, touch, now)};
    }
    mdb_txn_abort(txn);
    return qo_store_lmdb_env_answer(err, "session_get", rc);
}

static int replace(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                   uint64_t version, qo_bytes_t value, apr_time_t touch, apr_time_t now)
{
    record_t record;
    int rc = find_alive(s, txn, key, touch, now, &record);

    if (rc != 0) {
        return rc;
    }
    if (record.version != version) {
        return MDB_KEYEXIST;
    }
    record.version++;
    record.changed = now;
    record.value = value;
    return write_record(s, txn, key, &record);
}

/* The commit has synced the data but not the page that makes it count (MDB_NOMETASYNC): a
 * crash of the machine would bring back the state before. That would be a refresh token
 * already spent, or a session already signed out. */
static int sync_last(const qo_store_lmdb_t *s, int rc)
{
    return rc != 0 ? rc : mdb_env_sync(s->sessions.env, 1);
}

qo_status_t qo_store_lmdb_session_replace(qo_store_t *store, const qo_hash_t *key,
                                          uint64_t version, qo_bytes_t value,
                                          apr_time_t now, qo_err_t *err)
{
    const qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    apr_time_t touch;
    MDB_txn *txn;
    int rc;

    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    if (value.len > QO_LIMIT_RECORD) {
        return qo_store_lmdb_env_answer(err, "session_replace", MDB_BAD_VALSIZE);
    }
    if ((rc = qo_store_lmdb_touch_read(s, key, &touch)) == 0 &&
        (rc = qo_store_lmdb_env_write(&s->sessions, &txn)) == 0) {
        rc = replace(s, txn, key, version, value, touch, now);
        rc = sync_last(s, qo_store_lmdb_env_end(txn, rc));
    }
    return qo_store_lmdb_env_answer(err, "session_replace", rc);
}

static int delete_session(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key)
{
    MDB_val k = qo_store_lmdb_key(key);
    record_t record;
    int rc = find(s, txn, key, &record);

    if (rc == 0) {
        rc = strike(s, txn, key, record.due);
    }
    /* Not found may mean damaged, which has to go as well. */
    if (rc == 0 || rc == MDB_NOTFOUND) {
        rc = mdb_del(txn, s->sessions.db[QO_STORE_LMDB_RECORD], &k, NULL);
    }
    return rc;
}

qo_status_t qo_store_lmdb_session_delete(qo_store_t *store, const qo_hash_t *key,
                                         uint64_t version, apr_time_t now, qo_err_t *err)
{
    (void)version;
    (void)now;
    const qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    MDB_txn *txn;
    int rc;

    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    rc = qo_store_lmdb_env_write(&s->sessions, &txn);
    if (rc == 0) {
        rc = sync_last(s, qo_store_lmdb_env_end(txn, delete_session(s, txn, key)));
    }
    if (rc == 0) {
        qo_store_lmdb_touch_forget(s, key, 1);
    }
    return qo_store_lmdb_env_answer(err, "session_delete", rc);
}

/* Looks for the session while it holds the write lock of the touches: a session_delete
 * commits first and only then waits for that lock, so it always finds what is left here. */
static int touch_alive(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                       apr_time_t now)
{
    MDB_txn *sessions;
    record_t record;
    apr_time_t touch;
    int rc = qo_store_lmdb_touch_find(s, txn, key, &touch);

    if (rc != 0 || (rc = qo_store_lmdb_env_read(&s->sessions, &sessions)) != 0) {
        return rc;
    }
    rc = find_alive(s, sessions, key, touch, now, &record);
    mdb_txn_abort(sessions);
    if (rc != 0) {
        return rc;
    }
    return qo_store_lmdb_touch_write(s, txn, key, now);
}

qo_status_t qo_store_lmdb_session_touch(qo_store_t *store, const qo_hash_t *key,
                                        apr_time_t now, qo_err_t *err)
{
    const qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    MDB_txn *txn;
    int rc;

    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    rc = qo_store_lmdb_env_write(&s->fleeting, &txn);
    if (rc == 0) {
        rc = qo_store_lmdb_env_end(txn, touch_alive(s, txn, key, now));
    }
    return qo_store_lmdb_env_answer(err, "touch", rc);
}

/* -- sweeping -------------------------------------------------------------------------- */

typedef struct {
    qo_store_lmdb_t *s;
    MDB_txn *sessions; /* the one of the two that is swept is writing */
    MDB_txn *fleeting;
    apr_time_t now;
    uint32_t max;
    uint32_t looked;
    uint32_t dead;
    qo_hash_t keys[QO_SWEEP_BATCH]; /* of the dead */
} sweep_t;

/* Judges the session of an entry just taken out of `order`. */
static int review(sweep_t *w, const qo_hash_t *key, apr_time_t due)
{
    MDB_val k = qo_store_lmdb_key(key);
    record_t record;
    apr_time_t touch;
    int rc = find(w->s, w->sessions, key, &record);

    if (rc != 0 && rc != MDB_NOTFOUND) {
        return rc;
    }
    if (rc == 0 && record.due != due) {
        return 0;
    }
    if (rc == 0) {
        if ((rc = qo_store_lmdb_touch_find(w->s, w->fleeting, key, &touch)) != 0) {
            return rc;
        }
        record.due = end_of(&record, last_seen(&record, touch, w->now));
    }
    if (rc == MDB_NOTFOUND || record.due <= w->now) {
        w->keys[w->dead++] = *key;
        return qo_store_lmdb_env_drop(w->sessions, w->s->sessions.db[QO_STORE_LMDB_RECORD],
                                      k);
    }
    memcpy(w->s->scratch, record.value.data, record.value.len);
    record.value.data = w->s->scratch;
    rc = enlist(w->s, w->sessions, key, record.due);
    return rc != 0 ? rc : write_record(w->s, w->sessions, key, &record);
}

static int review_due(sweep_t *w)
{
    unsigned char spot[DUE_LEN];
    MDB_cursor *order;
    qo_hash_t key;
    int rc = mdb_cursor_open(w->sessions, w->s->sessions.db[QO_STORE_LMDB_ORDER], &order);

    if (rc != 0) {
        return rc;
    }
    while (rc == 0 && w->looked < w->max) {
        rc = qo_store_lmdb_env_pop(order, w->now, spot, DUE_LEN);
        if (rc == 0) {
            memcpy(key.bytes, spot + 8, QO_HASH_LEN);
            rc = review(w, &key, (apr_time_t)qo_store_lmdb_get64(spot));
            w->looked++;
        }
    }
    mdb_cursor_close(order);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int sweep_dead(sweep_t *w)
{
    int rc = qo_store_lmdb_env_write(&w->s->sessions, &w->sessions);

    if (rc != 0) {
        return rc;
    }
    rc = qo_store_lmdb_env_read(&w->s->fleeting, &w->fleeting);
    if (rc == 0) {
        rc = review_due(w);
        mdb_txn_abort(w->fleeting);
    }
    rc = qo_store_lmdb_env_end(w->sessions, rc);
    if (rc == 0 && w->dead > 0) {
        qo_store_lmdb_touch_forget(w->s, w->keys, w->dead);
    }
    return rc;
}

int qo_store_lmdb_session_sweep(qo_store_lmdb_t *s, apr_time_t now, uint32_t max,
                                bool *more)
{
    sweep_t w = {.s = s, .now = now, .max = max < QO_SWEEP_BATCH ? max : QO_SWEEP_BATCH};
    int rc = sweep_dead(&w);

    *more = w.looked == w.max;
    return rc != 0 ? rc : qo_store_lmdb_touch_sweep(s, w.max);
}
