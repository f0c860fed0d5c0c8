/* The judge, whole: every combination of facts against the rule said a second time. */
#include "qo_gate.h"

#include "tap.h"

#include <strings.h>

/* ---- a request ---- */

static const char *const action_names[] = {"PASS", "REFRESH", "ANONYMOUS", "LOGIN",
                                           "MOVE", "PAGE",    "DENY",      "UNAVAILABLE"};

/* The first that fits counts: a store that cannot say is no log-out; live sessions pass;
 * tokens that need it are renewed once, and then a good one passes while a dead one stops
 * the request without ending the session; then what QontoUnauthenticated says. */
static qo_action_t wanted(const qo_facts_t *f)
{
    if (f->store_failed) {
        return QO_ACTION_UNAVAILABLE;
    }
    if (f->session == QO_SESSION_LIVE) {
        return QO_ACTION_PASS;
    }
    if (f->session == QO_SESSION_DUE || f->session == QO_SESSION_STALE) {
        if (!f->refresh_tried) {
            return QO_ACTION_REFRESH;
        }
        return f->session == QO_SESSION_DUE ? QO_ACTION_PASS : QO_ACTION_UNAVAILABLE;
    }
    if (f->policy == QO_POLICY_PASS) {
        return QO_ACTION_ANONYMOUS;
    }
    if (f->policy == QO_POLICY_401 || !f->visit) {
        return QO_ACTION_DENY;
    }
    if (f->policy == QO_POLICY_PAGE) {
        return QO_ACTION_PAGE;
    }
    return f->other_host ? QO_ACTION_MOVE : QO_ACTION_LOGIN;
}

static void check_decide(void)
{
    static const qo_session_state_t sessions[] = {QO_SESSION_NONE, QO_SESSION_ENDED,
                                                  QO_SESSION_STALE, QO_SESSION_DUE,
                                                  QO_SESSION_LIVE};
    static const qo_policy_t policies[] = {QO_POLICY_LOGIN, QO_POLICY_PAGE, QO_POLICY_401,
                                           QO_POLICY_PASS};
    int cases = 0;

    for (unsigned bits = 0; bits < 16; bits++) {
        for (size_t s = 0; s < 5; s++) {
            for (size_t p = 0; p < 4; p++) {
                qo_facts_t facts = {(bits & 1) != 0, sessions[s],     (bits & 8) != 0,
                                    policies[p],     (bits & 2) != 0, (bits & 4) != 0};
                qo_action_t got = qo_gate_decide(&facts);
                qo_action_t want = wanted(&facts);

                cases++;
                if (!tap_ok(got == want,
                            "store %s, session %zu, %s, policy %zu, %s, %s host",
                            facts.store_failed ? "failed" : "answers", s,
                            facts.refresh_tried ? "tried" : "not tried", p,
                            facts.visit ? "visit" : "no visit",
                            facts.other_host ? "other" : "right")) {
                    printf("#   got %s, want %s\n", action_names[got], action_names[want]);
                }
            }
        }
    }
    tap_int(cases, 320, "the whole gate");
}

/* ---- what must never be ---- */

static bool one_of(qo_action_t action, unsigned actions)
{
    return (1U << (unsigned)action & actions) != 0;
}

/* Actions that treat somebody as a stranger. */
#define TO_STRANGERS                                                                       \
    (1U << QO_ACTION_ANONYMOUS | 1U << QO_ACTION_LOGIN | 1U << QO_ACTION_MOVE |            \
     1U << QO_ACTION_PAGE | 1U << QO_ACTION_DENY)

typedef struct {
    bool doubted;  /* a store that cannot say is read as "signed out" */
    bool insulted; /* who is signed in, be it with a dead token, is taken for a stranger */
    bool admitted; /* a stranger, or a dead token, gets through as somebody */
    bool endless;  /* a refresh follows a refresh */
    bool hasty;    /* a good token with time left is renewed, or one is not tried at all */
} harm_t;

