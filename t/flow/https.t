# On https: Secure and the cookie prefixes; the browser of these tests keeps their rules.
use v5.36;
use File::Temp ();
use Qonto::Httpd;
use Qonto::Test;

my $folder = File::Temp->newdir;
my $made   = Qonto::StandIn::certificates("$folder", 'localhost');
my $q      = Qonto::StandIn->start(tls => $made->{good});
my $be     = backend();

my $h = Qonto::Httpd->new;
$h->write('ca.pem', do { local (@ARGV, $/) = $made->{ca}; <> });
my $conf = sub ($more = '', $callback = '/qonto/callback') { <<~"CONF" };
    SSLEngine On
    SSLCertificateFile "$made->{good}{cert}"
    SSLCertificateKeyFile "$made->{good}{key}"
    QontoClientId qonto-client
    QontoClientSecret qonto-secret
    QontoRedirectURI https://127.0.0.1:\@port\@$callback
    QontoSessionStore lmdb:\@root\@/store
    QontoCAFile "\@root\@/ca.pem"
    QontoEndpoint authorize @{[$q->url]}/oauth2/auth
    QontoEndpoint token     @{[$q->url]}/oauth2/token
    QontoEndpoint revoke    @{[$q->url]}/oauth2/revoke
    <Location "/app">
        AuthType Qonto
        Require valid-user
        ProxyPass @{[$be->url]}/app retry=0
    </Location>
    <Location "/qonto/logout">
        SetHandler qonto-logout
    </Location>
    $more
    CONF
$h->conf($conf->())->start;
my $url = 'https://127.0.0.1:' . $h->port;

my $b  = browser();
my $to = $b->get("$url/app/x");
is $to->status, 302, 'sent to Qonto' or diag $to->story, $h->error_log;
my ($pending) = $to->headers('Set-Cookie');
like $pending, qr/^__Secure-qonto/, 'the log-in\'s cookie: __Secure-, as its path is the callback';
like $pending, qr/;\s*Secure\b/i, '- Secure';
like $pending, qr/;\s*Path=\/qonto\/callback\b/, '- for the callback only';

my $callback = $b->follow_until($to, qr{/qonto/callback\?});
my $in = $b->get($callback);
my ($session) = grep { !/Max-Age=0/i } $in->headers('Set-Cookie');
like $session, qr/^__Host-qonto=[A-Za-z0-9_-]{43};/, 'the session cookie: __Host-' or diag $in->story, $h->error_log;
is_deeply [sort map {lc} grep { !/=[A-Za-z0-9_-]{43}$/ } split /;\s*/, $session], [sort qw(path=/ httponly samesite=lax secure)],
    '- Secure, HttpOnly, Lax, Path=/, no Domain';
is_deeply [map { $_->[0] } $b->cookies], ['__Host-qonto'], 'the browser keeps it by the rules, and forgets the other';
is $b->get("$url/app/x")->status, 200, 'signed in';
is_deeply [$be->got(qr/^cookie$/i)], [], 'the backend gets no cookie of ours';

# Names without the prefix, or in other letters, are strangers'.
my ($value) = $session =~ /=([^;]+)/;
for my $name (qw(qonto __host-qonto __Secure-qonto __HOST-QONTO)) {
    is browser(jar => undef)->fetch("$url/app/x", Cookie => "$name=$value")->status, 401, "$name is not our cookie";
}

# Deleted with the attributes it had: else a browser keeps a __Host- cookie.
my $out = $b->post("$url/qonto/logout");
my ($gone) = grep {/^__Host-qonto=/} $out->headers('Set-Cookie');
like $gone, qr/;\s*Secure\b/i, 'log-out deletes it, Secure';
is_deeply [$b->cookies], [], '- and the browser has none left';

# Settings of the cookie.
$h->stop;
$h->conf($conf->('QontoCookie name=bank samesite=None path=/app', '/app/callback'))->start;
my $c    = browser();
my $page = $c->visit("$url/app/x");
is $page->status, 200, 'QontoCookie: another name, path and SameSite' or diag $page->story;
my ($other) = grep { !/Max-Age=0/i } ($page->chain)[-2]->headers('Set-Cookie');
like $other, qr/^__Secure-bank=/, '- a path other than / cannot have __Host-';
like $other, qr/;\s*SameSite=None/i, '- SameSite';
like $other, qr{;\s*Path=/app\b}, '- Path';

# A certificate that is not Qonto's: the code does not go there.
my $d  = browser();
my $at = $d->follow_until($d->get("$url/app/x"), qr{/app/callback\?});
my $calls = $q->counters->{token};
for my $bad (qw(wrong_host expired)) {
    $q->set(tls => $made->{$bad});
    my $answer = browser(jar => $d->clone->jar)->get($at);
    is $answer->status, 503, "Qonto with a certificate that is $bad";
    is session_of($answer), undef, '- no session';
    $q->set(tls => $made->{good});
    $d  = browser();
    $at = $d->follow_until($d->get("$url/app/x"), qr{/app/callback\?});
}
is $q->counters->{token}, $calls, 'no token call reached it';
like $h->error_log, qr/QO0033.*certificate/i, 'the log names the certificate';
is_deeply [$h->secrets_in_log(map { $_->@* } values $q->issued->%*)], [], 'no secret in the log';

done_testing;
