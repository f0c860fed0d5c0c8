#include "qontoctl_options.h"

#include "qo_session.h"

#include <apr_getopt.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

const char qontoctl_options_help[] =
    "usage: qontoctl [--store SPEC] [--key SOURCE] sessions COMMAND\n"
    "\n"
    "Looks after the sessions of mod_qonto_oauth while httpd runs.\n"
    "\n"
    "  sessions list             one line for each session\n"
    "  sessions show HASH        one session\n"
    "  sessions end HASH         ends one session\n"
    "  sessions end --user U --organization O\n"
    "                            ends all of this user, this organization, or both\n"
    "  sessions stats            how many, how old, whose\n"
    "\n"
    "  --store SPEC   lmdb:DIR, redis://..., or file:PATH of a file that holds one of\n"
    "                 these (must be so if there is a password in it);\n"
    "                 default: $QONTO_STORE, else lmdb\n"
    "  --key SOURCE   file:PATH of the QontoSessionKey; may be given twice, for an old\n"
    "                 key; default: $QONTO_KEY, else the file key beside an lmdb store\n"
    "  --json         one JSON object on each line\n"
    "  --dry-run      end: tells what would be ended\n"
    "  --audit FILE   end: appends the audit line there instead of syslog (authpriv)\n"
    "  --help, --version\n"
    "\n"
    "HASH is what logs and X-Qonto-Session call a session; its first six digits will do\n"
    "when no other begins with them. A session that was ended is dead for the very next\n"
    "request, also for a refresh that is under way. Qonto is not told: the tokens open\n"
    "only with the visitor's cookie, and stay valid there until they expire.\n"
    "\n"
    "Exit status: 0 done, 1 no session matched, 2 usage, 3 trouble with store, key or\n"
    "audit line.\n";

enum {
    OPT_STORE = 256,
    OPT_KEY,
    OPT_USER,
    OPT_ORGANIZATION,
    OPT_AUDIT,
    OPT_DRY_RUN,
    OPT_JSON,
    OPT_HELP,
    OPT_VERSION
};

static const apr_getopt_option_t OPTIONS[] = {
    {"store", OPT_STORE, 1, NULL},     {"key", OPT_KEY, 1, NULL},
    {"user", OPT_USER, 1, NULL},       {"organization", OPT_ORGANIZATION, 1, NULL},
    {"audit", OPT_AUDIT, 1, NULL},     {"dry-run", OPT_DRY_RUN, 0, NULL},
    {"json", OPT_JSON, 0, NULL},       {"help", OPT_HELP, 0, NULL},
    {"version", OPT_VERSION, 0, NULL}, {NULL, 0, 0, NULL},
};

static const char *add_key(qontoctl_options_t *out, const char *text, bool exposed)
{
    if (out->key_count == QO_LIMIT_KEYS) {
        return "--key can be given twice, for the present key and an old one";
    }
    out->keys[out->key_count++] = (qontoctl_source_t){text, exposed};
    return NULL;
}

static const char *take_option(qontoctl_options_t *out, int option, const char *value)
{
    switch (option) {
    case OPT_STORE:
        out->store = (qontoctl_source_t){value, true};
        return NULL;
    case OPT_KEY:
        return add_key(out, value, true);
    case OPT_USER:
        out->user = value;
        return NULL;
    case OPT_ORGANIZATION:
        out->organization = value;
        return NULL;
    case OPT_AUDIT:
        out->audit = value;
        return NULL;
    case OPT_DRY_RUN:
        out->dry_run = true;
        return NULL;
    case OPT_JSON:
        out->json = true;
        return NULL;
    default:
        out->command = option == OPT_HELP ? QONTOCTL_HELP : QONTOCTL_VERSION;
        return NULL;
    }
}

/* ---- words ---- */

static const char *take_hash(qontoctl_options_t *out, apr_pool_t *p, const char *text)
{
    char *hash = apr_pstrdup(p, text);
    size_t len = strlen(hash);

    for (char *c = hash; *c != '\0'; c++) {
        if (!apr_isxdigit(*c)) {
            return apr_psprintf(p,
                                "\"%s\" is no session: write the hash that "
                                "\"sessions list\" shows",
                                text);
        }
        *c = (char)apr_tolower(*c);
    }
    if (len < QO_HASH_DIGITS_MIN || len > QO_SESSION_ID_LEN) {
        return apr_psprintf(p, "\"%s\" is no session: write %d to %d digits of its hash",
                            text, QO_HASH_DIGITS_MIN, QO_SESSION_ID_LEN);
    }
    out->hash = hash;
    return NULL;
}

