#include "qo_store_lmdb_env.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define READERS 4096 /* LMDB's own 126 is less than one server has threads */
#define BOOT_ID_LEN 36

/* A fixed map larger than the limits allow to fill: resizing one that several processes
 * have open is a trap. */
#if SIZE_MAX > 0xffffffffU
#define SESSIONS_MAP ((size_t)16 << 30)
#define VOLATILE_MAP ((size_t)2 << 30)
#else
#define SESSIONS_MAP ((size_t)768 << 20)
#define VOLATILE_MAP ((size_t)256 << 20)
#endif

/* No MDB_WRITEMAP anywhere: with it a stray write of any module in the process would damage
 * the file, and a full disk would be a SIGBUS. MDB_NOMETASYNC costs, in a crash of the
 * machine, at most the last commit; the calls that may not lose it sync once more. */
const qo_store_lmdb_kind_t qo_store_lmdb_sessions = {
    .file = "sessions.mdb",
    .format = "qonto sessions 2",
    .map_size = SESSIONS_MAP,
    .flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NOMETASYNC | MDB_NORDAHEAD,
    .per_boot = false,
    .databases = {"meta", "record", "order", "tomb"}};

const qo_store_lmdb_kind_t qo_store_lmdb_volatile = {
    .file = "volatile.mdb",
    .format = "qonto volatile 2",
    .map_size = VOLATILE_MAP,
    .flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NOSYNC,
    .per_boot = true,
    .databases = {"meta", "record", "order", "seen", "lease"}};

static MDB_val text(const char *words)
{
    return qo_store_lmdb_val(words, strlen(words));
}

/* The id the kernel draws at each boot. Where it cannot be read every boot looks the same,
 * and the walk alone must find what a crash of the machine has damaged. */
static void read_boot_id(char out[BOOT_ID_LEN + 1])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, out, BOOT_ID_LEN);

    if (fd >= 0) {
        (void)close(fd);
    }
    out[got > 0 ? got : 0] = '\0';
}

static int open_file(MDB_env **out, const qo_store_lmdb_kind_t *kind, const char *path,
                     unsigned int flags)
{
    MDB_env *env;
    int rc = mdb_env_create(&env);

    if (rc != 0) {
        return rc;
    }
    if ((rc = mdb_env_set_maxreaders(env, READERS)) != 0 ||
        (rc = mdb_env_set_maxdbs(env, QO_STORE_LMDB_DATABASES)) != 0 ||
        (rc = mdb_env_set_mapsize(env, kind->map_size)) != 0 ||
        (rc = mdb_env_open(env, path, flags, 0600)) != 0) {
        mdb_env_close(env);
        return rc;
    }
    *out = env;
    return 0;
}

static int open_databases(qo_store_lmdb_env_t *env, const qo_store_lmdb_kind_t *kind,
                          MDB_txn *txn, unsigned int flags)
{
    int rc = 0;

    for (unsigned int i = 0; kind->databases[i] != NULL && rc == 0; i++) {
        rc = mdb_dbi_open(txn, kind->databases[i], flags, &env->db[i]);
    }
    return rc;
}

static int get_meta(const qo_store_lmdb_env_t *env, MDB_txn *txn, const char *name,
                    MDB_val *out)
{
    MDB_val key = text(name);

    return mdb_get(txn, env->db[QO_STORE_LMDB_META], &key, out);
}

static int put_meta(const qo_store_lmdb_env_t *env, MDB_txn *txn, const char *name,
                    MDB_val value)
{
    MDB_val key = text(name);

    return mdb_put(txn, env->db[QO_STORE_LMDB_META], &key, &value, 0);
}

static int read_meta(qo_store_lmdb_env_t *env, const qo_store_lmdb_kind_t *kind,
                     MDB_txn *txn)
{
    MDB_val value;
    int rc = get_meta(env, txn, "format", &value);

    if (rc != 0) {
        return rc;
    }
    if (value.mv_size != strlen(kind->format) ||
        memcmp(value.mv_data, kind->format, value.mv_size) != 0) {
        return MDB_VERSION_MISMATCH;
    }
    rc = get_meta(env, txn, "born", &value);
    if (rc != 0 || value.mv_size != sizeof(uint64_t)) {
        return rc != 0 ? rc : MDB_CORRUPTED;
    }
    env->born = (apr_time_t)qo_store_lmdb_get64(value.mv_data);
    return 0;
}

