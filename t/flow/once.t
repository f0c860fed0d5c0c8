# Two hits on one callback address at the same instant, in several processes: one token call.
use v5.36;
use Qonto::Test;

my $site = site('once');
my $q    = $site->standin;
$q->set(delay => 0.05);    # so that the second hit comes while the first is at Qonto
my (%statuses, $wrong);

for my $round (1 .. 20) {
    my $b  = browser();
    my $at = $site->callback_for($b);
    my @flights = map { $b->begin(GET => $at) } 1 .. 3;
    my @answers = map { $b->finish($_) } @flights;
    $statuses{ $_->status }++ for @answers;
    my @sessions = grep {defined} map { session_of($_) } @answers;
    $wrong = "round $round: " . @sessions . ' sessions' if @sessions != 1;
    $wrong //= "round $round: " . $b->get($site->url('/app'))->status if $b->get($site->url('/app'))->status != 200;
}
is $wrong, undef, 'one session each time, and it works';
is $q->counters->{token}, 20, '20 rounds of 3 hits, 20 token calls';
is $q->counters->{token_ok}, 20, 'all of them good';
cmp_ok $statuses{302}, '>=', 20, 'one of each three at least is sent on' or diag explain \%statuses;
is_deeply [sort grep { $_ !~ /^(?:302|400)$/ } keys %statuses], [], 'the others are sent on or get a page' or diag explain \%statuses;

done_testing;
