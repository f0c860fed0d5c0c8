# Without a refresh token a session lives as long as its access token.
use v5.36;
use Qonto::Test;

my $site = site('expiry', standin => { access_life => 2, withheld_scopes => ['offline_access'] });
my $b    = browser();
sign_in($b, $site->url('/app/x'));
my $session = join ';', map { $_->[1] } $b->cookies;
my ($expires) = $site->backend->got('X-Qonto-Expires');
ok $expires - time <= 2, 'a token of two seconds';
is $b->fetch($site->url('/app/x'))->status, 200, 'good for a while';

sleep 1 while time <= $expires;
$site->backend->clear;
is $b->fetch($site->url('/app/x'))->status, 401, 'then a script gets 401';
my $visit = $b->get($site->url('/app/x?again=1'));
is $visit->status, 302, 'and a visit leads to Qonto';
is $site->backend->count, 0, 'the backend never gets a dead token';

$site->standin->set(access_life => 600);
my $page = $b->follow($visit);
is $page->status, 200, 'and back' or diag $page->story;
is $page->url, $site->url('/app/x?again=1'), 'to the page';
isnt join(';', map { $_->[1] } $b->cookies), $session, 'with a new session';
is_deeply [$site->backend->got('Authorization')], ['Bearer ' . $site->standin->issued->{access_token}[-1]], 'and a new token';

done_testing;
