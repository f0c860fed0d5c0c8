package Qonto::H2;

# As much HTTP/2 (RFC 9113) as it takes to send a server any header fields at all, also those
# that no well-behaved client would send.

use v5.36;

use IO::Socket::INET ();
use Qonto::Test      ();

use constant { DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, PING => 6, GOAWAY => 7 };
use constant { END_STREAM => 1, ACK => 1, END_HEADERS => 4 };

my %STATUS = (0x88 => 200, 0x89 => 204, 0x8a => 206, 0x8b => 304, 0x8c => 400, 0x8d => 404, 0x8e => 500);

sub connect ($class, $port) {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => Qonto::Test::slow(10))
        or die "port $port: $@\n";
    my $self = bless { socket => $socket, next => 1, port => $port, text => '' }, $class;
    # A header table of size 0 (setting 1): the server shall write every status out.
    syswrite $socket, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . _frame(SETTINGS, 0, 0, pack 'n N', 1, 0);
    return $self;
}

# { status, body, error }: error is set when the server ended the stream or the connection.
sub request ($self, $method, $path, $fields = [], %more) {
    my $stream = $self->{next};
    $self->{next} += 2;
    my @pseudo = (':method' => $method, ':scheme' => 'http', ':authority' => "127.0.0.1:$self->{port}", ':path' => $path);
    my $last = exists $more{body} || $more{trailers} ? 0 : END_STREAM;
    my $out = _frame(HEADERS, END_HEADERS | $last, $stream, _fields(@pseudo, $fields->@*));
    $out .= _frame(DATA, $more{trailers} ? 0 : END_STREAM, $stream, $more{body} // '') if !$last;
    $out .= _frame(HEADERS, END_HEADERS | END_STREAM, $stream, _fields($more{trailers}->@*)) if $more{trailers};
    local $SIG{PIPE} = 'IGNORE';
    syswrite $self->{socket}, $out;
    return $self->_answer($stream);
}

# Streams at the same time: a GET for each path; the answers, in order.
sub all ($self, $fields, @paths) {
    my ($out, @streams) = ('');
    for my $path (@paths) {
        push @streams, $self->{next};
        my @pseudo = (':method' => 'GET', ':scheme' => 'http', ':authority' => "127.0.0.1:$self->{port}", ':path' => $path);
        $out .= _frame(HEADERS, END_HEADERS | END_STREAM, $self->{next}, _fields(@pseudo, $fields->@*));
        $self->{next} += 2;
    }
    local $SIG{PIPE} = 'IGNORE';
    syswrite $self->{socket}, $out;
    my %answer = map { $_ => { status => 0, body => '', error => 0 } } @streams;
    my $open = @streams;
    while ($open > 0 and my ($type, $flags, $of, $payload) = $self->_read_frame) {
        syswrite $self->{socket}, _frame(SETTINGS, ACK, 0, '') if $type == SETTINGS && !($flags & ACK);
        syswrite $self->{socket}, _frame(PING, ACK, 0, $payload) if $type == PING && !($flags & ACK);
        last if $type == GOAWAY && unpack('x4 N', $payload);
        my $this = $answer{$of} or next;
        $this->{body} .= $payload if $type == DATA;
        $this->{status} ||= _status($payload) if $type == HEADERS;
        $this->{error} = 1 if $type == RST_STREAM;
        $open-- if $type == RST_STREAM || $flags & END_STREAM && ($type == DATA || $type == HEADERS);
    }
    return map { $answer{$_} } @streams;
}

sub _answer ($self, $stream) {
    my %answer = (status => 0, body => '', error => 0);
    while (my ($type, $flags, $of, $payload) = $self->_read_frame) {
        syswrite $self->{socket}, _frame(SETTINGS, ACK, 0, '') if $type == SETTINGS && !($flags & ACK);
        syswrite $self->{socket}, _frame(PING, ACK, 0, $payload) if $type == PING && !($flags & ACK);
        return { %answer, error => 1 } if $type == GOAWAY && unpack('x4 N', $payload);
        next if $of != $stream;
        return { %answer, error => 1 } if $type == RST_STREAM;
        $answer{body} .= $payload if $type == DATA;
        $answer{status} ||= _status($payload) if $type == HEADERS;
        return \%answer if $flags & END_STREAM && ($type == DATA || $type == HEADERS);
    }
    return { %answer, error => 1 };
}

# --- frames ---

sub _frame ($type, $flags, $stream, $payload) {
    return substr(pack('N', length $payload), 1) . pack('C C N', $type, $flags, $stream) . $payload;
}

sub _read_frame ($self) {
    $self->_fill(9) or return;
    my ($high, $low, $type, $flags, $stream) = unpack 'C n C C N', $self->{text};
    my $length = $high << 16 | $low;
    $self->_fill(9 + $length) or return;
    my $payload = substr $self->{text}, 9, $length;
    substr $self->{text}, 0, 9 + $length, '';
    return $type, $flags, $stream & 0x7fffffff, $payload;
}

sub _fill ($self, $wanted) {
    while (length $self->{text} < $wanted) {
        vec(my $ready = '', fileno $self->{socket}, 1) = 1;
        select($ready, undef, undef, Qonto::Test::slow(20)) > 0 or die "port $self->{port}: no HTTP/2 answer\n";
        sysread $self->{socket}, $self->{text}, 65_536, length $self->{text} or return 0;
    }
    return 1;
}

# --- HPACK (RFC 7541): literals without index or Huffman code out, the status only in ---

sub _fields (@fields) {
    my $block = '';
    while (my ($name, $value) = splice @fields, 0, 2) { $block .= "\x10" . _string($name) . _string($value) }
    return $block;
}

sub _string ($text) {
    my $rest = length($text) - 127;
    return chr(length $text) . $text if $rest < 0;
    my $size = "\x7f";
    for (; $rest >= 128; $rest >>= 7) { $size .= chr(128 | $rest & 127) }
    return $size . chr($rest) . $text;
}

# Digits have codes of 5 bits (0, 1, 2) and 6 bits (the others).
sub _status ($block) {
    $block =~ s/^[\x20-\x3f]+//;
    my $first = ord $block;
    return $STATUS{$first} if $STATUS{$first};
    my ($size) = $block =~ /^[\x08\x18\x48](.)/s or return 0;
    my $text = substr $block, 2, ord($size) & 127;
    return $text if !(ord($size) & 128);
    my $bits = unpack 'B*', $text;
    my $digits = '';
    while (length $digits < 3) {
        $digits .= $bits =~ s/^000(00|01|10)// ? oct "0b$1" : $bits =~ s/^011(\d{3})// ? 2 + oct "0b$1" : return 0;
    }
    return $digits;
}

1;
