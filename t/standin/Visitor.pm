package Visitor;

# The other side in these tests: a browser and an OAuth client, reduced to what the tests need.

use v5.36;

use HTTP::Tiny ();
use JSON::PP   qw(decode_json);

sub new ($class, $standin, %arg) {
    my $http = HTTP::Tiny->new(max_redirect => 0, keep_alive => 0, timeout => 10, $arg{http} ? $arg{http}->%* : ());
    my %form = (client_id => 'qonto-client', client_secret => 'qonto-secret');
    return bless { url => $standin->url, http => $http, form => \%form, callback => 'http://127.0.0.1:9/callback' }, $class;
}

sub http     ($self) { return $self->{http} }
sub callback ($self) { return $self->{callback} }

sub authorize_url ($self, %change) {
    my %query = (
        client_id => 'qonto-client', redirect_uri => $self->callback, response_type => 'code',
        scope => 'offline_access organization.read', state => 'a-long-enough-state', %change,
    );
    delete @query{ grep { !defined $query{$_} } keys %query };
    return "$self->{url}/oauth2/auth?" . $self->http->www_form_urlencode(\%query);
}

# Returns what the callback gets, or the answer itself when there is no way back.
sub authorize ($self, %change) {
    my $answer = $self->http->get($self->authorize_url(%change));
    return at_callback($answer) // $answer;
}

sub at_callback ($answer) {
    my ($query) = ($answer->{headers}{location} // '') =~ m{^http://[^/]+/callback\?(.*)$} or return undef;
    return { map { split /=/, tr/+/ /r =~ s/%(..)/chr hex $1/ger, 2 } split /&/, $query };
}

sub code ($self, %change) { return $self->authorize(%change)->{code} }

# Returns (status, decoded body); a value of undef leaves a parameter out.
sub post ($self, $path, %form) {
    my %all = ($self->{form}->%*, %form);
    delete @all{ grep { !defined $all{$_} } keys %all };
    my $answer = $self->http->post_form($self->{url} . $path, \%all);
    return $answer->{status}, decoded($answer->{content}), $answer;
}

# JSON::PP needs seconds for megabytes: those stay text.
sub decoded ($text) {
    return $text if length($text // '') > 1_000_000;
    return eval { decode_json($text) } // $text;
}

sub exchange ($self, $code, %form) {
    return $self->post('/oauth2/token', grant_type => 'authorization_code', code => $code,
        redirect_uri => $self->callback, %form);
}

sub refresh ($self, $token, %form) {
    return $self->post('/oauth2/token', grant_type => 'refresh_token', refresh_token => $token, %form);
}

# The whole way: returns the token answer.
sub log_in ($self, %change) {
    my ($status, $tokens) = $self->exchange($self->code(%change));
    return $tokens;
}

sub api ($self, $path, $access, $method = 'GET') {
    my $answer = $self->http->request($method, $self->{url} . $path, { headers => { Authorization => "Bearer $access" } });
    return $answer->{status}, decoded($answer->{content});
}

sub is_live ($self, $access) { return ($self->api('/v2/organization', $access))[0] == 200 }

1;