static void add_harm(harm_t *harm, const qo_facts_t *f, qo_action_t action)
{
    bool signed_in = f->session >= QO_SESSION_STALE;
    bool renewable = f->session == QO_SESSION_STALE || f->session == QO_SESSION_DUE;

    harm->doubted |= f->store_failed && action != QO_ACTION_UNAVAILABLE;
    harm->insulted |= signed_in && one_of(action, TO_STRANGERS);
    harm->admitted |= action == QO_ACTION_PASS && f->session < QO_SESSION_DUE;
    harm->endless |= action == QO_ACTION_REFRESH && f->refresh_tried;
    harm->hasty |=
        !f->store_failed && !f->refresh_tried && renewable != (action == QO_ACTION_REFRESH);
}

static void check_never(void)
{
    harm_t harm = {0};

    for (unsigned bits = 0; bits < 16; bits++) {
        for (int session = QO_SESSION_NONE; session <= QO_SESSION_LIVE; session++) {
            for (int policy = QO_POLICY_LOGIN; policy <= QO_POLICY_PASS; policy++) {
                qo_facts_t facts = {.store_failed = (bits & 1) != 0,
                                    .session = (qo_session_state_t)session,
                                    .refresh_tried = (bits & 2) != 0,
                                    .policy = (qo_policy_t)policy,
                                    .visit = (bits & 4) != 0,
                                    .other_host = (bits & 8) != 0};

                add_harm(&harm, &facts, qo_gate_decide(&facts));
            }
        }
    }
    tap_ok(!harm.doubted, "a store that cannot say is never read as signed out");
    tap_ok(!harm.insulted, "who is signed in is never sent to sign in");
    tap_ok(!harm.admitted, "without a good token nobody passes as somebody");
    tap_ok(!harm.endless, "a request renews once");
    tap_ok(!harm.hasty, "exactly those tokens are renewed that need it");
}

/* ---- visits ---- */

typedef struct {
    bool visit;
    bool not_visit;
    qo_request_facts_t facts;
    const char *what;
} visit_case_t;

#define HTML "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

static const visit_case_t visits[] = {
    {true,
     false,
     {true, "navigate", "document", HTML, NULL, NULL},
     "a browser opens a page"},
    {true, false, {true, "navigate", "document", NULL, NULL, NULL}, "without Accept"},
    {true, false, {true, "navigate", "document", "*/*", NULL, NULL}, "with any Accept"},
    {true, false, {true, NULL, NULL, HTML, NULL, NULL}, "an old browser opens a page"},
    {true, false, {true, NULL, NULL, "text/html", NULL, NULL}, "Accept of one type"},
    {true, false, {true, NULL, NULL, "TEXT/HTML", NULL, NULL}, "in capitals"},
    {true,
     false,
     {true, NULL, NULL, "application/xml, text/html;q=0.5", NULL, NULL},
     "second in Accept"},
    {true,
     false,
     {true, NULL, NULL, "a/b, text/html ; q=0.1", NULL, NULL},
     "hardly wanted"},
    {false, false, {true, NULL, NULL, "text/html;q=0", NULL, NULL}, "HTML refused"},
    {false,
     false,
     {true, NULL, NULL, "*/*, text/html;level=1; Q=0.000", NULL, NULL},
     "refused in three digits"},
    {false, true, {true, "navigate", "iframe", HTML, NULL, NULL}, "a frame"},
    {false, true, {true, "navigate", "frame", HTML, NULL, NULL}, "an old frame"},
    {false, true, {true, "navigate", "object", HTML, NULL, NULL}, "an object"},
    {false, true, {true, "navigate", "embed", HTML, NULL, NULL}, "an embedded thing"},
    {false, true, {true, "cors", "empty", "*/*", NULL, NULL}, "fetch()"},
    {false, true, {true, "cors", "empty", HTML, NULL, NULL}, "fetch() that asks for HTML"},
    {false, true, {true, "same-origin", "empty", HTML, NULL, NULL}, "fetch() on this site"},
    {false, true, {true, "no-cors", "image", "image/*", NULL, NULL}, "an image"},
    {false, true, {true, "no-cors", "script", "*/*", NULL, NULL}, "a script"},
    {false, true, {true, "no-cors", "style", "text/css", NULL, NULL}, "a style sheet"},
    {false, true, {true, "websocket", "websocket", NULL, NULL, NULL}, "a WebSocket"},
    {false, true, {true, "no-cors", NULL, HTML, NULL, NULL}, "a mode without dest"},
    {false, true, {true, NULL, "image", HTML, NULL, NULL}, "a dest without mode"},
    {false, true, {true, NULL, NULL, HTML, "XMLHttpRequest", NULL}, "XMLHttpRequest"},
    {false, true, {true, "navigate", "document", HTML, NULL, "prefetch"}, "a prefetch"},
    {false,
     true,
     {true, "navigate", "document", HTML, NULL, "prefetch;prerender"},
     "a prerender"},
    {false, true, {true, NULL, NULL, HTML, NULL, "prefetch"}, "an old prefetch"},
    {false, true, {true, NULL, NULL, HTML, NULL, "Prefetch"}, "in capitals"},
    {false, true, {true, NULL, NULL, HTML, NULL, "preview"}, "a preview"},
    {false, true, {false, "navigate", "document", HTML, NULL, NULL}, "a POST"},
    {false, true, {false, NULL, NULL, HTML, NULL, NULL}, "an old POST"},
    /* What says nothing about itself starts no login, but may use a login's address. */
    {false, false, {true, NULL, NULL, NULL, NULL, NULL}, "nothing said"},
};

