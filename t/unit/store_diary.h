/* What a store is held to when processes that use it are killed. Writers create, replace,
 * lease, touch and end sessions, some their own, some in common, and put and take logins.
 * Each notes in shared memory what it begins and what it has been told, so that after its
 * death somebody else can hold the store to every word it has given.
 *
 * One writer is one number, and one thread of one process at a time. */
#ifndef STORE_DIARY_H
#define STORE_DIARY_H

#include "store_port.h"

#include <stdatomic.h>

#define DIARY_MOST 24 /* writers, sweeper and walker */
#define DIARY_VALUE 4096
#define DIARY_OWN 8    /* sessions each writer has for itself */
#define DIARY_COMMON 6 /* and those all of them fight for */
#define DIARY_LIFE 10000000

typedef enum {
    DIARY_NOTHING,
    DIARY_CREATE,
    DIARY_REPLACE,
    DIARY_TOUCH,
    DIARY_ACQUIRE,
    DIARY_RELEASE,
    DIARY_DELETE,
    DIARY_STEP_COUNT
} diary_step_t;

static const char *const DIARY_STEPS[] = {"between", "create",  "replace", "touch",
                                          "acquire", "release", "delete"};

typedef struct {
    uint32_t life;    /* how often it was created, or tried to be */
    uint64_t version; /* as told; 0: it is not there, as told */
    diary_step_t doing;
    bool leased; /* told so */
} diary_own_t;

/* Of one process, written by it alone while it lives. */
typedef struct {
    diary_own_t own[DIARY_OWN];
    int slot;                  /* the one it is at */
    int common;                /* the one in common it is at, counted from 1 */
    uint32_t put, taken;       /* pending logins, as told */
    bool taking;               /* it is about to be told */
    uint32_t dying;            /* sessions made to expire soon */
    _Atomic uint32_t progress; /* calls that were answered */
    _Atomic uint32_t wrong;    /* answers that must not be */
} diary_t;

/* Shared by all; the writers of a crowd come first, then its sweeper and its walker. */
typedef struct {
    diary_t diary[DIARY_MOST];
    apr_time_t t0;
    int writers;
    int heavy; /* the first so many; see diary_is_heavy */
    /* life << 32 | version as told; grows only. Lives before this one have ended. */
    _Atomic uint64_t common[DIARY_COMMON];
    _Atomic uint32_t missed[DIARY_COMMON]; /* how often it was gone, and not ended */
    _Atomic uint32_t tick; /* seconds since the beginning; moved on at every kill */
    char why[DIARY_MOST][120];
} diary_board_t;

static const qo_store_provider_t *diary_provider;
static diary_board_t *diary_board;

/* -- words ----------------------------------------------------------------------------- */

static inline apr_time_t diary_now(void)
{
    return diary_board->t0 + apr_time_from_sec(atomic_load(&diary_board->tick));
}

static inline qo_hash_t diary_key_of(unsigned int whose, unsigned int slot, uint32_t life)
{
    return store_port_key(whose << 24 | slot << 18 | life);
}

static inline qo_hash_t diary_own_key(int who, int slot)
{
    return diary_key_of((unsigned int)who + 1, (unsigned int)slot,
                        diary_board->diary[who].own[slot].life);
}

static inline qo_hash_t diary_common_key(int slot, uint32_t life)
{
    return diary_key_of(100, (unsigned int)slot, life);
}

/* The value of a version: it tells whose and which it is, and has a length of its own. */
static inline qo_bytes_t diary_value_of(unsigned char *buffer, const qo_hash_t *key,
                                        uint64_t version)
{
    size_t len = 200 + (size_t)(version * 977 + key->bytes[0] * 13U) % 3000;

    memset(buffer, (int)(version & 0xff), len);
    memcpy(buffer, key->bytes, QO_HASH_LEN);
    memcpy(buffer + QO_HASH_LEN, &version, sizeof(version));
    return (qo_bytes_t){buffer, len};
}

