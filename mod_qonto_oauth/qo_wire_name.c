#include "qo_wire_name.h"

#include "qo_wire.h"

#include <apr_strings.h>

#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One question to the resolver. It belongs to whoever still needs it: the thread that asks,
 * which may outlive pools, and those who wait. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    int users;
    bool done;
    int error; /* of getaddrinfo() */
    qo_wire_addresses_t found;
    char port[8];
    char host[];
} question_t;

struct qo_wire_name_t {
    pthread_mutex_t lock;
    const char *host;
    int port;
    bool is_address;
    qo_wire_addresses_t known;
    apr_time_t known_until; /* when `known` is to be looked up again */
    question_t *running;
    pid_t process; /* in which it runs: a fork copies the question and not the thread */
};

static void keep_addresses(qo_wire_addresses_t *out, const struct addrinfo *list)
{
    out->count = 0;
    for (; list != NULL && out->count < QO_LIMIT_ADDRESSES; list = list->ai_next) {
        if (list->ai_addrlen <= sizeof(out->address[0])) {
            memcpy(&out->address[out->count], list->ai_addr, list->ai_addrlen);
            out->len[out->count++] = list->ai_addrlen;
        }
    }
}

static int resolve(qo_wire_addresses_t *out, const char *host, const char *port, int flags)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int error;

    hints.ai_flags = AI_NUMERICSERV | flags;
    error = getaddrinfo(host, port, &hints, &list);
    if (error == 0) {
        keep_addresses(out, list);
        freeaddrinfo(list);
    }
    return error;
}

/* ---- the thread ---- */

static void let_go(question_t *question)
{
    bool last;

    (void)pthread_mutex_lock(&question->lock); /* fails for nobody but its holder */
    last = --question->users == 0;
    (void)pthread_mutex_unlock(&question->lock);
    if (last) {
        (void)pthread_cond_destroy(&question->answered); /* nobody waits any more */
        (void)pthread_mutex_destroy(&question->lock);
        free(question);
    }
}

static void *ask(void *data)
{
    question_t *question = data;
    qo_wire_addresses_t found = {.count = 0};
    int error = resolve(&found, question->host, question->port, 0);

    (void)pthread_mutex_lock(&question->lock); /* fails for nobody but its holder */
    question->found = found;
    question->error = error;
    question->done = true;
    (void)pthread_cond_broadcast(&question->answered); /* cannot fail */
    (void)pthread_mutex_unlock(&question->lock);
    let_go(question);
    return NULL;
}

/* When the process ends, httpd unloads its modules while the thread may still hang in the
 * resolver; this code must be there when it returns. */
static void stay_loaded(void)
{
    union {
        void *(*function)(void *);
        void *address;
    } here = {.function = ask};
    Dl_info info;

    if (dladdr(here.address, &info) != 0 && info.dli_fname != NULL) {
        (void)dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    }
}

/* The server's signals are for the server's threads. */
static bool start_thread(question_t *question)
{
    pthread_attr_t detached;
    pthread_t thread;
    sigset_t all, before;
    bool started;

    if (pthread_attr_init(&detached) != 0) {
        return false;
    }
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all,
                          &before); /* cannot fail with these arguments */
    started = pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED) == 0 &&
              pthread_create(&thread, &detached, ask, question) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&detached);
    return started;
}

static bool prepare_question(question_t *question)
{
    pthread_condattr_t steady;
    bool good;

    if (pthread_condattr_init(&steady) != 0) {
        return false;
    }
    good = pthread_condattr_setclock(&steady, CLOCK_MONOTONIC) == 0 &&
           pthread_cond_init(&question->answered, &steady) == 0;
    (void)pthread_condattr_destroy(&steady);
    return good && pthread_mutex_init(&question->lock, NULL) == 0;
}

/* For two users: the thread and the name. NULL when no thread can be had. */
static question_t *start_question(const qo_wire_name_t *name)
{
    size_t len = strlen(name->host) + 1;
    question_t *question = calloc(1, sizeof(*question) + len);

    if (question == NULL || !prepare_question(question)) {
        free(question);
        return NULL;
    }
    memcpy(question->host, name->host, len);
    (void)snprintf(question->port, sizeof(question->port), "%d", name->port);
    question->users = 2;
    stay_loaded();
    if (!start_thread(question)) {
        free(question);
        return NULL;
    }
    return question;
}

