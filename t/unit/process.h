/* What tests with processes and files of their own share. */
#ifndef PROCESS_H
#define PROCESS_H

#include <apr_file_io.h>
#include <apr_strings.h>

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Memory that forked processes have in common, zeros at first. */
static inline void *process_shared(size_t size)
{
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        abort();
    }
    return memory;
}

/* The exit code of a child; -1 if it was killed. */
static inline int process_wait(pid_t child)
{
    int state = 0;

    while (waitpid(child, &state, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

/* How many times slower than usual this machine may be. */
static inline int process_slow(void)
{
    const char *slow = getenv("QO_SLOW");
    int times = slow != NULL ? atoi(slow) : 1;

    return times > 1 ? times : 1;
}

/* A new directory for temporary files. */
static inline const char *process_place(apr_pool_t *p, const char *name)
{
    const char *temp;
    char *place;

    if (apr_temp_dir_get(&temp, p) != APR_SUCCESS) {
        abort();
    }
    place = apr_pstrcat(p, temp, "/", name, ".XXXXXX", NULL);
    if (mkdtemp(place) == NULL) {
        printf("Bail out! %s: %s\n", place, strerror(errno));
        exit(1);
    }
    return place;
}

static inline int process_remove_one(const char *path, const struct stat *st, int kind,
                                     struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

/* Removes a directory with all that is in it. */
static inline void process_remove(const char *dir)
{
    (void)nftw(dir, process_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
