package Qonto::Redis;

# A real redis-server for one test, on loopback and a unix socket. Documentation at the end.

use v5.36;

use Exporter qw(import);
use File::Path qw(remove_tree);
use File::Temp ();
use IO::Socket::INET ();
use IO::Socket::UNIX ();
use POSIX ();
use Qonto::Test ();
use Scalar::Util ();

our @EXPORT = qw(acl_rule redis);

my %running;    # pid => object, in this process

my $PASSWORD = 'redis-pass-4711/a?b@c%d';

sub redis (%option) { return __PACKAGE__->new(%option) }

# The line of DIRECTIVES.md that admins are to paste, with a password of ours.
sub acl_rule ($password = $PASSWORD) {
    my $top = $ENV{QO_TOP_SRCDIR} // die "run me through t/TEST\n";
    open my $file, '<', "$top/mod_qonto_oauth/DIRECTIVES.md" or die "$top: $!\n";
    my ($rule) = map {/^    (user qonto on >password .*)/ ? $1 : ()} <$file>;
    return ($rule // die "DIRECTIVES.md has no ACL rule\n") =~ s/>password/>$password/r;
}

# conf => text of more configuration; tls => what Qonto::StandIn::certificates made of one;
# command => what runs it, instead of this machine; bind => address; start => 0.
sub new ($class, %option) {
    my $root = File::Temp::tempdir('redis-XXXXXX', DIR => $ENV{QO_RUN} // '/tmp');
    my $self = bless { conf => '', bind => '127.0.0.1', start => 1, command => [], %option, root => $root, owner => $$ }, $class;
    chmod 0755, $root;
    $self->{port} = Qonto::Test::free_port();
    $self->{tls_port} = Qonto::Test::free_port() if $self->{tls};
    $self->start if $self->{start};
    return $self;
}

sub port   ($self) { return $self->{port} }
sub pid    ($self) { return $self->{pid} }
sub socket ($self) { return "$self->{root}/socket" }

# Who may do what the manual says, and the same for admins, who log in with nothing.
sub _written ($self) {
    my $path = "$self->{root}/redis.conf";
    open my $file, '>', $path or die "$path: $!\n";
    print {$file} <<~"CONF";
        port $self->{port}
        bind $self->{bind}
        protected-mode no
        unixsocket @{[$self->socket]}
        unixsocketperm 777
        dir $self->{root}
        logfile $self->{root}/log
        daemonize no
        save ""
        $self->{conf}
        CONF
    print {$file} acl_rule(), "\n";
    print {$file} <<~"CONF" if $self->{tls};
        tls-port $self->{tls_port}
        tls-auth-clients no
        tls-cert-file $self->{tls}{cert}
        tls-key-file $self->{tls}{key}
        tls-ca-cert-file $self->{tls}{ca}
        CONF
    close $file or die "$path: $!\n";
    return $path;
}

# --- URLs ---

sub password ($self) { return $PASSWORD }

sub _user ($self) { return 'qonto:' . Qonto::Test::encode($PASSWORD) }

# For QontoSessionStore, in quotes; parameters as name => value. A slow machine gets more time.
sub _url ($self, $place, %parameter) {
    my $slow = Qonto::Test::slow(500);
    $parameter{timeout} //= ($slow > 10_000 ? 10_000 : $slow) . 'ms' if $slow > 500;
    my $query = join '&', map {"$_=" . Qonto::Test::encode($parameter{$_})} sort keys %parameter;
    return '"' . $place . (length $query ? "?$query" : '') . '"';
}

sub url ($self, %parameter) {
    my $host = delete $parameter{host} // $self->{bind};
    return $self->_url('redis://' . $self->_user . "\@$host:$self->{port}/0", %parameter);
}

sub tls_url ($self, %parameter) {
    my $host = delete $parameter{host} // '127.0.0.1';
    return $self->_url('rediss://' . $self->_user . "\@$host:$self->{tls_port}/0", %parameter);
}

sub unix_url ($self, %parameter) {
    return $self->_url('redis+unix://' . $self->_user . '@' . $self->socket, %parameter);
}

# --- start and stop ---

sub start ($self) {
    my $conf = $self->_written;
    my $pid  = fork // die "fork: $!\n";
    if (!$pid) {
        open STDIN,  '<',  '/dev/null';
        open STDOUT, '>>', "$self->{root}/said";
        open STDERR, '>&', \*STDOUT;
        exec $self->{command}->@*, 'redis-server', $conf or POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    $running{$pid} = $self;
    Scalar::Util::weaken($running{$pid});
    my $up = Qonto::Test::wait_until(15, sub { $self->_gone || $self->say('PING') eq '+PONG' });
    return $self if $up && $self->{pid};
    my $why = join "\n", map { _slurp("$self->{root}/$_") } qw(said log);
    $self->stop;
    die "redis-server does not start (package redis-server):\n$why\n";
}

sub _slurp ($path) {
    open my $file, '<', $path or return '';
    local $/;
    return <$file> // '';
}

sub _gone ($self) {
    my $pid = $self->{pid} or return 1;
    return 0 if waitpid($pid, POSIX::WNOHANG()) == 0;
    delete $self->{pid};
    return 1;
}

# As a crash does it; what was to be kept is on disk already.
sub stop ($self) {
    my $pid = delete $self->{pid} or return;
    kill KILL => $pid;
    waitpid $pid, 0;
    delete $running{$pid};
    unlink $self->socket;
    return;
}

sub restart ($self) { $self->stop; return $self->start }
sub pause   ($self) { kill STOP => $self->{pid}; return }
sub resume  ($self) { kill CONT => $self->{pid}; return }

# --- what an admin asks ---

# One command as words; a simple answer as it is, a text or a list of texts.
sub say ($self, @words) {
    my $socket = IO::Socket::UNIX->new(Peer => $self->socket) or return '';
    my $text = '*' . @words . "\r\n";
    $text .= '$' . length($_) . "\r\n$_\r\n" for @words;
    local $SIG{PIPE} = 'IGNORE';
    syswrite $socket, $text;
    vec(my $ready = '', fileno $socket, 1) = 1;
    return '' unless select $ready, undef, undef, Qonto::Test::slow(5);
    my @said = _reply($socket);
    return wantarray ? @said : $said[0] // '';
}

sub _reply ($socket) {
    my $line = readline($socket) // return '';
    $line =~ s/\r\n\z//;
    if ($line =~ /^\$(-?\d+)/) {
        return if $1 < 0;
        my $text = '';
        read $socket, $text, $1 + 2;
        return substr $text, 0, $1;
    }
    return map { _reply($socket) } 1 .. $1 if $line =~ /^\*(\d+)/;
    return $line;
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

1;

__END__

=encoding utf8

=head1 NAME

Qonto::Redis - a real redis-server for one test

=head1 SYNOPSIS

    use Qonto::Redis;

    my $redis = redis();
    qonto($rig->standin, QontoSessionStore => $redis->url(timeout => '300ms'), QontoSessionKey => ...);
    $redis->pause; $redis->resume; $redis->stop; $redis->start; $redis->restart;
    my @keys = $redis->say(KEYS => 'qonto:*');

=head1 DESCRIPTION

The user that C<url>, C<tls_url> and C<unix_url> name may do what the line in DIRECTIVES.md allows, and no more; its
password has every character that must be percent-encoded. C<say> is done as the admin. It ends with the object.

=cut
