#include "qontoctl_store.h"

#include "qo_config.h"
#include "qo_keyfile.h"
#include "qo_rights.h"
#include "qo_secret.h"
#include "qo_store_lmdb.h"
#include "qo_store_redis.h"

#include <apr_strings.h>

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_PREFIX "file:"

/* What a specification means. */
typedef struct {
    const qo_store_provider_t *provider;
    const char *argument; /* for the provider; of lmdb, the directory */
    const char *dir;      /* of lmdb, else NULL */
} place_t;

/* ---- specifications ---- */

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static const char *in_file(const qontoctl_source_t *source)
{
    return begins(source->text, FILE_PREFIX) ? source->text + strlen(FILE_PREFIX) : NULL;
}

static qontoctl_exit_t read_spec(const char **out, apr_pool_t *p,
                                 const qontoctl_source_t *source)
{
    const char *file = source->text != NULL ? in_file(source) : NULL;
    const char *mistake;

    *out = source->text != NULL ? source->text : "lmdb";
    if (file == NULL) {
        return QONTOCTL_DONE;
    }
    mistake = qo_secret_read_file(out, p, file);
    mistake = mistake != NULL ? mistake : qo_secret_check(*out);
    return mistake == NULL ? QONTOCTL_DONE
                           : qontoctl_print_error(QONTOCTL_TROUBLE, "--store: %s", mistake);
}

static qontoctl_exit_t find_lmdb(place_t *out, apr_pool_t *p, const char *spec)
{
    const char *given = spec[4] == ':' ? spec + 5 : QO_STORE_DIR;
    char *real;

    if (spec[4] != ':' && given[0] != '/') {
        return qontoctl_print_error(
            QONTOCTL_USAGE,
            "the default store is the directory %s below httpd's "
            "ServerRoot, which only httpd knows: write --store lmdb:DIR",
            given);
    }
    real = realpath(given, NULL);
    if (real == NULL) {
        return qontoctl_print_error(QONTOCTL_TROUBLE, "there is no session store in %s: %s",
                                    given, strerror(errno));
    }
    out->provider = &qo_store_lmdb_provider;
    out->argument = out->dir = apr_pstrdup(p, real);
    free(real);
    return QONTOCTL_DONE;
}

/* user:password@ */
static bool has_password(const char *spec)
{
    const char *from = strstr(spec, "://");
    const char *host = from != NULL ? strchr(from, '@') : NULL;
    const char *colon = from != NULL ? strchr(from + 3, ':') : NULL;

    return host != NULL && colon != NULL && colon < host;
}

static qontoctl_exit_t find_redis(place_t *out, apr_pool_t *p, const char *spec,
                                  bool exposed)
{
    const char *mistake = qo_store_redis_check(p, spec);

    if (exposed && has_password(spec)) {
        return qontoctl_print_error(
            QONTOCTL_USAGE,
            "a password on the command line can be read by everybody: write "
            "the address into a private file and --store file:PATH");
    }
    if (mistake != NULL) {
        return qontoctl_print_error(QONTOCTL_USAGE, "--store: %s", mistake);
    }
#ifdef QO_HAVE_REDIS
    out->provider = &qo_store_redis_provider;
    out->argument = spec;
#else
    (void)out; /* that it was not built is the mistake */
#endif
    return QONTOCTL_DONE;
}

static qontoctl_exit_t find_place(place_t *out, apr_pool_t *p,
                                  const qontoctl_source_t *source)
{
    const char *spec;
    qontoctl_exit_t code = read_spec(&spec, p, source);

    if (code != QONTOCTL_DONE) {
        return code;
    }
    if (strcmp(spec, "lmdb") == 0 || (begins(spec, "lmdb:") && spec[5] != '\0')) {
        return find_lmdb(out, p, spec);
    }
    if (qo_store_redis_is(spec)) {
        return find_redis(out, p, spec, source->exposed && spec == source->text);
    }
    return qontoctl_print_error(QONTOCTL_USAGE,
                                "the store must be lmdb:DIR or redis://...; what another "
                                "socache provider of httpd keeps, only httpd can read");
}

/* ---- keys ---- */

static qontoctl_exit_t refuse_key(const char *sentence)
{
    return qontoctl_print_error(QONTOCTL_TROUBLE, "--key: %s", sentence);
}

