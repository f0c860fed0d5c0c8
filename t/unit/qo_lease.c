/* The lease: what is written is read again, who may take it from whom, who counts as dead.
 */
#include "qo_lease.h"

#include "qo_crypto.h"
#include "qo_limits.h"
#include "tap.h"

#include <apr_general.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECONDS(n) ((apr_time_t)(n)*APR_USEC_PER_SEC)
#define CLOCK SECONDS(5000)
#define LIFE SECONDS(15)

/* ---- the record ---- */

static qo_lease_t sample(void)
{
    qo_lease_t lease;

    memset(&lease, 0, sizeof lease);
    lease.generation = 0x0102030405060708ULL;
    memset(lease.holder.nonce, 'n', QO_LEASE_ID);
    memset(lease.holder.host, 'h', QO_LEASE_ID);
    lease.holder.pid = 0x11121314U;
    lease.holder.started = 0x2122232425262728ULL;
    lease.until = 0x3132333435363738LL;
    lease.first = 0x4142434445464748LL;
    lease.again = 0x5152535455565758LL;
    lease.failures = 0x61626364U;
    lease.why = 0x71727374U;
    return lease;
}

static bool same_holder(const qo_lease_holder_t *a, const qo_lease_holder_t *b)
{
    return memcmp(a->nonce, b->nonce, QO_LEASE_ID) == 0 &&
           memcmp(a->host, b->host, QO_LEASE_ID) == 0 && a->pid == b->pid &&
           a->started == b->started;
}

static bool same(const qo_lease_t *a, const qo_lease_t *b)
{
    return a->generation == b->generation && same_holder(&a->holder, &b->holder) &&
           a->until == b->until && a->first == b->first && a->again == b->again &&
           a->failures == b->failures && a->why == b->why;
}

static void check_layout(void)
{
    static const unsigned char want[QO_LEASE_LEN] =
        "\x01\x01\x02\x03\x04\x05\x06\x07\x08nnnnnnnnnnnnnnnnhhhhhhhhhhhhhhhh"
        "\x11\x12\x13\x14\x21\x22\x23\x24\x25\x26\x27\x28"
        "12345678ABCDEFGHQRSTUVWXabcdqrst";
    unsigned char record[QO_LEASE_LEN + 1];
    qo_lease_t lease = sample();
    qo_lease_t back;

    record[QO_LEASE_LEN] = 0x5a;
    qo_lease_encode(record, &lease);
    tap_ok(memcmp(record, want, QO_LEASE_LEN) == 0, "the record is the header's drawing");
    tap_int(record[QO_LEASE_LEN], 0x5a, "and not a byte longer");
    memset(&back, 'Z', sizeof back);
    tap_ok(qo_lease_decode(&back, record, QO_LEASE_LEN) && same(&lease, &back),
           "it is read again");
    memset(&lease, 0, sizeof lease);
    lease.until = -1;
    qo_lease_encode(record, &lease);
    tap_ok(qo_lease_decode(&back, record, QO_LEASE_LEN) && same(&lease, &back),
           "zeros and a negative time, too");
}

/* Decodes a copy of its own size, so that a sanitizer sees the byte after it. */
static bool decoded(qo_lease_t *out, const unsigned char *record, size_t len)
{
    unsigned char *copy = malloc(len == 0 ? 1 : len);
    bool good;

    if (copy == NULL) {
        abort();
    }
    memcpy(copy, record, len);
    good = qo_lease_decode(out, copy, len);
    free(copy);
    return good;
}

static void check_lengths(void)
{
    unsigned char record[2 * QO_LEASE_LEN] = {0};
    qo_lease_t lease = sample();
    qo_lease_t back;
    int accepted = 0;

    qo_lease_encode(record, &lease);
    for (size_t len = 0; len <= sizeof record; len++) {
        accepted += len != QO_LEASE_LEN && decoded(&back, record, len);
    }
    tap_int(accepted, 0, "no other length is a lease");
    tap_ok(!qo_lease_decode(&back, NULL, 0), "nor is nothing");
}

