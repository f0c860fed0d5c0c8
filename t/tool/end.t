# qontoctl sessions end, while httpd serves those very sessions.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Tool;

my $rig = rig(conf => sub ($rig) {
    return qonto($rig->standin) . proxied('/app/', $rig->backend) . protected('/app/');
})->start;
my $dir   = $rig->root . '/store';
my @store = ('--store' => "lmdb:$dir");
my $place = File::Temp->newdir('audit-XXXXXX', TMPDIR => 1);
my $audit = "$place/audit.log";
my @audit = ('--audit' => $audit);

sub audited () {
    open my $file, '<', $audit or return;
    return <$file>;
}

sub page ($browser) { return $browser->get($rig->url('/app/x'))->status }

sub id ($browser) {
    my ($pair) = grep { $_->[0] eq 'qonto' } $browser->cookies($rig->url('/app/x'));
    return id_of(join '=', $pair->@*);
}

my ($ann, $bob, $eve) = map { my $browser = browser(); sign_in($browser, $rig->url('/app/x')); $browser } 1 .. 3;

# --- by hash ---

my $dry = qontoctl(@store, qw(sessions end --dry-run), id($eve));
is $dry->status, 0, '--dry-run finds it';
is $dry->out, id($eve) . " would end: user -, organization -\n", 'and tells what would end';
is page($eve), 200, 'but ends nothing';
is_deeply [audited()], [], 'and is not audited';

my $end = qontoctl(@store, @audit, qw(sessions end), id($eve));
is $end->status, 0, 'ended' or diag $end->err;
is $end->out, id($eve) . " ended: user -, organization -\n", 'and told';
is_deeply [map { page($eve) } 1 .. 6], [(302) x 6], 'the very next requests are of somebody who is not signed in';
is $eve->fetch($rig->url('/app/x'))->status, 401, 'a script gets 401';
is page($_), 200, 'the others live on' for $ann, $bob;
my @line = audited();
is scalar @line, 1, 'one audit line';
my $name = getpwuid $>;
like $line[0], qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ qontoctl\[\d+\]: ending session @{[id($eve)]} of user -, organization - by uid=$> user="$name" login="[^"]+" sudo="-"$/,
    'who, what, when';
my $again = qontoctl(@store, @audit, qw(sessions end), id($eve));
is $again->status, 1, 'it cannot be ended twice';
is scalar(() = audited()), 1, 'nor is that audited';
sign_in($eve, $rig->url('/app/x'));

# --- by user and organization ---

my @crowd = write_sessions($dir, undef, map({ ['ann', 'acme', $_, 0] } 1 .. 60), (map { ['bob', 'acme', $_, 0] } 1 .. 3),
    ['ann', 'other', 1, 0], ['-', '-', 1, 0]);
my $renew = pop @crowd;
my ($left) = $crowd[-1];
my %whose = (user => { ann => [@crowd[0 .. 59, 63]] }, both => [@crowd[0 .. 59]], acme => [@crowd[60 .. 62]]);

sub ended ($answer) { return [sort map { /^([0-9a-f]{16}) ended:/ ? $1 : "? $_" } $answer->lines] }

is qontoctl(@store, @audit, qw(sessions end --user an))->status, 1, 'part of a name is nobody';
is qontoctl(@store, @audit, qw(sessions end --user bob --organization other))->status, 1, 'nor is one of two';
my $two = qontoctl({ env => { SUDO_USER => "operator\nfake line" } }, @store, @audit,
    qw(sessions end --user ann --organization acme));
is $two->status, 0, 'a user in an organization';
is_deeply ended($two), [sort $whose{both}->@*], 'all of these and no other, more than a page of them';
is scalar(() = audited()), 2, 'one line for all';
my $sudo = $> == 0 ? qr/operator\\x0afake line/ : qr/-/;
like((audited())[1], qr/ending 60 sessions of user "ann" of organization "acme" by .* sudo="$sudo"$/, 'with their number');
is_deeply ended(qontoctl(@store, @audit, qw(sessions end --user ann))), [$crowd[63]], 'a user everywhere';
is_deeply ended(qontoctl(@store, @audit, qw(sessions end --organization acme))), [sort $whose{acme}->@*], 'an organization';
my @left = map { $_->{session} } qontoctl(@store, qw(sessions list --json))->json;
is_deeply [sort @left], [sort $left, map { id($_) } $ann, $bob, $eve], 'the rest is still there';
is page($_), 200, 'and lives' for $ann, $bob, $eve;

