# The session cookie is the module's alone: the backend sees the other cookies as they came, a
# heap of junk costs one log line, and nobody is guessed when a browser brings two sessions.

use v5.36;
use Qonto::Test;
use Qonto::Rig;

my $rig = rig(conf => sub ($rig) {
    my $backend = $rig->backend;
    my $vhost   = join('', map { proxied($_, $backend) } qw(/open/ /app/ /pass/)) . protected('/app/')
        . protected('/pass/', 'QontoUnauthenticated pass');
    my $named = sub ($port, %change) {
        return "Listen 127.0.0.1:\@$port\@\n<VirtualHost 127.0.0.1:\@$port\@>\n"
            . qonto($rig->standin, QontoRedirectURI => "http://127.0.0.1:\@$port\@/qonto/callback", %change)
            . "$vhost</VirtualHost>\n";
    };
    return "LimitRequestFieldSize 16384\n" . qonto($rig->standin) . $vhost
        . $named->('named_port', QontoCookie => 'name=bank')
        . $named->('tls_port', QontoRedirectURI => 'https://127.0.0.1:@tls_port@/qonto/callback')
        . $named->('path_port', QontoRedirectURI => 'https://127.0.0.1:@path_port@/app/cb', QontoCookie => 'path=/app samesite=None');
})->start;

my $backend = $rig->backend;
my $by_hand = browser(jar => undef);