/* Handles opened in a transaction live on only if it is committed, a reading one too. */
static int load(qo_store_lmdb_env_t *env, const qo_store_lmdb_kind_t *kind)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(env->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0) {
        return rc;
    }
    if ((rc = open_databases(env, kind, txn, 0)) != 0 ||
        (rc = read_meta(env, kind, txn)) != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static int is_empty(const qo_store_lmdb_env_t *env, bool *out)
{
    MDB_stat stat;
    int rc = mdb_env_stat(env->env, &stat);

    *out = rc == 0 && stat.ms_entries == 0;
    return rc;
}

static int fill(qo_store_lmdb_env_t *env, const qo_store_lmdb_kind_t *kind, apr_time_t now)
{
    unsigned char born[sizeof(uint64_t)];
    char boot[BOOT_ID_LEN + 1];
    MDB_txn *txn;
    int rc = mdb_txn_begin(env->env, NULL, 0, &txn);

    if (rc != 0) {
        return rc;
    }
    read_boot_id(boot);
    qo_store_lmdb_put64(born, (uint64_t)now);
    if ((rc = open_databases(env, kind, txn, MDB_CREATE)) != 0 ||
        (rc = put_meta(env, txn, "format", text(kind->format))) != 0 ||
        (rc = put_meta(env, txn, "boot", text(boot))) != 0 ||
        (rc = put_meta(env, txn, "born", (MDB_val){sizeof(born), born})) != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    env->born = now;
    return mdb_txn_commit(txn);
}

int qo_store_lmdb_env_open(qo_store_lmdb_env_t *out, const qo_store_lmdb_kind_t *kind,
                           const char *path)
{
    int rc;

    memset(out, 0, sizeof(*out));
    /* mdb_env_open would make an empty file where one has been removed. */
    if (faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) != 0) {
        return errno;
    }
    rc = open_file(&out->env, kind, path, kind->flags);
    if (rc == 0 && (rc = load(out, kind)) != 0) {
        qo_store_lmdb_env_close(out);
    }
    return rc;
}

int qo_store_lmdb_env_make(qo_store_lmdb_env_t *out, const qo_store_lmdb_kind_t *kind,
                           const char *path, apr_time_t now)
{
    bool empty;
    int rc;

    memset(out, 0, sizeof(*out));
    /* Who makes it also walks it, and then reading ahead is right. */
    rc = open_file(&out->env, kind, path, kind->flags & ~(unsigned int)MDB_NORDAHEAD);
    if (rc != 0) {
        return rc;
    }
    if ((rc = is_empty(out, &empty)) != 0 ||
        (rc = empty ? fill(out, kind, now) : load(out, kind)) != 0 ||
        (rc = qo_store_lmdb_room_take(out)) != 0) {
        qo_store_lmdb_env_close(out);
    }
    return rc;
}

void qo_store_lmdb_env_close(qo_store_lmdb_env_t *env)
{
    if (env->env != NULL) {
        mdb_env_close(env->env);
        env->env = NULL;
    }
}

int qo_store_lmdb_env_same_boot(const qo_store_lmdb_env_t *env, bool *same)
{
    char boot[BOOT_ID_LEN + 1];
    MDB_val value;
    MDB_txn *txn;
    int rc = mdb_txn_begin(env->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0) {
        return rc;
    }
    read_boot_id(boot);
    rc = get_meta(env, txn, "boot", &value);
    if (rc == 0) {
        *same = value.mv_size == strlen(boot) &&
                memcmp(value.mv_data, boot, value.mv_size) == 0;
    }
    mdb_txn_abort(txn);
    return rc;
}

/* Long values lie on pages of their own, which only reading their bytes visits. */
static void look_at(const MDB_val *value, volatile unsigned char *sink)
{
    const unsigned char *bytes = value->mv_data;

    for (size_t i = 0; i < value->mv_size; i += 1024) {
        *sink ^= bytes[i];
    }
    if (value->mv_size > 0) {
        *sink ^= bytes[value->mv_size - 1];
    }
}

static int walk_entries(MDB_cursor *cursor, size_t expected)
{
    MDB_txn *txn = mdb_cursor_txn(cursor);
    MDB_val last = {0, NULL}, key, data;
    unsigned char sink = 0;
    size_t entries = 0;
    int rc = mdb_cursor_get(cursor, &key, &data, MDB_FIRST);

    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) {
        /* The count also ends a walk in circles. */
        if (++entries > expected) {
            return MDB_CORRUPTED;
        }
        if (entries > 1 && mdb_cmp(txn, mdb_cursor_dbi(cursor), &last, &key) >= 0) {
            return MDB_CORRUPTED;
        }
        look_at(&key, &sink);
        look_at(&data, &sink);
        last = key;
    }
    if (rc != MDB_NOTFOUND) {
        return rc;
    }
    return entries == expected ? 0 : MDB_CORRUPTED;
}

