# The SQL in the documentation runs as it is printed, page after page; where a
# block without a language follows, that is what psql answers, but for times
# and random keys. Statements with $1 are prepared only.

use strict;
use warnings;
use utf8;

use FindBin;
use OTServer;
use Test::More;

my $root = "$FindBin::Bin/../..";

my $server = OTServer->started('examples', 'cron.database_name' => 'shop');
$server->safe_psql('postgres', 'CREATE DATABASE shop');    # Install makes the rest
my $file = $server->basedir . '/example.sql';
my $has_python = $server->safe_psql('shop', "SELECT count(*) FROM pg_available_extensions WHERE name = 'plpython3u'");

# Fenced blocks: { line, language, text }.
sub blocks {
	my ($page) = @_;
	my (@blocks, $open);

	open my $in, '<:encoding(UTF-8)', "$root/$page" or die "$page: $!\n";
	while (my $line = <$in>) {
		if ($line =~ /^( *)```(\w*)$/) {
			push @blocks, $open if $open;
			$open = $open ? undef : { line => $., indent => $1, language => $2, text => '' };
			next;
		}
		$open->{text} .= $line =~ s/^$open->{indent}//r if $open;
	}
	return @blocks;
}

sub run {
	my ($sql) = @_;
	open my $script, '>:encoding(UTF-8)', $file or die "$file: $!\n";
	print {$script} $sql;
	close $script or die "$file: $!\n";
	my ($out, $err);
	my $succeeded = $server->run_log([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', 'shop', '-f', $file ],
		'>', \$out, '2>', \$err);
	return ($succeeded, $out, $err);
}

sub prepared {
	my ($sql) = @_;
	return join '', map { "PREPARE example AS $_;\nDEALLOCATE example;\n" } grep { /\S/ } split /;\s*\n/, $sql;
}

# Times and keys differ from run to run, and with them the widths of columns.
sub shape {
	my ($text) = @_;
	$text =~ s/\brf_[0-9a-f]{32}\b/KEY/g;
	$text =~ s/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00/TIME/g;
	return [ grep { /\S/ } map { s/-+/-/gr =~ s/ +/ /gr =~ s/^ | $//gr } split /\n/, $text ];
}

my $answers = 0;
my @pages = ([ 'README.md' ], [ 'doc/functions.md', 'doc/tables.md', 'doc/operations.md' ]);
for my $together (@pages) {
	run('DROP EXTENSION IF EXISTS order_timeout CASCADE; CREATE EXTENSION order_timeout;');
	for my $page (@$together) {
		my @blocks = blocks($page);
		isnt(scalar(grep { $_->{language} eq 'sql' } @blocks), 0, "$page has examples");
		for my $i (grep { $blocks[$_]{language} eq 'sql' } 0 .. $#blocks) {
			my ($line, $sql) = @{ $blocks[$i] }{qw(line text)};
			if ($sql =~ /plpython3u/ && !$has_python) {
				diag("$page, line $line: skipped, PL/Python is not installed");
				next;
			}
			run('DROP EXTENSION order_timeout') if $sql =~ /^CREATE EXTENSION order_timeout/m;
			my ($succeeded, $out, $err) = run($sql =~ /\$\d/ ? prepared($sql) : $sql);
			ok($succeeded, "$page, line $line: runs") or diag($err);

			my $next = $blocks[ $i + 1 ];
			next unless $next && $next->{language} eq '' && $next->{line} == $line + ($sql =~ tr/\n//) + 2;
			is_deeply(shape($out), shape($next->{text}), "$page, line $line: answers what is printed") or diag($out);
			$answers++;
		}
	}
}
isnt($answers, 0, 'answers are compared');

done_testing;
