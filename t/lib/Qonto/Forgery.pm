package Qonto::Forgery;

# What a visitor may try to be taken for somebody else by the backend: request headers that
# only the module may set, in every spelling that folds to the same name somewhere.

use v5.36;

use Exporter qw(import);
use Qonto::Rig qw(fold);

our @EXPORT = qw(MARK forgeries in_bundles intruders);

use constant MARK => 'FORGED';    # part of every forged value

# Exported by QontoPass, and some that nothing ever exports.
my @NAMES = qw(User Scope Expires Session Logout Env Staging-Token Email Organization Role
    Organization-Id Membership Admin Error Reference);

# RFC 9110 5.6.2: what a header's name may consist of beside letters, digits and "-".
my @SEPARATORS = split //, q{_.!#$%&'*+^`|~};

sub _spellings ($name) {
    my $upper = uc $name;
    return $name, lc $name, $upper, $name =~ tr/-/_/r, lc $name =~ tr/-/_/r, $upper =~ tr/-/_/r, $name =~ tr/-/./r;
}

sub _mixed () {
    my @mixed = qw(x-QONTO_user X_Qonto-User X-Qonto.User X.Qonto-User x.qonto_user X_Qonto.User);
    return @mixed, map {; "X${_}Qonto${_}User", "X-Qonto${_}User", "x${_}qonto-user" } @SEPARATORS;
}

# [name, value] pairs, each for a request of its own; a list of pairs when several lines belong together.
sub forgeries ($token_header = 'X-Api-Token') {
    my $count = 0;
    my $value = sub { MARK . '-' . ++$count };
    my @names = (
        (map { _spellings("X-Qonto-$_") } @NAMES),
        _mixed(),
        _spellings($token_header), $token_header =~ tr/-/~/r,
        (map {; ("QONTO_$_", "Qonto-$_", lc "qonto.$_") } qw(USER SESSION SCOPE EXPIRES ENV ERROR REFERENCE)),
    );
    my %seen;
    my @all = map { [[$_, $value->()]] } grep { !$seen{$_}++ } @names;
    for my $name ('X-Qonto-User', 'x_qonto_user', $token_header) {
        push @all,
            [[$name, '']],
            [[$name, $value->()], [$name, $value->()]],
            [[$name, $value->()], [$name =~ tr/-_/_-/r, $value->()], [uc $name, $value->()]],
            [[$name, "\t  " . $value->() . " \t "]],
            [[$name, $value->() . ', ' . $value->()]],
            [[$name, "=?utf-8?Q?" . $value->() . "?= \xc3\xa9"]],
            [[$name, $value->()], [$name, '']];
    }
    return @all;
}

# The same in few requests: lists of pairs, at most $size lines each.
sub in_bundles ($size, @forgeries) {
    my @bundles = [];
    for my $forgery (@forgeries) {
        push @bundles, [] if $bundles[-1]->@* + $forgery->@* > $size;
        push $bundles[-1]->@*, $forgery->@*;
    }
    return @bundles;
}

# Header lines of a request at the backend that no visitor may bring there. $true: name => value
# of what the module itself sets, expected exactly once each.
sub intruders ($request, $true = {}, $token_header = 'X-Api-Token') {
    my (@bad, %met);
    for my $line ($request->{headers}->@*) {
        my ($name, $value) = $line->@*;
        my $folded = fold($name);
        if ($value =~ /@{[MARK]}/) {
            push @bad, "$name: $value";
        } elsif (exists $true->{$name}) {
            push @bad, "$name: $value (not what the module says)" if $value !~ $true->{$name};
            push @bad, "$name twice" if $met{$name}++;
        } elsif ($folded =~ /^(?:x-)?qonto-/ || $folded eq fold($token_header)) {
            push @bad, "$name: $value";
        }
    }
    push @bad, map {"no $_"} grep { !$met{$_} } sort keys $true->%*;
    return @bad;
}

1;
