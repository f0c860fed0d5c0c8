/* kill -9 in the middle of the store's writes. Four processes create, replace, lease, touch
 * and end sessions, some their own, some in common; one sweeps and one walks beside them.
 * Each notes in shared memory what it begins and what it has been told, so that after its
 * death this process can hold the store to every word it has given. */
#include "process.h"
#include "qo_store_lmdb.h"
#include "qo_store_lmdb_env.h"
#include "store_port.h"
#include "tap.h"

#include <apr_general.h>

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#define WRITERS 4
#define SWEEPER WRITERS
#define WALKER (WRITERS + 1)
#define PROCESSES (WRITERS + 2)
#define OWN 8    /* sessions each writer has for itself */
#define COMMON 6 /* and those all of them fight for */
#define LIFE 10000000

typedef enum { NOTHING, CREATE, REPLACE, TOUCH, ACQUIRE, RELEASE, DELETE, STEPS } step_t;

static const char *const step_names[] = {"between", "create",  "replace", "touch",
                                         "acquire", "release", "delete"};

typedef struct {
    uint32_t life;    /* how often it was created, or tried to be */
    uint64_t version; /* as told; 0: it is not there, as told */
    step_t doing;
    bool leased; /* told so */
} own_t;

/* Of one process, written by it alone while it lives. */
typedef struct {
    own_t own[OWN];
    int slot;                  /* the one it is at */
    uint32_t put, taken;       /* pending logins, as told */
    bool taking;               /* it is about to be told */
    uint32_t dying;            /* sessions made to expire soon */
    _Atomic uint32_t progress; /* calls that were answered */
    _Atomic uint32_t wrong;    /* answers that must not be */
} diary_t;

typedef struct {
    diary_t diary[PROCESSES];
    /* life << 32 | version as told; grows only. Lives before this one have ended. */
    _Atomic uint64_t common[COMMON];
    _Atomic uint32_t tick; /* seconds since the beginning; moved on at every kill */
    char why[PROCESSES][120];
} board_t;

static const qo_store_provider_t *const L = &qo_store_lmdb_provider;
static apr_pool_t *root_pool;
static board_t *board;
static apr_time_t t0;
static unsigned int patience;

/* -- words ----------------------------------------------------------------------------- */

static apr_time_t now(void)
{
    return t0 + apr_time_from_sec(atomic_load(&board->tick));
}

static qo_hash_t key_of(unsigned int whose, unsigned int slot, uint32_t life)
{
    return store_port_key(whose << 24 | slot << 18 | life);
}

static qo_hash_t own_key(int who, int slot)
{
    return key_of((unsigned int)who + 1, (unsigned int)slot,
                  board->diary[who].own[slot].life);
}

static qo_hash_t common_key(int slot, uint32_t life)
{
    return key_of(100, (unsigned int)slot, life);
}

/* The value of a version: it tells whose and which it is, and has a length of its own. */
static qo_bytes_t value_of(unsigned char *buffer, const qo_hash_t *key, uint64_t version)
{
    size_t len = 200 + (size_t)(version * 977 + key->bytes[0] * 13U) % 3000;

    memset(buffer, (int)(version & 0xff), len);
    memcpy(buffer, key->bytes, QO_HASH_LEN);
    memcpy(buffer + QO_HASH_LEN, &version, sizeof(version));
    return (qo_bytes_t){buffer, len};
}

static bool is_value_of(qo_bytes_t value, const qo_hash_t *key, uint64_t version)
{
    static unsigned char expected[QO_LIMIT_RECORD];
    qo_bytes_t whole = value_of(expected, key, version);

    return value.len == whole.len && memcmp(value.data, whole.data, whole.len) == 0;
}

static void wrong(int who, const char *what, qo_status_t status)
{
    if (atomic_fetch_add(&board->diary[who].wrong, 1) == 0) {
        (void)snprintf(board->why[who], sizeof(board->why[who]), "%s: %d", what,
                       (int)status);
    }
}

static void expect(int who, bool good, const char *what, qo_status_t status)
{
    if (!good) {
        wrong(who, what, status);
    }
}

static uint32_t draw(uint32_t *seed)
{
    *seed = *seed * 1664525U + 1013904223U;
    return *seed >> 16;
}

