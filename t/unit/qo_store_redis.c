/* The Redis provider against real Redis servers: what the port promises, what is lost on
 * the way and what is found out about it, memory that is full, users that may do little,
 * servers that stop, hang, come back or come back empty. */
#include "qo_store_redis.h"
#include "qo_store_redis_parts.h"

#include "qo_limits.h"

#include "redis.h"
#include "store_port.h"

#include <apr_general.h>

#include <pthread.h>

static const qo_store_provider_t *const S = &qo_store_redis_provider;
static apr_pool_t *root;

static qo_store_t *open_as(apr_pool_t *p, const char *url, uint64_t sessions,
                           uint64_t pending)
{
    qo_store_setup_t setup = {.argument = url,
                              .dir = "/nowhere",
                              .uid = -1,
                              .gid = -1,
                              .max_sessions = sessions,
                              .max_pending = pending,
                              .as_it_is = true};
    qo_store_t *store = NULL;
    qo_err_t err = {.detail = ""};

    if (S->prepare(&store, p, &setup, &err) != QO_OK ||
        S->attach(store, p, &err) != QO_OK) {
        redis_bail(err.detail);
    }
    return store;
}

static apr_pool_t *new_pool(void)
{
    apr_pool_t *p;

    if (apr_pool_create(&p, root) != APR_SUCCESS) {
        abort();
    }
    return p;
}

/* ---- the port, by the tests of all providers ---- */

/* Moves everything that Redis keeps into the past, as if so much time had gone by. Leases
 * are on a real clock and stay. */
static const char PASS[] =
    "local d=tonumber(ARGV[1]) "
    "local function back(s,at) local n=struct.unpack('>I8',s,at)-d "
    "return s:sub(1,at-1)..struct.pack('>I8',n)..s:sub(at+8) end "
    "for _,k in ipairs(redis.call('KEYS','*')) do "
    "if redis.call('TYPE',k).ok=='zset' then "
    "for _,m in ipairs(redis.call('ZRANGE',k,0,-1)) do redis.call('ZINCRBY',k,-d,m) end "
    "else local v=redis.call('GET',k) local l=redis.call('PTTL',k)-d/1000 "
    "if v:byte(1)==1 and k:find(':s:') then v=back(back(v,18),30) end "
    "redis.call('SET',k,v,'KEEPTTL') "
    "redis.call('PEXPIRE',k,math.floor(l)) end end return 1";

typedef struct {
    const redis_t *r;
    int database;
} clock_t_;

static void pass(void *data, apr_time_t time)
{
    const clock_t_ *c = data;
    const char *said = redis_say(c->r, "SELECT %d\r\nEVAL \"%s\" 0 %lld", c->database, PASS,
                                 (long long)time);

    if (strstr(said, ":1") == NULL) {
        redis_bail(said);
    }
}

static void test_port(const redis_t *r)
{
    apr_pool_t *p = new_pool();
    clock_t_ c = {r, 1};
    store_port_t port = {.provider = S,
                         .pool = p,
                         .now = apr_time_from_sec(1700000000),
                         .walks = true,
                         .pass = pass,
                         .data = &c};

    port.store =
        open_as(p, apr_psprintf(p, "redis+unix://%s?db=1&timeout=5s", r->socket), 0, 0);
    store_port(&port);
    c.database = 2;
    port.store =
        open_as(p, apr_psprintf(p, "redis+unix://%s?db=2&timeout=5s", r->socket), 0, 10);
    store_port_flood(&port, 10);
    c.database = 3;
    port.store =
        open_as(p, apr_psprintf(p, "redis+unix://%s?db=3&timeout=5s", r->socket), 5, 0);
    store_port_full(&port, 5);
    apr_pool_destroy(p);
}

/* ---- words ---- */

static apr_time_t now;

static qo_status_t create(qo_store_t *s, uint32_t n, const char *text, uint32_t idle)
{
    qo_hash_t key = store_port_key(n);

    return S->session_create(s, &key, store_port_value(text), now + apr_time_from_sec(9000),
                             idle, now, NULL);
}

/* Is it there with this value and version? INTERNAL: with others. */
static qo_status_t get_at(qo_store_t *s, uint32_t n, const char *text, uint64_t version,
                          apr_time_t at)
{
    store_port_t port = {.provider = S, .store = s, .pool = root, .now = at};

    return store_port_get(&port, n, text, version);
}

static qo_status_t get(qo_store_t *s, uint32_t n, const char *text, uint64_t version)
{
    return get_at(s, n, text, version, now);
}

static qo_status_t replace(qo_store_t *s, uint32_t n, uint64_t version, const char *text)
{
    qo_hash_t key = store_port_key(n);

    return S->session_replace(s, &key, version, store_port_value(text), now, NULL);
}

