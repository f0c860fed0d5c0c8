package Qonto::StandIn;

use v5.36;

our $VERSION = '0.1.0';

# ---------------------------------------------------------------------------
# Small tools shared by the rooms below: encodings, random values, form data.
# ---------------------------------------------------------------------------
package Qonto::StandIn::Tools {
    use Digest::SHA  qw(sha1_hex);
    use Exporter     qw(import);
    use JSON::PP     ();
    use MIME::Base64 qw(encode_base64url);

    BEGIN { our @EXPORT_OK = qw(from_json header_value html_text parse_form percent_encode query_string
        random_bytes same_secret stable_uuid to_json token_text) }

    my $JSON = JSON::PP->new->utf8->canonical;

    sub to_json   ($data) { return $JSON->encode($data) }
    sub from_json ($text) { return $JSON->decode($text) }

    sub random_bytes ($count) {
        open my $source, '<:raw', '/dev/urandom' or die "/dev/urandom: $!\n";
        my $got = sysread($source, my $bytes, $count);
        die "/dev/urandom: short read\n" if !defined $got || $got != $count;
        return $bytes;
    }

    # Qonto docs: tokens look like ory_at_<43 characters>.<43 characters>, base64url.
    sub token_text ($prefix) {
        return join '', $prefix, encode_base64url(random_bytes(32)), '.', encode_base64url(random_bytes(32));
    }

    # The same person or membership keeps its id over restarts of the stand-in.
    sub stable_uuid (@parts) {
        my $name = join '|', @parts;
        utf8::encode($name);
        my $hex = sha1_hex($name);
        return join '-', substr($hex, 0, 8), substr($hex, 8, 4), '5' . substr($hex, 13, 3),
            'a' . substr($hex, 17, 3), substr($hex, 20, 12);
    }

    sub percent_encode ($text) {
        utf8::encode($text) if utf8::is_utf8($text);
        return $text =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ger;
    }

    sub percent_decode ($text) {
        return $text =~ tr/+/ /r =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ger;
    }

    # Hydra is written in Go, whose url.Values.Encode sorts the names and writes a space as "+".
    sub query_string (%value) {
        return join '&', map { percent_encode($_) . '=' . percent_encode($value{$_}) =~ s/%20/+/gr }
            sort grep { defined $value{$_} } keys %value;
    }

    # Returns the parameters (percent-decoded bytes, first value of a name wins) and the names that came twice.
    sub parse_form ($text) {
        my (%value, %seen);
        for my $pair (grep {length} split /&/, $text) {
            my ($name, $value) = map { percent_decode($_) } split /=/, $pair, 2;
            $value{$name} //= $value // '';
            $seen{$name}++;
        }
        return \%value, [sort grep { $seen{$_} > 1 } keys %seen];
    }

    sub header_value ($request, $name) {
        for my $line ($request->{headers}->@*) {
            return $1 if $line =~ /^\Q$name\E:[ \t]*(.*?)[ \t]*$/i;
        }
        return undef;
    }

    # A secret may be configured as bytes or as characters; on the wire it is bytes (UTF-8).
    sub same_secret ($got, $configured) {
        return 0 if !defined $got || !defined $configured;
        my $encoded = $configured;
        utf8::encode($encoded);
        return $got eq $configured || $got eq $encoded;
    }

    sub html_text ($text) {
        my %entity = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&quot;', q(') => '&#39;');
        return ($text // '') =~ s/([&<>"'])/$entity{$1}/gr =~ s/([^\x00-\x7f])/sprintf '&#%d;', ord $1/ger;
    }
}

