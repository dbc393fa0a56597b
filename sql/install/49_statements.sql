-- The gateway's statements: its file of a day, loaded.

-- No foreign key between the two: a dump restores in any order.
CREATE TABLE statements (
    gateway     text COLLATE "C" NOT NULL,
    statement   text COLLATE "C" NOT NULL,
    covers_from timestamptz NOT NULL,
    covers_to   timestamptz NOT NULL,           -- the end is not in it
    totals      jsonb,                          -- what the gateway says that it comes to, by currency; null: nothing
    fingerprint text,                           -- of the file: by this a repeat of load_statement is recognised
    loaded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (gateway, statement),
    CONSTRAINT statements_covers CHECK (covers_from < covers_to),
    CONSTRAINT statements_totals CHECK (jsonb_typeof(totals) = 'object')
);
COMMENT ON TABLE statements IS
'A statement of a gateway: which time it covers, and what it comes to. Written by load_statement and unload_statement, or by the operator''s own INSERT.';

CREATE TABLE statement_lines (
    gateway       text COLLATE "C" NOT NULL,
    statement     text COLLATE "C" NOT NULL,
    line          bigint NOT NULL,              -- of the file; its fee is a row of its own with the same number
    kind          text NOT NULL,
    reference     text COLLATE "C",
    payment_ref   text COLLATE "C",
    our_reference text COLLATE "C",
    amount        bigint NOT NULL,
    currency      text NOT NULL,
    at            timestamptz NOT NULL,
    raw           text,
    outcome       text,
    applied_at    timestamptz,
    PRIMARY KEY (gateway, statement, line, kind),
    CONSTRAINT statement_lines_kind CHECK
        (kind IN ('payment', 'refund', 'chargeback', 'chargeback_reversed', 'fee', 'other')),
    CONSTRAINT statement_lines_reference CHECK (reference IS NOT NULL OR kind IN ('fee', 'other')),
    CONSTRAINT statement_lines_lengths CHECK
        (octet_length(reference) <= 255 AND octet_length(payment_ref) <= 255 AND octet_length(our_reference) <= 255),
    CONSTRAINT statement_lines_currency CHECK (currency ~ '^[A-Z]{3}$')
);
COMMENT ON TABLE statement_lines IS
'A line of a statement: what the gateway says that happened, and what apply_statement did about it. Written by load_statement and unload_statement, or by the operator''s own INSERT, and by apply_statement.';
-- Of a key what differs comes first, as in refunds.
CREATE INDEX statement_lines_reference ON statement_lines (reference, gateway);
CREATE INDEX statement_lines_our_reference ON statement_lines (our_reference, gateway) WHERE kind IN ('refund', 'other');

SELECT pg_catalog.pg_extension_config_dump('statements', '');
SELECT pg_catalog.pg_extension_config_dump('statement_lines', '');

-- Loading.

