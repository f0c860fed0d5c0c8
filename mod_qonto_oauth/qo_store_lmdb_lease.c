#include "qo_store_lmdb_env.h"

#include <errno.h>

/* Leases are in volatile.mdb: a boot of the machine ends those who hold them, and the clock
 * they are on begins anew. Taking one is one write transaction there, which is what makes
 * it one's own across threads and processes. */

/* Times further ahead than any lease or back-off: damage, or of another boot that could not
 * be told from this one. Believed, it would be in the way for ever. */
static bool believable(const qo_lease_t *lease, apr_time_t clock)
{
    return lease->until <= clock + apr_time_from_sec(QO_TOMBSTONE_LIFE) &&
           lease->again <= clock + apr_time_from_sec(QO_LIMIT_RETRY_AFTER);
}

static int find(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                apr_time_t clock, qo_lease_t *out)
{
    MDB_val k = qo_store_lmdb_key(key), stored;
    int rc = mdb_get(txn, s->fleeting.db[QO_STORE_LMDB_LEASE], &k, &stored);

    if (rc != 0) {
        return rc;
    }
    return qo_lease_decode(out, stored.mv_data, stored.mv_size) && believable(out, clock)
               ? 0
               : MDB_NOTFOUND;
}

static int write_lease(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                       const qo_lease_t *lease)
{
    unsigned char record[QO_LEASE_LEN];

    qo_lease_encode(record, lease);
    return qo_store_lmdb_env_put(txn, s->fleeting.db[QO_STORE_LMDB_LEASE],
                                 qo_store_lmdb_key(key),
                                 qo_store_lmdb_val(record, sizeof(record)));
}

bool qo_store_lmdb_lease_spent(const MDB_val *stored, apr_time_t clock)
{
    qo_lease_t lease;

    return !qo_lease_decode(&lease, stored->mv_data, stored->mv_size) ||
           !believable(&lease, clock) || qo_lease_keep(&lease) <= clock;
}

/* -- acquire --------------------------------------------------------------------------- */

typedef struct {
    const qo_hash_t *key;
    qo_lease_t *lease; /* the caller's */
    apr_time_t life;
    apr_time_t now;
} wish_t;

/* 0: it may be had, and `taken` is what to write. MDB_KEYEXIST: the caller's lease is now
 * what is in the way. */
static int judge(const wish_t *wish, int found, qo_lease_t *present, apr_time_t clock,
                 qo_lease_t *taken)
{
    *taken = *wish->lease;
    if (found != 0 && found != MDB_NOTFOUND) {
        return found;
    }
    if (!qo_lease_take(taken, found == 0 ? present : NULL, wish->life, clock)) {
        *wish->lease = *present;
        return MDB_KEYEXIST;
    }
    return 0;
}

/* Most calls are those of waiters who poll: they must not queue for the write lock, nor
 * keep a transaction while it is found out whether the holder's process lives. */
static int peek(const qo_store_lmdb_t *s, const wish_t *wish)
{
    apr_time_t clock = qo_lease_clock();
    qo_lease_t present, taken;
    MDB_txn *txn;
    int found, rc = qo_store_lmdb_env_read(&s->fleeting, &txn);

    if (rc != 0) {
        return rc;
    }
    rc = qo_store_lmdb_touch_session(s, txn, wish->key, wish->now);
    found = rc == 0 ? find(s, txn, wish->key, clock, &present) : rc;
    mdb_txn_abort(txn);
    return rc != 0 ? rc : judge(wish, found, &present, clock, &taken);
}

static int acquire(const qo_store_lmdb_t *s, MDB_txn *txn, const wish_t *wish)
{
    apr_time_t clock = qo_lease_clock(); /* after the wait for the lock */
    qo_lease_t present, taken;
    int rc = qo_store_lmdb_touch_session(s, txn, wish->key, wish->now);

    if (rc == 0) {
        rc = judge(wish, find(s, txn, wish->key, clock, &present), &present, clock, &taken);
    }
    if (rc == 0) {
        rc = write_lease(s, txn, wish->key, &taken);
    }
    if (rc == 0) {
        *wish->lease = taken;
    }
    return rc;
}

/* A refresh whose tokens cannot be written costs the session: Qonto takes the old ones
 * back.
 */
static int check_room(const qo_store_lmdb_t *s)
{
    int rc = qo_store_lmdb_room_left(&s->sessions, QO_ROOM_REFRESH);

    return rc != 0 ? rc : qo_store_lmdb_room_left(&s->fleeting, QO_ROOM_REFRESH);
}

qo_status_t qo_store_lmdb_lease_acquire(qo_store_t *store, const qo_hash_t *key,
                                        qo_lease_t *lease, apr_time_t life, apr_time_t now,
                                        qo_err_t *err)
{
    const qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    wish_t wish = {key, lease, life, now};
    MDB_txn *txn;
    int rc;

    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    if ((rc = peek(s, &wish)) == 0 && (rc = check_room(s)) == 0 &&
        (rc = qo_store_lmdb_env_write(&s->fleeting, &txn)) == 0) {
        rc = qo_store_lmdb_env_end(txn, acquire(s, txn, &wish));
    }
    if (qo_store_lmdb_room_lacks(rc)) {
        return qo_store_lmdb_room_refuse(s, err, QO_E_STORE_UNAVAILABLE, "refresh",
                                         QO_ROOM_REFRESH, rc);
    }
    return qo_store_lmdb_env_answer(err, "lease_acquire", rc);
}

/* -- release --------------------------------------------------------------------------- */

static int release(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                   const qo_lease_t *lease, qo_status_t why, apr_time_t wait)
{
    apr_time_t clock = qo_lease_clock();
    qo_lease_t present;
    int rc = find(s, txn, key, clock, &present);

    if (rc != 0) {
        return rc == MDB_NOTFOUND ? MDB_KEYEXIST : rc;
    }
    if (!qo_lease_same(&present, lease)) {
        return MDB_KEYEXIST;
    }
    if (why == QO_OK) {
        return qo_store_lmdb_env_drop(txn, s->fleeting.db[QO_STORE_LMDB_LEASE],
                                      qo_store_lmdb_key(key));
    }
    qo_lease_fail(&present, why, wait, clock);
    return write_lease(s, txn, key, &present);
}

qo_status_t qo_store_lmdb_lease_release(qo_store_t *store, const qo_hash_t *key,
                                        const qo_lease_t *lease, qo_status_t why,
                                        apr_time_t wait, qo_err_t *err)
{
    const qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    MDB_txn *txn;
    int rc;

    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    rc = qo_store_lmdb_env_write(&s->fleeting, &txn);
    if (rc == 0) {
        rc = qo_store_lmdb_env_end(txn, release(s, txn, key, lease, why, wait));
    }
    return qo_store_lmdb_env_answer(err, "lease_release", rc);
}
