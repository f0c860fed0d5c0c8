#include "qo_store_lmdb_env.h"

#include <apr_strings.h>

typedef qo_store_lmdb_record_t record_t;

/* The commit has synced the data but not the page that makes it count (MDB_NOMETASYNC): a
 * crash of the machine would bring back the state before. That would be a refresh token
 * already spent, or a session already signed out. */
static int sync_last(const qo_store_lmdb_t *s, int rc)
{
    return rc != 0 ? rc : mdb_env_sync(s->sessions.env, 1);
}

/* -- create ---------------------------------------------------------------------------- */

/* Neither a session nor its tombstone may be there; what is left of a dead one goes. */
static int clear_place(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                       apr_time_t touch, apr_time_t now, bool *anew)
{
    record_t old;
    apr_time_t until;
    int rc = qo_store_lmdb_record_alive(s, txn, key, touch, now, &old);

    if (rc != MDB_NOTFOUND) {
        return rc == 0 ? MDB_KEYEXIST : rc;
    }
    rc = qo_store_lmdb_record_find(s, txn, key, &old);
    *anew = rc == 0;
    if (rc != MDB_NOTFOUND) {
        return rc == 0 ? qo_store_lmdb_record_strike(s, txn, key, old.due) : rc;
    }
    rc = qo_store_lmdb_record_find_tomb(s, txn, key, &until);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    if (until > now) {
        return MDB_KEYEXIST;
    }
    rc = qo_store_lmdb_record_strike(s, txn, key, until);
    return rc != 0 ? rc
                   : qo_store_lmdb_env_drop(txn, s->sessions.db[QO_STORE_LMDB_TOMB],
                                            qo_store_lmdb_key(key));
}

/* MDB_DBS_FULL, which nothing else here can mean, stands for the limit on their number. */
static int check_limit(const qo_store_lmdb_t *s, MDB_txn *txn)
{
    uint64_t sessions;
    int rc = qo_store_lmdb_env_count(txn, s->sessions.db[QO_STORE_LMDB_RECORD], &sessions);

    return rc == 0 && sessions >= s->max_sessions ? MDB_DBS_FULL : rc;
}

static int create(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                  apr_time_t touch, const record_t *record)
{
    bool anew = false;
    int rc = qo_store_lmdb_room_left(&s->sessions, QO_ROOM_SESSION);

    if (rc != 0 || (rc = clear_place(s, txn, key, touch, record->changed, &anew)) != 0 ||
        (!anew && (rc = check_limit(s, txn)) != 0) ||
        (rc = qo_store_lmdb_record_enlist(s, txn, key, record->due)) != 0) {
        return rc;
    }
    return qo_store_lmdb_record_write(s, txn, key, record);
}

static qo_status_t answer_create(const qo_store_lmdb_t *s, qo_err_t *err, int rc)
{
    if (rc == MDB_DBS_FULL) {
        return qo_error(err, QO_E_STORE_FULL, "lmdb: the limit is %llu sessions",
                        (unsigned long long)s->max_sessions);
    }
    if (qo_store_lmdb_room_lacks(rc)) {
        return qo_store_lmdb_room_refuse(s, err, QO_E_STORE_FULL, "new session",
                                         QO_ROOM_SESSION, rc);
    }
    return qo_store_lmdb_env_answer(err, "session_create", rc);
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
    record.due = qo_store_lmdb_record_end(&record, now);
    if ((rc = qo_store_lmdb_touch_read(s, key, &touch)) == 0 &&
        (rc = qo_store_lmdb_env_write(&s->sessions, &txn)) == 0) {
        rc = qo_store_lmdb_env_end(txn, create(s, txn, key, touch, &record));
    }
    return answer_create(s, err, rc);
}

/* -- get ------------------------------------------------------------------------------- */

static qo_store_meta_t meta_of(const record_t *record, apr_time_t touch, apr_time_t now)
{
    return (qo_store_meta_t){record->version, record->expires, record->idle,
                             qo_store_lmdb_record_seen(record, touch, now)};
}

