# What Qonto may say at the callback in place of a code.
use v5.36;
use Qonto::Test;

my $site = site('errors');
my $q    = $site->standin;

# A browser with a pending log-in and its state; then Qonto's word for it.
sub told ($error, %more) {
    my $b  = $more{browser} // browser();
    my $to = query_of($b->get($site->url('/app/books?x=1'))->header('Location'));
    my %say = (error => $error, state => $to->{state}, $more{say} ? $more{say}->%* : ());
    $site->mark;
    return $b, $b->get($site->callback . '?' . join '&', map { encode($_) . '=' . encode($say{$_}) } sort keys %say);
}

# qonto-facts section 11, number 8.
my @expected = (
    [access_denied             => 403, 'QO0020'],
    [request_denied            => 403, 'QO0020'],
    [invalid_scope             => 500, 'QO0021'],
    [invalid_request           => 500, 'QO0021'],
    [unauthorized_client       => 500, 'QO0021'],
    [unsupported_response_type => 500, 'QO0021'],
    [temporarily_unavailable   => 503, 'QO0023'],
    [server_error              => 502, 'QO0024'],
    [something_new             => 400, 'QO0025'],
    [login_required            => 403, 'QO0020'],
);
for my $case (@expected) {
    my ($error, $status, $number) = $case->@*;
    my (undef, $answer) = told($error, say => { error_description => "Words about $error." });
    refused_ok $site, $answer, $status, $number, $error;
    is session_of($answer), undef, '- no session';
    like $site->log, qr/\b\Q$error\E\b/, '- the log names it';
    like $site->log, qr/Words about \Q$error\E/, '- and has the description';
    like $answer->header('Retry-After') // '', qr/^\d+$/, '- Retry-After' if $status == 503;
}

# A refusal by the person at Qonto, through the stand-in; Start again leads to the page first asked for.
$q->set(mode => 'refuse');
my $b    = browser();
my $page = $b->visit($site->url('/app/books?x=1'));
is $page->status, 403, 'refused at Qonto' or diag $page->story;
my ($again) = $page->body =~ /<a class="go" href="([^"]+)"/;
$q->set(mode => 'auto');
my $end = $b->visit($again =~ s/&amp;/&/gr);
is $end->status, 200, 'Start again works' or diag $end->story;
is $end->url, $site->url('/app/books?x=1'), '- and ends on the page';

# A state is used up by an error.
my ($used, $first) = told('access_denied');
my $second = $used->get($first->url);
is $second->status, 400, 'an error cannot be replayed';

# request_forbidden: another log-in of this browser at Qonto was faster. Once again, not more.
my ($c, $restart) = told('request_forbidden');
is $restart->status, 302, 'request_forbidden starts again';
my $fresh = query_of($restart->header('Location'));
is $fresh->{response_type}, 'code', '- at Qonto';
isnt $fresh->{state}, query_of($restart->url)->{state}, '- with a new state';
like $restart->header('Cache-Control'), qr/no-store/, '- no-store';
$site->mark;
my $enough = $c->get($site->callback . "?error=request_forbidden&state=$fresh->{state}");
refused_ok $site, $enough, 400, 'QO0022', 'the second time is a page';
my ($d, $second_try) = told('request_forbidden');
my $done = $d->follow($second_try);
is $done->url, $site->url('/app/books?x=1'), 'the second try can succeed and ends on the page' or diag $done->story;

# Qonto's words are anybody's words.
my $evil = q{<script>alert(1)</script>"'><img src=x onerror=alert(2)>&amp; } . 'x' x 100;
my (undef, $xss) = told('access_denied', say => { error_description => $evil, error_hint => $evil, error_uri => $evil });
is $xss->status, 403, 'a hostile description';
unlike $xss->body, qr/<script|<img|onerror=alert\(2\)>/i, '- is escaped in the page';
like $xss->body, qr/&lt;script&gt;/, '- but shown';
is scalar(grep {/QO0020/} split /\n/, $site->log), 1, '- one line in the log';
for my $control ("\r\nInjected: 1", "\nQO0060: signed in", "\x00", "\x1b[31m", "\x7f", "\xff\xfe") {
    my (undef, $answer) = told('access_denied', say => { error_description => "before${control}after" });
    my $what = encode($control);
    like $answer->status, qr/^40[03]$/, "$what in a description: a page" or diag $answer->story;
    is $answer->header('Injected'), undef, '- injects no header';
    is scalar(() = $site->log =~ /\n/g), 1, '- and no line into the log but its own'
        or diag $site->log;
    unlike $site->log, qr/[\x00-\x09\x0b-\x1f\x7f-\xff]/, '- no control characters in the log';
    unlike $answer->body, qr/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/, '- nor in the page';
}
my (undef, $named) = told('<script>alert(1)</script>', say => { error_description => 'x' });
is $named->status, 400, 'a hostile name';
unlike $named->body, qr/<script/i, '- is escaped';
my (undef, $long) = told('access_denied', say => { error_description => 'long ' x 800 });
is $long->status, 403, 'a long description';
ok length($_) < 1000, "- is cut" or diag $_ for $long->body =~ /((?:long )+)/, $site->log =~ /((?:long )+)/;
my (undef, $utf) = told('access_denied', say => { error_description => "Refus\xc3\xa9 \xe2\x82\xac" });
my $latin = ($utf->header('Content-Type') // '') !~ /utf-8/i;
like $utf->body, $latin ? qr/Refus(?:&#233;|&#xe9;|\xe9|\?+) /i : qr/Refus(?:\xc3\xa9|&#233;|&#xe9;|\?+) /i,
    'letters beyond ASCII are shown in the charset that is declared'
    or diag $utf->header('Content-Type'), $utf->body =~ /(Refus.*)/;

is $site->backend->count, 2, 'the backend saw the two successful visits only';
is $site->token_calls, 2, 'and the token endpoint';

done_testing;
