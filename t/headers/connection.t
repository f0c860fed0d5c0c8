# A visitor's "Connection:" names headers that a proxy must drop (RFC 9110 7.6.1). It can neither
# take away what the module sets (compare CVE-2022-31813) nor bring a cookie of ours through.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Forgery;

my $rig = rig(conf => sub ($rig) {
    my $backend = $rig->backend;
    return qonto($rig->standin) . join('', map { proxied($_, $backend) } qw(/open/ /app/ /pass/ /custom/ /dir/))
        . protected('/app/', 'QontoPass user scope expires session') . protected('/pass/', 'QontoUnauthenticated pass')
        . protected('/custom/', 'QontoTokenHeader X-Api-Token')
        . qq{ProxyPass "/ws/" "@{[$backend->url =~ s/^http/ws/r]}/ws/"\n} . protected('/ws/');
})->start;

my $backend = $rig->backend;
my $user    = browser();
sign_in($user, $rig->url('/app/first'));
my ($session) = map { $_->[1] } $user->cookies($rig->url('/app/'));
ok length $session, 'there is a session cookie';

my %app = (Authorization => qr/^Bearer ory_at_/, map { ("X-Qonto-$_" => qr/./) } qw(User Scope Expires Session));

my @ours = qw(X-Qonto-User x-qonto-user X-QONTO-USER X_Qonto_User X.Qonto.User X-Qonto-Scope X-Qonto-Expires
    X-Qonto-Session Authorization authorization AUTHORIZATION Cookie cookie X-Api-Token x_api_token);
my $list = join ', ', @ours;
my @tricks = (
    (map { [Connection => $_] } @ours),
    [Connection => $list],
    [Connection => "close, $list"],
    [Connection => "$list, close"],
    [Connection => join ',', @ours],
    [Connection => join "\t,\t", @ours],
    [Connection => join ' , , ,,', @ours],
    [Connection => join ' ', @ours],
    [Connection => ",$list,"],
    [Connection => 'close', map { (Connection => $_) } @ours],
    [Connection => 'keep-alive', Connection => $list],
    [connection => $list, CONNECTION => $list],
    [Connection => join ', ', map {qq{"$_"}} @ours],
    [Connection => join ', ', map {"$_;q=1"} @ours],
    [Connection => join ', ', map {"$_="} @ours],
    [Connection => "x-qonto-user, x-qonto-user, X-Qonto-User"],
    [Connection => 'Connection, X-Qonto-User, Authorization'],
    [Connection => "Keep-Alive, TE, Upgrade, Trailer, $list"],
    [Connection => 'X-Qonto-*, Authorizatio*, X-Qonto-'],
    ['Proxy-Connection' => $list],
    ['Keep-Alive' => $list],
    [Connection => "close, X-Qonto-User", 'Keep-Alive' => 'X-Qonto-Scope', 'Proxy-Connection' => 'Authorization'],
    [TE => 'trailers', Connection => "TE, $list", Trailer => $list],
    [Connection => "\r\n $list"],
    [Connection => "close,\r\n\tX-Qonto-User,\r\n Authorization"],
    [Connection => 'a, ' x 400 . $list],
    (map { my $form = $_; [Connection => join ', ', map { $form =~ s/NAME/$_/r } qw(Authorization X-Api-Token X-Qonto-User)] }
        'NAME;', 'NAME;q=1', 'NAME ; a=b', 'a;NAME', 'a; NAME', 'NAME a', 'a NAME', '"a" NAME', '"NAME"', '"NAME',
        'NAME"', "NAME\t", 'NAME:', 'NAME=1', '(NAME)', 'NAME(a)', '\\NAME'),
);

# Each trick alone, then together with forged copies of what it names.
sub try ($path, $true, $name, @more) {
    $backend->clear;
    $user->get($rig->url("$path?$_"), $tricks[$_]->@*, @more) for 0 .. $#tricks;
    my %met = map { $_->{path} => $_ } $backend->requests;
    is scalar keys %met, scalar @tricks, "$name: all arrive";
    for my $number (0 .. $#tricks) {
        my @bad = intruders($met{"$path?$number"} // next, $true);
        my $line = join ' / ', map { s/[\r\n]+/\\n/gr } $tricks[$number]->@*;
        is_deeply \@bad, [], "$name: everything of ours arrives, nothing else: " . substr $line, 0, 90;
    }
    is_deeply [grep { $_->{head} =~ /\Q$session/ } values %met], [], "$name: no session cookie arrives";
    return values %met;
}

my @forged = map { [$_ => MARK . '-forged'] } qw(X-Qonto-User x_qonto_scope X.Qonto.Expires X-Api-Token);
my @copies = map { $_->@* } @forged;

try('/app/x', \%app, 'signed in');
try('/app/x', \%app, 'signed in, forged', @copies, Authorization => 'Bearer ' . MARK);
try('/pass/x', { map { $_ => $app{$_} } qw(Authorization X-Qonto-User X-Qonto-Scope X-Qonto-Expires) }, 'pass', @copies);
try('/custom/x', { 'X-Api-Token' => qr/^ory_at_/, map { $_ => $app{$_} } qw(X-Qonto-User X-Qonto-Scope X-Qonto-Expires) },
    'own token header', @copies);
my @open = try('/open/x', {}, 'open page', @copies);
is_deeply [grep { $_->{head} =~ /ory_at_/ } @open], [], 'no token arrives there';

# The upgrade of a WebSocket needs its Connection header.
my @upgrade = (Upgrade => 'websocket', 'Sec-WebSocket-Version' => 13, 'Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ==');
$backend->clear;
$user->get($rig->url('/ws/x'), Connection => "Upgrade, $list", @upgrade, @copies);
is_deeply [map { intruders($_, { map { $_ => $app{$_} } qw(Authorization X-Qonto-User X-Qonto-Scope X-Qonto-Expires) }) }
    $backend->requests], [], 'WebSocket: everything of ours, and nothing else';
is_deeply [map {lc} $backend->got(qr/^upgrade$/i)], ['websocket'], 'it is still an upgrade';

# A stranger cannot hide or bring anything either.
$backend->clear;
my $stranger = browser(jar => undef);
$stranger->get($rig->url('/pass/x'), $_->@*, @copies, Authorization => 'Bearer ' . MARK) for @tricks;
is_deeply [map { intruders($_) } $backend->requests], [], 'pass, a stranger: nothing forged';
is $backend->count, scalar @tricks, 'all arrive';

done_testing;
