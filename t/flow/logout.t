# The end of a session: here first, then at Qonto as well as may be.
use v5.36;
use Qonto::Test;

my $site = site('logout');
my ($q, $out) = ($site->standin, $site->url('/qonto/logout'));

sub signed_in () {
    my $b = browser();
    $b->visit($site->url('/app/x'))->status == 200 or die "not signed in\n";
    my ($token) = $site->backend->got('X-Qonto-Logout');
    return $b, $token;
}
sub is_out ($b, $old, $what) {
    is $old->fetch($site->url('/app/x'))->status, 401, "$what: the session is over, for copies of the cookie, too";
    is_deeply [grep { $_->[0] eq 'qonto' } $b->cookies], [], "$what: the cookie is deleted";
}
sub is_in ($b, $what) { is $b->fetch($site->url('/app/x'))->status, 200, "$what: the session lives" }

# POST from a page of the site.
my ($b) = signed_in();
my $old = $b->clone;
my ($access, $refresh) = map { $q->issued->{$_}[-1] } qw(access_token refresh_token);
my $answer = $b->post($out);
like $answer->status, qr/^(?:200|30[23])$/, 'POST ends the session' or diag $answer->story;
like $answer->header('Cache-Control'), qr/\bno-store\b/, '- no-store';
my ($deleted) = grep {/^qonto=/} $answer->headers('Set-Cookie');
like $deleted, qr/;\s*Max-Age=0/i, '- the cookie is deleted';
like $deleted, qr/;\s*Path=\/(?:;|$)/i, '- with the attributes it had';
like $deleted, qr/;\s*HttpOnly/i, '- all of them';
is_out $b, $old, 'POST';
is $q->counters->{revoke}, 1, '- revoked at Qonto';
my $revoke = $q->last('revoke');
is $revoke->{params}{token}, $refresh, '- the refresh token, so the whole chain';
is_deeply [sort keys $revoke->{params}->%*], [sort grep { exists $revoke->{params}{$_} } qw(client_id client_secret token token_type_hint)],
    '- with the credentials in the body';
ok !(grep {/^authorization:/i} $revoke->{headers}->@*), '- and not in a header';

# The documents of this: a link with the session's token (QontoPass logout).
($b, my $token) = signed_in();
$old = $b->clone;
like $token, qr/^[A-Za-z0-9_-]{20,}$/, 'the backend gets a token for links';
isnt $token, (map { $_->[1] } $b->cookies)[0], '- that is not the session cookie';
my $asks = $b->get($out);
is $asks->status, 200, 'GET without it only asks';
like $asks->body, qr/<form[^>]+method="post"/i, '- with a form';
is_in $b, '- GET';
my ($field) = grep { $b->get("$out?$_=" . 'A' x length $token)->status == 403 } qw(token logout logout_token csrf key);
is $field, 'token', 'GET with a wrong token is refused';
is_in $b, '- GET with a wrong token';
my ($other, $theirs) = signed_in();
is $b->get("$out?token=$theirs")->status, 403, "GET with another session's token is refused";
is_in $b, "- with another session's token";
$answer = $b->get("$out?token=$token&return=/open/bye");
is $answer->status, 302, 'GET with the token ends the session' or diag $answer->story;
is $answer->location, $site->url('/open/bye'), '- and leads to the return page';
is_out $b, $old, 'GET with the token';

# Other sites cannot do it.
($b) = signed_in();
for my $strange (['Sec-Fetch-Site' => 'cross-site', Origin => 'http://evil.test'],
    ['Sec-Fetch-Site' => 'same-site', Origin => 'http://sub.127.0.0.1'],
    ['Sec-Fetch-Site' => undef, Origin => 'http://evil.test'],
    ['Sec-Fetch-Site' => undef, Origin => 'null'],
    ['Sec-Fetch-Site' => undef, Origin => $site->url('') . '.evil.test']) {
    $site->mark;
    my $refused = $b->post($out, {}, $strange->@*);
    my $what = join ' ', map { $_ // '-' } $strange->@*;
    is $refused->status, 403, "POST of another site ($what)" or diag $refused->story;
    like $site->log, qr/QO0007/, '- the log says so';
    is_in $b, "- $what";
}
is $b->post($out, {}, 'Sec-Fetch-Site' => undef, Origin => undef)->status =~ /^(?:200|30[23]|403)$/, 1, 'a client without any of these is answered';

# Without a session it is no mistake.
my $none = browser()->post($out);
like $none->status, qr/^(?:200|30[23])$/, 'POST without a session';
is browser()->get("$out?return=/open/bye")->status =~ /^(?:200|302)$/, 1, 'GET without a session';

# Qonto fails in every way: the session ends, the visitor does not wait for long.
for my $fault (qw(hang 500 401 rst html)) {
    ($b) = signed_in();
    $old = $b->clone;
    $q->fault(revoke => $fault);
    $site->mark;
    $answer = $b->post($out);
    like $answer->status, qr/^(?:200|30[23])$/, "revocation meets '$fault': the visitor is answered" or diag $answer->story;
    ok $answer->seconds < slow(4.5), '- in time' or diag $answer->seconds;
    is_out $b, $old, "- $fault";
    ok((grep {/revo|QO00/i} $site->our_log), '- the log says so');
    $q->reset;
}

# While Qonto hangs, the session is over already.
($b) = signed_in();
$old = $b->clone;
$q->fault(revoke => 'hang');
my $flight = $b->begin(POST => $out, ['Sec-Fetch-Site' => 'same-origin', 'Content-Length' => 0]);
ok wait_until(1.5, sub { $old->fetch($site->url('/app/x'))->status == 401 }), 'the session ends before Qonto is asked';
$b->finish($flight);
$q->reset;

# Other methods.
is browser()->request('DELETE', $out)->status, 405, 'DELETE is not log-out';

is_deeply [grep { index($site->log, $_) >= 0 } map { $_->@* } values $q->issued->%*], [], 'no token in the log';
done_testing;
