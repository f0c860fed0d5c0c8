#include "qo_store_redis_parts.h"

#include "qo_limits.h"

#include <apr_strings.h>

#include <string.h>

/* Each may be run twice (see qo_store_redis_parts.h).
 *
 * KEYS: session, the two lists. ARGV: now, expires (packed), microseconds to live, idle,
 * nonce, value, how many sessions there may be (0: as many as there is memory for), what
 * the keys of logins begin with. */
static qo_redis_script_t create_script = {
    .text = QO_STORE_REDIS_SCRIPT(
        QO_STORE_REDIS_COUNT QO_STORE_REDIS_SET
        "if live and h:sub(38,45)==ARGV[5] then return 0 end "
        "if live or (kind and kind~=1) then return 2 end "
        "local most=tonumber(ARGV[7]) "
        "if not kind and most>0 and count(KEYS[2],KEYS[3])>=most then return 3 end "
        "h='\\1'..struct.pack('>I8',1)..ARGV[2].."
        "struct.pack('>I8I4I8',now+ARGV[3],ARGV[4],now)..ARGV[5]..string.rep('\\0',85) "
        "local l=left(now) if l<1 then return 0 end "
        "set(KEYS[2],ARGV[8],k,h..ARGV[6],'PX',l) return 0")};

/* KEYS: session. ARGV: now, version it must have, version it gets (both packed), nonce,
 * value. */
static qo_redis_script_t replace_script = {
    .text = QO_STORE_REDIS_SCRIPT(
        "if not live then return 1 end local l=left(now) if l<1 then return 1 end "
        "if h:sub(38,45)==ARGV[4] then return 0 end "
        "if h:sub(2,9)~=ARGV[2] then return 2 end "
        "redis.call('PEXPIRE',k,l) "
        "redis.call('SET',k,'\\1'..ARGV[3]..h:sub(10,29)..struct.pack('>I8',now).."
        "ARGV[4]..h:sub(46)..ARGV[5],'PX',l) return 0")};

/* KEYS: session, list of tombstones. ARGV: now, version it must have (packed; empty: any),
 * nonce, milliseconds that the tombstone stays, name. */
static qo_redis_script_t delete_script = {
    .text = QO_STORE_REDIS_SCRIPT(
        "if h=='\\0'..ARGV[3] then return 0 end if not live then return 1 end "
        "if ARGV[2]~='' and h:sub(2,9)~=ARGV[2] then return 2 end "
        "redis.call('PEXPIRE',k,ARGV[4]) "
        "redis.call('SET',k,'\\0'..ARGV[3],'PX',ARGV[4]) "
        "redis.call('ZADD',KEYS[2],now+ARGV[4]*1000,ARGV[5]) "
        "redis.call('PEXPIRE',KEYS[2],ARGV[4]+60000) return 0")};

/* KEYS: session. ARGV: now. */
static qo_redis_script_t touch_script = {
    .text = QO_STORE_REDIS_SCRIPT(
        "if not live then return 1 end local l=left(now) if l<1 then return 1 end "
        "redis.call('PEXPIRE',k,l) redis.call('SETRANGE',k,29,struct.pack('>I8',now)) "
        "return 0")};

void qo_store_redis_prepare_sessions(void)
{
    qo_redis_prepare_script(&create_script);
    qo_redis_prepare_script(&replace_script);
    qo_redis_prepare_script(&delete_script);
    qo_redis_prepare_script(&touch_script);
}

typedef struct {
    unsigned char bytes[8];
} packed_t;

static packed_t pack(uint64_t number)
{
    packed_t out;
    qo_writer_t w;

    qo_pack_into(&w, out.bytes, sizeof(out.bytes));
    qo_pack_u64(&w, number);
    return out;
}

static void add_packed(qo_redis_command_t *call, const packed_t *packed)
{
    qo_redis_add_bytes(call, packed->bytes, sizeof(packed->bytes));
}

/* A script about one session alone. */
static void begin(qo_redis_command_t *call, const qo_redis_script_t *script,
                  const qo_store_redis_key_t *session, apr_time_t now)
{
    qo_redis_begin_script(call, script, 1);
    qo_redis_add_text(call, session->text);
    qo_redis_add_number(call, now);
}

