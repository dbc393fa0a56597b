-- Tables of the user's whose rows are orders.

CREATE TABLE links (
    table_name      text COLLATE "C" PRIMARY KEY,   -- these names are qualified and quoted, resolved at each use
    order_prefix    text COLLATE "C" NOT NULL,      -- an order_id is the prefix and the key
    key_column      text NOT NULL,
    key_type        text NOT NULL,
    status_column   text NOT NULL,
    status_type     text NOT NULL,
    statuses        jsonb NOT NULL,                 -- of each state its words: the first is written, all are read
    amount_column   text,
    amount_is_major boolean NOT NULL,               -- numeric of major units, else a whole number of minor ones
    currency_column text,
    currency        text,
    deadline_column text,
    policy_column   text,
    policy          text COLLATE "C" NOT NULL,
    time_columns    jsonb,                          -- of each state its column
    reason_column   text,
    track           boolean NOT NULL,
    on_contradiction text NOT NULL,
    linked_at       timestamptz NOT NULL,
    adopted_to      text,                           -- the last key of an adopt_orders that has not come to its end
    adopted         bigint NOT NULL DEFAULT 0,      -- orders that adopt_orders has created
    adopted_at      timestamptz,                    -- when it came to its end last
    CONSTRAINT links_on_contradiction CHECK (on_contradiction IN ('refuse', 'note'))
);
COMMENT ON TABLE links IS
'A table of yours whose rows are orders: its columns, the words of its status, and what its rows do. Written by link_table and unlink_table.';
SELECT pg_catalog.pg_extension_config_dump('links', '');
CREATE TRIGGER following_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON links
    FOR EACH STATEMENT EXECUTE FUNCTION _following_changed();
ALTER TABLE links ENABLE ALWAYS TRIGGER following_changed;

CREATE FUNCTION _linked() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION _linked() IS
'Does nothing. DROP EXTENSION stops at its trigger, so that a table is unlinked first. Used by link_table, which makes the trigger.';

CREATE FUNCTION _track() RETURNS trigger
AS 'MODULE_PATHNAME', 'ot_track_row' LANGUAGE C;
COMMENT ON FUNCTION _track() IS
'Creates and cancels orders as the rows of a tracked table say. Used by link_table, which makes the trigger.';

