-- Tables of the user's that follow the engine, and that the engine may follow.

CREATE TABLE links (
    table_name       text COLLATE "C" PRIMARY KEY,  -- these names are qualified and quoted, types too
    key_column       text NOT NULL,
    key_type         text NOT NULL,
    status_column    text NOT NULL,
    status_type      text NOT NULL,
    states           jsonb NOT NULL,                -- of each state its words: the first is written, all are understood
    amount_column    text,
    amount_is_major  boolean NOT NULL,              -- numeric of major units, else a whole number of minor ones
    currency_column  text,
    currency         text,
    deadline_column  text,
    created_column   text,
    policy           text COLLATE "C" NOT NULL,
    prefix           text COLLATE "C" NOT NULL,     -- an order_id is the prefix and the key
    track            boolean NOT NULL,
    shadow           boolean NOT NULL,
    on_missing       text NOT NULL CHECK (on_missing IN ('fail', 'ignore')),
    on_failure       text NOT NULL CHECK (on_failure IN ('refuse', 'retry')),
    on_contradiction text NOT NULL CHECK (on_contradiction IN ('refuse', 'note')),
    linked_at        timestamptz NOT NULL,
    backfilled_to    text,                          -- the last key of a backfill that has not come to its end
    backfilled       bigint NOT NULL DEFAULT 0,     -- orders that backfills have created
    backfill_ended   timestamptz                    -- when one came to its end last
);
SELECT pg_catalog.pg_extension_config_dump('links', '');
CREATE TRIGGER following_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON links
    FOR EACH STATEMENT EXECUTE FUNCTION following_changed();
ALTER TABLE links ENABLE ALWAYS TRIGGER following_changed;

CREATE FUNCTION minor_units(amount numeric, currency text) RETURNS bigint
AS 'MODULE_PATHNAME', 'ot_minor_units' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION minor_units(numeric, text) IS
'An amount of major units (12.34 EUR) in minor units (1234), by the currency''s ISO 4217 exponent: JPY 0, CNY 2, KWD 3. Errors: 22023 more decimals than the currency has, or a currency without minor units known here; 22003 out of range; 22004.';

CREATE FUNCTION track() RETURNS trigger
AS 'MODULE_PATHNAME', 'ot_track' LANGUAGE C;

