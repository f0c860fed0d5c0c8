/* kill -9 in the middle of a store's writes. Four processes write (store_diary.h); one
 * sweeps and one walks beside them. Each is killed in its turn, and the store is judged at
 * once. */
#ifndef STORE_KILL_H
#define STORE_KILL_H

#include "process.h"
#include "store_diary.h"
#include "tap.h"

#include <apr_general.h>

#include <signal.h>
#include <unistd.h>

#define KILL_WRITERS 4
#define KILL_SWEEPER KILL_WRITERS
#define KILL_WALKER (KILL_WRITERS + 1)
#define KILL_PROCESSES (KILL_WRITERS + 2)

/* -- the processes --------------------------------------------------------------------- */

static inline void kill_visit(void *data, const qo_hash_t *key, qo_bytes_t value,
                              const qo_store_meta_t *meta)
{
    (void)data;
    diary_expect(KILL_WALKER, diary_is_value_of(value, key, meta->version),
                 "a walk met another", QO_OK);
}

static inline void kill_walk_on(qo_store_t *s)
{
    qo_store_cursor_t cursor = {.done = false};
    apr_pool_t *p;
    qo_status_t status = QO_OK;

    if (apr_pool_create(&p, NULL) != APR_SUCCESS) {
        abort();
    }
    while (status == QO_OK && !cursor.done) {
        status = diary_provider->session_walk(s, p, &cursor, kill_visit, NULL, diary_now(),
                                              NULL);
    }
    diary_expect(KILL_WALKER, status == QO_OK, "walk", status);
    apr_pool_destroy(p);
    (void)usleep(500);
}

static inline void kill_sweep_on(qo_store_t *s)
{
    bool more;
    qo_status_t status = diary_provider->sweep(s, diary_now(), 20, &more, NULL);

    diary_expect(KILL_SWEEPER, status == QO_OK, "sweep", status);
    (void)usleep(500);
}

static inline void kill_run(int who, qo_store_t *s, apr_pool_t *p, pid_t parent,
                            uint32_t seed)
{
    if (diary_provider->attach(s, p, NULL) != QO_OK) {
        _exit(1);
    }
    while (getppid() == parent) {
        if (who == KILL_SWEEPER) {
            kill_sweep_on(s);
        } else if (who == KILL_WALKER) {
            kill_walk_on(s);
        } else {
            diary_write_on(who, s, &seed);
        }
        (void)atomic_fetch_add(&diary_board->diary[who].progress, 1);
    }
    _exit(0);
}

/* -- the executioner ------------------------------------------------------------------- */

typedef struct {
    qo_store_t *store; /* prepared, for a child to attach */
    apr_pool_t *pool;
    pid_t pid[KILL_PROCESSES];
} kill_crowd_t;

static inline void kill_start(kill_crowd_t *crowd, int who, uint32_t seed)
{
    pid_t parent = getpid();

    crowd->pid[who] = fork();
    if (crowd->pid[who] == 0) {
        kill_run(who, crowd->store, crowd->pool, parent, seed);
    }
    if (crowd->pid[who] < 0) {
        abort();
    }
}

/* When it has done something, and a moment later, it dies. */
static inline void kill_stop(kill_crowd_t *crowd, int who, uint32_t moment, uint32_t *stuck)
{
    uint32_t before = atomic_load(&diary_board->diary[who].progress);
    apr_time_t end = qo_lease_clock() + store_port_patience();

    while (atomic_load(&diary_board->diary[who].progress) < before + 2 &&
           qo_lease_clock() < end) {
        (void)usleep(200);
    }
    *stuck += atomic_load(&diary_board->diary[who].progress) < before + 2;
    (void)usleep(moment);
    (void)kill(crowd->pid[who], SIGKILL);
    *stuck += process_wait(crowd->pid[who]) != -1;
}

static inline int kill_whom(int turn)
{
    if (turn % 12 == 11) {
        return turn % 24 == 11 ? KILL_SWEEPER : KILL_WALKER;
    }
    return turn % KILL_WRITERS;
}

static inline uint32_t kill_sum_progress(int from, int to)
{
    uint32_t sum = 0;

    for (int who = from; who <= to; who++) {
        sum += atomic_load(&diary_board->diary[who].progress);
    }
    return sum;
}

/* Of the files, where there are some. */
typedef uint32_t (*kill_damage_t)(const qo_store_t *store);