static qo_status_t end(qo_store_t *s, uint32_t n)
{
    qo_hash_t key = store_port_key(n);

    return S->session_delete(s, &key, QO_STORE_ANY, now, NULL);
}

static qo_status_t touch_at(qo_store_t *s, uint32_t n, apr_time_t at)
{
    qo_hash_t key = store_port_key(n);

    return S->touch(s, &key, at, NULL);
}

static qo_status_t put(qo_store_t *s, uint32_t n)
{
    qo_hash_t key = store_port_key(n);

    return S->pending_put(s, &key, store_port_value("login"), now + apr_time_from_sec(900),
                          now, NULL);
}

static qo_status_t take(qo_store_t *s, uint32_t n)
{
    qo_hash_t key = store_port_key(n);

    return S->pending_take(s, &key, now, NULL);
}

static qo_status_t acquire(qo_store_t *s, uint32_t n, qo_lease_t *lease)
{
    qo_hash_t key = store_port_key(n);

    return S->lease_acquire(s, &key, lease, apr_time_from_sec(60), now, NULL);
}

static qo_status_t release(qo_store_t *s, uint32_t n, const qo_lease_t *lease,
                           qo_status_t why)
{
    qo_hash_t key = store_port_key(n);

    return S->lease_release(s, &key, lease, why, apr_time_from_sec(60), NULL);
}

static const char *url_of(apr_pool_t *p, int port, const char *more)
{
    return apr_psprintf(p, "redis://127.0.0.1:%d/%s", port, more);
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

/* ---- URLs ---- */

static void test_urls(void)
{
    static const char *const good[] = {
        "redis://redis.example.com",
        "redis://redis.example.com/",
        "redis://redis.example.com:6380/3",
        "redis://user:pass@192.0.2.1",
        "redis://:pass@[2001:db8::1]:6379/0",
        "redis://us%40er:p%2Fa%3Fs%25s@host",
        "redis://user:p@ss@host",
        "redis://host/1?timeout=300ms&pool=4&prefix=shop-1",
        "rediss://host",
        "redis+unix:///run/redis/redis.sock",
        "redis+unix://user:pass@/run/redis.sock?db=2&timeout=1s"};
    static const struct {
        const char *url;
        const char *words;
    } bad[] = {
        {"redis:/host", "redis://"},
        {"rediss:host", "rediss://"},
        {"redis+unix:/path", "redis+unix://"},
        {"redis://", "host and port"},
        {"redis:///1", "host and port"},
        {"redis://host:0", "host and port"},
        {"redis://host:99999", "host and port"},
        {"redis://host:port", "host and port"},
        {"redis://ho st", "host and port"},
        {"redis://host#x", "host and port"},
        {"redis://[::1", "host and port"},
        {"redis://host/one", "\"one\" is no number"},
        {"redis://host/-1", "is no number"},
        {"redis://host/65536", "is no number"},
        {"redis://host/1/2", "is no number"},
        {"redis://user@host", "no password"},
        {"redis://user:@host", "no password"},
        {"redis://user:s3cret%zz@host", "percent-encoded"},
        {"redis://user:s3cret%00@host", "percent-encoded"},
        {"redis://user:1/s3cret@host", "%2F"},
        {"redis://user:1?s3cret@host", "%3F"},
        {"redis://user:s3cret@host/s3cret", "is no number"},
        {"redis://host?timeout=0", "10ms and 10s"},
        {"redis://host?timeout=9ms", "10ms and 10s"},
        {"redis://host?timeout=11s", "10ms and 10s"},
        {"redis://host?timeout=soon", "10ms and 10s"},
        {"redis://host?pool=0", "between 1 and 64"},
        {"redis://host?pool=65", "between 1 and 64"},
        {"redis://host?pool=four", "between 1 and 64"},
        {"redis://host?prefix=", "cannot begin the keys"},
        {"redis://host?prefix=a*", "cannot begin the keys"},
        {"redis://host?prefix=a%20b", "cannot begin the keys"},
        {"redis://host?ca=/ca.pem", "rediss://"},
        {"rediss://host?ca=ca.pem", "absolute path"},
        {"rediss://host?ca=/nowhere/ca.pem", "/nowhere/ca.pem"},
        {"redis://host?db=1", "redis://host/1"},
        {"redis://host?retries=3", "\"retries\" is unknown"},
        {"redis://host?pool=1&pool=2", "twice"},
        {"redis://host?pool=%zz", "cannot be read"},
        {"redis+unix://", "absolute path"},
        {"redis+unix:///", "absolute path"},
        {"redis+unix://run/redis.sock", "absolute path"},
        {"redis+unix://user:s3cret/run/redis.sock", "absolute path"},
        {"redis+unix:///run/redis.sock?db=x", "is no number"},
        {"redis+unix:///0123456789012345678901234567890123456789012345678901234567890123"
         "456789012345678901234567890123456789012345678",
         "at most"},
    };
    const char *mistake;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        mistake = qo_store_redis_check(root, good[i]);
        tap_is(mistake, NULL, good[i]);
        tap_ok(qo_store_redis_is(good[i]), "is ours");
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        mistake = qo_store_redis_check(root, bad[i].url);
        tap_ok(mistake != NULL && strstr(mistake, bad[i].words) != NULL, "%s: %s",
               bad[i].url, mistake != NULL ? mistake : "no mistake");
        tap_ok(mistake == NULL || strstr(bad[i].url, "s3cret@host/s3cret") != NULL ||
                   strstr(mistake, "s3cret") == NULL,
               "- without the password");
        tap_ok(qo_store_redis_is(bad[i].url), "- is ours");
    }
    tap_ok(!qo_store_redis_is("redis:host:6379"), "httpd's own syntax is not");
    tap_ok(!qo_store_redis_is("lmdb"), "nor is lmdb");
}

