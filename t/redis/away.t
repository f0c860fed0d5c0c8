# A Redis that cannot answer is no log-out: 503 with Retry-After at once for who brings a session,
# whose cookie stays; open pages do not notice; and within a second of its return all is well.

use v5.36;
use Qonto::Redis;
use Qonto::Test;
use Qonto::Rig;
use IO::Select ();
use Time::HiRes ();

my $key   = 'k3y-of-the-server-0123456789-0123456789';
my $redis = redis(conf => "appendonly yes\nappendfsync always\n");
my $rig   = rig(conf => sub ($rig) {
    return qonto($rig->standin, QontoSessionStore => $redis->url(timeout => '300ms'), QontoSessionKey => $key)
        . join('', map { proxied($_, $rig->backend) } qw(/app/ /open/ /pass/))
        . protected('/app/') . protected('/pass/', 'QontoUnauthenticated pass')
        . qq{<Location "/qonto/logout">\nSetHandler qonto-logout\n</Location>\n};
})->start;
my $httpd = $rig->httpd;
my $user  = browser();
sign_in($user, $rig->url('/app/x'));
my $token    = token_of($rig->backend);
my $stranger = browser(jar => undef);

# httpd's processes fail one by one, each for the first time.
sub timed ($make) {
    my $began  = Time::HiRes::time();
    my $answer = $make->();
    return $answer, Time::HiRes::time() - $began;
}

sub is_unavailable ($answer, $name) {
    is $answer->status, 503, "$name: 503" or diag substr $answer->story, 0, 600;
    like $answer->header('Retry-After') // '', qr/^\d+$/, 'Retry-After';
    is_deeply [$answer->headers('Set-Cookie')], [], 'the cookie stays';
    like join(',', $answer->headers('Cache-Control')), qr/no-store/, 'no-store';
    like $answer->body, qr/\bQO0040\b/, 'the page has its number';
    return;
}

# The answer on a socket, which is then closed: a process of httpd may wait for that.
sub finished ($browser, $select, $socket, @flying) {
    my ($flight) = grep { $_->{socket} == $socket } @flying;
    my $answer = $browser->finish($flight);
    $select->remove($socket);
    close $socket;
    return $answer;
}

sub is_away ($name) {
    $rig->backend->clear;
    $httpd->clear_log;
    my $longest = 0;
    for (1 .. 20) {
        my ($answer, $seconds) = timed(sub { $user->get($rig->url('/app/x')) });
        fail "$name: " . $answer->status if $answer->status != 503;
        $longest = $seconds if $seconds > $longest;
    }
    cmp_ok $longest, '<', slow(0.9), sprintf "$name: nobody waits for long (%.3f s)", $longest;
    # One request finds out whether it is still so; the others, of all processes, do not wait for it.
    my @flying = map { $user->begin(GET => $rig->url('/app/x')) } 1 .. 24;
    my $select = IO::Select->new(map { $_->{socket} } @flying);
    my ($began, @answers) = (Time::HiRes::time());
    while ($select->count && Time::HiRes::time() - $began < slow(0.25)) {
        push @answers, finished($user, $select, $_, @flying) for $select->can_read(0.05);
    }
    my $waiting = $select->count;
    push @answers, finished($user, $select, $_, @flying) for $select->handles;
    is scalar(grep { $_->status != 503 } @answers), 0, 'many at once: 503';
    cmp_ok $waiting, '<=', 2, "of 24 at once, $waiting wait";
    is_unavailable($user->get($rig->url('/app/x')), "$name, a page");
    is_unavailable($user->fetch($rig->url('/app/x')), "$name, a script");
    is_unavailable($user->post($rig->url('/app/x')), "$name, a form");
    is_unavailable($user->get($rig->url('/qonto/callback?code=a&state=' . 's' x 43)), "$name, the callback");
    is $rig->backend->count, 0, 'the backend was not reached';
    my $answer = $stranger->get($rig->url('/app/x'));
    ok $answer->status == 503 && defined $answer->header('Retry-After'), "$name: no login can begin"
        or diag $answer->status;
    is $stranger->fetch($rig->url('/app/x'))->status, 401, 'strangers\' scripts get their 401';
    for my $browser ($user, $stranger) {
        my ($open, $seconds) = timed(sub { $browser->get($rig->url('/open/x')) });
        is $open->status, 200, 'open pages are there';
        cmp_ok $seconds, '<', slow(0.2), 'at once';
    }
    is $stranger->get($rig->url('/pass/x'))->status, 200, '`pass` pages are there for strangers';
    my @lines = grep {/QO0040/} log_lines($httpd->error_log);
    ok scalar @lines, 'the log tells';
    like $lines[0], qr/redis at 127\.0\.0\.1:\d+: /, 'where and why' if @lines;
    return;
}

