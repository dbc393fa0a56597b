# The clock of the day goes back by an hour while a sweep runs: it goes on, shows that it lives, and ends in time. The
# server's clock is libfaketime's; its monotonic clock is the machine's.

use strict;
use warnings;

use DBD::Pg qw(:async);
use OTServer;
use OTTest;
use Test::More;
use Time::HiRes qw(time);

my ($library) = glob '/usr/lib/*/faketime/libfaketime.so.1';
plan skip_all => 'libfaketime is not there' if !$library;

my $file = "/tmp/order_timeout_clock_$$";
END { unlink $file if defined $file }

sub set_clock {
	my ($offset) = @_;
	open my $out, '>', "$file.new" or die "$file: $!\n";
	print $out "$offset\n";
	close $out or die;
	return rename "$file.new", $file;
}

set_clock('+0');
my %fake = (
	FAKETIME_TIMESTAMP_FILE      => $file,
	FAKETIME_NO_CACHE            => 1,
	FAKETIME_DONT_FAKE_MONOTONIC => 1,
	LD_PRELOAD                   => $library,
);
@ENV{ keys %fake } = values %fake;
my $server = OTServer->started('clock', fsync => 'off', shared_preload_libraries => '');
delete @ENV{ keys %fake };
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');

sub server_time { return scalar $dbh->selectrow_array('SELECT extract(epoch FROM clock_timestamp())') }

set_clock('-3600');
cmp_ok(abs(server_time() - time + 3600), '<', 60, 'the server has the clock that it is given') or do { done_testing(); exit };
set_clock('+0');

my $sweeper = $server->dbh('shop');
my $began = time;
$sweeper->do("CALL order_timeout.sweep('8 seconds')", { pg_async => PG_ASYNC });
call($dbh, 'create_order', 'before', 100, 'EUR', '200 ms');
ok(eventually(sub { call($dbh, 'funds', 'before')->{state} eq 'expired' }), 'an order is closed');
set_clock('-3600');
call($dbh, 'create_order', 'after', 100, 'EUR', '200 ms');
my $jumped = time;
ok(eventually(sub { call($dbh, 'funds', 'after')->{state} eq 'expired' }), 'after the jump too');
cmp_ok(time - $jumped, '<', 3, 'and soon');
$dbh->do("UPDATE order_timeout.orders SET state = 'pending', settled_at = NULL, close_reason = NULL,
	expires_at = clock_timestamp() - interval '10 minutes' WHERE order_id = 'after'");
ok(eventually(sub { call($dbh, 'funds', 'after')->{state} eq 'expired' }), 'full passes go on');
ok(eventually(sub { $dbh->selectrow_array('SELECT active_at <= clock_timestamp() FROM order_timeout.sweeps') }), 'it shows that it lives');
is(ended_with($sweeper), '', 'it ends');
cmp_ok(time - $began, '<', 11, 'when its time is up');

done_testing();
