#include "qo_store_lmdb_env.h"

/* The last touches of sessions, key -> time. They are lost with the volatile file, and a
 * process that is killed between the two commits of a delete leaves one without a session.
 */

int qo_store_lmdb_touch_find(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                             apr_time_t *out)
{
    MDB_val k = qo_store_lmdb_key(key), stored;
    int rc = mdb_get(txn, s->fleeting.db[QO_STORE_LMDB_SEEN], &k, &stored);

    *out = s->fleeting.born;
    if (rc == 0 && stored.mv_size == sizeof(uint64_t)) {
        *out = (apr_time_t)qo_store_lmdb_get64(stored.mv_data);
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int qo_store_lmdb_touch_read(const qo_store_lmdb_t *s, const qo_hash_t *key,
                             apr_time_t *out)
{
    MDB_txn *txn;
    int rc = qo_store_lmdb_env_read(&s->fleeting, &txn);

    if (rc == 0) {
        rc = qo_store_lmdb_touch_find(s, txn, key, out);
        mdb_txn_abort(txn);
    }
    return rc;
}

int qo_store_lmdb_touch_write(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                              apr_time_t now)
{
    unsigned char seen[sizeof(uint64_t)];

    qo_store_lmdb_put64(seen, (uint64_t)now);
    return qo_store_lmdb_env_put(txn, s->fleeting.db[QO_STORE_LMDB_SEEN],
                                 qo_store_lmdb_key(key),
                                 qo_store_lmdb_val(seen, sizeof(seen)));
}

static int forget(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *keys,
                  uint32_t count)
{
    int rc = 0;

    for (uint32_t i = 0; i < count && rc == 0; i++) {
        rc = qo_store_lmdb_env_drop(txn, s->fleeting.db[QO_STORE_LMDB_SEEN],
                                    qo_store_lmdb_key(&keys[i]));
    }
    return rc;
}

void qo_store_lmdb_touch_forget(const qo_store_lmdb_t *s, const qo_hash_t *keys,
                                uint32_t count)
{
    MDB_txn *txn;

    if (qo_store_lmdb_env_write(&s->fleeting, &txn) != 0 ||
        qo_store_lmdb_env_end(txn, forget(s, txn, keys, count)) != 0) {
        return; /* left for qo_store_lmdb_touch_sweep */
    }
}

/* -- touches without a session --------------------------------------------------------- */

typedef struct {
    const qo_store_lmdb_t *s;
    MDB_txn *fleeting; /* writing */
    MDB_txn *sessions;
    uint32_t max;
} walk_t;

/* From where the last call stopped, `max` touches further. */
static int drop_lost(const walk_t *w, MDB_cursor *seen, MDB_val *at)
{
    MDB_val stored;
    uint32_t looked = 0;
    int rc = mdb_cursor_get(seen, at, &stored, MDB_SET_RANGE);

    while (rc == 0 && looked++ < w->max) {
        MDB_val key = *at;

        rc = mdb_get(w->sessions, w->s->sessions.db[QO_STORE_LMDB_RECORD], &key, &stored);
        if (rc == MDB_NOTFOUND) {
            rc = mdb_cursor_del(seen, 0);
        }
        if (rc == 0) {
            rc = mdb_cursor_get(seen, at, &stored, MDB_NEXT);
        }
    }
    return rc;
}

static int search_lost(const walk_t *w)
{
    MDB_dbi meta = w->s->fleeting.db[QO_STORE_LMDB_META];
    unsigned char from[QO_HASH_LEN] = {0};
    MDB_val name = qo_store_lmdb_val("swept", 5), at;
    MDB_cursor *seen;
    int rc = mdb_get(w->fleeting, meta, &name, &at);

    if (rc != 0 && rc != MDB_NOTFOUND) {
        return rc;
    }
    if (rc == 0 && at.mv_size == sizeof(from)) {
        memcpy(from, at.mv_data, sizeof(from));
    }
    at = qo_store_lmdb_val(from, sizeof(from));
    rc = mdb_cursor_open(w->fleeting, w->s->fleeting.db[QO_STORE_LMDB_SEEN], &seen);
    if (rc != 0) {
        return rc;
    }
    rc = drop_lost(w, seen, &at);
    if (rc == 0) {
        memcpy(from, at.mv_data, at.mv_size < sizeof(from) ? at.mv_size : sizeof(from));
    }
    mdb_cursor_close(seen);
    if (rc == MDB_NOTFOUND) {
        return qo_store_lmdb_env_drop(w->fleeting, meta, name);
    }
    return rc != 0 ? rc
                   : qo_store_lmdb_env_put(w->fleeting, meta, name,
                                           qo_store_lmdb_val(from, sizeof(from)));
}

int qo_store_lmdb_touch_sweep(const qo_store_lmdb_t *s, uint32_t max)
{
    walk_t w = {.s = s, .max = max};
    int rc = qo_store_lmdb_env_write(&s->fleeting, &w.fleeting);

    if (rc != 0) {
        return rc;
    }
    rc = qo_store_lmdb_env_read(&s->sessions, &w.sessions);
    if (rc == 0) {
        rc = search_lost(&w);
        mdb_txn_abort(w.sessions);
    }
    return qo_store_lmdb_env_end(w.fleeting, rc);
}
