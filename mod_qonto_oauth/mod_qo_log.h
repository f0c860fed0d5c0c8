/* The only room that writes to httpd's log. One failure is one line:
 *
 *   QO0031 [3F7K2M9Q]: sentence of the table: particulars
 *
 * with the number and the reference of the page the visitor saw. Tokens, codes, states,
 * verifiers, cookies and secrets are never given to this room; sessions and logins are
 * named by the first hexadecimal digits of their hash. */
#ifndef MOD_QO_LOG_H
#define MOD_QO_LOG_H

#include "qo_error.h"

#include <httpd.h>

/* Numbers of lines that tell no failure. Failures have theirs in qo_error.h. */
#define MOD_QO_LOG_SIGNED_IN 60
#define MOD_QO_LOG_SIGNED_OUT 61
#define MOD_QO_LOG_LOGIN_STARTED 62
#define MOD_QO_LOG_NOTICE 63
#define MOD_QO_LOG_REVOKE_FAILED 64
#define MOD_QO_LOG_RENEWED 65
#define MOD_QO_LOG_AMBIGUOUS 66
#define MOD_QO_LOG_NOT_RENEWED 67
#define MOD_QO_LOG_CONFIG 70
#define MOD_QO_LOG_STORE 71
#define MOD_QO_LOG_SWEEP 72

/* A failure that ends the request; `err` may be NULL. The level follows from the HTTP
 * status: 5xx is error, the rest info. */
void mod_qo_log_failure(request_rec *r, qo_status_t status, const qo_err_t *err,
                        const char *reference);

/* Something that happened to a session or login, for the audit (level info). */
void mod_qo_log_event(request_rec *r, int number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Something an admin should see, while a request is served (level warn). */
void mod_qo_log_warning(request_rec *r, int number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Something an admin must act on (level error). */
void mod_qo_log_alarm(request_rec *r, int number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Start-up and housekeeping; level is one of APLOG_*. */
void mod_qo_log_server(int level, const server_rec *s, int number, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
