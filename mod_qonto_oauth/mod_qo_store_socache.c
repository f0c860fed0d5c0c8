/* The port over mod_qo_socache, which holds the mutex and tells a miss from an outage.
 *
 *   [format 1][taken 1][version 8][expires 8][idle 4][since 8][value]
 *
 * is what is kept of a session or pending login; a touch has the same form and no value.
 * Touches are records of their own, so that a touch can never bring a session back; so are
 * leases (qo_lease.h), which end by themselves. A session that was "taken" is a tombstone.
 *
 * Who waits for another's refresh asks for session and lease every few milliseconds. Over a
 * provider that may be read without the mutex (memcache, redis) both are answered without
 * it; over shmcb and dbm, where reading is a change too, it is held for the reading alone.
 */
#include "mod_qo_store_socache.h"

#include "mod_qo_socache.h"

#include <apr_pools.h>
#include <apr_strings.h>

#include <string.h>

#define FORMAT 1
#define HEADER_LEN 30

typedef struct {
    qo_store_t base;
    mod_qo_socache_t *cache;
} store_t;

typedef mod_qo_socache_slot_t slot_t;

typedef struct {
    bool taken; /* a pending login: used; a session: ended */
    uint64_t version;
    apr_time_t expires;
    uint32_t idle;
    apr_time_t since; /* when it was made, replaced or touched */
    qo_bytes_t value;
} record_t;

/* ---- records ---- */

static bool pack(qo_bytes_t *out, apr_pool_t *p, const record_t *record)
{
    qo_writer_t w;

    qo_pack_start(&w, p, HEADER_LEN + record->value.len);
    qo_pack_u8(&w, FORMAT);
    qo_pack_u8(&w, record->taken ? 1 : 0);
    qo_pack_u64(&w, record->version);
    qo_pack_u64(&w, (uint64_t)record->expires);
    qo_pack_u32(&w, record->idle);
    qo_pack_u64(&w, (uint64_t)record->since);
    qo_pack_bytes(&w, record->value.data, record->value.len);
    return record->value.len <= QO_LIMIT_RECORD && qo_pack_finish(&w, out);
}

/* `out->value` points into `raw`. False for a record of another format. */
static bool unpack(record_t *out, qo_bytes_t raw)
{
    qo_reader_t r;

    if (raw.len < HEADER_LEN) {
        return false;
    }
    qo_unpack_start(&r, raw.data, HEADER_LEN);
    if (qo_unpack_u8(&r) != FORMAT) {
        return false;
    }
    out->taken = qo_unpack_u8(&r) != 0;
    out->version = qo_unpack_u64(&r);
    out->expires = (apr_time_t)qo_unpack_u64(&r);
    out->idle = qo_unpack_u32(&r);
    out->since = (apr_time_t)qo_unpack_u64(&r);
    out->value.data = raw.data + HEADER_LEN;
    out->value.len = raw.len - HEADER_LEN;
    return qo_unpack_finish(&r);
}

static bool idle_over(const record_t *session, apr_time_t now)
{
    return session->idle != 0 && session->since + apr_time_from_sec(session->idle) <= now;
}

static slot_t beside(const slot_t *at, mod_qo_socache_kind_t kind)
{
    slot_t place = *at;

    place.kind = kind;
    return place;
}

static slot_t touch_of(const slot_t *at)
{
    return beside(at, MOD_QO_SOCACHE_SEEN);
}

static void count_touch(record_t *session, qo_bytes_t raw)
{
    record_t touch;

    if (unpack(&touch, raw) && touch.since > session->since) {
        session->since = touch.since;
    }
}

/* ---- under the mutex ---- */

static qo_status_t find(const slot_t *at, record_t *out, apr_time_t now)
{
    qo_bytes_t raw;
    qo_status_t status = mod_qo_socache_read(at, &raw);

    if (status != QO_OK) {
        return status;
    }
    return unpack(out, raw) && out->expires > now ? QO_OK : QO_E_NOT_FOUND;
}

/* A live session, whose `since` becomes when it was last seen; no tombstone. A touch that
 * cannot be read is doubted only when the session would be over without it. */
static qo_status_t find_session(const slot_t *at, record_t *out, apr_time_t now)
{
    slot_t seen = touch_of(at);
    qo_status_t status = find(at, out, now);
    qo_bytes_t raw;

    if (status != QO_OK) {
        return status;
    }
    if (out->taken) {
        return QO_E_NOT_FOUND;
    }
    if (mod_qo_socache_glance(&seen, &raw)) {
        count_touch(out, raw);
    } else if (idle_over(out, now)) {
        status = mod_qo_socache_read(&seen, &raw);
        if (status == QO_OK) {
            count_touch(out, raw);
        } else if (status != QO_E_NOT_FOUND) {
            return status;
        }
    }
    return idle_over(out, now) ? QO_E_NOT_FOUND : QO_OK;
}

