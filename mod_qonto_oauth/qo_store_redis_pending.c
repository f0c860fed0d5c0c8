/* Pending logins:
 *
 *    0       8      16
 *   +-------+------+--------------
 *   |expires|taker | sealed value
 *   +-------+------+--------------
 *
 * `expires` is the host's time; the key lives as long by Redis's clock. `taker` is zeros,
 * then the nonce of the one call that took it. */
#include "qo_store_redis_parts.h"

#include "qo_limits.h"

#include <apr_strings.h>

#include <string.h>

#define HEAD 16

/* KEYS: login, order. ARGV: now, expires (packed), milliseconds to live, value, name, how
 * many there may be, how many are removed at once, what the keys of logins begin with.
 * Those that expire first are the oldest, as all live equally long. */
static qo_redis_script_t put_script = {
    .text = "local k,o=KEYS[1],KEYS[2] " QO_STORE_REDIS_SET
            "local t=redis.call('TIME') local now=t[1]*1000000+t[2] "
            "local d=ARGV[2]..string.rep('\\0',8)..ARGV[4] "
            "local h=redis.call('GETRANGE',k,0,15) "
            "if #h==16 and struct.unpack('>I8',h)>tonumber(ARGV[1]) "
            "and redis.call('GET',k)~=d then return 2 end "
            "set(o,ARGV[8],k,d,'PX',ARGV[3]) "
            "redis.call('ZADD',o,now+ARGV[3]*1000,ARGV[5]) "
            "redis.call('PEXPIRE',o,ARGV[3]+60000) "
            "local n=redis.call('ZCARD',o)-ARGV[6] "
            "if n>0 then local old=redis.call('ZPOPMIN',o,math.min(n,ARGV[7])) "
            "for i=1,#old,2 do redis.call('DEL',ARGV[8]..old[i]) end end "
            "return 0"};

/* KEYS: login. ARGV: now, nonce. Whose nonce it is has taken it. The end is written anew
 * for Redis to allow the rest though its memory is full. */
static qo_redis_script_t take_script = {
    .text = "local k=KEYS[1] local h=redis.call('GETRANGE',k,0,15) "
            "if #h~=16 then return 1 end "
            "local left=struct.unpack('>I8',h)-ARGV[1] "
            "if left<=0 then return 1 end "
            "local taker=h:sub(9) "
            "if taker==ARGV[2] then return 0 end "
            "if taker~=string.rep('\\0',8) then return 2 end "
            "redis.call('PEXPIRE',k,string.format('%.0f',math.ceil(left/1000))) "
            "redis.call('SETRANGE',k,8,ARGV[2]) return 0"};

/* KEYS: the lists. ARGV: how many at most of each. What they name is gone already. */
static qo_redis_script_t sweep_script = {
    .text = "local t=redis.call('TIME') local now=t[1]*1000000+t[2] local most=0 "
            "for _,list in ipairs(KEYS) do "
            "local old=redis.call('ZRANGEBYSCORE',list,'-inf',now,'LIMIT',0,ARGV[1]) "
            "if #old>0 then redis.call('ZREM',list,unpack(old)) end "
            "most=math.max(most,#old) end return most"};

void qo_store_redis_prepare_pending(void)
{
    qo_redis_prepare_script(&put_script);
    qo_redis_prepare_script(&take_script);
    qo_redis_prepare_script(&sweep_script);
}

static void pack_time(unsigned char out[8], apr_time_t time)
{
    qo_writer_t w;

    qo_pack_into(&w, out, 8);
    qo_pack_u64(&w, (uint64_t)time);
}

qo_status_t qo_store_redis_pending_put(qo_store_t *store, const qo_hash_t *key,
                                       qo_bytes_t value, apr_time_t expires, apr_time_t now,
                                       qo_err_t *err)
{
    qo_store_redis_t *s = (qo_store_redis_t *)store;
    qo_store_redis_key_t login;
    qo_store_redis_list_t order;
    unsigned char packed[8];
    qo_redis_command_t call;
    apr_time_t life = apr_time_as_msec(expires - now);

    if (value.len > QO_LIMIT_RECORD) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "redis: a login that is too long");
    }
    if (life <= 0) {
        return QO_OK; /* it is over already */
    }
    qo_store_redis_key(&login, s, 'p', key);
    qo_store_redis_list(&order, s, 'o');
    pack_time(packed, expires);
    qo_redis_begin_script(&call, &put_script, 2);
    qo_redis_add_text(&call, login.text);
    qo_redis_add_text(&call, order.text);
    qo_redis_add_number(&call, now);
    qo_redis_add_bytes(&call, packed, sizeof(packed));
    qo_redis_add_number(&call, life);
    qo_redis_add_bytes(&call, value.data, value.len);
    qo_redis_add_text(&call, login.name);
    qo_redis_add_number(&call, (int64_t)s->max_pending);
    qo_redis_add_number(&call, QO_SWEEP_BATCH);
    qo_redis_add_bytes(&call, login.text, (size_t)(login.name - login.text));
    return qo_store_redis_run(s, &put_script, &call, false, false, err);
}

