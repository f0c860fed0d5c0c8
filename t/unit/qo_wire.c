/* Connections: every way to get one and to fail to, and that nothing ever takes longer than
 * it may. The other side is a real Redis, or somebody who says nothing. */
#include "qo_wire.h"
#include "qo_wire_name.h"

#include "redis.h"

#include <apr_general.h>

#include <netdb.h>
#include <pthread.h>

static apr_pool_t *root;
static redis_t *plain, *tls;

/* ---- a resolver that the tests rule ---- */

static struct {
    atomic_int calls;
    atomic_int delay_ms;
    atomic_int first_is_dead; /* 127.0.0.2 before 127.0.0.1 */
    atomic_int signals;       /* SIGTERM was not blocked in its thread */
} resolver;

typedef struct {
    struct addrinfo info;
    struct sockaddr_in place;
} answer_t;

static struct addrinfo *one_address(const char *text, const char *port,
                                    struct addrinfo *next)
{
    answer_t *answer = calloc(1, sizeof(*answer));

    answer->place.sin_family = AF_INET;
    answer->place.sin_port = htons((uint16_t)atoi(port));
    answer->place.sin_addr.s_addr = inet_addr(text);
    answer->info.ai_family = AF_INET;
    answer->info.ai_socktype = SOCK_STREAM;
    answer->info.ai_addr = (struct sockaddr *)&answer->place;
    answer->info.ai_addrlen = sizeof(answer->place);
    answer->info.ai_next = next;
    return &answer->info;
}

/* In place of the C library's, for everything that is linked into this program. */
int getaddrinfo(const char *restrict node, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict res)
{
    struct in_addr number;
    sigset_t blocked;

    if ((hints->ai_flags & AI_NUMERICHOST) != 0) {
        if (inet_pton(AF_INET, node, &number) != 1) {
            return EAI_NONAME;
        }
        *res = one_address(node, service, NULL);
        return 0;
    }
    atomic_fetch_add(&resolver.calls, 1);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    atomic_fetch_add(&resolver.signals, sigismember(&blocked, SIGTERM) != 1);
    redis_sleep(atomic_load(&resolver.delay_ms));
    if (strcmp(node, "nowhere") == 0) {
        return EAI_NONAME;
    }
    *res = one_address("127.0.0.1", service, NULL);
    if (atomic_load(&resolver.first_is_dead)) {
        *res = one_address("127.0.0.2", service, *res);
    }
    return 0;
}

void freeaddrinfo(struct addrinfo *res)
{
    while (res != NULL) {
        struct addrinfo *next = res->ai_next;

        free(res);
        res = next;
    }
}

/* ---- words ---- */

static apr_time_t in_ms(int ms)
{
    return qo_wire_clock() + apr_time_from_msec(ms);
}

static qo_wire_site_t *site_of(const char *host, int port)
{
    qo_wire_place_t place = {.host = host, .port = port};

    return qo_wire_site(root, &place);
}

static qo_wire_site_t *local_site(const char *path)
{
    qo_wire_place_t place = {.path = path};

    return qo_wire_site(root, &place);
}

static qo_wire_site_t *secure_site(const char *host, const char *ca)
{
    qo_wire_place_t place = {.host = host, .port = tls->tls_port, .tls = true, .ca = ca};

    return qo_wire_site(root, &place);
}

static const char *in_dir(const char *name)
{
    return apr_pstrcat(root, tls->dir, "/", name, NULL);
}

/* Does it answer as Redis does? What went wrong if not. */
static const char *ping(qo_wire_site_t *site, int ms)
{
    static _Thread_local qo_err_t err;
    qo_wire_t wire = QO_WIRE_CLOSED;
    apr_time_t until = in_ms(ms * process_slow());
    char said[64] = "";
    size_t got = 0;

    err.detail[0] = '\0';
    if (qo_wire_open(&wire, site, until, &err) == QO_OK &&
        qo_wire_send(&wire, "PING\r\n", 6, until, &err) == QO_OK &&
        qo_wire_receive(&wire, said, sizeof(said) - 1, &got, until, &err) == QO_OK) {
        said[got] = '\0';
        (void)qo_error(&err, QO_OK, "%.*s", (int)strcspn(said, "\r"), said);
    }
    qo_wire_close(&wire);
    return err.detail;
}