static const char *take_command(qontoctl_options_t *out, apr_pool_t *p, const char *word)
{
    static const struct {
        const char *word;
        qontoctl_command_t command;
    } COMMANDS[] = {{"list", QONTOCTL_LIST},
                    {"show", QONTOCTL_SHOW},
                    {"end", QONTOCTL_END},
                    {"stats", QONTOCTL_STATS}};

    for (size_t i = 0; i < sizeof(COMMANDS) / sizeof(COMMANDS[0]); i++) {
        if (strcmp(COMMANDS[i].word, word) == 0) {
            out->command = COMMANDS[i].command;
            return NULL;
        }
    }
    return apr_psprintf(p, "there is no command \"%s\": write list, show, end or stats",
                        word);
}

static const char *take_words(qontoctl_options_t *out, apr_pool_t *p, int count,
                              const char *const *words)
{
    const char *mistake;

    if (count < 2 || strcmp(words[0], "sessions") != 0) {
        return "write \"sessions list\", \"sessions show HASH\", \"sessions end ...\" or "
               "\"sessions stats\" (--help tells more)";
    }
    mistake = take_command(out, p, words[1]);
    if (mistake == NULL && count > 2) {
        mistake = take_hash(out, p, words[2]);
    }
    if (mistake == NULL && count > 3) {
        mistake = apr_psprintf(p, "\"%s\" is one word too many", words[3]);
    }
    return mistake;
}

/* ---- together ---- */

/* None is as long as what holds it, and an audit line must not be flooded. */
static bool is_name(const char *text)
{
    return text == NULL || (*text != '\0' && strlen(text) < QO_LIMIT_ADMIN);
}

static const char *check_end(const qontoctl_options_t *o)
{
    bool whose = o->user != NULL || o->organization != NULL;

    if (o->hash != NULL && whose) {
        return "name a hash, or whose sessions are to end, not both";
    }
    if (o->hash == NULL && !whose) {
        return "tell which sessions are to end: HASH, --user U or --organization O";
    }
    if (!is_name(o->user) || !is_name(o->organization)) {
        return "--user and --organization need what \"sessions list\" shows";
    }
    return NULL;
}

static const char *check(const qontoctl_options_t *o)
{
    if (o->command == QONTOCTL_END) {
        return check_end(o);
    }
    if (o->user != NULL || o->organization != NULL || o->audit != NULL || o->dry_run) {
        return "--user, --organization, --audit and --dry-run belong to \"sessions end\"";
    }
    if (o->command == QONTOCTL_SHOW && o->hash == NULL) {
        return "tell which session to show: its hash, or the first digits of it";
    }
    if (o->command != QONTOCTL_SHOW && o->hash != NULL) {
        return "only \"sessions show\" and \"sessions end\" take a hash";
    }
    return NULL;
}

/* What is in the environment can be read by its user only. */
static const char *take_environment(qontoctl_options_t *out)
{
    const char *store = getenv("QONTO_STORE");
    const char *key = getenv("QONTO_KEY");

    if (out->store.text == NULL && store != NULL && *store != '\0') {
        out->store = (qontoctl_source_t){store, false};
    }
    if (out->key_count == 0 && key != NULL && *key != '\0') {
        return add_key(out, key, false);
    }
    return NULL;
}

const char *qontoctl_options_read(qontoctl_options_t *out, apr_pool_t *p, int argc,
                                  const char *const *argv)
{
    apr_getopt_t *line;
    const char *value;
    const char *mistake = NULL;
    int option;
    apr_status_t rv;

    memset(out, 0, sizeof(*out));
    if (apr_getopt_init(&line, p, argc, argv) != APR_SUCCESS) {
        return "out of memory";
    }
    line->errfn = NULL; /* we have words of our own */
    line->interleave = 1;
    while (mistake == NULL &&
           (rv = apr_getopt_long(line, OPTIONS, &option, &value)) == APR_SUCCESS) {
        mistake = take_option(out, option, value);
    }
    if (mistake != NULL || out->command >= QONTOCTL_HELP) {
        return mistake;
    }
    if (rv != APR_EOF) {
        return apr_psprintf(p, "%s is no option, or lacks its value (--help tells them)",
                            line->argv[line->ind - 1]);
    }
    mistake = take_words(out, p, argc - line->ind, line->argv + line->ind);
    mistake = mistake != NULL ? mistake : take_environment(out);
    return mistake != NULL ? mistake : check(out);
}
