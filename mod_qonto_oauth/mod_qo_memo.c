#include "mod_qo_memo.h"

#include <apr_strings.h>
#include <http_config.h>

#include <string.h>

extern module AP_MODULE_DECLARE_DATA qonto_oauth_module;

/* Older sessions are not freed before the connection, as a request that is still being
 * written may refer to them: a proxy that mixes visitors must not make it grow. */
#define KEPT_MAX 8

struct mod_qo_memo_t {
    const mod_qo_server_t *server;
    char cookie[QO_SECRET_TEXT];
    qo_hash_t key;
    qo_bytes_t sealed;
    qo_bytes_t record;
    qo_session_t session; /* points into record */
    int kept;             /* how many this connection has kept so far */
};

/* The streams of an HTTP/2 connection run side by side, so they share nothing. */
static mod_qo_memo_t *current(conn_rec *c)
{
    return c->master != NULL ? NULL
                             : ap_get_module_config(c->conn_config, &qonto_oauth_module);
}

const mod_qo_memo_t *mod_qo_memo_find(conn_rec *c, const mod_qo_server_t *server,
                                      const char *cookie)
{
    const mod_qo_memo_t *memo = current(c);

    return memo != NULL && memo->server == server &&
                   qo_crypto_equal(memo->cookie, cookie, sizeof(memo->cookie))
               ? memo
               : NULL;
}

const qo_hash_t *mod_qo_memo_key(const mod_qo_memo_t *memo)
{
    return &memo->key;
}

const qo_session_t *mod_qo_memo_session(const mod_qo_memo_t *memo, qo_bytes_t sealed)
{
    return memo->sealed.len == sealed.len &&
                   memcmp(memo->sealed.data, sealed.data, sealed.len) == 0
               ? &memo->session
               : NULL;
}

static apr_status_t forget(void *data)
{
    mod_qo_memo_t *memo = data;

    qo_crypto_wipe(memo->record.data, memo->record.len);
    qo_crypto_wipe(memo, sizeof(*memo));
    return APR_SUCCESS;
}

static qo_bytes_t copy(apr_pool_t *p, qo_bytes_t bytes)
{
    return (qo_bytes_t){.data = apr_pmemdup(p, bytes.data, bytes.len), .len = bytes.len};
}

void mod_qo_memo_keep(conn_rec *c, const mod_qo_server_t *server, const char *cookie,
                      const qo_hash_t *key, qo_bytes_t sealed, qo_bytes_t record)
{
    const mod_qo_memo_t *last = current(c);
    int kept = last != NULL ? last->kept : 0;
    mod_qo_memo_t *memo;

    if (c->master != NULL || kept >= KEPT_MAX) {
        return;
    }
    memo = apr_pcalloc(c->pool, sizeof(*memo));
    memo->server = server;
    memcpy(memo->cookie, cookie, sizeof(memo->cookie));
    memo->key = *key;
    memo->sealed = copy(c->pool, sealed);
    memo->record = copy(c->pool, record);
    memo->kept = kept + 1;
    apr_pool_cleanup_register(c->pool, memo, forget, apr_pool_cleanup_null);
    if (qo_session_decode(&memo->session, memo->record) == QO_OK) {
        ap_set_module_config(c->conn_config, &qonto_oauth_module, memo);
    }
}