static bool says(const char *text, const char *words, const char *name)
{
    return tap_ok(strstr(text, words) != NULL, "%s: %s", name, text);
}

/* It took about as long as it might: not less, and little more. */
static bool took(long since, int ms, const char *name)
{
    long passed = redis_ms() - since;

    return tap_ok(passed >= ms - 2 && passed <= ms + 250L * process_slow(),
                  "%s: %d ms allowed, %ld taken", name, ms, passed);
}

/* One that listens and never accepts; when `full`, no connection even begins. */
static int silent(int *port, bool full)
{
    struct sockaddr_in place = {.sin_family = AF_INET};
    socklen_t size = sizeof(place);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&place, size) != 0 || listen(fd, full ? 0 : 16) != 0 ||
        getsockname(fd, (struct sockaddr *)&place, &size) != 0) {
        redis_bail("no silent listener");
    }
    for (int i = 0; full && i < 4; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        (void)connect(client, (struct sockaddr *)&place, size);
    }
    *port = ntohs(place.sin_port);
    return fd;
}

/* ---- tests ---- */

static void test_ways(void)
{
    atomic_store(&resolver.calls, 0);
    says(ping(local_site(plain->socket), 2000), "+PONG", "a unix socket");
    says(ping(site_of("127.0.0.1", plain->port), 2000), "+PONG", "an address");
    tap_int(atomic_load(&resolver.calls), 0, "which is not looked up");
    says(ping(site_of("redis.test", plain->port), 2000), "+PONG", "a name");
    tap_int(atomic_load(&resolver.calls), 1, "which is");
    tap_int(atomic_load(&resolver.signals), 0, "where no signal of the server arrives");
    tap_is(qo_wire_shown(site_of("redis.test", 6379)), "redis.test:6379", "shown");
    tap_is(qo_wire_shown(site_of("::1", 6379)), "[::1]:6379", "shown with brackets");
    tap_is(qo_wire_shown(local_site("/run/x")), "/run/x", "shown as a path");
}

static void test_no_way(void)
{
    int free_port = redis_free_port();

    says(ping(site_of("127.0.0.1", free_port), 2000), "refused", "nobody listens");
    says(ping(local_site("/nowhere/socket"), 2000), "No such file", "no such socket");
    says(ping(site_of("nowhere", plain->port), 2000), "the name nowhere: ", "no such name");
}

static void test_deadlines(void)
{
    static char much[8 << 20];
    qo_wire_t wire = QO_WIRE_CLOSED;
    qo_err_t err = {.detail = ""};
    char byte;
    size_t got;
    int port;
    int quiet = silent(&port, false);
    long since = redis_ms();
    int full, full_port;

    tap_int(qo_wire_open(&wire, site_of("127.0.0.1", port), in_ms(2000), &err), QO_OK,
            "one who says nothing");
    since = redis_ms();
    tap_int(qo_wire_receive(&wire, &byte, 1, &got, in_ms(150), &err),
            QO_E_STORE_UNAVAILABLE, "is not heard");
    took(since, 150, "reading");
    since = redis_ms();
    tap_int(qo_wire_send(&wire, much, sizeof(much), in_ms(150), &err),
            QO_E_STORE_UNAVAILABLE, "nor does it listen for ever");
    took(since, 150, "writing");
    qo_wire_close(&wire);
    (void)close(quiet);

    full = silent(&full_port, true);
    since = redis_ms();
    tap_int(qo_wire_open(&wire, site_of("127.0.0.1", full_port), in_ms(150), &err),
            QO_E_STORE_UNAVAILABLE, "one who does not even answer");
    took(since, 150, "connecting");
    says(err.detail, "in time", "and why");
    tap_ok(wire.fd < 0, "nothing is left open");
    since = redis_ms();
    tap_int(qo_wire_open(&wire, site_of("127.0.0.1", port), in_ms(-1), &err),
            QO_E_STORE_UNAVAILABLE, "no time at all");
    took(since, 0, "no time");
    (void)close(full);
}