/* ---- answers that are lost ---- */

typedef struct {
    qo_store_t *s;
    redis_relay_t relay;
    uint32_t n; /* the next session */
} lossy_t;

static void lose(lossy_t *l, redis_trick_t trick, int skip)
{
    redis_play(&l->relay, trick, skip, 1);
}

/* Each is done, and once, though nobody was told. */
static void test_lost_with(lossy_t *l, redis_trick_t trick, const char *name)
{
    uint32_t n = l->n++;
    qo_lease_t lease = store_port_wish(1), other = store_port_wish(1);
    bool taken = false;
    store_port_t port = {.provider = S, .store = l->s, .pool = root, .now = now};

    lose(l, trick, 0);
    tap_int(create(l->s, n, "v", 0), QO_OK, name);
    tap_int(create(l->s, n, "v", 0), QO_E_CONFLICT, "created once");
    lose(l, trick, 0);
    tap_int(create(l->s, n, "v", 0), QO_E_CONFLICT, "another creates nothing");
    lose(l, trick, 0);
    tap_int(replace(l->s, n, 1, "w"), QO_OK, "replaced");
    tap_int(get(l->s, n, "w", 2), QO_OK, "once");
    lose(l, trick, 0);
    tap_int(replace(l->s, n, 1, "w"), QO_E_CONFLICT, "an old version replaces nothing");
    lose(l, trick, 0);
    tap_int(get(l->s, n, "w", 2), trick == REDIS_SWALLOW ? QO_E_STORE_UNAVAILABLE : QO_OK,
            "read");
    redis_sleep(trick == REDIS_SWALLOW ? 300 : 0);
    lose(l, trick, 0);
    tap_int(touch_at(l->s, n, now), trick == REDIS_SWALLOW ? QO_E_STORE_UNAVAILABLE : QO_OK,
            "touched");
    redis_sleep(trick == REDIS_SWALLOW ? 300 : 0);
    lose(l, trick, 1);
    tap_int(acquire(l->s, n, &lease), QO_OK, "leased");
    tap_int(acquire(l->s, n, &other), QO_E_CONFLICT, "held");
    tap_ok(qo_lease_same(&lease, &other), "by who asked");
    lose(l, trick, 1);
    tap_int(release(l->s, n, &lease, QO_E_BUSY), QO_OK, "failed");
    other = store_port_wish(1);
    tap_int(acquire(l->s, n, &other), QO_E_CONFLICT, "as all can see");
    tap_int(other.failures, 1, "once");
    lose(l, trick, 1);
    tap_int(release(l->s, n, &lease, QO_OK), QO_OK, "given back");
    lose(l, trick, 0);
    tap_int(end(l->s, n), QO_OK, "ended");
    tap_int(get(l->s, n, "w", 2), QO_E_NOT_FOUND, "it is");
    tap_int(end(l->s, n), QO_E_NOT_FOUND, "once");
    tap_int(put(l->s, n), QO_OK, "a login");
    lose(l, trick, 0);
    tap_int(take(l->s, n), QO_OK, "taken");
    tap_int(take(l->s, n), QO_E_CONFLICT, "once");
    lose(l, trick, 0);
    tap_int(take(l->s, n), QO_E_CONFLICT, "nor by who lost the answer");
    tap_int(store_port_login(&port, n, &taken), QO_OK, "it is read");
    tap_ok(taken, "as taken");
}

static void test_lost(const redis_t *r)
{
    apr_pool_t *p = new_pool();
    lossy_t l = {.relay = redis_relay(r), .n = 5000};

    l.s =
        open_as(p,
                url_of(p, l.relay.port,
                       apr_psprintf(p, "?prefix=lossy&timeout=%dms", 150 * process_slow())),
                0, 0);
    test_lost_with(&l, REDIS_PASS, "all is well");
    test_lost_with(&l, REDIS_LOSE, "answers are lost");
    test_lost_with(&l, REDIS_HALF, "answers break off");
    test_lost_with(&l, REDIS_REFUSE, "questions are lost");
    test_lost_with(&l, REDIS_SWALLOW, "answers do not come");
    redis_relay_end(&l.relay);
    apr_pool_destroy(p);
}

