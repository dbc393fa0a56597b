package Shop::GatewayClient;

# The near end of the line to the gateway: tab-separated fields, a line a message.

use v5.36;
use IO::Select;
use IO::Socket::UNIX;
use Time::HiRes qw(time);

my $PATIENCE = 0.2;    # seconds that a worker waits for the gateway

sub new ($class, $path) { return bless { path => $path }, $class }

# The fields of the answer; none when the gateway keeps silent. It may still say something later, so the line is cut.
sub ask ($self, @question) {
    $self->tell(@question);
    my @answer = $self->hear($question[0] =~ /^(?:refund|query|void|session)$/ ? $PATIENCE : 30);
    delete @$self{qw(line heard)} unless @answer;
    return @answer;
}

sub tell ($self, @fields) {
    $self->{line} //= IO::Socket::UNIX->new(Peer => $self->{path}) // die "no line to the gateway: $!\n";
    $self->{line}->syswrite(join("\t", @fields) . "\n") // die "the line to the gateway is cut: $!\n";
}

# The fields of the next message, or none within the seconds given.
sub hear ($self, $seconds) {
    my $until = time + $seconds;
    $self->{heard} //= '';
    until ($self->{heard} =~ /\n/) {
        my $left = $until - time;
        return if $left <= 0 or not IO::Select->new($self->{line})->can_read($left);
        $self->{line}->sysread($self->{heard}, 4096, length $self->{heard}) or die "the gateway hung up\n";
    }
    (my $message, $self->{heard}) = split /\n/, $self->{heard}, 2;
    return split /\t/, $message;
}

1;
