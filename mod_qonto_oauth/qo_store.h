/* The session store: the port, and what stands in front of every provider.
 *
 * Providers keep opaque values under 32-byte keys, in two spaces: `session` (durable, never
 * evicted) and `pending` (bounded; a stranger's flood pushes out the oldest pending login
 * and never a session). Keys are hashes and values are sealed before a provider sees them.
 *
 * Every call answers
 *   QO_OK                   done
 *   QO_E_NOT_FOUND          there is no such live record
 *   QO_E_CONFLICT           somebody else changed, took or made it first
 *   QO_E_STORE_FULL         no room for a new session (nothing else answers this)
 *   QO_E_STORE_UNAVAILABLE  the store cannot say; `err` tells why
 * and nothing else. UNAVAILABLE must never be read as "signed out".
 *
 * A session carries a version, 1 when created and one more at each replace: its generation.
 * Who wants to replace it takes the session's lease first (qo_lease.h), so that one calls
 * Qonto and the others wait; the version, not the lease, is what keeps old tokens out. */
#ifndef QO_STORE_H
#define QO_STORE_H

#include "qo_crypto.h"
#include "qo_error.h"
#include "qo_lease.h"
#include "qo_pack.h"

#include <apr_pools.h>
#include <apr_time.h>

#include <stdint.h>

#define QO_STORE_GROUP "qonto-store" /* ap_register_provider's group */
#define QO_STORE_VERSION "1"
#define QO_STORE_ANY 0 /* session_delete: whatever version it has */

/* What a provider keeps of a session beside its value, in clear. */
typedef struct {
    uint64_t version;
    apr_time_t expires; /* absolute end */
    uint32_t idle;      /* seconds; 0 = no idle limit */
    apr_time_t
        last_seen; /* the newest touch, or when it was created; never in the future */
} qo_store_meta_t;

/* How the server wants the store, before any process opens it. */
typedef struct {
    const char *argument; /* what followed the provider's name; NULL if nothing did */
    const char *dir;      /* default directory, absolute */
    long uid;             /* who will open it in the children; -1 = the present user */
    long gid;
    uint64_t max_sessions;
    uint64_t max_pending;
    bool as_it_is; /* for a tool beside the server: the store must be there, and nothing is
                    * made, checked, moved or given away */
} qo_store_setup_t;

typedef struct {
    uint64_t sessions;
    uint64_t pending;
    uint64_t bytes; /* on disk or in memory, 0 if unknown */
} qo_store_status_t;

/* How far a walk through all sessions has come: zeros to begin; opaque. */
typedef struct {
    unsigned char at[QO_HASH_LEN];
    bool done;
} qo_store_cursor_t;

/* One session of a walk; what it points to is good during the call only. */
typedef void (*qo_store_visit_t)(void *data, const qo_hash_t *key, qo_bytes_t value,
                                 const qo_store_meta_t *meta);

typedef struct qo_store_t qo_store_t;

typedef struct {
    const char *name;
    /* A sentence for the log at start-up when the provider cannot keep a promise of the
     * manual; NULL if it keeps all. */
    const char *caveat;

    /* Parent process, at every configuration: makes the place, checks it, gives it to the
     * children's user, and leaves nothing open. `*out` lives in `p`. */
    qo_status_t (*prepare)(qo_store_t **out, apr_pool_t *p, const qo_store_setup_t *setup,
                           qo_err_t *err);
    /* Child process: opens; closes when `p` ends. */
    qo_status_t (*attach)(qo_store_t *store, apr_pool_t *p, qo_err_t *err);

    qo_status_t (*pending_put)(qo_store_t *store, const qo_hash_t *key, qo_bytes_t value,
                               apr_time_t expires, apr_time_t now, qo_err_t *err);
    /* `*taken` tells whether it was taken before; a taken one stays readable until it
     * expires, so that a reload of the callback finds its way. */
    qo_status_t (*pending_get)(qo_store_t *store, apr_pool_t *p, const qo_hash_t *key,
                               qo_bytes_t *value, bool *taken, apr_time_t now,
                               qo_err_t *err);
    /* Exactly one caller ever gets QO_OK for a key; the others QO_E_CONFLICT. */
    qo_status_t (*pending_take)(qo_store_t *store, const qo_hash_t *key, apr_time_t now,
                                qo_err_t *err);

    qo_status_t (*session_create)(qo_store_t *store, const qo_hash_t *key, qo_bytes_t value,
                                  apr_time_t expires, uint32_t idle, apr_time_t now,
                                  qo_err_t *err);
    /* QO_E_NOT_FOUND also when it is over (absolute or idle limit). */
    qo_status_t (*session_get)(qo_store_t *store, apr_pool_t *p, const qo_hash_t *key,
                               qo_bytes_t *value, qo_store_meta_t *meta, apr_time_t now,
                               qo_err_t *err);
    /* New value, same limits, version + 1, durable when it returns; only if the version
     * still is `version`. A deleted session is never brought back: QO_E_NOT_FOUND. */
    qo_status_t (*session_replace)(qo_store_t *store, const qo_hash_t *key,
                                   uint64_t version, qo_bytes_t value, apr_time_t now,
                                   qo_err_t *err);
    /* Ends it, durably when it returns, if its version still is `version` (QO_STORE_ANY:
     * whatever it is). Leaves a tombstone for QO_TOMBSTONE_LIFE: until then no call finds,
     * replaces, touches or leases the session, and none creates it (QO_E_CONFLICT). */
    qo_status_t (*session_delete)(qo_store_t *store, const qo_hash_t *key, uint64_t version,
                                  apr_time_t now, qo_err_t *err);
    /* Takes the session's lease for `life`, as qo_lease_take allows; `lease` brings
     * generation and holder. QO_OK: it is recorded, and `lease` is what was recorded.
     * QO_E_CONFLICT: `lease` is what stands in the way, with its times moved to the clock
     * of qo_lease_clock() in this process. QO_E_NOT_FOUND: there is no such live session.
     */
    qo_status_t (*lease_acquire)(qo_store_t *store, const qo_hash_t *key, qo_lease_t *lease,
                                 apr_time_t life, apr_time_t now, qo_err_t *err);
    /* Gives it back, if it still is this attempt's (else QO_E_CONFLICT, and nothing is
     * changed): removed when `why` is QO_OK, else as qo_lease_fail leaves it. */
    qo_status_t (*lease_release)(qo_store_t *store, const qo_hash_t *key,
                                 const qo_lease_t *lease, qo_status_t why, apr_time_t wait,
                                 qo_err_t *err);
    /* Moves the idle clock. Not durable against a crash of the machine. */
    qo_status_t (*touch)(qo_store_t *store, const qo_hash_t *key, apr_time_t now,
                         qo_err_t *err);

    /* Removes dead records, at most `max`; `*more` tells that some may be left. */
    qo_status_t (*sweep)(qo_store_t *store, apr_time_t now, uint32_t max, bool *more,
                         qo_err_t *err);
    qo_status_t (*status)(qo_store_t *store, qo_store_status_t *out, qo_err_t *err);
    /* Visits some of the live sessions and moves `cursor` on; again until cursor->done.
     * Those that live all the while are visited at least once, maybe twice. Holds up
     * nobody. NULL where the provider cannot. */
    qo_status_t (*session_walk)(qo_store_t *store, apr_pool_t *p, qo_store_cursor_t *cursor,
                                qo_store_visit_t visit, void *data, apr_time_t now,
                                qo_err_t *err);
} qo_store_provider_t;

/* First member of every provider's own store. */
struct qo_store_t {
    const qo_store_provider_t *provider;
};

#endif
