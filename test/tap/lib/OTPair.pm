package OTPair;

# One store's side of a comparison: a database whose answers and rows are written so that they can be compared with
# those of another one that got the same calls. What chance and the clock bring is named by what it stands for: a refund
# by its number (R1 is the first that was made), a time by the call that read the clock. Times before 2021 and after
# 2090 are the test's own and stay as they are.

use strict;
use warnings;

use JSON::PP ();
use Time::HiRes qw(time);
use Time::Local qw(timegm);

# What is added to the clock's time anywhere: a policy's waits and leases, deadlines. Far apart, so that it can be told.
my @ADDED = (40 * 86400, 20 * 86400 + 3600, 20 * 86400 + 1800, 20 * 86400, 10 * 86400, 3 * 86400, 2 * 86400, 3600, 1800, 0);

sub new {
	my ($class, $dbh, $store) = @_;
	$dbh->do("SET order_timeout.store = '$store'");
	$dbh->do($_) for (
		'CREATE SCHEMA t',
		'CREATE TABLE t.names (refund_ref text PRIMARY KEY, n bigint)',
		# Refunds that one call made are due at the same moment, and nobody says which comes first: let it be the one that
		# was made first.
		q{CREATE FUNCTION t.part_ties() RETURNS void LANGUAGE sql AS $$
		UPDATE order_timeout.refunds r
		   SET next_attempt_at = r.next_attempt_at + x.later,
		       leased_until = CASE WHEN r.leased_until IS NOT NULL THEN r.next_attempt_at + x.later END
		  FROM (SELECT refund_ref, (row_number() OVER (PARTITION BY next_attempt_at ORDER BY
		               (SELECT min(e.id) FROM order_timeout.events e
		                 WHERE e.aggregateid = d.order_id AND e.payload->>'refund_ref' = d.refund_ref),
		               payment_ref, amount) - 1) * interval '1 microsecond' AS later
		          FROM order_timeout.refunds d
		         WHERE next_attempt_at IN (SELECT next_attempt_at FROM order_timeout.refunds
		                                    WHERE settled_at IS NULL GROUP BY 1 HAVING count(*) > 1)) x
		 WHERE x.refund_ref = r.refund_ref AND x.later > interval '0';
		UPDATE order_timeout.attempts a
		   SET next_attempt_at = a.next_attempt_at + x.later,
		       leased_until = CASE WHEN a.leased_until IS NOT NULL THEN a.next_attempt_at + x.later END
		  FROM (SELECT gateway, attempt_ref, (row_number() OVER (PARTITION BY next_attempt_at ORDER BY gateway, attempt_ref) - 1)
		               * interval '1 microsecond' AS later
		          FROM order_timeout.attempts WHERE next_attempt_at IS NOT NULL) x
		 WHERE (x.gateway, x.attempt_ref) = (a.gateway, a.attempt_ref) AND x.later > interval '0'
		$$},
		# Each call in a block of its own; an undone one is rolled back after it has answered.
		q{CREATE FUNCTION t.attempts(calls text[], undo boolean[]) RETURNS text[] LANGUAGE plpgsql AS $$
		DECLARE
			answers text[] := '{}';
			answer text;
		BEGIN
			FOR i IN 1 .. cardinality(calls) LOOP
				IF calls[i] ~ 'claim_|sweep_once' THEN
					PERFORM t.part_ties();
				END IF;
				BEGIN
					EXECUTE calls[i] INTO answer;
					IF undo[i] THEN
						RAISE EXCEPTION 'undone' USING ERRCODE = 'UNDO0';
					END IF;
				EXCEPTION WHEN OTHERS THEN
					IF SQLSTATE <> 'UNDO0' THEN
						answer := SQLSTATE || ': ' || SQLERRM;
					END IF;
				END;
				answers := answers || answer;
			END LOOP;
			RETURN answers;
		END
		$$});
	return bless { dbh => $dbh, store => $store, began => time, ended => [], names => {}, refs => [], tokens => {}, seen => 0 }, $class;
}

sub dbh { return $_[0]{dbh} }

# A call is a name and arguments. Arguments are values, or code that gets this side and returns one.
sub sql {
	my ($self, $call) = @_;
	my ($function, @arguments) = @$call;
	my $list = join ', ', map { $self->{dbh}->quote(ref $_ ? $_->($self) : $_) } @arguments;
	return "SELECT jsonb_agg(to_jsonb(r))::text FROM order_timeout.$function($list) AS r";
}

