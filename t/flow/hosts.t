# A visitor who came by another name of the host ends signed in on the redirect URI's host.
use v5.36;
use Qonto::Test;

my $site = site('hosts');
my $q    = $site->standin;

# The redirect URI says 127.0.0.1; the visitor says localhost.
my $b    = browser();
my $page = $b->visit($site->url('/app/x?y=1&z=a%20b', 'localhost'));
is $page->status, 200, 'localhost: signed in' or diag $page->story;
is $page->url, $site->url('/app/x?y=1&z=a%20b'), '- on the host of the redirect URI, on the page asked for';
is $q->counters->{token_ok}, 1, '- after one exchange';
my ($first) = $page->chain;
is_deeply [$first->headers('Set-Cookie')], [], '- without a cookie on the wrong host';
is Qonto::Test::Url::origin($first->location), Qonto::Test::Url::origin($site->url), '- which only leads to the right one';
like $first->header('Cache-Control') // '', qr/\bno-store\b/, '- no-store';

# Odd spellings of the right host are the right host.
for my $host ('127.0.0.1:' . $site->port, "127.0.0.1.:" . $site->port) {
    my $c = browser(timeout => 10);
    my $answer = $c->get($site->url('/app/x'), Host => $host);
    like $answer->header('Location'), qr{^\Q@{[$q->url]}\E/|^\Q@{[$site->url('/')]}\E}, "Host: $host stays in its circle";
}

# A stranger's Host header makes no address.
for my $host ('evil.test', 'evil.test:' . $site->port, 'evil.test@127.0.0.1', "127.0.0.1:1\@evil.test", '') {
    my $answer = browser()->get($site->url('/app/x'), Host => $host);
    unlike $answer->header('Location') // '', qr/evil/, "Host: '$host' is not repeated";
}
for my $name ('X-Forwarded-Host', 'Forwarded') {
    my $answer = browser()->get($site->url('/app/x'), $name => $name eq 'Forwarded' ? 'host=evil.test' : 'evil.test');
    unlike $answer->header('Location') // '', qr/evil/, "$name is not repeated";
}

# Scripts on the wrong host are not sent around.
is browser()->fetch($site->url('/app/x', 'localhost'))->status, 401, 'fetch on the other host: 401';
is browser()->post($site->url('/app/x', 'localhost'), { a => 1 })->status, 401, 'POST on the other host: 401';

# Behind a front proxy that tells us another Host: no loop. (mod_proxy adds X-Forwarded-Host.)
my $front = 'http://127.0.0.1:' . $site->port('site_front');
my $d     = browser();
my $end   = eval { $d->visit("$front/app/x?y=1") };
is $@, '', 'a front proxy that rewrites Host: no loop';
is $end && $end->status, 200, '- signed in' or diag $end && $end->story;
is $end && $end->url, "$front/app/x?y=1", '- at the front';

# And when nobody says which host the visitor used, straight at the server behind.
my $behind = 'http://127.0.0.1:' . $site->port('site_behind');
my $blind  = browser(connect => { '127.0.0.1:' . $site->port('site_front') => '127.0.0.1:' . $site->port('site_behind') });
$end = eval { $blind->visit("$front/app/x", Host => "behind.internal:" . $site->port('site_behind')) };
my $last = $@ || $end->story;
ok $end, 'every request with the Host of the server behind: no loop' or diag $last;

done_testing;
