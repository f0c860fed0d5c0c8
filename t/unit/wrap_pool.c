/* Gives every pool allocation a block of its own, so that ASan and valgrind see an overrun
 * of pool memory. Link with -Wl,--wrap=apr_palloc,--wrap=apr_pcalloc,--wrap=apr_pstrdup,
 * --wrap=apr_pstrmemdup,--wrap=apr_pmemdup: calls from objects linked with it come here. */
#include <apr_pools.h>

#include <stdlib.h>
#include <string.h>

void *__wrap_apr_palloc(apr_pool_t *p, apr_size_t size);
void *__wrap_apr_pcalloc(apr_pool_t *p, apr_size_t size);
void *__wrap_apr_pmemdup(apr_pool_t *p, const void *from, apr_size_t size);
char *__wrap_apr_pstrmemdup(apr_pool_t *p, const char *from, apr_size_t size);
char *__wrap_apr_pstrdup(apr_pool_t *p, const char *from);

/* Volatile, lest the compiler sees malloc and takes the registration below for a read of
 * memory nobody has written. */
static void *(*volatile allocate)(size_t) = malloc;

static apr_status_t release(void *block)
{
    free(block);
    return APR_SUCCESS;
}

void *__wrap_apr_palloc(apr_pool_t *p, apr_size_t size)
{
    void *block = allocate(size);

    if (block == NULL && size > 0) {
        abort();
    }
    apr_pool_cleanup_register(p, block, release, apr_pool_cleanup_null);
    return block;
}

void *__wrap_apr_pcalloc(apr_pool_t *p, apr_size_t size)
{
    return size > 0 ? memset(__wrap_apr_palloc(p, size), 0, size)
                    : __wrap_apr_palloc(p, size);
}

void *__wrap_apr_pmemdup(apr_pool_t *p, const void *from, apr_size_t size)
{
    void *block = __wrap_apr_palloc(p, size);

    return from == NULL || size == 0 ? block : memcpy(block, from, size);
}

char *__wrap_apr_pstrmemdup(apr_pool_t *p, const char *from, apr_size_t size)
{
    char *text;

    if (from == NULL) {
        return NULL;
    }
    text = __wrap_apr_palloc(p, size + 1);
    memcpy(text, from, size);
    text[size] = '\0';
    return text;
}

char *__wrap_apr_pstrdup(apr_pool_t *p, const char *from)
{
    return from == NULL ? NULL : __wrap_apr_pstrmemdup(p, from, strlen(from));
}
