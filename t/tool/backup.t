# The manual's words on moving a store (QONTOCTL.md): LMDB's copy of a store in use, and the key.

use v5.36;
use File::Copy qw(copy);
use Qonto::Test;
use Qonto::Rig;
use Qonto::Tool;

my ($mdb_copy) = grep {-x} map {"$_/mdb_copy"} split /:/, $ENV{PATH} // '';
ok $mdb_copy, 'mdb_copy is installed (the package lmdb-utils brings it)' or BAIL_OUT('no mdb_copy');

my $rig = rig(conf => sub ($rig) {
    return qonto($rig->standin, QontoSessionStore => "lmdb:$rig->{dir}")
        . proxied('/app/', $rig->backend) . protected('/app/');
});
my $from = $rig->root . '/store';
my $to   = $rig->root . '/moved';
$rig->{dir} = $from;
$rig->start;

my $visitor = browser();
sign_in($visitor, $rig->url('/app/x'));
my $token = token_of($rig->backend);
mkdir $to, 0700;
is system($mdb_copy, '-n', "$from/sessions.mdb", "$to/sessions.mdb"), 0, 'copied while httpd runs';
copy("$from/key", "$to/key") && chmod 0600, "$to/key" or die "key: $!\n";

$rig->httpd->stop;
$rig->{dir} = $to;
$rig->conf($rig->{conf});
ok eval { $rig->httpd->start; 1 }, 'httpd starts with the copy' or diag $@;
is $visitor->get($rig->url('/app/x'))->status, 200, 'the visitor is signed in';
is token_of($rig->backend), $token, 'with the same token';
is((qontoctl('--store' => "lmdb:$to", qw(sessions list --json))->json)[0]{opens}, JSON::PP::true(), 'the key fits');

# All but the key removed: everybody signs in again, and that is all.
$rig->httpd->stop;
unlink grep { !m{/key\z} } glob "$to/*";
$rig->httpd->start;
is $visitor->get($rig->url('/app/x'))->status, 302, 'without the copy the visitor is sent to sign in';
sign_in($visitor, $rig->url('/app/x'));
is_deeply [crashes($rig->httpd->error_log)], [], 'httpd is well';

done_testing;