static qontoctl_exit_t read_key(const char **out, apr_pool_t *p,
                                const qontoctl_source_t *source)
{
    const char *file = in_file(source);
    const char *mistake = NULL;

    if (file == NULL && source->exposed) {
        return qontoctl_print_error(QONTOCTL_USAGE,
                                    "a key on the command line can be read by everybody: "
                                    "write --key file:PATH");
    }
    if (file != NULL) {
        mistake = qo_secret_read_file(out, p, file);
    } else {
        *out = source->text;
    }
    mistake = mistake != NULL ? mistake : qo_secret_check(*out);
    return mistake == NULL ? QONTOCTL_DONE : refuse_key(mistake);
}

static qontoctl_exit_t add_key(qo_keyring_t *ring, const char *key)
{
    if (qo_keyring_add(ring, key, strlen(key)) == QO_OK) {
        return QONTOCTL_DONE;
    }
    return refuse_key("a session key has at least 32 characters");
}

/* The one the module made for itself. */
static qontoctl_exit_t load_own_key(qo_keyring_t *ring, apr_pool_t *p, const place_t *place)
{
    const char *key = NULL;
    qo_err_t err = {.detail = ""};
    qo_status_t status = QO_E_NOT_FOUND;

    if (place->dir != NULL) {
        status = qo_keyfile_read(&key, p, place->dir, &err);
    }
    if (status == QO_OK) {
        return add_key(ring, key);
    }
    if (status == QO_E_NOT_FOUND) {
        return qontoctl_print_error(QONTOCTL_TROUBLE,
                                    "there is no key beside the store: write --key "
                                    "file:PATH, with the QontoSessionKey of httpd");
    }
    return qontoctl_print_error(QONTOCTL_TROUBLE, "%s", err.detail);
}

static qontoctl_exit_t load_ring(qo_keyring_t *ring, apr_pool_t *p,
                                 const qontoctl_options_t *options, const place_t *place)
{
    qontoctl_exit_t code = QONTOCTL_DONE;

    memset(ring, 0, sizeof(*ring));
    for (int i = 0; i < options->key_count && code == QONTOCTL_DONE; i++) {
        const char *key = NULL;

        code = read_key(&key, p, &options->keys[i]);
        code = code == QONTOCTL_DONE ? add_key(ring, key) : code;
    }
    if (options->key_count == 0) {
        code = load_own_key(ring, p, place);
    }
    return code;
}

/* ---- rights ---- */

/* Root would leave files that httpd's children cannot open. For good: nothing that is read
 * from the store can use root's rights any more. */
static qontoctl_exit_t become_owner(const char *dir)
{
    struct stat info;

    if (geteuid() != 0) {
        return QONTOCTL_DONE;
    }
    if (stat(dir, &info) != 0) {
        return qontoctl_print_error(QONTOCTL_TROUBLE, "%s: %s", dir, strerror(errno));
    }
    if (info.st_uid == 0) {
        return QONTOCTL_DONE;
    }
    if (!qo_rights_become((long)info.st_uid, (long)info.st_gid)) {
        return qontoctl_print_error(QONTOCTL_TROUBLE,
                                    "the rights of the owner of %s cannot be taken: %s",
                                    dir, strerror(errno));
    }
    return QONTOCTL_DONE;
}

/* ---- together ---- */

static qontoctl_exit_t open_place(qontoctl_store_t *out, apr_pool_t *p,
                                  const place_t *place)
{
    qo_store_setup_t setup = {.argument = place->argument,
                              .dir = place->dir,
                              .uid = -1,
                              .gid = -1,
                              .as_it_is = true};
    qo_err_t err = {.detail = ""};

    out->provider = place->provider;
    if (out->provider->session_walk == NULL) {
        return qontoctl_print_error(QONTOCTL_TROUBLE, "a %s store cannot be listed",
                                    out->provider->name);
    }
    if (out->provider->prepare(&out->store, p, &setup, &err) == QO_OK &&
        out->provider->attach(out->store, p, &err) == QO_OK) {
        return QONTOCTL_DONE;
    }
    return qontoctl_print_error(QONTOCTL_TROUBLE, "the session store cannot be used: %s",
                                err.detail);
}

qontoctl_exit_t qontoctl_store_open(qontoctl_store_t *out, apr_pool_t *p,
                                    const qontoctl_options_t *options)
{
    place_t place = {.dir = NULL};
    qontoctl_exit_t code = find_place(&place, p, &options->store);

    if (code == QONTOCTL_DONE) {
        code = load_ring(&out->rings.admin, p, options, &place);
    }
    if (code == QONTOCTL_DONE && place.dir != NULL) {
        code = become_owner(place.dir);
    }
    return code == QONTOCTL_DONE ? open_place(out, p, &place) : code;
}
