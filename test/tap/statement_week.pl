# A healthy week of a shop of 2,000 orders, and the gateway's file of each day, made from what happened there. If each webhook
# comes, or comes after midnight, no file shows a difference. If some of them are lost, each file shows these and nothing
# else, apply_statement records them, a person does what check_statement says about a bounce, and then all sums agree.
#
# A day is as long as it takes. Buyers pay in time, early, late, twice, in parts, in another currency and for a mistyped
# order; refunds go back by the worker and by the dashboard, whole and in part, bounce and are sent again; chargebacks are
# won and lost.

use strict;
use warnings;

use List::Util qw(sum0);
use OTServer;
use OTTest;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

my $DAYS = 7;
my $ORDERS = 2002;
my $LAYOUT = <<'END';
{"header": ["id", "type"], "kind": "type", "kinds": {"pay": "payment", "back": "refund", "dispute": "chargeback", "won": "chargeback_reversed",
  "under way": "other"},
 "units": "minor", "at": "at", "time_zone": "UTC", "reference": "id", "payment_ref": "of", "our_reference": "ours", "amount": "amount",
 "fee": "fee", "currency": "currency"}
END

my $seed = $ENV{OT_SEED} // int time;
diag("seed $seed");
srand $seed;
my $server = OTServer->started('statement_week');
my ($dbh, $lost, $day, $numbers);
my (@today, @tomorrow);     # lines of the gateway's files
my (@after_midnight, @for_a_person);
my %agenda;                 # what is to happen on a day
my %differs;                # what the check of this day must show

sub chance { return rand(100) < $_[0] }
sub number { return shift() . '_' . ++$numbers }

sub now {
	my $time = time;
	return POSIX::strftime('%Y-%m-%d %H:%M:%S', gmtime $time) . sprintf '.%06d', 1e6 * ($time - int $time);
}

sub clock { return $dbh->selectrow_array('SELECT clock_timestamp()') }
sub later { my ($days, $code) = @_; push @{ $agenda{ $day + $days } }, $code; return }

# ------------------------------------------------------------ the gateway

sub line {
	my ($type, $id, $amount, %more) = @_;
	my $line = { type => $type, id => $id, amount => $amount, at => now(), currency => 'EUR', fee => '', of => '', ours => '', %more };
	push @today, $line;
	return $line;
}

# If the gateway's message is lost, the check says $problem. What comes of one message is on the same way.
sub webhook {
	my ($line, $problem, $way, $report) = @_;
	$way //= chance($lost) ? 'lost' : chance(5) ? 'after midnight' : 'at once';
	if ($way eq 'lost') { $differs{"$problem $line->{id} applies"} = 1 }
	elsif ($way eq 'after midnight') { push @after_midnight, $report }
	else { $report->() }
	return $way;
}

