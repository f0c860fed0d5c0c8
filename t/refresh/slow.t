# Qonto takes its time while the old token is still good: who has the refresh waits for it, the
# others go on with the old token after about a second. When it ends meanwhile, they wait on.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

my $rig = farm(QontoTimeout => '3s 20s', more => <<~'CONF');
    <Directory "@root@/htdocs">
        Require all granted
        Options +Includes
        AddOutputFilter INCLUDES .shtml
    </Directory>
    CONF
conf_file($rig, 'htdocs/parts.shtml', join '', map {qq{<!--#include virtual="/app/part/$_" -->\n}} 1 .. 4);
$rig->start;
my ($q, $backend) = ($rig->standin, $rig->backend);
my ($due, $dying) = (visitors($rig, 1, 13), visitors($rig, 1, 4));

sub begin ($visitor, $count, $path = '/app/x') {
    return map { $visitor->{browser}->begin(GET => $rig->url($path)) } 1 .. $count;
}

sub finish ($visitor, @flying) { return map { $visitor->{browser}->finish($_) } @flying }

# --- the old token ends while they wait ---

nap(ends($dying) - 0.5);
my $spent = $dying->{refresh};
$q->reset->set(delay => pace(2));
$backend->clear;
my @answers = finish($dying, begin($dying, 10));
$q->set(delay => 0);
is_new $rig, $dying, 'the old token ends: all wait for the new one', @answers;
is_tokens [asked_for($rig)], [$spent], 'one call';
is_in $rig, $dying, 'later';

# --- the old token is good for long enough ---

half($due);
cmp_ok ends($due), '>', pace(5), 'the old token is good for longer than this takes';
my $old = $due->{access};
$spent = $due->{refresh};
$q->reset->set(delay => pace(3));
$backend->clear;
my @first = begin($due, 20, '/app/slow');
nap(0.3);
my ($page) = begin($due, 1, '/parts.shtml');
nap(pace(1.5));
cmp_ok calls($rig), '==', 1, 'the call is under way';
my @second = begin($due, 5, '/app/second');
@answers = finish($due, @first);
is statuses(@answers), '200 x 20', 'all are answered';
my @waits = sort { $a <=> $b } map { $_->{seconds} } served($rig, '/app/slow', 20);
ok $waits[0] >= 0.9, 'they wait for the new token, for about a second' or diag "@waits";
ok $waits[-2] < 1 + slow(0.9), 'all but one no longer' or diag "@waits";
ok $waits[-1] >= pace(2.8), 'the one that has the refresh waits for it' or diag "@waits";
is statuses(finish($due, @second)), '200 x 5', 'those that came meanwhile, too';
is statuses(finish($due, $page)), '200 x 1', 'and a page of four parts';
my ($parts) = map { $_->{seconds} } served($rig, '/parts.shtml', 1);
ok $parts < 1 + slow(0.9), 'which waits once, not for each part' or diag $parts;
$q->set(delay => 0);
is_tokens [asked_for($rig)], [$spent], 'one call for all of them';
renewed($rig, $due);
my %seen = seen_tokens($rig)->%*;
is $seen{$old}, 28, 'the others had the old token';
is $seen{ $due->{access} }, 1, 'the winner the new one';
is_in $rig, $due, 'and then everybody';

is_sound $rig, $due, $dying;
done_testing;
