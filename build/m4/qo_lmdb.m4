dnl QO_LMDB
dnl LMDB has no pkg-config file everywhere (Debian's has none). Sets LMDB_LIBS.
AC_DEFUN([QO_LMDB], [
qo_save_LIBS=$LIBS
AC_CHECK_HEADER([lmdb.h], [], [AC_MSG_ERROR([lmdb.h not found (Debian: liblmdb-dev, Fedora: lmdb-devel)])])
AC_CHECK_LIB([lmdb], [mdb_env_create], [LMDB_LIBS=-llmdb],
  [AC_MSG_ERROR([liblmdb not found (Debian: liblmdb-dev, Fedora: lmdb-devel)])])
AC_SUBST([LMDB_LIBS])
LIBS=$qo_save_LIBS
])
