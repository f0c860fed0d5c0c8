/* What is said to Redis and what is made of its answers; the pool, deadlines, failing fast
 * and coming back. */
#include "qo_redis.h"
#include "qo_limits.h"
#include "qo_redis_reply.h"

#include "redis.h"

#include <apr_general.h>

#include <pthread.h>
#include <sys/resource.h>

static apr_pool_t *root;
static redis_t *r;

/* ---- words ---- */

static apr_pool_t *new_pool(void)
{
    apr_pool_t *p;

    if (apr_pool_create(&p, root) != APR_SUCCESS) {
        abort();
    }
    return p;
}

static qo_redis_settings_t *settings_for(apr_pool_t *p, int port)
{
    qo_redis_settings_t *settings = apr_pcalloc(p, sizeof(*settings));

    settings->place.host = port != 0 ? "127.0.0.1" : NULL;
    settings->place.port = port;
    settings->place.path = r->socket;
    settings->timeout_ms = 300 * process_slow();
    settings->connections = 4;
    return settings;
}

static qo_redis_t *attached(apr_pool_t *p, const qo_redis_settings_t *settings)
{
    qo_redis_t *redis = qo_redis_make(p, settings);
    qo_err_t err = {.detail = ""};

    if (qo_redis_attach(redis, p, &err) != QO_OK) {
        redis_bail(err.detail);
    }
    return redis;
}

static qo_redis_t *of_port(apr_pool_t *p, int port)
{
    return attached(p, settings_for(p, port));
}

/* One command; what came of it as text. */
static const char *ask(qo_redis_t *redis, const char *command, const char *word)
{
    static _Thread_local qo_err_t err;
    qo_redis_command_t call;
    qo_redis_reply_t reply;
    qo_redis_talk_t *talk;

    err.detail[0] = '\0';
    if (qo_redis_begin(&talk, redis, &err) != QO_OK) {
        return err.detail;
    }
    qo_redis_begin_command(&call, command);
    if (word != NULL) {
        qo_redis_add_text(&call, word);
    }
    if (qo_redis_ask(talk, &reply, &call, 1, &err) == QO_OK) {
        if (reply.kind == QO_REDIS_TEXT) {
            (void)qo_error(&err, QO_OK, "%s", (const char *)reply.text.data);
        } else if (reply.kind == QO_REDIS_NUMBER) {
            (void)qo_error(&err, QO_OK, ":%lld", (long long)reply.number);
        } else {
            (void)qo_redis_refusal(&reply, &err);
        }
    }
    qo_redis_end(talk);
    return err.detail;
}

static bool works(qo_redis_t *redis)
{
    return strcmp(ask(redis, "PING", NULL), "PONG") == 0;
}

static bool says(const char *text, const char *words, const char *name)
{
    return tap_ok(strstr(text, words) != NULL, "%s: %s", name, text);
}

static bool took(long since, int least, int most, const char *name)
{
    long passed = redis_ms() - since;

    return tap_ok(passed >= least * process_slow() - 2 && passed <= most * process_slow(),
                  "%s: between %d and %d ms: %ld", name, least * process_slow(),
                  most * process_slow(), passed);
}

/* ---- what is said ---- */

