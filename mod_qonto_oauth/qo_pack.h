/* Flat binary records: fixed-width numbers (big-endian) and length-prefixed strings,
 * written and read in order. A record that is too long, cut short or has bytes left over is
 * damaged; the error sticks, so a codec is a straight list of fields and one check at the
 * end. */
#ifndef QO_PACK_H
#define QO_PACK_H

#include <apr_pools.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    unsigned char *data;
    size_t len;
} qo_bytes_t;

typedef struct {
    unsigned char *data;
    size_t len;
    size_t size;
    bool bad;
} qo_writer_t;

/* A writer of at most `size` bytes, allocated in `p`. */
void qo_pack_start(qo_writer_t *w, apr_pool_t *p, size_t size);
/* The same into the caller's own `size` bytes. */
void qo_pack_into(qo_writer_t *w, unsigned char *data, size_t size);
void qo_pack_u8(qo_writer_t *w, uint8_t value);
void qo_pack_u32(qo_writer_t *w, uint32_t value);
void qo_pack_u64(qo_writer_t *w, uint64_t value);
void qo_pack_bytes(qo_writer_t *w, const void *data, size_t len); /* no length written */
void qo_pack_string(qo_writer_t *w, const char *text); /* NULL is kept apart from "" */
/* The record; false when something did not fit. */
bool qo_pack_finish(const qo_writer_t *w, qo_bytes_t *out);

typedef struct {
    const unsigned char *data;
    size_t len;
    size_t at;
    bool bad;
} qo_reader_t;

void qo_unpack_start(qo_reader_t *r, const void *data, size_t len);
uint8_t qo_unpack_u8(qo_reader_t *r);
uint32_t qo_unpack_u32(qo_reader_t *r);
uint64_t qo_unpack_u64(qo_reader_t *r);
void qo_unpack_bytes(qo_reader_t *r, void *out, size_t len);
/* NULL for a NULL written, else a NUL-terminated string inside the record itself: strings
 * are written with their NUL, so reading one copies nothing and it lives as long as the
 * record. */
const char *qo_unpack_string(qo_reader_t *r);
/* True when every field was there and nothing is left over. */
bool qo_unpack_finish(const qo_reader_t *r);

#endif
