# qontoctl sessions list, show and stats, on the store of a running httpd with real sessions.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Tool;

my $rig = rig(conf => sub ($rig) {
    return qonto($rig->standin, QontoSessionTimeout => '8h 2d') . proxied('/app/', $rig->backend) . protected('/app/');
})->start;
my $dir   = $rig->root . '/store';
my @store = ('--store' => "lmdb:$dir");

my $empty = qontoctl(@store, qw(sessions list));
is $empty->status, 0, 'a store without sessions can be listed';
is scalar(() = $empty->lines), 1, 'and has none';
is qontoctl(@store, qw(sessions stats --json))->status, 0, 'nor does measuring need one';

# --- real visitors ---

my %cookie;    # id => name=value
my @browsers = map { my $browser = browser(); sign_in($browser, $rig->url('/app/x')); $browser } 1 .. 3;
for my $browser (@browsers) {
    my ($pair) = grep { $_->[0] eq 'qonto' } $browser->cookies($rig->url('/app/x'));
    $cookie{ id_of(join '=', $pair->@*) } = $pair->[1];
}

my $list = qontoctl(@store, qw(sessions list));
is $list->status, 0, 'listed';
my ($titles, @lines) = $list->lines;
is_deeply [sort map { (split)[0] } @lines], [sort keys %cookie], 'each session, once, by the name the logs use';
like $titles, qr/^SESSION +AGE +SEEN +USER +ORGANIZATION +ACCESS +LEFT +GENERATION$/, 'titles';
for my $line (@lines) {
    like $line, qr/^[0-9a-f]{16} +\d+s +\d+s +- +- +3\d{3} +28\d{3} +1$/, 'age, seen, seconds left, generation';
}
my %ends = map { length() => 1 } $titles, @lines;
is scalar(keys %ends), 1, 'in columns' or diag $list->out;

my @json = qontoctl(@store, qw(sessions list --json))->json;
is_deeply [sort map { $_->{session} } @json], [sort keys %cookie], 'and as JSON';
for my $one (@json) {
    is_deeply [sort keys $one->%*],
        [qw(access_left created generation last_seen left opens organization renewed session user)], 'all of it';
    ok abs($one->{created} - time) < 100 && $one->{access_left} > 3000 && $one->{left} > 28_000 && $one->{generation} == 1
        && $one->{opens} && !defined $one->{user}, 'with its numbers';
}

my ($some) = sort keys %cookie;
for my $digits (6, 9, 16) {
    my $show = qontoctl(@store, qw(sessions show), uc substr $some, 0, $digits);
    is $show->status, 0, "shown by its first $digits digits";
    like $show->out, qr/^session +$some$/m, 'this one';
    like $show->out, qr/^access token +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  \(in 5\dm\)$/m, 'when its token dies';
    like $show->out, qr/^ends at last .*\(in [12]d\)$/m, 'its absolute end';
}
is((qontoctl(@store, qw(sessions show --json), $some)->json)[0]{session}, $some, 'and as JSON');
my $none = qontoctl(@store, qw(sessions show 0123456789abcdef));
is $none->status, 1, 'no such session: 1';
is $none->out, '', 'nothing is shown';
like $none->err, qr/^qontoctl: no session matched$/, 'and that is said';

# --- users and organizations ---

my ($full, $odd, $ambiguous, $renew) = write_sessions($dir, undef,
    ["\xc3\xa9lodie\@example.com", '6d1f0a52-0f0e-4a3f-9f0e-000000000001', 7200, 36_000],
    ["evil\x1b[31m\"\\\xff", '6d1f0a52-0f0e-4a3f-9f0e-000000000001', 100, 3600],
    ['-', 'other', 100, 0]);
my %shown = map { (split)[0] => $_ } qontoctl(@store, qw(sessions list))->lines;
like $shown{$full}, qr/^$full +2h +0s +\xc3\xa9lodie\@example\.com +6d1f0a52\S+1 +0 +359\d\d +1$/, 'user and organization';
like $shown{$odd}, qr/ evil\?\[31m"\\\? /, 'what a terminal would obey is not sent to it';
like $shown{$ambiguous}, qr/ - +other +3\d{3} +8\d{4} +1$/, 'without an idle limit the end is the absolute one';
my %object = map { $_->{session} => $_ } qontoctl(@store, qw(sessions list --json))->json;
is $object{$full}{user}, "\x{e9}lodie\@example.com", 'JSON has it exactly';
is $object{$full}{organization}, '6d1f0a52-0f0e-4a3f-9f0e-000000000001', 'both';
is $object{$odd}{user}, 'evil' . "\x1b" . '[31m"\\?', 'and stays JSON whatever is in it';

my $stats = qontoctl(@store, qw(sessions stats));
is $stats->status, 0, 'measured';
like $stats->out, qr/^sessions +6$/m, 'how many';
like $stats->out, qr/^oldest +2h  $full$/m, 'the oldest';
like $stats->out, qr/^bytes +[1-9]\d{3,}$/m, 'the room they take';
like $stats->out, qr/^of organization 6d1f0a52\S+  2$/m, 'whose they are';
like $stats->out, qr/^of organization other  1$/m, 'all of them';
like $stats->out, qr/^of organization -  3$/m, 'the unknown too';
my ($numbers) = qontoctl(@store, qw(sessions stats --json))->json;
is_deeply [map { $numbers->{$_} } qw(sessions sealed_with_another_key)], [6, 0], 'and as JSON';
is_deeply [map { "$_->{sessions} " . ($_->{organization} // '-') } $numbers->{organizations}->@*],
    ['3 -', '2 6d1f0a52-0f0e-4a3f-9f0e-000000000001', '1 other'], 'most first';
ok abs($numbers->{oldest} - time + 7200) < 100 && $numbers->{bytes} > 4096, 'with the same numbers';

# --- many: more than a page, more than what is held back, and hashes that begin alike ---

my @many = write_sessions($dir, undef, map { ["user$_", 'crowd', 10, 0] } 1 .. 1500);
my $stop = pop @many;
my ($first, @rest) = qontoctl(@store, qw(sessions list))->lines;
is_deeply [sort map { (split)[0] } @rest], [sort keys %cookie, $full, $odd, $ambiguous, @many], 'a crowd, each once';
my %begins;
push $begins{ substr $_, 0, 2 }->@*, $_ for @many;
like qontoctl(@store, qw(sessions show), substr $many[0], 0, 5)->err, qr/6 to 16 digits/, 'five digits are too few';
$stop->();
$renew->();

# --- and while all that was said ---

is $_->get($rig->url('/app/x'))->status, 200, 'the visitors never noticed' for @browsers;
my @secrets = (values %cookie, map { $_->@* } values $rig->standin->issued->%*);
cmp_ok scalar @secrets, '>', 8, 'there are secrets';
is_deeply [said(@secrets)], [], 'and none was said';
open my $file, '<', "$dir/key" or die "key: $!\n";
chomp(my $key = <$file>);
is_deeply [said($key, 'not-a-token', 'nor-this')], [], 'nor the key, nor any token';
like qontoctl('--help')->out, qr/^usage: qontoctl .*Qonto is not told/s, '--help';
like qontoctl('--version')->out, qr/^qontoctl \d+\.\d+\.\d+$/, '--version';
is_deeply [crashes($rig->httpd->error_log)], [], 'httpd is well';

done_testing;
