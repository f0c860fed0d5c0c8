# What a refresh does not do: without a refresh token there is none, and the session's own end does
# not move. An answer that brings no new refresh token leaves the old one in use.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

my $max = int pace(4);
sub host ($rig, $name, %change) {
    return "Listen 127.0.0.1:\@${name}_port\@\n<VirtualHost 127.0.0.1:\@${name}_port\@>\n"
        . qonto($rig->standin, QontoRedirectURI => "http://127.0.0.1:\@${name}_port\@/qonto/callback",
            QontoSessionStore => undef, %change)
        . proxied('/app/', $rig->backend) . protected('/app/') . "</VirtualHost>\n";
}
my $rig = farm(QontoRefreshMargin => '1s', more => sub ($rig) {
    return host($rig, 'online', QontoScopes => 'organization.read') . host($rig, 'max', QontoSessionTimeout => "${max}s ${max}s")
        . host($rig, 'wide', QontoRefreshMargin => '30m') . host($rig, 'narrow');    # as the server has it
})->start;
my ($q, $backend) = ($rig->standin, $rig->backend);

sub url ($name, $path = '/app/x') { return $rig->url($path, "${name}_port") }

# --- no offline_access: no refresh ---

my ($page, $script, $short) = map { sign_in_for($rig, 2, '/app/in', 'online_port') } 1 .. 3;
my $limited = sign_in_for($rig, 1, '/app/in', 'max_port');
my $signed  = now();
my $hour    = sign_in_for($rig, 3600 / pace(1), '/app/in', 'wide_port');
my $tiny    = sign_in_for($rig, 8, '/app/in', 'narrow_port');
my ($kept)  = visitors($rig, 1);
$q->reset;
half($short);
is $short->{browser}->get(url('online'))->status, 200, 'no offline_access: due, but nothing to do';
is calls($rig), 0, 'no call';
expire($limited);
is $limited->{browser}->get(url('max'))->status, 200, 'a session of four seconds: renewed';
is calls($rig), 1, 'once';
expire($page, $script, $short);
$backend->clear;
is $page->{browser}->get(url('online'))->status, 302, 'no offline_access: a visit begins a login';
is $script->{browser}->fetch(url('online'))->status, 401, 'a script gets 401';
is $backend->count, 0, 'the backend never gets a dead token';
is calls($rig), 1, 'and Qonto is not asked';
is $page->{browser}->visit(url('online'))->status, 200, 'the login works';

# --- the session's own end ---

nap($signed + $max - 0.8 - now()) if $signed + $max - 0.8 > now();
is $limited->{browser}->get(url('max'))->status, 200, 'shortly before its end it lives' if now() < $signed + $max - 0.3;
nap($signed + $max + 0.1 - now());
$q->reset;
is $limited->{browser}->fetch(url('max'))->status, 401, 'then it is over, though its new token is good';
is calls($rig), 0, 'and nothing is renewed for it';

# --- the margin ---

$q->reset;
is $hour->{browser}->get(url('wide'))->status, 200, 'a token of an hour, half an hour of margin';
is calls($rig), 0, 'is not due when it is new';
half($tiny);
is $tiny->{browser}->get(url('narrow'))->status, 200, 'a token of eight seconds, a margin of one';
is calls($rig), 0, 'is not due with less than half of it left';
nap(ends($tiny) - 0.7);
is $tiny->{browser}->get(url('narrow'))->status, 200, 'but with less than the margin';
is calls($rig), 1, 'it is renewed';

# --- the answer has no refresh token ---

my $first = $kept->{refresh};
expire($kept);
$q->reset->set(access_life => int pace(1), token_answer => { refresh_token => undef });
for my $round (1 .. 3) {
    $backend->clear;
    is $kept->{browser}->get($rig->url('/app/x'))->status, 200, "no new refresh token, round $round";
    is_tokens [keys seen_tokens($rig)->%*], [$q->issued->{access_token}[-1]], 'a new access token';
    nap(pace(1) + 0.05);
}
is_tokens [asked_for($rig)], [($first) x 3], 'the old refresh token stays in use';
$q->set(access_life => 3600, token_answer => {});
is_new $rig, $kept, 'until there is another', do { $backend->clear; $kept->{browser}->get($rig->url('/app/x')) };

is_sound $rig, $page, $script, $short, $limited, $kept, $hour, $tiny;
done_testing;
