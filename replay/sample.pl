#!/usr/bin/perl
# Prints doc/replay/sample.csv, the same at each time: one day of a shop that sells in EUR and GBP. The orders are made up.

use v5.36;
use List::Util qw(max);
use POSIX qw(strftime);

my $ORDERS = 400;
my $DAY    = 1_772_323_200;    # 2026-03-01 00:00 UTC
my @BUSY   = (1, 1, 1, 1, 1, 2, 4, 6, 8, 9, 10, 11, 13, 12, 10, 9, 9, 10, 12, 15, 17, 14, 8, 3);    # by the hour

srand 20260301;
my @lines = map { order($_) } sort { $a->[0] <=> $b->[0] } map { [ created() ] } 1 .. $ORDERS;
say for 'order_id,created_at,amount,currency,paid_at,paid_amount', @lines;

sub created {
    while (1) {
        my $at = int rand 86_400;
        return $DAY + $at if rand(max @BUSY) < $BUSY[ $at / 3600 ];
    }
}

# Most pay within minutes, some not at all, some late, and a few not what they should.
sub order ($order) {
    state $number = 1000;
    my ($at) = @$order;
    my $currency = rand() < 0.7 ? 'EUR' : 'GBP';
    my $amount = 100 * int(5 + exp(3 + 1.1 * (rand() + rand() + rand() - 1.5))) + (rand() < 0.6 ? 99 : 50) - 100;
    my $start = join ',', 'A-' . ++$number, stamp($at), $amount, $currency;
    my $prompt = $at + 20 + int -240 * log(1 - rand() * 0.99);
    my $kind = rand 100;
    return "$start,," if $kind < 14;                                                                # never
    return "$start," . stamp($at + 1800 + int -2400 * log(1 - rand() * 0.95)) . ",$amount" if $kind < 22;   # late
    return "$start," . stamp($prompt) . ',' . int($amount * 0.9) if $kind < 24;                     # too little
    return "$start," . stamp($prompt) . ',' . ($amount + 500) if $kind < 26;                        # too much
    return map { "$start," . stamp($prompt + $_) . ",$amount" } 0, 35 if $kind < 27;                # twice
    return "$start," . stamp($prompt) . ",$amount";
}

sub stamp ($at) { return strftime('%Y-%m-%dT%H:%M:%SZ', gmtime $at) }
