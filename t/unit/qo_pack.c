/* Flat records: what is written is read again, and nothing else is ever read. */
#include "qo_pack.h"

#include "tap.h"

#include <apr_general.h>

#include <stdlib.h>

static apr_pool_t *pool;

static void write_sample(qo_writer_t *w, size_t size)
{
    qo_pack_start(w, pool, size);
    qo_pack_u8(w, 0xfe);
    qo_pack_u32(w, 0x01020304U);
    qo_pack_u64(w, 0x1122334455667788ULL);
    qo_pack_bytes(w, "raw", 3);
    qo_pack_string(w, "text");
    qo_pack_string(w, NULL);
    qo_pack_string(w, "");
}

/* Reads the sample; true when every field was there and right. */
static bool read_sample(const void *data, size_t len)
{
    qo_reader_t r;
    char raw[3] = "";

    qo_unpack_start(&r, data, len);
    uint8_t one = qo_unpack_u8(&r);
    uint32_t four = qo_unpack_u32(&r);
    uint64_t eight = qo_unpack_u64(&r);
    qo_unpack_bytes(&r, raw, sizeof raw);
    const char *text = qo_unpack_string(&r);
    const char *null = qo_unpack_string(&r);
    const char *empty = qo_unpack_string(&r);
    bool good = qo_unpack_finish(&r);

    if (!good) {
        return false;
    }
    return one == 0xfe && four == 0x01020304U && eight == 0x1122334455667788ULL &&
           memcmp(raw, "raw", 3) == 0 && text != NULL && strcmp(text, "text") == 0 &&
           null == NULL && empty != NULL && *empty == '\0';
}

/* A copy of its own size, so that a sanitizer sees the byte after it. */
static unsigned char *exact(const void *data, size_t len)
{
    unsigned char *copy = malloc(len == 0 ? 1 : len);

    if (copy == NULL) {
        abort();
    }
    memcpy(copy, data, len);
    return copy;
}

static void check_numbers(void)
{
    static const unsigned char want[] = {0xfe, 1,    2,    3,    4,    0x11, 0x22, 0x33,
                                         0x44, 0x55, 0x66, 0x77, 0x88, 'r',  'a',  'w'};
    qo_writer_t w;
    qo_bytes_t out;

    write_sample(&w, 4096);
    tap_ok(qo_pack_finish(&w, &out), "a record that fits is made");
    tap_ok(out.len > sizeof want && memcmp(out.data, want, sizeof want) == 0,
           "numbers are big-endian, bytes have no length");
    tap_ok(read_sample(out.data, out.len), "and everything can be read again");
}

static void check_sizes(void)
{
    qo_writer_t w;
    qo_bytes_t full;
    qo_bytes_t out;
    bool small = false;
    bool cut = false;

    write_sample(&w, 4096);
    if (!qo_pack_finish(&w, &full)) {
        tap_ok(false, "a record that fits is made");
        return;
    }
    write_sample(&w, full.len);
    tap_ok(qo_pack_finish(&w, &out) && out.len == full.len, "the size itself still fits");
    for (size_t size = 0; size < full.len; size++) {
        write_sample(&w, size);
        small = qo_pack_finish(&w, &out) || small;
    }
    tap_ok(!small, "no smaller one does");

    for (size_t len = 0; len < full.len; len++) {
        unsigned char *copy = exact(full.data, len);

        cut = read_sample(copy, len) || cut;
        free(copy);
    }
    tap_ok(!cut, "a record cut short at any length is damaged");

    unsigned char *longer = exact(full.data, full.len);
    longer = realloc(longer, full.len + 1);
    if (longer != NULL) {
        longer[full.len] = 0;
        tap_ok(!read_sample(longer, full.len + 1), "a byte left over is damage");
    }
    free(longer);
}

/* Into memory of the caller's: nothing is written outside of it, and nothing allocated. */
static void check_into(void)
{
    unsigned char place[64];
    qo_writer_t w;
    qo_bytes_t out;

    memset(place, 'p', sizeof place);
    qo_pack_into(&w, place + 8, 16);
    qo_pack_u64(&w, 0x0102030405060708ULL);
    qo_pack_bytes(&w, "eight me", 8);
    tap_ok(qo_pack_finish(&w, &out) && out.data == place + 8 && out.len == 16,
           "a record is written where the caller says");
    tap_ok(memcmp(place, "pppppppp\1\2\3\4\5\6\7\10eight meppp", 27) == 0 &&
               place[sizeof place - 1] == 'p',
           "and nowhere else");
    qo_pack_u8(&w, 'x');
    tap_ok(!qo_pack_finish(&w, &out) && out.data == NULL && place[24] == 'p',
           "what does not fit is not written");
    qo_pack_into(&w, place, 3);
    qo_pack_u32(&w, 0);
    qo_pack_u8(&w, 0);
    tap_ok(!qo_pack_finish(&w, &out) && place[0] == 'p', "no number is cut, nor forgotten");
    qo_pack_into(&w, place, 0);
    tap_ok(qo_pack_finish(&w, &out) && out.len == 0, "no room is enough for nothing");
    qo_pack_string(&w, NULL);
    tap_ok(!qo_pack_finish(&w, &out) && place[0] == 'p', "and for nothing else");
}

