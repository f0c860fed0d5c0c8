#include "qo_rights.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

bool qo_rights_become(long uid, long gid)
{
    const struct passwd *user;
    int rc;

    if (geteuid() != 0 || uid <= 0) {
        return true;
    }
    user = getpwuid((uid_t)uid);
    rc = user != NULL ? initgroups(user->pw_name, (gid_t)gid) : setgroups(0, NULL);
    return rc == 0 && setgid((gid_t)gid) == 0 && setuid((uid_t)uid) == 0;
}
