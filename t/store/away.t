# A store that cannot answer is no log-out: 503 with Retry-After for who brings a session, whose
# cookie stays; open pages go on; and when the store is back, so is everybody.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use File::Path qw(remove_tree);

my $rig = rig(conf => sub ($rig) {
    return qonto($rig->standin) . join('', map { proxied($_, $rig->backend) } qw(/app/ /open/ /pass/))
        . protected('/app/') . protected('/pass/', 'QontoUnauthenticated pass')
        . qq{<Location "/qonto/logout">\nSetHandler qonto-logout\n</Location>\n};
})->start;

my $httpd  = $rig->httpd;
my $folder = $rig->root . '/store';
my $user   = browser();
sign_in($user, $rig->url('/app/x'));
my $token    = token_of($rig->backend);
my $stranger = browser(jar => undef);

# Children that have not opened the store yet.
sub new_children () {
    my %old = map { $_ => 1 } $httpd->children;
    kill KILL => keys %old;
    wait_until(15, sub { my @now = $httpd->children; @now && !grep { $old{$_} } @now }) or diag 'old children stay';
    wait_until(15, sub { eval { $stranger->get($rig->url('/open/x'))->status == 200 } }) or diag 'no answer';
    return;
}

sub is_unavailable ($answer, $name) {
    is $answer->status, 503, "$name: 503" or diag substr $answer->story, 0, 600;
    like $answer->header('Retry-After') // '', qr/^\d+$/, 'Retry-After';
    is_deeply [$answer->headers('Set-Cookie')], [], 'the cookie stays';
    like join(',', $answer->headers('Cache-Control')), qr/no-store/, 'no-store';
    like $answer->body, qr/\bQO0040\b/, 'the page has its number' if $answer->{body} ne '';
    return;
}

sub is_away ($name) {
    $rig->backend->clear;
    is_unavailable($user->get($rig->url('/app/x')), "$name, a page");
    is_unavailable($user->fetch($rig->url('/app/x')), "$name, a script");
    is_unavailable($user->post($rig->url('/app/x')), "$name, a form");
    is $rig->backend->count, 0, 'the backend was not reached';
    my $answer = $stranger->get($rig->url('/app/x'));
    ok $answer->status == 503 && defined $answer->header('Retry-After'), "$name: no login can begin"
        or diag $answer->status;
    is $stranger->fetch($rig->url('/app/x'))->status, 401, 'strangers\' scripts get their 401';
    for my $browser ($user, $stranger) {
        is $browser->get($rig->url('/open/x'))->status, 200, 'open pages are there';
    }
    is $stranger->get($rig->url('/pass/x'))->status, 200, '`pass` pages are there for strangers';
    is_unavailable($user->get($rig->url('/qonto/callback?code=a&state=' . 's' x 43)), "$name, the callback");
    return;
}

sub is_back ($name) {
    $rig->backend->clear;
    is $user->get($rig->url('/app/x'))->status, 200, "$name: signed in as before";
    is token_of($rig->backend) // '', $token, 'with the same token';
    sign_in(browser(), $rig->url('/app/x'));
    return;
}

# --- the folder cannot be entered ---

chmod 0, $folder;
$> == 0 and chown 0, 0, $folder;
new_children();
is_away('a closed folder');
my @lines = grep {/QO0040/} log_lines($httpd->error_log);
ok scalar @lines, 'the log tells';
chown +(getpwnam 'nobody')[2, 3], $folder if $> == 0;
chmod 0700, $folder;
my $good = 0;
my $healed = wait_until(5, sub {
    $good = $user->get($rig->url('/app/x'))->status == 200 ? $good + 1 : 0;
    return $good >= 20;
});
ok $healed, 'it comes back without a restart';
$httpd->restart if !$healed;
is_back('after that');

# --- no room to open files in, no such files ---

rename "$folder/sessions.mdb", "$folder/hidden";
mkdir "$folder/sessions.mdb";
new_children();
is_unavailable($user->get($rig->url('/app/x')), 'a folder in place of the file');
is $user->get($rig->url('/open/x'))->status, 200, 'open pages are there';
rmdir "$folder/sessions.mdb";
rename "$folder/hidden", "$folder/sessions.mdb";
$httpd->restart;
is_back('with the file back');

# --- files that change below a running server ---

for my $case (
    # A child that looks at what is no longer there dies, as it must: not where that is reported.
    $ENV{QO_REPORTS} ? () : ['cut short', sub { truncate $_, 0 for glob "$folder/*.mdb" }],
    ['taken away', sub { unlink glob "$folder/*" }],
    ['the folder gone', sub { remove_tree($folder) }],
) {
    my ($name, $happen) = $case->@*;
    $httpd->restart;
    my $page = $user->visit($rig->url('/app/x'));
    is $page->status, 200, "before: $name" or diag $page->story;
    $httpd->clear_log;
    $happen->();
    # A child may die of a mapped file that shrinks; nobody's open page may.
    my @open;
    for (1 .. 12) {
        eval { $user->get($rig->url('/app/x')) };
        push @open, eval { $stranger->get($rig->url('/open/x'))->status } // 'none';
    }
    cmp_ok scalar(grep { $_ eq 200 } @open), '>=', 11, "$name: open pages are served (@open)";
    $httpd->restart;
    $page = $user->visit($rig->url('/app/x'));
    is $page->status, 200, "$name: after a restart visitors get in" or diag $page->story;
}

done_testing;
