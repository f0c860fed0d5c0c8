# The "Connect with Qonto" link: qonto-connect, its parameters, and a visitor who is signed in already.
use v5.36;
use Qonto::Test;

my $site = site('connect', standin => {
    organizations => [
        { id => 'org-one', slug => 'one', registration_id => 'reg-1' },
        { id => 'org-two', slug => 'two', registration_id => 'reg-2' },
    ],
});
my $q = $site->standin;
my $connect = sub ($query) { $site->url("/qonto/connect?$query") };

# The sample of Qonto's documentation.
my $b  = browser();
my $to = $b->get($connect->('return=/app/x%3Fy%3D1%26z%3D2&organization_id=org-two&registration_id=reg-2'));
is $to->status, 302, 'sent to Qonto';
my $query = query_of($to->header('Location'));
is $query->{organization_id}, 'org-two', 'organization_id';
is $query->{registration_id}, 'reg-2',   'registration_id';
is $query->{prompt},          'consent', 'and what the server adds';
is $query->{response_type}, 'code', 'beside the required ones';
like $to->header('Cache-Control'), qr/\bno-store\b/, 'no-store';
my $page = $b->follow($to);
is $page->url, $site->url('/app/x?y=1&z=2'), 'ends on the return page';
is $page->status, 200, 'signed in' or diag $page->story;

# Without parameters.
my $plain = browser();
$query = query_of($plain->get($site->url('/qonto/connect'))->header('Location'));
ok !exists $query->{organization_id}, 'no organization unless asked for';
my $home = $plain->follow($plain->get($connect->('')));
is $home->url, $site->url('/'), 'ends on the front page';

# Nothing else can be slipped in, nothing required be changed.
my $sly = $connect->('client_id=evil&redirect_uri=http://evil.test/&scope=all&state=aaaaaaaaaa&response_type=token&prompt=none'
        . '&code_challenge=x&identity_type=user&foo=bar&organization_id=org-one');
$query = query_of(browser()->get($sly)->header('Location'));
is $query->{client_id},     'qonto-client',     'client_id stays';
is $query->{redirect_uri},  $site->callback,    'redirect_uri stays';
is $query->{scope},         'offline_access organization.read', 'scope stays';
is $query->{response_type}, 'code',             'response_type stays';
is $query->{prompt},        'consent',          'prompt stays';
isnt $query->{state},       'aaaaaaaaaa',       'state stays ours';
ok !exists $query->{$_}, "no $_" for qw(identity_type foo);
is $query->{organization_id}, 'org-one', 'organization_id is taken';
for my $bad ('return=/a&return=/b', 'organization_id=a&organization_id=b', 'return=%zz', 'organization_id=a%0ab',
    'organization_id=a%26scope%3Dall', 'registration_id=a%23%2F') {
    is browser()->get($connect->($bad))->status, 400, "refused: $bad";
}

# Signed in, and connecting another organization: a new session, the old cookie is dead.
my $old = $b->clone;
my ($before) = map { $_->[1] } grep { $_->[0] eq 'qonto' } $b->cookies;
my $again = $b->visit($connect->('return=/app/other&organization_id=org-one'));
is $again->status, 200, 'connected again' or diag $again->story;
is $again->url, $site->url('/app/other'), '- on the return page';
is $q->counters->{token_ok}, 3, '- by a log-in of its own';
my ($after) = map { $_->[1] } grep { $_->[0] eq 'qonto' } $b->cookies;
isnt $after, $before, '- with a new session';
is_deeply [$site->backend->got('Authorization')], ["Bearer " . $q->issued->{access_token}[-1]], '- and the new token';
my $dead = $old->get($site->url('/app/x'));
is $dead->status, 302, 'the old cookie opens nothing any more';
is $old->fetch($site->url('/app/x'))->status, 401, '- for scripts neither';

# Methods and strangers.
is browser()->fetch_request('POST', $site->url('/qonto/connect'), 'Content-Length' => 0)->status, 405, 'POST is not for links';
my $image = browser()->get($site->url('/qonto/connect'), 'Sec-Fetch-Mode' => 'no-cors', 'Sec-Fetch-Dest' => 'image');
isnt $image->status, 302, 'an image cannot start a log-in' or diag $image->head;

done_testing;
