# No answer's Location leaves the origin, whatever is asked for (peers.md section 3, first line).
use v5.36;
use Qonto::Test;

my $site   = site('return');
my $q      = $site->standin;
my $origin = Qonto::Test::Url::origin($site->url);
my $theirs = Qonto::Test::Url::origin($q->url);

# As they come in a query, so percent-encoded once by the attacker; and what that looks like decoded.
my @corpus = (
    '//evil.test', '///evil.test', '////evil.test', '/\\evil.test', '\\\\evil.test', '\\/evil.test', '/\\/evil.test',
    '/%5cevil.test', '%5c%5cevil.test', '/%2fevil.test', '%2f%2fevil.test', '/.//evil.test', '/..//evil.test',
    '/./\\evil.test', '/x/..//evil.test', '/x/../\\evil.test', '/;/../..//evil.test', "/\t/evil.test", "/\n/evil.test", "/\r/evil.test",
    "\t//evil.test", "\n//evil.test", ' //evil.test', "/ /evil.test", "\x01//evil.test", "\x00//evil.test", "/\x00/evil.test",
    'http:evil.test', 'http:/evil.test', 'http:\\\\evil.test', 'http:///evil.test', 'https:evil.test', 'http://evil.test',
    'HTTP://evil.test', 'https://evil.test/app', '//evil.test:80/', '//user@evil.test', '@evil.test', '.evil.test', ':80', '%40evil.test',
    'http://127.0.0.1@evil.test/', '//127.0.0.1\\@evil.test', "http://127.0.0.1:@{[$site->port]}\@evil.test/",
    "http://127.0.0.1:@{[$site->port]}.evil.test/", "http://127.0.0.1.evil.test/", 'http://127.0.0.1%2eevil.test', 'http://[::1]/',
    'javascript:alert(1)', 'JaVaScRiPt:alert(1)', "java\tscript:alert(1)", 'data:text/html,x', 'vbscript:x', 'file:///etc/passwd',
    '//%65vil.test', "//evil\xe3\x80\x82test", "/\xe2\x80\x8b/evil.test", "\xc2\xa0//evil.test", "/\xc2\x85/evil.test", '?//evil.test',
    '#//evil.test', 'evil.test', 'evil.test/path', '//evil.test?', '//evil.test#', '//', '/\\', '///', '', ' ',
    "/app\r\nLocation: http://evil.test/", "/app\r\nSet-Cookie: a=b", "/app\nX: y", '/' . 'a' x 5000, '//evil.test/' . 'a' x 5000,
);

# What an answer says, judged as a browser would.
my %allowed = ($origin => 1);
sub stays ($answer, $what, @more) {
    return 1 unless defined $answer->header('Location');
    my $to = $answer->location;
    my %ok = (%allowed, map { $_ => 1 } @more);
    my $fine = $to =~ m{^https?://[^/@\\]+(?:[/?#]|$)}i && $ok{ eval { Qonto::Test::Url::origin($to) } // '' };
    diag "$what: ", $answer->header('Location') unless $fine;
    return $fine && !$answer->header('X') && (grep {/^a=b/} $answer->headers('Set-Cookie')) == 0;
}
sub quoted ($text) { return $text =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger =~ s/^(.{60}).*/$1.../sr }

# connect: through Qonto and back.
my (@wrong, %after, $ended);
for my $bad (@corpus) {
    my $b = browser();
    my $answer = $b->get($site->url('/qonto/connect?return=' . encode($bad)));
    push @wrong, quoted($bad) unless stays($answer, 'connect', $theirs);
    if ($answer->status == 302) {
        my $back = $b->get($answer->location);
        my $last = $b->get($back->location);
        push @wrong, 'at the end: ' . quoted($bad) unless stays($last, 'connect, callback');
        $ended++;
    } else {
        $after{ $answer->status }++;
        push @wrong, 'in the page: ' . quoted($bad) if $answer->body =~ /href="[^"]*evil/;
    }
}
is_deeply \@wrong, [], 'connect: ' . @corpus . ' addresses, none leads away';
is_deeply [grep { $_ != 400 } keys %after], [], 'what is not taken is refused with 400' or diag explain \%after;

# Signed in, so that connect's shortest way is taken, and log-out.
@wrong = ();
my $in = browser();
sign_in($in, $site->url('/app/x'));
for my $bad (@corpus) {
    my $u = encode($bad);
    push @wrong, 'connect, signed in: ' . quoted($bad) unless stays($in->clone->get($site->url("/qonto/connect?return=$u")), 'in', $theirs);
    my $stranger = browser();
    for my $answer ($stranger->get($site->url("/qonto/logout?return=$u")), $stranger->post($site->url("/qonto/logout?return=$u")),
        $stranger->post($site->url('/qonto/logout'), { return => $bad }),
        $in->get($site->url("/qonto/logout?return=$u"))) {
        push @wrong, 'log-out: ' . quoted($bad) unless stays($answer, 'log-out');
        push @wrong, 'in the page of log-out: ' . quoted($bad)
            if $answer->body =~ m{(?:href|action)="(?:[^"/]*:)?[/\\]{2}evil|(?:href|action)="[^"]*script:}i;
    }
}
is_deeply \@wrong, [], 'log-out: none leads away, with and without a session';

# The end of a real log-out.
@wrong = ();
for my $bad (grep {/evil|script/} @corpus[0 .. 20]) {
    my $b = browser();
    $b->visit($site->url('/app/x'));
    push @wrong, quoted($bad) unless stays($b->post($site->url('/qonto/logout?return=' . encode($bad))), 'log-out');
}
is_deeply \@wrong, [], 'log-out of a session: none leads away';

# The visited path itself, as it stands in the request line.
@wrong = ();
for my $raw ('//evil.test', '///evil.test/app', '//evil.test/app/x', '/app//evil.test', '/app/..//evil.test', '/\\evil.test', '/app/\\evil.test',
    '/app/%2e%2e//evil.test', '/%2fevil.test', '/%5cevil.test', '/app/%5c%5cevil.test', '/app/%0d%0aLocation:%20http://evil.test/',
    '/app?//evil.test', '/app/@evil.test', '/app/%09/evil.test', '/app/./..//evil.test', '/.//evil.test/app', '//evil.test%2f..%2fapp',
    'http://evil.test/app', 'http://evil.test//evil.test', 'http://127.0.0.1@evil.test/app', '/app%2f%2fevil.test', '/app;//evil.test') {
    my $b      = browser();
    my $bytes  = join "\r\n", "GET $raw HTTP/1.1", 'Host: 127.0.0.1:' . $site->port, 'Accept: text/html',
        'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: document', 'Connection: close', '', '';
    my $answer = $b->raw($site->url, $bytes);
    push @wrong, $raw unless stays($answer, "GET $raw", $theirs);
    next unless $answer->status == 302 && $answer->location =~ /^\Q$theirs/;
    my $last = $b->get($b->get($answer->location)->location);
    push @wrong, "at the end: $raw" unless stays($last, "GET $raw, callback");
}
is_deeply \@wrong, [], 'the visited path: none leads away';

# Same-origin ones work: paths with queries.
for my $good ('/', '/app', '/app/a?b=c&d=/e', '/app/a?u=http://x/y', '/app/a?x=%2f%2fy', '/a:b', '/a@b', '/-//x') {
    my $b    = browser();
    my $last = $b->follow_until($b->get($site->url('/qonto/connect?return=' . encode($good))), qr/callback\?/);
    is $b->get($last)->location, $site->url($good), "$good is fine";
}

done_testing;