/* ---- memory ---- */

static void test_full(void)
{
    apr_pool_t *p = new_pool();
    redis_t *full = redis_new(root, "");
    qo_store_t *s = open_as(p, url_of(p, full->port, ""), 0, 0);
    qo_hash_t key = store_port_key(2);
    qo_err_t err = {.detail = ""};
    qo_lease_t lease = store_port_wish(1);

    tap_int(create(s, 1, "v", 500), QO_OK, "a session while there is memory");
    tap_int(create(s, 3, "v", 500), QO_OK, "another");
    tap_int(put(s, 1), QO_OK, "a login");
    (void)redis_say(full, "CONFIG SET maxmemory 100kb");
    tap_int(S->session_create(s, &key, store_port_value("v"), now + apr_time_from_sec(9000),
                              0, now, &err),
            QO_E_STORE_FULL, "no new one when it is full");
    says(err.detail, "no memory left", "and why");
    tap_int(put(s, 2), QO_E_STORE_UNAVAILABLE, "no new login");
    tap_int(get(s, 1, "v", 1), QO_OK, "who is in is in");
    tap_int(touch_at(s, 1, now), QO_OK, "is touched");
    tap_int(acquire(s, 1, &lease), QO_OK, "leased");
    tap_int(replace(s, 1, 1, "a far longer value than that which it had before"), QO_OK,
            "replaced");
    tap_int(release(s, 1, &lease, QO_OK), QO_OK, "given back");
    tap_int(get(s, 1, "a far longer value than that which it had before", 2), QO_OK,
            "and read");
    tap_int(end(s, 1), QO_OK, "and ended");
    tap_int(get(s, 1, "v", 2), QO_E_NOT_FOUND, "for good");
    (void)redis_say(full, "CONFIG SET maxmemory 0");
    tap_int(create(s, 2, "v", 0), QO_OK, "there is memory again");
    redis_end(full);
    apr_pool_destroy(p);
}

static long long say_number(const redis_t *r, const char *line, const char *before)
{
    const char *at = strstr(redis_say(r, "%s", line), before);

    return at != NULL ? atoll(at + strlen(before)) : -1;
}

static int put_many(qo_store_t *s, uint32_t first, uint32_t count)
{
    static char padding[4000];
    int good = 0;

    memset(padding, 'x', sizeof(padding) - 1);
    for (uint32_t n = first; n < first + count; n++) {
        qo_hash_t key = store_port_key(n);

        good += S->pending_put(s, &key, store_port_value(padding),
                               now + apr_time_from_sec(900), now, NULL) == QO_OK;
    }
    return good;
}

/* Strangers begin so many logins that nothing else has room. */
static void test_flood(void)
{
    apr_pool_t *p = new_pool();
    redis_t *full = redis_new(root, "");
    qo_store_t *s = open_as(p,
                            apr_psprintf(p, "redis+unix://%s?timeout=%ds", full->socket,
                                         process_slow() > 1 ? 10 : 5),
                            0, 0);
    int made = 0, kept = 0;
    long long room, few;

    for (uint32_t n = 0; n < 20; n++) {
        kept += create(s, n, "v", 500) == QO_OK;
    }
    tap_int(kept, 20, "people are signed in");
    room = say_number(full, "INFO memory", "used_memory:") + (8LL << 20);
    (void)redis_say(full, "CONFIG SET maxmemory %lld", room);
    tap_int(put_many(s, 1000, 3000), 3000, "however many strangers come");
    tap_ok(say_number(full, "ZCARD qonto:o", ":") < 2500, "only the newest have room");
    (void)redis_say(full, "CONFIG SET maxmemory 100kb");
    tap_int(take(s, 3999), QO_OK, "a login is taken though there is no room at all");
    tap_int(take(s, 3999), QO_E_CONFLICT, "once");
    (void)redis_say(full, "CONFIG SET maxmemory %lld", room);
    for (uint32_t n = 20; n < 220 && made < 200; n++) {
        made += create(s, n, "v", 500) == QO_OK;
        (void)put_many(s, 4000 + n, 1);
    }
    tap_int(made, 200, "who signs in gets in");
    kept = 0;
    for (uint32_t n = 0; n < 220; n++) {
        kept += get(s, n, "v", 1) == QO_OK;
    }
    tap_int(kept, 220, "and all stay in");
    tap_int(say_number(full, "DBSIZE", ":"),
            220 + 1 + say_number(full, "ZCARD qonto:o", ":"), "no login is left uncounted");
    (void)redis_say(full, "CONFIG SET maxmemory 100kb");
    while (put_many(s, 5000 + (uint32_t)made, 1) == 1 && made < 2000) {
        made++;
    }
    few = say_number(full, "ZCARD qonto:o", ":");
    tap_ok(few <= QO_PENDING_FEW && few > QO_PENDING_FEW - QO_PENDING_DROP,
           "a few logins stay: %lld", few);
    tap_int(create(s, 300, "v", 500), QO_E_STORE_FULL, "for sessions have taken the rest");
    redis_end(full);
    apr_pool_destroy(p);
}

