# One store for many virtual hosts: the cookie of one opens nothing on another, whether client,
# redirect URI or key differ. And keys change: the old one opens, none at all means sign in again.

use v5.36;
use Qonto::Test;
use Qonto::Rig;

my @keys = map { unpack 'H*', $_ x 32 } 'a' .. 'd';
my %host = (
    one    => {},
    client => { QontoClientId => 'other-client', QontoClientSecret => 'other-secret' },
    path   => { QontoRedirectURI => 'http://127.0.0.1:@path_port@/other/callback' },
    key    => { QontoSessionKey => $keys[1] },
    scope  => { QontoScopes => 'offline_access organization.read openid' },
    named  => { QontoCookie => 'name=bank' },
);
my $server_key = $keys[0];

sub hosts ($rig) {
    return join '', "QontoSessionStore lmdb:\@root\@/store\nQontoSessionKey $server_key\n", map {
        my %change = (QontoRedirectURI => "http://127.0.0.1:\@${_}_port\@/qonto/callback", QontoSessionStore => undef, $host{$_}->%*);
        "Listen 127.0.0.1:\@${_}_port\@\n<VirtualHost 127.0.0.1:\@${_}_port\@>\n" . qonto($rig->standin, %change)
            . proxied('/app/', $rig->backend) . proxied('/pass/', $rig->backend) . protected('/app/')
            . protected('/pass/', 'QontoUnauthenticated pass') . "</VirtualHost>\n"
    } sort keys %host;
}

my $rig = rig(
    standin => { clients => { 'qonto-client' => { secret => 'qonto-secret' }, 'other-client' => { secret => 'other-secret' } } },
    conf    => \&hosts,
)->start;

my %browser;
my %cookie;
for my $name (sort keys %host) {
    $browser{$name} = browser();
    sign_in($browser{$name}, $rig->url('/app/x', "${name}_port"));
    ($cookie{$name}) = map { $_->[1] } grep { $_->[0] =~ /^(?:qonto|bank)$/ } $browser{$name}->cookies;
    ok length $cookie{$name}, "$name has a session";
}

my $by_hand = browser(jar => undef);
for my $from (sort keys %host) {
    for my $to (sort keys %host) {
        my $name = $to eq 'named' ? 'bank' : 'qonto';
        my $answer = $by_hand->get($rig->url('/app/x', "${to}_port"), Cookie => "$name=$cookie{$from}");
        if ($from eq $to) {
            is $answer->status, 200, "$from opens $to";
            next;
        }
        is $answer->status, 302, "$from does not open $to" or diag $answer->status;
        $rig->backend->clear;
        $by_hand->get($rig->url('/pass/x', "${to}_port"), Cookie => "$name=$cookie{$from}");
        is_deeply [$rig->backend->got(qr/^(?:authorization|x-qonto)/i)], [], 'nor is anything exported';
    }
}

# A foreign callback's login neither: begun on one, ended on another.
for my $to (qw(client path key scope)) {
    my $browser = browser();
    my $callback = $browser->follow_until($browser->get($rig->url('/app/x', 'one_port')), qr{/qonto/callback});
    my $path = $to eq 'path' ? '/other/callback' : '/qonto/callback';
    my $there = $callback =~ s{^http://[^/]+/qonto/callback}{$rig->url($path, "${to}_port")}er;
    my @cookies = map { join '=', $_->@* } $browser->cookies;
    my $before = $rig->standin->counters->{token} // 0;
    my $answer = $by_hand->get($there, Cookie => join '; ', @cookies);
    like $answer->status, qr/^4/, "a login begun on one does not end on $to";
    is $rig->standin->counters->{token} // 0, $before, 'and makes no token call';
    is $browser->follow($browser->get($callback))->status, 200, 'where it was begun it ends';
}

# --- keys ---

sub open_with ($key, $name = 'one') {
    $server_key = $key;
    $rig->conf(\&hosts)->httpd->restart;
    return $by_hand->get($rig->url('/app/x', "${name}_port"), Cookie => "qonto=$cookie{$name}");
}

my $half = browser();
my $callback = $half->follow_until($half->get($rig->url('/app/x', 'one_port')), qr{/qonto/callback});
is open_with("$keys[2] $keys[0]")->status, 200, 'a new key beside the old one: still signed in';
is $half->follow($half->get($callback))->status, 200, 'and a login that began before ends';
my $newer = browser();
sign_in($newer, $rig->url('/app/x', 'one_port'));
is open_with("$keys[0] $keys[2]")->status, 200, 'the old one first again';
is $newer->get($rig->url('/app/x', 'one_port'))->status, 200, 'both kinds of session open';

my $answer = open_with($keys[3]);
is $answer->status, 302, 'a key that opens nothing: sign in again';
is $newer->get($rig->url('/app/x', 'one_port'))->status, 302, 'everybody';
my $page = $browser{one}->visit($rig->url('/app/x', 'one_port'));
is $page->status, 200, 'which works';
my ($now) = map { $_->[1] } grep { $_->[0] eq 'qonto' } $browser{one}->cookies($rig->url('/app/x', 'one_port'));
isnt $now, $cookie{one}, 'and brings another cookie';
is $browser{key}->get($rig->url('/app/x', 'key_port'))->status, 200, 'a virtual host with a key of its own does not mind';

$cookie{one} = $now;
is open_with("$keys[0] $keys[2]")->status, 302, 'it works the other way round, too';
is_deeply [crashes($rig->httpd->error_log)], [], 'no crash';
unlike $rig->httpd->error_log, qr/QO0001|QO0040/, 'no failure of the store';

done_testing;
