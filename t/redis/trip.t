# The whole trip with sessions in Redis, as the user that the manual describes, over each kind of
# connection: sign in, restart httpd, sign out, two hits on one callback, a flood of logins. What
# Redis keeps opens nothing, and the password stands nowhere.

use v5.36;
use Qonto::Redis;
use Qonto::Test;
use Qonto::Rig;

my $key   = 'k3y-of-the-server-0123456789-0123456789';
my $redis = redis();
my $rig   = rig(conf => sub ($rig) {
    return qonto($rig->standin, QontoSessionStore => $rig->{store}, QontoSessionKey => $key)
        . join('', map { proxied($_, $rig->backend) } qw(/app/ /open/)) . protected('/app/')
        . qq{<Location "/qonto/logout">\nSetHandler qonto-logout\n</Location>\n}
        . qq{<Location "/server-info">\nSetHandler server-info\n</Location>\n};
});
my $httpd = $rig->httpd;
my $file  = $httpd->write('store.url', $redis->url =~ tr/"//dr . "\n", 0600);
my $light = ($ENV{QO_SLOW} || 1) > 1;

sub token_calls () { return $rig->standin->counters->{token_code} // 0 }

my @stores = (
    ['TCP'           => $redis->url],
    ['a unix socket' => $redis->unix_url(pool => 2)],
    ['a file'        => "file:$file"],
    ['a command'     => qq{"exec:/bin/cat $file"}],
);
my $user = browser();
for my $store (@stores) {
    my $name = $store->[0];
    $rig->{store} = $store->[1];
    $rig->conf($rig->{conf});
    $httpd->clear_log;
    ok eval { $httpd->start; 1 }, "$name: httpd starts" or do { diag $@; next };
    is_deeply [grep {/QO0071/} log_lines($httpd->error_log)], [], 'and has nothing to complain of';

    my $page = $user->visit($rig->url('/app/x'));
    is $page->status, 200, "$name: signed in";
    is scalar(my @chain = $page->chain), 1, 'as the same Redis was told before' if $name ne 'TCP';
    my $token = token_of($rig->backend);
    my @met = map { $rig->backend->clear; $user->get($rig->url('/app/x'))->status . ' ' . (token_of($rig->backend) // '') } 1 .. 12;
    is_deeply \@met, [("200 $token") x 12], 'whichever process answers';
    $httpd->restart;
    is $user->get($rig->url('/app/x'))->status, 200, "$name: httpd restarted";
    $httpd->graceful;
    is $user->get($rig->url('/app/x'))->status, 200, "$name: reloaded";

    my $other = browser();
    sign_in($other, $rig->url('/app/x'));
    my ($cookie) = map { join '=', $_->@* } $other->cookies($rig->url('/app/x'));
    ok $other->post($rig->url('/qonto/logout'))->status < 400, "$name: another signs out";
    my %answers = map { browser(jar => undef)->get($rig->url('/app/x'), Cookie => $cookie)->status => 1 } 1 .. 8;
    is_deeply [keys %answers], [302], 'and is out, with the old cookie, too';

    unlike $httpd->error_log, qr/redis-pass|pass-4711|QO0040/, 'no password in the log, and no failure';
    my $info = $user->get($rig->url('/server-info'))->body;
    like $info, qr/QontoSessionStore/, 'mod_info shows the directive';
    unlike $info, qr/redis-pass|pass-4711/, 'and not the password';
    $httpd->stop;
    my ($status, $said) = $httpd->check('-DDUMP_CONFIG');
    unlike $said, qr/redis-pass|pass-4711/, 'nor does DUMP_CONFIG';
    is_deeply [crashes($httpd->error_log)], [], "$name: no crash";
}

# --- what Redis keeps ---

my @keys = $redis->say(KEYS => '*');
cmp_ok scalar @keys, '>=', 3, 'Redis has keys';
is_deeply [grep { !/^qonto:(?:[ot]|[sp]:[\w-]{43})$/ } @keys], [], 'all of them ours, by hashes';
my ($cookie) = map { $_->[1] } $user->cookies($rig->url('/app/x'));
my $all = join "\n", map { /:[sp]:/ ? ($_, $redis->say(GET => $_)) : () } @keys;
for my $secret ([cookie => $cookie], [token => token_of($rig->backend)], [scope => 'organization.read'], [path => '/app/']) {
    is index($all, $secret->[1] // die), -1, "no $secret->[0] can be read there";
}
my @lives = map { $redis->say(PTTL => $_) =~ s/^://r } @keys;
is scalar(grep { $_ <= 0 || $_ > 30 * 86400_000 } @lives), 0, 'nothing is kept for ever';

# --- many hits on one callback, at once; strangers without end ---

$rig->{store} = $redis->url;
$rig->conf($rig->{conf})->httpd->start;
for my $round (1 .. ($light ? 2 : 8)) {
    my $browser = browser();
    my $callback = $browser->follow_until($browser->get($rig->url('/app/same')), qr{/qonto/callback});
    my $before = token_calls();
    my @flying  = map { $browser->begin(GET => $callback) } 1 .. 10;
    my @answers = map { $browser->finish($_) } @flying;
    is token_calls() - $before, 1, 'ten hits on one callback, one token call';
    is scalar(grep { $_->status >= 500 } @answers), 0, 'no failure' or diag join ' ', map { $_->status } @answers;
    is $browser->visit($rig->url('/app/same'))->status, 200, 'the visitor is in';
}
my $waiting  = browser();
my $mine     = $waiting->follow_until($waiting->get($rig->url('/app/waiting')), qr{/qonto/callback});
my $stranger = browser(jar => undef);
my @status;
for (1 .. ($light ? 5 : 30)) {
    my @flying = map { $stranger->begin(GET => $rig->url('/app/flood')) } 1 .. 20;
    push @status, map { $stranger->finish($_)->status } @flying;
}
is scalar(grep { $_ != 302 } @status), 0, 'every stranger is sent to Qonto';
is $user->get($rig->url('/app/x'))->status, 200, 'a flood of logins pushes nobody out';
is $waiting->follow($waiting->get($mine))->status, 200, 'nor ends a login that began before it';

# --- no memory left ---

my ($used) = ($redis->say(INFO => 'memory'))[0] =~ /used_memory:(\d+)/;
$redis->say(CONFIG => 'SET', 'maxmemory', int($used / 2));
my $answer = browser()->visit($rig->url('/app/x'));
is $answer->status, 503, 'Redis is full: no new sign-in' or diag $answer->story;
like $answer->header('Retry-After') // '', qr/^\d+$/, 'come back later';
is $user->get($rig->url('/app/x'))->status, 200, 'who is in is in';
ok $user->post($rig->url('/qonto/logout'))->status < 400, 'and can sign out';
is $user->get($rig->url('/app/x'))->status, 503, 'is out, and cannot come back yet';
$redis->say(CONFIG => 'SET', 'maxmemory', 0);
sign_in($user, $rig->url('/app/x'));
is_deeply [crashes($httpd->error_log)], [], 'no crash';

done_testing;
