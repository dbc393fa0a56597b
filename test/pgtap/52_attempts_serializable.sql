-- The same at SERIALIZABLE, where the SQL store serves all tables and reads one snapshot: a single caller gets the same answers.
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE;
\ir 49_attempts.sql
