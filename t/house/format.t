# The layout of the sources is clang-format's business.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use House qw(top source_files setting);
use Test::More;

my $formatter = setting('CLANG_FORMAT');
my $version = qx($formatter --version 2>&1);
like($version, qr/version \d/, 'clang-format runs') or BAIL_OUT('install clang-format');

for my $path (source_files(qr/./), glob top() . '/t/{*/*.c,unit/*.h}') {
    my $answer = qx($formatter --dry-run -Werror '$path' 2>&1);
    is($?, 0, substr $path, 1 + length top()) or diag(join "\n", (split /\n/, $answer)[0 .. 5]);
}

done_testing();
