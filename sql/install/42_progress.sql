-- How far long work is. What works in C reports it itself; here is what works in SQL, and what the view progress reads.

CREATE FUNCTION _progress(command text, phase integer, total bigint DEFAULT NULL) RETURNS boolean
AS 'MODULE_PATHNAME', 'ot_progress' LANGUAGE C;
COMMENT ON FUNCTION _progress(text, integer, bigint) IS
'The session begins a command (phase 1), comes to another phase of it, or ends it (phase 0). total: how many rows the phase has, null if that is not known. Answers true. Used by apply_statement, check_statement, load_statement and statement_totals.';

CREATE FUNCTION _progress_row(phase integer) RETURNS boolean
AS 'MODULE_PATHNAME', 'ot_progress_row' LANGUAGE C;
COMMENT ON FUNCTION _progress_row(integer) IS
'One more row is done, if this is the phase. Answers true. Used by apply_statement, check_statement, load_statement and statement_totals.';

CREATE FUNCTION _progress_rows()
RETURNS TABLE (pid integer, command text, phase text, step integer, steps integer, done bigint, total bigint, unit text, started_at timestamptz)
AS 'MODULE_PATHNAME', 'ot_progress_rows' LANGUAGE C;
COMMENT ON FUNCTION _progress_rows() IS
'A row for each session in this database that is at long work. Used by progress.';
