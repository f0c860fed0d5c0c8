# kill -9 of httpd's children in the middle of their writes to a socache store. The module
# t/store/mod_store_try.c writes and judges (t/unit/store_diary.h); this kills.
#
# memcache keeps everything. shmcb and dbm remove a record before they write it anew, so who is
# killed between may cost the session it was writing: the caveat says so. No other is lost.

use v5.36;
use Qonto::Test;
use Qonto::Httpd;
use Qonto::Rig;
use List::Util ();
use Time::HiRes ();

plan skip_all => 'processes are killed on purpose' if $ENV{QO_REPORTS} && ($ENV{QO_SLOW} || 1) >= 10;

my $KILLS   = ($ENV{QO_SLOW} || 1) > 1 ? 67 : 200;
my $WRITERS = 12;
my $ROUND   = 60;    # milliseconds
my ($memcached) = grep {-x} map {"$_/memcached"} qw(/usr/bin /usr/local/bin), split /:/, $ENV{PATH} // '';
my $probe = "$ENV{QO_TOP_BUILDDIR}/.libs/store_try.so";
ok -f $probe, 'the module that calls the store is built' or BAIL_OUT('make unit-programs');
ok $memcached, 'memcached is installed (the package memcached brings it)';

my $cache;    # pid of memcached

sub start_memcached () {
    my $port = Qonto::Test::free_port();
    my @as   = $> == 0 ? (-u => 'nobody') : ();
    $cache = fork // die "fork: $!\n";
    if (!$cache) {
        open STDERR, '>', '/dev/null';
        exec $memcached, @as, -l => '127.0.0.1', -p => $port, -U => 0, -m => 256 or die "$memcached: $!\n";
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

# New children come once a second; so there are enough for all who will be killed.
sub start ($spec) {
    my $children = $KILLS + 3 * $WRITERS;
    $httpd = Qonto::Httpd->new(load => 0, modules => [qw(socache_dbm socache_memcache)], conf => <<~"CONF");
        LoadModule store_try_module $probe
        StartServers $children
        ServerLimit $children
        <IfModule mpm_prefork_module>
            MaxRequestWorkers $children
            MinSpareServers 5
            MaxSpareServers $children
        </IfModule>
        <IfModule !mpm_prefork_module>
            ThreadsPerChild 2
            MaxRequestWorkers @{[2 * $children]}
            MinSpareThreads 5
            MaxSpareThreads @{[2 * $children]}
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

# What it said; undef if it died of it.
sub end_of ($flight) {
    my $answer = eval { $browser->finish($flight) } or return;
    my ($said, $status, $why) = ($answer->body // '') =~ /^(?:(.*) )?=(\d+) (.*)$/s or return;
    diag "QO$status $why" if $status;
    return $said // '';
}

sub call (@call) { return end_of(begin(@call)) }

# Writers all at once, and some processes die under them. How many did.
sub round ($most) {
    my @flying = map { begin(work => $_, slow($ROUND)) } 0 .. $WRITERS - 1;
    Time::HiRes::sleep(slow($ROUND) / 1000 * (0.1 + rand 0.6));
    my %ours = map { $_ => 1 } $httpd->children;
    my @workers = List::Util::shuffle(List::Util::uniq(grep { $_ && $ours{$_} } split / /, call(workers => 0) // ''));
    splice @workers, $most if @workers > $most;
    for my $pid (@workers) {
        Time::HiRes::sleep(rand 0.002);
        kill KILL => $pid;
    }
    end_of($_) for @flying;
    # Its connections end a moment before the process does.
    wait_until(10, sub { my %left = map { $_ => 1 } $httpd->children; !grep { $left{$_} } @workers })
        or diag 'killed, and still there';
    return scalar @workers;
}

# The sum of all verdicts.
sub kills ($name, $frail) {
    my ($killed, $rounds, $longest, $wrongs, %sum) = (0, 0, 0, '');
    while ($killed < $KILLS && $rounds++ < $KILLS) {
        $killed += round($KILLS - $killed);
        my $began = Time::HiRes::time();
        my $said  = call(judge => 0, $killed < $KILLS ? 0 : 1, $frail);
        my $took  = Time::HiRes::time() - $began;
        $longest = $took if $took > $longest;
        if (!defined $said) {
            diag "$name: no answer after $killed kills";
            last;
        }
        $wrongs = join ' ', $said =~ /\[(.*?)\]/g;
        my %now = split / /, $said =~ s/\[.*?\]//gr;
        $sum{$_} = /calls|wrong/ ? $now{$_} : ($sum{$_} // 0) + $now{$_} for keys %now;
    }
    diag $wrongs if length $wrongs;
    note "$name: $rounds rounds: ", join ' ', map {"$_ $sum{$_}"} sort keys %sum;
    is $killed, $KILLS, "$name: children were killed at work, and the server answers";
    cmp_ok $longest, '<', slow(10), 'soon';
    return %sum;
}

# The last: may the session be lost that a killed process was writing?
my @stores = (['shmcb', 'shmcb:logs/try(64000000)', 1], ['dbm', 'dbm:logs/dbm/try', 1], ['memcache', undef, 0]);
for my $store (@stores) {
    my ($name, $spec, $frail) = $store->@*;
    next if $ENV{ONLY} && $ENV{ONLY} ne $name;
    my $began = Time::HiRes::time();
    start($spec // start_memcached());
    my %sum = kills($name, $frail);
    my %what = (
        wrong    => 'nobody was told what cannot be',
        lost     => 'no session is lost that nobody was writing',
        back     => 'none that was ended is back',
        old      => 'none has another version than was told',
        kept_out => 'no dead process keeps a lease',
        logins   => 'pending logins are as they were',
    );
    $what{torn} = 'nor one that somebody was writing' if !$frail;
    is $sum{$_}, 0, "$name: $what{$_}" for sort keys %what;
    cmp_ok $sum{taken} // 0, '>', 0, "$name: leases were left by the dead";
    is_deeply [crashes($httpd->error_log)], [], "$name: no crash";
    $httpd->stop;
    note sprintf '%s: %.1f s', $name, Time::HiRes::time() - $began;
}

done_testing;