/* A record may be damaged in any way: what is read is what it says, and can be judged. */
static void check_any_byte(void)
{
    unsigned char record[QO_LEASE_LEN];
    qo_lease_t lease = sample();
    bool formats = true;
    bool sound = true;

    for (size_t at = 0; at < QO_LEASE_LEN; at++) {
        for (int value = 0; value < 256; value++) {
            unsigned char again[QO_LEASE_LEN];
            qo_lease_t back;
            qo_lease_t wanted = sample();

            qo_lease_encode(record, &lease);
            record[at] = (unsigned char)value;
            if (!decoded(&back, record, QO_LEASE_LEN)) {
                formats = formats && at == 0 && value != 1;
                continue;
            }
            formats = formats && (at != 0 || value == 1);
            qo_lease_encode(again, &back);
            sound = sound && memcmp(record, again, QO_LEASE_LEN) == 0;
            (void)qo_lease_keep(&back);
            (void)qo_lease_take(&wanted, &back, LIFE, CLOCK);
        }
    }
    tap_ok(formats, "another format is no lease, and nothing else can be told");
    tap_ok(sound, "whatever is read says what the record says");
}

/* ---- who may take it ---- */

static qo_lease_holder_t me;

static qo_lease_t wish(uint64_t generation)
{
    qo_lease_t lease;

    memset(&lease, 'Z', sizeof lease);
    lease.generation = generation;
    lease.holder = me;
    memset(lease.holder.nonce, 'w', QO_LEASE_ID);
    return lease;
}

/* Held by this living process. */
static qo_lease_t held(uint64_t generation, apr_time_t until)
{
    qo_lease_t lease;

    memset(&lease, 0, sizeof lease);
    lease.generation = generation;
    lease.holder = me;
    lease.until = until;
    lease.first = CLOCK - SECONDS(3);
    lease.failures = 2;
    lease.why = (uint32_t)qo_error_info(QO_E_BUSY)->number;
    return lease;
}

static qo_lease_t failed(uint64_t generation, apr_time_t again)
{
    qo_lease_t lease = held(generation, 0);

    lease.again = again;
    return lease;
}

/* A wish of generation 7 that meets `present`. */
static bool takes(const qo_lease_t *present, qo_lease_t *wanted)
{
    *wanted = wish(7);
    return qo_lease_take(wanted, present, LIFE, CLOCK);
}

static bool refused(qo_lease_t present)
{
    qo_lease_t wanted;

    return !takes(&present, &wanted);
}

/* Taken as the first attempt of its generation. */
static bool fresh(const qo_lease_t *present)
{
    qo_lease_t wanted;
    qo_lease_t wished = wish(7);

    return takes(present, &wanted) && wanted.generation == 7 &&
           same_holder(&wanted.holder, &wished.holder) && wanted.until == CLOCK + LIFE &&
           wanted.first == CLOCK && wanted.again == 0 && wanted.failures == 0 &&
           wanted.why == 0;
}

/* Taken as one more attempt of a generation that was tried before. */
static bool repeats(qo_lease_t present)
{
    qo_lease_t wanted;
    qo_lease_t wished = wish(7);

    return takes(&present, &wanted) && same_holder(&wanted.holder, &wished.holder) &&
           wanted.until == CLOCK + LIFE && wanted.first == present.first &&
           wanted.again == 0 && wanted.failures == present.failures &&
           wanted.why == present.why;
}

static void check_take(void)
{
    qo_lease_t older = held(6, CLOCK + SECONDS(9));
    qo_lease_t refusal = failed(6, CLOCK + SECONDS(9));
    qo_lease_t lapsed = held(8, CLOCK - 1);
    qo_lease_t forgotten = failed(8, CLOCK);

    tap_ok(fresh(NULL), "what nobody has is taken, for its life from now");
    tap_ok(refused(held(7, CLOCK + 1)),
           "what somebody holds is not, to the last microsecond");
    tap_ok(repeats(held(7, CLOCK)),
           "what has lapsed is, and the first attempt is remembered");
    tap_ok(repeats(held(7, CLOCK - SECONDS(500))), "long after, too");
    tap_ok(fresh(&older), "an older generation's is in nobody's way, held or not");
    tap_ok(fresh(&refusal), "nor is its failure");
    tap_ok(refused(failed(7, CLOCK + 1)),
           "after a failure it is not tried before its time");
    tap_ok(repeats(failed(7, CLOCK)), "but then, and what happened is remembered");
    tap_ok(refused(held(8, CLOCK + 1)), "a newer generation's is in the way");
    tap_ok(refused(failed(8, CLOCK + 1)), "its failure is");
    tap_ok(fresh(&lapsed), "until it lapses: the store may have forgotten that generation");
    tap_ok(fresh(&forgotten), "or may be tried again");
}