/* ---- users ---- */

/* The line of DIRECTIVES.md that admins are to paste, for this password. */
static const char *documented_rule(apr_pool_t *p)
{
    static char text[65536];
    const char *top = getenv("QO_TOP_SRCDIR");
    FILE *file = fopen(
        apr_pstrcat(p, top != NULL ? top : "..", "/mod_qonto_oauth/DIRECTIVES.md", NULL),
        "r");
    char *rule, *end_of;

    if (file == NULL) {
        redis_bail("DIRECTIVES.md is not there");
    }
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    (void)fclose(file);
    rule = strstr(text, "    user qonto on >");
    end_of = rule != NULL ? strchr(rule, '\n') : NULL;
    if (end_of == NULL) {
        redis_bail("DIRECTIVES.md has no ACL rule");
    }
    *end_of = '\0';
    return rule + 4;
}

static void test_user(void)
{
    apr_pool_t *p = new_pool();
    const char *rule = documented_rule(p);
    char password[64] = "";
    redis_t *guarded;
    qo_store_t *s;
    qo_store_status_t status;
    qo_store_cursor_t cursor = {.done = false};
    qo_lease_t lease = store_port_wish(1);
    store_port_crowd_t crowd = {.visits = 0};
    bool more = true;

    if (sscanf(rule, "user qonto on >%63[^ ]", password) != 1) {
        redis_bail("the ACL rule has no password");
    }
    guarded = redis_new(root, apr_psprintf(p, "requirepass admins-word\n%s\n", rule));
    s = open_as(p,
                apr_psprintf(p, "redis://qonto:%s@127.0.0.1:%d/1", password, guarded->port),
                10, 3);
    crowd.port = &(store_port_t){.now = now};
    tap_int(create(s, 1, "0", 500), QO_OK, "the documented user may create");
    tap_int(get(s, 1, "0", 1), QO_OK, "read");
    tap_int(touch_at(s, 1, now), QO_OK, "touch");
    tap_int(acquire(s, 1, &lease), QO_OK, "lease");
    tap_int(replace(s, 1, 1, "w"), QO_OK, "replace");
    tap_int(release(s, 1, &lease, QO_OK), QO_OK, "give back");
    for (uint32_t i = 0; i < 6; i++) {
        (void)put(s, i);
    }
    tap_int(take(s, 5), QO_OK, "begin logins, beyond the limit too, and take them");
    tap_int(S->session_walk(s, p, &cursor, store_port_visit, &crowd, now, NULL), QO_OK,
            "walk");
    tap_int(end(s, 1), QO_OK, "end");
    tap_int(S->sweep(s, now, 100, &more, NULL), QO_OK, "sweep");
    tap_int(S->status(s, &status, NULL), QO_OK, "count");
    tap_ok(status.bytes > 0, "and measure");
    tap_int(create(open_as(p,
                           apr_psprintf(p, "redis://qonto:%s@127.0.0.1:%d/1?prefix=other",
                                        password, guarded->port),
                           0, 0),
                   1, "v", 0),
            QO_E_STORE_UNAVAILABLE, "but nothing under other keys");
    redis_end(guarded);
    apr_pool_destroy(p);
}

/* ---- clocks ---- */

static void test_clocks(qo_store_t *s)
{
    apr_time_t ahead = now + apr_time_from_sec(2 * 3600);
    apr_time_t behind = now - apr_time_from_sec(2 * 3600);
    qo_store_meta_t meta = {.version = 0};
    qo_hash_t key = store_port_key(70);
    qo_bytes_t value;

    tap_int(create(s, 70, "v", 1), QO_OK, "a session that is idle after a second");
    tap_int(create(s, 71, "v", 1), QO_OK, "another");
    tap_int(create(s, 72, "v", 600), QO_OK, "and one that is not");
    tap_int(get_at(s, 72, "v", 1, ahead), QO_OK, "a host two hours ahead finds it");
    tap_int(get_at(s, 72, "v", 1, behind), QO_OK, "and one two hours behind");
    redis_sleep(700);
    tap_int(touch_at(s, 70, behind), QO_OK, "touched by a host behind");
    redis_sleep(700);
    tap_int(get_at(s, 70, "v", 1, behind), QO_OK, "it lives on");
    tap_int(S->session_get(s, root, &key, &value, &meta, ahead, NULL), QO_OK,
            "for those ahead, too");
    tap_ok(meta.last_seen <= ahead && meta.last_seen > ahead - apr_time_from_sec(2) &&
               meta.last_seen <= ahead - apr_time_from_msec(600),
           "and was seen as long ago as it was, whatever the clock");
    tap_int(get(s, 71, "v", 1), QO_E_NOT_FOUND, "the other is over");
    redis_sleep(1100);
    tap_int(get_at(s, 70, "v", 1, behind), QO_E_NOT_FOUND, "and so is this, for all");
    tap_int(end(s, 72), QO_OK, "the last one ends");
}