/* NOT_FOUND, or the version that is there; its value must be that version's. */
static qo_status_t look(int who, qo_store_t *s, const qo_hash_t *key, uint64_t *version)
{
    apr_pool_t *p;
    qo_store_meta_t meta = {.version = 0};
    qo_bytes_t value;
    qo_status_t status;

    if (apr_pool_create(&p, root_pool) != APR_SUCCESS) {
        abort();
    }
    status = L->session_get(s, p, key, &value, &meta, now(), NULL);
    expect(who, status == QO_OK || status == QO_E_NOT_FOUND, "get", status);
    expect(who, status != QO_OK || is_value_of(value, key, meta.version),
           "a value of another version", status);
    *version = status == QO_OK ? meta.version : 0;
    apr_pool_destroy(p);
    return status;
}

static qo_status_t create(qo_store_t *s, const qo_hash_t *key, int life)
{
    static unsigned char buffer[QO_LIMIT_RECORD];

    return L->session_create(s, key, value_of(buffer, key, 1), t0 + apr_time_from_sec(life),
                             0, now(), NULL);
}

static qo_status_t replace(qo_store_t *s, const qo_hash_t *key, uint64_t version)
{
    static unsigned char buffer[QO_LIMIT_RECORD];

    return L->session_replace(s, key, version, value_of(buffer, key, version + 1), now(),
                              NULL);
}

static qo_status_t acquire(qo_store_t *s, const qo_hash_t *key, qo_lease_t *lease,
                           uint64_t generation)
{
    *lease = store_port_wish(generation);
    return L->lease_acquire(s, key, lease, apr_time_from_sec(600), now(), NULL);
}

/* -- a writer's own sessions ----------------------------------------------------------- */

static void own_create(int who, own_t *own, qo_store_t *s)
{
    qo_hash_t key;
    qo_status_t status;

    own->life++;
    own->doing = CREATE;
    key = own_key(who, board->diary[who].slot);
    status = create(s, &key, LIFE);
    expect(who, status == QO_OK, "create", status);
    own->version = 1;
    own->doing = NOTHING;
}

static void own_refresh(int who, own_t *own, qo_store_t *s, const qo_hash_t *key,
                        bool fails)
{
    qo_lease_t lease;
    qo_status_t status;

    own->doing = ACQUIRE;
    status = acquire(s, key, &lease, own->version);
    expect(who, status == QO_OK, "acquire", status);
    own->leased = true;
    own->doing = REPLACE;
    (void)usleep(fails ? 100 : 0); /* Qonto is asked */
    status = fails ? QO_OK : replace(s, key, own->version);
    expect(who, status == QO_OK, "replace", status);
    own->version += fails ? 0 : 1;
    own->doing = RELEASE;
    own->leased = false;
    status = L->lease_release(s, key, &lease, fails ? QO_E_BUSY : QO_OK, 0, NULL);
    expect(who, status == QO_OK, "release", status);
    own->doing = NOTHING;
}

static void own_touch(int who, own_t *own, qo_store_t *s, const qo_hash_t *key)
{
    qo_status_t status;

    own->doing = TOUCH;
    status = L->touch(s, key, now(), NULL);
    expect(who, status == QO_OK, "touch", status);
    own->doing = NOTHING;
}

static void own_delete(int who, own_t *own, qo_store_t *s, const qo_hash_t *key)
{
    qo_status_t status;

    own->doing = DELETE;
    status = L->session_delete(s, key, own->version, now(), NULL);
    expect(who, status == QO_OK, "delete", status);
    own->version = 0;
    own->doing = NOTHING;
}

/* Syncing takes so long that who does it is hardly ever killed elsewhere. The others write
 * little but volatile.mdb, in which that does not happen. */
static bool is_heavy(int who)
{
    return who < WRITERS / 2;
}

static void use_own(int who, qo_store_t *s, uint32_t *seed)
{
    diary_t *diary = &board->diary[who];
    own_t *own;
    qo_hash_t key;
    uint32_t what = draw(seed) % 16;

    diary->slot = (int)(draw(seed) % OWN);
    own = &diary->own[diary->slot];
    if (own->version == 0) {
        own_create(who, own, s);
        return;
    }
    key = own_key(who, diary->slot);
    if (what < 3 && is_heavy(who)) {
        own_delete(who, own, s, &key);
    } else if (what < 5) {
        own_touch(who, own, s, &key);
    } else {
        own_refresh(who, own, s, &key, what < 7 || !is_heavy(who));
    }
}

