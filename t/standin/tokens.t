use v5.36;
use utf8;

use FindBin;
use lib "$FindBin::Bin/../lib", $FindBin::Bin;

use Digest::SHA  qw(sha256);
use JSON::PP     qw(decode_json);
use MIME::Base64 qw(decode_base64url encode_base64url);
use Qonto::StandIn;
use Test::More;
use Visitor;

my $q = Qonto::StandIn->start;
my $v = Visitor->new($q);

sub is_refused ($error, $hint, $status, $data, @) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $is_status = $error eq 'invalid_client' ? 401 : $error eq 'insufficient_entropy' ? 403 : 400;
    is $status, $is_status, "$error: $is_status";
    is $data->{error}, $error, "$error: its name";
    return like $data->{error_description}, $hint, "$error: its text";
}

subtest 'exchange' => sub {
    my ($status, $tokens, $answer) = $v->exchange($v->code);
    is $status, 200, 'granted';
    is $answer->{headers}{'content-type'}, 'application/json;charset=UTF-8', 'content type as Hydra writes it';
    is $answer->{headers}{'cache-control'}, 'no-store', 'not to be stored';
    like $tokens->{access_token},  qr/^ory_at_[\w-]{43}\.[\w-]{43}$/, 'access token';
    like $tokens->{refresh_token}, qr/^ory_rt_[\w-]{43}\.[\w-]{43}$/, 'refresh token';
    is_deeply [$tokens->@{qw(expires_in token_type scope)}], [3600, 'bearer', 'offline_access organization.read'], 'the rest';
    ok !exists $tokens->{id_token}, 'no ID token without openid';
    ok !exists $v->log_in(scope => 'organization.read')->{refresh_token}, 'no refresh token without offline_access';
};

subtest 'ID token' => sub {
    my $tokens = $v->log_in(scope => 'openid', nonce => 'a-good-nonce');
    my ($head, $claims, $signature) = map { decode_base64url($_) } split /\./, $tokens->{id_token};
    $_ = decode_json($_) for $head, $claims;
    is $head->{alg}, 'RS256', 'RS256';
    like $head->{kid}, qr/^private:/, 'kid as in Qonto\'s example';
    is_deeply $claims->{aud}, ['qonto-client'], 'aud is a list';
    is_deeply [$claims->@{qw(iss email nonce)}], [$q->url, 'zoe.martin@example.com', 'a-good-nonce'], 'iss, email, nonce';
    is $claims->{exp} - $claims->{iat}, 3600, 'an hour';
    is $claims->{at_hash}, encode_base64url(substr sha256($tokens->{access_token}), 0, 16), 'at_hash';
    ok defined $claims->{$_}, $_ for qw(sub auth_time rat sid jti);
    is length $signature, 256, 'a signature of the right size';

    $q->set(id_token_claims => { iss => 'https://oauth-sandbox.staging.qonto.co', email => undef });
    $claims = decode_json(decode_base64url((split /\./, $v->log_in(scope => 'openid')->{id_token})[1]));
    is $claims->{iss}, 'https://oauth-sandbox.staging.qonto.co', 'a claim can be replaced';
    ok !exists $claims->{email}, 'or removed';
    $q->set(id_token_claims => {});
    is_refused(insufficient_entropy => qr/nonce/, $v->exchange($v->code(scope => 'openid', nonce => 'short')));
};

subtest 'a code is good once' => sub {
    my $code = $v->code;
    my (undef, $tokens) = $v->exchange($code);
    ok $v->is_live($tokens->{access_token}), 'token works';
    is_refused(invalid_grant => qr/already been used/, $v->exchange($code));
    ok !$v->is_live($tokens->{access_token}), 'the second use revokes what came from the first';
    is_refused(invalid_grant => qr/revoked/, $v->refresh($tokens->{refresh_token}));
};

subtest 'what a code is bound to' => sub {
    is_refused(invalid_grant => qr/issued to another client\.$/, $v->exchange('ory_ac_made.up'));
    is_refused(invalid_grant => qr/"redirect_uri"/, $v->exchange($v->code, redirect_uri => $v->callback . '/'));
    my $code = $v->code;
    $q->advance(600);
    is_refused(invalid_grant => qr/expired/, $v->exchange($code));
    $q->set(clients => { one => { secret => 'secret-1' }, 'qonto-client' => { secret => 'qonto-secret' } });
    is_refused(invalid_grant => qr/does not match/,
        $v->exchange($v->code, client_id => 'one', client_secret => 'secret-1'));
    $q->set(clients => undef);
};

