# The same trip with every kind of store: sign in, sign out, two hits on one callback, strangers
# that flood it with logins. A store that promises less says so at the start.

use v5.36;
use Qonto::Test;
use Qonto::Rig;

my ($memcached) = grep {-x} map {"$_/memcached"} qw(/usr/bin /usr/local/bin), split /:/, $ENV{PATH} // '';
my $rig = rig(
    httpd => { modules => [qw(socache_dbm socache_memcache)] },
    conf  => sub ($rig) {
        return qonto($rig->standin, QontoSessionStore => $rig->{store}, QontoTimeout => '2s 5s')
            . join('', map { proxied($_, $rig->backend) } qw(/app/ /open/)) . protected('/app/')
            . qq{<Location "/qonto/logout">\nSetHandler qonto-logout\n</Location>\n};
    },
);
mkdir $rig->root . '/logs/dbm';
chmod 0777, $rig->root . '/logs/dbm';

my %memcached;
sub start_memcached () {
    my $port = $memcached{port} //= Qonto::Test::free_port();
    my @as   = $> == 0 ? (-u => 'nobody') : ();
    $memcached{pid} = fork // die "fork: $!\n";
    if (!$memcached{pid}) {
        open STDERR, '>', '/dev/null';
        exec $memcached, @as, -l => '127.0.0.1', -p => $port, -U => 0, -m => 16 or die "$memcached: $!\n";
    }
    wait_until(10, sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") }) or die "memcached does not start\n";
    return;
}

sub stop_memcached () {
    my $pid = delete $memcached{pid} or return;
    kill KILL => $pid;
    waitpid $pid, 0;
    return;
}

END { my $status = $?; stop_memcached(); $? = $status }

my @stores = (
    [lmdb  => 'lmdb:@root@/store', 0],
    [shmcb => 'shmcb:@root@/logs/qonto_shm(2000000)', 1],
    # Berkeley DB writes bytes it never set, which valgrind reports.
    ($ENV{QO_HTTPD} // '') =~ /valgrind/ ? () : [dbm => 'dbm:@root@/logs/dbm/qonto', 1],
    $memcached ? [memcache => undef, 1] : (),
);
my $light = ($ENV{QO_SLOW} || 1) > 1;

sub token_calls () { return $rig->standin->counters->{token_code} // 0 }

for my $store (@stores) {
    my ($name, $text, $promises_less) = $store->@*;
    start_memcached() if $name eq 'memcache';
    $rig->{store} = $text // "memcache:127.0.0.1:$memcached{port}";
    $rig->conf($rig->{conf});
    $rig->httpd->clear_log;
    ok eval { $rig->httpd->start; 1 }, "$name: httpd starts" or do { diag $@; next };

    # --- what it says ---

    # httpd listens before it has said all.
    my @caveat;
    my $said = sub { @caveat = grep { /QO0071/ && !/:debug\]/ && /\b$name\b/i } log_lines($rig->httpd->error_log) };
    wait_until($promises_less ? 5 : 0.1, $said);
    is scalar(@caveat) ? 1 : 0, $promises_less, $promises_less ? "$name says what it cannot promise" : "$name promises all"
        or diag join "\n", log_lines($rig->httpd->error_log);
    like $caveat[0] // '', qr/\[qonto_oauth:(?:warn|notice|info)\]/, 'as no error' if $promises_less;

    # --- the trip ---

    my $user = browser();
    sign_in($user, $rig->url('/app/x'));
    my $token = token_of($rig->backend);
    my @met = map { $rig->backend->clear; $user->get($rig->url('/app/x'))->status . ' ' . (token_of($rig->backend) // '') } 1 .. 12;
    is_deeply \@met, [("200 $token") x 12], "$name: signed in, whichever process answers";
    my $other = browser();
    sign_in($other, $rig->url('/app/x'));
    isnt token_of($rig->backend), $token, 'two visitors, two tokens';
    ok $other->post($rig->url('/qonto/logout'))->status < 400, 'one signs out';
    my %answers = map { $other->get($rig->url('/app/x'))->status => 1 } 1 .. 8;
    is_deeply [keys %answers], [302], 'and is out, whichever process answers';
    is $user->get($rig->url('/app/x'))->status, 200, 'the other is not';

    # --- many hits on one callback, at once ---

    for my $round (1 .. ($light ? 2 : 12)) {
        my $browser = browser();
        my $callback = $browser->follow_until($browser->get($rig->url('/app/same')), qr{/qonto/callback});
        my $before = token_calls();
        my @answers = at_once($browser, $callback, 10);
        is token_calls() - $before, 1, "$name: ten hits on one callback, one token call";
        my @good = grep { $_->status == 302 && $_->location eq $rig->url('/app/same') } @answers;
        cmp_ok scalar @good, '>=', 1, 'and one way on' or diag join ' ', map { $_->status } @answers;
        is scalar(grep { $_->status >= 500 } @answers), 0, 'no failure' or diag join ' ', map { $_->status } @answers;
        is $browser->visit($rig->url('/app/same'))->status, 200, 'the visitor is in';
    }
    my $browser = browser();
    my $callback = $browser->follow_until($browser->get($rig->url('/app/again')), qr{/qonto/callback});
    my $stranger = browser(jar => undef);
    my $before = token_calls();
    like $stranger->get($callback)->status, qr/^4/, "$name: another browser gets nothing";
    $browser->follow($browser->get($callback));
    $browser->get($callback);
    is token_calls() - $before, 1, 'a reload makes no second token call';

    # --- strangers begin logins without end ---

    my $waiting = browser();
    my $mine = $waiting->follow_until($waiting->get($rig->url('/app/waiting')), qr{/qonto/callback});
    my @status;
    for (1 .. ($light ? 5 : 30)) {
        my @flying = map { $stranger->begin(GET => $rig->url('/app/flood')) } 1 .. 20;
        push @status, map { $stranger->finish($_)->status } @flying;
    }
    is scalar(grep { $_ != 302 } @status), 0, "$name: every stranger is sent to Qonto";
    is $user->get($rig->url('/app/x'))->status, 200, 'a flood of logins pushes nobody out';
    is $waiting->follow($waiting->get($mine))->status, 200, 'nor ends a login that began before it';

    outage($user) if $name eq 'memcache';
    $rig->httpd->stop;
    is_deeply [crashes($rig->httpd->error_log)], [], "$name: no crash";
}

# The same request many times, in the same instant: all of them wait for their last byte.
sub at_once ($browser, $url, $count) {
    my ($host, $path) = $url =~ m{^http://([^/]+)(.*)};
    my $cookies = join '; ', map { join '=', $_->@* } $browser->cookies($url);
    my $text = "GET $path HTTP/1.1\r\nHost: $host\r\nAccept: text/html\r\nCookie: $cookies\r\nConnection: close\r\n\r";
    my @flying = map { $browser->begin_raw($url, $text) } 1 .. $count;
    select undef, undef, undef, slow(0.05);
    syswrite $_->{socket}, "\n" for @flying;
    return map { $browser->finish($_) } @flying;
}

# memcached away is no log-out.
sub outage ($user) {
    my $cookie = join '; ', map { join '=', $_->@* } $user->cookies($rig->url('/app/'));
    stop_memcached();
    my @wrong;
    for (1 .. 12) {
        my $answer = $user->get($rig->url('/app/x'));
        push @wrong, $answer->status if $answer->status != 503 || $answer->headers('Set-Cookie')
            || ($answer->header('Retry-After') // '') !~ /^\d+$/;
        select undef, undef, undef, 0.1;
    }
    is_deeply \@wrong, [], 'memcached stopped: 503 with Retry-After and no Set-Cookie, every time';
    is $user->get($rig->url('/open/x'))->status, 200, 'open pages are there';
    is browser()->get($rig->url('/app/x'))->status, 503, 'no login begins';
    is join('; ', map { join '=', $_->@* } $user->cookies($rig->url('/app/'))), $cookie, 'the cookie stays';

    start_memcached();
    my $back = wait_until(30, sub { my $status = browser()->get($rig->url('/app/x'))->status; $status == 302 });
    ok $back, 'memcached started: logins begin again';
    # It forgot everything, as the caveat says; that is not an outage.
    # Each process finds out for itself that it is back.
    my $in = 0;
    wait_until(30, sub { $in = ($user->visit($rig->url('/app/x'))->status == 200 ? $in + 1 : 0); return $in >= 8 });
    is $in, 8, 'and visitors get in, for good';
    return;
}

ok $memcached, 'memcached is installed (the package memcached brings it)';

done_testing;
