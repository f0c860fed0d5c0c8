package Qonto::Httpd;

# A private httpd for a test that must restart it, kill it, or see it refuse its
# configuration. Documentation at the end.

use v5.36;

use File::Path qw(remove_tree);
use File::Temp ();
use IO::Socket::INET ();
use POSIX ();
use Qonto::Test ();

require Scalar::Util;

my %running;    # pid of httpd => object, in this process

# --- what every server needs ---

my @MODULES = qw(unixd log_config logio version watchdog
    authn_core authn_file authz_core authz_host authz_user auth_basic
    alias cache cache_disk cache_socache dir env headers include info mime proxy proxy_http
    proxy_wstunnel rewrite setenvif socache_shmcb ssl status);

sub _libexec () {
    state $folder = $ENV{QO_LIBEXEC};
    return $folder if $folder;
    chomp($folder = `apxs2 -q LIBEXECDIR 2>/dev/null` || `apxs -q LIBEXECDIR 2>/dev/null`);
    -d $folder or die "Qonto::Httpd: no apxs and no QO_LIBEXEC\n";
    return $folder;
}

sub _httpd () {
    return $ENV{QO_HTTPD} if $ENV{QO_HTTPD};
    my ($found) = grep {-x} map { ("$_/apache2", "$_/httpd") } qw(/usr/sbin /usr/local/apache2/bin);
    return $found // die "Qonto::Httpd: QO_HTTPD is not set\n";
}

