# Cookies that are not ours to trust: junk, strangers, many of our name.
use v5.36;
use Qonto::Test;

my $site = site('cookies');
my $b    = browser();
sign_in($b, $site->url('/app/x'));
my ($pair) = map {"$_->[0]=$_->[1]"} $b->cookies;
my $bare   = browser(jar => undef);
my $fetch  = sub ($cookie) { $site->mark; $bare->fetch($site->url('/app/x'), Cookie => $cookie) };
is $fetch->($pair)->status, 200, 'the cookie alone opens';

# Not one bit of it may change, and nothing is ever adopted.
my ($name, $value) = split /=/, $pair, 2;
my %bad = (
    'one letter less'   => "$name=" . substr($value, 0, -1),
    'one letter more'   => "$name=${value}A",
    'another letter'    => "$name=" . ($value =~ s/^(.)/$1 eq 'A' ? 'B' : 'A'/er),
    'other capitals'    => "$name=" . ($value =~ tr/a-zA-Z/A-Za-z/r),
    'a fixed one'       => "$name=" . 'A' x 43,
    'empty'             => "$name=",
    'no value'          => $name,
    'its name in capitals' => uc($name) . "=$value",
    'padded'            => "$name=$value=",
    'escaped'           => "$name=" . ($value =~ s/^(.)/sprintf '%%%02X', ord $1/er),
);
for my $what (sort keys %bad) {
    my $answer = $fetch->($bad{$what});
    is $answer->status, 401, "$what: opens nothing";
    cmp_ok scalar(my @l = $site->our_log), '<=', 1, '- one line in the log at most' or diag $site->log;
    unlike $site->log, qr/\Q$value/, '- not with the value';
}

# The real one among others of its name, as a stranger on a neighbouring host could set them.
is $fetch->("$name=" . 'A' x 43 . "; $pair")->status, 200, 'the real one after a forged one';
is $fetch->("$pair; $name=" . 'A' x 43)->status, 200, 'the real one before a forged one';
is_deeply [$site->backend->got(qr/^cookie$/i)], [], 'the backend gets none of them';

# 8 KB of junk: no storm of any kind.
my $junk = join '; ', map { "$name-" . ('a' .. 'z')[$_ % 26] x 6 . "=$_" } 1 .. 300;
for my $cookie ($junk, join('; ', ("$name=" . 'B' x 43) x 150), 'x' x 8000, ';' x 8000, '=;' x 4000, "\x01\xff;" x 2000) {
    my $answer = $fetch->(substr $cookie, 0, 8000);
    like $answer->status, qr/^40[01]$/, 'junk: ' . substr($cookie, 0, 20) =~ s/[^ -~]/?/gr;
    cmp_ok scalar(my @l = $site->our_log), '<=', 1, '- one line in the log at most' or diag $site->log;
    cmp_ok scalar(() = $answer->headers('Set-Cookie')), '<=', 24, '- no storm of Set-Cookie';
}
my $visit = $bare->get($site->url('/app/x'), Cookie => substr $junk, 0, 8000);
is $visit->status, 302, 'and a visitor with junk can still begin a log-in';
cmp_ok scalar(() = $visit->headers('Set-Cookie')), '<=', 25, '- without a storm';

# Junk on open pages is the backend's business, but ours does not get there.
$bare->get($site->url('/open/x'), Cookie => "a=1; $pair; $name-abcdef=x; b=2; $name=3");
is_deeply [$site->backend->got('Cookie')], ['a=1; b=2'], 'our cookies are removed on open pages, too';
$bare->get($site->url('/open/x'), Cookie => 'a=1', Cookie => $pair, cookie => 'c=3');
unlike $site->backend->last->{head}, qr/\Q$value/, 'also when there are several Cookie lines';

done_testing;
