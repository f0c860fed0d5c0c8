# The cookie of one virtual host opens nothing on another, though both share a store and a name.
use v5.36;
use Qonto::Test;

my $site = site('vhosts');
my $q    = $site->standin;
$q->set(clients => { 'qonto-client' => { secret => 'qonto-secret' }, 'other-client' => { secret => 'other-secret' } });
my %url = (a => $site->url('/app/x'), map { $_ => 'http://127.0.0.1:' . $site->port("site_$_") . '/app/x' } qw(b c));

my $b = browser();
sign_in($b, $url{a});
is $b->fetch($url{a})->status, 200, 'signed in on one';
is $b->fetch($url{b})->status, 401, 'the same cookie is worth nothing on another port, with the same client';
is $b->fetch($url{c})->status, 401, 'nor with another client';
is $b->fetch($url{a})->status, 200, 'and it still opens the first';

# A log-in begun on one cannot end on the other.
for my $other (qw(b c)) {
    my $c  = browser();
    my $at = $site->callback_for($c);
    my $there = $at =~ s/:\d+/':' . $site->port("site_$other")/er;
    my $calls = $site->token_calls;
    my $answer = $c->get($there);
    like $answer->status, qr/^4\d\d$/, "a callback of one on the other ($other)";
    is session_of($answer), undef, '- no session';
    is $site->token_calls, $calls, '- no token call';
    is $c->get($at)->location, $url{a} =~ s{/app/x}{/app/page}r, '- and the log-in can still end where it began';
}

# Two hosts, one browser: browsers do not keep cookies of two ports apart, tests say so.
my $d = browser();
sign_in($d, $url{c});
is $d->fetch($url{c})->status, 200, 'the other client works on its own host';
is $q->last('exchange')->{params}{client_id}, 'other-client', 'as itself';
$d->fetch($url{a});
is $d->fetch($url{c})->status, 200, 'a visit elsewhere with the wrong cookie ends nothing';

done_testing;
