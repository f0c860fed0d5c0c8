use v5.36;

use FindBin;
use lib "$FindBin::Bin/../lib", $FindBin::Bin;

use File::Temp qw(tempdir);
use Qonto::StandIn;
use Test::More;
use Visitor;

plan skip_all => 'IO::Socket::SSL is not installed' if !eval { require IO::Socket::SSL; 1 };

my $made = Qonto::StandIn::certificates(tempdir(CLEANUP => 1), 'qonto.test');
my $q    = Qonto::StandIn->start(tls => $made->{good});

sub visitor ($ca) {
    return Visitor->new($q, http => { verify_SSL => 1, SSL_options => { SSL_ca_file => $ca } });
}

like $q->url, qr{^https://}, 'https';
my $v = visitor($made->{ca});
my $tokens = $v->log_in;
ok $tokens->{access_token}, 'the whole way over TLS';
ok $v->is_live($tokens->{access_token}), 'API too';

for my $bad (qw(expired wrong_host)) {
    $q->set(tls => $made->{$bad});
    my $answer = $v->http->get($q->url . '/v2/organization');
    is $answer->{status}, 599, "$bad certificate: no answer";
    like $answer->{content}, qr/certificate|hostname/i, 'because of it';
}

$q->set(tls => $made->{good});
is $v->http->get($q->url . '/v2/organization')->{status}, 401, 'good again';
my $distrustful = Visitor->new($q, http => { verify_SSL => 1 });
is $distrustful->http->get($q->url)->{status}, 599, 'unknown CA';

$q->fault(token => 'hang');
my @silent = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $q->port) } 1 .. 3;
is $v->http->get($q->url . '/v2/organization')->{status}, 401, 'connections without a handshake hold nobody up';
print { $silent[0] } "GET / HTTP/1.1\r\n\r\n";
sysread $silent[0], my $said, 100;
unlike $said // '', qr/HTTP/, 'plain HTTP gets no HTTP answer';

$q->fault(token => 'huge', times => 1);
is length +($v->refresh($tokens->{refresh_token}))[2]{content}, 10_000_000, 'long answers come through whole';

ok !eval { Qonto::StandIn->start(tls => { cert => '/nowhere', key => '/nowhere' }); 1 }, 'a certificate that is not there';
like $@, qr{/nowhere}, 'is told at the start';

done_testing;
