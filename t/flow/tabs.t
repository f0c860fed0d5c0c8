# Ten tabs started at once by a browser with no cookie: all end on their own page.
use v5.36;
use Qonto::Test;

my $site = site('tabs');
my $b    = browser();
my @pages = map {"/app/tab$_?n=$_"} 1 .. 10;

my @begun = map { $b->begin(GET => $site->url($_)) } @pages;
my @away  = map { $b->finish($_) } @begun;
is scalar(grep { $_->status == 302 } @away), 10, 'all are sent to Qonto';
is scalar($b->cookies($site->callback)), 10, 'ten log-ins side by side';
is scalar($b->cookies($site->url('/app'))), 0, 'other requests do not carry them';

# At Qonto, and back at once.
my @back    = map { $b->get($_->location) } @away;
my @flights = map { $b->begin(GET => $_->location) } @back;
my @home    = map { $b->finish($_) } @flights;
is_deeply [map { $_->location } @home], [map { $site->url($_) } @pages], 'each leads to its own page';
my @ends = map { $b->get($_->location)->status } @home;
is_deeply \@ends, [(200) x 10], 'and opens it';

# The same, one after the other; log-ins that come later find a session and ask Qonto no more.
my $c = browser();
my @later = map { $c->get($_->location)->location } map { $c->get($site->url($_)) } @pages;
my $before = $site->token_calls;
my @one = map { $c->get($_) } @later;
is_deeply [map { $_->location } @one], [map { $site->url($_) } @pages], 'one after the other, too';
is $site->token_calls - $before, 1, 'one token call';
is scalar($c->cookies($site->callback)), 1, 'nothing is left of the ten log-ins but the session'
    or diag explain [$c->cookies($site->callback)];

# With Qonto's own limit of one log-in at a time in a browser.
$site->standin->set(csrf_collision => 1);
my $d = browser();
my @first  = map { $d->get($site->url($_)) } @pages[0, 1];
my @second = map { $d->get($_->location) } @first;
my @third  = map { $d->follow($_) } @second;
is_deeply [map { $_->url } @third], [map { $site->url($_) } @pages[0, 1]], 'both end on their page all the same'
    or diag map { $_->story } @third;

done_testing;