static qo_status_t save_new(const slot_t *at, const record_t *record)
{
    qo_bytes_t raw;

    if (!pack(&raw, at->pool, record)) {
        return qo_error(at->err, QO_E_STORE_UNAVAILABLE,
                        "a record of %lu bytes is too long",
                        (unsigned long)record->value.len);
    }
    return mod_qo_socache_write(at, raw, record->expires);
}

/* Only a new session may be answered with "full". */
static qo_status_t save(const slot_t *at, const record_t *record)
{
    qo_status_t status = save_new(at, record);

    return status == QO_E_STORE_FULL ? QO_E_STORE_UNAVAILABLE : status;
}

/* A refused write may have cost the old record: shmcb removes it first, and of a record in
 * parts some may have been written. It is put back as well as can be; what the caller
 * learns is why the new one was refused. */
static qo_status_t save_over(const slot_t *at, const record_t *record, const record_t *old)
{
    qo_status_t status = save_new(at, record);
    slot_t quiet = *at;

    if (status != QO_E_STORE_FULL) {
        return status;
    }
    quiet.err = NULL;
    (void)save(&quiet, old);
    return QO_E_STORE_UNAVAILABLE;
}

static qo_status_t take(const slot_t *at, apr_time_t now)
{
    record_t old;
    record_t taken;
    qo_status_t status = find(at, &old, now);

    if (status != QO_OK) {
        return status;
    }
    if (old.taken) {
        return QO_E_CONFLICT;
    }
    taken = old;
    taken.taken = true;
    return save(at, &taken);
}

static bool is_tombstone(const record_t *session, apr_time_t now)
{
    return session->taken && session->expires > now;
}

static qo_status_t create(const slot_t *at, const record_t *session, apr_time_t now)
{
    record_t present = {.taken = false}; /* when there is none */
    qo_status_t status = find_session(at, &present, now);

    if (status == QO_OK || is_tombstone(&present, now)) {
        return QO_E_CONFLICT;
    }
    return status == QO_E_NOT_FOUND ? save_new(at, session) : status;
}

static qo_status_t replace(const slot_t *at, uint64_t version, qo_bytes_t value,
                           apr_time_t now)
{
    record_t old;
    record_t renewed;
    qo_status_t status = find_session(at, &old, now);

    if (status != QO_OK) {
        return status;
    }
    if (old.version != version) {
        return QO_E_CONFLICT;
    }
    renewed = old;
    renewed.version++;
    renewed.since = now;
    renewed.value = value;
    return save_over(at, &renewed, &old);
}

/* Where there is no room for a tombstone, nothing is as good against a refresh in flight:
 * it replaces what is there, and creates nothing. The touch and the lease that are left
 * behind expire by themselves. */
static qo_status_t end(const slot_t *at, uint64_t version, apr_time_t now)
{
    record_t tombstone = {.taken = true, .since = now};
    record_t session;
    qo_status_t status = find_session(at, &session, now);

    if (status != QO_OK) {
        return status;
    }
    if (version != QO_STORE_ANY && version != session.version) {
        return QO_E_CONFLICT;
    }
    tombstone.version = session.version;
    tombstone.expires = now + apr_time_from_sec(QO_TOMBSTONE_LIFE);
    status = save_new(at, &tombstone);
    if (status == QO_E_STORE_FULL) {
        status = mod_qo_socache_remove(at);
        status = status == QO_E_NOT_FOUND ? QO_OK : status;
    }
    return status;
}

static qo_status_t note_touch(const slot_t *at, apr_time_t now)
{
    slot_t seen = touch_of(at);
    record_t note = {.since = now};
    record_t session;
    qo_status_t status = find_session(at, &session, now);

    if (status != QO_OK) {
        return status;
    }
    note.expires = session.expires;
    if (session.idle != 0 && now + apr_time_from_sec(session.idle) < note.expires) {
        note.expires = now + apr_time_from_sec(session.idle);
    }
    return save(&seen, &note);
}

/* ---- leases, under the mutex ---- */

/* One that began later than now was left by a boot before this one, whose clock was
 * another: as good as none. */
static bool read_lease(qo_lease_t *out, qo_bytes_t raw)
{
    return qo_lease_decode(out, raw.data, raw.len) && out->first <= qo_lease_clock();
}

