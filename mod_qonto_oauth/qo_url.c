#include "qo_url.h"

#include <apr_strings.h>

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#define NAME_MAX_LEN 253 /* a host name in text form, RFC 1035 section 2.3.4 */
#define CODING_LAYERS 3  /* of a return path that others may undo */

/* Character classes of RFC 3986; the C library's depend on the locale. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_unreserved(char c)
{
    return is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

/* The value of a hexadecimal digit, -1 if it is none. */
static int hex_value(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte that the three characters %XX at `text` stand for, -1 if they stand for none. */
static int coded_byte(const char *text)
{
    int high = text[0] == '%' ? hex_value(text[1]) : -1;
    int low = high < 0 ? -1 : hex_value(text[2]);

    return low < 0 ? -1 : high * 16 + low;
}

/* host[:port], as a URL and a Host header have it. */
typedef struct {
    const char *host; /* lower case, no brackets */
    const char *port; /* what follows the colon, NULL without one */
    bool rooted;      /* the name ended with a dot, which `host` has no more */
} authority_t;

/* Makes a host name lower case in place. False when it is none: other characters, an empty
 * label, too long. International names must come in their ASCII form (RFC 5890). */
static bool settle_name(char *name)
{
    bool label = false;

    if (strlen(name) > NAME_MAX_LEN) {
        return false;
    }
    for (; *name != '\0'; name++) {
        if (*name == '.' ? !label : !is_alnum(*name) && *name != '-' && *name != '_') {
            return false;
        }
        label = *name != '.';
        if (*name >= 'A' && *name <= 'Z') {
            *name = (char)(*name + ('a' - 'A'));
        }
    }
    return label;
}

/* The one way to write an IPv6 address (RFC 5952), so that two can be compared as text. */
static const char *settle_address(apr_pool_t *p, const char *text)
{
    struct in6_addr address;
    char canonical[INET6_ADDRSTRLEN];

    if (inet_pton(AF_INET6, text, &address) != 1 ||
        inet_ntop(AF_INET6, &address, canonical, sizeof(canonical)) == NULL) {
        return NULL;
    }
    return apr_pstrdup(p, canonical);
}

static bool split_authority(authority_t *out, apr_pool_t *p, const char *text, size_t len)
{
    char *host = apr_pstrmemdup(p, text, len);
    bool literal = *host == '[';
    char *end = literal ? strchr(host, ']') : host + strcspn(host, ":");

    if (end == NULL) {
        return false;
    }
    if (literal) {
        *end++ = '\0';
    }
    if (*end != ':' && *end != '\0') {
        return false;
    }
    out->port = *end == ':' ? end + 1 : NULL;
    *end = '\0';
    if (literal) {
        out->rooted = false;
        out->host = settle_address(p, host + 1);
        return out->host != NULL;
    }
    out->rooted = end > host && end[-1] == '.';
    if (out->rooted) {
        end[-1] = '\0';
    }
    out->host = host;
    return settle_name(host);
}

/* 1..65535, else 0. */
static int parse_port(const char *text)
{
    int port = 0;

    for (; *text != '\0'; text++) {
        if (!is_digit(*text)) {
            return 0;
        }
        port = port * 10 + (*text - '0');
        if (port > 65535) {
            return 0;
        }
    }
    return port;
}

/* Reserved names (RFC 6761 section 6.3) and addresses in their full form only: 127.1 is
 * not recognized, which errs on the side of asking for https. */
static bool is_loopback(const char *host)
{
    static const char SUFFIX[] = ".localhost";
    struct in_addr address;
    size_t len = strlen(host);
    size_t tail = sizeof(SUFFIX) - 1;

    if (strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0) {
        return true;
    }
    if (len > tail && strcmp(host + len - tail, SUFFIX) == 0) {
        return true;
    }
    return inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

static const char *build_origin(apr_pool_t *p, const qo_url_t *url)
{
    bool literal = strchr(url->host, ':') != NULL;
    bool usual = url->port == (url->https ? 443 : 80);

    return apr_pstrcat(p, url->https ? "https://" : "http://", literal ? "[" : "",
                       url->host, literal ? "]" : "",
                       usual ? "" : apr_psprintf(p, ":%d", url->port), NULL);
}

/* What keeps a text from being a URL we use, as half a sentence; NULL if nothing does. */
static const char *find_bad_character(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == ' ' || is_control(*text)) {
            return "has a space or a control character";
        }
        if (*text == '\\') {
            return "has a backslash";
        }
        if (*text == '#') {
            return "has a fragment";
        }
        if (*text == '%' && coded_byte(text) < 0) {
            return "has a malformed percent sign";
        }
        if (!is_unreserved(*text) && strchr(":/?[]@!$&'()*+,;=%", *text) == NULL) {
            return "has a character that must be percent-encoded";
        }
    }
    return NULL;
}

