/* The hooks of a request: context on arrival, the gate at authentication, the export before
 * the handler. */
#ifndef MOD_QO_AUTHN_H
#define MOD_QO_AUTHN_H

#include <httpd.h>

int mod_qo_authn_arrive(request_rec *r);                         /* post_read_request */
int mod_qo_authn_callback(request_rec *r, int lookup);           /* quick_handler */
int mod_qo_authn_check(request_rec *r);                          /* check_authn */
int mod_qo_authn_note_failure(request_rec *r, const char *type); /* note_auth_failure */
int mod_qo_authn_fixup(request_rec *r);                          /* fixups */
void mod_qo_authn_before_handler(request_rec *r);                /* insert_filter */
void mod_qo_authn_before_error(request_rec *r);                  /* insert_error_filter */
int mod_qo_authn_handle(request_rec *r);                         /* handler */

#endif
