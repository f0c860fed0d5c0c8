/* Bounded JSON decoding with typed getters, and strings to write. The only room that knows
 * jansson. Documents are freed with their pool. */
#ifndef QO_JSON_H
#define QO_JSON_H

#include "qo_error.h"
#include "qo_limits.h"

#include <apr_pools.h>

#include <stdint.h>

typedef struct json_t qo_json_t;

/* Decodes an object of at most QO_LIMIT_ANSWER bytes: UTF-8, no duplicate names, no NUL in
 * strings, nested at most QO_LIMIT_JSON_DEPTH deep. QO_E_BAD_ANSWER otherwise; the detail
 * never quotes the text. */
qo_status_t qo_json_parse(const qo_json_t **out, apr_pool_t *p, const char *text,
                          size_t len, qo_err_t *err) QO_MUST_CHECK;

/* Is there such a member, of any type but null? */
bool qo_json_has(const qo_json_t *object, const char *name);

/* The member, or NULL when it is absent or of another type. Strings live as long as the
 * document. */
const char *qo_json_string(const qo_json_t *object, const char *name);
const qo_json_t *qo_json_object(const qo_json_t *object, const char *name);

typedef enum { QO_JSON_ABSENT, QO_JSON_INTEGER, QO_JSON_OTHER } qo_json_number_t;

/* An integer, also when written as a string of digits. Null counts as absent. */
qo_json_number_t qo_json_integer(const qo_json_t *object, const char *name, int64_t *out);

/* The text as a JSON string with its quotes, all ASCII; null for NULL. Text that is no
 * UTF-8 loses what is not ASCII. Lives in `p`. */
const char *qo_json_quote(apr_pool_t *p, const char *text);

#endif
