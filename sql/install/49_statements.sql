-- The gateway's statements: its file of a day next to our rows.
--
-- A line of a statement and a row of ours are the same money by these rules:
--  1. A payment: the line's reference is the payment_ref.
--  2. A refund or a chargeback: the reference is the gateway_refund_ref; of a refund otherwise our_reference is the
--     refund_ref. By our own number it is ours whatever number of the gateway was recorded for it.
--     A line of kind other may be one that is under way there.
--  3. It went back if the row has returned_at, which stays when the refund is reversed after that. What was settled by
--     hand went another way: if the gateway has it too, it went back twice.
--  4. A chargeback that was won: the row of the chargeback is reversed.
--  5. A refund that came back under its number is no money: what the gateway took for it, it gave again. It says nothing of
--     a row that was not returned, or was returned under another number.
--  6. A number again, at another time, is other money; at the same time it is the same line of another statement.
-- No line is written by the gateway's word alone: apply_statement calls the functions that a webhook calls, so a webhook
-- that comes at the same time, or came before, makes it a repeat.

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

-- Comparing.

-- A payment of the order, or a refund of the payment, of the same amount that no statement has may be the same money under
-- another number: of another layout, or noted differently by a webhook. To record it would count it twice, and the engine
-- would refund it as surplus.
CREATE FUNCTION _may_be_known(gateway text, kind text, order_id text, payment_ref text, amount bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE kind WHEN 'payment'
        THEN EXISTS (SELECT FROM order_timeout.payments p
                      WHERE p.order_id = _may_be_known.order_id AND p.gateway = _may_be_known.gateway AND p.amount = _may_be_known.amount
                        AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                                         WHERE l.reference = p.payment_ref AND l.gateway = p.gateway AND l.kind = 'payment'))
        ELSE EXISTS (SELECT FROM order_timeout.refunds r
                      WHERE r.payment_ref = _may_be_known.payment_ref AND r.gateway = _may_be_known.gateway AND r.amount = - _may_be_known.amount
                        AND r.returned_at IS NOT NULL AND r.gateway_refund_ref IS NOT NULL
                        AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                                         WHERE l.reference = r.gateway_refund_ref AND l.gateway = r.gateway AND l.kind IN ('refund', 'chargeback'))
                        AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                                         WHERE l.our_reference = r.refund_ref AND l.gateway = r.gateway AND l.kind = 'refund')) END
$$;
COMMENT ON FUNCTION _may_be_known(text, text, text, text, bigint) IS
'Whether we have money that a line may be about under another number. Used by apply_statement, check_statement and statement_totals.';

CREATE FUNCTION _came_back(gateway text, reference text, amount bigint) RETURNS boolean
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM order_timeout.statement_lines l
                    WHERE l.reference = _came_back.reference AND l.gateway = _came_back.gateway AND l.kind = 'refund'
                      AND l.amount = - _came_back.amount AND l.amount <> 0);
END;
COMMENT ON FUNCTION _came_back(text, text, bigint) IS
'Whether the statements of a gateway have a refund going and coming back under one number, all of it. Used by apply_statement, check_statement and statement_totals.';