static inline bool diary_is_value_of(qo_bytes_t value, const qo_hash_t *key,
                                     uint64_t version)
{
    unsigned char expected[DIARY_VALUE];
    qo_bytes_t whole = diary_value_of(expected, key, version);

    return value.len == whole.len && memcmp(value.data, whole.data, whole.len) == 0;
}

static inline void diary_wrong(int who, const char *what, qo_status_t status)
{
    if (atomic_fetch_add(&diary_board->diary[who].wrong, 1) == 0) {
        (void)snprintf(diary_board->why[who], sizeof(diary_board->why[who]), "%s: %d", what,
                       (int)status);
    }
}

static inline void diary_expect(int who, bool good, const char *what, qo_status_t status)
{
    if (!good) {
        diary_wrong(who, what, status);
    }
}

static inline uint32_t diary_draw(uint32_t *seed)
{
    *seed = *seed * 1664525U + 1013904223U;
    return *seed >> 16;
}

/* NOT_FOUND, or the version that is there; its value must be that version's. */
static inline qo_status_t diary_look(int who, qo_store_t *s, const qo_hash_t *key,
                                     uint64_t *version)
{
    apr_pool_t *p;
    qo_store_meta_t meta = {.version = 0};
    qo_bytes_t value;
    qo_status_t status;

    if (apr_pool_create(&p, NULL) != APR_SUCCESS) {
        abort();
    }
    status = diary_provider->session_get(s, p, key, &value, &meta, diary_now(), NULL);
    diary_expect(who, status == QO_OK || status == QO_E_NOT_FOUND, "get", status);
    diary_expect(who, status != QO_OK || diary_is_value_of(value, key, meta.version),
                 "a value of another version", status);
    *version = status == QO_OK ? meta.version : 0;
    apr_pool_destroy(p);
    return status;
}

static inline qo_status_t diary_create(qo_store_t *s, const qo_hash_t *key, int life)
{
    unsigned char buffer[DIARY_VALUE];

    return diary_provider->session_create(s, key, diary_value_of(buffer, key, 1),
                                          diary_board->t0 + apr_time_from_sec(life), 0,
                                          diary_now(), NULL);
}

static inline qo_status_t diary_replace(qo_store_t *s, const qo_hash_t *key,
                                        uint64_t version)
{
    unsigned char buffer[DIARY_VALUE];

    return diary_provider->session_replace(
        s, key, version, diary_value_of(buffer, key, version + 1), diary_now(), NULL);
}

static inline qo_status_t diary_acquire(qo_store_t *s, const qo_hash_t *key,
                                        qo_lease_t *lease, uint64_t generation)
{
    *lease = store_port_wish(generation);
    return diary_provider->lease_acquire(s, key, lease, apr_time_from_sec(600), diary_now(),
                                         NULL);
}

/* -- a writer's own sessions ----------------------------------------------------------- */

static inline void diary_own_create(int who, diary_own_t *own, qo_store_t *s)
{
    qo_hash_t key;
    qo_status_t status;

    own->life++;
    own->doing = DIARY_CREATE;
    key = diary_own_key(who, diary_board->diary[who].slot);
    status = diary_create(s, &key, DIARY_LIFE);
    diary_expect(who, status == QO_OK, "create", status);
    own->version = 1;
    own->doing = DIARY_NOTHING;
}

static inline void diary_own_refresh(int who, diary_own_t *own, qo_store_t *s,
                                     const qo_hash_t *key, bool fails)
{
    qo_lease_t lease;
    qo_status_t status;

    own->doing = DIARY_ACQUIRE;
    status = diary_acquire(s, key, &lease, own->version);
    diary_expect(who, status == QO_OK, "acquire", status);
    own->leased = true;
    own->doing = DIARY_REPLACE;
    (void)usleep(fails ? 100 : 0); /* Qonto is asked */
    status = fails ? QO_OK : diary_replace(s, key, own->version);
    diary_expect(who, status == QO_OK, "replace", status);
    own->version += fails ? 0 : 1;
    own->doing = DIARY_RELEASE;
    own->leased = false;
    status =
        diary_provider->lease_release(s, key, &lease, fails ? QO_E_BUSY : QO_OK, 0, NULL);
    diary_expect(who, status == QO_OK, "release", status);
    own->doing = DIARY_NOTHING;
}