static qo_status_t find_lease(const slot_t *at, qo_lease_t *out)
{
    slot_t place = beside(at, MOD_QO_SOCACHE_LEASE);
    qo_bytes_t raw;
    qo_status_t status = mod_qo_socache_read(&place, &raw);

    if (status != QO_OK) {
        return status;
    }
    return read_lease(out, raw) ? QO_OK : QO_E_NOT_FOUND;
}

static qo_status_t save_lease(const slot_t *at, const qo_lease_t *lease)
{
    slot_t place = beside(at, MOD_QO_SOCACHE_LEASE);
    unsigned char record[QO_LEASE_LEN];
    qo_bytes_t raw = {record, QO_LEASE_LEN};
    qo_status_t status;

    qo_lease_encode(record, lease);
    status = mod_qo_socache_write_for(&place, raw, qo_lease_keep(lease) - qo_lease_clock());
    return status == QO_E_STORE_FULL ? QO_E_STORE_UNAVAILABLE : status;
}

/* The lease of a live session. */
static qo_status_t find_both(const slot_t *at, qo_lease_t *out, apr_time_t now)
{
    record_t session;
    qo_status_t status = find_session(at, &session, now);

    return status == QO_OK ? find_lease(at, out) : status;
}

static qo_status_t acquire(const slot_t *at, qo_lease_t *lease, apr_time_t life,
                           apr_time_t now)
{
    qo_lease_t present;
    record_t session;
    qo_status_t status = find_session(at, &session, now);

    if (status != QO_OK) {
        return status;
    }
    status = find_lease(at, &present);
    if (status != QO_OK && status != QO_E_NOT_FOUND) {
        return status;
    }
    if (!qo_lease_take(lease, status == QO_OK ? &present : NULL, life, qo_lease_clock())) {
        *lease = present;
        return QO_E_CONFLICT;
    }
    return save_lease(at, lease);
}

static qo_status_t release(const slot_t *at, const qo_lease_t *lease, qo_status_t why,
                           apr_time_t wait)
{
    slot_t place = beside(at, MOD_QO_SOCACHE_LEASE);
    qo_lease_t present;
    qo_status_t status = find_lease(at, &present);

    if (status == QO_E_NOT_FOUND || (status == QO_OK && !qo_lease_same(&present, lease))) {
        return QO_E_CONFLICT;
    }
    if (status != QO_OK) {
        return status;
    }
    if (why == QO_OK) {
        status = mod_qo_socache_remove(&place);
        return status == QO_E_NOT_FOUND ? QO_OK : status;
    }
    qo_lease_fail(&present, why, wait, qo_lease_clock());
    return save_lease(at, &present);
}

/* ---- the port ---- */

static qo_status_t enter(slot_t *at, qo_store_t *base, mod_qo_socache_kind_t kind,
                         const qo_hash_t *key, qo_err_t *err)
{
    return mod_qo_socache_enter(at, ((store_t *)base)->cache, kind, key, err);
}

static void hand_out(qo_bytes_t *out, apr_pool_t *p, qo_bytes_t value)
{
    out->data = apr_pmemdup(p, value.data, value.len);
    out->len = value.len;
}

static qo_status_t pending_put(qo_store_t *base, const qo_hash_t *key, qo_bytes_t value,
                               apr_time_t expires, apr_time_t now, qo_err_t *err)
{
    record_t record = {.version = 1, .expires = expires, .since = now, .value = value};
    slot_t at;
    qo_status_t status = enter(&at, base, MOD_QO_SOCACHE_PENDING, key, err);

    return status != QO_OK ? status : mod_qo_socache_leave(&at, save(&at, &record));
}

static qo_status_t pending_get(qo_store_t *base, apr_pool_t *p, const qo_hash_t *key,
                               qo_bytes_t *value, bool *taken, apr_time_t now,
                               qo_err_t *err)
{
    record_t record;
    slot_t at;
    qo_status_t status = enter(&at, base, MOD_QO_SOCACHE_PENDING, key, err);

    if (status != QO_OK) {
        return status;
    }
    status = find(&at, &record, now);
    if (status == QO_OK) {
        hand_out(value, p, record.value);
        *taken = record.taken;
    }
    return mod_qo_socache_leave(&at, status);
}

static qo_status_t pending_take(qo_store_t *base, const qo_hash_t *key, apr_time_t now,
                                qo_err_t *err)
{
    slot_t at;
    qo_status_t status = enter(&at, base, MOD_QO_SOCACHE_PENDING, key, err);

    return status != QO_OK ? status : mod_qo_socache_leave(&at, take(&at, now));
}

