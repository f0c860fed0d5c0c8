/* The default store provider: LMDB in one private directory. See qo_store_lmdb.c. */
#ifndef QO_STORE_LMDB_H
#define QO_STORE_LMDB_H

#include "qo_store.h"

extern const qo_store_provider_t qo_store_lmdb_provider;

#endif
