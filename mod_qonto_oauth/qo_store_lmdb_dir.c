#include "qo_store_lmdb_env.h"

#include <apr_strings.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/magic.h>
#include <sys/vfs.h>
#endif

typedef qo_store_lmdb_place_t place_t;

__attribute__((format(printf, 3, 4))) static qo_status_t refuse(qo_err_t *err,
                                                                const place_t *place,
                                                                const char *why, ...)
{
    char sentence[200];
    va_list args;

    va_start(args, why);
    (void)vsnprintf(sentence, sizeof(sentence), why, args);
    va_end(args);
    return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s %s", place->path, sentence);
}

/* -- the directory --------------------------------------------------------------------- */

/* LMDB's locks and memory map are those of one kernel: the name of the file system if
 * several machines can mount it. Numbers instead of names are those that kernel headers do
 * not have, or not all. */
#ifdef __linux__
static const char *find_network(int fd)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } shared[] = {
        {NFS_SUPER_MAGIC, "NFS"},   {SMB_SUPER_MAGIC, "SMB"}, {0xfe534d42, "SMB"},
        {0xff534d42, "CIFS"},       {AFS_SUPER_MAGIC, "AFS"}, {0x6b414653, "AFS"},
        {CODA_SUPER_MAGIC, "Coda"}, {NCP_SUPER_MAGIC, "NCP"}, {V9FS_MAGIC, "9P"},
        {0x00c36400, "Ceph"},       {0x0bd00bd0, "Lustre"},   {0x01161970, "GFS2"},
        {0x7461636f, "OCFS2"}};
    struct statfs fs;

    if (fstatfs(fd, &fs) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
        if (((unsigned long)fs.f_type & 0xffffffffUL) == shared[i].magic) {
            return shared[i].name;
        }
    }
    return NULL;
}
#else
static const char *find_network(int fd)
{
    (void)fd;
    return NULL;
}
#endif

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

/* A directory that was not made by us changes owner or mode only if nothing else lives
 * there: "lmdb:/tmp" or "lmdb:/root" must not lock everybody out of them. */
static bool is_ours_alone(int dir)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    bool strangers = false, ours = false;

    if (list == NULL) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return false;
    }
    while ((entry = readdir(list)) != NULL) {
        const char *name = entry->d_name;

        ours |= strcmp(name, qo_store_lmdb_sessions.file) == 0;
        strangers |= strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
                     !begins(name, "session") && !begins(name, "volatile") &&
                     !begins(name, "key");
    }
    (void)closedir(list);
    return ours || !strangers;
}

static qo_status_t take_over(const place_t *place, const struct stat *st, bool made,
                             qo_err_t *err)
{
    bool root = geteuid() == 0;
    bool give = root && (st->st_uid != place->uid || st->st_gid != place->gid);
    bool shut = (st->st_mode & 07777) != 0700;

    if (!give && !shut) {
        return QO_OK;
    }
    if (!root && st->st_uid != geteuid()) {
        return refuse(err, place,
                      "is neither private nor the present user's own: chown it "
                      "and chmod it 0700");
    }
    if (!made && !is_ours_alone(place->fd)) {
        return refuse(err, place,
                      "is not private or not the server user's own, and holds other "
                      "files: give the session store a directory of its own");
    }
    if (give && fchown(place->fd, place->uid, place->gid) != 0) {
        return refuse(err, place, "cannot be given to user %ld: %s", (long)place->uid,
                      strerror(errno));
    }
    if (shut && fchmod(place->fd, 0700) != 0) {
        return refuse(err, place, "cannot be made private: %s", strerror(errno));
    }
    return QO_OK;
}

static qo_status_t inspect_dir(const place_t *place, bool made, qo_err_t *err)
{
    const char *network;
    struct stat st;

    if (fstat(place->fd, &st) != 0) {
        return refuse(err, place, "cannot be examined: %s", strerror(errno));
    }
    if (st.st_uid != 0 && st.st_uid != geteuid() && st.st_uid != place->uid) {
        return refuse(err, place,
                      "belongs to user %ld, who is neither root nor the "
                      "server's user: chown it, or name another directory",
                      (long)st.st_uid);
    }
    network = find_network(place->fd);
    if (network != NULL) {
        return refuse(err, place,
                      "is on a network file system (%s), where LMDB would "
                      "damage its files: name a local directory "
                      "(QontoSessionStore lmdb:DIR)",
                      network);
    }
    return take_over(place, &st, made, err);
}

static qo_status_t enter(place_t *place, qo_err_t *err)
{
    bool made = mkdir(place->path, 0700) == 0;

    if (!made && errno == ENOENT) {
        return refuse(err, place,
                      "cannot be made because the directory above it does not exist: make "
                      "that, or name another place (QontoSessionStore lmdb:DIR)");
    }
    if (!made && errno != EEXIST) {
        return refuse(err, place, "cannot be made: %s", strerror(errno));
    }
    place->fd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place->fd < 0) {
        return refuse(err, place, "cannot be opened: %s", strerror(errno));
    }
    return inspect_dir(place, made, err);
}