# Asked all the while, as visitors do. Every process finds out for itself, so what counts is
# since when nobody is refused any more.
sub is_back ($name) {
    my $began = Time::HiRes::time();
    my ($seconds, $healed) = (0, undef);
    while ($seconds < slow(10) && !(defined $healed && $seconds - $healed > slow(1))) {
        my $status = $user->get($rig->url('/app/x'))->status;
        $seconds = Time::HiRes::time() - $began;
        fail "$name: $status" if $status != 200 && $status != 503;
        $healed = $status == 200 ? $healed // $seconds : undef;
    }
    ok defined $healed && $healed < slow(1), sprintf '%s: healed within a second (%.3f s)', $name, $healed // -1;
    $rig->backend->clear;
    is $user->get($rig->url('/app/x'))->status, 200, 'signed in as before';
    is token_of($rig->backend) // '', $token, 'with the same token';
    sign_in(browser(), $rig->url('/app/x'));
    return;
}

# --- it hangs ---

$redis->pause;
is_away('hung');
$redis->resume;
is_back('it goes on');

# --- it is gone, and comes back with what it kept ---

$redis->stop;
is_away('gone');
$redis->start;
is_back('it is back');

# --- httpd starts without it, and says so ---

$redis->stop;
$httpd->stop;
$httpd->clear_log;
ok eval { $httpd->start; 1 }, 'httpd starts without Redis' or diag $@;
my @said = grep {/QO0071/} log_lines($httpd->error_log);
ok scalar(grep {/session store redis: redis at .*refused/} @said), 'and says so' or diag "@said";
unlike join('', @said), qr/redis-pass|pass-4711/, 'without the password';
is_away('not there yet');
is $httpd->graceful->pid, $httpd->pid, 'a reload does no harm';
$redis->start;
is_back('there at last');

# --- it was restarted while nobody looked ---

$redis->restart;
my @status = map { $user->get($rig->url('/app/x'))->status } 1 .. 20;
is_deeply \@status, [(200) x 20], 'restarted in between: nobody notices';

# --- it refuses the password ---

$redis->say(ACL => 'SETUSER', 'qonto', 'resetpass', '>another');
$redis->say(CLIENT => 'KILL', 'TYPE', 'normal');
is_unavailable($user->get($rig->url('/app/x')), 'password refused');
ok scalar(grep {/QO0040.*refuses the user or the password/} log_lines($httpd->error_log)), 'as the log tells';
$httpd->clear_log;
$httpd->graceful;
ok scalar(grep {/QO0071.*refuses the user or the password/} log_lines($httpd->error_log)), 'at a start as well';
$redis->say(ACL => 'SETUSER', 'qonto', 'resetpass', '>' . $redis->password);
is_back('the password is right again');

# --- it evicts ---

$redis->say(CONFIG => 'SET', 'maxmemory-policy', 'allkeys-lru');
$httpd->clear_log;
$httpd->graceful;
ok scalar(grep {/QO0071.*noeviction/} log_lines($httpd->error_log)), 'a Redis that throws sessions away is told of';
$redis->say(CONFIG => 'SET', 'maxmemory-policy', 'noeviction');

# --- back, but empty: now the session really is over ---

$redis->stop;
is $user->get($rig->url('/app/x'))->status, 503, 'gone once more';
$redis->{conf} = '';
$redis->start;
my $over = 0;
wait_until(5, sub { $over = $user->get($rig->url('/app/x'))->status == 302 ? $over + 1 : 0; $over == 10 });
is $over, 10, 'back and empty: sign in again';
sign_in($user, $rig->url('/app/x'));
is_deeply [crashes($httpd->error_log)], [], 'no crash';
unlike $httpd->error_log, qr/redis-pass|pass-4711/, 'the password is in no line';

done_testing;
