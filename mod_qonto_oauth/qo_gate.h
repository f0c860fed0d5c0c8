/* The judge: facts in, one action out. No input or output, no allocation, no clock. */
#ifndef QO_GATE_H
#define QO_GATE_H

#include "qo_error.h"
#include "qo_session.h"

#include <stdbool.h>

/* ---- a request to a location with AuthType Qonto ---- */

/* QontoUnauthenticated */
typedef enum { QO_POLICY_LOGIN, QO_POLICY_PAGE, QO_POLICY_401, QO_POLICY_PASS } qo_policy_t;

typedef struct {
    bool store_failed; /* a session cookie came, and the store could not say */
    qo_session_state_t session;
    bool refresh_tried; /* in this request */
    qo_policy_t policy;
    bool visit;      /* somebody opens a page: a login may start */
    bool other_host; /* under a host name that does not see the callback's cookies */
} qo_facts_t;

typedef enum {
    QO_ACTION_PASS,        /* signed in: export and go on */
    QO_ACTION_REFRESH,     /* renew the tokens, then ask again */
    QO_ACTION_ANONYMOUS,   /* go on, exporting nothing */
    QO_ACTION_LOGIN,       /* send the browser to Qonto */
    QO_ACTION_MOVE,        /* first send it to the callback's host, then to Qonto */
    QO_ACTION_PAGE,        /* show the page with the button */
    QO_ACTION_DENY,        /* 401 */
    QO_ACTION_UNAVAILABLE, /* signed in, but without a store or a token: cookies kept */
} qo_action_t;

qo_action_t qo_gate_decide(const qo_facts_t *facts);

/* What browsers tell about a request; NULL where a header is absent. */
typedef struct {
    bool get; /* GET, not HEAD */
    const char *fetch_mode;
    const char *fetch_dest;
    const char *accept;
    const char *requested_with;
    const char *purpose; /* Sec-Purpose, Purpose or X-Moz, whichever came */
} qo_request_facts_t;

/* Is this a top-level visit of a page? By Sec-Fetch-Mode and -Dest where the browser sends
 * them, else by Accept; prefetches never are. */
bool qo_gate_visit(const qo_request_facts_t *facts);

/* Does anything say that this is *not* a visit? For addresses whose only use is a visit. */
bool qo_gate_not_visit(const qo_request_facts_t *facts);

/* ---- the callback ---- */

typedef struct {
    bool signed_in_since; /* a live session other than the one this login began with */
    bool taken;
    bool bound; /* the browser brought the cookie this login was bound to */
    int restarts;
    const char *error; /* Qonto's "error", NULL when there is a code */
} qo_callback_facts_t;

typedef enum {
    QO_CALLBACK_EXCHANGE,
    QO_CALLBACK_RETURN,  /* to the saved page, no exchange */
    QO_CALLBACK_RESTART, /* to Qonto once more */
    QO_CALLBACK_REFUSE,  /* with the status given */
} qo_callback_action_t;

/* For a login that was found in the store. `*status` is set for REFUSE. */
qo_callback_action_t qo_gate_callback(const qo_callback_facts_t *facts,
                                      qo_status_t *status);

#endif