static inline void diary_own_touch(int who, diary_own_t *own, qo_store_t *s,
                                   const qo_hash_t *key)
{
    qo_status_t status;

    own->doing = DIARY_TOUCH;
    status = diary_provider->touch(s, key, diary_now(), NULL);
    diary_expect(who, status == QO_OK, "touch", status);
    own->doing = DIARY_NOTHING;
}

static inline void diary_own_delete(int who, diary_own_t *own, qo_store_t *s,
                                    const qo_hash_t *key)
{
    qo_status_t status;

    own->doing = DIARY_DELETE;
    status = diary_provider->session_delete(s, key, own->version, diary_now(), NULL);
    diary_expect(who, status == QO_OK, "delete", status);
    own->version = 0;
    own->doing = DIARY_NOTHING;
}

/* Where syncing takes so long that who does it is hardly ever killed elsewhere, the others
 * write little but what needs none. */
static inline bool diary_is_heavy(int who)
{
    return who < diary_board->heavy;
}

static inline void diary_use_own(int who, qo_store_t *s, uint32_t *seed)
{
    diary_t *diary = &diary_board->diary[who];
    diary_own_t *own;
    qo_hash_t key;
    uint32_t what = diary_draw(seed) % 16;

    diary->slot = (int)(diary_draw(seed) % DIARY_OWN);
    own = &diary->own[diary->slot];
    if (own->version == 0) {
        diary_own_create(who, own, s);
        return;
    }
    key = diary_own_key(who, diary->slot);
    if (what < 3 && diary_is_heavy(who)) {
        diary_own_delete(who, own, s, &key);
    } else if (what < 5) {
        diary_own_touch(who, own, s, &key);
    } else {
        diary_own_refresh(who, own, s, &key, what < 7 || !diary_is_heavy(who));
    }
}

/* -- common sessions ------------------------------------------------------------------- */

static inline void diary_tell_common(int slot, uint32_t life, uint64_t version)
{
    uint64_t told = (uint64_t)life << 32 | version;
    uint64_t before = atomic_load(&diary_board->common[slot]);

    while (before < told &&
           !atomic_compare_exchange_weak(&diary_board->common[slot], &before, told)) {
    }
}

/* It was there, as told, and is not found. It has been ended, and then it cannot be made;
 * or it was lost. Either way its next life begins. */
static inline void diary_common_gone(int who, qo_store_t *s, int slot, uint32_t life)
{
    qo_hash_t key = diary_common_key(slot, life);
    qo_status_t status;

    diary_tell_common(slot, life + 1, 0);
    status = diary_create(s, &key, DIARY_LIFE);
    diary_expect(who, status == QO_OK || status == QO_E_CONFLICT, "create again", status);
    if (status == QO_OK) {
        (void)atomic_fetch_add(&diary_board->missed[slot], 1);
        status = diary_provider->session_delete(s, &key, QO_STORE_ANY, diary_now(), NULL);
        diary_expect(who, status == QO_OK, "delete what was lost", status);
    }
}

static inline void diary_common_missing(int who, qo_store_t *s, int slot, uint64_t told)
{
    uint32_t life = (uint32_t)(told >> 32);
    qo_hash_t key = diary_common_key(slot, life);
    qo_status_t status;
    uint64_t version;

    if ((told & UINT32_MAX) != 0) {
        diary_common_gone(who, s, slot, life);
        return;
    }
    status = diary_create(s, &key, DIARY_LIFE);
    if (status == QO_OK) {
        diary_tell_common(slot, life, 1);
        return;
    }
    diary_expect(who, status == QO_E_CONFLICT, "create in common", status);
    /* Somebody else may just have made it. */
    if (diary_look(who, s, &key, &version) == QO_E_NOT_FOUND) {
        diary_tell_common(slot, life + 1, 0);
    }
}

