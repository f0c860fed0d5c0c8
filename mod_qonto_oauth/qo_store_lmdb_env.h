/* Inside the LMDB provider, private to qo_store_lmdb*.c: two environments, so that a flood
 * of strangers' log-ins, written without any sync, never waits for the durable sessions nor
 * competes with them.
 *
 *   sessions.mdb   record  session key -> version, limits, times; sealed value
 *                  tomb    key of an ended session -> until when nobody may create it
 *                  order   when to look at it again | session key -> nothing
 *   volatile.mdb   record  state key -> created, expires; sealed value
 *                  order   expires | created | state key -> one byte: taken?
 *                  seen    session key -> last touch
 *                  lease   session key -> qo_lease_encode's record
 *   both           meta    format, boot (id of the kernel's boot), born (time), and how far
 *                          the search for lost touches and leases has come
 *
 * They are never committed together; what a crash between two commits leaves behind (a
 * touch or a lease without its session) is harmless and swept. Readers take no lock that a
 * writer holds; a read transaction ends before the call does, because LMDB cannot reuse
 * pages that the oldest reader might see.
 *
 * Functions answer an LMDB or errno code, 0 for success, unless they take a qo_err_t. An
 * environment is open once in a process and never used across a fork: LMDB's locks belong
 * to the process, and closing a second descriptor of the same file drops them. */
#ifndef QO_STORE_LMDB_ENV_H
#define QO_STORE_LMDB_ENV_H

#include "qo_store.h"

#include <lmdb.h>
#include <pthread.h>

#include <endian.h>
#include <string.h>
#include <sys/types.h>

/* Databases, by their place in the list of a file. */
enum {
    QO_STORE_LMDB_META,
    QO_STORE_LMDB_RECORD,
    QO_STORE_LMDB_ORDER,
    QO_STORE_LMDB_TOMB, /* sessions.mdb ends here */
    QO_STORE_LMDB_SEEN = QO_STORE_LMDB_TOMB,
    QO_STORE_LMDB_LEASE,
    QO_STORE_LMDB_DATABASES
};

typedef struct {
    const char *file;   /* its name in the store's directory */
    const char *format; /* what its meta database must say */
    size_t map_size;    /* address space, not disk: the file grows as it is used */
    unsigned int flags;
    bool per_boot; /* not to be trusted after a crash of the machine */
    const char *databases[QO_STORE_LMDB_DATABASES + 1]; /* their names, up to a NULL */
} qo_store_lmdb_kind_t;

extern const qo_store_lmdb_kind_t qo_store_lmdb_sessions;
extern const qo_store_lmdb_kind_t qo_store_lmdb_volatile;

typedef struct {
    MDB_env *env; /* NULL when closed */
    MDB_dbi db[QO_STORE_LMDB_DATABASES];
    apr_time_t born; /* when the file was made */
} qo_store_lmdb_env_t;

/* Opens a file that was prepared, with all its databases. */
int qo_store_lmdb_env_open(qo_store_lmdb_env_t *out, const qo_store_lmdb_kind_t *kind,
                           const char *path) QO_MUST_CHECK;
/* Opens it, and makes what is in it when it is new or empty. */
int qo_store_lmdb_env_make(qo_store_lmdb_env_t *out, const qo_store_lmdb_kind_t *kind,
                           const char *path, apr_time_t now) QO_MUST_CHECK;
void qo_store_lmdb_env_close(qo_store_lmdb_env_t *env);

/* Whether it was made since the machine was started. */
int qo_store_lmdb_env_same_boot(const qo_store_lmdb_env_t *env, bool *same) QO_MUST_CHECK;
/* Looks at every page in use. A damaged file may well end the process: fork first. */
int qo_store_lmdb_env_walk(const qo_store_lmdb_env_t *env,
                           const qo_store_lmdb_kind_t *kind) QO_MUST_CHECK;

/* -- transactions ---------------------------------------------------------------------- */

int qo_store_lmdb_env_read(const qo_store_lmdb_env_t *env, MDB_txn **out) QO_MUST_CHECK;
int qo_store_lmdb_env_write(const qo_store_lmdb_env_t *env, MDB_txn **out) QO_MUST_CHECK;
/* Commits a writing transaction, or aborts it and hands on why. */
int qo_store_lmdb_env_end(MDB_txn *txn, int rc) QO_MUST_CHECK;