static void test_words(void)
{
    apr_pool_t *p = new_pool();
    qo_redis_t *redis = of_port(p, 0);
    qo_redis_script_t script = {.text = "return {KEYS[1],#ARGV[1],tonumber(ARGV[2])}"};
    qo_redis_command_t call;
    qo_redis_command_t both[2];
    qo_redis_reply_t reply;
    qo_redis_reply_t replies[2];
    qo_redis_talk_t *talk;
    const char *said;

    qo_redis_prepare_script(&script);
    said = redis_say(r, "SCRIPT LOAD \"%s\"", script.text);
    tap_ok(strstr(said, script.sha1) != NULL, "Redis calls the script the same: %s",
           script.sha1);
    (void)redis_say(r, "SCRIPT FLUSH");
    if (qo_redis_begin(&talk, redis, NULL) != QO_OK) {
        redis_bail("no connection");
    }
    for (int i = 0; i < 2; i++) {
        qo_redis_begin_script(&call, &script, 1);
        qo_redis_add_text(&call, "key with spaces\r\n");
        qo_redis_add_bytes(&call, "\0\r\n$5\xff", 6);
        qo_redis_add_number(&call, -9007199254740991);
        tap_int(qo_redis_run(talk, &reply, &script, &call, false, NULL), QO_OK,
                i == 0 ? "a script that Redis does not know yet" : "and then knows");
        tap_ok(reply.kind == QO_REDIS_LIST && reply.count == 3, "answers with a list");
        tap_is((const char *)reply.items[0].text.data, "key with spaces\r\n", "a text");
        tap_int(reply.items[1].number, 6, "any bytes");
        tap_int(reply.items[2].number, -9007199254740991, "a number");
    }
    qo_redis_begin_command(&both[0], "ECHO");
    qo_redis_add_bytes(&both[0], NULL, 0);
    qo_redis_begin_command(&both[1], "GET");
    qo_redis_add_text(&both[1], "nothing");
    tap_int(qo_redis_ask(talk, replies, both, 2, NULL), QO_OK, "two at once");
    tap_ok(replies[0].kind == QO_REDIS_TEXT && replies[0].text.len == 0, "nothing said");
    tap_ok(replies[1].kind == QO_REDIS_NIL, "nothing there");
    qo_redis_end(talk);
    apr_pool_destroy(p);
}

/* ---- logging in ---- */

static void test_login(void)
{
    apr_pool_t *p = new_pool();
    redis_t *guarded = redis_new(root, "requirepass s3cr&t%word\n"
                                       "user tester on >other-word ~x:* +ping +get\n");
    qo_redis_settings_t *settings = settings_for(p, guarded->port);

    says(ask(attached(p, settings), "PING", NULL), "wants a password", "no password");
    settings = settings_for(p, guarded->port);
    settings->password = "wrong-word";
    says(ask(attached(p, settings), "PING", NULL), "refuses the user or the password",
         "a wrong one");
    tap_ok(strstr(ask(attached(p, settings), "PING", NULL), "wrong-word") == NULL,
           "which is not told");
    settings = settings_for(p, guarded->port);
    settings->password = "s3cr&t%word";
    says(ask(attached(p, settings), "PING", NULL), "PONG", "the right one");
    settings = settings_for(p, guarded->port);
    settings->user = "tester";
    settings->password = "other-word";
    says(ask(attached(p, settings), "PING", NULL), "PONG", "a user");
    says(ask(attached(p, settings), "GET", "y:1"), "may not do what is needed",
         "who may not do everything");
    settings->database = 3;
    says(ask(attached(p, settings), "PING", NULL), "choosing database 3",
         "nor choose a database");
    settings = settings_for(p, guarded->port);
    settings->user = "nobody";
    settings->password = "other-word";
    says(ask(attached(p, settings), "PING", NULL), "refuses", "an unknown user");
    redis_end(guarded);

    settings = settings_for(p, r->port);
    settings->database = 5;
    (void)redis_say(r, "SELECT 5\r\nSET five here");
    says(ask(attached(p, settings), "GET", "five"), "here", "a database");
    settings = settings_for(p, r->port);
    settings->database = 4000;
    says(ask(attached(p, settings), "PING", NULL), "choosing database 4000",
         "a database it does not have");
    settings = settings_for(p, r->port);
    settings->password = "any";
    says(ask(attached(p, settings), "PING", NULL), "logging in", "a password for nothing");
    apr_pool_destroy(p);
}

/* ---- what is answered ---- */

static void lie(const char *bytes, size_t len, int times, const char *words,
                const char *name)
{
    apr_pool_t *p = new_pool();
    redis_liar_t liar = redis_liar(bytes, len, times);
    qo_redis_settings_t *settings = settings_for(p, liar.port);

    settings->timeout_ms = 150 * process_slow();
    says(ask(attached(p, settings), "PING", NULL), words, name);
    redis_liar_end(&liar);
    apr_pool_destroy(p);
}

