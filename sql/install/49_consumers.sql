-- Consumers: named readers of the events, each with a position of its own.
--
-- A position is a snapshot: read are the events whose transactions it sees. The next window are those that a newer
-- snapshot sees and it does not, so nothing is passed over that commits late, and no transaction that is still open
-- holds back another one's events. Within its window a consumer goes by id, batch by batch.
--
-- The functions that read tables are inlined into the statements that use them, so they need no rights of the caller: each
-- is STABLE, has one SELECT, and answers with rows.
--
-- No index finds events by their transaction: it would cost each event an entry. Marks bound the search instead. A mark
-- is a transaction and an id that was given out before any transaction from that one on began: those wrote ids above it.

CREATE TABLE consumer_positions (
    consumer        text COLLATE "C" PRIMARY KEY,
    types           text[],                     -- null: all
    notify          boolean NOT NULL,
    created_at      timestamptz NOT NULL,
    epoch           bigint NOT NULL,            -- of the database in which the snapshots were taken
    read_snapshot   pg_snapshot,                -- what it sees was acknowledged; null: nothing
    window_snapshot pg_snapshot,                -- the window's end; null: none is open
    window_from     bigint NOT NULL DEFAULT 0,  -- of the window, acknowledged up to this id
    window_to       bigint NOT NULL DEFAULT 0,  -- no event of the window has a higher id
    mark_xids       xid8[] NOT NULL DEFAULT '{}',
    mark_ids        bigint[] NOT NULL DEFAULT '{}',
    batch           bigint[] NOT NULL DEFAULT '{}', -- ids that were handed out with the token
    lease_token     text,                       -- stays when the lease ends, so that a repeat is recognised
    leased_until    timestamptz,
    acknowledged_to bigint                      -- what ended the lease
);
COMMENT ON TABLE consumer_positions IS
'A named reader of the events, and how far it has read. Written by create_consumer, drop_consumer, read_events and ack_events.';
SELECT pg_catalog.pg_extension_config_dump('consumer_positions', '');
CREATE TRIGGER following_changed AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF notify ON consumer_positions
    FOR EACH STATEMENT EXECUTE FUNCTION _following_changed();
ALTER TABLE consumer_positions ENABLE ALWAYS TRIGGER following_changed;

-- Not dumped and not replicated: where a position has another epoch, it came from another database, whose transactions
-- say nothing here. pg_upgrade and physical copies keep it, as they keep the transactions' numbers.
CREATE SEQUENCE event_epoch AS bigint;
SELECT pg_catalog.setval('event_epoch', 1 + (pg_catalog.random() * 1e15)::bigint);

CREATE FUNCTION _mark_of(xid xid8, mark_xids xid8[], mark_ids bigint[]) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(max(m.id), 0) FROM unnest(mark_xids, mark_ids) m(xid, id) WHERE m.xid <= _mark_of.xid;
END;
COMMENT ON FUNCTION _mark_of(xid8, xid8[], bigint[]) IS
'An id below all that the transaction, or any that began later, wrote. Used by read_events.';

CREATE FUNCTION _sees(seen pg_snapshot, xid xid8, writer xid) RETURNS boolean
AS 'MODULE_PATHNAME', 'ot_sees' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION _sees(pg_snapshot, xid8, xid) IS
'Whether a snapshot sees an event: by the transaction that it names, or for a restored one by its row''s writer. Used by read_events.';

-- No planner can know how many events lie between the bounds. If it thinks few, it reads all of them and sorts them, for each
-- batch. So the functions that call this have enable_sort off: they walk by id and stop when the batch is full. jit is off because
-- what cannot do without a sort looks expensive then.
--
-- One walk by id, from below all that the unseen transactions wrote. A second one for those that were open when seen was
-- taken would go through the whole window again in each batch.
CREATE FUNCTION _events_between(seen pg_snapshot, now_seen pg_snapshot, after_id bigint, up_to bigint,
    mark_xids xid8[], mark_ids bigint[], types text[], max_events integer) RETURNS SETOF events
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT e.*
      FROM events e
     WHERE e.id > greatest(after_id,
               (SELECT min(_mark_of(u.xid, mark_xids, mark_ids))
                  FROM (SELECT coalesce(pg_snapshot_xmax(seen), '0') UNION ALL
                        SELECT x FROM pg_snapshot_xip(seen) x WHERE pg_visible_in_snapshot(x, now_seen)) u(xid))) AND e.id <= up_to
       AND (seen IS NULL OR e.xid >= pg_snapshot_xmin(seen) AND NOT _sees(seen, e.xid, e.xmin))
       AND _sees(now_seen, e.xid, e.xmin)
       AND (types IS NULL OR e.type = ANY (types))
     ORDER BY e.id LIMIT max_events;
