package Qonto::Rig;

# A whole set-up for one test: stand-in, backend and a private httpd between them.
# Documentation at the end.

use v5.36;

use Exporter qw(import);
use Qonto::Httpd   ();
use Qonto::StandIn ();
use Qonto::Test    ();

our @EXPORT = qw(conf_file crashes fold log_lines protected proxied qonto rig token_of);

# --- words of a configuration ---

# The directives of one virtual host; undef leaves one out, a list writes one several times.
sub qonto ($standin, %change) {
    my $at = $standin->url;
    my %set = (
        QontoClientId     => 'qonto-client',
        QontoClientSecret => 'qonto-secret',
        QontoRedirectURI  => 'http://127.0.0.1:@port@/qonto/callback',
        QontoSessionStore => 'lmdb:@root@/store',
        QontoEndpoint     => ["authorize $at/oauth2/auth", "token $at/oauth2/token", "revoke $at/oauth2/revoke", "api $at"],
        %change,
    );
    my @lines;
    for my $name (sort grep { defined $set{$_} } keys %set) {
        push @lines, map {"$name $_\n"} ref $set{$name} ? $set{$name}->@* : $set{$name};
    }
    return join '', @lines;
}

# <Location> for signed-in visitors, with more lines in it.
sub protected ($path, @more) {
    return join "\n", qq{<Location "$path">}, 'AuthType Qonto', 'Require valid-user', @more, "</Location>\n";
}

sub proxied ($path, $backend, @parameters) {
    return join(' ', qq{ProxyPass "$path"}, $backend->url . $path, @parameters) . "\n";
}

# --- the set-up ---

# conf => sub ($rig) { text }; standin, backend, httpd => their options.
sub rig (%option) {
    my $self = bless { owner => $$, %option }, __PACKAGE__;
    $self->{standin} = Qonto::StandIn->start(($option{standin} // {})->%*);
    $self->{backend} = Qonto::Test::backend(($option{backend} // {})->%*);
    $self->{httpd}   = Qonto::Httpd->new(($option{httpd} // {})->%*);
    return $self;
}

# Several processes under every MPM, or "two hits at once" would prove little.
my $SERVER = <<'CONF';
<IfModule mpm_prefork_module>
    StartServers 6
    MinSpareServers 4
    MaxSpareServers 12
    MaxRequestWorkers 40
</IfModule>
<IfModule !mpm_prefork_module>
    StartServers 2
    ServerLimit 4
    ThreadsPerChild 12
    MinSpareThreads 12
    MaxSpareThreads 48
    MaxRequestWorkers 48
</IfModule>
CONF

sub start ($self) {
    $self->{httpd}->conf($self->text)->start;
    return $self;
}

# The configuration as httpd will read it next.
sub text ($self) { return $SERVER . $self->{conf}->($self) }

# Another configuration, taken up by the next restart or graceful.
sub conf ($self, $maker) {
    $self->{conf} = $maker;
    $self->{httpd}->conf($self->text);
    return $self;
}

sub standin ($self) { return $self->{standin} }
sub backend ($self) { return $self->{backend} }
sub httpd   ($self) { return $self->{httpd} }
sub root    ($self) { return $self->{httpd}->root }

sub url ($self, $path = '/', $port = 'port') {
    return 'http://127.0.0.1:' . $self->{httpd}->port($port) . $path;
}

# --- what a test wants to know ---

# The access token that reached the backend with its last request.
sub token_of ($backend) {
    my ($value) = $backend->got(qr/^authorization$/i);
    return ($value // '') =~ /^Bearer (\S+)$/ ? $1 : undef;
}

# A header's name as CGI, WSGI and their like see it.
sub fold ($name) { return lc($name) =~ s/[^a-z0-9]/-/gr }

# Lines of our module in an error log.
sub log_lines ($text) { return grep {/\[qonto_oauth:|\bQO\d{4}\b/} split /\n/, $text }

# Children that crashed while the server was running. At a stop, the event MPM closes sockets that
# its workers may just have freed (close_worker_sockets), and now and then dies of it: not ours.
sub crashes ($log) {
    my @found;
    for my $line (split /\n/, $log) {
        push @found, $line if $line =~ /exit signal (?:Segmentation|Abort|Bus|Illegal|Floating)/;
        @found = grep { _time($_) ne _time($line) } @found if $line =~ /caught SIGTERM, shutting down/;
    }
    return @found;
}

sub _time ($line) { return $line =~ /^\[\w+ (\w+ \d+ [\d:]+)/ ? $1 : '' }    # to the second

# A file below the private httpd's root; folders are made.
sub conf_file ($rig, $name, $text, $mode = 0644) {
    require File::Path;
    my ($folder) = $name =~ m{^(.*)/};
    File::Path::make_path($rig->root . "/$folder", { mode => 0755 }) if defined $folder;
    return $rig->httpd->write($name, $text, $mode);
}

1;

__END__

=encoding utf8

=head1 NAME

Qonto::Rig - stand-in, backend and private httpd for one test

=head1 SYNOPSIS

    use Qonto::Test;
    use Qonto::Rig;

    my $rig = rig(conf => sub ($rig) {
        qonto($rig->standin, QontoSessionTimeout => '4s 9s')
            . protected('/app/') . proxied('/app/', $rig->backend);
    })->start;
    sign_in(browser(), $rig->url('/app/x'));

=head1 DESCRIPTION

C<qonto> writes the directives of a virtual host that uses the stand-in; C<protected> and C<proxied> write a location
and a ProxyPass. C<@port@> and C<@root@> are L<Qonto::Httpd>'s. C<< $rig->conf(sub) >> gives httpd another
configuration for its next restart.

=cut
