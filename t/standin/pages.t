use v5.36;

use FindBin;
use lib "$FindBin::Bin/../lib", $FindBin::Bin;

use Qonto::StandIn;
use Test::More;
use Visitor;

my $q = Qonto::StandIn->start(mode => 'page');
my $v = Visitor->new($q);
my %cookie;

# A browser of few words: keeps cookies, follows redirects within the stand-in.
sub browse ($method, $url, %form) {
    my %request = (headers => { Cookie => join '; ', map {"$_=$cookie{$_}"} sort keys %cookie });
    if (%form) {
        $request{content} = $v->http->www_form_urlencode(\%form);
        $request{headers}{'Content-Type'} = 'application/x-www-form-urlencoded';
    }
    my $answer = $v->http->request($method, $url, \%request);
    for my $line (map { ref ? $_->@* : $_ // () } $answer->{headers}{'set-cookie'}) {
        $cookie{$1} = $2 if $line =~ /^([^=]+)=([^;]*)/;
    }
    my $to = $answer->{headers}{location} // return $answer;
    return $to =~ /^\Q@{[$q->url]}\E/ ? browse(GET => $to) : $answer;
}

sub flow_in ($page) { return ($page->{content} =~ /name="flow" value="([^"]+)"/)[0] }

sub sign_in ($page) {
    return browse(POST => $q->url . '/signin', flow => flow_in($page), email => 'ann@example.com', password => 'x');
}

sub decide ($page, %choice) {
    return Visitor::at_callback(browse(POST => $q->url . '/consent', flow => flow_in($page), %choice));
}

my ($croissant, $baguette) = map { Qonto::StandIn::Tools::stable_uuid(organization => $_) } 1, 2;

subtest 'log in, choose, authorize' => sub {
    my $page = browse(GET => $v->authorize_url);
    is $page->{status}, 200, 'a page';
    like $page->{content}, qr/This is a stand-in, not Qonto/, 'that says what it is';
    like $page->{content}, qr/<html lang="en">.*<meta name="viewport".*<label for="email">.*type="password"/s, 'a form';
    unlike $page->{content}, qr/(?:src|href)=/, 'nothing from elsewhere';

    my $again = browse(POST => $q->url . '/signin', flow => flow_in($page), email => 'nobody', password => 'x');
    like $again->{content}, qr/role="alert"/, 'an address is asked for';
    my $consent = sign_in($page);
    like $consent->{content}, qr/ann\@example\.com/, 'logged in';
    like $consent->{content}, qr/Croissant SAS.*Baguette SARL/s, 'organizations to choose from';
    like $consent->{content}, qr/organization\.read/, 'the scopes';
    like browse(POST => $q->url . '/consent', flow => flow_in($consent), decision => 'authorize')->{content},
        qr/Please choose/, 'no organization';

    my $got = decide($consent, organization => $baguette, decision => 'authorize');
    ok $got->{code}, 'a code';
    is $got->{state}, 'a-long-enough-state', 'the state';
    my ($status, $tokens) = $v->exchange($got->{code});
    is +($v->api('/v2/organization', $tokens->{access_token}))[1]{organization}{id}, $baguette, 'for the chosen organization';
    is browse(POST => $q->url . '/consent', flow => flow_in($consent), decision => 'refuse')->{status}, 400, 'the page is used up';
};

subtest 'next time the log-in is remembered' => sub {
    my $page = browse(GET => $v->authorize_url);
    like $page->{content}, qr/Choose an organization/, 'straight to the choice';
    is_deeply [decide($page, decision => 'refuse')->@{qw(error state)}], ['access_denied', 'a-long-enough-state'], 'refused';
    like browse(GET => $v->authorize_url(prompt => 'login'))->{content}, qr/<h1>Log in/, 'unless prompt=login';
    ok Visitor::at_callback(browse(GET => $v->authorize_url(prompt => 'none')))->{code}, 'prompt=none asks nothing';
    %cookie = ();
    is Visitor::at_callback(browse(GET => $v->authorize_url(prompt => 'none')))->{error}, 'login_required', 'or fails';
};

subtest 'a preselected organization' => sub {
    my $page = sign_in(browse(GET => $v->authorize_url(organization_id => $croissant)));
    unlike $page->{content}, qr/Choose an organization|Baguette/, 'no choice';
    like $page->{content}, qr/Croissant SAS/, 'but shown';
    ok decide($page, organization => $croissant, decision => 'authorize')->{code}, 'authorized';
};

subtest 'text from outside is escaped' => sub {
    my $page = sign_in(browse(GET => $v->authorize_url(scope => '<script>"', prompt => 'login')));
    like $page->{content}, qr/&lt;script&gt;&quot;/, 'escaped';
    unlike $page->{content}, qr/<script/, 'not live';
};

subtest 'parallel log-ins collide here too' => sub {
    $q->set(csrf_collision => 1);
    my ($first, $second) = map { browse(GET => $v->authorize_url(state => "state-number-$_")) } 1, 2;
    is decide($first, organization => $croissant, decision => 'authorize')->{error}, 'request_forbidden', 'earlier';
    ok decide($second, organization => $croissant, decision => 'authorize')->{code}, 'later';
    $q->set(csrf_collision => 0);
};

subtest 'an old page' => sub {
    my $page = browse(GET => $v->authorize_url(prompt => 'login'));
    $q->advance(1800);
    my $late = sign_in($page);
    is $late->{status}, 400, 'is refused';
    like $late->{content}, qr/start again/i, 'with advice';
};

done_testing;