static void check_sticking(void)
{
    static const char big[64] = "far too long for so small a record, by some characters";
    qo_writer_t w;
    qo_reader_t r;
    qo_bytes_t out;
    unsigned char bytes[2] = {1, 2};

    qo_pack_start(&w, pool, 16);
    qo_pack_string(&w, big);
    qo_pack_u8(&w, 1);
    tap_ok(!qo_pack_finish(&w, &out), "what did not fit is not forgotten by what does");

    qo_unpack_start(&r, bytes, sizeof bytes);
    (void)qo_unpack_u32(&r);
    (void)qo_unpack_u8(&r);
    (void)qo_unpack_u8(&r);
    tap_ok(!qo_unpack_finish(&r), "nor is what was missing");

    qo_unpack_start(&r, bytes, 0);
    tap_ok(qo_unpack_finish(&r), "an empty record with no fields is whole");
}

static void check_strings_in_place(void)
{
    qo_writer_t w;
    qo_reader_t r;
    qo_bytes_t out;

    qo_pack_start(&w, pool, 64);
    qo_pack_string(&w, "inside");
    if (!qo_pack_finish(&w, &out)) {
        tap_ok(false, "a string fits");
        return;
    }
    qo_unpack_start(&r, out.data, out.len);
    const unsigned char *text = (const unsigned char *)qo_unpack_string(&r);
    tap_ok(text != NULL && text >= out.data && text + 7 <= out.data + out.len &&
               memcmp(text, "inside", 7) == 0,
           "a string is read where it lies, its NUL included");
}

/* Every damaged byte in turn: a string either fails or ends inside the record. */
static void check_damage(void)
{
    qo_writer_t w;
    qo_bytes_t out;
    bool inside = true;

    qo_pack_start(&w, pool, 64);
    qo_pack_string(&w, "hello");
    qo_pack_string(&w, "");
    if (!qo_pack_finish(&w, &out)) {
        tap_ok(false, "two strings fit");
        return;
    }
    for (size_t at = 0; at < out.len; at++) {
        for (int value = 0; value < 256; value++) {
            unsigned char *copy = exact(out.data, out.len);
            qo_reader_t r;

            copy[at] = (unsigned char)value;
            qo_unpack_start(&r, copy, out.len);
            for (int i = 0; i < 3; i++) {
                const unsigned char *text = (const unsigned char *)qo_unpack_string(&r);

                if (text != NULL) {
                    size_t room = (size_t)(copy + out.len - text);
                    inside = inside && text >= copy && room <= out.len &&
                             memchr(text, '\0', room) != NULL;
                }
            }
            (void)qo_unpack_finish(&r);
            free(copy);
        }
    }
    tap_ok(inside, "whatever a record says, its strings end inside it");
}

/* Lengths that a 32-bit or 64-bit sum would wrap around. */
static void check_lengths(void)
{
    qo_reader_t r;
    bool refused = true;

    for (unsigned first = 0; first < 256; first++) {
        unsigned char *evil = exact("\xff\xff\xff\xff\xff\xff\xff\xff\0", 9);

        evil[0] = (unsigned char)first;
        qo_unpack_start(&r, evil, 9);
        const char *text = qo_unpack_string(&r);
        refused = refused && (text == NULL || strlen(text) < 9);
        (void)qo_unpack_finish(&r);
        free(evil);
    }
    tap_ok(refused, "a huge length is not believed");

    qo_writer_t w;
    qo_bytes_t record;
    qo_pack_start(&w, pool, 8);
    qo_pack_u32(&w, 1);
    qo_pack_bytes(&w, "x", (size_t)-1 - 2);
    tap_ok(!qo_pack_finish(&w, &record), "nor does one wrap around in the writer");
}

int main(void)
{
    apr_initialize();
    apr_pool_create(&pool, NULL);
    check_numbers();
    check_sizes();
    check_into();
    check_sticking();
    check_strings_in_place();
    check_damage();
    check_lengths();
    apr_pool_destroy(pool);
    apr_terminate();
    return tap_done();
}
