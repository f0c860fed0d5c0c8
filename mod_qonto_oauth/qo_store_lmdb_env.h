/* Inside the LMDB provider, private to qo_store_lmdb*.c: two environments, so that a flood
 * of strangers' log-ins, written without any sync, never waits for the durable sessions nor
 * competes with them.
 *
 *   sessions.mdb   record  session key -> version, limits, times; sealed value
 *                  order   when to look at it again | session key -> nothing
 *   volatile.mdb   record  state key -> created, expires; sealed value
 *                  order   expires | created | state key -> one byte: taken?
 *                  seen    session key -> last touch
 *   both           meta    format, boot (id of the kernel's boot), born (time), swept (how
 *                          far the search for lost touches has come)
 *
 * They are never committed together; what a crash between two commits leaves behind (a
 * touch without its session) is harmless and swept. Readers take no lock that a writer
 * holds; a read transaction ends before the call does, because LMDB cannot reuse pages that
 * the oldest reader might see.
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

enum {
    QO_STORE_LMDB_META,
    QO_STORE_LMDB_RECORD,
    QO_STORE_LMDB_ORDER,
    QO_STORE_LMDB_SEEN, /* volatile only */
    QO_STORE_LMDB_DATABASES
};

typedef struct {
    const char *file;   /* its name in the store's directory */
    const char *format; /* what its meta database must say */
    size_t map_size;    /* address space, not disk: the file grows as it is used */
    unsigned int flags;
    unsigned int databases; /* how many of the list above it has */
    bool per_boot;          /* not to be trusted after a crash of the machine */
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
    /* The process that attached it, which may open it later if it cannot at once. */
    _Atomic pid_t process;
    pthread_mutex_t opening;
    apr_time_t tried;
    const char *paths[2];
    _Atomic pid_t owner; /* the process that has it open; 0 = none */
    qo_store_lmdb_env_t sessions;
    qo_store_lmdb_env_t fleeting; /* volatile.mdb */
    unsigned char *scratch; /* one value; for the holder of the sessions' write lock */
} qo_store_lmdb_t;

/* Opens the files of an attached store; 0 or why not. One thread at a time. */
int qo_store_lmdb_env_open_all(qo_store_lmdb_t *s) QO_MUST_CHECK;

/* Frees what killed processes still hold of the reader tables. */
int qo_store_lmdb_env_check_readers(const qo_store_lmdb_t *s) QO_MUST_CHECK;

/* NULL and the reason when this process has not opened it; above all after a fork. A store
 * that could not be opened is tried again now and then, so that it comes back by itself.
 */
qo_store_lmdb_t *qo_store_lmdb_env_usable(qo_store_t *store, qo_err_t *err) QO_MUST_CHECK;
/* The port's answer: MDB_NOTFOUND and MDB_KEYEXIST have one, all else is UNAVAILABLE. */
qo_status_t qo_store_lmdb_env_answer(qo_err_t *err, const char *doing, int rc);

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
qo_status_t qo_store_lmdb_session_touch(qo_store_t *store, const qo_hash_t *key,
                                        apr_time_t now, qo_err_t *err);
/* Removes dead sessions with their touches, and lost touches. */
int qo_store_lmdb_session_sweep(qo_store_lmdb_t *s, apr_time_t now, uint32_t max,
                                bool *more) QO_MUST_CHECK;

/* -- the last touches (qo_store_lmdb_touch.c) ------------------------------------------ */

/* The last touch; where none is known, the birth of the file that would know: losing it
 * must not end sessions. */
int qo_store_lmdb_touch_find(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                             apr_time_t *out) QO_MUST_CHECK;
/* The same, in a transaction of its own. */
int qo_store_lmdb_touch_read(const qo_store_lmdb_t *s, const qo_hash_t *key,
                             apr_time_t *out) QO_MUST_CHECK;
int qo_store_lmdb_touch_write(const qo_store_lmdb_t *s, MDB_txn *txn, const qo_hash_t *key,
                              apr_time_t now) QO_MUST_CHECK;
/* Answers nothing: a touch that stays without its session is swept later. */
void qo_store_lmdb_touch_forget(const qo_store_lmdb_t *s, const qo_hash_t *keys,
                                uint32_t count);
/* Removes touches without a session. So rare that a slow walk round all of them, `max` at
 * each call, is enough. */
int qo_store_lmdb_touch_sweep(const qo_store_lmdb_t *s, uint32_t max) QO_MUST_CHECK;

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
