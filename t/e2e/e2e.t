#!/usr/bin/perl
# The independent end-to-end run: a real browser, a real httpd with our module, and an authorization server
# that other people wrote. The module is set up with documented directives only.
#
#   QO_MODULE        mod_qonto_oauth.so (required)
#   QO_NODE_MODULES  where t/e2e/install put the npm packages (default: node_modules beside this file)
#   QO_HTTPD         the httpd binary (default: the one apxs knows)
#   QO_CHROMIUM      the browser (default: /usr/bin/chromium)
#   QO_SHOTS         folder for screenshots (default: none)
#
# Something missing is a failure, never a skip: a run that checked nothing must not look green.
use strict;
use warnings;

use File::Basename qw(basename dirname);
use File::Spec;
use File::Temp qw(tempdir);
use IO::Handle;
use IO::Socket::INET;
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(sleep time);

use constant PATIENCE_SECONDS => 180;    # for everything; a normal run takes about twenty
use constant CLIENT_ID        => '475670cc-e41a-4baa-8eb6-4329af7d1450';
use constant CLIENT_SECRET    => q(e2e &+%=/?;"'secret);    # every sign that goes wrong when a form is badly encoded

my $HERE = File::Spec->rel2abs(dirname(__FILE__));
my ($dir, @processes);
my $doing = 'looking for what it needs';

# --- what must be there ---

sub give_up {
    my ($sentence) = @_;
    fail($sentence);
    done_testing();
    exit 1;
}

sub output_of {
    my (@command) = @_;
    open(my $pipe, '-|', @command) or return '';
    local $/;
    my $text = <$pipe> // '';
    close $pipe;
    $text =~ s/\s+\z//;
    return $text;
}

sub in_path {
    my (@names) = @_;
    for my $name (@names) {
        for my $folder (File::Spec->path, '/usr/sbin', '/usr/local/apache2/bin') {
            return "$folder/$name" if -x "$folder/$name" && -f _;
        }
    }
    return;
}

sub find_node_modules {
    my $folder = $ENV{QO_NODE_MODULES} || "$HERE/node_modules";
    $folder = "$folder/node_modules" if basename($folder) ne 'node_modules';
    for my $package (qw(oidc-provider playwright-core)) {
        give_up("npm package $package is missing below $folder: run 't/e2e/install DIR' and set QO_NODE_MODULES=DIR/node_modules")
            if !-f "$folder/$package/package.json";
    }
    return File::Spec->rel2abs($folder);
}

sub find_node {
    my $node = in_path('node', 'nodejs') or give_up('Node.js is missing: install the package nodejs, version 18 or later');
    my ($major) = output_of($node, '--version') =~ /^v(\d+)/;
    give_up("$node is too old: install Node.js 18 or later") if !$major || $major < 18;
    return $node;
}

sub find_tools {
    my $module = $ENV{QO_MODULE} or give_up('QO_MODULE is not set: build the module and name it, as in QO_MODULE=_build/.libs/mod_qonto_oauth.so');
    give_up("the module is missing: there is no $module; build it first") if !-f $module;
    my $apxs = in_path('apxs', 'apxs2') or give_up('apxs is missing: install the package apache2-dev');
    my $httpd = $ENV{QO_HTTPD} || output_of($apxs, '-q', 'SBINDIR') . '/' . output_of($apxs, '-q', 'PROGNAME');
    give_up("httpd is missing: there is no $httpd; install the package apache2-bin or set QO_HTTPD") if !-x $httpd;
    my $chromium = $ENV{QO_CHROMIUM} || '/usr/bin/chromium';
    give_up("the browser is missing: there is no $chromium; install the package chromium or set QO_CHROMIUM") if !-x $chromium;
    return {
        module       => File::Spec->rel2abs($module),
        httpd        => $httpd,
        modules      => output_of($apxs, '-q', 'LIBEXECDIR'),
        chromium     => $chromium,
        node         => find_node(),
        node_modules => find_node_modules(),
    };
}

# --- processes: each in a group of its own, so that its children end with it ---

sub child_setup {
    my ($name, $env, $in, $out) = @_;
    setpgrp(0, 0);
    open(STDIN, '<&', $in) or return;
    open(STDOUT, '>&', $out) or return;
    open(STDERR, '>>', "$dir/logs/$name.stderr") or return;
    %ENV = (%ENV, %$env);
    return 1;
}

sub start {
    my ($name, $env, @command) = @_;
    pipe(my $child_in, my $to_child)  or die "pipe: $!";
    pipe(my $from_child, my $child_out) or die "pipe: $!";
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        { no warnings 'exec'; child_setup($name, $env, $child_in, $child_out) && exec { $command[0] } @command; }
        warn "cannot run $command[0]: $!";
        POSIX::_exit(127);
    }
    setpgrp($pid, $pid);    # in the parent too: a kill may come before the child got so far
    $to_child->autoflush(1);
    my $process = { name => $name, pid => $pid, in => $to_child, out => $from_child };
    push @processes, $process;
    return $process;
}