static qo_status_t session_create(qo_store_t *base, const qo_hash_t *key, qo_bytes_t value,
                                  apr_time_t expires, uint32_t idle, apr_time_t now,
                                  qo_err_t *err)
{
    record_t session = {false, 1, expires, idle, now, value};
    slot_t at;
    qo_status_t status = enter(&at, base, MOD_QO_SOCACHE_SESSION, key, err);

    return status != QO_OK ? status : mod_qo_socache_leave(&at, create(&at, &session, now));
}

/* Without the mutex: true only when the session is there and alive beyond doubt. */
static bool glance(const slot_t *at, record_t *out, apr_time_t now)
{
    slot_t seen = touch_of(at);
    qo_bytes_t raw;

    if (!mod_qo_socache_lockless(at->cache) || !mod_qo_socache_glance(at, &raw) ||
        !unpack(out, raw)) {
        return false;
    }
    if (mod_qo_socache_glance(&seen, &raw)) {
        count_touch(out, raw);
    }
    return !out->taken && out->expires > now && !idle_over(out, now);
}

static void tell(qo_bytes_t *value, qo_store_meta_t *meta, apr_pool_t *p,
                 const record_t *session, apr_time_t now)
{
    hand_out(value, p, session->value);
    meta->version = session->version;
    meta->expires = session->expires;
    meta->idle = session->idle;
    meta->last_seen = session->since < now ? session->since : now;
}

static qo_status_t session_get(qo_store_t *base, apr_pool_t *p, const qo_hash_t *key,
                               qo_bytes_t *value, qo_store_meta_t *meta, apr_time_t now,
                               qo_err_t *err)
{
    slot_t at = {((store_t *)base)->cache, MOD_QO_SOCACHE_SESSION, key, p, err};
    record_t session;
    qo_status_t status;

    if (glance(&at, &session, now)) {
        tell(value, meta, p, &session, now);
        return QO_OK;
    }
    status = enter(&at, base, MOD_QO_SOCACHE_SESSION, key, err);
    if (status != QO_OK) {
        return status;
    }
    status = find_session(&at, &session, now);
    if (status == QO_OK) {
        tell(value, meta, p, &session, now);
    }
    return mod_qo_socache_leave(&at, status);
}

static qo_status_t session_replace(qo_store_t *base, const qo_hash_t *key, uint64_t version,
                                   qo_bytes_t value, apr_time_t now, qo_err_t *err)
{
    slot_t at;
    qo_status_t status = enter(&at, base, MOD_QO_SOCACHE_SESSION, key, err);

    return status != QO_OK ? status
                           : mod_qo_socache_leave(&at, replace(&at, version, value, now));
}

static qo_status_t session_delete(qo_store_t *base, const qo_hash_t *key, uint64_t version,
                                  apr_time_t now, qo_err_t *err)
{
    slot_t at;
    qo_status_t status = enter(&at, base, MOD_QO_SOCACHE_SESSION, key, err);

    return status != QO_OK ? status : mod_qo_socache_leave(&at, end(&at, version, now));
}

/* Without the mutex: true only when the session is alive and has a lease, beyond doubt. */
static bool glance_lease(qo_store_t *base, const qo_hash_t *key, qo_lease_t *out,
                         apr_time_t now)
{
    slot_t at = {((store_t *)base)->cache, MOD_QO_SOCACHE_SESSION, key, NULL, NULL};
    slot_t place;
    record_t session;
    qo_bytes_t raw;
    bool seen;

    if (apr_pool_create(&at.pool, NULL) != APR_SUCCESS) {
        return false;
    }
    place = beside(&at, MOD_QO_SOCACHE_LEASE);
    seen = glance(&at, &session, now) && mod_qo_socache_glance(&place, &raw) &&
           read_lease(out, raw);
    apr_pool_destroy(at.pool);
    return seen;
}

/* QO_OK: there is a lease, as `out` tells. QO_E_NOT_FOUND: none was seen. */
static qo_status_t look_at_lease(qo_store_t *base, const qo_hash_t *key, qo_lease_t *out,
                                 apr_time_t now, qo_err_t *err)
{
    slot_t at;
    qo_status_t status;

    if (mod_qo_socache_lockless(((store_t *)base)->cache)) {
        return glance_lease(base, key, out, now) ? QO_OK : QO_E_NOT_FOUND;
    }
    status = enter(&at, base, MOD_QO_SOCACHE_SESSION, key, err);
    return status != QO_OK ? status : mod_qo_socache_leave(&at, find_both(&at, out, now));
}

