#include "qo_rights.h"
#include "qo_store_lmdb_env.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK_SECONDS 60

typedef qo_store_lmdb_place_t place_t;
typedef qo_store_lmdb_report_t report_t;

/* -- in the forked process ------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void say(report_t *report,
                                                      qo_store_lmdb_verdict_t verdict,
                                                      const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(report->why, sizeof(report->why), format, args);
    va_end(args);
    report->verdict = verdict;
}

/* The server's own handlers would write a crash into its error log as if it were its own,
 * and a core file would hold the private keys of the parent. */
static void prepare_to_die(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM};
    const struct rlimit none = {0, 0};
    sigset_t alarms;

    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        (void)signal(signals[i], SIG_DFL);
    }
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)sigemptyset(&alarms);
    (void)sigaddset(&alarms, SIGALRM);
    (void)sigprocmask(SIG_UNBLOCK, &alarms, NULL);
    (void)umask(077);
    (void)alarm(CHECK_SECONDS);
}

/* The directory belongs to the children's user, so what is in it is not to be trusted by
 * root: a link to somebody else's file must not be followed, changed or given away. */
static bool claim_file(const place_t *place, const char *name, report_t *report)
{
    int fd = openat(place->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    bool done = true;

    if (fd < 0 && errno == ENOENT) {
        return true;
    }
    if (fd < 0) {
        say(report, QO_STORE_LMDB_BROKEN, "cannot be opened: %s",
            errno == ELOOP ? "it is a symbolic link" : strerror(errno));
        return false;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1) {
        say(report, QO_STORE_LMDB_BROKEN, "is not a plain file with one name");
        done = false;
    } else if ((st.st_uid != place->uid && fchown(fd, place->uid, place->gid) != 0) ||
               ((st.st_mode & 07777) != 0600 && fchmod(fd, 0600) != 0)) {
        say(report, QO_STORE_LMDB_BROKEN, "cannot be made the server user's own: %s",
            strerror(errno));
        done = false;
    }
    (void)close(fd);
    return done;
}

/* Everything LMDB does in the parent's name is done with the rights of the children: files
 * get the right owner, and a path the children cannot reach shows now. */
static bool become_user(const place_t *place, report_t *report)
{
    if (!qo_rights_become((long)place->uid, (long)place->gid)) {
        say(report, QO_STORE_LMDB_BROKEN, "cannot be checked as user %ld: %s",
            (long)place->uid, strerror(errno));
        return false;
    }
    return true;
}

/* LMDB's own codes are negative. These speak of this process and not of the file. */
static qo_store_lmdb_verdict_t judge(int rc)
{
    switch (rc) {
    case MDB_READERS_FULL:
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case MDB_DBS_FULL:
        return QO_STORE_LMDB_BROKEN;
    default:
        return rc > 0 ? QO_STORE_LMDB_BROKEN : QO_STORE_LMDB_DAMAGED;
    }
}

static void complain(const place_t *place, int rc, report_t *report)
{
    if (rc == MDB_VERSION_MISMATCH) {
        say(report, QO_STORE_LMDB_DAMAGED, "was of another version");
    } else if (judge(rc) == QO_STORE_LMDB_DAMAGED) {
        say(report, QO_STORE_LMDB_DAMAGED, "was damaged (%s)", mdb_strerror(rc));
    } else {
        say(report, QO_STORE_LMDB_BROKEN, "cannot be opened by user %ld: %s",
            (long)place->uid, mdb_strerror(rc));
    }
}

static void examine(const place_t *place, const qo_store_lmdb_kind_t *kind,
                    const char *path, report_t *report)
{
    qo_store_lmdb_env_t env;
    bool same = true;
    int rc = qo_store_lmdb_env_make(&env, kind, path, place->now);

    if (rc != 0) {
        complain(place, rc, report);
        return;
    }
    rc = kind->per_boot ? qo_store_lmdb_env_same_boot(&env, &same) : 0;
    if (rc == 0 && same) {
        report->walking = true;
        rc = qo_store_lmdb_env_walk(&env, kind);
    }
    qo_store_lmdb_env_close(&env);
    if (rc != 0) {
        complain(place, rc, report);
    } else if (!same) {
        say(report, QO_STORE_LMDB_STALE, "is older than the last boot");
    } else {
        report->verdict = QO_STORE_LMDB_FINE;
    }
}

static void run_check(const place_t *place, const qo_store_lmdb_kind_t *kind,
                      report_t *report)
{
    const char *path = apr_pstrcat(place->p, place->path, "/", kind->file, NULL);
    const char *lock = apr_pstrcat(place->p, kind->file, "-lock", NULL);

    prepare_to_die();
    if (claim_file(place, kind->file, report) && claim_file(place, lock, report) &&
        become_user(place, report)) {
        examine(place, kind, path, report);
    }
}

/* -- in the parent --------------------------------------------------------------------- */

/* Only a crash accuses the file. A slow disk, a stopped process that holds the lock, or an
 * operator's kill do not. */
static void judge_end(report_t *report, int state)
{
    int by = WIFSIGNALED(state) ? WTERMSIG(state) : 0;

    if (by == SIGALRM && report->walking) {
        say(report, QO_STORE_LMDB_FINE,
            "could not be checked within %d seconds and is used as it is", CHECK_SECONDS);
    } else if (by == SIGALRM) {
        say(report, QO_STORE_LMDB_BROKEN,
            "did not open within %d seconds: does a stopped process hold it?",
            CHECK_SECONDS);
    } else if (by == SIGSEGV || by == SIGBUS || by == SIGABRT || by == SIGFPE ||
               by == SIGILL) {
        say(report, QO_STORE_LMDB_DAMAGED, "was damaged (checking it ended with signal %d)",
            by);
    } else if (by != 0) {
        say(report, QO_STORE_LMDB_BROKEN,
            "could not be checked: the check was ended by signal %d", by);
    }
}

static void wait_for(pid_t child, report_t *report)
{
    int state = 0;
    pid_t got;

    do {
        got = waitpid(child, &state, 0);
    } while (got < 0 && errno == EINTR);
    /* ECHILD: somebody ignores SIGCHLD, but the child has ended and may have told. */
    if (got == child) {
        judge_end(report, state);
    }
    if (report->verdict == QO_STORE_LMDB_SILENT) {
        say(report, QO_STORE_LMDB_BROKEN,
            "could not be checked: the check ended without a word");
    }
}

void qo_store_lmdb_check(const place_t *place, const qo_store_lmdb_kind_t *kind,
                         report_t *out)
{
    report_t *report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child;

    memset(out, 0, sizeof(*out));
    if (report == MAP_FAILED) {
        say(out, QO_STORE_LMDB_BROKEN, "could not be checked: %s", strerror(errno));
        return;
    }
    child = fork();
    if (child == 0) {
        run_check(place, kind, report);
        _exit(0);
    }
    if (child < 0) {
        say(report, QO_STORE_LMDB_BROKEN, "could not be checked: %s", strerror(errno));
    } else {
        wait_for(child, report);
    }
    *out = *report;
    (void)munmap(report, sizeof(*report));
}
