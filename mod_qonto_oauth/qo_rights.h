/* The rights of this process: given up, never gained. */
#ifndef QO_RIGHTS_H
#define QO_RIGHTS_H

#include "qo_error.h"

#include <stdbool.h>

/* Becomes the user for good: groups, group, user. True also when there is nothing to give
 * up: this process is not root's, or is to stay so (`uid` 0, or -1 for the present user).
 * On false errno tells why, and the process must not go on. */
bool qo_rights_become(long uid, long gid) QO_MUST_CHECK;

#endif