/* -- common sessions ------------------------------------------------------------------- */

static void tell_common(int slot, uint32_t life, uint64_t version)
{
    uint64_t told = (uint64_t)life << 32 | version;
    uint64_t before = atomic_load(&board->common[slot]);

    while (before < told &&
           !atomic_compare_exchange_weak(&board->common[slot], &before, told)) {
    }
}

/* One that is not found has not been made yet, or has been ended, and then it cannot be
 * made; it cannot be lost. */
static void common_missing(int who, qo_store_t *s, int slot, uint64_t told)
{
    uint32_t life = (uint32_t)(told >> 32);
    qo_hash_t key = common_key(slot, life);
    qo_status_t status = create(s, &key, LIFE);
    uint64_t version;

    if (status == QO_OK) {
        expect(who, (told & UINT32_MAX) == 0, "a session was lost", status);
        tell_common(slot, life, 1);
        return;
    }
    expect(who, status == QO_E_CONFLICT, "create in common", status);
    /* Somebody else may just have made it. */
    if (look(who, s, &key, &version) == QO_E_NOT_FOUND) {
        tell_common(slot, life + 1, 0);
    }
}

/* As whoever refreshes does it: lease, look again, replace, give back. */
static void common_refresh(int who, qo_store_t *s, int slot, uint32_t life,
                           uint64_t version)
{
    qo_hash_t key = common_key(slot, life);
    qo_lease_t lease;
    uint64_t present;
    qo_status_t status = acquire(s, &key, &lease, version);

    expect(who, status == QO_OK || status == QO_E_CONFLICT || status == QO_E_NOT_FOUND,
           "acquire in common", status);
    if (status != QO_OK) {
        return;
    }
    if (look(who, s, &key, &present) == QO_OK && present == version) {
        status = replace(s, &key, version);
        expect(who, status == QO_OK || status == QO_E_NOT_FOUND,
               "replace in spite of the lease", status);
        if (status == QO_OK) {
            tell_common(slot, life, version + 1);
        }
    }
    status = L->lease_release(s, &key, &lease, QO_OK, 0, NULL);
    expect(who, status == QO_OK || status == QO_E_CONFLICT, "release in common", status);
    /* The next generation may be leased before this one's lease is given back. */
    expect(who,
           status == QO_OK || look(who, s, &key, &present) != QO_OK || present > version,
           "a lease was taken away", status);
}

static void use_common(int who, qo_store_t *s, uint32_t *seed)
{
    int slot = (int)(draw(seed) % COMMON);
    uint64_t told = atomic_load(&board->common[slot]), version;
    uint32_t life = (uint32_t)(told >> 32);
    qo_hash_t key = common_key(slot, life);
    qo_status_t status = look(who, s, &key, &version);

    if (status == QO_E_NOT_FOUND) {
        common_missing(who, s, slot, told);
        return;
    }
    expect(who, version >= (told & UINT32_MAX), "an old version is back", status);
    if (draw(seed) % 16 != 0) {
        common_refresh(who, s, slot, life, version);
        return;
    }
    status = L->session_delete(s, &key, QO_STORE_ANY, now(), NULL);
    expect(who, status == QO_OK || status == QO_E_NOT_FOUND, "delete in common", status);
    tell_common(slot, life + 1, 0);
}

/* -- the processes --------------------------------------------------------------------- */

static void use_pending(int who, qo_store_t *s)
{
    diary_t *diary = &board->diary[who];
    qo_hash_t key = key_of(120 + (unsigned int)who, 0, diary->put + 1);
    qo_status_t status = L->pending_put(s, &key, store_port_value("login"),
                                        t0 + apr_time_from_sec(LIFE), now(), NULL);

    /* The one before may have been killed between its answer and its note. */
    expect(who, status == QO_OK || status == QO_E_CONFLICT, "put", status);
    diary->put++;
    diary->taking = true;
    status = L->pending_take(s, &key, now(), NULL);
    expect(who, status == QO_OK || status == QO_E_CONFLICT, "take", status);
    diary->taken = diary->put;
    diary->taking = false;
}