-- The type of a column that a link uses, qualified; null for no column.
CREATE FUNCTION _link_column(linked_table regclass, argument text, column_name text, types text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    col record;
BEGIN
    IF _link_column.column_name IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT format('%I.%I', n.nspname, t.typname) AS type, a.attgenerated, a.atttypmod,
           CASE WHEN b.typtype = 'e' THEN 'enum' WHEN bn.nspname = 'pg_catalog' THEN b.typname END AS kind
      INTO col
      FROM pg_attribute a
      JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace n ON n.oid = t.typnamespace
      JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' AND 'domain' = ANY (types) THEN t.typbasetype ELSE t.oid END
      JOIN pg_namespace bn ON bn.oid = b.typnamespace
     WHERE a.attrelid = linked_table AND a.attname = _link_column.column_name AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'column "%" of table % does not exist', _link_column.column_name, linked_table
            USING ERRCODE = 'undefined_column', DETAIL = format('It was given as %s.', argument);
    END IF;
    IF col.kind IS NULL OR NOT col.kind = ANY (types) THEN
        RAISE EXCEPTION 'column "%" of table % cannot serve as %', _link_column.column_name, linked_table, argument
            USING ERRCODE = 'datatype_mismatch', DETAIL = format('Its type is %s.', col.type),
                  HINT = format('These types can: %s.', array_to_string(types, ', '));
    END IF;
    IF col.attgenerated <> '' AND argument IN ('status_column', 'time_columns', 'reason_column') THEN
        RAISE EXCEPTION 'column "%" of table % cannot be written', _link_column.column_name, linked_table
            USING ERRCODE = 'generated_always', DETAIL = 'It is a generated column.', HINT = format('Give another %s.', argument);
    END IF;
    IF argument = 'key_column' AND col.kind = 'numeric' AND (col.atttypmod = -1 OR (col.atttypmod - 4) & 2047 <> 0) THEN
        RAISE EXCEPTION 'column "%" of table % cannot serve as key_column', _link_column.column_name, linked_table
            USING ERRCODE = 'datatype_mismatch', DETAIL = 'It may have decimals, so that one number has several forms.',
                  HINT = 'A numeric key needs a scale of 0, as in numeric(20).';
    END IF;
    RETURN col.type;
END
$$;
COMMENT ON FUNCTION _link_column(regclass, text, text, text[]) IS
'The type of a column that link_table was given, qualified. Errors: 42703 no such column, 42804 a type that cannot serve, 428C9 a generated column. Used by link_table.';

-- The words of each state as an array. Each must be one that the column can hold, as it is.
CREATE FUNCTION _link_statuses(linked_table regclass, status_column text, statuses jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    states CONSTANT text[] := '{pending,authorized,closing,paid,expired,cancelled}';
    open_states CONSTANT text[] := '{pending,authorized,closing}';
    state text;
    words jsonb;
    word text;
    stored text;
    answer jsonb := '{}';
    -- With its length: a word that is cut off is another one.
    type text := (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
                   WHERE a.attrelid = linked_table AND a.attname = _link_statuses.status_column);
BEGIN
    IF jsonb_typeof(_link_statuses.statuses) <> 'object' OR _link_statuses.statuses - states <> '{}'
       OR NOT _link_statuses.statuses ? 'pending' THEN
        RAISE EXCEPTION 'invalid statuses: %', left(_link_statuses.statuses::text, 200)
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'They must be an object of states, pending among them, each with a word or an array of words.',
                  HINT = 'For example {"pending": "new", "paid": ["paid", "shipped"], "expired": "closed", "cancelled": "closed"}.';
    END IF;
    FOR state, words IN SELECT * FROM jsonb_each(_link_statuses.statuses) LOOP
        words := CASE jsonb_typeof(words) WHEN 'array' THEN words ELSE jsonb_build_array(words) END;
        IF jsonb_array_length(words) = 0
           OR EXISTS (SELECT FROM jsonb_array_elements(words) w WHERE jsonb_typeof(w) NOT IN ('string', 'number')) THEN
            RAISE EXCEPTION 'state % needs a word, or an array of words', state USING ERRCODE = 'invalid_parameter_value';
        END IF;
        answer := answer || jsonb_build_object(state, (SELECT jsonb_agg(w) FROM jsonb_array_elements_text(words) w));
    END LOOP;
    FOR word IN SELECT DISTINCT jsonb_array_elements_text(e.value) FROM jsonb_each(answer) e LOOP
        BEGIN
            EXECUTE format('SELECT %L::%s::text', word, type) INTO stored;
        EXCEPTION WHEN data_exception OR check_violation THEN
            stored := NULL;
        END;
        IF stored IS DISTINCT FROM word THEN
            RAISE EXCEPTION 'column "%" of table % cannot hold the word "%"', _link_statuses.status_column, linked_table, word
                USING ERRCODE = 'invalid_parameter_value', DETAIL = format('Its type is %s.', type);
        END IF;
        IF (SELECT count(DISTINCT e.key = ANY (open_states)) FROM jsonb_each(answer) e WHERE e.value ? word) = 2 THEN
            RAISE EXCEPTION 'the word "%" cannot stand for an open and a settled state', word
                USING ERRCODE = 'invalid_parameter_value', DETAIL = 'Pending, authorized and closing are open.',
                      HINT = 'Give the open states words of their own.';
        END IF;
    END LOOP;
    RETURN answer;
END
$$;
COMMENT ON FUNCTION _link_statuses(regclass, text, jsonb) IS
'The statuses of link_table with their words as arrays. Errors: 22023 an unknown state, a word that the column cannot hold or that stands for an open and a settled state. Used by link_table.';

-- What must hold of the key, and of the triggers of the table.
CREATE FUNCTION _require_linkable(link links) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    linked_table CONSTANT regclass := link.table_name::regclass;
    written_names CONSTANT text[] := ARRAY[link.status_column, link.reason_column]
                                     || ARRAY(SELECT t.value FROM jsonb_each_text(link.time_columns) t);
    written CONSTANT smallint[] := ARRAY(SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = linked_table
                                            AND a.attname = ANY (written_names));
    is_partitioned boolean := (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = linked_table);
    key record;
    deferred text;
    other text;
BEGIN
    SELECT a.attnum, a.attnotnull, coalesce(c.collisdeterministic, true) AS is_deterministic INTO key
      FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation
     WHERE a.attrelid = linked_table AND a.attname = link.key_column;
    IF NOT key.attnotnull OR NOT key.is_deterministic OR NOT EXISTS (
            SELECT FROM pg_index i
             WHERE i.indrelid = linked_table AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
               AND i.indkey[0] = key.attnum AND (i.indnkeyatts = 1 OR is_partitioned)) THEN
        RAISE EXCEPTION 'column "%" of table % cannot serve as key_column', link.key_column, linked_table
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'A key must be NOT NULL, have a deterministic collation and a valid unique index that is neither partial nor deferrable.',
                  HINT = 'Give the table''s primary key.';
    END IF;
    IF link.key_column = ANY (written_names) THEN
        RAISE EXCEPTION 'key_column cannot be a column that is written' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Their errors would come at the commit, when the money is recorded and nobody knows any more which order they are about.
    SELECT t.tgname INTO deferred
      FROM pg_trigger t LEFT JOIN pg_constraint c ON c.oid = t.tgconstraint
     WHERE t.tgrelid IN (SELECT linked_table UNION ALL SELECT p.relid FROM pg_partition_tree(linked_table) p)
       AND t.tginitdeferred AND t.tgtype & 16 <> 0
       AND CASE WHEN t.tgisinternal THEN c.conkey && written AND c.conrelid = t.tgrelid
                                         OR c.confkey && written AND c.confrelid = t.tgrelid
                ELSE t.tgattr = '' OR t.tgattr::smallint[] && written END
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'trigger "%" of table % is initially deferred', deferred, linked_table
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'It would raise its errors at the commit, after money was recorded.',
                  HINT = 'Make it INITIALLY IMMEDIATE.';
    END IF;
    SELECT l.table_name INTO other FROM order_timeout.links l
     WHERE l.table_name <> link.table_name
       AND (starts_with(l.order_prefix, link.order_prefix) OR starts_with(link.order_prefix, l.order_prefix));
    IF FOUND THEN
        RAISE EXCEPTION 'invalid order_prefix: "%"', link.order_prefix
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('Table %s is linked with a prefix that begins like this one, or this one begins like it.', other),
                  HINT = 'Give each table a prefix that no other begins with.';
    END IF;
    IF octet_length(link.order_prefix) > 100 OR link.order_prefix ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'order_prefix must have at most 100 bytes and no control characters' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF link.currency_column IS NOT NULL AND link.currency IS NOT NULL THEN
        RAISE EXCEPTION 'give currency_column or currency, not both' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF link.currency !~ '^[A-Z]{3}$' THEN
        RAISE EXCEPTION 'invalid currency: "%"', left(link.currency, 100)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'It must be three capital letters.';
    END IF;
    IF link.track AND (link.amount_column IS NULL OR coalesce(link.currency_column, link.currency) IS NULL) THEN
        RAISE EXCEPTION 'track needs amount_column, and currency_column or currency'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'The rows create orders.';
    END IF;
    IF link.on_contradiction NOT IN ('refuse', 'note') THEN
        RAISE EXCEPTION 'invalid on_contradiction: "%"', left(link.on_contradiction, 100)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use one of: refuse, note.';
    END IF;
    IF NOT EXISTS (SELECT FROM order_timeout.policies p WHERE p.policy = link.policy) THEN
        RAISE EXCEPTION 'policy "%" does not exist', link.policy
            USING ERRCODE = 'OT008', HINT = 'Name a row of order_timeout.policies, or insert the policy there first.';
    END IF;
END
$$;
COMMENT ON FUNCTION _require_linkable(links) IS
'Raises an error if a table cannot be linked in this way. Errors: 22023, OT008 no such policy. Used by link_table.';

CREATE FUNCTION _require_links_seen() RETURNS void
AS 'MODULE_PATHNAME', 'ot_require_links_seen' LANGUAGE C;
COMMENT ON FUNCTION _require_links_seen() IS
'Raises 40001 if a link was made, changed or ended since the transaction''s snapshot. Used by link_table.';

CREATE FUNCTION _write_link(link links, linked_table regclass) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    whole CONSTANT text[] := '{int8,int4,int2}';
    words CONSTANT text[] := '{text,varchar}';
    known order_timeout.links;
BEGIN
    PERFORM order_timeout._require_owner('link a table');
    SELECT format('%I.%I', n.nspname, c.relname) INTO link.table_name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = linked_table AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('order_timeout', 'pg_catalog', 'information_schema') AND NOT c.relispartition;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% cannot be linked', linked_table
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Link an ordinary or a partitioned table of your own that is not temporary; of a partition, its parent.';
    END IF;
    link.key_type := order_timeout._link_column(linked_table, 'key_column', link.key_column, whole || words || '{uuid,numeric}');
    link.status_type := order_timeout._link_column(linked_table, 'status_column', link.status_column,
                                                  words || '{enum,domain,int4,int2}');
    link.statuses := order_timeout._link_statuses(linked_table, link.status_column, link.statuses);
    link.amount_is_major := coalesce(order_timeout._link_column(linked_table, 'amount_column', link.amount_column,
                                                               whole || '{numeric}') = 'pg_catalog."numeric"', false);
    PERFORM order_timeout._link_column(linked_table, 'currency_column', link.currency_column, words || '{bpchar,enum,domain}');
    PERFORM order_timeout._link_column(linked_table, 'deadline_column', link.deadline_column, '{timestamptz,timestamp}');
    PERFORM order_timeout._link_column(linked_table, 'policy_column', link.policy_column, words || '{enum,domain}');
    IF jsonb_typeof(link.time_columns) <> 'object' OR link.time_columns - '{paid,expired,cancelled}'::text[] <> '{}' THEN
        RAISE EXCEPTION 'invalid time_columns: %', left(link.time_columns::text, 200)
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'They must be an object of settled states, each with a column.',
                  HINT = 'For example {"paid": "paid_at", "expired": "closed_at", "cancelled": "closed_at"}.';
    END IF;
    PERFORM order_timeout._link_column(linked_table, 'time_columns', t.value, '{timestamptz,timestamp}')
       FROM jsonb_each_text(link.time_columns) t;
    PERFORM order_timeout._link_column(linked_table, 'reason_column', link.reason_column, words);
    LOCK TABLE order_timeout.links IN SHARE ROW EXCLUSIVE MODE;     -- two prefixes at the same moment
    PERFORM order_timeout._require_links_seen();
    PERFORM order_timeout._require_linkable(link);

    SELECT * INTO known FROM order_timeout.links l WHERE l.table_name = link.table_name;
    link.linked_at := coalesce(known.linked_at, clock_timestamp());
    link.adopted_to := known.adopted_to;
    link.adopted := coalesce(known.adopted, 0);
    link.adopted_at := known.adopted_at;
    IF known.table_name IS NOT NULL AND known IS DISTINCT FROM link THEN
        RAISE EXCEPTION 'table % is linked in another way', linked_table
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Unlink it first with order_timeout.unlink_table().';
    END IF;
    UPDATE order_timeout.set_aside s SET retry_at = clock_timestamp() WHERE starts_with(s.order_id, link.order_prefix);
    UPDATE order_timeout.follow_ups f SET retry_at = clock_timestamp()
     WHERE f.kind = 'link' AND starts_with(f.order_id, link.order_prefix);
    IF known.table_name IS NOT NULL THEN
        RETURN 'already_linked';
    END IF;
    INSERT INTO order_timeout.links SELECT link.*;
    EXECUTE format('CREATE TRIGGER order_timeout_linked AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION order_timeout._linked(%L)',
                   link.table_name, link.table_name);
    IF link.track THEN
        EXECUTE format('CREATE TRIGGER order_timeout_track AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION order_timeout._track(%L)',
                       link.table_name, link.table_name);
    END IF;
    RETURN 'linked';
END
$$;
COMMENT ON FUNCTION _write_link(links, regclass) IS
'What link_table does once the table is found. Used by link_table.';

-- The caller's search_path finds the table, and nothing else.
CREATE FUNCTION link_table(
    table_name text, key_column text, status_column text, statuses jsonb, order_prefix text DEFAULT '',
    amount_column text DEFAULT NULL, currency_column text DEFAULT NULL, currency text DEFAULT NULL,
    deadline_column text DEFAULT NULL, policy_column text DEFAULT NULL, policy text DEFAULT 'default',
    time_columns jsonb DEFAULT NULL, reason_column text DEFAULT NULL,
    track boolean DEFAULT false, on_contradiction text DEFAULT 'refuse', OUT outcome text)
LANGUAGE plpgsql AS $$
DECLARE
    link order_timeout.links;
    linked_table pg_catalog.regclass;
BEGIN
    IF pg_catalog.num_nulls(table_name, key_column, status_column, statuses) OPERATOR(pg_catalog.>) 0 THEN
        RAISE EXCEPTION 'table_name, key_column, status_column and statuses must not be null' USING ERRCODE = '22004';
    END IF;
    linked_table := pg_catalog.to_regclass(table_name);
    IF linked_table IS NULL THEN
        RAISE EXCEPTION 'table % does not exist', table_name
            USING ERRCODE = '42P01', HINT = 'Give its name with its schema, quoted as in a statement.';
    END IF;
    link.key_column := key_column;
    link.status_column := status_column;
    link.statuses := statuses;
    link.order_prefix := coalesce(order_prefix, '');
    link.amount_column := amount_column;
    link.currency_column := currency_column;
    link.currency := currency;
    link.deadline_column := deadline_column;
    link.policy_column := policy_column;
    link.policy := coalesce(policy, 'default');
    link.time_columns := time_columns;
    link.reason_column := reason_column;
    link.track := coalesce(track, false);
    link.on_contradiction := coalesce(on_contradiction, 'refuse');
    outcome := order_timeout._write_link(link, linked_table);
END
$$;
COMMENT ON FUNCTION link_table(text, text, text, jsonb, text, text, text, text, text, text, text, jsonb, text, boolean, text) IS
'Ties a table of yours to the engine: an order''s id is order_prefix followed by key_column, and every change of its state writes the state''s first word into status_column, in the same transaction, as the caller, if the row still has a word of the state that the order left. statuses: for each state its word, or an array of words, of which the first is written and all are read. time_columns: for each state the column that has its time; the others are null then. reason_column: written with it. track: a new row with a word of pending, or a row that gets one, creates the order with its amount (whole minor units, or numeric major units), currency, deadline (else the policy''s pay_within) and policy; a word of cancelled cancels it; another deadline of a pending or authorized order moves it; what contradicts the order is refused, or with on_contradiction note shown. Outcomes: linked, already_linked (what was set aside or kept for its orders is due at once). Errors: 42501 not the extension''s owner, 42P01 no such table, 42809 not an ordinary table, 42703 no such column, 42804 a type that cannot serve, 428C9 a generated column, 22023, 22004, OT008 no such policy, 55000 linked in another way. Locks: links, and the table while its trigger is made (SHARE ROW EXCLUSIVE).';

CREATE FUNCTION _drop_link(table_name text, linked_table regclass) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    link order_timeout.links;
    left_over record;
BEGIN
    PERFORM order_timeout._require_owner('unlink a table');
    -- adopt_orders has rows of the table when it writes the link: the table is locked before the link here, too.
    FOR left_over IN
        SELECT DISTINCT t.tgrelid::regclass AS of_table
          FROM order_timeout.links l JOIN pg_trigger t ON t.tgargs = convert_to(l.table_name, getdatabaseencoding()) || '\x00'::bytea
          JOIN pg_proc p ON p.oid = t.tgfoid
         WHERE (l.table_name = _drop_link.table_name OR to_regclass(l.table_name) = linked_table)
           AND p.pronamespace = 'order_timeout'::regnamespace AND p.proname IN ('_linked', '_track') AND t.tgparentid = 0
    LOOP
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', left_over.of_table);
    END LOOP;
    DELETE FROM order_timeout.links l WHERE l.table_name = _drop_link.table_name OR to_regclass(l.table_name) = linked_table
    RETURNING l.* INTO link;
    IF NOT FOUND THEN
        RETURN 'not_linked';
    END IF;
    DELETE FROM order_timeout.follow_ups f WHERE f.kind = 'link' AND starts_with(f.order_id, link.order_prefix);
    UPDATE order_timeout.set_aside s SET retry_at = clock_timestamp() WHERE starts_with(s.order_id, link.order_prefix);
    -- Of this table, whatever its name is by now: its triggers have the name that links had.
    FOR left_over IN
        SELECT t.tgname, t.tgrelid::regclass AS of_table
          FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
         WHERE p.pronamespace = 'order_timeout'::regnamespace AND p.proname IN ('_linked', '_track') AND t.tgparentid = 0
           AND t.tgargs = convert_to(link.table_name, getdatabaseencoding()) || '\x00'::bytea
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', left_over.tgname, left_over.of_table);
    END LOOP;
    RETURN 'unlinked';
END
$$;
COMMENT ON FUNCTION _drop_link(text, regclass) IS
'What unlink_table does once the table is found. Used by unlink_table.';

CREATE FUNCTION unlink_table(table_name text, OUT outcome text)
LANGUAGE plpgsql AS $$
BEGIN
    IF table_name IS NULL THEN
        RAISE EXCEPTION 'table_name must not be null' USING ERRCODE = '22004';
    END IF;
    outcome := order_timeout._drop_link(table_name, pg_catalog.to_regclass(table_name));
END
$$;
COMMENT ON FUNCTION unlink_table(text) IS
'Ends a link: the table is as it was before, and its rows and orders stay. Of a table that is gone, give the name as links shows it. Outcomes: unlinked, not_linked. Errors: 42501 not the extension''s owner, 22004. Locks: the table (ACCESS EXCLUSIVE) while its triggers are dropped.';

CREATE PROCEDURE adopt_orders(table_name text, batch_size integer DEFAULT 1000)
AS 'MODULE_PATHNAME', 'ot_adopt_orders_procedure' LANGUAGE C;
COMMENT ON PROCEDURE adopt_orders(text, integer) IS
'Creates orders for the rows of a linked table that have a word of pending and no order, overdue ones too, in batches of batch_size rows that are each committed; after an interruption it goes on where it was. A row that cannot be taken over is reported as a WARNING and left out. Errors: 55000 not linked, or linked without amount or currency; 2D000 inside a transaction block; 22023, 22004. Locks: the rows of a batch.';
