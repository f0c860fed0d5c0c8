# The token endpoint fails: the visitor gets a page, no session, and nobody waits for ever.
use v5.36;
use Qonto::Test;

my $site = site('exchange');    # QontoTimeout 1s 2s
my $q    = $site->standin;
my $most = slow(4);

my @cases = (
    # fault, arguments, status, number, what the log says
    [hang          => {},                   503, 'QO0033', qr/./],
    [drip          => {},                   503, 'QO0033', qr/./],
    [rst           => {},                   503, 'QO0033', qr/./],
    [lost_answer   => {},                   503, 'QO0033', qr/./],
    [truncated     => {},                   503, 'QO0033', qr/./],
    [500           => {},                   503, 'QO0032', qr/\b500\b/],
    [503           => { retry_after => 7 }, 503, 'QO0032', qr/\b503\b/],
    [429           => { retry_after => 9 }, 503, 'QO0032', qr/\b429\b/],
    [html          => {},                   502, 'QO0034', qr/html/i],
    [redirect      => {},                   502, 'QO0034', qr/\b302\b/],
    [redirect      => { status => 307 },    502, 'QO0034', qr/\b307\b/],
    [wrong_type    => {},                   502, 'QO0034', qr{text/plain}],
    [huge          => {},                   502, 'QO0035', qr/./],
    [huge          => { chunked => 1 },     502, 'QO0035', qr/./],
    [bad_json      => {},                   502, 'QO0035', qr/./],
    [empty         => {},                   502, 'QO0035', qr/./],
    [nontoken      => {},                   502, 'QO0035', qr/access_token/],
    [invalid_grant => {},                   400, 'QO0030', qr/invalid_grant/],
    [invalid_client      => {},             500, 'QO0031', qr/invalid_client/],
    [unauthorized_client => {},             500, 'QO0031', qr/unauthorized_client/],
    [server_error        => {},             503, 'QO0032', qr/./],
);
for my $case (@cases) {
    my ($fault, $with, $status, $number, $line) = $case->@*;
    my $what = join ' ', 'fault', $fault, %$with;
    $q->reset;
    my $b  = browser();
    my $at = $site->callback_for($b);
    $q->fault(exchange => $fault, %$with);
    $site->mark;
    my $answer = $b->get($at);
    refused_ok $site, $answer, $status, $number, $what;
    is session_of($answer), undef, "$what: no session";
    ok $answer->seconds < $most, "$what: answered in time" or diag $answer->seconds;
    is $q->counters->{token}, 1, "$what: one token call, not repeated";
    is $q->counters->{elsewhere} // 0, 0, "$what: no redirect followed";
    my ($said) = grep {/\Q$number/} $site->our_log;
    like $said, $line, "$what: the log says why";
    like $answer->header('Retry-After') // '', qr/^[1-9]\d*$/, "$what: Retry-After" if $status == 503;
    is $answer->header('Retry-After'), $with->{retry_after}, "$what: Retry-After is Qonto's" if $with->{retry_after};
    like $answer->header('X-Qonto-Backend') // '', qr/not-reached/, "$what: says that the backend was not reached";

    # The way on works when Qonto does.
    $q->reset;
    my ($again) = $answer->body =~ /<a class="go" href="([^"]+)"/;
    my $end = $b->visit($again =~ s/&amp;/&/gr);
    is $end->url, $site->url('/app/page'), "$what: Start again ends on the page" or diag $end->story;
}
is_deeply [grep { index($site->log, $_) >= 0 } map { $_->@* } values $q->issued->%*], [], 'no secret in the log';

# Answers that are odd, but good enough.
my %fine = (
    'token_type in capitals'  => { token_type => 'BEARER' },
    'no scope'                => { scope => undef },
    'no expires_in'           => { expires_in => undef },
    'expires_in of 3599'      => { expires_in => 3599 },
    'no refresh_token'        => { refresh_token => undef },
    'unknown members'         => { extra => { a => [1, 2] }, number => 1 },
);
for my $what (sort keys %fine) {
    $q->set(token_answer => $fine{$what});
    my $b = browser();
    is $b->visit($site->url('/app/x'))->status, 200, $what;
}
my %bad = (
    'no access_token'               => { access_token => undef },
    'an empty access_token'         => { access_token => '' },
    'an access_token of a number'   => { access_token => 5 },
    'a line end in access_token'    => { access_token => "a\r\nX: y" },
    'another token_type'            => { token_type => 'mac' },
    'an expires_in that is over'    => { expires_in => -1 },
);
for my $what (sort keys %bad) {
    $q->set(token_answer => $bad{$what});
    my $answer = browser()->visit($site->url('/app/x'));
    is $answer->status, 502, $what or diag $answer->story;
    is session_of($answer), undef, "$what: no session";
}

done_testing;
