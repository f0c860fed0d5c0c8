# What qontoctl answers when it is asked wrongly, has no store, the wrong key or no rights.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Tool;

my $key = join '', map { sprintf '%08x', rand 2**32 } 1 .. 8;
my $old = join '', map { sprintf '%08x', rand 2**32 } 1 .. 8;
my $rig = rig(conf => sub ($rig) {
    return qonto($rig->standin, QontoSessionKey => $rig->{key})
        . proxied('/app/', $rig->backend) . protected('/app/');
});
my $dir   = $rig->root . '/store';
my @store = ('--store' => "lmdb:$dir");

# [what, arguments, status, what it must say]
sub answers ($what, $arguments, $status, $expected) {
    my $answer = qontoctl($arguments->@*);
    is $answer->status, $status, "$what: $status" or diag $answer->out, $answer->err;
    like $answer->err, $expected, 'one sentence that helps';
    like $answer->err, qr/\Aqontoctl: [^\n]+\n\z/, 'and no more';
    is $answer->out, '', 'nothing on standard output';
    return;
}

# --- no httpd has run yet ---

answers('no store', [@store, qw(sessions list)], 3, qr/no session store in \Q$dir\E/);
mkdir $dir, 0700;
answers('an empty directory', ['--store' => "lmdb:$dir", qw(sessions list)], 3, qr/no key beside the store/);
my $secret = $rig->httpd->write('session.key', "$key\n", 0600);
my @key    = ('--key' => "file:$secret");
answers('an empty directory, a key', [@store, @key, qw(sessions list)], 3, qr/\Q$dir\E/);
is_deeply [glob "$dir/*"], [], 'and nothing was made there';
rmdir $dir;

# --- usage ---

