dnl QO_APXS([MINIMUM])
dnl Asks httpd's apxs where things are. Sets APXS, HTTPD, HTTPD_VERSION, HTTPD_CPPFLAGS,
dnl apachemoddir (where the module is installed) and httpd_libexecdir (where httpd's own are).
AC_DEFUN([QO_APXS], [
AC_ARG_WITH([apxs],
  [AS_HELP_STRING([--with-apxs=FILE], [httpd's apxs @<:@searched in PATH@:>@])],
  [], [with_apxs=yes])
AS_CASE([$with_apxs],
  [yes], [AC_PATH_PROGS([APXS], [apxs2 apxs], [],
            [$PATH$PATH_SEPARATOR/usr/sbin$PATH_SEPARATOR/usr/local/apache2/bin])],
  [no],  [AC_MSG_ERROR([the module cannot be built without apxs])],
  [APXS=$with_apxs])
AS_IF([test -z "$APXS" || test ! -x "$APXS"],
  [AC_MSG_ERROR([apxs not found: install httpd's development files (Debian: apache2-dev, Fedora: httpd-devel), or use --with-apxs=FILE])])
AC_SUBST([APXS])

AC_MSG_CHECKING([for httpd >= $1])
HTTPD_VERSION=`"$APXS" -q HTTPD_VERSION 2>/dev/null`
AC_MSG_RESULT([$HTTPD_VERSION])
AS_VERSION_COMPARE([${HTTPD_VERSION:-0}], [$1],
  [AC_MSG_ERROR([httpd $1 or newer is needed])])
AC_SUBST([HTTPD_VERSION])

HTTPD=`"$APXS" -q SBINDIR`/`"$APXS" -q PROGNAME`
AC_SUBST([HTTPD])

dnl -isystem keeps our warnings out of httpd's headers.
HTTPD_CPPFLAGS="-isystem `"$APXS" -q INCLUDEDIR`"
AC_SUBST([HTTPD_CPPFLAGS])

httpd_libexecdir=`"$APXS" -q LIBEXECDIR`
AC_SUBST([httpd_libexecdir])
AC_ARG_WITH([apache-libexecdir],
  [AS_HELP_STRING([--with-apache-libexecdir=DIR],
    [where the module is installed @<:@where apxs says@:>@])],
  [], [with_apache_libexecdir=$httpd_libexecdir])
AC_SUBST([apachemoddir], [$with_apache_libexecdir])

qo_save_CPPFLAGS=$CPPFLAGS
CPPFLAGS="$CPPFLAGS $HTTPD_CPPFLAGS `"$APXS" -q EXTRA_CPPFLAGS` -I`"$APXS" -q APR_INCLUDEDIR`"
AC_CHECK_HEADER([httpd.h], [],
  [AC_MSG_ERROR([httpd.h cannot be used, although apxs names its folder; config.log tells why])])
CPPFLAGS=$qo_save_CPPFLAGS
])
