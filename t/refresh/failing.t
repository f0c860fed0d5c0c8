# Qonto fails in ways that pass: with a good token the request goes on with it; with a dead one it
# gets 503 and Retry-After. The cookie stays, calls do not multiply, and all is well once Qonto is.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

my $total = int pace(1);
my $rig   = farm(QontoTimeout => "${total}s ${total}s")->start;
my ($q, $backend) = ($rig->standin, $rig->backend);

# name => [fault, its arguments]; those that serve the request first have used the refresh token up.
my %kind = (
    '429'             => ['429'],
    '429, Retry-After' => ['429', retry_after => 2],
    '500'             => ['500'],
    '503'             => ['503'],
    'server_error'    => ['server_error'],
    'temporarily_unavailable' => ['temporarily_unavailable'],
    'no answer'       => ['hang', seconds => 60],
    'RST'             => ['rst'],
    'a lost answer'   => ['lost_answer'],
    'late'            => ['slow', seconds => 3 * $total],
    'half an answer'  => ['truncated'],
    'a huge answer'   => ['huge', bytes => 300_000],
    'HTML'            => ['html'],
    'a redirect'      => ['redirect'],
    'broken JSON'     => ['bad_json'],
    'nothing'         => ['empty'],
    'other JSON'      => ['nontoken'],
    'text'            => ['wrong_type'],
    'concurrent'      => ['concurrent'],
);
my @names = sort keys %kind;
@names = grep { !/server_error|temporarily|503|nothing|other/ } @names if ($ENV{QO_SLOW} || 1) > 1;

my (%good, %dead);
$good{$_} = sign_in_for($rig, 18) for @names;
$dead{$_} = sign_in_for($rig, 1)  for @names;
expire(values %dead);

sub with_fault ($name) {
    my ($fault, @more) = $kind{$name}->@*;
    $q->reset->fault(refresh => $fault, @more);
    $backend->clear;
    return;
}

sub is_refused ($answer, $name) {
    return subtest $name => sub {
        is $answer->status, 503, 'not available' or diag tale($answer);
        like $answer->header('Retry-After') // '', qr/^[1-9]\d*$/, 'Retry-After';
        is_deeply [$answer->headers('Set-Cookie')], [], 'the cookie stays';
        like $answer->header('Cache-Control') // '', qr/\bno-store\b/, 'no-store';
        is $answer->header('X-Qonto-Backend'), 'not-reached', 'the backend was not reached';
        like $answer->body, qr/\bQO\d{4}\b/, 'the page has a number';
        unlike $answer->{head} . $answer->body, qr/ory_|$q->{url}/, 'and gives nothing away';
    };
}

# --- the token is dead ---

my %failed;
for my $name (@names) {
    my $visitor = $dead{$name};
    with_fault($name);
    my $answer = $visitor->{browser}->get($rig->url('/app/x'));
    $failed{$name} = now();
    is_refused $answer, "$name: 503";
    cmp_ok $answer->header('Retry-After'), '>=', 2, "$name: as long as Qonto says" if $name =~ /Retry-After/;
    is_refused $visitor->{browser}->fetch($rig->url('/app/x')), "$name: for scripts, too" if $kind{$name}[0] =~ /^(?:500|html)$/;
    is statuses(burst($rig, $visitor, 6)), '503 x 6', "$name: and those behind it";
    is_tokens [asked_for($rig)], [$visitor->{refresh}], "$name: one call for all of them";
    is $backend->count, 0, "$name: the backend saw nothing";
    is $q->counters->{elsewhere}, 0, "$name: no redirect is followed";
}
$q->fault(refresh => 'none');
my ($burnt) = grep { now() - $failed{$_} < 0.9 } $names[-1];
is $dead{$burnt}{browser}->get($rig->url('/app/x'))->status, 503, 'Qonto is well again, but it is too early' if $burnt;
nap($failed{'429, Retry-After'} + 2.05 - now());
nap($failed{$names[-1]} + 1.05 - now());
for my $name (@names) {
    my $visitor = $dead{$name};
    my $spent   = $visitor->{refresh};
    $q->reset;
    $backend->clear;
    is_new $rig, $visitor, "$name: healed", burst($rig, $visitor, 3);
    is_tokens [asked_for($rig)], [$spent], "$name: by the same refresh token, in its grace";
}

# --- the token is good ---

half($good{ $names[-1] });
cmp_ok ends(values %good), '>', pace(5), 'there is time';
for my $name (@names) {
    my $visitor = $good{$name};
    with_fault($name);
    my $answer = $visitor->{browser}->get($rig->url('/app/x'));
    $failed{$name} = now();
    is $answer->status, 200, "$name, the old token is good: served" or diag tale($answer);
    my ($began) = now();
    is statuses(burst($rig, $visitor, 5)), '200 x 5', "$name: those behind it, too";
    ok now() - $began < slow(0.8), "$name: at once" or diag now() - $began;
    is_tokens seen_tokens($rig), { $visitor->{access} => 6 }, "$name: with the old token";
    is_tokens [asked_for($rig)], [$visitor->{refresh}], "$name: one call for all of them";
}
$q->fault(refresh => 'none');
nap($failed{'429, Retry-After'} + 2.05 - now());
nap($failed{$names[-1]} + 1.05 - now());
for my $name (@names) {
    my ($visitor, $spent) = ($good{$name}, $good{$name}{refresh});
    $q->reset;
    $backend->clear;
    is_new $rig, $visitor, "$name: healed", $visitor->{browser}->get($rig->url('/app/x'));
    is_tokens [asked_for($rig)], [$spent], "$name: by the same refresh token";
}

like join("\n", log_lines($rig->httpd->error_log)), qr/\[qonto_oauth:warn\]/, 'the log warns';
is_sound $rig, values %good, values %dead;
done_testing;
