# QontoSessionTimeout: idle, which visits move on, and max, which nothing moves; neither a cookie
# nor a restart brings a session back.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Time::HiRes ();

# Seconds must be long enough for a slow machine to make a visit in.
my $unit = ($ENV{QO_SLOW} || 1) > 1 ? 4 : 1;
my ($idle, $max) = (2 * $unit, 5 * $unit);

sub host ($rig, $name, $timeout) {
    return "Listen 127.0.0.1:\@${name}_port\@\n<VirtualHost 127.0.0.1:\@${name}_port\@>\n"
        . qonto($rig->standin, QontoRedirectURI => "http://127.0.0.1:\@${name}_port\@/qonto/callback", QontoSessionTimeout => $timeout)
        . proxied('/app/', $rig->backend) . protected('/app/') . "</VirtualHost>\n";
}

my $rig = rig(conf => sub ($rig) {
    return qonto($rig->standin) . host($rig, 'idle', "${idle}s 1h") . host($rig, 'max', "${max}s ${max}s")
        . host($rig, 'both', "${idle}s ${max}s") . host($rig, 'long', '90d 90d');
})->start;

my %browser;
my %began;
for my $name (qw(idle max both long)) {
    $browser{$name} = browser();
    $began{$name} = Time::HiRes::time();
    sign_in($browser{$name}, $rig->url('/app/x', "${name}_port"));
}
my $sleeper = browser();
my $slept   = Time::HiRes::time();
sign_in($sleeper, $rig->url('/app/x', 'idle_port'));

sub age ($name) { return Time::HiRes::time() - $began{$name} }
sub status ($name) { return $browser{$name}->get($rig->url('/app/x', "${name}_port"))->status }

# Everybody but the sleeper visits again and again, for longer than idle and max.
my %last = map { $_ => 0 } keys %browser;
my %gap;
while (age('long') < $max + 1.5 * $unit) {
    for my $name (grep { defined $last{$_} } sort keys %browser) {
        my $status = status($name);
        if ($status == 200) { $last{$name} = age($name) }
        else { $gap{$name} = [delete $last{$name}, age($name), $status] }
    }
    select undef, undef, undef, 0.3 * $unit;
}

ok defined $last{long}, 'a long session goes on';
ok defined $last{idle}, 'visits move the idle clock' or diag explain $gap{idle};
for my $name (qw(max both)) {
    my ($last_good, $ended, $status) = ($gap{$name} // [])->@*;
    ok defined $ended, "$name: it ends";
    is $status, 302, 'with a way to sign in again';
    cmp_ok $last_good, '>=', $max - $unit, "not before its time: $last_good of $max s";
    cmp_ok $last_good, '<=', $max + $unit, 'nor after it';
}

cmp_ok Time::HiRes::time() - $slept, '>', $idle, 'the sleeper slept long enough';
is $sleeper->get($rig->url('/app/x', 'idle_port'))->status, 302, 'without visits it ends after idle';
is $sleeper->fetch($rig->url('/app/x', 'idle_port'))->status, 401, 'for scripts, too';

# --- dead is dead ---

my ($cookie) = $browser{max}->cookies($rig->url('/app/x', 'max_port'));
$rig->httpd->restart;
is browser(jar => undef)->get($rig->url('/app/x', 'max_port'), Cookie => join '=', $cookie->@*)->status, 302,
    'a restart brings nothing back' if $cookie;
is status('long'), 200, 'the long one is still there';
sign_in($browser{max}, $rig->url('/app/x', 'max_port'));

done_testing;