static bool is_too_long(qo_bytes_t value, qo_err_t *err)
{
    if (value.len > QO_LIMIT_RECORD) {
        (void)qo_error(err, QO_E_STORE_UNAVAILABLE, "redis: a session that is too long");
        return true;
    }
    return false;
}

/* ---- writing ---- */

qo_status_t qo_store_redis_session_create(qo_store_t *store, const qo_hash_t *key,
                                          qo_bytes_t value, apr_time_t expires,
                                          uint32_t idle, apr_time_t now, qo_err_t *err)
{
    qo_store_redis_t *s = (qo_store_redis_t *)store;
    packed_t packed = pack((uint64_t)expires);
    qo_store_redis_list_t order, tombs;
    qo_store_redis_nonce_t nonce;
    qo_store_redis_key_t session, login;
    qo_redis_command_t call;

    if (is_too_long(value, err) || qo_store_redis_nonce(&nonce, err) != QO_OK) {
        return QO_E_STORE_UNAVAILABLE;
    }
    qo_store_redis_key(&session, s, 's', key);
    qo_store_redis_key(&login, s, 'p', key); /* for what it begins with */
    qo_store_redis_list(&order, s, 'o');
    qo_store_redis_list(&tombs, s, 't');
    qo_redis_begin_script(&call, &create_script, 3);
    qo_redis_add_text(&call, session.text);
    qo_redis_add_text(&call, order.text);
    qo_redis_add_text(&call, tombs.text);
    qo_redis_add_number(&call, now);
    add_packed(&call, &packed);
    qo_redis_add_number(&call, expires - now);
    qo_redis_add_number(&call, idle);
    qo_redis_add_bytes(&call, nonce.bytes, sizeof(nonce.bytes));
    qo_redis_add_bytes(&call, value.data, value.len);
    qo_redis_add_number(&call, (int64_t)s->max_sessions);
    qo_redis_add_bytes(&call, login.text, (size_t)(login.name - login.text));
    return qo_store_redis_run(s, &create_script, &call, true, true, err);
}

qo_status_t qo_store_redis_session_replace(qo_store_t *store, const qo_hash_t *key,
                                           uint64_t version, qo_bytes_t value,
                                           apr_time_t now, qo_err_t *err)
{
    qo_store_redis_t *s = (qo_store_redis_t *)store;
    packed_t before = pack(version);
    packed_t after = pack(version + 1);
    qo_store_redis_nonce_t nonce;
    qo_store_redis_key_t session;
    qo_redis_command_t call;

    if (is_too_long(value, err) || qo_store_redis_nonce(&nonce, err) != QO_OK) {
        return QO_E_STORE_UNAVAILABLE;
    }
    qo_store_redis_key(&session, s, 's', key);
    begin(&call, &replace_script, &session, now);
    add_packed(&call, &before);
    add_packed(&call, &after);
    qo_redis_add_bytes(&call, nonce.bytes, sizeof(nonce.bytes));
    qo_redis_add_bytes(&call, value.data, value.len);
    return qo_store_redis_run(s, &replace_script, &call, true, false, err);
}

qo_status_t qo_store_redis_session_delete(qo_store_t *store, const qo_hash_t *key,
                                          uint64_t version, apr_time_t now, qo_err_t *err)
{
    qo_store_redis_t *s = (qo_store_redis_t *)store;
    packed_t packed = pack(version);
    qo_store_redis_nonce_t nonce;
    qo_store_redis_list_t tombs;
    qo_store_redis_key_t session;
    qo_redis_command_t call;

    if (qo_store_redis_nonce(&nonce, err) != QO_OK) {
        return QO_E_STORE_UNAVAILABLE;
    }
    qo_store_redis_key(&session, s, 's', key);
    qo_store_redis_list(&tombs, s, 't');
    qo_redis_begin_script(&call, &delete_script, 2);
    qo_redis_add_text(&call, session.text);
    qo_redis_add_text(&call, tombs.text);
    qo_redis_add_number(&call, now);
    qo_redis_add_bytes(&call, packed.bytes,
                       version == QO_STORE_ANY ? 0 : sizeof(packed.bytes));
    qo_redis_add_bytes(&call, nonce.bytes, sizeof(nonce.bytes));
    qo_redis_add_number(&call, QO_TOMBSTONE_LIFE * 1000);
    qo_redis_add_text(&call, session.name);
    return qo_store_redis_run(s, &delete_script, &call, true, false, err);
}