#define LIE(bytes, words, name) lie(bytes, sizeof(bytes) - 1, 1, words, name)

static void test_lies(void)
{
    static char megabyte[1 << 20];

    memset(megabyte, 'x', sizeof(megabyte));
    LIE("+PONG\r\n", "PONG", "an answer");
    LIE("hello\r\n", "not Redis's protocol", "no answer of Redis");
    LIE("HTTP/1.1 200 OK\r\n\r\n", "not Redis's protocol", "a web server");
    LIE("\0\0\0\0", "not Redis's protocol", "zeros");
    LIE("*4000000000\r\n", "protocol", "more items than there are");
    LIE("*200000\r\n", "protocol", "more items than we want");
    LIE("*-2\r\n", "protocol", "fewer than none");
    LIE("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        "protocol", "lists in lists in lists");
    LIE("$9223372036854775807\r\nx", "redis at 127.0.0.1", "a text without end");
    LIE("$-5\r\n", "protocol", "a text of less than nothing");
    LIE("$3\r\nabcdef\r\n", "redis at 127.0.0.1", "a text longer than it says");
    LIE(":12x\r\n", "", "a number that is none");
    LIE("$10\r\nabc", "no answer in time", "half an answer");
    LIE("", "no answer in time", "none");
    LIE("+PONG\r\n+PONG\r\n", "what was not asked", "two answers");
    LIE("+PONG\r\n:", "what was not asked", "one and a half");
    LIE("-ERR unknown command `AUTH`, with args beginning with: `secret`\r\n",
        "Redis refuses (ERR)", "a refusal that quotes");
    LIE("-MOVED 1234 192.0.2.1:6379\r\n", "Redis Cluster", "a cluster");
    LIE("-CLUSTERDOWN Hash slot not served\r\n", "Redis Cluster", "a cluster that is down");
    LIE("-LOADING Redis is loading the dataset in memory\r\n", "still loading", "loading");
    LIE("-READONLY You can't write against a read only replica.\r\n", "replica",
        "a replica");
    LIE("-ERR Error running script (call to f_0123): @user_script:1: @user_script: 1: "
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        "no memory left", "how an older Redis says that memory is full");
    LIE("-\r\n", "without a reason", "a refusal without words");
    LIE("%1\r\n+a\r\n+b\r\n", "protocol", "a type of another protocol");
    lie(megabyte, sizeof(megabyte), 6, "redis at 127.0.0.1", "megabytes of nothing");
    LIE("$5000000\r\n", "no answer in time", "the promise of a long text");
}

/* The same numbers in every run. */
static uint32_t dice(uint32_t sides)
{
    static uint32_t state = 4711;

    state = state * 1664525U + 1013904223U;
    return (state >> 8) % sides;
}

/* Proper replies with some bytes changed, cut and doubled, fed in pieces of any size. */
static void feed_nonsense(apr_pool_t *p, int met[3])
{
    static const char proper[] = "*2\r\n$10\r\n1700000000\r\n$6\r\n123456\r\n:0\r\n+OK\r\n"
                                 "-OOM no memory\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n"
                                 "*2\r\n$1\r\n0\r\n*2\r\n$3\r\nabc\r\n*1\r\n:-5\r\n";
    static const char spice[] = "*$:+-\r\n0123456789\0\xff ,~%_#(!=|>";
    char text[2 * sizeof(proper)];
    size_t len = sizeof(proper) - 1, at = 0;
    qo_redis_reader_t *reader = qo_redis_reply_reader();
    qo_redis_reply_state_t state = QO_REDIS_REPLY_PART;
    qo_redis_reply_t reply;

    memcpy(text, proper, len);
    for (uint32_t i = dice(6); i > 0; i--) {
        text[dice((uint32_t)len)] = spice[dice(sizeof(spice) - 1)];
    }
    len -= dice(3) == 0 ? dice((uint32_t)len) : 0;
    while (state != QO_REDIS_REPLY_BAD && at < len) {
        size_t piece =
            1 + dice(40) < len - at ? 1 + dice(40) % (uint32_t)(len - at) : len - at;

        if (!qo_redis_reply_feed(reader, text + at, piece)) {
            break;
        }
        at += piece;
        do {
            state = qo_redis_reply_next(reader, &reply, p);
            met[state]++;
        } while (state == QO_REDIS_REPLY_WHOLE);
    }
    (void)qo_redis_reply_finish(reader);
    qo_redis_reply_free(reader);
}

static void test_nonsense(void)
{
    apr_pool_t *p = new_pool();
    int met[3] = {0, 0, 0};

    for (int i = 0; i < 20000; i++) {
        feed_nonsense(p, met);
        apr_pool_clear(p);
    }
    tap_ok(met[QO_REDIS_REPLY_WHOLE] > 1000 && met[QO_REDIS_REPLY_PART] > 1000 &&
               met[QO_REDIS_REPLY_BAD] > 1000,
           "nonsense is read as what it is: %d replies, %d not", met[0], met[2]);
    apr_pool_destroy(p);
}

static void test_too_long(void)
{
    apr_pool_t *p = new_pool();
    qo_redis_settings_t *settings = settings_for(p, 0);
    qo_redis_t *redis;

    settings->timeout_ms = 5000 * process_slow();
    redis = attached(p, settings);
    (void)redis_say(r, "EVAL \"redis.call('SET','long',string.rep('x',%d))\" 0",
                    QO_LIMIT_REPLY + 1);
    says(ask(redis, "GET", "long"), "too long", "an answer that is too long");
    (void)redis_say(r, "EVAL \"redis.call('SET','long',string.rep('x',%d))\" 0",
                    QO_LIMIT_REPLY / 2);
    redis_sleep(300 * process_slow());
    tap_int((long long)strlen(ask(redis, "GET", "long")),
            (long long)sizeof(((qo_err_t *)0)->detail) - 1, "one that is long");
    (void)redis_say(r, "DEL long");
    apr_pool_destroy(p);
}

/* ---- the pool ---- */

typedef struct {
    qo_redis_t *redis;
    int rounds;
    int wrong;
} worker_t;

static void *work(void *data)
{
    worker_t *me = data;

    for (int i = 0; i < me->rounds; i++) {
        qo_redis_command_t call;
        qo_redis_reply_t reply;
        qo_redis_talk_t *talk;
        char word[32];

        (void)snprintf(word, sizeof(word), "%p %d", data, i);
        qo_redis_begin_command(&call, "ECHO");
        qo_redis_add_text(&call, word);
        if (qo_redis_begin(&talk, me->redis, NULL) != QO_OK) {
            me->wrong++;
            continue;
        }
        me->wrong += qo_redis_ask(talk, &reply, &call, 1, NULL) != QO_OK ||
                     reply.kind != QO_REDIS_TEXT ||
                     strcmp((const char *)reply.text.data, word) != 0;
        qo_redis_end(talk);
    }
    return NULL;
}

/* Many threads at once; how many answers were wrong or missing. */
static int crowd(qo_redis_t *redis, int threads)
{
    worker_t worker[16];
    pthread_t thread[16];
    int wrong = 0;

    for (int i = 0; i < threads; i++) {
        worker[i] = (worker_t){redis, 50, 0};
        if (pthread_create(&thread[i], NULL, work, &worker[i]) != 0) {
            abort();
        }
    }
    for (int i = 0; i < threads; i++) {
        (void)pthread_join(thread[i], NULL);
        wrong += worker[i].wrong;
    }
    return wrong;
}

static void test_pool(void)
{
    apr_pool_t *p = new_pool();
    qo_redis_settings_t *settings = settings_for(p, 0);
    qo_redis_t *redis;
    qo_redis_talk_t *talk[4], *one_more;
    qo_err_t err = {.detail = ""};
    int begun = 0;
    const char *clients;
    long since;

    settings->timeout_ms = 5000 * process_slow();
    redis = attached(p, settings);
    tap_int(crowd(redis, 16), 0,
            "sixteen threads on four connections: each gets its own answers");
    clients = strstr(redis_say(r, "INFO clients"), "connected_clients:");
    tap_ok(clients != NULL && atoi(clients + 18) <= 5, "there were no more than four");

    settings->timeout_ms = 150 * process_slow();
    for (int i = 0; i < 4; i++) {
        begun += qo_redis_begin(&talk[i], redis, NULL) == QO_OK;
    }
    tap_int(begun, 4, "all are in use");
    since = redis_ms();
    tap_int(qo_redis_begin(&one_more, redis, &err), QO_E_STORE_UNAVAILABLE, "one too many");
    took(since, 150, 900, "waits");
    says(err.detail, "all 4 connections", "and why");
    qo_redis_end(talk[0]);
    tap_ok(works(redis), "one is free again; nobody thinks that Redis is down");
    for (int i = 1; i < 4; i++) {
        qo_redis_end(talk[i]);
    }
    apr_pool_destroy(p);
    redis_sleep(50);
    clients = strstr(redis_say(r, "INFO clients"), "connected_clients:");
    tap_ok(clients != NULL && atoi(clients + 18) == 1, "all are closed with their pool");
}

static void test_fork(void)
{
    apr_pool_t *p = new_pool();
    qo_redis_t *redis = of_port(p, 0);
    pid_t child;

    tap_ok(works(redis), "before a fork");
    fflush(stdout);
    child = fork();
    if (child == 0) {
        bool refused = strstr(ask(redis, "PING", NULL), "not opened by this process");
        bool again = qo_redis_attach(redis, p, NULL) == QO_OK && works(redis);

        apr_pool_destroy(p);
        _exit(refused && again ? 0 : 1);
    }
    tap_int(process_wait(child), 0, "the child opens connections of its own");
    tap_ok(works(redis), "and the parent's go on");
    apr_pool_destroy(p);
}

/* ---- several processes ---- */

/* What one finds out, all of them know. */
static void test_together(void)
{
    apr_pool_t *p = new_pool(), *mine = new_pool();
    redis_t *hung = redis_new(root, "");
    qo_redis_t *redis = qo_redis_make(p, settings_for(p, hung->port));
    int found[2], healed[2];
    char byte = 0;
    pid_t child;
    long since;

    if (pipe(found) != 0 || pipe(healed) != 0) {
        abort();
    }
    (void)kill(hung->pid, SIGSTOP);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        bool away = qo_redis_attach(redis, mine, NULL) == QO_OK && !works(redis) &&
                    write(found[1], "x", 1) == 1 && read(healed[0], &byte, 1) == 1;

        _exit(away && works(redis) ? 0 : 1);
    }
    if (qo_redis_attach(redis, mine, NULL) != QO_OK || read(found[0], &byte, 1) != 1) {
        abort();
    }
    since = redis_ms();
    says(ask(redis, "PING", NULL), "another process found it away", "a second process");
    took(since, 0, 200, "does not wait");
    (void)kill(hung->pid, SIGCONT);
    redis_sleep(QO_REDIS_PROBE_MS + 50);
    tap_ok(works(redis), "it finds that all is well again");
    tap_ok(write(healed[1], "x", 1) == 1, "whereupon");
    tap_int(process_wait(child), 0, "the first may ask at once");
    apr_pool_destroy(mine);
    redis_end(hung);
    apr_pool_destroy(p);
}

