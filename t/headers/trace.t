# TRACE repeats a request to whoever sent it: neither the token that the module adds nor the
# session cookie (which scripts must not see) may come back that way, not even from a backend.

use v5.36;
use Qonto::Test;
use Qonto::Rig;

my $rig = rig(conf => sub ($rig) {
    my $backend = $rig->backend;
    my $vhost = sub ($how) {
        return "TraceEnable $how\n" . join('', map { proxied($_, $backend) } qw(/open/ /app/ /pass/))
            . protected('/app/') . protected('/file/', 'QontoPass user scope expires session logout env')
            . protected('/pass/', 'QontoUnauthenticated pass');
    };
    return "Listen 127.0.0.1:\@extended_port\@\n" . qonto($rig->standin) . $vhost->('On')
        . qq{<VirtualHost 127.0.0.1:\@extended_port\@>\n}
        . qonto($rig->standin, QontoRedirectURI => 'http://127.0.0.1:@extended_port@/qonto/callback')
        . $vhost->('extended') . "</VirtualHost>\n";
});
conf_file($rig, 'htdocs/file/x', "static\n");
conf_file($rig, 'htdocs/x',      "static\n");
$rig->start;

for my $port (qw(port extended_port)) {
    my $user = browser();
    sign_in($user, $rig->url('/app/first', $port));
    my $token = token_of($rig->backend);
    my ($session) = map { $_->[1] } $user->cookies($rig->url('/', $port));
    ok length $token && length $session, "$port: there is something to leak";
    my $control = $user->request(TRACE => $rig->url('/x', $port), ['X-Mine' => 'comes-back']);
    like $control->body, qr/comes-back/, 'TRACE works';
    for my $path ('/x', '/file/x', '/open/x', '/app/x', '/pass/x', '/qonto/callback', '/qonto/callback?state=a&code=b', '/none') {
        for my $more ([], ['Max-Forwards' => 0], ['Max-Forwards' => 1]) {
            my $answer = $user->request(TRACE => $rig->url($path, $port), $more);
            my $all = $answer->head . $answer->body;
            unlike $all, qr/\Q$session/, "$port TRACE $path @$more: no session cookie (" . $answer->status . ')';
            unlike $all, qr/\Q$token/, "$port TRACE $path @$more: no token";
        }
    }
}

done_testing;
