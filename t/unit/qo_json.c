/* JSON as Qonto sends it, and as somebody else might. */
#include "qo_json.h"

#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>

static apr_pool_t *pool;

/* Parses a copy of exactly `len` bytes without a NUL behind it. */
static qo_status_t parse(const qo_json_t **out, const char *text, size_t len, qo_err_t *err)
{
    char *copy = malloc(len + (len == 0));

    if (copy == NULL) {
        abort();
    }
    memcpy(copy, text, len);
    *out = NULL;
    qo_status_t status = qo_json_parse(out, pool, copy, len, err);
    free(copy);
    return status;
}

static const qo_json_t *good(const char *text)
{
    const qo_json_t *json = NULL;

    tap_int(parse(&json, text, strlen(text), NULL), QO_OK, "a document is read");
    return json;
}

static void check_refused(void)
{
    static const char *const bad[] = {"",
                                      " ",
                                      "x",
                                      "null",
                                      "true",
                                      "1",
                                      "\"text\"",
                                      "[]",
                                      "[{}]",
                                      "{",
                                      "}",
                                      "{}}",
                                      "{} x",
                                      "{}{}",
                                      "{\"hidden\"}",
                                      "{\"hidden\":}",
                                      "{\"hidden\":1,}",
                                      "{'hidden':1}",
                                      "{hidden:1}",
                                      "{\"hidden\":01}",
                                      "{\"hidden\":NaN}",
                                      "{\"hidden\":Infinity}",
                                      "{\"hidden\":1}/*c*/",
                                      "{\"hidden\":+1}",
                                      "{\"hidden\":.5}",
                                      "{\"hidden\":\"x}",
                                      "{\"hidden\":\"\\x\"}",
                                      "{\"hidden\":\"\\u12\"}",
                                      "{\"hidden\":\"a\nb\"}",
                                      "{\"hidden\":1,\"hidden\":1}",
                                      "{\"hidden\":1,\"hid\\u0064en\":2}",
                                      "{\"o\":{\"hidden\":1,\"hidden\":2}}",
                                      "{\"hidden\":\"\\u0000\"}",
                                      "{\"hidden\":\"a\\u0000b\"}",
                                      "{\"hid\\u0000den\":1}",
                                      "{\"hidden\":\"\xff\"}",
                                      "{\"hidden\":\"\xc3\"}",
                                      "{\"hidden\":\"\xc0\xaf\"}",
                                      "{\"hidden\":\"\xed\xa0\x80\"}",
                                      "{\"hidden\":\"\xf4\x90\x80\x80\"}",
                                      "{\"hidden\":\"\\ud800\"}",
                                      "\xef\xbb\xbf{}",
                                      "<html>hidden</html>",
                                      "{\"hidden\":1e999}",
                                      "{\"hidden\":99999999999999999999}"};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const qo_json_t *json;
        qo_err_t err = {"", 0};
        qo_status_t status = parse(&json, bad[i], strlen(bad[i]), &err);

        tap_ok(status == QO_E_BAD_ANSWER && strstr(err.detail, "hidden") == NULL,
               "no object of ours, and no word of it in the detail: %zu", i);
    }
}

static void check_bytes(void)
{
    const qo_json_t *json;

    tap_int(parse(&json, "{}\0", 3, NULL), QO_E_BAD_ANSWER, "a NUL after the end");
    tap_int(parse(&json, "{\"a\":\"b\0c\"}", 11, NULL), QO_E_BAD_ANSWER, "a NUL inside");
    tap_int(parse(&json, "\0{}", 3, NULL), QO_E_BAD_ANSWER, "a NUL before");
    tap_int(parse(&json, "{}garbage", 2, NULL), QO_OK, "only the bytes given count");
}

static void check_truncated(void)
{
    static const char text[] =
        "{\"a\":\"b\",\"n\":-12,\"o\":{\"x\":[1,2,{\"y\":null}]},\"t\":true}";
    const qo_json_t *json;
    int accepted = 0;

    for (size_t len = 0; len < sizeof text - 1; len++) {
        accepted += parse(&json, text, len, NULL) == QO_OK;
    }
    tap_int(accepted, 0, "no truncation is accepted");
    tap_int(parse(&json, text, sizeof text - 1, NULL), QO_OK, "the whole is");
}