/* Programs. Whether they may use a login's own address is the room's choice. */
static const qo_request_facts_t programs[] = {
    {true, NULL, NULL, "*/*", NULL, NULL},
    {true, NULL, NULL, "application/json", NULL, NULL},
    {true, NULL, NULL, "application/json, text/plain, */*", NULL, NULL},
    {true, NULL, NULL, "image/webp,*/*", NULL, NULL},
    {true, NULL, NULL, "text/htmlx", NULL, NULL},
    {true, NULL, NULL, "xtext/html", NULL, NULL},
    {true, NULL, NULL, "text/plain;x=text/html", NULL, NULL},
    {true, NULL, NULL, "text/event-stream", NULL, NULL},
    {true, NULL, NULL, "", NULL, NULL},
};

static void check_visits(void)
{
    for (size_t i = 0; i < sizeof visits / sizeof *visits; i++) {
        tap_int(qo_gate_visit(&visits[i].facts), visits[i].visit, visits[i].what);
        tap_int(qo_gate_not_visit(&visits[i].facts), visits[i].not_visit,
                "  and what speaks against it");
    }
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        tap_ok(!qo_gate_visit(&programs[i]), "no visit: Accept %s", programs[i].accept);
    }
}

/* Over all combinations: nothing is at once a visit and not one, and none of what forbids
 * a login is ever outweighed. */
static void check_visit_rules(void)
{
    static const char *const modes[] = {NULL,      "navigate", "cors",
                                        "no-cors", "",         "NAVIGATE"};
    static const char *const dests[] = {NULL, "document", "iframe", "empty", ""};
    static const char *const accepts[] = {NULL, HTML, "*/*", "application/json"};
    static const char *const with[] = {NULL, "XMLHttpRequest", "fetch"};
    static const char *const purposes[] = {NULL, "prefetch",
                                           "prefetch;anonymous-client-ip"};
    int both = 0;
    int wrong = 0;

    for (int n = 0; n < 2 * 6 * 5 * 4 * 3 * 3; n++) {
        int i = n;
        qo_request_facts_t f;

        f.get = i % 2 == 1, i /= 2;
        f.fetch_mode = modes[i % 6], i /= 6;
        f.fetch_dest = dests[i % 5], i /= 5;
        f.accept = accepts[i % 4], i /= 4;
        f.requested_with = with[i % 3], i /= 3;
        f.purpose = purposes[i % 3];
        bool visit = qo_gate_visit(&f);
        both += visit && qo_gate_not_visit(&f);
        wrong += visit && !f.get;
        wrong += visit && f.purpose != NULL;
        wrong += visit && f.fetch_mode != NULL && strcasecmp(f.fetch_mode, "navigate") != 0;
        wrong += visit && f.fetch_dest != NULL && strcmp(f.fetch_dest, "document") != 0;
        wrong += visit && f.fetch_mode == NULL && (f.accept == NULL || f.accept[0] != 't');
        wrong += visit && f.fetch_mode == NULL && f.requested_with == with[1];
    }
    tap_int(both, 0, "nothing is at once a visit and not one");
    tap_int(wrong, 0, "and nothing outweighs what forbids a login");
}

