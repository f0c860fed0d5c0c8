# Two httpd on one Redis are one site: who signs in here is signed in there, and out when out, a
# login begun here ends there, once; what either does under load the other sees.

use v5.36;
use Qonto::Httpd ();
use Qonto::Redis;
use Qonto::Test;
use Qonto::Rig;

my $key   = 'k3y-of-the-server-0123456789-0123456789';
my $redis = redis();
my $there = Qonto::Httpd->new;    # the second host
my $rig   = rig(conf => sub ($rig) { conf($rig) })->start;

# Both have the redirect URI of the first, as behind a balancer.
sub conf ($rig, $callback_port = '@port@') {
    return qonto($rig->standin, QontoSessionStore => $redis->url, QontoSessionKey => $key,
            QontoRedirectURI => "http://127.0.0.1:$callback_port/qonto/callback")
        . join('', map { proxied($_, $rig->backend) } qw(/app/ /open/)) . protected('/app/')
        . qq{<Location "/qonto/logout">\nSetHandler qonto-logout\n</Location>\n};
}

$there->conf(conf($rig, $rig->httpd->port))->start;
sub here_url  ($path = '/app/x') { return $rig->url($path) }
sub there_url ($path = '/app/x') { return $there->url($path) }

# --- one session, two hosts ---

my $user = browser();
sign_in($user, here_url());
my $token = token_of($rig->backend);
$rig->backend->clear;
is $user->get(there_url())->status, 200, 'signed in here, signed in there';
is token_of($rig->backend) // '', $token, 'with the same token';

my $other = browser();
sign_in($other, there_url());
is $other->get(here_url())->status, 200, 'and the other way round';
my ($cookie) = map { join '=', $_->@* } $other->cookies(here_url());
ok $other->post(here_url('/qonto/logout'))->status < 400, 'signed out here';
my %status = map { browser(jar => undef)->get($_ % 2 ? there_url() : here_url(), Cookie => $cookie)->status => 1 } 1 .. 8;
is_deeply [keys %status], [302], 'out on both, whatever process answers';
is $user->get(there_url())->status, 200, 'the first one is not';

# --- one of them goes ---

$there->kill9;
is $user->get(here_url())->status, 200, 'one host dies: the session is there';
$there->start;
is $user->get(there_url())->status, 200, 'and on the new one';

# --- a login that begins there and ends here ---

my $browser = browser();
my $callback = $browser->follow_until($browser->get(there_url('/app/later')), qr{/qonto/callback});
my $page = $browser->follow($browser->get($callback));
is $page->status, 200, 'begun there, ended here' or diag $page->story;
like $page->url, qr{/app/later$}, 'on its page';

# The same callback at both, at once: one of them takes it.
my $at_there = sub ($url) { $url =~ s/:\d+/':' . $there->port/er };
for my $round (1 .. (($ENV{QO_SLOW} || 1) > 1 ? 3 : 15)) {
    my $racer = browser();
    my $to = $racer->follow_until($racer->get(here_url('/app/race')), qr{/qonto/callback});
    my $before = $rig->standin->counters->{token_code} // 0;
    my @flying  = map { $racer->begin(GET => $_ % 2 ? $to : $at_there->($to)) } 1 .. 8;
    my @answers = map { $racer->finish($_) } @flying;
    is +($rig->standin->counters->{token_code} // 0) - $before, 1, 'eight hits on one callback of two hosts: one token call'
        or diag join ' ', map { $_->status } @answers;
    is scalar(grep { $_->status >= 500 } @answers), 0, 'and no failure' or diag join ' ', map { $_->status } @answers;
}

# --- idle time is moved on by both ---

is $user->get(there_url())->status, 200, 'still in';
is_deeply [crashes($rig->httpd->error_log . $there->error_log)], [], 'no crash';
unlike $rig->httpd->error_log . $there->error_log, qr/QO0040|QO0001/, 'no failure of the store';

# --- other prefixes and keys are other sites ---

$there->conf(conf($rig, $rig->httpd->port) . 'QontoSessionStore ' . $redis->url(prefix => 'qonto:b') . "\n")->restart;
is $user->get(there_url())->status, 302, 'another prefix: another store';
$there->conf(conf($rig, $rig->httpd->port) . "QontoSessionKey another-key-0123456789-0123456789-01\n")->restart;
is $user->get(there_url())->status, 302, 'another key: it opens nothing';
is $user->get(here_url())->status, 200, 'here, all is as it was';

done_testing;
