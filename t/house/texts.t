# README is short plain text, and no file names a place that only one machine has.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use House qw(top slurp project_files none);
use Test::More;

my $readme = slurp(top() . '/README');
my @lines = split /\n/, $readme;
cmp_ok(scalar @lines, '<=', 120, 'README has at most 120 lines');
unlike($readme, qr/[^\n\x20-\x7e]/, 'README is ASCII');
unlike($readme, qr/^(?:#{1,6} |```)|\]\(/m, 'README has no markup');
none([grep { length > 92 } @lines], 'README has no long line');

my @files = project_files();
SKIP: {
    skip 'not a git checkout', 1 unless @files;
    my @places = (
        qr{(?<![\w.:/@])/(?:home|root|work|workspace|Users)/\w},
        qr{https?://[\w.-]*(?:registry|mirror|artifact|nexus|snapshot\.debian|deb\.debian)[\w.-]*},
        qr{\bregistry\.npmjs\.},
    );
    my @found;
    for my $name (@files) {
        my $number = 0;
        for my $line (split /\n/, slurp(top() . "/$name")) {
            $number++;
            push @found, "$name:$number: $&" for grep { $line =~ $_ } @places;
        }
    }
    none(\@found, 'no paths of one machine, no hosts of registries');
}

done_testing();
