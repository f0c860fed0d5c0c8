#include "qo_redis_reply.h"

#include "qo_limits.h"

#include <apr_lib.h>
#include <apr_sha1.h>
#include <apr_strings.h>

#include <hiredis.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long a list is, hiredis 0 tells in an int and hiredis 1 in a size_t. */
#if HIREDIS_MAJOR >= 1
typedef size_t list_len_t;
#else
typedef int list_len_t;
#endif

typedef void *list_maker_t(const redisReadTask *task, list_len_t len);
typedef void *text_maker_t(const redisReadTask *task, char *text, size_t len);

struct qo_redis_reader_t {
    redisReader *parser;
    redisReplyObjectFunctions functions;
    list_maker_t *make_list; /* hiredis's own */
    text_maker_t *make_text;
    size_t fed;
};

/* ---- reading ---- */

/* hiredis takes memory for as many items as are announced, before any of them has come. */
static void *make_list(const redisReadTask *task, list_len_t len)
{
    const qo_redis_reader_t *reader = task->privdata;

    if (len > QO_LIMIT_REPLY_ITEMS) {
        return NULL;
    }
    return reader->make_list(task, len);
}

/* Where a size_t has 32 bits, old hiredis can take a long text that is announced for one
 * that has come. */
static void *make_text(const redisReadTask *task, char *text, size_t len)
{
    const qo_redis_reader_t *reader = task->privdata;

    return len <= QO_LIMIT_REPLY ? reader->make_text(task, text, len) : NULL;
}

qo_redis_reader_t *qo_redis_reply_reader(void)
{
    qo_redis_reader_t *reader = calloc(1, sizeof(*reader));

    if (reader == NULL) {
        return NULL;
    }
    reader->parser = redisReaderCreate();
    if (reader->parser == NULL) {
        free(reader);
        return NULL;
    }
    reader->functions = *reader->parser->fn;
    reader->make_list = reader->functions.createArray;
    reader->functions.createArray = make_list;
    reader->make_text = reader->functions.createString;
    reader->functions.createString = make_text;
    reader->parser->fn = &reader->functions;
    reader->parser->privdata = reader;
    return reader;
}

void qo_redis_reply_free(qo_redis_reader_t *reader)
{
    if (reader != NULL) {
        redisReaderFree(reader->parser);
        free(reader);
    }
}

bool qo_redis_reply_feed(qo_redis_reader_t *reader, const char *data, size_t len)
{
    reader->fed += len;
    return reader->fed <= QO_LIMIT_REPLY &&
           redisReaderFeed(reader->parser, data, len) == REDIS_OK;
}

static void copy_text(qo_redis_reply_t *out, qo_redis_kind_t kind, apr_pool_t *p,
                      const redisReply *from)
{
    size_t len = (size_t)from->len;
    unsigned char *text = apr_palloc(p, len + 1);

    memcpy(text, from->str, len);
    text[len] = '\0';
    out->kind = kind;
    out->text = (qo_bytes_t){text, len};
}

/* All but lists. False for a type that was not asked for (RESP3 has more). */
static bool copy_simple(qo_redis_reply_t *out, apr_pool_t *p, const redisReply *from)
{
    memset(out, 0, sizeof(*out));
    switch (from->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
        copy_text(out, QO_REDIS_TEXT, p, from);
        return true;
    case REDIS_REPLY_ERROR:
        copy_text(out, QO_REDIS_REFUSAL, p, from);
        return true;
    case REDIS_REPLY_INTEGER:
        out->kind = QO_REDIS_NUMBER;
        out->number = from->integer;
        return true;
    case REDIS_REPLY_NIL:
        out->kind = QO_REDIS_NIL;
        return true;
    default:
        return false;
    }
}

/* hiredis itself stops at seven lists within each other. */
static bool copy(qo_redis_reply_t *out, apr_pool_t *p, const redisReply *from)
{
    if (from->type != REDIS_REPLY_ARRAY) {
        return copy_simple(out, p, from);
    }
    memset(out, 0, sizeof(*out));
    out->kind = QO_REDIS_LIST;
    out->count = (size_t)from->elements;
    out->items = apr_pcalloc(p, (out->count + 1) * sizeof(*out->items));
    for (size_t i = 0; i < out->count; i++) {
        if (!copy(&out->items[i], p, from->element[i])) {
            return false;
        }
    }
    return true;
}

qo_redis_reply_state_t qo_redis_reply_next(qo_redis_reader_t *reader, qo_redis_reply_t *out,
                                           apr_pool_t *p)
{
    void *reply = NULL;
    bool good;

    if (redisReaderGetReply(reader->parser, &reply) != REDIS_OK) {
        return QO_REDIS_REPLY_BAD;
    }
    if (reply == NULL) {
        return QO_REDIS_REPLY_PART;
    }
    good = copy(out, p, reply);
    freeReplyObject(reply);
    return good ? QO_REDIS_REPLY_WHOLE : QO_REDIS_REPLY_BAD;
}

bool qo_redis_reply_finish(qo_redis_reader_t *reader)
{
    reader->fed = 0;
    return reader->parser->pos == reader->parser->len;
}

/* ---- writing ---- */

void qo_redis_begin_command(qo_redis_command_t *command, const char *name)
{
    command->count = 0;
    qo_redis_add_text(command, name);
}

