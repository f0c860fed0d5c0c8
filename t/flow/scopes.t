# What a location asks for on top of the server, and what its backend is told.
use v5.36;
use Qonto::Test;

my $site = site('scopes');
my $asked = sub ($path, @headers) { query_of(browser()->get($site->url($path), @headers)->header('Location')) };

my $plain = $asked->('/app/x');
is $plain->{scope}, 'offline_access organization.read', "the server's scopes";
is $plain->{identity_type}, 'membership', "the server's parameter";
ok !exists $plain->{organization_id}, 'nothing of a location';

my $cards = $asked->('/app/cards/x');
is_deeply [sort split / /, $cards->{scope}], [sort qw(offline_access organization.read card.read card.write)],
    'scopes of a location add to the server\'s, each once';
is $cards->{identity_type}, 'membership', "the server's parameter stays";

# Expressions are of the request.
my $expr = $asked->('/app/expr', 'X-Tenant' => 'acme & sons/=?#%20+');
is $expr->{organization_id}, 'acme & sons/=?#%20+', 'a header as value, escaped';
is $expr->{login_hint}, '127.0.0.1 & co', 'text and variable';
is $expr->{scope}, 'offline_access organization.read', 'nothing slipped into another parameter';
is $asked->('/app/expr', 'X-Tenant' => 'b')->{organization_id}, 'b', 'another request, another value';
ok !exists $asked->('/app/empty')->{organization_id}, 'an empty value is left out';
is $asked->('/app/plain')->{identity_type}, 'user', "a location's parameter wins over the server's";

# What the backend is told.
my $b = browser();
sign_in($b, $site->url('/app/x'));
my $backend = $site->backend;
my $token   = $site->standin->issued->{access_token}[0];
is_deeply [sort map { lc $_->[0] } grep { $_->[0] =~ /^x-qonto/i } $backend->last->{headers}->@*],
    [sort qw(x-qonto-user x-qonto-scope x-qonto-expires)], 'QontoPass: user scope expires by default';

$b->get($site->url('/app/bare/x'), 'X-Bank-Token' => 'stolen', 'x-bank_token' => 'stolen');
is_deeply [$backend->got(qr/^x.bank.token$/i)], [$token], 'QontoTokenHeader name: the bare token, and no other';
is_deeply [$backend->got(qr/^authorization$/i)], [], 'and no Authorization';
$b->get($site->url('/app/named/x'));
is_deeply [$backend->got('X-Bank-Token')], ["none-such $token"], 'QontoTokenHeader name scheme';
is_deeply [$backend->got('X-Qonto-Env')], ['production'], 'QontoPass env';
$b->get($site->url('/app/untold/x'), Authorization => 'Bearer stolen');
unlike $backend->last->{head}, qr/\Q$token/, 'QontoTokenHeader none: no token';
$b->get($site->url('/open/x'), 'X-Bank-Token' => 'forged', 'x_bank.token' => 'forged', Authorization => 'Basic eDp5');
is_deeply [$backend->got(qr/bank/i)], [], 'the name is ours alone on the whole host';
is_deeply [$backend->got('Authorization')], ['Basic eDp5'], 'Authorization elsewhere is others\'';

# What is granted counts, not what was asked for.
$site->standin->set(withheld_scopes => ['card.write']);
my $c = browser();
sign_in($c, $site->url('/app/cards/x'));
is_deeply [sort split / /, ($backend->got('X-Qonto-Scope'))[0]], [sort qw(offline_access organization.read card.read)],
    'X-Qonto-Scope is what was granted';
$site->standin->set(withheld_scopes => [], scope_policy => [qw(offline_access organization.read)]);
$site->mark;
my $refused = browser()->visit($site->url('/app/cards/x'));
refused_ok $site, $refused, 500, 'QO0021', 'a scope the application may not request';
like $site->log, qr/card\.read|card\.write/, 'the log names it';

done_testing;