-- The words of other alphabets stand in escapes, so that the script can be read in a database of any encoding.
CREATE FUNCTION statement_layout(layout text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF layout IS NULL THEN
        RAISE EXCEPTION 'layout must not be null' USING ERRCODE = '22004', HINT = 'Use one of: stripe, wechat_pay.';
    ELSIF layout = 'stripe' THEN
        -- Balance change from activity, itemized: amounts are signed, of each row the fee is taken.
        RETURN '{
            "header": ["balance_transaction_id", "reporting_category", "gross"],
            "kind": "reporting_category",
            "kinds": {"charge": "payment", "refund": "refund", "refund_failure": "refund", "dispute": "chargeback",
                      "dispute_reversal": "chargeback_reversed", "fee": "fee", "network_cost": "fee", "*": "other"},
            "currency": "currency", "units": "major", "at": "created_utc", "time_zone": "UTC",
            "amount": "gross", "fee": "fee", "reference": "source_id", "payment_ref": "charge_id",
            "by_kind": {"payment": {"reference": ["charge_id", "source_id"],
                                    "our_reference": ["payment_metadata[order_id]", "payment_intent_id"]},
                        "refund": {"our_reference": "refund_metadata[refund_ref]"}}}'::jsonb;
    ELSIF layout = 'wechat_pay' THEN
        -- jiaoyi zhangdan, all of a day: a row is a payment or a refund, amounts have no sign.
        RETURN ('{
            "header": ["\u4ea4\u6613\u65f6\u95f4", "\u5fae\u4fe1\u8ba2\u5355\u53f7", "\u4ea4\u6613\u72b6\u6001"],
            "end": "\u603b\u4ea4\u6613\u5355\u6570",
            "kind": ["\u4ea4\u6613\u72b6\u6001", "\u9000\u6b3e\u72b6\u6001"],
            "kinds": {"SUCCESS": "payment", "REFUND/SUCCESS": "refund", "REVOKED/SUCCESS": "refund", "*": "other"},
            "currency": "\u8d27\u5e01\u79cd\u7c7b", "units": "major", "at": "\u4ea4\u6613\u65f6\u95f4", "time_zone": "Asia/Shanghai",
            "fee": "\u624b\u7eed\u8d39",
            "reference": "\u5fae\u4fe1\u9000\u6b3e\u5355\u53f7", "payment_ref": "\u5fae\u4fe1\u8ba2\u5355\u53f7",
            "our_reference": "\u5546\u6237\u9000\u6b3e\u5355\u53f7", "amount": "\u9000\u6b3e\u91d1\u989d", "negate": true,
            "by_kind": {"payment": {"reference": "\u5fae\u4fe1\u8ba2\u5355\u53f7", "our_reference": "\u5546\u6237\u8ba2\u5355\u53f7",
                                    "amount": "\u5e94\u7ed3\u8ba2\u5355\u91d1\u989d", "negate": false}},
            "totals": {"currency": "CNY", "plus": ["\u5e94\u7ed3\u8ba2\u5355\u603b\u91d1\u989d"],
                       "minus": ["\u9000\u6b3e\u603b\u91d1\u989d", "\u624b\u7eed\u8d39\u603b\u91d1\u989d"]}}')::jsonb;
    END IF;
    RAISE EXCEPTION 'no layout is called "%"', layout
        USING ERRCODE = '22023', HINT = 'Use one of: stripe, wechat_pay; or give load_statement a map of your own.';
END
$$;
COMMENT ON FUNCTION statement_layout(text) IS
'The column map of a gateway''s file, for load_statement: stripe (balance change from activity, itemized) or wechat_pay (the bill of all trades). Change a part of it with ||. Errors: 22023 no such layout, 22004. Locks: none.';

