# Only a page visit starts a log-in. Everything else gets 401: no redirect, no cookie, no state.
use v5.36;
use Qonto::Test;

my $site = site('navigation');
my $url  = $site->url('/app/x');

sub answered ($status, $what, $method, @headers) {
    my $b      = browser();
    my $answer = $b->request($method, $url, [@headers], $method eq 'POST' ? 'a=1' : undef);
    is $answer->status, $status, "$what: $status" or diag $answer->head;
    like $answer->header('Cache-Control') // '', qr/\bno-store\b/, "$what: no-store";
    return if $status == 302;
    is_deeply [$answer->headers('Set-Cookie')], [], "$what: no cookie";
    is $answer->header('Location'), undef, "$what: leads nowhere";
    like $answer->header('X-Qonto-Backend') // '', qr/not-reached/, "$what: says that the backend was not reached";
    return;
}

my @old = ('Sec-Fetch-Mode' => undef, 'Sec-Fetch-Dest' => undef, 'Sec-Fetch-Site' => undef, 'Sec-Fetch-User' => undef);
my $html = 'text/html,application/xhtml+xml,*/*;q=0.8';

answered 302, 'a visit', 'GET';
answered 302, 'a visit from another site', 'GET', 'Sec-Fetch-Site' => 'cross-site';
answered 302, 'a visit without Sec-Fetch-User', 'GET', 'Sec-Fetch-User' => undef;
answered 302, 'an old browser', 'GET', @old, Accept => $html;
answered 302, 'names in other capitals', 'GET', @old, 'ACCEPT' => 'TEXT/HTML';

answered 401, 'fetch',               'GET', 'Sec-Fetch-Mode' => 'cors', 'Sec-Fetch-Dest' => 'empty';
answered 401, 'fetch of the site',   'GET', 'Sec-Fetch-Mode' => 'same-origin', 'Sec-Fetch-Dest' => 'empty';
answered 401, 'an image',            'GET', 'Sec-Fetch-Mode' => 'no-cors', 'Sec-Fetch-Dest' => 'image', Accept => 'image/*';
answered 401, 'a script',            'GET', 'Sec-Fetch-Mode' => 'no-cors', 'Sec-Fetch-Dest' => 'script';
answered 401, 'an iframe',           'GET', 'Sec-Fetch-Dest' => 'iframe';
answered 401, 'a frame',             'GET', 'Sec-Fetch-Dest' => 'frame';
answered 401, 'an object',           'GET', 'Sec-Fetch-Dest' => 'object';
answered 401, 'a prefetch',          'GET', 'Sec-Purpose' => 'prefetch';
answered 401, 'a prerender',         'GET', 'Sec-Purpose' => 'prefetch;prerender';
answered 401, 'an old prefetch',     'GET', 'Purpose' => 'prefetch';
answered 401, "an old Firefox's",    'GET', @old, Accept => $html, 'X-Moz' => 'prefetch';
answered 401, 'a WebSocket',         'GET', 'Sec-Fetch-Mode' => 'websocket', 'Sec-Fetch-Dest' => 'websocket',
    Upgrade => 'websocket', Connection => 'Upgrade', 'Sec-WebSocket-Key' => 'x3JJHMbDL1EzLkh9GBhXDw==', 'Sec-WebSocket-Version' => 13;
answered 401, 'an old WebSocket',    'GET', @old, Accept => undef, Upgrade => 'websocket', Connection => 'Upgrade';
answered 401, 'XMLHttpRequest of old', 'GET', @old, 'X-Requested-With' => 'XMLHttpRequest', Accept => $html;
answered 401, 'an API client',       'GET', @old, Accept => 'application/json';
answered 401, 'curl',                'GET', @old, Accept => '*/*';
answered 401, 'a client without Accept', 'GET', @old, Accept => undef;
answered 401, 'an event stream',     'GET', @old, Accept => 'text/event-stream';
answered 401, 'HTML refused',        'GET', @old, Accept => 'application/json, text/html;q=0';
answered 401, 'a type like HTML',    'GET', @old, Accept => 'text/html-x';
answered 401, 'HEAD',                'HEAD';
answered 401, 'a form',              'POST', 'Content-Type' => 'application/x-www-form-urlencoded';
answered 401, 'PUT',                 'PUT', 'Content-Length' => 0;
answered 401, 'DELETE',              'DELETE';
answered 401, 'OPTIONS',             'OPTIONS', Origin => 'http://evil.test', 'Access-Control-Request-Method' => 'GET';
answered 401, 'an unknown method',   'PURGE';

is $site->backend->count, 0, 'the backend saw none of them';
is $site->standin->counters->{authorize} // 0, 0, 'neither did Qonto';

# Signed in, all of them are served.
my $b = browser();
sign_in($b, $url);
is $b->fetch($url)->status, 200, 'fetch of a signed-in page';
is $b->head($url)->status, 200, 'HEAD';
is $b->post($url, { a => 1 })->status, 200, 'POST';
is $site->backend->last->{body}, 'a=1', '- with its body';
is $b->request('DELETE', $url)->status, 200, 'DELETE';

done_testing;
