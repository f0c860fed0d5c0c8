# The table of errors: numbers are unique and ordered, sentences are sentences.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use House qw(top slurp none);
use Test::More;

my $table = slurp(top() . '/mod_qonto_oauth/qo_error.h') =~ s/\\\n//gr;
my $string = qr/(?:"(?:[^"\\]|\\.)*"\s*)+/;
my @rows;
while ($table =~ /\bX\((\w+),\s*(\d+),\s*(\d+),\s*($string),\s*($string)\)/g) {
    push @rows, { name => $1, number => $2, http => $3, visitor => join_strings($4), admin => join_strings($5) };
}

sub join_strings
{
    my ($text) = @_;
    return join '', $text =~ /"((?:[^"\\]|\\.)*)"/g;
}

my $lines = () = $table =~ /\bX\(/g;
cmp_ok(scalar @rows, '>', 20, 'the table can be read');
is(scalar @rows, $lines, 'every row of it');

my (%numbers, %names);
$numbers{ $_->{number} }++ for @rows;
$names{ $_->{name} }++ for @rows;
none([grep { $numbers{$_} > 1 } sort keys %numbers], 'no number twice');
none([grep { $names{$_} > 1 } sort keys %names], 'no name twice');
my @order = map { $_->{number} } @rows;
is_deeply(\@order, [sort { $a <=> $b } @order], 'numbers ascend');

for my $row (@rows) {
    like($row->{http}, qr/\A[45]\d\d\z/, "$row->{name}: an HTTP error");
    like($row->{visitor}, qr/\A[A-Z][^<>&]*\.\z/, "$row->{name}: the visitor reads a sentence");
    unlike($row->{admin}, qr/[.]\z/, "$row->{name}: the admin's text goes on after a colon");
}

done_testing();
