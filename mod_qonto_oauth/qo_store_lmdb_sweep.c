#include "qo_store_lmdb_env.h"

typedef qo_store_lmdb_record_t record_t;

typedef struct {
    qo_store_lmdb_t *s;
    MDB_txn *sessions; /* the one of the two that is swept is writing */
    MDB_txn *fleeting;
    apr_time_t now;
    apr_time_t clock; /* of leases */
    uint32_t max;
    uint32_t looked;
    uint32_t dead;
    qo_hash_t keys[QO_SWEEP_STEP]; /* of the dead */
} sweep_t;

/* -- dead sessions and old tombstones -------------------------------------------------- */

/* The session of an entry, which is alive, gets another. */
static int postpone(const sweep_t *w, const qo_hash_t *key, record_t *record)
{
    int rc;

    memcpy(w->s->scratch, record->value.data, record->value.len);
    record->value.data = w->s->scratch;
    rc = qo_store_lmdb_record_enlist(w->s, w->sessions, key, record->due);
    return rc != 0 ? rc : qo_store_lmdb_record_write(w->s, w->sessions, key, record);
}

static int remove_session(sweep_t *w, const qo_hash_t *key)
{
    w->keys[w->dead++] = *key;
    return qo_store_lmdb_env_drop(w->sessions, w->s->sessions.db[QO_STORE_LMDB_RECORD],
                                  qo_store_lmdb_key(key));
}

/* No session is there, or one that does not parse. */
static int review_rest(sweep_t *w, const qo_hash_t *key)
{
    apr_time_t until;
    int rc = qo_store_lmdb_record_find_tomb(w->s, w->sessions, key, &until);

    if (rc == 0 && until <= w->now) {
        rc = qo_store_lmdb_env_drop(w->sessions, w->s->sessions.db[QO_STORE_LMDB_TOMB],
                                    qo_store_lmdb_key(key));
    }
    return rc == 0 || rc == MDB_NOTFOUND ? remove_session(w, key) : rc;
}

/* Judges the session of an entry just taken out of `order`. */
static int review(sweep_t *w, const qo_hash_t *key, apr_time_t due)
{
    record_t record;
    apr_time_t touch;
    int rc = qo_store_lmdb_record_find(w->s, w->sessions, key, &record);

    if (rc != 0) {
        return rc == MDB_NOTFOUND ? review_rest(w, key) : rc;
    }
    if (record.due != due) {
        return 0;
    }
    if ((rc = qo_store_lmdb_touch_find(w->s, w->fleeting, key, &touch)) != 0) {
        return rc;
    }
    record.due = qo_store_lmdb_record_end(
        &record, qo_store_lmdb_record_seen(&record, touch, w->now));
    return record.due <= w->now ? remove_session(w, key) : postpone(w, key, &record);
}