/* Work for the sweeper. */
static void use_dying(int who, qo_store_t *s)
{
    qo_hash_t key = key_of(140 + (unsigned int)who, 0, ++board->diary[who].dying);
    qo_status_t status = create(s, &key, (int)atomic_load(&board->tick) + 2);

    expect(who, status == QO_OK, "create", status);
}

static void write_on(int who, qo_store_t *s, uint32_t *seed)
{
    uint32_t what = draw(seed) % 32;

    if (what < 4) {
        use_pending(who, s);
    } else if (what < 16) {
        use_own(who, s, seed);
    } else if (!is_heavy(who) && what > 17) {
        use_own(who, s, seed);
    } else if (what < 20) {
        use_dying(who, s);
    } else {
        use_common(who, s, seed);
    }
}

static void visit(void *data, const qo_hash_t *key, qo_bytes_t value,
                  const qo_store_meta_t *meta)
{
    (void)data;
    expect(WALKER, is_value_of(value, key, meta->version), "a walk met another", QO_OK);
}

static void walk_on(qo_store_t *s)
{
    qo_store_cursor_t cursor = {.done = false};
    apr_pool_t *p;
    qo_status_t status = QO_OK;

    if (apr_pool_create(&p, root_pool) != APR_SUCCESS) {
        abort();
    }
    while (status == QO_OK && !cursor.done) {
        status = L->session_walk(s, p, &cursor, visit, NULL, now(), NULL);
    }
    expect(WALKER, status == QO_OK, "walk", status);
    apr_pool_destroy(p);
    (void)usleep(500);
}

static void sweep_on(qo_store_t *s)
{
    bool more;
    qo_status_t status = L->sweep(s, now(), 20, &more, NULL);

    expect(SWEEPER, status == QO_OK, "sweep", status);
    (void)usleep(500);
}

static void run(int who, qo_store_t *s, apr_pool_t *p, pid_t parent, uint32_t seed)
{
    if (L->attach(s, p, NULL) != QO_OK) {
        _exit(1);
    }
    while (getppid() == parent) {
        if (who == SWEEPER) {
            sweep_on(s);
        } else if (who == WALKER) {
            walk_on(s);
        } else {
            write_on(who, s, &seed);
        }
        (void)atomic_fetch_add(&board->diary[who].progress, 1);
    }
    _exit(0);
}

/* -- the judge ------------------------------------------------------------------------- */

typedef struct {
    qo_store_t *store;
    uint32_t lost;      /* sessions that were told to be there */
    uint32_t back;      /* sessions that were told to have ended */
    uint32_t old;       /* versions older or newer than can be */
    uint32_t kept_out;  /* leases that a dead process still held */
    uint32_t taken;     /* leases that a dead process left */
    uint32_t damaged;   /* walks through the files that found something */
    uint32_t logins;    /* pending logins not as told */
    apr_time_t longest; /* that any verdict took */
    uint32_t during[STEPS];
} judge_t;

/* Ended for good: not found, and not made again. */
static bool is_buried(judge_t *j, int who, const qo_hash_t *key)
{
    uint64_t version;

    return look(who, j->store, key, &version) == QO_E_NOT_FOUND &&
           create(j->store, key, LIFE) == QO_E_CONFLICT;
}

/* The lease of a session whose only user is dead. */
static void judge_lease(judge_t *j, const own_t *own, const qo_hash_t *key)
{
    qo_lease_t lease;

    if (acquire(j->store, key, &lease, own->version) != QO_OK ||
        L->lease_release(j->store, key, &lease, QO_OK, 0, NULL) != QO_OK) {
        j->kept_out++;
    }
    j->taken += own->leased;
}

/* Corrects the note where the process was killed before it could write down the answer. */
static void judge_own(judge_t *j, int who, int slot)
{
    own_t *own = &board->diary[who].own[slot];
    qo_hash_t key = own_key(who, slot);
    uint64_t version;
    qo_status_t status = look(who, j->store, &key, &version);

    j->during[own->doing]++;
    if (status == QO_OK) {
        j->back += own->version == 0 && own->doing != CREATE;
        j->old += own->version != 0 && version != own->version &&
                  !(own->doing == REPLACE && version == own->version + 1);
        own->version = version;
        judge_lease(j, own, &key);
    } else {
        j->lost += own->version != 0 && own->doing != DELETE;
        j->back += own->life > 0 && own->doing != CREATE && !is_buried(j, who, &key);
        own->life -= own->doing == CREATE; /* it never lived */
        own->version = 0;
    }
    own->doing = NOTHING;
    own->leased = false;
}

