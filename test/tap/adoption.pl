# doc/adoption.md, step by step: its blocks run in their order as the roles that
# their notes name, and answer what is printed. Between them, where a note says
# "play", the shop of the page goes on: orders are placed, paid, left unpaid and
# cancelled by sessions of the application, and the jobs of pg_cron are run as
# their roles, at the moments that the plays need and not at each minute.

use strict;
use warnings;
use utf8;

use OTPage;
use OTServer;
use OTTest;
use Test::More;
use Time::HiRes qw(sleep time);

my $PAGE  = 'doc/adoption.md';
my $STOCK = 1000;

# pg_cron keeps the jobs and cannot reach the server to run them.
my $server = OTServer->new('adoption', conf => { 'cron.database_name' => 'shop', 'cron.host' => '/nowhere' })->start;
$server->safe_psql('postgres', 'CREATE DATABASE shop');
my $dbh = $server->dbh('shop');
my ($app, $owner, $worker, $sweep);

# ------------------------------------------------------------ the shop

# An order of one lamp, so many seconds before its deadline of 30 minutes.
sub place {
	my ($session, $left, %column) = @_;
	$session->begin_work;
	$session->do("UPDATE shop.stock SET free = free - 1 WHERE sku = 'lamp'");
	my $columns = join ', ', 'total', 'currency', 'created_at', $column{order_id} ? 'order_id' : ();
	my $values = join ', ', '12.50', '?', q{clock_timestamp() - interval '30 minutes' + ? * interval '1 second'},
		$column{order_id} // ();
	my ($id) = $session->selectrow_array("INSERT INTO shop.orders ($columns) VALUES ($values) RETURNING order_id",
		undef, $column{currency} // 'EUR', $left);
	$session->do("INSERT INTO shop.order_lines VALUES (?, 'lamp', 1)", undef, $id);
	$session->commit;
	return $id;
}

# The gateway tells the payment pay-<id>.
sub pay {
	my ($session, $id, $amount) = @_;
	return $session->selectrow_array("SELECT shop.payment_told(?, ?, ?, 'EUR')", undef, $id, "pay-$id", $amount // 12.5);
}

sub cancel { return $_[0]->selectrow_array('SELECT shop.cancel(?)', undef, $_[1]) }

# With connections of its own: it is run in forked sessions, too.
sub run_job {
	my ($name) = @_;
	my ($command, $role) = $server->dbh('shop')->selectrow_array(
		'SELECT command, username FROM cron.job WHERE jobname = ?', undef, $name);
	die "there is no job $name\n" unless $command;
	$command =~ s/sweep\(\)$/sweep('300 milliseconds')/;
	$server->dbh('shop', user => $role)->do($command);
	return;
}
sub run_todays_job { return run_job('close unpaid orders') }
sub run_sweeper    { return run_job('order_timeout') }

# What the worker got from the gateway, as "order amount action".
sub work {
	my @done;
	while (my ($refund) = @{ rows($worker, 'claim_refunds', 'worker 1', 1) }) {
		push @done, "$refund->{order_id} $refund->{amount} $refund->{action}";
		call($worker, 'complete_refund', $refund->{refund_ref}, 'succeeded', $refund->{lease_token},
			"gateway-$refund->{refund_ref}");
	}
	return \@done;
}

# ------------------------------------------------------------ what must hold

sub status { return scalar $dbh->selectrow_array('SELECT status FROM shop.orders WHERE order_id = ?', undef, $_[0]) }
sub state_of {
	return scalar $dbh->selectrow_array('SELECT state FROM order_timeout.orders WHERE order_id = ?', undef, "order-$_[0]");
}

sub is_order {
	my ($id, $status, $state, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply([ status($id), state_of($id) ], [ $status, $state ], $name);
}

# Each lamp is in stock or in an order that is not closed, and what is paid is to be shipped, once.
sub shop_is_sound {
	my ($name) = @_;
	my ($free, $taken, $unshipped) = $dbh->selectrow_array(<<'END');
SELECT (SELECT free FROM shop.stock),
       (SELECT sum(quantity) FROM shop.order_lines JOIN shop.orders USING (order_id) WHERE status <> 'closed'),
       (SELECT count(*) FROM shop.orders WHERE status IN ('paid', 'shipped') AND order_id NOT IN (SELECT order_id FROM shop.to_ship))
END
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($free + $taken, $STOCK, "$name: the stock");
	return is($unshipped, 0, "$name: what is paid is to be shipped");
}

# All rows of the table with their versions: any write of one shows.
sub versions {
	return $dbh->selectcol_arrayref('SELECT format(\'%s %s %s\', ctid, xmin, o) FROM shop.orders o ORDER BY order_id');
}

# What a restore would make of the shop's schema.
sub shop_dump {
	my ($out, $err, $rc) = $server->command('pg_dump', '--schema-only', '--schema=shop', '-d', 'shop');
	die "pg_dump failed: $err\n" if $rc;
	return [ grep { !/^\\(un)?restrict/ } split /\n/, $out ];
}

# Buyers that pay, cancel or do neither while their orders fall due, beside whoever closes them.
sub rush {
	my ($first, @closers) = @_;
	my $children = fork_all(3 + @closers, sub {
		my ($number) = @_;
		my $end = time + 3;
		if ($number > 3) {
			$closers[ $number - 4 ]->() while time < $end;
			return [];
		}
		my $buyer = $server->dbh('shop', user => 'shop_app');
		my (@open, @failed);
		for my $i (0 .. 39) {
			push @open, place($buyer, $i * 0.05 + 0.3, order_id => $first + 100 * $number + $i);
		}
		while (@open && time < $end) {
			my $id = splice @open, rand @open, 1;
			eval { $id % 3 == 0 ? pay($buyer, $id) : $id % 3 == 1 ? cancel($buyer, $id) : 1 } or push @failed, "$id: $@";
			sleep 0.05;
		}
		return \@failed;
	});
	return [ map { @$_ } answers($children) ];
}

# ------------------------------------------------------------ the plays

my $dump_before;
my $range = 'order_id BETWEEN ? AND ?';

my %play = (
	'yesterday' => sub {
		$app   = $server->dbh('shop', user => 'shop_app');
		$owner = $server->dbh('shop', user => 'shop_owner');
		$owner->do("INSERT INTO shop.stock VALUES ('lamp', ?)", undef, $STOCK);
		place($app, 600);
		is(pay($app, 1), 'paid', "today's shop: a payment in time");
		$app->do("UPDATE shop.orders SET status = 'shipped' WHERE order_id = 1");
		place($app, -10) for 2, 3;
		run_todays_job();
		is_deeply([ map { status($_) } 1 .. 3 ], [qw(shipped closed closed)], 'its job closes what is unpaid');
		is(pay($app, 3), 'money back', 'and a late payment is on the list');
		place($app, 600);
		shop_is_sound("today's shop");
		$dump_before = shop_dump();
	},

	'installed' => sub {
		$worker = $server->dbh('shop', user => 'refund_worker');
		is_deeply(shop_dump(), $dump_before, 'installed: nothing of the shop is touched');
		run_sweeper();
	},

	'linked' => sub {
		is(error_of($dbh, sub { $dbh->do('DROP EXTENSION order_timeout') }), '2BP01', 'linked: the extension cannot be dropped');
		is_order(4, 'new', 'pending', 'linked: an open order is known');
		is(state_of(2), undef, 'linked: a closed one is not');
		is($dbh->selectrow_array(
			"SELECT o.expires_at = r.created_at + interval '30 minutes'
			   FROM order_timeout.orders o, shop.orders r WHERE o.order_id = 'order-4' AND r.order_id = 4"),
			1, 'linked: due when the job would close it');
		my @added = grep { my $line = $_; !grep { $_ eq $line } @$dump_before } @{ shop_dump() };
		is(scalar(grep { !/^-- |^CREATE TRIGGER order_timeout_track / } @added), 0, 'linked: the table has a trigger and nothing else')
			or diag(explain(\@added));
	},

	'a day in shadow' => sub {
		place($app, 600);
		is(pay($app, 5), 'paid', 'shadow: a payment in time, the shop');
		is_order(5, 'paid', 'paid', 'and the engine');
		is(pay($app, 5), 'known', 'told again');
		$app->do("UPDATE shop.orders SET status = 'shipped' WHERE order_id = 5");

		place($app, 0.2);
		sleep 0.3;
		my $before = versions();
		run_sweeper();
		is_order(6, 'new', 'expired', 'shadow: the sweeper closes its own order');
		is_deeply(versions(), $before, 'and writes no row of the shop');
		run_todays_job();
		is_order(6, 'closed', 'expired', "today's job closes the row");

		place($app, 0.2);
		sleep 0.3;
		run_todays_job();
		is_order(7, 'closed', 'cancelled', 'shadow: when the job is first, the engine follows');
		$before = versions();
		is(pay($app, 7), 'money back', 'a late payment: the list');
		is_deeply([ call($dbh, 'funds', 'order-7')->{refund_pending} ], [1250], 'and the engine owes it');
		is_deeply(versions(), $before, 'no row of the shop is written');

		place($app, 600);
		is(cancel($app, 8), 'cancelled', 'shadow: a buyer cancels');
		is_order(8, 'closed', 'cancelled', 'the engine follows');
		shop_is_sound('shadow');
		balanced($dbh, 'shadow: the funds');
	},

	'differences' => sub {
		place($app, 600) for 9, 10;
		$app->do("UPDATE shop.orders SET status = 'paid' WHERE order_id = 9");
		$app->do("INSERT INTO shop.to_ship VALUES (9)");
		pay($app, 10);
		$app->do("UPDATE shop.orders SET status = 'closed' WHERE order_id = 10");
		$app->do("SELECT shop.give_stock_back('{10}')");
		place($app, 0.2);
		sleep 0.3;
		run_sweeper();
		is(pay($app, 11), 'paid', 'between the deadline and the job, the shop takes a payment');
		my $warning = '';
		local $SIG{__WARN__} = sub { $warning .= shift };
		$app->{PrintWarn} = 1;
		is(place($app, 600, currency => 'BTC'), 12, 'what the engine cannot follow is no error');
		$app->{PrintWarn} = 0;
		like($warning, qr/order_timeout does not follow the row "12"/, 'but a warning');
	},

	'a rush in shadow' => sub {
		is(cancel($app, 12), 'cancelled', 'what cannot be taken over is closed before the switch');
		is_deeply(rush(1000, \&run_todays_job, \&run_sweeper), [], 'rush in shadow: nothing fails, nothing deadlocks');
		run_todays_job();
		is($dbh->selectrow_array("SELECT count(*) FROM shop.orders WHERE $range AND status = 'new'", undef, 1000, 1999), 0,
			'all are settled');
		shop_is_sound('rush in shadow');
		is($dbh->selectrow_array(<<'END'), 0, 'the only differences are those that the page explains');
SELECT count(*) FROM order_timeout.link_differences('shop.orders') d
 WHERE length(d.order_id) = 10
       AND NOT (d.status = 'paid' AND d.state = 'expired'
                AND EXISTS (SELECT FROM order_timeout.payments p WHERE p.order_id = d.order_id AND p.disposition = 'late'))
END
		balanced($dbh, 'rush in shadow: the funds');
		cmp_ok($dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE state = 'pending'"), '>', 1,
			'there are refunds that must not be sent');
		place($app, 600);
		is_order(13, 'new', 'pending', 'an order is open at the switch');
		$sweep = $server->session('shop', user => 'shop_owner')->send("CALL order_timeout.sweep('6 seconds')");
	},

	'between' => sub {
		is_deeply($dbh->selectcol_arrayref('SELECT jobname FROM cron.job'), ['order_timeout'], "today's job is off");
		is(error_of($app, sub { pay($app, 13) }), '42501', 'webhooks are off: the gateway gets an error');
		place($app, -60);
		place($app, 600);
		is(cancel($app, 8), 'too late', 'the shop goes on');
	},

	'live' => sub {
		is_deeply(work(), [], 'live: no refund of the rehearsal is left to send');
		ok(!$sweep->done, 'live: a sweep runs since before the switch');
		is_deeply([ $sweep->wait ], [ '', '' ], 'and goes on without an error');
		run_sweeper();
		is_order(14, 'closed', 'expired', 'the sweeper closes what was overdue, and its row');
		shop_is_sound('live, after the first sweep');

		is(pay($app, 13), 'paid', 'live: what was told while webhooks were off is told again');
		is_order(13, 'paid', 'paid', 'and pays the order');
		is(pay($app, $_), 'known', "live: pay-$_ of before the switch is known") for 1, 3, 5, 11;
		is($dbh->selectrow_array('SELECT count(*) FROM order_timeout.attention'), 0, 'and is no orphan');
		is(pay($app, 14), 'late', 'live: a payment after the deadline');
		is_order(14, 'closed', 'expired', 'the order stays closed');
		is_deeply(work(), ['order-14 1250 submit'], 'the worker gives it back');
		is_deeply(work(), [], 'once');
		is(pay($app, 14), 'duplicate', 'told again');

		is(cancel($app, 15), 'cancelled', 'live: a buyer cancels');
		is_order(15, 'closed', 'cancelled', 'cancel_order');
		place($app, 600);
		$app->do("UPDATE shop.orders SET status = 'closed' WHERE order_id = 16");
		is_order(16, 'closed', 'cancelled', 'live: a plain UPDATE cancels, too');
		shop_is_sound('live, after cancelling');

		place($app, 600);
		is(error_of($app, sub { $app->do("UPDATE shop.orders SET status = 'paid' WHERE order_id = 17") }), 'OT005',
			'live: nobody says paid without a payment');
		is(error_of($app, sub { $app->do('UPDATE shop.orders SET total = 1 WHERE order_id = 17') }), 'OT002', 'nor changes the total');
		is(pay($app, 17), 'paid', 'a payment does');
		is(error_of($app, sub { $app->do("UPDATE shop.orders SET status = '$_' WHERE order_id = 17") }), 'OT005',
			"live: a paid order does not become $_") for qw(closed new);
		$app->do("UPDATE shop.orders SET status = 'shipped' WHERE order_id = 17");
		is_order(17, 'shipped', 'paid', 'live: it is shipped');
		call($app, 'request_refund', 'order-17', 'return 1', 250);
		is_deeply(work(), ['order-17 250 submit'], 'and part of it comes back');
		is_order(17, 'shipped', 'paid', 'the row stays');

		is(error_of($app, sub { place($app, 600, currency => 'BTC') }), '22023', 'live: what the engine cannot follow is refused');
		$app->rollback;
		place($app, 0.2);    # one number was used up
		sleep 0.3;
		is(pay($app, 19), 'paid', 'live: past the deadline and not yet closed is in time');
		is(pay($app, 4), 'paid', 'live: an order from before the installation');
		is(pay($app, 8), 'orphan', 'live: an order closed before the switch is not known');
		is(call($owner, 'refund_orphan', 'bank', 'pay-8')->{outcome}, 'refunded', 'its payment');
		is_deeply(work(), ['order-8 1250 submit'], 'goes back');

		is_deeply(rush(2000, \&run_sweeper), [], 'rush: nothing fails, nothing deadlocks');
		run_sweeper();
		is($dbh->selectrow_array("SELECT count(*) FROM shop.orders WHERE $range AND status = 'new'", undef, 2000, 2999), 0,
			'rush: all are settled');
		shop_is_sound('rush');
		is_deeply(rows($dbh, 'link_differences', 'shop.orders'), [], 'rush: the table says what the engine says');
		work();
		balanced($dbh, 'rush: the funds');
		sums_agree($dbh, 'rush: the funds, added up again');
		is($dbh->selectrow_array(<<'END'), 0, 'rush: each payment is kept for a paid order or is back');
SELECT count(*) FROM order_timeout.payments p JOIN order_timeout.orders o USING (order_id)
 WHERE o.order_id ~ '^order-2...$'
       AND CASE WHEN o.state = 'paid' THEN p.refunded <> 0 ELSE p.refunded <> p.amount END
END
		is_deeply($dbh->selectall_arrayref('SELECT * FROM order_timeout.attention'), [], 'rush: nothing waits for a person');
	},

	'before backing out' => sub {
		place($app, 600);
		is(pay($app, 20, 1), 'partial', 'an order is paid in part');
	},

	'backed out' => sub {
		is_order(20, 'closed', 'cancelled', 'backed out: the order that was paid in part is closed');
		is(pay($app, $_), 'known', "backed out: pay-$_ of before is known") for 1, 5, 14, 17, 19, 20, 8;
		is($dbh->selectrow_array("SELECT count(*) FROM shop.money_back WHERE reference <> 'pay-3' AND reference <> 'pay-7'
			AND reference !~ '^pay-1...\$'"), 0, 'and not on the list of money to give back');
		is($dbh->selectrow_array("SELECT count(*) FROM shop.payments p JOIN order_timeout.payments e ON e.payment_ref = p.reference
			WHERE p.amount * 100 <> e.amount"), 0, 'amounts are as the gateway told them');
		place($app, 0.2);
		is(state_of(21), undef, 'backed out: new orders are not followed');
		sleep 0.3;
		run_todays_job();
		is(status(21), 'closed', "today's job closes again");
		is(pay($app, 21), 'money back', 'and a late payment is on the list again');
		place($app, 600);
		is(pay($app, 22), 'paid', 'and a payment pays');
		is(cancel($app, 22), 'too late', 'and cancelling is as it was');
		shop_is_sound('backed out');
		is_deeply($dbh->selectcol_arrayref('SELECT jobname FROM cron.job'), ['close unpaid orders'], 'one job, as before');
	},

	'the last refund' => sub {
		is_deeply(work(), ['order-20 100 submit'], 'the worker goes on until all is back');
		sums_agree($dbh, 'backed out: the funds, added up again');
	},

	'as before' => sub {
		is_deeply(shop_dump(), $dump_before, 'the shop is as it was: columns, triggers, rights, functions');
		place($app, -1);
		run_todays_job();
		is(status(23), 'closed', "today's job works without the extension");
		shop_is_sound('as before');
	},

	'another shop' => sub {
		$dbh->do($_) for 'CREATE EXTENSION order_timeout', 'CREATE ROLE refund_worker LOGIN',
			"SELECT order_timeout.grant_access('shop_app', 'application')",
			"SELECT order_timeout.grant_access('shop_owner', 'operator')",
			"SELECT order_timeout.grant_access('refund_worker', 'worker')",
			<<'END';
SELECT order_timeout.link_table('shop.orders', 'order_id', 'status',
    '{"pending": "new", "paid": ["paid", "shipped"], "expired": "closed", "cancelled": "closed"}',
    amount_column => 'total', currency_column => 'currency', created_column => 'created_at', prefix => 'order-', track => true)
END
		$worker = $server->dbh('shop', user => 'refund_worker');
	},

	'tickets in shadow' => sub {
		my %ticket;
		for my $day ('2026-12-24', '2027-01-06') {
			($ticket{$day}) = $owner->selectrow_array(
				"INSERT INTO shop.tickets (event_day, cents, pay_until) VALUES (?, 900, clock_timestamp() + interval '0.2 seconds')
				 RETURNING ticket_id", undef, $day);
		}
		is(call($app, 'record_payment', "ticket-$ticket{'2026-12-24'}", 'bank', 't1', 900, 'EUR')->{outcome}, 'paid',
			'tickets: followed in each partition');
		sleep 0.3;
		$server->safe_psql('shop', "CALL order_timeout.sweep('300 milliseconds')", user => 'shop_owner');
		is_deeply($dbh->selectcol_arrayref("SELECT state FROM order_timeout.orders WHERE order_id LIKE 'ticket-%' ORDER BY state"),
			[qw(expired paid)], 'tickets: by their own deadline');
		is(call($app, 'record_payment', "ticket-$ticket{'2027-01-06'}", 'bank', 't2', 900, 'EUR')->{outcome}, 'late',
			'tickets: a late payment');
		is(scalar @{ rows($worker, 'claim_refunds', 'worker 1', 10, undef, 'bank') }, 0, 'its refund is not the worker\'s');
		is($dbh->selectrow_array('SELECT count(*) FROM shop.tickets WHERE state <> 0'), 0, 'tickets: the table is not written');

		$dbh->do($_) for 'CREATE FUNCTION shop.would_be_called(text[]) RETURNS integer LANGUAGE sql AS $$ SELECT 1 / 0 $$',
			"UPDATE order_timeout.policies SET on_close = 'shop.would_be_called' WHERE policy = 'default'";
		$owner->do("INSERT INTO shop.tickets (event_day, cents, pay_until) VALUES ('2027-01-07', 900, clock_timestamp())");
		is(call($dbh, 'sweep_once')->{failed}, 0, 'tickets: no hook is called in shadow');
		$dbh->do($_) for "UPDATE order_timeout.policies SET on_close = NULL WHERE policy = 'default'",
			'DROP FUNCTION shop.would_be_called';
	},

	'orphans' => sub {
		is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.orders WHERE order_id LIKE 'ticket-%'"), 0,
			'tickets: the rehearsal is forgotten');
		is(call($app, 'record_payment', 'order-2', 'bank', 'pay-2', 1250, 'EUR')->{outcome}, 'orphan', 'a payment for an old order');
	},
);

# What the page only shows, to be looked at when the plays around it are done.
my %after = (
	'take over' => sub {
		my ($before) = @_;
		is_order(1, 'shipped', 'paid', 'taken over: an order shipped long ago');
		is(state_of(9), undef, 'not taken over: paid without a payment');
		is($dbh->selectrow_array("SELECT count(*) FROM order_timeout.refunds WHERE order_id NOT IN ('order-2')"), 0,
			'taking over owes nothing');
		is_deeply(versions(), $before, 'and writes no row of the shop');
		is(call($app, 'record_payment', 'order-1', 'bank', 'pay-1', 1250, 'EUR')->{outcome}, 'duplicate', 'its payment is known');
		is(call($app, 'request_refund', 'order-1', 'return 1')->{amount}, 1250, 'its goods may come back');
		is_deeply(work(), [ 'order-2 1250 submit', 'order-1 1250 submit' ], 'the worker gives it back, and the orphan');
	},

	'went back' => sub {
		is(call($app, 'funds', 'order-17')->{kept}, 1000, 'what went back before is not kept');
	},
);

# ------------------------------------------------------------ the page

my (%block, %played);
my $answered = 0;

sub run_block {
	my ($block) = @_;
	my ($line, $note) = @$block{qw(line note)};
	my $role = $note->{as} or die "$PAGE, line $line: no role is named\n";
	my ($out, $err, $rc) = run_page_sql($server, 'shop', $role, $block->{text});
	is($rc, 0, "line $line: runs as $role") or diag($err);
	return unless defined $block->{answer};
	$answered++;
	$out = join('', map { s/^psql:\S+ //r } grep { /NOTICE/ } split /^/, $err) . $out;
	$out =~ s/^(?:BEGIN|SET|COMMIT)\n//gm;
	is_deeply(shape($out), shape($block->{answer}), "line $line: answers what is printed") or diag($out);
	return;
}

for my $block (blocks($PAGE)) {
	my $note = $block->{note};
	if (my $name = $note->{play}) {
		die "$PAGE, line $block->{line}: there is no play '$name'\n" unless $play{$name};
		note("play: $name");
		$play{$name}->();
		$played{$name} = 1;
	}
	if ($note->{again}) {
		run_block({ %{ $block{ $note->{again} } }, line => $block->{line}, answer => undef });
	}
	next unless $block->{language} eq 'sql';
	$block{ $note->{name} } = $block if $note->{name};
	is($block->{text}, $block{ $note->{same} }{text}, "line $block->{line}: the same statement") if $note->{same};
	my $after  = $after{ $note->{name} // '' };
	my $before = $after && versions();
	run_block($block);
	$after->($before) if $after;
}
is_deeply([ sort keys %played ], [ sort keys %play ], 'all plays were played');
cmp_ok($answered, '>', 15, 'answers are compared');
balanced($dbh, 'at the end: the funds');
sums_agree($dbh, 'at the end: the funds, added up again');

done_testing;
