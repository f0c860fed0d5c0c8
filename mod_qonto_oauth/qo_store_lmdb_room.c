#include "qo_store_lmdb_env.h"

#include <errno.h>
#include <sys/statvfs.h>

/* A page that has been freed is used again before the file grows, so what is left is what
 * the file may still grow, and its free pages. Those are counted only when the first is not
 * enough. Some may still be seen by a reader and cannot be used at once; that is no worse
 * than a moment later. */

/* Pages that later transactions may use again: LMDB keeps them in lists, database 0, each
 * of which begins with its length. */
static int count_free(const qo_store_lmdb_env_t *env, uint64_t enough, uint64_t *pages)
{
    MDB_cursor *lists;
    MDB_val key, list;
    MDB_txn *txn;
    size_t len;
    int rc = qo_store_lmdb_env_read(env, &txn);

    if (rc != 0) {
        return rc;
    }
    if ((rc = mdb_cursor_open(txn, 0, &lists)) == 0) {
        rc = mdb_cursor_get(lists, &key, &list, MDB_FIRST);
        for (; rc == 0 && *pages < enough;
             rc = mdb_cursor_get(lists, &key, &list, MDB_NEXT)) {
            len = 0;
            memcpy(&len, list.mv_data,
                   list.mv_size < sizeof(len) ? list.mv_size : sizeof(len));
            *pages += len;
        }
        mdb_cursor_close(lists);
    }
    mdb_txn_abort(txn);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* How many pages the file may grow, and what would stop it. */
static int count_growth(const qo_store_lmdb_env_t *env, uint64_t page, uint64_t *pages,
                        int *stop)
{
    uint64_t map, disk;
    struct statvfs fs;
    MDB_envinfo info;
    mdb_filehandle_t fd;
    int rc = mdb_env_info(env->env, &info);

    if (rc != 0 || (rc = mdb_env_get_fd(env->env, &fd)) != 0) {
        return rc;
    }
    if (fstatvfs(fd, &fs) != 0) {
        return errno;
    }
    map = info.me_mapsize / page;
    map = map > info.me_last_pgno + 1 ? map - info.me_last_pgno - 1 : 0;
    disk = (uint64_t)fs.f_bavail * (fs.f_frsize != 0 ? fs.f_frsize : fs.f_bsize) / page;
    *pages = map < disk ? map : disk;
    *stop = map < disk ? MDB_MAP_FULL : ENOSPC;
    return 0;
}

int qo_store_lmdb_room_left(const qo_store_lmdb_env_t *env, uint64_t need)
{
    uint64_t pages = 0, enough;
    MDB_stat stat;
    int stop = 0;
    int rc = mdb_env_stat(env->env, &stat);

    if (rc != 0) {
        return rc;
    }
    enough = need / stat.ms_psize + 1;
    rc = count_growth(env, stat.ms_psize, &pages, &stop);
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
