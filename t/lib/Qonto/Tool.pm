package Qonto::Tool;

# The session tool, and sessions written for it. Documentation at the end.

use v5.36;

use Exporter    qw(import);
use IPC::Open2  ();
use JSON::PP    ();
use POSIX       ();
use Qonto::Test ();

our @EXPORT = qw(qontoctl said write_sessions id_of);

my @said;    # all that the tool ever said

sub _slurp ($path) {
    open my $file, '<:raw', $path or die "$path: $!\n";
    local $/;
    return <$file> // '';
}

# { env => {...}, as => uid, out => '/dev/full' }, then its arguments
sub qontoctl (@arguments) {
    my %option = ref $arguments[0] ? shift(@arguments)->%* : ();
    my $folder = File::Temp->newdir('qontoctl-XXXXXX', TMPDIR => 1);
    my $pid    = fork // die "fork: $!\n";
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', $option{out} // "$folder/out" or POSIX::_exit(99);
        open STDERR, '>', "$folder/err" or POSIX::_exit(99);
        delete @ENV{qw(QONTO_STORE QONTO_KEY SUDO_USER)};
        $ENV{LC_ALL} = 'C.UTF-8';
        while (my ($name, $value) = each +($option{env} // {})->%*) { $ENV{$name} = $value }
        if (defined $option{as}) {
            POSIX::setgid($option{as});
            $) = "$option{as} $option{as}";
            POSIX::setuid($option{as});
        }
        my @under = ($option{under} // [])->@*;
        my $tool  = "$ENV{QO_TOP_BUILDDIR}/qontoctl";
        exec @under, $tool, @arguments or POSIX::_exit(99);
    }
    waitpid $pid, 0;
    my $answer = bless {
        status => $? & 127 ? "signal $?" : $? >> 8,
        out => $option{out} ? '' : _slurp("$folder/out"),
        err => _slurp("$folder/err"),
    }, __PACKAGE__;
    push @said, $answer->{out}, $answer->{err};
    return $answer;
}

sub status ($self) { return $self->{status} }
sub out    ($self) { return $self->{out} }
sub err    ($self) { return $self->{err} }
sub lines  ($self) { return split /\n/, $self->{out} }
sub json   ($self) { return map { JSON::PP::decode_json($_) } $self->lines }

# Which of these texts it ever said.
sub said (@texts) {
    my $all = join "\n", @said;
    return grep { length && index($all, $_) >= 0 } @texts;
}

# What a visitor's session is called, as X-Qonto-Session and logs tell.
sub id_of ($cookie) {
    require Digest::SHA;
    return substr Digest::SHA::sha256_hex($cookie =~ s/^[^=]+=//r), 0, 16;
}

# [user, organization, age, idle], ... : their names; then a sub that tells the answer to a
# refresh that was under way all the time.
sub write_sessions ($dir, $key, @sessions) {
    my $pid = IPC::Open2::open2(my $from, my $to, "$ENV{QO_TOP_BUILDDIR}/t/tool/sessions", $dir, $key // ());
    print {$to} map({ join(' ', $_->@*) . "\n" } @sessions), "\n";
    $to->flush;
    my @ids = map { my $id = <$from> // die "t/tool/sessions failed\n"; chomp $id; $id } @sessions;
    my $renew = sub {
        close $to;
        chomp(my @answers = <$from>);
        waitpid $pid, 0;
        return @answers;
    };
    return @ids, $renew;
}

require File::Temp;

1;

__END__

=encoding utf8

=head1 NAME

Qonto::Tool - runs qontoctl for a test

=head1 SYNOPSIS

    use Qonto::Test;
    use Qonto::Tool;

    my $answer = qontoctl('--store' => "lmdb:$dir", qw(sessions list --json));
    is $answer->status, 0;                              # out, err, lines, json
    my @ids = write_sessions($dir, undef, ['ann', 'acme', 10, 3600]);
    my $renew = pop @ids;                               # a holder of the old version
    is_deeply [$renew->()], [0];                        # what session_replace answered
    is_deeply [said(map { $_->@* } values $standin->issued->%*)], [];

=cut
