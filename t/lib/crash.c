/* Preloaded into httpd (LD_PRELOAD), ends or stops the process at one point of a refresh,
 * on request of a test. The file that QO_CRASH names says "POINT ACTION":
 *
 *   before     the call to Qonto is about to be made: the lease is recorded
 *   after      Qonto has answered; nobody knows yet but this thread
 *   commit     the new tokens are about to be committed, LMDB's write lock is held
 *   committed  they are durable; the lease is not given back yet
 *
 *   kill       SIGKILL to itself         stop     SIGSTOP to itself
 *   note       nothing
 *   fail       the commit fails as on a full disk (sessions, not leases)
 *   fail-on    and so does each until the test takes the file away
 *
 * Whoever meets the point takes the file away, so that it happens once, and leaves its
 * process number in a file of the same name and ".pid". */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int curl_easy_perform(void *handle);
int mdb_txn_commit(void *txn);

typedef int call_t(void *);
typedef void end_t(void *);

static _Thread_local bool answered; /* this thread has new tokens that are not stored yet */

static void find(void *function, const char *name)
{
    void *symbol = dlsym(RTLD_NEXT, name);

    if (symbol == NULL) {
        abort();
    }
    memcpy(function, &symbol, sizeof symbol);
}

static int real(const char *name, void *argument)
{
    call_t *call;

    find(&call, name);
    return call(argument);
}

/* Is it the file that must not lose anything? */
static bool durable(void *txn)
{
    void *(*env_of)(void *);
    int (*path_of)(void *, const char **);
    const char *path;

    find(&env_of, "mdb_txn_env");
    find(&path_of, "mdb_env_get_path");
    return path_of(env_of(txn), &path) == 0 && strstr(path, "/sessions") != NULL;
}

static int fail(void *txn)
{
    end_t *give_up;

    find(&give_up, "mdb_txn_abort");
    give_up(txn);
    return ENOSPC;
}

/* What the test wants at this point; false if nothing, or another was faster. */
static bool wish(char action[16], const char *control, const char *point)
{
    char text[32] = "";
    char where[16];
    int fd = open(control, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0) {
        close(fd);
    }
    if (got <= 0 || sscanf(text, "%15s %15s", where, action) != 2 ||
        strcmp(where, point) != 0) {
        return false;
    }
    return strcmp(action, "fail-on") == 0 || unlink(control) == 0;
}

static void leave_number(const char *control)
{
    char path[PATH_MAX];
    char text[16];
    int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
    int fd;

    (void)snprintf(path, sizeof path, "%s.pid", control);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, (size_t)len) != len) {
        abort();
    }
    close(fd);
}

/* True when the test wants a failure there. */
static bool reach(const char *point)
{
    const char *control = getenv("QO_CRASH");
    char action[16];

    if (control == NULL || !wish(action, control, point)) {
        return false;
    }
    leave_number(control);
    if (strcmp(action, "kill") == 0) {
        raise(SIGKILL);
    }
    if (strcmp(action, "stop") == 0) {
        raise(SIGSTOP); /* this very thread: else it would run on for a moment */
    }
    return strncmp(action, "fail", 4) == 0;
}

int curl_easy_perform(void *handle)
{
    int result;

    (void)reach("before");
    result = real("curl_easy_perform", handle);
    (void)reach("after");
    answered = true;
    return result;
}

int mdb_txn_commit(void *txn)
{
    int result;

    if (!answered || !durable(txn)) {
        return real("mdb_txn_commit", txn);
    }
    if (reach("commit")) {
        return fail(txn); /* and the next attempt is still one after an answer */
    }
    answered = false;
    result = real("mdb_txn_commit", txn);
    (void)reach("committed");
    return result;
}
