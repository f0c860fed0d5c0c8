# QontoSandbox: the staging token goes along, spelled exactly, on every call of the server, over HTTP/1.1.
use v5.36;
use Qonto::Test;

my $site = site('sandbox', standin => { staging_token => 'staging-4711' });
my $q    = $site->standin;

my $b = browser();
sign_in($b, $site->url('/app/x'));
is_deeply [$site->backend->got('X-Qonto-Env')], ['sandbox'], 'the backend is told which world it is';
is_deeply [$site->backend->got('X-Qonto-Staging-Token')], ['staging-4711'], 'and gets the token, if QontoPass says so';
$b->post($site->url('/qonto/logout'));

for my $place (qw(exchange revoke)) {
    my $call = $q->last($place);
    is_deeply [grep {/^X-Qonto-Staging-Token: /} $call->{headers}->@*], ['X-Qonto-Staging-Token: staging-4711'],
        "$place: the header, in its capitals, once";
    is scalar(grep {/staging/i} $call->{headers}->@*), 1, '- and in no other spelling';
    is $call->{http}, 'HTTP/1.1', '- over HTTP/1.1';
}
is $q->counters->{gated} // 0, 0, 'no call was stopped at the gate';
is $q->counters->{staging_wrong_case} // 0, 0, 'none had other capitals';
ok !(grep {/staging/i} $q->last('authorize')->{headers}->@*), 'the browser never carries it';

# The visitor cannot say it.
$b->get($site->url('/open/x'), 'X-Qonto-Staging-Token' => 'forged', 'x_qonto_staging_token' => 'forged');
is_deeply [$site->backend->got(qr/staging/i)], [], 'a forged one is removed';

# A wrong one: HTML with status 200, or a redirect. The log says what is the matter.
$q->set(staging_token => 'another');
for my $gate (qw(html redirect)) {
    $q->set(gate => $gate);
    $site->mark;
    my $answer = browser()->visit($site->url('/app/x'));
    refused_ok $site, $answer, 502, 'QO0034', "the gate answers: $gate";
    my ($line) = grep {/QO0034/} $site->our_log;
    like $line, qr/QontoStagingToken|staging token/i, "- the log names the staging token";
    is session_of($answer), undef, '- no session';
    is $q->counters->{onelogin} // 0, 0, '- nobody followed to the log-in page';
}
unlike $site->log, qr/staging-4711/, 'the token itself is not in the log';

done_testing;