/* ---- the callback ---- */

static const struct {
    const char *error;
    qo_status_t status;
} mapped[] = {
    {"access_denied", QO_E_ACCESS_DENIED},
    {"request_denied", QO_E_ACCESS_DENIED},
    {"invalid_scope", QO_E_REQUEST_REFUSED},
    {"invalid_request", QO_E_REQUEST_REFUSED},
    {"unauthorized_client", QO_E_REQUEST_REFUSED},
    {"unsupported_response_type", QO_E_REQUEST_REFUSED},
    {"invalid_state", QO_E_REQUEST_REFUSED},
    {"temporarily_unavailable", QO_E_PROVIDER_BUSY},
    {"server_error", QO_E_PROVIDER_FAILED},
    {"login_required", QO_E_ACCESS_DENIED},
    {"consent_required", QO_E_ACCESS_DENIED},
    {"something_new", QO_E_PROVIDER_OTHER},
    {"", QO_E_PROVIDER_OTHER},
    {"ACCESS_DENIED", QO_E_PROVIDER_OTHER},
    {"access_denied ", QO_E_PROVIDER_OTHER},
    {"<script>", QO_E_PROVIDER_OTHER},
};

static qo_status_t mapping(const char *error)
{
    for (size_t i = 0; i < sizeof mapped / sizeof *mapped; i++) {
        if (strcmp(error, mapped[i].error) == 0) {
            return mapped[i].status;
        }
    }
    return QO_E_INTERNAL;
}

/* A browser that signed in since gets its page, whatever came back and with no exchange; a
 * state works once, and only in the browser it was made for; then what Qonto said. */
static qo_callback_action_t wanted_callback(const qo_callback_facts_t *f,
                                            qo_status_t *status)
{
    if (f->signed_in_since) {
        return QO_CALLBACK_RETURN;
    }
    if (f->taken) {
        *status = QO_E_STATE_REPLAYED;
    } else if (!f->bound) {
        *status = QO_E_STATE_FOREIGN;
    } else if (f->error == NULL) {
        return QO_CALLBACK_EXCHANGE;
    } else if (strcmp(f->error, "request_forbidden") == 0) {
        if (f->restarts == 0) {
            return QO_CALLBACK_RESTART;
        }
        *status = QO_E_COLLISION;
    } else {
        *status = mapping(f->error);
    }
    return QO_CALLBACK_REFUSE;
}

static void check_callback_case(const qo_callback_facts_t *facts)
{
    static const char *const names[] = {"EXCHANGE", "RETURN", "RESTART", "REFUSE"};
    qo_status_t got_status = QO_OK;
    qo_status_t want_status = QO_OK;
    qo_callback_action_t got = qo_gate_callback(facts, &got_status);
    qo_callback_action_t want = wanted_callback(facts, &want_status);
    bool good = got == want && (want != QO_CALLBACK_REFUSE || got_status == want_status);

    if (!tap_ok(good, "%s, %s, %s, %d restarts, %s",
                facts->signed_in_since ? "signed in since" : "not signed in",
                facts->taken ? "taken" : "not taken", facts->bound ? "bound" : "not bound",
                facts->restarts, facts->error != NULL ? facts->error : "a code")) {
        printf("#   got %s QO%04d, want %s QO%04d\n", names[got],
               qo_error_info(got_status)->number, names[want],
               qo_error_info(want_status)->number);
    }
}

static void check_callback(void)
{
    enum { ERRORS = sizeof mapped / sizeof *mapped };

    for (unsigned bits = 0; bits < 8; bits++) {
        for (int restarts = 0; restarts < 4; restarts++) {
            qo_callback_facts_t facts = {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0,
                                         restarts, NULL};

            check_callback_case(&facts);
            facts.error = "request_forbidden";
            check_callback_case(&facts);
            for (size_t e = 0; e < ERRORS; e++) {
                facts.error = mapped[e].error;
                check_callback_case(&facts);
            }
        }
    }
}

int main(void)
{
    check_decide();
    check_never();
    check_visits();
    check_visit_rules();
    check_callback();
    return tap_done();
}