/* -- its files ------------------------------------------------------------------------- */

static void note(place_t *place, const char *words)
{
    place->notes = place->notes == NULL
                       ? words
                       : apr_pstrcat(place->p, place->notes, "; ", words, NULL);
}

/* The lock file goes first: were it left to a new data file, old children and new ones
 * would count transactions of different files in one table. */
static bool forget_lock(const place_t *place, const qo_store_lmdb_kind_t *kind)
{
    const char *lock = apr_pstrcat(place->p, kind->file, "-lock", NULL);

    return unlinkat(place->fd, lock, 0) == 0 || errno == ENOENT;
}

static bool remove_file(const place_t *place, const qo_store_lmdb_kind_t *kind)
{
    return forget_lock(place, kind) && unlinkat(place->fd, kind->file, 0) == 0;
}

static bool move_aside(place_t *place, const qo_store_lmdb_kind_t *kind, const char *why)
{
    apr_time_exp_t at;
    const char *name;

    (void)apr_time_exp_gmt(&at, place->now);
    name = apr_psprintf(place->p, "%s.%04d%02d%02dT%02d%02d%02dZ", kind->file,
                        at.tm_year + 1900, at.tm_mon + 1, at.tm_mday, at.tm_hour, at.tm_min,
                        at.tm_sec);
    if (!forget_lock(place, kind) ||
        renameat(place->fd, kind->file, place->fd, name) != 0) {
        return false;
    }
    note(place, apr_psprintf(place->p, "%s %s and moved to %s", kind->file, why, name));
    return true;
}

static qo_status_t settle(place_t *place, const qo_store_lmdb_kind_t *kind, qo_err_t *err)
{
    qo_store_lmdb_report_t report;
    bool again;

    qo_store_lmdb_check(place, kind, &report);
    again =
        (report.verdict == QO_STORE_LMDB_DAMAGED && move_aside(place, kind, report.why)) ||
        (report.verdict == QO_STORE_LMDB_STALE && remove_file(place, kind));
    if (again) {
        qo_store_lmdb_check(place, kind, &report);
    }
    if (report.verdict == QO_STORE_LMDB_DAMAGED || report.verdict == QO_STORE_LMDB_STALE) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s/%s %s and cannot be replaced",
                        place->path, kind->file, report.why);
    }
    if (report.verdict != QO_STORE_LMDB_FINE) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s/%s %s", place->path, kind->file,
                        report.why);
    }
    if (report.why[0] != '\0') {
        note(place, apr_psprintf(place->p, "%s %s", kind->file, report.why));
    }
    return QO_OK;
}

qo_status_t qo_store_lmdb_dir_prepare(apr_pool_t *p, const char *dir, long uid, long gid,
                                      qo_err_t *err)
{
    bool root = geteuid() == 0;
    place_t place = {.p = p,
                     .path = dir,
                     .fd = -1,
                     .uid = root && uid >= 0 ? (uid_t)uid : geteuid(),
                     .gid = root && gid >= 0 ? (gid_t)gid : getegid(),
                     .now = apr_time_now()};
    qo_status_t status = enter(&place, err);

    if (status == QO_OK) {
        status = settle(&place, &qo_store_lmdb_sessions, err);
    }
    if (status == QO_OK) {
        status = settle(&place, &qo_store_lmdb_volatile, err);
    }
    if (place.fd >= 0) {
        (void)close(place.fd);
    }
    if (status == QO_OK && place.notes != NULL) {
        return qo_error(err, QO_OK, "%s: %s", dir, place.notes);
    }
    return status;
}

/* -- beside the server ----------------------------------------------------------------- */

int qo_store_lmdb_dir_enter(qo_store_lmdb_rights_t *before, const char *dir)
{
    struct stat st;

    *before = (qo_store_lmdb_rights_t){geteuid(), getegid()};
    if (stat(dir, &st) != 0) {
        return errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        return ENOTDIR;
    }
    if (before->uid != 0 || st.st_uid == 0) {
        return 0; /* the rights we have will do, or must */
    }
    if (setegid(st.st_gid) != 0) {
        return errno;
    }
    if (seteuid(st.st_uid) != 0) {
        int rc = errno;

        return setegid(before->gid) != 0 ? errno : rc;
    }
    return 0;
}

int qo_store_lmdb_dir_leave(const qo_store_lmdb_rights_t *before)
{
    if (before->uid == geteuid()) {
        return 0;
    }
    return seteuid(before->uid) != 0 || setegid(before->gid) != 0 ? errno : 0;
}
