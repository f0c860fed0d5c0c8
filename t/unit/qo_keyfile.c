/* The key file: made once, private, never guessed at. */
#include "qo_keyfile.h"
#include "qo_limits.h"

#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static apr_pool_t *pool;
static const char *top;

static const char *in_top(const char *name)
{
    return apr_pstrcat(pool, top, "/", name, NULL);
}

static int mode_of(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 ? (int)(info.st_mode & 07777) : -1;
}

static bool write_file(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) &&
                fchmod(fd, mode) == 0;

    return fd >= 0 && close(fd) == 0 && good;
}

static void check_made(mode_t mask, const char *name)
{
    const char *dir = in_top(name);
    const char *key = NULL;
    const char *again = NULL;
    mode_t before = umask(mask);
    qo_status_t status = qo_keyfile_load(&key, pool, dir, NULL);

    umask(before);
    if (!tap_ok(status == QO_OK && key != NULL, "a key is made, umask %03o",
                (unsigned)mask)) {
        return;
    }
    tap_ok(strlen(key) >= QO_KEY_MIN, "long enough for a session key");
    tap_int(mode_of(dir), 0700, "in a directory of its owner");
    tap_int(mode_of(apr_pstrcat(pool, dir, "/key", NULL)), 0600, "in a file of its owner");
    tap_int(qo_keyfile_load(&again, pool, dir, NULL), QO_OK, "it is read again");
    tap_is(again, key, "and is the same");
}

static void check_different(void)
{
    const char *one = NULL;
    const char *two = NULL;

    tap_ok(qo_keyfile_load(&one, pool, in_top("one"), NULL) == QO_OK &&
               qo_keyfile_load(&two, pool, in_top("two"), NULL) == QO_OK &&
               strcmp(one, two) != 0,
           "two servers, two keys");
}

/* A directory that is there keeps its mode: the store may need it so. */
static void check_existing_dir(void)
{
    const char *dir = in_top("there");
    const char *key = NULL;

    tap_ok(mkdir(dir, 0750) == 0 && chmod(dir, 0750) == 0, "a directory made before");
    tap_int(qo_keyfile_load(&key, pool, dir, NULL), QO_OK, "takes a key");
    tap_int(mode_of(apr_pstrcat(pool, dir, "/key", NULL)), 0600, "a private one");
}

static void check_open_to_others(void)
{
    static const mode_t modes[] = {0640, 0604, 0660, 0644, 0666, 0606, 0777};
    const char *dir = in_top("open");
    const char *file = in_top("open/key");
    const char *key = NULL;

    tap_int(qo_keyfile_load(&key, pool, dir, NULL), QO_OK, "a key");
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        qo_err_t err = {"", 0};
        const char *got = NULL;

        chmod(file, modes[i]);
        qo_status_t status = qo_keyfile_load(&got, pool, dir, &err);
        tap_ok(status == QO_E_STORE_UNAVAILABLE && err.detail[0] != '\0' &&
                   strstr(err.detail, key) == NULL,
               "refused with mode %04o, and told why", (unsigned)modes[i]);
    }
    chmod(file, 0400);
    tap_int(qo_keyfile_load(&key, pool, dir, NULL), QO_OK, "0400 is private as well");
}

static void check_bad_files(void)
{
    static const char *const texts[] = {"", "\n", "short",
                                        "1234567890123456789012345678901"};
    const char *dir = in_top("bad");
    const char *file = in_top("bad/key");

    mkdir(dir, 0700);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *key = NULL;
        qo_err_t err = {"", 0};

        if (!write_file(file, texts[i], 0600)) {
            tap_ok(false, "a file to read");
            continue;
        }
        tap_int(qo_keyfile_load(&key, pool, dir, &err), QO_E_STORE_UNAVAILABLE,
                "a key too short to be one is refused, not replaced");
        tap_ok(err.detail[0] != '\0', "and told why");
    }
}

