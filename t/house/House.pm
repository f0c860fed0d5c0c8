package House;

# What the house checks share: where things are, what the sources say, how they are built.
# They look at QO_TOP_BUILDDIR (default: _build), which must be built.
use strict;
use warnings;

use Cwd qw(realpath);
use Exporter qw(import);
use File::Basename qw(basename dirname);
use Test::More ();

our @EXPORT_OK = qw(
    top build_folder source_files slurp code includes room setting project_files none);

my $top = realpath(dirname(__FILE__) . '/../..');
my $build = realpath($ENV{QO_TOP_BUILDDIR} || "$top/_build");
die "t/house: there is no build folder; build first, or set QO_TOP_BUILDDIR\n"
    unless defined $build && -f "$build/Makefile";

sub top { $top }

sub build_folder { $build }

# Paths of the files of mod_qonto_oauth/ that match, .c and .h alike.
sub source_files
{
    my ($pattern) = @_;
    my @files = grep { basename($_) =~ $pattern } sort glob "$top/mod_qonto_oauth/*.[ch]";
    die "t/house: no source file matches $pattern\n" unless @files;
    return @files;
}

sub slurp
{
    my ($path) = @_;
    open my $file, '<:raw', $path or die "$path: $!\n";
    local $/;
    return scalar <$file>;
}

# The source without comments and without the contents of strings; lines keep their numbers.
sub code
{
    my ($path) = @_;
    my $text = slurp($path);
    $text =~ s{
        (?<comment> /\* .*? \*/ | //[^\n]* )
        | (?<quote>["']) (?: \\. | (?!\k<quote>)[^\\] )* \k<quote>
    }{ defined $+{comment} ? $& =~ s/[^\n]+/ /gr : $+{quote} x 2 }gsex;
    return $text;
}

# Names in #include "..." and #include <...>, as two references to lists.
sub includes
{
    my ($path) = @_;
    my $text = slurp($path);
    return [$text =~ /^\s*#\s*include\s*"([^"]+)"/mg], [$text =~ /^\s*#\s*include\s*<([^>]+)>/mg];
}

# Rooms of several files, told by how their names begin.
my @wide_rooms = qw(qo_conf qo_http qo_session qo_store_lmdb qo_wire qo_redis qo_store_redis mod_qo_flow);

sub room
{
    my ($path) = @_;
    my $name = basename($path) =~ s/\.[ch]\z//r;
    for my $wide (@wide_rooms) {
        return $wide if $name =~ /\A\Q$wide\E_/;
    }
    return $name;
}

my %settings;

# A line of `make show-settings`.
sub setting
{
    my ($name) = @_;
    if (!%settings) {
        my $answer = qx(make -s -C '$build' show-settings);
        %settings = $answer =~ /^(\w+)=(.*)$/mg;
    }
    return $settings{$name} // die "t/house: make show-settings has no $name\n";
}

# What belongs to the project, relative to the top folder: all that git does not ignore.
# An empty list outside a git checkout.
sub project_files
{
    return unless -e "$top/.git";
    my $git = "git -c safe.directory='*' -C '$top'";
    my @files = split /\0/, qx($git ls-files -z --cached --others --exclude-standard);
    die "t/house: git does not answer\n" if $? != 0 || !@files;
    return sort grep { -e "$top/$_" } @files;
}

# A test that holds when the list is empty, and else shows all of it.
sub none
{
    my ($found, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    Test::More::ok(!@$found, $name) or Test::More::diag(map { "  $_\n" } @$found);
}

1;