static int walk_database(MDB_txn *txn, MDB_dbi dbi)
{
    MDB_cursor *cursor;
    MDB_stat stat;
    int rc = mdb_stat(txn, dbi, &stat);

    if (rc != 0) {
        return rc;
    }
    rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc != 0) {
        return rc;
    }
    rc = walk_entries(cursor, stat.ms_entries);
    mdb_cursor_close(cursor);
    return rc;
}

int qo_store_lmdb_env_walk(const qo_store_lmdb_env_t *env, const qo_store_lmdb_kind_t *kind)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(env->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0) {
        return rc;
    }
    /* Handles 0 and 1 are LMDB's own in every environment: the list of free pages and the
     * list of databases. */
    for (MDB_dbi dbi = 0; dbi < 2 && rc == 0; dbi++) {
        rc = walk_database(txn, dbi);
    }
    for (unsigned int i = 0; kind->databases[i] != NULL && rc == 0; i++) {
        rc = walk_database(txn, env->db[i]);
    }
    mdb_txn_abort(txn);
    return rc;
}

int qo_store_lmdb_env_read(const qo_store_lmdb_env_t *env, MDB_txn **out)
{
    int dead;
    int rc = mdb_txn_begin(env->env, NULL, MDB_RDONLY, out);

    /* Processes that were killed while reading still hold their slots. */
    if (rc == MDB_READERS_FULL && (rc = mdb_reader_check(env->env, &dead)) == 0) {
        rc = mdb_txn_begin(env->env, NULL, MDB_RDONLY, out);
    }
    return rc;
}

int qo_store_lmdb_env_write(const qo_store_lmdb_env_t *env, MDB_txn **out)
{
    return mdb_txn_begin(env->env, NULL, 0, out);
}

