# Names that others use too: Authorization belongs to the module only where AuthType Qonto stands,
# X-Qonto-Signature is Qonto's own, and a QontoTokenHeader of one's choice is ours everywhere.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Forgery;

my $rig = rig(conf => sub ($rig) {
    my $backend = $rig->backend;
    return qonto($rig->standin)
        . join('', map { proxied($_, $backend) } qw(/open/ /app/ /pass/ /granted/ /basic/ /custom/ /proxyauth/))
        . protected('/app/') . protected('/pass/', 'QontoUnauthenticated pass')
        . protected('/custom/',    'QontoTokenHeader X-Api-Token')
        . protected('/proxyauth/', 'QontoTokenHeader X-Upstream-Auth Token')
        . <<~'CONF';
        <Location "/granted/">
            AuthType Qonto
            Require all granted
        </Location>
        <Location "/basic/">
            AuthType Basic
            AuthName "old part"
            AuthBasicProvider file
            AuthUserFile @root@/users
            Require valid-user
        </Location>
        CONF
});
conf_file($rig, 'users', "ada:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\n");    # admin
$rig->start;

my $backend = $rig->backend;
my $nobody  = browser(jar => undef);
my $user    = browser();
sign_in($user, $rig->url('/app/first'));
my $token = token_of($backend);

sub seen ($browser, $path, @headers) {
    $backend->clear;
    my $answer = $browser->get($rig->url($path), @headers);
    return $answer->status, $backend->last;
}

sub values_of ($request, $name) {
    return [map { $_->[1] } grep { fold($_->[0]) eq fold($name) } $request ? $request->{headers}->@* : ()];
}

# --- Authorization ---

my $basic = 'Basic YWRhOmFkbWlu';
for my $who ([a => 'stranger', $nobody], [a => 'signed-in visitor', $user]) {
    my (undef, $name, $browser) = $who->@*;
    my ($status, $met) = seen($browser, '/basic/x', Authorization => $basic);
    is $status, 200, "Basic authentication elsewhere works for a $name";
    is_deeply values_of($met, 'Authorization'), [$basic], 'and the backend sees it';
    ($status, $met) = seen($browser, '/open/x', authorization => 'Bearer own-token-of-an-api-client');
    is_deeply values_of($met, 'Authorization'), ['Bearer own-token-of-an-api-client'], "an open page's $name keeps their own";
    ($status) = seen($browser, '/basic/x');
    is $status, 401, "Basic authentication still asks a $name";
}

my @spellings = qw(Authorization authorization AUTHORIZATION aUTHORIZATION);
for my $name (@spellings) {
    for my $value ('Bearer ' . MARK, $basic, MARK, '') {
        my (undef, $met) = seen($user, '/app/x', $name => $value);
        is_deeply values_of($met, $name), ["Bearer $token"], "behind a sign-in: $name: $value";
        for my $path (qw(/pass/x /granted/x)) {
            (undef, $met) = seen($nobody, $path, $name => $value);
            ok $met && !values_of($met, $name)->@*, "$path, a stranger: $name: $value";
            (undef, $met) = seen($user, $path, $name => $value);
            is_deeply values_of($met, $name), ["Bearer $token"], "$path, signed in: $name: $value";
        }
    }
}
my (undef, $met) = seen($user, '/app/x', Authorization => 'Bearer ' . MARK, authorization => $basic, Authorization => MARK);
is_deeply values_of($met, 'Authorization'), ["Bearer $token"], 'three lines of it';
(undef, $met) = seen($nobody, '/pass/x', Authorization => 'Bearer ' . MARK, authorization => $basic);
is_deeply values_of($met, 'Authorization'), [], 'two lines of it, a stranger';

my ($status) = seen($nobody, '/app/x', Authorization => "Bearer $token");
isnt $status, 200, 'an access token is no way in';
($status) = seen($nobody, '/app/x', Authorization => $basic);
isnt $status, 200, 'nor is a password';

# --- a header of one's own ---

(undef, $met) = seen($user, '/custom/x', 'X_Api.Token' => MARK, 'x-api-token' => MARK);
is_deeply values_of($met, 'X-Api-Token'), [$token], 'QontoTokenHeader: only ours';
ok !grep({ $_->[1] eq "Bearer $token" } $met->{headers}->@*), 'and nowhere else';
(undef, $met) = seen($user, '/proxyauth/x', 'X-Upstream-Auth' => MARK);
is_deeply values_of($met, 'X-Upstream-Auth'), ["Token $token"], 'with a scheme';
for my $path (qw(/open/x /app/x /pass/x /custom/x)) {
    for my $name (qw(X-Upstream-Auth x_upstream_auth X.UPSTREAM.AUTH)) {
        (undef, $met) = seen($user, $path, $name => MARK);
        is_deeply values_of($met, 'X-Upstream-Auth'), [], "$path: $name is ours everywhere";
    }
}

# --- Qonto's own signature of a webhook ---

my $signature = 't=1700000000,v1=0123456789abcdef';
for my $path (qw(/open/hook /pass/hook /granted/hook /app/hook)) {
    for my $name (qw(X-Qonto-Signature x-qonto-signature X-QONTO-SIGNATURE)) {
        (undef, $met) = seen($path =~ /app/ ? $user : $nobody, $path, $name => $signature);
        is_deeply values_of($met, 'X-Qonto-Signature'), [$signature], "$path: $name passes";
    }
}
(undef, $met) = seen($nobody, '/open/hook', 'X-Qonto-Signature' => $signature, Connection => 'close, X-Qonto-User');
is_deeply values_of($met, 'X-Qonto-Signature'), [$signature], 'beside a Connection header';
for my $name (qw(X_Qonto_Signature X.Qonto.Signature x-qonto_signature X-Qonto-Signature-User X-Qonto-Signatur)) {
    (undef, $met) = seen($nobody, '/open/hook', 'X-Qonto-Signature' => $signature, $name => MARK);
    is_deeply [intruders($met, { 'X-Qonto-Signature' => qr/^\Q$signature\E$/ })], [], "$name is not that name";
}

done_testing;
