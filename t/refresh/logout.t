# Who signs out while their tokens are being renewed is signed out: the old cookie is dead from then
# on, whichever of the two comes first, and Qonto's new tokens are given back.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

my $rig = farm()->start;
my ($q, $backend) = ($rig->standin, $rig->backend);
my $rounds = ($ENV{QO_SLOW} || 1) > 1 ? 4 : 12;

sub sign_out ($visitor) { return $visitor->{browser}->clone->post($rig->url('/qonto/logout')) }

# A copy of the old cookie opens nothing, with or without Qonto's help, and nothing is left at Qonto.
sub is_out ($visitor, $name) {
    return subtest $name => sub {
        my $before = calls($rig);
        my @copy   = (Cookie => "qonto=$visitor->{cookie}");
        my $nobody = browser(jar => undef);
        $backend->clear;
        is $nobody->get($rig->url('/app/x'), @copy)->status, 302, 'the cookie opens no page';
        is $nobody->fetch($rig->url('/app/x'), @copy)->status, 401, 'and no script gets in';
        is $nobody->get($rig->url('/pass/x'), @copy)->status, 200, 'on `pass` pages';
        # Who was let in before the log-out may reach the backend only now.
        is_tokens seen_tokens($rig, qr{^/pass/}), { '-' => 1 }, 'nobody is there';
        is calls($rig), $before, 'nobody asks Qonto for tokens';
    };
}

sub all_dead ($name) {
    my @alive = grep { works_at_qonto($rig, $_) } $q->issued->{access_token}->@*;
    return is scalar @alive, 0, "$name: no access token works any more";
}

# Requests that renew, and a log-out after $pause seconds.
sub race ($visitor, $pause, $delay, $name) {
    $q->set(delay => $delay);
    my @flying = map { $visitor->{browser}->begin(GET => $rig->url('/app/race')) } 1 .. 3;
    nap($pause);
    my $out   = sign_out($visitor);
    my $ended = now();
    like $out->status, qr/^(?:200|30[23])$/, "$name: signed out";
    is_out $visitor, "$name, at once";
    my @answers = map { $visitor->{browser}->finish($_) } @flying;
    $q->set(delay => 0);
    is_out $visitor, "$name, after the refresh";
    return @answers;
}

# --- in the middle of a refresh of three seconds ---

my ($slow, @visitors) = visitors($rig, 3 + 2 * $rounds);
expire($slow, @visitors);
$q->reset;
my @answers = race($slow, pace(0.5), pace(3), 'three seconds');
is_deeply [grep { $_->status == 200 } @answers], [], 'the requests that waited do not get in' or diag statuses(@answers);
is calls($rig), 1, 'the refresh was one';
all_dead 'three seconds';

# --- Qonto does not hear of the log-out: then it hears of the new tokens ---

for my $fault ('500', 'hang') {
    my $visitor = pop @visitors;
    $q->reset->fault(revoke => $fault, times => 1, seconds => 1);
    race($visitor, pace(0.2), pace(1), "revocation meets '$fault'");
    cmp_ok $q->counters->{revoke}, '>=', 2, 'the new tokens are revoked by who got them';
    ok $q->last('revoke')->{params}{token} ne $visitor->{refresh}, 'by their own name';
    all_dead "revocation meets '$fault'";
}

# --- as close together as can be, again and again ---

my ($first, $later) = (0, 0);
while (@visitors > 1) {
    my ($visitor, $other) = splice @visitors, 0, 2;
    my $name = 'pair ' . (@visitors / 2 + 1);
    race($visitor, rand 0.03, 0.02, "$name, refresh first");
    # The other order: the log-out is on its way when the requests come.
    my $browser = $other->{browser};
    my $out     = $browser->clone->begin(POST => $rig->url('/qonto/logout'), ['Content-Length' => 0, 'Sec-Fetch-Site' => 'same-origin']);
    my @flying  = map { $browser->begin(GET => $rig->url('/app/race')) } 1 .. 3;
    $_ = $browser->finish($_) for @flying;
    like $browser->finish($out)->status, qr/^(?:200|30[23])$/, "$name, log-out first: signed out";
    (grep { $_->status == 200 } @flying) ? $later++ : $first++;
    is_out $other, "$name, log-out first";
}
note "$first times the log-out won, $later times a request was through before it";
all_dead 'at the end';

# --- signing out with a token that has ended needs no new one ---

my ($ended) = visitors($rig, 1);
expire($ended);
$q->reset;
like sign_out($ended)->status, qr/^(?:200|30[23])$/, 'signed out with a dead access token';
is calls($rig), 0, 'no refresh for it';
is_tokens [$q->last('revoke')->{params}{token}], [$ended->{refresh}], 'Qonto is told';
is_out $ended, 'afterwards';

is_sound $rig, $slow, $ended;
done_testing;
