# Sessions and unfinished logins outlive whatever happens to httpd's processes: SIGKILL of all of
# them, of some, stop and start, and reloads while visitors are being served.

use v5.36;
use Qonto::Test;
use Qonto::Rig;

my $rig = rig(conf => sub ($rig) {
    return "GracefulShutdownTimeout 5\n" . qonto($rig->standin, QontoSessionKey => undef)
        . join('', map { proxied($_, $rig->backend) } qw(/app/ /open/)) . protected('/app/');
})->start;

my $httpd = $rig->httpd;
my $user  = browser();
sign_in($user, $rig->url('/app/first'));
my $token = token_of($rig->backend);

sub still ($after) {
    $rig->backend->clear;
    my $answer = $user->get($rig->url('/app/x'));
    is $answer->status, 200, "signed in after $after";
    is token_of($rig->backend) // '', $token, 'with the same token';
    is_deeply [$answer->headers('Set-Cookie')], [], 'and the same cookie';
    return;
}

# A login on its way: at Qonto's page when httpd goes.
sub begin_login () {
    my $browser = browser();
    return [$browser, $browser->follow_until($browser->get($rig->url('/app/later')), qr{/qonto/callback})];
}

sub finish_login ($login, $after) {
    my ($browser, $callback) = $login->@*;
    my $page = $browser->follow($browser->get($callback));
    is $page->status, 200, "a login begun before $after ends after it" or diag $page->story;
    like $page->url, qr{/app/later$}, 'on its page';
    return;
}

for my $case (
    ['kill -9 of everything', sub { $httpd->kill9; $httpd->start }],
    ['another one',           sub { $httpd->kill9; $httpd->start }],
    ['stop and start',        sub { $httpd->restart }],
    ['graceful',              sub { $httpd->graceful }],
    ['two gracefuls',         sub { $httpd->graceful; $httpd->graceful }],
    ['kill -9 of every child', sub {
        my %old = map { $_ => 1 } $httpd->children;
        kill KILL => keys %old;
        wait_until(10, sub { $httpd->children && !grep { $old{$_} } $httpd->children });
        wait_until(10, sub { eval { $user->get($rig->url('/open/x'))->status == 200 } });
    }],
) {
    my ($name, $happen) = $case->@*;
    my $login = begin_login();
    $happen->();
    still($name);
    finish_login($login, $name);
}

# --- reloads under load: nobody loses a page, a session or a login ---

my $seconds = 3;
my @load;
for my $number (1 .. 3) {
    pipe my $read, my $write;
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        close $read;
        my $until = time + slow($seconds);
        my %met;
        while (time < $until) {
            my $status = eval { $user->get($rig->url('/app/load'))->status } // 'no answer';
            $met{"page $status"}++;
            next if $number > 1;
            my $login = eval { my $other = browser(); $other->visit($rig->url('/app/load'))->status } // 'no answer';
            $met{"login $login"}++;
        }
        print {$write} map {"$_ $met{$_}\n"} sort keys %met;
        close $write;
        require POSIX;
        POSIX::_exit(0);
    }
    close $write;
    push @load, [$pid, $read];
}
my $until = time + slow($seconds) - 1;
my $reloads = 0;
while (time < $until) {
    $httpd->graceful;
    $reloads++;
    select undef, undef, undef, slow(0.2);
}
my %sum;
for my $job (@load) {
    my $read = $job->[1];
    while (<$read>) { $sum{$1} += $2 if /^(.*) (\d+)$/ }
    waitpid $job->[0], 0;
}
cmp_ok $reloads, '>=', 2, "$reloads reloads under load";
is_deeply [sort keys %sum], ['login 200', 'page 200'], 'every page and every login' or diag explain \%sum;
note "$_: $sum{$_}" for sort keys %sum;
still('reloads under load');

# --- kill -9 under load: what was answered stays true ---

my @people;
for my $round (1 .. (($ENV{QO_SLOW} || 1) > 1 ? 1 : 3)) {
    for (1 .. 4) {
        my $browser = browser();
        my $page = eval { $browser->visit($rig->url('/app/new')) };
        push @people, $browser if $page && $page->status == 200;
    }
    my @flying = map { eval { $_->begin(GET => $rig->url('/app/x')) } } @people, map { browser() } 1 .. 4;
    $httpd->kill9;
    $httpd->start;
}
is scalar(grep { $_->get($rig->url('/app/x'))->status == 200 } @people), scalar @people, 'everybody who got in is in';
is_deeply [crashes($httpd->error_log)], [], 'no crash';
unlike $httpd->error_log, qr/QO0040|\bdamaged\b/i, 'no store unavailable';

done_testing;