sub wait_for_end {
    my ($process, $seconds) = @_;
    for (my $end = time + $seconds; ; sleep 0.02) {
        my $pid = waitpid($process->{pid}, WNOHANG);
        $process->{status} = $? if $pid > 0;
        return 1 if $pid;
        return 0 if time > $end;
    }
}

sub group_lives { return kill(0, -$_[0]{pid}) }

sub stop {
    my ($process, @signals) = @_;
    @processes = grep { $_ != $process } @processes;
    for my $signal (@signals) {
        kill($signal, -$process->{pid});
        wait_for_end($process, 3) && !group_lives($process) && last;
    }
    return;
}

sub ready_line {
    my ($process) = @_;
    $doing = "waiting for $process->{name} to start";
    my $line = readline($process->{out}) // '';
    my %facts = $line =~ /"(\w+)":(\d+)/g;
    return \%facts if $line =~ /^ready / && %facts;
    give_up("$process->{name} did not start");
}

# --- httpd ---

sub free_port {
    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "no free port: $!";
    return $socket->sockport;
}

sub write_file {
    my ($path, $mode, $text) = @_;
    open(my $file, '>', $path) or die "$path: $!";
    chmod $mode, $path or die "$path: $!";
    print {$file} $text or die "$path: $!";
    close $file or die "$path: $!";
    return;
}

sub load_modules {
    my ($tools) = @_;
    my $text = '';
    for my $name (qw(mpm_event unixd log_config authn_core authz_core authz_user dir proxy proxy_http)) {
        my $file = "$tools->{modules}/mod_$name.so";
        # A module without a file, or one that is loaded already, is built into this httpd.
        $text .= "<IfModule !${name}_module>\n    LoadModule ${name}_module \"$file\"\n</IfModule>\n" if -f $file;
    }
    return $text . "LoadModule qonto_oauth_module \"$tools->{module}\"\n";
}

sub run_as {
    return '' if $> != 0;
    my $group = getgrgid((getpwnam 'nobody')[3]);
    return "User nobody\nGroup $group\n";
}

sub httpd_conf {
    my ($tools, $port, $provider, $backend) = @_;
    my ($load_modules, $run_as, $client_id) = (load_modules($tools), run_as(), CLIENT_ID);
    return <<"CONF";
ServerRoot "$dir"
ServerName 127.0.0.1
Listen 127.0.0.1:$port
PidFile "$dir/run/httpd.pid"
DefaultRuntimeDir "$dir/run"
ErrorLog "$dir/logs/error_log"
DocumentRoot "$dir/htdocs"
$load_modules${run_as}DirectoryIndex index.html
LogLevel info qonto_oauth:debug
StartServers 2
ThreadsPerChild 25
MaxRequestWorkers 100

QontoClientId      $client_id
QontoClientSecret  "file:$dir/qonto.secret"
QontoRedirectURI   http://127.0.0.1:$port/qonto/callback
QontoScopes        offline_access organization.read
QontoAuthorizeParam prompt "consent"
QontoSessionStore  "lmdb:$dir/sessions"

# The browser meets the provider as another site than ours, as it meets Qonto.
QontoEndpoint authorize http://localhost:$provider/oauth2/auth
QontoEndpoint token     http://127.0.0.1:$provider/oauth2/token
QontoEndpoint revoke    http://127.0.0.1:$provider/oauth2/revoke
# Nothing here needs the API; should the module ask it all the same, the provider notices and nothing leaves this machine.
QontoEndpoint api       http://127.0.0.1:$provider

<Location "/books">
    AuthType Qonto
    Require valid-user
    ProxyPass http://127.0.0.1:$backend/
</Location>
<Location "/open">
    ProxyPass http://127.0.0.1:$backend/
</Location>
<Location "/qonto/logout">
    SetHandler qonto-logout
</Location>
<Location "/qonto/connect">
    SetHandler qonto-connect
</Location>
CONF
}

sub answers {
    my ($port) = @_;
    return IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 1);
}