subtest 'PKCE' => sub {
    my $verifier = 'v' x 43;
    my %challenge = (code_challenge => encode_base64url(sha256($verifier)), code_challenge_method => 'S256');
    my ($status) = $v->exchange($v->code(%challenge), code_verifier => $verifier);
    is $status, 200, 'right verifier';
    is_refused(invalid_grant => qr/did not match/,      $v->exchange($v->code(%challenge), code_verifier => 'w' x 43));
    is_refused(invalid_grant => qr/at least 43/,        $v->exchange($v->code(%challenge)));
    is_refused(invalid_grant => qr/longer than 128/,    $v->exchange($v->code(%challenge), code_verifier => 'v' x 129));
    is_refused(invalid_grant => qr/must only contain/,  $v->exchange($v->code(%challenge), code_verifier => '+' x 43));
    is_refused(invalid_grant => qr/challenge was absent/, $v->exchange($v->code, code_verifier => $verifier));
};

subtest 'client authentication' => sub {
    is_refused(invalid_client => qr/^Client authentication failed/, $v->exchange($v->code, client_secret => 'wrong'));
    is_refused(invalid_client => qr/^Client authentication failed/, $v->exchange($v->code, client_secret => undef));
    is_refused(invalid_client => qr/does not exist/,                $v->exchange($v->code, client_id => 'nobody'));
    my $basic = $v->http->post_form($q->url . '/oauth2/token', { grant_type => 'refresh_token' },
        { headers => { Authorization => 'Basic cW9udG8tY2xpZW50OnFvbnRvLXNlY3JldA==' } });
    is_refused(invalid_client => qr/'client_secret_post', but method 'client_secret_basic'/,
        $basic->{status}, decode_json($basic->{content}));
    my $odd = 'qonto-secret &+%=é';
    $q->set(client_secret => $odd, next_secret => 'the next one');
    is((($v->exchange($v->code, client_secret => $odd))[0]), 200, 'a secret with every awkward character');
    is((($v->exchange($v->code, client_secret => 'the next one'))[0]), 200, 'the next secret works beside it');
    is $q->counters->{token_next_secret}, 1, 'and is counted';
    $q->set(client_secret => 'qonto-secret', next_secret => undef);
};

subtest 'malformed token calls' => sub {
    my $url = $q->url . '/oauth2/token';
    my $body = 'client_id=qonto-client&client_secret=qonto-secret&grant_type=refresh_token';
    my $send = sub ($type, $text) {
        my $answer = $v->http->post($url, { content => $text, headers => { 'Content-Type' => $type } });
        return $answer->{status}, decode_json($answer->{content});
    };
    is_refused(invalid_request => qr/x-www-form-urlencoded/, $send->('application/json', '{}'));
    is_refused(invalid_request => qr/'client_id' came more than once/,
        $send->('application/x-www-form-urlencoded', "$body&client_id=qonto-client"));
    is_refused(unsupported_grant_type => qr/not supported/, $v->post('/oauth2/token', grant_type => 'client_credentials'));
    is_refused(invalid_request        => qr/malformed/,     $v->post('/oauth2/token'));
    my $get = $v->http->get($url);
    is_refused(invalid_request => qr/expected 'POST'/, $get->{status}, decode_json($get->{content}));
};

subtest 'what was asked for is remembered' => sub {
    $q->reset;
    my $tokens = $v->log_in;
    is_deeply [$q->refreshes], [], 'an exchange is no refresh';
    my (undef, $second) = $v->refresh($tokens->{refresh_token});
    $v->refresh('ory_rt_unknown', client_secret => 'wrong');
    $v->refresh($second->{refresh_token});
    my @asked = $q->refreshes;
    is_deeply [map { $_->{refresh_token} } @asked], [$tokens->{refresh_token}, 'ory_rt_unknown', $second->{refresh_token}],
        'every refresh token, in order';
    is_deeply [map { $_->{client_secret} } @asked], [qw(qonto-secret wrong qonto-secret)], 'the secrets';
    ok !(grep { abs($_->{at} - time) > 5 } @asked), 'and when';
    $q->reset;
    is_deeply [$q->refreshes], [], 'until a reset';
};

subtest 'refresh rotates, and the old access token dies at once' => sub {
    my $first = $v->log_in;
    my (undef, $second) = $v->refresh($first->{refresh_token});
    isnt $second->{$_}, $first->{$_}, "new $_" for qw(access_token refresh_token);
    ok !$v->is_live($first->{access_token}), 'old access token is dead';
    ok $v->is_live($second->{access_token}), 'new one lives';
};