/* Looks before it writes: the many who are refused hold the mutex for a moment or not at
 * all, and whether a holder is dead is found out in /proc after it was given back. */
static qo_status_t lease_acquire(qo_store_t *base, const qo_hash_t *key, qo_lease_t *lease,
                                 apr_time_t life, apr_time_t now, qo_err_t *err)
{
    qo_lease_t trial = *lease;
    qo_lease_t present;
    slot_t at;
    qo_status_t status = look_at_lease(base, key, &present, now, err);

    if (status != QO_OK && status != QO_E_NOT_FOUND) {
        return status;
    }
    if (status == QO_OK && !qo_lease_take(&trial, &present, life, qo_lease_clock())) {
        *lease = present;
        return QO_E_CONFLICT;
    }
    status = enter(&at, base, MOD_QO_SOCACHE_SESSION, key, err);
    return status != QO_OK ? status
                           : mod_qo_socache_leave(&at, acquire(&at, lease, life, now));
}

static qo_status_t lease_release(qo_store_t *base, const qo_hash_t *key,
                                 const qo_lease_t *lease, qo_status_t why, apr_time_t wait,
                                 qo_err_t *err)
{
    slot_t at;
    qo_status_t status = enter(&at, base, MOD_QO_SOCACHE_SESSION, key, err);

    return status != QO_OK ? status
                           : mod_qo_socache_leave(&at, release(&at, lease, why, wait));
}

static qo_status_t touch(qo_store_t *base, const qo_hash_t *key, apr_time_t now,
                         qo_err_t *err)
{
    slot_t at;
    qo_status_t status = enter(&at, base, MOD_QO_SOCACHE_SESSION, key, err);

    return status != QO_OK ? status : mod_qo_socache_leave(&at, note_touch(&at, now));
}

/* Providers remove by themselves what has expired. */
static qo_status_t sweep(qo_store_t *base, apr_time_t now, uint32_t max, bool *more,
                         qo_err_t *err)
{
    (void)base;
    (void)now;
    (void)max;
    (void)err;
    *more = false;
    return QO_OK;
}

/* Providers count only in text, for mod_status; what can be told is whether the store
 * answers. */
static qo_status_t report(qo_store_t *base, qo_store_status_t *out, qo_err_t *err)
{
    slot_t at;
    qo_status_t status = enter(&at, base, MOD_QO_SOCACHE_SESSION, NULL, err);

    memset(out, 0, sizeof(*out));
    return status != QO_OK ? status : mod_qo_socache_leave(&at, mod_qo_socache_probe(&at));
}

static qo_status_t prepare(qo_store_t **out, apr_pool_t *p, const qo_store_setup_t *setup,
                           qo_err_t *err)
{
    store_t *store = apr_pcalloc(p, sizeof(*store));

    store->base.provider = &mod_qo_store_socache_provider;
    *out = &store->base;
    return mod_qo_socache_make(&store->cache, p, setup->argument, err);
}

static qo_status_t attach(qo_store_t *base, apr_pool_t *p, qo_err_t *err)
{
    return mod_qo_socache_open(((store_t *)base)->cache, p, err);
}

apr_status_t mod_qo_store_socache_register(apr_pool_t *pconf)
{
    return mod_qo_socache_register(pconf);
}

const char *mod_qo_store_socache_check(apr_pool_t *p, apr_pool_t *tmp, const char *spec)
{
    return mod_qo_socache_check(p, tmp, spec);
}

const qo_store_provider_t mod_qo_store_socache_provider = {
    .name = "socache",
    .caveat = "sessions are kept by a socache provider of httpd: they are shared on this "
              "host only, may be evicted when the provider has no room, and are lost when "
              "httpd reloads or restarts (shmcb) or the cache server does (memcache, "
              "redis). A lease may be lost in the same ways: then the same tokens may be "
              "renewed twice, which Qonto forgives for a minute only. A process that is "
              "killed while it renews tokens may cost that session (shmcb, dbm). A cache "
              "server that hangs holds up its visitors",
    .prepare = prepare,
    .attach = attach,
    .pending_put = pending_put,
    .pending_get = pending_get,
    .pending_take = pending_take,
    .session_create = session_create,
    .session_get = session_get,
    .session_replace = session_replace,
    .session_delete = session_delete,
    .lease_acquire = lease_acquire,
    .lease_release = lease_release,
    .touch = touch,
    .sweep = sweep,
    .status = report,
    /* memcache and redis cannot list what they hold, and shmcb and dbm only with the mutex
     * held from the first record to the last. */
    .session_walk = NULL,
};
