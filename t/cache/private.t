# What a signed-in visitor is answered says "Cache-Control: private" or something stricter,
# whatever the backend said; what depends on being signed in says "no-store".

use v5.36;
use Qonto::Test;
use Qonto::Rig;

my %said = (
    nothing        => [],
    public         => ['Cache-Control' => 'public'],
    age            => ['Cache-Control' => 'max-age=600'],
    'public-age'   => ['Cache-Control' => 'public, max-age=600'],
    shared         => ['Cache-Control' => 's-maxage=600'],
    all            => ['Cache-Control' => 'public, max-age=600, s-maxage=900, immutable, stale-while-revalidate=60'],
    capitals       => ['Cache-Control' => 'PUBLIC, S-MaxAge=900'],
    spaces         => ['Cache-Control' => 'public , s-maxage = 900'],
    lines          => ['Cache-Control' => 'public', 'Cache-Control' => 's-maxage=900', 'cache-control' => 'max-age=5'],
    expires        => [Expires => 'Thu, 01 Jan 2099 00:00:00 GMT'],
    modified       => ['Last-Modified' => 'Thu, 01 Jan 2015 00:00:00 GMT', ETag => '"1"'],
    vary           => ['Cache-Control' => 'max-age=600', Vary => 'Cookie, Authorization'],
    field          => ['Cache-Control' => 'private="X-Foo", public, max-age=600'],
    'no-cache-field' => ['Cache-Control' => 'no-cache="Set-Cookie", public'],
    revalidate     => ['Cache-Control' => 'must-revalidate, max-age=0'],
    'no-cache'     => ['Cache-Control' => 'no-cache'],
    empty          => ['Cache-Control' => ''],
    private        => ['Cache-Control' => 'private'],
    'private-age'  => ['Cache-Control' => 'private, max-age=60'],
    'no-store'     => ['Cache-Control' => 'no-store'],
    strict         => ['Cache-Control' => 'no-cache, no-store, must-revalidate'],
);

my $rig = rig(
    backend => { answers => { map { my $name = $_;
        map { ("$_/$name" => { headers => $said{$name}, body => 'x' }) } qw(/app /pass /page /401 /open /granted) } keys %said } },
    # One location for each kind of answer to strangers.
    conf => sub ($rig) {
    return qonto($rig->standin) . join('', map { proxied($_, $rig->backend) } qw(/app/ /pass/ /page/ /401/ /open/ /granted/))
        . protected('/app/') . protected('/file/') . protected('/cgi/')
        . join('', map { protected("/$_/", "QontoUnauthenticated $_") } qw(pass page 401))
        . <<~'CONF';
        ScriptAlias "/cgi/" "@root@/cgi/"
        Alias "/ofile/" "@root@/htdocs/file/"
        <Directory "@root@/cgi">
            Require all granted
            Options +ExecCGI
        </Directory>
        <Location "/granted/">
            AuthType Qonto
            Require all granted
        </Location>
        <Location "/qonto/connect">
            SetHandler qonto-connect
        </Location>
        <Location "/qonto/logout">
            SetHandler qonto-logout
        </Location>
        CONF
    },
);
conf_file($rig, 'htdocs/file/x.txt', "static\n");
conf_file($rig, 'cgi/public', <<'CGI', 0755);
#!/bin/sh
printf 'Content-Type: text/plain\r\nCache-Control: public, max-age=60\r\n\r\nx'
CGI
$rig->start;

my $user = browser();
sign_in($user, $rig->url('/app/nothing'));
my $stranger = browser(jar => undef);

sub control ($answer) { return lc join ', ', $answer->headers('Cache-Control') }

# RFC 9111 5.2.2: private without field names, or no-store.
sub is_private ($answer, $name) {
    my $control = control($answer);
    my $bare = $control =~ s/="[^"]*"/=/gr;
    my %has  = map { s/\s*=.*//r => 1 } grep {length} split /\s*,\s*/, $bare;
    my $private = grep { /^(?:private|no-store)$/ } split /\s*,\s*/, $bare;
    ok $private && !$has{public} && !$has{'s-maxage'}, "$name: private" or diag "Cache-Control: $control";
    return;
}

