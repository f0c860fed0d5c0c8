use v5.36;

use FindBin;
use lib "$FindBin::Bin/../lib", $FindBin::Bin;

use IO::Socket::INET ();
use JSON::PP         qw(decode_json);
use Qonto::StandIn;
use Test::More;
use Time::HiRes qw(time);
use Visitor;

my $q = Qonto::StandIn->start;
my $v = Visitor->new($q);

# One refresh through a bare socket: everything that came until the end, and the error if there was one.
sub raw_refresh ($token = 'none') {
    my $form   = "client_id=qonto-client&client_secret=qonto-secret&grant_type=refresh_token&refresh_token=$token";
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $q->port) or die $@;
    print {$socket} join "\r\n", 'POST /oauth2/token HTTP/1.1', 'Host: localhost',
        'Content-Type: application/x-www-form-urlencoded', 'Content-Length: ' . length $form, '', $form;
    my ($all, $got, $reads) = ('', 1, 0);
    while ($got) { $got = sysread $socket, $all, 65_536, length $all; $reads++ }
    return $all, defined $got ? '' : "$!", $reads;
}

sub body_of ($wire) { return (split /\r\n\r\n/, $wire, 2)[1] }

subtest 'no answer' => sub {
    $q->fault(token => 'hang', seconds => 0.3, times => 1);
    my $start = time;
    my ($got, $error) = raw_refresh();
    is $got . $error, '', 'hang: nothing comes';
    cmp_ok time - $start, '>=', 0.28, 'for that long';
    $q->fault(token => 'rst', times => 1);
    ($got, $error) = raw_refresh();
    like $error, qr/reset/i, 'rst: connection reset';
    is $q->counters->{token_fault_rst}, 1, 'counted by kind';
};

subtest 'damaged answers' => sub {
    my $tokens = $v->log_in;
    $q->fault(token => 'truncated', times => 1);
    my ($got) = raw_refresh($tokens->{refresh_token});
    my ($length) = $got =~ /Content-Length: (\d+)/;
    cmp_ok length body_of($got), '<', $length, 'truncated: less than announced';
    ok !$v->is_live($tokens->{access_token}), 'but the refresh happened';

    $q->fault(token => 'drip', interval => 0.0005, times => 1);
    my ($dripped, undef, $reads) = raw_refresh($tokens->{refresh_token});
    ok decode_json(body_of($dripped))->{access_token}, 'drip: a whole answer';
    cmp_ok $reads, '>', 50, 'in many pieces';

    $q->fault(token => 'bad_json', times => 1);
    ok !eval { decode_json(body_of((raw_refresh())[0])); 1 }, 'bad_json does not parse';
    $q->fault(token => 'empty', times => 1);
    is body_of((raw_refresh())[0]), '', 'empty';
    $q->fault(token => 'wrong_type', times => 1);
    my ($wire) = raw_refresh($tokens->{refresh_token});
    like $wire, qr{^Content-Type: text/plain\r$}m, 'wrong_type: the type';
    ok decode_json(body_of($wire))->{access_token}, 'with a good body';
    $q->fault(token => 'nontoken', times => 1);
    my ($status, $data) = $v->refresh('x');
    ok $status == 200 && !exists $data->{access_token}, 'nontoken: JSON without access_token';
};

subtest 'huge' => sub {
    my $tokens = $v->log_in;
    for my $chunked (0, 1) {
        $q->fault(refresh => 'huge', times => 1, chunked => $chunked);
        my ($status, $data, $answer) = $v->refresh($tokens->{refresh_token});
        is length $answer->{content}, 10_000_000, '10 MB' . ($chunked ? ', chunked' : '');
        like $data, qr/\A\{"access_token":"ory_at_.*"\}\z/s, 'acceptable to a client without a limit';
        is $answer->{headers}{'content-length'} // 'none', $chunked ? 'none' : 10_000_000, 'Content-Length';
    }
};

