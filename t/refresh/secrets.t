# Through every outcome of a refresh, at LogLevel trace8 for all of httpd: no token, cookie or secret
# in a line of the module, in the access log, or in an answer of the module's own; not even when
# Qonto's error text repeats them.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

my $total = int pace(1);
my $say   = { body => "the application's page\n" };
my $rig   = farm(
    rig          => { backend => { answers => { map { ("/app/$_" => $say) } qw(x in) } } },
    QontoTimeout => "${total}s ${total}s",
    QontoPass    => 'user scope expires session logout env',
    more         => <<~'CONF',
        LogLevel trace8
        LogFormat "%h %u %r %>s %U%q | %{QONTO_SESSION}e %{QONTO_ERROR}e %{QONTO_REFERENCE}e" everything
        CustomLog logs/access_log everything
        CONF
)->start;
my ($q, $backend) = ($rig->standin, $rig->backend);

my @kinds = (
    ['none'], ['429', retry_after => 1], ['500'], ['hang', seconds => 60], ['rst'], ['lost_answer'], ['truncated'],
    ['huge', bytes => 200_000], ['html'], ['redirect'], ['bad_json'], ['empty'], ['nontoken'], ['wrong_type'], ['concurrent'],
    ['invalid_client'], ['unauthorized_client'], ['invalid_scope'], ['invalid_grant'], ['invalid_request'], ['418'],
);
my (@visitors, @answers);
push @visitors, sign_in_for($rig, 1) for @kinds;
my @due = map { sign_in_for($rig, 18) } @kinds;
expire(@visitors);

# Each kind, with a text that repeats what was sent.
sub meet ($kind, $visitor) {
    my ($fault, @more) = $kind->@*;
    my $hint = join ' ', "the token $visitor->{refresh}", $visitor->{access}, 'of client_secret=qonto-secret',
        "cookie $visitor->{cookie}";
    $q->fault(refresh => $fault, hint => $hint, @more);
    push @answers, map { $visitor->{browser}->$_($rig->url('/app/x')) } qw(get fetch);
    return;
}

meet($kinds[$_], $visitors[$_]) for 0 .. $#kinds;
half($due[-1]);
meet($kinds[$_], $due[$_]) for 0 .. $#kinds;
$q->fault(refresh => 'none');

# A refresh that is overtaken by a log-out, one that nobody gets an answer of, and a burst.
my ($out, $many) = visitors($rig, 2);
expire($out, $many);
$q->set(delay => pace(0.5));
my @flying = map { $out->{browser}->begin(GET => $rig->url('/app/x')) } 1 .. 3;
nap(pace(0.2));
push @answers, $out->{browser}->clone->post($rig->url('/qonto/logout'));
push @answers, map { $out->{browser}->finish($_) } @flying;
push @answers, burst($rig, $many, 10, '/app/x');
$q->set(delay => 0);
cmp_ok scalar(grep { $_->status == 200 } @answers), '>=', @kinds, 'many were served';
cmp_ok scalar(grep { $_->status == 503 } @answers), '>=', 20, 'many were not';

my %secret;
my $issued = $q->issued;
for my $value (map({ $_->@* } values $issued->%*), map({ $_->{cookie} } @visitors, @due, $out, $many), 'qonto-secret') {
    $secret{$_} = 1 for $value, encode($value), split /\./, $value;
}
my @secrets = grep { length >= 12 } keys %secret;
sub found_in ($text) { return scalar grep { index($text, $_) >= 0 } @secrets }

cmp_ok scalar @secrets, '>', 200, 'many secrets to look for';
my $log  = $rig->httpd->error_log;
my @ours = log_lines($log);
like $log, qr/:trace[5-8]\]/, 'httpd writes down all it can';
cmp_ok scalar @ours, '>', @kinds, 'the module wrote something';
is scalar(grep { found_in($_) } @ours), 0, 'no secret in a line of ours';
my %numbers = map { $_ => 1 } map {/\b(QO\d{4})\b/g} @ours;
ok $numbers{$_}, "$_ is among them" for qw(QO0031 QO0036 QO0061 QO0065 QO0067);
is found_in($rig->httpd->_text('access_log')), 0, 'nor in the access log';

for my $answer (@answers) {
    my $text = $answer->{head} =~ s/^Set-Cookie: qonto=[^;]*//gmri . $answer->body;
    next if !found_in($text);
    fail 'an answer gives a secret away: ' . $answer->status . ' ' . $answer->url;
}
ok found_in("x $visitors[0]{refresh} x"), 'this test would notice';

is_sound $rig, @visitors;
done_testing;
