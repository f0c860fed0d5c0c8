/* The Redis provider against real Redis servers: what the port promises, what is lost on
 * the way and what is found out about it, memory that is full, users that may do little,
 * servers that stop, hang, come back or come back empty. */
#include "qo_store_redis.h"

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

int main(void)
{
    redis_t *r;

    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&root, NULL) != APR_SUCCESS) {
        abort();
    }
    r = redis_new(root, "");
    test_port(r);
    redis_end(r);
    apr_pool_destroy(root);
    apr_terminate();
    return tap_done();
}
