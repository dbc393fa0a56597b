package OTPage;

# The SQL of a page of the documentation, to be run as it is printed.
#
#   for my $block (blocks('README.md')) { ... }
#   { line, language, text, note => { as => 'shop_owner' }, answer => 'what psql prints' }
#
# A note is a comment just above a block, which no reader of the page sees:
# <!-- as: shop_owner; name: orders --> . What no block follows is a block of its own, with
# the language "note". An answer is a block without a language just below.

use strict;
use warnings;
use utf8;

use Exporter qw(import);
use FindBin;

our @EXPORT = qw(blocks run_page_sql shape);

my $root = "$FindBin::Bin/../..";

sub notes_of {
	my ($comments) = @_;
	return { map { /^(\w+): (.+)$/ ? ($1 => $2) : die "not a note: $_\n" } map { split /; / } @$comments };
}

sub blocks {
	my ($page) = @_;
	my (@blocks, @comments, $open, $ended);
	my $alone = sub {
		push @blocks, { line => $., language => 'note', text => '', note => notes_of(\@comments) } if @comments;
		@comments = ();
	};

	open my $in, '<:encoding(UTF-8)', "$root/$page" or die "$page: $!\n";
	while (my $line = <$in>) {
		if ($open && $line =~ /^ *```$/) {
			push @blocks, $open;
			($open, $ended) = (undef, $.);
		} elsif ($open) {
			$open->{text} .= $line =~ s/^$open->{indent}//r;
		} elsif ($line =~ /^( *)```(\w*)$/) {
			my $below = $2 eq '' && @blocks && $blocks[-1]{language} eq 'sql' && defined $ended && $ended == $. - 1;
			$open = { line => $., indent => $1, language => $2, text => '', note => notes_of(\@comments), answers => $below };
			@comments = ();
		} elsif ($line =~ /^ *<!-- (.*) -->$/) {
			push @comments, $1;
		} else {
			$alone->();
		}
	}
	$alone->();
	for my $i (grep { $blocks[$_]{answers} } 1 .. $#blocks) {
		$blocks[ $i - 1 ]{answer} = $blocks[$i]{text};
	}
	return grep { !$_->{answers} } @blocks;
}

# As psql answers it: stdout, stderr, the exit status.
sub run_page_sql {
	my ($server, $db, $user, $sql) = @_;
	my $file = "$ENV{OT_TMP}/tmp/page-$$.sql";

	open my $out, '>:encoding(UTF-8)', $file or die "$file: $!\n";
	print {$out} $sql;
	close $out or die "$file: $!\n";
	my @answer = $server->command('psql', '-X', '-v', 'ON_ERROR_STOP=1', '-U', $user, '-d', $db, '-f', $file);
	unlink $file;
	return @answer;
}

# Times and keys differ from run to run, and with them the widths of columns.
sub shape {
	my ($text) = @_;
	$text =~ s/\brf_[0-9a-f]{32}\b/KEY/g;
	$text =~ s/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00/TIME/g;
	return [ grep { /\S/ } map { s/-+/-/gr =~ s/ +/ /gr =~ s/^ | $//gr } split /\n/, $text ];
}

1;
