use v5.36;

use FindBin;
use lib "$FindBin::Bin/../lib", $FindBin::Bin;

use IO::Socket::INET ();
use Qonto::StandIn;
use Test::More;
use Time::HiRes qw(sleep time);
use Visitor;

sub accepts ($port) { return defined IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) }

sub wait_until ($true) {
    for (1 .. 150) { return 1 if $true->(); sleep 0.02 }
    return 0;
}

sub send_refresh ($q, $token) {
    my $form   = "client_id=qonto-client&client_secret=qonto-secret&grant_type=refresh_token&refresh_token=$token";
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $q->port) or die $@;
    print {$socket} join "\r\n", 'POST /oauth2/token HTTP/1.1', 'Host: localhost',
        'Content-Type: application/x-www-form-urlencoded', 'Content-Length: ' . length $form, '', $form;
    return $socket;
}

subtest 'start and stop' => sub {
    my $q = Qonto::StandIn->start;
    like $q->url, qr{^http://127\.0\.0\.1:\d+$}, 'an address';
    ok kill(0 => $q->pid), 'a process';
    my $same = Qonto::StandIn->attach(url => $q->url);
    $same->set(client_id => 'other');
    is $same->port, $q->port, 'a second handle';
    undef $same;
    ok accepts($q->port), 'which does not stop it';
    $q->fault(token => 'hang');
    my $held = send_refresh($q, 'x');
    my $start = time;
    my $port  = $q->port;
    $q->stop;
    cmp_ok time - $start, '<', 2, 'stops at once, silent connections or not';
    ok !accepts($port), 'and is gone';
    ok !sysread($held, my $nothing, 1), 'connections too';

    my $again = Qonto::StandIn->start(port => $port);
    is $again->port, $port, 'a port of choice';
    ok !eval { Qonto::StandIn->start(port => $port); 1 }, 'which may be taken';
    like $@, qr/cannot listen/, 'said so';
    undef $again;
    ok !accepts($port), 'stopped with its handle';
    ok !eval { Qonto::StandIn->start(speed => 'high'); 1 }, 'unknown option';
    ok !eval { Qonto::StandIn->attach(url => "http://127.0.0.1:$port"); 1 }, 'nobody to attach to';
};

subtest 'forked tests do not stop it, a killed one does' => sub {
    my $q = Qonto::StandIn->start;
    my $pid = fork // die "fork: $!";
    exit 0 if $pid == 0;
    waitpid $pid, 0;
    ok accepts($q->port), 'alive after a child of the test';

    pipe my $from, my $to or die "pipe: $!";
    $pid = fork // die "fork: $!";
    if ($pid == 0) {
        my $orphan = Qonto::StandIn->start;
        syswrite $to, $orphan->port . "\n";
        sleep 60;
    }
    my $port = <$from>;
    chomp $port;
    kill KILL => $pid;
    waitpid $pid, 0;
    ok wait_until(sub { return !accepts($port) }), 'it follows its killed starter';
};

subtest '50 token calls at once' => sub {
    my $q = Qonto::StandIn->start(delay => 0.3);
    my $v = Visitor->new($q);
    my $tokens  = $v->log_in;
    my $start   = time;
    my @sockets = map { send_refresh($q, $tokens->{refresh_token}) } 1 .. 50;
    my %access;
    for my $socket (@sockets) {
        my $answer = do { local $/; <$socket> };
        $access{$1}++ if $answer =~ m{^HTTP/1\.1 200 .*"access_token":"([^"]+)"}s;
    }
    is scalar keys %access, 50, 'each got its own pair within the grace';
    cmp_ok time - $start, '<', 10, 'side by side';
    is $q->counters->{max_parallel_token}, 50, 'as the counter says';
    $q->set(delay => 5);
    close $_ for send_refresh($q, 'x'), send_refresh($q, 'x');
    ok wait_until(sub { return $q->counters->{aborted} == 2 }), 'clients that give up are noted';
    $q->reset;
    is $q->counters->{max_parallel_token}, 0, 'and no longer counted as open';
};

subtest 'the command' => sub {
    my @command = ($^X, "$FindBin::Bin/../bin/qonto-standin");
    my $pid = open my $said, '-|', @command, '--access-life=7', '--scope-policy=openid organization.read',
        '--clients={"c":{"secret":"s"}}'
        or die "fork: $!";
    chomp(my $url = <$said>);
    my $q = Qonto::StandIn->attach(url => $url);
    my $v = Visitor->new($q);
    my %client = (client_id => 'c', client_secret => 's');
    my (undef, $tokens) = $v->exchange($v->code(%client, scope => 'organization.read'), %client);
    is $tokens->{expires_in}, 7, 'takes options';
    is $v->authorize(%client, scope => 'payment.write')->{error}, 'invalid_scope', 'lists too';
    kill TERM => $pid;
    ok close $said, 'ends well on TERM';
    like qx("$command[0]" "$command[1]" --help), qr/--access-life/, 'has --help';
    qx("$command[0]" "$command[1]" --nonsense 2>&1);
    is $? >> 8, 2, 'refuses what it does not know';
};

subtest 'no web page can steer it' => sub {
    my $q = Qonto::StandIn->start;
    my $v = Visitor->new($q);
    my $answer = $v->http->post($q->url . '/_standin/set',
        { content => '{"mode":"refuse"}', headers => { 'Content-Type' => 'text/plain' } });
    is $answer->{status}, 400, 'only JSON, which browsers do not send to strangers';
    ok $v->authorize->{code}, 'nothing changed';
};

done_testing;
