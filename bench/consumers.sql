-- What bench/consumers loads, reads and prints.
\set ON_ERROR_STOP on
CREATE EXTENSION dblink;
CREATE TABLE batches (run text, n integer, ms float8, lag float8, events integer);

CREATE PROCEDURE write_events(events bigint, each integer)
LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. events / each LOOP
		INSERT INTO order_timeout.events (aggregateid, type, payload, created_at)
		SELECT (200000000000 + i * each + g)::text, 'order.paid', '{"state": "paid", "amount": 1999, "currency": "EUR", "paid": 1999}', clock_timestamp()
		FROM generate_series(1, each) g;
		COMMIT;
	END LOOP;
END $$;

-- Reads and acknowledges until there is nothing more, or for some seconds.
CREATE PROCEDURE read_events(run text, consumer text, batch integer, seconds float8 DEFAULT 0)
LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz := clock_timestamp();
	began timestamptz;
	n integer := 0;
	token text;
	answered integer;
	oldest timestamptz;
BEGIN
	LOOP
		began := clock_timestamp();
		SELECT count(*), max(r.lease_token), min(r.created_at) INTO answered, token, oldest
		FROM order_timeout.read_events(consumer, batch) r;
		COMMIT;
		IF answered > 0 THEN
			n := n + 1;
			INSERT INTO batches VALUES (run, n, extract(epoch FROM clock_timestamp() - began) * 1000,
				extract(epoch FROM clock_timestamp() - oldest) * 1000, answered);
			PERFORM order_timeout.ack_events(consumer, token);
			COMMIT;
		ELSE
			EXIT WHEN clock_timestamp() > start + seconds * interval '1 second';
			PERFORM pg_sleep(0.001);
		END IF;
	END LOOP;
END $$;

-- Another session's open transaction, with an event.
CREATE FUNCTION begin_other(order_id text) RETURNS void LANGUAGE sql AS $$
	SELECT dblink_connect('other', format('dbname=%s host=%s port=%s user=postgres', current_database(),
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')));
	SELECT dblink_exec('other', 'BEGIN');
	SELECT FROM dblink('other', format('SELECT order_timeout.create_order(%L, 100, ''EUR'')', order_id)) AS r(answer text);
$$;
CREATE FUNCTION commit_other() RETURNS void LANGUAGE sql AS $$
	SELECT dblink_exec('other', 'COMMIT');
	SELECT dblink_disconnect('other');
$$;

CREATE VIEW medians AS
SELECT run, count(*) AS batches, sum(events) AS events, round(min(ms) FILTER (WHERE n = 1)::numeric, 1) AS first,
	round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE n BETWEEN 2 AND 100))::numeric, 1) AS beginning,
	round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE abs(n - last / 2) < 50))::numeric, 1) AS middle,
	round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE n > last - 100))::numeric, 1) AS "end",
	round((percentile_cont(0.5) WITHIN GROUP (ORDER BY lag))::numeric, 1) AS lag
  FROM (SELECT *, max(n) OVER (PARTITION BY run) AS last FROM batches) b GROUP BY run;
