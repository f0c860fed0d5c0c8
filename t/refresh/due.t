# A token that has ended, or will soon, is renewed before the request is handed on: the backend gets
# the new one, with one call to Qonto, and the browser notices nothing.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

my $rig = farm()->start;
my ($q, $backend) = ($rig->standin, $rig->backend);

sub fresh_counts () { $q->reset; $backend->clear; return }

# One request of a visitor whose token needs renewal.
sub one_request ($visitor, $name, $method = 'get') {
    my ($old, $spent) = $visitor->@{qw(access refresh)};
    fresh_counts();
    my $answer = $visitor->{browser}->$method($rig->url('/app/first'));
    my ($scope, $expires) = map { $backend->got($_) } qw(X-Qonto-Scope X-Qonto-Expires);
    is_new $rig, $visitor, $name, $answer;
    ok $visitor->{access} ne $old, "$name: another token";
    is_tokens [asked_for($rig)], [$spent], "$name: for the refresh token it had, once";
    my %asked = $q->last('refresh')->{params}->%*;
    delete $asked{refresh_token};
    is_deeply \%asked, { grant_type => 'refresh_token', client_id => 'qonto-client', client_secret => 'qonto-secret' },
        "$name: the credentials in the body, no scope";
    ok !(grep {/^authorization:/i} $q->last('refresh')->{headers}->@*), "$name: and not in a header";
    ok abs($expires - time - 3600) < slow(5), "$name: X-Qonto-Expires follows" or diag $expires - time;
    is $scope, 'offline_access organization.read', "$name: X-Qonto-Scope too";
    ok !works_at_qonto($rig, $old), "$name: the old one is dead, as Qonto has it";
    is_in $rig, $visitor, "$name: the next request" for 1 .. 3;
    return;
}

# --- ended ---

my @ended = visitors($rig, 4);
my @due   = visitors($rig, 2, 4);
expire(@ended);
one_request($ended[0], 'a page');
one_request($ended[1], 'a script', 'fetch');
one_request($ended[2], 'a form',   'post');
fresh_counts();
is $ended[3]{browser}->head($rig->url('/app/x'))->status, 200, 'HEAD';
is calls($rig), 1, 'is renewed, too';

# --- less than the margin is left, that is half of a life as short as this ---

half(@due);
cmp_ok ends(@due), '>', 0, 'the old token is still good';
one_request($_, 'due') for @due;

# --- not due: no call ---

fresh_counts();
my ($fresh) = visitors($rig, 1, 60);
$fresh->{browser}->get($rig->url('/app/x')) for 1 .. 5;
is calls($rig), 0, 'a token with much time left is not renewed';
is_tokens seen_tokens($rig), { $fresh->{access} => 6 }, 'and goes on being used';

# --- again and again: each refresh token once ---

my ($visitor) = visitors($rig, 1);
fresh_counts();
my @spent;
$q->set(access_life => int pace(1));
for my $round (1 .. 4) {
    expire($visitor);
    push @spent, $visitor->{refresh};
    $backend->clear;
    is_new $rig, $visitor, "round $round", $visitor->{browser}->get($rig->url('/app/again'));
    $visitor->{ends} = now() + pace(1);
}
is_tokens [asked_for($rig)], \@spent, 'the chain of refresh tokens, none of them twice';
is $q->counters->{token_ok}, 4, 'Qonto accepted each';

# --- a login in another tab ends while the token has ended: no exchange is needed ---

my $tabs    = browser();
my $pending = $tabs->follow_until($tabs->get($rig->url('/app/tab')), qr{/qonto/callback\?});
$q->set(access_life => int pace(1));
sign_in($tabs, $rig->url('/app/x'));
$q->set(access_life => 3600);
nap(pace(1) + 0.1);
$q->reset;
my $page = $tabs->follow($tabs->get($pending));
is $page->status, 200, 'another tab comes back from Qonto' or diag tale($page);
is $page->url, $rig->url('/app/tab'), 'to its page';
is $q->counters->{token_code}, 0, 'without an exchange';
is calls($rig), 1, 'by a refresh';

# --- a change of scope is told ---

$q->set(access_life => 3600, token_answer => { scope => 'offline_access' });
expire($visitor);
$backend->clear;
is $visitor->{browser}->get($rig->url('/app/scope'))->status, 200, 'another scope';
is_deeply [$backend->got('X-Qonto-Scope')], ['offline_access'], 'is what the backend is told';
$q->set(token_answer => {});

is_sound $rig, @ended, @due, $fresh, $visitor;
done_testing;