END;
COMMENT ON FUNCTION _events_between(pg_snapshot, pg_snapshot, bigint, bigint, xid8[], bigint[], text[], integer) IS
'The first events, by id, that one snapshot sees and an older one does not (null: sees none). Used by read_events.';

CREATE FUNCTION _unread_events(consumer text, of_all_types boolean, max_events integer) RETURNS SETOF events
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT w.*
      FROM (SELECT p.*, CASE WHEN NOT of_all_types THEN p.types END AS wanted, p.epoch = s.last_value AS is_ours
              FROM consumer_positions p, event_epoch s WHERE p.consumer = _unread_events.consumer) c,
           LATERAL (SELECT a.* FROM _events_between(c.read_snapshot, c.window_snapshot, c.window_from, c.window_to,
                                                    c.mark_xids, c.mark_ids, c.wanted, max_events) a
                     WHERE c.is_ours AND c.window_snapshot IS NOT NULL
                    UNION ALL
                    SELECT b.* FROM _events_between(CASE WHEN c.is_ours THEN coalesce(c.window_snapshot, c.read_snapshot) END,
                                                    pg_current_snapshot(),
                                                    CASE WHEN c.is_ours THEN 0
                                                         ELSE _mark_of(coalesce(pg_snapshot_xmin(c.read_snapshot), '0'), c.mark_xids, c.mark_ids) END,
                                                    9223372036854775807, c.mark_xids, c.mark_ids, c.wanted, max_events) b) w
     LIMIT max_events;
END;
COMMENT ON FUNCTION _unread_events(text, boolean, integer) IS
'What a consumer has not acknowledged, as of now. Used by read_events.';

