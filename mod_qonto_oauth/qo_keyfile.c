#include "qo_keyfile.h"

#include "qo_crypto.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static qo_status_t fail(qo_err_t *err, const char *what, const char *path)
{
    return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s %s: %s", what, path, strerror(errno));
}

/* Written under another name and linked into place, so that nobody ever reads half a key
 * and of two servers that start at once both use the same. */
static qo_status_t make(apr_pool_t *p, const char *path, qo_err_t *err)
{
    const char *draft = apr_psprintf(p, "%s.%ld", path, (long)getpid());
    char key[QO_SECRET_TEXT + 2];
    bool written;
    int fd;

    if (qo_crypto_secret(key, QO_SECRET_BYTES) != QO_OK) {
        return qo_error(err, QO_E_INTERNAL, "no randomness for a session key");
    }
    key[QO_SECRET_TEXT] = '\n';
    (void)unlink(draft); /* of a start that was killed */
    fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return fail(err, "cannot make the session key", draft);
    }
    written = write(fd, key, QO_SECRET_TEXT + 1) == QO_SECRET_TEXT + 1 && fsync(fd) == 0;
    qo_crypto_wipe(key, sizeof(key));
    written = close(fd) == 0 && written;
    written = written && (link(draft, path) == 0 || errno == EEXIST);
    if (!written) {
        (void)fail(err, "cannot make the session key", path); /* before unlink sets errno */
    }
    (void)unlink(draft); /* a left-over draft is harmless */
    return written ? QO_OK : QO_E_STORE_UNAVAILABLE;
}

static qo_status_t read_key(const char **out, apr_pool_t *p, int fd, const char *path,
                            qo_err_t *err)
{
    char *key = apr_pcalloc(p, QO_SECRET_TEXT + 1);
    struct stat info;

    if (fstat(fd, &info) != 0) {
        return fail(err, "cannot read the session key", path);
    }
    /* The directory may belong to the user that serves requests, the key must not: who has
     * taken over a child could plant one. */
    if (!S_ISREG(info.st_mode) || info.st_uid != geteuid()) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "the session key %s is no file of the user who starts httpd: "
                        "remove it to have a "
                        "new one made (all sessions end)",
                        path);
    }
    if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "the session key %s can be read by other users: chmod 600 it",
                        path);
    }
    if (read(fd, key, QO_SECRET_TEXT) != QO_SECRET_TEXT) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "the session key %s is damaged: remove it to have a new one made "
                        "(all sessions end)",
                        path);
    }
    *out = key;
    return QO_OK;
}

qo_status_t qo_keyfile_read(const char **out, apr_pool_t *p, const char *dir, qo_err_t *err)
{
    const char *path = apr_pstrcat(p, dir, "/key", NULL);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    qo_status_t status;

    if (fd < 0 && errno == ENOENT) {
        return QO_E_NOT_FOUND;
    }
    if (fd < 0) {
        return fail(err, "cannot read the session key", path);
    }
    status = read_key(out, p, fd, path, err);
    (void)close(fd); /* opened for reading: nothing can be lost */
    return status;
}

qo_status_t qo_keyfile_load(const char **out, apr_pool_t *p, const char *dir, qo_err_t *err)
{
    qo_status_t status;

    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return fail(err, "cannot make the directory", dir);
    }
    status = qo_keyfile_read(out, p, dir, err);
    if (status != QO_E_NOT_FOUND) {
        return status;
    }
    status = make(p, apr_pstrcat(p, dir, "/key", NULL), err);
    if (status == QO_OK) {
        status = qo_keyfile_read(out, p, dir, err);
    }
    if (status == QO_E_NOT_FOUND) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "the session key %s/key has gone",
                        dir);
    }
    return status;
}
