# The files of connect/prometheus on a running shop: Debian's exporter reads the view, Prometheus reads the exporter, and
# each query of the board and each alert answers there.

use strict;
use warnings;

use FindBin;
use JSON::PP;
use OTPrometheus;
use OTServer;
use OTTest;
use Test::More;

plan skip_all => OTPrometheus->missing if OTPrometheus->missing;
plan skip_all => 'the store makes no difference here' if ($ENV{OT_STORE} // 'auto') eq 'sql';

my $files = "$FindBin::Bin/../../connect/prometheus";
my $promtool = OTPrometheus::program('promtool');
for my $check (['check rules', 'alerts.yml'], ['test rules', 'alerts_test.yml']) {
	my ($what, $file) = @$check;
	my $said = `$promtool $what $files/$file 2>&1`;
	is($?, 0, "promtool $what") or diag($said);
}

my $server = OTServer->started('prometheus');
$server->safe_psql('postgres', 'CREATE DATABASE shop; CREATE ROLE watcher LOGIN');
my $dbh = $server->dbh('shop');
$dbh->do('CREATE EXTENSION order_timeout');
call($dbh, 'grant_access', 'watcher', 'reader');
$dbh->do("CALL order_timeout.sweep('100 milliseconds')");
my $prometheus = OTPrometheus->started($server->basedir . '/prometheus',
	'postgres://watcher@/shop?host=' . $server->host . '&port=' . $server->port . '&sslmode=disable');

# Of a metric: its values by the labels that are left when those of the target are gone.
sub values_of {
	my ($name) = @_;
	my %value;
	for my $sample (@{ $prometheus->query($name) }) {
		my %label = %{ $sample->{metric} };
		delete @label{qw(__name__ instance job database host)};
		$value{ join ' ', map { "$_=$label{$_}" } sort keys %label } = $sample->{value}[1] + 0;
	}
	return \%value;
}

# ------------------------------------------------------------ the metrics

# A shop in which something of every kind has happened.
sub trade {
	my ($n) = @_;
	call($dbh, 'create_order', "$_$n", 100, 'EUR') for qw(paid late pending partial);
	call($dbh, 'record_payment', "paid$n", 'bank', "paid$n", 100, 'EUR');
	call($dbh, 'record_payment', "partial$n", 'bank', "partial$n", 40, 'EUR');
	call($dbh, 'cancel_order', "late$n");
	call($dbh, 'record_payment', "late$n", 'bank', "late$n", 100, 'EUR');
	my ($refund) = @{ rows($dbh, 'claim_refunds', 'worker', 1) };
	call($dbh, 'complete_refund', $refund->{refund_ref}, $n % 2 ? 'succeeded' : 'failed', $refund->{lease_token});
	return;
}
call($dbh, 'create_consumer', 'mail');
ok(eventually(sub { @{ $prometheus->query('order_timeout_ok') } }), 'metrics arrive')
	or diag($prometheus->log_of('exporter'), $prometheus->log_of('prometheus'));
trade($_) for 1 .. 4;
call($dbh, 'record_payment', 'nobody', 'bank', 'orphan', 7, 'EUR');
$dbh->do("CALL order_timeout.sweep('1500 milliseconds')");
ok(eventually(sub { (values_of('order_timeout_events_total')->{'type=order.paid'} // 0) == 4 }), 'counted in Prometheus, too')
	or diag(explain(values_of('order_timeout_events_total')));
is_deeply(values_of('order_timeout_orders'), { 'state=pending' => 8, 'state=authorized' => 0, 'state=closing' => 0 }, 'a gauge with its labels');
is_deeply(values_of('order_timeout_ok'), { '' => 0 }, 'and one without');
my %shown = map { $_->[0] => 1 } @{ $dbh->selectall_arrayref('SELECT DISTINCT name FROM order_timeout.metrics') };
my %there = map { $_->{metric}{__name__} => 1 } @{ $prometheus->query('{__name__=~".+", job="order_timeout", __name__!~"up|scrape_.*"}') };
delete $there{sql_exporter_last_scrape_failed};
is_deeply(\%there, \%shown, 'each metric of the view has its name there, and no other does');

# ------------------------------------------------------------ the board

# Whatever of the board is a query, as Grafana would send it.
sub queries {
	my ($part) = @_;
	return map { queries($_) } @$part if ref $part eq 'ARRAY';
	return () if ref $part ne 'HASH';
	return (exists $part->{expr} ? $part->{expr} : (), map { queries($part->{$_}) } sort keys %$part);
}
open my $board, '<', "$files/grafana.json" or die "grafana.json: $!\n";
my $read = decode_json(do { local $/ = undef; <$board> });
my @queries = queries($read->{panels});
cmp_ok(scalar @queries, '>', 20, 'the board has queries');
sub as_sent { return $_[0] =~ s/\$database/.*/gr =~ s/\$__rate_interval/1m/gr }
for my $query (@queries) {
	ok(eventually(sub { @{ $prometheus->query(as_sent($query)) } }), "answers: $query");
}
is($read->{templating}{list}[1]{query}{query}, 'label_values(order_timeout_ok, database)', 'its variable');
is_deeply($prometheus->get('label/database/values', 'match[]' => 'order_timeout_ok'), ['shop'], 'has the database');

# ------------------------------------------------------------ the alerts

my $rules = sub { return [ map { @{ $_->{rules} } } @{ $prometheus->get('rules')->{groups} } ] };
my %alert = map { $_->{name} => $_ } @{ $rules->() };
is(scalar keys %alert, 12, 'the alerts are loaded');
is_deeply([ map { "$_: " . ($alert{$_}{lastError} // '') } grep { $alert{$_}{health} eq 'err' } sort keys %alert ], [], 'and can be evaluated');
for my $name (sort keys %alert) {
	ok(eval { $prometheus->query($alert{$name}{query}); 1 }, "$name answers") or diag($@);
	my ($file, $anchor) = split /#/, $alert{$name}{annotations}{runbook};
	open my $page, '<', "$FindBin::Bin/../../$file" or die "$file: $!\n";
	ok((grep { /^#+ (.*)/ && lc($1) =~ tr/a-z0-9 -//cdr =~ tr/ /-/r eq $anchor } <$page>), "$name: $file has #$anchor");
}
is_deeply([ map { $_->{metric}{kind} } @{ $prometheus->query($alert{OrderTimeoutNeedsOperator}{query}) } ], ['orphan'], 'the orphan is an alert');
is_deeply($prometheus->query($alert{OrderTimeoutMetricsMissing}{query}), [], 'the metrics are there');
is_deeply($prometheus->query($alert{OrderTimeoutSweeperStopped}{query}), [], 'the sweeper has not stopped');
$dbh->do("UPDATE order_timeout.sweeps SET active_at = now() - interval '3 minutes'");
ok(eventually(sub { @{ $prometheus->query($alert{OrderTimeoutSweeperStopped}{query}) } }), 'now it has');
$dbh->do('REVOKE SELECT ON order_timeout.metrics FROM watcher');
my $blind = sub { scalar @{ $prometheus->query($alert{OrderTimeoutMetricsMissing}{query}) } };
ok(eventually($blind), 'without its right the exporter sees nothing, and that is an alert');
$dbh->do('GRANT SELECT ON order_timeout.metrics TO watcher');
ok(eventually(sub { !$blind->() }), 'which ends when it sees again');
$dbh->disconnect;
$server->stop('fast');
ok(eventually($blind), 'so it is without the database');
$server->start;
ok(eventually(sub { !$blind->() }), 'and the exporter comes back with it');

undef $prometheus;
done_testing();
