#include "qo_secret.h"

#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_strings.h>

#include <string.h>

static const char *check_file(apr_pool_t *p, const char *path)
{
    const apr_int32_t wanted = APR_FINFO_TYPE | APR_FINFO_PROT;
    apr_finfo_t info;
    char reason[120];
    apr_status_t rv = apr_stat(&info, path, wanted, p);

    if (rv != APR_SUCCESS) {
        return apr_psprintf(p, "the file %s cannot be read (%s)", path,
                            apr_strerror(rv, reason, sizeof(reason)));
    }
    if (info.filetype != APR_REG) {
        return apr_psprintf(p, "%s is not a file", path);
    }
    if (info.protection & (APR_FPROT_WREAD | APR_FPROT_WWRITE | APR_FPROT_GWRITE)) {
        return apr_psprintf(p,
                            "the file %s can be read or changed by other users: make it "
                            "private with: chmod 600 %s",
                            path, path);
    }
    return NULL;
}

static const char *read_all(char *buffer, apr_size_t *len, apr_pool_t *p, const char *path)
{
    apr_file_t *file;
    char reason[120];
    apr_status_t rv = apr_file_open(&file, path, APR_READ, APR_OS_DEFAULT, p);

    if (rv == APR_SUCCESS) {
        rv = apr_file_read_full(file, buffer, *len, len);
        (void)apr_file_close(file); /* opened for reading: nothing can be lost */
    }
    if (rv != APR_SUCCESS && rv != APR_EOF) {
        return apr_psprintf(p, "the file %s cannot be read (%s)", path,
                            apr_strerror(rv, reason, sizeof(reason)));
    }
    return NULL;
}

const char *qo_secret_read_file(const char **out, apr_pool_t *p, const char *path)
{
    char *buffer = apr_pcalloc(p, QO_SECRET_MAX + 1);
    apr_size_t len = QO_SECRET_MAX;
    const char *mistake = check_file(p, path);

    mistake = mistake != NULL ? mistake : read_all(buffer, &len, p, path);
    if (mistake != NULL) {
        return mistake;
    }
    if (len >= QO_SECRET_MAX) {
        return apr_psprintf(p, "the file %s is too long to be a secret", path);
    }
    if (strlen(buffer) != len) {
        return apr_psprintf(p, "the file %s has a NUL in it", path);
    }
    while (len > 0 && (buffer[len - 1] == '\n' || buffer[len - 1] == '\r')) {
        buffer[--len] = '\0';
    }
    *out = buffer;
    return NULL;
}

const char *qo_secret_check(const char *secret)
{
    if (*secret == '\0') {
        return "the secret is empty";
    }
    for (; *secret != '\0'; secret++) {
        if ((unsigned char)*secret < 0x20 || *secret == 0x7f) {
            return "the secret has a line end or control character in it";
        }
    }
    return NULL;
}
