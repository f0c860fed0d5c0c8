# Two client secrets side by side: the second is tried once, and the log says which one works. Each
# process of httpd remembers that, so what must not have happened before has an httpd of its own.
use v5.36;
use Qonto::Rig;
use Qonto::Test;

my $site = site('secret');    # QontoClientSecret retired-secret qonto-secret
my $q    = $site->standin;    # knows qonto-secret only

sign_in(browser(), $site->url('/app'));
is $q->counters->{token}, 2, 'two calls';
is $q->counters->{token_invalid_client}, 1, '- the first secret is refused';
is $q->counters->{token_ok}, 1, '- the second works';
like $site->log, qr/second|next/i, 'the log says which one works';
unlike $site->log, qr/retired-secret|qonto-secret/, 'without telling them';

# Both are wrong: two calls, then the end.
$q->reset;
$q->set(client_secret => 'changed-once-more');
$site->mark;
my $answer = browser()->visit($site->url('/app'));
refused_ok $site, $answer, 500, 'QO0031', 'both are refused';
is $q->counters->{token}, 2, 'two calls';
is session_of($answer), undef, 'no session';

# The first one works: nobody asks for the second.
my $rig = rig(conf => sub ($rig) {
    return qonto($rig->standin, QontoClientSecret => 'qonto-secret next-secret') . protected('/app')
        . proxied('/app', $rig->backend);
})->start;
$q = $rig->standin;
sign_in(browser(), $rig->url('/app'));
is $q->counters->{token}, 1, 'one call when the first works';

# Another failure is no reason to try the second.
$q->reset;
$q->fault(exchange => 'invalid_grant');
browser()->visit($rig->url('/app'));
is $q->counters->{token}, 1, 'one call for invalid_grant';

done_testing;
