# Time goes on while Qonto hangs: a token that ends meanwhile is not handed on, and of the requests
# that go on with a good one only the first wait a second.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

my $rig = farm(QontoTimeout => '3s 5s')->start;
my ($q, $backend) = ($rig->standin, $rig->backend);
my ($dying, $due) = (visitors($rig, 1, 6), visitors($rig, 1, 24));

# --- the token ends during the call ---

$q->fault(refresh => 'hang', seconds => slow(30), times => 1);
nap(ends($dying) - 2);
$backend->clear;
my $answer = $dying->{browser}->get($rig->url('/app/late'));
is $answer->status, 503, 'the old token has ended when the call fails' or diag $answer->story;
is +(reference_of($answer))[0], 'QO0036', 'and so the page says';
is $backend->count, 0, 'the backend gets no dead token';

# --- one request after the other during a call that hangs ---

half($due);
$q->fault(refresh => 'hang', seconds => slow(30), times => 1);
my $first = $due->{browser}->begin(GET => $rig->url('/app/first'));
ok wait_until(3, sub { ($q->counters->{token_fault_hang} // 0) >= 2 }), 'the call hangs';
my $began   = now();
my @answers = map { $due->{browser}->get($rig->url("/app/$_")) } 1 .. 6;
my $took    = now() - $began;
is statuses(@answers), '200 x 6', 'those that come meanwhile go on with the old token';
ok $took < slow(2), 'after a second altogether' or diag $took;
is statuses($due->{browser}->finish($first)), '200 x 1', 'as does the one that called';

is_sound $rig, $dying, $due;
done_testing;
