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
 *
 * Whoever meets the point takes the file away, so that it happens once, and leaves its
 * process number in a file of the same name and ".pid". */
#include <dlfcn.h>
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

static _Thread_local bool answered; /* this thread has new tokens that are not stored yet */

static call_t *real(const char *name)
{
    void *symbol = dlsym(RTLD_NEXT, name);
    call_t *call;

    if (symbol == NULL) {
        abort();
    }
    memcpy(&call, &symbol, sizeof call);
    return call;
}

/* What the test wants at this point; 0 if nothing, or another was faster. */
static char wish(const char *control, const char *point)
{
    char text[32] = "";
    char action[16];
    char where[16];
    int fd = open(control, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0) {
        close(fd);
    }
    if (got <= 0 || sscanf(text, "%15s %15s", where, action) != 2 ||
        strcmp(where, point) != 0 || unlink(control) != 0) {
        return 0;
    }
    return action[0];
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

static void reach(const char *point)
{
    const char *control = getenv("QO_CRASH");
    char action = control == NULL ? 0 : wish(control, point);

    if (action == 0) {
        return;
    }
    leave_number(control);
    if (action != 'n') {
        /* To this very thread: another that is told to stop would let this one run on. */
        raise(action == 's' ? SIGSTOP : SIGKILL);
    }
}

int curl_easy_perform(void *handle)
{
    int result;

    reach("before");
    result = real("curl_easy_perform")(handle);
    reach("after");
    answered = true;
    return result;
}

int mdb_txn_commit(void *txn)
{
    bool ours = answered;
    int result;

    answered = false;
    if (ours) {
        reach("commit");
    }
    result = real("mdb_txn_commit")(txn);
    if (ours) {
        reach("committed");
    }
    return result;
}