# Whoever has read a session before it was ended and comes back with new tokens is too late.
my @answers = $renew->();
is pop @answers, 0, 'a refresh of a session that was not ended is saved';
my %refused = map { $_ => 1 } @answers;
is scalar @answers, 64, 'of those that were ended';
ok !$refused{0}, 'none is' or diag join ' ', @answers;

# --- no audit line, no end ---

my ($victim, $hold) = write_sessions($dir, undef, ['zoe', 'acme', 1, 0]);

sub refused ($what, $expected, @arguments) {
    my $answer = qontoctl(@arguments);
    is $answer->status, 3, "$what: 3";
    like $answer->err, $expected, 'says why';
    like $answer->err, qr/nothing was ended/, 'and what did not happen';
    is $answer->out, '', 'nothing else';
    is qontoctl(@store, qw(sessions show), $victim)->status, 0, 'the session is there';
    return;
}

my @end = (@store, qw(sessions end --user zoe));
refused('the audit file cannot be opened', qr/No such file/, @end, '--audit' => '/nonexistent/audit');
refused('it cannot be written', qr/No space/, @end, '--audit' => '/dev/full');
symlink '/dev/null', "$audit.link";
refused('it is a link', qr/link/i, @end, '--audit' => "$audit.link");

# A /dev of its own, with a syslog in it or without.
my @sealed_off = $> == 0 ? qw(unshare --mount --propagation private) : qw(unshare --map-root-user --mount --propagation private);
my $script = <<~'PERL';
    use v5.36;
    use Socket;
    my ($type, @command) = @ARGV;
    system('mount', '-t', 'tmpfs', 'tmpfs', '/dev') == 0 or die "mount: $?\n";
    open my $null, '>', '/dev/null';    # a file, here
    close $null;
    exec @command if $type eq 'none';
    socket my $log, AF_UNIX, $type eq 'stream' ? SOCK_STREAM : SOCK_DGRAM, 0 or die "socket: $!\n";
    bind $log, pack_sockaddr_un('/dev/log') or die "bind: $!\n";
    chmod 0666, '/dev/log';
    listen $log, 5 if $type eq 'stream';
    my $status = system @command;
    my $line = '';
    alarm 10;
    if ($type eq 'stream') {
        accept my $peer, $log;
        sysread $peer, $line, 4096;
    } else {
        recv $log, $line, 4096, 0;
    }
    print "\nsyslog: $line\n";
    exit $status >> 8;
    PERL
my $under = sub ($type) { return { under => [@sealed_off, $^X, '-e', $script, $type] } };
refused('syslog does not listen', qr{/dev/log.*--audit FILE}, $under->('none'), @end);
for my $type (qw(datagram stream)) {
    my $answer = qontoctl($under->($type), @end);
    is $answer->status, 0, "$type: ended" or diag $answer->err;
    like $answer->out, qr/^$victim ended: user zoe, organization acme$/m, 'as told';
    like $answer->out, qr/^syslog: <85>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d qontoctl\[\d+\]: ending 1 session of user "zoe" by uid=\d+ user=.*\0$/m,
        'and syslog has its line, of authpriv.notice';
    $hold->();
    ($victim, $hold) = write_sessions($dir, undef, ['zoe', 'acme', 1, 0]);
}

# --- nobody reads what it prints ---

my ($late, $more) = write_sessions($dir, undef, ['max', 'acme', 1, 0]);
my $full = qontoctl({ out => '/dev/full' }, @store, @audit, qw(sessions end --user max));
is $full->status, 3, 'what cannot be printed is trouble';
like $full->err, qr/standard output/, 'and told';
is qontoctl(@store, qw(sessions show), $late)->status, 1, 'but what was audited was done';
my @gone = write_sessions($dir, undef, map { ['max', 'acme', 1, 0] } 1 .. 3);
my $last = pop @gone;
my $deaf = [$^X, '-e', 'pipe my $read, my $write; close $read; open STDOUT, ">&", $write; exec @ARGV'];
is qontoctl({ under => $deaf }, @store, @audit, qw(sessions end --user max))->status, 3, 'a reader that goes away, too';
is_deeply [map { qontoctl(@store, qw(sessions show), $_)->status } @gone], [1, 1, 1], 'does not stop it half-way';
is qontoctl({ under => $deaf }, @store, qw(sessions list))->status, 'signal 13', 'but ends a list, as it ends others';
$_->() for $hold, $more, $last;

my @secrets = map { $_->@* } values $rig->standin->issued->%*;
is_deeply [said(@secrets)], [], 'no token was ever said';
is_deeply [$rig->httpd->secrets_in_log(@secrets)], [], 'nor logged';
is_deeply [crashes($rig->httpd->error_log)], [], 'httpd is well';

done_testing;
