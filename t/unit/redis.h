/* Real Redis servers for tests, and one thing they do not do by themselves: get in the way.
 * Everything is on loopback or a unix socket, in a folder of its own, and ends with the
 * test. */
#ifndef REDIS_H
#define REDIS_H

#include "process.h"
#include "tap.h"

#include <apr_strings.h>
#include <apr_time.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

static inline void redis_bail(const char *why)
{
    printf("Bail out! %s\n", why);
    exit(1);
}

static inline void redis_sleep(int ms)
{
    (void)usleep((useconds_t)ms * 1000);
}

static inline long redis_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A port that nobody has at the moment. */
static inline int redis_free_port(void)
{
    struct sockaddr_in place = {.sin_family = AF_INET};
    socklen_t size = sizeof(place);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&place, size) != 0 ||
        getsockname(fd, (struct sockaddr *)&place, &size) != 0) {
        redis_bail("no free port");
    }
    (void)close(fd);
    return ntohs(place.sin_port);
}

/* ---- a server ---- */

typedef struct {
    apr_pool_t *p;
    const char *dir;
    const char *socket;
    int port;
    int tls_port;     /* 0: without TLS */
    const char *more; /* further lines of its configuration */
    pid_t pid;        /* 0: does not run */
} redis_t;

static inline int redis_connect(const redis_t *r)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)apr_cpystrn(place.sun_path, r->socket, sizeof(place.sun_path));
    if (fd >= 0 && connect(fd, (struct sockaddr *)&place, sizeof(place)) != 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

/* Says lines as an admin types them, and gives the first bytes of the answer to the last;
 * "" when there is none. */
__attribute__((format(printf, 2, 3))) static inline const char *redis_say(
    const redis_t *r, const char *format, ...)
{
    static char answer[65536];
    struct pollfd ready = {.events = POLLIN};
    char text[2048];
    va_list args;
    ssize_t got = 0;
    int fd = redis_connect(r);

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text) - 2, format, args);
    va_end(args);
    (void)strcat(text, "\r\n");
    ready.fd = fd;
    if (fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) &&
        poll(&ready, 1, 5000 * process_slow()) == 1) {
        redis_sleep(strchr(text, '\n')[1] != '\0' ? 50 : 0);
        got = read(fd, answer, sizeof(answer) - 1);
    }
    answer[got > 0 ? got : 0] = '\0';
    if (fd >= 0) {
        (void)close(fd);
    }
    return answer;
}

static inline void redis_write_conf(const redis_t *r)
{
    FILE *file = fopen(apr_pstrcat(r->p, r->dir, "/redis.conf", NULL), "w");

    if (file == NULL) {
        redis_bail("redis.conf cannot be written");
    }
    fprintf(file,
            "port %d\nbind 127.0.0.1\nunixsocket %s\ndir %s\nlogfile %s/log\n"
            "daemonize no\nsave \"\"\nappendonly no\ntcp-backlog 64\n%s",
            r->port, r->socket, r->dir, r->dir, r->more != NULL ? r->more : "");
    if (r->tls_port != 0) {
        fprintf(file, "tls-port %d\ntls-auth-clients no\ntls-ca-cert-file %s/ca.pem\n",
                r->tls_port, r->dir);
    }
    if (fclose(file) != 0) {
        redis_bail("redis.conf cannot be written");
    }
}

/* Again, after it was stopped: on the same ports and socket. */
static inline void redis_start(redis_t *r)
{
    long until = redis_ms() + 10000L * process_slow();

    redis_write_conf(r);
    fflush(stdout);
    r->pid = fork();
    if (r->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("redis-server", "redis-server",
               apr_pstrcat(r->p, r->dir, "/redis.conf", NULL), (char *)NULL);
        _exit(127);
    }
    while (redis_say(r, "PING")[0] == '\0') {
        if (redis_ms() > until || waitpid(r->pid, NULL, WNOHANG) == r->pid) {
            redis_bail("redis-server does not start (is it installed?)");
        }
        redis_sleep(10);
    }
}

static inline void redis_stop(redis_t *r)
{
    if (r->pid > 0) {
        (void)kill(r->pid, SIGKILL);
        (void)process_wait(r->pid);
        (void)unlink(r->socket);
        r->pid = 0;
    }
}

