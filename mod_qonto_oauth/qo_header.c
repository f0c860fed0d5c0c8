#include "qo_header.h"

#include <apr_cstr.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

static char fold(char c)
{
    return (char)(apr_isalnum(c) ? apr_tolower(c) : '-');
}

static bool begins(const char *name, const char *prefix)
{
    for (; *prefix != '\0'; name++, prefix++) {
        if (*name == '\0' || fold(*name) != *prefix) {
            return false;
        }
    }
    return true;
}

bool qo_header_same(const char *a, const char *b)
{
    while (*a != '\0' && *b != '\0' && fold(*a) == fold(*b)) {
        a++;
        b++;
    }
    return *a == *b; /* both at their end */
}

bool qo_header_ours(const char *name, const apr_array_header_t *names)
{
    if (begins(name, "x-qonto-") || begins(name, "qonto-")) {
        return apr_cstr_casecmp(name, "X-Qonto-Signature") != 0;
    }
    for (int i = 0; names != NULL && i < names->nelts; i++) {
        const char *const *list = (const void *)names->elts;

        if (qo_header_same(name, list[i])) {
            return true;
        }
    }
    return false;
}

/* Where an element ends: at a comma, but not at one inside a quoted string. */
static char *element_end(char *text)
{
    bool quoted = false;

    for (; *text != '\0' && (quoted || *text != ','); text++) {
        if (quoted && *text == '\\' && text[1] != '\0') {
            text++;
        } else if (*text == '"') {
            quoted = !quoted;
        }
    }
    return text;
}

/* Cuts the next element off a comma-separated list, without the white space around it;
 * NULL at the end. */
static char *next_element(char **list)
{
    char *element = *list;
    char *end;

    if (element == NULL) {
        return NULL;
    }
    end = element_end(element);
    *list = *end == ',' ? end + 1 : NULL;
    while (end > element && apr_isspace(end[-1])) {
        end--;
    }
    *end = '\0';
    while (apr_isspace(*element)) {
        element++;
    }
    return element;
}

static const char *append(apr_pool_t *p, const char *list, const char *element)
{
    return list == NULL ? apr_pstrdup(p, element)
                        : apr_pstrcat(p, list, ", ", element, NULL);
}

static bool is_token(const char *text)
{
    const char *c = text;

    while (apr_isalnum(*c) || (*c != '\0' && strchr("!#$%&'*+-.^_`|~", *c) != NULL)) {
        c++;
    }
    return c > text && *c == '\0';
}

const char *qo_header_connection(apr_pool_t *p, const char *value,
                                 const apr_array_header_t *names)
{
    apr_array_header_t *kept = apr_array_make(p, 4, sizeof(const char *));
    char *rest = apr_pstrdup(p, value);
    bool dropped = false;
    char *element;

    while ((element = next_element(&rest)) != NULL) {
        if (is_token(element) && !qo_header_ours(element, names)) {
            APR_ARRAY_PUSH(kept, const char *) = element;
        } else {
            dropped = dropped || *element != '\0';
        }
    }
    if (!dropped) {
        return value;
    }
    return kept->nelts > 0 ? apr_array_pstrcat(p, kept, ',') : NULL;
}

static bool is_directive(const char *element, const char *name)
{
    size_t len = strlen(name);

    return apr_cstr_casecmpn(element, name, len) == 0 &&
           (element[len] == '\0' || element[len] == '=' || apr_isspace(element[len]));
}

const char *qo_header_private(apr_pool_t *p, const char *value)
{
    char *rest = value == NULL ? NULL : apr_pstrdup(p, value);
    const char *kept = "private";
    char *element;

    while ((element = next_element(&rest)) != NULL) {
        if (is_directive(element, "no-store") ||
            apr_cstr_casecmp(element, "private") == 0) {
            return value;
        }
        /* private="field" speaks of single fields only, so it does not count as private. */
        if (*element != '\0' && !is_directive(element, "public") &&
            !is_directive(element, "private") && !is_directive(element, "s-maxage")) {
            kept = append(p, kept, element);
        }
    }
    return kept;
}