subtest 'a lost answer' => sub {
    my $tokens = $v->log_in;
    $q->fault(refresh => 'lost_answer', times => 1);
    is join('', (raw_refresh($tokens->{refresh_token}))[0, 1]), '', 'closed without a word';
    ok !$v->is_live($tokens->{access_token}), 'the grant was served';
    is((($v->refresh($tokens->{refresh_token}))[0]), 200, 'the same token again, within the grace');
};

subtest 'other answers' => sub {
    my $answer_to = sub ($kind, %arg) { $q->fault(token => $kind, %arg); return ($v->refresh('x'))[2] };
    my $limited = $answer_to->('429', retry_after => 7);
    is_deeply [$limited->{status}, $limited->{headers}{'retry-after'}], [429, 7], '429 with Retry-After';
    is decode_json($answer_to->('500')->{content})->{error}, 'server_error', '500 with Hydra\'s JSON';
    is $answer_to->('503')->{status}, 503, 'any status';
    like $answer_to->('html')->{headers}{'content-type'}, qr{^text/html}, 'html';
    my $moved = $answer_to->(redirect => status => 307, to => '/elsewhere');
    is_deeply [$moved->{status}, $moved->{headers}{location}], [307, '/elsewhere'], 'redirect';
    is $q->counters->{elsewhere}, 0, 'that nobody followed';
    is decode_json($answer_to->('invalid_client')->{content})->{error}, 'invalid_client', 'an OAuth error by name';
    like decode_json($answer_to->('concurrent')->{content})->{error_description}, qr/concurrent requests.*retry/, 'Hydra\'s race';
    $q->fault(token => 'none');
    is decode_json(($v->refresh('x'))[2]{content})->{error}, 'invalid_grant', 'none: back to normal';
};

subtest 'places and times' => sub {
    $q->fault(refresh => '500', times => 2);
    is((($v->exchange($v->code))[0]), 200, 'exchange is untouched');
    my $tokens = $v->log_in;
    is_deeply [map { ($v->refresh($tokens->{refresh_token}))[0] } 1 .. 3], [500, 500, 200], 'twice, then normal';
    $q->fault(authorize => 'server_error', times => 1);
    is $v->authorize->{error}, 'server_error', 'authorize: errors go to the callback';
    $q->fault(authorize => '502', times => 1);
    is $v->authorize->{status}, 502, 'or the page itself fails';
    $q->fault(organization => '503');
    my ($status, $data) = $v->api('/v2/organization', $tokens->{access_token});
    is_deeply [$status, $data->{errors}[0]{code}], [503, 'http_503'], 'API faults have the API\'s shape';
    $q->fault(revoke => 'slow', seconds => 0.2);
    my $start = time;
    is((($v->post('/oauth2/revoke', token => 'x'))[0]), 200, 'slow: a normal answer');
    cmp_ok time - $start, '>=', 0.18, 'later';
    $q->reset;
    is((($v->refresh($tokens->{refresh_token}))[0]), 200, 'reset clears all faults');
};

subtest 'mistakes of the test are told' => sub {
    ok !eval { $q->fault(token => 'explode'); 1 }, 'unknown fault';
    like $@, qr/unknown fault "explode"/, 'named';
    ok !eval { $q->fault(nowhere => 'hang'); 1 }, 'unknown place';
    ok !eval { $q->set(acess_life => 5); 1 }, 'unknown option';
    like $@, qr/acess_life/, 'named';
    ok !eval { $q->set(mode => 'automatic'); 1 }, 'unknown choice';
};

subtest 'bad requests do not hurt it' => sub {
    for my $bytes ("nonsense\r\n\r\n", "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /oauth2/token HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", 'X' x 70_000)
    {
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $q->port) or die $@;
        print {$socket} $bytes;
        like scalar <$socket>, qr{^HTTP/1\.1 4\d\d }, 'refused';
    }
    is $v->http->get($q->url . '/nowhere')->{status}, 404, 'and it still serves';
};

done_testing;
