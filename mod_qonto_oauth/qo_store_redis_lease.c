/* Leases stand in the head of their session. What may be done is decided by qo_lease, on
 * Redis's clock; what is done is one script that compares the bytes first. */
#include "qo_store_redis_parts.h"

#include "qo_limits.h"

#include <string.h>

#define TRIES 20 /* against others who change the slot in between */

/* KEYS: session. ARGV: now, slot as it was, slot as it gets. */
static qo_redis_script_t write_script = {
    .text = QO_STORE_REDIS_SCRIPT(
        "if not live then return 1 end local slot=h:sub(46) "
        "if slot==ARGV[3] then return 0 end if slot~=ARGV[2] then return 2 end "
        "local l=left((struct.unpack('>I8',h,30))) if l<1 then return 1 end "
        "redis.call('PEXPIRE',k,l) redis.call('SETRANGE',k,45,ARGV[3]) return 0")};

void qo_store_redis_prepare_leases(void)
{
    qo_redis_prepare_script(&write_script);
}

/* A lease as Redis has it. */
typedef struct {
    qo_redis_talk_t *talk;
    qo_store_redis_key_t session;
    apr_time_t now;   /* the host's time */
    apr_time_t clock; /* Redis's, */
    apr_time_t here;  /* and what qo_lease_clock() said then, or a little before */
    unsigned char was[QO_LEASE_LEN];
    bool taken; /* there is a lease: */
    qo_lease_t lease;
} slot_t;

/* Times with which others can reckon? 0 is none. */
static bool is_sane(const qo_lease_t *lease)
{
    return lease->until >= 0 && lease->until <= QO_LIMIT_TIME && lease->first >= 0 &&
           lease->first <= QO_LIMIT_TIME && lease->again >= 0 &&
           lease->again <= QO_LIMIT_TIME;
}

static qo_status_t read_slot(slot_t *slot, qo_err_t *err)
{
    qo_redis_command_t commands[2];
    qo_redis_reply_t replies[2];
    qo_store_redis_session_t session;
    qo_status_t status;

    qo_redis_begin_command(&commands[0], "GETRANGE");
    qo_redis_add_text(&commands[0], slot->session.text);
    qo_redis_add_number(&commands[0], 0);
    qo_redis_add_number(&commands[0], QO_STORE_REDIS_HEAD - 1);
    qo_redis_begin_command(&commands[1], "TIME");
    slot->here = qo_lease_clock();
    status = qo_redis_ask(slot->talk, replies, commands, 2, err);
    if (status != QO_OK) {
        return status;
    }
    if (replies[0].kind != QO_REDIS_TEXT) {
        (void)qo_redis_refusal(&replies[0], err);
        return QO_E_STORE_UNAVAILABLE;
    }
    if (!qo_store_redis_time(&slot->clock, &replies[1])) {
        (void)qo_redis_refusal(&replies[1], err);
        return QO_E_STORE_UNAVAILABLE;
    }
    if (!qo_store_redis_read(&session, &replies[0], slot->now)) {
        return QO_E_NOT_FOUND;
    }
    memcpy(slot->was, session.slot, QO_LEASE_LEN);
    slot->taken =
        qo_lease_decode(&slot->lease, slot->was, QO_LEASE_LEN) && is_sane(&slot->lease);
    return QO_OK;
}

/* QO_E_CONFLICT: it is not what it was. */
static qo_status_t write_slot(slot_t *slot, const unsigned char *becomes, qo_err_t *err)
{
    qo_redis_command_t call;
    qo_redis_reply_t reply;
    qo_status_t status;

    qo_redis_begin_script(&call, &write_script, 1);
    qo_redis_add_text(&call, slot->session.text);
    qo_redis_add_number(&call, slot->now);
    qo_redis_add_bytes(&call, slot->was, QO_LEASE_LEN);
    qo_redis_add_bytes(&call, becomes, QO_LEASE_LEN);
    status = qo_redis_run(slot->talk, &reply, &write_script, &call, true, err);
    if (status != QO_OK) {
        return QO_E_STORE_UNAVAILABLE;
    }
    return qo_store_redis_verdict(&reply, err);
}

