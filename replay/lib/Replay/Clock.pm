package Replay::Clock;

# The time of the file and the time of the replay, both in seconds since 1970: the replay is faster by a factor.

use v5.36;

# first: the earliest time in the file. starts: when that is replayed. To the microsecond, as the server has it.
sub new ($class, %self) { return bless \%self, $class }    # first, starts, speed

sub speed    ($self) { return $self->{speed} }
sub replayed ($self, $original) {
    return sprintf '%.6f', $self->{starts} + ($original - $self->{first}) / $self->{speed};
}

sub original ($self, $replayed) { return $self->{first} + ($replayed - $self->{starts}) * $self->{speed} }

# "2 h 05 min", to two units.
sub duration ($seconds) {
    return sprintf $seconds < 0.9995 ? '%.3f s' : '%.1f s', $seconds if $seconds < 59.95;
    my $whole = int $seconds + 0.5;
    return sprintf '%d min %02d s', int $whole / 60, $whole % 60 if $whole < 3600;
    return sprintf '%d h %02d min', int $whole / 3600, $whole % 3600 / 60 if $whole < 86_400;
    return sprintf '%d d %02d h', int $whole / 86_400, $whole % 86_400 / 3600;
}

1;
