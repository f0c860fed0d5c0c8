# kill -9 of the process that has the refresh, at each of its points: the session lives, the grant
# is not revoked, the others wait a moment, and who comes next repeats the same refresh token.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

# A process that is watched by valgrind needs seconds to start again, and its report ends early.
plan skip_all => 'processes are killed on purpose' if $ENV{QO_REPORTS} && ($ENV{QO_SLOW} || 1) >= 10;

my $rig = preloaded(farm())->start;
my ($q, $backend) = ($rig->standin, $rig->backend);
my $rounds = ($ENV{QO_SLOW} || 1) > 1 ? 1 : 4;

my $served = 0;

# point => how many times Qonto hears the refresh token
my %calls = (before => 1, during => 2, after => 2, commit => 2, committed => 1);
delete @calls{qw(commit committed)} if $ENV{QO_STORE};    # points of LMDB

sub try_answer ($visitor, $flight) { return scalar eval { $visitor->{browser}->finish($flight) } }

# Lets the process die that renews for this visitor; other requests wait for it meanwhile.
sub dies_at ($point, $visitor) {
    my $browser = $visitor->{browser};
    at_point($rig, $point eq 'during' ? 'before note' : "$point kill");
    my $victim = $browser->begin(GET => $rig->url('/app/victim'));
    my $pid    = point_reached($rig) or return fail "$point: nobody came there";
    my @others = map { $browser->begin(GET => $rig->url('/app/others')) } 1 .. 16;
    if ($point eq 'during') {
        nap(pace(0.3));
        kill KILL => $pid;
    }
    my $killed = now();
    my @met    = grep {defined} map { try_answer($visitor, $_) } @others;
    my $waited = now() - $killed;
    return $pid, try_answer($visitor, $victim), $waited, @met;
}

my @points = map { my $round = $_; map { [$_, $round] } sort keys %calls } 1 .. $rounds;
my (@visitors, @lived) = visitors($rig, scalar @points);
expire(@visitors);
for my $case (@points) {
    my ($point, $round) = $case->@*;
    my $visitor = shift @visitors;
    my ($spent, $name) = ($visitor->{refresh}, "$point, round $round");
    my $delay = $point eq 'during' ? pace(0.6) : 0.1;
    $q->reset->set(delay => $delay, access_life => int pace($round == 1 ? 5 : 3600));
    $backend->clear;
    my ($pid, $victim, $waited, @met) = dies_at($point, $visitor);
    is $victim, undef, "$name: the one in the middle of it is lost";
    is_deeply [grep { $_ eq $pid } $rig->httpd->children], [], "$name: with its process";
    is scalar(grep { $_->status != 200 } @met), 0, "$name: who waited on another process is served"
        or diag statuses(@met);
    $served += @met;
    ok $waited < $delay + slow(1.5), "$name: after a moment" or diag $waited;
    my $answer = $visitor->{browser}->get($rig->url('/app/next'));
    is $answer->status, 200, "$name: the next request is served" or diag tale($answer);
    is_deeply [$answer->headers('Set-Cookie')], [], "$name: with the same cookie";
    renewed($rig, $visitor);
    is_tokens [keys seen_tokens($rig)->%*], [$visitor->{access}], "$name: everybody with the newest token";
    ok works_at_qonto($rig, $visitor->{access}), "$name: which works: the grant lives";
    is_tokens [asked_for($rig)], [($spent) x $calls{$point}], "$name: the same refresh token, as often as it takes";
    push @lived, { $visitor->%*, name => $name, ends => now() + pace(5) } if $round == 1;
    is scalar(wait_until(10, sub { $rig->httpd->children >= 4 })), 1, 'four processes again' if $point eq 'during';
}
$q->set(delay => 0);
cmp_ok $served, '>=', 2 * @points, "$served requests waited on other processes";

# --- nobody else is there: the next request does not wait for the lease to end ---

my @alone = visitors($rig, 2);
expire(@alone);
for my $point (qw(before after)) {
    my $visitor = shift @alone;
    at_point($rig, "$point kill");
    is try_answer($visitor, $visitor->{browser}->begin(GET => $rig->url('/app/victim'))), undef, "$point, alone: lost";
    my $began  = now();
    my $answer = $visitor->{browser}->get($rig->url('/app/next'));
    is $answer->status, 200, "$point, alone: the next is served";
    ok now() - $began < slow(1.5), 'at once' or diag now() - $began;
    renewed($rig, $visitor);
    is_in $rig, $visitor, 'and so on';
}

# --- Qonto's minute of grace is over: nobody sends a spent token again ---

$q->advance(61)->set(access_life => 3600);
expire(@lived);
$q->reset;
for my $visitor (@lived) {
    my $spent = $visitor->{refresh};
    $backend->clear;
    is_new $rig, $visitor, "$visitor->{name}: renewed later", $visitor->{browser}->get($rig->url('/app/later'));
    is_tokens [(asked_for($rig))[-1]], [$spent], 'by the newest refresh token';
}
is $q->counters->{token_ok}, scalar @lived, 'Qonto accepted all of them';

is_sound $rig, @lived;
done_testing;