/* Everything of it is gone. */
static inline void redis_end(redis_t *r)
{
    redis_stop(r);
    process_remove(r->dir);
}

static inline redis_t *redis_new(apr_pool_t *p, const char *more)
{
    redis_t *r = apr_pcalloc(p, sizeof(*r));

    r->p = p;
    r->dir = process_place(p, "qonto-redis");
    r->socket = apr_pstrcat(p, r->dir, "/socket", NULL);
    r->port = redis_free_port();
    r->more = more;
    redis_start(r);
    return r;
}

/* ---- certificates ---- */

static inline void redis_shell(const redis_t *r, const char *command)
{
    char *line = apr_psprintf(r->p, "cd %s && { %s; } >>openssl.log 2>&1", r->dir, command);

    if (system(line) != 0) {
        redis_bail("openssl makes no certificates");
    }
}

/* A certificate NAME.pem with key NAME.key of the authority CA.pem. */
static inline void redis_certify(const redis_t *r, const char *ca, const char *name,
                                 const char *subject, int days)
{
    redis_shell(
        r, apr_psprintf(r->p,
                        "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                        "-keyout %s.key -out %s.csr -subj /CN=redis && "
                        "echo subjectAltName=%s >%s.ext && "
                        "openssl x509 -req -in %s.csr -CA %s.pem -CAkey %s.key "
                        "-CAcreateserial -days %d -extfile %s.ext -out %s.pem",
                        name, name, subject, name, name, ca, ca, days, name, name));
}

static inline void redis_authority(const redis_t *r, const char *name)
{
    redis_shell(r, apr_psprintf(r->p,
                                "openssl req -x509 -newkey ec -pkeyopt "
                                "ec_paramgen_curve:P-256 -nodes -keyout %s.key -out %s.pem "
                                "-days 2 -subj /CN=%s",
                                name, name, name));
}

/* With TLS too; certificates `good`, `elsewhere`, `expired` and `unknown` are made, and the
 * first is shown. */
static inline redis_t *redis_new_tls(apr_pool_t *p)
{
    redis_t *r = apr_pcalloc(p, sizeof(*r));

    r->p = p;
    r->dir = process_place(p, "qonto-redis");
    r->socket = apr_pstrcat(p, r->dir, "/socket", NULL);
    r->port = redis_free_port();
    r->tls_port = redis_free_port();
    redis_authority(r, "ca");
    redis_authority(r, "stranger");
    redis_certify(r, "ca", "good", "DNS:localhost,IP:127.0.0.1", 2);
    redis_certify(r, "ca", "elsewhere", "DNS:redis.example.com,IP:192.0.2.1", 2);
    redis_certify(r, "ca", "expired", "DNS:localhost,IP:127.0.0.1", -1);
    redis_certify(r, "stranger", "unknown", "DNS:localhost,IP:127.0.0.1", 2);
    r->more = apr_psprintf(p, "tls-cert-file %s/good.pem\ntls-key-file %s/good.key\n",
                           r->dir, r->dir);
    redis_start(r);
    return r;
}

/* Another of its certificates from now on. */
static inline void redis_show(const redis_t *r, const char *name)
{
    (void)redis_say(r, "CONFIG SET tls-cert-file %s/%s.pem tls-key-file %s/%s.key", r->dir,
                    name, r->dir, name);
}

/* ---- somebody in the way ---- */

typedef enum {
    REDIS_PASS,    /* what one side says, the other hears */
    REDIS_LOSE,    /* the answer is lost, and the connection with it */
    REDIS_HALF,    /* it breaks off in the middle */
    REDIS_SWALLOW, /* it never comes */
    REDIS_REFUSE   /* what is asked never arrives; the connection breaks */
} redis_trick_t;

typedef struct {
    atomic_int trick;
    atomic_int skip;  /* after so many answers, */
    atomic_int times; /* so often; then PASS */
    atomic_int connections;
} redis_tricks_t;

typedef struct {
    int port;
    pid_t child;
    redis_tricks_t *tricks;
} redis_relay_t;

static inline bool redis_relay_send(int fd, const char *data, ssize_t len)
{
    return len <= 0 || send(fd, data, (size_t)len, MSG_NOSIGNAL) == len;
}