qo_status_t qo_store_redis_touch(qo_store_t *store, const qo_hash_t *key, apr_time_t now,
                                 qo_err_t *err)
{
    qo_store_redis_t *s = (qo_store_redis_t *)store;
    qo_store_redis_key_t session;
    qo_redis_command_t call;

    qo_store_redis_key(&session, s, 's', key);
    begin(&call, &touch_script, &session, now);
    return qo_store_redis_run(s, &touch_script, &call, false, false, err);
}

/* ---- reading ---- */

static bool is_time(apr_time_t time)
{
    return time > 0 && time <= QO_LIMIT_TIME;
}

bool qo_store_redis_read(qo_store_redis_session_t *out, const qo_redis_reply_t *reply,
                         apr_time_t now)
{
    qo_reader_t r;

    if (reply->kind != QO_REDIS_TEXT || reply->text.len < QO_STORE_REDIS_HEAD ||
        reply->text.len > QO_STORE_REDIS_HEAD + QO_LIMIT_RECORD) {
        return false;
    }
    qo_unpack_start(&r, reply->text.data, QO_STORE_REDIS_SLOT);
    if (qo_unpack_u8(&r) != QO_STORE_REDIS_FORMAT) {
        return false;
    }
    out->version = qo_unpack_u64(&r);
    out->expires = (apr_time_t)qo_unpack_u64(&r);
    out->end = (apr_time_t)qo_unpack_u64(&r);
    out->idle = qo_unpack_u32(&r);
    out->seen = (apr_time_t)qo_unpack_u64(&r);
    out->slot = reply->text.data + QO_STORE_REDIS_SLOT;
    out->value.data = reply->text.data + QO_STORE_REDIS_HEAD;
    out->value.len = reply->text.len - QO_STORE_REDIS_HEAD;
    return is_time(out->expires) && is_time(out->end) && is_time(out->seen) &&
           out->expires > now;
}

/* `seen` is Redis's time; how long ago it was is the same for everybody. */
static void fill_meta(qo_store_meta_t *meta, const qo_store_redis_session_t *session,
                      apr_time_t server, apr_time_t now)
{
    apr_time_t ago = server > session->seen ? server - session->seen : 0;

    meta->version = session->version;
    meta->expires = session->expires;
    meta->idle = session->idle;
    meta->last_seen = now - ago;
}

qo_status_t qo_store_redis_give(apr_pool_t *p, const qo_redis_reply_t *record,
                                const qo_redis_reply_t *time, qo_bytes_t *value,
                                qo_store_meta_t *meta, apr_time_t now, qo_err_t *err)
{
    qo_store_redis_session_t session;
    apr_time_t server;

    if (record->kind != QO_REDIS_TEXT && record->kind != QO_REDIS_NIL) {
        (void)qo_redis_refusal(record, err);
        return QO_E_STORE_UNAVAILABLE;
    }
    if (!qo_store_redis_time(&server, time)) {
        (void)qo_redis_refusal(time, err);
        return QO_E_STORE_UNAVAILABLE;
    }
    if (!qo_store_redis_read(&session, record, now)) {
        return QO_E_NOT_FOUND;
    }
    value->data = apr_pmemdup(p, session.value.data, session.value.len);
    value->len = session.value.len;
    fill_meta(meta, &session, server, now);
    return QO_OK;
}

qo_status_t qo_store_redis_session_get(qo_store_t *store, apr_pool_t *p,
                                       const qo_hash_t *key, qo_bytes_t *value,
                                       qo_store_meta_t *meta, apr_time_t now, qo_err_t *err)
{
    qo_store_redis_t *s = (qo_store_redis_t *)store;
    qo_store_redis_key_t session;
    qo_redis_command_t commands[2];
    qo_redis_reply_t replies[2];
    qo_redis_talk_t *talk;
    qo_status_t status = qo_redis_begin(&talk, s->redis, err);

    if (status != QO_OK) {
        return status;
    }
    qo_store_redis_key(&session, s, 's', key);
    qo_redis_begin_command(&commands[0], "GET");
    qo_redis_add_text(&commands[0], session.text);
    qo_redis_begin_command(&commands[1], "TIME");
    status = qo_redis_ask(talk, replies, commands, 2, err);
    if (status == QO_OK) {
        status = qo_store_redis_give(p, &replies[0], &replies[1], value, meta, now, err);
    }
    qo_redis_end(talk);
    return status;
}
