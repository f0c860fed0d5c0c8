# What a CGI program finds in its environment: the QONTO_* variables and HTTP_X_QONTO_* of the
# module for those signed in, nothing forged for anybody, and no cookie of ours.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Forgery;

my $rig = rig(conf => sub ($rig) {
    my @all = map { (qq{ScriptAlias "/$_/" "\@root\@/cgi/"}) } qw(app open pass token granted);
    return qonto($rig->standin) . join("\n", @all, '')
        . protected('/app/',  'QontoPass user scope expires session logout env')
        . protected('/pass/', 'QontoUnauthenticated pass')
        . protected('/token/', 'QontoTokenHeader X-Api-Token', 'QontoPass none')
        . <<~'CONF';
        LimitRequestFields 300
        <Location "/granted/">
            AuthType Qonto
            Require all granted
        </Location>
        <Directory "@root@/cgi">
            Require all granted
            Options +ExecCGI
            CGIPassAuth On
        </Directory>
        CONF
});
conf_file($rig, 'cgi/env', <<'CGI', 0755);
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
env
CGI
$rig->start;

my $user = browser();
my $page = sign_in($user, $rig->url('/app/env'));
my $stranger = browser(jar => undef);

sub environment ($browser, $path, @headers) {
    my $answer = $browser->get($rig->url($path), @headers);
    is $answer->status, 200, "$path answers" or return {};
    return { map { /^([^=]+)=(.*)/s ? ($1 => $2) : () } split /\n/, $answer->body };
}

# --- signed in ---

my ($token) = grep {/^ory_at_/} $rig->standin->issued->{access_token}->@*;
my ($session) = map { $_->[1] } $user->cookies($rig->url('/'));
my $env = environment($user, '/app/env', Cookie => "theme=dark; qonto=$session; lang=fr");
is $env->{AUTH_TYPE}, 'Qonto', 'AUTH_TYPE';
ok length($env->{REMOTE_USER} // ''), 'REMOTE_USER';
is $env->{QONTO_USER}, $env->{REMOTE_USER}, 'QONTO_USER';
is $env->{QONTO_SCOPE}, 'offline_access organization.read', 'QONTO_SCOPE';
like $env->{QONTO_EXPIRES}, qr/^\d{10}$/, 'QONTO_EXPIRES';
cmp_ok abs($env->{QONTO_EXPIRES} - time - 3600), '<', slow(60), 'an hour from now';
ok length($env->{QONTO_SESSION} // ''), 'QONTO_SESSION';
is $env->{QONTO_ENV}, 'production', 'QONTO_ENV';
is $env->{"HTTP_X_QONTO_$_"}, $env->{"QONTO_$_"}, "HTTP_X_QONTO_$_" for qw(USER SCOPE EXPIRES SESSION ENV);
ok length($env->{HTTP_X_QONTO_LOGOUT} // ''), 'HTTP_X_QONTO_LOGOUT';
is $env->{HTTP_AUTHORIZATION}, "Bearer $token", 'HTTP_AUTHORIZATION, as CGIPassAuth is on';
is $env->{HTTP_COOKIE}, 'theme=dark; lang=fr', 'the other cookies';
unlike join("\n", map {"$_=$env->{$_}"} keys $env->%*), qr/\Q$session/, 'the session cookie is nowhere';
unlike join("\n", map {"$_=$env->{$_}"} grep { $_ ne 'HTTP_AUTHORIZATION' } keys $env->%*), qr/\Q$token/, 'nor the token elsewhere';

$env = environment($user, '/token/env');
is $env->{HTTP_X_API_TOKEN}, $token, 'QontoTokenHeader';
ok !exists $env->{HTTP_AUTHORIZATION}, 'instead of HTTP_AUTHORIZATION';
is_deeply [grep { /^(?:HTTP_X_)?QONTO_/ && $_ ne 'QONTO_SESSION' } sort keys $env->%*], [], 'QontoPass none';
ok length($env->{QONTO_SESSION} // ''), 'but the session\'s short hash, for logs';

# --- not signed in, or on a page that is open ---

for my $case ([$stranger, '/pass/env', 'stranger'], [$stranger, '/open/env', 'stranger'], [$stranger, '/granted/env', 'stranger'],
    [$user, '/open/env', 'signed in']) {
    my ($browser, $path, $who) = $case->@*;
    $env = environment($browser, $path);
    is_deeply [grep {/QONTO|^(?:REMOTE_USER|AUTH_TYPE|HTTP_AUTHORIZATION|HTTP_X_API)/} sort keys $env->%*], [], "$path, $who: nothing";
    ok !exists $env->{HTTP_COOKIE}, 'no cookie';
}

# --- forged ---

my @bundles = in_bundles(60, forgeries());
for my $case ([$stranger, '/open/env'], [$stranger, '/pass/env'], [$stranger, '/granted/env'], [$user, '/open/env'], [$user, '/app/env']) {
    my ($browser, $path) = $case->@*;
    for my $number (0 .. $#bundles) {
        $env = environment($browser, $path, map { $_->@* } $bundles[$number]->@*);
        is_deeply [grep { $env->{$_} =~ /@{[MARK]}/ } sort keys $env->%*], [], "$path, bundle $number: nothing forged";
        is_deeply [grep {/QONTO/} sort keys $env->%*], [], 'nor anything empty' if $path ne '/app/env';
    }
}

done_testing;
