/* What can go wrong, in one table: the code, its number in log and page ("QO0031"), the
 * HTTP status, the sentence a visitor reads and the one an admin reads.
 *
 * Server-free functions return a qo_status_t and, where particulars help the admin, fill a
 * qo_err_t that lives on the caller's stack (it may be NULL). They never log and never
 * choose an HTTP status: the flow that ends the request looks it up here. The detail is for
 * the log only; it must never hold a token, code, state, verifier, cookie or client secret.
 */
#ifndef QO_ERROR_H
#define QO_ERROR_H

#include <stdbool.h>

#define QO_MUST_CHECK __attribute__((warn_unused_result))

/* name, number, HTTP status, what the visitor reads, what the admin reads.
 * Numbers are never reused; a new meaning gets a new number. */
#define QO_ERRORS(X)                                                                       \
    X(INTERNAL, 1, 500, "Something went wrong on this server.", "internal failure")        \
    X(NOT_CONFIGURED, 2, 500, "Sign-in is not set up on this server.",                     \
      "AuthType Qonto is used here, but this virtual host has no QontoClientId")           \
    X(METHOD, 4, 405, "This address only answers page visits.",                            \
      "method not allowed at this address")                                                \
    X(BAD_RETURN, 5, 400, "The link you followed leads to another site.",                  \
      "the return address is not a path on this site")                                     \
    X(BAD_PARAMETER, 6, 400, "The link you followed is damaged.",                          \
      "a parameter of the request is missing, doubled or malformed")                       \
    X(FORGED_LOGOUT, 7, 403, "The request to sign out did not come from this site.",       \
      "log-out refused: it came from another site, or its token is wrong")                 \
    X(CALLBACK_MALFORMED, 10, 400, "The answer from Qonto could not be read.",             \
      "callback refused: malformed answer")                                                \
    X(STATE_MISSING, 11, 400, "The answer from Qonto does not belong to a sign-in.",       \
      "callback refused: no state")                                                        \
    X(STATE_UNKNOWN, 12, 400, "This sign-in has expired or was never started here.",       \
      "callback refused: the state is unknown or has expired")                             \
    X(STATE_REPLAYED, 13, 400, "This sign-in has already been used.",                      \
      "callback refused: the state was used before")                                       \
    X(STATE_FOREIGN, 14, 400, "This sign-in was started in another browser.",              \
      "callback refused: the cookie that binds this state to a browser is missing or "     \
      "wrong")                                                                             \
    X(ACCESS_DENIED, 20, 403, "Access was refused at Qonto.", "Qonto answered: refused")   \
    X(REQUEST_REFUSED, 21, 500, "Qonto does not accept the sign-in of this application.",  \
      "Qonto refused the authorization request: check QontoScopes, QontoRedirectURI and "  \
      "QontoAuthorizeParam against the application's settings at Qonto")                   \
    X(COLLISION, 22, 400, "Another sign-in in this browser got in the way.",               \
      "Qonto answered request_forbidden twice: parallel sign-ins, or its cookies are "     \
      "blocked")                                                                           \
    X(PROVIDER_BUSY, 23, 503, "Qonto is not available right now.",                         \
      "Qonto answered temporarily_unavailable at the callback")                            \
    X(PROVIDER_FAILED, 24, 502, "Qonto could not complete the sign-in.",                   \
      "Qonto answered server_error at the callback")                                       \
    X(PROVIDER_OTHER, 25, 400, "Qonto could not complete the sign-in.",                    \
      "Qonto answered with an error at the callback")                                      \
    X(GRANT_REJECTED, 30, 400, "Qonto no longer accepts this sign-in.",                    \
      "the token endpoint refused the grant (invalid_grant)")                              \
    X(CLIENT_REFUSED, 31, 500, "Qonto does not accept this application's credentials.",    \
      "the token endpoint refused the client: check QontoClientId and QontoClientSecret")  \
    X(BUSY, 32, 503, "Qonto is not available right now.",                                  \
      "the endpoint is overloaded or failing")                                             \
    X(UNREACHABLE, 33, 503, "Qonto cannot be reached right now.",                          \
      "the endpoint could not be reached in time")                                         \
    X(NOT_JSON, 34, 502, "Qonto gave an answer that could not be used.",                   \
      "the endpoint answered with a page or a redirect instead of JSON")                   \
    X(BAD_ANSWER, 35, 502, "Qonto gave an answer that could not be used.",                 \
      "the endpoint's JSON answer is not usable")                                          \
    X(NOT_RENEWED, 36, 503, "Qonto is not available right now.",                           \
      "the access token has ended and could not be renewed; the session is kept")          \
    X(STORE_UNAVAILABLE, 40, 503, "Sign-in is not available right now.",                   \
      "the session store is not available")                                                \
    X(STORE_FULL, 41, 503, "No more sign-ins are possible right now.",                     \
      "the session store is full")                                                         \
    X(NOT_FOUND, 42, 404, "There is no such record.", "not in the session store")          \
    X(CONFLICT, 43, 409, "Somebody else was faster.", "changed by somebody else meanwhile")

typedef enum {
    QO_OK = 0,
#define QO_ERROR_NAME(name, number, http, visitor, admin) QO_E_##name,
    QO_ERRORS(QO_ERROR_NAME)
#undef QO_ERROR_NAME
        QO_STATUS_COUNT
} qo_status_t;

typedef struct {
    int number;          /* the digits of "QO0031" */
    int http;            /* HTTP status of an answer that ends with this error */
    const char *visitor; /* plain English, one sentence, safe to show */
    const char *admin;   /* for the log; the detail follows after a colon */
} qo_error_info_t;

typedef struct {
    char detail[400]; /* particulars for the log, printable ASCII, may be empty */
    int retry_after;  /* seconds the other side asked us to wait, 0 if it did not */
} qo_err_t;

/* The row of a status; the row of INTERNAL for QO_OK and for numbers outside the table. */
const qo_error_info_t *qo_error_info(qo_status_t status);

/* The status with this number; QO_E_INTERNAL when there is none. What is stored is the
 * number, as the order of the table may change. */
qo_status_t qo_error_by_number(int number);

/* Writes the detail (printf-like, cut to fit, control and non-ASCII bytes become '?') and
 * returns `status`, so that a function can end with `return qo_error(err, QO_E_…, …)`. */
qo_status_t qo_error(qo_err_t *err, qo_status_t status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
