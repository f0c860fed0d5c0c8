/* A server of a few lines for tests of what goes out: it listens on loopback, hands every
 * request to the test word for word, and answers with the bytes it is told. It ends with
 * the test, and after half a minute in any case. */
#ifndef SERVER_H
#define SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVER_MAX 32768

typedef struct {
    int port;
    pid_t child;
    int log;        /* requests come from here */
    int connection; /* on which the last one came, from 1 */
    char request[SERVER_MAX];
} server_t;

/* Answers one request; true when the connection may carry another. */
typedef bool server_answer_t(int fd, const char *request);

static inline void server_say(int fd, const char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t sent = send(fd, text, len, MSG_NOSIGNAL);

        if (sent <= 0) {
            return;
        }
        text += sent;
        len -= (size_t)sent;
    }
}

static inline size_t server_body_length(const char *head)
{
    const char *at = strcasestr(head, "\r\ncontent-length:");

    return at == NULL ? 0 : (size_t)strtoul(at + 17, NULL, 10);
}

/* Reads one request with its body; 0 when the other side closed or said nothing. */
static inline size_t server_read(int fd, char *request)
{
    size_t len = 0;
    size_t want = SERVER_MAX;

    while (len < want && len < SERVER_MAX - 1) {
        struct pollfd ready = {fd, POLLIN, 0};

        if (poll(&ready, 1, 2000) != 1) {
            return 0;
        }
        ssize_t got = recv(fd, request + len, SERVER_MAX - 1 - len, 0);
        if (got <= 0) {
            return 0;
        }
        len += (size_t)got;
        request[len] = '\0';
        const char *end = strstr(request, "\r\n\r\n");
        if (end != NULL) {
            want = (size_t)(end + 4 - request) + server_body_length(request);
        }
    }
    return len;
}

static inline void server_loop(int listener, int log, server_answer_t *answer)
{
    static char request[SERVER_MAX];

    for (uint32_t connection = 1;; connection++) {
        int fd = accept(listener, NULL, NULL);
        bool more = fd >= 0;

        while (more) {
            uint32_t head[2] = {connection, (uint32_t)server_read(fd, request)};

            if (head[1] == 0 || write(log, head, sizeof head) != (ssize_t)sizeof head ||
                write(log, request, head[1]) != (ssize_t)head[1]) {
                break;
            }
            more = answer(fd, request);
        }
        close(fd);
    }
}

static inline bool server_start(server_t *server, server_answer_t *answer)
{
    struct sockaddr_in place;
    socklen_t size = sizeof place;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int ends[2];

    memset(&place, 0, sizeof place);
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || bind(listener, (struct sockaddr *)&place, size) != 0 ||
        listen(listener, 16) != 0 ||
        getsockname(listener, (struct sockaddr *)&place, &size) != 0 || pipe(ends) != 0) {
        return false;
    }
    server->port = ntohs(place.sin_port);
    server->log = ends[0];
    server->connection = 0;
    server->child = fork();
    if (server->child == 0) {
        alarm(30);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        close(ends[0]);
        server_loop(listener, ends[1], answer);
        _exit(0);
    }
    close(listener);
    close(ends[1]);
    return server->child > 0;
}

static inline bool server_take(int fd, void *to, size_t len)
{
    for (size_t at = 0; at < len;) {
        struct pollfd ready = {fd, POLLIN, 0};
        ssize_t got = poll(&ready, 1, 120) == 1 ? read(fd, (char *)to + at, len - at) : 0;

        if (got <= 0) {
            return false;
        }
        at += (size_t)got;
    }
    return true;
}

/* The next request, NULL when there is none (left). */
static inline const char *server_next(server_t *server)
{
    uint32_t head[2];

    if (!server_take(server->log, head, sizeof head) || head[1] >= SERVER_MAX ||
        !server_take(server->log, server->request, head[1])) {
        return NULL;
    }
    server->request[head[1]] = '\0';
    server->connection = (int)head[0];
    return server->request;
}

static inline void server_stop(server_t *server)
{
    kill(server->child, SIGKILL);
    waitpid(server->child, NULL, 0);
    close(server->log);
}

#endif