static qo_status_t read_login(apr_pool_t *p, const qo_redis_reply_t *reply,
                              qo_bytes_t *value, bool *taken, apr_time_t now, qo_err_t *err)
{
    static const unsigned char NOBODY[QO_STORE_REDIS_NONCE] = {0};
    unsigned char taker[QO_STORE_REDIS_NONCE];
    qo_reader_t r;

    if (reply->kind != QO_REDIS_TEXT && reply->kind != QO_REDIS_NIL) {
        (void)qo_redis_refusal(reply, err);
        return QO_E_STORE_UNAVAILABLE;
    }
    if (reply->kind == QO_REDIS_NIL || reply->text.len < HEAD) {
        return QO_E_NOT_FOUND;
    }
    qo_unpack_start(&r, reply->text.data, HEAD);
    if ((apr_time_t)qo_unpack_u64(&r) <= now) {
        return QO_E_NOT_FOUND;
    }
    qo_unpack_bytes(&r, taker, QO_STORE_REDIS_NONCE);
    *taken = memcmp(taker, NOBODY, QO_STORE_REDIS_NONCE) != 0;
    value->len = reply->text.len - HEAD;
    value->data = apr_pmemdup(p, reply->text.data + HEAD, value->len);
    return QO_OK;
}

qo_status_t qo_store_redis_pending_get(qo_store_t *store, apr_pool_t *p,
                                       const qo_hash_t *key, qo_bytes_t *value, bool *taken,
                                       apr_time_t now, qo_err_t *err)
{
    qo_store_redis_t *s = (qo_store_redis_t *)store;
    qo_store_redis_key_t login;
    qo_redis_command_t command;
    qo_redis_reply_t reply;
    qo_redis_talk_t *talk;
    qo_status_t status = qo_redis_begin(&talk, s->redis, err);

    if (status != QO_OK) {
        return status;
    }
    qo_store_redis_key(&login, s, 'p', key);
    qo_redis_begin_command(&command, "GET");
    qo_redis_add_text(&command, login.text);
    status = qo_redis_ask(talk, &reply, &command, 1, err);
    if (status == QO_OK) {
        status = read_login(p, &reply, value, taken, now, err);
    }
    qo_redis_end(talk);
    return status;
}

qo_status_t qo_store_redis_pending_take(qo_store_t *store, const qo_hash_t *key,
                                        apr_time_t now, qo_err_t *err)
{
    qo_store_redis_t *s = (qo_store_redis_t *)store;
    qo_store_redis_nonce_t nonce;
    qo_store_redis_key_t login;
    qo_redis_command_t call;

    if (qo_store_redis_nonce(&nonce, err) != QO_OK) {
        return QO_E_STORE_UNAVAILABLE;
    }
    qo_store_redis_key(&login, s, 'p', key);
    qo_redis_begin_script(&call, &take_script, 1);
    qo_redis_add_text(&call, login.text);
    qo_redis_add_number(&call, now);
    qo_redis_add_bytes(&call, nonce.bytes, sizeof(nonce.bytes));
    return qo_store_redis_run(s, &take_script, &call, true, false, err);
}

qo_status_t qo_store_redis_sweep(qo_store_t *store, apr_time_t now, uint32_t max,
                                 bool *more, qo_err_t *err)
{
    qo_store_redis_t *s = (qo_store_redis_t *)store;
    uint32_t most = max < QO_SWEEP_BATCH ? max : QO_SWEEP_BATCH;
    qo_store_redis_list_t order, tombs;
    qo_redis_command_t call;
    qo_redis_reply_t reply;
    qo_redis_talk_t *talk;
    qo_status_t status = qo_redis_begin(&talk, s->redis, err);

    (void)now; /* Redis knows its own */
    *more = false;
    if (status != QO_OK) {
        return status;
    }
    qo_store_redis_list(&order, s, 'o');
    qo_store_redis_list(&tombs, s, 't');
    qo_redis_begin_script(&call, &sweep_script, 2);
    qo_redis_add_text(&call, order.text);
    qo_redis_add_text(&call, tombs.text);
    qo_redis_add_number(&call, most);
    status = qo_redis_run(talk, &reply, &sweep_script, &call, false, err);
    if (status == QO_OK && reply.kind != QO_REDIS_NUMBER) {
        status = qo_redis_refusal(&reply, err);
    } else if (status == QO_OK) {
        *more = reply.number >= (int64_t)most;
    }
    qo_redis_end(talk);
    return status == QO_OK ? QO_OK : QO_E_STORE_UNAVAILABLE;
}
