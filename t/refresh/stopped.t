# A process that stops in the middle of a refresh for longer than its lease, and then goes on, cannot
# bring old tokens back: another has renewed the session, and what the stopped one has is dropped.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

plan skip_all => 'processes are stopped on purpose' if $ENV{QO_REPORTS} && ($ENV{QO_SLOW} || 1) >= 10;

# A stopped process that waits in accept() is given connections by the kernel all the same, and under
# worker and prefork nobody else sees them then.
plan skip_all => 'the event MPM is the one whose processes can be stopped' if ($ENV{QO_MPM} // 'event') ne 'event';

my $total = int pace(1);
my $lease = $total + 5;    # QontoTimeout and five seconds
my $rig   = preloaded(farm(QontoTimeout => "${total}s ${total}s"))->start;
my ($q, $backend) = ($rig->standin, $rig->backend);

# Stops the process that renews for this visitor.
sub stop_at ($point, $visitor) {
    at_point($rig, "$point stop");
    my $flight = $visitor->{browser}->begin(GET => $rig->url("/app/$point"));
    return { visitor => $visitor, flight => $flight, pid => point_reached($rig), spent => $visitor->{refresh} };
}

my @visitors = visitors($rig, 2);
expire(@visitors);
$q->reset;
$backend->clear;
my @stopped = (stop_at(before => $visitors[0]), stop_at(after => $visitors[1]));
my $began   = now();
isnt $stopped[0]{pid}, $stopped[1]{pid}, 'two processes are stopped, one before its call, one after it';
is calls($rig), 1, 'one of them has called';

# --- the lease ends, others take over ---

my @waiting = map { my $one = $_; map { [$one, $one->{browser}->begin(GET => $rig->url('/app/waiting'))] } 1 .. 4 } @visitors;
my @met     = map { $_->[0]{browser}->finish($_->[1]) } @waiting;
my $waited  = now() - $began;
is statuses(@met), '200 x 8', 'who waits is served when the lease has ended' or diag statuses(@met);
ok $waited > $lease - 0.5 && $waited < $lease + slow(1.5), "and that is after $lease s" or diag $waited;
is_tokens [sort(asked_for($rig))], [sort $stopped[0]{spent}, ($stopped[1]{spent}) x 2], 'by the same refresh tokens';
my $seen = seen_tokens($rig);
is_deeply [sort values $seen->%*], [4, 4], 'a token for each session';
is scalar(grep { !works_at_qonto($rig, $_) } keys $seen->%*), 0, 'that works';

sub token_now ($visitor) {
    $backend->clear;
    $visitor->{browser}->get($rig->url('/app/now'));
    return token_of($backend);
}
my @theirs = map { token_now($_) } @visitors;

# --- and then the stopped ones go on ---

$backend->clear;
kill CONT => $_->{pid} for @stopped;
my @late = map { $_->{visitor}{browser}->finish($_->{flight}) } @stopped;
is statuses(@late), '200 x 2', 'the stopped requests are served' or diag statuses(@late);
is calls($rig), 4, 'one of them called late, in the grace';
is_tokens seen_tokens($rig), { map { $_ => 1 } @theirs }, 'with what the others have got';
is_tokens [map { token_now($_) } @visitors], \@theirs, 'and the sessions are as the others left them';

# --- when the grace is over, that was not the reuse of a spent token ---

$q->advance(61);
ok works_at_qonto($rig, $_), 'their token works' for @theirs;
ok kill(0, $_->{pid}), 'the process that was stopped serves on' for @stopped;

is_sound $rig, @visitors;
done_testing;
