/* The life of the server: check the configuration, prepare stores and keys in the parent,
 * open them in the children, sweep. */
#ifndef MOD_QO_PROCESS_H
#define MOD_QO_PROCESS_H

#include <httpd.h>
#include <http_config.h>

/* Hooks of the same names. */
int mod_qo_process_pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);
int mod_qo_process_check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                                server_rec *s);
int mod_qo_process_post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                               server_rec *s);
void mod_qo_process_child_init(apr_pool_t *pchild, server_rec *s);

/* Removes dead records in small steps, where no watchdog does it: called after a sign-in.
 */
void mod_qo_process_sweep_if_needed(const server_rec *s, apr_time_t now);

#endif