static int review_due(sweep_t *w)
{
    unsigned char spot[QO_STORE_LMDB_DUE_LEN];
    MDB_cursor *order;
    qo_hash_t key;
    int rc = mdb_cursor_open(w->sessions, w->s->sessions.db[QO_STORE_LMDB_ORDER], &order);

    if (rc != 0) {
        return rc;
    }
    while (rc == 0 && w->looked < w->max) {
        rc = qo_store_lmdb_env_pop(order, w->now, spot, sizeof(spot));
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

/* -- touches and leases without a session ---------------------------------------------- */

/* They are so rare that a slow walk round all of them, `max` at each call, is enough. */
typedef struct {
    int database;
    const char *place; /* where meta remembers how far it has come */
    bool leases;
} round_t;

static const round_t rounds[] = {{QO_STORE_LMDB_SEEN, "swept", false},
                                 {QO_STORE_LMDB_LEASE, "leases swept", true}};

static int is_lost(const sweep_t *w, const round_t *round, MDB_val key,
                   const MDB_val *value, bool *lost)
{
    MDB_val session;
    int rc;

    *lost = round->leases && qo_store_lmdb_lease_spent(value, w->clock);
    if (*lost) {
        return 0;
    }
    rc = mdb_get(w->sessions, w->s->sessions.db[QO_STORE_LMDB_RECORD], &key, &session);
    *lost = rc == MDB_NOTFOUND;
    return *lost ? 0 : rc;
}

/* From where the last call stopped. */
static int drop_lost(const sweep_t *w, const round_t *round, MDB_cursor *cursor,
                     MDB_val *at)
{
    MDB_val value;
    uint32_t looked = 0;
    bool lost;
    int rc = mdb_cursor_get(cursor, at, &value, MDB_SET_RANGE);

    while (rc == 0 && looked++ < w->max) {
        rc = is_lost(w, round, *at, &value, &lost);
        if (rc == 0 && lost) {
            rc = mdb_cursor_del(cursor, 0);
        }
        if (rc == 0) {
            rc = mdb_cursor_get(cursor, at, &value, MDB_NEXT);
        }
    }
    return rc;
}

static int go_round(const sweep_t *w, const round_t *round)
{
    MDB_dbi meta = w->s->fleeting.db[QO_STORE_LMDB_META];
    unsigned char from[QO_HASH_LEN] = {0};
    MDB_val name = qo_store_lmdb_val(round->place, strlen(round->place)), at;
    MDB_cursor *cursor;
    int rc = mdb_get(w->fleeting, meta, &name, &at);

    if (rc != 0 && rc != MDB_NOTFOUND) {
        return rc;
    }
    if (rc == 0 && at.mv_size == sizeof(from)) {
        memcpy(from, at.mv_data, sizeof(from));
    }
    at = qo_store_lmdb_val(from, sizeof(from));
    rc = mdb_cursor_open(w->fleeting, w->s->fleeting.db[round->database], &cursor);
    if (rc != 0) {
        return rc;
    }
    rc = drop_lost(w, round, cursor, &at);
    if (rc == 0) {
        memcpy(from, at.mv_data, at.mv_size < sizeof(from) ? at.mv_size : sizeof(from));
    }
    mdb_cursor_close(cursor);
    if (rc == MDB_NOTFOUND) {
        return qo_store_lmdb_env_drop(w->fleeting, meta, name);
    }
    return rc != 0 ? rc
                   : qo_store_lmdb_env_put(w->fleeting, meta, name,
                                           qo_store_lmdb_val(from, sizeof(from)));
}

static int sweep_lost(sweep_t *w)
{
    int rc = qo_store_lmdb_env_write(&w->s->fleeting, &w->fleeting);

    if (rc != 0) {
        return rc;
    }
    rc = qo_store_lmdb_env_read(&w->s->sessions, &w->sessions);
    if (rc == 0) {
        for (size_t i = 0; rc == 0 && i < sizeof(rounds) / sizeof(rounds[0]); i++) {
            rc = go_round(w, &rounds[i]);
        }
        mdb_txn_abort(w->sessions);
    }
    return qo_store_lmdb_env_end(w->fleeting, rc);
}

/* In steps, between which those who want to write get their turn. */
static int sweep_in_steps(sweep_t *w, uint32_t max, bool *more)
{
    int rc = 0;

    for (*more = true; rc == 0 && *more && max > 0; max -= w->looked) {
        w->max = max < QO_SWEEP_STEP ? max : QO_SWEEP_STEP;
        w->looked = w->dead = 0;
        rc = sweep_dead(w);
        *more = w->looked == w->max;
    }
    return rc;
}

int qo_store_lmdb_sweep_sessions(qo_store_lmdb_t *s, apr_time_t now, uint32_t max,
                                 bool *more)
{
    sweep_t w = {.s = s, .now = now, .clock = qo_lease_clock()};
    int rc;

    max = max < QO_SWEEP_BATCH ? max : QO_SWEEP_BATCH;
    rc = sweep_in_steps(&w, max, more);
    w.max = max;
    return rc != 0 ? rc : sweep_lost(&w);
}
