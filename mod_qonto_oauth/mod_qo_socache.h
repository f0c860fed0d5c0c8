/* One of httpd's socache providers, made fit to hold sessions: the lower half of
 * mod_qo_store_socache. It keeps byte strings of four kinds under hashes; what they mean
 * is none of its business. What it adds to a bare socache stands in mod_qo_socache.c.
 *
 * A specification is "NAME" or "NAME:ARGUMENT" in the provider's own syntax. */
#ifndef MOD_QO_SOCACHE_H
#define MOD_QO_SOCACHE_H

#include "qo_crypto.h"
#include "qo_error.h"
#include "qo_pack.h"

#include <apr_pools.h>
#include <apr_time.h>

typedef struct mod_qo_socache_t mod_qo_socache_t;

typedef enum {
    MOD_QO_SOCACHE_SESSION,
    MOD_QO_SOCACHE_PENDING,
    MOD_QO_SOCACHE_SEEN,  /* when a session was last touched */
    MOD_QO_SOCACHE_LEASE, /* who renews its tokens */
    MOD_QO_SOCACHE_KINDS
} mod_qo_socache_kind_t;

/* One record's place, and what a call on it needs. A copy with another kind is the place
 * of the other kind's record under the same key. */
typedef struct {
    const mod_qo_socache_t *cache;
    mod_qo_socache_kind_t kind;
    const qo_hash_t *key;
    apr_pool_t *pool; /* what is read lives here */
    qo_err_t *err;
} mod_qo_socache_slot_t;

/* ---- set-up ---- */

/* In pre_config: makes "Mutex ... qonto-oauth-store" known. */
apr_status_t mod_qo_socache_register(apr_pool_t *pconf) QO_MUST_CHECK;

/* NULL, or a sentence in `p` that says what is wrong with the specification, in the
 * provider's own words where they are its own rules. Nothing is opened or made. */
const char *mod_qo_socache_check(apr_pool_t *p, apr_pool_t *tmp, const char *spec);

/* In post_config, with the configuration's pool. */
qo_status_t mod_qo_socache_make(mod_qo_socache_t **out, apr_pool_t *p, const char *spec,
                                qo_err_t *err) QO_MUST_CHECK;

/* In child_init, after qo_crypto_init. */
qo_status_t mod_qo_socache_open(mod_qo_socache_t *cache, apr_pool_t *p,
                                qo_err_t *err) QO_MUST_CHECK;

/* ---- use ---- */

/* Takes the mutex and fills `at`; its pool is emptied at the next enter. On QO_OK it must
 * be left again. The only other answer, here and below where nothing else is said, is
 * QO_E_STORE_UNAVAILABLE. */
qo_status_t mod_qo_socache_enter(mod_qo_socache_slot_t *at, mod_qo_socache_t *cache,
                                 mod_qo_socache_kind_t kind, const qo_hash_t *key,
                                 qo_err_t *err) QO_MUST_CHECK;

/* Gives the mutex back, and `status` to the caller. */
qo_status_t mod_qo_socache_leave(const mod_qo_socache_slot_t *at, qo_status_t status);

/* May mod_qo_socache_glance be called without the mutex? */
bool mod_qo_socache_lockless(const mod_qo_socache_t *cache);

/* Reads what is there. False says nothing: it may not be there, or the store may be down.
 */
bool mod_qo_socache_glance(const mod_qo_socache_slot_t *at, qo_bytes_t *out);

/* Reads it; QO_E_NOT_FOUND when the store answers and it really is not there. */
qo_status_t mod_qo_socache_read(const mod_qo_socache_slot_t *at,
                                qo_bytes_t *out) QO_MUST_CHECK;

/* QO_E_STORE_FULL when the store answers but does not take the record. A record that was
 * there before may be lost then. */
qo_status_t mod_qo_socache_write(const mod_qo_socache_slot_t *at, qo_bytes_t value,
                                 apr_time_t expires) QO_MUST_CHECK;

/* The same, for `life` from now by the machine's clock. */
qo_status_t mod_qo_socache_write_for(const mod_qo_socache_slot_t *at, qo_bytes_t value,
                                     apr_time_t life) QO_MUST_CHECK;

/* QO_OK when it was there and is gone, QO_E_NOT_FOUND when it was not there. */
qo_status_t mod_qo_socache_remove(const mod_qo_socache_slot_t *at) QO_MUST_CHECK;

/* Does the store answer? */
qo_status_t mod_qo_socache_probe(const mod_qo_socache_slot_t *at) QO_MUST_CHECK;

#endif
