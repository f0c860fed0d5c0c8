/* Every maximum of the module in one list. Sizes are bytes without the closing NUL,
 * times are seconds unless the name says otherwise. A parser takes its bound from here
 * and from nowhere else. */
#ifndef QO_LIMITS_H
#define QO_LIMITS_H

/* Secrets we make. 32 random bytes are 43 characters of base64url, 16 are 22. */
#define QO_SECRET_BYTES 32
#define QO_SECRET_TEXT 43 /* session cookie, state, PKCE verifier (RFC 7636: 43..128) */
#define QO_KEY_MIN 32     /* characters of a QontoSessionKey */
#define QO_BINDING_BYTES 16
#define QO_BINDING_TEXT                                                                    \
    22                  /* value of the cookie that binds a pending login to a browser     \
                         */
#define QO_BINDING_ID 6 /* how many characters of the state's hash name that cookie */

/* What visitors send. */
#define QO_LIMIT_QUERY 8192  /* query of the callback, connect and log-out URLs */
#define QO_LIMIT_PARAMS 32   /* parameters in it */
#define QO_LIMIT_CODE 2048   /* authorization code */
#define QO_LIMIT_RETURN 4096 /* return path; a longer one loses its query, then is "/" */
#define QO_LIMIT_TICKET_RETURN 2048 /* return path inside a link that starts a login */
#define QO_LIMIT_EXTRA 1024         /* extra authorization parameters, encoded */
#define QO_LIMIT_SESSION_COOKIES                                                           \
    4                                /* cookies of our session name looked at in a request \
                                      */
#define QO_LIMIT_BINDING_COOKIES 180 /* browsers keep about as many for one site */
#define QO_LIMIT_CLEARED_COOKIES                                                           \
    24 /* Set-Cookie lines one answer may spend on clearing                                \
        */

/* What Qonto sends. */
#define QO_LIMIT_ANSWER (64 * 1024) /* body of any answer */
#define QO_LIMIT_TOKEN 8000         /* one token; more does not fit a request header line */
#define QO_LIMIT_SCOPE 4096         /* scope list */
#define QO_LIMIT_ERROR_NAME 64      /* "error" */
#define QO_LIMIT_DESCRIPTION 300    /* how much of error_description is shown and logged */
#define QO_LIMIT_JSON_DEPTH 16
#define QO_LIMIT_EXPIRES_IN (90 * 86400)
#define QO_LIMIT_RETRY_AFTER 3600

/* What we store. */
#define QO_LIMIT_RECORD (32 * 1024) /* a sealed session or pending login */
#define QO_LIMIT_PENDING 100000     /* pending logins in the store */
#define QO_LIMIT_SESSIONS 5000000   /* sessions in the store */
#define QO_LIMIT_ADMIN 1024         /* administrative part of a session */
#define QO_LIMIT_KEYS 2             /* QontoSessionKey: the present one and an old one */

/* Room that must be left, in a file's map and on its file system, so that those who are
 * signed in stay so when it gets scarce: first the strangers go without, then the new. */
#define QO_ROOM_LOGINS (32UL << 20)  /* for more than QO_PENDING_FEW pending logins */
#define QO_ROOM_SESSION (16UL << 20) /* for a new session, and for any new login */
#define QO_ROOM_REFRESH (1UL << 20)  /* before tokens are spent on new ones */
#define QO_ROOM_IN_HAND                                                                    \
    (4UL << 20) /* taken by a file beyond what it uses; refilled when half of it is used   \
                 */
#define QO_PENDING_FEW 1000
#define QO_PENDING_DROP 32 /* so many go at once, where room is made by dropping them */

/* The session tool. */
#define QO_LIMIT_HELD_ROWS 500 /* lines it looks at to see how wide its columns are */
#define QO_LIMIT_SHOWN 20      /* sessions it names when a short hash fits several */
#define QO_HASH_DIGITS_MIN 6   /* of a session, to tell which is meant */

/* Times. */
#define QO_PENDING_LIFE                                                                    \
    (30 * 60)                /* log-in, second factor, choice of organization, consent */
#define QO_TOKEN_LIFE 3600   /* when the answer has no expires_in (Qonto: one hour) */
#define QO_TOUCH_INTERVAL 60 /* the idle clock is written at most this often, */
#define QO_TOUCH_SHARE 8     /* but this many times within an idle time that is short */
#define QO_REFRESH_MARGIN 60 /* an access token with less left is renewed */
#define QO_REFRESH_MARGIN_MAX 1800
#define QO_LEASE_KEEP 600 /* a lease's record is kept so long after it ended */
#define QO_TOMBSTONE_LIFE                                                                  \
    1800 /* longer than any lease: QontoTimeout's maximum, and QO_LEASE_MARGIN_MS */
#define QO_SESSION_MAX (90 * 86400) /* life of a refresh token at Qonto */
#define QO_SWEEP_INTERVAL 30
#define QO_SWEEP_BATCH 200       /* records looked at in one write transaction */
#define QO_SWEEP_STEP 50         /* of them that a durable file is locked for */
#define QO_WALK_BATCH 500        /* sessions looked at in one read transaction */
#define QO_TIMEOUT_SAFE_MS 40000 /* a longer call leaves no time to repeat it in 60 s */
#define QO_LEASE_MARGIN_MS 5000  /* a lease outlasts the call to Qonto by as much */
#define QO_REFRESH_WAIT_MS 1000  /* others wait so long while the old token is good */
#define QO_SAVE_WAIT_MS 3000     /* new tokens are tried to be stored for so long, */
#define QO_SAVE_PAUSE_MS 250     /* with such pauses */
#define QO_POLL_MIN_MS 2         /* pauses of those who wait for another's refresh */
#define QO_POLL_MAX_MS 25
#define QO_BACKOFF_STORE_MS 500 /* after new tokens could not be stored */
#define QO_BACKOFF_MIN_MS 1000  /* after a failed refresh: doubled each time, */
#define QO_BACKOFF_MAX_MS                                                                  \
    30000                         /* so that there are several tries in Qonto's 60 s grace \
                                   */
#define QO_REVOKE_TIMEOUT_MS 3000 /* a log-out waits no longer for Qonto */

/* Redis: what it sends, and how it is asked. */
#define QO_LIMIT_REPLY (4 * 1024 * 1024) /* all replies to what is asked at once */
#define QO_LIMIT_REPLY_ITEMS 100000      /* of one list in a reply */
#define QO_LIMIT_CLOCK (1LL << 40)       /* seconds that its clock shows */
#define QO_LIMIT_TIME (1LL << 60)        /* any time in a record, in microseconds */
#define QO_LIMIT_ADDRESSES 8             /* of one host name */
#define QO_LIMIT_CONNECTIONS 64          /* of one process to one Redis */
#define QO_REDIS_TIMEOUT_MS 500          /* an operation, looking up the name included */
#define QO_REDIS_PROBE_MS 250 /* while it is down, one call in so long tries it */
#define QO_REDIS_IDLE 60      /* a connection unused for longer may have died unseen */
#define QO_REDIS_NAME_LIFE 5  /* what a name stands for is looked up again after that */

#endif
