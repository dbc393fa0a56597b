#!/usr/bin/perl
# Every link from one of our pages to another leads to a file that is there,
# and to a heading that it has.

use strict;
use warnings;

use FindBin;

binmode STDOUT, ':encoding(UTF-8)';    # a link to a heading in Chinese
chdir "$FindBin::Bin/../.." or die "chdir: $!\n";
my @pages = map { glob } qw(*.md doc/*.md doc/*/*.md sql/*/*.md);

sub text_of {
	my ($file) = @_;
	open my $in, '<:encoding(UTF-8)', $file or die "$file: $!\n";
	local $/ = undef;
	return scalar(<$in>) =~ s/^ *```.*?^ *```$//gmsr;    # an example has no links
}

# As GitHub names the anchor of a heading.
sub anchors {
	my ($file) = @_;
	return { map { s/[^\w\- ]//gr =~ s/ /-/gr => 1 } map { lc } text_of($file) =~ /^#+ (.*)$/mg };
}

my ($links, $broken) = (0, 0);
for my $page (@pages) {
	my ($folder) = $page =~ m{^(.*/)?}s;
	for my $link (text_of($page) =~ /\]\(([^)\s]+)\)/g) {
		next if $link =~ /^\w+:/;
		$links++;
		my ($file, $anchor) = split /#/, $link, 2;
		$file = $file eq '' ? $page : ($folder // '') . $file;
		next if -e $file && (!defined $anchor || anchors($file)->{$anchor});
		print "$page: $link leads nowhere\n";
		$broken++;
	}
}
die "no links found in @pages\n" if $links == 0;
exit($broken > 0);
