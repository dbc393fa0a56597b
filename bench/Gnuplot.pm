# Charts drawn by gnuplot, as SVG.
package Gnuplot;
use strict;
use warnings;

# draw FILE HEIGHT SCRIPT
sub draw {
	my ($file, $height, $script) = @_;
	open my $out, '|-', 'gnuplot' or die "gnuplot: $!\n";
	print $out "set terminal svg size 960,$height dynamic background rgb 'white' font 'sans,13' noenhanced\n",
		"set output '$file'\nset encoding utf8\nset grid back lc rgb '#dddddd'\nset border 3 lc rgb '#555555'\n",
		"set tics nomirror\n$script";
	close $out or die "gnuplot could not draw $file\n";
}

# A named block of rows that the script plots.
sub block { my ($name, @rows) = @_; return "\$$name << END\n" . join('', map { "$_\n" } @rows) . "END\n" }

sub text { my $text = shift; $text =~ s/(["\\])/\\$1/g; $text =~ s/\n/\\n/g; return qq("$text") }

1;