/* As whoever refreshes does it: lease, look again, replace, give back. */
static inline void diary_common_refresh(int who, qo_store_t *s, int slot, uint32_t life,
                                        uint64_t version)
{
    qo_hash_t key = diary_common_key(slot, life);
    qo_lease_t lease;
    uint64_t present;
    qo_status_t status = diary_acquire(s, &key, &lease, version);

    diary_expect(who,
                 status == QO_OK || status == QO_E_CONFLICT || status == QO_E_NOT_FOUND,
                 "acquire in common", status);
    if (status != QO_OK) {
        return;
    }
    if (diary_look(who, s, &key, &present) == QO_OK && present == version) {
        status = diary_replace(s, &key, version);
        diary_expect(who, status == QO_OK || status == QO_E_NOT_FOUND,
                     "replace in spite of the lease", status);
        if (status == QO_OK) {
            diary_tell_common(slot, life, version + 1);
        }
    }
    status = diary_provider->lease_release(s, &key, &lease, QO_OK, 0, NULL);
    diary_expect(who, status == QO_OK || status == QO_E_CONFLICT, "release in common",
                 status);
    /* The next generation may be leased before this one's lease is given back. */
    diary_expect(who,
                 status == QO_OK || diary_look(who, s, &key, &present) != QO_OK ||
                     present > version,
                 "a lease was taken away", status);
}

static inline void diary_use_common(int who, qo_store_t *s, uint32_t *seed)
{
    int slot = diary_board->diary[who].common - 1;
    uint64_t told = atomic_load(&diary_board->common[slot]), version;
    uint32_t life = (uint32_t)(told >> 32);
    qo_hash_t key = diary_common_key(slot, life);
    qo_status_t status = diary_look(who, s, &key, &version);

    if (status == QO_E_NOT_FOUND) {
        diary_common_missing(who, s, slot, told);
        return;
    }
    diary_expect(who,
                 version >= (told & UINT32_MAX) ||
                     atomic_load(&diary_board->common[slot]) >> 32 > life,
                 "an old version is back", status);
    if (diary_draw(seed) % 16 != 0) {
        diary_common_refresh(who, s, slot, life, version);
        return;
    }
    status = diary_provider->session_delete(s, &key, QO_STORE_ANY, diary_now(), NULL);
    diary_expect(who, status == QO_OK || status == QO_E_NOT_FOUND, "delete in common",
                 status);
    diary_tell_common(slot, life + 1, 0);
}

/* -- the processes --------------------------------------------------------------------- */

static inline void diary_use_pending(int who, qo_store_t *s)
{
    diary_t *diary = &diary_board->diary[who];
    qo_hash_t key = diary_key_of(120 + (unsigned int)who, 0, diary->put + 1);
    qo_status_t status = diary_provider->pending_put(
        s, &key, store_port_value("login"), diary_board->t0 + apr_time_from_sec(DIARY_LIFE),
        diary_now(), NULL);

    /* The one before may have been killed between its answer and its note. */
    diary_expect(who, status == QO_OK || status == QO_E_CONFLICT, "put", status);
    diary->put++;
    diary->taking = true;
    status = diary_provider->pending_take(s, &key, diary_now(), NULL);
    diary_expect(who, status == QO_OK || status == QO_E_CONFLICT, "take", status);
    diary->taken = diary->put;
    diary->taking = false;
}

/* Work for the sweeper. */
static inline void diary_use_dying(int who, qo_store_t *s)
{
    qo_hash_t key =
        diary_key_of(140 + (unsigned int)who, 0, ++diary_board->diary[who].dying);
    qo_status_t status = diary_create(s, &key, (int)atomic_load(&diary_board->tick) + 2);

    diary_expect(who, status == QO_OK, "create", status);
}