-- Two that are inlined, because a call for each value of each line would cost more than all the rest.
CREATE FUNCTION _field(fields text[], place integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT nullif(btrim(CASE WHEN starts_with(fields[place], '"')
                             THEN replace(replace(substr(fields[place], 2, length(fields[place]) - 2), '""', '"'), E'\x1f', ',')
                             ELSE fields[place] END, E' \t\r\n`'), '');
END;
COMMENT ON FUNCTION _field(text[], integer) IS
'A field without quotes, spaces and backticks around it; null if it is empty. Used by load_statement.';

CREATE FUNCTION _first_field(fields text[], places integer[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(_field(fields, places[1]), _field(fields, places[2]), _field(fields, places[3]));
END;
COMMENT ON FUNCTION _first_field(text[], integer[]) IS
'The first of these fields that is not empty. Used by load_statement.';

-- A record goes on in the next line while a quote is open. WeChat Pay puts a backtick before each value and quotes none.
-- A comma between quotes is a unit separator (U+001F) until _field reads the field: to split by a regular expression takes
-- ten times as long.
CREATE FUNCTION _csv_records(csv text, quotes boolean) RETURNS TABLE (line bigint, raw text, fields text[])
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH physical AS (
        SELECT s.n, rtrim(s.t, E'\r') AS t, CASE WHEN starts_with(s.t, '`') OR NOT _csv_records.quotes THEN 0 ELSE length(s.t) - length(replace(s.t, '"', '')) END AS quotes
          FROM string_to_table(CASE WHEN ascii(_csv_records.csv) = 65279 THEN substr(_csv_records.csv, 2) ELSE _csv_records.csv END, E'\n')
               WITH ORDINALITY s(t, n)
    ), opened AS (
        SELECT p.n, p.t, sum(p.quotes) OVER (ORDER BY p.n) - p.quotes AS before FROM physical p
    ), numbered AS (
        SELECT o.n, o.t, sum(CASE WHEN o.before % 2 = 0 THEN 1 ELSE 0 END) OVER (ORDER BY o.n) AS record FROM opened o
    ), records AS (
        SELECT min(n.n) AS n, string_agg(n.t, E'\n' ORDER BY n.n) AS t FROM numbered n GROUP BY n.record
    )
    SELECT r.n, r.t,
           CASE WHEN starts_with(r.t, '`') THEN string_to_array(substr(r.t, 2), ',`')
                WHEN strpos(r.t, '"') = 0 THEN string_to_array(r.t, ',')
                -- As a file with quotes would have them.
                WHEN NOT _csv_records.quotes THEN ARRAY(SELECT '"' || replace(f.t, '"', '""') || '"' FROM string_to_table(r.t, ',') WITH ORDINALITY f(t, n) ORDER BY f.n)
                ELSE string_to_array((SELECT string_agg(CASE WHEN q.n % 2 = 0 THEN replace(q.t, ',', E'\x1f') ELSE q.t END, '"' ORDER BY q.n)
                                        FROM string_to_table(r.t, '"') WITH ORDINALITY q(t, n)), ',') END
      FROM records r WHERE btrim(r.t, E' \t\r') <> '' ORDER BY r.n
$$;
COMMENT ON FUNCTION _csv_records(text, boolean) IS
'The records of a CSV file, each with the number of its first line and its fields. quotes: whether a quote is more than a character. Used by load_statement.';

-- A quote that is not as it must be joins lines, and what it swallowed would be left out in silence.
CREATE FUNCTION _quotes_fit(raw text, fields text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT starts_with(raw, '`')
        OR NOT EXISTS (SELECT FROM unnest(fields) f (field)
                        WHERE strpos(f.field, '"') > 0
                          AND (f.field NOT LIKE '"%"' OR length(f.field) < 2
                               OR strpos(replace(substr(f.field, 2, length(f.field) - 2), '""', ''), '"') > 0));
END;
COMMENT ON FUNCTION _quotes_fit(text, text[]) IS
'Whether each field of a record has its quotes around it, or none. Used by load_statement.';

CREATE FUNCTION _bad_line(line bigint, problem text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'line % of the statement cannot be loaded', line
        USING ERRCODE = '22023', DETAIL = problem, HINT = 'Nothing was loaded. Correct the layout or the line, and load the file again.';
END
$$;
COMMENT ON FUNCTION _bad_line(bigint, text) IS
'Raises 22023 with the number of the line. Used by load_statement.';

-- Where the columns that an entry of a layout names stand in the header; a name or a list of up to three, the first that
-- has a value counts.
CREATE FUNCTION _layout_columns(names jsonb, header text[]) RETURNS integer[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT array_position(header, n.name)
                   FROM jsonb_array_elements_text(CASE jsonb_typeof(names) WHEN 'array' THEN names WHEN 'string' THEN jsonb_build_array(names)
                                                                           ELSE '[]' END) WITH ORDINALITY n(name, nth)
                  WHERE array_position(header, n.name) IS NOT NULL ORDER BY n.nth)
$$;
COMMENT ON FUNCTION _layout_columns(jsonb, text[]) IS
'The positions of columns in a header. Used by load_statement.';

-- A summary stands at the end: a header of its own, and its values in the next record.
CREATE FUNCTION _summary_totals(csv text, layout jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH tail AS (
        SELECT r.fields, lead(r.fields) OVER (ORDER BY r.line) AS values
          FROM order_timeout._csv_records(substr(right(csv, 20000), 1 + CASE WHEN length(csv) > 20000 THEN strpos(right(csv, 20000), E'\n') ELSE 0 END),
                                           (layout -> 'quotes') IS DISTINCT FROM 'false'::jsonb) r
    )
    SELECT jsonb_build_object(layout #>> '{totals,currency}', sum(n.sign * order_timeout.minor_units(
               order_timeout._field(t.values, array_position(t.fields, n.name))::numeric, layout #>> '{totals,currency}')))
      FROM tail t
     CROSS JOIN (SELECT jsonb_array_elements_text(layout #> '{totals,plus}') AS name, 1 AS sign
                 UNION ALL SELECT jsonb_array_elements_text(layout #> '{totals,minus}'), -1) n
     WHERE order_timeout._field(t.fields, 1) = layout ->> 'end' AND t.values IS NOT NULL
    HAVING count(*) > 0
$$;
COMMENT ON FUNCTION _summary_totals(text, jsonb) IS
'What the summary at the end of a file comes to, by currency; null if there is none. Used by load_statement.';

CREATE FUNCTION _require_statement(gateway text, statement text) RETURNS statements
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_statement order_timeout.statements;
BEGIN
    IF gateway IS NULL OR statement IS NULL THEN
        RAISE EXCEPTION '% must not be null', CASE WHEN gateway IS NULL THEN 'gateway' ELSE 'statement' END USING ERRCODE = '22004';
    END IF;
    SELECT s.* INTO found_statement FROM order_timeout.statements s
     WHERE s.gateway = _require_statement.gateway AND s.statement = _require_statement.statement;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'statement "%" of gateway "%" is not loaded', statement, gateway
            USING ERRCODE = '22023', HINT = 'Load it first with order_timeout.load_statement(); order_timeout.statements shows what is loaded.';
    END IF;
    RETURN found_statement;
END
$$;
COMMENT ON FUNCTION _require_statement(text, text) IS
'A statement; 22023 if it is not loaded, 22004. Used by apply_statement, check_statement, load_statement and statement_totals.';

CREATE FUNCTION _require_loadable(gateway text, statement text, layout jsonb, csv text, covers_from timestamptz, covers_to timestamptz,
    totals jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    argument record;
    wrong text;
BEGIN
    FOR argument IN SELECT * FROM (VALUES ('gateway', gateway IS NULL), ('statement', statement IS NULL), ('layout', layout IS NULL),
                                          ('csv', csv IS NULL), ('covers_from', covers_from IS NULL), ('covers_to', covers_to IS NULL))
                                    v (name, is_null) LOOP
        IF argument.is_null THEN
            RAISE EXCEPTION '% must not be null', argument.name USING ERRCODE = '22004';
        END IF;
    END LOOP;
    wrong := CASE WHEN octet_length(gateway) NOT BETWEEN 1 AND 255 OR gateway ~ '[[:cntrl:]]'
                    OR octet_length(statement) NOT BETWEEN 1 AND 255 OR statement ~ '[[:cntrl:]]'
                  THEN 'Gateway and statement need 1 to 255 bytes, without control characters.'
                  WHEN covers_from >= covers_to THEN 'covers_from must be before covers_to.'
                  WHEN covers_from < '1970-01-01 00:00:00+00' OR covers_to >= '10000-01-01 00:00:00+00'
                  THEN 'Times must be between the years 1970 and 9999.'
                  WHEN jsonb_typeof(totals) <> 'object'
                    OR EXISTS (SELECT FROM jsonb_each_text(CASE jsonb_typeof(totals) WHEN 'object' THEN totals ELSE '{}' END) t
                                WHERE t.key !~ '^[A-Z]{3}$' OR t.value !~ '^-?[0-9]{1,18}$')
                  THEN 'totals must be an object of currencies with minor units, as in {"EUR": 123456}.'
                  WHEN jsonb_typeof(layout) <> 'object' OR jsonb_typeof(layout -> 'header') IS DISTINCT FROM 'array'
                    OR jsonb_typeof(layout -> 'kinds') IS DISTINCT FROM 'object' OR NOT layout ?& '{kind,at,time_zone}'
                    OR layout ->> 'units' IS DISTINCT FROM 'major' AND layout ->> 'units' IS DISTINCT FROM 'minor'
                  THEN 'layout needs header (an array), kind, kinds (an object), at, time_zone, units (major or minor).'
                  WHEN EXISTS (SELECT FROM jsonb_each_text(layout -> 'kinds') k
                                WHERE k.value NOT IN ('payment', 'refund', 'chargeback', 'chargeback_reversed', 'fee', 'other'))
                  THEN 'kinds of layout must be payment, refund, chargeback, chargeback_reversed, fee or other.'
                  WHEN jsonb_typeof(layout -> 'by_kind') <> 'object'
                    OR EXISTS (SELECT FROM jsonb_each(CASE jsonb_typeof(layout -> 'by_kind') WHEN 'object' THEN layout -> 'by_kind' ELSE '{}' END) k
                                WHERE jsonb_typeof(k.value) <> 'object')
                  THEN 'by_kind of layout must be an object of kinds, each with an object.'
                  WHEN jsonb_typeof(layout -> 'quotes') <> 'boolean' THEN 'quotes of layout must be true or false.'
                  WHEN NOT EXISTS (SELECT FROM pg_timezone_names z WHERE z.name = layout ->> 'time_zone')
                  THEN format('Time zone "%s" is not known.', layout ->> 'time_zone') END;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'the statement cannot be loaded' USING ERRCODE = '22023', DETAIL = wrong;
    END IF;
    IF octet_length(csv) < 1000 AND btrim(csv, E' \t\r\n') = '' THEN
        RAISE EXCEPTION 'the file is empty'
            USING ERRCODE = '22023', HINT = 'Did the command that reads it find it, and may it read it? A name with spaces needs quotes.';
    END IF;
END
$$;
COMMENT ON FUNCTION _require_loadable(text, text, jsonb, text, timestamptz, timestamptz, jsonb) IS
'Raises 22023 or 22004 for a wrong argument of load_statement. Used by load_statement.';

-- What was loaded is kept: only a person knows whether it was meant.
CREATE FUNCTION _warn_about_statement(loaded statements) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    other text;
    first_at timestamptz;
    last_at timestamptz;
BEGIN
    SELECT s.statement INTO other FROM order_timeout.statements s
     WHERE s.gateway = loaded.gateway AND s.fingerprint = loaded.fingerprint AND s.statement <> loaded.statement
     ORDER BY s.statement LIMIT 1;
    IF FOUND THEN
        RAISE WARNING 'statement "%" of gateway "%" is the same file as statement "%"', loaded.statement, loaded.gateway, other
            USING HINT = 'If that is wrong, call order_timeout.unload_statement() for one of them.';
    END IF;
    IF EXISTS (SELECT FROM order_timeout.statement_lines l
                WHERE l.gateway = loaded.gateway AND l.statement = loaded.statement
                  AND l.at >= loaded.covers_from AND l.at < loaded.covers_to) THEN
        RETURN;
    END IF;
    SELECT min(l.at), max(l.at) INTO first_at, last_at FROM order_timeout.statement_lines l
     WHERE l.gateway = loaded.gateway AND l.statement = loaded.statement;
    IF first_at IS NOT NULL THEN
        RAISE WARNING 'no line of statement "%" of gateway "%" is of the time that it covers', loaded.statement, loaded.gateway
            USING DETAIL = format('Its lines are from %s to %s; it covers %s to %s.', first_at, last_at, loaded.covers_from, loaded.covers_to),
                  HINT = 'If that is wrong, call order_timeout.unload_statement() and load it again.';
    END IF;
END
$$;
COMMENT ON FUNCTION _warn_about_statement(statements) IS
'A WARNING if a statement has no line of the time that it covers, or is the same file as another one. Used by load_statement.';

CREATE FUNCTION load_statement(
    gateway text, statement text, layout jsonb, csv text, covers_from timestamptz, covers_to timestamptz, totals jsonb DEFAULT NULL,
    OUT outcome text, OUT lines bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' AS $$
DECLARE
    file_fingerprint CONSTANT text := md5(csv);
    has_quotes CONSTANT boolean := (layout -> 'quotes') IS DISTINCT FROM 'false'::jsonb;
    found_statement order_timeout.statements;
    first_line bigint;
    columns text[];
    kind_columns integer[];
    -- A comma stands before three digits, or it is a decimal comma; in India also before two that are followed by another one.
    number CONSTANT text := '^-?([0-9]+|[0-9]{1,3}(,[0-9]{2,3})*,[0-9]{3})(\.[0-9]+)?$';
    zone CONSTANT text := '( ?(Z|[+-][0-9]{2}(:?[0-9]{2})?))';
    detail text;
    hint text;
BEGIN
    PERFORM order_timeout._require_loadable(gateway, statement, layout, csv, covers_from, covers_to, totals);
    INSERT INTO order_timeout.statements AS s (gateway, statement, covers_from, covers_to, totals, fingerprint)
    VALUES (load_statement.gateway, load_statement.statement, load_statement.covers_from, load_statement.covers_to,
            coalesce(load_statement.totals, order_timeout._summary_totals(csv, layout)), file_fingerprint)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        found_statement := order_timeout._require_statement(gateway, statement);
        IF found_statement.fingerprint IS DISTINCT FROM file_fingerprint THEN
            RAISE EXCEPTION 'statement "%" of gateway "%" was loaded from another file', statement, gateway
                USING ERRCODE = '22023', HINT = 'Give this one another name, or call order_timeout.unload_statement() first.';
        END IF;
        outcome := 'exists';
        SELECT count(*) INTO lines FROM order_timeout.statement_lines l
         WHERE l.gateway = load_statement.gateway AND l.statement = load_statement.statement;
        RETURN;
    END IF;

    SELECT r.line, r.fields INTO first_line, columns
      FROM (SELECT h.line, ARRAY(SELECT order_timeout._field(h.fields, n) FROM generate_subscripts(h.fields, 1) n ORDER BY n) AS fields
              FROM order_timeout._csv_records(left(csv, 100000), has_quotes) h) r
     WHERE r.fields @> ARRAY(SELECT jsonb_array_elements_text(layout -> 'header')) ORDER BY r.line LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the file has no header of this layout'
            USING ERRCODE = '22023', DETAIL = format('It needs the columns %s. Its first line is "%s".', layout -> 'header',
                                  left(btrim(split_part(left(csv, 1000), E'\n', 1), E'\r'), 200)),
                  HINT = 'Check the layout, the encoding of the file, and that commas separate its fields.';
    END IF;

    kind_columns := order_timeout._layout_columns(layout -> 'kind', columns);

    PERFORM order_timeout._progress('load_statement', 1);
    WITH records AS MATERIALIZED (
        SELECT r.* FROM order_timeout._csv_records(csv, has_quotes) r WHERE r.line > first_line
    ), data AS (
        SELECT r.* FROM records r
         WHERE r.line < coalesce((SELECT min(e.line) FROM records e WHERE order_timeout._field(e.fields, 1) = layout ->> 'end'), 9223372036854775807)
    ), map AS MATERIALIZED (
        -- What a kind does not name, it has from the layout.
        SELECT k.kind, order_timeout._layout_columns(m.map -> 'reference', columns) AS reference,
               order_timeout._layout_columns(m.map -> 'payment_ref', columns) AS payment_ref,
               order_timeout._layout_columns(m.map -> 'our_reference', columns) AS our_reference,
               order_timeout._layout_columns(m.map -> 'amount', columns) AS amount,
               order_timeout._layout_columns(m.map -> 'fee', columns) AS fee,
               order_timeout._layout_columns(m.map -> 'currency', columns) AS currency, m.map ->> 'currency_is' AS currency_is,
               order_timeout._layout_columns(m.map -> 'at', columns) AS at,
               CASE WHEN (m.map ->> 'negate')::boolean THEN -1 ELSE 1 END AS sign
          FROM (SELECT DISTINCT e.value AS kind FROM jsonb_each_text(layout -> 'kinds') e) k
         CROSS JOIN LATERAL (SELECT layout || coalesce(layout -> 'by_kind' -> k.kind, '{}') AS map) m
    -- Materialized, so that what a column stands for is not carried out again at each place that names it.
    ), kind AS MATERIALIZED (
        SELECT w.*, coalesce(layout -> 'kinds' ->> w.word, layout -> 'kinds' ->> '*') AS kind
          FROM (SELECT d.*, concat_ws('/', order_timeout._field(d.fields, kind_columns[1]), order_timeout._field(d.fields, kind_columns[2]),
                                      order_timeout._field(d.fields, kind_columns[3])) AS word FROM data d) w
    ), value AS MATERIALIZED (
        SELECT k.line, k.raw, k.fields, k.word, k.kind, m.sign,
               order_timeout._first_field(k.fields, m.reference) AS reference,
               CASE WHEN k.kind <> 'payment' THEN order_timeout._first_field(k.fields, m.payment_ref) END AS payment_ref,
               order_timeout._first_field(k.fields, m.our_reference) AS our_reference,
               order_timeout._first_field(k.fields, m.amount) AS amount,
               coalesce(order_timeout._first_field(k.fields, m.fee), '0') AS fee,
               upper(coalesce(order_timeout._first_field(k.fields, m.currency), m.currency_is)) AS currency,
               order_timeout._first_field(k.fields, m.at) AS at
          FROM kind k LEFT JOIN map m ON m.kind = k.kind
    ), checked AS MATERIALIZED (
        SELECT v.*, CASE WHEN cardinality(v.fields) <> cardinality(columns)
                         THEN format('It has %s fields, the header has %s.', cardinality(v.fields), cardinality(columns))
                         WHEN strpos(v.raw, '"') > 0 AND NOT order_timeout._quotes_fit(v.raw, v.fields)
                         THEN 'A quote is not closed, or stands in the middle of a field. If the gateway quotes no fields: "quotes": false.'
                         WHEN v.kind IS NULL THEN format('The layout does not say of which kind "%s" is.', v.word)
                         WHEN v.amount IS NULL OR v.currency IS NULL OR v.at IS NULL
                         THEN format('Column %s is empty, or not in the file.',
                                     coalesce((layout || coalesce(layout -> 'by_kind' -> v.kind, '{}'))
                                              ->> CASE WHEN v.amount IS NULL THEN 'amount' WHEN v.currency IS NULL THEN 'currency' ELSE 'at' END,
                                              '(none in the layout)'))
                         WHEN v.amount !~ number THEN format('"%s" is not an amount.', v.amount)
                         WHEN layout ->> 'units' = 'minor' AND strpos(v.amount || v.fee, '.') > 0
                         THEN format('"%s" is not a whole number of minor units.', CASE WHEN strpos(v.amount, '.') > 0 THEN v.amount ELSE v.fee END)
                         WHEN v.fee !~ number THEN format('"%s" is not an amount.', v.fee)
                         WHEN v.currency !~ '^[A-Z]{3}$' THEN format('"%s" is not a currency.', v.currency)
                         WHEN v.at !~ ('^[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}[ T][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?' || zone || '?$') THEN format('"%s" is not a time.', v.at)
                         WHEN v.reference IS NULL AND v.kind NOT IN ('fee', 'other') THEN 'It has no reference.'
                         WHEN greatest(octet_length(v.reference), octet_length(v.payment_ref), octet_length(v.our_reference)) > 255
                         THEN 'A reference is longer than 255 bytes.' END AS problem
          FROM value v
    ), converted AS MATERIALIZED (
        SELECT c.*, CASE WHEN c.at ~ (':[0-9.:]+' || zone || '$') THEN c.at::timestamptz
                         ELSE c.at::timestamp AT TIME ZONE (layout ->> 'time_zone') END AS happened_at,
               c.sign * CASE layout ->> 'units' WHEN 'major' THEN order_timeout.minor_units(replace(c.amount, ',', '')::numeric, c.currency)
                                                ELSE replace(c.amount, ',', '')::bigint END AS money,
               - CASE layout ->> 'units' WHEN 'major' THEN order_timeout.minor_units(replace(c.fee, ',', '')::numeric, c.currency)
                                         ELSE replace(c.fee, ',', '')::bigint END AS fee_money
          FROM checked c
         WHERE CASE WHEN c.problem IS NULL THEN order_timeout._progress_row(2) ELSE order_timeout._bad_line(c.line, c.problem) END
           -- Asked once, before the first line.
           AND (SELECT order_timeout._progress('load_statement', 2, (SELECT count(*) FROM records)))
    )
    INSERT INTO order_timeout.statement_lines
           (gateway, statement, line, kind, reference, payment_ref, our_reference, amount, currency, at, raw)
    SELECT load_statement.gateway, load_statement.statement, c.line, x.kind, c.reference, c.payment_ref, c.our_reference,
           x.money, c.currency, c.happened_at, x.raw
      FROM converted c
     CROSS JOIN LATERAL (SELECT c.kind, c.money + CASE c.kind WHEN 'fee' THEN c.fee_money ELSE 0 END AS money, c.raw
                         UNION ALL
                         SELECT 'fee', c.fee_money, NULL WHERE c.fee_money <> 0 AND c.kind <> 'fee') x;
    GET DIAGNOSTICS lines = ROW_COUNT;
    PERFORM order_timeout._progress('load_statement', 0);
    outcome := 'loaded';
    PERFORM order_timeout._warn_about_statement(order_timeout._require_statement(gateway, statement));
-- Without the long statement as context.
EXCEPTION WHEN data_exception THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RAISE EXCEPTION '%', SQLERRM USING ERRCODE = CASE WHEN SQLSTATE IN ('22003', '22004') THEN SQLSTATE ELSE '22023' END,
                                       DETAIL = coalesce(nullif(detail, ''), 'Nothing was loaded.'),
                                       HINT = coalesce(nullif(hint, ''), 'Correct the arguments or the file, and load it again.');
END
$$;
COMMENT ON FUNCTION load_statement(text, text, jsonb, text, timestamptz, timestamptz, jsonb) IS
'Loads a gateway''s file: csv is its text, layout says what its columns mean (statement_layout has two), covers_from and covers_to which time it covers. totals: what it comes to, in minor units by currency; null: what its summary says, if the layout knows it. lines: rows of statement_lines, a fee is a row of its own. A WARNING says if no line is of the time covered, or if this file is loaded under another name. Outcomes: loaded, exists (this file was loaded under this name). Errors: 22023 a line that does not fit (DETAIL says why), another file under this name, a wrong argument; 22003, 22004. Locks: the statement.';

CREATE FUNCTION unload_statement(gateway text, statement text, OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF gateway IS NULL OR statement IS NULL THEN
        RAISE EXCEPTION '% must not be null', CASE WHEN gateway IS NULL THEN 'gateway' ELSE 'statement' END USING ERRCODE = '22004';
    END IF;
    DELETE FROM order_timeout.statements s
     WHERE s.gateway = unload_statement.gateway AND s.statement = unload_statement.statement;
    outcome := CASE WHEN FOUND THEN 'unloaded' ELSE 'not_loaded' END;
    DELETE FROM order_timeout.statement_lines l
     WHERE l.gateway = unload_statement.gateway AND l.statement = unload_statement.statement;
END
$$;
COMMENT ON FUNCTION unload_statement(text, text) IS
'Deletes a statement and its lines. What apply_statement did stays done. Outcomes: unloaded, not_loaded. Errors: 22004. Locks: the statement.';
