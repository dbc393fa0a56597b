-- pg_cron and rights. All of it runs as the caller: what pg_cron or GRANT refuses, stays refused.


-- pg_cron lives in one database. From another one its functions cannot be called, but a line can be named that does
-- the same there. Jobs differ by name and role only, so the name says which database they are for. Where its setting is
-- hidden from the caller, the row of its launcher still shows which database it is.
CREATE FUNCTION _require_pg_cron(line text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') THEN
        RETURN;
    ELSIF EXISTS (SELECT FROM pg_settings s WHERE s.name = 'cron.database_name' AND s.setting = current_database())
          OR EXISTS (SELECT FROM pg_stat_activity a
                      WHERE a.application_name = 'pg_cron scheduler' AND a.datname = current_database()) THEN
        RAISE EXCEPTION 'pg_cron is not installed in database "%"', current_database()
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'The server has loaded it for this database, and the extension was not created.',
                  HINT = 'CREATE EXTENSION pg_cron;';
    ELSE
        RAISE EXCEPTION 'pg_cron is not installed in database "%"', current_database()
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'It lives in one database, the one that cron.database_name names, and needs to be in shared_preload_libraries.',
                  HINT = 'Run in that database: ' || line;
    END IF;
END
$$;
COMMENT ON FUNCTION _require_pg_cron(text) IS
'Raises 55000 with a line to run, here or elsewhere, if pg_cron is not in this database. Used by schedule_sweeper, schedule_refunds and unschedule_sweeper.';

-- A pg_cron that is installed but not preloaded says so only when it is called, and with no SQLSTATE of its own.
CREATE FUNCTION _call_pg_cron(statement text, VARIADIC arguments text[]) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    answer bigint;
BEGIN
    EXECUTE statement INTO answer USING arguments;
    RETURN answer;
EXCEPTION WHEN internal_error OR object_not_in_prerequisite_state OR undefined_file THEN
    IF SQLERRM !~ 'shared_preload_libraries' THEN
        RAISE;
    END IF;
    RAISE EXCEPTION 'pg_cron is installed but not loaded'
        USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = SQLERRM,
              HINT = 'Add pg_cron to shared_preload_libraries, restart the server, then run here: SELECT * FROM order_timeout.schedule_sweeper(); or schedule_refunds.';
END
$$;
COMMENT ON FUNCTION _call_pg_cron(text, text[]) IS
'Runs a statement of pg_cron''s and answers its number; 55000 if pg_cron is not preloaded. Used by schedule_sweeper, schedule_refunds and unschedule_sweeper.';

-- pg_cron answers as if all were well even when its job can never run. What can be seen of that from here is said, and
-- what cannot be seen as this role is said too.
CREATE FUNCTION _warn_about_job(jobid bigint, routine text, look text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    workers CONSTANT text := 'Run as a superuser: ALTER SYSTEM SET cron.use_background_workers = on; then restart the server.';
    setting CONSTANT jsonb := (SELECT jsonb_object_agg(s.name, s.setting) FROM pg_settings s WHERE s.name LIKE 'cron.%');
    host CONSTANT text := setting ->> 'cron.host';
    by_socket CONSTANT boolean := host = '' OR host ~ '^[/@]';
    way_in text;
BEGIN
    IF NOT (SELECT r.rolcanlogin FROM pg_roles r WHERE r.rolname = current_user) THEN
        RAISE WARNING 'job % cannot run: role "%" may not log in', jobid, current_user
            USING HINT = format('ALTER ROLE %I LOGIN;', current_user);
    END IF;
    IF NOT has_function_privilege(routine, 'EXECUTE') THEN
        RAISE WARNING 'job % cannot run: role "%" may not call %', jobid, current_user, routine
            USING HINT = format('SELECT order_timeout.grant_access(%L, ''operator'');', current_user);
    END IF;
    -- Its name is shown to every role, its type is not.
    IF NOT EXISTS (SELECT FROM pg_stat_activity a
                    WHERE a.backend_type = 'pg_cron launcher' OR a.application_name = 'pg_cron scheduler') THEN
        RAISE WARNING 'job % cannot run: pg_cron''s launcher is not there', jobid
            USING HINT = 'Restart the server, if it did not start some seconds ago. If the launcher is still not there, the server''s log says why, for example that the database of cron.database_name does not exist.';
    END IF;
    IF setting ->> 'cron.launch_active_jobs' = 'off' THEN
        RAISE WARNING 'job % cannot run: cron.launch_active_jobs is off', jobid
            USING HINT = 'ALTER SYSTEM SET cron.launch_active_jobs = on; SELECT pg_reload_conf();';
    END IF;

    IF setting ->> 'cron.use_background_workers' = 'on' THEN
        RETURN;
    ELSIF host IS NULL THEN
        RAISE NOTICE 'role "%" cannot see whether pg_cron is able to start job %', current_user, jobid
            USING DETAIL = 'cron.use_background_workers, cron.host and pg_hba.conf are shown to superusers only.',
                  HINT = look || ' If it does not: ' || workers;
        RETURN;
    ELSIF NOT has_table_privilege('pg_hba_file_rules', 'SELECT') OR NOT has_function_privilege('pg_hba_file_rules()', 'EXECUTE')
          OR NOT by_socket AND host NOT IN ('localhost', '127.0.0.1', '::1') THEN
        RAISE NOTICE 'pg_cron starts job % by connecting to "%" as role "%"', jobid, host, current_user
            USING DETAIL = 'Whether that role is let in there without a password cannot be seen from here.',
                  HINT = look || ' If it does not: ' || workers;
        RETURN;
    END IF;
    -- The first line that speaks of such a connection decides.
    SELECT r.auth_method INTO way_in
      FROM pg_hba_file_rules() WITH ORDINALITY r
     WHERE r.error IS NULL AND r.database && ARRAY['all', current_database()::text] AND r.user_name && ARRAY['all', current_user::text]
       AND CASE WHEN by_socket THEN r.type = 'local'
                ELSE r.type IN ('host', 'hostnossl', 'hostssl')
                     AND r.address IN ('all', 'localhost', 'samehost', 'samenet', '127.0.0.1', '127.0.0.0', '::1', '0.0.0.0', '::') END
     ORDER BY r.ordinality LIMIT 1;
    IF way_in = 'trust' OR way_in = 'peer' AND current_user = (SELECT r.rolname FROM pg_roles r WHERE r.oid = 10) THEN
        RETURN;    -- peer: the server runs as the operating system user of that name, as a rule
    END IF;
    RAISE WARNING 'pg_cron starts job % by connecting to "%" as role "%", and pg_hba.conf %', jobid, host, current_user,
        coalesce('asks for ' || way_in, 'has no line for that')
        USING DETAIL = 'Whether the server finds a password in a file .pgpass cannot be seen from here.',
              HINT = workers || ' ' || look;
END
$$;
COMMENT ON FUNCTION _warn_about_job(bigint, text, text) IS
'Raises a WARNING for what keeps a job of pg_cron from running, and a NOTICE for what the caller''s role cannot see. Used by schedule_sweeper and schedule_refunds.';

CREATE FUNCTION _schedule_job(job_name text, schedule text, command text) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM order_timeout._require_pg_cron(format('SELECT cron.schedule_in_database(%L, %L, %L, %L);',
                                                  job_name || ' in ' || current_database(), schedule, command, current_database()));
    RETURN order_timeout._call_pg_cron('SELECT cron.schedule($1[1], $1[2], $1[3])', job_name, schedule, command);
END
$$;
COMMENT ON FUNCTION _schedule_job(text, text, text) IS
'Puts a command into pg_cron and answers the job''s number; 55000 with the line to run if pg_cron is not here. Used by schedule_sweeper and schedule_refunds.';

CREATE FUNCTION schedule_sweeper(
    OUT jobid bigint, INOUT schedule text DEFAULT NULL, IN job_name text DEFAULT 'order_timeout', OUT command text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    schedule := coalesce(schedule, '* * * * *');
    -- A lone CALL: pg_cron runs several statements as one transaction, in which it could not commit.
    command := 'CALL order_timeout.sweep()';
    jobid := order_timeout._schedule_job(coalesce(job_name, 'order_timeout'), schedule, command);
    PERFORM order_timeout._warn_about_job(jobid, 'order_timeout.sweep(interval, integer, interval)',
                                          'Look whether last_sweep moves within two minutes: SELECT last_sweep FROM order_timeout.health;');
END
$$;
COMMENT ON FUNCTION schedule_sweeper(text, text) IS
'Puts CALL order_timeout.sweep() into pg_cron under job_name, or changes its schedule; safe to repeat. schedule: pg_cron''s words, null for every minute (each run works through its minute, so closing does not wait for the tick). A WARNING says what keeps the job from running, a NOTICE what cannot be seen as this role; the HINT is what to do. Errors: 55000 with the line to run when pg_cron is elsewhere, not created or not loaded; pg_cron''s own for a bad schedule.';

CREATE FUNCTION unschedule_sweeper(job_name text DEFAULT 'order_timeout', OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_job bigint;
BEGIN
    job_name := coalesce(job_name, 'order_timeout');
    PERFORM order_timeout._require_pg_cron(format('SELECT cron.unschedule(%L);', job_name || ' in ' || current_database()));
    EXECUTE 'SELECT j.jobid FROM cron.job j WHERE j.jobname = $1 AND j.username = current_user' INTO found_job USING job_name;
    IF found_job IS NULL THEN
        outcome := 'not_scheduled';
        RETURN;
    END IF;
    PERFORM order_timeout._call_pg_cron('SELECT cron.unschedule($1[1]::bigint)::integer::bigint', found_job::text);
    outcome := 'unscheduled';
END
$$;
COMMENT ON FUNCTION unschedule_sweeper(text) IS
'Takes the caller''s job of that name out of pg_cron; safe to repeat. Outcomes: unscheduled, not_scheduled. Errors: 55000 with the line to run when pg_cron is elsewhere.';

CREATE FUNCTION schedule_refunds(
    OUT jobid bigint, INOUT schedule text DEFAULT NULL, IN job_name text DEFAULT 'order_timeout refunds', OUT command text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    schedule := coalesce(schedule, '* * * * *');
    -- A lone CALL: pg_cron runs several statements as one transaction, in which it could not commit.
    command := 'CALL order_timeout.send_refunds()';
    jobid := order_timeout._schedule_job(coalesce(job_name, 'order_timeout refunds'), schedule, command);
    PERFORM order_timeout._warn_about_job(jobid, 'order_timeout.send_refunds(interval)',
                                          'Look whether the job runs within two minutes: SELECT status, return_message FROM cron.job_run_details ORDER BY runid DESC LIMIT 1;');
END
$$;
COMMENT ON FUNCTION schedule_refunds(text, text) IS
'Puts CALL order_timeout.send_refunds() into pg_cron under job_name, or changes its schedule; safe to repeat. schedule: pg_cron''s words, null for every minute. Several jobs share the work. A WARNING says what keeps the job from running, a NOTICE what cannot be seen as this role; the HINT is what to do. Errors: 55000 with the line to run when pg_cron is elsewhere, not created or not loaded; pg_cron''s own for a bad schedule.';

CREATE FUNCTION unschedule_refunds(job_name text DEFAULT 'order_timeout refunds', OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    outcome := order_timeout.unschedule_sweeper(coalesce(job_name, 'order_timeout refunds'));
END
$$;
COMMENT ON FUNCTION unschedule_refunds(text) IS
'Takes the caller''s job of that name out of pg_cron; safe to repeat. Outcomes: unscheduled, not_scheduled. Errors: 55000 with the line to run when pg_cron is elsewhere.';

-- What each kind of access may call; one list for grant_access and revoke_access. The operator may do what all others may.
CREATE FUNCTION _access_grants(access text) RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    application CONSTANT text[] := '{create_order,record_payment,cancel_order,expire_order,extend_order,set_deadline,reopen_order,
        change_order,begin_attempt,end_attempt,authorize_attempt,request_refund,funds,history,minor_units}';
    worker CONSTANT text[] := '{claim_refunds,complete_refund,record_refund,claim_voids,complete_void,send_refunds,minor_units}';
    reader CONSTANT text[] := '{funds,funds_violations,history,timeline,_timeline_events,_timeline_money,_timeline_step,_amount,replay_orders,
        minor_units,_consumer_backlog,check_statement,statement_totals,
        _require_statement,_statement_matches,_may_be_known,_came_back,_missing_in_statements,
        _begin_matching,_progress,_progress_row,_progress_rows}';
    consumer CONSTANT text[] := '{read_events,ack_events}';
    names CONSTANT text[] := CASE access
        WHEN 'application' THEN application
        WHEN 'worker' THEN worker
        WHEN 'reader' THEN reader
        WHEN 'consumer' THEN consumer
        WHEN 'operator' THEN application || worker || reader || consumer || '{create_consumer,drop_consumer,retry_refund,settle_refund,reverse_refund,stop_refund,
            withdraw_refund,reverse_chargeback,retry_void,resolve_held,accept_payment,accept_short,refund_orphan,assign_orphan,
            resolve_conflict,resolve_link,adopt_orders,forget_order,sweep,sweep_once,schedule_sweeper,unschedule_sweeper,schedule_refunds,
            unschedule_refunds,statement_layout,load_statement,unload_statement,apply_statement,_apply_line,_bad_line,_warn_about_statement,_quotes_fit,
            _csv_records,
            _field,_first_field,_layout_columns,_require_loadable,_summary_totals,_require_pg_cron,_call_pg_cron,_schedule_job,_warn_about_job}' END;
BEGIN
    IF access IS NULL THEN
        RAISE EXCEPTION 'access must not be null'
            USING ERRCODE = '22004', HINT = 'Use one of: application, worker, consumer, operator, reader.';
    ELSIF names IS NULL THEN
        RAISE EXCEPTION 'invalid access: "%"', access
            USING ERRCODE = '22023', HINT = 'Use one of: application, worker, consumer, operator, reader.';
    END IF;
    RETURN NEXT 'USAGE ON SCHEMA order_timeout';
    RETURN QUERY SELECT format('EXECUTE ON ROUTINE %s', p.oid::regprocedure)
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'order_timeout' AND p.proname = ANY (names);
    IF access IN ('reader', 'operator') THEN
        RETURN QUERY SELECT format('SELECT ON order_timeout.%I', t)
            FROM unnest('{policies,orders,attempts,payments,refunds,events,conflicts,set_aside,set_aside_refunds,sweeps,hooks,links,follow_ups,
                statements,statement_lines,event_totals,health,attention,integrations,consumers,metrics,sizes,progress}'::text[]) AS t;
    END IF;
    IF access = 'operator' THEN
        RETURN QUERY SELECT format('INSERT, UPDATE, DELETE ON order_timeout.%I', t)
            FROM unnest('{policies,statements,statement_lines}'::text[]) AS t;
    END IF;
END
$$;
COMMENT ON FUNCTION _access_grants(text) IS
'The privileges of an access, as GRANT and REVOKE take them. Used by grant_access and revoke_access.';

-- GRANT takes "public" for all roles, and nothing here is for all roles.
CREATE FUNCTION _change_access(statement text, role_name text, access text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    privileges text[] := ARRAY(SELECT order_timeout._access_grants(access));
    privilege text;
BEGIN
    IF role_name IS NULL THEN
        RAISE EXCEPTION 'role_name must not be null' USING ERRCODE = '22004', HINT = 'Give a value for role_name.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role_name) THEN
        RAISE EXCEPTION 'role "%" does not exist', role_name
            USING ERRCODE = 'undefined_object', HINT = 'Give the name of a role, or create it first with CREATE ROLE.';
    END IF;
    FOREACH privilege IN ARRAY privileges LOOP
        EXECUTE format(statement, privilege, role_name);
    END LOOP;
END
$$;
COMMENT ON FUNCTION _change_access(text, text, text) IS
'Runs statement, a format for a privilege and a role, for each privilege of an access; 42704 if there is no such role. Used by grant_access and revoke_access.';

CREATE FUNCTION grant_access(role_name text, access text, OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM order_timeout._change_access('GRANT %s TO %I', role_name, access);
    outcome := 'granted';
END
$$;
COMMENT ON FUNCTION grant_access(text, text) IS
'Gives a role what it needs. access: application (orders, payments, asking for refunds), worker (claiming and completing refunds), consumer (reading and acknowledging events), operator (everything, policies too), reader (tables, views, proof). Safe to repeat. Outcome: granted. Errors: 22023 unknown access, 42704 no such role, 22004.';

CREATE FUNCTION revoke_access(role_name text, access text, OUT outcome text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM order_timeout._change_access('REVOKE %s FROM %I', role_name, access);
    outcome := 'revoked';
END
$$;
COMMENT ON FUNCTION revoke_access(text, text) IS
'Takes from a role what grant_access gave it for that access. What two kinds of access share goes too: grant the other one again. Safe to repeat. Outcome: revoked. Errors: 22023 unknown access, 42704 no such role, 22004.';