subtest 'the 60 s grace' => sub {
    my $first = $v->log_in;
    my (undef, $second) = $v->refresh($first->{refresh_token});
    $q->advance(59);
    my (undef, $third) = $v->refresh($first->{refresh_token});
    isnt $third->{access_token}, $second->{access_token}, 'another pair';
    ok $v->is_live($_->{access_token}), 'both live' for $second, $third;
    $q->advance(2);
    is_refused(invalid_grant => qr/The refresh token was already used\.$/, $v->refresh($first->{refresh_token}));
    ok !$v->is_live($_->{access_token}), 'a late use ends the chain' for $second, $third;
    is_refused(invalid_grant => qr/revoked/, $v->refresh($_->{refresh_token})) for $second, $third;
    $q->set(grace => 0);
    my $strict = $v->log_in;
    is((($v->refresh($strict->{refresh_token}))[0]), 200, 'without grace the first use works');
    is_refused(invalid_grant => qr/already used/, $v->refresh($strict->{refresh_token}));
    $q->set(grace => 60);
};

subtest 'lifetimes' => sub {
    my $tokens = $v->log_in;
    $q->advance(3599);
    ok $v->is_live($tokens->{access_token}), 'just before the hour';
    $q->advance(1);
    ok !$v->is_live($tokens->{access_token}), 'after it';
    my (undef, $next) = $v->refresh($tokens->{refresh_token});
    $q->advance(90 * 86_400);
    is_refused(invalid_grant => qr/expired/, $v->refresh($next->{refresh_token}));
    $q->set(access_life => 5, token_answer => { token_type => 'Bearer', expires_in => undef });
    my $odd = $v->log_in;
    is $odd->{token_type}, 'Bearer', 'parts of the answer can be replaced';
    ok !exists $odd->{expires_in}, 'or removed';
    $q->set(access_life => 3600, token_answer => {});
};

subtest 'scopes' => sub {
    my $tokens = $v->log_in;
    $q->set(scope_policy => ['offline_access']);
    is_refused(invalid_scope => qr/'organization\.read'/, $v->refresh($tokens->{refresh_token}));
    $q->set(scope_policy => undef, withheld_scopes => ['organization.read']);
    is $v->log_in->{scope}, 'offline_access', 'less may be granted than was asked for';
    $q->set(withheld_scopes => []);
};

subtest 'revocation' => sub {
    for my $kind (qw(access_token refresh_token)) {
        my ($mine, $other) = map { $v->log_in } 1, 2;
        my ($status, $body) = $v->post('/oauth2/revoke', token => $mine->{$kind});
        is $status, 200, "$kind revoked";
        is $body, '', 'with an empty answer';
        ok !$v->is_live($mine->{access_token}), 'its chain is dead';
        is_refused(invalid_grant => qr/revoked/, $v->refresh($mine->{refresh_token}));
        ok $v->is_live($other->{access_token}), 'the other one lives';
    }
    is((($v->post('/oauth2/revoke', token => 'unknown'))[0]), 200, 'an unknown token is no error');
    is_refused(invalid_client => qr/^Client/, $v->post('/oauth2/revoke', token => 'x', client_secret => 'wrong'));
};

subtest 'what the server saw and gave out' => sub {
    $q->reset;
    my $tokens = $v->log_in(scope => 'openid offline_access');
    $v->refresh($tokens->{refresh_token});
    my $seen = $q->last('refresh');
    is $seen->{method} . ' ' . $seen->{path} . ' ' . $seen->{http}, 'POST /oauth2/token HTTP/1.1', 'request line';
    is $seen->{params}{refresh_token}, $tokens->{refresh_token}, 'decoded parameter';
    like $seen->{body}, qr/(?:^|&)grant_type=refresh_token(?:&|$)/, 'raw body';
    is((grep { $_ eq 'Content-Type: application/x-www-form-urlencoded' } $seen->{headers}->@*), 1, 'raw header line');
    is $q->last('exchange')->{params}{grant_type}, 'authorization_code', 'exchange and refresh are kept apart';
    is $q->last('token')->{params}{grant_type}, 'refresh_token', 'token is the last of both';
    is $q->last('revoke'), undef, 'nothing seen there';
    my $counters = $q->counters;
    is_deeply [$counters->@{qw(token token_code token_refresh token_ok)}], [2, 1, 1, 2], 'counters';
    my $issued = $q->issued;
    for my $kind (qw(access_token refresh_token id_token)) {
        ok((grep { $_ eq $tokens->{$kind} } $issued->{$kind}->@*), "$kind is on the list of secrets");
    }
    ok scalar $issued->{code}->@*, 'so are codes';
};

done_testing;