static inline void diary_write_on(int who, qo_store_t *s, uint32_t *seed)
{
    uint32_t what = diary_draw(seed) % 32;

    if (what < 4) {
        diary_use_pending(who, s);
    } else if (what < 16) {
        diary_use_own(who, s, seed);
    } else if (!diary_is_heavy(who) && what > 17) {
        diary_use_own(who, s, seed);
    } else if (what < 20) {
        diary_use_dying(who, s);
    } else {
        diary_board->diary[who].common = 1 + (int)(diary_draw(seed) % DIARY_COMMON);
        diary_use_common(who, s, seed);
        diary_board->diary[who].common = 0;
    }
}

/* -- the judge ------------------------------------------------------------------------- */

typedef struct {
    qo_store_t *store;
    bool frail;    /* a write that is cut short may cost what was there before */
    uint32_t lost; /* sessions that were told to be there, and nobody wrote */
    uint32_t torn; /* those that somebody was killed in writing */
    uint32_t hit[DIARY_COMMON]; /* so many were killed at it */
    uint32_t back;              /* sessions that were told to have ended */
    uint32_t old;               /* versions older or newer than can be */
    uint32_t kept_out;          /* leases that a dead process still held */
    uint32_t taken;             /* leases that a dead process left */
    uint32_t logins;            /* pending logins not as told */
    uint32_t during[DIARY_STEP_COUNT];
} diary_judge_t;

/* Ended for good: not found, and not made again. */
static inline bool diary_is_buried(diary_judge_t *j, int who, const qo_hash_t *key)
{
    uint64_t version;

    return diary_look(who, j->store, key, &version) == QO_E_NOT_FOUND &&
           diary_create(j->store, key, DIARY_LIFE) == QO_E_CONFLICT;
}

/* The lease of a session whose only user is dead. */
static inline void diary_judge_lease(diary_judge_t *j, const diary_own_t *own,
                                     const qo_hash_t *key)
{
    qo_lease_t lease;

    if (diary_acquire(j->store, key, &lease, own->version) != QO_OK ||
        diary_provider->lease_release(j->store, key, &lease, QO_OK, 0, NULL) != QO_OK) {
        j->kept_out++;
    }
    j->taken += own->leased;
}

static inline void diary_judge_missing(diary_judge_t *j, int who, diary_own_t *own,
                                       const qo_hash_t *key)
{
    bool told = own->version != 0 && own->doing != DIARY_DELETE;
    bool torn = own->doing == DIARY_REPLACE;

    j->torn += told && torn;
    j->lost += told && !torn;
    if (!told && own->life > 0 && own->doing != DIARY_CREATE &&
        !(j->frail && own->doing == DIARY_DELETE)) {
        j->back += !diary_is_buried(j, who, key);
    }
    own->life -= own->doing == DIARY_CREATE; /* it never lived */
    own->version = 0;
}

/* Corrects the note where the process was killed before it could write down the answer. */
static inline void diary_judge_own(diary_judge_t *j, int who, int slot)
{
    diary_own_t *own = &diary_board->diary[who].own[slot];
    qo_hash_t key = diary_own_key(who, slot);
    uint64_t version;
    qo_status_t status = diary_look(who, j->store, &key, &version);

    j->during[own->doing]++;
    if (status == QO_OK) {
        j->back += own->version == 0 && own->doing != DIARY_CREATE;
        j->old += own->version != 0 && version != own->version &&
                  !(own->doing == DIARY_REPLACE && version == own->version + 1);
        own->version = version;
        diary_judge_lease(j, own, &key);
    } else {
        diary_judge_missing(j, who, own, &key);
    }
    own->doing = DIARY_NOTHING;
    own->leased = false;
}

