#include "qo_redis.h"

#include "qo_redis_pool.h"

#include <string.h>

#define PIECE 4096 /* read from a connection at once */

/* ---- talking ---- */

static qo_status_t receive(qo_redis_talk_t *talk, qo_redis_reply_t *reply, qo_err_t *err)
{
    char piece[PIECE];
    qo_redis_reply_state_t state;

    while ((state = qo_redis_reply_next(talk->reader, reply, talk->p)) ==
           QO_REDIS_REPLY_PART) {
        size_t got;
        qo_status_t status =
            qo_wire_receive(&talk->wire, piece, sizeof(piece), &got, talk->until, err);

        if (status != QO_OK) {
            return status;
        }
        if (!qo_redis_reply_feed(talk->reader, piece, got)) {
            return qo_error(err, QO_E_STORE_UNAVAILABLE, "the answer is too long");
        }
    }
    return state == QO_REDIS_REPLY_WHOLE ? QO_OK
                                         : qo_error(err, QO_E_STORE_UNAVAILABLE,
                                                    "the answer is not Redis's protocol");
}

/* On a connection that is open. */
static qo_status_t exchange(qo_redis_talk_t *talk, qo_redis_reply_t *replies,
                            const qo_redis_command_t *commands, int count, qo_err_t *err)
{
    qo_bytes_t said;
    qo_status_t status;

    if (!qo_redis_reply_format(&said, talk->p, commands, count)) {
        return qo_error(err, QO_E_INTERNAL, "no memory");
    }
    talk->sent = true;
    status = qo_wire_send(&talk->wire, said.data, said.len, talk->until, err);
    for (int i = 0; status == QO_OK && i < count; i++) {
        status = receive(talk, &replies[i], err);
    }
    if (status == QO_OK && !qo_redis_reply_finish(talk->reader)) {
        status = qo_error(err, QO_E_STORE_UNAVAILABLE, "it answers what was not asked");
    }
    return status;
}

static qo_status_t expect_ok(qo_redis_talk_t *talk, const qo_redis_command_t *command,
                             qo_err_t *err)
{
    qo_redis_reply_t reply;
    qo_status_t status = exchange(talk, &reply, command, 1, err);

    if (status == QO_OK && !(reply.kind == QO_REDIS_TEXT && reply.text.len == 2 &&
                             memcmp(reply.text.data, "OK", 2) == 0)) {
        (void)qo_redis_refusal(&reply, err);
        status = QO_E_STORE_UNAVAILABLE;
    }
    return status;
}

static qo_status_t authenticate(qo_redis_talk_t *talk, qo_err_t *err)
{
    const qo_redis_settings_t *settings = talk->redis->settings;
    qo_redis_command_t command;
    qo_err_t why = {.detail = ""};

    if (settings->password == NULL) {
        return QO_OK;
    }
    qo_redis_begin_command(&command, "AUTH");
    if (settings->user != NULL) {
        qo_redis_add_text(&command, settings->user);
    }
    qo_redis_add_text(&command, settings->password);
    if (expect_ok(talk, &command, &why) == QO_OK) {
        return QO_OK;
    }
    return qo_error(err, QO_E_STORE_UNAVAILABLE, "logging in: %s", why.detail);
}

static qo_status_t select_database(qo_redis_talk_t *talk, qo_err_t *err)
{
    qo_redis_command_t command;
    qo_err_t why = {.detail = ""};

    if (talk->redis->settings->database == 0) {
        return QO_OK;
    }
    qo_redis_begin_command(&command, "SELECT");
    qo_redis_add_number(&command, talk->redis->settings->database);
    if (expect_ok(talk, &command, &why) == QO_OK) {
        return QO_OK;
    }
    return qo_error(err, QO_E_STORE_UNAVAILABLE, "choosing database %d: %s",
                    talk->redis->settings->database, why.detail);
}