/* Fills host, port and loopback from `len` characters between "//" and the path. */
static const char *read_authority(qo_url_t *out, apr_pool_t *p, const char *text,
                                  size_t len)
{
    authority_t authority;

    if (memchr(text, '@', len) != NULL) {
        return "has a user name";
    }
    if (!split_authority(&authority, p, text, len)) {
        return len == 0 || *text == ':' ? "has no host" : "has a malformed host";
    }
    if (authority.rooted) {
        /* Browsers take it for another origin than the same name without the dot. */
        return "has a host that ends with a dot";
    }
    out->host = authority.host;
    out->loopback = is_loopback(out->host);
    out->port = out->https ? 443 : 80;
    if (authority.port != NULL) {
        out->port = parse_port(authority.port);
    }
    return out->port == 0 ? "has a malformed port" : NULL;
}

static const char *take_apart(qo_url_t *out, apr_pool_t *p, const char *url)
{
    const char *fault = find_bad_character(url);
    const char *authority;
    const char *rest;

    if (fault != NULL) {
        return fault;
    }
    out->https = strncasecmp(url, "https://", 8) == 0;
    if (!out->https && strncasecmp(url, "http://", 7) != 0) {
        return "does not begin with https:// or http://";
    }
    authority = url + (out->https ? 8 : 7);
    rest = authority + strcspn(authority, "/?");
    fault = read_authority(out, p, authority, (size_t)(rest - authority));
    if (fault != NULL) {
        return fault;
    }
    out->url = apr_pstrdup(p, url);
    out->origin = build_origin(p, out);
    out->path = *rest == '/' ? apr_pstrmemdup(p, rest, strcspn(rest, "?")) : "/";
    rest += strcspn(rest, "?");
    out->query = *rest == '?' ? apr_pstrdup(p, rest + 1) : NULL;
    return NULL;
}

qo_status_t qo_url_parse(qo_url_t *out, apr_pool_t *p, const char *url, qo_err_t *err)
{
    const char *fault = take_apart(out, p, url);

    return fault == NULL ? QO_OK : qo_error(err, QO_E_BAD_PARAMETER, "%s", fault);
}

char *qo_url_encode(apr_pool_t *p, const char *text)
{
    static const char HEX[] = "0123456789ABCDEF";
    char *encoded = apr_palloc(p, 3 * strlen(text) + 1);
    char *out = encoded;

    for (; *text != '\0'; text++) {
        if (is_unreserved(*text)) {
            *out++ = *text;
            continue;
        }
        *out++ = '%';
        *out++ = HEX[(unsigned char)*text >> 4];
        *out++ = HEX[(unsigned char)*text & 15];
    }
    *out = '\0';
    return encoded;
}

/* The elements of an array of qo_param_t, which APR keeps as aligned bytes. */
static const qo_param_t *elements(const apr_array_header_t *params)
{
    const void *first = params->elts;

    return first;
}

char *qo_url_query(apr_pool_t *p, const apr_array_header_t *params)
{
    apr_array_header_t *pairs = apr_array_make(p, params->nelts, sizeof(char *));
    int i;

    for (i = 0; i < params->nelts; i++) {
        const qo_param_t *param = elements(params) + i;

        APR_ARRAY_PUSH(pairs, char *) = apr_pstrcat(p, qo_url_encode(p, param->name), "=",
                                                    qo_url_encode(p, param->value), NULL);
    }
    return apr_array_pstrcat(p, pairs, '&');
}

/* Decodes in place; in forms a plus stands for a space. */
static bool decode(char *text, char plus)
{
    char *out = text;

    for (; *text != '\0'; text++) {
        char c = *text == '+' ? plus : *text;

        if (c == '%') {
            int byte = coded_byte(text);

            if (byte < 0) {
                return false;
            }
            c = (char)byte;
            text += 2;
        }
        if (c == '\0') {
            return false;
        }
        *out++ = c;
    }
    *out = '\0';
    return true;
}

const char *qo_url_decode(apr_pool_t *p, const char *text)
{
    char *plain = apr_pstrdup(p, text);

    return decode(plain, '+') ? plain : NULL;
}

const char *qo_url_shown(apr_pool_t *p, const char *url)
{
    const char *at = strrchr(url, '@');

    return at == NULL ? url : apr_pstrcat(p, "...", at, NULL);
}

/* Reads name=value in place; a name alone has the value "". */
static bool read_pair(qo_param_t *out, char *pair)
{
    char *value = pair + strcspn(pair, "=");

    if (*value == '=') {
        *value++ = '\0';
    }
    out->name = pair;
    out->value = value;
    return decode(pair, ' ') && decode(value, ' ');
}

qo_status_t qo_url_parse_query(apr_array_header_t **out, apr_pool_t *p, const char *query,
                               qo_err_t *err)
{
    apr_array_header_t *params = apr_array_make(p, 8, sizeof(qo_param_t));
    const char *text = query == NULL ? "" : query;
    char *pair;
    char *last;

    if (strlen(text) > QO_LIMIT_QUERY) {
        return qo_error(err, QO_E_BAD_PARAMETER, "the query is longer than %d bytes",
                        QO_LIMIT_QUERY);
    }
    for (pair = apr_strtok(apr_pstrdup(p, text), "&", &last); pair != NULL;
         pair = apr_strtok(NULL, "&", &last)) {
        if (params->nelts == QO_LIMIT_PARAMS) {
            return qo_error(err, QO_E_BAD_PARAMETER, "more than %d parameters",
                            QO_LIMIT_PARAMS);
        }
        if (!read_pair(&APR_ARRAY_PUSH(params, qo_param_t), pair)) {
            return qo_error(err, QO_E_BAD_PARAMETER,
                            "parameter %d has bad percent coding or a NUL", params->nelts);
        }
    }
    *out = params;
    return QO_OK;
}