/* One who never pauses: there is always something to read. */
static void test_babble(void)
{
    static char much[1 << 16];
    redis_liar_t liar = redis_liar(much, sizeof(much), 1 << 30);
    qo_wire_t wire = QO_WIRE_CLOSED;
    qo_err_t err = {.detail = ""};
    qo_status_t status = QO_OK;
    long since;
    apr_time_t until;
    char byte;
    size_t got;

    tap_int(qo_wire_open(&wire, site_of("127.0.0.1", liar.port), in_ms(2000), NULL), QO_OK,
            "one who babbles");
    tap_int(qo_wire_send(&wire, "x", 1, in_ms(2000), NULL), QO_OK, "is asked");
    since = redis_ms();
    until = in_ms(150);
    while (status == QO_OK && redis_ms() < since + 3000L * process_slow()) {
        status = qo_wire_receive(&wire, &byte, 1, &got, until, &err);
    }
    tap_int(status, QO_E_STORE_UNAVAILABLE, "and not heard out");
    took(since, 150, "babble");
    says(err.detail, "in time", "and why");
    qo_wire_close(&wire);
    redis_liar_end(&liar);
}

static void test_many_addresses(void)
{
    struct sockaddr_in dead = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    long since;

    dead.sin_port = htons((uint16_t)plain->port);
    dead.sin_addr.s_addr = inet_addr("127.0.0.2");
    if (bind(fd, (struct sockaddr *)&dead, sizeof(dead)) != 0 || listen(fd, 0) != 0) {
        redis_bail("127.0.0.2 cannot be used");
    }
    for (int i = 0; i < 4; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        (void)connect(client, (struct sockaddr *)&dead, sizeof(dead));
    }
    atomic_store(&resolver.first_is_dead, 1);
    since = redis_ms();
    says(ping(site_of("two.test", plain->port), 400), "+PONG", "the second address");
    took(since, 200 * process_slow(), "after half of the time for the first");
    (void)close(fd);
    since = redis_ms();
    says(ping(site_of("two.test", plain->port), 400), "+PONG", "or at once");
    tap_ok(redis_ms() - since < 190L * process_slow(), "when the first refuses");
    atomic_store(&resolver.first_is_dead, 0);
}

static void *find_in_thread(void *data)
{
    return (void *)(intptr_t)(strcmp(ping(data, 2000), "+PONG") == 0);
}

static void test_slow_names(void)
{
    qo_wire_site_t *site = site_of("slow.test", plain->port);
    qo_wire_site_t *crowd = site_of("crowd.test", plain->port);
    qo_wire_t wire = QO_WIRE_CLOSED;
    qo_err_t err = {.detail = ""};
    pthread_t thread[6];
    void *good;
    int all = 0;
    long since = redis_ms();

    atomic_store(&resolver.delay_ms, 400);
    atomic_store(&resolver.calls, 0);
    tap_int(qo_wire_open(&wire, site, in_ms(100), &err), QO_E_STORE_UNAVAILABLE,
            "a name server that is slow");
    took(since, 100, "its name");
    says(err.detail, "not found in time", "and why");
    since = redis_ms();
    tap_int(qo_wire_open(&wire, site, in_ms(100), &err), QO_E_STORE_UNAVAILABLE, "again");
    took(since, 100, "its name again");
    says(ping(site, 2000), "+PONG", "who waits gets the answer");
    says(ping(site, 2000), "+PONG", "and who comes later, too");
    tap_int(atomic_load(&resolver.calls), 1, "it was asked once for all of them");
    atomic_store(&resolver.calls, 0);
    for (int i = 0; i < 6; i++) {
        if (pthread_create(&thread[i], NULL, find_in_thread, crowd) != 0) {
            abort();
        }
    }
    for (int i = 0; i < 6; i++) {
        (void)pthread_join(thread[i], &good);
        all += good != NULL;
    }
    tap_int(all, 6, "six at once");
    tap_int(atomic_load(&resolver.calls), 1, "make one question");
    atomic_store(&resolver.delay_ms, 0);
}

