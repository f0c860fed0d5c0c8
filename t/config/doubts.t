# What may be right, but probably is not, is a warning; httpd starts.
use v5.36;
use Qonto::Httpd;
use Qonto::Test;

my $h = Qonto::Httpd->new;
my @doubts = (
    ['no offline_access', { QontoScopes => 'organization.read' }, qr/QontoScopes.*offline_access/],
);
for my $case (@doubts) {
    my ($what, $change, $line) = $case->@*;
    my ($status, $said) = $h->conf(Qonto::Httpd::sample(%$change))->check;
    is $status, 0, "$what: no mistake" or diag $said;
    like $said, $line, "$what: a warning";
    is scalar(() = $said =~ /QO\d{4}/g), 1, '- said once' or diag $said;
}

# What is fine is silent.
my %fine = (
    'loopback by name'       => { QontoRedirectURI => 'http://localhost:@port@/cb' },
    'loopback of IPv6'       => { QontoRedirectURI => '"http://[::1]:@port@/cb"' },
    'a name below localhost' => { QontoRedirectURI => 'http://app.localhost:@port@/cb' },
    'https'                  => { QontoRedirectURI => 'https://app.example.com/cb' },
    'an endpoint on loopback' => { QontoEndpoint => 'token http://localhost:8080/token' },
    'all endpoints'          => { QontoEndpoint => [map {"$_ https://id.example.com/$_"} qw(authorize token revoke api)] },
    'socache'                => { QontoSessionStore => 'shmcb:@root@/cache(512000)' },
    'lmdb, default folder'   => { QontoSessionStore => 'lmdb' },
    'times'                  => { QontoSessionTimeout => '30m 90d', QontoTimeout => '500ms 5s' },
    'one time'               => { QontoSessionTimeout => '30m' },
    'cookie'                 => { QontoCookie => 'name=bank path=/ samesite=Lax' },
    'a proxy'                => { QontoProxyURL => 'http://proxy.test:3128' },
    'two keys'               => { QontoSessionKey => 'a' x 32 . ' ' . 'b' x 32 },
    'extra parameters'       => { QontoAuthorizeParam => ['organization_id abc', 'registration_id "%{REMOTE_ADDR}"', 'prompt login'] },
    'a location'             => { _ => qq{<Location "/x">\nAuthType Qonto\nRequire valid-user\nQontoScopes card.read\n}
            . qq{QontoUnauthenticated page\nQontoTokenHeader none\nQontoPass user env\nQontoAuthorizeParam prompt none\n</Location>} },
    'no client at all'       => { map { $_ => undef } qw(QontoClientId QontoClientSecret QontoRedirectURI QontoSessionStore) },
);
for my $what (sort keys %fine) {
    my ($status, $said) = $h->conf(Qonto::Httpd::sample($fine{$what}->%*))->check;
    is $status, 0, "$what: right" or diag $said;
    unlike $said, qr/QO\d{4}|warn/, '- and silent' or diag $said;
}

# Httpd without our module's settings starts and serves.
$h->conf('');
$h->start;
like browser()->get($h->url('/'))->status, qr/^(?:200|40[34])$/, 'loaded and unused';
unlike $h->error_log, qr/QO\d{4}|qonto_oauth:(?:error|crit|warn)/, '- without a word';

done_testing;
