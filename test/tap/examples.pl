# The SQL in the documentation runs as it is printed, page after page; where a
# block without a language follows, that is what psql answers, but for times
# and random keys. Statements with $1 are prepared only.

use strict;
use warnings;
use utf8;

use OTPage;
use OTServer;
use Test::More;

my $server = OTServer->new('examples', conf => { 'cron.database_name' => 'shop' })->start;
$server->safe_psql('postgres', 'CREATE DATABASE shop; CREATE ROLE shop; CREATE ROLE refund_worker');
$server->safe_psql('shop', 'CREATE EXTENSION pg_cron');

sub run { return run_page_sql($server, 'shop', 'postgres', @_) }

sub prepared {
	my ($sql) = @_;
	return join '', map { "PREPARE example AS $_;\nDEALLOCATE example;\n" } grep { /\S/ } split /;\s*\n/, $sql;
}

my $answers = 0;
my @pages = ([ 'README.md' ], [ 'doc/functions.md', 'doc/tables.md', 'doc/operations.md' ]);
for my $together (@pages) {
	run('DROP EXTENSION IF EXISTS order_timeout CASCADE; CREATE EXTENSION order_timeout;');
	for my $page (@$together) {
		my @blocks = grep { $_->{language} eq 'sql' } blocks($page);
		isnt(scalar @blocks, 0, "$page has examples");
		for my $block (@blocks) {
			my ($line, $sql, $answer) = @$block{qw(line text answer)};
			run('DROP EXTENSION order_timeout') if $sql =~ /^CREATE EXTENSION order_timeout/m;
			my ($out, $err, $rc) = run($sql =~ /\$\d/ ? prepared($sql) : $sql);
			is($rc, 0, "$page, line $line: runs") or diag($err);

			next unless defined $answer;
			is_deeply(shape($out), shape($answer), "$page, line $line: answers what is printed") or diag($out);
			$answers++;
		}
	}
}
isnt($answers, 0, 'answers are compared');

done_testing;
