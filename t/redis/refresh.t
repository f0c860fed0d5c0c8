# Tokens are renewed once, though two httpd on one Redis are asked by fifty requests at the same time;
# by the other one at once when the first dies; never again after a log-out; and Redis hanging,
# restarting, refusing or being full in the middle of it costs no session.

use v5.36;
use Qonto::Httpd ();
use Qonto::Redis;
use Qonto::Refresh;
use Qonto::Rig;
use Qonto::Test;

my $redis = redis(conf => "appendonly yes\nappendfsync always\n");
my %store = (QontoSessionStore => $redis->url(timeout => '400ms', pool => 16), QontoSessionKey => 'k' x 40, QontoTimeout => '3s 20s');
my $rig   = preloaded(farm(%store))->start;
# The second host; both have the redirect URI of the first, as behind a balancer.
my $there = Qonto::Httpd->new(conf => $rig->text =~ s/\@port\@/$rig->httpd->port/ger)->start;
my ($q, $backend) = ($rig->standin, $rig->backend);
my $light = ($ENV{QO_SLOW} || 1) > 1;

sub url_at ($number, $path) { return $number % 2 ? $there->url($path) : $rig->url($path) }

# Half of them here, half there.
sub both ($visitor, $count, $path = '/app/burst') {
    my @flying = map { $visitor->{browser}->begin(GET => url_at($_, $path)) } 1 .. $count;
    return map { $visitor->{browser}->finish($_) } @flying;
}

sub begin ($visitor) {
    $q->reset;
    $backend->clear;
    return $visitor->{refresh};
}

# --- bursts ---

my @all = visitors($rig, $light ? 4 : 20);
expire(@all);
$q->set(delay => 0.05);
for my $number (1 .. @all) {
    my $visitor = $all[$number - 1];
    my $spent   = begin($visitor);
    is_new $rig, $visitor, "burst $number: fifty at once at two hosts", both($visitor, 50);
    is_deeply [asked_for($rig)], [$spent], "burst $number: one call" or diag calls($rig) . ' calls';
}
$q->set(delay => 0);
my @patient = visitors($rig, 2);
expire(@patient);
for my $delay (2, 6) {
    my $visitor = shift @patient;
    $q->set(delay => $delay);
    my $spent = begin($visitor);
    is_new $rig, $visitor, "Qonto takes $delay s", both($visitor, 50);
    is_deeply [asked_for($rig)], [$spent], "Qonto takes $delay s: one call";
    push @all, $visitor;
}
$q->set(delay => 0);
is_sound $rig, @all;

# --- log-out there during a refresh here, which always wins ---

for my $round (1 .. ($light ? 1 : 3)) {
    my ($visitor) = visitors($rig, 1);
    expire($visitor);
    begin($visitor);
    $q->set(delay => slow(1));
    my @flying = map { $visitor->{browser}->begin(GET => $rig->url('/app/race')) } 1 .. 3;
    nap(slow(0.2 * $round));
    like $visitor->{browser}->clone->post($there->url('/qonto/logout'))->status, qr/^(?:200|30[23])$/, 'signed out there';
    my @answers = map { $visitor->{browser}->finish($_) } @flying;
    is scalar(grep { $_->status == 200 } @answers), 0, 'who renewed here does not get in' or diag statuses(@answers);
    $q->set(delay => 0);
    my %status = map { browser(jar => undef)->get(url_at($_, '/app/x'), Cookie => "qonto=$visitor->{cookie}")->status => 1 } 1 .. 6;
    is_deeply [keys %status], [302], 'the old cookie is dead on both';
}

# --- the process that renews dies; the other host goes on ---

my @victims = visitors($rig, 2);
expire(@victims);
for my $point ($ENV{QO_REPORTS} ? () : qw(before after)) {
    my $visitor = shift @victims;
    my $spent   = begin($visitor);
    at_point($rig, "$point kill");
    my $flight = $visitor->{browser}->begin(GET => $rig->url('/app/victim'));
    ok point_reached($rig), "$point the call: killed";
    my $began  = now();
    my $answer = $visitor->{browser}->get($there->url('/app/next'));
    is $answer->status, 200, 'the other host goes on' or diag $answer->story;
    ok now() - $began < slow(2), 'without waiting for the lease to end' or diag now() - $began;
    is_deeply [asked_for($rig)], [($spent) x ($point eq 'before' ? 1 : 2)], 'with the same refresh token';
    renewed($rig, $visitor);
    ok works_at_qonto($rig, $visitor->{access}), 'the grant lives';
    eval { $visitor->{browser}->finish($flight) };
    is_in $rig, $visitor, 'on both';
}

# --- Redis has troubles of its own while Qonto is asked ---

for my $case (
    ['hangs for a moment', sub { $redis->pause; nap(1.2); $redis->resume }],
    ['restarts',           sub { $redis->restart }],
    ['is full',            sub { $redis->say(CONFIG => 'SET', 'maxmemory', '200kb') }],
) {
    my ($name, $happens) = $case->@*;
    my ($visitor) = visitors($rig, 1);
    expire($visitor);
    my $spent = begin($visitor);
    $q->set(delay => slow(0.6));
    my $flight = $visitor->{browser}->begin(GET => $rig->url('/app/one'));
    ok wait_until(5, sub { calls($rig) }), "Redis $name: while Qonto is asked";
    $happens->();
    my $answer = $visitor->{browser}->finish($flight);
    is $answer->status, 200, "Redis $name: the new tokens are stored" or diag $answer->story;
    $q->set(delay => 0);
    is_deeply [asked_for($rig)], [$spent], "Redis $name: one call";
    renewed($rig, $visitor);
    is_in $rig, $visitor, "Redis $name: signed in with them";
    $redis->say(CONFIG => 'SET', 'maxmemory', 0);
    ok wait_until(3, sub { $visitor->{browser}->get($there->url('/app/x'))->status == 200 }), "Redis $name: on both";
}

# A Redis that refuses to write is noticed before tokens are spent.
my ($kept) = visitors($rig, 1);
expire($kept);
begin($kept);
$redis->say(CONFIG => 'SET', 'min-replicas-to-write', 1);
is $kept->{browser}->get($rig->url('/app/x'))->status, 503, 'Redis refuses to write: 503';
is calls($rig), 0, 'and Qonto is not asked';
$redis->say(CONFIG => 'SET', 'min-replicas-to-write', 0);
is_new $rig, $kept, 'it writes again', $kept->{browser}->get($there->url('/app/x'));

is_deeply [crashes($rig->httpd->error_log . $there->error_log)], [], 'no crash';
my @secrets = (map({ $_->@* } values $q->issued->%*), $redis->password);
is scalar($_->secrets_in_log(@secrets)), 0, 'no secret in a log' for $rig->httpd, $there;

done_testing;
