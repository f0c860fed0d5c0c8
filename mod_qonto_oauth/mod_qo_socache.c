/* What is added to a socache provider:
 *
 * - One global mutex around every change. It lives as long as the server, so children of
 *   two generations exclude each other during a graceful restart; a mutex made in
 *   post_config is another one for each generation.
 * - Certainty about a miss. memcache and redis answer "not found" for 5 seconds after a
 *   lost connection, dbm answers an error when there is no such record. So a miss counts
 *   only between two sightings of a canary, a small record of this process.
 * - An instance for each kind, where the provider has a segment or file of its own:
 *   strangers' pending logins then evict no session.
 * - Records of any size over a provider that limits them (dbm), by keeping them in parts.
 *
 * A key is [hash 32][kind 1][part 1], the hash first because shmcb spreads by the first
 * byte. The first part begins with the length [4] of all parts together. */
#include "mod_qo_socache.h"

#include <httpd.h>
#include <http_config.h>
#include <http_core.h>
#include <http_main.h>
#include <ap_provider.h>
#include <ap_socache.h>
#include <util_mutex.h>

#include <apr_allocator.h>
#include <apr_global_mutex.h>
#include <apr_strings.h>
#include <apr_version.h>

#include <string.h>

/* A provider that hangs must not hold up everybody else for longer. */
#define MUTEX_WAIT apr_time_from_sec(2)
#define MUTEX_TYPE "qonto-oauth-store"

#define KINDS MOD_QO_SOCACHE_KINDS
#define KEY_LEN (QO_HASH_LEN + 2)
#define LENGTH_LEN 4
/* A sealed record and what mod_qo_store_socache puts before it. */
#define VALUE_MAX (QO_LIMIT_RECORD + 64)
#define SMALL_MAX 96 /* a canary, a touch, a lease */
#define CANARY_LEN 16
#define CANARY_LIFE apr_time_from_sec(3600)
#define CANARY_LETTER 'c'
#define SMALLEST_SHARE 65536

/* What is known of a provider; nothing is assumed of one that is not in the list. */
typedef struct {
    const char *name;
    bool local;      /* data in a segment or file of its own */
    bool exact;      /* a miss is a miss: no canary, whose writes would push out records */
    bool one_server; /* takes a list of servers, which we must refuse */
    bool keeps_file; /* its destroy() deletes the data */
    size_t part;     /* longest value it takes; 0 = no limit that matters */
    apr_interval_time_t longest; /* longest life of a record; 0 = no limit */
} traits_t;

static const traits_t KNOWN[] = {
    {.name = "shmcb", .local = true, .exact = true},
    /* Refuses 950 bytes of key and value. */
    {.name = "dbm", .local = true, .keeps_file = true, .part = 900},
    /* memcached takes more than 30 days for a date: the record would be gone at once. */
    {.name = "memcache", .one_server = true, .longest = apr_time_from_sec(29 * 86400)},
    {.name = "redis", .one_server = true},
};

static const struct {
    char letter;        /* in the key */
    const char *suffix; /* of FILE */
    const char *consumer;
    unsigned int
        size; /* usual size of a record; of the last two, with shmcb's index entry */
} KIND[] = {
    [MOD_QO_SOCACHE_SESSION] = {'s', "", "qonto-session", 768},
    [MOD_QO_SOCACHE_PENDING] = {'p', ".pending", "qonto-pending", 512},
    [MOD_QO_SOCACHE_SEEN] = {'t', ".seen", "qonto-seen", 72},
    [MOD_QO_SOCACHE_LEASE] = {'l', ".lease", "qonto-lease", 144},
};

struct mod_qo_socache_t {
    const ap_socache_provider_t *provider;
    const traits_t *traits;
    ap_socache_instance_t *instances[KINDS];
    apr_global_mutex_t *mutex;
    apr_pool_t *scratch; /* only with the mutex held */
    qo_hash_t canary_key;
    unsigned char canary[CANARY_LEN];
};

