#!/usr/bin/perl
# A Chinese page says what its English page says, as far as a program can see: the same sections, statements, commands,
# figures and names in code, and links to the same places. So nobody changes one of the two alone. And it is set as Chinese
# technical writing is.

use strict;
use warnings;
use utf8;
use open qw(:std :encoding(UTF-8));

use FindBin;
use lib "$FindBin::Bin/../tap/lib";
use OTPage;

# String values that the Chinese pages have in the place of ours. A value with a Chinese word in it needs no line here.
my %LOCAL = (
	'EUR'               => 'CNY',
	'bank'              => 'wechat',
	'card'              => 'wechat',
	'bank test'         => 'alipay sandbox',
	'capture-77'        => '4200002877202611237710014255',
	'capture-78'        => '4200002878202611237814403162',
	'{"card": "debit"}' => '{"trade_type": "JSAPI"}',
);

my $STRING = qr/'(?:[^']|'')*'/;
my $FIGURE = qr/\A[-\d.,; ]*\d(?: (?:ms|s|%|[kMG]?B))?\z/;

my $root   = "$FindBin::Bin/../..";
my $differ = 0;

sub differs {
	print @_, "\n";
	$differ++;
	return;
}

# Everything outside of fenced blocks, a section at a time.
sub sections {
	my ($page) = @_;
	my @sections = ({ level => 0, title => 'the head', text => '' });
	my $fenced = 0;
	open my $in, '<:encoding(UTF-8)', "$root/$page" or die "$page: $!\n";
	while (my $line = <$in>) {
		if ($line =~ /^ *```/) { $fenced = !$fenced }
		elsif ($fenced) { next }
		elsif ($line =~ /^(#+) (.*)$/) { push @sections, { level => length $1, title => $2, text => '' } }
		else                           { $sections[-1]{text} .= $line }
	}
	for my $section (@sections) {    # code that is wrapped
		1 while $section->{text} =~ s/(`[^`\n]*)\n *(?![|\n])([^`]*`)/$1 $2/g;
	}
	return @sections;
}

# The words of a block, without its comments.
sub words {
	my ($block) = @_;
	my $text = $block->{text};
	if ($block->{language} ne '') {
		my $comment = $block->{language} eq 'sql' ? qr/--[^\n]*/ : qr/(?!)/;
		$comment = qr/$comment|(?:^|(?<=\s))#[^\n]*/m if $block->{language} ne 'sql' || $text =~ /plpython/;
		$text =~ s/($STRING)|$comment/$1 \/\/ ''/ge;
	}
	return $text =~ /$STRING|[^\s']+|'/g;
}

# What the Chinese page has for this word.
sub local_word {
	my ($word) = @_;
	return $word =~ s/\A(['`])(.*)\1\z/$1 . ($LOCAL{$2} \/\/ $2) . $1/esr;
}

# Its language, and what the comment before it says.
sub says {
	my ($block) = @_;
	return join ' ', $block->{language}, map { "$_: $block->{says}{$_}" } sort keys %{ $block->{says} };
}

