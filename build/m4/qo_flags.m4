dnl QO_ISYSTEM(VARIABLE)
dnl Turns -I into -isystem in a variable of flags: the headers of others do not warn.
AC_DEFUN([QO_ISYSTEM], [
$1=`AS_ECHO(["$$1"]) | sed 's/\(^\| \)-I *\([[^ ]]\)/\1-isystem \2/g'`
])

dnl QO_ADD_CFLAG(VARIABLE, FLAG)
dnl Adds a flag the compiler knows. clang only warns about unknown ones, hence -Werror.
AC_DEFUN([QO_ADD_CFLAG], [
AS_VAR_PUSHDEF([known], [qo_cv_cflag_$2])
AC_CACHE_CHECK([whether $CC knows $2], [known],
  [qo_save_CFLAGS=$CFLAGS
   CFLAGS="$CFLAGS -Werror $2"
   AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])], [AS_VAR_SET([known], [yes])], [AS_VAR_SET([known], [no])])
   CFLAGS=$qo_save_CFLAGS])
AS_VAR_IF([known], [yes], [$1="$$1 $2"])
AS_VAR_POPDEF([known])
])

dnl QO_WARNINGS
dnl Sets QO_CFLAGS: the language, and every warning this compiler knows.
AC_DEFUN([QO_WARNINGS], [
AC_ARG_ENABLE([werror],
  [AS_HELP_STRING([--enable-werror], [a warning stops the build])], [], [enable_werror=no])
QO_CFLAGS=-std=c11
m4_foreach_w([qo_flag], [-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow
  -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wcast-qual -Wcast-align -Wwrite-strings
  -Wundef -Wvla -Wnull-dereference -Wduplicated-cond -Wduplicated-branches -Wlogical-op -Walloca
  -Wstack-usage=16384], [QO_ADD_CFLAG([QO_CFLAGS], qo_flag)])
AS_IF([test "x$enable_werror" = xyes], [QO_CFLAGS="$QO_CFLAGS -Werror"])
QO_CFLAGS="$QO_CFLAGS $QO_INSTRUMENTATION_CFLAGS"
AC_SUBST([QO_CFLAGS])
])

dnl QO_INSTRUMENTATION
dnl --enable-sanitize and --enable-coverage. Called before AC_PROG_CC, which sets CFLAGS.
AC_DEFUN([QO_INSTRUMENTATION], [
AC_ARG_ENABLE([sanitize],
  [AS_HELP_STRING([--enable-sanitize@<:@=LIST@:>@], [build with sanitizers @<:@address,undefined@:>@])],
  [], [enable_sanitize=no])
AC_ARG_ENABLE([coverage],
  [AS_HELP_STRING([--enable-coverage], [count which lines the tests reach])],
  [], [enable_coverage=no])
AS_IF([test "x$enable_sanitize" = xyes], [enable_sanitize=address,undefined])
QO_INSTRUMENTATION_CFLAGS=
AS_IF([test "x$enable_sanitize" != xno],
  [QO_INSTRUMENTATION_CFLAGS="-fno-omit-frame-pointer -fsanitize=$enable_sanitize"
   AS_CASE([,$enable_sanitize,], [*,undefined,*],
     [QO_INSTRUMENTATION_CFLAGS="$QO_INSTRUMENTATION_CFLAGS -fno-sanitize-recover=undefined"])
   : ${CFLAGS="-g -O1"}])
AS_IF([test "x$enable_coverage" = xyes],
  [QO_INSTRUMENTATION_CFLAGS="$QO_INSTRUMENTATION_CFLAGS --coverage -fprofile-update=atomic"
   : ${CFLAGS="-g -O0"}])
])
