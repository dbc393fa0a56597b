#!/usr/bin/perl
# Makes the pictures of doc/report.md from the database that the environment names (PGHOST, PGDATABASE and so on), in which
# sample.sql was run:
#
#   (cat doc/report/sample.sql; echo "\\! perl $PWD/doc/report/screenshots.pl $PWD /tmp") | bin/psql
#
# The first argument is the checkout, the second where the pictures go. Needs Chromium.

use strict;
use warnings;

use File::Temp qw(tempdir);
use lib;

my ($sources, $folder) = @ARGV;
die "usage: screenshots.pl CHECKOUT FOLDER\n" if !defined $folder;
lib->import("$sources/test/tap/lib");
require OTBrowser;

my $dir = tempdir(CLEANUP => 1);
my $browser = OTBrowser->started("$dir/browser");

sub picture {
	my ($name, $height, $options, %wanted) = @_;
	system("/usr/bin/python3 $sources/connect/report/order_timeout_report.py --output $dir/$name.html $options") == 0 or exit 1;
	my $page = $browser->page(%wanted);
	$page->open("file://$dir/$name.html");
	open my $out, '>', "$folder/$name.png" or die "$folder/$name.png: $!\n";
	binmode $out;
	print {$out} $page->screenshot($height);
	close $out or die "$folder/$name.png: $!\n";
	return;
}

chomp(my $order = `psql -XAtqc "SELECT order_id FROM order_timeout.refunds
	WHERE state = 'succeeded' AND reason = 'expired' ORDER BY created_at DESC LIMIT 1"`);
picture('shop', 1130, '--proof full');
picture('phone', 1130, '--proof full', width => 360, dark => 1);
picture('order', undef, "--order '$order'", dark => 1);
undef $browser;
