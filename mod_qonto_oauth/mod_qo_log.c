#include "mod_qo_log.h"

#include <apr_strings.h>
#include <http_config.h>
#include <http_log.h>

#include <stdarg.h>

APLOG_USE_MODULE(qonto_oauth);

void mod_qo_log_failure(request_rec *r, qo_status_t status, const qo_err_t *err,
                        const char *reference)
{
    const qo_error_info_t *info = qo_error_info(status);
    bool detailed = err != NULL && err->detail[0] != '\0';

    ap_log_rerror(APLOG_MARK, info->http >= 500 ? APLOG_ERR : APLOG_INFO, 0, r,
                  "QO%04d [%s]: %s%s%s", info->number, reference, info->admin,
                  detailed ? ": " : "", detailed ? err->detail : "");
}

static void log_request(int level, request_rec *r, int number, const char *format,
                        va_list args)
{
    if (APLOG_R_IS_LEVEL(r, level)) {
        ap_log_rerror(APLOG_MARK, level, 0, r, "QO%04d: %s", number,
                      apr_pvsprintf(r->pool, format, args));
    }
}

void mod_qo_log_event(request_rec *r, int number, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_request(APLOG_INFO, r, number, format, args);
    va_end(args);
}

void mod_qo_log_warning(request_rec *r, int number, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_request(APLOG_WARNING, r, number, format, args);
    va_end(args);
}

void mod_qo_log_alarm(request_rec *r, int number, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_request(APLOG_ERR, r, number, format, args);
    va_end(args);
}

void mod_qo_log_server(int level, const server_rec *s, int number, const char *format, ...)
{
    char line[HUGE_STRING_LEN];
    va_list args;

    va_start(args, format);
    (void)apr_vsnprintf(line, sizeof(line), format, args); /* cut to fit is what we want */
    va_end(args);
    ap_log_error(APLOG_MARK, level, 0, s, "QO%04d: %s", number, line);
}