/* A process that has no socket left says nothing about Redis. */
static void test_no_socket(void)
{
    apr_pool_t *p = new_pool();
    qo_redis_t *redis = of_port(p, 0);
    struct rlimit before, none = {3, 0};

    if (getrlimit(RLIMIT_NOFILE, &before) != 0) {
        abort();
    }
    none.rlim_max = before.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &none);
    says(ask(redis, "PING", NULL), "no socket", "no socket");
    (void)setrlimit(RLIMIT_NOFILE, &before);
    tap_ok(works(redis), "is told at once, and forgotten at once");
    apr_pool_destroy(p);
}

/* ---- the end ---- */

/* How long it took is left in `wrong`. */
static void *ask_once(void *data)
{
    worker_t *me = data;
    long since = redis_ms();

    (void)works(me->redis);
    me->wrong = (int)(redis_ms() - since);
    return NULL;
}

/* A process ends while one of its threads still waits for an answer. */
static void test_end(void)
{
    apr_pool_t *p = new_pool(), *child = new_pool();
    redis_t *hung = redis_new(root, "");
    qo_redis_t *redis = qo_redis_make(p, settings_for(p, hung->port));
    worker_t worker = {redis, 0, 0};
    pthread_t thread;
    long since;

    if (qo_redis_attach(redis, child, NULL) != QO_OK) {
        redis_bail("no connection");
    }
    (void)kill(hung->pid, SIGSTOP);
    if (pthread_create(&thread, NULL, ask_once, &worker) != 0) {
        abort();
    }
    redis_sleep(100);
    since = redis_ms();
    apr_pool_destroy(child);
    took(since, 100, 500, "the end waits for who still talks");
    (void)pthread_join(thread, NULL);
    says(ask(redis, "PING", NULL), "not opened", "after which nobody does");
    (void)kill(hung->pid, SIGCONT);
    redis_end(hung);
    apr_pool_destroy(p);
}