for my $case (
    [[], qr/sessions list/], [['list'], qr/sessions list/], [['sessions'], qr/sessions list/],
    [[qw(sessions kill)], qr/no command "kill"/], [[qw(sessions list --all)], qr/--all is no option/],
    [[qw(sessions list --store)], qr/--store is no option, or lacks its value/],
    [[qw(sessions show)], qr/its hash/], [[qw(sessions show 12345)], qr/6 to 16/], [[qw(sessions show 0123456789abcdef0)], qr/6 to 16/],
    [[qw(sessions show 12345g)], qr/"12345g" is no session/], [[qw(sessions show 123456 7)], qr/one word too many/],
    [[qw(sessions list 123456)], qr/only "sessions show"/], [[qw(sessions end)], qr/HASH, --user U or/],
    [[qw(sessions end 123456 --user u)], qr/not both/], [['sessions', 'end', '--user', ''], qr/--user/],
    [['sessions', 'end', '--user', 'x' x 5000], qr/--user/], [[qw(sessions list --dry-run)], qr/belong to "sessions end"/],
    [[qw(sessions list --key file:/a --key file:/b --key file:/c)], qr/twice/],
    [[qw(--store shmcb:x sessions list)], qr/lmdb:DIR or redis/], [[qw(--store lmdb: sessions list)], qr/lmdb:DIR or redis/],
    [['--store' => "lmdb:$dir", '--key' => $key, qw(sessions list)], qr/no session store/, 3],
    [[qw(--store redis://me:top-secret@127.0.0.1/ sessions list)], qr/--store file:PATH/],
) {
    my ($arguments, $expected, $status) = $case->@*;
    answers("'" . join(' ', map { substr $_, 0, 40 } $arguments->@*) . "'", $arguments, $status // 2, $expected);
}
answers('without a store', [qw(sessions list)], 2, qr/ServerRoot.*--store lmdb:DIR/);

# --- keys ---

$rig->{key} = "file:$secret";
$rig->start;
my $visitor = browser();
sign_in($visitor, $rig->url('/app/x'));
sub page () { return $visitor->get($rig->url('/app/x'))->status }
sub opens (@arguments) { return join ' ', map { $_->{opens} ? 1 : 0 } qontoctl(@store, @arguments, qw(sessions list --json))->json }

my $wrong = $rig->httpd->write('old.key',   "$old\n", 0600);
my $short = $rig->httpd->write('short.key', "too short\n", 0600);
my $open  = $rig->httpd->write('open.key',  "$key\n", 0644);
answers('httpd has its own key and the tool none', [@store, qw(sessions list)], 3, qr/no key beside the store.*QontoSessionKey/);
is opens(@key), 1, 'with that key it opens';
is opens('--key' => "file:$wrong", @key), 1, 'an old key may stand beside it';
is join(' ', map { $_->{opens} } qontoctl({ env => { QONTO_KEY => "file:$secret", QONTO_STORE => "lmdb:$dir" } }, qw(sessions list --json))->json),
    1, 'both from the environment';
is join(' ', map { $_->{opens} } qontoctl({ env => { QONTO_KEY => $key } }, @store, qw(sessions list --json))->json), 1, 'the key itself, too';
my $named = $rig->httpd->write('store.spec', "lmdb:$dir\n", 0600);
is qontoctl('--store' => "file:$named", @key, qw(sessions list))->status, 0, 'the store from a file';
answers('a key on the command line', [@store, '--key' => $key, qw(sessions list)], 2, qr/--key file:PATH/);
answers('no such key', [@store, qw(--key file:/nonexistent sessions list)], 3, qr{/nonexistent});
answers('a short key', [@store, '--key' => "file:$short", qw(sessions list)], 3, qr/32 characters/);
answers('a key for all to read', [@store, '--key' => "file:$open", qw(sessions list)], 3, qr/chmod 600/);

# The wrong key: what is in clear is shown, no more.
my @wrong = ('--key' => "file:$wrong");
my ($id) = map { $_->{session} } qontoctl(@store, @key, qw(sessions list --json))->json;
is((qontoctl(@store, @wrong, qw(sessions list))->lines)[1], "$id  sealed with another key", 'listed by its hash');
my ($json) = qontoctl(@store, @wrong, qw(sessions list --json))->json;
is_deeply [sort keys $json->%*], [qw(generation last_seen left opens session)], 'as JSON, what is in clear';
like qontoctl(@store, @wrong, qw(sessions show), $id)->out, qr/^contents +sealed with another key$/m, 'shown';
like qontoctl(@store, @wrong, qw(sessions stats))->out, qr/^sealed with another key +1$/m, 'counted';
my @audit = ('--audit' => $rig->root . '/audit');
answers('whose it is cannot be told', [@store, @wrong, @audit, qw(sessions end --user x)], 3, qr/no session opens with this key/);
is page(), 200, 'the visitor is in';

# One that opens and one that does not.
my ($mine, $hold) = write_sessions($dir, $wrong, ['ann', 'acme', 1, 0]);
my $some = qontoctl(@store, @wrong, @audit, qw(sessions end --user ann));
is $some->status, 0, 'what opens is ended';
like $some->err, qr/1 sessions are sealed with another key/, 'with a word about the rest';
is qontoctl(@store, @wrong, @audit, qw(sessions end), $id)->status, 0, 'by hash, any session can be ended';
is page(), 302, 'and is';
$hold->();

# --- rights ---

# What the system says this user belongs to.
sub groups_of ($uid) {
    my $name = getpwuid $uid;
    return 'groups ' . join '', map {"$_ "} sort { $a <=> $b } split ' ', qx(id -G $name);
}

if ($> == 0) {
    my @crowd = write_sessions($dir, $secret, map { ["user$_", 'crowd', 10, 0] } 1 .. 1500);
    is_deeply rights_of(@store, @key, qw(sessions list)), [((stat $dir)[4]) x 4, ((stat $dir)[5]) x 4, groups_of((stat _)[4])],
        "root gives its rights up for those of the store's owner";
    is qontoctl(@store, @key, @audit, qw(sessions end --organization crowd))->status, 0, 'a crowd is ended';
    pop(@crowd)->();
    sign_in($visitor, $rig->url('/app/x'));
    my @before = map { my @stat = stat; "$_ $stat[2] $stat[4] $stat[5]" } sort glob "$dir/*";
    is qontoctl(@store, @key, qw(sessions list))->status, 0, 'root lists';
    is qontoctl(@store, @key, @audit, qw(sessions end), (qontoctl(@store, @key, qw(sessions list --json))->json)[0]{session})->status, 0, 'and ends';
    is_deeply [map { my @stat = stat; "$_ $stat[2] $stat[4] $stat[5]" } sort glob "$dir/*"], \@before, 'and leaves no file of root';
    $rig->httpd->stop;
    is qontoctl(@store, @key, qw(sessions list))->status, 0, 'also when httpd is not running';
    unlink glob "$dir/*-lock";
    answers('a copy without its lock files', [@store, @key, qw(sessions list)], 3, qr/cannot be used.*No such file/);
    is_deeply [glob "$dir/*-lock"], [], 'none are made';
    $rig->httpd->start;
    sign_in($visitor, $rig->url('/app/x'));
    my $nobody = getpwnam 'nobody';
    my $copy = $rig->httpd->write('nobody.key', "$key\n", 0600);
    chown $nobody, -1, $copy;
    is qontoctl({ as => $nobody }, @store, '--key' => "file:$copy", qw(sessions list))->status, 0, 'the user who owns the store may';
    chown 1, -1, $copy;
    answers('another user', [{ as => 1 }, @store, '--key' => "file:$copy", qw(sessions list)], 3, qr/Permission denied/i);
} else {
    my $mode = (stat $dir)[2];
    chmod 0, $dir;
    answers('a closed directory', [@store, @key, qw(sessions list)], 3, qr/Permission denied/i);
    chmod $mode & 0777, $dir;
}

# Users and groups of the tool while it prints an answer that is too long to be done with.
sub rights_of (@arguments) {
    my $pid = open my $pipe, '-|', "$ENV{QO_TOP_BUILDDIR}/qontoctl", @arguments or die "qontoctl: $!\n";
    sysread $pipe, my $begun, 1;
    open my $file, '<', "/proc/$pid/status" or die "process $pid: $!\n";
    my %line = map { /^(\w+):\s+(.*)/ ? ($1, $2) : () } <$file>;
    1 while <$pipe>;
    close $pipe;
    return [split(' ', $line{Uid}), split(' ', $line{Gid}), "groups $line{Groups}"];
}

# --- stores that are none ---

my $fake = $rig->root . '/fake';
mkdir $fake, 0700;
for my $name (qw(sessions.mdb volatile.mdb)) {
    open my $file, '>', "$fake/$name" or die "$name: $!\n";
    print {$file} 'no database, ' x 5000;
}
answers('other files', ['--store' => "lmdb:$fake", @key, qw(sessions list)], 3, qr/cannot be used/);
is_deeply [map { -s } sort glob "$fake/*.mdb"], [65_000, 65_000], 'are left as they are';

my @secrets = ($key, $old, 'top-secret', map { $_->@* } values $rig->standin->issued->%*);
is_deeply [said(@secrets)], [], 'no secret was ever said';
is_deeply [crashes($rig->httpd->error_log)], [], 'httpd is well';

done_testing;
