/* kill -9 in the middle of the LMDB store's writes. */
#include "qo_store_lmdb.h"
#include "qo_store_lmdb_env.h"
#include "store_kill.h"

static uint32_t damage(const qo_store_t *store)
{
    const qo_store_lmdb_t *own = (const qo_store_lmdb_t *)store;
    bool first = qo_store_lmdb_env_walk(&own->sessions, &qo_store_lmdb_sessions) != 0;
    bool second = qo_store_lmdb_env_walk(&own->fleeting, &qo_store_lmdb_volatile) != 0;

    return (first ? 1U : 0U) + (second ? 1U : 0U);
}

int main(void)
{
    qo_store_setup_t setup = {.uid = -1, .gid = -1};
    qo_err_t err = {.detail = ""};
    apr_pool_t *p;
    qo_store_t *again;
    const char *place;

    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&p, NULL) != APR_SUCCESS ||
        qo_crypto_init() != QO_OK) {
        return 1;
    }
    place = process_place(p, "qo_store_kill");
    setup.argument = apr_pstrcat(p, place, "/store", NULL);
    kill_test(&qo_store_lmdb_provider, &setup, KILL_WRITERS / 2, damage);
    tap_int(qo_store_lmdb_provider.prepare(&again, p, &setup, &err), QO_OK,
            "the next start");
    tap_is(err.detail, "", "finds nothing to say");
    apr_pool_destroy(p);
    process_remove(place);
    apr_terminate();
    return tap_done();
}
