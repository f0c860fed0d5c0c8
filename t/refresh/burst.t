# Fifty requests at once on a session whose token has ended: one call to Qonto, fifty answers with
# the new token, whether Qonto is quick, slow, or slower than others' patience.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

my $rig = farm(QontoTimeout => '3s 20s')->start;
my ($q, $backend) = ($rig->standin, $rig->backend);
my $rounds = ($ENV{QO_SLOW} || 1) > 1 ? 4 : 20;
my @all;

sub one_burst ($visitor, $name, $count = 50) {
    my $spent = $visitor->{refresh};
    $q->reset;
    $backend->clear;
    my @answers = burst($rig, $visitor, $count);
    is_new $rig, $visitor, $name, @answers;
    is_tokens [asked_for($rig)], [$spent], "$name: one call" or diag calls($rig) . ' calls';
    return @answers;
}

# A session for each burst, all made beforehand, so that nobody has to wait for each.
for my $delay (0.05, 0) {
    my @visitors = visitors($rig, $rounds);
    expire(@visitors);
    $q->set(delay => $delay);
    one_burst($visitors[$_], "$delay s, burst " . ($_ + 1)) for 0 .. $#visitors;
    $q->set(delay => 0);
    is_in $rig, $_, 'and later' for @visitors[0, -1];
    push @all, @visitors;
}
cmp_ok scalar(my @processes = processes($rig)), '>=', 4, 'they were spread over processes';

for my $delay (2, 6) {
    my ($visitor) = visitors($rig, 1);
    expire($visitor);
    $q->set(delay => $delay);
    my @answers = one_burst($visitor, "$delay s");
    $q->set(delay => 0);
    my ($slowest) = sort { $b <=> $a } map { $_->{seconds} } served($rig, '/app/burst', 50 * @all + 50);
    ok $slowest < $delay + slow(1), 'nobody waits much longer than the call takes' or diag $slowest;
    is_in $rig, $visitor, 'and later';
    push @all, $visitor;
}

# Many sessions at the same time do not wait for one another.
my @crowd = visitors($rig, 8);
expire(@crowd);
$q->reset;
$backend->clear;
$q->set(delay => 1);
my $began  = now();
my @flying = map { my $one = $_; map { [$one, $one->{browser}->begin(GET => $rig->url('/app/crowd'))] } 1 .. 4 } @crowd;
my @met    = map { $_->[0]{browser}->finish($_->[1]) } @flying;
is statuses(@met), '200 x 32', 'eight sessions, four requests each';
ok now() - $began < 1 + slow(1.5), 'at the same time' or diag now() - $began;
is_tokens [sort(asked_for($rig))], [sort map { $_->{refresh} } @crowd], 'a call for each session';
is_tokens [map { $_ } sort values seen_tokens($rig)->%*], [(4) x 8], 'a token for each';
$q->set(delay => 0);

is_sound $rig, @all, @crowd;
done_testing;