static qo_bytes_t copy_value(apr_pool_t *p, const record_t *record)
{
    return (qo_bytes_t){apr_pmemdup(p, record->value.data, record->value.len),
                        record->value.len};
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
    rc = qo_store_lmdb_record_alive(s, txn, key, touch, now, &record);
    if (rc == 0) {
        *value = copy_value(p, &record);
        *meta = meta_of(&record, touch, now);
    }
    mdb_txn_abort(txn);
    return qo_store_lmdb_env_answer(err, "session_get", rc);
}

/* -- replace --------------------------------------------------------------------------- */

static int replace(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                   uint64_t version, qo_bytes_t value, apr_time_t touch, apr_time_t now)
{
    record_t record;
    int rc = qo_store_lmdb_record_alive(s, txn, key, touch, now, &record);

    if (rc != 0) {
        return rc;
    }
    if (record.version != version) {
        return MDB_KEYEXIST;
    }
    record.version++;
    record.changed = now;
    record.value = value;
    return qo_store_lmdb_record_write(s, txn, key, &record);
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

/* -- delete ---------------------------------------------------------------------------- */

/* What takes a session's place, in one transaction with its end: a tombstone. */
static int end_session(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                       apr_time_t now)
{
    int rc = qo_store_lmdb_env_drop(txn, s->sessions.db[QO_STORE_LMDB_RECORD],
                                    qo_store_lmdb_key(key));

    return rc != 0 ? rc
                   : qo_store_lmdb_record_bury(s, txn, key,
                                               now + apr_time_from_sec(QO_TOMBSTONE_LIFE));
}

static int is_there(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key)
{
    MDB_val k = qo_store_lmdb_key(key), stored;

    return mdb_get(txn, s->sessions.db[QO_STORE_LMDB_RECORD], &k, &stored);
}

/* A session that is over is ended as well, lest a clock that is set back revives it; it was
 * not alive, though, and `*alive` says so. A damaged one can only be ended. */
static int delete_session(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                          uint64_t version, apr_time_t touch, apr_time_t now, bool *alive)
{
    record_t record;
    int rc = qo_store_lmdb_record_find(s, txn, key, &record);

    *alive = true;
    if (rc == MDB_NOTFOUND) {
        rc = is_there(s, txn, key);
        return rc != 0 ? rc : end_session(s, txn, key, now);
    }
    if (rc != 0) {
        return rc;
    }
    *alive = qo_store_lmdb_record_end(&record,
                                      qo_store_lmdb_record_seen(&record, touch, now)) > now;
    if (version != QO_STORE_ANY && version != record.version) {
        return *alive ? MDB_KEYEXIST : MDB_NOTFOUND;
    }
    rc = qo_store_lmdb_record_strike(s, txn, key, record.due);
    return rc != 0 ? rc : end_session(s, txn, key, now);
}

qo_status_t qo_store_lmdb_session_delete(qo_store_t *store, const qo_hash_t *key,
                                         uint64_t version, apr_time_t now, qo_err_t *err)
{
    const qo_store_lmdb_t *s = qo_store_lmdb_env_usable(store, err);
    apr_time_t touch;
    bool alive = true;
    MDB_txn *txn;
    int rc;

    if (s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    if ((rc = qo_store_lmdb_touch_read(s, key, &touch)) == 0 &&
        (rc = qo_store_lmdb_env_write(&s->sessions, &txn)) == 0) {
        rc = delete_session(s, txn, key, version, touch, now, &alive);
        rc = sync_last(s, qo_store_lmdb_env_end(txn, rc));
    }
    if (rc == 0) {
        qo_store_lmdb_touch_forget(s, key, 1);
    }
    return qo_store_lmdb_env_answer(err, "session_delete",
                                    rc == 0 && !alive ? MDB_NOTFOUND : rc);
}

/* -- walk ------------------------------------------------------------------------------ */

typedef struct {
    qo_hash_t key;
    qo_bytes_t value;
    qo_store_meta_t meta;
} found_t;

typedef struct {
    const qo_store_lmdb_t *s;
    MDB_txn *sessions; /* both reading */
    MDB_txn *fleeting;
    apr_pool_t *p;
    apr_time_t now;
    found_t *found;
    uint32_t count;
} page_t;

/* Copies it if it is a live session. */
static int collect(page_t *page, const MDB_val *key, const MDB_val *stored)
{
    found_t *found = &page->found[page->count];
    apr_time_t touch;
    record_t record;
    int rc = qo_store_lmdb_record_parse(&record, stored);

    if (rc != 0 || key->mv_size != QO_HASH_LEN) {
        return 0;
    }
    memcpy(found->key.bytes, key->mv_data, QO_HASH_LEN);
    rc = qo_store_lmdb_touch_find(page->s, page->fleeting, &found->key, &touch);
    if (rc != 0) {
        return rc;
    }
    found->meta = meta_of(&record, touch, page->now);
    if (qo_store_lmdb_record_end(&record, found->meta.last_seen) > page->now) {
        found->value = copy_value(page->p, &record);
        page->count++;
    }
    return 0;
}

/* The cursor names the first key of the next page, which may be gone by then. */
static int turn(page_t *page, qo_store_cursor_t *cursor)
{
    MDB_val key = qo_store_lmdb_val(cursor->at, sizeof(cursor->at)), stored;
    MDB_cursor *records;
    uint32_t looked = 0;
    int rc = mdb_cursor_open(page->sessions, page->s->sessions.db[QO_STORE_LMDB_RECORD],
                             &records);

    if (rc != 0) {
        return rc;
    }
    rc = mdb_cursor_get(records, &key, &stored, MDB_SET_RANGE);
    while (rc == 0 && looked++ < QO_WALK_BATCH) {
        rc = collect(page, &key, &stored);
        if (rc == 0) {
            rc = mdb_cursor_get(records, &key, &stored, MDB_NEXT);
        }
    }
    if (rc == 0) {
        memset(cursor->at, 0, sizeof(cursor->at));
        memcpy(cursor->at, key.mv_data,
               key.mv_size < sizeof(cursor->at) ? key.mv_size : sizeof(cursor->at));
    }
    mdb_cursor_close(records);
    cursor->done = rc == MDB_NOTFOUND;
    return cursor->done ? 0 : rc;
}

static int read_page(page_t *page, qo_store_cursor_t *cursor)
{
    int rc = qo_store_lmdb_env_read(&page->s->fleeting, &page->fleeting);

    if (rc != 0) {
        return rc;
    }
    rc = qo_store_lmdb_env_read(&page->s->sessions, &page->sessions);
    if (rc == 0) {
        rc = turn(page, cursor);
        mdb_txn_abort(page->sessions);
    }
    mdb_txn_abort(page->fleeting);
    return rc;
}

/* Visits a copy, when the transactions have ended: whoever visits may be slow. */
qo_status_t qo_store_lmdb_session_walk(qo_store_t *store, apr_pool_t *p,
                                       qo_store_cursor_t *cursor, qo_store_visit_t visit,
                                       void *data, apr_time_t now, qo_err_t *err)
{
    page_t page = {.s = qo_store_lmdb_env_usable(store, err), .now = now};
    int rc;

    if (page.s == NULL) {
        return QO_E_STORE_UNAVAILABLE;
    }
    if (apr_pool_create(&page.p, p) != APR_SUCCESS) {
        return qo_store_lmdb_env_answer(err, "session_walk", MDB_PANIC);
    }
    page.found = apr_palloc(page.p, QO_WALK_BATCH * sizeof(*page.found));
    rc = read_page(&page, cursor);
    for (uint32_t i = 0; rc == 0 && i < page.count; i++) {
        visit(data, &page.found[i].key, page.found[i].value, &page.found[i].meta);
    }
    apr_pool_destroy(page.p);
    return qo_store_lmdb_env_answer(err, "session_walk", rc);
}
