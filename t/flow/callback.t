# Back from Qonto: the page first asked for, as the visitor; what happens to reloads and replays.
use v5.36;
use Qonto::Test;

my $site = site('callback');
my ($q, $backend) = ($site->standin, $site->backend);
my $b    = browser();
my $path = '/app/books;v=1/x?q=a%20b&c=d+e&empty=&x=%2F%3F%26&u=http://x/';
my $callback = $site->callback_for($b, $path);
my ($pending) = map { $_->[0] } $b->cookies($callback);

my $answer = $b->get($callback);
is $answer->status, 302, 'the callback leads on';
is $answer->location, $site->url($path), 'to the page first asked for, query and all';
like $answer->header('Cache-Control'), qr/\bno-store\b/, 'no-store';
is $answer->header('Referrer-Policy'), 'no-referrer', 'the code goes to nobody';
my @set = $answer->headers('Set-Cookie');
my ($session) = grep {/^qonto=/} @set;
like $session, qr/^qonto=[A-Za-z0-9_-]{43};/, 'a session cookie of 256 bits';
is_deeply [sort map {lc} grep { !/^qonto=/ } split /;\s*/, $session], [sort 'path=/', 'httponly', 'samesite=lax'],
    'Path=/, HttpOnly, Lax';
ok((grep {/^\Q$pending\E=;.*\bMax-Age=0\b/} @set), 'the cookie of the log-in is deleted') or diag "@set";
is_deeply [$b->cookies($callback)], [$b->cookies($site->url('/'))], 'and gone from the browser';

# What the backend is told.
my $ours = session_of($answer);
my $page = $b->get($answer->location, 'Cookie' => "theirs=1; $ours; also=\"x y\"; qontology=2");
is $page->status, 200, 'the page';
is $backend->last->{path}, $path, 'at the path as it was written';
my $token = $q->issued->{access_token}[0];
is_deeply [$backend->got(qr/^authorization$/i)], ["Bearer $token"], 'one Authorization header: the access token';
is_deeply [$backend->got('X-Qonto-Scope')], ['offline_access organization.read'], 'the granted scopes';
my ($expires) = $backend->got('X-Qonto-Expires');
ok abs($expires - time - 3600) < 30, 'when the access token expires' or diag $expires;
is scalar(() = $backend->got('X-Qonto-User')), 1, 'a user';
is_deeply [$backend->got(qr/^cookie$/i)], ['theirs=1; also="x y"; qontology=2'], 'other cookies, but none of ours';
unlike $backend->last->{head}, qr/\Q$ours\E|refresh|ory_rt_/, 'no session, no refresh token';
like $page->header('Cache-Control'), qr/\bprivate\b/, 'the page is private';
unlike $page->head, qr/\Q$token/, 'no token in the answer';

# Without other cookies there is no Cookie header at all.
$b->get($site->url('/app/x'));
is_deeply [$backend->got(qr/^cookie$/i)], [], 'no empty Cookie header';

# Stricter words of the backend stay.
is $b->get($site->url('/app/x?say-header=Cache-Control:%20no-store'))->header('Cache-Control'), 'no-store',
    'no-store of the backend stays';
my $loose = $b->get($site->url('/app/x?say-header=Cache-Control:%20public,%20max-age=60'));
like join(', ', $loose->headers('Cache-Control')), qr/\bprivate\b/, 'public becomes private';
unlike join(', ', $loose->headers('Cache-Control')), qr/\bpublic\b|s-maxage/, 'and says so once';

# Reload of the callback by a signed-in browser: the page, no second exchange.
my $reload = $b->get($callback);
is $reload->status, 302, 'reload';
is $reload->location, $site->url($path), 'to the page again';
is session_of($reload), undef, 'the session stays as it is';
is $site->token_calls, 1, 'one exchange in all';

# The same address without the session: a page that leads on.
$site->mark;
my $replay = browser()->get($callback);
refused_ok $site, $replay, 400, (reference_of($replay))[0] // 'QO0013', 'replay in another browser';
is session_of($replay), undef, 'no session';
is $site->token_calls, 1, 'still one exchange';

# Who has the log-in's cookie, but no session, replays it.
my $thief = browser(jar => undef);
my $cookie = "$pending=" . 'A' x 22;
$site->mark;
refused_ok $site, $thief->get($callback, Cookie => $cookie), 400,
    (reference_of($thief->get($callback, Cookie => $cookie)))[0] // 'QO0013', 'replay with a made-up cookie';
is $site->token_calls, 1, 'still one exchange';

# Whatever a path is made of, the way back is the way there, byte for byte.
for my $way ('/app/a%20b', '/app/%C3%A9t%C3%A9', "/app/'()*!\$,:@;=", '/app/100%25', '/app/a%3Fb%23c', '/app//two///three',
    '/app/%5Bx%5D?y=%5B%5D', '/app/a%2Bb+c', '/app?', '/app/x??y=?') {
    my $c = browser();
    my $end = $c->visit($site->url($way));
    is $end->url, $site->url($way), "$way comes back as it is" or next;
    is $end->status, 200, '- and is served';
}

done_testing;
