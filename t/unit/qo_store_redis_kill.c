/* kill -9 in the middle of writes to Redis, which must finish or drop what a dead process
 * had begun to say. */
#include "qo_store_redis.h"
#include "redis.h"
#include "store_kill.h"

int main(void)
{
    qo_store_setup_t setup = {.dir = "/nowhere", .uid = -1, .gid = -1, .as_it_is = true};
    apr_pool_t *p;
    redis_t *r;

    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&p, NULL) != APR_SUCCESS ||
        qo_crypto_init() != QO_OK) {
        return 1;
    }
    r = redis_new(p, "");
    setup.argument = apr_psprintf(p, "redis+unix://%s?db=1&timeout=%ds", r->socket,
                                  process_slow() > 1 ? 10 : 5);
    kill_test(&qo_store_redis_provider, &setup, KILL_WRITERS, NULL);
    redis_end(r);
    apr_pool_destroy(p);
    apr_terminate();
    return tap_done();
}
