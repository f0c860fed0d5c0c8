#include "qo_pack.h"

#include <string.h>

/* A string's length is written in 16 bits and counts its NUL; 0 stands for NULL. */
#define STRING_MAX 0xffff

void qo_pack_start(qo_writer_t *w, apr_pool_t *p, size_t size)
{
    qo_pack_into(w, apr_palloc(p, size), size);
}

void qo_pack_into(qo_writer_t *w, unsigned char *data, size_t size)
{
    w->data = data;
    w->len = 0;
    w->size = size;
    w->bad = false;
}

/* Room for the next `len` bytes, NULL when they do not fit. */
static unsigned char *reserve(qo_writer_t *w, size_t len)
{
    unsigned char *at = w->data + w->len;

    if (w->bad || len > w->size - w->len) {
        w->bad = true;
        return NULL;
    }
    w->len += len;
    return at;
}

static void put_number(qo_writer_t *w, uint64_t value, size_t width)
{
    unsigned char *at = reserve(w, width);

    if (at == NULL) {
        return;
    }
    for (size_t i = width; i > 0; i--) {
        at[i - 1] = (unsigned char)(value & 0xff);
        value >>= 8;
    }
}

void qo_pack_u8(qo_writer_t *w, uint8_t value)
{
    put_number(w, value, 1);
}

void qo_pack_u32(qo_writer_t *w, uint32_t value)
{
    put_number(w, value, 4);
}

void qo_pack_u64(qo_writer_t *w, uint64_t value)
{
    put_number(w, value, 8);
}

void qo_pack_bytes(qo_writer_t *w, const void *data, size_t len)
{
    unsigned char *at = reserve(w, len);

    if (at != NULL && len > 0) {
        memcpy(at, data, len);
    }
}

void qo_pack_string(qo_writer_t *w, const char *text)
{
    size_t len = text == NULL ? 0 : strlen(text) + 1;

    if (len > STRING_MAX) {
        w->bad = true;
        return;
    }
    put_number(w, len, 2);
    qo_pack_bytes(w, text, len);
}

bool qo_pack_finish(const qo_writer_t *w, qo_bytes_t *out)
{
    out->data = w->bad ? NULL : w->data;
    out->len = w->bad ? 0 : w->len;
    return !w->bad;
}

void qo_unpack_start(qo_reader_t *r, const void *data, size_t len)
{
    r->data = data;
    r->len = len;
    r->at = 0;
    r->bad = false;
}

/* The next `len` bytes, NULL when the record is too short for them. */
static const unsigned char *take(qo_reader_t *r, size_t len)
{
    const unsigned char *at = r->data + r->at;

    if (r->bad || len > r->len - r->at) {
        r->bad = true;
        return NULL;
    }
    r->at += len;
    return at;
}

static uint64_t take_number(qo_reader_t *r, size_t width)
{
    const unsigned char *at = take(r, width);
    uint64_t value = 0;

    if (at == NULL) {
        return 0;
    }
    for (size_t i = 0; i < width; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

uint8_t qo_unpack_u8(qo_reader_t *r)
{
    return (uint8_t)take_number(r, 1);
}

uint32_t qo_unpack_u32(qo_reader_t *r)
{
    return (uint32_t)take_number(r, 4);
}

uint64_t qo_unpack_u64(qo_reader_t *r)
{
    return take_number(r, 8);
}

void qo_unpack_bytes(qo_reader_t *r, void *out, size_t len)
{
    const unsigned char *at = take(r, len);

    if (len == 0) {
        return;
    }
    if (at == NULL) {
        memset(out, 0, len);
        return;
    }
    memcpy(out, at, len);
}

const char *qo_unpack_string(qo_reader_t *r)
{
    size_t len = (size_t)take_number(r, 2);
    const unsigned char *at = take(r, len);

    if (at == NULL || len == 0) {
        return NULL;
    }
    if (memchr(at, '\0', len) != at + len - 1) {
        r->bad = true;
        return NULL;
    }
    return (const char *)at;
}

bool qo_unpack_finish(const qo_reader_t *r)
{
    return !r->bad && r->at == r->len;
}