typedef mod_qo_socache_slot_t slot_t;

/* A record's place as the provider sees it. */
typedef struct {
    const slot_t *at;
    const qo_hash_t *key;
    char letter;
    size_t max;
} place_t;

typedef struct {
    char text[100];
} reason_t;

/* ---- the provider's calls ---- */

static place_t place_of(const slot_t *at)
{
    bool small = at->kind == MOD_QO_SOCACHE_SEEN || at->kind == MOD_QO_SOCACHE_LEASE;
    size_t max = small ? SMALL_MAX : VALUE_MAX;
    place_t place = {at, at->key, KIND[at->kind].letter, max};

    return place;
}

static place_t canary_of(const slot_t *at)
{
    place_t place = {at, &at->cache->canary_key, CANARY_LETTER, SMALL_MAX};

    return place;
}

static void make_key(unsigned char out[KEY_LEN], const place_t *place, unsigned int part)
{
    memcpy(out, place->key->bytes, QO_HASH_LEN);
    out[QO_HASH_LEN] = (unsigned char)place->letter;
    out[QO_HASH_LEN + 1] = (unsigned char)part;
}

/* When the provider may forget a record: a second late, because some cut to whole seconds
 * and refuse 0. Providers go by the machine's clock, and so must the limit. */
static apr_time_t lapse(const slot_t *at, apr_time_t expires)
{
    apr_interval_time_t longest = at->cache->traits->longest;
    apr_time_t latest = longest != 0 ? apr_time_now() + longest : expires;

    return (expires < latest ? expires : latest) + apr_time_from_sec(1);
}

static apr_status_t put_part(const place_t *place, unsigned int part, unsigned char *data,
                             size_t len, apr_time_t expires)
{
    const mod_qo_socache_t *cache = place->at->cache;
    unsigned char key[KEY_LEN];

    make_key(key, place, part);
    return cache->provider->store(cache->instances[place->at->kind], ap_server_conf, key,
                                  KEY_LEN, lapse(place->at, expires), data,
                                  (unsigned int)len, place->at->pool);
}

/* `*len` is the room, then what was read. */
static apr_status_t get_part(const place_t *place, unsigned int part, unsigned char *data,
                             size_t *len)
{
    const mod_qo_socache_t *cache = place->at->cache;
    unsigned int read = (unsigned int)*len;
    unsigned char key[KEY_LEN];
    apr_status_t rv;

    make_key(key, place, part);
    rv = cache->provider->retrieve(cache->instances[place->at->kind], ap_server_conf, key,
                                   KEY_LEN, data, &read, place->at->pool);
    *len = read;
    return rv == APR_SUCCESS && read == 0 ? APR_NOTFOUND : rv;
}

static apr_status_t put(const place_t *place, qo_bytes_t value, apr_time_t expires)
{
    size_t most = place->at->cache->traits->part;
    apr_status_t rv = APR_SUCCESS;
    unsigned int part = 0;
    qo_bytes_t all;
    qo_writer_t w;

    qo_pack_start(&w, place->at->pool, LENGTH_LEN + value.len);
    qo_pack_u32(&w, (uint32_t)(LENGTH_LEN + value.len));
    qo_pack_bytes(&w, value.data, value.len);
    if (value.len > place->max || !qo_pack_finish(&w, &all)) {
        return APR_EINVAL;
    }
    most = most != 0 ? most : all.len;
    for (size_t done = 0; done < all.len && rv == APR_SUCCESS; done += most) {
        size_t left = all.len - done;

        rv = put_part(place, part++, all.data + done, left < most ? left : most, expires);
    }
    return rv;
}

/* The length told by the first part; what is there already when it cannot be true. */
static size_t length_of(qo_bytes_t first, size_t room)
{
    qo_reader_t r;
    size_t len;

    qo_unpack_start(&r, first.data, first.len);
    len = qo_unpack_u32(&r);
    return r.bad || len > room ? first.len : len;
}

