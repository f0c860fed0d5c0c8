/* What the session tool makes of a store's walk: each session once, and which was meant.
 * The store is a made-up one, for what real ones do rarely: bring a session twice, fail on
 * the way, hold hashes that begin alike. */
#include "qontoctl_walk.h"

#include "tap.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <unistd.h>

#define NOW ((apr_time_t)1800000000 * 1000000)

static apr_pool_t *pool;

/* Pages of keys by their first bytes; -1 ends a page, -2 is a failure, -3 the end. */
static const int *script;

static qo_hash_t key_of(int number)
{
    qo_hash_t key = {{0}};

    key.bytes[0] = (unsigned char)(number >> 16);
    key.bytes[1] = (unsigned char)(number >> 8);
    key.bytes[2] = 0x77;
    key.bytes[3] = (unsigned char)number;
    return key;
}

static qo_status_t walk(qo_store_t *store, apr_pool_t *p, qo_store_cursor_t *cursor,
                        qo_store_visit_t visit, void *data, apr_time_t now, qo_err_t *err)
{
    qo_store_meta_t meta = {.version = 1, .expires = now + 1, .last_seen = now};
    size_t at = cursor->at[0];

    (void)store;
    (void)p;
    for (; script[at] >= 0; at++) {
        qo_hash_t key = key_of(script[at]);

        visit(data, &key, (qo_bytes_t){NULL, 0}, &meta);
    }
    if (script[at] == -2) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "it broke");
    }
    cursor->done = script[at] == -3;
    cursor->at[0] = (unsigned char)(at + 1);
    return QO_OK;
}

static const qo_store_provider_t PROVIDER = {.name = "made-up", .session_walk = walk};

static qontoctl_store_t store_of(const int *pages)
{
    static qo_store_t store = {.provider = &PROVIDER};

    script = pages;
    return (qontoctl_store_t){.provider = &PROVIDER, .store = &store};
}

/* ---- all ---- */

typedef struct {
    const char *ids;
    int left; /* how many are wanted */
} heard_t;

static bool hear(void *data, const qontoctl_walk_session_t *session)
{
    heard_t *heard = data;

    heard->ids =
        apr_pstrcat(pool, heard->ids, " ", apr_pstrndup(pool, session->id, 8), NULL);
    return --heard->left > 0;
}

static qontoctl_exit_t walk_all(heard_t *heard, const int *pages, int wanted)
{
    qontoctl_store_t store = store_of(pages);

    *heard = (heard_t){.ids = "", .left = wanted};
    return qontoctl_walk(&store, pool, NOW, hear, heard);
}

static void check_once(void)
{
    static const int twice[] = {1, 2, 1, -1, 2, 3, -1, -1, 1, 4, -3};
    static const int none[] = {-1, -1, -3};
    static const int broken[] = {1, -1, 2, -2};
    heard_t heard;

    tap_int(walk_all(&heard, twice, 100), QONTOCTL_DONE, "a walk that repeats itself");
    tap_is(heard.ids, " 00007701 00007702 00007703 00007704", "tells each once");
    tap_int(walk_all(&heard, twice, 2), QONTOCTL_DONE, "who has heard enough");
    tap_is(heard.ids, " 00007701 00007702", "hears no more");
    tap_int(walk_all(&heard, none, 100), QONTOCTL_DONE, "no sessions at all");
    tap_is(heard.ids, "", "are none");
    tap_int(walk_all(&heard, broken, 100), QONTOCTL_TROUBLE,
            "a store that fails is trouble");
    tap_is(heard.ids, " 00007701", "after what it told");
}

/* ---- one ---- */

static int find(const int *pages, const char *hash, int *count)
{
    qontoctl_store_t store = store_of(pages);
    qontoctl_options_t options = {.command = QONTOCTL_SHOW, .hash = hash};
    qontoctl_walk_found_t found;
    qontoctl_exit_t code = qontoctl_walk_find(&found, &store, pool, &options, NOW);

    *count = found.found->nelts;
    return (int)code;
}

/* What `find` says on standard error. */
static const char *complaint(const int *pages, const char *hash)
{
    char name[] = "/tmp/qontoctl_walk.XXXXXX";
    char *text = apr_pcalloc(pool, 2000);
    int saved = dup(2);
    int file = mkstemp(name);
    int count;

    if (file < 0 || saved < 0 || dup2(file, 2) < 0) {
        return NULL;
    }
    (void)find(pages, hash, &count);
    (void)dup2(saved, 2);
    (void)close(saved);
    if (pread(file, text, 1999, 0) < 0) {
        text = NULL;
    }
    (void)close(file);
    (void)unlink(name);
    return text;
}

static void check_short(void)
{
    static const int pages[] = {0x010203, 0x010204, 0x020304, -1, 0x010203, -3};
    int count;

    tap_int(find(pages, "0203770400000000", &count), QONTOCTL_DONE, "by all its digits");
    tap_int(count, 1, "one");
    tap_int(find(pages, "020377", &count), QONTOCTL_DONE, "by the first six");
    tap_int(find(pages, "01027703", &count), QONTOCTL_DONE, "by as many as tell it apart");
    tap_int(count, 1, "also when the store brings it twice");
    tap_int(find(pages, "010277", &count), QONTOCTL_USAGE, "digits that fit two");
    tap_is(complaint(pages, "010277"),
           "qontoctl: 010277 fits 2 sessions: 0102770300000000, 0102770400000000\n",
           "are refused, with both");
    tap_int(find(pages, "030377", &count), QONTOCTL_NOTHING, "digits that fit none");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    check_once();
    check_short();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