# Signs in without a jar, as TLS is only said to end elsewhere: (name, value) of the session
# cookie and the Set-Cookie lines met.
sub session ($port = 'port') {
    my $answer = $by_hand->get($rig->url('/app/x', $port));
    my @lines  = $answer->headers('Set-Cookie');
    my ($binding) = $lines[0] =~ /^([^;]+)/;
    $answer = $by_hand->get($answer->location);
    $answer = $by_hand->get($answer->location =~ s/^https:/http:/r, Cookie => $binding);
    push @lines, $answer->headers('Set-Cookie');
    my ($pair) = grep { !/;\s*max-age=0/i } $answer->headers('Set-Cookie');
    return [($pair // '') =~ /^([^=]+)=([^;]*)/], \@lines, $binding;
}

sub cookie ($text, $path = '/app/x', $port = 'port') {
    $backend->clear;
    my $answer = $by_hand->get($rig->url($path, $port), Cookie => $text);
    return $answer, join ' | ', $backend->got(qr/^cookie$/i);
}

# --- what they look like ---

my %look = (
    port       => [qr/^qonto=[\w-]{43}; /,             qr/^qonto-\w[\w-]*=[\w-]+; /,         '/',    '/qonto/callback', 'Lax',  0],
    named_port => [qr/^bank=[\w-]{43}; /,              qr/^bank-[\w-]+=[\w-]+; /,            '/',    '/qonto/callback', 'Lax',  0],
    tls_port   => [qr/^__Host-qonto=[\w-]{43}; /,      qr/^(?:__Secure-)?qonto-[\w-]+=[\w-]+; /, '/', '/qonto/callback', 'Lax', 1],
    path_port  => [qr/^__Secure-qonto=[\w-]{43}; /,    qr/^(?:__Secure-)?qonto-[\w-]+=[\w-]+; /, '/app', '/app/cb',     'None', 1],
);
my %pair;
for my $port (sort keys %look) {
    my ($name, $binding_name, $path, $callback, $samesite, $secure) = $look{$port}->@*;
    my ($pair, $lines) = session($port);
    $pair{$port} = join '=', $pair->@*;
    my ($binding) = grep {/$binding_name/} $lines->@*;
    my ($session) = grep {/$name/} $lines->@*;
    ok $session, "$port: the session cookie" or diag explain $lines;
    ok $binding, "$port: the cookie of an unfinished login" or diag explain $lines;
    for my $each ([$session // '', $path], [$binding // '', $callback]) {
        my ($line, $where) = $each->@*;
        like $line, qr/; HttpOnly(?:;|$)/i, 'HttpOnly';
        like $line, qr/; Path=\Q$where\E(?:;|$)/i, "Path=$where";
        my $site = $where eq $callback ? 'Lax' : $samesite;
        like $line, qr/; SameSite=$site(?:;|$)/i, "SameSite=$site";
        unlike $line, qr/; Domain/i, 'this host only';
        $secure ? like($line, qr/; Secure(?:;|$)/i, 'Secure') : unlike($line, qr/; Secure/i, 'not Secure on http');
    }
}

# --- ours go, the others stay as they are ---

my ($mine) = map { $_->[1] } (session())[0];
my $qonto = "qonto=$mine";
for my $case (
    ["$qonto",                                   ''],
    ["a=1; $qonto",                              'a=1'],
    ["$qonto; a=1",                              'a=1'],
    ["a=1; $qonto; b=2",                         'a=1; b=2'],
    ["a=1;$qonto;b=2",                           undef],
    ["a=\"x y\"; $qonto; b=%20; c; =d; e==",     'a="x y"; b=%20; c; =d; e=='],
    ["Qonto=1; $qonto; QONTO=2",                 'Qonto=1; QONTO=2'],
    ["qontology=1; $qonto; xqonto=2; my-qonto=3", 'qontology=1; xqonto=2; my-qonto=3'],
    ["  a=1 ;  $qonto  ; b=2",                   undef],
    ["$qonto; $qonto",                           ''],
    ["qonto-AbCdEf=1234567890123456789012; $qonto; a=1", 'a=1'],
    ["\$Version=1; $qonto; \$Path=/; a=1",        undef],
    ["a=$mine-not; $qonto",                      "a=$mine-not"],
) {
    my ($sent, $left) = $case->@*;
    my ($answer, $got) = cookie($sent);
    is $answer->status, 200, "opens: $sent";
    unlike $got =~ s/\Q$mine\E-not//r, qr/(?<![\w-])qonto=|\Q$mine\E/, 'no session cookie at the backend';
    unlike $got, qr/qonto-AbCdEf/, 'no login cookie at the backend';
    is $got, $left, 'the others as they came' if defined $left;
    is_deeply [$got =~ /\b([ab]=[12])\b/g], [$sent =~ /\b([ab]=[12])\b/g], 'none lost' if !defined $left;
}
for my $path (qw(/open/x /pass/x)) {
    my (undef, $got) = cookie("a=1; $qonto; qonto-AbCdEf=1234567890123456789012; b=2", $path);
    is $got, 'a=1; b=2', "$path: only the others";
}
(undef, my $got) = cookie("a=1; qonto=junk; qonto=; qonto-AbCdEf=x; b=2", '/open/x');
is $got, 'a=1; b=2', 'malformed ones of our name go as well';
(undef, $got) = cookie("a=1; $pair{tls_port}; b=2", '/app/x', 'tls_port');
is $got, 'a=1; b=2', '__Host-qonto goes';
(undef, $got) = cookie('a=1; theme=dark; b="2"', '/open/x');
is $got, 'a=1; theme=dark; b="2"', 'without ours nothing changes';

# Several lines of Cookie, as a careless proxy may send them.
my $answer;
for my $path (qw(/open/x /app/x /pass/x)) {
    for my $lines (["a=1; $qonto", 'b=2'], ['b=2', $qonto], ['b=2', "$qonto; a=1"], ['a=1', $qonto, 'b=2'], [$qonto, $qonto], ['', $qonto]) {
        $backend->clear;
        $answer = $by_hand->get($rig->url($path), map { (Cookie => $_) } $lines->@*);
        is_deeply [grep { index($_, $mine) >= 0 } $backend->got(qr/^cookie$/i)], [],
            "$path: none arrives from " . join(' / ', $lines->@*) . ' (' . $answer->status . ')';
    }
}

# --- case variants are not ours ---

for my $name (qw(Qonto QONTO qOnto __host-qonto __Host-qonto __Secure-qonto), ' qonto', 'qonto ') {
    next if $name =~ /^ | $/;
    ($answer) = cookie("$name=$mine");
    is $answer->status, 302, "$name opens nothing";
}
($answer) = cookie("$_=" . $pair{tls_port} =~ s/.*=//r, '/app/x', 'tls_port'),
    is($answer->status, 302, "https: $_ opens nothing")
    for qw(qonto __host-qonto __Secure-qonto __HOST-QONTO Qonto);

# --- two sessions ---

my ($other) = map { $_->[1] } (session())[0];
for my $both ("$qonto; qonto=$other", "qonto=$other; $qonto", "a=1; $qonto; b=2; qonto=$other; $qonto",
    join '; ', map {"qonto=$_"} $other, ('x' x 43), $mine) {
    $rig->httpd->clear_log;
    ($answer) = cookie($both);
    is $answer->status, 302, 'two sessions: neither';
    is $backend->count, 0, 'the backend learns nothing';
    cmp_ok scalar(grep { !/QO0062/ } log_lines($rig->httpd->error_log)), '<=', 1, 'one line at most';
    cmp_ok scalar($answer->headers('Set-Cookie')), '<=', 3, 'few cookies set';
    $answer = $by_hand->get($rig->url('/pass/x'), Cookie => $both);
    is_deeply [$backend->got(qr/^(?:x-qonto|authorization)/i)], [], '`pass` tells the backend of neither';
}

# --- 8 KB of junk ---

sub many ($text) { my $all = ''; my $n = 0; while (length $all < 8000) { $all .= '; ' if length $all; $all .= $text->(++$n) } return $all }
my $right = sub ($n) { return substr sprintf('%s%022d', 'A', $n), -22 };
my %junk = (
    'login cookies'       => many(sub ($n) { return sprintf 'qonto-%06d=%s', $n, $right->($n) }),
    'malformed ones'      => many(sub ($n) { return "qonto-$n=%00<script>" }),
    'one name again and again' => many(sub ($n) { return 'qonto-AbCdEf=' . $right->($n) }),
    'session cookies'     => many(sub ($n) { return sprintf 'qonto=%043d', $n }),
    'malformed session cookies' => many(sub ($n) { return "qonto=junk$n" }),
    'empty ones'          => many(sub ($n) { return 'qonto=; qonto-=; qonto' }),
    'separators'          => ';' x 4000 . '=' x 4000,
    'one long value'      => 'qonto=' . 'x' x 8000,
    'a long name'         => 'qonto-' . 'x' x 8000 . '=1',
    'all sorts'           => many(sub ($n) { return sprintf 'qonto=%043d; qonto-%06d=%s; qonto-x=; junk%d=%d', $n, $n, $right->($n), $n, $n }),
);
for my $kind (sort keys %junk) {
    for my $path (qw(/open/x /app/x /pass/x /qonto/callback /qonto/callback?code=a&state=b), '/qonto/callback?code=a&state=' . 'S' x 43) {
        $rig->httpd->clear_log;
        ($answer, $got) = cookie($junk{$kind}, $path);
        my @lines = grep { !/QO0062/ } log_lines($rig->httpd->error_log);
        my $storm = $path =~ /callback/ ? 25 : 2;
        cmp_ok scalar @lines, '<=', 1, "$kind, $path: one line at most" or diag join "\n", @lines;
        cmp_ok scalar($answer->headers('Set-Cookie')), '<=', $storm, "no storm of Set-Cookie";
        cmp_ok $answer->status, '<', 500, 'and an answer';
        unlike $got, qr/\bqonto[-=]/, 'nothing of our names at the backend' if $path !~ /callback/;
    }
}

# It does not keep anybody out either.
for my $kind ('login cookies', 'malformed ones', 'separators', 'a long name', 'malformed session cookies') {
    ($answer) = cookie(substr($junk{$kind}, 0, 7900) =~ s/[^;]*$//r . " $qonto");
    is $answer->status, 200, "signed in beside $kind";
}

done_testing;
