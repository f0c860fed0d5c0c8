#include "mod_qo_secret.h"

#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>
#include <http_core.h>
#include <http_log.h>

#include <stdbool.h>
#include <string.h>

#define MAX_SECRET 4096

static const char *check_file(apr_pool_t *p, const char *directive, const char *path)
{
    const apr_int32_t wanted = APR_FINFO_TYPE | APR_FINFO_PROT;
    apr_finfo_t info;
    char reason[120];
    apr_status_t rv = apr_stat(&info, path, wanted, p);

    if (rv != APR_SUCCESS) {
        return apr_psprintf(p, "%s: the file %s cannot be read (%s)", directive, path,
                            apr_strerror(rv, reason, sizeof(reason)));
    }
    if (info.filetype != APR_REG) {
        return apr_psprintf(p, "%s: %s is not a file", directive, path);
    }
    if (info.protection & (APR_FPROT_WREAD | APR_FPROT_WWRITE | APR_FPROT_GWRITE)) {
        return apr_psprintf(
            p,
            "%s: the file %s can be read or changed by other users: make it "
            "private with: chmod 600 %s",
            directive, path, path);
    }
    return NULL;
}

static const char *read_file(const char **out, apr_pool_t *p, const char *directive,
                             const char *path)
{
    char *buffer = apr_pcalloc(p, MAX_SECRET + 1);
    apr_size_t len = MAX_SECRET;
    apr_file_t *file;
    char reason[120];
    apr_status_t rv = apr_file_open(&file, path, APR_READ, APR_OS_DEFAULT, p);

    if (rv == APR_SUCCESS) {
        rv = apr_file_read_full(file, buffer, len, &len);
        (void)apr_file_close(file); /* opened for reading: nothing can be lost */
    }
    if (rv != APR_SUCCESS && rv != APR_EOF) {
        return apr_psprintf(p, "%s: the file %s cannot be read (%s)", directive, path,
                            apr_strerror(rv, reason, sizeof(reason)));
    }
    if (len >= MAX_SECRET) {
        return apr_psprintf(p, "%s: the file %s is too long to be a secret", directive,
                            path);
    }
    if (strlen(buffer) != len) {
        return apr_psprintf(p, "%s: the file %s has a NUL in it", directive, path);
    }
    while (len > 0 && (buffer[len - 1] == '\n' || buffer[len - 1] == '\r')) {
        buffer[--len] = '\0';
    }
    *out = buffer;
    return NULL;
}

/* The first line the program prints, if it then ends well. */
static apr_status_t first_line(char *line, apr_size_t size, apr_pool_t *p, char **argv)
{
    apr_procattr_t *attr;
    apr_proc_t process;
    apr_exit_why_e why;
    int code = -1;
    apr_status_t rv = apr_procattr_create(&attr, p);

    if (rv == APR_SUCCESS) {
        rv = apr_procattr_io_set(attr, APR_NO_PIPE, APR_FULL_BLOCK, APR_NO_PIPE);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_procattr_cmdtype_set(attr, APR_PROGRAM_PATH);
    }
    if (rv == APR_SUCCESS) {
        rv = apr_proc_create(&process, argv[0], (const char *const *)argv, NULL, attr, p);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_file_gets(line, (int)size, process.out);
    (void)apr_file_close(process.out); /* what it prints further does not matter */
    if (apr_proc_wait(&process, &code, &why, APR_WAIT) != APR_CHILD_DONE || code != 0) {
        return APR_EGENERAL;
    }
    return rv;
}

static const char *run(const char **out, cmd_parms *cmd, const char *command)
{
    char *line = apr_pcalloc(cmd->pool, MAX_SECRET + 1);
    char **argv = NULL;
    bool ran = apr_tokenize_to_argv(command, &argv, cmd->temp_pool) == APR_SUCCESS &&
               argv[0] != NULL &&
               first_line(line, MAX_SECRET, cmd->temp_pool, argv) == APR_SUCCESS;

    line[strcspn(line, "\r\n")] = '\0';
    if (!ran || *line == '\0') {
        return apr_psprintf(
            cmd->pool,
            "%s: the command %s could not be run, failed or printed nothing: "
            "write exec: and the path of a program that prints the secret",
            cmd->cmd->name, argv != NULL && argv[0] != NULL ? argv[0] : "");
    }
    *out = line;
    return NULL;
}

static const char *check_text(apr_pool_t *p, const char *directive, const char *text)
{
    if (*text == '\0') {
        return apr_psprintf(p, "%s: the secret is empty", directive);
    }
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            return apr_psprintf(
                p, "%s: the secret has a line end or control character in it", directive);
        }
    }
    return NULL;
}

const char *mod_qo_secret_read(const char **out, cmd_parms *cmd, const char *source)
{
    const char *directive = cmd->cmd->name;
    const char *mistake = NULL;

    if (strncmp(source, "file:", 5) == 0) {
        const char *path = ap_server_root_relative(cmd->pool, source + 5);

        if (path == NULL) {
            return apr_psprintf(cmd->pool, "%s: %s is not a path", directive, source);
        }
        mistake = check_file(cmd->temp_pool, directive, path);
        mistake = mistake ? mistake : read_file(out, cmd->pool, directive, path);
    } else if (strncmp(source, "exec:", 5) == 0) {
        mistake = run(out, cmd, source + 5);
    } else {
        *out = source;
        /* mod_info and -D DUMP_CONFIG show the configuration as it was written. */
        cmd->directive->args = "(hidden)";
    }
    return mistake != NULL ? mistake : check_text(cmd->pool, directive, *out);
}
