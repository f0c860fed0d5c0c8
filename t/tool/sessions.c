/* Writes sessions for the tests of the session tool, as the module would, into an lmdb
 * store that is there. They are whole, but the cookies they would need are thrown away.
 *
 *   sessions DIR|redis://... [KEYFILE] <<<"USER ORGANIZATION AGE IDLE"   (- for unknown)
 *
 * prints what each is called, then waits until its input ends, and prints for each whether
 * its tokens can still be renewed. */
#include "qo_config.h"
#include "qo_crypto.h"
#include "qo_keyfile.h"
#include "qo_secret.h"
#include "qo_session.h"
#include "qo_store_lmdb.h"
#include "qo_store_redis.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE 4096
#define MOST 2000

typedef struct {
    apr_pool_t *p;
    const qo_store_provider_t *provider;
    qo_store_t *store;
    qo_session_rings_t rings;
    qo_hash_t keys[MOST];
    int count;
} work_t;

static void need(qo_status_t status, const char *what)
{
    if (status != QO_OK) {
        (void)fprintf(stderr, "sessions: %s: %d\n", what, (int)status);
        exit(1);
    }
}

static void start(work_t *work, const char *dir, const char *file)
{
    qo_store_setup_t setup = {.argument = dir, .uid = -1, .gid = -1, .as_it_is = true};
    const char *key = NULL;
    qo_err_t err = {.detail = ""};

    if (file == NULL) {
        need(qo_keyfile_read(&key, work->p, dir, &err), "key");
    } else if (qo_secret_read_file(&key, work->p, file) != NULL) {
        need(QO_E_NOT_FOUND, file);
    }
    need(qo_keyring_add(&work->rings.admin, key, strlen(key)), "ring");
    need(qo_keyring_bind(&work->rings.visitor, &work->rings.admin, "a host"), "ring");
    work->provider = &qo_store_lmdb_provider;
#ifdef QO_HAVE_REDIS
    if (qo_store_redis_is(dir)) {
        work->provider = &qo_store_redis_provider;
    }
#endif
    need(work->provider->prepare(&work->store, work->p, &setup, &err), err.detail);
    need(work->provider->attach(work->store, work->p, &err), err.detail);
}

static const char *known(const char *word)
{
    return strcmp(word, "-") == 0 ? NULL : word;
}

static void write_one(work_t *work, const char *line)
{
    char user[1024] = "", organization[1024] = "";
    unsigned long age = 0, idle = 0;
    qo_token_t token = {.access = "not-a-token", .refresh = "nor-this", .scope = "x"};
    apr_time_t now = apr_time_now();
    qo_hash_t *key = &work->keys[work->count++];
    char cookie[QO_SECRET_TEXT + 1], id[QO_SESSION_ID_LEN + 1];
    qo_session_t session;
    qo_bytes_t value;

    if (work->count == MOST ||
        sscanf(line, "%1023s %1023s %lu %lu", user, organization, &age, &idle) != 4) {
        need(QO_E_BAD_PARAMETER, line);
    }
    token.expires = now - apr_time_from_sec(age) + apr_time_from_sec(3600);
    qo_session_new(&session, &token, (uint32_t)idle, 86400, now - apr_time_from_sec(age));
    session.user = known(user);
    session.organization = known(organization);
    need(qo_crypto_secret(cookie, QO_SECRET_BYTES), "cookie");
    need(qo_crypto_hash(key, cookie, strlen(cookie)), "key");
    need(qo_session_seal(&value, work->p, &work->rings, cookie, key, &session), "seal");
    need(work->provider->session_create(work->store, key, value, session.expires,
                                        session.idle, now, NULL),
         "create");
    qo_session_id(id, key);
    (void)puts(id);
}

int main(int argc, char **argv)
{
    static work_t work;
    char line[LINE];
    qo_bytes_t late = {(unsigned char *)line, 4};

    if (argc < 2 || apr_initialize() != APR_SUCCESS ||
        apr_pool_create(&work.p, NULL) != APR_SUCCESS || qo_crypto_init() != QO_OK) {
        return 1;
    }
    start(&work, argv[1], argc > 2 ? argv[2] : NULL);
    while (fgets(line, sizeof(line), stdin) != NULL && strcmp(line, "\n") != 0) {
        write_one(&work, line);
    }
    (void)fflush(stdout);
    while (getchar() != EOF) {
    }
    for (int i = 0; i < work.count; i++) {
        (void)printf("%d\n", (int)work.provider->session_replace(
                                 work.store, &work.keys[i], 1, late, apr_time_now(), NULL));
    }
    apr_pool_destroy(work.p);
    return 0;
}
