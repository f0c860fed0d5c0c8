# Signed-in visitors stay signed in over a graceful restart, a restart and a kill -9 of every process.
use v5.36;
use Qonto::Httpd;
use Qonto::Test;

my $q  = Qonto::StandIn->start;
my $be = backend();
my $h  = Qonto::Httpd->new(conf => <<~"CONF")->start;
    QontoClientId qonto-client
    QontoClientSecret qonto-secret
    QontoRedirectURI http://127.0.0.1:\@port\@/qonto/callback
    QontoSessionStore lmdb:\@root\@/store
    QontoEndpoint authorize @{[$q->url]}/oauth2/auth
    QontoEndpoint token     @{[$q->url]}/oauth2/token
    <Location "/app">
        AuthType Qonto
        Require valid-user
        ProxyPass @{[$be->url]}/app retry=0
    </Location>
    CONF
my $b = browser();
sign_in($b, $h->url('/app/x'));

# A log-in that is under way when it happens can end afterwards, too.
for my $what (qw(graceful restart kill9)) {
    my $other = browser();
    my $at    = $other->follow_until($other->get($h->url("/app/$what")), qr{/qonto/callback\?});
    $h->$what;
    $h->start if $what eq 'kill9';
    is $b->fetch($h->url('/app/x'))->status, 200, "$what: still signed in";
    my $end = $other->follow($other->get($at));
    is $end->status, 200, "$what: a log-in under way ends well" or diag $end->story, $h->error_log;
    is $end->url, $h->url("/app/$what"), '- on its page';
}
is $q->counters->{token}, 4, 'one exchange for each log-in';

# What lies on the disk is sealed.
my @files = grep {-f} glob($h->root . '/store/* ' . $h->root . '/store/*/*');
ok @files > 0, 'the store has files';
my @secrets = ((map { $_->@* } values $q->issued->%*), map { $_->[1] } $b->cookies);
my @clear;
for my $file (@files) {
    open my $in, '<:raw', $file or die "$file: $!\n";
    my $bytes = do { local $/; <$in> };
    push @clear, $file for grep { index($bytes, $_) >= 0 } @secrets, 'ory_at_', 'ory_rt_';
    is +(stat $file)[2] & 07, 0, "$file is nobody else's";
}
is_deeply \@clear, [], 'no token, no cookie in clear';
is_deeply [$h->secrets_in_log(@secrets)], [], 'none in the log';

done_testing;
