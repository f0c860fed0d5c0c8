/* All sessions: their number, and a walk through them. */
#include "qo_store_redis_parts.h"

#include "qo_limits.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define WALK_KEYS 64 /* asked for in one step; Redis may give more */
#define WALK_READS 8 /* values read at once */

/* KEYS: the two lists. */
static qo_redis_script_t status_script = {
    .text = "local t=redis.call('TIME') local now=t[1]*1000000+t[2] " QO_STORE_REDIS_COUNT
            "return {count(KEYS[1],KEYS[2])}"};

void qo_store_redis_prepare_walk(void)
{
    qo_redis_prepare_script(&status_script);
}

/* ---- status ---- */

/* used_memory:123 in the text of INFO, which a user without that right does not see. */
static uint64_t read_memory(const qo_redis_reply_t *reply)
{
    const char *at = reply->kind == QO_REDIS_TEXT
                         ? strstr((const char *)reply->text.data, "used_memory:")
                         : NULL;

    return at != NULL ? strtoull(at + strlen("used_memory:"), NULL, 10) : 0;
}

static qo_status_t count_keys(qo_store_redis_t *s, qo_redis_talk_t *talk,
                              qo_store_status_t *out, qo_err_t *err)
{
    qo_store_redis_list_t order, tombs;
    qo_redis_command_t call;
    qo_redis_reply_t reply;
    qo_status_t status;

    qo_store_redis_list(&order, s, 'o');
    qo_store_redis_list(&tombs, s, 't');
    qo_redis_begin_script(&call, &status_script, 2);
    qo_redis_add_text(&call, order.text);
    qo_redis_add_text(&call, tombs.text);
    status = qo_redis_run(talk, &reply, &status_script, &call, false, err);
    if (status != QO_OK || reply.kind != QO_REDIS_LIST || reply.count != 2) {
        return status != QO_OK ? QO_E_STORE_UNAVAILABLE : qo_redis_refusal(&reply, err);
    }
    out->sessions = (uint64_t)reply.items[0].number;
    out->pending = (uint64_t)reply.items[1].number;
    return QO_OK;
}

qo_status_t qo_store_redis_status(qo_store_t *store, qo_store_status_t *out, qo_err_t *err)
{
    qo_store_redis_t *s = (qo_store_redis_t *)store;
    qo_redis_command_t command;
    qo_redis_reply_t reply;
    qo_redis_talk_t *talk;
    qo_status_t status = qo_redis_begin(&talk, s->redis, err);

    memset(out, 0, sizeof(*out));
    if (status != QO_OK) {
        return status;
    }
    status = count_keys(s, talk, out, err);
    if (status == QO_OK) {
        qo_redis_begin_command(&command, "INFO");
        qo_redis_add_text(&command, "memory");
        status = qo_redis_ask(talk, &reply, &command, 1, err);
    }
    if (status == QO_OK) {
        out->bytes = read_memory(&reply);
    }
    qo_redis_end(talk);
    return status;
}

/* ---- walking ---- */

/* What a walk has in its hands. */
typedef struct {
    qo_store_redis_t *s;
    qo_redis_talk_t *talk;
    apr_pool_t *p;
    qo_store_visit_t visit;
    void *data;
    apr_time_t now;
} walk_t;

/* The hash in a session's key; false for what is none, though it looks like one to SCAN. */
static bool read_key(qo_hash_t *out, const walk_t *walk, const qo_redis_reply_t *name)
{
    size_t len = strlen(walk->s->settings->prefix) + 3;

    return name->kind == QO_REDIS_TEXT && name->text.len == len + QO_STORE_REDIS_NAME &&
           qo_crypto_untext(out->bytes, (const char *)name->text.data + len) == QO_HASH_LEN;
}