/* ---- trouble ---- */

static void test_hang(void)
{
    apr_pool_t *p = new_pool();
    redis_t *hung = redis_new(root, "");
    qo_redis_t *redis = of_port(p, hung->port);
    qo_redis_t *fresh = of_port(p, hung->port);
    long since;
    int quick = 0;

    tap_ok(works(redis), "a server");
    (void)kill(hung->pid, SIGSTOP);
    since = redis_ms();
    says(ask(redis, "PING", NULL), "no answer in time", "that hangs");
    took(since, 300, 590, "costs one deadline");
    since = redis_ms();
    for (int i = 0; i < 20; i++) {
        quick += strstr(ask(redis, "PING", NULL), "not asked again yet") != NULL;
    }
    tap_int(quick, 20, "then nobody waits");
    took(since, 0, 290, "twenty of them");
    since = redis_ms();
    says(ask(fresh, "PING", NULL), "no answer in time", "a first connection that hangs");
    took(since, 300, 590, "costs one deadline, too");
    (void)kill(hung->pid, SIGCONT);
    since = redis_ms();
    while (!works(redis) && redis_ms() - since < 5000 * process_slow()) {
        redis_sleep(5);
    }
    took(since, 0, 1000, "it goes on, and is found");
    tap_int(crowd(redis, 4), 0, "by everybody");
    redis_end(hung);
    apr_pool_destroy(p);
}

