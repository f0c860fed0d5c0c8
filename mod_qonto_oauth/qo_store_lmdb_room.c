#include "qo_store_lmdb_env.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* A page that has been freed is used again before the file grows, once no reader sees it
 * any more. So what is left is what the file may still grow, and its free pages; those are
 * only counted when the first is not enough.
 *
 * A transaction writes new pages before the old ones are free, and those only serve the one
 * after the next. So on a full disk nothing could be written at all, no log-out and no
 * refreshed token, unless the file had some room of its own in hand. */

/* One line of LMDB's list of readers: process, thread, and the transaction it reads, which
 * is "-" when it is idle. */
static int look_at_reader(const char *line, void *data)
{
    size_t *oldest = data, txn;

    if (sscanf(line, "%*d %*x %zu", &txn) == 1 && txn < *oldest) {
        *oldest = txn;
    }
    return 0;
}

/* Pages are free in lists, database 0: the transaction that freed them -> how many, and
 * their numbers. A list is of use when all readers are younger. */
static int count_lists(MDB_cursor *lists, size_t oldest, uint64_t enough, uint64_t *pages)
{
    MDB_val key, list;
    size_t txn, len;
    int rc = mdb_cursor_get(lists, &key, &list, MDB_FIRST);

    for (; rc == 0 && *pages < enough; rc = mdb_cursor_get(lists, &key, &list, MDB_NEXT)) {
        if (key.mv_size != sizeof(txn) || list.mv_size < sizeof(len)) {
            return MDB_CORRUPTED;
        }
        memcpy(&txn, key.mv_data, sizeof(txn));
        memcpy(&len, list.mv_data, sizeof(len));
        if (txn >= oldest) {
            break;
        }
        *pages += len;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int count_free(const qo_store_lmdb_env_t *env, uint64_t enough, uint64_t *pages)
{
    size_t oldest = SIZE_MAX;
    MDB_cursor *lists;
    MDB_txn *txn;
    int rc = qo_store_lmdb_env_read(env, &txn);

    if (rc != 0) {
        return rc;
    }
    rc = mdb_reader_list(env->env, look_at_reader, &oldest); /* this one among them */
    if (rc >= 0 && (rc = mdb_cursor_open(txn, 0, &lists)) == 0) {
        rc = count_lists(lists, oldest, enough, pages);
        mdb_cursor_close(lists);
    }
    mdb_txn_abort(txn);
    return rc;
}

typedef struct {
    int fd;
    uint64_t page; /* bytes of one */
    uint64_t used; /* all in bytes */
    uint64_t map;
    uint64_t size; /* of the file, which has more than is used in hand */
} extent_t;

static int measure(const qo_store_lmdb_env_t *env, extent_t *out)
{
    struct stat st;
    MDB_envinfo info;
    MDB_stat pages;
    int rc;

    if ((rc = mdb_env_stat(env->env, &pages)) != 0 ||
        (rc = mdb_env_info(env->env, &info)) != 0 ||
        (rc = mdb_env_get_fd(env->env, &out->fd)) != 0) {
        return rc;
    }
    if (fstat(out->fd, &st) != 0) {
        return errno;
    }
    out->page = pages.ms_psize;
    out->used = (info.me_last_pgno + 1) * out->page;
    out->map = info.me_mapsize;
    out->size = (uint64_t)st.st_size > out->used ? (uint64_t)st.st_size : out->used;
    return 0;
}

/* posix_fallocate would write into the file where the file system has no such call. Failure
 * is no news: what is left is looked at in any case. */
static void take_in_hand(extent_t *extent)
{
#ifdef __linux__
    uint64_t size = extent->used + QO_ROOM_IN_HAND;

    if (extent->size - extent->used < QO_ROOM_IN_HAND / 2 && size <= extent->map &&
        fallocate(extent->fd, 0, (off_t)extent->used, QO_ROOM_IN_HAND) == 0) {
        extent->size = size;
    }
#else
    (void)extent;
#endif
}

int qo_store_lmdb_room_take(const qo_store_lmdb_env_t *env)
{
    extent_t extent;
    int rc = measure(env, &extent);

    if (rc == 0) {
        take_in_hand(&extent);
    }
    return rc;
}

/* How many pages the file may grow, and what would stop it. */
static int count_growth(const extent_t *extent, uint64_t *pages, int *stop)
{
    uint64_t map = extent->map > extent->used ? extent->map - extent->used : 0, disk;
    struct statvfs fs;

    if (fstatvfs(extent->fd, &fs) != 0) {
        return errno;
    }
    disk = extent->size - extent->used +
           (uint64_t)fs.f_bavail * (fs.f_frsize != 0 ? fs.f_frsize : fs.f_bsize);
    *pages = (map < disk ? map : disk) / extent->page;
    *stop = map < disk ? MDB_MAP_FULL : ENOSPC;
    return 0;
}

int qo_store_lmdb_room_left(const qo_store_lmdb_env_t *env, uint64_t need)
{
    uint64_t pages = 0, enough;
    extent_t extent;
    int stop = 0;
    int rc = measure(env, &extent);

    if (rc != 0) {
        return rc;
    }
    take_in_hand(&extent);
    enough = need / extent.page + 1;
    rc = count_growth(&extent, &pages, &stop);
    if (rc == 0 && pages < enough) {
        rc = count_free(env, enough, &pages);
    }
    return rc != 0 || pages >= enough ? rc : stop;
}

bool qo_store_lmdb_room_lacks(int rc)
{
    return rc == MDB_MAP_FULL || rc == ENOSPC || rc == EDQUOT;
}

qo_status_t qo_store_lmdb_room_refuse(const qo_store_lmdb_t *s, qo_err_t *err,
                                      qo_status_t status, const char *what, uint64_t need,
                                      int rc)
{
    if (rc == MDB_MAP_FULL) {
        return qo_error(err, status,
                        "lmdb: no %s: less than %lu MiB are left of what a file may hold",
                        what, (unsigned long)(need >> 20));
    }
    return qo_error(err, status,
                    "lmdb: no %s: less than %lu MiB are left on the file system of %s",
                    what, (unsigned long)(need >> 20), s->dir);
}