/* The buffer has the greatest size from the start, because shmcb answers one that is too
 * small like a miss. */
static apr_status_t get(const place_t *place, qo_bytes_t *out)
{
    size_t room = LENGTH_LEN + place->max;
    qo_bytes_t all = {apr_palloc(place->at->pool, room), 0};
    size_t want = LENGTH_LEN;

    for (unsigned int part = 0; all.len < want; part++) {
        size_t len = room - all.len;
        apr_status_t rv = get_part(place, part, all.data + all.len, &len);

        if (rv != APR_SUCCESS) {
            return rv;
        }
        all.len += len;
        want = part == 0 ? length_of(all, room) : want;
    }
    if (all.len != want || want < LENGTH_LEN) {
        return APR_NOTFOUND;
    }
    out->data = all.data + LENGTH_LEN;
    out->len = all.len - LENGTH_LEN;
    return APR_SUCCESS;
}

/* ---- is a miss a miss? ---- */

/* With the number, because APR has no sentence for what dbm answers; its own sentence for
 * APR_NOTFOUND is about sockets. */
static const char *reason(reason_t *out, apr_status_t rv)
{
    char sentence[sizeof(out->text)];

    if (rv == APR_NOTFOUND) {
        return "no answer";
    }
    apr_snprintf(out->text, sizeof(out->text), "%s (%d)",
                 apr_strerror(rv, sentence, sizeof(sentence)), rv);
    return out->text;
}

static qo_status_t unavailable(const slot_t *at, const char *what, apr_status_t rv)
{
    reason_t why;

    return qo_error(at->err, QO_E_STORE_UNAVAILABLE, "socache provider %s: %s: %s",
                    at->cache->provider->name, what, reason(&why, rv));
}

static apr_status_t see_canary(const slot_t *at)
{
    place_t place = canary_of(at);
    qo_bytes_t seen;
    apr_status_t rv = get(&place, &seen);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (seen.len != CANARY_LEN || memcmp(seen.data, at->cache->canary, CANARY_LEN) != 0) {
        return APR_EGENERAL;
    }
    return APR_SUCCESS;
}

/* The store is asked to remember something only when the canary is not there: at the first
 * miss of this process, and then once in a while. */
static apr_status_t probe(const slot_t *at)
{
    place_t place = canary_of(at);
    qo_bytes_t value;
    apr_status_t rv;

    if (at->cache->traits->exact || see_canary(at) == APR_SUCCESS) {
        return APR_SUCCESS;
    }
    value.data = apr_pmemdup(at->pool, at->cache->canary, CANARY_LEN);
    value.len = CANARY_LEN;
    rv = put(&place, value, apr_time_now() + CANARY_LIFE);
    return rv != APR_SUCCESS ? rv : see_canary(at);
}

/* After a read that answered `rv`. To read again between two sightings closes the gap in
 * which a server that was down comes back. */
static qo_status_t doubt(const slot_t *at, qo_bytes_t *out, apr_status_t rv)
{
    place_t place = place_of(at);
    apr_status_t seen;

    if (at->cache->traits->exact) {
        return QO_E_NOT_FOUND;
    }
    seen = probe(at);
    if (seen != APR_SUCCESS) {
        return unavailable(at, "cannot read", rv != APR_NOTFOUND ? rv : seen);
    }
    if (get(&place, out) == APR_SUCCESS) {
        return QO_OK;
    }
    seen = see_canary(at);
    return seen == APR_SUCCESS ? QO_E_NOT_FOUND : unavailable(at, "cannot read", seen);
}

/* ---- use ---- */

static apr_status_t lock(apr_global_mutex_t *mutex)
{
#if APR_VERSION_AT_LEAST(1, 7, 0)
    return apr_global_mutex_timedlock(mutex, MUTEX_WAIT);
#else
    return apr_global_mutex_lock(mutex);
#endif
}

