# Where secrets come from, and that no sentence ever tells one.
use v5.36;
use Qonto::Httpd;
use Qonto::Test;

my $secret = q{s3cr&t+100%=a/b?c#d 'q' \\ } . "\xc3\xa9\xe2\x82\xac";    # bytes of UTF-8
my $q  = Qonto::StandIn->start(client_secret => $secret);
my $be = backend();
my $h  = Qonto::Httpd->new;
my $more = <<~"CONF";
    QontoEndpoint authorize @{[$q->url]}/oauth2/auth
    QontoEndpoint token     @{[$q->url]}/oauth2/token
    QontoEndpoint revoke    @{[$q->url]}/oauth2/revoke
    ProxyPass /app @{[$be->url]}/app retry=0
    CONF

sub signs_in ($what, $value) {
    $h->conf(Qonto::Httpd::sample(QontoClientSecret => $value, first => $more));
    my ($status, $said) = $h->check;
    is $status, 0, "$what: -t is content" or return diag $said;
    $h->start;
    sign_in(browser(), $h->url('/app/x'));
    is $q->last('exchange')->{params}{client_secret}, $secret, "$what: the secret, byte for byte";
    like $q->last('exchange')->{body}, qr/client_secret=[A-Za-z0-9._~%+*-]+(?:&|$)/, '- percent-encoded';
    is_deeply [$h->secrets_in_log($secret)], [], '- and not in the log';
    $h->stop;
    return;
}

my $script = $h->write('give', "#!/bin/sh\nprintf '%s\\n' \"\$(cat @{[$h->root]}/secret)\"\n", 0700);
$h->write('secret', $secret, 0600);
signs_in 'a file',                         'file:@root@/secret';
signs_in 'a file named from ServerRoot',   'file:secret';
$h->write('secret', "$secret\n", 0600);
signs_in 'a file with a line end',         'file:@root@/secret';
$h->write('secret', "$secret\r\n", 0600);
signs_in 'a file with a line end of DOS',  'file:@root@/secret';
$h->write('secret', "$secret\n", 0640);
signs_in 'a file the group may read',      'file:@root@/secret';
signs_in 'a command',                      'exec:@root@/give';
$h->write('secret', $secret, 0600);
signs_in 'a command with arguments',       '"exec:/bin/cat @root@/secret"';
$h->conf(Qonto::Httpd::sample(QontoSessionStore => 'file:@root@/secret', first => $more));
my ($refused, $sentence) = $h->check;
is $refused, 1, 'a store that is a password alone is refused';
like $sentence, qr/QontoSessionStore.*redis:/s, '- with what to write';
ok index($sentence, substr $secret, 0, 4) < 0, '- and without telling it';
my $quoted = $secret =~ s/([\\"])/\\$1/gr;
signs_in 'a literal',                      "\"$quoted\"";

# What cannot work; [what, value, what the sentence must contain].
$h->write('open',  "top-secret-words\n", 0644);
$h->write('write', "top-secret-words\n", 0602);
$h->write('empty', "\n", 0600);
$h->write('two',   "top-secret-words\nmore top-secret-words\n", 0600);
$h->write('nul',   "top-secret-words\0x\n", 0600);
$h->write('big',   'top-secret-words' x 10_000, 0600);
$h->write('fails', "#!/bin/sh\necho top-secret-words\nexit 3\n", 0700);
$h->write('mute',  "#!/bin/sh\nexit 0\n", 0700);
$h->write('endless', "#!/bin/sh\nexec yes top-secret-words\n", 0700);
my @bad = (
    ['a file others may read',  'file:@root@/open',    qr/chmod|mode|read/i],
    ['a file others may write', 'file:@root@/write',   qr/chmod|mode|write/i],
    ['no such file',            'file:@root@/nothing', qr/nothing/],
    ['a folder',                'file:@root@/logs',    qr/logs/],
    ['an empty file',           'file:@root@/empty',   qr/empty/],
    ['several lines',           'file:@root@/two',     qr/line/i],
    ['a NUL in it',             'file:@root@/nul',     qr/./],
    ['a file too long',         'file:@root@/big',     qr/long|big|large/i],
    ['no name',                 'file:',               qr/file/],
    ['a command that fails',    'exec:@root@/fails',   qr/fails/],
    ['a command that says nothing', 'exec:@root@/mute', qr/mute/],
    ['no such command',         'exec:@root@/missing', qr/missing/],
    ['no command',              'exec:',               qr/exec:/],
);
for my $case (@bad) {
    my ($what, $value, $contains) = $case->@*;
    my ($status, $said) = $h->conf(Qonto::Httpd::sample(QontoClientSecret => $value))->check;
    is $status, 1, "$what: fails" or diag $said;
    like $said, qr/QontoClientSecret/, "$what: named" or next;
    like $said, $contains, "$what: says what is wrong";
    unlike $said, qr/top-secret/, "$what: and not the secret";
}

# A command that never stops talking does not stop httpd from starting or refusing to.
my $began = time;
$h->conf(Qonto::Httpd::sample(QontoClientSecret => 'exec:@root@/endless'))->check;
cmp_ok time - $began, '<', slow(10), 'a command without end is not waited for';

# A mistake elsewhere does not tell it either; all secrets.
my @words = ('top-secret-one', 'top-secret-two', 'top-secret-stage', 'top-secret-key-0123456789-0123456789');
my %all = (QontoClientSecret => "$words[0] $words[1]", QontoSandbox => 'On', QontoStagingToken => $words[2],
    QontoSessionKey => $words[3]);
my ($status, $said) = $h->conf(Qonto::Httpd::sample(%all))->check;
is $status, 0, 'all secrets as literals' or diag $said;
for my $wrong ([QontoRedirectURI => 'http://evil.test/'], [QontoSandbox => 'Off'], [QontoClientSecret => "@words[0, 1] $words[2]"],
    [QontoSessionKey => "$words[3] short-top-secret"], [QontoStagingToken => "$words[2] x"]) {
    ($status, $said) = $h->conf(Qonto::Httpd::sample(%all, @$wrong))->check;
    is $status, 1, "a mistake at $wrong->[0]" or diag $said;
    unlike $said, qr/top-secret/, '- tells no secret';
}
($status, $said) = $h->conf(Qonto::Httpd::sample(QontoProxyURL => 'http://user:top-secret@proxy.test:99999/'))->check;
unlike $said, qr/top-secret/, 'the password of a proxy is not told either' if $status;

done_testing;
