# One failure is one line in the error log, and its number and reference are those that the visitor
# reads and that an ErrorDocument of the admin's finds in its environment.

use v5.36;
use Qonto::Test;
use Qonto::Rig;

sub host ($rig, $port, %change) {
    return qonto($rig->standin, QontoRedirectURI => "http://127.0.0.1:\@$port\@/qonto/callback", QontoTimeout => '1s 1s', %change)
        . proxied('/app/', $rig->backend) . protected('/app/')
        . join('', map {qq{<Location "/qonto/$_">\nSetHandler qonto-$_\n</Location>\n}} qw(connect logout));
}

my $rig = rig(conf => sub ($rig) {
    return <<~'CONF' . "<VirtualHost 127.0.0.1:\@port\@>\n" . host($rig, 'port') . "</VirtualHost>\n"
        Alias "/nowhere/" "@root@/htdocs/"
        ScriptAlias "/cgi/" "@root@/cgi/"
        <Directory "@root@/cgi">
            Require all granted
            Options +ExecCGI
        </Directory>
        CONF
        . "Listen 127.0.0.1:\@own_port\@\n<VirtualHost 127.0.0.1:\@own_port\@>\n"
        . host($rig, 'own_port') . join('', map {"ErrorDocument $_ /cgi/env\n"} 400, 401, 403, 405, 500, 502, 503) . "</VirtualHost>\n"
        . "Listen 127.0.0.1:\@none_port\@\n<VirtualHost 127.0.0.1:\@none_port\@>\n" . protected('/app/') . "</VirtualHost>\n";
});
conf_file($rig, 'cgi/env', <<'CGI', 0755);
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
env
CGI
conf_file($rig, 'htdocs/app/x', 'x');
$rig->start;
my $q = $rig->standin;

sub callback_of ($browser, $port) {
    return $browser->follow_until($browser->get($rig->url('/app/x', $port)), qr{/qonto/callback});
}

sub exchange_fault ($kind, %more) {
    return sub ($b, $port) {
        $q->fault(exchange => $kind, %more);
        my $answer = sub { return $b->get($_[0]) };
        my $at = callback_of($b, $port);
        return sub { my $got = $answer->($at); $q->fault(exchange => 'none'); return $got };
    };
}

sub refusal ($kind) {
    return sub ($b, $port) {
        $q->fault(authorize => $kind);
        my $at = callback_of($b, $port);
        $q->fault(authorize => 'none');
        return sub { return $b->get($at) };
    };
}

sub callback ($change) {
    return sub ($b, $port) {
        my $at = $change->(callback_of($b, $port));
        return sub { return $b->get($at) };
    };
}

sub plain ($method, $path, @headers) {
    return sub ($b, $port) { return sub { return $b->request($method, $rig->url($path, $port), [@headers]) } };
}

