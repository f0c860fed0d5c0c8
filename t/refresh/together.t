# Whatever belongs to one request shares one outcome: sub-requests, internal redirects, HTTP/2
# streams; and `pass` and "all granted" locations get the new token as protected ones do.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;
use Qonto::H2;

my $rig = farm(more => sub ($rig) {
    my $there = $rig->backend->url;
    return "Protocols h2c http/1.1\nErrorDocument 404 /app/404\nErrorDocument 503 /app/503\n"
        . join('', map { protected($_) } qw(/own/ /dir/ /index/ /fallback/)) . <<~"CONF";
        RewriteEngine On
        RewriteRule ^/to-app/(.*)\$ /app/\$1 [PT]
        RewriteRule ^/own/p/(.*)\$  $there/p/\$1 [P]
        <Directory "\@root\@/htdocs">
            Require all granted
            Options +FollowSymLinks +Includes
            AddOutputFilter INCLUDES .shtml
        </Directory>
        <Directory "\@root\@/htdocs/dir">
            RewriteEngine On
            RewriteRule ^app/(.*)\$ /app/\$1
        </Directory>
        <Directory "\@root\@/htdocs/index">
            DirectoryIndex /app/index
        </Directory>
        <Directory "\@root\@/htdocs/fallback">
            FallbackResource /app/fallback
        </Directory>
        CONF
});
conf_file($rig, "htdocs/$_/here", "static\n") for qw(dir index fallback own free);
my @parts = qw(/app/one /open/two /pass/three /granted/four /app/five);
conf_file($rig, "htdocs/$_/page.shtml", join '', map {qq{[<!--#include virtual="$_" -->]\n}} @parts) for qw(own free);
$rig->start;
my ($q, $backend) = ($rig->standin, $rig->backend);

# What the backend saw: path => 'new', 'old', 'none'.
sub tokens_by_path ($visitor) {
    my %by;
    for my $request ($backend->requests) {
        my ($token) = $request->{head} =~ /^Authorization: Bearer (\S+)/mi;
        my $is = !defined $token ? 'none' : $token eq $visitor->{access} ? 'new' : 'old';
        $by{ $request->{path} } = ($by{ $request->{path} } // $is) eq $is ? $is : 'mixed';
    }
    return \%by;
}

sub shares ($visitor, $name, $want, $act) {
    my $spent = $visitor->{refresh};
    $q->reset;
    $backend->clear;
    $act->();
    is_tokens [asked_for($rig)], [$spent], "$name: one call";
    renewed($rig, $visitor);
    is_deeply tokens_by_path($visitor), $want, "$name: the new token, where one belongs";
    is_in $rig, $visitor, "$name: later";
    return;
}

my %pages = (
    '/own/page.shtml'  => { (map { $_ => 'new' } @parts), '/open/two' => 'none' },
    '/free/page.shtml' => { (map { $_ => 'new' } @parts), '/open/two' => 'none' },
    '/own/missing'  => { '/app/404'      => 'new' },
    '/free/missing' => { '/app/404'      => 'new' },
    '/dir/app/x'    => { '/app/x'        => 'new' },
    '/index/'       => { '/app/index'    => 'new' },
    '/fallback/a/b' => { '/app/fallback' => 'new' },
    '/to-app/x'     => { '/app/x'        => 'new' },
    '/own/p/x'      => { '/p/x'          => 'new' },
    '/pass/x'       => { '/pass/x'       => 'new' },
    '/granted/x'    => { '/granted/x'    => 'new' },
);
my @visitors = visitors($rig, scalar keys %pages);
my @mixed    = visitors($rig, 3);
my @streams  = visitors($rig, 3);
my @failing  = visitors($rig, 3);
expire(@visitors, @mixed, @streams, @failing);

my %visitor;
@visitor{ sort keys %pages } = @visitors;
for my $path (sort keys %pages) {
    my $visitor = $visitor{$path};
    shares $visitor, $path, $pages{$path}, sub { $visitor->{browser}->get($rig->url($path)) };
}

# All kinds of location, and pages of many parts, at once.
$q->set(delay => 0.1);
for my $visitor (@mixed) {
    my @paths = qw(/app/x /pass/x /granted/x /own/page.shtml /index/ /open/x);
    shares $visitor, 'a mixture', { (map { $_ => 'new' } qw(/app/x /pass/x /granted/x /app/index), @parts),
        '/open/x' => 'none', '/open/two' => 'none' }, sub {
        is statuses(burst($rig, $visitor, 36, @paths)), '200 x 36', 'a mixture at once';
    };
}

SKIP: {
    skip 'prefork knows no HTTP/2', 1 if ($ENV{QO_MPM} // '') eq 'prefork';
    for my $visitor (@streams) {
        my @cookie = (accept => 'text/html', cookie => "qonto=$visitor->{cookie}");
        shares $visitor, 'HTTP/2', { map { ("/app/$_" => 'new') } 1 .. 20 }, sub {
            my @answers = Qonto::H2->connect($rig->httpd->port)->all(\@cookie, map {"/app/$_"} 1 .. 20);
            is_deeply [grep { $_->{status} != 200 || $_->{error} } @answers], [], 'twenty streams of one connection';
        };
    }
}
$q->set(delay => 0);

# A failure is shared, too: the parts of a page do not try again one by one.
# Nor does an error document that needs the tokens, too.
for my $path (qw(/own/page.shtml /free/page.shtml /app/x)) {
    my $visitor = shift @failing;
    $q->reset;
    $backend->clear;
    $q->fault(refresh => '500');
    my $answer = $visitor->{browser}->get($rig->url($path));
    is $answer->status, $path =~ /free/ ? 200 : 503, "$path without its tokens";
    is calls($rig), 1, "$path: one call that fails, for all its parts";
    is_tokens [grep { $_ ne '-' } keys seen_tokens($rig)->%*], [], 'nobody has a token';
    is_deeply [$answer->headers('Set-Cookie')], [], 'and the cookie stays';
    $q->fault(refresh => 'none');
}

is_sound $rig, @visitors, @mixed, @streams;
done_testing;