-- Each line with the row that is the same money, what differs (null: nothing), and the call that apply_statement makes. OFFSET 0,
-- so that what differs is not found out again at each place that asks for it.
CREATE FUNCTION _statement_matches(gateway text, statement text)
RETURNS TABLE (line bigint, kind text, reference text, amount bigint, currency text, problem text, order_id text, payment_ref text,
               refund_ref text, here bigint, plays text, is_applied boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    SELECT m.line, m.kind, m.reference, m.amount, m.currency, m.problem, m.order_id, m.payment_ref, m.refund_ref, m.here,
           CASE WHEN m.applied_at IS NOT NULL THEN NULL
                WHEN m.kind = 'payment' AND m.problem = 'only_there' AND m.amount > 0 AND m.order_id IS NOT NULL
                THEN CASE WHEN NOT order_timeout._may_be_known($1, m.kind, m.order_id, NULL, m.amount) THEN 'record_payment' END
                WHEN m.kind IN ('refund', 'chargeback') AND m.problem = 'only_there' AND m.amount < 0 AND m.payment_ref IS NOT NULL
                THEN CASE WHEN NOT order_timeout._may_be_known($1, m.kind, NULL, m.payment_ref, m.amount) THEN 'record_refund' END
                WHEN m.kind = 'refund' AND m.problem = 'status' AND m.amount < 0 AND m.is_open THEN 'complete_refund'
                WHEN m.kind = 'chargeback_reversed' AND m.problem IN ('only_there', 'status') AND m.amount > 0 THEN 'reverse_chargeback' END,
           m.applied_at IS NOT NULL
      FROM (SELECT l.line, l.kind, l.reference, l.amount, l.currency, l.applied_at,
                   coalesce(p.order_id, n.order_id, o.order_id, a.order_id,
                            CASE l.kind WHEN 'payment' THEN l.our_reference
                                        ELSE (SELECT q.order_id FROM order_timeout.payments q
                                               WHERE q.gateway = l.gateway AND q.payment_ref = l.payment_ref) END) AS order_id,
                   coalesce(p.payment_ref, n.payment_ref, o.payment_ref, CASE l.kind WHEN 'payment' THEN l.reference ELSE l.payment_ref END) AS payment_ref,
                   r.refund_ref, r.is_open, coalesce(p.amount, CASE l.kind WHEN 'chargeback_reversed' THEN r.amount ELSE - r.amount END) AS here,
                   CASE WHEN l.kind = 'fee' THEN NULL
                        WHEN l.kind = 'other' THEN CASE WHEN r.refund_ref IS NULL OR r.amount <> - l.amount OR r.currency <> l.currency
                                                          OR r.state = 'reversed' OR r.by_hand THEN 'only_there' END
                        WHEN l.nth > 1 OR earlier.has_it THEN 'twice'
                        WHEN pair.came_back AND (r.refund_ref IS NULL OR r.returned_at IS NULL OR r.by_hand OR other.stays) THEN NULL
                        WHEN other.has_it THEN 'twice'
                        WHEN p.payment_ref IS NULL AND r.refund_ref IS NULL THEN 'only_there'
                        WHEN p.payment_ref IS NOT NULL AND elsewhere.order_id NOT IN (p.order_id, coalesce(p.told_order_id, p.order_id))
                          OR r.refund_ref IS NOT NULL AND elsewhere.payment_ref IS NOT NULL THEN 'elsewhere'
                        WHEN coalesce(p.currency, r.currency) <> l.currency THEN 'currency'
                        WHEN l.kind = 'payment' THEN CASE WHEN p.amount <> l.amount THEN 'amount' END
                        WHEN r.amount <> abs(l.amount) OR l.kind = 'chargeback' AND l.amount >= 0 OR l.kind = 'chargeback_reversed' AND l.amount <= 0
                        THEN 'amount'
                        WHEN l.amount < 0 THEN CASE WHEN r.returned_at IS NULL OR r.by_hand THEN 'status' END
                        WHEN r.state <> 'reversed' AND r.returned_at IS NOT NULL AND NOT r.by_hand THEN 'status' END AS problem
              FROM (SELECT s.*, row_number() OVER (PARTITION BY CASE s.kind WHEN 'chargeback' THEN 'refund' ELSE s.kind END, s.reference, sign(s.amount)
                                                   ORDER BY s.line) AS nth
                      FROM order_timeout.statement_lines s
                     WHERE s.gateway = _statement_matches.gateway AND s.statement = _statement_matches.statement) l
              LEFT JOIN order_timeout.payments p ON l.kind = 'payment' AND p.gateway = l.gateway AND p.payment_ref = l.reference
              LEFT JOIN order_timeout.refunds n ON l.kind IN ('refund', 'chargeback', 'chargeback_reversed', 'other')
                                               AND n.gateway_refund_ref = l.reference AND n.gateway = l.gateway
              LEFT JOIN order_timeout.refunds o ON l.kind IN ('refund', 'other') AND n.refund_ref IS NULL
                                               AND o.refund_ref = l.our_reference AND o.gateway = l.gateway
              LEFT JOIN order_timeout.attempts a ON l.kind = 'payment' AND p.payment_ref IS NULL
                                                AND a.gateway = l.gateway AND a.attempt_ref = l.our_reference
             CROSS JOIN LATERAL (SELECT coalesce(n.refund_ref, o.refund_ref) AS refund_ref, coalesce(n.amount, o.amount) AS amount,
                                        coalesce(n.currency, o.currency) AS currency, coalesce(n.state, o.state) AS state,
                                        CASE WHEN n.refund_ref IS NULL THEN o.returned_at ELSE n.returned_at END AS returned_at,
                                        CASE WHEN n.refund_ref IS NULL THEN o.by_hand ELSE n.by_hand END AS by_hand,
                                        CASE WHEN n.refund_ref IS NULL THEN o.settled_at IS NULL ELSE n.settled_at IS NULL END AS is_open) r
             -- At the same time it is the same line: of the day and of the month.
             CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM order_timeout.statement_lines x
                                                 WHERE x.reference = l.reference AND x.gateway = l.gateway AND x.at < l.at
                                                   AND sign(x.amount) = sign(l.amount)
                                                   AND (x.kind = l.kind OR x.kind IN ('refund', 'chargeback') AND l.kind IN ('refund', 'chargeback')) OFFSET 0) AS has_it) earlier
             CROSS JOIN LATERAL (SELECT l.kind = 'refund' AND order_timeout._came_back(l.gateway, l.reference, l.amount) AS came_back) pair
             -- A refund that went back twice has our number twice. The line with the number that we know has it, or else the first that
             -- did not come back. stays: another line has it, or the row has another number.
             CROSS JOIN LATERAL (SELECT o.refund_ref IS NOT NULL
                                    AND (EXISTS (SELECT FROM order_timeout.statement_lines x
                                                  WHERE x.reference = o.gateway_refund_ref AND x.gateway = l.gateway AND x.kind = 'refund'
                                                    AND sign(x.amount) = sign(l.amount))
                                         OR EXISTS (SELECT FROM order_timeout.statement_lines x
                                                     WHERE x.our_reference = l.our_reference AND x.gateway = l.gateway AND x.kind = 'refund'
                                                       AND sign(x.amount) = sign(l.amount) AND x.reference <> l.reference
                                                       AND (x.at, x.statement, x.line) < (l.at, l.statement, l.line)
                                                       AND NOT order_timeout._came_back(x.gateway, x.reference, x.amount))) AS has_it,
                                        o.gateway_refund_ref IS NOT NULL
                                     OR o.refund_ref IS NOT NULL
                                        AND EXISTS (SELECT FROM order_timeout.statement_lines x
                                                     WHERE x.our_reference = l.our_reference AND x.gateway = l.gateway AND x.kind = 'refund'
                                                       AND x.amount < 0 AND x.reference <> l.reference
                                                       AND NOT order_timeout._came_back(x.gateway, x.reference, x.amount)) AS stays) other
             -- What the line names and we know, where that is not what the row has.
             CROSS JOIN LATERAL (SELECT CASE WHEN l.our_reference NOT IN (p.order_id, coalesce(p.told_order_id, p.order_id))
                                             THEN coalesce((SELECT x.order_id FROM order_timeout.attempts x
                                                             WHERE x.gateway = l.gateway AND x.attempt_ref = l.our_reference),
                                                           (SELECT x.order_id FROM order_timeout.orders x WHERE x.order_id = l.our_reference)) END AS order_id,
                                        CASE WHEN l.payment_ref <> coalesce(n.payment_ref, o.payment_ref)
                                             THEN (SELECT x.payment_ref FROM order_timeout.payments x
                                                    WHERE x.gateway = l.gateway AND x.payment_ref = l.payment_ref) END AS payment_ref) elsewhere
            OFFSET 0) m
     WHERE order_timeout._progress_row(1)