static void test_restart(void)
{
    apr_pool_t *p = new_pool();
    redis_t *other = redis_new(root, "");
    qo_redis_settings_t *settings = settings_for(p, 0);
    qo_redis_t *redis;
    long since;

    settings->place.path = other->socket;
    redis = attached(p, settings);
    tap_ok(works(redis), "a server");
    redis_stop(other);
    redis_start(other);
    tap_ok(works(redis), "that was restarted: nobody notices");
    redis_stop(other);
    since = redis_ms();
    says(ask(redis, "PING", NULL), "redis at ", "one that is gone");
    took(since, 0, 290, "is told at once");
    says(ask(redis, "PING", NULL), "not asked again yet", "and once");
    redis_start(other);
    since = redis_ms();
    while (!works(redis) && redis_ms() - since < 5000 * process_slow()) {
        redis_sleep(5);
    }
    took(since, 0, 1000, "it is back, and found");
    tap_int(crowd(redis, 4), 0, "by everybody");
    redis_end(other);
    apr_pool_destroy(p);
}

/* Two connections, both idle at the end. */
static void open_two(qo_redis_t *redis)
{
    qo_redis_talk_t *talk[2];
    qo_redis_command_t call;
    qo_redis_reply_t reply;

    qo_redis_begin_command(&call, "PING");
    for (int i = 0; i < 2; i++) {
        if (qo_redis_begin(&talk[i], redis, NULL) != QO_OK ||
            qo_redis_ask(talk[i], &reply, &call, 1, NULL) != QO_OK) {
            redis_bail("no connection");
        }
    }
    qo_redis_end(talk[0]);
    qo_redis_end(talk[1]);
}

