# Callbacks that do not belong to a log-in of this browser: a page, no token call, no session.
use v5.36;
use Qonto::Test;

my $site = site('state');
my $q    = $site->standin;
my $url  = $site->callback;
my $new  = sub { my $b = browser(); my $at = $site->callback_for($b); return $b, $at, query_of($at) };

sub refused ($b, $to, $number, $what, $status = 400) {
    $site->mark;
    my $answer = ref $to ? $to->($b) : $b->get($to);
    refused_ok $site, $answer, $status, $number, $what;
    is session_of($answer), undef, '- no session';
    unlike $site->log, qr/QO0060/, '- nobody signed in';
    return $answer;
}

my ($b, $at, $has) = $new->();
my $code = $has->{code};

refused $b, $url,                              'QO0011', 'neither code nor error nor state';
refused $b, "$url?code=$code",                 'QO0011', 'no state';
refused $b, "$url?code=$code&state=",          'QO0012', 'an empty state';
refused $b, "$url?code=$code&state=" . 'x' x 43, 'QO0012', 'a made-up state';
refused $b, "$url?code=$code&state=" . 'x' x 4000, 'QO0012', 'a huge state';
refused $b, "$url?code=$code&state=%00%0a<script>", 'QO0010', 'a state of strange bytes';
refused $b, "$url?code=$code&state=$has->{state}x", 'QO0012', 'a longer state';
refused $b, "$url?error=access_denied",        'QO0011', 'an error without a state';
refused $b, "$url?error=access_denied&state=" . 'y' x 43, 'QO0012', 'an error with a made-up state';

# Doubled and contradictory parameters; the log-in itself is not used up by them.
refused $b, "$at&state=$has->{state}",         'QO0010', 'state twice';
refused $b, "$at&code=$code",                  'QO0010', 'code twice';
refused $b, "$at&%63ode=other",                'QO0010', 'code twice, once escaped';
refused $b, "$at&error=access_denied",         'QO0010', 'code and error';
refused $b, "$url?state=$has->{state}&error=a&error=b", 'QO0010', 'error twice';
refused $b, "$url?state=$has->{state}",        'QO0010', 'neither code nor error';
refused $b, "$url?state=$has->{state}&code=",  'QO0010', 'an empty code';

# Another browser, which has log-ins of its own as well.
my ($other) = $new->();
refused $other,    $at, 'QO0014', 'the state of another browser';
refused browser(), $at, 'QO0014', 'a browser without cookies';
my $forger = browser(jar => undef);
my ($name) = map { $_->[0] } $b->cookies($at);
refused $forger, sub ($f) { $f->get($at, Cookie => "$name=" . 'A' x 22) }, 'QO0014', 'a forged cookie';
my ($mine) = map {"$_->[0]=$_->[1]"} $other->cookies($at);
refused $forger, sub ($f) { $f->get($at, Cookie => $mine =~ s/^[^=]+/$name/r) }, 'QO0014', 'the cookie of another log-in';

# Other methods than a visit.
for my $method (qw(POST PUT DELETE OPTIONS)) {
    my $answer = $b->request($method, $at, ['Content-Length' => 0]);
    is $answer->status, 405, "$method is not a visit";
    like $answer->header('Allow') // '', qr/\bGET\b/, '- Allow';
}
my $head = $b->head($at);
ok $head->status >= 200 && $head->status < 500, 'HEAD is answered' or diag $head->head;
is session_of($head), undef, '- but starts no session';

is $site->token_calls, 0, 'no token call for any of these';
is $site->backend->count, 0, 'the backend saw none of them';

# After all that, the browser that began the log-in can end it; what it does not know is ignored.
my $answer = $b->get("$at&session_state=1&iss=https%3A%2F%2Fx&scope2=a&foo=bar&foo=baz&%3Cb%3E");
is $answer->status, 302, 'the real one still works, unknown parameters ignored' or diag $answer->story;
is $answer->location, $site->url('/app/page'), '- and leads to the page';
is $site->token_calls, 1, 'one token call';

# Junk of a kind that must not crash.
for my $query ('?', '?&&&', '?=', '?state', '?%', '?state=%zz&code=%', '?' . 'a=b&' x 500, '?' . 'a' x 7000) {
    my $junk = browser()->get("$url$query");
    is $junk->status, 400, 'junk: ' . substr $query, 0, 20;
}

# One answer for an unknown state and an expired one, and a link to begin anew.
my $page = browser()->get("$url?code=x&state=" . 'z' x 43);
my ($again) = $page->body =~ /<a class="go" href="([^"]+)"/;
is +(Qonto::Test::Url::origin($again))[0], $site->url('') =~ s{/$}{}r, 'Start again stays here';

done_testing;