$$;
COMMENT ON FUNCTION _statement_matches(text, text) IS
'Each line of a statement with the row of ours that is the same money, and what differs. Used by apply_statement, check_statement and statement_totals.';

CREATE FUNCTION _begin_matching(command text, gateway text, statement text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT order_timeout._progress($1, 1, (SELECT count(*) FROM order_timeout.statement_lines l WHERE l.gateway = $2 AND l.statement = $3))
$$;
COMMENT ON FUNCTION _begin_matching(text, text, text) IS
'The session begins a command that matches the lines of a statement. Used by apply_statement, check_statement and statement_totals.';

-- Rows of ours that no statement of their gateway has. OFFSET 0 keeps each look in the index: right after a file is loaded the planner
-- has no statistics of its lines, and would join all of them with all payments.
CREATE FUNCTION _missing_in_statements(gateway text, since timestamptz, before timestamptz)
RETURNS TABLE (kind text, reference text, order_id text, payment_ref text, refund_ref text, amount bigint, currency text, at timestamptz, is_ours boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'payment', p.payment_ref, p.order_id, p.payment_ref, NULL, p.amount, p.currency, coalesce(p.paid_at, p.received_at), false
      FROM order_timeout.payments p
     WHERE p.gateway = _missing_in_statements.gateway
       AND coalesce(p.paid_at, p.received_at) >= since AND coalesce(p.paid_at, p.received_at) < before
       AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                        WHERE l.reference = p.payment_ref AND l.gateway = p.gateway AND l.kind = 'payment' OFFSET 0)
    UNION ALL
    SELECT CASE r.reason WHEN 'chargeback' THEN 'chargeback' ELSE 'refund' END, r.gateway_refund_ref, r.order_id, r.payment_ref, r.refund_ref,
           - r.amount, r.currency, r.returned_at, r.reason NOT IN ('external', 'chargeback')
      FROM order_timeout.refunds r
     WHERE r.gateway = _missing_in_statements.gateway AND NOT r.by_hand AND r.state <> 'reversed'
       AND r.returned_at >= since AND r.returned_at < before
       AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                        WHERE l.reference = r.gateway_refund_ref AND l.gateway = r.gateway AND l.kind IN ('refund', 'chargeback', 'other') OFFSET 0)
       AND NOT EXISTS (SELECT FROM order_timeout.statement_lines l
                        WHERE l.our_reference = r.refund_ref AND l.gateway = r.gateway AND l.kind IN ('refund', 'other')
                          AND (r.gateway_refund_ref IS NULL OR NOT order_timeout._came_back(l.gateway, l.reference, l.amount)) OFFSET 0)
    UNION ALL
    -- It came back, as we have it. If the gateway has that it went, it must have this too.
    SELECT CASE r.reason WHEN 'chargeback' THEN 'chargeback_reversed' ELSE 'refund' END, r.gateway_refund_ref, r.order_id, r.payment_ref, r.refund_ref,
           r.amount, r.currency, r.settled_at, false
      FROM order_timeout.refunds r
     CROSS JOIN LATERAL (SELECT count(DISTINCT l.reference) FILTER (WHERE l.amount < 0) AS went,
                                count(DISTINCT l.reference) FILTER (WHERE l.amount > 0) AS came
                           FROM (SELECT x.reference, x.amount FROM order_timeout.statement_lines x
                                  WHERE x.reference = r.gateway_refund_ref AND x.gateway = r.gateway
                                    AND x.kind IN ('refund', 'chargeback', 'chargeback_reversed')
                                 UNION ALL
                                 SELECT x.reference, x.amount FROM order_timeout.statement_lines x
                                  WHERE x.our_reference = r.refund_ref AND x.gateway = r.gateway AND x.kind = 'refund') l) stated
     WHERE r.gateway = _missing_in_statements.gateway AND NOT r.by_hand AND r.state = 'reversed' AND r.returned_at IS NOT NULL
       AND r.settled_at >= since AND r.settled_at < before AND stated.went > stated.came