/* ---- records of others ---- */

static void test_damage(const redis_t *r, qo_store_t *s)
{
    char name[44];
    qo_hash_t key = store_port_key(80);
    static const char *const values[] = {"\"\"", "x", "\"\\x01\"", "\"\\x02aaaaaaaaaaaa\"",
                                         "0123456789012345678901234567890123456789"};

    qo_crypto_text(name, key.bytes, QO_HASH_LEN);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        (void)redis_say(r, "SELECT 7\r\nSET qonto:s:%s %s", name, values[i]);
        tap_int(get(s, 80, "v", 1), QO_E_NOT_FOUND, "a damaged session is none");
        tap_int(replace(s, 80, 1, "w"), QO_E_NOT_FOUND, "and not replaced");
        tap_int(touch_at(s, 80, now), QO_E_NOT_FOUND, "nor touched");
        (void)redis_say(r, "SELECT 7\r\nSET qonto:p:%s %s", name, values[i]);
        tap_ok(take(s, 80) != QO_OK, "a damaged login is not taken");
    }
    (void)redis_say(r, "SELECT 7\r\nDEL qonto:s:%s\r\nRPUSH qonto:s:%s a b", name, name);
    tap_int(get(s, 80, "v", 1), QO_E_STORE_UNAVAILABLE, "a key that is something else");
    (void)redis_say(r, "SELECT 7\r\nDEL qonto:s:%s\r\nSET qonto:s:short x", name);
    (void)redis_say(r, "SELECT 7\r\nSET other:s:%s x", name);
    tap_int(create(s, 81, "1", 0), QO_OK, "sessions among them");
    {
        store_port_t port = {.provider = S, .store = s, .pool = root, .now = now};
        store_port_crowd_t crowd;

        tap_int(store_port_stroll(&port, &crowd, false), QO_OK, "are walked through");
        tap_int(crowd.visits, 1, "alone");
    }
}

/* Writes eight bytes of a session, as hex digits. */
static void plant(const redis_t *r, uint32_t n, int at, const char *hex)
{
    qo_hash_t key = store_port_key(n);
    char name[44];
    char bytes[33] = "";

    for (size_t i = 0; i < 8; i++) {
        (void)apr_snprintf(bytes + 4 * i, 5, "\\x%.2s", hex + 2 * i);
    }
    qo_crypto_text(name, key.bytes, QO_HASH_LEN);
    (void)redis_say(r, "SELECT 7\r\nSETRANGE qonto:s:%s %d \"%s\"", name, at, bytes);
}

static bool read_clock(const char *seconds, const char *rest)
{
    qo_redis_reply_t items[2] = {{.kind = QO_REDIS_TEXT, .text = store_port_value(seconds)},
                                 {.kind = QO_REDIS_TEXT, .text = store_port_value(rest)}};
    qo_redis_reply_t reply = {.kind = QO_REDIS_LIST, .count = 2, .items = items};
    apr_time_t time;

    return qo_store_redis_time(&time, &reply);
}

/* Times with which nobody can reckon. */
static void test_numbers(const redis_t *r, qo_store_t *s)
{
    static const char *const numbers[] = {"8000000000000000", "ffffffffffffffff",
                                          "7fffffffffffffff", "1000000000000001",
                                          "0000000000000000"};
    static const int fields[] = {9, 17, 29}; /* expires, end, seen */
    qo_lease_t lease = store_port_wish(1);
    uint32_t n = 900;

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        for (size_t j = 0; j < sizeof(fields) / sizeof(fields[0]); j++) {
            tap_int(create(s, ++n, "v", 500), QO_OK, "a session");
            plant(r, n, fields[j], numbers[i]);
            tap_int(get(s, n, "v", 1), QO_E_NOT_FOUND, numbers[i]);
        }
    }
    for (int i = 0; i < 4; i++) {
        tap_int(create(s, ++n, "v", 500), QO_OK, "a session");
        tap_int(acquire(s, n, &lease), QO_OK, "is leased");
        plant(r, n, QO_STORE_REDIS_SLOT + 53, numbers[i]);
        tap_int(acquire(s, n, &lease), QO_OK, "for times that are none: not");
    }
    tap_ok(read_clock("1700000000", "999999"), "a clock");
    tap_ok(!read_clock("9223372036854775807", "0") && !read_clock("0", "1") &&
               !read_clock("-9223372036854775808", "0") && !read_clock("1", "1000000") &&
               !read_clock("1", "-1") && !read_clock("1", "9223372036854775807"),
           "what is none");
}

