/* The lease: who renews the tokens of which session, and until when. It is kept in the
 * session store and not in a mutex, so that it holds across threads, processes, graceful
 * restarts and hosts, outlives whoever took it, and tells the others what is going on.
 *
 *   [format 1][generation 8][nonce 16][host 16][pid 4][started 8]
 *   [until 8][first 8][again 8][failures 4][why 4]
 *
 * Every provider keeps one such record for a session and asks this room, inside its own
 * transaction, what may be done with it; so the rules are here once. Times are microseconds
 * on a clock of the provider's choice, the same for all who share the store: qo_lease_clock
 * on one host, the server's own over a network. */
#ifndef QO_LEASE_H
#define QO_LEASE_H

#include "qo_error.h"
#include "qo_pack.h"

#include <apr_time.h>

#include <stdbool.h>
#include <stdint.h>

#define QO_LEASE_LEN 85
#define QO_LEASE_ID 16

typedef struct {
    unsigned char nonce[QO_LEASE_ID]; /* this attempt and no other */
    unsigned char host[QO_LEASE_ID];  /* this boot of this machine, this PID namespace;
                                       * zeros where it cannot be known */
    uint32_t pid;
    uint64_t started; /* of that process, in clock ticks since the boot */
} qo_lease_holder_t;

typedef struct {
    uint64_t generation; /* version of the session whose refresh token is used */
    qo_lease_holder_t holder;
    apr_time_t until;  /* held until then; 0: nobody holds it, the last attempt failed */
    apr_time_t first;  /* when the first attempt with this generation began */
    apr_time_t again;  /* no new attempt before then */
    uint32_t failures; /* attempts of this generation that told of an error */
    uint32_t why;      /* number of the last error, 0 if there was none */
} qo_lease_t;

/* This thread of this process, with a fresh nonce. */
qo_status_t qo_lease_holder(qo_lease_holder_t *out) QO_MUST_CHECK;

/* Is it certain that the holder's process has ended? Only for holders of this very machine
 * and PID namespace; false whenever there is a doubt. */
bool qo_lease_holder_dead(const qo_lease_holder_t *holder);

/* Goes on while the machine sleeps, and no NTP step moves it (CLOCK_BOOTTIME). */
apr_time_t qo_lease_clock(void);

/* May `wanted`, whose generation and holder are set, be taken from `present` (NULL: there
 * is none)? If so the rest of `wanted` is filled in, to be written. If not, `*present` says
 * why: somebody holds it (until > clock), or it is not to be tried yet (again > clock).
 * `present` of an older generation, lapsed, or of a dead holder is in nobody's way .
 * One of a newer generation is, until it has lapsed: the caller's session is out of date,
 * or the store has forgotten the newest. Who gets the lease reads the session once more. */
bool qo_lease_take(qo_lease_t *wanted, const qo_lease_t *present, apr_time_t life,
                   apr_time_t clock);

/* What is left behind by a holder whose attempt failed: not held, not tried again before
 * `wait` has passed. */
void qo_lease_fail(qo_lease_t *lease, qo_status_t why, apr_time_t wait, apr_time_t clock);

/* Do both belong to the same attempt? */
bool qo_lease_same(const qo_lease_t *a, const qo_lease_t *b);

/* Until when the record is worth keeping. */
apr_time_t qo_lease_keep(const qo_lease_t *lease);

void qo_lease_encode(unsigned char out[QO_LEASE_LEN], const qo_lease_t *lease);

/* False for a damaged record or one of another format: as good as none. */
bool qo_lease_decode(qo_lease_t *out, const void *record, size_t len);

#endif