static inline redis_trick_t redis_relay_trick(redis_tricks_t *tricks)
{
    redis_trick_t trick = (redis_trick_t)atomic_load(&tricks->trick);

    if (trick == REDIS_PASS || atomic_fetch_sub(&tricks->skip, 1) > 0) {
        return REDIS_PASS;
    }
    if (atomic_fetch_sub(&tricks->times, 1) <= 1) {
        atomic_store(&tricks->trick, REDIS_PASS);
    }
    return trick;
}

/* One connection; true while both sides are there. */
static inline bool redis_relay_step(int client, int server, redis_tricks_t *tricks)
{
    static char data[1 << 20];
    struct pollfd ready[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    redis_trick_t trick;
    ssize_t got;

    if (poll(ready, 2, -1) < 1) {
        return true;
    }
    if (ready[0].revents != 0) {
        got = read(client, data, sizeof(data));
        if (got > 0 && atomic_load(&tricks->trick) == REDIS_REFUSE) {
            return redis_relay_trick(tricks) != REDIS_REFUSE &&
                   redis_relay_send(server, data, got);
        }
        return got > 0 && redis_relay_send(server, data, got);
    }
    got = read(server, data, sizeof(data));
    if (got <= 0) {
        return false;
    }
    trick = redis_relay_trick(tricks);
    if (trick == REDIS_HALF) {
        (void)redis_relay_send(client, data, got / 2);
    }
    return trick == REDIS_SWALLOW ||
           (trick == REDIS_PASS && redis_relay_send(client, data, got));
}

static inline void redis_relay_loop(int listener, const redis_t *r, redis_tricks_t *tricks)
{
    for (;;) {
        int client = accept(listener, NULL, NULL);
        int server;

        atomic_fetch_add(&tricks->connections, 1);
        if (client < 0 || fork() != 0) {
            (void)close(client);
            while (waitpid(-1, NULL, WNOHANG) > 0) {
            }
            continue;
        }
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        server = redis_connect(r);
        while (server >= 0 && redis_relay_step(client, server, tricks)) {
        }
        _exit(0);
    }
}

static inline int redis_listen(int *port)
{
    struct sockaddr_in place = {.sin_family = AF_INET};
    socklen_t size = sizeof(place);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&place, size) != 0 || listen(fd, 64) != 0 ||
        getsockname(fd, (struct sockaddr *)&place, &size) != 0) {
        redis_bail("nothing can listen");
    }
    *port = ntohs(place.sin_port);
    return fd;
}

static inline redis_relay_t redis_relay(const redis_t *r)
{
    redis_relay_t relay = {.tricks = process_shared(sizeof(redis_tricks_t))};
    int listener = redis_listen(&relay.port);

    fflush(stdout);
    relay.child = fork();
    if (relay.child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        redis_relay_loop(listener, r, relay.tricks);
    }
    (void)close(listener);
    return relay;
}

/* From now on, but for the first `skip` answers, so often. */
static inline void redis_play(redis_relay_t *relay, redis_trick_t trick, int skip,
                              int times)
{
    atomic_store(&relay->tricks->skip, skip);
    atomic_store(&relay->tricks->times, times);
    atomic_store(&relay->tricks->trick, (int)trick);
}

static inline void redis_relay_end(const redis_relay_t *relay)
{
    (void)kill(relay->child, SIGKILL);
    (void)process_wait(relay->child);
}

/* ---- a server that says what it is told ---- */

typedef struct {
    int port;
    pid_t child;
} redis_liar_t;

/* To whatever is said it answers with these bytes, `times` times over, slowly if asked to,
 * and then says no more. */
static inline redis_liar_t redis_liar(const char *bytes, size_t len, int times)
{
    redis_liar_t liar = {.port = 0};
    int listener = redis_listen(&liar.port);
    char heard[4096];

    fflush(stdout);
    liar.child = fork();
    if (liar.child != 0) {
        (void)close(listener);
        return liar;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        int client = accept(listener, NULL, NULL);

        if (fork() == 0) {
            while (read(client, heard, sizeof(heard)) > 0) {
                for (int i = 0; i < times && redis_relay_send(client, bytes, (ssize_t)len);
                     i++) {
                }
            }
            _exit(0);
        }
        (void)close(client);
    }
}

static inline void redis_liar_end(const redis_liar_t *liar)
{
    (void)kill(liar->child, SIGKILL);
    (void)process_wait(liar->child);
}

#endif