/* ---- a name ---- */

static apr_status_t forget(void *data)
{
    qo_wire_name_t *name = data;

    /* In a forked process the question is a copy that no thread will answer. */
    if (name->running != NULL && name->process == getpid()) {
        let_go(name->running);
        name->running = NULL;
    }
    return APR_SUCCESS;
}

qo_wire_name_t *qo_wire_name(apr_pool_t *p, const char *host, int port)
{
    qo_wire_name_t *name = apr_pcalloc(p, sizeof(*name));
    char text[8];

    (void)snprintf(text, sizeof(text), "%d", port);
    (void)pthread_mutex_init(&name->lock, NULL); /* cannot fail with glibc and musl */
    name->host = apr_pstrdup(p, host);
    name->port = port;
    name->is_address = resolve(&name->known, host, text, AI_NUMERICHOST) == 0;
    apr_pool_cleanup_register(p, name, forget, apr_pool_cleanup_null);
    return name;
}

bool qo_wire_name_is_address(const qo_wire_name_t *name)
{
    return name->is_address;
}

/* ---- those who wait ---- */

/* The question that is being asked, with this caller as one more of its users. */
static question_t *join(qo_wire_name_t *name)
{
    question_t *question;

    if (name->running == NULL || name->process != getpid()) {
        name->running = start_question(name);
        name->process = getpid();
    }
    question = name->running;
    if (question != NULL) {
        (void)pthread_mutex_lock(&question->lock); /* fails for nobody but its holder */
        question->users++;
        (void)pthread_mutex_unlock(&question->lock);
    }
    return question;
}

static bool wait_for(question_t *question, apr_time_t until)
{
    struct timespec end = {.tv_sec = (time_t)apr_time_sec(until),
                           .tv_nsec = (long)apr_time_usec(until) * 1000};
    bool done;
    int rc = 0;

    (void)pthread_mutex_lock(&question->lock); /* fails for nobody but its holder */
    while (!question->done && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&question->answered, &question->lock, &end);
    }
    done = question->done;
    (void)pthread_mutex_unlock(&question->lock);
    return done;
}

/* The first who sees the answer hands it to those who come later. */
static void take_answer(qo_wire_name_t *name, question_t *question)
{
    bool first;

    (void)pthread_mutex_lock(&name->lock); /* fails for nobody but its holder */
    first = name->running == question;
    if (first) {
        name->running = NULL;
        if (question->error == 0 && question->found.count > 0) {
            name->known = question->found;
            name->known_until = qo_wire_clock() + apr_time_from_sec(QO_REDIS_NAME_LIFE);
        }
    }
    (void)pthread_mutex_unlock(&name->lock);
    if (first) {
        let_go(question);
    }
}

static qo_status_t answer(qo_wire_addresses_t *out, const question_t *question,
                          const char *host, qo_err_t *err)
{
    if (question->error != 0 || question->found.count == 0) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "the name %s: %s", host,
                        question->error != 0 ? gai_strerror(question->error)
                                             : "it has no address");
    }
    *out = question->found;
    return QO_OK;
}

qo_status_t qo_wire_name_find(qo_wire_addresses_t *out, qo_wire_name_t *name,
                              apr_time_t until, qo_err_t *err)
{
    question_t *question = NULL;
    qo_status_t status;
    bool known;

    (void)pthread_mutex_lock(&name->lock); /* fails for nobody but its holder */
    known = name->is_address || name->known_until > qo_wire_clock();
    if (known) {
        *out = name->known;
    } else {
        question = join(name);
    }
    (void)pthread_mutex_unlock(&name->lock);
    if (known) {
        return QO_OK;
    }
    if (question == NULL) {
        return qo_error(err, QO_E_INTERNAL, "the name %s: no thread to look it up",
                        name->host);
    }
    if (wait_for(question, until)) {
        take_answer(name, question);
        status = answer(out, question, name->host, err);
    } else {
        status = qo_error(err, QO_E_STORE_UNAVAILABLE, "the name %s was not found in time",
                          name->host);
    }
    let_go(question);
    return status;
}