sub ref_of   { return $_[0]{refs}[ $_[1] ] // 'rf_none' }
sub token_of { return $_[0]{tokens}{ $_[1] } }

# Of all leases that the void of "gateway attempt_ref" had: the last one (-1), the one before it, the first one.
sub void_token_of { return ($_[0]{void_tokens}{ $_[1] } // [])->[ $_[2] ] }

sub refunds  { return scalar @{ $_[0]{refs} } }

# What it answers, or the SQLSTATE and the message. Inside a transaction it has a savepoint, and can be undone.
sub call {
	my ($self, $call, $undo) = @_;
	my $dbh = $self->{dbh};
	my $in_transaction = !$dbh->{AutoCommit};

	$dbh->do('SELECT t.part_ties()') if takes_oldest($call);
	$dbh->pg_savepoint('call') if $in_transaction;
	my $answer = eval { ($dbh->selectrow_array($self->sql($call)))[0] // 'no rows' };
	$undo = 1 if !defined $answer;
	$answer //= $self->error;
	$undo ? $dbh->pg_rollback_to('call') : $dbh->pg_release('call') if $in_transaction;
	return $self->written($answer);
}

# These ask for what has been due longest.
sub takes_oldest { return $_[0][0] =~ /^(claim_\w+|sweep_once)$/ }

sub error {
	my ($self) = @_;
	my $state = $self->{dbh}->state or die $@;
	return "$state: " . ($self->{dbh}->errstr =~ s/^ERROR:  //r =~ s/\n(CONTEXT|LOCATION|DETAIL:  Failing row).*//sr);
}

# Several calls in one statement, each in a block of its own.
sub attempt {
	my ($self, $calls, $undo) = @_;
	my ($answers) = $self->{dbh}->selectrow_array('SELECT t.attempts(?, ?)', undef, [ map { $self->sql($_) } @$calls ], $undo);
	return map { $self->written($_ // 'no rows') } @$answers;
}

sub do {
	my ($self, $sql, @arguments) = @_;
	return $self->{dbh}->do($sql, undef, map { ref $_ ? $_->($self) : $_ } @arguments);
}

sub written {
	my ($self, $answer) = @_;
	push @{ $self->{ended} }, time;
	$self->_name_refunds;
	$self->_keep_tokens($answer);
	return $self->normal($answer);
}

sub _name_refunds {
	my ($self) = @_;
	my $new = $self->{dbh}->selectall_arrayref(
		q{SELECT id, payload->>'refund_ref' FROM order_timeout.events
		   WHERE id > ? AND type IN ('refund.created', 'refund.recorded') ORDER BY id}, undef, $self->{seen});
	for my $row (@$new) {
		($self->{seen}, my $ref) = @$row;
		next if exists $self->{names}{$ref};
		push @{ $self->{refs} }, $ref;
		$self->{names}{$ref} = "R" . @{ $self->{refs} };
		$self->{dbh}->do('INSERT INTO t.names VALUES (?, ?)', undef, $ref, scalar @{ $self->{refs} });
	}
	return;
}

sub _keep_tokens {
	my ($self, $answer) = @_;
	return if $answer !~ /"lease_token"/;
	for my $row (@{ JSON::PP::decode_json($answer) }) {
		push @{ $self->{void_tokens}{"$row->{gateway} $row->{attempt_ref}"} }, $row->{lease_token} if $row->{attempt_ref};
		next if !$row->{refund_ref};
		$self->{tokens}{ $self->{names}{ $row->{refund_ref} } =~ s/R//r - 1 } = $row->{lease_token};
	}
	return;
}

sub normal {
	my ($self, $text) = @_;
	$text =~ s/(rf_[0-9a-f]{32})/$self->{names}{$1} \/\/ 'an unknown refund'/ge;
	$text =~ s/(["'])[0-9a-f]{32}\g1/$1a token$1/g;
	$text =~ s/(?<![0-9a-f])[0-9a-f]{32}(?=\\t|\t)/a token/g;
	$text =~ s/"(retry_at)": "[^"]+"/"$1": "a time"/g;
	$text =~ s/(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d(?:\.\d+)?)\+00(?::00)?/$self->_when($&, $1, $2, $3, $4, $5, $6)/ge;
	return $text;
}

sub _when {
	my ($self, $text, $year, $month, $day, $hour, $minute, $second) = @_;
	return $text if $year < 2021 || $year > 2090;
	my $epoch = timegm(0, $minute, $hour, $day, $month - 1, $year) + $second;
	for my $added (@ADDED) {
		my $at = $epoch - $added;
		next if $at < $self->{began} || $at > time;
		return 'call ' . $self->_call_at($at) . ($added ? " + $added s" : '');
	}
	return $text;
}

sub _call_at {
	my ($self, $at) = @_;
	my ($low, $high) = (0, scalar @{ $self->{ended} });
	while ($low < $high) {
		my $middle = int(($low + $high) / 2);
		if ($self->{ended}[$middle] < $at) { $low = $middle + 1 } else { $high = $middle }
	}
	return $low;
}

my %ORDER = (
	orders    => 'order_id',
	attempts  => 'gateway, attempt_ref',
	payments  => 'gateway, payment_ref',
	refunds   => '(SELECT n.n FROM t.names n WHERE n.refund_ref = x.refund_ref)',
	conflicts => 'conflict_id',
	set_aside => 'order_id',
	set_aside_refunds => '(SELECT n.n FROM t.names n WHERE n.refund_ref = x.refund_ref)',
);

# All rows of a table; of events those that are new since the last time.
sub rows {
	my ($self, $table) = @_;
	return $self->_new_events if $table eq 'events';
	my $rows = $self->{dbh}->selectcol_arrayref("SELECT to_jsonb(x)::text FROM order_timeout.$table x ORDER BY $ORDER{$table}");
	return [ map { $self->normal($_) } @$rows ];
}

sub _new_events {
	my ($self) = @_;
	my $rows = $self->{dbh}->selectall_arrayref(
		"SELECT id, created_at, type, (to_jsonb(x) - '{id,xid}'::text[])::text FROM order_timeout.events x WHERE id > ? ORDER BY id",
		undef, $self->{compared} // 0);
	$self->{compared} = $rows->[-1][0] if @$rows;
	# Refunds that took too long, and orders that fall due in the same microsecond, are found in no certain order.
	my (@events, @alike);
	my $last = '';
	for my $row (@$rows) {
		my $run = $row->[2] =~ /^(?:refund[.]needs_attention|order[.]due_soon)$/ ? $row->[1] : $row->[0];
		if ($run ne $last) { push @events, sort @alike; @alike = () }
		push @alike, $self->normal($row->[3]);
		$last = $run;
	}
	return [ @events, sort @alike ];
}

1;
