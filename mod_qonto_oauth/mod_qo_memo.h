/* What a connection remembers of the last session it brought. Browsers send many requests
 * over one connection; the store is asked for each of them, but as long as it answers with
 * the very same sealed bytes for the very same cookie, they need not be hashed and opened
 * again. */
#ifndef MOD_QO_MEMO_H
#define MOD_QO_MEMO_H

#include "mod_qo_config.h"
#include "qo_session.h"

#include <httpd.h>

typedef struct mod_qo_memo_t mod_qo_memo_t;

/* The memo of this cookie on this connection and virtual host, or NULL. */
const mod_qo_memo_t *mod_qo_memo_find(conn_rec *c, const mod_qo_server_t *server,
                                      const char *cookie);

/* The cookie's key in the store. */
const qo_hash_t *mod_qo_memo_key(const mod_qo_memo_t *memo);

/* The session, when `sealed` is what was opened then; else NULL. It lives as long as the
 * connection. */
const qo_session_t *mod_qo_memo_session(const mod_qo_memo_t *memo, qo_bytes_t sealed);

/* Remembers; wiped when the connection ends. */
void mod_qo_memo_keep(conn_rec *c, const mod_qo_server_t *server, const char *cookie,
                      const qo_hash_t *key, qo_bytes_t sealed, qo_bytes_t record);

#endif
