# The library knows no server: qo_*.c call nothing of httpd and see none of its headers.
use strict;
use warnings;

use File::Basename qw(basename);
use FindBin;
use lib $FindBin::Bin;
use House qw(build_folder source_files includes setting none);
use Test::More;

my $library = build_folder() . '/.libs/libqo.a';
ok(-f $library, 'libqo is built') or BAIL_OUT('build first');

my %members = map { $_ => 1 } map { /libqo_la-(\w+)\.o/ ? $1 : () } qx(ar t $library);
my @sources = map { basename($_, '.c') } grep { /\.c\z/ } source_files(qr/\Aqo_/);
is_deeply([sort keys %members], [sort @sources], 'every qo_*.c is in it, and nothing else');

my @undefined = map { /\bU (\S+)/ ? $1 : () } qx(nm -u $library);
cmp_ok(scalar @undefined, '>', 0, 'nm reads it');
none([grep { /\A(?:ap|AP)_/ } @undefined], 'it calls no ap_* function');

my ($folder) = setting('MODULE') =~ /-isystem (\S+apache\S*|\S+httpd\S*)/;
my %server_header = map { basename($_) => 1 } glob(($folder // '') . '/*.h');
ok($server_header{'httpd.h'}, "httpd's headers are known");
for my $path (source_files(qr/\Aqo_/)) {
    my ($own, $foreign) = includes($path);
    my @bad = ((grep { /\Amod_/ } @$own), grep { $server_header{ basename($_) } } @$own, @$foreign);
    none(\@bad, basename($path) . ' includes nothing of the server');
}

done_testing();
