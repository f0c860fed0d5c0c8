package Qonto::Refresh;

# What the tests of token renewal share: visitors whose tokens end, bursts of requests, and an
# httpd that dies or stops at one point of a refresh. Documentation at the end.

use v5.36;

use Digest::SHA qw(sha256_hex);
use Exporter    qw(import);
use HTTP::Tiny  ();
use Qonto::Rig  qw(conf_file crashes protected proxied qonto rig);
use Qonto::Test;
use Time::HiRes ();

our @EXPORT = qw(asked_for at_point burst calls ends expire farm half is_in is_new is_sound is_tokens nap now pace
    point_reached preloaded processes renewed seen_tokens served sign_in_for statuses tale visitors works_at_qonto);

sub now () { return Time::HiRes::time() }

# Seconds that are lived through, and not only a limit: longer on a slow machine, but not ten times.
sub pace ($seconds) {
    my $times = $ENV{QO_SLOW} || 1;
    return $seconds * ($times < 4 ? $times : 4);
}

sub nap ($seconds) { select undef, undef, undef, $seconds if $seconds > 0 }

# --- servers ---

# Four processes under every MPM, whatever the rig's own numbers are.
my $FOUR = <<'CONF';
<IfModule mpm_prefork_module>
    ServerLimit 80
    StartServers 60
    MinSpareServers 10
    MaxSpareServers 80
    MaxRequestWorkers 80
</IfModule>
<IfModule !mpm_prefork_module>
    StartServers 4
    ServerLimit 4
    ThreadsPerChild 20
    MinSpareThreads 80
    MaxSpareThreads 80
    MaxRequestWorkers 80
</IfModule>
ListenBacklog 1024
CustomLog logs/served "%P %D %s %U"
CONF

# A rig with four children, an open, a protected, a `pass` and an "all granted" location.
# more => text or sub ($rig); directives as for Qonto::Rig::qonto.
sub farm (%option) {
    my $more = delete $option{more} // '';
    my $rig  = delete $option{rig}  // {};
    %option = (QontoSessionStore => $ENV{QO_STORE}, QontoSessionKey => 'k4' x 16, %option) if $ENV{QO_STORE};
    return rig($rig->%*, conf => sub ($rig) {
        return $FOUR . qonto($rig->standin, %option)
            . join('', map { proxied($_, $rig->backend) } qw(/app/ /open/ /pass/ /granted/))
            . protected('/app/') . protected('/pass/', 'QontoUnauthenticated pass')
            . qq{<Location "/granted/">\nAuthType Qonto\nRequire all granted\n</Location>\n}
            . qq{<Location "/qonto/logout">\nSetHandler qonto-logout\n</Location>\n}
            . (ref $more ? $more->($rig) : $more);
    });
}

# --- visitors ---

# Signed in now, with tokens that live for $life seconds; what is issued later lives an hour.
sub visitors ($rig, $count, $life = 1, $path = '/app/in') {
    my @all = map { sign_in_for($rig, $life, $path) } 1 .. $count;
    return @all;
}

sub sign_in_for ($rig, $life, $path = '/app/in', $port = 'port') {
    $life = int pace($life);
    $rig->standin->set(access_life => $life);
    my $browser = browser();
    my $began   = now();
    my $page    = $browser->visit($rig->url($path, $port));
    $page->status == 200 or die "no sign-in:\n" . tale($page);
    $rig->standin->set(access_life => 3600);
    my ($cookie) = map { $_->[1] } grep { $_->[0] eq 'qonto' } $browser->cookies;
    my $issued = $rig->standin->issued;
    return { browser => $browser, cookie => $cookie, life => $life, began => $began, ends => now() + $life,
        access => $issued->{access_token}[-1], refresh => $issued->{refresh_token}[-1] };
}