static qo_status_t nested(const char *open, const char *close, int depth)
{
    char *text = apr_palloc(pool, (size_t)depth * 8 + 16);
    size_t at = 0;
    const qo_json_t *json;

    text[at++] = '{';
    memcpy(text + at, "\"a\":", 4);
    at += 4;
    for (int i = 0; i < depth - 1; i++) {
        memcpy(text + at, open, strlen(open));
        at += strlen(open);
    }
    text[at++] = '1';
    for (int i = 0; i < depth - 1; i++) {
        memcpy(text + at, close, strlen(close));
        at += strlen(close);
    }
    text[at++] = '}';
    return parse(&json, text, at, NULL);
}

static void check_depth(void)
{
    tap_int(nested("[", "]", QO_LIMIT_JSON_DEPTH), QO_OK, "16 levels deep");
    tap_int(nested("[", "]", QO_LIMIT_JSON_DEPTH + 1), QO_E_BAD_ANSWER, "17 levels");
    tap_int(nested("{\"a\":", "}", QO_LIMIT_JSON_DEPTH), QO_OK, "16 levels of objects");
    tap_int(nested("{\"a\":", "}", QO_LIMIT_JSON_DEPTH + 1), QO_E_BAD_ANSWER,
            "17 of those");
    tap_int(nested("[", "]", 1000), QO_E_BAD_ANSWER, "1000 levels");
    tap_int(nested("[", "]", 30000), QO_E_BAD_ANSWER, "30000 levels");
}

/* Brackets in strings are not levels. */
static void check_false_depth(void)
{
    (void)good(
        "{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[\",\"b\":\"\\\"{{{{{{{{{{{{{{{{{{{{{{\"}");
    (void)good("{\"a\":[1],\"b\":[1],\"c\":[1],\"d\":[1],\"e\":[1],\"f\":[1],\"g\":[1],"
               "\"h\":[1],\"i\":[1],\"j\":[1],\"k\":[1],\"l\":[1],\"m\":[1],\"n\":[1],"
               "\"o\":[1],\"p\":[1],\"q\":[1],\"r\":[1]}");
}

static void check_size(void)
{
    char *text = apr_palloc(pool, QO_LIMIT_ANSWER + 1);
    const qo_json_t *json;

    memset(text, ' ', QO_LIMIT_ANSWER + 1);
    memcpy(text, "{}", 2);
    tap_int(parse(&json, text, QO_LIMIT_ANSWER, NULL), QO_OK, "64 KiB");
    tap_int(parse(&json, text, QO_LIMIT_ANSWER + 1, NULL), QO_E_BAD_ANSWER,
            "one byte more");
}

static void check_getters(void)
{
    const qo_json_t *json =
        good("{\"text\":\"\xc3\xa9\\u20ac\\n\",\"empty\":\"\",\"null\":null,"
             "\"number\":1,\"object\":{\"in\":\"side\"},\"array\":[],"
             "\"no\":false}");

    tap_is(qo_json_string(json, "text"), "\xc3\xa9\xe2\x82\xac\n", "a string");
    tap_is(qo_json_string(json, "empty"), "", "an empty one");
    tap_is(qo_json_string(json, "null"), NULL, "null is no string");
    tap_is(qo_json_string(json, "number"), NULL, "nor is a number");
    tap_is(qo_json_string(json, "object"), NULL, "nor an object");
    tap_is(qo_json_string(json, "absent"), NULL, "nor what is not there");
    tap_is(qo_json_string(json, "Text"), NULL, "names are told by case");
    tap_ok(qo_json_object(json, "object") != NULL, "an object");
    tap_is(qo_json_string(qo_json_object(json, "object"), "in"), "side", "and its member");
    tap_ok(qo_json_object(json, "array") == NULL && qo_json_object(json, "text") == NULL &&
               qo_json_object(json, "null") == NULL &&
               qo_json_object(json, "absent") == NULL,
           "nothing else is one");
    tap_ok(qo_json_has(json, "text") && qo_json_has(json, "empty") &&
               qo_json_has(json, "no") && qo_json_has(json, "array") &&
               qo_json_has(json, "number"),
           "members of any type are there");
    tap_ok(!qo_json_has(json, "null") && !qo_json_has(json, "absent"),
           "null and absent are not");
}

