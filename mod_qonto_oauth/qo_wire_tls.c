#include "qo_wire_tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

struct qo_wire_tls_t {
    SSL_CTX *context;
    BIO_METHOD *method;
};

/* ---- bytes: OpenSSL's own sockets would raise SIGPIPE ---- */

static int descriptor(BIO *bio)
{
    return (int)(intptr_t)BIO_get_data(bio);
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EINTR;
}

static int write_bytes(BIO *bio, const char *data, int len)
{
    ssize_t sent = send(descriptor(bio), data, (size_t)len, MSG_NOSIGNAL);

    BIO_clear_retry_flags(bio);
    if (sent < 0 && would_block()) {
        BIO_set_retry_write(bio);
    }
    return (int)sent;
}

static int read_bytes(BIO *bio, char *out, int size)
{
    ssize_t got = recv(descriptor(bio), out, (size_t)size, 0);

    BIO_clear_retry_flags(bio);
    if (got < 0 && would_block()) {
        BIO_set_retry_read(bio);
    }
    return (int)got;
}

static long control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int begin_bio(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

/* Without an index of its own, as a process has only so many and nobody looks for it. */
static BIO_METHOD *make_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "qonto wire");

    if (method != NULL && (BIO_meth_set_write(method, write_bytes) != 1 ||
                           BIO_meth_set_read(method, read_bytes) != 1 ||
                           BIO_meth_set_ctrl(method, control) != 1 ||
                           BIO_meth_set_create(method, begin_bio) != 1)) {
        BIO_meth_free(method);
        method = NULL;
    }
    return method;
}

/* ---- what connections have in common ---- */

static apr_status_t end(void *data)
{
    qo_wire_tls_t *tls = data;

    SSL_CTX_free(tls->context);
    BIO_meth_free(tls->method);
    return APR_SUCCESS;
}

static bool set_rules(SSL_CTX *context)
{
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Else one call goes on for as long as records come that carry nothing for us. */
    SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1;
}

static bool set_authorities(SSL_CTX *context, const char *ca)
{
    return (ca != NULL ? SSL_CTX_load_verify_file(context, ca)
                       : SSL_CTX_set_default_verify_paths(context)) == 1;
}

qo_status_t qo_wire_tls(qo_wire_tls_t **out, apr_pool_t *p, const char *ca, qo_err_t *err)
{
    qo_wire_tls_t *tls = apr_pcalloc(p, sizeof(*tls));

    *out = tls;
    ERR_clear_error();
    tls->method = make_method();
    tls->context = SSL_CTX_new(TLS_client_method());
    apr_pool_cleanup_register(p, tls, end, apr_pool_cleanup_null);
    if (tls->method == NULL || tls->context == NULL || !set_rules(tls->context)) {
        ERR_clear_error();
        return qo_error(err, QO_E_STORE_UNAVAILABLE, "TLS: OpenSSL cannot be used");
    }
    if (!set_authorities(tls->context, ca)) {
        ERR_clear_error();
        return qo_error(err, QO_E_STORE_UNAVAILABLE,
                        "TLS: no certificates can be read from %s",
                        ca != NULL ? ca : "the system's files");
    }
    return QO_OK;
}

/* ---- one connection ---- */

static bool expect(SSL *ssl, const char *host, bool is_address)
{
    if (is_address) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    /* SSL_set_tlsext_host_name, whose own cast not every compiler likes */
    return SSL_set1_host(ssl, host) == 1 &&
           SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                    (void *)(uintptr_t)host) == 1;
}

void *qo_wire_tls_new(const qo_wire_tls_t *tls, int fd, const char *host, bool is_address)
{
    SSL *ssl = SSL_new(tls->context);
    BIO *bio = BIO_new(tls->method);

    if (ssl == NULL || bio == NULL || !expect(ssl, host, is_address)) {
        SSL_free(ssl);
        (void)BIO_free(bio); /* nothing was written through it */
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, (void *)(intptr_t)fd);
    SSL_set_bio(ssl, bio, bio);
    return ssl;
}

void qo_wire_tls_free(void *session)
{
    SSL_free(session);
}

/* OpenSSL's own words, but for certificates what is wrong with them. */
static qo_wire_tls_step_t fail(SSL *ssl, qo_err_t *err)
{
    long verdict = SSL_get_verify_result(ssl);
    const char *why = ERR_reason_error_string(ERR_peek_error());

    if (verdict != X509_V_OK) {
        (void)qo_error(err, QO_E_STORE_UNAVAILABLE, "TLS: its certificate is refused: %s",
                       X509_verify_cert_error_string(verdict));
    } else {
        (void)qo_error(err, QO_E_STORE_UNAVAILABLE, "TLS: %s",
                       why != NULL ? why : "the connection broke off");
    }
    ERR_clear_error();
    return QO_WIRE_TLS_FAILED;
}

static qo_wire_tls_step_t judge(SSL *ssl, int rc, qo_err_t *err)
{
    switch (SSL_get_error(ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return QO_WIRE_TLS_READ;
    case SSL_ERROR_WANT_WRITE:
        return QO_WIRE_TLS_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return QO_WIRE_TLS_ENDED;
    default:
        return fail(ssl, err);
    }
}

qo_wire_tls_step_t qo_wire_tls_greet(void *session, qo_err_t *err)
{
    int rc;

    ERR_clear_error();
    rc = SSL_connect(session);
    return rc == 1 ? QO_WIRE_TLS_DONE : judge(session, rc, err);
}

qo_wire_tls_step_t qo_wire_tls_write(void *session, const void *data, size_t len,
                                     size_t *sent, qo_err_t *err)
{
    int rc;

    ERR_clear_error();
    rc = SSL_write_ex(session, data, len, sent);
    return rc == 1 ? QO_WIRE_TLS_DONE : judge(session, rc, err);
}

qo_wire_tls_step_t qo_wire_tls_read(void *session, void *out, size_t size, size_t *got,
                                    qo_err_t *err)
{
    int rc;

    ERR_clear_error();
    rc = SSL_read_ex(session, out, size, got);
    return rc == 1 ? QO_WIRE_TLS_DONE : judge(session, rc, err);
}

bool qo_wire_tls_quiet(void *session)
{
    char byte;
    int rc;

    ERR_clear_error();
    rc = SSL_peek(session, &byte, 1);
    return rc <= 0 && SSL_get_error(session, rc) == SSL_ERROR_WANT_READ;
}
