# The module shows httpd one symbol, and needs no library that README does not name.
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use House qw(build_folder none);
use Test::More;

my $module = build_folder() . '/.libs/mod_qonto_oauth.so';
ok(-f $module, 'the module is built') or BAIL_OUT('build first');

my @exported = map { /\A\S+ \S (\S+)/ ? $1 : () } qx(nm -D --defined-only $module);
is_deeply(\@exported, ['qonto_oauth_module'], 'one exported symbol');

my @needed = map { /NEEDED\s+(\S+)\.so/ ? $1 : () } qx(objdump -p $module);
my %known = map { $_ => 1 } qw(libc libcrypto libcurl libhiredis libjansson liblmdb libssl);
ok(@needed > 0, 'its libraries can be read');
none([grep { !$known{$_} } @needed], 'no unexpected library');

# The session tool runs where there is no httpd, and calls nobody.
my $tool = build_folder() . '/qontoctl';
ok(-f $tool, 'the session tool is built') or BAIL_OUT('build first');
none([grep { /\A(?:ap|AP)_/ } map { /\bU (\S+)/ ? $1 : () } qx(nm -D -u $tool)], 'it needs nothing of httpd');
my @loaded = map { /NEEDED\s+(\S+)\.so/ ? $1 : () } qx(objdump -p $tool);
my %tools = map { $_ => 1 } qw(libc libcrypto libssl libhiredis libjansson liblmdb libapr-1 libaprutil-1);
ok(@loaded > 0, 'its libraries can be read');
none([grep { !$tools{$_} } @loaded], 'no unexpected library');

done_testing();
