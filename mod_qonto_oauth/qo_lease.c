#include "qo_lease.h"

#include "qo_crypto.h"
#include "qo_limits.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FORMAT 1
#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define PID_NAMESPACE "/proc/self/ns/pid"

/* ---- who ---- */

/* At most `size` - 1 bytes and a NUL; false when there is nothing to read. */
static bool read_text(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, out, size - 1);

    if (fd >= 0) {
        (void)close(fd); /* opened for reading: nothing can be lost */
    }
    out[got > 0 ? got : 0] = '\0';
    return got > 0;
}

/* Process numbers mean something only within one boot and one PID namespace. */
static void read_host(unsigned char out[QO_LEASE_ID])
{
    char text[256];
    size_t len;
    ssize_t link;
    qo_hash_t hash;

    memset(out, 0, QO_LEASE_ID);
    if (!read_text(BOOT_ID, text, sizeof(text) / 2)) {
        return;
    }
    len = strlen(text);
    link = readlink(PID_NAMESPACE, text + len, sizeof(text) - len);
    if (link > 0 && qo_crypto_hash(&hash, text, len + (size_t)link) == QO_OK) {
        memcpy(out, hash.bytes, QO_LEASE_ID);
    }
}

typedef struct {
    bool ended; /* nothing of it runs any more, though nobody may have waited for it yet */
    uint64_t started;
} process_t;

/* State, threads and start of a process, fields 3, 20 and 22 of proc(5)'s stat. The name
 * before them is in parentheses and may hold anything, parentheses too. A state of Z is the
 * first thread's: others may be running still. */
static bool read_process(uint32_t pid, process_t *out)
{
    char path[40];
    char text[1024];
    const char *at;
    char state;

    (void)snprintf(path, sizeof(path), "/proc/%lu/stat", (unsigned long)pid);
    if (!read_text(path, text, sizeof(text)) || (at = strrchr(text, ')')) == NULL ||
        at[1] != ' ') {
        return false;
    }
    state = at[2];
    out->ended = state == 'Z' || state == 'X';
    for (int field = 2; field < 22 && at != NULL; field++) {
        at = strchr(at + 1, ' ');
        if (field == 19 && at != NULL && strtoul(at, NULL, 10) > 1) {
            out->ended = false;
        }
    }
    out->started = at != NULL ? strtoull(at, NULL, 10) : 0;
    return out->started != 0;
}

qo_status_t qo_lease_holder(qo_lease_holder_t *out)
{
    process_t self;

    memset(out, 0, sizeof(*out));
    out->pid = (uint32_t)getpid();
    if (read_process(out->pid, &self)) {
        out->started = self.started;
        read_host(out->host);
    }
    return qo_crypto_random(out->nonce, sizeof(out->nonce));
}

bool qo_lease_holder_dead(const qo_lease_holder_t *holder)
{
    static const unsigned char UNKNOWN[QO_LEASE_ID] = {0};
    unsigned char host[QO_LEASE_ID];
    process_t process;

    read_host(host);
    if (memcmp(holder->host, UNKNOWN, sizeof(host)) == 0 ||
        memcmp(holder->host, host, sizeof(host)) != 0) {
        return false;
    }
    if (kill((pid_t)holder->pid, 0) != 0 && errno == ESRCH) {
        return true;
    }
    /* Killed but not yet waited for, or the number belongs to somebody else by now. */
    return read_process(holder->pid, &process) &&
           (process.ended || process.started != holder->started);
}

apr_time_t qo_lease_clock(void)
{
    struct timespec now;

#ifdef CLOCK_BOOTTIME
    (void)clock_gettime(CLOCK_BOOTTIME, &now); /* cannot fail with these arguments */
#else
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return apr_time_from_sec((apr_time_t)now.tv_sec) + now.tv_nsec / 1000;
}

/* ---- the rules ---- */

static bool in_the_way(const qo_lease_t *present, uint64_t generation, apr_time_t clock)
{
    if (present->generation < generation) {
        return false;
    }
    if (present->until > clock) {
        return present->generation > generation || !qo_lease_holder_dead(&present->holder);
    }
    return present->again > clock;
}

bool qo_lease_take(qo_lease_t *wanted, const qo_lease_t *present, apr_time_t life,
                   apr_time_t clock)
{
    bool repeated = present != NULL && present->generation == wanted->generation;

    if (present != NULL && in_the_way(present, wanted->generation, clock)) {
        return false;
    }
    wanted->until = clock + life;
    wanted->first = repeated ? present->first : clock;
    wanted->again = 0;
    wanted->failures = repeated ? present->failures : 0;
    wanted->why = repeated ? present->why : 0;
    return true;
}

void qo_lease_fail(qo_lease_t *lease, qo_status_t why, apr_time_t wait, apr_time_t clock)
{
    lease->until = 0;
    lease->again = clock + wait;
    lease->failures++;
    lease->why = (uint32_t)qo_error_info(why)->number;
}

bool qo_lease_same(const qo_lease_t *a, const qo_lease_t *b)
{
    return a->generation == b->generation &&
           memcmp(a->holder.nonce, b->holder.nonce, QO_LEASE_ID) == 0;
}

apr_time_t qo_lease_keep(const qo_lease_t *lease)
{
    apr_time_t last = lease->until > lease->again ? lease->until : lease->again;

    return last + apr_time_from_sec(QO_LEASE_KEEP);
}

/* ---- the record ---- */

void qo_lease_encode(unsigned char out[QO_LEASE_LEN], const qo_lease_t *lease)
{
    qo_writer_t w;

    qo_pack_into(&w, out, QO_LEASE_LEN);
    qo_pack_u8(&w, FORMAT);
    qo_pack_u64(&w, lease->generation);
    qo_pack_bytes(&w, lease->holder.nonce, QO_LEASE_ID);
    qo_pack_bytes(&w, lease->holder.host, QO_LEASE_ID);
    qo_pack_u32(&w, lease->holder.pid);
    qo_pack_u64(&w, lease->holder.started);
    qo_pack_u64(&w, (uint64_t)lease->until);
    qo_pack_u64(&w, (uint64_t)lease->first);
    qo_pack_u64(&w, (uint64_t)lease->again);
    qo_pack_u32(&w, lease->failures);
    qo_pack_u32(&w, lease->why);
}

bool qo_lease_decode(qo_lease_t *out, const void *record, size_t len)
{
    qo_reader_t r;

    qo_unpack_start(&r, record, len);
    if (qo_unpack_u8(&r) != FORMAT) {
        return false;
    }
    out->generation = qo_unpack_u64(&r);
    qo_unpack_bytes(&r, out->holder.nonce, QO_LEASE_ID);
    qo_unpack_bytes(&r, out->holder.host, QO_LEASE_ID);
    out->holder.pid = qo_unpack_u32(&r);
    out->holder.started = qo_unpack_u64(&r);
    out->until = (apr_time_t)qo_unpack_u64(&r);
    out->first = (apr_time_t)qo_unpack_u64(&r);
    out->again = (apr_time_t)qo_unpack_u64(&r);
    out->failures = qo_unpack_u32(&r);
    out->why = qo_unpack_u32(&r);
    return qo_unpack_finish(&r);
}