/* The others are still at it: the note is read first, and what it says must hold. */
static void judge_common(judge_t *j, int slot, pid_t dead)
{
    uint64_t told = atomic_load(&board->common[slot]), version;
    uint32_t life = (uint32_t)(told >> 32);
    qo_hash_t key = common_key(slot, life);
    qo_lease_t lease;
    qo_status_t status = look(0, j->store, &key, &version);

    if (status == QO_OK) {
        j->old += version < (told & UINT32_MAX);
        status = acquire(j->store, &key, &lease, version);
        j->kept_out += status == QO_E_CONFLICT && lease.holder.pid == (uint32_t)dead;
        if (status == QO_OK) {
            status = L->lease_release(j->store, &key, &lease, QO_OK, 0, NULL);
        }
    } else {
        common_missing(0, j->store, slot, told);
    }
    if (life > 0) {
        key = common_key(slot, life - 1);
        j->back += !is_buried(j, 0, &key);
    }
}

static void judge_pending(judge_t *j, int who)
{
    diary_t *diary = &board->diary[who];
    qo_hash_t key = key_of(120 + (unsigned int)who, 0, diary->put);
    apr_pool_t *p;
    qo_bytes_t value;
    bool taken;

    if (diary->put == 0 || apr_pool_create(&p, root_pool) != APR_SUCCESS) {
        return;
    }
    if (L->pending_get(j->store, p, &key, &value, &taken, now(), NULL) != QO_OK ||
        !store_port_same(value, "login") ||
        (!taken && diary->taken == diary->put && !diary->taking)) {
        j->logins++;
    }
    diary->taking = false;
    apr_pool_destroy(p);
}

static void judge_files(judge_t *j)
{
    const qo_store_lmdb_t *own = (qo_store_lmdb_t *)j->store;

    j->damaged += qo_store_lmdb_env_walk(&own->sessions, &qo_store_lmdb_sessions) != 0;
    j->damaged += qo_store_lmdb_env_walk(&own->fleeting, &qo_store_lmdb_volatile) != 0;
}

static void judge(judge_t *j, int who, pid_t dead)
{
    apr_time_t began = qo_lease_clock(), took;

    (void)alarm(patience); /* who hangs, fails */
    judge_files(j);
    for (int slot = 0; who < WRITERS && slot < OWN; slot++) {
        judge_own(j, who, slot);
    }
    for (int slot = 0; slot < COMMON; slot++) {
        judge_common(j, slot, dead);
    }
    if (who < WRITERS) {
        judge_pending(j, who);
    }
    (void)alarm(0);
    took = qo_lease_clock() - began;
    j->longest = took > j->longest ? took : j->longest;
}

/* -- the executioner ------------------------------------------------------------------- */

typedef struct {
    qo_store_t *store; /* prepared, for a child to attach */
    apr_pool_t *pool;
    pid_t pid[PROCESSES];
} crowd_t;

static void start(crowd_t *crowd, int who, uint32_t seed)
{
    pid_t parent = getpid();

    crowd->pid[who] = fork();
    if (crowd->pid[who] == 0) {
        run(who, crowd->store, crowd->pool, parent, seed);
    }
    if (crowd->pid[who] < 0) {
        abort();
    }
}

/* When it has done something, and a moment later, it dies. */
static void stop(crowd_t *crowd, int who, uint32_t moment, uint32_t *stuck)
{
    uint32_t before = atomic_load(&board->diary[who].progress);
    apr_time_t end = qo_lease_clock() + store_port_patience();

    while (atomic_load(&board->diary[who].progress) < before + 2 &&
           qo_lease_clock() < end) {
        (void)usleep(200);
    }
    *stuck += atomic_load(&board->diary[who].progress) < before + 2;
    (void)usleep(moment);
    (void)kill(crowd->pid[who], SIGKILL);
    *stuck += process_wait(crowd->pid[who]) != -1;
}

static int whom(int turn)
{
    if (turn % 12 == 11) {
        return turn % 24 == 11 ? SWEEPER : WALKER;
    }
    return turn % WRITERS;
}

