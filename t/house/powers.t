# Each side effect has one room, and every function carries the name of its room.
use strict;
use warnings;

use File::Basename qw(basename);
use FindBin;
use lib $FindBin::Bin;
use House qw(build_folder source_files code room none);
use Test::More;

# what, how it looks, the rooms that may
my @powers = (
    ['the log',          qr/\bap_log_\w+\s*\(/,                       qw(mod_qo_log)],
    ['libcurl',          qr/\bcurl_\w+|\bCURL\w*/,                    qw(qo_http)],
    ['jansson',          qr/\bjson_\w+\s*\(|<jansson\.h>/,            qw(qo_json)],
    ['libcrypto',        qr/\b(?:EVP|RAND|OPENSSL|CRYPTO|HMAC)_\w+/,   qw(qo_crypto)],
    ['libssl',           qr/\b(?:SSL|BIO|X509)_\w+/,                  qw(qo_wire)],
    ['OpenSSL',          qr/<openssl\//,                              qw(qo_crypto qo_wire)],
    ['hiredis',          qr/\bredis(?:Reader|Reply|Format|Command|Context|Connect|Free|Append)\w*|<hiredis/,
                                                                      qw(qo_redis)],
    ['sockets',          qr/\b(?:socket|getaddrinfo|setsockopt|recv|recvmsg|sendmsg|sendto)\s*\(/,
                                                                      qw(qo_wire qontoctl_audit)],
    ['threads',          qr/\bpthread_create\b|\bapr_thread_create\b/, qw(qo_wire)],
    ['LMDB',             qr/\bmdb_\w+|\bMDB_\w+/,                     qw(qo_store_lmdb)],
    ['the clock',        qr/\bapr_time_now\b|\bgettimeofday\b|\bclock_gettime\b|\btime\s*\(\s*NULL/,
                                                                      qw(mod_qo_ctx mod_qo_process qo_lease qo_store_lmdb qo_wire mod_qo_socache
                                                                      qontoctl)],
    ['directives',       qr/\bAP_INIT_\w+/,                           qw(mod_qo_config)],
    ['standard output',  qr/\b(?:v?printf|v?fprintf|puts|fputs|putchar|fwrite)\s*\(|\bstd(?:out|err)\b/,
                                                                      qw(qontoctl_print)],
    ['syslog',           qr/<syslog\.h>|\bsyslog\s*\(/,                   qw(qontoctl_audit)],
    ['rights',           qr/\bsete?[ug]id\s*\(|\bsetgroups\s*\(/,      qw(qo_rights qo_store_lmdb)],
    ['the environment',  qr/\bgetenv\s*\(/,                            qw(qontoctl_options qontoctl_audit)],
    ['hooks',            qr/\bap_hook_\w+/,                           qw(mod_qonto_oauth)],
    ['weak randomness',  qr/\bs?rand(?:om)?\s*\(|\bapr_generate_random_bytes\b/],
    ['unbounded copies', qr/\b(?:strcpy|strcat|sprintf|gets|alloca)\s*\(/],
);

# Rooms whose verbs read better under a second word.
my %also = (qo_pack => ['qo_unpack'], qo_seal => ['qo_keyring']);

for my $power (@powers) {
    my ($what, $looks, @rooms) = @$power;
    my %may = map { $_ => 1 } @rooms;
    my @found;
    for my $path (source_files(qr/./)) {
        next if $may{ room($path) };
        my $line = 0;
        for my $text (split /\n/, code($path)) {
            $line++;
            push @found, basename($path) . ":$line: $&" if $text =~ $looks;
        }
    }
    none(\@found, "$what: " . (@rooms ? "only in @rooms" : 'nowhere'));
}

my @objects = map { glob build_folder() . "/mod_qonto_oauth/$_" } '.libs/*.o', 'qontoctl-*.o';
cmp_ok(scalar @objects, '>', 20, 'there are objects');
for my $object (@objects) {
    my ($file) = basename($object) =~ /\A(?:\w*la|qontoctl)-(\w+)\.o\z/;
    next unless -f House::top() . "/mod_qonto_oauth/$file.c";    # of a room that was removed
    my @names = (room($file), @{ $also{ room($file) } // [] });
    @names = ('main') if $file eq 'qontoctl';
    @names = ('qonto_oauth_module') if $file eq 'mod_qonto_oauth';
    my $allowed = join '|', map { quotemeta } @names;
    my @symbols = map { /\A\S+ [A-TV-Z] (\S+)/ ? $1 : () } qx(nm -g --defined-only $object);
    none([grep { !/\A(?:$allowed)(?:_|\z)/ } @symbols], "$file.c: names begin with @names");
}

done_testing();
