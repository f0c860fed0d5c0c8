#include "qo_json.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <jansson.h>

#include <stdlib.h>

/* Does the text nest deeper than allowed? Asked before jansson sees it, because jansson
 * recurses up to 2048 levels on its own. Counts brackets outside strings; whether they
 * match is for the parser to find out. */
static bool too_deep(const char *text, size_t len)
{
    bool quoted = false;
    int depth = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (quoted) {
            i += c == '\\';
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
        }
        if (depth > QO_LIMIT_JSON_DEPTH) {
            return true;
        }
    }
    return false;
}

static apr_status_t free_document(void *data)
{
    json_decref(data);
    return APR_SUCCESS;
}

qo_status_t qo_json_parse(const qo_json_t **out, apr_pool_t *p, const char *text,
                          size_t len, qo_err_t *err)
{
    json_error_t where;
    json_t *root;

    *out = NULL;
    if (len > QO_LIMIT_ANSWER) {
        return qo_error(err, QO_E_BAD_ANSWER, "more than %d bytes", QO_LIMIT_ANSWER);
    }
    if (too_deep(text, len)) {
        return qo_error(err, QO_E_BAD_ANSWER, "JSON nested deeper than %d",
                        QO_LIMIT_JSON_DEPTH);
    }
    root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    if (root == NULL) {
        /* Not where.text: it quotes the answer, which may hold a token. */
        return qo_error(err, QO_E_BAD_ANSWER, "not usable as JSON at line %d, column %d",
                        where.line, where.column);
    }
    apr_pool_cleanup_register(p, root, free_document, apr_pool_cleanup_null);
    if (!json_is_object(root)) {
        return qo_error(err, QO_E_BAD_ANSWER, "JSON, but not an object");
    }
    *out = root;
    return QO_OK;
}

bool qo_json_has(const qo_json_t *object, const char *name)
{
    const json_t *member = json_object_get(object, name);

    return member != NULL && !json_is_null(member);
}

const char *qo_json_string(const qo_json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

const qo_json_t *qo_json_object(const qo_json_t *object, const char *name)
{
    const json_t *member = json_object_get(object, name);

    return json_is_object(member) ? member : NULL;
}

static bool read_digits(int64_t *out, const char *text)
{
    int64_t value = 0;

    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        int64_t digit = *text - '0';

        if (!apr_isdigit(*text) || value > (INT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

qo_json_number_t qo_json_integer(const qo_json_t *object, const char *name, int64_t *out)
{
    const json_t *member = json_object_get(object, name);

    if (member == NULL || json_is_null(member)) {
        return QO_JSON_ABSENT;
    }
    if (json_is_integer(member)) {
        *out = json_integer_value(member);
        return QO_JSON_INTEGER;
    }
    if (json_is_string(member) && read_digits(out, json_string_value(member))) {
        return QO_JSON_INTEGER;
    }
    return QO_JSON_OTHER;
}

static json_t *ascii_of(apr_pool_t *p, const char *text)
{
    char *copy = apr_pstrdup(p, text);

    for (char *c = copy; *c != '\0'; c++) {
        *c = apr_isascii(*c) ? *c : '?';
    }
    return json_string(copy);
}

const char *qo_json_quote(apr_pool_t *p, const char *text)
{
    json_t *string = text != NULL ? json_string(text) : json_null();
    char *dump;
    const char *quoted;

    if (string == NULL) {
        string = ascii_of(p, text);
    }
    dump = json_dumps(string, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    json_decref(string);
    quoted = apr_pstrdup(p, dump != NULL ? dump : "null");
    free(dump);
    return quoted;
}
