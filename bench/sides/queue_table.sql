-- pgmq's send, read and delete, with the signatures that the relay calls. A trigger on events is the application that sends.
CREATE SCHEMA queue_table;
CREATE TABLE queue_table.messages (
    id bigint PRIMARY KEY,
    vt timestamptz NOT NULL,
    read_count integer NOT NULL DEFAULT 0,
    message jsonb NOT NULL
);
CREATE INDEX ON queue_table.messages (vt);

CREATE FUNCTION queue_table.send() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO queue_table.messages (id, vt, message)
    SELECT e.id, clock_timestamp(), to_jsonb(e) FROM written e;
    RETURN NULL;
END $$;
CREATE TRIGGER send AFTER INSERT ON order_timeout.events REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION queue_table.send();

CREATE FUNCTION queue_table.read_events(consumer text, max_events integer, lease interval)
RETURNS TABLE (id bigint, aggregateid text, type text, payload jsonb, created_at timestamptz, lease_token text)
LANGUAGE sql AS $$
    WITH now AS MATERIALIZED (SELECT clock_timestamp() AS t), picked AS (
        SELECT m.id FROM queue_table.messages m WHERE m.vt <= clock_timestamp() ORDER BY m.id LIMIT max_events FOR UPDATE SKIP LOCKED
    ), hidden AS (
        UPDATE queue_table.messages m SET vt = now.t + lease, read_count = read_count + 1
          FROM picked, now WHERE m.id = picked.id RETURNING m.*
    )
    SELECT h.id, h.message->>'aggregateid', h.message->>'type', h.message->'payload', (h.message->>'created_at')::timestamptz, h.vt::text
      FROM hidden h ORDER BY h.id
$$;

CREATE FUNCTION queue_table.ack_events(consumer text, lease_token text, up_to bigint) RETURNS TABLE (outcome text)
LANGUAGE sql AS $$
    DELETE FROM queue_table.messages m WHERE m.vt = lease_token::timestamptz AND m.id <= up_to;
    SELECT 'acknowledged'
$$;
