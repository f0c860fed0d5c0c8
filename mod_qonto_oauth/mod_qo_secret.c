#include "mod_qo_secret.h"

#include "qo_secret.h"

#include <apr_file_io.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>
#include <http_core.h>
#include <http_log.h>

#include <stdbool.h>
#include <string.h>

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
    char *line = apr_pcalloc(cmd->pool, QO_SECRET_MAX + 1);
    char **argv = NULL;
    bool ran = apr_tokenize_to_argv(command, &argv, cmd->temp_pool) == APR_SUCCESS &&
               argv[0] != NULL &&
               first_line(line, QO_SECRET_MAX, cmd->temp_pool, argv) == APR_SUCCESS;

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

/* Sentences begin with the name of their directive. */
static const char *of(cmd_parms *cmd, const char *mistake)
{
    return mistake != NULL ? apr_pstrcat(cmd->pool, cmd->cmd->name, ": ", mistake, NULL)
                           : NULL;
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
        mistake = of(cmd, qo_secret_read_file(out, cmd->pool, path));
    } else if (strncmp(source, "exec:", 5) == 0) {
        mistake = run(out, cmd, source + 5);
    } else {
        *out = source;
        /* mod_info and -D DUMP_CONFIG show the configuration as it was written. */
        cmd->directive->args = "(hidden)";
    }
    return mistake != NULL ? mistake : of(cmd, qo_secret_check(*out));
}
