/* The protocol's two directions, by hiredis. */
#ifndef QO_REDIS_REPLY_H
#define QO_REDIS_REPLY_H

#include "qo_redis.h"

typedef struct qo_redis_reader_t qo_redis_reader_t;

/* In the heap; NULL without memory. */
qo_redis_reader_t *qo_redis_reply_reader(void);
void qo_redis_reply_free(qo_redis_reader_t *reader);

/* What came in. False: too much. */
bool qo_redis_reply_feed(qo_redis_reader_t *reader, const char *data, size_t len);

typedef enum {
    QO_REDIS_REPLY_WHOLE,
    QO_REDIS_REPLY_PART, /* more must come */
    QO_REDIS_REPLY_BAD   /* no reply of Redis */
} qo_redis_reply_state_t;

/* The next reply, copied to `p`. */
qo_redis_reply_state_t qo_redis_reply_next(qo_redis_reader_t *reader, qo_redis_reply_t *out,
                                           apr_pool_t *p);

/* Has all been read that came in? Then the count of what may come in starts anew. */
bool qo_redis_reply_finish(qo_redis_reader_t *reader);

/* The commands as they are sent, in `p`; false without memory. */
bool qo_redis_reply_format(qo_bytes_t *out, apr_pool_t *p,
                           const qo_redis_command_t *commands, int count);

#endif