int qo_store_lmdb_env_put(MDB_txn *txn, MDB_dbi dbi, MDB_val key,
                          MDB_val value) QO_MUST_CHECK;
/* Deletes what may be gone already. */
int qo_store_lmdb_env_drop(MDB_txn *txn, MDB_dbi dbi, MDB_val key) QO_MUST_CHECK;
int qo_store_lmdb_env_count(MDB_txn *txn, MDB_dbi dbi, uint64_t *out) QO_MUST_CHECK;

/* Takes the first entry out of `order` if the time its key begins with has come, and copies
 * that key of `len` bytes to `spot`; else MDB_NOTFOUND. */
int qo_store_lmdb_env_pop(MDB_cursor *order, apr_time_t now, unsigned char *spot,
                          size_t len) QO_MUST_CHECK;

/* -- the store ------------------------------------------------------------------------- */

typedef struct {
    qo_store_t base;
    const char *dir; /* NULL unless it was prepared */
    uint64_t max_sessions;
    uint64_t max_pending;
    bool as_it_is; /* opened by a tool, with the rights of the directory's owner */
    /* The process that attached it, which may open it later if it cannot at once. */
    _Atomic pid_t process;
    pthread_mutex_t opening;
    apr_time_t tried;
    const char *paths[2];
    const char *locks[2]; /* the files LMDB puts beside them */
    _Atomic pid_t owner;  /* the process that has it open; 0 = none */
    qo_store_lmdb_env_t sessions;
    qo_store_lmdb_env_t fleeting; /* volatile.mdb */
    unsigned char *scratch; /* one value; for the holder of the sessions' write lock */
} qo_store_lmdb_t;

/* Opens the files of an attached store; 0 or why not (ESTALE: as they are, they may be
 * damaged by a crash of the machine). One thread at a time. */
int qo_store_lmdb_env_open_all(qo_store_lmdb_t *s) QO_MUST_CHECK;

/* Frees what killed processes still hold of the reader tables. */
int qo_store_lmdb_env_check_readers(const qo_store_lmdb_t *s) QO_MUST_CHECK;

/* NULL and the reason when this process has not opened it; above all after a fork. A store
 * that could not be opened is tried again now and then, so that it comes back by itself.
 */
qo_store_lmdb_t *qo_store_lmdb_env_usable(qo_store_t *store, qo_err_t *err) QO_MUST_CHECK;
/* The port's answer: MDB_NOTFOUND and MDB_KEYEXIST have one, all else is UNAVAILABLE. */
qo_status_t qo_store_lmdb_env_answer(qo_err_t *err, const char *doing, int rc);

/* -- room (qo_store_lmdb_room.c) ------------------------------------------------------- */

/* Are `need` bytes left for what will be written to this file? MDB_MAP_FULL: not in its
 * map; ENOSPC: not on its file system. Not within a transaction that has written. */
int qo_store_lmdb_room_left(const qo_store_lmdb_env_t *env, uint64_t need) QO_MUST_CHECK;
/* Takes some room on the file system into the file's hand before it is needed, as room_left
 * does as well. */
int qo_store_lmdb_room_take(const qo_store_lmdb_env_t *env) QO_MUST_CHECK;
/* Is that what `rc` means, from room_left or from a write? */
bool qo_store_lmdb_room_lacks(int rc);
/* Returns `status`, with a sentence on what cannot be done when `need` bytes are not left.
 */
qo_status_t qo_store_lmdb_room_refuse(const qo_store_lmdb_t *s, qo_err_t *err,
                                      qo_status_t status, const char *what, uint64_t need,
                                      int rc);

/* -- sessions -------------------------------------------------------------------------- */

/* A session as it is stored. */
typedef struct {
    uint64_t version;
    apr_time_t expires;
    uint32_t idle;
    apr_time_t changed; /* when it was created or last replaced: a sign of life as well */
    apr_time_t due;     /* where it stands in `order` */
    qo_bytes_t value;   /* in the file: good until the transaction writes or ends */
} qo_store_lmdb_record_t;

