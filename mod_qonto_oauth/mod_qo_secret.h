/* Secrets of the configuration: literal, file:PATH or exec:COMMAND. Read once, while the
 * server still has the privileges it started with. */
#ifndef MOD_QO_SECRET_H
#define MOD_QO_SECRET_H

#include <httpd.h>
#include <http_config.h>

/* Sets `*out` (in cmd->pool) or returns a sentence that tells what to write instead. The
 * sentence never holds the secret. A file must not be readable or writable by others; its
 * trailing line end is not part of the secret. Of a command, the first line counts, if it
 * ends well. A literal is hidden from those who print the configuration. */
const char *mod_qo_secret_read(const char **out, cmd_parms *cmd, const char *source);

#endif
