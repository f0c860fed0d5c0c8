# httpd's own caches, on disk and in shared memory, before the request is even looked at (quick
# handler) or after, as they come and told to keep everything: open pages are kept, and nobody is
# ever served another's page.

use v5.36;
use Qonto::Test;
use Qonto::Rig;

my %said = (
    nothing => [],
    public  => ['Cache-Control' => 'public, max-age=600'],
    shared  => ['Cache-Control' => 'max-age=0, s-maxage=600', ETag => '"1"'],
    expires => [Expires => 'Thu, 01 Jan 2099 00:00:00 GMT', 'Last-Modified' => 'Thu, 01 Jan 2015 00:00:00 GMT'],
    vary    => ['Cache-Control' => 'public, max-age=600', Vary => 'Accept-Encoding, Cookie'],
    private => ['Cache-Control' => 'private, max-age=600'],
);
my @places = qw(app pass page 401);
my @caches = map { my $kind = $_; map { my $quick = $_; map { [$kind, $quick, $_] } qw(plain reckless) } qw(On Off) } qw(disk socache);

sub name_of ($cache) { return lc join '', $cache->@* }

sub vhost ($rig, $cache) {
    my ($kind, $quick, $care) = $cache->@*;
    my $name = name_of($cache);
    my $store = $kind eq 'disk' ? qq{CacheRoot "\@root\@/logs/$name"\n} : qq{CacheSocache "shmcb:\@root\@/logs/$name(1000000)"\n};
    my $reckless = $care eq 'plain' ? '' : <<~'CONF';
        CacheStorePrivate On
        CacheStoreNoStore On
        CacheIgnoreCacheControl On
        CacheIgnoreNoLastMod On
        CacheDefaultExpire 3600
        CacheStoreExpired On
        CONF
    return "Listen 127.0.0.1:\@${name}_port\@\n<VirtualHost 127.0.0.1:\@${name}_port\@>\n"
        . qonto($rig->standin, QontoRedirectURI => "http://127.0.0.1:\@${name}_port\@/qonto/callback")
        . join('', map { proxied("/$_/", $rig->backend) } @places, 'open')
        . protected('/app/') . protected('/file/') . protected('/cgi/')
        . join('', map { protected("/$_/", "QontoUnauthenticated $_") } qw(pass page 401))
        . qq{ScriptAlias "/cgi/" "\@root\@/cgi/"\nCacheQuickHandler $quick\nCacheHeader On\n$store${reckless}CacheEnable $kind /\n}
        . qq{<Location "/qonto/logout">\nSetHandler qonto-logout\n</Location>\n</VirtualHost>\n};
}

my $rig = rig(
    backend => { answers => { map { my $name = $_; map { ("/$_/$name" => { headers => $said{$name} }) } @places, 'open' } keys %said } },
    conf => sub ($rig) {
        return <<~'CONF' . qonto($rig->standin) . join '', map { vhost($rig, $_) } @caches;
            <Directory "@root@/cgi">
                Require all granted
                Options +ExecCGI
            </Directory>
            CONF
    },
);
for my $cache (@caches) {
    mkdir $rig->root . '/logs/' . name_of($cache);
    chmod 0777, $rig->root . '/logs/' . name_of($cache);
}
conf_file($rig, 'htdocs/file/x.txt', "the file\n");
conf_file($rig, 'cgi/who', <<'CGI', 0755);
#!/bin/sh
printf 'Content-Type: text/plain\r\nCache-Control: public, max-age=600\r\n\r\nX-Qonto-User: %s\r\n' "$QONTO_USER"
CGI
$rig->start;

my $stranger = browser(jar => undef);

