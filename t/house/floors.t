# Floors count upwards: a file includes its own floor or lower ones, and never in a ring.
use strict;
use warnings;

use File::Basename qw(basename);
use FindBin;
use lib $FindBin::Bin;
use House qw(source_files includes room none);
use Test::More;

my @floors = (
    [qw(qo_limits qo_error)],
    [qw(qo_pack qo_crypto qo_url qo_cookie qo_header qo_json qo_rights)],
    [qw(qo_seal qo_secret qo_keyfile qo_token qo_session qo_lease qo_pending qo_conf qo_page)],
    [qw(qo_http qo_store qo_store_lmdb qo_wire qo_redis qo_store_redis)],
    [qw(qo_qonto qo_gate)],
    [qw(mod_qo_config mod_qo_secret mod_qo_log mod_qo_process mod_qo_socache mod_qo_store_socache
        mod_qo_memo mod_qo_ctx mod_qo_headers mod_qo_reply mod_qo_login
        qontoctl_print qontoctl_options qontoctl_audit qontoctl_store qontoctl_walk)],
    [qw(mod_qo_flow qontoctl_report qontoctl_end)],
    [qw(mod_qo_authn qontoctl)],
    [qw(mod_qonto_oauth)],
);
my %generated = ('qo_config.h' => 1);
my $ours = qr/\A(?:qo|mod_qo|mod_qonto|qontoctl)[_.]/;
# Two shells stand on the library, and neither on the other.
my %shell = (mod_qo => qr/\Aqontoctl/, qontoctl => qr/\Amod_/);

my %floor_of;
for my $floor (0 .. $#floors) {
    $floor_of{$_} = $floor for @{ $floors[$floor] };
}

my (%uses, %exists);
for my $path (source_files(qr/./)) {
    my ($file, $room) = (basename($path), room($path));
    $exists{$room} = 1;
    if (!defined $floor_of{$room}) {
        fail("$file: room $room has no floor in t/house/floors.t");
        next;
    }
    my ($own) = includes($path);
    my @wrong;
    for my $name (grep { /$ours/ && !$generated{$_} } @$own) {
        my $used = room($name);
        if (!defined $floor_of{$used} || $floor_of{$used} > $floor_of{$room}) {
            push @wrong, $name;
        } elsif (grep { $room =~ /\A$_/ && $used =~ $shell{$_} } keys %shell) {
            push @wrong, $name;
        } elsif ($used ne $room) {
            $uses{$room}{$used} = 1;
        }
    }
    none(\@wrong, "$file includes no higher floor, and not the other shell");
}
none([grep { !$exists{$_} } sort keys %floor_of], 'every room of the table exists');

# A depth-first walk; a room met again on the way to itself closes a ring.
my (%state, @rings);

sub walk
{
    my ($room, @way) = @_;
    return if ($state{$room} // '') eq 'done';
    if (($state{$room} // '') eq 'open') {
        push @rings, join ' -> ', @way, $room;
        return;
    }
    $state{$room} = 'open';
    walk($_, @way, $room) for sort keys %{ $uses{$room} };
    $state{$room} = 'done';
}

walk($_) for sort keys %uses;
none(\@rings, 'no ring of rooms');

done_testing();