# ---------------------------------------------------------------------------
# Answers: plain hashes { status, headers => [[name, value], ...], body }.
# ---------------------------------------------------------------------------
package Qonto::StandIn::Answer {
    use Exporter qw(import);
    BEGIN { Qonto::StandIn::Tools->import(qw(random_bytes to_json)) }

    BEGIN {
        our @EXPORT_OK
            = qw(answer api_error description html_page is_oauth_error json_answer oauth_error redirect);
    }

    my @NO_STORE = (['Cache-Control', 'no-store'], ['Pragma', 'no-cache']);

    # name => [status, text]; the texts are those of Hydra (fosite/errors.go).
    my %OAUTH_ERROR = (
        access_denied    => [403, 'The resource owner or authorization server denied the request.'],
        consent_required => [400, 'The Authorization Server requires End-User consent.'],
        insufficient_entropy =>
            [403, 'The request used a security parameter (e.g., anti-replay, anti-csrf) with insufficient entropy.'],
        invalid_client => [401,
            'Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method).'],
        invalid_grant => [400,
            'The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client.'],
        invalid_request => [400,
            'The request is missing a required parameter, includes an invalid parameter value, includes a parameter more than once, or is otherwise malformed.'],
        invalid_scope => [400, 'The requested scope is invalid, unknown, or malformed.'],
        invalid_state => [400,
            'The state is missing or does not have enough characters and is therefore considered too weak.'],
        login_required    => [400, 'The Authorization Server requires End-User authentication.'],
        request_denied    => [403, 'The request was denied.'],
        request_forbidden => [403, 'The request is not allowed.'],
        server_error      => [500,
            'The authorization server encountered an unexpected condition that prevented it from fulfilling the request.'],
        temporarily_unavailable => [503,
            'The authorization server is currently unable to handle the request due to a temporary overloading or maintenance of the server.'],
        unauthorized_client    => [400, 'The client is not authorized to request a token using this method.'],
        unsupported_grant_type => [400,
            'The authorization grant type is not supported by the authorization server.'],
        unsupported_response_type => [400,
            'The authorization server does not support obtaining a token using this method.'],
    );

    sub answer ($status, $type, $body, @headers) {
        return { status => $status, headers => [['Content-Type', $type], @NO_STORE, @headers], body => $body };
    }

    sub json_answer ($status, $data, @headers) {
        return answer($status, 'application/json;charset=UTF-8', to_json($data), @headers);
    }

    sub html_page ($status, $html, @headers) {
        return answer($status, 'text/html; charset=utf-8', $html, @headers);
    }

    sub redirect ($status, $location, @headers) {
        return html_page($status, '', ['Location', $location], @headers);
    }

    sub is_oauth_error ($name) { return exists $OAUTH_ERROR{$name} }

    # Hydra: description and hint are one text, separated by a space.
    sub description ($name, $hint = undef) {
        my $text = ($OAUTH_ERROR{$name} // [0, 'The request could not be served.'])->[1];
        return join ' ', $text, $hint // ();
    }

    sub oauth_error ($name, $hint = undef, $status = undef) {
        my $answer = json_answer($status // ($OAUTH_ERROR{$name} // [400])->[0],
            { error => $name, error_description => description($name, $hint) });
        $answer->{outcome} = $name;
        return $answer;
    }

    # Qonto docs, "Errors": {"errors": [{code, detail, source}], "trace_id"}.
    sub api_error ($status, $code, $detail) {
        my $trace  = unpack 'H*', random_bytes(16);
        my $answer = json_answer($status,
            { errors => [{ code => $code, detail => $detail, source => undef }], trace_id => $trace });
        $answer->{outcome} = $status;
        return $answer;
    }
}

# ---------------------------------------------------------------------------
# Refusals: thrown by the rules below, turned into an answer by the endpoint.
# ---------------------------------------------------------------------------
package Qonto::StandIn::Refusal {
    use Exporter qw(import);
    BEGIN { our @EXPORT_OK = qw(refuse) }

    sub refuse ($error, $hint = undef) {
        die bless { error => $error, hint => $hint }, __PACKAGE__;
    }

    # Runs $work; a refusal goes through $translate, any other exception goes on.
    sub caught ($work, $translate) {
        my $result;
        return $result if eval { $result = $work->(); 1 };
        my $problem = $@;
        return $translate->($problem) if ref $problem && $problem->isa(__PACKAGE__);
        die $problem;
    }
}

# ---------------------------------------------------------------------------
# Grants: who may hold which code and token. No HTTP in here.
# A chain is one authorization: its code and every token that descends from it.
# ---------------------------------------------------------------------------
package Qonto::StandIn::Grants {
    use Digest::SHA  qw(sha256);
    use MIME::Base64 qw(encode_base64url);
    BEGIN {
        Qonto::StandIn::Refusal->import(qw(refuse));
        Qonto::StandIn::Tools->import(qw(random_bytes same_secret stable_uuid to_json token_text));
    }

    sub new ($class, $option, $clock) {
        my %issued = (code => [], access_token => [], refresh_token => [], id_token => []);
        return bless {
            option => $option, clock => $clock, issued => \%issued,
            code   => {}, access => {}, refresh => {}, chains => [],
        }, $class;
    }

    sub issued ($self) { return $self->{issued} }

    sub _now ($self) { return $self->{clock}->() }

    sub _mint ($self, $kind, $prefix) {
        my $text = token_text($prefix);
        push $self->{issued}{$kind}->@*, $text;
        return $text;
    }

    sub client ($self, $id) {
        my $option = $self->{option};
        return undef if !defined $id;
        return $option->{clients}{$id} if $option->{clients};
        return undef if $id ne $option->{client_id};
        return {
            secret        => $option->{client_secret},
            next_secret   => $option->{next_secret},
            redirect_uris => $option->{redirect_uris},
        };
    }

    # Returns which secret matched: "secret" or "next_secret".
    sub authenticate ($self, $form) {
        my $client = $self->client($form->{client_id})
            or refuse(invalid_client => 'The requested OAuth 2.0 Client does not exist.');
        for my $which (qw(secret next_secret)) {
            return $which if same_secret($form->{client_secret}, $client->{$which});
        }
        refuse('invalid_client');
    }

    # Hydra: one scope the client may not have fails the whole request.
    sub check_scopes ($self, @scopes) {
        my $policy  = $self->{option}{scope_policy} or return;
        my %allowed = map { $_ => 1 } $policy->@*;
        for my $scope (@scopes) {
            refuse(invalid_scope => "The OAuth 2.0 Client is not allowed to request scope '$scope'.")
                if !$allowed{$scope};
        }
        return;
    }

    sub grant_scopes ($self, @requested) {
        my %withheld = map { $_ => 1 } ($self->{option}{withheld_scopes} // [])->@*;
        return grep { !$withheld{$_} } @requested;
    }

    # $flow: the checked authorization request; $who: { organization, email, auth_time }.
    sub issue_code ($self, $flow, $who) {
        my $chain = {
            client_id => $flow->{client_id}, scopes => [$self->grant_scopes($flow->{scopes}->@*)],
            nonce     => $flow->{nonce},     revoked => 0,
            sid       => stable_uuid(unpack 'H*', random_bytes(8)), requested_at => int $self->_now,
            organization => $who->{organization},
            email        => $who->{email}, auth_time => int $who->{auth_time},
        };
        $chain->{membership} = $self->_membership($chain);
        push $self->{chains}->@*, $chain;
        my $code = $self->_mint(code => 'ory_ac_');
        $self->{code}{$code} = {
            chain        => $chain, expires => $self->_now + $self->{option}{code_life}, used => 0,
            redirect_uri => $flow->{redirect_uri}, challenge => $flow->{code_challenge},
        };
        return $code, $chain->{scopes};
    }

    # Qonto docs: a token stands for one membership, that is one user in one organization.
    sub _membership ($self, $chain) {
        my %membership = $self->{option}{membership}->%*;
        $chain->{sub} = delete $membership{sub} // stable_uuid('user', $chain->{email});
        $membership{email} = $chain->{email};
        $membership{id} //= stable_uuid('membership', $chain->{sub}, $chain->{organization}{id});
        return \%membership;
    }

    sub exchange ($self, $form) {
        my $code = $self->{code}{ $form->{code} // '' } or refuse('invalid_grant');
        my $chain = $code->{chain};
        _same_client($chain, $form);
        if ($code->{used}) {
            # RFC 6749 section 4.1.2: a code used twice revokes what was issued from it.
            $self->revoke_chain($chain);
            refuse(invalid_grant => 'The authorization code has already been used.');
        }
        refuse(invalid_grant => 'The authorization code has expired.') if $self->_now >= $code->{expires};
        refuse(invalid_grant =>
                q{The "redirect_uri" from this request does not match the one from the authorize request.})
            if ($form->{redirect_uri} // '') ne $code->{redirect_uri};
        _check_verifier($code->{challenge}, $form->{code_verifier});

        # Hydra: a weak nonce passes the authorization endpoint and fails here.
        refuse(insufficient_entropy =>
                q{Parameter 'nonce' is set but does not satisfy the minimum entropy of 8 characters.})
            if defined $chain->{nonce} && length $chain->{nonce} < 8;
        $code->{used} = 1;
        return $self->_issue_tokens($chain);
    }

    sub _same_client ($chain, $form) {
        refuse(invalid_grant =>
                'The OAuth 2.0 Client ID from this request does not match the one from the authorize request.')
            if $chain->{client_id} ne $form->{client_id};
        return;
    }

    # RFC 7636 section 4.6. The order of the checks and the texts are Hydra's.
    sub _check_verifier ($challenge, $verifier) {
        return if !defined $challenge && !length($verifier // '');
        $verifier //= '';
        refuse(invalid_grant => 'The PKCE code verifier must be at least 43 characters.') if length $verifier < 43;
        refuse(invalid_grant => 'The PKCE code verifier can not be longer than 128 characters.')
            if length $verifier > 128;
        refuse(invalid_grant => q{The PKCE code verifier must only contain [a-Z], [0-9], '-', '.', '_', '~'.})
            if $verifier =~ /[^A-Za-z0-9._~-]/;
        refuse(invalid_grant =>
                'The PKCE code verifier was provided but the code challenge was absent from the authorization request.')
            if !defined $challenge;
        refuse(invalid_grant => 'The PKCE code challenge did not match the code verifier.')
            if encode_base64url(sha256($verifier)) ne $challenge;
        return;
    }

    sub refresh ($self, $form) {
        my $token = $self->{refresh}{ $form->{refresh_token} // '' } or refuse('invalid_grant');
        my $chain = $token->{chain};
        _same_client($chain, $form);
        refuse(invalid_grant => 'The refresh token was revoked.') if $chain->{revoked};
        refuse(invalid_grant => 'The refresh token expired.')     if $self->_now >= $token->{expires};
        $self->check_scopes($chain->{scopes}->@*);
        $self->_spend($token);
        return $self->_issue_tokens($chain);
    }

    # Qonto docs: a refresh token may be used again for 60 s after its first use.
    # Hydra: the clock starts at the first use and is not extended; the access token issued
    # with this refresh token dies at once; a later use ends the whole chain.
    sub _spend ($self, $token) {
        my $now = $self->_now;
        $token->{first_used} //= $now;
        if ($token->{uses}++ && $now >= $token->{first_used} + $self->{option}{grace}) {
            $self->revoke_chain($token->{chain});
            refuse(invalid_grant => 'The refresh token was already used.');
        }
        delete $self->{access}{ $token->{access} };
        return;
    }

    sub _issue_tokens ($self, $chain) {
        my $option = $self->{option};
        my %scope  = map { $_ => 1 } $chain->{scopes}->@*;
        my $access = $self->_mint(access_token => 'ory_at_');
        $self->{access}{$access} = { chain => $chain, expires => $self->_now + $option->{access_life} };
        my %answer = (
            access_token => $access, expires_in => $option->{access_life} + 0,
            token_type   => 'bearer', scope => join(' ', $chain->{scopes}->@*),
        );
        $answer{refresh_token} = $self->_refresh_token($chain, $access) if $scope{offline_access};
        $answer{id_token}      = $self->_id_token($chain, $access)      if $scope{openid};
        return _with_overrides(\%answer, $option->{token_answer});
    }

    sub _refresh_token ($self, $chain, $access) {
        my $refresh = $self->_mint(refresh_token => 'ory_rt_');
        $self->{refresh}{$refresh} =
            { chain => $chain, access => $access, expires => $self->_now + $self->{option}{refresh_life}, uses => 0 };
        return $refresh;
    }

    # Shaped like the example in Qonto's docs (RS256, kid "private:..."); the signature is random,
    # as no key of Qonto's is published.
    sub _id_token ($self, $chain, $access) {
        my $now    = int $self->_now;
        my %claims = (
            iss     => $self->{option}{issuer}, sub => $chain->{sub}, email => $chain->{email},
            aud     => [$chain->{client_id}], iat => $now, exp => $now + $self->{option}{access_life},
            rat     => $chain->{requested_at}, auth_time => $chain->{auth_time}, sid => $chain->{sid},
            jti     => stable_uuid($access), at_hash => encode_base64url(substr sha256($access), 0, 16),
        );
        $claims{nonce} = $chain->{nonce} if defined $chain->{nonce};
        my %head = (alg => 'RS256', typ => 'JWT', kid => 'private:' . stable_uuid('stand-in key'));
        my $jwt = join '.', map { encode_base64url($_) } to_json(\%head),
            to_json(_with_overrides(\%claims, $self->{option}{id_token_claims})), random_bytes(256);
        push $self->{issued}{id_token}->@*, $jwt;
        return $jwt;
    }

    # For tests of strange answers: a given value replaces, undef removes.
    sub _with_overrides ($answer, $override) {
        my %merged = ($answer->%*, ($override // {})->%*);
        delete @merged{ grep { !defined $merged{$_} } keys %merged };
        return \%merged;
    }

    sub chain_of_access ($self, $text) {
        my $token = $self->{access}{ $text // '' } or return undef;
        return $self->_now < $token->{expires} ? $token->{chain} : undef;
    }

    # RFC 7009; Hydra: either token ends its whole chain, an unknown one is no error.
    sub revoke ($self, $form) {
        my $text  = $form->{token} // '';
        my $token = $self->{access}{$text} // $self->{refresh}{$text} or return;
        $self->revoke_chain($token->{chain}) if $token->{chain}{client_id} eq $form->{client_id};
        return;
    }

    sub revoke_chain ($self, $chain) {
        $chain->{revoked} = 1;
        my $access = $self->{access};
        delete $access->@{ grep { $access->{$_}{chain} == $chain } keys $access->%* };
        return;
    }

    # Qonto docs, DELETE /v2/oauth2/consents: ends everything this membership granted to this client.
    sub revoke_consents ($self, $chain) {
        for my $other ($self->{chains}->@*) {
            $self->revoke_chain($other)
                if $other->{client_id} eq $chain->{client_id}
                && $other->{membership}{id} eq $chain->{membership}{id};
        }
        return;
    }
}

# ---------------------------------------------------------------------------
# Pages a person sees in mode "page": log-in, organization and consent.
# ---------------------------------------------------------------------------
package Qonto::StandIn::Pages {
    use Exporter qw(import);
    BEGIN { Qonto::StandIn::Tools->import(qw(html_text)) }

    BEGIN { our @EXPORT_OK = qw(consent_page dead_end_page onelogin_page sign_in_page) }

    my %SCOPE_MEANING = (
        'attachment.read'       => 'See attachments',
        'attachment.write'      => 'Add attachments',
        'card.read'             => 'See cards',
        'client.read'           => 'See clients',
        'client_invoices.read'  => 'See client invoices',
        'client_invoice.write'  => 'Write client invoices',
        'membership.read'       => 'See the members of the organization',
        'offline_access'        => 'Stay connected while you are away',
        'openid'                => 'Know who you are',
        'organization.read'     => 'See the organization, its accounts and transactions',
        'payment.write'         => 'Make payments',
        'supplier_invoice.read' => 'See supplier invoices',
    );

    my $STYLE = <<'CSS';
:root{color-scheme:light dark;--page:#f4f3f0;--card:#fff;--text:#1d1d1b;--soft:#5c5b57;--line:#8a8984;--accent:#5b3df5;--on-accent:#fff;--note:#fff4d6;--note-text:#4d3b00;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--page:#161618;--card:#222226;--text:#f2f1ee;--soft:#b9b7b1;--line:#8f8d88;--accent:#b3a5ff;--on-accent:#19123f;--note:#3a3014;--note-text:#ffe7a6;--bad:#ffb4ab}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;background:var(--page);color:var(--text);font:1rem/1.5 system-ui,sans-serif;display:flex;flex-direction:column}
.note{margin:0;padding:.6rem 1rem;background:var(--note);color:var(--note-text);text-align:center;font-size:.9rem}
main{width:100%;max-width:28rem;margin:auto;padding:1rem}
.card{background:var(--card);border-radius:1rem;padding:1.75rem;box-shadow:0 1px 3px rgb(0 0 0/.2)}
h1{font-size:1.4rem;line-height:1.25;margin:0 0 .5rem}
h2{font-size:1rem;margin:1.5rem 0 .25rem}
p{margin:.25rem 0 1rem}.soft{color:var(--soft)}
label{display:block;font-weight:600;margin:1rem 0 .3rem}
input[type=email],input[type=password]{width:100%;padding:.7rem;font:inherit;color:inherit;background:transparent;border:1px solid var(--line);border-radius:.5rem}
fieldset{border:0;margin:1.25rem 0 0;padding:0}legend{font-weight:600;padding:0;margin-bottom:.4rem}
.choice{display:flex;gap:.75rem;align-items:center;font-weight:400;margin:0 0 .5rem;padding:.75rem;border:1px solid var(--line);border-radius:.5rem;cursor:pointer}
.choice small,li small{color:var(--soft);display:block;overflow-wrap:anywhere}
input[type=radio]{accent-color:var(--accent);width:1.1rem;height:1.1rem;flex:none}
ul{margin:.25rem 0 0;padding-left:1.2rem}
.buttons{display:flex;flex-wrap:wrap;gap:.75rem;margin-top:1.5rem}
button{flex:1 1 8rem;padding:.75rem 1rem;font:inherit;font-weight:600;border-radius:.5rem;border:1px solid var(--accent);cursor:pointer;background:var(--accent);color:var(--on-accent)}
button.quiet{background:transparent;color:inherit;border-color:var(--line)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
.bad{color:var(--bad);font-weight:600}
CSS

    sub _page ($title, $content) {
        return <<"HTML";
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>$title - stand-in for Qonto</title>
<style>
$STYLE</style>
</head>
<body>
<p class="note" role="note">This is a stand-in, not Qonto. Nothing you type here leaves this computer.</p>
<main><div class="card">
$content</div></main>
</body>
</html>
HTML
    }

    sub _alert ($problem) {
        return $problem ? qq{<p class="bad" role="alert">} . html_text($problem) . "</p>\n" : '';
    }

    sub sign_in_page ($flow, $email, $problem = undef) {
        my ($id, $shown_email, $alert) = (html_text($flow->{id}), html_text($email), _alert($problem));
        return _page('Log in', <<"HTML");
<h1>Log in</h1>
<p class="soft">Any e-mail address and any password will do.</p>
$alert<form method="post" action="/signin">
<input type="hidden" name="flow" value="$id">
<label for="email">E-mail address</label>
<input id="email" name="email" type="email" required autocomplete="username" value="$shown_email">
<label for="password">Password</label>
<input id="password" name="password" type="password" required autocomplete="current-password" value="stand-in">
<div class="buttons"><button type="submit">Log in</button></div>
</form>
HTML
    }

    # $chosen: the organization preselected by the authorization request, if any.
    sub consent_page ($flow, $email, $organizations, $chosen, $problem = undef) {
        my ($id, $client) = (html_text($flow->{id}), html_text($flow->{client_id}));
        my ($person, $alert) = (html_text($email), _alert($problem));
        my $choice = $chosen ? _fixed_organization($chosen) : _organization_choice($organizations);
        my $scopes = join '', map { _scope_line($_) } $flow->{scopes}->@*;
        return _page('Authorize', <<"HTML");
<h1>Connect to Qonto?</h1>
<p class="soft">Application <strong>$client</strong> asks for access. You are logged in as $person.</p>
$alert<form method="post" action="/consent">
<input type="hidden" name="flow" value="$id">
$choice<h2 id="scopes">It will be able to</h2>
<ul aria-labelledby="scopes">
$scopes</ul>
<div class="buttons">
<button type="submit" name="decision" value="authorize">Authorize</button>
<button type="submit" name="decision" value="refuse" class="quiet">Refuse</button>
</div>
</form>
HTML
    }

    sub _fixed_organization ($organization) {
        my ($id, $name) = map { html_text($_) } $organization->@{qw(id legal_name)};
        return qq{<h2>Organization</h2>\n<p>$name</p>\n<input type="hidden" name="organization" value="$id">\n};
    }

    sub _organization_choice ($organizations) {
        my $checked = ' checked';
        my $choices = '';
        for my $organization ($organizations->@*) {
            my ($id, $name, $slug) = map { html_text($_) } $organization->@{qw(id legal_name slug)};
            $choices .= qq{<label class="choice"><input type="radio" name="organization" value="$id" required$checked>}
                . qq{<span>$name<small>$slug</small></span></label>\n};
            $checked = '';
        }
        return "<fieldset>\n<legend>Choose an organization</legend>\n$choices</fieldset>\n";
    }

    sub _scope_line ($scope) {
        my $name    = html_text($scope);
        my $meaning = $SCOPE_MEANING{$scope} or return "<li>$name</li>\n";
        return "<li>$meaning<small>$name</small></li>\n";
    }

    sub dead_end_page ($title, $text) {
        my ($heading, $shown) = (html_text($title), html_text($text));
        return _page($heading, "<h1>$heading</h1>\n<p>$shown</p>\n");
    }

    # What stands before the whole sandbox when the staging token is missing.
    sub onelogin_page {
        return <<'HTML';
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>OneLogin</title></head>
<body><h1>OneLogin</h1>
<p>Please log in to reach the staging environment. (A stand-in: nothing to log in to here.)</p></body></html>
HTML
    }
}

# ---------------------------------------------------------------------------
# Faults: what can go wrong on the way. Each entry gets the fault's arguments and a function that
# produces the genuine answer (and so spends the code, rotates the token, ...), and returns a plan:
#   { answer, after => seconds of silence first, interval => seconds between single bytes,
#     missing => bytes never sent, silent => seconds, then close without a word, reset => RST, drop => FIN }
# ---------------------------------------------------------------------------
package Qonto::StandIn::Faults {
    BEGIN {
        Qonto::StandIn::Answer->import(qw(answer api_error html_page is_oauth_error json_answer oauth_error redirect));
        Qonto::StandIn::Pages->import(qw(onelogin_page));
    }

    my %PLAN = (
        hang  => sub ($fault, $genuine) { return { silent => $fault->{seconds} // 120 } },
        rst   => sub ($fault, $genuine) { return { reset => 1 } },
        slow  => sub ($fault, $genuine) { return { answer => $genuine->(), after => $fault->{seconds} // 2 } },
        drip  => sub ($fault, $genuine) { return { answer => $genuine->(), interval => $fault->{interval} // 0.05 } },
        empty => sub ($fault, $genuine) { return { answer => answer(200, 'application/json', '') } },
        html  => sub ($fault, $genuine) { return { answer => html_page(200, onelogin_page()) } },
        lost_answer => sub ($fault, $genuine) { $genuine->(); return { drop => 1 } },
        truncated   => sub ($fault, $genuine) {
            my $answer = $genuine->();
            return { answer => $answer, missing => $fault->{missing} // int(length($answer->{body}) / 2) };
        },
        redirect => sub ($fault, $genuine) {
            return { answer => redirect($fault->{status} // 302, $fault->{to} // '/elsewhere') };
        },
        wrong_type => sub ($fault, $genuine) {
            my $answer = $genuine->();
            $_->[0] eq 'Content-Type' and $_->[1] = $fault->{type} // 'text/plain' for $answer->{headers}->@*;
            return { answer => $answer };
        },
        bad_json => sub ($fault, $genuine) {
            return { answer => answer(200, 'application/json;charset=UTF-8', '{"access_token":"ory_at_') };
        },
        nontoken => sub ($fault, $genuine) { return { answer => json_answer(200, { status => 'ok' }) } },
        huge     => \&_huge,
        concurrent => sub ($fault, $genuine) {
            return { answer => oauth_error(invalid_request =>
                    'Failed to refresh token because of multiple concurrent requests using the same token. Please retry the request.') };
        },
    );

    # A genuine answer that a client without a size limit would accept: padded, still valid JSON.
    sub _huge ($fault, $genuine) {
        my $answer  = $genuine->();
        my ($start, $end) = (',"padding":"', '"}');
        my $missing = ($fault->{bytes} // 10_000_000) - length($answer->{body} . $start . $end) + 1;
        $answer->{body} =~ s/\}\z/$start . 'x' x $missing . $end/e if $missing > 0;
        $answer->{chunked} = $fault->{chunked} ? 1 : 0;
        return { answer => $answer };
    }

    sub _refused ($place, $fault) {
        my $kind = $fault->{kind};
        my @retry = defined $fault->{retry_after} ? (['Retry-After', $fault->{retry_after}]) : ();
        my $answer
            = is_oauth_error($kind) ? oauth_error($kind, $fault->{hint}, $fault->{status})
            : $place =~ /^(?:organization|membership|consents)$/
            ? api_error($kind, "http_$kind", $fault->{hint} // 'Fault on request.')
            : $kind == 429
            ? json_answer(429, { error => 'too_many_requests', error_description => 'Rate limit exceeded.' })
            : oauth_error($kind < 500 ? 'invalid_request' : 'server_error', $fault->{hint}, $kind);
        push $answer->{headers}->@*, @retry;
        return { answer => $answer };
    }

    sub is_known ($kind) {
        return $kind eq 'none' || $PLAN{$kind} || $kind =~ /^[45]\d\d$/ || is_oauth_error($kind);
    }

    sub plan ($place, $fault, $genuine) {
        my $make = $PLAN{ $fault->{kind} } or return _refused($place, $fault);
        return $make->($fault, $genuine);
    }
}

# ---------------------------------------------------------------------------
# Connection: one client, never blocking. It reads one request, hands it over and carries out
# the plan it gets back, so that any number of slow or silent answers cost nothing to the others.
# ---------------------------------------------------------------------------
package Qonto::StandIn::Connection {
    use Errno       qw(EAGAIN EINTR EWOULDBLOCK);
    use IO::Poll    qw(POLLIN POLLOUT);
    use POSIX       qw(strftime);
    use Socket      qw(SOL_SOCKET SO_LINGER);
    use Time::HiRes ();

    use constant {
        CHUNK        => 65_536,
        HEAD_LIMIT   => 65_536,
        BODY_LIMIT   => 1_048_576,
        READ_SECONDS => 10,
    };

    my %REASON = (
        200 => 'OK', 204 => 'No Content', 302 => 'Found', 303 => 'See Other', 307 => 'Temporary Redirect',
        308 => 'Permanent Redirect', 400 => 'Bad Request', 401 => 'Unauthorized', 403 => 'Forbidden',
        404 => 'Not Found', 405 => 'Method Not Allowed', 411 => 'Length Required', 413 => 'Content Too Large',
        429 => 'Too Many Requests', 431 => 'Request Header Fields Too Large', 500 => 'Internal Server Error',
        502 => 'Bad Gateway', 503 => 'Service Unavailable', 504 => 'Gateway Timeout',
    );

    # Waiting uses a clock that cannot be set; the server's own clock can (see "advance").
    sub _monotonic { return Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }

    # on_request->($connection, $request) returns the plan; on_close->($connection) is told the end.
    sub new ($class, %arg) {
        return bless {
            %arg{qw(socket on_request on_close clock)},
            step => $arg{tls} ? 'shake_hands' : 'read_request', wants => POLLIN,
            in   => '', out => '', due => _monotonic() + READ_SECONDS,
        }, $class;
    }

    sub handle  ($self) { return $self->{socket} }
    sub wants   ($self) { return $self->{wants} }
    sub is_open ($self) { return defined $self->{socket} }

    sub seconds_left ($self) {
        my $left = $self->{due} - _monotonic();
        return $left > 0 ? $left : 0;
    }

    # Called when the socket is ready.
    sub ready ($self) {
        my $step = $self->{step};
        return $self->$step;
    }

    # Called often; acts when the time has come.
    sub tick ($self) {
        return if !$self->is_open || $self->seconds_left > 0;
        my $next = $self->{when_due} // 'hang_up';
        return $self->$next;
    }

    sub hang_up ($self) {
        my $socket = delete $self->{socket} or return;
        $self->{on_close}->($self, $socket);
        close $socket;
        return;
    }

    # RST in place of FIN.
    sub hang_up_hard ($self) {
        setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
        return $self->hang_up;
    }

    sub _would_block { return $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR }

    sub shake_hands ($self) {
        if ($self->{socket}->accept_SSL) {
            $self->{step} = 'read_request';
            return $self->read_request;
        }
        return $self->hang_up if !_would_block();
        no warnings 'once';    # IO::Socket::SSL is loaded only when TLS is asked for
        $self->{wants} = $IO::Socket::SSL::SSL_ERROR == IO::Socket::SSL::SSL_WANT_WRITE() ? POLLOUT : POLLIN;
        return;
    }

    # Reads what there is; returns false when the client has gone.
    sub _fill ($self) {
        while (1) {
            my $got = sysread $self->{socket}, $self->{in}, CHUNK, length $self->{in};
            return _would_block() if !defined $got;
            return 0 if $got == 0;
            return 1 if length $self->{in} > HEAD_LIMIT + BODY_LIMIT;
        }
    }

    sub read_request ($self) {
        $self->{wants} = POLLIN;
        my $alive = $self->_fill;
        my ($request, $refusal) = $self->_parse;
        return $self->carry_out({ answer => _bare($refusal) }) if $refusal;
        return $self->carry_out($self->{on_request}->($self, $request)) if $request;
        return $alive ? () : $self->hang_up;
    }

    sub _bare ($status) { return { status => $status, headers => [], body => '' } }

    # Returns the request when it is complete, or a status to refuse it with.
    sub _parse ($self) {
        my $end = index $self->{in}, "\r\n\r\n";
        return undef, length $self->{in} > HEAD_LIMIT ? 431 : undef if $end < 0;
        my ($first, @headers) = split /\r\n/, substr $self->{in}, 0, $end;
        my ($method, $target, $version) = ($first // '') =~ m{^([A-Z]+) (/\S*) (HTTP/1\.[01])$} or return undef, 400;
        return undef, 411 if grep {/^Transfer-Encoding:/i} @headers;
        my ($length) = map { /^Content-Length:\s*(\d+)\s*$/i ? $1 : () } @headers, 'Content-Length: 0';
        return undef, 413 if $length > BODY_LIMIT;
        my $body = substr $self->{in}, $end + 4, $length;
        return $self->_continue(@headers) if length $body < $length;
        my ($path, $query) = split /\?/, $target, 2;
        return {
            method => $method, target => $target, path => $path, query => $query // '',
            http   => $version, headers => \@headers, body => $body,
        };
    }

    # RFC 9110 section 10.1.1: curl waits for this before it sends a long body.
    sub _continue ($self, @headers) {
        syswrite $self->{socket}, "HTTP/1.1 100 Continue\r\n\r\n"
            if !$self->{continued}++ && grep {/^Expect:\s*100-continue/i} @headers;
        return;
    }

    sub carry_out ($self, $plan) {
        return $self->hang_up_hard if $plan->{reset};
        return $self->hang_up if $plan->{drop};
        return $self->_wait($plan->{silent}, 'hang_up') if defined $plan->{silent};
        $self->{out} = $self->_render($plan);
        if (defined $plan->{interval}) {
            $self->{interval} = $plan->{interval};
            return $self->drip;
        }
        return $self->_wait($plan->{after}, '_start_writing') if $plan->{after};
        return $self->_start_writing;
    }

    sub _render ($self, $plan) {
        my $answer = $plan->{answer};
        my $body   = $answer->{body};
        my @head   = (
            'HTTP/1.1 ' . $answer->{status} . ' ' . ($REASON{ $answer->{status} } // 'Unknown'),
            strftime('Date: %a, %d %b %Y %H:%M:%S GMT', gmtime $self->{clock}->()),
            map({"$_->[0]: $_->[1]"} $answer->{headers}->@*),
            $answer->{chunked} ? 'Transfer-Encoding: chunked' : 'Content-Length: ' . length $body,
            'Connection: close',
        );
        $body = _chunks($body) if $answer->{chunked};
        my $wire = join("\r\n", @head, '', '') . $body;
        utf8::encode($wire) if !utf8::downgrade($wire, 1);
        substr $wire, -$plan->{missing}, $plan->{missing}, '' if $plan->{missing};
        return $wire;
    }

    sub _chunks ($body) {
        my $wire = '';
        for (my $at = 0; $at < length $body; $at += CHUNK) {
            my $chunk = substr $body, $at, CHUNK;
            $wire .= sprintf "%x\r\n%s\r\n", length $chunk, $chunk;
        }
        return "${wire}0\r\n\r\n";
    }

    # Until the time comes the only thing to hear from the client is that it went away.
    sub _wait ($self, $seconds, $then) {
        $self->@{qw(step wants due when_due)} = ('watch', POLLIN, _monotonic() + $seconds, $then);
        return;
    }

    sub watch ($self) {
        $self->{in} = '';
        return if $self->_fill;
        $self->{aborted} = 1;
        return $self->hang_up;
    }

    sub _start_writing ($self) {
        $self->@{qw(step wants due when_due)} = ('write_on', POLLOUT, _monotonic() + 120, 'hang_up');
        return $self->write_on;
    }

    sub write_on ($self) {
        while (length $self->{out}) {
            my $sent = syswrite $self->{socket}, $self->{out}, CHUNK;
            if (!defined $sent) {
                return if _would_block();
                $self->{aborted} = 1;
                last;
            }
            substr $self->{out}, 0, $sent, '';
        }
        return $self->hang_up;
    }

    sub drip ($self) {
        my $sent = syswrite $self->{socket}, $self->{out}, 1;
        $self->{aborted} = 1 if !defined $sent && !_would_block();
        substr $self->{out}, 0, 1, '' if $sent;
        return $self->hang_up if $self->{aborted} || !length $self->{out};
        return $self->_wait($self->{interval}, 'drip');
    }
}

# ---------------------------------------------------------------------------
# Server: the loop, the endpoints, the counters and the control plane.
# ---------------------------------------------------------------------------
package Qonto::StandIn::Server {
    use Digest::SHA     qw(sha1);
    use IO::Poll        ();
    use List::Util      qw(first max min);
    use Socket          qw(IPPROTO_TCP TCP_NODELAY);
    use Time::HiRes     ();
    BEGIN {
        Qonto::StandIn::Answer->import(
            qw(api_error description html_page is_oauth_error json_answer oauth_error redirect));
        Qonto::StandIn::Pages->import(qw(consent_page dead_end_page onelogin_page sign_in_page));
        Qonto::StandIn::Refusal->import(qw(refuse));
        Qonto::StandIn::Tools->import(
            qw(from_json header_value parse_form query_string random_bytes stable_uuid to_json token_text));
    }

    # Hydra's default for an unfinished log-in (ttl.login_consent_request).
    use constant FLOW_SECONDS => 1800;

    my %ENDPOINT = (
        '/oauth2/auth'        => { place => 'authorize',    serve => '_authorize' },
        '/oauth2/token'       => { place => 'token',        serve => '_token',        gated => 1 },
        '/oauth2/revoke'      => { place => 'revoke',       serve => '_revoke',       gated => 1 },
        '/v2/organization'    => { place => 'organization', serve => '_organization', gated => 1 },
        '/v2/membership'      => { place => 'membership',   serve => '_membership',   gated => 1 },
        '/v2/oauth2/consents' => { place => 'consents',     serve => '_consents',     gated => 1 },
        '/continue'           => { place => 'pages',        serve => '_continue' },
        '/signin'             => { place => 'pages',        serve => '_sign_in' },
        '/consent'            => { place => 'pages',        serve => '_consent' },
        '/onelogin/login'     => { place => 'onelogin',     serve => '_onelogin' },
        '/elsewhere'          => { place => 'elsewhere',    serve => '_elsewhere' },
    );

    my %CONTROL = (
        'GET counters' => sub ($self, $query)   { return $self->_counters },
        'GET issued'   => sub ($self, $query)   { return $self->{grants}->issued },
        'GET last'     => sub ($self, $query)   { return $self->{last}{ $query->{place} // '' } },
        'GET refreshes' => sub ($self, $query)  { return $self->{refreshes} },
        'POST reset'   => sub ($self, $wish)    { $self->_reset;        return {} },
        'POST set'     => sub ($self, $wish)    { $self->_set($wish);   return {} },
        'POST advance' => sub ($self, $wish)    { $self->{option}{clock_offset} += $wish->{seconds}; return {} },
        'POST fault'   => sub ($self, $wish)    { $self->_fault($wish); return {} },
    );

    my @COUNTERS = qw(authorize token token_code token_refresh token_next_secret revoke organization membership
        consents pages onelogin elsewhere other api_401 gated staging_wrong_case staging_in_production aborted);

    my @FAULT_PLACES = qw(token exchange refresh revoke organization membership consents authorize);

    sub new ($class, $listener, $url, $option) {
        my $self = bless {
            listener => $listener, url => $url, option => $option, connection => {},
            flow     => {}, session => {}, poll => IO::Poll->new, open_token_calls => 0,
        }, $class;
        $option->{issuer} //= $url;
        $self->{clock}  = sub { return $self->_now };
        $self->{grants} = Qonto::StandIn::Grants->new($option, $self->{clock});
        $self->_reset;
        $self->_prepare_tls if $option->{tls};
        return $self;
    }

    # Real time plus what tests added with "advance".
    sub _now ($self) { return Time::HiRes::time() + $self->{option}{clock_offset} }

    sub _reset ($self) {
        $self->{counter} = { map { $_ => 0 } @COUNTERS };
        $self->{max_parallel_token} = $self->{open_token_calls};
        $self->{fault} = {};
        $self->{last}  = {};
        $self->{refreshes} = [];
        return;
    }

    sub _count ($self, @names) {
        $self->{counter}{$_}++ for @names;
        return;
    }

    sub _counters ($self) {
        return { $self->{counter}->%*, max_parallel_token => $self->{max_parallel_token} };
    }

    # --- the loop ----------------------------------------------------------

    # keep_on->() is asked at least once a second.
    sub run ($self, $keep_on) {
        $self->{listener}->blocking(0);
        $self->{poll}->mask($self->{listener} => IO::Poll::POLLIN());
        while ($keep_on->()) {
            $self->{poll}->poll(min(1, map { $_->seconds_left } values $self->{connection}->%*));
            $self->_accept_all if $self->{poll}->events($self->{listener});
            $self->_serve_ready;
        }
        return;
    }

    sub _serve_ready ($self) {
        my @all = values $self->{connection}->%*;    # a copy: connections end on the way
        for my $connection (@all) {
            $connection->ready if $self->{poll}->events($connection->handle);
            $connection->tick;
            $self->{poll}->mask($connection->handle => $connection->wants) if $connection->is_open;
        }
        return;
    }

    sub _accept_all ($self) {
        while (my $socket = $self->{listener}->accept) {
            $socket->blocking(0);
            setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;    # else dripped bytes are collected
            my $tls = $self->{tls_context};
            $self->_wrap_tls($socket) if $tls;
            my $connection = Qonto::StandIn::Connection->new(
                socket     => $socket,
                tls        => $tls,
                clock      => $self->{clock},
                on_request => sub ($connection, $request) { return $self->_handle($connection, $request) },
                on_close   => sub ($connection, $closing) { $self->_forget($connection, $closing); return },
            );
            $self->{connection}{$connection} = $connection;
            $self->{poll}->mask($socket => $connection->wants);
        }
        return;
    }

    sub _forget ($self, $connection, $socket) {
        $self->{poll}->remove($socket);
        delete $self->{connection}{$connection};
        $self->{open_token_calls}-- if $connection->{token_call};
        $self->_count('aborted')    if $connection->{aborted};
        return;
    }

    sub _prepare_tls ($self) {
        require IO::Socket::SSL;
        my %tls = $self->{option}{tls}->%*;
        my %context = (SSL_server => 1, SSL_cert_file => delete $tls{cert}, SSL_key_file => delete $tls{key}, %tls);
        $self->{tls_context} = IO::Socket::SSL::SSL_Context->new(%context)
            or die 'TLS: ' . IO::Socket::SSL::errstr() . "\n";
        return;
    }

    sub _wrap_tls ($self, $socket) {
        IO::Socket::SSL->start_SSL($socket,
            SSL_server => 1, SSL_startHandshake => 0, SSL_reuse_ctx => $self->{tls_context});
        return;
    }

    # --- one request -------------------------------------------------------

    # Returns the plan for the connection; a mistake in here must not end the server.
    sub _handle ($self, $connection, $request) {
        my $plan = eval { $self->_plan($connection, $request) };
        return $plan if $plan;
        warn "stand-in: $request->{method} $request->{path}: $@";
        return { answer => oauth_error('server_error') };
    }

    sub _plan ($self, $connection, $request) {
        my $control = $request->{path} =~ m{^/_standin/(\w+)$} ? $1 : undef;
        return { answer => $self->_control($control, $request) } if defined $control;
        my $endpoint = $ENDPOINT{ $request->{path} } or return { answer => $self->_not_found };
        my ($place, @narrower) = $self->_note($connection, $endpoint->{place}, $request);
        return { answer => $self->_gate } if $endpoint->{gated} && !$self->_passes_gate($request);
        my $serve   = $endpoint->{serve};
        my $genuine = sub { return $self->_counted($place, $self->$serve($request)) };
        my $plan    = $self->_faulty_plan([@narrower, $place], $request, $genuine) // { answer => $genuine->() };
        if (my $answer = $plan->{answer}) {
            $plan->{after} += $self->{option}{delay} if $place eq 'token' && $self->{option}{delay};
            $self->_count('api_401') if $answer->{status} == 401 && $request->{path} =~ m{^/v2/};
        }
        return $plan;
    }

    sub _not_found ($self) {
        $self->_count('other');
        return json_answer(404, { error => 'not_found', error_description => 'No such page here.' });
    }

    # Counts and remembers; returns the place and, for token calls, the grant.
    sub _note ($self, $connection, $place, $request) {
        my @places = ($place);
        my ($params) = parse_form($request->{body});
        if ($place eq 'token') {
            my $grant = $params->{grant_type} // '';
            push @places, $grant eq 'refresh_token' ? 'refresh' : $grant eq 'authorization_code' ? 'exchange' : ();
            $self->_count({ refresh => 'token_refresh', exchange => 'token_code' }->{ $places[1] }) if $places[1];
            $connection->{token_call} = 1;
            $self->{open_token_calls}++;
            $self->{max_parallel_token} = max($self->{max_parallel_token}, $self->{open_token_calls});
        }
        $self->_count($place);
        my ($query) = parse_form($request->{query});
        my %seen = ($request->%{qw(method path http headers body)}, params => $params, query => $query);
        $self->{last}{$_} = \%seen for @places;
        push $self->{refreshes}->@*, { at => Time::HiRes::time(), $params->%{qw(client_id client_secret refresh_token)} }
            if $places[-1] eq 'refresh';
        say STDERR "$request->{method} $request->{path}" if $self->{option}{log};
        return @places;
    }

    sub _counted ($self, $place, $answer) {
        my $outcome = $answer->{outcome} // ($answer->{status} < 400 ? 'ok' : $answer->{status});
        $self->_count("${place}_$outcome");
        return $answer;
    }

    # --- sandbox gate ------------------------------------------------------

    # Qonto docs, "Sandbox access": without the header the whole staging estate answers with a
    # log-in page (200) or a redirect to it. Its capitals matter there.
    sub _passes_gate ($self, $request) {
        my $expected = $self->{option}{staging_token};
        my @lines    = grep {/^x-qonto-staging-token:/i} $request->{headers}->@*;
        my ($value)  = map { /^X-Qonto-Staging-Token:\s*(.*?)\s*$/ ? $1 : () } @lines;
        $self->_count('staging_in_production') if @lines && !defined $expected;
        return 1 if !defined $expected;
        $self->_count('staging_wrong_case') if @lines && !defined $value;
        return defined $value && $value eq $expected;
    }

    sub _gate ($self) {
        $self->_count('gated');
        return $self->{option}{gate} eq 'redirect'
            ? redirect(302, "$self->{url}/onelogin/login")
            : $self->_onelogin;
    }

    sub _onelogin  ($self, $request = undef) { return html_page(200, onelogin_page()) }
    sub _elsewhere ($self, $request)         { return json_answer(200, { elsewhere => 1 }) }

    # --- faults ------------------------------------------------------------

    sub _faulty_plan ($self, $places, $request, $genuine) {
        my $place = first { $self->{fault}{$_} } $places->@* or return undef;
        my $fault = $self->{fault}{$place};
        delete $self->{fault}{$place} if defined $fault->{times} && --$fault->{times} <= 0;
        $self->_count("$places->[-1]_fault_$fault->{kind}");
        return { answer => $self->_error_by_redirect($request, $fault) }
            if $place eq 'authorize' && is_oauth_error($fault->{kind});
        return Qonto::StandIn::Faults::plan($places->[-1], $fault, $genuine);
    }

    sub _error_by_redirect ($self, $request, $fault) {
        my ($params) = parse_form($request->{query});
        my $problem = $self->_where_to($params);
        return $problem // $self->_to_callback($params,
            error => $fault->{kind}, error_description => description($fault->{kind}, $fault->{hint}));
    }

    # --- authorization endpoint --------------------------------------------

    sub _authorize ($self, $request) {
        my ($params, $repeated) = parse_form($request->{method} eq 'POST' ? $request->{body} : $request->{query});
        my $problem = $self->_where_to($params);
        return $problem if $problem;
        return Qonto::StandIn::Refusal::caught(
            sub { return $self->_begin($request, $self->_checked_flow($params, $repeated)) },
            sub ($refusal) { return $self->_error_to_callback($params, $refusal) },
        );
    }

    # Only with a known client and callback may an error be sent to the callback (RFC 6749 section 4.1.2.1).
    sub _where_to ($self, $params) {
        my $client = $self->{grants}->client($params->{client_id});
        return json_answer(404, { error => 'not_found', error_description => 'Client not found' }) if !$client;
        my $uri = $params->{redirect_uri} // '';
        return undef if _allowed_callback($client->{redirect_uris}, $uri);
        return oauth_error(invalid_request =>
                q{The 'redirect_uri' parameter does not match any of the OAuth 2.0 Client's pre-registered redirect urls.});
    }

    # Hydra: strings are compared; plain http is for the own computer; only for an IP literal may the port vary.
    sub _allowed_callback ($registered, $uri) {
        my ($scheme, $host) = $uri =~ m{^(https?)://(\[[^\]]+\]|[^:/?\#\s]+)(?::\d+)?(?:[/?][^\#\s]*)?$} or return 0;
        my $loopback_ip = $host =~ /^(?:127\.\d+\.\d+\.\d+|\[::1\])$/;
        return 0 if $scheme eq 'http' && !$loopback_ip && $host !~ /^(?:.+\.)?localhost$/;
        return 1 if !defined $registered;
        return 1 if grep { $_ eq $uri } $registered->@*;
        return 0 if !$loopback_ip;
        my $without_port = $uri =~ s/^(https?:\/\/\Q$host\E):\d+/$1/r;
        return scalar grep { s/^(https?:\/\/\Q$host\E):\d+/$1/r eq $without_port } $registered->@*;
    }

    sub _checked_flow ($self, $params, $repeated) {
        refuse(invalid_request => "Parameter '$repeated->[0]' came more than once.") if $repeated->@*;
        refuse(invalid_state =>
                q{Request parameter 'state' must be at least be 8 characters long to ensure sufficient entropy.})
            if length($params->{state} // '') < 8;
        refuse('unsupported_response_type') if ($params->{response_type} // '') ne 'code';
        my @scopes = split ' ', $params->{scope} // '';
        $self->{grants}->check_scopes(@scopes);
        $self->_check_challenge($params);
        my @bad = grep { !/^(?:login|none|consent|select_account)$/ } split ' ', $params->{prompt} // '';
        refuse(invalid_request => q{Used unknown value in 'prompt'.}) if @bad;
        return { $params->%*, scopes => \@scopes };
    }

    # Hydra: S256 only; a challenge without a method means "plain", which is off.
    sub _check_challenge ($self, $params) {
        if (!defined $params->{code_challenge}) {
            refuse(invalid_request =>
                    'Clients must include a code_challenge when performing the authorize code flow, but it is missing.')
                if $self->{option}{pkce} eq 'required';
            return;
        }
        refuse(invalid_request => 'Clients must use code_challenge_method=S256, plain is not allowed.')
            if ($params->{code_challenge_method} // 'plain') ne 'S256';
        return;
    }

    sub _error_to_callback ($self, $params, $refusal) {
        my $answer = $self->_to_callback($params,
            error => $refusal->{error}, error_description => description($refusal->@{qw(error hint)}));
        $answer->{outcome} = $refusal->{error};
        return $answer;
    }

    # Hydra: a query already inside redirect_uri is kept.
    sub _to_callback ($self, $params, %value) {
        my $uri = $params->{redirect_uri};
        my $join = $uri =~ /\?/ ? '&' : '?';
        return redirect($self->{option}{redirect_status},
            $uri . $join . query_string(%value, state => $params->{state}));
    }

    sub _begin ($self, $request, $flow) {
        my $option = $self->{option};
        refuse($option->{refuse_error}, $option->{refuse_hint}) if $option->{mode} eq 'refuse';
        my $auto = $option->{mode} eq 'auto';
        return $self->_allow($flow, $self->_default_visitor($flow)) if $auto && !$option->{csrf_collision};
        my $next   = $auto ? 'continue' : $self->_first_page($request, $flow);
        my @cookie = $self->_open_flow($flow);
        return redirect(302, "$self->{url}/$next?" . query_string(flow => $flow->{id}), @cookie);
    }

    # OpenID Connect Core 3.1.2.1, "prompt".
    sub _first_page ($self, $request, $flow) {
        my %prompt  = map { $_ => 1 } split ' ', $flow->{prompt} // '';
        my $session = $self->_session($request);
        refuse('login_required') if $prompt{none} && !$session;
        return 'continue' if $prompt{none};
        return $session && !$prompt{login} ? 'consent' : 'signin';
    }

    # Hydra issue 3757: the anti-CSRF cookie has one name per client, so the later of two flows
    # in one browser overwrites the earlier one's.
    sub _open_flow ($self, $flow) {
        $flow->{id}      = token_text('flow_');
        $flow->{csrf}    = unpack 'H*', random_bytes(16);
        $flow->{expires} = $self->_now + FLOW_SECONDS;
        $self->{flow}{ $flow->{id} } = $flow;
        return ['Set-Cookie', _csrf_cookie_name($flow) . "=$flow->{csrf}; Path=/; HttpOnly; SameSite=Lax"];
    }

    sub _csrf_cookie_name ($flow) {
        return 'ory_hydra_consent_csrf_' . unpack 'N', sha1($flow->{client_id});
    }

    sub _cookie ($request, $name) {
        my $all = header_value($request, 'Cookie') // '';
        my ($value) = map { /^\s*\Q$name\E=(.*)$/ ? $1 : () } split /;/, $all;
        return $value;
    }

    sub _check_csrf ($self, $request, $flow) {
        return if !$self->{option}{csrf_collision};
        my $got = _cookie($request, _csrf_cookie_name($flow))
            // refuse(request_forbidden => 'No CSRF value available in the session cookie.');
        refuse(request_forbidden => 'The CSRF value from the token does not match the CSRF value from the data store.')
            if $got ne $flow->{csrf};
        return;
    }

    # Ends the flow: with a code, or with the refusal that $check throws.
    sub _finish ($self, $request, $flow, $visitor, $check) {
        delete $self->{flow}{ $flow->{id} };
        return Qonto::StandIn::Refusal::caught(
            sub { $self->_check_csrf($request, $flow); $check->(); return $self->_allow($flow, $visitor) },
            sub ($refusal) { return $self->_error_to_callback($flow, $refusal) },
        );
    }

    sub _default_visitor ($self, $flow) {
        return {
            organization => $self->_preselected($flow) // $self->{option}{organizations}[0],
            email        => $self->{option}{membership}{email}, auth_time => $self->_now,
        };
    }

    # Qonto docs: organization_id or registration_id skips the organization choice.
    sub _preselected ($self, $flow) {
        return first {
            defined $flow->{organization_id} && $flow->{organization_id} eq $_->{id}
                || defined $flow->{registration_id} && $flow->{registration_id} eq ($_->{registration_id} // '')
        } $self->{option}{organizations}->@*;
    }

    # Qonto docs: the success redirect also carries the granted scope.
    sub _allow ($self, $flow, $visitor) {
        my ($code, $scopes) = $self->{grants}->issue_code($flow, $visitor);
        return $self->_to_callback($flow, code => $code, scope => join(' ', $scopes->@*));
    }

    # --- pages -------------------------------------------------------------

    sub _continue ($self, $request) {
        my $flow = $self->_flow($request) or return $self->_expired_flow;
        my $visitor = $self->_default_visitor($flow);
        $visitor->@{qw(email auth_time)} = $_->@{qw(email auth_time)} for $self->_session($request) // ();
        return $self->_finish($request, $flow, $visitor, sub { });
    }

    sub _flow ($self, $request) {
        my ($params) = parse_form($request->{method} eq 'POST' ? $request->{body} : $request->{query});
        my $flow = $self->{flow}{ $params->{flow} // '' } or return undef;
        return $self->_now < $flow->{expires} ? $flow : undef;
    }

    sub _expired_flow ($self) {
        return html_page(400, dead_end_page('Start again',
                'This log-in is finished or too old. Please start again from the application.'));
    }

    sub _session ($self, $request) {
        return $self->{session}{ _cookie($request, 'standin_session') // '' };
    }

    sub _sign_in ($self, $request) {
        my $flow = $self->_flow($request) or return $self->_expired_flow;
        my ($params) = parse_form($request->{body});
        my $email = $params->{email} // $self->{option}{membership}{email};
        utf8::decode($email);
        return html_page(200, sign_in_page($flow, $email)) if $request->{method} ne 'POST';
        return html_page(422, sign_in_page($flow, $email, 'Please give an e-mail address and a password.'))
            if $email !~ /^[^\s@]+@[^\s@]+$/ || !length($params->{password} // '');
        my $id = token_text('session_');
        $self->{session}{$id} = { email => $email, auth_time => $self->_now };
        return redirect(303, "$self->{url}/consent?" . query_string(flow => $flow->{id}),
            ['Set-Cookie', "standin_session=$id; Path=/; HttpOnly; SameSite=Lax"]);
    }

    sub _consent ($self, $request) {
        my $flow    = $self->_flow($request) or return $self->_expired_flow;
        my $session = $self->_session($request)
            or return redirect(303, "$self->{url}/signin?" . query_string(flow => $flow->{id}));
        my $organizations = $self->{option}{organizations};
        my $preselected   = $self->_preselected($flow);
        my $page = sub ($status, $problem) {
            return html_page($status, consent_page($flow, $session->{email}, $organizations, $preselected, $problem));
        };
        return $page->(200, undef) if $request->{method} ne 'POST';
        my ($params) = parse_form($request->{body});
        return $self->_finish($request, $flow, undef, sub { refuse('access_denied') })
            if ($params->{decision} // '') eq 'refuse';
        my $organization = first { $_->{id} eq ($params->{organization} // '') } $organizations->@*
            or return $page->(422, 'Please choose an organization.');
        return $self->_finish($request, $flow, { $session->%*, organization => $organization }, sub { });
    }

    # --- token and revocation endpoints ------------------------------------

    sub _token ($self, $request) {
        return $self->_client_call($request, sub ($form) {
            my $grant = $form->{grant_type} // '';
            return json_answer(200, $self->{grants}->exchange($form)) if $grant eq 'authorization_code';
            return json_answer(200, $self->{grants}->refresh($form))  if $grant eq 'refresh_token';
            refuse($grant eq '' ? 'invalid_request' : 'unsupported_grant_type');
        });
    }

    sub _revoke ($self, $request) {
        return $self->_client_call($request, sub ($form) {
            $self->{grants}->revoke($form);
            return { status => 200, headers => [['Cache-Control', 'no-store']], body => '' };
        });
    }

    # What both endpoints ask of a call before anything else.
    sub _client_call ($self, $request, $work) {
        return Qonto::StandIn::Refusal::caught(
            sub {
                my $form  = _form_of($request);
                my $which = $self->{grants}->authenticate($form);
                $self->_count('token_next_secret') if $which eq 'next_secret' && $request->{path} eq '/oauth2/token';
                return $work->($form);
            },
            sub ($refusal) { return oauth_error($refusal->@{qw(error hint)}) },
        );
    }

    sub _form_of ($request) {
        refuse(invalid_request => "HTTP method is '$request->{method}', expected 'POST'.")
            if $request->{method} ne 'POST';
        refuse(invalid_request => 'The POST body must be application/x-www-form-urlencoded.')
            if (header_value($request, 'Content-Type') // '') !~ m{^application/x-www-form-urlencoded\s*(?:;|$)}i;
        # Hydra: one authentication method per client; Qonto's is client_secret_post, for both grants.
        refuse(invalid_client =>
                q{The OAuth 2.0 Client supports client authentication method 'client_secret_post', but method 'client_secret_basic' was requested. You must configure the OAuth 2.0 client's 'token_endpoint_auth_method' value to accept 'client_secret_basic'.})
            if defined header_value($request, 'Authorization');
        my ($form, $repeated) = parse_form($request->{body});
        # RFC 6749 section 3.2: parameters must not be included more than once.
        refuse(invalid_request => "Parameter '$repeated->[0]' came more than once.") if $repeated->@*;
        return $form;
    }

    # --- Qonto's API -------------------------------------------------------

    sub _organization ($self, $request) {
        return $self->_api_call($request, 'GET', 'organization.read', sub ($chain) {
            my %organization = $chain->{organization}->%*;
            delete $organization{registration_id};    # known to the authorization page only
            return json_answer(200, { organization => \%organization });
        });
    }

    sub _membership ($self, $request) {
        return $self->_api_call($request, 'GET', 'membership.read',
            sub ($chain) { return json_answer(200, { membership => $chain->{membership} }) });
    }

    sub _consents ($self, $request) {
        return $self->_api_call($request, 'DELETE', 'organization.read', sub ($chain) {
            $self->{grants}->revoke_consents($chain);
            return { status => 204, headers => [], body => '' };
        });
    }

    sub _api_call ($self, $request, $method, $scope, $work) {
        my ($token) = (header_value($request, 'Authorization') // '') =~ /^Bearer (\S+)$/i;
        my $chain = $self->{grants}->chain_of_access($token);
        return api_error(401, 'unauthorized', 'The access token is missing, invalid, expired or revoked.')
            if !$chain;
        return api_error(405, 'method_not_allowed', "Use $method.") if $request->{method} ne $method;
        return api_error(403, 'forbidden', "missing required oauth scope: $scope")
            if !grep { $_ eq $scope } $chain->{scopes}->@*;
        return $work->($chain);
    }

    # --- control plane -----------------------------------------------------

    sub _control ($self, $verb, $request) {
        my $act = $CONTROL{"$request->{method} $verb"}
            or return json_answer(404, { error => "no $request->{method} $verb" });
        my $answer = eval { json_answer(200, $act->($self, _wish($request))) };
        return $answer // json_answer(400, { error => $@ =~ s/\s+\z//r });
    }

    # A browser sends this content type to another site only after asking, and is never allowed to:
    # so no web page can change the stand-in of somebody's demo.
    sub _wish ($request) {
        return (parse_form($request->{query}))[0] if $request->{method} eq 'GET';
        die "send Content-Type: application/json\n"
            if (header_value($request, 'Content-Type') // '') !~ m{^application/json\b}i;
        return from_json($request->{body} || '{}');
    }

    sub _set ($self, $wish) {
        Qonto::StandIn::check_options($wish);
        for my $name (keys $wish->%*) {
            die "$name can only be given at start\n" if grep { $_ eq $name } qw(host port);
            die "tls must be asked for at start\n" if $name eq 'tls' && !$self->{tls_context};
        }
        $self->{option}->%* = ($self->{option}->%*, Qonto::StandIn::completed($wish)->%*);
        $self->_prepare_tls if $wish->{tls};
        return;
    }

    sub _fault ($self, $wish) {
        my ($place, $kind) = $wish->@{qw(place kind)};
        die "no faults at \"$place\"; choose one of: @FAULT_PLACES\n" if !grep { $_ eq $place } @FAULT_PLACES;
        die "unknown fault \"$kind\"\n" if !Qonto::StandIn::Faults::is_known($kind);
        delete $self->{fault}{$place};
        $self->{fault}{$place} = {$wish->%*} if $kind ne 'none';
        return;
    }
}

# ---------------------------------------------------------------------------
# The handle other code works with.
# ---------------------------------------------------------------------------
package Qonto::StandIn;

use Carp             qw(croak);
use File::Spec       ();
use HTTP::Tiny       ();
use IO::Socket::INET ();
use IPC::Open3       qw(open3);
use POSIX            qw(WNOHANG);
use Time::HiRes      qw(sleep);

BEGIN { Qonto::StandIn::Tools->import(qw(from_json percent_encode to_json)) }

my %CHOICE = (
    mode => [qw(auto refuse page)],
    pkce => [qw(optional required)],
    gate => [qw(html redirect)],
);

sub _default_options {
    return {
        host             => '127.0.0.1',
        port             => 0,
        tls              => undef,
        log              => 0,
        client_id        => 'qonto-client',
        client_secret    => 'qonto-secret',
        next_secret      => undef,
        redirect_uris    => undef,
        clients          => undef,
        mode             => 'auto',
        refuse_error     => 'access_denied',
        refuse_hint      => undef,
        redirect_status  => 302,
        csrf_collision   => 0,
        scope_policy     => undef,
        withheld_scopes  => [],
        pkce             => 'optional',
        code_life        => 600,
        access_life      => 3600,
        refresh_life     => 90 * 86_400,
        grace            => 60,
        clock_offset     => 0,
        delay            => 0,
        staging_token    => undef,
        gate             => 'html',
        issuer           => undef,
        token_answer     => {},
        id_token_claims  => {},
        organizations    => [_organization(1, 'Croissant SAS'), _organization(2, 'Baguette SARL')],
        membership       => {
            id           => undef,       sub      => undef,
            first_name   => "Zo\x{e9}",  last_name => 'Martin', email => 'zoe.martin@example.com',
            phone_number => undef,       position => 'CFO', status => 'active', role => 'owner',
            locale       => 'fr',        team_id  => '0b7c2f4e-3f25-4b6f-9a1e-5d3c8e7f6a10',
            kyc_status   => 'accepted',
        },
    };
}

# Fields as in Qonto's docs, "Retrieve an organization"; the IBAN is made up.
sub _organization ($number, $legal_name) {
    my $slug = lc($legal_name) =~ tr/ /-/r . "-$number";
    my $id   = Qonto::StandIn::Tools::stable_uuid('organization', $number);
    my $iban = sprintf 'FR76169580000123456789%03d56', $number;
    return {
        id => $id, slug => $slug, legal_name => $legal_name, name => $legal_name,
        registration_id => Qonto::StandIn::Tools::stable_uuid('registration', $number),
        legal_number => "88888888$number", legal_sector => '56.10A', legal_registration_date => '2020-01-31',
        legal_address => '1 rue de la Paix, 75002 Paris', legal_form => 'SAS', legal_country => 'FR',
        legal_share_capital => '1000.0', locale => 'fr', contract_signed_at => '2020-02-01T09:00:00.000Z',
        bank_accounts => [{
            id => Qonto::StandIn::Tools::stable_uuid('account', $number), slug => "$slug-bank-account-1",
            name => 'Main account', iban => $iban, bic => 'QNTOFRP1XXX', currency => 'EUR',
            balance => 4321.09, balance_cents => 432_109, authorized_balance => 4300.09,
            authorized_balance_cents => 430_009, status => 'active', main => JSON::PP::true,
            updated_at => '2026-01-31T10:00:00.000Z',
        }],
    };
}

sub check_options ($given) {
    my $known = _default_options();
    for my $name (sort keys $given->%*) {
        die "unknown option \"$name\"\n" if !exists $known->{$name};
        my $choices = $CHOICE{$name} or next;
        die "$name must be one of: $choices->@*\n" if !grep { $_ eq $given->{$name} } $choices->@*;
    }
    return;
}

# Missing parts of a membership are filled in, so that a test names only what it cares about.
sub completed ($given) {
    my %complete = $given->%*;
    $complete{membership} = { _default_options()->{membership}->%*, $given->{membership}->%* }
        if $given->{membership};
    return \%complete;
}

sub _options ($given) {
    check_options($given);
    return { _default_options()->%*, completed($given)->%* };
}

sub _listen ($option) {
    my $listener = IO::Socket::INET->new(
        LocalAddr => $option->{host}, LocalPort => $option->{port},
        Proto     => 'tcp', Listen => 1024, ReuseAddr => 1,
    ) or die "cannot listen on $option->{host}:$option->{port}: $@\n";
    my $scheme = $option->{tls} ? 'https' : 'http';
    return $listener, "$scheme://$option->{host}:" . $listener->sockport;
}

sub _attached ($class, $url, %more) {
    # No proxy, whatever the environment says: the control plane is on this computer.
    my $http = HTTP::Tiny->new(
        timeout    => 20, verify_SSL => 0, keep_alive => 0,
        http_proxy => undef, https_proxy => undef, proxy => undef, max_size => 1 << 30,
    );
    return bless { url => $url =~ s{/\z}{}r, http => $http, %more }, $class;
}

sub start ($class, %given) {
    my $option = eval { _options(\%given) } or croak $@ =~ s/\s+\z//r;
    my ($listener, $url) = eval { _listen($option) } or croak $@ =~ s/\s+\z//r;
    pipe(my $ready, my $report) or croak "pipe: $!";
    my $parent = $$;
    my $pid    = fork // croak "fork: $!";
    if ($pid == 0) {
        close $ready;
        _serve_as_child($parent, $listener, $url, $option, $report);
    }
    setpgrp $pid, $pid;    # the child does it too: whoever comes first
    close $report;
    my $self = _attached($class, $url, server => $pid, owner => $$);
    my $word = <$ready> // "ended at once\n";
    return $self if $word eq "ready\n";
    $self->stop;
    croak "stand-in: $word";
}

# Never returns. The caller's output is let go, or a pipe on it would stay open as long as we live.
sub _serve_as_child ($parent, $listener, $url, $option, $report) {
    setpgrp 0, 0;
    $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP ALRM CHLD __WARN__ __DIE__);
    $SIG{PIPE} = 'IGNORE';
    open STDIN,  '<', File::Spec->devnull;
    open STDOUT, '>', File::Spec->devnull;
    my $server = eval { Qonto::StandIn::Server->new($listener, $url, $option) };
    syswrite $report, $server ? "ready\n" : $@;
    close $report;
    my $served = $server && eval {
        $server->run(sub { return getppid == $parent });    # a killed test must not leave us behind
        1;
    };
    warn "stand-in: $@" if $server && !$served;
    POSIX::_exit($served ? 0 : 1);
}

# Serves in this process until TERM or INT; announce->($url) is called when clients may come.
sub run ($class, $announce, %given) {
    my $option = _options(\%given);
    my ($listener, $url) = _listen($option);
    my $stopped = 0;
    local @SIG{qw(TERM INT PIPE)} = (sub { $stopped = 1 }, sub { $stopped = 1 }, 'IGNORE');
    my $server = Qonto::StandIn::Server->new($listener, $url, $option);
    $announce->($url);
    $server->run(sub { return !$stopped });
    return;
}

sub attach ($class, %arg) {
    my $self = _attached($class, $arg{url} // croak 'attach needs url');
    $self->counters;    # croaks if nobody is there
    return $self;
}

sub url  ($self) { return $self->{url} }
sub pid  ($self) { return $self->{server} }
sub port ($self) { return $self->{url} =~ /:(\d+)$/ ? $1 : $self->{url} =~ /^https/ ? 443 : 80 }

sub stop ($self) {
    return if !$self->{server} || $self->{owner} != $$;
    my $pid = delete $self->{server};
    local ($?, $!, $@);    # may be called at the very end of a test
    for my $signal (qw(TERM KILL)) {
        kill $signal => -$pid;
        for (1 .. 100) {
            return if waitpid($pid, WNOHANG) != 0;
            sleep 0.02;
        }
    }
    return;
}

sub DESTROY ($self) { return $self->stop }

sub _control ($self, $method, $verb, $wish = undef) {
    my %request = $wish ? (content => to_json($wish), headers => { 'Content-Type' => 'application/json' }) : ();
    my $answer  = $self->{http}->request($method, "$self->{url}/_standin/$verb", \%request);
    croak "stand-in at $self->{url}: $answer->{status} $answer->{content}" if $answer->{status} == 599;
    my $data = from_json($answer->{content} || 'null');
    croak "stand-in: $data->{error}" if !$answer->{success};
    return $data;
}

sub counters ($self) { return $self->_control(GET => 'counters') }
sub issued   ($self) { return $self->_control(GET => 'issued') }
sub refreshes ($self) { return $self->_control(GET => 'refreshes')->@* }

sub last ($self, $place) {
    return $self->_control(GET => 'last?place=' . percent_encode($place));
}

sub reset ($self) {
    $self->_control(POST => 'reset', {});
    return $self;
}

sub set ($self, %option) {
    $self->_control(POST => 'set', \%option);
    return $self;
}

sub fault ($self, $place, $kind, %arg) {
    $self->_control(POST => 'fault', { %arg, place => $place, kind => $kind });
    return $self;
}

# Time passes for the stand-in only: tokens age, real clocks stand still.
sub advance ($self, $seconds) {
    $self->_control(POST => 'advance', { seconds => $seconds });
    return $self;
}

# ---------------------------------------------------------------------------
# Certificates for tests of TLS, good and bad.
# ---------------------------------------------------------------------------
my %CERTIFICATE = (
    good       => { from => '20200101000000Z', to => '20491231235959Z' },
    expired    => { from => '20200101000000Z', to => '20200102000000Z' },
    wrong_host => { from => '20200101000000Z', to => '20491231235959Z', names => 'DNS:somewhere-else.example' },
);

sub certificates ($folder, @more_names) {
    my $names = join ',', 'DNS:localhost', 'IP:127.0.0.1', 'IP:::1', map {"DNS:$_"} @more_names;
    my $path  = sub ($name) { return File::Spec->catfile($folder, $name) };
    -d $folder or mkdir $folder or croak "$folder: $!";
    _write_openssl_config($path->('openssl.cnf'), $folder, $names);
    _write_file($path->('index.txt'), '');
    _new_key($path->('ca.key'));
    _openssl('req', '-x509', '-new', '-config', $path->('openssl.cnf'), '-extensions', 'authority', '-days', 3650,
        '-subj', '/CN=Stand-in test CA', '-key', $path->('ca.key'), '-out', $path->('ca.pem'));
    my %made = (ca => $path->('ca.pem'));
    for my $kind (sort keys %CERTIFICATE) {
        my ($key, $request, $cert) = map { $path->("$kind.$_") } qw(key csr pem);
        _new_key($key);
        _openssl('req', '-new', '-config', $path->('openssl.cnf'), '-subj', "/CN=stand-in $kind",
            '-key', $key, '-out', $request);
        _openssl('ca', '-batch', '-notext', '-config', $path->('openssl.cnf'), '-extensions', $kind,
            '-startdate', $CERTIFICATE{$kind}{from}, '-enddate', $CERTIFICATE{$kind}{to},
            '-in', $request, '-out', $cert);
        $made{$kind} = { cert => $cert, key => $key };
    }
    return \%made;
}

sub _new_key ($file) {
    return _openssl(qw(genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out), $file);
}

sub _write_file ($file, $text) {
    open my $out, '>', $file or croak "$file: $!";
    print {$out} $text;
    close $out or croak "$file: $!";
    return;
}

# "openssl ca" is the one command that takes both dates in every version of OpenSSL.
sub _write_openssl_config ($file, $folder, $names) {
    my $leaves = join '', map {
        my $own_names = $CERTIFICATE{$_}{names} // $names;
        "[$_]\nbasicConstraints = CA:FALSE\nextendedKeyUsage = serverAuth\nsubjectAltName = $own_names\n"
    } sort keys %CERTIFICATE;
    return _write_file($file, <<"CNF");
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[ca]
default_ca = standin
[standin]
database = $folder/index.txt
new_certs_dir = $folder
certificate = $folder/ca.pem
private_key = $folder/ca.key
default_md = sha256
rand_serial = yes
policy = policy
unique_subject = no
[policy]
commonName = supplied
$leaves
CNF
}

sub _openssl (@arguments) {
    local $SIG{CHLD} = 'DEFAULT';
    my $pid = open3(my $in, my $out, undef, 'openssl', @arguments);
    close $in;
    my $said = do { local $/; <$out> };
    local $?;
    waitpid $pid, 0;
    croak "openssl $arguments[0] failed: $said" if $? != 0;
    return;
}

1;

__END__

=encoding utf8

=head1 NAME

Qonto::StandIn - a stand-in for Qonto's OAuth 2.0 servers, for tests and demos

=head1 SYNOPSIS

    use Qonto::StandIn;

    my $q = Qonto::StandIn->start(access_life => 120);    # a free port on 127.0.0.1
    configure_my_client(
        authorize => $q->url . '/oauth2/auth',
        token     => $q->url . '/oauth2/token',
        revoke    => $q->url . '/oauth2/revoke',
        api       => $q->url,
        client    => ['qonto-client', 'qonto-secret'],
    );

    $q->fault(token => '429', retry_after => 5, times => 1);
    $q->fault(refresh => 'hang');
    $q->advance(3600);                                    # the access tokens are old now
    $q->set(mode => 'refuse');

    is $q->counters->{token_refresh}, 1, 'one refresh';
    is $q->last('refresh')->{params}{refresh_token}, $old, 'with the right token';
    for my $secret (map { $_->@* } values $q->issued->%*) {
        unlike $my_log, qr/\Q$secret/, 'never logged';
    }
    # stopped when $q goes

=head1 DESCRIPTION

One process that plays all of Qonto's servers an OAuth client meets, on the loopback interface:

    /oauth2/auth            log-in and consent
    /oauth2/token           code exchange and refresh
    /oauth2/revoke          revocation
    /v2/organization        the organization of a token
    /v2/membership          the member of a token
    /v2/oauth2/consents     DELETE: disconnect

It keeps the rules of the real ones: a code is good once and for ten minutes, a second use revokes what came from
the first; PKCE (S256) is checked; the client's secret is taken from the body only; a refresh rotates the refresh
token and ends the previous access token at once; a refresh token may be used again within 60 seconds of its first
use, and later use ends the whole chain; revoking either token of a chain ends it. Errors have the names, texts and
shapes of the real ones.

It needs Perl 5.36 and its core modules only; L<IO::Socket::SSL> is loaded when TLS is asked for, and the C<openssl>
command is used by L</certificates>. It runs in one process, without blocking: any number of slow or silent answers
cost nothing to the others.

All data in it are made up. It is no server for anything but tests.

=head1 METHODS

=head2 start

    my $q = Qonto::StandIn->start(%options);

Starts a server in a process (and process group) of its own; clients may connect when it returns. Croaks when it
cannot. The server ends with C<stop>, when the object goes, or soon after the starting process is gone.

=head2 attach

    my $q = Qonto::StandIn->attach(url => $url);

The same object for a server somebody else started; it does not stop it.

=head2 run

    Qonto::StandIn->run(sub ($url) { say $url }, %options);

Serves in this process until TERM or INT. See L<qonto-standin> for a command that does.

=head2 url, port, pid

Where it is. C<pid> is undefined on an attached object.

=head2 stop

Ends the server and waits for it.

=head2 set

    $q->set(name => $value, ...);

Changes any option except C<host>, C<port> and whether there is TLS. What has been issued keeps its lifetime.

=head2 advance

    $q->advance($seconds);

Time passes, for the stand-in only: codes and tokens age, its C<Date> header moves on.

=head2 fault

    $q->fault($place => $kind, times => $n, %arguments);

From now on, or for the next C<times> requests, something goes wrong there; see L</FAULTS>. C<none> ends it.

=head2 counters

A hash of numbers; see L</COUNTERS>.

=head2 last

    my $request = $q->last('token');

The last request seen at C<token>, C<exchange>, C<refresh>, C<revoke>, C<authorize>, C<organization>,
C<membership>, C<consents>, C<pages>, C<onelogin> or C<elsewhere>, or undef:

    method  path  http          POST, /oauth2/token, HTTP/1.1
    headers                     list of header lines as they came, in order
    query   params              decoded parameters of the address and of the body (bytes)
    body                        the body as it came

=head2 issued

Every secret given out so far, as lists: C<code>, C<access_token>, C<refresh_token>, C<id_token>.

=head2 refreshes

Every refresh asked for since the last reset, in order: hashes of C<at> (real time), C<client_id>, C<client_secret> and
C<refresh_token> as they came.

=head2 reset

Counters to zero, faults away, seen requests forgotten. Options and tokens stay.

=head2 certificates

    my $made = Qonto::StandIn::certificates($folder, 'app.test', ...);
    my $q    = Qonto::StandIn->start(tls => $made->{good});

A function: makes a CA and three certificates (P-256) in the folder and returns their files:
C<ca>, and C<cert> and C<key> of C<good>, C<expired> and C<wrong_host>. The good one is for localhost, 127.0.0.1, ::1
and the names given.

=head1 OPTIONS

=head2 Clients

=over

=item client_id, client_secret, next_secret, redirect_uris

The one client: C<qonto-client>, C<qonto-secret>, no second secret, and any https or loopback callback. A list of
C<redirect_uris> is compared as strings (the port of a loopback address may differ).

=item clients

Several instead: C<< { $id => { secret => ..., next_secret => ..., redirect_uris => [...] }, ... } >>.

=item scope_policy

List of the scopes a client may ask for; another one fails the request with C<invalid_scope>. Default: no limit.

=item withheld_scopes

List of scopes that are asked for but not granted.

=back

=head2 Authorization

=over

=item mode

C<auto> (default) consents at once, C<refuse> refuses, C<page> shows real pages.

=item refuse_error, refuse_hint

What C<refuse> sends: C<access_denied>.

=item pkce

C<optional> (default) or C<required>.

=item redirect_status

302 (default), or 303 as Hydra itself does.

=item csrf_collision

True: Of two log-ins of one browser, the earlier comes back with C<request_forbidden>, as with Hydra, whose
anti-CSRF cookie has one name per client. The browser must keep cookies, and passes through one more redirect.

=item organizations

List of organizations as in Qonto's API, each with an C<id>; C<registration_id> is matched with the parameter of that
name. Without a choice by parameter or page, the first counts.

=item membership

The person, as in Qonto's API; missing fields are filled in. C<sub> and C<id>, unless given, follow from the
e-mail address and the organization.

=back

=head2 Tokens

=over

=item code_life, access_life, refresh_life, grace

Seconds: 600, 3600, 90 days, 60.

=item delay

Seconds before a token call is answered; the call itself is served at once, others run beside it.

=item token_answer, id_token_claims

Fields to replace in the token answer and in ID tokens; undef removes one.

=item issuer

C<iss> of ID tokens; the stand-in's own address.

=item clock_offset

Seconds its clock is ahead; see L</advance>.

=back

=head2 Sandbox

=over

=item staging_token

When set, calls of servers (everything but the authorization pages) need the header C<X-Qonto-Staging-Token>, in these
capitals; without it they get a log-in page.

=item gate

How: C<html> (200, default) or C<redirect> (302).

=back

=head2 Server

=over

=item host, port

127.0.0.1 and a free port.

=item tls

C<< { cert => $file, key => $file } >>, and any C<SSL_...> argument of L<IO::Socket::SSL>. C<set> changes the
certificate.

=item log

True: a line per request on standard error, method and path only.

=back

=head1 FAULTS

Places: C<token>, or only one of its grants, C<exchange> and C<refresh>; C<revoke>, C<organization>, C<membership>,
C<consents>, C<authorize>. The ones marked * serve the request first: the code is used, the token rotates.

      hang          no answer; closed after `seconds` (120)
      rst           connection reset
    * lost_answer   closed without an answer
    * slow          normal answer after `seconds` (2)
    * drip          normal answer, one byte every `interval` (0.05) seconds
    * truncated     the last `missing` (half of the body) bytes never come
    * huge          the normal JSON padded to `bytes` (10,000,000); `chunked`
    * wrong_type    normal answer as `type` (text/plain)
      html          200 with a log-in page
      redirect      `status` (302) to `to` (/elsewhere, which counts)
      bad_json      200 with half a JSON text
      empty         200 with nothing
      nontoken      200 with JSON that is no token answer
      concurrent    400 invalid_request, Hydra's "concurrent requests ... retry"
      400 ... 599   that status, JSON as the place writes errors; `retry_after`, `hint`
      invalid_grant, invalid_client, server_error, ...
                    that OAuth error; `hint`, `status`; at authorize it goes to the callback

A fault at C<exchange> or C<refresh> comes before one at C<token>. The sandbox gate comes before all faults.

=head1 COUNTERS

=over

=item authorize, token, token_code, token_refresh, revoke, organization, membership, consents, pages

Requests.

=item token_ok, token_invalid_grant, organization_403, authorize_access_denied, token_fault_hang, ...

Outcomes by place: C<ok>, an error name, a status, or the fault. Absent until the first.

=item max_parallel_token

Most token calls open at one time.

=item token_next_secret

Calls (token endpoint) that used the C<next_secret>.

=item api_401

Answers 401 of the API: Qonto throttles who gets more than 200 of them in an hour.

=item gated, staging_wrong_case, staging_in_production

Calls stopped by the sandbox gate, staging tokens in a header of other capitals, staging tokens without a sandbox.

=item onelogin, elsewhere

Visits to pages only a client comes to that follows redirects it should not follow.

=item aborted

Clients that went away before their answer was complete.

=item other

Requests for paths that are not here.

=back

=head1 PAGES

In mode C<page> a visitor meets a log-in form (fields "E-mail address" and "Password", button "Log in"; anything is
accepted) and a page with the organizations to choose from (radio buttons), the scopes asked for, and the buttons
"Authorize" and "Refuse". C<organization_id> and C<registration_id> skip the choice. The log-in is remembered by a
cookie; C<prompt=login> asks again, C<prompt=none> never asks. A log-in may take 30 minutes.

=head1 CONTROL BY HTTP

The methods above are requests to the server itself:

    GET  /_standin/counters
    GET  /_standin/issued
    GET  /_standin/last?place=token
    GET  /_standin/refreshes
    POST /_standin/reset        {}
    POST /_standin/set          {"mode": "refuse"}
    POST /_standin/advance      {"seconds": 61}
    POST /_standin/fault        {"place": "token", "kind": "500", "times": 2}

POST needs C<Content-Type: application/json>. Errors are answered with 400 and C<{"error": "..."}>.

=head1 WITH APACHE::TEST

httpd's configuration must know the address, so start the stand-in before the server, in F<t/TEST.PL>:

    use Qonto::StandIn;
    my $q = Qonto::StandIn->start;
    $ENV{QONTO_STANDIN} = $q->url;
    Apache::TestRunPerl->new->run(@ARGV);

In F<t/conf/extra.conf.in>:

    QontoEndpoint authorize ${QONTO_STANDIN}/oauth2/auth
    QontoEndpoint token     ${QONTO_STANDIN}/oauth2/token
    QontoEndpoint revoke    ${QONTO_STANDIN}/oauth2/revoke
    QontoEndpoint api       ${QONTO_STANDIN}

In a test:

    my $q = Qonto::StandIn->attach(url => $ENV{QONTO_STANDIN});
    $q->reset;

=head1 DIFFERENCES FROM QONTO

Signatures of ID tokens are random bytes. There is no discovery document, no key set, no rate limit by itself (see
the fault C<429>), no User OAuth flow (C<identity_type=user>), no webhook. What Qonto does not document follows
Ory Hydra, whose tokens and messages Qonto's are. Every connection ends after one answer, and request bodies need a
C<Content-Length>.

=head1 SEE ALSO

L<qonto-standin>, RFC 6749 (OAuth 2.0), RFC 7009 (revocation), RFC 7636 (PKCE).

=cut
