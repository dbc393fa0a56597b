# What bench/run notes, read for the report and the charts. Lines, tabs between:
#   measure  work  metric  title  unit
#   side     name  title  what it leaves out
#   figure   work  synchronous_commit  metric  peer  the extension's  the peer's or nothing
#   point    chart  series  x  y
package Figures;
use strict;
use warnings;

sub new {
	my ($class, $file) = @_;
	my $self = bless { measure => {}, side => {}, pairs => {}, rows => [], leaves => [], points => {}, series => {} }, $class;
	open my $in, '<', $file or die "$file: $!\n";
	while (<$in>) {
		chomp;
		my ($kind, @rest) = split /\t/, $_, -1;
		my $read = $self->can("read_$kind") or die "$file: line $.: what is $kind\n";
		$self->$read(@rest);
	}
	return $self;
}

sub read_measure { my ($self, $work, $metric, $title, $unit) = @_; $self->{measure}{$work}{$metric} = [ $title, $unit ] }

sub read_side {
	my ($self, $name, $title, $leaves) = @_;
	$self->{side}{$name} = $title;
	push @{ $self->{leaves} }, [ $name, $leaves ] if defined $leaves && $leaves ne '';
}

sub read_figure {
	my ($self, $work, $sync, $metric, $peer, $own, $other) = @_;
	my $key = join "\t", $work, $sync, $metric, $peer;
	push @{ $self->{rows} }, [ $work, $sync, $metric, $peer ] unless $self->{pairs}{$key};
	push @{ $self->{pairs}{$key} }, [ $own, $other ];
}

sub read_point {
	my ($self, $chart, $series, $x, $y) = @_;
	push @{ $self->{series}{$chart} }, $series unless $self->{points}{$chart}{$series};
	push @{ $self->{points}{$chart}{$series} }, [ $x, $y ];
}

sub rows { return @{ $_[0]{rows} } }
sub leaves_out { return @{ $_[0]{leaves} } }
sub title { my ($self, $work, $metric) = @_; return ($self->{measure}{$work}{$metric} || [])->[0] // "$work, $metric" }
sub unit { my ($self, $work, $metric) = @_; return ($self->{measure}{$work}{$metric} || [])->[1] // '' }
sub side { my ($self, $name) = @_; return $name eq '-' ? '' : $self->{side}{$name} // $name }
sub series { my ($self, $chart) = @_; return @{ $self->{series}{$chart} || [] } }
sub points { my ($self, $chart, $series) = @_; return @{ $self->{points}{$chart}{$series} || [] } }

sub median {
	my @sorted = sort { $a <=> $b } @_;
	return ($sorted[ $#sorted / 2 ] + $sorted[ @sorted / 2 ]) / 2;
}

# The k-th least and the k-th greatest of n values enclose the median unless fewer
# than k of them lie on one side of it, which n tosses of a coin tell. The
# narrowest interval that holds with at least 95 %; none for fewer than 6 values.
sub interval {
	my @sorted = sort { $a <=> $b } @_;
	my ($k, $outside, $tosses) = (0, 0, 0.5**@sorted);
	while ($k < @sorted / 2) {
		$outside += 2 * $tosses;
		last if $outside > 0.05;
		$tosses *= (@sorted - $k) / ($k + 1);
		$k++;
	}
	return $k ? [ @sorted[ $k - 1, -$k ] ] : undef;
}

# The medians of both sides' own figures.
sub sides {
	my ($self, @key) = @_;
	my @pairs = @{ $self->{pairs}{ join "\t", @key } };
	my @other = grep { $_ ne '' } map { $_->[1] } @pairs;
	return (median(map { $_->[0] } @pairs), @other ? median(@other) : undef);
}

sub measured {
	my ($self, @key) = @_;
	my $pairs = $self->{pairs}{ join "\t", @key } or return undef;
	my $ratio = $pairs->[0][1] ne '';
	my @values = map { $ratio ? $_->[0] / $_->[1] : $_->[0] } @$pairs;
	my @sorted = sort { $a <=> $b } @values;
	return { ratio => $ratio, median => median(@values), ends => interval(@values), range => [ @sorted[ 0, -1 ] ] };
}

# targets FILE: each with what was measured, off and on.
sub targets {
	my ($self, $file) = @_;
	my @targets;
	open my $in, '<', $file or die "$file: $!\n";
	while (<$in>) {
		next if /^#/;
		chomp;
		my %target;
		@target{qw(work metric peer must aim)} = split /\t/, $_, -1;
		my ($work, $metric, $peer) = @target{qw(work metric peer)};
		@target{qw(title unit against)} = ($self->title($work, $metric), $self->unit($work, $metric), $self->side($peer));
		$target{$_} = $self->measured($work, $_, $metric, $peer) for qw(off on);
		$target{control} = $self->measured($work, $target{off} ? 'off' : 'on', $metric, 'order_timeout') if $peer ne '-';
		push @targets, \%target;
	}
	return @targets;
}

# meets BOUND VALUE: of '>= 0.70' or '<= 5'.
sub meets {
	my ($bound, $value) = @_;
	my ($direction, $limit) = $bound =~ /^([<>]=) (\S+)$/ or die "what bound is '$bound'\n";
	return $direction eq '>=' ? $value >= $limit : $value <= $limit;
}

1;