-- The type of a column as a link uses it; kinds are the types that serve.
CREATE FUNCTION link_column(table_name regclass, argument text, column_name text, kinds text[], required boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_column record;
BEGIN
    IF column_name IS NULL THEN
        IF required THEN
            RAISE EXCEPTION '% must not be null', argument USING ERRCODE = 'null_value_not_allowed';
        END IF;
        RETURN NULL;
    END IF;
    SELECT format('%I.%I', n.nspname, t.typname) AS name, t.typname, t.typtype, n.nspname INTO of_column
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
     WHERE a.attrelid = table_name AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % has no column "%"', table_name, column_name
            USING ERRCODE = 'undefined_column', DETAIL = format('It was given as %s.', argument);
    END IF;
    IF NOT (of_column.typname = ANY (kinds) AND of_column.nspname = 'pg_catalog' OR of_column.typtype = 'e' AND 'enum' = ANY (kinds)) THEN
        RAISE EXCEPTION 'column "%" of table % has type %, which does not serve as %', column_name, table_name, of_column.typname, argument
            USING ERRCODE = 'datatype_mismatch', HINT = 'These types do: ' || array_to_string(kinds, ', ') || '.';
    END IF;
    RETURN of_column.name;
END
$$;
COMMENT ON FUNCTION link_column(regclass, text, text, text[], boolean) IS
'The type of a column that link_table was given, qualified. Errors: 42703 no such column, 42804 a type that does not serve, 22004. Used by link_table.';

-- States with their words as arrays. Each word must be one that the column can hold, as it is.
CREATE FUNCTION link_states(table_name regclass, status_column text, states jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    state text;
    words jsonb;
    word text;
    stored text;
    answer jsonb := '{}';
    owners text[];
    -- With its length: a word that is cut off is another one.
    status_type text := (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
                          WHERE a.attrelid = table_name AND a.attname = status_column);
BEGIN
    IF states IS NULL THEN
        RAISE EXCEPTION 'states must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF jsonb_typeof(states) <> 'object'
       OR NOT states ?& '{pending, paid, expired, cancelled}' OR states - '{pending, paid, expired, cancelled}'::text[] <> '{}' THEN
        RAISE EXCEPTION 'states must say the words of pending, paid, expired and cancelled, and of nothing else'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'For example {"pending": "new", "paid": ["paid", "shipped"], "expired": "closed", "cancelled": "closed"}.';
    END IF;
    FOR state, words IN SELECT * FROM jsonb_each(states) LOOP
        words := CASE jsonb_typeof(words) WHEN 'array' THEN words ELSE jsonb_build_array(words) END;
        IF jsonb_array_length(words) = 0
           OR EXISTS (SELECT FROM jsonb_array_elements(words) w WHERE jsonb_typeof(w) NOT IN ('string', 'number')) THEN
            RAISE EXCEPTION 'state % needs a word, or an array of words', state USING ERRCODE = 'invalid_parameter_value';
        END IF;
        answer := answer || jsonb_build_object(state, (SELECT jsonb_agg(w) FROM jsonb_array_elements_text(words) w));
    END LOOP;
    FOR word IN SELECT DISTINCT jsonb_array_elements_text(e.value) FROM jsonb_each(answer) e LOOP
        BEGIN
            EXECUTE format('SELECT %L::%s::text', word, status_type) INTO stored;
        EXCEPTION WHEN data_exception THEN
            stored := NULL;
        END;
        IF stored IS DISTINCT FROM word THEN
            RAISE EXCEPTION 'the status column cannot hold "%"', word
                USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Its type is %s.', status_type);
        END IF;
        owners := ARRAY(SELECT e.key FROM jsonb_each(answer) e WHERE e.value ? word ORDER BY e.key);
        IF cardinality(owners) > 1 AND owners <> '{cancelled, expired}' THEN
            RAISE EXCEPTION '"%" cannot stand for %', word, array_to_string(owners, ' and ')
                USING ERRCODE = 'invalid_parameter_value', HINT = 'Only expired and cancelled may share a word.';
        END IF;
    END LOOP;
    RETURN answer;
END
$$;
COMMENT ON FUNCTION link_states(regclass, text, jsonb) IS
'The states of link_table with their words as arrays. Errors: 22023 a state is missing or unknown, a word that the column cannot hold or that stands for two states, 22004. Used by link_table.';

CREATE FUNCTION link_table(
    table_name regclass, key_column text, status_column text, states jsonb,
    amount_column text DEFAULT NULL, currency_column text DEFAULT NULL, currency text DEFAULT NULL,
    deadline_column text DEFAULT NULL, created_column text DEFAULT NULL, policy text DEFAULT 'default',
    prefix text DEFAULT '', track boolean DEFAULT false, shadow boolean DEFAULT false,
    on_missing text DEFAULT 'fail', on_failure text DEFAULT 'refuse', on_contradiction text DEFAULT 'refuse',
    OUT outcome text, OUT linked_table text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    link order_timeout.links;
    present order_timeout.links;
    whole CONSTANT text[] := '{int8, int4, int2}';
    words CONSTANT text[] := '{text, varchar}';
    times CONSTANT text[] := '{timestamptz, timestamp}';
BEGIN
    IF table_name IS NULL THEN
        RAISE EXCEPTION 'table_name must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT format('%I.%I', n.nspname, c.relname) INTO link.table_name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = link_table.table_name AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'order_timeout';
    IF NOT FOUND THEN
        RAISE EXCEPTION '% cannot be linked', table_name
            USING ERRCODE = 'wrong_object_type', HINT = 'Link a table, or a partitioned table, of your own that is not temporary.';
    END IF;
    link.key_type := order_timeout.link_column(table_name, 'key_column', key_column, whole || words || 'uuid'::text, true);
    link.status_type := order_timeout.link_column(table_name, 'status_column', status_column,
                                                  words || '{enum, int4, int2}'::text[], true);
    link.states := order_timeout.link_states(table_name, status_column, states);
    link.amount_is_major := coalesce(order_timeout.link_column(table_name, 'amount_column', amount_column,
                                                               whole || 'numeric'::text, false) ~ 'numeric', false);
    PERFORM order_timeout.link_column(table_name, 'currency_column', currency_column, words || '{enum, bpchar}'::text[], false);
    PERFORM order_timeout.link_column(table_name, 'deadline_column', deadline_column, times, false);
    PERFORM order_timeout.link_column(table_name, 'created_column', created_column, times, false);
    link.key_column := key_column;
    link.status_column := status_column;
    link.amount_column := amount_column;
    link.currency_column := currency_column;
    link.currency := currency;
    link.deadline_column := deadline_column;
    link.created_column := created_column;
    link.policy := coalesce(policy, 'default');
    link.prefix := coalesce(prefix, '');
    link.track := coalesce(track, false);
    link.shadow := coalesce(shadow, false);
    link.on_missing := coalesce(on_missing, 'fail');
    link.on_failure := coalesce(on_failure, 'refuse');
    link.on_contradiction := coalesce(on_contradiction, 'refuse');
    PERFORM order_timeout.check_link(link);
    SELECT * INTO present FROM order_timeout.links l WHERE l.table_name = link.table_name FOR UPDATE;
    PERFORM order_timeout.check_shadow(link, present);
    link.linked_at := coalesce(present.linked_at, clock_timestamp());
    link.backfilled_to := present.backfilled_to;
    link.backfilled := coalesce(present.backfilled, 0);
    link.backfill_ended := present.backfill_ended;
    outcome := CASE WHEN present IS NULL THEN 'linked' WHEN present IS DISTINCT FROM link THEN 'changed' ELSE 'unchanged' END;
    IF outcome = 'changed' THEN
        link.backfilled_to := NULL;     -- rows that were passed over may be payable now
    END IF;
    DELETE FROM order_timeout.links l WHERE l.table_name = link.table_name AND outcome = 'changed';
    INSERT INTO order_timeout.links SELECT link.* WHERE outcome <> 'unchanged';
    IF outcome <> 'unchanged' OR link.track <> order_timeout.is_tracked(table_name) THEN
        PERFORM order_timeout.set_tracking(link);
    END IF;
    linked_table := link.table_name;
END
$$;
COMMENT ON FUNCTION link_table(regclass, text, text, jsonb, text, text, text, text, text, text, text, boolean, boolean, text, text, text) IS
'Ties a table of the user''s to the engine, or changes how: an order''s id is prefix and key_column; every change of its state writes the state''s first word into status_column, in the same transaction, as the caller. track: rows with a pending word create orders (amount_column: a whole number of minor units, or numeric major units; currency_column or currency; deadline_column, or created_column and the policy''s pay_within, or that from now on), a cancelled word cancels. shadow: the table is not written, nothing that it says is refused, and its orders are a rehearsal: no hook is called for them and no refund of theirs is handed out. on_missing (fail, ignore), on_failure (refuse, retry), on_contradiction (refuse, note): see the reference. Outcomes: linked, changed, unchanged. Errors: 42P01 no such table, 42809 not a table, 42703 no such column, 42804 its type does not serve, 22023, 22004, OT008 no such policy, 55000 a shadow over orders that are real, or the end of one whose orders are not forgotten, 42501. Locks: the table (SHARE ROW EXCLUSIVE) when its trigger is made or dropped.';

-- What must hold between the arguments of link_table.
CREATE FUNCTION check_link(link links) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    other text;
BEGIN
    IF NOT EXISTS (SELECT FROM order_timeout.policies p WHERE p.policy = link.policy) THEN
        RAISE EXCEPTION 'no such policy' USING ERRCODE = 'OT008', DETAIL = format('There is no policy "%s".', link.policy);
    END IF;
    IF link.currency_column IS NOT NULL AND link.currency IS NOT NULL THEN
        RAISE EXCEPTION 'give currency_column or currency, not both' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF link.currency !~ '^[A-Z]{3}$' THEN
        RAISE EXCEPTION 'currency must be three capital letters: "%"', link.currency USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF link.track AND (link.amount_column IS NULL OR coalesce(link.currency_column, link.currency) IS NULL) THEN
        RAISE EXCEPTION 'track needs amount_column, and currency_column or currency'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'Rows create orders then.';
    END IF;
    IF octet_length(link.prefix) > 100 OR link.prefix ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'prefix must be at most 100 bytes without control characters' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT l.table_name INTO other FROM order_timeout.links l
     WHERE l.table_name <> link.table_name AND (starts_with(l.prefix, link.prefix) OR starts_with(link.prefix, l.prefix));
    IF FOUND THEN
        RAISE EXCEPTION 'an order_id would name rows of two tables'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = format('%s is linked with a prefix that begins like this one, or this one like it.', other),
                  HINT = 'Give each table a prefix that no other begins with.';
    END IF;
    IF link.on_missing NOT IN ('fail', 'ignore') OR link.on_failure NOT IN ('refuse', 'retry')
       OR link.on_contradiction NOT IN ('refuse', 'note') THEN
        RAISE EXCEPTION 'on_missing must be fail or ignore, on_failure refuse or retry, on_contradiction refuse or note'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                    WHERE i.indrelid = link.table_name::regclass AND a.attname = link.key_column AND i.indpred IS NULL) THEN
        RAISE WARNING 'table % has no index that begins with "%"', link.table_name, link.key_column
            USING DETAIL = 'Every change of a state reads the whole table.', HINT = 'Create an index on that column.';
    END IF;
END
$$;
COMMENT ON FUNCTION check_link(links) IS
'Raises an error if the settings of a link contradict each other or other links: OT008, 22023; a warning if the key has no index. Used by link_table.';

CREATE FUNCTION is_prefix_used(prefix text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM order_timeout.orders o WHERE starts_with(o.order_id, prefix))
        OR EXISTS (SELECT FROM order_timeout.payments p WHERE starts_with(p.order_id, prefix))
$$;
COMMENT ON FUNCTION is_prefix_used(text) IS
'Whether there are orders, or payments without one, whose order_id begins so. Used by link_table and unlink_table.';

-- Real money must not become a rehearsal, nor a rehearsal real money: it would be sent a second time.
CREATE FUNCTION check_shadow(link links, present links) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF present.shadow AND (link.shadow IS DISTINCT FROM true OR link.prefix <> present.prefix)
       AND order_timeout.is_prefix_used(present.prefix) THEN
        RAISE EXCEPTION 'the orders of table % are a rehearsal', present.table_name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'Their refunds would be sent once the table is no longer linked in shadow mode.',
                  HINT = 'SELECT * FROM order_timeout.forget_shadow() deletes them and ends the link.';
    END IF;
    IF link.shadow AND present.shadow IS DISTINCT FROM true AND order_timeout.is_prefix_used(link.prefix) THEN
        RAISE EXCEPTION 'there are orders already whose order_id begins with "%"', link.prefix
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'In shadow mode no hook is called for them and no refund of theirs is handed out.',
                  HINT = 'Choose another prefix.';
    END IF;
END
$$;
COMMENT ON FUNCTION check_shadow(links, links) IS
'Raises 55000 if a link would make orders that are real a rehearsal, or a rehearsal real. Used by link_table and unlink_table.';

CREATE FUNCTION is_tracked(relation regclass) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_trigger g
                    WHERE g.tgrelid = relation AND g.tgname = 'order_timeout_track' AND g.tgenabled IN ('O', 'A'))
$$;
COMMENT ON FUNCTION is_tracked(regclass) IS
'Whether a linked table has the trigger that link_table makes, and it is enabled. Used by link_table and the view attention.';

CREATE FUNCTION set_tracking(link links) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = link.table_name::regclass AND g.tgname = 'order_timeout_track') THEN
        EXECUTE format('DROP TRIGGER order_timeout_track ON %s', link.table_name);
    END IF;
    IF link.track THEN
        EXECUTE format('CREATE TRIGGER order_timeout_track AFTER INSERT OR UPDATE OF %s ON %s '
                       'FOR EACH ROW EXECUTE FUNCTION order_timeout.track(%L)',
                       (SELECT string_agg(DISTINCT quote_ident(c), ', ') FROM unnest(ARRAY[
                           link.key_column, link.status_column, link.amount_column, link.currency_column]) c WHERE c IS NOT NULL),
                       link.table_name, link.table_name);
    END IF;
