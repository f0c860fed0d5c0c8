# A release holds every file of the project, and nothing is listed that is not there.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use House qw(top setting project_files none);
use Test::More;

# Of use in a checkout only.
my $checkout_only = qr{\A(?:\.gitignore|\.gitattributes|\.ci/.*)\z};

my @files = project_files();
plan skip_all => 'not a git checkout' unless @files;

my $source = setting('SRCDIR');
my %listed = map { s{\A\Q$source\E/}{}r => 1 } split ' ', setting('DIST');
cmp_ok(scalar keys %listed, '>', 30, "the Makefile's list can be read");
none([grep { !$listed{$_} && !/$checkout_only/ } @files],
    'every file is released (else: EXTRA_DIST in Makefile.am)');
none([grep { !-e top() . "/$_" } sort keys %listed], 'every released file exists');

done_testing();
