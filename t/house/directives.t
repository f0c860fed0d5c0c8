# The reference manual has a section for every directive, and for nothing else.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use House qw(top slurp none);
use Test::More;

my $folder = top() . '/mod_qonto_oauth';
my %directive = map { $_ => 1 } slurp("$folder/mod_qo_config.c") =~ /\bAP_INIT_\w+\(\s*"(\w+)"/g;
cmp_ok(scalar keys %directive, '>', 5, 'the table of directives can be read');
none([grep { !/\AQonto[A-Z]\w+\z/ } sort keys %directive], 'all are called Qonto...');

my %section = slurp("$folder/DIRECTIVES.md") =~ /^## (Qonto\w+)[^\n]*\n(.*?)(?=^## |\z)/msg;
is_deeply([sort keys %section], [sort keys %directive], 'DIRECTIVES.md describes exactly these');

for my $name (sort keys %section) {
    for my $word (qw(Syntax Default Context)) {
        like($section{$name}, qr/^\W*$word\b\W*\S/m, "$name: $word");
    }
}

done_testing();