qo_status_t qo_url_param(const char **value, const apr_array_header_t *params,
                         const char *name, qo_err_t *err)
{
    int i;

    *value = NULL;
    for (i = 0; i < params->nelts; i++) {
        const qo_param_t *param = elements(params) + i;

        if (strcmp(param->name, name) != 0) {
            continue;
        }
        if (*value != NULL) {
            *value = NULL;
            return qo_error(err, QO_E_BAD_PARAMETER, "%s comes twice", name);
        }
        *value = param->value;
    }
    return QO_OK;
}

/* Undoes one layer of percent coding in place; bad coding stays as it is. False when a
 * control character comes out. */
static bool decode_layer(char *text)
{
    char *out = text;

    for (; *text != '\0'; text++) {
        int byte = coded_byte(text);
        char c = byte < 0 ? *text : (char)byte;

        if (is_control(c)) {
            return false;
        }
        if (byte >= 0) {
            text += 2;
        }
        *out++ = c;
    }
    *out = '\0';
    return true;
}

/* Does an empty segment follow a "." or ".." segment? */
static bool empties_after_dots(const char *path)
{
    bool dots = false;

    while (*path != '\0') {
        size_t len = strcspn(++path, "/\\");

        if (dots && len == 0 && *path != '\0') {
            return true;
        }
        dots = dots || (len > 0 && len <= 2 && strspn(path, ".") == len);
        path += len;
    }
    return false;
}

/* The rule for return addresses. A text that begins with one slash is a path on this origin
 * for every browser; it names another site only if it begins with two, after the browser
 * has turned "\" into "/" (WHATWG URL, special schemes) and dropped tab, CR and LF. So the
 * whole text has none of these but slashes, and no second one at its start.
 *
 * A backend may decode the path, clean it and send a redirect to what is left, once or
 * twice over, and the browser takes %2e for a dot. So with these three layers of percent
 * coding undone the path (not the query) must have no control character, no slash,
 * backslash or space after the first slash, and no empty segment after a dot segment: only
 * that way can removing dot segments leave a "//" in front ("/..//host",
 * "/a/%2e.%2f/host"). Decoding never makes a slash, a dot segment or an empty segment
 * vanish, so the innermost layer speaks for the others. Browsers send no dot segments:
 * nobody's bookmark is lost. */
static bool leads_away(const char *path, size_t len)
{
    char text[QO_LIMIT_RETURN + 1];
    int layer;

    memcpy(text, path, len);
    text[len] = '\0';
    for (layer = 0; layer < CODING_LAYERS; layer++) {
        if (!decode_layer(text)) {
            return true;
        }
    }
    if (text[1] != '\0' && strchr("/\\ ", text[1]) != NULL) {
        return true;
    }
    return empties_after_dots(text);
}

qo_status_t qo_url_check_return(const char *path, qo_err_t *err)
{
    size_t len = path == NULL ? 0 : strlen(path);
    size_t i;

    if (len > QO_LIMIT_RETURN) {
        return qo_error(err, QO_E_BAD_RETURN, "longer than %d bytes", QO_LIMIT_RETURN);
    }
    if (len == 0 || path[0] != '/') {
        return qo_error(err, QO_E_BAD_RETURN, "it does not begin with a slash");
    }
    for (i = 0; i < len; i++) {
        if (path[i] <= ' ' || path[i] > '~' || path[i] == '\\') {
            return qo_error(err, QO_E_BAD_RETURN,
                            "it has a backslash, a space, a control character or a byte "
                            "that is not ASCII");
        }
    }
    if (leads_away(path, strcspn(path, "?#"))) {
        return qo_error(err, QO_E_BAD_RETURN, "it can be read as another site");
    }
    return QO_OK;
}

const char *qo_url_host(apr_pool_t *p, const char *host_header)
{
    authority_t authority;

    if (host_header == NULL ||
        !split_authority(&authority, p, host_header, strlen(host_header))) {
        return NULL;
    }
    /* A colon alone is allowed (RFC 3986 section 3.2.3). */
    if (authority.port != NULL && *authority.port != '\0' &&
        parse_port(authority.port) == 0) {
        return NULL;
    }
    return authority.host;
}

char *qo_url_join(apr_pool_t *p, const char *url, const char *query)
{
    size_t len = strlen(url);
    const char *glue = strchr(url, '?') == NULL ? "?" : "&";

    if (query == NULL || *query == '\0') {
        return apr_pstrdup(p, url);
    }
    if (len > 0 && (url[len - 1] == '?' || url[len - 1] == '&')) {
        glue = "";
    }
    return apr_pstrcat(p, url, glue, query, NULL);
}