# Whose page is this?
sub owner ($answer, $people) {
    return 'to Qonto' if $answer->status == 302;
    return 'a 401' if $answer->status == 401;
    return 'status ' . $answer->status if $answer->status != 200;
    my ($user) = $answer->body =~ /^X-Qonto-User: (\S+)/m;
    my ($token) = $answer->body =~ /^Authorization: Bearer (\S+)/m;
    my @who = grep { ($user // '') eq $people->{$_}{user} || ($token // '') eq $people->{$_}{token} } sort keys $people->%*;
    return @who ? "@who" : defined $user || defined $token ? 'somebody' : 'a stranger';
}

sub person ($name, $port) {
    my $browser = browser();
    $browser->visit($rig->url("/app/sign-in-$name", $port))->status == 200 or die "$name cannot sign in\n";
    my ($user) = $rig->backend->got('X-Qonto-User');
    return { browser => $browser, user => $user, token => token_of($rig->backend) };
}

my @kinds = ($ENV{QO_SLOW} || 1) > 1 ? qw(public expires) : sort keys %said;
my @orders = ([qw(stranger ada bob stranger ada)], [qw(ada stranger bob ada stranger bob)]);
my %for_stranger = (app => 'to Qonto', pass => 'a stranger', page => 'a 401', 401 => 'a 401');

for my $cache (@caches) {
    my ($name, $port) = ("@$cache", name_of($cache) . '_port');
    my %people = map { $_ => person($_, $port) } qw(ada bob);
    my %who    = (stranger => $stranger, map { $_ => $people{$_}{browser} } keys %people);
    my %locations;

    for my $place (@places) {
        my @wrong;
        for my $kind ($place =~ /app|pass/ ? @kinds : qw(public expires)) {
            for my $order (0 .. $#orders) {
                for my $visitor ($orders[$order]->@*) {
                    my $answer = $who{$visitor}->get($rig->url("/$place/$kind?order=$order", $port));
                    my $expected = $visitor eq 'stranger' ? $for_stranger{$place} : $visitor;
                    my $got = owner($answer, \%people);
                    push @wrong, "$kind: $visitor got the page of $got" if $got ne $expected;
                    push @wrong, "$kind: $visitor got a page from the cache"
                        if ($answer->header('X-Cache') // '') =~ /^HIT/ && $place ne 'pass';
                    $locations{ $answer->header('Location') }++ if $answer->status == 302;
                }
            }
        }
        is_deeply \@wrong, [], "$name, $place: everybody their own" or diag join "\n", @wrong;
    }
    is scalar(grep { $_ > 1 } values %locations), 0, "$name: no login is given twice";

    # Files and programs are as private as what a backend says.
    for my $path ('/file/x.txt', '/cgi/who') {
        my @got = map { owner($who{$_}->get($rig->url($path, $port)), \%people) =~ s/^a stranger$/200/r } qw(ada stranger bob stranger);
        my @expected = $path =~ /cgi/ ? ('ada', 'to Qonto', 'bob', 'to Qonto') : (200, 'to Qonto', 200, 'to Qonto');
        is_deeply \@got, \@expected, "$name: $path";
    }

    # The cache does work: an open page is kept, for those signed in, too.
    $rig->backend->clear;
    my @open = map { $_->get($rig->url('/open/public', $port)) } $stranger, $stranger, $who{ada}, $who{bob};
    is $rig->backend->count, 1, "$name: an open page comes from the backend once";
    like $open[-1]->header('X-Cache'), qr/^HIT/, 'and from the cache later';
    is_deeply [map { owner($_, \%people) } @open], [('a stranger') x 4], 'and is nobody\'s';

    # After a log-out nothing is left.
    is $who{ada}->post($rig->url('/qonto/logout', $port))->status =~ /^[23]/ ? 1 : 0, 1, "$name: ada signs out";
    is owner($who{ada}->get($rig->url("/app/$_?order=0", $port)), \%people), 'to Qonto', "$_: her page is gone with her" for @kinds;
    is owner($who{bob}->get($rig->url("/app/$_?order=0", $port)), \%people), 'bob', "$_: his is not" for @kinds;
}

done_testing;
