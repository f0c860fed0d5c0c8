# The callback needs no Location of its own, and may lie where visitors may not go.
use v5.36;
use Qonto::Test;

my $site = site('places');
my $q    = $site->standin;

sub through ($port, $path, $what) {
    my $b    = browser();
    my $root = 'http://127.0.0.1:' . $site->port($port);
    my $page = $b->visit("$root$path");
    is $page->status, 200, "$what: signed in" or diag $page->story;
    is $page->url, "$root$path", "$what: on the page";
    return $b, $root;
}

my ($b, $root) = through('site_port', '/app/x?a=1', 'the callback inside a protected location');
($b, $root) = through('site_all', '/deep/x', 'everything is protected');
is $b->get("$root/")->status, 200, '- and open now';
is $b->get("$root/cb/x")->status, 200, '- what lies below the callback is the backend\'s';
is $b->get("$root/cbx")->status, 200, '- and what begins like it';
($b, $root) = through('site_denied', '/app/x', 'everything else is denied');
is $b->get("$root/elsewhere")->status, 403, '- elsewhere stays denied';
is $b->get("$root/no/where")->status, 403, '- also beside the callback';

# The callback is the path itself, in its own spelling.
my $open = 'http://127.0.0.1:' . $site->port('site_denied');
for my $path ('/no/where/cb/', '/no/where/cb/x', '/no/where/CB', '/no/where/c', '/NO/where/cb') {
    is browser()->get("$open$path?code=a&state=b")->status, 403, "$path is not the callback";
}

# The backend never sees a callback.
$site->backend->clear;
browser()->get('http://127.0.0.1:' . $site->port('site_all') . "/cb$_") for '', '?code=a&state=b', '?x';
is $site->backend->count, 0, 'the backend sees no callback';

done_testing;
