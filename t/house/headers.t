# A header brings what it needs, may be included twice, and has a guard of its own name.
use strict;
use warnings;

use File::Basename qw(basename);
use FindBin;
use lib $FindBin::Bin;
use House qw(build_folder source_files slurp setting);
use Test::More;

chdir build_folder() or die $!;
my $compiler = setting('CC');

for my $path (grep { /\.h\z/ } source_files(qr/./)) {
    my $name = basename($path);
    my $flags = setting($name =~ /\Amod_/ ? 'MODULE' : 'LIBRARY');
    my $unit = qq(#include "$name"\n#include "$name"\nextern int house;\n);
    my $answer = qx(printf '%s' '$unit' | $compiler $flags -Werror -fsyntax-only -x c - 2>&1);
    is($?, 0, "$name compiles alone") or diag($answer);
    my $guard = uc($name) =~ tr/./_/r;
    like(slurp($path), qr/^#ifndef \Q$guard\E\n#define \Q$guard\E\n/m, "$name is guarded by $guard");
}

done_testing();