static uint32_t sum_progress(int from, int to)
{
    uint32_t sum = 0;

    for (int who = from; who <= to; who++) {
        sum += atomic_load(&board->diary[who].progress);
    }
    return sum;
}

/* Everything that was ever ended, and the last word on everything that was not. */
static void judge_all(judge_t *j)
{
    for (int who = 0; who < PROCESSES; who++) {
        judge(j, who, 0);
    }
    for (unsigned int who = 0; who < WRITERS; who++) {
        for (unsigned int slot = 0; slot < OWN; slot++) {
            for (uint32_t life = 1; life < board->diary[who].own[slot].life; life++) {
                qo_hash_t key = key_of(who + 1, slot, life);
                uint64_t version;

                j->back += look(0, j->store, &key, &version) != QO_E_NOT_FOUND;
            }
        }
    }
}

static void report(const judge_t *j, uint32_t stuck, int kills)
{
    uint32_t wrongs = 0;

    for (int who = 0; who < PROCESSES; who++) {
        wrongs += atomic_load(&board->diary[who].wrong);
        if (board->why[who][0] != '\0') {
            printf("# process %d: %s\n", who, board->why[who]);
        }
    }
    printf("# %u calls of writers, %u sweeps, %u walks; the longest verdict took %ld us\n",
           sum_progress(0, WRITERS - 1), sum_progress(SWEEPER, SWEEPER),
           sum_progress(WALKER, WALKER), (long)j->longest);
    printf("# killed in:");
    for (int step = 1; step < STEPS; step++) {
        printf(" %s %u", step_names[step], j->during[step]);
    }
    printf("\n");
    tap_int(stuck, 0, "processes were killed, and none was stuck before");
    tap_int(wrongs, 0, "nobody was told what cannot be");
    tap_int(j->damaged, 0, "the files are whole after each kill");
    tap_int(j->lost, 0, "no session is lost");
    tap_int(j->back, 0, "none that was ended is back");
    tap_int(j->old, 0, "and none at another version than was told");
    tap_int(j->kept_out, 0, "no dead process keeps a lease");
    tap_ok(j->taken > 0, "though many left one: %u in %d kills", j->taken, kills);
    tap_int(j->logins, 0, "pending logins are as they were");
}

static void test_kills(const char *dir, int kills)
{
    qo_store_setup_t setup = {.argument = dir, .uid = -1, .gid = -1};
    crowd_t crowd = {.pool = root_pool};
    judge_t j = {.longest = 0};
    qo_err_t err = {.detail = ""};
    qo_store_t *again;
    uint32_t stuck = 0, seed = 1;

    if (L->prepare(&crowd.store, root_pool, &setup, NULL) != QO_OK ||
        L->prepare(&j.store, root_pool, &setup, NULL) != QO_OK ||
        L->attach(j.store, root_pool, NULL) != QO_OK) {
        abort();
    }
    for (int who = 0; who < PROCESSES; who++) {
        start(&crowd, who, (uint32_t)who);
    }
    for (int turn = 0; turn < kills && stuck < 3; turn++) {
        int who = whom(turn);

        stop(&crowd, who, draw(&seed) % 3000, &stuck);
        judge(&j, who, crowd.pid[who]);
        (void)atomic_fetch_add(&board->tick, 1);
        start(&crowd, who, (uint32_t)(turn * 31 + 7));
    }
    for (int who = 0; who < PROCESSES; who++) {
        (void)kill(crowd.pid[who], SIGKILL);
        (void)process_wait(crowd.pid[who]);
    }
    judge_all(&j);
    report(&j, stuck, kills);
    tap_int(L->prepare(&again, root_pool, &setup, &err), QO_OK, "the next start");
    tap_is(err.detail, "", "finds nothing to say");
}

int main(void)
{
    const char *place;

    if (apr_initialize() != APR_SUCCESS ||
        apr_pool_create(&root_pool, NULL) != APR_SUCCESS || qo_crypto_init() != QO_OK) {
        return 1;
    }
    patience = (unsigned int)(30 * process_slow());
    board = process_shared(sizeof(*board));
    t0 = apr_time_now();
    place = process_place(root_pool, "qo_store_kill");
    test_kills(apr_pstrcat(root_pool, place, "/store", NULL),
               process_slow() > 1 ? 60 : 200);
    apr_pool_destroy(root_pool);
    process_remove(place);
    apr_terminate();
    return tap_done();
}