# Waits until the access tokens of all of them have ended, or until less than half is left; `ends` is how
# many seconds the first of them has at least.
sub expire (@visitors) { nap($_->{ends} + 0.05 - now()) for @visitors; return }
sub half   (@visitors) { nap($_->{ends} - $_->{life} / 2 + 0.1 - now()) for @visitors; return }
sub ends   (@visitors) { return (sort { $a <=> $b } map { $_->{began} + $_->{life} - now() } @visitors)[0] }

# --- requests ---

# Many at once; the answers, in order. @paths are taken in turn.
sub burst ($rig, $visitor, $count, @paths) {
    @paths = '/app/burst' if !@paths;
    my @flying = map { $visitor->{browser}->begin(GET => $rig->url($paths[$_ % @paths])) } 0 .. $count - 1;
    return map { $visitor->{browser}->finish($_) } @flying;
}

# "200 x 49, 503 x 1"
sub statuses (@answers) {
    my %count;
    $count{ $_->status }++ for @answers;
    return join ', ', map {"$_ x $count{$_}"} sort keys %count;
}

# The access tokens that reached the backend since its last clear: token => how often; '-' without.
sub seen_tokens ($rig, $at = qr/^/) {
    my %seen;
    for my $request (grep { $_->{path} =~ $at } $rig->backend->requests) {
        my ($value) = map { $_->[1] } grep { lc $_->[0] eq 'authorization' } $request->{headers}->@*;
        $seen{ ($value // '') =~ /^Bearer (\S+)$/ ? $1 : '-' }++;
    }
    return \%seen;
}

# What httpd itself says it has answered: { pid, seconds, status, path }, in the order of their ends.
# It writes a line when the answer has been sent: $least of them are waited for.
sub served ($rig, $path = undef, $least = 0) {
    my @all;
    wait_until(5, sub {
        @all = grep { !defined $path || $_->{path} eq $path }
            map { /^(\d+) (\d+) (\d+) (\S+)$/ ? { pid => $1, seconds => $2 / 1e6, status => $3, path => $4 } : () }
            split /\n/, $rig->httpd->_text('served');
        return @all >= $least;
    });
    return @all;
}

sub processes ($rig) {
    my %seen = map { $_->{pid} => 1 } served($rig);
    return sort keys %seen;
}

# --- what Qonto knows ---

sub calls     ($rig) { return scalar $rig->standin->refreshes }
sub asked_for ($rig) { return map { $_->{refresh_token} } $rig->standin->refreshes }

# Does the access token open Qonto's API?
sub works_at_qonto ($rig, $token) {
    my $answer = HTTP::Tiny->new(timeout => 20)
        ->get($rig->standin->url . '/v2/organization', { headers => { Authorization => "Bearer $token" } });
    return $answer->{status} == 200;
}

# The newest tokens are this visitor's from now on.
sub renewed ($rig, $visitor) {
    my $issued = $rig->standin->issued;
    $visitor->@{qw(access refresh)} = map { $issued->{$_}[-1] } qw(access_token refresh_token);
    return $visitor;
}

# --- findings ---

# Tokens never reach the output: of each, the first digits of its hash.
sub _veiled ($data) {
    return [map { _veiled($_) } $data->@*] if ref $data eq 'ARRAY';
    return { map { _veiled($_) => _veiled($data->{$_}) } keys $data->%* } if ref $data eq 'HASH';
    return ($data // 'nothing') =~ /^ory_/ ? 'token ' . substr sha256_hex($data), 0, 8 : $data;
}

# An answer's story, for diag.
sub tale ($answer) { return $answer->story =~ s/\bory_[\w.~-]+/[token]/gr }

sub is_tokens ($got, $want, $name) { return is_deeply _veiled($got), _veiled($want), $name }

# Of these answers to one session: all 200, all with the newest token, which works.
sub is_new ($rig, $visitor, $name, @answers) {
    return subtest $name => sub {
        is statuses(@answers), '200 x ' . @answers, 'all are answered'
            or diag join "\n", map { substr tale($_), 0, 400 } grep { $_->status != 200 } @answers;
        renewed($rig, $visitor);
        my $seen = seen_tokens($rig);
        is join(', ', sort values $seen->%*), scalar @answers, 'all with the same token';
        ok $seen->{ $visitor->{access} }, 'the new one';
        ok works_at_qonto($rig, $visitor->{access}), 'which works';
        is_deeply [map { $_->headers('Set-Cookie') } @answers], [], 'the cookie is the same';
    };
}

# One more visit: signed in, with this token, without a call.
sub is_in ($rig, $visitor, $name) {
    my $before = calls($rig);
    $rig->backend->clear;
    my $answer = $visitor->{browser}->get($rig->url('/app/after'));
    return subtest $name => sub {
        is $answer->status, 200, 'signed in' or diag tale($answer);
        is_tokens [keys seen_tokens($rig)->%*], [$visitor->{access}], 'with the newest token';
        is calls($rig), $before, 'no call to Qonto';
    };
}

# At the end of each test: nothing crashed, nothing secret was written down.
sub is_sound ($rig, @visitors) {
    my $log = $rig->httpd->error_log;
    is_deeply [crashes($log)], [], 'no crash';
    is_deeply [grep {/\bQO0001\b|\bQO004[01]\b/} split /\n/, $log], [], 'no failure of ours, nor of the store';
    my $issued  = $rig->standin->issued;
    my @secrets = (map({ $_->@* } values $issued->%*), map({ $_->{cookie} } @visitors), 'qonto-secret');
    cmp_ok scalar(grep {/\[qonto_oauth:trace/} split /\n/, $log), '>=', 0, 'the log was read';
    is scalar($rig->httpd->secrets_in_log(@secrets)), 0, 'no secret in the log';
    return;
}

# --- points of a refresh ---

# From now on this test's httpds have the library.
sub preloaded ($rig) {
    my $library = "$ENV{QO_TOP_BUILDDIR}/.libs/libqocrash.so";
    -e $library or die "$library is missing: make check\n";
    my $folder = $rig->root . '/point';
    mkdir $folder;
    chmod 0777, $folder;
    my $real = Qonto::Httpd::_httpd();
    $ENV{QO_HTTPD} = $rig->httpd->write('httpd', <<~"SH", 0755);
        #!/bin/sh
        QO_CRASH='$folder/wish' LD_PRELOAD='$library' exec '$real' "\$@"
        SH
    return $rig;
}

# The next process that comes to this point: "before kill", see t/lib/crash.c.
sub at_point ($rig, $wish) {
    unlink $rig->root . '/point/wish.pid';
    conf_file($rig, 'point/new', $wish, 0666);
    rename $rig->root . '/point/new', $rig->root . '/point/wish' or die "wish: $!\n";
    return;
}

# Its number, once it was there.
sub point_reached ($rig) {
    return wait_until(10, sub {
        open my $file, '<', $rig->root . '/point/wish.pid' or return;
        return (<$file> // '') =~ /^(\d+)\n/ ? $1 : undef;
    });
}

1;

__END__

=encoding utf8

=head1 NAME

Qonto::Refresh - words for tests of token renewal

=head1 SYNOPSIS

    use Qonto::Test;
    use Qonto::Refresh;

    my $rig = farm(QontoRefreshMargin => '60s')->start;
    my ($visitor) = visitors($rig, 1);
    expire($visitor);
    $rig->standin->reset;
    $rig->backend->clear;
    is_new $rig, $visitor, '50 at once', burst($rig, $visitor, 50);
    is calls($rig), 1, 'one call';

C<QO_STORE> in the environment is the store of every farm that names none: C<QO_STORE='shmcb:logs/s(9000000)' perl t/TEST
refresh>. A store with a URL gets a key, too.

=head1 VISITORS

Hashes of C<browser>, C<cookie>, C<access> and C<refresh> (its present tokens), C<began>, C<life> and C<ends> (of the
token it signed in with). Seconds of life are multiplied by C<pace>.

=cut
