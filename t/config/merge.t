# Virtual hosts take what the server says and change what they say themselves.
use v5.36;
use Qonto::Httpd;
use Qonto::Test;

my $q = Qonto::StandIn->start(clients => {
    'client-a' => { secret => 'secret-a' }, 'client-b' => { secret => 'secret-b', next_secret => 'secret-c' },
});
my $be = backend();
my $h  = Qonto::Httpd->new;
my $shared = <<~"CONF";
    QontoSessionStore lmdb:\@root\@/store
    QontoScopes offline_access organization.read
    QontoCookie name=shared
    QontoAuthorizeParam prompt login
    QontoEndpoint authorize @{[$q->url]}/oauth2/auth
    QontoEndpoint token     @{[$q->url]}/oauth2/token
    CONF
my $app = <<~"CONF";
    <Location "/app">
        AuthType Qonto
        Require valid-user
        ProxyPass @{[$be->url]}/app retry=0
    </Location>
    CONF
my $vhost = sub ($name, $more) { <<~"CONF" };
    Listen 127.0.0.1:\@${name}_port\@
    <VirtualHost 127.0.0.1:\@${name}_port\@>
        QontoRedirectURI http://127.0.0.1:\@${name}_port\@/cb
        $more
        $app
    </VirtualHost>
    CONF

# Each virtual host with a client of its own; the main server has none and needs none.
$h->conf($shared . $vhost->(a => "QontoClientId client-a\nQontoClientSecret secret-a")
        . $vhost->(b => "QontoClientId client-b\nQontoClientSecret wrong secret-b\nQontoScopes offline_access card.read\n"
            . "QontoCookie samesite=Lax\nQontoPKCE Off\nQontoAuthorizeParam prompt consent")
        . $vhost->(plain => 'RewriteEngine Off') =~ s/^\s*QontoRedirectURI.*\n//mr)->start;
my %asked;
for my $name (qw(a b)) {
    my $b    = browser();
    my $url  = 'http://127.0.0.1:' . $h->port("${name}_port") . '/app/x';
    $asked{$name} = query_of($b->get($url)->header('Location'));
    my $page = sign_in($b, $url);
    is $asked{$name}{client_id}, "client-$name", "$name: its own client";
    is $q->last('exchange')->{params}{client_secret}, "secret-$name", "$name: its own secret";
    is_deeply [map { $_->[0] } $b->cookies($url)], ['shared'], "$name: the shared cookie name";
}
is $asked{a}{scope}, 'offline_access organization.read', 'shared scopes';
is $asked{a}{prompt}, 'login', 'shared parameter';
is $asked{b}{prompt}, 'consent', 'a parameter of its own wins';
is $asked{b}{scope}, 'offline_access card.read', 'scopes of a virtual host take the place of the shared ones';
ok $asked{a}{code_challenge}, 'PKCE on';
ok !$asked{b}{code_challenge}, 'PKCE off where it says so';

# A virtual host without a client: AuthType Qonto there is a mistake of the configuration, never an open door.
$h->clear_log;
my $answer = browser()->get('http://127.0.0.1:' . $h->port('plain_port') . '/app/x');
is $answer->status, 500, 'AuthType Qonto without a client is no open door';
like $h->error_log, qr/QO0002/, '- the log says so';
like $h->error_log, qr/QontoClientId/, '- and what to write';
is $be->count, 2, 'the backend saw the two who signed in';
$h->stop;

# One client for all virtual hosts, written once; each has its own redirect URI.
my ($status, $said) = $h->conf("QontoClientId client-a\nQontoClientSecret secret-a\n" . $shared
        . $vhost->(a => '') . $vhost->(b => ''))->check;
is $status, 0, 'client and secret shared by virtual hosts' or diag $said;

# Mistakes in a virtual host are told with their place.
($status, $said) = $h->conf($shared . $vhost->(a => "QontoClientId client-a\nQontoClientSecret secret-a")
        . $vhost->(b => 'QontoClientId client-b'))->check;
is $status, 1, 'a virtual host without a secret';
like $said, qr/QontoClientSecret/, '- named';
like $said, qr/line \d+|:\d+/, '- and where';

# Half a sandbox by merging.
($status, $said) = $h->conf("QontoStagingToken shared-staging\n" . $shared
        . $vhost->(a => "QontoClientId client-a\nQontoClientSecret secret-a\nQontoSandbox On"))->check;
is $status, 0, 'a staging token for all, a sandbox in one virtual host' or diag $said;
($status, $said) = $h->conf("QontoSandbox On\nQontoStagingToken shared-staging\n" . $shared
        . $vhost->(a => "QontoClientId client-a\nQontoClientSecret secret-a\nQontoSandbox Off"))->check;
is $status, 1, 'production in a virtual host with the staging token of the server';
like $said, qr/QontoStagingToken/, '- named';

# Two virtual hosts with one redirect URI each of another host, on one port: names decide.
($status, $said) = $h->conf($shared . <<~"CONF")->check;
    <VirtualHost *:\@port\@>
        ServerName a.test
        QontoClientId client-a
        QontoClientSecret secret-a
        QontoRedirectURI https://a.test/cb
    </VirtualHost>
    <VirtualHost *:\@port\@>
        ServerName b.test
        QontoClientId client-b
        QontoClientSecret secret-b
        QontoRedirectURI https://b.test/cb
    </VirtualHost>
    CONF
is $status, 0, 'two names on one port' or diag $said;

done_testing;