static void check_fail(void)
{
    qo_lease_t lease = held(7, CLOCK + LIFE);
    qo_lease_t other = lease;

    lease.failures = 0;
    qo_lease_fail(&lease, QO_E_UNREACHABLE, SECONDS(4), CLOCK);
    tap_ok(lease.until == 0 && lease.again == CLOCK + SECONDS(4),
           "failed: free, but later");
    tap_ok(lease.failures == 1 &&
               lease.why == (uint32_t)qo_error_info(QO_E_UNREACHABLE)->number,
           "once, and why");
    tap_int(lease.first, CLOCK - SECONDS(3), "the first attempt is still known");
    qo_lease_fail(&lease, QO_E_BUSY, 0, CLOCK + 5);
    tap_ok(lease.failures == 2 && lease.why == (uint32_t)qo_error_info(QO_E_BUSY)->number &&
               lease.again == CLOCK + 5,
           "twice, at once again");
    tap_ok(!refused(lease) || lease.again > CLOCK, "which can be taken");
    tap_ok(qo_lease_same(&lease, &other), "it is still the same attempt");
    other.holder.nonce[QO_LEASE_ID - 1] ^= 1;
    tap_ok(!qo_lease_same(&lease, &other), "another nonce is another attempt");
    other = lease;
    other.generation++;
    tap_ok(!qo_lease_same(&lease, &other), "and another generation");
}

static void check_keep(void)
{
    qo_lease_t lease = held(7, CLOCK);

    lease.again = CLOCK - SECONDS(50);
    tap_ok(qo_lease_keep(&lease) == CLOCK + SECONDS(QO_LEASE_KEEP),
           "kept for its time after it ended");
    lease = failed(7, CLOCK + SECONDS(30));
    tap_ok(qo_lease_keep(&lease) == CLOCK + SECONDS(30 + QO_LEASE_KEEP),
           "or may be tried again");
    tap_ok(QO_LEASE_KEEP > 60, "so Qonto's minute of grace is not forgotten in it");
}

/* ---- who ---- */

static void check_holder(void)
{
    static const unsigned char unknown[QO_LEASE_ID];
    qo_lease_holder_t again;

    tap_int(qo_lease_holder(&again), QO_OK, "this process can say who it is");
    tap_int(me.pid, getpid(), "its number");
    tap_ok(me.started != 0 && me.started == again.started, "when it began");
    tap_ok(memcmp(me.host, unknown, QO_LEASE_ID) != 0 &&
               memcmp(me.host, again.host, QO_LEASE_ID) == 0,
           "where it runs");
    tap_ok(memcmp(me.nonce, unknown, QO_LEASE_ID) != 0 &&
               memcmp(me.nonce, again.nonce, QO_LEASE_ID) != 0,
           "and which attempt this is");
    tap_ok(!qo_lease_holder_dead(&me), "it lives");
    again.started++;
    tap_ok(qo_lease_holder_dead(&again), "another one of its number has ended");
    again = me;
    again.host[0] ^= 1;
    again.started++;
    tap_ok(!qo_lease_holder_dead(&again), "of another host nothing is certain");
    memset(again.host, 0, QO_LEASE_ID);
    tap_ok(!qo_lease_holder_dead(&again), "nor of an unknown one");
}

typedef void life_t(void);

/* A child that says who it is and then lives as it is told to. */
static pid_t start(qo_lease_holder_t *holder, life_t *life)
{
    int ends[2];
    pid_t pid;

    if (pipe(ends) != 0 || (pid = fork()) < 0) {
        abort();
    }
    if (pid == 0) {
        qo_lease_holder_t self;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(60);
        prctl(PR_SET_NAME, ") Z 1 (a) R", 0, 0, 0);
        if (qo_lease_holder(&self) != QO_OK ||
            write(ends[1], &self, sizeof self) != (ssize_t)sizeof self) {
            _exit(1);
        }
        life();
        _exit(0);
    }
    close(ends[1]);
    if (read(ends[0], holder, sizeof *holder) != (ssize_t)sizeof *holder) {
        tap_ok(false, "a child says who it is");
    }
    close(ends[0]);
    return pid;
}

static void wait_for_ever(void)
{
    for (;;) {
        pause();
    }
}

/* Until it has ended, but it stays to be waited for. */
static void let_die(pid_t pid, int signal)
{
    siginfo_t info;

    if (kill(pid, signal) != 0 || waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) != 0) {
        tap_ok(false, "a child is killed");
    }
}