sub start_httpd {
    my ($tools, $port) = @_;
    $doing = 'waiting for httpd to start';
    my $httpd = start('httpd', {}, $tools->{httpd}, '-f', "$dir/httpd.conf", '-DFOREGROUND');
    until (answers($port)) {
        give_up('httpd did not start') if wait_for_end($httpd, 0);
        sleep 0.05;
    }
    return $httpd;
}

sub kill_and_restart_httpd {
    my ($httpd, $tools, $port) = @_;
    stop($httpd, 'KILL');
    sleep 0.02 while answers($port);
    return start_httpd($tools, $port);
}

# --- the run ---

sub lay_out {
    $dir = tempdir('qonto-e2e-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    chmod 0755, $dir or die "$dir: $!";    # httpd's children are nobody and must get through
    for my $name (qw(htdocs logs run browser)) {
        mkdir "$dir/$name", 0755 or die "$dir/$name: $!";
    }
    write_file("$dir/htdocs/index.html", 0644, "<!doctype html><title>Home</title><h1>Home</h1>\n");
    write_file("$dir/qonto.secret", 0600, CLIENT_SECRET . "\n");
    return;
}

# The browser's script speaks in lines: results for us to report, and work that only the parent of httpd can do.
sub follow {
    my ($browser, $work) = @_;
    while (defined(my $line = readline $browser->{out})) {
        chomp $line;
        $doing = "following the browser, last heard: $line";
        if    ($line =~ /^(not )?ok (.*)/) { ok(!$1, $2) }
        elsif ($line =~ /^# (.*)/)         { diag($1) }
        elsif ($line =~ /^do (\S+)/ && $work->{$1}) {
            $work->{$1}->();
            local $SIG{PIPE} = 'IGNORE';
            print { $browser->{in} } "done\n";
        }
        else { diag("browser: $line") }
    }
    return;
}

sub browse {
    my ($tools, $port, $provider, $httpd) = @_;
    my $browser = start(
        'browser',
        {   QO_NODE_MODULES => $tools->{node_modules},
            APP             => "http://127.0.0.1:$port",
            PROVIDER        => "http://localhost:$provider->{port}",
            CONTROL         => "http://127.0.0.1:$provider->{control}",
            CHROMIUM        => $tools->{chromium},
            HOME            => "$dir/browser",                # profile and caches vanish with the rest
            TMPDIR          => "$dir/browser",
        },
        $tools->{node}, "$HERE/browser.mjs",
    );
    follow($browser, { 'kill-and-restart-httpd' => sub { $httpd = kill_and_restart_httpd($httpd, $tools, $port) } });
    wait_for_end($browser, 10);
    is($browser->{status}, 0, 'every scenario ran to its end and passed');
    return;
}

sub tail {
    my ($path, $lines) = @_;
    open(my $file, '<', $path) or return;
    my @all = <$file>;
    splice @all, 0, -$lines if @all > $lines;
    diag('--- ' . basename($path), "\n", @all) if @all;
    return;
}

sub show_logs {
    tail("$dir/logs/$_", 40) for qw(error_log httpd.stderr provider.stderr backend.stderr browser.stderr);
    return;
}

END {
    my $status = $?;
    alarm 0;
    my $passing = Test::More->builder->is_passing;
    my @running = reverse @processes;    # stop() takes each off the list
    stop($_, 'TERM', 'KILL') for @running;
    show_logs() if $dir && !$passing;
    $? = $status;
}

for my $signal (qw(HUP INT TERM)) {
    $SIG{$signal} = sub { exit 1 };    # through END
}
$SIG{ALRM} = sub { give_up('not done after ' . PATIENCE_SECONDS . " seconds: $doing") };
alarm PATIENCE_SECONDS;
delete @ENV{qw(http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY)};    # everything here is on loopback

my $tools = find_tools();
lay_out();
my $port     = free_port();
my $node_env = { QO_NODE_MODULES => $tools->{node_modules} };
my $provider = ready_line(start(
    'provider',
    {   %$node_env,
        CLIENT_ID     => CLIENT_ID,
        CLIENT_SECRET => CLIENT_SECRET,
        REDIRECT_URI  => "http://127.0.0.1:$port/qonto/callback",
    },
    $tools->{node}, "$HERE/provider.mjs",
));
my $backend = ready_line(start('backend', $node_env, $tools->{node}, "$HERE/backend.mjs"));
write_file("$dir/httpd.conf", 0644, httpd_conf($tools, $port, $provider->{port}, $backend->{port}));
browse($tools, $port, $provider, start_httpd($tools, $port));
done_testing();