void qo_redis_add_bytes(qo_redis_command_t *command, const void *data, size_t len)
{
    if (command->count >= QO_REDIS_WORDS) {
        abort(); /* a mistake of ours that the first test finds */
    }
    command->word[command->count] = data != NULL ? data : "";
    command->len[command->count++] = len;
}

void qo_redis_add_text(qo_redis_command_t *command, const char *text)
{
    qo_redis_add_bytes(command, text, strlen(text));
}

void qo_redis_add_number(qo_redis_command_t *command, int64_t number)
{
    char *digits = command->digits[command->count % QO_REDIS_WORDS];

    (void)snprintf(digits, sizeof(command->digits[0]), "%lld", (long long)number);
    qo_redis_add_text(command, digits);
}

void qo_redis_begin_script(qo_redis_command_t *command, const qo_redis_script_t *script,
                           int keys)
{
    qo_redis_begin_command(command, "EVALSHA");
    qo_redis_add_text(command, script->sha1);
    qo_redis_add_number(command, keys);
}

void qo_redis_prepare_script(qo_redis_script_t *script)
{
    static const char HEX[] = "0123456789abcdef";
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    apr_sha1_ctx_t context;

    apr_sha1_init(&context);
    apr_sha1_update(&context, script->text, (unsigned int)strlen(script->text));
    apr_sha1_final(digest, &context);
    for (size_t i = 0; i < sizeof(digest); i++) {
        script->sha1[2 * i] = HEX[digest[i] >> 4];
        script->sha1[2 * i + 1] = HEX[digest[i] & 15];
    }
    script->sha1[40] = '\0';
}

static bool append(qo_bytes_t *out, apr_pool_t *p, const qo_redis_command_t *command)
{
    const char *words[QO_REDIS_WORDS];
    char *text = NULL;
    long long len;
    unsigned char *longer;

    memcpy(words, command->word, sizeof(words));
    len = redisFormatCommandArgv(&text, command->count, words, command->len);
    if (len < 0) {
        return false;
    }
    longer = apr_palloc(p, out->len + (size_t)len);
    if (out->len > 0) {
        memcpy(longer, out->data, out->len);
    }
    memcpy(longer + out->len, text, (size_t)len);
    free(text);
    *out = (qo_bytes_t){longer, out->len + (size_t)len};
    return true;
}

bool qo_redis_reply_format(qo_bytes_t *out, apr_pool_t *p,
                           const qo_redis_command_t *commands, int count)
{
    *out = (qo_bytes_t){NULL, 0};
    for (int i = 0; i < count; i++) {
        if (!append(out, p, &commands[i])) {
            return false;
        }
    }
    return true;
}

/* ---- refusals ---- */

/* Redis 6 and older wrap what a script met: "ERR Error running script (call to f_...):
 * @user_script:5: @user_script: 5: -OOM command not allowed ..." */
static const char *innermost(const char *text)
{
    const char *inner;

    if (strncmp(text, "ERR Error running script", 24) != 0) {
        return text;
    }
    while ((inner = strstr(text, ": -")) != NULL) {
        text = inner + 3;
    }
    return text;
}

/* The first word, by which Redis tells refusals apart, if it looks like one. */
static void read_code(char *out, size_t size, const char *text)
{
    size_t len = 0;

    while (len + 1 < size && apr_isupper(text[len])) {
        out[len] = text[len];
        len++;
    }
    out[len] = '\0';
}

qo_status_t qo_redis_refusal(const qo_redis_reply_t *reply, qo_err_t *err)
{
    static const struct {
        const char *code;
        const char *words;
    } KNOWN[] = {
        {"NOAUTH", "Redis wants a password: write redis://user:password@host"},
        {"WRONGPASS", "Redis refuses the user or the password"},
        {"NOPERM", "the user may not do what is needed: DIRECTIVES.md has the ACL rule"},
        {"MOVED", "Redis is part of a Redis Cluster, which this module does not speak"},
        {"ASK", "Redis is part of a Redis Cluster, which this module does not speak"},
        {"CLUSTERDOWN",
         "Redis is part of a Redis Cluster, which this module does not speak"},
        {"CROSSSLOT", "Redis is part of a Redis Cluster, which this module does not speak"},
        {"READONLY", "Redis is a replica, which cannot be written to: name the primary"},
        {"MASTERDOWN", "Redis is a replica that has lost its primary"},
        {"LOADING", "Redis is still loading its data"},
        {"BUSY", "Redis is busy with somebody's script"},
        {"MISCONF", "Redis cannot save its data and refuses to write"},
        {"NOREPLICAS", "Redis has too few replicas and refuses to write"},
        {"OOM", "Redis has no memory left (maxmemory)"},
    };
    char code[24];

    if (reply->kind != QO_REDIS_REFUSAL) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "Redis gives an answer that makes no sense");
    }
    read_code(code, sizeof(code), innermost((const char *)reply->text.data));
    for (size_t i = 0; i < sizeof(KNOWN) / sizeof(KNOWN[0]); i++) {
        if (strcmp(code, KNOWN[i].code) == 0) {
            return qo_error(
                err, strcmp(code, "OOM") == 0 ? QO_E_STORE_FULL : QO_E_STORE_UNAVAILABLE,
                "%s (%s)", KNOWN[i].words, code);
        }
    }
    return qo_error(err, QO_E_STORE_UNAVAILABLE, "Redis refuses (%s)",
                    code[0] != '\0' ? code : "without a reason");
}
