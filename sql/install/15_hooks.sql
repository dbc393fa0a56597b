-- Functions of the user's that a policy names.

-- Names are kept qualified and quoted, so that no search_path chooses another function later.
CREATE FUNCTION policy_function(setting text, name text, arguments text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parts text[];
    named regprocedure;
    kind "char";
BEGIN
    IF name IS NULL THEN
        RETURN NULL;
    END IF;
    BEGIN
        parts := parse_ident(name);
    EXCEPTION WHEN invalid_parameter_value THEN
        parts := NULL;
    END;
    IF parts IS NULL OR cardinality(parts) <> 2 THEN
        RAISE EXCEPTION '% must be the name of a function with its schema: "%"', setting, name
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Write it as schema.function, without arguments.';
    END IF;
    name := format('%I.%I', parts[1], parts[2]);
    named := to_regprocedure(name || arguments);
    SELECT p.prokind INTO kind FROM pg_proc p WHERE p.oid = named AND NOT (p.proretset AND setting = 'send_refund');
    IF kind IS DISTINCT FROM 'f' THEN
        RAISE EXCEPTION '% names a function that does not exist: %', setting, name || arguments
            USING ERRCODE = 'undefined_function',
                  HINT = 'Create the function with exactly these arguments first; a procedure, an aggregate or (for send_refund) a set-returning function does not serve.';
    END IF;
    RETURN name;
END
$$;
COMMENT ON FUNCTION policy_function(text, text, text) IS
'The name of a function that a policy''s setting may name, qualified and quoted. Errors: 22023 not schema.function, 42883 no such function with these arguments. Used by a trigger of table policies.';

-- As the owner: an operator writes policies, and may not call what this calls.
CREATE FUNCTION policies_check_functions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hook CONSTANT text := '(text[])';
    send CONSTANT text := '(text,text,text,text,bigint,text,text,integer)';
BEGIN
    NEW.on_close := order_timeout.policy_function('on_close', NEW.on_close, hook);
    NEW.on_paid := order_timeout.policy_function('on_paid', NEW.on_paid, hook);
    NEW.on_reopen := order_timeout.policy_function('on_reopen', NEW.on_reopen, hook);
    NEW.send_refund := order_timeout.policy_function('send_refund', NEW.send_refund, send);
    IF NEW.send_refund IS NOT NULL AND NOT order_timeout.answers_result(to_regprocedure(NEW.send_refund || send)) THEN
        RAISE EXCEPTION 'send_refund must return text, or a row with a column "result": %', NEW.send_refund
            USING ERRCODE = 'datatype_mismatch',
                  HINT = 'The columns are result and, as it likes, gateway_refund_ref, error and refunded_amount.';
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION answers_result(function regprocedure) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.prorettype = 'text'::regtype
           OR EXISTS (SELECT FROM ROWS FROM (unnest(p.proargnames), unnest(p.proargmodes)) AS a (name, mode)
                       WHERE a.name = 'result' AND a.mode IN ('o', 'b', 't'))
           OR EXISTS (SELECT FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid
                       WHERE t.oid = p.prorettype AND a.attname = 'result' AND NOT a.attisdropped)
      FROM pg_proc p WHERE p.oid = function
$$;
COMMENT ON FUNCTION answers_result(regprocedure) IS
'Whether a function returns what send_refund may return: text, or a row with a column result. Used by a trigger of table policies.';

CREATE TRIGGER check_functions BEFORE INSERT OR UPDATE OF on_close, on_paid, on_reopen, send_refund ON policies
    FOR EACH ROW EXECUTE FUNCTION policies_check_functions();

-- Sessions keep what follows a change of state (hooks, links) and read it again when it changes, however it is changed.
CREATE FUNCTION following_changed() RETURNS trigger
AS 'MODULE_PATHNAME', 'ot_following_changed' LANGUAGE C;
CREATE TRIGGER following_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON policies
    FOR EACH STATEMENT EXECUTE FUNCTION following_changed();
ALTER TABLE policies ENABLE ALWAYS TRIGGER following_changed;

CREATE FUNCTION resolve_follow_up(follow_up_id bigint, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_resolve_follow_up' LANGUAGE C;
COMMENT ON FUNCTION resolve_follow_up(bigint) IS
'A person did by hand what was to follow a payment and failed (a hook, the row of a linked table): it is not tried again, and leaves the view attention. Outcomes: resolved, not_found (done meanwhile, or resolved before). Errors: 22004. Locks: the follow-up.';
