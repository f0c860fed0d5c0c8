# What no visitor can show of a store over httpd's socache providers: leases, and a log-out
# that wins over who is about to write. t/store/mod_store_try.c makes the calls, in a real
# httpd's processes.

use v5.36;
use Qonto::Test;
use Qonto::Httpd;
use Time::HiRes ();

my ($OK, $NOT_FOUND, $CONFLICT, $BUSY) = (0, numbers(qw(NOT_FOUND CONFLICT BUSY)));
my ($memcached) = grep {-x} map {"$_/memcached"} qw(/usr/bin /usr/local/bin), split /:/, $ENV{PATH} // '';
my $probe = "$ENV{QO_TOP_BUILDDIR}/.libs/store_try.so";
ok -f $probe, 'the module that calls the store is built' or BAIL_OUT('make unit-programs');
ok $memcached, 'memcached is installed (the package memcached brings it)';

# Their places in the table of qo_error.h.
sub numbers (@names) {
    open my $file, '<', "$ENV{QO_TOP_SRCDIR}/mod_qonto_oauth/qo_error.h" or die "qo_error.h: $!\n";
    my @rows = map { /^\s*X\((\w+), \d+/ ? $1 : () } <$file>;
    my %at; @at{@rows} = 1 .. @rows;
    return map { $at{$_} // die "qo_error.h has no $_\n" } @names;
}

my $cache;    # pid of memcached

sub start_memcached () {
    my $port = Qonto::Test::free_port();
    my @as   = $> == 0 ? (-u => 'nobody') : ();
    $cache = fork // die "fork: $!\n";
    if (!$cache) {
        open STDERR, '>', '/dev/null';
        exec $memcached, @as, -l => '127.0.0.1', -p => $port, -U => 0, -m => 16 or die "$memcached: $!\n";
    }
    wait_until(10, sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") }) or die "memcached does not start\n";
    return "memcache:127.0.0.1:$port";
}

END {
    my $status = $?;
    if ($cache) { kill KILL => $cache; waitpid $cache, 0 }
    $? = $status;
}

my $httpd;
my $browser = browser(jar => undef);

# Several processes, so that calls meet in the store and nowhere else.
sub start ($spec) {
    $httpd = Qonto::Httpd->new(load => 0, modules => [qw(socache_dbm socache_memcache)], conf => <<~"CONF");
        LoadModule store_try_module $probe
        <IfModule mpm_prefork_module>
            StartServers 4
        </IfModule>
        <IfModule !mpm_prefork_module>
            StartServers 3
            ServerLimit 4
            ThreadsPerChild 12
            MaxRequestWorkers 48
            MaxSpareThreads 48
        </IfModule>
        StoreTry $spec
        <Location "/">
            SetHandler store-try
        </Location>
        CONF
    mkdir $httpd->root . '/logs/dbm';
    chmod 0777, $httpd->root . '/logs/dbm';
    return $httpd->start;
}

sub begin (@call) { return $browser->begin(GET => $httpd->url('/?' . join ',', @call)) }

# (status, what else was said)
sub end_of ($flight) {
    my $answer = $browser->finish($flight);
    my ($said, $status, $why) = $answer->body =~ /^(?:(.*) )?=(\d+) (.*)$/s or die 'store-try: ' . $answer->body . "\n";
    note $why if length $why;
    return $status, $said;
}

sub call (@call) { return end_of(begin(@call)) }
sub status (@call) { return (call(@call))[0] }

# The first fields of what acquire said: generation and nonce, 1 + 8 and 16 bytes in.
sub attempt ($lease) { return substr $lease // '', 2, 48 }

my $key = 0;

sub deletions ($name) {
    my $k = ++$key;
    is status(delete => $k, 0), $NOT_FOUND, "$name: who is not there is not deleted";
    is status(create => $k, 600, 60, 'first'), $OK, 'a session';
    is status(replace => $k, 1, 0, 'second'), $OK, 'its tokens are renewed';
    is status(delete => $k, 1), $CONFLICT, 'an older version is not deleted';
    is status(get => $k), $OK, 'the session is there';
    is status(delete => $k, 2), $OK, 'this version is';
    my %never = (get => [], replace => [2, 0, 'late'], touch => [], acquire => [2, 5000], delete => [0]);
    is status($_ => $k, $never{$_}->@*), $NOT_FOUND, "a tombstone: $_ finds nothing" for sort keys %never;
    is status(create => $k, 600, 60, 'again'), $CONFLICT, 'nor is another made in its place';
    is status(create => ++$key, 600, 60, 'other'), $OK, 'another session';
    is status(delete => $key, 0), $OK, 'is deleted whatever its version';
    is status(get => $key), $NOT_FOUND, 'and gone';
    return;
}

sub leases ($name) {
    my $k = ++$key;
    is status(acquire => $k, 1, 5000), $NOT_FOUND, "$name: no lease without a session";
    call(create => $k, 600, 0, 'first');
    my ($status, $mine) = call(acquire => $k, 1, 5000);
    is $status, $OK, 'a lease';
    my @others = map { [call(acquire => $k, 1, 5000)] } 1 .. 10;
    is_deeply [map { [$_->[0], attempt($_->[1])] } @others], [([$CONFLICT, attempt($mine)]) x 10],
        'the others are told whose it is, whichever process they ask';
    is status(release => $k, $OK, 0, $others[0][1] =~ s/^(.{18})..../$1ffff/r), $CONFLICT, 'another attempt does not end it';
    is status(get => $k), $OK, 'the session can be read';
    is status(release => $k, $BUSY, 300, $mine), $OK, 'it failed';
    my ($refused, $why) = call(acquire => $k, 1, 5000);
    is $refused, $CONFLICT, 'nobody tries again at once';
    is hex substr($why, -8), 32, 'and all know why: QO0032';
    is hex substr($why, -16, 8), 1, 'and how often';
    my $next;
    ok wait_until(5, sub { ($status, $next) = call(acquire => $k, 1, 300); $status == $OK }), 'but after the pause';
    is hex substr($next, -16, 8), 1, 'the failure is remembered';
    is status(release => $k, $OK, 0, $mine), $CONFLICT, 'the first holder cannot end it any more';
    ok wait_until(5, sub { ($status, $mine) = call(acquire => $k, 1, 20000); $status == $OK }), 'a lease ends by itself';
    is status(acquire => $k, 2, 20000), $OK, "an older generation's is in nobody's way";
    is status(release => $k, $OK, 0, $mine), $CONFLICT, 'and lost';
    is status(acquire => $k, 1, 20000), $CONFLICT, 'an older generation gets none any more';
    call(delete => $k, 0);
    is status(acquire => $k, 2, 20000), $NOT_FOUND, 'a log-out ends it too';
    return;
}

# Of many that ask in the same instant, in all processes, one gets it; again and again.
sub races ($name) {
    my @winners;
    for my $round (1 .. 8) {
        my $k = ++$key;
        call(create => $k, 600, 0, 'first');
        my @answers = map { [end_of($_)] } map { begin(acquire => $k, 1, 20000) } 1 .. 16;
        push @winners, scalar grep { $_->[0] == $OK } @answers;
    }
    is_deeply \@winners, [(1) x 8], "$name: sixteen at once, one lease";
    return;
}

# The one who holds it is killed: nobody waits for the end of the lease.
sub deaths ($name) {
    my $k = ++$key;
    call(create => $k, 600, 0, 'first');
    my ($status, $lease) = call(acquire => $k, 1, 60000);
    is $status, $OK, "$name: a lease for a minute";
    my $holder = hex substr $lease, 2 * (1 + 8 + 16 + 16), 8;
    kill KILL => $holder or die "process $holder: $!\n";
    ok wait_until(5, sub { eval { status(acquire => $k, 1, 60000) == $OK } }), 'its holder is killed, and another has it';
    return;
}

# The mutex outlives a graceful restart: who holds it in the old generation keeps out the new.
sub restarts ($name) {
    my $holding = begin(hold => ++$key, slow(2) * 1000);
    Time::HiRes::sleep(0.3);
    $httpd->graceful;
    my $asked = int 1e6 * Time::HiRes::time();
    my ($status, $new);
    wait_until(10, sub { ($status, $new) = call(hold => ++$key, 0); $status == $OK });
    my ($was, $old) = end_of($holding);
    is $was, $OK, "$name: the mutex is held through a graceful restart";
    my ($until, $since) = ($old =~ /-(\d+)/, $new =~ /^(\d+)/);
    cmp_ok $asked, '<', $until, 'the new generation asks for it meanwhile';
    cmp_ok $since, '>=', $until, 'and waits';
    return;
}

my @stores = (
    ['shmcb', 'shmcb:logs/try(2000000)'],
    # Berkeley DB writes bytes it never set, which valgrind reports.
    ($ENV{QO_HTTPD} // '') =~ /valgrind/ ? () : ['dbm', 'dbm:logs/dbm/try'],
    ['memcache'],
);
for my $store (@stores) {
    my ($name, $spec) = $store->@*;
    start($spec // start_memcached());
    deletions($name);
    leases($name);
    races($name);
    if ($name ne 'shmcb') {
        my $k = ++$key;
        call(create => $k, 600, 0, 'first');
        is status(plant => $k, 1), $OK, "$name: a lease of another boot, whose clock had come further";
        is status(acquire => $k, 1, 5000), $OK, 'is in nobody\'s way';
    }
    deaths($name);
    restarts($name);
    $httpd->stop;
}

done_testing;
