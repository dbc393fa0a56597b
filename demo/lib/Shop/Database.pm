package Shop::Database;

# One connection to the shop's database. call() runs a function of order_timeout with named arguments and tells the
# main process how it answered; what an application must do itself, trying again after 40001 and 40P01, is done here.

use v5.36;
use DBI;
use Time::HiRes qw(sleep time);

# An answer like "no such order" is one that the shop's own races can bring. Any other error is a bug, ours or theirs.
my %ANSWER = (OT001 => 'no such order', OT004 => 'nothing left to refund', OT005 => 'its state forbids it',
    OT009 => 'no such payment');

# name: shown in pg_stat_activity. tell: where outcomes are counted. role: what grant_access gave rights to.
sub open ($class, %options) {
    local $ENV{PGAPPNAME} = $options{name};
    my $dbh = DBI->connect('dbi:Pg:', undef, undef,
        { RaiseError => 1, PrintError => 0, AutoCommit => 1, AutoInactiveDestroy => 1 });
    # Errors come back to us; the server's log is for the server's own troubles.
    $dbh->do('SET log_min_messages = log');
    $dbh->do('SET ROLE ' . $dbh->quote_identifier($options{role})) if $options{role};
    $dbh->do('SET default_transaction_isolation = ' . $dbh->quote($options{isolation})) if $options{isolation};
    return bless { dbh => $dbh, tell => $options{tell} }, $class;
}

sub dbh ($self) { return $self->{dbh} }

# What the server's clock says minus what ours says, from the quickest of a few questions.
sub clock_offset ($self) {
    my ($offset, $quickest) = (0, 1e9);
    for (1 .. 5) {
        my $before = time;
        my ($server) = $self->{dbh}->selectrow_array('SELECT extract(epoch FROM clock_timestamp())');
        my $after = time;
        ($offset, $quickest) = ($server - ($before + $after) / 2, $after - $before) if $after - $before < $quickest;
    }
    return $offset;
}

# A value is bound; [sql, values...] puts an expression there. All rows, or the first one.
sub call ($self, $function, %arguments) {
    my @names = sort keys %arguments;
    my @values = map { ref $_ ? @$_[1 .. $#$_] : $_ } @arguments{@names};
    my $list = join ', ', map { "$_ => " . (ref $arguments{$_} ? $arguments{$_}[0] : '?') } @names;
    my $rows = $self->_answer($function, "SELECT * FROM order_timeout.$function($list)", \@values);
    $self->{tell}->('count', $function, $_->{text} // $_->{outcome} // $_->{action}) for @$rows;
    return wantarray ? @$rows : $rows->[0];
}

sub _answer ($self, $function, $sql, $values) {
    my $dbh = $self->{dbh};
    for my $try (1 .. 100) {
        my $rows = eval { $dbh->selectall_arrayref($dbh->prepare_cached($sql), { Slice => {} }, @$values) };
        return $rows if $rows;
        my ($state, $error) = ($dbh->state, $@);
        return [ { outcome => $state, text => "$state $ANSWER{$state}" } ] if $ANSWER{$state};
        die "$function: $state $error" unless $state eq '40001' or $state eq '40P01';
        $self->{tell}->('count', $function, "tried again after $state");
        sleep rand(0.002 * $try);
    }
    die "$function: still refused after 100 tries\n";
}

1;
