dnl QO_HIREDIS
dnl The Redis session store, when hiredis is there: it writes and reads the protocol, and
dnl OpenSSL's libssl is for rediss://. Sets HIREDIS_CFLAGS, HIREDIS_LIBS, SSL_CFLAGS,
dnl SSL_LIBS and the conditional HIREDIS; with_hiredis becomes yes or no.
AC_DEFUN([QO_HIREDIS], [
AC_ARG_WITH([hiredis],
  [AS_HELP_STRING([--without-hiredis], [leave out the Redis session store @<:@used if hiredis is there@:>@])],
  [], [with_hiredis=check])
AS_CASE([$with_hiredis], [yes|no|check], [],
  [AC_MSG_ERROR([--with-hiredis takes no folder: let PKG_CONFIG_PATH lead to hiredis.pc])])
AS_IF([test "x$with_hiredis" != xno],
  [PKG_CHECK_MODULES([HIREDIS], [hiredis >= 0.14], [qo_found=yes], [qo_found=no])
   AS_CASE([$with_hiredis,$qo_found],
     [yes,no], [AC_MSG_ERROR([hiredis 0.14 or newer not found (Debian: libhiredis-dev, Fedora: hiredis-devel); --without-hiredis builds without the Redis session store])],
     [with_hiredis=$qo_found])])
AS_IF([test "x$with_hiredis" = xyes],
  [PKG_CHECK_MODULES([SSL], [libssl >= 3.0])
   QO_ISYSTEM([HIREDIS_CFLAGS])
   AC_SEARCH_LIBS([dladdr], [dl])
   AC_DEFINE([QO_HAVE_REDIS], [1], [The Redis session store is built.])])
AM_CONDITIONAL([HIREDIS], [test "x$with_hiredis" = xyes])
AC_SUBST([with_hiredis])
])
