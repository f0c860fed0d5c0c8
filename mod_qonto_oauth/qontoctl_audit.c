#include "qontoctl_audit.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#define SOCKET "/dev/log"
#define PRIORITY (LOG_AUTHPRIV | LOG_NOTICE)
#define PATIENCE 5 /* seconds for syslog to take a line */

const char *qontoctl_audit_quote(apr_pool_t *p, const char *text)
{
    char *out = apr_palloc(p, 4 * strlen(text) + 3);
    size_t at = 0;

    out[at++] = '"';
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            out[at++] = (char)c;
        } else {
            (void)apr_snprintf(out + at, 5, "\\x%02x", c);
            at += 4;
        }
    }
    out[at++] = '"';
    out[at] = '\0';
    return out;
}

/* ---- who ---- */

/* The user by number, and the names that tell the person behind it. sudo's word counts for
 * root only: anybody else may have written it. */
static const char *find_who(apr_pool_t *p)
{
    const struct passwd *user = getpwuid(getuid());
    const char *login = getlogin();
    const char *sudo = getuid() == 0 ? getenv("SUDO_USER") : NULL;

    return apr_psprintf(p, "uid=%lu user=%s login=%s sudo=%s", (unsigned long)getuid(),
                        qontoctl_audit_quote(p, user != NULL ? user->pw_name : "-"),
                        qontoctl_audit_quote(p, login != NULL ? login : "-"),
                        qontoctl_audit_quote(p, sudo != NULL ? sudo : "-"));
}

/* ---- where ---- */

static int open_file(const char *file)
{
    /* O_NONBLOCK: a pipe that nobody reads is an error, and no reason to wait. */
    return open(file,
                O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY |
                    O_NONBLOCK,
                0640);
}

/* syslog(3) cannot say that nobody listens. */
static int open_syslog(int type)
{
    static const struct timeval patience = {PATIENCE, 0};
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    if (fd >= 0 &&
        (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0 ||
         connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)) {
        int why = errno;

        (void)close(fd); /* nothing was sent */
        errno = why;
        return -1;
    }
    return fd;
}

qontoctl_exit_t qontoctl_audit_open(qontoctl_audit_t *out, apr_pool_t *p, const char *file)
{
    out->file = file;
    out->who = find_who(p);
    out->fd = file != NULL ? open_file(file) : open_syslog(SOCK_DGRAM);
    if (out->fd < 0 && file == NULL && errno == EPROTOTYPE) {
        out->fd = open_syslog(SOCK_STREAM);
    }
    if (out->fd >= 0) {
        return QONTOCTL_DONE;
    }
    if (file != NULL) {
        return qontoctl_print_error(QONTOCTL_TROUBLE,
                                    "nothing was ended, because the audit file %s cannot "
                                    "be opened: %s",
                                    file, strerror(errno));
    }
    return qontoctl_print_error(QONTOCTL_TROUBLE,
                                "nothing was ended, because syslog takes no audit line "
                                "(" SOCKET ": %s): write --audit FILE",
                                strerror(errno));
}

/* ---- the line ---- */

static bool write_file(const qontoctl_audit_t *audit, apr_pool_t *p, apr_time_t now,
                       const char *what)
{
    const char *line =
        apr_psprintf(p, "%s qontoctl[%ld]: %s by %s\n", qontoctl_print_time(p, now),
                     (long)getpid(), what, audit->who);
    size_t len = strlen(line);
    struct stat info;

    return write(audit->fd, line, len) == (ssize_t)len && fstat(audit->fd, &info) == 0 &&
           (!S_ISREG(info.st_mode) || fsync(audit->fd) == 0);
}

/* As RFC 3164 has it, with the NUL that ends a line on a stream. */
static bool send_line(const qontoctl_audit_t *audit, apr_pool_t *p, apr_time_t now,
                      const char *what)
{
    apr_time_exp_t t;
    const char *line;
    size_t len;

    if (apr_time_exp_lt(&t, now) != APR_SUCCESS) {
        return false;
    }
    line = apr_psprintf(p, "<%d>%s %2d %02d:%02d:%02d qontoctl[%ld]: %s by %s", PRIORITY,
                        apr_month_snames[t.tm_mon], t.tm_mday, t.tm_hour, t.tm_min,
                        t.tm_sec, (long)getpid(), what, audit->who);
    len = strlen(line) + 1;
    return send(audit->fd, line, len, MSG_NOSIGNAL) == (ssize_t)len;
}

qontoctl_exit_t qontoctl_audit_write(const qontoctl_audit_t *audit, apr_time_t now,
                                     const char *what)
{
    apr_pool_t *p;
    bool written;

    if (apr_pool_create(&p, NULL) != APR_SUCCESS) {
        return QONTOCTL_TROUBLE;
    }
    errno = 0;
    written = audit->file != NULL ? write_file(audit, p, now, what)
                                  : send_line(audit, p, now, what);
    apr_pool_destroy(p);
    if (written) {
        return QONTOCTL_DONE;
    }
    return qontoctl_print_error(QONTOCTL_TROUBLE, "the audit line cannot be written: %s",
                                errno != 0 ? strerror(errno) : "not all of it was taken");
}
