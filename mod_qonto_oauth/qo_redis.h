/* Talks to one Redis server over a bounded number of connections of this process. hiredis
 * writes and reads the protocol; the connections are qo_wire's. The only room that knows
 * hiredis. It knows nothing of sessions.
 *
 * Every operation has one deadline, for its turn, the name, connecting, TLS, password and
 * answers together. After a failure everybody is told so at once, without trying, but for
 * one who tries anew now and then (QO_REDIS_PROBE_MS); so a Redis that hangs holds up
 * hardly anybody, and one that is back is found within a second. A connection on which
 * anything went wrong is closed: a late answer must not be taken for the next one. What
 * Redis sends is not trusted: it is bounded, and what is no proper reply is a failure. */
#ifndef QO_REDIS_H
#define QO_REDIS_H

#include "qo_error.h"
#include "qo_pack.h"
#include "qo_wire.h"

#include <apr_pools.h>

#include <stdint.h>

typedef struct {
    qo_wire_place_t place;
    const char *user;     /* NULL: Redis's "default" */
    const char *password; /* NULL: none */
    int database;
    int timeout_ms;  /* of an operation */
    int connections; /* at most; 1 to QO_LIMIT_CONNECTIONS */
} qo_redis_settings_t;

typedef struct qo_redis_t qo_redis_t;

/* Opens nothing yet. `settings` must live as long as `p`. Processes that are forked from
 * then on tell each other whether Redis is away. */
qo_redis_t *qo_redis_make(apr_pool_t *p, const qo_redis_settings_t *settings);

/* In the process that will use it; closes everything when `p` ends. Still opens nothing: a
 * connection is made when it is first needed. */
qo_status_t qo_redis_attach(qo_redis_t *redis, apr_pool_t *p, qo_err_t *err) QO_MUST_CHECK;

/* ---- what is said ---- */

#define QO_REDIS_WORDS 16

/* A command, word by word. The words stay the caller's. */
typedef struct {
    int count;
    const char *word[QO_REDIS_WORDS];
    size_t len[QO_REDIS_WORDS];
    char digits[QO_REDIS_WORDS][24]; /* of numbers among them */
} qo_redis_command_t;

void qo_redis_begin_command(qo_redis_command_t *command, const char *name);
void qo_redis_add_text(qo_redis_command_t *command, const char *text);
void qo_redis_add_bytes(qo_redis_command_t *command, const void *data, size_t len);
void qo_redis_add_number(qo_redis_command_t *command, int64_t number);

/* What Redis runs as one: nobody else is served in between. */
typedef struct {
    const char *text; /* in Lua */
    char sha1[41];    /* "" until qo_redis_script has been there */
} qo_redis_script_t;

/* EVALSHA, then the keys and arguments that are added. */
void qo_redis_begin_script(qo_redis_command_t *command, const qo_redis_script_t *script,
                           int keys);
/* Fills in the name by which Redis knows it. */
void qo_redis_prepare_script(qo_redis_script_t *script);

/* ---- what is answered ---- */

typedef enum {
    QO_REDIS_NIL,
    QO_REDIS_NUMBER,
    QO_REDIS_TEXT, /* also a status such as OK */
    QO_REDIS_LIST,
    QO_REDIS_REFUSAL
} qo_redis_kind_t;

typedef struct qo_redis_reply_t {
    qo_redis_kind_t kind;
    int64_t number;
    qo_bytes_t text; /* with a NUL behind it */
    size_t count;    /* of a list */
    struct qo_redis_reply_t *items;
} qo_redis_reply_t;

/* A refusal in words of ours, for the log: QO_E_STORE_FULL for lack of memory, else
 * QO_E_STORE_UNAVAILABLE. Redis's own words are not repeated, as they may quote what was
 * said to it. Any other reply that the caller did not expect is unavailable, too. */
qo_status_t qo_redis_refusal(const qo_redis_reply_t *reply, qo_err_t *err);

/* ---- one operation ---- */

typedef struct qo_redis_talk_t qo_redis_talk_t;

/* Waits for a connection of the pool. */
qo_status_t qo_redis_begin(qo_redis_talk_t **out, qo_redis_t *redis,
                           qo_err_t *err) QO_MUST_CHECK;

/* Gives it back, and with it all replies. */
void qo_redis_end(qo_redis_talk_t *talk);

/* Sends the commands together and reads a reply for each; refusals are replies. When the
 * connection breaks, nobody knows what was done, so all is said again on a new one, once:
 * every command must be such that doing it twice is doing it once. Replies live until
 * qo_redis_end. */
qo_status_t qo_redis_ask(qo_redis_talk_t *talk, qo_redis_reply_t *replies,
                         const qo_redis_command_t *commands, int count,
                         qo_err_t *err) QO_MUST_CHECK;

/* A script, by its name or, when Redis does not know that, by its text. A refusal is no
 * reply here but what qo_redis_refusal says. When time runs out with the outcome unknown,
 * and it is `vital` to know, it is asked once more, for as long again. */
qo_status_t qo_redis_run(qo_redis_talk_t *talk, qo_redis_reply_t *reply,
                         const qo_redis_script_t *script, const qo_redis_command_t *call,
                         bool vital, qo_err_t *err) QO_MUST_CHECK;

#endif
