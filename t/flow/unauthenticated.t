# QontoUnauthenticated: what a visitor without a session gets.
use v5.36;
use Qonto::Test;

my $site = site('unauthenticated');
my $q    = $site->standin;
my @set  = sub ($answer) { $answer->headers('Set-Cookie') };

is browser()->get($site->url('/app/login/x'))->status, 302, 'login: to Qonto';

# page: a button that leads through.
my $b    = browser();
my $page = $b->get($site->url('/app/page/x?y=1&z=%22%3E'));
ok $page->status == 401 || $page->status == 200, 'page: a page' or diag $page->story;
like $page->header('Cache-Control'), qr/\bno-store\b/, '- no-store';
like $page->header('Content-Type'), qr{^text/html}, '- HTML';
like $page->body, qr/Connect with Qonto/, '- with a button';
is_deeply [$page->headers('Set-Cookie')], [], '- no cookie before the button is pressed';
is $q->counters->{authorize} // 0, 0, '- nobody has been to Qonto';
my ($href) = $page->body =~ /<a class="[^"]*\bgo\b[^"]*" href="([^"]+)"/;
my $end = $b->visit($href =~ s/&amp;/&/gr, Referer => $page->url);
is $end->status, 200, 'the button leads through Qonto' or diag $end->story;
is $end->url, $site->url('/app/page/x?y=1&z=%22%3E'), 'to the page';
is $q->counters->{token_ok}, 1, 'one exchange';

# Scripts and other methods are told so; there is no button for them.
is browser()->fetch($site->url('/app/page/x'))->status, 401, 'page: fetch gets 401';
my $post = browser()->post($site->url('/app/page/x'), { a => 1 });
is $post->status, 401, 'page: POST gets 401';

# The button's address is made for this visitor's return page: it cannot be bent to another site.
for my $bent ($href . 'x', substr($href, 0, -4), $href =~ s/login=.{8}/login=AAAAAAAA/r, $href . '&return=http://evil.test/') {
    my $answer = browser()->get($bent =~ s/&amp;/&/gr);
    my $away = $answer->location // $site->url('/');
    my $fine = $answer->status == 400 || $away =~ m{^\Q@{[$q->url]}\E/|^\Q@{[$site->url('/')]}\E};
    ok $fine, 'a bent button leads nowhere else' or diag $answer->story;
}

# 401
my $refused = browser()->get($site->url('/app/refused/x'));
is $refused->status, 401, '401: 401, also for visits';
is_deeply [$refused->headers('Set-Cookie')], [], '- no cookie';
like $refused->header('Cache-Control') // '', qr/\bno-store\b/, '- no-store';
is $b->get($site->url('/app/refused/x'))->status, 200, '- but open for who is signed in';

# pass
$site->backend->clear;
my $stranger = browser()->get($site->url('/app/pass/x'), 'X-Qonto-User' => 'root', Authorization => 'Bearer stolen');
is $stranger->status, 200, 'pass: a stranger is let through';
is_deeply [$site->backend->got(qr/^x[-_.]?qonto/i)], [], '- without a name';
is_deeply [$site->backend->got(qr/^authorization$/i)], [], '- without a token';
is_deeply [$stranger->headers('Set-Cookie')], [], '- no cookie';
is $b->get($site->url('/app/pass/x'), 'x-qonto-USER' => 'root')->status, 200, 'pass: who is signed in, too';
like join(',', $site->backend->got(qr/^authorization$/i)), qr/^Bearer ory_at_/, '- with the token';
is scalar(() = $site->backend->got(qr/^x-qonto-user$/i)), 1, '- with a name';
isnt +($site->backend->got('X-Qonto-User'))[0], 'root', '- which is not forged';
is browser()->post($site->url('/app/pass/x'), { a => 1 })->status, 200, 'pass: POST of a stranger';

done_testing;
