/* The only writer of what the session tool says: its results on standard output, complaints
 * on standard error, and how it ends. Nothing a store holds reaches a terminal as anything
 * but printable text. */
#ifndef QONTOCTL_PRINT_H
#define QONTOCTL_PRINT_H

#include <apr_pools.h>
#include <apr_time.h>

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    QONTOCTL_DONE = 0,
    QONTOCTL_NOTHING = 1, /* no session matched */
    QONTOCTL_USAGE = 2,
    QONTOCTL_TROUBLE = 3 /* store, key or audit */
} qontoctl_exit_t;

/* Once, before anything is printed. */
void qontoctl_print_start(void);

/* From now on a reader that goes away does not end this process: what was begun is done. */
void qontoctl_print_persist(void);

/* One sentence on standard error; returns `code`, so that a function can end with it. */
qontoctl_exit_t qontoctl_print_error(qontoctl_exit_t code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A line on standard output, as it is. */
void qontoctl_print_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Did standard output take everything so far? */
bool qontoctl_print_good(void);

/* QONTOCTL_TROUBLE when something could not be written, else `code`. */
qontoctl_exit_t qontoctl_print_end(qontoctl_exit_t code);

/* What of `text` can be printed where we are, "-" for NULL, and how many columns it takes
 * (`columns` may be NULL). */
const char *qontoctl_print_clean(apr_pool_t *p, const char *text, size_t *columns);

/* A span of time in its greatest unit: 45s, 12m, 3h, 5d; "-" for less than nothing. */
const char *qontoctl_print_span(apr_pool_t *p, apr_time_t span);

/* Whole seconds, not less than 0. */
const char *qontoctl_print_seconds(apr_pool_t *p, apr_time_t span);

/* A time as ISO 8601, UTC. */
const char *qontoctl_print_time(apr_pool_t *p, apr_time_t at);

/* ---- lines in columns ---- */

#define QONTOCTL_PRINT_COLUMNS 8

typedef struct qontoctl_print_table_t qontoctl_print_table_t;

/* `titles` ends with a NULL; those that begin with '>' stand at the right. */
qontoctl_print_table_t *qontoctl_print_table(apr_pool_t *p, const char *const *titles);

/* One line, cleaned; a cell of NULL ends it early. The first lines are held back to see how
 * wide the columns are, so that a million lines need no more memory than those. */
void qontoctl_print_row(qontoctl_print_table_t *table, const char *const *cells);

/* Prints what was held back. */
void qontoctl_print_table_end(qontoctl_print_table_t *table);

#endif
