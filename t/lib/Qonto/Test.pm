package Qonto::Test;

# What the tests of the module share: a browser that says exactly what it is told to, a
# backend that says exactly what it was told, and the sites that t/conf/*.conf.in set up.
# Documentation at the end.

use v5.36;

use Exporter qw(import);
use IO::Socket::INET ();
use Qonto::StandIn   ();
use Test::More;

our @EXPORT = (
    @Test::More::EXPORT,
    qw(backend browser cookie_pair decode encode free_port query_of query_text refused_ok
        reference_of session_of site slow sign_in wait_until),
);

# --- small words ---

sub slow ($seconds) { return $seconds * ($ENV{QO_SLOW} || 1) }

sub encode ($text) {
    utf8::encode($text) if utf8::is_utf8($text);
    return $text =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ger;
}

sub decode ($text) { return $text =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ger }

# The parameters of an address as they are written, in order: [name, value], not decoded.
sub query_text ($url) {
    my ($query) = $url =~ /\?([^#]*)/ or return;
    return map { [split /=/, $_, 2] } split /&/, $query;
}

# The decoded parameters ("+" stays a plus); a doubled name is a mistake of the test's subject.
sub query_of ($url) {
    my %value;
    for my $pair (query_text($url)) {
        my ($name, $value) = map { decode($_ // '') } $pair->@*;
        die "doubled parameter $name in $url\n" if exists $value{$name};
        $value{$name} = $value;
    }
    return \%value;
}

# Outside of the range from which outgoing connections take their ports.
sub free_port () {
    for (1 .. 200) {
        my $port = 12_000 + int rand 18_000;
        my $probe = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1);
        return $port if $probe;
    }
    die "no free port\n";
}

sub wait_until ($seconds, $happened) {
    my $tries = slow($seconds) * 20;
    while ($tries-- > 0) {
        my $got = $happened->();
        return $got if $got;
        select undef, undef, undef, 0.05;
    }
    return;
}

# The number and the reference that a page of ours shows: ("QO0020", "3HHA3VVM").
sub reference_of ($answer) { return $answer->body =~ m{\b(QO\d{4}) / (\w+)} }

# A page of ours that ends a request: its status, its number, the same number and reference in
# one line of the log, a way on; nothing for caches, frames or other sites in it.
sub refused_ok ($site, $answer, $status, $number, $what) {
    return subtest $what => sub {
        my ($shown, $reference) = reference_of($answer);
        is $answer->status, $status, "status $status" or diag $answer->story;
        is $shown, $number, "the page says $number";
        $reference //= 'no reference';
        my @lines = grep { /\b$number\b/ && /\b$reference\b/ } $site->our_log;
        is @lines, 1, 'one line in the log with the same number and reference' or diag $site->log;
        like $answer->header('Cache-Control') // '', qr/\bno-store\b/, 'no-store';
        like $answer->header('Content-Type') // '', qr{^text/html}, 'a page';
        like $answer->body, qr/<(?:a|form)\b/, 'with a way on';
        like $answer->header('Content-Security-Policy') // '', qr/frame-ancestors 'none'/, 'not framed';
        is $answer->header('Referrer-Policy'), 'no-referrer', 'no referrer';
    };
}

# "name=value" of the cookie that an answer sets, for tests that carry cookies by hand.
sub cookie_pair ($answer, $name) {
    for my $line ($answer->headers('Set-Cookie')) {
        return $1 if $line =~ /^(\Q$name\E=[^;]+)/;
    }
    return;
}

# The session cookie that an answer sets (not one that it deletes): "name=value", or nothing.
sub session_of ($answer) {
    my @set = grep { !/;\s*Max-Age=0\b/i && !/;\s*Path=[^;]*callback/i } $answer->headers('Set-Cookie');
    return @set ? $set[0] =~ s/;.*//sr : undef;
}

sub browser (%option) { return Qonto::Test::Browser->new(%option) }
sub backend (%option) { return Qonto::Test::Backend->new(%option) }
sub site ($name, %option) { return Qonto::Test::Site->new($name, %option) }

# Visits a page and ends signed in on it, or says why not.
sub sign_in ($browser, $url) {
    my $page = $browser->visit($url);
    is $page->status, 200, 'signed in' or diag $page->story;
    return $page;
}

# ---------------------------------------------------------------------------
package Qonto::Test::Answer {

    sub status  ($self) { return $self->{status} }
    sub body    ($self) { return $self->{body} }
    sub head    ($self) { return $self->{head} }
    sub url     ($self) { return $self->{url} }
    sub seconds ($self) { return $self->{seconds} }

    # The answers that led here, oldest first, this one last.
    sub chain ($self) { return ($self->{before} // [])->@*, $self }

    sub headers ($self, $name) {
        return map { $_->[1] } grep { lc $_->[0] eq lc $name } $self->{fields}->@*;
    }

    sub header ($self, $name) { return ($self->headers($name))[0] }

    # Where a redirect leads, as a browser understands it.
    sub location ($self) {
        my $to = $self->header('Location') // return;
        return Qonto::Test::Url::join($self->url, $to);
    }

    sub story ($self) {
        my @lines = map { join ' ', $_->status, $_->url, '->', $_->header('Location') // '-' } $self->chain;
        return join "\n", @lines, substr $self->body =~ s{<style>.*?</style>\s*}{}sr, 0, 1000;
    }
}

# ---------------------------------------------------------------------------
package Qonto::Test::Url {

    # (scheme, host, port, path with query); no user, no IPv6: tests do not need them.
    sub parts ($url) {
        my ($scheme, $host, $port, $path) = $url =~ m{^(https?)://([^/:?#]+)(?::(\d+))?([^#]*)}
            or die "not an address: $url\n";
        $path = "/$path" unless $path =~ m{^/};
        return $scheme, $host, $port // ($scheme eq 'https' ? 443 : 80), $path;
    }

    sub origin ($url) {
        my ($scheme, $host, $port) = parts($url);
        return "$scheme://$host:$port";
    }

    # What a browser (WHATWG URL) makes of a Location: "\" is "/", tabs and line ends vanish.
    sub join ($base, $to) {
        $to =~ s/^[\x00-\x20]+//;
        $to =~ tr/\t\r\n//d;
        my ($scheme, $host, $port, $path) = parts($base);
        return $to if $to =~ m{^(?!https?:)[a-z][a-z0-9+.-]*:}i;
        $to =~ s{^([^?#]*)}{ $1 =~ tr|\\|/|r }e;
        if ($to =~ m{^(https?):(.*)}i) {
            my ($new, $rest) = (lc $1, $2);
            return "$new://" . $rest =~ s{^/*}{}r if $new ne $scheme || $rest =~ m{^//};
            $to = $rest;
        }
        return "$scheme://" . $to =~ s{^/+}{}r if $to =~ m{^//};
        my $host_port = "$scheme://$host:$port";
        return $host_port . $to if $to =~ m{^/};
        return $host_port . $path =~ s/\?.*//sr . $to if $to =~ /^\?/;
        return $host_port . ($path =~ s/\?.*//sr =~ s{[^/]*$}{}r) . $to;
    }
}

# ---------------------------------------------------------------------------
package Qonto::Test::Jar {

    sub new ($class) { return bless { cookies => {} }, $class }

    # RFC 6265 and the prefixes of RFC 6265bis. Cookies know hosts, not ports.
    sub keep ($self, $url, $line) {
        my ($scheme, $host, undef, $request_path) = Qonto::Test::Url::parts($url);
        my ($pair, @attributes) = split /\s*;\s*/, $line;
        my ($name, $value) = $pair =~ /^\s*([^=]*?)\s*=\s*(.*?)\s*$/ or return;
        my %has;
        for my $attribute (@attributes) {
            my ($key, $text) = split /\s*=\s*/, $attribute, 2;
            $has{ lc $key } = $text // '';
        }
        return if exists $has{domain} && lc($has{domain} =~ s/^\.//r) ne lc $host;
        return if exists $has{secure} && $scheme ne 'https';
        return if $name =~ /^__Secure-/i && !exists $has{secure};
        return if $name =~ /^__Host-/i
            && !(exists $has{secure} && !exists $has{domain} && ($has{path} // '') eq '/');
        my ($folder) = $request_path =~ m{^([^?]*)/};
        my $path = ($has{path} // '') =~ m{^/} ? $has{path} : length $folder ? $folder : '/';
        my $key = CORE::join "\0", lc $host, $path, $name;
        my $gone = exists $has{'max-age'} ? $has{'max-age'} <= 0 : ($has{expires} // '') =~ /\b19[67]\d\b/;
        return delete $self->{cookies}{$key} if $gone;
        $self->{cookies}{$key} = {
            name => $name, value => $value, host => lc $host, path => $path, secure => exists $has{secure},
            line => $line, at => ++$self->{count},
        };
        return;
    }

    sub for_url ($self, $url) {
        my ($scheme, $host, undef, $path) = Qonto::Test::Url::parts($url);
        $path =~ s/\?.*//s;
        my @fit = grep {
                   $_->{host} eq lc $host
                && (!$_->{secure} || $scheme eq 'https')
                && ($path eq $_->{path} || index($path, $_->{path} =~ s{/?$}{/}r) == 0)
        } $self->all;
        return sort { length $b->{path} <=> length $a->{path} || $a->{at} <=> $b->{at} } @fit;
    }

    sub all ($self) { return sort { $a->{at} <=> $b->{at} } values $self->{cookies}->%* }
}

# ---------------------------------------------------------------------------
package Qonto::Test::Browser {

    my @NAVIGATION = (
        'User-Agent'     => 'Mozilla/5.0 (X11; Linux x86_64) Qonto-Test',
        'Accept'         => 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
        'Sec-Fetch-Site' => 'none',
        'Sec-Fetch-Mode' => 'navigate',
        'Sec-Fetch-User' => '?1',
        'Sec-Fetch-Dest' => 'document',
    );
    my @FETCH = (
        'User-Agent'     => 'Mozilla/5.0 (X11; Linux x86_64) Qonto-Test',
        'Accept'         => '*/*',
        'Sec-Fetch-Site' => 'same-origin',
        'Sec-Fetch-Mode' => 'cors',
        'Sec-Fetch-Dest' => 'empty',
    );

    # connect => { 'host:port' => 'host:port' }: who really answers for an address.
    sub new ($class, %option) {
        my $self = bless {
            jar => Qonto::Test::Jar->new, timeout => 30, defaults => [@NAVIGATION], connect => {}, %option,
        }, $class;
        return $self;
    }

    sub jar ($self) { return $self->{jar} }

    # Cookies as pairs, those that a request to $url would carry or all.
    sub cookies ($self, $url = undef) {
        return map { [$_->{name}, $_->{value}] } defined $url ? $self->jar->for_url($url) : $self->jar->all;
    }

    # A second browser with the same cookies.
    sub clone ($self) {
        my $other = bless { $self->%*, jar => Qonto::Test::Jar->new }, ref $self;
        my $from  = $self->{jar};
        $other->{jar} = bless {
            count   => $from->{count},
            cookies => { map { $_ => { $from->{cookies}{$_}->%* } } keys $from->{cookies}->%* },
        }, ref $from;
        return $other;
    }

    sub get  ($self, $url, @headers) { return $self->request('GET',  $url, \@headers) }
    sub head ($self, $url, @headers) { return $self->request('HEAD', $url, \@headers) }

    # A form sent by a page of the same site, unless the headers say otherwise.
    sub post ($self, $url, $form = {}, @headers) {
        my $body = ref $form ? CORE::join '&', map { Qonto::Test::encode($_) . '=' . Qonto::Test::encode($form->{$_}) }
            sort keys $form->%* : $form;
        my @own = ('Content-Type' => 'application/x-www-form-urlencoded', 'Sec-Fetch-Site' => 'same-origin',
            Origin => Qonto::Test::Url::origin($url));
        return $self->request('POST', $url, _over(\@own, \@headers), $body);
    }

    # What a script of a page asks for.
    sub fetch_request ($self, $method, $url, @headers) {
        return $self->finish($self->begin($method, $url, \@headers, undef, \@FETCH));
    }
    sub fetch ($self, $url, @headers) { return $self->fetch_request('GET', $url, @headers) }

    # A page visit with all its redirects; the last answer.
    sub visit ($self, $url, @headers) { return $self->follow($self->get($url, @headers)) }

    sub follow ($self, $answer, $most = 15) {
        my @before;
        while ($answer->status =~ /^30[12378]$/ && defined $answer->location) {
            die 'more than ' . scalar(@before) . " redirects:\n" . $answer->story if @before >= $most;
            push @before, $answer;
            $answer = $self->get($answer->location);
            $answer->{before} = [@before];
        }
        return $answer;
    }

    # Up to the redirect that leads to an address like $pattern, which is not followed: its address.
    sub follow_until ($self, $answer, $pattern) {
        for (1 .. 15) {
            my $to = $answer->location // die "no redirect towards $pattern:\n" . $answer->story;
            return $to if $to =~ $pattern;
            $answer = $self->get($to);
        }
        die "no redirect towards $pattern:\n" . $answer->story;
    }

    sub request ($self, $method, $url, $headers = [], $body = undef) {
        return $self->finish($self->begin($method, $url, $headers, $body));
    }

    # Sends a request and returns at once; `finish` reads the answer.
    sub begin ($self, $method, $url, $headers = [], $body = undef, $defaults = $self->{defaults}) {
        my ($scheme, $host, $port, $path) = Qonto::Test::Url::parts($url);
        my $standard = ($scheme eq 'https' ? 443 : 80) == $port;
        my @own = (Host => $standard ? $host : "$host:$port", $defaults->@*);
        my @cookies = $self->{jar} ? $self->jar->for_url($url) : ();
        push @own, Cookie => CORE::join '; ', map {"$_->{name}=$_->{value}"} @cookies if @cookies;
        push @own, 'Content-Length' => length $body if defined $body;
        push @own, Connection => 'close';
        my @all  = _over(\@own, $headers)->@*;
        my $text = "$method $path HTTP/1.1\r\n";
        while (my ($name, $value) = splice @all, 0, 2) {
            $text .= "$name: $value\r\n" if defined $value;
        }
        my $flight = $self->begin_raw($url, "$text\r\n" . ($body // ''));
        $flight->{method} = $method;
        return $flight;
    }

    # The very bytes, to whoever answers for the address.
    sub begin_raw ($self, $url, $bytes) {
        my ($scheme, $host, $port) = Qonto::Test::Url::parts($url);
        my $peer = $self->{connect}{"$host:$port"} // "127.0.0.1:$port";
        my $socket = $scheme eq 'https' ? $self->_tls($peer, $host)
            : IO::Socket::INET->new(PeerAddr => $peer, Timeout => Qonto::Test::slow(10));
        $socket or die "no connection to $peer for $url: $@\n";
        local $SIG{PIPE} = 'IGNORE';
        $socket->syswrite($bytes) // die "$url: $!\n" if length $bytes;
        return { socket => $socket, url => $url, began => Time::HiRes::time(), method => 'GET' };
    }

    sub raw ($self, $url, $bytes) { return $self->finish($self->begin_raw($url, $bytes)) }

    sub finish ($self, $flight) {
        my $answer = _read($flight, Qonto::Test::slow($self->{timeout}));
        $self->{jar}->keep($answer->url, $_) for $self->{jar} ? $answer->headers('Set-Cookie') : ();
        return $answer;
    }

    # $theirs instead of the lines of the same name in $ours; undef takes a line away.
    sub _over ($ours, $theirs) {
        my %named = map { lc $theirs->[2 * $_] => 1 } 0 .. $theirs->@* / 2 - 1;
        my @kept;
        for (my $i = 0; $i < $ours->@*; $i += 2) {
            push @kept, $ours->@[$i, $i + 1] unless $named{ lc $ours->[$i] };
        }
        return [@kept, $theirs->@*];
    }

    sub _tls ($self, $peer, $name) {
        require IO::Socket::SSL;
        my @trust = $self->{ca} ? (SSL_ca_file => $self->{ca}) : (SSL_verify_mode => 0);
        my ($address, $port) = split /:/, $peer;
        return IO::Socket::SSL->new(PeerAddr => $address, PeerPort => $port, SSL_hostname => $name,
            SSL_verifycn_name => $name, SSL_verifycn_scheme => 'http', Timeout => Qonto::Test::slow(10), @trust)
            || do { $@ = IO::Socket::SSL::errstr(); undef };
    }

    sub _fill ($flight, $limit) {
        my $socket = $flight->{socket};
        my $left   = $limit - (Time::HiRes::time() - $flight->{began});
        if (!($socket->can('pending') && $socket->pending)) {
            vec(my $ready = '', fileno $socket, 1) = 1;
            $left > 0 && select($ready, undef, undef, $left) > 0
                or die "$flight->{url}: no answer within $limit s\n";
        }
        my $got = $socket->sysread($flight->{text}, 65536, length($flight->{text} // ''));
        return $got // 0;
    }

    sub _read ($flight, $limit) {
        $flight->{text} = '';
        my ($head, $status, @fields);
        while (1) {
            while ($flight->{text} !~ /\r\n\r\n/) {
                _fill($flight, $limit) or last;
            }
            ($head) = $flight->{text} =~ /^(.*?\r\n)\r\n/s
                or die "$flight->{url}: not an answer: '$flight->{text}'\n";
            substr $flight->{text}, 0, 2 + length $head, '';
            ($status, my @lines) = split /\r\n/, $head;
            ($status) = $status =~ m{^HTTP/1\.[01] (\d{3})} or die "$flight->{url}: not an answer: $status\n";
            @fields = map { [/^([^:]*):[ \t]*(.*?)[ \t]*$/] } @lines;
            last if $status == 101 || $status >= 200;
        }
        my %last = map { lc $_->[0] => $_->[1] } @fields;
        my $bare = $flight->{method} eq 'HEAD' || $status =~ /^(?:101|204|304)$/;
        my $body = $bare ? '' : _body($flight, $limit, \%last);
        close $flight->{socket} unless $status == 101;
        return bless {
            status => $status, fields => \@fields, head => $head, body => $body, url => $flight->{url},
            seconds => Time::HiRes::time() - $flight->{began},
        }, 'Qonto::Test::Answer';
    }

    sub _body ($flight, $limit, $field) {
        if (($field->{'transfer-encoding'} // '') =~ /chunked/i) {
            my $body = '';
            while (1) {
                while ($flight->{text} !~ /^([0-9a-fA-F]+)[^\r\n]*\r\n/) { _fill($flight, $limit) or return $body }
                $flight->{text} =~ /^([0-9a-fA-F]+)[^\r\n]*\r\n/;    # the loop's match ended with it
                my ($size, $skip) = (hex $1, $+[0]);
                while (length $flight->{text} < $skip + $size + 2) { _fill($flight, $limit) or return $body }
                $body .= substr $flight->{text}, $skip, $size;
                substr $flight->{text}, 0, $skip + $size + 2, '';
                return $body if $size == 0;
            }
        }
        my $length = $field->{'content-length'};
        while (!defined $length || length $flight->{text} < $length) { _fill($flight, $limit) or last }
        return $flight->{text};
    }
}

# ---------------------------------------------------------------------------
package Qonto::Test::Backend {
    use File::Temp ();
    use JSON::PP   ();
    use Fcntl      qw(O_APPEND O_CREAT O_WRONLY);

    # port, answers => { '/path' => { status, headers => [name => value, ...], body } }
    sub new ($class, %option) {
        my $folder = File::Temp->newdir('qonto-backend-XXXXXX', TMPDIR => 1);
        my $self = bless { answers => {}, %option, folder => $folder, owner => $$ }, $class;
        my $listener = $self->_listen;
        $self->{port} = $listener->sockport;
        $self->{pid}  = fork // die "fork: $!\n";
        if (!$self->{pid}) {
            $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP);
            eval { $self->_serve($listener) };
            print STDERR "backend: $@" if $@;
            require POSIX;
            POSIX::_exit(0);
        }
        return $self;
    }

    sub port ($self) { return $self->{port} }
    sub url  ($self) { return "http://127.0.0.1:$self->{port}" }

    # Every request: { method, path, headers => [[name, value], ...], head, body }
    sub requests ($self) {
        open my $file, '<:raw', "$self->{folder}/log" or return;
        return map { JSON::PP::decode_json($_) } <$file>;
    }

    sub count ($self) { return scalar(() = $self->requests) }
    sub last  ($self) { return ($self->requests)[-1] }
    sub clear ($self) { unlink "$self->{folder}/log"; return }

    # The values of a header of the last request, by its exact spelling or (qr//) by any.
    sub got ($self, $name) {
        my $request = $self->last // return;
        return map { $_->[1] } grep { ref $name ? $_->[0] =~ $name : $_->[0] eq $name } $request->{headers}->@*;
    }

    sub stop ($self) {
        my $pid = delete $self->{pid} or return;
        kill TERM => $pid;
        waitpid $pid, 0;
        return;
    }

    sub DESTROY ($self) {
        local ($?, $!, $@);
        $self->stop if $self->{owner} == $$;
        return;
    }

    sub _listen ($self) {
        my @where = (LocalAddr => '127.0.0.1', LocalPort => $self->{port} // 0, Listen => 128, ReuseAddr => 1);
        my $listener;
        Qonto::Test::wait_until(5, sub { $listener = IO::Socket::INET->new(@where) })
            or die 'backend: port ' . ($self->{port} // 'any') . ": $@\n";
        return $listener;
    }

    sub _serve ($self, $listener) {
        local $SIG{CHLD} = 'IGNORE';
        my $parent = $self->{owner};
        while (getppid == $parent) {
            vec(my $ready = '', fileno $listener, 1) = 1;
            next unless select($ready, undef, undef, 1) > 0;
            my $socket = $listener->accept or next;
            my $pid = fork // next;
            next if $pid;
            eval { $self->_answer($socket) };
            require POSIX;
            POSIX::_exit(0);
        }
    }

    sub _answer ($self, $socket) {
        alarm 60;
        my $text = '';
        while ($text !~ /\r\n\r\n/) { sysread $socket, $text, 65536, length $text or return }
        my ($head, $body) = split /\r\n\r\n/, $text, 2;
        my ($line, @lines) = split /\r\n/, $head;
        my ($method, $target) = split / /, $line;
        my @fields = map { [/^([^:]*):[ \t]*(.*?)[ \t]*$/] } @lines;
        my ($length) = map { $_->[1] } grep { lc $_->[0] eq 'content-length' } @fields;
        while (length $body < ($length // 0)) { sysread $socket, $body, 65536, length $body or last }
        _note("$self->{folder}/log", { method => $method, path => $target, headers => \@fields, head => $head,
            body => $body });
        my ($path, $query) = split /\?/, $target, 2;
        my %say = ($self->{answers}{$path} // {})->%*;
        my @headers = ($say{headers} // [])->@*;
        for my $pair (map { [split /=/, $_, 2] } split /&/, $query // '') {
            my ($name, $value) = map { Qonto::Test::decode($_ // '') } $pair->@*;
            push @headers, split /:\s*/, $value, 2 if $name eq 'say-header';
            $say{status} = $value if $name eq 'say-status';
            select undef, undef, undef, $value if $name eq 'say-after';
        }
        my $out  = $say{body}   // "$head\r\n\r\n$body";
        my $code = $say{status} // 200;
        my $answer = "HTTP/1.1 $code Said\r\nConnection: close\r\nContent-Length: " . length($out) . "\r\n";
        $answer .= "Content-Type: text/plain\r\n" unless grep { lc eq 'content-type' } @headers;
        while (my ($name, $value) = splice @headers, 0, 2) { $answer .= "$name: $value\r\n" }
        $answer .= "\r\n";
        $answer .= $out unless $method eq 'HEAD';
        syswrite $socket, $answer;
        return;
    }

    sub _note ($path, $record) {
        sysopen my $file, $path, O_WRONLY | O_CREAT | O_APPEND or die "$path: $!\n";
        syswrite $file, JSON::PP->new->latin1->encode($record) . "\n";
        close $file;
        return;
    }
}

# ---------------------------------------------------------------------------
package Qonto::Test::Site {

    # Starts what t/conf/NAME.conf.in leaves to the test: stand-in and backend.
    sub new ($class, $name, %option) {
        my $build = $ENV{QO_TOP_BUILDDIR} // die "run me through t/TEST\n";
        my $self = bless { name => $name, build => $build, owner => $$, var => _defines("$build/t/conf/$name.conf") },
            $class;
        my $port = $self->var('site_standin');
        $self->{standin} = Qonto::StandIn->start(port => $port, ($option{standin} // {})->%*) if $port;
        $self->{backend} = Qonto::Test::Backend->new(port => $self->var('site_backend'), ($option{backend} // {})->%*);
        $self->mark;
        return $self;
    }

    sub _defines ($path) {
        open my $file, '<', $path or die "$path: $!\n";
        my %define;
        while (<$file>) { $define{$1} //= $2 if /^\s*Define\s+(\w+)\s+(\S+)/ }
        return \%define;
    }

    sub var ($self, $name) { return $self->{var}{$name} }
    sub standin ($self) { return $self->{standin} }
    sub backend ($self) { return $self->{backend} }
    sub port ($self, $which = 'site_port') { return $self->var($which) // die "no $which in $self->{name}.conf\n" }

    sub url ($self, $path = '/', $host = '127.0.0.1') { return "http://$host:" . $self->port . $path }
    sub callback ($self) { return $self->url('/qonto/callback') }

    # How many codes were exchanged, or tried to be.
    sub token_calls ($self) { return $self->standin->counters->{token} // 0 }

    # The address to which the stand-in sends this browser for a page, not yet visited.
    sub callback_for ($self, $browser, $path = '/app/page') {
        return $browser->follow_until($browser->get($self->url($path)), qr{^http://[^/]+/[^?]*callback\?});
    }

    # The site's own error log, from the last mark on.
    sub log_path ($self) { return "$self->{build}/t/logs/$self->{name}_error_log" }
    sub mark ($self) { $self->{mark} = -s $self->log_path // 0; return }

    sub log ($self) {
        open my $file, '<:raw', $self->log_path or return '';
        seek $file, $self->{mark}, 0;
        local $/;
        return <$file> // '';
    }

    # Lines of our module only.
    sub our_log ($self) { return grep {/qonto_oauth:|\bQO\d{4}\b/} split /\n/, $self->log }
}

require Time::HiRes;

1;

__END__

=encoding utf8

=head1 NAME

Qonto::Test - what the tests of mod_qonto_oauth share

=head1 SYNOPSIS

    use Qonto::Test;                       # with Test::More, strict and warnings are yours

    my $site = site('login');              # t/conf/login.conf.in; starts its stand-in and backend
    my $b    = browser();

    my $page = $b->visit($site->url('/app/x?y=1'));     # follows redirects; ->chain has all
    is $page->status, 200;
    is_deeply [$site->backend->got('X-Qonto-Scope')], ['...'];
    is $site->standin->counters->{token_code}, 1;

    my $a = $b->get($site->url('/app'), 'Accept' => undef, 'x-qonto-User' => 'a', 'X_Qonto_User' => 'b');
    $a->status; $a->header('Location'); $a->headers('Set-Cookie'); $a->location; $a->body; $a->seconds;

    my @flying = map { $b->begin(GET => $url) } 1 .. 10;   # at once
    my @answers = map { $b->finish($_) } @flying;

    like $site->log, qr/QO0020/;           # the site's own error log since site() or $site->mark

=head1 THE BROWSER

C<browser(jar =E<gt> undef)> has no cookies at all; C<ca> verifies TLS; C<connect =E<gt> { 'app.test:443' =E<gt>
'127.0.0.1:8443' }> says who answers. Every name leads to 127.0.0.1. Cookies follow RFC 6265: host (not port), path,
Secure, C<__Host-> and C<__Secure->, deletion.

C<get>, C<head>, C<post($url, \%form or $body)>, C<request($method, $url, \@headers, $body)>, C<fetch> (a script's
request), C<visit>, C<follow>, C<follow_until($answer, qr/callback/)> (the address of the redirect that matches),
C<raw($url, $bytes)>, C<begin>/C<begin_raw> with C<finish>, C<cookies($url)>, C<clone>. Header lines are sent as
given; one of the name of a default takes its place, an undefined value only removes it.

=head1 THE BACKEND

C<backend(port =E<gt> $n, answers =E<gt> {...})>: repeats the request it got as text; C<?say-header=Name:value>,
C<?say-status=404> and C<?say-after=0.5> change the answer. C<requests>, C<count>, C<last>, C<got($name or qr//)>,
C<clear>.

=head1 SITES

F<t/conf/NAME.conf.in> sets C<Define site_port>, C<site_standin>, C<site_backend> to ports of its own and includes
F<t/conf/site.conf>; C<site(NAME, standin =E<gt> {...}, backend =E<gt> {...})> passes options on.

=cut