/* The others are still at it: the note is read first, and what it says must hold. */
static inline void diary_judge_common(diary_judge_t *j, int slot, pid_t dead)
{
    uint64_t told = atomic_load(&diary_board->common[slot]), version;
    uint32_t life = (uint32_t)(told >> 32);
    qo_hash_t key = diary_common_key(slot, life);
    qo_lease_t lease;
    qo_status_t status = diary_look(0, j->store, &key, &version);

    if (status == QO_OK) {
        j->old += version < (told & UINT32_MAX);
        status = diary_acquire(j->store, &key, &lease, version);
        j->kept_out += status == QO_E_CONFLICT && lease.holder.pid == (uint32_t)dead;
        if (status == QO_OK) {
            status = diary_provider->lease_release(j->store, &key, &lease, QO_OK, 0, NULL);
        }
    } else {
        diary_common_missing(0, j->store, slot, told);
    }
    if (life > 0) {
        key = diary_common_key(slot, life - 1);
        j->back += !diary_is_buried(j, 0, &key);
    }
}

/* What was missed in common, against who was killed at it. */
static inline void diary_judge_missed(diary_judge_t *j)
{
    for (int slot = 0; slot < DIARY_COMMON; slot++) {
        uint32_t missed = atomic_exchange(&diary_board->missed[slot], 0);
        uint32_t torn = missed < j->hit[slot] ? missed : j->hit[slot];

        j->torn += torn;
        j->lost += missed - torn;
    }
}

static inline void diary_judge_pending(diary_judge_t *j, int who)
{
    diary_t *diary = &diary_board->diary[who];
    qo_hash_t key = diary_key_of(120 + (unsigned int)who, 0, diary->put);
    apr_pool_t *p;
    qo_bytes_t value;
    bool taken;

    if (diary->put == 0 || apr_pool_create(&p, NULL) != APR_SUCCESS) {
        return;
    }
    if (diary_provider->pending_get(j->store, p, &key, &value, &taken, diary_now(), NULL) !=
            QO_OK ||
        !store_port_same(value, "login") ||
        (!taken && diary->taken == diary->put && !diary->taking)) {
        j->logins += !(j->frail && diary->taking);
    }
    diary->taking = false;
    apr_pool_destroy(p);
}

/* What a dead process still had on its way to a server has arrived once the server has
 * answered somebody else afterwards, twice. */
static inline void diary_settle(const diary_judge_t *j)
{
    qo_hash_t nobody = diary_key_of(160, 0, 0);
    uint64_t version;

    (void)diary_look(0, j->store, &nobody, &version);
    (void)diary_look(0, j->store, &nobody, &version);
}

/* `dead`: the process that was writer `who`; the others may be at it. */
static inline void diary_judge(diary_judge_t *j, int who, pid_t dead)
{
    diary_settle(j);
    for (int slot = 0; who < diary_board->writers && slot < DIARY_OWN; slot++) {
        diary_judge_own(j, who, slot);
    }
    if (diary_board->diary[who].common > 0) {
        j->hit[diary_board->diary[who].common - 1]++;
        diary_board->diary[who].common = 0;
    }
    for (int slot = 0; slot < DIARY_COMMON; slot++) {
        diary_judge_common(j, slot, dead);
    }
    if (who < diary_board->writers) {
        diary_judge_pending(j, who);
    }
}

/* Everything that was ever ended. */
static inline void diary_judge_ended(diary_judge_t *j)
{
    for (int who = 0; who < diary_board->writers; who++) {
        for (unsigned int slot = 0; slot < DIARY_OWN; slot++) {
            for (uint32_t life = 1; life < diary_board->diary[who].own[slot].life; life++) {
                qo_hash_t key = diary_key_of((unsigned int)who + 1, slot, life);
                uint64_t version;

                j->back += diary_look(0, j->store, &key, &version) != QO_E_NOT_FOUND;
            }
        }
    }
}

static inline uint32_t diary_wrongs(void)
{
    uint32_t wrongs = 0;

    for (int who = 0; who < DIARY_MOST; who++) {
        wrongs += atomic_load(&diary_board->diary[who].wrong);
    }
    return wrongs;
}

#endif