int qo_store_lmdb_env_end(MDB_txn *txn, int rc)
{
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

int qo_store_lmdb_env_put(MDB_txn *txn, MDB_dbi dbi, MDB_val key, MDB_val value)
{
    return mdb_put(txn, dbi, &key, &value, 0);
}

int qo_store_lmdb_env_drop(MDB_txn *txn, MDB_dbi dbi, MDB_val key)
{
    int rc = mdb_del(txn, dbi, &key, NULL);

    return rc == MDB_NOTFOUND ? 0 : rc;
}

int qo_store_lmdb_env_count(MDB_txn *txn, MDB_dbi dbi, uint64_t *out)
{
    MDB_stat stat;
    int rc = mdb_stat(txn, dbi, &stat);

    *out = rc == 0 ? stat.ms_entries : 0;
    return rc;
}

int qo_store_lmdb_env_pop(MDB_cursor *order, apr_time_t now, unsigned char *spot,
                          size_t len)
{
    MDB_val key, data;
    int rc = mdb_cursor_get(order, &key, &data, MDB_FIRST);

    if (rc != 0) {
        return rc;
    }
    /* A key of another length can only be damage: it points at nothing, and goes. */
    memset(spot, 0, len);
    memcpy(spot, key.mv_data, key.mv_size < len ? key.mv_size : len);
    if (qo_store_lmdb_get64(spot) > (uint64_t)now) {
        return MDB_NOTFOUND;
    }
    return mdb_cursor_del(order, 0);
}

int qo_store_lmdb_env_check_readers(const qo_store_lmdb_t *s)
{
    int dead;
    int rc = mdb_reader_check(s->sessions.env, &dead);

    return rc != 0 ? rc : mdb_reader_check(s->fleeting.env, &dead);
}

static int open_files(qo_store_lmdb_t *s)
{
    int rc = qo_store_lmdb_env_open(&s->sessions, &qo_store_lmdb_sessions, s->paths[0]);

    if (rc == 0) {
        rc = qo_store_lmdb_env_open(&s->fleeting, &qo_store_lmdb_volatile, s->paths[1]);
    }
    return rc != 0 ? rc : qo_store_lmdb_env_check_readers(s);
}

/* Everything must be there, and nobody has thrown away what a crash of the machine may have
 * damaged. */
static int open_as_it_is(qo_store_lmdb_t *s)
{
    bool same = true;
    int rc;

    for (size_t i = 0; i < sizeof(s->locks) / sizeof(s->locks[0]); i++) {
        if (faccessat(AT_FDCWD, s->locks[i], R_OK | W_OK, AT_EACCESS) != 0) {
            return errno;
        }
    }
    rc = open_files(s);
    if (rc == 0) {
        rc = qo_store_lmdb_env_same_boot(&s->fleeting, &same);
    }
    return rc == 0 && !same ? ESTALE : rc;
}

static int open_as_owner(qo_store_lmdb_t *s)
{
    qo_store_lmdb_rights_t before;
    int rc = qo_store_lmdb_dir_enter(&before, s->dir);
    int left;

    if (rc != 0) {
        return rc;
    }
    rc = open_as_it_is(s);
    left = qo_store_lmdb_dir_leave(&before);
    return rc != 0 ? rc : left;
}

int qo_store_lmdb_env_open_all(qo_store_lmdb_t *s)
{
    int rc = s->as_it_is ? open_as_owner(s) : open_files(s);

    if (rc != 0) {
        qo_store_lmdb_env_close(&s->sessions);
        qo_store_lmdb_env_close(&s->fleeting);
        return rc;
    }
    s->owner = getpid();
    return 0;
}

#define PATIENCE (APR_USEC_PER_SEC / 10)

/* Not more than one thread, and not more than ten times a second. */
static bool reopen(qo_store_lmdb_t *s)
{
    apr_time_t now = apr_time_now();
    int rc = 0; /* another thread may have opened it meanwhile */

    if (pthread_mutex_trylock(&s->opening) != 0) {
        return false;
    }
    if (s->owner == 0 && s->process == getpid() && now - s->tried >= PATIENCE) {
        s->tried = now;
        rc = qo_store_lmdb_env_open_all(s);
    }
    (void)pthread_mutex_unlock(&s->opening); /* held by this thread */
    return rc == 0 && s->owner == getpid();
}

qo_store_lmdb_t *qo_store_lmdb_env_usable(qo_store_t *store, qo_err_t *err)
{
    qo_store_lmdb_t *s = (qo_store_lmdb_t *)store;
    pid_t owner = s->owner;

    if (owner == getpid() || (owner == 0 && s->process == getpid() && reopen(s))) {
        return s;
    }
    (void)qo_error(err, QO_E_STORE_UNAVAILABLE, "lmdb: the store %s",
                   owner == 0 ? "is not open in this process"
                              : "was opened by another process, before a fork");
    return NULL;
}

qo_status_t qo_store_lmdb_env_answer(qo_err_t *err, const char *doing, int rc)
{
    switch (rc) {
    case 0:
        return QO_OK;
    case MDB_NOTFOUND:
        return QO_E_NOT_FOUND;
    case MDB_KEYEXIST:
        return QO_E_CONFLICT;
    default:
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "lmdb: %s: %s", doing,
                        mdb_strerror(rc));
    }
}
