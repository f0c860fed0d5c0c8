# The same promises over HTTP/2, where names are lower case, cookies come in crumbs, and there is
# no Connection header.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Forgery;
use Qonto::H2;

# mod_http2 does not work in prefork.
plan skip_all => 'prefork knows no HTTP/2' if ($ENV{QO_MPM} // '') eq 'prefork';

my $rig = rig(conf => sub ($rig) {
    my $backend = $rig->backend;
    return "Protocols h2c http/1.1\nLimitRequestFields 300\nH2Upgrade off\n" . qonto($rig->standin)
        . join('', map { proxied($_, $backend) } qw(/open/ /app/ /pass/ /granted/ /custom/))
        . protected('/app/') . protected('/pass/', 'QontoUnauthenticated pass')
        . protected('/custom/', 'QontoTokenHeader X-Api-Token')
        . <<~'CONF';
        ErrorDocument 400 /open/error
        ErrorDocument 401 /open/error
        ErrorDocument 404 /open/error
        <Location "/granted/">
            AuthType Qonto
            Require all granted
        </Location>
        CONF
})->start;

my $backend = $rig->backend;
my $user    = browser();
sign_in($user, $rig->url('/app/first'));
my $token = token_of($backend);
my ($session) = $user->cookies($rig->url('/app/'));
my @cookie = (cookie => join '=', $session->@*);

sub ask ($path, @fields) {
    return Qonto::H2->connect($rig->httpd->port)->request(GET => $path, [accept => 'text/html', @fields]);
}

my %id  = map { ($_ => qr/./) } qw(X-Qonto-User X-Qonto-Scope X-Qonto-Expires);
my %app = (%id, Authorization => qr/^Bearer \Q$token\E$/);

# Names in lower case, each kind of line once; without what only HTTP/1.1 can say.
my %seen;
my @all = grep { !$seen{ join '|', map { $_->@* } $_->@* }++ }
    map { [map { [lc $_->[0], $_->[1] =~ s/^\s+|\s+$//gr] } $_->@*] } forgeries();
my @bundles = in_bundles(40, @all);
my $fast    = ($ENV{QO_SLOW} || 1) == 1;

sub clean ($name, $path, $true, $cookies, @sets) {
    $backend->clear;
    my %status;
    for my $lines (@sets) { $status{ ask($path, $cookies->@*, map { $_->@* } $lines->@*)->{status} }++ }
    my @met = $backend->requests;
    is scalar @met, scalar @sets, "$name: all arrive";
    is_deeply [map { intruders($_, $true) } @met], [], "$name: none as forged" or diag explain \%status;
    is_deeply [grep { $_->{head} =~ /\Q$session->[1]/ } @met], [], "$name: no session cookie";
    return;
}

cmp_ok scalar @all, '>=', 100, 'enough variants';
clean 'open page', '/open/x', {}, [], $fast ? @all : @bundles;
clean 'signed in', '/app/x', \%app, \@cookie, $fast ? @all : @bundles;
clean 'open page, signed in',    '/open/x',    {},    \@cookie, @bundles;
clean 'pass, a stranger',        '/pass/x',    {},    [],       @bundles;
clean 'pass, signed in',         '/pass/x',    \%app, \@cookie, @bundles;
clean 'all granted, a stranger', '/granted/x', {},    [],       @bundles;
clean 'another token header', '/custom/x', { %id, 'X-Api-Token' => qr/^\Q$token\E$/ }, \@cookie, @bundles;
clean 'callback',        '/qonto/callback?code=a&state=b', {}, [], @bundles;
clean 'missing page',    '/nothing',                       {}, \@cookie, @bundles;
clean 'Authorization', '/app/x', \%app, \@cookie, map { [[authorization => $_]] } 'Bearer ' . MARK, MARK, '';
clean 'a stranger\'s Authorization', '/pass/x', {}, [], [[authorization => 'Bearer ' . MARK]];

# --- what names and trailers may try ---

$backend->clear;
for my $name ('X-Qonto-User', 'connection', 'proxy-connection', 'te', 'x-qonto-user ', ' x-qonto-user', "x-qonto-user\0", 'x qonto user') {
    ask('/open/x', $name => $name =~ /conn|te/ ? 'x-qonto-user, authorization' : MARK);
    ask('/app/x', @cookie, $name => 'x-qonto-user, authorization, x-qonto-scope');
}
is_deeply [map { intruders($_) } grep { $_->{path} eq '/open/x' } $backend->requests], [], 'odd names: nothing forged';
is_deeply [map { intruders($_, \%app) } grep { $_->{path} eq '/app/x' } $backend->requests], [], 'nothing taken away';

$backend->clear;
for my $path (qw(/open/x /app/x /pass/x)) {
    Qonto::H2->connect($rig->httpd->port)->request(POST => $path, [@cookie, 'content-type' => 'text/plain'],
        body => 'text', trailers => ['x-qonto-user' => MARK, x_qonto_scope => MARK, authorization => MARK]);
}
is $backend->count, 3, 'requests with trailers arrive';
is_deeply [grep { $_->{head} =~ /@{[MARK]}/ } $backend->requests], [], 'trailers bring nothing';

# --- cookies in crumbs ---

$backend->clear;
my $answer = ask('/app/x', cookie => 'a=1', @cookie, cookie => 'b=2', cookie => "qonto-AbCdEf=" . 'x' x 22);
is $answer->{status}, 200, 'a session cookie among crumbs opens';
my $left = join '; ', $backend->got(qr/^cookie$/i);
is_deeply [sort split /;\s*/, $left], [qw(a=1 b=2)], 'only the other cookies arrive';

my $second = browser();
sign_in($second, $rig->url('/app/first'));
my ($other) = $second->cookies($rig->url('/app/'));
$backend->clear;
$answer = ask('/app/x', @cookie, cookie => join '=', $other->@*);
is $answer->{status}, 302, 'two sessions in two crumbs open nothing';
is $backend->count, 0, 'and nothing arrives';

# Several streams of one connection keep apart who is who.
$backend->clear;
my $h2 = Qonto::H2->connect($rig->httpd->port);
$h2->request(GET => '/pass/1', [@cookie]);
$h2->request(GET => '/pass/2', ['x-qonto-user' => MARK]);
$h2->request(GET => '/open/3', []);
$h2->request(GET => '/pass/4', [@cookie]);
my %met = map { $_->{path} => $_ } $backend->requests;
is_deeply [map { intruders($met{$_}, \%app) } '/pass/1', '/pass/4'], [], 'one connection: signed-in streams';
is_deeply [map { intruders($met{$_}) } '/pass/2', '/open/3'], [], 'and others';

done_testing;
