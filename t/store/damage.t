# A damaged store must not become a crash loop: its files are moved aside at the start, the log
# says CRIT, and the server works; a healthy neighbour keeps its sessions.

use v5.36;
use Qonto::Test;
use Qonto::Rig;

my $rig = rig(conf => sub ($rig) {
    return qonto($rig->standin) . join('', map { proxied($_, $rig->backend) } qw(/app/ /open/)) . protected('/app/')
        . "Listen 127.0.0.1:\@other_port\@\n<VirtualHost 127.0.0.1:\@other_port\@>\n"
        . qonto($rig->standin, QontoRedirectURI => 'http://127.0.0.1:@other_port@/qonto/callback',
            QontoSessionStore => 'lmdb:@root@/other')
        . proxied('/app/', $rig->backend) . protected('/app/') . "</VirtualHost>\n";
})->start;

my $httpd   = $rig->httpd;
my $folder  = $rig->root . '/store';
my $healthy = browser();
sign_in($healthy, $rig->url('/app/x', 'other_port'));

sub data_files () { return grep { -s && !/lock|key/ } glob "$folder/*" }

# What a start put out of the way.
sub aside () { return grep { !m{/(?:key|[^/]*\.mdb(?:-lock)?)$} } glob "$folder/*" }

sub overwrite ($path, $from, $text) {
    open my $file, '+<:raw', $path or die "$path: $!\n";
    seek $file, $from, 0;
    print {$file} $text;
    close $file or die "$path: $!\n";
}

sub noise ($size) { return join '', map { chr int rand 256 } 1 .. $size }

# A file has room in hand, which is all zeroes: how much of it holds something.
sub used ($path) {
    open my $file, '<:raw', $path or die "$path: $!\n";
    local $/;
    return length(<$file> =~ s/\0+\z//r);
}

# What may happen to a file, each with its size in hand.
my %harm = (
    'all noise'        => sub ($path, $size) { overwrite($path, 0, noise($size)) },
    'noise after the first pages' => sub ($path, $size) { overwrite($path, 8192, noise($size - 8192)) if $size > 8192 },
    'noise in the first page'     => sub ($path, $size) { overwrite($path, 0, noise(4096)) },
    'half of it gone'  => sub ($path, $size) { truncate $path, int(used($path) / 2) + 13 },
    'a text in it'     => sub ($path, $size) { truncate $path, 0; overwrite($path, 0, "this is not a database\n" x 400) },
    'no room for a page' => sub ($path, $size) { truncate $path, 100 },
    'empty'            => sub ($path, $size) { truncate $path, 0 },
    'zeroes'           => sub ($path, $size) { overwrite($path, 0, "\0" x $size) },
);
# Where every process is watched, without those that end the process which looks for them.
my $few = $ENV{QO_REPORTS} ? qr/text|zeroes/ : qr/after|half/;
my @which = (['sessions', qr/session/], ['volatile', qr/volatile|pending/]);

for my $which (@which) {
    my ($name, $pattern) = $which->@*;
    for my $harm (sort keys %harm) {
        next if ($ENV{QO_SLOW} || 1) > 1 && $harm !~ $few;
        my $user = browser();
        $user->visit($rig->url('/app/x'))->status == 200 or diag 'no sign-in before: ' . $harm;
        browser()->get($rig->url('/app/x')) for 1 .. 40;
        $httpd->stop;
        $httpd->clear_log;
        my ($path) = grep {/$pattern/} data_files();
        unlink aside();
        srand 7;
        $harm{$harm}->($path, -s $path);
        ok eval { $httpd->start; 1 }, "$name, $harm: httpd starts" or diag $@;
        $httpd->pid or last;
        is browser()->get($rig->url('/open/x'))->status, 200, 'open pages are there';
        my $page = $user->visit($rig->url('/app/x'));
        is $page->status, 200, 'the visitor gets in, again if need be' or diag $page->story;
        is $user->get($rig->url('/app/x'))->status, 200, 'and stays in';
        is $healthy->get($rig->url('/app/x', 'other_port'))->status, 200, 'the other store is untouched';
        my $log = $httpd->error_log;
        unlike $log, qr/exit signal/, 'no child dies of it';
        # An empty file is what a new one looks like.
        if ($harm ne 'empty') {
            like $log, qr/\[qonto_oauth:crit\].*QO\d{4}/, 'the log says CRIT';
            ok scalar(grep {/$pattern/} aside()), 'what is damaged was moved aside' or diag join ' ', glob "$folder/*";
        }
        $httpd->restart;
        is $user->get($rig->url('/app/x'))->status, 200, 'the next start is an ordinary one';
    }
}

# --- the lock files, too ---

my $user = browser();
sign_in($user, $rig->url('/app/x'));
$httpd->stop;
overwrite($_, 0, noise(-s $_)) for grep {/lock/} glob "$folder/*lock*";
ok eval { $httpd->start; 1 }, 'noise in the lock files: httpd starts' or diag $@;
is $user->visit($rig->url('/app/x'))->status, 200, 'and works';
$httpd->stop;
unlink grep {/lock/} glob "$folder/*lock*";
ok eval { $httpd->start; 1 }, 'without lock files: httpd starts';
is $user->get($rig->url('/app/x'))->status, 200, 'and the session is there';

# --- a key nobody can use ---

$httpd->stop;
my ($key) = grep {/key/} glob "$folder/*";
my $kept = do { open my $file, '<:raw', $key or die; local $/; <$file> };
truncate $key, 0;
my $started = eval { $httpd->start; 1 };
ok !$started || $user->get($rig->url('/app/x'))->status != 500, 'an empty key file is refused or replaced, no visitor sees 500';
$httpd->stop if $started;
open my $file, '>:raw', $key or die "$key: $!\n";
print {$file} $kept;
close $file;
$httpd->start;
is $user->visit($rig->url('/app/x'))->status, 200, 'with the key back it works';

done_testing;