/* qo_store_lmdb_record.c. A record that does not parse is damaged and counts as none:
 * UNAVAILABLE would lock its visitor out for ever. */
int qo_store_lmdb_record_parse(qo_store_lmdb_record_t *out,
                               const MDB_val *stored) QO_MUST_CHECK;
int qo_store_lmdb_record_find(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                              qo_store_lmdb_record_t *out) QO_MUST_CHECK;
/* The session if it is alive, else MDB_NOTFOUND. */
int qo_store_lmdb_record_alive(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                               apr_time_t touch, apr_time_t now,
                               qo_store_lmdb_record_t *out) QO_MUST_CHECK;
int qo_store_lmdb_record_write(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                               const qo_store_lmdb_record_t *record) QO_MUST_CHECK;
/* The sign of life that counts, and the end that follows from it. */
apr_time_t qo_store_lmdb_record_seen(const qo_store_lmdb_record_t *record, apr_time_t touch,
                                     apr_time_t now);
apr_time_t qo_store_lmdb_record_end(const qo_store_lmdb_record_t *record, apr_time_t seen);

/* Entries of `order`: time, key. */
#define QO_STORE_LMDB_DUE_LEN (8 + QO_HASH_LEN)
int qo_store_lmdb_record_enlist(const qo_store_lmdb_t *s, MDB_txn *txn,
                                const qo_hash_t *key, apr_time_t due) QO_MUST_CHECK;
int qo_store_lmdb_record_strike(const qo_store_lmdb_t *s, MDB_txn *txn,
                                const qo_hash_t *key, apr_time_t due) QO_MUST_CHECK;

/* Tombstones. They are no sessions, so they have a database of their own. */
int qo_store_lmdb_record_find_tomb(const qo_store_lmdb_t *s, MDB_txn *txn,
                                   const qo_hash_t *key, apr_time_t *until) QO_MUST_CHECK;
/* In place of the record and its entry, which are gone already. */
int qo_store_lmdb_record_bury(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                              apr_time_t until) QO_MUST_CHECK;

/* qo_store_lmdb_session.c: the port's calls of these names. */
qo_status_t qo_store_lmdb_session_create(qo_store_t *store, const qo_hash_t *key,
                                         qo_bytes_t value, apr_time_t expires,
                                         uint32_t idle, apr_time_t now, qo_err_t *err);
qo_status_t qo_store_lmdb_session_get(qo_store_t *store, apr_pool_t *p,
                                      const qo_hash_t *key, qo_bytes_t *value,
                                      qo_store_meta_t *meta, apr_time_t now, qo_err_t *err);
qo_status_t qo_store_lmdb_session_replace(qo_store_t *store, const qo_hash_t *key,
                                          uint64_t version, qo_bytes_t value,
                                          apr_time_t now, qo_err_t *err);
qo_status_t qo_store_lmdb_session_delete(qo_store_t *store, const qo_hash_t *key,
                                         uint64_t version, apr_time_t now, qo_err_t *err);
qo_status_t qo_store_lmdb_session_walk(qo_store_t *store, apr_pool_t *p,
                                       qo_store_cursor_t *cursor, qo_store_visit_t visit,
                                       void *data, apr_time_t now, qo_err_t *err);

/* -- what volatile.mdb knows of a session ---------------------------------------------- */

/* qo_store_lmdb_touch.c. The last touch; where none is known, the birth of the file that
 * would know: losing it must not end sessions. */
int qo_store_lmdb_touch_find(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                             apr_time_t *out) QO_MUST_CHECK;
/* The same, in a transaction of its own. */
int qo_store_lmdb_touch_read(const qo_store_lmdb_t *s, const qo_hash_t *key,
                             apr_time_t *out) QO_MUST_CHECK;
int qo_store_lmdb_touch_write(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                              apr_time_t now) QO_MUST_CHECK;
/* Is the session alive? In a transaction of volatile.mdb: in a writing one the answer holds
 * until its end, as session_delete commits first and only then waits for that lock to drop
 * what is here. */
int qo_store_lmdb_touch_session(const qo_store_lmdb_t *s, MDB_txn *txn,
                                const qo_hash_t *key, apr_time_t now) QO_MUST_CHECK;
/* Drops touches and leases of sessions that are gone. Answers nothing: what stays without
 * its session is swept later. */