-- The marks that are of use while a window is read and after it: for each transaction that its beginning or its end does
-- not see, the last one that was set before it.
CREATE FUNCTION _marks_for(seen pg_snapshot, now_seen pg_snapshot, mark_xids xid8[], mark_ids bigint[]) RETURNS TABLE (xid xid8, id bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT DISTINCT m.xid, m.id
      FROM unnest(mark_xids, mark_ids) m(xid, id)
     WHERE m.xid > pg_snapshot_xmax(now_seen)
        OR (m.xid, m.id) IN (SELECT DISTINCT ON (x.xid) k.xid, k.id
                               FROM unnest(ARRAY[seen, now_seen]) s,
                                    LATERAL (SELECT pg_snapshot_xmax(s) UNION ALL SELECT pg_snapshot_xip(s)) x(xid)
                               JOIN unnest(mark_xids, mark_ids) k(xid, id) ON k.xid <= x.xid
                              ORDER BY x.xid, k.id DESC, k.xid)
     ORDER BY m.xid, m.id;
END;
COMMENT ON FUNCTION _marks_for(pg_snapshot, pg_snapshot, xid8[], bigint[]) IS
'The marks that a position needs. Used by read_events.';

-- The caller's own transaction is still open, so what it writes comes after its commit.
CREATE FUNCTION _snapshot_without(own xid8) RETURNS pg_snapshot
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT (pg_snapshot_xmin(s)::text || ':' || pg_snapshot_xmax(s)::text || ':'
            || coalesce((SELECT string_agg(x::text, ',' ORDER BY x)
                           FROM (SELECT pg_snapshot_xip(s) UNION SELECT own WHERE own < pg_snapshot_xmax(s)) u(x)), ''))::pg_snapshot
      FROM pg_current_snapshot() s;
END;
COMMENT ON FUNCTION _snapshot_without(xid8) IS
'The current snapshot, in which the transaction own counts as open. Used by create_consumer and read_events.';

-- What the snapshot sees has no higher id than last_id, which the same one sees: the sequence of a logical replica says
-- nothing about its rows. A position of another database begins again below all that it had not read.
CREATE FUNCTION _next_window(consumer text, mark_id bigint, mark_xid xid8, own xid8)
RETURNS TABLE (epoch bigint, read_snapshot pg_snapshot, window_snapshot pg_snapshot, base bigint,
    mark_xids xid8[], mark_ids bigint[], last_id bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT e.epoch,
           CASE WHEN e.is_ours THEN coalesce(p.window_snapshot, p.read_snapshot) END,
           _snapshot_without(own),
           CASE WHEN e.is_ours THEN 0 ELSE e.base END,
           CASE WHEN e.is_ours THEN p.mark_xids ELSE ARRAY['0'::xid8] END || mark_xid,
           CASE WHEN e.is_ours THEN p.mark_ids ELSE ARRAY[e.base] END || mark_id,
           (SELECT coalesce(max(i.id), 0) FROM events i)
      FROM consumer_positions p,
           LATERAL (SELECT s.epoch, s.epoch = p.epoch AS is_ours,
                           _mark_of(coalesce(pg_snapshot_xmin(p.read_snapshot), '0'), p.mark_xids, p.mark_ids) AS base
                      FROM (SELECT (SELECT last_value FROM event_epoch) AS epoch) s) e
     WHERE p.consumer = _next_window.consumer;
END;
COMMENT ON FUNCTION _next_window(text, bigint, xid8, xid8) IS
'The position of a consumer after it has read its window, with the next one up to now. Used by read_events.';

CREATE FUNCTION create_consumer(consumer text, types text[] DEFAULT NULL, from_now boolean DEFAULT false,
    notify boolean DEFAULT false, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_create_consumer' LANGUAGE C;
COMMENT ON FUNCTION create_consumer(text, text[], boolean, boolean) IS
'Creates a named reader of the events: of these types, or of all (null); from the first event, or from now on. A WARNING says so if no function writes events of one of the types. notify: each transaction that writes an event sends NOTIFY order_timeout_events; such a transaction cannot be prepared. Outcomes: created, exists (a WARNING says so if its types or notify are others; nothing changes). Errors: 22023, 22004. Locks: the consumer.';

CREATE FUNCTION drop_consumer(consumer text, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_drop_consumer' LANGUAGE C;
COMMENT ON FUNCTION drop_consumer(text) IS
'Removes a consumer and its position; the events stay. Outcomes: dropped, not_found. Errors: 22023, 22004. Locks: the consumer.';

CREATE FUNCTION read_events(consumer text, max_events integer DEFAULT 100, lease interval DEFAULT '1 minute')
RETURNS TABLE (id bigint, aggregateid text, type text, payload jsonb, created_at timestamptz, lease_token text)
AS 'MODULE_PATHNAME', 'ot_read_events' LANGUAGE C SET enable_sort = off SET jit = off;
COMMENT ON FUNCTION read_events(text, integer, interval) IS
'Hands out the next events of a consumer, at most max_events, for the time of the lease (up to 365 days). No rows: there is nothing new, or the last batch is neither acknowledged nor its lease over. Commit, handle the events, then call ack_events with the lease_token. What is not acknowledged comes again: at least once, id is the key. Commits synchronously. Errors: 22023 no such consumer or a bad value, 22004. Locks: the consumer.';

CREATE FUNCTION ack_events(consumer text, lease_token text, up_to bigint DEFAULT NULL, OUT outcome text)
AS 'MODULE_PATHNAME', 'ot_ack_events' LANGUAGE C;
COMMENT ON FUNCTION ack_events(text, text, bigint) IS
'Acknowledges the events of a lease up to the one with id up_to and those handed out before it, or all (null), and ends the lease. Outcomes: acknowledged (also the repeat), stale (another lease came after it, or it was acknowledged up to another event; nothing changes). Errors: 22023 up_to is none of its events, or no such consumer; 22004. Locks: the consumer.';

CREATE FUNCTION _consumer_backlog(consumer text, looks_at integer DEFAULT NULL, OUT unread bigint, OUT oldest_unread timestamptz)
AS 'MODULE_PATHNAME', 'ot_consumer_backlog' LANGUAGE C STABLE SET enable_sort = off SET jit = off;
COMMENT ON FUNCTION _consumer_backlog(text, integer) IS
'How many events a consumer has not acknowledged, counted to 10000, and when the first of them was written. looks_at: only among so many events of any type; if none of these is for the consumer, when the last of them was written. Used by views consumers and metrics.';

-- Filled by the sweeper as a consumer without a name, which no caller can take: so a total is exact whenever
-- transactions commit, and writing an event costs nothing more.
CREATE TABLE event_totals (
    type     text COLLATE "C" NOT NULL,
    currency text COLLATE "C" NOT NULL,                   -- empty: an event without money
    events   bigint NOT NULL,
    amount   numeric NOT NULL,
    PRIMARY KEY (type, currency)
);
COMMENT ON TABLE event_totals IS
'How many events of a type there were since the first sweep, and the sum of their amounts. Written by sweep and sweep_once.';
SELECT pg_catalog.pg_extension_config_dump('event_totals', '');