qo_status_t mod_qo_socache_enter(slot_t *at, mod_qo_socache_t *cache,
                                 mod_qo_socache_kind_t kind, const qo_hash_t *key,
                                 qo_err_t *err)
{
    apr_status_t rv = lock(cache->mutex);

    *at = (slot_t){cache, kind, key, cache->scratch, err};
    if (rv != APR_SUCCESS) {
        return unavailable(at, "waiting for mutex " MUTEX_TYPE, rv);
    }
    apr_pool_clear(cache->scratch);
    return QO_OK;
}

/* Unlocking fails only for one who does not hold the mutex; what was done is done. */
qo_status_t mod_qo_socache_leave(const slot_t *at, qo_status_t status)
{
    (void)apr_global_mutex_unlock(at->cache->mutex);
    return status;
}

bool mod_qo_socache_lockless(const mod_qo_socache_t *cache)
{
    return (cache->provider->flags & AP_SOCACHE_FLAG_NOTMPSAFE) == 0;
}

bool mod_qo_socache_glance(const slot_t *at, qo_bytes_t *out)
{
    place_t place = place_of(at);

    return get(&place, out) == APR_SUCCESS;
}

qo_status_t mod_qo_socache_read(const slot_t *at, qo_bytes_t *out)
{
    place_t place = place_of(at);
    apr_status_t rv = get(&place, out);

    return rv == APR_SUCCESS ? QO_OK : doubt(at, out, rv);
}

qo_status_t mod_qo_socache_write(const slot_t *at, qo_bytes_t value, apr_time_t expires)
{
    place_t place = place_of(at);
    apr_status_t rv = put(&place, value, expires);
    reason_t why;

    if (rv == APR_SUCCESS) {
        return QO_OK;
    }
    if (probe(at) != APR_SUCCESS) {
        return unavailable(at, "cannot write", rv);
    }
    return qo_error(at->err, QO_E_STORE_FULL,
                    "socache provider %s refuses a record of %lu bytes: %s",
                    at->cache->provider->name, (unsigned long)value.len, reason(&why, rv));
}

qo_status_t mod_qo_socache_write_for(const slot_t *at, qo_bytes_t value, apr_time_t life)
{
    return mod_qo_socache_write(at, value, apr_time_now() + life);
}

/* dbm's remove answers success whatever happened, so what is said comes from reading. To
 * remove the first part is enough; others expire by themselves. */
qo_status_t mod_qo_socache_remove(const slot_t *at)
{
    const mod_qo_socache_t *cache = at->cache;
    place_t place = place_of(at);
    unsigned char key[KEY_LEN];
    qo_bytes_t value;
    apr_status_t rv;
    qo_status_t status = mod_qo_socache_read(at, &value);

    if (status != QO_OK) {
        return status;
    }
    make_key(key, &place, 0);
    rv = cache->provider->remove(cache->instances[at->kind], ap_server_conf, key, KEY_LEN,
                                 at->pool);
    status = mod_qo_socache_read(at, &value);
    if (status == QO_OK) {
        return unavailable(at, "cannot remove", rv != APR_SUCCESS ? rv : APR_EGENERAL);
    }
    return status == QO_E_NOT_FOUND ? QO_OK : status;
}

qo_status_t mod_qo_socache_probe(const slot_t *at)
{
    apr_status_t rv = probe(at);

    return rv == APR_SUCCESS ? QO_OK : unavailable(at, "cannot read", rv);
}

/* ---- specifications ---- */

typedef struct {
    const ap_socache_provider_t *provider;
    const traits_t *traits;
    const char *argument; /* NULL if there is none */
} spec_t;

static const traits_t *traits_of(const char *name)
{
    static const traits_t unknown = {0};

    for (size_t i = 0; i < sizeof(KNOWN) / sizeof(KNOWN[0]); i++) {
        if (strcmp(KNOWN[i].name, name) == 0) {
            return &KNOWN[i];
        }
    }
    return &unknown;
}

