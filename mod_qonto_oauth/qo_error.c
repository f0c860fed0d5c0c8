#include "qo_error.h"

#include <stdarg.h>
#include <stdio.h>

static const qo_error_info_t TABLE[QO_STATUS_COUNT] = {[QO_OK] = {1, 500, "", ""},
#define QO_ERROR_ROW(name, number, http, visitor, admin)                                   \
    [QO_E_##name] = {number, http, visitor, admin},
                                                       QO_ERRORS(QO_ERROR_ROW)
#undef QO_ERROR_ROW
};

const qo_error_info_t *qo_error_info(qo_status_t status)
{
    if (status <= QO_OK || status >= QO_STATUS_COUNT) {
        return &TABLE[QO_E_INTERNAL];
    }
    return &TABLE[status];
}

qo_status_t qo_error_by_number(int number)
{
    for (int status = QO_OK + 1; status < QO_STATUS_COUNT; status++) {
        if (TABLE[status].number == number) {
            return (qo_status_t)status;
        }
    }
    return QO_E_INTERNAL;
}

/* What is logged must stay one line, whoever wrote the words. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < 0x20 || *text > 0x7e) {
            *text = '?';
        }
    }
}

qo_status_t qo_error(qo_err_t *err, qo_status_t status, const char *format, ...)
{
    va_list args;

    if (err == NULL) {
        return status;
    }
    va_start(args, format);
    if (vsnprintf(err->detail, sizeof(err->detail), format, args) < 0) {
        err->detail[0] = '\0';
    }
    va_end(args);
    make_printable(err->detail);
    return status;
}
