# Internal redirects and sub-requests: a protected page's token goes with every request that is
# protected too, and never into one that is not; nothing forged comes along on any of these ways.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Forgery;

my $rig = rig(httpd => { modules => ['actions'] }, conf => sub ($rig) {
    my $backend = $rig->backend;
    my $there   = $backend->url;
    return qonto($rig->standin) . join('', map { proxied($_, $backend) } qw(/open/ /app/ /custom/ /gone/))
        . join('', map { protected($_) } qw(/app/ /gone/ /own/ /dir/ /index/ /fallback/ /acted/ /cgi/ /rwp/ /pages/ /dirp/))
        . protected('/custom/', 'QontoTokenHeader X-Api-Token', 'QontoPass user env')
        . protected('/pass/',   'QontoUnauthenticated pass')
        . <<~"CONF";
        LimitRequestFields 300
        ErrorDocument 404 /open/404
        RewriteEngine On
        RewriteRule ^/rwp/(.*)\$  $there/rwp/\$1  [P]
        RewriteRule ^/rwo/(.*)\$  $there/rwo/\$1  [P]
        RewriteRule ^/to-open/(.*)\$ /open/\$1 [PT]
        RewriteRule ^/to-app/(.*)\$  /app/\$1 [PT]
        ScriptAlias "/cgi/"  "\@root\@/cgi/"
        ScriptAlias "/ocgi/" "\@root\@/cgi/"
        <Directory "\@root\@">
            Require all granted
            Options +FollowSymLinks +Includes +ExecCGI
            AddOutputFilter INCLUDES .shtml
        </Directory>
        <Directory "\@root\@/htdocs/dir">
            RewriteEngine On
            RewriteRule ^open/(.*)\$   /open/\$1
            RewriteRule ^app/(.*)\$    /app/\$1
            RewriteRule ^custom/(.*)\$ /custom/\$1
        </Directory>
        <Directory "\@root\@/htdocs/dirp">
            RewriteEngine On
            RewriteRule ^(.*)\$ $there/dirp/\$1 [P]
        </Directory>
        <Directory "\@root\@/htdocs/diro">
            RewriteEngine On
            RewriteRule ^p/(.*)\$   $there/diro/\$1 [P]
            RewriteRule ^app/(.*)\$ /app/\$1
        </Directory>
        <Directory "\@root\@/htdocs/index">
            DirectoryIndex /open/index
        </Directory>
        <Directory "\@root\@/htdocs/oindex">
            DirectoryIndex /app/index
        </Directory>
        <Directory "\@root\@/htdocs/fallback">
            FallbackResource /open/fallback
        </Directory>
        <Directory "\@root\@/htdocs/acted">
            Action to-open /open/action virtual
            SetHandler to-open
        </Directory>
        CONF
});

