/* What the parent asks Redis at the start. A process of its own does it, so that nothing of
 * it stays: no socket, and no thread that hangs in a name server. */
#include "qo_rights.h"
#include "qo_store_redis_parts.h"

#include "qo_limits.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE_MS 2000 /* beyond the deadlines of what is asked */

/* ---- in the forked process ---- */

/* Any other policy throws sessions away when memory is full. */
static void judge_policy(const char *info, qo_err_t *out)
{
    const char *at = strstr(info, "maxmemory_policy:");
    char policy[32];

    if (at == NULL) {
        return;
    }
    (void)apr_cpystrn(policy, at + strlen("maxmemory_policy:"), sizeof(policy));
    policy[strcspn(policy, "\r\n")] = '\0';
    if (strcmp(policy, "noeviction") != 0) {
        (void)qo_error(out, QO_OK,
                       "Redis may throw sessions away when its memory is full: set its "
                       "maxmemory-policy to noeviction (it is %s)",
                       policy);
    }
}

static void judge_info(const qo_redis_reply_t *reply, qo_err_t *out)
{
    if (reply->kind == QO_REDIS_TEXT) {
        judge_policy((const char *)reply->text.data, out);
    } else {
        qo_err_t why = {.detail = ""};

        (void)qo_redis_refusal(reply, &why);
        (void)qo_error(out, QO_OK,
                       "whether Redis may throw sessions away (maxmemory-policy) cannot be "
                       "told, as INFO is refused: %s",
                       why.detail);
    }
}

/* A script that writes nothing shows as well whether the user may do what is needed. */
static qo_status_t try_script(const qo_store_redis_t *s, qo_redis_talk_t *talk,
                              qo_err_t *out)
{
    qo_redis_script_t script = {.text = QO_STORE_REDIS_SCRIPT("return 0")};
    qo_redis_command_t call;
    qo_redis_reply_t reply;
    qo_store_redis_key_t nobody;
    const qo_hash_t hash = {{0}};

    qo_store_redis_key(&nobody, s, 's', &hash);
    qo_redis_prepare_script(&script);
    qo_redis_begin_script(&call, &script, 1);
    qo_redis_add_text(&call, nobody.text);
    qo_redis_add_number(&call, 0);
    return qo_redis_run(talk, &reply, &script, &call, false, out);
}

static void ask(const qo_store_redis_t *s, qo_redis_talk_t *talk, qo_err_t *out)
{
    qo_redis_command_t command;
    qo_redis_reply_t reply;

    if (try_script(s, talk, out) != QO_OK) {
        return;
    }
    qo_redis_begin_command(&command, "INFO");
    qo_redis_add_text(&command, "memory");
    if (qo_redis_ask(talk, &reply, &command, 1, out) == QO_OK) {
        judge_info(&reply, out);
    }
}

/* With a view of its own: what it finds is for the log, not for those who come later. */
static void examine(const qo_store_redis_t *s, const qo_store_setup_t *setup, qo_err_t *out)
{
    qo_redis_talk_t *talk;
    qo_redis_t *redis;
    apr_pool_t *p;

    if (apr_pool_create(&p, NULL) != APR_SUCCESS) {
        return;
    }
    redis = qo_redis_make(p, &s->settings->redis);
    /* With the rights of the children, who may be refused where root is not; and what a
     * server sends is nothing for root to read. */
    if (!qo_rights_become(setup->uid, setup->gid)) {
        (void)qo_error(out, QO_OK, "Redis cannot be asked as user %ld: %s", setup->uid,
                       strerror(errno));
    } else if (qo_redis_attach(redis, p, out) == QO_OK &&
               qo_redis_begin(&talk, redis, out) == QO_OK) {
        ask(s, talk, out);
        qo_redis_end(talk);
    }
    apr_pool_destroy(p);
}

/* The server's handlers are for the server. */
static void run(const qo_store_redis_t *s, const qo_store_setup_t *setup, int to)
{
    qo_err_t found = {.detail = ""};

    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGALRM, SIG_DFL);
    (void)alarm(60); /* the parent gives up sooner */
    examine(s, setup, &found);
    if (write(to, found.detail, sizeof(found.detail)) != (ssize_t)sizeof(found.detail)) {
        _exit(1);
    }
    _exit(0);
}

/* ---- in the parent ---- */

/* A message as short as that comes whole or not at all. */
static bool listen_to(int from, int wait_ms, qo_err_t *out)
{
    struct pollfd ready = {.fd = from, .events = POLLIN};
    apr_time_t until = qo_wire_clock() + apr_time_from_msec(wait_ms);
    int rc;

    do {
        apr_time_t left = until - qo_wire_clock();

        rc = poll(&ready, 1, left > 0 ? (int)apr_time_as_msec(left) : 0);
    } while (rc < 0 && errno == EINTR);
    if (rc <= 0 ||
        read(from, out->detail, sizeof(out->detail)) != (ssize_t)sizeof(out->detail)) {
        return false;
    }
    out->detail[sizeof(out->detail) - 1] = '\0';
    return true;
}

static void end_child(pid_t child)
{
    pid_t got;

    (void)kill(child, SIGKILL); /* has told all it has to tell, or never will */
    do {
        got = waitpid(child, NULL, 0);
    } while (got < 0 && errno == EINTR);
}

void qo_store_redis_ask_around(const qo_store_redis_t *s, const qo_store_setup_t *setup,
                               qo_err_t *out)
{
    int wait_ms = 3 * s->settings->redis.timeout_ms + GRACE_MS;
    int ends[2];
    pid_t child;

    out->detail[0] = '\0';
    if (pipe2(ends, O_CLOEXEC) != 0) {
        (void)qo_error(out, QO_OK, "Redis could not be asked: %s", strerror(errno));
        return;
    }
    child = fork();
    if (child == 0) {
        (void)close(ends[0]);
        run(s, setup, ends[1]);
    }
    (void)close(ends[1]); /* the child's */
    if (child < 0 || !listen_to(ends[0], wait_ms, out)) {
        (void)qo_error(out, QO_OK, "Redis could not be asked at the start");
    }
    if (child > 0) {
        end_child(child);
    }
    (void)close(ends[0]); /* opened for reading: nothing can be lost */
}