void qo_store_lmdb_touch_forget(const qo_store_lmdb_t *s, const qo_hash_t *keys,
                                uint32_t count);
/* The port's call. */
qo_status_t qo_store_lmdb_touch(qo_store_t *store, const qo_hash_t *key, apr_time_t now,
                                qo_err_t *err);

/* qo_store_lmdb_lease.c: the port's calls of these names. */
qo_status_t qo_store_lmdb_lease_acquire(qo_store_t *store, const qo_hash_t *key,
                                        qo_lease_t *lease, apr_time_t life, apr_time_t now,
                                        qo_err_t *err);
qo_status_t qo_store_lmdb_lease_release(qo_store_t *store, const qo_hash_t *key,
                                        const qo_lease_t *lease, qo_status_t why,
                                        apr_time_t wait, qo_err_t *err);
/* Is a lease's record worth nothing any more? */
bool qo_store_lmdb_lease_spent(const MDB_val *stored, apr_time_t clock);

/* qo_store_lmdb_sweep.c: removes dead sessions and tombstones with what belongs to them,
 * and touches and leases that nothing belongs to. */
int qo_store_lmdb_sweep_sessions(qo_store_lmdb_t *s, apr_time_t now, uint32_t max,
                                 bool *more) QO_MUST_CHECK;

/* -- in the parent --------------------------------------------------------------------- */

typedef struct {
    apr_pool_t *p;
    const char *path;
    int fd;
    uid_t uid; /* who will open the files in the children */
    gid_t gid;
    apr_time_t now;
    const char *notes; /* what the admin must hear although all is well now */
} qo_store_lmdb_place_t;

typedef enum {
    QO_STORE_LMDB_SILENT, /* ended before it could tell */
    QO_STORE_LMDB_FINE,
    QO_STORE_LMDB_DAMAGED,
    QO_STORE_LMDB_STALE, /* of another boot of the machine: damage may be hidden */
    QO_STORE_LMDB_BROKEN /* cannot tell: nothing may be moved or removed */
} qo_store_lmdb_verdict_t;

typedef struct {
    qo_store_lmdb_verdict_t verdict;
    bool walking;
    char why[120]; /* goes on from the name of the file; empty when all is well */
} qo_store_lmdb_report_t;

/* qo_store_lmdb_check.c: opens, makes and walks one file in a forked process. */
void qo_store_lmdb_check(const qo_store_lmdb_place_t *place,
                         const qo_store_lmdb_kind_t *kind, qo_store_lmdb_report_t *out);

/* qo_store_lmdb_dir.c, in the parent: makes or takes over the directory, has both files
 * checked, made and given to the children's user by forked processes, and moves a damaged
 * one aside: then the answer is QO_OK and `err->detail` says so. Opens nothing in this
 * process. */
qo_status_t qo_store_lmdb_dir_prepare(apr_pool_t *p, const char *dir, long uid, long gid,
                                      qo_err_t *err) QO_MUST_CHECK;

/* For a tool that may run as root: from enter to leave this process makes and opens files
 * with the rights of the directory's owner, so that LMDB's lock files never get an owner
 * who locks the server out, and a link in the directory leads no further than that user
 * could go. errno codes. */
typedef struct {
    uid_t uid;
    gid_t gid;
} qo_store_lmdb_rights_t;
int qo_store_lmdb_dir_enter(qo_store_lmdb_rights_t *before, const char *dir) QO_MUST_CHECK;
int qo_store_lmdb_dir_leave(const qo_store_lmdb_rights_t *before) QO_MUST_CHECK;

/* Numbers are big-endian, so that keys sort by them. */
static inline void qo_store_lmdb_put64(void *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, sizeof(value));
}

static inline uint64_t qo_store_lmdb_get64(const void *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return be64toh(value);
}

/* MDB_val has no const; LMDB does not write through what it is only to read. */
static inline MDB_val qo_store_lmdb_val(const void *bytes, size_t len)
{
    return (MDB_val){len, (void *)(uintptr_t)bytes};
}

static inline MDB_val qo_store_lmdb_key(const qo_hash_t *key)
{
    return qo_store_lmdb_val(key->bytes, sizeof(key->bytes));
}

#endif
