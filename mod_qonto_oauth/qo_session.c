#include "qo_session.h"

#define FORMAT 2

void qo_session_new(qo_session_t *out, const qo_token_t *token, uint32_t idle, uint32_t max,
                    apr_time_t now)
{
    out->created = now;
    out->expires = now + apr_time_from_sec((apr_time_t)max);
    out->renewed = now;
    out->idle = idle;
    out->token = *token;
    out->token.id = NULL;
    out->user = NULL;
    out->organization = NULL;
    /* Nothing could renew it, so nothing is gained by keeping it. */
    if (token->refresh == NULL && token->expires < out->expires) {
        out->expires = token->expires;
    }
}

void qo_session_renew(qo_session_t *session, const qo_token_t *token, apr_time_t now)
{
    const char *old = session->token.refresh;

    session->token = *token;
    session->token.id = NULL;
    session->renewed = now;
    if (token->refresh == NULL) {
        session->token.refresh = old;
    }
}

qo_status_t qo_session_encode(qo_bytes_t *out, apr_pool_t *p, const qo_session_t *session)
{
    qo_writer_t w;

    if (session->token.access == NULL || session->token.scope == NULL) {
        return QO_E_INTERNAL;
    }
    qo_pack_start(&w, p, QO_LIMIT_RECORD);
    qo_pack_u8(&w, FORMAT);
    qo_pack_u64(&w, (uint64_t)session->created);
    qo_pack_u64(&w, (uint64_t)session->expires);
    qo_pack_u64(&w, (uint64_t)session->renewed);
    qo_pack_u32(&w, session->idle);
    qo_pack_u64(&w, (uint64_t)session->token.expires);
    qo_pack_string(&w, session->token.access);
    qo_pack_string(&w, session->token.refresh);
    qo_pack_string(&w, session->token.scope);
    qo_pack_string(&w, session->user);
    qo_pack_string(&w, session->organization);
    return qo_pack_finish(&w, out) ? QO_OK : QO_E_INTERNAL;
}

qo_status_t qo_session_decode(qo_session_t *out, qo_bytes_t record)
{
    qo_reader_t r;

    qo_unpack_start(&r, record.data, record.len);
    if (qo_unpack_u8(&r) != FORMAT) {
        return QO_E_NOT_FOUND;
    }
    out->created = (apr_time_t)qo_unpack_u64(&r);
    out->expires = (apr_time_t)qo_unpack_u64(&r);
    out->renewed = (apr_time_t)qo_unpack_u64(&r);
    out->idle = qo_unpack_u32(&r);
    out->token.expires = (apr_time_t)qo_unpack_u64(&r);
    out->token.access = qo_unpack_string(&r);
    out->token.refresh = qo_unpack_string(&r);
    out->token.id = NULL;
    out->token.scope = qo_unpack_string(&r);
    out->user = qo_unpack_string(&r);
    out->organization = qo_unpack_string(&r);
    if (!qo_unpack_finish(&r) || out->token.access == NULL || out->token.scope == NULL) {
        return QO_E_NOT_FOUND;
    }
    return QO_OK;
}

static bool is_due(const qo_session_t *session, int margin, apr_time_t now)
{
    apr_time_t half = (session->token.expires - session->renewed) / 2;
    apr_time_t wanted = apr_time_from_sec((apr_time_t)margin);

    /* Given in what the clock now calls the future: it was set back since, or is not that
     * of the host which renewed it, so nobody knows how long the token lives. */
    if (session->renewed - now > wanted) {
        return true;
    }
    return session->token.expires - now < (wanted < half ? wanted : half);
}

qo_session_state_t qo_session_classify(const qo_session_t *session, int margin,
                                       apr_time_t now)
{
    if (session == NULL) {
        return QO_SESSION_NONE;
    }
    if (session->expires <= now) {
        return QO_SESSION_ENDED;
    }
    if (session->token.refresh == NULL) {
        return session->token.expires <= now ? QO_SESSION_ENDED : QO_SESSION_LIVE;
    }
    if (session->token.expires <= now) {
        return QO_SESSION_STALE;
    }
    return is_due(session, margin, now) ? QO_SESSION_DUE : QO_SESSION_LIVE;
}

void qo_session_id(char out[QO_SESSION_ID_LEN + 1], const qo_hash_t *key)
{
    static const char DIGITS[] = "0123456789abcdef";

    for (int i = 0; i < QO_SESSION_ID_LEN / 2; i++) {
        out[2 * i] = DIGITS[key->bytes[i] >> 4];
        out[2 * i + 1] = DIGITS[key->bytes[i] & 15];
    }
    out[QO_SESSION_ID_LEN] = '\0';
}