static qo_status_t connect_anew(qo_redis_talk_t *talk, qo_err_t *err)
{
    bool before = talk->sent;
    qo_status_t status;

    qo_redis_pool_hang_up(talk);
    talk->age = atomic_load(&talk->redis->health->failures);
    status = qo_wire_open(&talk->wire, talk->redis->site, talk->until, err);
    if (status != QO_OK) {
        return status;
    }
    talk->reader = qo_redis_reply_reader();
    if (talk->reader == NULL) {
        return qo_error(err, QO_E_INTERNAL, "no memory");
    }
    status = authenticate(talk, err);
    if (status == QO_OK) {
        status = select_database(talk, err);
    }
    talk->sent = talk->sent && before;
    return status;
}

/* What is wrong with this process alone must not keep the others from Redis. */
static qo_status_t fail(qo_redis_talk_t *talk, qo_status_t status, const qo_err_t *why,
                        qo_err_t *err)
{
    qo_err_t all = {.detail = ""};

    qo_redis_pool_hang_up(talk);
    (void)qo_error(&all, QO_E_STORE_UNAVAILABLE, "redis at %s: %s",
                   qo_wire_shown(talk->redis->site), why->detail);
    if (status != QO_E_INTERNAL) {
        qo_redis_pool_down(talk->redis, &all);
    }
    return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s", all.detail);
}

/* A connection that is to be used no more although it works: behind it is a replica now, or
 * a server that has forgotten who we are. */
static bool is_lost(const qo_redis_reply_t *reply)
{
    static const char *const CODES[] = {"READONLY", "MASTERDOWN", "NOAUTH"};

    for (size_t i = 0; i < sizeof(CODES) / sizeof(CODES[0]); i++) {
        if (reply->kind == QO_REDIS_REFUSAL &&
            strstr((const char *)reply->text.data, CODES[i]) != NULL) {
            return true;
        }
    }
    return false;
}

qo_status_t qo_redis_ask(qo_redis_talk_t *talk, qo_redis_reply_t *replies,
                         const qo_redis_command_t *commands, int count, qo_err_t *err)
{
    bool kept = talk->reader != NULL;
    qo_err_t why = {.detail = ""};
    qo_status_t status = kept ? QO_OK : connect_anew(talk, &why);

    if (status == QO_OK) {
        status = exchange(talk, replies, commands, count, &why);
    }
    /* A kept connection may have been closed for reasons of its own. */
    if (status != QO_OK && kept && qo_wire_clock() < talk->until) {
        status = connect_anew(talk, &why);
        if (status == QO_OK) {
            status = exchange(talk, replies, commands, count, &why);
        }
    }
    if (status != QO_OK) {
        return fail(talk, status, &why, err);
    }
    qo_redis_pool_up(talk->redis);
    if (is_lost(&replies[0])) {
        qo_redis_pool_hang_up(talk);
    }
    return QO_OK;
}

/* ---- scripts ---- */

static bool is_unknown(const qo_redis_reply_t *reply)
{
    return reply->kind == QO_REDIS_REFUSAL &&
           strncmp((const char *)reply->text.data, "NOSCRIPT", 8) == 0;
}

static qo_status_t run_once(qo_redis_talk_t *talk, qo_redis_reply_t *reply,
                            const qo_redis_script_t *script, const qo_redis_command_t *call,
                            qo_err_t *err)
{
    qo_redis_command_t whole;
    qo_status_t status = qo_redis_ask(talk, reply, call, 1, err);

    if (status != QO_OK || !is_unknown(reply)) {
        return status;
    }
    whole = *call;
    whole.word[0] = "EVAL";
    whole.len[0] = 4;
    whole.word[1] = script->text;
    whole.len[1] = strlen(script->text);
    return qo_redis_ask(talk, reply, &whole, 1, err);
}

qo_status_t qo_redis_run(qo_redis_talk_t *talk, qo_redis_reply_t *reply,
                         const qo_redis_script_t *script, const qo_redis_command_t *call,
                         bool vital, qo_err_t *err)
{
    qo_status_t status;

    talk->sent = false;
    status = run_once(talk, reply, script, call, err);
    if (status != QO_OK && vital && talk->sent) {
        talk->until = qo_redis_pool_deadline(talk->redis);
        status = run_once(talk, reply, script, call, err);
    }
    if (status != QO_OK) {
        return status;
    }
    return reply->kind == QO_REDIS_REFUSAL ? qo_redis_refusal(reply, err) : QO_OK;
}
