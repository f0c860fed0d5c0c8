# A slow request that looked the session up before its tokens were renewed, and a connection that
# remembers it: neither brings the old token back, and what comes next has the new one.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

my $rig = farm(QontoSessionTimeout => '8s 1h', more => "KeepAliveTimeout 60\n")->start;    # touched each second
my ($q, $backend) = ($rig->standin, $rig->backend);

# A connection that stays open.
sub line () { return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $rig->httpd->port) // die "no connection: $@\n" }

sub say_on ($line, $visitor, $path) {
    syswrite $line, "GET $path HTTP/1.1\r\nHost: 127.0.0.1:" . $rig->httpd->port . "\r\nCookie: qonto=$visitor->{cookie}\r\n\r\n";
    return;
}

# The answer's status; the backend repeats the request, so its path ends what is read.
sub hear_on ($line, $path) {
    my $text = '';
    while ($text !~ m{\r\n\r\nGET \Q$path\E .*\r\n\r\n}s) {
        vec(my $ready = '', fileno $line, 1) = 1;
        select($ready, undef, undef, slow(10)) > 0 or return 'no answer';
        sysread $line, $text, 65_536, length $text or return "ended: $text";
    }
    return $text =~ m{^HTTP/1.1 (\d+)} ? $1 : $text;
}

# Which token came with this path.
sub token_with ($path) {
    my ($request) = grep { $_->{path} eq $path } $backend->requests;
    return $request && $request->{head} =~ /^Authorization: Bearer (\S+)/mi ? $1 : undef;
}

for my $round (1 .. 3) {
    my ($visitor) = visitors($rig, 1, 3);
    my $old   = $visitor->{access};
    my @lines = map { line() } 1 .. 6;
    my $slow  = '/app/slow?say-after=' . pace(2.4);
    $backend->clear;
    say_on($_, $visitor, $slow) for @lines[0 .. 2];
    say_on($_, $visitor, '/app/quick') for @lines[3 .. 5];
    is_deeply [map { hear_on($_, '/app/quick') } @lines[3 .. 5]], [(200) x 3], 'connections that know the session';
    ok wait_until(5, sub { 3 == grep { $_->{path} eq $slow } $backend->requests }), 'and three that are at work with it';
    is_tokens [token_with($slow)], [$old], 'with the token of their time';

    half($visitor);
    $q->reset;
    $backend->clear;
    is_new $rig, $visitor, "round $round: renewed by another", $visitor->{browser}->get($rig->url('/app/x'));
    ok $visitor->{access} ne $old, 'another token';
    is_deeply [map { hear_on($_, $slow) } @lines[0 .. 2]], [(200) x 3], 'the slow ones are done';
    for my $number (0 .. 5) {
        say_on($lines[$number], $visitor, "/app/again/$number");
        is hear_on($lines[$number], "/app/again/$number"), 200, "connection $number, again";
        is_tokens [token_with("/app/again/$number")], [$visitor->{access}], 'has the new token';
    }
    is_tokens [asked_for($rig)], [$visitor->{refresh} && (asked_for($rig))[0]], 'one call in all';
    is_in $rig, $visitor, "round $round: and so it stays";
}

is_sound $rig;
done_testing;