static apr_time_t moved(apr_time_t time, const slot_t *slot)
{
    return time != 0 ? time - slot->clock + slot->here : 0;
}

/* As it is called here. Rather too short than too long for who holds it. */
static void report(qo_lease_t *out, const qo_lease_t *lease, const slot_t *slot)
{
    *out = *lease;
    out->until = moved(lease->until, slot);
    out->first = moved(lease->first, slot);
    out->again = moved(lease->again, slot);
}

static qo_status_t begin(slot_t *slot, qo_store_t *store, const qo_hash_t *key,
                         apr_time_t now, qo_err_t *err)
{
    qo_store_redis_t *s = (qo_store_redis_t *)store;

    memset(slot, 0, sizeof(*slot));
    qo_store_redis_key(&slot->session, s, 's', key);
    slot->now = now;
    return qo_redis_begin(&slot->talk, s->redis, err);
}

static qo_status_t changes_too_fast(qo_err_t *err)
{
    return qo_error(err, QO_E_STORE_UNAVAILABLE,
                    "redis: the lease changes faster than it can be read");
}

/* ---- taking ---- */

static qo_status_t acquire_once(slot_t *slot, qo_lease_t *lease, apr_time_t life,
                                bool *retry, qo_err_t *err)
{
    qo_lease_t wanted = *lease;
    unsigned char becomes[QO_LEASE_LEN];
    qo_status_t status = read_slot(slot, err);

    *retry = false;
    if (status != QO_OK) {
        return status;
    }
    if (!qo_lease_take(&wanted, slot->taken ? &slot->lease : NULL, life, slot->clock)) {
        report(lease, &slot->lease, slot);
        return QO_E_CONFLICT;
    }
    qo_lease_encode(becomes, &wanted);
    status = write_slot(slot, becomes, err);
    if (status == QO_OK) {
        report(lease, &wanted, slot);
    }
    *retry = status == QO_E_CONFLICT;
    return status;
}

qo_status_t qo_store_redis_lease_acquire(qo_store_t *store, const qo_hash_t *key,
                                         qo_lease_t *lease, apr_time_t life, apr_time_t now,
                                         qo_err_t *err)
{
    slot_t slot;
    bool retry = true;
    qo_status_t status = begin(&slot, store, key, now, err);

    if (status != QO_OK) {
        return status;
    }
    for (int i = 0; retry && i < TRIES; i++) {
        status = acquire_once(&slot, lease, life, &retry, err);
    }
    qo_redis_end(slot.talk);
    return retry ? changes_too_fast(err) : status;
}

/* ---- giving back ---- */

static qo_status_t release_once(slot_t *slot, const qo_lease_t *lease, qo_status_t why,
                                apr_time_t wait, bool *retry, qo_err_t *err)
{
    unsigned char becomes[QO_LEASE_LEN] = {0};
    qo_status_t status = read_slot(slot, err);

    *retry = false;
    if (status != QO_OK) {
        return status;
    }
    if (!slot->taken || !qo_lease_same(&slot->lease, lease)) {
        return QO_E_CONFLICT;
    }
    if (why != QO_OK) {
        qo_lease_fail(&slot->lease, why, wait, slot->clock);
        qo_lease_encode(becomes, &slot->lease);
    }
    status = write_slot(slot, becomes, err);
    *retry = status == QO_E_CONFLICT;
    return status;
}

qo_status_t qo_store_redis_lease_release(qo_store_t *store, const qo_hash_t *key,
                                         const qo_lease_t *lease, qo_status_t why,
                                         apr_time_t wait, qo_err_t *err)
{
    slot_t slot;
    bool retry = true;
    qo_status_t status = begin(&slot, store, key, 0, err);

    if (status != QO_OK) {
        return status;
    }
    for (int i = 0; retry && i < TRIES; i++) {
        status = release_once(&slot, lease, why, wait, &retry, err);
    }
    qo_redis_end(slot.talk);
    if (status == QO_E_NOT_FOUND) {
        return QO_E_CONFLICT; /* it went with its session */
    }
    return retry ? changes_too_fast(err) : status;
}
