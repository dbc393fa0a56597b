# The SQL in the documentation runs as it is printed, page after page; where a
# block without a language follows, that is what psql answers, but for times
# and random keys. Statements with $1 are prepared only. The Chinese pages run
# in a server of their own, because Install makes roles.

use strict;
use warnings;
use utf8;

use OTPage;
use OTServer;
use Test::More;

my ($server, $file, $has_python);

sub start {
	my ($name) = @_;
	$server = OTServer->started($name, 'cron.database_name' => 'shop');
	$server->safe_psql('postgres', 'CREATE DATABASE shop');    # Install makes the rest
	$file = $server->basedir . '/example.sql';
	$has_python = $server->safe_psql('shop', "SELECT count(*) FROM pg_available_extensions WHERE name = 'plpython3u'");
	return;
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

my $answers = 0;

# Pages that are read together, from top to bottom.
sub run_pages {
	my (@together) = @_;
	run('DROP EXTENSION IF EXISTS order_timeout CASCADE; CREATE EXTENSION order_timeout;');
	for my $page (@together) {
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

			my $answer = answer_of(@blocks[ $i, $i + 1 ]) or next;
			is_deeply(shape($out), shape($answer->{text}), "$page, line $line: answers what is printed") or diag($out);
			$answers++;
		}
	}
	return;
}

my @pages = ([ 'README.md' ], [ 'doc/functions.md', 'doc/tables.md', 'doc/operations.md' ], [ 'doc/attempts.md' ],
	[ 'doc/rabbitmq.md' ], [ 'doc/worker.md' ], [ 'doc/relay.md' ]);
start('examples');
run_pages(@$_) for @pages;

my %chinese = map { $_->[1] => $_->[0] } translations();
start('examples_zh');
for my $together (grep { grep { $chinese{$_} } @$_ } @pages) {
	run_pages(map { $chinese{$_} // $_ } @$together);
}
isnt($answers, 0, 'answers are compared');

done_testing;
