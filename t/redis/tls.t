# rediss://: whose certificate is not right is no Redis of ours, whatever it says; the log tells
# why, and visitors get 503.

use v5.36;
use File::Temp ();
use Qonto::Redis;
use Qonto::StandIn ();
use Qonto::Test;
use Qonto::Rig;

my $key    = 'k3y-of-the-server-0123456789-0123456789';
my $folder = File::Temp->newdir;
my $made   = Qonto::StandIn::certificates("$folder");
my $others = Qonto::StandIn::certificates("$folder/others");
my $redis  = redis(tls => { $made->{good}->%*, ca => $made->{ca} });
my $rig    = rig(conf => sub ($rig) {
    return qonto($rig->standin, QontoSessionStore => $rig->{store}, QontoSessionKey => $key)
        . join('', map { proxied($_, $rig->backend) } qw(/app/ /open/)) . protected('/app/');
});
# Only root can read it, as is right for a key; the children get it from the parent.
my $ca = $rig->httpd->write('ca.pem', do { local (@ARGV, $/) = $made->{ca}; <> }, 0600);

sub with ($url) {
    $rig->{store} = $url;
    $rig->httpd->stop;
    $rig->httpd->clear_log;
    $rig->conf($rig->{conf})->httpd->start;
    return;
}

sub shows ($certificate) {
    $redis->say(CONFIG => 'SET', 'tls-cert-file', $certificate->{cert}, 'tls-key-file', $certificate->{key});
    return;
}

my $user = browser();
for my $host (qw(localhost 127.0.0.1)) {
    with($redis->tls_url(host => $host, ca => $ca));
    is_deeply [grep {/QO0071/} log_lines($rig->httpd->error_log)], [], "$host: nothing to complain of";
    is $user->visit($rig->url('/app/x'))->status, 200, "$host: signed in over TLS";
    is $user->get($rig->url('/app/x'))->status, 200, 'and still is';
}

for my $case (
    ['expired',         $made->{expired},    qr/certificate has expired/],
    ['another host\'s', $made->{wrong_host}, qr/mismatch/],
    ['a stranger\'s',   $others->{good},     qr/certificate is refused/],
) {
    my ($name, $certificate, $words) = $case->@*;
    shows($certificate);
    with($redis->tls_url(host => 'localhost', ca => $ca));
    ok scalar(grep {/QO0071/ && $words} log_lines($rig->httpd->error_log)), "$name: the log says so at the start";
    my $answer = $user->get($rig->url('/app/x'));
    is $answer->status, 503, "$name: refused";
    is_deeply [$answer->headers('Set-Cookie')], [], 'the cookie stays';
    ok scalar(grep { /QO0040/ && $_ =~ $words } log_lines($rig->httpd->error_log)), 'and the log says why'
        or diag join "\n", log_lines($rig->httpd->error_log);
    is $user->get($rig->url('/open/x'))->status, 200, 'open pages are there';
}

shows($made->{good});
ok wait_until(3, sub { $user->get($rig->url('/app/x'))->status == 200 }), 'with the right certificate all is well again';
with($redis->tls_url(host => 'localhost'));
is $user->get($rig->url('/app/x'))->status, 503, 'without ca= the system must vouch for it, and does not';
is_deeply [crashes($rig->httpd->error_log)], [], 'no crash';

done_testing;