/* An answer that is lost costs nothing but time. */
static void test_lost(void)
{
    apr_pool_t *p = new_pool();
    redis_relay_t relay = redis_relay(r);
    qo_redis_t *redis = of_port(p, relay.port);
    int before;

    tap_ok(works(redis), "through a relay");
    redis_play(&relay, REDIS_LOSE, 0, 1);
    tap_ok(works(redis), "a kept connection that breaks is made anew");
    redis_play(&relay, REDIS_HALF, 0, 1);
    tap_ok(works(redis), "also in the middle of an answer");
    redis_play(&relay, REDIS_REFUSE, 0, 1);
    tap_ok(works(redis), "also before it hears");
    redis_play(&relay, REDIS_LOSE, 0, 2);
    says(ask(redis, "PING", NULL), "hung up", "but not twice");
    redis_play(&relay, REDIS_PASS, 0, 0);
    redis_sleep(QO_REDIS_PROBE_MS + 50);
    tap_ok(works(redis), "later it is tried again");
    open_two(redis);
    before = atomic_load(&relay.tricks->connections);
    redis_play(&relay, REDIS_SWALLOW, 0, 1);
    says(ask(redis, "PING", NULL), "no answer in time", "an answer that never comes");
    redis_sleep(QO_REDIS_PROBE_MS + 50);
    tap_ok(works(redis), "is not taken for the next one");
    tap_int(atomic_load(&relay.tricks->connections), before + 1, "as that has another way");
    open_two(redis);
    tap_int(atomic_load(&relay.tricks->connections), before + 2,
            "and connections of before are not used again");
    redis_relay_end(&relay);
    apr_pool_destroy(p);
}

/* While it is down, one asks at a time, and the others do not wait for that one. */
static void test_one_probe(void)
{
    apr_pool_t *p = new_pool();
    redis_t *hung = redis_new(root, "");
    qo_redis_t *redis = of_port(p, hung->port);
    worker_t worker[8];
    pthread_t thread[8];
    int waited = 0;

    (void)kill(hung->pid, SIGSTOP);
    (void)works(redis);
    redis_sleep(QO_REDIS_PROBE_MS + 20);
    for (int i = 0; i < 8; i++) {
        worker[i] = (worker_t){redis, 0, 0};
        if (pthread_create(&thread[i], NULL, ask_once, &worker[i]) != 0) {
            abort();
        }
    }
    for (int i = 0; i < 8; i++) {
        (void)pthread_join(thread[i], NULL);
        waited += worker[i].wrong > 150 * process_slow();
    }
    tap_int(waited, 1, "of eight, one finds out whether it still hangs");
    (void)kill(hung->pid, SIGCONT);
    redis_end(hung);
    apr_pool_destroy(p);
}

int main(void)
{
    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&root, NULL) != APR_SUCCESS) {
        abort();
    }
    r = redis_new(root, "");
    test_words();
    test_login();
    test_lies();
    test_nonsense();
    test_too_long();
    test_pool();
    test_fork();
    test_together();
    test_no_socket();
    test_end();
    test_hang();
    test_restart();
    test_lost();
    test_one_probe();
    redis_end(r);
    apr_pool_destroy(root);
    apr_terminate();
    return tap_done();
}