sub compare_blocks {
	my ($page, $original) = @_;
	my @ours   = blocks($original);
	my @theirs = blocks($page);
	for my $i (0 .. ($#ours > $#theirs ? $#ours : $#theirs)) {
		my ($our, $their) = ($ours[$i], $theirs[$i]);
		return differs("$page: ", scalar @theirs, ' blocks, not ', scalar @ours) if !$our || !$their;
		my $where = "$page, line $their->{line}: not as $original, line $our->{line}";
		return differs("$where: another block") if says($our) ne says($their);
		next if $our->{language} eq 'comment';
		next if $our->{language} eq '' && ($their->{text} =~ /\p{Script=Han}/ || $i > 0 && answer_of(@ours[ $i - 1, $i ]));
		my @expected = words($our);
		for my $word (words($their)) {
			my $expected = shift @expected // 'the end';
			next if $word eq $expected || $word eq local_word($expected) || $word =~ /\A'.*\p{Script=Han}.*'\z/s && $expected =~ /\A'/;
			differs("$where: $word is not $expected");
			@expected = ();
			last;
		}
		differs("$where: without @expected") if @expected;
	}
	return;
}

sub rows { return grep { !/^[-| :]+$/ } $_[0] =~ /^ *(\|.*\|)$/mg }

sub cells { return map { s/^\s+|\s+$//gr } split /(?<!\\)\|/, $_[0] =~ s/^\||\|$//gr, -1 }

# The names in code that the other text lacks.
sub missing {
	my ($our, $their) = @_;
	return grep { index($their, $_) < 0 && index($their, local_word($_)) < 0 } $our =~ /(`[^`]+`)/g;
}

sub compare_tables {
	my ($where, $our, $their) = @_;
	my ($our_rows, $their_rows) = ([ rows($our) ], [ rows($their) ]);
	return differs("$where: ", scalar @$their_rows, ' rows of tables, not ', scalar @$our_rows) if @$our_rows != @$their_rows;
	for my $i (0 .. $#$our_rows) {
		my ($ours, $theirs) = ([ cells($our_rows->[$i]) ], [ cells($their_rows->[$i]) ]);
		for my $j (0 .. $#$ours) {
			my ($cell, $other) = ($ours->[$j], $theirs->[$j] // '');
			differs("$where: in a table, '$other' is not '$cell'") if $cell =~ $FIGURE && $other ne $cell;
			differs("$where: in a table, '$other' lacks $_") for missing($cell, $other);
		}
	}
	return;
}

# A link to a page that is there in Chinese goes there; its anchor is a Chinese heading, which doc_links.pl looks for.
sub in_chinese {
	my ($page, $link) = @_;
	my ($folder) = $page =~ m{^(.*/)?};
	my ($file, $anchor) = split /#/, $link, 2;
	my $chinese = $file =~ s/(?<!\.zh)\.md$/.zh.md/r;
	return '#' if $file eq '';
	return $link if $chinese eq $file || !-e "$root/" . ($folder // '') . $chinese;
	return $chinese . (defined $anchor ? '#' : '');
}

sub compare_links {
	my ($page, $where, $our, $their) = @_;
	my @theirs = $their =~ /\]\(([^)\s]+)\)/g;
	my %has    = map { $_ => 1, s/#.*/#/r => 1 } @theirs;
	for my $link ($our =~ /\]\(([^)\s]+)\)/g) {
		my $expected = in_chinese($page, $link);
		differs("$where: no link to $expected") if !$has{$expected};
	}
	while ($their =~ /\[([^\]]*)\]\(([^)\s]+)\)/g) {
		my ($text, $link) = ($1, $2);
		differs("$where: $link is there in Chinese") if $text ne 'English' && $link !~ /^#/ && in_chinese($page, $link) ne $link;
	}
	return;
}

# Full-width punctuation, a space next to Latin words, no space within Chinese (a line break is shown as one).
sub check_setting {
	my ($where, $text) = @_;
	$text =~ s/\]\([^)\s]+\)/]/g;
	$text =~ s/`[^`]*`/`/g;
	for ([ 'half-width punctuation', qr/\p{Script=Han}[,;:?!()]|[,;:?!(]\p{Script=Han}/ ], [ 'no space next to a Latin word', qr/\p{Script=Han}[A-Za-z\d`]|[A-Za-z\d`]\p{Script=Han}/ ],
		[ 'a line break within Chinese', qr/\p{Script=Han}[\]*]*\n *[\[*]*(?=\p{Script=Han})/ ]) {
		my ($what, $pattern) = @$_;
		differs("$where: $what: ...$1...") while $text =~ /(.{0,10}$pattern.{0,10})/gs;
	}
	return;
}

my @pages = translations() or die "no Chinese page\n";
for (@pages) {
	my ($page, $original) = @$_;
	my ($name, $original_name) = map { s{.*/}{}r } $page, $original;
	my ($our, $their) = ([ sections($original) ], [ sections($page) ]);
	differs("$original has no link to $name at its head")      if $our->[1]{text} !~ s/\A\n\[简体中文\]\(\Q$name\E\)\n//;
	differs("$page has no link to $original_name at its head") if $their->[1]{text} !~ s/\A\n\[English\]\(\Q$original_name\E\)\n//;
	compare_blocks($page, $original);

	for my $i (0 .. ($#$our > $#$their ? $#$our : $#$their)) {
		my ($ours, $theirs) = ($our->[$i], $their->[$i]);
		if (!$ours || !$theirs || $ours->{level} != $theirs->{level}) {
			differs("$page: section '", $theirs->{title} // '', "' is not '", $ours->{title} // '', "' of $original");
			last;
		}
		my $where = "$page, $theirs->{title}";
		differs("$where: without $_") for missing($ours->{text}, $theirs->{text});
		compare_tables($where, $ours->{text}, $theirs->{text});
		check_setting($where, $theirs->{text});
		compare_links($page, $where, $ours->{text}, $theirs->{text});
	}
}
exit($differ > 0);