static void visit_slowly(void *data, const qo_hash_t *key, qo_bytes_t value,
                         const qo_store_meta_t *meta)
{
    (void)key;
    (void)value;
    (void)meta;
    redis_sleep(10 * process_slow());
    ++*(int *)data;
}

/* One deadline is not for all that is read in a step. */
static void test_slow_walk(const redis_t *r)
{
    apr_pool_t *p = new_pool();
    qo_store_t *s = open_as(p,
                            apr_psprintf(p, "redis+unix://%s?db=8&timeout=%dms", r->socket,
                                         200 * process_slow()),
                            0, 0);
    qo_store_cursor_t cursor = {.done = false};
    qo_status_t status = QO_OK;
    int visits = 0;

    for (uint32_t n = 0; n < 40; n++) {
        (void)create(s, n, "v", 500);
    }
    while (status == QO_OK && !cursor.done) {
        status = S->session_walk(s, p, &cursor, visit_slowly, &visits, now, NULL);
    }
    tap_int(status, QO_OK, "a walk with one who looks closely");
    tap_int(visits, 40, "meets all");
    apr_pool_destroy(p);
}

/* ---- servers that come and go ---- */

static void test_hang(void)
{
    apr_pool_t *p = new_pool();
    redis_t *hung = redis_new(root, "");
    int ms = 200 * process_slow();
    const char *url = url_of(p, hung->port, apr_psprintf(p, "?timeout=%dms", ms));
    qo_store_t *s = open_as(p, url, 0, 0);
    qo_store_t *writer = open_as(p, url, 0, 0);
    long since;

    tap_int(create(s, 1, "v", 0), QO_OK, "a session");
    tap_int(create(s, 2, "v", 0), QO_OK, "another");
    tap_int(replace(writer, 2, 1, "w"), QO_OK, "for two");
    (void)kill(hung->pid, SIGSTOP);
    since = redis_ms();
    tap_int(get(s, 1, "v", 1), QO_E_STORE_UNAVAILABLE, "a server that hangs");
    took(since, 200, 390, "is waited for as long as was said");
    since = redis_ms();
    tap_int(get(s, 1, "v", 1), QO_E_STORE_UNAVAILABLE, "then it is not");
    took(since, 0, 190, "waited for");
    since = redis_ms();
    tap_int(replace(writer, 1, 1, "w"), QO_E_STORE_UNAVAILABLE, "new tokens");
    took(since, 400, 590, "are worth two");
    (void)kill(hung->pid, SIGCONT);
    since = redis_ms();
    while (get(s, 1, "w", 2) == QO_E_STORE_UNAVAILABLE && redis_ms() - since < 9000) {
        redis_sleep(5);
    }
    took(since, 0, 1000, "it goes on");
    tap_int(get(s, 1, "w", 2), QO_OK, "and has done what it was told while it hung");
    redis_end(hung);
    apr_pool_destroy(p);
}

static void test_empty(void)
{
    apr_pool_t *p = new_pool();
    redis_t *other = redis_new(root, "");
    qo_store_t *s = open_as(p, url_of(p, other->port, ""), 0, 0);

    tap_int(create(s, 1, "v", 0), QO_OK, "a session");
    redis_stop(other);
    tap_int(get(s, 1, "v", 1), QO_E_STORE_UNAVAILABLE, "a server that is gone");
    redis_start(other);
    redis_sleep(300);
    tap_int(get(s, 1, "v", 1), QO_E_NOT_FOUND, "back and empty: it is over");
    tap_int(create(s, 2, "v", 0), QO_OK, "others begin, with scripts it does not know");
    redis_end(other);
    apr_pool_destroy(p);
}

static void test_tls(void)
{
    apr_pool_t *p = new_pool();
    redis_t *tls = redis_new_tls(root);
    const char *url =
        apr_psprintf(p, "rediss://localhost:%d/1?ca=%s/ca.pem", tls->tls_port, tls->dir);
    qo_err_t err = {.detail = ""};
    qo_hash_t key = store_port_key(1);
    qo_store_t *s;

    tap_is(qo_store_redis_check(p, url), NULL, "the URL is right");
    s = open_as(p, url, 0, 0);
    tap_int(create(s, 1, "v", 0), QO_OK, "a session over TLS");
    tap_int(get(s, 1, "v", 1), QO_OK, "is read");
    s = open_as(p, apr_psprintf(p, "rediss://localhost:%d/1", tls->tls_port), 0, 0);
    tap_int(S->touch(s, &key, now, &err), QO_E_STORE_UNAVAILABLE,
            "not from a server that nobody vouches for");
    says(err.detail, "certificate is refused", "and why");
    redis_end(tls);
    apr_pool_destroy(p);
}

