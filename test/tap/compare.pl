# bin/compare, small: its tables are whole, each figure is a number, what must be is so, and nothing is left of it.

use strict;
use warnings;

use FindBin;
use File::Temp qw(tempdir);
use OTBroker;
use OTTest;
use Test::More;

plan skip_all => 'it compares timers, and the store does not matter: once is enough'
	if ($ENV{OT_STORE} // 'auto') eq 'sql';
plan skip_all => OTBroker->missing if OTBroker->missing;
plan skip_all => 'gnuplot is not installed (Debian package gnuplot-nox)' if system 'command -v gnuplot >/dev/null';

my $root = "$FindBin::Bin/../..";
my $temporary = tempdir(CLEANUP => 1, TMPDIR => 1);
chmod 0755, $temporary;
local $ENV{OT_FROM} = $ENV{OT_TMP};
local $ENV{TMPDIR} = $temporary;
delete local $ENV{OT_KEEP};
my $out = "$temporary/out";

# The processes that have our folder in their environment.
sub left { return grep { slurp("$_/environ") =~ /\Q$temporary/ } glob '/proc/[0-9]*' }

sub slurp {
	my ($name) = @_;
	open my $file, '<', $name or return '';
	local $/;
	return readline($file) // '';
}

sub none_left {
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(eventually(sub { !left() }, 5), "$name: no process is left") or diag(map { slurp("$_/cmdline") =~ tr/\0/ /r, "\n" } left());
	is_deeply([ glob "$temporary/ot.*" ], [], "$name: no file is left");
	return;
}

# ------------------------------------------------------------ a run

my $said = qx("$root/bin/compare" --out "$out" --orders 200 --seconds 3 2>&1);
is($?, 0, 'it comes to its end') or diag($said);
none_left('at the end');

my $report = slurp("$out/compare.md");
my @rows = map { [ map { s/^ +| +$//gr } split /\|/, s/^\| //r =~ s/ \|$//r ] } grep { /^\|/ } split /\n/, $report;
my %late;    # title => timer => figures
my %sum;
my $title;
for my $row (@rows) {
	if (@$row == 8 and $row->[1] =~ /^(RabbitMQ|order_timeout)$/) {
		$title = $row->[0] || $title;
		$late{$title}{$1} = [ @$row[ 2 .. 7 ] ];
	}
	$sum{ $row->[0] } = [ @$row[ 1, 2 ] ] if @$row == 3 and $row->[0] =~ /^[^-]/;
}
is(keys %late, 9, 'the table has all scenes');
for my $scene (sort keys %late) {
	for my $timer (qw(RabbitMQ order_timeout)) {
		my @figures = @{ $late{$scene}{$timer} || [] };
		is(scalar(grep { /^(-?[\d,.]+( m?s)?|–)$/ } @figures), 6, "$scene, $timer: all figures") or diag("@figures");
		# All that are not persistent may be lost. Classic queues move dead letters without confirms, so a crash may
		# lose persistent ones, too.
		next if $timer eq 'RabbitMQ' and $scene =~ /not persistent|the broker/;
		cmp_ok($figures[0] =~ tr/,//dr, '>', 0, "$scene, $timer: orders were closed");
		is($figures[5], 0, "$scene, $timer: each order was closed");
	}
}
cmp_ok($late{'... messages that are not persistent'}{RabbitMQ}[5], '>', 0, 'a crash of the broker loses messages that are not persistent');
my ($short) = grep { /^Mixed deadlines/ } keys %late;
like($late{$short}{RabbitMQ}[2], qr/^[12][.]\d s$/, 'a message waits behind one that expires later');
is(keys %sum, 6, 'the sums are there') or diag(explain(\%sum));
is(scalar(grep { /^[\d,]+$/ } map { @$_ } values %sum), 12, '... as numbers') or diag(explain(\%sum));
is_deeply($sum{'Rows and sums that are wrong (funds_violations)'}, [ 0, 0 ], 'all money is accounted for');
cmp_ok($sum{'Messages that came too early, of the moved deadlines'}[0], '>', 0, 'messages of moved deadlines come too early');
is($sum{Payments}[0], $sum{Payments}[1], 'both have the same payments');
cmp_ok($sum{Payments}[0], '>', 0, '... and there are some');
like(slurp("$out/compare.svg"), qr{</svg>\s*$}, 'the chart is drawn');

# ------------------------------------------------------------ Ctrl-C

my $pid = fork() // die "fork: $!\n";
if (!$pid) {
	setpgrp 0, 0;
	local $SIG{INT} = 'DEFAULT';
	open STDOUT, '>', "$temporary/log" and open STDERR, '>&', \*STDOUT
		and exec "$root/bin/compare", qw(--orders 200 --seconds 3), '--out', $out;
	POSIX::_exit(1);
}
ok(eventually(sub { slurp("$temporary/log") =~ /one deadline/ }, 120), 'another run has begun') or diag(slurp("$temporary/log"));
kill 'INT', -$pid;
waitpid $pid, 0;
is($? >> 8, 130, 'Ctrl-C ends it') or diag(slurp("$temporary/log"));
none_left('after Ctrl-C');

done_testing();
