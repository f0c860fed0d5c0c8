# A visitor without a session is sent to Qonto with exactly the documented parameters.
use v5.36;
use Digest::SHA  qw(sha256);
use MIME::Base64 qw(encode_base64url);
use Qonto::Test;

my $site = site('login');
my $b    = browser();
my $to   = $b->get($site->url('/app/books?a=1&b=2'));

is $to->status, 302, 'sent away';
is $to->header('Cache-Control'), 'no-store', 'not to be kept';
is $site->backend->count, 0, 'the backend saw nothing';

my ($place) = $to->header('Location') =~ /^([^?]*)\?/;
is $place, $site->standin->url . '/oauth2/auth', 'to the authorization endpoint';
my $query = query_of($to->header('Location'));
is_deeply [sort keys $query->%*],
    [sort qw(client_id redirect_uri response_type scope state code_challenge code_challenge_method)],
    'with exactly these parameters';
is $query->{client_id},             'qonto-client',                        'client_id';
is $query->{redirect_uri},          $site->callback,                       'redirect_uri as configured';
is $query->{response_type},         'code',                                'response_type';
is $query->{scope},                 'offline_access organization.read',    'scope';
is $query->{code_challenge_method}, 'S256',                                'PKCE method';
like $query->{code_challenge}, qr/^[A-Za-z0-9_-]{43}$/, 'PKCE challenge';
like $query->{state},          qr/^[A-Za-z0-9_-]{43}$/, 'state: 256 bits, url-safe';
unlike $to->header('Location'), qr/\+/, 'spaces are %20';
like $to->header('Location'), qr/[?&]scope=offline_access%20organization\.read(?:&|$)/, 'scope as it is written';
is $to->header('Location') =~ s/[^?]*\?//r =~ s/%[0-9A-F]{2}|[A-Za-z0-9._~&=-]//gr, '', 'nothing in it is unescaped';

# The cookie that binds this log-in to this browser.
my @cookies = $to->headers('Set-Cookie');
is @cookies, 1, 'one cookie';
my ($pair, @has) = split /;\s*/, $cookies[0];
is_deeply [sort map {lc} @has], [sort 'httponly', 'samesite=lax', 'max-age=1800', 'path=/qonto/callback'],
    'for the callback only, 30 minutes, HttpOnly, Lax; no Secure on http'
    or diag $cookies[0];
unlike $cookies[0], qr/\Q$query->{state}/, 'the cookie does not hold the state';
unlike $pair, qr/^__(?:Host|Secure)-/, 'no prefix on http';

# Fresh every time.
my $again = query_of($b->get($site->url('/app/books'))->header('Location'));
isnt $again->{state},          $query->{state},          'another state';
isnt $again->{code_challenge}, $query->{code_challenge}, 'another challenge';

# PKCE holds: the stand-in checks the verifier against the challenge.
my $callback_from = $b->get($site->url('/app/x'))->location;
$b->get($b->get($callback_from)->location);
my $exchange = $site->standin->last('exchange');
is $site->standin->counters->{token_ok}, 1, 'the exchange works';
like $exchange->{params}{code_verifier}, qr/^[A-Za-z0-9._~-]{43,128}$/, 'verifier';
is encode_base64url(sha256($exchange->{params}{code_verifier})), query_of($callback_from)->{code_challenge}, 'verifier fits challenge';

# RFC 6749 section 4.1.3, Qonto: a form with the credentials in the body.
is_deeply [sort keys $exchange->{params}->%*],
    [sort qw(client_id client_secret code code_verifier grant_type redirect_uri)], 'parameters of the exchange';
is $exchange->{params}{redirect_uri}, $site->callback, 'the same redirect_uri';
is $exchange->{params}{grant_type}, 'authorization_code', 'grant_type';
is $exchange->{method}, 'POST', 'POST';
is $exchange->{http}, 'HTTP/1.1', 'HTTP/1.1';
ok !(grep {/^authorization:/i} $exchange->{headers}->@*), 'no Authorization header';
ok !(grep {/staging/i} $exchange->{headers}->@*), 'no staging token in production';

# The verifier, the code and the tokens are nowhere to be read.
my @secrets = ($exchange->{params}->@{qw(code_verifier code client_secret)}, map { $_->@* } values $site->standin->issued->%*);
is_deeply [grep { index($site->log, $_) >= 0 } grep {length} @secrets], [], 'no secret in the log';
ok !(grep { index($site->log, $_) >= 0 } $query->{state}, map { $_->[1] } $b->cookies), 'no state, no cookie in it';

done_testing;