static void check_death(void)
{
    qo_lease_holder_t child;
    pid_t pid = start(&child, wait_for_ever);
    qo_lease_t theirs;
    qo_lease_t elsewhere;

    tap_int(child.pid, pid, "a child has a number of its own");
    tap_ok(memcmp(child.host, me.host, QO_LEASE_ID) == 0, "and runs here");
    tap_ok(!qo_lease_holder_dead(&child), "it lives, whatever it calls itself");
    theirs = held(7, CLOCK + LIFE);
    theirs.holder = child;
    tap_ok(refused(theirs), "what it holds it holds");
    kill(pid, SIGSTOP);
    tap_ok(!qo_lease_holder_dead(&child) && refused(theirs), "stopped, too");
    let_die(pid, SIGKILL);
    tap_ok(qo_lease_holder_dead(&child), "killed and not yet waited for, it is dead");
    tap_ok(repeats(theirs), "what it held is free, and its attempt is remembered");
    waitpid(pid, NULL, 0);
    tap_ok(qo_lease_holder_dead(&child), "waited for, too");
    tap_ok(repeats(theirs), "and free it stays");
    theirs.generation = 8;
    tap_ok(refused(theirs), "but not for who has an older session");
    theirs.generation = 7;
    elsewhere = theirs;
    elsewhere.holder.host[3] ^= 0x80;
    tap_ok(refused(elsewhere), "on another host its number says nothing");
    memset(elsewhere.holder.host, 0, QO_LEASE_ID);
    tap_ok(refused(elsewhere), "nor without a host");
    elsewhere = failed(7, CLOCK + 1);
    elsewhere.holder = child;
    tap_ok(refused(elsewhere), "what failed is not tried earlier because of a death");
}

static void *sleep_on(void *nothing)
{
    (void)nothing;
    wait_for_ever();
    return NULL;
}

/* Then the system calls the process a zombie, yet it may be in the middle of a call. */
static void end_first_thread(void)
{
    pthread_t other;

    if (pthread_create(&other, NULL, sleep_on, NULL) != 0) {
        _exit(1);
    }
    pthread_exit(NULL);
}

static void check_first_thread(void)
{
    qo_lease_holder_t child;
    pid_t pid = start(&child, end_first_thread);

    usleep(200 * 1000);
    tap_ok(kill(pid, 0) == 0 && !qo_lease_holder_dead(&child),
           "a process lives until its last thread has ended");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    tap_ok(qo_lease_holder_dead(&child), "and then it is dead");
}

/* The first process of a PID namespace of its own is number 1 there. */
static pid_t start_apart(qo_lease_holder_t *holder)
{
    int ends[2];
    pid_t pid;

    if (pipe(ends) != 0 || (pid = fork()) < 0) {
        abort();
    }
    if (pid == 0) {
        qo_lease_holder_t self;

        if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
            _exit(1);
        }
        if (fork() == 0) {
            if (qo_lease_holder(&self) == QO_OK &&
                write(ends[1], &self, sizeof self) == (ssize_t)sizeof self) {
                _exit(0);
            }
        }
        wait(NULL);
        _exit(0);
    }
    close(ends[1]);
    if (read(ends[0], holder, sizeof *holder) != (ssize_t)sizeof *holder) {
        memset(holder, 0, sizeof *holder);
    }
    close(ends[0]);
    return pid;
}

static void check_namespace(void)
{
    qo_lease_holder_t apart;
    int status = 0;

    waitpid(start_apart(&apart), &status, 0);
    if (WEXITSTATUS(status) != 0) {
        printf("# no right to make a PID namespace: nothing to compare with\n");
        return;
    }
    tap_ok(apart.pid == 1, "the first process of a PID namespace");
    tap_ok(memcmp(apart.host, me.host, QO_LEASE_ID) != 0, "is of another host");
    apart.pid = 4000000;
    tap_ok(!qo_lease_holder_dead(&apart), "and its numbers say nothing here");
}

/* ---- the clock ---- */

static apr_time_t since_boot(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return SECONDS(now.tv_sec) + now.tv_nsec / 1000;
}

static void check_clock(void)
{
    apr_time_t before = since_boot();
    apr_time_t first = qo_lease_clock();
    apr_time_t after = since_boot();
    bool forward = true;

    tap_ok(before <= first && first <= after, "microseconds since the machine was started");
    for (int i = 0; i < 1000; i++) {
        apr_time_t next = qo_lease_clock();

        forward = forward && next >= first;
        first = next;
    }
    tap_ok(forward, "never backwards");
}

int main(void)
{
    apr_initialize();
    tap_int(qo_crypto_init(), QO_OK, "crypto");
    tap_int(qo_lease_holder(&me), QO_OK, "who we are");
    check_layout();
    check_lengths();
    check_any_byte();
    check_take();
    check_fail();
    check_keep();
    check_holder();
    check_death();
    check_first_thread();
    check_namespace();
    check_clock();
    apr_terminate();
    return tap_done();
}