conf_file($rig, "htdocs/$_/here", "static\n") for qw(dir dirp diro index oindex fallback acted own gone pass);
conf_file($rig, "htdocs/$_.shtml", <<'HTML') for qw(own/page pages/page pass/page oindex/page);
[<!--#include virtual="/open/one" -->]
[<!--#include virtual="/app/two" -->]
[<!--#include virtual="/open/three" -->]
[<!--#include virtual="/custom/four" -->]
[<!--#include virtual="/open/five" -->]
[<!--#include virtual="/app/six" -->]
HTML
conf_file($rig, 'cgi/to', <<'CGI', 0755);
#!/bin/sh
printf 'Location: /%s/by-cgi\r\n\r\n' "$QUERY_STRING"
CGI
$rig->start;

my $backend = $rig->backend;
my $user    = browser();
sign_in($user, $rig->url('/app/first'));
my $token    = token_of($backend);
my $stranger = browser(jar => undef);
my @bundles  = in_bundles(60, grep { $_->@* == 1 } forgeries());
my @forged   = map { $_->@* } $bundles[0]->@*;

my %id     = map { ($_ => qr/./) } qw(X-Qonto-User X-Qonto-Scope X-Qonto-Expires);
my %app    = (%id, Authorization => qr/^Bearer \Q$token\E$/);
my %custom = ('X-Qonto-User' => qr/./, 'X-Qonto-Env' => qr/./, 'X-Api-Token' => qr/^\Q$token\E$/);

# What the backend sees of one visit: [path, 'app' | 'custom' | 'open' | what is wrong] for each request.
sub seen ($browser, $path, @headers) {
    $backend->clear;
    my $answer = $browser->get($rig->url($path), @headers);
    my @seen;
    for my $met ($backend->requests) {
        my $app    = join ', ', intruders($met, \%app);
        my $custom = join ', ', intruders($met, \%custom);
        my $open   = join ', ', intruders($met), $met->{head} =~ /(\Q$token\E)/ ? 'the token' : ();
        push @seen, $met->{path} => !length $app ? 'app' : !length $custom ? 'custom' : !length $open ? 'open' : $open;
    }
    return { @seen };
}

sub shows ($browser, $name, $path, $expected) {
    for my $headers ([], \@forged, map { [map { $_->@* } $_->@*] } @bundles[1 .. $#bundles]) {
        my $seen = seen($browser, $path, $headers->@*);
        is_deeply $seen, $expected, "$name: $path" . ($headers->@* ? ', with forged lines' : '');
        last if ($ENV{QO_SLOW} || 1) > 1 && $headers->@*;
    }
    return;
}

# --- out of a protected location into an open one ---

shows $user, 'error document',              '/own/missing',  { '/open/404' => 'open' };
shows $user, 'directory RewriteRule',       '/dir/open/x',   { '/open/x' => 'open' };
shows $user, 'DirectoryIndex',              '/index/',       { '/open/index' => 'open' };
shows $user, 'FallbackResource',            '/fallback/x/y', { '/open/fallback' => 'open' };
shows $user, 'Action',                      '/acted/here',   { '/open/action/acted/here' => 'open' };
shows $user, 'Location of a CGI program',   '/cgi/to?open',  { '/open/by-cgi' => 'open' };
shows $user, 'RewriteRule [PT]',            '/to-open/x',    { '/open/x' => 'open' };

# --- into a protected one ---

shows $user, 'directory RewriteRule', '/dir/app/x',    { '/app/x' => 'app' };
shows $user, 'and other headers',     '/dir/custom/x', { '/custom/x' => 'custom' };
shows $user, 'from an open one',      '/diro/app/x',   { '/app/x' => 'app' };
shows $user, 'DirectoryIndex',        '/oindex/',      { '/app/index' => 'app' };
shows $user, 'Location of a CGI program',  '/cgi/to?app',     { '/app/by-cgi' => 'app' };
shows $user, 'and of an open one',         '/ocgi/to?custom', { '/custom/by-cgi' => 'custom' };
shows $user, 'RewriteRule [PT]',           '/to-app/x',       { '/app/x' => 'app' };
shows $user, 'RewriteRule [P]',            '/rwp/x',          { '/rwp/x' => 'app' };
shows $user, 'RewriteRule [P], open',      '/rwo/x',          { '/rwo/x' => 'open' };
shows $user, 'directory RewriteRule [P]',  '/dirp/x',         { '/dirp/x' => 'app' };
shows $user, 'and in an open directory',   '/diro/p/x',       { '/diro/x' => 'open' };

# --- pages made of others ---

my %mixed = ('/open/one' => 'open', '/app/two' => 'app', '/open/three' => 'open', '/custom/four' => 'custom',
    '/open/five' => 'open', '/app/six' => 'app');
shows $user, 'includes of a protected page', '/own/page.shtml',    \%mixed;
shows $user, 'includes of a `pass` page',    '/pass/page.shtml',   \%mixed;
shows $user, 'includes of an open page',     '/oindex/page.shtml', \%mixed;

# --- a stranger ---

my %open = map { ("/open/$_" => 'open') } qw(one three five);
shows $stranger, 'a stranger, open page of includes',   '/oindex/page.shtml', \%open;
shows $stranger, 'a stranger, `pass` page of includes', '/pass/page.shtml',   \%open;
shows $stranger, 'a stranger, RewriteRule [P]',         '/rwp/x',   {};
shows $stranger, 'a stranger, open RewriteRule [P]',    '/rwo/x',   { '/rwo/x' => 'open' };
shows $stranger, 'a stranger, directory RewriteRule',   '/diro/app/x', {};
shows $stranger, 'a stranger, protected directory',     '/dir/open/x', {};
shows $stranger, 'a stranger, protected [P]',           '/dirp/x',     {};
shows $stranger, 'a stranger, open [P] of a directory', '/diro/p/x',   { '/diro/x' => 'open' };
shows $stranger, 'a stranger, DirectoryIndex',          '/oindex/',    {};
shows $stranger, 'a stranger, Location of a CGI program', '/ocgi/to?app', {};
shows $stranger, 'a stranger, error document',          '/diro/missing', { '/open/404' => 'open' };

# What the visitor sent under a shared name is theirs again outside.
$backend->clear;
$user->get($rig->url('/dir/open/x'), Authorization => 'Basic YWRhOmFkbWlu');
is_deeply [grep { !/YWRhOmFkbWlu/ } $backend->got('Authorization')], [], 'no token in place of their own Authorization';

# Nor do cookies of ours come along.
my ($session) = map { $_->[1] } $user->cookies($rig->url('/'));
for my $path (qw(/own/missing /dir/open/x /index/ /own/page.shtml /oindex/page.shtml /rwo/x /rwp/x /cgi/to?open /diro/p/x)) {
    $backend->clear;
    $user->get($rig->url($path));
    is_deeply [grep { $_->{head} =~ /\Q$session/ } $backend->requests], [], "$path: no session cookie at the backend";
}

done_testing;