static bool look_up(spec_t *out, const char *spec)
{
    size_t len = strcspn(spec, ":");
    char name[64];

    if (len >= sizeof(name)) {
        return false;
    }
    memcpy(name, spec, len);
    name[len] = '\0';
    out->provider =
        ap_lookup_provider(AP_SOCACHE_PROVIDER_GROUP, name, AP_SOCACHE_PROVIDER_VERSION);
    if (out->provider == NULL) {
        return false;
    }
    out->traits = traits_of(out->provider->name);
    out->argument = spec[len] == ':' && spec[len + 1] != '\0' ? spec + len + 1 : NULL;
    return true;
}

/* FILE(BYTES) becomes FILE.suffix with a quarter of BYTES, anything else gets the suffix;
 * without an argument the provider takes the consumer's name for a file. */
static const char *argument_of(apr_pool_t *p, const char *argument, const char *suffix)
{
    const char *paren = argument != NULL ? strrchr(argument, '(') : NULL;
    apr_int64_t share;
    char *end;

    if (argument == NULL || *suffix == '\0') {
        return argument;
    }
    if (paren == NULL) {
        return apr_pstrcat(p, argument, suffix, NULL);
    }
    share = apr_strtoi64(paren + 1, &end, 10) / 4;
    if (strcmp(end, ")") != 0) {
        return apr_pstrcat(p, argument, suffix, NULL);
    }
    return apr_psprintf(p, "%.*s%s(%" APR_INT64_T_FMT ")", (int)(paren - argument),
                        argument, suffix, share < SMALLEST_SHARE ? SMALLEST_SHARE : share);
}

/* With several servers, one that fails moves its keys to another: no canary can tell. */
static const char *complaint(const spec_t *spec, apr_pool_t *p)
{
    ap_socache_instance_t *instance;

    if (spec->traits->one_server && spec->argument != NULL &&
        strchr(spec->argument, ',') != NULL) {
        return "name one server only: with several, one that fails would look as if its "
               "visitors had signed out";
    }
    return spec->provider->create(&instance, spec->argument, p, p);
}

/* The instance ends with its pool. It is not given to destroy(), which is for initialised
 * ones, and with dbm deletes their files. */
const char *mod_qo_socache_check(apr_pool_t *p, apr_pool_t *tmp, const char *spec)
{
    const char *sentence;
    apr_pool_t *trial;
    spec_t found;

    if (!look_up(&found, spec)) {
        return apr_psprintf(p,
                            "there is no session store \"%.*s\": if it is one of httpd's "
                            "socache providers, load its module (mod_socache_...) first",
                            (int)strcspn(spec, ":"), spec);
    }
    if (apr_pool_create(&trial, tmp) != APR_SUCCESS) {
        return "out of memory";
    }
    sentence = complaint(&found, trial);
    if (sentence != NULL) {
        sentence = apr_pstrcat(p, found.provider->name, ": ", sentence, NULL);
    }
    apr_pool_destroy(trial);
    return sentence;
}

/* ---- set-up ---- */

apr_status_t mod_qo_socache_register(apr_pool_t *pconf)
{
    return ap_mutex_register(pconf, MUTEX_TYPE, NULL, APR_LOCK_DEFAULT, 0);
}

/* The first reading of the configuration may happen in a process that goes away when
 * httpd detaches; what is made there ends with that configuration. */
static apr_status_t keep_mutex(apr_global_mutex_t **out, apr_pool_t *p)
{
    bool rehearsal = ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG;
    apr_pool_t *keeper = rehearsal ? p : ap_server_conf->process->pool;
    void *kept = NULL;
    apr_status_t rv = apr_pool_userdata_get(&kept, MUTEX_TYPE, keeper);

    if (rv == APR_SUCCESS && kept != NULL) {
        *out = kept;
        return APR_SUCCESS;
    }
    rv = ap_global_mutex_create(out, NULL, MUTEX_TYPE, NULL, ap_server_conf, keeper, 0);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    return apr_pool_userdata_set(*out, MUTEX_TYPE, NULL, keeper);
}

