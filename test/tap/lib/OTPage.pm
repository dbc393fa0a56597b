package OTPage;

# The examples of a page of the documentation.
#
#   for my $block (blocks('doc/functions.md')) { ... }

use strict;
use warnings;
use utf8;

use Exporter qw(import);
use FindBin;

our @EXPORT = qw(blocks shape answer_of translations);

my $root = "$FindBin::Bin/../..";

# Fenced blocks: { line, language, text, says }. What a comment on the line before the fence says is in says; a comment
# elsewhere is a block of its own, without text.
sub blocks {
	my ($page) = @_;
	my (@blocks, $open, $said);

	open my $in, '<:encoding(UTF-8)', "$root/$page" or die "$page: $!\n";
	while (my $line = <$in>) {
		if ($line =~ /^( *)```(\w*)$/) {
			if ($open) {
				push @blocks, $open;
				$open = undef;
			}
			else {
				$open = { line => $., indent => $1, language => $2, text => '', says => $said // {} };
				pop @blocks if $said;
			}
		}
		elsif ($open) {
			$open->{text} .= $line =~ s/^$open->{indent}//r;
		}
		$said = undef;
		if (!$open && $line =~ /^<!-- (.*) -->$/) {
			$said = { map { split /: /, $_, 2 } split /; /, $1 };
			push @blocks, { line => $., language => 'comment', says => $said };
		}
	}
	return @blocks;
}

# The Chinese pages: [page, the English page].
sub translations {
	return map { [ $_, s/\.zh\.md$/.md/r ] } map { s{^\Q$root\E/}{}r } glob "$root/*.zh.md $root/doc/*.zh.md";
}

# The block that follows without a line between, if it is what psql answers.
sub answer_of {
	my ($block, $next) = @_;
	return $next if $next && $next->{language} eq '' && $next->{line} == $block->{line} + ($block->{text} =~ tr/\n//) + 2;
	return;
}

# Times and keys differ from run to run, and with them the widths of columns.
sub shape {
	my ($text) = @_;
	$text =~ s/\brf_[0-9a-f]{32}\b/KEY/g;
	$text =~ s/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00/TIME/g;
	return [ grep { /\S/ } map { s/-+/-/gr =~ s/ +/ /gr =~ s/^ | $//gr } split /\n/, $text ];
}

1;