/* The pool of a site may end while its name is still being asked for. */
static void test_name_outlives(void)
{
    apr_pool_t *p;
    qo_wire_place_t place = {.host = "late.test", .port = 1};
    qo_wire_t wire = QO_WIRE_CLOSED;
    pid_t child;

    atomic_store(&resolver.delay_ms, 200);
    if (apr_pool_create(&p, root) != APR_SUCCESS) {
        abort();
    }
    tap_int(qo_wire_open(&wire, qo_wire_site(p, &place), in_ms(50), NULL),
            QO_E_STORE_UNAVAILABLE, "nobody waits for a late name");
    fflush(stdout);
    child = fork();
    if (child == 0) {
        apr_pool_destroy(p);
        _exit(0);
    }
    tap_int(process_wait(child), 0, "a forked process lets go of it");
    apr_pool_destroy(p);
    redis_sleep(300);
    tap_ok(true, "and what is left of it cleans up behind itself");
    atomic_store(&resolver.delay_ms, 0);
}

/* SIGPIPE ends this program, as nobody ignores it here. */
static void hang_up_on(qo_wire_site_t *site, const redis_t *r, const char *name)
{
    qo_wire_t wire = QO_WIRE_CLOSED;
    qo_err_t err = {.detail = ""};
    qo_status_t status = QO_OK;
    char said[64];
    size_t got;

    tap_int(qo_wire_open(&wire, site, in_ms(2000 * process_slow()), &err), QO_OK, name);
    tap_ok(qo_wire_send(&wire, "PING\r\n", 6, in_ms(2000 * process_slow()), &err) ==
                   QO_OK &&
               qo_wire_receive(&wire, said, sizeof(said), &got,
                               in_ms(2000 * process_slow()), &err) == QO_OK,
           "%s: talks %s", name, err.detail);
    tap_ok(qo_wire_quiet(&wire), "%s: is quiet", name);
    (void)redis_say(r, "CLIENT KILL TYPE normal");
    redis_sleep(50);
    tap_ok(!qo_wire_quiet(&wire), "%s: hung up", name);
    for (int i = 0; i < 20 && status == QO_OK; i++) {
        status = qo_wire_send(&wire, "PING\r\n", 6, in_ms(500), &err);
        redis_sleep(5);
    }
    tap_int(status, QO_E_STORE_UNAVAILABLE, "writing to it fails, and that is all");
    tap_int(qo_wire_receive(&wire, said, sizeof(said), &got, in_ms(500), &err),
            QO_E_STORE_UNAVAILABLE, "reading as well");
    qo_wire_close(&wire);
    qo_wire_close(&wire);
    tap_ok(!qo_wire_quiet(&wire), "closed, and closed again");
}

static void test_noise(void)
{
    qo_wire_t wire = QO_WIRE_CLOSED;

    tap_int(qo_wire_open(&wire, local_site(plain->socket), in_ms(2000), NULL), QO_OK,
            "a connection");
    tap_ok(qo_wire_quiet(&wire), "is quiet");
    tap_int(qo_wire_send(&wire, "PING\r\n", 6, in_ms(2000), NULL), QO_OK, "is asked");
    redis_sleep(50);
    tap_ok(!qo_wire_quiet(&wire), "and is not, while there is something to read");
    tap_ok((fcntl(wire.fd, F_GETFD) & FD_CLOEXEC) != 0, "no program inherits it");
    qo_wire_close(&wire);
}

