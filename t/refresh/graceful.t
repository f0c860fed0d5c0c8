# Reloads in the middle of a refresh: httpd's old and new processes share the lease, so there is
# still one call, and nobody notices; after a stop and start, tokens are renewed as before.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

plan skip_all => 'reloads lose what shmcb holds' if ($ENV{QO_STORE} // '') =~ /^shmcb/;

my $rig = farm(QontoTimeout => '3s 20s')->start;
my ($q, $backend, $httpd) = ($rig->standin, $rig->backend, $rig->httpd);
my $rounds = ($ENV{QO_SLOW} || 1) > 1 ? 1 : 3;

sub begin ($visitor, $count) {
    return map { $visitor->{browser}->begin(GET => $rig->url('/app/x')) } 1 .. $count;
}

my @visitors = visitors($rig, $rounds + 1);
expire(@visitors);
my $last = pop @visitors;
for my $visitor (@visitors) {
    my $spent = $visitor->{refresh};
    $q->reset->set(delay => pace(1.5));
    $backend->clear;
    my @before = begin($visitor, 15);
    wait_until(5, sub { calls($rig) }) or diag 'no call';
    my %old = map { $_ => 1 } $httpd->children;
    $httpd->graceful;
    wait_until(5, sub { grep { !$old{$_} } $httpd->children }) or diag 'no new processes';
    my @after   = begin($visitor, 15);
    my @answers = map { $visitor->{browser}->finish($_) } @before, @after;
    $q->set(delay => 0);
    is_new $rig, $visitor, 'requests of the old processes and of the new', @answers;
    is_tokens [asked_for($rig)], [$spent], 'one call';
    is_in $rig, $visitor, 'later';
}

# --- stopped and started, and killed at once, with tokens that have ended ---

$httpd->restart;
$q->reset;
$backend->clear;
is_new $rig, $last, 'after a restart', burst($rig, $last, 10);
is calls($rig), 1, 'one call';
my ($killed) = visitors($rig, 1);
expire($killed);
$httpd->kill9;
$httpd->start;
$q->reset;
$backend->clear;
is_new $rig, $killed, 'after kill -9 of everything', burst($rig, $killed, 10);
is calls($rig), 1, 'one call';

# --- kill -9 of everything in the middle of it ---

SKIP: {
    skip 'processes are killed on purpose', 1 if $ENV{QO_REPORTS} && ($ENV{QO_SLOW} || 1) >= 10;
    my ($visitor) = visitors($rig, 1);
    my $spent = $visitor->{refresh};
    expire($visitor);
    $q->reset->set(delay => pace(1));
    my @lost = begin($visitor, 5);
    wait_until(5, sub { calls($rig) }) or diag 'no call';
    $httpd->kill9;
    $q->set(delay => 0);
    $httpd->start;
    $backend->clear;
    my $began = now();
    is_new $rig, $visitor, 'kill -9 of everything in the middle of a refresh: the session lives', burst($rig, $visitor, 10);
    ok now() - $began < slow(1.5), 'nobody waits for the lease of the dead' or diag now() - $began;
    is_tokens [asked_for($rig)], [$spent, $spent], 'the same refresh token again';
}

is_sound $rig, @visitors, $last, $killed;
done_testing;