$$;
COMMENT ON FUNCTION _missing_in_statements(text, timestamptz, timestamptz) IS
'Payments and refunds of a gateway in a time that no statement of it has. Used by check_statement.';

-- What is younger than lag at the statement's end is looked at again with the next statement, which looks back as far.
CREATE FUNCTION check_statement(gateway text, statement text, lag interval DEFAULT '1 hour')
RETURNS TABLE (problem text, kind text, line bigint, reference text, order_id text, payment_ref text, refund_ref text,
               there bigint, here bigint, currency text, resolved_by text, applies boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    checked order_timeout.statements := order_timeout._require_statement($1, $2);
    late interval := coalesce($3, '1 hour');
    looks_from timestamptz;
    before timestamptz := (SELECT max(s.covers_to) FROM order_timeout.statements s WHERE s.gateway = $1 AND s.covers_from < checked.covers_from);
BEGIN
    IF late < interval '0' OR late > interval '365 days' THEN
        RAISE EXCEPTION 'invalid lag: %', late USING ERRCODE = '22023', HINT = 'Use 0 to 365 days.';
    END IF;
    IF before < checked.covers_from THEN
        RAISE WARNING 'no statement of gateway "%" covers % to %', $1, before, checked.covers_from
            USING HINT = 'Load it and check it too. Until then nothing compares our rows of that time.';
    END IF;
    looks_from := checked.covers_from - CASE WHEN before >= checked.covers_from THEN late ELSE '0' END;
    PERFORM order_timeout._begin_matching('check_statement', $1, $2);
    RETURN QUERY
    SELECT m.problem, m.kind, m.line, m.reference, m.order_id, m.payment_ref, m.refund_ref, m.amount, m.here, m.currency,
           CASE WHEN m.plays IS NOT NULL THEN m.plays
                WHEN m.is_applied THEN 'resolve_conflict'
                WHEN m.kind = 'payment' THEN CASE m.problem WHEN 'only_there' THEN 'record_payment' ELSE 'the gateway' END
                WHEN m.kind = 'refund' AND m.amount > 0 THEN 'reverse_refund or reverse_chargeback'
                WHEN m.kind IN ('refund', 'chargeback') AND m.problem = 'only_there' THEN 'record_refund'
                WHEN m.problem = 'status' THEN 'complete_refund, then resolve_conflict'
                WHEN m.problem = 'amount' AND m.kind <> 'chargeback_reversed' THEN 'resolve_conflict or record_refund'
                WHEN m.kind = 'chargeback_reversed' THEN 'reverse_chargeback' ELSE 'the gateway' END,
           m.plays IS NOT NULL
      FROM order_timeout._statement_matches($1, $2) m WHERE m.problem IS NOT NULL
    UNION ALL
    SELECT CASE WHEN x.at >= checked.covers_to - late THEN 'too_early' WHEN x.is_ours THEN 'status' ELSE 'only_here' END,
           x.kind, NULL, x.reference, x.order_id, x.payment_ref, x.refund_ref, NULL, x.amount, x.currency,
           CASE WHEN x.at >= checked.covers_to - late THEN 'the next statement'
                WHEN x.is_ours THEN 'reverse_refund' WHEN x.amount > 0 THEN 'the gateway' ELSE 'reverse_chargeback' END,
           false
      FROM order_timeout._missing_in_statements($1, looks_from, checked.covers_to) x
     -- Asked once, before that is looked for.
     WHERE (SELECT order_timeout._progress('check_statement', 2))
     ORDER BY 3, 2, 4;
    PERFORM order_timeout._progress('check_statement', 0);
END
$$;
COMMENT ON FUNCTION check_statement(text, text, interval) IS
'A row for each difference between a statement and our rows: only_there, only_here, amount, currency, status (went back there and is open here, or the other way round), elsewhere (here it is of another order or payment), twice, too_early (here, and younger than lag at the end of the statement: the next one may have it). there and here are amounts in minor units, signed as in the statement. resolved_by: what resolves it; applies: apply_statement does. A WARNING names the time since the statement before that none covers. Errors: 22023 not loaded, or a wrong lag; 22004. Locks: none.';

CREATE FUNCTION statement_totals(gateway text, statement text)
RETURNS TABLE (currency text, lines bigint, payments bigint, refunds bigint, chargebacks bigint, chargebacks_reversed bigint,
               fees bigint, other bigint, total bigint, stated bigint, missing bigint, agreed bigint, differing bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    checked order_timeout.statements := order_timeout._require_statement($1, $2);
BEGIN
    PERFORM order_timeout._begin_matching('statement_totals', $1, $2);
    RETURN QUERY
    SELECT coalesce(s.currency, t.key), coalesce(s.lines, 0), coalesce(s.payments, 0), coalesce(s.refunds, 0), coalesce(s.chargebacks, 0),
           coalesce(s.chargebacks_reversed, 0), coalesce(s.fees, 0), coalesce(s.other, 0), coalesce(s.total, 0), t.value::bigint,
           t.value::bigint - coalesce(s.total, 0), coalesce(s.agreed, 0), coalesce(s.differing, 0)
      FROM (SELECT m.currency, count(*) AS lines,
                   (sum(m.amount) FILTER (WHERE m.kind = 'payment'))::bigint AS payments, (sum(m.amount) FILTER (WHERE m.kind = 'refund'))::bigint AS refunds,
                   (sum(m.amount) FILTER (WHERE m.kind = 'chargeback'))::bigint AS chargebacks,
                   (sum(m.amount) FILTER (WHERE m.kind = 'chargeback_reversed'))::bigint AS chargebacks_reversed,
                   (sum(m.amount) FILTER (WHERE m.kind = 'fee'))::bigint AS fees, (sum(m.amount) FILTER (WHERE m.kind = 'other'))::bigint AS other,
                   sum(m.amount)::bigint AS total, (sum(m.amount) FILTER (WHERE m.problem IS NULL))::bigint AS agreed,
                   (sum(m.amount) FILTER (WHERE m.problem IS NOT NULL))::bigint AS differing
              FROM order_timeout._statement_matches($1, $2) m GROUP BY m.currency) s
      FULL JOIN jsonb_each_text(coalesce(checked.totals, '{}')) t ON t.key = s.currency
     ORDER BY 1;
    PERFORM order_timeout._progress('statement_totals', 0);
END
$$;
COMMENT ON FUNCTION statement_totals(text, text) IS
'A row for each currency of a statement, in minor units: the sums of its lines by kind, their total, what the gateway stated, and what is missing to that (0: it adds up; null: nothing was stated). agreed and differing add up to total: lines without and with a difference; a fee agrees. Errors: 22023 not loaded; 22003; 22004. Locks: none.';

-- Applying.

CREATE FUNCTION _apply_line(gateway text, statement text, line bigint, kind text, plays text, order_id text, payment_ref text, refund_ref text)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    l order_timeout.statement_lines;
    answer text;
    done boolean := true;
    attempt text;
BEGIN
    -- Two sessions that apply the same statement take turns.
    SELECT s.* INTO l FROM order_timeout.statement_lines s
     WHERE s.gateway = $1 AND s.statement = $2 AND s.line = $3 AND s.kind = $4 FOR UPDATE;
    IF NOT FOUND OR l.applied_at IS NOT NULL THEN
        RETURN false;
    END IF;
    BEGIN
        CASE $5
        WHEN 'record_payment' THEN
            SELECT a.attempt_ref INTO attempt FROM order_timeout.attempts a WHERE a.gateway = $1 AND a.attempt_ref = l.our_reference;
            SELECT x.outcome INTO answer FROM order_timeout.record_payment($6, $1, l.reference, l.amount, l.currency, l.at,
                jsonb_build_object('statement', $2, 'line', l.line), attempt) x;
        WHEN 'record_refund' THEN
            SELECT x.outcome INTO answer FROM order_timeout.record_refund($1, $7, l.reference, - l.amount,
                CASE l.kind WHEN 'chargeback' THEN 'chargeback' ELSE 'external' END, l.currency) x;
        WHEN 'complete_refund' THEN
            SELECT x.outcome INTO answer FROM order_timeout.complete_refund($8, 'succeeded', gateway_refund_ref => l.reference,
                refunded_amount => - l.amount) x;
        WHEN 'reverse_chargeback' THEN
            SELECT x.outcome INTO answer FROM order_timeout.reverse_chargeback($1, l.reference, format('statement %s, line %s', $2, l.line)) x;
        END CASE;
        -- Asked again now that the call has the order's lock: a webhook may have reported the same money meanwhile, under a number
        -- that no statement has. Then the call is undone.
        IF $5 IN ('record_payment', 'record_refund') AND order_timeout._may_be_known($1, l.kind, $6, $7, l.amount) THEN
            RAISE EXCEPTION 'this money may be known under another number' USING ERRCODE = 'OT003';
        END IF;
        -- A chargeback that was won in part came with this statement, so that check_statement could not compare it.
        IF $5 = 'reverse_chargeback' AND EXISTS (SELECT FROM order_timeout.refunds r
                                                  WHERE r.gateway_refund_ref = l.reference AND r.gateway = $1
                                                    AND (r.amount <> l.amount OR r.currency <> l.currency)) THEN
            RAISE EXCEPTION 'the chargeback is of another amount' USING ERRCODE = 'OT003';
        END IF;
    EXCEPTION WHEN OTHERS THEN
        IF SQLSTATE IN ('40001', '40P01') THEN
            RAISE;
        END IF;
        answer := SQLSTATE || ': ' || SQLERRM;
        done := false;
    END;
    UPDATE order_timeout.statement_lines s
       SET outcome = $5 || ': ' || answer, applied_at = CASE WHEN done THEN clock_timestamp() END
     WHERE s.gateway = $1 AND s.statement = $2 AND s.line = $3 AND s.kind = $4;
    RETURN done;
END
$$;
COMMENT ON FUNCTION _apply_line(text, text, bigint, text, text, text, text, text) IS
'Makes the call that a line of a statement stands for, and notes its outcome. Used by apply_statement.';

-- It commits, so it can have no SET search_path: each name and operator is qualified. The loop keeps its rows over a commit.
-- The calls of a payment come one after the other, in the sequence of their names: payments before chargebacks before those that
-- were won. There is no commit between them, or a worker would return what the next line says is back already. A batch locks
-- several orders, so they come by their ids, as in each transaction that locks several. Of an order the file's first payment
-- comes first.
CREATE PROCEDURE apply_statement(gateway text, statement text, batch_size integer DEFAULT 100)
LANGUAGE plpgsql AS $$
DECLARE
    difference pg_catalog.record;
    seen pg_catalog.int8 := 0;
    applied pg_catalog.int8 := 0;
    uncommitted pg_catalog.int8 := 0;
    last_payment pg_catalog.text := '';
    size pg_catalog.int4 := COALESCE(batch_size, 100);
BEGIN
    PERFORM order_timeout._require_statement(apply_statement.gateway, apply_statement.statement);
    IF size OPERATOR(pg_catalog.<) 1 OR size OPERATOR(pg_catalog.>) 10000 THEN
        RAISE EXCEPTION 'invalid batch_size: %', size USING ERRCODE = '22023', HINT = 'Use 1 to 10000.';
    END IF;
    PERFORM order_timeout._begin_matching('apply_statement', apply_statement.gateway, apply_statement.statement);
    FOR difference IN
        SELECT m.*, pg_catalog.count(*) OVER () AS differences FROM order_timeout._statement_matches(apply_statement.gateway, apply_statement.statement) m
         WHERE m.plays IS NOT NULL
         ORDER BY pg_catalog.min(m.order_id COLLATE pg_catalog."C") OVER (PARTITION BY m.payment_ref), m.payment_ref IS NULL,
                  pg_catalog.min(m.line) OVER (PARTITION BY m.payment_ref), m.payment_ref, m.plays, m.line
    LOOP
        IF seen OPERATOR(pg_catalog.=) 0 THEN
            PERFORM order_timeout._progress('apply_statement', 2, difference.differences);
        END IF;
        IF uncommitted OPERATOR(pg_catalog.>=) size
           AND (difference.payment_ref IS NULL OR difference.payment_ref OPERATOR(pg_catalog.<>) last_payment) THEN
            COMMIT;
            RAISE NOTICE '% lines seen, % applied', seen, applied;
            uncommitted := 0;
        END IF;
        last_payment := COALESCE(difference.payment_ref, '');
        uncommitted := uncommitted OPERATOR(pg_catalog.+) 1;
        seen := seen OPERATOR(pg_catalog.+) 1;
        IF order_timeout._apply_line(apply_statement.gateway, apply_statement.statement, difference.line, difference.kind, difference.plays,
                                     difference.order_id, difference.payment_ref, difference.refund_ref) THEN
            applied := applied OPERATOR(pg_catalog.+) 1;
        END IF;
        PERFORM order_timeout._progress_row(2);
    END LOOP;
    PERFORM order_timeout._progress('apply_statement', 0);
    COMMIT;
    RAISE NOTICE '% lines seen, % applied, all done', seen, applied;
END
$$;
COMMENT ON PROCEDURE apply_statement(text, text, integer) IS
'Makes the calls that the differences of a statement stand for, as far as that is safe: record_payment, complete_refund, record_refund and reverse_chargeback, in batches of batch_size, and what belongs to their last payment, with a commit each; a NOTICE says how far it is. What it did, or why it could not, is the outcome of the line. Safe to repeat: a line that was applied is not applied again. Called alone: 2D000 inside a transaction block or a function. Errors: 22023 not loaded, or a wrong batch_size; 40P01, 40001: call it again, what was committed stays; 22004. Locks: the line, then those of the calls, orders by their id.';
