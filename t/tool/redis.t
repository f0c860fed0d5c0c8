# qontoctl on sessions in Redis.

use v5.36;
use Qonto::Test;
use Qonto::Tool;

my ($server) = grep {-x} map {"$_/redis-server"} split /:/, $ENV{PATH} // '';
ok $server, 'redis-server is installed' or BAIL_OUT('no redis-server');

my $folder = File::Temp->newdir('redis-XXXXXX', TMPDIR => 1);
my $port   = Qonto::Test::free_port();
my ($password, $key) = map { join '', map { sprintf '%08x', rand 2**32 } 1 .. 8 } 1 .. 2;
my $redis;

sub file ($name, $text) {
    open my $file, '>', "$folder/$name" or die "$name: $!\n";
    print {$file} "$text\n";
    close $file;
    chmod 0600, "$folder/$name";
    return "$folder/$name";
}

sub start () {
    my $conf = file('redis.conf', "port $port\nbind 127.0.0.1\nsave \"\"\ndir $folder\nlogfile $folder/log\n"
        . "user default off\nuser qonto on >$password ~qonto:* +\@all\n");
    $redis = fork // die "fork: $!\n";
    if (!$redis) { exec $server, $conf or die "$server: $!\n" }
    wait_until(10, sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") }) or die "redis does not start\n";
    return;
}

sub stop () {
    kill KILL => $redis if $redis;
    waitpid $redis, 0 if $redis;
    undef $redis;
    return;
}

END { my $status = $?; stop(); $? = $status }

start();
my $url   = "redis://qonto:$password\@127.0.0.1:$port/";
my @store = ('--store' => 'file:' . file('store', $url), '--key' => 'file:' . file('key', $key));
my @audit = ('--audit' => "$folder/audit");

is qontoctl(@store, qw(sessions list))->status, 0, 'a Redis without sessions';
my @ids = write_sessions($url, "$folder/key", map({ ['ann', 'acme', 10 * $_, 3600] } 1 .. 700), ['bob', 'acme', 7300, 36_000], ['-', '-', 1, 0]);
my $renew = pop @ids;

my %shown = map { $_->{session} => $_ } my @json = qontoctl(@store, qw(sessions list --json))->json;
is scalar @json, 702, 'each is listed once';
is_deeply [sort keys %shown], [sort @ids], 'all of them';
is "$shown{ $ids[700] }{user} $shown{ $ids[700] }{organization} $shown{ $ids[700] }{generation}", 'bob acme 1', 'with what is known';
my ($stats) = qontoctl(@store, qw(sessions stats --json))->json;
is $stats->{sessions}, 702, 'counted';
like qontoctl(@store, qw(sessions show), substr $ids[700], 0, 10)->out, qr/^user +bob$/m, 'shown';
is qontoctl(@store, qw(sessions end --dry-run --user ann))->status, 0, 'would end';
is scalar(my @left = qontoctl(@store, qw(sessions list --json))->json), 702, 'but did not';

my $end = qontoctl(@store, @audit, qw(sessions end --user ann));
is $end->status, 0, 'ended' or diag $end->err;
is_deeply [sort map { (split)[0] } $end->lines], [sort @ids[0 .. 699]], 'these';
is qontoctl(@store, @audit, qw(sessions end), $ids[700])->status, 0, 'and one by its hash';
is_deeply [map { $_->{session} } qontoctl(@store, qw(sessions list --json))->json], [$ids[701]], 'the last is there';
my @answers = $renew->();
is pop @answers, 0, 'a refresh under way is saved for the session that was left';
is scalar(grep { $_ != 0 } @answers), 701, 'and for no other';

# --- trouble ---

sub trouble ($what, $arguments, $status, $expected) {
    my $answer = qontoctl($arguments->@*);
    is $answer->status, $status, "$what: $status";
    like $answer->err, qr/\Aqontoctl: [^\n]*$expected[^\n]*\n\z/, 'one sentence';
    return;
}

trouble('no key', [@store[0, 1], qw(sessions list)], 3, qr/no key.*--key/);
trouble('a password on the command line', ['--store' => $url, @store[2, 3], qw(sessions list)], 2, qr/file:PATH/);
trouble('a wrong address', ['--store' => 'redis://127.0.0.1:0/', @store[2, 3], qw(sessions list)], 2, qr/port/i);
is qontoctl({ env => { QONTO_STORE => $url, QONTO_KEY => $key } }, qw(sessions list))->status, 0, 'in the environment it may stand';
my $wrong = 'file:' . file('wrong', "redis://qonto:x$password\@127.0.0.1:$port/");
trouble('a wrong password', ['--store' => $wrong, @store[2, 3], qw(sessions list)], 3, qr/./);
kill STOP => $redis;
my $began = Time::HiRes::time();
trouble('a Redis that hangs', [@store, qw(sessions list)], 3, qr/./);
cmp_ok Time::HiRes::time() - $began, '<', slow(10), 'soon';
kill CONT => $redis;
stop();
trouble('no Redis', [@store, @audit, qw(sessions end), $ids[701]], 3, qr/./);
is_deeply [said($password, $key)], [], 'no secret was ever said';

done_testing;
