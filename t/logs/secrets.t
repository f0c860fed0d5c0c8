# At LogLevel trace8, through every scenario: no token, code, state, verifier, cookie or secret in
# a line of the module, in the access log, on a status page, or in any answer to a visitor.

use v5.36;
use Qonto::Test;
use Qonto::Rig;

my $staging = 'staging-token-0123456789-abcdefgh';
my $key     = unpack 'H*', 'session-key-of-this-test-1234567';
my $client  = 'client-secret with space & percent % 42';
my $say     = { body => "the application's page\n" };

sub host ($rig, $port, %change) {
    return qonto($rig->standin, QontoRedirectURI => "http://127.0.0.1:\@$port\@/qonto/callback", QontoClientSecret => qq{"$client"},
        QontoSessionKey => $key, QontoTimeout => '1s 1s', QontoPass => 'user scope expires session logout env', %change)
        . join('', map { proxied($_, $rig->backend) } qw(/app/ /open/ /pass/))
        . protected('/app/') . protected('/pass/', 'QontoUnauthenticated pass') . protected('/file/') . protected('/page/', 'QontoUnauthenticated page')
        . <<~'CONF';
        TraceEnable On
        <Location "/qonto/connect">
            SetHandler qonto-connect
        </Location>
        <Location "/qonto/logout">
            SetHandler qonto-logout
        </Location>
        <Location "/qonto/session">
            SetHandler qonto-session
        </Location>
        <Location "/server-status">
            SetHandler server-status
        </Location>
        <Location "/server-info">
            SetHandler server-info
        </Location>
        CONF
}

my $rig = rig(
    standin => { client_secret => $client },
    backend => { answers => { map { $_ => $say } qw(/app/x /open/x /pass/x /app/first) } },
    conf    => sub ($rig) {
        my %sandbox = (QontoSandbox => 'On', QontoStagingToken => $staging);
        return <<~'CONF' . host($rig, 'port')
            ExtendedStatus On
            LogFormat "%h %u %t \"%r\" %>s \"%{Referer}i\" | %U%q | %{QUERY_STRING}e | %{QONTO_SESSION}e %{QONTO_ERROR}e %{QONTO_REFERENCE}e" everything
            CustomLog logs/access_log everything
            CONF
            . "Listen 127.0.0.1:\@sandbox_port\@\n<VirtualHost 127.0.0.1:\@sandbox_port\@>\n"
            . host($rig, 'sandbox_port', %sandbox) . "</VirtualHost>\n"
            . "Listen 127.0.0.1:\@shm_port\@\n<VirtualHost 127.0.0.1:\@shm_port\@>\n"
            . host($rig, 'shm_port', QontoSessionStore => 'shmcb:@root@/logs/shm(500000)') . "</VirtualHost>\n";
    },
)->start;
my $q = $rig->standin;

my (%secret, @answers);
sub remember ($kind, @values) {
    for my $value (grep { defined && length >= 8 } @values) {
        $secret{$_} = $kind for $value, decode($value), encode($value), $value =~ tr/ /+/r, $value =~ s/&/&amp;/gr;
    }
    return;
}