static void test_tls(void)
{
    const char *ca = in_dir("ca.pem");
    qo_err_t err = {.detail = ""};
    int many = 0;

    says(ping(secure_site("localhost", ca), 2000), "+PONG", "TLS by name");
    says(ping(secure_site("127.0.0.1", ca), 2000), "+PONG", "TLS by address");
    says(ping(secure_site("other.test", ca), 2000), "mismatch", "another name");
    says(ping(secure_site("localhost", in_dir("stranger.pem")), 2000), "refused",
         "an authority it does not have");
    says(ping(secure_site("localhost", NULL), 2000), "refused",
         "one the system does not know");
    (void)setenv("SSL_CERT_FILE", ca, 1);
    says(ping(secure_site("localhost", NULL), 2000), "+PONG", "one the system knows");
    (void)unsetenv("SSL_CERT_FILE");
    redis_show(tls, "elsewhere");
    says(ping(secure_site("localhost", ca), 2000), "mismatch", "another's certificate");
    says(ping(secure_site("127.0.0.1", ca), 2000), "mismatch", "by address as well");
    redis_show(tls, "expired");
    says(ping(secure_site("localhost", ca), 2000), "expired", "an old certificate");
    redis_show(tls, "unknown");
    says(ping(secure_site("localhost", ca), 2000), "refused", "one of a stranger");
    redis_show(tls, "good");
    says(ping(secure_site("localhost", ca), 2000), "+PONG", "the right one again");
    says(ping(secure_site("localhost", in_dir("nothing.pem")), 2000),
         "no certificates can be read", "no such file");
    tap_int(qo_wire_check_ca(ca, &err), QO_OK, "a file with certificates");
    for (int i = 0; i < 200; i++) {
        many += qo_wire_check_ca(ca, NULL) == QO_OK;
    }
    tap_int(many, 200, "may be asked about as often as one likes");
    tap_int(qo_wire_check_ca(in_dir("log"), &err), QO_E_STORE_UNAVAILABLE, "another file");
    says(err.detail, "no certificates", "is told");
}

static void test_old_tls(void)
{
    const char *said;

    (void)redis_say(tls, "CONFIG SET tls-ciphers DEFAULT@SECLEVEL=0 tls-protocols TLSv1.1");
    said = redis_say(tls, "CONFIG GET tls-protocols");
    tap_ok(strstr(said, "TLSv1.1") != NULL, "a server of TLS 1.1");
    said = ping(secure_site("localhost", in_dir("ca.pem")), 2000);
    tap_ok(strstr(said, "TLS: ") != NULL && strstr(said, "PONG") == NULL, "is refused: %s",
           said);
    (void)redis_say(tls, "CONFIG SET tls-protocols \"\"");
    says(ping(secure_site("localhost", in_dir("ca.pem")), 2000), "+PONG", "as it was");
}

static void test_tls_trouble(void)
{
    qo_wire_place_t not_tls = {
        .host = "127.0.0.1", .port = plain->port, .tls = true, .ca = in_dir("ca.pem")};
    qo_wire_site_t *site = secure_site("localhost", in_dir("ca.pem"));
    qo_wire_t wire = QO_WIRE_CLOSED;
    qo_err_t err = {.detail = ""};
    long since;

    tap_ok(strstr(ping(qo_wire_site(root, &not_tls), 200), "PONG") == NULL,
           "TLS to one who has none");
    tap_ok(strstr(ping(site_of("127.0.0.1", tls->tls_port), 200), "PONG") == NULL,
           "none to one who wants it");
    says(ping(site, 2000), "+PONG", "all is well");
    (void)kill(tls->pid, SIGSTOP);
    since = redis_ms();
    tap_int(qo_wire_open(&wire, site, in_ms(150), &err), QO_E_STORE_UNAVAILABLE,
            "a server that hangs");
    took(since, 150, "TLS");
    tap_ok(wire.fd < 0 && wire.tls == NULL, "nothing is left open");
    (void)kill(tls->pid, SIGCONT);
    says(ping(site, 2000), "+PONG", "and goes on");
}

int main(void)
{
    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&root, NULL) != APR_SUCCESS) {
        abort();
    }
    plain = redis_new(root, "");
    tls = redis_new_tls(root);
    test_ways();
    test_no_way();
    test_deadlines();
    test_babble();
    test_many_addresses();
    test_slow_names();
    test_name_outlives();
    hang_up_on(site_of("127.0.0.1", plain->port), plain, "TCP");
    hang_up_on(local_site(plain->socket), plain, "a unix socket");
    hang_up_on(secure_site("localhost", in_dir("ca.pem")), tls, "TLS");
    test_noise();
    test_tls();
    test_old_tls();
    test_tls_trouble();
    redis_end(plain);
    redis_end(tls);
    apr_pool_destroy(root);
    apr_terminate();
    return tap_done();
}