/* ---- the start ---- */

static int open_files(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static const char *found_at_start(const char *url, qo_status_t expected)
{
    static qo_err_t err;
    apr_pool_t *p = new_pool();
    qo_store_setup_t setup = {.argument = url, .dir = "/nowhere", .uid = -1, .gid = -1};
    qo_store_t *store = NULL;
    int before = open_files();

    err.detail[0] = '\0';
    tap_int(S->prepare(&store, p, &setup, &err), expected, url);
    tap_int(open_files(), before, "nothing stays open");
    tap_ok(waitpid(-1, NULL, WNOHANG) <= 0, "and nobody stays behind");
    apr_pool_destroy(p);
    return err.detail;
}

/* What the first call meets. */
static const char *met_after_start(const char *url)
{
    static qo_err_t err;
    apr_pool_t *p = new_pool();
    qo_store_setup_t setup = {.argument = url, .dir = "/nowhere", .uid = -1, .gid = -1};
    qo_store_t *store = NULL;
    qo_hash_t key = store_port_key(1);

    err.detail[0] = '\0';
    if (S->prepare(&store, p, &setup, NULL) != QO_OK ||
        S->attach(store, p, NULL) != QO_OK ||
        S->touch(store, &key, now, &err) != QO_E_STORE_UNAVAILABLE) {
        redis_bail("a store that is not there");
    }
    apr_pool_destroy(p);
    return err.detail;
}

static void test_start(void)
{
    redis_t *fine = redis_new(root, "");
    redis_t *guarded = redis_new(root, "requirepass s3cret\n"
                                       "user few on >word ~qonto:* +@all -info\n"
                                       "user less on >word ~qonto:* +get\n"
                                       "user blind on >word ~other:* +@all\n");
    redis_t *hung = redis_new(root, "");
    const char *said;
    long since;

    tap_is(found_at_start(url_of(root, fine->port, ""), QO_OK), "", "all is well");
    (void)redis_say(fine, "CONFIG SET maxmemory-policy allkeys-lru");
    says(found_at_start(url_of(root, fine->port, ""), QO_OK),
         "noeviction (it is allkeys-lru)", "one that throws sessions away");
    says(found_at_start(url_of(root, redis_free_port(), ""), QO_OK), "refused",
         "one that is not there");
    says(found_at_start(url_of(root, guarded->port, ""), QO_OK), "wants a password",
         "one that wants a password");
    said = found_at_start(
        apr_psprintf(root, "redis://few:wr0ng@127.0.0.1:%d", guarded->port), QO_OK);
    says(said, "refuses the user or the password", "one that refuses it");
    tap_ok(strstr(said, "wr0ng") == NULL, "which is not told");
    says(found_at_start(apr_psprintf(root, "redis://few:word@127.0.0.1:%d", guarded->port),
                        QO_OK),
         "cannot be told", "one that does not tell its policy");
    says(found_at_start(apr_psprintf(root, "redis://less:word@127.0.0.1:%d", guarded->port),
                        QO_OK),
         "may not do what is needed", "a user who may not run scripts");
    says(found_at_start(
             apr_psprintf(root, "redis://blind:word@127.0.0.1:%d", guarded->port), QO_OK),
         "may not do what is needed", "a user of other keys");
    says(met_after_start(url_of(root, redis_free_port(), "")), "refused",
         "who comes first finds out for himself");
    (void)kill(hung->pid, SIGSTOP);
    since = redis_ms();
    says(found_at_start(url_of(root, hung->port, "?timeout=200ms"), QO_OK),
         "no answer in time", "one that hangs");
    tap_ok(redis_ms() - since < 1500 * process_slow(), "holds up nobody");
    (void)kill(hung->pid, SIGCONT);
    says(found_at_start("redis://host/x", QO_E_STORE_UNAVAILABLE), "is no number",
         "a mistake that nobody looked for");
    redis_end(fine);
    redis_end(guarded);
    redis_end(hung);
}

int main(void)
{
    redis_t *r;

    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&root, NULL) != APR_SUCCESS ||
        qo_crypto_init() != QO_OK) {
        abort();
    }
    now = apr_time_now();
    r = redis_new(root, "");
    test_urls();
    test_port(r);
    test_lost(r);
    test_full();
    test_flood();
    test_user();
    {
        qo_store_t *s =
            open_as(root, apr_psprintf(root, "redis+unix://%s?db=7", r->socket), 0, 0);

        test_clocks(s);
        test_damage(r, s);
        test_numbers(r, s);
    }
    test_slow_walk(r);
    test_hang();
    test_empty();
    test_tls();
    test_start();
    redis_end(r);
    apr_pool_destroy(root);
    apr_terminate();
    return tap_done();
}