static void check_bad_places(void)
{
    const char *key = NULL;
    qo_err_t err = {"", 0};

    tap_ok(write_file(in_top("plain"), "x", 0600), "a file");
    tap_int(qo_keyfile_load(&key, pool, in_top("plain"), &err), QO_E_STORE_UNAVAILABLE,
            "is no directory");
    tap_ok(err.detail[0] != '\0', "and that is told");
    mkdir(in_top("odd"), 0700);
    mkdir(in_top("odd/key"), 0700);
    tap_int(qo_keyfile_load(&key, pool, in_top("odd"), NULL), QO_E_STORE_UNAVAILABLE,
            "a directory is no key");
    tap_int(qo_keyfile_load(&key, pool, "/proc/self/qonto", NULL), QO_E_STORE_UNAVAILABLE,
            "where nothing can be made nothing is");
}

/* Who serves requests may own the directory; a key of theirs would be a planted one. */
static void check_planted(void)
{
    static const char text[] = "0123456789012345678901234567890123456789012\n";
    const char *key = NULL;

    mkdir(in_top("planted"), 0700);
    tap_ok(write_file(in_top("elsewhere"), text, 0600) &&
               symlink(in_top("elsewhere"), in_top("planted/key")) == 0,
           "a link to a key");
    tap_int(qo_keyfile_load(&key, pool, in_top("planted"), NULL), QO_E_STORE_UNAVAILABLE,
            "is not followed");
    unlink(in_top("planted/key"));
    if (geteuid() != 0) {
        tap_ok(true, "another user's key # SKIP needs root");
        return;
    }
    tap_ok(write_file(in_top("planted/key"), text, 0600) &&
               chown(in_top("planted/key"), 65534, 65534) == 0,
           "another user's key");
    tap_int(qo_keyfile_load(&key, pool, in_top("planted"), NULL), QO_E_STORE_UNAVAILABLE,
            "is not used");
}

/* Who only looks makes nothing. */
static void check_reading(void)
{
    const char *key = NULL;
    const char *seen = NULL;

    tap_int(qo_keyfile_read(&key, pool, in_top("nowhere"), NULL), QO_E_NOT_FOUND,
            "no key where there is no directory");
    tap_int(mode_of(in_top("nowhere")), -1, "and none is made");
    mkdir(in_top("keyless"), 0700);
    tap_int(qo_keyfile_read(&key, pool, in_top("keyless"), NULL), QO_E_NOT_FOUND,
            "none in an empty directory");
    tap_int(mode_of(in_top("keyless/key")), -1, "nor is one made there");
    tap_int(qo_keyfile_load(&key, pool, in_top("keyless"), NULL), QO_OK, "when one is");
    tap_int(qo_keyfile_read(&seen, pool, in_top("keyless"), NULL), QO_OK, "it is read");
    tap_is(seen, key, "as it is");
}

/* Several servers that start at once on one directory end up with one key. */
static void check_race(void)
{
    enum { STARTERS = 8, ROUNDS = 10 };
    int unlike = 0;

    for (int round = 0; round < ROUNDS; round++) {
        const char *dir = apr_psprintf(pool, "%s/race%d", top, round);
        pid_t children[STARTERS];
        const char *key = NULL;

        for (int i = 0; i < STARTERS; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                const char *mine = NULL;
                qo_status_t status = qo_keyfile_load(&mine, pool, dir, NULL);
                const char *seen = NULL;

                status = status == QO_OK ? qo_keyfile_load(&seen, pool, dir, NULL) : status;
                _exit(status == QO_OK && strcmp(mine, seen) == 0 ? 0 : 1);
            }
        }
        for (int i = 0; i < STARTERS; i++) {
            int status = 1;

            unlike += waitpid(children[i], &status, 0) != children[i] || status != 0;
        }
        unlike += qo_keyfile_load(&key, pool, dir, NULL) != QO_OK;
    }
    tap_int(unlike, 0, "80 starts at once agree on their keys");
}

int main(void)
{
    char name[] = "/tmp/qo_keyfile.XXXXXX";

    apr_initialize();
    apr_pool_create(&pool, NULL);
    alarm(60);
    top = mkdtemp(name);
    if (top == NULL) {
        tap_ok(false, "a place to try it");
        return tap_done();
    }
    check_made(022, "usual");
    check_made(0, "none");
    check_made(077, "strict");
    check_different();
    check_existing_dir();
    check_open_to_others();
    check_bad_files();
    check_bad_places();
    check_planted();
    check_reading();
    check_race();
    tap_ok(system(apr_pstrcat(pool, "rm -rf ", top, NULL)) == 0, "swept");
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
