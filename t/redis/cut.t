# The network between httpd and Redis is cut: by taking the link down, and by losing every packet.
# Everything happens in two network namespaces of this test's own, joined by a cable; the machine's
# network is not touched. Making them takes root.

use v5.36;
use Time::HiRes ();

# The rest runs in a namespace that has nothing but what is made below.
if (!$ENV{QO_CUT}) {
    $> == 0 or die "redis/cut.t: only root can make network namespaces; t/TEST leaves it out for others\n";
    $ENV{QO_CUT} = 1;
    exec 'unshare', '-n', '--', $^X, __FILE__ or die "unshare (package util-linux): $!\n";
}

use Qonto::Redis;
use Qonto::Test;
use Qonto::Rig;

my ($HERE, $THERE) = ('192.0.2.1', '192.0.2.2');    # RFC 5737: nobody's

sub ip (@words) {
    system('ip', @words) == 0 or BAIL_OUT("ip @words does not work (package iproute2)");
    return;
}

ip(qw(link set lo up));
my $key   = 'k3y-of-the-server-0123456789-0123456789';
my $redis = redis(bind => '0.0.0.0', command => ['unshare', '-n', '--']);
my @in    = ('nsenter', '-t', $redis->pid, '-n', '--');
ip(qw(link add qonto-here type veth peer name qonto-there netns), $redis->pid);
ip(qw(addr add), "$HERE/24", qw(dev qonto-here));
ip(qw(link set qonto-here up));
for my $words ([qw(addr add), "$THERE/24", qw(dev qonto-there)], [qw(link set qonto-there up)], [qw(link set lo up)]) {
    system(@in, 'ip', $words->@*) == 0 or BAIL_OUT("ip @$words does not work over there");
}
isnt readlink('/proc/self/ns/net'), readlink('/proc/' . getppid . '/ns/net'), 'this is a namespace of its own';
isnt readlink('/proc/self/ns/net'), readlink('/proc/' . $redis->pid . '/ns/net'), 'and Redis is in another';

my $rig = rig(conf => sub ($rig) {
    return qonto($rig->standin, QontoSessionStore => $redis->url(host => $THERE, timeout => '300ms'), QontoSessionKey => $key)
        . join('', map { proxied($_, $rig->backend) } qw(/app/ /open/)) . protected('/app/');
})->start;
my $httpd = $rig->httpd;
is_deeply [grep {/QO0071/} log_lines($httpd->error_log)], [], 'httpd reaches Redis';
my $user = browser();
sign_in($user, $rig->url('/app/x'));
my $token = token_of($rig->backend);

sub timed ($path) {
    my $began  = Time::HiRes::time();
    my $answer = $user->get($rig->url($path));
    return $answer, Time::HiRes::time() - $began;
}

sub is_cut ($name) {
    my ($longest, $open) = (0, 0);
    my %met;
    for (1 .. 20) {
        my ($answer, $seconds) = timed('/app/x');
        $met{ $answer->status }++;
        $longest = $seconds if $seconds > $longest;
        $met{cookie}++ if $answer->headers('Set-Cookie');
        $met{patience}++ if ($answer->header('Retry-After') // '') !~ /^\d+$/;
        ($answer, $seconds) = timed('/open/x');
        $met{open}++ if $answer->status != 200;
        $open = $seconds if $seconds > $open;
    }
    is_deeply \%met, { 503 => 20 }, "$name: 503 with Retry-After, no cookie touched, open pages served" or diag explain \%met;
    cmp_ok $longest, '<', slow(0.9), sprintf 'nobody waits for long (%.3f s)', $longest;
    cmp_ok $open, '<', slow(0.2), 'open pages not at all';
    return;
}

sub is_mended ($name) {
    my $began = Time::HiRes::time();
    my ($good, $healed) = (0, undef);
    while (!$healed && Time::HiRes::time() - $began < slow(10)) {
        $good = $user->get($rig->url('/app/x'))->status == 200 ? $good + 1 : 0;
        $healed = Time::HiRes::time() - $began if $good == 10;
    }
    ok defined $healed && $healed < slow(1), sprintf '%s: healed within a second (%.3f s)', $name, $healed // -1;
    $rig->backend->clear;
    is $user->get($rig->url('/app/x'))->status, 200, 'signed in as before';
    is token_of($rig->backend) // '', $token, 'with the same token';
    sign_in(browser(), $rig->url('/app/x'));
    return;
}

# --- every packet is lost: they go to nobody's card ---

ip(qw(neigh replace), $THERE, qw(lladdr 02:00:00:00:00:99 nud permanent dev qonto-here));
is_cut('packets are lost');
ip(qw(neigh del), $THERE, qw(dev qonto-here));
is_mended('they arrive again');

# --- the other side answers into nothing ---

system(@in, qw(ip neigh replace), $HERE, qw(lladdr 02:00:00:00:00:98 nud permanent dev qonto-there)) == 0 or fail 'ip neigh';
is_cut('answers are lost');
system(@in, qw(ip neigh del), $HERE, qw(dev qonto-there)) == 0 or fail 'ip neigh';
is_mended('answers arrive again');

# --- the cable is out ---

ip(qw(link set qonto-here down));
is_cut('the link is down');
ip(qw(link set qonto-here up));
is_mended('the link is up');

# --- cut for so long that httpd has new processes ---

ip(qw(link set qonto-here down));
$httpd->restart;
is $user->get($rig->url('/app/x'))->status, 503, 'restarted while it is cut';
ip(qw(link set qonto-here up));
is_mended('then found');
is_deeply [crashes($httpd->error_log)], [], 'no crash';

done_testing;
