use v5.36;
use utf8;

use FindBin;
use lib "$FindBin::Bin/../lib", $FindBin::Bin;

use IO::Socket::INET ();
use JSON::PP         qw(decode_json);
use Qonto::StandIn;
use Test::More;
use Visitor;

my $q = Qonto::StandIn->start;
my $v = Visitor->new($q);

# HTTP::Tiny changes the capitals of header names.
sub raw_get ($path, @headers) {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $q->port) or die $@;
    print {$socket} join "\r\n", "GET $path HTTP/1.1", 'Host: localhost', @headers, '', '';
    local $/;
    return scalar <$socket>;
}

subtest 'organization' => sub {
    my ($status, $data) = $v->api('/v2/organization', $v->log_in->{access_token});
    is $status, 200, 'found';
    my $organization = $data->{organization};
    is_deeply [$organization->@{qw(slug legal_name)}], ['croissant-sas-1', 'Croissant SAS'], 'the first one';
    like $organization->{bank_accounts}[0]{iban}, qr/^FR76/, 'with an IBAN that must not be stored';
    ok !exists $organization->{registration_id}, 'no registration id';

    $q->set(organizations => [{ id => 'o-1', slug => 'one' }, { id => 'o-2', slug => 'two', registration_id => 'r-2' }]);
    my $chosen = sub (%hint) { return ($v->api('/v2/organization', $v->log_in(%hint)->{access_token}))[1]{organization}{id} };
    is $chosen->(),                          'o-1', 'own organizations; the first by default';
    is $chosen->(organization_id => 'o-2'),  'o-2', 'organization_id chooses';
    is $chosen->(registration_id => 'r-2'),  'o-2', 'so does registration_id';
    is $chosen->(organization_id => 'o-99'), 'o-1', 'an unknown one does not';
};

subtest 'membership' => sub {
    my $of = sub (%change) { return ($v->api('/v2/membership', $v->log_in(scope => 'membership.read', %change)->{access_token}))[1]{membership} };
    my $first = $of->();
    is_deeply [$first->@{qw(first_name last_name email role)}], ['Zoé', 'Martin', 'zoe.martin@example.com', 'owner'], 'the person';
    is $of->()->{id}, $first->{id}, 'the same membership every time';
    isnt $of->(organization_id => 'o-2')->{id}, $first->{id}, 'another one in another organization';
    $q->set(membership => { id => 'm-1', email => 'eve@example.com', role => 'employee' });
    is_deeply [$of->()->@{qw(id email role)}], ['m-1', 'eve@example.com', 'employee'], 'or as wished';
};

subtest 'refusals have Qonto\'s shape' => sub {
    my ($status, $data) = $v->api('/v2/organization', 'ory_at_made.up');
    is $status, 401, 'unknown token';
    is_deeply [sort keys $data->%*], [qw(errors trace_id)], 'errors and trace_id';
    is_deeply [sort keys $data->{errors}[0]->%*], [qw(code detail source)], 'code, detail, source';
    ($status, $data) = $v->api('/v2/organization', $v->log_in(scope => 'membership.read')->{access_token});
    is $status, 403, 'scope missing';
    like $data->{errors}[0]{detail}, qr/missing required oauth scope/, 'said so';
    is $v->http->get($q->url . '/v2/membership')->{status}, 401, 'no token';
    is $q->counters->{api_401}, 2, '401 answers are counted';
};

subtest 'disconnect: all of this user\'s chains end' => sub {
    my ($one, $two) = map { $v->log_in->{access_token} } 1, 2;
    is((($v->api('/v2/oauth2/consents', $one, 'DELETE'))[0]), 204, 'done');
    ok !$v->is_live($_), 'dead' for $one, $two;
};

subtest 'sandbox gate' => sub {
    my $access = $v->log_in->{access_token};
    $q->set(staging_token => 'st-123');
    my $ask = sub (%header) {
        return $v->http->get($q->url . '/v2/organization', { headers => { Authorization => "Bearer $access", %header } });
    };
    my $page = $ask->();
    is $page->{status}, 200, 'no header: 200';
    like $page->{headers}{'content-type'}, qr{^text/html}, 'but HTML';
    my ($status, $body) = $v->exchange('any');
    like $body, qr/OneLogin/, 'token calls too';
    like $ask->('X-Qonto-Staging-Token' => 'other')->{content}, qr/OneLogin/, 'another token';
    ok decode_json($ask->('X-Qonto-Staging-Token' => 'st-123')->{content})->{organization}, 'the right one passes';
    ok $v->authorize->{code}, 'browsers are not asked for it';
    like raw_get('/v2/organization', "Authorization: Bearer $access", 'X-Qonto-Staging-Token: st-123'), qr/"organization"/,
        'the same by hand';
    like raw_get('/v2/organization', "Authorization: Bearer $access", 'x-qonto-staging-token: st-123'), qr/OneLogin/,
        'other capitals do not count';
    is $q->counters->{staging_wrong_case}, 1, 'and are noted';
    $q->set(gate => 'redirect');
    my $moved = $ask->();
    is $moved->{status}, 302, 'or a redirect';
    is $moved->{headers}{location}, $q->url . '/onelogin/login', 'to a log-in page';
    like $v->http->get($moved->{headers}{location})->{content}, qr/OneLogin/, 'which exists';
    is $q->counters->{onelogin}, 1, 'and counts who followed';
    $q->set(staging_token => undef);
};

done_testing;
