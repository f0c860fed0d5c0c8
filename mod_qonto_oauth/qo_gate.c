#include "qo_gate.h"

#include <apr_cstr.h>

#include <stdlib.h>
#include <string.h>

qo_action_t qo_gate_decide(const qo_facts_t *facts)
{
    if (facts->store_failed) {
        return QO_ACTION_UNAVAILABLE;
    }
    if (facts->session == QO_SESSION_LIVE) {
        return QO_ACTION_PASS;
    }
    if (facts->session == QO_SESSION_DUE) {
        return facts->refresh_tried ? QO_ACTION_PASS : QO_ACTION_REFRESH;
    }
    if (facts->session == QO_SESSION_STALE) {
        return facts->refresh_tried ? QO_ACTION_UNAVAILABLE : QO_ACTION_REFRESH;
    }
    if (facts->policy == QO_POLICY_PASS) {
        return QO_ACTION_ANONYMOUS;
    }
    if (facts->policy == QO_POLICY_401 || !facts->visit) {
        return QO_ACTION_DENY;
    }
    if (facts->policy == QO_POLICY_PAGE) {
        return QO_ACTION_PAGE;
    }
    return facts->other_host ? QO_ACTION_MOVE : QO_ACTION_LOGIN;
}

static bool is(const char *value, const char *want)
{
    return value != NULL && apr_cstr_casecmp(value, want) == 0;
}

static bool contains(const char *value, const char *want)
{
    size_t len = strlen(want);

    for (; value != NULL && *value != '\0'; value++) {
        if (apr_cstr_casecmpn(value, want, len) == 0) {
            return true;
        }
    }
    return false;
}

static const char *skip_blanks(const char *text)
{
    return text + strspn(text, " \t");
}

/* Are these parameters, up to a comma, those of a type that is refused: q=0, q=0.000? */
static bool is_refused(const char *params, size_t len)
{
    const char *end = params + len;

    for (; params < end; params++) {
        if (*params == ';') {
            const char *q = skip_blanks(params + 1);

            if ((*q == 'q' || *q == 'Q') && q[1] == '=') {
                return strtod(q + 2, NULL) <= 0;
            }
        }
    }
    return false;
}

/* Does Accept (RFC 9110 section 12.5.1) name text/html, as browsers do for pages alone? */
static bool wants_html(const char *accept)
{
    static const char HTML[] = "text/html";

    while (accept != NULL && *accept != '\0') {
        const char *type = skip_blanks(accept);
        size_t len = strcspn(type, ",");
        const char *rest = skip_blanks(type + strcspn(type, ",; \t"));

        if (apr_cstr_casecmpn(type, HTML, strlen(HTML)) == 0 &&
            strcspn(type, ",; \t") == strlen(HTML) &&
            !is_refused(rest, len - (size_t)(rest - type))) {
            return true;
        }
        accept = type + len + (type[len] == ',' ? 1 : 0);
    }
    return false;
}

bool qo_gate_not_visit(const qo_request_facts_t *facts)
{
    return !facts->get || contains(facts->purpose, "prefetch") ||
           contains(facts->purpose, "preview") ||
           is(facts->requested_with, "XMLHttpRequest") ||
           (facts->fetch_mode != NULL && !is(facts->fetch_mode, "navigate")) ||
           (facts->fetch_dest != NULL && !is(facts->fetch_dest, "document"));
}

bool qo_gate_visit(const qo_request_facts_t *facts)
{
    if (qo_gate_not_visit(facts)) {
        return false;
    }
    return facts->fetch_mode != NULL || wants_html(facts->accept);
}

/* Names of RFC 6749 section 4.1.2.1, of OpenID Connect and of Ory Hydra, which Qonto runs.
 */
static qo_status_t error_status(const char *error)
{
    static const struct {
        const char *error;
        qo_status_t status;
    } KNOWN[] = {
        {"access_denied", QO_E_ACCESS_DENIED},
        {"request_denied", QO_E_ACCESS_DENIED},
        {"consent_required", QO_E_ACCESS_DENIED},
        {"login_required", QO_E_ACCESS_DENIED},
        {"invalid_scope", QO_E_REQUEST_REFUSED},
        {"invalid_request", QO_E_REQUEST_REFUSED},
        {"invalid_state", QO_E_REQUEST_REFUSED},
        {"unauthorized_client", QO_E_REQUEST_REFUSED},
        {"unsupported_response_type", QO_E_REQUEST_REFUSED},
        {"request_forbidden", QO_E_COLLISION},
        {"temporarily_unavailable", QO_E_PROVIDER_BUSY},
        {"server_error", QO_E_PROVIDER_FAILED},
    };

    for (size_t i = 0; i < sizeof(KNOWN) / sizeof(KNOWN[0]); i++) {
        if (strcmp(error, KNOWN[i].error) == 0) {
            return KNOWN[i].status;
        }
    }
    return QO_E_PROVIDER_OTHER;
}

qo_callback_action_t qo_gate_callback(const qo_callback_facts_t *facts, qo_status_t *status)
{
    /* Another tab was faster, or the callback was reloaded: the visitor has what they came
     * for, and the code is left to expire. */
    if (facts->signed_in_since) {
        return QO_CALLBACK_RETURN;
    }
    *status = facts->taken ? QO_E_STATE_REPLAYED : QO_E_STATE_FOREIGN;
    if (facts->taken || !facts->bound) {
        return QO_CALLBACK_REFUSE;
    }
    if (facts->error == NULL) {
        return QO_CALLBACK_EXCHANGE;
    }
    /* Hydra keeps one CSRF cookie per client: of two logins in one browser the earlier
     * comes back with this error, through no fault of the visitor (ory/hydra issue 3757).
     */
    if (strcmp(facts->error, "request_forbidden") == 0 && facts->restarts == 0) {
        return QO_CALLBACK_RESTART;
    }
    *status = error_status(facts->error);
    return QO_CALLBACK_REFUSE;
}
