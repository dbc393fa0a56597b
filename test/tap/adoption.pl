# doc/adoption.md, in English and in Chinese, statement by statement, in two shops that were there before the extension: the
# SQL blocks of the page as the roles that it names, and between them what happens in such a shop. Each shop is a server of
# its own.

use strict;
use warnings;
use utf8;
use feature 'state';

use FindBin;
use OTPage;
use OTServer;
use Test::More;

# What differs between the shops, in the words of their tables.
my %SHOP = (
	django => {
		table   => 'shop_order',
		payment => 'shop_payment',
		parcels => 'shop_parcel',
		stock   => 'shop_product',
		sequence => 'id',
		order   => q{'order-' || $1},
		words   => { open => 1, paid => 2, shipped => 3, cancelled => 8, expired => 9 },
		new     => q{INSERT INTO shop_order (status, total, email, created_at, pay_until)
		             VALUES (1, 20.95, 'new@example.org', now(), now() + $1::interval) RETURNING id},
		lines   => 'INSERT INTO shop_orderline (quantity, order_id, product_id) VALUES (2, $1, 3)',
		take    => 'UPDATE shop_product SET stock = stock - 2 WHERE id = 3',
		due     => q{UPDATE shop_order SET pay_until = now() - interval '2 minutes' WHERE id = $1},
		cancel  => 'UPDATE shop_order SET status = 8, closed_at = now() WHERE id = $1',
		back    => q{UPDATE shop_product p SET stock = p.stock + l.quantity FROM shop_orderline l WHERE l.order_id = $1 AND p.id = l.product_id},
		amount  => '(total * 100)::bigint',
		store   => q{INSERT INTO shop_payment (reference, amount, received_at, to_return, order_id)
		             VALUES ($2, $3 / 100.0, now(), false, $1) ON CONFLICT DO NOTHING},
		owed    => 'UPDATE shop_payment SET to_return = true WHERE reference = $1',
		parcel  => 'INSERT INTO shop_parcel (order_id, created_at) VALUES ($1, now())',
	},
	rails => {
		table   => 'orders',
		payment => 'payments',
		parcels => 'shipments',
		stock   => 'products',
		sequence => 'created_at, amount_cents',
		order   => q{$1},
		words   => { open => 'pending', paid => 'paid', shipped => 'fulfilled', cancelled => 'canceled', expired => 'canceled' },
		new     => q{INSERT INTO orders (amount_cents, product_id, quantity, created_at, updated_at)
		             SELECT 2095, id, 2, now(), now() FROM products WHERE name = 'product 3' AND $1::interval IS NOT NULL RETURNING id},
		take    => q{UPDATE products SET stock = stock - 2 WHERE name = 'product 3'},
		due     => q{UPDATE orders SET created_at = now() - interval '32 minutes' WHERE id = $1},
		cancel  => q{UPDATE orders SET status = 'canceled', canceled_at = now() WHERE id = $1},
		back    => 'UPDATE products p SET stock = p.stock + o.quantity FROM orders o WHERE o.id = $1 AND p.id = o.product_id',
		amount  => 'amount_cents',
		store   => q{INSERT INTO payments (order_id, processor_id, amount_cents, created_at, updated_at)
		             VALUES ($1, $2, $3, now(), now()) ON CONFLICT DO NOTHING},
		owed    => 'UPDATE payments SET refunded_at = now() WHERE processor_id = $1',
		parcel  => 'INSERT INTO shipments (order_id, created_at, updated_at) VALUES ($1, now(), now())',
	});

# The pages, and the currency of their Django shop.
my @PAGES = ([ 'doc/adoption.md', 'EUR' ], [ 'doc/adoption.zh.md', 'CNY' ]);

my ($currency, $name, $shop, $server, %dbh, %named, $before);

sub file_of {
	my ($text) = @_;
	my $file = $server->basedir . '/example.sql';
	open my $out, '>:encoding(UTF-8)', $file or die "$file: $!\n";
	print {$out} $text;
	close $out or die "$file: $!\n";
	return $file;
}