# Each prepares, and returns what to do for the one answer that fails: [number, status, how].
my %case = (
    'callback by POST'        => ['QO0004', 405, plain(POST => '/qonto/callback')],
    'connect by POST'         => ['QO0004', 405, plain(POST => '/qonto/connect?return=/x')],
    'foreign return address'  => ['QO0005', 400, plain(GET => '/qonto/connect?return=//evil.test/')],
    'doubled parameter'       => ['QO0006', 400, plain(GET => '/qonto/connect?return=/a&return=/b')],
    'forged log-out'          => ['QO0007', 403, sub ($b, $port) {
        sign_in($b, $rig->url('/app/x', $port));
        return sub { return $b->post($rig->url('/qonto/logout', $port), {}, Origin => 'http://evil.test', 'Sec-Fetch-Site' => 'cross-site') };
    }],
    'code and error'          => ['QO0010', 400, callback(sub ($at) { return "$at&error=access_denied" })],
    'doubled state'           => ['QO0010', 400, callback(sub ($at) { return $at . '&state=' . ($at =~ /state=([^&]+)/)[0] })],
    'no state'                => ['QO0011', 400, callback(sub ($at) { return $at =~ s/&?state=[^&]+//r })],
    'unknown state'           => ['QO0012', 400, callback(sub ($at) { return $at =~ s/state=[^&]+/'state=' . 'A' x 43/er })],
    'used state, no session'  => ['QO0013', 400, sub ($b, $port) {
        my $at = callback_of($b, $port);
        my @cookies = (Cookie => join '; ', map { join '=', $_->@* } $b->cookies($at));
        $b->get($at);
        my $hand = browser(jar => undef);
        return sub { return $hand->get($at, @cookies) };
    }],
    'another browser'         => ['QO0014', 400, sub ($b, $port) {
        my $at = callback_of($b, $port);
        my $other = browser();
        return sub { return $other->get($at) };
    }],
    access_denied             => ['QO0020', 403, refusal('access_denied')],
    request_denied            => ['QO0020', 403, refusal('request_denied')],
    invalid_scope             => ['QO0021', 500, refusal('invalid_scope')],
    unauthorized_client       => ['QO0021', 500, refusal('unauthorized_client')],
    temporarily_unavailable   => ['QO0023', 503, refusal('temporarily_unavailable')],
    server_error              => ['QO0024', 502, refusal('server_error')],
    'an error with a new name' => ['QO0025', 400, callback(sub ($at) { return $at =~ s/code=[^&]+/error=something_new/r })],
    'request_forbidden twice' => ['QO0022', 400, sub ($b, $port) {
        $q->fault(authorize => 'request_forbidden');
        my $first = $b->get(callback_of($b, $port));
        my $at = $b->follow_until($first, qr{/qonto/callback});
        $q->fault(authorize => 'none');
        return sub { return $b->get($at) };
    }],
    invalid_grant             => ['QO0030', 400, exchange_fault('invalid_grant')],
    invalid_client            => ['QO0031', 500, exchange_fault('invalid_client')],
    'token endpoint 500'      => ['QO0032', 503, exchange_fault('500')],
    'token endpoint 429'      => ['QO0032', 503, exchange_fault('429', retry_after => 5)],
    'token endpoint resets'   => ['QO0033', 503, exchange_fault('rst')],
    'token endpoint hangs'    => ['QO0033', 503, exchange_fault('hang', seconds => 4)],
    'answer cut short'        => ['QO0033', 503, exchange_fault('truncated')],
    'a page'                  => ['QO0034', 502, exchange_fault('html')],
    'a redirect'              => ['QO0034', 502, exchange_fault('redirect')],
    'half a JSON'             => ['QO0035', 502, exchange_fault('bad_json')],
    'no token in it'          => ['QO0035', 502, exchange_fault('nontoken')],
);

for my $name (sort keys %case) {
    my ($number, $status, $prepare) = $case{$name}->@*;
    for my $port (qw(port own_port)) {
        my $browser = browser();
        my $do = $prepare->($browser, $port);
        $rig->httpd->clear_log;
        my $answer = $do->();
        my @lines = grep { /\bQO00[0-4]\d\b/ } log_lines($rig->httpd->error_log);
        is scalar @lines, 1, "$name, $port: one line" or diag join "\n", @lines;
        my ($in_log, $reference) = ($lines[0] // '') =~ /\b(QO\d{4}) \[([\w@-]+)\]: \S/;
        $reference //= 'none';
        is $in_log, $number, "it is $number" or diag $lines[0] // 'no line', "\n", substr $answer->body, 0, 300;
        my ($level) = ($lines[0] // '') =~ /\[qonto_oauth:(\w+)\]/;
        is $level, $status >= 500 ? 'error' : 'info', 'at its level';
        if ($port eq 'port') {
            is $answer->status, $status, "status $status";
            like $answer->body, qr/\b$number\b/, 'its number is on the page';
            like $answer->body, qr/\b\Q$reference\E\b/, 'and its reference';
            is $answer->header('X-Qonto-Backend'), 'not-reached', 'the backend was not';
        } else {
            like $answer->body, qr/^REDIRECT_QONTO_ERROR=$number$/m, 'an ErrorDocument finds the number';
            like $answer->body, qr/^REDIRECT_QONTO_REFERENCE=\Q$reference\E$/m, 'and the reference';
        }
        like $answer->header('Retry-After') // '', qr/^[1-9]\d*$/, 'Retry-After' if $status == 503;
    }
}

$rig->httpd->clear_log;
my $answer = browser()->get($rig->url('/app/x', 'none_port'));
is $answer->status, 500, 'AuthType Qonto without a client';
is scalar(grep {/QO0002/} log_lines($rig->httpd->error_log)), 1, 'one line says so';

# References are no two the same.
my %reference;
for (1 .. 20) {
    my ($number, $reference) = browser()->get($rig->url('/qonto/callback?code=a'))->body =~ /(QO0011)\b.*?\b([0-9A-Z]{8})\b/s;
    $reference{ $reference // '' }++;
}
is scalar keys %reference, 20, 'each failure has a reference of its own' or diag explain \%reference;

# What goes well is told in one line each, without a number of failure.
$rig->httpd->clear_log;
my $user = browser();
sign_in($user, $rig->url('/app/x'));
$user->get($rig->url('/app/x')) for 1 .. 5;
$user->post($rig->url('/qonto/logout'));
my @lines = grep { !/:(?:debug|trace\d)\]/ } log_lines($rig->httpd->error_log);
is_deeply [map {/\b(QO\d{4})/} @lines], [qw(QO0062 QO0060 QO0061)], 'begun, signed in, signed out' or diag join "\n", @lines;
my @session = map {/session ([0-9a-f]+)/} @lines;
my ($exported) = $rig->backend->got('X-Qonto-User');
is_deeply \@session, [($exported) x 2], 'with the session\'s short hash, the same that the backend sees';

done_testing;
