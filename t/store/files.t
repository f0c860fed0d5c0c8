# The store's files: readable for the server's user alone, and of no use to who reads them: no
# token, code, state, verifier, cookie or secret stands in them in clear.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use File::Find ();
use MIME::Base64 qw(decode_base64url encode_base64);

my $key = 'k3' x 32;
my $rig = rig(
    standin => { staging_token => 'staging-token-of-the-sandbox-123456' },
    conf    => sub ($rig) {
        my %sandbox = (QontoSandbox => 'On', QontoStagingToken => 'staging-token-of-the-sandbox-123456');
        my $second = "Listen 127.0.0.1:\@second_port\@\n<VirtualHost 127.0.0.1:\@second_port\@>\n" . qonto($rig->standin, %sandbox,
            QontoRedirectURI => 'http://127.0.0.1:@second_port@/qonto/callback', QontoSessionStore => 'lmdb:@root@/given',
            QontoSessionKey => $key) . proxied('/app/', $rig->backend) . protected('/app/') . "</VirtualHost>\n";
        return qonto($rig->standin, %sandbox) . proxied('/app/', $rig->backend) . protected('/app/')
            . qq{<Location "/qonto/logout">\nSetHandler qonto-logout\n</Location>\n} . $second;
    },
)->start;

my (@secrets, @browsers);
sub remember ($kind, $value) { push @secrets, [$kind, $value] if length($value // '') }

sub watch ($answer) {
    for my $each ($answer->chain) {
        my $to = $each->header('Location') // '';
        remember(state => $1) if $to =~ /[?&]state=([^&]+)/;
        remember(code => decode($1)) if $to =~ /[?&]code=([^&]+)/;
        remember(challenge => $1) if $to =~ /[?&]code_challenge=([^&]+)/;
        for my $line ($each->headers('Set-Cookie')) { remember(cookie => $1) if $line =~ /^[^=]+=([^;]{16,})/ }
    }
    return $answer;
}

for my $port (qw(port second_port)) {
    for my $number (1 .. 6) {
        my $browser = browser();
        my $page = watch($browser->visit($rig->url("/app/secret-page-$number?account=4711", $port)));
        $page->status == 200 or diag $page->story;
        push @browsers, $browser;
        my $exchange = $rig->standin->last('exchange');
        remember(verifier => $exchange->{params}{code_verifier});
        watch(browser()->get($rig->url("/app/pending-$number?iban=FR76", $port))) for 1 .. 3;
        my $other = browser();
        my $answer = watch($other->get($rig->url('/app/half', $port)));
        remember(code => $other->follow_until($answer, qr{/qonto/callback}) =~ /code=([^&]+)/);
    }
}
$browsers[0]->post($rig->url('/qonto/logout'));
is scalar(grep { $_->[0] eq 'verifier' } @secrets), 12, 'verifiers were seen';
for my $kind (sort keys $rig->standin->issued->%*) {
    remember($kind => $_) for $rig->standin->issued->{$kind}->@*;
}
remember(secret  => 'qonto-secret');
remember(staging => 'staging-token-of-the-sandbox-123456');
remember(key     => $key);
remember(page    => "secret-page-$_") for 1 .. 6;
remember(page    => "pending-$_") for 1 .. 6;
remember(query   => $_) for 'account=4711', 'iban=FR76';

# A file read as bytes; what lies in an LMDB map is in the file.
sub bytes ($path) {
    open my $file, '<:raw', $path or die "$path: $!\n";
    local $/;
    return <$file> // '';
}

sub files ($folder) {
    my @found;
    File::Find::find({ no_chdir => 1, wanted => sub { push @found, $_ } }, $folder);
    return sort @found;
}

sub found_in ($text) {
    my %met;
    for my $secret (@secrets) {
        my ($kind, $value) = $secret->@*;
        my @forms = ($value, unpack('H*', $value), encode_base64($value, '') =~ s/=*$//r, scalar reverse $value);
        push @forms, decode_base64url($value) if $value =~ /^[\w-]{22,43}$/;
        push @forms, split /\./, $value if $value =~ /^ory_/;
        $met{$kind}++ if grep { length >= 8 && index($text, $_) >= 0 } @forms;
    }
    return \%met;
}

for my $stage ('while it runs', 'after a stop') {
    $rig->httpd->stop if $stage ne 'while it runs';
    for my $folder (qw(store given)) {
        my @files = files($rig->root . "/$folder");
        cmp_ok scalar @files, '>=', 3, "$folder $stage: there are files";
        my $all = join '', map { bytes($_) } grep {-f} @files;
        cmp_ok length $all, '>', 4096, 'with something in them';
        is_deeply found_in($all), {}, 'nothing in clear';
    }
}
is_deeply [sort keys found_in("x$secrets[0][1]x")->%*], [$secrets[0][0]], 'this test would notice';

# --- whose they are ---

my $run_as = $> == 0 ? getpwnam('nobody') : $>;
for my $folder (qw(store given)) {
    for my $path (files($rig->root . "/$folder")) {
        my ($mode, $uid) = (stat $path)[2, 4];
        my $name = substr $path, 1 + length $rig->root;
        is sprintf('%04o', $mode & 07777), -d $path ? '0700' : '0600', "$name is private";
        is $uid, $run_as, "$name belongs to who serves" if $name !~ /\bkey\b/;
    }
}
my @key = grep {/key/i} files($rig->root . '/store');
is scalar @key, 1, 'a key was made beside the store';
cmp_ok -s $key[0], '>=', 32, 'long enough';
is_deeply [grep {/key/i} files($rig->root . '/given')], [], 'none where QontoSessionKey gives one';
my $made = bytes($key[0]) =~ s/\s+$//r;
my $rest = join '', map { bytes($_) } grep { -f && $_ ne $key[0] } files($rig->root . '/store');
ok index($rest, $made) < 0, 'the key stands nowhere else';

# It is not made anew.
$rig->httpd->start;
is bytes($key[0]) =~ s/\s+$//r, $made, 'the key stays';
is $browsers[1]->get($rig->url('/app/x'))->status, 200, 'and so do sessions';

done_testing;
