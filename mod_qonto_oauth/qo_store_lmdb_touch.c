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

int qo_store_lmdb_touch_session(const qo_store_lmdb_t *s, MDB_txn *txn,
                                const qo_hash_t *key, apr_time_t now)
{
    qo_store_lmdb_record_t record;
    MDB_txn *sessions;
    apr_time_t touch;
    int rc = qo_store_lmdb_touch_find(s, txn, key, &touch);

    if (rc != 0 || (rc = qo_store_lmdb_env_read(&s->sessions, &sessions)) != 0) {
        return rc;
    }
    rc = qo_store_lmdb_record_alive(s, sessions, key, touch, now, &record);
    mdb_txn_abort(sessions);
    return rc;
}

static int forget(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *keys,
                  uint32_t count)
{
    int rc = 0;

    for (uint32_t i = 0; i < count && rc == 0; i++) {
        MDB_val key = qo_store_lmdb_key(&keys[i]);

        rc = qo_store_lmdb_env_drop(txn, s->fleeting.db[QO_STORE_LMDB_SEEN], key);
        if (rc == 0) {
            rc = qo_store_lmdb_env_drop(txn, s->fleeting.db[QO_STORE_LMDB_LEASE], key);
        }
    }
    return rc;
}

void qo_store_lmdb_touch_forget(const qo_store_lmdb_t *s, const qo_hash_t *keys,
                                uint32_t count)
{
    MDB_txn *txn;

    if (qo_store_lmdb_env_write(&s->fleeting, &txn) != 0 ||
        qo_store_lmdb_env_end(txn, forget(s, txn, keys, count)) != 0) {
        return; /* left for the sweeper */
    }
}

qo_status_t qo_store_lmdb_touch(qo_store_t *store, const qo_hash_t *key, apr_time_t now,
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
        rc = qo_store_lmdb_touch_session(s, txn, key, now);
        if (rc == 0) {
            rc = qo_store_lmdb_touch_write(s, txn, key, now);
        }
        rc = qo_store_lmdb_env_end(txn, rc);
    }
    return qo_store_lmdb_env_answer(err, "touch", rc);
}
