use v5.36;

use FindBin;
use lib "$FindBin::Bin/../lib", $FindBin::Bin;

use Qonto::StandIn;
use Test::More;
use Visitor;

my $q = Qonto::StandIn->start;
my $v = Visitor->new($q);

subtest 'success' => sub {
    my $got = $v->authorize;
    like $got->{code}, qr/^ory_ac_[\w-]{43}\.[\w-]{43}$/, 'a code';
    is $got->{state}, 'a-long-enough-state', 'the state';
    is $got->{scope}, 'offline_access organization.read', 'and, as Qonto does, the granted scope';
    is $v->http->get($v->authorize_url)->{status}, 302, 'by 302';
    $q->set(redirect_status => 303);
    is $v->http->get($v->authorize_url)->{status}, 303, 'or by 303';
    $q->set(redirect_status => 302);
};

subtest 'no way back: the person stays here' => sub {
    my $unknown = $v->authorize(client_id => 'somebody');
    is $unknown->{status}, 404, 'unknown client';
    like $unknown->{content}, qr/Client not found/, 'said so';
    for my $uri (undef, 'http://example.com/callback', 'https://example.com/callback#part', 'ftp://localhost/', 'callback') {
        is $v->authorize(redirect_uri => $uri)->{status}, 400, 'redirect_uri ' . ($uri // 'missing');
    }
};

subtest 'registered callbacks' => sub {
    $q->set(redirect_uris => ['https://app.example/callback', 'http://127.0.0.1:1/callback', 'http://localhost:1/callback']);
    my $answer_to = sub ($uri) { return $v->http->get($v->authorize_url(redirect_uri => $uri))->{status} };
    is $answer_to->('https://app.example/callback'),  302, 'the registered one';
    is $answer_to->('https://app.example/callback/'), 400, 'strings are compared';
    is $answer_to->('http://127.0.0.1:2/callback'),   302, 'the port of a loopback address may vary';
    is $answer_to->('http://localhost:2/callback'),   400, 'that of localhost may not';
    $q->set(redirect_uris => undef);
};

subtest 'a query in the callback is kept' => sub {
    my $answer = $v->http->get($v->authorize_url(redirect_uri => 'https://app.example/cb?a=b'));
    like $answer->{headers}{location}, qr{^https://app\.example/cb\?a=b&code=}, 'kept';
};

subtest 'errors at the callback' => sub {
    my $error = sub (%change) { return $v->authorize(%change)->{error} };
    is $error->(state => undef),                'invalid_state',             'no state';
    is $error->(state => 'short77'),            'invalid_state',             'state shorter than 8';
    is $error->(response_type => 'token'),      'unsupported_response_type', 'other response type';
    is $error->(prompt => 'surprise'),          'invalid_request',           'unknown prompt';
    is $error->(code_challenge => 'x' x 43),    'invalid_request',           'a challenge without method is "plain"';
    is $error->(code_challenge => 'x' x 43, code_challenge_method => 'plain'), 'invalid_request', 'plain is off';
    my $twice = Visitor::at_callback($v->http->get($v->authorize_url . '&state=another-state'));
    is $twice->{error}, 'invalid_request', 'a parameter twice';

    $q->set(scope_policy => ['organization.read']);
    my $refused = $v->authorize;
    is $refused->{error}, 'invalid_scope', 'a scope outside the policy fails everything';
    like $refused->{error_description}, qr/not allowed to request scope 'offline_access'/, 'and is named';
    is $refused->{state}, 'a-long-enough-state', 'state comes back with errors';
    $q->set(scope_policy => undef, pkce => 'required');
    is $error->(), 'invalid_request', 'PKCE can be required';
    $q->set(pkce => 'optional');
};

subtest 'refusal' => sub {
    $q->set(mode => 'refuse');
    is $v->authorize->{error}, 'access_denied', 'refused';
    $q->set(refuse_error => 'some_new_error', refuse_hint => 'Because.');
    my $refused = $v->authorize;
    is $refused->{error}, 'some_new_error', 'with any name';
    like $refused->{error_description}, qr/Because\.$/, 'and any hint';
    $q->set(mode => 'auto');
};

subtest 'two log-ins in one browser collide (Hydra issue 3757)' => sub {
    $q->set(csrf_collision => 1);
    my ($first, $second) = map { $v->http->get($v->authorize_url(state => "state-number-$_")) } 1, 2;
    my ($cookie) = $second->{headers}{'set-cookie'} =~ /^([^;]+)/;
    isnt $cookie, ($first->{headers}{'set-cookie'} =~ /^([^;]+)/)[0], 'one cookie name, two values';
    my $go_on = sub ($step, %header) {
        return Visitor::at_callback($v->http->get($step->{headers}{location}, { headers => \%header }));
    };
    my $earlier = $go_on->($first, Cookie => $cookie);
    is $earlier->{error}, 'request_forbidden', 'the earlier one fails';
    like $earlier->{error_description}, qr/CSRF value from the token does not match/, 'by CSRF';
    is $earlier->{state}, 'state-number-1', 'with its own state';
    ok $go_on->($second, Cookie => $cookie)->{code}, 'the later one succeeds';
    is $go_on->($second, Cookie => $cookie), undef, 'once';
    my $third = $v->http->get($v->authorize_url);
    like $go_on->($third)->{error_description}, qr/No CSRF value available/, 'no cookie at all';
    $q->set(csrf_collision => 0);
};

my $counters = $q->counters;
ok $counters->{authorize} > 20, 'counted';
is $counters->{authorize_access_denied}, 1, 'by outcome too';

done_testing;