typedef struct {
    diary_judge_t diary;
    kill_damage_t damage; /* NULL: nothing to look at */
    uint32_t damaged;
    apr_time_t longest; /* that any verdict took */
} kill_judge_t;

static inline void kill_judge(kill_judge_t *j, int who, pid_t dead)
{
    apr_time_t began = qo_lease_clock(), took;

    (void)alarm((unsigned int)(30 * process_slow())); /* who hangs, fails */
    j->damaged += j->damage != NULL ? j->damage(j->diary.store) : 0;
    diary_judge(&j->diary, who, dead);
    (void)alarm(0);
    took = qo_lease_clock() - began;
    j->longest = took > j->longest ? took : j->longest;
}

static inline void kill_judge_all(kill_judge_t *j)
{
    for (int who = 0; who < KILL_PROCESSES; who++) {
        kill_judge(j, who, 0);
    }
    diary_judge_ended(&j->diary);
    diary_judge_missed(&j->diary);
}

static inline void kill_report(const kill_judge_t *j, uint32_t stuck, int kills)
{
    for (int who = 0; who < KILL_PROCESSES; who++) {
        if (diary_board->why[who][0] != '\0') {
            printf("# process %d: %s\n", who, diary_board->why[who]);
        }
    }
    printf("# %u calls of writers, %u sweeps, %u walks; the longest verdict took %ld us\n",
           kill_sum_progress(0, KILL_WRITERS - 1),
           kill_sum_progress(KILL_SWEEPER, KILL_SWEEPER),
           kill_sum_progress(KILL_WALKER, KILL_WALKER), (long)j->longest);
    printf("# killed in:");
    for (int step = 1; step < DIARY_STEP_COUNT; step++) {
        printf(" %s %u", DIARY_STEPS[step], j->diary.during[step]);
    }
    printf("\n");
    tap_int(stuck, 0, "processes were killed, and none was stuck before");
    tap_int(diary_wrongs(), 0, "nobody was told what cannot be");
    if (j->damage != NULL) {
        tap_int(j->damaged, 0, "the files are whole after each kill");
    }
    tap_int(j->diary.lost + j->diary.torn, 0, "no session is lost");
    tap_int(j->diary.back, 0, "none that was ended is back");
    tap_int(j->diary.old, 0, "and none at another version than was told");
    tap_int(j->diary.kept_out, 0, "no dead process keeps a lease");
    tap_ok(j->diary.taken > 0, "though many left one: %u in %d kills", j->diary.taken,
           kills);
    tap_int(j->diary.logins, 0, "pending logins are as they were");
}

/* `heavy`: so many of the writers do all, the others little that has to be synced. */
static inline void kill_test(const qo_store_provider_t *provider,
                             const qo_store_setup_t *setup, int heavy, kill_damage_t damage)
{
    int kills = process_slow() > 1 ? 60 : 200;
    kill_crowd_t crowd = {.store = NULL};
    kill_judge_t j = {.damage = damage};
    uint32_t stuck = 0, seed = 1;

    diary_provider = provider;
    diary_board = process_shared(sizeof(*diary_board));
    diary_board->t0 = apr_time_now();
    diary_board->writers = KILL_WRITERS;
    diary_board->heavy = heavy;
    if (apr_pool_create(&crowd.pool, NULL) != APR_SUCCESS ||
        provider->prepare(&crowd.store, crowd.pool, setup, NULL) != QO_OK ||
        provider->prepare(&j.diary.store, crowd.pool, setup, NULL) != QO_OK ||
        provider->attach(j.diary.store, crowd.pool, NULL) != QO_OK) {
        abort();
    }
    for (int who = 0; who < KILL_PROCESSES; who++) {
        kill_start(&crowd, who, (uint32_t)who);
    }
    for (int turn = 0; turn < kills && stuck < 3; turn++) {
        int who = kill_whom(turn);

        kill_stop(&crowd, who, diary_draw(&seed) % 3000, &stuck);
        kill_judge(&j, who, crowd.pid[who]);
        (void)atomic_fetch_add(&diary_board->tick, 1);
        kill_start(&crowd, who, (uint32_t)(turn * 31 + 7));
    }
    for (int who = 0; who < KILL_PROCESSES; who++) {
        (void)kill(crowd.pid[who], SIGKILL);
        (void)process_wait(crowd.pid[who]);
    }
    kill_judge_all(&j);
    kill_report(&j, stuck, kills);
    apr_pool_destroy(crowd.pool);
}

#endif