sub pays {
	my ($order, $amount, %more) = @_;
	my $attempt = delete $more{attempt};
	my $line = line('pay', number('pay'), $amount, ours => $attempt // $order, fee => chance(50) ? 2 : '', %more);
	$line->{way} = webhook($line, 'only_there payment', undef, sub {
		call($dbh, 'record_payment', $order, 'card', $line->{id}, $amount, $line->{currency}, "$line->{at}+00", undef, $attempt) });
	return $line;
}

sub dashboard_refund {
	my ($payment, $amount, $way) = @_;
	my $line = line('back', number('re'), - $amount, of => $payment->{id});
	return webhook($line, 'only_there refund', $way, sub { call($dbh, 'record_refund', 'card', $payment->{id}, $line->{id}, $amount) });
}

sub disputed {
	my ($payment) = @_;
	my $amount = int $payment->{amount} / (1 + int rand 2);
	my $dispute = line('dispute', number('dp'), - $amount, of => $payment->{id});
	webhook($dispute, 'only_there chargeback', undef, sub {
		call($dbh, 'record_refund', 'card', $payment->{id}, $dispute->{id}, $amount, 'chargeback') });
	later(1, sub {
		my $won = line('won', $dispute->{id}, $amount, of => $payment->{id});
		webhook($won, 'status chargeback_reversed', undef, sub { call($dbh, 'reverse_chargeback', 'card', $dispute->{id}) });
	}) if chance(50);
	return;
}

# ------------------------------------------------------------ the buyers

sub all_kept {
	my ($payment) = @_;
	my $part = int $payment->{amount} / 4;
	my $way = $payment->{way} eq 'at once' ? undef : $payment->{way};
	my $fate = rand 100;
	if ($fate < 4) { dashboard_refund($payment, $part, $way) for 1 .. 1 + int rand 2 }
	elsif ($fate < 8) { later(1, sub { dashboard_refund($payment, $part) for 1 .. 1 + int rand 2 }) }
	elsif ($fate < 14) { later(1, sub { rows($dbh, 'request_refund', $payment->{order}, 'goods came back', $part) }) }
	elsif ($fate < 18) { later(1, sub { disputed($payment) }) }
	return;
}

sub buys {
	my ($order) = @_;
	my $amount = 400 + int rand 10000;
	my $fate = rand 100;
	my $early = $fate > 98 && pays($order, $amount);
	call($dbh, 'create_order', $order, $amount, 'EUR', '1 day');
	call($dbh, 'cancel_order', $order) if $fate < 8;
	if ($fate < 3) { return }                                                           # never pays
	elsif ($fate < 8) { pays($order, $amount) }                                         # late
	elsif ($fate < 11) { pays($order, $amount) for 1 .. 2 }
	elsif ($fate < 13) { pays($order, $_) for 300, $amount - 300 }
	elsif ($fate < 14) { pays($order, $amount, currency => 'USD') }
	elsif ($fate < 16) {
		my $orphan = pays("typo $order", $amount)->{id};
		push @for_a_person, sub { call($dbh, 'assign_orphan', 'card', $orphan, $order) };
	} elsif (!$early) {
		my $attempt = chance(40) ? "try $order" : undef;
		call($dbh, 'begin_attempt', $order, 'card', $attempt) if $attempt;
		all_kept({ order => $order, %{ pays($order, $amount, attempt => $attempt) } });
	}
	return;
}

# ------------------------------------------------------------ the refunds

sub rejected {
	my ($refund) = @_;
	call($dbh, 'complete_refund', $refund->{refund_ref}, 'rejected', $refund->{lease_token}, undef, 'the bank sent it back');
	my $next = rand 3;
	if ($next < 1) { call($dbh, 'reverse_refund', $refund->{refund_ref}, 'a new key') }
	elsif ($next < 2) { call($dbh, 'retry_refund', $refund->{refund_ref}) }
	else { call($dbh, 'settle_refund', $refund->{refund_ref}, 'by hand') }
	return;
}

# It is for a person, because the same way would fail again; also if the message is lost, and only the file has it.
sub bounces {
	my ($refund, @line) = @_;
	line('back', $line[0], $refund->{amount}, @line[ 2 .. $#line ]);
	my $send_again = sub {
		my $again = call($dbh, 'reverse_refund', $refund->{refund_ref}, 'bounced');
		call($dbh, 'retry_refund', $again->{new_refund_ref});
	};
	if (!chance($lost)) { $send_again->(); return }
	$differs{"status refund $line[0]"} = 1;
	push @for_a_person, $send_again;
	return;
}

sub sends {
	my ($refund, $is_evening) = @_;
	my ($ref, $number) = ($refund->{refund_ref}, number('re'));
	my @line = ($number, - $refund->{amount}, of => $refund->{payment_ref}, ours => $ref, currency => $refund->{currency});
	my @succeeded = ($dbh, 'complete_refund', $ref, 'succeeded');
	my $fate = rand 100;
	my $line = line('back', @line);
	if ($fate < 15) {
		line('back', $number, $refund->{amount}, @line[ 2 .. $#line ]);
		rejected($refund);
	} elsif ($fate < 35) {
		call($dbh, 'complete_refund', $ref, 'submitted', $refund->{lease_token}, $number);
		if ($day < $DAYS && chance(40)) {
			$line->{type} = 'under way';
			later(1, sub { call(@succeeded, undef, $number) });
		} else {
			webhook($line, 'status refund', undef, sub { call(@succeeded, undef, $number) });
		}
	} elsif ($fate < 38 && $refund->{amount} > 100) {
		$line->{amount} += 100;
		call(@succeeded, $refund->{lease_token}, $number, undef, - $line->{amount});
	} elsif ($fate < 48) {
		call(@succeeded, $refund->{lease_token});       # the gateway did not say its number
	} else {
		call(@succeeded, $refund->{lease_token}, $number);
		later(1, sub { bounces($refund, @line) }) if $fate < 58;
		if ($is_evening && $day < $DAYS && $fate > 70) {
			push @tomorrow, pop @today;
			$differs{"too_early refund $number"} = 1;
		}
	}
	return;
}

sub worker {
	my ($is_evening) = @_;
	while (my @refunds = @{ rows($dbh, 'claim_refunds', 'worker', 100) }) {
		sends($_, $is_evening) for @refunds;
	}
	return;
}

# ------------------------------------------------------------ a day

sub file { return join "\n", 'id,type,amount,fee,currency,at,of,ours', map { join ',', @{$_}{qw(id type amount fee currency at of ours)} } @_ }

# What the gateway says that it comes to.
sub totals {
	my %total;
	$total{ $_->{currency} } += $_->{amount} - ($_->{fee} || 0) for @_;
	return '{' . join(', ', map { qq("$_": $total{$_}) } sort keys %total) . '}';
}

sub load {
	my ($name, $from, $to, @lines) = @_;
	return is(call($dbh, 'load_statement', 'card', $name, $LAYOUT, file(@lines), $from, $to, totals(@lines))->{outcome}, 'loaded', "$name: loaded");
}

sub check {
	my ($name, $lag) = @_;
	return [ sort @{ $dbh->selectcol_arrayref(<<'END', undef, $name, $lag) } ];
SELECT concat_ws(' ', problem, kind, reference, CASE WHEN applies THEN 'applies' END)
  FROM order_timeout.check_statement('card', ?, ?)
END
}

sub adds_up {
	my ($name) = @_;
	return is_deeply($dbh->selectcol_arrayref("SELECT currency FROM order_timeout.statement_totals('card', ?) WHERE missing <> 0 OR differing <> 0", undef, $name),
		[], "$name: the sums agree");
}

sub passes {
	my ($name) = @_;
	my $from = clock();
	@today = splice @tomorrow;
	$_->{at} = now() for @today;
	my $half = int $ORDERS / $DAYS / 2;
	buys("$name order $_") for 1 .. $half;
	$_->() for @{ delete $agenda{$day} // [] };
	worker();
	my $evening = clock();
	buys("$name order $_") for $half + 1 .. 2 * $half;
	worker(1);
	my $to = clock();
	$_->() for splice @after_midnight;
	load($name, $from, $to, sort { $a->{at} cmp $b->{at} } @today);
	my ($lag) = $dbh->selectrow_array('SELECT ?::timestamptz - ?::timestamptz', undef, $to, $evening);
	is_deeply(check($name, $lag), [ sort keys %differs ], "$name: only what was lost differs");
	$dbh->do("CALL order_timeout.apply_statement('card', ?)", undef, $name);
	is_deeply(check($name, $lag), [ sort grep { !/applies/ } keys %differs ], "$name: all that was lost is recorded");
	$_->() for splice @for_a_person;
	is_deeply(check($name, $lag), [ sort grep {/too_early/} keys %differs ], "$name: and a person does the rest");
	adds_up($name);
	return ($from, $to);
}

# ------------------------------------------------------------ a week

# What went in and out at the gateway, and here.
sub both_have {
	my (@lines) = @_;
	my (%there, %here);
	$there{"$_->{currency} " . ($_->{type} eq 'pay' ? 'in' : 'out')} += $_->{amount} for @lines;
	$here{ $_->[0] } = $_->[1] for @{ $dbh->selectall_arrayref(<<'END') };
SELECT currency || ' in', sum(amount) FROM order_timeout.payments GROUP BY currency
UNION ALL
SELECT currency || ' out', - sum(amount) FROM order_timeout.refunds WHERE state = 'succeeded' AND NOT by_hand GROUP BY currency
END
	return is_deeply(\%here, \%there, 'all money is the same');
}

sub week {
	my ($database, $percent) = @_;
	$server->safe_psql('postgres', "CREATE DATABASE $database");
	$server->safe_psql($database, 'CREATE EXTENSION order_timeout');
	$dbh = $server->dbh($database);
	$dbh->do($_) for "SET timezone = 'UTC'", 'SET client_min_messages = error';
	($lost, %agenda) = ($percent);
	my (@lines, @names, $from, $to);
	for (1 .. $DAYS) {
		($day, %differs) = ($_);
		push @names, "day $day";
		(my $began, $to) = passes("day $day");
		$from //= $began;
		push @lines, @today;
		diag("day $day: ", scalar @today, ' lines, ', scalar(grep {/applies/} keys %differs), ' messages lost') if $percent;
	}
	load('week', $from, $to, @lines);
	adds_up($_) for @names, 'week';
	is_deeply(check($_, '0'), [], "$_: no difference is left") for @names, 'week';
	both_have(@lines);
	is($dbh->selectrow_array('SELECT count(*) FROM order_timeout.conflicts'), 0, 'nothing contradicts anything');
	balanced($dbh, 'the funds');
	sums_agree($dbh, 'the sums');
	return;
}

subtest('all webhooks came' => sub { week('complete', 0) });
subtest('some webhooks were lost' => sub { week('lossy', 5) });

done_testing();
