# Control characters in identifiers, in databases of other encodings than UTF-8.

use strict;
use warnings;

use OTServer;
use OTTest;
use Test::More;

my $server = OTServer->started('encodings');

# Bytes of an identifier as an SQL string has them, and whether they are taken.
my %identifiers = (
	UTF8 => { 'a\xc3\xa9' => 1, 'a\xe2\x82\xac' => 1, 'a\xc2\x80' => 0, '\xc2\x9f' => 0, '\xc2\xa0' => 1 },
	LATIN1 => { 'a\xe9' => 1, '\xa0' => 1, '\x80' => 0, 'a\x9f' => 0, '\x85b' => 0, '\xc2\xa0' => 1, '\xc3\x85' => 0 },
	LATIN9 => { 'a\xa4' => 1, '\x80' => 0, 'a\x9f' => 0 },
	ISO_8859_5 => { '\xd0' => 1, '\x9d' => 0 },
	WIN1252 => { '\x80' => 1, 'a\x9f' => 1, '\xe9' => 1 },
	KOI8R => { '\x80' => 1, '\xd0' => 1 },
	EUC_JP => { '\xa4\xa2' => 1, '\x8e\xb1' => 1, '\x8f\xb0\xa1' => 1 },
	# A byte alone; UTF-8 with such bytes in it, cut off, and its own C1.
	SQL_ASCII => { '\x80' => 0, 'a\x9fb' => 0, '\xe9' => 1, 'a\xe9b' => 1, '\xc3\x85' => 1, 'a\xe2\x82\xac' => 1,
		'\xe2\x82' => 0, '\xc2\x85' => 0, '\xf0\x9f\x98\x80' => 1, '\xf0\x9f\x98' => 0 },
);

for my $encoding (sort keys %identifiers) {
	my $db = lc $encoding;
	$server->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	my $dbh = $server->dbh($db);
	$dbh->do('CREATE EXTENSION order_timeout');
	$dbh->do("SET client_encoding = '$encoding'");
	for my $bytes (sort keys %{ $identifiers{$encoding} }) {
		my $taken = $identifiers{$encoding}{$bytes};
		is(error_of($dbh, sub { $dbh->do("SELECT order_timeout.create_order(E'$bytes', 100, 'EUR')") }), $taken ? '' : '22023',
			"$encoding: $bytes is " . ($taken ? 'taken' : 'refused'));
	}
	is($dbh->selectrow_array('SELECT count(*) FROM order_timeout.orders'), scalar(grep { $_ } values %{ $identifiers{$encoding} }),
		"$encoding: what is taken is stored");

	# Free text is cut at the end of a character, whatever that is.
	$dbh->do("SELECT order_timeout.record_payment('nobody', 'bank', 'p', 10, 'EUR')");
	my ($ref) = $dbh->selectrow_array("SELECT refund_ref FROM order_timeout.refund_orphan('bank', 'p')");
	my ($token) = $dbh->selectrow_array("SELECT lease_token FROM order_timeout.claim_refunds('worker')");
	my ($character) = grep { $identifiers{$encoding}{$_} } reverse sort keys %{ $identifiers{$encoding} };
	is($dbh->selectrow_array("SELECT outcome FROM order_timeout.complete_refund('$ref', 'failed', '$token', error => repeat(E'$character', 5000))"),
		'recorded', "$encoding: a long error is taken");
	cmp_ok($dbh->selectrow_array('SELECT octet_length(last_error) FROM order_timeout.refunds'), '<=', 4000, "$encoding: and cut");
}

done_testing();
