# Forged header lines never reach the backend: two hundred of them one by one on an open page,
# before a sign-in and behind one; in bundles everywhere else, with every method.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Forgery;

my @places = qw(/open/ /app/ /pass/ /granted/ /either/ /if/ /full/ /custom/ /ws/);
my $rig = rig(conf => sub ($rig) {
    my $backend = $rig->backend;
    my $ws      = $backend->url =~ s/^http/ws/r;
    return qonto($rig->standin)
        . join('', map { proxied($_, $backend) } grep { $_ ne '/ws/' } @places)
        . qq{ProxyPass "/ws/" "$ws/ws/"\n}
        . protected('/app/') . protected('/ws/') . protected('/full/', 'QontoPass user scope expires session logout env')
        . protected('/custom/', 'QontoTokenHeader X-Api-Token')
        . protected('/pass/',   'QontoUnauthenticated pass')
        . <<~"CONF"
        LimitRequestFields 300
        LimitRequestFieldSize 16384
        <Location "/granted/">
            AuthType Qonto
            Require all granted
        </Location>
        <Location "/either/">
            AuthType Qonto
            <RequireAny>
                Require ip 127.0.0.1
                Require valid-user
            </RequireAny>
        </Location>
        <If "%{REQUEST_URI} =~ m#^/if/#">
            AuthType Qonto
            Require valid-user
        </If>
        <Location "/qonto/connect">
            SetHandler qonto-connect
        </Location>
        <Location "/qonto/logout">
            SetHandler qonto-logout
        </Location>
        ErrorDocument 400 /open/error
        ErrorDocument 401 /open/error
        ErrorDocument 403 /open/error
        ErrorDocument 405 /open/error
        CONF
})->start;

my $backend = $rig->backend;
my $user    = browser();
sign_in($user, $rig->url('/app/first'));
my $session = $user->jar;
my $nobody  = browser(jar => undef);
my $fast    = ($ENV{QO_SLOW} || 1) == 1;
my @all     = forgeries();
cmp_ok scalar @all, '>=', 100, 'enough variants';

my %id     = ('X-Qonto-User' => qr/^[0-9A-Za-z_-]{4,64}$/, 'X-Qonto-Scope' => qr/^offline_access organization\.read$/,
    'X-Qonto-Expires' => qr/^\d{10}$/);
my %bearer = (Authorization => qr/^Bearer ory_at_\S+$/);

# Sends every bundle, and tells what came through that should not have.
sub came_through ($browser, $method, $path, $true, @bundles) {
    $backend->clear;
    my @flying;
    my @status;
    for my $bundle (@bundles) {
        my @lines = map { $_->@* } $bundle->@*;
        push @flying, $browser->begin($method, $rig->url($path), \@lines);
        push @status, $browser->finish(shift @flying)->status if @flying >= 8;
    }
    push @status, map { $browser->finish($_)->status } @flying;
    my @met = $backend->requests;
    return \@met, [map { my $request = $_; map {"$request->{path}: $_"} intruders($request, $true) } @met], \@status;
}

sub clean ($name, $browser, $method, $path, $true, @bundles) {
    my ($met, $bad) = came_through($browser, $method, $path, $true, @bundles);
    is scalar $met->@*, scalar @bundles, "$name: they arrive";
    is_deeply $bad, [], "$name: none as forged" or diag scalar $bad->@*, ' in all';
    return;
}

sub reader ($jar) { return browser(jar => $jar) }

my @one_by_one = $fast ? @all : in_bundles(10, @all);
my @bundles    = in_bundles(40, map { $_->@* == 1 || !$fast ? $_ : () } @all);

# The same lines straight to the backend: this test would notice.
$backend->clear;
$nobody->request(GET => $backend->url . '/straight', [map { $_->@* } $_->@*]) for @bundles;
my $noticed = grep { intruders($_) } $backend->requests;
is $noticed, scalar @bundles, 'without httpd every bundle is noticed';

clean 'open page', $nobody, GET => '/open/x', {}, @one_by_one;
clean 'signed in', reader($session), GET => '/app/x', { %id, %bearer }, @one_by_one;
clean 'pass, a stranger', $nobody, GET => '/pass/x', {}, @one_by_one;

clean 'open page, signed in', reader($session), GET => '/open/x', {}, @bundles;
clean 'pass, signed in',      reader($session), GET => '/pass/x', { %id, %bearer }, @bundles;
clean 'all granted, a stranger', $nobody,          GET => '/granted/x', {}, @bundles;
clean 'all granted, signed in',  reader($session), GET => '/granted/x', { %id, %bearer }, @bundles;
clean 'either, a stranger', $nobody,          GET => '/either/x', {}, @bundles;
clean '<If>, signed in',    reader($session), GET => '/if/x', { %id, %bearer }, @bundles;
clean 'all of QontoPass', reader($session), GET => '/full/x',
    { %id, %bearer, 'X-Qonto-Session' => qr/./, 'X-Qonto-Logout' => qr/./, 'X-Qonto-Env' => qr/^production$/ }, @bundles;
clean 'another token header', reader($session), GET => '/custom/x', { %id, 'X-Api-Token' => qr/^ory_at_\S+$/ }, @bundles;
clean $_, reader($session), $_ => '/app/x', { %id, %bearer }, @bundles for qw(HEAD OPTIONS POST PUT DELETE PATCH PROPFIND);
clean "$_, open", $nobody, $_ => '/open/x', {}, $bundles[0] for qw(HEAD OPTIONS POST);

my @upgrade = map { [$_->@*, [Connection => 'Upgrade'], [Upgrade => 'websocket'], ['Sec-WebSocket-Version' => 13],
        ['Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ==']] } @bundles;
clean 'WebSocket', reader($session), GET => '/ws/x', { %id, %bearer }, @upgrade;

# These end in an error document that the backend writes.
for my $path ('/app/x', '/qonto/callback', '/qonto/callback?code=a&state=b', '/qonto/callback?error=c&state=b',
    '/qonto/connect?return=//evil.test/', '/qonto/logout?token=wrong&return=//evil.test/') {
    my ($met, $bad, $status) = came_through($nobody, POST => $path, {}, @bundles);
    is_deeply $bad, [], "a stranger's POST $path: none arrives (@$status)";
    ($met, $bad, $status) = came_through($nobody, GET => $path, {}, @bundles);
    is_deeply $bad, [], "a stranger's GET $path: none arrives (@$status)";
}
my ($met) = came_through($nobody, GET => '/qonto/callback', {}, $bundles[0]);
is scalar $met->@*, 1, 'the error document really is the backend\'s';

# Those that httpd itself answers start a login or a question, and tell the backend nothing.
($met) = came_through($nobody, GET => $_, {}, @bundles) for '/app/x', '/if/x', '/qonto/connect?return=/x';
is scalar $met->@*, 0, 'a stranger never reaches the backend';

done_testing;