sub is_stored_nowhere ($answer, $name) {
    like control($answer), qr/\bno-store\b/, "$name (" . $answer->status . '): no-store';
    unlike control($answer), qr/\bpublic\b|s-maxage/, 'nothing against it';
    return;
}

for my $name (sort keys %said) {
    for my $place (qw(app pass page 401 granted)) {
        is_private($user->get($rig->url("/$place/$name")), "$place, backend says $name");
    }
    is_private($user->head($rig->url("/app/$name")), "HEAD, backend says $name");
    is_private($user->post($rig->url("/app/$name")), "POST, backend says $name");
}
for my $name (qw(no-store strict)) {
    like control($user->get($rig->url("/app/$name"))), qr/no-store/, "$name stays";
}
like control($user->get($rig->url('/app/private-age'))), qr/max-age=60/, 'private stays as it is';
like control($user->get($rig->url('/app/revalidate'))), qr/must-revalidate/, 'what is stricter stays';

for my $status (200, 201, 204, 206, 301, 302, 304, 400, 401, 403, 404, 410, 416, 500, 502, 503) {
    my $answer = $user->get($rig->url("/app/x?say-status=$status&say-header=Cache-Control:public,max-age=9"));
    is_private($answer, "status $status of the backend");
}
is_private($user->get($rig->url('/file/x.txt')),  'a file');
is_private($user->get($rig->url('/file/none')),   'a file that is not there');
is_private($user->get($rig->url('/file/')),       'a folder that may not be listed');
is_private($user->get($rig->url('/cgi/public')),  'a program');
is_private($user->get($rig->url('/file/x.txt'), 'If-Modified-Since' => 'Thu, 01 Jan 2099 00:00:00 GMT'), 'not modified');
is_private($user->get($rig->url('/file/x.txt'), Range => 'bytes=0-1'), 'a part of a file');

# --- answers that depend on being signed in ---

is_stored_nowhere($stranger->get($rig->url("/$_/nothing")), "$_, a stranger") for qw(app page 401);
is_stored_nowhere($stranger->post($rig->url("/$_/nothing")), "$_, a stranger's POST") for qw(app page 401);
is_stored_nowhere($stranger->fetch($rig->url("/$_/nothing")), "$_, a stranger's script") for qw(app page 401);
for my $name (sort keys %said) {
    my $control = control($stranger->get($rig->url("/pass/$name")));
    my $bare = $control =~ s/="[^"]*"//gr;
    like $bare, qr/\b(?:private|no-store|no-cache)\b/, "pass, a stranger, backend says $name: not for others" or diag $control;
}

my $b = browser();
my $answer = $b->get($rig->url('/app/nothing'));
is_stored_nowhere($answer, 'start of a login');
my $callback = $b->follow_until($answer, qr{/qonto/callback});
is_stored_nowhere($b->get($callback), 'end of a login');
is_stored_nowhere($b->get($callback), 'the callback again');
is_stored_nowhere($stranger->get($callback), 'the callback in another browser');
is_stored_nowhere($stranger->get($rig->url('/qonto/callback')), 'the bare callback');
is_stored_nowhere($stranger->get($rig->url('/qonto/callback?error=access_denied&state=x')), 'a refusal');
is_stored_nowhere($stranger->get($rig->url('/qonto/connect?return=/app/nothing')), 'qonto-connect');
is_stored_nowhere($stranger->get($rig->url('/qonto/connect?return=//evil.test')), 'qonto-connect, refused');
is_stored_nowhere($b->get($rig->url('/qonto/logout')), 'qonto-logout asks');
is_stored_nowhere($b->post($rig->url('/qonto/logout')), 'qonto-logout');

# --- open pages are none of our business ---

for my $name (sort keys %said) {
    my $expected = lc join ', ', map { $said{$name}[$_ + 1] } grep { !($_ & 1) && lc $said{$name}[$_] eq 'cache-control' } 0 .. $said{$name}->$#*;
    for my $who ($stranger, $user) {
        is control($who->get($rig->url("/open/$name"))), $expected, "open, backend says $name: as it is";
    }
}
ok !defined $user->get($rig->url('/ofile/x.txt'))->header('Cache-Control'), 'an open file: as it is';

done_testing;
