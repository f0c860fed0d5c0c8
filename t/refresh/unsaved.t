# New tokens are used only once they are stored. While the store cannot take them, nobody gets them;
# what cannot be stored is not lost: the next attempt repeats the same refresh token.

use v5.36;
use Qonto::Test;
use Qonto::Rig;
use Qonto::Refresh;

plan skip_all => 'a point of LMDB' if $ENV{QO_STORE};

my $rig = preloaded(farm())->start;
my ($q, $backend) = ($rig->standin, $rig->backend);
my ($moment, $away) = visitors($rig, 2);
expire($moment, $away);

# --- away for a moment: waited for ---

at_point($rig, 'commit fail');
$q->reset;
$backend->clear;
is_new $rig, $moment, 'one write fails', $moment->{browser}->get($rig->url('/app/x'));
ok point_reached($rig), 'it did';
is calls($rig), 1, 'one call';
is_in $rig, $moment, 'and it is stored';

# --- away for longer ---

sub cannot_save ($visitor, $name) {
    my $spent = $visitor->{refresh};
    at_point($rig, 'commit fail-on');
    $q->reset;
    $backend->clear;
    my $answer = $visitor->{browser}->get($rig->url('/app/x'));
    is $answer->status, 503, "$name: not available" or diag tale($answer);
    is +(reference_of($answer))[0], 'QO0040', "$name: because of the store";
    like $answer->header('Retry-After') // '', qr/^\d+$/, "$name: Retry-After";
    is_deeply [$answer->headers('Set-Cookie')], [], "$name: the cookie stays";
    is $backend->count, 0, "$name: nobody is shown tokens that are not stored";
    is calls($rig), 1, "$name: one call";
    my $began = now();
    is statuses(burst($rig, $visitor, 8)), '503 x 8', "$name: those behind it, too";
    ok now() - $began < slow(4), "$name: they do not queue up" or diag now() - $began;
    my $calls = calls($rig);
    cmp_ok $calls, '<=', 3, "$name: calls do not multiply";
    unlink $rig->root . '/point/wish';
    nap(1);    # within a second of the store's return
    $backend->clear;
    is_new $rig, $visitor, "$name: the store is back", burst($rig, $visitor, 5);
    is_tokens [asked_for($rig)], [($spent) x ($calls + 1)], "$name: by the same refresh token";
    is_in $rig, $visitor, "$name: and so it stays";
    return;
}

cannot_save($away, 'dead token');
my ($due) = visitors($rig, 1, 8);
half($due);
cannot_save($due, 'due');

is_deeply [crashes($rig->httpd->error_log)], [], 'no crash';
is scalar($rig->httpd->secrets_in_log(map { $_->@* } values $q->issued->%*)), 0, 'no secret in the log';
done_testing;
