-- minor_units: amounts of major units, converted exactly.
BEGIN;
\ir include/helpers.psql
SELECT no_plan();
SELECT is(order_timeout.minor_units(amount, currency), minor, concat_ws(' ', amount, currency))
  FROM (VALUES (12.34, 'EUR', 1234), (12, 'EUR', 1200), (12.3400, 'EUR', 1234), (500, 'JPY', 500), (500.00, 'JPY', 500), (1.5, 'KWD', 1500),
               (0.0001, 'CLF', 1), (0, 'EUR', 0), (0.05, 'EUR', 5), (-1.5, 'EUR', -150), (92233720368547758.07, 'EUR', 9223372036854775807),
               (1e3, 'USD', 100000), (NULL, 'EUR', NULL), (1, NULL, NULL)) v (amount, currency, minor);
PREPARE units AS SELECT order_timeout.minor_units($1, $2);
SELECT throws_ok(format('EXECUTE units(%L, %L)', amount, currency), state, NULL, concat_ws(' ', amount, currency))
  FROM (VALUES ('12.345', 'EUR', '22023'), ('0.5', 'JPY', '22023'), ('NaN', 'EUR', '22023'), ('Infinity', 'EUR', '22023'), ('-Infinity', 'EUR', '22023'),
               ('1', 'eur', '22023'), ('1', 'XAU', '22023'), ('1', '', '22023'), ('1', 'E R', '22023'), ('1', 'EURO', '22023'),
               ('92233720368547758.08', 'EUR', '22003'), ('1e1000', 'EUR', '22003')) v (amount, currency, state);
SELECT throws_ok($$SELECT order_timeout.minor_units(12.345, 'EUR')$$, '22023', '"12.345" is not an amount of EUR', 'the message says which');
CREATE TABLE amounts (total numeric, currency text);
SELECT lives_ok('CREATE INDEX ON amounts (order_timeout.minor_units(total, currency))', 'it may be indexed');
SELECT * FROM finish();
ROLLBACK;