/* One that is gone by now, or is none of ours, is no mistake. */
static qo_status_t visit_some(const walk_t *walk, const qo_hash_t *keys, size_t count,
                              qo_err_t *err)
{
    qo_redis_command_t commands[WALK_READS + 1];
    qo_redis_reply_t replies[WALK_READS + 1];
    qo_store_redis_key_t names[WALK_READS];
    qo_store_meta_t meta;
    qo_bytes_t value;
    qo_status_t status;

    for (size_t i = 0; i < count; i++) {
        qo_store_redis_key(&names[i], walk->s, 's', &keys[i]);
        qo_redis_begin_command(&commands[i], "GET");
        qo_redis_add_text(&commands[i], names[i].text);
    }
    qo_redis_begin_command(&commands[count], "TIME");
    qo_redis_renew(walk->talk); /* who visits may take time */
    status = qo_redis_ask(walk->talk, replies, commands, (int)count + 1, err);
    for (size_t i = 0; status == QO_OK && i < count; i++) {
        status = qo_store_redis_give(walk->p, &replies[i], &replies[count], &value, &meta,
                                     walk->now, err);
        if (status == QO_OK) {
            walk->visit(walk->data, &keys[i], value, &meta);
        } else if (status == QO_E_NOT_FOUND) {
            status = QO_OK;
        }
    }
    return status;
}

static qo_status_t visit_all(const walk_t *walk, const qo_redis_reply_t *names,
                             qo_err_t *err)
{
    qo_hash_t keys[WALK_READS];
    size_t count = 0;
    qo_status_t status = QO_OK;

    for (size_t i = 0; status == QO_OK && i < names->count; i++) {
        if (read_key(&keys[count], walk, &names->items[i])) {
            count++;
        }
        if (count == WALK_READS || (count > 0 && i + 1 == names->count)) {
            status = visit_some(walk, keys, count, err);
            count = 0;
        }
    }
    return status;
}

static uint64_t read_cursor(const qo_store_cursor_t *cursor)
{
    qo_reader_t r;

    qo_unpack_start(&r, cursor->at, 8);
    return qo_unpack_u64(&r);
}

/* Redis gives its cursor as text. */
static void keep_cursor(qo_store_cursor_t *cursor, const qo_redis_reply_t *text)
{
    uint64_t at = strtoull((const char *)text->text.data, NULL, 10);
    qo_writer_t w;

    qo_pack_into(&w, cursor->at, 8);
    qo_pack_u64(&w, at);
    cursor->done = at == 0;
}

static void ask_names(qo_redis_command_t *command, char digits[24], char *pattern,
                      size_t size, const qo_store_redis_t *s, uint64_t at)
{
    (void)apr_snprintf(digits, 24, "%" APR_UINT64_T_FMT, (apr_uint64_t)at);
    (void)apr_snprintf(pattern, size, "%s:s:*", s->settings->prefix);
    qo_redis_begin_command(command, "SCAN");
    qo_redis_add_text(command, digits);
    qo_redis_add_text(command, "MATCH");
    qo_redis_add_text(command, pattern);
    qo_redis_add_text(command, "COUNT");
    qo_redis_add_number(command, WALK_KEYS);
}

static bool is_scan(const qo_redis_reply_t *reply)
{
    return reply->kind == QO_REDIS_LIST && reply->count == 2 &&
           reply->items[0].kind == QO_REDIS_TEXT && reply->items[1].kind == QO_REDIS_LIST;
}

qo_status_t qo_store_redis_session_walk(qo_store_t *store, apr_pool_t *p,
                                        qo_store_cursor_t *cursor, qo_store_visit_t visit,
                                        void *data, apr_time_t now, qo_err_t *err)
{
    walk_t walk = {(qo_store_redis_t *)store, NULL, p, visit, data, now};
    char pattern[QO_STORE_REDIS_KEY + 1];
    char digits[24];
    qo_redis_command_t command;
    qo_redis_reply_t reply;
    qo_status_t status = qo_redis_begin(&walk.talk, walk.s->redis, err);

    if (status != QO_OK) {
        return status;
    }
    ask_names(&command, digits, pattern, sizeof(pattern), walk.s, read_cursor(cursor));
    status = qo_redis_ask(walk.talk, &reply, &command, 1, err);
    if (status == QO_OK && !is_scan(&reply)) {
        (void)qo_redis_refusal(&reply, err);
        status = QO_E_STORE_UNAVAILABLE;
    }
    if (status == QO_OK) {
        status = visit_all(&walk, &reply.items[1], err);
    }
    if (status == QO_OK) {
        keep_cursor(cursor, &reply.items[0]);
    }
    qo_redis_end(walk.talk);
    return status;
}
