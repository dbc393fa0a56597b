package Replay::Orders;

# Reads a shop's orders and payments from CSV (RFC 4180: fields may be quoted, lines end in LF or CRLF; UTF-8, with a
# byte order mark or without) and finds every bad row before anything is started.

use v5.36;
use Time::Local qw(timegm_modern);

my $HEADER = 'order_id,created_at,amount,currency,paid_at,paid_amount';

# ISO 4217, and what it withdrew since 2018: orders may be old.
my %CURRENCY = map { $_ => 1 } qw(
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE
    CHF CHW CLF CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ
    GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL
    LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN
    PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD
    TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VEF VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG ZWL);

# The orders: { order_id, created_at, amount, currency, line, payments => [ { line, paid_at, amount } ] }, times in
# seconds since 1970; and the bad rows: [ line, what is wrong ].
sub from_csv ($text) {
    $text =~ s/^\xEF\xBB\xBF//;
    my ($header, @rows) = grep { $_->{problem} || @{ $_->{fields} } > 1 || $_->{fields}[0] ne '' } rows_of($text);
    return [], [ [ 1, "the file is empty, its first line should be $HEADER" ] ] unless $header;
    my $found = join ',', @{ $header->{fields} };
    return [], [ [ $header->{line}, "the header should be $HEADER, this is " . shown($found) ] ] if $found ne $HEADER;
    return [], [ [ $header->{line}, 'no orders follow the header' ] ] unless @rows;

    my (%orders, @bad);
    for my $row (@rows) {
        my $problem = $row->{problem} // problem_of($row) // add_to(\%orders, $row);
        push @bad, [ $row->{line}, $problem ] if $problem;
    }
    return [ sort { $a->{line} <=> $b->{line} } values %orders ], \@bad;
}

sub rows_of ($text) {
    my ($line, @rows) = 1;
    for ($text) {
        pos = 0;
        while (pos() < length) {
            my ($start, $row) = (pos, { line => $line, fields => [] });
            do {
                if (/\G"((?:[^"]++|"")*+)"(?=,|\r?\n|\r?\z)/gc) { push @{ $row->{fields} }, $1 =~ s/""/"/gr }
                elsif (/\G([^",\r\n]*+)(?=,|\r?\n|\r?\z)/gc) { push @{ $row->{fields} }, $1 }
                else { $row->{problem} = 'a quote or a carriage return where none belongs, or a quote without its end' }
            } while (!$row->{problem} && /\G,/gc);
            /\G.*/gc if $row->{problem};
            /\G\r?\n?/gc;
            $line += substr($_, $start, pos() - $start) =~ tr/\n//;
            push @rows, $row;
        }
    }
    return @rows;
}

# What is wrong with a row by itself, or undef. Turns its fields into values.
sub problem_of ($row) {
    my $fields = $row->{fields};
    my $expected = () = $HEADER =~ /\w+/g;
    return 'it has ' . @$fields . " fields and not $expected" if @$fields != $expected;
    @$row{qw(order_id created_at amount currency paid_at paid_amount)} = @$fields;

    return 'order_id is empty' if $row->{order_id} eq '';
    return 'order_id is longer than 255 bytes' if length $row->{order_id} > 255;
    return 'order_id is not UTF-8' unless utf8::decode($row->{order_id});
    return 'order_id contains a control character' if $row->{order_id} =~ /[\x00-\x1f\x7f-\x9f]/;
    for my $column (qw(amount paid_amount)) {
        next if $column eq 'paid_amount' and $row->{paid_amount} eq '';
        return "$column " . shown($row->{$column}) . ' is no whole number of minor units (12.34 EUR is 1234), at most 18 digits'
            unless $row->{$column} =~ /^[0-9]{1,18}\z/;
        $row->{$column} += 0;
    }
    return 'currency ' . shown($row->{currency}) . ' is none of ISO 4217 (three capital letters)'
        unless $CURRENCY{ $row->{currency} };
    for my $column (qw(created_at paid_at)) {
        next if $column eq 'paid_at' and $row->{paid_at} eq '';
        my $seconds = seconds($row->{$column})
            // return "$column " . shown($row->{$column}) . ' is no time like 2026-03-01T09:30:00Z';
        $row->{$column} = $seconds;
    }
    if ($row->{paid_at} eq '') {
        return $row->{paid_amount} eq '' ? undef : 'paid_amount without paid_at';
    }
    return 'paid_at without paid_amount' if $row->{paid_amount} eq '';
    return 'paid_amount is 0' if $row->{paid_amount} == 0;
    return 'paid_at lies before created_at' if $row->{paid_at} < $row->{created_at};
    return undef;
}

# A further row of an order is a further payment for it. Answers what is wrong with that, or undef.
sub add_to ($orders, $row) {
    my %order = map { $_ => $row->{$_} } qw(order_id created_at amount currency line);
    my %payment = (line => $row->{line}, paid_at => $row->{paid_at}, amount => $row->{paid_amount});
    my $known = $orders->{ $row->{order_id} };
    if ($known) {
        my $first = "line $known->{line}";
        for my $column (qw(created_at amount currency)) {
            return "another $column than in $first, which has the same order" if $order{$column} ne $known->{$column};
        }
        return "the same order as in $first; only a further payment has a line of its own"
            if $row->{paid_at} eq '' or !@{ $known->{payments} };
        for my $other (@{ $known->{payments} }) {
            return "the same payment as in line $other->{line}"
                if $other->{paid_at} == $payment{paid_at} and $other->{amount} == $payment{amount};
        }
    }
    my $order = $orders->{ $row->{order_id} } //= { %order, payments => [] };
    push @{ $order->{payments} }, \%payment if $row->{paid_at} ne '';
    return undef;
}

# ISO 8601 with a date and a time of day; without an offset it is UTC.
sub seconds ($text) {
    my ($date, $hour, $minute, $second, $fraction, $sign, $hours, $minutes) = $text =~ m{
        ^([0-9]{4}-[0-9]{2}-[0-9]{2}) [T\x20] ([0-9]{2}):([0-9]{2}) (?: :([0-9]{2}) (\.[0-9]{1,6})? )?
        (?: Z | ([+-])([0-9]{2}) (?: :?([0-9]{2}) )? )?\z}x or return undef;
    my ($year, $month, $day) = split /-/, $date;
    return undef if $year < 1970 or ($hours // 0) > 15 or ($minutes // 0) > 59;
    my $at = eval { timegm_modern($second // 0, $minute, $hour, $day, $month - 1, $year) } // return undef;
    return $at + ($fraction // 0) - (($sign // '') eq '-' ? -1 : 1) * (($hours // 0) * 3600 + ($minutes // 0) * 60);
}

# What the file says, fit for a terminal.
sub shown ($text) {
    $text = substr($text, 0, 60) . '...' if length $text > 60;
    return "'" . $text =~ s/[^\x20-\x7e]/?/gr . "'";
}

1;
