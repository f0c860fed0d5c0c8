/* The table of errors and the filling of qo_err_t. */
#include "qo_error.h"

#include "tap.h"

#include <ctype.h>
#include <limits.h>

/* The table once more: a number that was ever logged must keep its meaning, and a changed
 * HTTP status is a changed promise. */
static const struct {
    qo_status_t status;
    int number;
    int http;
} known[] = {
    {QO_E_INTERNAL, 1, 500},
    {QO_E_NOT_CONFIGURED, 2, 500},
    {QO_E_METHOD, 4, 405},
    {QO_E_BAD_RETURN, 5, 400},
    {QO_E_BAD_PARAMETER, 6, 400},
    {QO_E_FORGED_LOGOUT, 7, 403},
    {QO_E_CALLBACK_MALFORMED, 10, 400},
    {QO_E_STATE_MISSING, 11, 400},
    {QO_E_STATE_UNKNOWN, 12, 400},
    {QO_E_STATE_REPLAYED, 13, 400},
    {QO_E_STATE_FOREIGN, 14, 400},
    {QO_E_ACCESS_DENIED, 20, 403},
    {QO_E_REQUEST_REFUSED, 21, 500},
    {QO_E_COLLISION, 22, 400},
    {QO_E_PROVIDER_BUSY, 23, 503},
    {QO_E_PROVIDER_FAILED, 24, 502},
    {QO_E_PROVIDER_OTHER, 25, 400},
    {QO_E_GRANT_REJECTED, 30, 400},
    {QO_E_CLIENT_REFUSED, 31, 500},
    {QO_E_BUSY, 32, 503},
    {QO_E_UNREACHABLE, 33, 503},
    {QO_E_NOT_JSON, 34, 502},
    {QO_E_BAD_ANSWER, 35, 502},
    {QO_E_NOT_RENEWED, 36, 503},
    {QO_E_STORE_UNAVAILABLE, 40, 503},
    {QO_E_STORE_FULL, 41, 503},
    {QO_E_NOT_FOUND, 42, 404},
    {QO_E_CONFLICT, 43, 409},
};

#define KNOWN (sizeof known / sizeof *known)

static bool printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e) {
            return false;
        }
    }
    return true;
}

static void check_numbers(void)
{
    bool same = true;

    for (int status = 1; status < QO_STATUS_COUNT; status++) {
        int number = qo_error_info((qo_status_t)status)->number;

        same = same && qo_error_by_number(number) == (qo_status_t)status;
    }
    tap_ok(same, "every status is found by its number");
    tap_int(qo_error_by_number(0), QO_E_INTERNAL, "none by zero");
    tap_int(qo_error_by_number(9999), QO_E_INTERNAL, "nor by a number of a later version");
}

static void check_table(void)
{
    for (size_t i = 0; i < KNOWN; i++) {
        const qo_error_info_t *info = qo_error_info(known[i].status);

        tap_ok(info->number == known[i].number && info->http == known[i].http,
               "QO%04d answers %d", known[i].number, known[i].http);
    }
    for (int status = 1; status < QO_STATUS_COUNT; status++) {
        const qo_error_info_t *info = qo_error_info((qo_status_t)status);

        tap_ok(printable(info->visitor) && printable(info->admin) && *info->admin != '\0' &&
                   isupper((unsigned char)info->visitor[0]) &&
                   info->visitor[strlen(info->visitor) - 1] == '.' &&
                   strpbrk(info->visitor, "<>&\"") == NULL,
               "QO%04d has a sentence for each reader", info->number);
    }
}

static void check_outside(void)
{
    static const int outside[] = {0,     -1,      QO_STATUS_COUNT, QO_STATUS_COUNT + 1,
                                  10000, INT_MAX, INT_MIN};

    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        tap_int(qo_error_info((qo_status_t)outside[i])->number, 1,
                "QO_OK and numbers outside the table read as INTERNAL");
    }
}

static void check_detail(void)
{
    struct {
        qo_err_t err;
        char after[8];
    } box;
    char junk[600];

    memset(&box, 'Z', sizeof box);
    box.err.retry_after = 17;
    tap_int(qo_error(&box.err, QO_E_BUSY, "%s is %d", "it", 7), QO_E_BUSY,
            "qo_error returns the status");
    tap_is(box.err.detail, "it is 7", "and formats the detail");
    tap_int(box.err.retry_after, 17, "and leaves retry_after to who knows it");
    tap_int(qo_error(NULL, QO_E_NOT_JSON, "%s", "x"), QO_E_NOT_JSON,
            "nobody needs to want the detail");

    tap_int(qo_error(&box.err, QO_OK, "%s", ""), QO_OK, "QO_OK can carry a notice");
    tap_is(box.err.detail, "", "which may be empty");

    memset(junk, 'a', sizeof junk - 1);
    junk[sizeof junk - 1] = '\0';
    (void)qo_error(&box.err, QO_E_BUSY, "%s", junk);
    tap_ok(memchr(box.err.detail, '\0', sizeof box.err.detail) != NULL &&
               strlen(box.err.detail) >= 190,
           "a long detail is cut to fit");
    tap_ok(memcmp(box.after, "ZZZZZZZZ", 8) == 0, "and nothing beyond is touched");
    tap_int(box.err.retry_after, 17, "not even retry_after");
}

static void check_cleaning(void)
{
    qo_err_t err;

    for (int c = 1; c < 256; c++) {
        char text[] = {'<', (char)c, '>', '\0'};
        char want[] = {'<', c < 0x20 || c > 0x7e ? '?' : (char)c, '>', '\0'};

        (void)qo_error(&err, QO_E_BUSY, "%s", text);
        if (strcmp(err.detail, want) != 0) {
            tap_ok(false, "byte %d in a detail", c);
            return;
        }
    }
    tap_ok(true, "control and non-ASCII bytes of a detail become ?");
}

int main(void)
{
    tap_int(KNOWN, QO_STATUS_COUNT - 1, "this test knows every status");
    check_table();
    check_numbers();
    check_outside();
    check_detail();
    check_cleaning();
    return tap_done();
}
