# While Qonto fails, attempts become rarer: after 1, 2, 4 ... seconds, or when Retry-After says so,
# however many requests come meanwhile and on whichever process.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

my $rig = farm()->start;
my ($q, $backend) = ($rig->standin, $rig->backend);
my ($asked, $stubborn) = visitors($rig, 2);
expire($asked, $stubborn);

# When this visitor's refresh token was sent, in seconds after the first.
sub attempts ($visitor) {
    my @at = map { $_->{at} } grep { $_->{refresh_token} eq $visitor->{refresh} } $q->refreshes;
    return map { $_ - $at[0] } @at;
}

$q->reset->fault(refresh => '429', retry_after => 3, times => 1);
my $answer = $asked->{browser}->get($rig->url('/app/x'));
is $answer->status, 503, 'too many requests';
is $answer->header('Retry-After'), 3, 'Retry-After is handed on';
$q->fault(refresh => '500');
my $began = now();
my %met;
while (now() - $began < 5.5) {
    for my $visitor ($asked, $stubborn) {
        my @answers = burst($rig, $visitor, 4);
        $met{ $_->status }++ for @answers;
        my ($left) = map { $_->header('Retry-After') // 'none' } @answers;
        $met{"Retry-After $left"}++ if $left !~ /^[1-8]$/;
    }
    nap(0.1);
}
is_deeply [keys %met], ['503'], '503 all the time, with Retry-After' or diag explain \%met;
cmp_ok $met{503}, '>', 100, 'many requests';
my @at = attempts($stubborn);
is scalar @at, 3, 'three attempts in as many as six seconds' or diag "@at";
for my $pair ([1, 1], [2, 3]) {
    my ($number, $least) = $pair->@*;
    ok $at[$number] >= $least - 0.1 && $at[$number] <= $least + slow(1), "the next after $least s" or diag "@at";
}
@at = attempts($asked);
ok @at >= 2 && $at[1] >= 2.9 && $at[1] < 3 + slow(1), 'as long as Qonto asked, then again' or diag "@at";

# --- put right: at the next attempt, not before ---

$q->fault(refresh => 'none');
my $before = attempts($stubborn);
ok wait_until(12, sub { $stubborn->{browser}->get($rig->url('/app/x'))->status == 200 }), 'Qonto is well: the session goes on';
@at = attempts($stubborn);
is scalar @at, $before + 1, 'by one call';
ok $at[-1] >= 6.9, 'not before it was due' or diag "@at";
renewed($rig, $stubborn);
is_in $rig, $stubborn, 'as before';

# A success ends the series: the next failure waits for a second again.
my ($again) = visitors($rig, 1);
expire($again);
$q->reset->fault(refresh => '500', times => 1);
is $again->{browser}->get($rig->url('/app/x'))->status, 503, 'a failure';
$q->set(access_life => int pace(1));
ok wait_until(3, sub { $again->{browser}->get($rig->url('/app/x'))->status == 200 }), 'healed';
$again->{ends} = now() + pace(1);
renewed($rig, $again);
expire($again);
$q->set(access_life => 3600)->reset->fault(refresh => '500', times => 1);
$answer = $again->{browser}->get($rig->url('/app/x'));
is $answer->status, 503, 'another failure, of the next generation';
cmp_ok $answer->header('Retry-After'), '<=', 1, 'begins anew';

is_sound $rig, $asked, $stubborn, $again;
done_testing;