# Keeps what an answer gives away to the browser, and the answer itself if it is httpd's.
sub watch ($answer) {
    for my $each ($answer->chain) {
        my $to = $each->header('Location') // '';
        for my $address ($to, $each->url) {
            remember(state => $1) if $address =~ /[?&]state=([^&#]+)/;
            remember(code => $1) if $address =~ /[?&]code=([^&#]+)/;
        }
        for my $line ($each->headers('Set-Cookie')) { remember(cookie => $1) if $line =~ /^[^=]+=([^;]+)/ }
        push @answers, $each if $each->url !~ /^\Q@{[$q->url]}\E/;
    }
    my $exchange = $q->last('exchange');
    remember(verifier => $exchange->{params}{code_verifier}) if $exchange;
    return $answer;
}

remember(secret => $client, 'qonto-secret');
remember(staging => $staging);
remember(key => $key);

# --- the scenarios ---

sub trip ($port, $path = '/app/x?account=1') {
    my $browser = browser();
    return $browser, watch($browser->visit($rig->url($path, $port)));
}

sub callback_of ($browser, $port) {
    my $answer = watch($browser->get($rig->url('/app/x', $port)));
    my $callback = $browser->follow_until($answer, qr{/qonto/callback});
    remember(code => $callback =~ /code=([^&]+)/);
    return $callback;
}

my @faults = qw(500 429 400 401 503 html redirect rst lost_answer truncated bad_json empty nontoken wrong_type huge hang slow
    invalid_grant invalid_client invalid_request concurrent server_error);
@faults = qw(500 html bad_json invalid_grant) if ($ENV{QO_SLOW} || 1) > 1;
my @refusals = qw(access_denied request_denied invalid_scope invalid_request unauthorized_client request_forbidden
    temporarily_unavailable server_error login_required);

my $reached = 0;
for my $port (qw(port sandbox_port shm_port)) {
    $q->set(staging_token => $port eq 'sandbox_port' ? $staging : undef);
    my ($user, $page) = trip($port);
    is $page->status, 200, "$port: signed in" or diag $page->story;
    remember(logout => $rig->backend->got('X-Qonto-Logout'));
    my $session = join '; ', map { join '=', $_->@* } $user->cookies($rig->url('/', $port));

    watch($user->get($rig->url($_, $port))) for '/app/x', '/open/x', '/pass/x', '/file/none', '/app/x?say-status=500', '/none', '/qonto/session';
    watch($user->head($rig->url('/app/x', $port)));
    watch($user->request(TRACE => $rig->url($_, $port))) for '/app/x', '/file/x', '/none';
    watch($user->post($rig->url('/app/x', $port), { a => 1 }));
    watch($user->fetch($rig->url('/app/x', $port)));
    watch($user->get($rig->url('/page/x', $port), Cookie => "$session; qonto=" . 'x' x 43));
    watch($user->get($rig->url('/app/x', $port), Cookie => "$session; Qonto=$session; qonto-AbCdEf=" . 'y' x 22));
    watch($user->get($rig->url('/app/x', $port), Authorization => 'Bearer forged', 'X-Qonto-User' => 'forged', Connection => 'x-qonto-user'));
    watch(browser(jar => undef)->get($rig->url($_, $port))) for '/app/x', '/page/x', '/qonto/callback', '/pass/x';

    # Callbacks that are wrong in one way or another.
    my $browser = browser();
    my $callback = callback_of($browser, $port);
    my $bare = $callback =~ s/\?.*//r;
    my ($state) = $callback =~ /state=([^&]+)/;
    my ($code)  = $callback =~ /code=([^&]+)/;
    my $other = browser();
    watch($other->get($_)) for $callback, "$bare?code=$code", "$bare?state=$state", "$callback&error=access_denied",
        "$callback&state=$state", "$callback&code=$code", "$bare?code=$code&state=" . substr($state, 1) . 'A', "$callback&code=",
        "$bare?error=access_denied&error_description=a+text+with+$code&state=$state", "$callback&x=" . 'y' x 7000, "$bare?code=%ff%00&state=$state";
    watch($other->post($bare, "code=$code&state=$state"));
    watch($other->request($_ => $callback)) for qw(HEAD PUT OPTIONS);
    watch($browser->visit($callback));
    watch($browser->visit($callback));
    watch($browser->get($rig->url('/app/x', $port), Referer => $rig->url('/', $port)));
    $reached++ if $q->last('exchange')->{params}{code} eq decode($code);
    watch(browser()->get($callback, Cookie => join '; ', map { join '=', $_->@* } $browser->cookies($bare)));

    for my $fault (@faults) {
        $q->fault(exchange => $fault, $fault eq '429' ? (retry_after => 7) : ());
        my $strange = browser();
        my $at = callback_of($strange, $port);
        watch($strange->get($at));
        watch($strange->get($at));
    }
    $q->fault(exchange => 'none');
    if ($port eq 'sandbox_port') {
        $q->set(staging_token => 'another-one-1234567890');
        trip($port);
        $q->set(gate => 'redirect');
        trip($port);
        $q->set(gate => 'html', staging_token => $staging);
    }
    for my $refusal (@refusals) {
        $q->fault(authorize => $refusal, hint => 'a hint with <b>markup</b>');
        trip($port);
    }
    $q->fault(authorize => 'none');
    $q->set(mode => 'refuse');
    trip($port);
    $q->set(mode => 'auto');

    watch($user->get($rig->url("/qonto/connect?$_", $port))) for 'return=/app/x', 'return=//evil.test', 'return=/app/x&return=/y',
        'return=/app/x&organization_id=0123&registration_id=4567', 'organization_id=%00', '';
    watch($user->visit($rig->url('/qonto/connect?return=/app/x', $port)));
    remember(logout => $rig->backend->got('X-Qonto-Logout'));
    watch($user->get($rig->url("/qonto/logout$_", $port))) for '', '?token=wrong', '?return=//evil.test';
    $q->fault(revoke => $_), watch((trip($port))[0]->post($rig->url('/qonto/logout', $port))) for qw(500 html rst none);
    watch($user->post($rig->url('/qonto/logout', $port), {}, Origin => 'http://evil.test', 'Sec-Fetch-Site' => 'cross-site'));
    watch($user->post($rig->url('/qonto/logout', $port)));
    watch($user->get($rig->url('/app/x', $port)));
}
is $reached, 3, 'codes did reach the stand-in';

# Somebody in the middle of a login when the status pages are looked at.
my ($user) = trip('port');
my @status = map { $rig->url($_) } qw(/server-status /server-status?auto /server-info /server-info?list /server-info?mod_qonto_oauth.c /server-info?config);
my %shown = map { $_ => watch($user->get($_)) } @status;
$rig->httpd->graceful;
watch($user->get($rig->url('/app/x')));
remember($_ => $q->issued->{$_}->@*) for keys $q->issued->%*;

# --- what came to light ---

my %kinds;
$kinds{ $secret{$_} }++ for keys %secret;
cmp_ok $kinds{$_} // 0, '>=', 3, "met: $_" for qw(state code cookie verifier access_token refresh_token);
note join ', ', map {"$kinds{$_} $_"} sort keys %kinds;

# Half a secret is one, too.
my %piece;
for my $text (keys %secret) {
    my $kind = $secret{$text};
    $piece{$text} = $kind;
    next if $kind !~ /^(?:state|code|cookie|verifier|access_token|refresh_token|id_token)$/ || length $text < 22;
    my $from = $text =~ /^ory_.._/ ? 7 : 0;
    $piece{ substr $text, $from, 12 } = "start of a $kind";
    $piece{ substr $text, -12 } = "end of a $kind";
}
my $pattern = do { my $all = join '|', map {quotemeta} sort { length $b <=> length $a } keys %piece; qr/($all)/ };

sub leaks ($text, $allowed = qr/^$/) {
    my %met;
    while ($text =~ /$pattern/g) { $met{ $piece{$1} }++ if $piece{$1} !~ $allowed }
    return \%met;
}

my @lines = log_lines($rig->httpd->error_log);
cmp_ok scalar @lines, '>', 100, 'there are many lines';
my @bad = grep { keys leaks($_)->%* } @lines;
is scalar @bad, 0, 'no line of the module holds a secret' or diag join "\n", @bad[0 .. ($#bad > 7 ? 7 : $#bad)];
is_deeply [grep {/account=1/} @lines], [], 'nor the query of the page that was asked for';
is_deeply leaks(join '', map { $rig->httpd->_text($_) } qw(stderr stdout)), {}, 'nothing on standard error';

my @access = split /\n/, $rig->httpd->_text('access_log');
cmp_ok scalar @access, '>', 100, 'the access log has lines';
@bad = grep { keys leaks($_, qr/^logout$/)->%* } @access;
is scalar @bad, 0, 'no line of the access log holds a secret' or diag join "\n", @bad[0 .. ($#bad > 5 ? 5 : $#bad)];
@bad = grep { m{/qonto/callback\?\S*(?:a\+text|code=\S{9}|state=\S{9})} } @access;
is scalar @bad, 0, 'nor what came to the callback' or diag join "\n", @bad[0 .. ($#bad > 5 ? 5 : $#bad)];

for my $url (@status) {
    my $path = $url =~ s{^http://[^/]+}{}r;
    is $shown{$url}->status, 200, "$path answers";
    is_deeply leaks($shown{$url}->body), {}, "$path gives nothing away";
}

# --- answers ---

# A cookie belongs in Set-Cookie, a state in the way to Qonto, which httpd's redirects repeat as a link.
sub gives_away ($answer) {
    my $head = $answer->head =~ s/^Set-Cookie:[^\r\n]*//gmir;
    $head =~ s/^Location: \Q@{[$q->url]}\E[^\r\n]*//mi;
    my ($location) = $answer->head =~ /^Location: (\Q@{[$q->url]}\E[^\r\n]*)/mi;
    my $body = $answer->body =~ s/<a href="\Q@{[$q->url]}\E[^"]*">//gr;
    my $met = leaks($head . $body, qr/^logout$/);
    my $url = leaks($location // '', qr/state/);
    my $set = leaks(join("\n", $answer->headers('Set-Cookie')), qr/cookie/);
    return map { map {"$_ in " . ($answer->url =~ s{\?.*}{?...}r) . ' ' . $answer->status} sort keys $_->%* } $met, $url, $set;
}

cmp_ok scalar @answers, '>', 100, 'many answers were seen';
my @given = map { gives_away($_) } @answers;
is_deeply \@given, [], 'no answer gives anything away' or diag join "\n", @given[0 .. ($#given > 9 ? 9 : $#given)];

my @callbacks = grep { $_->url =~ m{/qonto/callback} } @answers;
my @open = grep { ($_->header('Referrer-Policy') // '') ne 'no-referrer' } @callbacks;
is scalar @open, 0, 'no callback goes on as Referer' or diag join "\n", map { $_->status . ' ' . $_->url =~ s/\?.*/?.../r } @open[0 .. ($#open > 9 ? 9 : $#open)];

done_testing;
