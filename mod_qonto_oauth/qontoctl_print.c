#include "qontoctl_print.h"

#include "qo_limits.h"

#include <apr_strings.h>

#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#define GAP "  "

void qontoctl_print_start(void)
{
    (void)setlocale(LC_CTYPE, ""); /* without it, what is not ASCII becomes '?' */
}

void qontoctl_print_persist(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* fails for no signal that exists */
}

/* ---- text ---- */

/* The next character of `*text`; false when it cannot be shown as it is. */
static bool next_character(const char **text, mbstate_t *state, size_t *len, int *columns)
{
    wchar_t c;

    *len = mbrtowc(&c, *text, MB_CUR_MAX, state);
    if (*len == (size_t)-1 || *len == (size_t)-2 || *len == 0) {
        memset(state, 0, sizeof(*state));
        *len = 1;
        return false;
    }
    *columns = iswprint((wint_t)c) ? wcwidth(c) : -1;
    return *columns > 0; /* marks that turn the text around have none */
}

const char *qontoctl_print_clean(apr_pool_t *p, const char *text, size_t *columns)
{
    const char *from = text != NULL ? text : "-";
    char *out = apr_palloc(p, strlen(from) + 1);
    mbstate_t state;
    size_t at = 0, width = 0;

    memset(&state, 0, sizeof(state));
    while (*from != '\0') {
        size_t len;
        int wide = 1;
        bool shown = next_character(&from, &state, &len, &wide);

        if (shown) {
            memcpy(out + at, from, len);
        } else {
            out[at] = '?';
        }
        at += shown ? len : 1;
        width += shown ? (size_t)wide : 1;
        from += len;
    }
    out[at] = '\0';
    if (columns != NULL) {
        *columns = width;
    }
    return out;
}

const char *qontoctl_print_span(apr_pool_t *p, apr_time_t span)
{
    static const struct {
        apr_time_t seconds;
        char unit;
    } UNITS[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    apr_time_t seconds = apr_time_sec(span);
    size_t i = 0;

    if (span < 0) {
        return "-";
    }
    while (UNITS[i].seconds > 1 && seconds < UNITS[i].seconds) {
        i++;
    }
    return apr_psprintf(p, "%" APR_TIME_T_FMT "%c", seconds / UNITS[i].seconds,
                        UNITS[i].unit);
}

const char *qontoctl_print_seconds(apr_pool_t *p, apr_time_t span)
{
    return apr_psprintf(p, "%" APR_TIME_T_FMT, span > 0 ? apr_time_sec(span) : 0);
}

const char *qontoctl_print_time(apr_pool_t *p, apr_time_t at)
{
    apr_time_exp_t t;

    if (apr_time_exp_gmt(&t, at) != APR_SUCCESS) {
        return "-";
    }
    return apr_psprintf(p, "%04d-%02d-%02dT%02d:%02d:%02dZ", t.tm_year + 1900, t.tm_mon + 1,
                        t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec);
}

/* ---- lines ---- */

qontoctl_exit_t qontoctl_print_error(qontoctl_exit_t code, const char *format, ...)
{
    char sentence[1024];
    apr_pool_t *p;
    va_list args;

    va_start(args, format);
    (void)vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    if (apr_pool_create(&p, NULL) == APR_SUCCESS) {
        (void)fprintf(stderr, "qontoctl: %s\n", qontoctl_print_clean(p, sentence, NULL));
        apr_pool_destroy(p);
    }
    return code;
}

void qontoctl_print_line(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    (void)putchar('\n'); /* qontoctl_print_end tells whether all of it was written */
}

bool qontoctl_print_good(void)
{
    return !ferror(stdout);
}

qontoctl_exit_t qontoctl_print_end(qontoctl_exit_t code)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        return qontoctl_print_error(QONTOCTL_TROUBLE,
                                    "standard output could not be written");
    }
    return code;
}

/* ---- columns ---- */

typedef struct {
    const char *text[QONTOCTL_PRINT_COLUMNS];
    size_t width[QONTOCTL_PRINT_COLUMNS];
    int count;
} row_t;

struct qontoctl_print_table_t {
    apr_pool_t *p; /* of the rows that are held back */
    bool right[QONTOCTL_PRINT_COLUMNS];
    size_t width[QONTOCTL_PRINT_COLUMNS];
    int columns;
    row_t *held;
    int count;
    bool flowing; /* nothing is held back any more */
};

static row_t make_row(apr_pool_t *p, const char *const *cells)
{
    row_t row = {.count = 0};

    while (row.count < QONTOCTL_PRINT_COLUMNS && cells[row.count] != NULL) {
        row.text[row.count] =
            qontoctl_print_clean(p, cells[row.count], &row.width[row.count]);
        row.count++;
    }
    return row;
}

static void print_row(const qontoctl_print_table_t *table, const row_t *row)
{
    for (int i = 0; i < row->count; i++) {
        size_t width = table->width[i] > row->width[i] ? table->width[i] : row->width[i];
        int pad = (int)(width - row->width[i]);
        bool last = i + 1 == row->count;

        if (table->right[i]) {
            (void)printf("%*s%s%s", pad, "", row->text[i], last ? "" : GAP);
        } else {
            (void)printf("%s%*s%s", row->text[i], last ? 0 : pad, "", last ? "" : GAP);
        }
    }
    (void)putchar('\n');
}

static void let_go(qontoctl_print_table_t *table)
{
    for (int i = 0; i < table->count; i++) {
        print_row(table, &table->held[i]);
    }
    table->count = 0;
}

/* A row that ends early says something in words; it widens no column. */
static void widen(qontoctl_print_table_t *table, const row_t *row)
{
    for (int i = 0; row->count == table->columns && i < row->count; i++) {
        if (row->width[i] > table->width[i]) {
            table->width[i] = row->width[i];
        }
    }
}

qontoctl_print_table_t *qontoctl_print_table(apr_pool_t *p, const char *const *titles)
{
    qontoctl_print_table_t *table = apr_pcalloc(p, sizeof(*table));
    const char *cells[QONTOCTL_PRINT_COLUMNS + 1] = {NULL};

    table->p = p;
    table->held = apr_palloc(p, (QO_LIMIT_HELD_ROWS + 1) * sizeof(*table->held));
    for (int i = 0; i < QONTOCTL_PRINT_COLUMNS && titles[i] != NULL; i++) {
        table->right[i] = titles[i][0] == '>';
        cells[i] = titles[i] + (table->right[i] ? 1 : 0);
    }
    table->held[0] = make_row(p, cells);
    table->columns = table->held[0].count;
    table->count = 1;
    widen(table, &table->held[0]);
    return table;
}

void qontoctl_print_row(qontoctl_print_table_t *table, const char *const *cells)
{
    apr_pool_t *p;
    row_t row;

    if (!table->flowing && table->count <= QO_LIMIT_HELD_ROWS) {
        table->held[table->count] = make_row(table->p, cells);
        widen(table, &table->held[table->count]);
        table->count++;
        return;
    }
    let_go(table);
    table->flowing = true;
    if (apr_pool_create(&p, table->p) == APR_SUCCESS) {
        row = make_row(p, cells);
        print_row(table, &row);
        apr_pool_destroy(p);
    }
}

void qontoctl_print_table_end(qontoctl_print_table_t *table)
{
    let_go(table);
}