sub new ($class, %option) {
    my $root = File::Temp::tempdir('httpd-XXXXXX', DIR => $ENV{QO_RUN} // '/tmp');
    my $self = bless {
        conf => '', modules => [], mpm => $ENV{QO_MPM} || 'event', module => $ENV{QO_MODULE}, load => 1,
        %option, root => $root, owner => $$, ports => {},
    }, $class;
    $self->{module} // die "Qonto::Httpd: QO_MODULE is not set\n";
    chmod 0755, $root;
    for my $folder (qw(htdocs logs)) {
        mkdir "$root/$folder";
        chmod $folder eq 'logs' ? 0777 : 0755, "$root/$folder";
    }
    $self->write('mime.types', "text/html html\ntext/plain txt\n");
    return $self;
}

sub root ($self) { return $self->{root} }
sub pid  ($self) { return $self->{pid} }

# Ports are found when they are first asked for; "port" is the one httpd listens on.
sub port ($self, $name = 'port') { return $self->{ports}{$name} //= Qonto::Test::free_port() }
sub url ($self, $path = '/', $host = '127.0.0.1') { return "http://$host:" . $self->port . $path }

# Changes what the next start, graceful or check reads.
sub conf ($self, $text) { $self->{conf} = $text; return $self }

sub write ($self, $name, $text, $mode = 0644) {
    my $path = "$self->{root}/$name";
    open my $file, '>:raw', $path or die "$path: $!\n";
    print {$file} $text;
    close $file or die "$path: $!\n";
    chmod $mode, $path;
    return $path;
}

sub _written ($self) {
    my ($libexec, $root) = (_libexec(), $self->{root});
    my $mpm = $self->{mpm};
    my @load = map {"LoadModule ${_}_module $libexec/mod_$_.so\n"} grep { -e "$libexec/mod_$_.so" }
        "mpm_$mpm", @MODULES, $mpm eq 'prefork' ? 'cgi' : ('cgid', 'http2'), $self->{modules}->@*;
    push @load, "LoadModule qonto_oauth_module $self->{module}\n" if $self->{load};
    my $group = getgrnam('nogroup') ? 'nogroup' : 'nobody';
    my $user = $> == 0 ? "User nobody\nGroup $group\n" : '';
    my $conf = $self->{conf} =~ s/\@root\@/$root/gr =~ s/\@(\w*port)\@/$self->port($1)/ger;
    return $self->write('httpd.conf', join '', @load, <<~"CONF", $conf, "\n");
        ServerRoot "$root"
        ServerName 127.0.0.1
        Listen 127.0.0.1:@{[$self->port]}
        PidFile logs/httpd.pid
        ErrorLog logs/error_log
        LogLevel info@{[$self->{load} ? ' qonto_oauth:trace8' : '']}
        DefaultRuntimeDir logs
        @{[$mpm eq 'prefork' ? '' : 'ScriptSock cgisock']}
        DocumentRoot "$root/htdocs"
        TypesConfig mime.types
        $user
        CONF
}

# --- start and stop ---

sub start ($self) {
    my $conf   = $self->_written;
    my $before = $self->_generations;
    my $pid    = fork // die "fork: $!\n";
    if (!$pid) {
        setpgrp 0, 0;    # so that all of it can be ended at once
        open STDIN,  '<',  '/dev/null';
        open STDOUT, '>>', "$self->{root}/logs/stdout";
        open STDERR, '>>', "$self->{root}/logs/stderr";
        chdir $self->{root};
        exec {_httpd()} _httpd(), '-DFOREGROUND', '-d', $self->{root}, '-f', $conf
            or POSIX::_exit(127);
    }
    $self->{pid}   = $pid;
    $running{$pid} = $self;
    Scalar::Util::weaken($running{$pid});
    my $up = Qonto::Test::wait_until(30, sub { $self->_gone || $self->_serves($before) });
    return $self if $up && $self->{pid};
    my $why = $self->error_log . $self->_text('stderr');
    $self->stop;
    die "httpd does not start:\n$why\n";
}

# The port is open long before there is a child to serve it; httpd says when there is.
sub _generations ($self) { return scalar(() = $self->error_log =~ /resuming normal operations/g) }

sub _serves ($self, $before) {
    return $self->_generations > $before
        && IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->port, Timeout => 1);
}

# True (and forgotten) when the process has ended.
sub _gone ($self) {
    my $pid = $self->{pid} or return 1;
    return 0 if waitpid($pid, POSIX::WNOHANG()) == 0;
    $self->_forget;
    return 1;
}

sub _end ($self, $signal) {
    my $pid = $self->{pid} or return;
    kill $signal, $pid;
    return if Qonto::Test::wait_until(15, sub { $self->_gone });
    return $self->kill9;
}

sub stop ($self) { return $self->_end('TERM') }

# Every process of this server at one instant, no last words.
sub kill9 ($self) {
    my $pid = $self->{pid} or return;
    kill KILL => -$pid;
    waitpid $pid, 0;
    $self->_forget;
    return;
}

# Until the last process of the group has ended, its sockets still accept connections.
sub _forget ($self) {
    my $pid = delete $self->{pid};
    delete $running{$pid};
    kill KILL => -$pid;
    Qonto::Test::wait_until(15, sub { !grep { $_->{group} == $pid && !_has_ended($_) } _processes() });
    return;
}

# A zombie whose other threads are still ending has not let go of its sockets.
sub _has_ended ($process) {
    return $process->{state} =~ /[ZX]/ && 2 > (() = glob "/proc/$process->{pid}/task/*");
}

sub _processes () {
    my @found;
    for my $stat (glob '/proc/[0-9]*/stat') {
        open my $file, '<', $stat or next;
        my ($pid, $rest) = (<$file> // '') =~ /^(\d+) \(.*\) (.*)/ or next;
        my ($state, $parent, $group) = split / /, $rest;
        push @found, { pid => $pid, state => $state, parent => $parent, group => $group };
    }
    return @found;
}

sub restart ($self) { $self->stop; return $self->start }

# Returns when the new generation serves; the old one may still be at work.
sub graceful ($self) {
    $self->_written;
    my $before = $self->_generations;
    kill USR1 => $self->{pid};
    Qonto::Test::wait_until(15, sub { $self->_serves($before) })
        or die "httpd did not restart:\n" . $self->error_log;
    return $self;
}

sub children ($self) {
    my $pid = $self->{pid} // -1;
    return map { $_->{pid} } grep { $_->{parent} == $pid && $_->{state} ne 'Z' } _processes();
}

# --- configuration test ---

# (exit status, what it said)
sub check ($self, @arguments) {
    my $conf = $self->_written;
    my $said = "$self->{root}/logs/check";
    my $pid  = fork // die "fork: $!\n";
    if (!$pid) {
        open STDIN,  '<',  '/dev/null';
        open STDOUT, '>',  $said;
        open STDERR, '>&', \*STDOUT;
        exec {_httpd()} _httpd(), '-t', @arguments, '-d', $self->{root}, '-f', $conf or POSIX::_exit(127);
    }
    waitpid $pid, 0;
    my $status = $? & 127 ? 256 + ($? & 127) : $? >> 8;
    return $status, $self->_text('check');
}

# The ten lines of a configuration that works; a test changes one thing at a time. Names are
# directives: a string replaces the line, a list several, undef takes it away; `_` is text that
# goes behind them, `first` text that goes before.
sub sample (%change) {
    my $first = delete $change{first} // '';
    my $last  = delete $change{_} // '';
    my @lines = (
        QontoClientId     => 'qonto-client',
        QontoClientSecret => 'qonto-secret',
        QontoRedirectURI  => 'http://127.0.0.1:@port@/qonto/callback',
        QontoSessionStore => 'lmdb:@root@/store',
    );
    my $text = '';
    while (my ($name, $value) = splice @lines, 0, 2) {
        $value = delete $change{$name} if exists $change{$name};
        $text .= "$name $_\n" for ref $value ? $value->@* : $value // ();
    }
    for my $name (sort keys %change) {
        $text .= "$name $_\n" for ref $change{$name} ? $change{$name}->@* : $change{$name} // ();
    }
    return "$first\n$text\n<Location \"/app\">\nAuthType Qonto\nRequire valid-user\n</Location>\n$last\n";
}

# --- logs ---

sub _text ($self, $name) {
    open my $file, '<:raw', "$self->{root}/logs/$name" or return '';
    local $/;
    return <$file> // '';
}

sub error_log ($self) { return $self->_text('error_log') }
sub clear_log ($self) { truncate "$self->{root}/logs/error_log", 0; return }

# Which of the secrets stand in a line of our module (or of libcurl): they may not.
sub secrets_in_log ($self, @secrets) {
    my $text = join "\n", grep {/qonto_oauth:|\bQO\d{4}\b/} split /\n/, $self->error_log;
    return grep { length && index($text, $_) >= 0 } @secrets;
}

# --- nothing stays behind ---

sub DESTROY ($self) {
    return if $self->{owner} != $$;
    local ($?, $!, $@);
    $self->stop;
    remove_tree($self->{root}) unless $ENV{QO_KEEP};
    return;
}

END {
    my $status = $?;
    for my $server (grep {defined} values %running) {
        $server->stop if $server->{owner} == $$;
    }
    $? = $status;
}

for my $signal (qw(TERM INT HUP)) {
    $SIG{$signal} //= sub { exit 1 };
}

1;

__END__

=encoding utf8

=head1 NAME

Qonto::Httpd - a private httpd for one test

=head1 SYNOPSIS

    use Qonto::Test;
    use Qonto::Httpd;

    my $q = Qonto::StandIn->start;
    my $h = Qonto::Httpd->new(conf => <<"CONF")->start;
    QontoClientId qonto-client
    QontoClientSecret qonto-secret
    QontoRedirectURI http://127.0.0.1:\@port\@/qonto/callback
    QontoSessionStore lmdb:\@root\@/store
    QontoEndpoint token @{[$q->url]}/oauth2/token
    CONF
    browser()->visit($h->url('/x'));
    $h->graceful; $h->kill9; $h->start; $h->restart; $h->stop;
    my ($status, $said) = $h->check;                   # httpd -t
    is_deeply [$h->secrets_in_log(map { $_->@* } values $q->issued->%*)], [];

=head1 DESCRIPTION

Has a ServerRoot of its own below QO_RUN (C<root>, with F<htdocs> and F<logs>), loads every module that the suite uses
and ours, listens on C<port>, runs as nobody when the test is root's. In C<conf>, C<@port@> and any C<@..._port@> are
free ports (C<< $h->port('other_port') >>), C<@root@> is the folder. C<write(name, text, mode)> makes a file there.
Options: C<conf>, C<mpm> (QO_MPM), C<modules> (more of them), C<load> (0: without ours).

C<Qonto::Httpd::sample(QontoScopes =E<gt> 'a b', QontoClientSecret =E<gt> undef, _ =E<gt> $more)> is the text of a
configuration that works, changed.

Leave ErrorLog and the LogLevel of httpd itself to it: it reads there that the server is ready.

It is stopped when the object goes, at the test's end, or by a signal to the test. QO_KEEP keeps the folder.

=cut
