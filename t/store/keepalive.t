# One connection, many requests: each is judged by its own cookie and by what the store says now.
# Nothing of an earlier request on the connection opens a later one.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::H2;

my $rig = rig(conf => sub ($rig) {
    return "KeepAlive On\nKeepAliveTimeout 60\nMaxKeepAliveRequests 0\nProtocols h2c http/1.1\n"
        . join '', map {
            my ($name, $id) = $_->@*;
            "<VirtualHost 127.0.0.1:\@port\@>\nServerName $name\n"
                . qonto($rig->standin, QontoClientId => $id, QontoRedirectURI => "http://$name:\@port\@/qonto/callback")
                . join('', map { proxied($_, $rig->backend) } qw(/app/ /open/ /pass/)) . protected('/app/')
                . protected('/pass/', 'QontoUnauthenticated pass')
                . qq{<Location "/qonto/logout">\nSetHandler qonto-logout\n</Location>\n</VirtualHost>\n}
        } ['127.0.0.1', 'qonto-client'], ['localhost', 'other-client'];
}, standin => { clients => { map { $_ => { secret => 'qonto-secret' } } qw(qonto-client other-client) } })->start;

my $backend = $rig->backend;
my @people  = map { browser() } 1 .. 3;
sign_in($_, $rig->url('/app/x')) for @people;
my @cookie = map { join '=', ($_->cookies($rig->url('/app/')))[0]->@* } @people;
my @token;
for my $browser (@people) { $browser->get($rig->url('/app/x')); push @token, token_of($backend) }

# A connection that stays open; returns (status, the token that reached the backend).
my $line = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $rig->httpd->port) or die "no connection: $@\n";
sub ask ($path, $cookie = undef, $host = '127.0.0.1') {
    $backend->clear;
    my $with = defined $cookie ? "Cookie: $cookie\r\n" : '';
    syswrite $line, "GET $path HTTP/1.1\r\nHost: $host:" . $rig->httpd->port . "\r\nAccept: text/html\r\n$with\r\n";
    my $text = '';
    while ($text !~ /\r\n\r\n/) { sysread $line, $text, 65_536, length $text or die "the connection ended\n" }
    my ($head, $body) = split /\r\n\r\n/, $text, 2;
    my ($length) = $head =~ /^Content-Length: (\d+)/mi or die "no length:\n$head\n";
    while (length $body < $length) { sysread $line, $body, 65_536, length $body or die "the connection ended\n" }
    return ($head =~ m{^HTTP/1.1 (\d+)})[0], token_of($backend) // '-';
}

# --- one after another ---

is_deeply [ask('/app/x', $cookie[0])], [200, $token[0]], 'the first visitor';
is_deeply [ask('/app/x', $cookie[0])], [200, $token[0]], 'again';
is_deeply [ask('/app/x')],             [302, '-'],       'without a cookie: nobody';
is_deeply [ask('/pass/x')],            [200, '-'],       'nor on a `pass` page';
is_deeply [ask('/app/x', $cookie[1])], [200, $token[1]], 'another visitor';
is_deeply [ask('/app/x', $cookie[0])], [200, $token[0]], 'the first again';
is_deeply [ask('/open/x', $cookie[0])], [200, '-'], 'an open page';
is_deeply [ask('/app/x', "$cookie[0]; $cookie[1]")], [302, '-'], 'two sessions: neither';
my $close = $cookie[0] =~ s/(.)$/$1 eq 'A' ? 'B' : 'A'/er;
is_deeply [ask('/app/x', $close)], [302, '-'], 'one character off';
is_deeply [ask('/app/x', substr $cookie[0], 0, -1)], [302, '-'], 'one short';
is_deeply [ask('/app/x', "$cookie[0]A")], [302, '-'], 'one more';
is_deeply [ask('/app/x', $cookie[0])], [200, $token[0]], 'the first again';
is_deeply [ask('/app/x', $cookie[0], 'localhost')], [302, '-'], 'the same cookie on another virtual host, same connection';
is_deeply [ask('/pass/x', $cookie[0], 'localhost')], [200, '-'], 'nor on its `pass` page';
is_deeply [ask('/app/x', $cookie[0])], [200, $token[0]], 'and back';

# --- a log-out elsewhere holds here at once ---

ok $people[0]->post($rig->url('/qonto/logout'))->status < 400, 'signed out on another connection';
is_deeply [ask('/app/x', $cookie[0])], [302, '-'], 'the open connection knows at once';
is_deeply [ask('/pass/x', $cookie[0])], [200, '-'], 'for `pass` pages, too';
is_deeply [ask('/app/x', $cookie[1])], [200, $token[1]], 'the other visitor stays';
sign_in($people[0], $rig->url('/app/x'));
is_deeply [ask('/app/x', $cookie[0])], [302, '-'], 'a new session does not revive the old cookie';

# --- the same over HTTP/2, where many visitors may share one connection of a proxy ---

SKIP: {
    skip 'prefork knows no HTTP/2', 5 if ($ENV{QO_MPM} // '') eq 'prefork';
    my $h2 = Qonto::H2->connect($rig->httpd->port);
    my $stream = sub ($path, @fields) {
        $backend->clear;
        my $answer = $h2->request(GET => $path, [accept => 'text/html', @fields]);
        return $answer->{status}, token_of($backend) // '-';
    };
    is_deeply [$stream->('/app/x', cookie => $cookie[1])], [200, $token[1]], 'HTTP/2: one visitor';
    is_deeply [$stream->('/app/x')],                       [302, '-'],       'HTTP/2: nobody';
    is_deeply [$stream->('/app/x', cookie => $cookie[2])], [200, $token[2]], 'HTTP/2: another';
    $people[1]->post($rig->url('/qonto/logout'));
    is_deeply [$stream->('/app/x', cookie => $cookie[1])], [302, '-'],       'HTTP/2: signed out elsewhere';
    is_deeply [$stream->('/app/x', cookie => $cookie[2])], [200, $token[2]], 'HTTP/2: the other stays';
}

done_testing;
