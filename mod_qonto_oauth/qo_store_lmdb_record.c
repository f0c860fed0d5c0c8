#include "qo_store_lmdb_env.h"

/* A session as stored:
 *
 *    0       8        16     20       28    36
 *   +-------+--------+------+--------+-----+-------------
 *   |version|expires | idle |changed | due | sealed value
 *   +-------+--------+------+--------+-----+-------------
 *
 * `due`, its place in `order`, is never later than its true end, as an end only moves on:
 * the sweeper looks then, and puts a living session further back. So a touch or a replace
 * leaves `order` alone. */
#define HEAD_LEN 36

typedef qo_store_lmdb_record_t record_t;

int qo_store_lmdb_record_parse(record_t *out, const MDB_val *stored)
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

int qo_store_lmdb_record_find(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                              record_t *out)
{
    MDB_val k = qo_store_lmdb_key(key), stored;
    int rc = mdb_get(txn, s->sessions.db[QO_STORE_LMDB_RECORD], &k, &stored);

    return rc != 0 ? rc : qo_store_lmdb_record_parse(out, &stored);
}

int qo_store_lmdb_record_write(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
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

/* -- life and death -------------------------------------------------------------------- */

/* After the clock was set back, times from its future mean now. */
apr_time_t qo_store_lmdb_record_seen(const record_t *record, apr_time_t touch,
                                     apr_time_t now)
{
    apr_time_t seen = touch > record->changed ? touch : record->changed;

    return seen < now ? seen : now;
}

apr_time_t qo_store_lmdb_record_end(const record_t *record, apr_time_t seen)
{
    apr_time_t end = seen + apr_time_from_sec((apr_time_t)record->idle);

    return record->idle != 0 && end < record->expires ? end : record->expires;
}

int qo_store_lmdb_record_alive(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                               apr_time_t touch, apr_time_t now, record_t *out)
{
    int rc = qo_store_lmdb_record_find(s, txn, key, out);
    apr_time_t seen = rc == 0 ? qo_store_lmdb_record_seen(out, touch, now) : 0;

    return rc == 0 && qo_store_lmdb_record_end(out, seen) <= now ? MDB_NOTFOUND : rc;
}

/* -- order ----------------------------------------------------------------------------- */

static MDB_val due_key(unsigned char out[QO_STORE_LMDB_DUE_LEN], const qo_hash_t *key,
                       apr_time_t due)
{
    qo_store_lmdb_put64(out, (uint64_t)due);
    memcpy(out + 8, key->bytes, QO_HASH_LEN);
    return qo_store_lmdb_val(out, QO_STORE_LMDB_DUE_LEN);
}

int qo_store_lmdb_record_enlist(const qo_store_lmdb_t *s, MDB_txn *txn,
                                const qo_hash_t *key, apr_time_t due)
{
    unsigned char spot[QO_STORE_LMDB_DUE_LEN];

    return qo_store_lmdb_env_put(txn, s->sessions.db[QO_STORE_LMDB_ORDER],
                                 due_key(spot, key, due), qo_store_lmdb_val("", 0));
}

int qo_store_lmdb_record_strike(const qo_store_lmdb_t *s, MDB_txn *txn,
                                const qo_hash_t *key, apr_time_t due)
{
    unsigned char spot[QO_STORE_LMDB_DUE_LEN];

    return qo_store_lmdb_env_drop(txn, s->sessions.db[QO_STORE_LMDB_ORDER],
                                  due_key(spot, key, due));
}

/* -- tombstones ------------------------------------------------------------------------ */

int qo_store_lmdb_record_find_tomb(const qo_store_lmdb_t *s, MDB_txn *txn,
                                   const qo_hash_t *key, apr_time_t *until)
{
    MDB_val k = qo_store_lmdb_key(key), stored;
    int rc = mdb_get(txn, s->sessions.db[QO_STORE_LMDB_TOMB], &k, &stored);

    *until = 0; /* of a damaged one */
    if (rc == 0 && stored.mv_size == sizeof(uint64_t)) {
        *until = (apr_time_t)qo_store_lmdb_get64(stored.mv_data);
    }
    return rc;
}

int qo_store_lmdb_record_bury(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                              apr_time_t until)
{
    unsigned char stone[sizeof(uint64_t)];
    int rc;

    qo_store_lmdb_put64(stone, (uint64_t)until);
    rc = qo_store_lmdb_env_put(txn, s->sessions.db[QO_STORE_LMDB_TOMB],
                               qo_store_lmdb_key(key),
                               qo_store_lmdb_val(stone, sizeof(stone)));
    return rc != 0 ? rc : qo_store_lmdb_record_enlist(s, txn, key, until);
}
