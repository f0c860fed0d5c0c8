# Every mistake fails `httpd -t` with a sentence that names the directive and says what to write instead.
use v5.36;
use Qonto::Httpd;
use Qonto::Test;

my $h = Qonto::Httpd->new;
my $with_redis = ($ENV{QO_WITH_REDIS} // 'yes') eq 'yes';
my ($status, $said) = $h->conf(Qonto::Httpd::sample())->check;
is $status, 0, 'the sample itself is right' or BAIL_OUT($said);
unlike $said, qr/Qonto|QO\d{4}/, '- and raises no doubts' or diag $said;

# [what, changes, directive that must be named, what the sentence must contain]
my @mistakes = (
    # the client
    ['no secret',        { QontoClientSecret => undef },        'QontoClientSecret', qr/write|add/],
    ['no redirect URI',  { QontoRedirectURI => undef },         'QontoRedirectURI',  qr/write|add/],
    ['no client id',     { QontoClientId => undef },            'QontoClientId',     qr/write|add/],
    ['empty client id',  { QontoClientId => '""' },             'QontoClientId',     qr/./],
    ['empty secret',     { QontoClientSecret => '""' },         'QontoClientSecret', qr/./],
    ['two client ids',   { QontoClientId => 'a b' },            'QontoClientId',     qr/./],
    ['three secrets',    { QontoClientSecret => 'a b c' },      'QontoClientSecret', qr/./],
    ['control characters in the id', { QontoClientId => "\"a\tb\"" }, 'QontoClientId', qr/./],

    # the redirect URI
    ['http, not loopback', { QontoRedirectURI => 'http://app.example.com/cb' },       'QontoRedirectURI', qr/https/],
    ['nearly loopback',    { QontoRedirectURI => 'http://127.0.0.1.evil.test/cb' },   'QontoRedirectURI', qr/https/],
    ['nearly localhost',   { QontoRedirectURI => 'http://localhost.evil.test/cb' },   'QontoRedirectURI', qr/https/],
    ['a user in it',       { QontoRedirectURI => 'https://localhost@evil.test/cb' },  'QontoRedirectURI', qr/./],
    ['a fragment',         { QontoRedirectURI => '"https://app.example.com/cb#x"' },  'QontoRedirectURI', qr/#|fragment/],
    ['not absolute',       { QontoRedirectURI => '/qonto/callback' },                 'QontoRedirectURI', qr/https/],
    ['no scheme',          { QontoRedirectURI => 'app.example.com/cb' },              'QontoRedirectURI', qr/https/],
    ['another scheme',     { QontoRedirectURI => 'ftp://app.example.com/cb' },        'QontoRedirectURI', qr/https/],
    ['no path',            { QontoRedirectURI => 'https://app.example.com' },         'QontoRedirectURI', qr/./],
    ['a bad port',         { QontoRedirectURI => 'https://app.example.com:99999/cb' },'QontoRedirectURI', qr/./],
    ['a space',            { QontoRedirectURI => '"https://app.example.com/c b"' },   'QontoRedirectURI', qr/./],

    # scopes
    ['a scope with a quote',  { QontoScopes => q('offline_access organ"ization') },  'QontoScopes', qr/./],

    # the sandbox
    ['sandbox, no token',     { QontoSandbox => 'On' },                               'QontoStagingToken', qr/./],
    ['token, no sandbox',     { QontoStagingToken => 'staging-4711' },                'QontoStagingToken', qr/QontoSandbox/],
    ['token with production', { QontoSandbox => 'Off', QontoStagingToken => 'x-4711' }, 'QontoStagingToken', qr/QontoSandbox/],
    ['neither On nor Off',    { QontoSandbox => 'Maybe' },                            'QontoSandbox', qr/On or Off/],

    # endpoints
    ['unknown endpoint',      { QontoEndpoint => 'userinfo https://oauth.qonto.com/x' }, 'QontoEndpoint', qr/authorize.*token.*revoke.*api/s],
    ['http endpoint',         { QontoEndpoint => 'token http://oauth.qonto.com/oauth2/token' }, 'QontoEndpoint', qr/https/],
    ['http, nearly loopback', { QontoEndpoint => 'token http://127.0.0.1.nip.test/token' },     'QontoEndpoint', qr/https/],
    ['no address',            { QontoEndpoint => 'token /oauth2/token' },             'QontoEndpoint', qr/https/],
    ['an endpoint alone',     { QontoEndpoint => 'token' },                           'QontoEndpoint', qr/./],
    ['a fragment',            { QontoEndpoint => '"authorize" "https://a.test/x#y"' },'QontoEndpoint', qr/./],

    # extra parameters
    (map { ["overriding $_", { QontoAuthorizeParam => "$_ x" }, 'QontoAuthorizeParam', qr/\b$_\b/] }
        qw(client_id redirect_uri response_type scope state code_challenge code_challenge_method response_mode)),
    ['overriding in capitals is another name', { QontoAuthorizeParam => 'state "%{req:X' }, 'QontoAuthorizeParam', qr/./],
    ['a bad expression',      { QontoAuthorizeParam => 'organization_id "%{nosuchfunc:x}"' }, 'QontoAuthorizeParam', qr/./],
    ['a bad name',            { QontoAuthorizeParam => '"organization id" x' },       'QontoAuthorizeParam', qr/./],
    ['a name alone',          { QontoAuthorizeParam => 'prompt' },                    'QontoAuthorizeParam', qr/./],
    ['PKCE neither',          { QontoPKCE => 'plain' },                               'QontoPKCE', qr/On or Off/],

    # locations
    ['unknown policy',        { _ => "<Location /x>\nQontoUnauthenticated redirect\n</Location>" }, 'QontoUnauthenticated', qr/login.*page.*401.*pass/s],
    ['unknown item',          { _ => "<Location /x>\nQontoPass user token\n</Location>" }, 'QontoPass', qr/user.*organization.*scope.*expires/s],
    ['a bad header name',     { _ => "<Location /x>\nQontoTokenHeader \"X Token\"\n</Location>" }, 'QontoTokenHeader', qr/./],
    ['a header with a colon', { _ => "<Location /x>\nQontoTokenHeader Authorization: Bearer\n</Location>" }, 'QontoTokenHeader', qr/./],
    ['a bad scheme',          { _ => "<Location /x>\nQontoTokenHeader Authorization \"Bea\trer\"\n</Location>" }, 'QontoTokenHeader', qr/./],
    ['a token as the Host',   { _ => "<Location /x>\nQontoTokenHeader Host\n</Location>" }, 'QontoTokenHeader', qr/Host/i],
    ['a token as a length',   { _ => "<Location /x>\nQontoTokenHeader Content-Length\n</Location>" }, 'QontoTokenHeader', qr/Content-Length/i],
    ['a token as a cookie',   { _ => "<Location /x>\nQontoTokenHeader Cookie\n</Location>" }, 'QontoTokenHeader', qr/Cookie/i],

    # the store and the session
    ['unknown store',         { QontoSessionStore => 'memory' },                      'QontoSessionStore', qr/lmdb/],
    ['unknown provider',      { QontoSessionStore => 'nosuch:/tmp/x(512000)' },       'QontoSessionStore', qr/lmdb|nosuch/],
    ['shmcb with nonsense',   { QontoSessionStore => 'shmcb:@root@/cache(12)' },      'QontoSessionStore', qr/./],
    ['empty store',           { QontoSessionStore => '""' },                          'QontoSessionStore', qr/./],
    $with_redis ? ['Redis without a key', { QontoSessionStore => 'redis://redis.example.com' },   'QontoSessionKey', qr/openssl rand/] : (),
    (map { my ($what, $url, $contains) = @$_;
        ["Redis: $what", { QontoSessionStore => qq("$url"), QontoSessionKey => 'k' x 32 }, 'QontoSessionStore', $contains] }
        !$with_redis ? ['not built', 'redis://redis.example.com', qr/hiredis/] : (['one slash',         'redis:/redis.example.com',                   qr{redis://}],
        ['no host',           'redis://',                                   qr/host/],
        ['a bad port',        'redis://redis.example.com:99999',            qr/host and port/],
        ['no password',       'redis://user@redis.example.com',             qr/password/],
        ['a slash in the password', 'redis://user:top-secret/x@redis.example.com', qr/%2F/],
        ['no database',       'redis://redis.example.com/zero',             qr/database/],
        ['no time',           'redis://redis.example.com?timeout=soon',     qr/500ms/],
        ['an endless time',   'redis://redis.example.com?timeout=1h',       qr/10s/],
        ['no pool',           'redis://redis.example.com?pool=0',           qr/between 1 and 64/],
        ['a bad prefix',      'redis://redis.example.com?prefix=a*',        qr/prefix/],
        ['an unknown parameter', 'redis://redis.example.com?retry=1',       qr/retry.*timeout, pool, prefix/],
        ['a CA without TLS',  'redis://redis.example.com?ca=/ca.pem',       qr{rediss://}],
        ['a CA of nowhere',   'rediss://redis.example.com?ca=/nowhere/ca.pem', qr{/nowhere/ca\.pem}],
        ['no socket',         'redis+unix://redis.example.com',             qr/socket/],
        ['a file of nowhere', 'file:@root@/nostore',                        qr/nostore/])),
    ['Redis of httpd, not loaded', { QontoSessionStore => 'redis:127.0.0.1:6379' },   'QontoSessionStore', qr/mod_socache_/],
    ['a short key',           { QontoSessionKey => 'tooshort' },                      'QontoSessionKey', qr/32/],
    ['a key file of nowhere', { QontoSessionKey => 'file:@root@/nokey' },             'QontoSessionKey', qr/nokey/],
    ['no time',               { QontoSessionTimeout => 'long' },                      'QontoSessionTimeout', qr/8h|[0-9]+[smhd]/],
    ['zero',                  { QontoSessionTimeout => '0' },                         'QontoSessionTimeout', qr/./],
    ['negative',              { QontoSessionTimeout => '-5m' },                       'QontoSessionTimeout', qr/./],
    ['max over 90 days',      { QontoSessionTimeout => '8h 91d' },                    'QontoSessionTimeout', qr/90/],
    ['idle over max',         { QontoSessionTimeout => '2h 1h' },                     'QontoSessionTimeout', qr/./],
    ['overflow',              { QontoSessionTimeout => '8h 99999999999999999999d' },  'QontoSessionTimeout', qr/./],
    ['a unit too many',       { QontoSessionTimeout => '8hours' },                    'QontoSessionTimeout', qr/./],

    # renewal
    ['no time',               { QontoRefreshMargin => 'soon' },                       'QontoRefreshMargin', qr/60s|[0-9]+[smhd]/],
    ['negative',              { QontoRefreshMargin => '-5s' },                        'QontoRefreshMargin', qr/./],
    ['a unit too many',       { QontoRefreshMargin => '60secs' },                     'QontoRefreshMargin', qr/./],
    ['half an hour and more', { QontoRefreshMargin => '31m' },                        'QontoRefreshMargin', qr/30m.*60s/s],
    ['overflow',              { QontoRefreshMargin => '99999999999999999999' },       'QontoRefreshMargin', qr/./],
    ['two times',             { QontoRefreshMargin => '60s 90s' },                    'QontoRefreshMargin', qr/./],
    ['in a Location',         { _ => "<Location /x>\nQontoRefreshMargin 60s\n</Location>" }, 'QontoRefreshMargin', qr/./],

    # cookies
    ['unknown key',           { QontoCookie => 'domain=example.com' },                'QontoCookie', qr/name.*path.*samesite/s],
    ['no value',              { QontoCookie => 'name' },                              'QontoCookie', qr/name=/],
    ['an empty name',         { QontoCookie => 'name=' },                             'QontoCookie', qr/name/],
    ['a bad name',            { QontoCookie => '"name=a;b"' },                        'QontoCookie', qr/name/],
    ['a prefix in the name',  { QontoCookie => 'name=__Host-qonto' },                 'QontoCookie', qr/__Host-|prefix/],
    ['a bad path',            { QontoCookie => 'path=app' },                          'QontoCookie', qr/path/],
    ['an injected path',      { QontoCookie => '"path=/;Domain=evil.test"' },         'QontoCookie', qr/path/],
    ['unknown samesite',      { QontoCookie => 'samesite=Sometimes' },                'QontoCookie', qr/Lax/i],
    ['None without https',    { QontoCookie => 'samesite=None' },                     'QontoCookie', qr/https|Lax/i],
    ['Strict',                { QontoCookie => 'samesite=Strict' },                   'QontoCookie', qr/Lax/],

    # the way out
    ['no time',               { QontoTimeout => 'soon later' },                       'QontoTimeout', qr/./],
    ['one time',              { QontoTimeout => '3s' },                               'QontoTimeout', qr/./],
    ['connect over total',    { QontoTimeout => '20s 10s' },                          'QontoTimeout', qr/./],
    ['zero',                  { QontoTimeout => '0 0' },                              'QontoTimeout', qr/./],
    ['a CA file of nowhere',  { QontoCAFile => '@root@/noca.pem' },                   'QontoCAFile', qr/noca/],
    ['a proxy that is none',  { QontoProxyURL => 'proxy' },                           'QontoProxyURL', qr/http/],
    ['a proxy of another kind', { QontoProxyURL => 'ftp://proxy.test:3128' },         'QontoProxyURL', qr/http/],

    # places
    ['the client in a Location', { _ => "<Location /x>\nQontoClientId x\n</Location>" }, 'QontoClientId', qr/./],
    ['an unknown directive',     { QontoNothing => 'x' },                             'QontoNothing', qr/./],
);

for my $case (@mistakes) {
    my ($what, $change, $directive, $contains) = $case->@*;
    my ($status, $said) = $h->conf(Qonto::Httpd::sample(%$change))->check;
    my $shown = "$directive: $what";
    is $status, 1, "$shown fails" or diag $said;
    next if $status == 0;
    like $said, qr/\b\Q$directive\E\b/, "$shown - named" or next;
    my ($sentence) = $said =~ /((?:^.*\n)?^.*\b\Q$directive\E\b.*)$/m;
    like $said, $contains, "$shown - says what" or next;
    cmp_ok length($said), '<', 1200, '- in a few words';
    unlike $said, qr/top-secret/, '- and no password';
}

for my $margin (qw(60 60s 1s 30m)) {
    ($status, $said) = $h->conf(Qonto::Httpd::sample(QontoRefreshMargin => $margin))->check;
    is $status, 0, "QontoRefreshMargin $margin is right" or diag $said;
}

# Sandbox in full is right.
($status, $said) = $h->conf(Qonto::Httpd::sample(QontoSandbox => 'On', QontoStagingToken => 'staging-4711'))->check;
is $status, 0, 'the sandbox with its token' or diag $said;

# A URL is our Redis, a name and a colon are httpd's own provider; neither is asked anything yet.
for my $store ($with_redis ? ('redis://user:top-secret@redis.example.com/1', 'rediss://redis.example.com', 'redis+unix:///run/redis.sock') : ()) {
    ($status, $said) = $h->conf(Qonto::Httpd::sample(QontoSessionStore => $store, QontoSessionKey => 'k' x 32))->check;
    is $status, 0, "$store is right" or diag $said;
}
my $with_socache = Qonto::Httpd->new(modules => ['socache_redis']);
($status, $said) = $with_socache->conf(Qonto::Httpd::sample(QontoSessionStore => 'redis:127.0.0.1:6379'))->check;
is $status, 0, 'redis:host:port is the socache provider' or diag $said;

done_testing;
