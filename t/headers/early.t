# Modules that look at request headers before any location is known (SetEnvIf, RequestHeader early,
# RewriteRule in the server's context, <If>) see nothing forged either, and no session cookie.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Forgery;

my $rig = rig(conf => sub ($rig) {
    my $backend = $rig->backend;
    return qonto($rig->standin) . join('', map { proxied($_, $backend) } qw(/open/ /app/ /pass/))
        . protected('/app/') . protected('/pass/', 'QontoUnauthenticated pass') . <<~'CONF';
        SetEnvIf X-Qonto-User "(.+)" by_setenvif=$1
        SetEnvIf ^X.Qonto "(.+)" by_pattern=$1
        SetEnvIf Cookie "(qonto=.+)" by_cookie=$1
        SetEnvIfExpr "req('X-Qonto-Scope') =~ /(.+)/" by_expr=$1
        RequestHeader set X-By-Copy "expr=%{req:X-Qonto-User}" early
        RequestHeader set X-By-Cookie "expr=%{req:Cookie}" early
        RewriteEngine On
        RewriteCond %{HTTP:X-Qonto-User} (.+)
        RewriteRule ^ - [E=by_rewrite:%1]
        RewriteCond %{HTTP:Cookie} (qonto=.+)
        RewriteRule ^ - [E=by_rewrite_cookie:%1]
        <If "-n req('X-Qonto-User')">
            RequestHeader set X-By-If "yes"
        </If>
        RequestHeader set X-Setenvif "%{by_setenvif}e" env=by_setenvif
        RequestHeader set X-Pattern  "%{by_pattern}e"  env=by_pattern
        RequestHeader set X-By-Env-Cookie "%{by_cookie}e" env=by_cookie
        RequestHeader set X-By-Expr  "%{by_expr}e"     env=by_expr
        RequestHeader set X-Rewrite  "%{by_rewrite}e"  env=by_rewrite
        RequestHeader set X-Rewrite-Cookie "%{by_rewrite_cookie}e" env=by_rewrite_cookie
        CONF
})->start;

my $backend = $rig->backend;
my $user    = browser();
sign_in($user, $rig->url('/app/first'));
my ($session) = map { $_->[1] } $user->cookies($rig->url('/app/'));
my $stranger = browser(jar => undef);

my @forged = map { ($_ => MARK) } qw(X-Qonto-User x_qonto_user X-Qonto-Scope X.Qonto.Scope);
for my $case ([$stranger, '/open/x'], [$stranger, '/pass/x'], [$user, '/open/x'], [$user, '/pass/x'], [$user, '/app/x']) {
    my ($browser, $path) = $case->@*;
    my $who = $browser == $user ? 'signed in' : 'a stranger';
    $backend->clear;
    is $browser->get($rig->url($path), @forged)->status, 200, "$path, $who";
    my $head = $backend->last->{head};
    is_deeply [$head =~ /^(.*@{[MARK]}.*)$/mg], [], 'nothing forged on a detour';
    is_deeply [$head =~ /^(X-By-If.*)$/mg], [], 'nothing decided by it' if $path !~ /app/ && $browser == $stranger;
    ok index($head, $session) < 0, 'nor the session cookie' or diag grep {/\Q$session/} split /^/, $head;
}

# The same directives do see what is the visitor's own.
$backend->clear;
$stranger->get($rig->url('/open/x'), Cookie => 'a=1');
is_deeply [$backend->got('X-By-Cookie')], ['a=1'], 'other cookies are seen';

done_testing;
