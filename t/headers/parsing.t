# Bytes that servers read in different ways: folded lines, names that end in a space, trailers of
# a chunked body, doubled lengths. Whatever httpd makes of them, nothing forged comes through.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Forgery;

my $rig = rig(conf => sub ($rig) {
    my $backend = $rig->backend;
    my $vhost = sub ($port) {
        return qonto($rig->standin, QontoRedirectURI => "http://127.0.0.1:\@$port\@/qonto/callback")
            . join('', map { proxied($_, $backend) } qw(/open/ /app/ /pass/))
            . protected('/app/') . protected('/pass/', 'QontoUnauthenticated pass') . protected('/cgi/', 'QontoUnauthenticated pass')
            . qq{ScriptAlias "/cgi/" "\@root\@/cgi/"\nScriptAlias "/ocgi/" "\@root\@/cgi/"\n};
    };
    return qq{<Directory "\@root\@/cgi">\nRequire all granted\nOptions +ExecCGI\n</Directory>\n} . $vhost->('port')
        . join('', map {
            "Listen 127.0.0.1:\@${_}_port\@\n<VirtualHost 127.0.0.1:\@${_}_port\@>\n"
            . ($_ eq 'unsafe' ? 'HttpProtocolOptions Unsafe' : 'MergeTrailers On') . "\n"
            . $vhost->("${_}_port") . "</VirtualHost>\n"
        } qw(unsafe merge));
});
conf_file($rig, 'cgi/env', <<'CGI', 0755);
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
cat
env
CGI
$rig->start;

my $backend = $rig->backend;
my $by_hand = browser(jar => undef, timeout => 10);

my $mark = MARK;
my @heads = (
    "X-Qonto-User:\r\n $mark\r\n",
    "X-Qonto-User: $mark\r\n\t$mark\r\n",
    "X-Harmless: a\r\n X-Qonto-User: b\r\n",
    "X-Harmless: a\r\n\tX-Qonto-User: b\r\n",
    "X-Harmless: a\r\n \r\nX-Qonto-User: $mark\r\n",
    "X-Qonto-User : $mark\r\n",
    "X-Qonto-User\t: $mark\r\n",
    " X-Qonto-User: $mark\r\n",
    "\tX_Qonto_User: $mark\r\n",
    "X Qonto User: $mark\r\n",
    "X-Qonto User: $mark\r\n",
    "x-qonto-user:$mark\n",
    "X-Harmless: a\rX-Qonto-User: $mark\r\n",
    "X-Harmless: a\nX-Qonto-User: $mark\r\n",
    "X-Harmless: a\0\r\nX-Qonto-User: $mark\r\n",
    "X-Qonto-User\0: $mark\r\n",
    "X-Qonto\x01User: $mark\r\n",
    "X-Qonto-\xdcser: $mark\r\n",
    "X-Qonto-User\x0b: $mark\r\n",
    "X-Qonto-User: $mark\r\nX-Qonto-User:\r\n",
    ": X-Qonto-User: $mark\r\n",
    "X-Qonto-User:: $mark\r\n",
    "X-Qonto-User\r\n: $mark\r\n",
    "(X-Qonto-User): $mark\r\n",
    "\"X-Qonto-User\": $mark\r\n",
    "X/Qonto/User: $mark\r\n",
    "X-Qonto-User;a: $mark\r\n",
    "X,Qonto,User: $mark\r\n",
    "X\@Qonto\@User: $mark\r\n",
    "X[Qonto]User: $mark\r\n",
    "X=Qonto=User: $mark\r\n",
);

# Part of a harmless value it may be, and "(X-Qonto-User)" is nobody's name of it.
sub false_names ($request, $true) {
    return grep { fold($_) =~ /^(?:x-)?qonto-/ } intruders($request, $true);
}

# Sends the bytes and reads whatever comes, if anything does.
sub send_bytes ($port, $bytes) {
    my $answer = eval { $by_hand->raw($rig->url('/', $port), $bytes) };
    return $answer ? $answer->status : 'none', $answer ? $answer->body : '';
}

for my $port (qw(port unsafe_port)) {
    my $user = browser();
    sign_in($user, $rig->url('/app/first', $port));
    my ($cookie) = map { join '=', $_->@* } $user->cookies($rig->url('/app/', $port));
    my %app = map { ($_ => qr/./) } qw(X-Qonto-User X-Qonto-Scope X-Qonto-Expires Authorization);
    my @names;
    my $arrived = 0;
    for my $case (['/open/', '', {}], ['/pass/', '', {}], ['/app/', "Cookie: $cookie\r\n", \%app]) {
        my ($path, $cookie, $true) = $case->@*;
        for my $head (@heads) {
            $backend->clear;
            my ($status) = send_bytes($port, "GET ${path}x HTTP/1.1\r\nHost: 127.0.0.1\r\n$head${cookie}Connection: close\r\n\r\n");
            my @met = $backend->requests;
            $arrived += @met;
            my $shown = $head =~ s/([^\x20-\x7e])/sprintf '<%02x>', ord $1/ger;
            is_deeply [map { false_names($_, $true) } @met], [], "$port $path ($status) $shown";
        }
        my ($status, $env) = send_bytes($port, "GET /ocgi/env HTTP/1.1\r\nHost: 127.0.0.1\r\n" . join('', @heads[0, 1, 5, 6, 20]) . "Connection: close\r\n\r\n");
        unlike $env, qr/QONTO\w*=.*$mark/, "$port CGI ($status)";
    }
    cmp_ok $arrived, '>=', 9, "$port: some arrive at all";
}

# --- trailers ---

for my $port (qw(port unsafe_port merge_port)) {
    my $user = browser();
    sign_in($user, $rig->url('/app/first', $port));
    my ($cookie) = map { join '=', $_->@* } $user->cookies($rig->url('/app/', $port));
    for my $path (qw(/open/x /app/x /pass/x /ocgi/env /cgi/env)) {
        $backend->clear;
        my ($status, $body) = send_bytes($port, "POST $path HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: $cookie\r\nTE: trailers\r\n"
            . "Trailer: X-Qonto-User, Authorization, Cookie\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            . "4\r\ntext\r\n0\r\nX-Qonto-User: $mark\r\nx_qonto_scope: $mark\r\nAuthorization: Bearer $mark\r\nX-Harmless: a\r\n\r\n");
        is $status, 200, "$port POST $path with trailers";
        is_deeply [grep { $_->{head} =~ /$mark/ } $backend->requests], [], 'trailers bring nothing to the backend';
        unlike $body, qr/(?:QONTO|AUTHORIZATION)\w*=.*$mark/, 'nor to a program';
    }
}

# --- a second request inside the first ---

my $inner = "GET /open/inner HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Qonto-User: $mark\r\nConnection: close\r\n\r\n";
for my $lengths ("Content-Length: 0\r\nContent-Length: 5\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "Transfer-Encoding: xchunked\r\n", "Content-Length: 0\r\n", "Connection: Content-Length\r\nContent-Length: " . length($inner) . "\r\n",
    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n") {
    $backend->clear;
    send_bytes(port => "POST /open/x HTTP/1.1\r\nHost: 127.0.0.1\r\n$lengths\r\n0\r\n\r\n$inner");
    send_bytes(port => "POST /open/x HTTP/1.1\r\nHost: 127.0.0.1\r\n$lengths\r\n$inner");
    is_deeply [map { intruders($_) } $backend->requests], [], 'not by ' . $lengths =~ s/\r\n/ | /gr;
}

done_testing;
