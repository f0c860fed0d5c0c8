# Qonto refuses: the grant, and the session ends; the client, and the sessions stay until the admin
# has put it right, which the log asks for.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

my $rig = farm(more => sub ($rig) {
    return "Listen 127.0.0.1:\@two_port\@\n<VirtualHost 127.0.0.1:\@two_port\@>\n"
        . qonto($rig->standin, QontoRedirectURI => 'http://127.0.0.1:@two_port@/qonto/callback',
            QontoSessionStore => undef, QontoClientSecret => 'qonto-secret the-next-secret')
        . proxied('/app/', $rig->backend) . protected('/app/') . "</VirtualHost>\n";
})->start;
my ($q, $backend) = ($rig->standin, $rig->backend);
my $nobody = browser(jar => undef);

my @due  = visitors($rig, 3, 9);
my @dead = visitors($rig, 9);
my ($two, $both_wrong) = map { sign_in_for($rig, 1, '/app/in', 'two_port') } 1, 2;
expire(@dead, $two, $both_wrong);

sub copy ($visitor) { return (Cookie => "qonto=$visitor->{cookie}") }

sub is_gone ($visitor, $name) {
    my $before = calls($rig);
    is $nobody->fetch($rig->url('/app/x'), copy($visitor))->status, 401, "$name: the session is gone";
    is calls($rig), $before, "$name: Qonto is not asked again";
    return;
}

# --- the grant ---

for my $fault (qw(invalid_grant revoked)) {
    my ($page, $script, $many, $pass) = splice @dead, 0, 4;
    $q->reset;
    $rig->httpd->clear_log;
    if ($fault eq 'revoked') {
        HTTP::Tiny->new->post_form($q->url . '/oauth2/revoke',
            { client_id => 'qonto-client', client_secret => 'qonto-secret', token => $_->{refresh} })
            for $page, $script, $many, $pass;
    }
    else { $q->fault(refresh => $fault) }
    $backend->clear;
    my $answer = $page->{browser}->get($rig->url('/app/x?y=1'));
    is $answer->status, 302, "$fault: a visit";
    like $answer->location, qr{^\Q@{[$q->url]}\E/oauth2/auth\?}, 'leads to Qonto';
    is $script->{browser}->fetch($rig->url('/app/x'))->status, 401, "$fault: a script gets 401";
    is calls($rig), 2, 'one call each';
    is statuses(burst($rig, $many, 12)), '302 x 12', "$fault: many at once";
    is calls($rig), 3, 'one call for all of them';
    is $backend->count, 0, 'the backend saw none of this';
    is $pass->{browser}->get($rig->url('/pass/x'))->status, 200, "$fault: a `pass` page";
    is_tokens seen_tokens($rig), { '-' => 1 }, 'is served as to a stranger';
    $q->fault(refresh => 'none');
    is_gone $_, $fault for $page, $script, $many, $pass;
    my @told = grep {/\bended\b/} log_lines($rig->httpd->error_log);
    is scalar @told, 4, "$fault: the end of each session is told once" or diag join "\n", @told;
    my $back = $page->{browser}->follow($answer);
    is $back->status, 200, "$fault: the visitor signs in again";
    is $back->url, $rig->url('/app/x?y=1'), 'and is on the page';
    isnt((map { $_->[1] } $page->{browser}->cookies($rig->url('/')))[0], $page->{cookie}, 'with another session');
}

# --- the client ---

half(@due);
$rig->httpd->clear_log;
my $kept = $dead[0];
for my $case ([invalid_client => $due[0]], [unauthorized_client => $due[1]]) {
    my ($fault, $good) = $case->@*;
    $q->reset->fault(refresh => $fault);
    $backend->clear;
    my $answer = $good->{browser}->get($rig->url('/app/good'));
    is $answer->status, 200, "$fault, the old token is good: served" or diag tale($answer);
    is_tokens seen_tokens($rig), { $good->{access} => 1 }, 'with the old token';
    is calls($rig), 1, 'one call';
    ok scalar(grep {/\[qonto_oauth:error\].*\bQO\d{4}\b.*client/i} split /\n/, $rig->httpd->error_log),
        "$fault: the log has an alarm, at level error";
    $rig->httpd->clear_log;
}
$q->reset->set(client_secret => 'somebody changed it');
my $answer = $kept->{browser}->get($rig->url('/app/x'));
like $answer->status, qr/^50[03]$/, 'a wrong secret, the token is dead: no page';
is +(reference_of($answer))[0], 'QO0031', 'and its number' or diag tale($answer);
is_deeply [$answer->headers('Set-Cookie')], [], 'the cookie stays';
like $answer->header('Cache-Control') // '', qr/no-store/, 'no-store';
is $q->counters->{token_invalid_client}, 1, 'one call';
ok scalar(grep {/\[qonto_oauth:error\].*\bQO0031\b/} split /\n/, $rig->httpd->error_log), 'an alarm in the log';
is statuses(burst($rig, $kept, 10)) =~ /^50[03] x 10$/, 1, 'the next ones neither';
is $q->counters->{token_invalid_client}, 1, 'without another call';
$q->set(client_secret => 'qonto-secret');
my $healed = wait_until(5, sub { $kept->{browser}->get($rig->url('/app/x'))->status == 200 });
ok $healed, 'put right, the same session goes on';
renewed($rig, $kept);
is_in $rig, $kept, 'as before';

# --- two secrets ---

$q->reset->set(client_secret => 'the-next-secret');
$rig->httpd->clear_log;
is $two->{browser}->get($rig->url('/app/x', 'two_port'))->status, 200, 'the second secret is tried';
is_deeply [map { $_->{client_secret} } $q->refreshes], ['qonto-secret', 'the-next-secret'], 'once, after the first';
is_tokens [asked_for($rig)], [($two->{refresh}) x 2], 'with the same refresh token';
like join("\n", log_lines($rig->httpd->error_log)), qr/second|next/i, 'the log says which works';
$q->reset->set(client_secret => 'neither of them');
like $both_wrong->{browser}->get($rig->url('/app/x', 'two_port'))->status, qr/^50[03]$/, 'both are wrong';
is calls($rig), 2, 'two calls';
$q->set(client_secret => 'qonto-secret');
ok wait_until(5, sub { $both_wrong->{browser}->get($rig->url('/app/x', 'two_port'))->status == 200 }),
    'and the session lived through it';

unlike $rig->httpd->error_log, qr/the-next-secret/, 'no secret is told';
is_sound $rig, $kept, $two, $both_wrong, @due;
done_testing;