static void check_integers(void)
{
    static const struct {
        const char *value;
        qo_json_number_t kind;
        int64_t number;
    } cases[] = {
        {"3600", QO_JSON_INTEGER, 3600},
        {"0", QO_JSON_INTEGER, 0},
        {"-1", QO_JSON_INTEGER, -1},
        {"\"3600\"", QO_JSON_INTEGER, 3600},
        {"\"0\"", QO_JSON_INTEGER, 0},
        {"9223372036854775807", QO_JSON_INTEGER, INT64_MAX},
        {"-9223372036854775808", QO_JSON_INTEGER, INT64_MIN},
        {"\"9223372036854775807\"", QO_JSON_INTEGER, INT64_MAX},
        {"1099511627776", QO_JSON_INTEGER, 1099511627776},
        {"null", QO_JSON_ABSENT, 0},
        {"1.5", QO_JSON_OTHER, 0},
        {"3600.0", QO_JSON_OTHER, 0},
        {"1e3", QO_JSON_OTHER, 0},
        {"true", QO_JSON_OTHER, 0},
        {"[]", QO_JSON_OTHER, 0},
        {"{}", QO_JSON_OTHER, 0},
        {"\"\"", QO_JSON_OTHER, 0},
        {"\"abc\"", QO_JSON_OTHER, 0},
        {"\"12x\"", QO_JSON_OTHER, 0},
        {"\" 12\"", QO_JSON_OTHER, 0},
        {"\"12 \"", QO_JSON_OTHER, 0},
        {"\"+12\"", QO_JSON_OTHER, 0},
        {"\"0x10\"", QO_JSON_OTHER, 0},
        {"\"1e3\"", QO_JSON_OTHER, 0},
        {"\"1.0\"", QO_JSON_OTHER, 0},
        {"\"9223372036854775808\"", QO_JSON_OTHER, 0},
        {"\"99999999999999999999999999999\"", QO_JSON_OTHER, 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const qo_json_t *json =
            good(apr_pstrcat(pool, "{\"n\":", cases[i].value, "}", NULL));
        int64_t number = 0;
        qo_json_number_t kind = qo_json_integer(json, "n", &number);

        tap_ok(kind == cases[i].kind &&
                   (kind != QO_JSON_INTEGER || number == cases[i].number),
               "an integer or not: %s", cases[i].value);
    }
    int64_t number = 0;
    tap_int(qo_json_integer(good("{}"), "n", &number), QO_JSON_ABSENT, "no member, absent");
}

static void check_quoting(void)
{
    static const struct {
        const char *text;
        const char *json;
    } cases[] = {
        {NULL, "null"},
        {"", "\"\""},
        {"a b", "\"a b\""},
        {"a\"b\\c\n\033[31m\177", "\"a\\\"b\\\\c\\n\\u001B[31m\177\""},
        {"\xc3\xa9\xf0\x9f\x98\x80", "\"\\u00E9\\uD83D\\uDE00\""},
        {"a\xff\xc3", "\"a??\""},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tap_is(qo_json_quote(pool, cases[i].text), cases[i].json, "a string to write");
    }
}

/* A leak checker tells when documents outlive their pool. */
static void check_life(void)
{
    apr_pool_t *outer = pool;

    for (int i = 0; i < 50; i++) {
        const qo_json_t *json;

        apr_pool_create(&pool, outer);
        (void)!parse(&json, "{\"a\":\"b\"}", 9, NULL);
        (void)!parse(&json, "{\"a\":\"b\"", 8, NULL);
        apr_pool_destroy(pool);
    }
    pool = outer;
    tap_ok(true, "documents end with their pool");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    check_refused();
    check_bytes();
    check_truncated();
    check_depth();
    check_false_depth();
    check_size();
    check_getters();
    check_integers();
    check_quoting();
    check_life();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