END
$$;
COMMENT ON FUNCTION set_tracking(links) IS
'Makes the trigger order_timeout_track on a linked table, or drops it. Used by link_table and unlink_table.';

CREATE FUNCTION unlink_table(table_name text, OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    link order_timeout.links;
BEGIN
    IF table_name IS NULL THEN
        RAISE EXCEPTION 'table_name must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    DELETE FROM order_timeout.links l
     WHERE l.table_name IN (unlink_table.table_name, (SELECT string_agg(quote_ident(p), '.') FROM unnest(parse_ident(unlink_table.table_name)) p))
    RETURNING l.* INTO link;
    outcome := CASE WHEN FOUND THEN 'unlinked' ELSE 'not_linked' END;
    PERFORM order_timeout.check_shadow(NULL, link);
    IF to_regclass(link.table_name) IS NOT NULL THEN
        link.track := false;
        PERFORM order_timeout.set_tracking(link);
    END IF;
END
$$;
COMMENT ON FUNCTION unlink_table(text) IS
'Ends a link: the table (its name with the schema) is no longer written, its trigger is dropped; orders and rows stay as they are. Also when the table is gone. Outcomes: unlinked, not_linked. Errors: 55000 a shadow with orders: see forget_shadow; 22023 not a name, 22004, 42501. Locks: the table (ACCESS EXCLUSIVE) while its trigger is dropped.';

CREATE FUNCTION forget_shadow(table_name text, OUT outcome text, OUT orders bigint, OUT payments bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    prefix text;
    shadow boolean;
BEGIN
    IF table_name IS NULL THEN
        RAISE EXCEPTION 'table_name must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    orders := 0;
    payments := 0;
    SELECT l.prefix, l.shadow INTO prefix, shadow FROM order_timeout.links l
     WHERE l.table_name IN (forget_shadow.table_name, (SELECT string_agg(quote_ident(p), '.') FROM unnest(parse_ident(forget_shadow.table_name)) p))
       FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'not_linked';
        RETURN;
    END IF;
    IF NOT shadow THEN
        RAISE EXCEPTION 'table % is linked for real', table_name
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Orders that are real are not forgotten.';
    END IF;
    -- What a transaction that is still open records would stay behind.
    LOCK TABLE order_timeout.orders, order_timeout.payments, order_timeout.refunds IN EXCLUSIVE MODE;
    DELETE FROM order_timeout.refunds r WHERE starts_with(r.order_id, prefix);
    DELETE FROM order_timeout.payments p WHERE starts_with(p.order_id, prefix);
    GET DIAGNOSTICS payments = ROW_COUNT;
    DELETE FROM order_timeout.orders o WHERE starts_with(o.order_id, prefix);
    GET DIAGNOSTICS orders = ROW_COUNT;
    DELETE FROM order_timeout.events e WHERE starts_with(e.aggregateid, prefix);
    DELETE FROM order_timeout.conflicts c WHERE starts_with(c.order_id, prefix);
    DELETE FROM order_timeout.set_aside s WHERE starts_with(s.order_id, prefix);
    DELETE FROM order_timeout.follow_ups f WHERE starts_with(f.order_id, prefix);
    PERFORM order_timeout.unlink_table(table_name);
    outcome := 'forgotten';
END
$$;
COMMENT ON FUNCTION forget_shadow(text) IS
'Ends a link in shadow mode (the table''s name with the schema) and deletes all that was recorded of orders with its prefix: orders, payments, refunds, events. How many orders and payments that were comes back. Call it while nobody records payments for them, or what comes next is real. Outcomes: forgotten, not_linked. Errors: 55000 linked for real, 22023 not a name, 22004, 42501. Locks: orders, payments, refunds (EXCLUSIVE: payments and the sweeper wait), the table (ACCESS EXCLUSIVE) while its trigger is dropped.';

CREATE PROCEDURE backfill(table_name regclass, batch_size integer DEFAULT 1000)
AS 'MODULE_PATHNAME', 'ot_backfill' LANGUAGE C;
COMMENT ON PROCEDURE backfill(regclass, integer) IS
'Creates the orders of all rows of a linked table that have a pending word and no order yet, in the order of their keys, in batches of batch_size with a commit each; says its progress as NOTICEs and keeps it in order_timeout.links, so that the next CALL goes on where one was interrupted. Overdue orders are left for the sweeper. A row that cannot be taken over is a WARNING and is left out. Called alone: 2D000 inside a transaction block or a function. Errors: 55000 not linked, or without amount_column and a currency; 22023, 22004. Locks: the rows of a batch.';

CREATE FUNCTION link_differences(table_name regclass)
RETURNS TABLE (order_id text, status text, state text, expires_at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    link order_timeout.links;
BEGIN
    IF table_name IS NULL THEN
        RAISE EXCEPTION 'table_name must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT l.* INTO link FROM order_timeout.links l WHERE to_regclass(l.table_name) = link_differences.table_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % is not linked', table_name
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Link it with order_timeout.link_table().';
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT $1 || r.%1$I::text, r.%2$I::text, o.state, o.expires_at '
        '  FROM %3$s r LEFT JOIN order_timeout.orders o ON o.order_id = ($1 || r.%1$I::text) COLLATE "C" '
        ' WHERE CASE WHEN o.order_id IS NULL THEN $2 -> ''pending'' ? r.%2$I::text '
        '            ELSE NOT coalesce($2 -> o.state ? r.%2$I::text, false) '
        '                 AND (r.%2$I IS NULL OR EXISTS (SELECT FROM jsonb_each($2) e WHERE e.value ? r.%2$I::text)) END',
        link.key_column, link.status_column, link.table_name)
        USING link.prefix, link.states;
END
$$;
COMMENT ON FUNCTION link_differences(regclass) IS
'The rows of a linked table that do not say what the engine says: with a word of another state than their order''s, or a pending word and no order (state null). What to look at in shadow mode; empty is agreement. Reads the whole table and its orders as the caller. Errors: 55000 not linked, 42P01, 22004. Locks: none.';