static apr_status_t destroy_instances(void *data)
{
    mod_qo_socache_t *cache = data;

    for (size_t kind = 0; kind < KINDS; kind++) {
        if (kind == 0 || cache->traits->local) {
            cache->provider->destroy(cache->instances[kind], ap_server_conf);
        }
    }
    return APR_SUCCESS;
}

static apr_status_t make_instance(mod_qo_socache_t *cache, size_t kind, apr_pool_t *p,
                                  const char *argument)
{
    struct ap_socache_hints hints = {KEY_LEN, KIND[kind].size, apr_time_from_sec(300)};
    ap_socache_instance_t **out = &cache->instances[kind];

    if (kind != 0 && !cache->traits->local) {
        *out = cache->instances[0];
        return APR_SUCCESS;
    }
    argument = argument_of(p, argument, KIND[kind].suffix);
    if (cache->provider->create(out, argument, p, p) != NULL) {
        return APR_EINVAL; /* the check has told the sentence for the admin's argument */
    }
    return cache->provider->init(*out, KIND[kind].consumer, &hints, ap_server_conf, p);
}

static apr_status_t make_instances(mod_qo_socache_t *cache, apr_pool_t *p,
                                   const char *argument)
{
    for (size_t kind = 0; kind < KINDS; kind++) {
        apr_status_t rv = make_instance(cache, kind, p, argument);

        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    if (!cache->traits->keeps_file) {
        apr_pool_cleanup_register(p, cache, destroy_instances, apr_pool_cleanup_null);
    }
    return APR_SUCCESS;
}

qo_status_t mod_qo_socache_make(mod_qo_socache_t **out, apr_pool_t *p, const char *spec,
                                qo_err_t *err)
{
    mod_qo_socache_t *cache = apr_pcalloc(p, sizeof(*cache));
    const char *sentence = mod_qo_socache_check(p, p, spec);
    reason_t why;
    spec_t found;
    apr_status_t rv;

    if (sentence != NULL || !look_up(&found, spec)) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "%s",
                        sentence != NULL ? sentence : "");
    }
    cache->provider = found.provider;
    cache->traits = found.traits;
    rv = make_instances(cache, p, found.argument);
    if (rv != APR_SUCCESS) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "socache provider %s cannot start: %s",
                        found.provider->name, reason(&why, rv));
    }
    rv = keep_mutex(&cache->mutex, p);
    if (rv != APR_SUCCESS) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "cannot make mutex " MUTEX_TYPE ": %s",
                        reason(&why, rv));
    }
    *out = cache;
    return QO_OK;
}

/* Its own allocator, because the child's may be used by other threads at the same time. */
static apr_status_t make_scratch(apr_pool_t **out, apr_pool_t *p)
{
    apr_allocator_t *allocator;
    apr_status_t rv = apr_allocator_create(&allocator);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_pool_create_ex(out, p, NULL, allocator);
    if (rv != APR_SUCCESS) {
        apr_allocator_destroy(allocator);
        return rv;
    }
    apr_allocator_owner_set(allocator, *out);
    return APR_SUCCESS;
}

qo_status_t mod_qo_socache_open(mod_qo_socache_t *cache, apr_pool_t *p, qo_err_t *err)
{
    reason_t why;
    apr_status_t rv = apr_global_mutex_child_init(
        &cache->mutex, apr_global_mutex_lockfile(cache->mutex), p);

    if (rv == APR_SUCCESS) {
        rv = make_scratch(&cache->scratch, p);
    }
    if (rv != APR_SUCCESS) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "mutex " MUTEX_TYPE ": %s",
                        reason(&why, rv));
    }
    if (qo_crypto_random(&cache->canary_key, sizeof(cache->canary_key)) != QO_OK ||
        qo_crypto_random(cache->canary, sizeof(cache->canary)) != QO_OK) {
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "no random numbers");
    }
    return QO_OK;
}