# What psql answers at its prompt, notices too.
sub run_as {
	my ($role, $sql) = @_;
	my $out;
	my $succeeded = $server->run_log([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', 'shop', '-U', $role ], '<', file_of($sql), '>&', \$out);
	return ($succeeded, $out);
}

sub value {
	my ($sql, @bind) = @_;
	return scalar $dbh{postgres}->selectrow_array($sql, undef, @bind);
}

sub app { return $dbh{shop}->do($_[0], undef, @_[ 1 .. $#_ ]) }

# The state of the page's shop: { status => count }
sub counted { return { map { @$_ } @{ $dbh{postgres}->selectall_arrayref($_[0]) } } }

sub schema_of {
	my ($out, $err);
	$server->run_log([ 'pg_dump', '-d', 'shop', '--schema-only', '-n', 'public' ], '>', \$out, '2>', \$err) or die $err;
	return $out =~ s/^\\(un)?restrict .*$//gmr;
}

sub open_ids {
	return @{ $dbh{postgres}->selectcol_arrayref("SELECT id FROM $shop->{table} WHERE status = '$shop->{words}{open}' ORDER BY $shop->{sequence}") };
}

sub status_of { return value("SELECT status FROM $shop->{table} WHERE id = \$1", $_[0]) }

sub stock { return value("SELECT sum(stock) FROM $shop->{stock}") }

sub amount_of { return value("SELECT $shop->{amount} FROM $shop->{table} WHERE id = \$1", $_[0]) }

sub buy {
	my ($within) = @_;
	my ($id) = $dbh{shop}->selectrow_array($shop->{new}, undef, $within // '30 minutes');
	app($shop->{lines}, $id) if $shop->{lines};
	app($shop->{take});
	return $id;
}

# The deadline passes, for the shop and for the extension. Nobody changes the row, so no trigger may see it.
sub pass_deadline {
	my ($id) = @_;
	$dbh{postgres}->do('SET session_replication_role = replica');
	$dbh{postgres}->do($shop->{due}, undef, $id);
	$dbh{postgres}->do('RESET session_replication_role');
	$dbh{postgres}->do("UPDATE order_timeout.orders SET expires_at = clock_timestamp() - interval '2 minutes' WHERE order_id = "
			. $shop->{order} =~ s/\$1/$dbh{postgres}->quote($id)/er);
	return;
}

# Some statements need a third of the parameters, or a fourth.
sub record {
	my ($sql, @bind) = @_;
	my ($count) = sort { $b <=> $a } $sql =~ /\$(\d)/g;
	return $dbh{shop}->selectrow_hashref($sql, undef, @bind[ 0 .. $count - 1 ]);
}

sub sweep { return $dbh{sweeper}->do('SELECT * FROM order_timeout.sweep_once()') }

# The handler of today, with the extension's call at its end.
sub pay_in_shadow {
	my ($id, $reference, $amount) = @_;
	$amount //= amount_of($id);
	$dbh{shop}->begin_work;
	my $stored = app($shop->{store}, $id, $reference, $amount) > 0;
	if ($stored && $amount >= amount_of($id)) {
		my $paid = app("UPDATE $shop->{table} SET status = '$shop->{words}{paid}' WHERE id = \$1 AND status = '$shop->{words}{open}'", $id);
		if   ($paid > 0) { app($shop->{parcel}, $id) }
		else             { app($shop->{owed},   $reference) }
	}
	my ($savepoint, $sql, $release) = split /(?<=;)\s*\n/, $named{'shadow payment'} // "SAVEPOINT shadow;\n$named{payment}\nRELEASE SAVEPOINT shadow;";
	app($savepoint);
	my $answer = record($sql =~ s/;\s*$//r, $id, $reference, $amount, 'USD');
	app($release =~ s/--.*//r);
	$dbh{shop}->commit;
	return $answer->{outcome};
}

# The handler after the switch.
sub pay {
	my ($id, $reference, $amount) = @_;
	$amount //= amount_of($id);
	$dbh{shop}->begin_work;
	my $is_new = app($shop->{store}, $id, $reference, $amount) > 0;
	my $answer = record($named{payment} =~ s/;\s*$//r, $id, $reference, $amount, 'USD');
	$dbh{shop}->commit;
	return join ' ', grep { defined } @$answer{qw(outcome state refund_amount)};
}

my %PLAY;
$PLAY{install} = sub {
	state $servers = 0;
	$server = OTServer->started("shop" . ++$servers, 'cron.database_name' => 'shop');
	$server->safe_psql('postgres', 'CREATE ROLE shop LOGIN');
	$server->safe_psql('postgres', 'CREATE DATABASE shop OWNER shop');
	my ($succeeded, $out) = run_as('shop', do { local (@ARGV, $/) = ("$FindBin::Bin/shops/$name.sql"); <> });
	ok($succeeded, "$name: the shop is there") or diag($out);
	$before = schema_of();

	# The README's Install, with a job that does not run by itself within this test.
	$server->safe_psql('shop', <<'END');
CREATE EXTENSION pg_cron;
CREATE EXTENSION order_timeout;
CREATE ROLE refund_worker LOGIN;
CREATE ROLE shop_operator LOGIN;
CREATE ROLE sweeper LOGIN;
SELECT order_timeout.grant_access('shop', 'application'), order_timeout.grant_access('refund_worker', 'worker'),
       order_timeout.grant_access('shop_operator', 'operator'), order_timeout.grant_access('sweeper', 'operator');
GRANT USAGE ON SCHEMA cron TO sweeper;
SET ROLE sweeper;
SELECT * FROM order_timeout.schedule_sweeper('0 0 1 1 *');
END
	$dbh{$_} = $server->dbh('shop', user => $_, pg_server_prepare => 0) for qw(postgres shop sweeper refund_worker);
	is(value(q{SELECT count(*) FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'}), 0, "$name: no role is a superuser");
	%named = ();
};

# 60 are open. In the Django shop 20 of these are overdue.
$PLAY{'a day in shadow'} = sub {
	my @open = open_ids();
	my @overdue = splice @open, 0, 20;
	if ($name eq 'rails') { pass_deadline($_) for @overdue }
	sweep();
	my @new = map { buy() } 1 .. 10;
	is(pay_in_shadow($open[$_], "pay_$_"), 'paid', "$name: paid in time") for 0 .. 29;
	for my $id (@open[ 30 .. 34 ]) {
		app($shop->{cancel}, $id);
		app($shop->{back}, $id);
	}
	pass_deadline($_) for @open[ 30 .. 39 ];
	is(pay_in_shadow($open[35], 'pay_35'), 'paid', "$name: after the deadline, before any sweep");
	sweep();
	is(pay_in_shadow($open[36], 'pay_36'), 'late', "$name: after the sweep, before the job");
	if ($name eq 'django') {
		local $dbh{shop}{PrintWarn} = 0;
		is(buy('-1 minutes'), 411, "$name: a row that cannot be an order goes through");
	}
	app('SELECT close_unpaid()');
	is(pay_in_shadow($open[39], 'pay_39'), 'late', "$name: after both");
	is(pay_in_shadow($new[4], 'pay_405_1', 500), 'partial', "$name: a part");
	is_deeply(counted("SELECT status, count(*) FROM $shop->{table} GROUP BY status"),
		$name eq 'django' ? { 1 => 10, 2 => 68 + 32, 3 => 136, 8 => 68 + 5, 9 => 68 + 24 } : { pending => 10, paid => 85 + 32, fulfilled => 170, canceled => 85 + 28 },
		"$name: the table is what the job and the application wrote");
	is(value("SELECT count(*) FROM order_timeout.attention WHERE kind <> 'sweeper'"), 0, "$name: nothing needs attention");
};

# Stands for a function that calls a gateway.
$PLAY{gateway} = sub {
	$server->safe_psql('shop', <<'END');
CREATE SCHEMA gateway;
CREATE TABLE gateway.refunds (refund_ref text PRIMARY KEY, payment_ref text, amount bigint);
GRANT USAGE ON SCHEMA gateway TO sweeper;
GRANT SELECT, INSERT ON gateway.refunds TO sweeper;
CREATE FUNCTION send_refund(refund_ref text, order_id text, gateway text, payment_ref text, amount bigint, currency text, action text,
    attempt integer, OUT result text, OUT gateway_refund_ref text, OUT refunded_amount bigint, OUT error text)
LANGUAGE sql AS $$
INSERT INTO gateway.refunds VALUES ($1, $4, $5) RETURNING 'succeeded', 're_1', amount, NULL
$$;
ALTER FUNCTION send_refund OWNER TO shop;
END
};

$PLAY{'a day after the switch'} = sub {
	my ($word, $table) = @$shop{qw(words table)};
	$dbh{sweeper}->do(q{SELECT order_timeout.schedule_refunds('0 0 1 1 *')}) if $name eq 'rails';    # not next to this test
	sweep();
	my @open = open_ids();
	is(scalar(@open), 10, "$name: ten are open");
	is(value(q{SELECT count(*) FROM order_timeout.orders}), 10, "$name: and orders");
	my ($stock, $parcels) = (stock(), value("SELECT count(*) FROM $shop->{parcels}"));

	is(pay($open[0], 'new_0'), 'paid paid', "$name: paid");
	is(status_of($open[0]), $word->{paid}, "$name: and the row says so");
	is(pay($open[0], 'new_0'), 'duplicate paid', "$name: redelivered");
	is(value("SELECT count(*) FROM $shop->{parcels}"), $parcels + 1, "$name: one parcel");

	pass_deadline($_) for @open[ 1, 2 ];
	sweep();
	is_deeply([ map { status_of($_) } @open[ 1, 2, 3 ] ], [ @$word{qw(expired expired open)} ], "$name: a sweep closes rows that are due");
	is(stock(), $stock + 4, "$name: and gives their stock back");
	sweep();
	is(stock(), $stock + 4, "$name: once");

	my $amount = amount_of($open[1]);
	is(pay($open[1], 'new_1'), "late expired $amount", "$name: a late payment is owed");
	if ($name eq 'rails') {
		$dbh{sweeper}->do(q{CALL order_timeout.send_refunds('1 second')});
		is(value('SELECT string_agg(concat_ws(\' \', payment_ref, amount), \',\') FROM gateway.refunds'), "new_1 $amount", "$name: it is sent, once");
	}
	else {
		my $refund = $dbh{refund_worker}->selectrow_hashref(q{SELECT * FROM order_timeout.claim_refunds('worker 1')});
		is($refund->{amount}, $amount, "$name: the worker gets it");
		is($dbh{refund_worker}->selectrow_array(q{SELECT outcome FROM order_timeout.complete_refund(?, 'succeeded', ?)}, undef,
			@$refund{qw(refund_ref lease_token)}), 'recorded', "$name: and reports it");
	}
	is(value(q{SELECT string_agg(state, ',') FROM order_timeout.refunds}), 'succeeded', "$name: it is refunded");
	is(status_of($open[1]), $word->{expired}, "$name: the order stays closed");

	app("UPDATE $table SET status = '$word->{cancelled}' WHERE id = \$1", $open[3]);
	is(value('SELECT state FROM order_timeout.orders WHERE order_id = ' . $shop->{order}, $open[3]), 'cancelled', "$name: the application cancels");
	is(stock(), $stock + 6, "$name: and the hook gives the stock back");
	eval { app("UPDATE $table SET status = '$word->{paid}' WHERE id = \$1", $open[5]) };
	is($dbh{shop}->state, 'OT005', "$name: nobody marks an order paid by hand");
	app("UPDATE $table SET status = '$word->{shipped}' WHERE id = \$1", $open[0]);
	is(status_of($open[0]), $word->{shipped}, "$name: what is paid is shipped");

	if ($named{change}) {
		my ($set, $change) = map { s/;\s*$//r } split /(?<=;)\n/, $named{change};
		my ($was) = $dbh{shop}->selectrow_array("SELECT total FROM $table WHERE id = \$1", undef, $open[6]);
		eval { app("UPDATE $table SET total = total + 1 WHERE id = \$1", $open[6]) };
		is($dbh{shop}->state, 'OT005', "$name: another amount of the row alone is refused");
		is(record($change, $open[6], ($was + 1) * 100)->{outcome}, 'changed', "$name: of the order first");
		is(app("UPDATE $table SET total = total + 1 WHERE id = \$1", $open[6]), 1, "$name: then of the row");
		is(app($set, $open[6], '2999-01-01'), 1, "$name: a deadline of the row");
		is(value(q{SELECT date_part('year', expires_at) FROM order_timeout.orders WHERE order_id = 'order-' || $1}, $open[6]), 2999,
			"$name: is the order's");
	}

	is(pay(my $id = buy(), 'new_2'), 'paid paid', "$name: a new row, paid");
	is(value(q{SELECT count(*) FROM order_timeout.refunds WHERE settled_at IS NULL}), 0, "$name: nothing is owed");
	is(value(q{SELECT count(*) FROM order_timeout.funds_violations()}), 0, "$name: the proof");
};

$PLAY{'taken over'} = sub {
	is(value("SELECT count(*) FROM $shop->{parcels}"), 204 + 32 + 2, "$name: nothing is delivered again");
	is(value(q{SELECT count(*) FROM order_timeout.attention WHERE kind <> 'sweeper'}), 0, "$name: the rows are right");
	is($dbh{shop}->selectrow_array(q{SELECT outcome FROM order_timeout.request_refund('order-1', 'return 1')}), 'accepted',
		"$name: what was paid before can be refunded");
	my ($ref) = $dbh{postgres}->selectrow_array(q{SELECT order_timeout.withdraw_refund(refund_ref, 'a test') FROM order_timeout.refunds WHERE order_id = 'order-1'});
};

# The same shop without the link.
$PLAY{glue} = sub {
	my ($stock, $parcels) = (stock(), value("SELECT count(*) FROM $shop->{parcels}"));
	my ($paid, $late, $cancelled) = map { buy() } 1 .. 3;
	is($dbh{shop}->selectrow_array(q{SELECT outcome FROM order_timeout.record_payment('order-' || $1, 'card', 'glue', 2095, $2)}, undef, $paid, $currency),
		'paid', "$name, glue: paid");
	pass_deadline($late);
	app($shop->{cancel}, $cancelled);
	sweep();
	is(join(' ', map { status_of($_) } $paid, $late, $cancelled), '2 9 8', "$name, glue: the rows follow");
	is(value("SELECT count(*) FROM $shop->{parcels}"), $parcels + 1, "$name, glue: a parcel");
	is(stock(), $stock - 2, "$name, glue: and the stock");
	is(value(q{SELECT count(*) FROM order_timeout.orders}), 63, "$name, glue: rows that were there are orders");
};

$PLAY{'all is as before'} = sub {
	is(schema_of(), $before, "$name: the schema is as it was before");
	my $id = buy();
	app("UPDATE $shop->{table} SET status = '$shop->{words}{paid}' WHERE id = \$1", $id);
	is(value("SELECT count(*) FROM order_timeout.orders WHERE order_id = $shop->{order}", $id), 0, "$name: rows are just rows");
	is(value('SELECT count(*) FROM cron.job'), 0, "$name: no job");
	is(value('SELECT count(*) FROM order_timeout.integrations'), 0, "$name: nothing linked or hooked");
};

sub said { my $text = $_[0] =~ s/-?\b\d\d:\d\d:\d\d\b(?![.\d]*\+)/DURATION/gr; return shape($text =~ s/, /,/gr) }

sub run_page {
	my ($page) = @_;
	my @blocks = blocks($page);
	for my $i (0 .. $#blocks) {
		my ($says, $line, $sql, $language) = @{ $blocks[$i] }{qw(says line text language)};
		if ($language eq 'comment') {
			($name, $shop) = ($says->{shop}, $SHOP{ $says->{shop} }) if $says->{shop};
			next unless $says->{play};
			my $play = $PLAY{ $says->{play} } or BAIL_OUT("$page, line $line: no play $says->{play}");
			note("$page: $name: $says->{play}");
			$play->();
		}
		next unless $language eq 'sql';
		$named{ $says->{name} } = $sql if $says->{name};
		next if $sql =~ /\$\d/;
		my ($succeeded, $out) = run_as($says->{as} // die("$page, line $line: as which role?\n"), $sql);
		ok($succeeded, "$page, line $line: runs") or diag($out);
		my $answer = answer_of(@blocks[ $i, $i + 1 ]) or next;
		is_deeply(said($out), said($answer->{text}), "$page, line $line: answers what is printed") or diag($out);
	}
	return;
}

for (@PAGES) {
	(my $page, $currency) = @$_;
	run_page($page);
}
done_testing();
